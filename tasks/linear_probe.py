"""Task: linear probes on frozen image features, five folds, one head per class.

    python -m tasks.linear_probe --dataset phantom --encoder radjepa --spec '{"labels": ["Cardiomegaly"], "encoder": {}}'

Sigmoid and binary cross-entropy, AdamW with a cosine, 100 epochs of batches of 96 (RadJEPA, section 6.1.2). The patients
outside the test split are dealt to five folds; replicate k trains on four of them, chooses epoch and learning rate by the mean
average precision on fold k, and scores the fixed test split. Blank and uncertain labels carry no loss and no prediction, unless
the protocol's `uncertain` (CheXpert's U-Ones and U-Zeros) or `blank` maps them.

All folds, learning rates and classes are trained together: the heads share each batch's matrix product, a fold is a
0/1 weight per image, and AdamW works on every weight by itself, so each head is what it would be alone
(tests/tasks/test_linear_probe.py holds the two equal). Choices the paper leaves open: docs/decisions/0006-linear-probe.md.
"""

import argparse
import dataclasses
import functools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F

from radbench import artifact, predictions
from radbench.device import acquire
from radbench.errors import ConfigError, DataError, did_you_mean, run_entry_point
from radbench.extract import Frozen
from radbench.progress import Progress
from radbench.protocol import check_fields, from_overrides, reductions
from radbench.splits import FOLDS
from radbench.store import Index

VERSION = 3  # 2: learning curve; 3: every replicate of one of its points has images in its own fold
TASK = "linear_probe"
CLASSES = (("positive", 1), ("negative", 0))
POLICIES = {"uncertain": ("drop", "zero", "one"), "blank": ("drop", "zero")}


@dataclasses.dataclass(frozen=True)
class Protocol:
    """The benchmark's constants. `lrs` holds the paper's 5e-5 and three larger ones, for sets much smaller than VinDr-CXR."""

    lrs: tuple[float, ...] = (5e-5, 5e-4, 5e-3, 5e-2)
    weight_decay: float = 0.0
    epochs: int = 100
    batch: int = 96
    seed: int = 0
    shares: tuple[float, ...] = (0.1, 0.3)  # of the learned patients, for the learning curve beside the full probe
    uncertain: str = "drop"  # or "zero", "one": what a label of -1 counts as, in training and in test
    blank: str = "drop"  # or "zero": what a label that nobody gave counts as

    def __post_init__(self) -> None:
        check_fields(self, "tasks.linear_probe protocol", at_least={"epochs": 1, "batch": 1, "weight_decay": 0, "seed": 0},
                     above_0=("lrs", "shares"), filled=("lrs",))  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Probes:
    """Trained heads: weight (folds, D, classes), bias (folds, classes), for features standardised with mean and sd (D,)."""

    weight: torch.Tensor
    bias: torch.Tensor
    mean: torch.Tensor
    sd: torch.Tensor
    chosen: list[dict]

    def scores(self, features: torch.Tensor) -> torch.Tensor:
        """(N, D) -> probabilities (folds, N, classes)."""
        return torch.sigmoid(torch.einsum("nd,fdc->fnc", (features - self.mean) / self.sd, self.weight) + self.bias[:, None])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--spec", required=True, type=json.loads,
                        help='JSON: {"labels": […], "sites": […], "protocol": {…}, "encoder": {"weights": …, "options": {…}}}')  # fmt: skip
    parser.add_argument("--results", default="results", type=Path)
    arguments = parser.parse_args()
    probe(arguments.dataset, arguments.encoder, arguments.spec, arguments.results)


