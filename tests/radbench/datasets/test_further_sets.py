"""Data sets beyond the paper: layouts, codings and masks, against the pictures they were made of."""

import json
import math
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from radbench.datasets import Mask, chestmnist, fixtures, masks, runs
from radbench.errors import DataError


def drawn(index, row, structure):
    return (index.mask(row) >> np.uint32(index.structures.index(structure))) & 1 == 1


# ------------------------------------------------------------ run-length codes


def test_run_length_codes_give_back_the_mask():
    """Random masks coded by SIIM-ACR's and by COCO's definition are drawn again exactly."""
    random = np.random.default_rng(3)
    for density in (0.02, 0.5, 0.98, 0.0, 1.0):
        for shape in ((40, 60), (33, 7)):
            mask = random.random(shape) < density
            relative = runs.relative("m", fixtures.relative_runs(mask), mask.size)
            coco = runs.coco("m", fixtures.coco_counts(mask), mask.size)
            for found in (relative, coco):
                np.testing.assert_array_equal(masks.place(Mask("m", runs=found, size=shape), None, shape), mask)


def test_coco_text_of_a_known_mask():
    """The text that pycocotools 2.0.11 writes for runs 10-12 and 18-19 of 100 pixels is read as these."""
    assert runs.coco("m", ":35O[2", 100) == ((10, 3), (18, 2))


@pytest.mark.parametrize("code", ["1 2 3", "a b", "5 -2", "90 20", "0 1 99 5"])
def test_bad_relative_codes_are_named(code):
    """A code of odd length, with words, negative or beyond the picture is refused."""
    with pytest.raises(DataError, match="not a run-length code of 100 pixels"):
        runs.relative("row 7", code, 100)


@pytest.mark.parametrize("code", ["\x00", "é", "Z", [5, -3], [60, 60], ["x"]])
def test_bad_coco_codes_are_named(code):
    """Letters outside of the code, a cut text, and lengths that are negative or too many are refused."""
    with pytest.raises(DataError):
        runs.coco("m", code, 100)


# ------------------------------------------------------------ pneumothorax


@pytest.mark.parametrize("name, structure", [("siim_acr", "pneumothorax"), ("candid_ptx", "pneumothorax")])
def test_outlines_of_pneumothorax(written, indexed, listed, pictures, name, structure):
    """Outlines in relative codes of 1024 x 1024, also in two rows, are drawn where they were made; "-1" is an empty mask and label 0."""
    records = list(listed(name, written(name)).values())
    assert [record.labels["Pneumothorax"] for record in records] == [float(p.number % 3 == 0) for p in pictures]
    index, _ = indexed(name, written(name))
    rows = {image: row for row, image in enumerate(index["image_id"])}
    for number in (0, 1, 3):
        zone = pictures[number].masks["zone_right_upper"]
        wanted = fixtures.square(zone, 64) if number % 3 == 0 else np.zeros((64, 64), bool)
        got = drawn(index, rows[records[number].image_id], structure)
        assert (got ^ wanted).sum() <= 0.1 * wanted.sum(), number
    assert records[0].view == pictures[0].view  # of the header


def test_candid_patients_tubes_and_files_without_suffix(written, listed, pictures):
    """The patient is the file name's first part; tubes are a label of their own table; files without suffix are found."""
    records = list(listed("candid_ptx", written("candid_ptx"), labels=("Pneumothorax", "Chest tube")).values())
    assert [record.patient_id for record in records] == [f"P{p.patient:04d}" for p in pictures]
    assert [record.labels["Chest tube"] for record in records] == [float(p.number % 4 == 0) for p in pictures]
    assert {record.path.suffix for record in records if record.path.exists()} >= {".dcm"} and records[0].path.name == records[0].image_id
    assert records[0].report == " ".join(pictures[0].report.split())


# ------------------------------------------------------------ tuberculosis, nodules


@pytest.mark.parametrize("name, first", [("shenzhen", "CHNCXR_0001"), ("montgomery", "MCUCXR_0001")])
def test_label_sex_and_age_of_the_tuberculosis_sets(written, listed, pictures, name, first):
    """The last digit of the name is the label and no part of the id; sex and age come from the readings."""
    records = listed(name, written(name))
    assert next(iter(records)) == first
    for picture, record in zip(pictures, records.values(), strict=True):
        assert record.labels == {"Tuberculosis": float(bool(picture.findings))}
        assert (record.sex, record.age) == (picture.sex, picture.age)


def test_montgomery_lungs(written, indexed, pictures):
    """The masks of the two folders are the picture's left and right lung."""
    index, _ = indexed("montgomery", written("montgomery"))
    for side in ("left", "right"):
        np.testing.assert_array_equal(drawn(index, 4, f"lung_{side}"), pictures[4].masks[f"lung_{side}"])


