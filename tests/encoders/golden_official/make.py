"""Run a release's own code on fixed weights and a fixed image, and record slices of what comes out.

    python -m tests.encoders.golden_official.make chexzero <checkout of github.com/rajpurkarlab/CheXzero>

The official code is in no package registry (or not in requirements.txt) and none of it is kept here; each record names its
commit. tests/encoders/test_parity_clip.py holds the wrappers to the records. Networks are shrunk, which changes no operation.
"""

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
    """A number for every parameter, the same on every machine: scales near 1, variances positive, the rest small."""
    random, out = np.random.default_rng(SEED), {}
    for name, shape in sorted(shapes.items()):
        value = random.standard_normal(shape, dtype=np.float32)
        if name.endswith("running_var"):
            value = 0.5 + np.abs(value)
        elif name.endswith("weight") and len(shape) == 1:
            value = 1 + 0.1 * value
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


def load(network, state: dict) -> None:
    """Fill the official network; only its own buffers that follow from the sizes may stay."""
    import torch

    found = network.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()}, strict=False)
    assert not found.unexpected_keys and all(name.endswith(("attn_mask", "relative_position_index")) for name in found.missing_keys)
    network.eval()


def module(folder: Path, name: str):
    """Import `name` of a checkout."""
    sys.path.insert(0, str(folder))
    return importlib.import_module(name)


def parameters(network) -> dict[str, list[int]]:
    kept = ("attn_mask", "relative_position_index", "num_batches_tracked")
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
           "torchxrayvision_densenet121": "pypi.org/project/torchxrayvision"}  # fmt: skip


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
