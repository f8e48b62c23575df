"""Tables 3, 4 and 5: every encoder on every column of every dataset, published beside measured.

All scores are in points (0 to 100), as the paper prints them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import ProtocolMismatch, SpecError
from .measures import BIASED_UP, LOWER_IS_BETTER, REPORT
from .provenance import Sidecar, read_csv, read_sidecar
from .published import AGG6, AGG7, AGG_PRINTED, SEVENTH, Published, Score
from .ranking import guessed_average_precision
from .typeset import OVERLAP, REDUCED, UNTOLD, Cell, Panel, best_two

#: Further files of a statistics folder.
MORE = ("ranks", "subgroups", "learning_curves", "reliability")
TASKS = {3: "linear_probe", 4: "segmentation", 5: "report_generation"}
METRIC_TITLES = {"auprc": "AUPRC", "auroc": "AUROC", "dice": "Dice", "rouge_l": "ROUGE-L", "bleu4": "BLEU-4",
                 "rg_er": "RG_ER", "f1_14": "Macro-F1-14", "rouge_l_coco": "ROUGE-L (coco)", "brier": "Brier", "ece": "ECE",
                 "hd95": "HD95", "nsd": "NSD"}  # fmt: skip
#: Share of its width by which the median of the resamples may be away from the value before a note says that an interval does not hold what
#: it promises. The width is 3.92 standard errors, so a tenth is 0.39; of a bias of so many on the data, and once more in the resamples, an
#: interval of 95 % holds the truth in 88.
BESIDE = 0.1
SITE_AUROC = 0.6  # from here on a note says that the site gives a label away
#: Tokenizer of the reports -> what it gives.
TOKENIZERS = {"words": 'words (tokenizer "words": runs of letters, digits and underscores in lower case, an apostrophe inside)',
              "ptb": "tokens of Stanford's PTBTokenizer, as pycocoevalcap"}  # fmt: skip
#: Resampled units (patients); below, every table with intervals says that they cannot be relied on, and nothing is called significant. Of
#: a label each class needs so many: with three positive patients 5.8 % of simulated studies of equal encoders have a p below 0.003, with
#: ten 0.4 % (docs/coverage.md).
FEW = 10
#: What a card says about a data set. A card without `pretrained_on` says nothing, nor does no card at all, one that lists "unknown",
#: or an empty list of an encoder that was to be trained here and was not: none of that is "not seen".
SEEN, UNSEEN, UNKNOWN = "seen", "not seen", "unknown"
REPORT_METRICS = ("rouge_l", "bleu4", "rg_er", "f1_14", "rouge_l_coco")

SCORE_COLUMNS = (
    "table", "dataset", "dataset_title", "encoder", "encoder_title", "control", "column", "target", "metric", "unit",
    "value", "guessing", "sd", "replicates", "median", "low", "high", "bca_low", "bca_high", "shifted_low",
    "shifted_high", "two_level_low", "two_level_high",
    "resamples", "resamples_valid", "n_images", "n_patients",
    "n_units", "n_positive", "n_positive_units", "n_negative_units", "false_positive_images", "resampling_unit", "published",
    "published_row", "difference", "verdict", "reason", "marks", "state",
)  # fmt: skip


@dataclass(frozen=True)
class Encoder:
    """What a table needs to know about an encoder; the id stands in for a card that was never written.

    Attributes:
        name: its id, the name of its folders.
        card: what its card says; ``measured``: what was counted (image size, tokens, parameters).
        control: whether it is a control, which is never marked as best.
        reason: why there are no features, empty when there are.
    """

    name: str
    card: Mapping[str, Any]
    measured: Mapping[str, Any]
    control: bool
    reason: str = ""

    @property
    def title(self) -> str:
        """The card's title, or the id."""
        return self.card.get("title") or self.name

    @property
    def paper_name(self) -> str:
        """The row of the paper that this encoder is, with its star; empty for none."""
        return self.card.get("paper_name") or ""

    def known(self, sources: Set[str]) -> str:
        """Whether the encoder was pretrained on images of these sources: ``seen``, ``not seen``, or ``unknown``."""
        said = self.card.get("pretrained_on")
        if sources & set(said or []):
            return SEEN
        untrained = not said and self.reason and not self.control
        return UNKNOWN if said is None or UNKNOWN in said or untrained else UNSEEN


