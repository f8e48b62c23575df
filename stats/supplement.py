"""Supplementary tables, beside the paper's six: calibration, subgroups, ranks, learning curves; and cost beside quality.

Each is there in every run. Where nothing is known (no probabilities, no subgroups, no cost), a note says so. Cost differs
between two runs of the same protocol, so its table lies with the page and not with the tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import rankdata

from .calibration import DRAWS, LINE_COLUMNS
from .figures import Place, rank_diagram, signed, standing_alone
from .measures import BIASED_UP, gain
from .page import Html
from .provenance import Sidecar
from .ranks import CriticalDifference, critical_difference
from .scores import METRIC_TITLES, TASKS, Encoder, Section, find_estimate, guessing, points, resampling
from .subgroups import GAP, GROUP, SUBGROUP_RESAMPLES
from .subgroups import METRICS as SUBGROUP_METRICS
from .typeset import Cell, Panel, Table, best_two

CALIBRATION_COLUMNS = ("dataset", "dataset_title", "encoder", "encoder_title", "control", "target",
                       *(f"{metric}{end}" for metric in ("brier", "ece") for end in ("", "_median", "_low", "_high")), "brier_guessing",
                       "intercept", "intercept_low", "intercept_high", "slope", "slope_low", "slope_high",
                       "resamples_valid", "n_images", "n_positive", "state", "reason")  # fmt: skip
SUBGROUP_COLUMNS = ("dataset", "dataset_title", "encoder", "encoder_title", "control", "target", "metric", "unit", "grouping", "kind",
                    "group", "worst", "value", "low", "high", "resamples_valid", "n_images", "n_patients", "n_positive", "state",
                    "reason")  # fmt: skip
RANK_COLUMNS = ("task", "dataset", "dataset_title", "encoder", "encoder_title", "control", "target", "metric", "rank", "low", "high",
                "p_best", "encoders", "columns", "averaged_over", "p_friedman", "critical_difference")  # fmt: skip
CURVE_COLUMNS = ("dataset", "dataset_title", "encoder", "encoder_title", "control", "target", "metric", "unit", "train_images", "value",
                 "sd", "replicates", "low", "high", "n_images", "n_positive", "state", "reason")  # fmt: skip
FEWEST_SETS = 5  # data sets (or columns) for Friedman's p, whose chi-squared is far off for fewer
STAGES = ("features", "linear_probe", "segmentation", "report")
COST_COLUMNS = ("encoder", "encoder_title", "control", "parameters", "image_size", "tokens",
                *(f"{stage}_{what}" for stage in STAGES for what in ("seconds", "gpu_seconds", "device")), "seconds", "gpu_seconds",
                "auprc", "dice", "mean_rank", "pareto", "reason")  # fmt: skip

LINE_MEANING = {
    "slope": "1 is perfect; between 0 and 1: probabilities too extreme; above 1: too timid; below 0: in reverse order.",
    "intercept": "0 is perfect; below 0: probabilities too high on the whole; above 0: too low. In log odds, with the slope held at 1.",
}
TASK_TITLES = {3: "Classification", 4: "Segmentation", 5: "Report generation"}
GROUPING_TITLES = {"sex": "sex", "age_band": "age", "view": "view", "site": "site"}


def supplementary_tables(sections: Sequence[Section], encoders: Sequence[Encoder]) -> list[Table]:
    """The four that depend on predictions only, and so are the same in every run of the same protocol."""
    return [
        _calibration(sections, encoders),
        _subgroups(sections, encoders),
        _ranks(sections, encoders),
        _learning_curves(sections, encoders),
    ]


def _who(section: Section, encoder: Encoder) -> dict[str, Any]:
    return {"dataset": section.dataset, "dataset_title": section.title, "encoder": encoder.name, "encoder_title": encoder.title,
            "control": encoder.control}  # fmt: skip


def _name(encoder: Encoder) -> str:
    return encoder.title + (" (control)" if encoder.control else "")


def _number(text: str | None) -> float | None:
    return None if text in (None, "") else float(text)


def _interval(row: Mapping[str, str], scale: float = 100.0, digits: int = 1) -> str:
    if not row.get("low"):
        return ""
    return f"[{scale * float(row['low']):.{digits}f}, {scale * float(row['high']):.{digits}f}]".replace("-", "−")


def _used(one: Section, most: int) -> str:
    """How many of the resamples of `scores.resampling` a table uses, where that is not all."""
    return f", of which the first {most} are used" if int(one.facts.get("resamples") or 0) > most else ""


def _nothing(why: str) -> list[Panel]:
    return [Panel("No data", ["Gap"], [], notes=[why])]


def _columnwise(rows: Sequence[list[Cell | str]], values: Sequence[Sequence[float | None]], lowest: bool) -> None:
    """Mark best and second of every column of cells, in place; the cells are the last of each row."""
    for column in range(len(values[0]) if values else 0):
        for k, rank in best_two([line[column] for line in values], lowest).items():
            cell = rows[k][column - len(values[0])]
            rows[k][column - len(values[0])] = Cell(cell.text, cell.second_line, rank)


# ---------------------------------------------------------------- calibration


def _calibration(sections: Sequence[Section], encoders: Sequence[Encoder]) -> Table:
    """Brier score, calibration error and recalibration line, encoder x label; fractions, not points."""
    rows, panels = [], []
    for one in (section for section in sections if section.table == 3):
        targets = {t: one.columns.get(t, t) for _, t, m in one.estimates if m == "brier"}
        order = [t for t in one.columns if t in targets] + [t for t in targets if t not in one.columns]
        for encoder in encoders:
            for target in order or [""]:
                rows.append(_who(one, encoder) | _calibration_row(one, encoder, target))
        present = [
            e for e in encoders if any(r["brier"] is not None for r in rows if (r["dataset"], r["encoder"]) == (one.dataset, e.name))
        ]
        if not present:
            panels.append(Panel(one.title, ["Gap"], [], notes=[one.gap or "No encoder has a calibration here: scores outside 0 to 1 "
                                                               "have an order only, and a label needs both of its classes."]))  # fmt: skip
            continue
        for metric in ("brier", "ece"):
            found = [[find_estimate(one, e, t, metric) for t in order] for e in present]
            cells = [[_name(e), *(_fraction_cell(row) for row in line)] for e, line in zip(present, found, strict=True)]
            values = [[None if e.control or not row.get("value") else round(float(row["value"]), 3) for row in line]
                      for e, line in zip(present, found, strict=True)]  # fmt: skip
            if metric not in BIASED_UP:
                _columnwise(cells, values, lowest=True)
            title = {"brier": "Brier score", "ece": "calibration error (ECE)"}[metric]
            kind = "interval by test inversion" if metric == "ece" else "percentile interval"
            used = _used(one, DRAWS) if metric == "ece" else ""
            notes = [f"Less is better. [95 % {kind}], {resampling(one)}{used}."]
            if metric == "brier":
                notes += _guessed_brier(one, present[0], [(targets[t], t) for t in order])
            if metric == "ece":
                notes.append("Chance adds to this error, so that even perfect probabilities have some: the interval holds the true errors "
                             "under which the printed one would be no surprise. It may end just below the printed value; where it "
                             "begins at 0, nothing speaks against perfect calibration. Encoders are compared by the Brier score, "
                             "not by this.")  # fmt: skip
            notes += _without([(row, f"{targets[t]} ({e.title})") for e, line in zip(present, found, strict=True)
                               for t, row in zip(order, line, strict=True) if not row.get("value")])  # fmt: skip
            panels.append(Panel(f"{one.title}: {title}", ["Encoder", *(targets[t] for t in order)], cells, notes=notes))
        single = [t for t in order if not t.startswith("Agg-")]
        for name, meaning in LINE_MEANING.items():
            lines = [[_name(e), *(_line_cell(find_estimate(one, e, t, "brier"), name) for t in single)] for e in present]
            notes = [f"{meaning} Mean over replicates; [95 %: ± 1.96 standard errors, clustered by {one.facts.get('unit', 'patient')}]."]
            briers = [(find_estimate(one, e, t, "brier"), f"{targets[t]} ({e.title})") for e in present for t in single]
            notes += _without([(row, who) for row, who in briers if not row.get(f"calibration_{name}")])
            panels.append(Panel(f"{one.title}: recalibration {name}", ["Encoder", *(targets[t] for t in single)], lines, notes=notes))
        absent = [e for e in encoders if e not in present]
        if absent:
            panels[-1].notes.append(f"– {', '.join(e.title for e in absent)}: no probabilities on {one.title}")
    panels = panels or _nothing("Classification is not part of this run, so there are no probabilities to judge.")
    return Table("calibration", "Calibration", "Calibration of the probes' probabilities, fractions", CALIBRATION_COLUMNS, rows, panels)


def _guessed_brier(one: Section, encoder: Encoder, columns: Sequence[tuple[str, str]]) -> list[str]:
    """The Brier score of saying the share of positives of every image, per label: the best score of a column may still be worse."""
    guessed = {name: _guess(find_estimate(one, encoder, target, "brier")) for name, target in columns}
    told = ", ".join(f"{name} {value:.3f}" for name, value in guessed.items() if value is not None)
    return [f"Always saying the share of positives scores {told}: above it the probabilities are worse than none, also where they are the "
            "best of their column."] if told else []  # fmt: skip


def _guess(brier: Mapping[str, str]) -> float | None:
    """What `scores.guessing` says of a row of Brier scores, as a fraction; None where no score is."""
    guessed = guessing(brier) if brier.get("value") else None
    return None if guessed is None else round(guessed / 100, 10)


def _calibration_row(one: Section, encoder: Encoder, target: str) -> dict[str, Any]:
    brier, ece = (find_estimate(one, encoder, target, metric) for metric in ("brier", "ece"))
    counts = {name: _number(brier.get(name)) for name in ("resamples_valid", "n_images", "n_positive")}
    row: dict[str, Any] = {"target": target, **{name: None if value is None else int(value) for name, value in counts.items()}}
    for name, estimate in (("brier", brier), ("ece", ece)):
        row |= {name: _number(estimate.get("value"))}
        row |= {f"{name}_{end}": _number(estimate.get(end)) for end in ("median", "low", "high")}
    row |= {"brier_guessing": _guess(brier)}
    row |= {name.removeprefix("calibration_"): _number(brier.get(name)) for name in LINE_COLUMNS}
    return row | {"state": brier.get("state", ""), "reason": brier.get("reason", "")}


def _without(cells: Sequence[tuple[Mapping[str, str], str]]) -> list[str]:
    """Why cells are empty: the reason in their row, or that no line exists, and whose they are."""
    found: dict[str, list[str]] = {}
    for row, who in cells:
        reason = row.get("reason") or ("no recalibration line: scores that are constant or separate the classes in a replicate, or, "
                                       "for the intercept, that are all 0 or 1")  # fmt: skip
        found.setdefault(reason, []).append(who)
    return [f"– {', '.join(who)}: {reason}" for reason, who in found.items()]


def _fraction_cell(row: Mapping[str, str]) -> Cell:
    return Cell(f"{float(row['value']):.3f}", _interval(row, 1.0, 3)) if row.get("value") else Cell("–")


def _line_cell(row: Mapping[str, str], name: str) -> Cell:
    value, low, high = (_number(row.get(f"calibration_{name}{end}")) for end in ("", "_low", "_high"))
    if value is None:
        return Cell("–")
    texts = [signed(v, 2) if name == "intercept" else f"{v:.2f}".replace("-", "−") for v in (value, low, high) if v is not None]
    return Cell(texts[0], f"[{texts[1]}, {texts[2]}]" if low is not None else "")


# ---------------------------------------------------------------- subgroups


def _subgroups(sections: Sequence[Section], encoders: Sequence[Encoder]) -> Table:
    """The metric in every group, the worst group, and the gap to the best, encoder x column x grouping."""
    rows, panels = [], []
    by_name = {encoder.name: encoder for encoder in encoders}
    for one in sections:
        found = one.more.get("subgroups") or []
        for row in found:
            if row["encoder"] in by_name:
                worst = _worst(found, row) if row["kind"] == GROUP else row["worst"]
                rows.append(_who(one, by_name[row["encoder"]]) | row | {name: points(row[name]) for name in ("value", "low", "high")}
                            | {"dataset": one.dataset, "unit": "points", "worst": worst})  # fmt: skip
        for grouping in dict.fromkeys(row["grouping"] for row in found):
            panels += _grouping_panels(one, grouping, [row for row in found if row["grouping"] == grouping], encoders)
    panels = panels or _nothing("No subgroups are known: the predictions carry no sex, age_band, view or site, or one value of each.")
    return Table("subgroups", "Subgroups", "Scores by subgroup, the worst group and its distance from the best, points", SUBGROUP_COLUMNS,
                 rows, panels)  # fmt: skip


def _worst(found: Sequence[Mapping[str, str]], row: Mapping[str, str]) -> int:
    """1 where this group is the worst of its encoder, column and grouping."""
    same = ("encoder", "target", "metric", "grouping")
    gap = next((g for g in found if g["kind"] == GAP and all(g[k] == row[k] for k in same)), None)
    return int(gap is not None and gap["worst"] == row["group"])


def _grouping_panels(one: Section, grouping: str, found: Sequence[Mapping[str, str]], encoders: Sequence[Encoder]) -> list[Panel]:
    metric = SUBGROUP_METRICS[TASKS[one.table]][0]
    cells = {(r["encoder"], r["target"], r["group"]): r for r in found if r["kind"] == GROUP and r["metric"] == metric}
    gaps = {(r["encoder"], r["target"]): r for r in found if r["kind"] == GAP and r["metric"] == metric}
    groups = list(dict.fromkeys(group for _, _, group in cells))
    shown = {target: short for target, short in one.columns.items()} if one.table != 5 else {"report": ""}
    lines: list[list[Cell | str]] = []
    for target, short in shown.items():
        for encoder in encoders:
            if not any((encoder.name, target, group) in cells for group in groups):
                continue
            gap = gaps.get((encoder.name, target))
            line: list[Cell | str] = [_name(encoder), *([short] if one.table != 5 else [])]
            line += [_points_cell(cells.get((encoder.name, target, group), {})) for group in groups]
            line += [gap["worst"] if gap else "–", Cell(f"{points(gap['value']):.1f}", _interval(gap)) if gap else Cell("–")]
            lines.append(line)
    small: dict[str, list[str]] = {}
    for row in found:
        if row["state"] == "not_computed" and row["metric"] in ("", metric):
            who = f"{row['group']} {one.columns.get(row['target'], row['target'])}".strip()
            small.setdefault(row["reason"], []).append(who)
    notes = [f"[95 % percentile interval], {resampling(one)}{_used(one, SUBGROUP_RESAMPLES)}. Gap: best minus worst group, both chosen on "
             "these data, so it is above 0 by chance alone. Its interval is that of the difference of these two groups, which may be below "
             "0; read it with the other encoders' beside it."]  # fmt: skip
    notes += [f"Without a number, {reason}: {', '.join(dict.fromkeys(who))}." for reason, who in small.items()]
    header = ["Encoder", *(["Column"] if one.table != 5 else []), *groups, "Worst", "Gap"]
    title = f"{one.title}: {METRIC_TITLES[metric]} by {GROUPING_TITLES.get(grouping, grouping)}"
    return [Panel(title, header, lines, notes=notes)] if lines else [Panel(title, ["Gap"], [], notes=notes[1:])]


def _points_cell(row: Mapping[str, str]) -> Cell:
    return Cell(f"{points(row['value']):.1f}", _interval(row)) if row.get("value") else Cell("–")


# ---------------------------------------------------------------- ranks


@dataclass(frozen=True)
class Standing:
    """Encoders ranked over several data sets at once, or over the columns of the only one.

    Attributes:
        title: the task, or "All tasks".
        encoders: those that have a value in every column.
        columns: (section, target, metric) of each.
        over: what the ranks are averaged over, "data sets" (each encoder's rank in one is that of its mean rank over the columns, the
            tasks on it counting alike) or "columns"; ``count``: how many.
        difference: mean ranks and what they tell apart; None with fewer than three encoders or two of ``over``.
        mean_ranks: (K,) 1 = best.
    """

    title: str
    encoders: list[Encoder]
    columns: list[tuple[Section, str, str]]
    over: str
    count: int
    difference: CriticalDifference | None
    mean_ranks: np.ndarray


def standings(sections: Sequence[Section], encoders: Sequence[Encoder]) -> list[Standing]:
    """One per task, and over all tasks where there are several; a data set of several tasks counts once, for they share its patients."""
    tasks = {TASK_TITLES[n]: [s for s in sections if s.table == n] for n in TASK_TITLES if any(s.table == n for s in sections)}
    if len(tasks) > 1:
        tasks["All tasks"] = list(sections)
    found = [_standing(title, of_task, encoders) for title, of_task in tasks.items()]
    return [one for one in found if len(one.encoders) > 1 and one.columns]


def _ranked_columns(section: Section) -> list[tuple[Section, str, str]]:
    """Its columns that count for a mean rank: no aggregate, and of several metrics of one label the first, lest it count twice."""
    metrics = [metric for metric in section.metrics if metric not in BIASED_UP and metric != "rouge_l_coco"]
    counted = metrics if section.table == 5 else metrics[:1]
    return [(section, t, m) for _, t, m in section.displayed() if m in counted and not t.startswith("Agg-")]


def _standing(title: str, sections: Sequence[Section], encoders: Sequence[Encoder]) -> Standing:
    def value(place: tuple[Section, str, str], encoder: Encoder) -> float | None:
        section, target, metric = place
        return _number(find_estimate(section, encoder, target, metric).get("value"))

    columns = [place for section in sections for place in _ranked_columns(section)]
    columns = [place for place in columns if any(value(place, encoder) is not None for encoder in encoders)]
    complete = [e for e in encoders if columns and all(value(place, e) is not None for place in columns)]
    if not complete:
        return Standing(title, [], columns, "columns", len(columns), None, np.array([]))
    of_columns = np.array([rankdata([-gain(place[2], value(place, encoder)) for encoder in complete]) for place in columns])
    section_of = np.array([id(section) for section, _, _ in columns])
    by_data: dict[str, dict[int, np.ndarray]] = {}
    for section, _, _ in columns:
        by_data.setdefault(section.dataset, {})[id(section)] = of_columns[section_of == id(section)].mean(axis=0)
    of_data = np.array([rankdata(np.mean(list(tasks.values()), axis=0)) for tasks in by_data.values()])
    over, ranks = ("data sets", of_data) if len(of_data) > 1 else ("columns", of_columns)
    enough = len(complete) >= 3 and len(ranks) >= 2
    difference = critical_difference(ranks, lower_is_better=True) if enough else None
    return Standing(title, complete, columns, over, len(ranks), difference, ranks.mean(axis=0))


def counted(standing: Standing) -> str:
    """What the mean ranks are over, in words: "3 data sets", "1 column"."""
    return f"{standing.count} {standing.over if standing.count != 1 else standing.over.removesuffix('s')}"


def groups_in_words(standing: Standing) -> str:
    """Friedman's p, the critical difference, and who is not told apart."""
    found = standing.difference
    if found is None:
        return f"Friedman's test needs three encoders and two {standing.over}."
    names = [encoder.title for encoder in standing.encoders]
    groups = "; ".join(", ".join(names[k] for k in group) for group in found.groups) or "none"
    alike = "" if standing.over == "data sets" else ", of one data set, which are not independent"
    if found.critical >= len(names) - 1:
        groups = f"all of them, whatever their ranks: {standing.count} {standing.over} are too few for {len(names)} encoders"
    p = f"p {'< 0.001' if found.p_friedman < 0.001 else f'= {found.p_friedman:.3f}'}"
    p = p if standing.count >= FEWEST_SETS else f"no p with fewer than {FEWEST_SETS} of them"
    return (f"Friedman's test over {standing.count} {standing.over}{alike}: {p}; critical difference of mean ranks (Nemenyi, 5 %) "
            f"{found.critical:.2f}. Not told apart: {groups}.")  # fmt: skip


