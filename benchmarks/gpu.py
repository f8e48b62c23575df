"""What a GPU does with the networks of the paper: images/s, model FLOP utilisation, precision, memory, steps of training.

    python benchmarks/gpu.py [--out gpu.md] [--seconds 10]         # also RADBENCH_COMPILE=1
    python benchmarks/gpu.py --encoders rad_dino --images 2 --seconds 0 --small      # on a CPU, to see that it runs

Networks have random weights where the released ones are not in the hub cache. Pictures are noise of 1,024 pixels, read from
memory, so that preprocessing counts and the disk does not. Extraction goes through `radbench.extract.forward` with the batch and the
precision that it chooses. Utilisation is FLOPs of the forward pass (torch's own counter) per second over the rate of torch.mm in the
same precision, measured in the same run.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from radbench import extract, pretrain  # noqa: E402
from radbench.device import acquire, autocast, precision  # noqa: E402
from radbench.jepa.masks import MaskProtocol, draw_masks  # noqa: E402
from radbench.jepa.predictor import Predictor  # noqa: E402
from radbench.jepa.vit import build_vit  # noqa: E402
from tasks import segmentation  # noqa: E402

#: wrapper -> options; ViT-B, L, H and g
ENCODERS: dict[str, dict] = {"rad_dino": {"image_size": 224}, "clip_vitl14_224": {}, "ijepa_vith14_224": {}, "dinov2_vitg14": {}}
HALF = ("bfloat16", "float16")


class Noise:
    """As much of an index as extraction asks for: pictures of noise."""

    def __init__(self, side: int = 1024):
        self._picture = np.random.default_rng(0).random((side, side), dtype=np.float32)

    def image(self, row: int) -> np.ndarray:
        return np.roll(self._picture, row, axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoders", nargs="+", choices=list(ENCODERS), default=list(ENCODERS))
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement, at least one round")
    parser.add_argument("--images", type=int, default=64, help="of the comparison of precisions")
    parser.add_argument("--small", action="store_true", help="training steps of a narrow network, for a machine without a GPU")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with acquire() as device:
        text = page(device, arguments.encoders, arguments.seconds, arguments.images, arguments.small)
    print(text)
    if arguments.out:
        arguments.out.write_text(text)


def page(device: str, encoders: list[str], seconds: float, images: int, small: bool) -> str:
    """Markdown with every table."""
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else "CPU"
    chosen, rate = precision(device, training=False), matrix_rate(device, seconds)
    compiled = ", compiled" if os.environ.get("RADBENCH_COMPILE") else ""
    lines = [f"{name}, torch {torch.__version__}, {chosen}{compiled}; torch.mm {rate / 1e12:.3g} TFLOP/s.", "",
             "| encoder | GFLOP per image | batch | GiB at it | network alone, images/s | utilisation | with preprocessing, images/s "
             "| bfloat16 - float32 | cosine | float16 - float32 | cosine |", "|---" * 11 + "|"]  # fmt: skip
    for encoder in encoders:
        row = extraction(encoder, device, seconds, images)
        use = row["gflop"] * row["alone"] / (rate / 1e9)
        changes = " | ".join(f"{row[half][0]:.1e} | {row[half][1]:.6f}" for half in HALF)
        lines.append(f"| {encoder} {ENCODERS[encoder] or ''} | {row['gflop']:.1f} | {row['batch']} | {row['gib']:.2f} | {row['alone']:.4g} "
                     f"| {use:.2f} | {row['whole']:.4g} | {changes} |")  # fmt: skip
    steps = {"pretraining step, ViT-B/14 at 224": pretraining(device, seconds, small),
             "UPerNet step, 4 x 768 x 16 x 16": decoder(device, seconds, small)}  # fmt: skip
    lines += ["", "| step" + (" (narrow)" if small else "") + " | images | seconds | images/s | GiB |", "|---" * 5 + "|"]
    lines += [f"| {title} | {count} | {took:.4g} | {count / took:.4g} | {gib:.2f} |" for title, (count, took, gib) in steps.items()]
    return "\n".join(lines) + "\n"


# ---------------------------------------------------------------- extraction


@torch.inference_mode()
def extraction(name: str, device: str, seconds: float, images: int) -> dict:
    """FLOPs per image, batch, memory, rates without and with preprocessing, and what half precision changes."""
    index = Noise()
    with tempfile.TemporaryDirectory() as folder:
        encoder = extract.Frozen(name, {"options": ENCODERS[name]}, Path(folder)).load(device)
    one = torch.from_numpy(encoder.preprocess(index.image(0)))[None]
    row: dict = {"gflop": flops(encoder, one.to(device)) / 1e9, "batch": extract.batch_size(encoder, one, device)}
    batch = one.expand(row["batch"], -1, -1, -1).to(device).contiguous()

    def alone() -> None:
        with autocast(device, training=False):
            extract.encode_of(encoder)(batch)

    count = row["batch"] * (16 if device.startswith("cuda") else 4)

    def whole() -> None:
        for part in extract.forward(encoder, index, np.arange(count), device, "image"):
            part.float().cpu()

    took, row["gib"] = timed(alone, device, seconds)
    row["alone"] = row["batch"] / took
    row["whole"] = count / timed(whole, device, seconds)[0]
    exact = features(encoder, index, images, device, "float32")
    for half in HALF:
        other = features(encoder, index, images, device, half)
        away = (other - exact).norm(dim=1) / exact.norm(dim=1)
        row[half] = float(away.median()), float(torch.nn.functional.cosine_similarity(other, exact).min())
    return row


def flops(encoder, image: torch.Tensor) -> int:
    """Multiplications and additions of one forward pass as torch counts them, attention as plain products, which it counts everywhere."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        encoder.encode(image)
    return counter.get_total_flops()


