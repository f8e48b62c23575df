"""Everything a run found, on one page that needs no network: ``results/report/index.html``.

    python -m stats.report --spec results/tables/spec.json --out results/report

The page shows what other stages wrote and derives no number of its own: tables are read from ``results/tables``,
intervals and differences from ``results/stats``, pictures and texts from the predictions, counts and costs from the
sidecars. What was not run is a sentence with its reason. Unchanged inputs give an identical page; costs and provenance,
which differ between two runs, stand in the sections ``cost`` and ``provenance`` and nowhere else.
"""

from __future__ import annotations

import argparse
import csv
import difflib
import io
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from .errors import StatsError
from .figures import (
    Interval,
    curves,
    example_bands,
    forest,
    legend_line,
    picture,
    signed,
)
from .measures import REPORT
from .page import Html, bullets, details, document, join, panel_table, read_markdown, section, table, tag
from .predictions import first_replicate, read_predictions
from .provenance import Sidecar, read_sidecar, write_artifact
from .scores import METRIC_TITLES, TASKS, Encoder, Section, find_estimate, points, read_section
from .significance import BEST_CONTROL, FIXED
from .tables import read_encoders, read_spec
from .typeset import Panel

STAGES = ("data", "index", "pretrain", "features", "linear_probe", "segmentation", "report_model",
          "report_generation", "stats", "tables")  # fmt: skip
TASK_TITLES = {3: "Classification", 4: "Segmentation", 5: "Report generation"}
LOG_TITLES = {
    "loss": "Loss", "lr": "Learning rate", "weight_decay": "Weight decay", "ema": "EMA momentum",
    "feature_sd": "Feature SD", "feature_rank": "Effective rank", "feature_cosine": "Mean cosine",
}  # fmt: skip
EXAMPLE_QUANTILES = (0.05, 0.35, 0.65, 0.95)  # of the reference's ROUGE-L: a poor, two middling and a good report
ABOVE = "the reasons stand at the top of the page"

HOW_TO_READ_CONTROLS = (
    "A control has learnt nothing from radiographs, so a score below it says that pretraining did not help there."
    " Score, the control's score, difference and its 95 % interval:"
)
HOW_TO_READ_PLOTS = (
    "Dot: score in points. Bar: 95 % interval over patients. Each column shows first the scores, then the paired "
    "difference of {reference} (blue) from every other encoder; a bar that stays clear of the zero line is a "
    "difference that the choice of patients does not explain. Bars of two scores may overlap although their "
    "difference is clear, since both saw the same patients. Hollow grey: controls. Dashed: what guessing would "
    "score."
)
HOW_TO_READ_COLLAPSE = (
    "How to read collapse: an encoder that gives every image the same features has an easy, low loss, while "
    "feature SD falls to 0, effective rank falls to 1 and mean cosine rises to 1. A falling loss is good news "
    "only while these three hold."
)
HOW_TO_READ_PICTURES = (
    "The same test images for every encoder: first the reference's structures, then what each encoder's decoder "
    "found. Share these pictures only as the data themselves may be shared."
)
HOW_TO_READ_PROVENANCE = (
    "A key is the hash of everything that can change an artefact's numbers; its fingerprint adds the hashes of "
    "its files and is what its descendants record. Each name leads to the artefact's row. A parent marked "
    "“changed since” is no longer the one the artefact was made from."
)


