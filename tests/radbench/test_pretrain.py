"""Pretraining is I-JEPA, resumes exactly, and does not depend on how many processes share it."""

import dataclasses
import json
import os
import subprocess
import sys
import weakref

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from radbench import artifact, pretrain
from radbench.errors import ConfigError, DataError
from radbench.jepa.predictor import Predictor
from radbench.jepa.vit import ViTShape, build_vit, encode_tokens
from radbench.pretrain import Protocol, Source, World, collapse_measures, jepa_loss, random_crop, schedules
from radbench.protocol import from_overrides

TINY = Protocol(image_size=32, patch=4, width=24, depth=2, heads=2, predictor_width=12, predictor_depth=1, predictor_heads=2,
                batch=8, mask_group=4, epochs=3, warmup_epochs=1, lr=2e-3)  # fmt: skip
DATA = [Source("phantom")]


def weights(meta):
    return load_file(meta.file("encoder.safetensors"))


def test_loss_is_smooth_l1_on_layer_normed_targets():
    """The loss equals the definition written out: EMA target tokens, layer-normed without affine, smooth L1, mean."""
    shape = ViTShape(32, 4, 24, 2, 2)
    encoder, target, predictor = build_vit(shape, 0).eval(), build_vit(shape, 1).eval(), Predictor(24, 8, 12, 1, 2, seed=2).eval()
    pixels, keep = torch.randn(3, 3, 32, 32), torch.stack([torch.arange(20, 40)] * 3)
    targets = torch.tensor([[[0, 1, 8, 9], [50, 51, 58, 59]]] * 3)
    with torch.no_grad():
        loss, pooled = jepa_loss(encoder, target, predictor, pixels, keep, targets)
        tokens = encode_tokens(target, pixels)
        normed = (tokens - tokens.mean(-1, keepdim=True)) / torch.sqrt(tokens.var(-1, unbiased=False, keepdim=True) + 1e-5)
        predicted = predictor(encode_tokens(encoder, pixels, keep), keep, targets)
        errors = torch.stack([predicted[b, m] - normed[b, targets[b, m]] for b in range(3) for m in range(2)]).abs()
    wanted = torch.where(errors < 1, 0.5 * errors**2, errors - 0.5).mean()
    torch.testing.assert_close(loss, wanted)
    torch.testing.assert_close(pooled, tokens.mean(1))


def test_no_gradient_reaches_the_target_encoder():
    """Only context encoder and predictor are trained by the loss."""
    shape = ViTShape(32, 4, 24, 2, 2)
    encoder, target, predictor = build_vit(shape, 0), build_vit(shape, 1), Predictor(24, 8, 12, 1, 2, seed=2)
    loss, _ = jepa_loss(
        encoder, target, predictor, torch.randn(2, 3, 32, 32), torch.arange(20)[None].repeat(2, 1), torch.tensor([[[40, 41]]] * 2)
    )
    loss.backward()
    assert all(value.grad is None for value in target.parameters())
    assert all(value.grad is not None for name, value in encoder.named_parameters() if name != "pos_embed")


def test_schedules_meet_their_ends():
    """Warm-up starts at lr_start and reaches lr, the cosine ends at lr_end, decay and EMA run between their ends."""
    protocol = Protocol()
    assert schedules(0, 1000, 0.1, protocol) == pytest.approx((2e-4, 0.04, 0.996))
    assert schedules(100, 1000, 0.1, protocol)[0] == pytest.approx(1e-3)
    rate, decay, momentum = schedules(1000, 1000, 0.1, protocol)
    assert (rate, decay, momentum) == pytest.approx((1e-6, 0.4, 1.0))


