"""Probes trained together are the probes trained one by one."""

import itertools
import math
import types

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score

from radbench import extract
from radbench.errors import ConfigError, DataError
from radbench.protocol import from_overrides
from tasks import linear_probe
from tasks.linear_probe import Protocol, mean_average_precision, probe, some_patients, train

QUICK = Protocol(lrs=(1e-3, 1e-2), epochs=6, batch=32)


def toy(count=300, width=10, seed=0):
    random = np.random.default_rng(seed)
    features = random.normal(size=(count, width)).astype(np.float32)
    logits = features @ random.normal(size=(width, 3)) - 1
    targets = (random.random((count, 3)) < 1 / (1 + np.exp(-logits))).astype(np.float32)
    return torch.from_numpy(features), torch.from_numpy(targets), torch.from_numpy(np.arange(count) % 5)


def one_probe(features, targets, fold, replicate, label, lr, protocol, epochs):
    """The plain loop: one head, one fold, one learning rate, torch's AdamW, the same batches."""
    inputs = (features - features.mean(0)) / features.std(0)
    head = torch.nn.Linear(features.shape[1], 1, dtype=features.dtype)
    torch.nn.init.zeros_(head.weight), torch.nn.init.zeros_(head.bias)
    optimiser = torch.optim.AdamW(head.parameters(), lr=lr, weight_decay=protocol.weight_decay)
    generator = torch.Generator().manual_seed(protocol.seed)
    steps = math.ceil(len(features) / protocol.batch)
    for epoch in range(epochs):
        order = torch.randperm(len(features), generator=generator)
        for number in range(steps):
            optimiser.param_groups[0]["lr"] = lr * 0.5 * (1 + math.cos(math.pi * (epoch * steps + number) / (protocol.epochs * steps)))
            rows = order[number * protocol.batch : (number + 1) * protocol.batch]
            rows = rows[(fold[rows] != replicate) & ((targets[rows, label] == 0) | (targets[rows, label] == 1))]
            loss = torch.nn.functional.binary_cross_entropy_with_logits(head(inputs[rows])[:, 0], targets[rows, label])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return head


def test_trained_together_equals_trained_alone():
    """Each chosen head equals the plain loop's head of that fold, class, learning rate and epoch, blanks included."""
    features, targets, fold = toy()
    features, targets = features.double(), targets.double()
    targets[::7, 1] = float("nan")
    targets[::11, 2] = -1
    probes = train(features, targets, fold, QUICK)
    for replicate in (0, 3):
        chosen = probes.chosen[replicate]
        for label in range(3):
            head = one_probe(features, targets, fold, replicate, label, chosen["lr"], QUICK, chosen["epoch"])
            torch.testing.assert_close(probes.weight[replicate, :, label], head.weight[0].detach(), atol=1e-9, rtol=1e-6)
            torch.testing.assert_close(probes.bias[replicate, label], head.bias[0].detach(), atol=1e-9, rtol=1e-6)


def test_average_precision_is_scikit_learns():
    """The selection metric equals scikit-learn's average precision, with ties, constants and blanks."""
    random = np.random.default_rng(0)
    for _ in range(50):
        target = (random.random(60) < 0.2).astype(float)
        target[0] = 1
        score = np.round(random.random(60), random.integers(0, 3))
        target_with_blank = np.append(target, [np.nan, -1.0])
        wanted = average_precision_score(target, score)
        assert mean_average_precision(target_with_blank[:, None], np.append(score, [9.0, 9.0])[:, None]) == pytest.approx(wanted, abs=1e-12)
    assert math.isnan(mean_average_precision(np.zeros((5, 1)), np.ones((5, 1))))


def test_long_training_reaches_logistic_regression():
    """With enough epochs the probe ranks as scikit-learn's unpenalised logistic regression (AUROC within 0.01)."""
    features, targets, fold = toy(1500, 6)
    probes = train(features[:1000], targets[:1000], fold[:1000], Protocol(epochs=60))
    scores = probes.scores(features[1000:]).mean(0).numpy()
    for label in range(3):
        oracle = LogisticRegression(C=1e6).fit(features[:1000], targets[:1000, label]).predict_proba(features[1000:])[:, 1]
        assert roc_auc_score(targets[1000:, label], scores[:, label]) == pytest.approx(
            roc_auc_score(targets[1000:, label], oracle), abs=0.01
        )