@dataclass
class Run:
    """What the spec names, read: the encoders, the sections of Tables 3 to 5 and every sidecar behind them."""

    spec: Mapping[str, Any]
    results: Path
    encoders: list[Encoder]
    sections: dict[int, list[Section]]
    sidecars: dict[str, Sidecar] = field(default_factory=dict)  # by name below results/

    @property
    def reference(self) -> Encoder:
        return next(encoder for encoder in self.encoders if encoder.name == self.spec["reference"])

    @property
    def tables(self) -> Sidecar | None:
        return self.sidecars.get("tables")

    def title(self, dataset: str) -> str:
        """The data set's title, wherever the spec gives one."""
        titles = dict((self.spec.get("table1") or {}).get("names") or {})
        titles |= {one.dataset: one.title for of_table in self.sections.values() for one in of_table}
        return titles.get(dataset, dataset)

    def measured(self, one: Section) -> list[Encoder]:
        return [e for e in self.encoders if any(self.value(one, e, t, m) is not None for _, t, m in one.displayed())]

    def value(self, one: Section, encoder: Encoder, target: str, metric: str) -> float | None:
        return points(find_estimate(one, encoder, target, metric).get("value"))

    def gaps(self) -> dict[str, list[str]]:
        """Reason -> who is missing because of it."""
        found: dict[str, list[str]] = {}
        for encoder in self.encoders:
            if encoder.reason:
                found.setdefault(encoder.reason, []).append(encoder.title)
        for one in (one for of_table in self.sections.values() for one in of_table):
            where = f"{TASK_TITLES[one.table].lower()} on {one.title}"
            if one.gap:
                found.setdefault(one.gap, []).append(where)
            for encoder in self.encoders:
                reason = (one.facts.get("absent") or {}).get(encoder.name)
                if reason and encoder.title not in found.get(reason, []):
                    found.setdefault(reason, []).append(f"{encoder.title}, {where}")
        for run, address in (self.spec.get("runs") or {}).items():
            sidecar = self.sidecars.get(f"pretrain/{run}")
            if sidecar is None:
                found.setdefault(f"no pretraining run at {address}", []).append(f"pretraining {run}")
            elif sidecar.state == "absent":
                found.setdefault(sidecar.reason, []).append(f"pretraining {run}")
        return found

    def reduced(self) -> list[str]:
        """Everything that was made smaller than the benchmark's protocol."""
        marks = {row["reduced"]: None for of_table in self.sections.values() for one in of_table
                 for row in one.estimates.values() if row.get("reduced")}  # fmt: skip
        return list(dict.fromkeys(part for mark in marks for part in mark.split("; ")))


def read_run(spec: Mapping[str, Any]) -> Run:
    """Read the spec's cards and statistics, and walk from them over the parents to the first ancestors."""
    seen: list[Sidecar] = []
    encoders = read_encoders(spec, seen)
    sections = {n: [read_section(n, one, seen) for one in spec.get(f"table{n}") or []] for n in TASKS}
    results = Path(spec.get("results", "results"))
    run = Run(spec, results, encoders, sections)
    addresses = [results / "tables", *(spec.get("runs") or {}).values(), *(spec.get("table1") or {}).get("indexes", [])]
    # Predictions are parents of the statistics; named here, they are found before there are any.
    addresses += [results / TASKS[n] / one.dataset / encoder.name
                  for n, of_table in sections.items() for one in of_table for encoder in encoders]  # fmt: skip
    seen += [read_sidecar(address) for address in map(_meta, addresses) if address.is_file()]
    while seen:
        sidecar = seen.pop(0)
        name = sidecar.content.get("name", "")
        if name not in run.sidecars:
            run.sidecars[name] = sidecar
            parents = [Path(parent["path"]) for parent in sidecar.content.get("parents") or []]
            seen += [read_sidecar(path) for path in parents if path.is_file()]
    run.sidecars = dict(sorted(run.sidecars.items()))
    return run


def _meta(address: Path | str) -> Path:
    path = Path(address)
    return path if path.name == "meta.json" else path / "meta.json"


def write_report(spec_path: Path | str, out: Path | str) -> Sidecar:
    """Read the spec and everything it names, write the page; returns the sidecar.

    Raises:
        StatsError: a file is not the one its sidecar vouches for, or the spec is incomplete; nothing is written then.
    """
    started = time.perf_counter()
    spec = read_spec(Path(spec_path))
    run = read_run(spec)
    parts = {
        "tables": ("Tables", tables_section(run, Path(out))),
        "figures": ("Intervals", figures_section(run)),
        "pretraining": ("Pretraining", pretraining_section(run)),
        "segmentations": ("Segmentations", segmentations_section(run)),
        "reports": ("Reports", reports_section(run)),
        "data": ("Data", data_section(run)),
        "cost": ("Cost", cost_section(run)),
        "provenance": ("Provenance", provenance_section(run)),
    }
    page = document(f"{spec.get('title') or 'radbench'}: radiology encoders compared",
                    [(anchor, title) for anchor, (title, _) in parts.items()], summary(run),
                    *(section(anchor, title, *blocks) for anchor, (title, blocks) in parts.items()))  # fmt: skip
    facts = {"encoders": [e.name for e in run.encoders], "gaps": run.gaps(), "bytes": len(page.encode())}
    return write_artifact(out, "report", {"index.html": page.encode()}, key_parts={"spec": spec},
                          parents=list(run.sidecars.values()), facts=facts, started=started)  # fmt: skip


# ---------------------------------------------------------------- in words


