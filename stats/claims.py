"""The paper's own claims (arXiv 2601.15891), recomputed from the numbers it prints.

    python -m stats.claims --out docs/claims.md

Needs no data and no model: only `results/published/*.csv` and, where a claim stands in the text and not in a table, the
words quoted here. A claim *holds*, *does not hold*, or *cannot be checked from print*. Every number in the column
"recomputed" is computed when this runs.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import StatsError
from .published import AGG6, AGG_PRINTED, Published, Score, same_model
from .typeset import Panel, markdown

PUBLISHED = Path(__file__).resolve().parent.parent / "results" / "published"
HOLDS, FAILS, OPEN = "holds", "does not hold", "cannot be checked from print"
#: Half a unit of the last printed digit, points.
ROUNDING = 0.05
SIX = ("LO", "CM", "PL-T", "AE", "PF", "PE")


@dataclass(frozen=True)
class Claim:
    """One claim: its words, where they are printed, what the printed numbers give, and what follows."""

    claim: str
    where: str
    recomputed: str
    verdict: str
    why: str


class Print:
    """The published scores by place."""

    def __init__(self, published: Published) -> None:
        self.published = published

    def column(self, table: int, dataset: str, column: str, metric: str, decoder: str = "") -> list[Score]:
        """All rows of a column, in the order of print."""
        return [s for s in self.published.scores if (s.table, s.dataset, s.column, s.metric) == (table, dataset, column, metric)
                and (not decoder or s.decoder == decoder)]  # fmt: skip

    def value(self, table: int, dataset: str, column: str, metric: str, row: str) -> float:
        """One number; ``row`` is a model, with ``*`` for the authors' reproduction; UPerNet in Table 4."""
        found = [s for s in self.column(table, dataset, column, metric, "UPerNet" if table == 4 else "")
                 if s.model + "*" * s.starred == row]  # fmt: skip
        return found[0].value

    def gain(self, place: tuple[int, str, str, str], baseline: str) -> float:
        """RadJEPA minus a row, points, to the printed digit."""
        return round(self.value(*place, "RadJEPA") - self.value(*place, baseline), 1) + 0.0

    def best_other(self, place: tuple[int, str, str, str]) -> Score:
        """Best row that is not one of RadJEPA's; the first of equals."""
        return max((s for s in self.column(*place) if not s.model.startswith("RadJEPA")), key=lambda s: s.value)


VINDR = {name: (3, "VinDr-CXR", name, "auprc") for name in SIX}
RSNA = {"AUPRC": (3, "RSNA-Pneumonia", "Pneumonia", "auprc"), "AUROC": (3, "RSNA-Pneumonia", "Pneumonia", "auroc")}
DICE = {"lungs": (4, "MIMIC-CXR subset", "Lungs", "dice"), "lung zones": (4, "MIMIC-CXR subset", "Lung zones", "dice"),
        "ribs": (4, "VinDr-RibCXR", "Ribs", "dice")}  # fmt: skip
REPORTS = {f"{short} {title}": (5, dataset, title, metric) for short, dataset in (("MIMIC", "MIMIC-CXR"), ("IU", "IU-Xray"))
           for title, metric in (("ROUGE-L", "rouge_l"), ("BLEU-4", "bleu4"), ("RG_ER", "rg_er"), ("Macro-F1-14", "f1_14"))}  # fmt: skip


def claims(published: Published) -> list[Claim]:
    """Every claim that is looked at, in the order of the tables."""
    at = Print(published)
    checks = (_sums, _encoders, _aggregates, _classification, _segmentation, _reports, _tokens, _significance, _protocol)
    return [claim for check in checks for claim in check(at)]


def _verdict(right: bool) -> str:
    return HOLDS if right else FAILS


def _gains(gain: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {_signed(value)}" for name, value in gain.items())


def _signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "−")


# ---------------------------------------------------------------- Tables 1 and 2


