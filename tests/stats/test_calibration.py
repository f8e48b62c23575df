"""Calibration against scikit-learn and probabilities that are right by construction."""

from dataclasses import fields

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import brentq
from scipy.special import expit
from scipy.special import logit as logit_of
from scipy.stats import binomtest, foldnorm, norm, ttest_1samp
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss
from statsmodels.api import GLM, Logit, add_constant, families

from stats import measures
from stats.bootstrap import resample_patients
from stats.calibration import Gaps, boundary_tails, brier_terms, calibration_interval, equal_mass_bins, recalibration_line


def simulated(n=4000, seed=0):
    random = np.random.default_rng(seed)
    probability = random.beta(1.5, 5, n)
    return (random.random(n) < probability).astype(int), probability


def test_brier_is_scikit_learns():
    """The mean of the terms is scikit-learn's brier_score_loss."""
    target, probability = simulated()
    assert brier_terms(target, probability).mean() == pytest.approx(brier_score_loss(target, probability), rel=1e-12)


def test_calibration_error_is_that_of_scikit_learns_curve():
    """Weighted by bin size, the gaps of scikit-learn's quantile calibration curve sum to ours."""
    target, probability = simulated()
    probability = probability**1.4  # miscalibrated
    bins = equal_mass_bins(probability)
    sums = np.array([np.bincount(bins.of_image, weights=w, minlength=bins.count) for w in (np.ones(4000), probability, target)])
    observed, said = calibration_curve(target, probability, n_bins=10, strategy="quantile")
    assert sums[0] == pytest.approx(np.full(10, 400)) and len(observed) == 10
    error = np.abs(Gaps.of(sums, sums[None]).gap).sum()
    assert error == pytest.approx(np.abs(observed - said).mean(), abs=1e-4)  # their edges interpolate


def test_equal_probabilities_share_a_bin():
    """Ties are never split between bins, and a constant probability is one bin."""
    bins = equal_mass_bins(np.r_[np.full(50, 0.2), np.linspace(0.3, 0.9, 50)])
    assert len(set(bins.of_image[:50])) == 1 and bins.count <= 10 and equal_mass_bins(np.full(9, 0.4)).count == 1


def in_the_large(target, logit, **options):
    """statsmodels' fit of a number that is added to given log odds."""
    odds = np.asarray(logit)
    return GLM(target.astype(float), np.ones((odds.size, 1)), family=families.Binomial(), offset=odds).fit(tol=1e-12, **options)


def test_the_slope_is_scikit_learns_and_the_intercept_statsmodels():
    """The slope is that of scikit-learn's unpenalised logistic regression on the logit, the intercept that of statsmodels' with the
    logit as offset, for extreme and timid values."""
    target, probability = simulated()
    logit = np.log(probability / (1 - probability))
    for stretch in (0.5, 1.0, 2.5):
        said = 1 / (1 + np.exp(-(stretch * logit + 0.3)))
        fitted = LogisticRegression(C=np.inf, tol=1e-10, max_iter=500).fit((stretch * logit + 0.3)[:, None], target)
        line = recalibration_line(target, said)
        assert line.slope[0] == pytest.approx(fitted.coef_[0, 0], abs=1e-5)
        assert line.intercept[0] == pytest.approx(in_the_large(target, stretch * logit + 0.3).params[0], abs=1e-9)


@pytest.mark.parametrize(("stretch", "total"), [(2.0, 0.9), (0.5, 1.3), (2.0, 1.1), (0.5, 0.8)])
def test_an_intercept_below_0_says_that_probabilities_are_too_high_on_the_whole(stretch, total):
    """Probabilities that add up to more than the positives have an intercept below 0, to fewer one above 0, too extreme or too timid;
    so added to all log odds, they add up to the positives."""
    random = np.random.default_rng(0)
    logit = logit_of(0.1) + random.normal(size=20000)
    target = random.random(20000) < expit(logit)
    moved = brentq(lambda b: expit(stretch * logit + b).mean() - total * target.mean(), -9, 9)
    said = expit(stretch * logit + moved)
    (value, low, high), (slope, *_) = (line := recalibration_line(target, said)).intercept, line.slope
    assert (high < 0) == (said.mean() > target.mean()) == (total > 1) and (low > 0) == (total < 1)
    assert expit(logit_of(said) + value).sum() == pytest.approx(target.sum(), abs=1e-6)
    assert slope == pytest.approx(1 / stretch, rel=0.1)


