"""Image files to grey pixels, and grey pixels to encoder input.

`decode` turns one file into (H, W) uint8 or uint16 with 1 = white (MONOCHROME1 inverted). The intensity rule is fixed:
8-bit files keep their values; deeper files and DICOM are stretched from their own minimum and maximum to 0-65535, as
RAD-DINO's card asks for DICOM. The resizers work on float32 in [0, 1] with Pillow's antialiased filters in float mode:
no rounding to grey levels between steps.
"""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile

from .errors import DataError

INTENSITY_RULE = "8-bit: value/255; deeper and DICOM: (value - min)/(max - min)"
SUFFIXES = (".png", ".jpg", ".jpeg", ".dcm", ".dicom")
MIN_SIDE, MAX_PIXELS = 32, 200_000_000  # a radiograph has 1 to 20 million pixels
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC,
           "lanczos": Image.Resampling.LANCZOS, "box": Image.Resampling.BOX}  # fmt: skip

Image.MAX_IMAGE_PIXELS = MAX_PIXELS
ImageFile.LOAD_TRUNCATED_IMAGES = False


@dataclasses.dataclass(frozen=True)
class Decoded:
    """Pixels (H, W) uint8 or uint16, 1 = white, and what the file said of itself."""

    pixels: np.ndarray
    bits: int
    photometric: str
    source_format: str

    @property
    def sha256(self) -> str:
        """Hash of shape and pixels: the same picture in another container has the same hash."""
        head = f"{self.pixels.shape}{self.pixels.dtype}".encode()
        return hashlib.sha256(head + np.ascontiguousarray(self.pixels).tobytes()).hexdigest()


def decode(path: Path) -> Decoded:
    """Read one image file.

    Raises:
        DataError: the file is missing, empty, truncated, not an image, or of an absurd size. `error.what` is the
            reason for quarantine.csv.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise DataError(path, f"cannot be read ({error.strerror or error})") from None
    if size == 0:
        raise DataError(path, "empty file")
    with open(path, "rb") as handle:
        head = handle.read(132)
    dicom = head[128:132] == b"DICM" or path.suffix.lower() in (".dcm", ".dicom")
    decoded = _decode_dicom(path) if dicom else _decode_picture(path)
    rows, cols = decoded.pixels.shape
    if min(rows, cols) < MIN_SIDE or rows * cols > MAX_PIXELS or max(rows, cols) > 20 * min(rows, cols):
        raise DataError(path, f"absurd size {rows} x {cols}", expected=f"sides of {MIN_SIDE} pixels or more, aspect below 20")
    if decoded.pixels.min() == decoded.pixels.max():
        raise DataError(path, "constant image")
    return decoded


def _decode_picture(path: Path) -> Decoded:
    try:
        with Image.open(path) as picture:
            source, mode = picture.format or "unknown", picture.mode
            picture.load()
            if mode in ("I;16", "I;16B", "I;16L", "I"):
                pixels, bits = np.asarray(picture.convert("I"), dtype=np.int64), 16
            elif mode == "F":
                raise DataError(path, "floating-point image", expected="8 or 16 bits per pixel")
            else:
                pixels, bits = np.asarray(picture.convert("L")), 8
    except DataError:
        raise
    except Image.UnidentifiedImageError:
        raise DataError(path, "not an image") from None
    except Image.DecompressionBombError as error:
        raise DataError(path, f"absurd size ({error})") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # Pillow raises all four for damaged files
        raise DataError(path, f"truncated or damaged ({error})") from None
    return Decoded(pixels if bits == 8 else stretch(pixels), bits, "MONOCHROME2", source)


def _decode_dicom(path: Path) -> Decoded:
    import pydicom
    from pydicom.pixels import apply_modality_lut

    try:
        dataset = pydicom.dcmread(path, force=True)
        raw = dataset.pixel_array
        pixels = apply_modality_lut(raw, dataset).astype(np.float64)
    except Exception as error:  # pydicom and its decoders raise a dozen unrelated classes for damaged files
        raise DataError(path, f"DICOM that cannot be decoded ({type(error).__name__}: {error})") from None
    if pixels.ndim != 2:
        raise DataError(path, f"DICOM of shape {pixels.shape}", expected="one grey frame")
    photometric = str(dataset.get("PhotometricInterpretation", "MONOCHROME2"))
    if photometric == "MONOCHROME1":
        pixels = pixels.max() - pixels
    return Decoded(stretch(pixels), int(dataset.get("BitsStored", 16)), photometric, "DICOM")


def stretch(pixels: np.ndarray) -> np.ndarray:
    """Map the range of `pixels` linearly onto 0-65535, as uint16; a constant image becomes zero."""
    low, high = float(pixels.min()), float(pixels.max())
    scale = 65535.0 / (high - low) if high > low else 0.0
    return np.round((pixels - low) * scale).astype(np.uint16)


def to_unit(pixels: np.ndarray) -> np.ndarray:
    """uint8 or uint16 (H, W) to float32 in [0, 1]."""
    return pixels.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max)


# ---------------------------------------------------------------- encoder input


def resize(image: np.ndarray, rows: int, cols: int, interpolation: str = "bilinear") -> np.ndarray:
    """Antialiased resize of float32 (H, W) to (rows, cols), aspect ignored ("squash" when it differs)."""
    if image.shape == (rows, cols):
        return image
    picture = Image.fromarray(np.ascontiguousarray(image, dtype=np.float32))
    return np.asarray(picture.resize((cols, rows), FILTERS[interpolation]))


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
