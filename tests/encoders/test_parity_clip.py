"""CLIP's relatives, the classifiers and the generic wrappers against somebody else's code: same weights or same picture, same numbers."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from radbench.encoder import find
from tests.encoders.conftest import left_by, loaded, same_levels
from tests.encoders.golden_official import make

CLOSE = {"rtol": 0, "atol": 1e-4}  # float32 sums in another order, features of order 1


def filled(build, state: dict) -> torch.nn.Module:
    """A network built without memory of its own, strictly filled with tensors that it shares with the other one."""
    with torch.device("meta"):
        module = build()
    module.load_state_dict(state, strict=True, assign=True)
    return module.eval()


# ---------------------------------------------------------------- networks against the release's own code, as recorded


def record(name: str) -> dict:
    found = json.loads((make.HERE / f"{name}.json").read_text())
    assert found["seed"] == make.SEED and found["picture_sha256"] == make.digest(make.picture())  # else the numbers are of other inputs
    return found


def equal(ours: torch.Tensor, wanted: dict) -> None:
    """All recorded numbers to 1e-4, and the length of the whole."""
    found = make.values(ours)
    assert ours.numel() == np.prod(wanted["shape"])
    np.testing.assert_allclose(found["slice"], wanted["slice"], rtol=0, atol=1e-4)
    assert found["norm"] == pytest.approx(wanted["norm"], rel=1e-5)


def tensors(shapes: dict) -> dict:
    return {name: torch.from_numpy(value) for name, value in make.fill(shapes).items()}


@torch.inference_mode()
def test_chexzero_equals_its_own_code(tmp_path, monkeypatch):
    """CheXzero's image and patch features are those of the release's own class (two layers) on the recorded input."""
    import open_clip

    wanted, shape = record("chexzero"), open_clip.get_model_config("ViT-B-32-quickgelu")
    shape["vision_cfg"]["layers"] = 2
    monkeypatch.setattr(open_clip, "get_model_config", lambda name: shape)
    torch.save(tensors(wanted["shapes"]), tmp_path / "chexzero.pt")
    features = loaded("chexzero", tmp_path / "chexzero.pt").encode(torch.from_numpy(make.noise(1, 3, 224, 224)))
    equal(features.image, wanted["image"])
    equal(features.patches, wanted["patches"])


def test_chexzero_preprocess_equals_its_own_code():
    """CheXzero's pad, normalise and resize give what the release's own code makes of the recorded picture, to its rounding to 8 bits."""
    wanted = record("chexzero")["preprocessed"]
    found = find("chexzero")(None).preprocess(make.picture().astype(np.float32) / 255)[:, ::16, ::16]
    assert list(found.shape) == wanted["shape"]
    np.testing.assert_allclose(make.values(found)["slice"], wanted["slice"], rtol=0, atol=1.5 / 83.43944)


@torch.inference_mode()
@pytest.mark.parametrize("pooling, key", [("projector", "image"), ("mean", "mean")])
def test_ark_plus_equals_its_own_code(tmp_path, monkeypatch, pooling, key):
    """Ark+'s features before and after the projector, and its tokens, are those of the release's class under timm 0.5.4 (narrower)."""
    import timm

    wanted, real = record("ark_plus"), timm.create_model
    small = {"embed_dim": 24, "depths": (2, 2, 2, 2), "num_heads": (1, 2, 4, 8)}
    monkeypatch.setattr(timm, "create_model", lambda name, **options: real(name, **(options | small)))
    torch.save({"teacher": tensors(wanted["shapes"])}, tmp_path / "ark.pt")
    encoder, images = loaded("ark_plus", tmp_path / "ark.pt", pooling=pooling), torch.from_numpy(make.noise(1, 3, 768, 768))
    features = encoder.encode(images)
    equal(features.image, wanted[key])
    equal(features.patches, wanted["patches"])
    taps = left_by(encoder.net["swin"], [f"layers.{number}" for number in range(4)], lambda: encoder.encode(images))
    same_levels(encoder.encode_levels(images), [tap.permute(0, 3, 1, 2) for tap in taps])


@torch.inference_mode()
@pytest.mark.parametrize("pooling, key", [("projection", "image"), ("mean", "mean")])
def test_medimageinsight_equals_its_own_code(tmp_path, monkeypatch, pooling, key):
    """MedImageInsight's features before and after the projection, and its map, are those of the release's DaViT (narrower)."""
    import timm
    from safetensors.torch import save_file

    wanted, real = record("medimageinsight"), timm.create_model
    small = {"embed_dims": (16, 32, 64, 128), "depths": (1, 1, 2, 1), "num_heads": (2, 4, 8, 16)}
    monkeypatch.setattr(timm, "create_model", lambda name, **options: real(name, **(options | small)))
    save_file(tensors(wanted["shapes"]), tmp_path / "m.safetensors")
    encoder, images = loaded("medimageinsight", tmp_path / "m.safetensors", pooling=pooling), torch.from_numpy(make.noise(1, 3, 480, 480))
    features = encoder.encode(images)
    equal(features.image, wanted[key])
    equal(features.patches, wanted["patches"])
    taps = left_by(encoder.net["davit"], [f"stages.{number}" for number in range(4)], lambda: encoder.encode(images))
    same_levels(encoder.encode_levels(images), taps)


@torch.inference_mode()
def test_xrv_equals_its_own_code(tmp_path, subject_of):
    """DenseNet-121's image and patch features are those that torchxrayvision's own network gave, under a state dict with its names."""
    wanted, net = record("torchxrayvision_densenet121"), subject_of("torchxrayvision_densenet121").encoder.net
    shapes = {name: tuple(value.shape) for name, value in net.state_dict().items() if not name.endswith("num_batches_tracked")}
    state = tensors(shapes | {"classifier.weight": (18, 1024), "classifier.bias": (18,)})
    counts = {name: torch.tensor(0) for name in net.state_dict() if name.endswith("num_batches_tracked")}
    torch.save(state | counts, tmp_path / "xrv.pt")
    image = torch.from_numpy(1024 * make.noise(1, 1, 224, 224).clip(-1, 1))
    features = loaded("torchxrayvision_densenet121", tmp_path / "xrv.pt").encode(image)
    equal(features.image, wanted["image"])
    equal(features.patches.permute(0, 3, 1, 2), wanted["patches"])


def test_xrv_preprocess_equals_its_own_code():
    """Centre square, stretch and resize give what torchxrayvision's own transforms made of the recorded picture."""
    wanted = record("torchxrayvision_densenet121")["preprocessed"]
    found = find("torchxrayvision_densenet121")(None).preprocess(make.picture().astype(np.float32) / 255)
    np.testing.assert_allclose(make.values(found[:, ::16, ::16])["slice"], wanted["slice"], rtol=0, atol=1e-2)  # of 2048


