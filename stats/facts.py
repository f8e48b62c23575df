"""Tables 1 and 2: the data that were learned from, counted on disk, and the encoders, measured where they can be."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .provenance import Sidecar, read_sidecar
from .published import Published, same_model
from .scores import Encoder
from .typeset import Cell, Panel

DATA_COLUMNS = ("dataset", "title", "quantity", "measured", "published_dataset", "published", "difference", "verdict",
                "reason")  # fmt: skip
ENCODER_COLUMNS = ("encoder", "title", "control", "attribute", "measured", "card", "published_row", "published",
                   "verdict", "reason")  # fmt: skip


# ---------------------------------------------------------------- Table 1

QUANTITIES = {"subjects": "patients", "images": "images", "frontal": "frontal", "lateral": "lateral"}


def table1(spec: Mapping[str, Any], published: Published, sidecars: list[Sidecar]) -> tuple[list[dict[str, Any]], list[Panel]]:
    """Subjects, images and views of the pretraining data, counted on disk, beside the paper's.

    Counted are the splits and sites that some run learns from (``parts`` of the spec); a note says it of each run that leaves some out.
    """
    paper_names = spec.get("paper") or {}
    rows, lines, notes = [], [], []
    for address in spec.get("indexes") or []:
        dataset = Path(address).parent.name
        facts: Mapping[str, Any] = {}
        reason = f"no index at {address}"
        if Path(address).is_file():
            sidecar = read_sidecar(address)
            sidecars.append(sidecar)
            facts, reason = sidecar.facts, sidecar.reason
        title = (spec.get("names") or {}).get(dataset, dataset)
        parts = (spec.get("parts") or {}).get(dataset) or []
        if facts:
            notes += [f"{title}: {run} learned from {words}, {_used(facts, own)['images']:,} images."
                      for run in dict.fromkeys(part["run"] for part in parts)
                      if (words := _limits(own := [part for part in parts if part["run"] == run]))]  # fmt: skip
            facts = _used(facts, parts)
        paper = paper_names.get(dataset, "")
        line: list[Cell | str] = [title]
        for quantity, fact in QUANTITIES.items():
            measured = facts.get(fact)
            why = reason
            if quantity == "subjects" and facts.get("patient_ids") is False:
                measured, why = None, "the data carry no patient ids"
            elif quantity == "subjects" and facts and measured is None:
                why = "some patients are in several sites, so those of a part are not known"
            rows.append(_data_row(dataset, title, quantity, measured, paper, published, why))
            printed = rows[-1]["published"]
            beside = "" if printed is None else f"paper {printed:,}"
            line.append(Cell("–" if measured is None else f"{measured:,}", beside))
            if measured is None:
                notes.append(f"– {title}: {why}")
        lines.append(line)
    if not lines:
        return rows, []
    if paper_names:
        lines.append(None)
        missing = [p for p in dict.fromkeys(r["dataset"] for r in published.data)
                   if p not in paper_names.values() and p != "Total"]  # fmt: skip
        for paper in [*missing, "Total"]:
            values = {r["quantity"]: int(r["value"]) for r in published.data if r["dataset"] == paper}
            lines.append([f"{paper}, published", *(f"{values[quantity]:,}" for quantity in QUANTITIES)])
    header = ["Data", *QUANTITIES]
    return rows, [Panel("Pretraining data", header, lines, "l" + "r" * len(QUANTITIES), list(dict.fromkeys(notes)))]


def _used(facts: Mapping[str, Any], parts: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The facts of an index with the counts of some parts of it, each image once; patients None where sites share some."""
    if not parts or any(part["splits"] is None and not part["sites"] for part in parts):
        return facts
    cells = [(split, site, counts) for split, of_split in facts["parts"].items() for site, counts in of_split.items()]
    used = [counts for split, site, counts in cells
            if any((part["splits"] is None or split in part["splits"]) and (not part["sites"] or site in part["sites"])
                   for part in parts)]  # fmt: skip
    totals: dict[str, int | None] = {fact: sum(counts[fact] for counts in used) for fact in QUANTITIES.values()}
    if sum(counts["patients"] for _, _, counts in cells) != facts["patients"]:
        totals["patients"] = None
    return {**facts, **totals}


