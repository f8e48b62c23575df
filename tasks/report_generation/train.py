"""Stage: train projector and language model on the reports of one data set, over the frozen patch features of one encoder.

python -m tasks.report_generation.train --dataset phantom --encoder radjepa --spec '{"protocol": {"language_model": "tiny"}}'
"""

import argparse
import dataclasses
import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from radbench import artifact
from radbench.device import acquire, arithmetic, autocast, gone_on
from radbench.errors import DataError, run_entry_point
from radbench.extract import Frozen, Maps, forward, measure
from radbench.progress import Progress
from radbench.protocol import from_overrides, reductions
from radbench.store import Index

from .model import Protocol, Reporter, build, save, weights_fingerprint
from .text import normalise

VERSION = 1
MICRO_BATCH = int(os.environ.get("RADBENCH_MICRO_BATCH", "16"))  # images per forward pass: changes memory, not the mean over a batch
CHECKPOINT_SECONDS = 60  # between two checkpoints at least, and
CHECKPOINT_SHARE = 20  # times as long as the last one took to write


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--spec", required=True, type=json.loads, help='JSON: {"protocol": {…}, "encoder": {…}}')
    parser.add_argument("--results", default="results", type=Path)
    arguments = parser.parse_args()
    train_reporter(arguments.dataset, arguments.encoder, arguments.spec, arguments.results)


def train_reporter(dataset: str, encoder_name: str, spec: Mapping, results: Path = Path("results")) -> artifact.Meta:
    """Write `results/report_model/{dataset}/{encoder}`."""
    protocol = from_overrides(Protocol, spec.get("protocol", {}), "tasks.report_generation.protocol")
    index_meta = artifact.read(results / "index" / dataset)
    frozen = Frozen(encoder_name, spec.get("encoder", {}), results)

    def make(work: Path) -> dict:
        frozen.require()
        index = Index(results / "index" / dataset)
        rows = index.rows("train", report=True)
        if len(rows) < 2:
            raise artifact.Absent(f"{len(rows)} training images with a report; at least 2 are needed")
        reports = [normalise(text) for text in index["report"][rows]]
        name = f"reports {dataset} {encoder_name}"
        with acquire() as device:
            encoder = frozen.load(device)
            width = next(forward(encoder, index, rows[:1], device, "patches")).shape[-1]
            reporter = build(protocol, width, reports, device)  # a language model that is not here is a gap before any image is encoded
            maps = Maps(encoder, index, rows, device, "patches", name=f"{name} patches")
            fitted = fit(reporter, maps, reports, protocol, device, name, work / "checkpoint.pt")
            save(reporter, work, width, protocol)
            (work / "checkpoint.pt").unlink(missing_ok=True)
            measured = measure(encoder, device)
        parameters = sum(value.numel() for value in reporter.parameters())
        reduced = reductions(protocol) + frozen.reductions()
        return frozen.facts() | {"measured": measured, "protocol": dataclasses.asdict(protocol), "version": VERSION, "reduced": reduced,
                                 "parameters": parameters, "n": {"train": len(rows)}} | fitted  # fmt: skip

    parts = {"version": VERSION, "protocol": dataclasses.asdict(protocol), "language_model": weights_fingerprint(protocol)}
    return artifact.build(results / "report_model" / dataset / encoder_name, kind="report_model", parents=[index_meta, *frozen.parents],
                          key_parts=frozen.key_parts("tasks.report_generation.train") | parts, make=make,
                          absent_facts=frozen.facts(), resumable=True)  # fmt: skip


def fit(
    reporter: Reporter, maps: Maps, reports: list[str], protocol: Protocol, device: str, name: str, checkpoint: Path | None = None
) -> dict[str, list]:
    """Train projector and language model together, going on from `checkpoint` when it exists.

    Returns the facts of the training: `losses`, the mean token loss of each epoch, and `arithmetic`, what it was computed with.
    """
    trained = [value for value in reporter.parameters() if value.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=protocol.lr, weight_decay=0.0, fused=True)
    count, batch = len(reports), min(protocol.batch, len(reports))
    steps_per_epoch = max(1, count // batch)
    steps, random = protocol.epochs * steps_per_epoch, np.random.default_rng(protocol.seed)
    orders = [random.permutation(count) for _ in range(protocol.epochs)]
    first, losses, total, words, computed = 0, [], 0.0, 0, []
    if checkpoint and checkpoint.exists():
        saved = torch.load(checkpoint, map_location=device, weights_only=True)
        first, losses, total, words = saved["step"], list(saved["losses"]), saved["total"], saved["words"]
        computed = saved["arithmetic"]
        reporter.load_state_dict(saved["reporter"]), optimiser.load_state_dict(saved["optimiser"])
        del saved
    computed = gone_on(name, computed, arithmetic(device, training=True))
    report = Progress(name, steps * batch, "images", first * batch)
    saved_at, wait = time.monotonic(), CHECKPOINT_SECONDS
    reporter.train()
    for step in range(first, steps):
        epoch, number = divmod(step, steps_per_epoch)
        warmup = max(1.0, protocol.warmup_share * steps)
        share = step / warmup if step < warmup else 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1.0, steps - warmup)))
        optimiser.param_groups[0]["lr"] = protocol.lr * share
        places = orders[epoch][number * batch : (number + 1) * batch]
        tokens = 0
        for start in range(0, len(places), MICRO_BATCH):
            part = places[start : start + MICRO_BATCH]
            with autocast(device):
                loss, known = reporter.loss(maps[part][0], [reports[place] for place in part])
            if not math.isfinite(float(loss.detach())):
                raise DataError(name, f"the loss is {float(loss.detach())} at step {step + 1} of {steps}", got=f"lr {protocol.lr:g}",
                                fix="lower lr in the protocol of tasks.report_generation")  # fmt: skip
            loss.backward()
            total, words, tokens = total + float(loss.detach()), words + known, tokens + known
        for value in trained:  # the sum over the batch becomes the mean over its tokens
            if value.grad is not None:
                value.grad.div_(tokens)
        torch.nn.utils.clip_grad_norm_(trained, 1.0)  # Hugging Face's trainer, which LLaVA uses, clips at 1
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        report.add(len(places), f"loss {total / words:.3f}")
        if number == steps_per_epoch - 1:
            losses.append(round(total / words, 5))
            total, words = 0.0, 0
        if checkpoint and time.monotonic() - saved_at >= wait and step + 1 < steps:
            started = time.monotonic()
            with artifact.replacing(checkpoint) as handle:
                torch.save({"step": step + 1, "losses": losses, "total": total, "words": words,
                            "arithmetic": computed, "reporter": reporter.state_dict(),
                            "optimiser": optimiser.state_dict()}, handle)  # fmt: skip
            saved_at = time.monotonic()
            wait = max(CHECKPOINT_SECONDS, CHECKPOINT_SHARE * (saved_at - started))
    reporter.eval()
    return {"losses": losses, "arithmetic": computed}


if __name__ == "__main__":
    run_entry_point(main)
