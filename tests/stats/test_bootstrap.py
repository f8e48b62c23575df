"""Resampling of patients: distribution, seed, intervals, p values."""

import itertools

import numpy as np
import pytest
from scipy.stats import bootstrap as scipy_bootstrap
from scipy.stats import false_discovery_control, permutation_test

from stats.bootstrap import (
    bca_interval,
    leave_some_out,
    p_one_sided,
    percentile_interval,
    replicate_weights,
    resample_patients,
    two_level,
)
from stats.multiplicity import benjamini_hochberg, holm
from stats.paired import p_two_sided
from stats.permutation import p_sign_flip, patient_signs


def test_seed_and_patients_alone_decide_the_draw():
    """Order and repetition of ids change nothing; another seed or another patient changes the draw."""
    base = resample_patients(["a", "b", "c", "d"], 50, seed=1).counts
    assert np.array_equal(base, resample_patients(["d", "c", "b", "a", "a"], 50, seed=1).counts)
    assert not np.array_equal(base, resample_patients(["a", "b", "c", "d"], 50, seed=2).counts)
    assert not np.array_equal(base, resample_patients(["a", "b", "c", "e"], 50, seed=1).counts)


def test_images_are_drawn_with_their_patient():
    """Every image occurs as often as its patient, so two images of a patient are never separated."""
    draws = resample_patients(["p", "q", "r"], 20, seed=0)
    images = draws.of_images(np.array(["q", "p", "q", "r"], dtype=object))
    assert np.array_equal(images[:, 0], images[:, 2]) and np.array_equal(images[:, 1], draws.counts[:, 0])


def test_standard_error_of_a_mean_has_its_closed_form():
    """The bootstrap SE of a mean of independent patients is s / sqrt(n) (population s), to Monte Carlo error."""
    values = np.random.default_rng(0).normal(size=200)
    ids = np.array([f"{i:03d}" for i in range(200)], dtype=object)
    draws = resample_patients(ids, 8000, seed=0)
    means = draws.resampled(draws.patient_sums(ids, values)) / 200
    assert means.std() == pytest.approx(values.std() / np.sqrt(200), rel=0.03)


def test_images_of_a_patient_widen_the_interval():
    """With m identical images per patient the SE is that of the patients, sqrt(m) times the one of free images."""
    values = np.random.default_rng(1).normal(size=100)
    images, patients = np.repeat(values, 4), np.repeat([f"{i:03d}" for i in range(100)], 4).astype(object)
    clustered = resample_patients(patients, 4000, seed=0)
    free_ids = np.array([f"{i:03d}" for i in range(400)], dtype=object)
    free = resample_patients(free_ids, 4000, seed=0)
    se = [draws.resampled(draws.patient_sums(ids, images)).std() / 400
          for draws, ids in ((clustered, patients), (free, free_ids))]  # fmt: skip
    assert se[0] / se[1] == pytest.approx(2.0, rel=0.06)


def test_interval_covers_the_truth():
    """Over 400 simulated studies of 80 patients the 95 % interval of a mean covers the truth 91 to 98 % of the time."""
    random = np.random.default_rng(2)
    ids = np.array([f"{i:02d}" for i in range(80)], dtype=object)
    covered = 0
    for study in range(400):
        values = random.normal(0.7, 0.2, 80)
        draws = resample_patients(ids, 400, seed=study)
        interval = percentile_interval(draws.resampled(draws.patient_sums(ids, values)) / 80)
        covered += interval.low <= 0.7 <= interval.high
    assert 0.91 <= covered / 400 <= 0.98


def test_blocks_of_resamples_change_nothing(monkeypatch):
    """Multiplying in blocks gives the same totals."""
    ids = np.array(["a", "b", "c"], dtype=object)
    draws = resample_patients(ids, 10, seed=0)
    whole = draws.resampled(np.arange(6.0).reshape(3, 2))
    monkeypatch.setattr("stats.bootstrap.BLOCK_RESAMPLES", 3)
    assert np.array_equal(whole, draws.resampled(np.arange(6.0).reshape(3, 2)))