def _sums(at: Print) -> Iterator[Claim]:
    count = {(r["dataset"], r["quantity"]): int(r["value"]) for r in at.published.data}
    datasets = list(dict.fromkeys(name for name, _ in count if name != "Total"))
    for quantity in ("subjects", "images", "frontal", "lateral"):
        total = sum(count[name, quantity] for name in datasets)
        printed = count["Total", quantity]
        yield Claim(f"Total {quantity} {printed:,}", "Table 1", f"{total:,}", _verdict(total == printed), "sum of the five data sets")
    wrong = [name for name in (*datasets, "Total") if count[name, "frontal"] + count[name, "lateral"] != count[name, "images"]]
    yield Claim("Frontal and lateral images add up to all images", "Table 1", f"{6 - len(wrong)} of 6 rows", _verdict(not wrong),
                "as sums; single cells differ from the owners' releases (results/published, docs/statistics.md)")  # fmt: skip
    frontal, lateral = count["Total", "frontal"], count["Total", "lateral"]
    extra = count["MIMIC-CXR", "lateral"]
    before = frontal / (lateral - extra)
    yield Claim("Frontal to lateral is about 6:1 without the added 90,000 laterals", "text; Table 1",
                f"{before:.2f}:1 without them, {frontal / lateral:.2f}:1 with them", _verdict(round(before) == 6),
                f"rounds to {round(before)}; without MIMIC-CXR's {extra:,} laterals")  # fmt: skip


def _encoders(at: Print) -> Iterator[Claim]:
    fact = {(r["model"], r["attribute"]): r for r in at.published.encoders}
    images = {name: float(fact[name, "images"]["value_numeric"]) for name in ("RadJEPA", "RAD-DINO")}
    yield Claim("Better than RAD-DINO with fewer training images", "text; Table 2",
                f"{images['RadJEPA']:,.0f} against {images['RAD-DINO']:,.0f}", _verdict(images["RadJEPA"] < images["RAD-DINO"]),
                "the printed sizes are equal to 0.1 %, and RadJEPA's is the larger")  # fmt: skip
    size = {name: float(fact[name, "parameters"]["value_numeric"]) for name in ("RadJEPA", "RAD-DINO")}
    shape = {name: fact[name, "architecture"]["value_text"] for name in size}
    yield Claim("Substantially smaller than the best other encoders", "text; Table 2",
                " against ".join(f"{name} {size[name] / 1e6:.0f} M ({shape[name]})" for name in size),
                _verdict(size["RadJEPA"] < 0.9 * size["RAD-DINO"]), "the same architecture; 86 and 87 are two roundings of it")  # fmt: skip
    in_table = {2: {r["model"] for r in at.published.encoders}, 5: {r["encoder"] for r in at.published.tokens}}
    in_table |= {n: {s.model for s in at.published.scores if s.table == n} for n in (3, 4)}
    with_t = [n for n in sorted(in_table) if "BioViL-T" in in_table[n]]
    without = [n for n in sorted(in_table) if "BioViL" in in_table[n]]
    yield Claim("One name means one encoder: BioViL", "Tables 2 to 5",
                f"BioViL in Tables {_listed(without)}, BioViL-T in {_listed(with_t)}", _verdict(not (with_t and without)),
                "two released models; 196 tokens fit BioViL-T")  # fmt: skip
    sides = {model: row["value_numeric"] for (model, attribute), row in fact.items() if attribute == "resolution_px"}
    printed = {r["encoder"]: r["input_res"].split("x")[0] for r in at.published.tokens}
    differs = [f"{name}: {sides[name]} and {side}" for name, side in printed.items() if sides.get(name, side) != side]
    yield Claim("Input sizes of Tables 2 and 5 agree", "Tables 2 and 5", "; ".join(differs) or "all equal", _verdict(not differs),
                "pixels a side, Table 2 first")  # fmt: skip


def _listed(numbers: Sequence[int]) -> str:
    return " and ".join(map(str, numbers))


# ---------------------------------------------------------------- Table 3


