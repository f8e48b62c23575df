"""What the checks of the paper's claims share: a claim, its verdicts, and the printed numbers by place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .figures import signed
from .provenance import read_csv
from .published import Published, Score

HOLDS, FAILS, CONTRADICTS, OPEN = "holds", "does not hold", "contradicts itself", "cannot be checked from print"
VERDICTS = (HOLDS, FAILS, CONTRADICTS, OPEN)
#: Half a unit of the last printed digit, points.
ROUNDING = 0.05
SIX = ("LO", "CM", "PL-T", "AE", "PF", "PE")


@dataclass(frozen=True)
class Claim:
    """One claim: its words, where they are printed, what the numbers (or the two places of the text) say, and what follows."""

    claim: str
    where: str
    says: str
    verdict: str
    why: str


class Print:
    """The published scores by place."""

    def __init__(self, published: Published) -> None:
        self.published = published
        self.count = {(row["dataset"], row["quantity"]): int(row["value"]) for row in published.data}
        self.fact = {(row["model"], row["attribute"]): row for row in published.encoders}
        self.size = {(row["dataset"], row["split"]): int(row["count"]) for row in published.splits}
        self.decoders = read_csv(published.folder / "table4_segmentation.csv")

    def column(self, table: int, dataset: str, column: str, metric: str, decoder: str = "") -> list[Score]:
        """All rows of a column, in the order of print."""
        return [s for s in self.published.scores if (s.table, s.dataset, s.column, s.metric) == (table, dataset, column, metric)
                and (not decoder or s.decoder == decoder)]  # fmt: skip

    def value(self, table: int, dataset: str, column: str, metric: str, row: str) -> float:
        """One number; ``row`` is a model, with ``*`` for the authors' reproduction; UPerNet in Table 4."""
        found = [s for s in self.column(table, dataset, column, metric, "UPerNet" if table == 4 else "") if starred(s) == row]
        return found[0].value

    def gain(self, place: tuple[int, str, str, str], baseline: str) -> float:
        """RadJEPA minus a row, points, to the printed digit."""
        return round(self.value(*place, "RadJEPA") - self.value(*place, baseline), 1) + 0.0

    def best_other(self, place: tuple[int, str, str, str]) -> Score:
        """Best row that is not one of RadJEPA's nor a U-Net trained end to end, which is no encoder; the first of equals."""
        table, dataset, column, metric = place
        return self.published.best_other(table, dataset, metric, {"report" if table == 5 else column}, "RadJEPA")


VINDR = {name: (3, "VinDr-CXR", name, "auprc") for name in SIX}
RSNA = {"AUPRC": (3, "RSNA-Pneumonia", "Pneumonia", "auprc"), "AUROC": (3, "RSNA-Pneumonia", "Pneumonia", "auroc")}
DICE = {"lungs": (4, "MIMIC-CXR subset", "Lungs", "dice"), "lung zones": (4, "MIMIC-CXR subset", "Lung zones", "dice"),
        "ribs": (4, "VinDr-RibCXR", "Ribs", "dice")}  # fmt: skip
REPORTS = {f"{short} {title}": (5, dataset, title, metric) for short, dataset in (("MIMIC", "MIMIC-CXR"), ("IU", "IU-Xray"))
           for title, metric in (("ROUGE-L", "rouge_l"), ("BLEU-4", "bleu4"), ("RG_ER", "rg_er"), ("Macro-F1-14", "f1_14"))}  # fmt: skip


def starred(score: Score) -> str:
    """A row's model, with ``*`` for the authors' reproduction."""
    return score.model + "*" * score.starred


def verdict(right: bool) -> str:
    """HOLDS or FAILS."""
    return HOLDS if right else FAILS


def gains(gain: Mapping[str, float]) -> str:
    """Differences by name."""
    return ", ".join(f"{name} {signed(value)}" for name, value in gain.items())


def listed(names: Iterable[object]) -> str:
    """Names as a sentence has them.

    >>> listed([3]), listed("abc")
    ('3', 'a, b and c')
    """
    *first, last = map(str, names)
    return f"{', '.join(first)} and {last}" if first else last
