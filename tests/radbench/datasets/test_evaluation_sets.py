"""VinDr-CXR, RSNA and IU X-Ray: their owners' layouts and codings, against the pictures they were made of."""

import json
import math
import shutil

import numpy as np
import pydicom
import pytest

from radbench.datasets import fixtures
from radbench.errors import DataError

# ------------------------------------------------------------ VinDr-CXR

FIRST = fixtures.identifier("vindr", 0)  # two of three readers say Lung Opacity, one says Edema


@pytest.mark.parametrize("rule, opacity, edema", [("majority", 1, 0), ("union", 1, 1), ("unanimous", 0, 0), ("R10", 0, 1), ("R8", 1, 0)])
def test_vindr_readers_are_joined_by_the_rule(written, listed, rule, opacity, edema):
    """Of three readers who disagree 2:1 and 1:2, each rule, and each single reader, gives its own label."""
    record = listed("vindr_cxr", written("vindr_cxr"), rule=rule)[FIRST]
    assert (record.labels["Lung Opacity"], record.labels["Edema"]) == (opacity, edema)


def test_vindr_one_reader_leaves_the_others_images_blank(copied, listed):
    """With one reader's name, an image that this reader did not read has blank labels and stays in the list."""
    root = copied("vindr_cxr")
    path = root / "annotations" / "image_labels_train.csv"
    path.write_text(path.read_text().replace(f"{FIRST},R8,", f"{FIRST},R17,"))
    records = listed("vindr_cxr", root, rule="R8")
    assert all(math.isnan(value) for value in records[FIRST].labels.values())
    assert listed("vindr_cxr", root, rule="R17")[FIRST].labels["Lung Opacity"] == 1
    with pytest.raises(DataError, match="unknown value; got 'R99'; expected .*'majority'.*'R8'"):
        listed("vindr_cxr", root, rule="R99")


def test_vindr_official_split_and_both_spellings(written, listed, indexed, pictures):
    """`Other diseases` of train and `Other disease` of test are one label; the split is the owner's; each label has both classes."""
    root = written("vindr_cxr")
    records = listed("vindr_cxr", root)
    assert {name: record.split for name, record in records.items()} == {
        fixtures.identifier("vindr", p.number): "test" if p.number % 3 == 2 else "train" for p in pictures
    }
    for split in ("train", "test"):
        for label in next(iter(records.values())).labels:
            assert {record.labels[label] for record in records.values() if record.split == split} == {0, 1}, (split, label)
    assert "Other disease" in records[FIRST].labels and {record.view for record in records.values()} == {"PA"}
    index, _ = indexed("vindr_cxr", root, labels=["Lung Opacity"])
    assert index.meta.facts["patient_ids"] is False and set(index["split"]) == {"train", "val", "test"}
    assert set(index["patient_id"]) == {f"d:{name}" for name in index["image_id"]}
    assert set(index["photometric"]) == {"MONOCHROME1", "MONOCHROME2"}
    for row in range(0, len(index), 7):
        wanted = next(p for p in pictures if fixtures.identifier("vindr", p.number) == index["image_id"][row]).deep.astype(float)
        np.testing.assert_array_equal(index.pixels(row), np.round((wanted - wanted.min()) / np.ptp(wanted) * 65535))


def test_vindr_png_conversions_and_faults(copied, listed):
    """PNGs under the images' names are taken; a label of 2, a reader's second row and a lost table are named."""
    root = copied("vindr_cxr")
    for path in list(root.glob("t*/*.dicom")):
        path.rename(path.with_suffix(".png"))
    assert listed("vindr_cxr", root)[FIRST].path.suffix == ".png"
    table = root / "annotations" / "image_labels_train.csv"
    text = table.read_text()
    lines = text.splitlines(keepends=True)
    table.write_text(lines[0] + lines[1].replace(",1,", ",2,", 1) + "".join(lines[2:]))
    with pytest.raises(DataError, match="has value '2' in line 2"):
        listed("vindr_cxr", root)
    table.write_text(text + lines[-1])
    with pytest.raises(DataError, match="a reader has two rows"):
        listed("vindr_cxr", root)
    table.unlink()
    with pytest.raises(DataError, match=r"no image_labels_train\.csv; got annotations/, test/, train/"):
        listed("vindr_cxr", root)


