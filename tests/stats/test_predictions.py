"""Folders of predictions as they are read: what cannot be is refused, what is alike stays alike, who is counted and who is drawn."""

import numpy as np
import pandas as pd
import pytest

from stats.compare import Settings, compare
from stats.errors import PredictionsError, TruthMismatch
from stats.predictions import read_cohort, read_rows
from stats.provenance import read_sidecar

TASKS = {"label": "linear_probe", "structure": "segmentation", "reference": "report_generation"}


def read(results, *frames: pd.DataFrame, **options):
    """The cohort of encoders a, b, ... with these rows."""
    task = next(task for column, task in TASKS.items() if column in frames[0])
    return read_cohort(task, "toy", [results.write(task, "toy", "abc"[k], frame) for k, frame in enumerate(frames)], **options)


@pytest.mark.parametrize(("make", "column", "value", "allowed"), [
    ("probe_rows", "target", -1.0, "0 or 1"), ("probe_rows", "target", 0.4, "0 or 1"), ("probe_rows", "replicate", 0.5, "a whole number"),
    ("segmentation_rows", "dice", 1.5, "a number from 0 to 1"), ("segmentation_rows", "pred_area", -5, "a number, 0 or more"),
    ("segmentation_rows", "ref_area", -5, "a number, 0 or more"), ("segmentation_rows", "hd95", -1.0, "a number from 0 to 1"),
    ("segmentation_rows", "nsd", 7.0, "a number from 0 to 1"), ("report_rows", "rg_er", 37.5, "a number from 0 to 1"),
    ("report_rows", "rouge_l", 37.5, "a number from 0 to 1"), ("report_rows", "bleu_match_2", -1, "a whole number, 0 or more"),
    ("report_rows", "chexbert_ref_5", 8, "a whole number from 0 to 3")])  # fmt: skip
def test_numbers_that_cannot_be_are_refused(results, make, column, value, allowed):
    """A number outside what its column can hold is refused with the column, the value and what it can be."""
    rows = getattr(results, make)(0.5)
    rows[column] = rows.get(column, 0 if column.startswith("chexbert") else 0.5)
    rows[column] = rows[column].astype(np.float64).where(rows.index != 9, value)
    with pytest.raises(PredictionsError, match=f"got {column} {value:g} .1 such values.; expected {allowed};"):
        read(results, rows)


@pytest.mark.parametrize(("make", "column"), [("probe_rows", "target"), ("probe_rows", "patient_id"), ("segmentation_rows", "ref_area"),
                                              ("report_rows", "reference"), ("probe_rows", "sex"), ("probe_rows", "study_id")])  # fmt: skip
def test_truth_is_the_same_in_every_replicate_and_encoder(results, make, column):
    """Another target, patient, area, reference, group or study of an image in another replicate or encoder is refused with the image."""
    one = getattr(results, make)(0.5)
    one = pd.concat([one[one["replicate"] == 0].assign(replicate=k) for k in (0, 1)], ignore_index=True)
    one[column] = one.get(column, "F")
    for there in (one["replicate"] == 1, one["replicate"] >= 0):
        place = there & (one["image_id"] == "image050")
        changed = {"target": 1 - one.get("target", 0), "ref_area": one.get("ref_area", 0) + 7}.get(column, "other")
        other = one.assign(**{column: one[column].where(~place, changed)})
        with pytest.raises(TruthMismatch, match=f"got another {column} in .*image050"):
            read(results, one, other)


def test_ids_of_any_type_are_texts(results):
    """Whole numbers as ids, also beside missing ones, and names of labels give the cohort of the same texts; targets may be booleans."""
    rows = results.probe_rows(1.0, labels=("1", "2"))
    numbers = rows.assign(patient_id=rows["patient_id"].str[-3:].astype(int), label=rows["label"].astype(int),
                          study_id=rows["image_id"].str[-3:].astype(float), target=rows["target"] > 0)  # fmt: skip
    words = rows.assign(patient_id=rows["patient_id"].str[-3:].astype(int).astype(str),
                        study_id=rows["image_id"].str[-3:].astype(int).astype(str))  # fmt: skip
    one, other = (read(results, frame).encoders[0].rows for frame in (numbers, words))
    pd.testing.assert_frame_equal(one, other, check_dtype=False)
    assert read(results, numbers, words).patients == 60
    folder = results.write("linear_probe", "toy", "a", numbers)
    compare("linear_probe", "toy", "a", [folder], "results/stats/linear_probe/toy", Settings(resamples=5))


@pytest.mark.parametrize("unit", ["patient", "study", "image"])
def test_patients_are_all_known_or_none(results, unit):
    """Some blank patient ids among others are refused with their images; where all are blank, or the index knows none, images are drawn."""
    rows = results.probe_rows(1.0).assign(study_id="s")
    some = rows.assign(patient_id=rows["patient_id"].where(rows["image_id"] != "image007", ""))
    with pytest.raises(PredictionsError, match=r"1 images without a patient_id.*\(image007\).*leave all of them empty"):
        read(results, some, unit=unit)
    none = read(results, rows.assign(patient_id=""), unit=unit)
    assert none.patients is None and none.unit == ("image" if unit == "patient" else unit)
    known = read(results, rows, unit=unit)
    assert (known.patients, known.unit) == (60, unit) and len(known.patient_ids) == {"patient": 60, "study": 60, "image": 120}[unit]


def test_studies_of_two_patients_are_two(results):
    """A study id that every patient has is one study of each: drawn so, in the learning curve too, and the patients are counted."""
    rows = results.probe_rows(1.0, labels=("x",)).assign(study_id=lambda r: "s" + (r["image_id"].str[-1] > "7").astype(int).astype(str))
    curve = rows[rows["replicate"] == 0].assign(train_images=50)
    folder = results.write("linear_probe", "toy", "a", rows, curve=curve, learned=100)
    out = "results/stats/linear_probe/toy"
    compare("linear_probe", "toy", "a", [folder], out, Settings(resamples=20, unit="study"))
    estimates, curves = (pd.read_csv(f"{out}/{name}.csv") for name in ("estimates", "learning_curves"))
    units = rows.groupby(["patient_id", "study_id"]).ngroups
    assert set(estimates["n_units"]) == {units} and 60 <= units < 120
    assert set(estimates["n_patients"]) == set(curves["n_patients"]) == {60}
    facts = read_sidecar(out).facts
    assert (facts["patients"], facts["units"]) == (60, units)


def test_a_study_that_is_missing_stays_so(results):
    """Patient and study make the study id; a blank one stays blank, and a file without the column has blanks."""
    rows = results.probe_rows(1.0, labels=("x",), replicates=1)
    folder = results.write("linear_probe", "toy", "a", rows.assign(study_id=["", *["s"] * 119]))
    found = read_rows(folder / "predictions.parquet", "linear_probe", "toy", "a")
    assert found["study_id"].tolist() == ["", *(f"{patient}\ts" for patient in results.patients[1:])]
    folder = results.write("linear_probe", "toy", "a", rows)
    assert set(read_rows(folder / "predictions.parquet", "linear_probe", "toy", "a")["study_id"]) == {""}