def summary(run: Run) -> Html:
    """Title, what the numbers say, badges, controls that were not beaten, gaps."""
    measured = [e for e in run.encoders if any(e in run.measured(one) for of in run.sections.values() for one in of)]
    leads = [lead for of_table in run.sections.values() for one in of_table for lead in leaders(run, one)]
    first = (f"{len(measured)} of {len(run.encoders)} encoders were measured. " if measured
             else "No encoder has been measured yet. ")  # fmt: skip
    ahead = sum(leader is run.reference for leader, _ in leads)
    if leads:
        first += f"{run.reference.title}, the reference, leads in {ahead} of the {len(leads)} comparisons listed here. "
    gaps, reduced = run.gaps(), run.reduced()
    unmeasured = len(run.encoders) - len(measured)
    missing = f"Gaps: {unmeasured} of {len(run.encoders)} encoders not run" if unmeasured else f"Gaps: {len(gaps)}"
    badges = [tag("li", "Reduced protocol", class_="warn") if reduced else None,
              tag("li", "Full protocol") if measured and not reduced else None,
              tag("li", missing, class_="warn") if gaps else tag("li", "No gaps"),
              tag("li", f"Reference: {run.reference.title}")]  # fmt: skip
    return join(
        tag("p", "radbench, radiology encoder benchmark", class_="eyebrow"),
        tag("h1", f"{run.spec.get('title') or 'Run'}: radiology encoders compared"),
        tag("p", first + _significance_sentence(run), class_="lead"),
        tag("ul", badges, class_="badges"),
        join(_minor("Who leads"), tag("p", "Score of the leader in points, and its distance to the second with the "
             "95 % interval of the paired difference:"), bullets(words for _, words in leads)) if leads else None,
        _controls(run, measured),
        join(_minor("Reduced protocol"), tag("p", "Smaller than the benchmark's own protocol, so no number here is "
             "one to hold against a publication:"), bullets(reduced)) if reduced else None,
        join(_minor("Not run, and what to do"), bullets(join(tag("strong", "; ".join(who)), f": {reason}")
             for reason, who in gaps.items())) if gaps else None,
    )  # fmt: skip


def _minor(title: str) -> Html:
    """A heading of the summary: second level for a screen reader, small for the eye."""
    return tag("h2", title, class_="minor")


def leaders(run: Run, one: Section) -> Iterator[tuple[Encoder, Html]]:
    """The leading encoder and a sentence per headline column: aggregates where there are some, else every column."""
    columns = [column for column in one.displayed() if column[2] != "rouge_l_coco"]
    columns = [column for column in columns if column[1].startswith("Agg-")] or columns
    for _, target, metric in columns:
        values = [(run.value(one, encoder, target, metric), encoder) for encoder in run.encoders]
        ranked = sorted([pair for pair in values if pair[0] is not None], key=lambda pair: -pair[0])
        if not ranked:
            continue
        best, leader = ranked[0]
        name = leader.title + (" (a control)" if leader.control else "")
        if len(ranked) == 1:
            rest = ", nothing to compare it with."
        elif best == ranked[1][0]:
            rest = f", level with {ranked[1][1].title}."
        else:
            difference = _difference(one, leader, ranked[1][1], target, metric)
            rest = f", ahead of {ranked[1][1].title} by {best - ranked[1][0]:.1f}{_certainty(difference)}."
        place = f"{_column(one, target, metric)} on {one.title}: "
        yield leader, join(place, tag("strong", name), f" {best:.1f}{rest}")


def _column(one: Section, target: str, metric: str) -> str:
    """A column's full name: the label, not its abbreviation."""
    if target == REPORT:
        return METRIC_TITLES[metric]
    name = one.columns.get(target, target) if one.table == 4 else target
    return f"{name} {METRIC_TITLES[metric]}"


def _difference(one: Section, first: Encoder, second: Encoder, target: str, metric: str) -> Interval | None:
    row = one.comparisons.get((first.name, second.name, target, metric))
    if row is None:
        return None
    return Interval(second.title, points(row["delta"]), points(row["low"]), points(row["high"]),
                    "control" if second.control else "encoder")  # fmt: skip


def _certainty(difference: Interval | None) -> str:
    """The interval of a difference, and whether zero lies in it."""
    if difference is None or difference.low is None:
        return " (no interval)"
    excluded = difference.low > 0 or difference.high < 0
    return (f" [{signed(difference.low)}, {signed(difference.high)}], "
            + ("zero excluded" if excluded else "zero not excluded"))  # fmt: skip


