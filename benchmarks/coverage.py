"""Do the intervals cover, and do the tests keep their level? Simulated studies with a known truth.

    python benchmarks/coverage.py [--studies 2000] [--resamples 500] [--out docs/coverage.md]

Scores of an image are binormal: positives are shifted by d, and two encoders share part of their noise, so the true AUROC
is Phi(d / sqrt 2) and the true AUPRC an integral. Sizes and prevalences are those of the paper's test sets. Dice is beta
distributed. Calibration: the said logits are a known line away from the true ones. Every function of `stats` is called as
`stats.compare` calls it.
"""

import argparse
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import beta, norm

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from stats.bootstrap import bca_interval, leave_some_out, p_one_sided, percentile_interval, resample_patients  # noqa: E402
from stats.calibration import recalibration_line  # noqa: E402
from stats.delong import delong  # noqa: E402
from stats.paired import p_corrected_resampled_t, p_equivalent, p_mcnemar, p_two_sided, p_wilcoxon, power  # noqa: E402
from stats.permutation import p_sign_flip, patient_signs  # noqa: E402
from stats.ranking import average_precision_and_auroc  # noqa: E402

#: title -> (images, positives) of the paper's test sets
CLASSIFICATION = {"VinDr Lung Opacity": (3000, 84), "VinDr Pleural thickening": (3000, 169), "VinDr Cardiomegaly": (3000, 309),
                  "RSNA Pneumonia": (5337, 1202)}  # fmt: skip
#: title -> images
SEGMENTATION = {"ribs": 49, "lungs, zones": 171}
SHIFT, SHARED = 1.8, 0.8  # d of both encoders (AUROC 0.90), correlation of their noise
DICE = (30.0, 3.5)  # mean 0.896, SD 0.052
LOGIT_SD = 1.2  # of the true chances
INTERCEPTS, SLOPES = np.linspace(-0.6, 0.2, 5), np.linspace(0.8, 1.2, 5)  # recalibration lines of five folds


def true_auprc(prevalence: float, shift: float) -> float:
    """Integral of precision over recall of the binormal model."""

    def precision(recall: float) -> float:
        false_positive_rate = norm.sf(shift + norm.isf(recall))
        return prevalence * recall / (prevalence * recall + (1 - prevalence) * false_positive_rate)

    return quad(precision, 0, 1, limit=200)[0]


def scores(random: np.random.Generator, images: int, positives: int, shifts: Iterable[float]) -> tuple[np.ndarray, np.ndarray]:
    """Targets (n,) and the scores (K, n) of encoders that share part of their noise; the number of positives varies as in a sample."""
    target = random.random(images) < positives / images
    common = random.normal(size=images)
    own = [shift * target + np.sqrt(SHARED) * common + np.sqrt(1 - SHARED) * random.normal(size=images) for shift in shifts]
    return target, np.array(own)


def dice(random: np.random.Generator, images: int, gain: float = 0.0) -> np.ndarray:
    """(2, n) Dice of two encoders that share the difficulty of an image; the first is better by `gain` on average."""
    shared = beta.ppf(norm.cdf(random.normal(size=images)), *DICE)
    return np.stack([shared + gain + 0.02 * random.normal(size=images), shared + 0.02 * random.normal(size=images)])


# ---------------------------------------------------------------- intervals


def coverage_of_classification(images: int, positives: int, studies: int, resamples: int, seed: int) -> dict[str, float]:
    """Share of studies whose 95 % interval holds the truth, for AUPRC and AUROC, percentile and BCa."""
    truth = true_auprc(positives / images, SHIFT), norm.cdf(SHIFT / np.sqrt(2))
    draws = resample_patients([f"{k:05d}" for k in range(images)], resamples, seed)  # the same counts serve every study
    without, counts = leave_some_out(draws), np.ascontiguousarray(draws.counts.T, dtype=np.uint16).T
    left_out = np.ascontiguousarray(without.counts.T, dtype=np.uint16).T
    random, hits = np.random.default_rng([seed, images, positives]), np.zeros((2, 2))
    for _ in range(studies):
        target, (score,) = scores(random, images, positives, [SHIFT])
        values = average_precision_and_auroc(target, score)
        samples, jackknife = (average_precision_and_auroc(target, score, matrix) for matrix in (counts, left_out))
        for k in range(2):
            interval = percentile_interval(samples[k])
            low, high = bca_interval(samples[k], float(values[k][0]), jackknife[k])
            hits[k] += interval.low <= truth[k] <= interval.high, low <= truth[k] <= high
    shares = hits / studies
    return {"AUPRC": shares[0, 0], "AUPRC, BCa": shares[0, 1], "AUROC": shares[1, 0], "AUROC, BCa": shares[1, 1]}