def test_scores_in_reverse_order_have_a_slope_below_0():
    """A probe that says 1 - p has the slope -1 of p's 1, and the same size of it is not called a matter of too extreme or too timid."""
    target, probability = simulated()
    slope, turned = (recalibration_line(target, one).slope[0] for one in (probability, 1 - probability))
    assert turned == pytest.approx(-slope) and turned < 0


def test_noughts_and_ones_have_no_intercept():
    """Scores that are all 0 or 1 have no log odds to which something could be added; with one other among them there are some."""
    target = np.arange(100) < 40
    votes = np.where(np.arange(100) % 10 == 0, ~target, target).astype(float)  # one in ten is wrong
    assert np.isnan(recalibration_line(target, votes).intercept).all()
    votes[0] = 0.5
    assert np.isfinite(recalibration_line(target, votes).intercept).all()


def test_true_probabilities_are_on_the_line():
    """Outcomes drawn from the probabilities give intercept 0 and slope 1 within four standard errors."""
    line = recalibration_line(*simulated(20000, seed=3))
    assert abs(line.intercept[0]) < 0.09 and abs(line.slope[0] - 1) < 0.1


@pytest.mark.parametrize(("target", "probability"), [([1, 1], [0.2, 0.4]), ([0, 1, 1], [0.5, 0.5, 0.5]), ([0, 0, 1], [0.1, 0.2, 0.9])])
def test_a_line_that_does_not_exist_is_nan(target, probability):
    """One class, constant probabilities and separated classes have no finite line, and neither has a mean over such a replicate."""
    some = np.linspace(0.6, 0.4, len(target))
    for replicates in (np.array(probability), np.array([some, probability, some])):
        line = recalibration_line(np.array(target), replicates)
        assert np.isnan(line.intercept + line.slope).all()


def clustered(patients=300, replicates=3, seed=0):
    """Target, (R, n) probabilities and patient of each image: one to four images of a patient, whose outcomes are correlated."""
    random = np.random.default_rng(seed)
    patient = np.repeat(np.arange(patients), random.integers(1, 5, patients))

    def correlated():
        return np.sqrt(0.6) * random.normal(size=patients)[patient] + np.sqrt(0.4) * random.normal(size=patient.size)

    logit = -1 + 1.3 * correlated()
    target = (norm.cdf(correlated()) < expit(logit)).astype(int)
    said = expit((logit + 0.4 * random.normal(size=(replicates, patient.size))) / np.linspace(0.7, 1.1, replicates)[:, None])
    return target, said, patient


@pytest.mark.parametrize("by_patient", [True, False])
def test_the_interval_of_the_line_is_statsmodels(by_patient):
    """Estimates and intervals are those of statsmodels' Logit and, with an offset, GLM with cluster-robust errors, by patient and image
    by image."""
    target, said, patient = clustered()
    line = recalibration_line(target, said[0], patient if by_patient else None)
    groups = patient if by_patient else np.arange(target.size)
    options = {"cov_type": "cluster", "cov_kwds": {"groups": groups}}
    fitted = Logit(target, add_constant(logit_of(said[0]))).fit(disp=0, tol=1e-12, **options)
    np.testing.assert_allclose(line.slope, [fitted.params[1], *fitted.conf_int()[1]], rtol=1e-7)
    fitted = in_the_large(target, logit_of(said[0]), **options)
    np.testing.assert_allclose(line.intercept, [fitted.params[0], *fitted.conf_int()[0]], rtol=1e-7)


