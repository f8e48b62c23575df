"""Stage: phantom data as a tidy folder.

python -m radbench.generate --dataset phantom --spec '{"patients": 400, "seed": 12}'
"""

import argparse
import json
import os
from collections.abc import Mapping
from pathlib import Path

from . import artifact
from .datasets import phantom
from .errors import run_entry_point
from .progress import Progress


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--spec", required=True, type=json.loads, help="JSON of the arguments of phantom.generate")
    parser.add_argument("--results", default="results", type=Path)
    parser.add_argument("--workers", type=int, default=int(os.environ.get("RADBENCH_WORKERS", "1")))
    arguments = parser.parse_args()
    generate(arguments.dataset, arguments.spec, arguments.results, arguments.workers)


def generate(dataset: str, spec: Mapping, results: Path, workers: int = 1) -> artifact.Meta:
    """Write `results/data/{dataset}`, a folder that radbench.datasets.folder reads; and contact_sheet.png."""

    def make(work: Path) -> dict:
        report = Progress(f"phantom {dataset}", spec["patients"], "patients")
        phantom.generate(work, **spec, workers=workers, progress=lambda done, patients: report.add())
        phantom.contact_sheet(work, work / "contact_sheet.png")
        return {"spec": dict(spec)}

    return artifact.build(results / "data" / dataset, kind="data", make=make, publish=("contact_sheet.png",),
                          key_parts={"spec": dict(spec), "source": artifact.source_hash("radbench.generate")})  # fmt: skip


if __name__ == "__main__":
    run_entry_point(main)
