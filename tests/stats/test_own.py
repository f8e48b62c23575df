"""Tables from a CSV as a stranger would write it: the numbers, the notes, and what is refused with which words."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from stats.bootstrap import percentile_interval, resample_patients
from stats.errors import EncoderMissing, PredictionsError, SampleMismatch, StatsError, TruthMismatch
from stats.ngrams import columns, tokens
from stats.own import write_own
from stats.provenance import forget
from stats.ranking import average_precision
from stats.tables import Settings, main

OUT = Path("tables")
NAMES = ("Ours v2/large", "théirs & co_1", "third")


def probe(patients: bool = True, **groups) -> pd.DataFrame:
    """Three encoders, two labels, 90 images of 45 patients, rows in no order."""
    random = np.random.default_rng(3)
    truth = {label: (random.random(90) < 0.3).astype(int) for label in ("Effusion", "Lung_Opacity")}
    rows = [
        {"encoder": name, "image_id": f"{i}.png", "patient_id": f"p{i // 2}", "label": label, "target": target[i],
         "score": round(1 / (1 + np.exp(-(skill * (target[i] - 0.5) + random.normal()))), 4)}
        | {key: values[i // 2 % len(values)] for key, values in groups.items()}
        for name, skill in zip(NAMES, (2.0, 1.0, 0.2), strict=True) for label, target in truth.items() for i in range(90)
    ]  # fmt: skip
    frame = pd.DataFrame(rows).sample(frac=1, random_state=0)
    return frame if patients else frame.drop(columns="patient_id")


def run(frame: pd.DataFrame, *words: str, name: str = "mine.csv", **writing) -> None:
    frame.to_csv(name, index=False, **writing)
    main(["--csv", name, "--out", str(OUT), "--resamples", "80", *words])


def rows(name: str) -> list[dict[str, str]]:
    with open(OUT / f"{name}.csv", encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def refused(frame: pd.DataFrame, kind: type[StatsError], **changes) -> str:
    """The message with which a file is refused; nothing is written then."""
    frame = frame.assign(**changes)
    frame.to_csv("mine.csv", index=False)
    with pytest.raises(kind) as caught:
        write_own(["mine.csv"], Path("work"), None, Settings(resamples=5))
    assert not Path("work").exists()
    return str(caught.value)


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_values_and_interval_are_scikit_learns_and_the_bootstraps():
    """A value is scikit-learn's on the CSV, and its interval is the percentile interval of resampled patients."""
    frame = probe()
    run(frame)
    found = {(r["encoder_title"], r["target"], r["metric"]): r for r in rows("classification")}
    of = frame[(frame.encoder == NAMES[0]) & (frame.label == "Effusion")].sort_values("image_id")
    target, score = of["target"].to_numpy(), of["score"].to_numpy()
    cell = found[NAMES[0], "Effusion", "auprc"]
    assert float(cell["value"]) == pytest.approx(100 * average_precision_score(target, score), abs=1e-6)
    assert float(found[NAMES[0], "Effusion", "auroc"]["value"]) == pytest.approx(100 * roc_auc_score(target, score), abs=1e-6)
    draws = resample_patients(sorted(set(of["patient_id"])), 80, 0)
    interval = percentile_interval(average_precision(target, score, draws.of_images(of["patient_id"].to_numpy())))
    assert [float(cell["low"]), float(cell["high"])] == pytest.approx([100 * interval.low, 100 * interval.high], abs=1e-6)


def test_what_guessing_scores_is_that_of_this_test_set():
    """CSV and figures hold the mean AUPRC of random scores on these very images, above the share of positives, and 50 for AUROC."""
    frame = probe()
    run(frame)
    target = frame[(frame.encoder == NAMES[0]) & (frame.label == "Effusion")]["target"].to_numpy()
    random = np.random.default_rng(0)
    guessed = 100 * np.mean([average_precision_score(target, random.random(target.size)) for _ in range(5000)])
    found = {r["metric"]: r["guessing"] for r in rows("classification") if r["target"] == "Effusion"}
    assert found["auroc"] == "50.0000000000" and guessed - 100 * target.mean() > 1
    assert float(found["auprc"]) == pytest.approx(guessed, abs=0.4)
    page = (OUT / "page/index.html").read_text()
    assert f"<strong>Effusion AUPRC</strong>, guessing {float(found['auprc']):.1f}<" in page and "guessing 50.0<" in page


def test_every_table_is_there_in_three_forms():
    """Scores, significance and the four supplementary tables are written, under names without the paper's numbers."""
    run(probe(sex=["F", "M"]))
    expected = {"classification", "significance", "calibration", "subgroups", "ranks", "learning_curves"}
    assert {path.name for path in OUT.iterdir()} == {f"{n}.{s}" for n in expected for s in ("csv", "tex", "md")} | {
        "ranks.svg", "meta.json", "page", "work"}  # fmt: skip
    text = "".join((OUT / f"{name}.md").read_text() for name in expected)
    assert "published" not in text.lower() and "docs/decisions" not in text
    assert "No learning curve was measured" in text
    assert {r["reference"] for r in rows("significance")} == {"Ours-v2-large"}, "the first encoder of the file"


def test_the_reference_can_be_named():
    """`--reference` takes a name as the file spells it, and a misspelled one is refused with the one that was meant."""
    run(probe(), "--reference", "théirs & co_1")
    assert {r["reference"] for r in rows("significance")} == {"théirs-co_1"}
    with pytest.raises(EncoderMissing, match="did you mean third"):
        write_own(["mine.csv"], Path("work"), "thrid", Settings(resamples=5))


def test_controls_are_set_apart():
    """`--controls` names encoders that are marked so, are no baseline, not bold or underlined, and not the reference unless asked for."""
    run(probe(), "--controls", NAMES[0], "third")
    assert {r["encoder_title"]: r["control"] for r in rows("classification")} == {NAMES[0]: "1", NAMES[1]: "0", NAMES[2]: "1"}
    tests = rows("significance")
    assert {r["reference"] for r in tests} == {"théirs-co_1"}, "the first that is no control"
    best = [r for r in tests if r["rule"] != "fixed"]
    assert {(r["rule"], r["other_title"]) for r in best} == {("best control (no other encoder present)", NAMES[0])}
    for name in ("classification", "calibration", "ranks"):
        lines = [line for line in (OUT / f"{name}.md").read_text().splitlines() if line.startswith(("| Ours", "| third"))]
        assert lines and all("(control)" in line and "**" not in line and "<u>" not in line for line in lines), name
    run(probe(), "--controls", "third", "--reference", NAMES[1])
    assert {r["other_title"] for r in rows("significance") if r["rule"] == "best other encoder"} == {NAMES[0]}
    means = [float(r["value"]) for r in rows("classification") if r["target"] == "Agg-2"]
    assert f"**{max(means):.1f}" in (OUT / "classification.md").read_text()


def test_a_control_that_is_not_there_is_named():
    """An unknown control is refused with the name that was meant, nothing is written, and a spec takes no controls."""
    probe().to_csv("mine.csv", index=False)
    with pytest.raises(EncoderMissing, match="--controls: got thrid; .*did you mean third"):
        write_own(["mine.csv"], Path("work"), None, Settings(resamples=5), ["third", "thrid"])
    assert not Path("work").exists()
    with pytest.raises(SystemExit, match="EncoderMissing: --controls"):
        run(probe(), "--controls", "thrid")
    with pytest.raises(SystemExit) as caught:
        main(["--spec", "a", "--controls", "third", "--out", "x"])
    assert caught.value.code == 2


