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
    "mimic_cxr_dicom": ("3bf8994a47c93d5b", "dd388046be739c37", "77841cb9ae228fd3"),
    "nih_cxr14": ("78e4ecf8ac81fe4e", "19faf8a9c1661c0a", "4b25c29d294b199c"),
    "nih_cxr14_2020": ("78e4ecf8ac81fe4e", "19faf8a9c1661c0a", "4b25c29d294b199c"),
    "padchest": ("706a6f56f70a6712", "dc5270e2f53366c6", "878c827ee0a5609e"),
    "brax": ("d247773ab98abf4d", "9ccffeeb9abe97d5", "de2b0bd531701ddb"),
    "brax_dicom": ("fc24a03768a1f2cf", "9ccffeeb9abe97d5", "de2b0bd531701ddb"),
    "vindr_cxr": ("eb70d11544d574ec", "7d36361db2228430", "1902d1d8dcae1f4a"),
    "rsna": ("b4b999b51727a555", "ddc1415982cb9acd", "e0971b1febdf8bb3"),
    "rsna_unmapped": ("596601fab5703eff", "c79c3b73fc908ba9", "82eefd2e93a6f7ad"),
    "iu_xray": ("fca645afda937c32", "0be27516d117a284", "efe2ab135622940b"),
    "iu_xray_nlm": ("0df3a2352dddb37d", "0be27516d117a284", "efe2ab135622940b"),
    "mimic_segmentation": ("d26a2bcc33cc9581", "dd388046be739c37", "77841cb9ae228fd3"),
    "vindr_ribcxr": ("cc2f3a3c2be71ad2", "c6bac063c41cb201", "904d9bb94d63fe0a"),
    "candid_ptx": ("e3612b4e438e1cac", "39f84253611dee8d", "d25ed40a06b2c9ec"),
    "chestx_det": ("829cbd486fff7e4c", "86d8a6dc901bcd08", "c3e38f92b534be21"),
    "jsrt": ("49dfee320f4a748a", "e42b29980aea6586", "b1d28a859b16d721"),
    "montgomery": ("36a926375778090b", "9d4cb720bed18934", "d2a380700d4a4226"),
    "shenzhen": ("081a2397009359a0", "6fb72bc0fc1bdf19", "82d91082b721ceba"),
    "siim_acr": ("043c941d81073cd7", "f86b95a5e53172ab", "8a4260f784f3cf01"),
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
