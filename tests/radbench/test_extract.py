"""Features are the encoder's, image by image, and an interrupted extraction is never accepted."""

import itertools
import json
import shutil
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from radbench import artifact, device, extract, weights
from radbench.errors import ConfigError, DataError
from radbench.extract import Frozen, Maps, forward
from radbench.parallel import worker_count
from radbench.store import Index


def raw_pixels(results):
    frozen = Frozen("raw_pixels", {}, results)
    return frozen.load("cpu"), Index(results / "index" / "phantom")


def test_features_are_the_encoders_in_index_order(phantom_results):
    """Row k of image.npy is what the wrapper returns for image k alone."""
    meta = extract.extract("raw_pixels", "phantom", {}, phantom_results)
    encoder, index = raw_pixels(phantom_results)
    stored = np.load(meta.file("image.npy"))
    assert stored.shape == (len(index), 1024) and stored.dtype == np.float32
    for row in (0, 7, len(index) - 1):
        alone = encoder.encode(torch.from_numpy(encoder.preprocess(index.image(row)))[None]).image[0].numpy()
        np.testing.assert_allclose(stored[row], alone, atol=1e-6)
    assert meta.facts["measured"] == {"params": 0, "dim": 1024, "grid": [12, 12], "tokens": 144, "image_size": 96, "precision": "float32"}


def test_a_killed_extraction_goes_on_from_its_shards(phantom_results, monkeypatch, tmp_path):
    """Shards that were finished are not computed again, and the result equals an undisturbed one; before that there is none."""
    whole = np.load(extract.extract("raw_pixels", "phantom", {}, phantom_results).file("image.npy"))
    results = tmp_path / "results"
    (results / "index").mkdir(parents=True)
    (results / "index" / "phantom").symlink_to(phantom_results / "index" / "phantom")
    monkeypatch.setattr(extract, "SHARD", 8)
    asked, real = [], extract.forward

    def dies(encoder, index, rows, device, want):
        asked.append(list(rows))
        for number, part in enumerate(real(encoder, index, rows, device, want)):
            if len(asked) == 1 and number == 2:
                raise KeyboardInterrupt
            assert len(part) <= 8
            yield part

    monkeypatch.setattr(extract, "forward", dies)
    with pytest.raises(KeyboardInterrupt):
        extract.extract("raw_pixels", "phantom", {}, results)
    assert not (results / "features" / "raw_pixels" / "phantom" / "meta.json").exists()
    meta = extract.extract("raw_pixels", "phantom", {}, results)
    np.testing.assert_array_equal(np.load(meta.file("image.npy")), whole)
    assert asked == [list(range(len(whole))), list(range(16, len(whole)))] and sorted(meta.fields["files"]) == ["image.npy"]


def interrupted(results, monkeypatch, shards):
    """A run over shards of eight images that was killed after so many; returns the folder in which it left them."""
    monkeypatch.setattr(extract, "SHARD", 8)
    real = extract.forward

    def dies(encoder, index, rows, device, want):
        yield from itertools.islice(real(encoder, index, rows, device, want), shards)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(extract, "forward", dies)
        with pytest.raises(KeyboardInterrupt):
            extract.extract("raw_pixels", "phantom", {}, results)
    (shard,) = (results / "features").rglob("shard-00000.npy")
    return shard.parent


@pytest.fixture
def fresh_results(phantom_results, tmp_path):
    """Results with the index of the phantom and nothing else."""
    (tmp_path / "results" / "index").mkdir(parents=True)
    (tmp_path / "results" / "index" / "phantom").symlink_to(phantom_results / "index" / "phantom")
    return tmp_path / "results"


def test_shards_of_another_precision_are_not_mixed_in(fresh_results, monkeypatch, capsys):
    """A run that goes on in another precision computes the finished shards again and says so."""
    folder = interrupted(fresh_results, monkeypatch, 2)
    for shard in folder.glob("shard-*.npy"):
        np.save(shard, np.load(shard) + 100)  # would be seen
    monkeypatch.setenv("RADBENCH_PRECISION", "bfloat16")
    meta = extract.extract("raw_pixels", "phantom", {}, fresh_results)
    assert np.abs(np.load(meta.file("image.npy"))).max() < 100 and meta.facts["measured"]["precision"] == "bfloat16"
    assert "2 files of a killed run were computed with" in capsys.readouterr().out and sorted(meta.fields["files"]) == ["image.npy"]


