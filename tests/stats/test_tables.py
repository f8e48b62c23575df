"""Tables 1 to 6 from synthetic statistics, with and without published values for the data."""

import contextlib
import csv
import json
import re
import shutil
from pathlib import Path

import pytest
from scipy.stats import norm
from statsmodels.stats.multitest import multipletests

from stats.compare import Settings, compare
from stats.errors import ProtocolMismatch, SpecError
from stats.published import Published
from stats.scores import other_conditions
from stats.tables import main, write_tables

from .conftest import SIX, Results, write_sidecar

TEST_SIZE = Published.test_size
PUBLISHED = Path(__file__).parents[2] / "results" / "published"
SHORT = dict(zip(SIX, ["LO", "CM", "PL-T", "AE", "PF", "PE"], strict=True))
NAMES = [*(f"table{n}" for n in range(1, 7)), "calibration", "subgroups", "ranks", "learning_curves", "overlap"]
ENCODERS = ["radjepa", "rad_dino", "random_vit", "gone"]
WHY = "weights not present: accept the licence_v2 & log in"


def build(results, paper: bool = True, reduced=(), resamples: int = 60, encoders=("radjepa", "rad_dino", "random_vit")):
    """Predictions, statistics, cards and indexes of one dataset per task, and the spec that joins them."""
    names = {"probe": "VinDr-CXR", "masks": "MIMIC-CXR subset", "reports": "IU-Xray"}
    skills = {"radjepa": 2.0, "rad_dino": 1.5, "random_vit": 0.2}
    cards = {}
    for name in ENCODERS:
        card = {"title": name.replace("_", "-") + "_x", "architecture": "ViT-B/14", "params": 86_000_000, "dim": 768,
                "pooling": "mean", "image_size": 224, "licence": "MIT", "pretrained_on": ["mimic_cxr"],
                "paper_name": {"radjepa": "RadJEPA", "rad_dino": "RAD-DINO"}.get(name, ""),
                "control": name == "random_vit"}  # fmt: skip
        absent = name not in encoders
        precision = "bfloat16" if name == "radjepa" else "float32"
        measured = {"params": 85_799_424, "tokens": 256, "image_size": 224, "dim": 768, "precision": precision} if not absent else {}
        meta = write_sidecar(results.root / f"results/features/{name}/probe", "features", f"features/{name}/probe",
                             {"card": card, "measured": measured}, "absent" if absent else "ok",
                             WHY if absent else None)  # fmt: skip
        cards[name] = meta.relative_to(results.root).as_posix()
    for dataset in (*names, "train"):
        write_sidecar(results.root / f"results/index/{dataset}", "index", f"index/{dataset}",
                      {"images": 120, "patients": 60, "frontal": 100, "lateral": 20, "patient_ids": True,
                       "sources": [dataset, "mimic_cxr"] if dataset == "masks" else [dataset]})  # fmt: skip
    rows = {"linear_probe": ("probe", results.probe_rows), "segmentation": ("masks", results.segmentation_rows),
            "report_generation": ("reports", results.report_rows)}  # fmt: skip
    for task, (dataset, make) in rows.items():
        folders = []
        for i, name in enumerate(ENCODERS):
            if name in encoders:
                skill = skills[name] if task == "linear_probe" else min(0.3 + 0.3 * skills[name], 0.9)
                folders.append(results.write(task, dataset, name, make(skill, i), reduced=list(reduced)))
            else:
                folders.append(results.absent(task, dataset, name, WHY))
        compare(task, dataset, "radjepa", folders, f"results/stats/{task}/{dataset}", Settings(resamples=resamples))

    def section(task, dataset, **more):
        return {
            "dataset": dataset, "title": f"{dataset} & co_1", "stats": f"results/stats/{task}/{dataset}",
            "index": f"results/index/{dataset}/meta.json", "paper": names[dataset] if paper else None,
        } | more  # fmt: skip

    spec = {
        "title": "Toy 100 %", "results": "results", "published": str(PUBLISHED), "reference": "radjepa",
        "controls": ["random_vit"], "encoders": ENCODERS, "cards": cards,
        "table1": {"indexes": ["results/index/train/meta.json"], "names": {"train": "Train set"},
                   "paper": {"train": "BRAX"} if paper else {}},
        "table3": [section("linear_probe", "probe", metrics=["auprc"], columns=SHORT)],
        "table4": [section("segmentation", "masks", columns={"lungs": "Lungs", "ribs": "Ribs"})],
        "table5": [section("report_generation", "reports")],
    }  # fmt: skip
    Path("spec.json").write_text(json.dumps(spec))
    return spec


