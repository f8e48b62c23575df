"""A small version of the coverage study: intervals cover, tests keep their level, power has its closed form."""

import importlib.util
import re
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.metrics import average_precision_score

from radbench.artifact import ROOT
from stats.text import corpus_bleu4

spec = importlib.util.spec_from_file_location("coverage_study", ROOT / "benchmarks" / "coverage.py")
study = importlib.util.module_from_spec(spec)
spec.loader.exec_module(study)
STUDIES = 1500
FEW = 300  # where a study takes long


def between(share: float, low: float, high: float, studies: int = STUDIES) -> bool:
    """Whether a share of studies is compatible with a true one between low and high (each end at 0.1 %).

    1,500 studies tell 4 to 6 % from 2.4 and from 8 %, and 93 to 97 % from 90.9 and from 98.3 %; 300 from 1 and 10.7, 88 and 99.7 %.
    """
    hits = round(share * studies)
    return binom.ppf(0.001, studies, low) <= hits <= binom.ppf(0.999, studies, high)


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
    """Of equal encoders 4 to 6 % are called better (one-sided) or different (two-sided) by every test."""
    shares = study.level_of_classification(800, 160, STUDIES, 300, seed=2) | study.level_of_a_mean(171, STUDIES, 300, seed=2)
    del shares["McNemar"], shares["McNemar, two-sided"]  # exact and discrete: at most 5 %, often less
    assert len(shares) == 12 and all(between(share, 0.04, 0.06) for share in shares.values()), shares


def test_tests_of_folds_keep_their_level_on_other_training_and_test_images():
    """Real probes on folds of one training set: 4 to 6 % of equal encoders are called better, where the plain t calls a third so."""
    shares = study.level_of_folds((1200, 240), (300, 60), STUDIES, 300, seed=2, width=300)
    assert len(shares) == 14 and shares["AUROC, plain t (for comparison)"] > 0.2
    for name, share in shares.items():
        assert "for comparison" in name or between(share, 0.04, 0.06), shares


def test_better_than_the_best_other_keeps_its_level():
    """Beside a near copy that is a little worse, the largest p calls at most 6 % better than an equal; that of the best other, a fifth."""
    shares = study.level_against_the_best(171, 0.002, 0.99, STUDIES, 300, seed=18)
    assert between(shares["the largest p"], 0.0, 0.06) and shares["p of the best other (for comparison)"] > 0.2
    equal = study.level_against_the_best(171, 0.0, 0.5, STUDIES, 300, seed=18)
    assert equal["the largest p"] <= equal["p of the best other (for comparison)"]


def test_equivalence_at_the_margin_is_rare():
    """When the true difference is the margin, 4 to 6 % are called equivalent."""
    shares = study.level_at_the_margin(171, STUDIES, 300, seed=3)
    assert all(between(share, 0.04, 0.06) for share in shares.values()), shares


def test_power_has_its_closed_form():
    """The paired bootstrap finds a difference of half a point among 171 images as often as the formula says."""
    found = study.power_of_a_mean(171, STUDIES, 300, seed=4, gain=0.005)
    assert between(found["measured"], found["closed form"] - 0.02, found["closed form"] + 0.02), found


def test_the_interval_of_a_difference_covers_and_non_inferiority_keeps_its_level():
    """A true difference of the margin lies in 93 to 97 % of the intervals, and 4 to 6 % of the studies call it not inferior."""
    found = study.difference_in_classification(800, 160, STUDIES, 300, seed=6) | study.difference_of_means(171, STUDIES, 300, seed=6)
    for name, share in found.items():
        low, high = (0.04, 0.06) if name.startswith("non-inferiority") else (0.93, 0.97)
        assert between(share, low, high), (name, share)


def test_the_intervals_of_means_over_labels_and_of_reports_cover():
    """Agg-6 at the six prevalences and corpus BLEU-4 over patients with three reports: 93 to 97 % of the intervals hold the truth."""
    shares = study.coverage_of_an_aggregate(1500, [count / 2 for count in study.AGGREGATED], STUDIES, 300, seed=8)
    shares |= study.coverage_of_reports(STUDIES, 300, seed=10)
    assert len(shares) == 4 and all(between(share, 0.93, 0.97) for share in shares.values()), shares


def test_the_interval_moved_against_its_bias_covers_where_the_percentile_interval_does_not():
    """The mean AUPRC of weak encoders over rare labels lies in few percentile intervals and in nearly all that are moved; BCa between."""
    shares = study.coverage_of_auprc(219, (30, 9, 13, 15, 21, 7, 9, 5), study.WEAK, FEW, 300, seed=15)
    assert shares["percentile (in the tables)"] < 0.5 < shares["BCa"] < shares["shifted"] and shares["shifted"] > 0.8
    shares = study.coverage_of_auprc(1500, (400,), study.SHIFT, STUDIES, 300, seed=16)
    assert all(between(share, 0.92, 0.97) for share in shares.values()), shares


