"""Weights in the form in which CLIP's relatives, the classifiers and the generic models are distributed: what loads, what does not."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from radbench import weights
from radbench.artifact import Absent
from radbench.encoder import describe, find, parse
from radbench.errors import ConfigError, WeightsError
from radbench.subject import Subject
from tests.encoders.conftest import left_by, loaded, pixels, same_levels
from tests.encoders.golden_official.make import HERE, fill

CLOSE = {"rtol": 0, "atol": 1e-4}  # float32 sums in another order, features of order 1


def same(one: dict, two: dict) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def official(name: str, prefix: str = "", **extra: tuple) -> dict:
    """A state dict with the keys and shapes that the release's own class has, as its record in golden_official/ lists them."""
    record = json.loads((HERE / f"{name}.json").read_text())
    buffers = {key: torch.zeros(shape) for key, shape in record.get("buffers", {}).items()}
    state = {key: torch.from_numpy(value) for key, value in fill(record["shapes"]).items()} | buffers
    return {prefix + key: value for key, value in state.items()} | {key: torch.zeros(shape) for key, shape in extra.items()}


# ---------------------------------------------------------------- CLIP


@pytest.fixture
def small_clip(monkeypatch):
    """open_clip's configurations with two layers of each tower and 64 words."""
    import open_clip

    real = open_clip.get_model_config

    def small(name: str) -> dict:
        shape = real(name)
        shape["vision_cfg"]["layers"], shape["text_cfg"]["layers"], shape["text_cfg"]["vocab_size"] = 2, 1, 64
        return shape

    monkeypatch.setattr(open_clip, "get_model_config", small)
    return small


CLIPS = {"clip_vitl14_224": "ViT-L-14-quickgelu", "clip_vitl14_336": "ViT-L-14-336-quickgelu"}


def test_clip_336_loads_from_the_hub_cache(hub, small_clip):
    """The 336-pixel CLIP keeps the image tower of its own repository's open_clip_model.safetensors, without the projection."""
    import open_clip

    both = open_clip.CLIP(**small_clip(CLIPS["clip_vitl14_336"]))
    path = hub("timm/vit_large_patch14_clip_336.openai",
               lambda folder: save_file(both.state_dict(), folder / "open_clip_model.safetensors"))  # fmt: skip
    wanted = {name: value for name, value in both.visual.state_dict().items() if name != "proj"}
    assert same(loaded("clip_vitl14_336", path).vit.state_dict(), wanted)


@torch.inference_mode()
@pytest.mark.parametrize("name, side", [("clip_vitl14_224", 224), ("clip_vitl14_336", 336)])
def test_clip_reads_the_file_of_transformers(tmp_path, small_clip, name, side):
    """model.safetensors as openai/clip-vit-large-patch14(-336) has it loads, and gives the features of transformers' own CLIP."""
    from transformers import CLIPConfig, CLIPModel

    vision = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 2, "num_attention_heads": 16, "patch_size": 14,
              "image_size": side, "hidden_act": "quick_gelu"}  # fmt: skip
    text = {"num_hidden_layers": 1, "vocab_size": 64, "bos_token_id": 0, "eos_token_id": 1}
    torch.manual_seed(0)
    theirs = CLIPModel(CLIPConfig(vision_config=vision, text_config=text, projection_dim=768)).eval()
    for value in theirs.parameters():  # transformers starts CLIP near zero
        value.add_(0.02 * torch.randn_like(value))
    older = {"vision_model.embeddings.position_ids": torch.arange(3), "text_model.embeddings.position_ids": torch.arange(3)}
    save_file({**theirs.state_dict(), **older}, tmp_path / "model.safetensors")
    encoder = loaded(name, tmp_path / "model.safetensors")
    images = pixels(encoder)
    found, wanted = encoder.encode(images), theirs.vision_model(images)
    torch.testing.assert_close(found.image, wanted.pooler_output, **CLOSE)
    patches = theirs.vision_model.post_layernorm(wanted.last_hidden_state[:, 1:])
    torch.testing.assert_close(found.patches.flatten(1, 2), patches, **CLOSE)
    assert encoder.preprocess(np.zeros((400, 350), np.float32)).shape == (3, side, side)


