"""The paper's own claims (arXiv 2601.15891), re-examined from what it prints.

    python -m stats.claims --out docs/claims.md

Needs no data and no model: only `results/published/*.csv`, the words of claims that stand in the text and not in a table, and counts
that the owners of the data publish. A claim *holds*, *does not hold*, *contradicts itself* (two places of the text exclude each other), or
*cannot be checked from print*. What follows from the printed numbers is computed when this runs; numbers of claims and words of the text
are quoted.

This file holds sums, means and gains; `sizes.py` the networks, `detectable.py` the significance, `contradictions.py` data and text.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from . import contradictions, detectable, sizes
from .errors import StatsError
from .figures import signed
from .printed import DICE, OPEN, REPORTS, ROUNDING, RSNA, SIX, VERDICTS, VINDR, Claim, Print, gains, listed, starred, verdict
from .published import AGG_PRINTED, PUBLISHED, Published
from .typeset import Panel, markdown

#: Two rows of one encoder agree up to this, points.
AGREE = 1.0
PLURAL = ("hold", "do not hold", "contradict themselves", "cannot be checked from print")
NOTES = [
    "None of this is a measurement: what a run of this project measures stands in results/tables. RAD-DINO* is the authors' own "
    "reproduction. Differences in points. ✓✓, ✓ and ✗ are the marks of Table 6: significant, better but not significant, not better.",
    "Standard errors are simulated: normal noise, positives shifted until the printed scores result, the size and positives of "
    f"the test set, {detectable.DRAWS} draws (AUROC: DeLong's on a larger draw). "
    f"A claim that needs noise correlated beyond {detectable.LIKELY} does not hold (our line).",
    "Contradictions of two places in the text are read, not computed. Owners' counts, and where they come from, stand in "
    "stats/contradictions.py.",
    "Written by python -m stats.claims --out docs/claims.md; stats/claims.py names the files that hold the checks, results/published "
    "the numbers.",
]


def tables(at: Print) -> Iterator[Claim]:
    """Tables 1 and 3 to 5: sums, means, gains and ranks."""
    for check in (_sums, _aggregates, _classification, _reproduction, _segmentation, _reports):
        yield from check(at)


SECTIONS: dict[str, Callable[[Print], Iterator[Claim]]] = {
    "Sums, means and gains": tables,
    "Networks, tokens and decoders": sizes.claims,
    "Significance": detectable.claims,
    "Data, splits and the text against itself": contradictions.claims,
}


def claims(published: Published) -> list[Claim]:
    """Every claim that is looked at, in the order of the page."""
    at = Print(published)
    return [claim for section in SECTIONS.values() for claim in section(at)]


# ---------------------------------------------------------------- Table 1


def _sums(at: Print) -> Iterator[Claim]:
    datasets = [name for name in dict.fromkeys(name for name, _ in at.count) if name != "Total"]
    for quantity in ("subjects", "images", "frontal", "lateral"):
        total, printed = sum(at.count[name, quantity] for name in datasets), at.count["Total", quantity]
        yield Claim(f"Total {quantity} {printed:,}", "Table 1", f"{total:,}", verdict(total == printed),
                    f"sum of the {len(datasets)} data sets")  # fmt: skip
    rows = [*datasets, "Total"]
    right = [name for name in rows if at.count[name, "frontal"] + at.count[name, "lateral"] == at.count[name, "images"]]
    yield Claim("Frontal and lateral images add up to all images", "Table 1", f"{len(right)} of {len(rows)} rows",
                verdict(len(right) == len(rows)), "as sums; cells that differ from the owners' counts stand below, under data")  # fmt: skip
    frontal, lateral, extra = at.count["Total", "frontal"], at.count["Total", "lateral"], at.count["MIMIC-CXR", "lateral"]
    before = frontal / (lateral - extra)
    yield Claim("Frontal to lateral is about 6:1 without the added 90,000 laterals", "text; Table 1",
                f"{before:.2f}:1 without them, {frontal / lateral:.2f}:1 with them", verdict(round(before) == 6),
                f"rounds to {round(before)}; without MIMIC-CXR's {extra:,} laterals")  # fmt: skip


# ---------------------------------------------------------------- Table 3


def _six(at: Print, row: str) -> tuple[float, float, bool]:
    """(mean of the six printed classes, the seventh that the printed Agg. would imply, whether six fit within rounding)."""
    six = [at.value(*VINDR[name], row) for name in SIX]
    printed = at.value(3, "VinDr-CXR", AGG_PRINTED, "auprc", row)
    mean = sum(six) / len(six)
    return mean, (len(six) + 1) * printed - sum(six), abs(mean - printed) <= 2 * ROUNDING + 1e-9


def _aggregates(at: Print) -> Iterator[Claim]:
    """The caption's mean of six against the printed one, and the seventh class that the printed one would imply."""
    slack = ROUNDING * (len(SIX) + 1 + len(SIX))
    rows = at.column(3, "VinDr-CXR", AGG_PRINTED, "auprc")
    for printed in rows:
        mean, seventh, fits = _six(at, starred(printed))
        seven = f"a mean of seven with an unprinted class at {seventh:.1f} (± {slack:.2f} from rounding)"
        why = ("within rounding" + ("" if printed.own_run else f"; so is {seven}")) if fits else f"{seven} would fit"
        yield Claim(f"Agg. of {starred(printed)} is the mean of six classes: {printed.value:.1f}", "Table 3 and its caption", f"{mean:.2f}",
                    verdict(fits), why)  # fmt: skip
    copied = [starred(row) for row in rows if not _six(at, starred(row))[2]]
    both = [starred(row) for row in rows if _six(at, starred(row))[2] and not row.own_run]
    yield Claim("All encoders were run by the authors", "text; Table 3",
                f"{len(copied)} of {len(rows)} Agg. are no mean of the six classes" + (f": {listed(copied)}" if copied else ""),
                verdict(not copied), "rows with another definition of Agg. look copied from earlier work"
                + (f"; {listed(both)} fits both" if both else ""))  # fmt: skip
    best = max(copied, key=lambda row: at.value(3, "VinDr-CXR", AGG_PRINTED, "auprc", row), default="RAD-DINO")
    value = at.value(3, "VinDr-CXR", AGG_PRINTED, "auprc", best)
    tie = (len(SIX) + 1) * value - len(SIX) * _six(at, "RadJEPA")[0]
    yield Claim("RadJEPA is ahead in the mean of seven that the copied rows use", "Table 3",
                f"a tie with {best}'s {value:.1f} takes {tie:.1f} in the seventh class", OPEN,
                "the seventh class is not printed")  # fmt: skip


