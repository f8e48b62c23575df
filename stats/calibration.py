"""Do predicted probabilities mean what they say? Brier score, expected calibration error, recalibration line.

AUPRC and AUROC look at the order of scores only; a probe can rank well and still say 0.9 where 0.3 would be right.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

BINS = 10
#: Columns of a recalibration line, in the order of `Line`.
LINE_COLUMNS = tuple(f"calibration_{name}{end}" for name in ("intercept", "slope") for end in ("", "_low", "_high"))


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


@dataclass(frozen=True)
class Line:
    """Intercept and slope of a recalibration line, each (value, low, high) with its 95 % interval; NaN where there is none."""

    intercept: tuple[float, float, float]
    slope: tuple[float, float, float]


def recalibration_line(target: np.ndarray, probability: np.ndarray, patients: np.ndarray | None = None) -> Line:
    """Logistic regression of the target on the logit of the probability (Cox 1958), mean over replicates.

    (0, 1) is perfect; a slope below 1 means too extreme, an intercept below 0 too high. NaN for one class, for constant
    probabilities, and where the classes are separated, because the slope is then infinite.

    Intervals are estimate +- 1.96 SE. The SE is the sandwich over patients (Liang and Zeger 1986): an image moves the fit by its
    influence H^-1 x (y - fitted), the influences of a patient's images are added up, and their outer products over patients
    are the covariance, times G / (G - 1) (n - 1) / (n - 2) for G patients and n images. Of the mean over replicates the influence
    is the mean, whose sum over a patient holds all replicates: they share the patients, and nothing is assumed about how much.

    Args:
        target: (n,).
        probability: (n,), or (R, n) of R replicates.
        patients: (n,) patient of each image; None means that every image stands for itself.

    >>> p = np.repeat([0.2, 0.8], 10)
    >>> y = np.r_[np.ones(2), np.zeros(8), np.ones(8), np.zeros(2)]
    >>> line = recalibration_line(y, p)
    >>> [round(v, 6) + 0.0 for v in line.intercept], [round(v, 6) for v in line.slope]
    ([0.0, -1.15492, 1.15492], [1.0, 0.166901, 1.833099])
    """
    y = (np.asarray(target) > 0).astype(np.float64)
    fits = [_fit(y, one) for one in np.atleast_2d(np.asarray(probability, dtype=np.float64))]
    value = np.mean([line for line, _ in fits], axis=0)
    influence = np.mean([one for _, one in fits], axis=0)
    group = np.arange(y.size) if patients is None else np.unique(np.asarray(patients).astype(str), return_inverse=True)[1]
    sums = np.column_stack([np.bincount(group, weights=column) for column in influence.T])
    n, groups = y.size, len(sums)
    factor = groups / (groups - 1) * (n - 1) / (n - 2) if groups > 1 and n > 2 else np.nan  # one patient has no spread
    reach = norm.ppf(0.975) * np.sqrt(factor * (sums**2).sum(axis=0))
    return Line(*((float(v), float(v - r), float(v + r)) for v, r in zip(value, reach, strict=True)))


def _fit(y: np.ndarray, probability: np.ndarray, iterations: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """(2,) intercept and slope, and (n, 2) influence of each image on them; NaN where no line exists."""
    p = np.clip(probability, 1e-7, 1 - 1e-7)
    x = np.log(p / (1 - p))
    separated = y.any() and not y.all() and (x[y > 0].min() >= x[y == 0].max() or x[y > 0].max() <= x[y == 0].min())
    if not y.any() or y.all() or np.ptp(x) == 0 or separated:
        return np.full(2, np.nan), np.full((y.size, 2), np.nan)
    design = np.column_stack([np.ones_like(x), x])
    line = np.zeros(2)
    for _ in range(iterations):  # Newton's method on a concave likelihood, halved while a step makes it worse
        gradient, hessian = _derivatives(design, y, line)
        step = np.linalg.solve(hessian, gradient.sum(axis=0))
        scale = 1.0
        while scale > 1e-6 and _log_likelihood(design, y, line + scale * step) < _log_likelihood(design, y, line):
            scale /= 2
        line = line + scale * step
        if np.abs(step).max() < 1e-10:
            break
    gradient, hessian = _derivatives(design, y, line)
    return line, np.linalg.solve(hessian, gradient.T).T


def _derivatives(design: np.ndarray, y: np.ndarray, line: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n, 2) gradient of each image's log likelihood, and the negative Hessian of their sum, kept from being singular."""
    fitted = 1 / (1 + np.exp(-design @ line))
    weight = fitted * (1 - fitted)
    return design * (y - fitted)[:, None], (design * weight[:, None]).T @ design + 1e-12 * np.eye(2)


def _log_likelihood(design: np.ndarray, y: np.ndarray, line: np.ndarray) -> float:
    score = design @ line
    return float(y @ score - np.logaddexp(0, score).sum())
