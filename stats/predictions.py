"""Reading the predictions of several encoders on one dataset and making sure that they can be compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet

from .errors import PredictionsError, ProtocolMismatch, SampleMismatch, TruthMismatch
from .provenance import Sidecar, ancestor, read_sidecar
from .text import BLEU_COLUMNS

#: What identifies a sample, and what must not depend on the encoder, per task.
SAMPLE_KEY = {
    "linear_probe": ["image_id", "label"],
    "segmentation": ["image_id", "structure_set", "structure"],
    "report_generation": ["image_id"],
}
TRUTH = {
    "linear_probe": ["patient_id", "target"],
    "segmentation": ["patient_id", "ref_area"],
    "report_generation": ["patient_id", "reference"],
}
#: What was predicted, per task.
PREDICTED = {
    "linear_probe": ["score"],
    "segmentation": ["dice", "pred_area"],
    "report_generation": ["hypothesis", "rouge_l", "rouge_l_coco", *BLEU_COLUMNS],
}
#: Numbers that must be finite, per task (Dice may be NaN where the reference is empty).
FINITE = {
    "linear_probe": ["target", "score"],
    "segmentation": ["dice"],
    "report_generation": ["rouge_l", "rouge_l_coco", "rg_er"],
}

COMMON = ["dataset", "task", "encoder", "replicate", "image_id", "patient_id"]
#: Subgroups that a file may know of each image; blank where the owner does not say.
GROUPS = ("sex", "age_band", "view", "site")


@dataclass(frozen=True)
class Predictions:
    """One encoder's predictions: sorted rows, or the reason why there are none.

    Attributes:
        rows: sorted by sample key within replicate; None when absent.
    """

    encoder: str
    sidecar: Sidecar
    rows: pd.DataFrame | None  # sorted by sample key within replicate; None when absent

    @property
    def absent(self) -> bool:
        """Whether the encoder has no predictions; its sidecar has the reason."""
        return self.rows is None

    @property
    def reduced(self) -> str:
        """What was made smaller than the benchmark's protocol; empty for the full protocol."""
        return "; ".join(map(str, self.sidecar.facts.get("reduced") or []))


@dataclass(frozen=True)
class Cohort:
    """The predictions of all encoders on one dataset, checked against each other.

    Attributes:
        encoders: in the order given, absent ones included.
        unit: ``patient``; ``study`` or ``image`` when asked for; ``image`` also where the dataset carries no patient ids.
        patient_ids: sorted, each once, of that unit; empty when every encoder is absent.
    """

    task: str
    dataset: str
    encoders: list[Predictions]
    unit: str = "patient"
    patient_ids: list[str] = field(default_factory=list)

    @property
    def present(self) -> list[Predictions]:
        """The encoders that have predictions, in the order given."""
        return [predictions for predictions in self.encoders if not predictions.absent]


def read_cohort(task: str, dataset: str, folders: Sequence[Path | str], unit: str = "patient") -> Cohort:
    """Read every folder, verify hashes, and refuse what cannot be compared.

    Args:
        task: a key of SAMPLE_KEY.
        folders: one per encoder; the folder's name is the encoder's.
        unit: what is resampled: ``patient`` (an image where no patient ids are known), ``study`` or ``image``.

    Raises:
        PredictionsError: an encoder is given twice, or study ids are asked for and missing; or see :func:`read_rows`.
        SampleMismatch, TruthMismatch, ProtocolMismatch: two encoders differ in samples, in targets or patients, in protocol.
        SidecarError, HashMismatch: a meta.json is unusable, or a file is not the one that it vouches for.
    """
    encoders = [read_predictions(task, dataset, Path(folder)) for folder in folders]
    names = [predictions.encoder for predictions in encoders]
    if len(set(names)) < len(names):
        raise PredictionsError("arguments", f"encoders {names}", "each encoder once", "remove the repeated folder")
    present = [predictions for predictions in encoders if not predictions.absent]
    if not present:
        return Cohort(task, dataset, encoders)
    for other in present[1:]:
        _same_protocol(present[0], other)
        _same_samples(task, present[0], other)
        _same_truth(task, present[0], other)
    if unit == "patient":
        unit = _resampling_unit(present)
    if unit == "study" and any((p.rows["study_id"].isna() | (p.rows["study_id"] == "")).any() for p in present):
        raise PredictionsError(str(present[0].sidecar.folder), "images without a study id", "a study id for every image",
                               "resample patients (the default) or images: --unit image")  # fmt: skip
    if unit != "patient":
        for predictions in present:
            predictions.rows["patient_id"] = predictions.rows[f"{unit}_id"]
    return Cohort(task, dataset, encoders, unit, sorted(set(present[0].rows["patient_id"])))


