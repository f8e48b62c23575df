"""Real radiographs of ChestX-ray14, laid out again as NIH distributes them: its reader against the table of the folder they came from.

The lists hold the split of that folder, which is no more than a split by patient, not the one that NIH publishes.
"""

import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from radbench.index import Spec, build_index
from radbench.store import Index

HEADER = ("Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,OriginalImage[Width,Height],"
          "OriginalImagePixelSpacing[x,y],")  # fmt: skip
FINDINGS = ("Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax", "Consolidation",
            "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia")  # fmt: skip
IMAGES = 240  # at least
PARTS = 3  # folders images_001 to images_003


@dataclasses.dataclass(frozen=True)
class Copy:
    """The rows of the tidy folder's own table, by the owner's image id; the index of NIH's layout, and the tidy folder's."""

    images: Path
    rows: dict[str, dict[str, str]]
    nih: Index
    tidy: Index
    quarantined: list[str]


@pytest.fixture(scope="module")
def copy(real_folder, tmp_path_factory) -> Copy:
    """Both indexes of the same images. Skipped when the folder has no images of NIH."""
    rows = chosen(real_folder / "metadata.csv")
    folder = tmp_path_factory.mktemp("nih")
    root, tidy, results = (folder / name for name in ("ChestXray-NIHCC", "tidy", "results"))
    (tidy / "images").mkdir(parents=True)
    for number, row in enumerate(rows):
        (tidy / "images" / row["image"]).symlink_to((real_folder / "images" / row["image"]).resolve())
        part = root / f"images_{1 + number * PARTS // len(rows):03}" / "images"
        part.mkdir(parents=True, exist_ok=True)
        with Image.open(real_folder / "images" / row["image"]) as picture:
            picture.convert("L").save(part / row["original_file"], compress_level=1)
    with open(tidy / "metadata.csv", "w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    (root / "Data_Entry_2017.csv").write_text("".join(f"{line}\n" for line in (HEADER, *map(entry, rows))))
    for name, test in (("train_val_list.txt", False), ("test_list.txt", True)):
        (root / name).write_text("".join(f"{row['original_file']}\n" for row in rows if (row["split"] == "test") == test))
    build_index("nih", Spec(reader="nih_cxr14", root=str(root)), results)
    build_index("tidy", Spec(reader="folder", root=str(tidy), options={"labels": [*FINDINGS, "No Finding"]}), results)
    indexes = [Index(results / "index" / name) for name in ("nih", "tidy")]
    quarantined = [line for index in indexes for line in Path(index.meta.file("quarantine.csv")).read_text().splitlines()[1:]]
    return Copy(real_folder / "images", {Path(row["original_file"]).stem: row for row in rows}, *indexes, quarantined)


def chosen(table: Path) -> list[dict[str, str]]:
    """Every image of some patients: of those with several images first, then of each split in turn."""
    with open(table, newline="", encoding="utf-8-sig") as stream:
        rows = [row for row in csv.DictReader(stream) if row.get("source") == "nih"]
    patients: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        patients.setdefault(row["subject_id"], []).append(row)
    several = [group for group in patients.values() if len(group) > 1]
    by_split = [[group for group in patients.values() if len(group) == 1 and group[0]["split"] == split] for split in ("test", "train")]
    turns = [*several[:30], *(group for pair in zip(*by_split, strict=False) for group in pair)]
    kept: list[dict[str, str]] = []
    for group in turns:
        if len(kept) < IMAGES:
            kept += group
    if len(kept) < IMAGES:
        pytest.skip(f"{len(kept)} images of NIH in the folder, fewer than {IMAGES}")
    return sorted(kept, key=lambda row: row["original_file"])


def entry(row: dict[str, str]) -> str:
    """A line of the owner's table, in the owner's spelling; it ends in a comma."""
    findings = "|".join(name for name in FINDINGS if float(row[name]) == 1) or "No Finding"
    patient, visit, age = int(row["original_file"][:8]), int(float(row["study_offset"])), int(float(row["age"]))
    return f"{row['original_file']},{findings},{visit},{patient},{age},{row['sex']},{row['view']},2682,2749,0.143,0.143,"


def place(index: Index) -> dict[str, int]:
    return {image: row for row, image in enumerate(index["image_id"])}


def test_every_image_is_read(copy):
    """Each of at least 200 real images is in both indexes, at its size, and none is in quarantine."""
    assert len(copy.rows) >= 200 and copy.quarantined == []
    assert set(place(copy.nih)) == set(copy.rows) and len(copy.tidy) == len(copy.rows)
    for image, row in place(copy.nih).items():
        assert (str(copy.nih["rows"][row]), str(copy.nih["cols"][row])) == (copy.rows[image]["height"], copy.rows[image]["width"])
    assert set(copy.nih["source_format"]) == {"PNG"} and set(copy.tidy["source_format"]) == {"JPEG"}


def test_pixels_are_those_of_the_tidy_folder(copy):
    """The stored pixels have the hash of the same image read from its JPEG by the tidy folder's reader, and are Pillow's."""
    nih, tidy = place(copy.nih), place(copy.tidy)
    for image, row in copy.rows.items():
        assert copy.nih["sha256"][nih[image]] == copy.tidy["sha256"][tidy[Path(row["image"]).stem]], image
    assert len(set(copy.nih["sha256"])) == len(copy.rows)
    image = next(iter(copy.rows))
    with Image.open(copy.images / copy.rows[image]["image"]) as picture:
        np.testing.assert_array_equal(copy.nih.pixels(nih[image]), np.asarray(picture.convert("L")))


def test_labels_sex_age_and_view_are_the_tables(copy):
    """Fourteen findings and No Finding, sex, age and view are those of the tidy folder's table, and every finding occurs."""
    for image, row in place(copy.nih).items():
        table = copy.rows[image]
        assert {name: copy.nih[f"labels.{name}"][row] for name in (*FINDINGS, "No Finding")} == {
            name: float(table[name]) for name in (*FINDINGS, "No Finding")
        }, image
        assert (copy.nih["sex"][row], copy.nih["age"][row], copy.nih["view"][row]) == (table["sex"], float(table["age"]), table["view"])
    assert all((copy.nih[f"labels.{name}"] == 1).any() for name in FINDINGS)


def test_patients_are_the_tables(copy):
    """Images are grouped by patient as the tidy folder groups them; some patients have several."""
    of_subject: dict[str, set[str]] = {}
    of_patient: dict[str, set[str]] = {}
    for image, row in place(copy.nih).items():
        of_patient.setdefault(copy.nih["patient_id"][row], set()).add(image)
        of_subject.setdefault(copy.rows[image]["subject_id"], set()).add(image)
    assert sorted(map(sorted, of_patient.values())) == sorted(map(sorted, of_subject.values()))
    assert copy.nih.meta.facts["patient_ids"] is True and sum(len(images) > 1 for images in of_patient.values()) >= 20
    assert set(of_patient) == {f"nih:{image[:8]}" for image in copy.rows}


def test_the_owners_test_list_is_the_test_split(copy):
    """The test split is the owner's test list, val is cut from the other one, and no patient is in two splits or folds."""
    given = {image for image, row in copy.rows.items() if row["split"] == "test"}
    assert set(copy.nih["image_id"][copy.nih["split"] == "test"]) == given and 0 < len(given) < len(copy.rows)
    assert set(copy.nih["split"]) == {"train", "val", "test"}
    places: dict[str, set[tuple[str, int]]] = {}
    for row in range(len(copy.nih)):
        places.setdefault(copy.nih["patient_id"][row], set()).add((copy.nih["split"][row], int(copy.nih["fold"][row])))
    assert all(len(found) == 1 for found in places.values())
