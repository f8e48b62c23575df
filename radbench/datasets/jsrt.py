"""JSRT Digital Image Database (Shiraishi et al. 2000, doi:10.2214/ajr.174.1.1740071): 154 images with a lung nodule, 93 without.

Read: `JPCLN001.IMG` to `JPCLN154.IMG` (nodule) and `JPCNN001.IMG` to `JPCNN093.IMG` (none): no header, 2048 x 2048 big-endian 16-bit
words of which 12 bits are used, stored with 0 = white, which is turned round; or PNG conversions of the same names, whose polarity is
taken as it is. One image per patient.

Organs, when SCR lies below the root too (van Ginneken et al. 2006, doi:10.1016/j.media.2005.02.002; isi.uu.nl/Research/Databases/SCR, a
release of its own): `scratch/fold1/masks/{heart,left lung,right lung,left clavicle,right clavicle}/JPCLN001.gif`, 1024 x 1024, and fold2.
A mask is known by its folder. Left is the patient's: the owner's page has the right lung on the left of the image. What has no file was
not annotated.
"""

import dataclasses
import math
import re
from collections.abc import Sequence
from pathlib import Path

from . import Mask, Record, columns
from .files import File, Tree

LABELS = ("Nodule",)
RELEASES = {"1.0": {"images": 247, "patients": 247}}
NAME = re.compile(r"(JPC[LN]N\d{3})\.(img|png|gif)", re.IGNORECASE)
ORGANS = {"heart": "heart", "left lung": "lung_left", "right lung": "lung_right", "left clavicle": "clavicle_left",
          "right clavicle": "clavicle_right"}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Options:
    """What the configuration may say of the set."""

    labels: Sequence[str] = LABELS


def records(root: Path, options: Options) -> list[Record]:
    """One record per image, .IMG before .png. Raises DataError when there is none."""
    tree = Tree(root)
    names = columns.chosen(options.labels, LABELS, "jsrt")
    images: dict[str, File] = {}
    masks: dict[str, list[Mask]] = {}
    for key, file in tree.lookup(2, (".img", ".png", ".gif")).items():
        match = NAME.fullmatch(file.name)
        if match is None:
            continue
        image, folder = match[1].upper(), key.split("/")[0].replace("_", " ")
        if folder in ORGANS:  # before images: masks and pictures have the same names
            masks.setdefault(image, []).append(Mask(ORGANS[folder], file))
        elif match[2].lower() != "gif":
            images[image] = min(images.get(image, file), file, key=_rank)
    if not images:
        raise tree.missing("JPCLN001.IMG and the like below it", "unpack the database below `root`")
    return [Record(
        image_id=image, patient_id=image, study_id=image, view="PA", split="", site="", sex="", age=math.nan, path=file,
        labels={name: float(image.startswith("JPCLN")) for name in names}, masks=tuple(masks.get(image, ())), report="",
        inverted=file.suffix.lower() == ".img",
    ) for image, file in sorted(images.items())]  # fmt: skip


def _rank(file: File) -> tuple[bool, bool, str]:
    """The owner's words before a conversion, extracted before archived."""
    return file.suffix.lower() != ".img", not isinstance(file, Path), str(file)
