"""Procedural frontal chest radiographs with known ground truth, written as a tidy folder.

What it is for
    Testing a benchmark harness end to end: the labels, masks and reports are exact by construction, so a task that
    scores badly on them is broken, and a control that scores well on them has found a leak. **A score on phantoms says
    nothing about clinical performance.**

What is modelled
    An image is the sum of attenuation maps (path length in cm times mu in 1/cm) through a body, turned into a grey
    value by scatter, a detector and a film-like response; 1 is white is dense. *Anatomy* is drawn once per patient,
    *findings* per study, *acquisition* (pose, breath, exposure, devices) per image. Six findings carry a severity drawn
    from a continuous distribution, so some are subtle and some obvious. Two scanners, "A" and "B", differ in
    noise, sharpness, response, collimation and bit depth but share the disease model.

What is not modelled
    Lateral views, children, projection through a true volume (organs are thickness maps), beam hardening, heel
    effect, change between a patient's visits other than new draws of acute findings, supine layering of fluid,
    pneumothorax, masses, fractures, surgery, and everything else that is not one of the six labels. Devices come and
    go from image to image and have nothing to do with illness. Labels carry no reader error: they are the truth that
    was drawn, never uncertain and never blank, even where one finding hides another (an opacity under fluid).

Coordinates and units
    *Body frame*, in cm: x grows towards the patient's LEFT, which is the image's RIGHT, with 0 at the midline; y grows
    downwards with 0 at the lung apex. Code for one side works in mirrored x (`side.sign * x`), so lateral is always
    positive. Maps are sampled on a grid aligned with the body frame and then tilted into the *image frame* (rows,
    columns) by one affine transform shared by the image and its masks. Severity is in (0, 1]. Ages are in years.

Masks
    Lungs are the aerated fields as a reader outlines them on a healthy chest: lateral to heart and mediastinum,
    above the diaphragm. Fluid or consolidation does not shrink them; a large heart and fibrotic volume loss do.
    Zones are thirds of each lung's height. A rib is the band of its posterior arc, inside or outside the lung.

Everything is a function of the arguments: `generate` writes the same bytes for any number of workers.
"""

from __future__ import annotations

import argparse
import csv
import functools
import math
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from types import MappingProxyType

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from ..errors import ConfigError

__all__ = [
    "LABELS",
    "PREVALENCE",
    "SCANNERS",
    "STRUCTURES",
    "Acquisition",
    "Anatomy",
    "Finding",
    "ImageFacts",
    "Patient",
    "Study",
    "cardiothoracic_ratio",
    "contact_sheet",
    "draw_patient",
    "generate",
    "image_facts",
    "render",
    "report",
]

# --------------------------------------------------------------------------------------------------------------------
# Constants
# --------------------------------------------------------------------------------------------------------------------

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

MU_SOFT, MU_LUNG, MU_BONE, MU_METAL = 0.170, 0.048, 0.48, 1.6  # 1/cm at the effective energy of a chest exposure

ZONES = ("upper", "mid", "lower")
RIBS = 10
LUNG_STRUCTURES = ("lung_left", "lung_right", *(f"zone_{s}_{z}" for s in ("left", "right") for z in ZONES))
RIB_STRUCTURES = {s: tuple(f"rib_{s}_{k:02d}" for k in range(1, RIBS + 1)) for s in ("left", "right")}
STRUCTURES = LUNG_STRUCTURES + RIB_STRUCTURES["left"] + RIB_STRUCTURES["right"]
MASK_FILES = {  # file name: structures, bit 0 first
    "{stem}__lungs_zones.png": LUNG_STRUCTURES,
    "{stem}__ribs_left.png": RIB_STRUCTURES["left"],
    "{stem}__ribs_right.png": RIB_STRUCTURES["right"],
}
METADATA_COLUMNS = ("image", "subject_id", "study_id", "view", "sex", "age", "site", "mask", *LABELS)


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
SIDES = {"left": LEFT, "right": RIGHT}

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


# --------------------------------------------------------------------------------------------------------------------
# Anatomy: curves and thickness maps in the body frame
# --------------------------------------------------------------------------------------------------------------------


def _severity(facts: ImageFacts, label: str) -> float:
    return facts.findings[label].severity if label in facts.findings else 0.0


def _lung_length(facts: ImageFacts) -> float:
    return facts.anatomy.lung_length * facts.acquisition.breath


def _half_width(facts: ImageFacts, side: Side) -> float:
    return facts.anatomy.lung_width + side.sign * facts.anatomy.asymmetry


def _heart_extents(facts: ImageFacts) -> tuple[float, float]:
    """Greatest distance of the heart's border from the midline, to the patient's left and right, in cm."""
    anatomy, acquisition = facts.anatomy, facts.acquisition
    severity = _severity(facts, CARDIOMEGALY)
    ratio = 0.505 + 0.16 * severity if severity else anatomy.ratio
    # A heart far from the detector is magnified, and a shallow breath lays it flat: why borderline images overlap.
    spread = (1.05 if acquisition.view == "AP" else 1.0) * (1 + 0.45 * (1 - acquisition.breath))
    width = 2 * anatomy.lung_width * ratio * spread
    left_share = anatomy.heart_left_share + 0.03 * severity
    return width * left_share, width * (1 - left_share)


def cardiothoracic_ratio(facts: ImageFacts) -> float:
    """Heart width over inner chest width as it would be measured on this image."""
    return sum(_heart_extents(facts)) / (2 * facts.anatomy.lung_width)


def _quarter(t: np.ndarray, power: float) -> np.ndarray:
    """Quarter of a superellipse: rises from 0 at t=0, steeply at first, to 1 at t>=1."""
    rest = 1 - np.clip(t, 0, 1)
    return (1 - rest**power) ** (1 / power)


def _smooth(t: np.ndarray) -> np.ndarray:
    t = np.clip(t, 0, 1)
    return t * t * (3 - 2 * t)


