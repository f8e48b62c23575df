"""Evidence that pretraining learns: RadJEPA's probe against its own initial weights, three seeds.

    python benchmarks/learning.py --directory somewhere        about 45 CPU minutes on one core

Writes `learning.csv` (a row per seed and finding: difference in AUPRC to random_vit and to raw_pixels with its 95 %
interval) and `collapse.csv` (first, middle and last row of each seed's training log) into the directory, and prints them.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import yaml

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--directory", required=True, type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--cores", default="1")
    arguments = parser.parse_args()
    arguments.directory.mkdir(parents=True, exist_ok=True)
    comparisons, logs = [], []
    for seed in arguments.seeds:
        config = yaml.safe_load((ROOT / "benchmarks" / "learning.yaml").read_text())
        config["pretrain"]["radjepa"]["protocol"]["seed"] = seed
        path = arguments.directory / f"seed{seed}.yaml"
        path.write_text(yaml.safe_dump(config, sort_keys=False))
        stats = "results/stats/linear_probe/phantom"
        command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "--configfile", str(path), "--cores", arguments.cores,
                   "--directory", str(arguments.directory), "--rerun-incomplete", f"{stats}/meta.json"]  # fmt: skip
        environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        subprocess.run(command, check=True, env=environment)
        table = pd.read_csv(arguments.directory / stats / "comparisons.csv")
        table = table[(table["encoder"] == "radjepa") & (table["metric"] == "auprc")]
        comparisons.append(table.assign(seed=seed)[["seed", "target", "other", "delta", "low", "high", "p_one_sided"]])
        log = pd.read_csv(arguments.directory / "results" / "pretrain" / "radjepa" / "log.csv")
        logs.append(log.iloc[[0, len(log) // 2, -1]].assign(seed=seed))
    learning, collapse = pd.concat(comparisons), pd.concat(logs)
    learning.to_csv(arguments.directory / "learning.csv", index=False)
    collapse.to_csv(arguments.directory / "collapse.csv", index=False)
    print(learning.to_string(index=False, float_format="%.3f"))
    print(collapse.to_string(index=False))


if __name__ == "__main__":
    main()