def test_shards_of_another_version_are_not_mixed_in(fresh_results, monkeypatch, capsys):
    """A run that goes on after torch was updated computes the finished shards again, and names both versions."""
    interrupted(fresh_results, monkeypatch, 2)
    monkeypatch.setattr(artifact, "software", lambda: {"torch": "99.0"})
    extract.extract("raw_pixels", "phantom", {}, fresh_results)
    said = capsys.readouterr().out
    assert "2 files of a killed run were computed with" in said and "99.0" in said and torch.__version__.partition("+")[0] in said


@pytest.mark.parametrize("damage", ["short", "cut", "empty"])
def test_a_damaged_shard_is_computed_again(fresh_results, monkeypatch, phantom_results, damage):
    """A shard with too few rows, cut in the middle or empty never gets into the features; the result is the undisturbed one."""
    whole = np.load(extract.extract("raw_pixels", "phantom", {}, phantom_results).file("image.npy"))
    shard = interrupted(fresh_results, monkeypatch, 2) / "shard-00001.npy"
    if damage == "short":
        np.save(shard, np.load(shard)[:3])
    else:
        shard.write_bytes(shard.read_bytes()[: 200 if damage == "cut" else 0])
    meta = extract.extract("raw_pixels", "phantom", {}, fresh_results)
    np.testing.assert_array_equal(np.load(meta.file("image.npy")), whole)


def test_images_are_decoded_once_for_all_encoders(phantom_folder, tmp_path, monkeypatch):
    """Index and features of three encoders decode each picture exactly once, all of them while the index is made."""
    from radbench import index as stage

    decoded, real = [], stage.decode
    monkeypatch.setattr(stage, "decode", lambda source, *rest: decoded.append(str(source)) or real(source, *rest))
    monkeypatch.setattr("radbench.image.decode", lambda source, *rest: decoded.append(str(source)) or real(source, *rest))
    stage.build_index("phantom", stage.Spec(reader="folder", root=str(phantom_folder), options={"labels": ["Cardiomegaly"]}), tmp_path)
    images = len(Index(tmp_path / "index" / "phantom"))
    assert len(decoded) == len(set(decoded)) == images
    for name in ("one", "two", "three"):
        extract.extract(name, "phantom", {"wrapper": "raw_pixels", "title": name}, tmp_path)
    assert len(decoded) == images


def test_a_gpu_is_fed_by_all_cores(monkeypatch):
    """One thread prepares images for a CPU, every core for a GPU, or its share under torchrun; a setting or Slurm comes first."""
    for name in ("RADBENCH_WORKERS", "SLURM_CPUS_PER_TASK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 12)
    assert worker_count() == 1 and worker_count("cuda:1") == 12
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert worker_count() == 1 and worker_count("cuda:1") == 3
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "3")
    assert worker_count() == worker_count("cuda:0") == 3


def test_a_large_batch_is_prepared_by_many_threads(phantom_results, monkeypatch):
    """A batch of forty is put together from pieces of at most sixteen images, in order, and its features are those of single images."""
    encoder, index = raw_pixels(phantom_results)
    rows = np.arange(len(index))[::-1].copy()
    alone = torch.cat([part for row in rows for part in forward(encoder, index, np.array([row]), "cpu", "image")])
    monkeypatch.setattr(extract, "batch_size", lambda *_: 40)
    monkeypatch.setenv("RADBENCH_WORKERS", "3")
    pieces, real = [], np.stack
    monkeypatch.setattr(np, "stack", lambda images, *rest: pieces.append(len(images)) or real(images, *rest))
    batches = list(forward(encoder, index, rows, "cpu", "image"))
    assert max(pieces) == 16 and len(batches[0]) == 40
    torch.testing.assert_close(torch.cat(batches), alone)