@dataclass(frozen=True)
class Section:
    """One dataset of Table 3, 4 or 5 with everything derived for it.

    ``estimates`` and ``comparisons`` are rows as text, in fractions, as they stand in the CSVs; :func:`points` turns them.
    """

    table: int
    dataset: str
    title: str
    paper: str | None
    metrics: tuple[str, ...]
    columns: Mapping[str, str]  # target -> short title
    estimates: Mapping[tuple[str, str, str], dict[str, str]]  # (encoder, target, metric) -> row of estimates.csv
    comparisons: Mapping[tuple[str, str, str, str], dict[str, str]]  # (encoder, other, target, metric) -> row
    sources: frozenset[str]  # dataset names whose images these are
    facts: Mapping[str, Any]
    gap: str = ""  # why there are no estimates at all
    label_sites: Mapping[str, Mapping[str, Sequence[int]]] = field(default_factory=dict)  # label: site: positives, negatives
    more: Mapping[str, list[dict[str, str]]] = field(default_factory=dict)  # rows of the further files, by name without suffix
    copies: Mapping[str, int] = field(default_factory=dict)  # data set: images of it that were found among these
    learned: Mapping[str, str] = field(default_factory=dict)  # encoder: "training split only", where it saw no test image of these data
    processing: Sequence[str] = ()  # what the owner did to the pictures

    def displayed(self) -> list[tuple[str, str, str]]:
        """(title, target, metric) of each column, aggregates last."""
        if self.table == 5:
            return [(METRIC_TITLES[metric], REPORT, metric) for metric in self.metrics]
        aggregates = sorted({t for _, t, _ in self.estimates if re.fullmatch(r"Agg-\d+", t)}, key=lambda t: int(t[4:]))
        several = self.metrics != {3: ("auprc",), 4: ("dice",)}[self.table]  # the caption names these
        return [
            (f"{short} {METRIC_TITLES[metric]}" if several else short, target, metric)
            for metric in self.metrics
            for target, short in {**self.columns, **{target: target for target in aggregates}}.items()
        ]

    def names(self, target: str) -> set[str]:
        """Names under which the paper may print a target."""
        return {target, self.columns.get(target, target)}

    @property
    def seven(self) -> bool:
        """Whether the mean of its seven labels is the one that the copied rows' printed Agg. fits."""
        return len(self.columns) == 7 and SEVENTH.lower() in {name.lower() for name in self.columns}

    @property
    def decoder(self) -> str:
        """Segmentation decoder of these estimates, UPerNet where the facts name none."""
        return str((self.facts.get("protocol") or {}).get("decoder") or "UPerNet")


@dataclass(frozen=True)
class ScoreCell:
    """One measured cell with what the paper says about it: verdict, its reason, and marks that qualify the number."""

    section: Section
    encoder: Encoder
    column: str
    target: str
    metric: str
    estimate: Mapping[str, str]
    published: Score | None
    verdict: str
    reason: str
    marks: str

    @property
    def value(self) -> float | None:
        """Measured value in points; None where there is none."""
        return points(self.estimate.get("value"))

    def row(self) -> dict[str, Any]:
        """Row of tableN.csv; all scores in points, ``difference`` = measured - published."""
        estimate = self.estimate
        published = self.published.value if self.published else None
        return {
            "table": self.section.table, "dataset": self.section.dataset, "dataset_title": self.section.title,
            "encoder": self.encoder.name, "encoder_title": self.encoder.title, "control": self.encoder.control,
            "column": self.column, "target": self.target, "metric": self.metric, "unit": "points",
            "guessing": guessing(estimate),
            **{name: points(estimate.get(name)) for name in ("value", "sd", "median", "low", "high", "bca_low", "bca_high",
               "shifted_low", "shifted_high", "two_level_low", "two_level_high")},
            **{name: estimate.get(name, "") for name in ("replicates", "resamples", "resamples_valid", "n_images",
               "n_patients", "n_units", "n_positive", "n_positive_units", "n_negative_units", "false_positive_images", "state")},
            "resampling_unit": estimate.get("unit", ""), "published": published,
            "published_row": self.published.row if self.published else "",
            "difference": self.value - published if published is not None and self.value is not None else None,
            "verdict": self.verdict, "reason": self.reason, "marks": self.marks,
        }  # fmt: skip


