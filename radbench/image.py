"""Image files to grey pixels, and grey pixels to encoder input.

`decode` turns one file into (H, W) uint8 or uint16 with 1 = white (MONOCHROME1 inverted). 8-bit files keep their values;
deeper files and DICOM are stretched from their own minimum and maximum to 0-65535, as RAD-DINO's card asks for DICOM, after
the intensity rule of the configuration (`range` by default; `window` and `percentile` in radbench/dicom.py). The resizers
work on float32 in [0, 1] with Pillow's antialiased filters in float mode: no rounding to grey levels between steps.
"""

import dataclasses
import functools
import hashlib
import io
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
from PIL import Image, ImageFile

from . import dicom
from .errors import DataError

INTENSITY_RULE = "8-bit: value/255; deeper and DICOM: (value - min)/(max - min)"
SUFFIXES = (".png", ".jpg", ".jpeg", ".dcm", ".dicom")
MIN_SIDE, MAX_PIXELS = 32, dicom.MAX_PIXELS  # a radiograph has 1 to 20 million pixels
RAW_SIDE = 2048
Image.MAX_IMAGE_PIXELS = MAX_PIXELS
ImageFile.LOAD_TRUNCATED_IMAGES = False


@dataclasses.dataclass(frozen=True)
class Decoded:
    """Pixels (H, W) uint8 or uint16, 1 = white, and what the file said of itself."""

    pixels: np.ndarray
    bits: int
    photometric: str
    source_format: str

    @functools.cached_property
    def sha256(self) -> str:
        """Hash of shape and pixels: the same picture in another container has the same hash."""
        head = f"{self.pixels.shape}{self.pixels.dtype}".encode()
        return hashlib.sha256(head + np.ascontiguousarray(self.pixels).tobytes()).hexdigest()


class Source(Protocol):
    """A file, or a member of an archive (radbench.datasets.files)."""

    name: str
    suffix: str

    def read_bytes(self) -> bytes: ...


def decode(source: Source, intensity: str = "range") -> Decoded:
    """Read one image file.

    Args:
        intensity: of DICOM and of pictures deeper than 8 bits; see `radbench.dicom.read`. Pictures know no window.

    Raises:
        DataError: the file is missing, empty, truncated, not an image, or of an absurd size. `error.what` is the
            reason for quarantine.csv.
    """
    try:
        if isinstance(source, Path) and source.exists() and not source.is_file():
            raise DataError(source, "not a plain file")  # a pipe would be waited for
        content = source.read_bytes()
    except OSError as error:
        raise DataError(source, f"cannot be read ({error.strerror or error})") from None
    if not content:
        raise DataError(source, "empty file")
    if source.suffix.lower() == ".img":
        decoded = _decode_raw(content, source)
    elif dicom.looks_like(content, source.suffix):
        frame = dicom.read(content, source, intensity)
        decoded = Decoded(_stretched(frame.codes, frame.values, frame.bits), frame.bits, frame.photometric,
                          f"DICOM {frame.transfer_syntax}")  # fmt: skip
    else:
        decoded = _decode_picture(content, source, intensity)
    rows, cols = decoded.pixels.shape
    if min(rows, cols) < MIN_SIDE or rows * cols > MAX_PIXELS or max(rows, cols) > 20 * min(rows, cols):
        raise DataError(source, f"absurd size {rows} x {cols}", expected=f"sides of {MIN_SIDE} pixels or more, aspect below 20")
    if decoded.pixels.min() == decoded.pixels.max():
        raise DataError(source, "constant image")
    return decoded


