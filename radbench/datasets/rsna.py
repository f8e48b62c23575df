"""RSNA Pneumonia Detection Challenge 2018, stage 2 (Shih et al. 2019, doi:10.1148/ryai.2019180041; Kaggle).

Read: `stage_2_train_labels.csv` (a row per box; the label is whether any box is there), `stage_2_detailed_class_info.csv` when the
label Normal is asked for, and `stage_2_train_images/<patientId>.dcm` or pictures of the same names. The test images have no labels
and are not read. `patientId` names an image. Every image comes from ChestX-ray14; with the owner's
`pneumonia-challenge-dataset-mappings_2018.json` the patients are those of ChestX-ray14, without it each image counts as one.
View, sex and age are read from the DICOM headers.
"""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

from ..errors import DataError
from . import Record, columns, headers
from .files import Tree

LABELS = ("Pneumonia", "Normal")
RELEASES = {"stage 2": {"images": 26_684}}
CLASSES = ("Lung Opacity", "No Lung Opacity / Not Normal", "Normal")
SUFFIXES = (".dcm", ".dicom", ".png", ".jpg", ".jpeg")
MAPPING = r"pneumonia-challenge-dataset-mappings.*\.json"


@dataclasses.dataclass(frozen=True)
class Options:
    """What the configuration may say of the challenge."""

    labels: Sequence[str] = ("Pneumonia",)


def records(root: Path, options: Options) -> list[Record]:
    """One record per image of the label table; no split is given.

    Raises:
        DataError: no table, no image, a Target is not 0 or 1, or the mapping lacks an image.
    """
    tree = Tree(root)
    names = columns.chosen(options.labels, LABELS, "rsna")
    file = tree.one(r"stage_2_train_labels\.csv(\.gz)?", "stage_2_train_labels.csv", "download stage 2 of the competition")
    table = columns.read(file, ["patientId", "Target"])
    if not table["Target"].isin(["0", "1"]).all():
        raise DataError(file, "a Target that is not 0 or 1", got=sorted(set(table["Target"]) - {"0", "1"})[:3])
    target = table["Target"].eq("1").groupby(table["patientId"], sort=False).any()
    normal = _normal(tree) if "Normal" in names else {}
    parents = _parents(tree)
    files = tree.lookup(1, SUFFIXES)
    found = []
    for image, positive in target.items():
        path = files.found_or_listed(f"stage_2_train_images/{image}.dcm")
        view, sex, age = headers.read(path, otherwise="FRONTAL")
        values = {"Pneumonia": float(positive), "Normal": normal.get(image, math.nan)}
        if parents and image not in parents:
            raise DataError(tree.root, f"the mapping to ChestX-ray14 lacks {image!r}", fix="download it again, or remove it")
        found.append(Record(
            image_id=image, patient_id=parents.get(image, "").split("_")[0], study_id=image, view=view, split="", site="",
            sex=sex, age=age, path=path, labels={name: values[name] for name in names}, masks=(), report="", parent=parents.get(image, ""),
        ))  # fmt: skip
    return found + files.unlisted(but="stage_2_test_images")


def _normal(tree: Tree) -> dict[str, float]:
    file = tree.one(r"stage_2_detailed_class_info\.csv(\.gz)?", "stage_2_detailed_class_info.csv", "needed for the label Normal")
    table = columns.read(file, ["patientId", "class"])
    if not table["class"].isin(CLASSES).all():
        raise DataError(file, "unknown class", got=sorted(set(table["class"]) - set(CLASSES))[:3], expected=CLASSES)
    return dict(zip(table["patientId"], table["class"].eq("Normal").astype(float), strict=True))


def _parents(tree: Tree) -> dict[str, str]:
    """{image: image id in ChestX-ray14, which begins with the patient}; empty without the mapping."""
    if not tree.matching(MAPPING):
        return {}
    file = tree.one(MAPPING, "mapping to ChestX-ray14")
    rows = columns.read_json(file)
    if not isinstance(rows, list) or not all(isinstance(row, dict) and {"img_id", "subset_img_id"} <= set(row) for row in rows):
        raise DataError(file, "not the owner's mapping", expected="a list of objects with img_id and subset_img_id")
    return {row["subset_img_id"]: str(row["img_id"]).removesuffix(".png") for row in rows}