def _significance_sentence(run: Run) -> str:
    rows = [row for row in _csv(run, "table6.csv") if row["rule"] != FIXED and row["outcome"]]
    if not rows:
        return "Differences could not be tested: there is nothing to compare the reference with."
    won = sum(row["outcome"] == "significant_improvement" for row in rows)
    against = "other encoder" if all(row["rule"] != BEST_CONTROL for row in rows) else "other encoder or control"
    return (f"{run.reference.title} is significantly better than the best {against} in {won} of {len(rows)} tested "
            "columns (Holm-adjusted, one-sided 5 %; Table 6).")  # fmt: skip


def _controls(run: Run, measured: Sequence[Encoder]) -> Html | None:
    """Every encoder that is below a control, column by column; a control knows nothing of radiographs."""
    if not any(e.control for e in measured) or all(e.control for e in measured):
        return None
    items = []
    for encoder in (e for e in measured if not e.control):
        for control in (e for e in measured if e.control):
            below = [text for of_table in run.sections.values() for one in of_table
                     for text in _below(run, one, encoder, control)]  # fmt: skip
            groups = {title: [text for clear, text in below if clear is wanted]
                      for title, wanted in (("Zero excluded", True), ("Zero not excluded", False))}  # fmt: skip
            if below:
                columns = "one column" if len(below) == 1 else f"{len(below)} columns"
                who = f"{encoder.title} is below the {control.title} control in {columns}"
                parts = [f"{title}: {'; '.join(texts)}." for title, texts in groups.items() if texts]
                items.append(join(tag("strong", who), bullets(parts)))
    if not items:
        return tag("p", tag("strong", "No encoder is below a control in any column."))
    return tag("div", _minor("Below a control"), tag("p", HOW_TO_READ_CONTROLS), bullets(items), class_="below")


def _below(run: Run, one: Section, encoder: Encoder, control: Encoder) -> Iterator[tuple[bool, str]]:
    """Whether the interval excludes zero, and the sentence, of every column in which the control is better."""
    for _, target, metric in one.displayed():
        own, other = run.value(one, encoder, target, metric), run.value(one, control, target, metric)
        if None in (own, other) or own >= other or metric == "rouge_l_coco":
            continue
        difference = _difference(one, encoder, control, target, metric)
        interval = ""
        if difference is not None and difference.low is not None:
            interval = f" [{signed(difference.low)}, {signed(difference.high)}]"
        place = f"{_column(one, target, metric)} on {one.title}"
        yield bool(interval) and difference.high < 0, (
            f"{place} {own:.1f} against {other:.1f}, {signed(own - other)}{interval}")  # fmt: skip


def _csv(run: Run, name: str) -> list[dict[str, str]]:
    if run.tables is None:
        return []
    return list(csv.DictReader(io.StringIO(run.tables.verified(name).read_text(encoding="utf-8"))))


# ---------------------------------------------------------------- tables and figures


def tables_section(run: Run, out: Path) -> Iterator[Html]:
    """Tables 1 to 6 as `stats.tables` wrote them."""
    if run.tables is None:
        yield tag("p", "The tables have not been written yet; run stats.tables.")
        return

    def link(name: str, text: str) -> Html:
        return tag("a", text, href=Path(os.path.relpath(run.tables.folder / name, out)).as_posix())

    yield tag("p", "Bold: best of a column, underlined: second. Scores are points, 0 to 100. Grey: controls. A shaded "
              "row is the publication's. ", run.tables.facts.get("summary", ""), " One by one: ",
              link("paper_vs_measured.md", "paper and measurement"), ".")  # fmt: skip
    for number in range(1, 7):
        caption, panels = read_markdown(run.tables.verified(f"table{number}.md").read_text(encoding="utf-8"))
        caption = caption.removesuffix(str(run.spec.get("title") or "")).strip(" .")
        yield tag("h3", f"Table {number}. {caption}", id=f"table{number}")
        files = link(f"table{number}.csv", "CSV, all digits"), " · ", link(f"table{number}.tex", "LaTeX")
        yield tag("p", *files, class_="soft")
        yield from (panel_table(_without_repeated_gaps(panel, run.gaps())) for panel in panels)


def _without_repeated_gaps(panel: Panel, gaps: Mapping[str, Sequence[str]]) -> Panel:
    """Reasons that stand at the top of the page, once, are not repeated below every table."""
    notes, who = [], []
    for note in panel.notes:
        subject, _, reason = note.removeprefix("– ").partition(": ")
        (who if reason in gaps else notes).append(subject if reason in gaps else note)
    notes += [f"Not run: {', '.join(who)}. The reasons stand at the top of the page."] if who else []
    return Panel(panel.title, panel.header, panel.rows, notes=notes)


