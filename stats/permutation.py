"""Sign-flip test for metrics that are means over images (Dice, ROUGE-L, RG_ER): a check on the bootstrap.

If two encoders are equally good, a patient's difference could as well have had the other sign. All images of a patient
flip together, because they are not independent.
"""

from __future__ import annotations

import numpy as np

from .bootstrap import generator


def patient_signs(patients: np.ndarray, flips: int, seed: int) -> np.ndarray:
    """(flips, P) int8 of -1 and +1 with chance 1/2 each, reproducible from the seed and the sorted patient ids alone.

    >>> signs = patient_signs(np.array(["p", "q", "r"], dtype=object), flips=4, seed=0)
    >>> signs.shape, np.unique(signs).tolist()
    ((4, 3), [-1, 1])
    """
    random = generator(seed, patients, "sign flip")
    return (2 * random.integers(2, size=(flips, patients.size), dtype=np.int8) - 1).astype(np.int8)


def p_sign_flip(observed: float, flipped: np.ndarray) -> float:
    """One-sided p = (1 + #{flipped >= observed}) / (flips + 1); of absolute values, the two-sided one.

    Phipson and Smyth 2010, Permutation P-values should never be zero, Statistical Applications in Genetics and Molecular Biology 9:39:
    the observed signs are one of the possible flips, hence the two ones. 1 without any flip.

    Args:
        observed: the difference of the two means.
        flipped: (flips,) the same difference with the signs of patients flipped.

    >>> flipped = np.array([0.1, 0.5, -0.6])
    >>> p_sign_flip(0.5, flipped), p_sign_flip(abs(0.5), np.abs(flipped))  # 0.5 reaches it; 0.5 and |-0.6| do
    (0.5, 0.75)
    """
    # Sums in another order differ in the last digits; an exact tie must count as one.
    tolerance = 1e-12 * max(1.0, abs(observed))
    return float(1 + np.count_nonzero(flipped >= observed - tolerance)) / (flipped.size + 1)
