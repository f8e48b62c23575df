"""One function per task: an encoder's predictions -> metrics, their replicates and their resamples.

The bootstrap statistic of every metric is the *mean over replicates* of the metric on the resample: the same patients
are drawn for every fold or seed. So the interval describes the sample of patients for the procedure that is reported
(the mean of the folds), and the spread between folds is reported beside it as an SD.

All metrics are fractions; "points" are 100 times as much and belong to the tables.

    auprc         step-wise average precision of a label; chance level: `stats.ranking.guessed_average_precision`
    auroc         P(a positive outranks a negative), ties one half; chance level 1/2
    brier         mean of (probability - target)^2 (Brier 1950, Monthly Weather Review 78:1-3); 0 is best
    ece           sum over bins of share of images * |mean probability - share of positives| (Guo et al. 2017, ICML 34,
                  1321-1330; bins of equal size here); 0 is best
    dice          2 |A and B| / (|A| + |B|) of two masks (Dice 1945, Ecology 26:297-302)
    hd95          larger of the two directed 95th percentiles of the distance between outlines, as a share of the image's
                  diagonal; 0 is best (Maier-Hein, Reinke et al. 2024, Metrics Reloaded, Nature Methods 21:195-212)
    nsd           share of both outlines within a tolerance of the other (Nikolov et al. 2021, Journal of Medical Internet
                  Research 23:e26151)
    bleu4         corpus BLEU-4 (`stats.text`)
    rouge_l       F1 of the longest common subsequence, mean over reports; rouge_l_coco: F with recall weighted by 1.2^2
    rg_er         RadGraph reward of entities and relations, mean over reports (Delbrouck et al. 2022, Findings of EMNLP)
    f1_14         unweighted mean of F1 over CheXbert's 14 findings (Smit et al. 2020, EMNLP)
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from .bootstrap import PatientResamples
from .calibration import DRAWS, Gaps, brier_terms, equal_mass_bins
from .predictions import first_replicate
from .ranking import average_precision_and_auroc
from .text import BLEU_COLUMNS, corpus_bleu4, f1_counts, macro_f1

#: The one target of report generation.
REPORT = "report"
#: Metrics of which less is better: an encoder is better where its difference is below zero.
LOWER_IS_BETTER = frozenset({"brier", "ece", "hd95"})
#: Metrics that noise makes larger, on the data and once more on a resample: described with an interval of their own
#: (`calibration.calibration_interval`), but neither compared nor ranked, because what differs may be the noise.
BIASED_UP = frozenset({"ece"})


def gain(metric: str, delta: float) -> float:
    """A difference of two encoders, turned so that above 0 the first is better.

    >>> gain("auprc", 0.1), gain("hd95", 0.1)
    (0.1, -0.1)
    """
    return -delta if metric in LOWER_IS_BETTER else delta


@dataclass(frozen=True)
class Measurement:
    """One encoder, one target, one metric; all values are fractions.

    Attributes:
        target: label, ``Agg-<k>``, structure, structure set or ``report``.
        replicates: (R,) the metric on all test images, per fold or seed; empty when it was not computed.
        replicate_samples: (R, B) the metric of each replicate on each resample; NaN where undefined. A calibration error is content
            with the first `calibration.DRAWS` of them.
        n_images, n_patients: of the test images that the metric is about; an image without a patient id counts as a patient.
        n_units: what is drawn (patients, studies or images) among them.
        n_positive: images with the label or the structure; None where there is no such thing.
        n_positive_units, n_negative_units: of a label, the units that have a positive image, and those that have a negative one; of a
            mean over labels, the fewest of any.
        false_positive_images: segmentation only, images in which an absent structure is predicted.
        patient_sums: (P,) per-patient sums of the per-image metric (mean over replicates) for metrics that are means
            over images, else None; ``n_images`` is their divisor.
        patient_images: (P,) images of each patient, beside ``patient_sums``.
        gaps: of the bins of a calibration error, one part per replicate and label (a mean over labels shares theirs); else empty.
        state: ``ok``, ``undefined`` (the test set lacks a class) or ``not_computed``.
        reason: why it is not ``ok``, or what a mean leaves out.

    >>> folds = Measurement("Edema", "auroc", np.array([0.8, 0.9]), np.array([[0.7, 0.8], [0.9, np.nan]]), n_images=40, n_patients=30)
    >>> round(folds.value, 4), round(folds.sd, 4), folds.samples  # SD of two: 0.1 / sqrt(2)
    (0.85, 0.0707, array([0.8, nan]))
    """

    target: str
    metric: str
    replicates: np.ndarray
    replicate_samples: np.ndarray
    n_images: int
    n_patients: int
    n_units: int = 0
    n_positive: int | None = None
    n_positive_units: int | None = None
    n_negative_units: int | None = None
    false_positive_images: int | None = None
    patient_sums: np.ndarray | None = None
    patient_images: np.ndarray | None = None
    gaps: tuple[Gaps, ...] = ()
    state: str = "ok"
    reason: str = ""

    @functools.cached_property
    def samples(self) -> np.ndarray:
        """(B,) mean over replicates on each resample; NaN where one of them is undefined."""
        return self.replicate_samples.mean(axis=0)

    @property
    def value(self) -> float:
        """Mean over replicates; NaN where it was not computed."""
        return float(self.replicates.mean()) if self.replicates.size else np.nan

    @property
    def sd(self) -> float:
        """SD over replicates (ddof 1); NaN with fewer than two."""
        return float(self.replicates.std(ddof=1)) if self.replicates.size > 1 else np.nan


def _sizes(images: pd.DataFrame) -> dict[str, int]:
    """Counts of rows, one per image; ``person`` is there where the unit that is drawn may be another than the patient."""
    people = images["person" if "person" in images else "patient_id"]
    return {"n_images": len(images), "n_patients": people.nunique(), "n_units": images["patient_id"].nunique()}


def linear_probe(
    rows: pd.DataFrame, resamples: PatientResamples, aggregates: Sequence[Sequence[str]] = (), calibration: bool = True
) -> list[Measurement]:  # fmt: skip
    """AUPRC and AUROC per label, and their unweighted mean over labels as target ``Agg-<k>``; of probabilities also Brier and ECE.

    A label without both classes in the test set is ``undefined`` and stays out of the mean (its name says how many
    labels are in). A resample without positives has no AUPRC; the mean over labels needs all of its labels.

    Args:
        rows: one per replicate x image x label as `stats.predictions.read_rows` gives them, sorted by image within replicate.
        resamples: of the patients of ``rows``.
        aggregates: further sets of labels to average, e.g. the paper's six when the data have seven.
        calibration: whether to add Brier and ECE where every score lies in [0, 1].

    >>> from stats.bootstrap import resample_patients
    >>> rows = pd.DataFrame({"label": "Edema", "replicate": 0, "image_id": list("abcd"), "patient_id": list("abcd"),
    ...                      "target": [0, 0, 1, 1], "score": [0.1, 0.4, 0.35, 0.8]})
    >>> found = linear_probe(rows, resample_patients("abcd", resamples=9, seed=0))
    >>> {m.metric: round(m.value, 4) for m in found}  # Brier (0.01 + 0.16 + 0.4225 + 0.04) / 4; ECE (0.1 + 0.4 + 0.65 + 0.2) / 4
    {'auprc': 0.8333, 'auroc': 0.75, 'brier': 0.1581, 'ece': 0.3375}
    """
    found: list[Measurement] = []
    for label, of_label in rows.groupby("label", sort=True):
        images = first_replicate(of_label)
        replicates = of_label["replicate"].nunique()
        target = images["target"].to_numpy() > 0
        score = of_label["score"].to_numpy(dtype=np.float64).reshape(replicates, -1)
        patients = images["patient_id"].to_numpy()
        size = _sizes(images) | {"n_positive": int(target.sum()), "n_positive_units": np.unique(patients[target]).size,
                                 "n_negative_units": np.unique(patients[~target]).size}  # fmt: skip
        if target.all() or not target.any():
            missing = "negative" if target.all() else "positive"
            found += [
                Measurement(str(label), metric, np.array([]), _nothing(resamples), **size, state="undefined",
                            reason=f"no {missing} image in the test set")
                for metric in ("auprc", "auroc", "brier", "ece")
            ]  # fmt: skip
            continue
        counts = resamples.of_images(patients)
        whole = np.array([average_precision_and_auroc(target, one) for one in score])[:, :, 0]  # (R, 2)
        samples = np.array([average_precision_and_auroc(target, one, counts) for one in score])  # (R, 2, B)
        for i, metric in enumerate(("auprc", "auroc")):
            found.append(Measurement(str(label), metric, whole[:, i], samples[:, i], **size))
        if calibration:
            found += _calibration(str(label), target, score, patients, resamples, size)
    for labels in ({m.target for m in found}, *map(set, aggregates)):
        found += _mean_over_labels(found, labels)
    return list({(m.target, m.metric): m for m in found}.values())


def _calibration(
    label: str, target: np.ndarray, score: np.ndarray, patients: np.ndarray, resamples: PatientResamples, size: dict
) -> list[Measurement]:  # fmt: skip
    """Brier score and expected calibration error, of scores that are probabilities; nothing for any other score."""
    if score.min() < 0 or score.max() > 1:
        return []
    terms = np.array([brier_terms(target, one) for one in score])
    bins = [equal_mass_bins(one) for one in score]
    columns = [np.ones((target.size, 1)), terms.T]
    for one, cut in zip(score, bins, strict=True):
        per_bin = np.zeros((target.size, 3, cut.count))
        per_bin[np.arange(target.size), :, cut.of_image] = np.stack([np.ones(target.size), one, target], axis=1)
        columns.append(per_bin.reshape(target.size, -1))
    sums = resamples.patient_sums(patients, np.concatenate(columns, axis=1))
    replicates = len(score)
    totals = resamples.resampled(sums[:, : 1 + replicates])
    with np.errstate(invalid="ignore", divide="ignore"):
        brier = (totals[:, 1:] / totals[:, :1]).T
    whole, totals = sums.sum(axis=0), resamples.first(DRAWS).resampled(sums)  # one product for all bins
    gaps, start = [], 1 + replicates
    for cut in bins:
        stop = start + 3 * cut.count
        gaps.append(Gaps.of(whole[start:stop].reshape(3, -1), totals[:, start:stop].reshape(len(totals), 3, -1)))
        start = stop
    errors = np.array([np.abs(one.gap).sum() for one in gaps])
    samples = np.array([np.abs(one.drawn).sum(axis=1) for one in gaps])
    return [
        Measurement(label, "brier", terms.mean(axis=1), brier, **size, patient_sums=sums[:, 1 : 1 + replicates].mean(axis=1),
                    patient_images=sums[:, 0]),
        Measurement(label, "ece", errors, samples, **size, gaps=tuple(gaps)),
    ]  # fmt: skip


def _nothing(resamples: PatientResamples) -> np.ndarray:
    """Resamples of a metric that does not exist."""
    return np.full((1, len(resamples.counts)), np.nan)


def _mean_over_labels(found: Sequence[Measurement], labels: set[str]) -> list[Measurement]:
    means = []
    for metric in ("auprc", "auroc", "brier", "ece"):
        chosen = [m for m in found if m.metric == metric and m.target in labels]
        defined = [m for m in chosen if m.state == "ok"]
        if len(defined) < 2:
            continue
        left_out = [m.target for m in chosen if m.state != "ok"]
        means.append(
            Measurement(
                f"Agg-{len(defined)}", metric,
                np.mean([m.replicates for m in defined], axis=0), np.mean([m.replicate_samples for m in defined], axis=0),
                **{name: max(getattr(m, name) for m in defined) for name in ("n_images", "n_patients", "n_units")},
                **{name: min(getattr(m, name) for m in defined) for name in ("n_positive_units", "n_negative_units")},
                reason=f"without {', '.join(left_out)} (undefined)" if left_out else "",
                gaps=tuple(part for m in defined for part in m.gaps),
            )
        )  # fmt: skip
    return means


def segmentation(rows: pd.DataFrame, resamples: PatientResamples) -> list[Measurement]:
    """Dice per structure and per structure set, and HD95 and NSD where the file has them.

    Per image the mean over the structures present in the reference, then the mean over images. An empty reference has
    no Dice to average (both empty: NaN; something predicted: 0 in the file), so it stays out of the mean and the second
    case is counted in ``false_positive_images`` (images in which any replicate predicts an absent structure).

    Args:
        rows: one per replicate x image x structure as `stats.predictions.read_rows` gives them, sorted by image within replicate.
        resamples: of the patients of ``rows``.

    Returns:
        The set first, then its structures. A structure whose name occurs elsewhere is called ``set/structure``; one that is
        in no reference is ``undefined``.

    >>> from stats.bootstrap import resample_patients
    >>> rows = pd.DataFrame({"structure_set": "lungs", "structure": ["left", "right"] * 2, "replicate": 0, "image_id": list("aabb"),
    ...                      "patient_id": list("aabb"), "ref_area": [9, 9, 9, 0], "pred_area": [9, 9, 9, 5], "dice": [0.9, 0.7, 0.6, 0]})
    >>> found = segmentation(rows, resample_patients("ab", resamples=9, seed=0))
    >>> [(m.target, round(m.value, 4), m.n_images, m.false_positive_images) for m in found]  # lungs: (0.8 + 0.6) / 2
    [('lungs', 0.7, 2, 1), ('left', 0.75, 2, 0), ('right', 0.7, 1, 1)]
    """
    sets = rows.groupby("structure_set", sort=True)["structure"].unique()
    names = [str(name) for structures in sets for name in structures]
    found: list[Measurement] = []
    for structure_set, of_set in rows.groupby("structure_set", sort=True):
        found += _overlap_and_boundary(str(structure_set), of_set, resamples)
        for structure, of_structure in of_set.groupby("structure", sort=True):
            alone = of_set["structure"].nunique() == 1 and structure == structure_set
            clash = names.count(str(structure)) > 1 or (structure in sets.index and not alone)
            if not alone:
                name = f"{structure_set}/{structure}" if clash else str(structure)
                found += _overlap_and_boundary(name, of_structure, resamples)
    return found


def _overlap_and_boundary(target: str, rows: pd.DataFrame, resamples: PatientResamples) -> list[Measurement]:
    """Dice, and where the file has them HD95 and NSD, over the images whose reference has the structure."""
    metrics = [metric for metric in ("dice", "hd95", "nsd") if metric in rows]
    present = rows["ref_area"].to_numpy() > 0
    false_positive = int(rows.loc[~present & (rows["pred_area"].to_numpy() > 0), "image_id"].nunique())
    per_image = rows[present].groupby(["replicate", "image_id"], sort=True).agg(
        **{metric: (metric, "mean") for metric in metrics},
        **{name: (name, "first") for name in ("patient_id", "person") if name in rows})  # fmt: skip
    if per_image.empty:
        return [Measurement(target, metric, np.array([]), _nothing(resamples), 0, 0, n_positive=0, false_positive_images=false_positive,
                            state="undefined", reason="in no reference of the test set") for metric in metrics]  # fmt: skip
    images = first_replicate(per_image.reset_index())
    return [
        _mean_over_images(target, metric, per_image[metric].to_numpy().reshape(rows["replicate"].nunique(), -1), images, resamples,
                          n_positive=len(images), false_positive_images=false_positive)
        for metric in metrics
    ]  # fmt: skip


def _mean_over_images(
    target: str, metric: str, values: np.ndarray, images: pd.DataFrame, resamples: PatientResamples, **sizes
) -> Measurement:
    """A metric that is a mean over images: ``values`` (R, n), of the n rows of ``images``."""
    patients = images["patient_id"].to_numpy()
    sums = resamples.patient_sums(patients, np.vstack([values, np.ones(patients.size)]).T)  # (P, R + 1)
    totals = resamples.resampled(sums).T
    with np.errstate(invalid="ignore"):
        samples = np.where(totals[-1] > 0, totals[:-1] / np.maximum(totals[-1], 1), np.nan)
    return Measurement(target, metric, values.mean(axis=1), samples, **_sizes(images),
                       patient_sums=sums[:, :-1].mean(axis=1), patient_images=sums[:, -1], **sizes)  # fmt: skip


def report_generation(rows: pd.DataFrame, resamples: PatientResamples, not_computed: dict[str, str]) -> list[Measurement]:
    """BLEU-4 (corpus), ROUGE-L in two conventions and, where their columns exist, RG_ER and CheXbert macro F1-14.

    Args:
        rows: one per replicate x image as `stats.predictions.read_rows` gives them, sorted by image within replicate.
        resamples: of the patients of ``rows``.
        not_computed: reason by metric, from the predictions' sidecar; a metric without columns and without a reason
            is named as well, never left out.

    >>> from stats.bootstrap import resample_patients
    >>> from stats.ngrams import columns
    >>> texts = columns(["the heart is normal", "no effusion"], ["the heart is normal", "no"])
    >>> rows = pd.DataFrame(texts).assign(replicate=0, image_id=["a", "b"], patient_id=["a", "b"])
    >>> found = report_generation(rows, resample_patients("ab", resamples=9, seed=0), {"rg_er": "no weights"})
    >>> {m.metric: round(m.value, 4) for m in found if m.state == "ok"}  # BLEU: exp(1 - 6/5); ROUGE-L: (1 + 2/3) / 2
    {'bleu4': 0.8187, 'rouge_l': 0.8333, 'rouge_l_coco': 0.8144}
    >>> [(m.metric, m.reason) for m in found if m.metric == "rg_er"]
    [('rg_er', 'no weights')]
    """
    replicates = rows["replicate"].nunique()
    images = first_replicate(rows)
    patients, size = images["patient_id"].to_numpy(), _sizes(images)

    def ratio_of_sums(metric: str, statistics: np.ndarray, of_sums) -> Measurement:
        """``statistics`` (R, n, ...) per report; ``of_sums`` turns totals over reports into the metric."""
        whole = of_sums(statistics.sum(axis=1))
        samples = np.array([of_sums(resamples.resampled(resamples.patient_sums(patients, one))) for one in statistics])
        return Measurement(REPORT, metric, whole, samples, **size)

    def per_replicate(columns: list[str]) -> np.ndarray:
        return rows[columns].to_numpy().reshape(replicates, patients.size, len(columns))

    found = [ratio_of_sums("bleu4", per_replicate(list(BLEU_COLUMNS)).astype(np.float64), corpus_bleu4)]
    for metric in ("rouge_l", "rouge_l_coco", "rg_er"):
        if metric in rows:
            values = per_replicate([metric])[:, :, 0].astype(np.float64)
            found.append(_mean_over_images(REPORT, metric, values, images, resamples))
    reference, hypothesis = ([f"chexbert_{side}_{k}" for k in range(14)] for side in ("ref", "hyp"))
    if all(column in rows for column in reference + hypothesis):
        counts = np.stack([
            f1_counts(ref, hyp) for ref, hyp in zip(per_replicate(reference), per_replicate(hypothesis), strict=True)
        ])  # fmt: skip
        found.append(ratio_of_sums("f1_14", counts, macro_f1))

    computed = {m.metric for m in found}
    for metric in sorted({"rg_er", "f1_14", *not_computed} - computed):
        reason = not_computed.get(metric, "its columns are not in the predictions and no reason is given")
        found.append(Measurement(REPORT, metric, np.array([]), _nothing(resamples), **size, state="not_computed", reason=reason))
    return found
