"""ChestX-ray14 (Wang et al. 2017, doi:10.1109/CVPR.2017.369; nihcc.app.box.com/v/ChestXray-NIHCC).

Read: `Data_Entry_2017_v2020.csv`, else `Data_Entry_2017.csv` (whose rows end in an empty column, and whose ages reach 414);
the owner's `train_val_list.txt` and `test_list.txt`, a split by patient; images `images_001/images/NNNNNNNN_NNN.png` to
`images_012`, flat, or in the `images_*.tar.gz`. Findings are named when present, so the others are absent (0). Boxes are not read.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ..errors import DataError, did_you_mean
from . import Record, columns
from .files import File, Tree

LABELS = ("Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax", "Consolidation",
          "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia", "No Finding")  # fmt: skip
RELEASES = {"2017": {"images": 112_120, "patients": 30_805}, "2020": {"images": 112_120, "patients": 30_805}}
LISTS = {"train": r"train_val_list\.txt", "test": r"test_list\.txt"}
IMAGE = r"\d{8}_\d{3}\.png"


@dataclasses.dataclass(frozen=True)
class Options:
    """What the configuration may say of ChestX-ray14."""

    labels: Sequence[str] = ()  # all fourteen and No Finding
    official_split: bool = True  # False: radbench.index divides the patients anew


def records(root: Path, options: Options) -> list[Record]:
    """One record per row of the table.

    Raises:
        DataError: no table, no image, a column is missing, a finding is unknown, an image is listed twice or in no split, or
            only one of the two lists is there.
    """
    tree = Tree(root)
    names = columns.chosen(options.labels, LABELS, "nih_cxr14")
    pattern = r"Data_Entry_2017_v2020\.csv(\.gz)?"
    pattern = pattern if tree.matching(pattern) else r"Data_Entry_2017\.csv(\.gz)?"
    file = tree.one(pattern, "Data_Entry_2017_v2020.csv or Data_Entry_2017.csv", "download it beside the images")
    table = columns.read(file, ["Image Index", "Finding Labels", "Patient ID", "View Position"])
    _check(file, table)
    files = tree.lookup(1, (".png", ".jpg", ".jpeg"))
    if not len(files):
        raise tree.missing("PNG below it", "download images_001.tar.gz to images_012.tar.gz")
    splits = _splits(tree, table) if options.official_split else [""] * len(table)
    sexes, ages, visits = (columns.named(table, *names) for names in (("Patient Gender", "Patient Sex", "Sex"), ("Patient Age",),
                                                                      ("Follow-up #",)))  # fmt: skip
    found = []
    for row, (image, text, patient, view) in enumerate(table[["Image Index", "Finding Labels", "Patient ID", "View Position"]].to_numpy()):
        present, patient = set(text.split("|")), patient.zfill(8)
        found.append(Record(
            image_id=image.removesuffix(".png"), patient_id=patient, study_id=f"{patient}_{visits.iat[row].zfill(3)}",
            view=view if view in ("PA", "AP") else "UNKNOWN", split=splits[row], site="", sex=columns.sex(sexes.iat[row]),
            age=columns.age(ages.iat[row]), path=files.found_or_listed(f"images/{image}"),
            labels={name: float(name in present) for name in names}, masks=(), report="",
        ))  # fmt: skip
    return found + files.unlisted()


def _check(file: File, table: pd.DataFrame) -> None:
    bad = ~table["Image Index"].str.fullmatch(IMAGE)
    if bad.any():
        row = int(bad.to_numpy().argmax())
        raise DataError(file, f"image {table['Image Index'].iat[row]!r} in line {row + 2}", expected=f"like {IMAGE}")
    if table["Image Index"].duplicated().any():
        raise DataError(file, f"image {table['Image Index'][table['Image Index'].duplicated()].iat[0]!r} is listed twice")
    for text in table["Finding Labels"].unique():
        for name in text.split("|"):
            if name not in LABELS:
                raise DataError(file, f"unknown finding {name!r}", expected=list(LABELS), fix=did_you_mean(name, LABELS))
        if "No Finding" in text and text != "No Finding":
            raise DataError(file, f"findings {text!r}: No Finding and others", fix="download the table again")


def _splits(tree: Tree, table: pd.DataFrame) -> list[str]:
    """train or test per row by the owner's lists; blank for all rows when neither list is there."""
    there = {split: pattern for split, pattern in LISTS.items() if tree.matching(pattern)}
    if not there:
        return [""] * len(table)
    split_of: dict[str, str] = {}
    for split, pattern in LISTS.items():
        file = tree.one(pattern, pattern.replace("\\", ""), "download both lists, or set options.official_split: false")
        split_of |= dict.fromkeys(columns.content(file).decode("ascii", errors="replace").split(), split)
    without = [image for image in table["Image Index"] if image not in split_of]
    if without:
        raise DataError(tree.root, f"{len(without)} images are in neither list, such as {without[0]}",
                        fix="download both lists again, or set options.official_split: false")  # fmt: skip
    return [split_of[image] for image in table["Image Index"]]