@dataclass(frozen=True)
class Grid:
    """Sampling of the body frame. `x` is a row, `y` a column, so maps come from broadcasting."""

    x: np.ndarray
    y: np.ndarray
    step: float  # cm per pixel

    @property
    def shape(self) -> tuple[int, int]:
        return self.y.shape[0], self.x.shape[1]

    def columns(self, side: Side) -> slice:
        """The columns of one side of the midline."""
        middle = int(np.searchsorted(self.x[0], 0))
        return slice(middle, None) if side is LEFT else slice(0, middle)

    def rows(self, top: float, bottom: float) -> slice:
        return slice(*np.searchsorted(self.y[:, 0], [top, bottom]).tolist())

    def pixels(self, x: np.ndarray | float, y: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
        return (x - self.x[0, 0]) / self.step, (y - self.y[0, 0]) / self.step


@dataclass(frozen=True)
class Lung:
    """One lung's outline on a grid: curves by row (lateral, medial), by column (dome) and the coordinates inside."""

    side: Side
    columns: slice
    x: np.ndarray  # (1, w) mirrored: lateral is positive
    lateral: np.ndarray  # (h, 1)
    medial: np.ndarray  # (h, 1)
    dome: np.ndarray  # (1, w)
    across: np.ndarray  # (h, w) 0 at the medial border, 1 at the lateral one
    down: np.ndarray  # (h, 1) 0 at the apex, 1 at the costophrenic angle
    length: float


def _lung(facts: ImageFacts, grid: Grid, side: Side) -> Lung:
    anatomy = facts.anatomy
    length = _lung_length(facts)
    columns = grid.columns(side)
    x = side.sign * grid.x[:, columns]
    down = grid.y / length
    half = _half_width(facts, side)
    lateral = anatomy.apex_x + (half - anatomy.apex_x) * _quarter(down / 0.66, anatomy.cage_power)
    lateral = lateral - 0.25 * _smooth((down - 0.8) / 0.3)
    pedicle = anatomy.pedicle + (0.15 if side is RIGHT else -0.1) - 0.35 * _smooth((down - 0.3) / 0.3)
    medial = anatomy.apex_x - (anatomy.apex_x - pedicle) * _quarter(down / 0.20, 1.8)
    height = anatomy.dome_left if side is LEFT else anatomy.dome_right + 1.0
    height *= 1 + 0.6 * (1 - facts.acquisition.breath)
    height += 1.9 * _severity(facts, FIBROSIS)  # stiff lungs hold less air and draw the diaphragm up
    crest = 0.47 * half
    outwards = np.clip((x - crest) / (half * 1.015 - crest), -1, 1)
    dome = length - height * np.where(outwards > 0, (1 - np.abs(outwards) ** 2.3) ** 0.62, 1 - 0.32 * np.abs(outwards) ** 2)
    across = (x - medial) / np.maximum(lateral - medial, 0.05)
    return Lung(side, columns, x, lateral, medial, dome, across, down, length)


def _air_depth(facts: ImageFacts, grid: Grid, lung: Lung) -> np.ndarray:
    """Path through air-filled lung, in cm, before the heart and the great vessels take their share."""
    inside = np.clip(lung.across, 0, 1)
    profile = np.sqrt(1 - inside**2.6) * np.sqrt(np.clip(inside * 7, 0, 1))
    depth = facts.anatomy.chest_depth * (0.5 + 0.5 * _smooth(lung.down / 0.42)) * (lung.down > 0)
    above = (lung.dome - grid.y) / grid.step
    # The lung reaches behind the dome into the posterior recess, which greys the upper abdomen.
    recess = 0.17 * np.exp(np.minimum(above * (grid.step / 3.0), 0)) * _smooth((lung.length + 1.0 - grid.y) / 2.5)
    return depth * profile * np.maximum(np.clip(above + 0.5, 0, 1), recess)


def _heart_borders(facts: ImageFacts, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Distance of the heart's left and right border from the midline for every row; negative where there is none."""
    length = _lung_length(facts)
    left, right = _heart_extents(facts)
    waist = facts.anatomy.pedicle
    top = 0.36 * length

    def border(widest_y: float, waist: float, extent: float, power: float, below: float) -> np.ndarray:
        t = (grid.y - top) / (widest_y - top)
        rising = waist + (extent - waist) * np.sin(np.pi / 2 * np.clip(t, 0, 1)) ** power
        falling = extent * np.sqrt(np.maximum(1 - ((grid.y - widest_y) / below) ** 2, 0))
        return np.where(t < 0, -1.0, np.where(t < 1, rising, falling))

    apex_y = length - facts.anatomy.dome_left * 1.05
    roundness = 1.0 - 0.35 * _severity(facts, CARDIOMEGALY)
    trunk = min(waist + 0.7, 0.75 * left)  # the pulmonary trunk makes the left waist wider
    left_border = border(apex_y, trunk, left, roundness, 4.8)
    return left_border, border(length - facts.anatomy.dome_right - 3.4, 0.85 * waist, right, 0.85 * roundness, 6.5)


def _heart_depth(facts: ImageFacts, grid: Grid) -> np.ndarray:
    left, right = _heart_borders(facts, grid)
    shift = 6.0 * math.sin(facts.acquisition.yaw)
    centre, half = (left - right) / 2 + shift, np.maximum((left + right) / 2, 0.05)
    roof = _smooth((grid.y / _lung_length(facts) - 0.36) / 0.25)
    ellipse = np.sqrt(np.maximum(1 - ((grid.x - centre) / half) ** 2, 0))
    profile = 0.5 * (ellipse + np.sqrt(ellipse))  # fuller than an ellipsoid, so that the border is crisp
    return facts.anatomy.heart_depth * (0.7 + 0.3 * roof) * profile * (left > 0)


@dataclass(frozen=True)
class Aorta:
    knob_x: float
    knob_y: float
    knob_radius: float
    descending_x: np.ndarray  # (h, 1) outer border of the descending part
    ascending_x: np.ndarray  # (h, 1) right border of the ascending part, mirrored


def _aorta(facts: ImageFacts, grid: Grid) -> Aorta:
    anatomy, severity = facts.anatomy, _severity(facts, AORTA)
    length = _lung_length(facts)
    radius = anatomy.knob_radius + (0.25 + 1.25 * severity if severity else 0.0)
    knob_y = anatomy.knob_y * length - 0.5 * (radius - anatomy.knob_radius)
    down = (grid.y - knob_y) / (length - knob_y)
    sway = anatomy.aorta_sway + 1.5 * severity
    descending = 0.9 + 0.85 * radius + sway * np.sin(np.pi * np.clip(down * 1.25, 0, 1)) - 0.7 * np.clip(down, 0, 1.2)
    descending = np.where((down > 0) & (down < 1.15), descending, -1.0)
    bulge = np.exp(-(((grid.y - 0.42 * length) / (0.13 * length)) ** 2))
    ascending = (anatomy.pedicle - 0.6 + (0.55 + 1.3 * severity) * bulge) * (bulge > 0.02)
    knob_x = anatomy.pedicle - 0.55 + 0.55 * (radius - 1.0) + 1.5 * math.sin(facts.acquisition.yaw)
    return Aorta(knob_x, knob_y, radius, descending, ascending)


def _aorta_depth(aorta: Aorta, grid: Grid) -> np.ndarray:
    radius = aorta.knob_radius
    depth = np.zeros(grid.shape, np.float32)
    squared = 1 - ((grid.x - aorta.knob_x) / radius) ** 2 - ((grid.y - aorta.knob_y) / (radius * 1.1)) ** 2
    knob = 3.4 * radius * np.sqrt(np.maximum(squared, 0))
    half = 0.85 * radius
    across = (grid.x - (aorta.descending_x - half)) / half
    tube = 2.2 * half * np.sqrt(np.maximum(1 - across**2, 0)) * (aorta.descending_x > 0)
    depth += np.maximum(knob, tube)
    across = (-grid.x - (aorta.ascending_x - 2.0)) / 2.0
    depth += 4.5 * np.sqrt(np.maximum(1 - across**2, 0)) * (aorta.ascending_x > 0)
    return depth


def _body_depth(facts: ImageFacts, grid: Grid) -> np.ndarray:
    """Path through the whole body as if it were solid soft tissue, in cm: torso, neck, shoulders, arms, breasts."""
    anatomy, x, y = facts.anatomy, np.abs(grid.x), grid.y
    length = _lung_length(facts)
    torso = anatomy.lung_width + anatomy.wall
    slope = _smooth((y + 6.5) / 9.0)
    shoulder = 4.5 * _smooth((y + 2.0) / 5.0) * (1 - _smooth((y - 5.0) / 9.0))  # deltoids run out of the field
    half = 5.6 + (torso - 5.6) * slope + shoulder + 0.7 * _smooth((y / length - 0.6) / 0.6)
    depth = 11.5 + (anatomy.body_depth - 11.5) * _smooth((y + 5.0) / 9.0)
    squared = (x / half) ** 2
    body = depth * np.sqrt(np.maximum(1 - squared * np.sqrt(squared), 0))
    # The pectoral and axillary fold thickens the upper lateral chest.
    body += 1.6 * np.exp(-(((x - 0.72 * anatomy.lung_width) / 4.2) ** 2) - ((y - 0.30 * length) / 5.0) ** 2)
    # More liver and viscera than chest wall below the diaphragm.
    body *= 1 + 0.10 * _smooth((y / length - 0.8) / 0.3)
    if anatomy.breast > 0:
        for side in (LEFT, RIGHT):
            centre_x = side.sign * (0.56 * anatomy.lung_width + 0.4) + 7 * math.sin(facts.acquisition.yaw)
            centre_y = anatomy.breast_y * length
            half_x, half_y = 4.8 + 0.7 * anatomy.breast, 4.6 + 0.7 * anatomy.breast
            r2 = ((grid.x - centre_x) / half_x) ** 2 + ((y - centre_y) / half_y) ** 2
            sag = 0.35 + 0.65 * _smooth((y - centre_y + half_y) / (1.6 * half_y))
            body += (0.9 + 0.62 * anatomy.breast) * sag * np.sqrt(np.maximum(1 - r2, 0))
    if anatomy.nipples:
        for side in (LEFT, RIGHT):
            centre_x = side.sign * 0.66 * anatomy.lung_width + 8 * math.sin(facts.acquisition.yaw)
            r2 = ((grid.x - centre_x) ** 2 + (y - (anatomy.breast_y + 0.03) * length) ** 2) / 0.5**2
            body += 1.5 * np.maximum(1 - r2, 0) ** 0.5
    # A patient who turns puts more tissue in front of one side.
    return body * (1 + 0.006 * grid.x * math.sin(facts.acquisition.yaw) / 0.1)


@dataclass(frozen=True)
class Ribs:
    """The ten ribs of one side, top rib first, as arrays of shape (10, 1, 1).

    A rib in projection is half an ellipse: its upper half is the rib's back, its lower half the rib's front.
    """

    start_y: np.ndarray  # at the spine
    reach: np.ndarray  # lateral extent
    drop: np.ndarray  # half height
    slant: np.ndarray  # cm down per cm out, on top of the ellipse
    half: np.ndarray  # half thickness of the band
    front: np.ndarray  # attenuation of the front half against the back half


def _ribs(facts: ImageFacts, side: Side) -> Ribs:
    anatomy = facts.anatomy
    length = _lung_length(facts)
    rng = np.random.default_rng([anatomy.texture_seed, 11 + side.sign])
    half_width = _half_width(facts, side)
    number = np.arange(1, RIBS + 1, dtype=np.float32)[:, None, None]
    jitter = rng.standard_normal((RIBS, 3)).astype(np.float32)[..., None, None]
    start = (0.055 + 0.089 * (number - 1)) * length + 0.10 * jitter[:, 0]
    drop = anatomy.rib_drop * (0.42 + 0.58 * np.minimum((number - 1) / 3.0, 1.0)) * (1 + 0.03 * jitter[:, 1])
    slant = -0.06 + 0.030 * number + 0.01 * jitter[:, 2]
    drop = np.maximum(0.5, drop - 0.5 * slant * half_width)  # the slant already carries part of the way down
    # The widest rib that stays just outside the lung all along its arc: 0 at the spine, 90 degrees at the side.
    arc = np.radians(np.arange(40, 141, 5, dtype=np.float32))
    down = (start + drop * (1 - np.cos(arc)) + slant * half_width * np.sin(arc)) / length
    cage = anatomy.apex_x + (half_width - anatomy.apex_x) * _quarter(down / 0.66, anatomy.cage_power)
    reach = np.min((cage + 0.45) / np.sin(arc), axis=-1, keepdims=True)
    half = anatomy.rib_half * np.where(number < 3, np.float32(1.1), np.float32(1.0))
    front = np.where(number < 8, np.float32(0.42), np.float32(0.22))  # the lowest ribs end in cartilage
    return Ribs(start, reach, drop, slant, half, front)


def _add_ribs(bone: np.ndarray, bits: np.ndarray, facts: ImageFacts, grid: Grid, side: Side) -> None:
    """Adds the bone of one side's ribs to `bone` and their masks to `bits`."""
    ribs = _ribs(facts, side)
    x = side.sign * grid.x[:, grid.columns(side)]
    # All ribs at once, each in its own window of rows, all windows of one height; rows may lie outside the grid.
    reached = ribs.slant * ribs.reach
    top = ribs.start_y + np.minimum(reached, 0) - 2 * ribs.half
    bottom = ribs.start_y + 2 * ribs.drop + np.maximum(reached, 0) + 2 * ribs.half
    first_rows = np.floor((top - grid.y[0, 0]) / grid.step).astype(int)
    height = math.ceil(float(np.max(bottom - top)) / grid.step)
    y = grid.y[0, 0] + np.float32(grid.step) * (first_rows + np.arange(height)[:, None]).astype(np.float32)

    level = (y - ribs.start_y - ribs.drop) - ribs.slant * x  # against the widest point; negative is above
    fx, fy = (x / ribs.reach) ** 2, (level / ribs.drop) ** 2
    squared = fx + fy + 1e-6
    # Distance to the centre line, to first order, in half thicknesses.
    far = (squared - np.sqrt(squared)) / np.sqrt(fx / ribs.reach**2 + fy / ribs.drop**2 + 1e-8) / ribs.half
    far *= far
    solid = np.sqrt(np.maximum(1 - far, 0))
    solid -= 0.62 * np.sqrt(np.maximum(1 - far * (1 / 0.78**2), 0))  # marrow
    out = x / ribs.reach
    tangent = 1 + 1.1 * np.minimum(out, 1) ** 6  # rays run along the rib at the side of the chest
    weight_back = tangent * np.clip((x - 1.4) / 0.6, 0, 1)
    weight_front = tangent * (ribs.front * np.clip((out - 0.42) / 0.1, 0, 1))
    back = level < 0
    solid *= np.where(back, weight_back, weight_front)
    mask = (far <= 1) & back & (x > 1.6)
    part, part_bits = bone[:, grid.columns(side)], bits[:, grid.columns(side)]
    for number, first in enumerate(first_rows.ravel().tolist()):
        rows = slice(max(first, 0), max(first + height, 0))
        window = slice(rows.start - first, rows.start - first + part[rows].shape[0])
        part[rows] += solid[number, window]
        bit = STRUCTURES.index(RIB_STRUCTURES[side.name][number])
        part_bits[rows] |= mask[number, window].astype(np.int32) << np.int32(bit)


def _bones(facts: ImageFacts, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Optical depth that bone adds to soft tissue, and the ribs as bits in the order of STRUCTURES."""
    anatomy, acquisition = facts.anatomy, facts.acquisition
    bone = np.zeros(grid.shape, np.float32)
    bits = np.zeros(grid.shape, np.int32)
    for side in (LEFT, RIGHT):
        _add_ribs(bone, bits, facts, grid, side)
    bone *= 1.45 * (MU_BONE - MU_SOFT)
    _add_spine(bone, facts, grid)
    _add_shoulder_girdle(bone, facts, grid)
    return bone * anatomy.bone * (1.0 if acquisition.view == "PA" else 0.95), bits


def _add_spine(bone: np.ndarray, facts: ImageFacts, grid: Grid) -> None:
    anatomy = facts.anatomy
    y = grid.y
    centre = anatomy.scoliosis * np.sin(2 * np.pi * y / 40.0) - 2.5 * math.sin(facts.acquisition.yaw)
    half = anatomy.spine_half * (0.82 + 0.30 * _smooth((y + 4) / 32))
    columns = slice(*np.searchsorted(grid.x[0], [-4.5, 4.5]))
    x = grid.x[:, columns]
    across = (x - centre) / half
    phase = y / anatomy.vertebra - np.floor(y / anatomy.vertebra)  # 0 at a disc
    disc = np.exp(-((np.minimum(phase, 1 - phase) / 0.07) ** 2))
    plate = np.exp(-(((np.minimum(phase, 1 - phase) - 0.14) / 0.05) ** 2))
    waist = 1 + 0.07 * np.cos(2 * np.pi * phase)
    body = np.maximum(1 - (across / waist) ** 4, 0) ** 0.5
    bone[:, columns] += (0.40 * (1 - 0.6 * disc) + 0.10 * plate) * body
    for sign in (-1, 1):  # pedicles, then spinous processes
        r2 = ((across - 0.55 * sign) / 0.22) ** 2 + ((phase - 0.36) / 0.15) ** 2
        bone[:, columns] += 0.20 * np.exp(-(r2**2))
    r2 = (across / 0.14) ** 2 + ((phase - 0.72) / 0.22) ** 2
    bone[:, columns] += 0.17 * np.exp(-(r2**2))
    # Transverse processes fade into the rib necks.
    bone[:, columns] += 0.12 * np.exp(-(((phase - 0.42) / 0.12) ** 2)) * np.clip(1.5 - np.abs(across) / 1.2, 0, 0.4)


def _add_shoulder_girdle(bone: np.ndarray, facts: ImageFacts, grid: Grid) -> None:
    anatomy, acquisition = facts.anatomy, facts.acquisition
    portable = acquisition.view == "AP"
    scale = anatomy.lung_width / 13.6
    shift = 7.0 * math.sin(acquisition.yaw)
    rows = grid.rows(-20, 15)
    for side in (LEFT, RIGHT):
        columns = grid.columns(side)
        x, y = side.sign * (grid.x[:, columns] - shift) / scale, grid.y[rows]
        part = bone[rows, columns]
        # Clavicle: an S from the sternum to the shoulder tip, above the apex on AP images.
        lift = -1.1 if portable else 0.0
        out = np.clip((x - 1.9) / 13.2, 0, 1)
        line = 2.9 + lift - 4.6 * out + 0.85 * np.sin(2 * np.pi * out) * (1 - 0.3 * out)
        half = 0.62 + 0.35 * (1 - np.clip(out * 7, 0, 1)) + 0.15 * out
        far = np.abs(y - line) * 0.93 / half
        tube = np.sqrt(np.maximum(1 - far**2, 0)) - 0.5 * np.sqrt(np.maximum(1 - (far / 0.72) ** 2, 0))
        ends = np.clip((x - 1.7) / 0.4, 0, 1) * np.clip((15.3 - x) / 0.5, 0, 1)
        part += 0.62 * tube * ends
        # Scapula: a thin blade with a dense lateral border, swung off the lungs on PA images.
        blade = 14.6 - (2.0 if portable else 0.2)
        border_x = blade - 0.20 * (y - 3.0) + 0.03 * (y - 3.0) ** 2 * 0.3
        near = (x - border_x) / 0.45
        along = _smooth((y - 2.0) / 1.5) * _smooth((14.0 - y) / 2.5)
        plate = _smooth((border_x - x) / 0.5) * _smooth((x - border_x + 5) / 3)
        part += along * (0.30 * np.exp(-(near**2)) + 0.09 * plate)
        # Spine of the scapula and acromion, then the humeral head.
        line = 3.4 - 0.28 * (x - 9.0)
        part += 0.22 * np.exp(-(((y - line) / 0.55) ** 2)) * _smooth((x - 9.5) / 2) * _smooth((18.5 - x) / 2)
        r2 = ((x - 18.0) / 2.5) ** 2 + ((y - 2.8) / 2.6) ** 2
        shaft = np.maximum(1 - ((x - 18.9 - 0.12 * (y - 3)) / 1.25) ** 2, 0)
        shaft = shaft * _smooth((y - 3.5) / 1.5) * _smooth((15 - y) / 4)
        part += 0.75 * np.maximum(np.maximum(1 - r2, 0) ** 0.5, 0.9 * np.sqrt(shaft))


def _airway_depth(facts: ImageFacts, grid: Grid) -> np.ndarray:
    """Path through the trachea and main bronchi, in cm."""
    length = _lung_length(facts)
    shift = 3.0 * math.sin(facts.acquisition.yaw) - 0.25 - 0.5 * _severity(facts, AORTA)
    carina = 0.36 * length
    columns = slice(*np.searchsorted(grid.x[0], [-6.0, 6.0]))
    x, y = grid.x[:, columns], grid.y
    centre = shift * _smooth((y + 4) / 10)
    trachea = np.sqrt(np.maximum(1 - ((x - centre) / 0.92) ** 2, 0)) * np.clip((carina - y) / 1.0, 0, 1)
    air = np.zeros(grid.shape, np.float32)
    air[:, columns] = 2.6 * trachea
    for sign, run in ((1, 1.35), (-1, 0.95)):
        line = shift + sign * np.maximum(y - carina + 0.5, 0) * run
        near = np.sqrt(np.maximum(1 - ((x - line) / 0.85) ** 2, 0))
        air[:, columns] += 1.3 * near * _smooth((y - carina + 0.8) / 1.0) * _smooth((carina + 3.3 - y) / 1.5)
    return air


def _vessels(facts: ImageFacts, grid: Grid, lungs: tuple[Lung, Lung]) -> np.ndarray:
    """Path through lung vessels, in cm: a tree grown from each hilum, scaled with the lung, so it moves with breath."""
    scale = 2  # drawn finer than the grid and averaged, which PIL lines need to look round
    height, width = grid.shape
    canvas = Image.new("L", (width * scale, height * scale))
    draw = ImageDraw.Draw(canvas)
    for lung in lungs:
        rng = np.random.default_rng([facts.anatomy.texture_seed, 21 + lung.side.sign])
        half = _half_width(facts, lung.side)
        hilum = np.array([3.1, 0.46 * lung.length + (0.4 if lung.side is RIGHT else -0.5)])
        angle = np.radians(np.array([-78, -55, -32, -8, 14, 34, 50, 64, 76.0])) + rng.normal(0, 0.1, 9)
        start = np.repeat(hilum[None], angle.size, 0) + rng.normal(0, 0.35, (angle.size, 2))
        radius = np.full(angle.size, 0.36) * facts.anatomy.hilum * np.where(angle > 0.3, 1.15, 0.85)
        reach = (half - 3.0) * 0.27 * (1 + 0.25 * (angle > 0.6))
        segments = []
        for _ in range(5):
            end = start + reach[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
            segments.append(np.concatenate([start, end, radius[:, None]], 1))
            fork = 0.16 + 0.24 * rng.random(angle.size)
            turn = np.where(rng.random(angle.size) < 0.5, 1.0, -1.0)
            angle = np.concatenate([angle + fork * turn * 0.5, angle - fork * turn * 1.5])
            start = np.concatenate([end, end])
            radius = np.concatenate([radius * 0.80, radius * 0.62])
            reach = np.concatenate([reach * 0.80, reach * 0.72]) * rng.uniform(0.8, 1.2, angle.size)
            keep = (radius > 0.075) & (start[:, 0] > 1.5) & (start[:, 0] < half) & (start[:, 1] < lung.length)
            angle, start, radius, reach = angle[keep], start[keep], radius[keep], reach[keep]
        strokes = np.concatenate(segments)[::-1]  # thick ones last, on top
        px, py = grid.pixels(lung.side.sign * strokes[:, [0, 2]], strokes[:, [1, 3]])
        ends = np.stack([px[:, 0], py[:, 0], px[:, 1], py[:, 1]], 1) * scale
        widths = np.maximum(1, np.round(2 * strokes[:, 4] / grid.step * scale)).astype(int)
        # A line one pixel wide stands for a thinner vessel: its brightness carries the missing width.
        fills = np.minimum(255, 255 * strokes[:, 4] / 0.42 * np.minimum(1, 2 * strokes[:, 4] / grid.step * scale / widths + 0.25)).astype(
            int
        )
        for line, stroke, fill in zip(ends.tolist(), widths.tolist(), fills.tolist(), strict=True):
            draw.line(line, fill=fill, width=stroke)
    small = canvas.resize((width, height), Image.Resampling.BOX)
    return np.asarray(small, np.float32) * (4.2 * 0.42 * 2 / 255)


# Centre against the hilum and radii, in cm, and path, in cm: main artery, lower and upper branches.
HILUM_LOBES = ((0.1, 0.0, 1.4, 1.9, 4.6), (0.6, 2.4, 0.85, 2.2, 3.8), (0.7, -1.7, 1.0, 1.3, 2.6))


def _hila(facts: ImageFacts, grid: Grid) -> np.ndarray:
    """Path through the hilar vessels, in cm."""
    length = _lung_length(facts)
    depth = np.zeros(grid.shape, np.float32)
    rows = grid.rows(0.46 * length - 7, 0.46 * length + 8)
    for side in (LEFT, RIGHT):
        columns = grid.columns(side)
        x = side.sign * grid.x[:, columns]
        y0 = 0.46 * length + (0.6 if side is RIGHT else -0.6)
        for dx, dy, rx, ry, amount in HILUM_LOBES:
            r2 = ((x - 3.2 - dx) / rx) ** 2 + ((grid.y[rows] - y0 - dy) / ry) ** 2
            depth[rows, columns] += amount * facts.anatomy.hilum * np.exp(-r2)
    return depth


def _cloud(rng: np.random.Generator, grid: Grid, cell: float) -> np.ndarray:
    """Smooth Gaussian noise of about unit variance with structures of `cell` cm, made coarse and enlarged."""
    height, width = grid.shape
    # The coarse grid is anchored in cm, so one seed gives one pattern at any image size.
    rows, columns = (math.ceil(n * grid.step / cell) + 3 for n in (height, width))
    coarse = Image.fromarray(rng.standard_normal((rows, columns), np.float32))
    box = (1.0, 1.0, 1.0 + width * grid.step / cell, 1.0 + height * grid.step / cell)
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC, box=box)) * 1.25


# --------------------------------------------------------------------------------------------------------------------
# Findings: each says which share of the air on a ray gives way to tissue, or what it adds
# --------------------------------------------------------------------------------------------------------------------


def _opacity(facts: ImageFacts, grid: Grid, lung: Lung) -> np.ndarray | float:
    """Share of the air replaced by patchy consolidation in the zones named by the finding."""
    finding = facts.findings.get(OPACITY)
    if finding is None:
        return 0.0
    share: np.ndarray | float = 0.0
    for number, (side, zone) in enumerate(finding.places):
        if side != lung.side.name:
            continue
        rng = np.random.default_rng([facts.findings_seed, 31, number])
        third = ZONES.index(zone)
        # The lung's visible height ends at the dome medially, so the lowest patches sit a little higher.
        down = (third + rng.uniform(0.35, 0.65)) / 3 * (0.93 if third == 2 else 1.0)
        across = rng.uniform(0.42, 0.72)
        row = min(int(np.searchsorted(lung.down[:, 0], down)), grid.shape[0] - 1)
        centre_x = float(lung.medial[row, 0] + across * (lung.lateral[row, 0] - lung.medial[row, 0]))
        if third == 2:
            dome = float(np.interp(centre_x, np.sort(lung.x[0]), lung.dome[0][np.argsort(lung.x[0])]))
            down = min(down, (dome - 1.5) / lung.length)
        radius = rng.uniform(2.2, 3.4) * (0.75 + 0.6 * finding.severity)
        stretch = rng.uniform(0.8, 1.25)
        r2 = ((lung.x - centre_x) / (radius * stretch)) ** 2 + ((grid.y - down * lung.length) / (radius / stretch)) ** 2
        lumps = 0.62 * _cloud(rng, grid, 1.7) + 0.38 * _cloud(rng, grid, 0.7)
        envelope = np.exp(-0.5 * r2 * 1.3)
        patch = envelope * np.clip(0.66 + 0.40 * lumps[:, lung.columns], 0, 1.3)
        share = share + (0.13 + 0.85 * finding.severity) * patch
    return np.minimum(share, 0.85)


def _fluid(facts: ImageFacts, grid: Grid, lung: Lung) -> np.ndarray | float:
    """Share of the air replaced by a pleural effusion: a level with a meniscus that climbs the lateral wall."""
    finding = facts.findings.get(EFFUSION)
    if finding is None or lung.side.name not in {side for side, _ in finding.places}:
        return 0.0
    rng = np.random.default_rng([facts.findings_seed, 41 + lung.side.sign])
    amount = finding.severity * rng.uniform(0.8, 1.0)
    height = 1.7 + 4.5 * amount + 9.0 * amount**3
    from_wall = np.maximum(lung.lateral - lung.x, 0)
    climb = (0.9 + 2.6 * amount) * np.exp(-from_wall / (0.9 + 1.6 * amount))
    climb = climb + 0.8 * amount * np.exp(-np.maximum(lung.x - lung.medial, 0) / 1.2)
    below = grid.y - (lung.length - height - climb)
    return 0.97 * np.clip(below / (0.8 + 2.4 * amount), 0, 1) ** 0.8


def _pleural_band(facts: ImageFacts, grid: Grid, lung: Lung) -> np.ndarray | float:
    """Share of the air replaced by a band along the pleura, apical, lateral or basal."""
    finding = facts.findings.get(THICKENING)
    level = dict(finding.places).get(lung.side.name) if finding else None
    if finding is None or level is None:
        return 0.0
    rng = np.random.default_rng([facts.findings_seed, 51 + lung.side.sign])
    slope = np.gradient(lung.lateral[:, 0])[:, None] / grid.step
    depth = (lung.lateral - lung.x) / np.sqrt(1 + slope**2)  # distance to the wall, not along the row
    middle, spread = {"upper": (0.06, 0.11), "mid": (0.50, 0.15), "lower": (0.78, 0.15)}[level]
    envelope = np.exp(-0.5 * np.abs((lung.down - middle) / spread) ** 3)
    ragged = 1 + 0.30 * np.interp(grid.y, np.arange(-10, 50, 1.6), rng.standard_normal(38))
    thick = (0.45 + 1.55 * finding.severity) * envelope * np.clip(ragged, 0.4, 1.6)
    return (0.40 + 0.50 * finding.severity) * _smooth((thick - depth) / 0.55 + 0.5) * np.clip(envelope * 2, 0, 1)


def _reticulation(facts: ImageFacts, grid: Grid, lung: Lung) -> np.ndarray | float:
    """Share of the air replaced by fibrotic septa: a fine net, densest at the base and under the pleura."""
    severity = _severity(facts, FIBROSIS)
    if not severity:
        return 0.0
    rng = np.random.default_rng([facts.findings_seed, 61])  # one pattern for both sides, cut differently
    net: np.ndarray | float = 0.0
    for cell, weight in ((1.15, 0.55), (0.72, 0.45)):
        ridges = np.abs(_cloud(rng, grid, cell)[:, lung.columns])
        net = net + weight * np.clip(1 - ridges / 0.42, 0, 1)
    base = _smooth((lung.down - 0.30) / 0.55)
    rim = np.clip(lung.across, 0, 1) ** 2
    weight = 0.06 + 0.94 * base * (0.45 + 0.55 * rim)
    return (0.12 + 0.80 * severity) * weight * (net + 0.14)


# --------------------------------------------------------------------------------------------------------------------
# Devices and burnt-in marks
# --------------------------------------------------------------------------------------------------------------------


def _spline(points: list[tuple[float, float]], count: int = 24) -> np.ndarray:
    """Catmull-Rom curve through points."""
    p = np.array([points[0], *points, points[-1]], dtype=float)
    t = np.linspace(0, 1, count // (len(points) - 1), endpoint=False)[:, None]
    parts = [
        0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
        for a, b, c, d in zip(p[:-3], p[1:-2], p[2:-1], p[3:], strict=True)
    ]
    return np.concatenate([*parts, p[-1:]])


def _devices(facts: ImageFacts, grid: Grid) -> np.ndarray | float:
    """Optical depth of lines, tubes and wires."""
    if not facts.acquisition.devices:
        return 0.0
    rng = np.random.default_rng([facts.acquisition.noise_seed, 71])
    length, width = _lung_length(facts), facts.anatomy.lung_width
    scale = 3
    rows, columns = grid.shape
    canvas = Image.new("L", (columns * scale, rows * scale))
    draw = ImageDraw.Draw(canvas)

    def curve(points: list[tuple[float, float]], diameter: float, fill: int) -> None:
        line = _spline(points)
        px, py = grid.pixels(line[:, 0], line[:, 1])
        stroke = max(1, round(diameter / grid.step * scale))
        draw.line([*zip((px * scale).tolist(), (py * scale).tolist(), strict=True)], fill=fill, width=stroke, joint="curve")

    def disc(x: float, y: float, radius: float, fill: int) -> None:
        px, py = grid.pixels(x, y)
        r = radius / grid.step
        draw.ellipse([(px - r) * scale, (py - r) * scale, (px + r) * scale, (py + r) * scale], fill=fill)

    for device in facts.acquisition.devices:
        side = 1 if rng.random() < 0.4 else -1
        if device == "ecg":
            for _ in range(int(rng.integers(2, 4))):
                x0, y0 = rng.uniform(-0.75, 0.75) * width, rng.uniform(0.15, 0.9) * length
                sway = rng.normal(0, 2.0, 2)
                end_x = np.sign(x0) * (width + 6)
                curve([(x0, y0), (x0 * 1.2 + sway[0], y0 + 3), (x0 * 1.5 + sway[1], y0 + 6), (end_x, y0 + 9)], 0.22, 90)
                disc(x0, y0, 0.55, 110)
        elif device == "line":
            end = 0.42 * length + rng.normal(0, 1.0)
            path = [(side * 6.5, -6.0), (side * 5.0, -1.0), (side * 1.6 - 1.2, 3.5), (-2.0, 7.0), (-2.0, end)]
            curve(path, 0.24, 120)
        elif device == "tube":
            curve([(0.2, -12.0), (-0.2, -4.0), (-0.3, 0.36 * length - rng.uniform(2, 5))], 0.30, 110)
            curve([(0.6, -12.0), (0.5, 4.0), (0.3, 0.7 * length), (2.5, length + 1), (5.5, length + 4)], 0.28, 85)
        elif device == "pacemaker":
            px, py = grid.pixels(7.6, 4.2)
            half = 2.1 / grid.step
            box = [(px - half) * scale, (py - half * 0.9) * scale, (px + half) * scale, (py + half * 0.9) * scale]
            draw.rounded_rectangle(box, radius=half * 0.7 * scale, fill=230)
            path = [(7.6, 3.0), (4.0, 2.0), (-1.0, 4.5), (-2.4, 0.5 * length), (-1.0, 0.8 * length)]
            curve([*path, (3.5, 0.86 * length)], 0.22, 150)
    small = canvas.resize((columns, rows), Image.Resampling.BOX)
    return np.asarray(small, np.float32) * (MU_METAL / 255)


@functools.cache
def _font(height: float) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size=height)


def _burn_in(image: np.ndarray, facts: ImageFacts, rng: np.random.Generator) -> None:
    """Marker letter and collimation border, in the image frame: they belong to the detector, not to the body."""
    acquisition, scanner = facts.acquisition, SCANNERS[facts.site]
    height, width = image.shape
    if acquisition.collimation is not None:
        top, bottom, left, right = acquisition.collimation
        rows = np.arange(height)[:, None] / height
        columns = np.arange(width)[None] / width
        lean = rng.uniform(-0.02, 0.02)
        edge = np.minimum(
            np.minimum(rows - top - lean * columns, 1 - bottom - rows + lean * columns),
            np.minimum(columns - left + lean * rows, 1 - right - columns - lean * rows),
        )
        image *= 0.03 + 0.97 * np.clip(edge * height / 1.5 + 0.5, 0, 1)
    if acquisition.marker:
        letter = max(9, round(scanner.marker_font * height))
        mark = Image.new("L", (2 * letter, 2 * letter))
        draw = ImageDraw.Draw(mark)
        if facts.site == "B":
            near, far = letter * 0.3, letter * 1.7
            draw.ellipse([near, near, far, far], outline=255, width=max(1, letter // 8))
        font = _font(letter * (1.0 if facts.site == "A" else 0.8))
        draw.text((letter, letter), acquisition.marker, fill=255, anchor="mm", font=font)
        ink = np.asarray(mark, np.float32) / 255
        # The patient's left lies on the image's right, and so does its marker.
        x = width - 2 * letter - round(0.03 * width) if acquisition.marker == "L" else round(0.03 * width)
        y = round(rng.uniform(0.02, 0.12) * height)
        patch = image[y : y + 2 * letter, x : x + 2 * letter]
        patch += (0.97 - patch) * ink


# --------------------------------------------------------------------------------------------------------------------
# Acquisition: from attenuation to a grey value, and the masks that go with it
# --------------------------------------------------------------------------------------------------------------------


def _grid(facts: ImageFacts, size: int) -> Grid:
    acquisition = facts.acquisition
    width = round(size * acquisition.aspect)
    step = acquisition.field / size
    x = acquisition.centre_x + (np.arange(width, dtype=np.float32) - (width - 1) / 2) * np.float32(step)
    y = acquisition.top + (np.arange(size, dtype=np.float32) + 0.5) * np.float32(step)
    return Grid(x[None].astype(np.float32), y[:, None].astype(np.float32), step)


def _tilted(values: np.ndarray, degrees: float) -> np.ndarray:
    """Turns a map about the image centre: float maps are interpolated and continue past their edges, bits are not."""
    height, width = values.shape
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    bits = values.dtype == np.int32
    margin = 0 if bits else math.ceil(max(height, width) * abs(sine) / 2) + 2
    padded = values if bits else np.pad(values, margin, mode="edge")
    middle_x, middle_y = width / 2, height / 2
    matrix = (
        cosine,
        sine,
        margin + middle_x - cosine * middle_x - sine * middle_y,
        -sine,
        cosine,
        margin + middle_y + sine * middle_x - cosine * middle_y,
    )
    resample = Image.Resampling.NEAREST if bits else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(padded).transform((width, height), Image.Transform.AFFINE, matrix, resample))


def _coarse_blur(values: np.ndarray, cells: int) -> np.ndarray:
    """Wide blur by shrinking to `cells` rows and enlarging again."""
    height, width = values.shape
    small = Image.fromarray(values).resize((max(2, round(cells * width / height)), cells), Image.Resampling.BOX)
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def _detected(optical_depth: np.ndarray, facts: ImageFacts, rng: np.random.Generator) -> np.ndarray:
    """Grey values in [0, 1], 1 = white: scatter, noise, blur, window and response of the scanner."""
    scanner, acquisition = SCANNERS[facts.site], facts.acquisition
    height = optical_depth.shape[0]
    primary = np.exp(-optical_depth)
    # Scatter comes mainly from where the body is; open field is clipped so that it does not fog the edges.
    fluence = primary + scanner.scatter * _coarse_blur(np.minimum(primary, 0.22), 14)
    blur = scanner.blur * height / 192
    fluence = ndimage.gaussian_filter(fluence, blur, truncate=3.0)
    grain = rng.standard_normal(fluence.shape, np.float32)
    if scanner.noise_grain:
        grain = ndimage.gaussian_filter(grain, scanner.noise_grain, truncate=2.5) * (2 * scanner.noise_grain + 0.9)
    # Finer pixels catch fewer quanta each.
    quanta = 1000 * scanner.quanta * 2**acquisition.exposure * (192 / height) ** 2
    seen = -np.log(np.maximum(fluence + grain * np.sqrt(fluence / quanta), 1e-4))
    broad = _coarse_blur(seen, 7)
    seen -= scanner.equalise * (broad - 2.4)
    if scanner.edge_gain:
        seen += scanner.edge_gain * (seen - ndimage.uniform_filter(seen, max(3, round(5 * height / 192))))
    # Automatic exposure: the middle of the chest gets the same grey whoever the patient is.
    level = float(np.mean(seen[height // 5 : height * 3 // 4, seen.shape[1] // 5 : seen.shape[1] * 4 // 5]))
    low, high = scanner.window
    middle, span = (low + high) / 2 - 0.8 * (2.45 - level) + acquisition.brightness, (high - low) / acquisition.contrast
    unit = (seen - middle) / span
    grey = 1 / (1 + np.exp(-4.4 * unit))  # toe and shoulder of a film
    grey = np.clip((grey - 0.03) / 0.93, 0, 1)
    return grey if scanner.gamma == 1 else grey ** np.float32(scanner.gamma)


def render(facts: ImageFacts, size: int = 192, masks: bool = True) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The image (float32 in [0, 1], `size` rows) and, if asked for, the 28 boolean masks by structure name.

    A pure function: the same facts give the same arrays, and facts that differ in one finding give images that
    differ by that finding alone, noise included.
    """
    anatomy, acquisition = facts.anatomy, facts.acquisition
    grid = _grid(facts, size)
    lungs = (_lung(facts, grid, LEFT), _lung(facts, grid, RIGHT))
    aorta = _aorta(facts, grid)
    heart, vessels_depth = _heart_depth(facts, grid), _aorta_depth(aorta, grid)
    branches = _vessels(facts, grid, lungs)
    hila = _hila(facts, grid)
    bone, rib_bits = _bones(facts, grid)
    texture = np.random.default_rng([anatomy.texture_seed, 81])
    mottle = 1 + 0.035 * _cloud(texture, grid, 2.6) + 0.03 * _cloud(texture, grid, 0.8)

    air = np.zeros(grid.shape, np.float32)
    for lung in lungs:
        depth = _air_depth(facts, grid, lung)
        columns = lung.columns
        behind_heart = 1 - 0.75 * (heart[:, columns] > 0)  # only the posterior branches are left there
        displaced = heart[:, columns] + vessels_depth[:, columns]
        displaced = displaced + (hila[:, columns] + branches[:, columns]) * behind_heart
        depth = np.maximum(depth - displaced, 0) * mottle[:, columns]
        kept = 1 - np.minimum(_opacity(facts, grid, lung) + _reticulation(facts, grid, lung), 0.9)
        kept = kept * (1 - _fluid(facts, grid, lung)) * (1 - _pleural_band(facts, grid, lung))
        air[:, columns] = depth * kept
    body = _body_depth(facts, grid)
    gas = _stomach_gas(facts, grid) + _airway_depth(facts, grid)
    soft = np.maximum(body - air - gas, 0.04 * body)
    optical_depth = MU_SOFT * soft + MU_LUNG * air + bone * np.clip(body / 4, 0, 1) + _devices(facts, grid)

    tilted = _tilted(optical_depth.astype(np.float32), acquisition.tilt)
    rng = np.random.default_rng(acquisition.noise_seed)
    image = _detected(tilted, facts, rng).astype(np.float32)
    _burn_in(image, facts, rng)
    if not masks:
        return image, {}
    return image, _masks(facts, grid, lungs, aorta, heart, rib_bits)


def _stomach_gas(facts: ImageFacts, grid: Grid) -> np.ndarray | float:
    radius = facts.anatomy.stomach_gas
    if radius < 0.8:
        return 0.0
    y0 = _lung_length(facts) - 0.55 * facts.anatomy.dome_left + radius
    r2 = ((grid.x - 0.47 * facts.anatomy.lung_width) / (1.5 * radius)) ** 2 + ((grid.y - y0) / radius) ** 2
    return 2.0 * radius * np.sqrt(np.maximum(1 - r2, 0))


def _masks(
    facts: ImageFacts, grid: Grid, lungs: tuple[Lung, Lung], aorta: Aorta, heart: np.ndarray, bits: np.ndarray
) -> dict[str, np.ndarray]:
    """Exact masks in the image frame. `bits` holds the ribs and receives the lungs, in the order of STRUCTURES."""
    knob = ((grid.x - aorta.knob_x) / aorta.knob_radius) ** 2 + ((grid.y - aorta.knob_y) / aorta.knob_radius / 1.1) ** 2
    silhouette = (heart > 0) | (knob < 1)
    for lung in lungs:
        inside = (lung.across > 0) & (lung.across < 1) & (lung.down > 0) & (grid.y < lung.dome)
        bits[:, lung.columns] |= _zoned(inside & ~silhouette[:, lung.columns], lung.side)
    tilted = _tilted(bits, facts.acquisition.tilt)
    return {name: tilted & np.int32(1 << bit) != 0 for bit, name in enumerate(STRUCTURES)}


def _zoned(lung: np.ndarray, side: Side) -> np.ndarray:
    """A lung and its three zones as bits."""
    solid = lung.astype(np.int32)
    bits = solid << STRUCTURES.index(f"lung_{side.name}")
    rows = np.flatnonzero(lung.any(axis=1))
    if rows.size:
        cuts = np.round(np.linspace(rows[0], rows[-1] + 1, 4)).astype(int)
        for zone, top, bottom in zip(ZONES, cuts[:-1], cuts[1:], strict=True):
            bits[top:bottom] |= solid[top:bottom] << STRUCTURES.index(f"zone_{side.name}_{zone}")
    return bits


def _packed(masks: list[np.ndarray], dtype: type) -> np.ndarray:
    bits = np.zeros(masks[0].shape, dtype)
    for bit, mask in enumerate(masks):
        bits |= mask.astype(dtype) << dtype(bit)
    return bits


# --------------------------------------------------------------------------------------------------------------------
# Report grammar
# --------------------------------------------------------------------------------------------------------------------

REPORT_WORDS = (25, 60)
REPORT_SENTENCES = 6


def report(patient: Patient, study: Study) -> str:
    """Findings text of a study: every positive label is stated once, and negatives are only ever denied."""
    rng = np.random.default_rng([patient.report_seed, study.texture_seed])

    def pick(*options: str) -> str:
        return options[int(rng.integers(len(options)))]

    positive = [_positive_sentence(label, finding, pick) for label, finding in study.findings.items()]
    positive = [positive[i] for i in rng.permutation(len(positive))]
    normal = _normal_sentences(study, pick, rng)
    devices = _device_sentences(study.images[0], pick)[: max(0, REPORT_SENTENCES - 1 - len(positive))]

    chosen = list(positive)
    extra = [*devices, *normal]
    # Long reports and short ones both occur, but none is so short that only its normal phrases could be scored.
    wanted = int(rng.integers(REPORT_WORDS[0] + 2, 46))
    kept: list[str] = []
    for sentence in extra:
        words = _words([*chosen, *kept])
        full = len(chosen) + len(kept) >= REPORT_SENTENCES or words + _words([sentence]) > REPORT_WORDS[1]
        if full or (words >= wanted and len(chosen) + len(kept) >= 2):
            break
        kept.append(sentence)
    order = rng.random()
    if order < 0.5:  # what matters first
        sentences = [*chosen, *kept]
    elif order < 0.75:
        sentences = [*kept[:1], *chosen, *kept[1:]]
    else:
        sentences = [*chosen, *kept]
        sentences = [sentences[i] for i in rng.permutation(len(sentences))]
    return " ".join(sentence[0].upper() + sentence[1:] for sentence in sentences)


def _words(sentences: list[str]) -> int:
    return sum(len(sentence.split()) for sentence in sentences)


def _degree(severity: float, low: str, middle: str, high: str) -> str:
    return low if severity < 0.38 else middle if severity < 0.72 else high


def _positive_sentence(label: str, finding: Finding, pick: Callable[..., str]) -> str:
    severity = finding.severity
    size = _degree(severity, pick("small", "tiny", "trace"), "moderate", pick("large", "massive"))
    extent = _degree(severity, pick("mild", "subtle", "faint"), "moderate", pick("dense", "extensive", "severe"))
    amount = _degree(severity, pick("mild", "minimal", "slight"), "moderate", pick("marked", "severe"))
    adverb = _degree(severity, pick("mildly", "slightly"), "moderately", pick("markedly", "severely"))
    sides = [side for side, _ in finding.places]
    both = len(set(sides)) == 2
    if label == OPACITY:
        (side, zone), *rest = finding.places
        zone = pick("mid", "middle") if zone == "mid" else zone
        if not rest:
            where = f"{side} {zone} {pick('zone', 'lung zone')}"
        elif rest[0][0] == side:
            where = f"{side} {zone} and {rest[0][1]} zones"
        else:
            where = f"{side} {zone} zone and the {rest[0][0]} {rest[0][1]} zone"
        thing = pick("patchy opacity", "airspace opacity", "consolidation", "patchy consolidation", "hazy opacity")
        return pick(
            f"there is {extent} {thing} in the {where}.",
            f"{extent} {thing} is seen in the {where}.",
            f"{extent} {thing} projects over the {where}.",
            f"{thing} in the {where}, {extent} in extent.",
        )
    if label == CARDIOMEGALY:
        return pick(
            f"{amount} cardiomegaly.",
            f"the heart is {adverb} enlarged.",
            f"the cardiac silhouette is {adverb} enlarged.",
            f"{amount} cardiomegaly is present.",
            f"there is {amount} enlargement of the heart.",
        )
    if label == THICKENING:
        level = {"upper": "apical", "mid": "lateral", "lower": "basal"}[finding.places[0][1]]
        if both:
            return pick(
                f"{amount} bilateral {level} pleural thickening.",
                f"there is {amount} {level} pleural thickening on both sides.",
            )
        return pick(
            f"{amount} {level} pleural thickening on the {sides[0]}.",
            f"there is {amount} {sides[0]} {level} pleural thickening.",
            f"{sides[0]} {level} pleural thickening, {amount} in degree.",
        )
    if label == AORTA:
        return pick(
            f"the aorta is {adverb} enlarged.",
            f"the thoracic aorta is {adverb} dilated and tortuous.",
            f"{amount} enlargement of the aortic knob.",
            f"the aortic knob is prominent with {amount} aortic dilatation.",
        )
    if label == FIBROSIS:
        return pick(
            f"{amount} basal and peripheral reticular markings consistent with fibrosis.",
            f"{amount} pulmonary fibrosis at both bases.",
            f"there is {amount} reticular change at the bases in keeping with pulmonary fibrosis.",
            f"coarse reticular markings in the lower zones with low volumes, suggesting {amount} fibrosis.",
        )
    if both:
        return pick(
            f"{size} bilateral pleural effusions.",
            f"there are {size} pleural effusions on both sides.",
            f"{size} effusions blunt both costophrenic angles.",
        )
    return pick(
        f"{size} {sides[0]} pleural effusion.",
        f"there is a {size} pleural effusion on the {sides[0]}.",
        f"a {size} {sides[0]} pleural effusion is present.",
        f"the {sides[0]} costophrenic angle is blunted by a {size} effusion.",
    )


def _normal_sentences(study: Study, pick: Callable[..., str], rng: np.random.Generator) -> list[str]:
    """Denials and normal statements that hold for this study, in random order, those about the labels first."""
    findings = study.findings
    lungs_clear = not {OPACITY, FIBROSIS, EFFUSION, THICKENING} & set(findings)
    denials = {
        OPACITY: pick("focal consolidation", "airspace opacity", "focal opacity"),
        THICKENING: "pleural thickening",
        FIBROSIS: pick("fibrosis", "reticular change"),
        EFFUSION: "pleural effusion",
    }
    absent = [text for label, text in denials.items() if label not in findings] + ["pneumothorax"]
    absent = [absent[i] for i in rng.permutation(len(absent))]
    count = int(rng.integers(1, 5))
    groups = [absent[:count], absent[count : count + 2]]
    sentences = []
    for group in groups:
        if not group:
            continue
        listed = group[0] if len(group) == 1 else ", ".join(group[:-1]) + " or " + group[-1]
        sentences.append(pick(f"no {listed}.", f"there is no {listed}.", f"no evidence of {listed}.", f"{listed} is not seen."))
    heart_normal, aorta_normal = CARDIOMEGALY not in findings, AORTA not in findings
    if heart_normal and aorta_normal and rng.random() < 0.4:
        sentences.append(pick("the cardiomediastinal silhouette is normal.", "heart and aorta are normal in size."))
    else:
        if heart_normal:
            sentences.append(
                pick(
                    "heart size is normal.",
                    "the heart is normal in size.",
                    "the heart is not enlarged.",
                    "no cardiomegaly.",
                    "cardiac size is within normal limits.",
                )
            )
        if aorta_normal:
            sentences.append(pick("the aorta is normal.", "the aortic contour is normal.", "the aorta is not enlarged."))
    if lungs_clear:
        sentences.append(pick("the lungs are clear.", "both lungs are clear and well expanded.", "lungs and pleural spaces are clear."))
    elif FIBROSIS not in findings:
        touched = {side for finding in findings.values() for side, _ in finding.places}
        if len(touched) == 1:
            other = "right" if touched == {"left"} else "left"
            sentences.append(pick(f"the {other} lung is clear.", f"the {other} hemithorax is unremarkable."))
    sentences = [sentences[i] for i in rng.permutation(len(sentences))]
    plain = [
        pick(
            "the bones are intact.",
            "no acute bony abnormality.",
            "osseous structures are unremarkable.",
            "age related degenerative change of the thoracic spine.",
            "no displaced rib fracture is identified.",
        ),
        pick(
            "the trachea is midline.",
            "the trachea is central.",
            "the mediastinum is not shifted and the hila are normal.",
            "the film is taken in good inspiration with satisfactory exposure.",
        ),
        pick("the soft tissues are unremarkable.", "visible upper abdomen is unremarkable.", "both hila are normal in appearance."),
    ]
    plain = [plain[i] for i in rng.permutation(len(plain))]
    return [*sentences, *plain]


def _device_sentences(acquisition: Acquisition, pick: Callable[..., str]) -> list[str]:
    texts = {
        "line": pick("a central venous line is in place.", "central line tip projects over the superior vena cava."),
        "tube": pick("endotracheal and gastric tubes are in place.", "the endotracheal tube is in good position."),
        "pacemaker": pick("a left chest pacemaker is noted.", "pacemaker with a single lead."),
        "ecg": pick("monitoring leads overlie the chest.", "external wires and electrodes are noted."),
    }
    sentences = [text for device, text in texts.items() if device in acquisition.devices]
    if acquisition.view == "AP":
        sentences.append(pick("portable AP view.", "single frontal AP view of the chest."))
    return sentences


# --------------------------------------------------------------------------------------------------------------------
# Writing the tidy folder
# --------------------------------------------------------------------------------------------------------------------


def generate(
    root: Path,
    *,
    patients: int,
    seed: int,
    size: int = 192,
    sites: Mapping[str, float] = MappingProxyType({"A": 1.0}),
    masks: bool = True,
    reports: bool = True,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Writes a tidy folder of `patients` patients below `root`; `metadata.csv` is written last.

    `size` is the number of rows of an image, `sites` gives each scanner's share of the patients, `progress` is
    called with (patients done, patients in all).

    Raises:
        ConfigError: a site is not a scanner of this module, or there is nothing to draw.
    """
    if not set(sites) <= set(SCANNERS) or min(sites.values(), default=0) < 0 or sum(sites.values()) <= 0:
        raise ConfigError("phantom", "sites must be shares of scanners", got=dict(sites), expected=sorted(SCANNERS))
    if patients < 1 or size < 32:
        raise ConfigError("phantom", "too small", got=f"{patients} patients, {size} rows", expected="at least 1 and 32")
    root = Path(root)
    for folder in ("images", "masks") if masks else ("images",):
        (root / folder).mkdir(parents=True, exist_ok=True)
    write = functools.partial(_write_patient, root=root, seed=seed, size=size, sites=dict(sites), masks=masks)
    image_rows: list[list[object]] = []
    report_rows: list[list[str]] = []
    for done, (images, texts) in enumerate(_mapped(write, patients, workers), start=1):
        image_rows += images
        report_rows += texts
        if progress is not None:
            progress(done, patients)
    if masks:
        rows = [[name, file, bit] for file, names in MASK_FILES.items() for bit, name in enumerate(names)]
        _write_table(root / "structures.csv", ("structure", "mask_file", "bit"), rows)
    if reports:
        _write_table(root / "reports.csv", ("study_id", "text"), report_rows)
    _write_table(root / "metadata.csv", METADATA_COLUMNS, image_rows)


def _mapped(write: Callable, patients: int, workers: int) -> Iterator:
    if workers <= 1:
        yield from map(write, range(patients))
        return
    # Spawned, because the caller may hold threads; in order, so that tables do not depend on timing.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, patients), mp_context=context) as pool:
        yield from pool.map(write, range(patients), chunksize=max(1, min(32, patients // (4 * workers))))


def _write_patient(
    index: int, *, root: Path, seed: int, size: int, sites: Mapping[str, float], masks: bool
) -> tuple[list[list[object]], list[list[str]]]:
    """Draws and writes one patient; returns its rows of metadata.csv and reports.csv."""
    patient = draw_patient(index, seed, sites)
    rows: list[list[object]] = []
    for study, facts in image_facts(patient):
        image, drawn = render(facts, size, masks)
        _write_image(root / "images" / f"{facts.stem}.png", image, SCANNERS[facts.site].bits)
        for file, names in MASK_FILES.items() if masks else ():
            packed = _packed([drawn[name] for name in names], np.uint8 if len(names) <= 8 else np.uint16)
            Image.fromarray(packed).save(root / "masks" / file.format(stem=facts.stem), compress_level=3)
        labels = [int(label in study.findings) for label in LABELS]
        rows.append(
            [
                f"{facts.stem}.png",
                patient.subject_id,
                study.study_id,
                facts.acquisition.view,
                patient.sex,
                patient.age,
                patient.site,
                "",
                *labels,
            ]
        )
    return rows, [[study.study_id, report(patient, study)] for study in patient.studies]


def _write_image(path: Path, image: np.ndarray, bits: int) -> None:
    if bits == 8:
        stored = np.round(image * 255).astype(np.uint8)
    else:  # twelve bits of detector in the upper bits of sixteen
        stored = np.round(image * 4095).astype(np.uint16) << np.uint16(4)
    Image.fromarray(stored).save(path, compress_level=1)


def _write_table(path: Path, header: tuple[str, ...], rows: list) -> None:
    unfinished = path.with_name(path.name + ".part")
    with unfinished.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
    os.replace(unfinished, path)


# --------------------------------------------------------------------------------------------------------------------
# Looking at it
# --------------------------------------------------------------------------------------------------------------------


def contact_sheet(root: Path, path: Path, n: int = 24) -> None:
    """Draws the first `n` images with their positive labels, and a row of mask overlays, into one PNG."""
    with (Path(root) / "metadata.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))[:n]
    tile, caption, across = 256, 26, 6
    down = math.ceil(len(rows) / across)
    overlays = [row for row in rows if (Path(root) / "masks" / _mask_name(row["image"], 0)).exists()][:across]
    sheet = Image.new("RGB", (across * tile, (down + bool(overlays)) * (tile + caption)))
    draw = ImageDraw.Draw(sheet)
    short = {OPACITY: "opacity", CARDIOMEGALY: "heart", THICKENING: "pleura", AORTA: "aorta", FIBROSIS: "fibrosis", EFFUSION: "effusion"}
    for place, row in enumerate([*rows, *overlays]):
        is_overlay = place >= len(rows)
        column, line = (place - len(rows), down) if is_overlay else (place % across, place // across)
        grey = _read_grey(Path(root) / "images" / row["image"])
        picture = Image.fromarray(_overlaid(Path(root), row["image"], grey) if is_overlay else grey).convert("RGB")
        scale = (tile - 4) / max(picture.size)
        picture = picture.resize((round(picture.width * scale), round(picture.height * scale)))
        left, top = column * tile, line * (tile + caption)
        sheet.paste(picture, (left, top + caption))
        names = ", ".join(short[label] for label in LABELS if row[label] == "1") or "none"
        draw.text((left + 2, top + 2), f"site {row['site']}, {row['view']}", fill=(150, 150, 150))
        draw.text((left + 2, top + 13), "masks" if is_overlay else names, fill=(255, 220, 120))
    sheet.save(path)


def _mask_name(image: str, file: int) -> str:
    return list(MASK_FILES)[file].format(stem=image.removesuffix(".png"))


def _read_grey(path: Path) -> np.ndarray:
    stored = np.asarray(Image.open(path))
    return stored if stored.dtype == np.uint8 else (stored >> 8).astype(np.uint8)


def _overlaid(root: Path, image: str, grey: np.ndarray) -> np.ndarray:
    """Lungs tinted by zone, ribs outlined in alternating colours."""
    lungs, left, right = (np.asarray(Image.open(root / "masks" / _mask_name(image, k))).astype(int) for k in range(3))
    colour = np.repeat(grey[..., None].astype(float), 3, axis=2)
    tints = [(255, 80, 80), (80, 255, 80), (80, 120, 255), (255, 160, 60), (60, 220, 200), (190, 90, 255)]
    for bit, tint in enumerate(tints, start=2):
        colour[(lungs >> bit) & 1 == 1] = 0.75 * colour[(lungs >> bit) & 1 == 1] + 0.25 * np.array(tint)
    for ribs in (left, right):
        for bit in range(RIBS):
            mask = (ribs >> bit) & 1 == 1
            rim = mask & ~ndimage.binary_erosion(mask)
            colour[rim] = (255, 255, 0) if bit % 2 else (0, 255, 255)
    return colour.astype(np.uint8)


def _site_shares(text: str) -> dict[str, float]:
    return {name: float(share) for name, share in (part.split("=") for part in text.split(","))}


def main() -> None:
    parser = argparse.ArgumentParser(description="Write an example folder of phantom chest radiographs.")
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--patients", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=192, help="rows of an image")
    parser.add_argument("--sites", type=_site_shares, default={"A": 1.0}, help="share of each scanner: A=0.7,B=0.3")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--sheet", type=Path, help="also draw a contact sheet here")
    arguments = parser.parse_args()
    generate(
        arguments.root,
        patients=arguments.patients,
        seed=arguments.seed,
        size=arguments.size,
        sites=arguments.sites,
        workers=arguments.workers,
    )
    if arguments.sheet is not None:
        contact_sheet(arguments.root, arguments.sheet)


if __name__ == "__main__":
    main()
