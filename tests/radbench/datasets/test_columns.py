"""Tables as text and the meaning of their cells."""

import gzip
import math

import pytest

from radbench.datasets import columns
from radbench.datasets.fixtures import put
from radbench.errors import DataError


def test_plain_gz_and_bom_tables_are_read_alike(tmp_path):
    """A table, its .gz and one with a byte order mark and outer blanks give the same cells."""
    for name, text in (("a.csv", "x,y\n1,\n"), ("b.csv.gz", "x,y\n1,\n"), ("c.csv", "\ufeffx , y\n 1 ,\n")):
        put(tmp_path / name, text)
        table = columns.read(tmp_path / name, ["x", "y"])
        assert table.to_dict("records") == [{"x": "1", "y": ""}], name


def test_labels_keep_four_values_apart(tmp_path):
    """1, 0, -1 and blank stay four things, with or without decimals."""
    put(tmp_path / "a.csv", "x\n1\n0.0\n-1.0\n \n1.0\n")
    table = columns.read(tmp_path / "a.csv").reset_index(drop=True)
    values = [row["x"] for row in columns.labels(tmp_path / "a.csv", table, ["x"])]
    assert values[:3] == [1, 0, -1] and values[-1] == 1
    put(tmp_path / "b.csv", "k,x\na,\nb,2\n")
    with pytest.raises(DataError, match="label 'x' has value '2' in line 3; expected 1, 0, -1 or empty"):
        columns.labels(tmp_path / "b.csv", columns.read(tmp_path / "b.csv"), ["x"])
    put(tmp_path / "c.csv", "k,x\na,\n")
    assert math.isnan(columns.labels(tmp_path / "c.csv", columns.read(tmp_path / "c.csv"), ["x"])[0]["x"])


AGES = {"58": 58, "058Y": 58, "006M": 0.5, "85 or more": 85, "45-49": 45, "58.0": 58, "411": None, "": None, "unknown": None}


@pytest.mark.parametrize("text, years", AGES.items())
def test_ages_are_years(text, years):
    """Ages in every owner's spelling become years; impossible and missing ones NaN."""
    got = columns.age(text)
    assert math.isnan(got) if years is None else got == years


def test_sexes_are_letters():
    """Words and letters become M, F and O; what is not given stays empty."""
    assert [columns.sex(text) for text in ("Male", "f", "O", "Unknown", "")] == ["M", "F", "O", "", ""]


BAD_TABLES = {
    "not a table in UTF-8": b"\xff\xfe\x00\x01binary",
    "no column 'x'": b"y\n1\n",
    "the table has no rows": b"x,y\n",
}


@pytest.mark.parametrize("message", BAD_TABLES)
def test_a_bad_table_is_a_named_error(tmp_path, message):
    """A binary, empty or other table is refused with its name."""
    put(tmp_path / "a.csv", BAD_TABLES[message])
    with pytest.raises(DataError, match=message) as caught:
        columns.read(tmp_path / "a.csv", ["x"])
    assert "a.csv" in str(caught.value)


def test_a_damaged_or_endless_gz_is_a_named_error(tmp_path, monkeypatch):
    """A cut .gz is refused, and one that unpacks to more than the limit is not unpacked to its end."""
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(b"x\n" + b"1\n" * 1000)[:-12])
    with pytest.raises(DataError, match="cut.csv.gz: cannot be read"):
        columns.read(tmp_path / "cut.csv.gz")
    monkeypatch.setattr(columns, "MAX_BYTES", 100)
    (tmp_path / "bomb.csv.gz").write_bytes(gzip.compress(bytes(10_000))[:-8])  # reading to its end would find the end missing
    with pytest.raises(DataError, match="more than 100 bytes"):
        columns.read(tmp_path / "bomb.csv.gz")


def test_a_label_the_owner_does_not_have_is_named():
    """A misspelt label in the configuration comes back with the right one."""
    with pytest.raises(DataError, match="no label 'Cardiomegali'; next: did you mean 'Cardiomegaly'"):
        columns.chosen(["Cardiomegali"], ["Cardiomegaly", "Edema"], "x")