def _aggregates(at: Print) -> Iterator[Claim]:
    """The caption's mean of six against the printed one, and the seventh class that the printed one would imply."""
    for printed in at.column(3, "VinDr-CXR", AGG_PRINTED, "auprc"):
        row = printed.model + "*" * printed.starred
        six = [at.value(*VINDR[name], row) for name in SIX]
        mean, seventh = sum(six) / 6, 7 * printed.value - sum(six)
        fits = abs(mean - printed.value) <= 2 * ROUNDING + 1e-9
        slack = ROUNDING * (7 + 6)
        why = (
            "within rounding"
            if fits
            else f"a mean of seven with an unprinted class at {seventh:.1f} (± {slack:.2f} from rounding) would fit"
        )
        if fits and not printed.own_run:
            why += f"; so is a mean of seven with an unprinted class at {seventh:.1f} (± {slack:.2f})"
        yield Claim(f"Agg. of {row} is the mean of six classes: {printed.value:.1f}", "Table 3 and its caption", f"{mean:.2f}",
                    _verdict(fits), why)  # fmt: skip


def _classification(at: Print) -> Iterator[Claim]:
    mean = {s.model + "*" * s.starred: s.value for s in at.column(3, "VinDr-CXR", AGG6, "auprc")}
    printed = {s.model + "*" * s.starred: s.value for s in at.column(3, "VinDr-CXR", AGG_PRINTED, "auprc")}
    for other in ("RAD-DINO", "MRM"):
        like, said = mean["RadJEPA"] - mean[other], printed["RadJEPA"] - printed[other]
        yield Claim(f"RadJEPA's margin over {other} in Agg. is {said:.1f}", "Table 3", f"{like:.1f} from the same six classes",
                    _verdict(abs(like - said) <= 4 * ROUNDING),
                    "the printed difference subtracts a mean of seven from a mean of six")  # fmt: skip
    agg = {row: round(printed["RadJEPA"] - printed[row], 1) for row in ("RAD-DINO", "RAD-DINO*")}
    rsna = {row: at.gain(RSNA["AUPRC"], row) for row in ("RAD-DINO", "RAD-DINO*")}
    gains = [agg["RAD-DINO"], rsna["RAD-DINO"], agg["RAD-DINO*"], rsna["RAD-DINO*"]]
    yield Claim("Gains of 2 to 4 points AUPRC over RAD-DINO", "text; Table 3",
                f"VinDr {_signed(gains[0])}, RSNA {_signed(gains[1])} over the published row; {_signed(gains[2])}, {_signed(gains[3])} "
                "over the authors' own reproduction", _verdict(all(2 <= gain <= 4 for gain in gains)),
                f"{sum(2 <= gain <= 4 for gain in gains)} of 4 lie in the range; the row that is meant is not named")  # fmt: skip
    behind = {}
    for name in SIX:
        above = [s for s in at.column(*VINDR[name]) if s.value > at.value(*VINDR[name], "RadJEPA")]
        if above:
            behind[name] = f"{name} rank {len(above) + 1}, behind " + ", ".join(
                f"{s.model}{'*' * s.starred} {s.value}" for s in sorted(above, key=lambda s: -s.value))  # fmt: skip
    yield Claim("Consistently outperforms all other encoders in classification", "text; Table 3",
                "; ".join(behind.values()) or "first throughout",
                _verdict(not behind), f"first in {6 - len(behind)} of 6 classes of VinDr-CXR")  # fmt: skip
    over = {name: at.gain(VINDR[name], "I-JEPA") for name in SIX}
    yield Claim("Above I-JEPA in every class", "Table 3", _gains(over),
                _verdict(min(over.values()) > 0), f"{sum(gain > 0 for gain in over.values())} of 6")  # fmt: skip
    gain = {row: at.gain(VINDR["PF"], row) for row in ("RAD-DINO", "RAD-DINO*", "I-JEPA")}
    yield Claim("PF: +4.5 over RAD-DINO", "text; Table 3",
                f"published {_signed(gain['RAD-DINO'])}, reproduced {_signed(gain['RAD-DINO*'])}", _verdict(gain["RAD-DINO"] == 4.5),
                "against the published row; other sentences use the reproduced one (ribs, below)")  # fmt: skip
    yield Claim("PF: +4.9 over I-JEPA", "text; Table 3", _signed(gain["I-JEPA"]), _verdict(gain["I-JEPA"] == 4.9), "as printed")
    places = VINDR | {f"RSNA {metric}": place for metric, place in RSNA.items()}
    drift = {name: round(at.value(*place, "RAD-DINO*") - at.value(*place, "RAD-DINO"), 1) for name, place in places.items()}
    largest = max(drift.values(), key=abs)
    yield Claim("The reproduction of RAD-DINO agrees with the published one", "Table 3, starred row",
                _gains(drift), _verdict(abs(largest) <= 1),
                f"up to {_signed(largest)}, more than several claimed gains; judged at 1 point")  # fmt: skip


