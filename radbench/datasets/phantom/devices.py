"""What is not the body: lines, tubes and wires, the burnt-in marker letter and the border of the collimation."""

from __future__ import annotations

import functools

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .anatomy import MU_METAL, Grid, lung_length
from .facts import SCANNERS, ImageFacts


def _spline(points: list[tuple[float, float]], count: int = 24) -> np.ndarray:
    """Catmull-Rom curve through points."""
    p = np.array([points[0], *points, points[-1]], dtype=float)
    t = np.linspace(0, 1, count // (len(points) - 1), endpoint=False)[:, None]
    parts = [
        0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
        for a, b, c, d in zip(p[:-3], p[1:-2], p[2:-1], p[3:], strict=True)
    ]
    return np.concatenate([*parts, p[-1:]])


def device_depth(facts: ImageFacts, grid: Grid) -> np.ndarray | float:
    """Optical depth of lines, tubes and wires."""
    if not facts.acquisition.devices:
        return 0.0
    rng = np.random.default_rng([facts.acquisition.noise_seed, 71])
    length, width = lung_length(facts), facts.anatomy.lung_width
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


def burn_in(image: np.ndarray, facts: ImageFacts, rng: np.random.Generator) -> None:
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