def features(encoder, index: Noise, images: int, device: str, kind: str) -> torch.Tensor:
    """(images, D) float32 features computed in a precision."""
    with mock.patch.dict(os.environ, RADBENCH_PRECISION=kind):
        return torch.cat([part.float().cpu() for part in extract.forward(encoder, index, np.arange(images), device, "image")])


def matrix_rate(device: str, seconds: float, side: int = 8192) -> float:
    """FLOP/s of a large square product in the precision that extraction has here."""
    side = side if device.startswith("cuda") else 1024
    kind = getattr(torch, precision(device, training=False))
    left, right = (torch.randn(side, side, device=device, dtype=kind) for _ in range(2))
    return 2 * side**3 / timed(lambda: torch.mm(left, right), device, min(seconds, 2))[0]


# ---------------------------------------------------------------- training


def pretraining(device: str, seconds: float, small: bool) -> tuple[int, float, float]:
    """Images, seconds and GiB of one mask group forward and backward, with the optimiser's step and the moving average."""
    protocol = pretrain.Protocol(width=48, depth=1, heads=2, predictor_width=24, predictor_depth=1, predictor_heads=2, batch=2,
                                 mask_group=2) if small else pretrain.Protocol()  # fmt: skip
    encoder, target = (build_vit(protocol.shape, 0).to(device) for _ in range(2))
    predictor = Predictor(protocol.width, protocol.shape.grid, protocol.predictor_width, protocol.predictor_depth, protocol.predictor_heads,
                          1).to(device)  # fmt: skip
    optimiser = torch.optim.AdamW([*encoder.parameters(), *(p for p in predictor.parameters() if p.requires_grad)], fused=True)
    count = protocol.mask_group
    pixels = torch.randn(count, 3, protocol.image_size, protocol.image_size, device=device)
    masks = draw_masks(count, protocol.shape.grid, MaskProtocol(), np.random.default_rng(0))
    keep, targets = (torch.from_numpy(part).to(device) for part in masks)

    def step() -> None:
        with autocast(device):
            loss, _ = pretrain.jepa_loss(encoder, target, predictor, pixels, keep, targets)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        with torch.no_grad():
            torch._foreach_lerp_(list(target.parameters()), list(encoder.parameters()), 0.004)

    return count, *timed(step, device, seconds)


def decoder(device: str, seconds: float, small: bool) -> tuple[int, float, float]:
    """Images, seconds and GiB of one step of the segmentation decoder at the protocol's width and batch."""
    protocol = segmentation.Protocol(channels=8, batch=2) if small else segmentation.Protocol()
    width = 16 if small else 768
    network = segmentation.UPerNet([width] * 4, 3, protocol).to(device)
    optimiser = torch.optim.Adam(network.parameters())
    maps = [torch.randn(protocol.batch, width, 16, 16, device=device) for _ in range(4)]

    def step() -> None:
        with autocast(device):
            loss = network(maps).float().square().mean()
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return protocol.batch, *timed(step, device, seconds)


def timed(call: Callable[[], object], device: str, seconds: float) -> tuple[float, float]:
    """Median seconds of a call after two calls to warm up, and the most memory it had allocated, in GiB (0 on a CPU)."""
    cuda = device.startswith("cuda")
    call(), call()
    if cuda:
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
    took, end = [], time.perf_counter() + seconds
    while not took or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        if cuda:
            torch.cuda.synchronize(device)
        took.append(time.perf_counter() - start)
    return float(np.median(took)), torch.cuda.max_memory_allocated(device) / 2**30 if cuda else 0.0


if __name__ == "__main__":
    main()
