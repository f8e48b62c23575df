"""Tidy folders become an index and an image store; what is broken is named."""

import errno
import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from radbench import artifact, splits
from radbench import index as stage
from radbench.datasets import fixtures
from radbench.datasets import folder as folder_module
from radbench.errors import ConfigError, DataError, run_entry_point
from radbench.image import decode
from radbench.index import Spec, build_index
from radbench.store import Index


@pytest.fixture
def folder(phantom_folder, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(phantom_folder, tmp_path / "folder")


def index_of(root, tmp_path, **spec):
    options = spec.pop("options", {"labels": ["Cardiomegaly"]})
    build_index("d", Spec(reader="folder", root=str(root), options=options, **spec), tmp_path / "results")
    return Index(tmp_path / "results" / "index" / "d")


def quarantine(tmp_path):
    return pd.read_csv(tmp_path / "results" / "index" / "d" / "quarantine.csv")


def edit_table(root, change):
    table = pd.read_csv(root / "metadata.csv", dtype=str, keep_default_na=False)
    change(table).to_csv(root / "metadata.csv", index=False)


def test_stored_pixels_are_the_files_pixels(folder, tmp_path):
    """Every stored image equals what Pillow reads from its file (8-bit), or its min-max stretch (16-bit)."""
    index = index_of(folder, tmp_path)
    kinds = set()
    for row in range(len(index)):
        raw = np.asarray(Image.open(folder / index["path"][row])).astype(np.float64)
        kinds.add(int(index["bits"][row]))
        if index["bits"][row] == 16:
            raw = np.round((raw - raw.min()) / (raw.max() - raw.min()) * 65535)
        np.testing.assert_array_equal(index.pixels(row), raw)
    assert kinds == {8, 16}


def test_stored_masks_are_the_files_masks(folder, tmp_path):
    """The stored bit of a structure equals the bit of the mask file that structures.csv names."""
    index = index_of(folder, tmp_path)
    table = pd.read_csv(folder / "structures.csv")
    for row in (0, len(index) - 1):
        for entry in table.to_dict("records"):
            name = entry["mask_file"].replace("{stem}", index["image_id"][row])
            wanted = (np.asarray(Image.open(folder / "masks" / name)) >> entry["bit"]) & 1
            got = (index.mask(row) >> np.uint32(index.structures.index(entry["structure"]))) & 1
            np.testing.assert_array_equal(got, wanted)


def test_a_broken_file_moves_nobody(folder, tmp_path):
    """In a copy with one broken file every other image has the split and the fold that it has in a whole copy."""
    whole, broken = index_of(folder, tmp_path / "whole"), sorted((folder / "images").iterdir())[7]
    broken.write_bytes(broken.read_bytes()[:200])
    cut = index_of(folder, tmp_path / "cut")
    wanted = {name: rest for name, *rest in zip(whole["image_id"], whole["split"], whole["fold"], strict=True)}
    assert wanted.pop(broken.stem) and wanted == {
        name: rest for name, *rest in zip(cut["image_id"], cut["split"], cut["fold"], strict=True)}  # fmt: skip


def test_splits_do_not_depend_on_the_name_of_the_data_set(folder, tmp_path):
    """The same folder under two names in the configuration has the same splits and folds."""
    tables = []
    for name in ("rsna", "rsna_512"):
        build_index(name, Spec("folder", root=str(folder), options={"labels": ["Cardiomegaly"]}), tmp_path / "results")
        tables.append(Index(tmp_path / "results" / "index" / name))
    for column in ("image_id", "split", "fold"):
        np.testing.assert_array_equal(tables[0][column], tables[1][column])


def test_an_owners_test_split_keeps_its_copies(folder, tmp_path):
    """Of equal pictures of an owner's split both test images stay, and the training image, which comes first, does not."""
    edit_table(folder, lambda table: table.assign(split=["train"] * 10 + ["test"] * (len(table) - 10), subject_id=table.index, mask=""))
    for name in ("structures.csv", "reports.csv"):
        (folder / name).unlink()
    names = pd.read_csv(folder / "metadata.csv")["image"].tolist()
    for name in (names[20], names[30]):
        shutil.copy(folder / "images" / names[3], folder / "images" / name)
    index = index_of(folder, tmp_path)
    stems = [Path(name).stem for name in names]
    assert index["image_id"].tolist() == [stem for stem in stems if stem != stems[3]]
    assert quarantine(tmp_path)["reason"].tolist() == [f"duplicate: the same pixels as {stems[20]}"]


def test_too_many_broken_masks_are_an_error(folder, tmp_path):
    """Masks that are lost beyond max_broken stop the index, as images do; a few are rows of the quarantine."""
    files = sorted((folder / "masks").glob("*ribs_left.png"))
    files[0].write_bytes(b"no picture")
    assert len(index_of(folder, tmp_path)) > 0 and "broken mask" in quarantine(tmp_path)["reason"][0]
    for file in files[: len(files) // 2]:
        file.write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"masks cannot be used; got .*broken mask.*at most 5%"):
        index_of(folder, tmp_path / "again")


def test_a_run_that_dies_after_the_last_shard_decodes_nothing_again(folder, tmp_path, monkeypatch):
    """When all images are decoded and the process dies, with the table or while files are hashed, the next run opens no image."""
    for module, name in ((stage, "_facts"), (artifact, "_hash_files")):
        with monkeypatch.context() as patch, pytest.raises(MemoryError):
            patch.setattr(module, name, lambda *_: (_ for _ in ()).throw(MemoryError()))
            index_of(folder, tmp_path)
        with monkeypatch.context() as patch:
            patch.setattr(stage, "decode", lambda *_: pytest.fail("decoded again"))
            index = index_of(folder, tmp_path)
        assert not list(index.meta.payload.glob("part-*"))
        shutil.rmtree(tmp_path / "results")


def test_splits_are_published_beside_the_index(folder, tmp_path):
    """The id lists lie in `splits/` of the index's own folder, where another group's configuration finds them."""
    index = index_of(folder, tmp_path)
    listed = splits.read(tmp_path / "results" / "index" / "d" / "splits")
    assert listed == dict(zip(index["image_id"], index["split"], strict=True))


def test_no_patient_is_in_two_splits_or_folds(folder, tmp_path):
    """Our own split and the folds go by patient, cover train and val, and leave test out."""
    index = index_of(folder, tmp_path)
    frame = pd.DataFrame({name: index[name] for name in ("patient_id", "split", "fold")})
    assert (frame.groupby("patient_id")[["split", "fold"]].nunique() == 1).all().all()
    assert set(frame.fold[frame.split == "test"]) == {-1} and set(frame.fold[frame.split != "test"]) == {0, 1, 2, 3, 4}
    shares = frame.drop_duplicates("patient_id").split.value_counts(normalize=True)
    assert shares["train"] == pytest.approx(0.7, abs=0.02) and shares["test"] == pytest.approx(0.2, abs=0.02)


def test_published_split_lists_hold_every_image_once(folder, tmp_path):
    """splits/*.txt together list every image exactly once."""
    index = index_of(folder, tmp_path)
    lines = [line for path in (index.meta.payload / "splits").iterdir() for line in path.read_text().split()]
    assert sorted(lines) == sorted(index["image_id"])


def test_parts_are_counted_by_split_and_site(folder, tmp_path):
    """The facts count images, patients and views of every split and site, and these add up to the whole."""
    edit_table(folder, lambda rows: rows.assign(site=["A" if int(name, 36) % 2 else "B" for name in rows["subject_id"].str[-1]]))
    meta = index_of(folder, tmp_path).meta
    index = pd.read_parquet(meta.file("index.parquet"))
    for split, of_split in meta.facts["parts"].items():
        for site, counts in of_split.items():
            part = index[(index["split"] == split) & (index["site"] == site)]
            views = [int((part["view"] == "LATERAL").sum()), int(part["view"].isin(["PA", "AP", "AP_SUPINE", "FRONTAL"]).sum())]
            assert [counts["lateral"], counts["frontal"]] == views
            assert [counts["images"], counts["patients"]] == [len(part), part["patient_id"].nunique()]
    cells = [counts for of_split in meta.facts["parts"].values() for counts in of_split.values()]
    assert all(sum(counts[fact] for counts in cells) == meta.facts[fact] for fact in ("images", "patients", "frontal", "lateral"))
    assert len(cells) > 3


def test_a_given_split_is_kept(folder, tmp_path):
    """A split column decides; where it has no val, a tenth of the training patients becomes val."""

    def give(table):
        table["split"] = np.where(table["subject_id"] < "p00024", "train", "test")
        return table

    edit_table(folder, give)
    index = index_of(folder, tmp_path)
    assert set(index["split"][index["patient_id"] >= "d:p00024"]) == {"test"}
    assert len(set(index["patient_id"][index["split"] == "val"])) == 2


DAMAGE = {
    "empty file": lambda path: path.write_bytes(b""),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "not an image": lambda path: path.write_text("<html>login required</html>"),
    "absurd size": lambda path: Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4)).save(path),
    "constant image": lambda path: Image.fromarray(np.full((96, 96), 7, dtype=np.uint8)).save(path),
    "cannot be read": lambda path: path.unlink(),
}