def read_predictions(task: str, dataset: str, folder: Path) -> Predictions:
    """Read one folder; an absent one keeps its reason and no rows.

    Raises:
        SampleMismatch: replicates do not cover the same samples; or see :func:`read_rows`.
        SidecarError, HashMismatch: meta.json is unusable, or the file is not the one that it vouches for.
    """
    sidecar = read_sidecar(folder)
    encoder = folder.name
    if sidecar.state == "absent":
        return Predictions(encoder, sidecar, None)
    rows = read_rows(sidecar.verified("predictions.parquet"), task, dataset, encoder)
    predictions = Predictions(encoder, sidecar, rows)
    _same_samples_in_every_replicate(task, predictions)
    return predictions


def read_rows(path: Path, task: str, dataset: str, encoder: str, more: Sequence[str] = ()) -> pd.DataFrame:
    """The rows of one file, sorted by sample within replicate (and within each value of the columns ``more``).

    Args:
        path: a parquet file with the columns of docs/formats.md; optional ones (CheXbert, RG_ER, HD95, NSD, groups) come along.
        more: further columns that the file must have.

    Raises:
        PredictionsError: columns are missing, of another task, dataset or encoder, or not finite.
        SampleMismatch: a sample occurs twice.
    """
    wanted = COMMON + SAMPLE_KEY[task] + TRUTH[task] + PREDICTED[task] + list(more)
    available = pyarrow.parquet.read_schema(path).names
    if missing := [column for column in dict.fromkeys(wanted) if column not in available]:
        raise PredictionsError(str(path), f"no columns {missing}", f"the columns of {task} in docs/formats.md",
                               "run the task again, or give the folder to the task it belongs to")  # fmt: skip
    optional = [name for name in available if name.startswith("chexbert_") or name in ("rg_er", "hd95", "nsd", "study_id", *GROUPS)]
    rows = pd.read_parquet(path, columns=list(dict.fromkeys(wanted + optional)))
    # Plain object strings compare and sort alike whatever string type the file was written with; each text is kept once.
    for column in rows.columns:
        if not pd.api.types.is_numeric_dtype(rows[column].dtype):
            codes, texts = pd.factorize(rows[column])
            rows[column] = np.append(np.asarray(texts, dtype=object), None)[codes]  # code -1 is a missing text

    for column, expected in (("task", task), ("dataset", dataset), ("encoder", encoder)):
        found = sorted(map(str, pd.unique(rows[column])))
        if found != [expected] and not (more and not found):
            raise PredictionsError(str(path), f"{column} {found}", f"[{expected!r}]",
                                   "give the folder of this task, dataset and encoder")  # fmt: skip
    matters = rows["ref_area"] > 0 if task == "segmentation" else np.ones(len(rows), dtype=bool)
    for column in set(FINITE[task]) & set(rows.columns):
        bad = ~np.isfinite(rows[column].to_numpy(dtype=np.float64)) & matters
        if bad.any():
            raise PredictionsError(str(path), f"{int(bad.sum())} values of {column} that are not finite",
                                   "finite numbers", "look at the task's log for a training that diverged")  # fmt: skip
    key = [*more, "replicate", *SAMPLE_KEY[task]]
    if (repeated := rows.duplicated(key)).any():
        first = rows.loc[repeated, key].iloc[0].tolist()
        got = f"{int(repeated.sum())} repeated rows of {key}, first {first}"
        raise SampleMismatch(str(path), got, "one row each", "run the task again")
    return rows.sort_values(key, kind="stable", ignore_index=True)


