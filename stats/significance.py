"""Table 6: is the reference encoder better, column by column, and against whom?

The paper names neither test, unit, baseline nor correction. Here: paired bootstrap over patients, one-sided, Holm over
the family of all columns of Tables 3 to 5 (aggregates and the second ROUGE-L convention are not columns of their own,
nor is a label without a printed column on data that the paper prints, such as the seventh of VinDr-CXR).
A column with fewer than `scores.FEW` patients, of a
label in either class, has a p in the CSV but no mark, and is not of the family: a handful of patients drawn again and again agree with
each other, so that p is small by chance.
Two baseline rules stand side by side. ``best``: better than the best other encoder of that column means better than every other, so each
one-sided p is the largest of those against the others (intersection-union test: Berger 1982, Technometrics 24:295-300), which holds
its level however alike they are. The p against the one that came out best does not: which one that is was read off the same patients,
and against one that errs as the reference does any small lead is significant. ``fixed``: one named encoder in every column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .bootstrap import minimum_detectable_difference
from .figures import signed
from .measures import BIASED_UP, LOWER_IS_BETTER, gain
from .multiplicity import benjamini_hochberg, holm
from .published import Published, same_model
from .scores import METRIC_TITLES, Encoder, Section, find_estimate, other_conditions, points, resampling, too_few
from .typeset import Cell, Panel

ALPHA = 0.05
#: Whose outcomes the paper's Table 6 prints.
TESTED = "RadJEPA"

#: Columns of comparisons.csv; the first decides, the others stand beside it.
TESTS = ("p_one_sided", "p_two_sided", "p_two_level", "p_two_level_two_sided", "p_sign_flip", "p_sign_flip_two_sided", "p_wilcoxon",
         "p_wilcoxon_two_sided", "p_delong", "p_delong_two_sided", "p_mcnemar", "p_mcnemar_two_sided", "p_corrected_t",
         "p_corrected_t_two_sided", "p_non_inferior", "p_equivalent")  # fmt: skip

SIGNIFICANCE_COLUMNS = (
    "table", "rule", "reference", "other", "other_title", "dataset", "dataset_title", "column", "target",
    "metric", "unit", "delta", "low", "high", "two_level_low", "two_level_high", "sd_delta", "correlation",
    "mde", "mde_family", "margin", "power_margin", "p_one_sided",
    "p_holm", "p_bh", *TESTS[1:], "p_against", "family_size", "resamples_valid", "outcome", "published_outcome", "verdict", "reason",
)  # fmt: skip

OUTCOME_MARKS = {"significant_improvement": "✓✓", "nonsignificant_improvement": "✓", "no_improvement": "✗"}
OUTCOME_WORDS = {"significant_improvement": "significant", "nonsignificant_improvement": "improvement, not significant",
                 "no_improvement": "no improvement"}  # fmt: skip

BEST, BEST_CONTROL, FIXED = "best other encoder", "best control (no other encoder present)", "fixed"


def significance_rows(
    sections: Sequence[Section], encoders: Sequence[Encoder], reference: str, published: Published
) -> list[dict[str, Any]]:
    """Rows of table6.csv: the family against the best other per column, then against each fixed other.

    ``delta``, its interval, ``sd_delta``, ``mde`` and ``margin`` are in points; p values are fractions, empty where a cell has no
    comparison. Each baseline is a family of its own for ``p_holm`` (which decides, at ALPHA) and ``p_bh`` (`stats.multiplicity`);
    ``family_size`` counts its finite p. Against the best other, each one-sided p is the largest over all others and ``p_against`` the
    one to which ``p_one_sided`` belongs; ``delta`` and all else, two-sided p included, belong to the best one by value. ``mde`` is that
    of one test at ALPHA, ``mde_family`` that of a test which Holm holds to ALPHA / ``family_size``, as it does the smallest p.

    Args:
        sections: Tables 3 to 5, read from the statistics folders.
        reference: id of the encoder that is tested.

    Raises:
        KeyError: ``reference`` is not among ``encoders``.
    """
    by_name = {encoder.name: encoder for encoder in encoders}
    others = [encoder for encoder in encoders if encoder.name != reference]
    columns = [(section, *column) for section in sections for column in _family(section, published)]
    rows: list[dict[str, Any]] = []
    for fixed in [None, *others]:
        family = []
        for section, title, target, metric in columns:
            rule, other = (FIXED, fixed) if fixed else _best(section, others, target, metric)
            row = _row(section, title, target, metric, by_name[reference], rule, other)
            if not fixed and row["p_one_sided"] is not None:
                rivals = [one for one in others if one.control == row["other_control"]]
                row |= _against_all(section, reference, rivals, target, metric)
            family.append(row | _printed(section, row, encoders, published))
        p = np.array([np.nan if row["p_one_sided"] is None or row["too_few"] else row["p_one_sided"] for row in family])
        for row, p_holm, p_bh in zip(family, holm(p), benjamini_hochberg(p), strict=True):
            size = int(np.isfinite(p).sum())
            row |= {"p_holm": p_holm, "p_bh": p_bh, "family_size": size}
            if row.get("sd_delta") is not None and size and not row["too_few"]:
                row["mde_family"] = minimum_detectable_difference(row["sd_delta"], ALPHA / size)
            _conclude(row)
        rows += family
    return rows


def _family(section: Section, published: Published) -> list[tuple[str, str, str]]:
    """(title, target, metric) of the tested columns; the metric has a column of its own here."""
    outside = unprinted(section, published)
    return [
        (section.columns.get(target, "Report"), target, metric)
        for _, target, metric in section.displayed()
        if not target.startswith("Agg-") and metric != "rouge_l_coco" and metric not in BIASED_UP and target not in outside
    ]


def unprinted(section: Section, published: Published) -> list[str]:
    """Labels of a data set of the paper's Table 3 for which it prints no column: measured, but not of the family of Table 6.

    Empty for other tables, for data without a published table, and where nothing is printed at all.
    """
    if section.table != 3 or not section.paper:
        return []
    printed = published.printed_columns(section.table, section.paper)
    return [target for target in section.columns if printed and not printed & {name.lower() for name in section.names(target)}]


def _best(section: Section, others: Sequence[Encoder], target: str, metric: str) -> tuple[str, Encoder | None]:
    """Best other encoder by value; only where no proper encoder has a value, the best control, and said so."""
    proper, controls = [o for o in others if not o.control], [o for o in others if o.control]
    for rule, candidates in ((BEST, proper), (BEST_CONTROL, controls)):
        values = [(points(find_estimate(section, o, target, metric).get("value")), o) for o in candidates]
        values = [(value, other) for value, other in values if value is not None]
        if values:
            return rule, max(values, key=lambda pair: gain(metric, pair[0]))[1]
    return BEST, None


def _against_all(section: Section, reference: str, rivals: Sequence[Encoder], target: str, metric: str) -> dict[str, Any]:
    """The largest p of each one-sided test over the rivals, and which of them the deciding one belongs to."""
    pairs = {one.name: section.comparisons.get((reference, one.name, target, metric), {}) for one in rivals}
    p = {test: {name: float(pair[test]) for name, pair in pairs.items() if pair.get(test)}
         for test in TESTS if not test.endswith("two_sided") and test != "p_equivalent"}  # fmt: skip
    largest: dict[str, Any] = {test: max(of.values(), default=None) for test, of in p.items()}
    against = max(p[TESTS[0]], key=p[TESTS[0]].__getitem__, default="")
    return largest | {"p_against": against, "p_against_title": next((one.title for one in rivals if one.name == against), "")}


def _row(section: Section, title: str, target: str, metric: str, reference: Encoder, rule: str, other: Encoder | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "table": section.table, "rule": rule, "reference": reference.name, "other": other.name if other else "",
        "other_title": other.title if other else "", "other_control": bool(other and other.control), "dataset": section.dataset,
        "dataset_title": section.title, "column": title, "target": target, "metric": metric, "unit": "points", "p_one_sided": None,
        "paper": section.paper, "gap": "", "too_few": "", "replicates": "",
    }  # fmt: skip
    own = find_estimate(section, reference, target, metric)
    theirs = find_estimate(section, other, target, metric) if other else {}
    comparison = section.comparisons.get((reference.name, row["other"], target, metric))
    if not own.get("value"):
        row["gap"] = f"{reference.title}: {own.get('reason')}"
    elif other is None:
        row["gap"] = "no other encoder has a value"
    elif not theirs.get("value"):
        row["gap"] = f"{other.title}: {theirs.get('reason')}"
    elif comparison is None:
        row["gap"] = f"{reference.title} against {other.title} is not among the comparisons"
    else:
        row |= {name: points(comparison.get(name))
                for name in ("delta", "low", "high", "two_level_low", "two_level_high", "sd_delta", "mde", "margin")}  # fmt: skip
        row |= {name: float(comparison[name]) if comparison.get(name) else None for name in (*TESTS, "correlation", "power_margin")}
        row |= {"resamples_valid": comparison["resamples_valid"], "too_few": too_few(own)}
        row["replicates"] = max(own["replicates"], theirs["replicates"], key=int)
    return row


def _printed(section: Section, row: Mapping[str, Any], encoders: Sequence[Encoder], published: Published) -> dict[str, str]:
    """The outcome that the paper prints for a row's column, and why the row says nothing about it (empty where it does)."""
    target, metric = row["target"], row["metric"]
    printed = published.outcome_row(section.paper, metric, section.names(target)) if section.paper else None
    if not printed:
        return {"published_outcome": "", "incomparable": ""}
    present = {e.name: e for e in encoders if find_estimate(section, e, target, metric).get("value")}
    best = published.best_other(section.table, section.paper, metric, section.names(target), TESTED)
    pair = [present[name] for name in (row["reference"], row["other"]) if name in present]
    conditions = [other_conditions(find_estimate(section, e, target, metric), published.test_size(section.paper)) for e in pair]
    if row["rule"] == BEST_CONTROL:
        why = "no encoder but controls is in this run"
    elif row["rule"] != BEST:
        why = "the paper's outcomes fit a best-per-column baseline"
    elif pair and not same_model(TESTED, pair[0].paper_name):
        why = f"{pair[0].title} is not the paper's {TESTED}"
    elif len(pair) > 1 and pair[1].paper_name.lower().startswith(TESTED.lower()):
        why = f"the best other, {pair[1].title}, is itself a {TESTED}"
    elif any(conditions):
        why = next(filter(None, conditions))
    elif best and not any(same_model(best.model, e.paper_name) for e in present.values()):
        why = f"the paper's best other row of this column, {best.model}, is not in this run"
    else:
        why = ""
    return {"published_outcome": printed["outcome"], "incomparable": why}


