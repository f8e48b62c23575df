"""From folders of predictions to estimates.csv and comparisons.csv."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom, norm, wilcoxon
from scipy.stats import t as student
from sklearn.metrics import average_precision_score, roc_auc_score
from statsmodels.stats.contingency_tables import mcnemar

from stats.bootstrap import bca_interval, leave_some_out, replicate_weights, resample_patients
from stats.calibration import LINE_COLUMNS, recalibration_line
from stats.compare import COMPARISON_COLUMNS, ESTIMATE_COLUMNS, Settings, compare, main
from stats.delong import delong
from stats.errors import (
    EncoderMissing,
    HashMismatch,
    PredictionsError,
    ProtocolMismatch,
    SampleMismatch,
    SettingError,
    SidecarError,
    TruthMismatch,
)

from .conftest import SIX

OUT = "results/stats/linear_probe/toy"
TESTS = ("p_two_level", "p_sign_flip", "p_wilcoxon", "p_delong", "p_mcnemar", "p_corrected_t")


def read(out=OUT):
    keep = {"keep_default_na": False, "na_values": {"value": [""], "p_one_sided": [""], "sd": [""], "delta": [""]}}
    return pd.read_csv(f"{out}/estimates.csv", **keep), pd.read_csv(f"{out}/comparisons.csv", **keep)


def probe(results, *encoders, **options):
    """Two encoders of different skill by default."""
    folders = [results.write("linear_probe", "toy", name, results.probe_rows(skill, seed))
               for name, skill, seed in encoders or (("good", 2.0, 1), ("poor", 0.5, 2))]  # fmt: skip
    return compare("linear_probe", "toy", "good", folders, OUT, Settings(resamples=100, **options))


def test_linear_probe_values_are_scikit_learns(results):
    """value is the mean over replicates of scikit-learn's score, sd their SD, and Agg-6 the mean over six labels."""
    probe(results)
    estimates, _ = read()
    assert tuple(estimates.columns) == ESTIMATE_COLUMNS
    rows = results.probe_rows(2.0, 1)
    expected = {
        metric: rows.groupby(["label", "replicate"])[["target", "score"]].apply(lambda g, f=function: f(g.target, g.score)).unstack()
        for metric, function in (("auprc", average_precision_score), ("auroc", roc_auc_score))
    }
    for metric, table in expected.items():
        mine = estimates[(estimates.encoder == "good") & (estimates.metric == metric)].set_index("target")
        assert mine.loc[table.index, "value"].astype(float).to_numpy() == pytest.approx(table.mean(axis=1), abs=1e-9)
        assert mine.loc[table.index, "sd"].astype(float).to_numpy() == pytest.approx(table.std(axis=1), abs=1e-9)
        assert float(mine.loc["Agg-6", "value"]) == pytest.approx(table.to_numpy().mean(), abs=1e-9)
    assert set(estimates.unit) == {"patient"} and set(estimates.n_patients) == {60}


def test_aggregate_of_named_labels(results):
    """A further set of labels gets its own mean beside the mean of all."""
    probe(results, aggregates=[["Cardiomegaly", "Lung Opacity"]])
    estimates, _ = read()
    auprc = estimates[(estimates.encoder == "good") & (estimates.metric == "auprc")].set_index("target")["value"]
    assert auprc["Agg-2"] == pytest.approx((auprc["Cardiomegaly"] + auprc["Lung Opacity"]) / 2, abs=1e-9)
    assert "Agg-6" in auprc


def test_comparison_is_paired_and_antisymmetric(results):
    """delta(a, b) = -delta(b, a), the intervals mirror each other, and the two one-sided p sum to about one."""
    probe(results)
    _, comparisons = read()
    assert tuple(comparisons.columns) == COMPARISON_COLUMNS
    cell = comparisons[(comparisons.target == "Agg-6") & (comparisons.metric == "auprc")].set_index("encoder")
    good, poor = cell.loc["good"], cell.loc["poor"]
    assert good.delta == pytest.approx(-poor.delta) and good.low == pytest.approx(-poor.high)
    assert good.p_one_sided == pytest.approx(1 / 101) and poor.p_one_sided == 1.0
    assert good.mde == pytest.approx(2.486475 * good.sd_delta, rel=1e-6)


