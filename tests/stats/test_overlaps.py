"""What a card says and what was found among the pictures meet in one table and in the marks."""

import csv
import dataclasses

from stats.overlaps import BETWEEN, KNOWN, SEEN, UNKNOWN, UNSEEN, WITHIN, overlap_table, with_copies
from stats.scores import Encoder, Section, score_cell

ROWS = [
    {"dataset": "rsna", "other": "nih_cxr14", "split": "", "other_split": "", "images": "26684", "other_images": "112120",
     "by_id": "0", "exact": "0", "near": "26000", "same_patient_id": "0"},
    {"dataset": "rsna", "other": "rsna", "split": "train", "other_split": "test", "images": "20", "other_images": "10",
     "by_id": "0", "exact": "0", "near": "2", "same_patient_id": "1"},
    {"dataset": "rsna", "other": "vindr_cxr", "split": "", "other_split": "", "images": "26684", "other_images": "18000",
     "by_id": "0", "exact": "0", "near": "0", "same_patient_id": "0"},
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
    (one,) = with_copies([section()], ROWS, FACTS)
    assert one.copies == {"nih_cxr14": 26000}
    marks = [score_cell(one, e, "x", "x", "auprc", Nothing()).marks for e in (encoder("rad", ["nih_cxr14"]), encoder("clip", ["wit"]))]
    assert marks == ["overlap: nih_cxr14 (26000 copies found)", ""]


def test_a_source_that_is_named_is_marked_once():
    """Where the configuration already names the source, the mark is the source's and is not doubled by the count."""
    (one,) = with_copies([dataclasses.replace(section(), sources=frozenset({"rsna", "nih_cxr14"}))], ROWS, FACTS)
    assert score_cell(one, encoder("rad", ["nih_cxr14"]), "x", "x", "auprc", Nothing()).marks == "overlap: nih_cxr14"


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
