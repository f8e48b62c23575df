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

from .anatomy import cardiothoracic_ratio
from .facts import (
    LABELS,
    PREVALENCE,
    SCANNERS,
    STRUCTURES,
    Acquisition,
    Anatomy,
    Finding,
    ImageFacts,
    Patient,
    Study,
    draw_patient,
    image_facts,
)
from .imaging import render
from .reports import report
from .sheet import contact_sheet
from .writing import generate

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
