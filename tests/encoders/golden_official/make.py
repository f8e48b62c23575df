"""Run a release's own code on fixed weights and a fixed image, and record slices of what comes out.

    python -m tests.encoders.golden_official.make chexzero <checkout of github.com/rajpurkarlab/CheXzero>

The official code is in no package registry (or not in requirements.txt) and none of it is kept here; each record names its
commit. tests/encoders/test_parity_clip.py and test_parity_jepa.py hold the wrappers to the records. Most networks are shrunk, which
changes no operation. What a function needs on the path beside the checkout, an old timm for instance, its docstring says.
"""

import functools
import hashlib
import importlib
import importlib.util
import json
import subprocess
import sys
import types
from collections.abc import Mapping
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
SEED = 20250801


def fill(shapes: Mapping[str, tuple]) -> dict[str, np.ndarray]:
    """A number for every parameter, the same on every machine: scales near 1, variances positive, tokens one half, the rest small."""
    random, out = np.random.default_rng(SEED), {}
    for name, shape in sorted(shapes.items()):
        value = random.standard_normal(shape, dtype=np.float32)
        if name.endswith("running_var"):
            value = 0.5 + np.abs(value)
        elif name.endswith(("weight", "gamma")) and len(shape) == 1:
            value = 1 + 0.1 * value
        elif name.endswith(("pos_embed", "_token", "_tokens")):
            value *= 0.5
        else:
            value *= 0.1 if len(shape) < 2 else float(np.prod(shape[1:])) ** -0.5
        out[name] = np.asarray(value, dtype=np.float32)
    return out


def noise(*shape: int) -> np.ndarray:
    """The fixed input of a network."""
    return np.random.default_rng(SEED + 1).standard_normal(shape, dtype=np.float32)


def picture(rows: int = 437, cols: int = 350) -> np.ndarray:
    """A fixed 8-bit picture with fine and coarse structure, taller than wide."""
    down, right = np.mgrid[:rows, :cols].astype(np.float64)
    waves = 90 * np.sin(down / 31 + right / 53) + 30 * np.sin(down * 1.1) * np.cos(right * 0.9)
    return np.round(127 + waves).clip(0, 255).astype(np.uint8)


def digest(value: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()


#: Buffers that follow from the sizes.
TABLES = ("attn_mask", "relative_position_index", "freqs_cos", "freqs_sin")


def load(network, state: dict) -> None:
    """Fill the official network; only its own buffers that follow from the sizes may stay."""
    import torch

    found = network.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()}, strict=False)
    assert not found.unexpected_keys and all(name.endswith(TABLES) for name in found.missing_keys)
    network.eval()


def tables(network) -> dict[str, list[int]]:
    """Shapes of those buffers, which a checkpoint of the release holds as well."""
    return {name: list(value.shape) for name, value in network.state_dict().items() if name.endswith(TABLES)}


def blocks_of(network) -> list:
    """Outputs of the network's blocks, appended at every call."""
    seen: list = []
    for block in network.blocks:
        block.register_forward_hook(lambda part, given, out: seen.append(out))
    return seen


def module(folder: Path, name: str):
    """Import `name` of a checkout."""
    sys.path.insert(0, str(folder))
    return importlib.import_module(name)


def parameters(network) -> dict[str, list[int]]:
    kept = (*TABLES, "num_batches_tracked")
    return {name: list(value.shape) for name, value in network.state_dict().items() if not name.endswith(kept)}


def chexzero(checkout: Path) -> dict:
    import torch
    from PIL import Image
    from torchvision.transforms import Compose, InterpolationMode, Normalize, Resize

    for absent in ("h5py", "cv2", "matplotlib", "matplotlib.pyplot"):  # imported by the file, not used by its preprocess
        sys.modules.setdefault(absent, types.ModuleType(absent))
    Image.ANTIALIAS = Image.Resampling.LANCZOS  # its name until Pillow 9
    network = module(checkout, "model").CLIP(512, 224, 2, 768, 32, 77, 64, 64, 1, 1)
    shapes = parameters(network)
    load(network, fill(shapes))
    image = torch.from_numpy(noise(1, 3, 224, 224))
    tokens = []
    network.visual.transformer.register_forward_hook(lambda part, given, out: tokens.append(out))
    network.visual.proj = None
    pooled = network.visual(image)
    patches = network.visual.ln_post(tokens[0].permute(1, 0, 2)[:, 1:])
    small = np.asarray(module(checkout, "data_process").preprocess(Image.fromarray(picture())))
    tensor = torch.from_numpy(np.repeat(small[None].astype(np.float32), 3, axis=0))
    # antialias=False: what torchvision 0.11 of its requirements.txt does to tensors
    transform = Compose([Normalize((101.48761,) * 3, (83.43944,) * 3), Resize(224, InterpolationMode.BICUBIC, antialias=False)])
    return {"shapes": shapes, "image": values(pooled), "patches": values(patches), "preprocessed": values(transform(tensor)[:, ::16, ::16])}


