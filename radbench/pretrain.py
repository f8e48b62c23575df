"""Stage: pretrain an encoder with I-JEPA on unlabelled images.

    python -m radbench.pretrain --name radjepa --spec '{"data": [{"dataset": "phantom_unlabelled"}], "protocol": {...}}'
    torchrun --nproc-per-node 4 -m radbench.pretrain --name radjepa --spec …

The loop reads top to bottom in `train`. A step is `batch / mask_group` groups; each group has its own masks and is a
forward and backward pass by itself, so the device's memory bounds the group, not the batch, and the number of processes
changes nothing but the order of sums. Every random draw is a function of (seed, step, group): a killed run goes on from
its last checkpoint and ends with the weights of an undisturbed one.

Sources: Assran et al., "Self-Supervised Learning from Images with a Joint-Embedding Predictive Architecture", CVPR 2023;
facebookresearch/ijepa (smooth L1 on layer-normalised targets, schedules). Differences: docs/decisions/0004 and 0005.
"""

import argparse
import csv
import dataclasses
import json
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file

from . import artifact
from .device import acquire, arithmetic, autocast, gone_on, precision
from .errors import DataError, run_entry_point
from .jepa.masks import MaskProtocol, draw_masks
from .jepa.predictor import Predictor
from .jepa.vit import ViTShape, build_vit, encode_tokens, gather_tokens
from .parallel import in_parallel, worker_count
from .progress import Progress
from .protocol import check_fields, from_overrides, reductions
from .store import Index

VERSION = 1
STATISTICS_IMAGES = 2000  # images that mean and SD of the pixels are taken from
CHECKPOINT_SECONDS = 60


@dataclasses.dataclass(frozen=True)
class Protocol:
    """The RadJEPA recipe: ViT-B/14 at 224, I-JEPA's schedules. Rates and decays are per I-JEPA's in1k configuration."""

    image_size: int = 224
    patch: int = 14
    width: int = 768
    depth: int = 12
    heads: int = 12
    predictor_width: int = 384
    predictor_depth: int = 12
    predictor_heads: int = 12
    batch: int = 2048
    mask_group: int = 128  # images that share block sizes and are cut to one context length
    epochs: float = 300
    warmup_epochs: float = 40
    lr_start: float = 2e-4
    lr: float = 1e-3
    lr_end: float = 1e-6
    weight_decay: float = 0.04
    weight_decay_end: float = 0.4
    ema: float = 0.996  # rises linearly to 1
    crop_scale: tuple[float, float] = (0.3, 1.0)
    crop_aspect: tuple[float, float] = (3 / 4, 4 / 3)
    seed: int = 0

    def __post_init__(self) -> None:
        sizes = ("image_size", "patch", "width", "depth", "heads", "predictor_width", "predictor_depth", "predictor_heads", "batch")
        check_fields(self, "pretrain protocol", at_least=dict.fromkeys([*sizes, "mask_group"], 1) | {"warmup_epochs": 0, "seed": 0},
                     above_0=("epochs", "lr", "crop_scale", "crop_aspect"),
                     multiple_of={"batch": "mask_group", "image_size": "patch", "width": ("heads", 4),
                                  "predictor_width": ("predictor_heads", 4)})  # fmt: skip

    @property
    def shape(self) -> ViTShape:
        return ViTShape(self.image_size, self.patch, self.width, self.depth, self.heads)


@dataclasses.dataclass(frozen=True)
class Source:
    """A part of a data set: some splits (all when null) of some sites (all when empty)."""

    dataset: str
    splits: Sequence[str] | None = None
    sites: Sequence[str] = ()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--name", required=True, help="the run, as in pretrain.<name> of the configuration")
    parser.add_argument("--spec", required=True, type=json.loads, help='JSON: {"data": [Source, …], "protocol": {…}}')
    parser.add_argument("--results", default="results", type=Path)
    arguments = parser.parse_args()
    sources = [Source(**source) for source in arguments.spec["data"]]
    protocol = from_overrides(Protocol, arguments.spec.get("protocol", {}), f"pretrain.{arguments.name}.protocol")
    pretrain(arguments.name, sources, protocol, arguments.results)