def test_where_less_is_better_the_better_encoder_has_the_small_p(results):
    """Brier: the encoder with the lower score has a negative delta and small p of superiority, the other large ones; no margin fits it."""
    sharp = results.probe_rows(4.0, 1).assign(score=lambda rows: (0.9 * rows["target"] + 0.05).astype(np.float32))
    folders = [results.write("linear_probe", "toy", name, rows) for name, rows in (("good", sharp), ("poor", results.probe_rows(0.0, 2)))]
    compare("linear_probe", "toy", "good", folders, OUT, Settings(resamples=100))
    cell = read()[1].query("metric == 'brier' and target == 'Cardiomegaly'").set_index("encoder")
    good, poor = cell.loc["good"], cell.loc["poor"]
    assert good.delta < -0.1 and poor.delta == pytest.approx(-good.delta, abs=1e-9)
    assert good.p_non_inferior == good.margin == good.power_margin == ""
    for name in ("p_one_sided", "p_sign_flip", "p_two_level"):
        assert float(good[name]) == pytest.approx(1 / 101, abs=1e-9) and float(poor[name]) > 0.9, name
    assert float(good.p_wilcoxon) < 1e-6 and float(poor.p_wilcoxon) > 1 - 1e-6


def test_the_calibration_error_is_described_and_not_compared(results):
    """Its estimate has an ordered interval and neither BCa nor two-level ends; no pair of encoders is tested or ranked by it."""
    probe(results)
    estimates, comparisons = read()
    ece = estimates[estimates.metric == "ece"]
    low, high = (pd.to_numeric(ece[end]) for end in ("low", "high"))
    assert len(ece) == 14 and (0 <= low).all() and (low < high).all() and (ece[["bca_low", "two_level_high"]] == "").all(axis=None)
    ranks = pd.read_csv(f"{OUT}/ranks.csv")
    assert {"brier"} == ({"brier", "ece"} & set(comparisons.metric)) == ({"brier", "ece"} & set(ranks.metric))


def test_the_mirrored_row_is_the_other_side(results):
    """low and high of (b, a) are -high and -low of (a, b), patients' and two-level interval alike, in every cell."""
    probe(results)
    _, comparisons = read()
    key = ["target", "metric"]
    one, other = (comparisons[comparisons.encoder == name].set_index(key).sort_index() for name in ("good", "poor"))
    assert len(one) == len(other) > 20
    for level in ("", "two_level_"):
        low, high = (pd.to_numeric(one[f"{level}{end}"]) for end in ("low", "high"))
        assert (low < high).all()
        assert pd.to_numeric(other[f"{level}low"]).to_numpy() == pytest.approx(-high.to_numpy(), abs=1e-9)
        assert pd.to_numeric(other[f"{level}high"]).to_numpy() == pytest.approx(-low.to_numpy(), abs=1e-9)


def test_two_sided_p_do_not_depend_on_who_is_first(results):
    """Every test has a two-sided p, the same in both rows: twice the smaller one-sided p; the sign flip counts its own, no smaller one."""
    folders = [results.write("linear_probe", "toy", name, results.probe_rows(skill, seed), replicates="folds")
               for name, skill, seed in (("good", 1.0, 1), ("poor", 0.6, 2))]  # fmt: skip
    compare("linear_probe", "toy", "good", folders, OUT, Settings(resamples=100))
    _, comparisons = read()
    key = ["target", "metric"]
    one, other = (comparisons[comparisons.encoder == name].set_index(key).sort_index() for name in ("good", "poor"))
    tests = {name: f"{name}_two_sided" for name in TESTS} | {"p_one_sided": "p_two_sided"}
    assert {f"{name}_two_sided" for name in TESTS} == {name for name in COMPARISON_COLUMNS if name.endswith("_two_sided")} - {"p_two_sided"}
    for name, two_sided in tests.items():
        single, turned, both, both_turned = (pd.to_numeric(rows[column]) for column in (name, two_sided) for rows in (one, other))
        known = single.notna()
        assert known.any() and (both.notna() == known).all(), name
        np.testing.assert_array_equal(both, both_turned)
        smaller = np.minimum(single, turned)
        if name == "p_sign_flip":
            assert (both >= smaller)[known].all() and (both > smaller).any()
        else:
            np.testing.assert_allclose(both, np.minimum(1, 2 * smaller), rtol=0, atol=2e-10)


def test_two_sided_p_are_those_of_scipy(results):
    """Wilcoxon and DeLong of two encoders' predictions: scipy's two-sided p of patients, and 2 Phi(-|z|)."""
    frames = {name: results.probe_rows(skill, seed) for name, skill, seed in (("good", 1.0, 1), ("poor", 0.9, 2))}
    folders = [results.write("linear_probe", "toy", name, rows, replicates="folds") for name, rows in frames.items()]
    compare("linear_probe", "toy", "good", folders, OUT, Settings(resamples=50))
    cells = read()[1].set_index(["encoder", "target", "metric"])
    label = "Cardiomegaly"
    single = {name: rows[rows.label == label] for name, rows in frames.items()}
    squares = {name: (rows.score.astype(float) - rows.target) ** 2 for name, rows in single.items()}
    by_patient = [squares[name].groupby(single[name].patient_id).mean() for name in single]
    target, patients = (single["good"][column].to_numpy()[:120] for column in ("target", "patient_id"))
    areas = delong(target, np.array([rows.score.to_numpy(dtype=float).reshape(3, -1) for rows in single.values()]), patients)
    delta, error = areas.difference(0, 1)
    for name in frames:
        brier, auroc = cells.loc[name, label, "brier"], cells.loc[name, label, "auroc"]
        assert float(brier.p_wilcoxon_two_sided) == pytest.approx(wilcoxon(*by_patient, zero_method="pratt").pvalue, abs=1e-9)
        assert float(auroc.p_delong_two_sided) == pytest.approx(2 * norm.cdf(-abs(delta) / error), abs=1e-9)


