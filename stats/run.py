"""A run as its page sees it: the encoders, the sections of Tables 3 to 5 and every sidecar behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .provenance import Sidecar, read_csv, read_sidecar
from .scores import TASKS, Encoder, Section, find_estimate, points, read_section
from .supplement import TASK_TITLES
from .tables import read_encoders


@dataclass
class Run:
    """What the spec names, read: the encoders, the sections of Tables 3 to 5 and every sidecar behind them."""

    spec: Mapping[str, Any]
    results: Path
    encoders: list[Encoder]
    sections: dict[int, list[Section]]
    sidecars: dict[str, Sidecar] = field(default_factory=dict)  # by name below results/
    tables: Sidecar | None = None  # None: not written yet

    @property
    def own(self) -> bool:
        """Whether these are somebody's own predictions (`stats.own`): no cards, no stages, tables by name."""
        return bool(self.spec.get("own"))

    @property
    def reference(self) -> Encoder:
        return next(encoder for encoder in self.encoders if encoder.name == self.spec["reference"])

    def title(self, dataset: str) -> str:
        """The data set's title, wherever the spec gives one."""
        titles = dict((self.spec.get("table1") or {}).get("names") or {})
        titles |= {one.dataset: one.title for of_table in self.sections.values() for one in of_table}
        return titles.get(dataset, dataset)

    def measured(self, one: Section) -> list[Encoder]:
        return [e for e in self.encoders if any(self.value(one, e, t, m) is not None for _, t, m in one.displayed())]

    def value(self, one: Section, encoder: Encoder, target: str, metric: str) -> float | None:
        return points(find_estimate(one, encoder, target, metric).get("value"))

    def gaps(self) -> dict[str, list[str]]:
        """Reason -> who is missing because of it."""
        found: dict[str, list[str]] = {}
        for encoder in self.encoders:
            if encoder.reason:
                found.setdefault(encoder.reason, []).append(encoder.title)
        for one in (one for of_table in self.sections.values() for one in of_table):
            where = f"{TASK_TITLES[one.table].lower()} on {one.title}"
            if one.gap:
                found.setdefault(one.gap, []).append(where)
            for encoder in self.encoders:
                reason = (one.facts.get("absent") or {}).get(encoder.name)
                if reason and encoder.title not in found.get(reason, []):
                    found.setdefault(reason, []).append(f"{encoder.title}, {where}")
        for run, address in (self.spec.get("runs") or {}).items():
            sidecar = self.sidecars.get(f"pretrain/{run}")
            if sidecar is None:
                found.setdefault(f"no pretraining run at {address}", []).append(f"pretraining {run}")
            elif sidecar.state == "absent":
                found.setdefault(sidecar.reason, []).append(f"pretraining {run}")
        return found

    def undefined(self) -> list[str]:
        """Columns in which an encoder that was run has no number; the notes below the tables say why."""
        return list(dict.fromkeys(
            f"{title}, {one.title}" for of_table in self.sections.values() for one in of_table for encoder in self.measured(one)
            for title, target, metric in one.displayed() if self.value(one, encoder, target, metric) is None))  # fmt: skip

    def reduced(self) -> list[str]:
        """Everything that was made smaller than the benchmark's protocol, and of which stage."""
        marks = {(number, row["reduced"]): None for number, of_table in self.sections.items() for one in of_table
                 for row in one.estimates.values() if row.get("reduced")}  # fmt: skip
        parts = [(TASK_TITLES[number].lower(), part) for number, mark in marks for part in mark.split("; ")]
        return list(dict.fromkeys(part if part.startswith("pretraining ") else f"{task}: {part}" for task, part in parts))


def read_run(spec: Mapping[str, Any]) -> Run:
    """Read the spec's cards and statistics, and walk from them over the parents to the first ancestors."""
    seen: list[Sidecar] = []
    encoders = read_encoders(spec, seen)
    sections = {n: [read_section(n, one, seen) for one in spec.get(f"table{n}") or []] for n in TASKS}
    results = Path(spec.get("results", "results"))
    run = Run(spec, results, encoders, sections)
    tables = _meta(spec.get("tables") or results / "tables")
    run.tables = read_sidecar(tables) if tables.is_file() else None
    addresses = [tables, *(spec.get("runs") or {}).values(), *(spec.get("table1") or {}).get("indexes", [])]
    # Predictions are parents of the statistics; named here, they are found before there are any.
    addresses += [results / TASKS[n] / one.dataset / encoder.name
                  for n, of_table in sections.items() for one in of_table for encoder in encoders]  # fmt: skip
    seen += [read_sidecar(address) for address in map(_meta, addresses) if address.is_file()]
    while seen:
        sidecar = seen.pop(0)
        name = sidecar.content.get("name", "")
        if name not in run.sidecars:
            run.sidecars[name] = sidecar
            parents = [Path(parent["path"]) for parent in sidecar.content.get("parents") or []]
            seen += [read_sidecar(path) for path in parents if path.is_file()]
    run.sidecars = dict(sorted(run.sidecars.items()))
    return run


def _meta(address: Path | str) -> Path:
    path = Path(address)
    return path if path.name == "meta.json" else path / "meta.json"


def table_rows(run: Run, name: str) -> list[dict[str, str]]:
    """Rows of a CSV among the tables; none where the tables were not written."""
    return [] if run.tables is None else read_csv(run.tables.verified(name))
