"""A file that is not the one: every wrapper that loads a file calls it by its name, whatever the wrapper takes out of it."""

import contextlib
import json
import re
from pathlib import Path

import pytest
import torch

from radbench.encoder import find, names
from radbench.errors import WeightsError

#: for each wrapper one tensor under the name that its release gives it, and twice as wide
WIDER = {
    "ark_plus": {"teacher": {"patch_embed.norm.weight": (384,)}},
    "biomedclip": {"visual.trunk.norm.weight": (1536,)},
    "biovil": {"encoder.encoder.bn1.weight": (128,)},
    "biovil_t": {"encoder.encoder.bn1.weight": (128,)},
    "chexfound": {"teacher": {"backbone.cls_token": (1, 1, 2048), "backbone.pos_embed": (1, 1025, 2048)}},
    "chexzero": {"visual.class_embedding": (1536,)},
    "clip_vitl14_224": {"visual.class_embedding": (2048,)},
    "clip_vitl14_336": {"visual.class_embedding": (2048,)},
    "dinov2_vitg14": {"norm.weight": (3072,)},
    "dinov3_vitb16": {"norm.weight": (1536,)},
    "eva_x_base": {"norm.weight": (1536,)},
    "hf_model": {"layernorm.weight": (96,)},
    "ijepa_vith14_224": {"layernorm.weight": (2560,)},
    "ijepa_vith16_448": {"layernorm.weight": (2560,)},
    "medimageinsight": {"image_encoder.norms.weight": (4096,)},
    "medsiglip_448": {"vision_model.post_layernorm.weight": (2304,)},
    "mrm": {"model": {"norm.weight": (1536,)}},
    "rad_dino": {"layernorm.weight": (1536,)},
    "rad_dino_control": {"layernorm.weight": (1536,)},
    "rad_dino_maira2": {"layernorm.weight": (1536,)},
    "radjepa_released": {"encoder": {"norm.weight": (1536,)}},
    "siglip2_so400m_384": {"vision_model.post_layernorm.weight": (2304,)},
    "texjepa_300": {"target_encoder": {"module.norm.weight": (2560,)}},
    "timm_model": {"patch_embed.proj.bias": (128,)},
    "torchxrayvision_densenet121": {"features.norm0.weight": (128,)},
}
#: the rest reads runs of this workflow (kept by their own hashes), a TensorFlow program, or nothing
OTHERS = {"cxr_foundation", "radjepa", "radjepa_control", "random_vit", "raw_pixels"}
TEXT_TOWER = {"token_embedding.weight": torch.ones(4, 2), "positional_embedding": torch.ones(3, 2), "ln_final.weight": torch.ones(2),
              "transformer.resblocks.0.ln_1.weight": torch.ones(2), "text_projection": torch.ones(2, 2)}  # fmt: skip
