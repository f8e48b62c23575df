"""Calibration, subgroups, ranks, learning curves, cost and quality: the tables, and what the page draws of them."""

import contextlib
import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import friedmanchisquare, rankdata
from sklearn.metrics import brier_score_loss

from stats.calibration import LINE_COLUMNS
from stats.compare import Settings, compare
from stats.figures import Place, curves, rank_diagram, reliability, scatter
from stats.ranks import critical_difference
from stats.report import write_report
from stats.scores import Encoder, Section
from stats.supplement import FEWEST_SETS, Standing, groups_in_words, standings
from stats.tables import write_tables

from .conftest import SIX, Results, write_sidecar

ENCODERS = ("best", "middle", "quick", "raw")
SKILL = {"best": 2.0, "middle": 1.5, "quick": 1.4, "raw": 0.1}
SECONDS = {"best": 40.0, "middle": 60.0, "quick": 5.0, "raw": 10.0}


def build(results: Results, **facts) -> None:
    """Three encoders and a control on one data set per task, with groups, smaller training sets, sizes and costs."""
    sex = dict(zip(results.patients, np.where(np.arange(120) // 2 % 3 == 0, "F", "M"), strict=True))
    cards = {}
    folders = {"linear_probe": [], "segmentation": []}
    for k, name in enumerate(ENCODERS):
        card = {"title": name.capitalize(), "control": name == "raw"}
        measured = {"params": 10**6 * (k + 1), "image_size": 224, "tokens": 256}
        meta = write_sidecar(results.root / f"results/features/{name}/probe", "features", f"features/{name}/probe",
                             {"card": card, "measured": measured}, cost={"seconds": SECONDS[name], "device": "NVIDIA H200"})  # fmt: skip
        cards[name] = [meta.relative_to(results.root).as_posix()]
        probe = results.probe_rows(SKILL[name], k).assign(site="here")
        probe["sex"] = probe["patient_id"].map(sex)
        curve = pd.concat([results.probe_rows(SKILL[name] * share, k).assign(train_images=n) for n, share in ((30, 0.4), (100, 0.7))])
        folders["linear_probe"].append(
            results.write("linear_probe", "probe", name, probe, {"seconds": 1.5, "device": "cpu"}, curve, learned=300, **facts)
        )
        masks = results.segmentation_rows(0.5 + 0.2 * SKILL[name], k)
        folders["segmentation"].append(results.write("segmentation", "masks", name, masks, {"seconds": 3.0, "device": "cpu"}))
    for task, of_task in folders.items():
        dataset = of_task[0].parent.name
        compare(task, dataset, "best", of_task, f"results/stats/{task}/{dataset}", Settings(resamples=60))
    entry = {"index": "none", "paper": None}
    spec = {
        "title": "Supplement", "results": "results", "reference": "best", "encoders": list(ENCODERS), "controls": ["raw"], "cards": cards,
        "table3": [entry | {"dataset": "probe", "title": "Probe", "stats": "results/stats/linear_probe/probe",
                            "metrics": ["auprc", "auroc"], "columns": {label: label for label in SIX}}],
        "table4": [entry | {"dataset": "masks", "title": "Masks", "stats": "results/stats/segmentation/masks",
                            "columns": {"lungs": "Lungs", "ribs": "Ribs"}}],
    }  # fmt: skip
    Path("spec.json").write_text(json.dumps(spec))


@pytest.fixture(scope="module")
def written_once(tmp_path_factory):
    root = tmp_path_factory.mktemp("supplement")
    with contextlib.chdir(root):
        build(Results(root))
        write_tables("spec.json", "results/tables")
        write_report("spec.json", "results/report")
    return root


@pytest.fixture
def written(written_once, results) -> Results:
    """The whole synthetic run, to read or to change."""
    shutil.copytree(written_once, results.root, dirs_exist_ok=True)
    return results


def rows(path: str) -> list[dict[str, str]]:
    with open(f"results/{path}.csv", encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def of_stats(name: str, task: str = "linear_probe/probe") -> list[dict[str, str]]:
    return rows(f"stats/{task}/{name}")


def test_calibration_holds_the_estimates(written):
    """Brier, ECE, intercept and slope of each encoder and label are those of the estimates, in fractions."""
    estimates = {(r["encoder"], r["target"], r["metric"]): r for r in of_stats("estimates")}
    found = rows("tables/calibration")
    assert {(r["encoder"], r["target"]) for r in found} == {(e, t) for e in ENCODERS for t in (*SIX, "Agg-6")}
    for row in found:
        brier, ece = (estimates[row["encoder"], row["target"], metric] for metric in ("brier", "ece"))
        assert [row[k] for k in ("brier", "brier_low", "brier_high")] == [brier[k] for k in ("value", "low", "high")]
        assert [row[k] for k in ("ece", "ece_low", "ece_high")] == [ece[k] for k in ("value", "low", "high")]
        for name in LINE_COLUMNS:
            assert row[name.removeprefix("calibration_")] == brier[name]


def test_slope_and_intercept_are_printed_with_their_intervals(written):
    """Markdown, LaTeX and the page show the slope and the intercept of each label over [low, high] of the estimates."""
    (row,) = [r for r in of_stats("estimates") if (r["encoder"], r["target"], r["metric"]) == ("best", SIX[0], "brier")]
    files = {"md": "results/tables/calibration.md", "tex": "results/tables/calibration.tex", "html": "results/report/index.html"}
    texts = {kind: Path(path).read_text(encoding="utf-8").replace("\\", "").replace("$-$", "−") for kind, path in files.items()}
    for name, form in (("slope", "{:.2f}"), ("intercept", "{:+.2f}")):
        value, low, high = (form.format(float(row[f"calibration_{name}{end}"])).replace("-", "−") for end in ("", "_low", "_high"))
        assert float(row[f"calibration_{name}_low"]) < float(row[f"calibration_{name}"]) < float(row[f"calibration_{name}_high"])
        for kind, text in texts.items():
            assert f"recalibration {name}" in text and f"[{low}, {high}]" in text and value in text, (kind, name)
        assert f"| Best | {value}<br>[{low}, {high}] |" in texts["md"]
    assert "clustered by patient" in texts["md"]
    for words in ("between 0 and 1: probabilities too extreme; above 1: too timid; below 0: in reverse order",
                  "below 0: probabilities too high on the whole; above 0: too low. In log odds, with the slope held at 1"):  # fmt: skip
        assert all(words in text for text in texts.values())


def test_lowest_brier_is_marked_best(written):
    """Less is better: the smallest printed Brier score of a column is bold, a control's is never marked."""
    text = Path("results/tables/calibration.md").read_text().split("calibration error")[0]
    values = [float(r["brier"]) for r in rows("tables/calibration") if r["target"] == "Agg-6"]
    assert f"**{min(values):.3f}**" in text and f"**{max(values):.3f}**" not in text
    spec = json.loads(Path("spec.json").read_text())
    Path("spec.json").write_text(json.dumps(spec | {"controls": ["best"]}))  # its card says that raw is one
    write_tables("spec.json", "results/tables")
    changed = Path("results/tables/calibration.md").read_text().split("calibration error")[0]
    (best,) = [line for line in changed.splitlines() if line.startswith("| Best (control)")]
    assert "**" not in best and "<u>" not in best and changed.count("**") == text.count("**")


def test_the_brier_score_stands_beside_that_of_saying_the_prevalence(written):
    """Per label the table and its note have scikit-learn's Brier score of the share of positives, said of every image."""
    truth = results_truth(written)
    wanted = {label: brier_score_loss(target, np.full(target.size, target.mean())) for label, target in truth.items()}
    for row in rows("tables/calibration"):
        assert row["brier_guessing"] == (f"{wanted[row['target']]:.10f}" if row["target"] in wanted else "")
    told = ", ".join(f"{label} {wanted[label]:.3f}" for label in SIX)
    for path in ("results/tables/calibration.md", "results/report/index.html"):
        assert Path(path).read_text(encoding="utf-8").count(f"Always saying the share of positives scores {told}: above it") == 1


def results_truth(written: Results) -> dict[str, np.ndarray]:
    frame = written.probe_rows(1.0, replicates=1)
    return {label: of["target"].to_numpy(dtype=np.float64) for label, of in frame.groupby("label")}


def test_subgroups_name_the_worst_group_and_its_gap(written):
    """The worst group is the one with the lowest score, marked in its row, and the gap is best minus worst, in points."""
    found = [r for r in rows("tables/subgroups") if r["metric"] == "auroc" and r["encoder"] == "best" and r["target"] == SIX[0]]
    groups = {r["group"]: float(r["value"]) for r in found if r["kind"] == "group"}
    (gap,) = [r for r in found if r["kind"] != "group"]
    assert set(groups) == {"F", "M"} and gap["worst"] == min(groups, key=groups.get)
    assert [r["group"] for r in found if r["kind"] == "group" and r["worst"] == "1"] == [gap["worst"]]
    assert float(gap["value"]) == pytest.approx(max(groups.values()) - min(groups.values()), abs=1e-6) and gap["low"] and gap["high"]
    text = Path("results/tables/subgroups.md").read_text()
    assert "Probe: AUROC by sex" in text and f"{float(gap['value']):.1f}<br>" in text and "by site" not in text


def test_mean_rank_and_critical_difference_are_those_of_the_columns(written):
    """Each data set ranks the encoders by their mean rank over its columns; the rest is Demšar's over the data sets."""
    columns = {}
    for row in (*rows("tables/table3"), *rows("tables/table4")):
        if not row["target"].startswith("Agg-"):
            columns.setdefault((row["dataset"], row["target"], row["metric"]), {})[row["encoder"]] = float(row["value"])
    of_data = {}
    for (dataset, _, metric), column in columns.items():
        if metric != "auroc":  # a second metric of the same labels
            of_data.setdefault(dataset, []).append(rankdata([-column[e] for e in ENCODERS]))
    expected = critical_difference(np.array([-np.mean(ranks, axis=0) for ranks in of_data.values()]))
    found = {r["encoder"]: r for r in rows("tables/ranks") if r["task"] == "All tasks"}
    assert [float(found[e]["rank"]) for e in ENCODERS] == pytest.approx(expected.mean_ranks, abs=1e-9)
    assert len(of_data) < FEWEST_SETS and found["best"]["p_friedman"] == ""  # chi-squared is far off for so few
    assert float(found["best"]["critical_difference"]) == pytest.approx(expected.critical, abs=1e-9)
    assert {(r["columns"], r["target"]) for r in found.values()} == {(str(sum(map(len, of_data.values()))), "mean over data sets")}
    only = {r["encoder"]: float(r["rank"]) for r in rows("tables/ranks") if r["task"] == "Classification"}
    probe = np.mean(of_data["probe"], axis=0)
    assert [only[e] for e in ENCODERS] == pytest.approx(probe, abs=1e-9)  # of one data set: the mean over its columns
    (p,) = {r["p_friedman"] for r in rows("tables/ranks") if r["task"] == "Classification" and r["averaged_over"]}
    over_columns = critical_difference(-np.array(of_data["probe"]))
    assert len(of_data["probe"]) >= FEWEST_SETS and float(p) == pytest.approx(over_columns.p_friedman, abs=1e-9)


def section(table: int, dataset: str, values: dict[str, dict[str, float]]) -> Section:
    """A data set of one task with nothing but values, by column and encoder."""
    metric = {3: "auprc", 4: "dice"}[table]
    estimates = {(encoder, column, metric): {"value": str(value)} for column, of in values.items() for encoder, value in of.items()}
    return Section(table, dataset, dataset, None, (metric,), {column: column for column in values}, estimates, {}, frozenset(), {})


def standings_of(sections: list[Section], names: str) -> dict[str, Standing]:
    return {one.title: one for one in standings(sections, [Encoder(name, {}, {}, False) for name in names])}


def test_a_data_set_of_two_tasks_counts_once():
    """Tasks that share the patients of a data set are one data set of a mean rank, whose rank is that of the mean over its tasks."""
    up, down = {"a": 0.3, "b": 0.2, "c": 0.1}, {"a": 0.1, "b": 0.3, "c": 0.2}
    shared = [section(3, "one", {"x": up, "y": up, "z": up}), section(4, "one", {"lungs": down})]
    found = standings_of([*shared, section(3, "two", {"x": up})], "abc")["All tasks"]
    assert (found.over, found.count) == ("data sets", 2) and "Friedman's test over 2 data sets" in groups_in_words(found)
    # on "one" a has rank 1 and 3, b 2 and 1, c 3 and 2, so that b is first there; on "two" a, b, c
    assert found.mean_ranks.tolist() == [(2 + 1) / 2, (1 + 2) / 2, 3.0]
    alone = standings_of(shared, "abc")["All tasks"]
    assert (alone.over, alone.count) == ("columns", 4) and "of one data set, which are not independent" in groups_in_words(alone)


@pytest.mark.parametrize("count", [3, 4, 5, 6])
def test_friedmans_p_needs_five_data_sets(count):
    """Of three or four data sets no p is told, and the words say from how many on; of five and six it is scipy's."""
    values = np.random.default_rng(1).normal(size=(count, 4))
    sections = [section(3, f"set {k}", {"x": dict(zip("abcd", of_set, strict=True))}) for k, of_set in enumerate(values)]
    text = groups_in_words(standings_of(sections, "abcd")["Classification"])
    p = friedmanchisquare(*values.T).pvalue
    told = f"p = {p:.3f};" if count >= 5 else "no p with fewer than 5 of them;"
    assert text.startswith(f"Friedman's test over {count} data sets: {told}"), text


def test_too_few_data_sets_tell_nobody_apart():
    """Where the critical difference is larger than any two mean ranks can be apart, the words say so of all encoders."""
    two = [section(3, name, {"x": {"a": 0.3, "b": 0.2, "c": 0.1}}) for name in ("one", "two")]
    text = groups_in_words(standings_of(two, "abc")["Classification"])
    assert text.endswith("Not told apart: all of them, whatever their ranks: 2 data sets are too few for 3 encoders.")


def test_notes_tell_how_many_resamples_are_used_where_not_all_are(written):
    """Of 60 resamples all are used and nothing is said; of 5,000 the calibration error uses 2,000 and groups and curves 1,000."""
    told = {"calibration": 2000, "subgroups": 1000, "learning_curves": 1000}
    for name in told:
        assert " used" not in Path(f"results/tables/{name}.md").read_text()
    path = Path("results/stats/linear_probe/probe/meta.json")
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"facts": content["facts"] | {"resamples": 5000}}))
    write_tables("spec.json", "results/tables")
    for name, used in told.items():
        text = Path(f"results/tables/{name}.md").read_text()
        assert text.count(f"5000 resamples of patients, of which the first {used} are used") == text.count(" used") == 1


def test_ranks_of_a_column_are_the_statistics(written):
    """Rank, interval and share of first places of each column come from ranks.csv unchanged, and are in the table."""
    single = [r for r in rows("tables/ranks") if r["columns"] == "1"]
    kept = ("task", "target", "metric", "encoder", "rank", "low", "high", "p_best")
    both = of_stats("ranks") + of_stats("ranks", "segmentation/masks")
    assert [[r[k] for k in kept] for r in single] == [[r[k] for k in kept] for r in both]
    assert re.search(r"\| Best \| 1<br>\\\[1, \d\\\]", Path("results/tables/ranks.md").read_text())


def test_learning_curve_rises_to_the_full_probe(written):
    """The table has each number of training images once, the full probe last with the value of Table 3."""
    full = {r["encoder"]: r["value"] for r in rows("tables/table3") if (r["target"], r["metric"]) == ("Agg-6", "auprc")}
    for encoder in ENCODERS:
        own = [r for r in rows("tables/learning_curves") if (r["encoder"], r["target"], r["metric"]) == (encoder, "Agg-6", "auprc")]
        assert [int(r["train_images"]) for r in own] == [30, 100, 300]
        assert float(own[-1]["value"]) == pytest.approx(float(full[encoder]), abs=1e-6)
    text = Path("results/tables/learning_curves.md").read_text()
    assert "| Encoder | 30 | 100 | 300 |" in text and "Not every image need have every label. " in text


def test_the_curve_says_what_each_probe_learns_from(results):
    """Where replicates are folds, the table says that each probe learns from two of three folds; of seeds it does not."""
    for kind in ("folds", "seeds"):
        build(results, replicates=kind)
        write_tables("spec.json", "results/tables")
        text = Path("results/tables/learning_curves.md").read_text()
        assert ("each of the 3 probes learns from 2 of the set's 3 folds. " in text) == (kind == "folds")


def test_cost_is_summed_by_stage_and_device(written):
    """Seconds of each stage come from the sidecars; those on a GPU are counted apart from those on a CPU."""
    found = {r["encoder"]: r for r in rows("report/cost_quality")}
    for name in ENCODERS:
        row = found[name]
        assert float(row["features_seconds"]) == float(row["gpu_seconds"]) == SECONDS[name] and row["features_device"] == "NVIDIA H200"
        assert float(row["seconds"]) == SECONDS[name] + 1.5 + 3.0 and float(row["linear_probe_gpu_seconds"]) == 0
    assert found["quick"]["parameters"] == "3000000" and found["quick"]["tokens"] == "256"
    auprc = [float(r["value"]) for r in rows("tables/table3") if (r["encoder"], r["metric"]) == ("best", "auprc") and r["target"] in SIX]
    assert float(found["best"]["auprc"]) == pytest.approx(np.mean(auprc), abs=1e-6)


def test_pareto_optimal_is_who_nobody_beats_in_both(written):
    """An encoder is marked unless another is at least as fast and at least as good, and in one of the two better."""
    found = {r["encoder"]: (float(r["seconds"]), float(r["mean_rank"]), r["pareto"] == "1") for r in rows("report/cost_quality")}
    for name, (seconds, rank, marked) in found.items():
        beaten = [o for o, (s, r, _) in found.items() if o != name and s <= seconds and r <= rank and (s, r) != (seconds, rank)]
        assert marked == (not beaten), (name, beaten)
    assert found["best"][2] and found["quick"][2] and not found["middle"][2] and not found["raw"][2]


def test_an_encoder_without_some_stage_is_not_judged(written):
    """Where one stage of an encoder has no cost, its seconds cannot be compared, and the note says so."""
    shutil.rmtree("results/features/best")
    write_report("spec.json", "results/report")
    found = {r["encoder"]: r for r in rows("report/cost_quality")}
    assert found["best"]["pareto"] == "" and found["best"]["reason"] == "some stage of this encoder has no cost"
    assert "best: some stage of this encoder has no cost, so not judged" in Path("results/report/cost_quality.md").read_text()


def test_costs_do_not_touch_the_tables(written):
    """Another cost in every sidecar changes cost_quality beside the page and no file among the tables."""
    before = {path.name: path.read_bytes() for path in Path("results/tables").iterdir() if path.name != "meta.json"}
    quality = Path("results/report/cost_quality.csv").read_bytes()
    for path in Path("results").rglob("meta.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"cost": {"seconds": 9.0, "device": "cpu"}}))
    write_tables("spec.json", "results/tables")
    write_report("spec.json", "results/report")
    assert before == {path.name: path.read_bytes() for path in Path("results/tables").iterdir() if path.name != "meta.json"}
    assert Path("results/report/cost_quality.csv").read_bytes() != quality


def test_the_page_draws_all_of_it(written):
    """Ranks, reliability, groups, curves and cost each have a section with a drawing, words for it, and a table to unfold."""
    page = Path("results/report/index.html").read_text(encoding="utf-8")
    parts = dict(re.findall(r'<section id="(\w+)".*?>(.*?)</section>', page, flags=re.S))
    for name, words in (("ranks", "All tasks, mean ranks: Best 1"), ("calibration", "% said"), ("subgroups", "best minus worst group"),
                        ("learning", "over images to learn from"), ("cost", "Mean rank over seconds")):  # fmt: skip
        drawings = re.findall(r'<svg[^>]*role="img"[^>]*aria-label="([^"]*)"', parts[name])
        assert drawings and any(words.removeprefix("% ") in text for text in drawings), name
        assert "<table>" in parts[name], name
    assert len(re.findall("<svg[^>]*role", parts["calibration"])) == len(SIX)
    assert "<script" not in page


def test_nothing_known_is_a_note_and_a_sentence(results):
    """Scores that are no probabilities, without groups, curves and costs: every table is there and says what is not known."""
    folders = []
    for name in ("best", "other"):
        frame = results.probe_rows(1.0, len(name)).assign(score=lambda f: 5 * f["score"])
        folders.append(results.write("linear_probe", "probe", name, frame))
    compare("linear_probe", "probe", "best", folders, "results/stats/linear_probe/probe", Settings(resamples=20))
    spec = {"title": "", "results": "results", "reference": "best", "encoders": ["best", "other"],
            "table3": [{"dataset": "probe", "title": "Probe", "stats": "results/stats/linear_probe/probe", "paper": None,
                        "columns": {SIX[0]: "LO"}}]}  # fmt: skip
    Path("spec.json").write_text(json.dumps(spec))
    write_tables("spec.json", "results/tables")
    write_report("spec.json", "results/report")
    said = {"calibration": "No encoder has a calibration here", "subgroups": "No subgroups are known",
            "learning_curves": "No learning curve was measured", "ranks": "Friedman's test needs three encoders"}  # fmt: skip
    for name, words in said.items():
        assert all(words in Path(f"results/tables/{name}.{kind}").read_text().replace("\\", "") for kind in ("md", "tex"))
    assert "No stage has recorded a cost" in Path("results/report/cost_quality.md").read_text()
    page = Path("results/report/index.html").read_text()
    assert "There are no probabilities to judge" in page and "No subgroups are known" in page and "No learning curve was measured" in page


def positions(svg: str, axis: str) -> list[float]:
    return [float(value) for value in re.findall(rf'<circle[^>]*{axis}="([\d.]+)"', svg)]


def test_drawings_put_things_where_they_belong():
    """Better ranks stand further left and higher, doublings are equal steps, and a reliable bin lies on the diagonal."""
    places = [Place("b", 2.5), Place("a", 1.0), Place("c", 2.5)]
    drawn = rank_diagram(places, 1.2, [(0, 2)], "t")
    assert positions(drawn, "cx")[1] < positions(drawn, "cx")[0] and min(positions(drawn, "cy")) == positions(drawn, "cy")[1]
    assert drawn.count('class="group"') == 1 and "critical difference 1.20" in drawn
    across = positions(curves({0: (np.array([10.0, 20.0, 40.0]), np.array([1.0, 2.0, 3.0]))}, "t", "n", ratio=True, dots=True), "cx")
    assert across[1] - across[0] == pytest.approx(across[2] - across[1], abs=0.11)
    drawn = reliability({0: (np.array([0.2, 0.6]), np.array([0.2, 0.6]))}, "t")
    line = re.search(r'x1="([\d.]+)" x2="([\d.]+)" y1="([\d.]+)" y2="([\d.]+)" class="chance"', drawn)
    x1, x2, y1, y2 = map(float, line.groups())
    assert x2 - x1 == y1 - y2 > 0, "both axes have one scale"
    for x, y in zip(positions(drawn, "cx"), positions(drawn, "cy"), strict=True):
        assert (x - x1) / (x2 - x1) == pytest.approx((y - y1) / (y2 - y1), abs=0.01)
    drawn = scatter([Place("slow", 100.0, 1.0, marked=True), Place("fast", 1.0, 3.0)], "t", "rank")
    (slow, fast), (up, down) = positions(drawn, "cx"), positions(drawn, "cy")
    assert slow > fast and up < down and drawn.count("hollow") == 1


@pytest.mark.parametrize("seconds", [(3.0, 3.0), (0.02, 4000.0)])
def test_scatter_stays_inside(seconds):
    """Equal costs and costs of five orders of magnitude stay inside the picture."""
    drawn = scatter([Place(str(k), s, 1.0 + k) for k, s in enumerate(seconds)], "t", "rank")
    assert all(0 < value < 360 for value in positions(drawn, "cx")) and all(0 < value < 250 for value in positions(drawn, "cy"))
