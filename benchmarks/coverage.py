"""Do the intervals cover, and do the tests keep their level? Simulated studies with a known truth.

    python benchmarks/coverage.py [--studies 2000] [--resamples 500] [--jobs 2] [--out docs/coverage.md]

Scores of an image are binormal: positives are shifted by d, and two encoders share part of their noise, so the true AUROC
is Phi(d / sqrt 2) and the true AUPRC an integral. Sizes and prevalences are those of the paper's test sets; small test sets and
weak encoders, on which intervals of AUPRC hold the truth less often, have tables of their own. Dice is beta distributed.
Calibration: the said logits are a known function of the true ones. Reports: matches of n-grams are binomial, with a chance that
the reports of a patient share. Folds: real probes on other training and test images in each study.
Every function of `stats` is called as `stats.compare` calls it.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from pathlib import Path

import numpy as np
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import beta, norm

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from stats.bootstrap import (  # noqa: E402
    PatientResamples,
    bca_interval,
    leave_some_out,
    p_one_sided,
    percentile_interval,
    replicate_weights,
    resample_patients,
    shifted_interval,
    two_level,
)
from stats.calibration import Gaps, calibration_interval, equal_mass_bins, recalibration_line  # noqa: E402
from stats.compare import Settings, differences  # noqa: E402
from stats.delong import delong  # noqa: E402
from stats.measures import Measurement  # noqa: E402
from stats.paired import p_corrected_resampled_t, p_equivalent, p_mcnemar, p_non_inferior, p_two_sided, p_wilcoxon, power  # noqa: E402
from stats.permutation import p_sign_flip, patient_signs  # noqa: E402
from stats.ranking import average_precision, average_precision_and_auroc  # noqa: E402
from stats.text import corpus_bleu4  # noqa: E402

#: title -> (images, positives) of the paper's test sets
CLASSIFICATION = {"VinDr Lung Opacity": (3000, 84), "VinDr Pleural thickening": (3000, 169), "VinDr Cardiomegaly": (3000, 309),
                  "RSNA Pneumonia": (5337, 1202)}  # fmt: skip
RAREST = "VinDr Lung Opacity"
TWICE = "VinDr Cardiomegaly"  # also with two images of each patient, whose findings and scores are correlated 1/2
#: title -> images
SEGMENTATION = {"ribs": 49, "lungs, zones": 171}
SHIFT, SHARED = 1.8, 0.8  # d of both encoders (AUROC 0.90), correlation of their noise
DICE = (30.0, 3.5)  # mean 0.896, SD 0.052
LOGIT_SD = 1.2  # of the true chances
AGGREGATED = (84, 309, 169, 219, 216, 111)  # positives of the six printed labels among VinDr's 3,000
WEAK = 0.6  # d of encoders that know little: AUROC 0.66
#: title -> images, positives of each label whose mean is taken
SMALL = {"5 of 219": (219, (5,)), "9 of 219": (219, (9,)), "21 of 219": (219, (21,)), "20 of 109": (109, (20,)),
         "mean over 13 labels, 5 to 39 of 219": (219, (30, 9, 13, 15, 21, 7, 9, 5, 39, 12, 18, 15, 8)),
         "mean over 6 labels, 17 to 24 of 109": (109, (24, 19, 19, 21, 17, 21)),
         "mean over VinDr's 6 labels, 84 to 309 of 3000": (3000, AGGREGATED)}  # fmt: skip
POSITIVES = (3, 5, 7, 10, 15)  # patients with the finding, of FEW_IMAGES with an image each
FEW_IMAGES = 219
#: title -> (images, positives) of the training set and of the test set
LEARNED = {"VinDr Lung Opacity": ((15000, 420), (3000, 84)), "VinDr Cardiomegaly": ((15000, 1545), (3000, 309)),
           "2,000 images of one's own": ((1600, 320), (400, 80)), "few to learn from, many to test": ((200, 60), (3000, 900))}  # fmt: skip
APART = 1.6  # distance of the class means in units of the noise, on which a probe of many images would reach an AUROC of 0.87
MARGIN = 0.02  # of the non-inferiority tests, as shipped
#: Others beside one that is as good as the reference: how far behind in mean Dice, and how alike their errors are to the reference's.
RIVALS = {"too": (0.0, 0.5), "0.3 points behind, correlation 0.9": (0.003, 0.9), "0.3 points behind, correlation 0.95": (0.003, 0.95),
          "0.2 points behind, correlation 0.99": (0.002, 0.99)}  # fmt: skip
AT_THE_MARGIN = "non-inferiority"  # start of the names of their shares, which stand in a table of their own
#: title -> the said logit of a true logit t, in data whose middle is m
SAID: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "ECE, perfect": lambda t, m: t,
    "ECE, a little too extreme": lambda t, m: (t + 0.3) / 0.8,
    "ECE, far too extreme": lambda t, m: (t + 0.8) / 0.6,
    "ECE, too high": lambda t, m: t + 0.25,
    "ECE, wavy": lambda t, m: t + 0.4 * np.sin(5 * (t - m)),
    "ECE, balanced": lambda t, m: t - m,  # of a loss that counts positives and negatives alike
}
REPORTS, OF_A_PATIENT = 2460, 3  # MIMIC-CXR's test set is of this size
QUALITY = (6.0, 9.0)  # chance that a word matches: mean 0.4
INTERCEPTS, SLOPES = np.linspace(-0.6, 0.2, 5), np.linspace(0.8, 1.2, 5)  # recalibration lines of five folds


def true_auprc(prevalence: float, shift: float) -> float:
    """Integral of precision over recall of the binormal model."""

    def precision(recall: float) -> float:
        false_positive_rate = norm.sf(shift + norm.isf(recall))
        return prevalence * recall / (prevalence * recall + (1 - prevalence) * false_positive_rate)

    return quad(precision, 0, 1, limit=200)[0]


def normals(random: np.random.Generator, images: int, of_a_patient: int = 1) -> np.ndarray:
    """(n,) standard normal numbers, correlated 1/2 within the images of a patient, which follow each other."""
    if of_a_patient == 1:
        return random.normal(size=images)
    shared = random.normal(size=-(-images // of_a_patient)).repeat(of_a_patient)[:images]  # the last patient may have fewer
    return np.sqrt(0.5) * (shared + random.normal(size=images))


def scores(
    random: np.random.Generator, images: int, positives: int, shifts: Iterable[float], of_a_patient: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Targets (n,) and the scores (K, n) of encoders that share part of their noise; the number of positives varies as in a sample."""
    chance = random.random(images) if of_a_patient == 1 else norm.cdf(normals(random, images, of_a_patient))
    target = chance < positives / images
    common = normals(random, images, of_a_patient)
    own = [shift * target + np.sqrt(SHARED) * common + np.sqrt(1 - SHARED) * normals(random, images, of_a_patient) for shift in shifts]
    return target, np.array(own)