def test_clip_drops_nothing_but_the_text_tower(tmp_path, small_clip):
    """A tensor that belongs to neither tower is turned down, in either layout."""
    import open_clip

    state = open_clip.CLIP(**small_clip(CLIPS["clip_vitl14_224"])).state_dict()
    save_file(state | {"visual.adapter.weight": torch.zeros(2)}, tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match="unexpected adapter.weight"):
        loaded("clip_vitl14_224", tmp_path / "a.safetensors")
    save_file({"vision_model.post_layernorm.weight": torch.zeros(1024)}, tmp_path / "b.safetensors")
    with pytest.raises(WeightsError, match="has no part 'visual_projection.weight'"):
        loaded("clip_vitl14_224", tmp_path / "b.safetensors")


# ---------------------------------------------------------------- BiomedCLIP, SigLIP


@torch.inference_mode()
def test_biomedclip_takes_the_image_tower(hub, monkeypatch):
    """open_clip_pytorch_model.bin as open_clip writes it gives the class token that open_clip's tower projects. Two blocks here."""
    import open_clip
    import timm

    real = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, *args, **options: real(name, *args, **options, depth=2))
    vision = {"timm_model_name": "vit_base_patch16_224", "timm_model_pretrained": False, "timm_pool": "", "timm_proj": "linear",
              "image_size": 224}  # fmt: skip
    torch.manual_seed(0)
    text = {"context_length": 8, "vocab_size": 32, "width": 64, "heads": 1, "layers": 1}
    theirs = open_clip.CustomTextCLIP(embed_dim=512, vision_cfg=vision, text_cfg=text).eval()
    path = hub("microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
               lambda folder: torch.save(theirs.state_dict(), folder / "open_clip_pytorch_model.bin"))  # fmt: skip
    encoder = loaded("biomedclip", path)
    images = pixels(encoder)
    projected = theirs.visual.head.proj(encoder.encode(images).image)
    torch.testing.assert_close(projected, theirs.encode_image(images), **CLOSE)
    torch.save(theirs.state_dict() | {"visual.extra.weight": torch.zeros(1)}, path / "open_clip_pytorch_model.bin")
    with pytest.raises(WeightsError, match="unexpected visual.extra.weight"):
        loaded("biomedclip", path)


@pytest.fixture
def small_siglip(monkeypatch) -> dict:
    """SigLIP's towers with two layers of width 144: heads keep their width of 72."""
    import transformers

    small = {"hidden_size": 144, "intermediate_size": 538, "num_hidden_layers": 2, "num_attention_heads": 2}
    real = transformers.SiglipVisionConfig
    monkeypatch.setattr(transformers, "SiglipVisionConfig", lambda **options: real(**(options | small)))
    return small


@torch.inference_mode()
@pytest.mark.parametrize("name, repository, side", [("siglip2_so400m_384", "google/siglip2-so400m-patch14-384", 384),
                                                    ("medsiglip_448", "google/medsiglip-448", 448)])  # fmt: skip
def test_siglip_takes_the_image_tower(hub, small_siglip, name, repository, side):
    """model.safetensors as transformers saves a SiglipModel loads without its text tower, and gives the pooled output of that model."""
    from transformers import SiglipConfig, SiglipModel

    text = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 32,
            "projection_size": 144}  # fmt: skip
    torch.manual_seed(0)
    theirs = SiglipModel(SiglipConfig(vision_config={**small_siglip, "image_size": side, "patch_size": 14}, text_config=text)).eval()
    encoder = loaded(name, hub(repository, lambda folder: theirs.save_pretrained(folder)))
    assert same(encoder.vit.state_dict(), theirs.vision_model.state_dict())
    images = pixels(encoder)
    assert images.shape[2] == side
    torch.testing.assert_close(encoder.encode(images).image, theirs.vision_model(images).pooler_output, **CLOSE)


# ---------------------------------------------------------------- CheXzero, Ark+, MedImageInsight, torchxrayvision


def test_chexzero_loads_a_plain_state_dict(tmp_path, monkeypatch, small_clip):
    """A checkpoint with the keys of CheXzero's own class, both towers, loads from a path; one from a larger patch does not."""
    state = official("chexzero")
    torch.save(state, tmp_path / "best_64_5e-05_original_22000_0.864.pt")
    encoder = loaded("chexzero", tmp_path / "best_64_5e-05_original_22000_0.864.pt")
    wanted = {key.removeprefix("visual."): value for key, value in state.items() if key.startswith("visual.") and key != "visual.proj"}
    assert same(encoder.vit.state_dict(), wanted)
    torch.save(state | {"visual.conv1.weight": torch.zeros(768, 3, 16, 16)}, tmp_path / "other.pt")
    with pytest.raises(WeightsError, match=r"conv1.weight is \(768, 3, 16, 16\)"):
        loaded("chexzero", tmp_path / "other.pt")


