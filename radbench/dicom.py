"""DICOM radiographs to grey pixels: any transfer syntax in use, modality LUT, VOI on request, MONOCHROME1 inverted. Done once, here.

Headers and uncompressed or run-length pixels are pydicom's; JPEG (baseline, extended, lossless), JPEG-LS and JPEG 2000 go
to imagecodecs, which is bit-exact and several times as fast as pydicom's plug-ins (docs/performance.md). Only pixels and
four technical facts leave this module; no other tag of the file is kept, so no person can be named by what is stored.
"""

import dataclasses
import io

import numpy as np

from .errors import DataError

#: pixels of a file that are not there, or too many: refused before anything is decoded
MAX_PIXELS = 200_000_000
JPEG = {"1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"}
JPEG_LS = {"1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"}
JPEG_2000 = {"1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202",
             "1.2.840.10008.1.2.4.203"}  # fmt: skip
PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp")
INTENSITIES = ("range", "window", "percentile")


@dataclasses.dataclass(frozen=True)
class Frame:
    """Grey values after modality LUT and the intensity rule, more = whiter, and what the file says of itself.

    Everything that happens to a stored number depends on that number alone, so it is worked out once per number, not once
    per pixel: `pixels` is `values[codes]`. The smallest and the largest of `values` occur in the picture.
    """

    codes: np.ndarray  # (H, W) unsigned
    values: np.ndarray  # float64
    bits: int
    photometric: str
    transfer_syntax: str

    @property
    def pixels(self) -> np.ndarray:
        """float64 (H, W)."""
        return self.values[self.codes]