def rank_drawing(standing: Standing, reference: str) -> Html | None:
    """The critical-difference diagram of a standing; None where there are too few encoders or columns for one."""
    if standing.difference is None:
        return None
    places = [Place(e.title, float(rank), role="reference" if e.name == reference else "control" if e.control else "encoder")
              for e, rank in zip(standing.encoders, standing.mean_ranks, strict=True)]  # fmt: skip
    return rank_diagram(places, standing.difference.critical, standing.difference.groups, standing.title)


def rank_figure(sections: Sequence[Section], encoders: Sequence[Encoder], reference: str) -> bytes:
    """ranks.svg: the critical-difference diagrams that the page shows, one per task and one over all, as one file."""
    title = next(encoder.title for encoder in encoders if encoder.name == reference)
    found = standings(sections, encoders)
    parts = [(f"{one.title}, {counted(one)}", [groups_in_words(one)],
              rank_drawing(one, reference)) for one in found]  # fmt: skip
    how = ["Dot: mean rank over data sets (over columns where there is one), 1 is best. Bars at the right join encoders whose mean ranks "
           f"lie closer than the critical difference (Friedman and Nemenyi, 5 %). Blue: {title}; hollow: controls. This is a picture; the "
           "test is the table of significance."]  # fmt: skip
    nothing = ["No two encoders have a value in every column, so there is nothing to rank."]
    return standing_alone([("Mean ranks", how if found else nothing, None), *parts], "Mean ranks of the encoders, 1 is best")


