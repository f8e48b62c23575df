"""Shared fixtures: the torchvision guard, one thread, a tiny phantom folder, and real images when the machine has some."""

import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RADBENCH_PRECISION", "float32")  # the same numbers on every machine: a CPU with AMX would take bfloat16

import pytest  # noqa: E402

import radbench  # noqa: E402, F401  (installs the torchvision guard before anything imports timm)
from radbench.datasets import phantom  # noqa: E402

FINDINGS = list(phantom.LABELS)


@pytest.fixture(scope="session")
def phantom_folder(tmp_path_factory) -> Path:
    """A tidy folder of 30 phantom patients, 96 pixels high, with masks and reports."""
    root = tmp_path_factory.mktemp("phantom")
    phantom.generate(root, patients=30, seed=5, size=96, sites={"A": 0.5, "B": 0.5})
    return root


@pytest.fixture(scope="session")
def phantom_results(phantom_folder, tmp_path_factory) -> Path:
    """A results/ folder whose index/phantom was made from `phantom_folder`."""
    from radbench.index import Spec, build_index

    results = tmp_path_factory.mktemp("run") / "results"
    build_index("phantom", Spec(reader="folder", root=str(phantom_folder), options={"labels": FINDINGS}), results)
    return results


@pytest.fixture(scope="session")
def real_folder() -> Path:
    """Real radiographs in a tidy folder, named by $RADBENCH_REAL_DATA; the test is skipped without them."""
    path = os.environ.get("RADBENCH_REAL_DATA")
    if not path or not Path(path).is_dir():
        pytest.skip("RADBENCH_REAL_DATA names no folder of real images")
    return Path(path)
