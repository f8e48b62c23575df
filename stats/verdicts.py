"""Every published value with a verdict, and the summary of them on one page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from .facts import ATTRIBUTES, TRAINING_DATA
from .figures import signed
from .published import AGG6, AGG7, AGG_PRINTED, METRICS, Published, same_model
from .scores import METRIC_TITLES, SEEN, UNKNOWN, Encoder, Section, find_estimate, judge, points
from .significance import FIXED, OUTCOME_MARKS, OUTCOME_WORDS
from .typeset import OVERLAP, REDUCED, UNTOLD, Panel, Table, markdown

VERDICT_COLUMNS = ("table", "dataset", "row", "column", "metric", "published", "encoder", "measured", "low", "high",
                   "difference", "verdict", "reason")  # fmt: skip
VERDICTS = ("reproduced", "differs", "not run", "not comparable")


# ---------------------------------------------------------------- every published value


def paper_vs_measured(
    published: Published, data_rows: Sequence[Mapping[str, Any]], encoder_rows: Sequence[Mapping[str, Any]],
    sections: Sequence[Section], encoders: Sequence[Encoder], tests: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:  # fmt: skip
    """One row per published value (and per encoder that answers to it), in the order of the tables.

    Scores (Tables 3 to 5) and differences (Table 6) are in points, counts (Table 1) and facts (Table 2) in their own units;
    ``difference`` = measured - published. ``verdict`` is one of VERDICTS.

    Args:
        data_rows, encoder_rows, tests: rows of Tables 1, 2 and 6.
    """
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
    if score.column == AGG_PRINTED:
        targets = [AGG6 if score.own_run else AGG7]
    elif section.table == 5:
        targets = ["report"]
    else:
        targets = [t for t, short in section.columns.items() if score.names & {t.lower(), short.lower()}]
    base = {"encoder": encoder.name}
    if not targets:
        return base | {"verdict": "not run", "reason": f"no column {score.column} in this run"}
    estimate = find_estimate(section, encoder, targets[0], score.metric)
    verdict, reason = judge(section, estimate, score, published.test_size(section.paper) if section.paper else None)
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
        for r in answers:
            measured = r["card"] if r["measured"] is None and r["verdict"] != "not run" else r["measured"]
            rows.append(base | {"encoder": r["encoder"], "measured": measured, "verdict": r["verdict"], "reason": r["reason"]})
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


def verdicts_markdown(verdicts: Sequence[Mapping[str, Any]], summary: str) -> str:
    """Every published value with its verdict as one Markdown page; points with one decimal, empty where there is no number."""

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


#: Rows of the summary's lists: it stays one page.
LONGEST = 8


def summary_page(
    verdicts: Sequence[Mapping[str, Any]], sections: Sequence[Section], encoders: Sequence[Encoder], tests: Sequence[Mapping[str, Any]]
) -> Table:  # fmt: skip
    """One page: verdicts per table, the largest disagreements, what was not run and why, marks, Table 6 in a sentence.

    A disagreement is as large as the published value is far from the measured interval, in points. Lists end after LONGEST rows.
    """
    counts = Counter((row["table"], row["verdict"]) for row in verdicts)
    rows: list[Sequence[str] | None] = [
        [f"Table {n}", *(str(counts[n, verdict]) for verdict in VERDICTS), str(sum(counts[n, verdict] for verdict in VERDICTS))]
        for n in sorted({row["table"] for row in verdicts})]  # fmt: skip
    rows += [None, ["All", *(str(sum(row["verdict"] == verdict for row in verdicts)) for verdict in VERDICTS), str(len(verdicts))]]
    panels = [Panel("Verdicts", ["Of the paper", *VERDICTS, "values"], rows, "l" + "r" * 5,
                    ["Reproduced: the published value lies inside the measured 95 % interval (Tables 3 to 5), is equal (Table 1), is "
                     "equal after rounding (Table 2), or is the same outcome (Table 6)."])]  # fmt: skip
    panels += [_disagreements(verdicts), _not_run(verdicts), _marks(verdicts, sections, encoders, tests)]
    return Table("summary", "Paper and measurement on one page", "What of the paper was measured, and how it compares", (), (), panels)


def _disagreements(verdicts: Sequence[Mapping[str, Any]]) -> Panel:
    """Scores that differ, by the distance of the published value from the measured interval."""

    def outside(row: Mapping[str, Any]) -> float:
        return max(row["low"] - row["published"], row["published"] - row["high"])

    scores = [row for row in verdicts if row["verdict"] == "differs" and row["table"] in (3, 4, 5) and row.get("low") is not None]
    largest = sorted(scores, key=lambda row: (-outside(row), row["table"], row["row"], row["column"]))[:LONGEST]
    lines = [[f"Table {row['table']}", row["dataset"], row["row"], _column(row), f"{row['published']:.1f}",
              f"{row['measured']:.1f} [{row['low']:.1f}, {row['high']:.1f}]", signed(row["difference"])]
             for row in largest]  # fmt: skip
    others = sum(row["verdict"] == "differs" for row in verdicts) - len(largest)
    notes = [f"{others} further values differ; all of them are in paper_vs_measured." if largest and others else
             "" if largest else f"No score differs; {others} counts, facts or outcomes do (paper_vs_measured)." if others else
             "No value differs."]  # fmt: skip
    return Panel("Largest disagreements", ["Table", "Data", "Row", "Column", "Published", "Measured [95 %]", "Δ"], lines, "llllrrr",
                 [note for note in notes if note])  # fmt: skip


def _column(row: Mapping[str, Any]) -> str:
    return row["column"] if row["table"] == 5 else f"{row['column']} {METRIC_TITLES[row['metric']]}"


def _not_run(verdicts: Sequence[Mapping[str, Any]]) -> Panel:
    """Reasons by the number of published values that have no answer because of them."""
    found = Counter((row["verdict"], row["reason"]) for row in verdicts if row["verdict"] in ("not run", "not comparable"))
    ordered = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    lines = [[reason, verdict, str(count)] for (verdict, reason), count in ordered[:LONGEST]]
    more = sum(count for _, count in ordered[LONGEST:])
    return Panel("Without an answer, and why", ["Reason", "Verdict", "values"], lines, "p{9.5cm}lr",
                 [f"{len(ordered) - LONGEST} further reasons, {more} values: paper_vs_measured."] if more else [])  # fmt: skip


def _marks(
    verdicts: Sequence[Mapping[str, Any]], sections: Sequence[Section], encoders: Sequence[Encoder], tests: Sequence[Mapping[str, Any]]
) -> Panel:  # fmt: skip
    """What qualifies the measured numbers, and the outcomes of Table 6 in the paper's three marks."""
    lines, reduced = [], {}
    for section in sections:
        scored = {name for (name, _, _), row in section.estimates.items() if row.get("value")}
        known = {e.title: e.known(section.sources) for e in encoders if e.name in scored and e.card}
        for mark, answer, words in ((OVERLAP, SEEN, "pretrained on images of these data"),
                                    (UNTOLD, UNKNOWN, "not known whether pretrained on images of these data")):  # fmt: skip
            who = [title for title, found in known.items() if found == answer]
            line = [mark, section.title, f"{words}: {', '.join(who)}"]
            lines += [line] if who and line not in lines else []  # a data set of two tasks is named once
        if any(row.get("reduced") for row in section.estimates.values()):
            reduced.setdefault(f"Table {section.table}", []).append(section.title)
    lines += [[REDUCED, f"{table}: {', '.join(titles)}", "reduced protocol, listed below the table"] for table, titles in reduced.items()]
    best = [row for row in tests if row["rule"] != FIXED]
    for outcome, mark in OUTCOME_MARKS.items():
        ours, theirs = (sum(row[name] == outcome for row in best) for name in ("outcome", "published_outcome"))
        lines.append(
            [mark, "Table 6", f"{OUTCOME_WORDS[outcome]}: {ours} measured, {theirs} published, of {len(best)} columns of this run"]
        )
    return Panel("Marks", ["Mark", "Where", "Meaning"], lines, "lp{4cm}p{8cm}")
