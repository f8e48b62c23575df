"""Resampling of patients, shared by every encoder, metric and label of a dataset.

The unit is the patient: images of one patient resemble each other, so resampling images would pretend to have more
independent evidence than there is (Davison and Hinkley 1997, section 3.8, cluster bootstrap). One matrix of counts per
dataset serves everybody, which makes every comparison paired by construction and costs nothing.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, stdtrit
from scipy.stats import norm

#: Normal quantiles between which those of t are interpolated, to less than a thousandth of their size.
GRID = np.linspace(-6.0, 6.0, 481)
#: Resamples multiplied at once, to bound the float64 copy of the counts.
BLOCK_RESAMPLES = 1024


@dataclass(frozen=True)
class PatientResamples:
    """How often each patient occurs in each resample: one draw for every encoder, metric and label of a dataset.

    Attributes:
        patients: (P,) sorted unique patient ids.
        counts: (B, P) int32, 0 or more; each row sums to P (in :func:`leave_some_out` to P less the group that is out).

    >>> draws = PatientResamples(np.array(["p", "q"], dtype=object), np.array([[1, 1], [2, 0]], dtype=np.int32))
    >>> images = np.array(["p", "q", "p"], dtype=object)
    >>> draws.of_images(images)
    array([[1, 1, 1],
           [2, 0, 2]], dtype=uint16)
    >>> sums = draws.patient_sums(images, np.array([1.0, 5.0, 2.0]))
    >>> sums, draws.resampled(sums)
    (array([3., 5.]), array([8., 6.]))
    """

    patients: np.ndarray
    counts: np.ndarray

    def first(self, resamples: int) -> PatientResamples:
        """The first ``resamples`` rows; itself when there are no more than that."""
        return self if len(self.counts) <= resamples else PatientResamples(self.patients, self.counts[:resamples])

    def positions(self, patient_ids: np.ndarray) -> np.ndarray:
        """(n,) column of ``counts`` that belongs to each image's patient.

        Every id must be one of ``patients``, which is not checked: another one gets a neighbour's column, or one past the last.
        """
        return np.searchsorted(self.patients, patient_ids)

    @functools.cached_property
    def _by_patient(self) -> np.ndarray:
        return np.ascontiguousarray(self.counts.T, dtype=np.uint16)

    def of_images(self, patient_ids: np.ndarray) -> np.ndarray:
        """(B, n) uint16: an image occurs as often as its patient.

        Laid out image by image in memory, because ranking adds up rows of images.
        """
        return self._by_patient[self.positions(patient_ids)].T

    def patient_sums(self, patient_ids: np.ndarray, values: np.ndarray) -> np.ndarray:
        """(P, ...) float64 sums of per-image ``values`` (n, ...) over the images of each patient; 0 for a patient without images."""
        sums = np.zeros((self.patients.size, *values.shape[1:]))
        np.add.at(sums, self.positions(patient_ids), values)
        return sums

    def resampled(self, patient_sums: np.ndarray) -> np.ndarray:
        """(B, ...) totals of per-patient sums (P, ...) in each resample, ``counts @ patient_sums``: one matrix product."""
        flat = patient_sums.reshape(self.patients.size, -1)
        blocks = [
            self.counts[start : start + BLOCK_RESAMPLES].astype(np.float64) @ flat for start in range(0, len(self.counts), BLOCK_RESAMPLES)
        ]
        return np.concatenate(blocks).reshape(-1, *patient_sums.shape[1:])


def generator(seed: int, patients: Iterable[str], purpose: str) -> np.random.Generator:
    """Random numbers that depend on the seed, the sorted patient ids and the purpose, and on nothing else.

    So adding an encoder to a table, or a label to a dataset, moves no interval of the others. PCG64 is seeded with the SHA-256 of
    the three, so two purposes ("bootstrap", "sign flip") draw independently of each other.

    >>> one, same, other = (generator(0, ["p1", "p2"], purpose).random() for purpose in ("bootstrap", "bootstrap", "sign flip"))
    >>> one == same, one == other
    (True, False)
    """
    text = "\n".join([purpose, str(seed), *patients])
    return np.random.Generator(np.random.PCG64(int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")))


def resample_patients(
    patient_ids: Iterable[str], resamples: int, seed: int, strata: Mapping[str, str] | None = None
) -> PatientResamples:  # fmt: skip
    """Draw P patients with replacement, ``resamples`` times: each row of counts is multinomial(P; 1/P, ..., 1/P).

    Args:
        patient_ids: any iterable of ids; repeats and order do not matter.
        resamples: B >= 1.
        seed: any integer.
        strata: stratum of each patient; each is then resampled to its own size, so its share is the same in every
            resample and the interval describes studies of exactly this mix (Davison and Hinkley 1997, section 3.2).

    Raises:
        KeyError: ``strata`` lacks a patient.

    >>> a = resample_patients(["p2", "p1", "p3", "p1"], resamples=4, seed=0)
    >>> a.counts.sum(axis=1)
    array([3, 3, 3, 3])
    >>> (a.counts == resample_patients(["p3", "p2", "p1"], resamples=4, seed=0).counts).all()
    np.True_
    """
    patients = np.array(sorted(set(patient_ids)), dtype=object)
    random = generator(seed, patients, "bootstrap")
    if strata is None:
        groups = [np.arange(patients.size)]
    else:
        name_of = np.array([strata[patient] for patient in patients])
        groups = [np.flatnonzero(name_of == name) for name in np.unique(name_of)]
    counts = np.empty((resamples, patients.size), dtype=np.int32)
    for row in counts:
        for group in groups:
            row[group] = np.bincount(random.integers(group.size, size=group.size), minlength=group.size)
    return PatientResamples(patients, counts)


def leave_some_out(resamples: PatientResamples, groups: int = 200) -> PatientResamples:
    """The jackknife in the form of resamples: each row has every patient once, except one group of patients.

    With as many groups as patients it is the delete-one jackknife; fewer groups estimate the same acceleration from
    means of groups, at a cost that does not grow with the square of the patients. Patient i is in group i mod G.

    Args:
        groups: at most this many; G = min(groups, P) rows are returned.

    >>> draws = PatientResamples(np.array(["p", "q", "r"], dtype=object), np.ones((1, 3), dtype=np.int32))
    >>> leave_some_out(draws).counts
    array([[0, 1, 1],
           [1, 0, 1],
           [1, 1, 0]], dtype=int32)
    """
    size = resamples.patients.size
    group_of = np.arange(size) % min(groups, size)
    counts = (group_of[None, :] != np.arange(min(groups, size))[:, None]).astype(np.int32)
    return PatientResamples(resamples.patients, counts)


def replicate_weights(replicates: int, resamples: int, seed: int) -> np.ndarray:
    """(B, R) weight of each of R >= 1 replicates (folds, seeds) in a draw of R with replacement; rows sum to 1.

    A draw of so few has a variance (R - 1) / R of what it should be, so its shares are stretched about 1 / R by
    sqrt(R / (R - 1)) (Rao and Wu 1988, Journal of the American Statistical Association 83:231-241); a replicate that is not drawn
    then has a weight a little below 0.

    >>> weights = replicate_weights(2, 1000, seed=0)
    >>> weights.sum(axis=1)[:3], [float(round(w, 3)) for w in np.unique(weights.round(9))]
    (array([1., 1., 1.]), [-0.207, 0.5, 1.207])
    """
    random = generator(seed, [str(replicates)], "replicates")
    shares = random.multinomial(replicates, np.full(replicates, 1 / replicates), size=resamples) / replicates
    stretch = np.sqrt(replicates / (replicates - 1)) if replicates > 1 else 1.0
    return 1 / replicates + stretch * (shares - 1 / replicates)


def interaction_variance(replicates: np.ndarray, replicate_samples: np.ndarray) -> float:
    """Variance between training runs that comes from how each happens to suit this sample of patients; 0 or more.

    On one sample of patients, runs differ by their training (T) and by that accident (I): their variance s^2 has the expectation
    T + I. On a resample of the patients they differ by a second accident, and the mean variance s*^2 of the resamples has T + 2 I; so
    I is estimated by mean s*^2 - s^2.

    Args:
        replicates: (R,) the metric of each run on the data.
        replicate_samples: (R, B) on each resample of patients; resamples on which it is not finite are left out.

    Returns:
        A variance of single runs (ddof 1), not of their mean; NaN for R < 2 and without a finite resample.

    >>> runs = np.array([0.6, 0.8])  # s^2 = 0.02
    >>> same, apart = np.array([[0.5, 0.7], [0.7, 0.9]]), np.array([[0.5, 0.7], [0.74, 0.94]])  # s*^2 = 0.02; 0.0288
    >>> round(interaction_variance(runs, same), 4), round(interaction_variance(runs, apart), 4)
    (0.0, 0.0088)
    """
    if len(replicates) < 2:
        return np.nan
    apart = replicate_samples - replicate_samples.mean(axis=0)  # NaN on a resample where one of them is
    again = np.einsum("rb,rb->b", apart, apart) / (len(replicates) - 1)
    valid = again[np.isfinite(again)]
    return max(0.0, float(valid.mean() - replicates.var(ddof=1))) if valid.size else np.nan


def patient_variance(of_mean: float, training: float, interaction: float) -> float:
    """Part of the variance over patients of a mean over training runs that the scatter of the runs does not hold: p.

    Both hold what patients do to single runs, f I, so p = v - f I for a sum that has it once. I and s^2 of a handful of runs are rough,
    and f I can come out larger than it is while f s^2 comes out small; v is less than the true sum, so p + f s^2 is kept at v / 2
    or above. (Kept at v, it would on average be so large that tests at 5 % find something in 2 to 4 % of equal encoders.)

    Args:
        of_mean: v, the variance of the mean over these very runs on resamples of the patients.
        training: f s^2, see :func:`two_level`.
        interaction: f I, see :func:`interaction_variance`.

    >>> patient_variance(5.0, 2.0, 1.0), patient_variance(5.0, 2.0, 9.0), patient_variance(5.0, 4.0, 9.0)
    (4.0, 0.5, 0.0)
    """
    return float(np.max([0.0, of_mean - interaction, of_mean / 2 - training]))  # NaN stays NaN


def two_level(replicates: np.ndarray, replicate_samples: np.ndarray, weights: np.ndarray, overlap: float = 0.0) -> np.ndarray:
    """(B,) mean over drawn training runs of the metric on drawn patients: both sources of variance at once.

    Every run scores the same test patients, so runs and patients are crossed and drawn on their own. With f = 1 / R + overlap,

        D_b  = sqrt(p / v) (mean over r of T_rb - M) + sqrt(R f) sum over r of w_br T_r        p = v - f I (:func:`patient_variance`)
        T*_b = M + S q(D_b / S)                              S^2 = p + f s^2, q(z) = the quantile of t(nu) at Phi(z)

    where M and v are mean and variance of the patients' draws of the mean, s^2 the variance of the runs (ddof 1) and I the
    interaction (:func:`interaction_variance`). Runs scatter by I on these very patients, so f s^2 has it and p must not: a crossed
    bootstrap that draws T_rb with w_br would count it three times (Owen 2007, Annals of Applied Statistics 1:386-411). A handful of
    runs shows its own scatter roughly; q gives the draws the tails of t with Satterthwaite's nu = (R - 1) (S^2 / (f s^2))^2, as
    :func:`stats.paired.p_corrected_resampled_t` has them, and changes nothing where patients make up nearly all of S^2.

    Args:
        replicates: (R,) the metric of each run on the data, R >= 2.
        replicate_samples: (R, B) the metric of each run on each resample of patients; NaN, where one is undefined, gives NaN.
        weights: (B, R) from :func:`replicate_weights`.
        overlap: rho / (1 - rho) for runs whose training is correlated by rho: 0 where they are independent of each other (seeds),
            R - 2 for R folds of one training set.

    >>> from scipy.stats import t
    >>> runs, same = np.array([0.4, 0.5, 0.6]), np.array([[0.4] * 3, [0.5] * 3, [0.6] * 3])  # no patient matters: S = 0.1 / sqrt(3)
    >>> drawn = two_level(runs, same, np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]))  # 0.1 is sqrt(3) S
    >>> drawn.round(4), round(0.1 / np.sqrt(3) * t.ppf(norm.cdf(np.sqrt(3)), 2), 4)
    (array([0.3126, 0.5   , 0.6874]), np.float64(0.1874))
    """
    runs, means = len(replicates), replicate_samples.mean(axis=0)
    known = means[np.isfinite(means)]
    factor, scatter = 1 / runs + overlap, replicates.var(ddof=1)
    if known.size < 2 or scatter == 0:
        return means
    middle, drawn = known.mean(), known.var(ddof=1)
    patients = patient_variance(drawn, factor * scatter, factor * interaction_variance(replicates, replicate_samples))
    luck = np.sqrt(runs * factor) * (weights @ (replicates - replicates.mean()))
    moved = (np.sqrt(patients / drawn) * (means - middle) if drawn > 0 else means - middle) + luck
    variance = patients + factor * scatter
    freedom = min((runs - 1) * (variance / (factor * scatter)) ** 2, 1e12)
    quantiles = np.interp(moved / np.sqrt(variance), GRID, stdtrit(freedom, ndtr(GRID)))
    return middle + np.sqrt(variance) * quantiles


@dataclass(frozen=True)
class Interval:
    """Percentile summary of a statistic's resamples, in the statistic's own unit; NaN everywhere when none is valid.

    Attributes:
        median, low, high: percentiles of the valid resamples.
        sd: their SD (ddof 1), the bootstrap standard error; NaN with fewer than two.
        valid: how many were finite.
    """

    median: float
    low: float
    high: float
    sd: float
    valid: int


def percentile_interval(samples: np.ndarray, level: float = 0.95) -> Interval:
    """Median and central ``level`` interval of the valid (finite) resamples, linear interpolation between ranks.

    Efron and Tibshirani 1993, An Introduction to the Bootstrap, section 13.3: [T*_(alpha), T*_(1 - alpha)] with
    alpha = (1 - level) / 2. A resample in which the statistic is undefined (no positive drawn) is left out, and the number of the
    others is returned so that a reader sees it.

    Args:
        samples: (B,) the statistic on resamples.
        level: above 0 and below 1.

    >>> interval = percentile_interval(np.r_[np.arange(81.0), np.nan])  # 2.5 % of the way from 0 to 80 is 2
    >>> round(interval.low, 9), interval.median, interval.high, interval.valid
    (2.0, 40.0, 78.0, 81)
    """
    return percentile_intervals(samples[None], level)[0]


def percentile_intervals(samples: np.ndarray, level: float = 0.95) -> list[Interval]:
    """:func:`percentile_interval` of each row of ``samples`` (N, B), which may differ in their valid resamples.

    >>> [(one.median, one.sd, one.valid) for one in percentile_intervals(np.array([[1.0, 2.0, 3.0], [4.0, np.nan, np.nan]]))]
    [(2.0, 1.0, 3), (4.0, nan, 1)]
    """
    tail = 100 * (1 - level) / 2
    finite = np.isfinite(samples)
    counts = finite.sum(axis=1)
    out = [Interval(np.nan, np.nan, np.nan, np.nan, 0)] * len(samples)
    # rows with the same number of valid resamples are cut at the same places, together
    for count in np.unique(counts[counts > 0]):
        rows = np.flatnonzero(counts == count)
        valid = samples[rows][finite[rows]].reshape(rows.size, count)
        low, median, high = np.percentile(valid, [tail, 50, 100 - tail], axis=1)
        sd = valid.std(axis=1, ddof=1) if count > 1 else np.full(rows.size, np.nan)
        for place, row in enumerate(rows):
            out[row] = Interval(float(median[place]), float(low[place]), float(high[place]), float(sd[place]), int(count))
    return out


def bca_interval(samples: np.ndarray, value: float, jackknife: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Bias-corrected and accelerated interval (Efron 1987, Journal of the American Statistical Association 82:171-185).

    In the numbering of Efron and Tibshirani 1993: the ends are the a1 and a2 quantiles of the resamples (14.9), where

        a1 = Phi(z0 + (z0 + z) / (1 - a (z0 + z))), z = Phi^-1((1 - level) / 2), and a2 with z = Phi^-1((1 + level) / 2)   (14.10)
        z0 = Phi^-1(share of resamples below the value); here a resample equal to it counts one half                       (14.14)
        a  = sum of d_g^3 / (6 (sum of d_g^2)^(3/2)), d_g = mean of the jackknife - the statistic without g                (14.15)

    Better than the percentiles where the statistic is skewed (a metric near 0 or 1, few positives). NaN, NaN where all resamples
    lie on one side of the value, because z0 is then infinite, and with fewer than two finite jackknife values; a single point where
    all resamples are equal.

    Args:
        samples: (B,) the statistic on resamples; what is not finite is left out, here and in ``jackknife``.
        value: the statistic on the data.
        jackknife: (G,) the statistic without each patient, or without each group of patients.
        level: above 0 and below 1.

    Without bias and skew (z0 = a = 0) it is the percentile interval; resamples that lie mostly above the value pull both ends down.

    >>> bca_interval(np.arange(81.0), 40.0, np.array([39.0, 40.0, 41.0]))
    (2.0, 78.0)
    >>> [round(end, 1) for end in bca_interval(np.arange(81.0), 30.0, np.array([39.0, 40.0, 41.0]))]
    [0.4, 72.7]
    """
    samples, jackknife = samples[np.isfinite(samples)], jackknife[np.isfinite(jackknife)]
    if samples.size == 0 or jackknife.size < 2:
        return np.nan, np.nan
    if np.ptp(samples) == 0:
        return float(samples[0]), float(samples[0])
    below = (np.count_nonzero(samples < value) + np.count_nonzero(samples <= value)) / (2 * samples.size)
    if not 0 < below < 1:
        return np.nan, np.nan
    bias = norm.ppf(below)
    influence = jackknife.mean() - jackknife
    spread = (influence**2).sum() ** 1.5
    acceleration = (influence**3).sum() / (6 * spread) if spread > 0 else 0.0
    z = bias + norm.ppf([(1 - level) / 2, (1 + level) / 2])
    low, high = np.percentile(samples, 100 * norm.cdf(bias + z / (1 - acceleration * z)))
    return float(low), float(high)