def _classification(at: Print) -> Iterator[Claim]:
    printed = {starred(s): s.value for s in at.column(3, "VinDr-CXR", AGG_PRINTED, "auprc")}
    for other in ("RAD-DINO", "MRM"):
        like, said = _six(at, "RadJEPA")[0] - _six(at, other)[0], printed["RadJEPA"] - printed[other]
        kinds = [f"{row}'s Agg. is {'a' if _six(at, row)[2] else 'no'} mean of the six" for row in ("RadJEPA", other)]
        yield Claim(f"RadJEPA's margin over {other} in Agg. is {said:.1f}", "Table 3", f"{like:.1f} from the same six classes",
                    verdict(abs(like - said) <= 4 * ROUNDING), ", ".join(kinds))  # fmt: skip
    rows = ("RAD-DINO", "RAD-DINO*")
    gain = {row: (round(printed["RadJEPA"] - printed[row], 1), at.gain(RSNA["AUPRC"], row)) for row in rows}
    inside = [2 <= value <= 4 for row in rows for value in gain[row]]
    yield Claim("Gains of 2 to 4 points AUPRC over RAD-DINO", "text; Table 3",
                f"VinDr {signed(gain['RAD-DINO'][0])}, RSNA {signed(gain['RAD-DINO'][1])} over the published row; "
                f"{signed(gain['RAD-DINO*'][0])}, {signed(gain['RAD-DINO*'][1])} over the authors' own reproduction",
                verdict(all(inside)), f"{sum(inside)} of {len(inside)} lie in the range; the row that is meant is not named")  # fmt: skip
    behind = {}
    for name in SIX:
        above = [s for s in at.column(*VINDR[name]) if s.value > at.value(*VINDR[name], "RadJEPA")]
        if above:
            behind[name] = f"{name} rank {len(above) + 1}, behind " + ", ".join(
                f"{starred(s)} {s.value}" for s in sorted(above, key=lambda s: -s.value))  # fmt: skip
    yield Claim("Consistently outperforms all other encoders in classification", "text; Table 3",
                "; ".join(behind.values()) or "first throughout",
                verdict(not behind), f"first in {len(SIX) - len(behind)} of {len(SIX)} classes of VinDr-CXR")  # fmt: skip
    over = {name: at.gain(VINDR[name], "I-JEPA") for name in SIX}
    yield Claim("Above I-JEPA in every class", "Table 3", gains(over),
                verdict(min(over.values()) > 0), f"{sum(gain > 0 for gain in over.values())} of {len(SIX)}")  # fmt: skip
    yield _over_rad_dino(at, "PF", 4.5)
    yield Claim("PF: +4.9 over I-JEPA", "text; Table 3", signed(over["PF"]), verdict(over["PF"] == 4.9), "as printed")


