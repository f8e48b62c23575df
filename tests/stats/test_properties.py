"""What must hold for any data: hypothesis looks for the scores, ties and weights that break it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import average_precision_score, roc_auc_score

from stats.bootstrap import bca_interval, p_one_sided, percentile_interval, resample_patients
from stats.calibration import Gaps, brier_terms, calibration_interval, equal_mass_bins
from stats.delong import delong
from stats.multiplicity import benjamini_hochberg, holm
from stats.paired import p_equivalent, p_mcnemar, p_non_inferior, p_two_sided
from stats.ranking import average_precision_and_auroc
from stats.ranks import critical_difference, rank_intervals

settings.register_profile("stats", max_examples=60, deadline=None, derandomize=True)
settings.load_profile("stats")

GRID = st.integers(-4, 4).map(lambda k: k / 4)  # few values: many ties


@st.composite
def labelled(draw, both=True, least=3, most=24):
    """(target, score, counts): targets with both classes, tied scores, resample counts with zeros."""
    n = draw(st.integers(least, most))
    target = draw(arrays(np.int64, n, elements=st.integers(0, 1)))
    if both:
        target[0], target[1] = 0, 1
    score = draw(arrays(np.float64, n, elements=GRID))
    counts = draw(arrays(np.int64, (3, n), elements=st.integers(0, 3)))
    return target, score, counts


@given(labelled())
def test_weighted_statistics_are_scikit_learns_on_repeated_images(data):
    """With any counts, AP and AUROC are scikit-learn's on the data with every image repeated; NaN where a class is gone."""
    target, score, counts = data
    precision, area = average_precision_and_auroc(target, score, counts)
    for b, weight in enumerate(counts):
        y, s = np.repeat(target, weight), np.repeat(score, weight)
        assert precision[b] == pytest.approx(average_precision_score(y, s), abs=1e-14) if y.any() else np.isnan(precision[b])
        assert area[b] == pytest.approx(roc_auc_score(y, s), abs=1e-14) if y.any() and not y.all() else np.isnan(area[b])


@given(labelled(), st.randoms(use_true_random=False))
def test_order_and_monotone_transforms_do_not_matter(data, random):
    """Shuffling the images or stretching the scores monotonely changes neither AP nor AUROC."""
    target, score, counts = data
    order = list(range(len(target)))
    random.shuffle(order)
    wanted = average_precision_and_auroc(target, score, counts)
    np.testing.assert_array_equal(average_precision_and_auroc(target[order], score[order], counts[:, order]), wanted)
    np.testing.assert_array_equal(average_precision_and_auroc(target, np.exp(3 * score), counts), wanted)


@given(labelled())
def test_swapping_classes_mirrors_the_area_and_constants_are_chance(data):
    """AUROC of the other class with negated scores is the same; a constant score has AP = prevalence and AUROC = 1/2."""
    target, score, _ = data
    np.testing.assert_allclose(
        average_precision_and_auroc(1 - target, -score)[1], average_precision_and_auroc(target, score)[1], atol=1e-14
    )
    precision, area = average_precision_and_auroc(target, np.zeros(len(target)))
    assert precision[0] == pytest.approx(target.mean(), abs=1e-14) and area[0] == 0.5


@given(labelled(least=6))
def test_delong_is_antisymmetric_and_positive(data):
    """The covariance is positive semidefinite and p of (a, b) and (b, a) add to one."""
    target, score, _ = data
    target[2:4] = 0, 1  # two of each class
    areas = delong(target, np.array([score, score[::-1], np.arange(len(score))]))
    assert np.linalg.eigvalsh(areas.covariance).min() > -1e-12
    assert areas.p_one_sided(0, 1) + areas.p_one_sided(1, 0) == pytest.approx(1, abs=1e-12)


P = arrays(np.float64, st.integers(1, 12), elements=st.floats(0, 1))


@given(P)
def test_adjusted_p_keep_order_and_bounds(p):
    """Adjusted p are at least the raw ones, at most one, in the same order; BH is never above Holm."""
    for adjusted in (holm(p), benjamini_hochberg(p)):
        assert (adjusted >= p - 1e-15).all() and (adjusted <= 1).all()
        assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= -1e-15).all()
    assert (benjamini_hochberg(p) <= holm(p) + 1e-15).all()


@given(P)
def test_missing_p_do_not_count(p):
    """A NaN stays NaN and changes no other adjusted p."""
    for adjust in (holm, benjamini_hochberg):
        padded = adjust(np.r_[np.nan, p])
        assert np.isnan(padded[0])
        np.testing.assert_array_equal(padded[1:], adjust(p))


