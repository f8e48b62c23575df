"""Sections of the page that draw what the supplementary tables hold: ranks, calibration, subgroups, learning, cost and quality."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .figures import Interval, Place, curves, forest, legend_line, reliability, scatter
from .measures import LOWER_IS_BETTER
from .page import Html, details, join, panel_table, read_markdown, tag
from .run import Run
from .scores import METRIC_TITLES, TASKS, Encoder, Section, points
from .subgroups import GAP, GROUP, SMALLEST, SMALLEST_CLASS
from .subgroups import METRICS as SUBGROUP_METRICS
from .supplement import GROUPING_TITLES, counted, curve_target, groups_in_words, rank_drawing, standings

#: Lines in one figure: the reference and the best others.
LINES = 4

HOW_TO_READ_RANKS = (
    "1 is the best; dot: mean over data sets, or over the columns of the only one. An orange bar joins encoders whose mean ranks lie "
    "closer than the critical difference (Friedman and Nemenyi, 5 %). This is a picture; the table of significance is the test."
)
HOW_TO_READ_RELIABILITY = (
    "Of the images to which a probe gives about 30 %, do 30 % have the finding? To the right: the probability that was said, upwards: the "
    "share that was found, both in percent, in bins of equally many images. Below the dashed line a probe says too much. Shown: "
)
HOW_TO_READ_CURVES = (
    "Score against the number of images in the set to learn from, on the same test images. Not every image need have every label, and "
    "where replicates are folds each probe leaves one fold of the set out. Shown: "
)
HOW_TO_READ_SUBGROUPS = (
    "Scores of {reference} by group, and each encoder's gap between its best and its worst group. Both groups are chosen on these data, so "
    "a gap is above zero by chance alone. AUPRC moves with the share of positives, which is why groups are compared by AUROC."
)


def _table(run: Run, name: str, out: Path) -> Html | None:
    """A supplementary table as it was written, to unfold, with its files."""
    if run.tables is None:
        return None
    _, panels = read_markdown(run.tables.verified(f"{name}.md").read_text(encoding="utf-8"))
    files = [tag("a", text, href=Path(os.path.relpath(run.tables.folder / f"{name}.{suffix}", out)).as_posix())
             for suffix, text in (("csv", "CSV, all digits"), ("tex", "LaTeX"))]  # fmt: skip
    return details("The table", tag("p", files[0], " · ", files[1], class_="soft"), *map(panel_table, panels))


def _role(run: Run, encoder: Encoder) -> str:
    return "reference" if encoder is run.reference else "control" if encoder.control else "encoder"


def _leading(run: Run, one: Section, target: str, metric: str, among: Sequence[str]) -> list[Encoder]:
    """The reference and the best others, at most `LINES`, of the encoders named: in the run's order, so that a line looks alike in all."""
    sign = 1 if metric in LOWER_IS_BETTER else -1

    def place(encoder: Encoder) -> tuple[bool, float]:
        value = run.value(one, encoder, target, metric)
        return encoder is not run.reference, np.inf if value is None else sign * value

    best = sorted((e for e in run.encoders if e.name in among), key=place)[:LINES]
    return sorted(best, key=lambda encoder: (encoder is not run.reference, run.encoders.index(encoder)))


def _key(encoders: Sequence[Encoder]) -> Html:
    return tag("ul", [tag("li", legend_line(k), f" {e.title}") for k, e in enumerate(encoders)], class_="key")


# ---------------------------------------------------------------- ranks


def ranks_section(run: Run, out: Path) -> Iterator[Html]:
    """Critical-difference diagrams, one per task and one over all."""
    found = standings([one for of_table in run.sections.values() for one in of_table], run.encoders)
    if not found:
        yield tag("p", "No two encoders have a value in every column, so there is nothing to rank.")
        return
    yield tag("p", HOW_TO_READ_RANKS)
    figures = []
    for standing in found:
        caption = tag("figcaption", tag("strong", standing.title), f", {counted(standing)}. ", groups_in_words(standing))
        figures.append(tag("figure", caption, rank_drawing(standing, run.reference.name)))
    yield tag("div", figures, class_="figures")
    yield _table(run, "ranks", out) or Html("")


