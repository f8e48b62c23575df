"""The decoder is mmsegmentation's, the geometry is lossless, and Dice is what it says."""

import sys
import types

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import cdist

from radbench import artifact
from radbench.errors import ConfigError
from radbench.protocol import from_overrides
from radbench.store import Index
from tasks.segmentation import NSD_TOLERANCE, Protocol, UPerNet, _on_grid, _targets, boundary, pad_square, segment

SMALL = Protocol(channels=16, dropout=0.0)
MAPS = [torch.randn(3, 24, 8, 8, generator=torch.Generator().manual_seed(k)) for k in range(4)]


def mmseg_decoder(width: int, channels: int, outputs: int):
    """mmsegmentation's neck and head; mmcv's compiled operators are not needed by either."""

    class Extension(types.ModuleType):
        def __getattr__(self, name):
            if name.startswith("__"):
                raise AttributeError(name)
            return lambda *a, **k: pytest.fail(f"compiled operator {name} was called")

    sys.modules.setdefault("mmcv._ext", Extension("mmcv._ext"))
    heads, necks = pytest.importorskip("mmseg.models.decode_heads"), pytest.importorskip("mmseg.models.necks")
    norm = {"type": "BN"}
    neck = necks.Feature2Pyramid(embed_dim=width, rescales=[4, 2, 1, 0.5], norm_cfg=norm)
    head = heads.UPerHead(in_channels=[width] * 4, in_index=[0, 1, 2, 3], pool_scales=(1, 2, 3, 6), channels=channels,
                          dropout_ratio=0.0, num_classes=outputs, norm_cfg=norm, align_corners=False)  # fmt: skip
    return neck, head


def copy_weights(ours: UPerNet, neck, head) -> None:
    names = {"pyramid.up4.": "upsample_4x.", "pyramid.up2.": "upsample_2x.0."}
    state = ours.state_dict()
    neck.load_state_dict(
        {new + key[len(old) :]: value for key, value in state.items() for old, new in names.items() if key.startswith(old)}
    )
    renamed = {key.removeprefix("head.").replace("classifier.1.", "conv_seg.").replace(".batch_norm.", ".bn."): value
               for key, value in state.items() if key.startswith("head.")}  # fmt: skip
    head.load_state_dict(renamed)


@pytest.mark.parametrize("training", [False, True])
def test_decoder_is_mmsegmentations(training):
    """With the same weights our decoder and mmsegmentation's give the same logits and gradients, bit for bit."""
    torch.manual_seed(0)
    ours = UPerNet([24] * 4, 5, SMALL)
    neck, head = mmseg_decoder(24, 16, 5)
    copy_weights(ours, neck, head)
    for module in (ours, neck, head):
        module.train(training)
    one, two = ours(MAPS), head(neck(tuple(MAPS)))
    assert torch.equal(one, two)
    one.square().mean().backward(), two.square().mean().backward()
    assert torch.equal(ours.pyramid.up4[0].weight.grad, neck.upsample_4x[0].weight.grad)
    assert torch.equal(ours.head.classifier[1].weight.grad, head.conv_seg.weight.grad)


@pytest.mark.parametrize(("outputs", "count"), [(1, 39_338_241), (2, 39_338_754), (20, 39_347_988)])
def test_full_decoder_has_the_papers_size(outputs, count):
    """512 channels on 4 x 768 have 39.3 M parameters: 39,337,728 and 513 per output channel."""
    with torch.device("meta"):
        decoder = UPerNet([768] * 4, outputs, Protocol())
    assert sum(value.numel() for value in decoder.parameters()) == count


@pytest.mark.parametrize("shape", [(50, 40), (40, 51), (33, 33)])
def test_padding_and_cropping_back_is_lossless(shape):
    """A mask that is padded to a square and predicted perfectly comes back on its own grid unchanged."""
    mask = np.random.default_rng(0).random(shape) > 0.5
    logits = torch.from_numpy(pad_square(mask).astype(np.float32))[None] * 2 - 1
    np.testing.assert_array_equal(_on_grid(logits, shape, 1.0)[0], mask)


def test_outside_the_field_of_view_is_background():
    """An encoder that sees 448 of 512 pixels predicts nothing in the margin, and its window is centred."""
    predicted = _on_grid(torch.ones(1, 8, 8), (64, 64), 448 / 512)[0]
    assert predicted.sum() == 56 * 56 and predicted[4:60, 4:60].all()


