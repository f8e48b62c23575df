"""Nobody is named in what is written, and the check that says so can find a name."""

import datetime
import gzip
import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from radbench import index as stage
from radbench import phi
from radbench.datasets import fixtures
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
    """Without DICOM files, without person tags, or without outputs nothing can be proved, and each says so."""
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(DataError, match="no DICOM file"):
        phi.check(tmp_path, tmp_path)
    one(tmp_path / "tagless", PatientName=None, PatientID="HOSP00012")
    with pytest.raises(DataError, match="no tag that names a person in 1 DICOM files.*got 1 identifiers, in .*leak.csv"):
        phi.check(tmp_path / "tagless", outputs_with(tmp_path, "leak.csv", "a,HOSP00012"))
    one(tmp_path / "nobody", PatientName="ANONYMOUS", PatientID="4")
    with pytest.raises(DataError, match="no tag that names a person.*got 0 identifiers"):
        phi.check(tmp_path / "nobody", tmp_path / "out")
    one(tmp_path / "named", PatientName="DOE^JANE")
    (tmp_path / "empty").mkdir()
    for results in ("none", "empty"):
        with pytest.raises(DataError, match=f"{results}: no output to search in"):
            phi.check(tmp_path / "named", tmp_path / results)


# ------------------------------------------------------------ spellings, kinds of outputs, places of tags


