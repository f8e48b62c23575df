"""The contract of an encoder: a card (facts) and three methods. One file in encoders/ holds exactly one.

A wrapper says how its weights are loaded, how one image is prepared and what the network returns. The harness owns
batching, devices, precision, gradients, seeding, pooling rules across encoders, and writing. Heavy imports stay inside
`load`, so that listing the encoders costs nothing.
"""

import abc
import dataclasses
import importlib
import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .artifact import ROOT
from .datasets import with_parents
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
        files: files asked of the hub repository, or the file name of "file:"; of "a|b" the first that the repository has.
        revision: hub revision; a 40-hex commit where known, else "main" (the sidecar of the features names the commit found).
        digest: of the weight file at `weights`, where known: "sha256:<hex>" or "md5:<hex>".
        how_to_get: the next step for somebody without the weights, in words.
        paper_name: row name in results/published/, "" when the paper has no such row.
        control: a control must fail; it is not a baseline.
        levels: block indices (0-based) of the four UPerNet taps.
        mean, std: of the normalisation, one number or one per channel; None when the input is not normalised so.
        interpolation: the filter of the resize, one of radbench.image.FILTERS; "own" when it is none of them, which the notes then say.
        field: share of the side of a square image that the network sees (448/512 for resize 512, crop 448).
        padding: grey value of what the network sees beyond the image, where preprocessing pads it; else None.
        needs: importable packages outside requirements.txt that run the network.
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
    digest: str = ""
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
    padding: float | None = None
    needs: tuple[str, ...] = ()
    notes: str = ""


@dataclasses.dataclass(frozen=True)
class Option:
    """A choice that a configuration may make of a wrapper, such as the normalisation where two sources disagree.

    Attributes:
        default: what is used when the configuration says nothing.
        choices: all permitted values; empty for a number or a text that is free within its type.
        why: why the default is the default, in words for the card page.
        selects_weights: it chooses among the tensors of the file, so random weights cannot show its effect.
        kind: type of a value, where the default is None and does not say it.
        in_title: a second row says the value in its title; False for a name, a fact or a permission, which is no other way to run it.
    """

    default: Any
    choices: tuple = ()
    why: str = ""
    selects_weights: bool = False
    kind: type | None = None
    in_title: bool = True

    def taken(self, value: Any) -> Any:
        """The value in the option's type: YAML and the command line write 1 for 1.0. Raises ValueError with what would be right."""
        kind = self.kind or type(self.default)
        if kind is float and type(value) is int:
            value = float(value)
        if self.choices:
            if not any(type(choice) is type(value) and choice == value for choice in self.choices):
                raise ValueError(f"one of {list(self.choices)}")
        elif type(value) is not kind and value is not self.default:
            raise ValueError(f"{kind.__name__}, {self.default!r} by default")
        elif kind is list and not all(isinstance(entry, str) for entry in value):
            raise ValueError("a list of texts")
        return value


class Features(NamedTuple):
    """What an encoder returns for a batch: image features (B, D) and patch features (B, gh, gw, C), row 0 on top."""

    image: "torch.Tensor"
    patches: "torch.Tensor"


