"""SIIM-ACR Pneumothorax Segmentation 2019 (Kaggle): images of ChestX-ray14 with outlines of pneumothoraces.

Read: `train-rle.csv`, whose second column is called " EncodedPixels" with a blank before it, a row per outline, and
`dicom-images-train/<study>/<series>/<ImageId>.dcm`, or pictures of the same names. "-1" says that there is none. Outlines are relative
run-length codes down the columns of 1024 x 1024. The test images have no labels and are not read. No patient ids are released.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from . import Mask, Record, columns, headers, runs
from .files import Tree

LABELS = ("Pneumothorax",)
RELEASES = {"stage 1": {"images": 12_047}}
SIDE = 1024


@dataclasses.dataclass(frozen=True)
class Options:
    """What the configuration may say of the challenge."""

    labels: Sequence[str] = LABELS


def records(root: Path, options: Options) -> list[Record]:
    """One record per image of the table, with one mask `pneumothorax`, empty when there is none.

    Raises:
        DataError: no table, a column is missing, or a code is malformed.
    """
    tree = Tree(root)
    names = columns.chosen(options.labels, LABELS, "siim_acr")
    file = tree.one(r"(stage_2_train|train-rle)\.csv(\.gz)?", "train-rle.csv", "download the competition's table")
    table = columns.read(file, ["ImageId", "EncodedPixels"])
    files = tree.lookup(1, (".dcm", ".dicom", ".png", ".jpg"))
    found: dict[str, tuple] = {}
    for image, text in zip(table["ImageId"], table["EncodedPixels"], strict=True):
        found[image] = found.get(image, ()) + runs.relative(f"{file}: {image}", text, SIDE**2)
    listed = []
    for image, outline in found.items():
        path = files.found_or_listed(f"dicom-images-train/{image}.dcm")
        view, sex, age = headers.read(path, otherwise="FRONTAL")
        listed.append(Record(
            image_id=image, patient_id="", study_id=image, view=view, split="", site="", sex=sex, age=age, path=path,
            labels={name: float(bool(outline)) for name in names}, report="",
            masks=(Mask("pneumothorax", runs=outline, size=(SIDE, SIDE)),),
        ))  # fmt: skip
    return listed + files.unlisted(but="dicom-images-test|stage_2_test_images")
