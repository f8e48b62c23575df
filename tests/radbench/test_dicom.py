"""DICOM in every transfer syntax a radiograph comes in, and what is refused before it is decoded."""

import io

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from radbench import dicom
from radbench.errors import DataError
from radbench.image import decode, stretch, to_unit

random = np.random.default_rng(0)
SMOOTH = np.add.outer(np.arange(96), 3 * np.arange(80)) * 9
PIXELS = (SMOOTH + random.integers(0, 60, SMOOTH.shape)).astype(np.uint16)  # 12 bits, rows not columns
SYNTAXES = {
    "JPEG lossless": ("1.2.840.10008.1.2.4.70", lambda p: imagecodecs.jpeg_encode(p, lossless=True, predictor=1, bitspersample=12)),
    "JPEG-LS": ("1.2.840.10008.1.2.4.80", lambda p: imagecodecs.jpegls_encode(p)),
    "JPEG 2000": ("1.2.840.10008.1.2.4.90", lambda p: imagecodecs.jpeg2k_encode(p, level=0, reversible=True, codecformat="J2K")),
}


def dataset(pixels: np.ndarray = PIXELS, syntax: str = ExplicitVRLittleEndian, stream: bytes | None = None, **tags) -> FileDataset:
    """A grey DICOM of one frame; a tag of None is deleted."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = syntax, "1.2.840.10008.5.1.4.1.1.1.1", "1.2.3"
    out = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    out.PatientName, out.PatientID, out.SOPInstanceUID = "DOE^JANE", "4711", "1.2.3"
    out.Rows, out.Columns, out.SamplesPerPixel, out.PhotometricInterpretation = *pixels.shape, 1, "MONOCHROME2"
    out.BitsAllocated, out.BitsStored, out.HighBit, out.PixelRepresentation = 16, 12, 11, int(pixels.dtype.kind == "i")
    out.PixelData = encapsulate([stream]) if stream is not None else pixels.tobytes()
    out["PixelData"].VR = "OB" if stream is not None else "OW"
    for name, value in tags.items():
        if value is None:
            delattr(out, name)
        else:
            setattr(out, name, value)
    return out


def content(of: FileDataset, whole: bool = True) -> bytes:
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, of, enforce_file_format=whole)
    return buffer.getvalue()


class File:
    """What `decode` takes, without a disk."""

    def __init__(self, data: bytes, name: str = "image.dcm"):
        self.data, self.name, self.suffix = data, name, name[name.rfind(".") :] if "." in name else ""

    def read_bytes(self) -> bytes:
        return self.data


@pytest.mark.parametrize("name", SYNTAXES)
def test_lossless_syntaxes_are_bit_exact(name):
    """JPEG lossless, JPEG-LS and JPEG 2000 give the very values that were encoded."""
    syntax, encode = SYNTAXES[name]
    frame = dicom.read(content(dataset(syntax=syntax, stream=encode(PIXELS))), "here")
    np.testing.assert_array_equal(frame.pixels, PIXELS)
    assert (frame.bits, frame.photometric, frame.transfer_syntax) == (12, "MONOCHROME2", syntax)


@pytest.mark.parametrize("intensity", dicom.INTENSITIES)
@pytest.mark.parametrize("tags", [
    {}, {"PhotometricInterpretation": "MONOCHROME1"}, {"RescaleSlope": -2.5, "RescaleIntercept": 7},
    {"PixelPaddingValue": 100, "PixelPaddingRangeLimit": 0}, {"WindowCenter": 900, "WindowWidth": 400},
])  # fmt: skip
def test_values_per_number_are_values_per_pixel(tags, intensity):
    """Working a number out once gives what pydicom's functions and numpy give pixel by pixel, under every rule and tag."""
    of = dataset(np.clip(PIXELS, 60, None), **tags)
    pixels = apply_modality_lut(of.pixel_array, of).astype(np.float64)
    pixels = apply_voi_lut(pixels, of).astype(np.float64) if intensity == "window" else pixels
    if "PixelPaddingValue" in tags:
        padded = of.pixel_array <= 100
        assert padded.any() and not padded.all()
        pixels[padded] = pixels[~padded].min()
    pixels = pixels.clip(*np.percentile(pixels, [1, 99])) if intensity == "percentile" else pixels
    if of.PhotometricInterpretation == "MONOCHROME1":
        pixels = pixels.max() + pixels.min() - pixels
    np.testing.assert_array_equal(decode(File(content(of)), intensity).pixels, stretch(pixels))


