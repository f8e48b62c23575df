"""Which file is taken: the card's digest, the lock's commit, another revision, one of two file names; and what the hub is asked for."""

import dataclasses
import fnmatch
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from radbench import weights
from radbench.artifact import ROOT, Absent
from radbench.encoder import describe, find, names
from radbench.errors import WeightsError

A, B = "a" * 40, "b" * 40
CARD = dataclasses.replace(find("rad_dino").card, files=("model.safetensors",), revision="main")
ADDRESS = "hf:microsoft/rad-dino@main"


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty hub cache; snapshots of microsoft/rad-dino go to the folder that is returned."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    base = tmp_path / "hub" / "models--microsoft--rad-dino"
    (base / "refs").mkdir(parents=True)
    return base


def snapshot(base: Path, commit: str, **files: bytes) -> Path:
    """A snapshot that the branch main points to, with files whose names have an underscore for the dot."""
    folder = base / "snapshots" / commit
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name[::-1].replace("_", ".", 1)[::-1]).write_bytes(content)
    (base / "refs" / "main").write_text(commit)
    return folder


# ---------------------------------------------------------------- the digest of a card


@pytest.mark.parametrize("kind", ["sha256", "md5"])
def test_the_file_of_the_card_has_its_digest(cache, kind):
    """A file in the hub cache whose sha256 or md5 is not the card's is refused, with both and the way out; the right one is let through."""
    card = dataclasses.replace(CARD, digest=f"{kind}:{hashlib.new(kind, b'right').hexdigest()}")
    folder = snapshot(cache, A, model_safetensors=b"right")
    assert weights.fingerprint(folder, card) == {"model.safetensors": hashlib.sha256(b"right").hexdigest()}
    snapshot(cache, A, model_safetensors=b"wrong")
    wrong, right = (hashlib.new(kind, content).hexdigest() for content in (b"wrong", b"right"))
    with pytest.raises(
        WeightsError, match=rf"not the weights of the card \({kind}\); got .*{wrong}.*expected {right}; next: remove the file"
    ):
        weights.fingerprint(folder, card)


def test_other_weights_of_ones_own_need_not_have_the_cards_digest(tmp_path, cache):
    """A path that the configuration gives may be other weights of the same network: only the card's own address has its digest."""
    card = dataclasses.replace(CARD, digest=f"sha256:{'0' * 64}")
    (tmp_path / "model.safetensors").write_bytes(b"mine")
    assert weights.fingerprint(tmp_path / "model.safetensors", card)
    assert weights.fingerprint(tmp_path, card)


def test_a_file_on_no_hub_has_its_digest(tmp_path, monkeypatch):
    """The digest of a card whose file is looked for by name is compared, too."""
    monkeypatch.setenv("RADBENCH_WEIGHTS", str(tmp_path))
    card = dataclasses.replace(find("mrm").card, files=("MRM.pth",), digest=f"md5:{hashlib.md5(b'right').hexdigest()}")
    (tmp_path / "MRM.pth").write_bytes(b"wrong")
    with pytest.raises(WeightsError, match="not the weights of the card"):
        weights.fingerprint(weights.resolve("mrm", card), card)


@pytest.mark.parametrize("name, md5", [("biovil", "02ce6ee460f72efd599295f440dbb453"), ("biovil_t", "a83080e2f23aa584a4f2b24c39b1bb64")])
def test_biovils_have_the_md5_of_their_release(name, md5):
    """The md5 that hi-ml compares after a download is on the card, where it is compared, and not in prose."""
    assert find(name).card.digest == f"md5:{md5}" and md5 not in find(name).card.how_to_get


# ---------------------------------------------------------------- the commit of the lock


def lock(results: Path, **sha256: str) -> None:
    results.mkdir(exist_ok=True)
    entry = {
        "sha256": {name.replace("_", "."): value for name, value in sha256.items()},
        "commit": A,
        "first_use": "2026-01-01T00:00:00+00:00",
    }
    (results / weights.LOCK).write_text(json.dumps({ADDRESS: entry}))