def points(text: str | None) -> float | None:
    """A fraction printed in a CSV as points (100 times as much, 8 decimals); None for an empty field.

    Raises:
        ValueError: the text is no number.

    >>> points("0.5520000000"), points("")
    (55.2, None)
    """
    return None if text in (None, "") else round(100 * float(text), 8)


def read_section(table: int, spec: Mapping[str, Any], sidecars: list[Sidecar]) -> Section:
    """Estimates, comparisons and index facts of one dataset; what is missing becomes the section's ``gap``.

    Every sidecar read is appended to ``sidecars``.

    Args:
        table: 3, 4 or 5.
        spec: the dataset's entry of the description of the tables.

    Raises:
        SpecError: ``dataset``, ``title`` or ``stats`` is not in the spec.
        SidecarError, HashMismatch: a meta.json is unusable, or a file is not the one that it vouches for.
    """
    for key in ("dataset", "title", "stats"):
        if key not in spec:
            raise SpecError(f"table{table} of the spec", f"keys {sorted(spec)}", f"a key {key!r}", "add it")
    estimates, comparisons, facts, gap, label_sites, more, processing = {}, {}, {}, "", {}, {}, []
    meta = Path(spec["stats"]) / "meta.json"
    if meta.is_file():
        sidecar = read_sidecar(meta)
        sidecars.append(sidecar)
        facts = sidecar.facts
        for row in read_csv(sidecar.verified("estimates.csv")):
            estimates[row["encoder"], row["target"], row["metric"]] = row
        for row in read_csv(sidecar.verified("comparisons.csv")):
            comparisons[row["encoder"], row["other"], row["target"], row["metric"]] = row
        written = sidecar.content.get("files") or {}
        more = {name: read_csv(sidecar.verified(f"{name}.csv")) if f"{name}.csv" in written else [] for name in MORE}
    else:
        gap = f"no statistics at {spec['stats']}"
    sources = {spec["dataset"]}
    if spec.get("index") and (Path(spec["index"])).is_file():
        index = read_sidecar(spec["index"])
        sidecars.append(index)
        sources |= set(index.facts.get("sources") or [])
        label_sites, processing = index.facts.get("label_sites") or {}, index.facts.get("processing") or []
    metrics = {3: spec.get("metrics") or ["auprc"], 4: spec.get("metrics") or ["dice"], 5: REPORT_METRICS}[table]
    return Section(table, spec["dataset"], spec["title"], spec.get("paper"), tuple(metrics), spec.get("columns") or {},
                   estimates, comparisons, frozenset(sources), facts, gap, label_sites, more, processing=processing)  # fmt: skip


def refuse_mixed_versions(sections: Sequence[Section]) -> None:
    """The datasets of one table must have been measured under one version of the task.

    Raises:
        ProtocolMismatch: they were not.
    """
    versions = {str(s.facts["version"]): s for s in sections if s.facts.get("version") is not None}
    if len(versions) > 1:
        got = ", ".join(f"{version} ({section.dataset})" for version, section in sorted(versions.items()))
        raise ProtocolMismatch(f"table {sections[0].table}", f"versions {got}", "one version of the task",
                               "run the task again for the datasets of the older version")  # fmt: skip


def score_cells(section: Section, encoders: Iterable[Encoder], published: Published) -> list[ScoreCell]:
    """Every encoder x displayed column of a section, each with its verdict."""
    columns = section.displayed()
    return [score_cell(section, encoder, *column, published) for encoder in encoders for column in columns]