def _ranks(sections: Sequence[Section], encoders: Sequence[Encoder]) -> Table:
    """Rank with interval per column, and the mean over data sets with its critical difference."""
    by_name = {encoder.name: encoder for encoder in encoders}
    rows = [_who(one, by_name[row["encoder"]]) | row | {"dataset": one.dataset, "columns": 1}
            for one in sections for row in one.more.get("ranks") or [] if row["encoder"] in by_name]  # fmt: skip
    panels = []
    for standing in standings(sections, encoders):
        found = standing.difference
        p = found.p_friedman if found and standing.count >= FEWEST_SETS else None
        for encoder, mean in zip(standing.encoders, standing.mean_ranks, strict=True):
            rows.append({"task": standing.title, "encoder": encoder.name, "encoder_title": encoder.title, "control": encoder.control,
                         "target": f"mean over {standing.over}", "averaged_over": standing.count, "rank": float(mean),
                         "encoders": len(standing.encoders),
                         "columns": len(standing.columns), "p_friedman": p,
                         "critical_difference": found.critical if found else None})  # fmt: skip
        panels += _rank_panels(standing, sections, encoders)
    panels = panels or _nothing("No two encoders have a value in every column, so there is nothing to rank.")
    return Table("ranks", "Ranks", "Ranks of the encoders, 1 is best", RANK_COLUMNS, rows, panels)


