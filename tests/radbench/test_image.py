"""Resizers are the field's, up to rounding to grey levels."""

import imagecodecs
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from radbench.errors import DataError
from radbench.image import FILTERS, center_crop, decode, normalise, resize, resize_crop, resize_pad, stretch

PICTURE = np.random.default_rng(0).random((61, 83)).astype(np.float32)


@pytest.mark.parametrize(("filter_name", "mode"), [("bilinear", v2.InterpolationMode.BILINEAR), ("bicubic", v2.InterpolationMode.BICUBIC)])
@pytest.mark.parametrize("size", [(30, 40), (61, 20), (90, 100)])
def test_resize_is_antialiased_as_torch(filter_name, mode, size):
    """Float resize equals torch's antialiased one to 1e-5, shrinking and growing."""
    wanted = v2.functional.resize(torch.from_numpy(PICTURE)[None], list(size), interpolation=mode, antialias=True)[0].numpy()
    np.testing.assert_allclose(resize(PICTURE, *size, filter_name), wanted, atol=1e-5)


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("old,new", [((37, 61), (224, 20)), ((300, 211), (37, 299)), ((64, 64), (64, 63)), ((33, 50), (1, 1))])
def test_resize_is_pillows_float_mode(name, old, new):
    """Every filter equals Pillow's resize of a float picture to float32 rounding, for odd sizes, shrinking and growing."""
    picture = np.random.default_rng(7).random(old, dtype=np.float32)
    wanted = np.asarray(Image.fromarray(picture).resize(new[::-1], Image.Resampling[name.upper()]))
    np.testing.assert_allclose(resize(picture, *new, name), wanted, rtol=0, atol=1e-6)


def test_resize_is_pillows_up_to_a_grey_level():
    """On 8-bit pictures the float resize differs from Pillow's 8-bit one by less than one grey level."""
    grey = (PICTURE * 255).astype(np.uint8)
    wanted = np.asarray(Image.fromarray(grey).resize((40, 30), Image.Resampling.BILINEAR)).astype(float)
    assert np.abs(resize(grey.astype(np.float32) / 255, 30, 40) * 255 - wanted).max() < 1


@pytest.mark.parametrize("shape", [(61, 83), (83, 61), (50, 50), (224, 225)])
def test_resize_and_crop_is_torchvisions(shape):
    """Shortest side and centre crop give torchvision's picture: same integer sizes, same window."""
    picture = np.random.default_rng(1).random(shape).astype(np.float32)
    transform = v2.Compose([v2.Resize(32, interpolation=v2.InterpolationMode.BICUBIC, antialias=True), v2.CenterCrop(32)])
    np.testing.assert_allclose(resize_crop(picture, 32, "bicubic"), transform(torch.from_numpy(picture)[None])[0].numpy(), atol=1e-5)


def test_crop_and_pad_keep_the_centre():
    """A centred dot stays in the centre through crop and through pad, and padding has the value asked for."""
    dot = np.zeros((41, 61), dtype=np.float32)
    dot[20, 30] = 1
    assert center_crop(dot, 21)[10, 10] == 1
    padded = resize_pad(dot, 61, value=0.5)
    assert padded[30, 30] == 1 and padded[0, 0] == 0.5 and padded.shape == (61, 61)


def test_grey_128_normalises_to_the_closed_form():
    """A constant image becomes (value - mean) / std in every channel."""
    out = normalise(np.full((4, 4), 128 / 255, dtype=np.float32), (0.1, 0.2, 0.3), (0.5, 0.25, 0.2))
    for channel, (mean, std) in enumerate(zip((0.1, 0.2, 0.3), (0.5, 0.25, 0.2), strict=True)):
        np.testing.assert_allclose(out[channel], (128 / 255 - mean) / std, rtol=1e-6)


def test_stretch_uses_the_whole_range():
    """The smallest value becomes 0, the largest 65535, order is kept."""
    out = stretch(np.array([[-1000, 0], [500, 3000]]))
    assert out.min() == 0 and out.max() == 65535 and (np.diff(out.ravel()) > 0).all()


def test_sixteen_bit_png_is_not_clipped(tmp_path):
    """A 16-bit PNG with values above 255 keeps their order and range."""
    values = np.linspace(300, 4000, 64 * 64).astype(np.uint16).reshape(64, 64)
    Image.fromarray(values).save(tmp_path / "deep.png")
    decoded = decode(tmp_path / "deep.png")
    assert decoded.bits == 16 and decoded.pixels.max() == 65535 and len(np.unique(decoded.pixels)) > 3000


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA", "RGB"])
@pytest.mark.parametrize("shape", [(61, 83), (4097, 4097)])  # the second is more than Pillow keeps in one piece
def test_pixels_are_those_of_pillows_conversion(mode, shape, tmp_path):
    """A picture of 8 bits has the pixels that numpy copies out of Pillow's conversion to grey."""
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)).convert(mode)
    picture.save(tmp_path / "x.png", compress_level=1)
    decoded = decode(tmp_path / "x.png")
    assert decoded.bits == 8 and decoded.pixels.dtype == np.uint8
    np.testing.assert_array_equal(decoded.pixels, np.array(picture.convert("L")))


def test_a_decompression_bomb_is_refused(tmp_path):
    """A small file that claims a huge picture is a named error, not memory."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0)
    (tmp_path / "bomb.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0")) + chunk(b"IEND", b"")
    )
    with pytest.raises(DataError, match="absurd size|truncated"):
        decode(tmp_path / "bomb.png")


def test_a_colour_multiframe_dicom_is_refused(tmp_path):
    """A DICOM that is not one grey frame is a named error with its shape."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = ExplicitVRLittleEndian, "1.2.3", "1.2.3.4"
    dataset = FileDataset(str(tmp_path / "c.dcm"), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel, dataset.PlanarConfiguration = 64, 48, 3, 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.PhotometricInterpretation = "RGB"
    dataset.PixelData = np.random.default_rng(0).integers(0, 255, 64 * 48 * 3).astype(np.uint8).tobytes()
    dataset.save_as(tmp_path / "c.dcm", enforce_file_format=True)
    with pytest.raises(DataError, match=r"DICOM in colour \(RGB\).*one grey frame"):
        decode(tmp_path / "c.dcm")


def test_sixteen_bits_of_several_channels_are_sixteen_bits():
    """A 16-bit PNG of grey with alpha, RGB or RGBA with equal channels gives the picture of its grey PNG; other colours give their luma."""
    picture = (PICTURE * 4000).astype(np.uint16)
    clear = np.full_like(picture, 65535)
    wanted = decode(Bytes(imagecodecs.png_encode(picture)))
    for channels in ([picture, clear], [picture] * 3, [picture] * 3 + [clear]):
        found = decode(Bytes(imagecodecs.png_encode(np.dstack(channels))))
        np.testing.assert_array_equal(found.pixels, wanted.pixels)
        assert found.bits == 16
    red, green, blue = (np.random.default_rng(seed).integers(0, 65536, picture.shape, dtype=np.uint16) for seed in range(3))
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    found = decode(Bytes(imagecodecs.png_encode(np.dstack([red, green, blue])))).pixels
    np.testing.assert_allclose(found, (luma - luma.min()) / (luma.max() - luma.min()) * 65535, atol=2)


class Bytes:
    """What `decode` takes, without a disk."""

    name, suffix = "image.png", ".png"

    def __init__(self, content: bytes):
        self.read_bytes = lambda: content