def rows(name, out="results/tables"):
    with open(f"{out}/{name}.csv", encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


@pytest.fixture(scope="module")
def written_once(tmp_path_factory):
    """The default tree, built once; tests that only read work on a copy of it."""
    root = tmp_path_factory.mktemp("written_once")
    with contextlib.chdir(root), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Published, "test_size", lambda published, dataset: None)  # the toy's 120 images stand for the paper's test sets
        build(Results(root))
        write_tables("spec.json", "results/tables")
    return root


@pytest.fixture(autouse=True)
def toy_test_sets(monkeypatch):
    monkeypatch.setattr(Published, "test_size", lambda published, dataset: None)


def test_another_test_set_is_not_comparable(results, monkeypatch):
    """With another number of test images than the paper's, no cell is called reproduced or different, and both numbers are named."""
    monkeypatch.setattr(Published, "test_size", TEST_SIZE)
    build(results)
    write_tables("spec.json", "results/tables")
    judged = [row for row in rows("table3") if row["published"] and row["value"] and row["target"] == "Lung Opacity"]
    assert judged and {row["verdict"] for row in judged} == {"not comparable"}
    assert all("120 test images, the paper has 3000" in row["reason"] for row in judged if "reduced" not in row["reason"])


@pytest.mark.parametrize(("found", "same"), [(2969, False), (2970, True), (3030, True), (3031, False)])
def test_a_test_set_is_of_the_papers_size_up_to_a_hundredth(found, same):
    """A test set up to 1 % larger or smaller than the paper's is comparable, one image more is not and both sizes are told."""
    told = "" if same else f"{found} test images, the paper has 3000"
    assert other_conditions({"n_images": str(found), "n_patients": "1"}, (3000, "images")) == told
    assert bool(other_conditions({"n_images": "1", "n_patients": str(found)}, (3000, "studies"))) != same


def test_a_site_that_gives_a_label_away_is_named(results):
    """Table 3 names the labels that the site alone predicts with an AUROC of 0.6 or more, with the number, and no others."""
    build(results)
    sites = {"Cardiomegaly": {"A": [30, 10], "B": [10, 30]}, "Pleural Effusion": {"A": [23, 20], "B": [20, 20]},
             "Lung Opacity": {"A": [30, 20], "B": [20, 30]}}  # fmt: skip
    facts = json.loads(Path("results/index/probe/meta.json").read_text())["facts"]
    write_sidecar(results.root / "results/index/probe", "index", "index/probe", facts | {"label_sites": sites})
    write_tables("spec.json", "results/tables")
    assert "The site alone predicts LO 60, CM 75 (AUROC of" in Path("results/tables/table3.md").read_text()


@pytest.fixture
def tables(written_once, results):
    shutil.copytree(written_once, results.root, dirs_exist_ok=True)
    return results


def test_all_files_and_parents_are_there(tables):
    """Ten tables in three formats, the drawing of ranks, the verdicts and their summary, with every sidecar that was read as a parent."""
    content = json.loads(Path("results/tables/meta.json").read_text())
    assert set(content["files"]) == {f"{name}.{suffix}" for name in NAMES for suffix in ("csv", "tex", "md")} | {
        "paper_vs_measured.csv", "paper_vs_measured.md", "summary.tex", "summary.md", "ranks.svg"}  # fmt: skip
    read = {path.as_posix() for pattern in ("features", "index", "stats")
            for path in Path("results", pattern).rglob("meta.json")}  # fmt: skip
    assert {parent["path"] for parent in content["parents"]} == read


def test_verdict_follows_the_measured_interval(tables):
    """A published value inside the measured 95 % interval is reproduced, outside it differs, in every cell."""
    judged = [row for n in (3, 4, 5) for row in rows(f"table{n}") if row["verdict"] in ("reproduced", "differs")]
    assert {row["verdict"] for row in judged} == {"reproduced", "differs"}
    for row in judged:
        inside = float(row["low"]) <= float(row["published"]) <= float(row["high"])
        assert row["verdict"] == ("reproduced" if inside else "differs")
        assert float(row["difference"]) == pytest.approx(float(row["value"]) - float(row["published"]), abs=1e-6)


def test_published_values_join_by_paper_name(tables):
    """RadJEPA's LO is 19.2 and its lungs UPerNet Dice 98.3; RAD-DINO's lungs come from the UPerNet row, not Linear."""
    three = {(row["encoder"], row["target"]): row for row in rows("table3")}
    four = {(row["encoder"], row["target"]): row for row in rows("table4")}
    assert float(three["radjepa", "Lung Opacity"]["published"]) == 19.2
    assert float(three["rad_dino", "Agg-6"]["published"]) == pytest.approx(50.533, abs=1e-3)
    assert float(four["radjepa", "lungs"]["published"]) == 98.3
    assert float(four["rad_dino", "lungs"]["published"]) == 98.0
    assert three["random_vit", "Lung Opacity"]["verdict"] == "not comparable"