def test_mcnemar_counts_the_images_of_the_first_replicate(results):
    """Two-sided, McNemar's p is statsmodels' exact one of fold 0, less half the chance of the observed split, in folds that differ."""
    probe(results)
    _, comparisons = read()
    one, other = (results.probe_rows(skill, seed) for skill, seed in ((2.0, 1), (0.5, 2)))
    found = comparisons.query("encoder == 'good' and other == 'poor' and metric == 'brier'").set_index("target")["p_mcnemar_two_sided"]
    wanted = np.empty((len(SIX), 3))
    for place, label in enumerate(SIX):
        for fold in range(3):
            right = [((rows.score >= 0.5) == (rows.target > 0)).to_numpy()[(rows.replicate == fold) & (rows.label == label)]
                     for rows in (one, other)]  # fmt: skip
            won, lost = int((right[0] & ~right[1]).sum()), int((~right[0] & right[1]).sum())
            split = binom.pmf(won, won + lost, 0.5)
            wanted[place, fold] = 1.0 if won == lost else mcnemar([[0, won], [lost, 0]], exact=True).pvalue - split
    assert found[SIX].astype(float).to_numpy() == pytest.approx(wanted[:, 0], abs=1e-9)
    assert (np.abs(wanted[:, 1:] - wanted[:, :1]).max(axis=0) > 0.01).all()


def test_the_line_of_each_label_has_its_interval(results):
    """Slope and intercept in estimates.csv hold the interval over patients; where images stand for themselves it is another one."""
    found = {}
    for unit in ("patient", "image"):
        probe(results, unit=unit)
        rows = read()[0].query("encoder == 'good' and metric == 'brier'").set_index("target")
        found[unit] = rows.loc["Cardiomegaly", list(LINE_COLUMNS)].astype(float).to_numpy()
        assert (rows.loc["Agg-6", list(LINE_COLUMNS)] == "").all()
    rows = results.probe_rows(2.0, 1, replicates=3)
    rows = rows[rows.label == "Cardiomegaly"]
    target, patients = (rows[rows.replicate == 0][column].to_numpy() for column in ("target", "patient_id"))
    scores = rows["score"].to_numpy().reshape(3, -1)
    for unit, groups in (("patient", patients), ("image", None)):
        line = recalibration_line(target, scores, groups)
        assert found[unit] == pytest.approx([*line.intercept, *line.slope], abs=1e-9)
    assert abs(found["patient"][4] - found["image"][4]) > 1e-3


def test_an_encoder_against_its_copy_is_exactly_zero(results):
    """Pairing: equal predictions differ by exactly 0 in every resample, so the interval is [0, 0] and p is 1."""
    probe(results, ("good", 1.0, 1), ("twin", 1.0, 1))
    _, comparisons = read()
    assert (comparisons[["delta", "low", "high", "sd_delta"]].astype(float) == 0).all(axis=None)
    assert (comparisons[["p_one_sided", "p_two_sided"]] == 1).all(axis=None)
    for name in ("p_two_level_two_sided", "p_sign_flip_two_sided", "p_delong_two_sided"):
        assert set(pd.to_numeric(comparisons[name]).dropna()) == {1.0}, name


def test_an_added_encoder_moves_no_interval(results):
    """Resamples depend on the seed and the patients only: a third encoder leaves the first two's rows unchanged."""
    probe(results)
    before, _ = read()
    probe(results, ("good", 2.0, 1), ("poor", 0.5, 2), ("third", 1.0, 3))
    after, _ = read()
    both = after[after.encoder != "third"].reset_index(drop=True)
    pd.testing.assert_frame_equal(before, both)


def test_second_run_and_folder_order_give_the_same_bytes(results):
    """The CSVs and the key are the same for a second run and for another order of the folders."""
    folders = [results.write("linear_probe", "toy", name, results.probe_rows(1.0, seed))
               for seed, name in enumerate(["a", "b", "c"])]  # fmt: skip
    first = compare("linear_probe", "toy", "b", folders, OUT, Settings(resamples=50))
    second = compare("linear_probe", "toy", "b", folders[::-1], OUT, Settings(resamples=50))
    for field in ("files", "key", "fingerprint", "parents"):
        assert first.content[field] == second.content[field]


