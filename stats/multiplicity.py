"""Adjusting p values for the number of tests in a declared family."""

from __future__ import annotations

import numpy as np


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's step-down adjusted p (1979, Scandinavian Journal of Statistics 6:65-70), in the given order.

    Of m ordered p: p~_(j) = min(1, max over i <= j of (m - i + 1) p_(i)). Controls the chance of any false claim in the family
    whatever the dependence between tests, and is never weaker than Bonferroni. NaN (no test) stays NaN and does not count in m.

    Args:
        p: (n,) in [0, 1], or NaN.

    >>> holm(np.array([0.01, 0.04, 0.03, 0.005])).round(4)  # 4 * 0.005, 3 * 0.01, 2 * 0.03, then 0.06 again, since 1 * 0.04 is less
    array([0.03, 0.06, 0.06, 0.02])
    """
    return _stepwise(p, lambda ordered: np.maximum.accumulate(ordered * np.arange(ordered.size, 0, -1)))


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """Benjamini-Hochberg adjusted p (1995, Journal of the Royal Statistical Society B 57:289-300), in the given order.

    Of m ordered p: p~_(i) = min(1, min over j >= i of m p_(j) / j). Controls the expected share of false claims among the claims,
    of independent or positively dependent tests. NaN stays NaN and does not count in m.

    Args:
        p: (n,) in [0, 1], or NaN.

    >>> benjamini_hochberg(np.array([0.01, 0.04, 0.03, 0.005])).round(4)  # 4/4 * 0.04, 4/3 * 0.03, 4/2 * 0.01, 4/1 * 0.005
    array([0.02, 0.04, 0.04, 0.02])
    """

    def step_up(ordered: np.ndarray) -> np.ndarray:
        scaled = ordered * ordered.size / np.arange(1, ordered.size + 1)
        return np.minimum.accumulate(scaled[::-1])[::-1]

    return _stepwise(p, step_up)


def _stepwise(p: np.ndarray, adjust_ascending) -> np.ndarray:
    p = np.asarray(p, dtype=np.float64)
    adjusted = np.full(p.shape, np.nan)
    tested = np.flatnonzero(np.isfinite(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    adjusted[order] = np.minimum(1.0, adjust_ascending(p[order]))
    return adjusted
