"""Task: segmentation with UPerNet on four frozen taps of an encoder. Five decoders, from five seeds, per structure set.

    python -m tasks.segmentation --dataset phantom --encoder radjepa --spec '{"structures": {"lungs": ["lung_left", "lung_right"]}}'

Decoder: transformers' UperNetHead behind BEiT's deconvolution pyramid, equal to mmsegmentation's UPerHead and
Feature2Pyramid (tests/tasks/test_segmentation.py holds them equal); 512 channels on 768-d taps have the paper's 39.3 M
parameters. Adam, 5e-4, cosine, 100 epochs of batches of 80, checkpoint of the lowest validation loss (RadJEPA, 6.1.2).
Structures overlap, so each is a sigmoid channel with binary cross-entropy. Images are padded to a square before the
encoder's own preprocessing; Dice is taken on the reference's own grid. Choices: docs/decisions/0007-segmentation.md.
"""

import argparse
import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.ndimage import binary_erosion, distance_transform_edt
from torch import nn

from radbench import artifact, predictions
from radbench.device import acquire, arithmetic, autocast, precision
from radbench.errors import DataError, did_you_mean, run_entry_point
from radbench.extract import Frozen, Maps, measure
from radbench.progress import Progress
from radbench.protocol import check_fields, from_overrides, reductions
from radbench.store import Index

VERSION = 3  # 2: boundary metrics; 3: several seeds
TASK = "segmentation"
EXAMPLES = 4
PARTS = ("decoder-*.json", "shown-*.png")  # what a killed run leaves of each decoder and of each structure set
NSD_TOLERANCE = 0.005  # of the diagonal: about 2 mm on a chest radiograph of 43 x 35 cm
COLOURS = np.array([[230, 90, 60], [60, 140, 230], [90, 200, 90], [230, 190, 50], [170, 90, 210], [60, 200, 200]])


@dataclasses.dataclass(frozen=True)
class Protocol:
    """The benchmark's constants."""

    channels: int = 512
    pool_scales: tuple[int, ...] = (1, 2, 3, 6)
    dropout: float = 0.1
    lr: float = 5e-4
    epochs: int = 100
    batch: int = 80
    label_size: int = 224  # side of the grid on which the loss is taken
    replicates: int = 5  # decoders per structure set; the k-th starts from `seed` + k and sees the images in another order
    seed: int = 0

    def __post_init__(self) -> None:
        # a pooling scale of 1 has a batch norm over one cell: it needs two images
        counts = dict.fromkeys(["channels", "pool_scales", "epochs", "label_size", "replicates"], 1)
        check_fields(self, "tasks.segmentation protocol", at_least=counts | {"batch": 2, "dropout": 0, "seed": 0}, above_0=("lr",))


class UPerNet(nn.Module):
    """Four maps (B, C_k, g, g) of one grid -> logits (B, channels out, 4g, 4g)."""

    def __init__(self, widths: Sequence[int], outputs: int, protocol: Protocol):
        super().__init__()
        from transformers import UperNetConfig
        from transformers.models.upernet.modeling_upernet import UperNetHead

        self.pyramid = Pyramid(widths)
        config = UperNetConfig(hidden_size=protocol.channels, num_labels=outputs, pool_scales=list(protocol.pool_scales))
        self.head = UperNetHead(config, in_channels=list(widths))
        self.head.classifier = nn.Sequential(nn.Dropout2d(protocol.dropout), self.head.classifier)  # as mmsegmentation has it

    def forward(self, maps: Sequence[torch.Tensor]) -> torch.Tensor:
        return self.head(self.pyramid(maps))