def pretrain(run: str, sources: Sequence[Source], protocol: Protocol, results: Path = Path("results")) -> artifact.Meta:
    """Pretrain `run` into `results/pretrain/{run}`, or find it there under the same content key."""
    parents = [artifact.read(results / "index" / source.dataset) for source in sources]
    parts = {"protocol": dataclasses.asdict(protocol), "version": VERSION, "data": [dataclasses.asdict(s) for s in sources],
             "source": artifact.source_hash("radbench.pretrain")}  # fmt: skip
    with World() as world:

        def make(work: Path) -> dict:
            images = Images(results, sources)
            if len(images) < protocol.batch:
                raise artifact.Absent(f"pretraining {run}: {len(images)} images are less than one batch of {protocol.batch}; "
                                      "add images, or lower batch and mask_group in the configuration")  # fmt: skip
            with acquire() as device:
                world.tell(True)
                return train(work, run, images, protocol, device, world)

        if world.rank == 0:  # the first process alone reads and writes artefacts; the others lend their arithmetic
            artifact.build(results / "pretrain" / run, kind="pretrain", key_parts=parts, make=make, parents=parents,
                           publish=("log.csv",), make_absent=lambda work: (work / "log.csv").write_text(""),
                           resumable=True)  # fmt: skip
            world.tell(False)
        elif world.hear():
            with acquire() as device:
                train(None, run, Images(results, sources), protocol, device, world)
            world.hear()
        return artifact.read(results / "pretrain" / run)


# ---------------------------------------------------------------- training


