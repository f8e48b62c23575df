"""Lungs and lung zones on MIMIC-CXR: lung masks (doi:10.13026/d9zv-4d92) cut by the boxes of Chest ImaGenome (doi:10.13026/wv01-y230).

Below `root`: the lung masks, and Chest ImaGenome's scene graphs (`<dicom_id>_SceneGraph.json`, extracted or in scene_graph.zip)
or `gold_bbox_coordinate_annotations_1000images.csv`. The images are MIMIC-CXR's: below `root` in the owner's folders
(`p10000032/s50414267/<dicom_id>.jpg`), or in the folder `images` of the options. Files belong together by dicom_id.

A lung mask covers both lungs; its connected parts go to the side whose lung box holds more of them (the patient's left lies on the
image's right). A zone is its box within the lung of that side; boxes touch and overlap, so zones may too. Boxes count in the
pixels of the DICOM: `Rows` and `Columns` of MIMIC-CXR's metadata, else the image's own. A zone without a box stays unannotated.
"""

import dataclasses
import math
import os
import re
from pathlib import Path

from ..errors import DataError
from . import Box, Mask, Record, columns
from .files import File, Tree
from .masks import picture_size

LABELS = ()
PROCESSING = {"JPEG": "histogram-equalised by the owner: not to be compared with results on the DICOM files"}
RELEASES = {"1.0.0": {"images": 1_141}}
DICOM_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{8}){4}", re.IGNORECASE)
IN_MIMIC = re.compile(r"p(\d{8})/s(\d{8})/[^/]+\.(jpe?g|png|dcm|dicom)$", re.IGNORECASE)
ZONES = {f"zone_{side}_{zone}": f"{side} {zone} lung zone" for side in ("left", "right") for zone in ("upper", "mid", "lower")}
REMAINDER = re.compile("remain|rest|non|outside|background|without|inverse", re.IGNORECASE)
METADATA = r"mimic-cxr-[\d.]+-metadata\.csv(\.gz)?"
SCENE = "_scenegraph.json"


@dataclasses.dataclass(frozen=True)
class Options:
    """What the configuration may say of this task."""

    images: str = "../mimic_cxr"  # folder of MIMIC-CXR or MIMIC-CXR-JPG, relative to `root`, for images that are not below it
    lung_masks: str = ""  # regular expression that a lung mask's path below `root` contains; by default its name says lung or mask


def elsewhere(root: Path, options: Options) -> list[Path]:
    """Folders beside `root` whose files are read."""
    return [root / options.images]


def records(root: Path, options: Options) -> list[Record]:
    """One record per lung mask.

    Raises:
        DataError: no lung mask, no boxes or no image is found, an image has several files that may be its lung mask, or a scene
            graph is not one.
    """
    tree = Tree(root)
    lungs = _lung_masks(tree, options.lung_masks)
    boxes = _boxes(tree, set(lungs))
    images, facts, sizes = _images(tree, options.images, set(lungs))
    if not images:
        raise tree.missing("MIMIC-CXR image of any lung mask", "put MIMIC-CXR-JPG below `root`, or set options.images to its folder")
    found = []
    for image in sorted(lungs):
        path, (patient, study, view) = images.get(image) or root / f"{image}.jpg", facts.get(image, ("", image, "FRONTAL"))
        size = sizes.get(image) or picture_size(path)
        found.append(Record(
            image_id=image, parent=image, patient_id=patient, study_id=study, view=view, split="", site="", sex="", age=math.nan, path=path,
            labels={}, masks=_masks(lungs[image], boxes.get(image, {}), size), report="",
        ))  # fmt: skip
    return found


def _masks(lungs: dict[str, File], boxes: dict[str, Box], size: tuple[int, int] | None) -> tuple[Mask, ...]:
    """Each lung and its zones, as far as boxes and the frame they count in are known."""
    sides = {side: boxes.get(f"{side} lung") for side in ("left", "right")}
    found = []
    for side, other in (("left", "right"), ("right", "left")):
        if side in lungs:
            lung = Mask(f"lung_{side}", lungs[side], size=size)
        elif "both" in lungs and size and sides[side] and sides[other]:
            lung = Mask(f"lung_{side}", lungs["both"], sides=(sides[side], sides[other]), size=size)
        else:
            continue
        found.append(lung)
        for structure, name in ZONES.items():
            if structure.startswith(f"zone_{side}") and name in boxes and size:
                found.append(dataclasses.replace(lung, structure=structure, box=boxes[name]))
    return tuple(found)


