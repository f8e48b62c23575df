"""DeLong's covariance of several AUROCs on the same images, exact with ties, for independent or clustered images.

An AUROC is a mean of *placements*: of each positive, the share of negatives it outranks (ties one half). Placements come
from midranks in O(n log n) (Sun and Xu 2014); their covariances give that of the AUROCs (DeLong, DeLong and
Clarke-Pearson 1988). Images of one patient are not independent; Obuchowski (1997) sums the placements of a patient and
adds the covariance between a patient's own positives and negatives. With one image per patient it is DeLong's.

Several replicates of an encoder (folds, seeds) enter as the mean of their placements, which is exact, because the mean
AUROC over replicates is linear in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, rankdata


@dataclass(frozen=True)
class Areas:
    """AUROCs of K encoders on the same images.

    Attributes:
        auroc: (K,) in [0, 1].
        covariance: (K, K) of their estimates; NaN where a class has fewer than two patients.
    """

    auroc: np.ndarray
    covariance: np.ndarray

    def difference(self, one: int, other: int) -> tuple[float, float]:
        """(AUROC of ``one`` minus AUROC of ``other``, its standard error)."""
        c = self.covariance
        variance = c[one, one] + c[other, other] - 2 * c[one, other]
        return float(self.auroc[one] - self.auroc[other]), float(np.sqrt(max(variance, 0.0)) if np.isfinite(variance) else np.nan)

    def p_one_sided(self, one: int, other: int) -> float:
        """P of a difference at least this large if ``one`` is not better; 1/2 for two equal encoders without any variance."""
        delta, error = self.difference(one, other)
        if not np.isfinite(error):
            return np.nan
        return float(norm.sf(delta / error)) if error > 0 else (0.5 if delta == 0 else float(delta < 0))


def delong(target: np.ndarray, scores: np.ndarray, clusters: np.ndarray | None = None) -> Areas:
    """AUROCs and their covariance.

    Args:
        target: (n,) 0 or 1, with both classes.
        scores: (K, n), or (K, R, n) for R replicates of each encoder, whose mean AUROC is meant.
        clusters: (n,) patient of each image; None means that every image stands for itself.

    >>> target = np.array([0, 0, 0, 1, 1, 1])
    >>> areas = delong(target, np.array([[1, 2, 4, 3, 5, 6], [1, 2, 3, 3, 2, 4.]]))
    >>> areas.auroc.round(4)
    array([0.8889, 0.7778])
    >>> areas.covariance.round(4)
    array([[0.0247, 0.0123],
           [0.0123, 0.0432]])
    """
    scores = np.asarray(scores, dtype=np.float64)
    return delong_of_replicates(target, [one[None] if one.ndim == 1 else one for one in scores], clusters)


def delong_of_replicates(target: np.ndarray, scores: Sequence[np.ndarray], clusters: np.ndarray | None = None) -> Areas:
    """As :func:`delong`, for encoders that may differ in their number of replicates: K arrays (R_k, n)."""
    target = np.asarray(target) > 0
    positive, negative = (np.stack([part.mean(axis=0) for part in parts])
                          for parts in zip(*(placements(target, one) for one in scores), strict=True))  # fmt: skip
    auroc = positive.mean(axis=1)
    if clusters is None:
        names = np.arange(target.size)
    else:
        names = np.unique(np.asarray(clusters).astype(str), return_inverse=True)[1]
    return Areas(auroc, _covariance(positive - auroc[:, None], negative - auroc[:, None], names[target], names[~target]))


def placements(target: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(R, n+) share of negatives below each positive, and (R, n-) share of positives above each negative; ties one half.

    >>> placements(np.array([1, 0, 1]), np.array([[2.0, 1.0, 1.0]]))
    (array([[1. , 0.5]]), array([[0.75]]))
    """
    target = np.asarray(target) > 0
    m, n = int(target.sum()), int((~target).sum())
    everyone = rankdata(scores, axis=-1)
    of_positives = (everyone[..., target] - rankdata(scores[..., target], axis=-1)) / n
    of_negatives = 1 - (everyone[..., ~target] - rankdata(scores[..., ~target], axis=-1)) / m
    return of_positives, of_negatives


def _covariance(positive: np.ndarray, negative: np.ndarray, of_positives: np.ndarray, of_negatives: np.ndarray) -> np.ndarray:
    """Obuchowski 1997, equations 3 to 5, from centred placements (K, m), (K, n) and the clusters of their columns."""
    size = int(max(of_positives.max(), of_negatives.max())) + 1

    def totals(values: np.ndarray, cluster: np.ndarray) -> np.ndarray:
        sums = np.zeros((size, len(values)))
        np.add.at(sums, cluster, values.T)
        return sums

    v10, v01 = totals(positive, of_positives), totals(negative, of_negatives)
    m, n = positive.shape[1], negative.shape[1]
    i10, i01, both = np.unique(of_positives).size, np.unique(of_negatives).size, np.union1d(of_positives, of_negatives).size
    if i10 < 2 or i01 < 2:
        return np.full((len(positive), len(positive)), np.nan)
    s10 = i10 / (i10 - 1) * v10.T @ v10 / m
    s01 = i01 / (i01 - 1) * v01.T @ v01 / n
    s11 = both / (both - 1) * v10.T @ v01
    return s10 / m + s01 / n + (s11 + s11.T) / (m * n)
