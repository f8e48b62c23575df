"""The configuration as the workflow sees it: which artefacts there are, and the command that makes each one.

The Snakefile holds rules and nothing else; what a rule must run for given wildcards is asked of `Plan`. Where data or
weights are not present, the command is `radbench.gap` with the reason: the DAG keeps its shape, and the gap its name.
"""

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

from . import artifact, encoder, weights
from .config import Config
from .protocol import LANGUAGE_MODEL

RESULTS = Path("results")


class Plan:
    """Commands, inputs and lists of one configuration. Paths are relative to the working directory."""

    def __init__(self, config: Config):
        self.config = config
        tasks = config.tasks
        self.probes = {run.dataset: run for run in tasks.linear_probe.runs}
        self.segmentations = {run.dataset: run for run in tasks.segmentation.runs}
        self.evaluations = {entry.dataset: (run.train, entry) for run in tasks.report_generation.runs for entry in run.evaluate}
        self.encoders = list(config.encoders)

    def card(self, name: str) -> encoder.Card:
        """The card of an entry of `encoders`, under its options."""
        return encoder.describe(name, self._encoder(name))

    def wrapper(self, name: str) -> str:
        """The file in encoders/ that serves an entry."""
        return self.config.encoders[name].wrapper or name

    # ------------------------------------------------------------ what there is

    def stats(self) -> list[str]:
        """`{task}/{dataset}` of every comparison."""
        return [f"{task}/{dataset}" for task, runs in (("linear_probe", self.probes), ("segmentation", self.segmentations),
                                                       ("report_generation", self.evaluations)) for dataset in runs]  # fmt: skip

    def predictions(self, task: str, dataset: str) -> list[str]:
        """The sidecars that a comparison reads."""
        return [f"results/{task}/{dataset}/{name}/meta.json" for name in self.encoders]

    def pretraining_indexes(self) -> list[str]:
        """Data sets that some run learns from, in the order of the configuration."""
        used = {part.dataset for run in self.config.pretrain.values() for part in run.data}
        return [name for name in self.config.datasets if name in used]

    def indexed(self) -> list[str]:
        """Data sets that something is learned from or measured on, in the order of the configuration."""
        used = {*self.pretraining_indexes(), *self.probes, *self.segmentations, *self.evaluations}
        used |= {train for train, _ in self.evaluations.values()}
        return [name for name in self.config.datasets if name in used]

    def weights_input(self, name: str) -> list[str]:
        """The pretraining run that an encoder's weights come from, as an input."""
        card = self.card(name)
        if self.config.encoders[name].weights or not card.weights.startswith("run:"):
            return []
        return [f"results/pretrain/{weights.run_name(card)}/meta.json"]

    def data_input(self, dataset: str) -> list[str]:
        """Generated data of an index, as an input."""
        return [f"results/data/{dataset}/meta.json"] if self.config.datasets[dataset].reader == "phantom" else []

    # ------------------------------------------------------------ what is missing

    def data_gap(self, dataset: str) -> str | None:
        """Why a data set cannot be read, or None."""
        entry = self.config.datasets[dataset]
        if entry.reader == "phantom" or (entry.root and Path(entry.root).is_dir()):
            return None
        where = f"{entry.root} is not a folder" if entry.root else "no root is configured"
        return f"data not present: {dataset}: {where}. {entry.how_to_get}".strip()

    def run_gap(self, run: str) -> str | None:
        """Why a pretraining run cannot be made, or None."""
        missing = [part.dataset for part in self.config.pretrain[run].data if self.data_gap(part.dataset)]
        return f"pretraining {run}: data not present: {', '.join(missing)}" if missing else None

    def weights_gap(self, name: str) -> str | None:
        """Why an encoder cannot be loaded, or None."""
        card, entry = self.card(name), self.config.encoders[name]
        if card.weights.startswith("run:") and not entry.weights:
            return self.run_gap(weights.run_name(card))
        try:
            weights.resolve(name, card, entry.weights)
        except artifact.Absent as gap:
            return str(gap)
        return None

    def weights_state(self, name: str) -> str:
        """Changes when an encoder's weights appear or are replaced: a rerun trigger."""
        return weights.state(name, self.card(name), self.config.encoders[name].weights)

    def data_state(self, dataset: str) -> list[str]:
        """Changes when split lists, or files or folders directly below a data set's root change: a rerun trigger, no full listing.

        What lies deeper is in the content key of the index, which is looked at when something else makes the rule run.
        """
        entry = self.config.datasets[dataset]
        folders = [Path(folder) for folder in (entry.root, entry.split_lists) if folder and Path(folder).is_dir()]
        entries = [path for folder in folders for path in sorted(folder.iterdir())]
        return [f"{path.name}:{path.lstat().st_mtime_ns}" for path in entries]

    def report_state(self) -> list[str]:
        """Changes when the language model, the clinical models or Java appear or are replaced: a rerun trigger."""
        name = self.config.tasks.report_generation.protocol.get("language_model", LANGUAGE_MODEL)
        hub, root = weights.hub_cache() / f"models--{name.replace('/', '--')}", weights.weights_folder()
        places = [Path(name), hub / "refs", *sorted(hub.glob("snapshots/*")), root / "chexbert" / "chexbert.pth",
                  root / "chexbert" / "bert-base-uncased", root / "radgraph" / "radgraph-xl" / "weights.th"]  # fmt: skip
        state = [f"{path}:{path.stat().st_mtime_ns}" for path in places if path.exists()]
        return [*state, f"java:{shutil.which('java') is not None}"]

    # ------------------------------------------------------------ commands

    def data(self, dataset: str) -> str:
        return _python("radbench.generate", dataset=dataset, spec=self.config.datasets[dataset].generate)

    def index(self, dataset: str) -> str:
        entry = self.config.datasets[dataset]
        spec = entry.model_dump(exclude={"title", "generate", "paper"})  # what is left is radbench.index.Spec
        return _python("radbench.index", dataset=dataset, spec=spec)

    def overlap(self) -> str:
        return f"python -m radbench.overlap --datasets {' '.join(self.indexed())}"

    def pretrain(self, run: str) -> str:
        if gap := self.run_gap(run):
            return _gap(f"pretrain/{run}", "pretrain", gap, publish=["log.csv"])
        return _python("radbench.pretrain", name=run, spec=self.config.pretrain[run].model_dump())

    def features(self, name: str, dataset: str) -> str:
        if gap := self.weights_gap(name) or self.data_gap(dataset):
            return self._encoder_gap(f"features/{name}/{dataset}", "features", gap, name)
        return _python("radbench.extract", encoder=name, dataset=dataset, spec=self._encoder(name))

    def linear_probe(self, dataset: str, name: str) -> str:
        run, task = self.probes[dataset], self.config.tasks.linear_probe
        spec = {"labels": list(run.labels), "sites": run.sites, "protocol": task.protocol, "encoder": self._encoder(name)}
        return self._task("tasks.linear_probe", "linear_probe", dataset, name, spec, self.data_gap(dataset))

    def segmentation(self, dataset: str, name: str) -> str:
        run, task = self.segmentations[dataset], self.config.tasks.segmentation
        spec = {"structures": run.structures, "protocol": task.protocol, "encoder": self._encoder(name)}
        return self._task("tasks.segmentation", "segmentation", dataset, name, spec, self.data_gap(dataset), ["examples.png"])

    def report_model(self, dataset: str, name: str) -> str:
        if gap := self.weights_gap(name) or self.data_gap(dataset):
            return self._encoder_gap(f"report_model/{dataset}/{name}", "report_model", gap, name)
        spec = {"protocol": self.config.tasks.report_generation.protocol, "encoder": self._encoder(name)}
        return _python("tasks.report_generation.train", dataset=dataset, encoder=name, spec=spec)

    def report_generation(self, dataset: str, name: str) -> str:
        train, entry = self.evaluations[dataset]
        spec = {"train": train, "whole": entry.whole, "protocol": self.config.tasks.report_generation.protocol,
                "encoder": self._encoder(name)}  # fmt: skip
        gap = self.data_gap(dataset) or self.data_gap(train)
        return self._task("tasks.report_generation.generate", "report_generation", dataset, name, spec, gap)

    def compare(self, task: str, dataset: str) -> str:
        statistics = self.config.statistics
        folders = " ".join(shlex.quote(f"results/{task}/{dataset}/{name}") for name in self.encoders)
        return (f"python -m stats.compare --task {task} --dataset {dataset} --reference {statistics.reference} "
                f"--resamples {statistics.resamples} --seed {statistics.seed} --unit {statistics.unit} --margin {statistics.margin} "
                + "--stratified " * statistics.stratified
                + "".join(f"--aggregate {shlex.quote(','.join(labels))} " for labels in statistics.aggregates)
                + f"--out results/stats/{task}/{dataset} {folders}")  # fmt: skip

    def tables(self) -> dict[str, Any]:
        """The specification that stats.tables and stats.report read (docs/formats.md)."""
        datasets, config = self.config.datasets, self.config

        def entry(task: str, dataset: str, paper: str | None, **more: Any) -> dict[str, Any]:
            sites = self.probes[dataset].sites if task == "linear_probe" else []
            title = (datasets[dataset].title or dataset) + (f" ({', '.join(sites)} only)" if sites else "")
            return {"dataset": dataset, "title": title, "stats": f"results/stats/{task}/{dataset}",
                    "index": f"results/index/{dataset}/meta.json", "paper": paper, **more}  # fmt: skip

        pretraining = self.pretraining_indexes()
        return {
            "title": config.title, "results": "results",
            "reference": config.statistics.reference, "encoders": self.encoders,
            "overlap": "results/overlap/meta.json",
            "controls": [name for name in self.encoders if self.card(name).control],
            "cards": {name: self._cards(name) for name in self.encoders},
            "runs": {run: f"results/pretrain/{run}/meta.json" for run in config.pretrain},
            "learned": {name: parts for name in self.encoders if (parts := self._learned(name))},
            "table1": {"parts": {name: [{"run": run} | part.model_dump(exclude={"dataset"}) for run, entry in config.pretrain.items()
                                        for part in entry.data if part.dataset == name] for name in pretraining},
                       "indexes": [f"results/index/{name}/meta.json" for name in pretraining],
                       "names": {name: datasets[name].title or name for name in pretraining},
                       "paper": {name: datasets[name].paper for name in pretraining if datasets[name].paper}},
            "table3": [entry("linear_probe", name, run.paper, metrics=run.metrics, columns=run.labels)
                       for name, run in self.probes.items()],
            "table4": [entry("segmentation", name, run.paper, metrics=run.metrics,
                             columns={key: run.titles.get(key, key) for key in run.structures})
                       for name, run in self.segmentations.items()],
            "table5": [entry("report_generation", name, pair[1].paper, whole=pair[1].whole) for name, pair in self.evaluations.items()],
        }  # fmt: skip

    def _learned(self, name: str) -> list[dict[str, Any]]:
        """The parts of data sets that an encoder trained here learned from; none of untrained weights, nor of weights from elsewhere."""
        card = self.card(name)
        if not self.weights_input(name) or card.weights.endswith("/initial"):
            return []
        return [part.model_dump() for part in self.config.pretrain[weights.run_name(card)].data]

    def _cards(self, name: str) -> list[str]:
        """Sidecars that hold an encoder's card; the first that is no gap also says what was measured and trained on."""
        return [f"results/features/{name}/{dataset}/meta.json" for dataset in self.probes] + [
            f"results/{task}/{dataset}/{name}/meta.json"
            for task, datasets in (("segmentation", self.segmentations), ("report_generation", self.evaluations)) for dataset in datasets
        ]  # fmt: skip

    def _encoder(self, name: str) -> dict[str, Any]:
        return self.config.encoders[name].model_dump()

    def _task(
        self, module: str, task: str, dataset: str, name: str, spec: dict, data_gap: str | None, publish: list[str] | None = None
    ) -> str:
        if gap := self.weights_gap(name) or data_gap:
            return self._encoder_gap(f"{task}/{dataset}/{name}", "predictions", gap, name, task=task, publish=publish)
        return _python(module, dataset=dataset, encoder=name, spec=spec)

    def _encoder_gap(self, folder: str, kind: str, reason: str, name: str, **more: Any) -> str:
        return _gap(folder, kind, reason, encoder=name, spec=self._encoder(name), **more)


def _python(module: str, **arguments: Any) -> str:
    words = [f"--{name} {shlex.quote(value if isinstance(value, str) else json.dumps(value))}" for name, value in arguments.items()]
    return f"python -m {module} {' '.join(words)}"


def _gap(folder: str, kind: str, reason: str, publish: list[str] | None = None, **more: Any) -> str:
    named = {name: value for name, value in more.items() if value}
    call = _python("radbench.gap", folder=f"results/{folder}", kind=kind, reason=reason, **named)
    return " ".join([call, *(["--publish", *publish] if publish else [])])
