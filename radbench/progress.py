"""One line of progress every few seconds: done, rate, time left. Whole lines, so parallel jobs do not garble each other."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
INTERVAL = 10.0  # seconds between lines


class Progress:
    """Counts towards `total` and prints at most one line per `INTERVAL`, and one at the end.

    A resumed stage passes `start`, so that rate and time left speak of this run only.
    """

    def __init__(self, name: str, total: int, unit: str = "it", start: int = 0):
        self.name, self.total, self.unit, self.done, self.start = name, total, unit, start, start
        self.began = self.printed = time.monotonic()

    def add(self, n: int = 1, note: str = "") -> None:
        self.done += n
        now = time.monotonic()
        if now - self.printed >= INTERVAL or self.done >= self.total:
            self.printed = now
            line = tqdm.format_meter(self.done, self.total, now - self.began, ncols=0, prefix=self.name, unit=self.unit,
                                     initial=self.start, postfix=note or None)  # fmt: skip
            print(line.replace("  ", " "), file=sys.stderr, flush=True)


def progress(items: Iterable[Item], name: str, total: int, unit: str = "it") -> Iterator[Item]:
    """Yield the items, reporting progress."""
    counter = Progress(name, total, unit)
    for item in items:
        yield item
        counter.add()
