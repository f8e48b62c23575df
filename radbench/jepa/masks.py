"""Multi-block masks of I-JEPA (Assran et al., 2023, section 3), drawn for a whole batch at once.

Per batch one block size is drawn for the targets and one for the context; per image the places. The context loses every
patch that a target covers. Two departures from the reference code, both recorded in docs/decisions/0004-masks.md:
the last row and column can be drawn (there they never are), and the context is cut to the batch's smallest size by
dropping random patches (there by dropping the bottom of the image).
"""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class MaskProtocol:
    """Shares of the image area, aspect ratios (rows over columns), and the number of target blocks."""

    targets: int = 4
    target_scale: tuple[float, float] = (0.15, 0.2)
    target_aspect: tuple[float, float] = (0.75, 1.5)
    context_scale: tuple[float, float] = (0.85, 1.0)
    context_aspect: tuple[float, float] = (1.0, 1.0)
    min_keep: int = 10  # a context has more patches than this
    tries: int = 20


def block_size(grid: int, scale: tuple[float, float], aspect: tuple[float, float], random: np.random.Generator) -> tuple[int, int]:
    """(rows, cols) of a block. One uniform draw sets scale and aspect, as in the reference code."""
    draw = random.random()
    area = grid * grid * (scale[0] + draw * (scale[1] - scale[0]))
    ratio = aspect[0] + draw * (aspect[1] - aspect[0])
    return min(grid, round(np.sqrt(area * ratio))), min(grid, round(np.sqrt(area / ratio)))


def draw_masks(batch: int, grid: int, protocol: MaskProtocol, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Context (B, K) and targets (B, M, T): patch numbers in raster order, int64, each row ascending.

    An image whose context keeps `min_keep` patches or fewer draws all its places again; after `tries` draws the
    context takes random patches back, those outside the targets first, so that the batch can go on.
    """
    target_size = block_size(grid, protocol.target_scale, protocol.target_aspect, random)
    context_size = block_size(grid, protocol.context_scale, protocol.context_aspect, random)
    shape = (batch, protocol.targets)
    targets = np.zeros((*shape, target_size[0] * target_size[1]), dtype=np.int64)
    free = np.zeros((batch, grid * grid), dtype=bool)
    todo = np.arange(batch)
    for _ in range(protocol.tries):
        targets[todo] = _blocks((len(todo), protocol.targets), target_size, grid, random)
        context = _blocks((len(todo), 1), context_size, grid, random)[:, 0]
        inside = np.zeros((len(todo), grid * grid), dtype=bool)
        np.put_along_axis(inside, context, True, axis=1)
        np.put_along_axis(inside, targets[todo].reshape(len(todo), -1), False, axis=1)
        free[todo] = inside
        todo = todo[inside.sum(axis=1) <= protocol.min_keep]
        if len(todo) == 0:
            break
    for row in todo:
        missing = protocol.min_keep + 1 - int(free[row].sum())
        covered = np.isin(np.arange(grid * grid), targets[row])
        order = np.argsort(covered + random.random(grid * grid) + 2 * free[row])  # patches outside the targets first
        free[row, order[:missing]] = True
    return _equal_subsets(free, random), targets


def _blocks(shape: tuple[int, int], size: tuple[int, int], grid: int, random: np.random.Generator) -> np.ndarray:
    """Raster patch numbers (*shape, rows * cols) of blocks at uniform places."""
    top = random.integers(0, grid - size[0] + 1, shape)
    left = random.integers(0, grid - size[1] + 1, shape)
    inner = (np.arange(size[0])[:, None] * grid + np.arange(size[1])).reshape(-1)
    return (top * grid + left)[..., None] + inner


def _equal_subsets(free: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """From each row of `free` (B, N) the same number of its true places, chosen at random, ascending."""
    keep = int(free.sum(axis=1).min())
    order = np.argsort(np.where(free, random.random(free.shape), 2.0), axis=1)
    return np.sort(order[:, :keep], axis=1)
