"""Classical tests of a paired difference, beside the bootstrap: each has other assumptions, and none replaces the interval."""

from __future__ import annotations

import numpy as np
from scipy.stats import binom, norm, t, wilcoxon

from .bootstrap import patient_variance


def p_two_sided(one: float, other: float) -> float:
    """Two-sided p from a test's one-sided p of the two directions: twice the smaller, at most 1; NaN where one is.

    Where the null distribution is symmetric this is the chance of a statistic at least as far out on either side: 2 Phi(-|z|)
    of DeLong, 2 P(T >= |t|), the two-sided Wilcoxon p, McNemar's two-sided mid-p. A sign flip is not doubled: its two-sided p
    counts the flips with |flipped| >= |observed|.

    >>> p_two_sided(0.01, 0.99), p_two_sided(0.99, 0.01), p_two_sided(0.6, 0.7)
    (0.02, 0.02, 1.0)
    """
    return float(np.minimum(1.0, 2 * np.minimum(one, other)))


def p_wilcoxon(differences: np.ndarray) -> float:
    """One-sided Wilcoxon signed-rank p that patients' differences tend to be above zero (Wilcoxon 1945, Biometrics Bulletin 1:80-83).

    T = sum of the ranks of |d| over d > 0. Zeros keep their ranks and take no side (Pratt 1959, Journal of the American Statistical
    Association 54:655-667); scipy chooses between the exact distribution and the normal approximation with ties corrected. The test
    is about the median of symmetric differences, not about their mean. NaN when every difference is zero or none is finite.

    Args:
        differences: (P,) one per patient; what is not finite is left out.

    >>> # the one negative has rank 2; of 2^5 signs, 3 give the negatives a rank sum of at most 2: none, {1}, {2}
    >>> round(p_wilcoxon(np.array([0.3, 0.1, 0.4, -0.2, 0.5])), 5)  # 3 / 32
    0.09375
    """
    differences = np.asarray(differences, dtype=np.float64)
    differences = differences[np.isfinite(differences)]
    if not np.any(differences):
        return np.nan
    differences = np.round(differences / np.abs(differences).max(), 12)  # 0.91 - 0.90 and 0.81 - 0.80 are one rank
    return float(wilcoxon(differences, zero_method="pratt", alternative="greater").pvalue)


def p_corrected_resampled_t(differences: np.ndarray, overlap: float, patients: float = 0.0, interaction: float = 0.0) -> float:
    """One-sided p of the corrected resampled t test (Nadeau and Bengio 2003, Machine Learning 52:239-281).

    Would other training *and* test images say the same? t = mean / sqrt(f s^2 + p), f = 1/k + overlap, overlap = rho / (1 - rho):
    replicates that share training images have differences with a correlation rho, and the plain t test, whose f is 1/k, finds too
    much. Nadeau and Bengio draw training and test images anew for each replicate, so that s^2 holds both sources, and take
    overlap = n_test / n_train and p = 0. k folds of one training set that score the same test images share (k - 2) / (k - 1) of the
    training images, so overlap = k - 2, and f s^2 is the variance of the delete-a-group jackknife, (k - 1)^2 / k s^2: right for a
    metric that is linear in the training images and else too large on average (Efron and Stein 1981, Annals of Statistics 9:586-596).

    Such an s^2 is about training given the test images (T + I, see `stats.bootstrap.interaction_variance`), so that by the law of total
    variance p is that of the difference which training has on average, over samples of patients: v - f I, where v is the variance
    of the mean over these very replicates (`stats.bootstrap.patient_variance`). Degrees of freedom are Satterthwaite's (1946,
    Biometrics Bulletin 2:110-114), p taken as known: k - 1 for p = 0, more the larger the share of p.

    Args:
        differences: (k,) one difference per replicate.
        overlap: the ratio rho / (1 - rho), 0 or more.
        patients: v, 0 where each replicate has test images of its own.
        interaction: I.

    Returns:
        p in (0, 1); NaN for k < 2 or a variance that is NaN; without any variance 1/2 where the mean is 0, else NaN: a t of infinity
        has no p, as in `stats.delong`.

    >>> # t = 0.02 / sqrt((1/5 + 0.25) * 0.00005) = 4.22 with 4 degrees of freedom
    >>> folds = np.array([0.02, 0.03, 0.01, 0.02, 0.02])
    >>> round(p_corrected_resampled_t(folds, 0.25), 4)
    0.0068
    >>> # t = 0.02 / sqrt((1/5 + 3) * 0.00005 + 0.00016) = 1.118 with 4 * 2^2 = 16 degrees of freedom
    >>> round(p_corrected_resampled_t(folds, 3, patients=0.00016), 4), round(p_corrected_resampled_t(folds, 3, 0.00032, 0.00005), 4)
    (0.14, 0.14)
    """
    differences = np.asarray(differences, dtype=np.float64)
    k = differences.size
    if k < 2:
        return np.nan
    factor = 1 / k + overlap
    mean, spread = differences.mean(), differences.var(ddof=1)
    if spread <= (1e-12 * np.abs(differences).max()) ** 2:  # equal but for the last digits
        spread = 0.0
    training = factor * spread
    variance = training + patient_variance(patients, training, factor * interaction)
    if variance == 0:
        return 0.5 if mean == 0 else np.nan
    freedom = (k - 1) * (variance / training) ** 2 if training > 0 else np.inf
    return float(t.sf(mean / np.sqrt(variance), freedom))