def coverage_of_a_mean(images: int, studies: int, resamples: int, seed: int) -> dict[str, float]:
    """The same for mean Dice."""
    ids = np.array([f"{k:05d}" for k in range(images)], dtype=object)
    draws = resample_patients(ids, resamples, seed)
    random, hits, truth = np.random.default_rng([seed, images]), 0, beta.mean(*DICE)
    for _ in range(studies):
        interval = percentile_interval(draws.resampled(draws.patient_sums(ids, dice(random, images)[0])) / images)
        hits += interval.low <= truth <= interval.high
    return {"Dice": hits / studies}


def coverage_of_recalibration(images: int, positives: int, studies: int, seed: int) -> dict[str, float]:
    """The same for the recalibration line, mean over five folds; a patient has two images whose outcomes are correlated."""
    random, hits = np.random.default_rng([seed, images, positives, 5]), np.zeros(2)
    patient, truth = np.arange(images) // 2, (INTERCEPTS.mean(), SLOPES.mean())
    grid = LOGIT_SD * norm.ppf((np.arange(1000) + 0.5) / 1000)
    middle = brentq(lambda logit: expit(logit + grid).mean() - positives / images, -20, 20)

    def clustered() -> np.ndarray:
        """Standard normal numbers, correlated 1/2 within a patient."""
        return np.sqrt(0.5) * (random.normal(size=patient[-1] + 1)[patient] + random.normal(size=images))

    for _ in range(studies):
        logit = middle + LOGIT_SD * clustered()
        target = norm.cdf(clustered()) < expit(logit)
        line = recalibration_line(target, expit((logit - INTERCEPTS[:, None]) / SLOPES[:, None]), patient)
        hits += [low <= value <= high for value, (_, low, high) in zip(truth, (line.intercept, line.slope), strict=True)]
    return {"recalibration intercept": hits[0] / studies, "recalibration slope": hits[1] / studies}


# ---------------------------------------------------------------- tests


def level_of_classification(images: int, positives: int, studies: int, resamples: int, seed: int, gain: float = 0.0) -> dict[str, float]:
    """Share of studies in which each test at 5 % calls the first of two encoders better (one-sided) or the two different (two-sided).

    With `gain` the first is better, by so much d.
    """
    draws = resample_patients([f"{k:05d}" for k in range(images)], resamples, seed)
    counts = np.ascontiguousarray(draws.counts.T, dtype=np.uint16).T
    random, found = np.random.default_rng([seed, images, positives, 1]), []
    for _ in range(studies):
        target, pair = scores(random, images, positives, [SHIFT + gain, SHIFT])
        samples = np.array([average_precision_and_auroc(target, score, counts) for score in pair])  # (2, 2, B)
        right = [(score > SHIFT / 2 + norm.isf(positives / images) / SHIFT) == target for score in pair]
        areas, delta = delong(target, pair), samples[0] - samples[1]
        found.append([_both(p_one_sided(delta[0]), p_one_sided(-delta[0])), _both(p_one_sided(delta[1]), p_one_sided(-delta[1])),
                      _both(areas.p_one_sided(0, 1), areas.p_one_sided(1, 0)),
                      _both(p_mcnemar(*right), p_mcnemar(*right[::-1]))])  # fmt: skip
    return _shares(found, "bootstrap, AUPRC", "bootstrap, AUROC", "DeLong", "McNemar")


def level_of_a_mean(images: int, studies: int, resamples: int, seed: int, gain: float = 0.0) -> dict[str, float]:
    """The same for mean Dice."""
    ids = np.array([f"{k:05d}" for k in range(images)], dtype=object)
    draws = resample_patients(ids, resamples, seed)
    signs = patient_signs(draws.patients, resamples, seed).astype(np.float64)
    random, found = np.random.default_rng([seed, images, 2]), []
    for _ in range(studies):
        one, other = dice(random, images, gain)
        delta = one - other
        drawn, flipped = draws.resampled(draws.patient_sums(ids, delta)) / images, signs @ delta / images
        found.append([_both(p_one_sided(drawn), p_one_sided(-drawn)),
                      (p_sign_flip(delta.mean(), flipped), p_sign_flip(abs(delta.mean()), np.abs(flipped))),
                      _both(p_wilcoxon(delta), p_wilcoxon(-delta))])  # fmt: skip
    return _shares(found, "bootstrap, Dice", "sign flip, Dice", "Wilcoxon, Dice")


