"""The learning curve ends at the full probe and is measured like it."""

import re

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from stats.compare import Settings, compare
from stats.errors import PredictionsError, SampleMismatch, TruthMismatch

from .conftest import write_sidecar

OUT = "results/stats/linear_probe/toy"


def test_each_point_is_measured_on_the_same_test_images(results):
    """Points stand in order of training images, each with scikit-learn's AUROC of its own scores, the full probe last."""
    full = results.probe_rows(2.0, seed=1, labels=("x",), replicates=1)
    few = results.probe_rows(0.5, seed=2, labels=("x",), replicates=1)
    folder = results.write("linear_probe", "toy", "one", full)
    few.assign(dataset="toy", task="linear_probe", encoder="one", train_images=40).to_parquet(folder / "learning_curve.parquet")
    facts = {"protocol": {}, "version": "1", "reduced": [], "learned": 400}
    write_sidecar(folder, "predictions", "linear_probe/toy/one", facts)
    compare("linear_probe", "toy", "one", [folder], OUT, Settings(resamples=50))
    curve = pd.read_csv(f"{OUT}/learning_curves.csv")
    auroc = curve[curve.metric == "auroc"].set_index("train_images")
    assert list(auroc.index) == [40, 400] and set(auroc.n_images) == {120}
    for count, rows in ((40, few), (400, full)):
        assert auroc.loc[count, "value"] == pytest.approx(roc_auc_score(rows.target, rows.score), abs=1e-9)
    estimates = pd.read_csv(f"{OUT}/estimates.csv").set_index("metric")
    assert auroc.loc[400, "low"] == pytest.approx(estimates.loc["auroc", "low"], abs=1e-9)


def other_truth(curve):
    return curve.assign(target=np.where(curve.image_id == "image007", 1 - curve.target, curve.target).astype(np.float32))


def other_patient(curve):
    return curve.assign(patient_id=np.where(curve.image_id == "image007", "toy:002x", curve.patient_id))


def last_patient(curve):
    return curve.assign(patient_id=np.where(curve.image_id == "image119", "zzz", curve.patient_id))


def unknown_image(curve):
    return curve.assign(image_id=np.where(curve.image_id == "image007", "image999", curve.image_id))


def lacking_image(curve):
    return curve[curve.image_id != "image007"]


def as_many_as_the_full_probe(curve):
    return curve.assign(train_images=curve.train_images.replace(80, 400))


def one_lacking_image(curve):
    return curve[(curve.image_id != "image007") | (curve.replicate == 0) | (curve.train_images == 40)]


@pytest.mark.parametrize(("change", "error", "got"), [
    (other_truth, TruthMismatch, "another target in the probe of 40 training images than in the full probe for 1 samples (image007/x)"),
    (other_patient, TruthMismatch, "another patient_id in the probe of 40 training images than in the full probe for 1 samples"),
    (last_patient, TruthMismatch, "another patient_id in the probe of 40 training images than in the full probe for 1 samples"),
    (unknown_image, SampleMismatch, "only in the full probe: image007/x; only in the probe of 40 training images: image999/x"),
    (lacking_image, SampleMismatch, "1 samples only in the full probe and 0 only in the probe of 40 training images"),
    (as_many_as_the_full_probe, PredictionsError, "a point of 400 training images, as many as the full probe learned from"),
    (one_lacking_image, SampleMismatch, "80 training images: got 1 samples only in replicate 0 and 0 only in replicate 1"),
])  # fmt: skip
@pytest.mark.parametrize("unit", ["patient", "image"])
def test_a_curve_of_other_test_images_is_refused(results, unit, change, error, got):
    """Another target or patient of one image, an image too many or too few: a named error says in which point, and no file is written."""
    full = results.probe_rows(2.0, seed=1, labels=("x",), replicates=2)
    curve = pd.concat([results.probe_rows(0.5, seed=n, labels=("x",), replicates=2).assign(train_images=n) for n in (40, 80)])
    folder = results.write("linear_probe", "toy", "one", full, curve=change(curve), learned=400)
    with pytest.raises(error, match=re.escape(got)) as found:
        compare("linear_probe", "toy", "one", [folder], OUT, Settings(resamples=20, unit=unit))
    assert "learning_curve.parquet" in str(found.value) and not (results.root / OUT).exists()


def test_points_count_the_same_patients_whatever_is_drawn(results):
    """Whether patients, studies or images are drawn, or no patient is named, each point has as many people as the full probe, and its
    interval is that of the resamples of the full one: a curve of the same scores has the same numbers at every point."""
    full = results.probe_rows(2.0, seed=1, labels=("x",), replicates=2).assign(study_id=lambda rows: rows.image_id.str[:-1])
    for unit, rows in (("patient", full), ("study", full), ("image", full), ("patient", full.assign(patient_id=""))):
        curve = rows[rows.replicate == 0].drop(columns="study_id").assign(train_images=40)
        folder = results.write("linear_probe", "toy", "one", rows[rows.replicate == 0], curve=curve, learned=400)
        compare("linear_probe", "toy", "one", [folder], OUT, Settings(resamples=50, unit=unit))
        few, whole = (part.drop(columns="train_images").reset_index(drop=True)
                      for _, part in pd.read_csv(f"{OUT}/learning_curves.csv").groupby("train_images"))  # fmt: skip
        pd.testing.assert_frame_equal(few, whole)
        assert set(few.n_patients) == {120 if rows.patient_id.eq("").all() else 60}
