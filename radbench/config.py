"""The configuration: what to run. Strict, typed, checked while the Snakefile is parsed.

Learning rates, batch sizes and the like are protocols and live in the stages' own files; a configuration may override
their fields to shrink a run, and the tables then say so. Memory and time belong to the workflow's rules and profiles.
"""

import ast
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from . import encoder
from .artifact import ROOT
from .datasets import COLLECTIONS, READERS, known_labels, misnamed
from .errors import ConfigError, did_you_mean
from .protocol import SHARES, check_shares

GENERATE = ("patients", "seed", "size", "sites", "masks", "reports")  # arguments of phantom.generate
PROTOCOLS = {  # where the fields of each protocol are written down
    "pretrain": "radbench/pretrain.py",
    "linear_probe": "tasks/linear_probe.py",
    "segmentation": "tasks/segmentation.py",
    "report_generation": "tasks/report_generation/model.py",
}


# Names become folders and words of commands.
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]
# A branch, a tag or a commit becomes part of a path: no part of it begins with a dot.
Revision = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*$")]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Dataset(Strict):
    """One data set. `{root}` in `root` is replaced by the top-level `root`."""

    reader: Literal[READERS] = "folder"
    title: str = ""
    root: str | None = None
    options: dict[str, Any] = {}  # of the reader, see docs/datasets.md; labels: a list, or "auto"
    generate: dict[str, Any] = {}  # phantom only: patients, seed, size, sites, masks, reports
    sources: list[str] = []
    paper: str | None = None  # data set name in results/published/table1
    max_side: int | None = None
    max_broken: float = 0.05
    intensity: Literal["range", "window", "percentile"] = "range"  # of DICOM and 16-bit pictures (radbench/dicom.py)
    seed: int = 0
    shares: dict[Literal["train", "val", "test"], float] = dict(SHARES)  # where no split is given
    split_lists: str | None = None  # folder of train.txt, val.txt, test.txt with image ids: takes the place of any split
    how_to_get: str = ""


class DataPart(Strict):
    """A part of a data set that a pretraining run learns from."""

    dataset: str
    splits: list[str] | None = None
    sites: list[str] = []


class PretrainRun(Strict):
    data: list[DataPart] = Field(min_length=1)
    protocol: dict[str, Any] = {}


class EncoderEntry(Strict):
    """One row of the tables: a wrapper (by default the one of the same name) with its options."""

    wrapper: str | None = None  # file in encoders/; several rows may use one
    title: str | None = None
    weights: str | None = None
    revision: Revision | None = None  # of the hub repository, in place of the card's
    options: dict[str, Any] = {}


class ProbeRun(Strict):
    dataset: str
    labels: dict[str, str] | Literal["auto"] = Field(min_length=1)  # label: short name in tables; "auto": those of the reader
    sites: list[str] = []
    metrics: list[Literal["auprc", "auroc", "brier", "ece"]] = ["auprc"]
    paper: str | None = None  # data set name in results/published/


class LinearProbe(Strict):
    protocol: dict[str, Any] = {}
    runs: list[ProbeRun] = []


class SegmentationRun(Strict):
    dataset: str
    structures: dict[Name, list[str]] = Field(min_length=1)  # set: structures
    metrics: list[Literal["dice", "hd95", "nsd"]] = ["dice"]
    titles: dict[str, str] = {}
    paper: str | None = None


class Segmentation(Strict):
    protocol: dict[str, Any] = {}
    runs: list[SegmentationRun] = []


class ReportEvaluation(Strict):
    dataset: str
    whole: bool = False  # every split, for a set that nothing was trained on
    paper: str | None = None


class ReportRun(Strict):
    train: str
    evaluate: list[ReportEvaluation] = Field(min_length=1)


class ReportGeneration(Strict):
    protocol: dict[str, Any] = {}
    runs: list[ReportRun] = []


class Tasks(Strict):
    linear_probe: LinearProbe = LinearProbe()
    segmentation: Segmentation = Segmentation()
    report_generation: ReportGeneration = ReportGeneration()


class Statistics(Strict):
    resamples: int = Field(default=2000, ge=50)
    seed: int = 0
    reference: str = "radjepa"
    unit: Literal["patient", "study", "image"] = "patient"  # what is resampled
    stratified: bool = False  # probes: keep the mix of findings in every resample
    margin: float = Field(default=0.02, gt=0, lt=1)  # a smaller difference does not matter (equivalence, non-inferiority)
    aggregates: list[list[str]] = []  # probes: further sets of labels to average, such as the paper's six of seven