OPTIMIZER = {"state": {0: {"step": torch.ones(()), "exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}


def test_every_wrapper_is_here():
    """No wrapper that loads a file is left out of the tests below."""
    assert set(WIDER) | OTHERS == set(names()) and not set(WIDER) & OTHERS


def refusal(name: str, file: Path) -> str:
    """What the wrapper says of a file. Networks are built without memory, for nothing is computed."""
    options = {}
    if name == "hf_model":
        options = {"model": "owner/vit"}
        small = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 96, "image_size": 64}
        (file.parent / "config.json").write_text(json.dumps({"model_type": "vit", "patch_size": 8} | small))
    processor = {"size": {"shortest_edge": 518}, "crop_size": {"height": 518, "width": 518}, "resample": 3, "image_mean": [0.5] * 3,
                 "image_std": [0.5] * 3}  # fmt: skip
    (file.parent / "preprocessor_config.json").write_text(json.dumps(processor))
    without_memory = contextlib.nullcontext() if name == "hf_model" else torch.device("meta")
    with pytest.raises(WeightsError) as caught, without_memory:
        find(name)(file, options).load("cpu")
    assert "weights_only" not in str(caught.value) and "\n" not in str(caught.value) and str(file) in str(caught.value)
    return str(caught.value)


def real(shapes: dict) -> dict:
    return {key: real(value) if isinstance(value, dict) else torch.ones(value) for key, value in shapes.items()}


@pytest.mark.parametrize("name", sorted(WIDER))
def test_another_width(tmp_path, name):
    """Weights of a wider network are refused with the tensor, its shape and the right one."""
    torch.save(real(WIDER[name]), tmp_path / "weights.pt")
    said, inner = refusal(name, tmp_path / "weights.pt"), next(iter(WIDER[name].values()))
    wide = (next(iter(inner.values())) if isinstance(inner, dict) else inner)[0 if "densenet" in name else -1]
    assert "not the weights of this network" in said
    assert re.search(rf"is \([\d, ]*{wide},?\) and not \([\d, ]*{wide // 2},?\)", said)


@pytest.mark.parametrize("what, content", [("those of a text tower", TEXT_TOWER), ("the state of an optimizer", OPTIMIZER)])
@pytest.mark.parametrize("name", sorted(WIDER))
def test_something_else(tmp_path, name, what, content):
    """A text tower alone and the state of an optimizer are called that, also where the wrapper drops or does not find their tensors."""
    torch.save(content, tmp_path / "weights.pt")
    said = refusal(name, tmp_path / "weights.pt")
    assert f"but {what}" in said and "next: " in said


@pytest.mark.parametrize("name", sorted(WIDER))
def test_a_part_of_a_file(tmp_path, name):
    """A file that stops early is called truncated or damaged, and nobody is advised to run what is in it."""
    torch.save({"norm.weight": torch.ones(1000)}, tmp_path / "weights.pt")
    whole = (tmp_path / "weights.pt").read_bytes()
    for keep in (4, 1000, -1):
        (tmp_path / "weights.pt").write_bytes(whole[:keep])
        assert "truncated or damaged" in refusal(name, tmp_path / "weights.pt")


@pytest.mark.parametrize("name", sorted(WIDER))
def test_a_torchscript_archive(tmp_path, recwarn, name):
    """A file of torch.jit.save is called code, with what to take in its place, and torch's advice to run it is not passed on."""
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)), tmp_path / "weights.pt")
    recwarn.clear()
    said = refusal(name, tmp_path / "weights.pt")
    assert "a TorchScript archive, which is code" in said and "state dict" in said and not recwarn.list


def test_whole_numbers(tmp_path):
    """Tensors of the right names and shapes that are quantised are refused, and not taken for numbers."""
    from radbench.weights import load_strict

    module = torch.nn.Linear(3, 2)
    torch.save({key: value.to(torch.int8) for key, value in module.state_dict().items()}, tmp_path / "weights.pt")
    with pytest.raises(WeightsError, match=r"weight is torch.int8 and not a floating-point number"):
        load_strict(module, tmp_path / "weights.pt", "")


PAGES = (b"<!DOCTYPE html><title>Quota exceeded</title>", b"\n <html lang=en>", b'<?xml version="1.0"?><Error><Code>AccessDenied</Code>',
         b'{"error": "Repository not found"}', b'{\n  "error": {"code": 403}}')  # fmt: skip


@pytest.mark.parametrize("name", sorted(WIDER))
def test_an_error_page(tmp_path, name):
    """What a server sends in place of a file is called an error page."""
    (tmp_path / "weights.pt").write_bytes(PAGES[3])
    assert "is a saved web page or error page of a download, and not weights" in refusal(name, tmp_path / "weights.pt")


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("page", PAGES)
def test_any_error_page(tmp_path, page, suffix):
    """HTML, XML and JSON are known, whatever the file is called and however they begin."""
    (tmp_path / f"weights{suffix}").write_bytes(page)
    assert "is a saved web page or error page" in refusal("timm_model", tmp_path / f"weights{suffix}")