def test_every_gap_is_named(tables):
    """The absent encoder is a dash whose reason stands below the table, and `not run` with that reason in the CSV."""
    gone = [row for row in rows("table3") if row["encoder"] == "gone"]
    assert {(row["verdict"], row["reason"], row["value"]) for row in gone} == {("not run", WHY, "")}
    text = Path("results/tables/table3.md").read_text()
    assert re.search(r"\| gone\\_x \| – \|", text) and "– gone\\_x: weights not present" in text
    uncomputed = [row for row in rows("table5") if row["metric"] == "f1_14" and row["encoder"] == "radjepa"]
    assert uncomputed[0]["verdict"] == "not run" and uncomputed[0]["reason"]


def test_overlap_is_marked_where_the_encoder_saw_the_data(tables):
    """The dagger stands where pretrained_on meets the index's sources, and nowhere else."""
    assert {("overlap: mimic_cxr" in row["marks"], row["value"] != "") for row in rows("table4")} == {
        (True, True), (False, False)}  # fmt: skip
    assert not any(row["marks"] for row in rows("table3"))
    assert "† pretrained on images of these data: mimic\\_cxr" in Path("results/tables/table4.md").read_text()


def edit_cards(**changes):
    """Change cards in the sidecars of the features, by encoder, and hash the sidecars anew."""
    for name, change in changes.items():
        path = Path(f"results/features/{name}/probe/meta.json")
        facts = json.loads(path.read_text())["facts"]
        facts["card"] |= change
        write_sidecar(path.parent, "features", f"features/{name}/probe", facts)


def test_seen_labels_and_unknown_data_have_marks_of_their_own(results):
    """Labels seen in pretraining are named beside the dagger; a card that does not tell all of its data has the section sign instead."""
    build(results)
    edit_cards(radjepa={"labels_seen": ["mimic_cxr"]}, rad_dino={"pretrained_on": ["padchest", "unknown"]})
    write_tables("spec.json", "results/tables")
    page = Path("results/tables/table4.md").read_text()
    assert "† pretrained on images of these data: mimic\\_cxr with its labels (radjepa\\_x)" in page
    assert "§ pretraining data: not all known, so these images may be among them (rad-dino\\_x)" in page
    assert "| rad-dino\\_x§ |" in page and "| radjepa\\_x† |" in page and "random-vit\\_x§" not in page
    marks = {row["encoder"]: row["marks"] for row in rows("table3") if row["value"]}
    assert marks["radjepa"] == "" and marks["rad_dino"].startswith("pretraining data: not all known")
    assert (
        "| § | masks & co\\_1 | not known whether pretrained on images of these data: rad-dino\\_x |"
        in Path("results/tables/summary.md").read_text()
    )


def test_what_a_card_says_of_itself_stands_below_table_2(results):
    """The notes of a card, and every known inconsistency of its row in the paper, are notes of Table 2."""
    build(results)
    edit_cards(radjepa={"notes": "its weights were never released; not verified here: the licence"})
    write_tables("spec.json", "results/tables")
    page = Path("results/tables/table2.md").read_text()
    assert "radjepa\\_x: its weights were never released; not verified here: the licence." in page
    assert "rad-dino\\_x, images of the paper: the released checkpoint was trained on public data" in page


def test_reduced_protocol_is_marked_and_not_comparable(results):
    """A cell made under a reduced protocol carries the double dagger and is never called reproduced."""
    build(results, reduced=["3 epochs instead of 100"])
    write_tables("spec.json", "results/tables")
    three = [row for row in rows("table3") if row["encoder"] == "radjepa"]
    assert {row["verdict"] for row in three} == {"not comparable"} and "3 epochs" in three[0]["reason"]
    assert "radjepa\\_x‡" in Path("results/tables/table3.md").read_text()


def test_without_published_values_nothing_is_compared(results):
    """With `paper` null the tables show no published rows and every value is `not comparable`, with the reason."""
    build(results, paper=False)
    write_tables("spec.json", "results/tables")
    for number in (3, 4, 5):
        assert not any(row["published"] for row in rows(f"table{number}"))
        assert "published" not in Path(f"results/tables/table{number}.md").read_text()
    assert {row["verdict"] for row in rows("paper_vs_measured") if row["table"] == "3"} == {"not run"}


def test_best_and_second_are_printed_so(tables):
    """The best value of a column is bold and the second underlined, absent rows not counted."""
    table = {row["encoder"]: float(row["value"]) for row in rows("table3") if row["target"] == "Agg-6" and row["value"]}
    best, second = sorted(table.values(), reverse=True)[:2]
    text = Path("results/tables/table3.md").read_text()
    assert f"**{best:.1f} ±" in text and f"<u>{second:.1f} ±" in text
    assert f"\\textbf{{\\num{{{best:.1f} \\pm" in Path("results/tables/table3.tex").read_text()


