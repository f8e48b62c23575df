"""VinDr-RibCXR and the lungs of MIMIC-CXR: masks in the index are those of the pictures."""

import json
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image

from radbench.datasets import fixtures
from radbench.errors import DataError
from radbench.index import Spec, build_index


def drawn(index, image_id, structure):
    row = list(index["image_id"]).index(image_id)
    return (index.mask(row) >> np.uint32(index.structures.index(structure))) & 1 == 1


def test_images_beside_the_root_are_in_the_key(copied, tmp_path, monkeypatch):
    """Another picture in the folder of MIMIC-CXR that lies beside the masks makes another index."""
    root = copied("mimic_segmentation")
    (root.parent / "mimic_cxr").mkdir(exist_ok=True)
    keys = []
    for number in range(2):
        (root.parent / "mimic_cxr" / f"{number}.jpg").write_bytes(b"x")
        keys.append(build_index("d", Spec("mimic_segmentation", root=str(root)), tmp_path / "results").fields["key"])
    assert keys[0] != keys[1]


# ------------------------------------------------------------ VinDr-RibCXR


def test_ribs_are_the_outlined_polygons(written, indexed, pictures):
    """Each rib's stored mask agrees with the picture's rib (Dice above 0.9), R on the patient's right, val as the test set."""
    index, _ = indexed("vindr_ribcxr", written("vindr_ribcxr"))
    train = [p for p in pictures if p.number % 5 != 4]
    for row in (1, 5):
        for side in ("left", "right"):
            for number in (2, 6):
                structure = f"rib_{side}_{number:02d}"
                wanted, got = train[row].masks[structure], drawn(index, f"VinDr_RibCXR_train_{row:03d}", structure)
                assert 2 * (wanted & got).sum() / (wanted.sum() + got.sum()) > 0.9
    splits = dict(zip(index["image_id"], index["split"], strict=True))
    assert {split for name, split in splits.items() if "_val_" in name} == {"test"} and "val" in splits.values()
    assert index.meta.facts["patient_ids"] is False and len(index.structures) == 20


def test_ribs_null_none_and_overlapping(written, indexed):
    """A rib that is null or "None" is not annotated; two that overlap keep all of their pixels."""
    index, _ = indexed("vindr_ribcxr", written("vindr_ribcxr"))
    first = "VinDr_RibCXR_train_000"
    annotated = index["mask_annotated"][list(index["image_id"]).index(first)]
    named = {name for bit, name in enumerate(index.structures) if annotated >> bit & 1}
    assert set(index.structures) - named == {"rib_right_10", "rib_left_10"}
    second, third = drawn(index, first, "rib_left_02"), drawn(index, first, "rib_left_03")
    assert second.sum() == third.sum() == 21 * 21 and (second & third).sum() == 21 * 11


def test_ribs_faults_are_named(copied, listed):
    """Annotations of another form, and an outline that is no list of corners, are named with the rib."""
    root = copied("vindr_ribcxr")
    path = next(root.rglob("Vindr_RibCXR_train_mask.json"))
    content = json.loads(path.read_text())
    content["R4"]["0"] = [{"x": 1}]
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="outline of R4 of data/train/img/VinDr_RibCXR_train_000.png; got .*'x': 1"):
        listed("vindr_ribcxr", root)
    path.write_text(json.dumps({"img": {}}))
    with pytest.raises(DataError, match="not the owner's annotations.*columns img, R1 to R10"):
        listed("vindr_ribcxr", root)


# ------------------------------------------------------------ lungs and zones


def test_lungs_and_zones_are_the_pictures(written, indexed, pictures):
    """Left and right lung are the picture's own; a zone is its lung within its box; a missing zone or empty box is not annotated."""
    index, _ = indexed("mimic_segmentation", written("mimic_segmentation"))
    for picture in (pictures[0], pictures[1], pictures[2], pictures[9]):
        image = fixtures.mimic_ids(picture)[0]
        for side in ("left", "right"):
            lung = picture.masks[f"lung_{side}"]
            np.testing.assert_array_equal(drawn(index, image, f"lung_{side}"), lung)
            rows, cols = np.nonzero(picture.masks[f"zone_{side}_lower"])
            box = np.zeros_like(lung)
            box[rows.min() : rows.max() + 1, cols.min() : cols.max() + 1] = True
            np.testing.assert_array_equal(drawn(index, image, f"zone_{side}_lower"), lung & box)
        annotated = index["mask_annotated"][list(index["image_id"]).index(image)]
        missing = {name for bit, name in enumerate(index.structures) if not annotated >> bit & 1}
        assert missing == ({"zone_left_mid"} if picture.number in (1, 2) else set())


def test_patients_left_lung_is_on_the_right_of_the_picture(written, indexed, pictures):
    """Sides are the patient's: the left lung's mean column is larger."""
    index, _ = indexed("mimic_segmentation", written("mimic_segmentation"))
    image = fixtures.mimic_ids(pictures[0])[0]
    columns = [np.nonzero(drawn(index, image, f"lung_{side}"))[1].mean() for side in ("left", "right")]
    assert columns[0] > columns[1]


