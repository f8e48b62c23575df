"""The wrappers against somebody else's code: the same random weights, or the same picture, must give the same numbers."""

import numpy as np
import pytest
import torch
from PIL import Image

from encoders.rad_dino import RadDino
from radbench.encoder import find

CLOSE = {"rtol": 0, "atol": 1e-4}  # float32 sums in another order, features of order 1


def filled(build, state: dict) -> torch.nn.Module:
    """A network built without memory of its own, strictly filled with tensors that it shares with the other one."""
    with torch.device("meta"):
        module = build()
    module.load_state_dict(state, strict=True, assign=True)
    return module.eval()


# ---------------------------------------------------------------- networks


@torch.inference_mode()
def test_rad_dino_equals_timm(subject_of):
    """RAD-DINO's image, patch and tap features are those of timm's ViT-B/14 with the same weights at 518 pixels."""
    import timm

    subject = subject_of("rad_dino")
    state = timm_from_dinov2(subject.encoder.vit.state_dict())
    vit = filled(lambda: timm.create_model("vit_base_patch14_dinov2", img_size=518, num_classes=0), state)
    tokens, taps = vit.forward_intermediates(subject.image, indices=[2, 5, 8, 11], norm=False, output_fmt="NCHW")
    torch.testing.assert_close(subject.single.image, tokens[:, 0], **CLOSE)
    torch.testing.assert_close(subject.single.patches, tokens[:, 1:].unflatten(1, (37, 37)), **CLOSE)
    for ours, theirs in zip(subject.levels, taps, strict=True):
        torch.testing.assert_close(ours[:1], theirs, **CLOSE)


@torch.inference_mode()
def test_dinov2_giant_equals_transformers(monkeypatch, tmp_path):
    """A file of the giant's shape, narrow but 40 blocks deep, gives the features and taps of transformers' Dinov2Model (SwiGLU)."""
    import timm
    from safetensors.torch import save_file
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    config = Dinov2Config(hidden_size=48, num_hidden_layers=40, num_attention_heads=3, image_size=70, use_swiglu_ffn=True,
                          layer_norm_eps=1e-6)  # fmt: skip
    theirs = Dinov2Model(config).eval()
    for name, value in theirs.named_parameters():
        value.normal_(1.0 if "lambda" in name or name.endswith(("norm1.weight", "norm2.weight", "layernorm.weight")) else 0.0, 0.2)
    state = timm_from_dinov2(theirs.state_dict(), 40, ("weights_in", "weights_out"))
    save_file({name: value.contiguous() for name, value in state.items()}, tmp_path / "model.safetensors")
    real, narrow = timm.create_model, {"img_size": 70, "embed_dim": 48, "num_heads": 3}
    monkeypatch.setattr(timm, "create_model", lambda name, **options: real(name, **options | narrow))
    encoder = find("dinov2_vitg14")(tmp_path / "model.safetensors")
    encoder.load("cpu")
    images = torch.randn(2, 3, 70, 70)
    out, features = theirs(images, output_hidden_states=True), encoder.encode(images)
    torch.testing.assert_close(features.image, out.pooler_output, **CLOSE)
    torch.testing.assert_close(features.patches.flatten(1, 2), out.last_hidden_state[:, 1:], **CLOSE)
    for ours, block in zip(encoder.encode_levels(images), encoder.card.levels, strict=True):
        other = out.hidden_states[block + 1][:, 1:]
        torch.testing.assert_close(ours.flatten(2).transpose(1, 2), other, rtol=1e-5, atol=1e-4 * float(other.abs().max()))


