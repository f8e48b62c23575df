"""Stage: image features of every image of a data set, from one frozen encoder.

    python -m radbench.extract --encoder radjepa --dataset phantom --spec '{"weights": null, "options": {}}'

`image.npy` is float32 (images, D) in the order of the index. Work is done in shards, so a killed run goes on from the
last complete one. Tasks that need patch features or taps ask `forward` for them: recomputing them costs less than
reading them back from disk (docs/performance.md).
"""

import argparse
import contextlib
import dataclasses
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from . import artifact, weights
from .device import acquire, arithmetic, autocast, precision
from .encoder import Encoder, describe, find
from .errors import ConfigError, DataError, did_you_mean, run_entry_point
from .jepa.weights import read_config
from .parallel import in_parallel, worker_count
from .progress import Progress
from .store import Index

SHARD = 2048  # images
PIECE = 16  # images that one thread prepares at a time: a batch for a GPU is made of many
BATCH = {"cpu": 16, "cuda": 512}  # at most
CPU_ACTIVATIONS = 2**22  # tokens x width of a batch: a ViT-B at 224 gets 16 images, a ViT-g at 518 two
GPU_SHARE = 0.6  # of the free memory may be activations
MAPS_IN_MEMORY = 6 * 2**30  # bytes
ENTRY = {"wrapper", "title", "weights", "revision", "options"}  # what a configuration says of an encoder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--spec", type=json.loads, default={}, help='JSON: {"weights": path or null, "options": {…}}')
    parser.add_argument("--results", default="results", type=Path)
    arguments = parser.parse_args()
    extract(arguments.encoder, arguments.dataset, arguments.spec, arguments.results)


def extract(name: str, dataset: str, spec: Mapping, results: Path = Path("results")) -> artifact.Meta:
    """Write `results/features/{name}/{dataset}`; a gap when weights or data are not present."""
    index_meta = artifact.read(results / "index" / dataset)
    frozen = Frozen(name, spec, results)

    def make(work: Path) -> dict:
        frozen.require()
        with acquire() as device:
            index, encoder = Index(results / "index" / dataset), frozen.load(device)
            _write_features(work, encoder, index, device, f"features {name} {dataset}")
            facts = frozen.facts(encoder, device)
            return facts | {"enlarged": _enlarged(index, facts["measured"]["image_size"], f"features {name} {dataset}")}

    return artifact.build(results / "features" / name / dataset, kind="features", key_parts=frozen.key_parts("radbench.extract"),
                          make=make, parents=[index_meta, *frozen.parents], absent_facts=frozen.facts(),
                          resumable=True)  # fmt: skip


def _enlarged(index: Index, side: int, name: str) -> float:
    """Share of the stored images whose shorter side is below the encoder's input: detail that it was trained to see is not there."""
    small = np.minimum(index["rows"], index["cols"]) < side
    if small.any():
        print(f"{name}: {small.sum():,} of {small.size:,} images are shorter than its input of {side} pixels and were enlarged; where the "
              "originals are larger, max_side of the data set should be, too", file=sys.stderr)  # fmt: skip
    return round(float(small.mean()), 4)


