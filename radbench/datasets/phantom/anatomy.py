"""The body: curves and thickness maps in the body frame, in cm, each a function of the facts and a sampling grid."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from .facts import AORTA, CARDIOMEGALY, FIBROSIS, LEFT, RIB_STRUCTURES, RIBS, RIGHT, STRUCTURES, ImageFacts, Side

MU_SOFT, MU_LUNG, MU_BONE, MU_METAL = 0.170, 0.048, 0.48, 1.6  # 1/cm at the effective energy of a chest exposure


def severity_of(facts: ImageFacts, label: str) -> float:
    return facts.findings[label].severity if label in facts.findings else 0.0


def lung_length(facts: ImageFacts) -> float:
    return facts.anatomy.lung_length * facts.acquisition.breath


def _half_width(facts: ImageFacts, side: Side) -> float:
    return facts.anatomy.lung_width + side.sign * facts.anatomy.asymmetry


def _heart_extents(facts: ImageFacts) -> tuple[float, float]:
    """Greatest distance of the heart's border from the midline, to the patient's left and right, in cm."""
    anatomy, acquisition = facts.anatomy, facts.acquisition
    severity = severity_of(facts, CARDIOMEGALY)
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


def smooth(t: np.ndarray) -> np.ndarray:
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


def draw_lung(facts: ImageFacts, grid: Grid, side: Side) -> Lung:
    anatomy = facts.anatomy
    length = lung_length(facts)
    columns = grid.columns(side)
    x = side.sign * grid.x[:, columns]
    down = grid.y / length
    half = _half_width(facts, side)
    lateral = anatomy.apex_x + (half - anatomy.apex_x) * _quarter(down / 0.66, anatomy.cage_power)
    lateral = lateral - 0.25 * smooth((down - 0.8) / 0.3)
    pedicle = anatomy.pedicle + (0.15 if side is RIGHT else -0.1) - 0.35 * smooth((down - 0.3) / 0.3)
    medial = anatomy.apex_x - (anatomy.apex_x - pedicle) * _quarter(down / 0.20, 1.8)
    height = anatomy.dome_left if side is LEFT else anatomy.dome_right + 1.0
    height *= 1 + 0.6 * (1 - facts.acquisition.breath)
    height += 1.9 * severity_of(facts, FIBROSIS)  # stiff lungs hold less air and draw the diaphragm up
    crest = 0.47 * half
    outwards = np.clip((x - crest) / (half * 1.015 - crest), -1, 1)
    dome = length - height * np.where(outwards > 0, (1 - np.abs(outwards) ** 2.3) ** 0.62, 1 - 0.32 * np.abs(outwards) ** 2)
    across = (x - medial) / np.maximum(lateral - medial, 0.05)
    return Lung(side, columns, x, lateral, medial, dome, across, down, length)


def air_depth(facts: ImageFacts, grid: Grid, lung: Lung) -> np.ndarray:
    """Path through air-filled lung, in cm, before the heart and the great vessels take their share."""
    inside = np.clip(lung.across, 0, 1)
    profile = np.sqrt(1 - inside**2.6) * np.sqrt(np.clip(inside * 7, 0, 1))
    depth = facts.anatomy.chest_depth * (0.5 + 0.5 * smooth(lung.down / 0.42)) * (lung.down > 0)
    above = (lung.dome - grid.y) / grid.step
    # The lung reaches behind the dome into the posterior recess, which greys the upper abdomen.
    recess = 0.17 * np.exp(np.minimum(above * (grid.step / 3.0), 0)) * smooth((lung.length + 1.0 - grid.y) / 2.5)
    return depth * profile * np.maximum(np.clip(above + 0.5, 0, 1), recess)


def _heart_borders(facts: ImageFacts, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Distance of the heart's left and right border from the midline for every row; negative where there is none."""
    length = lung_length(facts)
    left, right = _heart_extents(facts)
    waist = facts.anatomy.pedicle
    top = 0.36 * length

    def border(widest_y: float, waist: float, extent: float, power: float, below: float) -> np.ndarray:
        t = (grid.y - top) / (widest_y - top)
        rising = waist + (extent - waist) * np.sin(np.pi / 2 * np.clip(t, 0, 1)) ** power
        falling = extent * np.sqrt(np.maximum(1 - ((grid.y - widest_y) / below) ** 2, 0))
        return np.where(t < 0, -1.0, np.where(t < 1, rising, falling))

    apex_y = length - facts.anatomy.dome_left * 1.05
    roundness = 1.0 - 0.35 * severity_of(facts, CARDIOMEGALY)
    trunk = min(waist + 0.7, 0.75 * left)  # the pulmonary trunk makes the left waist wider
    left_border = border(apex_y, trunk, left, roundness, 4.8)
    return left_border, border(length - facts.anatomy.dome_right - 3.4, 0.85 * waist, right, 0.85 * roundness, 6.5)


def heart_depth(facts: ImageFacts, grid: Grid) -> np.ndarray:
    left, right = _heart_borders(facts, grid)
    shift = 6.0 * math.sin(facts.acquisition.yaw)
    centre, half = (left - right) / 2 + shift, np.maximum((left + right) / 2, 0.05)
    roof = smooth((grid.y / lung_length(facts) - 0.36) / 0.25)
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


def draw_aorta(facts: ImageFacts, grid: Grid) -> Aorta:
    anatomy, severity = facts.anatomy, severity_of(facts, AORTA)
    length = lung_length(facts)
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


def aorta_depth(aorta: Aorta, grid: Grid) -> np.ndarray:
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