def probe(dataset: str, encoder: str, spec: Mapping, results: Path = Path("results")) -> artifact.Meta:
    """Write `results/linear_probe/{dataset}/{encoder}`."""
    protocol = from_overrides(Protocol, spec.get("protocol", {}), "tasks.linear_probe.protocol")
    index_meta, features = artifact.read(results / "index" / dataset), artifact.read(results / "features" / encoder / dataset)
    for name, choices in POLICIES.items():
        if getattr(protocol, name) not in choices:
            raise ConfigError(f"tasks.linear_probe.protocol.{name}", "no such policy", got=getattr(protocol, name), expected=choices)
    frozen = Frozen(encoder, spec.get("encoder", {}), results)

    def make(work: Path) -> dict:
        index = Index(results / "index" / dataset)
        values_of = functools.partial(label_values, index, protocol=protocol)
        labels, dropped = usable_labels(index, spec["labels"], tuple(spec.get("sites", ())), values_of)
        if not labels:
            raise artifact.Absent(f"no label has both classes in train and test: {dropped or 'none is configured'}")
        values = torch.from_numpy(np.load(features.file("image.npy")))
        targets = torch.from_numpy(np.stack([values_of(name) for name in labels], axis=1))
        sites = tuple(spec.get("sites", ()))
        learned = torch.from_numpy(np.concatenate([index.rows("train", sites), index.rows("val", sites)]))
        tested = torch.from_numpy(index.rows("test", sites))
        folds = torch.from_numpy(index["fold"].astype(np.int64))
        count = int(folds.max()) + 1

        def scores_of(rows: torch.Tensor, name: str) -> tuple[np.ndarray, Probes]:
            probes = train(values[rows].to(device), targets[rows].to(device), folds[rows].to(device), protocol, name, count)
            return probes.scores(values[tested].to(device)).cpu().numpy(), probes

        with acquire() as device:
            scores, probes = scores_of(learned, f"probe {dataset} {encoder}")
            _write(work / "predictions.parquet", dataset, encoder, index, tested.numpy(), labels, targets[tested].numpy(), scores)
            curve, curve_dropped = {}, {}  # by number of images; by share
            for share in protocol.shares:
                places = some_patients(index["patient_id"][learned.numpy()], folds[learned].numpy(), share, protocol.seed)
                rows = learned[torch.from_numpy(places)]
                lacking = lacking_classes(index, labels, rows.numpy(), values_of)
                if len(rows) in {len(learned), *curve}:
                    lacking = ["as many images as another point"]
                if lacking:
                    curve_dropped[f"{share:g}"] = lacking[0]
                else:
                    curve[len(rows)], _ = scores_of(rows, f"probe {dataset} {encoder}, {share:.0%} of the patients")
            _write_curve(work / "learning_curve.parquet", dataset, encoder, index, tested.numpy(), labels, targets[tested].numpy(),
                         curve)  # fmt: skip
        return frozen.facts() | {
            "measured": features.facts["measured"], "protocol": dataclasses.asdict(protocol), "version": VERSION,
            "reduced": reductions(protocol) + frozen.reductions(), "labels_dropped": dropped, "chosen": probes.chosen,
            "n": {"train": round(len(learned) * (1 - 1 / count)), "test": len(tested)}, "learned": len(learned),
            "replicates": "folds",
            "curve": list(curve), "curve_dropped": curve_dropped,
        }  # fmt: skip

    key_parts = {"version": VERSION, "labels": list(spec["labels"]), "sites": list(spec.get("sites", ())),
                 "protocol": dataclasses.asdict(protocol)}  # fmt: skip
    return predictions.build(TASK, dataset, frozen, results, modules=("tasks.linear_probe",), make=make, key_parts=key_parts,
                             parents=[index_meta, features], publish=("learning_curve.parquet",))  # fmt: skip


def label_values(index: Index, name: str, protocol: Protocol) -> np.ndarray:
    """(N,) float32 of a label: 1 and 0, and -1 and NaN for what the policy leaves out."""
    values = index[f"labels.{name}"].astype(np.float32)
    if protocol.uncertain != "drop":
        values = np.where(values == -1, np.float32(protocol.uncertain == "one"), values)
    return np.nan_to_num(values, nan=0) if protocol.blank == "zero" else values


def usable_labels(
    index: Index, names: Sequence[str], sites: tuple[str, ...], values_of: Callable[[str], np.ndarray]
) -> tuple[list[str], dict[str, str]]:
    """The labels that have positives and negatives both in test and in what is learned from; and why others are dropped.

    None is left where a fold is empty of them: its replicate could not be selected.
    """
    kept, dropped = [], {}
    if unknown := set(sites) - set(index.meta.facts["sites"]):
        raise ConfigError("tasks.linear_probe.sites", f"no site {sorted(unknown)}", got=sorted(index.meta.facts["sites"]))
    learned = np.concatenate([index.rows("train", sites), index.rows("val", sites)])
    for name in names:
        if name not in index.label_names:
            raise ConfigError("tasks.linear_probe.labels", f"no label {name!r} in the index", got=index.label_names,
                              fix=did_you_mean(name, index.label_names))  # fmt: skip
        values = values_of(name)
        lacking = [f"no {word} in test" for word, value in CLASSES if not (values[index.rows("test", sites)] == value).any()]
        lacking += _classes_lacking_outside_a_fold(index, [name], learned, values_of)
        if lacking:
            dropped[name] = lacking[0]
        else:
            kept.append(name)
    if kept and (empty := _empty_folds(index, kept, learned, values_of)):
        return [], dropped | dict.fromkeys(kept, empty[0])
    return kept, dropped


