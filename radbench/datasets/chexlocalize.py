"""CheXlocalize (Saporta et al. 2022, doi:10.1038/s42256-022-00536-x): outlines of ten findings on CheXpert's valid and test images.

Read: `val_labels.csv` and `test_labels.csv` (paths, labels 0 and 1), `gt_segmentations_val.json` and `gt_segmentations_test.json` (COCO
run-length codes by `patient64741_study1_view1_frontal`) and the JPGs `CheXpert/{val,test}/patientNNNNN/studyN/`. An image without an
entry has no masks: nobody outlined it. Airspace Opacity is CheXpert's Lung Opacity.
"""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

from ..errors import DataError
from . import Mask, Record, columns, runs
from .chexpert import LABELS, PATH
from .files import File, Tree

RELEASES = {"1.0": {"images": 234 + 668, "patients": 700}}
OUTLINED = ("Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Lesion", "Airspace Opacity", "Edema", "Consolidation", "Atelectasis",
            "Pneumothorax", "Pleural Effusion", "Support Devices")  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Options:
    """What the configuration may say of CheXlocalize."""

    labels: Sequence[str] = ()  # CheXpert's names; findings that a table lacks stay blank


def records(root: Path, options: Options) -> list[Record]:
    """One record per row of the two tables; val and test are the owner's.

    Raises:
        DataError: a table is missing, a path is not CheXpert's, a code is malformed, or there is no image.
    """
    tree = Tree(root)
    names = columns.chosen(options.labels, LABELS, "chexlocalize")
    files = tree.lookup(3, (".jpg", ".jpeg", ".png"))
    if not len(files):
        raise tree.missing("JPG below patientNNNNN/studyN/", "download CheXpert/val and CheXpert/test")
    found = []
    for split in ("val", "test"):
        file = tree.one(rf"{split}_labels\.csv(\.gz)?", f"{split}_labels.csv")
        table = columns.read(file, ["Path"]).rename(columns={"Airspace Opacity": "Lung Opacity"})
        table = table.assign(**{name: "" for name in names if name not in table.columns})
        outlines = _outlines(tree, split)
        for listed, labels in zip(table["Path"], columns.labels(file, table, names), strict=True):
            match = PATH.search(listed)
            if match is None:
                raise DataError(file, f"the path {listed!r}", expected="…/patientNNNNN/studyN/viewN_frontal.jpg")
            patient, study, image, kind = match.groups()
            stem = image.rsplit(".", 1)[0]
            found.append(Record(
                image_id=f"{patient}/{study}/{stem}", parent=f"{patient}/{study}/{stem}", patient_id=patient, study_id=f"{patient}/{study}",
                view="LATERAL" if kind == "lateral" else "FRONTAL", split=split, site="", sex="", age=math.nan,
                path=files.found_or_listed(f"CheXpert/{split}/{patient}/{study}/{image}"), labels=labels,
                masks=outlines.get(f"{patient}_{study}_{stem}", ()), report="",
            ))  # fmt: skip
    return found + files.unlisted()


def _outlines(tree: Tree, split: str) -> dict[str, tuple[Mask, ...]]:
    file = tree.one(rf"gt_segmentations_{split}\.json", f"gt_segmentations_{split}.json")
    entries = columns.read_json(file)
    if not isinstance(entries, dict):
        raise DataError(file, "not the owner's outlines", expected="an object by image")
    return {image: tuple(_mask(file, image, name, entry) for name, entry in parts.items()) if isinstance(parts, dict) else ()
            for image, parts in entries.items()}  # fmt: skip


def _mask(file: File, image: str, name: str, entry: object) -> Mask:
    if name not in OUTLINED:
        raise DataError(f"{file}: {image}", f"unknown finding {name!r}", expected=list(OUTLINED))
    try:
        rows, cols = (int(side) for side in entry["size"])
        code = runs.coco(f"{file}: {image}: {name}", entry["counts"], rows * cols)
    except (TypeError, KeyError, ValueError):
        raise DataError(f"{file}: {image}: {name}", "not a COCO mask", got=repr(entry)[:80], expected="size and counts") from None
    return Mask(name.lower().replace(" ", "_").replace("airspace", "lung"), runs=code, size=(rows, cols))