def test_training_targets_are_the_masks(phantom_results):
    """At the mask's own size the training target is the padded mask, structure by structure."""
    index = Index(phantom_results / "index" / "phantom")
    names = ["lung_left", "lung_right", "rib_left_05"]
    side = max(index.mask(0).shape)
    targets = _targets(index, np.array([0]), names, 1.0, side)[0].numpy()
    for number, name in enumerate(names):
        wanted = (pad_square(index.mask(0)) >> np.uint32(index.structures.index(name))) & 1
        np.testing.assert_array_equal(targets[number], wanted)


def test_left_lung_is_learned_apart_from_the_right(phantom_results):
    """On raw pixels a small decoder finds the lungs (Dice above 0.5), and its areas give its Dice."""
    import pandas as pd

    spec = {
        "structures": {"lungs": ["lung_left", "lung_right"]},
        "protocol": {"channels": 16, "epochs": 25, "batch": 8, "label_size": 64, "replicates": 1},
    }
    meta = segment("phantom", "raw_pixels", spec, phantom_results)
    table = pd.read_parquet(meta.file("predictions.parquet"))
    assert table["dice"].mean() > 0.5
    np.testing.assert_allclose(table["dice"], 2 * table["intersection"] / (table["pred_area"] + table["ref_area"]))
    assert set(table["structure"]) == {"lung_left", "lung_right"} and meta.facts["reduced"]


def test_replicates_are_decoders_of_other_seeds_on_the_same_images(phantom_results):
    """Replicate k has the rows of seed + k alone, bit for bit; every replicate has the same images with the same reference."""
    import pandas as pd

    def rows(replicates, seed):
        protocol = {"channels": 8, "epochs": 1, "batch": 8, "label_size": 32, "dropout": 0.1, "replicates": replicates, "seed": seed}
        meta = segment("phantom", "raw_pixels", {"structures": {"lungs": ["lung_left"]}, "protocol": protocol}, phantom_results)
        assert meta.facts["replicates"] == "seeds" and f"replicates 5 -> {replicates}" in meta.facts["reduced"]
        return pd.read_parquet(meta.file("predictions.parquet"))

    both, second = rows(2, 3), rows(1, 4)
    one, other = (both[both.replicate == k].reset_index(drop=True) for k in (0, 1))
    pd.testing.assert_frame_equal(other.assign(replicate=0), second)
    same = ["image_id", "patient_id", "structure", "ref_area"]
    pd.testing.assert_frame_equal(one[same], other[same])
    assert (one.dice != other.dice).any()


def test_a_killed_run_goes_on_from_its_decoders(phantom_results, tmp_path, monkeypatch):
    """Killed after three of four decoders, the second run trains one, and writes what a run that was not killed writes."""
    import pandas as pd

    import tasks.segmentation

    protocol = {"channels": 8, "epochs": 1, "batch": 8, "label_size": 32, "replicates": 2, "seed": 7}
    spec = {"structures": {"left": ["lung_left"], "right": ["lung_right"]}, "protocol": protocol}
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "index").symlink_to(phantom_results / "index")
    trained, real = [], tasks.segmentation.train

    def train(*arguments):
        if len(trained) == 3:
            raise KeyboardInterrupt
        trained.append(arguments[-1])
        return real(*arguments)

    monkeypatch.setattr(tasks.segmentation, "train", train)
    with pytest.raises(KeyboardInterrupt):
        segment("phantom", "raw_pixels", spec, tmp_path / "results")
    monkeypatch.setattr(tasks.segmentation, "train", lambda *arguments: trained.append(arguments[-1]) or real(*arguments))
    resumed = segment("phantom", "raw_pixels", spec, tmp_path / "results")
    ends = [f"{side} seed {seed}" for side in ("left", "right") for seed in (7, 8)]
    assert [title.removeprefix("segmentation phantom raw_pixels ") for title in trained] == ends
    whole = segment("phantom", "raw_pixels", spec, phantom_results)
    one, other = (pd.read_parquet(meta.file("predictions.parquet")) for meta in (resumed, whole))
    pd.testing.assert_frame_equal(one, other)
    assert resumed.file("examples.png").read_bytes() == whole.file("examples.png").read_bytes()
    assert set(resumed.fields["files"]) == {"predictions.parquet", "examples.png"}
    assert resumed.facts["decoder_params"] == whole.facts["decoder_params"]