# ---------------------------------------------------------------- calibration


def calibration_section(run: Run, out: Path) -> Iterator[Html]:
    """Reliability plots, one per label."""
    drawn = False
    for one in run.sections[3]:
        rows = one.more.get("reliability") or []
        labels = [label for label in one.columns if any(row["target"] == label for row in rows)]
        if not labels:
            continue
        whole = curve_target([{"target": t, "metric": "auprc"} for _, t, m in one.estimates if m == "brier"]) or labels[0]
        encoders = _leading(run, one, whole, "brier", {row["encoder"] for row in rows})
        if not drawn:
            yield tag("p", HOW_TO_READ_RELIABILITY, f"{run.reference.title} and the others with the best Brier score.")
        drawn = True
        yield tag("h3", one.title)
        yield _key(encoders)
        figures = []
        for label in labels:
            lines = {}
            for k, encoder in enumerate(encoders):
                of = [row for row in rows if (row["encoder"], row["target"]) == (encoder.name, label)]
                if of:
                    lines[k] = tuple(np.array([float(row[name]) for row in of]) for name in ("probability", "observed"))
            figures.append(tag("figure", tag("figcaption", tag("strong", label)), reliability(lines, label)))
        yield tag("div", figures, class_="figures")
    if not drawn:
        yield tag("p", "There are no probabilities to judge: classification was not run, or its scores are no probabilities.")
    yield _table(run, "calibration", out) or Html("")


# ---------------------------------------------------------------- subgroups


def subgroups_section(run: Run, out: Path) -> Iterator[Html]:
    """The reference by group, and every encoder's gap."""
    sections = [one for of_table in run.sections.values() for one in of_table if one.more.get("subgroups")]
    if not sections:
        yield tag("p", "No subgroups are known: the predictions carry no sex, age band, view or site, or one value of each.")
        return
    yield tag("p", HOW_TO_READ_SUBGROUPS.format(reference=run.reference.title))
    for one in sections:
        rows = one.more["subgroups"]
        metric = SUBGROUP_METRICS[TASKS[one.table]][0]
        yield tag("h3", f"{one.title}, {METRIC_TITLES[metric]}")
        drawn = False
        for number, grouping in enumerate(dict.fromkeys(row["grouping"] for row in rows)):
            of = [row for row in rows if row["grouping"] == grouping and row["metric"] == metric]
            targets = [target for target in dict.fromkeys(row["target"] for row in of) if one.table == 5 or target in one.columns]
            figures = [_subgroup_figure(run, one, [row for row in of if row["target"] == target], target) for target in targets]
            if any(figures):
                title = f"By {GROUPING_TITLES.get(grouping, grouping)}"
                drawn = True
                yield details(title, tag("div", figures, class_="figures"), open_=number == 0)
        if not drawn:
            yield tag("p", f"No two groups of a kind have the patients that numbers need ({SMALLEST}, of a structure {SMALLEST} who have "
                      f"it, of a finding {SMALLEST_CLASS} with it and {SMALLEST_CLASS} without); the table names them.")  # fmt: skip
    yield _table(run, "subgroups", out) or Html("")


