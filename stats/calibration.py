"""Do predicted probabilities mean what they say? Brier score, expected calibration error, recalibration line.

AUPRC and AUROC look at the order of scores only; a probe can rank well and still say 0.9 where 0.3 would be right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, ndtr, ndtri
from scipy.stats import norm

from .bootstrap import Interval
from .predictions import Cohort

BINS = 10
#: Resamples with which the interval of the calibration error is content: more of them move its ends by a few percent of its width.
DRAWS = 2000
#: Probabilities count as at least this far from 0 and 1, which have no log odds.
EDGE = 1e-7
#: Columns of reliability.csv.
RELIABILITY_COLUMNS = ("task", "dataset", "encoder", "target", "bin", "n_images", "probability", "observed")
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


@dataclass(frozen=True)
class Gaps:
    """How far the bins of a calibration error are from what was said, and what chance does to them. All are shares of the images.

    Attributes:
        gap: (J,) summed probabilities - positives of each bin; above 0 where too much is promised. The expected calibration error is
            the sum of their sizes (Guo et al. 2017, equation 3), a fraction, 0 is best.
        said: (J,) summed probabilities of each bin.
        size: (J,) images of each bin.
        image: (J,) what one image weighs: 1 / images, or of a mean its share of that.
        drawn, drawn_size: (B, J) gap and size on each resample of patients.

    >>> gaps = Gaps.of(np.array([[2.0, 2.0], [0.2, 1.6], [0.0, 1.0]]), np.array([[[1.0, 3.0], [0.1, 2.4], [0.0, 1.0]]]))
    >>> gaps.gap, np.abs(gaps.gap).sum(), gaps.drawn, gaps.drawn_size
    (array([0.05, 0.15]), np.float64(0.2), array([[0.025, 0.35 ]]), array([[0.25, 0.75]]))
    """

    gap: np.ndarray
    said: np.ndarray
    size: np.ndarray
    image: np.ndarray
    drawn: np.ndarray
    drawn_size: np.ndarray

    @classmethod
    def of(cls, sums: np.ndarray, drawn: np.ndarray) -> Gaps:
        """From (3, J) images, summed probabilities and positives of each bin, and (B, 3, J) the same on each resample."""
        size, said, positive = sums / sums[0].sum()
        with np.errstate(invalid="ignore", divide="ignore"):  # a resample without any image: NaN
            shares = drawn / drawn[:, :1].sum(axis=2, keepdims=True)
        weight = np.full(size.shape, 1 / sums[0].sum())
        return cls(said - positive, said, size, weight, shares[:, 1] - shares[:, 2], shares[:, 0].copy())  # a view would keep all three

    @classmethod
    def mean(cls, parts: Sequence[Gaps]) -> Gaps:
        """Of a mean over replicates or labels: all their bins, so weighted that their sizes add up to the mean of the errors."""
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts], axis=-1) / len(parts) for field in fields(cls)))

    def variance(self, gap: np.ndarray) -> np.ndarray:
        """(J,) of each bin if its true gap were ``gap`` and images independent: binomial, of the positives there would then be."""
        positive = np.clip(self.said - gap, 0, self.size)
        return self.image * positive * (1 - positive / self.size)


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


def calibration_interval(gaps: Gaps, level: float = 0.95) -> Interval:
    """Interval of an expected calibration error, the sum of |gaps|, by inverting a test.

    Noise adds to a sum of absolute values, so the error lies above the truth, and its resamples lie above it once more: no
    percentile of them covers. So ask of each possible error t: were the true gaps t s, with sum |s| = 1, and were noise added to them,
    would the observed error be among the 95 % that are accepted? The interval holds the t of which the answer is yes (Davison and
    Hinkley 1997, chapter 5: inversion of significance tests). An error cannot be below 0, so near 0 the accepted errors reach down
    further than up (:func:`boundary_tails`).

    A study whose true gaps are c would show r (c + z SE(c)). r is the size of a bin on a resample over its size: how many images fall
    into it moves its gap in proportion. z SE(c) is the noise of the positives among them, normal with the size that it would have
    under c: binomial, times the bin's design effect, the ratio of the resampled to the binomial variance under the observed gaps;
    z has the correlations of the resamples. Size and shape of the resamples themselves hang on the positives that happened to be
    there: of none, they show no noise. Positives are whole images, from none to all of a bin, so they are rounded: of one bin
    this is Wilson's score interval with correction for continuity (Wilson 1927, Journal of the American Statistical Association
    22:209-212; Newcombe 1998, Statistics in Medicine 17:857-872). The error of a c that no bin can hold is that of what is left.

    How the error spreads over the bins, s, is unknown: once it is taken as observed, and once half-way between that and an even
    spread in standard errors, because noise scatters the observed gaps more than the true ones; the interval is the wider of both.
    The lower end is often 0: nothing then speaks against perfect calibration.

    Args:
        gaps: ``DRAWS`` resamples are enough.

    Returns:
        Fractions. ``median`` is the error of which half of the studies would show less than was observed: an estimate
        without the bias, which may be 0. The upper end is the largest error that the bins can hold, at most 1, where there are too few
        resamples to refuse any (below 39 at 95 %). ``sd`` is NaN: no interval is made of it.

    >>> def one_bin(gap):  # of 2,500 images, half of which were said to be positive; the SD of its noise is 0.01
    ...     drawn = gap + 0.01 * ndtri((np.arange(2000)[:, None] + 0.5) / 2000)
    ...     return Gaps(np.array([gap]), np.array([0.5]), np.ones(1), np.array([1 / 2500]), drawn, np.ones((2000, 1)))
    >>> interval = calibration_interval(one_bin(0.1))
    >>> round(interval.low, 2), round(interval.median, 2), round(interval.high, 2)
    (0.08, 0.1, 0.12)
    >>> calibration_interval(one_bin(0.002)).low
    0.0
    """
    finite = np.isfinite(gaps.drawn).all(axis=1)
    drawn, ratio = gaps.drawn[finite], gaps.drawn_size[finite] / gaps.size
    if not len(drawn):
        return Interval(np.nan, np.nan, np.nan, np.nan, 0)
    observed = float(np.abs(gaps.gap).sum()) - 1e-12  # what is shown can be cut to the very same number, and is then not below it
    standard, design_effect = _noise(gaps, drawn - ratio * gaps.gap)
    all_positive, none_positive = gaps.said - gaps.size, gaps.said

    def standard_error(true: np.ndarray) -> np.ndarray:
        return np.sqrt(design_effect * gaps.variance(true))

    def true_gaps(error: float, shape: np.ndarray) -> np.ndarray:
        return np.clip(error * shape, all_positive, none_positive)

    def errors(error: float, shape: np.ndarray) -> np.ndarray:
        """What studies would show whose true error is `error` and spreads like `shape`."""
        true = true_gaps(error, shape)
        positive = standard * (standard_error(true) / gaps.image)  # symmetric: its sign does not matter
        positive += (gaps.said - true) / gaps.image
        np.minimum(np.maximum(np.rint(positive, out=positive), 0, out=positive), gaps.size / gaps.image, out=positive)
        positive *= gaps.image
        shown = np.subtract(gaps.said, positive, out=positive)
        return np.einsum("bj,bj->b", np.abs(shown, out=shown), ratio)

    def tails(shown: np.ndarray) -> tuple[float, float]:
        rise = np.median(shown) - of_nothing
        return boundary_tails(float(rise / max(shown.std(), 1e-12)), 1 - level)

    def too_small(error: float, shape: np.ndarray) -> float:
        """Above 0 while the observed error is larger than `error` would show."""
        shown = errors(error, shape)
        return observed - float(np.quantile(shown, 1 - tails(shown)[1]))

    def too_large(error: float, shape: np.ndarray) -> float:
        """Above 0 as soon as the observed error is smaller than `error` would show; the observation counts as one of the draws."""
        shown = errors(error, shape)
        return tails(shown)[0] - (1 + np.count_nonzero(shown <= observed + 2e-12)) / (len(shown) + 1)

    def half(error: float, shape: np.ndarray) -> float:
        return observed - float(np.median(errors(error, shape)))

    def crossing(function: Callable[[float, np.ndarray], float], shape: np.ndarray) -> float:
        """The error at which the function changes its sign; none or the largest where it does not."""
        room = np.where(shape > 0, none_positive, -all_positive)[shape != 0]
        furthest = float((room / np.abs(shape[shape != 0])).max())  # no bin can hold more
        below, start, end = function(0.0, shape) > 0, 0.0, min(furthest, max(observed, of_nothing, 1e-6))
        if not below and function is not too_large:
            return 0.0
        while (function(end, shape) > 0) == below and end < furthest:
            start, end = end, min(2 * end, furthest)
        if (function(end, shape) > 0) != below:
            end = brentq(function, start, end, args=(shape,), xtol=1e-6)
        return float(np.abs(true_gaps(end, shape)).sum())

    sign = np.where(gaps.gap == 0, np.where(gaps.said < gaps.size / 2, -1, 1), np.sign(gaps.gap))  # to where there is room
    scale = standard_error(np.zeros_like(gaps.gap))
    scale = scale if scale.any() else gaps.size  # nothing but noughts and ones was said
    even = sign * scale / scale.sum()
    seen = gaps.gap / np.abs(gaps.gap).sum() if gaps.gap.any() else even
    of_nothing = float(np.median(errors(0.0, even)))
    between = seen + even
    shapes = seen, between / np.abs(between).sum()
    low, high = min(crossing(too_small, one) for one in shapes), max(crossing(too_large, one) for one in shapes)
    return Interval(crossing(half, seen), low, high, np.nan, len(drawn))


def _noise(gaps: Gaps, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(B, J) standard normal numbers that are correlated as `noise` (B, J) is; (J,) design effects.

    The same normal numbers at every call, mixed by the symmetric square root of the correlations. That root is unique: another root, such
    as numpy's for `multivariate_normal`, turns with the last digit of the correlations, so that two machines would draw two samples.
    One positive image with a design effect of 1 is added to each bin, which may hold none.
    """
    covariance = np.cov(noise, rowvar=False, ddof=0).reshape(len(gaps.gap), -1)
    variance, one_image = np.diag(covariance), gaps.image**2
    still = variance < 1e-9 * one_image  # no more than what rounding leaves of 0, which has correlations too, but of chance
    sd = np.sqrt(np.where(still, 1.0, variance))
    correlation = np.where(still | still[:, None], np.eye(len(sd)), covariance / np.outer(sd, sd))
    effect = (variance + one_image) / (gaps.variance(gaps.gap) + one_image)
    power, axes = np.linalg.eigh(correlation)
    root = (axes * np.sqrt(np.maximum(power, 0))) @ axes.T
    return np.random.default_rng(0).standard_normal(noise.shape) @ root, effect


