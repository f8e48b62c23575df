"""PadChest (Bustos et al. 2020, doi:10.1016/j.media.2020.101797; bimcv.cipf.es/bimcv-projects/padchest).

Read: `PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv` or .csv.gz, and the 16-bit PNGs by their names, in the owner's folders
0 to 54 or in `0.zip` to `54.zip`. Rows whose table says MONOCHROME1 are stored with 0 = white: they are inverted. Projections
COSTAL and EXCLUDE are passed over. Labels are named when present; a row without any list stays blank. No split is given.
"""

import dataclasses
import math
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ..errors import DataError, did_you_mean
from . import Record, columns, frontal_only
from .files import Broken, File, Tree

RELEASES = {"2019-02-01": {"images": 160_861}}  # of about 67,000 patients
TABLE = r"PADCHEST_chest_x_ray_images_labels_160K.*\.csv(\.gz)?"
VIEWS = {"PA": "PA", "AP": "AP", "AP_HORIZONTAL": "AP_SUPINE", "L": "LATERAL"}  # others: UNKNOWN
PASSED_OVER = ("COSTAL", "EXCLUDE")
NO_FINDINGS = ("exclude", "suboptimal study", "unchanged")  # what some labels say of the study rather than of the chest
# Missing, truncated or damaged in the owner's copy, as listed in public loaders (torchxrayvision, PC_Dataset).
BROKEN = frozenset(f"216840111366964{stem}.png" for stem in (
    "012819207061112010307142602253_04-014-084", "012989926673512011074122523403_00-163-058", "012959786098432011033083840143_00-176-115",
    "012558082906712009327122220177_00-102-064", "012339356563862009072111404053_00-043-192", "013076187734852011291090445391_00-196-188",
    "012373310883942009117084022290_00-064-025", "012283393834152009033102258826_00-059-087", "012373310883942009170084120009_00-097-074",
    "012819207061112010315104455352_04-024-184", "012819207061112010306085429121_04-020-102", "012989926673512011083134050913_00-168-009",
    "012373310883942009152114636712_00-102-045", "012819207061112010281134410801_00-129-131", "012487858717522009280135853083_00-075-001",
    "012989926673512011151082430686_00-157-045", "013686042548532013208193054515_02-026-007", "013590140476722013058110301622_02-056-111",
    "013590140476722013043111952381_02-065-198", "013829543166512013353113303615_02-092-190", "013962490064942014134093945580_01-178-104",
))  # fmt: skip
ITEM = re.compile(r"'([^']*)'|\"([^\"]*)\"")
LIST = re.compile(rf"\[\s*(?:(?:{ITEM.pattern}|nan)(?:\s*,\s*(?:{ITEM.pattern}|nan))*)?\s*,?\s*\]")


@dataclasses.dataclass(frozen=True)
class Options:
    """What the configuration may say of PadChest."""

    labels: Sequence[str] = ()  # words of the column Labels, such as "pleural effusion"; none by default
    frontal_only: bool = False
    pediatric: bool = True  # False: without children
    invert: bool = True  # rows of MONOCHROME1; public loaders differ (torchxrayvision inverts none), and no copy could be seen


def records(root: Path, options: Options) -> list[Record]:
    """One record per row of the table.

    Raises:
        DataError: no table, no image, a column is missing, a label list is malformed, or a label asked for does not occur.
    """
    tree = Tree(root)
    file, table, present = _table(tree)
    words = {word for row in present if row is not None for word in row}
    for name in options.labels:
        if name not in words:
            fix = did_you_mean(name, words) or f"such as {sorted(words)[:8]}"
            raise DataError(f"{file}: options.labels", f"no label {name!r} occurs", fix=fix)
    files = tree.lookup(1, (".png",))
    if not len(files):
        raise tree.missing("PNG below it", "download the folders 0 to 54 or their zip files")
    ages = _ages(table)
    views = table["Projection"].str.upper()
    blank = dict.fromkeys(options.labels, math.nan)
    found = []
    for row, entry in enumerate(table.to_dict("records")):
        view = VIEWS.get(views.iat[row], "UNKNOWN")
        left_out = frontal_only(options.frontal_only, view)
        if views.iat[row] in PASSED_OVER:
            left_out = f"Projection {views.iat[row]}"
        elif not options.pediatric and entry.get("Pediatric", "").upper() == "PED":
            left_out = "a child, and pediatric is false"
        path = files.found_or_listed(f"{entry['ImageDir']}/{entry['ImageID']}")
        if entry["ImageID"] in BROKEN:
            path = Broken(root / entry["ImageDir"] / entry["ImageID"], "on the list of files known to be missing or damaged")
        words = present[row]
        found.append(Record(
            image_id=entry["ImageID"].removesuffix(".png"), patient_id=entry["PatientID"], study_id=entry["StudyID"], view=view, split="",
            site="", sex=columns.sex(entry.get("PatientSex_DICOM", "")), age=ages[row], path=path,
            labels=blank if words is None else {name: float(name in words) for name in options.labels}, masks=(),
            report=entry.get("Report", ""), inverted=options.invert and entry["PhotometricInterpretation_DICOM"].upper() == "MONOCHROME1",
            left_out=left_out,
        ))  # fmt: skip
    return found + files.unlisted()


def known_labels(root: Path) -> list[str]:
    """Every word that occurs in the column Labels, those of NO_FINDINGS apart; none without the table."""
    tree = Tree(root)
    present = _table(tree)[2] if tree.matching(TABLE) else []
    return sorted({word for row in present if row is not None for word in row} - set(NO_FINDINGS))


def _table(tree: Tree) -> tuple[File, pd.DataFrame, list[frozenset[str] | None]]:
    file = tree.one(TABLE, "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv", "download it beside the images")
    needed = ["ImageID", "ImageDir", "StudyID", "PatientID", "Projection", "PhotometricInterpretation_DICOM", "Labels"]
    table = columns.read(file, needed)
    if (table["ImageID"] == "").any() or table["ImageID"].duplicated().any():
        raise DataError(file, "an ImageID is empty or listed twice", fix="download the table again")
    return file, table, [listed_words(file, text) for text in table["Labels"]]


def listed_words(file: File, text: str) -> frozenset[str] | None:
    """The words of a list as Python prints it, stripped; None for a blank. Nothing of the text is executed.

    >>> sorted(listed_words("table.csv", "['pleural effusion', ' NSG tube ']"))
    ['NSG tube', 'pleural effusion']
    """
    if text in ("", "nan"):
        return None
    if not LIST.fullmatch(text):
        raise DataError(file, f"not a list of labels: {text[:80]!r}", expected="like ['normal', 'unchanged']")
    return frozenset(word for pair in ITEM.findall(text) if (word := "".join(pair).strip()))


def _ages(table: pd.DataFrame) -> list[float]:
    """Years between the year of birth and the study's date (yyyymmdd)."""
    born = pd.to_numeric(columns.named(table, "PatientBirth"), errors="coerce")
    taken = pd.to_numeric(columns.named(table, "StudyDate_DICOM").str[:4], errors="coerce")
    years = taken - born
    return years.where((years >= 0) & (years <= columns.MAX_AGE)).astype(float).tolist()
