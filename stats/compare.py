"""One task on one dataset: estimates with intervals for every encoder, and every encoder against every other.

    python -m stats.compare --task linear_probe --dataset phantom --reference radjepa --resamples 500 --seed 0 \\
        --out results/stats/linear_probe/phantom results/linear_probe/phantom/radjepa results/linear_probe/phantom/...

Writes ``estimates.csv``, ``comparisons.csv``, ``ranks.csv``, ``subgroups.csv``, ``learning_curves.csv``, ``reliability.csv``
and ``meta.json`` into ``--out``. The CSVs depend only on the predictions, the number of resamples and the seed: a second
run writes the same bytes.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import measures
from .bootstrap import (
    BLOCK_RESAMPLES,
    PatientResamples,
    bca_interval,
    interaction_variance,
    leave_some_out,
    minimum_detectable_difference,
    p_one_sided,
    percentile_interval,
    percentile_intervals,
    replicate_weights,
    resample_patients,
    shifted_interval,
    two_level,
)
from .calibration import (
    LINE_COLUMNS,
    RELIABILITY_COLUMNS,
    Gaps,
    Line,
    calibration_interval,
    recalibration_line,
    reliability_rows,
)
from .delong import delong_of_replicates
from .errors import EncoderMissing, SettingError, StatsError
from .learning_curves import CURVE_COLUMNS, learning_curve_rows
from .measures import BIASED_UP, LOWER_IS_BETTER, Measurement
from .paired import p_corrected_resampled_t, p_equivalent, p_mcnemar, p_non_inferior, p_two_sided, p_wilcoxon, power
from .permutation import p_sign_flip, patient_signs
from .predictions import SAMPLE_KEY, Cohort, Predictions, first_replicate, read_cohort
from .provenance import Sidecar, check_folder, csv_bytes, write_artifact
from .ranks import rank_intervals
from .subgroups import SUBGROUP_COLUMNS, SUBGROUP_RESAMPLES, subgroup_rows

ESTIMATE_COLUMNS = (
    "task", "dataset", "encoder", "target", "metric", "value", "sd", "replicates", "median", "low", "high", "bca_low",
    "bca_high", "shifted_low", "shifted_high", "two_level_low", "two_level_high", *LINE_COLUMNS, "resamples", "resamples_valid",
    "n_images", "n_patients", "n_units", "n_positive", "n_positive_units", "n_negative_units", "false_positive_images", "unit",
    "reduced", "state", "reason",
)  # fmt: skip
#: One-sided p -> the two-sided p of the same test, which is twice the smaller p of the two directions.
TWO_SIDED = {"p_one_sided": "p_two_sided"} | {
    name: f"{name}_two_sided" for name in ("p_two_level", "p_wilcoxon", "p_delong", "p_mcnemar", "p_corrected_t")
}
COMPARISON_COLUMNS = (
    "task", "dataset", "encoder", "other", "target", "metric", "delta", "low", "high", "two_level_low", "two_level_high",
    "p_one_sided", "p_two_sided", "p_two_level", "p_two_level_two_sided", "p_sign_flip", "p_sign_flip_two_sided",
    "p_wilcoxon", "p_wilcoxon_two_sided", "p_delong", "p_delong_two_sided", "p_mcnemar", "p_mcnemar_two_sided",
    "p_corrected_t", "p_corrected_t_two_sided", "p_non_inferior", "p_equivalent", "margin", "sd_delta", "correlation", "mde",
    "power_margin", "resamples_valid",
)  # fmt: skip

#: Metrics for which one margin in points means nothing: a Brier score or a distance may be small for everybody.
WITHOUT_MARGIN = frozenset({"brier", "hd95"})
#: Stratum of patients whose sets of findings are rare; no labels joined by commas read so.
RARE = "rare, "
#: Training runs from which their scatter is told: two differ by chance too often by hardly anything.
FEWEST_RUNS = 3
#: Pairs of encoders whose resamples are held at once: 66 pairs x 10,000 resamples are 5 MB.
PAIRS = 128
#: Of the command lines, as of the configuration: of fewer, the ends of a 95 % interval are the outermost draws or beyond them.
FEWEST_RESAMPLES = 50
RANK_COLUMNS = ("task", "dataset", "target", "metric", "encoder", "rank", "low", "high", "p_best", "encoders")


@dataclass(frozen=True)
class Settings:
    """What the numbers depend on besides the predictions.

    Attributes:
        resamples: bootstrap resamples, at least 1.
        seed: of every draw.
        unit: what is resampled: patient, study or image.
        stratified: keep the mix of findings: patients are drawn within strata of equal sets of positive labels.
        margin: difference, as a fraction above 0 and below 1, below which two encoders count as equally good (equivalence,
            non-inferiority).
        aggregates: linear probe only, further sets of labels to average beside all labels.

    Raises:
        SettingError: ``resamples`` or ``margin`` is outside its range.
    """

    resamples: int = 500
    seed: int = 0
    unit: str = "patient"
    stratified: bool = False
    margin: float = 0.02
    aggregates: Sequence[Sequence[str]] = ()

    def __post_init__(self) -> None:
        if self.resamples < 1:
            raise SettingError("--resamples", str(self.resamples), "a whole number, at least 1", "2000 is usual")
        if not 0 < self.margin < 1:
            raise SettingError("--margin", f"{self.margin:g}", "a fraction above 0 and below 1", "write 0.02 for two points")


def enough_resamples(resamples: int) -> int:
    """The number given on a command line.

    Raises:
        SettingError: it is below FEWEST_RESAMPLES.

    >>> enough_resamples(2000)
    2000
    """
    if resamples < FEWEST_RESAMPLES:
        raise SettingError("--resamples", str(resamples), f"a whole number, at least {FEWEST_RESAMPLES}", "2000 is usual")
    return resamples


@dataclass(frozen=True)
class Measured:
    """One encoder's measurements; both dictionaries are empty when it is absent.

    Attributes:
        measurements: by (target, metric).
        jackknife: (G,) the metric without each group of patients, by (target, metric), for the BCa interval.
    """

    predictions: Predictions
    measurements: dict[tuple[str, str], Measurement]
    jackknife: dict[tuple[str, str], np.ndarray]


def compare(
    task: str, dataset: str, reference: str, folders: Sequence[Path | str], out: Path | str, settings: Settings = Settings(),
) -> Sidecar:  # fmt: skip
    """Read, measure, compare, write; returns the sidecar of what was written.

    Args:
        task: a key of `stats.predictions.SAMPLE_KEY`.
        reference: encoder written first; must be among the folders (it may be absent there).
        folders: one per encoder; their order changes nothing.
        out: folder of the CSVs and meta.json, all numbers as fractions.

    Raises:
        EncoderMissing: ``reference`` is not among the folders.
        StatsError: any other, see `stats.errors`; nothing is written then.
    """
    started = time.perf_counter()
    cohort = read_cohort(task, dataset, folders, settings.unit)
    names = [predictions.encoder for predictions in cohort.encoders]
    if reference not in names:
        raise EncoderMissing("--reference", reference, f"one of {names}", "name one of the encoders compared")
    # Results must not depend on the order in which a workflow happens to list the folders.
    encoders = sorted(cohort.encoders, key=lambda p: (p.encoder != reference, p.encoder))
    cohort = dataclasses.replace(cohort, encoders=encoders)

    aggregates = aggregates_of(cohort, settings.aggregates) if task == "linear_probe" and cohort.present else []
    strata = positive_sets(cohort) if settings.stratified and task == "linear_probe" and cohort.present else None
    draws = resample_patients(cohort.patient_ids, settings.resamples, settings.seed, strata)
    without = leave_some_out(draws)
    measured = []
    for predictions in encoders:
        measurements = _measure(task, predictions, draws, aggregates)
        left_out = {cell: m.samples for cell, m in _measure(task, predictions, without, aggregates).items()}
        measured.append(Measured(predictions, measurements, left_out))
    estimates = list(estimate_rows(cohort, measured, settings))
    comparisons = list(comparison_rows(cohort, measured, draws, settings))

    first = cohort.present[0].sidecar.facts if cohort.present else {}
    reasons = {p.encoder: p.sidecar.reason for p in encoders if p.absent}
    written = {"aggregates": [sorted(labels) for labels in settings.aggregates]}
    return write_artifact(
        out, "stats",
        {"estimates.csv": csv_bytes(ESTIMATE_COLUMNS, estimates),
         "comparisons.csv": csv_bytes(COMPARISON_COLUMNS, comparisons),
         "ranks.csv": csv_bytes(RANK_COLUMNS, rank_rows(cohort, measured)),
         "subgroups.csv": csv_bytes(SUBGROUP_COLUMNS, subgroup_rows(cohort, draws.first(SUBGROUP_RESAMPLES))),
         "learning_curves.csv": csv_bytes(CURVE_COLUMNS, learning_curve_rows(cohort, draws.first(SUBGROUP_RESAMPLES))),
         "reliability.csv": csv_bytes(RELIABILITY_COLUMNS, reliability_rows(cohort))},
        key_parts={"task": task, "dataset": dataset, "reference": reference, **dataclasses.asdict(settings), **written},
        parents=[predictions.sidecar for predictions in encoders],
        facts={"task": task, "dataset": dataset, "reference": reference, "encoders": [p.encoder for p in encoders],
               "absent": reasons, "patients": cohort.patients, "units": len(cohort.patient_ids),
               **dataclasses.asdict(settings), **written, "unit": cohort.unit,
               "stratified": strata is not None,
               "version": first.get("version"), "protocol": first.get("protocol"),
               "language_model": first.get("language_model"), "replicates": first.get("replicates"),
               "reports_written": _reports_written(cohort) if task == "report_generation" else {},
               "labels_dropped": first.get("labels_dropped") or {},
               "statistic": "mean over replicates of the metric on the resample"},
        state="ok" if cohort.present else "absent",
        reason=None if cohort.present else "no encoder has predictions: "
               + "; ".join(f"{name}: {reason}" for name, reason in reasons.items()),
        started=started,
    )  # fmt: skip


def aggregates_of(cohort: Cohort, aggregates: Sequence[Sequence[str]]) -> list[set[str]]:
    """The sets of labels that are this data set's, of those that the configuration names for all data sets.

    A set of which this data set lacks a label belongs to another one; a label that the probe had to drop is not lacking. Two sets of
    as many labels with both classes in the test set would share the name Agg-<number>.

    Raises:
        SettingError: there are two such sets.
    """
    classes = cohort.present[0].rows.groupby("label")["target"].nunique()
    defined, known = set(classes[classes == 2].index), set(classes.index)
    known |= set(cohort.present[0].sidecar.facts.get("labels_dropped") or {})
    by_size, own = {len(defined): defined}, []
    for wanted in map(set, aggregates):
        if not wanted <= known:
            continue
        own.append(wanted)
        used = wanted & defined
        if by_size.setdefault(len(used), used) != used:
            raise SettingError(f"--aggregate {','.join(sorted(wanted))}",
                               f"a second set of {len(used)} labels, beside {sorted(by_size[len(used)])}",
                               f"one set of each size: both would be called Agg-{len(used)}", "leave one out")  # fmt: skip
    return own


def _reports_written(cohort: Cohort) -> dict[str, list[int]]:
    """Per encoder: different reports, reports without a word, and all reports."""
    return {p.encoder: [int(p.rows["hypothesis"].nunique()), int((p.rows["hyp_len"] == 0).sum()), len(p.rows)] for p in cohort.present}


def positive_sets(cohort: Cohort, smallest: int = 5) -> dict[str, str]:
    """Stratum of each patient: the set of labels positive in any of the images, joined by commas and empty for none.

    Sets of fewer than ``smallest`` patients share the stratum RARE. Where they are fewer than that together too, those without any
    finding join them, or where there are none the smallest other set: a stratum of one would never vary. Needs a present encoder of a
    linear probe.
    """
    rows = first_replicate(cohort.present[0].rows)
    positive = rows[rows["target"] > 0].groupby("patient_id")["label"].agg(lambda labels: ", ".join(sorted(set(labels))))
    sets = {patient: positive.get(patient, "") for patient in cohort.patient_ids}
    sizes = Counter(sets.values())
    rare = {name for name, size in sizes.items() if size < smallest}
    if 0 < sum(sizes[name] for name in rare) < smallest < len(sets):
        rare.add(min(set(sizes) - rare, key=lambda name: (name != "", sizes[name], name)))
    return {patient: RARE if name in rare else name for patient, name in sets.items()}


def _measure(
    task: str, predictions: Predictions, draws: PatientResamples, aggregates: Sequence[set[str]]
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


def estimate_rows(cohort: Cohort, measured: Sequence[Measured], settings: Settings) -> Iterator[dict[str, Any]]:
    """Rows of estimates.csv: encoder x target x metric, fractions; an absent encoder has the same rows without numbers.

    ``value`` and ``sd`` are over replicates; ``low`` and ``high`` the percentile interval, beside BCa and the two-level interval; a
    calibration error has the one of `stats.calibration.calibration_interval` alone. Brier and ECE bring the label's recalibration
    line.
    """
    # A metric computed for one encoder only is a named gap for the others.
    cells = list(dict.fromkeys(cell for one in measured for cell in one.measurements)) or [("", "")]
    for one in measured:
        lines = _recalibration(one.predictions) if cohort.task == "linear_probe" else {}
        for target, metric in cells:
            row = {"task": cohort.task, "dataset": cohort.dataset, "encoder": one.predictions.encoder,
                   "target": target, "metric": metric, "unit": cohort.unit, "resamples": settings.resamples,
                   "reduced": one.predictions.reduced}  # fmt: skip
            m = one.measurements.get((target, metric))
            if one.predictions.absent:
                yield row | {"state": "absent", "reason": one.predictions.sidecar.reason}
            elif m is None:
                yield row | {"state": "not_computed", "reason": "not in this encoder's predictions"}
            else:
                plain = not m.gaps  # percentiles of resamples cover
                interval = percentile_interval(m.samples) if plain else calibration_interval(Gaps.mean(m.gaps))
                bca = bca_interval(m.samples, m.value, one.jackknife[target, metric]) if m.state == "ok" and plain else (None, None)
                shifted = shifted_interval(m.samples, m.value) if m.state == "ok" and plain else (None, None)
                two = None
                if m.replicates.size >= FEWEST_RUNS and plain:
                    weights = replicate_weights(m.replicates.size, m.samples.size, settings.seed)
                    drawn = two_level(m.replicates, m.replicate_samples, weights, _overlap(m, one.predictions.has_folds))
                    two = percentile_interval(drawn.clip(0, 1))  # every metric is a fraction
                line = lines.get(target) if metric in ("brier", "ece") else None
                yield row | (dict(zip(LINE_COLUMNS, line.intercept + line.slope, strict=True)) if line else {}) | {
                    "resamples": m.samples.size, "value": m.value, "sd": m.sd, "replicates": m.replicates.size, "median": interval.median,
                    "low": interval.low, "high": interval.high, "bca_low": bca[0], "bca_high": bca[1],
                    "shifted_low": shifted[0], "shifted_high": shifted[1],
                    "two_level_low": two.low if two else None, "two_level_high": two.high if two else None,
                    "resamples_valid": interval.valid, "n_images": m.n_images, "n_patients": m.n_patients, "n_units": m.n_units,
                    "n_positive": m.n_positive, "n_positive_units": m.n_positive_units, "n_negative_units": m.n_negative_units,
                    "false_positive_images": m.false_positive_images, "state": m.state, "reason": m.reason,
                }  # fmt: skip


def _overlap(m: Measurement, folds: bool) -> int:
    """rho / (1 - rho) of R replicates: two of R folds share R - 2 of the R - 1 parts that each learns from; seeds are independent."""
    return m.replicates.size - 2 if folds else 0


def rank_rows(cohort: Cohort, measured: Sequence[Measured]) -> Iterator[dict[str, Any]]:
    """Rows of ranks.csv: the place of each encoder in each column, over the resamples that all share.

    1 = best; only encoders whose metric is ``ok`` are ranked, and only columns with two of them that noise does not push up
    (BIASED_UP). ``p_best`` is a fraction.
    """
    for cell in dict.fromkeys(cell for one in measured for cell in one.measurements):
        found = {one.predictions.encoder: one.measurements[cell] for one in measured
                 if cell in one.measurements and one.measurements[cell].state == "ok"}  # fmt: skip
        if len(found) < 2 or cell[1] in BIASED_UP:
            continue
        values, samples = np.array([m.value for m in found.values()]), np.array([m.samples for m in found.values()])
        for name, place in zip(found, rank_intervals(values, samples, cell[1] in LOWER_IS_BETTER), strict=True):
            yield {"task": cohort.task, "dataset": cohort.dataset, "target": cell[0], "metric": cell[1], "encoder": name,
                   "rank": place.rank, "low": place.low, "high": place.high, "p_best": place.best, "encoders": len(found)}  # fmt: skip


def _recalibration(predictions: Predictions) -> dict[str, Line]:
    """Recalibration line of each label; only of scores that are probabilities."""
    if predictions.absent or not predictions.rows["score"].between(0, 1).all():
        return {}
    lines = {}
    for label, rows in predictions.rows.groupby("label", sort=True):  # rows are sorted by image within replicate
        one = first_replicate(rows)
        scores = rows["score"].to_numpy().reshape(-1, len(one))
        lines[str(label)] = recalibration_line(one["target"].to_numpy(), scores, one["patient_id"].to_numpy())
    return lines


def comparison_rows(cohort: Cohort, measured: Sequence[Measured], draws: PatientResamples, settings: Settings) -> Iterator[dict[str, Any]]:
    """Rows of comparisons.csv: each present encoder against each other, on every cell that both have.

    Numbers as in :func:`differences`; AUROC adds DeLong's p (patients as clusters), Brier McNemar's (right at probability 1/2, first
    replicate), and each one-sided p its two-sided companion. Of segmentation only structure sets are compared; a metric that noise
    pushes up (BIASED_UP) is not compared at all.

    Args:
        draws: the resamples behind ``measured``; their patients and number also make the sign flips.
    """
    signs = patient_signs(draws.patients, len(draws.counts), settings.seed)
    on_images = _image_tests(cohort) if cohort.task == "linear_probe" else {}
    folds = bool(cohort.present) and cohort.present[0].has_folds
    found: dict[tuple[str, str, str, str], dict[str, Any]] = {}
    cells = dict.fromkeys(cell for one in measured for cell in one.measurements)
    structure_sets = _structure_sets(cohort)
    for cell in cells:
        if structure_sets and cell[0] not in structure_sets or cell[1] in BIASED_UP:
            continue  # single structures have estimates; what is tested are the columns of Table 4
        defined = {one.predictions.encoder: one.measurements[cell] for one in measured
                   if cell in one.measurements and one.measurements[cell].state == "ok"}  # fmt: skip
        for pair, row in differences(defined, settings, signs, folds).items():
            found[*pair, *cell] = row | on_images.get((*pair, *cell), {})
    names = [one.predictions.encoder for one in measured]
    for one, other in ((one, other) for one in names for other in names):
        for cell in cells:
            if (row := found.get((one, other, *cell))) is not None:
                turned = found[other, one, *cell]
                two_sided = {
                    name: p_two_sided(row[test], turned[test]) for test, name in TWO_SIDED.items() if test in row and test in turned
                }
                yield {"task": cohort.task, "dataset": cohort.dataset, "encoder": one, "other": other, "target": cell[0],
                       "metric": cell[1], **row, **two_sided}  # fmt: skip


def _structure_sets(cohort: Cohort) -> set[str]:
    return set(cohort.present[0].rows["structure_set"]) if cohort.task == "segmentation" and cohort.present else set()


def _image_tests(cohort: Cohort) -> dict[tuple[str, str, str, str], dict[str, float]]:
    """DeLong's p (patients as clusters) and McNemar's (right at probability 1/2, first replicate) of every ordered pair."""
    found: dict[tuple[str, str, str, str], dict[str, float]] = {}
    present = cohort.present
    for label, rows in present[0].rows.groupby("label", sort=True) if present else ():
        one = first_replicate(rows)
        target, patients = one["target"].to_numpy() > 0, one["patient_id"].to_numpy()
        if target.all() or not target.any():
            continue
        scores = [p.rows[p.rows["label"] == label].sort_values(["replicate", "image_id"])["score"]
                  .to_numpy(dtype=np.float64).reshape(p.rows["replicate"].nunique(), -1) for p in present]  # fmt: skip
        areas = delong_of_replicates(target, scores, patients)
        right = [(score[0] >= 0.5) == target if 0 <= score.min() and score.max() <= 1 else None for score in scores]
        for i, first in enumerate(present):
            for j, second in enumerate(present):
                if i != j:
                    found[first.encoder, second.encoder, str(label), "auroc"] = {"p_delong": areas.p_one_sided(i, j)}
                    if right[i] is not None and right[j] is not None:
                        found[first.encoder, second.encoder, str(label), "brier"] = {"p_mcnemar": p_mcnemar(right[i], right[j])}
    return found


def differences(
    measurements: Mapping[str, Measurement], settings: Settings, signs: np.ndarray | None = None, folds: bool = False
) -> dict[tuple[str, str], dict[str, Any]]:
    """Every ordered pair of encoders in one cell: paired difference ``one - other`` with interval, tests and power.

    Every one-sided p is that ``one`` is not better; where less is better, better means a difference below zero. Each pair
    is worked out once and read from both sides: the resamples of ``other - one`` are the negative ones.

    Args:
        measurements: by encoder, of one target and metric, on the same resamples.
        signs: (flips, P) from `stats.permutation.patient_signs`; None leaves out sign flip and Wilcoxon.
        folds: the replicates are trained on all folds of one training set but one, so that they tell of other training sets and a
            corrected t test makes sense; seeds share all their images, which says nothing about other ones.

    Returns:
        By (one, other), the columns of comparisons.csv; ``delta``, ``sd_delta``, ``mde`` and ``margin`` are fractions.

    >>> def cell(value, *samples):
    ...     return Measurement("Edema", "auroc", np.array([value]), np.array([samples]), n_images=9, n_patients=9)
    >>> found = differences({"a": cell(0.8, 0.8, 0.7, 0.9), "b": cell(0.7, 0.7, 0.75, 0.7)}, Settings(resamples=3))
    >>> for pair, row in found.items():  # a - b on resamples: 0.1, -0.05, 0.2
    ...     print(*pair, round(row["delta"], 4), row["p_one_sided"])
    a b 0.1 0.5
    b a -0.1 0.75
    """
    names = list(measurements)
    pairs = [(i, j) for i in range(len(names)) for j in range(i + 1, len(names))]
    if not pairs:
        return {}
    first, second = (np.array([pair[k] for pair in pairs]) for k in (0, 1))
    ms = [measurements[name] for name in names]
    values, samples = np.array([m.value for m in ms]), np.array([m.samples for m in ms])
    metric, lower = ms[0].metric, ms[0].metric in LOWER_IS_BETTER
    margin = None if metric in WITHOUT_MARGIN else settings.margin
    observed = values[first] - values[second]
    flipped = _flipped(ms, signs)  # linear in the encoder, so one product per encoder serves all its pairs
    weights = {runs: replicate_weights(runs, samples.shape[1], settings.seed) for runs in {m.replicates.size for m in ms}
               if runs >= FEWEST_RUNS}  # fmt: skip
    error = _correlations(samples)
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for start in range(0, len(pairs), PAIRS):
        block = slice(start, start + PAIRS)
        deltas = samples[first[block]] - samples[second[block]]
        intervals = percentile_intervals(deltas)
        for place, (i, j) in enumerate(pairs[block]):
            delta, interval, number = deltas[place], intervals[place], start + place
            row = {"delta": observed[number], "low": interval.low, "high": interval.high,
                   "sd_delta": interval.sd, "correlation": error[i, j], "mde": minimum_detectable_difference(interval.sd),
                   "resamples_valid": interval.valid}  # fmt: skip
            if margin is not None:
                row |= {"margin": margin, "p_equivalent": p_equivalent(delta, margin), "power_margin": power(margin, interval.sd)}
            both = ms[i].replicates.size == ms[j].replicates.size >= FEWEST_RUNS
            if both:
                runs, of_runs = ms[i].replicates - ms[j].replicates, ms[i].replicate_samples - ms[j].replicate_samples
                two = two_level(runs, of_runs, weights[runs.size], _overlap(ms[i], folds)).clip(-1, 1)
                spread = percentile_interval(two)
                row |= {"two_level_low": spread.low, "two_level_high": spread.high}
                accident = interaction_variance(runs, of_runs) if folds else 0.0
            if flipped is not None:
                turned = flipped[i] - flipped[j]
                row["p_sign_flip_two_sided"] = p_sign_flip(abs(observed[number]), np.abs(turned))
            for one, other, sign in ((i, j, 1.0), (j, i, -1.0)):
                better = -sign if lower else sign
                own = dict(row) if sign > 0 else row | _mirrored(row)
                own["p_one_sided"] = p_one_sided(better * delta)
                if margin is not None:
                    own["p_non_inferior"] = p_non_inferior(better * delta, margin)
                if both:
                    own["p_two_level"] = p_one_sided(better * two)
                    if folds:
                        own["p_corrected_t"] = p_corrected_resampled_t(better * runs, _overlap(ms[i], folds), interval.sd**2, accident)
                if flipped is not None:
                    own["p_sign_flip"] = p_sign_flip(better * observed[number], better * turned)
                    seen = ms[i].patient_images > 0
                    own["p_wilcoxon"] = p_wilcoxon(better * (ms[i].patient_sums - ms[j].patient_sums)[seen] / ms[i].patient_images[seen])
                found[names[one], names[other]] = own
    return found


def _mirrored(row: Mapping[str, Any]) -> dict[str, Any]:
    """The same pair seen from the other side."""
    turned = {"delta": -row["delta"], "low": -row["high"], "high": -row["low"]}
    if "two_level_low" in row:
        turned |= {"two_level_low": -row["two_level_high"], "two_level_high": -row["two_level_low"]}
    return turned


def _flipped(ms: Sequence[Measurement], signs: np.ndarray | None) -> np.ndarray | None:
    """(K, flips) means with patients' signs flipped, of a metric that is a mean over images; None for any other."""
    if signs is None or any(m.patient_sums is None for m in ms):
        return None
    means = np.array([m.patient_sums / m.n_images for m in ms])
    blocks = range(0, len(signs), BLOCK_RESAMPLES)  # as bytes the signs take an eighth of the memory
    return np.concatenate([means @ signs[start : start + BLOCK_RESAMPLES].T.astype(np.float64) for start in blocks], axis=1)


