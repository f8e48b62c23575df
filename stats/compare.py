"""One task on one dataset: estimates with intervals for every encoder, and every encoder against every other.

    python -m stats.compare --task linear_probe --dataset phantom --reference radjepa --resamples 500 --seed 0 \\
        --out results/stats/linear_probe/phantom results/linear_probe/phantom/radjepa results/linear_probe/phantom/...

Writes ``estimates.csv``, ``comparisons.csv`` and ``meta.json`` into ``--out``. The CSVs depend only on the
predictions, the number of resamples and the seed: a second run writes the same bytes.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import measures
from .bootstrap import (
    PatientResamples,
    minimum_detectable_difference,
    p_one_sided,
    p_two_sided,
    percentile_interval,
    resample_patients,
)
from .errors import ReferenceMissing, StatsError
from .measures import Measurement
from .permutation import p_sign_flip, patient_signs
from .predictions import SAMPLE_KEY, Cohort, Predictions, read_cohort
from .provenance import Sidecar, csv_bytes, write_artifact

ESTIMATE_COLUMNS = (
    "task", "dataset", "encoder", "target", "metric", "value", "sd", "replicates", "median", "low", "high", "resamples",
    "resamples_valid", "n_images", "n_patients", "n_positive", "false_positive_images", "unit", "reduced", "state",
    "reason",
)  # fmt: skip
COMPARISON_COLUMNS = (
    "task", "dataset", "encoder", "other", "target", "metric", "delta", "low", "high", "p_one_sided", "p_two_sided",
    "p_sign_flip", "sd_delta", "mde", "resamples_valid",
)  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """One encoder's measurements; empty when it is absent."""

    predictions: Predictions
    measurements: dict[tuple[str, str], Measurement]  # by (target, metric)


def compare(
    task: str, dataset: str, reference: str, folders: Sequence[Path | str], out: Path | str, *,
    resamples: int = 500, seed: int = 0, aggregates: Sequence[Sequence[str]] = (),
) -> Sidecar:  # fmt: skip
    """Read, measure, compare, write; returns the sidecar of what was written.

    Args:
        reference: encoder written first; must be among the folders (it may be absent there).
        aggregates: linear probe only, further sets of labels to average beside all labels.

    Raises:
        StatsError: see `stats.errors`; nothing is written then.
    """
    started = time.perf_counter()
    cohort = read_cohort(task, dataset, folders)
    names = [predictions.encoder for predictions in cohort.encoders]
    if reference not in names:
        raise ReferenceMissing("--reference", reference, f"one of {names}", "name one of the encoders compared")
    # Results must not depend on the order in which a workflow happens to list the folders.
    encoders = sorted(cohort.encoders, key=lambda p: (p.encoder != reference, p.encoder))

    draws = resample_patients(cohort.patient_ids, resamples, seed)
    measured = [Measured(predictions, _measure(task, predictions, draws, aggregates)) for predictions in encoders]
    estimates = list(estimate_rows(cohort, measured, resamples))
    comparisons = list(comparison_rows(cohort, measured, draws, seed))

    first = cohort.present[0].sidecar.facts if cohort.present else {}
    reasons = {p.encoder: p.sidecar.reason for p in encoders if p.absent}
    return write_artifact(
        out, "stats",
        {"estimates.csv": csv_bytes(ESTIMATE_COLUMNS, estimates),
         "comparisons.csv": csv_bytes(COMPARISON_COLUMNS, comparisons)},
        key_parts={"task": task, "dataset": dataset, "reference": reference, "resamples": resamples, "seed": seed,
                   "aggregates": [sorted(labels) for labels in aggregates]},
        parents=[predictions.sidecar for predictions in encoders],
        facts={"task": task, "dataset": dataset, "reference": reference, "encoders": [p.encoder for p in encoders],
               "absent": reasons, "unit": cohort.unit, "patients": len(cohort.patient_ids), "resamples": resamples,
               "seed": seed, "version": first.get("version"), "protocol": first.get("protocol"),
               "language_model": first.get("language_model"),
               "reports_written": _reports_written(cohort) if task == "report_generation" else {},
               "labels_dropped": first.get("labels_dropped") or {},
               "statistic": "mean over replicates of the metric on the resample"},
        state="ok" if cohort.present else "absent",
        reason=None if cohort.present else "no encoder has predictions: "
               + "; ".join(f"{name}: {reason}" for name, reason in reasons.items()),
        started=started,
    )  # fmt: skip


def _reports_written(cohort: Cohort) -> dict[str, list[int]]:
    """Per encoder: different reports, reports without a word, and all reports."""
    return {p.encoder: [int(p.rows["hypothesis"].nunique()), int((p.rows["hyp_len"] == 0).sum()), len(p.rows)] for p in cohort.present}


