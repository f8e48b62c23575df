"""Stage: one data set becomes an index and an image store. Each file is opened once, verified, hashed and kept as grey pixels.

    python -m radbench.index --dataset phantom --spec '{"reader": "folder", "root": "results/data/phantom", ...}'

A broken file costs one row in quarantine.csv (file, reason); too many are an error. An image that the configuration does not
want (a lateral view, an id of no split list) costs one row in left_out.csv (image_id, split, reason). The id lists of the
splits are published in splits/ with their hashes in the sidecar (radbench/splits.py).
"""

import argparse
import dataclasses
import functools
import hmac
import itertools
import json
import os
import re
import sys
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from PIL import UnidentifiedImageError

from . import artifact, phi, splits
from .datasets import COLLECTIONS, FRONTAL, READERS, UNLISTED, Record, masks, module_name, reader, with_parents
from .datasets.files import File, walk
from .dicom import INTENSITIES
from .errors import ConfigError, DataError, run_entry_point
from .image import INTENSITY_RULE, Decoded, decode, resize
from .parallel import in_parallel
from .progress import Progress
from .protocol import check_shares, from_overrides
from .similarity import dhash
from .store import shard_name

MAX_BROKEN = 0.05  # share of files; above it something is wrong with the folder, not with the files
LEFT_OUT = ["image_id", "split", "reason"]
MAX_STRUCTURES = 32
SHARD = 4096  # images: what a killed run has to do again at most


@dataclasses.dataclass(frozen=True)
class Spec:
    """What the configuration says of one data set."""

    reader: str
    root: str | None = None
    options: dict = dataclasses.field(default_factory=dict)
    sources: tuple[str, ...] = ()  # published data sets these images come from, for overlap marks
    max_side: int | None = None  # longer images are reduced to this; None keeps every pixel
    seed: int = 0
    shares: dict[str, float] = dataclasses.field(default_factory=lambda: dict(splits.SHARES))  # of the patients, where no split is given
    split_lists: str | None = None  # folder of train.txt, val.txt, test.txt, instead of any other split
    max_broken: float = MAX_BROKEN
    intensity: Literal[INTENSITIES] = "range"  # of DICOM and 16-bit pictures (radbench/dicom.py)
    how_to_get: str = ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset")
    parser.add_argument("--spec", type=json.loads, help="JSON of radbench.index.Spec")
    parser.add_argument("--check-phi", metavar="ROOT", type=Path, help="look for person tags of the DICOM files below ROOT in all results")
    parser.add_argument("--results", default="results", type=Path)
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.check_phi:
        return check_phi(arguments.check_phi, arguments.results)
    if not arguments.dataset or arguments.spec is None:
        parser.error("--dataset and --spec, or --check-phi")
    meta = build_index(arguments.dataset, read_spec(arguments.spec), arguments.results, arguments.workers)
    if meta.absent:
        print(f"index {arguments.dataset}: a gap: {meta.fields['reason']}", file=sys.stderr)
    return 0


def read_spec(values: object) -> Spec:
    """What `--spec` says, checked as a line of the configuration is. Raises ConfigError."""
    from pydantic import TypeAdapter, ValidationError

    known = {field.name for field in dataclasses.fields(Spec)}
    if not isinstance(values, dict) or set(values) - known:
        got = sorted(set(values) - known) if isinstance(values, dict) else type(values).__name__
        raise ConfigError("--spec", "not a data set", got=got, expected=f"a JSON object with some of {sorted(known)}")
    try:
        return TypeAdapter(Spec).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(["--spec", *map(str, first["loc"])])
        raise ConfigError(place, first["msg"], got=repr(first["input"])[:80]) from None


def hidden(kind: str, text: str) -> str:
    """An id under $RADBENCH_SALT: a hash that cannot be traced back without it. Unchanged when there is no salt."""
    salt = os.environ.get("RADBENCH_SALT")
    return hmac.new(salt.encode(), f"{kind}:{text}".encode(), "sha256").hexdigest()[:16] if salt and text else text


