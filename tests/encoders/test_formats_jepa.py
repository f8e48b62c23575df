"""Released layouts of the joint-embedding and masked-modelling encoders: what loads, and what is turned down.

Names and shapes of tensors are those that the official code gives its state dict (golden_official/), at fewer blocks.
"""

import argparse
import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import radbench.jepa.vit  # noqa: F401  before a test replaces the class that it imports
from radbench.artifact import Absent
from radbench.encoder import find
from radbench.errors import WeightsError
from radbench.extract import Frozen
from radbench.weights import resolve
from tests.encoders.conftest import loaded

GOLDEN = Path(__file__).with_name("golden_official")


def official(name: str, depth: int, block: str = r"blocks\.(\d+)\.") -> dict:
    """Random tensors under the names and shapes of the official code, as far as block `depth`."""
    record = json.loads((GOLDEN / f"{name}.json").read_text())
    shapes = record["shapes"] | record.get("buffers", {})
    number = {key: re.search(rf"(?<!decoder_){block}", key) for key in shapes}
    return {key: torch.randn(shape) for key, shape in shapes.items() if not number[key] or int(number[key][1]) < depth}


@pytest.fixture
def shrink(monkeypatch):
    """Let the libraries build a network with some arguments replaced: shrink(module, "create_model", depth=2)."""

    def replace(module, function: str, **small) -> None:
        real = getattr(module, function)
        monkeypatch.setattr(module, function, lambda *args, **options: real(*args, **(options | small)))

    return replace


