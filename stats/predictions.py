"""Reading the predictions of several encoders on one dataset and making sure that they can be compared."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet

from .errors import PredictionsError, ProtocolMismatch, SampleMismatch, TruthMismatch
from .provenance import Sidecar, ancestor, read_sidecar
from .text import BLEU_COLUMNS


@dataclass(frozen=True)
class Range:
    """What a number can be: between two ends, and perhaps whole only.

    >>> str(Range()), str(Range(0, 3, whole=True)), str(Range(0, math.inf)), str(Range(-9, 9, whole=True, ends=False))
    ('a number from 0 to 1', 'a whole number from 0 to 3', 'a number, 0 or more', 'a whole number')
    >>> Range(0, 1, whole=True).refuses(np.array([0, 0.5, 1, 2, np.nan, np.inf])).tolist()
    [False, True, False, True, False, True]
    """

    low: float = 0.0
    high: float = 1.0
    whole: bool = False
    fix: str = "write the numbers again"
    ends: bool = True  # whether a message tells them

    def __str__(self) -> str:
        if self.whole and (self.low, self.high) == (0, 1):
            return "0 or 1"
        kind = "a whole number" if self.whole else "a number"
        told = f" from {self.low:g} to {self.high:g}" if math.isfinite(self.high) else f", {self.low:g} or more"
        return kind + told * self.ends

    def refuses(self, values: np.ndarray) -> np.ndarray:
        """(n,) bool; a missing value (NaN) is not refused here."""
        fractions = (values != np.floor(values)) & ~np.isnan(values) if self.whole else False
        return (values < self.low) | (values > self.high) | np.isinf(values) | fractions


_SHARE, _COUNT = Range(fix="divide percentages by 100"), Range(0, math.inf, whole=True)
#: What the numbers of all tasks can be, in the files of a run and in a stranger's.
RANGES = {
    "replicate": Range(-(2**53), 2**53, whole=True, fix="number the folds or seeds, for instance 1 for fold1", ends=False),
    "target": Range(0, 1, whole=True, fix="leave uncertain samples out, for every encoder alike"),
    "score": Range(-math.inf, math.inf, ends=False),
    "dice": _SHARE, "nsd": _SHARE,
    "hd95": Range(fix="give it as a share of the image's diagonal: divide pixels by the diagonal in pixels, mm by the diagonal in mm"),
    "ref_area": Range(0, math.inf), "pred_area": Range(0, math.inf),
    "rouge_l": _SHARE, "rouge_l_coco": _SHARE, "rg_er": _SHARE,
    **{column: _COUNT for column in BLEU_COLUMNS},
    **{f"chexbert_{side}_{k}": Range(0, 3, whole=True) for side in ("ref", "hyp") for k in range(14)},
}  # fmt: skip
#: Numbers that are missing where there is nothing to measure: the reference lacks the structure.
MAY_LACK = ("dice", "hd95", "nsd")
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

COMMON = ["dataset", "task", "encoder", "replicate", "image_id", "patient_id"]
#: Subgroups that a file may know of each image; blank where the owner does not say.
GROUPS = ("sex", "age_band", "view", "site")
#: What else is the same for every encoder and replicate, where the files have it.
ALIKE = ("study_id", *GROUPS)
#: Texts, whatever type a file keeps them in.
_TEXTS = ("dataset", "task", "encoder", "image_id", "patient_id", "label", "structure_set", "structure", "reference", "hypothesis", *ALIKE)


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
    def has_folds(self) -> bool:
        """Whether each replicate is trained on all folds of one training set but one; seeds share all images."""
        return self.sidecar.facts.get("replicates") == "folds"

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
        patients: how many there are, whatever the unit; None where no patient ids are known.
    """

    task: str
    dataset: str
    encoders: list[Predictions]
    unit: str = "patient"
    patient_ids: list[str] = field(default_factory=list)
    patients: int | None = None

    @property
    def present(self) -> list[Predictions]:
        """The encoders that have predictions, in the order given."""
        return [predictions for predictions in self.encoders if not predictions.absent]