def test_the_interval_of_a_mean_over_replicates_is_that_of_one_joint_fit():
    """The replicates fitted at once, with their own lines and clusters across them, give statsmodels' error of the mean line."""
    target, said, patient = clustered()
    replicates, n = said.shape
    design = np.zeros((replicates * n, 2 * replicates))
    for k, one in enumerate(said):
        design[k * n : (k + 1) * n, 2 * k : 2 * k + 2] = add_constant(logit_of(one))
    options = {"groups": np.tile(patient, replicates), "use_correction": False}
    joint = Logit(np.tile(target, replicates), design).fit(disp=0, tol=1e-12, cov_type="cluster", cov_kwds=options)
    large = GLM(np.tile(target, replicates).astype(float), np.repeat(np.eye(replicates), n, axis=0), family=families.Binomial(),
                offset=logit_of(said).ravel()).fit(tol=1e-12, cov_type="cluster", cov_kwds=options)  # fmt: skip
    line = recalibration_line(target, said, patient)
    groups = len(set(patient))
    slopes, all_of_them = np.arange(2 * replicates) % 2 == 1, np.ones(replicates, dtype=bool)
    for (value, low, high), fit, mean, numbers in ((line.intercept, large, all_of_them, 1), (line.slope, joint, slopes, 2)):
        factor = groups / (groups - 1) * (n - 1) / (n - numbers)
        assert value == pytest.approx(fit.params[mean].mean(), rel=1e-8)
        error = np.sqrt(factor * mean @ fit.cov_params() @ mean) / replicates
        assert [value - low, high - value] == pytest.approx([1.959964 * error] * 2, rel=1e-6)


def test_the_interval_of_the_line_is_the_bootstraps():
    """The standard error of the mean line is the SD over resampled patients, within 12 % (four Monte Carlo errors of 600 draws)."""
    target, said, patient = clustered(patients=600, replicates=2)
    line = recalibration_line(target, said, patient)
    images = [np.flatnonzero(patient == k) for k in range(600)]
    random = np.random.default_rng(1)
    drawn = []
    for _ in range(600):
        taken = np.concatenate([images[k] for k in random.integers(600, size=600)])
        one = recalibration_line(target[taken], said[:, taken])
        drawn.append([one.intercept[0], one.slope[0]])
    for (_, low, high), sd in zip((line.intercept, line.slope), np.std(drawn, axis=0, ddof=1), strict=True):
        assert (high - low) / (2 * 1.959964) == pytest.approx(sd, rel=0.12)


def test_images_and_replicates_add_no_evidence():
    """Copies of a patient's images (but for n in the small-sample factor) and equal replicates narrow nothing; one patient has none."""
    target, said, patient = clustered()
    once = recalibration_line(target, said[0], patient)
    again = recalibration_line(np.repeat(target, 4), np.repeat(said[0], 4), np.repeat(patient, 4))
    for (_, low, high), (_, lower, higher) in ((once.slope, again.slope), (once.intercept, again.intercept)):
        assert higher - lower == pytest.approx(high - low, rel=1e-3)
    same = recalibration_line(target, np.repeat(said[:1], 5, axis=0), patient)
    np.testing.assert_allclose([same.intercept, same.slope], [once.intercept, once.slope], rtol=1e-12)
    lonely = recalibration_line(target, said[0], np.zeros_like(patient))
    assert lonely.slope[0] == once.slope[0] and np.isnan(lonely.slope[1:] + lonely.intercept[1:]).all()


def test_resampled_errors_are_those_of_the_repeated_images():
    """Brier and ECE of a resample are those of the data set in which every image is repeated as often as its patient was drawn."""
    target, probability = simulated(60)
    patients = np.array([f"p{i // 2:02d}" for i in range(60)], dtype=object)
    rows = pd.DataFrame({"replicate": 0, "image_id": [f"i{i:02d}" for i in range(60)], "patient_id": patients, "label": "x",
                         "target": target, "score": probability})  # fmt: skip
    draws = resample_patients(patients, 7, seed=0)
    found = {m.metric: m for m in measures.linear_probe(rows, draws)}
    bins = equal_mass_bins(probability)
    for b, counts in enumerate(draws.of_images(patients)):
        repeated = np.repeat(np.arange(60), counts)
        assert found["brier"].samples[b] == pytest.approx(brier_score_loss(target[repeated], probability[repeated]), abs=1e-12)
        sums = [np.bincount(bins.of_image[repeated], weights=w[repeated], minlength=bins.count)
                for w in (np.ones(60), probability, target.astype(float))]  # fmt: skip
        gap = (sums[1] - sums[2]) / len(repeated)
        assert found["ece"].samples[b] == pytest.approx(np.abs(gap).sum(), abs=1e-12)


