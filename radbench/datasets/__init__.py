"""Data sets: each file reads one owner's layout and lists its images as `Record`s. Pixels are radbench.index's business."""

import dataclasses
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Mask:
    """Where one structure of one image is: `bit` of the file's pixels, or (bit None) where they are not zero."""

    structure: str
    path: Path
    bit: int | None = None


@dataclasses.dataclass(frozen=True)
class Record:
    """One image before it was opened. `split` may be empty: radbench.index then splits by patient."""

    image_id: str
    patient_id: str
    study_id: str
    view: str
    split: str
    site: str
    sex: str
    age: float  # years, NaN when not given
    path: Path
    labels: dict[str, float]  # 1 present, 0 absent, -1 uncertain, NaN blank
    masks: tuple[Mask, ...]
    report: str
