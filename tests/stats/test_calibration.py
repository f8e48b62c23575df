"""Calibration against scikit-learn and probabilities that are right by construction."""

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss

from stats import measures
from stats.bootstrap import resample_patients
from stats.calibration import brier_terms, calibration_error, equal_mass_bins, recalibration_line


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
    sums = [np.bincount(bins.of_image, weights=w, minlength=bins.count) for w in (np.ones(4000), probability, target)]
    observed, said = calibration_curve(target, probability, n_bins=10, strategy="quantile")
    assert sums[0] == pytest.approx(np.full(10, 400)) and len(observed) == 10
    assert calibration_error(*sums) == pytest.approx(np.abs(observed - said).mean(), abs=1e-4)  # their edges interpolate


def test_equal_probabilities_share_a_bin():
    """Ties are never split between bins, and a constant probability is one bin."""
    bins = equal_mass_bins(np.r_[np.full(50, 0.2), np.linspace(0.3, 0.9, 50)])
    assert len(set(bins.of_image[:50])) == 1 and bins.count <= 10 and equal_mass_bins(np.full(9, 0.4)).count == 1


def test_recalibration_line_is_scikit_learns():
    """Intercept and slope are those of scikit-learn's unpenalised logistic regression on the logit, for extreme and timid values."""
    target, probability = simulated()
    logit = np.log(probability / (1 - probability))
    for stretch in (0.5, 1.0, 2.5):
        said = 1 / (1 + np.exp(-(stretch * logit + 0.3)))
        fitted = LogisticRegression(C=np.inf, tol=1e-10, max_iter=500).fit((stretch * logit + 0.3)[:, None], target)
        np.testing.assert_allclose(recalibration_line(target, said), [fitted.intercept_[0], fitted.coef_[0, 0]], atol=1e-5)


def test_true_probabilities_are_on_the_line():
    """Outcomes drawn from the probabilities give intercept 0 and slope 1 within four standard errors."""
    intercept, slope = recalibration_line(*simulated(20000, seed=3))
    assert abs(intercept) < 0.12 and abs(slope - 1) < 0.1


@pytest.mark.parametrize(("target", "probability"), [([1, 1], [0.2, 0.4]), ([0, 1, 1], [0.5, 0.5, 0.5]), ([0, 0, 1], [0.1, 0.2, 0.9])])
def test_a_line_that_does_not_exist_is_nan(target, probability):
    """One class, constant probabilities and separated classes have no finite recalibration line."""
    assert np.isnan(recalibration_line(np.array(target), np.array(probability))).all()


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
        assert found["ece"].samples[b] == pytest.approx(float(calibration_error(*sums)), abs=1e-12)


def test_scores_that_are_no_probabilities_have_no_calibration():
    """Logits get AUPRC and AUROC and no Brier score."""
    target, probability = simulated(50)
    rows = pd.DataFrame({"replicate": 0, "image_id": np.arange(50).astype(str), "patient_id": np.arange(50).astype(str), "label": "x",
                         "target": target, "score": 8 * probability - 2})  # fmt: skip
    found = measures.linear_probe(rows, resample_patients(rows.patient_id, 5, seed=0))
    assert {m.metric for m in found} == {"auprc", "auroc"}
