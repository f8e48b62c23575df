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
    """AUROCs of K encoders on the same images, fractions.

    Attributes:
        auroc: (K,) in [0, 1].
        covariance: (K, K) of their estimates; NaN where a class has fewer than two patients.

    >>> areas = Areas(np.array([0.8, 0.7]), np.array([[0.0020, 0.0010], [0.0010, 0.0025]]))
    >>> [round(v, 6) for v in areas.difference(0, 1)]  # sqrt(0.0020 + 0.0025 - 2 * 0.0010)
    [0.1, 0.05]
    >>> round(areas.p_one_sided(0, 1), 5)  # 1 - Phi(0.1 / 0.05)
    0.02275
    """

    auroc: np.ndarray
    covariance: np.ndarray

    def difference(self, one: int, other: int) -> tuple[float, float]:
        """(AUROC of ``one`` minus AUROC of ``other``, its standard error sqrt(c_11 + c_22 - 2 c_12)); NaN as error where there is none."""
        c = self.covariance
        variance = c[one, one] + c[other, other] - 2 * c[one, other]
        return float(self.auroc[one] - self.auroc[other]), float(np.sqrt(max(variance, 0.0)) if np.isfinite(variance) else np.nan)

    def p_one_sided(self, one: int, other: int) -> float:
        """1 - Phi(difference / SE): P of a difference at least this large if ``one`` is not better.

        NaN without a standard error; where it is 0, 1/2 for equal AUROCs and otherwise NaN: no test has a p of nought.
        """
        delta, error = self.difference(one, other)
        if not np.isfinite(error):
            return np.nan
        return float(norm.sf(delta / error)) if error > 0 else (0.5 if delta == 0 else np.nan)


def delong(target: np.ndarray, scores: np.ndarray, clusters: np.ndarray | None = None) -> Areas:
    """AUROCs and their covariance (DeLong, DeLong and Clarke-Pearson 1988, Biometrics 44:837-845).

    With placements V10 of the m positives and V01 of the n negatives (:func:`placements`), AUROC = mean of V10 = mean of V01, and

        cov(AUROC_k, AUROC_l) = S10_kl / m + S01_kl / n,   S10, S01 = sample covariances (ddof 1) of V10 and of V01.

    With clusters (Obuchowski 1997, Biometrics 53:567-578), let A and B be a patient's sums of V10 - AUROC and of V01 - AUROC. Then
    S10_kl = I / ((I - 1) m) sum of A_k A_l over the I patients with positives, S01 likewise from B, and (S11_kl + S11_lk) / (m n) is
    added, S11_kl = I / (I - 1) sum of A_k B_l over all I patients.

    Args:
        target: (m + n,) 0 or 1, with both classes.
        scores: (K, m + n), or (K, R, m + n) for R replicates of each encoder, whose mean AUROC is meant; larger means more likely positive.
        clusters: (m + n,) patient of each image; None means that every image stands for itself.

    Raises:
        ValueError: a class is missing.

    The first encoder ranks 8 of 9 pairs correctly; its V10 are (2/3, 1, 1) with variance 1/27, its V01 (1, 1, 2/3): 2/27 / 3 = 0.0247.

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
    """As :func:`delong`, for encoders that may differ in their number of replicates: K arrays (R_k, n).

    Raises:
        ValueError: a class is missing.

    >>> scores = [np.array([[2.0, 1.0], [1.0, 2.0]]), np.array([[2.0, 1.0]])]  # right once in two replicates; right in one of one
    >>> delong_of_replicates(np.array([1, 0]), scores).auroc
    array([0.5, 1. ])
    """
    target = np.asarray(target) > 0
    if target.all() or not target.any():
        raise ValueError(
            f"delong: got {int(target.sum())} positives of {target.size} images; expected both classes; next: leave the label out"
        )
    positive, negative = (np.stack([part.mean(axis=0) for part in parts])
                          for parts in zip(*(placements(target, one) for one in scores), strict=True))  # fmt: skip
    auroc = positive.mean(axis=1)
    if clusters is None:
        names = np.arange(target.size)
    else:
        names = np.unique(np.asarray(clusters).astype(str), return_inverse=True)[1]
    return Areas(auroc, _covariance(positive - auroc[:, None], negative - auroc[:, None], names[target], names[~target]))


def placements(target: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(R, m) share of negatives below each positive, and (R, n) share of positives above each negative; ties one half.

    V10(X) = 1/n sum over negatives of psi(X, Y) and V01(Y) = 1/m sum over positives of psi(X, Y), psi = 1 if X > Y, 1/2 if equal, 0
    if below. From midranks in O(n log n): n V10(X) = rank of X among all - rank of X among the positives (Sun and Xu 2014, IEEE
    Signal Processing Letters 21:1389-1393).

    Args:
        target: (m + n,) 0 or 1, with both classes (otherwise NaN).
        scores: (R, m + n) finite numbers.

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
    """Obuchowski's sums over clusters (1997), from centred placements (K, m), (K, n) and the clusters of their columns."""
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
