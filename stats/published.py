"""The paper's numbers (arXiv 2601.15891), from `results/published/*.csv`, under the names this project uses."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .errors import SpecError
from .provenance import read_csv

#: The folder that is tracked with the project.
PUBLISHED = Path(__file__).resolve().parent.parent / "results" / "published"
#: Metric names of the paper -> columns of estimates.csv.
METRICS = {"AUPRC": "auprc", "AUROC": "auroc", "Dice": "dice", "ROUGE-L": "rouge_l", "BLEU-4": "bleu4",
           "RG_ER": "rg_er", "Macro-F1-14": "f1_14"}  # fmt: skip

#: The paper uses these interchangeably (Tables 2 and 5: BioViL; Tables 3 and 4: BioViL-T).
ALIASES = {"biovil": "biovil-t", "biovil-t": "biovil"}

#: Row labels of Table 6 that are neither a column of Table 3 nor a metric.
TABLE6_LABELS = {"lungs": "lung", "lung zones": "l-zone", "ribs": "rib"}

#: Recomputed mean of the six printed columns, where the printed "Agg." mixes two definitions.
AGG6 = "Agg-6"
#: The printed "Agg." column. Rows copied from earlier work fit a mean of seven classes with an unprinted one; the authors'
#: own runs (starred rows, I-JEPA, RadJEPA) fit the six that the caption names.
AGG_PRINTED = "Agg."
#: What the copied rows' "Agg." is held against: the mean of the six printed classes and the seventh, which has no column.
AGG7, SEVENTH = "Agg-7", "Tuberculosis"


@dataclass(frozen=True)
class Score:
    """One printed score (points, 0 to 100).

    Attributes:
        table: 3, 4 or 5.
        starred: the row the authors marked as their own reproduction (``*``).
        column: its printed title; ``names``: the names under which a measured target may answer to it, lower case.
        metric: as in estimates.csv.
        decoder: Table 4 only.
        own_run: run by the paper's authors, as far as the tables tell.
        derived: not printed but computed here from printed values.
    """

    table: int
    dataset: str
    model: str
    starred: bool
    column: str
    names: frozenset[str]
    metric: str
    value: float
    decoder: str = ""
    own_run: bool = False
    derived: bool = False

    @property
    def row(self) -> str:
        """Row title: model, star, decoder where it matters."""
        return self.model + ("*" if self.starred else "") + (f" ({self.decoder})" if self.decoder else "")


class Published:
    """All six published tables of a folder, and what is known to be wrong in them.

    Attributes:
        data, encoders, tokens, significance, inconsistencies, splits: rows of the CSVs as text.
        scores: Tables 3 to 5 in points, and the mean of the six printed VinDr-CXR columns where a row has all of them.

    Raises:
        SpecError: a CSV is missing.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.files = sorted(self.folder.glob("*.csv"))
        self.data = self._read("table1_pretraining_data.csv")
        self.encoders = self._read("table2_encoders.csv")
        self.tokens = self._read("table5_report_generation.csv")
        self.significance = self._read("table6_significance.csv")
        self.inconsistencies = self._read("inconsistencies.csv")
        self.splits = self._read("splits.csv")
        self.scores = self._classification() + self._segmentation() + self._reports()

    def _read(self, name: str) -> list[dict[str, str]]:
        path = self.folder / name
        if not path.is_file():
            raise SpecError(str(path), "no such file", "the paper's table as CSV", "set 'published' in the spec")
        return read_csv(path)

    def _classification(self) -> list[Score]:
        found, six = [], {}
        for row in self._read("table3_classification.csv"):
            starred = row["reproduced"] == "1"
            own_run = starred or row["model"] in ("I-JEPA", "RadJEPA")
            names = {row["class"].lower(), row["class_name"].lower()}
            if row["class"] == AGG_PRINTED and not own_run:
                names.add(AGG7.lower())
            score = Score(3, row["dataset"], row["model"], starred, row["class"], frozenset(names), METRICS[row["metric"]],
                          float(row["value"]), own_run=own_run)  # fmt: skip
            found.append(score)
            if score.dataset == "VinDr-CXR" and score.column != AGG_PRINTED:
                six.setdefault((score.model, starred), []).append(score)
        for scores in six.values():
            if len(scores) == 6:
                first, mean = scores[0], sum(score.value for score in scores) / 6
                found.append(Score(3, first.dataset, first.model, first.starred, AGG6, frozenset({AGG6.lower()}),
                                   first.metric, mean, own_run=first.own_run, derived=True))  # fmt: skip
        return found

    def _segmentation(self) -> list[Score]:
        return [
            Score(4, row["dataset"], row["encoder"], row["reproduced"] == "1", row["target"],
                  frozenset({row["target"].lower()}), METRICS[row["metric"]], float(row["value"]), row["decoder"])
            for row in self._read("table4_segmentation.csv")
        ]  # fmt: skip

    def _reports(self) -> list[Score]:
        return [
            Score(5, row["dataset"], row["encoder"], row["reproduced"] == "1", row["metric"], frozenset({"report"}),
                  METRICS[row["metric"]], float(row["value"]))
            for row in self._read("table5_report_generation.csv")
        ]  # fmt: skip

    def find(self, table: int, dataset: str, paper_name: str, metric: str, names: Iterable[str], decoder: str = "UPerNet") -> Score | None:
        """The score a measured cell is held against: same row, data, metric and column; the same decoder if printed. None without one.

        Of several candidates the same decoder comes first, then the same spelling of the model.
        """
        wanted = {name.lower() for name in names}
        starred = paper_name.endswith("*")
        found = [
            score for score in self.scores
            if score.table == table and score.dataset == dataset and score.metric == metric and score.names & wanted
            and score.starred == starred and same_model(score.model, paper_name)
        ]  # fmt: skip
        found.sort(key=lambda s: (s.decoder.lower() != decoder.lower(), s.model.lower() != paper_name.lower()))
        return found[0] if found else None

    def best_other(self, table: int, dataset: str, metric: str, names: Iterable[str], model: str) -> Score | None:
        """The best printed value of a column, ``model`` and its variants and U-Nets trained end to end aside; None without one.

        Every printed metric is better when larger.
        """
        wanted = {name.lower() for name in names}
        found = [score for score in self.scores
                 if score.table == table and score.dataset == dataset and score.metric == metric and score.names & wanted
                 and score.decoder != "Unet" and not score.model.lower().startswith(model.lower())]  # fmt: skip
        return max(found, key=lambda score: score.value) if found else None

    def printed_columns(self, table: int, dataset: str) -> set[str]:
        """Every name of the columns that a table prints for a data set, means over columns left out; lower case."""
        found = [s for s in self.scores if s.table == table and s.dataset == dataset and s.column not in (AGG_PRINTED, AGG6)]
        return {name for score in found for name in score.names}

    def test_size(self, dataset: str) -> tuple[int, str] | None:
        """How many "images" or "studies" the paper tests on (of all where it states no split); None where it does not say."""
        stated = {row["split"]: (int(row["count"]), row["unit"]) for row in self.splits if row["dataset"] == dataset}
        return stated.get("test", stated.get("all"))

    def inconsistency(self, paper_name: str, attribute: str) -> str:
        """What is known to be wrong with a printed fact of an encoder (results/published/inconsistencies.csv), or nothing."""
        wanted = [row["note"] for row in self.inconsistencies if row["attribute"] == attribute and same_model(row["row"], paper_name)]
        return wanted[0] if wanted else ""

    def outcome_row(self, dataset: str, metric: str, names: Iterable[str]) -> dict[str, str] | None:
        """Row of Table 6 for a column; its ``outcome`` is one of ``significant_improvement``,
        ``nonsignificant_improvement`` and ``no_improvement``. None where no row, or more than one, fits.
        """
        rows = [r for r in self.significance if r["dataset"] == dataset and METRICS[r["metric"]] == metric]
        if len(rows) > 1:
            wanted = {TABLE6_LABELS.get(name.lower(), name.lower()) for name in names}
            rows = [row for row in rows if row["row_label"].lower() in wanted]
        return rows[0] if len(rows) == 1 else None


def same_model(model: str, paper_name: str) -> bool:
    """Whether a printed row and a card's ``paper_name`` mean the same encoder (spelling differs between tables).

    >>> same_model("BioMedCLIP", "BiomedCLIP"), same_model("BioViL", "BioViL-T"), same_model("RAD-DINO", "RadJEPA")
    (True, True, False)
    """
    one, two = model.lower(), paper_name.rstrip("*").lower()
    return bool(two) and (one == two or ALIASES.get(one) == two)
