"""Artefacts are complete or absent, and know what they were made from."""

import json
import multiprocessing
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest

from radbench import artifact
from radbench.errors import ArtifactError


def make_text(text):
    def make(work: Path) -> dict:
        (work / "value.txt").write_text(text)
        return {"length": len(text)}

    return make


def test_second_build_with_the_same_key_does_no_work(tmp_path):
    """A stage whose key did not change publishes what is there and does not run again."""
    folder = tmp_path / "results" / "a"
    first = artifact.build(folder, kind="data", key_parts={"v": 1}, make=make_text("one"), publish=("value.txt",))
    (folder / "value.txt").unlink()
    again = artifact.build(folder, kind="data", key_parts={"v": 1}, make=make_text("two"), publish=("value.txt",))
    assert (folder / "value.txt").read_text() == "one"
    assert first.fingerprint == again.fingerprint


def test_another_key_makes_another_payload_and_keeps_the_old_one(tmp_path):
    """Going back to an earlier key finds the earlier payload."""
    folder = tmp_path / "a"

    def build(version: int, text: str) -> None:
        artifact.build(folder, kind="data", key_parts={"v": version}, make=make_text(text), publish=("value.txt",))

    build(1, "one"), build(2, "two")
    assert (folder / "value.txt").read_text() == "two"
    build(1, "never run")
    assert (folder / "value.txt").read_text() == "one"


def test_a_failing_stage_leaves_nothing_that_looks_complete(tmp_path):
    """An exception in the stage leaves no sidecar and no published file."""

    def broken(work: Path) -> dict:
        (work / "value.txt").write_text("half")
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError):
        artifact.build(tmp_path / "a", kind="data", key_parts={}, make=broken, publish=("value.txt",))
    assert not (tmp_path / "a" / "meta.json").exists() and not (tmp_path / "a" / "value.txt").exists()
    with pytest.raises(ArtifactError, match="no such artefact"):
        artifact.read(tmp_path / "a")


def _slow_stage(folder, started):
    def make(work: Path) -> dict:
        (work / "part-0").write_text("done before the kill")
        Path(started).touch()
        time.sleep(60)
        return {}

    artifact.build(folder, kind="data", key_parts={}, make=make, resumable=True)


def test_a_killed_resumable_stage_finds_its_finished_parts(tmp_path):
    """After kill -9 the rerun starts from what the first attempt wrote, and the result is complete."""
    started = tmp_path / "started"
    process = multiprocessing.get_context("spawn").Process(target=_slow_stage, args=(str(tmp_path / "a"), str(started)))
    process.start()
    while not started.exists():
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert not (tmp_path / "a" / "meta.json").exists()
    seen = {}

    def make(work: Path) -> dict:
        seen["before"] = sorted(path.name for path in work.iterdir())
        (work / "part-1").write_text("after")
        return {}

    meta = artifact.build(tmp_path / "a", kind="data", key_parts={}, make=make, resumable=True)
    assert seen["before"] == ["part-0"] and sorted(meta.fields["files"]) == ["part-0", "part-1"]


def test_a_file_that_a_killed_attempt_was_writing_is_no_payload(tmp_path):
    """What `replacing` left half written when it was killed is gone before the next attempt, and no part of the artefact."""

    def killed(work: Path) -> dict:
        with artifact.replacing(work / "checkpoint.pt") as handle:
            handle.write(b"half of")
            (half,) = work.glob(f".checkpoint.pt.*{artifact.HALF_WRITTEN}")
            half.with_name(f"{half.name[:-4]}0{artifact.HALF_WRITTEN}").write_bytes(half.read_bytes())  # as of another process
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        artifact.build(tmp_path / "a", kind="data", key_parts={}, make=killed, resumable=True)
    assert len(list((tmp_path / "a").rglob(f"*{artifact.HALF_WRITTEN}"))) == 1

    def make(work: Path) -> dict:
        artifact.write_bytes(work / "value", b"whole")
        return {}

    meta = artifact.build(tmp_path / "a", kind="data", key_parts={}, make=make, resumable=True)
    assert sorted(meta.fields["files"]) == ["value"] and not list((tmp_path / "a").rglob(f"*{artifact.HALF_WRITTEN}"))


def _counted_stage(folder, counter):
    def make(work: Path) -> dict:
        with open(counter, "a") as handle:
            handle.write("x")
        time.sleep(0.5)
        (work / "value.txt").write_text("v")
        return {}

    artifact.build(folder, kind="data", key_parts={}, make=make, publish=("value.txt",))


