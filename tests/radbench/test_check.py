"""`python -m radbench.check`: what it prints and writes, its options, and how a new encoder begins."""

import importlib
import importlib.util
import json
import sys

import pytest
import torch

from encoders._template import Template
from radbench import artifact, check, contract
from radbench import encoder as registry
from radbench.encoder import Option, find
from radbench.errors import ConfigError
from radbench.subject import Subject


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Pages and locks are written below a folder of the test; no weights are present."""
    monkeypatch.setattr(check, "CARDS", tmp_path / "cards")
    monkeypatch.setattr(contract, "RESULTS", tmp_path)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))


def printed(capsys) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_card_page_holds_facts_options_and_verdicts(tmp_path, capsys):
    """The page that a check writes names the licence, each option with its reason, and every verdict line it printed."""
    assert check.check("raw_pixels")["FAIL"] == 0
    page, lines = (tmp_path / "cards" / "raw_pixels.md").read_text(), printed(capsys)
    assert sum(line.startswith(("  ok  ", "  -  ")) for line in lines) == len(contract.CHECKS)
    assert "Raw pixels" in page and page.count("| ok |") == sum(line.startswith("  ok  ") for line in lines)
    options = check.card_page("radjepa", find("radjepa").card, find("radjepa"), "random weights", [])
    assert "weights_of" in options and "as I-JEPA evaluates" in options


def test_verdict_lines_name_the_failure(monkeypatch, capsys):
    """A wrapper that breaks a promise gets a FAIL line with the reason, and the last line counts it."""

    def unnormalised(self, image):
        from radbench.image import resize

        return resize(image, 224, 224)[None].repeat(3, axis=0)

    broken = type("Broken", (Template,), {"preprocess": unnormalised, "__module__": Template.__module__})
    for module in (check, registry):
        monkeypatch.setattr(module, "find", lambda name: broken)
    assert check.check("broken")["FAIL"] == 2  # the other one: the template's card
    lines = printed(capsys)
    assert any(line.startswith("  FAIL  preprocess keeps its contract") for line in lines) and " 2 failed, " in lines[-1]


def test_options_of_the_command_line(tmp_path, capsys):
    """`--option` checks another row of a wrapper: its card, its page and its title are those of the option."""
    assert check.check("timm:test_vit.r160_in1k", ["pooling=cls", "image_size=80"])["FAIL"] == 0
    lines = printed(capsys)
    assert "(pooling cls, image_size 80)" in lines[0] and any("(3, 80, 80)" in line for line in lines)
    assert any("pooling is the cards" in line and line.startswith("  ok") for line in lines)
    assert (tmp_path / "cards" / "timm_test_vit.r160_in1k_pooling=cls_image_size=80.md").is_file()


KNOWN = {"size": Option(224), "field": Option(1.0), "switch": Option(False), "side": Option(224, (224, 448)), "names": Option([]),
         "free": Option("")}  # fmt: skip


@pytest.mark.parametrize("text, value", [("size=448", 448), ("field=0.5", 0.5), ("switch=true", True), ("side=448", 448),
                                         ('names=["a", "b"]', ["a", "b"]), ("free=12", "12")])  # fmt: skip
def test_an_option_has_its_type(text, value):
    """The value of `--option` is read in the type of the option."""
    name, read = check.read_option(text, KNOWN)
    assert (name, read, type(read)) == (text.partition("=")[0], value, type(value))


@pytest.mark.parametrize("text, what", [("sides=1", "no such option.*did you mean 'side'"), ("side", "not name=value")])
def test_a_wrong_option_is_a_named_error(text, what):
    """An option that the wrapper does not have, or that has no value, is a ConfigError with the next step."""
    with pytest.raises(ConfigError, match=what):
        check.read_option(text, KNOWN)


def test_a_hub_address_has_two_parts(capsys):
    """`hf:nonsense` fails although nothing of it can be run, `hf:owner/name` does not; the last line counts what was not run."""
    assert check.check("hf:nonsense")["FAIL"] == 1
    assert " 1 failed, " in printed(capsys)[-1]
    assert check.check("hf:owner/name")["FAIL"] == 0
    assert "0 failed" in printed(capsys)[-1]
    with pytest.raises(ConfigError, match="names no model"):
        check.check("hf:")


def test_a_model_without_a_pooler_names_the_option(tmp_path, capsys):
    """A hub model that the default pooling cannot serve fails once, with the options under which it loads."""
    import transformers

    torch.manual_seed(0)
    small = {
        "hidden_size": 48,
        "num_hidden_layers": 4,
        "num_attention_heads": 3,
        "intermediate_size": 96,
        "image_size": 64,
        "patch_size": 8,
    }
    transformers.ViTForImageClassification(transformers.ViTConfig(**small)).eval().save_pretrained(tmp_path / "vit")
    said = {"size": {"height": 64, "width": 64}, "resample": 3, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (tmp_path / "vit" / "preprocessor_config.json").write_text(json.dumps(said))
    assert check.check("hf:owner/vit", local=str(tmp_path / "vit"))["FAIL"] == 1
    captured = capsys.readouterr()
    assert "it does with --option pooling=cls or --option pooling=mean" in captured.out and "LOAD REPORT" not in captured.err
    assert check.check("hf:owner/vit", ["pooling=cls"], str(tmp_path / "vit"))["FAIL"] == 0


def test_a_run_that_was_not_made_says_how(capsys):
    """Without its pretraining run an encoder is checked on random weights, and the first line has the command that pretrains it."""
    assert check.locate("radjepa", find("radjepa").card) == (
        None, "random (not pretrained here; next: snakemake --cores all results/pretrain/radjepa/meta.json)")  # fmt: skip


def test_status_and_last_line_of_several(monkeypatch, capsys):
    """Several encoders end with one line of sums, and any failure gives status 1."""
    monkeypatch.setattr(sys, "argv", ["check", "raw_pixels", "hf:nonsense"])
    assert check.main() == 1
    assert printed(capsys)[-1].startswith("2 encoders: ")


def test_a_new_encoder_starts_from_the_template(tmp_path, monkeypatch):
    """`--new` writes a file whose class has the encoder's name and which imports; a taken or impossible id is refused by name."""
    text = (check.artifact.ROOT / "encoders" / "_template.py").read_text()
    (tmp_path / "encoders").mkdir()
    (tmp_path / "encoders" / "_template.py").write_text(text)
    monkeypatch.setattr(check.artifact, "ROOT", tmp_path)
    spec = importlib.util.spec_from_file_location("my_net", check.new("my_net"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.MyNet.card.title and "<id>" not in (tmp_path / "encoders" / "my_net.py").read_text()
    refused = {"my_net": "exists already", "My-Net": "not an id", "": "not an id", "2net": "not an id", "class": "a word of Python",
               "none": "would hide None", "encoder": "would hide Encoder"}  # fmt: skip
    for name, what in refused.items():
        with pytest.raises(check.ContractError, match=what):
            check.new(name)


def test_the_readmes_encoder_keeps_the_contract(tmp_path, monkeypatch):
    """The README's example, copied word for word into a file, has no failing check and is 30 lines of code or less."""
    text = (artifact.ROOT / "README.md").read_text().split("```python\n")[1].split("```")[0]
    assert len([line for line in text.splitlines() if line.strip()]) <= 30
    (tmp_path / "readmes_encoder.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    module = importlib.import_module("readmes_encoder")
    found = {title: (verdict, remark) for verdict, title, remark in check.verdicts(Subject("my_encoder", module.MyEncoder))}
    assert [remark for verdict, remark in found.values() if verdict == "FAIL"] == [] and len(found) == len(contract.CHECKS)