@pytest.mark.parametrize("reason", DAMAGE)
def test_a_broken_file_costs_one_quarantine_row(folder, tmp_path, reason):
    """A damaged image is left out with its name and reason, and the others are indexed."""
    victim = sorted((folder / "images").iterdir())[3]
    DAMAGE[reason](victim)
    index = index_of(folder, tmp_path)
    rows = quarantine(tmp_path)
    assert list(rows["file"]) == [f"images/{victim.name}"] and reason in rows["reason"][0]
    assert victim.stem not in index["image_id"]


def test_a_duplicate_image_is_quarantined(folder, tmp_path):
    """The same pixels under a second name are indexed once."""
    names = sorted((folder / "images").iterdir())
    shutil.copy(names[0], names[1])
    index = index_of(folder, tmp_path)
    reasons = dict(zip(*(quarantine(tmp_path)[name] for name in ("file", "reason")), strict=True))
    assert reasons[f"images/{names[1].name}"] == f"duplicate: the same pixels as {names[0].stem}"
    assert names[1].stem not in index["image_id"] and names[0].stem in index["image_id"]


def test_a_missing_mask_costs_the_mask_and_not_the_image(folder, tmp_path):
    """An image whose mask file is named and missing stays, without that mask, and the mask is in quarantine."""

    def name_masks(table):
        table["mask"] = table["image"].map(lambda name: name.replace(".png", "__lungs_zones.png"))
        return table

    edit_table(folder, name_masks)
    (folder / "structures.csv").unlink()
    victim = sorted((folder / "images").iterdir())[0].stem
    (folder / "masks" / f"{victim}__lungs_zones.png").unlink()
    index = index_of(folder, tmp_path)
    assert "missing mask" in quarantine(tmp_path)["reason"][0]
    row = list(index["image_id"]).index(victim)
    assert index.mask(row) is None and index.annotated(row) == 0 and index.structures == ["lungs"]