def test_p_values_count_the_valid_resamples():
    """Undefined resamples do not count; without any valid one there is no p."""
    delta = np.array([0.1, 0.0, -0.2, np.nan])
    assert p_one_sided(delta) == 3 / 4 and p_two_sided(p_one_sided(delta), p_one_sided(-delta)) == 1.0
    assert np.isnan(p_one_sided(np.array([np.nan]))) and np.isnan(p_two_sided(np.nan, 0.5)) and np.isnan(p_two_sided(0.5, np.nan))
    assert percentile_interval(np.array([np.nan])).valid == 0


def test_sign_flip_keeps_its_level():
    """Under no difference, p <= 0.05 happens in about 5 % of studies (binomial bounds for 400)."""
    random = np.random.default_rng(3)
    patients = np.array([f"{i:02d}" for i in range(40)], dtype=object)
    below = 0
    for study in range(400):
        difference = random.normal(size=40)
        signs = patient_signs(patients, 399, seed=study)
        below += p_sign_flip(difference.mean(), signs @ difference / 40) <= 0.05
    assert 0.02 <= below / 400 <= 0.085


@pytest.mark.parametrize("shift", [0.4, -0.4])
def test_sign_flip_two_sided_is_scipys(shift):
    """With all 1,024 flips, the p of absolute values is scipy's exact two-sided permutation p, but for the one added to both counts."""
    differences = np.random.default_rng(4).normal(shift, 1, 10)
    theirs = permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=np.inf).pvalue
    flipped = np.array([(differences * signs).mean() for signs in itertools.product((-1, 1), repeat=10)])
    assert p_sign_flip(abs(differences.mean()), np.abs(flipped)) == pytest.approx((1 + 1024 * theirs) / 1025, rel=1e-12)


def test_no_difference_at_all_has_p_one():
    """Ties with the observed value count, so identical encoders have p = 1, one-sided and two-sided."""
    assert p_sign_flip(0.0, np.zeros(99)) == p_two_sided(p_one_sided(np.zeros(99)), p_one_sided(-np.zeros(99))) == 1.0


def test_holm_worked_by_hand():
    """p = .01 .02 .03 .04 become .04 .06 .06 .06: 4 x .01, 3 x .02, then kept monotone; NaN is no test."""
    assert holm(np.array([0.01, 0.02, 0.03, 0.04])) == pytest.approx([0.04, 0.06, 0.06, 0.06])
    assert holm(np.array([0.5, 0.9])) == pytest.approx([1.0, 1.0])
    assert holm(np.array([0.01, np.nan, 0.02])) == pytest.approx([0.02, np.nan, 0.02], nan_ok=True)


def test_benjamini_hochberg_equals_scipy():
    """Adjusted p equal scipy.stats.false_discovery_control, ties included."""
    p = np.r_[np.random.default_rng(5).random(30) ** 2, 0.01, 0.01]
    assert benjamini_hochberg(p) == pytest.approx(false_discovery_control(p, method="bh"), abs=1e-15)


def test_bca_is_scipys():
    """On scipy's own bootstrap distribution of a skewed statistic, the BCa interval is scipy's, to the rounding of percentiles."""
    values = np.random.default_rng(3).exponential(size=60)
    theirs = scipy_bootstrap((values,), np.var, n_resamples=4000, method="BCa", vectorized=True, random_state=1)
    jackknife = np.array([np.var(np.delete(values, k)) for k in range(60)])
    ours = bca_interval(theirs.bootstrap_distribution, np.var(values), jackknife)
    np.testing.assert_allclose(ours, theirs.confidence_interval, rtol=1e-6)