def score_cell(section: Section, encoder: Encoder, column: str, target: str, metric: str, published: Published) -> ScoreCell:
    """One cell: the estimate or the reason for its absence, the paper's number, the verdict."""
    estimate = find_estimate(section, encoder, target, metric)
    score = None
    if section.paper and encoder.paper_name:
        score = published.find(section.table, section.paper, encoder.paper_name, metric, section.names(target),
                               section.decoder)  # fmt: skip
    verdict, reason = judge(section, estimate, score, published.test_size(section.paper) if section.paper else None)
    # A mark qualifies a number; where there is none, the reason stands in its place.
    seen = set(encoder.card.get("pretrained_on") or []) if estimate.get("value") else set()
    labels = set(encoder.card.get("labels_seen") or [])
    only = f" ({section.learned[encoder.name]})" if encoder.name in section.learned else ""
    overlap = {name + " with its labels" * (name in labels) + only for name in section.sources & seen}
    overlap |= {f"{name} ({count} copies found)" for name, count in section.copies.items() if name in seen - section.sources}
    marks = [f"overlap: {', '.join(sorted(overlap))}"] if overlap else []
    if estimate.get("value") and "pretrained_on" in encoder.card and not overlap and encoder.known(section.sources) == UNKNOWN:
        marks = ["pretraining data: not all known, so these images may be among them"]
    marks += [f"reduced protocol: {estimate['reduced']}"] if estimate.get("reduced") else []
    return ScoreCell(section, encoder, column, target, metric, estimate, score, verdict, reason, "; ".join(marks))


def find_estimate(section: Section, encoder: Encoder, target: str, metric: str) -> dict[str, str]:
    """Row of estimates.csv (fractions, as text), or a row with ``state`` and ``reason`` that says why there is none."""
    if section.gap:
        return {"state": "absent", "reason": section.gap}
    for key in ((encoder.name, target, metric), (encoder.name, "", "")):
        if key in section.estimates:
            return section.estimates[key]
    if not any(name == encoder.name for name, _, _ in section.estimates):
        return {"state": "absent", "reason": encoder.reason or f"not among the encoders run on {section.dataset}"}
    dropped = (section.facts.get("labels_dropped") or {}).get(target)
    reason = f"{target} cannot be probed: {dropped}" if dropped else f"{METRIC_TITLES[metric]} of {target} is not in the predictions"
    return {"state": "not_computed", "reason": reason}


def judge(section: Section, estimate: Mapping[str, str], score: Score | None, test_size: tuple[int, str] | None) -> tuple[str, str]:
    """Verdict of a cell and its reason.

    ``reproduced``: the published value lies inside the measured 95 % interval. ``differs``: it does not. ``not run``
    and ``not comparable`` say why. The rule looks at the measured interval only, since the paper prints none, and needs
    a test set of the paper's size (images or studies), up to 1 %. It is no test of equality: the paper's own uncertainty is
    unknown, and a wide interval holds much.

    Args:
        estimate: row of estimates.csv, fractions.
        score: what the paper prints, in points; None where it prints nothing.
        test_size: the paper's number of test images or studies and which of the two; None where it does not say.
    """
    if not estimate.get("value"):
        return "not run", estimate.get("reason", "")
    if not section.paper:
        return "not comparable", "no published value for these data"
    if score is None:
        return "not comparable", "the paper prints no value for this encoder and column"
    if score.column == AGG_PRINTED and not score.own_run and not section.seven:
        return "not comparable", f"the printed Agg. of this row fits a mean of seven classes, the six printed ones and {SEVENTH}"
    lost = [name for name in section.facts.get("labels_dropped") or {} if name in section.columns and name.lower() != SEVENTH.lower()]
    if score.column in (AGG_PRINTED, AGG6) and (lost or estimate.get("reason")):
        without = f"without {', '.join(lost)}" if lost else estimate["reason"]
        return "not comparable", f"a mean of other classes: {without}"
    if score.decoder and score.decoder.lower() != section.decoder.lower():
        return "not comparable", f"published with another decoder ({score.decoder})"
    if why := other_conditions(estimate, test_size):
        return "not comparable", why
    if not estimate.get("low"):
        return "not comparable", "no valid resample, so no interval"
    if points(estimate["low"]) <= score.value <= points(estimate["high"]):
        return "reproduced", "published value inside the measured 95 % interval"
    return "differs", "published value outside the measured 95 % interval"