@dataclass(frozen=True)
class Line:
    """What is wrong with probabilities on the whole, each (value, low, high) with its 95 % interval; NaN where there is none.

    Attributes:
        intercept: with the slope held at 1, log odds: 0 is perfect, below 0 the probabilities are too high on the whole.
        slope: of the line with both free: 1 is perfect, between 0 and 1 too extreme, above 1 too timid, below 0 in reverse order.
    """

    intercept: tuple[float, float, float]
    slope: tuple[float, float, float]


def recalibration_line(target: np.ndarray, probability: np.ndarray, patients: np.ndarray | None = None) -> Line:
    """Logistic regressions of the target on the logit of the probability (Cox 1958), mean over replicates.

    The slope is that of logit P(y = 1) = b0 + b logit p. Its b0 is the log odds where p is 1/2, which tells little: a probe that is too
    extreme and too low on the whole has one below 0. So the intercept is that of logit P(y = 1) = a + logit p, the *calibration in the
    large* (Van Calster et al. 2019, BMC Medicine 17:230): what must be added to all log odds to make the probabilities add up to the
    positives. It is below 0 exactly where they add up to more. Neither exists for one class, for constant probabilities, and where
    the classes are separated (the slope is then infinite), nor the intercept where nothing but 0 and 1 is said, which have no odds.

    Intervals are estimate +- 1.96 SE. The SE is the sandwich over patients (Liang and Zeger 1986): an image moves the fit by its
    influence H^-1 x (y - fitted), the influences of a patient's images are added up, and their outer products over patients
    are the covariance, times G / (G - 1) (n - 1) / (n - k) for G patients, n images and k numbers fitted (2 for the slope, 1 for the
    intercept). Of the mean over replicates the influence
    is the mean, whose sum over a patient holds all replicates: they share the patients, and nothing is assumed about how much.

    Args:
        target: (n,).
        probability: (n,), or (R, n) of R replicates.
        patients: (n,) patient of each image; None means that every image stands for itself.

    >>> p = np.repeat([0.2, 0.8], 10)
    >>> y = np.r_[np.ones(2), np.zeros(8), np.ones(8), np.zeros(2)]
    >>> line = recalibration_line(y, p)
    >>> [round(v, 4) + 0.0 for v in line.intercept], [round(v, 4) for v in line.slope]
    ([0.0, -1.1241, 1.1241], [1.0, 0.1669, 1.8331])
    """
    y = (np.asarray(target) > 0).astype(np.float64)
    fits = [_line(y, one) for one in np.atleast_2d(np.asarray(probability, dtype=np.float64))]
    value = np.mean([line for line, _ in fits], axis=0)
    influence = np.mean([one for _, one in fits], axis=0)
    group = np.arange(y.size) if patients is None else np.unique(np.asarray(patients).astype(str), return_inverse=True)[1]
    sums = np.column_stack([np.bincount(group, weights=column) for column in influence.T])
    n, groups = y.size, len(sums)
    factor = groups / (groups - 1) * np.array([1.0, (n - 1) / (n - 2)]) if groups > 1 and n > 2 else np.nan  # one patient: no spread
    reach = norm.ppf(0.975) * np.sqrt(factor * (sums**2).sum(axis=0))
    return Line(*((float(v), float(v - r), float(v + r)) for v, r in zip(value, reach, strict=True)))