def _decode_picture(content: bytes, where: Source, intensity: str) -> Decoded:
    try:
        with Image.open(io.BytesIO(content)) as picture:
            name, mode = picture.format or "unknown", picture.mode
            if getattr(picture, "n_frames", 1) > 1:
                raise DataError(where, f"{name} of {picture.n_frames} frames", expected="one picture")
            picture.load()
            if mode in ("I;16", "I;16B", "I;16L", "I"):
                pixels, bits = np.asarray(picture), 16
            elif name == "PNG" and content[24] == 16:  # the depth in its header: of several channels Pillow reads the upper halves alone
                pixels, bits = _grey_of_deep(content), 16
            elif mode == "F":
                raise DataError(where, "floating-point image", expected="8 or 16 bits per pixel")
            else:
                pixels, bits = _grey(picture if mode == "L" else picture.convert("L")), 8
    except DataError:
        raise
    except Image.UnidentifiedImageError:
        raise DataError(where, "not an image") from None
    except Image.DecompressionBombError as error:
        raise DataError(where, f"absurd size ({error})") from None
    except Exception as error:  # Pillow's plug-ins raise a dozen unrelated classes, memory errors for lengths that are damaged among them
        raise DataError(where, f"truncated or damaged ({error})") from None
    if bits == 16:
        codes, values = dicom.coded(pixels)
        pixels = _stretched(codes, values.clip(*np.percentile(pixels, [1, 99])) if intensity == "percentile" else values, bits)
    return Decoded(pixels, bits, "MONOCHROME2", name)


