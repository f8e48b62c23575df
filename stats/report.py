"""Everything a run found, on one page that needs no network: ``results/report/index.html``.

    python -m stats.report --spec results/tables/spec.json --out results/report

Of somebody's own predictions (``stats.tables --csv``) the page has what predictions alone can tell. Beside that of a run
lies ``cost_quality`` (CSV, LaTeX, Markdown): cost differs between two runs, so it is not among the tables. The page shows
what other stages wrote: tables are read from ``results/tables``, intervals and differences from ``results/stats``, pictures
and texts from the predictions, counts and costs from the sidecars. What was not run is a sentence with its reason.
Unchanged inputs give an identical page; costs and provenance, which differ between two runs, stand in the sections
``cost`` and ``provenance`` and nowhere else.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from .charts import calibration_section, cost_quality, learning_section, ranks_section, subgroups_section
from .errors import StatsError
from .examples import reports_section, segmentations_section
from .figures import Interval, curves, forest, legend_line, signed
from .ledger import cost_section, data_section, provenance_section
from .measures import BIASED_UP, LOWER_IS_BETTER, REPORT, gain
from .page import Html, bullets, document, join, panel_table, read_markdown, section, tag
from .provenance import Sidecar, check_folder, write_artifact
from .run import Run, read_run, table_rows
from .scores import METRIC_TITLES, Encoder, Section, find_estimate, guessing, points, too_few
from .significance import BEST_CONTROL, FIXED
from .supplement import TASK_TITLES, cost_rows, cost_table
from .tables import OWN_NAMES, read_spec
from .typeset import Panel

LOG_TITLES = {
    "loss": "Loss", "lr": "Learning rate", "weight_decay": "Weight decay", "ema": "EMA momentum",
    "feature_sd": "Feature SD", "feature_rank": "Effective rank", "feature_cosine": "Mean cosine",
}  # fmt: skip

#: Of a difference from a control.
CLEARNESS = ("Zero excluded", "Zero not excluded", "Too few patients to tell")
HOW_TO_READ_CONTROLS = (
    "A control has learnt nothing from radiographs, so a score that is clearly worse (zero excluded) says that pretraining did not help "
    "there; where zero is not excluded these patients cannot tell. Score, the control's score, difference and its 95 % interval:"
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
    "only while these three hold. Numbers: means of the first and of the last twentieth of the log. Collapsed: rank "
    "below 2, or SD or 1 − cosine below 5 % of what they were; narrowed: one of the three below half."
)


def write_report(spec_path: Path | str, out: Path | str) -> Sidecar:
    """Read the spec and everything it names, write the page; returns the sidecar.

    Raises:
        StatsError: a file is not the one its sidecar vouches for, or the spec is incomplete; nothing is written then.
    """
    started = time.perf_counter()
    spec = read_spec(Path(spec_path))
    run = read_run(spec)
    out = Path(out)
    parts = {
        "tables": ("Tables", tables_section(run, out)),
        "figures": ("Intervals", figures_section(run)),
        "ranks": ("Ranks", ranks_section(run, out)),
        "calibration": ("Calibration", calibration_section(run, out)),
        "subgroups": ("Subgroups", subgroups_section(run, out)),
    }
    files: dict[str, bytes] = {}
    if not run.own:
        of_cost = cost_rows([one for of in run.sections.values() for one in of], run.encoders, list(run.sidecars.values()))
        cost = cost_table(of_cost)
        files = cost.files(spec.get("title") or "")
        parts |= {
            "learning": ("Learning curves", learning_section(run, out)),
            "pretraining": ("Pretraining", pretraining_section(run)),
            "segmentations": ("Segmentations", segmentations_section(run)),
            "reports": ("Reports", reports_section(run)),
            "data": ("Data", data_section(run)),
            "cost": ("Cost", [*cost_section(run), *cost_quality(of_cost, cost.panels)]),
            "provenance": ("Provenance", provenance_section(run)),
        }
    page = document(f"{_title(run)}: radiology encoders compared",
                    [(anchor, title) for anchor, (title, _) in parts.items()], summary(run),
                    *(section(anchor, title, *blocks) for anchor, (title, blocks) in parts.items()))  # fmt: skip
    facts = {"encoders": [e.name for e in run.encoders], "gaps": run.gaps(), "bytes": len(page.encode())}
    return write_artifact(out, "report", {"index.html": page.encode()} | files, key_parts={"spec": spec},
                          parents=list(run.sidecars.values()), facts=facts, started=started)  # fmt: skip


# ---------------------------------------------------------------- in words


def _title(run: Run) -> str:
    return "Own predictions" if run.own else run.spec.get("title") or "Run"


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
    undefined = run.undefined()
    if undefined and not gaps:
        missing = f"Gaps: {len(undefined)} column{'s' * (len(undefined) > 1)} not complete"
    badges = [tag("li", "Reduced protocol", class_="warn") if reduced else None,
              tag("li", "Full protocol") if measured and not reduced and not run.own else None,
              tag("li", missing, class_="warn") if gaps or undefined else tag("li", "No gaps"),
              tag("li", f"Reference: {run.reference.title}")]  # fmt: skip
    return join(
        tag("p", "radbench, radiology encoder benchmark", class_="eyebrow"),
        tag("h1", f"{_title(run)}: radiology encoders compared"),
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


def leaders(run: Run, one: Section) -> Iterator[tuple[Encoder | None, Html]]:
    """The leading encoder (None where two are level) and a sentence per headline column: aggregates where there are some."""
    columns = [column for column in one.displayed() if column[2] != "rouge_l_coco" and column[2] not in BIASED_UP]
    columns = [column for column in columns if column[1].startswith("Agg-")] or columns
    for _, target, metric in columns:
        values = [(run.value(one, encoder, target, metric), encoder) for encoder in run.encoders]
        ranked = sorted([pair for pair in values if pair[0] is not None], key=lambda pair: -gain(metric, pair[0]))
        if not ranked:
            continue
        best, leader = ranked[0]
        name = leader.title + (" (a control)" if leader.control else "")
        if len(ranked) == 1:
            rest = ", nothing to compare it with."
        elif best == ranked[1][0]:
            rest = f", level with {ranked[1][1].title}."
        else:
            ahead = leader, ranked[1][1]
            difference = _difference(one, *(ahead[::-1] if metric in LOWER_IS_BETTER else ahead), target, metric)
            few = too_few(find_estimate(one, leader, target, metric))
            certainty = f" ({few})" if few else _certainty(difference)
            rest = f", ahead of {ranked[1][1].title} by {abs(best - ranked[1][0]):.1f}{certainty}."
        place = f"{_column(one, target, metric)} on {one.title}: "
        level = len(ranked) > 1 and best == ranked[1][0]
        yield None if level else leader, join(place, tag("strong", name), f" {best:.1f}{rest}")


def _column(one: Section, target: str, metric: str) -> str:
    """A column's full name: the label, not its abbreviation; and which way is better where it is not upwards."""
    title = METRIC_TITLES[metric] + " (less is better)" * (metric in LOWER_IS_BETTER)
    if target == REPORT:
        return title
    name = one.columns.get(target, target) if one.table == 4 else target
    return f"{name} {title}"


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
    name, title = ("significance", "the table Significance") if run.own else ("table6", "Table 6")
    best = [row for row in table_rows(run, f"{name}.csv") if row["rule"] != FIXED]
    rows = [row for row in best if row["outcome"]]
    few = sum(not row["outcome"] and row["delta"] != "" for row in best)
    if not rows:
        why = "too few patients" if few else "there is nothing to compare the reference with"
        return f"Differences could not be tested: {why}."
    won = [row for row in rows if row["outcome"] == "significant_improvement"]
    against = "other encoder" if all(row["rule"] != BEST_CONTROL for row in rows) else "other encoder or control"
    below = sum(_below_a_control(run, row) for row in won)
    aside = " (controls aside" + f"; below a control in {below} of them" * bool(below) + ")"
    untested = f" {few} more could not be tested: too few patients." if few else ""
    return (f"{run.reference.title} is significantly better than the best {against} in {len(won)} of {len(rows)} tested "
            f"columns{aside * (against == 'other encoder' and any(e.control for e in run.encoders))}, Holm-adjusted, one-sided 5 % "
            f"({title}).{untested}")  # fmt: skip