def test_one_step_is_adamw_and_ema(phantom_results):
    """After one step by hand (AdamW on context and predictor, EMA on the target) the weights equal the stage's."""
    protocol = Protocol(**{**TINY.__dict__, "epochs": 0.01, "mask_group": 8})
    images = pretrain.Images(phantom_results, DATA)
    encoder, target = build_vit(protocol.shape, 0), build_vit(protocol.shape, 0)
    predictor = Predictor(24, 8, 12, 1, 2, seed=1)
    random = np.random.default_rng([0, 3, 0, 0])
    mean, std = images.statistics()
    pixels = (images.crops(images.batch_rows(0, protocol), protocol, random) - mean) / std
    keep, targets = (torch.from_numpy(part) for part in pretrain.draw_masks(8, 8, pretrain.MaskProtocol(), random))
    jepa_loss(encoder, target, predictor, pixels, keep, targets)[0].backward()
    rate = protocol.lr_start
    for module in (encoder, predictor):
        for value in (value for value in module.parameters() if value.requires_grad):
            if value.ndim > 1:
                value.data.mul_(1 - rate * 0.04)
            value.data.sub_(rate * value.grad / (value.grad.abs() + 1e-8))  # Adam's first step: m/sqrt(v) = g/|g|
    by_hand = {name: 0.996 * old + 0.004 * encoder.state_dict()[name] for name, old in target.state_dict().items()}
    pretrain.pretrain("one_step", DATA, protocol, phantom_results)
    stage = weights(artifact.read(phantom_results / "pretrain" / "one_step"))
    for name, value in by_hand.items():
        torch.testing.assert_close(stage[name], value, atol=2e-6, rtol=1e-4)


def test_a_run_that_dies_goes_on_to_the_same_weights(phantom_results, monkeypatch):
    """Killed at any checkpoint and started again, a run ends with bit-identical weights and log."""
    whole = pretrain.pretrain("whole", DATA, TINY, phantom_results)
    monkeypatch.setattr(pretrain, "CHECKPOINT_SECONDS", -1)
    save = pretrain._save_checkpoint

    def save_and_die(path, step, *rest):
        save(path, step, *rest)
        if step in (2, 9):
            raise KeyboardInterrupt

    monkeypatch.setattr(pretrain, "_save_checkpoint", save_and_die)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            pretrain.pretrain("killed", DATA, TINY, phantom_results)
    killed = pretrain.pretrain("killed", DATA, TINY, phantom_results)
    one, two = weights(whole), weights(killed)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert whole.file("log.csv").read_bytes() == killed.file("log.csv").read_bytes()