def ark_plus(checkout: Path) -> dict:
    """Needs timm 0.5.4 on the path."""
    import torch

    sys.path.insert(0, str(checkout / "Ark_Plus" / "Pretraining"))
    network = module(checkout / "Ark_Plus" / "Pretraining", "models").ArkSwinTransformer(
        [14, 14, 14, 3, 6, 1], 1376, False, img_size=768, patch_size=4, window_size=12, embed_dim=24, depths=(2, 2, 2, 2),
        num_heads=(1, 2, 4, 8))  # fmt: skip
    shapes = parameters(network)
    load(network, fill(shapes))
    buffers = {name: list(value.shape) for name, value in network.state_dict().items() if name not in shapes}
    image, tokens = torch.from_numpy(noise(1, 3, 768, 768)), []
    network.norm.register_forward_hook(lambda part, given, out: tokens.append(out))
    return {"shapes": shapes, "buffers": buffers, "image": values(network.generate_embeddings(image)), "patches": values(tokens[0]),
            "mean": values(network.generate_embeddings(image, after_proj=False))}  # fmt: skip


def medimageinsight(checkout: Path) -> dict:
    """Needs einops on the path."""
    import torch

    sys.modules["mup"] = mup = types.ModuleType("mup")  # only used for training
    mup.init, mup.MuReadout, mup.set_base_shapes = types.ModuleType("mup.init"), type("MuReadout", (), {}), None
    sys.modules["mup.init"] = mup.init
    package = types.ModuleType("official")
    package.__path__ = [str(checkout / "MedImageInsight" / "ImageEncoder")]
    registry = types.ModuleType("official.registry")
    registry.register_image_encoder = lambda function: function
    sys.modules |= {"official": package, "official.registry": registry}
    network = importlib.import_module("official.davit_v1").DaViT(
        img_size=(480, 480), num_classes=0, depths=(1, 1, 2, 1), patch_size=(7, 3, 3, 3), patch_stride=(4, 2, 2, 2),
        patch_padding=(3, 1, 1, 1), patch_prenorm=(False, True, True, True), embed_dims=(16, 32, 64, 128),
        base_embed_dims=(16, 32, 64, 128), num_heads=(2, 4, 8, 16), base_num_heads=(2, 4, 8, 16), num_groups=(2, 4, 8, 16),
        base_num_groups=(2, 4, 8, 16), window_size=12)  # fmt: skip
    shapes = {f"image_encoder.{name}": shape for name, shape in parameters(network).items()} | {"image_projection": [128, 1024]}
    state = fill(shapes)
    projection = torch.from_numpy(state.pop("image_projection"))
    load(network, {name.removeprefix("image_encoder."): value for name, value in state.items()})
    image, tokens = torch.from_numpy(noise(1, 3, 480, 480)), []
    network.avgpool.register_forward_hook(lambda part, given, out: tokens.append(given[0].transpose(1, 2)))
    pooled = network.forward_features(image)
    return {"shapes": shapes, "image": values(pooled @ projection), "mean": values(pooled), "patches": values(tokens[0])}


def torchxrayvision_densenet121(checkout: Path) -> dict:
    """`checkout` is the folder into which torchxrayvision was installed."""
    import torch
    from torchvision.transforms import Compose

    xrv = module(checkout, "torchxrayvision")
    network = xrv.models.DenseNet()
    load(
        network,
        {**fill(parameters(network)), **{name: np.zeros((), np.int64) for name in network.state_dict() if name.endswith("tracked")}},
    )
    image = torch.from_numpy(1024 * noise(1, 1, 224, 224).clip(-1, 1))
    transform = Compose([xrv.datasets.XRayCenterCrop(), xrv.datasets.XRayResizer(224)])
    small = transform(xrv.utils.normalize(picture(), 255)[None])
    return {"version": xrv.__version__, "image": values(network.features2(image)), "patches": values(network.features(image).relu()),
            "preprocessed": values(small[:, ::16, ::16])}  # fmt: skip