def test_too_many_broken_files_are_an_error(folder, tmp_path):
    """Above five percent the folder is at fault, and no index is left behind."""
    for path in sorted((folder / "images").iterdir())[:6]:
        path.write_bytes(b"")
    name = min(path.name for path in (folder / "images").iterdir())
    with pytest.raises(DataError, match=f"6 of .* images cannot be used; got .*{name}: .*at most 5%"):
        index_of(folder, tmp_path)
    assert not (tmp_path / "results" / "index" / "d" / "meta.json").exists()


TABLE_FAULTS = {
    "no column 'subject_id'": lambda t: t.rename(columns={"subject_id": "subjectid"}),
    "no column 'Cardiomegaly'": lambda t: t.rename(columns={"Cardiomegaly": "cardiomegaly"}),
    "unknown view 'XX'": lambda t: t.assign(view=["XX", *t["view"][1:]]),
    "duplicate image id": lambda t: pd.concat([t, t[:1]]),
    "lie in two splits": lambda t: t.assign(split=np.where(np.arange(len(t)) % 2 == 0, "train", "test"), subject_id="s"),
    "unknown split 'dev'": lambda t: t.assign(split="dev"),
    "split given for 1 of": lambda t: t.assign(split=["train", *[""] * (len(t) - 1)]),
    "has value '2'": lambda t: t.assign(Cardiomegaly="2"),
    "leaves images/": lambda t: t.assign(image=["../metadata.csv", *t["image"][1:]]),
    "empty subject_id": lambda t: t.assign(subject_id=["", *t["subject_id"][1:]]),
}


