"""Reading an index: rows, pixels and masks of one data set, memory-mapped.

A shard `pixels-{number}.bin` holds some thousand images one after the other, each at its own size (aspect kept);
`masks-{number}.bin` holds one unsigned integer per pixel of a mask (`facts.mask_dtype`), in which bit k is `structures[k]`.
Shards and offsets (in bytes) lie in `index.parquet`.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from . import artifact
from .datasets import FRONTAL
from .errors import ArtifactError
from .image import to_unit


def shard_name(kind: str, number: int) -> str:
    """File name of a shard of "pixels" or "masks"."""
    return f"{kind}-{number:05}.bin"


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
        self._shards: dict[tuple[str, int], np.ndarray] = {}
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

    def rows(self, split: str | None = None, sites: Sequence[str] = (), structures: Iterable[str] = (), report: bool = False) -> np.ndarray:
        """Row numbers of a split (all when None), in index order, of those that a task can use.

        Args:
            sites: of these sites only, where some are named.
            structures: where each of these was annotated.
            report: with a text, and not known to be other than frontal.
        """
        keep = np.ones(len(self), dtype=bool) if split is None else self["split"] == split
        if sites:
            keep &= np.isin(self["site"].astype(str), list(sites))
        for name in structures:
            keep &= (self["mask_annotated"] >> self.structures.index(name) & 1).astype(bool)
        if report:
            keep &= np.isin(self["view"].astype(str), [*FRONTAL, "UNKNOWN"])
            keep &= np.array([bool(text.strip()) for text in self["report"]], dtype=bool)
        return np.flatnonzero(keep)

    def _bytes(self, kind: str, row: int) -> np.ndarray:
        """The shard that holds a row, mapped at its first use."""
        place = kind, int(self["shard"][row])
        if place not in self._shards:
            self._shards[place] = np.memmap(self.meta.file(shard_name(*place)), dtype=np.uint8, mode="r")
        return self._shards[place]

    def pixels(self, row: int) -> np.ndarray:
        """The stored (H, W) uint8 or uint16 pixels, 1 = white."""
        rows, cols, start = int(self["rows"][row]), int(self["cols"][row]), int(self["offset"][row])
        dtype = np.dtype(self["dtype"][row])
        return self._bytes("pixels", row)[start : start + rows * cols * dtype.itemsize].view(dtype).reshape(rows, cols)

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
        return self._bytes("masks", row)[start : start + rows * cols * dtype.itemsize].view(dtype).reshape(rows, cols)

    def annotated(self, row: int) -> int:
        """Bit field of the structures that were annotated in this image (a missing mask is not an empty one)."""
        return int(self["mask_annotated"][row])