DELTA = arrays(np.float64, st.integers(2, 60), elements=st.sampled_from([-0.3, -0.1, -0.02, 0.0, 0.02, 0.1, 0.3, np.nan]))


@given(DELTA)
def test_bootstrap_p_are_probabilities_of_consistent_claims(delta):
    """One-sided p of both directions add to at least one; equivalence implies non-inferiority on both sides; NaN only without draws."""
    if not np.isfinite(delta).any():
        assert np.isnan(p_one_sided(delta)) and np.isnan(p_equivalent(delta, 0.1))
        return
    one, other = p_one_sided(delta), p_one_sided(-delta)
    assert 0 < one <= 1 and one + other >= 1 and p_two_sided(one, other) <= 1
    assert p_equivalent(delta, 0.1) >= max(p_non_inferior(delta, 0.1), p_non_inferior(-delta, 0.1)) - 1e-15
    assert p_non_inferior(delta, 0.2) <= p_non_inferior(delta, 0.1) <= p_non_inferior(delta, 0.0) == one


@given(DELTA, st.floats(-2, 2), st.floats(0.1, 3))
def test_intervals_move_and_stretch_with_the_data(samples, shift, scale):
    """The percentile interval of a linear change is the changed interval; it is ordered and counts the valid resamples."""
    one, two = percentile_interval(samples), percentile_interval(scale * samples + shift)
    assert one.valid == np.isfinite(samples).sum() == two.valid
    if one.valid:
        assert one.low <= one.median <= one.high
        np.testing.assert_allclose([two.low, two.median, two.high], scale * np.array([one.low, one.median, one.high]) + shift, atol=1e-12)


@given(arrays(np.float64, st.integers(20, 80), elements=st.floats(-1, 1)))
def test_bca_stays_within_the_resamples(samples):
    """Where it exists the BCa interval is ordered and lies within the range of the resamples."""
    low, high = bca_interval(samples, float(np.median(samples)), samples[:10])
    if np.isfinite(low):
        assert samples.min() <= low <= high <= samples.max()


@given(arrays(np.float64, st.integers(2, 40), elements=st.floats(0, 1)), st.randoms(use_true_random=False))
def test_calibration_is_between_zero_and_one_and_zero_for_the_truth(probability, random):
    """Brier and ECE lie in [0, 1]; probabilities that are the targets themselves have neither error, and yet an interval above 0."""
    target = np.array([random.random() < 0.5 for _ in probability], dtype=int)
    for said, perfect in ((probability, False), (target.astype(float), True)):
        bins = equal_mass_bins(said)
        per_bin = np.zeros((len(said), 3, bins.count))
        per_bin[np.arange(len(said)), :, bins.of_image] = np.stack([np.ones(len(said)), said, target], axis=1)
        draws = resample_patients([f"{k:02d}" for k in range(len(said))], 60, seed=0)
        gaps = Gaps.of(per_bin.sum(axis=0), draws.resampled(per_bin))
        error, brier, interval = np.abs(gaps.gap).sum(), brier_terms(target, said).mean(), calibration_interval(gaps)
        assert 0 <= error <= 1 and 0 <= brier <= 1
        assert not perfect or (error == 0 and brier == 0)
        assert 0 <= interval.low <= interval.median <= interval.high <= 1 + 1e-12 and interval.high > 0


@given(arrays(np.float64, st.tuples(st.integers(2, 6), st.integers(3, 5)), elements=GRID))
def test_ranks_add_up(table):
    """Mean ranks over columns add to K (K + 1) / 2, and the chances to be best to one."""
    encoders = table.shape[1]
    assert critical_difference(table).mean_ranks.sum() == pytest.approx(encoders * (encoders + 1) / 2)
    found = rank_intervals(table[0], table.T)
    assert sum(one.rank for one in found) == pytest.approx(encoders * (encoders + 1) / 2)
    assert sum(one.best for one in found) == pytest.approx(1)


@given(arrays(np.bool_, st.tuples(st.just(2), st.integers(1, 30))))
def test_mcnemar_sides_overlap_by_the_observed_outcome(right):
    """The two one-sided mid-p add to one: each takes half of the observed split."""
    one, other = p_mcnemar(*right), p_mcnemar(*right[::-1])
    if np.isnan(one):
        assert (right[0] == right[1]).all()
    else:
        assert one + other == pytest.approx(1, abs=1e-12)