@pytest.mark.parametrize("distance", [0.0, 0.2, 0.7, 1.3, 1.9, 2.5])
def test_errors_near_a_boundary_are_divided_as_feldman_and_cousins_do(distance):
    """The two tails are those of accepting, on a fine grid, the observations of the largest likelihood ratio until 95 % are in."""
    x = np.arange(-9, 9, 1e-3)
    ratio = norm.pdf(x - distance) / norm.pdf(x - np.maximum(x, 0))
    mass = norm.pdf(x - distance) * 1e-3
    order = np.argsort(-ratio, kind="stable")
    accepted = x[order[: np.searchsorted(np.cumsum(mass[order]), 0.95) + 1]]
    below, above = boundary_tails(distance)
    lowest = norm.cdf(accepted.min() - distance) if accepted.min() > x[0] else 0.0
    assert [below, above] == pytest.approx([lowest, norm.sf(accepted.max() - distance)], abs=3e-4)


def bins_of(gap, noise, said, images=1000):
    """Equally large bins with such gaps, each of which was said to hold the share `said` / bins of all images."""
    gap = np.array(gap, dtype=float)
    size = np.full(gap.size, 1 / gap.size)
    return Gaps(gap, said * size, size, np.full(gap.size, 1 / images), gap + noise, np.broadcast_to(size, noise.shape))


def resampled(target, *said, resamples=4000):
    """The gaps of probabilities (n,), or of the mean over several, and of their resamples; each image is a patient."""
    ids = np.array([f"{k:05d}" for k in range(len(target))], dtype=object)
    draws, parts = resample_patients(ids, resamples, seed=0), []
    for one in said:
        cut = equal_mass_bins(one)
        per_bin = np.zeros((one.size, 3, cut.count))
        per_bin[np.arange(one.size), :, cut.of_image] = np.stack([np.ones(one.size), one, target], axis=1)
        parts.append(Gaps.of(per_bin.sum(axis=0), draws.resampled(per_bin)))
    return Gaps.mean(parts)


@pytest.mark.parametrize(("positive", "images"), [(30, 100), (3, 100), (1, 40), (0, 50), (8, 300)])
def test_the_interval_of_one_bin_is_wilsons_score_interval(positive, images):
    """A constant probability far from the truth: what was said minus the interval is Wilson's for the share of positives, with correction
    for continuity (scipy), also of one positive, below which no resample goes, and of none, where resamples show no noise."""
    target, said = np.arange(images) < positive, 0.9
    interval = calibration_interval(resampled(target, np.full(images, said)))
    wilson = binomtest(positive, images).proportion_ci(method="wilsoncc")
    width = wilson.high - wilson.low
    assert said - interval.low == pytest.approx(wilson.high, abs=0.04 * width)  # 4,000 draws
    assert said - interval.high == pytest.approx(wilson.low, abs=0.04 * width)


def test_the_interval_of_a_shift_is_that_of_a_mean():
    """Probabilities in ten bins that are all far too high: the error is a mean of differences, and so is its interval (scipy's t)."""
    random = np.random.default_rng(0)
    said = expit(1.0 + 0.8 * random.normal(size=3000))
    target = random.random(3000) < said / 12
    interval = calibration_interval(resampled(target, said))
    low, high = ttest_1samp(said - target, 0).confidence_interval()
    assert [interval.low, interval.high] == pytest.approx([low, high], abs=0.05 * (high - low))


def test_equal_replicates_add_no_evidence_on_calibration():
    """The interval of the mean over five equal replicates is that of one of them."""
    target, said = simulated(600)
    once, again = (calibration_interval(resampled(target, *[said**1.3] * times)) for times in (1, 5))
    assert [again.low, again.median, again.high] == pytest.approx([once.low, once.median, once.high], abs=0.04 * (once.high - once.low))


def test_rounding_does_not_move_the_interval_of_the_calibration_error():
    """Sums of other order, another last digit, leave the interval as it is: with bins of no positive and with replicates that are equal."""
    random = np.random.default_rng(5)
    said = np.repeat(np.sort(random.beta(1, 9, 8)), 40)
    target = (random.random(said.size) < said / 3) & (said > np.median(said))  # no positive in the lower half of the bins
    gaps = resampled(target, said, said)
    assert (np.ptp(gaps.drawn - gaps.drawn_size / gaps.size * gaps.gap, axis=0) < 1e-12).any()
    last_digit = (1 + 1e-15 * random.normal(size=getattr(gaps, field.name).shape) for field in fields(gaps))
    other = Gaps(*(getattr(gaps, field.name) * digit for field, digit in zip(fields(gaps), last_digit, strict=True)))
    one, two = calibration_interval(gaps), calibration_interval(other)
    assert one.low > 0 and [one.low, one.median, one.high] == pytest.approx([two.low, two.median, two.high], abs=1e-9)


