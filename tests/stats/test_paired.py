"""Classical paired tests against scipy, statsmodels, closed forms and their own null distributions."""

import numpy as np
import pytest
from scipy import stats as scipy_stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_paired

from stats.bootstrap import minimum_detectable_difference
from stats.multiplicity import benjamini_hochberg, holm
from stats.paired import p_corrected_resampled_t, p_equivalent, p_mcnemar, p_non_inferior, p_two_sided, p_wilcoxon, power


def test_wilcoxon_counts_all_sign_patterns():
    """With six distinct differences the p is the share of the 64 sign patterns whose rank sum is at least the observed one."""
    differences = np.array([0.5, -0.1, 0.9, 0.3, -0.2, 0.7])
    ranks = scipy_stats.rankdata(np.abs(differences))
    observed = ranks[differences > 0].sum()
    sums = [ranks[[bool(pattern >> k & 1) for k in range(6)]].sum() for pattern in range(64)]
    assert p_wilcoxon(differences) == pytest.approx(np.mean(np.array(sums) >= observed), abs=1e-12)


def test_wilcoxon_keeps_the_ranks_of_zeros():
    """Pratt's rule: zeros are ranked with the others and then dropped; leaving them out before ranking gives another p."""
    differences = np.array([0.0, 0.0, 0.2, -0.1, 0.4, 0.3, -0.25])
    ranks = scipy_stats.rankdata(np.abs(differences))  # the zeros hold ranks 1 and 2, shared as 1.5
    assert list(ranks) == [1.5, 1.5, 4, 3, 7, 6, 5]
    kept, observed = ranks[differences != 0], 4 + 7 + 6
    sums = np.array([kept[[bool(pattern >> k & 1) for k in range(5)]].sum() for pattern in range(32)])
    assert p_wilcoxon(differences) == pytest.approx(np.mean(sums >= observed), abs=1e-12)
    without = p_wilcoxon(differences[differences != 0])
    assert abs(p_wilcoxon(differences) - without) > 0.01


def test_wilcoxon_of_nothing_is_no_test():
    """Differences that are all zero give NaN, and missing ones are left out."""
    assert np.isnan(p_wilcoxon(np.zeros(5)))
    assert p_wilcoxon(np.array([0.1, 0.2, np.nan, 0.3])) == p_wilcoxon(np.array([0.1, 0.2, 0.3]))


@pytest.mark.parametrize(("size", "digits"), [(8, 9), (9, 1), (49, 9), (49, 1), (200, 9), (200, 1)])
def test_wilcoxon_two_sided_is_scipys(size, digits):
    """Twice the smaller one-sided p is scipy's two-sided p: exact, by all sign patterns, and normal, with and without ties and zeros."""
    differences = np.random.default_rng(size).normal(0.05, 0.2, size).round(digits)
    assert (digits == 1) == (len(set(np.abs(differences))) < size)
    theirs = scipy_stats.wilcoxon(differences, zero_method="pratt", alternative="two-sided").pvalue
    for side in (differences, -differences):
        assert p_two_sided(p_wilcoxon(side), p_wilcoxon(-side)) == pytest.approx(theirs, rel=1e-12)


def test_corrected_t_two_sided_is_scipys():
    """Without overlap twice the smaller one-sided p is scipy's two-sided p of the paired t test, for both signs."""
    differences = np.random.default_rng(0).normal(0.02, 0.02, 10)
    theirs = scipy_stats.ttest_1samp(differences, 0).pvalue
    for side in (differences, -differences):
        found = p_two_sided(p_corrected_resampled_t(side, 0.0), p_corrected_resampled_t(-side, 0.0))
        assert found == pytest.approx(theirs, rel=1e-12)
    assert p_two_sided(*(p_corrected_resampled_t(np.zeros(3), 0.1) for _ in range(2))) == 1.0


def test_corrected_t_is_the_plain_t_without_overlap_and_larger_with():
    """With nothing shared it is scipy's one-sided paired t test; any overlap makes p larger."""
    random = np.random.default_rng(0)
    differences = random.normal(0.02, 0.02, 10)
    plain = scipy_stats.ttest_1samp(differences, 0, alternative="greater").pvalue
    assert p_corrected_resampled_t(differences, 0.0) == pytest.approx(plain, rel=1e-12)
    assert p_corrected_resampled_t(differences, 1 / 9) > plain


def test_corrected_t_of_folds_has_the_variance_of_the_jackknife():
    """Of k folds, t is the mean over the root of the delete-a-group jackknife, (k - 1) / k times the squares about the mean."""
    folds = np.array([0.02, 0.03, 0.01, 0.02, -0.01, 0.04])
    jackknife = 5 / 6 * ((folds - folds.mean()) ** 2).sum()
    assert p_corrected_resampled_t(folds, 6 - 2) == pytest.approx(scipy_stats.t.sf(folds.mean() / np.sqrt(jackknife), 5), rel=1e-12)