@pytest.mark.parametrize("shape", [(1000, 800), (701, 900), (130, 150)])
def test_xrv_resizes_as_scikit_image(shape):
    """Larger, odd and smaller images are cropped and resized as torchxrayvision's two transforms do with scikit-image, rim included."""
    skimage = pytest.importorskip("skimage.transform")
    frame = np.random.default_rng(0).random(shape, dtype=np.float32)
    side = min(shape)
    top, left = shape[0] // 2 - side // 2, shape[1] // 2 - side // 2
    square = ((2 * frame - 1) * 1024)[None, top : top + side, left : left + side]
    wanted = skimage.resize(square, (1, 224, 224), mode="constant", preserve_range=True)
    np.testing.assert_allclose(find("torchxrayvision_densenet121")(None).preprocess(frame), wanted, rtol=0, atol=1e-2)  # of 2048


@torch.inference_mode()
def test_xrv_equals_the_package(subject_of, radiographs):
    """Where torchxrayvision is installed: its own network and transforms, on all pixels and all four dense blocks."""
    xrv = pytest.importorskip("torchxrayvision")
    from torchvision.transforms import Compose

    subject = subject_of("torchxrayvision_densenet121")
    theirs = xrv.models.DenseNet().eval()
    missing = theirs.load_state_dict(subject.encoder.net.state_dict(), strict=False)
    assert not missing.unexpected_keys and set(missing.missing_keys) == {"classifier.weight", "classifier.bias"}
    torch.testing.assert_close(subject.single.image, theirs.features2(subject.image), **CLOSE)
    blocks = [f"features.denseblock{number}" for number in (1, 2, 3, 4)]
    same_levels(subject.single_levels, left_by(theirs, blocks, lambda: theirs.features2(subject.image)))
    transform = Compose([xrv.datasets.XRayCenterCrop(), xrv.datasets.XRayResizer(224)])
    for frame in radiographs:
        wanted = transform(xrv.utils.normalize(np.round(frame * 255), 255)[None])
        np.testing.assert_allclose(subject.encoder.preprocess(frame), wanted, rtol=0, atol=1e-2)  # of 2048


