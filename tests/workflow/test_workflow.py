"""The real workflow, end to end, on phantom data of a few dozen patients.

One run is shared by the module; tests that change something work on a copy.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from radbench import artifact

ROOT = artifact.ROOT
SMOKE = Path(__file__).with_name("smoke.yaml")
pytestmark = pytest.mark.slow


def snakemake(directory: Path, *words: str, config: Path = SMOKE, more: tuple[Path, ...] = (), repository: Path = ROOT, check: bool = True):
    """Run the workflow in `directory`; returns the completed process with its output."""
    command = [sys.executable, "-m", "snakemake", "-s", str(repository / "Snakefile"), "--cores", "all", "--configfile", str(config),
               *map(str, more), "--directory", str(directory), *words]  # fmt: skip
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": "",
        "HF_HOME": str(directory / "hf"),
    }
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=900)
    if check and done.returncode:
        pytest.fail(f"snakemake {' '.join(words)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return done


def jobs(done) -> dict[str, int]:
    """Job counts of a dry run, by rule."""
    table = re.search(r"Job stats:\njob\s+count\n[- ]+\n(.*?)\n\n", done.stdout + done.stderr, re.S)
    return {name: int(count) for name, count in re.findall(r"^(\w+)\s+(\d+)$", table[1], re.M) if name != "total"} if table else {}


def tables(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((directory / "results" / "tables").iterdir()) if path.name != "meta.json"}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A copy of the working tree's tracked and new files; a test that edits it puts it back."""
    there = tmp_path_factory.mktemp("checkout")
    names = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard"], capture_output=True, text=True, check=True
    ).stdout.split()
    for name in names:
        if (ROOT / name).is_file():
            (there / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, there / name)
    return there


@pytest.fixture(scope="module")
def finished(tmp_path_factory, checkout) -> Path:
    directory = tmp_path_factory.mktemp("smoke")
    snakemake(directory, repository=checkout)
    return directory


@pytest.fixture
def copy(finished, tmp_path) -> Path:
    return shutil.copytree(finished, tmp_path / "copy", symlinks=True)


def test_every_table_and_the_report_exist(finished):
    """One command leaves Tables 1-6 in three formats, the report, and the absent encoder named with the way to get it."""
    for number in range(1, 7):
        for kind in ("csv", "tex", "md"):
            assert (finished / "results" / "tables" / f"table{number}.{kind}").stat().st_size > 0
    page = (finished / "results" / "report" / "index.html").read_text()
    assert "RadJEPA" in page and "python -m radbench.weights rad_dino" in page
    table = (finished / "results" / "tables" / "table3.md").read_text()
    assert "weights not present" in table and "reduced protocol" in table.lower()


def test_a_second_run_has_nothing_to_do(finished, checkout):
    """Run again, the workflow finds everything made."""
    done = snakemake(finished, repository=checkout)
    assert "Nothing to be done" in done.stdout + done.stderr


def test_every_sidecar_chain_closes(finished):
    """From each table's sidecar the parents lead, by matching fingerprints and verified files, down to generated data and code hashes."""
    seen, queue, kinds = set(), [finished / "results" / "tables" / "meta.json", finished / "results" / "report" / "meta.json"], set()
    while queue:
        path = queue.pop()
        if path in seen:
            continue
        seen.add(path)
        fields = json.loads(path.read_text())
        kinds.add(fields["kind"])
        if (path.parent / fields["key"][:12]).is_dir():
            artifact.verify(artifact.read(path.parent))
        if fields["kind"] in ("data", "index", "pretrain", "features", "predictions") and fields["state"] == "ok":
            assert len(fields["key_parts"]["source"]) == 64
        for parent in fields["parents"]:
            there = finished / parent["path"]
            assert json.loads(there.read_text())["fingerprint"] == parent["fingerprint"], f"{path} -> {there}"
            queue.append(there)
    assert kinds >= {"tables", "report", "stats", "predictions", "features", "index", "pretrain", "data", "report_model"}


def test_no_patient_identifier_is_published(finished):
    """Neither tables nor report hold a patient, study or image id of the predictions."""
    import pandas as pd

    index = pd.read_parquet(artifact.read(finished / "results" / "index" / "phantom").file("index.parquet"))
    published = b"".join(tables(finished).values()).decode() + (finished / "results" / "report" / "index.html").read_text()
    names = set(index["image_id"]) | set(index["patient_id"]) | {name.split(":")[1] for name in index["study_id"]}
    assert not [name for name in names if name in published]


