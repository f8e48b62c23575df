"""Damaged files and tables by the hundred: each is an image, a named error or a quarantine row, and nothing else."""

import errno
import io
import os
import shutil
import struct
import sys
import zlib

import imagecodecs
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from radbench.errors import DataError, RadbenchError
from radbench.image import decode
from radbench.index import Spec, build_index

from .test_dicom import PIXELS, SYNTAXES, File, content, dataset


def encoded() -> dict[str, bytes]:
    """One file per format."""

    def pillow(pixels, kind, **options):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, kind, **options)
        return buffer.getvalue()

    eight = (PIXELS >> 4).astype(np.uint8)
    out = {"8.png": pillow(eight, "PNG"), "16.png": pillow(PIXELS, "PNG"), "8.jpg": pillow(eight, "JPEG", quality=90),
           "8.tif": pillow(eight, "TIFF"), "plain.dcm": content(dataset())}  # fmt: skip
    for name, (syntax, encode) in SYNTAXES.items():
        out[f"{name.replace(' ', '-')}.dcm"] = content(dataset(syntax=syntax, stream=encode(PIXELS)))
    stream = imagecodecs.jpeg_encode(eight, level=90)
    tags = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}
    out["baseline.dcm"] = content(dataset(eight, "1.2.840.10008.1.2.4.50", stream, **tags))
    return out


FILES = encoded()
CUTS = (0, 1, 3, 8, 60, 130, 200, 0.2, 0.5, 0.9, 0.99)


def mutations() -> list:
    """(name, bytes): cut short, a flipped bit, a block of zeros or of noise, another file's beginning, a repeated part."""
    random = np.random.default_rng(0)
    found = []
    for name, data in FILES.items():
        found += [(f"{name} cut at {cut}", name, data[: cut if isinstance(cut, int) else int(cut * len(data))]) for cut in CUTS]
        for number in range(8):
            place = int(random.integers(len(data)))
            flipped = bytearray(data)
            flipped[place] ^= 1 << int(random.integers(8))
            found.append((f"{name} bit {number} flipped", name, bytes(flipped)))
            start = int(random.integers(max(1, len(data) - 64)))
            noise = random.integers(0, 256, 64).astype(np.uint8).tobytes()
            found.append((f"{name} noise {number}", name, data[:start] + noise + data[start + 64 :]))
        found += [(f"{name} zeros", name, data[:200] + bytes(len(data) - 200)), (f"{name} as text", name, b"id,label\n1,2\n" + data),
                  (f"{name} twice", name, data + data), (f"{name} other head", name, FILES["8.jpg"][:100] + data[100:])]  # fmt: skip
    return found


MUTATIONS = mutations()


def test_there_are_enough():
    """The campaign has more than two hundred mutations of files."""
    assert len(MUTATIONS) > 200


@pytest.mark.parametrize(("name", "data"), [pytest.param(name, data, id=title) for title, name, data in MUTATIONS])
@pytest.mark.filterwarnings("ignore")
def test_a_damaged_file_is_an_image_or_a_named_error(name, data):
    """Whatever bytes are read, out comes a finite grey picture or a DataError with a reason of one line."""
    try:
        image = decode(File(data, name))
    except DataError as error:
        assert error.what and "\n" not in error.what and "Traceback" not in str(error)
    else:
        assert image.pixels.ndim == 2 and image.pixels.dtype in (np.uint8, np.uint16) and np.ptp(image.pixels) > 0