def _conclude(row: dict[str, Any]) -> None:
    """Outcome and verdict, once the family is complete."""
    delta = row.get("delta")
    if row["too_few"]:
        row |= {"outcome": "", "verdict": "not comparable", "reason": row["too_few"]}
        return
    if delta is None or not np.isfinite(row["p_holm"]):
        row |= {"outcome": "", "verdict": "not run", "reason": row["gap"] or "no valid resample"}
        return
    if gain(row["metric"], delta) <= 0:
        row["outcome"] = "no_improvement"
    else:
        row["outcome"] = "significant_improvement" if row["p_holm"] < ALPHA else "nonsignificant_improvement"
    if not row["paper"]:
        verdict = "not comparable", "no published value for these data"
    elif not row["published_outcome"]:
        verdict = "not comparable", "the paper prints no outcome for this column"
    elif row["incomparable"]:
        verdict = "not comparable", row["incomparable"]
    elif row["outcome"] == row["published_outcome"]:
        verdict = "reproduced", "same outcome as published"
    else:
        verdict = "differs", f"published: {OUTCOME_WORDS[row['published_outcome']]}"
    row["verdict"], row["reason"] = verdict


def significance_panels(
    rows: Sequence[Mapping[str, Any]], reference: Encoder, sections: Sequence[Section], published: Published
) -> list[Panel]:
    """The family against the best other in full, and one line of marks per fixed other.

    Differences in points with one decimal, p with three. The notes say what was drawn, what the marks mean, what was not tested
    and why, and whether so few resamples could reach significance at all: 1 / (B + 1) times the family must be below ALPHA.

    Args:
        rows: from :func:`significance_rows`.
    """
    best = [row for row in rows if row["rule"] != FIXED]
    printed = any(row["published_outcome"] for row in best)
    header = ["Data", "Column", "Metric", "Baseline", "Δ", "[95 %]", "p", "2-sided", "p Holm", "", *(["Paper"] if printed else [])]
    drawn = list(dict.fromkeys(resampling(section) for section in sections if not section.gap))
    table = [
        [row["dataset_title"], row["column"], METRIC_TITLES[row["metric"]],
         (row["other_title"] or "–") + (" (control)" if row["rule"] == BEST_CONTROL else ""),
         *_numbers(row), _mark(row["outcome"]), *([_mark(row["published_outcome"])] if printed else [])]
        for row in best
    ]  # fmt: skip
    lower = sorted({METRIC_TITLES[row["metric"]] for row in best if row["metric"] in LOWER_IS_BETTER})
    notes = [
        "✓✓ significant after Holm over the family (one-sided, 5 %); ✓ better, not significant; ✗ not better.",
        (
            f"Δ: {reference.title} minus baseline, points; paired bootstrap, {'; '.join(drawn) or 'nothing drawn'}. Family: the "
            f"{best[0]['family_size'] if best else 0} tested columns of all tasks, aggregates not among them."
        ),
        'p: one-sided, of "not better than every other", the largest over all others, and the one that Holm adjusts; 2-sided: of "no '
        'difference from the baseline shown in either direction", for a reader who had no direction in mind. Both from the same resamples.',
        *_largest_elsewhere(best),
        *(["Less is better in " + ", ".join(lower) + ": Δ below 0 speaks for the reference."] if lower else []),
        "The interval is two-sided and of one column: it is neither one-sided as p nor adjusted as p Holm, so it may reach past 0 beside "
        "✓✓ in a small family, or stay clear of 0 beside ✓ in a large one. The mark goes by p Holm.",
    ]
    if any(row["rule"] == BEST_CONTROL for row in best):
        notes.append("No encoder other than the controls is present: the baseline is the best control, a check that "
                     "the reference learnt something and not a comparison with the state of the art.")  # fmt: skip
    outside = [f"{one.title} {', '.join(one.columns[t] for t in labels)}" for one in sections if (labels := unprinted(one, published))]
    notes += [f"Measured but not tested, because the paper prints no such column: {'; '.join(outside)}."] if outside else []
    notes += _training(best)
    notes += _attainable(best)
    gaps: dict[str, list[str]] = {}
    few: dict[str, list[str]] = {}
    for row in best:
        if row["verdict"] == "not run" or row["too_few"]:
            metric = METRIC_TITLES[row["metric"]]
            where = row["column"] if metric in row["column"] else f"{row['column']} {metric}"
            (few if row["too_few"] else gaps).setdefault(row["reason"], []).append(f"{row['dataset_title']} {where}")
    if few:
        columns = "; ".join(f"{', '.join(where)} ({reason})" for reason, where in few.items())
        notes.append(f"Not tested, without a mark and not of the family: {columns}. So few agree with each other in every resample, and a "
                     "small p says little; it stands in the CSV all the same.")  # fmt: skip
    notes += [f"– {', '.join(where)}: {reason}" for reason, where in gaps.items()]

    others = {row["other"]: row["other_title"] + " (control)" * row["other_control"] for row in rows if row["rule"] == FIXED}
    fixed = {(r["other"], r["dataset"], r["target"], r["metric"]): r for r in rows if r["rule"] == FIXED}
    against = [
        [row["dataset_title"], row["column"], METRIC_TITLES[row["metric"]],
         *(_fixed_cell(fixed[name, row["dataset"], row["target"], row["metric"]]) for name in others)]
        for row in best
    ]  # fmt: skip
    title = f"{reference.title} against the best other encoder of each column"
    panels = [Panel(title, header, table, "llllrrrrrc" + "c" * printed, notes, lead=4)]
    if others:
        panels.append(Panel(f"{reference.title} against each fixed baseline",
                            ["Data", "Column", "Metric", *others.values()], against,
                            "lll" + "c" * len(others),
                            ["Δ in points and mark; each baseline is a family of its own for Holm. –: no value, or beside Δ too few "
                             "patients to be tested. All else: in the CSV."],
                            lead=3))  # fmt: skip
    return panels


