"""VinDr-CXR 1.0.0 (Nguyen et al. 2022, doi:10.1038/s41597-022-01498-w; doi:10.13026/3akn-b287).

Read: `annotations/image_labels_train.csv` (one row per image and reader, three readers each) and `image_labels_test.csv` (one row
per image, the consensus of five); images `train/*.dicom` and `test/*.dicom`, or .dcm, .png and .jpg of the same names. All are
PA. Sex and age are those of the DICOM headers, where these hold them; an age of 0 counts as not given. No patient ids are released: each
image counts as a patient of its own. The rule that makes one label of three readers is an
option, because the paper does not say its own; Lung Opacity has 547 positives in train by majority and 1,322 by union.
"""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ..errors import DataError
from . import Record, columns, headers
from .files import File, Tree

LABELS = ("Aortic enlargement", "Atelectasis", "Calcification", "Cardiomegaly", "Clavicle fracture", "Consolidation", "Edema",
          "Emphysema", "Enlarged PA", "ILD", "Infiltration", "Lung Opacity", "Lung cavity", "Lung cyst", "Mediastinal shift",
          "Nodule/Mass", "Pleural effusion", "Pleural thickening", "Pneumothorax", "Pulmonary fibrosis", "Rib fracture", "Other lesion",
          "COPD", "Lung tumor", "Pneumonia", "Tuberculosis", "Other disease", "No finding")  # fmt: skip
RELEASES = {"1.0.0": {"images": 18_000}}
RULES = ("majority", "union", "unanimous")  # of the readers, more than half, any, all; or the name of one reader, R1 to R17
DICOM = (".dicom", ".dcm")
SUFFIXES = (*DICOM, ".png", ".jpg", ".jpeg")


@dataclasses.dataclass(frozen=True)
class Options:
    """What the configuration may say of VinDr-CXR."""

    labels: Sequence[str] = ()  # all twenty-eight
    rule: str = "majority"  # of RULES, or one reader's name: images that this reader did not read are then blank


def records(root: Path, options: Options) -> list[Record]:
    """One record per image of the two label tables; their split is the owner's.

    Raises:
        DataError: a table is missing, a label is not there or not 0 or 1, the rule is unknown, or there is no image.
    """
    tree = Tree(root)
    names = columns.chosen(options.labels, LABELS, "vindr_cxr")
    files = tree.lookup(1, SUFFIXES)
    if not len(files):
        raise tree.missing("image below it", "download `train/` and `test/`")
    found = []
    for split in ("train", "test"):
        file = tree.one(rf"image_labels_{split}\.csv(\.gz)?", f"image_labels_{split}.csv", "download `annotations/` from PhysioNet")
        values = _one_label(file, _table(file), names, options.rule)
        for image, row in zip(values.index, values.to_numpy(), strict=True):
            path = files.found_or_listed(f"{split}/{image}.dicom")
            _, sex, age = headers.read(path) if path.suffix.lower() in DICOM else ("", "", math.nan)
            found.append(Record(
                image_id=image, patient_id="", study_id=image, view="PA", split=split, site="", sex=sex, age=age or math.nan,
                path=path, labels=dict(zip(names, row.tolist(), strict=True)), masks=(), report="",
            ))  # fmt: skip
    return found + files.unlisted()


def _table(file: File) -> pd.DataFrame:
    """The label table, with the names of LABELS: the train and test tables spell some of them differently."""
    table = columns.read(file, ["image_id"])
    official = {_folded(name): name for name in LABELS}
    return table.rename(columns={name: official[_folded(name)] for name in table.columns if _folded(name) in official})


def _folded(name: str) -> str:
    return name.casefold().rstrip("s")  # "Other diseases" and "Other disease"


def _one_label(file: File, table: pd.DataFrame, names: Sequence[str], rule: str) -> pd.DataFrame:
    """Images x labels: 1, 0, or NaN where the one reader asked for did not read."""
    values = pd.DataFrame(columns.labels(file, table, names), columns=list(names), index=table["image_id"])
    if not values.isin([0.0, 1.0]).all(axis=None):
        raise DataError(file, "a label is blank or uncertain", expected="0 or 1", fix="download the table again")
    if "rad_id" not in table.columns:
        if values.index.duplicated().any():
            twice = values.index[values.index.duplicated()][0]
            raise DataError(file, f"image {twice!r} is listed twice, and no column 'rad_id' tells the readers apart")
        return values
    if pd.MultiIndex.from_frame(table[["image_id", "rad_id"]]).duplicated().any():
        raise DataError(file, "a reader has two rows for one image", fix="download the table again")
    if rule not in RULES:
        columns.choice(str(file), "rule", rule, (*RULES, *sorted(table["rad_id"].unique())))
        order = table["image_id"].unique()
        return values[(table["rad_id"] == rule).to_numpy()].reindex(order)
    share = values.groupby(level=0, sort=False).mean()
    agreed = {"majority": share > 0.5, "union": share > 0, "unanimous": share == 1}[rule]
    return agreed.astype(float)
