"""How an image is taken: from attenuation to a grey value, and the masks that go with it."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image
from scipy import ndimage

from .anatomy import (
    MU_LUNG,
    MU_SOFT,
    Aorta,
    Grid,
    Lung,
    air_depth,
    airway_depth,
    aorta_depth,
    body_depth,
    bones,
    branch_depth,
    cloud,
    draw_aorta,
    draw_lung,
    heart_depth,
    hilar_depth,
    stomach_gas,
)
from .devices import burn_in, device_depth
from .facts import LEFT, RIGHT, SCANNERS, STRUCTURES, ZONES, ImageFacts, Side
from .findings import fluid, opacity, pleural_band, reticulation


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
    lungs = (draw_lung(facts, grid, LEFT), draw_lung(facts, grid, RIGHT))
    aorta = draw_aorta(facts, grid)
    heart, vessels_depth = heart_depth(facts, grid), aorta_depth(aorta, grid)
    branches = branch_depth(facts, grid, lungs)
    hila = hilar_depth(facts, grid)
    bone, rib_bits = bones(facts, grid)
    texture = np.random.default_rng([anatomy.texture_seed, 81])
    mottle = 1 + 0.035 * cloud(texture, grid, 2.6) + 0.03 * cloud(texture, grid, 0.8)

    air = np.zeros(grid.shape, np.float32)
    for lung in lungs:
        depth = air_depth(facts, grid, lung)
        columns = lung.columns
        behind_heart = 1 - 0.75 * (heart[:, columns] > 0)  # only the posterior branches are left there
        displaced = heart[:, columns] + vessels_depth[:, columns]
        displaced = displaced + (hila[:, columns] + branches[:, columns]) * behind_heart
        depth = np.maximum(depth - displaced, 0) * mottle[:, columns]
        kept = 1 - np.minimum(opacity(facts, grid, lung) + reticulation(facts, grid, lung), 0.9)
        kept = kept * (1 - fluid(facts, grid, lung)) * (1 - pleural_band(facts, grid, lung))
        air[:, columns] = depth * kept
    body = body_depth(facts, grid)
    gas = stomach_gas(facts, grid) + airway_depth(facts, grid)
    soft = np.maximum(body - air - gas, 0.04 * body)
    optical_depth = MU_SOFT * soft + MU_LUNG * air + bone * np.clip(body / 4, 0, 1) + device_depth(facts, grid)

    tilted = _tilted(optical_depth.astype(np.float32), acquisition.tilt)
    rng = np.random.default_rng(acquisition.noise_seed)
    image = _detected(tilted, facts, rng).astype(np.float32)
    burn_in(image, facts, rng)
    if not masks:
        return image, {}
    return image, _masks(facts, grid, lungs, aorta, heart, rib_bits)


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
