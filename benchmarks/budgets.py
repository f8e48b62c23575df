"""Wall time and memory of what a user types, against the budgets in docs/performance.md.

    python benchmarks/budgets.py --directory /tmp/budgets [--root path/to/tidy/folder] [--repeats 3]

Runs, each as `snakemake --cores all` in a fresh folder: the default configuration, the same again (nothing to do; median
of the repeats), the plan of config/paper.yaml (median of the repeats), and with --root the folder configuration. Memory is
the largest sum of the processes' proportional set sizes, sampled every second.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--directory", required=True, type=Path)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    default, paper, folder = (arguments.directory / name for name in ("default", "paper", "folder"))
    for path in (default, paper, folder):
        path.mkdir(parents=True, exist_ok=True)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before the start")
    show("default run", "600 s, 8 GiB", *measure(default, "config/config.yaml"))
    again = [measure(default, "config/config.yaml") for _ in range(arguments.repeats)]
    show("second run, nothing to do", "10 s", statistics.median(seconds for seconds, _ in again), max(memory for _, memory in again))
    plans = [measure(paper, "config/paper.yaml", "-n", "--quiet") for _ in range(arguments.repeats)]
    show("plan of config/paper.yaml", "15 s", statistics.median(seconds for seconds, _ in plans), max(memory for _, memory in plans))
    if arguments.root:
        show("own folder", "1800 s", *measure(folder, "config/folder.yaml", "--config", f"root={arguments.root.resolve()}"))


def measure(directory: Path, config: str, *words: str) -> tuple[float, float]:
    """(seconds, peak GiB) of one call of the workflow."""
    command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "--configfile", str(ROOT / config), "--cores", "all",
               "--directory", str(directory), *words]  # fmt: skip
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    start = time.monotonic()
    with open(directory / "benchmark.log", "a") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        peak, done = [0.0], threading.Event()
        watcher = threading.Thread(target=_watch, args=(process.pid, peak, done))
        watcher.start()
        status = process.wait()
        seconds = time.monotonic() - start
        done.set()
        watcher.join()
    if status:
        sys.exit(f"{' '.join(command)} ended with {status}; see {directory / 'benchmark.log'}")
    return seconds, peak[0]


def _watch(session: int, peak: list[float], done: threading.Event) -> None:
    while not done.wait(1.0):
        peak[0] = max(peak[0], sum(_proportional_kib(entry) for entry in Path("/proc").iterdir() if _in_session(entry, session)) / 2**20)


def _in_session(entry: Path, session: int) -> bool:
    try:
        return entry.name.isdigit() and os.getsid(int(entry.name)) == session
    except OSError:
        return False


def _proportional_kib(entry: Path) -> int:
    try:
        found = re.search(r"^Pss:\s+(\d+)", (entry / "smaps_rollup").read_text(), re.M)
        return int(found[1]) if found else 0
    except OSError:
        return 0


def show(what: str, budget: str, seconds: float, memory: float) -> None:
    print(f"{what:28} {seconds:8.1f} s  {memory:5.2f} GiB   budget {budget}", flush=True)


if __name__ == "__main__":
    main()
