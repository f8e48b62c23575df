"""Do predicted probabilities mean what they say? Brier score, expected calibration error, recalibration line.

AUPRC and AUROC look at the order of scores only; a probe can rank well and still say 0.9 where 0.3 would be right.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BINS = 10


def brier_terms(target: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """(n,) squared distance of each probability to its 0 or 1; the Brier score (1950) is their mean. 0 is best.

    >>> brier_terms(np.array([1, 0]), np.array([0.75, 0.5]))
    array([0.0625, 0.25  ])
    """
    return (np.asarray(probability, dtype=np.float64) - (np.asarray(target) > 0)) ** 2


@dataclass(frozen=True)
class Bins:
    """Images in bins of about equal size by probability; equal probabilities share a bin.

    Attributes:
        of_image: (n,) number of each image's bin.
        count: bins that hold an image.
    """

    of_image: np.ndarray
    count: int


def equal_mass_bins(probability: np.ndarray, bins: int = BINS) -> Bins:
    """Cut at the quantiles of the probabilities (Nixon et al. 2019: equal width leaves bins empty at low prevalence).

    >>> equal_mass_bins(np.array([0.1, 0.2, 0.3, 0.4]), bins=2).of_image
    array([0, 0, 1, 1])
    """
    edges = np.unique(np.quantile(probability, np.linspace(0, 1, bins + 1)[1:-1], method="lower"))
    raw = np.searchsorted(edges, probability, side="left")
    of_image = np.unique(raw, return_inverse=True)[1]
    return Bins(of_image, int(of_image.max()) + 1)


def calibration_error(weight: np.ndarray, probability: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Expected calibration error from sums per bin: sum over bins of |sum of probabilities - positives| / images.

    Args:
        weight, probability, positive: (..., bins) images, summed probabilities and positives of each bin.

    >>> calibration_error(np.array([2.0, 2.0]), np.array([0.2, 1.6]), np.array([0.0, 1.0]))
    np.float64(0.2)
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.abs(probability - positive).sum(axis=-1) / weight.sum(axis=-1)


def recalibration_line(target: np.ndarray, probability: np.ndarray, iterations: int = 100) -> tuple[float, float]:
    """(intercept, slope) of the logistic regression of the target on the logit of the probability (Cox 1958).

    (0, 1) is perfect; a slope below 1 means too extreme, an intercept below 0 too high. NaN for one class, for constant
    probabilities, and where the classes are separated, because the slope is then infinite.

    >>> p = np.repeat([0.2, 0.8], 10)
    >>> y = np.r_[np.ones(2), np.zeros(8), np.ones(8), np.zeros(2)]
    >>> [round(v, 6) + 0.0 for v in recalibration_line(y, p)]
    [0.0, 1.0]
    """
    y = (np.asarray(target) > 0).astype(np.float64)
    p = np.clip(np.asarray(probability, dtype=np.float64), 1e-7, 1 - 1e-7)
    x = np.log(p / (1 - p))
    separated = y.any() and not y.all() and (x[y > 0].min() >= x[y == 0].max() or x[y > 0].max() <= x[y == 0].min())
    if not y.any() or y.all() or np.ptp(x) == 0 or separated:
        return np.nan, np.nan
    design = np.column_stack([np.ones_like(x), x])
    line = np.zeros(2)
    for _ in range(iterations):  # Newton's method on a concave likelihood, halved while a step makes it worse
        fitted = 1 / (1 + np.exp(-design @ line))
        weight = fitted * (1 - fitted)
        step = np.linalg.solve((design * weight[:, None]).T @ design + 1e-12 * np.eye(2), design.T @ (y - fitted))
        scale = 1.0
        while scale > 1e-6 and _log_likelihood(design, y, line + scale * step) < _log_likelihood(design, y, line):
            scale /= 2
        line = line + scale * step
        if np.abs(step).max() < 1e-10:
            break
    return float(line[0]), float(line[1])


def _log_likelihood(design: np.ndarray, y: np.ndarray, line: np.ndarray) -> float:
    score = design @ line
    return float(y @ score - np.logaddexp(0, score).sum())