def _rank_panels(standing: Standing, sections: Sequence[Section], encoders: Sequence[Encoder]) -> list[Panel]:
    """A block per data set, best mean rank first, with the mean of the task; over all tasks the mean alone."""
    of = {(id(s), r["target"], r["metric"], r["encoder"]): r for s in sections for r in s.more.get("ranks") or []}
    titles = {(id(s), target, metric): title for s in sections for title, target, metric in s.displayed()}
    whole = standing.title == "All tasks"
    blocks: dict[str, list[tuple[Section, str, str]]] = {}
    for place in standing.columns:
        blocks.setdefault("" if whole else f": {place[0].title}", []).append(place)
    order = np.argsort(standing.mean_ranks, kind="stable")
    panels = []
    for block, columns in blocks.items():
        shown = [] if whole else columns
        lines = []
        for k in order:
            encoder = standing.encoders[k]
            cells = [_rank_cell(of.get((id(s), t, m, encoder.name), {})) for s, t, m in shown]
            lines.append([_name(encoder), *cells, f"{standing.mean_ranks[k]:.2f}"])
        header = ["Encoder", *(titles[id(s), t, m] for s, t, m in shown), f"Mean of {counted(standing)}"]
        panels.append(Panel(standing.title + block, header, lines, notes=[]))
    notes = panels[-1].notes
    notes.append(groups_in_words(standing))
    if not whole:
        drawn = dict.fromkeys(resampling(section) for section, _, _ in standing.columns)
        how = ["[95 % interval of the rank over resamples that all encoders share], " + "; ".join(drawn) + "."]
        how += ["In a data set the rank is that of its mean rank."] if standing.over == "data sets" else []
        how += ["Of several metrics of a label the first counts."] if any(s.table != 5 and len(s.metrics) > 1 for s in sections) else []
        how += ["The critical difference is a picture only; the table of significance is the test."] if standing.difference else []
        notes.append(" ".join(how))
    absent = [e.title for e in encoders if e not in standing.encoders]
    notes += [f"– {', '.join(absent)}: not ranked, without a value in some column"] if absent else []
    return panels