def shifted_interval(samples: np.ndarray, value: float, level: float = 0.95) -> tuple[float, float]:
    """The percentile interval moved against the bias of the resamples, within [0, 1] (Efron and Tibshirani 1993, chapter 10).

    A statistic that noise makes larger, as the average precision of few images, is too large on the data by about the bias
    b = mean of the resamples - value, and its resamples are so once more: the percentile interval lies too high by 2 b. NaN, NaN without
    a finite resample.

    Args:
        samples: (B,) a fraction on resamples; what is not finite is left out.
        value: the fraction on the data.
        level: above 0 and below 1.

    >>> [round(end, 3) for end in shifted_interval(np.linspace(0.3, 0.7, 81), 0.45)]  # [0.31, 0.69], whose middle is 0.05 too high
    [0.21, 0.59]
    """
    valid = samples[np.isfinite(samples)]
    if valid.size == 0:
        return np.nan, np.nan
    interval = percentile_interval(valid, level)
    low, high = np.clip(np.array([interval.low, interval.high]) - 2 * (valid.mean() - value), 0, 1)
    return float(low), float(high)


def p_one_sided(delta: np.ndarray) -> float:
    """Paired bootstrap p of "not better": (1 + #{delta <= 0}) / (B + 1) over valid resamples; NaN without any.

    The two ones keep p above 0: B resamples cannot show less than 1 / (B + 1) (the Monte Carlo p of Davison and Hinkley 1997,
    Bootstrap Methods and Their Application, chapter 4). It is about the level at which a one-sided percentile interval touches 0.

    Args:
        delta: (B,) difference of the two encoders on each resample, above 0 where the first is better.

    >>> p_one_sided(np.array([0.1, 0.2, -0.1]))  # (1 + 1) / (3 + 1)
    0.5
    """
    valid = delta[np.isfinite(delta)]
    # sums in another order differ in the last digits: an exact tie is not better
    return float(1 + np.count_nonzero(valid <= 1e-12)) / (valid.size + 1) if valid.size else np.nan


def minimum_detectable_difference(sd_delta: float, alpha: float = 0.05, power: float = 0.80) -> float:
    """Difference that a one-sided test at ``alpha`` would find with probability ``power``: (z_(1 - alpha) + z_power) SD.

    The normal approximation of Bloom 1995 (Evaluation Review 19:547-556); :func:`stats.paired.power` is its inverse.

    Args:
        sd_delta: standard error of the difference; the result is in its unit. NaN gives NaN.

    >>> round(minimum_detectable_difference(0.01), 5)  # (1.645 + 0.842) * 0.01
    0.02486
    """
    return float((norm.ppf(1 - alpha) + norm.ppf(power)) * sd_delta)
