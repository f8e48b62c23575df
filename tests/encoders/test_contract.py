"""Every encoder in encoders/ keeps the contract, with random weights and without a network."""

import contextlib
import dataclasses
import importlib
import json
import sys
from pathlib import Path

import pytest

from radbench import check, contract
from radbench.encoder import Option, describe, find, names
from radbench.subject import ContractError, NotApplicableError, Subject

GIANT = {name for name in names() if (find(name).card.params or 0) > 1.5e8 and not find(name).card.needs}
LARGE = {name for name in names() if (find(name).card.image_size or 0) > 26 * (find(name).card.patch or 1)}
CHEAP = (contract.loads_ready, contract.parameters_are_counted, contract.preprocess_keeps_its_contract,
         contract.picture_reaches_the_input, contract.filter_is_the_cards)  # fmt: skip


@pytest.fixture(scope="module")
def subject(request, subject_of) -> Subject:
    """An input of more than 26 x 26 patches is reduced to 8 x 8: the same network, a twentieth of the arithmetic."""
    if request.param not in LARGE:
        return subject_of(request.param)
    full = find(request.param)
    side = 8 * full.card.patch
    options = dict(full.options) | ({"image_size": Option(side)} if "image_size" in full.options else {})
    positions = (full.card.image_size // full.card.patch) ** 2 - 8**2  # so many fewer are learnt
    card = dataclasses.replace(full.card, image_size=side, params=full.card.params - positions * full.card.dim)
    parts = {"card": card, "options": options, "card_for": classmethod(full.card_for.__func__), "__module__": full.__module__}
    return Subject(request.param, type("Small", (full,), parts))


def half_is_native() -> bool:
    import torch

    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def ids() -> list:
    return [pytest.param(name, marks=pytest.mark.slow) if name in GIANT else name for name in names()]


@pytest.mark.parametrize("one", contract.CHECKS, ids=lambda one: one.__name__)
@pytest.mark.parametrize("subject", ids(), indirect=True, scope="module")
def test_encoder_keeps_the_contract(subject, one):
    """Each encoder passes each check of radbench/contract.py."""
    if one is contract.fixed_image_has_its_features and subject.name in LARGE:
        pytest.skip("recorded at the card's own size: test_large_input_at_its_own_size")
    if one is contract.half_precisions_are_close and subject.name in GIANT and not half_is_native():
        pytest.skip("this CPU emulates half precision, which takes a network of this size minutes; python -m radbench.check tries it")
    try:
        one(subject)
    except NotApplicableError as reason:
        pytest.skip(str(reason))


def choices() -> list:
    """(id, option, value) of every choice that is not a default, of networks that are built in seconds."""

    def card(name, **options):
        return describe(name, {"options": options, "title": "-"})

    cheap = [name for name in names() if not (name in GIANT or find(name).generic or find(name).card.needs)]
    every = [(name, option, value) for name in cheap for option, said in find(name).options.items()
             for value in said.choices or ((False, True) if isinstance(said.default, bool) else ()) if value != said.default
             # of random weights nothing is selected, but the card may change
             if not said.selects_weights or card(name, **{option: value}) != card(name)]  # fmt: skip
    return [pytest.param(*choice, id="-".join(map(str, choice))) for choice in every]


@pytest.mark.slow
@pytest.mark.parametrize("name, option, value", choices())
def test_every_choice_keeps_the_contract(name, option, value):
    """Under each choice of each option, card, input, features and taps still agree, as they do under the defaults."""
    options = {option: value} | ({"image_size": 112} if name in LARGE and "image_size" in find(name).options else {})
    subject = Subject(name, find(name), None, options)
    left_out = (contract.fixed_image_has_its_features, contract.half_precisions_are_close, contract.options_reach_the_features)
    for one in contract.CHECKS:
        if one not in left_out:
            with contextlib.suppress(NotApplicableError):
                one(subject)


@pytest.mark.parametrize("one", CHEAP, ids=lambda one: one.__name__)
@pytest.mark.parametrize("name", sorted(LARGE - GIANT))
def test_large_input_at_its_own_size(subject_of, name, one):
    """Where the other tests reduce the input, what costs no forward pass is checked at the card's own size."""
    one(subject_of(name))


def test_template_keeps_the_contract(template):
    """encoders/_template.py passes the checks as it stands but for its card, so whoever fills it in starts from something that works."""
    lines = {title: (verdict, remark) for verdict, title, remark in check.verdicts(template)}
    assert [title for title, (verdict, _) in lines.items() if verdict == "FAIL"] == ["card is complete"]
    assert "title, weights, how_to_get, pretrained_on, citation, notes: still what the template says" in lines["card is complete"][1]


@pytest.mark.parametrize("name", sorted(GIANT))
def test_giant_has_the_cards_parameters(name, monkeypatch):
    """The parameter count of a giant is the card's at its native side; counted without allocating it."""
    encoder = find(name)(Path("weights that are not read"))  # with weights the wrapper builds on the meta device
    monkeypatch.setattr(sys.modules[type(encoder).load.__module__], "load_strict", lambda *args, **options: None)
    encoder.load("meta")
    subject = Subject(name, type(encoder))
    subject.encoder = encoder
    contract.parameters_are_counted(subject)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(LARGE))
