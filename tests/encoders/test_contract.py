"""Every encoder in encoders/ keeps the contract, with random weights and without a network."""

import dataclasses
import importlib.util
import json
import sys
from pathlib import Path

import pytest

from radbench import check
from radbench import encoder as contract
from radbench.encoder import Features, Option, find, names

ROOT = check.artifact.ROOT
GIANT = {name for name in names() if (find(name).card.params or 0) > 1.5e8 and not find(name).card.needs}
LARGE = {name for name in names() if (find(name).card.image_size or 0) > 32 * (find(name).card.patch or 1)}
CHEAP = (check.loads_ready, check.parameters_are_counted, check.preprocess_keeps_its_contract)


@pytest.fixture(scope="module")
def subject(request, subject_of) -> check.Subject:
    """An input of more than 32 x 32 patches is reduced to 8 x 8: the same network, a twentieth of the arithmetic."""
    if request.param not in LARGE:
        return subject_of(request.param)
    full = find(request.param)
    side = 8 * full.card.patch
    options = dict(full.options) | ({"image_size": Option(side)} if "image_size" in full.options else {})
    positions = (full.card.image_size // full.card.patch) ** 2 - 8**2  # so many fewer are learnt
    card = dataclasses.replace(full.card, image_size=side, params=full.card.params - positions * full.card.dim)
    parts = {"card": card, "options": options, "card_for": classmethod(full.card_for.__func__), "__module__": full.__module__}
    return check.Subject(request.param, type("Small", (full,), parts))


def ids() -> list:
    return [pytest.param(name, marks=pytest.mark.slow) if name in GIANT else name for name in names()]


@pytest.mark.parametrize("one", check.CHECKS, ids=lambda one: one.__name__)
@pytest.mark.parametrize("subject", ids(), indirect=True, scope="module")
def test_encoder_keeps_the_contract(subject, one):
    """Each encoder passes each check of radbench.check."""
    if one is check.fixed_image_has_its_features and subject.name in LARGE:
        pytest.skip("recorded at the card's own size: test_large_input_at_its_own_size")
    try:
        one(subject)
    except check.NotApplicableError as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize("one", CHEAP, ids=lambda one: one.__name__)
@pytest.mark.parametrize("name", sorted(LARGE - GIANT))
def test_large_input_at_its_own_size(subject_of, name, one):
    """Where the other tests reduce the input, what costs no forward pass is checked at the card's own size."""
    one(subject_of(name))


@pytest.mark.parametrize("one", check.CHECKS, ids=lambda one: one.__name__)
def test_template_keeps_the_contract(template, one):
    """encoders/_template.py passes the checks as it stands, so whoever fills it in starts from something that works."""
    try:
        one(template)
    except check.NotApplicableError as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize("name", sorted(GIANT))
def test_giant_has_the_cards_parameters(name, monkeypatch):
    """The parameter count of a giant is the card's at its native side; counted without allocating it."""
    encoder = find(name)(Path("weights that are not read"))  # with weights the wrapper builds on the meta device
    monkeypatch.setattr(sys.modules[type(encoder).load.__module__], "load_strict", lambda *args, **options: None)
    encoder.load("meta")
    subject = check.Subject(name, type(encoder))
    subject.encoder = encoder
    check.parameters_are_counted(subject)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(LARGE))
def test_fixed_image_at_large_input(name):
    """The features of the fixed image are the recorded ones also where the other tests reduce the input."""
    check.fixed_image_has_its_features(check.Subject(name, find(name)))


def test_every_encoder_is_recorded():
    """encoders/golden.json has the features of every encoder and of nothing else."""
    assert sorted(json.loads(check.GOLDEN.read_text())) == [name for name in names() if not find(name).card.needs]


def test_golden_features_notice_another_filter(template, tmp_path, monkeypatch):
    """A wrapper whose resize filter is swapped no longer gives the features that were recorded for it."""
    monkeypatch.setattr(check, "GOLDEN", tmp_path / "golden.json")
    (tmp_path / "golden.json").write_text(json.dumps({"_template": check.golden(template)}))
    assert "as recorded" in check.fixed_image_has_its_features(template)
    card = dataclasses.replace(template.card, interpolation="lanczos")
    with pytest.raises(check.ContractError, match="the input of the fixed image changed"):
        check.fixed_image_has_its_features(check.Subject("_template", type("Other", (template.encoder_class,), {"card": card})))


