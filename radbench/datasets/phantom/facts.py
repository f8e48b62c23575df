"""Who the patients are: everything random that a reader could name, drawn without rendering. Severity is in (0, 1], ages are in years."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

OPACITY, CARDIOMEGALY, THICKENING = "Lung Opacity", "Cardiomegaly", "Pleural thickening"
AORTA, FIBROSIS, EFFUSION = "Aortic enlargement", "Pulmonary fibrosis", "Pleural effusion"
LABELS = (OPACITY, CARDIOMEGALY, THICKENING, AORTA, FIBROSIS, EFFUSION)

PREVALENCE = {OPACITY: 0.22, CARDIOMEGALY: 0.20, THICKENING: 0.14, AORTA: 0.15, FIBROSIS: 0.14, EFFUSION: 0.18}
# Liability model: each finding's latent liability is age * AGE_LOADING + congestion * CONGESTION_LOADING + own noise,
# scaled to unit variance, so prevalences hold whatever the loadings.
AGE_LOADING = {OPACITY: 0.15, CARDIOMEGALY: 0.30, THICKENING: 0.25, AORTA: 0.45, FIBROSIS: 0.30, EFFUSION: 0.25}
CONGESTION_LOADING = {OPACITY: 0.20, CARDIOMEGALY: 0.55, THICKENING: 0.0, AORTA: 0.15, FIBROSIS: 0.0, EFFUSION: 0.55}
ACUTE = (OPACITY, EFFUSION)  # redrawn, with memory, for every study; the others stay with the patient
ACUTE_MEMORY = 0.6  # correlation of an acute finding's own noise between two studies of a patient

IMAGES_PER_PATIENT = {1: 0.55, 2: 0.30, 3: 0.15}  # mean 1.6
NEW_STUDY = 0.75  # chance that a patient's next image belongs to a new study
AP_SHARE = 0.22  # chance that a study is taken AP
ZONES = ("upper", "mid", "lower")
RIBS = 10
LUNG_STRUCTURES = ("lung_left", "lung_right", *(f"zone_{s}_{z}" for s in ("left", "right") for z in ZONES))
RIB_STRUCTURES = {s: tuple(f"rib_{s}_{k:02d}" for k in range(1, RIBS + 1)) for s in ("left", "right")}
STRUCTURES = LUNG_STRUCTURES + RIB_STRUCTURES["left"] + RIB_STRUCTURES["right"]


@dataclass(frozen=True)
class Scanner:
    """What stays the same in every image of one hospital."""

    bits: int  # of the PNG file
    quanta: float  # detected per pixel behind no tissue, in thousands; fewer is noisier
    noise_grain: float  # pixels: correlation length of the noise
    blur: float  # pixels at 192 rows: focal spot and detector
    scatter: float  # scattered over primary fluence behind the lungs
    window: tuple[float, float]  # optical depth shown as black and as white
    gamma: float
    equalise: float  # share of the low frequencies taken out by the viewer's processing
    edge_gain: float  # unsharp mask
    collimated: float  # chance of a visible collimation border
    marker_font: float  # height of the burnt-in letter as a share of image height
    liability: float  # shift of every finding's liability: the two hospitals see slightly different patients


SCANNERS = {
    "A": Scanner(8, 260.0, 0.0, 0.42, 0.30, (1.25, 4.3), 1.0, 0.30, 0.8, 0.25, 0.050, 0.0),
    "B": Scanner(16, 60.0, 0.6, 0.75, 0.50, (0.9, 4.2), 0.85, 0.20, 0.35, 0.65, 0.070, 0.12),
}


@dataclass(frozen=True)
class Side:
    name: str
    sign: int  # of x


LEFT, RIGHT = Side("left", 1), Side("right", -1)

# --------------------------------------------------------------------------------------------------------------------
# Facts: everything random that a reader could name, drawn without rendering
# --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Anatomy:
    """A patient's body, the same in all of the patient's images. Lengths in cm."""

    lung_length: float  # apex to costophrenic angle at full breath
    lung_width: float  # midline to the widest point of the inner chest wall, mean of both sides
    asymmetry: float  # added to the left and taken from the right half width
    apex_x: float
    cage_power: float  # roundness of the upper chest
    chest_depth: float  # air path at the thickest place
    wall: float  # soft tissue outside the rib cage
    body_depth: float
    dome_left: float  # height of the dome above the costophrenic angle
    dome_right: float
    pedicle: float  # half width of the upper mediastinum
    ratio: float  # cardiothoracic ratio, PA at full breath
    heart_left_share: float
    heart_depth: float
    knob_radius: float
    knob_y: float  # as a share of lung length
    aorta_sway: float  # tortuosity of the descending aorta
    spine_half: float
    scoliosis: float
    vertebra: float  # spacing of vertebrae
    rib_half: float
    rib_drop: float  # half the height between a rib's back and front end, for the middle ribs
    bone: float  # mineral content, 1 is ordinary
    breast: float  # 0 for none
    breast_y: float
    nipples: bool
    stomach_gas: float  # radius
    hilum: float
    texture_seed: int


@dataclass(frozen=True)
class Finding:
    """One positive label: how strong, and where. `places` holds (side, zone); zone is "" where it has none."""

    severity: float
    places: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Acquisition:
    """How one image was taken."""

    view: str
    aspect: float  # width over height
    field: float  # cm from the top row to the bottom row
    top: float  # y of the top row
    centre_x: float
    tilt: float  # degrees in the image plane
    yaw: float  # radians about the long axis: moves front structures against the spine
    breath: float  # 1 is full inspiration
    exposure: float  # log2 of the quanta
    brightness: float  # shift and stretch of the display window
    contrast: float
    marker: str  # "L", "R" or ""
    collimation: tuple[float, float, float, float] | None  # share of each border (top, bottom, left, right)
    devices: tuple[str, ...]
    noise_seed: int


@dataclass(frozen=True)
class Study:
    study_id: str
    findings: Mapping[str, Finding]  # the positive labels only
    images: tuple[Acquisition, ...]
    texture_seed: int


@dataclass(frozen=True)
class Patient:
    subject_id: str
    sex: str
    age: int
    site: str
    anatomy: Anatomy
    studies: tuple[Study, ...]
    report_seed: int


@dataclass(frozen=True)
class ImageFacts:
    """All that `render` needs, and nothing it does not."""

    stem: str
    site: str
    anatomy: Anatomy
    findings: Mapping[str, Finding]
    acquisition: Acquisition
    findings_seed: int


def draw_patient(index: int, seed: int, sites: Mapping[str, float]) -> Patient:
    """Patient number `index`: person, anatomy, studies, findings and acquisitions, without drawing a pixel."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, index]))
    names = sorted(sites)
    shares = np.array([sites[name] for name in names], dtype=float)
    site = names[int(rng.choice(len(names), p=shares / shares.sum()))]
    sex = "F" if rng.random() < 0.47 else "M"
    age_score = float(np.clip(rng.normal(), -2.2, 2.2))
    age = round(57 + 16 * age_score)
    subject_id = f"p{index:05d}"

    congestion = rng.normal()
    own = {label: rng.normal() for label in LABELS}
    lasting = {label: _draw_finding(rng, label) for label in LABELS if label not in ACUTE}
    anatomy = _draw_anatomy(rng, sex, age_score)

    count = int(rng.choice(list(IMAGES_PER_PATIENT), p=list(IMAGES_PER_PATIENT.values())))
    first_images = [0] + [i for i in range(1, count) if rng.random() < NEW_STUDY]
    studies = []
    for number, first in enumerate(first_images):
        last = first_images[number + 1] if number + 1 < len(first_images) else count
        findings = {}
        for label in LABELS:
            noise = own[label]
            if label in ACUTE:
                noise = ACUTE_MEMORY * noise + math.sqrt(1 - ACUTE_MEMORY**2) * rng.normal()
            age_part, congestion_part = AGE_LOADING[label], CONGESTION_LOADING[label]
            own_part = math.sqrt(1 - age_part**2 - congestion_part**2)
            liability = age_part * age_score + congestion_part * congestion + own_part * noise
            # Drawn for a negative label too, so that a label's value does not move the draws that follow it.
            finding = _draw_finding(rng, label) if label in ACUTE else _later(rng, lasting[label])
            if liability + SCANNERS[site].liability > NormalDist().inv_cdf(1 - PREVALENCE[label]):
                findings[label] = finding
        view = "AP" if rng.random() < AP_SHARE else "PA"
        images = tuple(_draw_acquisition(rng, view, anatomy, SCANNERS[site]) for _ in range(first, last))
        texture_seed = int(rng.integers(2**31))
        studies.append(Study(f"{subject_id}_s{number + 1}", findings, images, texture_seed))
    return Patient(subject_id, sex, age, site, anatomy, tuple(studies), int(rng.integers(2**31)))