def test_shuffled_labels_give_chance():
    """With labels shuffled, test AUROC is within sampling error of one half: nothing leaks from the held-out part."""
    features, targets, fold = toy(1200, 20)
    shuffled = targets[torch.randperm(len(targets), generator=torch.Generator().manual_seed(0))]
    probes = train(features[:800], shuffled[:800], fold[:800], QUICK)
    scores = probes.scores(features[800:]).mean(0).numpy()
    values = [roc_auc_score(shuffled[800:, label], scores[:, label]) for label in range(3)]
    assert np.mean(values) == pytest.approx(0.5, abs=0.06)


def test_the_held_out_fold_is_not_learned_from():
    """Changing the labels of fold 2 does not move replicate 2's weights at a given epoch and learning rate."""
    features, targets, fold = toy()
    protocol = Protocol(lrs=(1e-2,), epochs=1, batch=64)
    changed = targets.clone()
    changed[fold == 2] = 1 - changed[fold == 2]
    one, two = train(features, targets, fold, protocol), train(features, changed, fold, protocol)
    assert torch.equal(one.weight[2], two.weight[2]) and not torch.equal(one.weight[1], two.weight[1])


def test_a_fold_without_positives_still_gets_a_trained_head():
    """Where the held-out fold has no positive, its replicate is chosen by cross-entropy and is as good as the others."""
    features, targets, _ = toy(600, 5)
    targets = targets[:, :1]
    fold = torch.where(targets[:, 0] == 1, torch.arange(600) % 4, torch.arange(600) % 5)
    probes = train(features, targets, fold, Protocol(lrs=(1e-3, 1e-2), epochs=10))
    values = [roc_auc_score(targets[:, 0], scores[:, 0]) for scores in probes.scores(features).numpy()]
    assert (targets[fold == 4] == 1).sum() == 0 and values[4] > min(values[:4]) - 0.02


def test_a_constant_feature_stays_silent():
    """A dimension that never varied in training changes no score, whatever value it has at test time."""
    features, targets, fold = toy()
    features = torch.cat([features, torch.full((len(features), 1), 0.3019608)], dim=1)
    probes = train(features, targets, fold, QUICK)
    moved = features.clone()
    moved[:, -1] = -5
    assert torch.equal(probes.scores(features), probes.scores(moved))