def test_chexzero_is_found_by_name(tmp_path, monkeypatch):
    """The card's file is looked for in $RADBENCH_WEIGHTS, and its absence says where to get it."""
    monkeypatch.setenv("RADBENCH_WEIGHTS", str(tmp_path))
    card = find("chexzero").card
    with pytest.raises(Absent, match="Google Drive folder"):
        weights.resolve("chexzero", card)
    (tmp_path / card.files[0]).touch()
    assert weights.resolve("chexzero", card) == tmp_path / card.files[0]


@pytest.fixture
def small_timm(monkeypatch):
    """timm's networks in the widths of the official records."""
    import timm

    real, small = timm.create_model, {
        "swin_large_patch4_window12_384": {"embed_dim": 24, "depths": (2, 2, 2, 2), "num_heads": (1, 2, 4, 8)},
        "davit_huge_fl": {"embed_dims": (16, 32, 64, 128), "depths": (1, 1, 2, 1), "num_heads": (2, 4, 8, 16)},
    }  # fmt: skip
    monkeypatch.setattr(timm, "create_model", lambda name, **options: real(name, **(options | small.get(name, {}))))


@pytest.mark.parametrize("prefix", ["", "module."])
def test_ark_plus_loads_the_teacher(tmp_path, small_timm, prefix):
    """A training checkpoint with the keys of Ark's own class under timm 0.5.4 gives the teacher, not the student; no extra keys."""
    teacher = official("ark_plus", prefix, **{prefix + "head.weight": (1000, 192)})
    checkpoint = {"epoch": 50, "state_dict": {name: torch.zeros_like(value) for name, value in teacher.items()}, "teacher": teacher}
    torch.save(checkpoint, tmp_path / "Ark6_swinLarge768_ep50.pth.tar")
    state = loaded("ark_plus", tmp_path).net.state_dict()
    assert torch.equal(state["projector.weight"], teacher[prefix + "projector.weight"])
    assert torch.equal(state["swin.layers.1.downsample.reduction.weight"], teacher[prefix + "layers.0.downsample.reduction.weight"])
    torch.save(checkpoint | {"teacher": official("ark_plus", prefix, **{prefix + "adapter": (2,)})}, tmp_path / "b.pt")
    with pytest.raises(WeightsError, match="unexpected swin.adapter"):
        loaded("ark_plus", tmp_path / "b.pt")
    torch.save(teacher, tmp_path / "c.pt")
    with pytest.raises(WeightsError, match="has no part 'teacher'"):
        loaded("ark_plus", tmp_path / "c.pt")


@pytest.mark.parametrize("visual, projection", [("image_encoder.", "image_projection"), ("visual.", "vision_projection")])
def test_medimageinsight_loads_both_spellings(tmp_path, small_timm, visual, projection):
    """safetensors with the keys of the release's own class, under both prefixes that its loader knows, loads; extra keys do not pass."""
    text = {"lang_encoder.resblocks.0.ln_1.weight": (4,), "lang_projection": (4, 4), "logit_scale": ()}
    state = {key.replace("image_encoder.", visual).replace("image_projection", projection): value
             for key, value in official("medimageinsight", **text).items()}  # fmt: skip
    save_file(state, tmp_path / "medimageinsigt-v1.0.0.safetensors")
    encoder = loaded("medimageinsight", tmp_path)
    assert torch.equal(encoder.net["projection"].weight, state[projection].T)
    assert not any(value.is_meta for value in encoder.net.state_dict().values())
    save_file(state | {f"{visual}extra.weight": torch.zeros(1)}, tmp_path / "medimageinsigt-v1.0.0.safetensors")
    with pytest.raises(WeightsError, match="unexpected davit.extra.weight"):
        loaded("medimageinsight", tmp_path)


def test_xrv_reads_the_state_dict_and_not_the_module(tmp_path, subject_of):
    """A state dict with the classifier and its thresholds loads; the release, a pickled module, is refused with the way to convert it."""
    net = subject_of("torchxrayvision_densenet121").encoder.net
    file = tmp_path / "densenet121-res224-mimic_ch.pt"
    extra = {"classifier.weight": torch.zeros(18, 1024), "classifier.bias": torch.zeros(18), "op_threshs": torch.zeros(18)}
    torch.save({**net.state_dict(), **extra}, file)
    assert same(loaded("torchxrayvision_densenet121", file).net.state_dict(), net.state_dict())
    torch.save(net, file)
    with pytest.raises(WeightsError, match=r"holds more than tensors .*code is never run; next: pip install torchxrayvision, then"):
        loaded("torchxrayvision_densenet121", file)