def test_fixed_image_at_large_input(name):
    """The features of the fixed image are the recorded ones also where the other tests reduce the input."""
    contract.fixed_image_has_its_features(Subject(name, find(name)))


def test_every_encoder_is_recorded():
    """encoders/golden.json has the features of every encoder and of nothing else."""
    assert sorted(json.loads(contract.GOLDEN.read_text())) == [name for name in names() if not find(name).card.needs]


def test_golden_features_notice_another_filter(template, tmp_path, monkeypatch):
    """A wrapper whose resize filter is swapped no longer gives the features that were recorded for it."""
    monkeypatch.setattr(contract, "GOLDEN", tmp_path / "golden.json")
    (tmp_path / "golden.json").write_text(json.dumps({"_template": contract.golden(template)}))
    assert "as recorded" in contract.fixed_image_has_its_features(template)
    card = dataclasses.replace(template.card, interpolation="lanczos")
    with pytest.raises(ContractError, match="the input of the fixed image changed"):
        contract.fixed_image_has_its_features(Subject("_template", type("Other", (template.encoder_class,), {"card": card})))


def test_template_is_no_encoder():
    """A file that begins with an underscore is not listed."""
    assert "_template" not in names()


def test_encoders_that_were_trained_on_labels_say_on_which():
    """Supervised encoders list the sets whose labels they saw, as their publications do; the others, by their publications, saw none."""
    ark = ("mimic_cxr", "chexpert", "nih_cxr14", "rsna", "vindr_cxr", "shenzhen")  # Ma et al., 2025: six public sets
    supervised = {"ark_plus": ark, "medimageinsight": ("mimic_cxr", "nih_cxr14", "chexpert"),
                  "torchxrayvision_densenet121": ("mimic_cxr",)}  # fmt: skip
    assert {name: card.labels_seen for name in names() if (card := describe(name, {})).labels_seen} == supervised
    xrv = {weights: describe("torchxrayvision_densenet121", {"options": {"trained_on": weights}}) for weights in ("nih", "all")}
    assert xrv["nih"].labels_seen == xrv["nih"].pretrained_on == ("nih_cxr14",)
    assert {"rsna", "nih_cxr14", "padchest", "chexpert", "mimic_cxr"} <= set(xrv["all"].labels_seen)


def test_readme_is_fresh():
    """The table of encoders/README.md is the one that the cards give."""
    check.readme(write=False)


@pytest.fixture(scope="module")
def template() -> Subject:
    return Subject("_template", importlib.import_module("encoders._template").Template)
