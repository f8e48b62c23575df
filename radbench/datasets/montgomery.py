"""Montgomery County X-ray set (Jaeger et al. 2014, doi:10.3978/j.issn.2223-4292.2014.11.20): 80 normal, 58 with tuberculosis, with lungs.

Read: `CXR_png/MCUCXR_NNNN_{0,1}.png`, whose last digit is the label; `ManualMask/leftMask/` and `rightMask/` under the same names;
`ClinicalReadings/*.txt`, when there ("Patient's Sex: F", "Patient's Age: 027Y"). The owner's left and right are taken for the patient's.
"""

import dataclasses
import math
import re
from collections.abc import Sequence
from pathlib import Path

from ..errors import DataError
from . import Mask, Record, columns
from .files import Tree

LABELS = ("Tuberculosis",)
RELEASES = {"1.0": {"images": 138, "patients": 138}}
NAME = re.compile(r"(MCUCXR_\d{4})_([01])", re.IGNORECASE)
SIDES = {"leftmask": "lung_left", "rightmask": "lung_right"}


@dataclasses.dataclass(frozen=True)
class Options:
    """What the configuration may say of the set."""

    labels: Sequence[str] = LABELS


def records(root: Path, options: Options) -> list[Record]:
    """One record per image. Raises DataError when there is none, or two with one number."""
    tree = Tree(root)
    names = columns.chosen(options.labels, LABELS, "montgomery")
    readings = tree.lookup(1, (".txt",))
    images, masks = {}, {}
    for key, file in tree.lookup(99, (".png",)).items():
        match = NAME.fullmatch(file.name.rsplit(".", 1)[0])
        if match is None:
            continue
        folder = key.split("/")[-2] if "/" in key else ""
        if folder in SIDES:
            masks.setdefault(match[1], []).append(Mask(SIDES[folder], file))
        elif match[1] in images:
            raise DataError(file, f"{match[1]} is there twice", got=str(images[match[1]][0]), fix="keep one of the two")
        else:
            images[match[1]] = (file, match)
    if not images:
        raise tree.missing("MCUCXR_NNNN_0.png or _1.png below it", "download CXR_png/")
    found = []
    for image, (file, match) in sorted(images.items()):
        reading = readings.find(f"{match[0]}.txt")
        text = columns.content(reading).decode("utf-8", errors="replace") if reading else ""
        sex, age = re.search(r"Sex:\s*(\w+)", text), re.search(r"Age:\s*(\w+)", text)
        found.append(Record(
            image_id=image, patient_id=image, study_id=image, view="FRONTAL", split="", site="", sex=columns.sex(sex[1]) if sex else "",
            age=columns.age(age[1]) if age else math.nan, path=file, labels={name: float(match[2]) for name in names},
            masks=tuple(masks.get(image, ())), report="",
        ))  # fmt: skip
    return found
