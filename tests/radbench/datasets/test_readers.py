"""What holds for every reader, whatever is done to its files: a named error or a quarantine row, never a traceback."""

import dataclasses
import inspect
import json
import math
import random

import pytest
import yaml

from radbench import artifact, config, datasets
from radbench.datasets import fixtures
from radbench.errors import ConfigError, DataError, RadbenchError
from radbench.protocol import from_overrides

OWNERS = [name for name in datasets.READERS if name not in ("folder", "phantom")]
COPIES = [(next(reader for reader in sorted(OWNERS, key=len, reverse=True) if copy.startswith(reader)), copy) for copy in fixtures.WRITERS]
TABLES = (".csv", ".csv.gz", ".json", ".txt", ".xml", ".zip", ".tgz", ".npz")


def test_every_reader_has_a_copy_and_the_contract():
    """Each reader has Options with defaults only, records(root, options), LABELS, RELEASES of whole numbers, and a copy to test on."""
    for name in OWNERS:
        records, options = datasets.reader(name)
        module = inspect.getmodule(records)
        assert list(inspect.signature(records).parameters) == ["root", "options"], name
        assert dataclasses.is_dataclass(options) and options() == options(), name
        assert name in fixtures.WRITERS and module.__doc__ and "Raises" in records.__doc__
        assert hasattr(module, "LABELS") or hasattr(module, "known_labels"), name
        assert all(isinstance(count, int) and count > 0 for release in module.RELEASES.values() for count in release.values()), name


def test_every_file_that_reads_a_data_set_is_a_reader():
    """The files of radbench/datasets that define `records` are the readers, no more and no fewer."""
    folder = artifact.ROOT / "radbench" / "datasets"
    assert {path.stem for path in folder.glob("*.py") if "\ndef records(" in path.read_text()} | {"phantom"} == set(datasets.READERS)


def test_labels_auto_are_the_owners(written, tmp_path):
    """`labels: auto` stands for the owner's findings, for PadChest those that occur, and nothing where there is no table."""
    values = yaml.safe_load((artifact.ROOT / "config" / "paper.yaml").read_text())
    values["datasets"]["vindr_cxr"]["options"]["labels"] = "auto"
    loaded = config.load(values | {"root": str(tmp_path)}, artifact.ROOT / "config" / "paper.yaml")
    assert len(loaded.datasets["vindr_cxr"].options["labels"]) == 28
    assert "cardiomegaly" in datasets.known_labels("padchest", written("padchest"))
    assert datasets.known_labels("padchest", tmp_path) == []


@pytest.mark.parametrize("reader, copy", COPIES)
def test_records_of_a_copy_are_well_formed(written, listed, reader, copy):
    """Views, splits, labels and ages are of the documented values, and no path lies outside of its root by name."""
    root = written(copy)
    for record in listed(reader, root).values():
        assert record.view in ("PA", "AP", "AP_SUPINE", "FRONTAL", "LATERAL", "OTHER", "UNKNOWN")
        assert record.split in ("", "train", "val", "test") and record.sex in ("", "M", "F", "O")
        assert math.isnan(record.age) or 0 <= record.age <= 120
        assert all(math.isnan(value) or value in (1, 0, -1) for value in record.labels.values())
        assert not str(record.path.relative_to(root)).startswith(("/", ".."))


@pytest.mark.parametrize("reader, copy", COPIES)
def test_no_patient_is_in_two_splits_of_the_owner(written, listed, reader, copy):
    """The owner's split, where there is one, keeps every patient on one side."""
    splits: dict[str, set] = {}
    for record in listed(reader, written(copy)).values():
        splits.setdefault(record.patient_id or record.image_id, set()).add(record.split)
    assert all(len(found) == 1 for found in splits.values())