def test_xrv_card_follows_the_release():
    """Which data sets the network has seen, with labels, and which file it needs, depend on the option; the default has not seen RSNA."""
    card = describe("torchxrayvision_densenet121", {})
    assert card.weights == "file:densenet121-res224-mimic_ch.pt" and card.labels_seen == card.pretrained_on == ("mimic_cxr",)
    every = describe("torchxrayvision_densenet121", {"options": {"trained_on": "all"}})
    assert every.weights == "file:densenet121-res224-all.pt" and "rsna" in every.labels_seen and "rsna" not in card.labels_seen


# ---------------------------------------------------------------- CXR Foundation


def test_cxr_foundation_says_what_is_missing(tmp_path, monkeypatch):
    """Without TensorFlow a run is told what to install; without weights there is no network, and the checks say so instead of failing."""
    monkeypatch.setitem(sys.modules, "tensorflow", None)  # as if it were not installed
    with pytest.raises(WeightsError, match="needs TensorFlow.*pip install tensorflow"):
        loaded("cxr_foundation", tmp_path)
    with pytest.raises(Absent, match="network is in the weight files"):
        loaded("cxr_foundation", None)


def test_cxr_foundation_runs_both_models(tmp_path):
    """SavedModels with the published signatures: a 16-bit PNG in a tf.train.Example in, 8 x 8 x 1376 and 32 x 128 numbers out."""
    tf = pytest.importorskip("tensorflow")
    pytest.importorskip("tensorflow_text")

    class Image(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="input_example")])
        def serve(self, input_example):
            parsed = tf.io.parse_single_example(input_example[0], {"image/encoded": tf.io.FixedLenFeature([], tf.string)})
            grey = tf.cast(tf.io.decode_png(parsed["image/encoded"], 1, tf.uint16), tf.float32) / 65535
            return {"feature_maps_0": tf.tile(tf.image.resize(grey, (8, 8), method="area"), (1, 1, 1376))[None]}

    class Text(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 1376], name="image_feature"),
                                      tf.TensorSpec([None, 1, 128], tf.int32, name="ids"),
                                      tf.TensorSpec([None, 1, 128], name="paddings")])  # fmt: skip
        def serve(self, image_feature, ids, paddings):
            return {"all_contrastive_img_emb": tf.reshape(image_feature, (1, -1))[:, : 32 * 128][:, None] + tf.zeros((1, 1, 4096))}

    for name, module in (("elixr-c-v2-pooled", Image()), ("pax-elixr-b-text", Text())):
        tf.saved_model.save(module, str(tmp_path / name), signatures={"serving_default": module.serve})
    encoder = loaded("cxr_foundation", tmp_path)
    frame = np.zeros((64, 64), np.float32)
    frame[:8, 56:] = 1.0  # white in the upper right
    features = encoder.encode(torch.from_numpy(encoder.preprocess(frame))[None].expand(2, -1, -1, -1))
    assert features.image.shape == (2, 4096) and features.patches.shape == (2, 8, 8, 1376)
    assert torch.nonzero(features.patches[0, :, :, 0] > 0.5).tolist() == [[0, 7]]
    mean = find("cxr_foundation")(tmp_path, {"pooling": "mean"})
    mean.load("cpu")
    assert mean.encode(torch.zeros(1, 1, 1280, 1280)).image.shape == (1, 1376) == (1, mean.card.dim)


# ---------------------------------------------------------------- any model of timm


def timm_folder(folder: Path, name: str, **options) -> torch.nn.Module:
    """A repository as timm pushes it to the hub: config.json and model.safetensors."""
    import timm
    from timm.models import save_for_hf

    torch.manual_seed(0)
    model = timm.create_model(name, **options).eval()
    save_for_hf(model, str(folder), safe_serialization=True)
    return model


#: models, and the parts that the four taps leave
TIMM = {
    "test_vit2.r160_in1k": ("blocks.1", "blocks.3", "blocks.5", "blocks.7"),
    "test_vit3.r160_in1k": ("blocks.1", "blocks.3", "blocks.5", "blocks.8"),
    "test_resnet.r160_in1k": ("layer1", "layer2", "layer3", "layer4"),
    "test_convnext.r160_in1k": ("stages.0", "stages.1", "stages.2", "stages.3"),
    "test_efficientnet.r160_in1k": ("blocks.1", "blocks.2", "blocks.3", "blocks.4"),
    "swin_tiny_patch4_window7_224.ms_in1k": ("layers.0", "layers.1", "layers.2", "layers.3"),
}


