"""Do predicted probabilities mean what they say? Brier score, expected calibration error, recalibration line.

AUPRC and AUROC look at the order of scores only; a probe can rank well and still say 0.9 where 0.3 would be right.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri
from scipy.stats import norm

from .bootstrap import Interval

BINS = 10
#: Resamples with which the interval of the calibration error is content: more of them move its ends by a few percent of its width.
DRAWS = 2000
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


def calibration_gaps(weight: np.ndarray, probability: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """(..., bins) gap of each bin, (sum of probabilities - positives) / images of all bins; above 0 where too much is promised.

    The expected calibration error is the sum of their sizes (Guo et al. 2017, equation 3), a fraction, 0 is best.

    Args:
        weight, probability, positive: (..., bins) images, summed probabilities and positives of each bin.

    >>> gaps = calibration_gaps(np.array([2.0, 2.0]), np.array([0.2, 1.6]), np.array([0.0, 1.0]))
    >>> gaps, np.abs(gaps).sum()
    (array([0.05, 0.15]), np.float64(0.2))
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        return (probability - positive) / weight.sum(axis=-1, keepdims=True)


def boundary_tails(distance: float, alpha: float = 0.05) -> tuple[float, float]:
    """How a test at level ``alpha`` divides its errors between the two sides when the parameter cannot be below 0.

    Feldman and Cousins (1998, section IV.B) order what may be observed by its likelihood ratio, whose denominator is the
    likelihood at the nearest parameter that is possible. A normal observation with mean mu >= 0 and SD 1 is then accepted between
    mu + u and, where mu < u, mu - (mu^2 + u^2) / (2 mu). At mu = 0 all of ``alpha`` lies above; from the two-sided normal
    quantile on, half of it lies on either side. Intervals so made cover everywhere, at the boundary too, and are never empty.

    Args:
        distance: mu, in standard deviations from the boundary; 0 or more.

    Returns:
        (below, above): shares of observations that are rejected as too small and as too large; their sum is ``alpha``.

    >>> boundary_tails(0.0), boundary_tails(3.0)
    ((0.0, 0.05), (0.025, 0.025))
    >>> [round(share, 4) for share in boundary_tails(1.0)]
    [0.0156, 0.0344]
    """
    widest = -ndtri(alpha / 2)
    if distance >= widest:
        return alpha / 2, alpha / 2
    if distance <= 0:
        return 0.0, alpha

    def excess(u: float) -> float:
        return ndtr(-u) + ndtr(-(distance**2 + u**2) / (2 * distance)) - alpha

    above = min(alpha, float(ndtr(-brentq(excess, -ndtri(alpha) - 1e-9, widest + 1e-9))))
    return alpha - above, above


def calibration_interval(gaps: np.ndarray, drawn: np.ndarray, level: float = 0.95) -> Interval:
    """Interval of an expected calibration error, the sum of |gaps|, by inverting a test.

    Noise adds to a sum of absolute values, so the error lies above the truth, and its resamples lie above it once more: no
    percentile of them covers. But the gaps themselves are plain means, whose noise the resamples do show. So ask of each
    possible error t: were the true gaps t s, with sum |s| = 1, and were the resampled noise added to them, would the
    observed error be among the 95 % that are accepted? The interval holds the t of which the answer is yes (Davison and
    Hinkley 1997, chapter 5: inversion of significance tests). An error cannot be below 0, so near 0 the accepted errors reach down
    further than up (:func:`boundary_tails`).

    How the error spreads over the bins, s, is unknown: once it is taken as observed, and once half-way between that and an even
    spread in standard errors, because noise scatters the observed gaps more than the true ones; the interval is the wider of both.
    The lower end is often 0: nothing then speaks against perfect calibration.

    Args:
        gaps: (J,) signed gap of each bin, sum of probabilities minus positives, as a share of the images; of a mean over
            replicates and labels all their bins, divided by the number of replicates and labels.
        drawn: (B, J) the same bins on each resample of patients; ``DRAWS`` are enough.

    Returns:
        Fractions. ``median`` is the error of which half of the studies would show less than was observed: an estimate
        without the bias, which may be 0. An error is at most 1, which is the upper end where there are too few resamples for any
        other (below 39 at 95 %).

    >>> noise = 0.01 * np.linspace(-1, 1, 101)[:, None]
    >>> interval = calibration_interval(np.array([0.1]), 0.1 + noise)
    >>> round(interval.low, 4), round(interval.median, 4), round(interval.high, 4)
    (0.0905, 0.1, 0.1098)
    >>> calibration_interval(np.array([0.002]), 0.002 + noise).low
    0.0
    """
    noise = drawn - gaps
    noise = noise[np.isfinite(noise).all(axis=1)]
    if not len(noise):
        return Interval(np.nan, np.nan, np.nan, np.nan, 0)
    observed, scale = float(np.abs(gaps).sum()), noise.std(axis=0)
    if not gaps.any() and not scale.any():
        return Interval(0.0, 0.0, 0.0, 0.0, len(noise))
    without = np.abs(noise).sum(axis=1)  # what studies would show of perfect probabilities
    furthest = 2 * (observed + float(without.max()))  # every draw exceeds the observed error there
    of_nothing = np.median(without)

    def errors(true: float, shape: np.ndarray) -> np.ndarray:
        """What studies would show whose true error is `true` and spreads like `shape`."""
        return np.abs(true * shape + noise).sum(axis=1)

    def tails(shown: np.ndarray) -> tuple[float, float]:
        rise = np.median(shown) - of_nothing
        return boundary_tails(float(rise / max(shown.std(), 1e-12)), 1 - level)

    def too_small(true: float, shape: np.ndarray) -> float:
        """Above 0 while the observed error is larger than `true` would show."""
        shown = errors(true, shape)
        return observed - float(np.quantile(shown, 1 - tails(shown)[1]))

    def too_large(true: float, shape: np.ndarray) -> float:
        """Above 0 as soon as the observed error is smaller than `true` would show; the observation counts as one of the draws."""
        shown = errors(true, shape)
        return tails(shown)[0] - (1 + np.count_nonzero(shown <= observed)) / (len(shown) + 1)

    def half(true: float, shape: np.ndarray) -> float:
        return observed - float(np.median(errors(true, shape)))

    def crossing(function: Callable[[float, np.ndarray], float], shape: np.ndarray) -> float:
        """Where the function changes its sign; the end of the range where it does not."""
        first, last = function(0.0, shape), function(furthest, shape)
        if first * last >= 0:
            return furthest if function is too_large else 0.0
        return brentq(function, 0.0, furthest, args=(shape,), xtol=1e-6)

    even = np.copysign(scale, gaps) / max(scale.sum(), 1e-300)
    seen = gaps / observed if observed else even
    between = seen + even
    shapes = seen, between / np.abs(between).sum()
    sd = float(np.abs(gaps + noise).sum(axis=1).std(ddof=1)) if len(noise) > 1 else np.nan
    low, high = min(crossing(too_small, one) for one in shapes), max(crossing(too_large, one) for one in shapes)
    return Interval(crossing(half, seen), low, min(1.0, high), sd, len(noise))


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