def train(work: Path | None, run: str, images: "Images", protocol: Protocol, device: str, world: "World") -> dict:
    """Train to the end, going on from `work/checkpoint.pt` when there is one; write weights and log; return the facts."""
    steps_per_epoch = len(images) // protocol.batch
    steps = max(1, round(steps_per_epoch * protocol.epochs))
    mean, std = images.statistics()

    encoder, target = build_vit(protocol.shape, protocol.seed), build_vit(protocol.shape, protocol.seed)
    predictor = Predictor(protocol.width, protocol.shape.grid, protocol.predictor_width, protocol.predictor_depth,
                          protocol.predictor_heads, protocol.seed + 1)  # fmt: skip
    initial = {name: value.clone() for name, value in encoder.state_dict().items()}
    encoder, target, predictor = encoder.to(device), target.to(device).requires_grad_(False), predictor.to(device)
    trained = [value for module in (encoder, predictor) for value in module.parameters() if value.requires_grad]
    optimiser = torch.optim.AdamW([
        {"params": [value for value in trained if value.ndim > 1]},
        {"params": [value for value in trained if value.ndim <= 1], "weight_decay": 0.0},
    ], lr=protocol.lr, fused=True)  # fmt: skip

    log, step, computed = [], 0, []
    checkpoint = work / "checkpoint.pt" if work else None
    if checkpoint and checkpoint.exists():
        saved = torch.load(checkpoint, map_location=device, weights_only=True)
        step, log, computed = saved["step"], [dict(row) for row in saved["log"]], saved["arithmetic"]
        encoder.load_state_dict(saved["encoder"]), target.load_state_dict(saved["target"])
        predictor.load_state_dict(saved["predictor"]), optimiser.load_state_dict(saved["optimiser"])
        del saved  # weights on the device a second time
    step = world.agree(step, (encoder, target, predictor), optimiser)
    computed = gone_on(f"pretrain {run}", computed, arithmetic(device, training=True) | {"processes": world.size})

    groups = protocol.batch // protocol.mask_group
    log_every = max(1, steps // 200)
    report, saved_at = Progress(f"pretrain {run}", steps * protocol.batch, "images", step * protocol.batch), time.monotonic()
    mine = ((future, number) for future in range(step, steps) for number in range(world.rank, groups, world.size))

    def prepare(place: tuple[int, int]) -> tuple[torch.Tensor, ...]:
        random = np.random.default_rng([protocol.seed, 3, *place])
        rows = images.batch_rows(place[0], protocol)[place[1] * protocol.mask_group : (place[1] + 1) * protocol.mask_group]
        pixels = (images.crops(rows, protocol, random) - mean) / std
        return pixels, *(torch.from_numpy(part) for part in draw_masks(len(rows), protocol.shape.grid, MaskProtocol(), random))

    prepared = in_parallel(prepare, mine, worker_count(device))
    while step < steps:
        rate, decay, momentum = schedules(step, steps, protocol.warmup_epochs / protocol.epochs, protocol)
        optimiser.param_groups[0]["weight_decay"] = decay
        for group in optimiser.param_groups:
            group["lr"] = rate
        logged = (step + 1) % log_every == 0 or step + 1 in (1, steps)
        total, pooled = torch.zeros((), device=device), []
        if logged:  # each process fills in its own groups, the sum is the batch
            pooled = [torch.zeros(protocol.batch, protocol.width, device=device)]
        for number in range(world.rank, groups, world.size):
            pixels, keep, targets = (part.to(device, non_blocking=True) for part in next(prepared))
            with autocast(device):
                loss, features = jepa_loss(encoder, target, predictor, pixels, keep, targets)
            (loss / groups).backward()
            total = total + loss.detach() / groups
            for whole in pooled:
                whole[number * protocol.mask_group : (number + 1) * protocol.mask_group] = features
        for value in trained:  # a process without a group adds nothing
            value.grad = torch.zeros_like(value) if value.grad is None else value.grad
        world.sum([value.grad for value in trained] + [total] + pooled)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        with torch.no_grad():
            ours, theirs = list(encoder.parameters()), list(target.parameters())
            torch._foreach_lerp_(theirs, ours, 1.0 - momentum)
        step += 1
        report.add(protocol.batch, f"loss {float(total):.4f}" if work else "")
        if not math.isfinite(float(total)):
            raise DataError(f"pretrain {run}", f"the loss is {float(total)} at step {step}", fix="lower pretrain protocol.lr")
        if work and logged:
            log.append({"step": step, "epoch": round(step / steps_per_epoch, 3), "loss": float(total), "lr": rate,
                        "weight_decay": decay, "ema": momentum, **collapse_measures(*pooled)})  # fmt: skip
        if checkpoint and (time.monotonic() - saved_at > CHECKPOINT_SECONDS) and step < steps:
            saved_at = time.monotonic()
            _save_checkpoint(checkpoint, step, log, computed, encoder, target, predictor, optimiser)

    if work is None:
        return {}
    _write_run(work, protocol, {"encoder": target, "context": encoder}, initial, log, (mean, std), images.names)
    if checkpoint.exists():
        checkpoint.unlink()
    return {"images": len(images), "steps": steps, "epochs": protocol.epochs, "reduced": reductions(protocol),
            "protocol": dataclasses.asdict(protocol), "version": VERSION, "precision": precision(device),
            "pretrained_on": images.names, "processes": world.size, "arithmetic": computed, "final": log[-1]}  # fmt: skip


def jepa_loss(encoder, target, predictor, pixels, keep, targets) -> tuple[torch.Tensor, torch.Tensor]:
    """Smooth L1 between predicted and layer-normalised target tokens; and the pooled target features (B, C), detached.

    pixels (B, 3, h, w); keep (B, K) context patches; targets (B, M, T) target patches.
    """
    with torch.no_grad():
        tokens = encode_tokens(target, pixels)
        wanted = F.layer_norm(tokens, tokens.shape[-1:])
        wanted = gather_tokens(wanted, targets.flatten(1)).unflatten(1, targets.shape[1:])
    predicted = predictor(encode_tokens(encoder, pixels, keep), keep, targets)
    return F.smooth_l1_loss(predicted.float(), wanted.float()), tokens.float().mean(dim=1)


def schedules(step: int, steps: int, warmup_share: float, protocol: Protocol) -> tuple[float, float, float]:
    """Learning rate (linear warm-up, then cosine), weight decay (cosine) and EMA momentum (linear to 1) of a step."""
    warmup = warmup_share * steps
    if step < warmup:
        rate = protocol.lr_start + (protocol.lr - protocol.lr_start) * step / warmup
    else:
        rate = cosine(protocol.lr, protocol.lr_end, (step - warmup) / max(1.0, steps - warmup))
    return rate, cosine(protocol.weight_decay, protocol.weight_decay_end, step / steps), protocol.ema + (1 - protocol.ema) * step / steps


def cosine(start: float, end: float, share: float) -> float:
    """Half a cosine from `start` (share 0) to `end` (share 1)."""
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))