def timm_from_dinov2(state: dict, depth: int = 12, mlp: tuple[str, str] = ("fc1", "fc2")) -> dict:
    """transformers' names of a DINOv2 to timm's; query, key and value become one matrix."""
    out = {"cls_token": state["embeddings.cls_token"], "pos_embed": state["embeddings.position_embeddings"]}
    for part in ("weight", "bias"):
        out[f"patch_embed.proj.{part}"] = state[f"embeddings.patch_embeddings.projection.{part}"]
        out[f"norm.{part}"] = state[f"layernorm.{part}"]
        for number in range(depth):
            theirs, ours = f"encoder.layer.{number}", f"blocks.{number}"
            qkv = [state[f"{theirs}.attention.attention.{name}.{part}"] for name in ("query", "key", "value")]
            out[f"{ours}.attn.qkv.{part}"] = torch.cat(qkv)
            out[f"{ours}.attn.proj.{part}"] = state[f"{theirs}.attention.output.dense.{part}"]
            for name in ("norm1", "norm2"):
                out[f"{ours}.{name}.{part}"] = state[f"{theirs}.{name}.{part}"]
            for name, own in zip(mlp, ("fc1", "fc2"), strict=True):
                out[f"{ours}.mlp.{own}.{part}"] = state[f"{theirs}.mlp.{name}.{part}"]
    for number in range(depth):
        out[f"blocks.{number}.ls1.gamma"] = state[f"encoder.layer.{number}.layer_scale1.lambda1"]
        out[f"blocks.{number}.ls2.gamma"] = state[f"encoder.layer.{number}.layer_scale2.lambda1"]
    return out


@torch.inference_mode()
def test_clip_equals_transformers(subject_of):
    """CLIP's image, patch and tap features are those of transformers' CLIPVisionModel with the same weights (QuickGELU)."""
    from transformers import CLIPVisionConfig, CLIPVisionModel

    subject = subject_of("clip_vitl14_224")
    config = CLIPVisionConfig(hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, patch_size=14,
                              hidden_act="quick_gelu")  # fmt: skip
    with torch.device("meta"):
        vit = CLIPVisionModel(config)
    prefix = "vision_model." if "vision_model.post_layernorm.weight" in vit.state_dict() else ""
    state = {prefix + name: value for name, value in transformers_from_clip(subject.encoder.vit.state_dict()).items()}
    vit.load_state_dict(state, strict=True, assign=True)
    embeddings = vit.vision_model.embeddings if prefix else vit.embeddings
    embeddings.position_ids = torch.arange(257)[None]  # a buffer that is in no state dict
    out = vit.eval()(subject.image, output_hidden_states=True)
    norm = vit.vision_model.post_layernorm if prefix else vit.post_layernorm
    torch.testing.assert_close(subject.single.image, out.pooler_output, **CLOSE)
    torch.testing.assert_close(subject.single.patches.flatten(1, 2), norm(out.last_hidden_state[:, 1:]), **CLOSE)
    for ours, block in zip(subject.levels, (5, 11, 17, 23), strict=True):
        torch.testing.assert_close(ours[:1].flatten(2).transpose(1, 2), out.hidden_states[block + 1][:, 1:], **CLOSE)


def transformers_from_clip(state: dict) -> dict:
    """open_clip's names of an image tower to transformers'; the joint matrix is cut into query, key and value."""
    out = {"embeddings.class_embedding": state["class_embedding"],
           "embeddings.position_embedding.weight": state["positional_embedding"],
           "embeddings.patch_embedding.weight": state["conv1.weight"]}  # fmt: skip
    for part in ("weight", "bias"):
        out[f"pre_layrnorm.{part}"], out[f"post_layernorm.{part}"] = state[f"ln_pre.{part}"], state[f"ln_post.{part}"]
        for number in range(24):
            theirs, ours = f"encoder.layers.{number}", f"transformer.resblocks.{number}"
            joint = state[f"{ours}.attn.in_proj_{part}"].chunk(3)
            for name, value in zip(("q_proj", "k_proj", "v_proj"), joint, strict=True):
                out[f"{theirs}.self_attn.{name}.{part}"] = value
            out[f"{theirs}.self_attn.out_proj.{part}"] = state[f"{ours}.attn.out_proj.{part}"]
            same = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
            for name, other in same.items():
                out[f"{theirs}.{name}.{part}"] = state[f"{ours}.{other}.{part}"]
    return out