def test_vindr_sex_and_age_are_the_headers_and_a_broken_file_is_no_error(copied, listed, indexed, pictures, monkeypatch):
    """Sex and age come from the headers, read without the pixels, also in a zip; age 0, a lost and a damaged file have none."""
    root, read = copied("vindr_cxr"), []
    damaged = root / "train" / f"{fixtures.identifier('vindr', 7)}.dicom"
    damaged.write_bytes(b"DICM" * 9)
    dcmread = pydicom.dcmread
    monkeypatch.setattr(pydicom, "dcmread", lambda *given, **named: read.append(named["stop_before_pixels"]) or dcmread(*given, **named))
    records = listed("vindr_cxr", root)
    assert read and all(read) and len(records) == len(pictures)
    for picture in pictures:
        record = records[fixtures.identifier("vindr", picture.number)]
        assert record.sex == ("" if picture.number in (7, 20) else picture.sex) or picture.number == 21
        if picture.number != 21:  # whether a truncated file keeps its header is chance
            assert math.isnan(record.age) if picture.number in (4, 7, 20) else record.age == picture.age
    monkeypatch.undo()
    _, quarantine = indexed("vindr_cxr", root)
    assert {f"train/{damaged.name}"} <= set(quarantine)
    shutil.make_archive(str(root / "packed"), "zip", root, "train")
    shutil.rmtree(root / "train")
    assert {name: record.sex for name, record in listed("vindr_cxr", root).items()} == {
        name: record.sex for name, record in records.items()
    }


# ------------------------------------------------------------ RSNA


def test_rsna_image_label_is_whether_any_box_is_there(written, listed, pictures):
    """A row per box becomes one label per image; images of the unlabelled test set are not listed; headers give view, sex, age."""
    root = written("rsna")
    records = listed("rsna", root, labels=("Pneumonia", "Normal"))
    positive = [p for p in pictures if "Lung Opacity" in p.findings]
    rows = (root / "stage_2_train_labels.csv").read_text().splitlines()[1:]
    assert len(rows) == len(pictures) + 1 and len(records) == len(pictures)
    assert sum(record.labels["Pneumonia"] for record in records.values()) == len(positive)
    assert sum(record.labels["Normal"] for record in records.values()) == sum(not p.findings for p in pictures)
    for picture, record in zip(pictures, records.values(), strict=True):
        if picture.number not in (20, 21):
            assert (record.view, record.sex, record.age) == (picture.view, picture.sex, picture.age)
    assert "0000a175-0e68-4ca4-b1af-167204a7e0bc" not in records


def test_rsna_one_box_among_rows_is_enough(copied, listed):
    """An image with a row that says 1 is positive, wherever that row stands among its rows."""
    root = copied("rsna")
    table = root / "stage_2_train_labels.csv"
    image = next(name for name, record in listed("rsna", root).items() if record.labels["Pneumonia"])
    table.write_text(table.read_text() + f"{image},,,,,0\n")
    assert listed("rsna", root)[image].labels["Pneumonia"] == 1


def test_rsna_patients_are_those_of_chestxray14_with_the_mapping(written, indexed, pictures):
    """With the owner's mapping all images of one NIH patient land in one split; without it each image stands alone and is said to."""
    index, _ = indexed("rsna", written("rsna"))
    splits: dict[str, set] = {}
    for patient, split in zip(index["patient_id"], index["split"], strict=True):
        splits.setdefault(patient, set()).add(split)
    assert len(splits) < len(index) and all(len(found) == 1 for found in splits.values())
    assert index.meta.facts["patient_ids"] is True and f"d:{pictures[0].patient + 100:08d}" in splits


def test_rsna_without_the_mapping_says_so(written, indexed):
    """Without the mapping every image is its own patient, and the index's facts say that no patient ids were there."""
    index, _ = indexed("rsna", written("rsna_unmapped"))
    assert len(set(index["patient_id"])) == len(index) and index.meta.facts["patient_ids"] is False


