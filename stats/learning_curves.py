"""How much labelled data does a probe need? The metric against the number of images in the set to learn from.

That is the whole set, as ``train_images`` counts it: an image in it need not have every label, and of k folds each probe leaves one out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from . import measures
from .bootstrap import PatientResamples, percentile_interval
from .errors import PredictionsError
from .predictions import Cohort, Predictions, first_replicate, read_rows, same_in_every_replicate, same_samples_and_truth

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
        HashMismatch, PredictionsError: the file is not usable, see `stats.errors`.
        SampleMismatch, TruthMismatch: a point or replicate is not of the full probe's images, or has another truth or patient for one.
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
    """Rows of the file with what is drawn and the people of the full probe's, to which each replicate of each point is held."""
    path = predictions.sidecar.verified(FILE)
    rows = read_rows(path, cohort.task, cohort.dataset, predictions.encoder, more=("train_images",))
    if cohort.patients is None:
        rows["person"] = rows["image_id"]
    learned = int(predictions.sidecar.facts.get("learned") or 0)
    if (rows["train_images"] == learned).any():
        raise PredictionsError(str(path), f"a point of {learned} training images, as many as the full probe learned from",
                               "points below the full probe, which is added as the last", "leave that point out")  # fmt: skip
    full, people = first_replicate(predictions.rows), rows.assign(patient_id=rows["person"])
    for count, part in people.groupby("train_images", sort=True):
        same_in_every_replicate(cohort.task, f"{path}, {count:g} training images", part)
        same_samples_and_truth(cohort.task, str(path), "the full probe", full.assign(patient_id=full["person"]),
                               f"the probe of {count:g} training images", first_replicate(part))  # fmt: skip
    for column in ("patient_id", "person"):  # every replicate of every point has the samples in this order
        rows[column] = np.tile(full[column].to_numpy(), len(rows) // len(full))
    return rows
