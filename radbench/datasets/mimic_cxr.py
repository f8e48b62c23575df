"""MIMIC-CXR 2.0.0/2.1.0, as DICOM with reports (doi:10.13026/C2JT1Q) or as MIMIC-CXR-JPG (doi:10.13026/jsn5-t979).

Read: `mimic-cxr-*-metadata`, `-split` and `-chexpert` or `-negbio` (.csv or .csv.gz, at any place below the root), else
`cxr-record-list`, which has no splits (the views are then those of the DICOM headers); images
`files/p10/p10000032/s50414267/<dicom_id>.jpg` or `.dcm`, or flat; reports from `mimic_cxr_sectioned.csv`, else `s*.txt`, extracted
or in `mimic-cxr-reports.zip`, cut by the official rules.

The JPGs are histogram-equalised by the owner and the DICOMs are not: results on one do not compare with the other, which is
why `source` is an option and `source_format` a column of the index.
"""

import dataclasses
import math
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ..errors import DataError
from . import Record, columns, frontal_only, headers, mimic_sections
from .files import Tree

LABELS = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Enlarged Cardiomediastinum", "Fracture", "Lung Lesion",
          "Lung Opacity", "No Finding", "Pleural Effusion", "Pleural Other", "Pneumonia", "Pneumothorax", "Support Devices")  # fmt: skip
PROCESSING = {"JPEG": "histogram-equalised by the owner: not to be compared with results on the DICOM files"}
RELEASES = {"2.0.0": {"images": 377_110, "patients": 65_379, "studies": 227_835},
            "2.1.0": {"images": 377_110, "patients": 65_379, "studies": 227_835}}  # fmt: skip
VIEWS = {"PA": "PA", "AP": "AP", "LATERAL": "LATERAL", "LL": "LATERAL", "XTABLE LATERAL": "LATERAL", "": "UNKNOWN"}  # others: OTHER
#: what shows that somebody has put reports there: an archive or folder of that name, or files named like them
TRACE = re.compile(r"(report[^/]*/.*\.(txt|zip|tar|tgz)|report[^/]*\.(zip|tar|tgz|tar\.gz)|(^|/)s\d{8}\.[^/]*)$", re.IGNORECASE)
FIX_REPORTS = "download mimic-cxr-reports.zip and leave it as it is, or set options.section: none"
SPLITS = {"train": "train", "validate": "val", "test": "test", "": ""}
SUFFIXES = {"jpg": (".jpg", ".jpeg"), "png": (".png",), "dicom": (".dcm", ".dicom")}
TABLE_OF = {"chexpert": r"mimic-cxr-[\d.]+-chexpert\.csv(\.gz)?", "negbio": r"mimic-cxr-[\d.]+-negbio\.csv(\.gz)?",
            "radiologist": r"mimic-cxr-[\d.]+-test-set-labeled\.csv(\.gz)?"}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Options:
    """What the configuration may say of MIMIC-CXR."""

    labels: Sequence[str] = ()  # all fourteen, when their table is there
    labeler: str = "chexpert"  # or negbio; or radiologist: 2.1.0's read of part of the test set, others stay blank
    source: str = "auto"  # jpg, png (a conversion of your own) or dicom; auto: that of which most of the images are there
    section: str = "findings"  # the text of `report`: findings, impression, last_paragraph, comparison, or none
    frontal_only: bool = False  # AP and PA


def records(root: Path, options: Options) -> list[Record]:
    """One record per row of the metadata table.

    Raises:
        DataError: no table, none with the asked labels, a column is missing, a value is unknown, there is no image, or reports are
            there and none belongs to the images.
    """
    columns.choice(root, "labeler", options.labeler, tuple(TABLE_OF))
    columns.choice(root, "section", options.section, (*mimic_sections.WRITTEN, "none"))
    tree = Tree(root)
    table = _images(tree)
    source = _source(tree, options.source, table["dicom_id"])
    files = tree.lookup(1, SUFFIXES[source])
    labels = _labels(tree, options)
    has_views = "ViewPosition" in table.columns
    studies = list(dict.fromkeys(table["study_id"]))
    reports = _reports(tree, studies, options.section)
    blank = dict.fromkeys(columns.chosen(options.labels, LABELS, "mimic_cxr"), math.nan) if labels is not None else {}
    found = []
    for row in table.to_dict("records"):
        image, subject, study = row["dicom_id"], row["subject_id"], row["study_id"]
        path = files.found_or_listed(f"files/p{subject[:2]}/p{subject}/s{study}/{image}{SUFFIXES[source][0]}")
        # one that is missing or damaged, and says nothing of its view, goes on, and is quarantined
        view = VIEWS.get(row["ViewPosition"].upper(), "OTHER") if has_views else headers.read(path, unread="")[0]
        found.append(Record(
            image_id=image, patient_id=subject, study_id=study, view=view or "UNKNOWN", split=row["split"], site="", sex="",
            age=math.nan, path=path,
            labels=(labels or {}).get(study, blank), masks=(), report=reports.get(study, ""),
            left_out=frontal_only(options.frontal_only and bool(view), view),
        ))  # fmt: skip
    return found + files.unlisted()


