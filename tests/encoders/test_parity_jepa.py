"""The joint-embedding and masked-modelling encoders against other code: the same weights, or picture, must give the same numbers.

`golden_official/<id>.json` holds slices of what the official network code gives, run outside this repository by `make.py` there: it
fills tensors by a rule, so that a test can fill ours the same way and needs neither that code nor any weights.
"""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from radbench.encoder import find
from tests.encoders.golden_official import make

CLOSE = {"rtol": 0, "atol": 1e-4}  # float32 sums in another order, features of order 1


def loaded(name: str, path: Path | None = None, **options):
    torch.manual_seed(0)
    encoder = find(name)(path, options)
    encoder.load("cpu")
    return encoder


def noise(side: int, count: int = 1) -> torch.Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def shrink(monkeypatch):
    """Let the libraries build a network with some arguments replaced: shrink(module, "create_model", depth=2)."""

    def replace(module, function: str, **small) -> None:
        real = getattr(module, function)
        monkeypatch.setattr(module, function, lambda *args, **options: real(*args, **(options | small)))

    return replace


# ---------------------------------------------------------------- against the official code


def tapped(encoder, images: torch.Tensor) -> list[torch.Tensor]:
    """The wrapper's own taps of a network of four blocks: the card then names these."""
    encoder.card = dataclasses.replace(encoder.card, levels=(0, 1, 2, 3))
    return encoder.encode_levels(images)


class Official:
    """One record of golden_official/: `state` in the layout of the official code, `image`, and comparisons to 1e-4."""

    def __init__(self, name: str, side: int):
        self.said = json.loads((make.HERE / f"{name}.json").read_text())
        assert self.said["seed"] == make.SEED and self.said["picture_sha256"] == make.digest(make.picture())
        self.image = torch.from_numpy(make.noise(1, 3, side, side))
        self.state = {key: torch.from_numpy(value) for key, value in make.fill(self.said["shapes"]).items()}

    def file(self, folder: Path, content: dict) -> Path:
        torch.save(content, folder / "checkpoint.pth")
        return folder / "checkpoint.pth"

    def same(self, ours: torch.Tensor, wanted: str | dict) -> None:
        """All recorded numbers, and the length of the whole; tokens in the order of the grid, row by row."""
        wanted = self.said[wanted] if isinstance(wanted, str) else wanted
        found = make.values(ours.contiguous())
        assert ours.numel() == np.prod(wanted["shape"])
        np.testing.assert_allclose(found["slice"], wanted["slice"], rtol=0, atol=1e-4)
        assert found["norm"] == pytest.approx(wanted["norm"], rel=1e-5)

    def same_taps(self, maps: list[torch.Tensor]) -> None:
        for ours, theirs in zip(maps, self.said["taps"], strict=True):
            self.same(ours.permute(0, 2, 3, 1), theirs)


@torch.inference_mode()
def test_ijepa_equals_the_official_code(tmp_path, shrink):
    """I-JEPA's tokens, mean and block outputs are those of facebookresearch/ijepa at full width, four blocks, 448 pixels."""
    import timm

    shrink(timm, "create_model", depth=4)
    official = Official("ijepa_vith16_448", 448)
    content = {"encoder": {f"module.{name}": value for name, value in official.state.items()}, "epoch": 300}
    encoder = loaded("ijepa_vith16_448", official.file(tmp_path, content))
    features = encoder.encode(official.image)
    official.same(features.image, "image")
    official.same(features.patches, "patches")
    official.same_taps(tapped(encoder, official.image))


@torch.inference_mode()
def test_mrm_equals_the_official_code(tmp_path):
    """MRM's tokens, both poolings, taps and the features ahead of a new norm are those of RL4M/MRM-pytorch at full size."""
    official = Official("mrm", 224)
    path = official.file(tmp_path, {"model": official.state, "epoch": 199})
    encoder = loaded("mrm", path)
    features = encoder.encode(official.image)
    official.same(features.image, "image")
    official.same(features.patches, "patches")
    official.same_taps(encoder.encode_levels(official.image))
    official.same(loaded("mrm", path, pooling="cls").encode(official.image).image, "cls")
    official.same(loaded("mrm", path, norm="before").encode(official.image).image, "before")