# ---------------------------------------------------------------- Table 4


def _segmentation(at: Print) -> Iterator[Claim]:
    gain = {row: {name: at.gain(place, row) for name, place in DICE.items()} for row in ("RAD-DINO", "RAD-DINO*", "I-JEPA")}
    every = [*gain["RAD-DINO"].values(), *gain["RAD-DINO*"].values()]
    yield Claim("Dice gains of 2 to 5 points over RAD-DINO", "text; Table 4",
                "published row: " + _gains(gain["RAD-DINO"]) + "; reproduced row: " + _gains(gain["RAD-DINO*"]),
                _verdict(all(2 <= one <= 5 for one in every)), "true of zones and ribs; lungs are at the ceiling")  # fmt: skip
    yield Claim("Ribs: +4.8 over RAD-DINO", "text; Table 4",
                f"published {_signed(gain['RAD-DINO']['ribs'])}, reproduced {_signed(gain['RAD-DINO*']['ribs'])}",
                _verdict(gain["RAD-DINO*"]["ribs"] == 4.8),
                "against the reproduced row, where PF (above) used the published one")  # fmt: skip
    baselines = {"PF": 4.5 == at.gain(VINDR["PF"], "RAD-DINO"), "ribs": 4.8 == gain["RAD-DINO"]["ribs"]}
    yield Claim("Gains over RAD-DINO are against one row of it", "text; Tables 3 and 4",
                ", ".join(f"{name}: {'published' if own else 'reproduced'}" for name, own in baselines.items()),
                _verdict(len(set(baselines.values())) == 1), "the baseline changes from sentence to sentence")  # fmt: skip
    ribs = gain["I-JEPA"]["ribs"]
    yield Claim("Ribs: +4.4 over I-JEPA", "text; Table 4", _signed(ribs), _verdict(ribs == 4.4), "as printed")
    first = [name for name, place in DICE.items()
             if at.value(*place, "RadJEPA") == max(s.value for s in at.column(*place, "UPerNet"))]  # fmt: skip
    yield Claim(
        "Best of all encoders with the same decoder", "Table 4", f"{len(first)} of 3 columns", _verdict(len(first) == 3), "UPerNet rows"
    )
    unet = {name: max(s.value for s in at.column(*place, "Unet")) for name, place in DICE.items()}
    ours = {name: at.value(*place, "RadJEPA") for name, place in DICE.items()}
    yield Claim("Fully trained U-Nets are an upper bound", "text; Table 4", ", ".join(f"{n}: {ours[n]} against {unet[n]}" for n in DICE),
                _verdict(all(ours[n] < unet[n] for n in DICE)), "met or exceeded, so they are references and no bound")  # fmt: skip


# ---------------------------------------------------------------- Table 5