def figures_section(run: Run) -> Iterator[Html]:
    """A forest plot per column: every encoder, and the reference's difference from every other."""
    yield tag("p", HOW_TO_READ_PLOTS.format(reference=run.reference.title))
    for number, of_table in run.sections.items():
        if not of_table:
            yield tag("p", f"{TASK_TITLES[number]} is not part of this run.")
        for one in of_table:
            yield tag("h3", f"{TASK_TITLES[number]}: {one.title}")
            plots = [plot for _, target, metric in one.displayed() if (plot := _forest(run, one, target, metric))]
            nothing = tag("p", one.gap or "No encoder has a score here yet.")
            yield tag("div", plots, class_="figures") if plots else nothing


def _forest(run: Run, one: Section, target: str, metric: str) -> Html | None:
    scores, differences, chance = [], [], None
    for encoder in run.encoders:
        estimate = find_estimate(one, encoder, target, metric)
        if not estimate.get("value"):
            continue
        role = "reference" if encoder is run.reference else "control" if encoder.control else "encoder"
        value, low, high = (points(estimate.get(name)) for name in ("value", "low", "high"))
        scores.append(Interval(encoder.title, value, low, high, role))
        chance = 50.0 if metric == "auroc" else chance
        if metric == "auprc" and estimate.get("n_positive"):
            chance = 100 * int(estimate["n_positive"]) / int(estimate["n_images"])
        if difference := _difference(one, run.reference, encoder, target, metric):
            differences.append(difference)
    if not scores:
        return None
    name = _column(one, target, metric)
    guess = "" if chance is None else f", guessing {chance:.1f}"
    return tag(
        "figure", tag("figcaption", tag("strong", name), guess), forest(scores, name, chance=chance),
        [tag("p", f"{run.reference.title} minus …", class_="strip soft"),
         forest(differences, f"{name}, {run.reference.title} minus", difference=True)] if differences else None,
    )  # fmt: skip


def pretraining_section(run: Run) -> Iterator[Html]:
    """Every column of log.csv over epochs, all runs in one figure each."""
    logs: dict[str, pd.DataFrame] = {}
    for name in run.spec.get("runs") or {}:
        sidecar = run.sidecars.get(f"pretrain/{name}")
        if sidecar is None or sidecar.state == "absent":
            reason = sidecar.reason if sidecar else "The stage has not been run yet."
            yield tag("p", tag("strong", name), f": not run. {reason}")
        else:
            logs[name] = pd.read_csv(sidecar.verified("log.csv"))
    if not logs:
        yield tag("p", "There is no pretraining run to show.")
        return
    yield tag("p", HOW_TO_READ_COLLAPSE)
    yield tag("ul", [tag("li", legend_line(k), f" {name}: {_pretraining_sentence(run, name, log)}")
                     for k, (name, log) in enumerate(logs.items())], class_="key")  # fmt: skip
    names = list(dict.fromkeys(name for log in logs.values() for name in log.columns if name not in ("step", "epoch")))
    figures = []
    for name in names:
        lines = {k: (log["epoch"].to_numpy(), log[name].to_numpy())
                 for k, log in enumerate(logs.values()) if name in log}  # fmt: skip
        title = LOG_TITLES.get(name, name)
        figures.append(tag("figure", tag("figcaption", tag("strong", title), ", over epochs"), curves(lines, title)))
    yield tag("div", figures, class_="figures")


def _pretraining_sentence(run: Run, name: str, log: pd.DataFrame) -> str:
    facts, first, last = run.sidecars[f"pretrain/{name}"].facts, log.iloc[0], log.iloc[-1]
    text = f"{facts.get('images', '?')} images, {facts.get('epochs', '?')} epochs, {facts.get('steps', '?')} steps; "
    shown = [f"{LOG_TITLES[key].lower() if key != 'feature_sd' else 'feature SD'} {first[key]:.3g} to {last[key]:.3g}"
             for key in ("loss", "feature_sd", "feature_rank", "feature_cosine") if key in log]  # fmt: skip
    collapsed = last.get("feature_rank", np.inf) < 2
    collapsed |= last.get("feature_sd", 1.0) < 0.05 * first.get("feature_sd", 0.0)
    verdict = "The features have collapsed." if collapsed else "No sign of collapse."
    return f"{text}{', '.join(shown)}. {verdict if 'feature_rank' in log else ''}".strip()


# ---------------------------------------------------------------- examples