def _draw_anatomy(rng: np.random.Generator, sex: str, age_score: float) -> Anatomy:
    def normal(mean: float, sd: float) -> float:
        return float(mean + sd * np.clip(rng.normal(), -2.2, 2.2))

    female = sex == "F"
    build = normal(0, 1)  # slender to stout
    stature = normal(0.95 if female else 1.03, 0.035)
    return Anatomy(
        lung_length=normal(25.0, 0.8) * stature,
        lung_width=normal(13.6, 0.5) * stature + 0.25 * build,
        asymmetry=normal(0, 0.2),
        apex_x=normal(4.9, 0.3) * stature,
        cage_power=normal(2.15, 0.15),
        chest_depth=normal(14.5, 0.9) * stature,
        wall=max(1.6, 3.0 + 0.9 * build + normal(0, 0.3)),
        body_depth=normal(21.5, 0.6) * stature + 1.5 * build,
        dome_left=normal(4.6, 0.6),
        dome_right=normal(4.9, 0.6),
        pedicle=normal(2.75, 0.22) * stature + 0.1 * build,
        ratio=min(normal(0.445, 0.024) + 0.008 * age_score, 0.496),
        heart_left_share=normal(0.66, 0.03),
        heart_depth=normal(11.5, 0.7) * stature,
        knob_radius=normal(1.45, 0.13) + 0.10 * age_score,
        knob_y=normal(0.275, 0.015),
        aorta_sway=max(0.0, normal(0.2, 0.12) + 0.08 * age_score),
        spine_half=normal(1.75, 0.12) * stature,
        scoliosis=normal(0, 0.35),
        vertebra=normal(2.38, 0.06) * stature,
        rib_half=normal(0.62, 0.06) * stature,
        rib_drop=normal(4.6, 0.45),
        bone=normal(1.0, 0.1) - 0.08 * age_score - (0.06 if female else 0.0),
        breast=float(max(0.0, normal(3.0, 1.3) + 0.6 * build)) if female else 0.0,
        breast_y=normal(0.74, 0.05),
        nipples=bool(rng.random() < 0.15),
        stomach_gas=min(2.3, max(0.0, normal(1.2, 0.8))),
        hilum=normal(1.0, 0.15),
        texture_seed=int(rng.integers(2**31)),
    )