def guessing(estimate: Mapping[str, str]) -> float | None:
    """What scores that know nothing reach in a row of estimates.csv, in points: AUROC, and of one label AUPRC and Brier score.

    AUPRC and AUROC on average; the Brier score p (1 - p) of always saying the share of positives p, the best that knows no image.

    >>> guessing({"metric": "auprc", "n_positive": "5", "n_images": "219"}), guessing({"metric": "auroc"}), guessing({"metric": "dice"})
    (4.51022939, 50.0, None)
    >>> guessing({"metric": "brier", "n_positive": "20", "n_images": "100"})
    16.0
    """
    if estimate.get("metric") == "auprc" and estimate.get("n_positive"):
        return round(100 * guessed_average_precision(int(estimate["n_positive"]), int(estimate["n_images"])), 8)
    if estimate.get("metric") == "brier" and estimate.get("n_positive"):
        share = int(estimate["n_positive"]) / int(estimate["n_images"])
        return round(100 * share * (1 - share), 8)
    return 50.0 if estimate.get("metric") == "auroc" else None


def plural(unit: str) -> str:
    """Of what is resampled: patients, studies or images.

    >>> plural("study"), plural("image")
    ('studies', 'images')
    """
    return "studies" if unit == "study" else f"{unit}s"


def too_few(estimate: Mapping[str, str]) -> str:
    """Why a test on this row of estimates.csv would claim too much: fewer than FEW units to resample, in a class or at all; or nothing.

    >>> too_few({"n_units": "191", "n_positive_units": "3", "n_negative_units": "189", "unit": "patient"})
    'too few positives: 3 patients, of at least 10'
    >>> too_few({"n_units": "9", "n_positive_units": "", "unit": "image"}), too_few({"n_units": "10"})
    ('too few images: 9, of at least 10', '')
    """
    unit = estimate.get("unit") or "patient"
    units = plural(unit)
    for name in ("positive", "negative"):
        count = estimate.get(f"n_{name}_units")
        if count and int(count) < FEW:
            return f"too few {name}s: {count} {units if int(count) > 1 else unit}, of at least {FEW}"
    count = estimate.get("n_units")
    return f"too few {units}: {count}, of at least {FEW}" if count and int(count) < FEW else ""


def other_conditions(estimate: Mapping[str, str], test_size: tuple[int, str] | None) -> str:
    """Why a measured number is of another experiment than the paper's: a reduced protocol, a test set of another size; or nothing."""
    if estimate.get("reduced"):
        return f"reduced protocol: {estimate['reduced']}"
    counted = test_size and estimate.get("n_images" if test_size[1] == "images" else "n_patients")
    if counted:
        count, unit = test_size
        found = int(counted)  # IU X-Ray: a study is a patient, no other id is released
        if abs(found - count) > 0.01 * count:
            return f"{found} test {unit}, the paper has {count}"
    return ""


# ---------------------------------------------------------------- for a reader


def score_panel(section: Section, encoders: Sequence[Encoder], cells: Sequence[ScoreCell], published: Published) -> Panel:
    """A dataset's block: measured rows, then (where the paper has these data) published rows; points with one decimal.

    The best value of each column has rank 1 and the second 2, controls aside; equal printed values share a rank.
    """
    columns = section.displayed()
    by_place = {(cell.encoder.name, cell.target, cell.metric): cell for cell in cells}
    ranks = _ranks(cells)
    lead = ["Encoder", "Input", "Tokens"] if section.table == 5 else ["Encoder"]
    rows: list[Sequence[Cell | str] | None] = []
    for encoder in encoders:
        own = [by_place[encoder.name, target, metric] for _, target, metric in columns]
        name = encoder.title + (OVERLAP if any("overlap" in c.marks for c in own) else "")
        name += UNTOLD if any("pretraining data" in c.marks for c in own) else ""
        name += REDUCED if any("reduced protocol" in c.marks for c in own) else ""
        row: list[Cell | str] = [name + (" (control)" if encoder.control else "")]
        if section.table == 5:
            row += [_plain(encoder.measured.get("image_size")), _plain(encoder.measured.get("tokens"))]
        rows.append(row + [_cell(cell, ranks) for cell in own])
    if section.paper:
        rows.append(None)
        rows += _published_rows(section, columns, len(lead), published)
    return Panel(section.title, [*lead, *(title for title, _, _ in columns)], rows, notes=_notes(section, cells))