class Config(Strict):
    title: str
    root: str | None = None
    datasets: dict[Name, Dataset]
    pretrain: dict[Name, PretrainRun] = {}
    encoders: dict[Name, EncoderEntry]
    tasks: Tasks = Tasks()
    statistics: Statistics = Statistics()

    @model_validator(mode="before")
    @classmethod
    def _entries(cls, values: Any) -> Any:
        """`encoders` may be a list of names, some of them with an entry below; "timm:<model>" becomes an entry."""
        given = values.get("encoders") if isinstance(values, Mapping) else None
        if isinstance(given, list):
            given = [pair for item in given for pair in (item.items() if isinstance(item, Mapping) else [(item, {})])]
        elif isinstance(given, Mapping):
            given = list(given.items())
        else:
            return values
        entries = {}
        for text, entry in given:
            name, meant = encoder.parse(str(text))
            if not isinstance(entry or {}, Mapping):
                raise ConfigError("encoders", f"{name} is not followed by an entry", got=repr(entry), expected="options, weights, …",
                                  fix=f"- {name}: {{options: {{…}}}}")  # fmt: skip
            entry = dict(entry or {})
            entry = meant | entry | {"options": meant.get("options", {}) | dict(entry.get("options") or {})}
            if name in entries:
                example = json.dumps({"wrapper": entry.get("wrapper") or name, "options": entry["options"]}).replace('"', "")
                raise ConfigError("encoders", "one id for two rows, which would share their folders", got=name,
                                  fix=f"give the second row an id of its own: `- {name}_2: {example}`")  # fmt: skip
            entries[name] = entry
        return dict(values) | {"encoders": entries}


def load(values: Mapping[str, Any], path: Path | str) -> Config:
    """Check a configuration (already read) and resolve `{root}`.

    Raises:
        ConfigError: `path:line: place: what is wrong; did you mean …`.
    """
    try:
        config = Config.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        place = list(first["loc"])
        fix = ""
        if first["type"] == "extra_forbidden":
            fix = did_you_mean(str(place[-1]), _siblings(place))
        raise ConfigError(_where(path, place), first["msg"], got=repr(first.get("input"))[:120], fix=fix) from None
    except ConfigError as error:
        raise ConfigError(_where(path, [error.where]), error.said) from None
    _check_names(config, path)
    _check_collections(config, path)
    _check_protocols(config, path)
    roots, top = {}, str(Path(config.root).expanduser()) if config.root else ""
    if top and not Path(top).is_dir() and config.root != _said(path).get("root"):  # a command line names what is there
        raise ConfigError(_where(path, ["root"]), "no such folder", got=config.root, expected="the folder of your images or data sets",
                          fix="mend ROOT, or --config root=")  # fmt: skip
    for name, dataset in config.datasets.items():
        root = dataset.root
        if root and "{root}" in root:
            if not config.root:
                raise ConfigError(_where(path, ["datasets", name, "root"]), "needs the folder of your images",
                                  fix="make run CONFIG=config/folder.yaml ROOT=path/to/tidy/folder")  # fmt: skip
            if dataset.reader == "folder" and not Path(top).is_dir():  # an owner's release that is not here is a gap
                raise ConfigError(_where(path, ["root"]), "no such folder", got=config.root, expected="the folder of your images",
                                  fix="mend ROOT, or --config root=")  # fmt: skip
            root = root.replace("{root}", top)
        root = str(Path(root).expanduser()) if root else None
        lists = str(Path(dataset.split_lists.replace("{root}", top)).expanduser()) if dataset.split_lists else None
        if lists and not Path(lists).is_dir():
            raise ConfigError(_where(path, ["datasets", name, "split_lists"]), "no such folder", got=lists,
                              expected="a folder of train.txt, val.txt and test.txt")  # fmt: skip
        check_shares(_where(path, ["datasets", name, "shares"]), dataset.shares)
        options = dataset.options
        if options.get("labels") == "auto":
            labels = known_labels(dataset.reader, Path(root or ""))  # imports pandas, which takes a second
            if not labels and dataset.reader == "folder":
                print(f"{_where(path, ['datasets', name, 'options', 'labels'])}: no column of {root}/metadata.csv is a known finding, so "
                      "nothing is probed; next: name the label columns here", file=sys.stderr)  # fmt: skip
            options = options | {"labels": labels}
        roots[name] = dataset.model_copy(update={"root": root, "options": options, "split_lists": lists})
    return _with_labels(config.model_copy(update={"datasets": roots}), path)


