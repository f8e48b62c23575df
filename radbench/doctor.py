"""What is here, what is missing and how to get it, and what a configuration will cost.

    python -m radbench.doctor --config config/paper.yaml --root /data/radiographs

Costs are orders of magnitude from floating-point operations (docs/performance.md, section "Cost model"), not promises.
"""

import argparse
import csv
import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from . import artifact
from .config import DataPart, load
from .datasets import known_releases
from .errors import ConfigError, run_entry_point
from .plan import Plan
from .store import Index

PUBLISHED = artifact.ROOT / "results" / "published" / "splits.csv"
SPLITS_OF = {"train+val": ("train", "val"), "all": ("train", "val", "test")}
IDS = 8  # printed at most; the rest stands in the file that is named
GPU_TFLOPS, UTILISATION = 790.0, 0.45  # bf16 matrix rate of an H200; share of it that an eager SDPA step reaches
IMAGES_PER_PATIENT = 1.6  # of phantoms, on average
CPU_GFLOPS = 60.0  # one core, float32, as measured for these networks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default=artifact.ROOT / "config" / "config.yaml", type=Path)
    parser.add_argument("--root", help="folder of the data sets, as `root` in the configuration")
    arguments = parser.parse_args()
    values = _values(arguments.config)
    plan = Plan(load(values | ({"root": arguments.root} if arguments.root else {}), arguments.config))
    print(f"# {plan.config.title}\n")
    _data(plan)
    _sizes(plan)
    _weights(plan)
    _pretraining(plan)
    free = shutil.disk_usage(".").free / 2**30
    print(f"\ndisk: {free:.0f} GiB free here")


def _values(path: Path) -> dict:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(
            path, f"cannot be read ({getattr(error, 'strerror', None) or error})", fix="give a file such as config/paper.yaml"
        ) from None
    if not isinstance(values, dict):
        raise ConfigError(path, "not a configuration", expected="title, datasets, encoders, …, as in config/config.yaml")
    return values


def _data(plan: Plan) -> None:
    print("## Data")
    for name, entry in plan.config.datasets.items():
        gap = plan.data_gap(name)
        if gap:
            print(f"- missing  {name}: {gap}")
        elif entry.reader == "phantom":
            print(f"- ready    {name}: generated, {entry.generate.get('patients')} patients")
        elif release := _release(name, entry.reader):
            print("\n".join([f"- ready    {name}: {release}", *_not_kept(name)]))
        elif entry.reader != "folder":
            print(f"- ready    {name}: {entry.root} (reader {entry.reader}); counted and compared with its releases once it is indexed")
        else:
            files = sum(1 for path in Path(entry.root, "images").glob("*") if path.is_file())
            side = entry.max_side or 2500
            print(f"- ready    {name}: {files} files in {entry.root}; image store up to {files * side * side * 0.85 / 2**30:.1f} GiB")


def _release(name: str, reader: str) -> str:
    """How an index compares with the known releases of its data set; empty without an index."""
    folder, meta = Path("results/index") / name, _indexed(name)
    if meta is None:
        return ""
    found, releases = meta.facts["release"], known_releases(reader)
    text = f"{found['images']} images, {found['studies']} studies, {found['patients']} patients; ids {found['ids'][:12]}"
    if meta.facts["quarantined"]:
        text += f"; {meta.facts['quarantined']} in {folder}/quarantine.csv"
    text += "".join(f"; {entry}" for entry in meta.facts["processing"])
    if meta.facts["left_out"]:
        text += f"; {meta.facts['left_out']} in {folder}/left_out.csv"
    if not releases:
        return text
    whole = [version for version, counts in releases.items() if all(found[what] == count for what, count in counts.items())]
    if whole:
        return f"{text}; the counts of release {', '.join(whole)}"

    def apart(version: str) -> int:
        return sum(abs(found[what] - count) for what, count in releases[version].items())

    nearest = min(releases, key=apart)
    differences = [f"{found[what] - count:+d} {what}" for what, count in releases[nearest].items() if found[what] != count]
    return f"{text}; nearest release {nearest}: {', '.join(differences)} (a subset, or another version)"


def _sizes(plan: Plan) -> None:
    """Images of each split that a task would use, beside the paper's; where they differ, the ids that it cannot use."""
    runs = [("linear_probe", name, run.paper, {"sites": run.sites}) for name, run in plan.probes.items()]
    runs += [("segmentation", name, run.paper, {"structures": {part for parts in run.structures.values() for part in parts}})
             for name, run in plan.segmentations.items()]  # fmt: skip
    runs += [("report_generation", name, entry.paper, {"report": True}) for name, (_, entry) in plan.evaluations.items()]
    with open(PUBLISHED, encoding="utf-8", newline="") as file:
        published = list(csv.DictReader(file))
    lines = []
    for task, name, paper, wanted in runs:
        stated = [row for row in published if row["dataset"] == paper and row["task"] == task]
        if stated and _indexed(name):
            lines += _compared(name, stated, wanted)
    if lines:
        print("\n## Sizes, against the paper's\n" + "\n".join(lines))


