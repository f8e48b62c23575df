"""Data sets: each file reads one owner's layout and lists its images as `Record`s. Pixels are radbench.index's business.

A reader is a module with `Options` (frozen dataclass) and `records(root, options) -> list[Record]`; its name is the file's.
One that reads an owner's release also has `LABELS` (the owner's findings, in the owner's order) and `RELEASES`
({version: {"images": …, "patients": …, "studies": …}}): what a complete copy holds, to compare with, never to insist on.
`PROCESSING` says by file format what the owner did to the pictures, for the tables' notes.
"""

import dataclasses
import importlib
import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import did_you_mean

if TYPE_CHECKING:
    from .files import File

READERS = ("folder", "phantom", "mimic_cxr", "chexpert", "nih_cxr14", "padchest", "brax", "vindr_cxr", "rsna", "iu_xray",
           "mimic_segmentation", "vindr_ribcxr", "candid_ptx", "chestmnist", "chestx_det", "chexlocalize", "jsrt", "montgomery",
           "padchest_gr", "rexgradient", "shenzhen", "siim_acr")  # fmt: skip

#: published collections of images, as in `sources` of an index and `pretrained_on` of a card, and other names that people write for them
COLLECTIONS = {
    "mimic_cxr": ("mimic", "mimic_cxr_jpg", "mimic_cxr_2", "mimiccxr"), "chexpert": ("chexpert_plus", "chexpert_small"),
    "nih_cxr14": ("nih", "nih_cxr", "nihcxr", "cxr14", "cxr8", "chestx_ray14", "chestxray14", "chestx_ray8", "chestxray8", "nih_chest_xray",
                  "nih_chest_xray14", "nih_chest_xrays", "chest_xray14"),
    "padchest": ("bimcv_padchest",), "brax": (), "vindr_cxr": ("vindr", "vinbigdata", "vinbig", "vinbigdata_chest"),
    "vindr_ribcxr": ("vindr_rib", "ribcxr"),
    "rsna": ("rsna_pneumonia", "rsna_pneumonia_detection"), "iu_xray": ("iu", "openi", "open_i", "indiana", "iu_cxr"),
    "candid_ptx": ("candid",), "jsrt": (), "montgomery": (), "shenzhen": (), "rexgradient": ("rexgradient_160k",),
    "chestmnist": ("medmnist_chest",), "chestx_det": ("chestxdet",), "chexlocalize": (), "mimic_segmentation": (), "padchest_gr": (),
    "siim_acr": ("siim", "siim_acr_pneumothorax"),
    # of encoders only
    "imagenet_1k": ("imagenet", "imagenet1k", "in1k", "ilsvrc"), "imagenet_22k": ("imagenet22k", "imagenet_21k", "in22k", "in21k"),
    "wit_400m": (), "webli": (), "lvd_142m": (), "lvd_1689m": (), "pmc_15m": (), "google_private_us_india": (), "unknown": (),
}  # fmt: skip

#: collections whose images were taken from another one; VinDr-RibCXR's page says so of VinDr-CXR, the others' papers of theirs
PART_OF = {"rsna": "nih_cxr14", "siim_acr": "nih_cxr14", "chestmnist": "nih_cxr14", "chestx_det": "nih_cxr14", "chexlocalize": "chexpert",
           "padchest_gr": "padchest", "mimic_segmentation": "mimic_cxr", "vindr_ribcxr": "vindr_cxr"}  # fmt: skip

UNLISTED = "in no table of the owner"  # a reason to be left out
FRONTAL = ("PA", "AP", "AP_SUPINE", "FRONTAL")

Box = tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels from the left and the top, in the frame of `Mask.size`


@dataclasses.dataclass(frozen=True)
class Mask:
    """Where one structure of one image is.

    With `path`: where `bit` of the file's pixels is set, or (bit None) where they are not zero. Without: inside `polygons`
    (even-odd within one polygon, any of several) or in `runs`, (first pixel, length) counted down the columns; or in `box`.
    Either is cut to `box` and, with `sides`, to the connected parts nearer to the first of two boxes than to the second.
    Coordinates count in a picture of `size` (rows, columns), which may be another than the image's, of the same aspect.
    """

    structure: str
    path: "File | None" = None
    bit: int | None = None
    polygons: tuple[tuple[tuple[float, float], ...], ...] = ()
    runs: tuple[tuple[int, int], ...] | None = None
    box: Box | None = None
    sides: tuple[Box, Box] | None = None
    size: tuple[int, int] | None = None


