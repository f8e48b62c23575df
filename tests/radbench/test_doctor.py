"""The doctor compares an index with the known releases of its data set."""

import os

from radbench import doctor
from radbench.index import Spec, build_index


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
