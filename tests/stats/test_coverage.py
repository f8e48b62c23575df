"""A small version of the coverage study: intervals cover, tests keep their level, power has its closed form."""

import importlib.util

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.metrics import average_precision_score

from radbench.artifact import ROOT

spec = importlib.util.spec_from_file_location("coverage_study", ROOT / "benchmarks" / "coverage.py")
study = importlib.util.module_from_spec(spec)
spec.loader.exec_module(study)
STUDIES = 300


def between(share: float, low: float, high: float) -> bool:
    """Whether a share of STUDIES is compatible with a true one between low and high (each end at 0.1 %)."""
    hits = round(share * STUDIES)
    return binom.ppf(0.001, STUDIES, low) <= hits <= binom.ppf(0.999, STUDIES, high)


def test_true_auprc_is_that_of_a_large_sample():
    """The integral agrees with scikit-learn's average precision of two million simulated images."""
    target, (score,) = study.scores(np.random.default_rng(0), 2_000_000, 100_000, [study.SHIFT])
    assert study.true_auprc(0.05, study.SHIFT) == pytest.approx(average_precision_score(target, score), abs=0.003)


def test_intervals_cover():
    """At a prevalence of 6 % and 800 images, 95 % intervals of AUPRC and AUROC hold the truth in 93 to 97 % of studies."""
    shares = study.coverage_of_classification(800, 48, STUDIES, 300, seed=1)
    assert all(between(share, 0.93, 0.97) for share in shares.values()), shares


def test_the_interval_of_the_recalibration_line_covers():
    """Five folds on 400 patients with two correlated images: 93 to 97 % of the intervals of slope and intercept hold the truth."""
    shares = study.coverage_of_recalibration(800, 160, STUDIES, seed=5)
    assert all(between(share, 0.93, 0.97) for share in shares.values()), shares


def test_tests_keep_their_level():
    """Of equal encoders 4 to 6 % are called better (one-sided) or different (two-sided) by every test; the plain t is worse."""
    shares = study.level_of_classification(800, 160, STUDIES, 300, seed=2) | study.level_of_a_mean(171, STUDIES, 300, seed=2)
    del shares["McNemar"], shares["McNemar, two-sided"]  # exact and discrete: at most 5 %, often less
    assert len(shares) == 12 and all(between(share, 0.04, 0.06) for share in shares.values()), shares
    for name, share in study.level_of_corrected_t(4000, seed=2).items():
        assert share > 0.09 if name.startswith("plain") else share == pytest.approx(0.05, abs=0.011), name


def test_equivalence_at_the_margin_is_rare():
    """When the true difference is the margin, 4 to 6 % are called equivalent."""
    shares = study.level_at_the_margin(171, STUDIES, 300, seed=3)
    assert all(between(share, 0.04, 0.06) for share in shares.values()), shares


def test_power_has_its_closed_form():
    """The paired bootstrap finds a difference of half a point among 171 images as often as the formula says."""
    found = study.power_of_a_mean(171, STUDIES, 300, seed=4, gain=0.005)
    assert between(found["measured"], found["closed form"] - 0.02, found["closed form"] + 0.02), found
