"""Ranks of several encoders: bootstrap intervals of a rank, and Friedman's test with Nemenyi's critical difference.

A difference of two encoders is a comparison; a rank is a statement about all of them at once, and it is far less certain
than a table sorted by its values suggests.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import friedmanchisquare, rankdata, studentized_range


@dataclass(frozen=True)
class RankInterval:
    """Rank of one encoder, 1 = best, K = worst; equal encoders share the mean of their ranks.

    Attributes:
        rank: of the reported values.
        low, high: percentile interval over resamples (95 % unless said otherwise); NaN without a resample that all have.
        best: share of resamples in which it is the best, 0 to 1 (a shared first place counts in parts); sums to 1 over encoders.
    """

    rank: float
    low: float
    high: float
    best: float


def rank_intervals(values: np.ndarray, samples: np.ndarray, lower_is_better: bool = False, level: float = 0.95) -> list[RankInterval]:
    """Rank of each of K encoders with its interval, from resamples that they share.

    Every resample is ranked; the interval's ends are ranks that occurred, the lower one rounded down and the upper one up.

    Args:
        values: (K,) reported values.
        samples: (K, B) the same metric on the same resamples; a resample with a NaN is left out.

    Returns:
        K of them, in the given order.

    >>> found = rank_intervals(np.array([0.8, 0.7]), np.array([[0.8, 0.6, 0.9, 0.8], [0.7, 0.7, 0.7, 0.7]]))
    >>> found[0].rank, found[0].best, round(found[1].low, 3), found[1].high  # the second's ranks are 2, 1, 2, 2
    (1.0, 0.75, 1.0, 2.0)
    """
    sign = 1 if lower_is_better else -1
    ranks = rankdata(sign * np.asarray(values), axis=0)
    of_samples = rankdata(sign * samples[:, np.isfinite(samples).all(axis=0)], axis=0)
    first = of_samples == of_samples.min(axis=0) if of_samples.size else of_samples.astype(bool)
    share = first / np.maximum(first.sum(axis=0), 1)
    tail = 100 * (1 - level) / 2
    out = []
    for k in range(len(ranks)):
        low, high = _ends(of_samples[k], tail) if of_samples.size else (np.nan, np.nan)
        out.append(RankInterval(float(ranks[k]), float(low), float(high), float(share[k].mean()) if of_samples.size else np.nan))
    return out


def _ends(ranks: np.ndarray, tail: float) -> tuple[float, float]:
    return float(np.percentile(ranks, tail, method="lower")), float(np.percentile(ranks, 100 - tail, method="higher"))


@dataclass(frozen=True)
class CriticalDifference:
    """Mean ranks over data sets, and how far apart two must be (Demšar 2006, Journal of Machine Learning Research 7:1-30, section 3.2.2).

    Attributes:
        mean_ranks: (K,) between 1 = best and K.
        critical: Nemenyi's critical difference of two mean ranks at ``alpha``.
        p_friedman: P of ranks at least this uneven if all encoders are equal.
        groups: maximal runs of encoders, best first, that are not told apart; each encoder by its column in the table.
    """

    mean_ranks: np.ndarray
    critical: float
    p_friedman: float
    groups: list[tuple[int, ...]]


def critical_difference(values: np.ndarray, lower_is_better: np.ndarray | bool = False, alpha: float = 0.05) -> CriticalDifference:
    """Friedman's test over data sets and Nemenyi's critical difference, CD = q_alpha sqrt(K (K + 1) / (6 N)).

    Friedman's chi-squared has K - 1 degrees of freedom and is corrected for ties; q is :func:`nemenyi`. Rows are taken as
    independent, which columns of one data set are not: read the groups as a picture, Table 6 as the test.

    Args:
        values: (N data sets, K encoders) without gaps, N >= 2, K >= 3.
        lower_is_better: (N,) or one for all.

    Raises:
        ValueError: K < 3, where the ranks differ.

    >>> table = np.array([[3, 2, 1], [5, 4, 3], [3, 2, 1], [9, 7, 8.0]])  # the last two change places once in four
    >>> found = critical_difference(table)  # 2.344 sqrt(3 * 4 / (6 * 4))
    >>> found.mean_ranks, round(found.critical, 3), found.groups
    (array([1.  , 2.25, 2.75]), 1.657, [(0, 1), (1, 2)])
    """
    values = np.asarray(values, dtype=np.float64)
    count, encoders = values.shape
    sign = np.where(np.broadcast_to(lower_is_better, count), 1.0, -1.0)[:, None]
    ranks = rankdata(sign * values, axis=1)
    mean = ranks.mean(axis=0)
    critical = nemenyi(encoders, alpha) * np.sqrt(encoders * (encoders + 1) / (6 * count))
    equal = bool((ranks == ranks[:, :1]).all())
    p = 1.0 if equal else float(friedmanchisquare(*ranks.T).pvalue)
    order = np.argsort(mean, kind="stable")
    groups: list[tuple[int, ...]] = []
    for start, first in enumerate(order):
        run = tuple(int(k) for k in order[start:] if mean[k] - mean[first] <= critical)
        if len(run) > 1 and not (groups and set(run) <= set(groups[-1])):
            groups.append(run)
    return CriticalDifference(mean, float(critical), p, groups)


def nemenyi(encoders: int, alpha: float = 0.05) -> float:
    """q_alpha: quantile of the studentized range of K means, infinitely many degrees of freedom, over sqrt(2) (Demšar 2006, table 5a).

    NaN for fewer than two encoders.

    >>> [round(nemenyi(k), 3) for k in (2, 3, 4, 5, 10)]
    [1.96, 2.344, 2.569, 2.728, 3.164]
    """
    return float(studentized_range.ppf(1 - alpha, encoders, np.inf) / np.sqrt(2))
