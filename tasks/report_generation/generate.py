"""Task: write reports for the test split of one data set with a reporter trained on the same or another one.

python -m tasks.report_generation.generate --dataset phantom_external --encoder radjepa --spec '{"train": "phantom", …}'
"""

import argparse
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from radbench import artifact, predictions
from radbench.device import acquire
from radbench.errors import run_entry_point
from radbench.extract import Frozen, Maps, measure
from radbench.progress import Progress
from radbench.protocol import from_overrides
from radbench.store import Index

from . import clinical
from .model import Protocol, load
from .text import normalise, statistics, tokenizer_name

VERSION = 1
TASK = "report_generation"
BATCH = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--spec", required=True, type=json.loads, help='JSON: {"train": data set, "protocol": {…}, "encoder": {…}}')
    parser.add_argument("--results", default="results", type=Path)
    arguments = parser.parse_args()
    generate(arguments.dataset, arguments.encoder, arguments.spec, arguments.results)


def generate(dataset: str, encoder_name: str, spec: Mapping, results: Path = Path("results")) -> artifact.Meta:
    """Write `results/report_generation/{dataset}/{encoder}`."""
    protocol = from_overrides(Protocol, spec.get("protocol", {}), "tasks.report_generation.protocol")
    index_meta = artifact.read(results / "index" / dataset)
    model_meta = artifact.read(results / "report_model" / spec["train"] / encoder_name)
    frozen = Frozen(encoder_name, spec.get("encoder", {}), results)
    tokenizer, clinical_models = tokenizer_name(), clinical.present()

    def make(work: Path) -> dict:
        index = Index(results / "index" / dataset)
        # zero-shot: a set that nothing was trained on is evaluated whole, as the paper does with IU X-ray
        rows = index.rows("test" if spec["train"] == dataset or not spec.get("whole") else None, report=True)
        if len(rows) == 0:
            raise artifact.Absent("no test image has a report")
        references = [normalise(text) for text in index["report"][rows]]
        name = f"generate {dataset} {encoder_name}"
        with acquire() as device:
            encoder = frozen.load(device)
            maps = Maps(encoder, index, rows, device, "patches", name=f"{name} patches")
            reporter = load(model_meta.payload, device)
            hypotheses, report = [], Progress(name, len(rows), "reports")
            for start in range(0, len(rows), BATCH):
                places = np.arange(start, min(start + BATCH, len(rows)))
                hypotheses += [normalise(text) for text in reporter.write(maps[places][0], protocol.max_new_tokens)]  # in float32
                report.add(len(places))
            measured = measure(encoder, device)
            scored, not_computed = clinical.score(references, hypotheses, clinical_models, device)
        predictions.write(work / "predictions.parquet", TASK, {
            "dataset": dataset, "task": TASK, "encoder": encoder_name, "replicate": [0] * len(rows),
            **predictions.identity(index, rows),
            "reference": references, "hypothesis": hypotheses, **statistics(references, hypotheses, tokenizer), **scored,
        })  # fmt: skip
        return frozen.facts() | {
            "measured": measured, "protocol": dataclasses.asdict(protocol) | {"tokenizer": tokenizer, "trained_on": spec["train"]},
            "version": VERSION, "reduced": model_meta.facts["reduced"], "language_model": protocol.language_model,
            "metrics_not_computed": not_computed, "n": {"test": len(rows)},
        }  # fmt: skip

    parts = {"version": VERSION, "protocol": dataclasses.asdict(protocol), "train": spec["train"], "whole": bool(spec.get("whole")),
             "tokenizer": tokenizer, "clinical": clinical.fingerprint(clinical_models)}  # fmt: skip
    return predictions.build(TASK, dataset, frozen, results, modules=("tasks.report_generation.generate",), make=make,
                             parents=[index_meta, model_meta, *frozen.parents], key_parts=parts)  # fmt: skip


if __name__ == "__main__":
    run_entry_point(main)