def test_eight_bits_are_kept_in_eight():
    """An 8-bit DICOM that spans black to white is stored as uint8, one that does not as uint16, and both as the same greys."""
    for low, dtype in ((0, np.uint8), (30, np.uint16)):
        pixels = np.linspace(low, 255, PIXELS.size).round().astype(np.uint16).reshape(PIXELS.shape)
        kept = decode(File(content(dataset(pixels, BitsStored=8, HighBit=7)))).pixels
        assert kept.dtype == dtype
        np.testing.assert_allclose(to_unit(kept), (pixels - low) / (255 - low), atol=1e-5)


def test_run_lengths_are_bit_exact():
    """RLE, encoded by pydicom, gives the very values."""
    plain = dataset()
    plain.compress(RLELossless)
    np.testing.assert_array_equal(dicom.read(content(plain), "here").pixels, PIXELS)


def test_baseline_jpeg_is_pillows():
    """8-bit JPEG baseline gives what Pillow decodes from the same stream."""
    from PIL import Image

    stream = imagecodecs.jpeg_encode((PIXELS >> 4).astype(np.uint8), level=90)
    file = dataset((PIXELS >> 4).astype(np.uint8), "1.2.840.10008.1.2.4.50", stream, BitsAllocated=8, BitsStored=8, HighBit=7)
    np.testing.assert_array_equal(dicom.read(content(file), "here").pixels, np.asarray(Image.open(io.BytesIO(stream))))


def test_signed_values_survive_compression():
    """Twelve-bit two's complement in a JPEG-LS stream comes out negative, as from an uncompressed file."""
    signed = (PIXELS.astype(np.int16) - 1000).clip(-2048, 2047)
    stream = imagecodecs.jpegls_encode((signed & 0xFFF).astype(np.uint16))
    packed = dicom.read(content(dataset(signed, "1.2.840.10008.1.2.4.80", stream)), "here").pixels
    np.testing.assert_array_equal(packed, dicom.read(content(dataset(signed)), "here").pixels)
    assert packed.min() < 0


def test_modality_lut_and_inversion():
    """Slope and intercept are applied, MONOCHROME1 is inverted once, and both photometric kinds of a picture are equal."""
    frame = dicom.read(content(dataset(RescaleSlope=2, RescaleIntercept=-100)), "here")
    np.testing.assert_array_equal(frame.pixels, 2.0 * PIXELS - 100)
    negative = (PIXELS.max() + PIXELS.min() - PIXELS).astype(np.uint16)
    inverted = dicom.read(content(dataset(negative, PhotometricInterpretation="MONOCHROME1")), "here")
    np.testing.assert_array_equal(inverted.pixels, PIXELS)


def test_window_is_pydicoms_and_only_on_request():
    """The rule `window` applies the first window as pydicom does; `range` ignores it; `percentile` clips one per cent at each end."""
    file = dataset(WindowCenter=[1000, 5], WindowWidth=[400, 5])
    np.testing.assert_array_equal(dicom.read(content(file), "here").pixels, PIXELS)
    np.testing.assert_allclose(dicom.read(content(file), "here", "window").pixels, apply_voi_lut(PIXELS, file, index=0))
    clipped = dicom.read(content(file), "here", "percentile").pixels
    assert (clipped.min(), clipped.max()) == tuple(np.percentile(PIXELS, [1, 99]))


def test_padding_does_not_stretch_the_range():
    """Pixels with the padding value take the darkest value of the image, for either photometric kind."""
    padded = PIXELS.copy()
    padded[:, :10] = 4095
    for photometric, dark in (("MONOCHROME2", np.min), ("MONOCHROME1", np.max)):
        found = dicom.read(content(dataset(padded, PixelPaddingValue=4095, PhotometricInterpretation=photometric)), "here").pixels
        assert (found[:, :10] == found.min()).all() and np.ptp(found) == np.ptp(PIXELS[:, 10:]), dark


def test_missing_tags_and_names_are_filled_in():
    """Without preamble, suffix, HighBit and photometric tag a file is read like the whole one."""
    bare = dataset(HighBit=None, PhotometricInterpretation=None, SamplesPerPixel=None)
    bare.preamble = None
    del bare.file_meta
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, bare, implicit_vr=True, little_endian=True, enforce_file_format=False)
    found = decode(File(buffer.getvalue(), "1.2.840.113"))
    np.testing.assert_array_equal(found.pixels, stretch(PIXELS))