class Frozen:
    """An encoder of the configuration: its card, where its weights are, and what of it belongs into content keys."""

    def __init__(self, name: str, spec: Mapping, results: Path):
        for key in spec:
            if key not in ENTRY:
                fix = did_you_mean(key, ENTRY) or f"the keys are {sorted(ENTRY)}"
                raise ConfigError(f"encoders.{name}", f"unknown key {key!r}", fix=fix)
        self.name, self.wrapper = name, spec.get("wrapper") or name
        self.encoder_class = find(self.wrapper)
        self.card = describe(name, spec)  # unknown options are an error now, not after an hour
        given, values = spec.get("options") or {}, self.encoder_class.values(spec.get("options") or {})
        self.options = {key: values[key] for key in given}
        self.results, self.hidden = results, bool(spec.get("title"))
        self.gap: str | None = None
        self.path: Path | None = None
        self.parents: list[artifact.Meta] = []
        if self.card.weights.startswith("run:") and not spec.get("weights"):
            self.parents = [artifact.read(results / "pretrain" / weights.run_name(self.card))]
        try:
            self.path = weights.resolve(name, self.card, spec.get("weights"), results)
        except artifact.Absent as gap:
            self.encoder_class.look_up(values)  # a misspelt model has no weights to get
            self.gap = str(gap)

    def require(self) -> None:
        """Raise Absent when the weights are not present."""
        if self.gap is not None:
            raise artifact.Absent(self.gap)

    def key_parts(self, *modules: str) -> dict:
        """Weights, options and code: everything of the encoder that can change a number."""
        known = self.gap is None and not self.parents
        hashes = weights.fingerprint(self.path, self.card, self.results / weights.LOCK) if known else {}
        return {"encoder": self.name, "options": self.options, "weights": hashes, "gap": self.gap, "title": self.card.title,
                "source": artifact.source_hash(f"encoders.{self.wrapper}", *modules)}  # fmt: skip

    def load(self, device: str) -> Encoder:
        """The encoder on its device, in inference mode."""
        encoder = self.encoder_class(self.path, self.options)
        encoder.load(device)
        for module in encoder.modules():
            module.eval().requires_grad_(False)
            if any(isinstance(part, torch.nn.Conv2d) and part.padding not in (0, (0, 0)) for part in module.modules()):
                module.to(memory_format=torch.channels_last)  # a ResNet or DenseNet is a tenth faster so; a ViT does not care
        return encoder

    def reductions(self) -> list[str]:
        """What makes this encoder another one than its title says: a shrunk pretraining run, options that a given title hides."""
        defaults = {name: option.default for name, option in self.encoder_class.options.items() if option.in_title}
        changed = [f"option {name} {default} -> {self.options[name]}" for name, default in defaults.items()
                   if self.hidden and self.options.get(name, default) != default]  # fmt: skip
        return changed + [f"pretraining {entry}" for entry in (self._run() or {}).get("reduced", ())]

    def _run(self) -> dict | None:
        """config.json of the pretraining run behind the weights, also of a run that was copied here as a local path."""
        return read_config(self.path) if self.path and self.card.weights.startswith("run:") else None

    def facts(self, encoder: Encoder | None = None, device: str = "cpu") -> dict:
        """The card, and what was measured on the loaded network (nothing without one)."""
        card = dataclasses.asdict(self.card)
        if encoder:
            card |= {"mean": encoder.card.mean, "std": encoder.card.std}  # some are in a file beside the weights
        if self.path and self.card.weights.startswith("hf:") and len(self.path.name) == 40:
            card["revision"] = self.path.name  # the commit that was found in the hub cache
        run = self._run()
        if run:  # the run, not the card, says what was trained and on what
            if (run["width"], run["depth"]) != (768, 12):
                card["architecture"] = f"ViT {run['depth']} x {run['width']}, patch {run['patch']}"
            if not self.card.weights.endswith("/initial"):  # untrained weights have seen nothing
                card["pretrained_on"] = run["pretrained_on"]
        values = self.encoder_class.values(self.options)
        return {"card": card, "options": values, "measured": measure(encoder, device) if encoder else {}}


@torch.inference_mode()
def measure(encoder: Encoder, device: str) -> dict:
    """Parameters, input side, token grid and feature width, read off the loaded network with one grey image."""
    image = encoder.preprocess(np.full((256, 224), 0.5, dtype=np.float32))
    features = encoder.encode(torch.from_numpy(np.array(image))[None].to(device))
    grid = tuple(features.patches.shape[1:3])
    return {"params": encoder.parameter_count(), "dim": features.image.shape[1], "grid": list(grid), "tokens": grid[0] * grid[1],
            "image_size": image.shape[-1], "precision": precision(device, training=False)}  # fmt: skip


def _write_features(work: Path, encoder: Encoder, index: Index, device: str, name: str) -> None:
    """`image.npy` of the whole index, from shards; complete ones of a killed run are kept if they were computed in the same way."""
    shards = {work / f"shard-{number:05}.npy": range(start, min(start + SHARD, len(index)))
              for number, start in enumerate(range(0, len(index), SHARD))}  # fmt: skip
    note = artifact.keep_one_arithmetic(work, arithmetic(device), ["shard-*.npy"], name)
    for path, rows in shards.items():
        if path.exists() and not _whole(path, len(rows)):
            path.unlink()  # cut short by a full disk or a power failure
    missing = {path: rows for path, rows in shards.items() if not path.exists()}
    wanted = np.fromiter(itertools.chain(*missing.values()), dtype=np.int64)
    report = Progress(name, len(index), "images", start=len(index) - len(wanted))
    batches = forward(encoder, index, wanted, device, "image")  # one for all shards, so that the threads never run dry between two
    for path, rows in missing.items():
        parts: list[torch.Tensor] = []
        while sum(map(len, parts)) < len(rows):  # no batch reaches over the end of a shard
            parts.append(next(batches).float().cpu())
            report.add(len(parts[-1]))
        block = torch.cat(parts)
        _check_finite([block], index, np.array(rows), device, name)
        with artifact.replacing(path) as handle:
            np.save(handle, block.numpy())
    _join(list(shards), work / "image.npy")
    for path in [*shards, note]:
        path.unlink()