def _limits(parts: Sequence[Mapping[str, Any]]) -> str:
    """Which splits and sites a run learns from, in words; empty where it leaves nothing out."""
    if any(part["splits"] is None and not part["sites"] for part in parts):
        return ""
    return " and ".join(
        " of ".join([*([f"split {', '.join(part['splits'])}"] if part["splits"] is not None else []),
                     *([f"site {', '.join(part['sites'])}"] if part["sites"] else [])])
        for part in parts
    )  # fmt: skip


def _data_row(dataset: str, title: str, quantity: str, measured: int | None, paper: str, published: Published, why: str) -> dict[str, Any]:
    counts = {(r["dataset"], r["quantity"]): int(r["value"]) for r in published.data}
    printed = counts.get((paper, quantity))
    if measured is None:
        verdict, reason = "not run", why
    elif printed is None:
        verdict, reason = "not comparable", "no published value for these data"
    elif measured == printed:
        verdict, reason = "reproduced", "same count"
    else:
        verdict, reason = "differs", "counted from the files on disk"
    return {"dataset": dataset, "title": title, "quantity": quantity, "measured": measured, "published_dataset": paper,
            "published": printed, "difference": None if None in (measured, printed) else measured - printed,
            "verdict": verdict, "reason": reason}  # fmt: skip


# ---------------------------------------------------------------- Table 2

#: attribute -> (name in facts.measured, name in facts.card, attribute of the published table)
ATTRIBUTES = {
    "architecture": ("", "architecture", "architecture"),
    "parameters": ("params", "params", "parameters"),
    "resolution": ("image_size", "image_size", "resolution_px"),
    "tokens": ("tokens", "", "tokens"),
    "feature_dim": ("dim", "dim", ""),
    "pooling": ("", "pooling", ""),
    "pretraining_data": ("", "pretrained_on", "training_dataset"),
    "labels_seen": ("", "labels_seen", ""),
    "precision": ("precision", "", ""),
    "licence": ("", "licence", ""),
    "revision": ("", "revision", ""),
}


#: Why the printed training sets and their sizes have no verdict.
TRAINING_DATA = "a statement about training data, not measurable on the encoder"


def table2(encoders: Sequence[Encoder], published: Published) -> tuple[list[dict[str, Any]], list[Panel]]:
    """Facts of every encoder, measured where they can be, beside the paper's."""
    rows = []
    for encoder in encoders:
        for attribute, (measured_name, card_name, published_name) in ATTRIBUTES.items():
            rows.append(_encoder_row(encoder, attribute, encoder.measured.get(measured_name),
                                     _on_card(encoder.card, attribute, card_name), published_name, published))  # fmt: skip
    by_place = {(row["encoder"], row["attribute"]): row for row in rows}
    shown = ("architecture", "parameters", "resolution", "tokens", "feature_dim", "pretraining_data")
    lines = []
    for encoder in encoders:
        line: list[Cell | str] = [encoder.title + (" (control)" if encoder.control else "")]
        for attribute in shown:
            row = by_place[encoder.name, attribute]
            value = row["card"] if row["measured"] is None else row["measured"]
            printed = _in_millions(row["published"]) if attribute == "parameters" else row["published"]
            value = _in_millions(value) if attribute == "parameters" else value
            line.append(Cell(str(value) if value not in (None, "") else "–", f"paper {printed}" if printed else ""))
        lines.append(line)
    notes = ["Parameters and tokens are measured on the loaded encoder, where it was loaded; otherwise from its card."]
    for encoder in encoders:
        notes += [f"{encoder.title}, {row['attribute']} of the paper: {row['note']}." for row in published.inconsistencies
                  if same_model(row["row"], encoder.paper_name)]  # fmt: skip
    pooled: dict[str, list[str]] = {}
    multiplied: dict[str, list[str]] = {}
    for encoder in encoders:
        pooled.setdefault(str(encoder.card.get("pooling") or ""), []).append(encoder.title)
        multiplied.setdefault(str(encoder.measured.get("precision") or ""), []).append(encoder.title)
    notes += [f"Image features are the {rule}: {', '.join(titles)}." for rule, titles in pooled.items() if rule]
    notes += [f"Matrix products in {precision}: {', '.join(titles)}." for precision, titles in multiplied.items() if precision]
    notes += [f"{e.title}: {e.card['notes']}." for e in encoders if e.card.get("notes")]
    notes += [f"– {e.title}: {e.reason}" for e in encoders if e.reason]
    header = ["Encoder", "Architecture", "Parameters", "Input, px", "Tokens", "Feature dim", "Pretraining data"]
    return rows, [Panel("Encoders", header, lines, "llrrrrp{3.2cm}", notes)]


