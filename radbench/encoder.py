"""The contract of an encoder: a card (facts) and three methods. One file in encoders/ holds exactly one.

A wrapper says how its weights are loaded, how one image is prepared and what the network returns. The harness owns
batching, devices, precision, gradients, seeding, pooling rules across encoders, and writing. Heavy imports stay inside
`load`, so that listing the encoders costs nothing.
"""

import abc
import dataclasses
import importlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .artifact import ROOT
from .errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    import numpy as np
    import torch


@dataclasses.dataclass(frozen=True)
class Card:
    """Facts about an encoder. They fill Table 2, find the weights, mark overlaps, and hold the numbers that wrapper and harness read.

    Attributes:
        title: name in tables.
        architecture: as the field writes it, such as "ViT-B/14".
        image_size, patch, dim: input side and patch in pixels, width of the image features; None when the trained run says.
        params: parameters of the image tower as loaded; None when the trained run says.
        pooling: how `Features.image` is made, in words for the table note.
        pretrained_on: data set names (as in `sources` of an index) whose images the encoder has seen.
        labels_seen: those of them whose labels it was trained on.
        weights: "" (none needed), "run:<pretraining run>" (with "/initial": before its first step), "hf:<owner>/<name>" or "file:<name>".
        files: files asked of the hub repository, or the file name of "file:".
        revision: hub revision; a 40-hex commit where known, else "main" (the sidecar of the features names the commit found).
        sha256: of the weight file, where known.
        how_to_get: the next step for somebody without the weights, in words.
        paper_name: row name in results/published/, "" when the paper has no such row.
        control: a control must fail; it is not a baseline.
        levels: block indices (0-based) of the four UPerNet taps.
        field: share of the side of a square image that the network sees (448/512 for resize 512, crop 448).
        notes: anything a table footnote should say.
    """

    title: str
    architecture: str
    image_size: int | None
    patch: int | None
    dim: int | None
    params: int | None
    pooling: str
    pretrained_on: tuple[str, ...]
    licence: str
    citation: str
    weights: str = ""
    files: tuple[str, ...] = ()
    revision: str = "main"
    sha256: str = ""
    gated: bool = False
    how_to_get: str = ""
    paper_name: str = ""
    control: bool = False
    labels_seen: tuple[str, ...] = ()
    levels: tuple[int, int, int, int] | None = None
    mean: float | tuple[float, ...] | None = None
    std: float | tuple[float, ...] | None = None
    interpolation: str = "bilinear"
    field: float = 1.0
    notes: str = ""


class Features(NamedTuple):
    """What an encoder returns for a batch: image features (B, D) and patch features (B, gh, gw, C), row 0 on top."""

    image: "torch.Tensor"
    patches: "torch.Tensor"


class Encoder(abc.ABC):
    """Base class of the wrappers.

    `self.weights` is the resolved file or folder; None means random weights of the same architecture, which
    `radbench.check` asks for and a benchmark run never does. `self.options` are the options of the configuration.
    """

    card: Card
    #: options that the configuration may set, with their defaults; anything else is a ConfigError
    options: Mapping[str, Any] = {}

    def __init__(self, weights: Path | None = None, options: Mapping[str, Any] | None = None):
        given = dict(options or {})
        for name in given:
            if name not in type(self).options:
                fix = did_you_mean(name, type(self).options) or f"{type(self).__module__} takes {sorted(type(self).options)}"
                raise ConfigError(f"encoders: {type(self).__module__}", f"unknown option {name!r}", fix=fix)
        self.weights, self.options = weights, dict(type(self).options) | given

    @abc.abstractmethod
    def load(self, device: str) -> None:
        """Build the network on `device` from `self.weights`, ready for inference (`eval`, float32)."""

    @abc.abstractmethod
    def preprocess(self, image: "np.ndarray") -> "np.ndarray":
        """float32 (H, W) in [0, 1], 1 = white, any size -> float32 (C, h, w): the network's own input contract."""

    @abc.abstractmethod
    def encode(self, images: "torch.Tensor") -> Features:
        """(B, C, h, w) -> Features. Rows do not depend on each other."""

    def encode_levels(self, images: "torch.Tensor") -> list["torch.Tensor"]:
        """(B, C, h, w) -> four patch maps (B, C_k, gh, gw) for UPerNet, shallow to deep.

        An encoder that has no layers to tap repeats its last grid four times; the card's notes should say so.
        """
        return [self.encode(images).patches.permute(0, 3, 1, 2)] * 4

    def modules(self) -> list["torch.nn.Module"]:
        """The torch modules this wrapper holds: for counting parameters, moving and casting."""
        import torch

        return [value for value in vars(self).values() if isinstance(value, torch.nn.Module)]


def names() -> list[str]:
    """The ids of all encoders: the stems of the files in encoders/ that do not begin with an underscore."""
    return sorted(path.stem for path in (ROOT / "encoders").glob("*.py") if not path.stem.startswith("_"))


def find(name: str) -> type[Encoder]:
    """The encoder class of `encoders/{name}.py`.

    Raises:
        ConfigError: there is no such file, it fails to import, or it does not define exactly one Encoder.
    """
    if name not in names():
        fix = did_you_mean(name, names()) or f"the files are {names()}"
        raise ConfigError(f"encoders/{name}.py", "no such encoder", fix=fix)
    try:
        module = importlib.import_module(f"encoders.{name}")
    except Exception as error:
        raise ConfigError(f"encoders/{name}.py", f"fails to import: {type(error).__name__}: {error}",
                          fix=f"python -m radbench.check {name}") from error  # fmt: skip
    found = [value for _, value in inspect.getmembers(module, inspect.isclass)
             if issubclass(value, Encoder) and value.__module__ == module.__name__]  # fmt: skip
    if len(found) != 1:
        raise ConfigError(f"encoders/{name}.py", f"{len(found)} encoder classes", expected="exactly one")
    if not isinstance(getattr(found[0], "card", None), Card):
        raise ConfigError(f"encoders/{name}.py", "no card", fix="see encoders/_template.py")
    return found[0]