class Encoder(abc.ABC):
    """Base class of the wrappers.

    `self.weights` is the resolved file or folder; None means random weights of the same architecture, which
    `radbench.check` asks for and a benchmark run never does. `self.options` holds the value of every option, and
    `self.card` the card under these values.
    """

    card: Card
    #: what the configuration may set; anything else is a ConfigError
    options: Mapping[str, Option] = {}
    #: serves any model that an option names, so the card does not know its numbers
    generic: bool = False

    def __init__(self, weights: Path | None = None, options: Mapping[str, Any] | None = None):
        self.weights, self.options = weights, self.values(options or {})
        self.card = self.card_for(self.options)

    @classmethod
    def values(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """The value of every option: the given one, else its default. Raises ConfigError for what is not permitted."""
        where, values = f"{cls.__module__.replace('.', '/')}.py", {name: option.default for name, option in cls.options.items()}
        for name, value in given.items():
            if name not in cls.options:
                fix = did_you_mean(name, cls.options) or f"it takes {sorted(cls.options) or 'none'}"
                raise ConfigError(where, f"unknown option {name!r}", fix=fix)
            try:
                values[name] = cls.options[name].taken(value)
            except ValueError as expected:
                raise ConfigError(where, f"option {name}", got=repr(value), expected=expected) from None
        return values

    @classmethod
    def card_for(cls, options: Mapping[str, Any]) -> Card:
        """The card when the options have these values: override it where an option changes a fact, such as the pooling."""
        return cls.card

    @classmethod
    def look_up(cls, options: Mapping[str, Any]) -> None:
        """Raise ConfigError for a model that the library of a generic wrapper does not know; imports that library."""
        return None

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

    def parameter_count(self) -> int:
        """Parameters of all modules of the wrapper, each counted once."""
        return sum({id(value): value.numel() for module in self.modules() for value in module.parameters()}.values())


def names() -> list[str]:
    """The ids of all encoders: the stems of the files in encoders/ that do not begin with an underscore."""
    return sorted(path.stem for path in (ROOT / "encoders").glob("*.py") if not path.stem.startswith("_"))


def ready(module: "torch.nn.Module", device: str) -> "torch.nn.Module":
    """A network as `load` must leave it: float32, on its device, and in inference mode.

    `Module.eval` is torch's switch for dropout and batch norm (it evaluates no text); a release may store half precision.
    """
    return module.float().eval().to(device)


def one_grid(maps: "list[torch.Tensor]") -> "list[torch.Tensor]":
    """The four stages of a convolutional or hierarchical network, fine to coarse, on the grid of the third, for `encode_levels`.

    Finer maps are averaged, coarser ones repeated: the decoder's pyramid (4, 2, 1 and 1/2 times the grid) then has the
    strides of the network itself.
    """
    from torch.nn.functional import adaptive_avg_pool2d, interpolate

    def fitted(part: "torch.Tensor") -> "torch.Tensor":
        coarser = part.shape[-1] < grid[-1]
        return interpolate(part, grid, mode="nearest") if coarser else adaptive_avg_pool2d(part, grid)

    grid = maps[2].shape[-2:]
    return [part if part.shape[-2:] == grid else fitted(part) for part in maps]


#: prefixes of ids that need no file in encoders/: "timm:<model>", "hf:<owner>/<name>" -> the wrapper that serves them
GENERIC = {"timm": "timm_model", "hf": "hf_model"}
#: a hub repository, <owner>/<name>
REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


def parse(text: str) -> tuple[str, dict[str, Any]]:
    """An entry of `encoders` in a configuration or on a command line -> (id, what the entry means).

    >>> parse("rad_dino")
    ('rad_dino', {})
    >>> parse("hf:facebook/dinov2-base")
    ('hf_facebook--dinov2-base', {'wrapper': 'hf_model', 'options': {'model': 'facebook/dinov2-base'}})

    The hub allows no "--" in a name, so two repositories never share an id.
    """
    prefix, colon, model = text.partition(":")
    if not colon or prefix not in GENERIC:
        return text, {}
    return f"{prefix}_{model.replace('/', '--')}", {"wrapper": GENERIC[prefix], "options": {"model": model}}


def describe(name: str, spec: Mapping[str, Any]) -> Card:
    """The card of an entry of the configuration: of its wrapper, under its options, with its title and revision.

    A second row of one wrapper carries what is not the default in its title, unless the entry has a title of its own.

    Raises:
        ConfigError: an option that is not permitted, or a revision of weights that are not on the hub.
    """
    wrapper = find(spec.get("wrapper") or name)
    values = wrapper.values(spec.get("options") or {})
    card = wrapper.card_for(values)
    _check_side(name, wrapper, values, card)
    changed = [f"{key} {values[key]}" for key, option in wrapper.options.items() if values[key] != option.default and option.in_title]
    if spec.get("revision"):
        card = _at_revision(name, card, spec["revision"], bool(spec.get("weights")))
        changed += [f"revision {card.revision[:12]}"] if card.revision != wrapper.card.revision else []
    title = spec.get("title") or (f"{card.title} ({', '.join(changed)})" if changed else card.title)
    return dataclasses.replace(card, title=title, pretrained_on=tuple(with_parents(card.pretrained_on)))


def _check_side(name: str, wrapper: type[Encoder], values: Mapping[str, Any], card: Card) -> None:
    """Refuse a side that is no whole number of patches, the rest of which no token would see, and a share that is none."""
    side, patch = values.get("image_size"), card.patch
    if side is not None and side < 0:
        raise ConfigError(f"encoders: {name}", "option image_size", got=side, expected="pixels, 1 or more")
    if side and side != wrapper.options["image_size"].default and isinstance(patch, int) and side % patch:
        expected = f"a multiple of its patches of {patch}: {side // patch * patch or patch} or {(side // patch + 1) * patch}"
        raise ConfigError(f"encoders: {name}", "option image_size", got=side, expected=expected)
    for share in ("field", "crop"):
        if values.get(share) is not None and not 0 < values[share] <= 1:
            expected = "a share of the side, above 0 and at most 1"
            raise ConfigError(f"encoders: {name}", f"option {share}", got=values[share], expected=expected)


def _at_revision(name: str, card: Card, revision: str, local: bool) -> Card:
    """The card of a commit of the same repository: of another than the card's the digest is not known."""
    where = f"encoders: {name}"
    if not card.weights.startswith("hf:"):
        raise ConfigError(where, "a revision of weights that are not on the hub", got=card.weights or "no weights", fix="remove `revision`")
    if local:
        raise ConfigError(where, "both `weights` and `revision`", expected="a path or a revision of the hub", fix="remove one of them")
    if revision == card.revision:
        return card
    how = f"{card.how_to_get or f'python -m radbench.weights {name}'}; add --revision {revision}, which the configuration asks for"
    return dataclasses.replace(card, revision=revision, digest="", how_to_get=how)


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
