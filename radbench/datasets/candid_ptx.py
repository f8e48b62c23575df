"""CANDID-PTX (Feng et al. 2021, doi:10.1148/ryai.2021210136; doi:10.17608/k6.auckland.14173982): 19,237 images from Dunedin.

Read: `Pneumothorax_reports.csv` (filename, SOPInstanceUID, EncodedPixels, report; a row per outline) and, when there,
`chest_tube.csv` and `acute_rib_fracture.csv`, for their labels; a code of -1 says "none", a blank one nothing. Images are DICOM of
1024 x 1024 named by their SOPInstanceUID, with or without suffix. The patient is the part of `filename` before its first `_`. Outlines
are taken for SIIM-ACR's relative run-length code. **Not seen:** the layout comes from the authors' description and public code; columns
are looked up without regard to case.
"""

import dataclasses
import math
import re
from collections.abc import Sequence
from pathlib import Path

from ..errors import DataError
from . import Mask, Record, columns, headers, runs
from .files import Tree

LABELS = ("Pneumothorax", "Chest tube", "Acute rib fracture")
RELEASES = {"1.0": {"images": 19_237}}
EXTRA = {"Chest tube": r"chest_tube\.csv(\.gz)?", "Acute rib fracture": r"acute_rib_fracture\.csv(\.gz)?"}
SIDE = 1024
IMAGE = re.compile(r"\.(dcm|dicom|png|jpg)$|^[\d.]+$", re.IGNORECASE)  # without suffix: a UID


@dataclasses.dataclass(frozen=True)
class Options:
    """What the configuration may say of CANDID-PTX."""

    labels: Sequence[str] = ("Pneumothorax",)


def records(root: Path, options: Options) -> list[Record]:
    """One record per image of the table, with its report and one mask `pneumothorax`, empty when there is none.

    Raises:
        DataError: no table, no image, a column is missing, or a code is malformed.
    """
    tree = Tree(root)
    names = columns.chosen(options.labels, LABELS, "candid_ptx")
    file = tree.one(r"Pneumothorax_reports\.csv(\.gz)?", "Pneumothorax_reports.csv", "unpack the release below `root`")
    table = columns.read(file)
    texts = {name: columns.named(table, name) for name in ("filename", "SOPInstanceUID", "EncodedPixels", "report")}
    for name, values in texts.items():
        if not values.any():
            raise DataError(file, f"no column {name!r}, or an empty one", got=list(table.columns))
    files = tree.lookup(1, (".dcm", ".dicom", ".png", ".jpg", ""))
    extra = {name: _images(tree, name) for name in names if name in EXTRA}
    outlines: dict[str, tuple] = {}  # of the images that were read: an empty one where there is no pneumothorax
    first: dict[str, tuple[str, str]] = {}
    for name, image, code, report in zip(*texts.values(), strict=True):
        if code.strip():
            outlines[image] = outlines.get(image, ()) + runs.relative(f"{file}: {image}", code, SIDE**2)
        first.setdefault(image, (name, report))
    found = []
    for image, (name, report) in first.items():
        path = files.found_or_listed(f"dataset/{image}")
        view, sex, age = headers.read(path, otherwise="FRONTAL")
        read = {"Pneumothorax": float(bool(outlines[image])) if image in outlines else math.nan}
        read |= {label: images.get(image, 0.0) for label, images in extra.items()}
        found.append(Record(
            image_id=image, patient_id=name.split("_")[0], study_id=image, view=view, split="", site="", sex=sex, age=age, path=path,
            labels={label: read[label] for label in names}, report=" ".join(report.split()),
            masks=(Mask("pneumothorax", runs=outlines[image], size=(SIDE, SIDE)),) if image in outlines else (),
        ))  # fmt: skip
    return found + [record for record in files.unlisted() if IMAGE.search(record.path.name)]


def _images(tree: Tree, label: str) -> dict[str, float]:
    """1 for the images that a table of outlines draws, or names where it has no codes; blank for those whose codes are blank."""
    file = tree.one(EXTRA[label], f"{label.lower().replace(' ', '_')}.csv", f"needed for the label {label}")
    table = columns.read(file)
    name = next((column for column in table.columns if column.lower() in ("anon_sopuid", "sopinstanceuid")), None)
    if name is None:
        raise DataError(file, "no column 'anon_SOPUID'", got=list(table.columns))
    code = columns.named(table, "mask_rle", "EncodedPixels")
    none, blank = code.str.strip() == "-1", (code.str.strip() == "") & code.ne("").any()
    return dict.fromkeys(table[name][blank], math.nan) | dict.fromkeys(table[name][~none & ~blank], 1.0)