def _line(y: np.ndarray, probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(2,) intercept with the slope held at 1 and slope, and (n, 2) influence of each image on them; NaN where there is none."""
    p = np.clip(probability, EDGE, 1 - EDGE)
    x = np.log(p / (1 - p))
    separated = y.any() and not y.all() and (x[y > 0].min() >= x[y == 0].max() or x[y > 0].max() <= x[y == 0].min())
    if not y.any() or y.all() or np.ptp(x) == 0 or separated:
        return np.full(2, np.nan), np.full((y.size, 2), np.nan)
    (a, of_a), (b, of_b) = _in_the_large(y, x), _slope(y, x)
    return np.array([a, b]), np.column_stack([of_a, of_b])


def _in_the_large(y: np.ndarray, x: np.ndarray) -> tuple[float, np.ndarray]:
    """a of logit P(y = 1) = a + x, and (n,) influence of each image on it; NaN where x is at its limits only."""
    if np.abs(x).min() >= np.log(1 / EDGE - 1) - 1e-9:
        return np.nan, np.full(y.size, np.nan)
    share = np.log(y.mean() / (1 - y.mean()))  # the fitted are all below the share of positives at one end, and above it at the other
    a = float(brentq(lambda a: float((y - expit(a + x)).sum()), share - x.max() - 1e-3, share - x.min() + 1e-3, xtol=1e-12))
    fitted = expit(a + x)
    return a, (y - fitted) / (fitted * (1 - fitted)).sum()


def _slope(y: np.ndarray, x: np.ndarray, iterations: int = 100) -> tuple[float, np.ndarray]:
    """b of logit P(y = 1) = b0 + b x, and (n,) influence of each image on it."""
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
    return float(line[1]), np.linalg.solve(hessian, gradient.T)[1]


def _derivatives(design: np.ndarray, y: np.ndarray, line: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n, 2) gradient of each image's log likelihood, and the negative Hessian of their sum, kept from being singular."""
    fitted = 1 / (1 + np.exp(-design @ line))
    weight = fitted * (1 - fitted)
    return design * (y - fitted)[:, None], (design * weight[:, None]).T @ design + 1e-12 * np.eye(2)


def _log_likelihood(design: np.ndarray, y: np.ndarray, line: np.ndarray) -> float:
    score = design @ line
    return float(y @ score - np.logaddexp(0, score).sum())


def reliability_rows(cohort: Cohort) -> Iterator[dict[str, Any]]:
    """Rows of reliability.csv: per bin of equal size, the mean probability (over replicates) and the share that was positive.

    Both are fractions; the bins are those of :func:`equal_mass_bins` on the mean over replicates. Nothing for other
    tasks, nor for an encoder with a score outside [0, 1].
    """
    if cohort.task != "linear_probe":
        return
    for predictions in cohort.present:
        if not predictions.rows["score"].between(0, 1).all():
            continue
        for label, rows in predictions.rows.groupby("label", sort=True):
            images = rows.groupby("image_id", sort=True).agg(score=("score", "mean"), target=("target", "first"))
            score, target = images["score"].to_numpy(dtype=np.float64), images["target"].to_numpy() > 0
            bins = equal_mass_bins(score)
            for k in range(bins.count):
                inside = bins.of_image == k
                yield {"task": cohort.task, "dataset": cohort.dataset, "encoder": predictions.encoder, "target": label, "bin": k,
                       "n_images": int(inside.sum()), "probability": score[inside].mean(), "observed": target[inside].mean()}  # fmt: skip