@torch.inference_mode()
@pytest.mark.parametrize("name", TIMM)
def test_timm_model_is_the_one_of_timm(tmp_path, name):
    """A hub folder of timm loads whole; its features are what that model gives its own classifier, its map has the tapped grid's order."""
    theirs = timm_folder(tmp_path, name)
    encoder = loaded("timm_model", tmp_path, model=name)
    images = pixels(encoder)
    features, wanted = encoder.encode(images), theirs.forward_features(images)
    torch.testing.assert_close(features.image, theirs.forward_head(wanted, pre_logits=True), **CLOSE)
    last = theirs.forward_intermediates(images, indices=1, norm=False, output_fmt="NCHW", intermediates_only=True)[0]
    assert features.patches.shape[1:3] == last.shape[2:]
    taps = left_by(theirs, TIMM[name], lambda: theirs(images))
    if name.startswith("swin"):
        taps = [tap.permute(0, 3, 1, 2) for tap in taps]
    same_levels(encoder.encode_levels(images), taps)


@torch.inference_mode()
def test_timm_model_at_another_side(tmp_path):
    """With image_size the positions are resampled as timm itself does, and the input has that side."""
    import timm

    timm_folder(tmp_path, "vit_tiny_patch16_224.augreg_in21k")
    encoder = loaded("timm_model", tmp_path, model="vit_tiny_patch16_224.augreg_in21k", image_size=96)
    overlay = {"file": str(tmp_path / "model.safetensors")}
    theirs = timm.create_model("vit_tiny_patch16_224.augreg_in21k", pretrained=True, img_size=96, pretrained_cfg_overlay=overlay).eval()
    images = pixels(encoder)
    assert images.shape[2:] == (96, 96)
    torch.testing.assert_close(encoder.encode(images).image, theirs.forward_head(theirs.forward_features(images), pre_logits=True), **CLOSE)


def test_timm_model_names_what_cannot_be_done(tmp_path):
    """A name that timm does not know, a tag that it does not know, and a class token that the model lacks are each a ConfigError."""
    for name, said in (("test_vitt", "did you mean 'test_vit'"), ("test_vit.in1k", "has no such tag")):
        with pytest.raises(ConfigError, match=said):
            loaded("timm_model", None, model=name)
    for name in ("test_resnet.r160_in1k", "vit_wee_patch16_reg1_gap_256.sbb_in1k"):  # a register is no class token
        with pytest.raises(ConfigError, match="has no class token"):
            loaded("timm_model", None, model=name, pooling="cls")
    with pytest.raises(ConfigError, match="the tokens are no square grid; got 1"):  # PiT returns its class token alone
        loaded("timm_model", None, model="pit_ti_224.in1k")
    for name, side, said in (
        ("vit_tiny_patch16_224.augreg_in21k", 100, "no whole number of patches.*got 100; expected 96 or 112"),
        ("halonet26t.a1h_in1k", 100, "does not take an input of this side; got 100 .*expected 256, its own"),
    ):
        with pytest.raises(ConfigError, match=said):
            loaded("timm_model", None, model=name, image_size=side)
    with pytest.raises(ConfigError, match="cannot be tapped in four places"):
        encoder = loaded("timm_model", None)
        encoder.net.feature_info = encoder.net.feature_info[:3]
        encoder.encode_levels(pixels(encoder))


def test_timm_model_refuses_another_models_file(tmp_path):
    """The weights of another model are turned down."""
    timm_folder(tmp_path, "test_vit.r160_in1k")
    with pytest.raises(WeightsError, match="not the weights of this network"):
        loaded("timm_model", tmp_path, model="test_vit2.r160_in1k")


def test_generic_entries_have_cards():
    """ "timm:" and "hf:" entries of a configuration have a card of their own: title, weights, what they have seen."""
    card = describe(*parse("timm:vit_base_patch16_dinov3.lvd1689m"))
    assert (card.title, card.weights) == ("vit_base_patch16_dinov3.lvd1689m", "hf:timm/vit_base_patch16_dinov3.lvd1689m")
    name, spec = parse("hf:facebook/dinov2-base")
    card = describe(name, {**spec, "options": spec["options"] | {"pretrained_on": ["lvd_142m"]}})
    assert (card.weights, card.pretrained_on) == ("hf:facebook/dinov2-base", ("lvd_142m",))
    assert describe(name, spec).pretrained_on == ("unknown",)


# ---------------------------------------------------------------- any vision model of transformers