def test_two_processes_make_one_artefact_once(tmp_path):
    """An orphan and its rerun take turns: the stage runs once and both end with the same file."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_counted_stage, args=(str(tmp_path / "a"), str(tmp_path / "count"))) for _ in range(2)]
    [process.start() for process in processes]
    [process.join() for process in processes]
    assert [process.exitcode for process in processes] == [0, 0]
    assert (tmp_path / "count").read_text() == "x"


def test_a_gap_travels_to_the_children(tmp_path):
    """An artefact with an absent parent is absent for the parent's reason, and its published file is the empty one."""

    def absent(work: Path) -> dict:
        raise artifact.Absent("weights not present: ask the owner")

    parent = artifact.build(tmp_path / "p", kind="data", key_parts={}, make=absent)
    child = artifact.build(
        tmp_path / "c", kind="data", key_parts={}, make=make_text("never"), parents=[parent], publish=("t.csv",),
        make_absent=lambda work: (work / "t.csv").write_text("a,b\n"),
    )  # fmt: skip
    assert child.absent and child.fields["reason"] == "weights not present: ask the owner"
    assert (tmp_path / "c" / "t.csv").read_text() == "a,b\n"
    with pytest.raises(ArtifactError, match="absent"):
        child.file("value.txt")


def test_the_key_follows_the_parents_content(tmp_path):
    """A parent with other content gives the child another key; the same content gives the same key."""
    keys = []
    for number, text in enumerate(["x", "x", "y"]):
        parent = artifact.build(tmp_path / f"{number}" / "results" / "p", kind="data", key_parts={"t": text}, make=make_text(text))
        child = artifact.build(tmp_path / f"{number}" / "results" / "c", kind="data", key_parts={}, make=make_text("c"), parents=[parent])
        keys.append(child.fields["key"])
    assert keys[0] == keys[1] != keys[2]


def test_a_changed_payload_and_an_edited_sidecar_are_refused(tmp_path):
    """Changing a byte of a payload, its length, or the recorded hash is found."""
    meta = artifact.build(tmp_path / "a", kind="data", key_parts={}, make=make_text("value"))
    artifact.verify(meta)
    (meta.payload / "value.txt").write_text("vALue")
    with pytest.raises(ArtifactError, match="content changed"):
        artifact.verify(meta)
    (meta.payload / "value.txt").write_text("longer value")
    with pytest.raises(ArtifactError, match="not the one the sidecar vouches for"):
        meta.file("value.txt")
    (meta.payload / "value.txt").write_text("value")
    fields = json.loads(meta.path.read_text())
    fields["key"] = "0" * 12 + fields["key"][12:]
    meta.payload.rename(meta.folder / ("0" * 12))
    with pytest.raises(ArtifactError, match="edited"):
        artifact.verify(artifact.Meta(meta.folder, fields))


def test_looking_after_a_tree(tmp_path, monkeypatch, capsys):
    """`verify` misses a payload that is gone, and `prune` deletes old payloads but not the work of a stage that is not finished."""
    for content in ("one", "two"):
        meta = artifact.build(tmp_path / "features" / "a" / "b", kind="features", key_parts={"content": content},
                              make=lambda work, text=content: (work / "x.txt").write_text(text) and {})  # fmt: skip
    work = meta.folder / f".work-{meta.fields['key'][:12]}"
    work.mkdir()
    monkeypatch.setattr(sys, "argv", ["artifact", "prune", str(tmp_path)])
    artifact.main()
    assert sorted(path.name for path in meta.folder.iterdir() if path.is_dir()) == sorted([work.name, meta.payload.name])
    monkeypatch.setattr(sys, "argv", ["artifact", "verify", str(tmp_path)])
    artifact.main()
    assert f"ok {meta.folder}" in capsys.readouterr().out
    shutil.rmtree(meta.payload)
    with pytest.raises(ArtifactError, match="x.txt"):
        artifact.main()


def test_source_hash_ignores_comments_and_sees_code(tmp_path, monkeypatch):
    """Comments, docstrings and spacing do not change a source hash; an operator does, also in an imported module."""
    package = tmp_path / "radbench"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.setattr(artifact, "ROOT", tmp_path)

    def hash_of(first: str, second: str) -> str:
        (package / "one.py").write_text(first)
        (package / "two.py").write_text(second)
        artifact._imports.cache_clear(), artifact._code_hash.cache_clear()
        return artifact.source_hash("radbench.one")

    base = hash_of("from .two import g\ndef f(x):\n    return g(x) + 1\n", "def g(x):\n    return x\n")
    assert base == hash_of(
        '"""Doc."""\nfrom .two import g\n\ndef f(x):  # why\n    """Adds."""\n    return g(x)+1\n', "def g(x):\n    return x\n"
    )
    assert base != hash_of("from .two import g\ndef f(x):\n    return g(x) - 1\n", "def g(x):\n    return x\n")
    assert base != hash_of("from .two import g\ndef f(x):\n    return g(x) + 1\n", "def g(x):\n    return 2 * x\n")


def test_the_closure_of_a_stage_names_the_modules_behind_its_numbers():
    """The probe's code inputs hold the store and the image reader, and not the plumbing."""
    closure = artifact.source_closure("tasks.linear_probe", "encoders.radjepa")
    assert {"tasks.linear_probe", "encoders.radjepa", "radbench.image", "radbench.store", "radbench.jepa.vit"} <= closure
    assert not closure & artifact.PLUMBING