def test_one_number_under_both_labels_is_named(copied, listed):
    """An image that is there as _0 and as _1 is an error that names both."""
    root = copied("shenzhen")
    path = next((root / "CXR_png").iterdir())
    other = path.with_name(path.name.replace("_0.png", "_x.png").replace("_1.png", "_0.png").replace("_x.png", "_1.png"))
    other.write_bytes(path.read_bytes())
    with pytest.raises(DataError, match="is there twice"):
        listed("shenzhen", root)


def test_jsrt_raw_files_are_turned_upright(written, indexed, listed, pictures):
    """Big-endian words with 0 = white become the picture's stretch; the name is the label."""
    index, quarantine = indexed("jsrt", written("jsrt"))
    records = listed("jsrt", written("jsrt"))
    assert quarantine == {} and set(index["photometric"]) == {"MONOCHROME1"}
    numbers = {int(name[5:]) - 1: row for row, name in enumerate(index["image_id"])}
    for number in (0, 5):
        wanted = fixtures.square(pictures[number].deep, 2048).astype(float)
        wanted = np.round((wanted - wanted.min()) / np.ptp(wanted) * 65535)
        np.testing.assert_allclose(index.pixels(numbers[number]), wanted, atol=1)
    assert {record.labels["Nodule"] for record in records.values()} == {0, 1}


def test_jsrt_organs_are_those_of_scr(written, indexed, pictures):
    """Heart, lungs and clavicles of either fold are the pictures' own on SCR's grid, whatever a GIF's palette; left is the patient's."""
    index, quarantine = indexed("jsrt", written("jsrt"))
    rows = {int(name[5:]) - 1: row for row, name in enumerate(index["image_id"])}
    assert quarantine == {} and index.structures == ["clavicle_left", "clavicle_right", "heart", "lung_left", "lung_right"]
    for number in (0, 1, 4, 5):
        for side in ("left", "right"):
            wanted = fixtures.square(pictures[number].masks[f"lung_{side}"], 1024)
            np.testing.assert_array_equal(drawn(index, rows[number], f"lung_{side}"), wanted)
            np.testing.assert_array_equal(drawn(index, rows[number], f"clavicle_{side}"),
                                          fixtures.square(pictures[number].masks[f"rib_{side}_01"], 1024))  # fmt: skip
        columns = [np.nonzero(drawn(index, rows[number], name))[1].mean() for name in ("lung_right", "heart", "lung_left")]
        assert columns == sorted(columns)


def test_jsrt_organs_without_a_file_are_not_annotated(written, indexed):
    """An image that SCR lacks has no mask; one whose clavicles are lacking is annotated for heart and lungs alone."""
    index, _ = indexed("jsrt", written("jsrt"))
    rows = {int(name[5:]) - 1: row for row, name in enumerate(index["image_id"])}
    assert index.mask(rows[2]) is None and index.annotated(rows[2]) == 0
    named = {name for bit, name in enumerate(index.structures) if index.annotated(rows[3]) >> bit & 1}
    assert named == {"heart", "lung_left", "lung_right"}


def test_jsrt_organs_in_an_archive_or_under_other_names(copied, listed):
    """SCR in an archive, extracted beside it, or with underscores and without folds gives the same masks once; without it none."""
    root = copied("jsrt")

    def organs() -> dict[str, list[tuple[str, bytes]]]:
        return {name: [(mask.structure, mask.path.read_bytes()) for mask in record.masks] for name, record in listed("jsrt", root).items()}

    def put_as(name: str) -> None:
        for relative, content in files.items():
            path = root / name / relative.replace(" ", "_")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    whole = organs()
    assert sorted(len(found) for found in whole.values()) == [0, 3, 5, 5, 5, 5, 5, 5]
    files = {str(path.relative_to(root)): path.read_bytes() for path in (root / "scratch").rglob("*.gif")}
    (root / "scr.zip").write_bytes(fixtures.zipped(files))
    assert organs() == whole
    shutil.rmtree(root / "scratch")
    assert organs() == whole
    (root / "scr.zip").unlink()
    assert not any(organs().values())
    files = {"/".join(relative.split("/")[-2:]): content for relative, content in files.items()}
    put_as("masks")
    assert organs() == whole


def test_jsrt_masks_are_never_taken_for_pictures(copied, listed):
    """Masks converted to PNG beside pictures converted to PNG stay masks; the owner's words go before a conversion in any folder."""
    root = copied("jsrt")
    for path in [*root.rglob("*.gif")]:
        Image.open(path).convert("L").save(path.with_suffix(".png"))
        path.unlink()
    for path in [*root.rglob("*.IMG")]:
        fixtures.put(root / "A" / f"{path.stem}.png", fixtures.encoded(np.eye(64, dtype=np.uint8)))
    records = listed("jsrt", root)
    assert {record.path.parent.name for record in records.values()} == {"All247images"} and all(r.inverted for r in records.values())
    shutil.rmtree(root / "All247images")
    (root / "scratch").rename(root / "0 masks")  # would be found before the pictures
    records = listed("jsrt", root)
    assert {record.path.parent.name for record in records.values()} == {"A"} and not any(r.inverted for r in records.values())
    assert sorted(len(record.masks) for record in records.values()) == [0, 3, 5, 5, 5, 5, 5, 5]


