"""MIMIC-CXR, CheXpert, ChestX-ray14, PadChest and BRAX: their owners' layouts and codings, against the pictures they were made of."""

import gzip
import json
import math
import shutil
import zipfile

import numpy as np
import pandas as pd
import pytest

from radbench.datasets import fixtures, mimic_sections, padchest
from radbench.errors import DataError

# ------------------------------------------------------------ MIMIC-CXR


def test_mimic_records_are_the_tables_rows(written, listed, pictures):
    """Ids, split, view and the four label values of every image are those that were written, from plain and .gz tables."""
    records = listed("mimic_cxr", written("mimic_cxr"))
    assert len(records) == len(pictures)
    views = {"PA": "PA", "AP": "AP", "LATERAL": "LATERAL", "LL": "LATERAL", "": "UNKNOWN"}
    splits = {"train": "train", "validate": "val", "test": "test"}
    values = {"1.0": 1, "0.0": 0, "-1.0": -1}
    for picture in pictures:
        image, subject, study = fixtures.mimic_ids(picture)
        record = records[image]
        assert (record.patient_id, record.study_id) == (subject, study)
        assert record.view == views[fixtures.mimic_view(picture)] and record.split == splits[fixtures.mimic_split(picture.patient)]
        if picture.patient == 3:  # a study without text has no row of labels
            assert all(math.isnan(value) for value in record.labels.values())
            continue
        first = next(other for other in pictures[::-1] if fixtures.mimic_ids(other)[2] == study)
        for number, name in enumerate(fixtures.MIMIC_LABELS.split(",")):
            wanted = values.get(fixtures.four_values(first, name, number))
            assert record.labels[name] == wanted or (wanted is None and math.isnan(record.labels[name]))
    assert {value for record in records.values() for value in record.labels.values() if not math.isnan(value)} == {1, 0, -1}


def test_mimic_reports_are_the_findings_by_the_official_rules(written, listed, pictures):
    """Repeated, joined, empty, untitled and misnamed sections give what the owner's scripts give; two images share a study's text."""
    records = listed("mimic_cxr", written("mimic_cxr"))
    of = {picture.patient: records[fixtures.mimic_ids(picture)[0]] for picture in pictures[::-1]}
    text = {picture.patient: " ".join(picture.report.split()) for picture in pictures[::-1]}
    assert of[0].report == text[0] and of[1].report == text[1] and of[7].report == text[7]
    assert of[2].report == of[3].report == of[4].report == of[5].report == ""
    studies = [fixtures.mimic_ids(picture)[2] for picture in pictures]
    shared = next(study for study in studies if studies.count(study) == 2 and study not in (of[2].study_id, of[3].study_id))
    assert len({record.report for record in records.values() if record.study_id == shared}) == 1


def test_mimic_impressions_sectioned_tables_and_no_reports(copied, listed, pictures):
    """Another section, and a user's mimic_cxr_sectioned.csv in place of the texts, are read; `none` reads no report."""
    root = copied("mimic_cxr")
    first, joined = (fixtures.mimic_ids(next(p for p in pictures if p.patient == number)) for number in (0, 2))
    records = listed("mimic_cxr", root, section="impression")
    assert records[first[0]].report == "No acute process." and records[joined[0]].report
    (root / "mimic-cxr-reports.zip").unlink()
    fixtures.put(root / "mimic_cxr_sectioned.csv",
                 f'study,impression,findings,last_paragraph,comparison\ns{first[2]},,"Clear\n lungs.",,\n')  # fmt: skip
    records = listed("mimic_cxr", root)
    assert records[first[0]].report == "Clear lungs." and records[joined[0]].report == ""
    assert not any(record.report for record in listed("mimic_cxr", root, section="none").values())


