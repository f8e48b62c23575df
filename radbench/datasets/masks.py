"""Drawing a `Mask`: from a file's pixels, polygons, runs or a box, cut to a box or to one side."""

import io
import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from ..errors import DataError
from . import Box, Mask
from .files import File

MASK_ASPECT = 0.02  # a mask may be of another size than its image, not of another aspect (difference of logarithms)


def read(path: File) -> tuple[np.ndarray, int]:
    """The numbers of a mask file (H, W), and how many bits they have. Raises what Pillow raises for damaged files."""
    if isinstance(path, Path) and path.exists() and not path.is_file():
        raise DataError(path, "not a plain file")  # a pipe would be waited for
    with Image.open(path if isinstance(path, Path) else io.BytesIO(path.read_bytes())) as picture:
        if picture.mode.startswith("I"):
            return np.asarray(picture.convert("I")), 16
        # a palette's numbers are the structures, its colours are not; but a GIF has no other way than its palette to say 0 and 255
        numbers = picture.mode in ("P", "L") and picture.format != "GIF"
        return np.asarray(picture if numbers else picture.convert("L")), 8


def picture_size(path: File) -> tuple[int, int] | None:
    """(rows, columns) from a picture's header; None when it cannot be read, which radbench.index then reports."""
    try:
        with Image.open(path if isinstance(path, Path) else io.BytesIO(path.read_bytes())) as picture:
            return picture.height, picture.width
    except (OSError, SyntaxError, ValueError, DataError, Image.DecompressionBombError):
        return None


def fault(mask: Mask, values: np.ndarray | None, depth: int, shape: tuple[int, ...]) -> str:
    """Why a mask cannot be laid over an image of `shape`, or an empty string."""
    of = values.shape if values is not None else mask.size
    for frame in (of, mask.size or of):
        if frame is None or min(frame) < 1 or abs(math.log(frame[0] * shape[1] / (frame[1] * shape[0]))) > MASK_ASPECT:
            return f"mask of {frame} for an image of {shape}: not the same picture"
    if mask.bit is not None and mask.bit >= depth:
        return f"a bit of {depth} or more in a {depth}-bit mask"
    if mask.runs is not None and any(start < 0 or length < 0 or start + length > math.prod(mask.size) for start, length in mask.runs):
        return f"runs that leave a mask of {mask.size}"
    return ""


def place(mask: Mask, values: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray:
    """Where the structure is: bool, of the file's shape, or of `shape` when there is no file."""
    shape = values.shape if values is not None else shape[:2]
    scale = (shape[0] / mask.size[0], shape[1] / mask.size[1]) if mask.size else (1.0, 1.0)
    if values is not None:
        inside = values != 0 if mask.bit is None else (values >> mask.bit) & 1 != 0
    elif mask.runs is not None:
        inside = _runs(mask.runs, mask.size, shape)
    elif mask.polygons:
        inside = _polygons(mask.polygons, scale, shape)
    else:
        inside = np.ones(shape, dtype=bool) if mask.box else np.zeros(shape, dtype=bool)
    if mask.sides:
        inside = _side(inside, *(_window(box, scale, shape) for box in mask.sides))
    if mask.box:
        rows, cols = _window(mask.box, scale, shape)
        within = np.zeros(shape, dtype=bool)
        within[rows, cols] = inside[rows, cols]
        inside = within
    return inside


def _window(box: Box, scale: tuple[float, float], shape: tuple[int, ...]) -> tuple[slice, slice]:
    """The pixels whose centre a box holds, clipped to the picture."""
    x0, y0, x1, y1 = box
    ends = [(math.ceil(low * by - 0.5), math.ceil(high * by - 0.5)) for low, high, by in ((y0, y1, scale[0]), (x0, x1, scale[1]))]
    rows, cols = (slice(min(max(low, 0), top), min(max(high, 0), top)) for (low, high), top in zip(ends, shape, strict=True))
    return rows, cols


def _polygons(polygons: tuple, scale: tuple[float, float], shape: tuple[int, ...]) -> np.ndarray:
    """The union of polygons, borders included, as the owners' own tools draw them."""
    inside = np.zeros(shape, dtype=bool)
    for points in polygons:
        if len(points) >= 3:
            canvas = Image.new("1", (shape[1], shape[0]))
            ImageDraw.Draw(canvas).polygon([(x * scale[1], y * scale[0]) for x, y in points], fill=1, outline=1)
            inside |= np.asarray(canvas)
    return inside


def _runs(runs: tuple[tuple[int, int], ...], size: tuple[int, int], shape: tuple[int, ...]) -> np.ndarray:
    flat = np.zeros(size[0] * size[1], dtype=bool)
    for start, length in runs:
        flat[start : start + length] = True
    whole = flat.reshape(size[1], size[0]).T
    if whole.shape == shape:
        return whole
    rows, cols = ((np.arange(new) + 0.5) * old / new for new, old in zip(shape, size, strict=True))
    return whole[rows.astype(int)[:, None], cols.astype(int)[None]]


def _side(inside: np.ndarray, own: tuple[slice, slice], other: tuple[slice, slice]) -> np.ndarray:
    """The connected parts with more pixels in the own box than in the other; one that fills both is cut half-way between them."""
    parts, count = ndimage.label(inside)
    middles = [(window[1].start + window[1].stop) / 2 for window in (own, other)]
    nearer = np.abs(np.arange(inside.shape[1]) + 0.5 - middles[0]) <= np.abs(np.arange(inside.shape[1]) + 0.5 - middles[1])
    mine, theirs = (np.bincount(parts[window].ravel(), minlength=count + 1) for window in (own, other))
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    cut = (np.minimum(mine, theirs) > 0.2 * sizes) | (mine == theirs)  # both lungs grown together, or outside of both boxes
    whole = (mine > theirs) & ~cut
    whole[0] = cut[0] = False  # the background
    return whole[parts] | (cut[parts] & nearer)