def test_sidecar_names_parents_and_hashes(results):
    """The sidecar has every field of docs/formats.md, and its hashes are those of the files."""
    written = probe(results)
    content = json.loads(written.path.read_text())
    assert {"format", "kind", "name", "state", "reason", "key", "key_parts", "files", "parents", "fingerprint", "facts",
            "cost", "software", "command", "created", "git"} == set(content)  # fmt: skip
    assert content["name"] == "stats/linear_probe/toy" and content["kind"] == "stats"
    parents = [parent["path"] for parent in content["parents"]]
    assert parents == [f"results/linear_probe/toy/{encoder}/meta.json" for encoder in ("good", "poor")]
    written.verified("estimates.csv"), written.verified("comparisons.csv")


def test_absent_encoder_becomes_named_rows(results):
    """An absent folder gives rows with state and reason and no numbers, and no comparisons."""
    folders = [results.write("linear_probe", "toy", "good", results.probe_rows(1.0)),
               results.absent("linear_probe", "toy", "gone", "weights not present: ask for access")]  # fmt: skip
    compare("linear_probe", "toy", "good", folders, OUT, Settings(resamples=20))
    estimates, comparisons = read()
    gone = estimates[estimates.encoder == "gone"]
    assert len(gone) == 28 and set(gone.state) == {"absent"} and gone["value"].isna().all()
    assert set(gone.reason) == {"weights not present: ask for access"} and comparisons.empty


def test_only_absent_encoders_still_write_a_named_gap(results):
    """With nobody present the files exist, the sidecar says absent, and the row says why."""
    written = compare("linear_probe", "toy", "gone", [results.absent("linear_probe", "toy", "gone")], OUT)
    assert written.state == "absent" and "weights not present" in written.reason
    estimates, _ = read()
    assert list(estimates.state) == ["absent"]


def test_label_without_positives_is_undefined_and_named(results):
    """A label nobody has in the test set has no number; the mean covers the others and says which one it lacks."""
    rows = results.probe_rows(1.0)
    rows.loc[rows.label == "Cardiomegaly", "target"] = 0
    compare("linear_probe", "toy", "good", [results.write("linear_probe", "toy", "good", rows)], OUT, Settings(resamples=20))
    estimates, _ = read()
    empty = estimates[estimates.target == "Cardiomegaly"]
    assert set(empty.state) == {"undefined"} and set(empty.reason) == {"no positive image in the test set"}
    assert "Cardiomegaly" in estimates[estimates.target == "Agg-5"].reason.iloc[0]


def test_resamples_without_positives_are_counted(results):
    """With a single positive patient about a third of the resamples have no AP, and resamples_valid says so."""
    rows = results.probe_rows(1.0, labels=("Rare",))
    rows["target"] = (rows.image_id == "image000").astype(np.float32)
    compare("linear_probe", "toy", "good", [results.write("linear_probe", "toy", "good", rows)], OUT, Settings(resamples=400))
    estimates = read()[0]
    valid = estimates[estimates.metric.isin(["auprc", "auroc"])].resamples_valid.astype(int)
    assert valid.between(220, 285).all()  # 400 (1 - 1/e) = 253, binomial SD 9.6


def test_tampered_predictions_are_refused(results):
    """A parquet that is not the one its sidecar vouches for is refused, and nothing is written."""
    folder = results.write("linear_probe", "toy", "good", results.probe_rows(1.0))
    results.probe_rows(3.0).assign(dataset="toy", task="linear_probe", encoder="good").to_parquet(folder / "predictions.parquet")
    with pytest.raises(HashMismatch, match="sha256"):
        compare("linear_probe", "toy", "good", [folder], OUT)
    assert not (results.root / OUT).exists()


def test_an_edited_sidecar_is_refused(results):
    """A sidecar whose hashes were made to fit a changed file no longer has its own fingerprint."""
    folder = results.write("linear_probe", "toy", "good", results.probe_rows(1.0))
    content = json.loads((folder / "meta.json").read_text())
    content["files"]["predictions.parquet"]["sha256"] = "0" * 64
    (folder / "meta.json").write_text(json.dumps(content))
    with pytest.raises(HashMismatch, match="fingerprint"):
        compare("linear_probe", "toy", "good", [folder], OUT)


def test_command_line_needs_no_learning_library(results):
    """`python -m stats.compare` runs where torch and scikit-learn are not even imported."""
    folder = results.write("linear_probe", "toy", "good", results.probe_rows(1.0))
    code = ("import sys; from stats import compare, tables\n"
            f"compare.main(['--task', 'linear_probe', '--dataset', 'toy', '--reference', 'good', '--resamples', '50', "
            f"'--out', '{OUT}', '{folder}'])\n"
            "heavy = {'torch', 'sklearn', 'radbench', 'transformers'} & set(sys.modules)\n"
            "sys.exit(f'imported {heavy}' if heavy else 0)")  # fmt: skip
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(root)},
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{OUT}: 1 encoders, 0 absent\n"