def _on_card(card: Mapping[str, Any], attribute: str, name: str) -> Any:
    """What the card says of an attribute; tokens follow from its input side and patch."""
    if attribute == "tokens":
        side, patch = card.get("image_size"), card.get("patch")
        return (side // patch) ** 2 if side and patch else None
    return _joined(card.get(name))


def _joined(value: Any) -> Any:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else value


def _in_millions(value: Any) -> str:
    if value in (None, ""):
        return ""
    return f"{int(value) / 1e6:.1f} M" if re.fullmatch(r"\d+", str(value)) else str(value)


def _encoder_row(encoder: Encoder, attribute: str, measured: Any, card: Any, published_name: str, published: Published) -> dict[str, Any]:
    row, printed = _published_attribute(encoder.paper_name, published_name, published)
    found = card if measured is None else measured
    if printed is None:
        verdict, reason = "not comparable", "the paper prints no value for this encoder and attribute"
    elif attribute == "pretraining_data":
        verdict, reason = "not comparable", TRAINING_DATA
    elif found in (None, ""):
        verdict, reason = "not run", encoder.reason or "neither measured nor on the card"
    elif not encoder.measured:  # a card alone is what somebody wrote
        agrees = "agrees with" if _same_attribute(attribute, found, printed) else "differs from"
        verdict, reason = "not run", f"the encoder was not loaded; its card {agrees} the paper"
    elif _same_attribute(attribute, found, printed):
        verdict, reason = "reproduced", "same" + (" after rounding" if attribute == "parameters" else "")
    else:
        verdict, reason = "differs", published.inconsistency(encoder.paper_name, attribute) or "on the loaded encoder"
    return {"encoder": encoder.name, "title": encoder.title, "control": encoder.control, "attribute": attribute,
            "measured": measured, "card": card, "published_row": row, "published": printed, "verdict": verdict,
            "reason": reason}  # fmt: skip


def _published_attribute(paper_name: str, attribute: str, published: Published) -> tuple[str, str | None]:
    """(row title, printed text) of an attribute; tokens are printed in Table 5."""
    if not attribute or not paper_name:
        return "", None
    if attribute == "tokens":
        rows = [(r["encoder"], r["n_tokens"]) for r in published.tokens if same_model(r["encoder"], paper_name)]
    else:
        rows = [(r["model"], r["value_text"]) for r in published.encoders
                if r["attribute"] == attribute and same_model(r["model"], paper_name)]  # fmt: skip
    return rows[0] if rows else ("", None)


def _same_attribute(attribute: str, found: Any, printed: str) -> bool:
    """Whether a measured value is the printed one, at the precision of the print.

    >>> _same_attribute("parameters", 85799424, "86 M"), _same_attribute("resolution", 224, "224^2")
    (True, True)
    >>> _same_attribute("architecture", "ResNet50", "ResNet-50"), _same_attribute("architecture", "ViT-G/14", "ViT-g/14")
    (True, False)
    """
    if attribute == "parameters" and (text := re.fullmatch(r"(\d+)(?:\.(\d+))? ([MB])", printed)):
        unit = {"M": 1e6, "B": 1e9}[text[3]]
        return f"{float(found) / unit:.{len(text[2] or '')}f}" == printed.split()[0]
    if attribute == "resolution":
        return str(found) == printed.split("^")[0]
    return str(found).replace("-", "") == printed.replace("-", "")  # the case stays: ViT-g and ViT-G are two networks