def test_a_control_is_neither_best_nor_second(tables):
    """A control that is best of all has its value and no mark, and neither has the only encoder that is left beside controls."""
    table = {row["encoder"]: float(row["value"]) for row in rows("table3") if row["target"] == "Agg-6" and row["value"]}
    best = max(table, key=table.get)
    spec = json.loads(Path("spec.json").read_text())
    Path("spec.json").write_text(json.dumps(spec | {"controls": [*spec["controls"], best], "reference": "rad_dino"}))
    write_tables("spec.json", "results/tables")
    text = Path("results/tables/table3.md").read_text()
    assert f"{table[best]:.1f} ±" in text and "**" not in text and "<u>" not in text


def test_table6_uses_the_best_encoder_that_is_not_a_control(tables):
    """The best-per-column baseline is RAD-DINO, never the control; each fixed baseline is in the CSV as well."""
    six = rows("table6")
    best = [row for row in six if row["rule"] == "best other encoder"]
    assert {row["other"] for row in best if row["delta"]} == {"rad_dino"}
    assert {row["other"] for row in six if row["rule"] == "fixed"} == {"rad_dino", "random_vit", "gone"}
    assert not any(row["target"].startswith("Agg") or row["metric"] == "rouge_l_coco" for row in six)
    assert {row["verdict"] for row in six if row["other"] == "gone"} == {"not run"}


def test_table6_adjusts_over_the_family(tables):
    """p Holm is statsmodels' of the one-sided p, the family counts the tested columns only, and marks follow p Holm."""
    best = [row for row in rows("table6") if row["rule"] == "best other encoder" and row["delta"]]
    assert {row["family_size"] for row in best} == {str(len(best))} == {"10"}
    p = [float(row["p_one_sided"]) for row in best]
    assert [float(row["p_holm"]) for row in best] == pytest.approx(multipletests(p, method="holm")[1], abs=1e-9)
    assert [float(row["p_bh"]) for row in best] == pytest.approx(multipletests(p, method="fdr_bh")[1], abs=1e-9)
    wider = (norm.ppf(1 - 0.05 / 10) + norm.ppf(0.8)) / (norm.ppf(0.95) + norm.ppf(0.8))
    assert [float(row["mde_family"]) for row in best] == pytest.approx([wider * float(row["mde"]) for row in best], rel=1e-6)
    for row in best:
        expected = ("no_improvement" if float(row["delta"]) <= 0 else "significant_improvement"
                    if float(row["p_holm"]) < 0.05 else "nonsignificant_improvement")  # fmt: skip
        assert row["outcome"] == expected
    assert "at least 200 resamples are needed" in Path("results/tables/table6.md").read_text()


def test_where_less_is_better_table6_and_ranks_are_the_right_way_round(results):
    """Of three encoders' Brier scores the lowest is the best other, has the first rank, and is better than the reference or not by it."""
    spec = build(results)
    spec["table3"][0]["metrics"] = ["brier", "ece"]
    Path("spec.json").write_text(json.dumps(spec))
    write_tables("spec.json", "results/tables")
    values = {(row["encoder"], row["target"]): float(row["value"]) for row in rows("table3") if row["metric"] == "brier" and row["value"]}
    best = [row for row in rows("table6") if row["rule"] == "best other encoder" and row["dataset"] == "probe"]
    assert len(best) == 6 and {row["metric"] for row in best} == {"brier"}  # the calibration error is not tested
    for row in best:
        assert row["other"] == "rad_dino" and float(row["delta"]) == pytest.approx(
            values["radjepa", row["target"]] - values["rad_dino", row["target"]], abs=1e-6)  # fmt: skip
        assert (row["outcome"] == "no_improvement") == (float(row["delta"]) >= 0)
    assert {row["outcome"] for row in best} & {"significant_improvement", "nonsignificant_improvement"}
    (first,) = [row for row in rows("ranks") if row["task"] == "Classification" and row["encoder"] == "radjepa" and not row["dataset"]]
    mean = [sum(values[e, t] <= values["radjepa", t] for e in ("radjepa", "rad_dino", "random_vit")) for t in SIX]
    assert float(first["rank"]) == pytest.approx(sum(mean) / 6)
    assert "of ECE by test inversion" in Path("results/tables/table3.md").read_text()


