"""Weights in the exact form in which they are distributed, through the hub cache: what loads, and what is turned down."""

import argparse
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from encoders._template import Template
from encoders.biovil_t import FILE, BioVilT
from radbench import weights
from radbench.artifact import Absent
from radbench.encoder import find
from radbench.errors import WeightsError


def same(one: dict, two: dict) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


# ---------------------------------------------------------------- what loads


def test_rad_dino_loads_a_snapshot(hub, subject_of):
    """config.json and model.safetensors, as transformers saves them, are found in the hub cache and loaded whole."""
    vit = subject_of("rad_dino").encoder.vit
    path = hub("microsoft/rad-dino", lambda folder: vit.save_pretrained(folder))
    encoder = find("rad_dino")(path)
    encoder.load("cpu")
    assert same(encoder.vit.state_dict(), vit.state_dict())


def test_clip_loads_both_towers(hub, monkeypatch):
    """open_clip_model.safetensors holds both towers; the image tower is kept, without its projection. Two layers deep here."""
    import open_clip

    shape = open_clip.get_model_config("ViT-L-14-quickgelu")
    shape["vision_cfg"]["layers"], shape["text_cfg"]["layers"], shape["text_cfg"]["vocab_size"] = 2, 1, 64
    monkeypatch.setattr(open_clip, "get_model_config", lambda name: shape)
    both = open_clip.CLIP(**shape)
    path = hub("timm/vit_large_patch14_clip_224.openai",
               lambda folder: save_file(both.state_dict(), folder / "open_clip_model.safetensors"))  # fmt: skip
    encoder = find("clip_vitl14_224")(path)
    encoder.load("cpu")
    wanted = {name: value for name, value in both.visual.state_dict().items() if name != "proj"}
    assert same(encoder.vit.state_dict(), wanted)
    assert not any(value.is_meta for value in encoder.vit.state_dict().values())


@pytest.mark.parametrize("release", ["timm", "meta"])
def test_dinov2_loads_either_release(hub, tmp_path, monkeypatch, release):
    """timm's file and Meta's own (other names in the feed-forward part, a mask token) give the same network. Two blocks here."""
    import timm
    from timm.models.vision_transformer import checkpoint_filter_fn

    real = timm.create_model
    small = {"depth": 2, "embed_dim": 96, "num_heads": 3}
    monkeypatch.setattr(timm, "create_model", lambda name, **options: real(name, **(options | small)))
    vit = timm.create_model("vit_giant_patch14_dinov2", img_size=518, num_classes=0)
    if release == "timm":
        path = hub("timm/vit_giant_patch14_dinov2.lvd142m",
                   lambda folder: save_file(vit.state_dict(), folder / "model.safetensors"))  # fmt: skip
    else:
        names = {name: name.replace("mlp.fc1", "mlp.w12").replace("mlp.fc2", "mlp.w3") for name in vit.state_dict()}
        state = {names[name]: value for name, value in vit.state_dict().items()} | {"mask_token": torch.zeros(1, 96)}
        path = tmp_path / "dinov2_vitg14_pretrain.pth"
        torch.save(state, path)
        assert same(checkpoint_filter_fn(dict(state), vit), vit.state_dict())  # the names are those that timm knows as Meta's
    encoder = find("dinov2_vitg14")(path)
    encoder.load("cpu")
    assert same(encoder.vit.state_dict(), vit.state_dict())


# ---------------------------------------------------------------- what is turned down


@pytest.fixture(scope="module")
def tiny() -> dict:
    """The state dict of the network of encoders/_template.py."""
    encoder = Template(None)
    encoder.load("cpu")
    return encoder.vit.state_dict()


def load(path: Path) -> None:
    Template(path).load("cpu")


def test_missing_file_is_a_gap(hub):
    """A snapshot without one of the card's files is Absent, with the next step; so is a hub cache without the repository."""
    with pytest.raises(Absent, match="python -m radbench.weights rad_dino"):
        weights.resolve("rad_dino", find("rad_dino").card)
    with pytest.raises(Absent, match="python -m radbench.weights rad_dino"):
        hub("microsoft/rad-dino", lambda folder: (folder / "config.json").write_text("{}"))


def test_missing_local_file_is_an_error(tmp_path):
    """A path that the configuration gives and that is not there is a WeightsError, not a gap."""
    with pytest.raises(WeightsError, match="no such file or folder"):
        weights.resolve("rad_dino", find("rad_dino").card, local=str(tmp_path / "gone"))
    with pytest.raises(WeightsError, match="cannot be read"):
        load(tmp_path)  # a folder without the file in it


