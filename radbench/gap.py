"""Stage: write a named gap where data or weights are not present, without importing what the real stage would.

    python -m radbench.gap --folder results/features/rad_dino/phantom --kind features --encoder rad_dino --reason '…'

The workflow calls it in place of a stage that could not run; the gap travels to the tables with its reason.
"""

import argparse
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

from . import artifact, predictions
from .encoder import describe
from .errors import run_entry_point


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", required=True, type=Path)
    parser.add_argument("--kind", required=True)
    parser.add_argument("--reason", required=True)
    parser.add_argument("--encoder")
    parser.add_argument("--spec", type=json.loads, default={}, help="JSON: the encoder's entry in the configuration")
    parser.add_argument("--task", help="write an empty predictions.parquet of this task")
    parser.add_argument("--publish", nargs="*", default=[], help="other files the stage would publish; written empty")
    arguments = parser.parse_args()
    write_gap(arguments.folder, arguments.kind, arguments.reason, arguments.encoder, arguments.task, tuple(arguments.publish),
              arguments.spec)  # fmt: skip


def write_gap(folder: Path, kind: str, reason: str, encoder: str | None = None, task: str | None = None,
              publish: tuple[str, ...] = (), spec: Mapping | None = None) -> artifact.Meta:  # fmt: skip
    """An absent artefact with the encoder's card, and the empty files that the stage would have published."""

    def make(work: Path) -> dict:
        raise artifact.Absent(reason)

    def make_absent(work: Path) -> None:
        if task:
            predictions.write_empty(work, task)
        for name in publish:
            (work / name).write_bytes(b"")

    facts = {"card": dataclasses.asdict(describe(encoder, spec or {})), "measured": {}} if encoder else {}
    published = (*(("predictions.parquet",) if task else ()), *publish)
    return artifact.build(folder, kind=kind, key_parts={"gap": reason, **facts}, make=make, make_absent=make_absent, publish=published,
                          absent_facts=facts)  # fmt: skip


if __name__ == "__main__":
    run_entry_point(main)
