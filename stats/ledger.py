"""What a run rests on, on the page: counts of the data, cost of the stages, provenance of every number."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .page import Html, bullets, details, join, table, tag
from .run import Run
from .scores import TASKS

STAGES = ("data", "index", "pretrain", "features", "linear_probe", "segmentation", "report_model",
          "report_generation", "stats", "tables")  # fmt: skip
HOW_TO_READ_PROVENANCE = (
    "A key is the hash of everything that can change an artefact's numbers; its fingerprint adds the hashes of "
    "its files and is what its descendants record. Each name leads to the artefact's row. A parent marked "
    "“changed since” is no longer the one the artefact was made from."
)
#: Stands for an empty name of a view or site.
UNRECORDED = "not recorded"


def data_section(run: Run) -> Iterator[Html]:
    """Counts of every index."""
    indexes = {name.removeprefix("index/"): s for name, s in run.sidecars.items() if name.startswith("index/")}
    if not indexes:
        yield tag("p", "No data have been indexed yet.")
    for dataset, sidecar in indexes.items():
        facts = sidecar.facts
        yield tag("h3", run.title(dataset))
        if sidecar.state == "absent":
            yield tag("p", f"Not present. {sidecar.reason}")
            continue
        quarantined = facts.get("quarantined")
        unreadable = "No file was" if quarantined == 0 else f"{_count(quarantined)} files were"
        known = facts.get("patient_ids") is not False
        patients = f" of {_count(facts.get('patients'))} patients" if known else ""
        sentence = (f"{_count(facts.get('images'))} images{patients}: "
                    f"{_count(facts.get('frontal'))} frontal, {_count(facts.get('lateral'))} lateral. "
                    f"{unreadable} quarantined as unreadable. {_count(facts.get('reports'))} images have a report."
                    )  # fmt: skip
        if not known:
            sentence += " The data carry no patient ids, so splits and intervals treat images as independent."
        yield tag("p", sentence)
        kinds = [f"{title}: {', '.join(f'{key or UNRECORDED} {_count(n)}' for key, n in facts[name].items())}."
                 for name, title in (("views", "Views"), ("sites", "Sites")) if any(facts.get(name) or ())]  # fmt: skip
        kinds += [f"Structures: {', '.join(facts['structures'])}."] if facts.get("structures") else []
        yield bullets(kinds) or Html("")
        splits = facts.get("splits") or {}
        if splits:
            rows = [[split, _count(n.get("images")), _count(n.get("patients")) if known else "–"] for split, n in splits.items()]
            yield table("Splits, by patient" if known else "Splits", ["Split", "Images", "Patients"], rows)
        if labels := facts.get("labels"):
            rows = [[label, *(_states(of_label.get(split) or {}) for split in splits)]
                    for label, of_label in labels.items()]  # fmt: skip
            yield table("Labels: positive / negative / uncertain / blank", ["Label", *splits], rows)


def _states(counts: Mapping[str, int]) -> str:
    return " / ".join(_count(counts.get(state, 0)) for state in ("positive", "negative", "uncertain", "blank"))


def _count(value: Any) -> str:
    return "?" if value is None else f"{value:,}"


def cost_section(run: Run) -> Iterator[Html]:
    """Seconds, memory and devices as the sidecars recorded them when each artefact was made."""
    spent = {name: s.content["cost"] for name, s in run.sidecars.items()
             if s.state == "ok" and (s.content.get("cost") or {}).get("seconds") is not None}  # fmt: skip
    if not spent:
        yield tag("p", "No stage has recorded a cost.")
        return
    stages: dict[str, list[Mapping[str, Any]]] = {}
    for name, cost in spent.items():
        stages.setdefault(name.split("/")[0], []).append(cost)
    total = sum(cost["seconds"] for cost in spent.values())
    yield tag("p", f"{_duration(total)} of computing for {len(spent)} artefacts, one after another, without this page.")
    order = sorted(stages, key=lambda stage: STAGES.index(stage) if stage in STAGES else len(STAGES))
    rows = [_cost_row(stage, stages[stage], len(stages[stage])) for stage in order]
    yield table("Cost per stage", ["Stage", "Artefacts", "Seconds", "Peak memory, MB", "Device"], rows)
    yield details("Cost per artefact", table("Cost per artefact", ["Artefact", "Seconds", "Peak memory, MB", "Device"],
                  [_cost_row(name, [cost]) for name, cost in spent.items()]))  # fmt: skip


def _cost_row(name: str, costs: Sequence[Mapping[str, Any]], count: int | None = None) -> list[str]:
    devices = dict.fromkeys(str(cost.get("device") or "?") for cost in costs)
    return [name, *([str(count)] if count else []), f"{sum(cost['seconds'] for cost in costs):,.1f}",
            f"{max(cost.get('peak_memory_mb') or 0 for cost in costs):,.0f}", ", ".join(devices)]  # fmt: skip


def _duration(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{seconds:.0f} s"


def provenance_section(run: Run) -> Iterator[Html]:
    """From each score to the data it rests on, and every artefact with its hashes."""
    yield tag("p", HOW_TO_READ_PROVENANCE)
    chains = [[f"Table {n}, {one.title}, {encoder.title}", _chain(run, f"{TASKS[n]}/{one.dataset}/{encoder.name}")]
              for n, of_table in run.sections.items() for one in of_table for encoder in run.encoders]  # fmt: skip
    chain_table = table("Chain of each row of Tables 3 to 5", ["Row", "Rests on"], chains)
    yield details("From a row of a table to its data", chain_table)
    if not run.sidecars:
        yield tag("p", "No artefact has been written yet.")
        return
    versions: dict[str, str] = {}
    rows = []
    for name, sidecar in run.sidecars.items():
        content = sidecar.content
        packages = (content.get("software") or {}).items()
        software = ", ".join(f"{package} {version}" for package, version in packages) or "?"
        letter = versions.setdefault(software, f"S{len(versions) + 1}")
        git = content.get("git") or {}
        commit = (git.get("commit") or "")[:10] + (" + changes" if git.get("changes") else "")
        rows.append([name, sidecar.state, _short(content.get("key")), _short(content.get("fingerprint")),
                     _parents(run, content), letter, commit or "–", content.get("created") or "–"])  # fmt: skip
    header = ["Artefact", "State", "Key", "Fingerprint", "Parents", "Software", "Commit", "Made"]
    yield details("Every artefact", table("Artefacts", header, rows, ids=[_anchor(name) for name in run.sidecars]))
    yield tag("h3", "Software")
    yield bullets(f"{letter}: {software}" for software, letter in versions.items()) or Html("")


def _chain(run: Run, name: str) -> Html:
    """The artefact, its parents, their parents, ... each where it is met first; a gap says why it ends there."""
    if name not in run.sidecars:
        return join("not run")
    generation, seen, parts = [name], {name}, []
    while generation:
        parts += [" ← " if parts else None]
        for number, one in enumerate(generation):
            parts += [", " if number else None, _link(one), " ", _short(run.sidecars[one].content.get("fingerprint"))]
        parents = [_name(run, parent["path"])
                   for one in generation for parent in run.sidecars[one].content.get("parents") or []]  # fmt: skip
        generation = [one for one in dict.fromkeys(parents) if one in run.sidecars and one not in seen]
        seen |= set(generation)
    sidecar = run.sidecars[name]
    return join(parts, f" (gap: {sidecar.reason})" if sidecar.state == "absent" else None)


def _parents(run: Run, content: Mapping[str, Any]) -> Html:
    parts: list[Any] = []
    for parent in content.get("parents") or []:
        name = _name(run, parent["path"])
        known = run.sidecars.get(name)
        changed = known is not None and known.content.get("fingerprint") != parent["fingerprint"]
        parts += ["; " if parts else None, _link(name) if known else name, " (changed since)" if changed else None]
    return join(parts or "–")


def _name(run: Run, path: str) -> str:
    """Name below results/ of a sidecar's path."""
    folder = Path(path).parent.as_posix()
    return re.sub(r"^(?:.*/)?results/", "", folder) if "results/" in folder else os.path.relpath(folder, run.results)


def _link(name: str) -> Html:
    return tag("a", name, href=f"#{_anchor(name)}")


def _anchor(name: str) -> str:
    return "artefact-" + re.sub(r"[^\w-]+", "-", name)


def _short(digest: str | None) -> Html:
    return tag("code", (digest or "–")[:12])