def _plain(value: Any) -> str:
    return "–" if value in (None, "") else str(value)


def _cell(cell: ScoreCell, ranks: Mapping[tuple[str, str, str], int]) -> Cell:
    if cell.value is None:
        return Cell("–")
    sd, low, high = (points(cell.estimate.get(name)) for name in ("sd", "low", "high"))
    text = f"{cell.value:.1f}" + (f" ± {sd:.1f}" if sd is not None else "")
    interval = f"[{low:.1f}, {high:.1f}]" if low is not None else ""
    return Cell(text, interval, ranks.get((cell.encoder.name, cell.target, cell.metric), 0))


def _ranks(cells: Sequence[ScoreCell]) -> dict[tuple[str, str, str], int]:
    """1 for the best and 2 for the second value of each column, controls aside; equal printed values share a rank."""
    ranks = {}
    for place in {(cell.target, cell.metric) for cell in cells}:
        column = [c for c in cells if (c.target, c.metric) == place and c.value is not None and not c.encoder.control]
        for k, rank in best_two([round(cell.value, 1) for cell in column], place[1] in LOWER_IS_BETTER).items():
            ranks[column[k].encoder.name, *place] = rank
    return ranks


def _published_rows(section: Section, columns: Sequence[tuple[str, str, str]], lead: int, published: Published) -> list[list[Cell | str]]:
    by_row: dict[str, list[Score]] = {}
    for score in published.scores:
        other_mean = score.column == AGG_PRINTED and (score.own_run or not section.seven)
        if score.table == section.table and score.dataset == section.paper and not other_mean:
            by_row.setdefault(score.row, []).append(score)
    rows = []
    for title, scores in by_row.items():
        row: list[Cell | str] = [f"{title}, published"] + [""] * (lead - 1)
        for _, target, metric in columns:
            wanted = {name.lower() for name in section.names(target)}
            value = next((s.value for s in scores if s.metric == metric and s.names & wanted), None)
            row.append("" if value is None else f"{value:.1f}")
        rows.append(row)
    return rows


def site_auroc(sites: Mapping[str, Sequence[int]]) -> float:
    """AUROC of scoring each test image with its site's share of positives; 0.5 with one site or one class.

    P(positive's site has the larger share) + P(equal) / 2, in [0.5, 1]: what an encoder that sees only the site could reach.

    Args:
        sites: positive and negative images of each site, at least one image each.

    Raises:
        ZeroDivisionError: a site has no image.

    >>> round(site_auroc({"A": [30, 10], "B": [10, 30]}), 3)  # (30 * (30 + 10 / 2) + 10 * 30 / 2) / 40^2
    0.75
    >>> site_auroc({"A": [5, 7]})
    0.5
    """
    counts = sorted((positives / (positives + negatives), positives, negatives) for positives, negatives in sites.values())
    all_positives, all_negatives = sum(p for _, p, _ in counts), sum(n for _, _, n in counts)
    if not all_positives or not all_negatives:
        return 0.5
    wins = below = 0.0
    for share in sorted({share for share, _, _ in counts}):
        positives, negatives = (sum(c[k] for c in counts if c[0] == share) for k in (1, 2))
        wins += positives * (below + negatives / 2)
        below += negatives
    return wins / (all_positives * all_negatives)


def resampling(section: Section) -> str:
    """What was drawn, and whether that makes intervals too narrow; every table with intervals says it."""
    unit = section.facts.get("unit", "patient")
    units = plural(unit)
    words = f"{section.facts.get('resamples', '?')} resamples of {units}"
    words += " within equal sets of findings" * bool(section.facts.get("stratified"))
    many = section.facts.get("units")
    if many is not None and 0 < many < FEW:
        words += f" (only {many} {units if many > 1 else unit}: too few for an interval to be relied on, however narrow it is)"
    if unit == "patient":
        return words
    why = "no patient ids are known" if section.facts.get("patients") is None else f"--unit {unit}"
    return f"{words} ({units} count as independent, also those of one patient: {why})"