def test_mismatched_samples_are_refused_with_examples(results):
    """Encoders on different samples are refused with up to five of the differing ids."""
    fewer = results.probe_rows(1.0)
    fewer = fewer[~fewer.image_id.isin([f"image{i:03d}" for i in range(7)])]
    folders = [results.write("linear_probe", "toy", "good", results.probe_rows(1.0)),
               results.write("linear_probe", "toy", "short", fewer)]  # fmt: skip
    with pytest.raises(SampleMismatch, match="image000/Aortic Enlargement") as caught:
        compare("linear_probe", "toy", "good", folders, OUT)
    assert str(caught.value).count("only in good: ") == 5


def test_replicates_must_cover_the_same_samples(results):
    """A fold that misses an image is refused: its mean would be over other images."""
    rows = results.probe_rows(1.0)
    rows = rows[(rows.replicate != 2) | (rows.image_id != "image003")]
    with pytest.raises(SampleMismatch, match="replicate 2"):
        compare("linear_probe", "toy", "good", [results.write("linear_probe", "toy", "good", rows)], OUT)


def test_other_truth_is_refused(results):
    """The same image with another label in another encoder's file is refused."""
    flipped = results.probe_rows(1.0)
    flipped.loc[flipped.image_id == "image004", "target"] = 1 - flipped.loc[flipped.image_id == "image004", "target"]
    folders = [results.write("linear_probe", "toy", "good", results.probe_rows(1.0)),
               results.write("linear_probe", "toy", "other", flipped)]  # fmt: skip
    with pytest.raises(TruthMismatch, match="image004"):
        compare("linear_probe", "toy", "good", folders, OUT)


@pytest.mark.parametrize("facts", [{"version": "2"}, {"protocol": {"epochs": 4}}])
def test_other_version_or_protocol_is_refused(results, facts):
    """Cells made under different versions or protocols refuse to share a table."""
    folders = [results.write("linear_probe", "toy", "good", results.probe_rows(1.0)),
               results.write("linear_probe", "toy", "other", results.probe_rows(1.0), **facts)]  # fmt: skip
    with pytest.raises(ProtocolMismatch, match=next(iter(facts))):
        compare("linear_probe", "toy", "good", folders, OUT)


def test_other_mistakes_have_named_errors(results, capsys):
    """A wrong dataset, an unknown reference, a missing sidecar and NaN scores each say what is wrong."""
    folder = results.write("linear_probe", "toy", "good", results.probe_rows(1.0))
    with pytest.raises(PredictionsError, match="dataset"):
        compare("linear_probe", "another", "good", [folder], OUT)
    with pytest.raises(EncoderMissing, match="nobody"):
        compare("linear_probe", "toy", "nobody", [folder], OUT)
    with pytest.raises(SidecarError, match="no such file"):
        compare("linear_probe", "toy", "good", ["results/linear_probe/toy/never"], OUT)
    diverged = results.write("linear_probe", "toy", "nan", results.probe_rows(1.0).assign(score=np.nan))
    with pytest.raises(PredictionsError, match="not finite"):
        compare("linear_probe", "toy", "nan", [diverged], OUT)
    with pytest.raises(SystemExit, match="EncoderMissing"):
        main(["--task", "linear_probe", "--dataset", "toy", "--reference", "x", "--out", OUT, str(folder)])


@pytest.mark.parametrize(("words", "told"), [
    (["--resamples", "49"], "SettingError: --resamples: got 49; expected a whole number, at least 50"),
    (["--out", "/proc/x"], "SettingError: --out: got /proc/x, which cannot be written to"),
])  # fmt: skip
def test_settings_of_the_command_line_are_checked_before_anything_is_read(results, words, told):
    """Fewer resamples than a configuration may ask for, and a folder that cannot be made, end with one sentence."""
    with pytest.raises(SystemExit, match=told):
        main(["--task", "linear_probe", "--dataset", "toy", "--reference", "x", "--out", OUT, "nowhere", *words])
    assert not list(results.root.iterdir())


def test_blank_patient_ids_fall_back_to_images_and_say_so(results):
    """Without patient ids each image stands for itself, and the unit column says image."""
    rows = results.probe_rows(1.0).assign(patient_id="")
    compare("linear_probe", "toy", "good", [results.write("linear_probe", "toy", "good", rows)], OUT, Settings(resamples=20))
    estimates, _ = read()
    assert set(estimates.unit) == {"image"} and set(estimates.n_patients) == {120}


