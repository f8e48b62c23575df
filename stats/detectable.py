"""Claims about Table 6: its marks, and which of the differences a test on the same cases could find at all.

The paper names no test, unit, baseline or correction, and prints no p value. But the noise of a difference follows from the
test set's size, its positives, both scores and how alike the two encoders err on a case. Only the last is not known, so it is varied:
scores are drawn from the binormal model (normal noise of SD 1, positives shifted so far that the printed score results), with the
correlation of the two encoders' noise as the parameter.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.integrate import trapezoid
from scipy.optimize import brentq
from scipy.stats import norm

from .delong import delong
from .figures import signed
from .printed import DICE, FAILS, HOLDS, OPEN, REPORTS, RSNA, VINDR, Claim, Print, listed, starred, verdict
from .published import METRICS
from .ranking import average_precision

CORRELATIONS = (0.5, 0.8, 0.9)
#: Beyond this correlation we believe no claim: a line that we draw, not one that is measured.
LIKELY = 0.95
LEVEL = 0.05
#: Test sets that are drawn give a standard error to about 5 % of itself, the larger sample to 1 %.
DRAWS, LARGER, SEED = 250, 20, 0
#: Positives of VinDr-CXR's test images: Nguyen et al. 2022 (Sci. Data 9:429), counted in image_labels_test.csv of the release.
VINDR_POSITIVES = {"LO": 84, "CM": 309, "PL-T": 169, "AE": 220, "PF": 217, "PE": 111}
#: Share of RSNA's images with a box: 6,012 of 26,684, stage_2_train_labels.csv of the challenge.
RSNA_SHARE = 6_012 / 26_684
#: Rows of Table 6 by their label.
PLACES = {**VINDR, "AP": RSNA["AUPRC"], "AUC": RSNA["AUROC"], "Lung": DICE["lungs"], "L-Zone": DICE["lung zones"], "Rib": DICE["ribs"]}


@dataclass(frozen=True)
class Noise:
    """Standard errors of a difference, points, at each of CORRELATIONS.

    >>> noise = Noise((4.0, 2.6, 1.9))
    >>> [round(z, 1) for z in noise.z(3.8)]
    [0.9, 1.5, 2.0]
    >>> round(noise.needed(3.8), 2)  # variance 16.0, 6.8, 3.6; z = 1.645 where it is (3.8 / 1.645)^2 = 5.3
    0.85
    """

    errors: tuple[float, ...]

    def z(self, difference: float) -> tuple[float, ...]:
        """Difference over standard error."""
        return tuple(difference / error for error in self.errors)

    def needed(self, difference: float, level: float = LEVEL) -> float:
        """Correlation at which a one-sided test at ``level`` just finds the difference, 1 if none is enough.

        The variance of a difference is taken to fall along lines through neighbouring correlations, and on along the last.
        """
        variance, wanted = np.square(self.errors), (difference / norm.isf(level)) ** 2
        i = 0 if wanted > variance[1] else 1
        slope = (variance[i + 1] - variance[i]) / (CORRELATIONS[i + 1] - CORRELATIONS[i])
        return float(min(CORRELATIONS[i] + (wanted - variance[i]) / slope, 1.0))


def binormal_ap(shift: float, share: float) -> float:
    """Average precision over infinitely many cases, of which ``share`` are positive with scores N(shift, 1), the others N(0, 1).

    The mean over positives of the precision at their score; chance is ``share``.

    >>> round(binormal_ap(0, 0.1), 3), round(binormal_ap(9, 0.1), 3)
    (0.1, 1.0)
    """
    score = np.linspace(shift - 8, shift + 8, 2001)
    true, false = share * norm.sf(score - shift), (1 - share) * norm.sf(score)
    return float(trapezoid(true / (true + false) * norm.pdf(score - shift), score))


def shift_of(metric: str, points: float, share: float) -> float:
    """Shift of the positives, in SD of the noise, at which the binormal model has the printed score; AUROC = Phi(shift / sqrt 2).

    >>> round(shift_of("auroc", 76.0, 0.5), 3), round(binormal_ap(shift_of("auprc", 20.0, 0.1), 0.1), 3)
    (0.999, 0.2)
    """
    if metric == "auroc":
        return float(np.sqrt(2) * norm.ppf(points / 100))
    return float(brentq(lambda shift: binormal_ap(shift, share) - points / 100, -0.5, 8))


@functools.cache
def simulate(metric: str, ours: float, theirs: float, positives: int, images: int) -> Noise:
    """Standard errors of the difference of two encoders that have the printed scores (points) on such a test set.

    AUROC: DeLong's, on one sample that is LARGER times as large. Average precision: standard deviation over DRAWS test sets.

    One AUROC of 0.8 on 50 and 50 cases has 4.45 (Hanley and McNeil 1982); a difference sqrt(2 (1 - r)) of it, at r a little below 0.5.

    >>> 4.45 < simulate("auroc", 80.0, 80.0, 50, 100).errors[0] < 5.0
    True
    """
    generator = np.random.default_rng(SEED)
    shifts = [shift_of(metric, points, positives / images) for points in (ours, theirs)]
    if metric == "auroc":
        target = np.arange(LARGER * images) < LARGER * positives
        one, *others = _scores(target, shifts, generator)
        return Noise(tuple(100 * delong(target, np.stack([one, other])).difference(0, 1)[1] * LARGER**0.5 for other in others))
    target, found = np.arange(images) < positives, np.empty((DRAWS, 1 + len(CORRELATIONS)))
    for draw in found:
        draw[:] = [average_precision(target, score)[0] for score in _scores(target, shifts, generator)]
    return Noise(tuple((100 * (found[:, :1] - found[:, 1:]).std(axis=0, ddof=1)).tolist()))


def _scores(target: np.ndarray, shifts: list[float], generator: np.random.Generator) -> list[np.ndarray]:
    """Scores of one encoder, then of the other with noise that correlates with the first's by each of CORRELATIONS."""
    shared, own = generator.standard_normal((2, target.size))
    return [shifts[0] * target + shared, *(shifts[1] * target + r * shared + np.sqrt(1 - r * r) * own for r in CORRELATIONS)]