def lacking_classes(index: Index, labels: Sequence[str], learned: np.ndarray, values_of: Callable[[str], np.ndarray]) -> list[str]:
    """What some replicate would lack: an image in its own fold to be selected on, or a class of a label in the rows outside it."""
    return _empty_folds(index, labels, learned, values_of) + _classes_lacking_outside_a_fold(index, labels, learned, values_of)


def _empty_folds(index: Index, labels: Sequence[str], learned: np.ndarray, values_of: Callable[[str], np.ndarray]) -> list[str]:
    known = np.any([np.isin(values_of(name)[learned], (0, 1)) for name in labels], axis=0)
    filled = set(index["fold"][learned][known].tolist())
    return [f"no image with a known label in fold {number}" for number in range(int(index["fold"].max()) + 1) if number not in filled]


def _classes_lacking_outside_a_fold(
    index: Index, labels: Sequence[str], learned: np.ndarray, values_of: Callable[[str], np.ndarray]
) -> list[str]:
    fold = index["fold"][learned]
    parts = {f"train without fold {number}": learned[fold != number] for number in range(int(index["fold"].max()) + 1)}
    return [f"no {word} in {part}" for part, rows in parts.items() for word, value in CLASSES
            for name in labels if not (values_of(name)[rows] == value).any()]  # fmt: skip


