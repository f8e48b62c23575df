"""Average precision and AUROC under resample counts against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from stats.ranking import auroc, average_precision, average_precision_and_auroc

SCORES = {
    "distinct": lambda r, n: r.random(n),
    "heavy ties": lambda r, n: r.integers(0, 4, n) / 4,
    "some ties": lambda r, n: np.round(r.random(n), 2),
    "constant": lambda r, n: np.full(n, 0.5),
}


@pytest.mark.parametrize("kind", SCORES)
@pytest.mark.parametrize("n_positive", [1, 9, 150])
def test_equals_scikit_learn_with_sample_weight(kind, n_positive):
    """Every resample equals scikit-learn with sample_weight to 1e-12, with ties, constant scores and one positive."""
    random = np.random.default_rng(n_positive)
    target = np.zeros(300)
    target[random.choice(300, n_positive, replace=False)] = 1
    score = SCORES[kind](random, 300)
    counts = random.multinomial(300, np.full(300, 1 / 300), size=25)
    precision, area = average_precision_and_auroc(target, score, counts)
    for b, weight in enumerate(counts):
        if (weight * target).sum() == 0:
            assert np.isnan(precision[b]) and np.isnan(area[b])
            continue
        assert precision[b] == pytest.approx(average_precision_score(target, score, sample_weight=weight), abs=1e-12)
        assert area[b] == pytest.approx(roc_auc_score(target, score, sample_weight=weight), abs=1e-12)


def test_counts_mean_repetition():
    """A count of k is the same as the image occurring k times."""
    random = np.random.default_rng(0)
    target, score = random.random(50) < 0.4, random.integers(0, 9, 50)
    counts = random.integers(0, 4, 50)
    repeated = np.repeat(np.arange(50), counts)
    precision, area = average_precision_and_auroc(target, score, counts[None])
    assert precision[0] == pytest.approx(average_precision_score(target[repeated], score[repeated]), abs=1e-12)
    assert area[0] == pytest.approx(roc_auc_score(target[repeated], score[repeated]), abs=1e-12)


def test_undefined_resamples_are_nan():
    """Without positives both are NaN; with positives only, AP is 1 and AUROC is NaN."""
    target, score = np.array([1, 0, 1]), np.array([0.2, 0.3, 0.9])
    counts = np.array([[0, 3, 0], [2, 0, 1]])
    assert np.isnan(average_precision(target, score, counts)[0]) and average_precision(target, score, counts)[1] == 1
    assert np.isnan(auroc(target, score, counts)).all()
    assert np.isnan(average_precision(np.zeros(3), score)).all()


def test_blocks_change_nothing(monkeypatch):
    """Working in blocks of resamples gives the same numbers as all at once."""
    random = np.random.default_rng(1)
    target, score = random.random(80) < 0.2, random.random(80)
    counts = random.multinomial(80, np.full(80, 1 / 80), size=33)
    whole = average_precision_and_auroc(target, score, counts)
    monkeypatch.setattr("stats.ranking.BLOCK_WEIGHTS", 80 * 7)
    assert np.array_equal(whole, average_precision_and_auroc(target, score, counts), equal_nan=True)