def test_noughts_and_ones_without_an_error_have_an_interval():
    """Where forty images are all right, the rate of errors can be of the size that the rule of three says, 3 / 40, and not 0 alone."""
    interval = calibration_interval(resampled(np.arange(40) < 12, (np.arange(40) < 12).astype(float)))
    assert interval.low == interval.median == 0 and 0.04 < interval.high < 0.1


def test_the_interval_of_one_bin_with_normal_noise_is_that_of_the_folded_normal():
    """One bin: each end solves the folded normal's distribution function, with the tails and the noise of that end's own distance; the
    noise goes with the square root of the binomial variance there."""
    noise = 0.1 * norm.ppf((np.arange(20000) + 0.5) / 20000)[:, None]

    def shown(error):
        sd = 0.1 * np.sqrt((0.5 - error) * (0.5 + error) / ((0.5 - observed) * (0.5 + observed)))
        return foldnorm(error / sd, scale=sd)

    def tails(end):
        return boundary_tails((shown(end).median() - shown(0).median()) / shown(end).std())

    for observed in (0.05, 0.15, 0.21, 0.3):
        interval = calibration_interval(bins_of([observed], noise, said=0.5))
        above = shown(interval.low).sf(observed)
        assert above == pytest.approx(tails(interval.low)[1], abs=5e-3) or (interval.low == 0 and above >= 0.045)
        assert shown(interval.high).cdf(observed) == pytest.approx(tails(interval.high)[0], abs=5e-3)


def test_an_error_smaller_than_noise_alone_would_show_still_has_an_interval():
    """An observed error below every draw of the noise is held to be possible: from 0 to some error above 0, never an empty interval."""
    noise = 0.01 * np.random.default_rng(0).normal(size=(2000, 10))
    assert np.abs(noise).sum(axis=1).min() > 1e-4
    interval = calibration_interval(bins_of([1e-5] * 10, noise, said=0.5))
    assert interval.low == interval.median == 0 < interval.high < 0.1


def test_an_error_is_at_most_what_the_bins_can_hold():
    """With too few resamples to refuse anything from above, the upper end is the error of bins without a positive: what was said."""
    noise = 0.01 * np.random.default_rng(0).normal(size=(20, 10))
    assert calibration_interval(bins_of([0.06] * 10, noise, said=0.8)).high == pytest.approx(0.8)


def test_the_gaps_of_a_mean_over_labels_are_all_its_labels_gaps():
    """The error of a mean over labels is the mean of theirs, and the sizes of its gaps add up to it, on the data and on every resample."""
    target, probability = simulated(300)
    random = np.random.default_rng(1)
    rows = pd.DataFrame({"replicate": 0, "image_id": np.tile([f"i{i:03d}" for i in range(300)], 2),
                         "patient_id": np.tile([f"p{i // 2:03d}" for i in range(300)], 2), "label": np.repeat(["x", "y"], 300),
                         "target": np.r_[target, random.random(300) < 0.3], "score": np.r_[probability, probability**2]})  # fmt: skip
    found = {(m.target, m.metric): m for m in measures.linear_probe(rows, resample_patients(rows.patient_id, 50, seed=0))}
    x, y, both = (found[name, "ece"] for name in ("x", "y", "Agg-2"))
    assert both.value == pytest.approx((x.value + y.value) / 2) == pytest.approx(np.abs(Gaps.mean(both.gaps).gap).sum())
    np.testing.assert_allclose(np.abs(Gaps.mean(both.gaps).drawn).sum(axis=1), both.samples)


def test_scores_that_are_no_probabilities_have_no_calibration():
    """Logits get AUPRC and AUROC and no Brier score."""
    target, probability = simulated(50)
    rows = pd.DataFrame({"replicate": 0, "image_id": np.arange(50).astype(str), "patient_id": np.arange(50).astype(str), "label": "x",
                         "target": target, "score": 8 * probability - 2})  # fmt: skip
    found = measures.linear_probe(rows, resample_patients(rows.patient_id, 5, seed=0))
    assert {m.metric for m in found} == {"auprc", "auroc"}