def dice(random: np.random.Generator, images: int, gain: float = 0.0) -> np.ndarray:
    """(2, n) Dice of two encoders that share the difficulty of an image; the first is better by `gain` on average."""
    shared = beta.ppf(norm.cdf(random.normal(size=images)), *DICE)
    return np.stack([shared + gain + 0.02 * random.normal(size=images), shared + 0.02 * random.normal(size=images)])


def studies_with_draws(studies: int, ids: np.ndarray, resamples: int, seed: int) -> Iterator[PatientResamples]:
    """Resamples for each study, others every hundred studies, so that the luck of one set does not move a whole row."""
    for study in range(studies):
        if study % 100 == 0:
            draws = resample_patients(ids, resamples, seed + 1_000_003 * study)
        yield draws


def names(count: int) -> np.ndarray:
    """Sorted ids of so many images or patients."""
    return np.array([f"{k:05d}" for k in range(count)], dtype=object)


# ---------------------------------------------------------------- intervals


def coverage_of_classification(
    images: int, positives: int, studies: int, resamples: int, seed: int, of_a_patient: int = 1
) -> dict[str, float]:  # fmt: skip
    """Share of studies whose 95 % interval holds the truth, for AUPRC and AUROC, percentile and BCa."""
    truth = true_auprc(positives / images, SHIFT), norm.cdf(SHIFT / np.sqrt(2))
    ids = names(images // of_a_patient).repeat(of_a_patient)
    random, hits = np.random.default_rng([seed, images, positives]), np.zeros((2, 2))
    left_out = leave_some_out(resample_patients(ids, 1, seed)).of_images(ids)
    for draws in studies_with_draws(studies, ids, resamples, seed):
        counts = draws.of_images(ids)
        target, (score,) = scores(random, images, positives, [SHIFT], of_a_patient)
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
    ids = names(images)
    random, hits, truth = np.random.default_rng([seed, images]), 0, beta.mean(*DICE)
    for draws in studies_with_draws(studies, ids, resamples, seed):
        interval = percentile_interval(draws.resampled(draws.patient_sums(ids, dice(random, images)[0])) / images)
        hits += interval.low <= truth <= interval.high
    return {"Dice": hits / studies}


def coverage_of_recalibration(images: int, positives: int, studies: int, seed: int) -> dict[str, float]:
    """The same for the recalibration line, mean over five folds; a patient has two images whose outcomes are correlated."""
    random, hits = np.random.default_rng([seed, images, positives, 5]), np.zeros(2)
    patient = np.arange(images) // 2
    grid = LOGIT_SD * norm.ppf((np.arange(1000) + 0.5) / 1000)
    middle = brentq(lambda logit: expit(logit + grid).mean() - positives / images, -20, 20)
    said = (middle + grid - INTERCEPTS[:, None]) / SLOPES[:, None]
    # with the slope held at 1
    in_the_large = [brentq(lambda a, one=one: expit(a + one).mean() - positives / images, -20, 20) for one in said]
    truth = np.mean(in_the_large), SLOPES.mean()

    for _ in range(studies):
        logit = middle + LOGIT_SD * normals(random, images, 2)
        target = norm.cdf(normals(random, images, 2)) < expit(logit)
        line = recalibration_line(target, expit((logit - INTERCEPTS[:, None]) / SLOPES[:, None]), patient)
        hits += [low <= value <= high for value, (_, low, high) in zip(truth, (line.intercept, line.slope), strict=True)]
    return {"recalibration intercept": hits[0] / studies, "recalibration slope": hits[1] / studies}


def difference_in_classification(images: int, positives: int, studies: int, resamples: int, seed: int) -> dict[str, float]:
    """The same for the difference of two encoders, as Table 6 prints it; and the level of non-inferiority.

    The first encoder is worse by exactly the margin in AUPRC, so at most 5 % of the studies may call it not inferior.
    """
    prevalence = positives / images
    wanted = true_auprc(prevalence, SHIFT) - MARGIN
    worse = brentq(lambda shift: true_auprc(prevalence, shift) - wanted, 0.1, SHIFT)
    truth = -MARGIN, norm.cdf(worse / np.sqrt(2)) - norm.cdf(SHIFT / np.sqrt(2))
    ids = names(images)
    random, hits, inferior = np.random.default_rng([seed, images, positives, 6]), np.zeros(2), 0
    for draws in studies_with_draws(studies, ids, resamples, seed):
        counts = draws.of_images(ids)
        target, pair = scores(random, images, positives, [worse, SHIFT])
        one, other = (np.array(average_precision_and_auroc(target, score, counts)) for score in pair)
        intervals = [percentile_interval(delta) for delta in one - other]
        hits += [interval.low <= value <= interval.high for interval, value in zip(intervals, truth, strict=True)]
        inferior += p_non_inferior(one[0] - other[0], MARGIN) < 0.05
    return {"difference of AUPRC": hits[0] / studies, "difference of AUROC": hits[1] / studies,
            "non-inferiority at the margin, AUPRC": inferior / studies}  # fmt: skip


def difference_of_means(images: int, studies: int, resamples: int, seed: int) -> dict[str, float]:
    """The same for mean Dice, of which the first encoder has less by the margin."""
    ids = names(images)
    random, hits, inferior = np.random.default_rng([seed, images, 7]), 0, 0
    for draws in studies_with_draws(studies, ids, resamples, seed):
        one, other = dice(random, images, -MARGIN)
        drawn = draws.resampled(draws.patient_sums(ids, one - other)) / images
        interval = percentile_interval(drawn)
        hits += interval.low <= -MARGIN <= interval.high
        inferior += p_non_inferior(drawn, MARGIN) < 0.05
    return {"difference of Dice": hits / studies, "non-inferiority at the margin, Dice": inferior / studies}


def coverage_of_an_aggregate(images: int, positives: Iterable[int], studies: int, resamples: int, seed: int) -> dict[str, float]:
    """The same for the mean over labels, whose scores share part of an image's noise."""
    positives = tuple(positives)
    truth = np.mean([true_auprc(count / images, SHIFT) for count in positives]), norm.cdf(SHIFT / np.sqrt(2))
    ids = names(images)
    random, hits = np.random.default_rng([seed, images, 8]), np.zeros(2)
    for draws in studies_with_draws(studies, ids, resamples, seed):
        counts = draws.of_images(ids)
        common, of_labels = random.normal(size=images), []
        for count in positives:
            target = random.random(images) < count / images
            score = SHIFT * target + np.sqrt(0.5) * common + np.sqrt(0.5) * random.normal(size=images)
            of_labels.append(average_precision_and_auroc(target, score, counts))
        for k, samples in enumerate(np.mean(of_labels, axis=0)):
            interval = percentile_interval(samples)
            hits[k] += interval.low <= truth[k] <= interval.high
    return {"AUPRC": hits[0] / studies, "AUROC": hits[1] / studies}


def coverage_of_auprc(images: int, positives: Iterable[int], shift: float, studies: int, resamples: int, seed: int) -> dict[str, float]:
    """The same for the AUPRC of a label, or its mean over labels, with all three intervals of the CSV; `shift` is d of the encoder.

    A test set without a positive has no AUPRC and is drawn again.
    """
    positives = tuple(positives)
    truth = np.mean([true_auprc(count / images, shift) for count in positives])
    ids = names(images)
    random, hits = np.random.default_rng([seed, images, len(positives), int(10 * shift), 13]), np.zeros(3)
    left_out = leave_some_out(resample_patients(ids, 1, seed)).of_images(ids)
    for draws in studies_with_draws(studies, ids, resamples, seed):
        common, found = random.normal(size=images), []
        for count in positives:
            target = np.zeros(images, dtype=bool)
            while not target.any():
                target = random.random(images) < count / images
            score = shift * target + np.sqrt(0.5) * common + np.sqrt(0.5) * random.normal(size=images)
            found.append([average_precision(target, score, *counts) for counts in ((), (draws.of_images(ids),), (left_out,))])
        value, samples, jackknife = (np.mean(parts, axis=0) for parts in zip(*found, strict=True))
        interval = percentile_interval(samples)
        ends = (interval.low, interval.high), bca_interval(samples, value[0], jackknife), shifted_interval(samples, value[0])
        hits += [low <= truth <= high for low, high in ends]
    return dict(zip(("percentile (in the tables)", "BCa", "shifted"), hits / studies, strict=True))


def chances(images: int, positives: int) -> tuple[float, np.ndarray]:
    """Middle of the true logits that gives so many positives on average, and a fine grid of their spread around it."""
    grid = LOGIT_SD * norm.ppf((np.arange(10_000) + 0.5) / 10_000)
    return brentq(lambda logit: expit(logit + grid).mean() - positives / images, -20, 20), grid


def true_calibration_error(middle: float, grid: np.ndarray, said: Callable[[np.ndarray, float], np.ndarray], bins: int = 10) -> float:
    """Calibration error of endlessly many images: bins at the deciles of the said probability."""
    logit = middle + grid
    order = np.argsort(said(logit, middle))
    gaps = (expit(said(logit, middle)) - expit(logit))[order].reshape(bins, -1).sum(axis=1)
    return float(np.abs(gaps).sum() / grid.size)


def coverage_of_calibration_error(
    images: int, positives: int, studies: int, resamples: int, seed: int, folds: int = 1, of_a_patient: int = 1
) -> dict[str, float]:  # fmt: skip
    """The same for the calibration error with its interval by test inversion, of probabilities that are wrong in several ways.

    Folds say logits that are a little apart, the mean one is as `SAID` has it; outcomes of a patient's images are correlated.
    """
    middle, grid = chances(images, positives)
    apart = np.linspace(-0.1, 0.1, folds) if folds > 1 else np.zeros(1)
    truth = [np.mean([true_calibration_error(middle, grid, lambda t, m, say=say, by=by: say(t, m) + by) for by in apart])
             for say in SAID.values()]  # fmt: skip
    ids = names(images // of_a_patient).repeat(of_a_patient)
    random, hits = np.random.default_rng([seed, images, positives, 9]), np.zeros(len(SAID))
    for draws in studies_with_draws(studies, ids, resamples, seed):
        logit = middle + LOGIT_SD * normals(random, images, of_a_patient)
        target = norm.cdf(normals(random, images, of_a_patient)) < expit(logit)
        for k, say in enumerate(SAID.values()):
            parts = []
            for by in apart:
                said = expit(say(logit, middle) + by)
                cut = equal_mass_bins(said)
                per_bin = np.zeros((images, 3, cut.count))
                per_bin[np.arange(images), :, cut.of_image] = np.stack([np.ones(images), said, target], axis=1)
                parts.append(draws.patient_sums(ids, per_bin))
            interval = calibration_interval(Gaps.mean([Gaps.of(part.sum(axis=0), draws.resampled(part)) for part in parts]))
            hits[k] += interval.low <= truth[k] <= interval.high
    return dict(zip(SAID, hits / studies, strict=True))


def coverage_of_reports(studies: int, resamples: int, seed: int) -> dict[str, float]:
    """The same for corpus BLEU-4 and a mean over reports; the reports of a patient resemble each other."""
    patients = names(REPORTS // OF_A_PATIENT).repeat(OF_A_PATIENT)
    random, hits = np.random.default_rng([seed, 10]), np.zeros(2)
    lengths = np.arange(20, 90)
    guesses = np.array([np.mean(lengths - k) for k in range(4)])
    moments = np.cumprod([(QUALITY[0] + k) / (sum(QUALITY) + k) for k in range(4)])  # of the chance that a word matches
    truth = corpus_bleu4(np.concatenate([guesses * moments, guesses, [lengths.mean(), lengths.mean() + 5]])), moments[0]
    for draws in studies_with_draws(studies, patients, resamples, seed):
        shared = np.sqrt(0.5) * random.normal(size=REPORTS // OF_A_PATIENT).repeat(OF_A_PATIENT)
        quality = beta.ppf(norm.cdf(shared + np.sqrt(0.5) * random.normal(size=REPORTS)), *QUALITY)
        written = random.choice(lengths, REPORTS)
        guess = written[:, None] - np.arange(4)
        match = random.binomial(guess, quality[:, None] ** np.arange(1, 5))
        rows = np.column_stack([match, guess, written, written + random.poisson(5, REPORTS), quality])
        totals = draws.resampled(draws.patient_sums(patients, rows.astype(np.float64)))
        for k, samples in enumerate((corpus_bleu4(totals[:, :10]), totals[:, 10] / REPORTS)):
            interval = percentile_interval(samples)
            hits[k] += interval.low <= truth[k] <= interval.high
    return {"BLEU-4 of the corpus": hits[0] / studies, "mean over reports (ROUGE-L)": hits[1] / studies}


# ---------------------------------------------------------------- tests


def level_of_classification(
    images: int, positives: int, studies: int, resamples: int, seed: int, gain: float = 0.0, of_a_patient: int = 1
) -> dict[str, float]:  # fmt: skip
    """Share of studies in which each test at 5 % calls the first of two encoders better (one-sided) or the two different (two-sided).

    With `gain` the first is better, by so much d. McNemar's counts images and knows nothing of patients.
    """
    ids = names(images // of_a_patient).repeat(of_a_patient)
    random, found = np.random.default_rng([seed, images, positives, 1]), []
    for draws in studies_with_draws(studies, ids, resamples, seed):
        counts = draws.of_images(ids)
        target, pair = scores(random, images, positives, [SHIFT + gain, SHIFT], of_a_patient)
        samples = np.array([average_precision_and_auroc(target, score, counts) for score in pair])  # (2, 2, B)
        right = [(score > SHIFT / 2 + norm.isf(positives / images) / SHIFT) == target for score in pair]
        areas, delta = delong(target, pair, ids), samples[0] - samples[1]
        found.append([_both(p_one_sided(delta[0]), p_one_sided(-delta[0])), _both(p_one_sided(delta[1]), p_one_sided(-delta[1])),
                      _both(areas.p_one_sided(0, 1), areas.p_one_sided(1, 0)),
                      _both(p_mcnemar(*right), p_mcnemar(*right[::-1]))])  # fmt: skip
    return _shares(found, "bootstrap, AUPRC", "bootstrap, AUROC", "DeLong", "McNemar")


def level_on_few_positives(images: int, positives: int, studies: int, resamples: int, seed: int) -> dict[str, float]:
    """The same for AUPRC of two weak encoders when exactly so many images are positive; also how often p is below 0.3 %.

    Holm over 17 columns asks the smallest p to be below 0.3 %.
    """
    ids, target = names(images), np.arange(images) < positives
    random, found = np.random.default_rng([seed, images, positives, 14]), []
    for draws in studies_with_draws(studies, ids, resamples, seed):
        common, counts = random.normal(size=images), draws.of_images(ids)
        pair = [WEAK * target + np.sqrt(0.5) * common + np.sqrt(0.5) * random.normal(size=images) for _ in range(2)]
        one, other = (average_precision(target, score, counts) for score in pair)
        found.append([_both(p_one_sided(one - other), p_one_sided(other - one))])
    p = np.array(found)[:, 0, 0]
    return _shares(found, "bootstrap, AUPRC") | {"p below 0.3 % (for comparison)": np.mean(p < 0.003)}


def level_of_a_mean(images: int, studies: int, resamples: int, seed: int, gain: float = 0.0) -> dict[str, float]:
    """The same for mean Dice."""
    ids = names(images)
    random, found = np.random.default_rng([seed, images, 2]), []
    for study, draws in enumerate(studies_with_draws(studies, ids, resamples, seed)):
        if study % 100 == 0:
            signs = patient_signs(ids, resamples, seed + 1_000_003 * study).astype(np.float64)
        one, other = dice(random, images, gain)
        delta = one - other
        drawn, flipped = draws.resampled(draws.patient_sums(ids, delta)) / images, signs @ delta / images
        found.append([_both(p_one_sided(drawn), p_one_sided(-drawn)),
                      (p_sign_flip(delta.mean(), flipped), p_sign_flip(abs(delta.mean()), np.abs(flipped))),
                      _both(p_wilcoxon(delta), p_wilcoxon(-delta))])  # fmt: skip
    return _shares(found, "bootstrap, Dice", "sign flip, Dice", "Wilcoxon, Dice")


def level_against_the_best(images: int, behind: float, alike: float, studies: int, resamples: int, seed: int) -> dict[str, float]:
    """How often the reference is called better than the best of two others, one of which is as good; the p of Table 6 is the larger.

    The p against whichever came out best stands beside it for comparison.

    Args:
        behind: true distance of the second other in mean Dice.
        alike: correlation of its errors with those of the reference; the other pairs are correlated by 1/2, by 0.3 where `alike` is more.
    """
    ids, rest = names(images), 0.5 if alike <= 0.5 else 0.3
    shape = np.array([[1, alike, rest], [alike, 1, rest], [rest, rest, 1]])
    random, found = np.random.default_rng([seed, images, round(1000 * alike), 18]), np.zeros(2)
    for draws in studies_with_draws(studies, ids, resamples, seed):
        of = random.multivariate_normal([0.0, -behind, 0.0], 0.05**2 * shape, images)
        p = [p_one_sided(draws.resampled(draws.patient_sums(ids, of[:, 0] - of[:, other])) / images) for other in (1, 2)]
        found += [max(p) < 0.05, p[int(of[:, 2].mean() > of[:, 1].mean())] < 0.05]
    return dict(zip(("the largest p", "p of the best other (for comparison)"), found / studies, strict=True))


def level_at_the_margin(images: int, studies: int, resamples: int, seed: int, margin: float = 0.01) -> dict[str, float]:
    """Equivalence by TOST when the true difference is exactly the margin: at most 5 % may be called equivalent."""
    ids = names(images)
    random = np.random.default_rng([seed, images, 3])
    found = []
    for draws in studies_with_draws(studies, ids, resamples, seed):
        one, other = dice(random, images, margin)
        found.append(p_equivalent(draws.resampled(draws.patient_sums(ids, one - other)) / images, margin))
    return {"equivalence (TOST) at the margin, Dice": np.mean(np.array(found) < 0.05)}


def level_of_two_levels(
    images: int, replicates: int, studies: int, resamples: int, seed: int, spread: float = 1.0, accident: float = 0.0
) -> dict[str, float]:
    """Two equal encoders whose training runs scatter: patients and runs are drawn.

    The interval over patients alone knows nothing of the runs; it stands beside for comparison.

    Args:
        spread: SD of the runs' means, in standard errors of the patients.
        accident: SD of a run on single images, in SDs of the difference on single images.
    """
    ids = names(images)
    random, found = np.random.default_rng([seed, images, replicates, 11]), []
    apart = np.sqrt(2) * 0.02  # SD of the difference on single images
    for study, draws in enumerate(studies_with_draws(studies, ids, resamples, seed)):
        if study % 100 == 0:
            weights = replicate_weights(replicates, resamples, seed + 1_000_003 * study)
        one, other = dice(random, images)
        delta = (one - other)[:, None] + spread * apart / np.sqrt(images) * random.normal(size=replicates)
        delta += accident * apart * random.normal(size=delta.shape)
        samples = draws.resampled(draws.patient_sums(ids, delta)).T / images
        both, alone = two_level(delta.mean(axis=0), samples, weights), samples.mean(axis=0)
        found.append([_both(p_one_sided(of), p_one_sided(-of)) for of in (both, alone)])
    return _shares(found, "patients and runs", "patients alone (for comparison)")


def level_of_folds(
    learned: tuple[int, int], tested: tuple[int, int], studies: int, resamples: int, seed: int, folds: int = 5, width: int = 768
) -> dict[str, float]:
    """Two equal encoders under real probes on folds of one training set; training and test images are drawn anew for each study.

    A probe is the difference of class means on all folds but one, of `width` features with unit noise that encoders do not share. The
    means of a fold are drawn as such, and so are the test scores of all probes, given those means: neither needs the single images.

    Args:
        learned, tested: (images, positives) of the training and the test set.
    """
    random, found = np.random.default_rng([seed, *tested, width, 4]), []
    ids, settings = names(tested[0]), Settings(resamples=resamples)
    per_fold = np.array([learned[1], learned[0] - learned[1]]) / folds
    for draws in studies_with_draws(studies, ids, resamples, seed):
        counts = draws.of_images(ids)
        target = random.random(tested[0]) < tested[1] / tested[0]
        areas: dict[str, list[np.ndarray]] = {}
        for encoder in ("one", "other"):
            means = random.normal(size=(2, folds, width)) / np.sqrt(per_fold)[:, None, None]  # of the negatives around 0
            means[0, :, 0] += APART
            weight = np.subtract(*(means.sum(axis=1, keepdims=True) - means)) / (folds - 1)
            noise = np.linalg.cholesky(weight @ weight.T) @ random.normal(size=(folds, tested[0]))
            score = weight[:, :1] * APART * target + noise
            areas[encoder] = [np.array([average_precision_and_auroc(target, one, *count) for one in score]) for count in ((), (counts,))]
        row = []
        for k, metric in enumerate(("auprc", "auroc")):
            measured = {name: Measurement("", metric, value[:, k, 0], drawn[:, k], len(ids), len(ids))
                        for name, (value, drawn) in areas.items()}  # fmt: skip
            both = differences(measured, settings, folds=True)
            better, worse = both["one", "other"], both["other", "one"]
            row += [_both(better[name], worse[name]) for name in ("p_corrected_t", "p_two_level", "p_one_sided")]
        runs = (areas["one"][0] - areas["other"][0])[:, 1, 0]  # AUROC of each fold
        found.append([*row, _both(p_corrected_resampled_t(runs, 0.0), p_corrected_resampled_t(-runs, 0.0))])
    kinds = "corrected t", "patients and folds", "patients alone (for comparison)"
    return _shares(found, *(f"{metric}, {kind}" for metric in ("AUPRC", "AUROC") for kind in kinds), "AUROC, plain t (for comparison)")


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
    parser.add_argument("--jobs", type=int, default=2, help="rows of the tables that are studied at a time")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    parts = []
    with ProcessPoolExecutor(arguments.jobs) as pool:
        for part in sections(arguments.studies, arguments.resamples, arguments.seed, pool):
            print(part, end="\n\n", flush=True)
            parts.append(part)
    text = "\n\n".join(parts) + "\n"
    print(remarks(text))
    if arguments.out:
        arguments.out.write_text(f"{text}\n{remarks(text)}")


def sections(studies: int, resamples: int, seed: int, pool: Executor) -> Iterator[str]:
    """Markdown, a heading or a table at a time: thousands of studies take most of an hour."""
    size, more = (studies, resamples, seed), (4 * studies, resamples, seed)
    error, later = 100 * 1.96 * np.sqrt(0.05 * 0.95 / studies), pool.submit
    tested = {f"{name} ({p} of {n})": (n, p) for name, (n, p) in CLASSIFICATION.items()}
    intervals = {
        "test set": {title: later(coverage_of_classification, *of, *size) for title, of in tested.items()}
        | {f"{TWICE}, two images of a patient": later(coverage_of_classification, *CLASSIFICATION[TWICE], *size, of_a_patient=2)},
        "test set, images": {f"{name} ({n} images)": later(coverage_of_a_mean, n, *more) for name, n in SEGMENTATION.items()},
        "test set, five folds, two images of a patient": {
            title: later(coverage_of_recalibration, *of, 4 * studies, seed) for title, of in tested.items()},
        "test set, difference of two encoders": {
            name: later(difference_in_classification, *of, *size) for name, of in CLASSIFICATION.items()},
        "test set, difference of two encoders on images": {
            name: later(difference_of_means, n, *more) for name, n in SEGMENTATION.items()},
        "mean over labels": {"VinDr, Agg-6 (6 labels, 3000 images)": later(coverage_of_an_aggregate, 3000, AGGREGATED, *size)},
        f"test set, {REPORTS} reports of {REPORTS // OF_A_PATIENT} patients": {"MIMIC-CXR": later(coverage_of_reports, *size)},
        "test set, interval of the calibration error by test inversion": {
            title: later(coverage_of_calibration_error, *of, *(more if title.startswith(RAREST) else size))
            for title, of in tested.items()} | {
            f"{TWICE}, five folds, two images of a patient": later(
                coverage_of_calibration_error, *CLASSIFICATION[TWICE], *size, folds=5, of_a_patient=2)},
    }  # fmt: skip
    levels = {
        "test set": {name: later(level_of_classification, *of, *size) for name, of in CLASSIFICATION.items()}
        | {f"{TWICE}, two images of a patient": later(level_of_classification, *CLASSIFICATION[TWICE], *size, of_a_patient=2)},
        "test set, images": {name: later(level_of_a_mean, n, *more) for name, n in SEGMENTATION.items()},
        "test set, true difference at the margin": {name: later(level_at_the_margin, n, *more) for name, n in SEGMENTATION.items()},
        "probes on five folds of one training set": {
            f"{name} (learned from {learned[1]} of {learned[0]})": later(level_of_folds, learned, test, *more)
            for name, (learned, test) in LEARNED.items()},
        "mean Dice of 171 images, training runs that scatter as much as the sample of patients does": {
            f"{runs} runs": later(level_of_two_levels, 171, runs, *more) for runs in (3, 5, 10)},
        "mean Dice of 171 images, training runs that scatter image by image, as much as the difference does": {
            f"{runs} runs": later(level_of_two_levels, 171, runs, *more, spread=0.0, accident=1.0) for runs in (3, 5, 10)},
        "mean Dice of 171 images, three training runs that scatter more than the sample of patients does": {
            f"{times:g} times as much": later(level_of_two_levels, 171, 3, *more, spread=times) for times in (2.0, 4.0)},
    }  # fmt: skip
    best = {title: later(level_against_the_best, 171, *of, *size) for title, of in RIVALS.items()}
    few = {f"{title}, AUROC {norm.cdf(shift / np.sqrt(2)):.2f}": later(coverage_of_auprc, *of, shift, *size)
           for title, of in SMALL.items() for shift in (SHIFT, WEAK)}  # fmt: skip
    levels[f"patients with the finding, of {FEW_IMAGES}, AUROC {norm.cdf(WEAK / np.sqrt(2)):.2f}"] = {
        str(count): later(level_on_few_positives, FEW_IMAGES, count, *size) for count in POSITIVES}  # fmt: skip
    powers = {f"{n}, {100 * gain:g} points": later(power_of_a_mean, n, *size, gain)
              for n, gain in ((49, 0.007), (171, 0.003), (171, 0.005))}  # fmt: skip

    yield "# Coverage, level and power"
    yield f"`python benchmarks/coverage.py --studies {studies} --resamples {resamples} --seed {seed} --out docs/coverage.md`"
    yield (
        f"{studies} simulated studies each, {resamples} resamples; Monte Carlo error of a share near 5 or 95 %: ±{error:.1f} "
        f"points (Dice, recalibration, folds, training runs and the calibration error of {RAREST}, which is at the edge: "
        f"{4 * studies} studies, ±{error / 2:.1f}). Every hundred studies have resamples of their own."
    )
    yield "## Share of 95 % intervals that hold the truth (%)"
    for corner, rows in intervals.items():
        yield table(corner, {name: without(row.result(), AT_THE_MARGIN) for name, row in rows.items()})
    yield "## Share of 95 % intervals of AUPRC that hold the truth on small test sets and with weak encoders (%)"
    yield table("positives, AUROC of the encoder", {name: row.result() for name, row in few.items()})
    yield "## Share of studies that call the first of two equal encoders better (%, one-sided tests at 5 %), or them different (two-sided)"
    for corner, rows in levels.items():
        yield table(corner, {name: row.result() for name, row in rows.items()})
    yield "## How often an encoder is called better than the best other, which is as good (%, one-sided at 5 %, so at most 5)"
    yield table("two others on 171 images; the first is as good, the second", {name: row.result() for name, row in best.items()})
    yield "## Share of studies that call an encoder not inferior which is worse by exactly the margin (%, at 5 %)"
    compared = {name: row for corner, rows in intervals.items() if "difference" in corner for name, row in rows.items()}
    at_the_margin = {name: next(share for kind, share in row.result().items() if kind.startswith(AT_THE_MARGIN))
                     for name, row in compared.items()}  # fmt: skip
    yield table("test set", {name: {"non-inferiority, 2 points": share} for name, share in at_the_margin.items()})
    yield "## Power of the paired bootstrap on mean Dice (%)"
    yield table("images, true difference", {name: row.result() for name, row in powers.items()})


def remarks(text: str) -> str:
    """Every number of the page's tables that is not what is wanted, and that by more than chance: named, none left out."""
    low, high = outside(text, "## Share of 95 %", 93, 97), outside(text, "## Share of studies", 4, 6)
    return "\n\n".join([
        "## What stands out",
        "Intervals that hold the truth in fewer than 93 or more than 97 % of the studies:", "\n".join(low) or "- none",
        "Tests at 5 % that find something in fewer than 4 or more than 6 %:", "\n".join(high) or "- none",
    ]) + "\n"  # fmt: skip


def outside(text: str, heading: str, least: float, most: float) -> list[str]:
    """Rows with such cells in the Markdown tables below headings that start so, as "- row (corner): column number; column number"."""
    found, header, inside = [], [], False
    for line in text.splitlines():
        if line.startswith("#"):
            inside = line.startswith(heading)
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if not cells:
            header = []
        elif not header:
            header = cells
        elif inside and not cells[0].startswith("---"):
            row = [f"{column} {cell}" for column, cell in zip(header[1:], cells[1:], strict=True)
                   if "for comparison" not in column and not least <= float(cell) <= most]  # fmt: skip
            found += [f"- {cells[0]} ({header[0]}): {'; '.join(row)}"] if row else []
    return found


def without(row: dict[str, float], start: str) -> dict[str, float]:
    """The entries whose name does not start so."""
    return {name: value for name, value in row.items() if not name.startswith(start)}


def table(corner: str, rows: dict[str, dict[str, float]], show: Callable[[float], str] = lambda value: f"{100 * value:.1f}") -> str:
    """Markdown table of rows of named shares."""
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    lines = [[corner, *columns], ["---", *("---:" for _ in columns)]]
    lines += [[title, *(show(row[name]) for name in columns)] for title, row in rows.items()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    main()
