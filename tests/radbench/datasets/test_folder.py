"""Tidy folders: which text and which mask belongs to which image, and what is refused because nobody can tell."""

import numpy as np
import pytest
from PIL import Image

from radbench.datasets import folder
from radbench.errors import DataError


@pytest.fixture
def made(tmp_path):
    """`made(metadata, **tables, masks=(...))`: the records of a folder with these tables and mask files; no image is opened."""

    def write(metadata: str, masks: tuple[str, ...] = (), options: dict | None = None, **tables: str):
        (tmp_path / "images").mkdir(exist_ok=True)
        for name, text in ({"metadata": metadata} | tables).items():
            (tmp_path / f"{name}.csv").write_text(text)
        for name in masks:
            (tmp_path / "masks" / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.eye(64, dtype=np.uint8)).save(tmp_path / "masks" / name)
        return {record.image_id: record for record in folder.records(tmp_path, folder.Options(**options or {}))}

    return write


TWO = "image,subject_id,study_id\na.png,P1,1\nb.png,P2,1\n"


def test_a_report_is_of_its_own_patient(made):
    """Where studies are numbered anew with each patient, a text reaches the study of its subject only."""
    found = made(TWO, reports="subject_id,study_id,text\nP1,1,one\nP2,1,two\n")
    assert [record.report for record in found.values()] == ["one", "two"]


def test_a_report_of_nobody_knows_whom_is_refused(made):
    """A study id that two subjects share, in reports without a subject, is an error that says what to add."""
    with pytest.raises(DataError, match=r"study '1' is of 2 subjects in metadata\.csv; next: add a column subject_id"):
        made(TWO, reports="study_id,text\n1,one\n")
    assert made(TWO, reports="image,text\nb.png,two\n")["b"].report == "two"


def test_reports_of_subjects_that_are_not_used_are_not_mixed(made):
    """With subject_ids off, a study under which the reports have two subjects is refused."""
    with pytest.raises(DataError, match=r"study '1' is of several subjects, and subject_ids is off"):
        made(TWO, options={"subject_ids": False}, reports="subject_id,study_id,text\nP1,1,one\nP2,1,two\n")


def test_reports_of_other_images_are_told(made, capsys):
    """Reports that no image of the table belongs to are counted on stderr with the first of them; the others are read."""
    found = made(TWO.replace("P2,1", "P2,2"), reports="study_id,text\n1,one\n7,seven\n8,eight\n")
    assert found["a"].report == "one"
    assert "2 of 3 reports are of no image in metadata.csv, such as that of 7" in capsys.readouterr().err


FOLDERS = "image,subject_id\np1/001.png,P1\np2/001.png,P2\n"
STRUCTURES = "structure,mask_file\nlungs,{stem}.png\n"


def test_masks_lie_in_folders_like_the_images(made):
    """`{stem}` stands for the path of the image, and an image of a subfolder finds the mask in the folder of the same name."""
    found = made(FOLDERS, structures=STRUCTURES, masks=("p1/001.png", "p2/001.png"))
    assert [record.masks[0].path.parent.name for record in found.values()] == ["p1", "p2"]


def test_one_mask_is_not_that_of_two_images(made):
    """A mask that `{stem}` would give to two images of one name is an error that names both."""
    with pytest.raises(DataError, match=r"the mask '001\.png' is that of 'p1/001\.png' and of 'p2/001\.png'"):
        made(FOLDERS, structures=STRUCTURES, masks=("001.png",))


def test_masks_of_no_image_are_named(made):
    """A row of structures.csv whose image is not listed, or whose pattern fits no file, is an error; the suffix may be left out."""
    masks = ("a.png", "b.png")
    with pytest.raises(DataError, match=r"the image 'c\.png' of 'lungs' is not in metadata\.csv; expected like 'a\.png'"):
        made(TWO, structures="structure,mask_file,image\nlungs,a.png,c.png\n", masks=masks)
    with pytest.raises(DataError, match=r"'{stem}_mask\.png' of 'lungs' is the mask of no image; got \['a\.png', 'b\.png'\]"):
        made(TWO, structures="structure,mask_file\nlungs,{stem}_mask.png\n", masks=masks)
    assert len(made(TWO, structures="structure,mask_file,image\nlungs,b.png,b\n", masks=masks)["b"].masks) == 1


def test_names_without_a_suffix_keep_their_numbers(made):
    """Files named by UIDs, which end in a number after a dot, are images of their own; a suffix of a picture is none of the id."""
    found = made("image,subject_id\n1.2.840.1,P1\n1.2.840.2,P2\nx/1.2.840.3.DCM,P3\n")
    assert list(found) == ["1.2.840.1", "1.2.840.2", "x/1.2.840.3"]


@pytest.mark.parametrize("name", ['""', ".", "/"])
def test_an_image_without_a_name_is_an_empty_one(made, name):
    """A cell without a file name is an error with its line, also where images are their own patients."""
    with pytest.raises(DataError, match=r"empty image in line 3"):
        made(f"image\na.png\n{name}\n", options={"subject_ids": False})