def _meant(at: Print, name: str, said: float) -> list[str]:
    """Which of RAD-DINO's two rows, published and reproduced, a stated gain is the difference from."""
    place = (VINDR | DICE)[name]
    return [word for word, row in (("published", "RAD-DINO"), ("reproduced", "RAD-DINO*")) if at.gain(place, row) == said]


def _over_rad_dino(at: Print, name: str, said: float) -> Claim:
    """A stated gain over RAD-DINO beside those over its two rows."""
    place, meant = (VINDR | DICE)[name], _meant(at, name, said)
    why = f"against the {' and the '.join(meant)} row, which the sentence does not say" if meant else "against neither row"
    return Claim(f"{name[0].upper()}{name[1:]}: {signed(said)} over RAD-DINO", f"text; Table {place[0]}",
                 f"published {signed(at.gain(place, 'RAD-DINO'))}, reproduced {signed(at.gain(place, 'RAD-DINO*'))}",
                 verdict(bool(meant)), why)  # fmt: skip


def _reproduction(at: Print) -> Iterator[Claim]:
    places = VINDR | {f"RSNA {metric}": place for metric, place in RSNA.items()}
    drift = {name: round(at.value(*place, "RAD-DINO*") - at.value(*place, "RAD-DINO"), 1) for name, place in places.items()}
    swamped = [name for name, place in places.items() if 0 < at.gain(place, "RAD-DINO") <= abs(drift[name])]
    largest = max(drift.values(), key=abs)
    yield Claim("The reproduction of RAD-DINO agrees with the published one", "Table 3, starred row", gains(drift),
                verdict(abs(largest) <= AGREE), f"up to {signed(largest)}, judged at {AGREE:.0f} point; as large as RadJEPA's gain over "
                f"the published row in {listed(swamped) if swamped else 'no column'}")  # fmt: skip
    rows = {name: _meant(at, name, said) for name, said in (("PF", 4.5), ("ribs", 4.8))}
    yield Claim("Gains over RAD-DINO are against one row of it", "text; Tables 3 and 4",
                ", ".join(f"{name}: {' or '.join(found) or 'neither'}" for name, found in rows.items()),
                verdict(bool(set.intersection(*map(set, rows.values())))),
                "one baseline for all sentences, or its name in each")  # fmt: skip


# ---------------------------------------------------------------- Table 4


def _segmentation(at: Print) -> Iterator[Claim]:
    gain = {row: {name: at.gain(place, row) for name, place in DICE.items()} for row in ("RAD-DINO", "RAD-DINO*")}
    inside = [name for name in DICE if all(2 <= gain[row][name] <= 5 for row in gain)]
    yield Claim("Dice gains of 2 to 5 points over RAD-DINO", "text; Table 4",
                "published row: " + gains(gain["RAD-DINO"]) + "; reproduced row: " + gains(gain["RAD-DINO*"]),
                verdict(len(inside) == len(DICE)), f"true of {listed(inside) if inside else 'none'}, whichever row is meant")  # fmt: skip
    yield _over_rad_dino(at, "ribs", 4.8)
    ribs = at.gain(DICE["ribs"], "I-JEPA")
    yield Claim("Ribs: +4.4 over I-JEPA", "text; Table 4", signed(ribs), verdict(ribs == 4.4), "as printed")
    ours = {name: at.value(*place, "RadJEPA") for name, place in DICE.items()}
    first = [name for name, place in DICE.items() if ours[name] == max(s.value for s in at.column(*place, "UPerNet"))]
    yield Claim("Best of all encoders with the same decoder", "Table 4", f"{len(first)} of {len(DICE)} columns",
                verdict(len(first) == len(DICE)), "UPerNet rows")  # fmt: skip
    unet = {name: max(s.value for s in at.column(*place, "Unet")) for name, place in DICE.items()}
    met, exceeded = [n for n in DICE if ours[n] == unet[n]], [n for n in DICE if ours[n] > unet[n]]
    why = "; ".join(f"{word} in {listed(names)}" for word, names in (("met", met), ("exceeded", exceeded)) if names)
    yield Claim("Fully trained U-Nets are an upper bound", "text; Table 4", ", ".join(f"{n}: {ours[n]} against {unet[n]}" for n in DICE),
                verdict(not met and not exceeded), f"{why}: a reference and no bound" if why else "as printed")  # fmt: skip