@pytest.mark.parametrize("message", TABLE_FAULTS)
def test_a_wrong_table_is_a_named_error(folder, tmp_path, message):
    """Each fault of metadata.csv is one DataError that names the file and the fault."""
    edit_table(folder, TABLE_FAULTS[message])
    with pytest.raises(DataError, match=message) as caught:
        index_of(folder, tmp_path)
    assert "metadata.csv" in str(caught.value)


def test_tables_of_spreadsheets_are_read(folder, capsys):
    """Semicolons, spaces around names, labels in words, sexes and ages as people and DICOM write them mean what they say."""
    given = {"age": ["045Y", "006M", "026W", "61", "400", "-3", "x"], "sex": ["m", "Female", "M", "F", "9", "", "male"]}
    words = {"1": "Yes", "0": "FALSE", "-1": "-1", "": ""}

    def change(rows):
        rows = rows.assign(Cardiomegaly=rows["Cardiomegaly"].map(words))
        return rows.assign(**{name: [values[row % 7] for row in range(len(rows))] for name, values in given.items()})

    plain = folder_module.records(folder, folder_module.Options(labels=["Cardiomegaly"]))
    edit_table(folder, change)
    table = folder / "metadata.csv"
    head, _, rest = table.read_text().partition("\n")
    table.write_text(head.replace("Cardiomegaly", " Cardiomegaly ").replace(",", ";") + "\n" + rest.replace(",", ";"))
    records = folder_module.records(folder, folder_module.Options(labels=["Cardiomegaly"]))
    np.testing.assert_equal([record.labels for record in records], [record.labels for record in plain])
    assert [record.sex for record in records[:7]] == ["M", "F", "M", "F", "", "", "M"]
    np.testing.assert_allclose([record.age for record in records[:7]], [45, 0.5, 0.5, 61, np.nan, np.nan, np.nan])
    said = capsys.readouterr().err
    assert "sex of" in said and "such as '9'; expected M, F or O" in said and "such as '400', '-3', 'x'; expected years" in said


def test_findings_are_known_in_any_case(folder):
    """`labels: auto` takes a column that is a finding but for its case, spaces or underscores, under the name that the table has."""
    edit_table(folder, lambda rows: rows.rename(columns={"Cardiomegaly": "cardiomegaly", "Lung Opacity": " Lung_opacity "}))
    assert {"cardiomegaly", "Lung_opacity"} <= set(folder_module.known_labels(folder))


def test_columns_are_known_in_any_case(folder):
    """Capital letters in the table's own columns change no record: a split, a view or a mask is not passed over."""
    edit_table(folder, lambda rows: rows.assign(split="train", age="61", sex="F"))
    plain = folder_module.records(folder, folder_module.Options())
    edit_table(folder, lambda rows: rows.rename(columns={name: name.title() for name in folder_module.OWN_COLUMNS}))
    assert "Split" in (folder / "metadata.csv").read_text() and any(record.masks for record in plain)
    assert [repr(record) for record in folder_module.records(folder, folder_module.Options())] == [repr(record) for record in plain]


@pytest.mark.parametrize("content", [b"\xff\xfei\0m\0", b"im\xe9ge,subject_id\n", b"", b"PK\x03\x04\0\0"])
def test_a_table_that_is_no_text_is_named_when_labels_are_looked_for(folder, content):
    """Whatever a spreadsheet saved as metadata.csv, looking for its label columns is a DataError with the path."""
    (folder / "metadata.csv").write_bytes(content)
    with pytest.raises(DataError, match="metadata.csv"):
        folder_module.known_labels(folder)