@dataclasses.dataclass(frozen=True)
class Record:
    """One image before it was opened. `split` may be empty: radbench.index then splits by patient.

    An empty `patient_id` says that the owner releases none: the image then counts as a patient of its own.
    """

    image_id: str
    patient_id: str
    study_id: str
    view: str  # PA, AP, AP_SUPINE, FRONTAL (PA or AP, not told which), LATERAL, OTHER, UNKNOWN
    split: str
    site: str
    sex: str
    age: float  # years, NaN when not given
    path: "File"
    labels: dict[str, float]  # 1 present, 0 absent, -1 uncertain, NaN blank
    masks: tuple[Mask, ...]
    report: str
    inverted: bool = False  # stored with 0 = white by a file that does not say so
    parent: str = ""  # image id of the same picture in the data set that this one was taken from, where the owner says it
    left_out: str = ""  # why the configuration does not want it; listed in left_out.csv, never opened


def unlisted(name: str, path: "File") -> Record:
    """The record of an image that lies among the others and that no table names: left out, and listed as such."""
    return Record(image_id=name, patient_id="", study_id="", view="UNKNOWN", split="", site="", sex="", age=math.nan, path=path,
                  labels={}, masks=(), report="", left_out=UNLISTED)  # fmt: skip


def frontal_only(asked: bool, view: str) -> str:
    """The reason to leave out an image that is not known to be frontal, where only frontal ones are asked for; else empty."""
    return f"view {view}, and frontal_only" if asked and view not in FRONTAL else ""


def with_parents(collections: Iterable[str]) -> list[str]:
    """The collections and those that they are parts of: who has seen a part has seen some of the whole, and the other way round.

    >>> with_parents(["siim_acr", "brax"])
    ['siim_acr', 'nih_cxr14', 'brax']
    """
    return list(dict.fromkeys(one for name in collections for one in (name, PART_OF.get(name, name))))


def misnamed(collection: str, more: Iterable[str] = ()) -> str:
    """The right name of a collection that is written otherwise, as a question; "" for a known name, and for one that is like none.

    An overlap is found by equal names, so another spelling would leave a result without its mark.

    >>> misnamed("MIMIC-CXR v2.1.0"), misnamed("padchst"), misnamed("our_archive"), misnamed("brax")
    ("did you mean 'mimic_cxr'?", "did you mean 'padchest'?", '', '')
    """
    if collection in (known := {*COLLECTIONS, *more}):
        return ""
    plain = re.sub(r"(_v\d+)?(_\d+)*$", "", re.sub(r"\W+", "_", collection.lower()))
    other = next((name for name, others in COLLECTIONS.items() if plain == name or plain in others), None)
    return did_you_mean(other or plain, known, 0.85)


def module_name(name: str) -> str:
    """The module of a reader. "phantom" writes a tidy folder, which is read as one."""
    return f"{__name__}.{'folder' if name == 'phantom' else name}"


def reader(name: str) -> tuple[Callable[[Path, object], list[Record]], type]:
    """`records` and `Options` of a reader; only its own module is imported."""
    module = importlib.import_module(module_name(name))
    return module.records, module.Options


def known_labels(name: str, root: Path) -> list[str]:
    """What `labels: auto` stands for: the owner's findings, or those of a tidy folder whose columns are findings by name."""
    module = importlib.import_module(module_name(name))
    return module.known_labels(root) if hasattr(module, "known_labels") else list(module.LABELS)


def known_releases(name: str) -> dict[str, dict[str, int]]:
    """Counts of the known releases that a reader reads: {version: {"images" | "studies" | "patients": count}}."""
    return getattr(importlib.import_module(module_name(name)), "RELEASES", {})