def test_the_next_batch_travels_while_one_is_computed(phantom_results, monkeypatch):
    """Each batch is sent before the features of the one before are handed over, arrives before it is encoded, and none is sent in vain."""
    encoder, index = raw_pixels(phantom_results)
    monkeypatch.setattr(extract, "batch_size", lambda *_: 4)
    events, real, encode = [], extract.Sender, encoder.encode

    class Watched(real):
        def __call__(self, pieces):
            events.append("send")
            return super().__call__(pieces)

        def arrived(self, batch):
            events.append("arrive")
            return super().arrived(batch)

    monkeypatch.setattr(extract, "Sender", Watched)
    encoder.encode = lambda images: events.append("encode") or encode(images)
    for _ in forward(encoder, index, np.arange(10), "cpu", "image"):
        events.append("hand over")
    step = ["arrive", "encode", "send", "hand over"]
    assert events == ["send", *step, *step, "arrive", "encode", "hand over"]


@pytest.mark.parametrize("kept", [2**30, 0])
def test_maps_that_are_not_finite_are_refused(phantom_results, monkeypatch, kept):
    """A patch feature that is no number is an error that names its image, whether maps are kept or encoded again."""
    monkeypatch.setattr(extract, "MAPS_IN_MEMORY", kept)
    encoder, index = raw_pixels(phantom_results)
    real = encoder.encode

    def broken(images):
        features = real(images)
        features.patches[-1, 0, 0, 0] = np.inf
        return features

    rows, encoder.encode = np.arange(5), broken
    with pytest.raises(DataError, match=f"not finite, first at {index['image_id'][0]}"):
        Maps(encoder, index, rows, "cpu", "patches", name="x")[np.array([1, 0])]


def test_a_waiting_stage_says_so(monkeypatch, tmp_path, capsys):
    """A stage that finds every GPU held says once that it waits, goes on when one is given back, and leaves no TF32 switched on."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: SimpleNamespace(uuid="one"))
    monkeypatch.setattr(torch.cuda, "set_device", lambda number: None)
    monkeypatch.setattr(device.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    first, naps = device.acquire(), []
    first.__enter__()
    monkeypatch.setattr(device.time, "sleep", lambda seconds: naps.append(seconds) or (len(naps) == 2 and first.__exit__(None, None, None)))
    with device.acquire() as got:
        assert got == "cuda:0" and len(naps) == 2 and not torch.backends.cudnn.allow_tf32
    assert capsys.readouterr().err.count("waiting for a GPU") == 1


def test_missing_weights_are_a_gap_with_the_card(phantom_results, monkeypatch, tmp_path):
    """An encoder without weights gives an absent artefact that carries its card and the way to get them."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    meta = extract.extract("rad_dino", "phantom", {}, phantom_results)
    assert meta.absent and "weights not present" in meta.fields["reason"]
    assert json.loads(meta.path.read_text())["facts"]["card"]["title"] == "RAD-DINO"


def test_an_unknown_option_is_refused_before_any_work(phantom_results):
    """A misspelt option of an encoder is a ConfigError that names the ones it takes."""
    with pytest.raises(ConfigError, match="unknown option 'weight_of'.*did you mean 'weights_of'"):
        Frozen("radjepa", {"weights": str(phantom_results), "options": {"weight_of": "context"}}, phantom_results)


def test_images_that_are_smaller_than_the_input_are_told(phantom_results, capsys):
    """The share of stored images that an encoder sees enlarged is in its sidecar, and said when it is not 0."""
    index = Index(phantom_results / "index" / "phantom")
    shortest = [min(index.pixels(row).shape) for row in range(len(index))]
    for side, wanted in ((min(shortest), 0.0), (max(shortest) + 1, 1.0)):
        assert extract._enlarged(index, side, "x") == wanted
        assert ("were enlarged; where the originals are larger" in capsys.readouterr().err) == bool(wanted)
    facts = extract.extract("raw_pixels", "phantom", {}, phantom_results).facts
    assert facts["enlarged"] == pytest.approx(np.mean(np.array(shortest) < facts["measured"]["image_size"]), abs=1e-4)


def test_an_unknown_key_of_a_row_is_refused(phantom_results):
    """A misspelt key of `--spec` is a ConfigError, and not a run with the default in its place."""
    with pytest.raises(ConfigError, match="unknown key 'option'; next: did you mean 'options'"):
        Frozen("radjepa", {"option": {"weights_of": "context"}}, phantom_results)