def test_segmentation_averages_present_structures(results):
    """Absent structures stay out of the mean; drawing one is counted, not averaged."""
    out = "results/stats/segmentation/toy"
    folders = [results.write("segmentation", "toy", name, results.segmentation_rows(skill, seed))
               for name, skill, seed in (("good", 0.9, 1), ("poor", 0.7, 2))]  # fmt: skip
    compare("segmentation", "toy", "good", folders, out, Settings(resamples=100))
    estimates, comparisons = read(out)
    good = estimates[estimates.encoder == "good"].set_index("target")
    rows = results.segmentation_rows(0.9, 1)
    rows = rows[rows.ref_area > 0]
    by_hand = rows[rows.structure_set == "lungs"].groupby("image_id").dice.mean()
    assert good.loc["lungs", "value"] == pytest.approx(by_hand.mean(), abs=1e-9)
    assert good.loc["lung_left", "value"] == pytest.approx(rows[rows.structure == "lung_left"].dice.mean(), abs=1e-9)
    assert int(good.loc["lung_left", "n_images"]) == 115 and int(good.loc["lungs", "n_images"]) == 120
    assert list(good.loc[["lung_left", "lungs", "rib_1"], "false_positive_images"].astype(int)) == [2, 2, 0]
    better = comparisons[comparisons.encoder == "good"]
    assert better.p_sign_flip.astype(float).to_numpy() == pytest.approx([1 / 101] * 2)  # the two sets; single structures are not tested


def test_reports_name_what_was_not_computed(results):
    """A report metric without weights has a row with its reason; with CheXbert columns F1-14 has numbers."""
    out = "results/stats/report_generation/toy"
    why = {"f1_14": "CheXbert weights not present", "rg_er": "RadGraph weights not present"}
    folder = results.write("report_generation", "toy", "good", results.report_rows(0.5), metrics_not_computed=why)
    compare("report_generation", "toy", "good", [folder], out, Settings(resamples=50))
    estimates, _ = read(out)
    states = estimates.set_index("metric")
    assert set(states.index) == {"bleu4", "rouge_l", "rouge_l_coco", "rg_er", "f1_14"}
    assert states.loc["f1_14", "reason"] == why["f1_14"] and states.loc["rg_er", "state"] == "not_computed"
    folder = results.write("report_generation", "toy", "good", results.report_rows(0.5, chexbert=True))
    compare("report_generation", "toy", "good", [folder], out, Settings(resamples=50))
    states = read(out)[0].set_index("metric")
    assert states.loc["f1_14", "state"] == "ok" and 0.3 < states.loc["f1_14", "value"] < 0.9
    assert states.loc["rg_er", "reason"] == "its columns are not in the predictions and no reason is given"