def p_mcnemar(one_right: np.ndarray, other_right: np.ndarray) -> float:
    """One-sided McNemar mid-p that the first is right more often, from images on which exactly one is right.

    Under the null each discordant image is a fair coin. The mid-p counts half of the observed split, P(X > b) + P(X = b) / 2
    with X Binomial(b + c, 1/2), b images right by the first alone and c by the other. It keeps its level where the exact p (McNemar
    1947, Psychometrika 12:153-157) is too cautious (Fagerland, Lydersen and Laake 2013, BMC Medical Research Methodology 13:91). It
    treats images as independent.

    Args:
        one_right, other_right: (n,) whether each encoder is right; 0 and 1 will do.

    Returns:
        p in (0, 1); NaN when they are right on the same images.

    Raises:
        ValueError: lengths differ.

    >>> p_mcnemar(np.array([1, 1, 1, 1, 0]), np.array([0, 0, 0, 1, 0]))  # b = 3, c = 0: P(X = 3) / 2 = 1/16
    0.0625
    """
    one_right, other_right = np.asarray(one_right, dtype=bool), np.asarray(other_right, dtype=bool)
    b, c = int(np.sum(one_right & ~other_right)), int(np.sum(other_right & ~one_right))
    return float(binom.sf(b, b + c, 0.5) + binom.pmf(b, b + c, 0.5) / 2) if b + c else np.nan


def p_non_inferior(delta: np.ndarray, margin: float) -> float:
    """Bootstrap p of "worse by ``margin`` or more": (1 + #{delta <= -margin}) / (B + 1) over valid resamples; NaN without any.

    Args:
        delta: (B,) difference on each resample, above 0 where the first is better.
        margin: 0 or more, in the unit of ``delta``.

    >>> p_non_inferior(np.array([-0.01, 0.0, 0.01]), margin=0.02)  # (1 + 0) / (3 + 1)
    0.25
    """
    valid = delta[np.isfinite(delta)]
    # sums in another order differ in the last digits: exactly the margin is not above it
    return float((1 + np.count_nonzero(valid <= -margin + 1e-12)) / (valid.size + 1)) if valid.size else np.nan


def p_equivalent(delta: np.ndarray, margin: float) -> float:
    """Two one-sided tests by bootstrap: the larger p of "worse" and of "better by ``margin`` or more"; NaN without valid resamples.

    Schuirmann 1987, Journal of Pharmacokinetics and Biopharmaceutics 15:657-680. Below alpha, the 1 - 2 alpha percentile interval lies
    inside (-margin, margin).

    Args:
        delta: (B,) difference on each resample.
        margin: 0 or more, in the unit of ``delta``.

    >>> p_equivalent(np.array([-0.01, 0.0, 0.01]), margin=0.02), p_equivalent(np.array([-0.01, 0.03, 0.01]), margin=0.02)
    (0.25, 0.5)
    """
    return max(p_non_inferior(delta, margin), p_non_inferior(-delta, margin)) if np.isfinite(delta).any() else np.nan


def power(difference: float, sd_delta: float, alpha: float = 0.05) -> float:
    """Chance that a one-sided test at ``alpha`` finds a true ``difference``: Phi(difference / SD - z_(1 - alpha)).

    Args:
        difference, sd_delta: in one unit; a difference of 0 gives ``alpha``.

    Returns:
        Fraction in [0, 1]; NaN unless ``sd_delta`` is above 0.

    >>> round(power(0.02486, 0.01), 3)  # Phi(2.486 - 1.645)
    0.8
    """
    return float(norm.cdf(difference / sd_delta - norm.ppf(1 - alpha))) if sd_delta > 0 else np.nan