PROCESSOR = {"size": {"height": 64, "width": 64}, "resample": 3, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
SMALL = {"hidden_size": 48, "num_hidden_layers": 4, "num_attention_heads": 3, "intermediate_size": 96, "image_size": 64, "patch_size": 8}


def hf_folder(folder: Path, model, processor: dict = PROCESSOR) -> None:
    """A repository as transformers saves it: config.json, model.safetensors, preprocessor_config.json."""
    model.eval().save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))


def build(kind: str):
    """(a whole model as it is distributed, its image part) with random weights."""
    import transformers as t

    torch.manual_seed(0)
    text = {**SMALL, "vocab_size": 32, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    text.pop("image_size"), text.pop("patch_size")
    stages = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1]}
    make = {
        "vit": lambda: t.ViTModel(t.ViTConfig(**SMALL)),
        "dinov2": lambda: t.Dinov2Model(t.Dinov2Config(**SMALL)),
        "dinov2_registers": lambda: t.Dinov2WithRegistersModel(t.Dinov2WithRegistersConfig(**SMALL, num_register_tokens=4)),
        "clip": lambda: t.CLIPModel(t.CLIPConfig(vision_config=SMALL, text_config=text)),
        "siglip": lambda: t.SiglipModel(t.SiglipConfig(vision_config=SMALL, text_config=text)),
        "resnet": lambda: t.ResNetModel(t.ResNetConfig(embedding_size=8, layer_type="basic", **stages)),
        "convnext": lambda: t.ConvNextModel(t.ConvNextConfig(**stages)),
        "swin": lambda: t.SwinModel(t.SwinConfig(image_size=64, patch_size=2, embed_dim=12, depths=[1, 1, 2, 1], num_heads=[1, 2, 3, 4],
                                                 window_size=4)),
        "focalnet": lambda: t.FocalNetModel(t.FocalNetConfig(image_size=64, patch_size=2, embed_dim=12, depths=[1, 1, 2, 1],
                                                             hidden_sizes=[12, 24, 48, 96])),
        "hiera": lambda: t.HieraModel(t.HieraConfig(image_size=[64, 64], embed_dim=12, depths=[1, 1, 2, 1], num_heads=[1, 2, 4, 8],
                                                    mask_ratio=0.6)),
        "vitdet": lambda: t.VitDetModel(t.VitDetConfig(**(SMALL | {"num_hidden_layers": 8}))),
        "sam": lambda: t.SamVisionModel(t.SamVisionConfig(hidden_size=48, num_hidden_layers=8, num_attention_heads=3, image_size=64,
                                                          patch_size=8, output_channels=16, window_size=4, global_attn_indexes=[3, 7])),
    }  # fmt: skip
    whole = make[kind]().eval()
    return whole, getattr(whole, "vision_model", whole)


@torch.inference_mode()
@pytest.mark.parametrize("kind", ["focalnet", "hiera", "vitdet", "sam"])
def test_hf_model_taps_other_networks(tmp_path, kind):
    """Maps with channels first or last, stages that end in a downsampling, and plain blocks without tokens: taps are their blocks'."""
    net, _ = build(kind)
    hf_folder(tmp_path, net)
    encoder = loaded("hf_model", tmp_path, model=f"owner/{kind}", pooling="mean")
    images = pixels(encoder)
    stages = [f"encoder.stages.{number}.layers.{last}" for number, last in enumerate((0, 0, 1, 0))]
    parts = {"focalnet": stages, "vitdet": [f"encoder.layer.{number}" for number in (1, 3, 5, 7)],
             "sam": [name for name, _ in net.named_modules() if re.fullmatch(r"(.*\.)?layers\.[1357]", name)]}  # fmt: skip
    if kind == "hiera":
        taps = [state.permute(0, 3, 1, 2) for state in net(images, output_hidden_states=True).reshaped_hidden_states[1:]]
    else:
        taps = left_by(net, parts[kind], lambda: net(images))
        taps = [tap.permute(0, 3, 1, 2) for tap in taps] if kind == "sam" else taps
    same_levels(encoder.encode_levels(images), taps)


