"""Splits go by patient, keep the mix of findings, and can be taken over from another group's lists."""

import shutil

import numpy as np
import pandas as pd
import pytest
import yaml

from radbench import splits
from radbench.config import load
from radbench.errors import ConfigError, DataError
from radbench.index import Spec, build_index
from radbench.store import Index


def patients(count: int, positives: dict[str, int]) -> pd.DataFrame:
    """One image per patient; the first `positives[label]` of a shuffled order have a finding."""
    table = pd.DataFrame({"patient_id": [f"p{number:06}" for number in range(count)], "split": ""})
    for seed, (label, number) in enumerate(positives.items()):
        values = np.zeros(count, dtype=np.float32)
        values[np.random.default_rng(seed).permutation(count)[:number]] = 1
        table[f"labels.{label}"] = values
    return table


@pytest.mark.parametrize("count", [10, 11, 97, 1138, 26_684])
@pytest.mark.parametrize("shares", [{"train": 0.7, "val": 0.1, "test": 0.2}, {"train": 0.6, "val": 0.2, "test": 0.2}])
def test_splits_have_their_shares(count, shares):
    """Each split has its share of the patients, to less than one patient."""
    found = pd.Series(splits.assign(patients(count, {"Mass": count // 9}), 0, shares)[0]).value_counts()
    assert all(abs(found[name] - share * count) < 1 for name, share in shares.items())


def test_rsna_has_the_papers_test_size():
    """60/20/20 of RSNA's 26,684 images, each a patient, gives the paper's 5,337 test images."""
    assert splits.assign(patients(26_684, {"Pneumonia": 6012}), 0, {"train": 0.6, "val": 0.2, "test": 0.2})[0].count("test") == 5337


@pytest.mark.parametrize("seed", range(5))
def test_every_split_and_fold_has_its_share_of_a_rare_finding(seed):
    """Of 40 patients with a finding among 2,000, splits get 28, 4 and 8 and each fold 6 or 7, give or take one."""
    table = patients(2000, {"Hernia": 40, "Effusion": 400})
    split, fold = (np.array(part) for part in splits.assign(table, seed))
    rare = table["labels.Hernia"].to_numpy() == 1
    for name, share in splits.SHARES.items():
        assert abs((rare & (split == name)).sum() - 40 * share) <= 1
    counts = np.bincount(fold[rare & (split != "test")], minlength=5)
    assert abs(counts - 32 / 5).max() <= 1.6


@pytest.mark.parametrize(("change", "share"), [("a patient less", 0.002), ("another finding", 0.02)])
def test_a_change_elsewhere_moves_few_patients(change, share):
    """Of 5,000 patients, one that goes moves fewer than 10 others to another split or fold; another finding, of a third of them, 100."""
    table = patients(5000, {"Hernia": 40, "Effusion": 1500})
    other = table.drop(index=17) if change == "a patient less" else table.assign(**{"labels.Mass": np.arange(5000) % 3 == 0})
    before, after = (pd.DataFrame(dict(zip(("split", "fold"), splits.assign(part, 0), strict=True)), index=part["patient_id"])
                     for part in (table, other))  # fmt: skip
    moved = (before.loc[after.index] != after).mean()
    assert (moved < share).all()


def test_val_is_carved_out_of_the_owners_train():
    """An owner's test stays as it is; a tenth of the training patients, and of a rare finding among them, becomes val."""
    table = patients(500, {"Hernia": 100})
    table["split"] = np.where(np.arange(500) < 400, "train", "test")
    split = np.array(splits.assign(table, 0)[0])
    assert (split[400:] == "test").all() and (split[:400] == "val").sum() == 40
    rare = table["labels.Hernia"].to_numpy() == 1
    assert abs(((split == "val") & rare).sum() - 0.1 * (rare[:400].sum())) <= 1


def test_another_groups_lists_are_taken_over(phantom_folder, tmp_path):
    """An index under another's lists has their splits; what lies on one side only is named, and is in no split."""
    build_index("theirs", Spec("folder", root=str(phantom_folder), seed=5), tmp_path / "results")
    theirs = Index(tmp_path / "results" / "index" / "theirs")
    lists = shutil.copytree(theirs.meta.payload / "splits", tmp_path / "lists")
    train = (lists / "train.txt").read_text().splitlines()
    (lists / "train.txt").write_text("\n".join(["never-seen", *train[1:]]) + "\n")
    meta = build_index("ours", Spec("folder", root=str(phantom_folder), seed=6, split_lists=str(lists)), tmp_path / "results")
    ours = Index(tmp_path / "results" / "index" / "ours")
    expected = dict(zip(theirs["image_id"], theirs["split"], strict=True))
    assert expected.pop(train[0]) == "train"
    assert dict(zip(ours["image_id"], ours["split"], strict=True)) == expected
    left_out = pd.read_csv(ours.meta.file("left_out.csv"), keep_default_na=False)
    assert left_out.to_numpy().tolist() == [[train[0], "", "in none of the split lists"],
                                            ["never-seen", "train", "in a split list, not in this copy"]]  # fmt: skip
    assert meta.facts["left_out"] == 2 and meta.facts["release"]["images"] == len(theirs)


def test_lists_that_contradict_each_other_are_refused(tmp_path):
    """An id in two lists is an error that names file and line; so is a folder without test.txt."""
    (tmp_path / "train.txt").write_text("a\nb\n")
    with pytest.raises(DataError, match=r"test\.txt.*missing"):
        splits.read(tmp_path)
    (tmp_path / "test.txt").write_text("c\nb\n")
    with pytest.raises(DataError, match=r"test\.txt:2.*b is also in train\.txt"):
        splits.read(tmp_path)


def test_patients_of_lists_stay_together(phantom_folder, tmp_path):
    """Lists that put two images of one patient into two splits are refused, with the patient."""
    build_index("d", Spec("folder", root=str(phantom_folder)), tmp_path / "results")
    index = Index(tmp_path / "results" / "index" / "d")
    owners, counts = np.unique(index["patient_id"], return_counts=True)
    patient = owners[counts > 1][0]
    first = index["image_id"][index["patient_id"] == patient][0]
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "train.txt").write_text("".join(f"{name}\n" for name in index["image_id"] if name != first))
    (tmp_path / "lists" / "test.txt").write_text(f"{first}\n")
    with pytest.raises(DataError, match=f"{patient.split(':')[1]} in test and train"):
        build_index("e", Spec("folder", root=str(phantom_folder), split_lists=str(tmp_path / "lists")), tmp_path / "results")


def test_shares_must_divide_the_patients(tmp_path):
    """Shares that do not add up to one are refused when the configuration is read, with the line."""
    path = tmp_path / "config.yaml"
    path.write_text("title: T\ndatasets:\n  d:\n    reader: folder\n    shares: {train: 0.5, val: 0.1, test: 0.1}\nencoders: [raw_pixels]\n"
                    "statistics: {reference: raw_pixels}\n")  # fmt: skip
    with pytest.raises(ConfigError, match=r"config\.yaml:5: datasets\.d\.shares"):
        load(yaml.safe_load(path.read_text()), path)


def test_lists_of_other_editors_are_read(tmp_path):
    """A byte order mark is no part of the first id; a list that is no UTF-8 is an error that says how to save it."""
    (tmp_path / "train.txt").write_bytes("\ufeffa\r\nb\r\n".encode())
    (tmp_path / "test.txt").write_text("c\n")
    assert splits.read(tmp_path) == {"a": "train", "b": "train", "c": "test"}
    (tmp_path / "test.txt").write_bytes("c\n".encode("utf-16"))
    with pytest.raises(DataError, match=r"test\.txt: not text in UTF-8.*save it again as UTF-8"):
        splits.read(tmp_path)