def salted(records: list[Record]) -> list[Record]:
    """Patients, studies and images under their hidden ids: those that belonged together still do.

    The salt is in no sidecar; another one makes another index.
    """
    if not os.environ.get("RADBENCH_SALT"):
        return records
    return [dataclasses.replace(record, image_id=hidden("image", record.image_id), patient_id=hidden("patient", record.patient_id),
                                study_id=hidden("study", record.study_id), parent=hidden("image", record.parent))
            for record in records]  # fmt: skip


def _name(record: Record, path: File, root: Path) -> str:
    """What a row of the quarantine is called: the file, or with a salt the image, because files bear the owner's ids."""
    if not os.environ.get("RADBENCH_SALT"):
        return str(path.relative_to(root))
    return record.image_id if path is record.path else f"mask of {record.image_id}"


def check_phi(root: Path, results: Path) -> int:
    """Say whether a person of the original files is named in the results; 1 when one is."""
    found = phi.check(root, results)
    print(phi.report(found))
    return 1 if found["person"] else 0


def build_index(dataset: str, spec: Spec, results: Path, workers: int = 1) -> artifact.Meta:
    """Index one data set into `results/index/{dataset}`. A root that is not there makes a named gap."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", dataset):
        raise ConfigError("dataset", "not a name", got=repr(dataset), expected="letters, digits, _ . and -: it becomes a folder")
    check_shares(f"datasets.{dataset}.shares", spec.shares)
    if spec.reader not in READERS:
        raise ConfigError(f"datasets.{dataset}", f"no reader {spec.reader!r}", expected=sorted(READERS))
    list_records, options_class = reader(spec.reader)
    parents = []
    if spec.reader == "phantom":  # generated by radbench.generate, then read like any tidy folder
        parents = [artifact.read(results / "data" / dataset)]
        root = parents[0].payload
    else:
        root = Path(spec.root) if spec.root else None
    module = sys.modules[list_records.__module__]
    owner = [spec.reader] if spec.reader in COLLECTIONS else []  # whatever the configuration calls a copy of it
    facts = {"sources": with_parents([*owner, *spec.sources]) or [dataset]}

    def make(work: Path) -> dict:
        if root is None or not root.is_dir():
            where = f"{root} is not a folder" if root else "no root is configured"
            raise artifact.Absent(f"data not present: {where}. {spec.how_to_get}".strip())
        records = list_records(root, from_overrides(options_class, spec.options, f"datasets.{dataset}.options"))
        release = _release(records)
        records, left_out = _wanted(salted(records), lists)
        pd.DataFrame(left_out, columns=LEFT_OUT).to_csv(work / "left_out.csv", index=False)
        found = _write_index(work, dataset, spec, root, records, workers)
        done = getattr(module, "PROCESSING", {})  # by the owner, to all pictures of a format
        processing = [f"{form}, {done[form]}" for form in found["formats"] if form in done]
        return found | facts | {"left_out": len(left_out), "release": release, "processing": processing}

    lists = Path(spec.split_lists) if spec.split_lists else None
    content = _content(root) if root and not parents else {}
    if root and hasattr(module, "elsewhere"):  # folders beside the root that the reader looks into
        options = from_overrides(options_class, spec.options, f"datasets.{dataset}.options")
        content |= {f"elsewhere {number}": _content(folder) for number, folder in enumerate(module.elsewhere(root, options))}
    salt = os.environ.get("RADBENCH_SALT", "")
    parts = {"spec": dataclasses.asdict(spec) | {"how_to_get": "", "root": None, "split_lists": splits.content(lists)}, "tables": content,
             "salt": hmac.new(salt.encode(), b"key", "sha256").hexdigest()[:16] if salt else "",
             "source": artifact.source_hash("radbench.index", module_name(spec.reader))}  # fmt: skip
    return artifact.build(results / "index" / dataset, kind="index", key_parts=parts, make=make, parents=parents,
                          publish=("index.parquet", "quarantine.csv", "left_out.csv", *(f"splits/{split}.txt" for split in splits.SHARES)),
                          absent_facts=facts, make_absent=_write_empty, resumable=True, scratch=["part-*.json"])  # fmt: skip


def _content(root: Path) -> dict:
    """Hashes of the tables; names, sizes and times of the files that a reader sees: a folder that changed is seen without reading it all.

    A copy that does not keep the times of files counts as changed.
    """
    if not root.is_dir():
        return {}
    hashes = {path.name: artifact.file_hash(path) for path in sorted(root.glob("*.csv"))}
    listing = []
    for path in sorted(walk(root)):
        try:
            stat = (root / path).stat()
        except OSError:  # a link to nothing or to itself
            stat = (root / path).lstat()
        listing.append((path, stat.st_size, stat.st_mtime_ns))
    return hashes | {"files": artifact.hash_json(listing)}


def _write_empty(work: Path) -> None:
    pd.DataFrame({"image_id": []}).to_parquet(work / "index.parquet")
    pd.DataFrame({"file": [], "reason": []}).to_csv(work / "quarantine.csv", index=False)
    pd.DataFrame(columns=LEFT_OUT).to_csv(work / "left_out.csv", index=False)
    splits.write(work, pd.DataFrame({"image_id": [], "split": []}))


def _release(records: list[Record]) -> dict:
    """Digest of the owner's ids and counts, of everything that the tables list: the same for every complete copy."""
    listed = [record for record in records if record.left_out != UNLISTED]
    return {"ids": artifact.hash_json(sorted(record.image_id for record in listed)), "images": len(listed),
            "studies": len({record.study_id for record in listed}),
            "patients": len({record.patient_id or record.image_id for record in listed})}  # fmt: skip