def test_leave_some_out_is_the_jackknife():
    """With as many groups as patients every row lacks one patient; the jackknife SE of a mean is then s / sqrt(n) exactly."""
    ids = np.array([f"{i:02d}" for i in range(30)], dtype=object)
    values = np.random.default_rng(0).normal(size=30)
    without = leave_some_out(resample_patients(ids, 5, seed=0))
    means = without.resampled(without.patient_sums(ids, values)) / without.counts.sum(axis=1)
    error = np.sqrt(29 / 30 * ((means - means.mean()) ** 2).sum())
    assert error == pytest.approx(values.std(ddof=1) / np.sqrt(30), rel=1e-12)
    grouped = leave_some_out(resample_patients(ids, 5, seed=0), groups=7)
    assert grouped.counts.shape == (7, 30) and (grouped.counts == 0).sum() == 30


def test_bca_of_one_sided_resamples_is_refused():
    """Resamples that all lie on one side of the value have no BCa interval; constant ones are a point."""
    assert np.isnan(bca_interval(np.array([1.0, 2.0, 3.0]), 0.0, np.array([0.1, 0.2]))).all()
    assert bca_interval(np.array([2.0, 2.0]), 2.0, np.array([2.0, 2.0])) == (2.0, 2.0)


def test_strata_keep_their_sizes():
    """In a stratified draw every resample has as many patients of each stratum as the data; strata are drawn independently of order."""
    ids = [f"{i:02d}" for i in range(40)]
    strata = {name: "rare" if int(name) < 6 else "common" for name in ids}
    counts = resample_patients(ids, 200, seed=0, strata=strata).counts
    assert (counts[:, :6].sum(axis=1) == 6).all() and (counts.sum(axis=1) == 40).all() and counts[:, :6].std() > 0


def test_two_levels_add_their_variances():
    """With independent effects of forty runs and of patients, the two-level variance is s^2 / R + that of the patients, as t has it."""
    random, runs = np.random.default_rng(0), 40
    replicate, patient = 0.05 * random.normal(size=runs), 0.01 * random.normal(size=20000)
    found = two_level(replicate, replicate[:, None] + patient[None, :], replicate_weights(runs, 20000, seed=0))
    training = replicate.var(ddof=1) / runs
    freedom = (runs - 1) * ((training + patient.var()) / training) ** 2
    assert found.var() == pytest.approx((training + patient.var()) * freedom / (freedom - 2), rel=0.03)


def test_two_levels_are_never_far_narrower_than_the_patients_alone():
    """Runs that happen to agree, though patients do something else to each, have draws of half of the patients' variance or more."""
    random = np.random.default_rng(0)
    samples = 0.02 * random.normal(size=20000) + 0.05 * random.normal(size=(3, 20000))
    drawn = two_level(np.array([0.5, 0.5001, 0.4999]), 0.5 + samples, replicate_weights(3, 20000, seed=0))
    assert drawn.var() == pytest.approx(samples.mean(axis=0).var() / 2, rel=0.02)


@pytest.mark.parametrize("folds", [False, True], ids=["seeds", "folds"])
@pytest.mark.parametrize(("training", "accident"), [(0.05, 1.5), (0.2, 0.1)], ids=["interaction", "training"])
def test_two_levels_cover_other_patients_and_other_training(folds, training, accident):
    """Training, patients and what they do to each other, each normal: 92 to 96.5 % of 2,000 studies' intervals hold the truth.

    Runs are means over parts of a training set: of one part of their own (seeds) or of all five parts but one (folds).
    """
    random, runs, patients, studies, hits = np.random.default_rng(1), 5, 200, 2000, 0
    mix = (1 - np.eye(runs)) / (runs - 1) if folds else np.eye(runs)
    for study in range(studies):
        counts = random.multinomial(patients, np.full(patients, 1 / patients), size=400) / patients
        by_run, by_pair = mix @ (training * random.normal(size=runs)), mix @ (accident * random.normal(size=(runs, patients)))
        values = by_run[:, None] + random.normal(size=patients) + by_pair
        weights = replicate_weights(runs, 400, seed=study)
        drawn = two_level(values.mean(axis=1), values @ counts.T, weights, runs - 2 if folds else 0)
        low, high = np.percentile(drawn, [2.5, 97.5])
        hits += low <= 0 <= high
    assert 0.92 < hits / studies < 0.965, hits / studies