def some_patients(patient_ids: np.ndarray, fold: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Places of the images of a share of the patients, at least one of every fold; a larger share contains the smaller ones.

    Patients are taken in a random order, in which the first of each fold comes before all others: where the share would
    hold every fold anyway, that changes nothing.
    """
    patients, first_image = np.unique(patient_ids.astype(str), return_index=True)
    order = np.random.default_rng(seed).permutation(len(patients))
    _, first_of_fold = np.unique(fold[first_image][order], return_index=True)
    order = np.concatenate([order[np.sort(first_of_fold)], np.delete(order, first_of_fold)])
    count = max(len(first_of_fold), round(share * len(patients)))
    return np.flatnonzero(np.isin(patient_ids.astype(str), patients[order[:count]]))


def train(
    features: torch.Tensor, targets: torch.Tensor, fold: torch.Tensor, protocol: Protocol, name: str = "probe", folds: int = FOLDS
) -> Probes:  # fmt: skip
    """Train every fold, learning rate and class together.

    Args:
        features: (N, D) float32.
        targets: (N, C): 1, 0; anything else (uncertain, NaN) carries no loss.
        fold: (N,) numbers 0 … K-1; replicate k learns from fold != k and is selected on fold == k.
        folds: K, also where these images are few.

    Raises:
        DataError: a fold has no known target, so nothing says which of its replicate's heads is the best.
    """
    count, width = features.shape
    classes = targets.shape[1]
    mean, sd = features.mean(dim=0), features.std(dim=0)
    # a dimension that does not vary says nothing; dividing by its rounding error would let it shout at test time
    sd = torch.where(sd > 1e-4 * torch.maximum(mean.abs(), sd.median()), sd, torch.inf)
    inputs = (features - mean) / sd
    known = (targets == 0) | (targets == 1)
    if empty := set(range(folds)) - set(fold[known.any(dim=1)].tolist()):
        raise DataError(name, f"no image with a known label in fold {min(empty)}", got=f"{count} images",
                        expected=f"some in each of {folds} folds", fix="give more patients, or labels known more often")  # fmt: skip
    learned = fold[:, None] != torch.arange(folds, device=fold.device)  # (N, K)
    weights = (learned[:, :, None] & known[:, None, :]).to(features.dtype)  # (N, K, C)
    positives = targets.nan_to_num(0).clamp(0, 1).to(features.dtype)[:, None, :]  # (N, 1, C)

    like = {"device": features.device, "dtype": features.dtype}
    parameters = [(torch.zeros(width, folds * classes, **like, requires_grad=True),
                   torch.zeros(folds * classes, **like, requires_grad=True)) for _ in protocol.lrs]  # fmt: skip
    optimiser = torch.optim.AdamW([{"params": pair, "lr": lr, "base": lr} for pair, lr in zip(parameters, protocol.lrs, strict=True)],
                                  weight_decay=protocol.weight_decay)  # fmt: skip
    generator = torch.Generator().manual_seed(protocol.seed)
    best = torch.full((folds,), -torch.inf)
    chosen = [{} for _ in range(folds)]
    weight = torch.zeros(folds, width, classes, dtype=features.dtype)
    bias = torch.zeros(folds, classes, dtype=features.dtype)
    steps_per_epoch = math.ceil(count / protocol.batch)
    report = Progress(name, protocol.epochs, "epochs")
    for epoch in range(protocol.epochs):
        order = torch.randperm(count, generator=generator).to(features.device)
        for number in range(steps_per_epoch):
            share = (epoch * steps_per_epoch + number) / (protocol.epochs * steps_per_epoch)
            for group in optimiser.param_groups:
                group["lr"] = group["base"] * 0.5 * (1 + math.cos(math.pi * share))
            rows = order[number * protocol.batch : (number + 1) * protocol.batch]
            batch_weights, batch_targets = weights[rows], positives[rows].expand(-1, folds, -1)
            scale = batch_weights / batch_weights.sum(dim=0).clamp_min(1.0)  # mean over the images that count for a head
            loss = 0.0
            for matrix, offset in parameters:
                logits = (inputs[rows] @ matrix + offset).unflatten(1, (folds, classes))
                loss = loss + (F.binary_cross_entropy_with_logits(logits, batch_targets, reduction="none") * scale).sum()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
        with torch.no_grad():
            for number, (matrix, offset) in enumerate(parameters):
                logits = (inputs @ matrix + offset).unflatten(1, (folds, classes))
                for replicate in range(folds):
                    held = fold == replicate
                    value = selection_score(targets[held].cpu().numpy(), logits[held, replicate].cpu().numpy())
                    if value > best[replicate]:
                        best[replicate] = value
                        weight[replicate] = matrix.unflatten(1, (folds, classes))[:, replicate].cpu()
                        bias[replicate] = offset.unflatten(0, (folds, classes))[replicate].cpu()
                        chosen[replicate] = {"epoch": epoch + 1, "lr": protocol.lrs[number], "score": round(value, 4)}
        report.add()
    device = features.device
    return Probes(weight.to(device), bias.to(device), mean, sd, chosen)


def selection_score(targets: np.ndarray, logits: np.ndarray) -> float:
    """Mean average precision of the held-out fold; where none of its classes has a positive, minus its cross-entropy."""
    value = mean_average_precision(targets, logits)
    if not math.isnan(value):
        return value
    known = (targets == 0) | (targets == 1)
    return -float(np.mean(np.logaddexp(0.0, logits[known]) - targets[known] * logits[known]))


def mean_average_precision(targets: np.ndarray, scores: np.ndarray) -> float:
    """Mean over classes of the step-wise average precision; classes without positives are left out, NaN when all are.

    targets (N, C) with 1 and 0 known, anything else unknown; scores (N, C).
    """
    values = []
    for target, score in zip(targets.T, scores.T, strict=True):
        known = (target == 0) | (target == 1)
        target, score = target[known], score[known]
        if not (target == 1).any():
            continue
        order = np.argsort(-score, kind="stable")
        hits = np.cumsum(target[order])
        last = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)  # last place of each group of ties
        precision, recall = hits[last] / (last + 1), hits[last] / hits[-1]
        values.append(float(np.sum(np.diff(recall, prepend=0.0) * precision)))
    return float(np.mean(values)) if values else math.nan


def _write(path: Path, dataset: str, encoder: str, index: Index, rows: np.ndarray, labels: list[str], targets: np.ndarray,
           scores: np.ndarray, **more) -> None:  # fmt: skip
    """scores (folds, N, C); one row per replicate x image x label whose target is known."""
    known = (targets == 0) | (targets == 1)
    replicate, image, label = np.nonzero(np.broadcast_to(known, (len(scores), *known.shape)))
    predictions.write(path, TASK, {
        "dataset": dataset, "task": TASK, "encoder": encoder, "replicate": replicate,
        **{name: values[image] for name, values in predictions.identity(index, rows).items()},
        "label": np.array(labels, dtype=object)[label], "target": targets[image, label], "score": scores[replicate, image, label],
        **more,
    })  # fmt: skip


def _write_curve(path: Path, dataset: str, encoder: str, index: Index, rows: np.ndarray, labels: list[str], targets: np.ndarray,
                 curve: Mapping[int, np.ndarray]) -> None:  # fmt: skip
    """The predictions of the probes that learned from fewer patients, with the number of images they had."""
    _write(path, dataset, encoder, index, rows[:0], labels, targets[:0], np.zeros((0, 0, len(labels))), train_images=0)
    parts = [pq.read_table(path)]
    for count, scores in curve.items():
        _write(path, dataset, encoder, index, rows, labels, targets, scores, train_images=count)
        parts.append(pq.read_table(path))
    pq.write_table(pa.concat_tables(parts), path)


if __name__ == "__main__":
    run_entry_point(main)