def _wanted(records: list[Record], lists: Path | None) -> tuple[list[Record], list[tuple[str, str, str]]]:
    """The records to index, with the splits of published lists where there are any; and (image_id, split, reason) of the others."""
    split_of = splits.read(lists) if lists else None
    if split_of is not None:  # of another group with the same salt, or with the owner's ids
        ids = {record.image_id for record in records}
        split_of = {name if name in ids else hidden("image", name): split for name, split in split_of.items()}
        if not ids & set(split_of):
            raise DataError(lists, f"none of the {len(split_of)} ids is in this copy", got=sorted(split_of)[:2], expected=sorted(ids)[:2])
    wanted, left_out, missing = [], [], dict(split_of or {})
    for record in records:
        split = missing.pop(record.image_id, "") if split_of is not None else record.split
        reason = record.left_out or ("in none of the split lists" if split_of is not None and not split else "")
        if reason:
            left_out.append((record.image_id, split, reason))
        else:
            wanted.append(dataclasses.replace(record, split=split))
    return wanted, left_out + [(name, split, "in a split list, not in this copy") for name, split in missing.items()]


def _write_index(work: Path, dataset: str, spec: Spec, root: Path, records: list[Record], workers: int) -> dict:
    structures = sorted({mask.structure for record in records for mask in record.masks})
    if len(structures) > MAX_STRUCTURES:
        raise DataError(root, f"{len(structures)} structures", expected=f"at most {MAX_STRUCTURES} per data set")
    mask_dtype = np.dtype(f"uint{next(bits for bits in (8, 16, 32) if len(structures) <= bits)}")
    # by the owner's ids alone: the same release under another name in the configuration has the same splits
    listed = pd.DataFrame({"patient_id": [record.patient_id or record.image_id for record in records],
                           "split": [record.split for record in records]}
                          | {f"labels.{name}": np.array([record.labels.get(name, np.nan) for record in records], dtype=np.float32)
                             for name in dict.fromkeys(name for record in records for name in record.labels)})  # fmt: skip
    # of all that is listed, before a file is opened: a broken one moves nobody, and lists that contradict each other cost no decoding
    split, fold = splits.assign(listed, spec.seed, spec.shares, spec.split_lists or root) if len(listed) else ([], [])
    given = len(listed) and listed["split"].ne("").all()
    assigned = dict(zip((record.image_id for record in records), zip(split, fold, strict=True), strict=True))
    rows, broken, lost_masks = [], [], 0
    starts = range(0, len(records), SHARD)
    kept = sum(min(SHARD, len(records) - start) for number, start in enumerate(starts) if _part(work, number).exists())
    report = Progress(f"index {dataset}", len(records), "images", start=kept)
    for number, start in enumerate(starts):
        if not _part(work, number).exists():  # an interrupted run goes on with the first shard that it has not finished
            shard = records[start : start + SHARD]
            _write_shard(work, number, dataset, spec, root, shard, structures, mask_dtype, workers, report)
        part = json.loads(_part(work, number).read_text())
        rows, broken, lost_masks = rows + part["rows"], broken + part["broken"], lost_masks + part["lost_masks"]
    mask_count = sum(len({mask.structure for mask in record.masks}) for record in records)
    for what, lost, count in (("images", len(records) - len(rows), len(records)), ("masks", lost_masks, mask_count)):
        if lost > spec.max_broken * count or not rows:
            first = [
                f"{entry['file']}: {entry['reason']}" for entry in broken if ("the image is kept" in entry["reason"]) == (what == "masks")
            ]
            raise DataError(root, f"{lost} of {count} {what} cannot be used", got=first[:3], expected=f"at most {spec.max_broken:.0%}",
                            fix="mend the folder, or raise max_broken")  # fmt: skip
    rows = [row | dict(zip(("split", "fold"), assigned[row["image_id"]], strict=True)) for row in rows]
    rows, repeated = _distinct(rows, given)
    broken += [{"file": row["path"] or row["image_id"], "reason": f"duplicate: the same pixels as {kept}"} for row, kept in repeated]
    pd.DataFrame(broken, columns=["file", "reason"]).to_csv(work / "quarantine.csv", index=False)
    table = pd.DataFrame(rows).astype({column: np.float32 for column in rows[0] if column.startswith("labels.")})
    splits.write(work, table)
    table.to_parquet(work / "index.parquet", index=False)
    drawn = {name: int((table["mask_annotated"].to_numpy() >> bit & 1).sum()) for bit, name in enumerate(structures)}
    if len(set(drawn.values())) > 1:  # an image without one of the structures of a task is not in that task
        said = ", ".join(f"{name} in {count:,}" for name, count in drawn.items())
        print(f"index {dataset}: of {len(table):,} images there are masks of {said}", file=sys.stderr)
    patient_ids = spec.options.get("subject_ids", True) and all(record.patient_id for record in records)
    return _facts(work, table, structures, len(broken), patient_ids) | {
        "masks": drawn, "mask_dtype": mask_dtype.name, "intensity": spec.intensity, "intensity_rule": INTENSITY_RULE}  # fmt: skip


