"""JSRT Digital Image Database (Shiraishi et al. 2000, doi:10.2214/ajr.174.1.1740071): 154 images with a lung nodule, 93 without.

Read: `JPCLN001.IMG` to `JPCLN154.IMG` (nodule) and `JPCNN001.IMG` to `JPCNN093.IMG` (none): no header, 2048 x 2048 big-endian 16-bit
words of which 12 bits are used, stored with 0 = white, which is turned round; or PNG conversions of the same names, whose polarity is
taken as it is. One image per patient. The organ masks of SCR are a release of their own and are not read.
"""

import dataclasses
import math
import re
from collections.abc import Sequence
from pathlib import Path

from . import Record, columns
from .files import Tree

LABELS = ("Nodule",)
RELEASES = {"1.0": {"images": 247, "patients": 247}}
NAME = re.compile(r"(JPC[LN]N\d{3})\.(img|png)", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Options:
    """What the configuration may say of the set."""

    labels: Sequence[str] = LABELS


def records(root: Path, options: Options) -> list[Record]:
    """One record per image, .IMG before .png. Raises DataError when there is none."""
    tree = Tree(root)
    names = columns.chosen(options.labels, LABELS, "jsrt")
    found = {}
    for _, file in tree.lookup(1, (".img", ".png")).items():
        match = NAME.fullmatch(file.name)
        if match is not None:
            image = match[1].upper()
            found[image] = Record(
                image_id=image, patient_id=image, study_id=image, view="PA", split="", site="", sex="", age=math.nan, path=file,
                labels={name: float(image.startswith("JPCLN")) for name in names}, masks=(), report="", inverted=match[2].lower() == "img",
            )  # fmt: skip
    if not found:
        raise tree.missing("JPCLN001.IMG and the like below it", "unpack the database below `root`")
    return [found[image] for image in sorted(found)]
