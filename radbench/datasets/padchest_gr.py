"""PadChest-GR (de Castro et al. 2024, arXiv 2411.05085): sentences of 4,555 PadChest studies, in English and Spanish, with boxes.

Read: `grounded_reports_20240819.json` (a list of {StudyID, ImageID, findings: [{sentence_en, sentence_es, abnormal, …}]}),
`master_table.csv` (StudyID, PatientID, ImageID, label, split; a row per label) and the 16-bit PNGs by their names. The report is its
sentences joined. Boxes are not read. The images come in parts, PadChest_GR.zip.001 to .037: join and extract them first.
**Not seen:** names and columns come from the authors' description.
"""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

from ..errors import DataError, did_you_mean
from . import Record, columns
from .files import Tree

RELEASES = {"20240819": {"studies": 4_555}}
SPLITS = {"train": "train", "validation": "val", "valid": "val", "val": "val", "test": "test", "": ""}


@dataclasses.dataclass(frozen=True)
class Options:
    """What the configuration may say of PadChest-GR."""

    labels: Sequence[str] = ()  # words of the column label; none by default
    language: str = "en"  # or es


def records(root: Path, options: Options) -> list[Record]:
    """One record per entry of the reports.

    Raises:
        DataError: a file is missing or of another form, a split is unknown, a label does not occur, or there is no image.
    """
    columns.choice(root, "language", options.language, ("en", "es"))
    tree = Tree(root)
    file = tree.one(r"grounded_reports_\d+\.json", "grounded_reports_20240819.json")
    entries = columns.read_json(file)
    if not isinstance(entries, list) or not all(
        isinstance(entry, dict) and {"StudyID", "ImageID", "findings"} <= set(entry) for entry in entries
    ):
        raise DataError(file, "not the owner's reports", expected="a list of objects with StudyID, ImageID and findings")
    master = tree.one(r"master_table\.csv(\.gz)?", "master_table.csv")
    table = columns.read(master, ["StudyID", "PatientID", "ImageID", "label", "split"])
    unknown = set(table["split"].str.lower()) - set(SPLITS)
    if unknown:
        raise DataError(master, f"unknown split {sorted(unknown)[0]!r}", expected=list(SPLITS)[:4])
    for name in options.labels:
        if name not in set(table["label"]):
            raise DataError(f"{master}: options.labels", f"no label {name!r} occurs", fix=did_you_mean(name, set(table["label"])))
    rows = {image: part for image, part in table.groupby("ImageID")}
    files = tree.lookup(1, (".png", ".jpg"))
    if not len(files):
        raise tree.missing("PNG below it", "join the parts (cat PadChest_GR.zip.0* > PadChest_GR.zip) and leave the result below `root`")
    found = []
    for entry in entries:
        image = str(entry["ImageID"])
        if image not in rows:
            raise DataError(master, f"no row for {image!r} of {file.name}", fix="use files of one release")
        part = rows[image]
        try:
            texts = [finding[f"sentence_{options.language}"].strip().rstrip(".") + "." for finding in entry["findings"]]
        except (TypeError, KeyError, AttributeError):
            raise DataError(file, f"a finding of {image} without sentence_{options.language}", got=repr(entry["findings"])[:80]) from None
        found.append(Record(
            image_id=image.rsplit(".", 1)[0], parent=image.rsplit(".", 1)[0],
            patient_id=part["PatientID"].iat[0], study_id=str(entry["StudyID"]), view="FRONTAL",
            split=SPLITS[part["split"].iat[0].lower()], site="", sex="", age=math.nan, path=files.found_or_listed(image),
            labels={name: float(name in set(part["label"])) for name in options.labels}, masks=(), report=" ".join(texts),
        ))  # fmt: skip
    return found + files.unlisted()


def known_labels(root: Path) -> list[str]:
    """Every label of the master table; none without it."""
    tree = Tree(root)
    files = tree.matching(r"master_table\.csv(\.gz)?")
    return sorted(set(columns.read(files[0], ["label"])["label"]) - {""}) if files else []