def segmentations_section(run: Run) -> Iterator[Html]:
    """Test images with the reference's structures and each encoder's, and contact sheets of generated data."""
    yield tag("p", HOW_TO_READ_PICTURES)
    if not run.sections[4]:
        yield tag("p", "Segmentation is not part of this run.")
    for one in run.sections[4]:
        yield tag("h3", one.title)
        yield from _examples(run, one)
    first = True
    for name, sidecar in run.sidecars.items():
        if name.startswith("data/") and "contact_sheet.png" in (sidecar.content.get("files") or {}):
            title = run.title(name.removeprefix("data/"))
            sheet = Image.open(sidecar.verified("contact_sheet.png")).convert("RGB")
            caption = tag("figcaption", "Generated radiographs with the findings that each was given.")
            shown = picture(sheet, f"First images of {title} with their positive findings", 1100)
            yield details(f"Contact sheet: {title}", tag("figure", caption, shown), open_=first)
            first = False


def _examples(run: Run, one: Section) -> Iterator[Html]:
    found: dict[str, Path] = {}
    for encoder in run.encoders:
        sidecar = run.sidecars.get(f"segmentation/{one.dataset}/{encoder.name}")
        if sidecar and sidecar.state == "ok" and "examples.png" in (sidecar.content.get("files") or {}):
            found[encoder.title] = sidecar.verified("examples.png")
    missing = [encoder.title for encoder in run.encoders if encoder.title not in found]
    bands = {title: example_bands(path, len(one.columns)) for title, path in found.items()}
    if found and all(bands.values()):
        figures = []
        for k, structures in enumerate(one.columns.values()):
            reference, *_ = next(iter(bands.values()))[k]
            strips = [tag("p", "Reference", class_="strip"), picture(reference, f"{structures}: reference", 640)]
            for title, of_encoder in bands.items():
                found_by = picture(of_encoder[k][1], f"{structures}: found by {title}", 640)
                strips += [tag("p", title, class_="strip"), found_by]
            figures.append(tag("figure", tag("figcaption", tag("strong", structures)), strips))
        yield tag("div", figures, class_="figures wide")
    elif found:
        caption = ". Per structure set: above the reference, below what was found."
        figures = [tag("figure", tag("figcaption", tag("strong", title), caption),
                       picture(Image.open(path), f"Test images with structures, {title}", 640))
                   for title, path in found.items()]  # fmt: skip
        yield tag("div", figures, class_="figures wide")
    if missing:
        yield tag("p", f"No pictures of {', '.join(missing)}; {ABOVE}.", class_="soft")


def reports_section(run: Run) -> Iterator[Html]:
    """A few test studies: the reference report and every encoder's."""
    yield tag(
        "p",
        f"Chosen by the ROUGE-L of {run.reference.title} or, without it, of the first encoder that has "
        "reports: one near the worst, two in the middle, one near the best. ",
        tag("span", "Marked words", class_="off"),
        " do not stand in the reference in that order. Share these texts only as the data may be shared.",
    )
    if not run.sections[5]:
        yield tag("p", "Report generation is not part of this run.")
    for one in run.sections[5]:
        yield tag("h3", one.title)
        rows: dict[str, pd.DataFrame] = {}  # by encoder title
        for encoder in run.encoders:
            folder = run.results / "report_generation" / one.dataset / encoder.name
            if (folder / "meta.json").is_file():
                predictions = read_predictions("report_generation", one.dataset, folder)
                if not predictions.absent:
                    rows[encoder.title] = first_replicate(predictions.rows)
        missing = [encoder.title for encoder in run.encoders if encoder.title not in rows]
        yield from _report_examples(run, rows)
        if missing:
            yield tag("p", f"No reports of {', '.join(missing)}; {ABOVE}.", class_="soft")


def _report_examples(run: Run, rows: Mapping[str, pd.DataFrame]) -> Iterator[Html]:
    if not rows:
        return
    chosen = rows.get(run.reference.title, next(iter(rows.values())))
    order = np.argsort(chosen["rouge_l"].to_numpy(), kind="stable")
    places = list(dict.fromkeys(int(order[round(q * (len(order) - 1))]) for q in EXAMPLE_QUANTILES))
    for number, place in enumerate(places, start=1):
        reference, image = chosen["reference"].iloc[place], chosen["image_id"].iloc[place]
        boxes = [tag("div", tag("h5", "Reference"), tag("p", reference or "(empty)"), class_="truth")]
        for title, of_encoder in rows.items():
            row = of_encoder[of_encoder["image_id"] == image].iloc[0]
            boxes.append(tag("div", tag("h5", title, " ", tag("small", f"ROUGE-L {100 * row['rouge_l']:.0f}")),
                             tag("p", _marked(reference, row["hypothesis"]))))  # fmt: skip
        yield join(tag("h4", f"Example {number}"), tag("div", boxes, class_="texts"))


