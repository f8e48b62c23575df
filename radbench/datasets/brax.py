"""BRAX 1.0.0/1.1.0 (Reis et al. 2022, doi:10.1038/s41597-022-01608-8; doi:10.13026/grwk-yh18).

Read: `master_spreadsheet_update.csv` (1.1.0), else `master_spreadsheet.csv`; images from `images/…/*.png` or from
`Anonymized_DICOMs/…`, whose files often have no suffix. Labels come from Portuguese reports by rule; no reports and no split are
released. A blank ViewPosition stays UNKNOWN: it is not taken for a frontal image.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from ..errors import DataError
from . import Record, columns, frontal_only
from .files import Tree

LABELS = ("No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Lesion", "Lung Opacity", "Edema", "Consolidation",
          "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture", "Support Devices")  # fmt: skip
RELEASES = {"1.0.0": {"images": 40_967, "patients": 19_351, "studies": 24_959},
            "1.1.0": {"images": 40_967, "patients": 19_351, "studies": 24_959}}  # fmt: skip
VIEWS = {"PA": "PA", "AP": "AP", "LL": "LATERAL", "RL": "LATERAL", "": "UNKNOWN"}  # others (oblique, decubitus): OTHER
COLUMN_OF = {"png": "PngPath", "dicom": "DicomPath"}
SUFFIXES = {"png": (".png",), "dicom": (".dcm", ".dicom", "")}


@dataclasses.dataclass(frozen=True)
class Options:
    """What the configuration may say of BRAX."""

    labels: Sequence[str] = ()  # all fourteen
    source: str = "auto"  # png or dicom; auto: PNG when there is one
    frontal_only: bool = False  # AP and PA


def records(root: Path, options: Options) -> list[Record]:
    """One record per row of the spreadsheet.

    Raises:
        DataError: no spreadsheet, no image, a column is missing, or a label is not 1, 0, -1 or blank.
    """
    columns.choice(root, "source", options.source, ("auto", *COLUMN_OF))
    tree = Tree(root)
    pattern = r"master_spreadsheet_update\.csv(\.gz)?"
    pattern = pattern if tree.matching(pattern) else r"master_spreadsheet\.csv(\.gz)?"
    file = tree.one(pattern, "master_spreadsheet_update.csv", "download it from PhysioNet beside `images/`")
    table = columns.read(file, ["PngPath", "PatientID", "AccessionNumber", "ViewPosition"])
    source = options.source
    if source == "auto":
        source = "png" if len(tree.lookup(1, (".png",))) else "dicom"
    if COLUMN_OF[source] not in table.columns:
        raise DataError(file, f"no column {COLUMN_OF[source]!r}", got=list(table.columns), fix="set options.source")
    listed = table[COLUMN_OF[source]]
    if (listed == "").any() or listed.duplicated().any():
        raise DataError(file, f"a {COLUMN_OF[source]} is empty or listed twice", fix="download the spreadsheet again")
    names = listed.str.rsplit("/", n=1).str[-1]
    repeated = names.duplicated().any()
    files = tree.lookup(4 if repeated else 1, SUFFIXES[source])
    located = [files.find(path) for path in listed]
    if not any(located):
        raise tree.missing(f"{source} image of {file.name} below it", "download `images/`, or set options.source")
    labels = columns.labels(file, table, columns.chosen(options.labels, LABELS, "brax"))
    found = []
    for row, entry in enumerate(table.to_dict("records")):
        view = VIEWS.get(entry["ViewPosition"].upper(), "OTHER")
        identifier = entry["PngPath"].removesuffix(".png")
        found.append(Record(
            image_id=identifier if repeated else identifier.rsplit("/", 1)[-1], patient_id=entry["PatientID"].removeprefix("id_"),
            study_id=entry["AccessionNumber"], view=view, split="", site="", sex=columns.sex(entry.get("PatientSex", "")),
            age=columns.age(entry.get("PatientAge", "")), path=located[row] or root / listed.iat[row], labels=labels[row], masks=(),
            report="", left_out=frontal_only(options.frontal_only, view),
        ))  # fmt: skip
    return found + (files.unlisted() if source == "png" else [])  # DICOM files may have any name