def test_a_new_encoder_starts_from_the_template(tmp_path, monkeypatch, capsys):
    """`--new` writes a file whose class has the encoder's name and which imports; a taken or impossible id is refused."""
    (tmp_path / "encoders").mkdir()
    (tmp_path / "encoders" / "_template.py").write_text((ROOT / "encoders" / "_template.py").read_text())
    monkeypatch.setattr(check.artifact, "ROOT", tmp_path)
    spec = importlib.util.spec_from_file_location("my_net", check.new("my_net"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.MyNet.card.title and "<id>" not in (tmp_path / "encoders" / "my_net.py").read_text()
    for name, what in (("my_net", "exists already"), ("My-Net", "not an id")):
        with pytest.raises(check.ContractError, match=what):
            check.new(name)


def test_card_page_holds_facts_options_and_verdicts(tmp_path, monkeypatch, capsys):
    """The page that a check writes names the licence, each option with its reason, and every verdict line it printed."""
    monkeypatch.setattr(check, "CARDS", tmp_path)
    assert check.check("raw_pixels") is True
    page, printed = (tmp_path / "raw_pixels.md").read_text(), capsys.readouterr().out
    lines = [line.split("  ")[2] for line in printed.splitlines() if line.startswith(("  ok", "  - "))]
    assert len(lines) == len(check.CHECKS) and "Raw pixels" in page and page.count("| ok |") == printed.count("\n  ok")
    options = check.card_page("radjepa", find("radjepa").card, find("radjepa"), "random weights", [])
    assert "weights_of" in options and "as I-JEPA evaluates" in options


def test_template_is_no_encoder():
    """A file that begins with an underscore is not listed."""
    assert "_template" not in names()


def test_readme_is_fresh():
    """The table of encoders/README.md is the one that the cards give."""
    check.readme(write=False)


@pytest.fixture(scope="module")
def template() -> check.Subject:
    return check.Subject("_template", importlib.import_module("encoders._template").Template)


# ---------------------------------------------------------------- the checks catch what they are for


def broken(template: check.Subject, **methods) -> check.Subject:
    """The template with some methods replaced; it borrows the built network."""
    encoder_class = type("Broken", (template.encoder_class,), methods)
    encoder = encoder_class(None)
    if "load" in methods:
        encoder.load("cpu")
    else:
        encoder.vit = template.encoder.vit
    subject = check.Subject("broken", encoder_class)
    subject.encoder = encoder
    return subject


def flipped(self, images):
    image, patches = self.__class__.__mro__[1].encode(self, images)
    return Features(image, patches.flip(1))


def transposed_levels(self, images):
    return [level.transpose(2, 3) for level in self.__class__.__mro__[1].encode_levels(self, images)]


def shifted(self, images):
    tokens = self.vit.forward_features(images)
    return Features(tokens[:, 0], tokens[:, :-1].unflatten(1, (14, 14)))  # keeps the CLS token, loses the last patch


def centred_on_the_batch(self, images):
    image, patches = self.__class__.__mro__[1].encode(self, images)
    return Features(image - image.mean(0), patches)


def dropping_out(self, images):
    import torch

    image, patches = self.__class__.__mro__[1].encode(self, images)
    return Features(torch.nn.functional.dropout(image), patches)


def training(self, device):
    import timm

    self.vit = timm.create_model("vit_tiny_patch16_224", num_classes=0)


def unnormalised(self, image):
    from radbench.image import resize

    return resize(image, 224, 224)[None].repeat(3, axis=0)


def uncropped(self, image):
    from radbench.image import normalise, resize_shortest

    return normalise(resize_shortest(image, 224), 0.5, 0.5)


BREAKS = [
    (check.grid_is_upright, "encode", flipped), (check.grid_is_upright, "encode", shifted),
    (check.grid_is_upright, "encode_levels", transposed_levels), (check.rows_are_independent, "encode", centred_on_the_batch),
    (check.encoding_is_deterministic, "encode", dropping_out), (check.loads_ready, "load", training),
    (check.preprocess_keeps_its_contract, "preprocess", unnormalised),
    (check.preprocess_keeps_its_contract, "preprocess", uncropped),
]  # fmt: skip


@pytest.mark.parametrize("one, method, broken_method", BREAKS, ids=[entry[2].__name__ for entry in BREAKS])
def test_check_catches(template, one, method, broken_method):
    """A wrapper broken in one known way is turned down by the check that is there for it."""
    with pytest.raises(check.ContractError, match="encoders/broken.py"):
        one(broken(template, **{method: broken_method}))


def test_check_catches_a_wrong_card(template):
    """A parameter count, a width or a patch that the network does not have is turned down."""
    for change, one in (({"params": 6_000_000}, check.parameters_are_counted), ({"dim": 384}, check.features_have_the_cards_shapes),
                        ({"patch": 14}, check.features_have_the_cards_shapes), ({"licence": ""}, check.card_is_complete),
                        ({"levels": (5, 2, 8, 11)}, check.card_is_complete)):  # fmt: skip
        subject = broken(template)
        subject.card = dataclasses.replace(template.card, **change)
        with pytest.raises(check.ContractError):
            one(subject)


def test_check_catches_a_dead_option(template):
    """An option that the card declares and the code does not read is turned down."""
    with pytest.raises(check.ContractError, match="does not reach"):
        check.options_reach_the_features(broken(template, options={"image_size": Option(224)}))


def test_verdict_lines_name_the_failure(template, monkeypatch, capsys):
    """`python -m radbench.check <id>` prints FAIL with the reason and says so by its return value."""
    broken_class = type("Broken", (template.encoder_class,), {"preprocess": unnormalised})
    for module in (check, contract):
        monkeypatch.setattr(module, "find", lambda name: broken_class)
    assert check.check("broken") is False
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("  FAIL")] and "preprocess keeps its contract" in " ".join(lines)