@pytest.mark.parametrize("change, words", [
    ({"paper_name": "RAD-DINO"}, "is not the paper's RadJEPA"), ({"reduced": ["epochs 100 -> 3"]}, "reduced protocol"),
    ({"test_size": True}, "120 test images, the paper has 3000"), ({}, "the paper's best other row of this column, "),
    ({"best": "RadJEPA"}, "the best other, rad-dino_x, is itself a RadJEPA"),
])  # fmt: skip
def test_an_outcome_of_another_experiment_is_not_held_against_the_paper(results, monkeypatch, change, words):
    """Table 6 is compared with the paper only where the reference, the protocol, the test set and the best baseline are the paper's."""
    if "test_size" in change:
        monkeypatch.setattr(Published, "test_size", TEST_SIZE)
    spec = build(results, reduced=change.get("reduced", ()))
    for encoder, key in (("radjepa", "paper_name"), ("rad_dino", "best")):
        if key in change:
            card = Path(spec["cards"][encoder])
            content = json.loads(card.read_text())
            content["facts"]["card"]["paper_name"] = change[key]
            card.write_text(json.dumps(content))
    write_tables("spec.json", "results/tables")
    judged = [row for row in rows("table6") if row["rule"] == "best other encoder" and row["dataset"] == "probe" and row["delta"]]
    reasons = {row["column"]: row["reason"] for row in judged}
    assert len(judged) == 6 and words in reasons["CM"]  # in print MRM is the best other there
    if change:
        assert {row["verdict"] for row in judged} == {"not comparable"} and all(words in reason for reason in reasons.values())
    else:
        verdicts = {row["column"]: row["verdict"] for row in judged}  # RAD-DINO, which is in the run, is printed best in PF and PE
        assert words + "MRM" in reasons["CM"] and {verdicts["PF"], verdicts["PE"]} <= {"reproduced", "differs"}


def test_table6_falls_back_to_the_best_control_and_says_so(results):
    """Where only controls are present the baseline is the best control, named as such."""
    build(results, encoders=("radjepa", "random_vit"))
    write_tables("spec.json", "results/tables")
    best = [row for row in rows("table6") if row["rule"].startswith("best") and row["delta"]]
    assert {(row["rule"], row["other"]) for row in best} == {("best control (no other encoder present)", "random_vit")}
    assert {row["verdict"] for row in best} == {"not comparable"}
    assert "No encoder other than the controls" in Path("results/tables/table6.md").read_text()


def test_table6_published_outcomes(tables):
    """Published outcomes join by column: CM no improvement, Lung not significant, IU ROUGE-L significant."""
    found = {(r["column"], r["dataset"]): r["published_outcome"] for r in rows("table6")
             if r["rule"].startswith("best") and r["metric"] != "bleu4"}  # fmt: skip
    assert found["CM", "probe"] == "no_improvement" and found["Lungs", "masks"] == "nonsignificant_improvement"
    assert found["Report", "reports"] == "significant_improvement"


def test_table6_has_the_papers_marks_and_every_test_beside_them(tables):
    """The table shows ✓✓, ✓ or ✗ measured and published beside p, one- and two-sided; the CSV adds every other test of comparisons.csv."""
    best = [row for row in rows("table6") if row["rule"] == "best other encoder" and row["delta"]]
    text = Path("results/tables/table6.md").read_text().split("against each fixed")[0]
    marks = {"significant_improvement": "✓✓", "nonsignificant_improvement": "✓", "no_improvement": "✗"}
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| probe")]
    shown = {line[1]: line for line in lines}
    for row in (row for row in best if row["dataset"] == "probe"):
        line = shown[row["column"]]
        assert line[-2:] == [marks[row["outcome"]], marks[row["published_outcome"]]]
        assert line[-5:-2] == [f"{float(row[name]):.3f}" for name in ("p_one_sided", "p_two_sided", "p_holm")]
    with open("results/stats/segmentation/masks/comparisons.csv", encoding="utf-8", newline="") as of:
        source = {(r["encoder"], r["other"], r["target"]): r for r in csv.DictReader(of) if r["metric"] == "dice"}
    (lungs,) = [row for row in best if row["target"] == "lungs"]
    for name in ("p_two_sided", "p_sign_flip", "p_sign_flip_two_sided", "p_wilcoxon", "p_wilcoxon_two_sided", "p_non_inferior",
                 "p_equivalent", "power_margin"):  # fmt: skip
        assert lungs[name] == source["radjepa", "rad_dino", "lungs"][name] != ""
    assert float(lungs["margin"]) == 2.0 and lungs["p_delong"] == ""


def test_auroc_columns_carry_delong(results):
    """A column of AUROC has DeLong's p from the comparisons in table6.csv, a column of AUPRC has none."""
    spec = build(results)
    spec["table3"][0]["metrics"] = ["auprc", "auroc"]
    Path("spec.json").write_text(json.dumps(spec))
    write_tables("spec.json", "results/tables")
    found = {row["metric"]: row["p_delong"] for row in rows("table6") if row["target"] == "Cardiomegaly" and row["other"] == "rad_dino"}
    with open("results/stats/linear_probe/probe/comparisons.csv", encoding="utf-8", newline="") as of:
        source = {(r["encoder"], r["other"], r["target"], r["metric"]): r["p_delong"] for r in csv.DictReader(of)}
    assert found == {"auprc": "", "auroc": source["radjepa", "rad_dino", "Cardiomegaly", "auroc"]} and found["auroc"]


