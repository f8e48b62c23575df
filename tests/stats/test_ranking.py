"""Average precision and AUROC under resample counts against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from stats.ranking import auroc, average_precision, average_precision_and_auroc, guessed_average_precision

SCORES = {
    "distinct": lambda r, n: r.random(n),
    "heavy ties": lambda r, n: r.integers(0, 4, n) / 4,
    "some ties": lambda r, n: np.round(r.random(n), 2),
    "constant": lambda r, n: np.full(n, 0.5),
}


@pytest.mark.parametrize("kind", SCORES)
@pytest.mark.parametrize("n_positive", [1, 9, 150])
def test_equals_scikit_learn_with_sample_weight(kind, n_positive):
    """Every resample equals scikit-learn with sample_weight to 1e-14: ties, constant scores, empty groups; NaN where a class is missing."""
    random = np.random.default_rng(n_positive)
    target = np.zeros(300)
    target[random.choice(300, n_positive, replace=False)] = 1
    score = SCORES[kind](random, 300)
    counts = random.multinomial(300, np.full(300, 1 / 300), size=30)
    counts[1] *= score != score[target > 0].max()  # nobody of the best group that a positive is in
    counts[2] *= score != score.min()
    counts[3] *= (score == score[target > 0][0]) | (score == np.median(score))  # nearly all groups are empty
    counts[4], counts[5] = counts[4] * (target == 0), counts[5] * (target > 0)  # one class each
    counts[5, np.flatnonzero(target)[0]] += 1
    precision, area = average_precision_and_auroc(target, score, counts)
    seen = np.zeros(3, dtype=int)
    for b, weight in enumerate(counts):
        positives, negatives = (weight * target).sum() > 0, (weight * (1 - target)).sum() > 0
        seen += [not positives, positives and not negatives, positives and negatives]
        assert np.isnan(precision[b]) == (not positives) and np.isnan(area[b]) == (not (positives and negatives))
        if positives:
            assert abs(precision[b] - average_precision_score(target, score, sample_weight=weight)) <= 1e-14
        if positives and negatives:
            assert abs(area[b] - roc_auc_score(target, score, sample_weight=weight)) <= 1e-14
    assert seen[0] >= 1 and seen[1] >= 1 and seen[2] >= 10


@pytest.mark.parametrize(("positives", "images"), [(1, 7), (3, 30), (9, 219), (20, 40), (5, 5)])
def test_what_guessing_scores_is_the_mean_of_scikit_learn_over_random_scores(positives, images):
    """The expected average precision of random scores is scikit-learn's mean over 4,000 of them, to four standard errors."""
    random, target = np.random.default_rng(images), np.arange(images) < positives
    found = np.array([average_precision_score(target, random.random(images)) for _ in range(4000)])
    error = found.std() / np.sqrt(found.size)
    assert guessed_average_precision(positives, images) == pytest.approx(found.mean(), abs=4 * error + 1e-12)


def test_without_a_positive_nothing_can_be_guessed():
    """What guessing scores is undefined without a positive, and the share of positives among very many images."""
    assert np.isnan(guessed_average_precision(0, 9))
    assert guessed_average_precision(300_000, 1_000_000) == pytest.approx(0.3, abs=1e-4)


def test_counts_mean_repetition():
    """A count of k is the same as the image occurring k times."""
    random = np.random.default_rng(0)
    target, score = random.random(50) < 0.4, random.integers(0, 9, 50)
    counts = random.integers(0, 4, 50)
    repeated = np.repeat(np.arange(50), counts)
    precision, area = average_precision_and_auroc(target, score, counts[None])
    assert abs(precision[0] - average_precision_score(target[repeated], score[repeated])) <= 1e-14
    assert abs(area[0] - roc_auc_score(target[repeated], score[repeated])) <= 1e-14


@pytest.mark.parametrize("positives", [84, 309])
def test_equals_scikit_learn_at_the_size_of_a_test_set(positives):
    """At 3,000 images the differences stay below 1e-14, where sums are longest."""
    random = np.random.default_rng(positives)
    target = np.arange(3000) < positives
    score = np.round(1 / (1 + np.exp(-1.8 * target - random.normal(size=3000))), 3)
    counts = random.multinomial(3000, np.full(3000, 1 / 3000), size=12)
    found = average_precision_and_auroc(target, score, counts)
    expected = [[metric(target, score, sample_weight=weight) for weight in counts] for metric in (average_precision_score, roc_auc_score)]
    assert np.abs(np.array(found) - expected).max() <= 1e-14


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
