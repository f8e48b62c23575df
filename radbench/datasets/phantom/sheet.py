"""A contact sheet, for looking at what was drawn."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from .facts import AORTA, CARDIOMEGALY, EFFUSION, FIBROSIS, LABELS, OPACITY, RIBS, THICKENING
from .writing import MASK_FILES


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