def png_bomb(side: int) -> bytes:
    """A PNG of some hundred bytes that claims side x side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(100_000))) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [30_000, 200_000])
def test_a_bomb_is_refused_before_it_unpacks(side):
    """A picture that claims a billion pixels is refused by its header."""
    with pytest.raises(DataError, match="absurd size"):
        decode(File(png_bomb(side), "bomb.png"))


def table(change):
    """A mutation of metadata.csv as a function of its text."""
    return lambda root: (root / "metadata.csv").write_text(change((root / "metadata.csv").read_text()))


def edited(change):
    def apply(root):
        rows = pd.read_csv(root / "metadata.csv", dtype=str, keep_default_na=False)
        change(rows).to_csv(root / "metadata.csv", index=False)

    return apply


def bytes_of(change):
    return lambda root: (root / "metadata.csv").write_bytes(change((root / "metadata.csv").read_bytes()))


FOLDERS = {
    "no table": lambda root: (root / "metadata.csv").unlink(),
    "empty table": table(lambda text: ""),
    "header only": table(lambda text: text.splitlines()[0] + "\n"),
    "tabs": table(lambda text: text.replace(",", "\t")),
    "utf-16": bytes_of(lambda data: data.decode().encode("utf-16")),
    "latin-1": bytes_of(lambda data: data.replace(b"image", b"im\xe9ge", 1)),
    "binary": bytes_of(lambda data: os.urandom(200)),
    "nul bytes": bytes_of(lambda data: data.replace(b"p", b"\0", 1)),
    "a quote that never closes": table(lambda text: text + '"never,closed'),
    "duplicate column": table(lambda text: text.replace("study_id", "subject_id", 1)),
    "no image column": edited(lambda rows: rows.drop(columns="image")),
    "no subject column": edited(lambda rows: rows.drop(columns="subject_id")),
    "no label column": edited(lambda rows: rows.drop(columns="Cardiomegaly")),
    "empty image": edited(lambda rows: rows.assign(image=["", *rows["image"][1:]])),
    "empty subject": edited(lambda rows: rows.assign(subject_id=["", *rows["subject_id"][1:]])),
    "duplicate image": edited(lambda rows: pd.concat([rows, rows[:1]])),
    "a path upwards": edited(lambda rows: rows.assign(image=["../../etc/passwd", *rows["image"][1:]])),
    "an absolute path": edited(lambda rows: rows.assign(image=["/etc/passwd", *rows["image"][1:]])),
    "unknown view": edited(lambda rows: rows.assign(view="SIDEWAYS")),
    "unknown split": edited(lambda rows: rows.assign(split="holdout")),
    "half a split": edited(lambda rows: rows.assign(split=["train", *[""] * (len(rows) - 1)])),
    "a subject in two splits": edited(lambda rows: rows.assign(subject_id="same", split=["train", *["test"] * (len(rows) - 1)])),
    "label of two": edited(lambda rows: rows.assign(Cardiomegaly="2")),
    "label in other words": edited(lambda rows: rows.assign(Cardiomegaly="maybe")),
    "label not a number": edited(lambda rows: rows.assign(Cardiomegaly="nan")),
    "every image missing": lambda root: shutil.rmtree(root / "images"),
    "images is a file": lambda root: (shutil.rmtree(root / "images"), (root / "images").write_text("")),
    "structures without a column": lambda root: (root / "structures.csv").write_text("structure\nlung_left\n"),
    "structures with bit 99": lambda root: (root / "structures.csv").write_text("structure,mask_file,bit\nx,{stem}_ribs.png,9x\n"),
    "reports without a text": lambda root: (root / "reports.csv").write_text("image,words\na,b\n"),
    "reports of nobody": lambda root: (root / "reports.csv").write_text("image,text\nnobody.png,normal\n"),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_damaged_folder_is_a_named_error(phantom_folder, tmp_path, name):
    """A table or a folder that cannot be right ends in a named error with the next step, and leaves nothing that looks complete."""
    root = shutil.copytree(phantom_folder, tmp_path / "data")
    FOLDERS[name](root)
    with pytest.raises(RadbenchError) as error:
        build_index("d", Spec("folder", root=str(root), options={"labels": ["Cardiomegaly"]}), tmp_path / "results")
    assert len(str(error.value)) > 20 and not (tmp_path / "results" / "index" / "d" / "meta.json").exists()


def replace_first(make):
    def apply(root):
        file = sorted((root / "images").iterdir())[0]
        file.unlink()
        make(file)
        return file.name

    return apply


ONE_BAD = {
    "missing": lambda file: None,
    "a folder in its place": lambda file: file.mkdir(),
    "a link to nothing": lambda file: file.symlink_to("nowhere"),
    "a link to itself": lambda file: file.symlink_to(file.name),
    "a pipe": lambda file: os.mkfifo(file),
    "empty": lambda file: file.write_bytes(b""),
    "text": lambda file: file.write_text("patient declined"),
    "html": lambda file: file.write_text("<!DOCTYPE html><title>login</title>"),
    "zip": lambda file: file.write_bytes(b"PK\x03\x04" + bytes(100)),
    "one pixel": lambda file: Image.new("L", (1, 1)).save(file.with_suffix(".png")) or file.with_suffix(".png").rename(file),
    "constant": lambda file: Image.new("L", (96, 96), 7).save(file, "PNG"),
    "floating point": lambda file: Image.fromarray(np.random.default_rng(0).random((96, 96)).astype(np.float32)).save(file, "TIFF"),
    "animation": lambda file: Image.fromarray(PIXELS.astype(np.uint8)).save(
        file, "GIF", save_all=True, append_images=[Image.fromarray(PIXELS.T.astype(np.uint8).reshape(PIXELS.shape))]),
    "a bomb": lambda file: file.write_bytes(png_bomb(50_000)),
}  # fmt: skip


@pytest.mark.skipif(sys.platform == "win32", reason="links and pipes")
@pytest.mark.parametrize("name", ONE_BAD)
def test_one_bad_image_costs_one_quarantine_row(phantom_folder, tmp_path, name):
    """An image that cannot be used is one row with its file and the reason; all others are indexed."""
    root = shutil.copytree(phantom_folder, tmp_path / "data")
    bad = replace_first(ONE_BAD[name])(root)
    spec = Spec("folder", root=str(root), options={"labels": ["Cardiomegaly"]})
    meta = build_index("d", spec, tmp_path / "results")
    quarantine = pd.read_csv(meta.file("quarantine.csv"))
    assert quarantine["file"].tolist() == [f"images/{bad}"] and len(quarantine["reason"].iloc[0]) > 4
    assert meta.facts["images"] == len(pd.read_csv(root / "metadata.csv")) - 1


@pytest.mark.skipif(sys.platform == "win32", reason="links and pipes")
@pytest.mark.parametrize("name", ["a folder in its place", "a pipe", "empty", "text", "html", "zip", "a bomb"])
def test_one_bad_mask_costs_one_quarantine_row(phantom_folder, tmp_path, name):
    """A mask that cannot be used is named with its file, and every image is indexed."""
    root = shutil.copytree(phantom_folder, tmp_path / "data")
    file = sorted((root / "masks").iterdir())[0]
    file.unlink()
    ONE_BAD[name](file)
    meta = build_index("d", Spec("folder", root=str(root), options={"labels": ["Cardiomegaly"]}), tmp_path / "results")
    quarantine = pd.read_csv(meta.file("quarantine.csv"))
    assert set(quarantine["file"]) == {f"masks/{file.name}"} and quarantine["reason"].str.contains("mask").all()
    assert meta.facts["images"] == len(pd.read_csv(root / "metadata.csv"))


@pytest.mark.parametrize("code", [errno.EACCES, errno.EISDIR, errno.EIO])
def test_a_file_that_may_not_be_read_is_a_reason(code):
    """What the system refuses to read is a reason in the system's words."""

    class Closed(File):
        def read_bytes(self):
            raise OSError(code, os.strerror(code), "image.png")

    with pytest.raises(DataError) as error:
        decode(Closed(b"", "image.png"))
    assert error.value.what == f"cannot be read ({os.strerror(code)})"