def _notes(section: Section, cells: Sequence[ScoreCell]) -> list[str]:
    """What a reader must know to read the block: sample, spread, marks, gaps."""
    measured = [cell.estimate for cell in cells if cell.value is not None]
    notes = []
    if measured:
        columns = [e for e in measured if not e["target"].startswith("Agg-")] or measured
        images, patients = (_range([int(e[name]) for e in columns]) for name in ("n_images", "n_patients"))
        replicates = sorted({int(e["replicates"]) for e in measured})
        of = section.facts.get("replicates") or "replicates (folds or seeds)"
        spread = f"mean ± SD over {'/'.join(map(str, replicates))} {of}"
        if replicates == [1]:
            spread = "one replicate"
        kind = "95 % percentile interval" + ", of ECE by test inversion" * any(m in BIASED_UP for m in section.metrics)
        notes.append(f"{spread}; [{kind}], {resampling(section)}; {images} test images"
                     + (f" of {patients} patients" if section.facts.get("patients") else "")
                     + (", by column." if "to" in images else "."))  # fmt: skip
        fewer = [e for e in measured if e["resamples_valid"] != e["resamples"]]
        if fewer:
            least = min(fewer, key=lambda e: int(e["resamples_valid"]))
            notes.append(f"Resamples in which a score is undefined are left out; fewest valid: "
                         f"{least['resamples_valid']} ({least['target']}).")  # fmt: skip
        notes += _positives(section, cells)
        notes += _beside_the_value(cells)
    if section.table == 3 and section.facts.get("protocol"):
        notes.append("Cached features without augmentation; epoch and learning rate chosen on each replicate's held-out fold "
                     "(docs/decisions/0006).")  # fmt: skip
        told = {short: site_auroc(section.label_sites.get(target, {})) for target, short in section.columns.items()}
        given_away = [f"{short} {100 * value:.0f}" for short, value in told.items() if value >= SITE_AUROC]
        if given_away:
            notes.append(f"The site alone predicts {', '.join(given_away)} (AUROC of the site's share of positives): an encoder "
                         "that recognises the scanner scores there without seeing the disease.")  # fmt: skip
    if measured and "hd95" in section.metrics:
        notes.append("HD95: distance of the outlines in % of the image's diagonal; less is better.")
    notes += [f"Pictures: {text}." for text in section.processing]
    notes += _grouped(OVERLAP + " pretrained on images of these data", "overlap", cells)
    if measured and any(cell.encoder.card and "pretrained_on" not in cell.encoder.card for cell in cells):
        notes.append("Whether an encoder was pretrained on these images is not known here.")
    notes += _grouped(UNTOLD + " pretraining data", "pretraining data", cells)
    notes += _grouped(REDUCED + " reduced protocol", "reduced protocol", cells)
    gaps: dict[str, list[str]] = {}
    for cell in cells:
        if cell.value is None:
            whole = cell.estimate.get("state") == "absent"
            who = cell.encoder.title if whole else f"{cell.column} ({cell.encoder.title})"
            gaps.setdefault(cell.estimate.get("reason") or "no reason recorded", []).append(who)
    notes += [f"– {', '.join(dict.fromkeys(who))}: {reason}" for reason, who in gaps.items()]
    notes += _drawn_without_a_reference(section, cells)
    if section.table == 5 and (written := section.facts.get("reports_written")):
        titles = {cell.encoder.name: cell.encoder.title for cell in cells}
        told = ", ".join(f"{titles.get(name, name)} {different} of {total}" + (f" ({empty} empty)" if empty else "")
                         for name, (different, empty, total) in written.items())  # fmt: skip
        notes.append(f"Different reports written: {told}. Few mean that the language model hardly looks at the image.")
    if section.table == 5 and (model := section.facts.get("language_model")):
        notes.append(f"Language model: {model}.")
    if section.table == 5 and (tokenizer := (section.facts.get("protocol") or {}).get("tokenizer")):
        notes.append(f"BLEU-4 and ROUGE-L (coco) count {TOKENIZERS.get(tokenizer, tokenizer)}; ROUGE-L counts runs of a-z and 0-9, "
                     "without stemming.")  # fmt: skip
    shown = {target for _, target, _ in section.displayed()}
    if section.paper and AGG6 in shown:
        seventh = (f"{AGG7} adds {SEVENTH}, and in that column stands the printed Agg. of the copied rows."
                   if section.seven and AGG7 in shown else
                   f"an {AGG7} cannot be recomputed because the seventh column, {SEVENTH}, is neither printed nor read here.")  # fmt: skip
        notes.append("Agg-6 is the mean of the six columns, recomputed for published rows. The printed Agg. mixes two "
                     "definitions: rows copied from earlier work fit a mean of seven classes (RAD-DINO 52.8 printed, "
                     f"50.5 from its six columns), the authors' own rows one of six; {seventh}")  # fmt: skip
    return notes