def _distinct(rows: list[dict], given: bool) -> tuple[list[dict], list[tuple[dict, str]]]:
    """Rows without repeated pictures; and the others, each with the image id that stands for it.

    The first of equal pictures is kept. Of an owner's split (`given`) every one of the test split is, and then no copy outside: a test
    set keeps its size, and nobody trains on it.
    """
    kept, repeated, first = [], [], {}
    tested = {row["sha256"]: row["image_id"] for row in reversed(rows) if given and row["split"] == "test"}
    for row in rows:
        if row["sha256"] in tested and row["split"] == "test":
            kept.append(row)
        elif (stands := tested.get(row["sha256"]) or first.setdefault(row["sha256"], row["image_id"])) == row["image_id"]:
            kept.append(row)
        else:
            repeated.append((row, stands))
    return kept, repeated


def _part(work: Path, number: int) -> Path:
    """The rows of one shard, while the index is being made: they vouch for the shard's pixels."""
    return work / f"part-{number:05}.json"


def _write_shard(work: Path, number: int, dataset: str, spec: Spec, root: Path, records: list[Record], structures: list[str],
                 mask_dtype: np.dtype, workers: int, report: Progress) -> None:  # fmt: skip
    """Decode some records into `pixels-{number}.bin` and `masks-{number}.bin`, then write their rows."""
    rows, broken, lost_masks = [], [], 0
    with open(work / shard_name("pixels", number), "wb") as pixels_file, open(work / shard_name("masks", number), "wb") as masks_file:
        opened = in_parallel(functools.partial(_open, max_side=spec.max_side, intensity=spec.intensity), records, workers)
        for record, image, picture_hash, problem in opened:
            report.add()
            if image is None:
                broken.append({"file": _name(record, record.path, root), "reason": problem})
                continue
            mask, annotated, mask_problems = _read_masks(record, structures, root, image.pixels.shape)
            broken, lost_masks = broken + mask_problems, lost_masks + len({mask.structure for mask in record.masks}) - annotated.bit_count()
            rows.append(_row(dataset, record, image, root) | {
                "dhash": picture_hash, "shard": number, "offset": pixels_file.tell(),
                "mask_offset": masks_file.tell() if mask is not None else -1, "mask_annotated": annotated,
                "mask_rows": 0 if mask is None else mask.shape[0], "mask_cols": 0 if mask is None else mask.shape[1],
            })  # fmt: skip
            pixels_file.write(np.ascontiguousarray(image.pixels).tobytes())
            if mask is not None:
                masks_file.write(mask.astype(mask_dtype).tobytes())
    artifact.write_bytes(
        _part(work, number), json.dumps({"rows": rows, "broken": broken, "lost_masks": lost_masks}, default=float).encode()
    )