@torch.inference_mode()
def test_radjepa_trunk_equals_timm(subject_of):
    """The trunk that is pretrained here is timm's ViT without a class token: same keys at full size, same numbers."""
    import timm

    from radbench.jepa.vit import ViTShape, build_vit, encode_taps, encode_tokens

    # not "vit_base_patch14_dinov2": create_model drops init_values=None, so that network keeps its LayerScale
    plain = {"patch_size": 14, "class_token": False, "global_pool": "avg", "fc_norm": False, "num_classes": 0}
    with torch.device("meta"):
        full = timm.create_model("vit_base_patch16_224", img_size=224, **plain).state_dict()
    ours = subject_of("radjepa").encoder.trunk.vit.state_dict()
    assert {name: value.shape for name, value in ours.items()} == {name: value.shape for name, value in full.items()}
    vit = build_vit(ViTShape(image_size=112, width=192, depth=4, heads=3), seed=0).eval()
    small = {"img_size": 112, "embed_dim": 192, "depth": 4, "num_heads": 3}
    other = filled(lambda: timm.create_model("vit_base_patch16_224", **small, **plain), vit.state_dict())
    images = torch.randn(2, 3, 112, 112, generator=torch.Generator().manual_seed(1))
    tokens = encode_tokens(vit, images)
    torch.testing.assert_close(tokens, other.forward_features(images), **CLOSE)
    torch.testing.assert_close(tokens.mean(1), other(images), **CLOSE)
    taps = other.forward_intermediates(images, indices=[0, 1, 2, 3], norm=False, intermediates_only=True)
    for ours, theirs in zip(encode_taps(vit, images, (0, 1, 2, 3), 8), taps, strict=True):
        torch.testing.assert_close(ours, theirs, **CLOSE)


@pytest.fixture(scope="module")
def hi_ml_model():
    """The image model of hi-ml-multimodal as its own code builds it, with batch statistics as training would leave them."""
    pytest.importorskip("health_multimodal")
    from health_multimodal.image.model.model import ImageModel
    from health_multimodal.image.model.types import ImageEncoderType

    torch.manual_seed(0)
    model = ImageModel(img_encoder_type=ImageEncoderType.RESNET50_MULTI_IMAGE, joint_feature_size=128).eval()
    for part in model.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.8, 1.2)
            part.weight.data.uniform_(0.5, 1.0)
    return model


@torch.inference_mode()
def test_biovil_t_equals_hi_ml(hi_ml_model, hub, subject_of):
    """A checkpoint that hi-ml writes is loaded through the hub cache, and layer1 to layer4 are those of hi-ml's own code."""
    path = hub("microsoft/BiomedVLP-BioViL-T", lambda folder: torch.save(
        hi_ml_model.state_dict(), folder / "biovil_t_image_model_proj_size_128.pt"))  # fmt: skip
    encoder = find("biovil_t")(path)
    encoder.load("cpu")
    image = subject_of("biovil_t").image
    _, *layers = hi_ml_model.encoder.encoder(image, return_intermediate_layers=True)
    features, levels = encoder.encode(image), encoder.encode_levels(image)
    torch.testing.assert_close(features.image, layers[3].mean((2, 3)), **CLOSE)
    torch.testing.assert_close(features.patches.permute(0, 3, 1, 2), layers[3], **CLOSE)
    torch.testing.assert_close(levels[0], torch.nn.functional.avg_pool2d(layers[0], 4), **CLOSE)
    torch.testing.assert_close(levels[1], torch.nn.functional.avg_pool2d(layers[1], 2), **CLOSE)
    torch.testing.assert_close(levels[2], layers[2], **CLOSE)
    torch.testing.assert_close(torch.nn.functional.max_pool2d(levels[3], 2), layers[3], **CLOSE)


# ---------------------------------------------------------------- preprocessing


def eight_bit(frame: np.ndarray) -> Image.Image:
    return Image.fromarray(np.round(frame * 255).astype(np.uint8))