def _range(counts: Sequence[int]) -> str:
    """One number, or the least and the most.

    >>> _range([219, 422, 219]), _range([9])
    ('219 to 422', '9')
    """
    return str(min(counts)) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"


def _positives(section: Section, cells: Sequence[ScoreCell]) -> list[str]:
    """How many images of each column have the finding, beside which its AUPRC is to be read, and of which columns too few patients."""
    of: dict[str, Mapping[str, str]] = {}
    for cell in cells:
        if cell.value is not None and section.table == 3 and not cell.target.startswith("Agg-"):
            of.setdefault(section.columns.get(cell.target, cell.target), cell.estimate)
    if not of:
        return []
    guessed = [guessing({**estimate, "metric": "auprc"}) for estimate in of.values()]
    counts = [f"{column} {estimate['n_positive']} of {estimate['n_images']} ({chance:.1f})"
              for (column, estimate), chance in zip(of.items(), guessed, strict=True) if chance is not None]  # fmt: skip
    notes = [f"Images with the finding, of all, and the AUPRC of guessing: {', '.join(counts)}."]
    few: dict[str, list[str]] = {}
    for column, estimate in of.items():
        if reason := too_few(estimate):
            few.setdefault(reason, []).append(column)
    where = "; ".join(f"{', '.join(columns)} ({reason})" for reason, columns in few.items())
    return notes + ([f"No interval to be relied on, and no test: {where}."] if few else [])


def _beside_the_value(cells: Sequence[ScoreCell]) -> list[str]:
    """Name the cells whose resamples are biased: few images make a mean AUPRC too large, and resampling them makes it larger still."""
    found: dict[str, list[str]] = {}
    for cell in cells:
        value, median, low, high = (points(cell.estimate.get(name)) for name in ("value", "median", "low", "high"))
        if None not in (value, median, low) and cell.metric not in BIASED_UP and abs(median - value) > BESIDE * (high - low):
            found.setdefault(cell.column, []).append(cell.encoder.title)
    where = "; ".join(f"{column} ({', '.join(who)})" for column, who in found.items())
    return [f"Resamples beside the value, by more than a tenth of the interval's width: {where}. These percentile intervals hold the truth "
            "less often than in 95 %, on small test sets and with weak encoders far less often; shifted_low and shifted_high in the CSV, "
            "which are moved against that bias, are nearer to it."] if found else []  # fmt: skip


def _drawn_without_a_reference(section: Section, cells: Sequence[ScoreCell]) -> list[str]:
    """Images in which a structure was drawn that the reference lacks: they have no Dice, so nobody would see them."""
    titles = {cell.encoder.name: cell.encoder.title for cell in cells}
    counts = [(target, titles[name], int(row.get("false_positive_images") or 0))
              for (name, target, metric), row in section.estimates.items() if metric == "dice" and name in titles]  # fmt: skip
    found = ", ".join(f"{target} in {count} images ({who})" for target, who, count in counts if count)
    return [f"Drawn where the reference has nothing, and so outside the Dice: {found}."] if found else []


def _grouped(lead: str, mark: str, cells: Sequence[ScoreCell]) -> list[str]:
    what: dict[str, list[str]] = {}
    for cell in cells:
        for part in re.findall(rf"{mark}: (.*?)(?=; reduced protocol|$)", cell.marks):
            what.setdefault(part, []).append(cell.encoder.title)
    return [f"{lead}: {text} ({', '.join(dict.fromkeys(who))})" for text, who in what.items()]
