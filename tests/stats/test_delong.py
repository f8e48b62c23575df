"""DeLong's covariance against pROC, against its definition, and with patients as clusters."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from stats.bootstrap import resample_patients
from stats.delong import delong, delong_of_replicates, placements
from stats.paired import p_two_sided
from stats.ranking import auroc

ORACLE = json.loads((Path(__file__).parent / "oracle" / "proc.json").read_text())


def proc_data():
    """The images of oracle/proc.R."""
    i = np.arange(120)
    target = (i * 37 % 10 < 3).astype(int)
    one = np.round(2 * target + 3 * np.sin(i * 1.7))
    two = np.round(target + 3 * np.cos(i * 2.3), 1)
    return target, np.array([one, two, one + np.round(np.sin(i * 0.9))])


def test_areas_and_covariances_are_procs():
    """AUROCs, variances and covariances of three scores with many ties are those of R's pROC, to 12 digits."""
    areas = delong(*proc_data())
    np.testing.assert_allclose(areas.auroc, ORACLE["auc"], rtol=1e-12)
    np.testing.assert_allclose(np.diag(areas.covariance), ORACLE["variance"], rtol=1e-11)
    np.testing.assert_allclose([areas.covariance[0, 1], areas.covariance[0, 2], areas.covariance[1, 2]], ORACLE["covariance"], rtol=1e-11)


def test_p_values_are_procs():
    """One- and two-sided p of the three paired comparisons are those of pROC's roc.test."""
    areas = delong(*proc_data())
    for place, (a, b) in enumerate([(0, 1), (0, 2), (1, 2)]):
        for one, other in ((a, b), (b, a)):
            found = p_two_sided(areas.p_one_sided(one, other), areas.p_one_sided(other, one))
            assert found == pytest.approx(ORACLE["p_two_sided"][place], rel=1e-9)
        assert areas.p_one_sided(a, b) == pytest.approx(ORACLE["p_greater"][place], rel=1e-9)


def test_placements_are_shares_of_outranked_negatives():
    """Each placement is the counted share of the other class that is on the right side, ties one half."""
    target, scores = proc_data()
    positive, negative = placements(target, scores)
    for k, score in enumerate(scores):
        wins = np.greater.outer(score[target > 0], score[target == 0]) + 0.5 * np.equal.outer(score[target > 0], score[target == 0])
        np.testing.assert_allclose(positive[k], wins.mean(axis=1), atol=1e-14)
        np.testing.assert_allclose(negative[k], wins.mean(axis=0), atol=1e-14)
    assert delong(target, scores).auroc[1] == pytest.approx(roc_auc_score(target, scores[1]), abs=1e-14)


def test_copies_of_an_image_add_no_evidence():
    """Four copies of every image, clustered by image, have the variance of the images themselves; unclustered a quarter."""
    target, scores = proc_data()
    once = delong(target, scores).covariance
    copied = np.repeat(target, 4), np.repeat(scores, 4, axis=1), np.repeat(np.arange(120), 4)
    np.testing.assert_allclose(delong(*copied).covariance, once, rtol=1e-10)
    assert np.diag(delong(*copied[:2]).covariance) == pytest.approx(np.diag(once) / 4, rel=0.06)


def test_clustered_variance_is_the_bootstraps():
    """With patients that have images of both classes and shared noise, the variance of a difference agrees with the cluster bootstrap."""
    random = np.random.default_rng(0)
    patients = np.repeat([f"{i:03d}" for i in range(250)], 4).astype(object)
    target = (np.repeat(random.random(250) < 0.3, 4) ^ (random.random(1000) < 0.1)).astype(int)
    effect = np.repeat(random.normal(size=(2, 250)), 4, axis=1)
    scores = 0.8 * target + effect + random.normal(size=(2, 1000))
    draws = resample_patients(patients, 3000, seed=0)
    counts = draws.of_images(patients)
    delta = auroc(target, scores[0], counts) - auroc(target, scores[1], counts)
    clustered, free = (delong(target, scores, who).difference(0, 1)[1] for who in (patients, None))
    assert clustered == pytest.approx(delta.std(), rel=0.05)
    assert free < 0.8 * delta.std()  # images that stood for themselves would pretend to know more


def test_replicates_enter_by_their_mean():
    """With three folds the AUROC is the mean of the three, and identical folds change neither value nor covariance."""
    target, scores = proc_data()
    folds = np.stack([scores, scores[::-1], scores], axis=1)  # (K, R, n)
    mean = np.mean([[roc_auc_score(target, one) for one in encoder] for encoder in folds], axis=1)
    np.testing.assert_allclose(delong(target, folds).auroc, mean, atol=1e-14)
    same = delong_of_replicates(target, [np.repeat(scores[:1], 5, axis=0), scores[1:2]])
    np.testing.assert_allclose(same.covariance, delong(target, scores[:2]).covariance, rtol=1e-12)


@pytest.mark.parametrize("target", [np.zeros(6), np.ones(6), np.array([])])
@pytest.mark.filterwarnings("error")
def test_a_missing_class_is_named(target):
    """Without a positive or without a negative the error says how many there are and that both are needed, and numpy warns of nothing."""
    with pytest.raises(ValueError, match=rf"delong: got {int(target.sum())} positives of {target.size} images; expected both classes"):
        delong(target, np.zeros((2, target.size)))


def test_equal_encoders_and_lonely_classes():
    """Two equal scores have p = 1/2; a class with one patient has no variance and no p."""
    target, scores = proc_data()
    assert delong(target, scores[[0, 0]]).p_one_sided(0, 1) == 0.5
    assert np.isnan(delong(np.array([0, 0, 1, 1]), np.array([[0, 0, 1, 1], [1, 1, 0, 0]])).p_one_sided(0, 1))  # no variance, no p of 0
    lonely = delong(np.r_[1, np.zeros(9, int)], np.arange(20.0).reshape(2, 10))
    assert np.isnan(lonely.covariance).all() and np.isnan(lonely.p_one_sided(0, 1))
