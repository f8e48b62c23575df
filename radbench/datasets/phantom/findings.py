"""The findings: each says which share of the air on a ray gives way to tissue. They read the outline of one lung."""

from __future__ import annotations

import numpy as np

from .anatomy import Grid, Lung, cloud, severity_of, smooth
from .facts import EFFUSION, FIBROSIS, OPACITY, THICKENING, ZONES, ImageFacts


def opacity(facts: ImageFacts, grid: Grid, lung: Lung) -> np.ndarray | float:
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
        lumps = 0.62 * cloud(rng, grid, 1.7) + 0.38 * cloud(rng, grid, 0.7)
        envelope = np.exp(-0.5 * r2 * 1.3)
        patch = envelope * np.clip(0.66 + 0.40 * lumps[:, lung.columns], 0, 1.3)
        share = share + (0.13 + 0.85 * finding.severity) * patch
    return np.minimum(share, 0.85)


def fluid(facts: ImageFacts, grid: Grid, lung: Lung) -> np.ndarray | float:
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


def pleural_band(facts: ImageFacts, grid: Grid, lung: Lung) -> np.ndarray | float:
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
    return (0.40 + 0.50 * finding.severity) * smooth((thick - depth) / 0.55 + 0.5) * np.clip(envelope * 2, 0, 1)


def reticulation(facts: ImageFacts, grid: Grid, lung: Lung) -> np.ndarray | float:
    """Share of the air replaced by fibrotic septa: a fine net, densest at the base and under the pleura."""
    severity = severity_of(facts, FIBROSIS)
    if not severity:
        return 0.0
    rng = np.random.default_rng([facts.findings_seed, 61])  # one pattern for both sides, cut differently
    net: np.ndarray | float = 0.0
    for cell, weight in ((1.15, 0.55), (0.72, 0.45)):
        ridges = np.abs(cloud(rng, grid, cell)[:, lung.columns])
        net = net + weight * np.clip(1 - ridges / 0.42, 0, 1)
    base = smooth((lung.down - 0.30) / 0.55)
    rim = np.clip(lung.across, 0, 1) ** 2
    weight = 0.06 + 0.94 * base * (0.45 + 0.55 * rim)
    return (0.12 + 0.80 * severity) * weight * (net + 0.14)