def _subgroup_figure(run: Run, one: Section, rows: Sequence[Mapping[str, str]], target: str) -> Html | None:
    by_name = {encoder.name: encoder for encoder in run.encoders}
    groups = [Interval(f"{row['group']}, {row['n_patients']} patients", *_numbers(row), "reference") for row in rows
              if row["kind"] == GROUP and row["encoder"] == run.reference.name and row["value"]]  # fmt: skip
    gaps = [Interval(f"{by_name[row['encoder']].title}: {row['worst']} worst", *_numbers(row), _role(run, by_name[row["encoder"]]))
            for row in rows if row["kind"] == GAP and row["encoder"] in by_name]  # fmt: skip
    if not gaps:
        return None
    name = METRIC_TITLES[rows[0]["metric"]] if one.table == 5 else one.columns.get(target, target) if one.table == 4 else target
    return tag(
        "figure", tag("figcaption", tag("strong", name)), forest(groups, name) if groups else None,
        tag("p", "Best minus worst group", class_="strip soft"), forest(gaps, f"{name}, best minus worst group", difference=True),
    )  # fmt: skip


def _numbers(row: Mapping[str, str]) -> tuple[float | None, float | None, float | None]:
    return points(row["value"]), points(row["low"]), points(row["high"])


# ---------------------------------------------------------------- learning curves


def learning_section(run: Run, out: Path) -> Iterator[Html]:
    """Score over the number of training images, one figure per data set and metric."""
    drawn = False
    for one in run.sections[3]:
        rows = one.more.get("learning_curves") or []
        target = curve_target(rows)
        if target is None:
            continue
        if len({row["train_images"] for row in rows if row["value"]}) < 2:
            continue  # the full probe alone is no curve
        encoders = _leading(run, one, target, "auprc", {row["encoder"] for row in rows})
        if not drawn:
            yield tag("p", HOW_TO_READ_CURVES, f"{run.reference.title} and the others with the best AUPRC of the full probe.")
        drawn = True
        yield tag("h3", one.title)
        yield _key(encoders)
        figures = []
        for metric in ("auprc", "auroc"):
            lines = {}
            for k, encoder in enumerate(encoders):
                own = [row for row in rows if (row["encoder"], row["target"], row["metric"]) == (encoder.name, target, metric)]
                of = sorted((int(row["train_images"]), points(row["value"])) for row in own if row["value"])
                if of:
                    lines[k] = tuple(np.array(column, dtype=float) for column in zip(*of, strict=True))
            name = f"{one.columns.get(target, target)} {METRIC_TITLES[metric]}"
            if lines:
                figures.append(tag("figure", tag("figcaption", tag("strong", name), ", over images to learn from"),
                                   curves(lines, name, "images to learn from", ratio=True, dots=True)))  # fmt: skip
        yield tag("div", figures, class_="figures")
    if not drawn:
        yield tag("p", "No learning curve was measured: the probes learned from all training images only (shares of their protocol).")
    yield _table(run, "learning_curves", out) or Html("")


# ---------------------------------------------------------------- cost and quality


def cost_quality(rows: Sequence[Mapping[str, Any]], panels: Sequence[Any]) -> Iterator[Html]:
    """Mean rank over computing time, from the rows of `supplement.cost_rows`."""
    yield tag("h3", "Cost and quality")
    shown = [row for row in rows if row.get("seconds") and row["mean_rank"] is not None]
    if len(shown) > 1:
        yield tag("p", "Mean rank, best on top, against the seconds of all stages of an encoder. Filled: no other "
                  "encoder is both faster and better; controls are grey. Seconds of different machines are not comparable.")  # fmt: skip
        places = [Place(row["encoder_title"], row["seconds"], row["mean_rank"], "control" if row["control"] else "encoder",
                        bool(row["pareto"])) for row in shown]  # fmt: skip
        names = tag("ol", [tag("li", place.label + " (control)" * (place.role == "control")) for place in places], class_="names")
        caption = tag("figcaption", tag("strong", "Mean rank"), " over seconds")
        yield tag("figure", caption, scatter(places, "Mean rank over seconds", "mean rank"), names)
    files = join(tag("a", "CSV, all digits", href="cost_quality.csv"), " · ", tag("a", "LaTeX", href="cost_quality.tex"))
    yield tag("p", files, class_="soft")
    yield from map(panel_table, panels)