def ijepa_vith16_448(checkout: Path) -> dict:
    """vit_huge's arguments with 4 blocks instead of 32."""
    import torch

    network = module(checkout, "src.models.vision_transformer").VisionTransformer(
        img_size=[448], patch_size=16, embed_dim=1280, depth=4, num_heads=16, mlp_ratio=4, qkv_bias=True,
        norm_layer=functools.partial(torch.nn.LayerNorm, eps=1e-6))  # fmt: skip
    shapes = parameters(network)
    load(network, fill(shapes))
    seen = blocks_of(network)
    tokens = network(torch.from_numpy(noise(1, 3, 448, 448)))
    return {"shapes": shapes, "image": values(tokens.mean(1)), "patches": values(tokens), "taps": [values(tap) for tap in seen]}


def mrm(checkout: Path) -> dict:
    """Needs timm 0.6.12 on the path.

    mrm() without its report decoder and without qk_scale=None, an argument that this timm no longer takes. forward_encoder at
    mask ratio 0, its shuffled patches put back; "before" is forward_features of the fine-tuning network ahead of its fc_norm.
    """
    import torch

    np.float = float  # numpy's name until 1.20
    for absent in ("timm.models.maxxvit", "bert", "bert.bert_encoder", "ml_collections"):  # imported, not used by the image encoder
        sys.modules[absent] = types.ModuleType(absent)
    sys.modules["bert.bert_encoder"].BertEncoder = torch.nn.Identity
    import timm.models.vision_transformer as vision_transformer

    plain = vision_transformer.Block
    vision_transformer.Block = type("Block", (plain,), {
        "__init__": lambda self, *args, qk_scale=None, **options: plain.__init__(self, *args, **options)})  # fmt: skip
    network = module(checkout, "model_mrm").mrm(norm_pix_loss=True)
    vision_transformer.Block = plain
    shapes = parameters(network)
    load(network, fill(shapes))
    seen, image = blocks_of(network), torch.from_numpy(noise(1, 3, 224, 224))
    tokens, _, places = network.forward_encoder(image, 0.0)

    def in_order(some):
        return torch.gather(some[:, 1:], 1, places[..., None].expand(-1, -1, some.shape[-1]))

    tuned = module(checkout / "NIH_ChestX-ray", "models_vit").vit_base_patch16(num_classes=14, global_pool=True)
    tuned.load_state_dict(network.state_dict(), strict=False)
    tuned.eval().fc_norm = torch.nn.Identity()
    patches, taps = in_order(tokens), [values(in_order(seen[block])) for block in (2, 5, 8, 11)]
    return {"shapes": shapes, "image": values(patches.mean(1)), "cls": values(tokens[:, 0]), "patches": values(patches),
            "before": values(tuned.forward_features(image)), "taps": taps}  # fmt: skip


def eva_x_base(checkout: Path) -> dict:
    """Needs timm 0.9.7 on the path, which has a method that eva_x.py calls, and einops.

    eva02_base_patch16_xattn_fusedLN_NaiveSwiGLU_subln_RoPE for 14 x 14 patches, with torch's LayerNorm and attention for apex's and
    xFormers'; "loader" is eva_x_base_patch16 of eva_x.py on the same tensors. Names are those of pretraining: norm, not fc_norm.
    """
    import tempfile

    import torch

    for absent in ("apex", "apex.normalization", "xformers", "xformers.ops"):
        sys.modules[absent] = types.ModuleType(absent)
    sys.modules["apex.normalization"].FusedLayerNorm = torch.nn.LayerNorm
    sys.modules["xformers"].ops = sys.modules["xformers.ops"]
    sys.modules["xformers.ops"].memory_efficient_attention = lambda *qkv: torch.nn.functional.scaled_dot_product_attention(
        *(part.transpose(1, 2) for part in qkv)).transpose(1, 2)  # fmt: skip
    package = types.ModuleType("models")
    package.__path__ = [str(checkout / "classification" / "models")]
    sys.modules["models"] = package
    network = importlib.import_module("models.models_eva").VisionTransformer(
        img_size=224, patch_size=16, embed_dim=768, depth=12, num_heads=12, mlp_ratio=4 * 2 / 3, qkv_bias=True,
        norm_layer=functools.partial(torch.nn.LayerNorm, eps=1e-6), subln=True, xattn=True, naiveswiglu=True, rope=True,
        pt_hw_seq_len=14, intp_freq=True, use_mean_pooling=True, use_checkpoint=False, num_classes=0)  # fmt: skip
    shapes = {name.replace("fc_norm.", "norm."): shape for name, shape in parameters(network).items()}
    state = fill(shapes)
    own = {name: state[name.replace("fc_norm.", "norm.")] for name in parameters(network)}
    load(network, own)
    seen, image = blocks_of(network), torch.from_numpy(noise(1, 3, 224, 224))
    pooled = network.forward_features(image)
    taps = [values(seen[block][:, 1:]) for block in (2, 5, 8, 11)]
    patches = network.forward_features(image, return_patch_tokens=True)
    with tempfile.NamedTemporaryFile(suffix=".pt") as file:
        extra = {"mask_token": torch.zeros(1, 1, 768), "lm_head.weight": torch.zeros(512, 768), "lm_head.bias": torch.zeros(512)}
        rotary = {name: value for name, value in network.state_dict().items() if name.endswith(TABLES)}
        torch.save({name: torch.from_numpy(value) for name, value in state.items()} | rotary | extra, file.name)
        loader = module(checkout, "eva_x").eva_x_base_patch16(file.name).eval()
    return {"shapes": shapes, "buffers": tables(network), "image": values(pooled), "patches": values(patches), "taps": taps,
            "loader": values(loader.forward_head(loader.forward_features(image), pre_logits=True))}  # fmt: skip


