"""Entries of `encoders` in the configuration: names, rows of one wrapper, hub models without a file."""

import pytest
import yaml

from radbench.artifact import ROOT
from radbench.config import load
from radbench.encoder import describe, parse
from radbench.errors import ConfigError
from radbench.plan import Plan

DEFAULT = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())


def plan_of(encoders) -> Plan:
    return Plan(load(DEFAULT | {"encoders": encoders}, "config/config.yaml"))


def test_two_rows_of_one_wrapper_have_two_titles_and_one_file():
    """A list may mix names and entries; the second row says what is not its default, and both rerun when the wrapper changes."""
    plan = plan_of(["radjepa", "rad_dino", {"rad_dino_small": {"wrapper": "rad_dino", "options": {"image_size": 224}}}])
    assert [plan.card(name).title for name in plan.encoders] == ["RadJEPA", "RAD-DINO", "RAD-DINO (image_size 224)"]
    assert plan.wrapper("rad_dino_small") == "rad_dino" and plan.card("rad_dino_small").image_size == 224
    assert "'options': {'image_size': 224}".replace("'", '"') in plan.features("rad_dino_small", "phantom")


def test_hub_models_need_no_file():
    """`timm:<name>` and `hf:<owner>/<name>` become rows whose id is a folder name, with options beside them."""
    plan = plan_of(["radjepa", {"hf:facebook/dinov2-base": {"options": {"pooling": "mean"}}}, "timm:vit_tiny_patch16_224.augreg_in21k"])
    assert plan.encoders == ["radjepa", "hf_facebook_dinov2-base", "timm_vit_tiny_patch16_224.augreg_in21k"]
    assert plan.card("hf_facebook_dinov2-base").weights == "hf:facebook/dinov2-base"
    assert "facebook/dinov2-base" in plan.weights_gap("hf_facebook_dinov2-base")
    name, spec = parse("timm:vit_tiny_patch16_224.augreg_in21k")
    assert describe(name, spec).title == plan.card(name).title


@pytest.mark.parametrize(("entry", "what"), [
    ({"rad_dino": {"options": {"pooling": "max"}}}, r"config.yaml:\d+: encoders.*option pooling; got 'max'; expected one of"),
    ({"rad_dino": {"options": {"poling": "cls"}}}, "did you mean 'pooling'"),
    ({"rad_dino": {"options": {"image_size": "224"}}}, "image_size; got '224'; expected int"),
    ({"mine": {"wrapper": "rad_din"}}, "did you mean 'rad_dino'"),
])  # fmt: skip
def test_a_choice_that_does_not_exist_is_refused(entry, what):
    """A value that is no choice, a misspelt option, a text for a number and an unknown wrapper each say what would be right."""
    with pytest.raises(ConfigError, match=what):
        plan_of({"radjepa": {}} | entry)