def test_a_run_that_goes_on_elsewhere_says_so(phantom_results, monkeypatch, capsys):
    """A run that goes on in another precision says what changed, and its sidecar lists both; one that is not disturbed lists one."""
    monkeypatch.setattr(pretrain, "CHECKPOINT_SECONDS", -1)
    save, protocol = pretrain._save_checkpoint, dataclasses.replace(TINY, epochs=1, seed=6)

    def save_and_die(*arguments):
        save(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(pretrain, "_save_checkpoint", save_and_die)
        patch.setenv("RADBENCH_PRECISION", "bfloat16")
        pretrain.pretrain("moved", DATA, protocol, phantom_results)
    facts = pretrain.pretrain("moved", DATA, protocol, phantom_results).facts
    assert [part["precision"] for part in facts["arithmetic"]] == ["bfloat16", "float32"]
    assert "goes on with {'precision': 'float32'}, was begun with {'precision': 'bfloat16'}" in capsys.readouterr().err
    assert len(pretrain.pretrain("still", DATA, protocol, phantom_results).facts["arithmetic"]) == 1


def test_a_resumed_run_does_not_hold_its_checkpoint(phantom_results, monkeypatch):
    """While a resumed run trains, the weights that it read are held once, in the modules."""
    monkeypatch.setattr(pretrain, "CHECKPOINT_SECONDS", -1)
    save, load, loss, read, held = pretrain._save_checkpoint, torch.load, pretrain.jepa_loss, [], []

    def save_and_die(*arguments):
        save(*arguments)
        raise KeyboardInterrupt

    def load_and_watch(*arguments, **options):
        saved = load(*arguments, **options)
        read.extend(weakref.ref(value) for part in ("encoder", "target", "predictor") for value in saved[part].values())
        return saved

    def loss_and_look(*arguments):
        held.extend(watched() is not None for watched in read)
        return loss(*arguments)

    protocol = dataclasses.replace(TINY, epochs=0.5, seed=4)
    monkeypatch.setattr(pretrain, "_save_checkpoint", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        pretrain.pretrain("resumed", DATA, protocol, phantom_results)
    monkeypatch.setattr(pretrain, "_save_checkpoint", save)
    monkeypatch.setattr(torch, "load", load_and_watch)
    monkeypatch.setattr(pretrain, "jepa_loss", loss_and_look)
    pretrain.pretrain("resumed", DATA, protocol, phantom_results)
    assert len(held) >= len(read) > 0 and not any(held)


def test_the_optimisers_state_is_sent_from_the_cpu(monkeypatch):
    """What the first process sends to the others on resume lies in main memory, whatever device it trains on."""

    class OnGpu(torch.Tensor):
        def cpu(self):
            return self.as_subclass(torch.Tensor)

    weight, sent = torch.nn.Parameter(torch.ones(2)), []
    optimiser = torch.optim.AdamW([weight])
    weight.sum().backward()
    optimiser.step()
    state = optimiser.state_dict()
    state["state"][0] = {name: value.as_subclass(OnGpu) for name, value in state["state"][0].items()}
    monkeypatch.setattr(optimiser, "state_dict", lambda: state)
    monkeypatch.setattr(torch.distributed, "broadcast_object_list", sent.extend)
    world = World()
    world.size = 2
    assert world.agree(5, [], optimiser) == 5
    assert set(sent[0]["optimiser"]["state"][0]) == {"step", "exp_avg", "exp_avg_sq"}
    assert all(type(value) is torch.Tensor for value in sent[0]["optimiser"]["state"][0].values())


@pytest.mark.slow
@pytest.mark.parametrize("group", [4, 8])
def test_two_processes_train_the_same_encoder(phantom_results, group):
    """Under torchrun two processes end with one process's weights and log, up to the order of sums, also when one has no group."""
    protocol = Protocol(**{**TINY.__dict__, "mask_group": group})
    alone = pretrain.pretrain(f"alone{group}", DATA, protocol, phantom_results)
    spec = {
        "data": [{"dataset": "phantom"}],
        "protocol": {name: value for name, value in protocol.__dict__.items() if value != getattr(Protocol(), name)},
    }
    environment = os.environ | {"PYTHONPATH": str(artifact.ROOT), "OMP_NUM_THREADS": "1"}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    stage = ["-m", "radbench.pretrain", "--name", f"together{group}", "--spec", json.dumps(spec), "--results", str(phantom_results)]
    subprocess.run([*torchrun, *stage], check=True, env=environment, timeout=300)
    one, two = weights(alone), weights(artifact.read(phantom_results / "pretrain" / f"together{group}"))
    for name in one:
        torch.testing.assert_close(one[name], two[name], atol=2e-4, rtol=2e-3)
    paths = [phantom_results / "pretrain" / f"{name}{group}" / "log.csv" for name in ("alone", "together")]
    logs = [np.genfromtxt(path, delimiter=",", names=True) for path in paths]
    assert logs[0].dtype.names == logs[1].dtype.names and {"loss", "feature_sd", "feature_rank"} <= set(logs[0].dtype.names)
    for name in logs[0].dtype.names:
        np.testing.assert_allclose(logs[0][name], logs[1][name], rtol=2e-3, err_msg=name)


def test_the_initial_weights_are_the_seeds(phantom_results):
    """initial.safetensors is the trunk before the first step: what random_vit loads."""
    meta = pretrain.pretrain("whole", DATA, TINY, phantom_results)
    initial, fresh = load_file(meta.file("initial.safetensors")), build_vit(TINY.shape, TINY.seed).state_dict()
    assert all(torch.equal(initial[name], fresh[name]) for name in fresh)
    assert not torch.equal(initial["blocks.0.attn.qkv.weight"], weights(meta)["blocks.0.attn.qkv.weight"])


def test_collapse_measures_see_collapse():
    """Identical features have SD 0, rank 1 and cosine 1; white features have full rank and cosine near 0."""
    same = collapse_measures(torch.ones(64, 16) + torch.arange(16.0))
    white = collapse_measures(torch.randn(4000, 16, generator=torch.Generator().manual_seed(0)))
    assert same["feature_sd"] == 0 and same["feature_rank"] == pytest.approx(1, abs=0.01) and same["feature_cosine"] == pytest.approx(1)
    assert white["feature_sd"] == pytest.approx(1, abs=0.05) and white["feature_rank"] > 15 and abs(white["feature_cosine"]) < 0.01


def test_crops_are_torchvisions():
    """Crop areas and aspect ratios are distributed as torchvision's RandomResizedCrop draws them (two-sample KS test)."""
    from scipy.stats import ks_2samp
    from torchvision.transforms import RandomResizedCrop

    torch.manual_seed(0)
    random, blank = np.random.default_rng(0), torch.zeros(1, 120, 100)
    theirs = np.array([RandomResizedCrop.get_params(blank, [0.3, 1.0], [3 / 4, 4 / 3]) for _ in range(2000)])
    boxes = np.array([random_crop((120, 100), (0.3, 1.0), (3 / 4, 4 / 3), random) for _ in range(2000)])
    heights, widths = boxes[:, 3] - boxes[:, 1], boxes[:, 2] - boxes[:, 0]
    assert (boxes >= 0).all() and (boxes[:, 2] <= 100).all() and (boxes[:, 3] <= 120).all()
    assert ks_2samp(heights * widths, theirs[:, 2] * theirs[:, 3]).pvalue > 0.01
    assert ks_2samp(heights / widths, theirs[:, 2] / theirs[:, 3]).pvalue > 0.01


def test_impossible_settings_are_named(phantom_results):
    """Too few images are a gap; a batch that is no multiple of the group and a site that is not there are named errors."""
    meta = pretrain.pretrain("big", DATA, Protocol(**{**TINY.__dict__, "batch": 4000}), phantom_results)
    assert meta.absent and "less than one batch of 4000" in meta.fields["reason"]
    with pytest.raises(ConfigError, match="multiple of mask_group"):
        pretrain.pretrain("odd", DATA, Protocol(**{**TINY.__dict__, "mask_group": 3}), phantom_results)
    with pytest.raises(DataError, match="no image is left"):
        pretrain.pretrain("none", [Source("phantom", sites=["Z"])], TINY, phantom_results)


@pytest.mark.parametrize(("overrides", "field", "allowed"), [
    ({"mask_group": 0}, "mask_group", "1 or more"), ({"batch": 0}, "batch", "1 or more"), ({"epochs": 0}, "epochs", "more than 0"),
    ({"patch": 0}, "patch", "1 or more"), ({"heads": 5}, "width", "a multiple of 5"), ({"patch": 5}, "image_size", "a multiple of 5"),
    ({"width": 90, "heads": 5}, "width", "a multiple of 4"),
    ({"predictor_heads": 5}, "predictor_width", "a multiple of 5"), ({"batch": 100}, "batch", "a multiple of 128"),
    ({"crop_scale": [0.3]}, "crop_scale", "2 values"),
])  # fmt: skip
def test_an_impossible_protocol_is_named(overrides, field, allowed):
    """A value that no run could use is refused before anything is read, with its run, its field and what is allowed."""
    with pytest.raises(ConfigError, match=rf"^pretrain\.mine\.protocol\.{field}: .*got .*expected {allowed}"):
        from_overrides(Protocol, overrides, "pretrain.mine.protocol")


def test_a_site_filter_takes_that_site_only(phantom_results):
    """The control's data are exactly the images of its site."""
    images = pretrain.Images(phantom_results, [Source("phantom", sites=["A"])])
    index = images._indexes[0]
    assert len(images) == int((index["site"] == "A").sum()) and {index["site"][row] for _, row in images._rows} == {"A"}


def test_world_outside_torchrun_is_alone():
    """Without torchrun there is one process and sums change nothing."""
    with World() as world:
        value = torch.ones(3)
        world.sum([value])
        assert (world.size, world.rank) == (1, 0) and torch.equal(value, torch.ones(3)) and F.mse_loss(value, value) == 0
