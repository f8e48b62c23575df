"""ChestMNIST of MedMNIST v2/v3 (Yang et al. 2023, doi:10.1038/s41597-022-01721-8; medmnist.com): ChestX-ray14, reduced; CC BY 4.0.

Read: `chestmnist_64.npz`, `_128` or `_224`, arrays `{train,val,test}_images` (N, side, side) uint8 and `_labels` (N, 14); never pickled
objects. `chestmnist.npz` of 28 x 28 is too small for radbench.image. The split is the release's, which is not ChestX-ray14's own. No
patient ids are released. The arrays of at most two splits are in memory: 3.9 GB for the training images at 224.
"""

import dataclasses
import functools
import io
import math
import threading
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import DataError
from . import Record, columns
from .files import File, Made, Tree, opened

LABELS = ("Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax", "Consolidation",
          "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia")  # fmt: skip
RELEASES = {"2.0": {"images": 78_468 + 11_219 + 22_433}}
SIDES = (64, 128, 224)


@dataclasses.dataclass(frozen=True)
class Options:
    """What the configuration may say of ChestMNIST."""

    labels: Sequence[str] = ()  # all fourteen
    side: int = 0  # 64, 128 or 224; 0: the largest that is there


def records(root: Path, options: Options) -> list[Record]:
    """One record per image of the arrays, called `train_000000` and so on.

    Raises:
        DataError: no array of 64 pixels or more, or arrays of another shape, type or coding.
    """
    names = columns.chosen(options.labels, LABELS, "chestmnist")
    tree = Tree(root)
    sides = (options.side,) if options.side else sorted(SIDES, reverse=True)
    side = next((side for side in sides if tree.matching(rf"chestmnist_{side}\.npz")), None)
    if side is None or side not in SIDES:
        raise tree.missing(f"chestmnist_{options.side or 224}.npz", "download it from medmnist.com; 28 x 28 pixels are too few to embed")
    file = tree.one(rf"chestmnist_{side}\.npz", f"chestmnist_{side}.npz")
    found, arrays = [], _Arrays(file, side)
    for split in ("train", "val", "test"):
        labels = _array(file, f"{split}_labels")
        if labels.ndim != 2 or labels.shape[1] != len(LABELS) or not np.isin(labels, (0, 1)).all():
            raise DataError(file, f"{split}_labels of shape {labels.shape}", expected=f"(N, {len(LABELS)}) of 0 and 1")
        for row, values in enumerate(labels):
            name = f"{split}_{row:06d}"
            given = dict(zip(LABELS, values.tolist(), strict=True))
            found.append(Record(
                image_id=name, patient_id="", study_id=name, view="FRONTAL", split=split, site="", sex="", age=math.nan,
                path=Made(file, f"{name}.png", functools.partial(_png, arrays, split, len(labels), row)),
                labels={key: float(given[key]) for key in names},
                masks=(), report="",
            ))  # fmt: skip
    return found


def _array(file: File, name: str) -> np.ndarray:
    try:
        with opened(file) as stream, np.load(stream, allow_pickle=False) as arrays:
            return arrays[name]
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error, AttributeError, TypeError) as error:
        raise DataError(file, f"no array {name} that can be read ({error})", fix="download it again") from None


class _Arrays:
    """The images of a split, for many threads: whoever asks first reads them, the others wait.

    Two splits are held, because threads that come late still ask for the one before.
    """

    def __init__(self, file: File, side: int):
        self._file, self._side, self._lock, self._held = file, side, threading.Lock(), {}

    def of(self, split: str, count: int) -> np.ndarray:
        with self._lock:
            if split not in self._held:
                self._held = dict(list(self._held.items())[-1:])  # before the next one is read
                images = _array(self._file, f"{split}_images")
                if images.shape != (count, self._side, self._side) or images.dtype != np.uint8:
                    raise DataError(self._file, f"{split}_images {images.dtype} of shape {images.shape}",
                                    expected=f"uint8 ({count}, {self._side}, {self._side})")  # fmt: skip
                self._held[split] = images
            return self._held[split]


def _png(arrays: _Arrays, split: str, count: int, row: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(arrays.of(split, count)[row]).save(stream, "PNG", compress_level=0)
    return stream.getvalue()
