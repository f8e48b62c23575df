"""Groups: measured on their own images, gaps paired on the shared patients, small groups without numbers."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from stats.bootstrap import resample_patients
from stats.compare import Settings, compare, positive_sets
from stats.measures import linear_probe
from stats.predictions import Cohort, Predictions
from stats.subgroups import GAP, GROUP

OUT = "results/stats/linear_probe/toy"


def run(results, **columns):
    rows = results.probe_rows(1.5, labels=("x",), replicates=2)
    place = rows["image_id"].str[-3:].astype(int)
    for name, make in columns.items():
        rows[name] = make(place)
    compare("linear_probe", "toy", "one", [results.write("linear_probe", "toy", "one", rows)], OUT, Settings(resamples=80))
    return rows, pd.read_csv(f"{OUT}/subgroups.csv")


def test_a_group_is_measured_on_its_own_images(results):
    """The AUROC of a group is scikit-learn's on the images of that group, mean over the folds; the gap is best minus worst."""
    rows, found = run(results, sex=lambda place: np.where(place < 60, "F", "M"))
    auroc = found[(found.metric == "auroc") & (found.kind == GROUP)].set_index("group")["value"]
    for group, own in rows.groupby("sex"):
        wanted = np.mean([roc_auc_score(one.target, one.score) for _, one in own.groupby("replicate")])
        assert auroc[group] == pytest.approx(wanted, abs=1e-9)
    gap = found[(found.metric == "auroc") & (found.kind == GAP)].iloc[0]
    assert gap["value"] == pytest.approx(auroc.max() - auroc.min(), abs=1e-9) and gap.low < gap["value"] < gap.high
    assert auroc[gap.worst] == auroc.min() and auroc[gap.group] == auroc.max()
    draws = resample_patients(results.patients, 80, 0)
    drawn = {}
    for group, own in rows.groupby("sex"):
        (of_group,) = (m for m in linear_probe(own.reset_index(drop=True), draws, calibration=False) if m.metric == "auroc")
        drawn[group] = of_group.samples
    ends = np.nanpercentile(drawn[gap.group] - drawn[gap.worst], [2.5, 97.5])  # of this pair, whichever is worse on a resample
    assert [gap.low, gap.high] == pytest.approx(ends, abs=1e-9)


def test_small_groups_have_no_numbers(results):
    """A group of fewer than ten patients is named and has neither value nor interval."""
    _, found = run(results, site=lambda place: np.where(place < 4, "tiny", np.where(place < 60, "A", "B")))
    tiny = found[found.group == "tiny"]
    assert len(tiny) == 1 and tiny["value"].isna().all() and "fewer than 10 patients" in tiny.reason.iloc[0]


def test_a_small_group_stays_hidden_when_images_are_drawn(results):
    """A group of eight patients with two images each has no numbers when images are resampled either: sixteen images are not people."""
    rows = results.probe_rows(1.5, labels=("x",), replicates=1)
    rows["site"] = np.where(rows["image_id"].str[-3:].astype(int) < 16, "tiny", "A")
    rows.loc[rows.index[100:], "site"] = "B"
    folder = results.write("linear_probe", "toy", "one", rows)
    compare("linear_probe", "toy", "one", [folder], OUT, Settings(resamples=20, unit="image"))
    found = pd.read_csv(f"{OUT}/subgroups.csv")
    assert found[found.group == "tiny"]["value"].isna().all() and "fewer than 10 patients" in found[found.group == "tiny"].reason.iloc[0]


def test_unknown_and_single_groups_are_left_out(results):
    """Images without a group count in none, and a grouping with one group is no grouping."""
    _, found = run(results, sex=lambda place: np.where(place < 30, "", np.where(place < 75, "F", "M")), view=lambda place: "PA")
    assert set(found.grouping) == {"sex"}
    assert found[(found.metric == "auroc") & (found.kind == GROUP)].n_images.sum() == 90


def test_studies_are_a_unit_and_must_be_known(results):
    """With --unit study the studies are drawn; a file without study ids is refused by name."""
    from stats.errors import PredictionsError

    rows = results.probe_rows(1.0, labels=("x",)).assign(study_id=lambda r: "s" + r.image_id.str[-3:-1])
    folder = results.write("linear_probe", "toy", "one", rows)
    compare("linear_probe", "toy", "one", [folder], OUT, Settings(resamples=20, unit="study"))
    estimates = pd.read_csv(f"{OUT}/estimates.csv")
    assert set(estimates.unit) == {"study"} and set(estimates.n_units) == set(estimates.n_patients) == {60}
    folder = results.write("linear_probe", "toy", "one", rows.assign(study_id=""))
    with pytest.raises(PredictionsError, match="without a study id.*--unit image"):
        compare("linear_probe", "toy", "one", [folder], OUT, Settings(resamples=20, unit="study"))