# ---------------------------------------------------------------- networks against another library


@torch.inference_mode()
def test_chexzero_equals_transformers(subject_of):
    """CheXzero's image, patch and tap features at full depth are those of transformers' CLIP ViT-B/32 (QuickGELU) with its weights."""
    from transformers import CLIPVisionConfig, CLIPVisionModel

    subject = subject_of("chexzero")
    config = CLIPVisionConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, patch_size=32,
                              hidden_act="quick_gelu")  # fmt: skip
    theirs = CLIPVisionModel(config).eval()
    state, mine = theirs.state_dict(), subject.encoder.vit.state_dict()
    for name in state:  # each of their tensors looked up under open_clip's name; nothing of the wrapper's own translation is used
        state[name] = openai_tensor(name.removeprefix("vision_model."), mine)
    theirs.load_state_dict(state)
    out = theirs(subject.image, output_hidden_states=True)
    torch.testing.assert_close(subject.single.image, out.pooler_output, **CLOSE)
    norm = getattr(theirs, "vision_model", theirs).post_layernorm
    torch.testing.assert_close(subject.single.patches.flatten(1, 2), norm(out.last_hidden_state[:, 1:]), **CLOSE)
    for ours, block in zip(subject.levels, (2, 5, 8, 11), strict=True):
        torch.testing.assert_close(ours[:1].flatten(2).transpose(1, 2), out.hidden_states[block + 1][:, 1:], **CLOSE)


def openai_tensor(name: str, state: dict) -> torch.Tensor:
    """The tensor of OpenAI's image tower that transformers calls `name`."""
    top = {"embeddings.class_embedding": "class_embedding", "embeddings.patch_embedding.weight": "conv1.weight",
           "embeddings.position_embedding.weight": "positional_embedding"}  # fmt: skip
    if name in top:
        return state[top[name]]
    *parts, kind = name.split(".")
    if parts[0] in ("pre_layrnorm", "post_layernorm"):
        return state[f"{'ln_pre' if parts[0].startswith('pre') else 'ln_post'}.{kind}"]
    block, rest = f"transformer.resblocks.{parts[2]}", ".".join(parts[3:])
    if rest.endswith(("q_proj", "k_proj", "v_proj")):
        return state[f"{block}.attn.in_proj_{kind}"].chunk(3)["qkv".index(rest[-6])]
    names = {
        "self_attn.out_proj": "attn.out_proj",
        "layer_norm1": "ln_1",
        "layer_norm2": "ln_2",
        "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
    }
    return state[f"{block}.{names[rest]}.{kind}"]


@torch.inference_mode()
def test_biomedclip_equals_transformers(subject_of):
    """BiomedCLIP's image, patch and tap features are those of transformers' ViT-B/16 (GELU, epsilon 1e-6) with the same weights."""
    from transformers import ViTConfig, ViTModel

    subject = subject_of("biomedclip")
    vit = ViTModel(ViTConfig(layer_norm_eps=1e-6), add_pooling_layer=False)
    mine = subject.encoder.vit.state_dict()
    theirs = filled(lambda: ViTModel(ViTConfig(layer_norm_eps=1e-6), add_pooling_layer=False),
                    {name: timm_tensor(name, mine) for name in vit.state_dict()})  # fmt: skip
    out = theirs(subject.image, output_hidden_states=True)
    torch.testing.assert_close(subject.single.image, out.last_hidden_state[:, 0], **CLOSE)
    torch.testing.assert_close(subject.single.patches.flatten(1, 2), out.last_hidden_state[:, 1:], **CLOSE)
    for ours, block in zip(subject.levels, (2, 5, 8, 11), strict=True):
        torch.testing.assert_close(ours[:1].flatten(2).transpose(1, 2), out.hidden_states[block + 1][:, 1:], **CLOSE)