def _later(rng: np.random.Generator, finding: Finding) -> Finding:
    """A lasting finding at another visit: same place, nearly the same severity."""
    return Finding(float(np.clip(finding.severity + rng.normal(0, 0.05), 0.12, 1.0)), finding.places)


def _draw_finding(rng: np.random.Generator, label: str) -> Finding:
    severity = 0.12 + 0.88 * float(rng.random()) ** 1.15
    side = "left" if rng.random() < 0.5 else "right"
    both = bool(rng.random() < 0.25)
    zone = ZONES[int(rng.choice(3, p=[0.22, 0.33, 0.45]))]
    second_zone = ZONES[int(rng.integers(3))]
    other = "right" if side == "left" else "left"
    if label == OPACITY:
        places = [(side, zone)]
        if both:
            places.append((other if rng.random() < 0.6 or second_zone == zone else side, second_zone))
        return Finding(severity, tuple(places))
    if label == THICKENING:
        level = ("upper", "mid", "lower")[int(rng.choice(3, p=[0.4, 0.25, 0.35]))]
        return Finding(severity, ((side, level), (other, level)) if both else ((side, level),))
    if label == EFFUSION:
        return Finding(severity, ((side, ""), (other, "")) if both else ((side, ""),))
    if label == FIBROSIS:
        return Finding(severity, (("left", "lower"), ("right", "lower")))
    return Finding(severity)


def _draw_acquisition(rng: np.random.Generator, view: str, anatomy: Anatomy, scanner: Scanner) -> Acquisition:
    portable = view == "AP"
    field = anatomy.lung_length * rng.uniform(1.42, 1.62)
    collimation = tuple(float(v) for v in rng.uniform(0.004, 0.035, 4))
    collimated = rng.random() < scanner.collimated
    chances = (
        {"ecg": 0.45, "line": 0.30, "tube": 0.18, "pacemaker": 0.05}
        if portable
        else {"ecg": 0.06, "line": 0.05, "tube": 0.01, "pacemaker": 0.04}
    )
    return Acquisition(
        view=view,
        aspect=float(rng.uniform(0.85, 1.05)),
        field=float(field),
        top=float(-rng.uniform(0.36, 0.52) * (field - anatomy.lung_length)),
        centre_x=float(rng.normal(0, 0.6)),
        tilt=float(np.clip(rng.normal(0, 2.4 if portable else 1.3), -6, 6)),
        yaw=float(np.clip(rng.normal(0, 0.085 if portable else 0.045), -0.2, 0.2)),
        breath=float(np.clip(rng.normal(0.90 if portable else 0.965, 0.03), 0.80, 1.0)),
        exposure=float(rng.normal(0, 0.5)),
        brightness=float(rng.normal(0, 0.16)),
        contrast=float(np.exp(rng.normal(0, 0.10))),
        marker=str(rng.choice(["L", "R", ""], p=[0.5, 0.3, 0.2])),
        collimation=collimation if collimated else None,
        devices=tuple(name for name, chance in chances.items() if rng.random() < chance),
        noise_seed=int(rng.integers(2**31)),
    )


def image_facts(patient: Patient) -> Iterator[tuple[Study, ImageFacts]]:
    """The patient's images in order, each with its study."""
    for study in patient.studies:
        for number, acquisition in enumerate(study.images, start=1):
            stem = f"{study.study_id}_i{number}"
            yield study, ImageFacts(stem, patient.site, patient.anatomy, study.findings, acquisition, study.texture_seed)
