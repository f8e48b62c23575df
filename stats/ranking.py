"""Average precision and AUROC of one score vector under many integer resample counts at once.

A bootstrap resample only changes how often each image counts. So scores are sorted once, ties are grouped once, and
every resample is a column of weighted cumulative sums. Both statistics change only where positives are, so there is one
row per distinct score of a positive: at 3 % prevalence a hundred instead of thousands. The sums over images are products
with sparse 0/1 matrices, which read the counts once and in order.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

#: Largest number of (threshold, resample) numbers worked on at once: they should stay in the cache.
BLOCK_WEIGHTS = 100_000


def average_precision(target: np.ndarray, score: np.ndarray, counts: np.ndarray | None = None) -> np.ndarray:
    """Step-wise average precision, AP = sum over thresholds of (R_k - R_(k-1)) P_k, for each row of ``counts``.

    P_k = TP_k / (TP_k + FP_k) and R_k = TP_k / positives among images scored at least the k-th threshold. Thresholds are the
    distinct scores (tied images enter together), as in scikit-learn's ``average_precision_score`` with ``sample_weight``; nothing is
    interpolated, because a straight line between two points of a precision-recall curve is too high (Davis and Goadrich 2006, ICML
    23, 233-240). What guessing scores: :func:`guessed_average_precision`.

    Args:
        target: (n,) 0 or 1.
        score: (n,) finite numbers (not checked); larger means more likely positive.
        counts: (B, n) non-negative integers, how often each image occurs in each resample; None means once each.

    Returns:
        (B,) float64 in (0, 1]; NaN for a resample without a positive. (1,) when ``counts`` is None.

    >>> target, score = np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8])
    >>> average_precision(target, score).round(4)  # 1/2 * 1 + 1/2 * 2/3
    array([0.8333])
    >>> average_precision(target, score, np.array([[1, 0, 1, 1], [1, 3, 0, 0]]))
    array([ 1., nan])
    """
    return average_precision_and_auroc(target, score, counts)[0]


def guessed_average_precision(positives: int, images: int) -> float:
    """Expected average precision of scores that are all different and know nothing, on a test set of so many images.

    The best of n images is positive with chance k / n, and the precision at any positive holds at least that positive, so it is above
    the share of positives k / n, to which it falls for large n. Given a positive at place i, each other place holds one of the other
    k - 1 with chance (k - 1) / (n - 1); the mean over places of (1 + (i - 1) (k - 1) / (n - 1)) / i is

        (k - 1) / (n - 1) + (n - k) / (n (n - 1)) H_n,   H_n = 1 + 1/2 + ... + 1/n   (Bestgen 2015, Prague Bulletin of Mathematical
        Linguistics 103:131-138).

    Args:
        positives: k, 0 to n.
        images: n, at least 1.

    Returns:
        A fraction; NaN without a positive.

    >>> guessed_average_precision(1, 2), round(guessed_average_precision(5, 219), 4), round(guessed_average_precision(50_000, 10**6), 4)
    (0.75, 0.0451, 0.05)
    """
    if positives in (0, images):
        return 1.0 if positives else np.nan
    harmonic = (1 / np.arange(1, images + 1)).sum()
    return float((positives - 1) / (images - 1) + (images - positives) / (images * (images - 1)) * harmonic)


def auroc(target: np.ndarray, score: np.ndarray, counts: np.ndarray | None = None) -> np.ndarray:
    """Area under the ROC curve, P(score of a positive > score of a negative) + P(equal) / 2, per row of ``counts``.

    U / (m n) with Mann and Whitney's U over m positives and n negatives (Hanley and McNeil 1982, Radiology 143:29-36); equals
    scikit-learn's ``roc_auc_score`` with ``sample_weight``. Arguments as in :func:`average_precision`. Returns (B,) float64 in
    [0, 1], chance level 1/2; NaN for a resample that lacks one of the classes.

    >>> auroc(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8]))  # 3 of 4 pairs in order
    array([0.75])
    """
    return average_precision_and_auroc(target, score, counts)[1]


def average_precision_and_auroc(target: np.ndarray, score: np.ndarray, counts: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Both statistics from one pass over the sorted images; see :func:`average_precision` and :func:`auroc`.

    >>> average_precision_and_auroc(np.array([0, 1, 1]), np.array([0.5, 0.5, 0.9]))  # 1/2 * 1 + 1/2 * 2/3; (1/2 + 1) / 2
    (array([0.83333333]), array([0.75]))
    """
    target = np.asarray(target) > 0
    score = np.asarray(score)
    if counts is None:
        counts = np.ones((1, target.size), dtype=np.int32)
    precision, area = np.full((2, counts.shape[0]), np.nan)
    if not target.any():
        return precision, area

    # Sums of whole numbers up to the number of images: sixteen bits move four times as fast as sixty-four.
    kind = np.uint16 if int(counts.max(initial=0)) * target.size < 2**16 else np.uint32
    by_image = np.ascontiguousarray(counts.T, dtype=kind)  # no copy of what PatientResamples.of_images gives
    everyone, positive, tied, negative = (group.astype(kind) @ by_image for group in _groups(target, score))
    columns = max(1, BLOCK_WEIGHTS // everyone.shape[0])
    for start in range(0, counts.shape[0], columns):
        block = slice(start, start + columns)
        precision[block], area[block] = _from_group_sums(everyone[:, block], positive[:, block], tied[:, block], negative[0, block])
    return precision, area


def _groups(target: np.ndarray, score: np.ndarray) -> list[csr_array]:
    """Who is counted at each threshold that a positive meets, best first: 0/1 matrices (thresholds, images).

    First everyone whom this threshold adds (the negatives between the last one and this one included), then its
    positives, then its negatives that are tied with them; last, in a single row, all negatives.
    """
    thresholds = np.unique(score[target])[::-1]
    # images below the lowest positive are added by no threshold
    threshold = np.searchsorted(-thresholds, -score, side="left")
    added = threshold < thresholds.size
    tied = added & ~target & (score == thresholds[np.minimum(threshold, thresholds.size - 1)])

    order = np.argsort(threshold, kind="stable")
    row_of = threshold[order]

    def matrix(chosen: np.ndarray) -> csr_array:
        kept = chosen[order]
        starts = np.searchsorted(row_of[kept], np.arange(thresholds.size + 1))
        images = order[kept]
        return csr_array((np.ones(images.size, np.uint16), images, starts), shape=(thresholds.size, score.size))

    negatives = np.flatnonzero(~target)
    everybody = csr_array((np.ones(negatives.size, np.uint16), negatives, [0, negatives.size]), shape=(1, score.size))
    return [matrix(added), matrix(added & target), matrix(tied), everybody]


def _from_group_sums(
    everyone: np.ndarray, positive: np.ndarray, tied: np.ndarray, negative: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """AP and AUROC of each resample from its sums (thresholds, b) and the number of its negatives (b,)."""
    called = np.cumsum(everyone, axis=0, dtype=everyone.dtype)
    true_positive = np.cumsum(positive, axis=0, dtype=positive.dtype)
    false_positive = (called - true_positive).astype(np.float64)
    positive = positive.astype(np.float64)
    n_positive, n_negative = true_positive[-1].astype(np.float64), negative.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        # A threshold nobody was drawn for has called == 0 and positive == 0: it adds nothing.
        average = np.einsum("kb,kb->b", positive, true_positive / np.maximum(called, 1)) / n_positive
        # Pairs in the wrong order, ties counting one half, twice: whole numbers below 2^53, so the sum is exact.
        twice_wrong = 2 * np.einsum("kb,kb->b", positive, false_positive)
        if tied.any():
            twice_wrong -= np.einsum("kb,kb->b", positive, tied.astype(np.float64))
        pairs = 2 * n_positive * n_negative
        area = (pairs - twice_wrong) / pairs
    return np.where(n_positive > 0, average, np.nan), np.where((n_positive > 0) & (n_negative > 0), area, np.nan)