@pytest.mark.parametrize("names, said", [({"image": "filename"}, "did you mean 'filename'"), ({"subject_id": "PatientID"}, "'PatientID'"),
                                         ({"image": "x1"}, "every table has `image` and `subject_id`")])  # fmt: skip
def test_required_columns_of_another_name_are_recognised(folder, tmp_path, names, said):
    """What other tables call the two columns is recognised, and no other column is taken for them."""
    edit_table(folder, lambda rows: rows.rename(columns=names))
    with pytest.raises(DataError, match=said):
        index_of(folder, tmp_path)


def test_a_missing_root_is_a_gap(tmp_path):
    """A data set that is not there is absent with the way to get it, not an error."""
    meta = build_index("d", Spec(reader="folder", root=str(tmp_path / "none"), how_to_get="ask PhysioNet"), tmp_path / "results")
    assert meta.absent and "data not present" in meta.fields["reason"] and "ask PhysioNet" in meta.fields["reason"]


def test_labels_keep_blank_zero_and_uncertain_apart(folder, tmp_path):
    """1, 0, -1 and empty stay four different values in the index."""
    edit_table(folder, lambda t: t.assign(Cardiomegaly=["1", "0", "-1", "", *t["Cardiomegaly"][4:]]))
    values = index_of(folder, tmp_path)["labels.Cardiomegaly"][:4]
    assert list(values[:3]) == [1, 0, -1] and np.isnan(values[3])


def test_monochrome1_and_monochrome2_of_one_picture_are_equal(tmp_path):
    """An inverted DICOM (MONOCHROME1) and its positive give the same pixels, 1 = white."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    picture = np.random.default_rng(0).integers(0, 4096, (64, 48)).astype(np.uint16)
    picture[0, 0], picture[0, 1] = 0, 4095
    for name, photometric, values in (("one.dcm", "MONOCHROME1", 4095 - picture), ("two.dcm", "MONOCHROME2", picture)):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = ExplicitVRLittleEndian, "1.2.3", "1.2.3.4"
        dataset = FileDataset(str(tmp_path / name), {}, file_meta=meta, preamble=b"\0" * 128)
        dataset.Rows, dataset.Columns = values.shape
        dataset.SamplesPerPixel, dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 1, 16, 12, 11, 0
        dataset.PhotometricInterpretation, dataset.PixelData = photometric, values.tobytes()
        dataset.save_as(tmp_path / name, enforce_file_format=True)
    first, second = decode(tmp_path / "one.dcm"), decode(tmp_path / "two.dcm")
    np.testing.assert_array_equal(first.pixels, second.pixels)
    assert (first.photometric, first.bits, first.source_format) == ("MONOCHROME1", 12, "DICOM 1.2.840.10008.1.2.1")


def test_real_images_are_indexed_whole(real_folder, tmp_path):
    """All real images are read, no subject crosses the given splits, and the counts are those of the folder's table."""
    index = index_of(real_folder, tmp_path, options={"labels": ["Effusion", "Cardiomegaly"]})
    table = pd.read_csv(real_folder / "metadata.csv")
    assert len(index) == len(table) == len(list((real_folder / "images").iterdir()))
    assert index.meta.facts["patients"] == table["subject_id"].nunique()
    counts = index.meta.facts["labels"]["Effusion"]
    assert sum(part["positive"] for part in counts.values()) == int((table["Effusion"] == 1).sum())
    assert sum(part["blank"] for part in counts.values()) == int(table["Effusion"].isna().sum())
    np.testing.assert_array_equal(pd.Series(index["split"]), table["split"])


def test_a_mask_of_another_picture_is_quarantined(folder, tmp_path):
    """A mask whose aspect is not the image's costs the mask: reference and prediction would not lie on each other."""
    victim = sorted((folder / "masks").glob("*__ribs_left.png"))[0]
    Image.fromarray(np.ones((128, 64), dtype=np.uint8)).save(victim)
    index_of(folder, tmp_path)
    assert "not the same picture" in quarantine(tmp_path)["reason"][0]