def _lung_masks(tree: Tree, pattern: str) -> dict[str, dict[str, File]]:
    """{dicom_id: {"both", or "left" and "right": file}}."""
    candidates: dict[str, list[tuple[str, File]]] = {}
    for _, file in tree.lookup(99, (".png", ".jpg", ".jpeg", ".gif", ".tif", ".tiff", ".bmp")).items():
        relative = str(file.relative_to(tree.root))
        identifier = DICOM_ID.search(relative.rsplit("/", 1)[-1]) or DICOM_ID.search(relative)
        if identifier and not IN_MIMIC.search(relative):
            candidates.setdefault(identifier[0].lower(), []).append((relative, file))
    if not candidates:
        raise tree.missing("lung mask with a dicom_id (5 groups of 8 hexadecimal digits) in its name", "download lung-segment-mimic-cxr")
    found = {}
    for identifier, files in candidates.items():
        kept = [(name, file) for name, file in files if re.search(pattern, name, re.IGNORECASE)] if pattern else _likely(files)
        sides = {side: file for side in ("left", "right") for name, file in kept if side in name.rsplit("/", 1)[-1].lower()}
        if len(kept) == 1:
            found[identifier] = sides or {"both": kept[0][1]}
        elif len(kept) == 2 and len(sides) == 2:
            found[identifier] = sides
        elif kept or not pattern:
            raise DataError(tree.root, f"{len(kept)} files may be the lung mask of {identifier}", got=[name for name, _ in files[:4]],
                            expected="one, or a left and a right one",
                            fix="set options.lung_masks to a pattern that only the masks match")  # fmt: skip
    if not found:
        raise DataError(tree.root, f"no path matches options.lung_masks {pattern!r}", got=next(iter(candidates.values()))[0][0])
    return found


def _likely(files: list[tuple[str, File]]) -> list[tuple[str, File]]:
    """Of a pair (lungs, remainder) the lungs: by the file's own name, else by its folder."""
    for part in (-1, -2):
        names = [("/".join(name.split("/")[part:][:1]), name, file) for name, file in files]
        kept = [(name, file) for text, name, file in names if re.search("lung|mask", text, re.IGNORECASE) and not REMAINDER.search(text)]
        if kept:
            return kept
    return [(name, file) for name, file in files if not REMAINDER.search(name)]


def _boxes(tree: Tree, wanted: set[str]) -> dict[str, dict[str, Box]]:
    """{dicom_id: {region: box}} in pixels of the DICOM; boxes of less than a pixel are left out."""
    found: dict[str, dict[str, Box]] = {}
    graphs = tree.lookup(1, (SCENE,))
    for identifier in wanted:
        file = graphs.find(identifier + SCENE)
        if file is not None:
            graph = columns.read_json(file)
            if not isinstance(graph, dict) or not isinstance(graph.get("objects"), list):
                raise DataError(file, "not a scene graph", expected="an object with `objects`")
            found[identifier] = _regions(file, graph["objects"])
    pattern = r"gold_bbox_coordinate_annotations_1000images\.csv(\.gz)?"
    if tree.matching(pattern):
        file = tree.one(pattern, "gold boxes")
        table = columns.read(file, ["image_id", "bbox_name", "original_x1", "original_y1", "original_x2", "original_y2"])
        table["image_id"] = table["image_id"].str.removesuffix(".dcm")
        for identifier, rows in table[table["image_id"].isin(wanted)].groupby("image_id"):
            found[identifier] = _regions(file, rows.to_dict("records"))
    if not found:
        raise tree.missing("Chest ImaGenome boxes of these images", "put scene_graph.zip of chest-imagenome/silver_dataset below `root`")
    return found


def _regions(file: File, rows: list[dict]) -> dict[str, Box]:
    found = {}
    for row in rows:
        try:
            x0, y0, x1, y1 = (float(row[f"original_{name}"]) for name in ("x1", "y1", "x2", "y2"))
            name = str(row["bbox_name"]).lower()
        except (TypeError, KeyError, ValueError):
            raise DataError(file, "a box without bbox_name or original_x1, _y1, _x2, _y2", got=repr(row)[:120]) from None
        if min(x1 - max(x0, 0), y1 - max(y0, 0)) >= 1:
            found[name] = (x0, y0, x1, y1)
    return found


def _images(
    tree: Tree, folder: str, wanted: set[str]
) -> tuple[dict[str, File], dict[str, tuple[str, str, str]], dict[str, tuple[int, int]]]:
    """By dicom_id: the image; (patient, study, view); (rows, columns) of the DICOM."""
    # relative, so that a row names no path of this machine; from where the root really is, because ".." leaves the target of a link
    there = tree.root / (os.path.relpath(folder, os.path.realpath(tree.root)) if os.path.isabs(folder) else folder)
    images, facts, sizes = {}, {}, {}
    for place in [tree] + ([Tree(there)] if there.is_dir() else []):
        for _, file in place.lookup(99, (".jpg", ".jpeg", ".png", ".dcm", ".dicom")).items():
            identifier = file.name.rsplit(".", 1)[0].lower()
            known = IN_MIMIC.search(str(file.relative_to(tree.root)))
            if identifier in wanted and known and identifier not in images:
                images[identifier] = file
                facts.setdefault(identifier, (known[1], known[2], "FRONTAL"))
        if place.matching(METADATA):
            table = columns.read(place.one(METADATA, "metadata"), ["dicom_id", "subject_id", "study_id", "ViewPosition", "Rows", "Columns"])
            for row in table[table["dicom_id"].isin(wanted)].to_dict("records"):
                view = row["ViewPosition"] if row["ViewPosition"] in ("AP", "PA") else "FRONTAL"
                facts[row["dicom_id"]] = (row["subject_id"], row["study_id"], view)
                if row["Rows"].isdigit() and row["Columns"].isdigit():
                    sizes[row["dicom_id"]] = (int(row["Rows"]), int(row["Columns"]))
    return images, facts, sizes