def timm_tensor(name: str, state: dict) -> torch.Tensor:
    """The tensor of timm's ViT that transformers (of any version) calls `name`."""
    top = {"embeddings.cls_token": "cls_token", "embeddings.position_embeddings": "pos_embed"}
    if name in top:
        return state[top[name]]
    *parts, kind = name.split(".")
    if parts[0] in ("embeddings", "layernorm"):
        return state[f"{'norm' if parts[0] == 'layernorm' else 'patch_embed.proj'}.{kind}"]
    number = next(part for part in parts if part.isdigit())
    block, rest = f"blocks.{number}", ".".join(parts[parts.index(number) + 1 :])
    for letter, names in (("q", ("query", "q_proj")), ("k", ("key", "k_proj")), ("v", ("value", "v_proj"))):
        if rest.endswith(names):
            return state[f"{block}.attn.qkv.{kind}"].chunk(3)["qkv".index(letter)]
    names = {"layernorm_before": "norm1", "layernorm_after": "norm2", "attention.output.dense": "attn.proj",
             "attention.o_proj": "attn.proj", "intermediate.dense": "mlp.fc1", "output.dense": "mlp.fc2",
             "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}  # fmt: skip
    return state[f"{block}.{names[rest]}.{kind}"]


@torch.inference_mode()
@pytest.mark.parametrize("name", ["siglip2_so400m_384", "medsiglip_448"])
def test_siglip_equals_timm(monkeypatch, name):
    """SigLIP's pooled, patch and tap features are those of timm's SigLIP ViT with the same weights (27 layers of width 144, float64)."""
    import timm
    import transformers

    small = {"hidden_size": 144, "intermediate_size": 538, "num_attention_heads": 2}
    real = transformers.SiglipVisionConfig
    monkeypatch.setattr(transformers, "SiglipVisionConfig", lambda **options: real(**(options | small)))
    torch.manual_seed(0)
    encoder, mean = loaded(name), find(name)(None, {"pooling": "mean"})
    for value in encoder.vit.parameters():  # away from zero, where biases and the probe would not show
        value.add_(0.05 * torch.randn_like(value))
    mean.vit, mine = encoder.vit.double(), encoder.vit.state_dict()  # float32 would differ by its sums: 27 layers of such weights
    side = encoder.card.image_size
    # timm's own default is the exact GELU, which moves the pooled features by 1e-3; the release trained with the approximation
    narrow = {"embed_dim": 144, "num_heads": 2, "mlp_ratio": 538 / 144, "act_layer": "gelu_tanh"}
    theirs = timm.create_model("vit_so400m_patch14_siglip_384", img_size=side, **narrow).double().eval()
    state = {other: siglip_tensor(other, mine).reshape(value.shape) for other, value in theirs.state_dict().items()}
    theirs.load_state_dict(state)
    images = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(1)).double()
    tokens, taps = theirs.forward_intermediates(images, indices=[6, 13, 20, 26], norm=False, output_fmt="NCHW")
    features = encoder.encode(images)
    torch.testing.assert_close(features.image, theirs(images), **CLOSE)
    torch.testing.assert_close(features.patches.flatten(1, 2), tokens, **CLOSE)
    torch.testing.assert_close(mean.encode(images).image, tokens.mean(1), **CLOSE)
    for ours, other in zip(encoder.encode_levels(images), taps, strict=True):
        torch.testing.assert_close(ours, other, **CLOSE)