def test_palette_masks_are_numbers_not_colours(folder, tmp_path):
    """In a palette PNG the stored numbers are the structures, whatever colours they are painted in."""
    victim = sorted((folder / "masks").glob("*__lungs_zones.png"))[0]
    numbers = np.asarray(Image.open(victim))
    painted = Image.fromarray(numbers, mode="P")
    painted.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0] + [7] * 759)
    painted.save(victim)
    index = index_of(folder, tmp_path)
    row = list(index["image_id"]).index(victim.name.removesuffix("__lungs_zones.png"))
    bit = index.structures.index("lung_left")
    np.testing.assert_array_equal((index.mask(row) >> np.uint32(bit)) & 1, numbers & 1)


def test_reports_reach_their_studies_and_no_other_image(folder, tmp_path):
    """Reports keyed by study find images without a study column by their name; a report without a key is an error."""
    edit_table(folder, lambda t: t.drop(columns="study_id"))
    names = sorted(path.stem for path in (folder / "images").iterdir())
    pd.DataFrame({"study_id": names[:2], "text": ["one", "two"]}).to_csv(folder / "reports.csv", index=False)
    index = index_of(folder, tmp_path)
    assert dict(zip(index["image_id"], index["report"], strict=True)) | {names[0]: "one", names[1]: "two"} == dict(
        zip(index["image_id"], index["report"], strict=True)) and sum(text != "" for text in index["report"]) == 2  # fmt: skip
    pd.DataFrame({"study_id": [names[0], ""], "text": ["one", "leak"]}).to_csv(folder / "reports.csv", index=False)
    with pytest.raises(DataError, match="empty study_id in line 3"):
        index_of(folder, tmp_path)


def test_without_patient_ids_the_index_says_so(folder, tmp_path):
    """With subject_ids off each image is its own patient and the sidecar says that there are no patient ids."""
    edit_table(folder, lambda t: t.drop(columns="subject_id"))
    index = index_of(folder, tmp_path, options={"subject_ids": False})
    assert index.meta.facts["patient_ids"] is False and index.meta.facts["patients"] == len(index)


def test_folds_share_the_positives_of_every_label(phantom_folder, tmp_path):
    """Patients are dealt to folds by their rarest finding: no fold has more than twice its share of a label, or none of it."""
    labels = ["Cardiomegaly", "Lung Opacity", "Pleural effusion"]
    index = index_of(phantom_folder, tmp_path, options={"labels": labels})
    frame = pd.DataFrame({"fold": index["fold"], "patient": index["patient_id"]} | {name: index[f"labels.{name}"] for name in labels})
    patients = frame[frame.fold >= 0].groupby("patient").max()
    rarest = patients[labels].sum().idxmin()
    counts = patients.groupby("fold")[rarest].sum()
    assert counts.max() - counts.min() <= 1


def test_a_change_below_a_subfolder_makes_another_index(folder, tmp_path):
    """Another file in a nested images folder gives another content key."""
    nested = folder / "images" / "p"
    nested.mkdir()
    first = sorted((folder / "images").glob("*.png"))[0]
    first.rename(nested / first.name)
    edit_table(folder, lambda t: t.assign(image=t["image"].map(lambda name: f"p/{name}" if name == first.name else name)))
    key = index_of(folder, tmp_path).meta.fields["key"]
    shutil.copy(sorted((folder / "images").glob("*.png"))[0], nested / first.name)
    assert index_of(folder, tmp_path).meta.fields["key"] != key


def test_a_change_behind_a_link_makes_another_index(folder, tmp_path):
    """Images behind a link to another folder are in the content key like any others."""
    (folder / "images").rename(tmp_path / "disk")
    (folder / "images").symlink_to(tmp_path / "disk")
    before = stage._content(folder)
    picture = next((tmp_path / "disk").rglob("*.*"))
    picture.write_bytes(picture.read_bytes() + b"x")
    assert stage._content(folder) != before