def read_cohort(task: str, dataset: str, folders: Sequence[Path | str], unit: str = "patient") -> Cohort:
    """Read every folder, verify hashes, and refuse what cannot be compared.

    Args:
        task: a key of SAMPLE_KEY.
        folders: one per encoder; the folder's name is the encoder's.
        unit: what is resampled: ``patient`` (an image where no patient ids are known), ``study`` (of a patient) or ``image``.

    Returns:
        A cohort whose rows name the unit in ``patient_id``, which is what is drawn, and the patient in ``person``.

    Raises:
        PredictionsError: an encoder is given twice, some patient ids are blank, or study ids are asked for and missing; or see
            :func:`read_rows`.
        SampleMismatch, TruthMismatch, ProtocolMismatch: two encoders differ in samples, in targets, patients or groups, in protocol.
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
        same_samples_and_truth(task, str(other.sidecar.folder), present[0].encoder, first_replicate(present[0].rows),
                               other.encoder, first_replicate(other.rows))  # fmt: skip
    known = _patients_known(present[0])
    patients = present[0].rows["person"].nunique() if known else None
    if not known:  # ids may be there and mean nothing: the index says so
        unit = "image" if unit == "patient" else unit
        for predictions in present:
            predictions.rows["person"] = predictions.rows["image_id"]
    if unit == "study" and any((p.rows["study_id"] == "").any() for p in present):
        raise PredictionsError(str(present[0].sidecar.folder), "images without a study id", "a study id for every image",
                               "resample patients (the default) or images: --unit image")  # fmt: skip
    if unit != "patient":
        for predictions in present:
            predictions.rows["patient_id"] = predictions.rows[f"{unit}_id"]
    return Cohort(task, dataset, encoders, unit, sorted(set(present[0].rows["patient_id"])), patients)


def read_predictions(task: str, dataset: str, folder: Path) -> Predictions:
    """Read one folder; an absent one keeps its reason and no rows.

    Raises:
        SampleMismatch, TruthMismatch: replicates do not cover the same samples, or differ in their truth; or see :func:`read_rows`.
        SidecarError, HashMismatch: meta.json is unusable, or the file is not the one that it vouches for.
    """
    sidecar = read_sidecar(folder)
    encoder = folder.name
    if sidecar.state == "absent":
        return Predictions(encoder, sidecar, None)
    rows = read_rows(sidecar.verified("predictions.parquet"), task, dataset, encoder)
    same_in_every_replicate(task, str(folder), rows)
    return Predictions(encoder, sidecar, rows)


def read_rows(path: Path, task: str, dataset: str, encoder: str, more: Sequence[str] = ()) -> pd.DataFrame:
    """The rows of one file, sorted by sample within replicate (and within each value of the columns ``more``).

    Names are texts, blank where the file has none; a ``study_id`` includes its patient's, because many owners number the studies of
    each patient anew. ``person`` is the patient for whoever counts them, or the image where no patient is named.

    Args:
        path: a parquet file with the columns of docs/formats.md; optional ones (CheXbert, RG_ER, HD95, NSD, groups) come along.
        more: further columns that the file must have.

    Raises:
        PredictionsError: columns are missing, of another task, dataset or encoder, not finite, or outside RANGES.
        SampleMismatch: a sample occurs twice.
    """
    wanted = COMMON + SAMPLE_KEY[task] + TRUTH[task] + PREDICTED[task] + list(more)
    available = pyarrow.parquet.read_schema(path).names
    if missing := [column for column in dict.fromkeys(wanted) if column not in available]:
        raise PredictionsError(str(path), f"no columns {missing}", f"the columns of {task} in docs/formats.md",
                               "run the task again, or give the folder to the task it belongs to")  # fmt: skip
    optional = [name for name in available if name.startswith("chexbert_") or name in ("rg_er", "hd95", "nsd", *ALIKE)]
    rows = pd.read_parquet(path, columns=list(dict.fromkeys(wanted + optional)))
    for column in [name for name in rows.columns if name in _TEXTS]:
        rows[column] = texts(rows[column])

    for column, expected in (("task", task), ("dataset", dataset), ("encoder", encoder)):
        found = sorted(map(str, pd.unique(rows[column])))
        if found != [expected] and not (more and not found):
            raise PredictionsError(str(path), f"{column} {found}", f"[{expected!r}]",
                                   "give the folder of this task, dataset and encoder")  # fmt: skip
    for column in [name for name in rows.columns if name in RANGES]:
        if not pd.api.types.is_numeric_dtype(rows[column].dtype) or pd.api.types.is_bool_dtype(rows[column].dtype):
            rows[column] = pd.to_numeric(rows[column], errors="coerce").astype(np.float64)
        values = rows[column].to_numpy(dtype=np.float64)
        bad = ~np.isfinite(values) & ((rows["ref_area"] > 0) if column in MAY_LACK else True)
        if bad.any():
            raise PredictionsError(str(path), f"{int(bad.sum())} values of {column} that are not finite",
                                   "finite numbers", "look at the task's log for a training that diverged")  # fmt: skip
        if (bad := RANGES[column].refuses(values)).any():
            raise PredictionsError(str(path), f"{column} {values[bad][0]:g} ({int(bad.sum())} such values)", str(RANGES[column]),
                                   "run the task again; of predictions made elsewhere: " + RANGES[column].fix)  # fmt: skip
    if "label" in rows and (reserved := [name for name in pd.unique(rows["label"]) if re.fullmatch(r"Agg-\d+", name)]):
        raise PredictionsError(str(path), f"a label called {reserved[0]}", "another name: so the means over labels are called",
                               "rename the label")  # fmt: skip
    rows["study_id"] = _studies_of_patients(rows["patient_id"], rows["study_id"]) if "study_id" in rows else ""
    rows["person"] = rows["patient_id"].where(rows["patient_id"] != "", rows["image_id"])
    key = [*more, "replicate", *SAMPLE_KEY[task]]
    if (repeated := rows.duplicated(key)).any():
        first = rows.loc[repeated, key].iloc[0].tolist()
        got = f"{int(repeated.sum())} repeated rows of {key}, first {first}"
        raise SampleMismatch(str(path), got, "one row each", "run the task again")
    return rows.sort_values(key, kind="stable", ignore_index=True)


def texts(values: pd.Series) -> np.ndarray:
    """Values as texts, each kept once and blank where it is missing; a whole number loses its point.

    Texts compare and sort alike whatever type a file keeps them in, and a column of whole numbers with a gap is one of fractions.

    >>> texts(pd.Series([7.0, None, 8.5])).tolist(), texts(pd.Series(["a", None])).tolist()
    (['7', '', '8.5'], ['a', ''])
    """
    codes, found = pd.factorize(values)
    words = [str(int(one)) if isinstance(one, float) and one.is_integer() else str(one) for one in found]
    return np.array([*words, ""], dtype=object)[codes]  # code -1 is a missing value


def _studies_of_patients(patients: pd.Series, studies: pd.Series) -> np.ndarray:
    """Patient and study in one text, each text kept once; blank where the study is."""
    (patient, patient_names), (study, study_names) = pd.factorize(patients), pd.factorize(studies)
    codes, pairs = pd.factorize(patient * len(study_names) + study)
    names = [(patient_names[pair // len(study_names)], study_names[pair % len(study_names)]) for pair in pairs]
    return np.array([f"{one}\t{other}" if other else "" for one, other in names], dtype=object)[codes]


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


def same_in_every_replicate(task: str, where: str, rows: pd.DataFrame) -> None:
    """Refuse rows whose replicates differ in more than what was predicted.

    Args:
        where: the file or folder, for the message.
        rows: sorted by sample within replicate.

    Raises:
        SampleMismatch, TruthMismatch: replicates do not cover the same samples, or differ in their truth.
    """
    first = first_replicate(rows)
    first_name = f"replicate {first['replicate'].iloc[0]}"
    for replicate, other in list(rows.groupby("replicate", sort=True))[1:]:
        same_samples_and_truth(task, where, first_name, first, f"replicate {replicate}", other)


def same_samples_and_truth(task: str, where: str, one: str, first: pd.DataFrame, two: str, second: pd.DataFrame) -> None:
    """Refuse two sets of predictions that are not of the same samples, or not with the same truth, patients and groups.

    Args:
        where: the file or folder of the second, for the message; ``one`` and ``two`` name the sets there.
        first: one replicate, sorted by sample, as ``second``.

    Raises:
        SampleMismatch, TruthMismatch: they differ.
    """
    _refuse_difference(where, one, _samples(task, first), two, _samples(task, second))
    _same_truth(task, where, one, first, two, second)


def _same_truth(task: str, where: str, one: str, first: pd.DataFrame, two: str, second: pd.DataFrame) -> None:
    """Of two sets of the same samples in the same order; columns of ALIKE count where both have them, and not all blank."""
    alike = [name for name in ALIKE if all(name in rows and (rows[name] != "").any() for rows in (first, second))]
    for column in [*TRUTH[task], *alike]:
        differs = first[column].to_numpy() != second[column].to_numpy()
        if differs.any():
            samples = ["/".join(map(str, sample)) for sample in _samples(task, first)[differs][:5]]
            raise TruthMismatch(where, f"another {column} in {two} than in {one} for {int(differs.sum())} samples "
                                f"({', '.join(samples)})", f"the same {column}",
                                "run the task again from one index for all of them")  # fmt: skip


def _same_protocol(one: Predictions, two: Predictions) -> None:
    for name in ("version", "protocol", "replicates"):
        a, b = one.sidecar.facts.get(name), two.sidecar.facts.get(name)
        if a == b:
            continue
        if isinstance(a, dict) and isinstance(b, dict):
            keys = sorted(key for key in a.keys() | b.keys() if a.get(key) != b.get(key))
            a, b = {key: a.get(key) for key in keys}, {key: b.get(key) for key in keys}
        raise ProtocolMismatch(str(two.sidecar.folder), f"{name} {b!r}", f"{a!r}, as {one.encoder} has",
                               "run the task again for the older of the two: cells made under different versions "
                               "refuse to share a table")  # fmt: skip


def _patients_known(predictions: Predictions) -> bool:
    """Whether there are patient ids: not where all are blank, nor where the index says that its ids are none.

    Raises:
        PredictionsError: some are blank and others not.
    """
    blank = predictions.rows["patient_id"] == ""
    if blank.any() and not blank.all():
        images = predictions.rows["image_id"][blank].unique()
        raise PredictionsError(str(predictions.sidecar.folder), f"{len(images)} images without a patient_id, among others with one "
                               f"({', '.join(images[:5])})", "a patient_id for every image, or for none",
                               "fill them in, or leave all of them empty: then images are resampled")  # fmt: skip
    index = ancestor(predictions.sidecar, "index")
    return not blank.any() and (index is None or index.facts.get("patient_ids") is not False)
