"""One encoder under test: loaded once, shown pictures whose content is known, and what came out kept for all checks.

Without weights its network is filled by a formula (radbench/formula.py), so two networks that differ in one option differ in
nothing else.
"""

import contextlib
import functools
import importlib.util
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import artifact, weights
from .encoder import Encoder, Features
from .errors import ConfigError, RadbenchError

if TYPE_CHECKING:
    import torch

PORTRAIT, LANDSCAPE, SQUARE = (400, 300), (300, 400), (400, 400)
#: where bright squares are put (rows and columns, 0 to 1) to follow them into the input: near enough to the middle that no crop
#: loses them, and such that no mirror image, turn or transposition maps one onto another
PLACES = ((0.35, 0.71), (0.62, 0.30))
SHARE = 0.06  # of the shorter side: that square
BATCH_WORK = 2.5e10  # parameters times tokens, a ViT-B at 224 pixels; what costs more per image is not asked for a batch of eight


class ContractError(RadbenchError):
    """A wrapper does not do what radbench.encoder asks of it."""


class NotApplicableError(Exception):
    """A check has nothing to look at in this encoder, or cannot look here."""


class Subject:
    """One encoder under test; what several checks need is made once, because a forward pass may take a minute."""

    def __init__(self, name: str, encoder_class: type[Encoder], path: Path | None = None, options: Mapping | None = None):
        self.name, self.encoder_class, self.path, self.options = name, encoder_class, path, dict(options or {})
        self.values = encoder_class.values(self.options)
        self.card = encoder_class.card_for(self.values)
        self.untapped = ""  # why the model that was named cannot be tapped

    @property
    def where(self) -> str:
        return self.encoder_class.__module__.replace(".", "/") + ".py"  # a row of timm or the hub has no file of its name

    @property
    def named_model(self) -> bool:
        """A generic wrapper that serves a model somebody named: what that model lacks is no fault of the wrapper."""
        return self.encoder_class.generic and bool(self.options.get("model"))

    def loaded(self, seed: int = 0, **options) -> Encoder:
        """A new instance on the CPU, as the harness makes it, except that eval mode is left to the wrapper.

        Raises:
            NotApplicableError: a package or a file is missing that the network cannot do without.
        """
        missing = [name for name in self.card.needs if importlib.util.find_spec(name) is None]
        if missing:
            raise NotApplicableError(f"needs {', '.join(missing)}, which is not installed")
        import torch

        from .formula import Repeated, fill

        torch.manual_seed(seed)  # what is in no state dict may still be drawn
        try:
            encoder = self.encoder_class(self._path_under(options), self.options | options)
            with Repeated() if encoder.weights is None else contextlib.nullcontext():
                encoder.load("cpu")
        except artifact.Absent as gap:
            raise NotApplicableError(str(gap)) from None
        if encoder.weights is None:
            for module in encoder.modules():
                fill(module)
        return encoder

    def _path_under(self, options: Mapping) -> Path | None:
        """The weights under other options: an option may select another file."""
        card = self.encoder_class.card_for(self.values | dict(options))
        if self.path is None or (card.weights, card.files) == (self.card.weights, self.card.files):
            return self.path
        return weights.resolve(self.name, card)

    @functools.cached_property
    def encoder(self) -> Encoder:
        return self.loaded()

    # ------------------------------------------------------------ pictures

    @functools.cached_property
    def preparer(self) -> Encoder:
        """What prepares pictures: the loaded encoder; where its network cannot run here, one that holds none."""
        try:
            return self.encoder
        except NotApplicableError:
            if self.encoder_class.generic:  # how its input is made is written in files that are not here
                raise
            return self.encoder_class(self.path, self.options)

    def prepared(self, picture: np.ndarray) -> np.ndarray:
        return np.array(self.preparer.preprocess(picture.copy()))

    def seen_at(self, shape: tuple[int, int], place: tuple[float, float]) -> tuple[float, float]:
        """Where in the input (0 to 1, rows and columns) a bright square appears that is put at `place` of a picture; nan: nowhere."""
        picture = texture(shape)
        side = SHARE * min(shape)
        return centre_of_change(self.prepared(picture), self.prepared(with_square(picture, place, (side, side))))

    @functools.cached_property
    def scales(self) -> tuple[float, float]:
        """How much larger a share of the input than of the portrait something is, in rows and in columns; 1 where it is unclear."""
        found = [self.seen_at(PORTRAIT, place) for place in PLACES]
        ratios = [np.mean([(seen[axis] - 0.5) / (place[axis] - 0.5) for seen, place in zip(found, PLACES, strict=True)]) for axis in (0, 1)]
        return tuple(float(ratio) if 0.25 < ratio < 4 else 1.0 for ratio in ratios)

    # ------------------------------------------------------------ what the network makes of them

    def encode(self, images: "torch.Tensor") -> Features:
        """As the harness does: without gradients."""
        import torch

        with torch.inference_mode():
            return self.encoder.encode(images)

    def tap(self, images: "torch.Tensor") -> list:
        """The four taps; none where the model that was named has none to tap."""
        import torch

        try:
            with torch.inference_mode():
                return self.encoder.encode_levels(images)
        except ConfigError as error:
            if not self.named_model:
                raise
            self.untapped = str(error)
            return []

    @functools.cached_property
    def image(self) -> "torch.Tensor":
        """(1, C, h, w): the portrait, prepared by the wrapper."""
        return _batch(self.prepared(texture(PORTRAIT)))

    @functools.cached_property
    def single(self) -> Features:
        """Of the portrait alone; `ends` notes the first and the last token of every layer on the way."""
        with recorded(self.encoder.modules(), lambda output: (output[0, 0].clone(), output[0, -1].clone())) as self.ends:
            return self.encode(self.image)

    @functools.cached_property
    def pair(self) -> "torch.Tensor":
        """(2, C, h, w): the portrait, and the portrait with a bright square that fills most of one cell of the patch grid.

        No flip and no transposition maps that cell onto itself.
        """
        import torch

        grid = self.single.patches.shape[1:3]
        cell = grid[0] // 6, grid[1] // 3
        inside = [(index + 0.5) / count - 0.5 for index, count in zip(cell, grid, strict=True)]
        place = tuple(0.5 + offset / scale for offset, scale in zip(inside, self.scales, strict=True))
        size = tuple(0.7 * side / count / scale for side, count, scale in zip(PORTRAIT, grid, self.scales, strict=True))
        return torch.cat([self.image, _batch(self.prepared(with_square(texture(PORTRAIT), place, size)))])

    @functools.cached_property
    def cell(self) -> tuple[int, int]:
        """The cell of the patch grid that holds the square of the pair, by the prepared input."""
        grid, seen = self.single.patches.shape[1:3], centre_of_change(*self.pair.numpy())
        return tuple(min(int(share * count), count - 1) for share, count in zip(np.nan_to_num(seen), grid, strict=True))

    @functools.cached_property
    def batch(self) -> Features:
        return self.encode(self.pair)

    @functools.cached_property
    def levels(self) -> list:
        """The taps of the pair."""
        return self.tap(self.pair)

    @functools.cached_property
    def single_levels(self) -> list:
        """The taps of the portrait alone; `passed` notes the last token, or the mean of a map, of every layer on the way."""

        def look(output: "torch.Tensor") -> list:
            if output.ndim == 3:
                return [output[0, -1].clone()]
            return [output[0].mean((0, 1)), output[0].mean((1, 2))]  # channels last, or first

        with recorded(self.encoder.modules(), look) as self.passed:
            return self.tap(self.image)

    @functools.cached_property
    def eight(self) -> "torch.Tensor | None":
        """(8, C, h, w): six other pictures, then the pair; None for an encoder that is too expensive for it."""
        import torch

        if self.encoder.parameter_count() * self.single.patches[0, ..., 0].numel() > BATCH_WORK:
            return None
        return torch.cat([*(_batch(self.prepared(texture(PORTRAIT, seed))) for seed in range(1, 7)), self.pair])