def test_corrected_t_tends_to_z_of_the_patients():
    """Where training hardly matters beside the patients, p is that of a normal difference; of folds that agree, exactly that."""
    folds, sd = np.array([0.02, 0.021, 0.019, 0.02, 0.02]), 0.0125
    z = scipy_stats.norm.sf(0.02 / sd)
    assert p_corrected_resampled_t(folds, 3, sd**2) == pytest.approx(z, rel=0.02)
    assert p_corrected_resampled_t(np.full(5, 0.02), 3, sd**2) == pytest.approx(z, rel=1e-12)
    # what the patients do to the runs is in s^2 already: without it the variance is smaller, but never below f s^2 or half of v
    whole, less, none = (p_corrected_resampled_t(folds, 3, sd**2, of) for of in (0.0, sd**2 / 10, sd**2))
    training = (1 / 5 + 3) * folds.var(ddof=1)
    half = scipy_stats.t.sf(0.02 / np.sqrt(sd**2 / 2), 4 * (sd**2 / 2 / training) ** 2)
    assert whole > less > none == pytest.approx(half, rel=1e-12)
    assert p_corrected_resampled_t(folds, 3, training, training) == pytest.approx(p_corrected_resampled_t(folds, 3), rel=1e-12)
    assert np.isnan(p_corrected_resampled_t(folds, 3, np.nan))


def test_corrected_t_by_hand():
    """t = 0.02 / sqrt((1/5 + 1/4) 5e-5) on four degrees of freedom; constant differences above or below zero have no p."""
    t = 0.02 / np.sqrt((1 / 5 + 1 / 4) * 5e-5)
    assert p_corrected_resampled_t(np.array([0.02, 0.03, 0.01, 0.02, 0.02]), 0.25) == pytest.approx(scipy_stats.t.sf(t, 4), rel=1e-12)
    constant = [p_corrected_resampled_t(np.full(3, value), 0.1) for value in (0.1, 0.0, -0.1)]
    assert constant == pytest.approx([np.nan, 0.5, np.nan], nan_ok=True) and np.isnan(p_corrected_resampled_t(np.array([0.1]), 0.1))


def test_wilcoxon_sees_ties_through_the_last_digits():
    """0.91 - 0.90 and 0.81 - 0.80 differ in the sixteenth digit and are one rank, so p is that of whole hundredths."""
    random = np.random.default_rng(0)
    hundredths = random.integers(-2, 4, 60)
    other = random.integers(50, 90, 60)
    differences = (other + hundredths) / 100 - other / 100
    assert len(set(np.abs(differences))) > len(set(np.abs(hundredths)))
    assert p_wilcoxon(differences) == pytest.approx(p_wilcoxon(hundredths), rel=1e-12)


def test_mcnemar_is_statsmodels_less_half_the_observed_split():
    """The two-sided mid-p is statsmodels' exact McNemar p less the probability of the observed split, and 1 of an even split."""
    random = np.random.default_rng(1)
    one, other = random.random(80) < 0.8, random.random(80) < 0.6
    table = [[np.sum(one & other), np.sum(one & ~other)], [np.sum(~one & other), np.sum(~one & ~other)]]
    split = scipy_stats.binom.pmf(table[0][1], table[0][1] + table[1][0], 0.5)
    for a, b in ((one, other), (other, one)):
        assert p_two_sided(p_mcnemar(a, b), p_mcnemar(b, a)) == pytest.approx(mcnemar(table, exact=True).pvalue - split, rel=1e-9)
    even = np.array([1, 1, 0, 0]), np.array([0, 0, 1, 1])
    assert p_two_sided(p_mcnemar(*even), p_mcnemar(*even[::-1])) == pytest.approx(1.0, abs=1e-12)
    assert np.isnan(p_mcnemar(one, one))


def test_equivalence_agrees_with_the_t_version():
    """On many normal differences the bootstrap TOST is statsmodels' paired TOST to Monte Carlo error."""
    random = np.random.default_rng(2)
    differences = random.normal(0.003, 0.05, 400)
    draws = np.array([random.choice(differences, 400).mean() for _ in range(20000)])
    for margin in (0.007, 0.01):
        theirs = ttost_paired(differences, np.zeros(400), -margin, margin)[0]
        assert p_equivalent(draws, margin) == pytest.approx(theirs, abs=0.012)
        assert p_non_inferior(draws, margin) <= p_equivalent(draws, margin)


def test_power_at_the_detectable_difference_is_the_power_asked_for():
    """The power of the minimum detectable difference is the power it was made for; of no difference, alpha."""
    for asked in (0.8, 0.9):
        assert power(minimum_detectable_difference(0.013, power=asked), 0.013) == pytest.approx(asked, abs=1e-12)
    assert power(0.0, 0.013) == pytest.approx(0.05, abs=1e-12) and np.isnan(power(0.1, 0.0))


def test_power_is_the_share_of_studies_that_find_it():
    """Of 4,000 simulated differences with a known SD, the share with z above 1.645 is the stated power."""
    found = np.random.default_rng(3).normal(0.02, 0.01, 4000) / 0.01 > scipy_stats.norm.ppf(0.95)
    assert found.mean() == pytest.approx(power(0.02, 0.01), abs=0.02)


@pytest.mark.parametrize(("ours", "method"), [(holm, "holm"), (benjamini_hochberg, "fdr_bh")])
def test_adjusted_p_are_statsmodels(ours, method):
    """Holm and Benjamini-Hochberg give statsmodels' adjusted p, ties and ones included."""
    p = np.array([0.01, 0.04, 0.03, 0.005, 0.04, 1.0, 0.2, 0.01])
    np.testing.assert_allclose(ours(p), multipletests(p, method=method)[1], rtol=1e-12)