def test_jsrt_damaged_mask_costs_its_mask_only(copied, indexed):
    """A cut GIF is a row of the quarantine; its image and the other organs are kept."""
    root = copied("jsrt")
    path = next(path for path in sorted(root.rglob("*.gif")) if path.parent.name == "heart")
    path.write_bytes(path.read_bytes()[:200])
    index, quarantine = indexed("jsrt", root)
    assert list(quarantine) == [str(path.relative_to(root))] and "the image is kept" in quarantine[str(path.relative_to(root))]
    row = list(index["image_id"]).index(path.stem)
    assert index.annotated(row) == 0b11011


# ------------------------------------------------------------ ChestX-Det, CheXlocalize


def test_chestx_det_polygons_and_absent_findings(written, indexed, listed, pictures):
    """A listed finding has its polygon, one that is not listed an empty mask; labels follow."""
    records = listed("chestx_det", written("chestx_det"))
    index, _ = indexed("chestx_det", written("chestx_det"))
    entries = json.loads((written("chestx_det") / "ChestX_Det_train.json").read_text())
    entry = next(entry for entry in entries if len(entry["syms"]) == 2)
    record = records[f"train/{entry['file_name'][:-4]}"]
    assert {name for name, value in record.labels.items() if value} == set(entry["syms"])
    row = list(index["image_id"]).index(record.image_id)
    got = drawn(index, row, entry["syms"][0].lower().replace(" ", "_"))
    x0, y0, x1, y1 = (side / 16 for side in entry["boxes"][0])
    rows, cols = np.nonzero(got)
    assert np.abs(np.array([cols.min() - x0, rows.min() - y0, cols.max() - x1, rows.max() - y1])).max() <= 1
    absent = next(name for name in record.labels if name not in entry["syms"])
    assert not drawn(index, row, absent.lower().replace(" ", "_")).any() and index.annotated(row) == 2**13 - 1


def test_chexlocalize_masks_are_the_outlines(written, indexed, listed, pictures):
    """COCO codes are drawn as the outlined zone; an image that nobody outlined has no masks; both names of opacity are one label."""
    records = listed("chexlocalize", written("chexlocalize"))
    index, _ = indexed("chexlocalize", written("chexlocalize"))
    place = {image: row for row, image in enumerate(index["image_id"])}
    for picture in pictures[:8]:
        base = 64741 if picture.patient % 3 == 0 else 64541
        image = f"patient{base + picture.patient}/study{picture.study}/view{picture.image}_frontal"
        if picture.number % 4 == 0:
            assert records[image].masks == ()
            continue
        np.testing.assert_array_equal(drawn(index, place[image], "lung_opacity"), picture.masks["zone_left_mid"])
        assert not drawn(index, place[image], "edema").any()
        assert records[image].labels["Lung Opacity"] == ("Lung Opacity" in picture.findings)
    assert set(index["split"]) == {"val", "test"}


# ------------------------------------------------------------ PadChest-GR, ReXGradient, ChestMNIST


def test_padchest_gr_reports_and_labels(written, listed, pictures):
    """Sentences are joined in the language asked for; labels are the master table's; its splits are kept."""
    root = written("padchest_gr")
    records = list(listed("padchest_gr", root, labels=("cardiomegaly",)).values())
    assert [record.labels["cardiomegaly"] for record in records] == [float("Cardiomegaly" in p.findings) for p in pictures]
    assert [record.split for record in records] == [("train", "val", "test")[p.patient % 3] for p in pictures]
    assert records[0].report == ". ".join(text.strip() for text in pictures[0].report.split(".") if text.strip()) + "."
    assert next(iter(listed("padchest_gr", root, language="es").values())).report.startswith("es ")


def test_rexgradient_paths_views_and_splits(written, listed, pictures):
    """Paths that begin ../deid_png/ are found below the root; patient and study are those of the path; views are per image."""
    root = written("rexgradient")
    records = listed("rexgradient", root)
    for picture in pictures:
        record = records[f"1.4.{picture.number}"]
        assert record.patient_id == f"pGRDN{picture.patient:04d}" and record.split == ("train", "train", "val", "test")[picture.patient % 4]
        assert record.view == ("LATERAL" if picture.number % 8 == 7 else picture.view)
        assert record.path.exists() == (picture.number != 20)
    assert "LATERAL" not in {record.view for record in listed("rexgradient", root, frontal_only=True).values()}
    assert {record.split for record in listed("rexgradient", root, splits=("test",)).values()} == {"test"}