@pytest.mark.parametrize("keep", [0, 4, 1000, -1])
def test_truncated_safetensors(tmp_path, tiny, keep):
    """A safetensors file that stops early, anywhere, is named as such."""
    save_file(tiny, tmp_path / "model.safetensors")
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[:keep])
    with pytest.raises(WeightsError, match=r"model.safetensors: truncated or damaged: .*; got .*expected a complete file"):
        load(tmp_path)


@pytest.mark.parametrize("keep", [0, 4, 1000, -1])
def test_truncated_pickle(tmp_path, keep):
    """A .pt file that stops early, anywhere, is named as such."""
    torch.save({"encoder.encoder.conv1.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / FILE)
    (tmp_path / FILE).write_bytes((tmp_path / FILE).read_bytes()[:keep])
    with pytest.raises(WeightsError, match=f"{FILE}: truncated or damaged"):
        BioVilT(tmp_path).load("cpu")


def test_pickle_with_code_is_not_run(tmp_path):
    """A .pt file that holds more than tensors is turned down unread."""

    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    torch.save({"encoder.encoder.conv1.weight": Trap()}, tmp_path / FILE)
    with pytest.raises(WeightsError, match="holds more than tensors"):
        BioVilT(tmp_path).load("cpu")
    assert not (tmp_path / "sprung").exists()


def test_wrong_width(tmp_path, tiny):
    """Weights of a wider network are turned down, with the tensor, its shape and the right one."""
    save_file({name: torch.cat([value, value]) for name, value in tiny.items()}, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"not the weights .*got cls_token is \(2, 1, 192\) and not \(1, 1, 192\)"):
        load(tmp_path)


def test_missing_and_unexpected_keys(tmp_path, tiny):
    """A tensor too few and one too many are named, both."""
    state = {name: value for name, value in tiny.items() if name != "norm.bias"} | {"head.weight": torch.zeros(3)}
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match="missing norm.bias; unexpected head.weight"):
        load(tmp_path)


def test_biovil_t_allows_only_the_stated_extras(tmp_path):
    """Besides the trunk only the parts listed in the wrapper may be in the file."""
    encoder = BioVilT(None)
    encoder.load("cpu")
    state = {f"encoder.encoder.{name}": value for name, value in encoder.resnet.state_dict().items()}
    torch.save(state | {"projector.model.0.weight": torch.zeros(1), "encoder.encoder.fc.bias": torch.zeros(1000)}, tmp_path / FILE)
    BioVilT(tmp_path).load("cpu")
    torch.save(state | {"classifier.weight": torch.zeros(1)}, tmp_path / FILE)
    with pytest.raises(WeightsError, match="unexpected classifier.weight"):
        BioVilT(tmp_path).load("cpu")


def test_rad_dino_at_another_side_loads_the_released_positions(tmp_path, subject_of):
    """The release's file given by its path, with or without the config.json beside it, serves another side: positions are interpolated."""
    vit = subject_of("rad_dino").encoder.vit
    vit.save_pretrained(tmp_path)
    image = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    found = []
    for given in (tmp_path, tmp_path / "model.safetensors", tmp_path / "model.safetensors"):
        encoder = find("rad_dino")(given, {"image_size": 224})
        encoder.load("cpu")
        assert same(encoder.vit.state_dict(), vit.state_dict())
        with torch.inference_mode():
            found.append(encoder.encode(image).image)
            assert encoder.encode(image).patches.shape[1:3] == (16, 16)
        if len(found) == 2:  # and now without it
            (tmp_path / "config.json").unlink()
    assert all(torch.equal(found[0], other) for other in found[1:])


def test_rad_dino_turns_down_another_config(tmp_path):
    """A config.json of another width, or one that is no JSON, is turned down before any weight is read."""
    config = {"model_type": "dinov2", "hidden_size": 1024, "patch_size": 14, "image_size": 518}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match=r"config.json: is of another .*got \(1024, 14, 518\); expected \(768, 14, 518\)"):
        find("rad_dino")(tmp_path).load("cpu")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(WeightsError, match="config.json: cannot be read"):
        find("rad_dino")(tmp_path).load("cpu")


