"""Entries of `encoders` in the configuration: names, rows of one wrapper, hub models without a file."""

import pytest
import yaml

from radbench.artifact import ROOT
from radbench.config import load
from radbench.encoder import describe, parse
from radbench.errors import ConfigError
from radbench.index import Spec, build_index
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
    assert plan.encoders == ["radjepa", "hf_facebook--dinov2-base", "timm_vit_tiny_patch16_224.augreg_in21k"]
    assert plan.card("hf_facebook--dinov2-base").weights == "hf:facebook/dinov2-base"
    assert "facebook/dinov2-base" in plan.weights_gap("hf_facebook--dinov2-base")
    name, spec = parse("timm:vit_tiny_patch16_224.augreg_in21k")
    assert describe(name, spec).title == plan.card(name).title


@pytest.mark.parametrize(("entry", "what"), [
    ({"rad_dino": {"options": {"pooling": "max"}}}, r"config.yaml:\d+: encoders.*option pooling; got 'max'; expected one of"),
    ({"rad_dino": {"options": {"poling": "cls"}}}, "did you mean 'pooling'"),
    ({"rad_dino": {"options": {"image_size": "224"}}}, "image_size; got '224'; expected int"),
    ({"rad_dino": {"options": {"image_size": 225}}}, "image_size; got 225; expected a multiple of its patches of 14: 224 or 238"),
    ({"rad_dino": {"options": {"image_size": -14}}}, "image_size; got -14; expected pixels, 1 or more"),
    ({"hf:o/m": {"options": {"field": 7}}}, r"field; got 7\.0; expected a share of the side"),
    ({"timm:test_vit2.r160_in1k": {"options": {"crop": 2}}}, r"crop; got 2\.0; expected a share of the side"),
    ({"chexzero": {"options": {"antialias": 1}}}, "antialias; got 1; expected bool"),
    ({"hf:o/m": {"options": {"trust_remote_code": "yes"}}}, r"encoders\.hf_o--m: option trust_remote_code; got 'yes'; expected bool"),
    ({"hf:o/m": {"options": {"ignore": [1]}}}, r"ignore; got \[1\]; expected a list of texts"),
    ({"hf:o/m": {"options": {"pretrained_on": ["MIMIC-CXR"]}}}, r"pretrained_on: no collection has this name.*did you mean 'mimic_cxr'"),
    ({"hf:o/m": {"options": {"pretrained_on": ["MIMIC-CXR v2.1.0"]}}}, "did you mean 'mimic_cxr'"),
    ({"hf:o/m": {"options": {"pretrained_on": ["padchst"]}}}, "got padchst; next: did you mean 'padchest'"),
    ({"hf:foo": {}}, "names no hub repository; got hf:foo; expected hf:<owner>/<name>"),
    ({"mine": {"wrapper": "rad_din"}}, "did you mean 'rad_dino'"),
])  # fmt: skip
def test_a_choice_that_does_not_exist_is_refused(entry, what):
    """A value that is no choice, a misspelt option, a text for a number and an unknown wrapper each say what would be right."""
    with pytest.raises(ConfigError, match=what):
        plan_of({"radjepa": {}} | entry)


def test_a_title_says_what_is_run_and_no_more():
    """Permissions and facts about a model are no other way to run it, so its title is the same; a whole number is one for a share, too."""
    facts = {"pretrained_on": ["our_archive"], "ignore": ["adapter"], "trust_remote_code": True, "field": 1}
    plan = plan_of({"radjepa": {}, "hf:o/m": {"options": facts}, "timm:test_vit2.r160_in1k": {"options": {"crop": 0.9}}})
    assert [plan.card(name).title for name in plan.encoders[1:]] == ["o/m", "test_vit2.r160_in1k (crop 0.9)"]
    assert plan.card("hf_o--m").pretrained_on == ("our_archive",) and type(plan.card("hf_o--m").field) is float


def test_who_has_seen_a_part_has_seen_some_of_the_whole():
    """The card of a row pretrained on a set that was taken from another one names both, so that both are marked."""
    plan = plan_of({"radjepa": {}, "hf:o/m": {"options": {"pretrained_on": ["siim_acr", "brax"]}}})
    assert plan.card("hf_o--m").pretrained_on == ("siim_acr", "nih_cxr14", "brax")


