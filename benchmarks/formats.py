"""Reading image files, by format, beside the plain loop that people write: images per second, and bytes per image in the store.

    python benchmarks/formats.py [--root path/to/tidy/folder] [--images 8] [--side 2048] [--repeats 5]

The plain loop: pydicom's pixel_array, or Pillow (`convert("L")` where a picture has 8 bits; on deeper ones that would clip at 255),
then minimum to maximum on 8 bits where there are more, then Pillow's bicubic resize to 1024 pixels; it keeps nothing. Ours:
`radbench.image.decode`, and `radbench.index.build_index` on one thread: decode, resize, pixel hash, difference hash, store, table;
less what an index of one tiny picture costs, which a million images pay once. Process CPU time, every way of every format in each
round, medians. Pictures are radiographs of `--root`, brought to `--side`, or synthetic ones without it; both get grain, because
enlarged pictures are smooth and would leave the lossless coders nothing to do.

Before anything is timed, lossless formats must give the very pixels they were made of, in both ways.
"""

import argparse
import contextlib
import dataclasses
import functools
import io
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import imagecodecs
import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from radbench import artifact, image, index  # noqa: E402
from radbench.store import Index  # noqa: E402

SIDES = (None, 1024, 512)  # of the store; None keeps every pixel
GRAIN = 12  # standard deviation, in levels of 4095
MILLION = 1_000_000
CORES = 16
WHITE = 4095  # of 12 bits


@dataclasses.dataclass(frozen=True)
class Format:
    """How a file of `bits` is written from uint8 or uint16 pixels (H, W)."""

    title: str
    suffix: str
    bits: int
    write: Callable[[np.ndarray], bytes]
    lossless: bool = True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, help="a tidy folder of real radiographs; without it they are synthetic")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--side", type=int, default=2048, help="longer side in pixels")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    if arguments.side < 1024 or arguments.images < 3:
        parser.error("--side of 1024 or more, --images of 3 or more")
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), sources(arguments), arguments)


# ------------------------------------------------------------ pictures and files


