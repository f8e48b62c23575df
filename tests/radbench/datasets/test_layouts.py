"""Every copy reads the same extracted, nested under another name, with its tables gzipped, and in one zip with archives inside."""

import functools
import gzip
import math
import shutil
import zipfile

import pytest

from radbench import datasets
from radbench.datasets import files as places
from radbench.datasets import fixtures
from radbench.datasets.files import Tree
from radbench.errors import DataError

OWNERS = [name for name in datasets.READERS if name not in ("folder", "phantom")]
COPIES = [(next(reader for reader in sorted(OWNERS, key=len, reverse=True) if copy.startswith(reader)), copy) for copy in fixtures.WRITERS]


def nested(source, root):
    shutil.copytree(source, root / "renamed by me")


def gzipped(source, root):
    shutil.copytree(source, root, dirs_exist_ok=True)
    for path in list(root.rglob("*.csv")):
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()


def in_one_zip(source, root):
    with zipfile.ZipFile(root / "all of it.zip", "w") as archive:
        for path in sorted(source.rglob("*")):
            if path.is_file():
                archive.write(path, f"release/{path.relative_to(source)}")


LAYOUTS = {"nested": nested, "gzipped": gzipped, "in one zip": in_one_zip}


def facts(records):
    """What may not depend on the layout, by image id; of what is left out only the ids, since tables in archives name less of it."""
    return {record.image_id: (record.patient_id, record.study_id, record.view, record.split, record.sex, blank(record.age),
                              {name: blank(value) for name, value in record.labels.items()}, record.report,
                              [(mask.structure, mask.size, mask.box) for mask in record.masks])
            for record in records if not record.left_out}  # fmt: skip


def blank(number):
    return None if math.isnan(number) else number


@pytest.fixture(scope="module")
def extracted(written):
    """`extracted(reader, copy)`: the facts of a copy as it was written."""
    return functools.cache(lambda reader, copy: facts(read(reader, written(copy))))


def read(reader, root):
    records, options = datasets.reader(reader)
    return records(root, options())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("reader, copy", COPIES)
def test_a_layout_changes_no_record(written, extracted, tmp_path, reader, copy, layout):
    """Ids, patients, labels, splits, reports and masks are those of the extracted copy, and every picture that is there has its bytes."""
    root = tmp_path / copy
    root.mkdir()
    LAYOUTS[layout](written(copy), root)
    found = read(reader, root)
    assert facts(found) == extracted(reader, copy) and len(facts(found)) > 5
    there = {record.image_id: record for record in read(reader, written(copy)) if not record.left_out}
    for record in [record for record in found if record.image_id in there][1::17]:
        assert record.path.read_bytes() == there[record.image_id].path.read_bytes()


def test_an_archive_within_an_archive_is_read_one_level_deep(tmp_path):
    """A file is found in a zip or tar within a zip, also by several lookups at once, and not one level deeper."""
    inner = fixtures.zipped({"x/a.png": b"A"})
    deeper = fixtures.zipped({"inner.zip": fixtures.zipped({"d.png": b"D"})})
    body = {"i.zip": inner, "j.tgz": fixtures.tarred({"c.png": b"C"}), "k.zip": deeper}
    fixtures.put(tmp_path / "o.zip", fixtures.zipped(body))
    images = Tree(tmp_path).lookup(1, (".png",))
    assert images.find("a.png").read_bytes() == b"A" and images.find("c.png").read_bytes() == b"C" and images.find("d.png") is None
    assert images.find("a.png").relative_to(tmp_path) == "o.zip/i.zip/x/a.png"


def test_archives_within_archives_are_limited_in_memory(tmp_path, monkeypatch):
    """Above the limit for all of them together the archive that goes too far is named, before it is read."""
    inner = fixtures.zipped({"a.png": b"A"})
    fixtures.put(tmp_path / "o.zip", fixtures.zipped({"i.zip": inner, "j.zip": inner}))
    monkeypatch.setattr(places, "MAX_NESTED", 2 * len(inner))
    assert Tree(tmp_path).lookup(1, (".png",)).find("a.png").read_bytes() == b"A"
    monkeypatch.setattr(places, "MAX_NESTED", 2 * len(inner) - 1)
    with pytest.raises(DataError, match="o.zip/j.zip: archives within archives of .*next: extract the outer archive"):
        Tree(tmp_path).lookup(1, (".png",)).find("a.png")


@pytest.mark.parametrize("message, inner", [
    ("leaves the archive", lambda: fixtures.zipped({"../b.png": b"x"})), ("cannot be read", lambda: b"PK no zip"),
])  # fmt: skip
def test_a_bad_archive_within_an_archive_is_named(tmp_path, message, inner):
    """What is refused of an archive is refused of one within another, by both names."""
    fixtures.put(tmp_path / "o.zip", fixtures.zipped({"i.zip": inner()}))
    with pytest.raises(DataError, match=f"o.zip/i.zip: .*{message}"):
        Tree(tmp_path).lookup(1, (".png",)).find("a.png")


def test_mimic_reports_of_other_studies_are_an_error_and_none_at_all_are_not(copied, listed):
    """No trace of reports: blank ones. An archive, folder or table of reports of which none matches: an error, unless none is wanted."""
    root = copied("mimic_cxr")
    (root / "mimic-cxr-reports.zip").unlink()
    assert {record.report for record in listed("mimic_cxr", root).values()} == {""}
    others = {
        "mimic-cxr-reports.zip": fixtures.zipped({"files/p99/p99999999/s99999999.txt": "FINDINGS: x"}),
        "mimic-cxr-reports.tar.gz": fixtures.tarred({"readme.txt": b"x"}),
        "mimic-cxr-reports/files/p10/one.txt": b"FINDINGS: x",
        "mimic_cxr_sectioned.csv": b"study,impression,findings\ns99999999,x,y\n",
    }
    for name, body in others.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(body)
        with pytest.raises(DataError, match="study of the images.*next: download mimic-cxr-reports.zip"):
            listed("mimic_cxr", root)
        assert len(listed("mimic_cxr", root, section="none")) > 50
        (root / name).unlink()
