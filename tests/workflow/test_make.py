"""What `make` hands on: folders with blanks, roots that are not there, and targets without what they need."""

import shutil
import subprocess

import pytest

from radbench.artifact import ROOT

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="no make")
STUB = """#!/bin/sh
printf '%s\\n' "$@"
while [ "$1" != --directory ]; do shift || exit 0; done
mkdir -p "$2/results/tables" && echo the table > "$2/results/tables/table3.md"
"""


@pytest.fixture
def make(tmp_path):
    """`make` with programs that print their arguments, one a line; snakemake writes a table too."""
    programs = tmp_path / "venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("snakemake", "python"):
        (programs / name).write_text(STUB if name == "snakemake" else STUB.partition("while")[0])
        (programs / name).chmod(0o755)
    (tmp_path / "venv" / ".installed").touch()

    def run(*words: str) -> subprocess.CompletedProcess:
        return subprocess.run(["make", "-C", str(ROOT), "--no-print-directory", f"VENV={tmp_path / 'venv'}", *words],
                              capture_output=True, text=True)  # fmt: skip

    return run


def test_folders_with_blanks_reach_the_workflow_whole(make, tmp_path):
    """DIRECTORY, CONFIG and ROOT may hold blanks, and the end of a run names where its tables are."""
    here, images = tmp_path / "my results", tmp_path / "my images"
    done = make("run", f"DIRECTORY={here}", f"ROOT={images}", "CONFIG=my config.yaml")
    assert done.returncode == 0, done.stderr
    words = done.stdout.splitlines()
    assert words[words.index("--directory") + 1] == str(here) and words[words.index("--configfile") + 1] == "my config.yaml"
    assert f"root={images}" in words and "the table" in words and f"Tables: {here}/results/tables/" in words


@pytest.mark.parametrize("root", ["no/such/folder", "no such/folder"])
def test_a_root_that_is_not_there_is_handed_on(make, tmp_path, root):
    """A root below a folder that is not there stays what was given, made absolute, so that the configuration can name it."""
    done = make("run", f"DIRECTORY={tmp_path / 'out'}", f"ROOT={root}")
    assert f"root={ROOT / root}" in done.stdout.splitlines() and done.stderr == ""


def test_a_directory_that_cannot_be_made_says_what_to_do(make, tmp_path):
    """A file where the results should go is one sentence, and no workflow starts."""
    (tmp_path / "file").touch()
    done = make("run", f"DIRECTORY={tmp_path / 'file' / 'below'}")
    assert done.returncode and "name a folder that you may write to" in done.stderr and "--cores" not in done.stdout.splitlines()


def test_an_encoder_without_a_name_says_what_to_do(make):
    """`make encoder` alone shows the command, and with a name writes its file."""
    done = make("encoder")
    assert done.returncode and "make encoder NAME=my_encoder" in done.stderr and "--new" not in done.stdout.splitlines()
    assert make("encoder", "NAME=mine").stdout.splitlines()[-2:] == ["--new", "mine"]