SECTIONS = {
    "a header needs one blank before it": ("\n FINDINGS:  a\nIMPRESSION:  b\n", {"findings": "a\nIMPRESSION:  b"}),
    "lower case is no header": ("\n FINDINGS:  a\n Impression: b\n", {"findings": "a\n Impression: b"}),
    "the last of two counts": ("\n FINDINGS:  a\n\n FINDINGS:  b\n", {"findings": "b"}),
    "an empty one does not": ("\n FINDINGS:  a\n\n FINDINGS:  \n \n", {"findings": "a"}),
    "findings and impression is an impression": ("\n FINDINGS AND IMPRESSION:  a\n", {"impression": "a"}),
    "a misspelt header": ("\n FINIDNGS:  a\n IMPRESSOIN:  b\n", {"findings": "a", "impression": "b"}),
    "a title of views is findings": ("\n PORTABLE AP CHEST:  a\n", {"findings": "a"}),
    "without both, the text after the first paragraph": ("\n COMPARISON:  a\n \n b\n", {"comparison": "a", "last_paragraph": "b"}),
    "no header at all": ("clear lungs", {}),
}


@pytest.mark.parametrize("case", SECTIONS)
def test_sections_of_a_report(case):
    """Each rule of the official scripts (compared with them on 200,000 made-up reports) holds on its example."""
    text, wanted = SECTIONS[case]
    assert mimic_sections.sections("s50000000", text) == wanted


def test_studies_that_the_official_scripts_cannot_cut_have_no_sections():
    """The owner lists 54 studies whose sections are misnamed or cut by hand; no findings are written for them."""
    assert len(mimic_sections.WITHOUT_SECTIONS) == 54
    assert mimic_sections.sections("s50913680", "\n FINDINGS:  a\n") == {}


def test_mimic_dicom_of_both_polarities_are_one_picture(written, indexed, pictures):
    """A MONOCHROME1 file of a picture has the same pixels as its MONOCHROME2 file: the second is quarantined as a duplicate."""
    index, quarantine = indexed("mimic_cxr", written("mimic_cxr_dicom"))
    first = fixtures.mimic_ids(pictures[0])[0]
    assert list(quarantine.values()) == [f"duplicate: the same pixels as {first}"]
    assert set(index["photometric"]) == {"MONOCHROME1", "MONOCHROME2"} and all(kind.startswith("DICOM") for kind in index["source_format"])
    for row in (1, 3, 40):
        wanted = next(p for p in pictures if fixtures.mimic_ids(p)[0] == index["image_id"][row]).deep.astype(float)
        np.testing.assert_array_equal(index.pixels(row), np.round((wanted - wanted.min()) / np.ptp(wanted) * 65535))
    assert set(index["view"]) == {"PA", "AP"} and (index["report"] != "").any()  # from headers, and from the texts beside the studies


def test_mimic_options_source_frontal_and_labeler(copied, listed, pictures):
    """The source can be insisted on, frontal leaves AP and PA, and the radiologists' table calls Lung Opacity its owner's name."""
    root = copied("mimic_cxr")
    with pytest.raises(DataError, match="no dicom image below it"):
        listed("mimic_cxr", root, source="dicom")
    assert {record.view for record in listed("mimic_cxr", root, frontal_only=True).values()} == {"AP", "PA"}
    records = listed("mimic_cxr", root, labeler="radiologist", labels=("Lung Opacity",))
    read = {record.split for record in records.values() if not math.isnan(record.labels["Lung Opacity"])}
    assert read == {"test"} and {record.labels["Lung Opacity"] for record in records.values()} >= {0.0, 1.0}
    (root / "mimic-cxr-2.0.0-chexpert.csv.gz").unlink()
    assert next(iter(listed("mimic_cxr", root).values())).labels == {}
    with pytest.raises(DataError, match="no table of chexpert labels"):
        listed("mimic_cxr", root, labels=("Edema",))


