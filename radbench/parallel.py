"""`map` over threads, in order and only a few items ahead: image decoders, hashes and matrix products release the interpreter lock."""

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item, Result = TypeVar("Item"), TypeVar("Result")


def in_parallel(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """Yield `function(item)` in the order of the items; at most four items per worker wait in memory."""
    iterator = iter(items)
    with ThreadPoolExecutor(workers) as pool:
        ahead = deque(pool.submit(function, item) for item in itertools.islice(iterator, 4 * workers))
        while ahead:
            yield ahead.popleft().result()
            ahead.extend(pool.submit(function, item) for item in itertools.islice(iterator, 1))


def worker_count(device: str = "cpu") -> int:
    """Threads that may prepare images: $RADBENCH_WORKERS, else the Slurm job's cores, else one.

    For a GPU it is all cores of the machine, shared among the processes of torchrun, because they have nothing else to do than to
    feed it; on a CPU the network needs the core that the workflow has given to the job.
    """
    chosen = os.environ.get("RADBENCH_WORKERS") or os.environ.get("SLURM_CPUS_PER_TASK")
    if chosen:
        return int(chosen)
    if not device.startswith("cuda"):
        return 1
    return max(1, (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