def test_the_summary_counts_and_ranks_the_verdicts(tables):
    """The one page counts verdicts per table as paper_vs_measured has them, the largest disagreement first, reasons by their number."""
    verdicts = rows("paper_vs_measured")
    text = Path("results/tables/summary.md").read_text()
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    for table in map(str, range(1, 7)):
        of = [row["verdict"] for row in verdicts if row["table"] == table]
        counts = [str(of.count(verdict)) for verdict in ("reproduced", "differs", "not run", "not comparable")]
        assert [f"Table {table}", *counts, str(len(of))] in lines
    assert [line[-1] for line in lines if line[0] == "All"] == [str(len(verdicts))]
    outside = [max(float(row["low"]) - float(row["published"]), float(row["published"]) - float(row["high"]))
               for row in verdicts if row["verdict"] == "differs" and row["table"] in "345" and row["low"]]  # fmt: skip
    shown = [line for line in lines if len(line) == 7 and line[0].startswith("Table ")]
    low = float(re.search(r"\[([\d.]+),", shown[0][5].replace("\\", ""))[1])
    assert low - float(shown[0][4]) == pytest.approx(max(outside), abs=0.1) and len(shown) == 8
    missing = [int(line[2]) for line in lines if len(line) == 3 and line[1] in ("not run", "not comparable")]
    assert missing == sorted(missing, reverse=True) and "MIMIC-CXR is not in this run" in text
    assert "| † | masks & co\\_1 | pretrained on images of these data" in text and "| ✓✓ | Table 6 | significant: " in text


def test_every_published_value_has_a_row(tables):
    """paper_vs_measured holds every printed score, count, fact and outcome, and the summary counts them."""
    verdicts = rows("paper_vs_measured")

    def lines(name):
        return len((PUBLISHED / name).read_text().splitlines()) - 1

    assert sum(row["table"] == "3" for row in verdicts) == lines("table3_classification.csv")
    assert sum(row["table"] == "4" for row in verdicts) == lines("table4_segmentation.csv")
    five = [row for row in verdicts if row["table"] == "5" and row["metric"] != "fact"]
    assert len(five) == lines("table5_report_generation.csv")
    assert sum(row["table"] == "6" for row in verdicts) == lines("table6_significance.csv")
    assert sum(row["table"] == "1" for row in verdicts) == lines("table1_pretraining_data.csv")
    assert sum(row["table"] == "2" for row in verdicts) == lines("table2_encoders.csv")
    assert all(row["verdict"] and row["reason"] for row in verdicts)
    linear = [row for row in verdicts if row["row"] == "RAD-DINO (Linear)" and row["column"] == "Lungs"]
    assert [row["reason"] for row in linear] == ["published with another decoder (Linear)"]
    copied = [row for row in verdicts if row["row"] == "RAD-DINO" and row["column"] == "Agg."]
    assert copied[0]["verdict"] in ("not run", "not comparable")
    summary = json.loads(Path("results/tables/meta.json").read_text())["facts"]["summary"]
    assert summary.startswith(f"Of {len(verdicts)} published values, ")


def test_table2_rounds_as_the_paper_does(tables):
    """85.8 M measured parameters reproduce the printed 86 M; 256 tokens differ from the printed 1369."""
    two = {(row["encoder"], row["attribute"]): row for row in rows("table2")}
    assert two["radjepa", "parameters"]["verdict"] == "reproduced"
    assert two["radjepa", "tokens"]["verdict"] == "differs" and two["radjepa", "tokens"]["published"] == "1369"
    assert two["rad_dino", "resolution"]["verdict"] == "differs"
    assert "37 x 37 and need 518" in two["radjepa", "tokens"]["reason"]
    page = Path("results/tables/table2.md").read_text()
    assert two["radjepa", "precision"]["measured"] == "bfloat16" and r"Matrix products in bfloat16: radjepa\_x." in page
    assert "tokens of the paper: 1369 tokens are 37 x 37" in page


def test_table1_counts_beside_the_papers(tables):
    """Measured counts stand beside the printed ones of the data set they are said to be."""
    one = {row["quantity"]: row for row in rows("table1")}
    assert [one["images"][name] for name in ("measured", "published", "verdict")] == ["120", "41620", "differs"]


def test_no_patient_identifier_in_any_table(tables):
    """No patient or image id appears in what is written."""
    for path in Path("results/tables").iterdir():
        text = path.read_text()
        assert "toy:0" not in text and "image0" not in text, path


