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
from .scores import Encoder, Section
from .typeset import Panel, Table

COLUMNS = ("kind", "dataset", "encoder", "other", "split", "other_split", "images", "other_images", "exact", "near",
           "same_patient_id", "labels_seen", "source")  # fmt: skip
KNOWN, BETWEEN, WITHIN = "by the card", "measured between data sets", "measured across splits"


def read_overlap(path: str | None, sidecars: list[Sidecar]) -> tuple[list[dict[str, str]], Mapping[str, Any]]:
    """Rows of overlap.csv and the facts of its sidecar; nothing where the stage was not run."""
    if not path or not Path(path).is_file():
        return [], {}
    sidecar = read_sidecar(path)
    sidecars.append(sidecar)
    if sidecar.state == "absent":
        return [], sidecar.facts
    return read_csv(sidecar.verified("overlap.csv")), sidecar.facts


def with_copies(sections: Sequence[Section], rows: Sequence[Mapping[str, str]], facts: Mapping[str, Any]) -> list[Section]:
    """The sections with the number of their images found in each published data set, by its name in cards."""
    names = facts.get("sources") or {}
    out = []
    for section in sections:
        copies: dict[str, int] = {}
        for row in rows:
            pair = {row["dataset"], row["other"]}
            count = int(row["exact"]) + int(row["near"])
            if len(pair) == 2 and section.dataset in pair and count:
                (other,) = pair - {section.dataset}
                for name in {other, *(names.get(other) or ())}:
                    copies[name] = max(copies.get(name, 0), count)  # two indexes of one owner may hold the same pictures
        out.append(dataclasses.replace(section, copies=copies))
    return out


def overlap_table(
    sections: Sequence[Section], encoders: Sequence[Encoder], rows: Sequence[Mapping[str, str]], facts: Mapping[str, Any]
) -> Table:
    """Every encoder on every evaluated data set that it has seen, and every pair of data sets or splits with copies."""
    lines: list[dict[str, Any]] = []
    by_name = {section.dataset: section for section in sections}
    for section in by_name.values():
        for encoder in encoders:
            seen = set(encoder.card.get("pretrained_on") or [])
            for name in sorted(section.sources & seen):
                lines.append({"kind": KNOWN, "dataset": section.dataset, "encoder": encoder.name, "other": name,
                              "labels_seen": name in set(encoder.card.get("labels_seen") or []), "source": "card"})  # fmt: skip
    measured = [{**row, "kind": WITHIN if row["dataset"] == row["other"] else BETWEEN, "source": "pictures compared"} for row in rows]
    titles = {encoder.name: encoder.title for encoder in encoders}
    known: dict[tuple[str, str], list[str]] = {}
    for line in lines:
        title = titles[line["encoder"]] + (" (labels too)" if line["labels_seen"] else "")
        known.setdefault((line["dataset"], line["other"]), []).append(title)
    cards = [[_title(by_name, dataset), other, ", ".join(who)] for (dataset, other), who in known.items()]
    found = [row for row in measured if any(int(row[name] or 0) for name in ("exact", "near", "same_patient_id"))]
    pictures = [[_title(by_name, row["dataset"]) + (f", {row['split']}" if row["split"] else ""),
                 _title(by_name, row["other"]) + (f", {row['other_split']}" if row["other_split"] else ""),
                 row["images"], row["other_images"], row["exact"], row["near"], row["same_patient_id"]] for row in found]  # fmt: skip
    notes = ["A near copy is the same picture in another size, compression or grey curve: difference hash, then rank correlation "
             f"of at least {facts.get('same_correlation', 0.98)} (radbench/similarity.py).",
             f"{len(rows)} pairs of data sets or splits were compared; those without copies are in overlap.csv only."]  # fmt: skip
    if not rows:
        notes = ["No pictures were compared in this run."]
    notes += [f"– {name}: {reason}" for name, reason in (facts.get("absent") or {}).items()]
    panels = [
        Panel("Seen by the card", ["Data", "Training set", "Encoders"], cards, "llp{8cm}",
              [] if cards else ["No encoder's card names a data set that was evaluated."]),
        Panel("Copies found", ["Data", "Other data", "Images", "of other", "Exact", "Near", "Same patient id"], pictures, "llrrrrr", notes),
    ]  # fmt: skip
    return Table("overlap", "Overlap", "Images that an encoder or another split has seen", COLUMNS, [*lines, *measured], panels)


def _title(by_name: Mapping[str, Section], dataset: str) -> str:
    return by_name[dataset].title if dataset in by_name else dataset