def collapse_measures(pooled: torch.Tensor) -> dict[str, float]:
    """Signs of collapse in pooled features (B, C): each falls to zero (rank to 1, cosine to 1) when all images look alike.

    feature_sd: mean over channels of the SD over images. feature_rank: exp of the entropy of the normalised singular
    values (RankMe, Garrido et al., 2023) of the centred features, at most min(B - 1, C). feature_cosine: mean cosine
    between the features of different images as they are, not centred.
    """
    pooled = pooled.detach().cpu().double()
    singular = torch.linalg.svdvals(pooled - pooled.mean(dim=0))
    share = singular / singular.sum().clamp_min(1e-12)
    unit = F.normalize(pooled, dim=1)
    cosines = unit @ unit.T
    count = len(pooled)
    return {
        "feature_sd": float(pooled.std(dim=0).mean()),
        "feature_rank": float(torch.exp(-(share * (share + 1e-12).log()).sum())),
        "feature_cosine": float((cosines.sum() - cosines.trace()) / max(1, count * (count - 1))),
    }


# ---------------------------------------------------------------- images


class Images:
    """The pretraining images of several indexes as one list."""

    def __init__(self, results: Path, sources: Sequence[Source]):
        self._indexes = [Index(results / "index" / source.dataset) for source in sources]
        self._rows: list[tuple[int, int]] = []
        for number, (index, source) in enumerate(zip(self._indexes, sources, strict=True)):
            rows = index.rows(None, tuple(source.sites))
            if source.splits is not None:
                rows = rows[np.isin(index["split"][rows].astype(str), list(source.splits))]
            if unknown := set(source.sites) - set(index.meta.facts["sites"]):
                raise DataError(f"pretraining data {source.dataset}", f"no image is left of {unknown}", got=index.meta.facts["sites"],
                                fix="mend `sites`")  # fmt: skip
            self._rows += [(number, int(row)) for row in rows]
        self.names = sorted({name for index in self._indexes for name in index.meta.facts["sources"]})

    def __len__(self) -> int:
        return len(self._rows)

    def statistics(self) -> tuple[float, float]:
        """Mean and SD of the pixels in [0, 1], over up to STATISTICS_IMAGES evenly spaced images, each weighing the same."""
        chosen = np.linspace(0, len(self) - 1, min(len(self), STATISTICS_IMAGES)).astype(int)
        images = [self._indexes[number].image(row) for number, row in (self._rows[place] for place in chosen)]
        mean = float(np.mean([image.mean(dtype=np.float64) for image in images]))
        return mean, float(np.sqrt(np.mean([((image.astype(np.float64) - mean) ** 2).mean() for image in images])))

    def batch_rows(self, step: int, protocol: Protocol) -> np.ndarray:
        """Places in the list for one step: epoch by epoch a fresh permutation, the incomplete last batch dropped."""
        per_epoch = len(self) // protocol.batch
        epoch, position = divmod(step, per_epoch)
        order = np.random.default_rng([protocol.seed, 2, epoch]).permutation(len(self))
        return order[position * protocol.batch : (position + 1) * protocol.batch]

    def crops(self, places: np.ndarray, protocol: Protocol, random: np.random.Generator) -> torch.Tensor:
        """Random resized crops (B, 3, size, size) in [0, 1]: area and log-aspect uniform, antialiased bilinear."""
        side, out = protocol.image_size, np.empty((len(places), protocol.image_size, protocol.image_size), dtype=np.float32)
        for position, place in enumerate(places):
            number, row = self._rows[place]
            pixels = self._indexes[number].pixels(row)
            top = float(np.iinfo(pixels.dtype).max)
            picture = Image.fromarray(pixels if pixels.dtype == np.uint8 else pixels.astype(np.float32))
            box = random_crop(pixels.shape, protocol.crop_scale, protocol.crop_aspect, random)
            out[position] = np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR, box=box)) / top
        return torch.from_numpy(out).unsqueeze(1).expand(-1, 3, -1, -1)