def _marked(reference: str, hypothesis: str) -> Html:
    """The hypothesis with the words marked that are not in the reference in the same order."""
    if not hypothesis.strip():
        return join("(empty)")
    wanted, words = reference.split(), hypothesis.split()
    parts = []
    for kind, _, _, start, stop in difflib.SequenceMatcher(None, wanted, words, autojunk=False).get_opcodes():
        if stop > start:
            text = " ".join(words[start:stop])
            parts += [text if kind == "equal" else tag("span", text, class_="off"), " "]
    return join(parts[:-1])


# ---------------------------------------------------------------- data, cost, provenance


def data_section(run: Run) -> Iterator[Html]:
    """Counts of every index."""
    indexes = {name.removeprefix("index/"): s for name, s in run.sidecars.items() if name.startswith("index/")}
    if not indexes:
        yield tag("p", "No data have been indexed yet.")
    for dataset, sidecar in indexes.items():
        facts = sidecar.facts
        yield tag("h3", run.title(dataset))
        if sidecar.state == "absent":
            yield tag("p", f"Not present. {sidecar.reason}")
            continue
        quarantined = facts.get("quarantined")
        unreadable = "No file was" if quarantined == 0 else f"{_count(quarantined)} files were"
        sentence = (f"{_count(facts.get('images'))} images of {_count(facts.get('patients'))} patients: "
                    f"{_count(facts.get('frontal'))} frontal, {_count(facts.get('lateral'))} lateral. "
                    f"{unreadable} quarantined as unreadable. {_count(facts.get('reports'))} images have a report."
                    )  # fmt: skip
        if facts.get("patient_ids") is False:
            sentence += " The data carry no patient ids, so splits and intervals treat images as independent."
        yield tag("p", sentence)
        kinds = [f"{title}: {', '.join(f'{key} {_count(n)}' for key, n in facts[name].items())}."
                 for name, title in (("views", "Views"), ("sites", "Sites")) if facts.get(name)]  # fmt: skip
        kinds += [f"Structures: {', '.join(facts['structures'])}."] if facts.get("structures") else []
        yield bullets(kinds) or Html("")
        splits = facts.get("splits") or {}
        if splits:
            rows = [[split, _count(n.get("images")), _count(n.get("patients"))] for split, n in splits.items()]
            yield table("Splits, by patient", ["Split", "Images", "Patients"], rows)
        if labels := facts.get("labels"):
            rows = [[label, *(_states(of_label.get(split) or {}) for split in splits)]
                    for label, of_label in labels.items()]  # fmt: skip
            yield table("Labels: positive / negative / uncertain / blank", ["Label", *splits], rows)


def _states(counts: Mapping[str, int]) -> str:
    return " / ".join(_count(counts.get(state, 0)) for state in ("positive", "negative", "uncertain", "blank"))


def _count(value: Any) -> str:
    return "?" if value is None else f"{value:,}"


def cost_section(run: Run) -> Iterator[Html]:
    """Seconds, memory and devices as the sidecars recorded them when each artefact was made."""
    spent = {name: s.content["cost"] for name, s in run.sidecars.items()
             if s.state == "ok" and (s.content.get("cost") or {}).get("seconds") is not None}  # fmt: skip
    if not spent:
        yield tag("p", "No stage has recorded a cost.")
        return
    stages: dict[str, list[Mapping[str, Any]]] = {}
    for name, cost in spent.items():
        stages.setdefault(name.split("/")[0], []).append(cost)
    total = sum(cost["seconds"] for cost in spent.values())
    yield tag("p", f"{_duration(total)} of computing for {len(spent)} artefacts, one after another, without this page.")
    order = sorted(stages, key=lambda stage: STAGES.index(stage) if stage in STAGES else len(STAGES))
    rows = [_cost_row(stage, stages[stage], len(stages[stage])) for stage in order]
    yield table("Cost per stage", ["Stage", "Artefacts", "Seconds", "Peak memory, MB", "Device"], rows)
    yield details("Cost per artefact", table("Cost per artefact", ["Artefact", "Seconds", "Peak memory, MB", "Device"],
                  [_cost_row(name, [cost]) for name, cost in spent.items()]))  # fmt: skip


