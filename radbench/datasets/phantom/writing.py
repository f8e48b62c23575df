"""Writing patients as a tidy folder: images, packed masks, reports.csv, metadata.csv last."""

from __future__ import annotations

import csv
import functools
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import MappingProxyType

import numpy as np
from PIL import Image

from ...errors import ConfigError
from .facts import LABELS, LUNG_STRUCTURES, RIB_STRUCTURES, SCANNERS, draw_patient, image_facts
from .imaging import render
from .reports import report

MASK_FILES = {  # file name: structures, bit 0 first
    "{stem}__lungs_zones.png": LUNG_STRUCTURES,
    "{stem}__ribs_left.png": RIB_STRUCTURES["left"],
    "{stem}__ribs_right.png": RIB_STRUCTURES["right"],
}
METADATA_COLUMNS = ("image", "subject_id", "study_id", "view", "sex", "age", "site", "mask", *LABELS)


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


def _packed(masks: list[np.ndarray], dtype: type) -> np.ndarray:
    bits = np.zeros(masks[0].shape, dtype)
    for bit, mask in enumerate(masks):
        bits |= mask.astype(dtype) << dtype(bit)
    return bits