def test_half_precision_file_becomes_float32(tmp_path, tiny):
    """Weights stored in half precision are computed in float32."""
    save_file({name: value.half() for name, value in tiny.items()}, tmp_path / "model.safetensors")
    encoder = Template(tmp_path)
    encoder.load("cpu")
    assert {value.dtype for value in encoder.vit.parameters()} == {torch.float32}
    assert load_file(tmp_path / "model.safetensors")["norm.bias"].dtype == torch.float16


# ---------------------------------------------------------------- the lock, and the hub's answers


def test_a_changed_file_is_refused_with_both_hashes(tmp_path, tiny):
    """The first use of a weight file records its sha256; another file in its place is refused, with both hashes and the way out."""
    file, lock = tmp_path / "model.safetensors", tmp_path / "results" / weights.LOCK
    save_file(tiny, file)
    first = weights.fingerprint(file, Template.card, lock)["model.safetensors"]
    assert weights.fingerprint(file, Template.card, lock) == {"model.safetensors": first} and first in lock.read_text()
    save_file({name: value + 1 for name, value in tiny.items()}, file)
    with pytest.raises(WeightsError, match=rf"has changed since its first use.*got sha256 [0-9a-f]{{64}}; expected {first}.*remove"):
        weights.fingerprint(file, Template.card, lock)
    assert weights.fingerprint(file, Template.card) != {"model.safetensors": first}  # only the lock objects


def test_two_addresses_of_one_lock(tmp_path, tiny):
    """Files of two addresses are recorded side by side, whatever the order of the jobs."""
    lock = tmp_path / weights.LOCK
    for name in ("one", "two"):
        save_file({key: value + len(name) for key, value in tiny.items()}, tmp_path / f"{name}.safetensors")
        weights.fingerprint(tmp_path / f"{name}.safetensors", Template.card, lock)
    assert {Path(address).name for address in json.loads(lock.read_text())} == {"one.safetensors", "two.safetensors"}


@pytest.mark.parametrize(("content", "what"), [
    (b"<!DOCTYPE html><title>Google Drive - Virus scan warning</title>", "is a saved web page"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "is a git-lfs pointer"),
])  # fmt: skip
def test_what_a_download_often_is_instead(tmp_path, content, what):
    """A saved web page and a git-lfs pointer are called by their names."""
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(WeightsError, match=f"{what}.*next: "):
        Template(tmp_path).load("cpu")


@pytest.mark.parametrize(("state", "what"), [
    ({"state": {0: {"exp_avg": torch.ones(1)}}, "param_groups": [{"lr": 0.1}]}, "the state of an optimizer"),
    ({"text_model.embeddings.weight": torch.ones(2), "text_projection": torch.ones(2)}, "those of a text tower"),
    ({"epoch": 3, "args": argparse.Namespace(lr=0.1)}, "a container with"),
])  # fmt: skip
def test_a_wrong_file_is_called_by_its_name(tmp_path, state, what):
    """An optimizer state, a text tower and an unopened container are told apart from weights of another network."""
    torch.save(state, tmp_path / FILE)
    with pytest.raises(WeightsError, match=f"not the weights of this network but {what}"):
        BioVilT(tmp_path).load("cpu")


@pytest.mark.parametrize(("error", "what"), [
    ("GatedRepoError", "is gated"),
    ("RepositoryNotFoundError", "is not there"),
    ("RevisionNotFoundError", "has no revision"),
    ("LocalEntryNotFoundError", "cannot be reached"),
    ("HfHubHTTPError", "the download failed"),
])  # fmt: skip
def test_the_hubs_answers_have_names(monkeypatch, error, what):
    """Gated, removed, wrong revision, no network and a broken download each say what to do next."""
    import huggingface_hub
    import huggingface_hub.errors

    kind = getattr(huggingface_hub.errors, error)

    def refuses(*args, **options):
        raise kind.__new__(kind, "the hub says no")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuses)
    with pytest.raises(WeightsError, match=f"{what}.*next: "):
        weights.download("rad_dino")


def test_a_snapshot_without_the_cards_file_is_refused(monkeypatch, tmp_path):
    """A revision that lacks a file of the card is an error that lists what is there."""
    import huggingface_hub

    (tmp_path / "README.md").write_text("moved")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *args, **options: str(tmp_path))
    with pytest.raises(WeightsError, match=r"lacks \['config.json', 'model.safetensors'\].*README.md"):
        weights.download("rad_dino")
