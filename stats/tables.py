"""The paper's six tables from what was measured, published beside measured, as CSV, LaTeX and Markdown.

    python -m stats.tables --spec spec.json --out results/tables

Writes table1 ... table6 (.csv tidy, .tex booktabs, .md), ``paper_vs_measured.csv`` and ``.md`` (one row per published
value, with a verdict) and ``meta.json``. The spec names the encoders, where their cards lie and which statistics make
which table; `docs/statistics.md` explains the numbers. Nothing is left out silently: what was not run is a row with a
reason.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .errors import SpecError, StatsError
from .provenance import Sidecar, csv_bytes, read_sidecar, sha256, write_artifact
from .published import METRICS, Published, same_model
from .scores import (
    SCORE_COLUMNS,
    TASKS,
    Encoder,
    ScoreCell,
    Section,
    find_estimate,
    judge,
    points,
    read_section,
    refuse_mixed_versions,
    score_cells,
    score_panel,
)
from .significance import FIXED, SIGNIFICANCE_COLUMNS, significance_panels, significance_rows
from .typeset import Cell, Panel, latex, markdown

#: The paper's numbers, tracked beside this folder.
PUBLISHED = Path(__file__).resolve().parent.parent / "results" / "published"

DATA_COLUMNS = ("dataset", "title", "quantity", "measured", "published_dataset", "published", "difference", "verdict",
                "reason")  # fmt: skip
ENCODER_COLUMNS = ("encoder", "title", "control", "attribute", "measured", "card", "published_row", "published",
                   "verdict", "reason")  # fmt: skip
VERDICT_COLUMNS = ("table", "dataset", "row", "column", "metric", "published", "encoder", "measured", "low", "high",
                   "difference", "verdict", "reason")  # fmt: skip
VERDICTS = ("reproduced", "differs", "not run", "not comparable")

CAPTIONS = {
    1: "Images used to pretrain: counted from the indexes",
    2: "Encoders: facts of the cards, parameters and tokens measured",
    3: "Classification with a linear probe on frozen features, points",
    4: "Segmentation on a frozen encoder, mean Dice, points",
    5: "Report generation, points",
    6: "Significance of the reference encoder's differences",
}


def write_tables(spec_path: Path | str, out: Path | str) -> Sidecar:
    """Read the spec and everything it names, derive all tables, write them; returns the sidecar.

    Raises:
        StatsError: see `stats.errors`; nothing is written then.
    """
    started = time.perf_counter()
    spec = read_spec(Path(spec_path))
    published = Published(spec.get("published") or PUBLISHED)
    sidecars: list[Sidecar] = []
    encoders = read_encoders(spec, sidecars)
    sections = {n: [read_section(n, one, sidecars) for one in spec.get(f"table{n}") or []] for n in TASKS}
    for of_table in sections.values():
        refuse_mixed_versions(of_table)

    files: dict[str, bytes] = {}

    def add(number: int, columns: Sequence[str], rows: Iterable[Mapping[str, Any]], panels: Sequence[Panel]) -> None:
        caption = f"{CAPTIONS[number]}. {spec.get('title', '')}".strip()
        panels = panels or [Panel("No data", ["Gap"], [], notes=["Nothing in this run belongs to this table."])]
        files[f"table{number}.csv"] = csv_bytes(columns, rows)
        files[f"table{number}.tex"] = latex(caption, f"table{number}", panels).encode()
        files[f"table{number}.md"] = markdown(caption, panels, f"Table {number}").encode()

    data_rows, data_panels = table1(spec.get("table1") or {}, published, sidecars)
    add(1, DATA_COLUMNS, data_rows, data_panels)
    encoder_rows, encoder_panels = table2(encoders, published)
    add(2, ENCODER_COLUMNS, encoder_rows, encoder_panels)
    cells: list[ScoreCell] = []
    for number, of_table in sections.items():
        by_section = [score_cells(section, encoders, published) for section in of_table]
        own = [cell for one in by_section for cell in one]
        cells += own
        panels = [score_panel(s, encoders, one, published) for s, one in zip(of_table, by_section, strict=True)]
        add(number, SCORE_COLUMNS, [cell.row() for cell in own], panels)
    everything = [section for of_table in sections.values() for section in of_table]
    tests = significance_rows(everything, encoders, spec["reference"], published)
    reference = next(encoder for encoder in encoders if encoder.name == spec["reference"])
    add(6, SIGNIFICANCE_COLUMNS, tests, significance_panels(tests, reference) if everything else [])

    verdicts = paper_vs_measured(published, data_rows, encoder_rows, everything, encoders, tests)
    files["paper_vs_measured.csv"] = csv_bytes(VERDICT_COLUMNS, verdicts)
    summary = summarise(verdicts)
    files["paper_vs_measured.md"] = _verdicts_markdown(verdicts, summary).encode()
    parents = list({sidecar.path.as_posix(): sidecar for sidecar in sidecars}.values())
    return write_artifact(
        out, "tables", files,
        key_parts={"spec": spec, "published": {file.name: sha256(file.read_bytes()) for file in published.files}},
        parents=parents,
        facts={"verdicts": {verdict: sum(v["verdict"] == verdict for v in verdicts) for verdict in VERDICTS},
               "summary": summary, "reference": spec["reference"]},
        started=started,
    )  # fmt: skip


def read_spec(path: Path) -> dict[str, Any]:
    """The specification of radbench.plan; SpecError when it is no JSON object or lacks what it must have."""
    try:
        spec = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise SpecError(str(path), str(error), "a JSON object", "write the spec again") from None
    for key in ("reference", "encoders"):
        if not spec.get(key):
            raise SpecError(str(path), f"keys {sorted(spec)}", f"a key {key!r}", "add it")
    if spec["reference"] not in spec["encoders"]:
        raise SpecError(str(path), f"reference {spec['reference']!r}", f"one of {spec['encoders']}", "name one of them")
    return spec


def read_encoders(spec: Mapping[str, Any], sidecars: list[Sidecar]) -> list[Encoder]:
    """The encoders of a specification, in its order; the sidecars that were read are appended to `sidecars`."""
    encoders = []
    for name in spec["encoders"]:
        addresses = (spec.get("cards") or {}).get(name) or []
        addresses = [addresses] if isinstance(addresses, str) else addresses
        found = [read_sidecar(address) for address in addresses if Path(address).is_file()]
        sidecars.extend(found)
        card: Mapping[str, Any] = {}
        measured: Mapping[str, Any] = {}
        reason = f"no features of {name}"
        if found:
            sidecar = next((one for one in found if one.state == "ok"), found[0])  # a gap knows the card, not what was trained
            card, measured = sidecar.facts.get("card") or {}, sidecar.facts.get("measured") or {}
            reason = sidecar.reason
        control = name in (spec.get("controls") or []) or bool(card.get("control"))
        encoders.append(Encoder(name, card, measured, control, reason))
    return encoders


# ---------------------------------------------------------------- Table 1

QUANTITIES = {"subjects": "patients", "images": "images", "frontal": "frontal", "lateral": "lateral"}


def table1(spec: Mapping[str, Any], published: Published, sidecars: list[Sidecar]) -> tuple[list[dict[str, Any]], list[Panel]]:
    """Subjects, images and views of the pretraining data, counted on disk, beside the paper's."""
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
        paper = paper_names.get(dataset, "")
        line: list[Cell | str] = [title]
        for quantity, fact in QUANTITIES.items():
            measured = facts.get(fact)
            why = reason
            if quantity == "subjects" and facts.get("patient_ids") is False:
                measured, why = None, "the data carry no patient ids"
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
        for attribute in ATTRIBUTES:
            if note := published.inconsistency(encoder.paper_name, attribute):
                notes.append(f"{encoder.title}, {attribute} of the paper: {note}.")
    pooled: dict[str, list[str]] = {}
    for encoder in encoders:
        pooled.setdefault(str(encoder.card.get("pooling") or ""), []).append(encoder.title)
    notes += [f"Image features are the {rule}: {', '.join(titles)}." for rule, titles in pooled.items() if rule]
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
    elif _same_attribute(attribute, found, printed):
        verdict, reason = "reproduced", "same" + (" after rounding" if attribute == "parameters" else "")
    else:
        source = "measured on the loaded encoder" if measured is not None else "from the card"
        verdict, reason = "differs", published.inconsistency(encoder.paper_name, attribute) or source
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
    """
    if attribute == "parameters" and (text := re.fullmatch(r"(\d+)(?:\.(\d+))? ([MB])", printed)):
        unit = {"M": 1e6, "B": 1e9}[text[3]]
        return f"{float(found) / unit:.{len(text[2] or '')}f}" == printed.split()[0]
    if attribute == "resolution":
        return str(found) == printed.split("^")[0]
    return str(found).lower() == printed.lower()


# ---------------------------------------------------------------- every published value


def paper_vs_measured(
    published: Published, data_rows: Sequence[Mapping[str, Any]], encoder_rows: Sequence[Mapping[str, Any]],
    sections: Sequence[Section], encoders: Sequence[Encoder], tests: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:  # fmt: skip
    """One row per published value (and per encoder that answers to it), in the order of the tables."""
    rows = _data_verdicts(published, data_rows) + _encoder_verdicts(published, encoder_rows)
    for score in (score for score in published.scores if not score.derived):
        base = {"table": score.table, "dataset": score.dataset, "row": score.row, "column": score.column,
                "metric": score.metric, "published": score.value}  # fmt: skip
        places = [s for s in sections if s.table == score.table and s.paper == score.dataset]
        answering = [e for e in encoders if same_model(score.model, e.paper_name)]
        exact = [e for e in answering if e.paper_name.rstrip("*").lower() == score.model.lower()]
        if not places:
            rows.append(base | {"verdict": "not run", "reason": f"{score.dataset} is not in this run"})
        elif not answering:
            rows.append(base | {"verdict": "not run", "reason": f"no encoder of this run is the paper's {score.model}"})
        else:
            for section in places:
                rows += [base | _score_verdict(section, encoder, score, published) for encoder in exact or answering]
    return rows + _test_verdicts(published, tests)


def _score_verdict(section: Section, encoder: Encoder, score: Any, published: Published) -> dict[str, Any]:
    if score.column == "Agg.":
        targets = ["Agg-6" if score.own_run else "Agg-7"]
    elif section.table == 5:
        targets = ["report"]
    else:
        targets = [t for t, short in section.columns.items() if score.names & {t.lower(), short.lower()}]
    base = {"encoder": encoder.name}
    if not targets:
        return base | {"verdict": "not run", "reason": f"no column {score.column} in this run"}
    estimate = find_estimate(section, encoder, targets[0], score.metric)
    verdict, reason = judge(section, estimate, score)
    measured, low, high = (points(estimate.get(name)) for name in ("value", "low", "high"))
    return base | {"measured": measured, "low": low, "high": high, "verdict": verdict, "reason": reason,
                   "difference": None if measured is None else measured - score.value}  # fmt: skip


def _data_verdicts(published: Published, data_rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    found = {(row["published_dataset"], row["quantity"]): row for row in data_rows if row["published_dataset"]}
    rows = []
    for printed in published.data:
        row = found.get((printed["dataset"], printed["quantity"]))
        base = {"table": 1, "dataset": printed["dataset"], "row": printed["dataset"], "column": printed["quantity"],
                "metric": "count", "published": int(printed["value"])}  # fmt: skip
        if printed["dataset"] == "Total":
            rows.append(base | {"verdict": "not comparable", "reason": "a sum; its parts are judged one by one"})
        elif row is None:
            rows.append(base | {"verdict": "not run", "reason": f"{printed['dataset']} is not in this run"})
        else:
            rows.append(base | {name: row[name] for name in ("measured", "difference", "verdict", "reason")})
    return rows


def _encoder_verdicts(published: Published, encoder_rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    by_attribute = {names[2]: attribute for attribute, names in ATTRIBUTES.items() if names[2]}
    printed = [(2, r["model"], r["attribute"], r["value_text"]) for r in published.encoders]
    # Tokens are printed once per dataset and are the same in both.
    printed += [(5, *row) for row in dict.fromkeys((r["encoder"], "tokens", r["n_tokens"]) for r in published.tokens)]
    rows = []
    for table, model, attribute, value in printed:
        base = {"table": table, "row": model, "column": attribute, "metric": "fact", "published": value}
        ours = by_attribute.get(attribute)
        answers = [r for r in encoder_rows
                   if r["attribute"] == ours and r["published_row"].lower() == model.lower()]  # fmt: skip
        if ours is None:
            rows.append(base | {"verdict": "not comparable", "reason": TRAINING_DATA})
        elif not answers:
            rows.append(base | {"verdict": "not run", "reason": f"no encoder of this run is the paper's {model}"})
        rows += [base | {"encoder": r["encoder"], "measured": r["card"] if r["measured"] is None else r["measured"],
                         "verdict": r["verdict"], "reason": r["reason"]} for r in answers]  # fmt: skip
    return rows


def _test_verdicts(published: Published, tests: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    rows = []
    for printed in published.significance:
        metric = METRICS[printed["metric"]]
        base = {"table": 6, "dataset": printed["dataset"], "row": "RadJEPA", "column": printed["row_label"],
                "metric": metric, "published": printed["outcome"]}  # fmt: skip
        answers = [
            t for t in tests
            if t["rule"] != FIXED and t["paper"] == printed["dataset"] and t["metric"] == metric
            and published.outcome_row(t["paper"], metric, {t["target"], t["column"]}) is printed
        ]  # fmt: skip
        if not answers:
            rows.append(base | {"verdict": "not run", "reason": f"{printed['dataset']} is not in this run"})
        for t in answers:
            rows.append(base | {"encoder": t["reference"], "measured": t["outcome"], "difference": t.get("delta"),
                                "low": t.get("low"), "high": t.get("high"), "verdict": t["verdict"],
                                "reason": t["reason"]})  # fmt: skip
    return rows


def summarise(verdicts: Sequence[Mapping[str, Any]]) -> str:
    """One paragraph: how many published values were reproduced, and why the others were not.

    >>> summarise([{"verdict": "reproduced", "reason": ""}, {"verdict": "not run", "reason": "x"}])
    'Of 2 published values, 1 reproduced, 0 differ, 1 not run, 0 not comparable. Commonest reasons: x (1).'
    """
    count = Counter(row["verdict"] for row in verdicts)
    reasons = Counter(row["reason"] for row in verdicts if row["verdict"] in ("not run", "not comparable"))
    commonest = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))[:5]
    text = (f"Of {len(verdicts)} published values, {count['reproduced']} reproduced, {count['differs']} differ, "
            f"{count['not run']} not run, {count['not comparable']} not comparable.")  # fmt: skip
    return text + (f" Commonest reasons: {'; '.join(f'{r} ({n})' for r, n in commonest)}." if commonest else "")


def _verdicts_markdown(verdicts: Sequence[Mapping[str, Any]], summary: str) -> str:
    def number(value: Any) -> str:
        return "" if value is None else f"{value:.1f}" if isinstance(value, float) else str(value)

    header = ["Table", "Data", "Row", "Column", "Metric", "Published", "Encoder", "Measured", "[95 %]", "Verdict",
              "Why"]  # fmt: skip
    rows = [
        [str(v["table"]), v.get("dataset", ""), v["row"], v["column"], v["metric"], number(v["published"]),
         v.get("encoder", ""), number(v.get("measured")),
         f"[{v['low']:.1f}, {v['high']:.1f}]" if v.get("low") is not None else "", v["verdict"], v["reason"]]
        for v in verdicts
    ]  # fmt: skip
    return markdown(summary, [Panel("Every published value", header, rows)], "Paper and measurement")


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line; a named error ends with its sentence and status 1, not with a stack trace."""
    parser = argparse.ArgumentParser(prog="python -m stats.tables", description=__doc__.splitlines()[0])
    parser.add_argument("--spec", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path)
    options = parser.parse_args(arguments)
    try:
        written = write_tables(options.spec, options.out)
    except StatsError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    print(f"{written.folder}: {written.facts['summary']}")


if __name__ == "__main__":
    main()