def test_a_branch_that_moves_is_not_followed(tmp_path, cache):
    """The first use records the commit; when main has moved, a run goes on with the recorded one while the cache has it."""
    results = tmp_path / "results"
    first = snapshot(cache, A, model_safetensors=b"one")
    weights.fingerprint(weights.resolve("rad_dino", CARD, results=results), CARD, results / weights.LOCK)
    snapshot(cache, B, model_safetensors=b"two")
    assert weights.resolve("rad_dino", CARD, results=results) == first
    assert weights.resolve("rad_dino", CARD, results=tmp_path / "another study") == first.with_name(B)


def test_a_moved_branch_is_a_gap_that_says_which_command_fetches_the_recorded_commit(tmp_path, cache):
    """Where the cache has the new commit only, the gap names both, the command for the recorded one, and how to take the new one."""
    snapshot(cache, B, model_safetensors=b"two")
    lock(tmp_path, model_safetensors="1" * 64)
    said = rf"python -m radbench.weights rad_dino .*has main as it is now, {B[:12]}.*records {A[:12]}.*remove '{ADDRESS}' from"
    with pytest.raises(Absent, match=said):
        weights.resolve("rad_dino", CARD, results=tmp_path)


def test_a_changed_file_names_the_command(tmp_path, cache):
    """A file of the cache that is another than at its first use is refused with the command that restores the recorded one."""
    folder = snapshot(cache, A, model_safetensors=b"changed")
    lock(tmp_path, model_safetensors="1" * 64)
    with pytest.raises(
        WeightsError, match=r"has changed since its first use.*next: restore it \(python -m radbench.weights rad_dino .*recorded"
    ):
        weights.fingerprint(folder, CARD, tmp_path / weights.LOCK)


def test_another_file_in_the_place_of_a_recorded_one_is_refused(tmp_path):
    """A weight file that is replaced by one of another name is as much a change as another content, and is refused with the first hash."""
    card = dataclasses.replace(CARD, files=("config.json", "model.safetensors|pytorch_model.bin"))
    (tmp_path / "model.safetensors").write_bytes(b"first")
    weights.fingerprint(tmp_path, card, tmp_path / weights.LOCK)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(WeightsError, match=rf"model.safetensors was used here first.*{hashlib.sha256(b'first').hexdigest()}.*remove '"):
        weights.fingerprint(tmp_path, card, tmp_path / weights.LOCK)


@pytest.mark.parametrize("name", ["rad_dino", "biovil_t", "timm:vit_tiny_patch16_224.augreg_in21k"])
@pytest.mark.parametrize("offline", [False, True])
def test_without_a_network_the_command_says_so(tmp_path, name, offline):
    """Where the hub cannot be reached, or is switched off, a pinned commit as much as a branch is one line with a way out."""
    environment = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)} | ({"HF_HUB_OFFLINE": "1"} if offline else {})
    done = subprocess.run([sys.executable, "-m", "radbench.weights", name], env=os.environ | environment, cwd=ROOT, capture_output=True,
                          text=True, check=False)  # fmt: skip
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert re.search("WeightsError: .*cannot be reached and is not in the cache.*next: run this on a machine with a network", done.stderr)


def test_a_lock_that_cannot_be_read_is_named(tmp_path, cache):
    """A lock that is no JSON is an error with its path and not a stack trace."""
    (tmp_path / weights.LOCK).write_text("<<<<<<< HEAD")
    with pytest.raises(WeightsError, match=r"weights.lock: cannot be read.*restore it from version control"):
        weights.resolve("rad_dino", CARD, results=tmp_path)


# ---------------------------------------------------------------- what the hub is asked for


class Hub:
    """Stands in for huggingface_hub: has the same files at every commit, notes what it is asked for, and fills the cache."""

    def __init__(self, cache: Path):
        self.cache, self.asked, self.content = cache, [], {}
        self.files = ["config.json", "preprocessor_config.json", "pytorch_model.bin", "model.safetensors"]

    def list_repo_files(self, repository: str, revision: str) -> list[str]:
        return self.files

    def snapshot_download(self, repository: str, revision: str, allow_patterns: list[str], force_download: bool) -> str:
        self.asked.append((repository, revision, allow_patterns, force_download))
        folder = self.cache / f"models--{repository.replace('/', '--')}" / "snapshots" / revision
        folder.mkdir(parents=True, exist_ok=True)
        for name in (name for name in self.files if any(fnmatch.fnmatch(name, pattern) for pattern in allow_patterns)):
            if force_download or not (folder / name).exists():
                (folder / name).write_bytes(self.content.get(name, b"from the hub"))
        return str(folder)


