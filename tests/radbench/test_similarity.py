"""Copies of a picture are found, different radiographs are not taken for copies, and no pair is missed."""

import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.stats import spearmanr

from radbench import overlap as stage
from radbench.datasets import fixtures, phantom
from radbench.image import decode, resize
from radbench.index import Spec, build_index
from radbench.overlap import _counts, overlap
from radbench.similarity import NEAR, SAME, correlation, dhash, distance, fingerprint, near_pairs, unpack
from radbench.store import Index


def copies(pixels: np.ndarray) -> list[np.ndarray]:
    """Scaled, compressed, given another gamma."""
    eight = (pixels >> 8).astype(np.uint8) if pixels.dtype == np.uint16 else pixels
    rows, cols = eight.shape
    out = []
    for scale, quality in ((0.5, 80), (0.8, 30), (0.25, 60) if min(rows, cols) > 600 else (0.6, 60)):
        buffer = io.BytesIO()
        Image.fromarray(eight).resize((round(cols * scale), round(rows * scale)), Image.Resampling.BICUBIC).save(
            buffer, "JPEG", quality=quality
        )
        out.append((255 * (np.asarray(Image.open(buffer)) / 255.0) ** 1.3).astype(np.uint8))
    return out


def pictures() -> list[np.ndarray]:
    """150 real radiographs from $RADBENCH_REAL_DATA, or 60 phantoms."""
    if root := os.environ.get("RADBENCH_REAL_DATA"):
        files = sorted(Path(root, "images").iterdir())
        return [decode(file).pixels for file in files[:: len(files) // 150]]
    found = []
    for number in range(60):
        _, facts = next(phantom.image_facts(phantom.draw_patient(number, 0, {"A": 1.0})))
        found.append(np.round(np.asarray(phantom.render(facts, 300, masks=False)[0]) * 255).astype(np.uint8))
    return found


def test_copies_are_close_and_correlate():
    """A picture that was scaled, compressed and given another gamma stays within the limits of a copy."""
    for pixels in pictures()[::5]:
        for copy in copies(pixels):
            bits = distance(unpack([dhash(pixels).hex()]), unpack([dhash(copy).hex()]))[0]
            assert bits <= NEAR and correlation(fingerprint(pixels)[None], fingerprint(copy)[None])[0] >= SAME


def test_different_radiographs_are_no_copies():
    """Of all pairs of different radiographs none passes both steps."""
    found = pictures()
    hashes = unpack([dhash(pixels).hex() for pixels in found])
    rows, cols, _ = near_pairs(hashes).T
    prints = np.stack([fingerprint(pixels) for pixels in found])
    assert (correlation(prints[rows], prints[cols]) < SAME).all()


def test_the_correlation_is_scipys():
    """The correlation of fingerprints is Spearman's of the 64 x 64 reductions, to 1e-6, with ties, and 0 for a picture without contrast."""
    one, two = pictures()[:2]
    small = [resize(pixels, 64, 64, "box").ravel() for pixels in (one, two)]
    found = correlation(np.stack([fingerprint(one), fingerprint(one // 32)]), np.stack([fingerprint(two)] * 2))
    wanted = [spearmanr(*small).statistic, spearmanr(resize(one // 32, 64, 64, "box").ravel(), small[1]).statistic]
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert correlation(fingerprint(np.zeros((70, 80), dtype=np.uint8))[None], fingerprint(two)[None])[0] == 0


def test_a_killed_audit_goes_on(two_sets, monkeypatch):
    """After a kill between two pairs of data sets the next run makes no pair again, and ends with the same table and no scratch files."""
    whole, real = overlap(["one", "other"], two_sets).file("overlap.csv").read_bytes(), stage.compare
    shutil.rmtree(two_sets / "overlap")
    done = []

    def compare(*arguments):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(1)
        return real(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(stage, "compare", compare)
        overlap(["one", "other"], two_sets)
    monkeypatch.setattr(stage, "compare", lambda *arguments: done.append(1) or real(*arguments))
    meta = overlap(["one", "other"], two_sets)
    assert len(done) == 3 and meta.file("overlap.csv").read_bytes() == whole
    assert sorted(path.name for path in meta.payload.iterdir()) == ["meta.json", "overlap.csv", "pairs.parquet"]


@pytest.mark.parametrize("workers", [1, 3])
def test_no_near_pair_is_missed(workers):
    """Exactly the pairs are found that a loop over all finds, within one set and between two, by any number of threads."""
    random = np.random.default_rng(0)
    one = random.integers(0, 256, (300, 32)).astype(np.uint8)
    other = one[random.integers(0, 300, 200)].copy()
    for row in other:  # up to 40 flipped bits
        places = random.choice(256, random.integers(0, 40), replace=False)
        row ^= np.packbits(np.isin(np.arange(256), places))
    everything = {(i, j) for i in range(300) for j in range(200) if distance(one[i : i + 1], other[j : j + 1])[0] <= NEAR}
    found = near_pairs(one, other, workers=workers).tolist()
    assert {(i, j) for i, j, _ in found} == everything and len(found) == len(everything) > 80 and found == sorted(found)
    assert all(distance(one[i : i + 1], other[j : j + 1])[0] == bits for i, j, bits in found)
    both = np.concatenate([one, other])
    assert {(i, j - 300) for i, j, _ in near_pairs(both, workers=workers).tolist() if i < 300 <= j} == everything


@pytest.fixture
def two_sets(phantom_folder, tmp_path):
    """An index, and another of which three images are copies from it, one of them exact."""
    shutil.copytree(phantom_folder, tmp_path / "other")
    table = pd.read_csv(tmp_path / "other" / "metadata.csv", dtype=str, keep_default_na=False)
    random = np.random.default_rng(1)
    for number, name in enumerate(table["image"]):
        file = tmp_path / "other" / "images" / name
        pixels = decode(file).pixels
        if number == 0:
            continue
        if number in (1, 2):
            Image.fromarray(copies(pixels)[number]).save(file.with_suffix(".png"))
        else:  # another picture
            noise = Image.fromarray(random.random((20, 16)).astype(np.float32)).resize(pixels.shape[::-1], Image.Resampling.BICUBIC)
            Image.fromarray((np.asarray(noise).clip(0, 1) * 255).astype(np.uint8)).save(file.with_suffix(".png"))
    for name, root in (("one", phantom_folder), ("other", tmp_path / "other")):
        spec = Spec("folder", root=str(root), options={} if name == "one" else {})
        build_index(name, spec, tmp_path / "results")
    return tmp_path / "results"


def test_overlap_between_two_sets_is_counted_and_named(two_sets):
    """One exact copy and two others are found between the sets; the counts have no id in them, the pairs do."""
    meta = overlap(["one", "other"], two_sets)
    counts = pd.read_csv(meta.file("overlap.csv"))
    between = counts[(counts.dataset == "one") & (counts.other == "other")].iloc[0]
    assert (between.exact, between.near) == (1, 2)
    of_pair = (pairs := pd.read_parquet(meta.file("pairs.parquet")))[pairs.other == "other"]
    in_test = [of_pair.image_id[of_pair.split == "test"].nunique(), of_pair.other_image_id[of_pair.other_split == "test"].nunique()]
    assert [between.test_copies, between.other_test_copies] == in_test
    within = counts[counts.dataset == counts.other]
    assert set(zip(within.split, within.other_split, strict=True)) == {("train", "val"), ("train", "test"), ("val", "test")}
    assert (within.same_patient_id == 0).all() and meta.facts["absent"] == {}
    assert (pairs.image_id == pairs.other_image_id).all() and len(pairs[pairs.other == "other"]) >= 3
    text = meta.file("overlap.csv").read_text()
    assert not any(str(name) in text for name in pairs.image_id)


def test_copies_in_the_test_split_are_counted_for_each_side():
    """A test image counts once however often and by whatever way it was found, and images of other splits do not count."""
    found = pd.DataFrame([("a", "test", "x", "train", "id"), ("a", "test", "x", "train", "near"), ("a", "test", "y", "test", "near"),
                          ("b", "train", "z", "test", "exact")],
                         columns=["image_id", "split", "other_image_id", "other_split", "kind"])  # fmt: skip
    (row,) = _counts("one", "other", [0] * 5, [0] * 6, found)
    assert (row["test_copies"], row["other_test_copies"], row["by_id"], row["near"]) == (1, 2, 1, 1)


def test_an_absent_set_does_not_stop_the_audit(two_sets, tmp_path):
    """With one data set absent the others are compared and the absent one is named with its reason; with all absent the table is empty."""
    build_index("gone", Spec("rsna", root=str(tmp_path / "nowhere"), how_to_get="ask"), two_sets)
    meta = overlap(["one", "gone", "other"], two_sets)
    assert not meta.absent and list(meta.facts["absent"]) == ["gone"] and "ask" in meta.facts["absent"]["gone"]
    alone = overlap(["one", "other"], two_sets)
    meta = overlap(["one", "gone", "other"], two_sets)
    assert meta.file("overlap.csv").read_bytes() == alone.file("overlap.csv").read_bytes() and meta.fields["key"] != alone.fields["key"]
    assert len(pd.read_csv(overlap(["gone"], two_sets).file("overlap.csv"))) == 0


def test_owners_ids_are_overlap_without_a_look_at_the_pictures(tmp_path):
    """RSNA's mapping names its pictures in ChestX-ray14: they are counted by id though the two copies hold other pixels."""
    for name, seed in (("rsna", 1), ("nih_cxr14", 2)):
        fixtures.write(name, tmp_path / name, seed=seed)
    file = tmp_path / "rsna" / "pneumonia-challenge-dataset-mappings_2018.json"
    names = pd.read_csv(tmp_path / "nih_cxr14" / "Data_Entry_2017.csv")["Image Index"]
    file.write_text(json.dumps([row | {"img_id": name} for row, name in zip(json.loads(file.read_text()), [*names, *names], strict=False)]))
    for name in ("rsna", "nih_cxr14"):
        build_index(name, Spec(name, root=str(tmp_path / name)), tmp_path / "results")
    rsna, nih = (Index(tmp_path / "results" / "index" / name) for name in ("rsna", "nih_cxr14"))
    mapping = json.loads(file.read_text())
    here, there = set(rsna["image_id"]), set(nih["image_id"])
    wanted = {(row["subset_img_id"], row["img_id"].removesuffix(".png")) for row in mapping}
    wanted = {pair for pair in wanted if pair[0] in here and pair[1] in there}
    meta = overlap(["rsna", "nih_cxr14"], tmp_path / "results")
    pairs = pd.read_parquet(meta.file("pairs.parquet"))
    pairs = pairs[(pairs["kind"] == "id") & (pairs["other"] == "nih_cxr14")]
    assert wanted and set(zip(pairs["image_id"], pairs["other_image_id"], strict=True)) == wanted
    counts = pd.read_csv(meta.file("overlap.csv"))
    assert counts[(counts.dataset == "rsna") & (counts.other == "nih_cxr14")]["by_id"].item() == len(wanted)


def test_a_copy_across_a_split_is_a_named_leak(phantom_folder, tmp_path, capsys):
    """The same picture of two patients in train and test is found, named in the facts and warned of."""
    root = shutil.copytree(phantom_folder, tmp_path / "data")
    build_index("data", Spec("folder", root=str(root)), tmp_path / "first")
    index = pd.read_parquet(tmp_path / "first" / "index" / "data" / "index.parquet")
    source, target = (index[index.split == split]["path"].iloc[0] for split in ("train", "test"))
    Image.fromarray(copies(decode(root / source).pixels)[1]).save(root / target)
    build_index("data", Spec("folder", root=str(root)), tmp_path / "second")
    leaks = overlap(["data"], tmp_path / "second").facts["leaks"]
    assert leaks == ["data: 1 pictures and 0 patients lie in both train and test"]
    assert f"WARNING: {leaks[0]}" in capsys.readouterr().err