@torch.inference_mode()
def test_eva_x_equals_the_official_code(tmp_path):
    """EVA-X's features are those of both networks in hustvl/EVA-X (fine-tuning code; timm loader) at full size."""
    official = Official("eva_x_base", 224)
    encoder = loaded("eva_x_base", official.file(tmp_path, {"module": official.state | {"mask_token": torch.zeros(1, 1, 768)}}))
    features = encoder.encode(official.image)
    official.same(features.image, "image")
    official.same(features.image, "loader")
    official.same(features.patches, "patches")
    official.same_taps(encoder.encode_levels(official.image))


@torch.inference_mode()
def test_chexfound_equals_the_official_code(tmp_path, shrink):
    """CheXFound's CLS tokens, patches and taps are those of RPIDIAL/CheXFound at full width, four blocks, 512 pixels."""
    from timm.models import vision_transformer

    shrink(vision_transformer, "VisionTransformer", depth=4)
    official = Official("chexfound", 512)
    path = official.file(tmp_path, {"teacher": official.state})
    encoder = loaded("chexfound", path)
    features = encoder.encode(official.image)
    official.same(features.image, "image")
    official.same(features.patches, "patches")
    official.same_taps(tapped(encoder, official.image))
    four = loaded("chexfound", path, pooling="cls_4").encode(official.image).image.unflatten(1, (4, 1024))
    for ours, theirs in zip(four.unbind(1), official.said["last"], strict=True):
        official.same(ours, theirs)


# ---------------------------------------------------------------- against another library


def as_transformers(state: dict, depth: int) -> dict:
    """timm's names of a ViT to those of an IJepaModel in transformers 5; the joint matrix is cut into query, key and value."""
    out = {"embeddings.position_embeddings": state["pos_embed"]}
    for part in ("weight", "bias"):
        out[f"embeddings.patch_embeddings.projection.{part}"] = state[f"patch_embed.proj.{part}"]
        out[f"layernorm.{part}"] = state[f"norm.{part}"]
        for number in range(depth):
            ours, theirs = f"blocks.{number}", f"layers.{number}"
            for name, value in zip(("q_proj", "k_proj", "v_proj"), state[f"{ours}.attn.qkv.{part}"].chunk(3), strict=True):
                out[f"{theirs}.attention.{name}.{part}"] = value
            names = {"attention.o_proj": "attn.proj", "layernorm_before": "norm1", "layernorm_after": "norm2", "mlp.fc1": "mlp.fc1",
                     "mlp.fc2": "mlp.fc2"}  # fmt: skip
            for name, other in names.items():
                out[f"{theirs}.{name}.{part}"] = state[f"{ours}.{other}.{part}"]
    return out


def ijepa_model(state: dict | None = None, **config):
    from transformers import IJepaConfig, IJepaModel

    model = IJepaModel(IJepaConfig(layer_norm_eps=1e-6, **config)).eval()
    if state is not None:
        model.load_state_dict(as_transformers(state, config["num_hidden_layers"]), strict=True)
    return model


def same_tap(ours: torch.Tensor, tokens: torch.Tensor) -> None:
    """A tap (B, C, g, g) holds the patch tokens (B, N, C), to 1e-4 of the largest: a residual stream grows with its blocks."""
    close = {"rtol": 0, "atol": 1e-4 * max(1.0, float(tokens.abs().max()))}
    torch.testing.assert_close(ours.flatten(2).transpose(1, 2), tokens, **close)


