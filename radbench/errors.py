"""Named errors of the harness, one small tree::

    RadbenchError
    ├── ConfigError      the configuration says something that cannot be done
    ├── DataError        a dataset folder, table or image is not what it should be
    ├── WeightsError     a weight file is there but is not the right one
    └── ArtifactError    a file in results/ is incomplete, changed or of another version

Each message says where, what is wrong, what was got, what would be right and what to do next. Weights or data that
are simply not present are no error: they are `Absent`, a named gap that travels to the tables (see artifact.py).
"""

import difflib
import errno
import sys
from collections.abc import Callable, Iterable

#: conditions of the machine that get a sentence of their own
LACKS = {errno.ENOSPC: "DiskFull", errno.EDQUOT: "QuotaExceeded", errno.EROFS: "ReadOnlyDisk",
         errno.EFBIG: "FileTooLarge"}  # fmt: skip
#: full memory, by name: torch's class is known without importing torch
FULL = ("MemoryError", "OutOfMemoryError")


class RadbenchError(Exception):
    """where: what; got …; expected …; next: …"""

    def __init__(self, where: object, what: str, *, got: object = None, expected: object = None, fix: str = ""):
        self.where, self.what = str(where), what
        parts = [what]
        if got is not None:
            parts.append(f"got {got}")
        if expected is not None:
            parts.append(f"expected {expected}")
        if fix:
            parts.append(f"next: {fix}")
        #: the message without its place
        self.said = "; ".join(parts)
        super().__init__(f"{where}: {self.said}")


class ConfigError(RadbenchError):
    """The configuration says something that cannot be done."""


class DataError(RadbenchError):
    """A dataset folder, table or image is not what it should be."""


class WeightsError(RadbenchError):
    """A weight file is present but is not the one the card describes."""


class ArtifactError(RadbenchError):
    """A file in results/ is incomplete, was changed, or belongs to another version."""


def did_you_mean(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """The closest known word as half a sentence, or an empty string.

    >>> did_you_mean("raddino", ["rad_dino", "radjepa"])
    "did you mean 'rad_dino'?"
    """
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=cutoff)
    return f"did you mean '{close[0]}'?" if close else ""


def run_entry_point(main: Callable[[], int | None]) -> None:
    """Run `main`, and turn a named error into one line on stderr and exit status 1."""
    try:
        sys.exit(main() or 0)
    except RadbenchError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(1)
    except (MemoryError, RuntimeError) as error:
        if type(error).__name__ not in FULL:
            raise
        said = str(error).partition("\n")[0] or type(error).__name__
        print(f"MemoryFull: {said}; next: a machine or a GPU with more, or a smaller batch in the protocol (reports: "
              "RADBENCH_MICRO_BATCH), then run it again: what was finished is kept", file=sys.stderr)  # fmt: skip
        sys.exit(1)
    except OSError as error:  # what a machine runs out of is no mistake in the code
        if error.errno not in LACKS:
            raise
        print(f"{LACKS[error.errno]}: {error.filename or 'while writing'}; next: make room or take another place, then run it again: "
              "what was finished is kept", file=sys.stderr)  # fmt: skip
        sys.exit(1)