def _correlations(samples: np.ndarray) -> np.ndarray:
    """(K, K) between encoders' resamples: how much of what makes a draw easy or hard they share."""
    valid = samples[:, np.isfinite(samples).all(axis=0)]
    if valid.shape[1] < 3:
        return np.full((len(samples), len(samples)), np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.corrcoef(valid)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line; a named error ends with its sentence and status 1, not with a stack trace."""
    parser = argparse.ArgumentParser(prog="python -m stats.compare", description=__doc__.splitlines()[0])
    parser.add_argument("--task", required=True, choices=sorted(SAMPLE_KEY))
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--reference", required=True, help="encoder written first")
    parser.add_argument("--resamples", type=int, default=500, help="at least 50")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--unit", choices=("patient", "study", "image"), default="patient", help="what is resampled")
    parser.add_argument("--stratified", action="store_true", help="resample within sets of positive labels (linear probe)")
    parser.add_argument("--margin", type=float, default=0.02, help="fraction below which a difference does not matter")
    parser.add_argument("--aggregate", action="append", default=[], metavar="LABEL,LABEL,...",
                        help="a further set of labels to average (linear probe); passed over where one is lacking")  # fmt: skip
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="results/{task}/{dataset}/{encoder}")
    options = parser.parse_args(arguments)
    try:
        check_folder(options.out)
        settings = Settings(enough_resamples(options.resamples), options.seed, options.unit, options.stratified, options.margin,
                            [labels.split(",") for labels in options.aggregate])  # fmt: skip
        written = compare(options.task, options.dataset, options.reference, options.folders, options.out, settings)
    except StatsError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    print(f"{written.folder}: {len(written.facts['encoders'])} encoders, {len(written.facts['absent'])} absent")


if __name__ == "__main__":
    main()