def _below_a_control(run: Run, row: Mapping[str, str]) -> bool:
    """Whether some control has a better value than the reference in the column of a row of Table 6."""
    one = next(one for one in run.sections[int(row["table"])] if one.dataset == row["dataset"])
    values = [run.value(one, e, row["target"], row["metric"]) for e in run.encoders if e.control]
    own = run.value(one, run.reference, row["target"], row["metric"])
    return any(gain(row["metric"], value - own) > 0 for value in values if value is not None)


def _controls(run: Run, measured: Sequence[Encoder]) -> Html | None:
    """Every encoder that is below a control, column by column; a control knows nothing of radiographs."""
    if not any(e.control for e in measured) or all(e.control for e in measured):
        return None
    items = []
    for encoder in (e for e in measured if not e.control):
        for control in (e for e in measured if e.control):
            below = [text for of_table in run.sections.values() for one in of_table
                     for text in _below(run, one, encoder, control)]  # fmt: skip
            groups = {title: [text for found, text in below if found == title] for title in CLEARNESS}
            if below:
                columns = "one column" if len(below) == 1 else f"{len(below)} columns"
                who = f"{encoder.title} is below the {control.title} control in {columns}"
                parts = [f"{title}: {'; '.join(texts)}." for title, texts in groups.items() if texts]
                items.append(join(tag("strong", who), bullets(parts)))
    if not items:
        return tag("p", tag("strong", "No encoder is below a control in any column."))
    return tag("div", _minor("Below a control"), tag("p", HOW_TO_READ_CONTROLS), bullets(items), class_="below")