def test_few_positives_find_too_much():
    """With three positive images far too many equal encoders have a p below 0.3 %; with fifteen the test at 5 % keeps its level."""
    three, fifteen = (study.level_on_few_positives(219, count, STUDIES, 400, seed=17) for count in (3, 15))
    assert three["p below 0.3 % (for comparison)"] > 0.02 > fifteen["p below 0.3 % (for comparison)"]
    assert between(fifteen["bootstrap, AUPRC"], 0.04, 0.06)


def test_the_true_calibration_error_is_that_of_a_large_sample():
    """The truth against which intervals of the calibration error are held is what a million images show, and 0 where perfect."""
    middle, grid = study.chances(1000, 100)
    random = np.random.default_rng(0)
    logit = middle + study.LOGIT_SD * random.normal(size=1_000_000)
    target = random.random(logit.size) < study.expit(logit)
    for say in study.SAID.values():
        said = study.expit(say(logit, middle))
        truth, cut = study.true_calibration_error(middle, grid, say), study.equal_mass_bins(said)
        _, promised, positive = (np.bincount(cut.of_image, weights) for weights in (np.ones(said.size), said, target))
        assert np.abs(promised - positive).sum() / said.size == pytest.approx(truth, abs=0.003)
    assert study.true_calibration_error(middle, grid, study.SAID["ECE, perfect"]) == 0


def test_the_interval_of_the_calibration_error_covers():
    """93 to 97 % of its intervals hold the truth, at an error of 0 too, image by image and with folds and patients."""
    for options in ({}, {"folds": 3, "of_a_patient": 2}):
        shares = study.coverage_of_calibration_error(1500, 155, FEW, 300, seed=12, **options)
        assert all(between(share, 0.93, 0.97, FEW) for share in shares.values()), (options, shares)


def test_the_truth_of_reports_is_that_of_a_large_sample(monkeypatch):
    """Expected counts from the moments of the beta distribution give the corpus BLEU-4 of three hundred thousand simulated reports."""
    monkeypatch.setattr(study, "REPORTS", 300_000)
    seen = {}
    monkeypatch.setattr(study, "corpus_bleu4", lambda sums: seen.setdefault(len(seen), corpus_bleu4(sums)))
    study.coverage_of_reports(1, 20, seed=0)
    assert float(np.mean(seen[1])) == pytest.approx(float(seen[0]), rel=0.01)


def test_drawing_runs_too_makes_the_test_more_careful():
    """Where training runs scatter, drawing patients and runs calls fewer equal encoders different than drawing patients alone."""
    shares = study.level_of_two_levels(171, 5, 2 * STUDIES, 300, seed=11)
    assert shares["patients and runs"] < shares["patients alone (for comparison)"]
    assert shares["patients and runs, two-sided"] < shares["patients alone (for comparison), two-sided"]


def test_the_whole_study_runs_by_one_command(capsys, monkeypatch, tmp_path):
    """Every table of the page is filled by the command that docs/coverage.md names, here with one study and twenty resamples."""
    monkeypatch.setattr(study, "ProcessPoolExecutor", ThreadPoolExecutor)
    monkeypatch.setattr(sys, "argv", ["coverage.py", "--studies", "1", "--resamples", "20", "--out", str(tmp_path / "page.md")])
    study.main()
    text = (tmp_path / "page.md").read_text()
    assert capsys.readouterr().out.strip() == text.strip() and "nan" not in text
    published = (ROOT / "docs" / "coverage.md").read_text()
    assert re.findall(r"^#.*|^\| [^|]*\|", text, re.M) == re.findall(r"^#.*|^\| [^|]*\|", published, re.M)


def test_what_stands_out_is_named():
    """Each number outside its range is named with column and row, none inside, and the plain t, which is there to be wrong, is not."""
    tables = study.table("test set", {"a": {"AUPRC": 0.929, "AUROC": 0.93}, "b": {"AUPRC": 0.92, "AUROC": 0.971}})
    levels = study.table("runs", {"3": {"t": 0.061, "plain t (for comparison)": 0.2}})
    text = study.remarks(f"## Share of 95 % intervals\n\n{tables}\n\n## Share of studies that\n\n{levels}\n\n## Power\n\n{levels}\n")
    assert "97 % of the studies:\n\n- a (test set): AUPRC 92.9\n- b (test set): AUPRC 92.0; AUROC 97.1\n\n" in text
    assert text.endswith("than 6 %:\n\n- 3 (runs): t 6.1\n")
