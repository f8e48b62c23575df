"""Which device a stage runs on, in which precision, and the promise that two stages of one machine do not share a GPU."""

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch


@contextlib.contextmanager
def acquire() -> Iterator[str]:
    """Yield "cuda:k" for a GPU that no other radbench stage of this machine holds, or "cpu" where there is none.

    The hold is a file lock per GPU, so a killed stage gives its GPU back. Several GPUs serve several stages at once;
    under Slurm each job sees only its own. On a CPU the number of threads is fixed, because it can change the last
    digit of a sum: $RADBENCH_THREADS, one by default.
    """
    torch.set_num_threads(int(os.environ.get("RADBENCH_THREADS", "1")))
    if not torch.cuda.is_available():
        yield "cpu"
        return
    if "LOCAL_RANK" in os.environ:  # torchrun has dealt the GPUs already
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
        yield device
        return
    names = [str(torch.cuda.get_device_properties(number).uuid) for number in range(torch.cuda.device_count())]
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
        time.sleep(2)


def autocast(device: str) -> contextlib.AbstractContextManager:
    """bfloat16 on a GPU; float32 on a CPU, where bfloat16 is an order of magnitude slower without AMX (docs/performance.md)."""
    return torch.autocast("cuda", torch.bfloat16) if device.startswith("cuda") else contextlib.nullcontext()


def precision(device: str) -> str:
    """The word for the sidecar."""
    return "bfloat16 autocast" if device.startswith("cuda") else "float32"