@torch.inference_mode()
@pytest.mark.parametrize("name, size, patch", [("ijepa_vith14_224", 224, 14), ("ijepa_vith16_448", 448, 16)])
def test_ijepa_equals_transformers(tmp_path, shrink, name, size, patch):
    """A released file gives the same tokens, mean and taps through the wrapper as through IJepaModel. All 32 blocks, narrow ones."""
    import timm

    shrink(timm, "create_model", embed_dim=96, num_heads=4)
    model = ijepa_model(
        hidden_size=96, intermediate_size=384, num_hidden_layers=32, num_attention_heads=4, image_size=size, patch_size=patch
    )
    for part in model.parameters():  # away from the tiny weights, zero biases and unit norms of an initialisation
        part.add_(torch.randn_like(part) * 0.05)
    model.save_pretrained(tmp_path)
    encoder, images = loaded(name, tmp_path), noise(size, 2)
    out = model(images, output_hidden_states=True)
    features = encoder.encode(images)
    torch.testing.assert_close(features.image, out.last_hidden_state.mean(1), **CLOSE)
    torch.testing.assert_close(features.patches.flatten(1, 2), out.last_hidden_state, **CLOSE)
    for ours, block in zip(encoder.encode_levels(images), (7, 15, 23, 31), strict=True):
        same_tap(ours, out.hidden_states[block + 1])


@torch.inference_mode()
@pytest.mark.parametrize("size", [224, 518])
def test_radjepa_released_equals_transformers(tmp_path, shrink, size):
    """RadJEPA's file gives IJepaModel's tokens and taps, at 518 pixels with the positions that transformers interpolates. Four blocks."""
    from timm.models import vision_transformer

    shrink(vision_transformer, "VisionTransformer", depth=4)
    state = {name: value + 0.02 * torch.randn_like(value) for name, value in loaded("radjepa_released").vit.state_dict().items()}
    torch.save({"encoder": state}, tmp_path / "jepa_encoder.pth.tar")
    model = ijepa_model(state, num_hidden_layers=4, image_size=224, patch_size=14)
    images = noise(size)
    encoder = loaded("radjepa_released", tmp_path, image_size=size)
    features, out = encoder.encode(images), model(images, interpolate_pos_encoding=True, output_hidden_states=True)
    tokens = out.last_hidden_state
    for ours, theirs in zip(tapped(encoder, images), out.hidden_states[1:], strict=True):
        same_tap(ours, theirs)
    torch.testing.assert_close(features.image, tokens.mean(1), **CLOSE)
    torch.testing.assert_close(features.patches.flatten(1, 2), tokens, **CLOSE)


@torch.inference_mode()
def test_radjepa_class_slot_equals_a_network_that_has_one(tmp_path, shrink):
    """`cls_slot` is the class output of timm's ViT whose token is near zero and without position, as that code runs it."""
    from timm.models import vision_transformer

    shrink(vision_transformer, "VisionTransformer", depth=2)
    state = {name: value + 0.02 * torch.randn_like(value) for name, value in loaded("radjepa_released").vit.state_dict().items()}
    torch.save({"encoder": state}, tmp_path / "jepa_encoder.pth.tar")
    encoder = loaded("radjepa_released", tmp_path, pooling="cls_slot")
    other = vision_transformer.VisionTransformer(img_size=224, patch_size=14, num_classes=0).eval()
    assert other.cls_token.abs().max() < 1e-5  # as small as ours; another draw moves the output by 4e-4, so it is taken over
    padded = torch.cat([torch.zeros(1, 1, 768), state["pos_embed"]], dim=1)
    other.load_state_dict(state | {"pos_embed": padded, "cls_token": encoder.vit.cls_token}, strict=True)
    images = noise(224)
    features = encoder.encode(images)
    torch.testing.assert_close(features.image, other(images), **CLOSE)
    torch.testing.assert_close(features.patches.flatten(1, 2), other.forward_features(images)[:, 1:], **CLOSE)