def test_second_run_writes_the_same_bytes(tables):
    """Every table is byte-identical in a second run."""

    def content():
        return {path.name: path.read_bytes() for path in Path("results/tables").iterdir() if path.name != "meta.json"}

    before = content()
    write_tables("spec.json", "results/tables")
    assert len(before) == 38 and before == content()


def test_mixed_versions_refuse_to_share_a_table(results):
    """Two datasets measured under different versions of a task are refused."""
    spec = build(results, paper=False)
    folder = results.write("linear_probe", "later", "radjepa", results.probe_rows(1.0), version="2")
    compare("linear_probe", "later", "radjepa", [folder], "results/stats/linear_probe/later", Settings(resamples=10))
    spec["table3"].append(spec["table3"][0] | {"dataset": "later", "stats": "results/stats/linear_probe/later"})
    Path("spec.json").write_text(json.dumps(spec))
    with pytest.raises(ProtocolMismatch, match=r"1 \(probe\), 2 \(later\)"):
        write_tables("spec.json", "results/tables")


def test_missing_statistics_are_a_gap_and_a_bad_spec_is_an_error(results):
    """A section without statistics is a named gap; a spec without a reference is refused."""
    spec = build(results)
    shutil.rmtree("results/stats/segmentation")
    main(["--spec", "spec.json", "--out", "results/tables"])
    assert {row["reason"] for row in rows("table4")} == {"no statistics at results/stats/segmentation/masks"}
    Path("spec.json").write_text(json.dumps(spec | {"reference": "nobody"}))
    with pytest.raises(SpecError, match="nobody"):
        write_tables("spec.json", "results/tables")
    with pytest.raises(SystemExit, match="SpecError"):
        main(["--spec", "spec.json", "--out", "results/tables"])


def test_one_label_with_two_metrics_joins_both(results):
    """RSNA's one label has an AUPRC and an AUROC column, each held against its own published value and outcome."""
    spec = build(results)
    folders = [results.write("linear_probe", "rsna", name, results.probe_rows(skill, seed, labels=("Pneumonia",)))
               for name, skill, seed in (("radjepa", 1.5, 1), ("rad_dino", 1.0, 2))]  # fmt: skip
    compare("linear_probe", "rsna", "radjepa", folders, "results/stats/linear_probe/rsna", Settings(resamples=60))
    spec["table3"].append({"dataset": "rsna", "title": "RSNA", "stats": "results/stats/linear_probe/rsna",
                           "index": "results/index/rsna/meta.json", "paper": "RSNA-Pneumonia",
                           "metrics": ["auprc", "auroc"], "columns": {"Pneumonia": "AP"}})  # fmt: skip
    Path("spec.json").write_text(json.dumps(spec))
    write_tables("spec.json", "results/tables")
    found = {row["metric"]: row for row in rows("table3") if row["dataset"] == "rsna" and row["encoder"] == "radjepa"}
    assert {metric: float(row["published"]) for metric, row in found.items()} == {"auprc": 72.7, "auroc": 89.2}
    six = [row for row in rows("table6") if row["dataset"] == "rsna" and row["rule"].startswith("best")]
    assert [row["published_outcome"] for row in six] == ["significant_improvement"] * 2
    late = [row for row in rows("table3") if row["dataset"] == "rsna" and row["encoder"] == "gone"]
    assert {row["reason"] for row in late} == {WHY}


def seven_labels(results, labels=(*SIX, "Tuberculosis"), lost: str = ""):
    """The toy with a seventh label in the classification, and the six as a further mean."""
    spec = build(results)
    dropped = {lost: "no positive in test"} if lost else {}
    folders = [results.write("linear_probe", "probe", name, results.probe_rows(skill, seed, labels=labels), labels_dropped=dropped)
               for name, skill, seed in (("radjepa", 2.0, 0), ("rad_dino", 1.5, 1), ("random_vit", 0.2, 2))]  # fmt: skip
    compare("linear_probe", "probe", "radjepa", folders, "results/stats/linear_probe/probe", Settings(resamples=60, aggregates=[SIX]))
    spec["table3"][0]["columns"] = {label: SHORT.get(label, "TB") for label in labels}
    Path("spec.json").write_text(json.dumps(spec))
    write_tables("spec.json", "results/tables")
    return spec