def _grey_of_deep(content: bytes) -> np.ndarray:
    """(H, W) uint16 of a PNG of several 16-bit channels: the grey one, or of three that differ the luma; transparency is passed over."""
    import imagecodecs

    channels = imagecodecs.png_decode(content)
    colours = channels[..., : 1 if channels.shape[2] == 2 else 3].astype(np.uint32)
    if (colours == colours[..., :1]).all():
        return channels[..., 0]
    return ((colours * np.array([299, 587, 114], dtype=np.uint32)).sum(axis=2, dtype=np.uint32) // 1000).astype(np.uint16)


def _grey(picture: Image.Image) -> np.ndarray:
    """(H, W) uint8 of a picture of mode L, in Pillow's own memory: `np.asarray` copies them twice."""
    try:
        return pa.array(picture).to_numpy().reshape(picture.height, picture.width)
    except ValueError:  # more than 16 MiB, which Pillow keeps in several pieces
        return np.asarray(picture)


def _decode_raw(content: bytes, where: Source) -> Decoded:
    """JSRT's files: no header, 2048 x 2048 big-endian 16-bit words of which 12 bits are used."""
    if len(content) != 2 * RAW_SIDE**2:
        raise DataError(
            where, f"{len(content)} bytes", expected=f"{2 * RAW_SIDE**2}: {RAW_SIDE} x {RAW_SIDE} 16-bit words without a header"
        )
    codes, values = dicom.coded(np.frombuffer(content, dtype=">u2").reshape(RAW_SIDE, RAW_SIDE).astype(np.uint16))
    return Decoded(_stretched(codes, values, 12), 12, "MONOCHROME2", "raw 16-bit")


def _stretched(codes: np.ndarray, values: np.ndarray, bits: int) -> np.ndarray:
    """`stretch(values[codes])`; as uint8 where 8 bits hold the very same picture, which halves the store."""
    table = stretch(values)
    if bits <= 8 and not (table % 257).any():
        table = (table // 257).astype(np.uint8)
    return np.take(table, codes, mode="clip")  # codes are never out of range: "clip" saves the check and half of the time


def stretch(pixels: np.ndarray) -> np.ndarray:
    """Map the range of `pixels` linearly onto 0-65535, as uint16; a constant image becomes zero."""
    low, high = float(pixels.min()), float(pixels.max())
    scale = 65535.0 / (high - low) if high > low else 0.0
    return np.round((pixels - low) * scale).astype(np.uint16)


def to_unit(pixels: np.ndarray) -> np.ndarray:
    """uint8 or uint16 (H, W) to float32 in [0, 1]."""
    return np.divide(pixels, np.float32(np.iinfo(pixels.dtype).max), dtype=np.float32)


# ---------------------------------------------------------------- encoder input


def _cubic(x: np.ndarray) -> np.ndarray:
    x = np.abs(x)
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2  # Keys (1981), a = -0.5
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


FILTERS = {  # name: kernel over the distance from the centre, in output pixels, and how far it reaches
    "box": (lambda x: np.where((x > -0.5) & (x <= 0.5), 1.0, 0.0), 0.5),
    "bilinear": (lambda x: np.clip(1 - np.abs(x), 0, None), 1.0),
    "bicubic": (_cubic, 2.0),
    "lanczos": (lambda x: np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0.0), 3.0),
}
BLOCK = 16  # output pixels multiplied at a time: a band of so many rows of the resize matrix is dense enough for BLAS


@functools.lru_cache(256)
def _bands(old: int, new: int, interpolation: str) -> list[tuple[slice, slice, np.ndarray]]:
    """The (new, old) matrix of a one-dimensional antialiased resize, rows summing to one as in Pillow's precompute_coeffs.

    In bands of rows: which outputs, which inputs they need, and the dense float32 weights between them.
    """
    kernel, reach = FILTERS[interpolation]
    stretch_by = max(old / new, 1.0)  # a kernel narrower than the output's pixels would alias
    centre = (np.arange(new) + 0.5) * (old / new)
    first = np.maximum((centre - reach * stretch_by + 0.5).astype(int), 0)
    last = np.minimum((centre + reach * stretch_by + 0.5).astype(int), old)
    bands = []
    for start in range(0, new, BLOCK):
        rows = slice(start, min(start + BLOCK, new))
        taps = np.arange(first[rows].min(), last[rows].max())
        used = (taps >= first[rows, None]) & (taps < last[rows, None])
        weights = np.where(used, kernel((taps - centre[rows, None] + 0.5) * (1 / stretch_by)), 0.0)
        weights /= weights.sum(1, keepdims=True)
        bands.append((rows, slice(taps[0], taps[-1] + 1), weights.astype(np.float32)))
    return bands


def resize(image: np.ndarray, rows: int, cols: int, interpolation: str = "bilinear") -> np.ndarray:
    """Antialiased resize of (H, W) numbers to float32 (rows, cols), aspect ignored ("squash" when it differs).

    Pillow's filters and coefficients as two banded matrix products, first down, then across: equal to `Image.resize` in mode
    F to float32 rounding, and three times as fast.
    """
    if image.shape == (rows, cols):
        return image
    short = np.empty((rows, image.shape[1]), dtype=np.float32)
    for outputs, inputs, weights in _bands(image.shape[0], rows, interpolation):
        np.matmul(weights, image[inputs].astype(np.float32, copy=False), out=short[outputs])
    out = np.empty((rows, cols), dtype=np.float32)
    for outputs, inputs, weights in _bands(image.shape[1], cols, interpolation):
        np.matmul(short[:, inputs], weights.T, out=out[:, outputs])
    return out


def resize_shortest(image: np.ndarray, size: int, interpolation: str = "bilinear") -> np.ndarray:
    """Scale so that the shorter side is `size`; the longer side is truncated to an integer, as torchvision does."""
    rows, cols = image.shape
    if rows <= cols:
        return resize(image, size, int(size * cols / rows), interpolation)
    return resize(image, int(size * rows / cols), size, interpolation)


def center_crop(image: np.ndarray, size: int) -> np.ndarray:
    """The central size x size window (torchvision's rounding); the image must be at least that large."""
    top, left = round((image.shape[0] - size) / 2.0), round((image.shape[1] - size) / 2.0)
    return image[top : top + size, left : left + size]


def resize_crop(image: np.ndarray, size: int, interpolation: str = "bilinear") -> np.ndarray:
    """Shortest side to `size`, then the central size x size window."""
    return center_crop(resize_shortest(image, size, interpolation), size)


def resize_pad(image: np.ndarray, size: int, interpolation: str = "bilinear", value: float = 0.0) -> np.ndarray:
    """Longest side to `size`, then pad with `value` to a centred size x size square."""
    rows, cols = image.shape
    scale = size / max(rows, cols)
    small = resize(image, max(1, round(rows * scale)), max(1, round(cols * scale)), interpolation)
    out = np.full((size, size), value, dtype=np.float32)
    top, left = (size - small.shape[0]) // 2, (size - small.shape[1]) // 2
    out[top : top + small.shape[0], left : left + small.shape[1]] = small
    return out


def normalise(image: np.ndarray, mean: float | tuple[float, ...], std: float | tuple[float, ...], channels: int = 3) -> np.ndarray:
    """(H, W) grey to (channels, H, W): the same picture in each channel, minus mean, over std (per channel or one)."""
    mean = np.broadcast_to(np.asarray(mean, dtype=np.float32), channels)[:, None, None]
    std = np.broadcast_to(np.asarray(std, dtype=np.float32), channels)[:, None, None]
    return (image[None] - mean) / std