def _rank_cell(row: Mapping[str, str]) -> Cell:
    return Cell(f"{float(row['rank']):g}", f"[{float(row['low']):g}, {float(row['high']):g}]") if row.get("low") else Cell("–")


# ---------------------------------------------------------------- learning curves


def _learning_curves(sections: Sequence[Section], encoders: Sequence[Encoder]) -> Table:
    """AUPRC against the number of images in the set to learn from."""
    rows, panels = [], []
    by_name = {encoder.name: encoder for encoder in encoders}
    for one in sections:
        found = [row for row in one.more.get("learning_curves") or [] if row["encoder"] in by_name]
        rows += [_who(one, by_name[row["encoder"]]) | row | {name: points(row[name]) for name in ("value", "sd", "low", "high")}
                 | {"dataset": one.dataset, "unit": "points"} for row in found]  # fmt: skip
        target = curve_target(found)
        if target is None:
            continue
        counts = sorted({int(row["train_images"]) for row in found})
        of = {(r["encoder"], int(r["train_images"])): r for r in found if (r["target"], r["metric"]) == (target, "auprc")}
        present = [e for e in encoders if any((e.name, n) in of for n in counts)]
        lines = [[_name(e), *(_points_cell(of.get((e.name, n), {})) for n in counts)] for e in present]
        notes = [f"AUPRC of {one.columns.get(target, target)} with that many images in the set to learn from, the full probe last; the "
                 f"smaller sets lie in the larger. {_learned(one)}[95 % percentile interval], {resampling(one)}"
                 f"{_used(one, SUBGROUP_RESAMPLES)}. Other labels and AUROC: in the CSV."]  # fmt: skip
        panels.append(Panel(one.title, ["Encoder", *(f"{n:,}" for n in counts)], lines, notes=notes))
    panels = panels or _nothing("No learning curve was measured: the predictions carry no smaller training sets.")
    return Table(
        "learning_curves", "Learning curves", "Score against the size of the set to learn from, points", CURVE_COLUMNS, rows, panels
    )


