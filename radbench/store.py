"""Reading an index: rows, pixels and masks of one data set, memory-mapped.

`pixels.bin` holds every image one after the other, each at its own size (aspect kept); `masks.bin` holds one unsigned integer
per pixel of a mask (`facts.mask_dtype`), in which bit k is `structures[k]`. Offsets count bytes and lie in `index.parquet`.
"""

import functools
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from . import artifact
from .errors import ArtifactError
from .image import to_unit


class Index:
    """The images of one data set. `len(index)` images; columns as numpy arrays through `index["patient_id"]`."""

    def __init__(self, folder: Path | str):
        self.meta = artifact.read(folder)
        if self.meta.absent:
            raise ArtifactError(self.meta.path, "the data set is absent", fix=str(self.meta.fields["reason"]))
        self._file = self.meta.file("index.parquet")
        self._count = pq.read_metadata(self._file).num_rows
        self._names = pq.read_schema(self._file).names
        self._columns: dict[str, np.ndarray] = {}
        self.structures: list[str] = list(self.meta.facts["structures"])

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, column: str) -> np.ndarray:
        """A column is read when it is first asked for: texts of a million rows take half a gigabyte each."""
        if column not in self._columns:
            if column not in self._names:
                raise KeyError(column)
            self._columns[column] = pq.read_table(self._file, columns=[column])[column].to_numpy(zero_copy_only=False)
        return self._columns[column]

    @property
    def label_names(self) -> list[str]:
        return [name.removeprefix("labels.") for name in self._names if name.startswith("labels.")]

    def rows(self, split: str | None = None, sites: tuple[str, ...] = ()) -> np.ndarray:
        """Row numbers of a split (all when None), in index order, optionally of some sites only."""
        keep = np.ones(len(self), dtype=bool) if split is None else self["split"] == split
        if sites:
            keep &= np.isin(self["site"].astype(str), sites)
        return np.flatnonzero(keep)

    @functools.cached_property
    def _pixels(self) -> np.ndarray:
        return np.memmap(self.meta.file("pixels.bin"), dtype=np.uint8, mode="r")

    @functools.cached_property
    def _masks(self) -> np.ndarray:
        return np.memmap(self.meta.file("masks.bin"), dtype=np.uint8, mode="r")

    def pixels(self, row: int) -> np.ndarray:
        """The stored (H, W) uint8 or uint16 pixels, 1 = white."""
        rows, cols, start = int(self["rows"][row]), int(self["cols"][row]), int(self["offset"][row])
        dtype = np.dtype(self["dtype"][row])
        return self._pixels[start : start + rows * cols * dtype.itemsize].view(dtype).reshape(rows, cols)

    def image(self, row: int) -> np.ndarray:
        """float32 (H, W) in [0, 1], 1 = white: what an encoder's `preprocess` takes."""
        return to_unit(self.pixels(row))

    def mask(self, row: int) -> np.ndarray | None:
        """Unsigned (H', W') bit field on the reference's own grid, or None without a mask."""
        start = int(self["mask_offset"][row])
        if start < 0:
            return None
        rows, cols = int(self["mask_rows"][row]), int(self["mask_cols"][row])
        dtype = np.dtype(self.meta.facts["mask_dtype"])
        return self._masks[start : start + rows * cols * dtype.itemsize].view(dtype).reshape(rows, cols)

    def annotated(self, row: int) -> int:
        """Bit field of the structures that were annotated in this image (a missing mask is not an empty one)."""
        return int(self["mask_annotated"][row])