def _measure(
    task: str, predictions: Predictions, draws: PatientResamples, aggregates: Sequence[Sequence[str]]
) -> dict[tuple[str, str], Measurement]:
    if predictions.absent:
        return {}
    if task == "linear_probe":
        found = measures.linear_probe(predictions.rows, draws, aggregates)
    elif task == "segmentation":
        found = measures.segmentation(predictions.rows, draws)
    else:
        not_computed = predictions.sidecar.facts.get("metrics_not_computed") or {}
        found = measures.report_generation(predictions.rows, draws, not_computed)
    return {(m.target, m.metric): m for m in found}


def estimate_rows(cohort: Cohort, measured: Sequence[Measured], resamples: int) -> Iterator[dict[str, Any]]:
    """Rows of estimates.csv: encoder x target x metric; an absent encoder has the same rows without numbers."""
    # A metric computed for one encoder only is a named gap for the others.
    cells = list(dict.fromkeys(cell for one in measured for cell in one.measurements)) or [("", "")]
    for one in measured:
        for target, metric in cells:
            row = {"task": cohort.task, "dataset": cohort.dataset, "encoder": one.predictions.encoder,
                   "target": target, "metric": metric, "unit": cohort.unit, "resamples": resamples,
                   "reduced": one.predictions.reduced}  # fmt: skip
            m = one.measurements.get((target, metric))
            if one.predictions.absent:
                yield row | {"state": "absent", "reason": one.predictions.sidecar.reason}
            elif m is None:
                yield row | {"state": "not_computed", "reason": "not in this encoder's predictions"}
            else:
                interval = percentile_interval(m.samples)
                yield row | {
                    "value": m.value, "sd": m.sd, "replicates": m.replicates.size, "median": interval.median,
                    "low": interval.low, "high": interval.high, "resamples_valid": interval.valid,
                    "n_images": m.n_images, "n_patients": m.n_patients, "n_positive": m.n_positive,
                    "false_positive_images": m.false_positive_images, "state": m.state, "reason": m.reason,
                }  # fmt: skip


def comparison_rows(cohort: Cohort, measured: Sequence[Measured], draws: PatientResamples, seed: int) -> Iterator[dict[str, Any]]:
    """Rows of comparisons.csv: each present encoder against each other, on every cell that both have."""
    signs = patient_signs(draws.patients, len(draws.counts), seed).astype(np.float64)
    # The flipped difference is linear in the encoder, so one product per encoder and cell serves all pairs.
    flipped = {
        (one.predictions.encoder, cell): signs @ (m.patient_sums / m.n_images)
        for one in measured
        for cell, m in one.measurements.items()
        if m.patient_sums is not None
    }
    for one in measured:
        for other in measured:
            if one is other:
                continue
            for cell, m in one.measurements.items():
                against = other.measurements.get(cell)
                if m.state != "ok" or against is None or against.state != "ok":
                    continue
                yield {
                    "task": cohort.task, "dataset": cohort.dataset, "encoder": one.predictions.encoder,
                    "other": other.predictions.encoder, "target": cell[0], "metric": cell[1],
                } | difference(
                    m, against, flipped.get((one.predictions.encoder, cell)),
                    flipped.get((other.predictions.encoder, cell)),
                )  # fmt: skip


def difference(
    one: Measurement, other: Measurement, flipped_one: np.ndarray | None = None, flipped_other: np.ndarray | None = None
) -> dict[str, Any]:
    """Paired difference ``one - other`` on the same resamples, with interval, tests and detectable difference."""
    delta = one.samples - other.samples
    interval = percentile_interval(delta)
    observed = one.value - other.value
    return {
        "delta": observed, "low": interval.low, "high": interval.high,
        "p_one_sided": p_one_sided(delta), "p_two_sided": p_two_sided(delta),
        "p_sign_flip": p_sign_flip(observed, flipped_one - flipped_other)
                       if flipped_one is not None and flipped_other is not None else None,
        "sd_delta": interval.sd, "mde": minimum_detectable_difference(interval.sd), "resamples_valid": interval.valid,
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line; a named error ends with its sentence and status 1, not with a stack trace."""
    parser = argparse.ArgumentParser(prog="python -m stats.compare", description=__doc__.splitlines()[0])
    parser.add_argument("--task", required=True, choices=sorted(SAMPLE_KEY))
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--reference", required=True, help="encoder written first")
    parser.add_argument("--resamples", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--aggregate", action="append", default=[], metavar="LABEL,LABEL,...",
                        help="a further set of labels to average (linear probe)")  # fmt: skip
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="results/{task}/{dataset}/{encoder}")
    options = parser.parse_args(arguments)
    try:
        written = compare(options.task, options.dataset, options.reference, options.folders, options.out,
                          resamples=options.resamples, seed=options.seed,
                          aggregates=[labels.split(",") for labels in options.aggregate])  # fmt: skip
    except StatsError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    print(f"{written.folder}: {len(written.facts['encoders'])} encoders, {len(written.facts['absent'])} absent")


if __name__ == "__main__":
    main()
