"""The doctor compares an index with the known releases of its data set."""

import os
import shutil

import pandas as pd
import pytest

from radbench import doctor
from radbench.errors import ConfigError
from radbench.index import Spec, build_index
from radbench.store import Index


def test_an_index_is_held_against_the_known_releases(phantom_folder, tmp_path, monkeypatch):
    """Equal counts name the release; others name the nearest one with the differences; a reader without releases gives counts only."""
    monkeypatch.chdir(tmp_path)
    meta = build_index("data", Spec("folder", root=os.fspath(phantom_folder)), tmp_path / "results")
    images, patients = meta.facts["images"], meta.facts["patients"]
    known = {"1.0": {"images": images, "patients": patients}, "2.0": {"images": 10 * images, "patients": patients}}
    monkeypatch.setattr(doctor, "known_releases", lambda reader: known)
    assert doctor._release("data", "folder").endswith("the counts of release 1.0")
    known["1.0"] = {"images": images + 3, "patients": patients - 1}
    assert "nearest release 1.0: -3 images, +1 patients" in doctor._release("data", "folder")
    monkeypatch.setattr(doctor, "known_releases", lambda reader: {})
    assert doctor._release("data", "folder").endswith(meta.facts["release"]["ids"][:12]) and doctor._release("gone", "folder") == ""


def test_sizes_are_held_against_the_papers(phantom_folder, tmp_path, monkeypatch):
    """Equal sizes say so; where they differ, both numbers, the ids that the task cannot use and those that were left out are named."""
    monkeypatch.chdir(tmp_path)
    folder = shutil.copytree(phantom_folder, tmp_path / "folder")
    shutil.copy(next((folder / "images").iterdir()), folder / "images" / "extra.png")
    reports = pd.read_csv(folder / "reports.csv", dtype=str)
    reports.iloc[5:].to_csv(folder / "reports.csv", index=False)
    build_index("data", Spec("folder", root=os.fspath(folder)), tmp_path / "results")
    index = Index(tmp_path / "results" / "index" / "data")
    silent = [str(name) for name, text in zip(index["image_id"], index["report"], strict=True) if not text.strip()]
    lateral = [str(name) for name, view in zip(index["image_id"], index["view"], strict=True) if view == "LATERAL"]
    unusable, total = set(silent) | set(lateral), len(index)
    stated = [{"split": "all", "count": str(total), "unit": "images", "note": "a note"}]
    assert doctor._compared("data", stated, {}) == [f"- data, all: {total} images, as the paper"]
    lines = doctor._compared("data", stated, {"report": True})
    assert unusable and lines[0] == f"- data, all: {total - len(unusable)} images, the paper has {total} (-{len(unusable)}); a note"
    assert f"{len(unusable)} without what the task needs: " in lines[1] and any(name in lines[1] for name in unusable)
    lines = doctor._compared("data", [stated[0] | {"count": "1", "unit": "studies"}], {})
    assert lines[0].startswith(f"- data, all: {len(set(index['study_id']))} studies, the paper has 1 (+")
    assert "  - 1 left out: in no table of the owner: extra.png" in doctor._not_kept("data")


@pytest.mark.parametrize("content", [None, "a: [", "just text"])
def test_a_configuration_that_cannot_be_read_is_named(tmp_path, content):
    """A configuration that is missing, broken or no mapping is one named error."""
    path = tmp_path / "config.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match="config.yaml"):
        doctor._values(path)