# ---------------------------------------------------------------- the claims


def claims(at: Print) -> Iterator[Claim]:
    """Table 6."""
    yield from _marks(at)
    yield from _found(at)


def _place(row: dict[str, str]) -> tuple[int, str, str, str]:
    title = row["metric"]
    return PLACES.get(row["row_label"]) or REPORTS[f"{'MIMIC' if row['dataset'] == 'MIMIC-CXR' else 'IU'} {title}"]


def _marks(at: Print) -> Iterator[Claim]:
    outcomes = [row["outcome"] for row in at.published.significance]
    count = [outcomes.count(f"{kind}_improvement") for kind in ("significant", "nonsignificant", "no")]
    yield Claim("Significant in 16 of 19 comparisons", "text; Table 6", f"{count[0]} ✓✓ + {count[1]} ✓ + {count[2]} ✗ = {sum(count)}",
                verdict((count[0], len(outcomes)) == (16, 19)), "as counts of marks")  # fmt: skip
    by_rule: dict[str, list[str]] = {"best other row of the column": [], "RAD-DINO": [], "RAD-DINO*": []}
    for row in at.published.significance:
        place = _place(row)
        for rule, wrong in by_rule.items():
            gain = at.gain(place, rule) if rule in ("RAD-DINO", "RAD-DINO*") else _ahead(at, place)[0]
            if (gain > 0) != (row["outcome"] != "no_improvement"):
                wrong.append(f"{row['dataset']} {row['row_label']} {signed(gain)}")
    for rule, wrong in by_rule.items():
        yield Claim(f"The marks fit the sign of the difference from: {rule}", "Table 6", f"{len(outcomes) - len(wrong)} of {len(outcomes)}"
                    + (f"; not {', '.join(wrong)}" if wrong else ""), verdict(not wrong),
                    "no baseline is named in print; U-Nets trained end to end are left out")  # fmt: skip


def _ahead(at: Print, place: tuple[int, str, str, str]) -> tuple[float, str]:
    """Points ahead of the best other row, and that row."""
    best = at.best_other(place)
    return round(at.value(*place, "RadJEPA") - best.value, 1) + 0.0, starred(best)


def _cases(at: Print, label: str) -> tuple[int, int]:
    """(positives, images) of the test set behind a row of Table 6 about classification."""
    images, _ = at.published.test_size(PLACES[label][1])
    return VINDR_POSITIVES.get(label) or round(RSNA_SHARE * images), images


def _found(at: Print) -> Iterator[Claim]:
    """One claim per ✓✓ of classification, and one for all the others."""
    outcomes = at.published.significance
    double = [row for row in outcomes if row["outcome"] == "significant_improvement"]
    ranked = [row for row in double if METRICS[row["metric"]] in ("auprc", "auroc")]
    out_of_reach = []
    for row in ranked:
        place, label = _place(row), row["row_label"]
        title = f"{row['dataset']} {'' if label in ('AP', 'AUC') else label + ' '}{row['metric']}"
        gain, baseline = _ahead(at, place)
        positives, images = _cases(at, label)
        noise = simulate(place[3], at.value(*place, "RadJEPA"), at.value(*place, baseline), positives, images)
        needed = noise.needed(gain)
        out_of_reach += [title] * (needed > LIKELY)
        yield Claim(f"✓✓ for {title}: {signed(gain)} over {baseline} is significant at 5 %", "Table 6", _noise(noise, gain),
                    HOLDS if needed <= CORRELATIONS[0] else OPEN if needed <= LIKELY else FAILS,
                    _needed(needed, positives, images))  # fmt: skip
    yield Claim(f"✓✓ for the {len(double) - len(ranked)} differences in Dice and report metrics are significant at 5 %", "Table 6",
                "no standard error", OPEN, "the spread over images or reports is not printed")  # fmt: skip
    first = norm.isf(LEVEL / len(outcomes))
    yield Claim(f"The {len(double)} ✓✓ are single-tailed tests at p < 0.05", "text; Table 6",
                f"not credible on cases against the best other row: {listed(out_of_reach) if out_of_reach else 'none'}",
                FAILS if out_of_reach else OPEN, "a weaker baseline or a spread over seeds alone would do; no p value, test, unit, "
                f"baseline or correction is printed (Holm over {len(outcomes)} asks z > {first:.2f} of the largest)")  # fmt: skip


def _noise(noise: Noise, gain: float) -> str:
    errors = ", ".join(f"{value:.{1 if max(noise.errors) >= 1 else 2}f}" for value in noise.errors)
    z = ", ".join(f"{value:.1f}" for value in noise.z(gain))
    return f"standard error {errors} and z {z} where the encoders' noise correlates by {', '.join(map(str, CORRELATIONS))}"


def _needed(needed: float, positives: int, images: int) -> str:
    size = f"{positives:,} positives of {images:,}; simulated"
    if needed <= CORRELATIONS[0]:
        return f"z > {norm.isf(LEVEL):.2f} at every correlation tried; {size}"
    if needed >= 1:
        return f"no correlation would give z > {norm.isf(LEVEL):.2f}; {size}"
    line = f", more than the {LIKELY} beyond which we believe none" if needed > LIKELY else ""
    return f"z > {norm.isf(LEVEL):.2f} needs a correlation of {needed:.2f}{line}; {size}"