@pytest.fixture
def hub(cache, monkeypatch) -> Hub:
    import huggingface_hub

    stand_in = Hub(cache.parent)
    for name in ("list_repo_files", "snapshot_download"):
        monkeypatch.setattr(huggingface_hub, name, getattr(stand_in, name))
    return stand_in


def test_the_recorded_commit_is_fetched(tmp_path, hub, monkeypatch):
    """The download asks for the commit that the lock records, so that the next run finds it; without a lock for the card's own."""
    monkeypatch.setattr(find("rad_dino"), "card", CARD)
    weights.download("rad_dino", results=tmp_path / "empty")
    lock(tmp_path, model_safetensors=hashlib.sha256(b"from the hub").hexdigest())
    path = weights.download("rad_dino", results=tmp_path)
    assert [revision for _, revision, _, _ in hub.asked] == ["main", A]
    assert weights.resolve("rad_dino", CARD, results=tmp_path) == path


def test_a_damaged_copy_is_fetched_anew(tmp_path, cache, hub, monkeypatch):
    """Where the cache has the recorded commit with other bytes, the command replaces them."""
    monkeypatch.setattr(find("rad_dino"), "card", CARD)
    folder = snapshot(cache, A, model_safetensors=b"damaged")
    lock(tmp_path, model_safetensors=hashlib.sha256(b"from the hub").hexdigest())
    assert weights.download("rad_dino", results=tmp_path) == folder
    assert (folder / "model.safetensors").read_bytes() == b"from the hub" and hub.asked[-1][3]


@pytest.mark.parametrize("name", ["hf:https://huggingface.co/foo/bar", "hf:foo", "hf_model"])
def test_what_is_no_repository_is_named(tmp_path, hub, name):
    """An address that is not <owner>/<name> is refused with the right form, and the hub is not asked."""
    with pytest.raises(WeightsError, match=r"names no hub repository.*hf:<owner>/<name>"):
        weights.download(name, results=tmp_path)
    assert not hub.asked


def test_the_command_takes_a_revision(tmp_path, hub):
    """`--revision` asks for another commit than the card's, as `revision` in a configuration does."""
    weights.download("rad_dino_maira2", "main", tmp_path)
    weights.download("rad_dino_maira2", results=tmp_path)
    assert [revision for _, revision, _, _ in hub.asked] == ["main", find("rad_dino_maira2").card.revision]


@pytest.mark.parametrize("files, taken", [(["model.safetensors", "pytorch_model.bin"], "model.safetensors"),
                                          (["pytorch_model.bin"], "pytorch_model.bin")])  # fmt: skip
def test_a_repository_may_have_one_of_two_files(tmp_path, hub, files, taken):
    """Of safetensors and .bin a hub model's repository needs one, the first is fetched where both are there, and a run finds it."""
    hub.files = ["config.json", "preprocessor_config.json", *files]
    path = weights.download("hf:facebook/dinov2-base", results=tmp_path)
    assert hub.asked[0][2] == ["config.json", "preprocessor_config.json", taken, "*.py"]  # code is kept, and run for nobody who did not ask
    (hub.cache / "models--facebook--dinov2-base" / "refs").mkdir()
    (hub.cache / "models--facebook--dinov2-base" / "refs" / "main").write_text("main")
    card = describe("hf_x", {"wrapper": "hf_model", "options": {"model": "facebook/dinov2-base"}})
    assert weights.resolve("hf_x", card, results=tmp_path) == path and taken in weights.fingerprint(path, card)


@pytest.mark.parametrize("name", ["preprocessor_config.json", "config.json", "modeling_x.py"])
def test_what_configures_a_network_is_part_of_its_key(tmp_path, name):
    """Another preprocessing, architecture or code beside a weight file, or in a folder of weights, makes another fingerprint."""
    card = describe("hf_x", {"wrapper": "hf_model", "options": {"model": "facebook/dinov2-base"}})
    for file in ("model.safetensors", "config.json", "preprocessor_config.json", "modeling_x.py"):
        (tmp_path / file).write_text("{}")
    for given in (tmp_path / "model.safetensors", tmp_path):
        (tmp_path / name).write_text("{}")
        before = weights.fingerprint(given, card)
        (tmp_path / name).write_text('{"image_mean": 0.1}')
        after = weights.fingerprint(given, card)
        assert before.keys() == after.keys() and {key for key in after if after[key] != before[key]} == {name}


