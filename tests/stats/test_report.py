"""The page: complete, self-contained, without identifiers, the same twice, and never in need of what is missing."""

import contextlib
import csv
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stats.charts import _leading
from stats.figures import example_bands, nice_ticks
from stats.page import read_markdown
from stats.report import collapse_verdict, main, write_report
from stats.scores import Encoder
from stats.tables import write_tables
from stats.typeset import Cell, Panel, markdown

from .conftest import Results, write_sidecar
from .test_tables import ENCODERS, WHY, build

EVIL = "<script>alert('x')</script> & no <b>effusion</b>"
PRETRAINING_GAP = "pretraining radjepa: data not present: mimic_cxr"
VOID = {"br", "img", "meta"}


def read(out: str = "results/report") -> str:
    return Path(out, "index.html").read_text(encoding="utf-8")


def add_pictures_and_texts() -> None:
    """Give the synthetic run examples.png and a hypothesis with markup, each vouched for by its sidecar."""
    for name in ENCODERS[:3]:
        folder = Path("results/segmentation/masks", name)
        meta = json.loads((folder / "meta.json").read_text())
        pixels = np.random.default_rng(0).integers(0, 255, (2 * 48, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "examples.png")
        write_sidecar(folder, "predictions", meta["name"], meta["facts"])
    folder = Path("results/report_generation/reports/radjepa")
    meta = json.loads((folder / "meta.json").read_text())
    rows = pd.read_parquet(folder / "predictions.parquet").assign(hypothesis=EVIL)
    rows.to_parquet(folder / "predictions.parquet", index=False)
    write_sidecar(folder, "predictions", meta["name"], meta["facts"])


def add_runs(spec: dict) -> None:
    """One pretraining run with a log, one that is a gap, and one that was never started."""
    folder = Path("results/pretrain/small")
    folder.mkdir(parents=True)
    log = pd.DataFrame({"step": [1, 2, 3], "epoch": [1.0, 2.0, 3.0], "loss": [0.5, 0.3, 0.2], "lr": [1e-4, 1e-3, 0],
                        "feature_sd": [0.2, 0.1, 0.001], "feature_rank": [9.0, 4.0, 1.1]})  # fmt: skip
    log.to_csv(folder / "log.csv", index=False)
    write_sidecar(folder.absolute(), "pretrain", "pretrain/small", {"images": 10, "epochs": 3, "steps": 3})
    write_sidecar(Path("results/pretrain/gap").absolute(), "pretrain", "pretrain/gap", {}, "absent", PRETRAINING_GAP)
    spec["runs"] = {name: f"results/pretrain/{name}/meta.json" for name in ("small", "gap", "never")}
    Path("spec.json").write_text(json.dumps(spec))


@pytest.fixture(scope="module")
def written_once(tmp_path_factory):
    """A whole synthetic run with its tables and its page; tests that only read work on a copy of it."""
    root = tmp_path_factory.mktemp("report")
    with contextlib.chdir(root):
        spec = build(Results(root), reduced=["epochs 3 of 100"])
        add_pictures_and_texts()
        add_runs(spec)
        write_tables("spec.json", "results/tables")
        write_report("spec.json", "results/report")
    return root


@pytest.fixture
def page(written_once, results) -> str:
    shutil.copytree(written_once, results.root, dirs_exist_ok=True)
    return read()


def test_page_fetches_nothing(page):
    """Every source is a data address, every link an anchor or a file beside; there is no script, frame or import."""
    sources = re.findall(r"""(?:src|srcset|action|poster|data|xlink:href)\s*=\s*["']([^"']*)""", page)
    assert sources and all(source.startswith("data:image/jpeg;base64,") for source in sources)
    links = re.findall(r"""href\s*=\s*["']([^"']*)""", page)
    assert links and all(re.match(r"#|\.\./tables/|cost_quality\.", link) for link in links)
    assert not re.search(r"<(script|link|iframe|object|embed|base)\b|@import|url\(", page)


def test_links_lead_somewhere(page):
    """Every anchor exists once and every linked file lies where the link says."""
    identities = re.findall(r' id="([^"]+)"', page)
    assert len(identities) == len(set(identities))
    for link in re.findall(r'href="([^"]+)"', page):
        assert link[1:] in identities if link.startswith("#") else Path("results/report", link).is_file()


def test_every_encoder_and_every_gap_is_named(page):
    """Absent encoders, pretraining gaps and runs that never started appear with the reason that was recorded."""
    for name in ENCODERS:
        assert name.replace("_", "-") + "_x" in page
    assert WHY.replace("&", "&amp;") in page
    assert PRETRAINING_GAP in page and "The stage has not been run yet." in page
    assert "1 of 4 encoders not run" in page and "segmentation: epochs 3 of 100" in page and "The features have collapsed." in page


@pytest.mark.parametrize("last, verdict", [
    ({}, "No sign of collapse."), ({"feature_rank": 6.0, "feature_sd": 0.12, "feature_cosine": 0.94}, "No sign of collapse."),
    ({"feature_sd": 0.09}, "The features have narrowed."), ({"feature_rank": 4.0}, "The features have narrowed."),
    ({"feature_cosine": 0.96}, "The features have narrowed."), ({"feature_rank": 1.9}, "The features have collapsed."),
    ({"feature_sd": 0.009}, "The features have collapsed."), ({"feature_cosine": 0.996}, "The features have collapsed."),
])  # fmt: skip
def test_each_sign_of_collapse_counts_alone(last, verdict):
    """SD, rank and cosine each decide alone whether features have narrowed or collapsed; what loses less than half is no sign."""
    healthy = {"feature_sd": 0.2, "feature_rank": 10.0, "feature_cosine": 0.9}
    log = pd.DataFrame([healthy] * 60 + [healthy | last] * 60)
    assert collapse_verdict(log) == verdict


def test_one_noisy_row_is_no_verdict():
    """A last row of a healthy run that looks collapsed, or of a collapsed run that looks healthy, does not decide."""
    healthy, collapsed = (pd.DataFrame({"feature_sd": [0.2] * 100, "feature_rank": [10.0] * 50 + [rank] * 50}) for rank in (10.0, 1.2))
    healthy.loc[99, "feature_rank"], collapsed.loc[99, "feature_rank"] = 1.2, 4.0
    assert collapse_verdict(healthy) == "No sign of collapse." and collapse_verdict(collapsed) == "The features have collapsed."


def test_page_names_no_sample(page):
    """No image id, patient id or study id of any prediction stands in the page, nor any file name of an image."""
    for path in Path("results").rglob("predictions.parquet"):
        rows = pd.read_parquet(path)
        for column in {"image_id", "patient_id", "study_id"} & set(rows.columns):
            assert not [name for name in set(map(str, rows[column])) if name in page]
    assert "Example 1" in page and not re.search(r"\w\.(png|dcm|jpe?g)\b", page)


def test_text_of_a_model_is_only_text(page):
    """A hypothesis that contains a script element is shown with its angle brackets and is no element."""
    shown = re.sub(r"</?span[^>]*>", "", page)
    assert "&lt;script&gt;alert('x')&lt;/script&gt; &amp; no &lt;b&gt;effusion&lt;/b&gt;" in shown
    assert "<script" not in page and "<b>" not in page


def test_page_knows_no_machine(page, results):
    """Paths of the machine and of its users do not reach the page, not even out of a recorded reason."""
    write_sidecar(Path("results/pretrain/gap").absolute(), "pretrain", "pretrain/gap", {}, "absent",
                  "/home/anna/vindr is not a folder; see /mnt/disk/results/index/x")  # fmt: skip
    write_report("spec.json", "results/report")
    page = read()
    assert "…/vindr is not a folder; see results/index/x" in page
    assert "anna" not in page and "/mnt" not in page and str(results.root) not in page


def test_second_run_writes_the_same_page(page):
    """Costs, dates and versions change the sections cost and provenance only; without changes nothing changes."""
    write_report("spec.json", "results/report")
    assert read() == page
    for path in Path("results").rglob("meta.json"):
        content = json.loads(path.read_text())
        content |= {"cost": {"seconds": 7.5, "peak_memory_mb": 100, "device": "another"}, "created": "another day",
                    "software": {"python": "4"}, "git": {"commit": "f" * 40, "changes": None}}  # fmt: skip
        path.write_text(json.dumps(content))
    write_report("spec.json", "results/report")
    again = read()
    assert again != page and "another day" in again

    def without(text: str) -> str:
        return re.sub(r'<section id="(cost|provenance)".*?</section>', "", text, flags=re.S)

    assert without(again) == without(page) != page


class Nesting(HTMLParser):
    """Fails on an element that is closed out of order, never, or twice."""

    def __init__(self):
        super().__init__()
        self.open, self.headings, self.images = [], [], []

    def handle_starttag(self, tag, attributes):
        if tag not in VOID:
            self.open.append(tag)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag == "img":
            self.images.append(dict(attributes))

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> at {self.getpos()}"


def test_elements_nest(page):
    """Every element is closed in order, headings skip no level, and every picture and drawing has words for it."""
    parser = Nesting()
    parser.feed(page)
    assert parser.open == []
    assert parser.headings[0] == 1 and parser.headings.count(1) == 1
    assert all(b <= a + 1 for a, b in zip(parser.headings, parser.headings[1:], strict=False))
    assert parser.images and all(image["alt"] for image in parser.images)
    assert all("aria-label" in svg or "aria-hidden" in svg for svg in re.findall(r"<svg[^>]*>", page))
    assert page.count("<table>") == page.count("<caption>") > 6


def test_an_encoder_below_a_control_is_called_so(results):
    """With a control better than the reference, the page says that the reference is below it, and by how much."""
    spec = build(results, encoders=("radjepa", "rad_dino", "random_vit"))
    Path("spec.json").write_text(json.dumps(spec | {"controls": ["radjepa"], "reference": "rad_dino"}))
    write_report("spec.json", "results/report")
    page = read()
    assert re.search(r"rad-dino_x is below the radjepa_x control in \d+ columns", page)
    with open("results/stats/segmentation/masks/comparisons.csv", encoding="utf-8", newline="") as lines:
        by_pair = {(row["encoder"], row["other"], row["target"]): row for row in csv.DictReader(lines)}
    row = by_pair["rad_dino", "radjepa", "lungs"]
    numbers = [f"{100 * float(row[name]):+.1f}".replace("-", "−") for name in ("delta", "low", "high")]
    assert re.search(rf"Lungs Dice on masks &amp; co_1 [\d.]+ against [\d.]+, {re.escape(numbers[0])} "
                     rf"\[{re.escape(numbers[1])}, {re.escape(numbers[2])}\]", page)  # fmt: skip
    Path("spec.json").write_text(json.dumps(spec))
    write_report("spec.json", "results/report")
    assert "No encoder is below a control in any column." in read()


def test_a_page_that_cannot_be_written_is_a_sentence(page):
    """A folder that cannot be made ends with a named error."""
    with pytest.raises(SystemExit, match="SettingError: --out: got /proc/x, which cannot be written to"):
        main(["--spec", "spec.json", "--out", "/proc/x"])


def test_nothing_at_all_is_a_page(results):
    """A spec without cards, statistics, tables, runs or data gives a page of sentences."""
    spec = {"title": "Empty", "results": "results", "reference": "radjepa", "encoders": ["radjepa", "rad_dino"]}
    Path("spec.json").write_text(json.dumps(spec))
    main(["--spec", "spec.json", "--out", "results/report"])
    page = read()
    for sentence in ("No encoder has been measured yet.", "The tables have not been written yet",
                     "no features of radjepa", "Segmentation is not part of this run.",
                     "Report generation is not part of this run.",
                     "There is no pretraining run to show.", "No data have been indexed yet.",
                     "No stage has recorded a cost.", "No artefact has been written yet."):  # fmt: skip
        assert sentence in page
    Nesting().feed(page)


def test_planned_but_not_run_is_a_page(results):
    """Sections whose statistics are not there, or hold absent encoders only, say so where their figures would be."""
    spec = build(results, encoders=())
    shutil.rmtree("results/stats/segmentation")
    Path("spec.json").write_text(json.dumps(spec))
    write_report("spec.json", "results/report")
    page = read()
    assert "no statistics at results/stats/segmentation/masks" in page
    assert "No encoder has a score here yet." in page and "<svg" not in page


def test_changed_file_is_refused(page):
    """A table that was edited after it was written ends with a sentence, not with a page that shows it."""
    with Path("results/tables/table3.md").open("a") as lines:
        lines.write("| forged | 99.9 |\n")
    with pytest.raises(SystemExit, match="table3.md"):
        main(["--spec", "spec.json", "--out", "results/report"])
    assert read() == page


def test_sidecar_names_what_the_page_rests_on(page):
    """Parents are every sidecar that was read, the tables' among them, and the hash is that of the page."""
    meta = json.loads(Path("results/report/meta.json").read_text())
    parents = {parent["path"] for parent in meta["parents"]}
    on_disk = {path.as_posix() for path in Path("results").rglob("meta.json")} - {"results/report/meta.json"}
    # Predictions are reached over the parents of the statistics.
    assert parents == on_disk and meta["files"]["index.html"]["bytes"] == len(page.encode())


def test_tables_are_read_as_they_were_written():
    """Reading Markdown is the inverse of writing it, for marks, second lines and every escaped character."""
    rows = [[Cell("a|b_c*`[x]"), Cell("1.0 ± 2", "[0, 3]", 1)], [Cell("x < y <br>"), Cell("2", "", 2)]]
    panel = Panel("T & <t>", ["H_1", ""], rows, notes=["– one: two", "b"])
    assert read_markdown(markdown("A caption_1", [panel, panel], "Table 9")) == ("A caption_1", [panel, panel])


def test_bands_are_cut_where_the_task_put_them(tmp_path):
    """The reference strip is the upper half of a band, the prediction the lower; another layout is not guessed at."""
    side, sets = 20, 2
    whole = np.zeros((sets * (2 * side + 8), 4 * side, 3), dtype=np.uint8)
    for k in range(sets):
        top = k * (2 * side + 8)
        whole[top : top + side], whole[top + side : top + 2 * side] = 50 + k, 150 + k
    Image.fromarray(whole).save(tmp_path / "examples.png")
    bands = example_bands(tmp_path / "examples.png", sets)
    assert [{int(v) for strip in band for v in np.unique(strip)} for band in bands] == [{50, 150}, {51, 151}]
    assert example_bands(tmp_path / "examples.png", 5) is None


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3.2, 17.9), (0.996, 1.0), (1e-6, 1e-3), (99.1, 99.2), (5, 5)])
def test_ticks_are_few_and_inside(low, high):
    """Between one and six ticks, inside the range, evenly spaced."""
    ticks = nice_ticks(low, high)
    assert 1 <= len(ticks) <= 6 and ticks[0] >= low - 1e-9 and ticks[-1] <= high + 1e-9
    assert np.ptp(np.diff(ticks)) < 1e-9 if len(ticks) > 1 else True


def test_a_line_is_drawn_alike_in_every_figure():
    """Two data sets that rank the same encoders otherwise show them in one order, the reference first and the worst of five left out."""
    encoders = [Encoder(name, {}, {}, False) for name in ("a", "b", "reference", "c", "d")]
    for values in ({"a": 1, "b": 4, "reference": 0, "c": 3, "d": 2}, {"a": 1, "b": 2, "reference": 5, "c": 4, "d": 3}):
        run = SimpleNamespace(encoders=encoders, reference=encoders[2], value=lambda one, encoder, *_, of=values: of[encoder.name])
        assert [e.name for e in _leading(run, None, "", "auprc", set(values))] == ["reference", "b", "c", "d"]
