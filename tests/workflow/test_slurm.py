"""The literal `snakemake --cores all --profile slurm`, planned without Slurm and run on a real one of one node on 127.0.0.1."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml

from radbench import artifact

ROOT = artifact.ROOT
SMOKE = Path(__file__).with_name("slurm_smoke.yaml")
START = Path(__file__).with_name("start_slurm.sh")
PROFILE = yaml.safe_load((ROOT / "slurm" / "config.yaml").read_text())
SLURM = ("sbatch", "srun", "squeue", "sacct", "scontrol", "scancel", "sinfo")
DAEMONS = ("munged", "slurmctld", "slurmd")
JOBS = {"data": 1, "index": 1, "overlap": 1, "pretrain": 1, "features": 2, "linear_probe": 2, "compare": 1, "tables": 1, "report": 1}


def rules() -> dict[str, str]:
    """Text of each rule of the Snakefile, by name."""
    parts = re.split(r"^rule (\w+):$", (ROOT / "Snakefile").read_text(), flags=re.M)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def resources() -> dict[str, dict]:
    """What each rule asks of the cluster."""
    blocks = {name: re.search(r"^    resources:\n((?: {8}.*\n)+)", text, re.M) for name, text in rules().items()}
    return {name: {key: ast.literal_eval(value) for key, value in re.findall(r"(\w+)=(.+),$", block[1], re.M)} if block else {}
            for name, block in blocks.items()}  # fmt: skip


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """What a fresh clone would hold: tracked and new files, nothing ignored."""
    there = tmp_path_factory.mktemp("clone") / "radbench"
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-coz", "--exclude-standard"], capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (there / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, there / name)
    return there


def snakemake(clone: Path, *words: str, environment: dict[str, str] | None = None) -> str:
    """`snakemake --cores all …` in a clone, with nobody's own profiles and weights; returns what it said."""
    command = ["snakemake", "--cores", "all", *words]
    environment = {"PATH": os.environ["PATH"]} | (environment or {}) | {"HOME": str(clone.parent), "HF_HOME": str(clone.parent / "hf")}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    done = subprocess.run(command, cwd=clone, capture_output=True, text=True, env=environment, timeout=1500)
    if done.returncode:
        pytest.fail(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-6000:]}")
    return done.stdout + done.stderr


@pytest.fixture
def slurm():
    """Environment of a running one-node Slurm, larger than this machine; its daemons are gone afterwards, whatever happened."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # a short path: those of its sockets may have 108 characters
    try:
        started = subprocess.run(["bash", str(START), "start", str(folder)], capture_output=True, text=True, timeout=120)
        if started.returncode == 77:
            pytest.skip(f"{started.stderr.strip()}; apt-get install -y --no-install-recommends slurmctld slurmd slurm-client munge")
        assert started.returncode == 0, started.stderr
        yield {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    finally:
        held = pids(folder)
        subprocess.run(["bash", str(START), "stop", str(folder)], timeout=120, check=False)
        assert not [name for name, pid in held.items() if alive(pid)], "a daemon outlived its test"
        shutil.rmtree(folder)


def fields(line: str) -> dict[str, str]:
    """The `Key=value` words of one line of Slurm."""
    return dict(re.findall(r"(\S+?)=(\S*)", line))


def pids(folder: Path) -> dict[str, int]:
    """The daemons of a cluster that run now."""
    files = {name: folder / f"{name}.pid" for name in DAEMONS}
    return {name: int(path.read_text()) for name, path in files.items() if path.is_file()}


def alive(pid: int) -> bool:
    """Whether a process runs; one that ended and was not collected does not."""
    try:
        return not re.search(r"^State:\tZ", Path(f"/proc/{pid}/status").read_text(), re.M)
    except OSError:
        return False


def listening(pid: int) -> set[str]:
    """Addresses, in the kernel's hexadecimal, on which a process accepts TCP connections."""
    sockets = {os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.is_symlink()}
    lines = [line.split() for table in ("tcp", "tcp6") for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]]
    return {line[1].split(":")[0] for line in lines if line[3] == "0A" and f"socket:[{line[9]}]" in sockets}


def test_profile_sets_jobs_retries_and_the_status_command():
    """The profile is for Slurm and holds the three settings without which a run stops, gives up or hangs: jobs, retries, squeue."""
    assert PROFILE["executor"] == "slurm" and PROFILE["jobs"] >= 1 and PROFILE["retries"] >= 1
    assert PROFILE["slurm-status-command"] == "squeue"