@pytest.mark.parametrize("kind", ["folds", "seeds"])
def test_every_number_of_a_comparison_is_that_of_the_repeated_images(results, kind):
    """Interval, SD, correlation, power, every bootstrap p, both intervals of an estimate: as from scikit-learn on resampled images.

    The label is rare enough to be missing from some resamples. Of folds, the luck of the training set is wider.
    """
    label, margin, count = "Rare", 0.03, 60
    rare = np.isin(results.patients, ["toy:004", "toy:031"])
    frames = {name: results.probe_rows(1.0, seed, labels=(label,)) for name, seed in (("good", 1), ("poor", 2))}
    for seed, rows in enumerate(frames.values()):
        noise = np.random.default_rng(seed).normal(size=len(rows))
        rows["target"] = np.tile(rare, 3).astype(np.float32)
        skill = 1.5 - seed - rows["replicate"] * (2 - 3 * seed)  # training runs differ by more than what patients do to them
        rows["score"] = (1 / (1 + np.exp(-skill * rows["target"] - noise))).astype(np.float32)
    folders = [results.write("linear_probe", "toy", name, rows, replicates=kind) for name, rows in frames.items()]
    compare("linear_probe", "toy", "good", folders, OUT, Settings(resamples=count, margin=margin))
    estimates, comparisons = read()
    row = comparisons.query("encoder == 'good' and metric == 'auroc'").iloc[0]
    mine = estimates.query("encoder == 'good' and metric == 'auroc'").iloc[0]

    draws = resample_patients(results.patients, count, 0)

    def areas(rows, counts):  # (3 replicates, draws)
        of = [one.score.to_numpy() for _, one in rows.groupby("replicate")]
        return np.array([[roc_auc_score(np.repeat(rare, c), np.repeat(score, c)) if c[rare].any() else np.nan for c in counts]
                         for score in of])  # fmt: skip

    good, poor = (areas(rows, draws.of_images(results.patients)) for rows in frames.values())
    known = np.isfinite(good[0])
    assert 0 < known.sum() < count and int(row.resamples_valid) == int(mine.resamples_valid) == known.sum()
    delta = (good - poor).mean(axis=0)[known]
    sd, z = delta.std(ddof=1), norm.ppf(0.95)
    weights = replicate_weights(3, count, 0)
    good_runs, poor_runs = (areas(rows, np.ones((1, rare.size), dtype=int))[:, 0] for rows in frames.values())

    overlap = 1 if kind == "folds" else 0  # each of three folds shares one half of its training images with another

    def drawn(runs, samples):  # patients' draws without what these patients do to single runs, drawn runs, and the tails of t
        means, observed = samples.mean(axis=0)[known], np.var(runs, ddof=1)
        accident = max(np.mean([np.var(column, ddof=1) for column in samples.T[known]]) - observed, 0)
        training = (1 / 3 + overlap) * observed
        patients = max(np.var(means, ddof=1) - (1 / 3 + overlap) * accident, np.var(means, ddof=1) / 2 - training, 0)
        luck = np.sqrt(1 + 3 * overlap) * (weights @ (runs - runs.mean()))[known]
        moved = np.sqrt(patients / np.var(means, ddof=1)) * (means - means.mean()) + luck
        scale, freedom = np.sqrt(training + patients), 2 * ((training + patients) / training) ** 2
        return means.mean() + scale * student.ppf(norm.cdf(moved / scale), freedom), accident

    def ends(draws, least):  # of fractions, which t's quantiles can leave; they are interpolated in a table
        return pytest.approx(np.percentile(draws.clip(least, 1), [2.5, 97.5]), rel=1e-3)

    both, accident = drawn(good_runs - poor_runs, good - poor)
    expected = {
        "low": np.percentile(delta, 2.5), "high": np.percentile(delta, 97.5), "sd_delta": sd, "margin": margin,
        "correlation": np.corrcoef(good.mean(axis=0)[known], poor.mean(axis=0)[known])[0, 1], "mde": (z + norm.ppf(0.8)) * sd,
        "power_margin": norm.cdf(margin / sd - z), "p_one_sided": (1 + (delta <= 0).sum()) / (1 + delta.size),
        "p_non_inferior": (1 + (delta <= -margin).sum()) / (1 + delta.size),
        "p_equivalent": (1 + max((delta <= -margin).sum(), (delta >= margin).sum())) / (1 + delta.size),
        "p_two_level": (1 + (both <= 0).sum()) / (1 + both.size),
    }  # fmt: skip
    if kind == "folds":
        training = (1 / 3 + overlap) * np.var(good_runs - poor_runs, ddof=1)
        variance = training + max(0, sd**2 - (1 / 3 + overlap) * accident, sd**2 / 2 - training)
        t = (good_runs - poor_runs).mean() / np.sqrt(variance)
        expected["p_corrected_t"] = student.sf(t, 2 * (variance / training) ** 2)
    assert {name: float(row[name]) for name in expected} == pytest.approx(expected, abs=1e-9)
    left_out = areas(frames["good"], leave_some_out(draws).of_images(results.patients)).mean(axis=0)
    assert [float(row[name]) for name in ("two_level_low", "two_level_high")] == ends(both, -1)
    two, _ = drawn(good_runs, good)
    assert [float(mine[name]) for name in ("two_level_low", "two_level_high")] == ends(two, 0)
    bca = bca_interval(good.mean(axis=0), float(mine["value"]), left_out)
    assert [float(mine[name]) for name in ("bca_low", "bca_high")] == pytest.approx(bca, abs=1e-9)


def test_seeds_have_no_corrected_t(results):
    """Replicates that are not folds of one training set share all its images, so the corrected t test has nothing to say."""
    folders = [results.write("linear_probe", "toy", name, results.probe_rows(1.0, seed), replicates="seeds")
               for seed, name in enumerate(("good", "poor"))]  # fmt: skip
    compare("linear_probe", "toy", "good", folders, OUT, Settings(resamples=20))
    assert set(read()[1].p_corrected_t) == {""}


def test_two_runs_do_not_tell_how_runs_scatter(results):
    """With two folds there is neither a two-level interval nor a corrected t; with three both are there."""
    for count in (2, 3):
        folders = [results.write("linear_probe", "toy", name, results.probe_rows(1.0, seed, replicates=count), replicates="folds")
                   for seed, name in enumerate(("good", "poor"))]  # fmt: skip
        compare("linear_probe", "toy", "good", folders, OUT, Settings(resamples=20))
        estimates, comparisons = read()
        columns = [estimates.two_level_low, comparisons.p_two_level, comparisons.two_level_high, comparisons.p_corrected_t]
        assert {(column != "").any() for column in columns} == {count > 2}


def test_folds_are_not_held_against_seeds(results):
    """Encoders whose replicates are of different kinds are refused, because each kind scatters in its own way."""
    folders = [results.write("linear_probe", "toy", kind, results.probe_rows(1.0, 0), replicates=kind) for kind in ("folds", "seeds")]
    with pytest.raises(ProtocolMismatch, match="replicates 'seeds'; expected 'folds'"):
        compare("linear_probe", "toy", "folds", folders, OUT, Settings(resamples=20))