def _images(tree: Tree) -> pd.DataFrame:
    """dicom_id, subject_id, study_id, split and, from the metadata table, ViewPosition of every image."""
    metadata = tree.matching(r"mimic-cxr-[\d.]+-metadata\.csv(\.gz)?")
    keys = ["dicom_id", "subject_id", "study_id"]
    if metadata:
        file = tree.one(r"mimic-cxr-[\d.]+-metadata\.csv(\.gz)?", "mimic-cxr-*-metadata.csv")
        table = columns.read(file, [*keys, "ViewPosition"])
    else:
        file = tree.one(r"cxr-record-list\.csv(\.gz)?", "mimic-cxr-2.0.0-metadata.csv.gz or cxr-record-list.csv.gz",
                        "download the tables that lie beside `files/` on PhysioNet")  # fmt: skip
        table = columns.read(file, keys)
    if table["dicom_id"].duplicated().any():
        raise DataError(file, f"dicom_id {table['dicom_id'][table['dicom_id'].duplicated()].iat[0]!r} is listed twice")
    for key, pattern in (("dicom_id", r"[0-9a-f]{8}(-[0-9a-f]{8}){4}"), ("subject_id", r"\d{8}"), ("study_id", r"\d{8}")):
        bad = ~table[key].str.fullmatch(pattern)
        if bad.any():
            row = int(bad.to_numpy().argmax())
            raise DataError(file, f"{key} {table[key].iat[row]!r} in line {row + 2}", expected=f"like {pattern}")
    table["split"] = ""
    if tree.matching(r"mimic-cxr-[\d.]+-split\.csv(\.gz)?"):
        file = tree.one(r"mimic-cxr-[\d.]+-split\.csv(\.gz)?", "mimic-cxr-*-split.csv")
        given = columns.read(file, ["dicom_id", "split"])
        if not given["split"].isin(SPLITS).all():
            raise DataError(file, "unknown split", got=sorted(set(given["split"]) - set(SPLITS)), expected=list(SPLITS)[:3])
        table["split"] = table["dicom_id"].map(dict(zip(given["dicom_id"], given["split"].map(SPLITS), strict=True))).fillna("")
        if (table["split"] == "").any():
            raise DataError(
                file, f"no split for {int((table['split'] == '').sum())} images of the metadata", fix="use tables of one release"
            )
    return table


def _source(tree: Tree, asked: str, listed: pd.Series) -> str:
    columns.choice(tree.root, "source", asked, ("auto", *SUFFIXES))
    held = {source: tree.lookup(1, SUFFIXES[source]).held(listed) for source in (SUFFIXES if asked == "auto" else (asked,))}
    if any(held.values()):
        return max(held, key=held.get)
    raise tree.missing(f"{'/'.join(SUFFIXES) if asked == 'auto' else asked} image below it", "download `files/`, or set options.source")


def _labels(tree: Tree, options: Options) -> dict[str, dict[str, float]] | None:
    """{study: {label: value}}; None when no labels are asked for and there is no table of them."""
    pattern = TABLE_OF[options.labeler]
    if not options.labels and not tree.matching(pattern):
        return None
    file = tree.one(pattern, f"table of {options.labeler} labels (mimic-cxr-2.0.0-chexpert.csv.gz and the like)")
    table = columns.read(file, ["study_id"]).rename(columns={"Airspace Opacity": "Lung Opacity"})
    names = columns.chosen(options.labels, LABELS, "mimic_cxr")
    return dict(zip(table["study_id"], columns.labels(file, table, names), strict=True))


def _reports(tree: Tree, studies: list[str], section: str) -> dict[str, str]:
    """{study: text} of one section; studies without a report, or without that section, are not in it.

    Raises:
        DataError: reports are there, and none of them is of these studies.
    """
    if section == "none":
        return {}
    if tree.matching(r"mimic_cxr_sectioned\.csv(\.gz)?"):
        file = tree.one(r"mimic_cxr_sectioned\.csv(\.gz)?", "mimic_cxr_sectioned.csv")
        table = columns.read(file, ["study", section])
        found = {study.removeprefix("s"): " ".join(text.split()) for study, text in zip(table["study"], table[section], strict=True)}
        if not found.keys() & set(studies):
            raise DataError(file, "no study of the images", got=sorted(found)[:3], expected=f"like {studies[0]}", fix=FIX_REPORTS)
        return found
    files, found = tree.lookup(1, (".txt",)), {}
    for study in studies:
        file = files.find(f"s{study}.txt")
        if file is not None:
            text = columns.content(file).decode("utf-8", errors="replace").replace("\r\n", "\n")
            found[study] = " ".join(mimic_sections.sections(f"s{study}", text).get(section, "").split())
    traces = [] if found else [path for path in tree.everything() if TRACE.search(path)]
    if traces:
        raise DataError(tree.root, f"reports are there, and none of a study of the images ({len(traces)} files)", got=traces[:3],
                        expected=f"s{studies[0]}.txt and the like", fix=FIX_REPORTS)  # fmt: skip
    return found