@torch.inference_mode()
@pytest.mark.parametrize("size", [224, 320])
def test_dinov3_equals_timm(size):
    """DINOv3's CLS, patch and tap features are those of timm's ViT-B/16 with the same weights, also off the native side."""
    import timm

    encoder = loaded("dinov3_vitb16", image_size=size)
    for part in encoder.vit.parameters():  # LayerScale and norms away from one, biases from zero
        part.add_(torch.randn_like(part) * 0.02)
    vit = timm.create_model("vit_base_patch16_dinov3_qkvb", img_size=size, num_classes=0).eval()
    vit.load_state_dict(timm_from_dinov3(encoder.vit.state_dict()), strict=True)
    images = noise(size)
    tokens, taps = vit.forward_intermediates(images, indices=[2, 5, 8, 11], norm=False)
    features, grid = encoder.encode(images), (size // 16,) * 2
    torch.testing.assert_close(features.image, tokens[:, 0], **CLOSE)
    torch.testing.assert_close(features.patches, tokens[:, 5:].unflatten(1, grid), **CLOSE)
    for ours, theirs in zip(encoder.encode_levels(images), taps, strict=True):
        torch.testing.assert_close(ours, theirs, **CLOSE)


def timm_from_dinov3(state: dict) -> dict:
    """transformers' names of a DINOv3 to timm's: one joint matrix, with a zero bias for the key, which has none."""
    out = {"cls_token": state["embeddings.cls_token"], "reg_token": state["embeddings.register_tokens"]}
    for part in ("weight", "bias"):
        out[f"patch_embed.proj.{part}"] = state[f"embeddings.patch_embeddings.{part}"]
        out[f"norm.{part}"] = state[f"norm.{part}"]
    for number in range(12):
        theirs, ours = f"model.layer.{number}", f"blocks.{number}"
        attention = {name: state.get(f"{theirs}.attention.{name}_proj.bias") for name in "qkv"}
        attention["k"] = torch.zeros(768)
        out[f"{ours}.attn.qkv.weight"] = torch.cat([state[f"{theirs}.attention.{name}_proj.weight"] for name in "qkv"])
        out[f"{ours}.attn.q_bias"], out[f"{ours}.attn.v_bias"] = attention["q"], attention["v"]
        for number_of in "12":
            out[f"{ours}.gamma_{number_of}"] = state[f"{theirs}.layer_scale{number_of}.lambda1"]
        names = {"norm1": "norm1", "norm2": "norm2", "attention.o_proj": "attn.proj", "mlp.up_proj": "mlp.fc1", "mlp.down_proj": "mlp.fc2"}
        for name, other in names.items():
            for part in ("weight", "bias"):
                out[f"{ours}.{other}.{part}"] = state[f"{theirs}.{name}.{part}"]
    return out


@torch.inference_mode()
def test_chexfound_equals_transformers(shrink):
    """CheXFound's features and taps are those of transformers' DINOv2 with registers and SwiGLU, hidden 2736, four blocks, 512 pixels."""
    from timm.models import vision_transformer
    from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

    shrink(vision_transformer, "VisionTransformer", depth=4)
    encoder = loaded("chexfound")
    for part in encoder.vit.parameters():
        part.add_(torch.randn_like(part) * 0.02)
    config = Dinov2WithRegistersConfig(hidden_size=1024, num_hidden_layers=4, num_attention_heads=16, mlp_ratio=4, use_swiglu_ffn=True,
                                       num_register_tokens=4, image_size=512, patch_size=16, layer_norm_eps=1e-6)  # fmt: skip
    model = Dinov2WithRegistersModel(config).eval()
    model.load_state_dict(dinov2_from_timm(encoder.vit.state_dict(), model.state_dict()), strict=True)
    images = noise(512)
    out, features = model(images, output_hidden_states=True), encoder.encode(images)
    tokens = out.last_hidden_state
    torch.testing.assert_close(features.image, tokens[:, 0], **CLOSE)
    torch.testing.assert_close(features.patches.flatten(1, 2), tokens[:, 5:], **CLOSE)
    for ours, theirs in zip(tapped(encoder, images), out.hidden_states[1:], strict=True):
        same_tap(ours, theirs[:, 5:])


def dinov2_from_timm(state: dict, wanted: dict) -> dict:
    """timm's tensors under the names `wanted` by transformers' DINOv2 with registers; the class token keeps its position."""
    names = {"embeddings.cls_token": "cls_token", "embeddings.register_tokens": "reg_token", "layernorm": "norm",
             "embeddings.patch_embeddings.projection": "patch_embed.proj", "encoder.layer": "blocks",
             "attention.output.dense": "attn.proj", "mlp.weights_in": "mlp.fc1", "mlp.weights_out": "mlp.fc2",
             "layer_scale1.lambda1": "ls1.gamma", "layer_scale2.lambda1": "ls2.gamma"}  # fmt: skip
    out = {}
    for name in wanted:
        if name == "embeddings.position_embeddings":
            out[name] = torch.cat([torch.zeros(1, 1, 1024), state["pos_embed"]], dim=1)
        elif name == "embeddings.mask_token":
            out[name] = torch.zeros_like(wanted[name])
        elif joint := re.fullmatch(r"encoder\.layer\.(\d+)\.attention\.attention\.(query|key|value)\.(weight|bias)", name):
            matrices = dict(zip(("query", "key", "value"), state[f"blocks.{joint[1]}.attn.qkv.{joint[3]}"].chunk(3), strict=True))
            out[name] = matrices[joint[2]]
        else:
            ours = name
            for theirs, other in names.items():
                ours = ours.replace(theirs, other)
            out[name] = state[ours]
    return out


@torch.inference_mode()
def test_rad_dino_poolings():
    """RAD-DINO's poolings are the class token, the mean of all patch tokens, and the two side by side."""
    images = noise(112)
    cls, mean, both = (loaded("rad_dino", image_size=112, pooling=how).encode(images) for how in ("cls", "mean", "cls_mean"))
    torch.testing.assert_close(mean.image, cls.patches.mean(dim=(1, 2)), **CLOSE)
    torch.testing.assert_close(both.image, torch.cat([cls.image, mean.image], dim=1), **CLOSE)
    assert find("rad_dino").card_for(find("rad_dino").values({"pooling": "cls_mean"})).dim == 1536


@torch.inference_mode()
def test_dinov2_poolings(shrink):
    """DINOv2's `cls_mean` is the class token beside the mean of the patch tokens, as its own probe joins them. Two blocks."""
    import timm

    shrink(timm, "create_model", depth=2, embed_dim=96, num_heads=3)
    images = noise(518)
    cls, both = (loaded("dinov2_vitg14", pooling=how).encode(images) for how in ("cls", "cls_mean"))
    torch.testing.assert_close(both.image, torch.cat([cls.image, cls.patches.mean(dim=(1, 2))], dim=1), **CLOSE)
    assert find("dinov2_vitg14").card_for({"pooling": "cls_mean"}).dim == 3072


# ---------------------------------------------------------------- preprocessing


IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def rgb(frame: np.ndarray) -> Image.Image:
    return Image.fromarray(np.round(frame * 255).astype(np.uint8)).convert("RGB")


def vit_processor(side):
    """The hub's preprocessor of I-JEPA: a ViTImageProcessor of which only the size is set."""
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    processor = ViTImageProcessorPil(size={"height": side, "width": side})
    return lambda frame: np.asarray(processor(rgb(frame), return_tensors="np")["pixel_values"][0])


def dinov3_processor(frame):
    from transformers import DINOv3ViTImageProcessor

    return DINOv3ViTImageProcessor()(rgb(frame), return_tensors="pt")["pixel_values"][0].numpy()


def torchvision(*steps, mean, std, stretch=False):
    """The steps on a PIL picture, to [0, 1], perhaps from minimum to maximum, then mean and standard deviation."""

    def transform(frame):
        from torchvision import transforms

        bicubic = transforms.InterpolationMode.BICUBIC
        kinds = {"squash": lambda side: transforms.Resize((side, side)), "shortest": transforms.Resize, "crop": transforms.CenterCrop,
                 "bicubic": lambda side: transforms.Resize(side, interpolation=bicubic), "grey": transforms.Grayscale}  # fmt: skip
        tensor = transforms.ToTensor()(transforms.Compose([kinds[kind](value) for kind, value in steps])(rgb(frame)))
        if stretch:
            tensor = (tensor - tensor.min()) / (tensor.max() - tensor.min())
        return transforms.Normalize(mean=mean, std=std)(tensor).numpy()

    return transform


EVA, MRM, TEX = (
    {"mean": [0.49185243] * 3, "std": [0.28509309] * 3},
    {"mean": [0.4978], "std": [0.2449]},
    {"mean": [0.499] * 3, "std": [0.291] * 3},
)
RELEASES = [
    ("ijepa_vith16_448", {"normalisation": "half"}, vit_processor(448)),
    ("ijepa_vith14_224", {"normalisation": "half"}, vit_processor(224)),
    ("ijepa_vith14_224", {}, torchvision(("squash", 224), **IMAGENET)),
    ("ijepa_vith16_448", {"resize": "crop"}, torchvision(("shortest", 448), ("crop", 448), **IMAGENET)),
    ("texjepa_300", {"resize": "crop"}, torchvision(("shortest", 256), ("crop", 224), **TEX)),
    ("texjepa_300", {}, torchvision(("squash", 224), **TEX)),
    ("radjepa_released", {}, torchvision(("squash", 224), **IMAGENET)),
    ("radjepa_released", {"normalisation": "half", "image_size": 518}, vit_processor(518)),
    ("mrm", {}, torchvision(("shortest", 224), ("crop", 224), ("grey", 3), **MRM)),
    ("dinov3_vitb16", {}, dinov3_processor),
    ("chexfound", {}, torchvision(("bicubic", 512), ("crop", 512), **IMAGENET)),
]


@pytest.mark.parametrize(
    "name, options, theirs", RELEASES, ids=[f"{name}-{'-'.join(map(str, options.values()))}" for name, options, _ in RELEASES]
)
def test_preprocess_equals_the_release(name, options, theirs, radiographs):
    """Each preprocess is the release's own evaluation transform, to the rounding of 8-bit steps that ours does not do.

    Bounds as in test_parity.py: half a grey level on average, two nearly everywhere, four at a burnt-in letter's edge.
    """
    compare(find(name)(None, options), theirs, radiographs)


LOW_CONTRAST = [
    ("eva_x_base", {}, torchvision(("bicubic", 256), ("crop", 224), **EVA)),
    ("chexfound", {}, torchvision(("bicubic", 512), ("crop", 512), **IMAGENET)),
    ("chexfound", {"intensity": "stretched"}, torchvision(("bicubic", 512), ("crop", 512), stretch=True, **IMAGENET)),
]


@pytest.mark.parametrize("name, options, theirs", LOW_CONTRAST, ids=["eva_x_base", "chexfound", "chexfound-stretched"])
def test_preprocess_equals_the_release_at_low_contrast(name, options, theirs, radiographs):
    """The same where the bicubic cannot overshoot, and a stretch of the range shows: for frames between two greys.

    Levels are those of the file: a stretch from the levels that the crop spans (127 at most) to 255 enlarges each rounding as much.
    At full contrast EVA-X's reduction to a third overshoots by five levels at a burnt-in letter, which 8 bits cut off.
    """
    frames = [np.round(64 + 127 * frame) / np.float32(255) for frame in radiographs]
    for frame in frames:
        compare(find(name)(None, options), theirs, [frame], levels=spanned(name, frame) if options else 255)


def spanned(name: str, frame: np.ndarray) -> float:
    """Grey levels of the file that the prepared picture spans before any stretch."""
    encoder = find(name)(None)
    return 255 * float(np.ptp(encoder.preprocess(frame)[0])) * np.broadcast_to(encoder.card.std, 3)[0]


def compare(encoder, theirs, frames, levels: float = 255) -> None:
    std = np.broadcast_to(encoder.card.std, 3)[:, None, None]
    for frame in frames:
        ours, other = encoder.preprocess(frame), theirs(frame)
        assert ours.shape == other.shape
        off = np.abs(ours - other) * std * levels
        found = off.mean(), np.percentile(off, 99.9), off.max()
        assert np.all(np.array(found) <= (0.6, 2.0, 4.0)), "mean {:.2f}, 99.9 % within {:.2f}, all within {:.2f}".format(*found)
