"""Protocols: an override is taken as it is, or refused with its place; the shipped configurations are possible."""

import dataclasses

import pytest
import yaml

from radbench import artifact, pretrain
from radbench.errors import ConfigError
from radbench.protocol import check_fields, from_overrides, reductions
from tasks import linear_probe, segmentation

PROTOCOLS = {"linear_probe": linear_probe.Protocol, "segmentation": segmentation.Protocol}
SHIPPED = sorted([*(artifact.ROOT / "config").glob("*.yaml"), *(artifact.ROOT / "tests" / "workflow").glob("*.yaml")])


@dataclasses.dataclass(frozen=True)
class Toy:
    epochs: int = 3
    batch: int = 6
    group: int = 2
    lrs: tuple[float, ...] = (0.1, 0.2)
    scale: tuple[float, float] = (0.3, 1.0)

    def __post_init__(self) -> None:
        check_fields(self, "toy protocol", at_least={"epochs": 1, "batch": 1, "group": 1}, above_0=("lrs",), filled=("lrs",),
                     multiple_of={"batch": "group"})  # fmt: skip


@pytest.mark.parametrize(("overrides", "said"), [
    ({"epochs": 0}, "too small; got 0; expected 1 or more; next: change it, or leave it out for 3"),
    ({"group": 4}, "not a multiple of group; got 6; expected a multiple of 4; next: change batch or group"),
    ({"lrs": ()}, r"no value; got \(\); expected one or more; next: change it, or leave it out for \(0.1, 0.2\)"),
    ({"lrs": (0.1, float("nan"))}, r"too small; got \(0.1, nan\); expected more than 0"),
    ({"scale": (0.3,)}, r"1 values; got \(0.3,\); expected 2 values"),
])  # fmt: skip
def test_an_impossible_value_is_refused_however_the_protocol_is_made(overrides, said):
    """Made by hand the error names the stage, made from a configuration its place there; both say what was got and what is allowed."""
    with pytest.raises(ConfigError, match=rf"^toy protocol\.\w+: {said}"):
        Toy(**overrides)
    with pytest.raises(ConfigError, match=rf"^tasks\.toy\.protocol\.\w+: {said}"):
        from_overrides(Toy, overrides, "tasks.toy.protocol")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_the_shipped_protocols_are_possible(path):
    """Every protocol of a configuration in this repository is accepted, with all that it changes."""
    config = yaml.safe_load(path.read_text())
    found = [(pretrain.Protocol, run.get("protocol", {})) for run in config.get("pretrain", {}).values()]
    found += [(kind, config.get("tasks", {}).get(task, {}).get("protocol", {})) for task, kind in PROTOCOLS.items()]
    for kind, overrides in found:
        changed = {line.split()[0] for line in reductions(from_overrides(kind, overrides, "here"))}
        assert changed <= set(overrides)