def one(folder, name="a.dcm", **tags):
    """A folder with one DICOM file of these tags."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content(dataset(PIXELS, **tags)))
    return folder


def outputs_with(tmp_path, name, text):
    path = tmp_path / "out" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return tmp_path / "out"


UTF8 = {"SpecificCharacterSet": "ISO_IR 192"}
SHORT = {"PatientName": "KIM^BO"}
DATE = {"PatientName": "X", "PatientBirthDate": "19510203"}
FOUND = {
    "short name": (SHORT, "a.csv", "x,KIM^BO"),
    "short name, blank": (SHORT, "a.csv", "seen by Kim Bo today"),
    "short name, underline": (SHORT, "a.csv", "kim_bo_2.dcm"),
    "short name, reversed": (SHORT, "a.csv", "Bo Kim"),
    "short name, comma": (SHORT, "a.csv", "Kim, Bo"),
    "short name in one part": ({"PatientName": "KIM BO"}, "a.csv", "Bo Kim"),
    "short and long part": ({"PatientName": "LI^WEIMING"}, "a.csv", "weiming"),
    "Chinese name": ({"PatientName": "Wang^XiaoDong=王^小东", **UTF8}, "a.csv", "患者王小东复查"),
    "JSON": ({"PatientName": "MÜLLER^ANNA", **UTF8}, "a.json", '{"n": "M\\u00fcller"}'),
    "JSON in a page": ({"PatientName": "MÜLLER^ANNA", **UTF8}, "a.html", "<p>M&#92;u00fcller</p>"),
    "no accent": ({"PatientName": "MÜLLER^ANNA", **UTF8}, "a.csv", "Muller"),
    "HTML": ({"PatientName": "O'BRIEN^PAT"}, "a.html", "O&#x27;Brien"),
    "HTML, letters": ({"PatientName": "MÜLLER^ANNA", **UTF8}, "a.html", "M&uuml;ller"),
    "LaTeX accent": ({"PatientName": "MÜLLER^ANNA", **UTF8}, "a.tex", 'M\\"{u}ller'),
    "LaTeX": ({"InstitutionName": "Nowhere & Sons"}, "a.tex", "Nowhere \\& Sons"),
    "URL": ({"PatientName": "MÜLLER^ANNA", **UTF8}, "a.html", "?q=M%C3%BCller"),
    "full width": ({"PatientName": "DOE^JANE"}, "a.csv", "ＪＡＮＥ"),
    "date, plain": (DATE, "a.csv", "1,19510203,2"),
    "date, ISO": (DATE, "a.csv", "1951-02-03"),
    "date, time": (DATE, "a.csv", "1951-02-03T00:00:00"),
    "date, day first": (DATE, "a.csv", "born 3.2.1951"),
    "date, month first": (DATE, "a.csv", "02/03/1951"),
    "date, words": (DATE, "a.csv", "February 3rd, 1951"),
    "file name": ({"PatientName": "DOE^JANE"}, "doe_jane.bin", b"\0"),
    "folder name": ({"PatientName": "DOE^JANE"}, "Jane Doe/a.csv", "x"),
    "tsv": ({"PatientName": "DOE^JANE"}, "a.tsv", "jane"),
    "yaml": ({"PatientName": "DOE^JANE"}, "a.yaml", "name: jane"),
    "jsonl": ({"PatientName": "DOE^JANE"}, "a.jsonl", '{"n": "jane"}'),
    "svg": ({"PatientName": "DOE^JANE"}, "a.svg", "<text>jane</text>"),
    "gz": ({"PatientName": "DOE^JANE"}, "a.csv.gz", gzip.compress(b"jane")),
    "no suffix, UTF-16": ({"PatientName": "DOE^JANE"}, "notes", "jane".encode("utf-16")),
    "requesting physician": ({"PatientName": "X", "RequestingPhysician": "ROE^RICHARD"}, "a.csv", "Dr. Richard"),
    "operators": ({"PatientName": "X", "OperatorsName": ["A^B", "ROE^RICHARD"]}, "a.csv", "Richard"),
}


@pytest.mark.parametrize("case", FOUND)
def test_each_spelling_is_found_in_each_kind_of_output(tmp_path, case):
    """A value of a person tag is found in an output however it is spelled, escaped or filed there."""
    tags, name, text = FOUND[case]
    results = outputs_with(tmp_path, name, text)
    assert phi.check(one(tmp_path / "data", **tags), results)["person"] == [str(results / name)]


NOT_FOUND = {
    "part of a word": (SHORT, "about a kimono; kim knows, bo peeps"),
    "part of two words": (SHORT, "akim bob"),
    "part of a number": (DATE, "9195102031 or 119510203"),
    "another date": (DATE, "1951-02-13, 13.2.1951"),
    "a pseudonym": ({"PatientName": "PATIENT^0012"}, "patient_id,patient 00123"),
}


@pytest.mark.parametrize("case", NOT_FOUND)
def test_what_only_resembles_a_name_is_not_found(tmp_path, case):
    """Short names are whole words side by side, and numbers are whole numbers."""
    tags, text = NOT_FOUND[case]
    assert phi.check(one(tmp_path / "data", **tags), outputs_with(tmp_path, "a.csv", text))["person"] == []


PARQUET = {
    "text": lambda: pa.table({"note": ["fine", "jane"]}),
    "categorical": lambda: pa.table({"note": pa.array(["fine", "jane"]).dictionary_encode()}),
    "list": lambda: pa.table({"note": [["fine"], ["x", "jane"]]}),
    "struct": lambda: pa.table({"note": [{"a": 1, "b": "jane"}]}),
    "bytes": lambda: pa.table({"note": [b"jane"]}),
    "column name": lambda: pa.table({"jane": [1.5]}),
    "metadata": lambda: pa.table({"a": [1.5]}).replace_schema_metadata({"by": "jane"}),
    "date": lambda: pa.table({"born": [datetime.date(1951, 2, 3)]}),
    "time": lambda: pa.table({"born": [datetime.datetime(1951, 2, 3)]}),
    "whole number": lambda: pa.table({"born": [19510203]}),
}


@pytest.mark.parametrize("case", PARQUET)
def test_each_place_of_a_parquet_file_is_searched(tmp_path, case):
    """A name or birth date in a text, categorical, nested, binary, date or integer column, or in a column's name, is found."""
    outputs_with(tmp_path, "a.parquet", b"")
    pq.write_table(PARQUET[case](), tmp_path / "out" / "a.parquet")
    assert phi.check(one(tmp_path / "data", PatientName="DOE^JANE", PatientBirthDate="19510203"), tmp_path / "out")["person"]


@pytest.mark.parametrize("pack", ["a.zip", "a.tgz", "nested.zip"])
def test_names_of_dicom_in_archives_are_sought(tmp_path, pack):
    """DICOM files within zip, tar and an archive within an archive give their names to the search, too."""
    folder = one(tmp_path / "data", PatientName="DOE^JANE")
    body = {"x/a.dcm": (folder / "a.dcm").read_bytes()}
    (folder / "a.dcm").unlink()
    packed = fixtures.tarred(body) if pack == "a.tgz" else fixtures.zipped({"b.zip": fixtures.zipped(body)} if "nested" in pack else body)
    (folder / pack).write_bytes(packed)
    found = phi.check(folder, outputs_with(tmp_path, "a.csv", "jane"))
    assert found["person"] and found.sought.files == 1


