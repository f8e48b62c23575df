"""Average precision and AUROC of one score vector under many integer resample counts at once.

A bootstrap resample only changes how often each image counts. So scores are sorted once, ties are grouped once, and
every resample is a column of weighted cumulative sums. Both statistics change only where positives are, so runs of
tied groups without a positive are merged first: at 3 % prevalence that leaves a few hundred rows instead of thousands.
"""

from __future__ import annotations

import numpy as np

#: Largest number of (image, resample) weights held at once: 1 million int32 are 4 MB.
BLOCK_WEIGHTS = 1_000_000


def average_precision(target: np.ndarray, score: np.ndarray, counts: np.ndarray | None = None) -> np.ndarray:
    """Step-wise average precision, sum over thresholds of (R_n - R_{n-1}) P_n, for each row of ``counts``.

    Thresholds are the distinct scores (tied images enter together), as in scikit-learn's ``average_precision_score``
    with ``sample_weight``; no interpolation, so it is not the optimistic trapezoidal area.

    Args:
        target: (n,) 0 or 1.
        score: (n,) finite numbers; larger means more likely positive.
        counts: (B, n) non-negative integers, how often each image occurs in each resample; None means once each.

    Returns:
        (B,) float64 in (0, 1]; NaN for a resample without a positive. (1,) when ``counts`` is None.

    >>> target, score = np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8])
    >>> average_precision(target, score).round(4)
    array([0.8333])
    >>> average_precision(target, score, np.array([[1, 0, 1, 1], [1, 3, 0, 0]]))
    array([ 1., nan])
    """
    return average_precision_and_auroc(target, score, counts)[0]


def auroc(target: np.ndarray, score: np.ndarray, counts: np.ndarray | None = None) -> np.ndarray:
    """Area under the ROC curve, P(score of a positive > score of a negative) + P(equal) / 2, per row of ``counts``.

    Hanley and McNeil 1982; equals scikit-learn's ``roc_auc_score`` with ``sample_weight``. Arguments as in
    :func:`average_precision`. Returns (B,) float64 in [0, 1]; NaN for a resample that lacks one of the classes.

    >>> auroc(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8]))
    array([0.75])
    """
    return average_precision_and_auroc(target, score, counts)[1]


def average_precision_and_auroc(target: np.ndarray, score: np.ndarray, counts: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Both statistics from one pass over the sorted images; see :func:`average_precision` and :func:`auroc`."""
    target = np.asarray(target) > 0
    score = np.asarray(score)
    if counts is None:
        counts = np.ones((1, target.size), dtype=np.int32)
    precision, area = np.full((2, counts.shape[0]), np.nan)
    if not target.any():
        return precision, area

    order = np.argsort(-score, kind="stable")
    segments = _segments(target[order], score[order])
    rows = max(1, BLOCK_WEIGHTS // target.size)
    for start in range(0, counts.shape[0], rows):
        block = slice(start, start + rows)
        # (n, rows): images run down the columns, so sorting moves whole contiguous rows.
        weights = counts[block].T.astype(np.int32, order="K", copy=False)[order]
        precision[block], area[block] = _from_sorted_weights(weights, target[order], *segments)
    return precision, area


def _segments(target: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut descending scores into groups of ties, merging neighbours that hold no positive.

    Returns the first image of each segment, which segments hold positives, and the first positive of each of those
    (counted among positives only).
    """
    first_of_tie = np.flatnonzero(np.r_[True, score[1:] != score[:-1]])
    has_positive = np.add.reduceat(target.astype(np.int64), first_of_tie) > 0
    starts_segment = np.r_[True, has_positive[1:] | has_positive[:-1]]
    first, has_positive = first_of_tie[starts_segment], has_positive[starts_segment]
    positives_before = np.r_[0, np.cumsum(target)[:-1]]
    return first, has_positive, positives_before[first[has_positive]]


def _from_sorted_weights(
    weights: np.ndarray, target: np.ndarray, first: np.ndarray, has_positive: np.ndarray, first_positive: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """AP and AUROC of each column of ``weights`` (n, b), images in descending order of score."""
    # 32 bits hold any number of images; products of two such numbers below need 64.
    everyone = np.add.reduceat(weights, first, axis=0)
    positive = np.add.reduceat(weights[target], first_positive, axis=0).astype(np.int64)  # segments with positives only

    called = np.cumsum(everyone, axis=0, dtype=np.int64)
    n_positive = positive.sum(axis=0)
    n_negative = called[-1] - n_positive
    called, everyone = called[has_positive], everyone[has_positive]
    true_positive = np.cumsum(positive, axis=0)

    with np.errstate(divide="ignore", invalid="ignore"):
        # A threshold nobody was drawn for has called == 0 and positive == 0: it adds nothing.
        precision = true_positive / np.maximum(called, 1)
        average = np.einsum("kb,kb->b", positive, precision) / n_positive
        # Twice the number of (positive, negative) pairs in the right order, ties counting one: an exact integer.
        twice_outranked = 2 * (n_negative - called + true_positive) + (everyone - positive)
        area = np.einsum("kb,kb->b", positive, twice_outranked) / (2.0 * n_positive * n_negative)
    return np.where(n_positive > 0, average, np.nan), np.where((n_positive > 0) & (n_negative > 0), area, np.nan)