def _below(run: Run, one: Section, encoder: Encoder, control: Encoder) -> Iterator[tuple[str, str]]:
    """One of CLEARNESS, and the sentence, of every column in which the control is better (lower, for HD95)."""
    for _, target, metric in one.displayed():
        own, other = run.value(one, encoder, target, metric), run.value(one, control, target, metric)
        if None in (own, other) or gain(metric, own - other) >= 0 or metric == "rouge_l_coco" or metric in BIASED_UP:
            continue
        difference = _difference(one, encoder, control, target, metric)
        interval = ""
        if difference is not None and difference.low is not None:
            interval = f" [{signed(difference.low)}, {signed(difference.high)}]"
        place = f"{_column(one, target, metric)} on {one.title}"
        excluded = bool(interval) and (difference.low > 0 if metric in LOWER_IS_BETTER else difference.high < 0)
        few = too_few(find_estimate(one, encoder, target, metric))
        yield CLEARNESS[2] if few else CLEARNESS[0] if excluded else CLEARNESS[1], (
            f"{place} {own:.1f} against {other:.1f}, {signed(own - other)}{interval}")  # fmt: skip


# ---------------------------------------------------------------- tables and figures


def tables_section(run: Run, out: Path) -> Iterator[Html]:
    """Tables 1 to 6, or those of somebody's own predictions, as `stats.tables` wrote them."""
    if run.tables is None:
        yield tag("p", "The tables have not been written yet; run stats.tables.")
        return

    def link(name: str, text: str) -> Html:
        return tag("a", text, href=Path(os.path.relpath(run.tables.folder / name, out)).as_posix())

    of_a_run = (" A shaded row is the publication's. ", run.tables.facts.get("summary", ""), " One by one: ",
                link("paper_vs_measured.md", "paper and measurement"), ". On one page: ",
                link("summary.md", "the summary"), ".")  # fmt: skip
    yield tag("p", "Bold: best of a column, underlined: second, controls (grey) aside. Scores are points, 0 to 100.",
              None if run.own else of_a_run)  # fmt: skip
    names = dict.fromkeys(OWN_NAMES.values(), "") if run.own else {f"table{n}": f"Table {n}. " for n in range(1, 7)}
    for name, title in names.items():
        if f"{name}.md" not in run.tables.content["files"]:
            continue  # somebody's predictions are of one task or two
        caption, panels = read_markdown(run.tables.verified(f"{name}.md").read_text(encoding="utf-8"))
        caption = caption.removesuffix(str(run.spec.get("title") or "")).strip(" .")
        yield tag("h3", title + caption, id=name)
        files = link(f"{name}.csv", "CSV, all digits"), " · ", link(f"{name}.tex", "LaTeX")
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
        if not of_table and not run.own:
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
        chance = guessing(estimate)
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
    facts, (first, last) = run.sidecars[f"pretrain/{name}"].facts, _ends(log)
    text = f"{facts.get('images', '?')} images, epochs {facts.get('epochs', '?')}, steps {facts.get('steps', '?')}; "
    shown = [f"{LOG_TITLES[key].lower() if key != 'feature_sd' else 'feature SD'} {first[key]:.3g} to {last[key]:.3g}"
             for key in ("loss", "feature_sd", "feature_rank", "feature_cosine") if key in log]  # fmt: skip
    return f"{text}{', '.join(shown)}. {collapse_verdict(log) if 'feature_rank' in log else ''}".strip()


def _ends(log: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Means of the first and of the last twentieth of a log: single batches scatter."""
    rows = max(1, len(log) // 20)
    return log.iloc[:rows].mean(), log.iloc[-rows:].mean()


def collapse_verdict(log: pd.DataFrame) -> str:
    """Whether the features of a pretraining run have collapsed, have narrowed, or neither, from the ends of its log.

    Collapsed: effective rank below 2, or feature SD or 1 - cosine below 5 % of what they were. Narrowed: one of the three below half.

    Args:
        log: rows in order of steps; of the columns ``feature_sd``, ``feature_rank`` and ``feature_cosine`` those that it has.

    >>> collapse_verdict(pd.DataFrame({"feature_sd": [0.2, 0.19], "feature_cosine": [0.90, 0.98]}))
    'The features have narrowed.'
    """
    first, last = _ends(log)
    left = {name: last[name] / first[name] for name in ("feature_sd", "feature_rank") if name in log}
    if "feature_cosine" in log:
        left["feature_cosine"] = (1 - last["feature_cosine"]) / (1 - first["feature_cosine"])
    if last.get("feature_rank", np.inf) < 2 or min(left.get(name, 1.0) for name in ("feature_sd", "feature_cosine")) < 0.05:
        return "The features have collapsed."
    return "The features have narrowed." if min(left.values(), default=1.0) < 0.5 else "No sign of collapse."


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line; a named error ends with its sentence and status 1, not with a stack trace."""
    parser = argparse.ArgumentParser(prog="python -m stats.report", description=__doc__.splitlines()[0])
    parser.add_argument("--spec", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path)
    options = parser.parse_args(arguments)
    try:
        check_folder(options.out)
        written = write_report(options.spec, options.out)
    except StatsError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    print(f"{written.folder / 'index.html'}: {written.facts['bytes'] / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
