"""The doctor compares an index with the known releases of its data set."""

import os
import shutil
from types import SimpleNamespace

import pandas as pd
import pytest
import yaml

from radbench import doctor
from radbench.artifact import ROOT
from radbench.config import DataPart, Dataset, load
from radbench.errors import ConfigError
from radbench.index import Spec, build_index
from radbench.plan import Plan
from radbench.pretrain import Images, Protocol, Source
from radbench.protocol import from_overrides
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


def part(splits=None, sites=()) -> DataPart:
    return DataPart(dataset="data", splits=splits, sites=list(sites))


def test_pretraining_counts_the_images_that_a_run_learns_from(phantom_folder, tmp_path, monkeypatch):
    """Of an index the images of the run's splits and sites count, as pretraining takes them; without one there is no number."""
    monkeypatch.chdir(tmp_path)
    folder = shutil.copytree(phantom_folder, tmp_path / "folder")
    rows = pd.read_csv(folder / "metadata.csv", dtype=str)
    rows["site"] = ["A" if int(name, 36) % 2 else "B" for name in rows["subject_id"].str[-1]]
    rows.to_csv(folder / "metadata.csv", index=False)
    plan = SimpleNamespace(config=SimpleNamespace(datasets={"data": Dataset(reader="folder")}))
    assert doctor._count(plan, part()) is None
    build_index("data", Spec("folder", root=os.fspath(folder)), tmp_path / "results")
    index = Index(tmp_path / "results" / "index" / "data")
    in_train, of_a = index["split"] == "train", index["site"] == "A"
    for wanted, rows in ((part(), index["split"] != ""), (part(["train"]), in_train), (part(sites=["A"]), of_a),
                         (part(["train"], ["A"]), in_train & of_a)):  # fmt: skip
        assert doctor._count(plan, wanted) == rows.sum() > 0
        assert doctor._count(plan, wanted) == len(Images(tmp_path / "results", [Source(**wanted.model_dump())]))
    assert (in_train & of_a).sum() < min(in_train.sum(), of_a.sum())


def test_generated_images_are_counted_before_they_are_made(tmp_path, monkeypatch):
    """Of phantoms the expected number is given: 1.6 images of each patient, of the run's share of sites and splits."""
    monkeypatch.chdir(tmp_path)
    generated = Dataset(reader="phantom", generate={"patients": 100, "seed": 1, "sites": {"A": 0.6, "B": 0.4}})
    plan = SimpleNamespace(config=SimpleNamespace(datasets={"data": generated}))
    counts = [doctor._count(plan, wanted) for wanted in (part(), part(sites=["A"]), part(["train"]), part(["train", "val"], ["B"]))]
    assert counts == [160, 96, 112, 51]


def test_costs_follow_from_the_images_that_are_learned(tmp_path, monkeypatch, capsys):
    """The line of a run prints its images, epochs and operations of an image, and the hours that these take."""
    monkeypatch.chdir(tmp_path)
    plan = Plan(load(yaml.safe_load((ROOT / "config" / "config.yaml").read_text()), ROOT / "config" / "config.yaml"))
    doctor._pretraining(plan)
    said = capsys.readouterr().out
    of_image = doctor.step_gflop(from_overrides(Protocol, plan.config.pretrain["radjepa"].protocol, "protocol"))
    for run, images in (("radjepa", 1920), ("radjepa_control", 1152)):
        hours = images * 12 * of_image / doctor.CPU_GFLOPS / 3600
        assert f"ready    {run}: {images} images x 12 epochs x {of_image:.2f} GFLOP = " in said and f"or {hours:.1f} CPU-core hours" in said


def test_operations_of_a_step_are_those_of_its_passes():
    """One step is a target pass of all tokens, a context pass with its backward of 30 %, and four predictor passes with theirs."""
    protocol = Protocol(image_size=40, patch=4, width=12, depth=2, heads=2, predictor_width=8, predictor_depth=3, predictor_heads=2)

    def block(tokens: int, width: int) -> int:
        weights = 2 * tokens * 12 * width**2  # query, key, value, projection (4 w^2), MLP (8 w^2): a product is two operations
        return weights + 2 * 2 * tokens**2 * width  # scores, and their sum over values

    target, context, predictor = 2 * block(100, 12), 3 * 2 * block(30, 12), 4 * 3 * 3 * block(30 + 18, 8)
    assert doctor.step_gflop(protocol) * 1e9 == pytest.approx(target + context + predictor, rel=1e-12)


@pytest.mark.parametrize("content", [None, "a: [", "just text"])
def test_a_configuration_that_cannot_be_read_is_named(tmp_path, content):
    """A configuration that is missing, broken or no mapping is one named error."""
    path = tmp_path / "config.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match="config.yaml"):
        doctor._values(path)