@pytest.mark.parametrize(("reader", "said", "sources"), [
    ("rsna", (), ["rsna", "nih_cxr14"]), ("rsna", ("rsna",), ["rsna", "nih_cxr14"]), ("vindr_ribcxr", (), ["vindr_ribcxr", "vindr_cxr"]),
    ("mimic_cxr", (), ["mimic_cxr"]), ("folder", ("siim_acr",), ["siim_acr", "nih_cxr14"]), ("folder", (), ["ours"]),
])  # fmt: skip
def test_images_come_from_all_collections_that_hold_them(tmp_path, reader, said, sources):
    """Whatever a configuration calls a copy, its index names the owner's collection and the one that it was taken from."""
    assert build_index("ours", Spec(reader=reader, sources=said), tmp_path).facts["sources"] == sources


@pytest.mark.parametrize(("datasets", "seen", "what"), [
    ({"mimic": {"root": "x"}}, [], r"datasets\.mimic: named like a published collection.*did you mean 'mimic_cxr'"),
    ({"ours": {"root": "x", "sources": ["ChestX-ray14"]}}, [], r"datasets\.ours\.sources: another name.*did you mean 'nih_cxr14'"),
    ({"ours": {"root": "x", "reader": "vindr_cxr"}}, ["ours"], "got ours; next: its images are of vindr_cxr: name these"),
    ({"ours": {"root": "x"}}, ["ours", "vindr_cxr", "another_archive"], ""),
    ({"mimic": {"root": "x", "sources": ["mimic_cxr"]}}, ["mimic_cxr"], ""),
])  # fmt: skip
def test_collections_have_one_name_each(datasets, seen, what):
    """What an encoder has seen and where images come from is written in the same names, or an overlap would go unmarked; own names pass."""
    values = DEFAULT | {"datasets": DEFAULT["datasets"] | datasets,
                        "encoders": {"radjepa": {}, "hf:o/m": {"options": {"pretrained_on": seen}}}}  # fmt: skip
    if what:
        with pytest.raises(ConfigError, match=what):
            load(values, "config/config.yaml")
    else:
        assert "hf_o--m" in load(values, "config/config.yaml").encoders


def test_two_rows_of_one_hub_model_need_two_ids():
    """A model that is listed twice is refused, where the second would have replaced the first, and the advice makes two rows of it."""
    rows = ["radjepa", {"hf:facebook/dinov2-base": {}}, {"hf:facebook/dinov2-base": {"options": {"pooling": "mean"}}}]
    with pytest.raises(
        ConfigError, match=r"config.yaml:\d+: encoders: one id for two rows.*got hf_facebook--dinov2-base.*next: "
    ) as caught:
        plan_of(rows)
    advice = yaml.safe_load(str(caught.value).partition("`")[2].rstrip("`"))
    plan = plan_of([*rows[:2], *advice])
    assert [plan.card(name).title for name in plan.encoders[1:]] == ["facebook/dinov2-base", "facebook/dinov2-base (pooling mean)"]
    with pytest.raises(ConfigError, match="one id for two rows"):
        plan_of(["radjepa", "rad_dino", {"rad_dino": {"options": {"pooling": "mean"}}}])


def test_no_two_hub_models_share_an_id():
    """Owner and name of a repository can be read off the id, so that no two repositories share a folder of results."""
    assert plan_of(["radjepa", "hf:a/b_c", "hf:a_b/c"]).encoders == ["radjepa", "hf_a--b_c", "hf_a_b--c"]


def test_a_revision_of_the_configuration_takes_the_place_of_the_cards():
    """`revision` changes the commit of the card, the title and what to download, and drops a digest that is another file's."""
    plan = plan_of(["radjepa", {"biomedclip": {"revision": "06889418e18d0e9fd5de56a7d6c32cdd84b61264"}}])
    card = plan.card("biomedclip")
    assert (card.revision, card.digest) == ("06889418e18d0e9fd5de56a7d6c32cdd84b61264", "") and "revision 06889418e18d" in card.title
    assert "--revision 06889418e18d0e9fd5de56a7d6c32cdd84b61264" in plan.weights_gap("biomedclip")