def _attainable(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say so when B resamples cannot reach significance in a family of this size whatever the data."""
    valid = [int(row["resamples_valid"]) for row in rows if row.get("resamples_valid")]
    if not valid or rows[0]["family_size"] / (min(valid) + 1) < ALPHA:
        return []
    smallest, needed = 1 / (min(valid) + 1), int(np.floor(rows[0]["family_size"] / ALPHA))
    return [
        f"With {min(valid)} valid resamples the smallest p is {smallest:.4f}, which Holm over {rows[0]['family_size']} "
        f"tests cannot bring below {ALPHA}: at least {needed} resamples are needed."
    ]


def _largest_elsewhere(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name the columns that the reference leads, whose p is against another encoder than the baseline that is shown."""
    found = [f"{row['dataset_title']} {row['column']} {METRIC_TITLES[row['metric']]} ({row['p_against_title']})" for row in rows
             if row["outcome"] not in ("", "no_improvement") and row["p_against"] != row["other"]]  # fmt: skip
    return [f"p belongs to another encoder than the baseline shown, which is the best by value: {'; '.join(found)}."] if found else []


def _training(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What p says of training: nothing. Which columns were trained once, and which are not clear once runs are drawn as well."""
    if all(row.get("delta") is None for row in rows):
        return []
    once: dict[str, list[str]] = {}
    unclear: dict[str, list[str]] = {}
    for row in rows:
        if row["replicates"] == "1":
            once.setdefault(row["dataset_title"], []).append(METRIC_TITLES[row["metric"]])
        if not row["too_few"] and (row["p_one_sided"] or 1) < ALPHA <= (row.get("p_two_level") or 0):
            unclear.setdefault(row["dataset_title"], []).append(f"{row['column']} {METRIC_TITLES[row['metric']]}")

    def where(found: Mapping[str, list[str]]) -> str:
        return "; ".join(f"{title} ({', '.join(dict.fromkeys(what))})" for title, what in found.items())

    notes = ["p and the interval are about other patients, with these very probes and decoders: the luck of training is not in them."]
    if once:
        notes.append(f"Trained once (one replicate), so that nothing is known of that luck: {where(once)}.")
    if unclear:
        notes.append(f"p below {ALPHA} for other patients, but not for other patients and other training runs (p_two_level and the "
                     f"two-level interval in the CSV): {where(unclear)}.")  # fmt: skip
    return notes


def _numbers(row: Mapping[str, Any]) -> list[str]:
    if row.get("delta") is None:
        return ["–"] * 5
    if row["too_few"]:
        return [signed(row["delta"]), "–", "–", "–", "–"]
    interval = f"[{signed(row['low'])}, {signed(row['high'])}]" if row.get("low") is not None else "–"
    return [signed(row["delta"]), interval, _p(row["p_one_sided"]), _p(row["p_two_sided"]), _p(row["p_holm"])]


def _p(value: float | None) -> str:
    return "–" if value is None or not np.isfinite(value) else f"{value:.3f}" if value >= 0.001 else "< 0.001"


def _mark(outcome: str) -> str:
    return OUTCOME_MARKS.get(outcome, "–")


def _fixed_cell(row: Mapping[str, Any]) -> Cell:
    return Cell("–") if row.get("delta") is None else Cell(f"{signed(row['delta'])} {_mark(row['outcome'])}")