def _cost_row(name: str, costs: Sequence[Mapping[str, Any]], count: int | None = None) -> list[str]:
    devices = dict.fromkeys(str(cost.get("device") or "?") for cost in costs)
    return [name, *([str(count)] if count else []), f"{sum(cost['seconds'] for cost in costs):,.1f}",
            f"{max(cost.get('peak_memory_mb') or 0 for cost in costs):,.0f}", ", ".join(devices)]  # fmt: skip


def _duration(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{seconds:.0f} s"


def provenance_section(run: Run) -> Iterator[Html]:
    """From each score to the data it rests on, and every artefact with its hashes."""
    yield tag("p", HOW_TO_READ_PROVENANCE)
    chains = [[f"Table {n}, {one.title}, {encoder.title}", _chain(run, f"{TASKS[n]}/{one.dataset}/{encoder.name}")]
              for n, of_table in run.sections.items() for one in of_table for encoder in run.encoders]  # fmt: skip
    chain_table = table("Chain of each row of Tables 3 to 5", ["Row", "Rests on"], chains)
    yield details("From a row of a table to its data", chain_table)
    if not run.sidecars:
        yield tag("p", "No artefact has been written yet.")
        return
    versions: dict[str, str] = {}
    rows = []
    for name, sidecar in run.sidecars.items():
        content = sidecar.content
        packages = (content.get("software") or {}).items()
        software = ", ".join(f"{package} {version}" for package, version in packages) or "?"
        letter = versions.setdefault(software, f"S{len(versions) + 1}")
        git = content.get("git") or {}
        commit = (git.get("commit") or "")[:10] + (" + changes" if git.get("changes") else "")
        rows.append([name, sidecar.state, _short(content.get("key")), _short(content.get("fingerprint")),
                     _parents(run, content), letter, commit or "–", content.get("created") or "–"])  # fmt: skip
    header = ["Artefact", "State", "Key", "Fingerprint", "Parents", "Software", "Commit", "Made"]
    yield details("Every artefact", table("Artefacts", header, rows, ids=[_anchor(name) for name in run.sidecars]))
    yield tag("h3", "Software")
    yield bullets(f"{letter}: {software}" for software, letter in versions.items()) or Html("")


def _chain(run: Run, name: str) -> Html:
    """The artefact, its parents, their parents, ... each where it is met first; a gap says why it ends there."""
    if name not in run.sidecars:
        return join("not run")
    generation, seen, parts = [name], {name}, []
    while generation:
        parts += [" ← " if parts else None]
        for number, one in enumerate(generation):
            parts += [", " if number else None, _link(one), " ", _short(run.sidecars[one].content.get("fingerprint"))]
        parents = [_name(run, parent["path"])
                   for one in generation for parent in run.sidecars[one].content.get("parents") or []]  # fmt: skip
        generation = [one for one in dict.fromkeys(parents) if one in run.sidecars and one not in seen]
        seen |= set(generation)
    sidecar = run.sidecars[name]
    return join(parts, f" (gap: {sidecar.reason})" if sidecar.state == "absent" else None)


def _parents(run: Run, content: Mapping[str, Any]) -> Html:
    parts: list[Any] = []
    for parent in content.get("parents") or []:
        name = _name(run, parent["path"])
        known = run.sidecars.get(name)
        changed = known is not None and known.content.get("fingerprint") != parent["fingerprint"]
        parts += ["; " if parts else None, _link(name) if known else name, " (changed since)" if changed else None]
    return join(parts or "–")


def _name(run: Run, path: str) -> str:
    """Name below results/ of a sidecar's path."""
    folder = Path(path).parent.as_posix()
    return re.sub(r"^(?:.*/)?results/", "", folder) if "results/" in folder else os.path.relpath(folder, run.results)


def _link(name: str) -> Html:
    return tag("a", name, href=f"#{_anchor(name)}")


def _anchor(name: str) -> str:
    return "artefact-" + re.sub(r"[^\w-]+", "-", name)


def _short(digest: str | None) -> Html:
    return tag("code", (digest or "–")[:12])


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line; a named error ends with its sentence and status 1, not with a stack trace."""
    parser = argparse.ArgumentParser(prog="python -m stats.report", description=__doc__.splitlines()[0])
    parser.add_argument("--spec", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path)
    options = parser.parse_args(arguments)
    try:
        written = write_report(options.spec, options.out)
    except StatsError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    print(f"{written.folder / 'index.html'}: {written.facts['bytes'] / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