@pytest.mark.parametrize(("entry", "what"), [
    ({"chexzero": {"revision": "main"}}, "a revision of weights that are not on the hub; got file:"),
    ({"rad_dino": {"revision": "v1", "weights": "."}}, "both `weights` and `revision`"),
    ({"rad_dino": {"revision": "../../etc"}}, "encoders.rad_dino.revision"),
])  # fmt: skip
def test_a_revision_that_means_nothing_is_refused(entry, what):
    """A revision of a file that is on no hub, beside a local path, or that is no name of one, says what to do instead."""
    with pytest.raises(ConfigError, match=what):
        plan_of({"radjepa": {}} | entry)


FOLDER = yaml.safe_load((ROOT / "config" / "folder.yaml").read_text())


@pytest.mark.parametrize("made", [False, True])
def test_a_root_that_is_no_folder_is_refused(tmp_path, made):
    """A misspelt ROOT, or a file, is an error when the configuration is read, and not a run without any data."""
    if made:
        (tmp_path / "images.zip").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"folder.yaml:\d+: root: no such folder; got .*images.zip"):
        load(FOLDER | {"root": str(tmp_path / "images.zip")}, "config/folder.yaml")


def test_a_root_of_a_command_line_is_there():
    """The owners' releases may lie nowhere below the root that the file names; another root, named when it is run, has to be a folder."""
    paper = yaml.safe_load((ROOT / "config" / "paper.yaml").read_text())
    load(paper, ROOT / "config" / "paper.yaml")
    with pytest.raises(ConfigError, match=r"paper.yaml:\d+: root: no such folder; got /no/such"):
        load(paper | {"root": "/no/such"}, ROOT / "config" / "paper.yaml")


def test_the_home_folder_may_be_written_short(tmp_path, monkeypatch):
    """`~` in a root is the home folder for whoever reads it: labels, stages and gaps."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "metadata.csv").write_text("image,subject_id,Cardiomegaly\na.png,1,1\n")
    config = load(FOLDER | {"root": "~/mine"}, "config/folder.yaml")
    assert [list(run.labels) for run in config.tasks.linear_probe.runs] == [["Cardiomegaly"]]
    assert {dataset.root for dataset in config.datasets.values() if dataset.reader == "folder"} == {str(tmp_path / "mine")}


def test_a_folder_without_a_known_finding_says_that_nothing_is_probed(tmp_path, capsys):
    """Where no column is called as a finding, the line says which file was read and what to do."""
    (tmp_path / "metadata.csv").write_text("image,subject_id,finding A\na.png,1,1\n")
    config = load(FOLDER | {"root": str(tmp_path)}, "config/folder.yaml")
    assert all(not run.labels for run in config.tasks.linear_probe.runs)
    assert "no column of" in (said := capsys.readouterr().err) and "nothing is probed; next: name the label columns" in said


def test_a_row_that_is_followed_by_a_word_is_named():
    """`- rad_dino: cls` is an error that shows how options are written."""
    with pytest.raises(ConfigError, match=r"rad_dino is not followed by an entry; got 'cls'.*options:"):
        plan_of(["radjepa", {"rad_dino": "cls"}])


def test_a_mean_of_labels_that_no_probe_has_is_refused():
    """Every set of statistics.aggregates is whole in some probe; a misspelt label is an error when the file is read, not hours later."""
    statistics = DEFAULT["statistics"]
    labels = DEFAULT["tasks"]["linear_probe"]["runs"][0]["labels"]
    names = list(labels)[:2]
    load(DEFAULT | {"statistics": statistics | {"aggregates": [names]}}, "config/config.yaml")
    with pytest.raises(ConfigError, match="no probe has all of these labels.*Opasity"):
        load(DEFAULT | {"statistics": statistics | {"aggregates": [[names[0], "Lung Opasity"]]}}, "config/config.yaml")
