"""The trunk and the predictor are those of I-JEPA."""

import json
import math

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from radbench.errors import WeightsError
from radbench.jepa.predictor import Predictor
from radbench.jepa.vit import ViTShape, build_vit, encode_taps, encode_tokens, four_taps, gather_tokens, sincos_positions
from radbench.jepa.weights import Trunk, load_run

SMALL = ViTShape(image_size=64, patch=8, width=48, depth=4, heads=3)


def test_vit_b14_is_timms_trunk():
    """timm's own ViT-B/14 without class token takes the state dict strictly and gives the same tokens; 85.72 M parameters."""
    ours = build_vit(ViTShape(), seed=0).eval()
    theirs = timm.create_model("vit_base_patch16_224", img_size=224, patch_size=14, class_token=False, global_pool="", num_classes=0).eval()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    images = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(encode_tokens(ours, images), theirs.forward_features(images), atol=1e-5, rtol=0)
    assert sum(value.numel() for value in ours.parameters()) == pytest.approx(85.72e6, rel=1e-3)


def reference_positions(width, grid):
    """The scalar definition: Vaswani et al. (2017) in each axis, columns first, as facebookresearch/mae builds it."""
    out = np.zeros((grid * grid, width))
    quarter = width // 4
    for row in range(grid):
        for col in range(grid):
            for half, place in enumerate((col, row)):
                for i in range(quarter):
                    angle = place / 10000 ** (i / quarter)
                    out[row * grid + col, half * 2 * quarter + i] = math.sin(angle)
                    out[row * grid + col, half * 2 * quarter + quarter + i] = math.cos(angle)
    return out


def test_positions_are_sine_cosine():
    """Position table equals the scalar definition."""
    np.testing.assert_allclose(sincos_positions(32, 5).numpy(), reference_positions(32, 5), atol=1e-6)


def test_keeping_all_patches_is_the_full_forward():
    """Encoding the kept patches only equals encoding everything when everything is kept, in any order of patches."""
    vit = build_vit(SMALL, seed=0).eval()
    images = torch.randn(2, 3, 64, 64)
    order = torch.stack([torch.randperm(64), torch.randperm(64)])
    with torch.inference_mode():
        full = encode_tokens(vit, images)
        torch.testing.assert_close(encode_tokens(vit, images, order), gather_tokens(full, order), atol=1e-5, rtol=1e-4)


def test_left_out_patches_do_not_reach_the_context():
    """Changing pixels of a patch that is not kept changes nothing in the context's tokens."""
    vit = build_vit(SMALL, seed=0).eval()
    images = torch.randn(1, 3, 64, 64)
    changed = images.clone()
    changed[:, :, :8, :8] += 10  # patch 0
    keep = torch.arange(1, 40)[None]
    with torch.inference_mode():
        assert torch.equal(encode_tokens(vit, images, keep), encode_tokens(vit, changed, keep))


def test_taps_end_in_the_last_block():
    """The deepest tap, normed, is the encoder's output; the four taps differ."""
    vit = build_vit(SMALL, seed=0).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        maps = encode_taps(vit, images, four_taps(4), 8)
        torch.testing.assert_close(vit.norm(maps[-1].flatten(2).transpose(1, 2)), encode_tokens(vit, images))
    assert len(maps) == 4 and not torch.allclose(maps[0], maps[1])


def test_target_blocks_are_predicted_independently():
    """A block's prediction does not change when another block of the image moves."""
    predictor = Predictor(48, 8, 24, depth=2, heads=3, seed=0).eval()
    context, keep = torch.randn(1, 12, 48), torch.arange(12)[None]
    first = torch.tensor([[[40, 41, 48, 49], [20, 21, 28, 29]]])
    second = torch.tensor([[[40, 41, 48, 49], [50, 51, 58, 59]]])
    with torch.inference_mode():
        one, two = predictor(context, keep, first), predictor(context, keep, second)
    torch.testing.assert_close(one[:, 0], two[:, 0])
    assert not torch.allclose(one[:, 1], two[:, 1])


def test_predictor_of_vit_b_has_the_reference_size():
    """At width 768, 256 patches, 384 x 12 the predictor has the reference code's 21.9 M parameters, its position table apart."""
    count = sum(value.numel() for value in Predictor(768, 16, 384, 12, 12, seed=0).parameters())
    assert count + 256 * 384 == pytest.approx(21.98e6, rel=0.005)


@pytest.fixture
def finished_run(tmp_path):
    """A pretraining run's folder in the layout that the harness writes."""
    config = {"image_size": 28, "patch": 14, "width": 24, "depth": 2, "heads": 2, "mean": 0.5, "std": 0.25, "pretrained_on": ["x"]}
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    save_file(Trunk(config).vit.state_dict(), folder / "encoder.safetensors")
    load_run(folder, "encoder", "cpu")
    return folder


def cut(path):
    return path.write_bytes(path.read_bytes()[:-9])


def deeper(path):
    return path.write_text(path.read_text().replace('"depth": 2', '"depth": 3'))


@pytest.mark.parametrize(("damage", "said"), [
    (lambda run: run / "encoder.safetensors", "is not the folder of a pretraining run"),
    (lambda run: (run / "config.json").unlink() or run, "config.json: no such file"),
    (lambda run: (run / "config.json").write_text("{") and run, "not JSON"),
    (lambda run: (run / "config.json").write_text("{}") and run, "lacks image_size, .*pretrained_on"),
    (lambda run: cut(run / "encoder.safetensors") and run, "encoder.safetensors"),
    (lambda run: deeper(run / "config.json") and run, "missing"),
])  # fmt: skip
def test_a_run_that_is_not_whole_is_named(finished_run, damage, said):
    """A path to the weights themselves, a config.json that is gone, cut or of another run, cut weights: each is a WeightsError."""
    with pytest.raises(WeightsError, match=f"{said}.*next: pretrain again"):
        load_run(damage(finished_run), "encoder", "cpu")