def _with_labels(config: Config, path: Path | str) -> Config:
    """Replace `labels: auto` of the probe runs; check that the others are read by their data sets."""
    runs = []
    for number, run in enumerate(config.tasks.linear_probe.runs):
        read = config.datasets[run.dataset].options.get("labels", [])
        if run.labels == "auto":
            run = run.model_copy(update={"labels": {name: name.replace("_", " ") for name in read}})
        for name in run.labels:
            if name not in read:
                fix = did_you_mean(name, read) or f"datasets.{run.dataset}.options.labels has {read}"
                raise ConfigError(_where(path, ["tasks", "linear_probe", "runs", number, "labels"]), f"no label {name!r}", fix=fix)
        runs.append(run)
    for number, wanted in enumerate(config.statistics.aggregates):
        if not any(set(wanted) <= set(run.labels) for run in runs):
            raise ConfigError(_where(path, ["statistics", "aggregates", number]), "no probe has all of these labels", got=wanted,
                              expected=[sorted(run.labels) for run in runs], fix="mend the spelling, or probe the label")  # fmt: skip
    probe = config.tasks.linear_probe.model_copy(update={"runs": runs})
    return config.model_copy(update={"tasks": config.tasks.model_copy(update={"linear_probe": probe})})


def _check_names(config: Config, path: Path | str) -> None:
    def known(name: str, names: Mapping | list[str], place: list, kind: str) -> None:
        if name not in names:
            fix = did_you_mean(name, names) or f"known: {sorted(names)}"
            raise ConfigError(_where(path, place), f"no {kind} {name!r}", fix=fix)

    for name, entry in config.encoders.items():
        known(entry.wrapper or name, encoder.names(), ["encoders", name], "file in encoders/ for")
        try:
            address = encoder.describe(name, entry.model_dump()).weights
        except ConfigError as error:
            raise ConfigError(_where(path, ["encoders", name]), error.said) from None
        if address.startswith("hf:") and not encoder.REPOSITORY.fullmatch(address.removeprefix("hf:")):
            raise ConfigError(_where(path, ["encoders", name]), "names no hub repository", got=address,
                              expected="hf:<owner>/<name>, as after huggingface.co/")  # fmt: skip
    for name, run in config.pretrain.items():
        for number, part in enumerate(run.data):
            known(part.dataset, config.datasets, ["pretrain", name, "data", number, "dataset"], "data set")
    tasks = config.tasks
    for task, runs in (("linear_probe", tasks.linear_probe.runs), ("segmentation", tasks.segmentation.runs)):
        seen = set()
        for number, run in enumerate(runs):
            place = ["tasks", task, "runs", number, "dataset"]
            known(run.dataset, config.datasets, place, "data set")
            if run.dataset in seen:
                raise ConfigError(_where(path, place), f"{run.dataset} occurs twice", fix="one run per data set")
            seen.add(run.dataset)
    evaluated = set()
    for number, run in enumerate(tasks.report_generation.runs):
        known(run.train, config.datasets, ["tasks", "report_generation", "runs", number, "train"], "data set")
        for entry in run.evaluate:
            place = ["tasks", "report_generation", "runs", number, "evaluate"]
            known(entry.dataset, config.datasets, place, "data set")
            if entry.dataset in evaluated:
                raise ConfigError(_where(path, place), f"{entry.dataset} is evaluated twice", fix="once per data set")
            evaluated.add(entry.dataset)
    known(config.statistics.reference, config.encoders, ["statistics", "reference"], "encoder")
    for name, dataset in config.datasets.items():
        allowed = GENERATE if dataset.reader == "phantom" else ()
        for key in dataset.generate:
            if key not in allowed:
                fix = did_you_mean(key, allowed) or (f"known: {list(allowed)}" if allowed else "only the reader phantom generates")
                raise ConfigError(_where(path, ["datasets", name, "generate", key]), f"no option {key!r}", fix=fix)
        if dataset.reader == "phantom" and not {"patients", "seed"} <= set(dataset.generate):
            raise ConfigError(_where(path, ["datasets", name, "generate"]), "needs `patients` and `seed`")
    for name, entry in config.encoders.items():
        if entry.weights and not Path(entry.weights).expanduser().exists():
            raise ConfigError(_where(path, ["encoders", name, "weights"]), "no such file or folder", got=entry.weights,
                              fix="mend the path, or remove it to look in the hub cache")  # fmt: skip
        weights = encoder.describe(name, entry.model_dump()).weights
        if weights.startswith("run:") and not config.encoders[name].weights:
            run = weights.removeprefix("run:").removesuffix("/initial")
            if run not in config.pretrain:
                raise ConfigError(_where(path, ["encoders", name]), f"needs the pretraining run {run!r}",
                                  fix=f"add pretrain.{run}, or give encoders.{name}.weights")  # fmt: skip


