"""Adjusting p values for the number of tests in a declared family."""

from __future__ import annotations

import numpy as np


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's step-down adjusted p (Holm 1979): max over i <= j of (m - i + 1) p_(i), at most 1, in the given order.

    Controls the chance of any false claim in the family whatever the dependence between tests, and is never weaker
    than Bonferroni. NaN (no test) stays NaN and does not count in m.

    >>> holm(np.array([0.01, 0.04, 0.03, 0.005])).round(4)
    array([0.03, 0.06, 0.06, 0.02])
    """
    return _stepwise(p, lambda ordered: np.maximum.accumulate(ordered * np.arange(ordered.size, 0, -1)))


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """Benjamini-Hochberg adjusted p (1995): min over j >= i of m p_(j) / j, at most 1, in the given order.

    Controls the expected share of false claims among the claims. NaN stays NaN and does not count in m.

    >>> benjamini_hochberg(np.array([0.01, 0.04, 0.03, 0.005])).round(4)
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