def test_the_copied_rows_mean_is_held_against_seven_classes(results):
    """With Tuberculosis measured, both means are columns; a copied row's printed Agg. is judged on Agg-7, an own run's on Agg-6."""
    seven_labels(results)
    three = {(row["encoder"], row["target"]): row for row in rows("table3")}
    assert float(three["rad_dino", "Agg-7"]["published"]) == 52.8 and three["rad_dino", "Agg-7"]["verdict"] in ("reproduced", "differs")
    assert float(three["rad_dino", "Agg-6"]["published"]) == pytest.approx(50.533, abs=1e-3)
    assert three["radjepa", "Agg-7"]["published"] == "" and float(three["radjepa", "Agg-6"]["published"]) == pytest.approx(55.15, abs=1e-2)
    six = [float(three["radjepa", label]["value"]) for label in SIX]
    assert float(three["radjepa", "Agg-6"]["value"]) == pytest.approx(sum(six) / 6, abs=1e-6)
    of = {(row["row"], row["encoder"]): row for row in rows("paper_vs_measured") if row["column"] == "Agg." and row["encoder"]}
    for row, encoder, target in (("RAD-DINO", "rad_dino", "Agg-7"), ("RadJEPA", "radjepa", "Agg-6")):
        cell = three[encoder, target]
        assert float(of[row, encoder]["measured"]) == pytest.approx(float(cell["value"]), abs=1e-6)
        inside = float(cell["low"]) <= float(of[row, encoder]["published"]) <= float(cell["high"])
        assert of[row, encoder]["verdict"] == ("reproduced" if inside else "differs")
    text = Path("results/tables/table3.md").read_text()
    line = next(line for line in text.splitlines() if line.startswith("| RAD-DINO, published"))
    assert [cell.strip() for cell in line.strip("|").split("|")][-2:] == ["50.5", "52.8"]
    assert "Agg-7 adds Tuberculosis" in text and "cannot be recomputed" not in text


def test_the_seventh_class_is_not_in_the_family(results):
    """Table 6 has the same columns and the same family with Tuberculosis as without it, and says that it is left out."""
    seven_labels(results)
    best = [row for row in rows("table6") if row["rule"] == "best other encoder" and row["delta"]]
    assert {row["family_size"] for row in best} == {"10"} and "Tuberculosis" not in {row["target"] for row in rows("table6")}
    assert "Measured but not tested, because the paper prints no such column: probe & co\\_1 TB." in Path(
        "results/tables/table6.md").read_text()  # fmt: skip


def test_a_mean_of_other_seven_classes_is_not_the_papers(results):
    """With another seventh label, or a printed label lost, no mean is called reproduced or different."""
    seven_labels(results, (*SIX, "Edema"))
    verdicts = [row for row in rows("paper_vs_measured") if row["column"] == "Agg." and row["row"] == "RAD-DINO"]
    assert [row["verdict"] for row in verdicts] == ["not comparable"] and "Tuberculosis" in verdicts[0]["reason"]
    spec = seven_labels(results, (*SIX[1:], "Tuberculosis"), lost=SIX[0])  # the mean of all is Agg-6 and yet another one
    spec["table3"][0]["columns"] = {label: SHORT.get(label, "TB") for label in (*SIX, "Tuberculosis")}
    Path("spec.json").write_text(json.dumps(spec))
    write_tables("spec.json", "results/tables")
    means = [row for row in rows("table3") if row["target"].startswith("Agg-") and row["published"] and row["value"]]
    assert means and {row["verdict"] for row in means} == {"not comparable"} and "without Lung Opacity" in means[0]["reason"]


def test_the_shipped_configuration_measures_both_means():
    """config/paper.yaml probes the six printed labels and Tuberculosis, reads all seven, and asks for the mean of the six."""
    import yaml

    config = yaml.safe_load((PUBLISHED.parents[1] / "config" / "paper.yaml").read_text())
    (run,) = [run for run in config["tasks"]["linear_probe"]["runs"] if run["dataset"] == "vindr_cxr"]
    with (PUBLISHED / "table3_classification.csv").open(newline="") as lines:
        printed = {row["class_name"].lower() for row in csv.DictReader(lines) if row["dataset"] == "VinDr-CXR" and row["class"] != "Agg."}
    (six,) = config["statistics"]["aggregates"]
    assert {label.lower() for label in six} == printed and len(printed) == 6
    assert set(run["labels"]) == {*six, "Tuberculosis"} == set(config["datasets"]["vindr_cxr"]["options"]["labels"])


def test_site_auroc_is_scikit_learns():
    """The AUROC of a site's share of positives equals scikit-learn's on the expanded sample, ties between sites included."""
    import numpy as np
    from sklearn.metrics import roc_auc_score

    from stats.scores import site_auroc

    random = np.random.default_rng(0)
    for _ in range(20):
        counts = {name: [int(random.integers(0, 9)), int(random.integers(1, 9))] for name in "abcd"} | {"e": [2, 4], "f": [1, 2]}
        target = np.concatenate([np.repeat([1, 0], pair) for pair in counts.values()])
        score = np.concatenate([np.full(sum(pair), pair[0] / sum(pair)) for pair in counts.values()])
        assert abs(site_auroc(counts) - roc_auc_score(target, score)) < 1e-12
