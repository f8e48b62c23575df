"""Stage: which images of one data set are in another, or on both sides of a split. Measured, not believed.

    python -m radbench.overlap --datasets rsna nih_cxr14 vindr_cxr

Reads the indexes. By id: the owner says which picture of the other set this is (RSNA's mapping to ChestX-ray14, for one). Exact:
the stored pixels have the same hash. Near: the same picture in another size, compression or grey curve (radbench.similarity).
`overlap.csv` counts images per pair of data sets, and per pair of splits within one data set; `pairs.parquet` names them, for the
owner of the data only: no table or page reads it. A killed run goes on with the first pair of data sets that it has not finished.
"""

import argparse
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from . import artifact
from .errors import run_entry_point
from .parallel import in_parallel, worker_count
from .progress import Progress
from .similarity import NEAR, SAME, SIDE, correlation, fingerprint, near_pairs, unpack
from .store import Index

CHUNK = 2048  # pairs of fingerprints held at once: 64 MB

COLUMNS = ("dataset", "other", "split", "other_split", "images", "other_images", "by_id", "exact", "near", "same_patient_id",
           "test_copies", "other_test_copies")  # fmt: skip
PAIR_COLUMNS = ("dataset", "image_id", "split", "other", "other_image_id", "other_split", "kind", "bits", "correlation")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--datasets", nargs="+", required=True)
    parser.add_argument("--results", default="results", type=Path)
    arguments = parser.parse_args()
    overlap(arguments.datasets, arguments.results)