def first_replicate(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of one replicate, the one of the first row: every sample once.

    Raises:
        IndexError: there are no rows.

    >>> first_replicate(pd.DataFrame({"replicate": [0, 0, 1, 1], "score": [0.1, 0.9, 0.2, 0.8]}))["score"].tolist()
    [0.1, 0.9]
    """
    return rows[rows["replicate"] == rows["replicate"].iloc[0]]


def _samples(task: str, rows: pd.DataFrame) -> pd.MultiIndex:
    return pd.MultiIndex.from_frame(rows[SAMPLE_KEY[task]])


def _refuse_difference(where: str, one: str, first: pd.MultiIndex, two: str, second: pd.MultiIndex) -> None:
    if first.equals(second):
        return
    only_first, only_second = first.difference(second), second.difference(first)
    examples = [f"only in {one}: {'/'.join(map(str, sample))}" for sample in only_first[:5]]
    examples += [f"only in {two}: {'/'.join(map(str, sample))}" for sample in only_second[: 5 - len(examples)]]
    raise SampleMismatch(
        where, f"{len(only_first)} samples only in {one} and {len(only_second)} only in {two} ({'; '.join(examples)})",
        "the same samples in both", "run the task again for the one whose index or features are older",
    )  # fmt: skip


def _same_samples_in_every_replicate(task: str, predictions: Predictions) -> None:
    first: pd.MultiIndex | None = None
    for replicate, rows in predictions.rows.groupby("replicate", sort=True):
        samples = _samples(task, rows)
        if first is None:
            first, first_name = samples, f"replicate {replicate}"
        else:
            _refuse_difference(str(predictions.sidecar.folder), first_name, first, f"replicate {replicate}", samples)


def _same_samples(task: str, one: Predictions, two: Predictions) -> None:
    _refuse_difference(str(two.sidecar.folder), one.encoder, _samples(task, first_replicate(one.rows)),
                       two.encoder, _samples(task, first_replicate(two.rows)))  # fmt: skip


def _same_truth(task: str, one: Predictions, two: Predictions) -> None:
    first, second = first_replicate(one.rows), first_replicate(two.rows)
    for column in TRUTH[task]:
        a, b = first[column].to_numpy(), second[column].to_numpy()
        differs = (a != b) & ~(pd.isna(a) & pd.isna(b))
        if differs.any():
            samples = ["/".join(map(str, sample)) for sample in _samples(task, first)[differs][:5]]
            raise TruthMismatch(str(two.sidecar.folder), f"another {column} than {one.encoder} for "
                                f"{int(differs.sum())} samples ({', '.join(samples)})", f"the same {column}",
                                "run the task again from one index for both encoders")  # fmt: skip


def _same_protocol(one: Predictions, two: Predictions) -> None:
    for name in ("version", "protocol"):
        a, b = one.sidecar.facts.get(name), two.sidecar.facts.get(name)
        if a == b:
            continue
        if isinstance(a, dict) and isinstance(b, dict):
            keys = sorted(key for key in a.keys() | b.keys() if a.get(key) != b.get(key))
            a, b = {key: a.get(key) for key in keys}, {key: b.get(key) for key in keys}
        raise ProtocolMismatch(str(two.sidecar.folder), f"{name} {b!r}", f"{a!r}, as {one.encoder} has",
                               "run the task again for the older of the two: cells made under different versions "
                               "refuse to share a table")  # fmt: skip


def _resampling_unit(present: Sequence[Predictions]) -> str:
    """``image`` when the index says that it knows no patients, or when ids are blank."""
    for predictions in present:
        ids = predictions.rows["patient_id"]
        if ids.isna().any() or (ids.astype(str) == "").any():
            return "image"
    index = ancestor(present[0].sidecar, "index")
    return "image" if index is not None and index.facts.get("patient_ids") is False else "patient"
