"""Which device a stage runs on, in which precision, and the promise that two stages of one machine do not share a GPU."""

import contextlib
import fcntl
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from . import artifact
from .errors import ConfigError

PRECISIONS = ("float32", "bfloat16", "float16")


@contextlib.contextmanager
def acquire() -> Iterator[str]:
    """Yield "cuda:k" for a GPU that no other radbench stage of this user and machine holds, or "cpu" where there is none.

    The hold is a file lock per GPU, so a killed stage gives its GPU back. Several GPUs serve several stages at once;
    under Slurm each job sees only its own. float32 means float32 there, in convolutions too. On a CPU the number of threads is
    fixed, because it can change the last digit of a sum: $RADBENCH_THREADS, one by default.
    """
    torch.set_num_threads(int(os.environ.get("RADBENCH_THREADS", "1")))
    if not torch.cuda.is_available():
        yield "cpu"
        return
    torch.backends.cudnn.allow_tf32 = False  # on by default for convolutions; what may be rounded is said by `precision`
    if "LOCAL_RANK" in os.environ:  # torchrun has dealt the GPUs already
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
        yield device
        return
    names = [str(torch.cuda.get_device_properties(number).uuid) for number in range(torch.cuda.device_count())]
    waiting = False
    while True:
        for number, name in enumerate(names):
            with open(Path(tempfile.gettempdir()) / f"radbench-gpu-{name}-{os.getuid()}.lock", "w") as handle:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                torch.cuda.set_device(number)
                yield f"cuda:{number}"
                return
        if not waiting:
            print(f"waiting for a GPU: other stages hold {'all ' * (len(names) > 1)}{len(names)} of them", file=sys.stderr)
        waiting = True
        time.sleep(2)


def precision(device: str, training: bool = False) -> str:
    """ "bfloat16", "float16" or "float32": what this hardware multiplies fast, asked of it and not timed.

    A GPU from compute capability 8.0 on has bfloat16 units; an older one has float16 units, which serve inference only
    (training would need loss scaling). A CPU takes bfloat16 with AMX only: with AVX-512-BF16 it was measured slower than
    float32, without either an order of magnitude slower (docs/performance.md). $RADBENCH_PRECISION overrides,
    float16 for inference only.

    Raises:
        ConfigError: $RADBENCH_PRECISION is none of the three.
    """
    if wanted := os.environ.get("RADBENCH_PRECISION"):
        if wanted not in PRECISIONS:
            raise ConfigError("RADBENCH_PRECISION", "unknown precision", got=wanted, expected=f"one of {list(PRECISIONS)}")
        return "float32" if training and wanted == "float16" else wanted
    if device.startswith("cuda"):
        if torch.cuda.get_device_capability(device) >= (8, 0):
            return "bfloat16"
        return "float32" if training else "float16"
    return "bfloat16" if torch.cpu._is_amx_tile_supported() else "float32"


def arithmetic(device: str, training: bool = False) -> dict:
    """What can change a digit of a result without changing its key; what a killed run left is compared with this."""
    return {"precision": precision(device, training), "device": device.split(":")[0], "threads": torch.get_num_threads(),
            "compiled": not training and bool(os.environ.get("RADBENCH_COMPILE")), "software": artifact.software()}  # fmt: skip


def gone_on(name: str, before: list[dict], here: dict) -> list[dict]:
    """The arithmetic of each part of a training that was killed and goes on; says so where it is another from here on."""
    if before and before[-1] != here:
        changed = [key for key in here if before[-1].get(key) != here[key]]
        print(f"{name}: goes on with { {key: here[key] for key in changed} }, was begun with "
              f"{ {key: before[-1].get(key) for key in changed} }; the sidecar lists both", file=sys.stderr)  # fmt: skip
    return before if before[-1:] == [here] else [*before, here]


def autocast(device: str, training: bool = True) -> contextlib.AbstractContextManager:
    """Matrix products in `precision(device, training)`; parameters and sums stay float32."""
    chosen = precision(device, training)
    if chosen == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.split(":")[0], getattr(torch, chosen))
