"""ReXGradient-160K (Zhang et al. 2025, arXiv 2505.00228; gated at huggingface.co/datasets/rajpurkarlab/ReXGradient-160K).

Read: `metadata/{train,valid,test}_metadata_view_position.json`, studies with `ImagePath` (a list that begins `../deid_png/`),
`ImageViewPosition`, `Findings` and `Impression`, as a list or as an object by study; PNGs
`deid_png/<Patient>/<Accession>/studies/<UID>/series/<UID>/instances/<SOP>.png`. Patient and study are those of the path.
**Not seen:** the form comes from the authors' description.
"""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from ..errors import DataError
from . import Record, columns, frontal_only
from .files import Tree

LABELS = ()
RELEASES = {"1.0": {"images": 273_004, "patients": 109_487, "studies": 160_000}}
SPLITS = {"train": "train", "valid": "val", "test": "test"}
VIEWS = {"PA": "PA", "POSTERO_ANTERIOR": "PA", "AP": "AP", "ANTERO_POSTERIOR": "AP", "LATERAL": "LATERAL", "LL": "LATERAL", "RL": "LATERAL",
         "FRONTAL": "FRONTAL", "AP (KUB)": "OTHER"}  # others: UNKNOWN  # fmt: skip
NO_TEXT = {"none", "nan", "empty", "n/a"}  # what stands for a section that is not there


@dataclasses.dataclass(frozen=True)
class Options:
    """What the configuration may say of ReXGradient."""

    section: str = "findings"  # or impression
    frontal_only: bool = False
    splits: Sequence[str] = ("train", "valid", "test")  # of the owner's files, for a part of the set


def records(root: Path, options: Options) -> list[Record]:
    """One record per image of the metadata; images that no table names are told only where all three tables are read.

    Raises:
        DataError: a metadata file is missing or of another form, a path is not the owner's, or there is no image.
    """
    columns.choice(root, "section", options.section, ("findings", "impression"))
    tree = Tree(root)
    files = tree.lookup(1, (".png",))
    found = []
    for name in options.splits:
        columns.choice(root, "splits", name, tuple(SPLITS))
        file = tree.one(rf"{name}_metadata(_view_position)?\.json", f"{name}_metadata_view_position.json")
        studies = columns.read_json(file)
        studies = list(studies.values()) if isinstance(studies, dict) else studies
        if not isinstance(studies, list) or not all(
            isinstance(study, dict) and isinstance(study.get("ImagePath"), list) for study in studies
        ):
            raise DataError(file, "not the owner's metadata", expected="studies with a list ImagePath")
        for study in studies:
            views = study.get("ImageViewPosition")
            views = views if isinstance(views, list) and len(views) == len(study["ImagePath"]) else [views] * len(study["ImagePath"])
            for listed, view in zip(study["ImagePath"], views, strict=True):
                parts = PurePosixPath(str(listed).removeprefix("../")).parts
                if len(parts) < 4 or parts[0] != "deid_png":
                    raise DataError(file, f"the path {listed!r}", expected="../deid_png/<Patient>/<Accession>/…")
                meant = VIEWS.get(str(view).upper(), "UNKNOWN")
                text = study.get(options.section.capitalize())
                text = " ".join(text.split()) if isinstance(text, str) else ""
                found.append(Record(
                    image_id=parts[-1].rsplit(".", 1)[0], patient_id=parts[1], study_id=f"{parts[1]}/{parts[2]}", view=meant,
                    split=SPLITS[name], site="", sex="", age=math.nan, path=files.found_or_listed("/".join(parts)), labels={}, masks=(),
                    report="" if text.lower().rstrip(".") in NO_TEXT else text,
                    left_out=frontal_only(options.frontal_only, meant),
                ))  # fmt: skip
    if not len(files):
        raise tree.missing("PNG below deid_png/", "unpack the image archives below `root`")
    return found + (files.unlisted() if set(options.splits) == set(SPLITS) else [])