def coded(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Integers (H, W) as (codes, stored): `stored[codes]` are the integers, `stored` rises and both its ends occur."""
    low, high = int(numbers.min()), int(numbers.max())
    if high - low >= 2**16:
        stored, codes = np.unique(numbers, return_inverse=True)
        return codes.reshape(numbers.shape), stored
    wide = numbers if numbers.dtype.kind == "u" else numbers.astype(np.int64)
    return (wide - low).astype(np.uint16, copy=False), np.arange(low, high + 1)


def looks_like(content: bytes, suffix: str) -> bool:
    """Whether this is a DICOM file: by its preamble, or by its name where a de-identifier has cut the preamble off."""
    if content[128:132] == b"DICM":
        return True
    picture = content[:8] == b"\x89PNG\r\n\x1a\n" or content[:3] == b"\xff\xd8\xff" or content[:4] in (b"II*\0", b"MM\0*")
    return not picture and suffix.lower() not in PICTURES  # a UID as a name ends in a number


def read(content: bytes, where: object, intensity: str = "range") -> Frame:
    """One grey frame.

    Args:
        intensity: "range" keeps the values (the store then stretches minimum to maximum); "window" applies the file's VOI
            LUT or first window, where it has one; "percentile" clips to the 1st and 99th percentile.

    Raises:
        DataError: not DICOM, no pixels, colour, several frames, an absurd size, a decoder's complaint, or values that are
            not finite; `error.what` is the reason for quarantine.csv.
    """
    import pydicom

    try:
        dataset = pydicom.dcmread(io.BytesIO(content), force=True)
    except MemoryError:
        raise
    except Exception as error:  # pydicom raises many unrelated classes for damaged headers
        raise DataError(where, f"not a DICOM file ({type(error).__name__}: {error})") from None
    try:
        return _frame(dataset, where, intensity)
    except (DataError, MemoryError):
        raise
    except Exception as error:  # a header is parsed where it is asked for, and the decoders raise a dozen unrelated classes, too
        raise DataError(
            where, f"DICOM that cannot be decoded ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"
        ) from None


def _frame(dataset, where: object, intensity: str) -> Frame:
    from pydicom.pixels import apply_modality_lut, apply_voi_lut

    if "PixelData" not in dataset:
        raise DataError(where, "DICOM without pixel data" if len(dataset) else "not an image")
    _check(dataset, where)
    codes, stored = coded(_decoded(dataset))
    values = np.asarray(apply_modality_lut(stored, dataset), dtype=np.float64)
    if intensity == "window" and ("WindowCenter" in dataset or "VOILUTSequence" in dataset):
        table = bool(dataset.get("VOILUTSequence"))  # whose entries are numbered, and which goes before a window (pydicom's prefer_lut)
        values = np.asarray(apply_voi_lut(np.rint(values).astype(np.int64) if table else values, dataset, index=0), dtype=np.float64)
    if codes.shape != (int(dataset.Rows), int(dataset.Columns)):
        raise DataError(where, f"DICOM of shape {codes.shape} where the header says {dataset.Rows} x {dataset.Columns}")
    if not np.isfinite(values).all():
        raise DataError(where, "DICOM with values that are not finite", got=f"rescale slope {dataset.get('RescaleSlope')}")
    values = _without_padding(values, stored, codes, dataset)
    if intensity == "percentile":
        values = values.clip(*np.percentile(values[codes], [1, 99]))
    photometric = str(dataset.PhotometricInterpretation)
    if photometric == "MONOCHROME1":
        values = values.max() + values.min() - values
    return Frame(codes, values, int(dataset.BitsStored), photometric, str(dataset.file_meta.TransferSyntaxUID))


def _check(dataset, where: object) -> None:
    """Fill in what de-identifiers drop, and refuse what is no radiograph before it costs memory."""
    from pydicom.uid import ImplicitVRLittleEndian

    meta = getattr(dataset, "file_meta", None)
    if meta is None or "TransferSyntaxUID" not in meta:
        from pydicom.dataset import FileMetaDataset

        dataset.file_meta = FileMetaDataset() if meta is None else meta
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    missing = [name for name in ("Rows", "Columns", "BitsAllocated") if dataset.get(name) in (None, "")]
    if missing:
        raise DataError(where, f"DICOM without {', '.join(missing)}")
    rows, cols = int(dataset.Rows), int(dataset.Columns)
    if rows < 1 or cols < 1 or rows * cols > MAX_PIXELS:
        raise DataError(where, f"absurd size {rows} x {cols}")
    if int(dataset.get("NumberOfFrames") or 1) > 1:
        raise DataError(where, f"DICOM of {dataset.NumberOfFrames} frames", expected="one grey frame")
    if int(dataset.get("SamplesPerPixel") or 1) > 1:
        raise DataError(where, f"DICOM in colour ({dataset.get('PhotometricInterpretation')})", expected="one grey frame")
    defaults = {"SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2", "PixelRepresentation": 0,
                "BitsStored": int(dataset.BitsAllocated)}  # fmt: skip
    for name, value in defaults.items():
        if dataset.get(name) in (None, ""):
            setattr(dataset, name, value)
    if dataset.get("HighBit") in (None, ""):
        dataset.HighBit = int(dataset.BitsStored) - 1
    if str(dataset.PhotometricInterpretation) not in ("MONOCHROME1", "MONOCHROME2"):
        raise DataError(where, f"DICOM in colour ({dataset.PhotometricInterpretation})", expected="MONOCHROME1 or MONOCHROME2")


def _decoded(dataset) -> np.ndarray:
    """Stored values (H, W), sign and unused bits taken care of."""
    syntax = str(dataset.file_meta.TransferSyntaxUID)
    if syntax not in JPEG | JPEG_LS | JPEG_2000:
        # pydicom takes the low BitsStored bits; old files have theirs on top, with something else, or nothing, below
        kept, high = int(dataset.BitsStored), int(dataset.HighBit)
        if not kept <= high < int(dataset.BitsAllocated):
            return np.squeeze(dataset.pixel_array)
        dataset.BitsStored = high + 1
        pixels = np.squeeze(dataset.pixel_array) >> (high + 1 - kept)
        dataset.BitsStored = kept
        return pixels
    import imagecodecs
    from pydicom.encaps import generate_frames

    stream = next(generate_frames(dataset.PixelData, number_of_frames=1))
    if syntax in JPEG:
        pixels = imagecodecs.jpeg_decode(stream)
    else:
        pixels = imagecodecs.jpegls_decode(stream) if syntax in JPEG_LS else imagecodecs.jpeg2k_decode(stream)
    pixels = np.squeeze(pixels)
    if int(dataset.PixelRepresentation) and pixels.dtype.kind == "u":  # two's complement of BitsStored bits
        sign = 1 << (int(dataset.BitsStored) - 1)
        pixels = (pixels.astype(np.int32) & (2 * sign - 1) ^ sign) - sign
    return pixels


def _without_padding(values: np.ndarray, stored: np.ndarray, codes: np.ndarray, dataset) -> np.ndarray:
    """Padding beyond the collimator is no tissue: it takes the darkest value of the image instead of stretching its range.

    Numbers that do not occur are brought into the range of those that do.
    """
    value = dataset.get("PixelPaddingValue")
    steps = np.diff(values)
    if not isinstance(value, int) and ((steps >= 0).all() or (steps <= 0).all()):
        return values  # both ends occur, and nothing lies outside them
    occurs = np.bincount(codes.ravel(), minlength=len(values)) > 0
    tissue = occurs
    if isinstance(value, int):
        limit = dataset.get("PixelPaddingRangeLimit")
        low, high = sorted((value, limit if isinstance(limit, int) else value))
        padded = (stored >= low) & (stored <= high)
        if (occurs & ~padded).any():
            tissue = occurs & ~padded
            dark = values[tissue].max() if str(dataset.PhotometricInterpretation) == "MONOCHROME1" else values[tissue].min()
            values = np.where(padded, dark, values)
    return values.clip(values[tissue].min(), values[tissue].max())
