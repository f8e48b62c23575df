"""VinDr-RibCXR (Nguyen et al. 2021, arXiv 2107.01327; vindr.ai/datasets/ribcxr): 245 images with the outlines of 20 ribs.

Read: `Vindr_RibCXR_train_mask.json` and `Vindr_RibCXR_val_mask.json`, in any folder and any case, and the PNGs that they name. The
JSON is column-oriented: {"img": {"0": path}, "R1": {"0": [{"x": …, "y": …}, …]}, … "L10"}; a rib that was not outlined is null or
the text "None". Ribs overlap. The owner's val is the benchmark's test set. No patient ids are released.
"""

import dataclasses
import math
from pathlib import Path

from ..errors import DataError
from . import Mask, Record, columns
from .files import File, Tree
from .masks import picture_size

LABELS = ()
RELEASES = {"1.0": {"images": 245}}
RIBS = {f"{letter}{number}": f"rib_{side}_{number:02d}" for letter, side in (("R", "right"), ("L", "left")) for number in range(1, 11)}
SPLITS = {"train": "train", "val": "test"}


@dataclasses.dataclass(frozen=True)
class Options:
    """Nothing to say of VinDr-RibCXR."""


def records(root: Path, options: Options) -> list[Record]:
    """One record per image of the two JSON files, with one mask per rib that was outlined.

    Raises:
        DataError: a file is missing or of another form, or there is no image.
    """
    tree = Tree(root)
    files = tree.lookup(1, (".png", ".jpg", ".jpeg"))
    if not len(files):
        raise tree.missing("PNG below it", "unpack the data set below `root`")
    found = []
    for owners, split in SPLITS.items():
        file = tree.one(rf"vindr_ribcxr_{owners}_mask\.json", f"Vindr_RibCXR_{owners}_mask.json", "unpack the data set below `root`")
        table = columns.read_json(file)
        if not isinstance(table, dict) or not {"img", *RIBS} <= set(table) or not all(isinstance(part, dict) for part in table.values()):
            raise DataError(file, "not the owner's annotations", got=sorted(table)[:5] if isinstance(table, dict) else type(table).__name__,
                            expected="columns img, R1 to R10 and L1 to L10")  # fmt: skip
        for row, listed in table["img"].items():
            path = files.found_or_listed(str(listed))
            size = picture_size(path)
            outlines = {structure: _outline(file, f"{name} of {listed}", table[name].get(row)) for name, structure in RIBS.items()}
            found.append(Record(
                image_id=Path(str(listed)).stem, patient_id="", study_id=Path(str(listed)).stem, view="FRONTAL", split=split, site="",
                sex="", age=math.nan, path=path, labels={}, report="",
                masks=tuple(Mask(structure, polygons=(outline,), size=size) for structure, outline in outlines.items() if outline and size),
            ))  # fmt: skip
    return found + files.unlisted()


def _outline(file: File, where: str, points: object) -> tuple[tuple[float, float], ...]:
    """The corners of a polygon in pixels; none when the rib was not outlined."""
    if points in (None, "None", "null", "", []):
        return ()
    try:
        outline = tuple((float(point["x"]), float(point["y"])) for point in points)
    except (TypeError, KeyError, ValueError):
        raise DataError(file, f"outline of {where}", got=repr(points)[:80], expected='a list of {"x": …, "y": …}, null or "None"') from None
    if not all(math.isfinite(number) for point in outline for number in point):
        raise DataError(file, f"outline of {where}: a corner is not a number")
    return outline