def _reports(at: Print) -> Iterator[Claim]:
    first = [name for name, place in REPORTS.items() if at.value(*place, "RadJEPA") == max(s.value for s in at.column(*place))]
    least = min(round(at.value(*place, "RadJEPA") - at.best_other(place).value, 1) for place in REPORTS.values())
    yield Claim("Best of all encoders in report generation", "Table 5", f"{len(first)} of {len(REPORTS)} columns",
                _verdict(len(first) == len(REPORTS)), f"as printed; by as little as {least} points, without an interval")  # fmt: skip
    said = {"IU ROUGE-L": 1.7, "IU RG_ER": 0.9, "IU Macro-F1-14": 1.3}
    gain = {row: {name: at.gain(REPORTS[name], row) for name in said} for row in ("RAD-DINO*", "I-JEPA")}
    listed = "; ".join(f"over {row}: {', '.join(map(_signed, values.values()))}" for row, values in gain.items())
    right = all(gain["RAD-DINO*"][name] == value for name, value in said.items())
    yield Claim("IU-Xray: +1.7 ROUGE-L, +0.9 RG_ER, +1.3 F1 over the strongest encoder that is no JEPA", "text; Table 5", listed,
                _verdict(right), "ROUGE-L and F1 are the gaps to I-JEPA, RG_ER is the one to RAD-DINO*")  # fmt: skip
    for other in ("RAD-DINO_control", "RAD-DINO*", "I-JEPA"):
        gaps = {title: round(at.value(*place, "RadJEPA_control") - at.value(*place, other), 1) for title, place in REPORTS.items()}
        below = {title: gap for title, gap in gaps.items() if gap < 0}
        yield Claim(f"RadJEPA_control consistently matches or outperforms {other}", "text; Table 5",
                    f"{len(gaps) - len(below)} of {len(gaps)} columns"
                    + (f"; below: {_gains(below)}" if below else ""),
                    _verdict(not below), f"trained on {'the same' if other.endswith('_control') else 'other'} data")  # fmt: skip


