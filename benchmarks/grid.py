"""How long do the statistics of the whole paper take? 12 encoders, its 19 cells, every pair, many resamples.

    python benchmarks/grid.py --directory /tmp/grid [--resamples 10000] [--encoders 12]

Writes synthetic predictions of the paper's test sizes (5 folds for the probes, a quarter of the patients with two images)
and runs `stats.compare` on the five data sets, two at a time, as Snakemake would. Prints seconds and peak memory of each.
"""

import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "stats")]

from tests.stats.conftest import write_sidecar  # noqa: E402

#: task/dataset -> (images, prevalences or structures)
SETS = {
    "linear_probe/vindr_cxr": (3000, {"LO": 0.028, "CM": 0.103, "PL-T": 0.056, "AE": 0.073, "PF": 0.072, "PE": 0.037}),
    "linear_probe/rsna": (5337, {"Pneumonia": 0.225}),
    "segmentation/mimic": (171, {"lungs": ["left", "right"], "zones": [f"zone{k}" for k in range(6)]}),
    "segmentation/ribcxr": (49, {"ribs": [f"rib{k}" for k in range(20)]}),
    "report_generation/mimic_cxr": (2461, None),
    "report_generation/iu_xray": (3306, None),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--directory", required=True, type=Path)
    parser.add_argument("--resamples", type=int, default=10_000)
    parser.add_argument("--encoders", type=int, default=12)
    arguments = parser.parse_args()
    names = [f"encoder{k:02d}" for k in range(arguments.encoders)]
    arguments.directory.mkdir(parents=True, exist_ok=True)
    os.chdir(arguments.directory)
    for place in SETS:
        for number, name in enumerate(names):
            if not Path("results", place, name, "meta.json").is_file():
                write(place, name, np.random.default_rng([number, len(place)]))
    started = time.perf_counter()
    with ThreadPoolExecutor(2) as pool:
        for place, seconds, mebibytes in pool.map(lambda place: compare(place, names, arguments.resamples), SETS):
            print(f"{place:30} {seconds:6.1f} s  {mebibytes:6.0f} MiB", flush=True)
    print(f"{'all, two at a time':30} {time.perf_counter() - started:6.1f} s")


def write(place: str, name: str, random: np.random.Generator) -> None:
    """One encoder's predictions in the format of docs/formats.md."""
    task, dataset = place.split("/")
    images, parts = SETS[place]
    shared = np.random.default_rng(7)
    patients = np.array([f"{dataset}:{max(0, k - (k % 5 == 4)):05d}" for k in range(images)])  # every fifth image is a second one
    base = {"dataset": dataset, "task": task, "encoder": name, "image_id": [f"i{k:05d}" for k in range(images)], "patient_id": patients,
            "study_id": patients, "sex": np.where(np.arange(images) % 2, "F", "M"), "age_band": "", "view": "", "site": ""}  # fmt: skip
    frames = []
    if task == "linear_probe":
        for label, prevalence in parts.items():
            target = shared.random(images) < prevalence
            for replicate in range(5):
                score = 1 / (1 + np.exp(3 - 2 * target - random.normal(size=images)))
                frames.append(pd.DataFrame(base | {"replicate": replicate, "label": label, "target": target.astype(np.float32),
                                                   "score": score.astype(np.float32)}))  # fmt: skip
    elif task == "segmentation":
        for structure_set, structures in parts.items():
            for structure in structures:
                dice = np.clip(0.9 + 0.05 * random.normal(size=images), 0, 1)
                row = {
                    "replicate": 0,
                    "structure_set": structure_set,
                    "structure": structure,
                    "intersection": 1,
                    "pred_area": 1,
                    "ref_area": 1,
                }
                frames.append(pd.DataFrame(base | row | {"dice": dice, "hd95": 1 - dice, "nsd": dice}))
    else:
        length = shared.integers(20, 90, images)
        guess = np.maximum(length[:, None] - np.arange(4), 0)
        match = (guess * np.clip(0.3 + 0.1 * random.normal(size=(images, 1)), 0, 1)).astype(int)
        rows = base | {"replicate": 0, "reference": "the heart is normal", "hypothesis": "heart normal", "hyp_len": length,
                       "ref_len": length + 1}  # fmt: skip
        rows |= {metric: random.random(images) for metric in ("rouge_l", "rouge_l_coco", "rg_er")}
        rows |= {f"bleu_{kind}_{k + 1}": part[:, k] for kind, part in (("match", match), ("guess", guess)) for k in range(4)}
        truth = shared.integers(0, 4, (images, 14))
        said = np.where(random.random((images, 14)) < 0.6, truth, random.integers(0, 4, (images, 14)))
        rows |= {f"chexbert_{side}_{k}": part[:, k] for side, part in (("ref", truth), ("hyp", said)) for k in range(14)}
        frames.append(pd.DataFrame(rows))
    folder = Path("results", place, name)
    folder.mkdir(parents=True, exist_ok=True)
    pd.concat(frames, ignore_index=True).to_parquet(folder / "predictions.parquet", index=False)
    facts = {"card": {}, "measured": {}, "protocol": {}, "version": 1, "reduced": [], "replicates": "folds"}
    write_sidecar(folder, "predictions", f"{place}/{name}", facts)


def compare(place: str, names: list[str], resamples: int) -> tuple[str, float, float]:
    """Seconds and peak memory (MiB) of one call of stats.compare."""
    task, dataset = place.split("/")
    command = [sys.executable, "-m", "stats.compare", "--task", task, "--dataset", dataset, "--reference", names[0], "--resamples",
               str(resamples), "--out", f"results/stats/{place}", *(f"results/{place}/{name}" for name in names)]  # fmt: skip
    started = time.perf_counter()
    process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{place}: exit status {status}")
    return place, time.perf_counter() - started, usage.ru_maxrss / 1024


if __name__ == "__main__":
    main()