def test_a_run_that_is_killed_again_and_again_ends_with_the_same_tables(finished, checkout, tmp_path):
    """A run from nothing in another folder, killed by kill -9 in four stages, ends with an undisturbed run's tables, byte for byte."""
    command = [sys.executable, "-m", "snakemake", "-s", str(checkout / "Snakefile"), "--cores", "all", "--configfile", str(SMOKE),
               "--directory", str(tmp_path), "--rerun-incomplete"]  # fmt: skip
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HF_HOME": str(tmp_path / "hf")}
    stages = {"radbench.index", "radbench.pretrain", "tasks.segmentation", "stats.compare"}
    while stages:
        with open(tmp_path / "run.log", "a") as log:
            process = subprocess.Popen(command, env=environment, start_new_session=True, stdout=log, stderr=log)
        deadline, seen = time.monotonic() + 600, None
        while seen is None and process.poll() is None and time.monotonic() < deadline:
            lines = running(process.pid)
            seen = next((stage for stage in sorted(stages) if f"python -m {stage}".encode() in lines), None)
            time.sleep(0.1)
        assert seen and process.poll() is None, f"the run ended before {stages} were seen"
        time.sleep(0.5)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        snakemake(tmp_path, "--unlock", repository=checkout)
        stages.remove(seen)
    snakemake(tmp_path, "--rerun-incomplete", repository=checkout)
    assert tables(tmp_path) == tables(finished)


def running(session: int) -> bytes:
    """Command lines of the processes of one session."""
    lines = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if os.getsid(int(entry.name)) == session:
                    lines.append((entry / "cmdline").read_bytes().replace(b"\0", b" "))
            except (OSError, ProcessLookupError):
                continue
    return b"\n".join(lines)


NEW_ENCODER = '''"""Mean grey of a 4 x 4 grid: an encoder in one dropped file."""

from radbench.encoder import Card, Encoder, Features
from radbench.image import resize


class GreyGrid(Encoder):
    card = Card(title="Grey grid", architecture="none", image_size=4, patch=1, dim=16, params=0, pooling="the 16 values",
                pretrained_on=(), licence="none", citation="")

    def load(self, device):
        pass

    def preprocess(self, image):
        return resize(image, 4, 4, "box")[None]

    def encode(self, images):
        return Features(image=images.flatten(1), patches=images.permute(0, 2, 3, 1))
'''


def test_dropping_in_an_encoder_adds_its_own_jobs_only(copy, checkout, tmp_path):
    """One new file and one word in the configuration add that encoder's jobs and the tables, and nothing else runs again."""
    config = tmp_path / "with_grey.yaml"
    config.write_text(SMOKE.read_text().replace("rad_dino]", "rad_dino, grey_grid]"))
    (checkout / "encoders" / "grey_grid.py").write_text(NEW_ENCODER)
    try:
        planned = jobs(snakemake(copy, "-n", repository=checkout, config=config))
        done = snakemake(copy, repository=checkout, config=config)
    finally:
        (checkout / "encoders" / "grey_grid.py").unlink()
    assert planned == {"all": 1, "features": 2, "linear_probe": 2, "segmentation": 1, "report_model": 1, "report_generation": 1,
                       "compare": 4, "tables": 1, "report": 1}  # fmt: skip
    ran = set(re.findall(r"python -m (radbench\.\w+|tasks\.[\w.]+) .*?--encoder (\w+)", done.stderr + done.stdout))
    assert {name for _, name in ran} <= {"grey_grid"}
    assert "Grey grid" in (copy / "results" / "tables" / "table3.md").read_text()


def test_a_comment_does_not_throw_work_away(copy, checkout, tmp_path):
    """After a comment in a wrapper its jobs run again, find their keys unchanged, and keep their payloads."""
    before = artifact.read(copy / "results" / "features" / "random_vit" / "phantom")
    stamp = (before.payload / "image.npy").stat().st_mtime_ns
    wrapper = checkout / "encoders" / "random_vit.py"
    kept = shutil.copy2(wrapper, tmp_path / "random_vit.py")
    wrapper.write_text(wrapper.read_text() + "\n# a remark\n")
    try:
        assert jobs(snakemake(copy, "-n", repository=checkout)).get("features") == 2  # of both data sets, the absent one too
        snakemake(copy, repository=checkout)
    finally:
        shutil.copy2(kept, wrapper)  # with its time
    after = artifact.read(copy / "results" / "features" / "random_vit" / "phantom")
    assert after.fields == before.fields and (after.payload / "image.npy").stat().st_mtime_ns == stamp


def test_the_paper_plan_is_complete():
    """config/paper.yaml plans features, probes, segmentation and reports for every encoder of Table 2, with and without data."""
    import yaml

    done = snakemake(Path.cwd(), "-n", "--quiet", "rules", config=ROOT / "config" / "paper.yaml")
    config = yaml.safe_load((ROOT / "config" / "paper.yaml").read_text())
    planned = jobs(done)
    count = len(config["encoders"])
    assert planned["segmentation"] == count * len(config["tasks"]["segmentation"]["runs"])
    assert planned["linear_probe"] == count * len(config["tasks"]["linear_probe"]["runs"])
    assert planned["pretrain"] == 2


def test_a_bad_configuration_is_one_line(tmp_path):
    """A misspelt encoder stops the workflow before any job, with file, line and the right name."""
    bad = tmp_path / "bad.yaml"
    bad.write_text(SMOKE.read_text().replace("rad_dino]", "raddino]"))
    done = snakemake(tmp_path, "-n", config=bad, check=False)
    line = next(number for number, text in enumerate(bad.read_text().splitlines(), 1) if "raddino" in text)
    assert done.returncode != 0 and re.search(rf"bad.yaml:{line}: encoders.raddino: .*did you mean 'rad_dino'", done.stdout + done.stderr)