def test_a_killed_index_goes_on_with_the_first_unfinished_shard(phantom_folder, tmp_path, monkeypatch):
    """Shards that were finished are not decoded again, nothing counts as an index before the end, and the result is the undisturbed one."""
    whole = stage.build_index("data", stage.Spec("folder", root=str(phantom_folder)), tmp_path / "whole")
    monkeypatch.setattr(stage, "SHARD", 8)
    decoded, real = [], stage.decode

    def dies(path, intensity):
        decoded.append(path.name)
        if len(decoded) == 21:
            raise KeyboardInterrupt
        return real(path, intensity)

    monkeypatch.setattr(stage, "decode", dies)
    spec = stage.Spec("folder", root=str(phantom_folder))
    with pytest.raises(KeyboardInterrupt):
        stage.build_index("data", spec, tmp_path / "killed")
    assert not (tmp_path / "killed" / "index" / "data" / "meta.json").exists()
    before = len(decoded)
    meta = stage.build_index("data", spec, tmp_path / "killed")
    one, other = (Index(tmp_path / name / "index" / "data") for name in ("whole", "killed"))
    assert len(decoded) - before == len(one) - 16  # two shards of eight were kept
    assert [name for name in meta.fields["files"] if name.startswith("part")] == [] and other["shard"].max() == (len(one) - 1) // 8
    for column in ("image_id", "sha256", "split", "fold"):
        np.testing.assert_array_equal(one[column], other[column])
    for row in (0, 9, len(one) - 1):
        np.testing.assert_array_equal(one.pixels(row), other.pixels(row))
        np.testing.assert_array_equal(one.mask(row), other.mask(row))
    assert whole.fields["state"] == "ok"


def test_a_duplicate_in_another_shard_is_found(phantom_folder, tmp_path, monkeypatch):
    """The same pixels in two shards are one image and one quarantine row."""
    root = tmp_path / "data"
    shutil.copytree(phantom_folder, root)
    table = pd.read_csv(root / "metadata.csv", dtype=str, keep_default_na=False)
    first, last = table["image"].iloc[0], table["image"].iloc[-1]
    shutil.copy(root / "images" / first, root / "images" / last)
    monkeypatch.setattr(stage, "SHARD", 4)
    meta = stage.build_index("data", stage.Spec("folder", root=str(root)), tmp_path / "results")
    quarantine = pd.read_csv(meta.file("quarantine.csv"))
    assert quarantine["file"].tolist() == [f"images/{last}"] and "duplicate" in quarantine["reason"].iloc[0]


def test_a_full_disk_is_a_sentence_and_leaves_no_index(phantom_folder, tmp_path, monkeypatch, capsys):
    """When the disk fills up the stage ends with one line and status 1, and nothing that looks like an index."""

    def full(*args, **options):
        raise OSError(errno.ENOSPC, "No space left on device", "pixels-00000.bin")

    monkeypatch.setattr(stage, "_write_shard", full)
    with pytest.raises(SystemExit) as end:
        run_entry_point(lambda: stage.build_index("data", stage.Spec("folder", root=str(phantom_folder)), tmp_path))
    assert end.value.code == 1 and capsys.readouterr().err.splitlines()[-1].startswith("DiskFull: pixels-00000.bin")
    assert not (tmp_path / "index" / "data" / "meta.json").exists()


