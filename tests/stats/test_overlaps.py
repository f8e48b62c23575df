"""What a card says and what was found among the pictures meet in one table and in the marks."""

import csv
import dataclasses

import pytest

from stats.overlaps import BETWEEN, KNOWN, SEEN, UNKNOWN, UNSEEN, WITHIN, overlap_table, with_copies
from stats.scores import Encoder, Section, score_cell

ROWS = [
    {"dataset": "rsna", "other": "nih_cxr14", "split": "", "other_split": "", "images": "26684", "other_images": "112120",
     "by_id": "0", "exact": "0", "near": "26000", "same_patient_id": "0", "test_copies": "2600", "other_test_copies": "0"},
    {"dataset": "rsna", "other": "rsna", "split": "train", "other_split": "test", "images": "20", "other_images": "10",
     "by_id": "0", "exact": "0", "near": "2", "same_patient_id": "1", "test_copies": "", "other_test_copies": ""},
    {"dataset": "rsna", "other": "vindr_cxr", "split": "", "other_split": "", "images": "26684", "other_images": "18000",
     "by_id": "0", "exact": "0", "near": "0", "same_patient_id": "0", "test_copies": "0", "other_test_copies": "0"},
]  # fmt: skip
FACTS = {"sources": {"nih_cxr14": ["nih_cxr14"], "rsna": ["rsna"]}, "absent": {"brax": "data not present"}, "same_correlation": 0.98}


class Nothing:
    """No published value at all."""

    def find(self, *args):
        return None


def section() -> Section:
    return Section(3, "rsna", "RSNA", None, ("auprc",), {}, {("rad", "x", "auprc"): {"value": "0.5"}}, {}, frozenset({"rsna"}), {})


def encoder(name: str, seen: list[str], labels: list[str] = ()) -> Encoder:
    return Encoder(name, {"title": name.upper(), "pretrained_on": seen, "labels_seen": list(labels)}, {}, False)


def test_measured_copies_mark_what_no_source_names():
    """An encoder that saw ChestX-ray14 is marked on RSNA by the copies that were found, one that saw neither is not."""
    (one,) = with_copies([section()], ROWS, FACTS, {})
    assert one.copies == {"nih_cxr14": 2600}
    marks = [score_cell(one, e, "x", "x", "auprc", Nothing()).marks for e in (encoder("rad", ["nih_cxr14"]), encoder("clip", ["wit"]))]
    assert marks == ["overlap: nih_cxr14 (2600 copies found)", ""]


def test_a_source_that_is_named_is_marked_once():
    """Where the configuration already names the source, the mark is the source's and is not doubled by the count."""
    (one,) = with_copies([dataclasses.replace(section(), sources=frozenset({"rsna", "nih_cxr14"}))], ROWS, FACTS, {})
    assert score_cell(one, encoder("rad", ["nih_cxr14"]), "x", "x", "auprc", Nothing()).marks == "overlap: nih_cxr14"


def test_only_images_that_are_evaluated_are_marked():
    """Copies outside the test split mark nothing, from either side of a pair; where a whole data set is evaluated every copy counts."""
    (of_nih,) = with_copies([dataclasses.replace(section(), dataset="nih_cxr14")], ROWS, FACTS, {})
    (of_rsna,) = with_copies([section()], ROWS, FACTS, {"table3": [{"dataset": "rsna"}], "table5": [{"dataset": "rsna", "whole": True}]})
    (whole,) = with_copies([section()], ROWS, FACTS, {"table3": [{"dataset": "rsna", "whole": True}]})
    assert (of_nih.copies, of_rsna.copies, whole.copies) == ({}, {"nih_cxr14": 2600}, {"nih_cxr14": 26000})


def test_a_copy_that_is_found_twice_counts_once():
    """By id and by the pictures, or in two indexes of one owner: the larger count is taken and never the sum."""
    both = [ROWS[0] | {"by_id": "7", "exact": "2", "near": "3"}, ROWS[0] | {"other": "nih_again", "by_id": "4", "exact": "1", "near": "8"}]
    facts = {"sources": {"nih_cxr14": ["nih_cxr14"], "nih_again": ["nih_cxr14"]}}
    (one,) = with_copies([section()], both, facts, {"table3": [{"dataset": "rsna", "whole": True}]})
    assert one.copies == {"nih_cxr14": 9, "nih_again": 9}
    assert with_copies([section()], both[:1], facts, {"table3": [{"dataset": "rsna", "whole": True}]})[0].copies == {"nih_cxr14": 7}


