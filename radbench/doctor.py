"""What is here, what is missing and how to get it, and what a configuration will cost.

    python -m radbench.doctor --config config/paper.yaml --root /data/radiographs

Costs are orders of magnitude from floating-point operations (docs/performance.md, section "Cost model"), not promises.
"""

import argparse
import dataclasses
import shutil
from pathlib import Path

import yaml

from . import artifact
from .config import load
from .datasets import known_releases
from .errors import run_entry_point
from .plan import Plan

GPU_TFLOPS, UTILISATION = 790.0, 0.45  # bf16 matrix rate of an H200; share of it that an eager SDPA step reaches
CPU_GFLOPS = 60.0  # one core, float32, as measured for these networks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="config/config.yaml", type=Path)
    parser.add_argument("--root", help="folder of the data sets, as `root` in the configuration")
    arguments = parser.parse_args()
    values = yaml.safe_load(arguments.config.read_text())
    plan = Plan(load(values | ({"root": arguments.root} if arguments.root else {}), arguments.config))
    print(f"# {plan.config.title}\n")
    _data(plan)
    _weights(plan)
    _pretraining(plan)
    free = shutil.disk_usage(".").free / 2**30
    print(f"\ndisk: {free:.0f} GiB free here")


def _data(plan: Plan) -> None:
    print("## Data")
    for name, entry in plan.config.datasets.items():
        gap = plan.data_gap(name)
        if gap:
            print(f"- missing  {name}: {gap}")
        elif entry.reader == "phantom":
            print(f"- ready    {name}: generated, {entry.generate.get('patients')} patients")
        elif release := _release(name, entry.reader):
            print(f"- ready    {name}: {release}")
        elif entry.reader != "folder":
            print(f"- ready    {name}: {entry.root} (reader {entry.reader}); counted and compared with its releases once it is indexed")
        else:
            files = sum(1 for path in Path(entry.root, "images").glob("*") if path.is_file())
            side = entry.max_side or 2500
            print(f"- ready    {name}: {files} files in {entry.root}; image store up to {files * side * side * 0.85 / 2**30:.1f} GiB")


def _release(name: str, reader: str) -> str:
    """How an index compares with the known releases of its data set; empty without an index."""
    folder = Path("results/index") / name
    meta = artifact.read(folder) if (folder / "meta.json").exists() else None
    if meta is None or meta.absent:
        return ""
    found, releases = meta.facts["release"], known_releases(reader)
    text = f"{found['images']} images, {found['studies']} studies, {found['patients']} patients; ids {found['ids'][:12]}"
    if meta.facts["quarantined"]:
        text += f"; {meta.facts['quarantined']} in {folder}/quarantine.csv"
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
        images = [_count(plan, part.dataset) for part in run.data]
        gap = plan.run_gap(name)
        if gap or None in images:
            print(f"- {'missing ' if gap else 'unknown '} {name}: {gap or 'the indexes are not made yet'}; "
                  f"{step_gflop(protocol):.0f} GFLOP per image and epoch")  # fmt: skip
            continue
        gflop = sum(images) * protocol.epochs * step_gflop(protocol)
        print(f"- ready    {name}: {sum(images)} images x {protocol.epochs:g} epochs x {step_gflop(protocol):.2f} GFLOP = "
              f"{gflop / (GPU_TFLOPS * UTILISATION * 3.6e6):.2f} H200 hours or {gflop / CPU_GFLOPS / 3600:.1f} CPU-core hours")  # fmt: skip


def _count(plan: Plan, dataset: str) -> int | None:
    """Images of a data set: from its index, or for generated ones the expected number."""
    folder = Path("results/index") / dataset
    if (folder / "meta.json").exists():
        return artifact.read(folder).facts.get("images")
    entry = plan.config.datasets[dataset]
    return round(entry.generate["patients"] * 1.6) if entry.reader == "phantom" else None


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