def _learned(one: Section) -> str:
    """What of a set the probes learn from, which is not all that the number of its images counts."""
    runs = max((int(row["replicates"]) for row in one.more.get("learning_curves") or [] if row["replicates"]), default=0)
    folds = f", and each of the {runs} probes learns from {runs - 1} of the set's {runs} folds" if runs > 1 else ""
    return f"Not every image need have every label{folds if one.facts.get('replicates') == 'folds' else ''}. "


def curve_target(found: Sequence[Mapping[str, str]]) -> str | None:
    """The mean over most labels, or the only label."""
    targets = list(dict.fromkeys(row["target"] for row in found if row["metric"] == "auprc"))
    aggregates = sorted((t for t in targets if t.startswith("Agg-")), key=lambda t: int(t[4:]))
    return aggregates[-1] if aggregates else targets[0] if targets else None


# ---------------------------------------------------------------- cost and quality


def cost_rows(sections: Sequence[Section], encoders: Sequence[Encoder], sidecars: Sequence[Sidecar]) -> list[dict[str, Any]]:
    """Size, computing time by stage, and mean quality of each encoder; Pareto-optimal ones marked.

    Args:
        sidecars: each artefact once; those of stages of an encoder are counted.

    Pareto-optimal: no other encoder with the same stages took at most as long in all and has a mean rank at least as good,
    one of them strictly. Controls are compared like all others.
    """
    spent = _spent(sidecars)
    ranked = {s.title: s for s in standings(sections, encoders)}
    overall = ranked.get("All tasks") or next(iter(ranked.values()), None)
    ranks = {} if overall is None else {e.name: float(r) for e, r in zip(overall.encoders, overall.mean_ranks, strict=True)}
    rows = []
    for encoder in encoders:
        row: dict[str, Any] = {"encoder": encoder.name, "encoder_title": encoder.title, "control": encoder.control}
        row["parameters"] = _known(encoder, "params")
        row |= {name: _known(encoder, name) for name in ("image_size", "tokens")}
        for stage in STAGES:
            costs = spent.get((encoder.name, stage)) or []
            if costs:
                row |= {f"{stage}_seconds": float(sum(c["seconds"] for c in costs)), f"{stage}_gpu_seconds": _on_gpu(costs),
                        f"{stage}_device": ", ".join(dict.fromkeys(str(c.get("device") or "?") for c in costs))}  # fmt: skip
        seconds = [row[f"{stage}_seconds"] for stage in STAGES if f"{stage}_seconds" in row]
        row |= (
            {"seconds": float(sum(seconds)), "gpu_seconds": float(sum(row.get(f"{s}_gpu_seconds", 0.0) for s in STAGES))} if seconds else {}
        )
        row |= {
            "auprc": _mean(sections, encoder, 3, "auprc"),
            "dice": _mean(sections, encoder, 4, "dice"),
            "mean_rank": ranks.get(encoder.name),
        }
        rows.append(row)
    whole = set.union(set(), *(_stages(row) for row in rows))
    for row in rows:
        if row.get("seconds") is None or row["mean_rank"] is None or _stages(row) != whole:
            row |= {"pareto": None, "reason": "no cost recorded" if row.get("seconds") is None else "no value in some column"
                    if row["mean_rank"] is None else "some stage of this encoder has no cost"}  # fmt: skip
    compared = [row for row in rows if "pareto" not in row]
    for row in compared:
        row["pareto"] = not any(_dominates(other, row) for other in compared)
    return rows


