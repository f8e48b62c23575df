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
    "mimic_cxr_dicom": ("7d1833bff4425258", "fb101596ff889288", "4d5dc3f83eef99b9"),
    "nih_cxr14": ("78e4ecf8ac81fe4e", "19faf8a9c1661c0a", "4b25c29d294b199c"),
    "nih_cxr14_2020": ("78e4ecf8ac81fe4e", "19faf8a9c1661c0a", "4b25c29d294b199c"),
    "padchest": ("a12e2c6f947fea02", "992f5f67aa6e6860", "84b8627b31cce77e"),
    "brax": ("479a7169fecd81ca", "73e6db2e9635e110", "9466b0032218b2a4"),
    "brax_dicom": ("0c1b348e74b15d3b", "73e6db2e9635e110", "9466b0032218b2a4"),
    "vindr_cxr": ("0999c68ae9a07190", "97f50b1425aa8862", "1902d1d8dcae1f4a"),
    "rsna": ("588d109bad7aea2a", "1c11638188a163e8", "21e5b55c112396e4"),
    "rsna_unmapped": ("bba69b25d3098e2d", "c00284b422a2c1c5", "9d34279655a2b71f"),
    "iu_xray": ("5c3301bbc74e18a5", "29d9fe3afbb1495b", "b670e4d5b9e4e397"),
    "iu_xray_nlm": ("d0919f54816b4282", "29d9fe3afbb1495b", "b670e4d5b9e4e397"),
    "mimic_segmentation": ("d0abdfe09ba7d00e", "fb101596ff889288", "8de436fdc4bcab99"),
    "vindr_ribcxr": ("7ca0269ca7d3a3a5", "baf0c876ebf136ee", "904d9bb94d63fe0a"),
    "candid_ptx": ("b56692dfc9fddc8f", "3278db1e86a105ea", "70e890ee4c971318"),
    "chestx_det": ("bd0b9f0f89f565df", "428acd5ebce62e05", "c3e38f92b534be21"),
    "jsrt": ("db00ecc1a4d9d367", "e42b29980aea6586", "350f94e8f6ff466d"),
    "montgomery": ("6cb4240c9c7d17cc", "2903ba7a01364820", "1bafd26399f17ed3"),
    "shenzhen": ("8cdb62cf67333d79", "2af71a0c898c9c60", "881893c1391034d8"),
    "siim_acr": ("f4dfd2432d8df269", "550c7360ea0ccf08", "8d76d5082f04e091"),
}
SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}
VAL_IN_TRAIN = 0.1


def reader_of(copy: str) -> str:
    return max((name for name in datasets.READERS if copy.startswith(name)), key=len)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """`published(copy)`: the index of a copy, the splits that its owner gives, and the patients whose images it lists."""

    @functools.cache
    def build(copy: str) -> tuple[Index, set[str], set[str]]:
        folder, name = tmp_path_factory.mktemp("lists"), reader_of(copy)
        root = fixtures.write(copy, folder / copy, seed=fixtures.own_seed(copy))
        build_index("d", Spec(reader=name, root=str(root)), folder / "results")
        records, options = datasets.reader(name)
        wanted = [record for record in records(root, options()) if not record.left_out]
        patients = {record.patient_id or record.image_id for record in wanted}
        return Index(folder / "results" / "index" / "d"), {record.split for record in wanted}, patients

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
    index, *_ = published(copy)
    found = tuple(index.meta.facts["splits"][split]["sha256"][:16] for split in SHARES)
    assert found == PINNED[copy]


@pytest.mark.parametrize("copy", PINNED)
def test_hashes_are_those_of_sorted_ids(published, copy):
    """The published hash is the sha256 of the sorted image ids of the split in the index, one per line, each with a line feed."""
    index, *_ = published(copy)
    table = pd.read_parquet(index.meta.file("index.parquet"), columns=["image_id", "split"])
    for split in SHARES:
        digest = hashlib.sha256()
        for name in sorted(table["image_id"][table["split"] == split]):
            digest.update(name.encode() + b"\n")
        assert index.meta.facts["splits"][split]["sha256"] == digest.hexdigest()


@pytest.mark.parametrize("copy", PINNED)
def test_lists_cover_every_image_once_and_part_no_patient(published, copy):
    """Each indexed image is in one list, once; no patient in two; the lists have our shares of the listed patients, less broken ones."""
    index, given, listed = published(copy)
    found = lists(index)
    assert Counter(name for names in found.values() for name in names) == Counter(index["image_id"])
    owner = dict(zip(index["image_id"], index["patient_id"], strict=True))
    patients = {split: {owner[name] for name in names} for split, names in found.items()}
    assert sum(map(len, patients.values())) == len(set(owner.values()))
    lost = len(listed) - len(set(owner.values()))
    for split, count in {split: len(names) for split, names in patients.items()}.items():
        if given == {""}:
            assert abs(count - SHARES[split] * len(listed)) < 1 + lost
        elif split == "val":
            assert abs(count - VAL_IN_TRAIN * len(patients["train"] | patients["val"])) < 1 + lost
