"""Does an encoder serve everybody? The metric by sex, age band, view and site, the worst group, and the gap to the best.

Groups are resampled with the patients that everybody shares, so a gap has an interval like any other difference. AUPRC
moves with the share of positives, which differs between groups: compare groups by AUROC, and encoders within a group by
AUPRC. Groups of few patients are named without numbers: they would say nothing, and might point at somebody. So is a structure that
few patients of a group have, and a finding that few have or few lack: patients are drawn, so five images of one are no five witnesses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from . import measures
from .bootstrap import PatientResamples, percentile_interval
from .measures import LOWER_IS_BETTER, Measurement
from .predictions import GROUPS, Cohort, Predictions

#: Patients that a group needs, and of a structure or label those who have it (are labelled), before numbers are shown.
SMALLEST = 10
#: Patients with a positive and patients with a negative image that a label needs in a group: resampling two would show next to no
#: uncertainty, however many images they have.
SMALLEST_CLASS = 5
#: Resamples are used up to this many: groups are shown, not tested.
SUBGROUP_RESAMPLES = 1000
#: Metrics by task that are compared between groups.
METRICS = {"linear_probe": ("auroc", "auprc"), "segmentation": ("dice",), "report_generation": ("rouge_l", "bleu4")}
#: The two kinds of row.
GROUP, GAP = "group", "gap: best minus worst group"

SUBGROUP_COLUMNS = (
    "task", "dataset", "encoder", "target", "metric", "grouping", "kind", "group", "worst", "value", "low", "high",
    "resamples_valid", "n_images", "n_patients", "n_positive", "state", "reason",
)  # fmt: skip


def subgroup_rows(cohort: Cohort, draws: PatientResamples) -> Iterator[dict[str, Any]]:
    """Rows of subgroups.csv: each encoder in each group, and the gap between its best and its worst group.

    Values are fractions; gap = value of the best group - value of the worst, 0 or more. The two groups are chosen on the data and
    kept in every resample; chosen so, the gap is a little too large, as any best minus worst is. A group of fewer than SMALLEST
    patients, a structure that fewer of its patients have, or a label that fewer than SMALLEST_CLASS of them have, or lack, has a
    reason instead of numbers. Patients are counted whatever is drawn; where none are known, images.

    Args:
        draws: the patients that all groups share; one without images in a group adds nothing to it.
    """
    for predictions in cohort.present:
        for grouping in GROUPS:
            if grouping in predictions.rows:
                yield from _of_grouping(cohort, predictions, grouping, draws)


def _of_grouping(cohort: Cohort, predictions: Predictions, grouping: str, draws: PatientResamples) -> Iterator[dict[str, Any]]:
    codes, names = pd.factorize(predictions.rows[grouping].to_numpy(), sort=False)
    code_of = {str(name): code for code, name in enumerate(names) if not pd.isna(name) and str(name)}
    groups = sorted(code_of)
    if len(groups) < 2:
        return
    base = {"task": cohort.task, "dataset": cohort.dataset, "encoder": predictions.encoder, "grouping": grouping}
    found: dict[tuple[str, str], dict[str, Measurement]] = {}
    for group in groups:
        rows = predictions.rows[codes == code_of[group]]
        patients = rows["person"].nunique()  # whatever is drawn: nobody is to be recognised in a small group
        if patients < SMALLEST:
            yield base | {"kind": GROUP, "group": group, "state": "not_computed", "reason": f"fewer than {SMALLEST} patients"}
            continue
        for m in _measure(cohort.task, predictions, rows.reset_index(drop=True), draws):
            cell = base | {"target": m.target, "metric": m.metric, "kind": GROUP, "group": group, "state": "not_computed"}
            if m.n_patients < SMALLEST:  # no counts either: they are people again
                yield cell | {"reason": f"fewer than {SMALLEST} patients {'labelled' if cohort.task == 'linear_probe' else 'with it'}"}
                continue
            if cohort.task == "linear_probe" and _rarer_class(rows, m.target) < SMALLEST_CLASS:
                yield cell | {"n_images": m.n_images, "n_patients": m.n_patients, "n_positive": m.n_positive,
                              "reason": f"fewer than {SMALLEST_CLASS} patients with it, or without"}  # fmt: skip
                continue
            found.setdefault((m.target, m.metric), {})[group] = m
    for (target, metric), by_group in found.items():
        for group, m in by_group.items():
            interval = percentile_interval(m.samples)
            yield base | {
                "target": target, "metric": metric, "kind": GROUP, "group": group, "value": m.value, "low": interval.low,
                "high": interval.high, "resamples_valid": interval.valid, "n_images": m.n_images, "n_patients": m.n_patients,
                "n_positive": m.n_positive, "state": m.state, "reason": m.reason,
            }  # fmt: skip
        yield from _gap(base | {"target": target, "metric": metric}, by_group, metric)


def _rarer_class(rows: pd.DataFrame, label: str) -> int:
    """People with a positive image of the label, or with a negative one, whichever are fewer; somebody may be both."""
    of_label = rows[rows["label"] == label]
    people = of_label["person"].groupby(of_label["target"] > 0).nunique()
    return min(people.get(True, 0), people.get(False, 0))


def _measure(task: str, predictions: Predictions, rows: pd.DataFrame, draws: PatientResamples) -> list[Measurement]:
    if task == "linear_probe":
        found = measures.linear_probe(rows, draws, calibration=False)
    elif task == "segmentation":
        found = measures.segmentation(rows, draws)
    else:
        found = measures.report_generation(rows, draws, {})
    return [m for m in found if m.metric in METRICS[task] and m.state != "not_computed" and not m.target.startswith("Agg-")]


def _gap(base: Mapping[str, Any], by_group: Mapping[str, Measurement], metric: str) -> Iterator[dict[str, Any]]:
    """The pair is chosen on the data and then kept in every resample: the interval is about these two groups."""
    defined = {group: m for group, m in by_group.items() if m.state == "ok"}
    if len(defined) < 2:
        return
    sign = -1 if metric in LOWER_IS_BETTER else 1
    ordered = sorted(defined, key=lambda group: sign * defined[group].value)
    worst, best = ordered[0], ordered[-1]
    interval = percentile_interval(defined[best].samples - defined[worst].samples)
    yield {**base, "kind": GAP, "group": best, "worst": worst, "value": defined[best].value - defined[worst].value,
           "low": interval.low, "high": interval.high, "resamples_valid": interval.valid, "state": "ok"}  # fmt: skip