def _indexed(name: str) -> artifact.Meta | None:
    folder = Path("results/index") / name
    meta = artifact.read(folder) if (folder / "meta.json").exists() else None
    return None if meta is None or meta.absent else meta


def _compared(name: str, stated: list[dict[str, str]], wanted: dict) -> list[str]:
    """One line per split that the paper states; the ids that the task cannot use follow a difference."""
    folder = Path("results/index") / name
    index = Index(folder)
    lines, different = [], False
    for row in stated:
        used = np.concatenate([index.rows(split, **wanted) for split in SPLITS_OF.get(row["split"], (row["split"],))])
        count = len(used) if row["unit"] == "images" else len(set(index["study_id"][used]))
        apart, note = count - int(row["count"]), f"; {row['note']}" if row["note"] else ""
        different |= apart != 0
        verdict = f"the paper has {row['count']} ({apart:+d}){note}" if apart else "as the paper"
        lines.append(f"- {name}, {row['split']}: {count} {row['unit']}, {verdict}")
    if not different:
        return lines
    unusable = np.setdiff1d(index.rows(), index.rows(**wanted))
    return lines + _listed("without what the task needs", index["image_id"][unusable], folder / "index.parquet")


def _not_kept(name: str) -> list[str]:
    """The first ids of what the tables list and the index has not, and of what lies there unlisted, by reason."""
    folder, lines = Path("results/index") / name, []
    for title, file, column in (("left out", "left_out.csv", "image_id"), ("in quarantine", "quarantine.csv", "file")):
        table = pd.read_csv(folder / file, dtype=str, keep_default_na=False)
        for reason, part in table.groupby("reason"):
            lines += _listed(f"{title}: {reason}", list(part[column]), folder / file)
    return lines


def _listed(title: str, ids: Sequence[str], file: Path) -> list[str]:
    rest = f", … all in {file}" if len(ids) > IDS else ""
    return [f"  - {len(ids)} {title}: {', '.join(ids[:IDS])}{rest}"] if len(ids) else []


def _weights(plan: Plan) -> None:
    print("\n## Encoders")
    for name in plan.encoders:
        gap = plan.weights_gap(name)
        card = plan.card(name)
        print(f"- {'missing ' if gap else 'ready   '} {name} ({card.title}, {card.architecture}){': ' + gap if gap else ''}")


def _pretraining(plan: Plan) -> None:
    print("\n## Pretraining")
    from .pretrain import Protocol
    from .protocol import from_overrides

    for name, run in plan.config.pretrain.items():
        protocol = from_overrides(Protocol, run.protocol, f"pretrain.{name}.protocol")
        images = [_count(plan, part) for part in run.data]
        gap = plan.run_gap(name)
        if gap or None in images:
            print(f"- {'missing ' if gap else 'unknown '} {name}: {gap or 'the indexes are not made yet'}; "
                  f"{step_gflop(protocol):.3g} GFLOP per image and epoch")  # fmt: skip
            continue
        gflop = sum(images) * protocol.epochs * step_gflop(protocol)
        print(f"- ready    {name}: {sum(images)} images x {protocol.epochs:g} epochs x {step_gflop(protocol):.2f} GFLOP = "
              f"{gflop / (GPU_TFLOPS * UTILISATION * 3.6e6):.2f} H200 hours or {gflop / CPU_GFLOPS / 3600:.1f} CPU-core hours")  # fmt: skip


def _count(plan: Plan, part: DataPart) -> int | None:
    """Images of the splits and sites that a run learns from: from the index, or for generated data the expected number."""
    if _indexed(part.dataset):
        index = Index(Path("results/index") / part.dataset)
        rows = index.rows(sites=part.sites)
        return len(rows) if part.splits is None else int(np.isin(index["split"][rows].astype(str), part.splits).sum())
    entry = plan.config.datasets[part.dataset]
    if entry.reader != "phantom":
        return None
    sites = entry.generate.get("sites") or {"A": 1.0}
    of_sites = sum(sites.get(name, 0) for name in part.sites or sites) / sum(sites.values())
    of_splits = sum(entry.shares.get(name, 0) for name in part.splits or ()) if part.splits is not None else 1
    return round(entry.generate["patients"] * IMAGES_PER_PATIENT * of_sites * of_splits)


def step_gflop(protocol) -> float:
    """GFLOP per image of one I-JEPA step: target forward, context forward and backward, four predictor passes.

    A transformer block costs 24 n w^2 + 4 n^2 w operations for n tokens of width w; backward costs twice the forward.
    """
    fields = dataclasses.asdict(protocol)
    tokens = (fields["image_size"] // fields["patch"]) ** 2
    context, target = round(0.3 * tokens), round(0.175 * tokens)

    def forward(count: int, width: int, depth: int) -> float:
        return depth * (24 * count * width**2 + 4 * count**2 * width)

    encoder = forward(tokens, fields["width"], fields["depth"]) + 3 * forward(context, fields["width"], fields["depth"])
    predictor = 4 * 3 * forward(context + target, fields["predictor_width"], fields["predictor_depth"])
    return (encoder + predictor) / 1e9


if __name__ == "__main__":
    run_entry_point(main)
