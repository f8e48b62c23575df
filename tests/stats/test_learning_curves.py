"""The learning curve ends at the full probe and is measured like it."""

import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from stats.compare import Settings, compare

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