def test_a_misspelt_model_of_timm_is_no_gap(phantom_results, monkeypatch, tmp_path):
    """A tag that timm does not have is an error with the right one, for nobody could get its weights."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    spec = {"wrapper": "timm_model", "options": {"model": "vit_base_patch14_dinov2.lvd142"}}
    with pytest.raises(ConfigError, match=r"has no such tag.*did you mean 'vit_base_patch14_dinov2\.lvd142m'"):
        Frozen("timm_x", spec, phantom_results)
    with pytest.raises(ConfigError, match=r"did you mean 'vit_base_patch14_dinov2\.lvd142m'"):
        weights.download("timm:vit_base_patch14_dinov2.lvd142")


def test_options_and_code_are_part_of_the_key(phantom_results):
    """Another option gives another key; the batch size does not enter it."""
    keys = []
    for options in ({}, {"weights_of": "context"}):
        parts = Frozen("radjepa", {"weights": str(phantom_results / "index"), "options": options}, phantom_results).key_parts(
            "radbench.extract"
        )
        keys.append(artifact.hash_json(parts))
    assert keys[0] != keys[1] and "batch" not in str(parts)


@pytest.mark.parametrize("limit", [2**30, 0])
def test_maps_are_the_same_kept_or_recomputed(phantom_results, monkeypatch, limit):
    """Patch features kept in memory and encoded again at every use are the same, for any places in any order."""
    monkeypatch.setattr(extract, "MAPS_IN_MEMORY", limit)
    encoder, index = raw_pixels(phantom_results)
    rows = np.array([3, 9, 1, 20])
    maps = Maps(encoder, index, rows, "cpu", "patches")
    wanted = torch.cat(list(forward(encoder, index, rows[[2, 0]], "cpu", "patches")))
    torch.testing.assert_close(maps[np.array([2, 0])][0], wanted)
    assert (maps._kept is None) == (limit == 0)


def test_a_changed_option_is_said_in_the_title_or_below_the_table(phantom_results):
    """An option that is not its default is in the row's title; where the configuration gives a title of its own, in the mark instead."""
    small = {"wrapper": "rad_dino", "options": {"image_size": 224}}
    silent, told = (Frozen("small", spec, phantom_results) for spec in (small, small | {"title": "RAD-DINO"}))
    assert silent.card.title == "RAD-DINO (image_size 224)" and silent.reductions() == []
    assert told.card.title == "RAD-DINO" and told.reductions() == ["option image_size 518 -> 224"]
    assert Frozen("rad_dino", {}, phantom_results).reductions() == []


def test_a_run_that_was_copied_keeps_what_it_was_trained_on(phantom_results, tmp_path):
    """Weights of a pretraining run given as a local path still say their data and what was shrunk."""
    from radbench import pretrain

    protocol = pretrain.Protocol(image_size=32, patch=4, width=24, depth=2, heads=2, predictor_width=12, predictor_depth=1,
                                 predictor_heads=2, batch=8, mask_group=8, epochs=0.1)  # fmt: skip
    meta = pretrain.pretrain("radjepa", [pretrain.Source("phantom")], protocol, phantom_results)
    shutil.copytree(meta.payload, tmp_path / "copied")
    frozen = Frozen("radjepa", {"weights": str(tmp_path / "copied")}, phantom_results)
    card = frozen.facts()["card"]
    assert card["pretrained_on"] == ["phantom"] and card["architecture"] == "ViT 2 x 24, patch 4"
    assert "pretraining epochs 300 -> 0.1" in frozen.reductions()


def test_memory_stays_flat_over_a_million_images(tmp_path, monkeypatch):
    """A million images of 8 features pass through shards and are joined in less memory than half of the features take."""

    class Million:
        def __len__(self):
            return 1_000_000

    def cheap(encoder, index, rows, device, want):
        for start in range(0, len(rows), 4096):
            part = rows[start : start + 4096]
            yield torch.from_numpy(np.repeat(part[:, None], 8, axis=1).astype(np.float32))

    monkeypatch.setattr(extract, "SHARD", 65536)
    monkeypatch.setattr(extract, "forward", cheap)
    tracemalloc.start()
    extract._write_features(tmp_path, None, Million(), "cpu", "features")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    features = np.load(tmp_path / "image.npy", mmap_mode="r")
    assert features.shape == (1_000_000, 8) and [path.name for path in tmp_path.iterdir()] == ["image.npy"]
    np.testing.assert_array_equal(features[::99_991, 3], np.arange(1_000_000, dtype=np.float32)[::99_991])
    assert peak < 16 * 2**20, peak  # all features together are 32 MB; a shard 2 MB


