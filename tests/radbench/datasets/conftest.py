"""Tiny copies of the data sets, written once, and copied for tests that damage them."""

import functools
import shutil
from pathlib import Path

import pandas as pd
import pytest

from radbench.datasets import Record, fixtures, reader
from radbench.index import Spec, build_index
from radbench.store import Index


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """`written(name)`: the folder of a copy, which must not be changed."""
    return functools.cache(lambda name: fixtures.write(name, tmp_path_factory.mktemp("copies") / name))


@pytest.fixture
def copied(written, tmp_path):
    """`copied(name)`: a folder of its own."""
    return lambda name: Path(shutil.copytree(written(name), tmp_path / name))


@pytest.fixture(scope="session")
def pictures():
    """The pictures that the copies are made of."""
    return fixtures.pictures(fixtures.PATIENTS, fixtures.SIZE)


@pytest.fixture
def listed():
    """`listed(reader, root, **options)`: the records that are to be indexed, by image id."""

    def read(name: str, root: Path, **options) -> dict[str, Record]:
        records, options_class = reader(name)
        found = records(root, options_class(**options))
        assert len({record.image_id for record in found}) == len(found), "image ids repeat"
        return {record.image_id: record for record in found if not record.left_out}

    return read


@pytest.fixture
def indexed(tmp_path):
    """`indexed(reader, root, **options)`: the index, and its quarantine {file: reason}."""

    def build(name: str, root: Path, **options) -> tuple[Index, dict[str, str]]:
        build_index("d", Spec(reader=name, root=str(root), options=options), tmp_path / "results")
        index = Index(tmp_path / "results" / "index" / "d")
        quarantine = pd.read_csv(index.meta.file("quarantine.csv"))
        return index, dict(zip(quarantine["file"], quarantine["reason"], strict=True))

    return build