@pytest.mark.parametrize(("file", "what"), [
    (lambda: content(dataset(NumberOfFrames=2)), "2 frames"),
    (lambda: content(dataset(SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0)), "in colour"),
    (lambda: content(dataset(PhotometricInterpretation="PALETTE COLOR")), "in colour"),
    (lambda: content(dataset(Rows=65535, Columns=65535)), "absurd size"),
    (lambda: content(dataset(Rows=0)), "absurd size"),
    (lambda: content(dataset(Rows=None)), "without Rows"),
    (lambda: content(dataset(PixelData=None)), "without pixel data"),
    (lambda: content(dataset(RescaleSlope="1e400", RescaleIntercept=0)), "finite|cannot be decoded"),
    (lambda: content(dataset(RescaleSlope=7.5, RescaleIntercept=0)).replace(b"7.5 ", b"nan "), "finite"),
    (lambda: content(dataset())[:-5000], "cannot be decoded"),
    (lambda: content(dataset(syntax="1.2.840.10008.1.2.4.90", stream=b"\xff\x4f\xff\x51 nothing")), "cannot be decoded"),
    (lambda: content(dataset(syntax="1.2.840.10008.1.2.4.103", stream=b"video")), "cannot be decoded"),
    (lambda: b"\0" * 128 + b"DICM" + b"\xff" * 400, "not a DICOM|without pixel data|not an image"),
    (lambda: b"plain text", "not an image|without pixel data|not a DICOM"),
])  # fmt: skip
def test_what_is_no_radiograph_is_refused(file, what):
    """Several frames, colour, absurd or missing sizes, truncated or unknown streams and text are named errors, never a traceback."""
    with pytest.raises(DataError, match=what):
        decode(File(file()))


def test_no_person_is_in_what_is_kept():
    """Of a file with a name and an id nothing but pixels and technical facts leaves the reader."""
    frame = dicom.read(content(dataset()), "here")
    assert "DOE" not in repr(frame) and "4711" not in repr(frame)
    assert set(vars(frame)) == {"codes", "values", "bits", "photometric", "transfer_syntax"}


@pytest.mark.parametrize(("bits", "high"), [(12, 15), (10, 13), (12, 11)])
def test_bits_are_taken_where_the_header_says_they_lie(bits, high):
    """Stored numbers that lie above the lowest bit, with anything below them, are those numbers."""
    below = high + 1 - bits
    numbers = PIXELS >> (12 - bits)
    packed = (numbers << below) | (np.arange(PIXELS.size, dtype=np.uint16).reshape(PIXELS.shape) & ((1 << below) - 1))
    frame = dicom.read(content(dataset(packed, BitsStored=bits, HighBit=high)), "here")
    np.testing.assert_array_equal(frame.pixels, numbers)


@pytest.mark.parametrize(("tag", "vr", "value"), [
    (0x00280008, "IS", b"abc "), (0x00280008, "IS", b"1\\2 "), (0x00280010, "US", b"\x60\0\x60\0"), (0x00280120, "US", b"\0\0\1"),
    (0x00280101, "US", b"\x0c"), (0x00281053, "DS", b"x "), (0x00280010, "\x55\xaa", b"\x60\0"),
])  # fmt: skip
def test_a_damaged_tag_is_a_reason_for_the_quarantine(tag, vr, value):
    """A value that its kind does not allow, and a kind that there is not, end in a DataError or in a picture, never in pydicom's error."""
    whole = content(dataset(NumberOfFrames=1, PixelPaddingValue=0, RescaleSlope=1, RescaleIntercept=0))
    place = whole.index(tag.to_bytes(4, "little")[2:] + tag.to_bytes(4, "little")[:2])
    length = int.from_bytes(whole[place + 6 : place + 8], "little")
    damaged = whole[: place + 4] + vr.encode("latin-1") + len(value).to_bytes(2, "little") + value + whole[place + 8 + length :]
    try:
        assert decode(File(damaged)).pixels.ndim == 2
    except DataError as error:
        assert "DICOM" in error.what or "absurd" in error.what or "not an image" in error.what


def test_a_full_memory_is_no_reason_for_the_quarantine(monkeypatch):
    """When the memory is full the run ends; the file that was being decoded is not called damaged."""
    monkeypatch.setattr(dicom, "_decoded", lambda dataset: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(MemoryError):
        dicom.read(content(dataset()), "here")