def test_decoders_of_another_arithmetic_are_computed_again(phantom_results, tmp_path, monkeypatch, capsys):
    """What a killed run computed in another precision is not mixed in: the run that goes on says so and equals an undisturbed one."""
    import pandas as pd

    import tasks.segmentation

    protocol = {"channels": 8, "epochs": 1, "batch": 8, "label_size": 32, "replicates": 2, "seed": 9}
    spec = {"structures": {"left": ["lung_left"]}, "protocol": protocol}
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "index").symlink_to(phantom_results / "index")
    trained, real = [], tasks.segmentation.train

    def train(*arguments):
        if len(trained) == 1:
            raise KeyboardInterrupt
        trained.append(arguments[-1])
        return real(*arguments)

    monkeypatch.setenv("RADBENCH_PRECISION", "bfloat16")
    monkeypatch.setattr(tasks.segmentation, "train", train)
    with pytest.raises(KeyboardInterrupt):
        segment("phantom", "raw_pixels", spec, tmp_path / "results")
    monkeypatch.setenv("RADBENCH_PRECISION", "float32")
    monkeypatch.setattr(tasks.segmentation, "train", real)
    capsys.readouterr()
    resumed = segment("phantom", "raw_pixels", spec, tmp_path / "results")
    said = capsys.readouterr().out
    assert "segmentation phantom raw_pixels: 2 files of a killed run were computed with {'precision': 'bfloat16'" in said
    assert "this run has {'precision': 'float32'" in said and "computed again" in said
    whole = segment("phantom", "raw_pixels", spec, phantom_results)
    one, other = (pd.read_parquet(meta.file("predictions.parquet")) for meta in (resumed, whole))
    pd.testing.assert_frame_equal(one, other)
    assert set(resumed.fields["files"]) == {"predictions.parquet", "examples.png"}


@pytest.mark.parametrize(("overrides", "allowed"), [
    ({"replicates": 0}, "1 or more"), ({"batch": 1}, "2 or more"), ({"epochs": 0}, "1 or more"), ({"label_size": 0}, "1 or more"),
    ({"pool_scales": [1, 0]}, "1 or more"),
])  # fmt: skip
def test_an_impossible_protocol_is_named(overrides, allowed):
    """A protocol that would train no decoder is refused with its place, what was got and what is allowed."""
    with pytest.raises(ConfigError, match=rf"^tasks\.segmentation\.protocol\.{next(iter(overrides))}: .*got .*expected {allowed}"):
        from_overrides(Protocol, overrides, "tasks.segmentation.protocol")


def test_a_data_set_without_masks_is_a_gap(phantom_folder, tmp_path):
    """Without masks the task is absent with a reason, and its prediction file is empty but well formed."""
    import shutil

    import pandas as pd

    from radbench.index import Spec, build_index

    folder = shutil.copytree(phantom_folder, tmp_path / "folder")
    (folder / "structures.csv").unlink()
    build_index("d", Spec(reader="folder", root=str(folder)), tmp_path / "results")
    meta = segment("d", "raw_pixels", {"structures": {"lungs": ["lung_left"]}}, tmp_path / "results")
    assert meta.absent and meta.fields["reason"] == "the data set has no masks"
    table = pd.read_parquet(tmp_path / "results" / "segmentation" / "d" / "raw_pixels" / "predictions.parquet")
    assert len(table) == 0 and "dice" in table
    assert artifact.read(tmp_path / "results" / "segmentation" / "d" / "raw_pixels").absent


def brute_force(predicted: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """HD95 and NSD from all pairs of outline pixels."""

    def outline(mask):
        padded = np.pad(mask, 1)
        inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        return np.argwhere(mask & ~inner)

    pairs = cdist(outline(predicted), outline(reference)) / np.hypot(*reference.shape)
    one, other = pairs.min(axis=1), pairs.min(axis=0)
    near = (one <= NSD_TOLERANCE).sum() + (other <= NSD_TOLERANCE).sum()
    return max(np.percentile(one, 95), np.percentile(other, 95)), near / (len(one) + len(other))


def test_boundary_metrics_are_those_of_all_pairs():
    """HD95 and NSD of random blobs equal those from the distances of all pairs of outline pixels."""
    random = np.random.default_rng(0)
    for _ in range(5):
        predicted, reference = (gaussian_filter(random.normal(size=(60, 45)), 4) > 0.03 for _ in range(2))
        assert boundary(predicted, reference) == pytest.approx(brute_force(predicted, reference), abs=1e-12)


def test_boundary_of_a_shifted_square_and_of_nothing():
    """A square moved by three pixels is three pixels off; equal masks 0 and 1, a missed structure 1 and 0, no reference NaN."""
    square = np.zeros((40, 30), dtype=bool)
    square[10:20, 5:15] = True
    empty = np.zeros_like(square)
    assert boundary(np.roll(square, 3, axis=1), square)[0] == pytest.approx(3 / 50)  # the diagonal of 40 x 30 is 50
    assert boundary(square, square) == (0.0, 1.0) and boundary(empty, square) == (1.0, 0.0)
    assert np.isnan(boundary(square, empty)).all() and np.isnan(boundary(empty, empty)).all()