@torch.inference_mode()
@pytest.mark.parametrize("kind", ["vit", "dinov2", "dinov2_registers", "clip", "siglip", "resnet", "convnext", "swin"])
def test_hf_model_is_the_one_of_transformers(tmp_path, kind):
    """A hub folder of transformers loads, the image tower alone of a model of two; pooled features and map are the model's own outputs."""
    whole, image_part = build(kind)
    hf_folder(tmp_path, whole)
    encoder = loaded("hf_model", tmp_path, model=f"owner/{kind}")
    images = pixels(encoder)
    features, wanted = encoder.encode(images), image_part(images)
    torch.testing.assert_close(features.image, wanted.pooler_output.flatten(1), **CLOSE)
    state = wanted.last_hidden_state
    last = state.flatten(2).transpose(1, 2) if state.ndim == 4 else state[:, -features.patches[0, :, :, 0].numel() :]
    torch.testing.assert_close(features.patches.flatten(1, 2), last, **CLOSE)
    prefix = 0 if state.ndim == 4 else state.shape[1] - last.shape[1]
    assert prefix == {"vit": 1, "dinov2": 1, "dinov2_registers": 5, "clip": 1}.get(kind, 0)
    blocks = {"vit": "layers", "clip": "encoder.layers", "siglip": "encoder.layers"}.get(kind, "encoder.layer")
    blocks = "encoder.stages" if kind in ("resnet", "convnext") else blocks
    if kind == "swin":
        taps = before_merging(image_part, images)
    else:
        taps = left_by(image_part, tuple(f"{blocks}.{number}" for number in range(4)), lambda: image_part(images))
    same_levels(encoder.encode_levels(images), taps)


def before_merging(swin, images) -> list[torch.Tensor]:
    """The maps of transformers' own backbone of a Swin: what leaves each stage before patches are merged, without its norms."""
    from transformers import SwinBackbone, SwinConfig

    shape = {name: getattr(swin.config, name) for name in ("image_size", "patch_size", "embed_dim", "depths", "num_heads", "window_size")}
    config = SwinConfig(**shape, out_features=["stage1", "stage2", "stage3", "stage4"])
    backbone = SwinBackbone(config).eval()
    for name in backbone.hidden_states_norms:
        backbone.hidden_states_norms[name] = torch.nn.Identity()
    backbone.swin.load_state_dict(swin.state_dict(), strict=True)
    return list(backbone(images).feature_maps)


@pytest.mark.parametrize("kind", ["vit", "dinov2_registers", "convnext", "swin"])
def test_hf_model_keeps_the_contract(tmp_path, kind):
    """With a repository of its own, the generic wrapper passes the checks on map, orientation and rows: a cell is where it was changed."""
    from radbench import contract

    hf_folder(tmp_path, build(kind)[0])
    subject = Subject("hf_model", find("hf_model"), tmp_path, {"model": f"owner/{kind}"})
    names = ("loads_ready", "preprocess_keeps_its_contract", "features_have_the_cards_shapes", "levels_are_four_maps",
             "encoding_is_deterministic", "rows_are_independent", "grid_is_upright")  # fmt: skip
    for name in names:
        getattr(contract, name)(subject)


def test_hf_model_without_its_pooler(tmp_path):
    """A classifier's checkpoint has no pooler: loading says so and names the way out, and with it nothing is left at random."""
    import transformers

    torch.manual_seed(0)
    whole = transformers.ViTForImageClassification(transformers.ViTConfig(**SMALL)).eval()
    hf_folder(tmp_path, whole)
    with pytest.raises(WeightsError, match="parameters are not in the file.*pooling: cls or mean"):
        loaded("hf_model", tmp_path, model="owner/vit")
    encoder = loaded("hf_model", tmp_path, model="owner/vit", pooling="cls")
    images = pixels(encoder)
    with torch.inference_mode():
        torch.testing.assert_close(encoder.encode(images).image, whole.vit(images).last_hidden_state[:, 0], **CLOSE)


def test_hf_model_missing_block(tmp_path):
    """A file without one of the blocks is turned down, not completed at random."""
    whole, _ = build("dinov2")
    hf_folder(tmp_path, whole)
    state = {name: value for name, value in whole.state_dict().items() if "layer.2." not in name}
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match="parameters are not in the file.*layer.2."):
        loaded("hf_model", tmp_path, model="owner/dinov2", pooling="cls")