def test_chestmnist_rows_are_the_arrays(written, indexed, pictures):
    """Row, split and labels of the arrays become images, splits and labels."""
    index, quarantine = indexed("chestmnist", written("chestmnist"))
    assert quarantine == {} and index.meta.facts["patient_ids"] is False
    for name, number in (("train_000003", 3), ("val_000000", 40), ("test_000001", 51)):
        row = list(index["image_id"]).index(name)
        np.testing.assert_array_equal(index.pixels(row), fixtures.square(pictures[number].grey, 64))
        assert index["labels.Effusion"][row] == float((number + 2) % 4 == 0) and name.startswith(index["split"][row])


def test_chestmnist_refuses_pickles_and_small_pictures(tmp_path, listed):
    """An array of objects is not unpickled, arrays of another shape are named, and 28 x 28 is too small."""
    fixtures.put(tmp_path / "chestmnist.npz", b"x")
    with pytest.raises(DataError, match="28 x 28 pixels are too few"):
        listed("chestmnist", tmp_path)
    np.savez(tmp_path / "chestmnist_64.npz", train_labels=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match="no array train_labels that can be read .*allow_pickle=False"):
        listed("chestmnist", tmp_path)
    np.savez(tmp_path / "chestmnist_64.npz", train_labels=np.zeros((3, 13), np.uint8))
    with pytest.raises(DataError, match=r"train_labels of shape \(3, 13\); expected \(N, 14\)"):
        listed("chestmnist", tmp_path)


def test_candids_blank_codes_are_no_reading(copied, listed, pictures):
    """A blank code says nothing: the label is blank and there is no reference mask; -1 is an empty one."""
    root = copied("candid_ptx")
    for name, column in (("Pneumothorax_reports.csv", "EncodedPixels"), ("chest_tube.csv", "mask_rle")):
        table = pd.read_csv(root / name, dtype=str, keep_default_na=False)
        table.loc[table.index[0], column] = ""
        table.to_csv(root / name, index=False)
    records = listed("candid_ptx", root, labels=("Pneumothorax", "Chest tube"))
    first = pd.read_csv(root / "Pneumothorax_reports.csv", dtype=str)["SOPInstanceUID"][0]
    assert math.isnan(records[first].labels["Pneumothorax"]) and records[first].masks == ()
    tube = pd.read_csv(root / "chest_tube.csv", dtype=str)["anon_SOPUID"][0]
    assert math.isnan(records[tube].labels["Chest tube"])
    none = [record for record in records.values() if record.labels["Pneumothorax"] == 0]
    assert none and all(record.masks[0].runs == () for record in none)


def test_rexgradients_views_by_their_long_names_and_sections_that_are_not_there(copied, listed):
    """POSTERO_ANTERIOR is PA and ANTERO_POSTERIOR AP, an abdomen is not frontal, and a section "None" is no report."""
    root = copied("rexgradient")
    (file,) = root.rglob("test_metadata_view_position.json")
    content = json.loads(file.read_text())
    studies = list(content.values()) if isinstance(content, dict) else content
    for study, view, text in zip(studies, ("POSTERO_ANTERIOR", "ANTERO_POSTERIOR", "AP (KUB)"), ("None", "nan", "Clear."), strict=False):
        study["ImageViewPosition"], study["Findings"] = [view] * len(study["ImagePath"]), text
    file.write_text(json.dumps(content))
    records = listed("rexgradient", root)
    found = [records[study["ImagePath"][0].rsplit("/", 1)[-1].removesuffix(".png")] for study in studies[:3]]
    assert [(record.view, record.report) for record in found] == [("PA", ""), ("AP", ""), ("OTHER", "Clear.")]


def test_chestmnists_arrays_are_read_once_for_all_threads(written, monkeypatch):
    """Eight threads that ask for two splits in any order read each one's images once, and no more than two splits are held."""
    read, real = [], chestmnist._array
    monkeypatch.setattr(chestmnist, "_array", lambda file, name: (read.append(name), time.sleep(0.05), real(file, name))[2])
    records = chestmnist.records(written("chestmnist"), chestmnist.Options())
    two = [record for record in records if record.split != "test"]
    with ThreadPoolExecutor(8) as pool:
        sizes = list(pool.map(lambda record: len(record.path.read_bytes()), two[::2] + two[1::2]))
    assert [read.count(f"{split}_images") for split in ("train", "val")] == [1, 1] and min(sizes) > 0
    arrays = records[0].path.read_bytes.args[0]
    assert next(record for record in records if record.split == "test").path.read_bytes() and len(arrays._held) == 2