class Pyramid(nn.Module):
    """Four maps of one grid to 4, 2, 1 and 1/2 times that grid: BEiT's Feature2Pyramid."""

    def __init__(self, widths: Sequence[int]):
        super().__init__()
        first, second = widths[:2]
        self.up4 = nn.Sequential(nn.ConvTranspose2d(first, first, 2, 2), nn.BatchNorm2d(first), nn.GELU(),
                                 nn.ConvTranspose2d(first, first, 2, 2))  # fmt: skip
        self.up2 = nn.ConvTranspose2d(second, second, 2, 2)
        self.down = nn.MaxPool2d(2, 2)

    def forward(self, maps: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        return [self.up4(maps[0]), self.up2(maps[1]), maps[2], self.down(maps[3])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--spec", required=True, type=json.loads,
                        help='JSON: {"structures": {set: [structure, …]}, "protocol": {…}, "encoder": {…}}')  # fmt: skip
    parser.add_argument("--results", default="results", type=Path)
    arguments = parser.parse_args()
    segment(arguments.dataset, arguments.encoder, arguments.spec, arguments.results)


def segment(dataset: str, encoder_name: str, spec: Mapping, results: Path = Path("results")) -> artifact.Meta:
    """Write `results/segmentation/{dataset}/{encoder}`."""
    protocol = from_overrides(Protocol, spec.get("protocol", {}), "tasks.segmentation.protocol")
    index_meta = artifact.read(results / "index" / dataset)
    frozen = Frozen(encoder_name, spec.get("encoder", {}), results)

    def make(work: Path) -> dict:
        index = Index(results / "index" / dataset)
        sets = _known_structures(index, spec["structures"])
        wanted = {name for names in sets.values() for name in names}
        rows = {split: index.rows(split, structures=wanted) for split in ("train", "val", "test")}
        for split, found in rows.items():
            if len(found) < 2:
                raise artifact.Absent(f"{len(found)} {split} images with masks of {sorted(sets)}; at least 2 are needed")
        with acquire() as device:
            encoder = frozen.load(device)
            name = f"segmentation {dataset} {encoder_name}"
            here = arithmetic(device) | {"precision of the decoder": precision(device, training=True)}
            note = artifact.keep_one_arithmetic(work, here, PARTS, name)
            maps = {split: Maps(encoder, index, rows[split], device, "levels", pad_square, f"{name} taps {split}") for split in rows}
            decoded = [_decode(work, number, maps, index, structures, frozen.card.field, protocol, device, f"{name} {set_name}")
                       for number, (set_name, structures) in enumerate(sets.items())]  # fmt: skip
            measured = measure(encoder, device)
        sizes = {set_name: params for set_name, (_, params, _) in zip(sets, decoded, strict=True)}
        table = [row | {"structure_set": set_name} for set_name, (found, _, _) in zip(sets, decoded, strict=True) for row in found]
        _write(work, dataset, encoder_name, index, table)
        Image.fromarray(_stack([picture for _, _, picture in decoded])).save(work / "examples.png")
        for part in [note, *(part for pattern in PARTS for part in work.glob(pattern))]:
            part.unlink()
        return frozen.facts() | {
            "measured": measured, "protocol": dataclasses.asdict(protocol), "version": VERSION, "decoder_params": sizes,
            "reduced": reductions(protocol) + frozen.reductions(),
            "n": {split: len(found) for split, found in rows.items()}, "field": frozen.card.field, "replicates": "seeds",
        }  # fmt: skip

    return predictions.build(TASK, dataset, frozen, results, modules=("tasks.segmentation",), make=make,
                             parents=[index_meta, *frozen.parents], publish=("examples.png",), resumable=True, key_parts={
                                 "version": VERSION, "protocol": dataclasses.asdict(protocol),
                                 "structures": [[name, list(names)] for name, names in spec["structures"].items()],  # in order
                             })  # fmt: skip


def _known_structures(index: Index, sets: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    if not index.structures:
        raise artifact.Absent("the data set has no masks")
    for name in (structure for structures in sets.values() for structure in structures):
        if name not in index.structures:
            raise artifact.Absent(f"the data set has no structure {name!r}, only {index.structures}; "
                                  f"{did_you_mean(name, index.structures) or 'name its own under tasks.segmentation'}")  # fmt: skip
    return {name: list(structures) for name, structures in sets.items()}


# ---------------------------------------------------------------- geometry


def pad_square(image: np.ndarray, value: float = 0.0) -> np.ndarray:
    """(H, W) centred in a square of side max(H, W). Nothing is cut off, no aspect is changed."""
    rows, cols = image.shape
    side = max(rows, cols)
    out = np.full((side, side), value, dtype=image.dtype)
    top, left = (side - rows) // 2, (side - cols) // 2
    out[top : top + rows, left : left + cols] = image
    return out


def _window(side: int, field: float) -> tuple[int, int]:
    """First pixel and length of the central part of `side` that the network sees."""
    length = round(side * field)
    return (side - length) // 2, length


def _targets(index: Index, rows: np.ndarray, structures: Sequence[str], field: float, size: int) -> torch.Tensor:
    """(N, structures, size, size) bool: the part that the network sees, by area (more than half of a cell)."""
    out = torch.empty(len(rows), len(structures), size, size, dtype=torch.bool)
    bits = [index.structures.index(name) for name in structures]
    for place, row in enumerate(rows):
        square = pad_square(index.mask(int(row)))
        start, length = _window(len(square), field)
        seen = square[start : start + length, start : start + length]
        planes = torch.from_numpy(np.stack([(seen >> np.array(bit, seen.dtype)) & 1 for bit in bits]).astype(np.float32))
        out[place] = F.interpolate(planes[None], (size, size), mode="area")[0] > 0.5
    return out


# ---------------------------------------------------------------- training and prediction


def _decode(work: Path, number: int, maps: Mapping[str, Maps], index: Index, structures: Sequence[str], field: float,
            protocol: Protocol, device: str, name: str) -> tuple[list[dict], int, np.ndarray]:  # fmt: skip
    """The rows of every replicate of structure set `number`, a decoder's parameters, and the first replicate's picture.

    Each decoder's rows are kept in `work`, from which a killed run goes on; a decoder is minutes of a GPU, and there may be thirty.
    """
    table, params, targets = [], 0, {}
    for replicate in range(protocol.replicates):
        part = work / f"decoder-{number}-{replicate}.json"
        if not part.exists():
            if not targets:
                targets = {split: _targets(index, maps[split].rows, structures, field, protocol.label_size) for split in ("train", "val")}
            seeded = dataclasses.replace(protocol, seed=protocol.seed + replicate)
            decoder, params = train(maps, targets, seeded, device, f"{name}{f' seed {seeded.seed}' * (protocol.replicates > 1)}")
            found, picture = _predict(decoder, maps["test"], index, structures, field, protocol, device)
            if replicate == 0:
                with artifact.replacing(work / f"shown-{number}.png") as handle:
                    Image.fromarray(picture).save(handle, "PNG")
            artifact.write_json(part, {"params": params, "rows": found})
        kept = json.loads(part.read_text())
        params = kept["params"]
        table += [row | {"replicate": replicate} for row in kept["rows"]]
    with Image.open(work / f"shown-{number}.png") as shown:
        return table, params, np.asarray(shown)


def train(maps: Mapping[str, Maps], targets: Mapping[str, torch.Tensor], protocol: Protocol, device: str, name: str) -> tuple[UPerNet, int]:
    """The decoder with the lowest validation loss, and its number of parameters; `targets` of train and val by :func:`_targets`."""
    torch.manual_seed(protocol.seed)
    decoder = UPerNet([shape[0] for shape in maps["train"].shapes], targets["train"].shape[1], protocol).to(device)
    optimiser = torch.optim.Adam(decoder.parameters(), lr=protocol.lr)
    count = len(maps["train"])
    batch = min(protocol.batch, count)  # a pooling scale of 1 has a batch norm over one cell: at least two images
    steps = count // batch
    random, best, kept = np.random.default_rng(protocol.seed), math.inf, {}
    report = Progress(name, protocol.epochs, "epochs")
    for epoch in range(protocol.epochs):
        decoder.train()
        order = random.permutation(count)
        for number in range(steps):
            share = (epoch * steps + number) / (protocol.epochs * steps)
            optimiser.param_groups[0]["lr"] = protocol.lr * 0.5 * (1 + math.cos(math.pi * share))
            places = order[number * batch : (number + 1) * batch]
            loss = _loss(decoder, maps["train"], targets["train"], places, protocol, device)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
        decoder.eval()
        with torch.no_grad():
            places = np.arange(len(maps["val"]))
            chunks = [places[start : start + batch] for start in range(0, len(places), batch)]
            losses = [float(_loss(decoder, maps["val"], targets["val"], chunk, protocol, device)) * len(chunk) for chunk in chunks]
        value = sum(losses) / len(places)
        if math.isnan(value):
            raise DataError(name, f"the validation loss is not a number in epoch {epoch + 1}", fix="lower tasks.segmentation protocol.lr")
        if value < best:
            best, kept = value, {key: tensor.clone() for key, tensor in decoder.state_dict().items()}
        report.add(1, f"val loss {value:.4f}")
    decoder.load_state_dict(kept)
    return decoder.eval(), sum(value.numel() for value in decoder.parameters())


def _loss(decoder, maps: Maps, targets: torch.Tensor, places: np.ndarray, protocol: Protocol, device: str) -> torch.Tensor:
    with autocast(device):
        logits = decoder(maps[places]).float()
    size = (protocol.label_size, protocol.label_size)
    logits = F.interpolate(logits, size, mode="bilinear", align_corners=False)
    return F.binary_cross_entropy_with_logits(logits, targets[torch.from_numpy(places)].to(device).float())


@torch.inference_mode()
def _predict(decoder, maps: Maps, index: Index, structures, field: float, protocol: Protocol, device: str) -> tuple[list[dict], np.ndarray]:
    """Areas per test image and structure on the reference's own grid; and a picture of the first few."""
    rows_out, shown = [], []
    for start in range(0, len(maps), 16):
        places = np.arange(start, min(start + 16, len(maps)))
        with autocast(device):
            logits = decoder(maps[places]).float()
        for logit, row in zip(logits, maps.rows[places], strict=True):
            field_bits = index.mask(int(row))
            predicted = _on_grid(logit, field_bits.shape, field)
            reference = np.stack([(field_bits >> np.array(index.structures.index(name), field_bits.dtype)) & 1 for name in structures])
            both = (predicted & (reference > 0)).sum(axis=(1, 2))
            areas, reference_areas = predicted.sum(axis=(1, 2)), reference.sum(axis=(1, 2), dtype=np.int64)
            for number, name in enumerate(structures):
                hd95, nsd = boundary(predicted[number], reference[number] > 0)
                total = int(areas[number] + reference_areas[number])
                rows_out.append({"row": int(row), "structure": name, "intersection": int(both[number]), "pred_area": int(areas[number]),
                                 "ref_area": int(reference_areas[number]), "hd95": hd95, "nsd": nsd,
                                 "dice": 2.0 * int(both[number]) / total if total else math.nan})  # fmt: skip
            if len(shown) < EXAMPLES:
                shown.append(_picture(index.image(int(row)), reference > 0, predicted))
    return rows_out, np.concatenate(shown, axis=1)


def _on_grid(logits: torch.Tensor, shape: tuple[int, int], field: float) -> np.ndarray:
    """Logits (S, g, g) of what the network sees -> bool (S, H, W) on the reference's grid; outside is background."""
    side = max(shape)
    start, length = _window(side, field)
    inner = F.interpolate(logits[None], (length, length), mode="bilinear", align_corners=False)[0] > 0
    square = np.zeros((len(logits), side, side), dtype=bool)
    square[:, start : start + length, start : start + length] = inner.cpu().numpy()
    top, left = (side - shape[0]) // 2, (side - shape[1]) // 2
    return square[:, top : top + shape[0], left : left + shape[1]]


def boundary(predicted: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """How far two outlines are apart: (95th percentile Hausdorff distance, normalised surface Dice).

    Distances are in shares of the image's diagonal, because few releases give the size of a pixel. HD95 is the larger of
    the two directed 95th percentiles; NSD is the share of both outlines within NSD_TOLERANCE of the other (Nikolov et al.
    2021). An outline is the mask without its erosion by the four neighbours; the border of the image counts as outside.

    Args:
        predicted, reference: bool (H, W).

    Returns:
        NaN, NaN when both are empty or the reference is; (1, 0) when only the prediction is.
    """
    if not reference.any():
        return math.nan, math.nan
    if not predicted.any():
        return 1.0, 0.0
    rows, cols = np.nonzero(predicted | reference)  # distances outside this window are never asked for
    window = np.s_[rows.min() : rows.max() + 1, cols.min() : cols.max() + 1]
    outlines = []
    for mask in (predicted[window], reference[window]):
        padded = np.pad(mask, 1)
        outlines.append((padded & ~binary_erosion(padded))[1:-1, 1:-1])
    diagonal = math.hypot(*reference.shape)
    apart = [distance_transform_edt(~other)[outline] / diagonal for outline, other in (outlines, outlines[::-1])]
    near = sum(int((distance <= NSD_TOLERANCE).sum()) for distance in apart)
    return max(float(np.percentile(distance, 95)) for distance in apart), near / sum(map(len, apart))


def _write(work: Path, dataset: str, encoder: str, index: Index, table: list[dict]) -> None:
    rows = np.array([entry["row"] for entry in table])
    names = ("replicate", "structure_set", "structure", "dice", "intersection", "pred_area", "ref_area", "hd95", "nsd")
    predictions.write(work / "predictions.parquet", TASK, {
        "dataset": dataset, "task": TASK, "encoder": encoder,
        **predictions.identity(index, rows),
        **{name: [entry[name] for entry in table] for name in names},
    })  # fmt: skip


# ---------------------------------------------------------------- pictures


def _picture(image: np.ndarray, reference: np.ndarray, predicted: np.ndarray, side: int = 240) -> np.ndarray:
    """The image with the reference's structures filled in, above the same with the prediction's. (2 side, side, 3) uint8."""
    grey = Image.fromarray((pad_square(image) * 255).astype(np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
    panels = []
    for masks in (reference, predicted):
        canvas = np.repeat(np.asarray(grey, dtype=np.float32)[..., None], 3, axis=2)
        for number, mask in enumerate(masks):
            square = Image.fromarray(pad_square(mask).astype(np.uint8) * 255).resize((side, side), Image.Resampling.NEAREST)
            place = np.asarray(square) > 0
            canvas[place] = 0.6 * canvas[place] + 0.4 * COLOURS[number % len(COLOURS)]
        panels.append(canvas)
    return np.concatenate(panels).astype(np.uint8)


def _stack(pictures: list[np.ndarray]) -> np.ndarray:
    """Pictures of the structure sets, one below the other."""
    width = max(picture.shape[1] for picture in pictures)
    return np.concatenate([np.pad(picture, ((0, 8), (0, width - picture.shape[1]), (0, 0))) for picture in pictures])


if __name__ == "__main__":
    run_entry_point(main)