def sources(arguments: argparse.Namespace) -> list[np.ndarray]:
    """Pictures of 12 bits: radiographs brought to the side, or smooth noise; both with grain."""
    random, found = np.random.default_rng(0), []
    files = sorted((arguments.root / "images").iterdir()) if arguments.root else [None] * arguments.images
    for file in files[:: max(1, len(files) // arguments.images)][: arguments.images]:
        coarse = random.random((32, 32)) if file is None else image.to_unit(image.decode(file).pixels)
        scale = arguments.side / max(coarse.shape)
        smooth = image.resize(coarse, *(round(scale * side) for side in coarse.shape), "bicubic")
        grain = random.normal(0, GRAIN, smooth.shape)
        found.append((smooth * WHITE + grain).clip(0, WHITE).astype(np.uint16))
    return found


def picture(kind: str, **options: int) -> Callable[[np.ndarray], bytes]:
    def write(pixels: np.ndarray) -> bytes:
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, kind, **options)
        return stream.getvalue()

    return write


def dicom(syntax: str, encode: Callable[[np.ndarray], bytes] | None = None) -> Callable[[np.ndarray], bytes]:
    """A DICOM file; the stream is `encode`'s, or pydicom's own."""

    def write(pixels: np.ndarray) -> bytes:
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian if syntax == RLELossless else syntax
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1.1", "1.2.3"
        data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        bits = 8 if pixels.dtype == np.uint8 else 12
        data.Rows, data.Columns = pixels.shape
        data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 0
        data.BitsAllocated, data.BitsStored, data.HighBit = 8 * pixels.itemsize, bits, bits - 1
        data.PixelData = encapsulate([encode(pixels)]) if encode else pixels.tobytes()
        data["PixelData"].VR = "OB" if encode else "OW"
        if syntax == RLELossless:
            data.compress(RLELossless)
        stream = io.BytesIO()
        pydicom.dcmwrite(stream, data, enforce_file_format=True)
        return stream.getvalue()

    return write


FORMATS = (
    Format("JPEG, 8 bits", ".jpg", 8, picture("JPEG", quality=95), lossless=False),
    Format("PNG, 8 bits", ".png", 8, picture("PNG")),
    Format("PNG, 16 bits", ".png", 12, picture("PNG")),
    Format("DICOM, uncompressed", ".dcm", 12, dicom(ExplicitVRLittleEndian)),
    Format("DICOM, deflated", ".dcm", 12, dicom(DeflatedExplicitVRLittleEndian)),
    Format("DICOM, run-length", ".dcm", 12, dicom(RLELossless)),
    Format("DICOM, JPEG baseline, 8 bits", ".dcm", 8, dicom(JPEGBaseline8Bit, functools.partial(imagecodecs.jpeg_encode, level=95)),
           lossless=False),
    Format("DICOM, JPEG extended, 12 bits", ".dcm", 12,
           dicom(JPEGExtended12Bit, functools.partial(imagecodecs.jpeg_encode, level=95, bitspersample=12)), lossless=False),
    Format("DICOM, JPEG lossless SV1", ".dcm", 12,
           dicom(JPEGLosslessSV1, functools.partial(imagecodecs.jpeg_encode, lossless=True, predictor=1, bitspersample=12))),
    Format("DICOM, JPEG-LS", ".dcm", 12, dicom(JPEGLSLossless, imagecodecs.jpegls_encode)),
    Format("DICOM, JPEG 2000 lossless", ".dcm", 12,
           dicom(JPEG2000Lossless, functools.partial(imagecodecs.jpeg2k_encode, level=0, reversible=True, codecformat="J2K"))),
)  # fmt: skip


def write_folder(root: Path, form: Format, pictures: list[np.ndarray]) -> list[Path]:
    """A tidy folder of one format."""
    (root / "images").mkdir(parents=True)
    names = [f"{number:03}{form.suffix}" for number in range(len(pictures))]
    for name, pixels in zip(names, pictures, strict=True):
        (root / "images" / name).write_bytes(form.write(stored(form, pixels)))
    rows = "".join(f"{name},p{number},{('train', 'val', 'test')[number % 3]}\n" for number, name in enumerate(names))
    (root / "metadata.csv").write_text(f"image,subject_id,split\n{rows}")
    return [root / "images" / name for name in names]


def stored(form: Format, pixels: np.ndarray) -> np.ndarray:
    return (pixels >> 4).astype(np.uint8) if form.bits == 8 else pixels


# ------------------------------------------------------------ the two ways


def plain(file: Path) -> np.ndarray:
    """The file's values as people read them."""
    if file.suffix == ".dcm":
        return pydicom.dcmread(file).pixel_array
    with Image.open(file) as opened:
        return np.asarray(opened if opened.mode.startswith("I") else opened.convert("L"))


def eight_bits(values: np.ndarray) -> np.ndarray:
    if values.dtype == np.uint8:
        return values
    low, high = values.min(), values.max()
    return ((values - low) / (high - low) * 255).astype(np.uint8)


def plain_small(file: Path) -> np.ndarray:
    whole = Image.fromarray(eight_bits(plain(file)))
    scale = 1024 / max(whole.size)
    return np.asarray(whole.resize([round(scale * side) for side in whole.size], Image.Resampling.BICUBIC))


def build(root: Path, results: Path, max_side: int | None = None) -> None:
    with contextlib.redirect_stderr(io.StringIO()):  # its lines of progress
        index.build_index("data", index.Spec("folder", root=str(root), max_side=max_side), results)


def same_pixels(form: Format, files: list[Path], pictures: list[np.ndarray]) -> bool:
    """Whether the plain loop has a decoder. Raises when a lossless file does not give back its pixels in either way."""
    try:
        plain(files[0])
    except Exception as error:  # pydicom and Pillow raise unrelated classes for what they cannot decode
        print(f"{form.title}: the plain loop has no decoder ({type(error).__name__}: {str(error).splitlines()[0][:120]})")
        readable = False
    else:
        readable = True
    for file, pixels in zip(files, pictures, strict=True):
        wanted = stored(form, pixels)
        ours = image.decode(file).pixels
        straight = form.suffix != ".dcm" and form.bits == 8  # DICOM and deeper pictures are stretched to 16 bits
        if form.lossless and not np.array_equal(ours, wanted if straight else image.stretch(wanted)):
            raise SystemExit(f"{form.title}: radbench does not give back the pixels of {file.name}")
        if readable and form.lossless and not np.array_equal(plain(file), wanted):
            raise SystemExit(f"{form.title}: the plain loop does not give back the pixels of {file.name}")
    return readable


def one_by_one(read: Callable[[Path], object], files: list[Path]) -> None:
    for file in files:
        read(file)  # and let go: memory for all of them at once would cost more than some decoders


def cpu(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


# ------------------------------------------------------------ measuring


def measure(folder: Path, pictures: list[np.ndarray], arguments: argparse.Namespace) -> None:
    files = {form: write_folder(folder / f"data{number}", form, pictures) for number, form in enumerate(FORMATS)}
    readable = {form: same_pixels(form, files[form], pictures) for form in FORMATS}
    write_folder(folder / "tiny", FORMATS[1], [pictures[0][:64, :64]])
    results = folder / "results"
    seconds: dict[tuple[Format | None, str], list[float]] = {}
    sizes: dict[tuple[int, int | None], float] = {}
    rows: list[float] = []  # bytes that wait beside the shards until the index is complete
    real = artifact.write_bytes

    def counted(path: Path, content: bytes) -> None:
        if path.name.startswith("part-"):
            rows.append(len(content) / len(pictures))
        real(path, content)

    build(folder / "tiny", results)  # imports what is imported once
    for _ in range(arguments.repeats):
        shutil.rmtree(results)
        seconds.setdefault((None, "index"), []).append(cpu(lambda: build(folder / "tiny", results)))
        for form, paths in files.items():
            ways: dict[str, Callable[[Path], object]] = {"decode": image.decode}
            if readable[form]:
                ways |= {"plain decode": lambda file: eight_bits(plain(file)), "plain": plain_small}
            for way, read in ways.items():
                seconds.setdefault((form, way), []).append(cpu(functools.partial(one_by_one, read, paths)))
            for side in SIDES:
                shutil.rmtree(results)
                with mock.patch.object(artifact, "write_bytes", counted):
                    seconds.setdefault((form, f"index {side}"), []).append(
                        cpu(functools.partial(build, paths[0].parents[1], results, side))
                    )
                store = Index(results / "index" / "data")
                kept = [store.pixels(row) for row in range(len(store))]
                for depth in {8 * pixels.itemsize for pixels in kept}:  # an 8-bit DICOM from black to white is kept in 8 bits
                    sizes[depth, side] = statistics.mean(pixels.nbytes for pixels in kept if 8 * pixels.itemsize == depth)
    report(pictures, files, seconds, sizes, statistics.median(rows), arguments)


def report(pictures: list[np.ndarray], files: dict[Format, list[Path]], seconds: dict[tuple[Format | None, str], list[float]],
           sizes: dict[tuple[int, int | None], float], part: float, arguments: argparse.Namespace) -> None:  # fmt: skip
    """Rates per second of CPU, sizes, and what a million images of each kind take."""

    once = statistics.median(seconds[None, "index"])

    def each(form: Format, way: str) -> float:
        return (statistics.median(seconds[form, way]) - once * way.startswith("index")) / len(pictures)

    def rate(form: Format, way: str) -> str:
        return f"{1 / each(form, way):.1f}" if (form, way) in seconds else "no decoder"

    kind = "radiographs" if arguments.root else "synthetic pictures"
    print(f"\n{len(pictures)} {kind}, longer side {arguments.side}, median of {arguments.repeats}; images per second of CPU")
    print(f"(an index of one tiny picture: {1000 * once:.0f} ms, left out)\n")
    print("| format | MB | plain decode | our decode | plain, to 1024 | index, to 1024 | index, whole | index, to 512 |")
    print("|---|---|---|---|---|---|---|---|")
    for form in FORMATS:
        size = statistics.mean(file.stat().st_size for file in files[form])
        cells = [rate(form, way) for way in ("plain decode", "decode", "plain", "index 1024", "index None", "index 512")]
        print(f"| {form.title} | {size / 1e6:.1f} | {' | '.join(cells)} |")
    print(f"\nHours for a million images on one core; a {CORES}th of it on {CORES}\n")
    print("| format | files, TB | index, whole | index, to 1024 | index, to 512 |\n|---|---|---|---|---|")
    for form in FORMATS:
        size = statistics.mean(file.stat().st_size for file in files[form])
        alone = [each(form, f"index {side}") * MILLION / 3600 for side in SIDES]
        cells = [f"{hours:.0f}; {hours / CORES:.1f}" for hours in alone]
        print(f"| {form.title} | {size * MILLION / 1e12:.2f} | {' | '.join(cells)} |")
    print("\n| store | bytes per image | a million, GB |\n|---|---|---|")
    for (bits, side), size in sorted(sizes.items(), key=lambda pair: (pair[0][0], -pair[1])):
        print(f"| {bits} bits, {f'to {side}' if side else 'whole'} | {size:,.0f} | {size * MILLION / 1e9:,.0f} |")
    shards = -(-MILLION // index.SHARD)
    largest = max(sizes.values()) * index.SHARD / 1e9
    print(f"\n{shards} shards of {index.SHARD} images, each up to {largest:.1f} GB; until the index is complete its rows wait beside")
    print(f"them: {part:.0f} bytes an image, {part * MILLION / 1e9:.1f} GB. Nothing is unpacked.")


if __name__ == "__main__":
    main()