def test_no_rule_retries_inside_its_allocation():
    """No rule has `retries:`, which would try again inside the same Slurm job."""
    assert not [name for name, text in rules().items() if re.search(r"^\s*retries\s*:", text, re.M)]


def test_every_rule_states_cores_memory_and_time():
    """Every rule but `all` states cpus_per_task, mem_mb and runtime, and those with a GPU the GPU partition."""
    asked = resources()
    assert set(asked) > set(JOBS) and not asked.pop("all")
    assert not {name: wants for name, wants in asked.items() if not {"cpus_per_task", "mem_mb", "runtime"} <= set(wants)}
    assert {name for name, wants in asked.items() if "gpu" in wants} == {
        name for name, wants in asked.items() if wants.get("slurm_partition") == "gpu"
    }


def test_the_literal_command_plans_in_a_fresh_clone(clone, tmp_path):
    """`snakemake --cores all --profile slurm -n` in a fresh clone plans every rule where no program of Slurm can be found."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("bash", "sh", "env", "uname", "which"):
        (programs / name).symlink_to(shutil.which(name))
    assert not [name for name in SLURM if shutil.which(name, path=f"{Path(sys.executable).parent}:{programs}")]
    said = snakemake(clone, "--profile", "slurm", "-n", environment={"PATH": str(programs)})
    table = re.search(r"Job stats:\njob\s+count\n[- ]+\n(.*?)\n\n", said, re.S)
    assert {line.split()[0] for line in table[1].splitlines()} == set(rules()) | {"total"}
    for name, wants in resources().items():
        stated = re.findall(rf"^rule {name}:\n(?: {{4}}.*\n)*? {{4}}resources: (.*)$", said, re.M)
        assert all(f"{key}={value}" in line.split(", ") for line in stated for key, value in wants.items()) and (stated or not wants)


@pytest.mark.slurm
@pytest.mark.slow
def test_a_run_through_slurm_gives_the_tables_of_a_local_run(clone, slurm, tmp_path):
    """Through a real Slurm every job completes with the cores, memory, time and GPUs its rule asks, and the tables are a local run's."""
    where = Path(slurm["SLURM_CONF"]).parent
    assert set(pids(where)) == set(DAEMONS)
    assert {address for pid in pids(where).values() for address in listening(pid)} == {"0100007F"}, "a daemon listens beyond 127.0.0.1"

    smoke = ("--configfile", str(SMOKE), "--directory")
    quick = ("--latency-wait", "5", "--slurm-init-seconds-before-status-checks", "12")
    said = snakemake(clone, "--profile", "slurm", *smoke, str(tmp_path / "remote"), *quick, environment=slurm)

    query = ["scontrol", "--oneliner", "show", "job"]
    shown = subprocess.run(query, env=os.environ | slurm, capture_output=True, text=True, check=True, timeout=30).stdout
    jobs = {job["JobId"]: job for job in map(fields, shown.splitlines()) if "JobId" in job}
    asked, counts = resources(), dict.fromkeys(JOBS, 0)
    for done in map(fields, (where / "jobcomp.txt").read_text().splitlines()):
        job = jobs[done["JobId"]]
        if done["Name"] == "true":
            continue  # the first sign of life in start_slurm.sh
        rule = re.match(r"rule_(\w+?)(_wildcards_|$)", job["Comment"])[1]
        counts[rule] += 1
        wants = asked[rule]
        assert done["JobState"] == "COMPLETED", (rule, done)
        assert done["Partition"] == wants.get("slurm_partition", PROFILE["default-resources"]["slurm_partition"])
        assert int(done["ProcCnt"]) == int(job["CPUs/Task"]) == wants["cpus_per_task"]
        assert int(done["TimeLimit"]) == wants["runtime"] and f"mem={wants['mem_mb']}M" in done["Tres"].split(",")
        assert int(job.get("TresPerJob", "gres:gpu:0").rpartition("gpu:")[2]) == wants.get("gpu", 0)
    assert counts == JOBS, said[-3000:]

    snakemake(clone, *smoke, str(tmp_path / "local"))
    names = sorted(path.name for path in (tmp_path / "local" / "results" / "tables").glob("*.*") if path.suffix != ".json")
    assert {f"table{number}.{kind}" for number in range(1, 7) for kind in ("csv", "md", "tex")} | {"overlap.csv"} <= set(names)
    for name in names:
        remote, local = ((tmp_path / run / "results" / "tables" / name).read_bytes() for run in ("remote", "local"))
        assert remote == local, name
