"""The id lists of our own splits, published with their hashes: they stay what they were, and are what the documentation says."""

import functools
import hashlib
from collections import Counter

import pandas as pd
import pytest

from radbench import datasets
from radbench.datasets import fixtures
from radbench.index import Spec, build_index
from radbench.store import Index

#: first 16 digits of the sha256 of train.txt, val.txt and test.txt of the copies that `python -m radbench.datasets.fixtures` writes, with
#: the reader's own options and seed 0. A line that changes means other images in train and test for everyone who runs this data set:
#: say so in the changelog. (Or the copy has changed: then the ids themselves have.)
PINNED: dict[str, tuple[str, str, str]] = {
    "mimic_cxr_dicom": ("4506f45ab954786a", "49b64b0195b8d1d6", "4cf9275eb1f9dba4"),
    "nih_cxr14": ("ba59873913053555", "ee2d14592f20e415", "4b25c29d294b199c"),
    "nih_cxr14_2020": ("ba59873913053555", "ee2d14592f20e415", "4b25c29d294b199c"),
    "padchest": ("44d366e90bb6cc6d", "71a0a7edde63e2ec", "58766aa8651c3297"),
    "brax": ("276b412887cc8d98", "49c243c55f913ce8", "47dc7ee994daedf7"),
    "brax_dicom": ("22511219c99edc58", "e110f62c1fa1606e", "55303b8a3489c292"),
    "vindr_cxr": ("3ad05cb10d4703e7", "270f3722ab19b6fe", "1902d1d8dcae1f4a"),
    "rsna": ("db3bc2dabca9e40e", "7335ed677524e863", "6dfb408fe323c5ec"),
    "rsna_unmapped": ("7275121f04ba9cf4", "cfefd21523f97461", "029bb71ca72f3f25"),
    "iu_xray": ("a5ef0c012f9a2fda", "665b8326df6598ee", "3b783c75f5f4ef12"),
    "iu_xray_nlm": ("b2981b9ea6cfd3c5", "665b8326df6598ee", "3b783c75f5f4ef12"),
    "mimic_segmentation": ("c3e0be5d6115f76c", "87881902910c637a", "284501d7b86569e5"),
    "vindr_ribcxr": ("1b9c845a7aae7b16", "804b5ebf3e240588", "904d9bb94d63fe0a"),
    "candid_ptx": ("fcb0b5fdb36d94d1", "e1fc904dfa69ef82", "921c8f8cd382116d"),
    "chestx_det": ("82a0a2ccf66cb44a", "8b66abb5af44be36", "c3e38f92b534be21"),
    "jsrt": ("df8a157625806d1f", "85a7d9c67b1e067a", "350f94e8f6ff466d"),
    "montgomery": ("b71ab345c45fbd9f", "df55adb291e95a9a", "e5d95f74b9521d4a"),
    "shenzhen": ("55ecd4db8df0b47c", "c19e6931cfeec8ec", "87781340d405b040"),
    "siim_acr": ("dde2ddad5f9d527f", "49b7b1525f043893", "b6caf35793fed4ca"),
}
SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}
VAL_IN_TRAIN = 0.1


def reader_of(copy: str) -> str:
    return max((name for name in datasets.READERS if copy.startswith(name)), key=len)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """`published(copy)`: the index of a copy, and the splits that its owner gives."""

    @functools.cache
    def build(copy: str) -> tuple[Index, set[str]]:
        folder, name = tmp_path_factory.mktemp("lists"), reader_of(copy)
        root = fixtures.write(copy, folder / copy, seed=fixtures.own_seed(copy))
        build_index("d", Spec(reader=name, root=str(root)), folder / "results")
        records, options = datasets.reader(name)
        return Index(folder / "results" / "index" / "d"), {record.split for record in records(root, options())}

    return build


def lists(index: Index) -> dict[str, list[str]]:
    return {split: (index.meta.payload / "splits" / f"{split}.txt").read_text().splitlines() for split in SHARES}


def test_every_split_of_ours_is_pinned(written):
    """Each copy whose owner gives no split, or none of val, has a pinned line."""
    ours = set()
    for copy in fixtures.WRITERS:
        records, options = datasets.reader(reader_of(copy))
        if {record.split for record in records(written(copy), options())} in ({""}, {"train", "test"}):
            ours.add(copy)
    assert ours == set(PINNED)


@pytest.mark.parametrize("copy", PINNED)
def test_published_lists_stay_what_they_were(published, copy):
    """The lists of a copy have the pinned hashes."""
    index, _ = published(copy)
    found = tuple(index.meta.facts["splits"][split]["sha256"][:16] for split in SHARES)
    assert found == PINNED[copy]


@pytest.mark.parametrize("copy", PINNED)
def test_hashes_are_those_of_sorted_ids(published, copy):
    """The published hash is the sha256 of the sorted image ids of the split in the index, one per line, each with a line feed."""
    index, _ = published(copy)
    table = pd.read_parquet(index.meta.file("index.parquet"), columns=["image_id", "split"])
    for split in SHARES:
        digest = hashlib.sha256()
        for name in sorted(table["image_id"][table["split"] == split]):
            digest.update(name.encode() + b"\n")
        assert index.meta.facts["splits"][split]["sha256"] == digest.hexdigest()


@pytest.mark.parametrize("copy", PINNED)
def test_lists_cover_every_image_once_and_part_no_patient(published, copy):
    """Each indexed image is in one list, once; no patient is in two; the lists have our shares of the patients."""
    index, given = published(copy)
    found = lists(index)
    assert Counter(name for names in found.values() for name in names) == Counter(index["image_id"])
    owner = dict(zip(index["image_id"], index["patient_id"], strict=True))
    patients = {split: {owner[name] for name in names} for split, names in found.items()}
    assert sum(map(len, patients.values())) == len(set(owner.values()))
    for split, count in {split: len(names) for split, names in patients.items()}.items():
        if given == {""}:
            assert abs(count - SHARES[split] * len(set(owner.values()))) < 1
        elif split == "val":
            assert abs(count - VAL_IN_TRAIN * len(patients["train"] | patients["val"])) < 1