def _check_finite(parts: Sequence[torch.Tensor], index: Index, rows: np.ndarray, device: str, name: str) -> None:
    """Raise DataError with the first image of which some value in tensors (rows, ...) is infinite or no number."""
    for part in parts:
        finite = torch.isfinite(part).flatten(1).all(1)
        if not finite.all():
            fix = "RADBENCH_PRECISION=float32, then look at the weights" if precision(device, training=False) == "float16" else ""
            first = index["image_id"][rows[int((~finite).nonzero()[0])]]
            raise DataError(name, f"features are not finite, first at {first}",
                            fix=fix or "look at the weights: they are damaged, or of another network")  # fmt: skip


def _whole(path: Path, count: int) -> bool:
    """Whether a shard can be read and holds so many images."""
    try:
        return len(np.load(path, mmap_mode="r")) == count
    except (ValueError, OSError, EOFError):
        return False


def _join(paths: list[Path], target: Path) -> None:
    """Concatenate arrays (n_k, D) of several files into one, shard by shard: memory does not grow with their number."""
    parts = [np.load(path, mmap_mode="r") for path in paths]
    shape = (sum(len(part) for part in parts), *parts[0].shape[1:])
    with open(target, "wb") as handle:
        np.lib.format.write_array_header_1_0(handle, {"descr": "<f4", "fortran_order": False, "shape": shape})
        for part in parts:
            part.tofile(handle)