def _open(record: Record, max_side: int | None, intensity: str) -> tuple[Record, Decoded | None, str, str]:
    """All that costs time per image, for the threads: stored pixels, the hash of the picture, or why it is quarantined."""
    try:
        image = decode(record.path, intensity)
    except DataError as error:
        return record, None, "", error.what
    if record.inverted:
        image = dataclasses.replace(image, pixels=np.iinfo(image.pixels.dtype).max - image.pixels, photometric="MONOCHROME1")
    rows, cols = image.pixels.shape
    if max_side and max(rows, cols) > max_side:
        scale, top = max_side / max(rows, cols), np.iinfo(image.pixels.dtype).max
        small = resize(image.pixels, round(rows * scale), round(cols * scale), "bicubic")
        np.clip(np.rint(small, out=small), 0, top, out=small)  # bicubic overshoots; in place, which halves the time
        image = dataclasses.replace(image, pixels=small.astype(image.pixels.dtype))
    image.sha256  # noqa: B018  hashed here, so that the thread which writes need not
    return record, image, dhash(image.pixels).hex(), ""


def _read_masks(record: Record, structures: list[str], root: Path, shape: tuple[int, ...]) -> tuple[np.ndarray | None, int, list[dict]]:
    """The masks of one image as bits of uint32 (H, W); which bits were annotated; quarantine rows for broken masks."""
    field, annotated, problems = None, 0, []
    for path, group in itertools.groupby(record.masks, key=lambda mask: mask.path):
        values, depth, where = None, 0, _name(record, path or record.path, root)
        try:
            if path is not None:
                values, depth = masks.read(path)
        except FileNotFoundError:
            problems.append({"file": where, "reason": "missing mask; the image is kept without it"})
            continue
        except MemoryError:
            raise
        except Exception as error:  # Pillow's plug-ins raise a dozen unrelated classes for damaged files
            problems.append({"file": where, "reason": f"broken mask ({_why(error)}); the image is kept"})
            continue
        for mask in group:
            reason = masks.fault(mask, values, depth, shape)
            drawn = None if reason else masks.place(mask, values, shape)
            if drawn is not None and field is not None and drawn.shape != field.shape:
                reason = f"mask of {drawn.shape}, others of this image {field.shape}"
            if reason:
                problems.append({"file": where, "reason": f"{reason}; the image is kept without it"})
                break
            field = np.zeros(drawn.shape, dtype=np.uint32) if field is None else field
            bit = structures.index(mask.structure)
            field |= drawn.astype(np.uint32) << np.uint32(bit)
            annotated |= 1 << bit
    return field, annotated, problems


