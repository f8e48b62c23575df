# The whole workflow: index -> images -> features -> predictions -> estimates -> tables.
# A rule says what it reads, writes and needs; the command for given wildcards is asked of radbench.plan.
# Code behind `python -m` is no rerun trigger by itself, so each rule lists its modules as input `code`;
# whether anything is computed again is then decided by content keys (radbench/artifact.py).
import json
import os
import sys

from snakemake.utils import min_version

min_version("9.0")

sys.path.insert(0, workflow.basedir)
from radbench.artifact import source_files
from radbench.config import load
from radbench.datasets import module_name
from radbench.plan import Plan

if "datasets" not in config:

    configfile: workflow.source_path("config/config.yaml")


PLAN = Plan(load(config, next(iter(workflow.configfiles), "config/config.yaml")))

# `--directory` may lead elsewhere; stages are modules of this checkout. Hub look-ups never leave the machine in a run.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(workflow.basedir), os.environ.get("PYTHONPATH", "")]))
os.environ |= {"HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


wildcard_constraints:
    dataset="|".join(PLAN.config.datasets),
    encoder="|".join(PLAN.encoders),
    run="|".join(PLAN.config.pretrain) or "none",
    task="linear_probe|segmentation|report_generation",


def code(*modules):
    return [os.path.join(workflow.basedir, path) for path in source_files(*modules)]


STATS = sorted(
    os.path.join(workflow.basedir, "stats", name) for name in os.listdir(os.path.join(workflow.basedir, "stats")) if name.endswith(".py")
)
PUBLISHED = sorted(
    os.path.join(workflow.basedir, "results/published", name) for name in os.listdir(os.path.join(workflow.basedir, "results/published"))
)


rule all:
    input:
        "results/tables/meta.json",
        "results/report/index.html",


rule data:
    input:
        code=code("radbench.generate"),
    output:
        "results/data/{dataset}/meta.json",
        "results/data/{dataset}/contact_sheet.png",
    log:
        "results/logs/data/{dataset}.log",
    resources:
        cpus_per_task=4,
        mem_mb=4000,
        runtime=60,
    params:
        call=lambda w: PLAN.data(w.dataset),
    shell:
        "{params.call} 2> >(tee {log} >&2)"


rule index:
    input:
        code=lambda w: code("radbench.index", module_name(PLAN.config.datasets[w.dataset].reader)),
        data=lambda w: PLAN.data_input(w.dataset),
    output:
        "results/index/{dataset}/meta.json",
        "results/index/{dataset}/index.parquet",
        "results/index/{dataset}/quarantine.csv",
        "results/index/{dataset}/left_out.csv",
    log:
        "results/logs/index/{dataset}.log",
    threads: 2
    resources:
        cpus_per_task=16,
        mem_mb=16000,
        runtime=720,
    params:
        call=lambda w: PLAN.index(w.dataset),
        state=lambda w: PLAN.data_state(w.dataset),
    shell:
        "{params.call} --workers ${{SLURM_CPUS_PER_TASK:-{threads}}} 2> >(tee {log} >&2)"


rule overlap:
    input:
        code=code("radbench.overlap"),
        indexes=[f"results/index/{name}/meta.json" for name in PLAN.indexed()],
    output:
        "results/overlap/meta.json",
        "results/overlap/overlap.csv",
    log:
        "results/logs/overlap.log",
    resources:
        cpus_per_task=4,
        mem_mb=16000,
        runtime=720,
    params:
        call=PLAN.overlap(),
    shell:
        "{params.call} 2> >(tee {log} >&2)"


rule pretrain:
    input:
        code=code("radbench.pretrain"),
        indexes=lambda w: [f"results/index/{part.dataset}/meta.json" for part in PLAN.config.pretrain[w.run].data],
    output:
        "results/pretrain/{run}/meta.json",
        "results/pretrain/{run}/log.csv",
    log:
        "results/logs/pretrain/{run}.log",
    resources:
        cpus_per_task=16,
        mem_mb=32000,
        runtime=4320,
        gpu=1,
        slurm_partition="gpu",
    params:
        call=lambda w: PLAN.pretrain(w.run),
    shell:
        "{params.call} 2> >(tee {log} >&2)"


rule features:
    input:
        code=lambda w: code(f"encoders.{PLAN.wrapper(w.encoder)}", "radbench.extract"),
        index="results/index/{dataset}/meta.json",
        weights=lambda w: PLAN.weights_input(w.encoder),
    output:
        "results/features/{encoder}/{dataset}/meta.json",
    log:
        "results/logs/features/{encoder}/{dataset}.log",
    resources:
        cpus_per_task=8,
        mem_mb=16000,
        runtime=720,
        gpu=1,
        slurm_partition="gpu",
    params:
        call=lambda w: PLAN.features(w.encoder, w.dataset),
        state=lambda w: PLAN.weights_state(w.encoder),
    shell:
        "{params.call} 2> >(tee {log} >&2)"


rule linear_probe:
    input:
        code=lambda w: code(f"encoders.{PLAN.wrapper(w.encoder)}", "tasks.linear_probe"),
        index="results/index/{dataset}/meta.json",
        features="results/features/{encoder}/{dataset}/meta.json",
    output:
        "results/linear_probe/{dataset}/{encoder}/meta.json",
        "results/linear_probe/{dataset}/{encoder}/predictions.parquet",
    log:
        "results/logs/linear_probe/{dataset}/{encoder}.log",
    resources:
        cpus_per_task=4,
        mem_mb=8000,
        runtime=120,
    params:
        call=lambda w: PLAN.linear_probe(w.dataset, w.encoder),
    shell:
        "{params.call} 2> >(tee {log} >&2)"


rule segmentation:
    input:
        code=lambda w: code(f"encoders.{PLAN.wrapper(w.encoder)}", "tasks.segmentation"),
        index="results/index/{dataset}/meta.json",
        weights=lambda w: PLAN.weights_input(w.encoder),
    output:
        "results/segmentation/{dataset}/{encoder}/meta.json",
        "results/segmentation/{dataset}/{encoder}/predictions.parquet",
        "results/segmentation/{dataset}/{encoder}/examples.png",
    log:
        "results/logs/segmentation/{dataset}/{encoder}.log",
    resources:
        cpus_per_task=8,
        mem_mb=32000,
        runtime=1440,
        gpu=1,
        slurm_partition="gpu",
    params:
        call=lambda w: PLAN.segmentation(w.dataset, w.encoder),
        state=lambda w: PLAN.weights_state(w.encoder),
    shell:
        "{params.call} 2> >(tee {log} >&2)"


rule report_model:
    input:
        code=lambda w: code(f"encoders.{PLAN.wrapper(w.encoder)}", "tasks.report_generation.train"),
        index="results/index/{dataset}/meta.json",
        weights=lambda w: PLAN.weights_input(w.encoder),
    output:
        "results/report_model/{dataset}/{encoder}/meta.json",
    log:
        "results/logs/report_model/{dataset}/{encoder}.log",
    resources:
        cpus_per_task=16,
        mem_mb=120000,
        runtime=4320,
        gpu=1,
        slurm_partition="gpu",
    params:
        call=lambda w: PLAN.report_model(w.dataset, w.encoder),
        state=lambda w: [PLAN.weights_state(w.encoder), *PLAN.report_state()],
    shell:
        "{params.call} 2> >(tee {log} >&2)"


rule report_generation:
    input:
        code=lambda w: code(f"encoders.{PLAN.wrapper(w.encoder)}", "tasks.report_generation.generate"),
        index="results/index/{dataset}/meta.json",
        model=lambda w: f"results/report_model/{PLAN.evaluations[w.dataset][0]}/{w.encoder}/meta.json",
        weights=lambda w: PLAN.weights_input(w.encoder),
    output:
        "results/report_generation/{dataset}/{encoder}/meta.json",
        "results/report_generation/{dataset}/{encoder}/predictions.parquet",
    log:
        "results/logs/report_generation/{dataset}/{encoder}.log",
    resources:
        cpus_per_task=8,
        mem_mb=64000,
        runtime=1440,
        gpu=1,
        slurm_partition="gpu",
    params:
        call=lambda w: PLAN.report_generation(w.dataset, w.encoder),
        state=lambda w: [PLAN.weights_state(w.encoder), *PLAN.report_state()],
    shell:
        "{params.call} 2> >(tee {log} >&2)"


rule compare:
    input:
        code=STATS,
        predictions=lambda w: PLAN.predictions(w.task, w.dataset),
    output:
        "results/stats/{task}/{dataset}/meta.json",
        "results/stats/{task}/{dataset}/estimates.csv",
        "results/stats/{task}/{dataset}/comparisons.csv",
    log:
        "results/logs/stats/{task}/{dataset}.log",
    resources:
        cpus_per_task=2,
        mem_mb=8000,
        runtime=60,
    params:
        call=lambda w: PLAN.compare(w.task, w.dataset),
    shell:
        "{params.call} 2> >(tee {log} >&2)"


rule tables:
    input:
        code=STATS + PUBLISHED,
        stats=[f"results/stats/{name}/meta.json" for name in PLAN.stats()],
        cards=[path for paths in PLAN.tables()["cards"].values() for path in paths],
        indexes=PLAN.tables()["table1"]["indexes"],
        overlap="results/overlap/meta.json",
    output:
        "results/tables/meta.json",
        "results/tables/spec.json",
        [f"results/tables/table{number}.{kind}" for number in range(1, 7) for kind in ("csv", "tex", "md")],
    log:
        "results/logs/tables.log",
    resources:
        cpus_per_task=1,
        mem_mb=4000,
        runtime=30,
    params:
        spec=lambda w: json.dumps(PLAN.tables(), indent=1),
    shell:
        "printf '%s\\n' {params.spec:q} > results/tables/spec.json; "
        "python -m stats.tables --spec results/tables/spec.json --out results/tables 2> >(tee {log} >&2)"


rule report:
    input:
        code=STATS,
        tables="results/tables/meta.json",
        spec="results/tables/spec.json",
        runs=[f"results/pretrain/{run}/meta.json" for run in PLAN.config.pretrain],
    output:
        "results/report/meta.json",
        "results/report/index.html",
    log:
        "results/logs/report.log",
    resources:
        cpus_per_task=1,
        mem_mb=4000,
        runtime=30,
    shell:
        "python -m stats.report --spec results/tables/spec.json --out results/report 2> >(tee {log} >&2)"
