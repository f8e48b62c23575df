"""Nobody is named in what is written, and the check that says so can find a name."""

import shutil

import numpy as np
import pandas as pd
import pytest

from radbench import index as stage
from radbench import phi
from radbench.errors import DataError
from radbench.index import Spec, build_index
from radbench.store import Index

from .test_dicom import PIXELS, content, dataset


@pytest.fixture
def folder(tmp_path):
    """Twelve DICOM files with a name, a birth date and an id, two per patient."""
    root = tmp_path / "data"
    (root / "images").mkdir(parents=True)
    rows = []
    for number in range(12):
        tags = {"PatientName": f"DOE^JANE{number}X", "PatientID": f"HOSP{number // 2:05}", "PatientBirthDate": "19510203",
                "InstitutionName": "Saint Nowhere"}  # fmt: skip
        (root / "images" / f"{number}.dcm").write_bytes(content(dataset(np.roll(PIXELS, 5 * number, axis=1), **tags)))
        rows.append({"image": f"{number}.dcm", "subject_id": f"HOSP{number // 2:05}", "study_id": f"S{number}", "Cardiomegaly": number % 2})
    pd.DataFrame(rows).to_csv(root / "metadata.csv", index=False)
    return root


def indexed(folder, results):
    build_index("hospital", Spec("folder", root=str(folder), options={"labels": ["Cardiomegaly"]}), results)
    return Index(results / "index" / "hospital")


def test_no_person_of_the_files_is_in_the_outputs(folder, tmp_path, capsys):
    """After indexing, no name, birth date or institution of any file is in any output; the owner's ids are, and that is said."""
    indexed(folder, tmp_path / "results")
    assert stage.check_phi(folder, tmp_path / "results") == 0
    printed = capsys.readouterr().out
    assert "person: in no output" in printed and "RADBENCH_SALT" in printed


@pytest.mark.parametrize("name", ["leak.csv", "page.html", "leak.parquet"])
def test_a_name_in_an_output_is_found(folder, tmp_path, capsys, name):
    """A person's name that somebody put into a table is found by file, and the name itself is not printed."""
    indexed(folder, tmp_path / "results")
    text = "reported by doe, jane3x" if not name.endswith("parquet") else None
    if text:
        (tmp_path / "results" / name).write_text(text)
    else:
        pd.DataFrame({"note": ["fine", "Saint Nowhere, ward 3"]}).to_parquet(tmp_path / "results" / name)
    assert stage.check_phi(folder, tmp_path / "results") == 1
    printed = capsys.readouterr().out
    assert name in printed and "jane" not in printed.lower() and "nowhere" not in printed.lower()


def test_a_salt_hides_the_owners_ids_and_keeps_who_belongs_together(folder, tmp_path, monkeypatch, capsys):
    """With a salt no identifier is in the outputs, the number of patients and their images is the same; another salt, another index."""
    plain = indexed(folder, tmp_path / "plain")
    keys = [plain.meta.fields["key"]]
    for salt in ("one", "two"):
        monkeypatch.setenv("RADBENCH_SALT", salt)
        salted = indexed(folder, tmp_path / salt)
        keys.append(salted.meta.fields["key"])
        assert phi.check(folder, tmp_path / salt) == {"person": [], "identifier": []}
        assert sorted(pd.Series(salted["patient_id"]).value_counts()) == sorted(pd.Series(plain["patient_id"]).value_counts())
        assert "HOSP" not in salted.meta.path.read_text() and salt not in salted.meta.path.read_text().split()
    assert len(set(keys)) == 3


def test_nothing_to_prove_is_an_error(tmp_path):
    """A folder without DICOM files cannot prove anything and says so."""
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(DataError, match="no DICOM file"):
        phi.check(tmp_path, tmp_path)
    shutil.rmtree(tmp_path)