def test_the_report_says_what_was_searched(tmp_path):
    """How many values of how many DICOM files were sought in how many outputs, and what was not read or searched, is said."""
    folder = one(tmp_path / "data", PatientName="DOE^JANE", PatientID="HOSP00012", AccessionNumber="7")
    one(folder, "b.dcm", PatientName="ROE^RICHARD", PatientID="HOSP00013")
    results = outputs_with(tmp_path, "a.csv", "HOSP00012")
    outputs_with(tmp_path, "b.bin", b"\0jane")
    (results / "c.csv").hardlink_to(results / "a.csv")
    text = phi.report(phi.check(folder, results))
    assert "searched: 2 values of persons and 2 identifiers of 2 DICOM files in 2 outputs" in text
    assert "by their path alone: 1 of" in text and "not searched: 3 values" in text  # "7", and the UID "1.2.3" of both
    assert "person: in no output" in text and f"identifier: in {results / 'a.csv'}\n" in text and "RADBENCH_SALT" in text


def test_a_name_that_is_the_id_again_is_an_identifier(tmp_path):
    """Where the owner wrote the id in place of the name, as RSNA did, finding it is no finding of a person."""
    tags = {"PatientName": "0004cfab-14fd", "PatientID": "0004cfab-14fd", "ReferringPhysicianName": "DOE^JANE"}
    found = phi.check(one(tmp_path / "data", **tags), outputs_with(tmp_path, "a.csv", "0004cfab-14fd"))
    assert found["person"] == [] and found["identifier"]


@pytest.mark.parametrize("copy", ["mimic_cxr_dicom", "brax_dicom", "vindr_cxr", "rsna", "candid_ptx", "siim_acr"])
def test_the_copies_hold_persons_that_no_output_names(tmp_path, copy):
    """Every copy in DICOM has made-up names, ids and birth dates; its index has none of them, and a planted one is found."""
    root = fixtures.write(copy, tmp_path / copy, patients=12)
    build_index("d", Spec(max(("mimic_cxr", "brax", "vindr_cxr", "rsna", "candid_ptx", "siim_acr"), key=lambda name: copy.startswith(name)),
                          root=str(root), options={}, max_broken=0.2), tmp_path / "results")  # fmt: skip
    found = phi.check(root, tmp_path / "results")
    assert found == {"person": [], "identifier": []} and len(found.sought.person) >= 20 and len(found.sought.identifier) >= 10
    (tmp_path / "results" / "leak.txt").write_text(fixtures.person(0)["PatientName"].title())
    assert phi.check(root, tmp_path / "results")["person"] == [str(tmp_path / "results" / "leak.txt")]


def test_many_values_are_one_pattern(tmp_path):
    """Every one of a thousand ids is found, and none that is one figure longer."""
    terms = {term for number in range(1000) for term in phi._whole(f"HOSP{number:05}")}
    pattern = re.compile(phi._one_pattern(terms))
    assert all(pattern.search(f"xhosp{number:05}.") and not pattern.search(f"hosp{number:05}1") for number in range(1000))


@pytest.mark.parametrize("tag", ["SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "AccessionNumber"])
def test_uids_of_the_archive_are_identifiers(folder, tmp_path, capsys, tag):
    """A UID of a DICOM that is an image's or a study's id in the index is found and said, with the way to hide it."""
    value = "1.2.392.200036.9125.9.0.900001.1" if tag.endswith("UID") else "ACC4711"
    (folder / "images" / "0.dcm").write_bytes(content(dataset(PIXELS, PatientName="DOE^JANE0X", **{tag: value})))
    table = pd.read_csv(folder / "metadata.csv", dtype=str)
    table.loc[0, "study_id"] = value
    table.to_csv(folder / "metadata.csv", index=False)
    indexed(folder, tmp_path / "results")
    assert stage.check_phi(folder, tmp_path / "results") == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("identifier: in ")]
    assert "index.parquet" in line