def _stages(row: Mapping[str, Any]) -> set[str]:
    return {stage for stage in STAGES if f"{stage}_seconds" in row}


def _dominates(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    a, b = (one["seconds"], one["mean_rank"]), (other["seconds"], other["mean_rank"])
    return a[0] <= b[0] and a[1] <= b[1] and a != b


def _known(encoder: Encoder, name: str) -> Any:
    """As measured, or else as the card says."""
    return encoder.measured.get(name) if encoder.measured.get(name) is not None else encoder.card.get(name)


def _mean(sections: Sequence[Section], encoder: Encoder, table: int, metric: str) -> float | None:
    """Mean over the columns of a metric, points; None if one is missing."""
    places = [(s, t, m) for s in sections if s.table == table for _, t, m in s.displayed() if m == metric and not t.startswith("Agg-")]
    values = [points(find_estimate(s, encoder, t, m).get("value")) for s, t, m in places]
    return float(np.mean(values)) if values and None not in values else None


def _on_gpu(costs: Iterable[Mapping[str, Any]]) -> float:
    """Seconds on a device that is no CPU, unless the stage counted them itself."""
    return float(sum(c["gpu_seconds"] if c.get("gpu_seconds") is not None else c["seconds"] * (c.get("device") not in ("cpu", "none", None))
                     for c in costs))  # fmt: skip


#: Kind of artefact -> stage that it is counted under, and where in its name the encoder stands.
_STAGE_OF = {"features": ("features", 1), "linear_probe": ("linear_probe", 2), "segmentation": ("segmentation", 2),
             "report_model": ("report", 2), "report_generation": ("report", 2)}  # fmt: skip


def _spent(sidecars: Sequence[Sidecar]) -> dict[tuple[str, str], list[Mapping[str, Any]]]:
    """Costs by (encoder, stage)."""
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for sidecar in sidecars:
        parts, cost = str(sidecar.content.get("name", "")).split("/"), sidecar.content.get("cost") or {}
        if len(parts) == 3 and parts[0] in _STAGE_OF and sidecar.state == "ok" and cost.get("seconds") is not None:
            stage, place = _STAGE_OF[parts[0]]
            found.setdefault((parts[place], stage), []).append(cost)
    return found


def cost_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Rows of `cost_rows` as a table."""
    caption = "Computing time of each encoder beside its quality"
    shown = [row for row in rows if row.get("seconds") is not None or row["mean_rank"] is not None]
    if not shown:
        return Table("cost_quality", "Cost and quality", caption, COST_COLUMNS, rows,
                     _nothing("No stage has recorded a cost and no encoder has a value in every column."))  # fmt: skip
    stages = [stage for stage in STAGES if any(f"{stage}_seconds" in row for row in shown)]
    titles = {"features": "Features, s", "linear_probe": "Probe, s", "segmentation": "Segm., s", "report": "Reports, s"}
    header = ["Encoder", "Param.", "Input", "Tokens", *(titles[stage] for stage in stages), "All, s", "GPU, s", "AUPRC", "Dice",
              "Mean rank", "Pareto"]  # fmt: skip

    def text(value: Any, form: str = "{:,.1f}") -> str:
        return "–" if value is None else form.format(value)

    lines = []
    for row in shown:
        parameters = row["parameters"]
        lines.append([row["encoder_title"] + (" (control)" if row["control"] else ""),
                      "–" if parameters is None else f"{parameters / 1e6:.1f} M", text(row["image_size"], "{}"), text(row["tokens"], "{}"),
                      *(text(row.get(f"{stage}_seconds")) for stage in stages), text(row.get("seconds")), text(row.get("gpu_seconds")),
                      text(row["auprc"]), text(row["dice"]), text(row["mean_rank"], "{:.2f}"), "✓" if row["pareto"] else ""])  # fmt: skip
    devices = sorted({row[f"{stage}_device"] for row in rows for stage in STAGES if f"{stage}_device" in row})
    notes = ["Seconds are those of the stage as it was run, summed over data sets, work of the encoder and of the task together; AUPRC and "
             "Dice are means over columns, points. ✓: no other encoder has both a better mean rank and a shorter time."]  # fmt: skip
    if devices:
        notes.append(f"Devices: {', '.join(devices)}." + (" Seconds of different devices are not comparable." if len(devices) > 1 else ""))
    else:
        notes.append("No stage has recorded a cost.")
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row.get("reason") and devices:
            reasons.setdefault(row["reason"], []).append(row["encoder_title"])
    notes += [f"– {', '.join(who)}: {reason}, so not judged" for reason, who in reasons.items()]
    return Table("cost_quality", "Cost and quality", caption, COST_COLUMNS, rows, [Panel("Cost and quality", header, lines,
                 "l" + "r" * (len(header) - 2) + "c", notes)])  # fmt: skip