@torch.inference_mode()
def forward(
    encoder: Encoder, index: Index, rows: np.ndarray, device: str, want: str, frame: Callable[[np.ndarray], np.ndarray] | None = None
) -> Iterator:  # fmt: skip
    """Encode images batch by batch, in the order of `rows`.

    want: "image" yields (B, D), "patches" (B, gh, gw, C), "levels" four maps (B, C, gh, gw). `frame` is applied to each
    image before the encoder's own preprocessing.
    """
    if not len(rows):
        return

    def prepare(chunk: np.ndarray) -> torch.Tensor:
        images = (index.image(int(row)) for row in chunk)
        batch = torch.from_numpy(np.stack([encoder.preprocess(frame(image) if frame else image) for image in images]))
        return batch.pin_memory() if device.startswith("cuda") else batch

    size = batch_size(encoder, prepare(rows[:1]), device)

    def chunks() -> Iterator[np.ndarray]:
        for shard in (rows[start : start + SHARD] for start in range(0, len(rows), SHARD)):
            yield from (shard[start : start + size] for start in range(0, len(shard), size))

    pieces = in_parallel(prepare, (chunk[start : start + PIECE] for chunk in chunks() for start in range(0, len(chunk), PIECE)),
                         worker_count(device))  # fmt: skip
    encode = encoder.encode_levels if want == "levels" else encode_of(encoder)
    send, sizes = Sender(device), (-(-len(chunk) // PIECE) for chunk in chunks())
    coming = send(itertools.islice(pieces, next(sizes)))
    while coming is not None:
        batch = send.arrived(coming)
        with autocast(device, training=False):
            output = encode(batch)
        count = next(sizes, None)
        coming = send(itertools.islice(pieces, count)) if count else None  # travels while a GPU is still at this one
        yield output if want == "levels" else getattr(output, want)


class Sender:
    """Moves batches to the device. On a GPU they travel on a stream of their own, beside the computation of the batch before."""

    def __init__(self, device: str):
        self._device, self._stream = device, torch.cuda.Stream(device) if device.startswith("cuda") else None

    def __call__(self, pieces: Iterable[torch.Tensor]) -> torch.Tensor:
        """Pieces of a batch in pinned memory -> the batch, which is not to be read before `arrived`."""
        with torch.cuda.stream(self._stream) if self._stream is not None else contextlib.nullcontext():
            parts = [piece.to(self._device, non_blocking=True) for piece in pieces]
            return torch.cat(parts) if len(parts) > 1 else parts[0]

    def arrived(self, batch: torch.Tensor) -> torch.Tensor:
        """The same batch, for the device's own stream to read: what is queued there from now on waits for it."""
        if self._stream is not None:
            own = torch.cuda.current_stream(self._device)
            own.wait_stream(self._stream)
            batch.record_stream(own)  # its memory is not given to a later batch before the computation has read it
        return batch


def encode_of(encoder: Encoder) -> Callable:
    """The wrapper's own `encode`, or the compiled one for $RADBENCH_COMPILE=1; the wrapper's stays for all that measures it."""
    if not os.environ.get("RADBENCH_COMPILE"):
        return encoder.encode
    if not hasattr(encoder, "_compiled"):
        encoder._compiled = compiled(encoder.encode)
    return encoder._compiled


def compiled(encode: Callable) -> Callable:
    """`encode` through torch.compile with constant weights, for $RADBENCH_COMPILE=1: about a seventh faster on a CPU with AVX-512.

    Compiling takes most of a minute and needs a C++ compiler, so it pays from about a thousand images on. Every call has the
    same batch size, because another one would be compiled again: a short batch is filled up, and rows do not depend on
    each other.
    """
    from torch._inductor import config

    config.freezing = True
    inner, full = torch.compile(encode), 0

    def padded(images: torch.Tensor):
        nonlocal full
        count = len(images)
        full = max(full, count)
        with torch.no_grad():
            features = inner(torch.cat([images, images[-1:].expand(full - count, -1, -1, -1)]) if count < full else images)
        return type(features)(*(part[:count] for part in features))

    return padded


def batch_size(encoder: Encoder, image: torch.Tensor, device: str) -> int:
    """Images per batch, from one prepared image (1, C, h, w). No number depends on it but the speed.

    On a GPU as many as its free memory allows; two batches are measured, so that what does not grow with the batch drops out.
    On a CPU as many as its caches serve well, 1 to 16, by the size of the patch features: more would not be faster, and a batch
    never comes near the memory.
    """
    if not device.startswith("cuda"):
        if not hasattr(encoder, "_batch_size"):
            patches = encoder.encode(image.to(device)).patches
            encoder._batch_size = int(np.clip(CPU_ACTIVATIONS // max(patches[0].numel(), 1), 1, BATCH["cpu"]))
        return encoder._batch_size

    def peak(count: int) -> int:
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        with autocast(device, training=False):
            encoder.encode_levels(image.expand(count, -1, -1, -1).to(device))
        return torch.cuda.max_memory_allocated(device) - before

    if not hasattr(encoder, "_batch_size"):
        each = max(1, (peak(8) - peak(2)) // 6)
        free = torch.cuda.mem_get_info(device)[0] * GPU_SHARE
        encoder._batch_size = int(np.clip(2 ** int(np.log2(max(1, free // each))), 1, BATCH["cuda"]))
    return encoder._batch_size


class Maps:
    """Patch features or taps of some rows: kept in memory when they fit, encoded again at every use when they do not."""

    def __init__(self, encoder: Encoder, index: Index, rows: np.ndarray, device: str, want: str,
                 frame: Callable[[np.ndarray], np.ndarray] | None = None, name: str = "maps"):  # fmt: skip
        self._source, self._kept = (encoder, index, device, want, frame), None
        self.rows, self._device, self._name = rows, device, name
        first = self._encode(rows[:1])
        self.shapes = [tuple(part.shape[1:]) for part in first]
        if sum(part.numel() * 4 for part in first) * len(rows) > MAPS_IN_MEMORY:
            return
        report, chunks = Progress(name, len(rows), "images"), []
        for output in self._outputs(rows):
            chunks.append([part.cpu() for part in output])
            report.add(len(chunks[-1][0]))
        self._kept = [torch.cat(parts) for parts in zip(*chunks, strict=True)]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, places: np.ndarray) -> list[torch.Tensor]:
        """float32 maps of some places in `rows`, on the device: four for "levels", one for "patches"."""
        if self._kept is None:
            return self._encode(self.rows[places])
        return [part[torch.from_numpy(places)].to(self._device) for part in self._kept]

    def _encode(self, rows: np.ndarray) -> list[torch.Tensor]:
        return [torch.cat(parts).clone() for parts in zip(*self._outputs(rows), strict=True)]

    def _outputs(self, rows: np.ndarray) -> Iterator[list[torch.Tensor]]:
        """float32 maps batch by batch, each checked."""
        encoder, index, device, want, frame = self._source
        done = 0
        for output in forward(encoder, index, rows, device, want, frame):
            parts = [part.float() for part in (output if want == "levels" else [output])]
            _check_finite(parts, index, rows[done:], device, self._name)
            done += len(parts[0])
            yield parts


if __name__ == "__main__":
    run_entry_point(main)
