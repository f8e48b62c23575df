"""Table 1 counts what was learned from, and Table 2 compares names as a reader does."""

from pathlib import Path

import pytest

from stats.facts import _same_attribute, table1, table2
from stats.published import Published
from stats.scores import Encoder

from .conftest import write_sidecar

PUBLISHED = Path(__file__).parents[2] / "results" / "published"


def counts(images: int, patients: int) -> dict[str, int]:
    return {"images": images, "patients": patients, "frontal": images - 1, "lateral": 1}


CELLS = {"train": {"A": counts(60, 30), "B": counts(20, 10)}, "val": {"A": counts(7, 5)}, "test": {"A": counts(10, 6), "B": counts(5, 3)}}
FACTS = {"images": 102, "patients": 54, "frontal": 97, "lateral": 5, "patient_ids": True, "parts": CELLS}


def part(run: str, splits=None, sites=()) -> dict:
    return {"run": run, "splits": splits, "sites": list(sites)}


@pytest.mark.parametrize(("parts", "wanted", "notes"), [
    ([part("one")], (54, 102, 97, 5), []),
    ([part("one", ["train"])], (40, 80, 78, 2), ["Ours: one learned from split train, 80 images."]),
    ([part("one", sites=["B"])], (13, 25, 23, 2), ["Ours: one learned from site B, 25 images."]),
    ([part("one", ["train", "val"], ["A"])], (35, 67, 65, 2), ["Ours: one learned from split train, val of site A, 67 images."]),
    ([part("one"), part("two", sites=["A"])], (54, 102, 97, 5), ["Ours: two learned from site A, 77 images."]),
    ([part("one", ["train"]), part("two", sites=["A"])], (51, 97, 93, 4),
     ["Ours: one learned from split train, 80 images.", "Ours: two learned from site A, 77 images."]),
])  # fmt: skip
def test_table_1_counts_what_some_run_learned_from(tmp_path, parts, wanted, notes):
    """Images of splits and sites that no run learned from do not count, none counts twice, and a note says what each run left out."""
    meta = write_sidecar(tmp_path / "results/index/ours", "index", "index/ours", FACTS)
    spec = {"indexes": [str(meta)], "names": {"ours": "Ours"}, "parts": {"ours": parts}}
    rows, (panel,) = table1(spec, Published(PUBLISHED), [])
    assert tuple(row["measured"] for row in rows) == wanted and list(panel.notes) == notes


def test_patients_of_several_sites_are_not_added_up(tmp_path):
    """Where a patient has images in two sites the patients of a part are not known, and the table says why instead of counting twice."""
    meta = write_sidecar(tmp_path / "results/index/ours", "index", "index/ours", FACTS | {"patients": 50})
    spec = {"indexes": [str(meta)], "parts": {"ours": [part("one", ["train"])]}}
    rows, (panel,) = table1(spec, Published(PUBLISHED), [])
    assert [row["measured"] for row in rows] == [None, 80, 78, 2] and "in several sites" in panel.notes[-1] + rows[0]["reason"]


@pytest.mark.parametrize(("found", "printed", "same"), [
    ("ResNet50", "ResNet-50", True), ("ViT-B/14", "ViT-B/14", True), ("ViT-G/14", "ViT-g/14", False), ("ResNet50", "ResNet-101", False),
])  # fmt: skip
def test_architectures_are_compared_by_their_letters(found, printed, same):
    """A hyphen makes no other network, and a capital does: ViT-g and ViT-G have other widths."""
    assert _same_attribute("architecture", found, printed) is same


@pytest.mark.parametrize(
    ("params", "verdict", "said"), [(86_580_480, "reproduced", "agrees with"), (96_000_000, "differs", "differs from")]
)
def test_a_card_alone_reproduces_nothing(params, verdict, said):
    """Parameters of a loaded network are reproduced or differ; of one that was not loaded there is no verdict, but what the card says."""
    card = {"title": "RAD-DINO", "paper_name": "RAD-DINO", "params": params}
    loaded, absent = Encoder("a", card, {"params": params}, False), Encoder("b", card, {}, False, "weights not present")
    rows, _ = table2([loaded, absent], Published(PUBLISHED))
    of = {row["encoder"]: row for row in rows if row["attribute"] == "parameters"}
    assert of["a"]["verdict"] == verdict
    assert (of["b"]["verdict"], of["b"]["reason"]) == ("not run", f"the encoder was not loaded; its card {said} the paper")
