"""Loading an encoder that `radbench.pretrain` wrote."""

import json
from pathlib import Path

import torch
from torch import nn

from ..errors import WeightsError
from ..weights import load_strict
from .vit import ViTShape, build_vit, encode_taps, encode_tokens, four_taps

UNTRAINED = {"image_size": 224, "patch": 14, "width": 768, "depth": 12, "heads": 12, "mean": 0.5307, "std": 0.2583}
SHAPE = ("image_size", "patch", "width", "depth", "heads")
AGAIN = "pretrain again, or name the folder results/pretrain/<run> of a finished run"


class Trunk(nn.Module):
    """A trained trunk with its input contract: `size` (pixels), `mean`, `std` on [0, 1], `grid` (patches per side)."""

    def __init__(self, config: dict):
        super().__init__()
        shape = ViTShape(**{name: config[name] for name in SHAPE})
        self.vit = build_vit(shape, seed=0)
        self.size, self.grid, self.depth = shape.image_size, shape.grid, shape.depth
        self.mean, self.std = config["mean"], config["std"]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, size, size) -> normed tokens (B, grid, grid, width)."""
        return encode_tokens(self.vit, images).unflatten(1, (self.grid, self.grid))

    def taps(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Four maps (B, width, grid, grid) from a quarter, half, three quarters and all of the depth, before the final norm."""
        return encode_taps(self.vit, images, four_taps(self.depth), self.grid)


def load_run(folder: Path | None, which: str, device: str) -> Trunk:
    """The trunk of `{folder}/{which}.safetensors` ("encoder", "context" or "initial"); a random ViT-B/14 without a folder."""
    if folder is None:
        return Trunk(UNTRAINED).eval().to(device)
    config, path = read_config(folder), folder / f"{which}.safetensors"
    if not path.is_file():
        raise WeightsError(path, "no such weights", got=sorted(entry.name for entry in folder.iterdir()),
                           expected="encoder, context or initial", fix="mend the option weights_of")  # fmt: skip
    trunk = Trunk(config)
    load_strict(trunk.vit, path, path.name, fix=AGAIN)
    return trunk.eval().to(device)


def read_config(folder: Path) -> dict:
    """config.json of a pretraining run: shape, normalisation, what was learned from.

    Raises:
        WeightsError: `folder` is no folder, or the file is missing, damaged or lacks a field.
    """
    path, wanted = folder / "config.json", (*SHAPE, "mean", "std", "pretrained_on")
    if not folder.is_dir():
        raise WeightsError(
            folder, "is not the folder of a pretraining run", expected="a folder with config.json and the weights", fix=AGAIN
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise WeightsError(path, "no such file", got=sorted(entry.name for entry in folder.iterdir())[:8], fix=AGAIN) from None
    except ValueError as error:
        raise WeightsError(path, f"not JSON ({error})", fix=AGAIN) from None
    missing = [name for name in wanted if not isinstance(config, dict) or name not in config]
    if missing:
        raise WeightsError(path, f"lacks {', '.join(missing)}", expected=f"what radbench.pretrain writes: {', '.join(wanted)}", fix=AGAIN)
    return config