def test_ranks_are_drawn_in_a_file_of_their_own():
    """ranks.svg is an SVG with every encoder's mean rank of ranks.csv, in the order of the ranks, and a second run has its bytes."""
    run(probe(), "--controls", "third")
    content = (OUT / "ranks.svg").read_bytes()
    root = ElementTree.fromstring(content)
    assert root.tag == "{http://www.w3.org/2000/svg}svg" and b"var(" not in content and b"style>" in content
    texts = ["".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")]
    means = sorted((float(r["rank"]), r["encoder_title"]) for r in rows("ranks") if r["target"] == "mean over columns")
    places = [texts.index(title) for _, title in sorted(means, key=lambda pair: NAMES.index(pair[1]))]
    assert [texts[place + 1] for place in places] == [f"{mean:.2f}" for mean, _ in sorted(means, key=lambda pair: NAMES.index(pair[1]))]
    circles = {node.get("class"): float(node.get("cx")) for node in root.iter("{http://www.w3.org/2000/svg}circle")}
    assert set(circles) == {"reference", "encoder", "control"}
    by_title = {title: mean for mean, title in means}
    order = sorted(("reference", "encoder", "control"), key=circles.get)
    assert [by_title[dict(reference=NAMES[0], encoder=NAMES[1], control=NAMES[2])[role]] for role in order] == sorted(by_title.values())
    words = " ".join(texts)
    assert "critical difference" in words and f"Blue: {NAMES[0]}" in words
    run(probe(), "--controls", "third")
    assert (OUT / "ranks.svg").read_bytes() == content


def test_too_few_encoders_for_a_diagram_are_told_in_the_file():
    """With two encoders ranks.svg has no diagram and the sentence that says why; odd characters of a name leave it readable."""
    frame = probe()
    run(frame[frame["encoder"] != "third"].replace({"encoder": {NAMES[0]: "a<b> & \x07c"}}))
    root = ElementTree.fromstring((OUT / "ranks.svg").read_bytes())
    words = " ".join("".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text"))
    assert "needs three encoders" in words and "a<b> & c" in words and not list(root.iter("{http://www.w3.org/2000/svg}circle"))


def test_no_identifier_leaves_the_work_folder():
    """No image or patient id stands in any table or on the page."""
    frame = probe(site=["A", "B"])
    frame["patient_id"], frame["image_id"] = "pat" + frame["patient_id"], "img" + frame["image_id"]
    run(frame)
    written = [*OUT.glob("*.*"), *OUT.glob("page/*.*")]
    assert len(written) > 15 and not [path for path in written if "patp" in path.read_text() or "img1" in path.read_text()]


@pytest.mark.parametrize("kind", ["probe", "segmented", "reports"])
def test_the_page_shows_what_the_tables_hold(results, kind):
    """page/index.html has each table of these predictions, links that lead to its files, no script, no source and no text of a report."""
    frame = {"probe": lambda: probe(sex=["F", "M"]), "segmented": segmented,
             "reports": lambda: results.report_rows(0.5).assign(encoder="a")}[kind]()  # fmt: skip
    run(frame)
    page = (OUT / "page/index.html").read_text(encoding="utf-8")
    shown = {"probe": "classification", "segmented": "segmentation", "reports": "reports"}[kind]
    assert set(re.findall(r'<h3 id="([^"]+)"', page)) == {shown, "significance"}
    for value in re.findall(r"\d+\.\d", (OUT / f"{shown}.md").read_text().split("|---")[-1].split("\n\n")[0]):
        assert value in page
    links = re.findall(r"""href\s*=\s*["']([^"'#][^"']*)""", page)
    assert len(links) > 5 and all((OUT / "page" / link).is_file() for link in links)
    assert not re.search(r"<(script|link|iframe|object|embed|base)\b|@import|url\(|\bsrc\s*=", page)
    if kind == "reports":
        assert not [text for text in frame["reference"] if text in page]


def test_without_patients_images_are_drawn_and_every_table_says_so():
    """Without patient ids the unit is the image, and each table that shows an interval says that images count as independent."""
    run(probe(patients=False, sex=["F", "M"]))
    assert {r["resampling_unit"] for r in rows("classification")} == {"image"}
    for name in ("classification", "significance", "calibration", "subgroups", "ranks"):
        for kind in ("md", "tex"):
            assert "images count as independent" in (OUT / f"{name}.{kind}").read_text(), name
    run(probe(sex=["F", "M"]))
    assert "count as independent" not in "".join(path.read_text() for path in OUT.glob("*.md"))


def test_units_margin_and_strata_reach_the_statistics():
    """The options of the command line are those that the statistics record; with a study id studies can be drawn."""
    run(probe().assign(study_id=lambda frame: frame["image_id"]), "--unit", "study", "--margin", "0.05", "--seed", "4", "--stratified")
    facts = json.loads((OUT / "work/results/stats/linear_probe/own/meta.json").read_text())["facts"]
    assert [facts[k] for k in ("unit", "margin", "seed", "stratified", "resamples")] == ["study", 0.05, 4, True, 80]
    assert "studies count as independent" in (OUT / "classification.md").read_text()
    with pytest.raises(SystemExit, match="without a study id"):
        run(probe(), "--unit", "study")


def test_folds_are_called_so():
    """Told that replicates are folds, the significance table has the corrected t and the note says folds; untold, neither."""
    random = np.random.default_rng(0)
    frame = pd.concat([probe().assign(replicate=k) for k in range(4)])
    frame["score"] = (frame["score"] + 0.05 * random.normal(size=len(frame))).clip(0, 1).round(4)
    two_level = {}
    for words in ([], ["--replicates", "seeds"], ["--replicates", "folds"]):
        run(frame, *words)
        kind = words[-1] if words else "replicates (folds or seeds)"
        assert f"mean ± SD over 4 {kind};" in (OUT / "classification.md").read_text()
        assert {row["p_corrected_t"] != "" for row in rows("significance")} == {kind == "folds"}
        estimates = pd.read_csv(OUT / "work/results/stats/linear_probe/own/estimates.csv").query("metric == 'auroc'")
        two_level[kind] = (estimates.two_level_high - estimates.two_level_low).to_numpy()
    assert (two_level["folds"] != two_level["seeds"]).all()  # which is the wider depends on the folds at hand
    assert (two_level["replicates (folds or seeds)"] == two_level["seeds"]).all()
    with pytest.raises(SystemExit, match="--replicates: got folds, but one replicate only"):
        run(probe(), "--replicates", "folds")
    segmented().to_csv("masks.csv", index=False)  # with one replicate, beside the folds of the others
    frame.to_csv("mine.csv", index=False)
    main(["--csv", "mine.csv", "masks.csv", "--out", str(OUT), "--resamples", "80", "--replicates", "folds"])
    assert "mean ± SD over 4 folds;" in (OUT / "classification.md").read_text()
    assert "one replicate;" in (OUT / "segmentation.md").read_text()
    with pytest.raises(SystemExit, match=r"the replicates \[0, 1, 3\]; expected every fold of one split"):
        run(frame[frame["replicate"] != 2], "--replicates", "folds")
    with pytest.raises(SystemExit) as caught:
        main(["--spec", "a", "--out", "x", "--replicates", "folds"])
    assert caught.value.code == 2


def test_a_label_of_one_class_is_a_named_gap_everywhere():
    """A label without a positive has no number, and the reason stands under the scores, under the calibration and on the page."""
    frame = probe()
    run(frame.assign(target=frame["target"].where(frame["label"] != "Effusion", 0)))
    reason = "no positive image in the test set"
    for name in ("classification", "calibration"):
        text = (OUT / f"{name}.md").read_text().replace("\\_", "_")
        assert all(re.search(rf"– .*Effusion[ A-Z]* \({re.escape(encoder)}\).*: {reason}", text) for encoder in NAMES)
    assert (OUT / "calibration.md").read_text().count(reason) == 4  # Brier score, ECE, slope, intercept
    page = (OUT / "page" / "index.html").read_text()
    assert reason in page and "No gaps" not in page


def test_every_interval_is_in_the_tables():
    """The CSVs hold BCa and two-level intervals, the correlation, medians and counts of resamples, those of estimates and comparisons."""
    run(pd.concat([probe().assign(replicate=k, score=lambda f, k=k: (f.score * (1 - 0.02 * k)).round(6)) for k in range(3)]))
    made = OUT / "work/results/stats/linear_probe/own"
    estimates, comparisons = (pd.read_csv(made / f"{name}.csv") for name in ("estimates", "comparisons"))
    ends = [f"{kind}_{end}" for kind in ("bca", "two_level") for end in ("low", "high")]
    for row in rows("classification"):
        one = estimates[(estimates.encoder == row["encoder"]) & (estimates.target == row["target"]) & (estimates.metric == row["metric"])]
        assert [float(row[end]) for end in ends] == pytest.approx(100 * one[ends].to_numpy()[0], abs=1e-9)
    for row in rows("calibration"):
        for metric in ("brier", "ece"):
            one = estimates[(estimates.encoder == row["encoder"]) & (estimates.target == row["target"]) & (estimates.metric == metric)]
            assert float(row[f"{metric}_median"]) == pytest.approx(one["median"].item(), abs=1e-9)
        assert row["resamples_valid"] == "80"
    for row in rows("significance"):
        one = comparisons[(comparisons.encoder == row["reference"]) & (comparisons.other == row["other"])
                          & (comparisons.target == row["target"]) & (comparisons.metric == row["metric"])]  # fmt: skip
        assert float(row["correlation"]) == pytest.approx(one["correlation"].item(), abs=1e-9)
        assert float(row["two_level_low"]) == pytest.approx(100 * one["two_level_low"].item(), abs=1e-9)


def test_several_files_data_sets_and_spellings_of_csv():
    """Files of one encoder each, semicolons, a byte order mark, Parquet, folds and two data sets give the tables of one file."""
    frame = pd.concat([probe().assign(dataset=name, replicate=k) for name in ("A/1", "B 2") for k in (0, 1)])
    frame["score"] = (frame["score"] * (1 - 0.1 * frame["replicate"])).round(6)
    run(frame)
    whole = rows("classification")
    assert {r["dataset_title"] for r in whole} == {"A/1", "B 2"} and {r["replicates"] for r in whole} == {"2"}
    parts = []
    for k, of in enumerate(of for _, of in frame.groupby("encoder", sort=False)):
        parts.append(f"part{k}.{'parquet' if k == 2 else 'csv'}")
        of.to_parquet(parts[-1]) if k == 2 else of.to_csv(parts[-1], index=False, sep=";,"[k], encoding="utf-8-sig")
    main(["--csv", *parts, "--out", str(OUT), "--resamples", "80", "--reference", frame["encoder"].iloc[0]])
    again = {(r["dataset"], r["encoder"], r["target"], r["metric"]): r for r in rows("classification")}
    assert len(again) == len(whole)
    assert all(again[r["dataset"], r["encoder"], r["target"], r["metric"]] == r for r in whole)


def test_segmentation_of_a_stranger():
    """Dice per image and structure: an empty field stays out of the mean, and structures of a set are averaged per image."""
    random = np.random.default_rng(1)
    frame = pd.DataFrame([
        {"encoder": name, "image_id": f"i{i}", "structure": structure, "structure_set": "heart" if structure == "heart" else "lungs",
         "dice": "" if structure == "left" and i < 5 else round(skill - 0.1 * random.random(), 5)}
        for name, skill in (("a", 0.95), ("b", 0.85)) for structure in ("left", "right", "heart") for i in range(40)])  # fmt: skip
    run(frame)
    found = {(r["encoder"], r["target"]): float(r["value"]) for r in rows("segmentation")}
    of = frame[frame.encoder == "a"].assign(dice=lambda f: pd.to_numeric(f["dice"]))
    assert found["a", "heart"] == pytest.approx(100 * of[of.structure == "heart"].dice.mean(), abs=1e-6)
    by_image = of[of.structure != "heart"].groupby("image_id").dice.mean()
    assert found["a", "lungs"] == pytest.approx(100 * by_image.mean(), abs=1e-6)
    assert {r["p_sign_flip"] != "" for r in rows("significance")} == {True}
    assert "PredictionsError" in _exit(frame.assign(dice=lambda f: f["dice"].replace("", "0").astype(float) * 100))


def segmented() -> pd.DataFrame:
    """Two encoders and two structures of 40 images: b draws the left one of the images 0 and 1, whose references, as those of
    2 to 4, lack it."""
    random = np.random.default_rng(1)
    return pd.DataFrame([
        {"encoder": name, "image_id": f"i{i}", "structure": structure,
         "dice": ("0" if name == "b" and i < 2 else "") if structure == "left" and i < 5 else str(round(skill - 0.1 * random.random(), 5))}
        for name, skill in (("a", 0.95), ("b", 0.85)) for structure in ("left", "right") for i in range(40)])  # fmt: skip


def test_a_structure_that_is_absent_and_drawn_is_counted():
    """Without ref_area an empty Dice of one encoder tells that the reference lacks the structure: another's 0 there is counted, not
    averaged; with ref_area it is the same."""
    frame = segmented()
    run(frame)
    found = {(r["encoder"], r["target"]): r for r in rows("segmentation")}
    mean = pd.to_numeric(frame[(frame.encoder == "b") & (frame.structure == "left")].dice.iloc[5:]).mean()
    assert float(found["b", "left"]["value"]) == pytest.approx(100 * mean, abs=1e-6) and found["b", "left"]["n_images"] == "35"
    assert [found[name, "left"]["false_positive_images"] for name in "ab"] == ["0", "2"]
    note = "Drawn where the reference has nothing, and so outside the Dice: left in 2 images (b)."
    assert note in (OUT / "segmentation.md").read_text()
    before = (OUT / "segmentation.csv").read_bytes()
    absent = (frame["structure"] == "left") & frame["image_id"].isin([f"i{i}" for i in range(5)])
    run(frame.assign(ref_area=np.where(absent, 0, 900)))
    assert (OUT / "segmentation.csv").read_bytes() == before
    assert "beside ref_area 0" in refused(frame.assign(ref_area=0, dice="0.5"), PredictionsError)


def test_an_empty_dice_beside_another_encoders_is_refused():
    """A Dice left empty for an image in which another encoder has one above 0 is refused with its line, not taken for an absence."""
    frame = segmented()
    message = refused(frame.assign(dice=frame["dice"].where(frame.index != 10, "")), PredictionsError)
    assert message.startswith("mine.csv line 12: got an empty dice, where another row") and "write 0" in message


def test_a_data_set_without_any_dice_is_refused():
    """A data set whose dice is all empty ends in a sentence about the file, and nothing is written."""
    frame = pd.concat([segmented().assign(dataset="A"), segmented().assign(dataset="B", dice="")])
    message = refused(frame, PredictionsError)
    assert message.startswith("mine.csv line 162; ") and "no dice at all in the data set B" in message


def test_a_blank_structure_set_is_the_structure():
    """A structure without a set forms a column of its own."""
    run(segmented().assign(structure_set=lambda f: f["structure"].replace({"left": "", "right": "lungs"})))
    assert {r["target"] for r in rows("segmentation")} == {"left", "lungs"}


def test_boundaries_are_shown_where_they_are():
    """hd95 and nsd have columns of the segmentation table with their means; without them, or of an encoder without, there is a gap."""
    frame = segmented()
    there = frame["dice"].str.len() > 1
    frame["hd95"], frame["nsd"] = frame["dice"].where(there, ""), np.where(there, 0.5, np.nan)
    run(frame)
    found = {(r["encoder"], r["target"], r["metric"]): r["value"] for r in rows("segmentation")}
    of = frame[(frame.encoder == "a") & (frame.structure == "right")]
    assert float(found["a", "right", "hd95"]) == pytest.approx(100 * pd.to_numeric(of.hd95).mean(), abs=1e-6)
    assert float(found["b", "left", "nsd"]) == 50 and "right HD95" in (OUT / "segmentation.md").read_text()
    run(frame.assign(nsd=frame["nsd"].where(frame["encoder"] == "a")))
    assert {r["value"] for r in rows("segmentation") if r["encoder"] == "b" and r["metric"] == "nsd"} == {""}
    run(frame.drop(columns=["hd95", "nsd"]))
    assert {r["metric"] for r in rows("segmentation")} == {"dice"} and "HD95" not in (OUT / "segmentation.md").read_text()


def test_the_page_knows_of_which_metric_less_is_better():
    """The encoder with the smallest HD95 leads, and only one that is farther from the outline than a control is below it."""
    frame = pd.concat([segmented(), segmented().query("encoder == 'b'").assign(encoder="ctrl")])
    random, distance = np.random.default_rng(5), {"a": 0.01, "b": 0.04, "ctrl": 0.03}
    frame["hd95"] = frame["encoder"].map(distance) + 0.002 * random.random(len(frame))
    frame.loc[frame["dice"] == "", "hd95"] = np.nan
    run(frame, "--controls", "ctrl")
    page = re.sub(r"<[^>]+>", "", (OUT / "page/index.html").read_text(encoding="utf-8"))
    ahead = r"HD95 \(less is better\) on own: a 1\.1, ahead of ctrl by 2\.0 \[\+2\.0, \+2\.0\], zero excluded"
    below = r"b is below the ctrl control in 2 columns\s*Zero excluded: .*HD95 \(less is better\) on own 4\.1 against 3\.1, \+1\.0"
    assert len(re.findall(ahead, page)) == 2 and re.search(below, page) and "a is below" not in page


def _exit(frame: pd.DataFrame) -> str:
    with pytest.raises(SystemExit) as caught:
        run(frame)
    return str(caught.value)


def test_reports_of_a_stranger(results):
    """Per-report columns of docs/formats.md give BLEU-4 and ROUGE-L; what needs absent columns is named."""
    parts = [results.report_rows(skill, seed).assign(encoder=name) for name, skill, seed in (("a", 0.6, 1), ("b", 0.4, 2))]
    run(pd.concat(parts))
    found = {(r["encoder"], r["metric"]): r for r in rows("reports")}
    assert float(found["a", "rouge_l"]["value"]) == pytest.approx(100 * parts[0]["rouge_l"].mean(), abs=1e-6)
    assert found["a", "rg_er"]["reason"] == "not in the file" and found["a", "bleu4"]["value"]


def test_groups_of_reports_are_drawn_under_the_name_of_the_metric(results):
    """The page's drawing of a report's score by sex is called ROUGE-L, and not by what a table calls its only column."""
    parts = [results.report_rows(skill, seed).assign(encoder=name) for name, skill, seed in (("a", 0.6, 1), ("b", 0.4, 2))]
    run(pd.concat(parts).assign(sex=lambda frame: np.where(frame.patient_id < "toy:030", "F", "M")))
    page = (OUT / "page/index.html").read_text(encoding="utf-8")
    drawn = re.search(r'<section id="subgroups".*?</section>', page, flags=re.S)[0]
    assert "<figcaption><strong>ROUGE-L</strong></figcaption>" in drawn and 'aria-label="ROUGE-L, best minus worst group' in drawn
    assert "<strong>report" not in drawn


REPORTS = ("The heart is NORMAL in size.  No pleural effusion, no pneumothorax.", "It isn't enlarged; T-spine 3.5 cm.", "Lungs are clear.",
           "no no no effusion", "Élargi: ___ opacity_1", "", "normal")  # fmt: skip


def report_texts() -> pd.DataFrame:
    """Two encoders that write one of seven reports about each of forty images; references are never empty."""
    random = np.random.default_rng(2)
    references = [REPORTS[k] for k in random.integers(0, 5, 40)]
    return pd.DataFrame([
        {"encoder": name, "image_id": f"{i}.png", "reference": reference,
         "hypothesis": reference if random.random() < skill else REPORTS[random.integers(0, 7)]}
        for name, skill in (("a", 0.5), ("b", 0.1)) for i, reference in enumerate(references)])  # fmt: skip


def test_reports_need_only_the_two_texts():
    """Encoder, image and the two texts give pycocoevalcap's corpus BLEU-4 and the means of rouge-score; the tokenizer is named."""
    from pycocoevalcap.bleu.bleu_scorer import BleuScorer
    from rouge_score.rouge_scorer import RougeScorer

    frame = report_texts()
    run(frame)
    found = {(r["encoder"], r["metric"]): r for r in rows("reports")}
    for name, of in frame.groupby("encoder"):
        scorer, rouge = BleuScorer(n=4), RougeScorer(["rougeL"], use_stemmer=False)
        for reference, hypothesis in zip(of["reference"], of["hypothesis"], strict=True):
            scorer += (" ".join(tokens(hypothesis)), [" ".join(tokens(reference))])
        expected = scorer.compute_score(option="closest", verbose=0)[0][3]
        assert float(found[name, "bleu4"]["value"]) == pytest.approx(100 * expected, abs=1e-6)
        mean = np.mean([rouge.score(r, h)["rougeL"].fmeasure for r, h in zip(of["reference"], of["hypothesis"], strict=True)])
        assert float(found[name, "rouge_l"]["value"]) == pytest.approx(100 * mean, abs=1e-6)
        assert float(found[name, "rouge_l_coco"]["value"]) > 0 and found[name, "bleu4"]["low"]
    assert 'tokenizer "words"' in (OUT / "reports.md").read_text() and "words" in (OUT / "reports.tex").read_text()


def test_counts_of_reports_come_whole_or_not_at_all():
    """Some of the counts without the others, or in some files only, are refused by name; with all of them the texts are not counted."""
    frame = report_texts()
    assert "without rouge_l, rouge_l_coco, bleu_match_2" in refused(frame, PredictionsError, bleu_match_1=1)
    counts = columns(frame["reference"], frame["hypothesis"])
    frame.assign(**counts)[frame["encoder"] == "a"].to_csv("a.csv", index=False)
    frame[frame["encoder"] == "b"].to_csv("b.csv", index=False)
    with pytest.raises(PredictionsError, match="rouge_l.* in some files only"):
        write_own(["a.csv", "b.csv"], Path("work"), None, Settings(resamples=5))
    run(frame.assign(**(counts | {"rouge_l": 0.25})))
    assert {float(r["value"]) for r in rows("reports") if r["metric"] == "rouge_l"} == {25.0}
    assert "tokenizer" not in (OUT / "reports.md").read_text()


def test_missing_columns_are_named_with_the_likely_one():
    """A column that is spelled otherwise is named beside the one that was expected."""
    message = refused(probe().rename(columns={"score": "Scores", "image_id": "image"}), PredictionsError)
    assert "mine.csv: got" in message and "score (did you mean Scores?)" in message and "image_id (did you mean image?)" in message
    assert "without target; expected" in refused(probe().drop(columns="target"), PredictionsError)


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [("score", "high", "score 'high'"), ("score", "0,5", "with a point, not a comma"), ("score", "", "an empty score"),
     ("score", "inf", "infinite"), ("target", "-1", "target -1"), ("target", "0.5", "0 or 1"), ("encoder", "", "an empty encoder")],
)  # fmt: skip
def test_bad_values_are_named_with_file_and_line(column, value, words):
    """A value that is no number, no target or nothing at all is refused with the line on which it stands."""
    frame = probe().astype(object)
    frame.iloc[7, frame.columns.get_loc(column)] = value
    message = refused(frame, PredictionsError)
    assert message.startswith("mine.csv line 9: ") and words in message


@pytest.mark.parametrize(("column", "value", "words"), [
    ("dice", 40, "dice 40; expected a number from 0 to 1; next: divide percentages by 100"), ("nsd", 7, "nsd 7; expected"),
    ("hd95", -1, "hd95 -1; "), ("hd95", 12.5, "share of the image's diagonal"), ("ref_area", -5, "expected a number, 0 or more"),
    ("pred_area", -5, "pred_area -5"), ("rg_er", 37.5, "rg_er 37.5"), ("chexbert_hyp_3", 8, "expected a whole number from 0 to 3"),
    ("hyp_len", 2.5, "hyp_len 2.5; expected a whole number, 0 or more"), ("rouge_l", 44, "rouge_l 44")])  # fmt: skip
def test_numbers_that_cannot_be_are_refused(results, column, value, words):
    """A share above 1, a distance in pixels, a negative area, a finding that CheXbert has not: refused with file and line."""
    reports = results.report_rows(0.5, chexbert=True).assign(rg_er=0.5, encoder="a")
    masks = segmented().assign(hd95=0.1, nsd=0.9, ref_area=1, pred_area=1)
    frame = (masks if column in masks else reports).astype(object)
    frame.iloc[7, frame.columns.get_loc(column)] = value
    message = refused(frame, PredictionsError)
    assert message.startswith("mine.csv line 9: got ") and words in message


def test_lines_are_those_of_the_file():
    """Blank lines and texts of several lines before it do not move the line that an error names; a Parquet file has rows."""
    frame = report_texts()
    frame.loc[[0, 3], ["reference", "hypothesis"]] = "first\nsecond\n\nfourth"
    frame.loc[50, "encoder"] = ""
    lines = frame.to_csv(index=False).splitlines(keepends=True)
    blank = '\n \n""\n" "\n\u00a0\n,,,\n'  # what editors and spreadsheets leave
    Path("mine.csv").write_text("\n" + lines[0] + blank + "".join(lines[1:]))
    with pytest.raises(PredictionsError) as caught:
        write_own(["mine.csv"], Path("work"), None, Settings(resamples=5))
    number = int(re.match("mine.csv line ([0-9]+): got an empty encoder", str(caught.value))[1])
    assert Path("mine.csv").read_text().split("\n")[number - 1].startswith(",10.png,")
    frame.to_parquet("mine.parquet")
    with pytest.raises(PredictionsError, match="mine.parquet row 51: got an empty encoder"):
        write_own(["mine.parquet"], Path("work"), None, Settings(resamples=5))


def test_a_column_that_is_there_twice_is_refused():
    """Two columns of one name that matters are refused by name; two that nobody reads are not."""
    text = probe().assign(note="x").to_csv(index=False)
    header, rest = text.split("\n", 1)
    Path("mine.csv").write_text(header.replace("note", " score") + "\n" + rest)
    with pytest.raises(PredictionsError, match="mine.csv: got more than one column score"):
        write_own(["mine.csv"], Path("work"), None, Settings(resamples=5))
    rows = [line + end for line, end in zip(text.splitlines(), [",note", *[",y"] * text.count("\n")], strict=False)]
    Path("mine.csv").write_text("\n".join(rows) + "\n")
    write_own(["mine.csv"], Path("work"), None, Settings(resamples=5))


@pytest.mark.parametrize("name", ["mine.csv", "mine.parquet"])
def test_targets_may_be_true_and_false(name):
    """Targets True and False give the tables of 1 and 0, in CSV and in Parquet."""
    run(probe())
    before = (OUT / "classification.csv").read_bytes()
    frame = probe().assign(target=lambda f: f["target"] == 1)
    frame.to_parquet(name) if name.endswith("t") else frame.to_csv(name, index=False)
    main(["--csv", name, "--out", str(OUT), "--resamples", "80"])
    assert (OUT / "classification.csv").read_bytes() == before


@pytest.mark.parametrize(("value", "told"), [
    ("0.7", "got replicate 0.7; expected a whole number; next: number the folds"),
    ("fold1", "got replicate 'fold1'; expected a whole number; next: number the folds or seeds, for instance 1 for fold1")])  # fmt: skip
def test_replicates_are_whole_numbers(value, told):
    """A replicate that is a fraction or a name is refused as such, with how to number names."""
    assert told in refused(probe().assign(replicate=value), PredictionsError)


def test_some_blank_patients_are_refused_and_none_are_images():
    """One blank patient_id among many is refused with its line; a column of blanks is as none: images are drawn, and it is said why."""
    frame = probe()
    one = frame["patient_id"].where(np.arange(len(frame)) != 5, "")
    message = refused(frame, PredictionsError, patient_id=one)
    assert message.startswith("mine.csv line 7: got an empty patient_id") and "leave it empty" in message
    two = pd.concat([frame.assign(dataset="A"), frame.assign(dataset="B", patient_id="")])
    run(two)
    assert {(r["dataset"], r["resampling_unit"]) for r in rows("classification")} == {("A", "patient"), ("B", "image")}
    text = (OUT / "classification.md").read_text()
    assert "also those of one patient: no patient ids are known)" in text and "90 test images of 45 patients" in text
    run(frame, "--unit", "image")
    assert "also those of one patient: --unit image)" in (OUT / "classification.md").read_text()


@pytest.mark.parametrize("unit", ["patient", "study", "image"])
def test_patients_are_counted_whatever_is_drawn(unit):
    """n_patients counts patients and n_units what is drawn; studies that two patients both call s1 are two."""
    frame = probe().assign(study_id=lambda f: "s" + (f["image_id"].str.split(".").str[0].astype(int) % 2).astype(str))
    frame["study_id"] = frame["study_id"].where(frame["patient_id"] > "p3", "s0")
    run(frame, "--unit", unit)
    found, studies = rows("classification"), frame.groupby(["patient_id", "study_id"]).ngroups
    assert {r["n_patients"] for r in found} == {"45"}
    assert {r["n_units"] for r in found} == {{"patient": "45", "study": str(studies), "image": "90"}[unit]} and 45 < studies < 90
    assert "90 test images of 45 patients" in (OUT / "classification.md").read_text()


@pytest.mark.parametrize("column", ["sex", "age_band", "view", "site", "study_id"])
def test_groups_that_differ_between_encoders_are_refused(column):
    """The same image with another group or study for another encoder is refused with the first images."""
    frame = probe().assign(**{column: "F"})
    other = (frame["encoder"] == "third") & frame["image_id"].isin(["3.png", "4.png"])
    message = refused(frame, TruthMismatch, **{column: frame[column].where(~other, "M")})
    assert f"got {column} " in message and "M with third" in message and "3.png / Effusion" in message and "(4 such samples)" in message


def test_long_names_have_folders():
    """Encoders and data sets with names of 300 characters, alike at the beginning, have tables under their names."""
    long = {name: "é" * 300 + name for name in NAMES}
    run(probe().assign(dataset="d" * 300).replace({"encoder": long}))
    assert {r["encoder_title"] for r in rows("classification")} == set(long.values())
    assert {r["dataset_title"] for r in rows("classification")} == {"d" * 300}


def test_what_a_former_run_left_is_removed():
    """Files that a former run wrote and this one does not are gone, also those with ids; files of somebody else and changed ones stay."""
    run(segmented())
    (OUT / "notes.txt").write_text("mine")
    (OUT / "segmentation.tex").write_text("edited by hand")
    run(probe())
    left = {path.name for path in OUT.glob("segmentation.*")}
    assert left == {"segmentation.tex"} and (OUT / "notes.txt").is_file() and (OUT / "classification.csv").is_file()
    assert {path.name for path in (OUT / "work/results").iterdir() if list(path.rglob("*.*"))} == {"linear_probe", "stats"}
    assert not list((OUT / "work/results/stats/segmentation").rglob("*.*"))
    forget(OUT, ("stats",))
    assert (OUT / "classification.csv").is_file(), "of another kind"


def test_pretraining_that_no_file_tells_is_no_mark():
    """Rows of one's own predictions carry no mark about pretraining; the note below says once that it is not known."""
    run(probe())
    text = (OUT / "classification.md").read_text()
    assert {r["marks"] for r in rows("classification")} == {""} and "§" not in text
    assert text.count("Whether an encoder was pretrained on these images is not known here.") == 1


@pytest.mark.parametrize(("text", "words"), [
    ("", "an empty file"), ("encoder,image_id,label,target,score\n", "no rows"),
    ("encoder,image_id,label,target,score\na,1,x,1,0.2,9\n", "mine.csv line 2: got 6 fields; expected 5, as the header has"),
    ("model,img,finding,gt,prob\na,1,x,1,0.2\n", "encoder (did you mean model?), image_id (did you mean img?)")])  # fmt: skip
def test_files_that_are_no_table_are_named(text, words):
    """An empty file, one without rows, rows longer than the header, and columns under other words are refused by name."""
    Path("mine.csv").write_text(text)
    with pytest.raises(PredictionsError, match="mine.csv") as caught:
        write_own(["mine.csv"], Path("work"), None, Settings(resamples=5))
    assert words in str(caught.value)


def test_repeated_samples_are_refused_with_their_lines():
    """The same image and label twice for one encoder is refused, with both lines and the way out."""
    frame = probe()
    message = refused(pd.concat([frame, frame.iloc[[4]]]), SampleMismatch)
    assert message.startswith(f"mine.csv line 6; mine.csv line {len(frame) + 2}: ") and "replicate" in message


def test_encoders_on_other_samples_are_refused_with_the_ids():
    """Samples that one encoder lacks are listed under both encoders' names, five at most."""
    frame = probe()
    lacking = (frame["encoder"] == "third") & frame["image_id"].isin([f"{i}.png" for i in range(7)])
    message = refused(frame[~lacking], SampleMismatch)
    assert "14 samples of" in message and "that third lacks: 0.png / Effusion" in message and message.count(".png") == 5


def test_other_truth_is_refused():
    """The same image with another target, or another patient, for another encoder is refused by name."""
    frame = probe()
    place = frame.index[(frame["encoder"] == "third") & (frame["image_id"] == "3.png") & (frame["label"] == "Effusion")][0]
    flipped = frame["target"].where(frame.index != place, 1 - frame["target"])
    assert "3.png / Effusion (1 such" in refused(frame, TruthMismatch, target=flipped)
    moved = frame["patient_id"].where(frame.index != place, "p44")
    assert "patient_id" in refused(frame, TruthMismatch, patient_id=moved)


@pytest.mark.parametrize(("words", "told"), [
    (["--resamples", "49"], "--resamples: got 49; expected a whole number, at least 50"), (["--resamples", "-3"], "--resamples: got -3"),
    (["--margin", "5"], "--margin: got 5; expected a fraction above 0 and below 1"), (["--margin", "-1"], "--margin: got -1"),
    (["--margin", "0"], "--margin: got 0"), (["--margin", "nan"], "--margin: got nan"),
    (["--out", "mine.csv"], "mine.csv, which is a file"), (["--out", "/proc/x"], "--out: got /proc/x, which cannot be written to ("),
    (["--out", "mine.csv/below"], "--out: got mine.csv/below, but mine.csv is a file")])  # fmt: skip
def test_settings_outside_their_range_are_named(words, told):
    """No resamples, a margin that is no fraction and a file as the folder end with one sentence, and nothing is written."""
    probe().to_csv("mine.csv", index=False)
    with pytest.raises(SystemExit, match="SettingError: ") as caught:
        main(["--csv", "mine.csv", "--out", str(OUT), *words])
    assert told in str(caught.value) and [path.name for path in Path().iterdir()] == ["mine.csv"]


@pytest.mark.parametrize("patients", [1, 2, 9])
def test_few_patients_are_pointed_out(patients):
    """Below ten patients every table with an interval says that it cannot be relied on; at ten none does."""
    frame = probe(sex=["F", "M"])
    frame["patient_id"] = [f"p{int(image.split('.')[0]) % patients}" for image in frame["image_id"]]
    run(frame)
    for name in ("classification", "significance", "calibration", "ranks"):
        for kind in ("md", "tex"):
            assert f"only {patients} patient{'s' * (patients > 1)}: too few" in (OUT / f"{name}.{kind}").read_text(), name
    frame["patient_id"] = [f"p{int(image.split('.')[0]) % 10}" for image in frame["image_id"]]
    run(frame)
    assert "too few for an interval" not in "".join(path.read_text() for path in OUT.glob("*.md"))


def one_is_right(patients: int, positive: int = 1) -> pd.DataFrame:
    """An encoder that is always right on a class of so many patients, one that guesses and a control, 60 patients with two images."""
    random, target = np.random.default_rng(5), np.repeat(np.arange(60) < patients, 2) == bool(positive)
    scores = {"right": np.where(target, 0.8, 0.2) + 0.1 * random.random(120), "guess": random.random(120),
              "control": np.where(target, 0.9, 0.1)}  # fmt: skip
    return pd.concat([
        pd.DataFrame({"encoder": name, "image_id": [f"i{k}" for k in range(120)], "patient_id": [f"p{k // 2}" for k in range(120)],
                      "label": "Hernia", "target": target.astype(int), "score": score.round(4)})
        for name, score in scores.items()])  # fmt: skip


@pytest.mark.parametrize("positive", [0, 1])
@pytest.mark.parametrize("patients", [3, 9, 10])
def test_nothing_is_significant_on_a_handful_of_patients_of_a_class(patients, positive):
    """With fewer than ten patients of a class a column keeps its p but has no mark, no place in the family and no claim on the page."""
    run(one_is_right(patients, positive), "--controls", "control")
    best = {r["metric"]: r for r in rows("significance") if r["rule"] != "fixed"}
    text, page = (OUT / "significance.md").read_text(), (OUT / "page/index.html").read_text()
    assert {r["n_negative_units" if positive == 0 else "n_positive_units"] for r in rows("classification")} == {str(patients)}
    assert all(float(r["p_one_sided"]) < 0.1 for r in best.values())
    lines = [line for line in text.splitlines() if line.startswith("| own")]
    if patients == 10:
        assert {r["outcome"] for r in best.values()} == {"significant_improvement"} and all("✓✓" in line for line in lines[:2])
        assert "Not tested" not in text and "in 2 of 2 tested columns (controls aside), Holm" in page
        return
    reason = f"too few {'positives' if positive else 'negatives'}: {patients} patients, of at least 10"
    assert {(r["outcome"], r["p_holm"], r["family_size"], r["mde_family"], r["reason"]) for r in best.values()} == {
        ("", "", "0", "", reason)
    }
    assert len(lines) == 4 and not [line for line in lines if "✓" in line or "✗" in line]
    assert f"Not tested, without a mark and not of the family: own Hernia AUPRC, own Hernia AUROC ({reason})." in text
    assert "Differences could not be tested: too few patients." in page
    frame = one_is_right(patients, positive)
    run(frame[frame["encoder"] != "control"])
    page = (OUT / "page/index.html").read_text()
    assert re.search(rf"ahead of guess by [\d.]+ \({reason}\)\.", page) and "zero excluded" not in page


@pytest.mark.parametrize(("patients", "told"), [(3, "Too few patients to tell: Hernia"), (30, "Zero excluded: Hernia")])
def test_a_control_that_is_better_on_few_patients_is_listed_as_such(patients, told):
    """An encoder below a control on a handful of positive patients is listed apart, whatever its interval excludes."""
    run(one_is_right(patients), "--controls", "right", "control", "--reference", "guess")
    assert told in re.sub("<[^>]+>", "", (OUT / "page/index.html").read_text())


def test_columns_of_few_patients_leave_the_family_of_the_others_alone():
    """Beside a label of three positive patients the p Holm of another label is that of a family without it, and the page counts both."""
    frame = pd.concat([one_is_right(3), one_is_right(30).assign(label="Edema")])
    run(frame, "--controls", "control")
    best = {(r["target"], r["metric"]): r for r in rows("significance") if r["rule"] != "fixed"}
    p = sorted(float(best["Edema", metric]["p_one_sided"]) for metric in ("auprc", "auroc"))
    assert min(float(best["Edema", metric]["p_holm"]) for metric in ("auprc", "auroc")) == pytest.approx(2 * p[0])
    assert {r["family_size"] for r in best.values()} == {"2"}
    assert "2 more could not be tested: too few patients." in (OUT / "page/index.html").read_text()


def test_few_images_of_a_structure_have_no_mark():
    """A segmentation of nine patients is not called better or worse, whatever p; of ten it is."""
    for patients in (9, 10):
        frame = segmented()
        run(frame[(frame["structure"] == "right") & frame["image_id"].isin([f"i{k}" for k in range(patients)])])
        best = [r for r in rows("significance") if r["rule"] != "fixed"]
        assert [(r["outcome"] == "") == (patients == 9) for r in best] == [True]


def test_the_headline_counts_columns_in_which_a_control_is_better():
    """A significant column in which a control beats the reference is counted beside, and those without marks are not counted as won."""

    def headline(control_wins: bool) -> str:
        frame = one_is_right(30)
        if control_wins:  # the reference errs a little, the control never
            frame["score"] = frame["score"].where((frame["encoder"] != "right") | (frame["image_id"] != "i0"), 0.0)
        lost = frame.assign(score=frame["score"].where(frame["encoder"] != "guess", frame["target"]))  # the other is right here
        run(pd.concat([frame, lost.assign(label="Edema"), lost.assign(label="Mass")]), "--controls", "control", "--resamples", "200")
        return (OUT / "page/index.html").read_text()

    assert "best other encoder in 2 of 6 tested columns (controls aside; below a control in 2 of them), Holm" in headline(True)
    assert "best other encoder in 2 of 6 tested columns (controls aside), Holm" in headline(False)


def test_table_of_tests_names_controls_and_single_runs():
    """The column of a control is headed so, and a note says where p leaves out the luck of training: with one replicate, not with three."""
    run(one_is_right(30), "--controls", "control")
    text = (OUT / "significance.md").read_text()
    assert "| Data | Column | Metric | guess | control (control) |" in text
    assert "Trained once (one replicate), so that nothing is known of that luck: own (AUPRC, AUROC)." in text
    run(pd.concat([one_is_right(30).assign(replicate=k) for k in range(3)]), "--controls", "control")
    assert "Trained once" not in (OUT / "significance.md").read_text()


def test_better_than_the_best_other_means_better_than_every_other():
    """Against a near copy a small lead is clear and against an equal that errs elsewhere it is not: the larger p stands in the table."""
    random = np.random.default_rng(2)
    ours = 0.85 + 0.05 * random.normal(size=80)
    noise, elsewhere = random.normal(size=(2, 80))
    scores = {"ours": ours, "copy": ours - 0.003 + 0.003 * noise, "other": ours.mean() - 0.006 + 0.05 * elsewhere}
    run(pd.concat([pd.DataFrame({"encoder": name, "image_id": [f"i{k}" for k in range(80)], "structure": "lungs", "dice": score.round(4)})
                   for name, score in scores.items()]))  # fmt: skip
    found = {(r["rule"], r["other"]): r for r in rows("significance")}
    best, copy, other = (found[key] for key in (("best other encoder", "copy"), ("fixed", "copy"), ("fixed", "other")))
    assert float(copy["p_one_sided"]) < 0.05 < float(other["p_one_sided"]) and copy["outcome"] == "significant_improvement"
    for name in ("p_one_sided", "p_wilcoxon", "p_sign_flip", "p_non_inferior"):
        assert float(best[name]) == max(float(copy[name]), float(other[name])), name
    assert all(best[name] == copy[name] for name in best if name.endswith("two_sided") or name == "p_equivalent")
    assert (best["outcome"], best["p_against"], best["delta"]) == ("nonsignificant_improvement", "other", copy["delta"])
    text = (OUT / "significance.md").read_text()
    assert "p belongs to another encoder than the baseline shown, which is the best by value: own lungs Dice (other)." in text


def test_clear_over_patients_but_not_over_training_is_named():
    """A column with p below 0.05 over patients, whose runs scatter so much that drawing them too gives more, is named below the table."""
    random, runs = np.random.default_rng(4), (0.12, -0.08, 0.06)
    frames = [pd.DataFrame({"encoder": name, "image_id": [f"i{k}" for k in range(80)], "structure": "lungs", "replicate": number,
                            "dice": (0.7 + (name == "ours") * gain + 0.02 * random.normal(size=80)).round(4)})
              for name in ("ours", "other") for number, gain in enumerate(runs)]  # fmt: skip
    run(pd.concat(frames))
    best = next(r for r in rows("significance") if r["rule"] != "fixed")
    assert float(best["p_one_sided"]) < 0.05 < float(best["p_two_level"])
    text = (OUT / "significance.md").read_text().replace("\\_", "_")
    assert "interval in the CSV): own (lungs Dice)." in text and "the luck of training is not in them" in text


def test_a_mean_over_labels_is_as_rare_as_its_rarest_label():
    """Two labels with three positive patients each make a mean of which the page claims nothing."""
    frame = one_is_right(3)
    run(pd.concat([frame, frame.assign(label="Edema")]))
    agg = {r["metric"]: r for r in rows("classification") if r["target"] == "Agg-2"}
    assert agg["auprc"]["n_positive_units"] == "3" and agg["auprc"]["n_negative_units"] == "57"
    page = (OUT / "page/index.html").read_text()
    assert "could not be tested: too few patients" in page and "zero excluded" not in page.partition("Intervals")[0]


def test_who_is_level_does_not_lead():
    """Two encoders with the same scores are level in every column, and the reference leads in none."""
    frame = one_is_right(30)
    run(pd.concat([frame[frame.encoder == "guess"].assign(encoder=name) for name in ("one", "other")]))
    page = (OUT / "page/index.html").read_text()
    assert "leads in 0 of the 2 comparisons" in page and page.count("level with other") == 2


def test_sizes_and_positives_are_told_by_column():
    """Where labels have different images the note gives the range of both counts, and how many images of each column have the finding."""
    frame = probe()
    frame = frame[(frame["label"] != "Effusion") | frame["image_id"].isin([f"{i}.png" for i in range(60)])]
    run(frame)
    text = (OUT / "classification.md").read_text().replace("\\_", "_")
    assert "; 60 to 90 test images of 30 to 45 patients, by column." in text
    found = {r["target"]: r for r in rows("classification") if r["metric"] == "auprc"}
    told = ", ".join(f"{label} {found[label]['n_positive']} of {size} ({float(found[label]['guessing']):.1f})"
                     for label, size in (("Effusion", 60), ("Lung_Opacity", 90)))  # fmt: skip
    assert f"Images with the finding, of all, and the AUPRC of guessing: {told}." in text and "No interval to be relied on" not in text
    run(one_is_right(3))
    assert "no test: Hernia (too few positives: 3 patients, of at least 10)." in (OUT / "classification.md").read_text()


def test_intervals_beside_their_value_are_named():
    """Columns whose resamples lie a tenth of the interval's width beside the value are named with their encoders, and no others."""
    random, target = np.random.default_rng(2), np.arange(150) < 12
    labels = [pd.DataFrame({"encoder": name, "image_id": [f"i{k}" for k in range(150)], "patient_id": [f"p{k}" for k in range(150)],
                            "label": label, "target": target.astype(int),
                            "score": (skill * target + random.normal(size=150)).round(4)})
              for name, skill in (("weak", 0.3), ("strong", 3.0)) for label in "abcdefgh"]  # fmt: skip
    run(pd.concat(labels), "--resamples", "300")
    beside = {}
    for r in rows("classification"):
        value, median, low, high = (float(r[name]) for name in ("value", "median", "low", "high"))
        if abs(median - value) > 0.1 * (high - low):
            beside.setdefault(f"{r['column']}", []).append(r["encoder_title"])
        if r["metric"] == "auprc" and r["target"] == "Agg-8":
            assert 0 <= float(r["shifted_low"]) < float(r["shifted_high"]) <= 100
            assert (high - float(r["shifted_high"]) > 0.18 * (high - low)) == (r["encoder"] == "weak")
    note = next(line for line in (OUT / "classification.md").read_text().splitlines() if "beside the value" in line)
    assert beside["Agg-8 AUPRC"] == ["weak"] and len(beside) < 10
    told = "; ".join(f"{column} ({', '.join(who)})" for column, who in beside.items())
    assert f"width: {told}. These" in note


@pytest.mark.parametrize("column", ["subject_id", "Patient_ID", "PatientID", "patient", "patientid", "patinet_id"])
def test_another_name_of_patient_id_is_refused(column):
    """A column that seems to name patients is not passed over in silence: the right name is said, and nothing is written."""
    told = refused(probe().rename(columns={"patient_id": column}), PredictionsError)
    assert f"mine.csv: got a column {column} and no patient_id; expected patient_id (did you mean this?)" in told
    probe().assign(**{column: "x"}).to_csv("mine.csv", index=False)  # beside patient_id it is one that is not read
    write_own(["mine.csv"], Path("work"), None, Settings(resamples=5))


def test_columns_that_are_not_read_are_named(capsys):
    """The command prints every column that it does not read, by file, and nothing where it reads all."""
    frame = probe(sex=["F", "M"])
    run(frame.rename(columns={"sex": "Sex"}).assign(age=45, patient_age="x"))
    assert "mine.csv: columns that are not read: Sex, age, patient_age\n" in capsys.readouterr().out
    run(frame)
    assert "not read" not in capsys.readouterr().out


@pytest.mark.parametrize("empty", ["", " ", "-- ."])
def test_a_report_without_a_reference_is_refused(empty):
    """A reference text without a word is refused with its line, where words are counted; an empty hypothesis is not."""
    reports = pd.DataFrame({"encoder": "a", "image_id": [f"i{k}" for k in range(12)], "reference": "no effusion", "hypothesis": "no"})
    assert "mine.csv line 5: got a reference without a word; expected a report in every row" in refused(
        reports.assign(reference=["no effusion"] * 3 + [empty] + ["no effusion"] * 8), PredictionsError)  # fmt: skip
    run(reports.assign(hypothesis=empty))
    assert {float(r["value"]) for r in rows("reports") if r["metric"] == "rouge_l"} == {0.0}


def test_a_file_given_twice_is_refused():
    """The same file under two spellings of its path is refused as such, and two files of one name are told apart by their folders."""
    frame = probe()
    frame.to_csv("mine.csv", index=False)
    with pytest.raises(PredictionsError, match="--csv: got .*mine.csv more than once"):
        write_own(["mine.csv", Path.cwd() / "mine.csv"], Path("work"), None, Settings(resamples=5))
    for folder in ("a", "b"):
        Path(folder).mkdir()
        frame.to_csv(f"{folder}/mine.csv", index=False)
    with pytest.raises(SampleMismatch, match=r"^a/mine\.csv line 2; b/mine\.csv line 2: "):
        write_own(["a/mine.csv", "b/mine.csv"], Path("work"), None, Settings(resamples=5))


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-16-le", "cp1252"])
@pytest.mark.parametrize("first", [0, 90])
def test_another_encoding_is_named(encoding, first):
    """A file that is not UTF-8 is refused with the words that it should be, wherever its first such byte stands."""
    frame = probe().sort_values("encoder", ascending=first == 0).replace({"encoder": {NAMES[0]: "mine"}})
    Path("mine.csv").write_bytes(frame.to_csv(index=False).encode(encoding))
    with pytest.raises(PredictionsError, match="mine.csv: got bytes that are not UTF-8; .*export it again as UTF-8"):
        write_own(["mine.csv"], Path("work"), None, Settings(resamples=5))


def test_spec_and_csv_exclude_each_other_and_help_tells_the_columns(capsys):
    """Only one source is allowed, options of one are refused with the other, and --help names every needed column."""
    for words in (["--spec", "a", "--csv", "b"], ["--spec", "a", "--resamples", "5"], []):
        with pytest.raises(SystemExit) as caught:
            main([*words, "--out", "x"])
        assert caught.value.code == 2
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    needed = ("encoder", "image_id", "label", "target", "score", "structure", "dice", "patient_id", "replicate", "sex", "site",
              "--controls", "--replicates")  # fmt: skip
    assert not [word for word in needed if word not in text]


def test_command_line_needs_no_learning_library():
    """`python -m stats.tables --csv` runs where torch, scikit-learn and the rest of the project are not imported."""
    probe().to_csv("mine.csv", index=False)
    code = ("import sys; from stats import tables\n"
            "tables.main(['--csv', 'mine.csv', '--out', 'tables', '--resamples', '50'])\n"
            "heavy = {'torch', 'sklearn', 'radbench', 'transformers', 'PIL'} & set(sys.modules)\n"
            "sys.exit(f'imported {heavy}' if heavy else 0)")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": ""},
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