def chexfound(checkout: Path) -> dict:
    """Arguments of configs/train/vitl16_ibot333_highres512.yaml, 4 blocks in 2 chunks instead of 24 in 4, without xFormers."""
    import os

    import torch

    os.environ["XFORMERS_DISABLED"] = "1"
    layers = module(checkout, "chexfound.layers")
    network = module(checkout, "chexfound.models.vision_transformer").DinoVisionTransformer(
        img_size=512, patch_size=16, embed_dim=1024, depth=4, num_heads=16, mlp_ratio=4, num_register_tokens=4, init_values=1e-5,
        block_fn=functools.partial(layers.NestedTensorBlock, attn_class=layers.MemEffAttention), ffn_layer="swiglufused",
        block_chunks=2, qkv_bias=True, proj_bias=True, ffn_bias=True, interpolate_offset=0.1, interpolate_antialias=False)  # fmt: skip
    shapes = {f"backbone.{name}": shape for name, shape in parameters(network).items()}
    load(network, {name.removeprefix("backbone."): value for name, value in fill(shapes).items()})
    image = torch.from_numpy(noise(1, 3, 512, 512))
    found = network.forward_features(image)
    taps = network.get_intermediate_layers(image, n=[0, 1, 2, 3], norm=False)
    last = network.get_intermediate_layers(image, n=4, return_class_token=True)
    return {"shapes": shapes, "image": values(found["x_norm_clstoken"]), "patches": values(found["x_norm_patchtokens"]),
            "taps": [values(tap) for tap in taps], "last": [values(token) for _, token in last]}  # fmt: skip


def values(tensor) -> dict:
    """Shape, length and every so many-th number."""
    found = np.asarray(tensor.detach().numpy() if hasattr(tensor, "detach") else tensor, dtype=np.float64)
    flat = found.ravel()
    return {
        "shape": list(found.shape),
        "norm": float(np.linalg.norm(flat)),
        "slice": [round(float(value), 6) for value in flat[:: step(flat)]],
    }


def step(flat: np.ndarray) -> int:
    return max(1, flat.size // 48)


def commit(checkout: Path) -> str:
    found = subprocess.run(["git", "-C", str(checkout), "rev-parse", "HEAD"], capture_output=True, text=True)
    return found.stdout.strip()


SOURCES = {"chexzero": "github.com/rajpurkarlab/CheXzero", "ark_plus": "github.com/jlianglab/Ark",
           "medimageinsight": "github.com/visual-layer/MedImageInsight (a public copy of Microsoft's code)",
           "torchxrayvision_densenet121": "pypi.org/project/torchxrayvision",
           "ijepa_vith16_448": "github.com/facebookresearch/ijepa, src/models/vision_transformer.py",
           "mrm": "github.com/RL4M/MRM-pytorch, model_mrm.py and NIH_ChestX-ray/models_vit.py",
           "eva_x_base": "github.com/hustvl/EVA-X, classification/models/models_eva.py and eva_x.py",
           "chexfound": "github.com/RPIDIAL/CheXFound, chexfound/models/vision_transformer.py"}  # fmt: skip


def main(name: str, checkout: str) -> None:
    import torch

    with torch.inference_mode():
        found = globals()[name](Path(checkout))
    record = {"official": SOURCES[name], "commit": found.pop("version", None) or commit(Path(checkout)), "torch": torch.__version__,
              "made_with": f"python -m tests.encoders.golden_official.make {name} <checkout>", "seed": SEED,
              "picture_sha256": digest(picture()), **found}  # fmt: skip
    shapes = "".join(f',\n "{key}": {json.dumps(value)}' for key, value in record.items())
    (HERE / f"{name}.json").write_text("{" + shapes[1:] + "\n}\n")


if __name__ == "__main__":
    import radbench  # noqa: F401  torchvision beside a CPU torch

    main(*sys.argv[1:])