def _batch(image: np.ndarray) -> "torch.Tensor":
    import torch

    return torch.from_numpy(image)[None]


@contextlib.contextmanager
def recorded(modules: list, look: Callable[["torch.Tensor"], Any]) -> Iterator[list[tuple[str, Any]]]:
    """(name of a part of the network, look(its output)) for every call in which the output is tokens or a map, in order."""
    calls: list[tuple[str, Any]] = []

    def note(name: str, output: Any) -> None:
        output = output[0] if isinstance(output, tuple) and output else output
        if getattr(output, "ndim", 0) in (3, 4):
            calls.append((name, look(output)))

    handles = [part.register_forward_hook(lambda part, inputs, output, name=name: note(name, output))
               for module in modules for name, part in module.named_modules()]  # fmt: skip
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


@functools.lru_cache
def texture(shape: tuple[int, int], seed: int = 0, full_range: bool = True) -> np.ndarray:
    """Coarse blocks under noise, no mirror image of itself.

    With the full range there is black and white in the middle, so that a stretch to it does nothing and a bright square is a
    change where it lies and nowhere else.
    """
    random = np.random.default_rng(seed)
    blocks = np.kron(random.random((8, 8)), np.ones((-(-shape[0] // 8), -(-shape[1] // 8))))[: shape[0], : shape[1]]
    picture = (0.3 + 0.2 * blocks + 0.2 * random.random(shape)).astype(np.float32)
    if full_range:
        row, col = shape[0] // 2, shape[1] // 2
        picture[row - 16 : row + 16, col - 32 : col], picture[row - 16 : row + 16, col : col + 32] = 0.0, 1.0
    picture.flags.writeable = False
    return picture


def with_square(picture: np.ndarray, place: tuple[float, float], size: tuple[float, float]) -> np.ndarray:
    """The picture with a white rectangle of `size` pixels centred at `place` (0 to 1)."""
    ends = [(share * side - length / 2, share * side + length / 2) for share, side, length in zip(place, picture.shape, size, strict=True)]
    rows, cols = (slice(max(round(start), 0), max(round(stop), 0)) for start, stop in ends)
    picture = picture.copy()
    picture[rows, cols] = 1.0
    return picture


def centre_of_change(before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
    """(rows, columns), 0 to 1, of what differs by at least half of the largest difference between (C, h, w) and (C, h, w)."""
    change = np.abs(after - before).sum(0)
    if not change.max() > 0:
        return float("nan"), float("nan")
    lit = np.nonzero(change > change.max() / 2)
    return tuple(float((places.mean() + 0.5) / side) for places, side in zip(lit, change.shape, strict=True))
