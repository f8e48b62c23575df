"""Has an encoder seen the test images? What its card says, and what was measured by comparing the pictures themselves.

`radbench.overlap` counts copies between every two data sets and across the splits of each; here the counts meet the cards.
A result on data that an encoder has seen, with or without labels, is marked in Tables 3 to 5.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .provenance import Sidecar, read_csv, read_sidecar
from .scores import SEEN, UNKNOWN, UNSEEN, Encoder, Section
from .typeset import Panel, Table

COLUMNS = ("kind", "dataset", "encoder", "known", "other", "split", "other_split", "images", "other_images", "by_id", "exact", "near",
           "same_patient_id", "test_copies", "other_test_copies", "labels_seen", "source")  # fmt: skip
SPLITS = {"train": "training", "val": "validation"}
KNOWN, BETWEEN, WITHIN = "by the card", "measured between data sets", "measured across splits"


def read_overlap(path: str | None, sidecars: list[Sidecar]) -> tuple[list[dict[str, str]], Mapping[str, Any]]:
    """Rows of overlap.csv and the facts of its sidecar; nothing where the stage was not run.

    Args:
        path: its meta.json, or None.
        sidecars: the sidecar read is appended.

    Raises:
        SidecarError, HashMismatch: meta.json is unusable, or the CSV is not the one that it vouches for.
    """
    if not path or not Path(path).is_file():
        return [], {}
    sidecar = read_sidecar(path)
    sidecars.append(sidecar)
    if sidecar.state == "absent":
        return [], sidecar.facts
    return read_csv(sidecar.verified("overlap.csv")), sidecar.facts


def with_copies(
    sections: Sequence[Section], rows: Sequence[Mapping[str, str]], facts: Mapping[str, Any], spec: Mapping[str, Any]
) -> list[Section]:
    """The sections with the number of their images found in each published data set, by its name in cards; and who learned which split.

    Only images that are evaluated count: those of the test split, each once however it was found. Where a whole data set is evaluated,
    images count as the larger of what the owner names (``by_id``) and what the pictures show (``exact`` + ``near``), not as their sum,
    because a copy may be found both ways. Copies within one data set are not counted here.

    Args:
        rows: of overlap.csv.
        facts: ``sources``: names of published data by data set.
        spec: of the tables: ``whole`` of an entry, and ``learned``: encoder -> parts of data sets.
    """
    names = facts.get("sources") or {}
    out = []
    for section in sections:
        whole = any(entry["dataset"] == section.dataset and entry.get("whole") for entry in spec.get(f"table{section.table}") or [])
        copies: dict[str, int] = {}
        for row in rows:
            pair = {row["dataset"], row["other"]}
            if len(pair) == 1 or section.dataset not in pair:
                continue
            (other,) = pair - {section.dataset}
            count = int(row["test_copies" if section.dataset == row["dataset"] else "other_test_copies"])
            if whole:
                count = max(int(row["by_id"]), int(row["exact"]) + int(row["near"]))
            for name in {other, *(names.get(other) or ())} if count else ():
                copies[name] = max(copies.get(name, 0), count)  # two indexes of one owner may hold the same pictures
        learned = {name: words for name, parts in (spec.get("learned") or {}).items()
                   if not whole and (words := _other_splits(section, parts, names))}  # fmt: skip
        out.append(dataclasses.replace(section, copies=copies, learned=learned))
    return out


def _other_splits(section: Section, parts: Sequence[Mapping[str, Any]], names: Mapping[str, Sequence[str]]) -> str:
    """From which splits of a section's data set alone an encoder learned, where the test split is not among them; else nothing.

    Nothing either where it learned from another data set that holds pictures of the same source, whose splits are others.
    """
    same = [part for part in parts if section.sources & {part["dataset"], *(names.get(part["dataset"]) or ())}]
    if any(part["dataset"] != section.dataset or not part.get("splits") or "test" in part["splits"] for part in same):
        return ""
    splits = [title for split, title in SPLITS.items() if any(split in part["splits"] for part in same)]
    return f"{' and '.join(splits)} split only" if splits else ""


def overlap_table(
    sections: Sequence[Section], encoders: Sequence[Encoder], rows: Sequence[Mapping[str, str]], facts: Mapping[str, Any]
) -> Table:
    """Every encoder on every evaluated data set, seen or not or unknown, and every pair of data sets or splits with copies.

    Counts are images. The CSV has all pairs that were compared; the panel only those with a copy or a shared patient id.
    """
    by_name = {section.dataset: section for section in sections}
    lines = [line for section in by_name.values() for encoder in encoders for line in _by_the_card(section, encoder)]
    measured = [{**row, "kind": WITHIN if row["dataset"] == row["other"] else BETWEEN, "source": "pictures compared"} for row in rows]
    titles = {encoder.name: encoder.title for encoder in encoders}
    known: dict[tuple[str, str], dict[str, list[str]]] = {}
    for line in lines:
        other = line.get("other", line["dataset"])
        source = f" (labels of {other} too)" if line.get("labels_seen") else f" ({other})" if other != line["dataset"] else ""
        title = titles[line["encoder"]] + source
        if words := by_name[line["dataset"]].learned.get(line["encoder"]):
            title += f" ({words})"
        known.setdefault(line["dataset"], {}).setdefault(line["known"], []).append(title)
    cards = [[_title(by_name, dataset), *(", ".join(who.get(kind, ())) or "–" for kind in (SEEN, UNSEEN, UNKNOWN))]
             for dataset, who in known.items()]  # fmt: skip
    said = ["Not seen: the card lists what the encoder was pretrained on, and none of these images' sources is in the list. Unknown: the "
            "card does not say, or there is none; such a result may be too good as well."]  # fmt: skip
    counted = ("by_id", "exact", "near", "same_patient_id", "test_copies", "other_test_copies")
    found = [row for row in measured if any(int(row[name] or 0) for name in counted)]
    pictures = [[_title(by_name, row["dataset"]) + (f", {row['split']}" if row["split"] else ""),
                 _title(by_name, row["other"]) + (f", {row['other_split']}" if row["other_split"] else ""),
                 *(row[name] for name in ("images", "other_images", *counted))] for row in found]  # fmt: skip
    notes = ["By id: the owner names the picture of the other data. A near copy is the same picture in another size, compression or grey "
             "curve: difference hash, then rank correlation "
             f"of at least {facts.get('same_correlation', 0.98)} (radbench/similarity.py).",
             "In test: images of the test split that the other side holds, each once. Only these mark a result.",
             f"{len(rows)} pairs of data sets or splits were compared; those without copies are in overlap.csv only."]  # fmt: skip
    if not rows:
        notes = ["No pictures were compared in this run."]
    notes += [f"– {name}: {reason}" for name, reason in (facts.get("absent") or {}).items()]
    panels = [
        Panel("By the card", ["Data", "Seen", "Not seen", "Unknown"], cards, "lp{4.6cm}p{4.6cm}p{4.6cm}",
              said if cards else ["No encoder was evaluated on any data set."]),
        Panel("Copies found", ["Data", "Other data", "Images", "of other", "By id", "Exact", "Near", "Same patient id",
                                "In test", "of other"], pictures, "llrrrrrrrr", notes),
    ]  # fmt: skip
    return Table("overlap", "Overlap", "Images that an encoder or another split has seen", COLUMNS, [*lines, *measured], panels)


def _by_the_card(section: Section, encoder: Encoder) -> list[dict[str, Any]]:
    """One row for an encoder and a data set; one for each source that was seen, where there are several."""
    base = {"kind": KNOWN, "dataset": section.dataset, "encoder": encoder.name,
            "source": ", ".join(filter(None, ["card", section.learned.get(encoder.name)]))}  # fmt: skip
    labels, both = set(encoder.card.get("labels_seen") or []), sorted(section.sources & set(encoder.card.get("pretrained_on") or []))
    return [base | {"known": SEEN, "other": name, "labels_seen": name in labels} for name in both] or [
        base | {"known": encoder.known(section.sources)}]  # fmt: skip


def _title(by_name: Mapping[str, Section], dataset: str) -> str:
    return by_name[dataset].title if dataset in by_name else dataset