def level_at_the_margin(images: int, studies: int, resamples: int, seed: int, margin: float = 0.01) -> dict[str, float]:
    """Equivalence by TOST when the true difference is exactly the margin: at most 5 % may be called equivalent."""
    ids = np.array([f"{k:05d}" for k in range(images)], dtype=object)
    draws = resample_patients(ids, resamples, seed)
    random = np.random.default_rng([seed, images, 3])
    found = []
    for _ in range(studies):
        one, other = dice(random, images, margin)
        found.append(p_equivalent(draws.resampled(draws.patient_sums(ids, one - other)) / images, margin))
    return {"equivalence (TOST) at the margin, Dice": np.mean(np.array(found) < 0.05)}


def level_of_corrected_t(studies: int, seed: int, folds: int = 5) -> dict[str, float]:
    """Folds whose differences are correlated as Nadeau and Bengio assume, n_test / (n_test + n_train)."""
    random, ratio = np.random.default_rng([seed, 4]), 1 / (folds - 1)
    shared = ratio / (1 + ratio)
    noise = np.sqrt(shared) * random.normal(size=(studies, 1)) + np.sqrt(1 - shared) * random.normal(size=(studies, folds))
    found = [[_both(p_corrected_resampled_t(row, r), p_corrected_resampled_t(-row, r)) for r in (ratio, 0.0)] for row in noise]
    return _shares(found, "corrected resampled t, 5 folds", "plain t, 5 folds (for comparison)")


def power_of_a_mean(images: int, studies: int, resamples: int, seed: int, gain: float) -> dict[str, float]:
    """Measured power of the bootstrap beside the closed form Phi(gain / SD - z)."""
    sd = np.sqrt(2) * 0.02 / np.sqrt(images)
    return {"measured": level_of_a_mean(images, studies, resamples, seed, gain)["bootstrap, Dice"], "closed form": power(gain, sd)}


def _both(p: float, other: float) -> tuple[float, float]:
    """One-sided and two-sided p, from the one-sided p of both directions."""
    return p, p_two_sided(p, other)


def _shares(p: list[list[tuple[float, float]]], *names: str) -> dict[str, float]:
    """Share of studies below 5 % of each test, one-sided and two-sided."""
    one, two = np.mean(np.array(p) < 0.05, axis=0).T
    return dict(zip((*names, *(f"{name}, two-sided" for name in names)), (*one, *two), strict=True))


# ---------------------------------------------------------------- the page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--resamples", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    size = arguments.studies, arguments.resamples, arguments.seed
    text = page(*size)
    print(text)
    if arguments.out:
        arguments.out.write_text(text)


def page(studies: int, resamples: int, seed: int) -> str:
    """Markdown with every table."""
    error = 100 * 1.96 * np.sqrt(0.05 * 0.95 / studies)
    parts = [
        "# Coverage, level and power",
        f"`python benchmarks/coverage.py --studies {studies} --resamples {resamples} --seed {seed} --out docs/coverage.md`",
        f"{studies} simulated studies each, {resamples} resamples; Monte Carlo error of a share near 5 or 95 %: ±{error:.1f} "
        f"points (Dice and recalibration: {4 * studies} studies, ±{error / 2:.1f}; corrected t: {10 * studies}).",
        "## Share of 95 % intervals that hold the truth (%)",
        table("test set", {f"{name} ({p} of {n})": coverage_of_classification(n, p, studies, resamples, seed)
                           for name, (n, p) in CLASSIFICATION.items()}),
        table("test set", {f"{name} ({n} images)": coverage_of_a_mean(n, 4 * studies, resamples, seed)
                           for name, n in SEGMENTATION.items()}),
        table("test set, five folds, two images of a patient", {
            f"{name} ({p} of {n})": coverage_of_recalibration(n, p, 4 * studies, seed) for name, (n, p) in CLASSIFICATION.items()}),
        "## Share of studies that call the first of two equal encoders better (%, one-sided tests at 5 %) or the two different (two-sided)",
        table("test set", {name: level_of_classification(n, p, studies, resamples, seed) for name, (n, p) in CLASSIFICATION.items()}),
        table("test set", {name: level_of_a_mean(n, 4 * studies, resamples, seed) | level_at_the_margin(n, 4 * studies, resamples, seed)
                           for name, n in SEGMENTATION.items()}),
        table("", {"": level_of_corrected_t(10 * studies, seed)}),
        "## Power of the paired bootstrap on mean Dice (%)",
        table("images, true difference", {f"{n}, {100 * gain:g} points": power_of_a_mean(n, studies, resamples, seed, gain)
                                          for n, gain in ((49, 0.007), (171, 0.003), (171, 0.005))}),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def table(corner: str, rows: dict[str, dict[str, float]], show: Callable[[float], str] = lambda value: f"{100 * value:.1f}") -> str:
    """Markdown table of rows of named shares."""
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    lines = [[corner, *columns], ["---", *("---:" for _ in columns)]]
    lines += [[title, *(show(row[name]) for name in columns)] for title, row in rows.items()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    main()