def test_a_mean_that_cannot_be_named_is_refused(results):
    """A second set of the same size is an error; sets that another data set has whole, under names near to these too, are passed over."""
    with pytest.raises(SettingError, match="both would be called Agg-2"):
        probe(results, aggregates=[["Cardiomegaly", "Lung Opacity"], ["Cardiomegaly", "Pleural Effusion"]])
    assert not Path(OUT).exists()
    probe(results, aggregates=[["Nodule", "Mass"], ["Cardiomegaly", "Pleural_Thickening"]])
    assert {target for target in read()[0].target if target.startswith("Agg-")} == {"Agg-6"}


def test_labels_without_both_classes_do_not_count(results):
    """Two sets are of one size when so many of their labels are defined: three of four beside three is refused."""
    frames = {name: results.probe_rows(1.0, seed) for seed, name in enumerate(("good", "poor"))}
    for rows in frames.values():
        rows.loc[rows.label == SIX[5], "target"] = np.float32(0)
    folders = [results.write("linear_probe", "toy", name, rows) for name, rows in frames.items()]
    sets = [SIX[:3], [SIX[0], *SIX[3:]]]
    with pytest.raises(SettingError, match="both would be called Agg-3"):
        compare("linear_probe", "toy", "good", folders, OUT, Settings(resamples=5, aggregates=sets))


def test_a_label_cannot_have_the_name_of_a_mean(results):
    """A label called Agg-2 would be overwritten by the mean of that name: it is refused."""
    folder = results.write("linear_probe", "toy", "good", results.probe_rows(1.0, labels=("x", "Agg-2")))
    with pytest.raises(PredictionsError, match="a label called Agg-2"):
        compare("linear_probe", "toy", "good", [folder], OUT, Settings(resamples=5))


def test_studies_are_compared_where_both_encoders_have_them(results):
    """An encoder whose file has no study ids is compared with one that has them; two that differ in them are refused."""
    rows = results.probe_rows(1.0, labels=("x",))
    ids = {"with": rows.image_id, "other": rows.image_id + "b"}
    folders = [results.write("linear_probe", "toy", name, rows.assign(study_id=study) if study is not None else rows)
               for name, study in {**ids, "without": None}.items()]  # fmt: skip
    compare("linear_probe", "toy", "with", [folders[0], folders[2]], OUT, Settings(resamples=5))
    with pytest.raises(TruthMismatch, match="another study_id"):
        compare("linear_probe", "toy", "with", folders[:2], OUT, Settings(resamples=5))


def test_strata_are_recorded_where_they_were_drawn(results):
    """Findings make strata of a linear probe alone: another task's sidecar does not claim them."""
    folder = results.write("segmentation", "toy", "good", results.segmentation_rows(0.8))
    sidecar = compare("segmentation", "toy", "good", [folder], "results/stats/segmentation/toy", Settings(resamples=5, stratified=True))
    assert not sidecar.facts["stratified"] and probe(results, stratified=True).facts["stratified"]


@pytest.mark.parametrize(("task", "metric"), [("report_generation", "bleu4"), ("segmentation", "dice")])
def test_replicates_are_averaged_in_value_and_interval(results, task, metric):
    """With two replicates, value and median lie midway between those of each replicate alone, on the same resamples."""
    make = results.report_rows if task == "report_generation" else results.segmentation_rows
    one, two = make(0.4, 1), make(0.7, 2).assign(replicate=1)
    found = {}
    for name, rows in (("one", one), ("two", two), ("both", pd.concat([two, one]))):
        out = f"results/stats/{task}/{name}"
        folder = results.write(task, name, "good", rows)
        compare(task, name, "good", [folder], out, Settings(resamples=200))
        estimates, _ = read(out)
        found[name] = estimates[estimates.metric == metric].iloc[0]
    assert int(found["both"].replicates) == 2
    assert found["both"]["value"] == pytest.approx((found["one"]["value"] + found["two"]["value"]) / 2, abs=1e-9)
    assert found["both"].sd == pytest.approx(abs(found["one"]["value"] - found["two"]["value"]) / 2**0.5, abs=1e-9)
    middle = (float(found["one"]["median"]) + float(found["two"]["median"])) / 2
    assert float(found["both"]["median"]) == pytest.approx(middle, abs=0.004)


def test_different_and_empty_reports_are_counted():
    """Each encoder's sidecar tells how many different reports it wrote, how many without a word, and of how many."""
    from types import SimpleNamespace

    import pandas as pd

    from stats.compare import _reports_written

    silent = SimpleNamespace(encoder="silent", rows=pd.DataFrame({"hyp_len": [0, 3, 0], "hypothesis": ["", "a b c", ""]}))
    parrot = SimpleNamespace(encoder="parrot", rows=pd.DataFrame({"hyp_len": [1, 1, 1], "hypothesis": ["a", "a", "a"]}))
    assert _reports_written(SimpleNamespace(present=[silent, parrot])) == {"silent": [2, 2, 3], "parrot": [1, 0, 3]}