def training_checkpoint(vit: dict) -> dict:
    """What I-JEPA's train.py saves: two encoders under DDP's prefix, predictor, optimizer, and numbers."""
    context = {f"module.{name}": value for name, value in vit.items()}
    return {
        "encoder": context, "predictor": {"module.mask_token": torch.zeros(1, 1, 8)},
        "target_encoder": {name: value + 1 for name, value in context.items()},
        "opt": {"state": {0: {"step": 3, "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 1e-3, "params": [0], "betas": (0.9, 0.999)}]},
        "scaler": {"scale": 65536.0, "_growth_tracker": 7}, "epoch": 300, "loss": 0.1, "batch_size": 128, "world_size": 16, "lr": 1e-6,
    }  # fmt: skip


# ---------------------------------------------------------------- I-JEPA


SMALL = {"embed_dim": 96, "num_heads": 3, "depth": 2}


def ijepa_model(size: int, patch: int):
    from transformers import IJepaConfig, IJepaModel

    return IJepaModel(IJepaConfig(hidden_size=96, intermediate_size=384, num_hidden_layers=2, num_attention_heads=3, image_size=size,
                                  patch_size=patch, layer_norm_eps=1e-6))  # fmt: skip


@pytest.mark.parametrize("name, repository, size, patch", [("ijepa_vith14_224", "ijepa_vith14_1k", 224, 14),
                                                           ("ijepa_vith16_448", "ijepa_vith16_1k", 448, 16)])  # fmt: skip
def test_ijepa_loads_the_hub_release(hub, shrink, name, repository, size, patch):
    """A file with the released names of an IJepaModel is loaded through the hub cache, every tensor of it."""
    import timm

    shrink(timm, "create_model", **SMALL)
    path = hub(f"facebook/{repository}", lambda folder: ijepa_model(size, patch).save_pretrained(folder))
    file = load_file(path / "model.safetensors")
    assert {"encoder.layer.1.attention.attention.query.weight", "encoder.layer.1.attention.output.dense.bias", "layernorm.weight",
            "encoder.layer.1.intermediate.dense.weight", "embeddings.patch_embeddings.projection.bias"} <= set(file)  # fmt: skip
    state = loaded(name, path).vit.state_dict()
    assert sum(value.numel() for value in state.values()) == sum(value.numel() for value in file.values())
    block = "encoder.layer.1.attention.attention"
    joint = torch.cat([file[f"{block}.{part}.weight"] for part in ("query", "key", "value")])
    assert torch.equal(state["blocks.1.attn.qkv.weight"], joint)
    assert torch.equal(state["pos_embed"], file["embeddings.position_embeddings"])
    assert torch.equal(state["blocks.1.mlp.fc2.bias"], file["encoder.layer.1.output.dense.bias"])


def test_ijepa_target_encoder_is_not_in_the_hub_release(hub, shrink):
    """Asking the hub's file for the target encoder is an error that names what the file holds and what to do."""
    import timm

    shrink(timm, "create_model", **SMALL)
    path = hub("facebook/ijepa_vith16_1k", lambda folder: ijepa_model(448, 16).save_pretrained(folder))
    with pytest.raises(WeightsError, match=r"holds the context encoder only; got weights_of: target.*\.pth\.tar"):
        loaded("ijepa_vith16_448", path, weights_of="target")


@pytest.mark.parametrize("name", ["ijepa_vith14_224", "ijepa_vith16_448"])
def test_ijepa_loads_either_encoder_of_the_training_checkpoint(tmp_path, shrink, name):
    """Meta's .pth.tar, given as a path, holds both encoders: the option chooses between them."""
    import timm

    shrink(timm, "create_model", **SMALL)
    vit = timm.create_model(find(name).network, num_classes=0).state_dict()
    path = tmp_path / "IN1K-vit.pth.tar"
    torch.save(training_checkpoint(vit), path)
    context, target = (loaded(name, path, weights_of=which).vit.state_dict() for which in ("context", "target"))
    assert all(torch.equal(context[key], value) and torch.equal(target[key], value + 1) for key, value in vit.items())
    assert all(torch.equal(value, context[key]) for key, value in loaded(name, path).vit.state_dict().items())


def test_ijepa_turns_down_other_files(tmp_path, shrink):
    """A checkpoint without the part asked for, one of the other patch size, and bare tensors are named as such."""
    import timm

    shrink(timm, "create_model", **SMALL)
    vit = timm.create_model("vit_huge_patch16_gap_448", num_classes=0).state_dict()
    path = tmp_path / "jepa.pth.tar"
    whole = training_checkpoint(vit)
    torch.save(whole, path)
    with pytest.raises(WeightsError, match=r"same architecture in another size; got pos_embed is \(1, 784, 96\) and not \(1, 256, 96\)"):
        loaded("ijepa_vith14_224", path)
    torch.save({key: value for key, value in whole.items() if key != "target_encoder"}, path)
    with pytest.raises(WeightsError, match="has no part 'target_encoder'"):
        loaded("ijepa_vith16_448", path, weights_of="target")
    torch.save(vit, path)
    with pytest.raises(WeightsError, match="has no part 'encoder'"):
        loaded("ijepa_vith16_448", path)


def test_texjepa_loads_its_target_encoder_from_a_nested_file(hub, shrink):
    """TexJEPA's checkpoint lies in a folder of its repository; its own evaluation takes the target encoder, and so do we."""
    import timm

    shrink(timm, "create_model", **SMALL)
    vit = timm.create_model("vit_huge_patch14_gap_224", num_classes=0).state_dict()

    def write(folder: Path) -> None:
        (folder / "weights" / "I-JEPA-300").mkdir(parents=True)
        torch.save(training_checkpoint(vit), folder / "weights" / "I-JEPA-300" / "jepa-latest.pth.tar")

    path = hub("YiZhaoJasper/TexJEPA", write)
    default, context = loaded("texjepa_300", path), loaded("texjepa_300", path, weights_of="context")
    assert torch.equal(default.vit.norm.bias, vit["norm.bias"] + 1) and torch.equal(context.vit.norm.bias, vit["norm.bias"])


# ---------------------------------------------------------------- RadJEPA


@pytest.fixture
def radjepa_vit(shrink) -> dict:
    """The tensors of RadJEPA's encoder, two blocks deep; the wrapper builds as many."""
    from timm.models import vision_transformer

    shrink(vision_transformer, "VisionTransformer", depth=2)
    vit = vision_transformer.VisionTransformer(img_size=224, patch_size=14, class_token=False, global_pool="", num_classes=0)
    return vit.state_dict()


@pytest.mark.parametrize("prefix", ["", "module.", "encoder.", "module.encoder."])
def test_radjepa_released_loads(hub, radjepa_vit, prefix):
    """jepa_encoder.pth.tar holds timm's names under "encoder", with or without the prefixes of wrappers."""
    content = {"encoder": {prefix + name: value for name, value in radjepa_vit.items()}, "epoch": 100, "args": argparse.Namespace(lr=1e-3)}
    path = hub("AIDElab-IITBombay/RadJEPA", lambda folder: torch.save(content, folder / "jepa_encoder.pth.tar"))
    state = loaded("radjepa_released", path).vit.state_dict()
    assert state.keys() == radjepa_vit.keys() and all(torch.equal(state[name], value) for name, value in radjepa_vit.items())


def test_radjepa_released_class_slot_is_not_from_the_file(tmp_path, radjepa_vit):
    """The slot is near zero, has no position, and is the same at every load; the rest is the file's."""
    torch.save({"encoder": radjepa_vit}, tmp_path / "jepa_encoder.pth.tar")
    torch.manual_seed(1)
    one = loaded("radjepa_released", tmp_path, pooling="cls_slot").vit
    torch.manual_seed(2)
    two = loaded("radjepa_released", tmp_path, pooling="cls_slot").vit
    assert torch.equal(one.cls_token, two.cls_token) and 0 < one.cls_token.abs().max() < 1e-5
    assert not one.pos_embed[:, 0].any() and torch.equal(one.pos_embed[:, 1:], radjepa_vit["pos_embed"])
    assert torch.equal(one.blocks[1].mlp.fc1.weight, radjepa_vit["blocks.1.mlp.fc1.weight"])


def test_radjepa_released_interpolates_its_positions(tmp_path, radjepa_vit):
    """At 518 pixels the table has 37 x 37 rows, bicubic between the file's 16 x 16, and other tensors stay as they are."""
    torch.save({"encoder": radjepa_vit}, tmp_path / "jepa_encoder.pth.tar")
    state = loaded("radjepa_released", tmp_path, image_size=518).vit.state_dict()
    square = radjepa_vit["pos_embed"].reshape(1, 16, 16, 768).permute(0, 3, 1, 2)
    wanted = torch.nn.functional.interpolate(square, size=(37, 37), mode="bicubic", align_corners=False)
    torch.testing.assert_close(state["pos_embed"], wanted.permute(0, 2, 3, 1).reshape(1, 1369, 768))
    assert torch.equal(state["norm.weight"], radjepa_vit["norm.weight"])


def test_radjepa_released_turns_down_another_table(tmp_path, radjepa_vit):
    """A checkpoint with a class token, or one of another patch size, is turned down at any input size."""
    for rows in (257, 196):
        state = radjepa_vit | {"pos_embed": torch.zeros(1, rows, 768)}
        torch.save({"encoder": state}, tmp_path / "jepa_encoder.pth.tar")
        for size in (224, 518):
            with pytest.raises(WeightsError, match=rf"pos_embed is \(1, {rows}, 768\)"):
                loaded("radjepa_released", tmp_path, image_size=size)
    torch.save({"state_dict": radjepa_vit}, tmp_path / "jepa_encoder.pth.tar")
    with pytest.raises(WeightsError, match="has no part 'encoder'"):
        loaded("radjepa_released", tmp_path)


# ---------------------------------------------------------------- MRM


@pytest.fixture
def mrm_checkpoint(shrink) -> dict:
    """What MRM's pretraining saves, two encoder blocks deep: model with decoders, optimizer, scaler, arguments."""
    import timm

    shrink(timm, "create_model", depth=2)
    report = {
        "bert_encoder.model.embeddings.word_embeddings.weight": torch.zeros(3, 4),
        "bert_encoder.model.cls.predictions.bias": torch.zeros(3),
    }
    return {"model": official("mrm", 2) | report, "optimizer": {"state": {}, "param_groups": [{"lr": 1e-4, "params": []}]}, "epoch": 199,
            "scaler": {"scale": 2.0**16}, "args": argparse.Namespace(mask_ratio=0.75, norm_pix_loss=True)}  # fmt: skip


def test_mrm_keeps_the_encoder(tmp_path, monkeypatch, mrm_checkpoint):
    """MRM.pth is found below $RADBENCH_WEIGHTS; its encoder is loaded with the final norm, its two decoders are left."""
    monkeypatch.setenv("RADBENCH_WEIGHTS", str(tmp_path))
    torch.save(mrm_checkpoint, tmp_path / "MRM.pth")
    encoder = loaded("mrm", resolve("mrm", find("mrm").card))
    wanted = {name: value for name, value in mrm_checkpoint["model"].items() if not re.match("decoder_|mask_token|bert_", name)}
    state = encoder.vit.state_dict()
    assert state.keys() == wanted.keys() and all(torch.equal(state[name], value) for name, value in wanted.items())
    assert {"norm.weight", "norm.bias", "pos_embed"} <= wanted.keys() and len(wanted) < len(mrm_checkpoint["model"]) - 10


def test_mrm_options_change_what_they_say(tmp_path, mrm_checkpoint):
    """`norm: before` leaves no final norm; at 448 pixels the class position stays and 28 x 28 are interpolated."""
    torch.save(mrm_checkpoint, tmp_path / "MRM.pth")
    assert not list(loaded("mrm", tmp_path / "MRM.pth", norm="before").vit.norm.parameters())
    table, large = mrm_checkpoint["model"]["pos_embed"], loaded("mrm", tmp_path / "MRM.pth", image_size=448).vit.pos_embed
    square = table[:, 1:].reshape(1, 14, 14, 768).permute(0, 3, 1, 2)  # as the release's segmentation code resizes it
    patches = torch.nn.functional.interpolate(square, size=(28, 28), mode="bicubic", align_corners=False)
    torch.testing.assert_close(large, torch.cat([table[:, :1], patches.permute(0, 2, 3, 1).flatten(1, 2)], dim=1))


def test_mrm_turns_down_other_checkpoints(tmp_path, mrm_checkpoint):
    """A fine-tuned MRM (fc_norm and head for norm), a bare state dict and a missing tensor are named."""
    model, path = mrm_checkpoint["model"], tmp_path / "MRM.pth"
    tuned = {("fc_" if name.startswith("norm.") else "") + name: value for name, value in model.items()} | {"head.bias": torch.zeros(14)}
    torch.save({"model": tuned}, path)
    with pytest.raises(WeightsError, match="missing norm.weight; missing norm.bias; unexpected fc_norm.weight; unexpected fc_norm.bias"):
        loaded("mrm", path)
    torch.save(model, path)
    with pytest.raises(WeightsError, match="has no part 'model'"):
        loaded("mrm", path)


# ---------------------------------------------------------------- RAD-DINO's relatives


def dinov2_folder(folder: Path) -> dict:
    """RAD-DINO's layout, one block deep."""
    from transformers import Dinov2Config, Dinov2Model

    vit = Dinov2Model(Dinov2Config(image_size=518, patch_size=14, num_hidden_layers=1))
    vit.save_pretrained(folder)
    return vit.state_dict()


def test_rad_dino_control_is_absent_and_takes_own_weights(tmp_path, monkeypatch):
    """Without weights the gap says that none were released and what can be run instead; with a folder of one's own it loads."""
    monkeypatch.setenv("RADBENCH_WEIGHTS", str(tmp_path))
    card = find("rad_dino_control").card
    with pytest.raises(Absent, match=r"never released.*radjepa_control.*texjepa_300"):
        resolve("rad_dino_control", card)
    vit = dinov2_folder(tmp_path / "rad_dino_control")
    state = loaded("rad_dino_control", resolve("rad_dino_control", card)).vit.state_dict()
    assert state.keys() == vit.keys() and all(torch.equal(state[name], value) for name, value in vit.items())


PROCESSOR = {"size": {"shortest_edge": 518}, "crop_size": {"height": 518, "width": 518}, "resample": 3, "image_mean": [0.5, 0.25, 0.125],
             "image_std": [0.25, 0.5, 0.125], "do_convert_rgb": True}  # fmt: skip


def test_maira2_reads_its_own_statistics(hub, monkeypatch):
    """Mean and SD come from preprocessor_config.json beside the weights, and a grey image is normalised by them."""
    import numpy as np

    def write(folder: Path) -> None:
        dinov2_folder(folder)
        (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))

    path = hub("microsoft/rad-dino-maira-2", write)
    encoder = loaded("rad_dino_maira2", path)
    assert (encoder.card.mean, encoder.card.std) == ((0.5, 0.25, 0.125), (0.25, 0.5, 0.125))
    monkeypatch.setattr("radbench.extract.measure", lambda *of: {})
    said = Frozen("rad_dino_maira2", {"weights": str(path)}, path).facts(encoder)["card"]  # what the sidecar of the features says
    assert (said["mean"], said["std"]) == (encoder.card.mean, encoder.card.std)
    grey = encoder.preprocess(np.full((600, 700), 0.75, dtype=np.float32))
    np.testing.assert_allclose(grey[:, 0, 0], [1.0, 1.0, 5.0], rtol=1e-6)


@pytest.mark.parametrize("text, message", [
    (None, "preprocessor_config.json: cannot be read"), ("{", "does not say how images are prepared"),
    (json.dumps(PROCESSOR | {"image_mean": None}), "does not say how images are prepared"),
    (json.dumps(PROCESSOR | {"crop_size": {"height": 224, "width": 224}}), r"prepares another input .* got \(518, 224, 224, 3\)"),
    (json.dumps(PROCESSOR | {"resample": 2}), r"prepares another input .* got \(518, 518, 518, 2\)"),
])  # fmt: skip
def test_maira2_guesses_nothing(tmp_path, text, message):
    """Weights without the file, or with one that says something else, are turned down before the network is built."""
    if text is not None:
        (tmp_path / "preprocessor_config.json").write_text(text)
    for path in (tmp_path, tmp_path / "model.safetensors"):
        with pytest.raises(WeightsError, match=message):
            find("rad_dino_maira2")(path)


# ---------------------------------------------------------------- DINOv3


def test_dinov3_loads_the_release(hub, shrink, tmp_path):
    """model.safetensors with the released names (layer.N, not model.layer.N) is loaded through the hub cache, two blocks deep."""
    import transformers

    shrink(transformers, "DINOv3ViTConfig", num_hidden_layers=2)
    vit = transformers.DINOv3ViTModel(transformers.DINOv3ViTConfig(hidden_size=768, intermediate_size=3072, num_attention_heads=12,
                                                                   num_register_tokens=4))  # fmt: skip
    path = hub("facebook/dinov3-vitb16-pretrain-lvd1689m", lambda folder: vit.save_pretrained(folder))
    file = load_file(path / "model.safetensors")
    assert {"layer.1.attention.q_proj.bias", "layer.1.layer_scale1.lambda1", "embeddings.register_tokens", "norm.weight"} <= file.keys()
    state = loaded("dinov3_vitb16", path).vit.state_dict()
    assert all(torch.equal(state[name], value) for name, value in vit.state_dict().items())
    save_file({name: value for name, value in file.items() if "register" not in name}, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match="missing embeddings.register_tokens"):
        loaded("dinov3_vitb16", tmp_path)


# ---------------------------------------------------------------- EVA-X


@pytest.mark.parametrize("container", [None, "module", "model"])
def test_eva_x_loads_half_precision_pretraining(hub, shrink, container):
    """The pretraining checkpoint, in half precision and in any of its containers, loads in float32 under timm's names."""
    from timm.models import eva

    shrink(eva, "Eva", depth=2)
    state = {name: value.half() for name, value in official("eva_x_base", 2).items()}
    extra = {"mask_token": torch.zeros(1, 1, 768), "lm_head.weight": torch.zeros(512, 768), "lm_head.bias": torch.zeros(512)}
    content = state | extra if container is None else {container: state | extra}
    path = hub("MapleF/eva_x", lambda folder: torch.save(content, folder / "eva_x_base_patch16_merged520k_mim.pt"))
    vit = loaded("eva_x_base", path).vit
    block = "blocks.1."
    pairs = {"attn.v_proj.bias": "attn.v_bias", "mlp.fc1_g.weight": "mlp.w1.weight", "mlp.fc1_x.bias": "mlp.w2.bias",
             "mlp.fc2.weight": "mlp.w3.weight", "mlp.norm.bias": "mlp.ffn_ln.bias", "attn.q_proj.weight": "attn.q_proj.weight"}  # fmt: skip
    pairs = {block + ours: block + theirs for ours, theirs in pairs.items()} | {"fc_norm.weight": "norm.weight"}
    assert all(torch.equal(vit.state_dict()[ours], state[theirs].float()) for ours, theirs in pairs.items())
    assert {value.dtype for value in vit.parameters()} == {torch.float32}


def test_eva_x_turns_down_an_eva_with_another_attention(tmp_path, shrink):
    """EVA-02's CLIP towers have a norm inside the attention, the small EVA-X one joint matrix: both are named as unexpected."""
    from timm.models import eva

    shrink(eva, "Eva", depth=2)
    state, path = official("eva_x_base", 2), tmp_path / "eva.pt"
    torch.save(state | {"blocks.0.attn.inner_attn_ln.weight": torch.ones(768)}, path)
    with pytest.raises(WeightsError, match="unexpected blocks.0.attn.inner_attn_ln.weight"):
        loaded("eva_x_base", path)
    torch.save({"optimizer": state}, path)
    with pytest.raises(WeightsError, match="not the weights of this network"):
        loaded("eva_x_base", path)


# ---------------------------------------------------------------- CheXFound


@pytest.fixture
def chexfound_checkpoint(shrink) -> dict:
    """The teacher as DINOv2's training saves it for evaluation: chunked backbone and two heads, two blocks deep."""
    from timm.models import vision_transformer

    shrink(vision_transformer, "VisionTransformer", depth=2)
    backbone = official("chexfound", 2, block=r"blocks\.\d+\.(\d+)\.")
    heads = {f"{head}.{name}": torch.zeros(2) for head in ("dino_head", "ibot_head") for name in ("mlp.0.weight", "last_layer.weight_g")}
    return {"teacher": backbone | heads}


def test_chexfound_loads_the_teacher(tmp_path, monkeypatch, chexfound_checkpoint):
    """The chunk index goes, both halves of the gate and the registers are kept, the class position joins the class token."""
    monkeypatch.setenv("RADBENCH_WEIGHTS", str(tmp_path))
    (tmp_path / "chexfound").mkdir()
    torch.save(chexfound_checkpoint, tmp_path / "chexfound" / "teacher_checkpoint.pth")
    state, file = loaded("chexfound", resolve("chexfound", find("chexfound").card)).vit.state_dict(), chexfound_checkpoint["teacher"]
    assert torch.equal(state["blocks.1.mlp.fc1.weight"], file["backbone.blocks.0.1.mlp.w12.weight"])
    assert torch.equal(state["blocks.1.ls2.gamma"], file["backbone.blocks.0.1.ls2.gamma"])
    assert torch.equal(state["reg_token"], file["backbone.register_tokens"])
    assert torch.equal(state["cls_token"], file["backbone.cls_token"] + file["backbone.pos_embed"][:, :1])
    assert torch.equal(state["pos_embed"], file["backbone.pos_embed"][:, 1:])


def test_chexfound_turns_down_other_checkpoints(tmp_path, chexfound_checkpoint):
    """A training checkpoint (`model` with student and teacher), and the one of another resolution, are named."""
    path, teacher = tmp_path / "teacher_checkpoint.pth", chexfound_checkpoint["teacher"]
    torch.save({"model": {f"teacher.{name}": value for name, value in teacher.items()}}, path)
    with pytest.raises(WeightsError, match="has no part 'teacher'"):
        loaded("chexfound", path)
    torch.save({"teacher": teacher | {"backbone.pos_embed": torch.zeros(1, 785, 1024)}}, path)
    with pytest.raises(WeightsError, match=r"another size; got pos_embed is \(1, 784, 1024\) and not \(1, 1024, 1024\)"):
        loaded("chexfound", path)
