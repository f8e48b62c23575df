"""ChestX-Det (Lian et al. 2021, arXiv 2104.10326; github.com/Deepwise-AILab/ChestX-Det-Dataset): polygons of 13 findings.

Read: `ChestX_Det_train.json` and `ChestX_Det_test.json`, lists of {file_name, syms, boxes, polygons}, and the PNGs that they name. The
images are ChestX-ray14's at 1024 x 1024 under other names, without patient ids. What an image does not list is absent.
"""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

from ..errors import DataError
from . import Mask, Record, columns
from .files import File, Tree

LABELS = ("Atelectasis", "Calcification", "Cardiomegaly", "Consolidation", "Diffuse Nodule", "Effusion", "Emphysema", "Fibrosis",
          "Fracture", "Mass", "Nodule", "Pleural Thickening", "Pneumothorax")  # fmt: skip
RELEASES = {"1.0": {"images": 3_578}}
SIZE = (1024, 1024)


@dataclasses.dataclass(frozen=True)
class Options:
    """What the configuration may say of ChestX-Det."""

    labels: Sequence[str] = ()  # all thirteen; masks are made of the same


def records(root: Path, options: Options) -> list[Record]:
    """One record per entry, with a mask per finding, empty when it is absent.

    Raises:
        DataError: a list is missing or of another form, a finding is unknown, or there is no image.
    """
    tree = Tree(root)
    names = columns.chosen(options.labels, LABELS, "chestx_det")
    files = tree.lookup(1, (".png", ".jpg"))
    if not len(files):
        raise tree.missing("PNG below it", "download the images beside the lists")
    found = []
    for split in ("train", "test"):
        file = tree.one(rf"ChestX_Det_{split}\.json", f"ChestX_Det_{split}.json")
        entries = columns.read_json(file)
        if not isinstance(entries, list) or not all(isinstance(entry, dict) and "file_name" in entry for entry in entries):
            raise DataError(file, "not the owner's list", expected="a list of objects with file_name, syms, boxes, polygons")
        for entry in entries:
            outlines = _outlines(file, entry)
            image = str(entry["file_name"]).rsplit(".", 1)[0]
            found.append(Record(
                image_id=f"{split}/{image}", patient_id="", study_id=f"{split}/{image}", view="FRONTAL", split=split, site="", sex="",
                age=math.nan, path=files.found_or_listed(str(entry["file_name"])), labels={name: float(name in outlines) for name in names},
                masks=tuple(Mask(name.lower().replace(" ", "_"), polygons=outlines.get(name, ()), size=SIZE) for name in names), report="",
            ))  # fmt: skip
    return found + files.unlisted()


def _outlines(file: File, entry: dict) -> dict[str, tuple]:
    """{finding: polygons} of one entry."""
    found: dict[str, tuple] = {}
    where, syms, polygons = f"{file}: {entry['file_name']}", entry.get("syms", []), entry.get("polygons", [])
    try:
        for name, points in zip(syms, polygons, strict=True):
            if name not in LABELS:
                raise DataError(where, f"unknown finding {name!r}", expected=list(LABELS))
            found[name] = found.get(name, ()) + (tuple((float(x), float(y)) for x, y in points),)
    except (TypeError, ValueError):
        raise DataError(where, "syms and polygons do not go together", got=f"{str(syms)[:60]}, {str(polygons)[:60]}",
                        expected="a list of [x, y] per finding") from None  # fmt: skip
    return found