def test_a_stratified_draw_keeps_the_positives(results):
    """Stratified by sets of findings no resample lacks a positive, and the interval of AUPRC is not wider than the free one."""
    rows = results.probe_rows(1.0, labels=("x",))
    rare = [f"image{k:03d}" for k in range(0, 24, 2)]
    rows["target"] = rows.image_id.isin(rare).astype(np.float32)
    folder = results.write("linear_probe", "toy", "one", rows)
    width = {}
    for stratified in (False, True):
        compare("linear_probe", "toy", "one", [folder], OUT, Settings(resamples=400, stratified=stratified))
        row = pd.read_csv(f"{OUT}/estimates.csv").set_index("metric").loc["auprc"]
        width[stratified] = row.high - row.low
        assert row.resamples_valid == 400
    assert width[True] < width[False]


@pytest.mark.parametrize(("sets", "strata"), [
    ({"": 20, "A": 20, "B": 1}, [20, 21]),  # the only B is drawn with those who have nothing
    ({"A": 20, "C": 9, "B": 1}, [10, 20]),  # everybody has something: with the smallest other set
    ({"": 20, "A": 3, "B": 2}, [5, 20]),  # together they are enough
    ({"": 2, "A": 1}, [3]),
    ({"": 5, "rare": 9, "A": 3, "B": 3}, [5, 6, 9]),  # a label may be called so
])  # fmt: skip
def test_no_stratum_is_smaller_than_five(sets, strata):
    """Where five patients can be had together no stratum has fewer, so that even the only positive is drawn now and then, and twice."""
    names = [name for name, size in sets.items() for _ in range(size)]
    patients = [f"{k:02d}" for k in range(len(names))]
    rows = pd.concat([pd.DataFrame({"image_id": patients, "patient_id": patients, "label": label, "replicate": 0,
                                    "target": [float(name == label) for name in names]}) for label in sets if label])  # fmt: skip
    found = positive_sets(Cohort("linear_probe", "toy", [Predictions("one", None, rows)], "patient", patients, len(patients)))
    assert sorted(pd.Series(found).value_counts()) == strata
    drawn = resample_patients(patients, 500, 0, found).counts
    assert drawn.std(axis=0).min() > 0.5 and {0, 1, 2} <= set(drawn[:, -1])


def test_few_positives_in_a_group_have_no_numbers(results):
    """A group with two positive patients is named without a value and without a gap: two or three draws of them are no interval."""
    rows = results.probe_rows(1.5, labels=("x",), replicates=1).assign(sex=lambda r: np.where(r.image_id < "image060", "F", "M"))
    rows["target"] = rows.image_id.isin([*(f"image{k:03d}" for k in range(4)), *(f"image{k:03d}" for k in range(60, 90))]).astype(
        np.float32
    )
    compare("linear_probe", "toy", "one", [results.write("linear_probe", "toy", "one", rows)], OUT, Settings(resamples=20))
    found = pd.read_csv(f"{OUT}/subgroups.csv").set_index("group")
    few = found.loc[["F"]]
    assert few["value"].isna().all() and few["n_positive"].eq(4).all() and few["reason"].str.contains("fewer than 5 patients with it").all()
    assert found.loc[["M"], "value"].notna().all() and GAP not in set(found.kind)


@pytest.mark.parametrize("unit", ["patient", "image"])
@pytest.mark.parametrize("rare", [1, 0])
def test_many_images_of_few_patients_have_no_numbers(results, unit, rare):
    """Eight images of four women are the only ones with (or without) the finding: no number for women, though images would do."""
    rows = results.probe_rows(1.5, labels=("x",), replicates=1).assign(sex=lambda r: np.where(r.image_id < "image060", "F", "M"))
    rows["target"] = np.where(rows.sex == "M", rows.target, np.where(rows.image_id < "image008", rare, 1 - rare)).astype(np.float32)
    folder = results.write("linear_probe", "toy", "one", rows)
    compare("linear_probe", "toy", "one", [folder], OUT, Settings(resamples=20, unit=unit))
    found = pd.read_csv(f"{OUT}/subgroups.csv").set_index("group")
    assert found.loc["F", "value"].isna().all() and found.loc["M", "value"].notna().all() and GAP not in set(found.kind)


def test_a_structure_that_few_of_a_group_have_has_no_numbers(results):
    """Of thirty women one has a pneumothorax: her Dice is neither printed nor counted, and no group is said to be the worst."""
    rows = results.segmentation_rows(0.8)
    rows = rows[rows.structure_set == "ribs"].assign(sex=lambda r: np.where(r.image_id < "image060", "F", "M"))
    without = (rows.sex == "F") & (rows.image_id > "image001")
    rows.loc[without, ["ref_area", "pred_area"]] = 0
    rows.loc[without, "dice"] = np.nan
    compare("segmentation", "toy", "one", [results.write("segmentation", "toy", "one", rows)], OUT, Settings(resamples=20))
    found = pd.read_csv(f"{OUT}/subgroups.csv").set_index("group")
    women = found.loc[["F"]]
    assert set(women.reason) == {"fewer than 10 patients with it"} and GAP not in set(found.kind)
    assert women[["value", "low", "high", "n_images", "n_patients", "n_positive"]].isna().all(axis=None)
    assert found.loc[["M"], "value"].notna().all()