def overlap(datasets: Sequence[str], results: Path = Path("results")) -> artifact.Meta:
    """Write `results/overlap`: counts and pairs. Data sets that are absent are named in the facts and left out."""
    metas = {name: artifact.read(results / "index" / name) for name in datasets}
    absent = {name: str(meta.fields["reason"]) for name, meta in metas.items() if meta.absent}

    def make(work: Path) -> dict:
        present = {name: Index(results / "index" / name) for name in datasets if name not in absent}
        prints = {name: Fingerprints(index, work / f"prints-{name}.npy") for name, index in present.items()}
        counts, pairs = [], []
        report = Progress("overlap", len(present) * (len(present) + 1) // 2, "pairs of data sets")
        for number, (one, other) in enumerate(itertools.combinations_with_replacement(present, 2)):
            part = work / f"part-{number:05}.parquet"
            if not part.exists():
                whole = compare(present[one], present[other], prints[one], prints[other]).assign(dataset=one, other=other)
                with artifact.replacing(part) as handle:
                    whole.to_parquet(handle, index=False)
            found = pd.read_parquet(part)
            counts += _counts(one, other, present[one], present[other], found)
            pairs.append(found)
            report.add()
        pd.DataFrame(counts, columns=COLUMNS).to_csv(work / "overlap.csv", index=False)
        whole = pd.concat(pairs) if pairs else pd.DataFrame(columns=PAIR_COLUMNS)
        whole[list(PAIR_COLUMNS)].to_parquet(work / "pairs.parquet", index=False)
        leaks = [row for row in counts if row["dataset"] == row["other"] and row["exact"] + row["near"] + row["same_patient_id"]]
        sources = {name: meta.facts.get("sources") or [] for name, meta in metas.items()}
        return {"absent": absent, "sources": sources, "near_bits": NEAR, "same_correlation": SAME,
                "leaks": [f"{row['dataset']}: {row['exact'] + row['near']} pictures and {row['same_patient_id']} patients lie in both "
                          f"{row['split']} and {row['other_split']}" for row in leaks]}  # fmt: skip

    # an absent data set is no parent: it would make all of this a gap, and what is there can be compared without it
    gone = {name: metas[name].fingerprint for name in absent}
    found = artifact.build(results / "overlap", kind="overlap", make=make, publish=("overlap.csv",), resumable=True,
                           scratch=["prints-*.npy", "part-*.parquet"],
                           parents=[meta for name, meta in metas.items() if name not in absent],
                           key_parts={"datasets": list(datasets), "absent": gone,
                                      "source": artifact.source_hash("radbench.overlap")})  # fmt: skip
    for leak in found.facts["leaks"]:
        print(f"overlap: WARNING: {leak}", file=sys.stderr)
    return found


def compare(one: Index, right: Index, left_prints: "Fingerprints", right_prints: "Fingerprints") -> pd.DataFrame:
    """Copies between two data sets, or (the same twice) within one; a row per pair."""
    within = one is right
    named = [] if within else _by_id(one, right)
    exact = _equal(one["sha256"], right["sha256"], within)
    near = near_pairs(unpack(list(one["dhash"])), None if within else unpack(list(right["dhash"])), workers=worker_count())
    known = {(int(row), int(col)) for row, col in exact}
    rows = [(*pair, "id", 0, np.nan) for pair in named] + [(*pair, "exact", 0, 1.0) for pair in sorted(known)]
    for start in range(0, len(near), CHUNK):
        pairs = near[start : start + CHUNK]
        alike = correlation(left_prints[pairs[:, 0]], right_prints[pairs[:, 1]])
        rows += [(row, col, "near", bits, value) for (row, col, bits), value in zip(pairs.tolist(), alike.tolist(), strict=True)
                 if value >= SAME and (row, col) not in known]  # fmt: skip
    lefts, rights = ([entry[k] for entry in rows] for k in (0, 1))
    return pd.DataFrame({
        "image_id": one["image_id"][lefts], "split": one["split"][lefts], "other_image_id": right["image_id"][rights],
        "other_split": right["split"][rights], "kind": [entry[2] for entry in rows], "bits": [entry[3] for entry in rows],
        "correlation": [entry[4] for entry in rows],
    })  # fmt: skip


class Fingerprints:
    """Fingerprints of the images that are asked for, each made once and kept in a file (8 KB an image): memory does not grow with them."""

    def __init__(self, index: Index, file: Path):
        self._index, shape = index, (len(index), SIDE**2)
        if file.exists():  # of a run that was killed
            self._made = np.lib.format.open_memmap(file, mode="r+")
        else:
            self._made = np.lib.format.open_memmap(file, mode="w+", dtype=np.uint16, shape=shape)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """(n, 4096) fingerprints of rows (n,) of the index."""
        wanted = np.unique(rows)
        missing = wanted[(self._made[wanted] == 0).any(axis=1)].tolist()  # no rank is 0; some are where writing it was cut short
        for row, made in zip(missing, in_parallel(self._make, missing, worker_count()), strict=True):
            self._made[row] = made
        return np.asarray(self._made[rows])

    def _make(self, row: int) -> np.ndarray:
        return fingerprint(self._index.pixels(row))


def _by_id(one: Index, other: Index) -> list[tuple[int, int]]:
    """Rows of which one's owner says that they are the other's picture."""
    pairs = set()
    for left, right, turned in ((one, other, False), (other, one, True)):
        place = {str(name): row for row, name in enumerate(right["image_id"])}
        found = ((row, place.get(str(parent))) for row, parent in enumerate(left["parent_id"]) if parent)
        pairs |= {(col, row) if turned else (row, col) for row, col in found if col is not None}
    return sorted(pairs)


def _equal(one: np.ndarray, other: np.ndarray, within: bool) -> np.ndarray:
    """(pairs, 2) rows with the same hash. Within one data set the index keeps none on two sides of a split."""
    if within:
        return np.empty((0, 2), dtype=np.int64)
    merged = pd.merge(pd.DataFrame({"hash": one, "row": np.arange(len(one))}), pd.DataFrame({"hash": other, "col": np.arange(len(other))}))
    return merged[["row", "col"]].to_numpy()


def _counts(one: str, other: str, left: Index, right: Index, found: pd.DataFrame) -> list[dict]:
    """A row per pair of data sets; within one data set a row per pair of splits that must not share anything.

    Between data sets also the test images of either side that the other side holds, each once however it was found: only these can
    make a result too good.
    """
    if one != other:
        in_test = {"test_copies": found["image_id"][found["split"] == "test"].nunique(),
                   "other_test_copies": found["other_image_id"][found["other_split"] == "test"].nunique()}  # fmt: skip
        return [{"dataset": one, "other": other, "split": "", "other_split": "", "images": len(left), "other_images": len(right),
                 **_shared(found), "same_patient_id": 0, **in_test}]  # fmt: skip
    rows = []
    for first, second in itertools.combinations(("train", "val", "test"), 2):
        here, there = found["split"], found["other_split"]
        across = ((here == first) & (there == second)) | ((here == second) & (there == first))
        patients = [set(left["patient_id"][left.rows(split)]) for split in (first, second)]
        rows.append({"dataset": one, "other": one, "split": first, "other_split": second, "images": len(left.rows(first)),
                     "other_images": len(left.rows(second)), **_shared(found[across]),
                     "same_patient_id": len(patients[0] & patients[1]),
                     "test_copies": "", "other_test_copies": ""})  # fmt: skip
    return rows


def _shared(found: pd.DataFrame) -> dict[str, int]:
    """Pictures that both sides hold, by kind: several copies of one picture count once."""
    kinds = ((kind, found[found["kind"] == kind]) for kind in ("id", "exact", "near"))
    return {"by_id" if kind == "id" else kind: min(rows["image_id"].nunique(), rows["other_image_id"].nunique()) for kind, rows in kinds}


if __name__ == "__main__":
    run_entry_point(main)