def test_rsna_faults_are_named(copied, listed):
    """A mapping that lacks an image or is something else, and a Target that is no class, are named."""
    root = copied("rsna")
    mapping = root / "pneumonia-challenge-dataset-mappings_2018.json"
    rows = json.loads(mapping.read_text())
    mapping.write_text(json.dumps(rows[1:]))
    with pytest.raises(DataError, match="the mapping to ChestX-ray14 lacks"):
        listed("rsna", root)
    mapping.write_text('{"a": 1}')
    with pytest.raises(DataError, match="not the owner's mapping"):
        listed("rsna", root)
    mapping.unlink()
    table = root / "stage_2_train_labels.csv"
    table.write_text(table.read_text().replace(",0\n", ",maybe\n", 1))
    with pytest.raises(DataError, match=r"a Target that is not 0 or 1; got \['maybe'\]"):
        listed("rsna", root)


# ------------------------------------------------------------ IU X-Ray


def test_iu_both_distributions_give_the_same_reports(written, listed, pictures):
    """Kaggle's tables and NLM's archives list the same images, studies and findings; only the former knows views."""
    kaggle, nlm = listed("iu_xray", written("iu_xray")), listed("iu_xray", written("iu_xray_nlm"))
    assert kaggle.keys() == nlm.keys()
    assert all(record.report == nlm[name].report and record.study_id == nlm[name].study_id for name, record in kaggle.items())
    assert {record.view for record in kaggle.values()} == {"FRONTAL", "LATERAL"} and {record.view for record in nlm.values()} == {"UNKNOWN"}
    assert {name for name, record in kaggle.items() if not record.report} == {name for name in kaggle if name.startswith("5_")}
    assert not [name for name in kaggle if name.startswith("6_")]  # a report without images
    assert kaggle["1_IM-1001-1001"].report == " ".join(pictures[0].report.split())
    assert listed("iu_xray", written("iu_xray"), section="impression")["1_IM-1001-1001"].report == "No acute disease. XXXX."


def test_iu_archives_as_downloaded_are_decoded(written, indexed, pictures):
    """Images inside NLMCXR_png.tgz become the pictures that they were made of."""
    index, _ = indexed("iu_xray", written("iu_xray_nlm"))
    row = list(index["image_id"]).index("1_IM-1001-1001")
    np.testing.assert_array_equal(index.pixels(row), pictures[0].grey)
    assert index["path"][row] == "NLMCXR_png.tgz/CXR1_IM-1001-1001.png"


def test_iu_projections_serve_the_other_distribution(copied, written, listed):
    """NLM's files beside Kaggle's table of projections have views; without it frontal images cannot be asked for."""
    root = copied("iu_xray_nlm")
    with pytest.raises(DataError, match="no indiana_projections.csv.*add the table of the Kaggle copy"):
        listed("iu_xray", root, frontal_only=True)
    shutil.copy(written("iu_xray") / "indiana_projections.csv", root)
    frontal = listed("iu_xray", root, frontal_only=True)
    assert frontal.keys() == listed("iu_xray", written("iu_xray"), frontal_only=True).keys()
    assert {record.view for record in frontal.values()} == {"FRONTAL"}


def test_iu_doubled_prefixes_and_entities(copied, listed):
    """`CXR1_1_IM-…`, as the first report's images are called, is image 1_IM-…; XML that declares entities is refused."""
    root = copied("iu_xray_nlm")
    text = '<eCitation><AbstractText Label="FINDINGS">Clear.</AbstractText><parentImage id="CXR9_9_IM-2407-1001"/></eCitation>'
    (root / "NLMCXR_reports.tgz").unlink()
    fixtures.put(root / "ecgen-radiology" / "9.xml", text)
    assert listed("iu_xray", root)["9_IM-2407-1001"].report == "Clear."
    fixtures.put(root / "ecgen-radiology" / "9.xml", f'<!DOCTYPE x [<!ENTITY a "b">]>{text}')
    with pytest.raises(DataError, match="declares XML entities"):
        listed("iu_xray", root)
    fixtures.put(root / "ecgen-radiology" / "9.xml", text[:-5])
    with pytest.raises(DataError, match="9.xml: not XML"):
        listed("iu_xray", root)