def _tokens(at: Print) -> Iterator[Claim]:
    """Patch tokens are (side / patch) squared; the patch is the number after the slash of Table 2's architecture."""
    fact = {r["model"]: r["value_text"] for r in at.published.encoders if r["attribute"] == "architecture"}
    for row in dict.fromkeys((r["encoder"], r["input_res"], r["n_tokens"]) for r in at.published.tokens):
        model, size, tokens = row[0], int(row[1].split("x")[0]), int(row[2])
        architecture = next((text for name, text in fact.items() if same_model(name, model)), "")
        patch = re.search(r"/(\d+)$", architecture)
        claim = f"{model} sees {tokens} tokens at {size} pixels"
        if patch is None:
            yield Claim(claim, "Table 5", "–", OPEN, f"{architecture or 'its architecture'} has no patches to count")
            continue
        side = int(patch[1])
        expected, root = (size // side) ** 2, round(tokens**0.5)
        why = f"({size} / {side})², {architecture} of Table 2"
        if size % side:
            why += f"; {size} is no multiple of {side}"
        elif expected != tokens and root * root == tokens:
            why += f"; {tokens} = {root}² would need {root * side} pixels"
        yield Claim(claim, "Table 5", str(expected) if size % side == 0 else f"{size} / {side} = {size / side:.2f}",
                    _verdict(size % side == 0 and expected == tokens), why)  # fmt: skip


# ---------------------------------------------------------------- Table 6 and the text


def _significance(at: Print) -> Iterator[Claim]:
    outcomes = [row["outcome"] for row in at.published.significance]
    count = [outcomes.count(f"{kind}_improvement") for kind in ("significant", "nonsignificant", "no")]
    yield Claim("Significant in 16 of 19 comparisons", "text; Table 6", f"{count[0]} ✓✓ + {count[1]} ✓ + {count[2]} ✗ = {sum(count)}",
                _verdict(count == [16, 1, 2]), "as counts of marks")  # fmt: skip
    places = {(3, "VinDr-CXR"): VINDR, (3, "RSNA-Pneumonia"): {"AP": RSNA["AUPRC"], "AUC": RSNA["AUROC"]}}
    columns = {**VINDR, **places[3, "RSNA-Pneumonia"], "Lung": DICE["lungs"], "L-Zone": DICE["lung zones"], "Rib": DICE["ribs"]}
    short = {"R-L": "ROUGE-L", "B-4": "BLEU-4", "RGER": "RG_ER", "F1": "Macro-F1-14"}
    by_rule: dict[str, list[str]] = {"best other row of the column": [], "RAD-DINO": [], "RAD-DINO*": []}
    smallest = []
    for row in at.published.significance:
        label = row["row_label"]
        place = columns.get(label) or REPORTS[f"{'MIMIC' if row['dataset'] == 'MIMIC-CXR' else 'IU'} {short[label]}"]
        # A U-Net trained end to end is no encoder that is compared.
        rivals = [s for s in at.column(*place) if not s.model.startswith("RadJEPA") and s.decoder != "Unet"]
        best = max(rivals, key=lambda s: s.value)
        ahead = {"best other row of the column": round(at.value(*place, "RadJEPA") - best.value, 1)}
        ahead |= {name: at.gain(place, name) for name in ("RAD-DINO", "RAD-DINO*")}
        for rule, gain in ahead.items():
            if (gain > 0) != (row["outcome"] != "no_improvement"):
                by_rule[rule].append(f"{row['dataset']} {label} {_signed(gain)}")
        if row["outcome"] == "significant_improvement":
            smallest.append((ahead["best other row of the column"], f"{row['dataset']} {label}", best.model + "*" * best.starred))
    for rule, wrong in by_rule.items():
        yield Claim(f"The marks fit the sign of the difference from: {rule}", "Table 6", f"{19 - len(wrong)} of 19"
                    + (f"; not {', '.join(wrong)}" if wrong else ""), _verdict(not wrong),
                    "no baseline is named in print; U-Nets trained end to end are left out")  # fmt: skip
    gain, where, who = min(smallest)
    yield Claim("Every ✓✓ is significant at 5 %", "Table 6", f"smallest ✓✓ difference: {where} {_signed(gain)} against {who}", OPEN,
                "no p value, test, unit or correction is printed; it takes predictions of both encoders on the same images")  # fmt: skip


def _protocol(at: Print) -> Iterator[Claim]:
    share = 0.2 * 26_684
    yield Claim("RSNA test set: 20 % of 26,684 are 5,337", "text", f"{share:,.1f}", _verdict(round(share) == 5337), "rounded")
    for task, devices, each, total in (("linear probe", 3, 32, 96), ("segmentation", 4, 20, 80), ("reports", 4, 32, 128)):
        yield Claim(f"Batch of the {task}: {devices} devices of {each} are {total}", "text", str(devices * each),
                    _verdict(devices * each == total), "arithmetic only")  # fmt: skip
    columns = {name for table in (3, 4, 5) for name in _header(at.published, table)}
    spread = sorted(name for name in columns if re.search(r"std|sd|low|high|interval|median", name))
    yield Claim("Mean ± SD over five runs; medians with 95 % intervals", "text; Tables 3 to 5",
                f"{len(spread)} columns of spread or interval",
                _verdict(bool(spread)), "promised in the text, printed nowhere")  # fmt: skip
    yield Claim(
        "RadJEPA's mean of the seven classes that the copied rows use", "not printed", "–", OPEN, "the seventh class is not printed"
    )
    yield Claim("VinDr-CXR has 18,000 unique patients", "text", "–", OPEN, "no patient id is released")


def _header(published: Published, table: int) -> list[str]:
    file = next(file for file in published.files if file.name.startswith(f"table{table}_"))
    return file.read_text(encoding="utf-8").splitlines()[0].split(",")


# ---------------------------------------------------------------- the page


def page(published: Published) -> str:
    """docs/claims.md."""
    found = claims(published)
    counts = [sum(one.verdict == verdict for one in found) for verdict in (HOLDS, FAILS, OPEN)]
    caption = (f"Claims of arXiv 2601.15891 recomputed from the numbers it prints: of {len(found)} looked at, {counts[0]} hold, "
               f"{counts[1]} do not, {counts[2]} cannot be checked from print.")  # fmt: skip
    notes = [
        "This is arithmetic on printed numbers, not a measurement: what a run of this project measures stands in results/tables. "
        "RAD-DINO* is the authors' own reproduction. Differences in points.",
        "Written by python -m stats.claims --out docs/claims.md; stats/claims.py holds each check, results/published the numbers.",
    ]
    rows = [[one.claim, one.where, one.recomputed, one.verdict, one.why] for one in found]
    header = ["Claim", "Where", "Recomputed", "Verdict", "Why"]
    return markdown(caption, [Panel("Claims", header, rows, notes=notes)], "The paper's own claims, recomputed")


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
