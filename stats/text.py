"""Report metrics that are not means over reports: corpus BLEU-4 and CheXbert macro F1.

Both are ratios of sums over reports, so a resample needs only the sums of a few integers per report: one matrix
product for all resamples. Averaging sentence scores instead would be another number under the same name.
"""

from __future__ import annotations

import numpy as np

#: Columns of :func:`corpus_bleu4`'s sums, in order.
BLEU_COLUMNS = tuple(f"bleu_match_{k}" for k in range(1, 5)) + tuple(f"bleu_guess_{k}" for k in range(1, 5)) + (
    "hyp_len", "ref_len")  # fmt: skip

# pycocoevalcap's two constants: they keep an empty corpus at 0 instead of 0/0. Kept so that our numbers equal its own.
_TINY, _SMALL = 1e-15, 1e-9


def corpus_bleu4(sums: np.ndarray) -> np.ndarray:
    """Corpus BLEU-4 (Papineni et al. 2002, ACL 40, 311-318, section 2.3) from summed statistics, equal to pycocoevalcap's ``Bleu(4)``.

    BLEU = min(1, exp(1 - ref_len / hyp_len)) * (prod over k of match_k / guess_k)^(1/4), clipped matches, equal weights, closest
    reference length, no smoothing.

    Args:
        sums: (..., 10) totals over the reports of a corpus, columns as in :data:`BLEU_COLUMNS`.

    Returns:
        (...) float64 in [0, 1]; 0 for an empty corpus.

    >>> corpus_bleu4(np.array([6, 4, 3, 2, 7, 6, 5, 4, 7, 7])).round(4)  # (6/7 * 4/6 * 3/5 * 2/4)^(1/4)
    np.float64(0.6435)
    >>> corpus_bleu4(np.array([4, 3, 2, 1, 4, 3, 2, 1, 4, 8])).round(4)  # all of it right, half as long: exp(1 - 2)
    np.float64(0.3679)
    """
    sums = np.asarray(sums, dtype=np.float64)
    match, guess = sums[..., 0:4], sums[..., 4:8]
    precision = np.prod((match + _TINY) / (guess + _SMALL), axis=-1) ** 0.25
    ratio = (sums[..., 8] + _TINY) / (sums[..., 9] + _SMALL)
    # np.minimum keeps exp() at 1 where the hypothesis is long enough; a huge 1/ratio underflows to 0 as it should.
    with np.errstate(over="ignore"):
        brevity = np.exp(np.minimum(0.0, 1.0 - 1.0 / ratio))
    return precision * brevity


def f1_counts(reference: np.ndarray, hypothesis: np.ndarray) -> np.ndarray:
    """Per report, the true positives, false positives and false negatives of each finding; all but class 1 is no finding.

    Uncertain counts as negative, as in the F1-14 of MAIRA and LLaVA-Rad; f1chexbert and RadEval count it as positive.

    Args:
        reference, hypothesis: (n, k) CheXbert classes: 0 blank, 1 positive, 2 negative, 3 uncertain.

    Returns:
        (n, 3, k) float64 zeros and ones, ready to be summed over reports.

    >>> reference, hypothesis = np.array([[1, 2, 3]]), np.array([[1, 1, 1]])
    >>> f1_counts(reference, hypothesis)[0]
    array([[1., 0., 0.],
           [0., 1., 1.],
           [0., 0., 0.]])
    """
    ref, hyp = np.asarray(reference) == 1, np.asarray(hypothesis) == 1
    return np.stack([ref & hyp, ~ref & hyp, ref & ~hyp], axis=1).astype(np.float64)


def macro_f1(sums: np.ndarray) -> np.ndarray:
    """Unweighted mean over findings of F1 = 2 TP / (2 TP + FP + FN); a finding that never occurs counts as 0.

    Args:
        sums: (..., 3, k) totals of :func:`f1_counts` over the reports of a corpus.

    Returns:
        (...) float64 in [0, 1].

    >>> macro_f1(np.array([[3, 0], [1, 0], [1, 0]]))  # (6/8 + 0) / 2
    np.float64(0.375)
    """
    sums = np.asarray(sums, dtype=np.float64)
    twice_true = 2 * sums[..., 0, :]
    everything = twice_true + sums[..., 1, :] + sums[..., 2, :]
    return np.where(everything > 0, twice_true / np.maximum(everything, 1), 0.0).mean(axis=-1)