def test_learning_curve_uses_nested_patients_and_the_same_test(phantom_results):
    """Smaller training sets are parts of larger ones, patient by patient, and every point scores the same test images five times."""
    patients = np.array([f"p{k // 3}" for k in range(90)], dtype=object)
    small, large = (some_patients(patients, np.arange(90) // 3 % 5, share, seed=0) for share in (0.2, 0.5))
    assert set(small) < set(large) and len(small) == 18 and set(patients[small]) & set(np.delete(patients, small)) == set()
    extract.extract("raw_pixels", "phantom", {}, phantom_results)
    spec = {"labels": ["Cardiomegaly"], "protocol": {"epochs": 2, "shares": [0.1, 0.101, 0.8, 0.999]}}
    meta = probe("phantom", "raw_pixels", spec, phantom_results)
    curve, full = (pd.read_parquet(meta.file(name)) for name in ("learning_curve.parquet", "predictions.parquet"))
    for _, point in curve.groupby("train_images"):
        assert set(point.image_id) == set(full.image_id) and set(point.replicate) == set(range(5)) and len(point) == len(full)
    assert list(curve.train_images.unique()) == meta.facts["curve"] and all(n < meta.facts["learned"] for n in meta.facts["curve"])
    assert len(meta.facts["curve"]) + len(meta.facts["curve_dropped"]) == 4
    assert meta.facts["curve_dropped"]["0.999"] == "as many images as another point" and "0.8" not in meta.facts["curve_dropped"]


@pytest.mark.parametrize("count", [7, 20, 80])
def test_a_share_of_the_patients_has_some_of_every_fold(count):
    """However small the share, every fold keeps a patient; the draws are nested; a plain draw that has every fold is kept as it is."""
    patients, shares = np.array([f"p{k:02}" for k in range(count)]), np.linspace(0.01, 1, 30)
    for seed in range(20):
        fold = np.random.default_rng([seed, 1]).permutation(count) % 5
        draws = [set(some_patients(patients, fold, share, seed)) for share in shares]
        assert all(small <= large for small, large in itertools.pairwise(draws)) and len(draws[-1]) == count
        order = np.random.default_rng(seed).permutation(count)
        for share, draw in zip(shares, draws, strict=True):
            plain = order[: round(share * count)]
            assert set(fold[list(draw)]) == set(range(5)) and len(draw) == max(5, len(plain))
            assert draw == set(plain) or len(set(fold[plain])) < 5


@pytest.mark.parametrize("blank", [False, True])
@pytest.mark.parametrize("number", [2, 4])
def test_a_replicate_without_a_known_label_in_its_fold_is_refused(number, blank):
    """A fold that is empty, or holds blanks alone, is named wherever it is met: nothing says which head of its replicate is the best."""
    features, targets, fold = toy(60)
    if blank:
        targets[fold == number] = float("nan")
    else:
        fold[fold == number] = 1

    class Index(dict):
        label_names, meta = ["x", "y"], types.SimpleNamespace(facts={"sites": []})

        def rows(self, split, sites):
            return np.arange(60) if split == "test" else np.arange(60 * (split == "train"))

    index = Index(fold=np.append(fold.numpy(), 4))
    values_of = {"x": targets[:, 0].numpy(), "y": targets[:, 1].numpy()}.__getitem__
    said = f"no image with a known label in fold {number}"
    assert linear_probe.lacking_classes(index, ["x", "y"], np.arange(60), values_of) == [said]
    assert linear_probe.usable_labels(index, ["x", "y"], (), values_of) == ([], {"x": said, "y": said})
    with pytest.raises(DataError, match=f"probe: {said}; got 60 images"):
        train(features, targets, fold, QUICK)


def test_a_label_that_one_fold_does_not_know_is_kept_beside_one_that_it_knows():
    """The fold's replicate is selected on the labels that it knows, as before."""
    features, targets, fold = toy(60)
    targets[fold == 2, 0] = float("nan")
    values_of = {"x": targets[:, 0].numpy(), "y": targets[:, 1].numpy()}.__getitem__
    assert not linear_probe.lacking_classes({"fold": fold.numpy()}, ["x", "y"], np.arange(60), values_of)
    assert len(train(features, targets[:, :2], fold, QUICK).chosen[2]) == 3


@pytest.mark.parametrize("uncertain,blank", itertools.product(*linear_probe.POLICIES.values()))
def test_a_policy_maps_uncertain_and_blank_labels(uncertain, blank):
    """-1 becomes nothing, 0 or 1 and a blank nothing or 0, as the protocol says; 1 and 0 stay."""
    protocol = Protocol(uncertain=uncertain, blank=blank)
    found = linear_probe.label_values({"labels.x": np.array([1, 0, -1, np.nan], dtype=np.float32)}, "x", protocol)
    wanted = [1, 0, {"drop": -1, "zero": 0, "one": 1}[uncertain], {"drop": np.nan, "zero": 0}[blank]]
    np.testing.assert_array_equal(found, np.array(wanted, dtype=np.float32))


def test_an_unknown_policy_is_refused(phantom_results):
    """A policy that does not exist is named with those that do."""
    with pytest.raises(ConfigError, match="protocol.uncertain.*drop.*zero.*one"):
        probe("phantom", "raw_pixels", {"labels": ["Cardiomegaly"], "protocol": {"uncertain": "ones"}}, phantom_results)


@pytest.mark.parametrize(("overrides", "allowed"), [({"batch": 0}, "1 or more"), ({"epochs": 0}, "1 or more"), ({"lrs": []}, "one or more"),
                                                   ({"lrs": [1e-3, 0.0]}, "more than 0"), ({"shares": [0.0]}, "more than 0")])  # fmt: skip
def test_an_impossible_protocol_is_named(overrides, allowed):
    """A protocol that would train nothing is refused with its place, what was got and what is allowed."""
    with pytest.raises(ConfigError, match=rf"^tasks\.linear_probe\.protocol\.{next(iter(overrides))}: .*got .*expected {allowed}"):
        from_overrides(Protocol, overrides, "tasks.linear_probe.protocol")