def _why(error: Exception) -> str:
    """What is wrong with a file, without its path."""
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    return getattr(error, "what", None) or getattr(error, "strerror", None) or str(error)


def _patient(dataset: str, record: Record) -> str:
    return f"{dataset}:{record.patient_id or record.image_id}"


def _row(dataset: str, record: Record, image: Decoded, root: Path) -> dict:
    return {
        "dataset": dataset, "image_id": record.image_id, "patient_id": _patient(dataset, record),
        "study_id": f"{dataset}:{record.study_id}", "view": record.view, "split": record.split, "fold": -1,
        "site": record.site, "sex": record.sex, "age": record.age, "parent_id": record.parent,
        "path": "" if os.environ.get("RADBENCH_SALT") else str(record.path.relative_to(root)),
        "sha256": image.sha256, "rows": image.pixels.shape[0], "cols": image.pixels.shape[1], "bits": image.bits,
        "dtype": image.pixels.dtype.name, "photometric": image.photometric, "source_format": image.source_format,
        "report": record.report, **{f"labels.{name}": np.float32(value) for name, value in record.labels.items()},
    }  # fmt: skip


def _facts(work: Path, table: pd.DataFrame, structures: list[str], quarantined: int, patient_ids: bool) -> dict:
    labels = {}
    for column in (name for name in table.columns if name.startswith("labels.")):
        labels[column.removeprefix("labels.")] = {
            split: {"positive": int((part == 1).sum()), "negative": int((part == 0).sum()),
                    "uncertain": int((part == -1).sum()), "blank": int(part.isna().sum())}
            for split in splits.SHARES for part in [table[column][table["split"] == split]]
        }  # fmt: skip
    return {
        **_counts(table), "patient_ids": patient_ids, "quarantined": quarantined,
        "splits": {split: {"images": int((table["split"] == split).sum()),
                           "patients": int(table["patient_id"][table["split"] == split].nunique()),
                           "sha256": artifact.file_hash(work / "splits" / f"{split}.txt")} for split in splits.SHARES},
        "labels": labels,
        "label_sites": _label_sites(table[table["split"] == "test"]), "structures": structures,
        "reports": int((table["report"] != "").sum()),
        "sites": {str(name): int(count) for name, count in table["site"].value_counts().sort_index().items()},
        "formats": {str(name): int(count) for name, count in table["source_format"].value_counts().sort_index().items()},
        "parts": {split: {str(site): _counts(part) for site, part in table[table["split"] == split].groupby("site")}
                  for split in splits.SHARES},
        "views": {str(name): int(count) for name, count in table["view"].value_counts().sort_index().items()},
    }  # fmt: skip


def _counts(table: pd.DataFrame) -> dict[str, int]:
    return {"images": len(table), "patients": int(table["patient_id"].nunique()), "frontal": int(table["view"].isin(FRONTAL).sum()),
            "lateral": int((table["view"] == "LATERAL").sum())}  # fmt: skip


def _label_sites(test: pd.DataFrame) -> dict[str, dict[str, list[int]]]:
    """Per label and site the numbers of positives and negatives in the test split: what the site alone gives away."""
    columns = [name for name in test.columns if name.startswith("labels.")]
    return {
        column.removeprefix("labels."): {
            str(site): [int((part == 1).sum()), int((part == 0).sum())]
            for site, part in test.groupby("site")[column]
            if part.isin([0, 1]).any()
        }
        for column in columns
    }


if __name__ == "__main__":
    run_entry_point(main)
