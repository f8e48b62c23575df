"""Corpus BLEU-4 and macro F1 from sums against their reference implementations."""

from collections import Counter

import numpy as np
import pytest
from pycocoevalcap.bleu.bleu_scorer import BleuScorer
from sklearn.metrics import f1_score

from stats.bootstrap import resample_patients
from stats.text import corpus_bleu4, f1_counts, macro_f1

WORDS = ["the", "heart", "is", "normal", "in", "size", "no", "effusion", "or", "pneumothorax", "lungs", "clear"]


def sentences(n, seed, low=1, high=16):
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS[:6], random.integers(low, high))) for _ in range(n)]


def statistics(hypothesis, reference):
    """The ten integers of a report, counted word by word as docs/formats.md describes them."""
    hyp, ref = hypothesis.split(), reference.split()
    match, guess = [], []
    for k in range(1, 5):
        grams = [Counter(tuple(words[i : i + k]) for i in range(len(words) - k + 1)) for words in (hyp, ref)]
        match.append(sum(min(count, grams[1][gram]) for gram, count in grams[0].items()))
        guess.append(max(len(hyp) - k + 1, 0))
    return [*match, *guess, len(hyp), len(ref)]


def pycocoevalcap(hypotheses, references):
    scorer = BleuScorer(n=4)
    for hypothesis, reference in zip(hypotheses, references, strict=True):
        scorer += (hypothesis, [reference])
    return scorer.compute_score(option="closest")[0][3]


@pytest.mark.parametrize("lengths", [((1, 16), (1, 16)), ((1, 4), (8, 16)), ((1, 3), (1, 3))])
def test_bleu_equals_pycocoevalcap_on_resamples(lengths):
    """Summed statistics give pycocoevalcap's corpus BLEU-4 on every resample, its two constants included."""
    references, hypotheses = sentences(40, 1, *lengths[1]), sentences(40, 2, *lengths[0])
    table = np.array([statistics(h, r) for h, r in zip(hypotheses, references, strict=True)], dtype=float)
    draws = resample_patients([f"p{i:02d}" for i in range(40)], resamples=12, seed=0)
    mine = corpus_bleu4(draws.resampled(table))
    for counts, value in zip(draws.counts, mine, strict=True):
        drawn = np.repeat(np.arange(40), counts)
        theirs = pycocoevalcap([hypotheses[i] for i in drawn], [references[i] for i in drawn])
        assert value == pytest.approx(theirs, abs=1e-12)


def test_bleu_of_nothing_is_zero():
    """An empty corpus, or hypotheses without words, score 0 and not NaN."""
    assert corpus_bleu4(np.zeros(10)) == pytest.approx(0, abs=1e-5)
    assert corpus_bleu4(np.array([0] * 9 + [50.0])) == 0


def test_macro_f1_equals_scikit_learn():
    """F1-14 from sums equals scikit-learn's macro F1 with zero_division=0, where uncertain counts as negative."""
    random = np.random.default_rng(4)
    reference, hypothesis = random.integers(0, 4, (2, 60, 14))
    reference[:, 3] = hypothesis[:, 3] = 0  # a finding that never occurs
    expected = f1_score(reference == 1, hypothesis == 1, average="macro", zero_division=0)
    assert macro_f1(f1_counts(reference, hypothesis).sum(axis=0)) == pytest.approx(expected, abs=1e-12)
