"""CheXpert v1.0 and v1.0-small (Irvin et al. 2019, arXiv 1901.07031; stanfordmlgroup.github.io/competitions/chexpert).

Read: `train.csv` and `valid.csv`, and `test.csv` or CheXlocalize's `test_labels.csv` when there; images
`{train,valid,test}/patientNNNNN/studyN/viewN_{frontal,lateral}.jpg`, also in the owner's batch folders or zip files. A table's
paths begin with `CheXpert-v1.0/` or `CheXpert-v1.0-small/` whatever the folder is called, so only their end counts.
"""

import dataclasses
import math
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ..errors import DataError
from . import Record, columns, frontal_only
from .files import Tree

LABELS = ("No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema", "Consolidation",
          "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture", "Support Devices")  # fmt: skip
RELEASES = {"1.0": {"images": 223_414 + 234, "patients": 64_740, "studies": 187_641 + 200},
            "1.0 with test": {"images": 224_316, "patients": 65_240, "studies": 187_641 + 200 + 500}}  # fmt: skip
TABLES = {"train": "train", "val": "valid", "test": "test(_labels)?"}  # name without suffix, as a regular expression
PATH = re.compile(r"(patient\d+)/(study\d+)/(view\d+_(frontal|lateral)\.\w+)$")
VIEWS = {"PA": "PA", "AP": "AP", "LL": "LATERAL", "RL": "LATERAL"}


@dataclasses.dataclass(frozen=True)
class Options:
    """What the configuration may say of CheXpert."""

    labels: Sequence[str] = ()  # all fourteen
    frontal_only: bool = False


def records(root: Path, options: Options) -> list[Record]:
    """One record per row of train.csv, valid.csv and, when there, the test table.

    Raises:
        DataError: no train.csv or valid.csv, two copies of one, a column is missing, a path is not CheXpert's, a label is
            not 1, 0, -1 or blank, or there is no image.
    """
    tree = Tree(root)
    names = columns.chosen(options.labels, LABELS, "chexpert")
    files = tree.lookup(3, (".jpg", ".jpeg", ".png"))
    if not len(files):
        raise tree.missing("JPG below patientNNNNN/studyN/")
    found: dict[str, Record] = {}
    for split, name in TABLES.items():
        pattern = rf"{name}\.csv(\.gz)?"
        if split == "test" and not tree.matching(pattern):
            continue
        file = tree.one(pattern, f"{name}.csv", "unpack the release below `root`")
        table = columns.read(file, ["Path"])
        for row, labels in zip(table.to_dict("records"), columns.labels(file, _known(table, split), names), strict=True):
            match = PATH.search(row["Path"])
            if match is None:
                raise DataError(file, f"the path {row['Path']!r}", expected="…/patientNNNNN/studyN/viewN_frontal.jpg")
            patient, study, image, kind = match.groups()
            identifier = f"{patient}/{study}/{image.rsplit('.', 1)[0]}"
            view = VIEWS.get(row.get("AP/PA", ""), "LATERAL" if kind == "lateral" else "FRONTAL")
            if identifier in found:  # CheXlocalize repeats valid
                continue
            listed = row["Path"].split("/", 1)[1] if row["Path"].startswith("CheXpert") else row["Path"]
            found[identifier] = Record(
                image_id=identifier, patient_id=patient, study_id=f"{patient}/{study}", view=view, split=split, site="",
                sex=columns.sex(row.get("Sex", "")), age=_age(row.get("Age", "")), path=files.found_or_listed(listed), labels=labels,
                masks=(), report="", left_out=frontal_only(options.frontal_only, "LATERAL" if kind == "lateral" else "FRONTAL"),
            )  # fmt: skip
    return [*found.values(), *files.unlisted()]


def _known(table: pd.DataFrame, split: str) -> pd.DataFrame:
    """CheXlocalize's test table says Airspace Opacity, and may lack findings that nobody read: they stay blank."""
    table = table.rename(columns={"Airspace Opacity": "Lung Opacity"})
    return table.assign(**{name: "" for name in LABELS if name not in table.columns}) if split == "test" else table


def _age(text: str) -> float:
    """Three adults have age 0."""
    years = columns.age(text)
    return years if years > 0 else math.nan
