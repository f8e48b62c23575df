"""How much labelled data does a probe need? The metric against the number of images in the set to learn from.

That is the whole set, as ``train_images`` counts it: an image in it need not have every label, and of k folds each probe leaves one out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from . import measures
from .bootstrap import PatientResamples, percentile_interval
from .predictions import Cohort, Predictions, read_rows

FILE = "learning_curve.parquet"
METRICS = ("auprc", "auroc")
CURVE_COLUMNS = (
    "task", "dataset", "encoder", "train_images", "target", "metric", "value", "sd", "replicates", "low", "high",
    "resamples_valid", "n_images", "n_patients", "n_positive", "state", "reason",
)  # fmt: skip


def learning_curve_rows(cohort: Cohort, draws: PatientResamples) -> Iterator[dict[str, Any]]:
    """Rows of learning_curves.csv: each encoder at each size of the set to learn from, the full probe last.

    AUPRC and AUROC, fractions, with the percentile interval over patients and the SD over replicates. All points score the same
    test images, so their intervals move together; the training sets are nested. Nothing for other tasks, nor for an encoder
    without learning_curve.parquet.

    Raises:
        HashMismatch, PredictionsError, SampleMismatch: the file is not usable, see `stats.errors`.
    """
    if cohort.task != "linear_probe":
        return
    for predictions in cohort.present:
        if FILE not in (predictions.sidecar.content.get("files") or {}):
            continue
        rows = _curve(cohort, predictions)
        full = predictions.rows.assign(train_images=int(predictions.sidecar.facts.get("learned") or 0))
        for count, part in pd.concat([rows, full]).groupby("train_images", sort=True):
            for m in measures.linear_probe(part.reset_index(drop=True), draws, calibration=False):
                interval = percentile_interval(m.samples)
                yield {"task": cohort.task, "dataset": cohort.dataset, "encoder": predictions.encoder, "train_images": int(count),
                       "target": m.target, "metric": m.metric, "value": m.value, "sd": m.sd, "replicates": m.replicates.size,
                       "low": interval.low, "high": interval.high, "resamples_valid": interval.valid, "n_images": m.n_images,
                       "n_patients": m.n_patients, "n_positive": m.n_positive, "state": m.state, "reason": m.reason}  # fmt: skip


def _curve(cohort: Cohort, predictions: Predictions) -> pd.DataFrame:
    rows = read_rows(predictions.sidecar.verified(FILE), cohort.task, cohort.dataset, predictions.encoder, more=("train_images",))
    if cohort.unit != "patient":
        rows["patient_id"] = rows[f"{cohort.unit}_id"]
    return rows