# ---------------------------------------------------------------- Table 5


def _reports(at: Print) -> Iterator[Claim]:
    first = [name for name, place in REPORTS.items() if at.value(*place, "RadJEPA") == max(s.value for s in at.column(*place))]
    least = min(round(at.value(*place, "RadJEPA") - at.best_other(place).value, 1) for place in REPORTS.values())
    yield Claim("Best of all encoders in report generation", "Table 5", f"{len(first)} of {len(REPORTS)} columns",
                verdict(len(first) == len(REPORTS)), f"as printed; by as little as {least} points, without an interval")  # fmt: skip
    said = {"IU ROUGE-L": 1.7, "IU RG_ER": 0.9, "IU Macro-F1-14": 1.3}
    gain = {row: {name: at.gain(REPORTS[name], row) for name in said} for row in ("RAD-DINO*", "I-JEPA")}
    meant = {row: [name.removeprefix("IU ") for name in said if gain[row][name] == said[name]] for row in gain}
    yield Claim("IU-Xray: +1.7 ROUGE-L, +0.9 RG_ER, +1.3 F1 over the strongest encoder that is no JEPA", "text; Table 5",
                "; ".join(f"over {row}: {', '.join(map(signed, values.values()))}" for row, values in gain.items()),
                verdict(len(meant["RAD-DINO*"]) == len(said)),
                "; ".join(f"{listed(names)}: the gap to {row}" for row, names in meant.items() if names) or "no such gap")  # fmt: skip
    for other in ("RAD-DINO_control", "RAD-DINO*", "I-JEPA"):
        gaps = {title: round(at.value(*place, "RadJEPA_control") - at.value(*place, other), 1) for title, place in REPORTS.items()}
        below = {title: gap for title, gap in gaps.items() if gap < 0}
        trained = {at.fact[name, "training_dataset"]["value_text"] for name in ("RadJEPA_control", other.rstrip("*"))}
        yield Claim(f"RadJEPA_control consistently matches or outperforms {other}", "text; Table 5",
                    f"{len(gaps) - len(below)} of {len(gaps)} columns" + (f"; below: {gains(below)}" if below else ""),
                    verdict(not below), f"trained on {'the same' if len(trained) == 1 else 'other'} data")  # fmt: skip


# ---------------------------------------------------------------- the page


def page(published: Published) -> str:
    """docs/claims.md."""
    at = Print(published)
    sections = {title: list(section(at)) for title, section in SECTIONS.items()}
    found = [claim for section in sections.values() for claim in section]
    counts = ", ".join(f"{sum(one.verdict == word for one in found)} {plural}" for word, plural in zip(VERDICTS, PLURAL, strict=True))
    caption = f"Claims of arXiv 2601.15891 re-examined from what it prints: of {len(found)} looked at, {counts}."
    header = ["Claim", "Where", "What the numbers, or the two places, say", "Verdict", "Why"]
    panels = [Panel(title, header, [[one.claim, one.where, one.says, one.verdict, one.why] for one in section])
              for title, section in sections.items()]  # fmt: skip
    panels[-1] = replace(panels[-1], notes=NOTES)
    return markdown(caption, panels, "The paper's own claims, re-examined")


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line; a named error ends with its sentence and status 1, not with a stack trace."""
    parser = argparse.ArgumentParser(prog="python -m stats.claims", description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, type=Path, help="Markdown file to write")
    parser.add_argument("--published", type=Path, default=PUBLISHED, help="folder with the paper's tables as CSV")
    options = parser.parse_args(arguments)
    try:
        text = page(Published(options.published))
    except StatsError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    options.out.write_text(text, encoding="utf-8")
    print(f"{options.out}: {text.splitlines()[1]}")


if __name__ == "__main__":
    main()
