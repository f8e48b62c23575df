"""Shenzhen Hospital X-ray set (Jaeger et al. 2014, doi:10.3978/j.issn.2223-4292.2014.11.20): 326 normal, 336 with tuberculosis.

Read: `CXR_png/CHNCXR_NNNN_{0,1}.png`, whose last digit is the label, and `ClinicalReadings/CHNCXR_NNNN_{0,1}.txt`, when there, for sex
and age ("male 45yrs") and the reading. One image per patient. No split is given.
"""

import dataclasses
import math
import re
from collections.abc import Sequence
from pathlib import Path

from ..errors import DataError
from . import Record, columns
from .files import Tree

LABELS = ("Tuberculosis",)
RELEASES = {"1.0": {"images": 662, "patients": 662}}
NAME = re.compile(r"(CHNCXR_\d{4})_([01])", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Options:
    """What the configuration may say of the set."""

    labels: Sequence[str] = LABELS


def records(root: Path, options: Options) -> list[Record]:
    """One record per image. Raises DataError when there is none, or two with one number."""
    tree = Tree(root)
    names = columns.chosen(options.labels, LABELS, "shenzhen")
    readings = tree.lookup(1, (".txt",))
    found: dict[str, Record] = {}
    for _, file in tree.lookup(99, (".png",)).items():
        match = NAME.fullmatch(file.name.rsplit(".", 1)[0])
        if match is None:
            continue
        if match[1] in found:
            raise DataError(file, f"{match[1]} is there twice", got=str(found[match[1]].path), fix="keep one of the two")
        reading = readings.find(f"{match[0]}.txt")
        text = columns.content(reading).decode("utf-8", errors="replace") if reading else ""
        sex = re.search(r"\b(fe)?male\b", text, re.IGNORECASE)
        years = re.search(r"(\d+)\s*(yrs?|years?|days?|months?|y|m|d)", text, re.IGNORECASE)
        found[match[1]] = Record(
            image_id=match[1], patient_id=match[1], study_id=match[1], view="FRONTAL", split="", site="",
            sex=columns.sex(sex[0]) if sex else "", age=columns.age(years[1] + years[2][0]) if years else math.nan, path=file,
            labels={name: float(match[2]) for name in names}, masks=(), report=" ".join(text.split("\n", 1)[-1].split()),
        )  # fmt: skip
    if not found:
        raise tree.missing("CHNCXR_NNNN_0.png or _1.png below it", "download CXR_png/")
    return list(found.values())
