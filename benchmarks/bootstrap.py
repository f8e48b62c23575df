"""How much faster than a scikit-learn loop is the bootstrap of AP and AUROC, and how far do the numbers differ?

    python benchmarks/bootstrap.py [--resamples 500] [--slice 25] [--repeats 3]

Six classes at VinDr's sizes and prevalences, 3,000 patients with one image each, scores with some ties. Both sides are measured in
this one run, in process CPU seconds, one after the other. The loop calls `average_precision_score` and `roc_auc_score` with
`sample_weight` for every class and resample; it runs on the first resamples only (`--slice`), and its time is multiplied up.
"""

import argparse
import sys
import time
import warnings
from pathlib import Path

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from stats.bootstrap import resample_patients  # noqa: E402
from stats.ranking import average_precision_and_auroc  # noqa: E402

PATIENTS = 3000
POSITIVES = {"LO": 84, "CM": 309, "PL-T": 169, "AE": 219, "PF": 216, "PE": 111}


def data(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Targets and scores (6, 3000); scores have three decimals, so that many images are tied."""
    random, targets = np.random.default_rng(seed), np.zeros((len(POSITIVES), PATIENTS), dtype=bool)
    for target, count in zip(targets, POSITIVES.values(), strict=True):
        target[random.choice(PATIENTS, count, replace=False)] = True
    return targets, np.round(1 / (1 + np.exp(2 - 1.8 * targets - random.normal(size=targets.shape))), 3)


def ours(targets: np.ndarray, scores: np.ndarray, ids: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """(6, 2, B) AP and AUROC, drawing included."""
    counts = resample_patients(ids, resamples, seed).of_images(ids)
    return np.array([average_precision_and_auroc(target, score, counts) for target, score in zip(targets, scores, strict=True)])


def loop(targets: np.ndarray, scores: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The same with scikit-learn, resample by resample; NaN where a class is missing."""
    found = np.full((len(targets), 2, len(counts)), np.nan)
    for k, (target, score) in enumerate(zip(targets, scores, strict=True)):
        for b, weight in enumerate(counts):
            if weight[target].any():
                found[k, 0, b] = average_precision_score(target, score, sample_weight=weight)
                if weight[~target].any():
                    found[k, 1, b] = roc_auc_score(target, score, sample_weight=weight)
    return found


def seconds(call) -> tuple[float, np.ndarray]:
    """CPU seconds of a call, and what it gives."""
    started = time.process_time()
    value = call()
    return time.process_time() - started, value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--resamples", type=int, default=500)
    parser.add_argument("--slice", type=int, default=25, help="resamples that the loop runs on")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    targets, scores = data(arguments.seed)
    ids = np.array([f"p{k:04d}" for k in range(PATIENTS)], dtype=object)
    counts = np.ascontiguousarray(resample_patients(ids, arguments.resamples, arguments.seed).of_images(ids)[: arguments.slice])
    ours(targets, scores, ids, 2, 0), loop(targets, scores, counts[:1])  # both are imported and warm
    warnings.simplefilter("error")  # a loop that warns is not the loop that is meant
    ratios, worst, many = [], 0.0, arguments.resamples / len(counts)
    for _ in range(arguments.repeats):
        fast, found = seconds(lambda: ours(targets, scores, ids, arguments.resamples, arguments.seed))
        slow, expected = seconds(lambda: loop(targets, scores, counts))
        ratios.append(slow * many / fast)
        worst = max(worst, float(np.abs(found[:, :, : len(counts)] - expected).max()))
        print(f"ours {fast:.3f} s for {arguments.resamples} resamples x {len(targets)} classes, drawing included; scikit-learn "
              f"{slow:.2f} s for {len(counts)}, so {slow * many:.1f} s: {ratios[-1]:.0f} times", flush=True)  # fmt: skip
    print(f"median {np.median(ratios):.0f} times; largest difference {worst:.1e} over {found[:, :, : len(counts)].size} numbers")


if __name__ == "__main__":
    main()