def test_a_network_in_shards_is_fetched_hashed_and_found_whole(tmp_path, cache, hub):
    """Of an index the shards are fetched with it and hashed with it; without one of them the weights are not present."""
    parts = [f"model-0000{k}-of-00002.safetensors" for k in (1, 2)]
    index = "model.safetensors.index.json"
    hub.files = ["config.json", "preprocessor_config.json", index, *parts, "optimizer.bin"]
    hub.content = {index: json.dumps({"weight_map": {"a": parts[0], "b": parts[1], "c": parts[1]}}).encode()}
    path = weights.download("hf:facebook/dinov3-7b", results=tmp_path)
    assert {file.name for file in path.iterdir()} == {*hub.files} - {"optimizer.bin"}
    card = describe("hf_x", {"wrapper": "hf_model", "options": {"model": "facebook/dinov3-7b"}})
    assert weights.fingerprint(path, card).keys() == {"config.json", "preprocessor_config.json", index, *parts}
    beside = {"config.json", "preprocessor_config.json"}
    assert weights.fingerprint(path / index, card).keys() == {index, *parts} | beside
    assert weights.fingerprint(path / parts[0], card).keys() == {parts[0]} | beside
    refs = hub.cache / "models--facebook--dinov3-7b" / "refs"
    refs.mkdir()
    (refs / "main").write_text("main")
    assert weights.resolve("hf_x", card, results=tmp_path) == path
    before = weights.state("hf_x", card)
    (path / parts[1]).write_bytes(b"of another size")
    assert weights.state("hf_x", card) not in (before, "absent")
    (path / parts[1]).unlink()
    with pytest.raises(Absent, match="weights not present"):
        weights.resolve("hf_x", card, results=tmp_path)
    hub.files.remove(parts[1])
    with pytest.raises(WeightsError, match=rf"lacks \['{parts[1]}'\]"):
        weights.download("hf:facebook/dinov3-7b", results=tmp_path)


def test_a_damaged_index_of_shards_does_not_stop_the_plan(tmp_path):
    """The cheap rerun trigger of a folder whose index cannot be read is "absent"; the stage that loads it names the file."""
    card = describe("hf_x", {"wrapper": "hf_model", "options": {"model": "facebook/dinov3-7b"}})
    (tmp_path / "model.safetensors.index.json").write_text("{")
    assert weights.state("hf_x", card, str(tmp_path)) == "absent"
    with pytest.raises(WeightsError, match="is no index of shards"):
        weights.fingerprint(tmp_path, card)


def test_a_hub_model_that_lacks_its_files_has_no_card_to_mend(tmp_path, hub):
    """A repository without any weight file of a known name is refused with what is there, and the way is a wrapper, not a card."""
    hub.files = ["config.json", "preprocessor_config.json", "open_clip_model.safetensors"]
    with pytest.raises(
        WeightsError, match=r"lacks \['model.safetensors or .*pytorch_model.bin.index.json'\].*it needs a wrapper of its own"
    ):
        weights.download("hf:facebook/dinov2-base", results=tmp_path)


# ---------------------------------------------------------------- the cards


def test_what_is_known_is_pinned():
    """A card with a digest names a revision that does not move: a commit, or a release's tag."""
    cards = {name: find(name).card for name in names() if find(name).card.digest}
    assert {"biomedclip", "biovil", "biovil_t", "clip_vitl14_224", "clip_vitl14_336", "dinov3_vitb16"} <= cards.keys()
    assert all(card.revision != "main" and card.digest.partition(":")[0] in hashlib.algorithms_guaranteed for card in cards.values())


def test_an_incomplete_list_of_training_sets_says_so():
    """A card that knows some of the training sets only lists "unknown" beside them, so that no other data counts as not seen."""
    for name in ("biomedclip", "chexfound", "medsiglip_448", "rad_dino_maira2", "timm_model", "hf_model"):
        assert "unknown" in find(name).card.pretrained_on
