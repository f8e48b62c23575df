"""config/paper.yaml as it stands, on tiny copies of every data set in its owner's layout: every reader, task and table."""

import csv
import json
import re
import subprocess
import sys

import pytest

from radbench.artifact import ROOT
from radbench.datasets import fixtures

from .test_workflow import snakemake

pytestmark = pytest.mark.slow
SETS = ("mimic_cxr", "chexpert", "nih_cxr14", "padchest", "brax", "vindr_cxr", "rsna", "mimic_segmentation", "vindr_ribcxr", "iu_xray")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    data, directory = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("paper")
    for name in SETS:
        fixtures.write(name, data / name, seed=fixtures.own_seed(name))
    snakemake(directory, "--config", f"root={data}", config=ROOT / "config" / "paper.yaml",
              more=(ROOT / "tests" / "workflow" / "paper_small.yaml",))  # fmt: skip
    return directory / "results"


def rows(results, name):
    with (results / "tables" / f"{name}.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_every_data_set_is_read(finished):
    """No index is a gap; each has images in three splits or is a pretraining set, and quarantines what its copy broke on purpose."""
    for name in SETS:
        meta = json.loads((finished / "index" / name / "meta.json").read_text())
        assert meta["state"] == "ok" and meta["facts"]["images"] > 40, name
        assert meta["facts"]["quarantined"] >= 1, name


def test_every_table_has_measured_numbers(finished):
    """Tables 1 to 5 hold numbers of every data set and column for an encoder that needs no weights; the one without is a named gap."""
    assert {row["dataset"] for row in rows(finished, "table1")} >= {"mimic_cxr", "chexpert", "nih_cxr14", "padchest", "brax"}
    for number, count in ((3, 11), (4, 3), (5, 6)):
        own = [row for row in rows(finished, f"table{number}") if row["encoder"] == "raw_pixels" and row["value"]]
        assert len(own) >= count, (number, own)
        absent = [row for row in rows(finished, f"table{number}") if row["encoder"] == "rad_dino"]
        assert absent and all(not row["value"] and "weights not present" in row["reason"] for row in absent)
    assert len(rows(finished, "table6")) >= 19
    verdicts = rows(finished, "paper_vs_measured")
    assert len(verdicts) > 300 and not any("is not in this run" in row["reason"] for row in verdicts if row["table"] in "345")


def test_both_means_of_the_classification_are_columns(finished):
    """VinDr-CXR has seven labels, Agg-6 is the mean of the six printed ones and Agg-7 that of all; Tuberculosis is not tested."""
    own = {row["target"]: float(row["value"]) for row in rows(finished, "table3")
           if row["encoder"] == "raw_pixels" and row["dataset"] == "vindr_cxr"}  # fmt: skip
    labels = {name: value for name, value in own.items() if not name.startswith("Agg-")}
    assert set(own) - set(labels) == {"Agg-6", "Agg-7"} and len(labels) == 7
    assert own["Agg-7"] == pytest.approx(sum(labels.values()) / 7, abs=1e-6)
    assert own["Agg-6"] == pytest.approx((sum(labels.values()) - labels["Tuberculosis"]) / 6, abs=1e-6)
    tested = {row["target"] for row in rows(finished, "table6") if row["dataset"] == "vindr_cxr"}
    assert tested == set(labels) - {"Tuberculosis"}


def test_what_was_seen_is_marked(finished):
    """RSNA is marked for an encoder pretrained on ChestX-ray14, and the audit finds the copies themselves."""
    marked = [row for row in rows(finished, "table3") if row["dataset"] == "rsna" and row["encoder"] == "radjepa"]
    assert marked and all("nih_cxr14" in row["marks"] for row in marked)
    found = [row for row in rows(finished, "overlap") if {row["dataset"], row["other"]} == {"rsna", "nih_cxr14"} and row["near"]]
    assert found and int(found[0]["exact"]) + int(found[0]["near"]) > 40
    for pair in ({"vindr_cxr", "chexpert"}, {"iu_xray", "mimic_cxr"}, {"rsna", "brax"}):
        (apart,) = [row for row in rows(finished, "overlap") if {row["dataset"], row["other"]} == pair and row["near"]]
        assert int(apart["exact"]) + int(apart["near"]) == 0, pair
    assert "overlap" not in " ".join(row["marks"] for row in rows(finished, "table3") if row["dataset"] == "vindr_cxr")


def test_the_chain_of_sidecars_closes(finished):
    """Every artefact is whole and every parent is the one that its child names."""
    done = subprocess.run([sys.executable, "-m", "radbench.artifact", "verify", "results"], cwd=finished.parent, capture_output=True,
                          text=True, env={"PYTHONPATH": str(ROOT)})  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def test_no_heading_of_the_page_stands_alone(finished):
    """Where nothing can be drawn (few patients in a group, no curve), the page says so below the heading; one point is no curve."""
    page = (finished / "report" / "index.html").read_text()
    assert not re.search(r"</h3>\s*(<h[23]|</section>|<details[^>]*><summary>The table)", page)
    assert "No two groups of a kind have the patients that numbers need (10," in page and "No learning curve was measured" in page
    assert "Sites: 7" not in page and "75 images of 75 patients" not in page  # VinDr-CXR tells neither sites nor patients