def body_depth(facts: ImageFacts, grid: Grid) -> np.ndarray:
    """Path through the whole body as if it were solid soft tissue, in cm: torso, neck, shoulders, arms, breasts."""
    anatomy, x, y = facts.anatomy, np.abs(grid.x), grid.y
    length = lung_length(facts)
    torso = anatomy.lung_width + anatomy.wall
    slope = smooth((y + 6.5) / 9.0)
    shoulder = 4.5 * smooth((y + 2.0) / 5.0) * (1 - smooth((y - 5.0) / 9.0))  # deltoids run out of the field
    half = 5.6 + (torso - 5.6) * slope + shoulder + 0.7 * smooth((y / length - 0.6) / 0.6)
    depth = 11.5 + (anatomy.body_depth - 11.5) * smooth((y + 5.0) / 9.0)
    squared = (x / half) ** 2
    body = depth * np.sqrt(np.maximum(1 - squared * np.sqrt(squared), 0))
    # The pectoral and axillary fold thickens the upper lateral chest.
    body += 1.6 * np.exp(-(((x - 0.72 * anatomy.lung_width) / 4.2) ** 2) - ((y - 0.30 * length) / 5.0) ** 2)
    # More liver and viscera than chest wall below the diaphragm.
    body *= 1 + 0.10 * smooth((y / length - 0.8) / 0.3)
    if anatomy.breast > 0:
        for side in (LEFT, RIGHT):
            centre_x = side.sign * (0.56 * anatomy.lung_width + 0.4) + 7 * math.sin(facts.acquisition.yaw)
            centre_y = anatomy.breast_y * length
            half_x, half_y = 4.8 + 0.7 * anatomy.breast, 4.6 + 0.7 * anatomy.breast
            r2 = ((grid.x - centre_x) / half_x) ** 2 + ((y - centre_y) / half_y) ** 2
            sag = 0.35 + 0.65 * smooth((y - centre_y + half_y) / (1.6 * half_y))
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
    length = lung_length(facts)
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


def bones(facts: ImageFacts, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
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
    half = anatomy.spine_half * (0.82 + 0.30 * smooth((y + 4) / 32))
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
        along = smooth((y - 2.0) / 1.5) * smooth((14.0 - y) / 2.5)
        plate = smooth((border_x - x) / 0.5) * smooth((x - border_x + 5) / 3)
        part += along * (0.30 * np.exp(-(near**2)) + 0.09 * plate)
        # Spine of the scapula and acromion, then the humeral head.
        line = 3.4 - 0.28 * (x - 9.0)
        part += 0.22 * np.exp(-(((y - line) / 0.55) ** 2)) * smooth((x - 9.5) / 2) * smooth((18.5 - x) / 2)
        r2 = ((x - 18.0) / 2.5) ** 2 + ((y - 2.8) / 2.6) ** 2
        shaft = np.maximum(1 - ((x - 18.9 - 0.12 * (y - 3)) / 1.25) ** 2, 0)
        shaft = shaft * smooth((y - 3.5) / 1.5) * smooth((15 - y) / 4)
        part += 0.75 * np.maximum(np.maximum(1 - r2, 0) ** 0.5, 0.9 * np.sqrt(shaft))


def airway_depth(facts: ImageFacts, grid: Grid) -> np.ndarray:
    """Path through the trachea and main bronchi, in cm."""
    length = lung_length(facts)
    shift = 3.0 * math.sin(facts.acquisition.yaw) - 0.25 - 0.5 * severity_of(facts, AORTA)
    carina = 0.36 * length
    columns = slice(*np.searchsorted(grid.x[0], [-6.0, 6.0]))
    x, y = grid.x[:, columns], grid.y
    centre = shift * smooth((y + 4) / 10)
    trachea = np.sqrt(np.maximum(1 - ((x - centre) / 0.92) ** 2, 0)) * np.clip((carina - y) / 1.0, 0, 1)
    air = np.zeros(grid.shape, np.float32)
    air[:, columns] = 2.6 * trachea
    for sign, run in ((1, 1.35), (-1, 0.95)):
        line = shift + sign * np.maximum(y - carina + 0.5, 0) * run
        near = np.sqrt(np.maximum(1 - ((x - line) / 0.85) ** 2, 0))
        air[:, columns] += 1.3 * near * smooth((y - carina + 0.8) / 1.0) * smooth((carina + 3.3 - y) / 1.5)
    return air


def branch_depth(facts: ImageFacts, grid: Grid, lungs: tuple[Lung, Lung]) -> np.ndarray:
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


def hilar_depth(facts: ImageFacts, grid: Grid) -> np.ndarray:
    """Path through the hilar vessels, in cm."""
    length = lung_length(facts)
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


def cloud(rng: np.random.Generator, grid: Grid, cell: float) -> np.ndarray:
    """Smooth Gaussian noise of about unit variance with structures of `cell` cm, made coarse and enlarged."""
    height, width = grid.shape
    # The coarse grid is anchored in cm, so one seed gives one pattern at any image size.
    rows, columns = (math.ceil(n * grid.step / cell) + 3 for n in (height, width))
    coarse = Image.fromarray(rng.standard_normal((rows, columns), np.float32))
    box = (1.0, 1.0, 1.0 + width * grid.step / cell, 1.0 + height * grid.step / cell)
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC, box=box)) * 1.25


def stomach_gas(facts: ImageFacts, grid: Grid) -> np.ndarray | float:
    radius = facts.anatomy.stomach_gas
    if radius < 0.8:
        return 0.0
    y0 = lung_length(facts) - 0.55 * facts.anatomy.dome_left + radius
    r2 = ((grid.x - 0.47 * facts.anatomy.lung_width) / (1.5 * radius)) ** 2 + ((grid.y - y0) / radius) ** 2
    return 2.0 * radius * np.sqrt(np.maximum(1 - r2, 0))