def test_an_index_of_a_million_rows_reads_the_columns_it_is_asked_for(phantom_results, monkeypatch):
    """Opening an index reads no column; asking for one reads that one."""
    index = Index(phantom_results / "index" / "phantom")
    assert len(index) and not index._columns
    assert len(index["offset"]) == len(index) and list(index._columns) == ["offset"]


def test_batches_shrink_with_the_input(phantom_results, monkeypatch):
    """A large grid or width gives small batches and never none; the features do not depend on it."""
    encoder, index = raw_pixels(phantom_results)
    image = torch.zeros(1, 1, 96, 96)
    sizes = []
    for limit in (2**22, 5 * 144 * 64, 1):
        vars(encoder).pop("_batch_size", None)
        monkeypatch.setattr(extract, "CPU_ACTIVATIONS", limit)
        sizes.append(extract.batch_size(encoder, image, "cpu"))
    assert sizes == [16, 5, 1]


@pytest.mark.parametrize(("capability", "training", "wanted"), [((9, 0), True, "bfloat16"), ((8, 0), False, "bfloat16"),
                         ((7, 5), False, "float16"), ((7, 0), True, "float32")])  # fmt: skip
def test_precision_follows_the_hardware(monkeypatch, capability, training, wanted):
    """A GPU computes in bfloat16 where it has the units, in float16 for inference where it has only those."""
    monkeypatch.delenv("RADBENCH_PRECISION")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert device.precision("cuda:0", training) == wanted


def test_precision_of_a_cpu_is_float32_without_matrix_tiles(monkeypatch):
    """A CPU without AMX computes in float32, one with AMX in bfloat16; $RADBENCH_PRECISION overrides, a misspelt one is refused."""
    monkeypatch.delenv("RADBENCH_PRECISION")
    for has, chosen in ((False, "float32"), (True, "bfloat16")):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda has=has: has)
        assert device.precision("cpu") == chosen
    monkeypatch.setenv("RADBENCH_PRECISION", "bfloat16")
    with device.autocast("cpu", training=False):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    monkeypatch.setenv("RADBENCH_PRECISION", "half")
    with pytest.raises(ConfigError, match="one of"):
        device.precision("cpu")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_features_are_the_eager_ones(phantom_results, monkeypatch):
    """With $RADBENCH_COMPILE the features differ by rounding only, a short last batch included."""
    from radbench.encoder import find

    tiny = {"model": "vit_tiny_patch16_224.augreg_in21k_ft_in1k"}
    encoder, index = find("timm_model")(None, tiny), Index(phantom_results / "index" / "phantom")
    torch.manual_seed(0)
    encoder.load("cpu")
    rows = np.arange(19)  # 16 and 3
    eager = torch.cat(list(forward(encoder, index, rows, "cpu", "image")))
    monkeypatch.setenv("RADBENCH_COMPILE", "1")
    fast = torch.cat(list(forward(encoder, index, rows, "cpu", "image")))
    torch.testing.assert_close(fast, eager, atol=1e-4, rtol=0)
    assert len(fast) == 19


def test_a_convolutional_network_is_laid_out_for_speed_and_gives_the_same(phantom_results):
    """A ResNet runs channels-last, a ViT as it is, and the features are those of the plain network."""
    plain = Frozen("biovil_t", {}, phantom_results)
    wrapper = plain.encoder_class(None, {})
    torch.manual_seed(0)
    wrapper.load("cpu")
    torch.manual_seed(0)
    laid = plain.load("cpu")
    image = torch.from_numpy(wrapper.preprocess(np.random.default_rng(0).random((300, 280), dtype=np.float32)))[None]
    assert next(p for p in laid.resnet.parameters() if p.ndim == 4 and p.shape[-1] == 3).is_contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        one, other = wrapper.encode(image), laid.encode(image)
    torch.testing.assert_close(one.image, other.image, rtol=1e-4, atol=1e-5)
