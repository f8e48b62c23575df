"""What every task writes: predictions.parquet, one row per sample, and never a metric. Columns: docs/formats.md."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from . import artifact
from .errors import ArtifactError

if TYPE_CHECKING:
    from .extract import Frozen
    from .store import Index

COMMON = {"dataset": pa.string(), "task": pa.string(), "encoder": pa.string(), "replicate": pa.int64(),
          "image_id": pa.string(), "patient_id": pa.string(), "study_id": pa.string(),
          "site": pa.string(), "sex": pa.string(), "age_band": pa.string(), "view": pa.string()}  # fmt: skip
AGE_BANDS = {"0-17": 18, "18-39": 40, "40-64": 65, "65 and over": math.inf}  # band: first age above it
COLUMNS = {
    "linear_probe": {"label": pa.string(), "target": pa.float32(), "score": pa.float32()},
    "segmentation": {"structure_set": pa.string(), "structure": pa.string(), "dice": pa.float64(),
                     "intersection": pa.int64(), "pred_area": pa.int64(), "ref_area": pa.int64(),
                     "hd95": pa.float64(), "nsd": pa.float64()},
    "report_generation": {"reference": pa.string(), "hypothesis": pa.string(),
                          "rouge_l": pa.float64(), "rouge_l_coco": pa.float64(),
                          **{f"bleu_{kind}_{n}": pa.int64() for kind in ("match", "guess") for n in (1, 2, 3, 4)},
                          "hyp_len": pa.int64(), "ref_len": pa.int64()},
}  # fmt: skip
OPTIONAL = {"linear_probe": {"train_images": pa.int64()},
            "report_generation": {"rg_er": pa.float64(), **{f"chexbert_{side}_{head}": pa.int8()
                                                            for side in ("ref", "hyp") for head in range(14)}}}  # fmt: skip


def write(path: Path, task: str, columns: Mapping[str, Any]) -> None:
    """Write one prediction file; single values are repeated. Raises ArtifactError for a missing or unknown column."""
    required = COMMON | COLUMNS[task]
    schema = required | {name: kind for name, kind in OPTIONAL.get(task, {}).items() if name in columns}
    if set(columns) != set(schema):
        raise ArtifactError(path, "columns are not those of the format", got=sorted(set(columns) - set(schema)),
                            expected=f"also {sorted(set(schema) - set(columns))}", fix="see docs/formats.md")  # fmt: skip
    length = max((len(value) for value in columns.values() if isinstance(value, np.ndarray | list)), default=0)
    arrays = [pa.array(value if isinstance(value, np.ndarray | list) else [value] * length, type=schema[name])
              for name, value in ((name, columns[name]) for name in schema)]  # fmt: skip
    pq.write_table(pa.table(arrays, schema=pa.schema(list(schema.items()))), path)


def identity(index: Index, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Who an image is of and which subgroups it belongs to ("" where the owner does not say); the columns of every task."""
    ages = index["age"][rows].astype(np.float64)
    bands = [next((band for band, end in AGE_BANDS.items() if 0 <= age < end), "") for age in ages]
    return {name: index[name][rows] for name in ("image_id", "patient_id", "study_id", "site", "sex", "view")} | {
        "age_band": np.array(bands, dtype=object)
    }


def write_empty(work: Path, task: str) -> None:
    """The prediction file of a gap: the right columns, no rows."""
    write(work / "predictions.parquet", task, {name: [] for name in COMMON | COLUMNS[task]})


def build(
    task: str, dataset: str, frozen: Frozen, results: Path, *, key_parts: Mapping[str, Any], modules: tuple[str, ...],
    parents: list[artifact.Meta], make: Callable[[Path], dict], publish: tuple[str, ...] = (), resumable: bool = False,
) -> artifact.Meta:  # fmt: skip
    """Make `results/{task}/{dataset}/{encoder}`; gaps of the parents or the weights travel on."""

    def checked(work: Path) -> dict:
        frozen.require()
        return make(work)

    def gap(work: Path) -> None:
        write_empty(work, task)
        for name in publish:
            (work / name).write_bytes(b"")

    return artifact.build(results / task / dataset / frozen.name, kind="predictions", parents=parents,
                          key_parts=frozen.key_parts(*modules) | dict(key_parts), make=checked, make_absent=gap,
                          absent_facts=frozen.facts(), publish=("predictions.parquet", *publish), resumable=resumable)  # fmt: skip