def test_images_may_lie_in_the_folder_of_mimic_cxr(copied, indexed, listed):
    """Images and metadata in the neighbouring folder of MIMIC-CXR give the same masks, patients and paths that lead there."""
    root = copied("mimic_segmentation")
    before = listed("mimic_segmentation", root)
    (root / "mimic-cxr-jpg").rename(root.parent / "mimic_cxr")
    index, _ = indexed("mimic_segmentation", root)
    assert all(path.startswith("../mimic_cxr/files/p1") for path in index["path"])
    after = listed("mimic_segmentation", root)
    facts = [{name: (record.patient_id, len(record.masks)) for name, record in records.items()} for records in (before, after)]
    assert facts[0] == facts[1]
    shutil.rmtree(root.parent / "mimic_cxr")
    with pytest.raises(DataError, match="no MIMIC-CXR image of any lung mask.*set options.images"):
        listed("mimic_segmentation", root)


def test_boxes_count_in_pixels_of_the_dicom(copied, indexed, pictures):
    """With images and masks enlarged to twice the DICOM, boxes in the DICOM's pixels still cut the same places."""
    root = copied("mimic_segmentation")
    for path in [*root.rglob("*.jpg"), *root.rglob("*_lung.png")]:
        try:
            picture = Image.open(path)
            picture.load()
        except OSError:
            continue
        picture.resize((picture.width * 2, picture.height * 2), Image.Resampling.NEAREST).save(path)
    index, _ = indexed("mimic_segmentation", root)
    image = fixtures.mimic_ids(pictures[9])[0]
    got, whole = drawn(index, image, "zone_left_lower"), pictures[9].masks["zone_left_lower"]
    assert got.shape == (whole.shape[0] * 2, whole.shape[1] * 2)
    rows = np.nonzero(got)[0]
    assert rows.min() == 2 * np.nonzero(whole)[0].min() and rows.max() == 2 * np.nonzero(whole)[0].max() + 1


def test_gold_boxes_and_extracted_graphs_are_read(copied, listed, pictures):
    """Scene graphs extracted from their archive, and gold boxes, which go before them, are read."""
    root = copied("mimic_segmentation")
    archive = root / "chest-imagenome/silver_dataset/scene_graph.zip"
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(archive.parent)
    archive.unlink()
    image = fixtures.mimic_ids(pictures[9])[0]
    assert len(listed("mimic_segmentation", root)[image].masks) == 8
    header = ("image_id,x1,y1,x2,y2,width,height,bbox_name,annot_id,original_x1,original_x2,original_y1,original_y2,original_width,"
              "original_height,annotator,coord224,coord_original")  # fmt: skip
    rows = [f"{image}.dcm,0,0,1,1,1,1,{side} lung,1,{x0},{x0 + 20},10,50,20,40,a,b,c" for side, x0 in (("left", 34), ("right", 5))]
    fixtures.put(root / "chest-imagenome/gold_dataset/gold_bbox_coordinate_annotations_1000images.csv", "\n".join([header, *rows]) + "\n")
    masks = listed("mimic_segmentation", root)[image].masks
    assert [mask.structure for mask in masks] == ["lung_left", "lung_right"] and masks[0].sides[0] == (34, 10, 54, 50)


def test_lung_masks_under_other_names(copied, listed, pictures):
    """Masks named by their folder, or as left and right files, are found; what is ambiguous is asked for, and an option answers."""
    root = copied("mimic_segmentation")
    images = {fixtures.mimic_ids(p)[0]: p for p in pictures}
    folder = root / "lung-segment-mimic-cxr"
    for image in images:
        (folder / "lungs").mkdir(exist_ok=True)
        (folder / "rest").mkdir(exist_ok=True)
        (folder / f"{image}_lung.png").rename(folder / "lungs" / f"{image}.png")
        (folder / f"{image}_remainder.png").rename(folder / "rest" / f"{image}.png")
    first = fixtures.mimic_ids(pictures[9])[0]
    assert listed("mimic_segmentation", root)[first].masks[0].path.parent.name == "lungs"
    for image, picture in images.items():
        for side in ("left", "right"):
            Image.fromarray(picture.masks[f"lung_{side}"].astype(np.uint8)).save(folder / "lungs" / f"{image}_{side}.png")
        (folder / "lungs" / f"{image}.png").unlink()
    masks = listed("mimic_segmentation", root)[first].masks
    assert masks[0].sides is None and masks[0].path.name == f"{first}_left.png" and len(masks) == 8
    shutil.copytree(folder / "lungs", folder / "lungs_again")
    with pytest.raises(DataError, match="4 files may be the lung mask of .*set options.lung_masks"):
        listed("mimic_segmentation", root)
    assert len(listed("mimic_segmentation", root, lung_masks="lungs/")[first].masks) == 8