def _check_collections(config: Config, path: Path | str) -> None:
    """Refuse another spelling of a collection of images: the mark of an overlap hangs on equal names."""
    own = set()  # names that mean something here besides the published ones
    for name, dataset in config.datasets.items():
        for source in dataset.sources:
            if right := misnamed(source):
                place = _where(path, ["datasets", name, "sources"])
                raise ConfigError(place, "another name of a published collection", got=source, fix=right)
        unnamed = dataset.reader in ("folder", "phantom") and not dataset.sources
        if unnamed and (right := misnamed(name)):
            fix = f"{right} Say sources: [it], so that overlaps get their mark; if it is another one, another id"
            raise ConfigError(_where(path, ["datasets", name]), "named like a published collection, without `sources`", got=name, fix=fix)
        own |= {name} if unnamed else set(dataset.sources)
    for name, entry in config.encoders.items():
        for seen in entry.options.get("pretrained_on") or []:
            right = misnamed(seen, own)
            if seen in config.datasets and seen not in {*own, *COLLECTIONS}:
                dataset = config.datasets[seen]
                right = f"its images are of {dataset.sources or dataset.reader}: name these"
            if right:
                place = _where(path, ["encoders", name, "options", "pretrained_on"])
                raise ConfigError(place, "no collection has this name, so overlaps would get no mark", got=seen, fix=right)


def _check_protocols(config: Config, path: Path | str) -> None:
    places = [(["pretrain", name, "protocol"], "pretrain", run.protocol) for name, run in config.pretrain.items()]
    places += [(["tasks", task, "protocol"], task, getattr(config.tasks, task).protocol) for task in Tasks.model_fields]
    for place, stage, overrides in places:
        fields = protocol_fields(PROTOCOLS[stage])
        for name in overrides:
            if name not in fields:
                fix = did_you_mean(name, fields) or f"the fields are {fields}"
                raise ConfigError(_where(path, [*place, name]), f"{PROTOCOLS[stage]} has no field {name!r}", fix=fix)


def protocol_fields(source: str) -> list[str]:
    """Field names of the class `Protocol` in a source file, read from its syntax tree: nothing heavy is imported."""
    tree = ast.parse((ROOT / source).read_text())
    body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Protocol")
    return [node.target.id for node in body if isinstance(node, ast.AnnAssign)]


def _siblings(place: list) -> list[str]:
    """Field names allowed where an unknown one stands."""
    model: Any = Config
    for part in place[:-1]:
        annotation = model.model_fields[part].annotation if hasattr(model, "model_fields") and part in model.model_fields else model
        found = [kind for kind in _models(annotation)]
        model = found[0] if found else model
    return list(getattr(model, "model_fields", {}))


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models(part)]


def _said(path: Path | str) -> dict:
    """The file's own top level, before a command line overrode any of it; empty where it cannot be read."""
    try:
        return yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except (OSError, yaml.YAMLError):
        return {}


def _where(path: Path | str, place: list) -> str:
    """`file:line: a.b[0].c`; the line of the deepest part of the place that the file has."""
    dotted = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")
    try:
        node = yaml.compose(Path(path).read_text())
    except (OSError, yaml.YAMLError):
        return f"{path}: {dotted}"
    line = 0
    for part in place:
        if isinstance(node, yaml.MappingNode):
            pair = next(((key, value) for key, value in node.value if key.value == str(part)), None)
            if pair is None:
                break
            line, node = pair[0].start_mark.line, pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line
        else:
            break
    return f"{path}:{line + 1}: {dotted}"