def test_hf_model_runs_no_code_of_a_repository(tmp_path):
    """A repository that brings its own Python is refused and its code is not run, unless the option says so."""
    code = f"import pathlib\npathlib.Path({str(tmp_path / 'ran')!r}).touch()\n"
    (tmp_path / "own.py").write_text(code)
    config = {"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    with pytest.raises(WeightsError, match="needs code from its repository.*trust_remote_code: true, if you trust its owner"):
        loaded("hf_model", tmp_path, model="owner/own")
    assert not (tmp_path / "ran").exists()


def test_hf_model_needs_its_files():
    """A model that is named and not there is a gap with the next step, not a random network of some shape."""
    with pytest.raises(Absent, match="python -m radbench.weights hf:facebook/dinov2-base"):
        loaded("hf_model", None, model="facebook/dinov2-base")


@pytest.mark.parametrize("change, said", [({"size": {"longest_edge": 64}}, "size"), ({"resample": 0}, "resample 0"),
                                          ({"do_pad": True}, "do_pad"), ({"image_mean": None}, "image_mean None"),
                                          ({"image_mean": [0.5]}, r"image_mean \[0.5\] and image_std"), ({"crop_size": {"height": 64},
                                           "do_center_crop": True}, "size"), ({"size": {"shortest_edge": 64}}, "size")])  # fmt: skip
def test_hf_model_refuses_what_it_cannot_prepare(tmp_path, change, said):
    """A processor that asks for something else than resize, crop, scale and normalise is a ConfigError that names it."""
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PROCESSOR | change))
    with pytest.raises(ConfigError, match=f"asks for what is not served here: {said}"):
        find("hf_model")(tmp_path, {"model": "owner/x"}).preprocess(np.zeros((80, 70), np.float32))


@pytest.mark.parametrize("text, said", [
    ("[]", r"got \[\]; expected the whole"), (json.dumps(PROCESSOR | {"size": [64, 64]}), r"got \[64, 64\]; expected size"),
    (json.dumps(PROCESSOR | {"image_mean": "grey"}), "got 'grey'; expected image_mean"),
    (json.dumps(PROCESSOR | {"image_std": [0, 0, 0]}), "got 0; expected image_std"),
    (json.dumps(PROCESSOR | {"rescale_factor": "x"}), "got 'x'; expected rescale_factor"),
    (json.dumps(PROCESSOR | {"size": {"height": -64, "width": 64}}), "got -64; expected size"),
    ('{"image_mean": NaN}', "got nan; expected image_mean"), ("{", "cannot be read"),
])  # fmt: skip
def test_hf_model_refuses_a_processor_of_other_types(tmp_path, text, said):
    """A preprocessor_config.json with values that transformers never writes is a WeightsError with the setting."""
    (tmp_path / "preprocessor_config.json").write_text(text)
    with pytest.raises(WeightsError, match=f"preprocessor_config.json: .*{said}"):
        find("hf_model")(tmp_path, {"model": "owner/x"}).preprocess(np.zeros((80, 70), np.float32))


@pytest.mark.parametrize("kind", ["mae", "naflex", "detection", "grey"])
def test_hf_model_names_what_it_cannot_run(tmp_path, kind):
    """A network that drops patches at random, takes more than the image or has other channels than the processor: each says so."""
    import transformers as t

    torch.manual_seed(0)
    decoder = {f"decoder_{key}": SMALL[key] for key in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")}
    naflex = {key: value for key, value in SMALL.items() if key != "image_size"} | {"num_patches": 64}
    model, said = {
        "mae": (lambda: t.ViTMAEModel(t.ViTMAEConfig(**SMALL, **decoder)), "vit_mae shuffles and leaves out patches at random"),
        "naflex": (lambda: t.Siglip2VisionModel(t.Siglip2VisionConfig(**naflex)), "takes something besides the image"),
        "detection": (lambda: t.YolosModel(t.YolosConfig(**(SMALL | {"image_size": [64, 64]}))), "has detection tokens behind its patches"),
        "grey": (lambda: t.ViTModel(t.ViTConfig(**SMALL, num_channels=1)), "one number for each channel.*got 3; expected 1"),
    }[kind]
    hf_folder(tmp_path, model())
    with pytest.raises(ConfigError, match=said):
        loaded("hf_model", tmp_path, model="owner/x", pooling="mean")


def test_hf_model_segmentation_needs_the_field(tmp_path):
    """Where the processor crops, segmentation has to be told which share of the side the map covers."""
    crop = {"size": {"shortest_edge": 80}, "do_center_crop": True, "crop_size": {"height": 64, "width": 64}}
    hf_folder(tmp_path, build("dinov2")[0], PROCESSOR | crop)
    encoder = loaded("hf_model", tmp_path, model="owner/x")
    with pytest.raises(ConfigError, match="keeps 0.8 of the side.*option field: 0.8"):
        encoder.encode_levels(pixels(encoder))
    encoder = loaded("hf_model", tmp_path, model="owner/x", field=0.8)
    assert encoder.card.field == 0.8 and len(encoder.encode_levels(pixels(encoder))) == 4