def rad_dino_processor(frame):
    from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil

    processor = BitImageProcessorPil(size={"shortest_edge": 518}, crop_size={"height": 518, "width": 518}, resample=3,
                                     image_mean=[0.5307] * 3, image_std=[0.2583] * 3, do_convert_rgb=True)  # fmt: skip
    return np.asarray(processor(eight_bit(frame), return_tensors="np")["pixel_values"][0])


def test_transformers_5_processors_are_two_grey_levels_from_those_of_version_4(radiographs):
    """Version 5's default processor (torchvision) and its Pillow one, which is version 4's, differ by two grey levels at most.

    Ours is held against Pillow's, with which the released encoders were published (`rad_dino_processor`). On average they differ
    by less than a hundredth of a level; the published features do not hang on the choice.
    """
    from transformers.models.bit.image_processing_bit import BitImageProcessor

    processor = BitImageProcessor(size={"shortest_edge": 518}, crop_size={"height": 518, "width": 518}, resample=3,
                                  image_mean=[0.5307] * 3, image_std=[0.2583] * 3, do_convert_rgb=True)  # fmt: skip
    for frame in radiographs:
        default = np.asarray(processor(eight_bit(frame), return_tensors="pt")["pixel_values"][0])
        levels = np.abs(default - rad_dino_processor(frame)) * 0.2583 * 255
        assert 0 < levels.max() <= 2.01 and levels.mean() < 0.02, (levels.max(), levels.mean())


def timm_transform(frame):
    from timm.data import create_transform
    from timm.models import get_pretrained_cfg

    config = get_pretrained_cfg("vit_giant_patch14_dinov2.lvd142m")
    transform = create_transform(input_size=config.input_size, interpolation=config.interpolation, mean=config.mean, std=config.std,
                                 crop_pct=config.crop_pct, crop_mode=config.crop_mode)  # fmt: skip
    return transform(eight_bit(frame).convert("RGB")).numpy()


def open_clip_transform(frame):
    from open_clip import get_pretrained_cfg, image_transform

    config = get_pretrained_cfg("ViT-L-14-quickgelu", "openai")
    return image_transform(224, is_train=False, mean=config["mean"], std=config["std"])(eight_bit(frame)).numpy()


def hi_ml_transform(frame):
    pytest.importorskip("health_multimodal")
    from health_multimodal.image.data.io import remap_to_uint8
    from health_multimodal.image.data.transforms import create_chest_xray_transform_for_inference

    transform = create_chest_xray_transform_for_inference(resize=512, center_crop_size=448)
    return transform(Image.fromarray(remap_to_uint8(frame)).convert("L")).numpy()


@pytest.mark.parametrize("name, theirs", [("rad_dino", rad_dino_processor), ("dinov2_vitg14", timm_transform),
                                          ("clip_vitl14_224", open_clip_transform), ("biovil_t", hi_ml_transform)])  # fmt: skip
def test_preprocess_equals_the_library(name, theirs, radiographs):
    """Each preprocess is the library's own evaluation transform, to the rounding of 8-bit steps that ours does not do.

    The libraries round to grey levels after each pass of the resize, and hi-ml also truncates: about half a level on
    average and at most two. Only where a burnt-in letter or a collimator edge is both next to black and white does the
    bicubic overshoot, which 8 bits cut off after the first pass and we after the second, make up to four.
    """
    encoder = find(name)(None)  # preprocessing needs no network
    std = np.broadcast_to(1.0 if encoder.card.std is None else encoder.card.std, 3)[:, None, None]
    for frame in radiographs:
        ours, other = encoder.preprocess(frame), theirs(frame)
        assert ours.shape == other.shape
        levels = np.abs(ours - other) * std * 255
        found = levels.mean(), np.percentile(levels, 99.9), levels.max()
        assert np.all(np.array(found) <= (0.6, 2.0, 4.0)), "mean {:.2f}, 99.9 % within {:.2f}, all within {:.2f}".format(*found)


def test_options_of_rad_dino_change_the_input():
    """RAD-DINO at 224 pixels, as some published code ran it, is an option of the configuration."""
    assert RadDino(None, {"image_size": 224}).preprocess(np.zeros((300, 200), np.float32)).shape == (3, 224, 224)
