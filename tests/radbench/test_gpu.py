"""The benchmark that waits for a GPU runs, and counts what it says."""

import importlib.util
import sys

import torch

from radbench import extract
from radbench.artifact import ROOT


def benchmark(name):
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", ROOT / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_counted_operations_of_a_vit_are_the_closed_form():
    """The FLOPs of a ViT-B/14 at 224, attention included, are counted as the closed form has them, to 1 %."""
    gpu, closed = benchmark("gpu"), benchmark("extraction").vit_gflop(257, 768, 12, 14)
    encoder = extract.Frozen("rad_dino", {"options": {"image_size": 224}}, ROOT / "results").load("cpu")
    with torch.inference_mode():
        assert abs(gpu.flops(encoder, torch.zeros(1, 3, 224, 224)) / 1e9 / closed - 1) < 0.01


def test_every_measurement_has_its_row(monkeypatch):
    """On a CPU, with one image at a time and narrow training steps, every table has its rows and no field is empty."""
    monkeypatch.setitem(extract.BATCH, "cpu", 1)
    text = benchmark("gpu").page("cpu", ["rad_dino"], 0, 1, small=True)
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith(("| rad_dino", "| pretraining", "| UPerNet"))]
    assert [len(row) for row in rows] == [11, 5, 5] and all(float(cell) >= 0 for row in rows for cell in row[1:])