def test_full_memory_is_a_sentence(capsys):
    """When a GPU or the machine has no memory left, the stage ends with one line that says what to do; another RuntimeError stays one."""

    def full(error):
        raise error

    for error in (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore"), MemoryError()):
        with pytest.raises(SystemExit) as end:
            run_entry_point(lambda error=error: full(error))
        (line,) = capsys.readouterr().err.splitlines()
        assert end.value.code == 1 and line.startswith("MemoryFull: ") and "smaller batch" in line
    with pytest.raises(RuntimeError, match="shape"):
        run_entry_point(lambda: full(RuntimeError("shape")))


@pytest.mark.parametrize("spec,said", [
    ('["folder"]', "--spec: not a data set"), ('{"reader": "folder", "colour": 1}', "colour"),
    ('{"reader": "folder", "options": []}', "options"),
    ('{"reader": "folder", "max_side": "big"}', "max_side"), ('{"reader": "folder", "seed": "x"}', "seed"),
    ('{"reader": "folder", "intensity": "windoww"}', "intensity"), ('{"reader": "folder", "shares": {"train": 0.5}}', "shares"),
    ('{"reader": "foldr"}', "foldr"), ("{}", "reader"),
])  # fmt: skip
def test_a_wrong_specification_is_named_and_writes_nothing(tmp_path, spec, said):
    """What `--spec` gets wrong is a named error with the place, and no index is written."""
    with pytest.raises(ConfigError, match=said):
        stage.build_index("d", stage.read_spec(json.loads(spec)), tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_a_data_set_is_named_inside_the_results(folder, tmp_path):
    """A name that would leave results/index is refused."""
    with pytest.raises(ConfigError, match="not a name"):
        stage.build_index("../d", Spec("folder", root=str(folder)), tmp_path / "results")


def test_a_salt_hides_the_names_of_files_that_are_not_kept(folder, tmp_path, monkeypatch):
    """With a salt no broken image, broken mask, unlisted file or split list brings a file's name into an output."""
    plain = index_of(folder, tmp_path / "plain")
    victims = [sorted((folder / kind).iterdir())[number] for kind, number in (("images", 0), ("masks", 5))]
    for victim in victims:
        victim.write_text("not a picture")
    shutil.copy(sorted((folder / "images").iterdir())[3], folder / "images" / "p_extra.png")
    lists = shutil.copytree(plain.meta.payload / "splits", tmp_path / "lists")
    monkeypatch.setenv("RADBENCH_SALT", "secret")
    index = index_of(folder, tmp_path, split_lists=str(lists))
    assert len(index) == len(plain) - 1 and len(quarantine(tmp_path)) == 2
    assert index.meta.facts["left_out"] == 1 and sorted(np.unique(index["split"])) == ["test", "train", "val"]
    written = [path for path in index.meta.folder.rglob("*") if path.is_file() and path.suffix in (".csv", ".json", ".txt")]
    names = [*map(str, plain["image_id"]), "p_extra", *(victim.stem for victim in victims)]
    assert len(written) > 6 and not [name for path in written for name in names if name in path.read_text()]


def test_a_full_disk_leaves_no_index_and_costs_one_shard(folder, tmp_path):
    """When a file cannot grow while pixels are written, the error is named, nothing looks complete, and a second run is as if alone."""

    def run(directory, limit=None):
        def lower():
            if limit:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        spec = json.dumps({"reader": "folder", "root": str(folder)})
        command = [sys.executable, "-m", "radbench.index", "--dataset", "d", "--spec", spec, "--results", str(directory / "results")]
        return subprocess.run(command, cwd=artifact.ROOT, capture_output=True, text=True, preexec_fn=lower)

    done = run(tmp_path / "full", limit=100_000)
    assert done.returncode == 1 and "FileTooLarge" in done.stderr and "Traceback" not in done.stderr
    assert not list((tmp_path / "full").rglob("meta.json")) and not list((tmp_path / "full").rglob("index.parquet"))
    assert run(tmp_path / "full").returncode == 0 == run(tmp_path / "alone").returncode
    one, other = (artifact.read(tmp_path / name / "results" / "index" / "d") for name in ("full", "alone"))
    assert one.fingerprint == other.fingerprint


@pytest.mark.parametrize("copy,said", [("mimic_cxr", ["JPEG, histogram-equalised by the owner"]), ("mimic_cxr_dicom", [])])
def test_equalised_pictures_are_known_as_such(tmp_path, copy, said):
    """MIMIC-CXR-JPG's index says that the owner equalised its pictures; that of the DICOM files does not."""
    fixtures.write(copy, tmp_path / "data")
    meta = build_index("d", Spec("mimic_cxr", root=str(tmp_path / "data")), tmp_path / "results")
    assert [entry.split(":")[0] for entry in meta.facts["processing"]] == said
