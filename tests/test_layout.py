"""The house rules that a machine can keep."""

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import yaml

from radbench import artifact, config, encoder
from radbench.errors import ConfigError

ROOT = artifact.ROOT


def tracked(*patterns: str) -> list[Path]:
    done = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard", *patterns], capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in done.stdout.split("\n") if name and (ROOT / name).is_file()]


def test_import_directions_hold():
    """import-linter finds every contract kept: stats reads files only, radbench names no encoder and no task."""
    done = subprocess.run([str(Path(sys.executable).with_name("lint-imports"))], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_no_distribution_owns_our_folder_names():
    """No installed package provides `encoders`, `tasks` or `stats`, so the folders here are what runs."""
    owners = metadata.packages_distributions()
    assert not {"encoders", "tasks", "stats", "radbench"} & set(owners)


def test_environment_yml_gives_the_pinned_environment():
    """The conda file holds a small conda part with the tested Python, and hands everything else to requirements.txt."""
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    conda = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    assert environment["dependencies"][-1] == {"pip": ["-r requirements.txt"]}
    assert "python=3.11" in conda and "pip" in conda and all(re.fullmatch(r"[a-z0-9-]+(=[0-9.]+)?", entry) for entry in conda)


def test_every_requirement_is_pinned_and_installed():
    """Each line of requirements.txt names one exact version, which is the installed one; torch and torchvision are both there."""
    lines = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line and not line.startswith("#")]
    pins = dict(re.fullmatch(r"([A-Za-z0-9_.-]+)==([\w.]+)", line).groups() for line in lines)
    assert {"torch", "torchvision"} <= set(pins)
    for name, version in pins.items():
        assert metadata.version(name).split("+")[0] == version, name


def test_no_generic_file_names():
    """No file is called utils, helpers, common, misc, manager, factory or engine."""
    generic = {"utils", "helpers", "common", "misc", "manager", "factory", "engine"}
    assert not [path for path in tracked("*.py") if path.stem in generic]


def test_test_tree_has_a_claim_per_test():
    """Every test function has a docstring."""
    import ast

    files = tracked("tests/*.py", "tests/**/*.py")
    missing = [f"{path.name}:{node.name}" for path in files for node in ast.walk(ast.parse(path.read_text()))
               if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and not ast.get_docstring(node)]  # fmt: skip
    assert not missing


def test_links_in_the_documentation_lead_somewhere():
    """Every relative link of README and docs names a file that exists."""
    broken = []
    for path in tracked("*.md", "docs/*.md", "docs/**/*.md"):
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text()):
            if "://" not in target and not target.startswith("mailto:") and not (path.parent / target).exists():
                broken.append(f"{path.relative_to(ROOT)} -> {target}")
    assert not broken


@pytest.mark.parametrize("name", ["config", "folder", "paper"])
def test_shipped_configurations_are_valid(name, tmp_path):
    """Each shipped configuration passes its own checks."""
    values = yaml.safe_load((ROOT / "config" / f"{name}.yaml").read_text())
    loaded = config.load(values | ({"root": str(tmp_path)} if name == "folder" else {}), f"config/{name}.yaml")
    assert {entry.wrapper or name for name, entry in loaded.encoders.items()} <= set(encoder.names())


FAULTS = {
    r"datasets.*String should match pattern": ("  phantom_external:\n    reader", "  'x; rm -rf y':\n    reader"),
    r"linear_probe.runs\[1\].labels: no label 'Lung opacity'.*did you mean 'Lung Opacity'": (
        "labels: {Lung Opacity: LO}",
        "labels: {Lung opacity: LO}",
    ),
    r"datasets.phantom.generate.patient: no option 'patient'.*did you mean 'patients'": (
        "generate: {patients: 320",
        "generate: {patient: 320",
    ),
    r"datasets.phantom.reeder: .*did you mean 'reader'": ("  phantom:\n    reader:", "  phantom:\n    reeder:"),
    r"linear_probe.runs\[0\].dataset: no data set 'fantom'.*did you mean 'phantom'": (
        "- dataset: phantom\n        labels",
        "- dataset: fantom\n        labels",
    ),
    r"segmentation.protocol.epoch: .*did you mean 'epochs'": ("channels: 16, epochs", "channels: 16, epoch"),
    r"encoders.radjepa_control: needs the pretraining run 'radjepa_control'": ("  radjepa_control:\n    data", "  other:\n    data"),
    r"statistics.reference: no encoder 'radjep'": ("reference: radjepa}", "reference: radjep}"),
    r"statistics.resamples: .*greater than or equal to 50": ("resamples: 2000", "resamples: 5"),
}


@pytest.mark.parametrize("message", FAULTS)
def test_a_wrong_configuration_names_place_and_remedy(message, tmp_path):
    """Each fault is one ConfigError with file, line, place and, where a word is close, the right word."""
    text = (ROOT / "config" / "config.yaml").read_text()
    old, new = FAULTS[message]
    assert old in text
    path = tmp_path / "c.yaml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigError, match=message) as caught:
        config.load(yaml.safe_load(path.read_text()), path)
    assert re.search(r"c\.yaml:\d+: ", str(caught.value))