@pytest.mark.parametrize(("part", "words"), [
    ({"dataset": "rsna", "splits": ["train"]}, " (training split only)"),
    ({"dataset": "rsna", "splits": ["train", "val"]}, " (training and validation split only)"),
    ({"dataset": "rsna", "splits": ["train", "test"]}, ""),
    ({"dataset": "rsna", "splits": None}, ""),
    ({"dataset": "rsna_again", "splits": ["train"]}, ""),
])  # fmt: skip
def test_an_encoder_that_learned_the_training_split_alone_is_marked_as_such(part, words):
    """The mark and the table of overlaps say which splits were learned, unless test, all, or another copy of the data was."""
    facts = {"sources": {"rsna": ["rsna"], "rsna_again": ["rsna"]}}
    (one,) = with_copies([section()], [], facts, {"learned": {"rad": [part]}})
    cells = [score_cell(one, e, "x", "x", "auprc", Nothing()) for e in (encoder("rad", ["rsna"]), encoder("ark", ["rsna"]))]
    assert cells[0].marks == f"overlap: rsna{words}"
    files = overlap_table([one], [encoder("rad", ["rsna"]), encoder("ark", ["rsna"])], [], facts).files("")
    assert f"| RSNA | RAD{words}, ARK |" in files["overlap.md"].decode()
    assert ("split only" in files["overlap.csv"].decode()) == bool(words)
    (whole,) = with_copies([section()], [], facts, {"learned": {"rad": [part]}, "table3": [{"dataset": "rsna", "whole": True}]})
    assert score_cell(whole, encoder("rad", ["rsna"]), "x", "x", "auprc", Nothing()).marks == "overlap: rsna"


def test_table_has_cards_pairs_and_leaks(tmp_path):
    """The CSV holds every pair compared and every card that names a source; the reader sees copies, leaks, labels seen and gaps."""
    table = overlap_table([section()], [encoder("ark", ["rsna"], ["rsna"]), encoder("clip", ["wit"])], ROWS, FACTS)
    files = table.files("")
    rows = list(csv.DictReader(files["overlap.csv"].decode().splitlines()))
    assert [row["kind"] for row in rows] == [KNOWN, KNOWN, BETWEEN, WITHIN, BETWEEN] and rows[0]["labels_seen"] == "1"
    text = files["overlap.md"].decode()
    assert "ARK (labels of rsna too)" in text and "26000" in text and "RSNA, train" in text and "brax: data not present" in text
    assert "vindr" not in text.split("Copies found")[1].split("pairs of data sets")[0]


def test_every_encoder_and_data_set_is_seen_not_seen_or_unknown():
    """There is one row per encoder and evaluated data set, and a card that says nothing is never called "not seen"."""
    sections = [section(), dataclasses.replace(section(), dataset="vindr_cxr", title="VinDr", sources=frozenset({"vindr_cxr"}))]
    encoders = [
        encoder("rad", ["rsna", "chexpert"]), encoder("random", []), Encoder("silent", {"title": "SILENT"}, {}, False),
        encoder("hub", ["unknown"]), Encoder("untrained", {"title": "UNTRAINED", "pretrained_on": []}, {}, False, "no run of it"),
        Encoder("gone", {}, {}, False, "no features of gone"),
    ]  # fmt: skip
    table = overlap_table(sections, encoders, [], {})
    rows = list(csv.DictReader(table.files("")["overlap.csv"].decode().splitlines()))
    known = {(row["dataset"], row["encoder"]): row["known"] for row in rows}
    assert len(rows) == len(known) == len(sections) * len(encoders)
    of = {name: known["rsna", name] for name in ("rad", "random", "silent", "hub", "untrained", "gone")}
    assert of == {"rad": SEEN, "random": UNSEEN, "silent": UNKNOWN, "hub": UNKNOWN, "untrained": UNKNOWN, "gone": UNKNOWN}
    assert known["vindr_cxr", "rad"] == UNSEEN
    text = table.files("")["overlap.md"].decode()
    assert "| VinDr | – | RAD, RANDOM | SILENT, HUB, UNTRAINED, gone |" in text and "| RSNA | RAD | RANDOM | " in text
    tex = table.files("")["overlap.tex"].decode()
    assert "SILENT, HUB, UNTRAINED, gone" in tex and max(map(len, tex.splitlines())) < 400


def test_without_the_stage_the_table_says_so():
    """Where no pictures were compared the table exists and says that."""
    assert "No pictures were compared" in overlap_table([], [], [], {}).files("")["overlap.md"].decode()