def siglip_tensor(name: str, state: dict) -> torch.Tensor:
    """The tensor of transformers' SigLIP that timm calls `name`."""
    top = {"pos_embed": "embeddings.position_embedding.weight", "attn_pool.latent": "head.probe"}
    if name in top:
        return state[top[name]]
    *parts, kind = name.split(".")
    if parts[0] == "patch_embed":
        return state[f"embeddings.patch_embedding.{kind}"]
    if parts[0] == "norm":
        return state[f"post_layernorm.{kind}"]
    if parts[0] == "attn_pool":
        rest = ".".join(parts[1:])
        if rest in ("q", "kv"):
            query, *others = state[f"head.attention.in_proj_{kind}"].chunk(3)
            return query if rest == "q" else torch.cat(others)
        names = {"proj": "attention.out_proj", "norm": "layernorm", "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}
        return state[f"head.{names[rest]}.{kind}"]
    block, rest = f"encoder.layers.{parts[1]}", ".".join(parts[2:])
    if rest == "attn.qkv":
        return torch.cat([state[f"{block}.self_attn.{letter}_proj.{kind}"] for letter in "qkv"])
    names = {"attn.proj": "self_attn.out_proj", "norm1": "layer_norm1", "norm2": "layer_norm2", "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}
    return state[f"{block}.{names[rest]}.{kind}"]


@torch.inference_mode()
def test_biovil_equals_hi_ml(hub):
    """A BioViL checkpoint that hi-ml writes is loaded through the hub cache; layer1 to layer4 and the pooled vector are hi-ml's own."""
    pytest.importorskip("health_multimodal")
    from health_multimodal.image.model.model import ImageModel
    from health_multimodal.image.model.types import ImageEncoderType

    torch.manual_seed(0)
    theirs = ImageModel(img_encoder_type=ImageEncoderType.RESNET50, joint_feature_size=128).eval()
    for part in theirs.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.8, 1.2)
    path = hub("microsoft/BiomedVLP-CXR-BERT-specialized",
               lambda folder: torch.save(theirs.state_dict(), folder / "biovil_image_resnet50_proj_size_128.pt"))  # fmt: skip
    encoder, images = loaded("biovil", path), torch.rand(1, 3, 480, 480, generator=torch.Generator().manual_seed(1))
    _, *layers = theirs.encoder.encoder(images, return_intermediate_layers=True)
    features, levels = encoder.encode(images), encoder.encode_levels(images)
    assert features.patches.shape == (1, 15, 15, 2048)
    torch.testing.assert_close(features.image, theirs(images).img_embedding, **CLOSE)
    torch.testing.assert_close(features.patches.permute(0, 3, 1, 2), layers[3], **CLOSE)
    torch.testing.assert_close(levels[0], torch.nn.functional.avg_pool2d(layers[0], 4), **CLOSE)
    torch.testing.assert_close(levels[2], layers[2], **CLOSE)


# ---------------------------------------------------------------- preprocessing


def eight_bit(frame: np.ndarray) -> Image.Image:
    return Image.fromarray(np.round(frame * 255).astype(np.uint8))


def open_clip_transform(architecture, side, mean, std):
    def transform(frame):
        from open_clip import image_transform

        return image_transform(side, is_train=False, mean=mean, std=std)(eight_bit(frame)).numpy()

    return transform


def hi_ml_transform(frame):
    pytest.importorskip("health_multimodal")
    from health_multimodal.image.data.io import remap_to_uint8
    from health_multimodal.image.data.transforms import create_chest_xray_transform_for_inference

    transform = create_chest_xray_transform_for_inference(resize=512, center_crop_size=480)
    return transform(Image.fromarray(remap_to_uint8(frame)).convert("L")).numpy()


def chexzero_transform(antialias):
    """Its data_process.preprocess and the transform of its train.py, in their order of operations."""

    def transform(frame):
        from torchvision.transforms import Compose, InterpolationMode, Normalize, Resize

        picture = eight_bit(frame).convert("RGB")
        size = tuple(int(side * (320.0 / max(picture.size))) for side in picture.size)
        square = Image.new("L", (320, 320))
        square.paste(picture.resize(size, Image.Resampling.LANCZOS), ((320 - size[0]) // 2, (320 - size[1]) // 2))
        grey = torch.from_numpy(np.repeat(np.asarray(square, dtype=np.float32)[None], 3, axis=0))
        resize = Resize(224, InterpolationMode.BICUBIC, antialias=antialias)
        return Compose([Normalize((101.48761,) * 3, (83.43944,) * 3), resize])(grey).numpy()

    return transform


def siglip_processor(side, resample):
    def transform(frame):
        from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

        processor = SiglipImageProcessorPil(size={"height": side, "width": side}, resample=resample, image_mean=[0.5] * 3,
                                            image_std=[0.5] * 3, do_convert_rgb=True)  # fmt: skip
        return np.asarray(processor(eight_bit(frame), return_tensors="np")["pixel_values"][0])

    return transform


def ark_transform(frame):
    """As its zero-shot notebook reads an image."""
    image = np.array(eight_bit(frame).convert("RGB").resize((768, 768))) / 255.0
    return ((image - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]).transpose(2, 0, 1).astype("float32")


def medimageinsight_transform(frame):
    """As its build_transforms puts one together for CENTER_CROP: false."""
    from torchvision.transforms import Compose, InterpolationMode, Normalize, Resize, ToTensor

    steps = [
        Resize([480, 480], interpolation=InterpolationMode.BICUBIC),
        ToTensor(),
        Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ]
    return Compose(steps)(eight_bit(frame).convert("RGB")).numpy()


OPENAI = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
TRANSFORMS = [
    ("clip_vitl14_336", {}, open_clip_transform("ViT-L-14-336", 336, *OPENAI)),
    ("biomedclip", {}, open_clip_transform("timm", 224, *OPENAI)),
    ("biovil", {}, hi_ml_transform),
    ("chexzero", {}, chexzero_transform(False)), ("chexzero", {"antialias": True}, chexzero_transform(True)),
    ("siglip2_so400m_384", {}, siglip_processor(384, 2)), ("siglip2_so400m_384", {"interpolation": "bicubic"}, siglip_processor(384, 3)),
    ("medsiglip_448", {}, siglip_processor(448, 2)),
    ("ark_plus", {}, ark_transform), ("medimageinsight", {}, medimageinsight_transform),
]  # fmt: skip


def close(preprocess, theirs, radiographs, std) -> None:
    """The libraries round to 8 bits after each pass of a resize, and hi-ml truncates; ours does not round: at most two levels of 255.

    They also cut off what bicubic overshoots after each pass, we after the last: a few pixels of a radiograph that are next to
    both black and white. So every pixel is compared on pictures that stay clear of both ends, the radiographs in all but 0.1 %.
    """
    for frame in radiographs:
        clear = np.round(40 + frame * 175).astype(np.float32) / np.float32(255)
        for picture, share in ((clear, 100), (frame, 99.9)):
            ours, other = preprocess(picture), theirs(picture)
            assert ours.shape == other.shape
            levels = np.abs(ours - other) * np.broadcast_to(1.0 if std is None else std, len(ours))[:, None, None] * 255
            found = levels.mean(), np.percentile(levels, share)
            assert found[0] <= 0.6 and found[1] <= 2.0, f"mean {found[0]:.2f}, {share} % within {found[1]:.2f}"


@pytest.mark.parametrize("name, options, theirs", TRANSFORMS)
def test_preprocess_equals_the_release(name, options, theirs, radiographs):
    """Each preprocess is the release's own transform for evaluation, or the library's that it names."""
    encoder = find(name)(None, options)
    close(encoder.preprocess, theirs, radiographs, encoder.card.std)


TIMM = ("test_vit.r160_in1k", "swin_tiny_patch4_window7_224.ms_in1k", "resnet50.a1_in1k", "vit_base_patch16_siglip_224.webli",
        "vit_base_patch14_dinov2.lvd142m", "vit_base_patch16_clip_quickgelu_224.openai")  # fmt: skip


@pytest.mark.parametrize("name", TIMM)
def test_timm_model_prepares_as_timm(name, radiographs):
    """With the option crop at timm's crop_pct, the input is that of timm's own evaluation transform."""
    from timm.data import create_transform, resolve_data_config
    from timm.models import get_pretrained_cfg

    config = resolve_data_config(pretrained_cfg=get_pretrained_cfg(name).to_dict())
    transform = create_transform(**config)
    encoder = find("timm_model")(None, {"model": name, "crop": config["crop_pct"]})
    close(encoder.preprocess, lambda frame: transform(eight_bit(frame).convert("RGB")).numpy(), radiographs, config["std"])


def test_timm_model_keeps_the_whole_image(radiographs):
    """Without the option crop the shorter side is kept whole, so that the card's field of 1 is true."""
    encoder = find("timm_model")(None, {"model": "test_vit.r160_in1k"})
    frame = np.zeros((300, 300), np.float32)
    frame[:, -4:] = 1.0
    assert encoder.preprocess(frame)[0, :, -1].min() > 0.9 and encoder.card.field == 1.0


PROCESSORS = {
    "clip": {"size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224}, "do_center_crop": True, "resample": 3,
             "image_mean": list(OPENAI[0]), "image_std": list(OPENAI[1]), "do_convert_rgb": True},
    "clip as version 4.1 wrote it": {"feature_extractor_type": "CLIPFeatureExtractor", "size": 224, "crop_size": 224,
                                     "do_center_crop": True, "resample": 3, "image_mean": list(OPENAI[0]),
                                     "image_std": list(OPENAI[1]), "do_convert_rgb": True},
    "bit": {"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}, "do_center_crop": True, "resample": 3,
            "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "do_convert_rgb": True},
    "vit": {"size": {"height": 224, "width": 224}, "resample": 2, "image_mean": [0.5] * 3, "image_std": [0.5] * 3},
    "vit as version 4.1 wrote it": {"size": 224, "resample": 2, "image_mean": [0.5] * 3, "image_std": [0.5] * 3},
    "deit as version 4.1 wrote it": {"feature_extractor_type": "DeiTFeatureExtractor", "size": 256, "crop_size": 224,
                                     "do_center_crop": True, "resample": 3, "image_mean": [0.485, 0.456, 0.406],
                                     "image_std": [0.229, 0.224, 0.225]},
    "siglip": {"size": {"height": 384, "width": 384}, "resample": 3, "image_mean": [0.5] * 3, "image_std": [0.5] * 3},
    "convnext": {"size": {"shortest_edge": 224}, "crop_pct": 0.875, "resample": 3, "image_mean": [0.485, 0.456, 0.406],
                 "image_std": [0.229, 0.224, 0.225], "image_processor_type": "ConvNextImageProcessor"},
    "convnext above 384": {"size": {"shortest_edge": 384}, "crop_pct": 0.875, "resample": 3, "image_mean": [0.485, 0.456, 0.406],
                           "image_std": [0.229, 0.224, 0.225], "image_processor_type": "ConvNextImageProcessor"},
}  # fmt: skip


@pytest.mark.parametrize("kind", PROCESSORS)
def test_hf_model_prepares_as_transformers(tmp_path, kind, radiographs):
    """preprocessor_config.json is carried out as transformers' own image processor (Pillow's, as up to version 4) carries it out."""
    import importlib

    name = kind.split()[0]
    title = {"clip": "CLIP", "bit": "Bit", "vit": "ViT", "deit": "DeiT", "siglip": "Siglip", "convnext": "ConvNext"}[name]
    module = importlib.import_module(f"transformers.models.{name}.image_processing_pil_{name}")
    said = {**PROCESSORS[kind]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    for key in ("image_processor_type", "feature_extractor_type"):
        said.pop(key, None)
    processor = getattr(module, f"{title}ImageProcessorPil")(**said)
    encoder = find("hf_model")(tmp_path, {"model": "owner/x"})
    close(encoder.preprocess, lambda frame: pixel_values(processor, frame), radiographs, said["image_std"])


def pixel_values(processor, frame) -> np.ndarray:
    return np.asarray(processor(eight_bit(frame).convert("RGB"), return_tensors="np")["pixel_values"][0])


@pytest.mark.parametrize("scale", [{"do_rescale": False, "do_normalize": False}, {"rescale_factor": 2 / 255, "do_normalize": False},
                                   {"do_normalize": False}])  # fmt: skip
def test_hf_model_scales_as_transformers(tmp_path, scale, radiographs):
    """Without rescaling, with another factor and without normalisation the values have transformers' range."""
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    said = {**PROCESSORS["vit"], **scale}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    processor, encoder = ViTImageProcessorPil(**said), find("hf_model")(tmp_path, {"model": "owner/x"})
    white = 255 if "do_rescale" in scale else scale.get("rescale_factor", 1 / 255) * 255  # what becomes of 1
    close(encoder.preprocess, lambda frame: pixel_values(processor, frame).astype(np.float32), radiographs, 1 / white)


def test_padding_has_to_be_declared():
    """The check of preprocess turns down a wrapper that pads and whose card does not say so."""
    import dataclasses

    from radbench import contract

    full = find("chexzero")
    undeclared = type("Undeclared", (full,), {"card": dataclasses.replace(full.card, padding=None), "__module__": full.__module__})
    subject = contract.Subject("chexzero", undeclared)
    subject.encoder = undeclared(None)  # preprocessing needs no network
    with pytest.raises(contract.ContractError, match="does not stay constant"):
        contract.preprocess_keeps_its_contract(subject)