def test_mimic_flat_images_and_unpacked_tables_are_found(copied, listed):
    """All images in one folder of another name, and tables without .gz one folder down, give the same records."""
    root = copied("mimic_cxr")
    before = listed("mimic_cxr", root)
    (root / "tables").mkdir()
    for path in root.glob("*.csv.gz"):
        (root / "tables" / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    (root / "jpgs").mkdir()
    for path in list(root.glob("files/*/*/*/*.jpg")):
        path.rename(root / "jpgs" / path.name)
    after = listed("mimic_cxr", root)
    assert {name: (r.labels["Edema"], r.split, r.report) for name, r in before.items()}.keys() == after.keys()
    assert all(record.report == after[name].report and record.split == after[name].split for name, record in before.items())
    assert sum(record.path.parent.name == "jpgs" for record in after.values()) == len(after) - 1  # one is missing


# ------------------------------------------------------------ CheXpert


def test_chexpert_paths_are_found_whatever_the_folder_is_called(written, listed, pictures):
    """Rows that begin with CheXpert-v1.0-small/ are found in a folder called `unpacked`; views, sex and age come from the table."""
    root = written("chexpert")
    records = listed("chexpert", root)
    assert len(records) == len(pictures) and sum(not record.path.exists() for record in records.values()) == 1
    odd = records[f"patient{pictures[4].patient + 1:05d}/study{pictures[4].study}/view{pictures[4].image}_frontal"]
    assert odd.sex == "" and math.isnan(odd.age)  # Unknown, 0
    lateral = [record for record in records.values() if record.image_id.endswith("lateral")]
    assert lateral and all(record.view == "LATERAL" for record in lateral)
    assert not [record for record in listed("chexpert", root, frontal_only=True).values() if record.view == "LATERAL"]
    values = {split: {v for r in records.values() if r.split == split for v in map(str, r.labels.values())} for split in ("train", "val")}
    assert values == {"train": {"1.0", "0.0", "-1.0", "nan"}, "val": {"1.0", "0.0"}}


def test_chexpert_in_batch_archives_and_with_the_test_set(copied, listed, indexed):
    """Batches as zip files and CheXlocalize's test table are read; its Airspace Opacity is Lung Opacity."""
    root = copied("chexpert")
    for number, folder in enumerate(sorted((root / "unpacked" / "train").iterdir())):
        batch = root / f"CheXpert-v1.0 batch {2 + number % 2} (train {1 + number % 2}).zip"
        with zipfile.ZipFile(batch, "a") as archive:
            for path in folder.rglob("*.jpg"):
                archive.write(path, str(path.relative_to(root / "unpacked" / "train")))
    shutil.rmtree(root / "unpacked" / "train")
    image = next(root.rglob("valid/*/*/*.jpg"))
    target = root / "CheXlocalize/CheXpert/test/patient64741/study1/view1_frontal.jpg"
    target.parent.mkdir(parents=True)
    target.write_bytes(image.read_bytes())
    table = "Path,Airspace Opacity,Edema\ntest/patient64741/study1/view1_frontal.jpg,1,0\n"
    fixtures.put(root / "CheXlocalize/CheXpert/test_labels.csv", table)
    records = listed("chexpert", root)
    test = records["patient64741/study1/view1_frontal"]
    assert (test.split, test.view, test.labels["Lung Opacity"], test.labels["Edema"]) == ("test", "FRONTAL", 1, 0)
    assert math.isnan(test.labels["Fracture"]) and test.path == target
    index, quarantine = indexed("chexpert", root)
    assert any(".zip/patient" in path for path in index["path"]) and len(quarantine) == 3  # missing, truncated, the copy


def test_chexpert_faults_are_named(copied, listed):
    """A path of another form, another label value and a second copy of the tables are each one named error."""
    root = copied("chexpert")
    table = root / "unpacked" / "train.csv"
    text = table.read_text()
    table.write_text(text.replace("/view1_frontal.jpg", "/frontal.jpg", 1))
    with pytest.raises(DataError, match=r"train\.csv: the path .*/frontal\.jpg'; expected …/patientNNNNN"):
        listed("chexpert", root)
    table.write_text(text.replace(",-1.0", ",2", 1))
    with pytest.raises(DataError, match="has value '2' in line"):
        listed("chexpert", root)
    table.write_text(text)
    shutil.copytree(root / "unpacked", root / "again")
    with pytest.raises(DataError, match="train.csv is there 2 times"):
        listed("chexpert", root)


# ------------------------------------------------------------ ChestX-ray14


@pytest.mark.parametrize("version", ["nih_cxr14", "nih_cxr14_2020"])
def test_nih_rows_with_commas_in_brackets_are_read_whole(written, listed, pictures, version):
    """Both tables, one with an empty last column, give ids, findings joined by |, ages (411 is none) and the owner's split."""
    records = listed("nih_cxr14", written(version))
    rows = {row[0].removesuffix(".png"): row for row in fixtures.nih_rows(pictures)}
    assert records.keys() == rows.keys()
    for name, (_, text, _, patient, age, sex, view, *_) in rows.items():
        record = records[name]
        assert {label for label, value in record.labels.items() if value == 1} == set(text.split("|"))
        assert (record.patient_id, record.view, record.sex) == (f"{patient:08d}", view, sex)
        assert record.split == ("test" if (patient - 1) % 4 == 3 else "train")
        if age <= 120:
            assert record.age == age
        else:
            assert math.isnan(record.age) if version == "nih_cxr14" else record.age == 95
    assert any("|" in row[1] for row in rows.values())


def test_nih_pictures_with_four_channels_are_grey(written, indexed, pictures):
    """The file with four channels is stored as the picture that it was made of."""
    index, _ = indexed("nih_cxr14", written("nih_cxr14"))
    name = fixtures.nih_rows(pictures)[6][0].removesuffix(".png")
    np.testing.assert_array_equal(index.pixels(list(index["image_id"]).index(name)), pictures[6].grey)


def test_nih_tar_archives_are_read_in_place(copied, listed, indexed):
    """The parts as downloaded, images_001.tar.gz and so on, index to the same images as the extracted ones."""
    root = copied("nih_cxr14")
    before = {name for name, record in listed("nih_cxr14", root).items()}
    for number in (1, 2):
        folder = root / f"images_{number:03d}" / "images"
        body = fixtures.tarred({f"images/{path.name}": path.read_bytes() for path in sorted(folder.iterdir())})
        fixtures.put(root / f"images_{number:03d}.tgz", body)
        shutil.rmtree(root / f"images_{number:03d}")
    index, quarantine = indexed("nih_cxr14", root)
    assert set(index["image_id"]) < before and len(index) == len(before) - 2 and len(quarantine) == 2
    assert all(path.startswith("images_00") and ".tgz/images/" in path for path in index["path"])


def test_nih_faults_are_named(copied, listed):
    """An unknown finding, an image in neither list, and one list without the other are named; the split can be declined."""
    root = copied("nih_cxr14_2020")
    table, split = root / "Data_Entry_2017_v2020.csv", root / "test_list.txt"
    text = table.read_text()
    table.write_text(text.replace("Hernia", "Infiltrate", 1))
    with pytest.raises(DataError, match="unknown finding 'Infiltrate'.*did you mean 'Infiltration'"):
        listed("nih_cxr14", root)
    table.write_text(text)
    split.write_text("\n".join(split.read_text().split()[1:]))
    with pytest.raises(DataError, match="1 images are in neither list, such as"):
        listed("nih_cxr14", root)
    split.unlink()
    with pytest.raises(DataError, match="no test_list.txt"):
        listed("nih_cxr14", root)
    assert {record.split for record in listed("nih_cxr14", root, official_split=False).values()} == {""}
    table.unlink()
    with pytest.raises(DataError, match=r"no Data_Entry_2017_v2020\.csv or Data_Entry_2017\.csv; got"):
        listed("nih_cxr14", root)


# ------------------------------------------------------------ PadChest


def test_padchest_pixels_are_deep_and_upright(written, indexed, pictures):
    """Every stored image is the stretch of its sixteen bits, white dense, also where the file holds 0 = white; from folders and zip."""
    index, _ = indexed("padchest", written("padchest"))
    of = {f"s{p.patient}x{p.study}": p for p in pictures}
    assert set(index["bits"]) == {16} and set(index["photometric"]) == {"MONOCHROME1", "MONOCHROME2"}
    number = {fixtures_id(p): p for p in pictures}
    for row, name in enumerate(index["image_id"]):
        wanted = number[name].deep.astype(float)
        np.testing.assert_allclose(index.pixels(row), np.round((wanted - wanted.min()) / np.ptp(wanted) * 65535), atol=1)
    assert any(path.startswith("2.zip/") for path in index["path"]) and of


def test_padchests_rows_of_monochrome1_may_be_left_as_they_are(written, listed):
    """With `invert: false` no row is inverted; by default those are that the table calls MONOCHROME1."""
    root = written("padchest")
    assert {record.inverted for record in listed("padchest", root).values()} == {True, False}
    assert {record.inverted for record in listed("padchest", root, invert=False).values()} == {False}


def fixtures_id(picture):
    digits = fixtures.identifier("padchest", picture.number, digits=20)
    return (fixtures.PADCHEST_BROKEN if picture.number == 12 else f"2168401113669640{digits}").removesuffix(".png")


def test_padchest_lists_views_and_children(written, listed, pictures):
    """Lists with stray blanks and both quotes are read, a blank stays blank, COSTAL and EXCLUDE are left out, ages come from years."""
    root = written("padchest")
    records = listed("padchest", root, labels=("pleural effusion", "NSG tube"))
    for picture in pictures:
        name = fixtures_id(picture)
        if picture.number % 40 in (13, 14):
            assert name not in records
            continue
        label = records[name].labels["pleural effusion"]
        if picture.number == 3:
            assert math.isnan(label) and math.isnan(records[name].labels["NSG tube"])
        elif picture.number == 16:
            assert (label, records[name].labels["NSG tube"]) == (0, 1)
        else:
            assert label == ("Pleural effusion" in picture.findings)
        assert records[name].age == picture.age and records[name].sex == picture.sex
    assert {record.view for record in records.values()} == {"PA", "AP", "AP_SUPINE", "LATERAL"}
    assert "LATERAL" not in {record.view for record in listed("padchest", root, frontal_only=True).values()}
    assert len(records) - len(listed("padchest", root, pediatric=False)) == 1
    with pytest.raises(DataError, match="no label 'pleural efusion' occurs; next: did you mean 'pleural effusion'"):
        listed("padchest", root, labels=("pleural efusion",))
    assert "unchanged" not in padchest.known_labels(root) and "cardiomegaly" in padchest.known_labels(root)


def test_padchest_file_known_to_be_broken_is_reported_and_not_opened(written, indexed):
    """A file of the public list of damaged ones costs a quarantine row, whatever lies at its place."""
    _, quarantine = indexed("padchest", written("padchest"))
    assert quarantine[f"0/{fixtures.PADCHEST_BROKEN}"] == "on the list of files known to be missing or damaged"
    assert len(padchest.BROKEN) == 21 and (written("padchest") / "0" / fixtures.PADCHEST_BROKEN).is_file()


@pytest.mark.parametrize("text", ["__import__('os').system('x')", "['a'", "['a' 'b']", "['a'] + ['b']", "{'a'}", "['a', b]"])
def test_padchest_lists_are_data_and_nothing_else(text):
    """What is not a plain list of quoted words is refused, not evaluated."""
    with pytest.raises(DataError, match="not a list of labels"):
        padchest.listed_words("table.csv", text)


def test_padchest_list_of_nothing_is_not_a_blank():
    """An empty list says that nothing was found; a blank cell says nothing; nan among words is no word."""
    assert padchest.listed_words("t", "[]") == frozenset() and padchest.listed_words("t", "") is None
    assert padchest.listed_words("t", "['a', nan, \"b's\" ]") == {"a", "b's"}


# ------------------------------------------------------------ BRAX


def test_brax_blank_views_are_unknown_and_ages_numbers(written, listed, pictures):
    """A blank view is not frontal, oblique and decubitus are OTHER, "85 or more" is 85, and no split is made up."""
    records = listed("brax", written("brax"))
    assert len(records) == len(pictures)
    views = [record.view for record in records.values()]
    assert {views[5], views[9], views[12], views[13], views[18]} == {"UNKNOWN", "OTHER", "LATERAL"}
    assert (views[5], views[9], views[12]) == ("UNKNOWN", "OTHER", "LATERAL")
    ages = [record.age for record in records.values()]
    assert ages[2] == 85 and ages[0] == 5 * (pictures[0].age // 5)
    assert {record.split for record in records.values()} == {""}
    assert len({record.patient_id for record in records.values()}) == fixtures.PATIENTS
    assert set(pd.Series([r.view for r in listed("brax", written("brax"), frontal_only=True).values()])) == {"PA", "AP"}


def test_brax_dicom_without_suffix_is_read(written, indexed):
    """Files with and without .dcm, of both polarities, are all found and decoded."""
    index, quarantine = indexed("brax", written("brax_dicom"))
    assert quarantine == {} and all(kind.startswith("DICOM") for kind in index["source_format"])
    suffixes = {path.endswith(".dcm") for path in index["path"]}
    assert suffixes == {True, False}


# ------------------------------------------------------------ all of them

BROKEN = {"mimic_cxr": 2, "chexpert": 2, "nih_cxr14": 2, "padchest": 3, "brax": 2, "vindr_cxr": 2, "rsna": 2, "iu_xray": 2,
          "vindr_ribcxr": 2, "mimic_segmentation": 2}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_missing_and_truncated_files_are_reported_and_skipped(written, listed, indexed, name):
    """A listed file that is missing and one that is cut off are each one row of the quarantine, and every other image is indexed."""
    index, quarantine = indexed(name, written(name))
    assert len(quarantine) == BROKEN[name] and len(index) == len(listed(name, written(name))) - len(quarantine)
    reasons = " ".join(quarantine.values())
    assert "cannot be read (No such file" in reasons
    assert any(word in reasons for word in ("truncated", "cannot be decoded", "not an image"))
    assert json.dumps(index.meta.facts["splits"])


def test_mimic_files_that_are_not_there_are_not_left_out_for_their_view(copied, indexed, listed):
    """Without the metadata table a missing DICOM is quarantined, and not left out as one of an unknown view; too many are an error."""
    root = copied("mimic_cxr_dicom")
    for table in root.rglob("*metadata.csv*"):
        table.unlink()
    whole = listed("mimic_cxr", root, frontal_only=True)
    gone = next(record for record in whole.values() if record.path.exists())
    gone.path.unlink()
    assert gone.image_id in listed("mimic_cxr", root, frontal_only=True)
    for record in list(whole.values())[: len(whole) // 2]:
        record.path.unlink(missing_ok=True)
    with pytest.raises(DataError, match="images cannot be used"):
        indexed("mimic_cxr", root, frontal_only=True)


def test_a_header_without_its_preamble_is_read(copied, listed):
    """A DICOM whose preamble a de-identifier has cut off has the view of its header, as it has the pixels."""
    root = copied("mimic_cxr_dicom")
    for table in root.rglob("*metadata.csv*"):
        table.unlink()
    before = {name: record.view for name, record in listed("mimic_cxr", root).items()}
    for file in root.rglob("*.dcm"):
        file.write_bytes(file.read_bytes()[132:])
    assert {name: record.view for name, record in listed("mimic_cxr", root).items()} == before and "PA" in before.values()


def test_mimic_pictures_without_views_are_not_frontal(copied, listed):
    """JPEGs without the metadata table tell no view: under frontal_only they are left out, and only a missing one goes on."""
    root = copied("mimic_cxr")
    for table in root.rglob("*metadata.csv*"):
        keys = pd.read_csv(table, dtype=str)[["subject_id", "study_id", "dicom_id"]]
        keys.to_csv(root / "cxr-record-list.csv.gz", index=False)
        table.unlink()
    kept = listed("mimic_cxr", root, frontal_only=True)
    assert len(listed("mimic_cxr", root)) > len(kept) and not [record for record in kept.values() if record.path.exists()]


def test_mimic_takes_the_pictures_of_which_most_are_there(copied, listed):
    """One stray JPEG beside the DICOM files does not make every image a missing JPEG."""
    root = copied("mimic_cxr_dicom")
    fixtures.put(root / "figure.jpg", b"x")
    assert {record.path.suffix for record in listed("mimic_cxr", root).values()} == {".dcm"}