def random_crop(shape, scale, aspect, random: np.random.Generator) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of torchvision's RandomResizedCrop; the central square after ten misses."""
    rows, cols = shape
    for _ in range(10):
        area = rows * cols * random.uniform(*scale)
        ratio = math.exp(random.uniform(math.log(aspect[0]), math.log(aspect[1])))
        width, height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < width <= cols and 0 < height <= rows:
            top, left = int(random.integers(0, rows - height + 1)), int(random.integers(0, cols - width + 1))
            return left, top, left + width, top + height
    side = min(rows, cols)
    top, left = (rows - side) // 2, (cols - side) // 2
    return left, top, left + side, top + side


# ---------------------------------------------------------------- processes and files


class World:
    """The processes of torchrun; a single one outside it."""

    def __init__(self):
        self.size, self.rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))

    def __enter__(self) -> "World":
        if self.size > 1:
            if torch.cuda.is_available():
                torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
            torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        return self

    def __exit__(self, *exception) -> None:
        if self.size > 1:
            torch.distributed.destroy_process_group()

    def tell(self, train: bool) -> None:
        """The first process says that training begins (True), or that the artefact is there (False)."""
        if self.size > 1:
            torch.distributed.broadcast_object_list([train])

    def hear(self) -> bool:
        """What the first process told; waits for it."""
        told = [None]
        torch.distributed.broadcast_object_list(told)
        return told[0]

    def sum(self, tensors: list[torch.Tensor]) -> None:
        """Add tensors up over the processes, in place."""
        if self.size > 1:
            for tensor in tensors:
                torch.distributed.all_reduce(tensor)

    def agree(self, step: int, modules: Sequence[torch.nn.Module], optimiser: torch.optim.Optimizer) -> int:
        """Give every process the first one's step, weights and optimiser state (it may have read a checkpoint)."""
        if self.size == 1:
            return step
        state = [{"step": step, "optimiser": _on_cpu(optimiser.state_dict())} if self.rank == 0 else None]
        torch.distributed.broadcast_object_list(state)
        optimiser.load_state_dict(state[0]["optimiser"])  # moves it to each process's own device
        for module in modules:
            for value in [*module.parameters(), *module.buffers()]:
                torch.distributed.broadcast(value.data, 0)
        return state[0]["step"]


def _on_cpu(state: dict) -> dict:
    """An optimiser's state that can be pickled for another process: a tensor of a GPU would come back on the sender's GPU."""
    moved = {number: {name: value.cpu() if isinstance(value, torch.Tensor) else value for name, value in entry.items()}
             for number, entry in state["state"].items()}  # fmt: skip
    return state | {"state": moved}


def _save_checkpoint(path: Path, step: int, log: list[dict], computed: list[dict], encoder, target, predictor, optimiser) -> None:
    with artifact.replacing(path) as handle:
        torch.save({"step": step, "log": log, "arithmetic": computed, "encoder": encoder.state_dict(), "target": target.state_dict(),
                    "predictor": predictor.state_dict(), "optimiser": optimiser.state_dict()}, handle)  # fmt: skip


def _write_run(work: Path, protocol: Protocol, modules, initial, log, statistics, names) -> None:
    for name, module in modules.items():
        save_file({key: value.detach().cpu().contiguous() for key, value in module.state_dict().items()}, work / f"{name}.safetensors")
    save_file({key: value.contiguous() for key, value in initial.items()}, work / "initial.safetensors")
    shape = dataclasses.asdict(protocol.shape) | {"mean": statistics[0], "std": statistics[1], "pretrained_on": names,
                                                  "reduced": reductions(protocol)}  # fmt: skip
    artifact.write_json(work / "config.json", shape)
    with open(work / "log.csv", "w", newline="") as handle:
        writer = csv.DictWriter(handle, list(log[0]))
        writer.writeheader()
        writer.writerows({key: value if isinstance(value, int) else f"{value:.6g}" for key, value in row.items()} for row in log)


if __name__ == "__main__":
    run_entry_point(main)