@pytest.mark.parametrize("name", OWNERS)
def test_an_empty_folder_and_a_missing_one_are_named(listed, tmp_path, name):
    """Nothing there is one DataError that says what was looked for; so is a folder that is not there."""
    with pytest.raises(DataError, match="an empty folder; expected .*; next: "):
        listed(name, tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        listed(name, tmp_path / "none")


@pytest.mark.parametrize("name", OWNERS)
def test_unknown_options_are_refused(name):
    """A misspelt option is a ConfigError before any file is touched."""
    with pytest.raises(ConfigError, match="no field 'lables'"):
        from_overrides(datasets.reader(name)[1], {"lables": []}, "datasets.x.options")


DAMAGE = {
    "empty": lambda body: b"",
    "cut": lambda body: body[: len(body) * 2 // 3],
    "binary": lambda body: bytes(range(256)) * 8,
    "html": lambda body: b"<html><body>login required</body></html>",
    "header only": lambda body: body.split(b"\n")[0] + b"\n",
    "quotes": lambda body: body.replace(b",", b',"', 1),
    "null json": lambda body: b"null",
    "list json": lambda body: b"[[1, 2], {}]",
    "blanks": lambda body: body.replace(b"1", b" "),
    "traversal": lambda body: body.replace(b"images/", b"../../").replace(b"train/", b"../../"),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("reader, copy", COPIES)
def test_a_damaged_table_is_never_a_traceback(copied, reader, copy, damage):
    """A table, list or archive, another for each damage, is spoilt: the reader lists records or raises a named error, nothing else."""
    root = copied(copy)
    records, options = datasets.reader(reader)
    tables = [path for path in sorted(root.rglob("*")) if path.name.lower().endswith(TABLES)]
    for path in random.Random(copy + damage).sample(tables, min(len(tables), 1)):
        body = path.read_bytes()
        changed = fixtures.gzip.decompress(body) if path.suffix == ".gz" else body
        fixtures.put(path, DAMAGE[damage](changed))
        try:
            records(root, options())
        except RadbenchError as error:
            assert len(str(error)) > 20
        finally:
            path.write_bytes(body)


@pytest.mark.parametrize("reader, copy", COPIES)
def test_a_lost_table_is_never_a_traceback(copied, reader, copy):
    """Without any one of its tables, lists or archives a reader lists records or says below which root something is missing."""
    root = copied(copy)
    records, options = datasets.reader(reader)
    tables = [path for path in sorted(root.rglob("*")) if path.name.lower().endswith(TABLES)]
    for path in random.Random(copy).sample(tables, min(len(tables), 4)):
        path.rename(root / "away")
        try:
            records(root, options())
        except RadbenchError as error:
            assert str(root) in str(error)
        finally:
            (root / "away").rename(path)


@pytest.mark.parametrize("reader, copy", [pair for pair in COPIES if pair[1] not in ("iu_xray_nlm", "vindr_ribcxr", "chestmnist")])
def test_each_needed_column_is_missed_by_name(copied, reader, copy):
    """Every column of every table is dropped in turn: the reader does without it, or names it."""
    root = copied(copy)
    records, options = datasets.reader(reader)
    for path in [path for path in sorted(root.rglob("*")) if path.name.lower().endswith((".csv", ".csv.gz"))]:
        body = path.read_bytes()
        text = (fixtures.gzip.decompress(body) if path.suffix == ".gz" else body).decode()
        names = text.split("\n", 1)[0].split(",")
        for number, name in enumerate(names):
            lines = text.split("\n", 1)
            renamed = ",".join([*names[:number], f"x{number}", *names[number + 1 :]])
            fixtures.put(path, renamed + "\n" + lines[1])
            try:
                records(root, options())
            except RadbenchError as error:
                assert name.strip().removesuffix("s") in str(error) and path.name in str(error), error
        path.write_bytes(body)


def test_paper_configuration_reads_every_copy(written, tmp_path):
    """Each data set of config/paper.yaml names a reader, options that it takes, and labels that its probes find."""
    values = yaml.safe_load((artifact.ROOT / "config" / "paper.yaml").read_text())
    loaded = config.load(values | {"root": str(tmp_path)}, artifact.ROOT / "config" / "paper.yaml")
    for name, entry in loaded.datasets.items():
        assert entry.reader == name and entry.root == str(tmp_path / name)
        records, options = datasets.reader(entry.reader)
        found = records(written(name), from_overrides(options, entry.options, name))
        assert found and set(entry.options.get("labels", [])) <= set(found[0].labels)


def test_unknown_reader_is_refused_with_the_known_ones():
    """A misspelt reader in the configuration is a ConfigError that lists the readers."""
    values = yaml.safe_load((artifact.ROOT / "config" / "paper.yaml").read_text())
    values["datasets"]["chexpert"]["reader"] = "chexprt"
    with pytest.raises(ConfigError, match="reader.*'chexpert'"):
        config.load(values, artifact.ROOT / "config" / "paper.yaml")


#: copies of which every image is in a table; BRAX's DICOM files may have any name
WITHOUT_TABLE = ("mimic_segmentation", "chestmnist", "jsrt", "montgomery", "shenzhen", "brax_dicom")
WITH_TABLES = [pair for pair in COPIES if pair[1] not in WITHOUT_TABLE]


@pytest.mark.parametrize("reader, copy", WITH_TABLES)
def test_an_image_in_no_table_is_left_out_with_the_reason(copied, reader, copy):
    """One more image beside the others is the only one left out as being in no table; of a copy as it is there is none."""
    root = copied(copy)
    records, options = datasets.reader(reader)
    before = records(root, options())
    assert datasets.UNLISTED not in {record.left_out for record in before}
    other = next(record.path for record in before if not record.left_out)
    suffix = other.suffix if other.suffix in (".png", ".jpg", ".dcm", ".dicom") else ""
    path = (other.parent if hasattr(other, "parent") else root) / f"1.2.3.99999{suffix}"
    path.write_bytes(other.read_bytes())
    found = records(root, options())
    assert len({record.image_id for record in found}) == len(found) == len(before) + 1
    (left,) = [record for record in found if record.left_out == datasets.UNLISTED]
    assert left.path == path and "1.2.3.99999" in left.image_id
    assert {record.image_id for record in found if not record.left_out} == {record.image_id for record in before if not record.left_out}


def test_unlabelled_test_images_and_unread_tables_are_not_left_out(copied):
    """RSNA's and SIIM-ACR's test images, and ReXGradient's images of splits that were not asked for, are no rows of left_out.csv."""
    for name, folder in (("rsna", "stage_2_test_images"), ("siim_acr", "dicom-images-test/1/2"), ("rexgradient", "")):
        root = copied(name)
        if folder:
            fixtures.put(root / folder / "1.2.3.dcm", fixtures.dicom(fixtures.pictures(2, 32)[0].grey, bits=8))
        records, options = datasets.reader(name)
        found = records(root, options(splits=("train",)) if name == "rexgradient" else options())
        assert found and not any(record.left_out for record in found), name


REFUSED = {
    "holds files already": (["--dataset", "rsna", "--root", "there"], "rsna: holds files"),
    "one of many holds files already": (["--root", "there"], "rsna: holds files"),
    "a file": (["--root", "file"], "file: a file, not a folder"),
    "no patients": (["--root", "new", "--patients", "0"], "too few patients; got 0; expected 2 or more"),
    "tiny": (["--root", "new", "--size", "20", "--patients", "3"], "too few rows of an image; got 20; expected 32 or more"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_copies_harm_no_files_and_no_traceback(tmp_path, monkeypatch, case):
    """Where files lie, or with sizes that cannot be drawn, nothing at all is written and the error has a name."""
    monkeypatch.chdir(tmp_path)
    fixtures.put(tmp_path / "there" / "rsna" / "stage_2_train_labels.csv", "real")
    fixtures.put(tmp_path / "file", "x")
    before = sorted(tmp_path.rglob("*"))
    arguments, message = REFUSED[case]
    monkeypatch.setattr("sys.argv", ["fixtures", *arguments])
    with pytest.raises(ConfigError, match=message):
        fixtures.main()
    assert sorted(tmp_path.rglob("*")) == before and (tmp_path / "there/rsna/stage_2_train_labels.csv").read_text() == "real"


@pytest.mark.parametrize("copy", fixtures.WRITERS)
def test_the_smallest_copies_can_be_written(tmp_path, copy):
    """Two patients of 32 rows are enough for every copy, and an empty folder may be there."""
    (tmp_path / copy).mkdir()
    fixtures.write(copy, tmp_path / copy, fixtures.FEWEST, fixtures.SMALLEST)
    assert any(path.is_file() for path in (tmp_path / copy).rglob("*"))


def test_copies_are_the_same_bytes_each_time(tmp_path):
    """Two writings of a copy are byte for byte the same, so that a run on them can be compared."""
    for name in ("mimic_cxr", "padchest", "vindr_ribcxr"):
        trees = [fixtures.write(name, tmp_path / str(number) / name, patients=6) for number in (1, 2)]
        bodies = [{str(p.relative_to(tree)): p.read_bytes() for p in sorted(tree.rglob("*")) if p.is_file()} for tree in trees]
        assert bodies[0] == bodies[1] and len(bodies[0]) > 5
    assert json.dumps(sorted(fixtures.WRITERS))
