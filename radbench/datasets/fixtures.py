"""Tiny copies of the data sets, exactly as their owners lay them out, filled with phantom pictures and with known traps.

    python -m radbench.datasets.fixtures --root DIR [--dataset NAME] [--patients 48]
    snakemake --configfile config/paper.yaml --config root=DIR      # then runs on them

Names of files and columns, and codings, are written down here once more, from the owners' documentation and not from the readers,
so that a reader can be wrong. Every data set that comes as image files has one listed image that is missing and one that is
truncated. **Numbers from these copies say nothing about any data set**: pictures and labels are drawn.

One file, because each writer is a page of facts about one release and shares the pictures and the way to write them.
"""

import argparse
import dataclasses
import functools
import gzip
import hashlib
import io
import json
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import ConfigError, did_you_mean, run_entry_point
from . import phantom

PATIENTS, SIZE, SEED = 48, 64, 7  # 48 patients have about 72 pictures
FEWEST, SMALLEST = 2, 32  # an ill and a well patient; pixels that a rib can be drawn in
#: copies that hold pictures of another one, as the owners' sets do
TAKEN_FROM = {"mimic_cxr_dicom": "mimic_cxr", "mimic_segmentation": "mimic_cxr", "brax_dicom": "brax", "iu_xray_nlm": "iu_xray",
              "nih_cxr14_2020": "nih_cxr14", "rsna": "nih_cxr14", "rsna_unmapped": "nih_cxr14", "siim_acr": "nih_cxr14",
              "chestx_det": "nih_cxr14", "chestmnist": "nih_cxr14", "chexlocalize": "chexpert", "padchest_gr": "padchest"}  # fmt: skip
CHEXPERT_LABELS = ("No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,Lung Lesion,Edema,Consolidation,Pneumonia,Atelectasis,"
                   "Pneumothorax,Pleural Effusion,Pleural Other,Fracture,Support Devices").split(",")  # fmt: skip
DRAWN = {"Lung Opacity": "Lung Opacity", "Cardiomegaly": "Cardiomegaly", "Pleural effusion": "Pleural Effusion"}  # phantom: CheXpert


@dataclasses.dataclass(frozen=True)
class Picture:
    """One phantom picture, its facts and its masks."""

    number: int
    patient: int
    study: int  # of the patient, from 1
    image: int  # of the study, from 1
    view: str
    sex: str
    age: int
    findings: frozenset[str]
    pixels: np.ndarray  # float32 (H, W) in [0, 1], 1 = white
    masks: dict[str, np.ndarray]
    report: str

    @property
    def grey(self) -> np.ndarray:
        return np.round(self.pixels * 255).astype(np.uint8)

    @property
    def deep(self) -> np.ndarray:
        """Twelve bits in uint16."""
        return np.round(self.pixels * 4095).astype(np.uint16)


@functools.cache
def pictures(patients: int, size: int, seed: int = SEED) -> tuple[Picture, ...]:
    """Every picture of some phantom patients, in order; the first patients alternate between ill and well."""
    found: list[Picture] = []
    drawn = (phantom.draw_patient(number, seed, {"A": 1.0}) for number in range(100 * patients))
    for number in range(patients):
        person = next(p for p in drawn if bool(p.studies[0].findings) == (number % 2 == 0))
        for study, facts in phantom.image_facts(person):
            pixels, masks = phantom.render(facts, size, True)
            place = person.studies.index(study) + 1
            found.append(Picture(len(found), number, place, int(facts.stem.rsplit("i", 1)[1]), facts.acquisition.view, person.sex,
                                 person.age, frozenset(study.findings), pixels, masks, phantom.report(person, study)))  # fmt: skip
    return tuple(found)


def own_seed(name: str) -> int:
    """Of the patients of a copy: the same for the sets that hold the same pictures, another for every other one."""
    return int(identifier(TAKEN_FROM.get(name, name), digits=6), 16)


def write(name: str, root: Path, patients: int = PATIENTS, size: int = SIZE, seed: int = SEED) -> Path:
    """Write the copy `name` (a key of WRITERS) below `root`, which must be empty or not there yet. Returns `root`.

    With `own_seed(name)` the overlap between the copies is that of the data sets; with one seed all show the same patients.

    Raises:
        ConfigError: no copy of this name, too few patients or pixels, or `root` is a file or holds files.
    """
    if name not in WRITERS:
        raise ConfigError("fixtures", f"no copy {name!r}", expected=sorted(WRITERS), fix=did_you_mean(name, WRITERS))
    check(root, patients, size)
    root.mkdir(parents=True, exist_ok=True)
    WRITERS[name](root, pictures(patients, size, seed))
    return root


def check(root: Path, patients: int, size: int) -> None:
    """Raise ConfigError when no copy can be written here without harm, or none of this size."""
    if patients < FEWEST:
        raise ConfigError("fixtures", "too few patients", got=patients, expected=f"{FEWEST} or more")
    if size < SMALLEST:
        raise ConfigError("fixtures", "too few rows of an image", got=size, expected=f"{SMALLEST} or more")
    for folder in (root, *root.parents):
        if folder.exists() and not folder.is_dir():
            raise ConfigError(folder, "a file, not a folder", fix="give another --root")
    if root.exists() and any(root.iterdir()):
        raise ConfigError(root, "holds files already, which a copy could overwrite", fix="give another --root, or remove this folder")


# ------------------------------------------------------------ how files are written


def identifier(*parts: object, digits: int = 32) -> str:
    """Hexadecimal digits that depend on `parts` alone."""
    return hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()[:digits]


def put(path: Path, content: bytes | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


def table(header: str, rows: Iterable[Sequence[object]]) -> str:
    """Comma-separated lines; a cell with a comma or a quote is quoted."""

    def cell(value: object) -> str:
        text = str(value)
        return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',"\n') else text

    return "\n".join([header, *(",".join(map(cell, row)) for row in rows)]) + "\n"


def encoded(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **({"quality": 95} if kind == "JPEG" else {}))
    return stream.getvalue()


def truncated(content: bytes) -> bytes:
    return content[: len(content) // 2]


def dicom(pixels: np.ndarray, *, bits: int = 12, inverted: bool = False, jpeg: bool = False, window: bool = False, **tags: str) -> bytes:
    """A DICOM file of grey pixels. `inverted`: MONOCHROME1, of the same picture."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = JPEGBaseline8Bit if jpeg else ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    meta.MediaStorageSOPInstanceUID = f"1.2.3.{int(identifier(pixels.tobytes(), digits=12), 16)}"
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID, data.Modality = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID, "DX"
    data.Rows, data.Columns = pixels.shape
    allocated = 8 if bits == 8 else 16
    data.SamplesPerPixel, data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 1, allocated, bits, bits - 1, 0
    data.PhotometricInterpretation = "MONOCHROME1" if inverted else "MONOCHROME2"
    stored = (2**bits - 1 - pixels if inverted else pixels).astype(np.uint8 if bits == 8 else np.uint16)
    if window:
        data.WindowCenter, data.WindowWidth = str(2 ** (bits - 1)), str(2**bits)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # owners' headers hold ages such as "58", which the standard would write "058Y"
        for tag, value in tags.items():
            setattr(data, tag, value)
    data.PixelData = encapsulate([encoded(stored, "JPEG")]) if jpeg else stored.tobytes()
    if jpeg:
        data["PixelData"].is_undefined_length = True
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def person(patient: int) -> dict[str, str]:
    """Tags that name a made-up person, born in 1900: what must not be in any output."""
    syllables = ("zor", "vak", "quil", "meb", "tux", "plov", "rint", "gax")
    digits = [int(digit, 16) % 8 for digit in identifier("person", patient, digits=4)]
    family, given = ("".join(syllables[digit] for digit in pair) for pair in (digits[:2], digits[2:]))
    return {"PatientName": f"{family}^{given}".upper(), "PatientID": f"MADEUP{patient:04d}",
            "PatientBirthDate": f"1900{patient % 12 + 1:02d}{patient % 28 + 1:02d}"}  # fmt: skip


def zipped(files: dict[str, bytes | str]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return stream.getvalue()


def tarred(files: dict[str, bytes]) -> bytes:
    """A compressed tar (.tgz)."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


def four_values(picture: Picture, name: str, number: int) -> str:
    """1.0, 0.0, -1.0 or blank: what was drawn when it was drawn, else by turns."""
    drawn = {theirs: ours for ours, theirs in DRAWN.items()}
    if name in drawn:
        return "1.0" if drawn[name] in picture.findings else "0.0"
    return ("1.0", "0.0", "-1.0", "")[(picture.number + number) % 4]


# ------------------------------------------------------------ MIMIC-CXR

MIMIC_LABELS = ("Atelectasis,Cardiomegaly,Consolidation,Edema,Enlarged Cardiomediastinum,Fracture,Lung Lesion,Lung Opacity,No Finding,"
                "Pleural Effusion,Pleural Other,Pneumonia,Pneumothorax,Support Devices")  # fmt: skip
MIMIC_METADATA = ("dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,Columns,StudyDate,StudyTime,"
                  "ProcedureCodeSequence_CodeMeaning,ViewCodeSequence_CodeMeaning,PatientOrientationCodeSequence_CodeMeaning")  # fmt: skip
MISNAMED_STUDY = "50913680"  # the owner's scripts write no sections for it


def mimic_ids(picture: Picture) -> tuple[str, str, str]:
    """dicom_id, subject_id, study_id as MIMIC-CXR forms them."""
    digest = identifier("mimic", picture.number, digits=40)
    subject = f"1{picture.patient % 10}{1000 + picture.patient:06d}"
    study = MISNAMED_STUDY if picture.patient == 5 and picture.study == 1 else f"5{picture.patient:04d}{picture.study:03d}"
    return "-".join(digest[k : k + 8] for k in range(0, 40, 8)), subject, study


def mimic_report(picture: Picture) -> str:
    """A report under the owner's headers; some with the oddities that the sections' rules are for."""
    head = (
        "                                 FINAL REPORT\n EXAMINATION:  CHEST (PA AND LAT)\n \n INDICATION:  ___ year old with cough.\n \n"
    )
    body = picture.report.replace(". ", ".\n ")
    if picture.patient == 1:
        return f"{head} FINDINGS: \n \n FINDINGS:  {body}\n \n IMPRESSION:  As above.\n"
    if picture.patient == 2:
        return f"{head} FINDINGS AND IMPRESSION:  {body}\n"
    if picture.patient == 3:
        return ""
    if picture.patient == 4:
        return f"{head} COMPARISON:  None.\n \n {body}\n"
    if picture.patient == 7:
        return f"{head} CHEST, TWO VIEWS:  {body}\n \n CONCLUSION:  No change.\n"
    return f"{head} COMPARISON:  None.\n \n FINDINGS:  {body}\n \n IMPRESSION: \n \n No acute process.\n"


def mimic_view(picture: Picture) -> str:
    turn = picture.number % 16
    return {5: "LATERAL", 9: "LL", 13: ""}.get(turn, picture.view) if picture.number > 8 else picture.view


def mimic_split(patient: int) -> str:
    return {0: "validate", 1: "test", 2: "test", 9: "validate"}.get(patient % 10, "train")


def mimic_tables(root: Path, chosen: Sequence[Picture]) -> None:
    rows, splits, labels = [], [], {}
    for picture in chosen:
        image, subject, study = mimic_ids(picture)
        rows.append((image, subject, study, "CHEST (PA AND LAT)", mimic_view(picture), *picture.pixels.shape, "21800506", "213014.531",
                     "CHEST (PA AND LAT)", "postero-anterior", "Erect"))  # fmt: skip
        splits.append((image, study, subject, mimic_split(picture.patient)))
        if picture.patient != 3:  # studies without text have no labels
            labels[study] = (subject, study, *(four_values(picture, name, k) for k, name in enumerate(MIMIC_LABELS.split(","))))
    put(root / "mimic-cxr-2.0.0-metadata.csv.gz", table(MIMIC_METADATA, rows))
    put(root / "mimic-cxr-2.0.0-split.csv", table("dicom_id,study_id,subject_id,split", splits))  # gunzipped by its user
    put(root / "mimic-cxr-2.0.0-chexpert.csv.gz", table(f"subject_id,study_id,{MIMIC_LABELS}", labels.values()))
    put(root / "mimic-cxr-2.0.0-negbio.csv.gz", table(f"subject_id,study_id,{MIMIC_LABELS}", labels.values()))


def mimic_cxr(root: Path, chosen: Sequence[Picture]) -> None:
    """MIMIC-CXR-JPG 2.1.0, with the archive of reports from MIMIC-CXR."""
    mimic_tables(root, chosen)
    reports, names = {}, []
    for picture in chosen:
        image, subject, study = mimic_ids(picture)
        folder = f"files/p{subject[:2]}/p{subject}"
        reports[f"{folder}/s{study}.txt"] = mimic_report(picture)
        names.append(f"{folder}/s{study}/{image}.jpg")
        content = encoded(picture.grey, "JPEG")
        if picture.number != 20:
            put(root / names[-1], truncated(content) if picture.number == 21 else content)
    put(root / "mimic-cxr-reports.zip", zipped(reports))
    put(root / "IMAGE_FILENAMES", "\n".join(names) + "\n")
    tested = {mimic_ids(picture)[2] for picture in chosen if mimic_split(picture.patient) == "test"}
    rows = [(study, *("1.0" if (k + row) % 3 == 0 else "0.0" for k in range(14))) for row, study in enumerate(sorted(tested))]
    header = "study_id," + MIMIC_LABELS.replace("Lung Opacity", "Airspace Opacity")
    put(root / "mimic-cxr-2.1.0-test-set-labeled.csv", table(header, rows))


def mimic_cxr_dicom(root: Path, chosen: Sequence[Picture]) -> None:
    """MIMIC-CXR 2.0.0 as DICOM: its own lists, no views, no splits, reports beside the studies; one picture in both polarities."""
    images, studies = [], {}
    for picture in chosen:
        image, subject, study = mimic_ids(picture)
        folder = f"files/p{subject[:2]}/p{subject}"
        shown = chosen[0] if picture.number == 30 else picture
        images.append((subject, study, image, f"{folder}/s{study}/{image}.dcm"))
        studies[study] = (subject, study, f"{folder}/s{study}.txt")
        put(root / images[-1][-1], dicom(shown.deep, inverted=picture.number % 3 == 0 and picture.number > 0, ViewPosition=picture.view,
                                          **person(picture.patient)))  # fmt: skip
        put(root / folder / f"s{study}.txt", mimic_report(picture))
    put(root / "cxr-record-list.csv.gz", table("subject_id,study_id,dicom_id,path", images))
    put(root / "cxr-study-list.csv.gz", table("subject_id,study_id,path", studies.values()))


# ------------------------------------------------------------ CheXpert, ChestX-ray14, PadChest, BRAX


def chexpert(root: Path, chosen: Sequence[Picture]) -> None:
    """CheXpert-v1.0-small unpacked one level down, under another name."""
    rows: dict[str, list] = {"train": [], "valid": []}
    for picture in chosen:
        split = "valid" if picture.patient % 6 > 3 else "train"
        kind = "lateral" if picture.image == 2 and picture.number % 3 == 0 else "frontal"
        relative = f"{split}/patient{picture.patient + 1:05d}/study{picture.study}/view{picture.image}_{kind}.jpg"
        labels = [four_values(picture, name, k) for k, name in enumerate(CHEXPERT_LABELS)]
        labels[0] = "1.0" if not picture.findings else ""
        if split == "valid":
            labels = ["1.0" if value == "1.0" else "0.0" for value in labels]
        sex, age = ("Unknown", 0) if picture.number == 4 else ({"M": "Male", "F": "Female"}[picture.sex], picture.age)
        rows[split].append(
            (f"CheXpert-v1.0-small/{relative}", sex, age, kind.capitalize(), "" if kind == "lateral" else picture.view, *labels)
        )
        content = encoded(picture.grey, "JPEG")
        if picture.number != 20:
            put(root / "unpacked" / relative, truncated(content) if picture.number == 21 else content)
    for split, lines in rows.items():
        put(root / "unpacked" / f"{split}.csv", table("Path,Sex,Age,Frontal/Lateral,AP/PA," + ",".join(CHEXPERT_LABELS), lines))


NIH_LABELS = ("Atelectasis,Cardiomegaly,Effusion,Infiltration,Mass,Nodule,Pneumonia,Pneumothorax,Consolidation,Edema,Emphysema,Fibrosis,"
              "Pleural_Thickening,Hernia").split(",")  # fmt: skip
NIH_HEADER = ("Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,OriginalImage[Width,Height],"
              "OriginalImagePixelSpacing[x,y]")  # fmt: skip


def nih_rows(chosen: Sequence[Picture]) -> list[tuple]:
    """Rows of the owner's table: follow-ups count from 0, and each finding occurs in each split."""
    rows, turn, visits = [], {True: 0, False: 0}, {}
    for picture in chosen:
        test = picture.patient % 4 == 3
        turn[test] += 1
        visit = visits[picture.patient] = visits.get(picture.patient, -1) + 1
        pair = [NIH_LABELS[(2 * turn[test] + k) % 14] for k in range(2)]
        text = "No Finding" if turn[test] % 8 == 0 else pair[0] if turn[test] > 20 else "|".join(sorted(pair))
        age = 411 if picture.number == 4 else picture.age
        rows.append((f"{picture.patient + 1:08d}_{visit:03d}.png", text, visit, picture.patient + 1, age, picture.sex, picture.view, 2682,
                     2749, 0.143, 0.143))  # fmt: skip
    return rows


def nih_cxr14(root: Path, chosen: Sequence[Picture], version: str = "2017") -> None:
    """ChestX-ray14 in two part folders, with the first table, whose lines end in a comma."""
    rows = nih_rows(chosen)
    tail = "," if version == "2017" else ""
    if version == "2017":
        lines = table(NIH_HEADER, rows).splitlines()
        put(root / "Data_Entry_2017.csv", "".join(f"{line}{tail}\n" for line in lines))
    else:
        aged = [(*row[:4], min(row[4], 95), *row[5:]) for row in rows]
        put(root / "Data_Entry_2017_v2020.csv", table(NIH_HEADER, aged))
    for name, test in (("train_val_list.txt", False), ("test_list.txt", True)):
        put(root / name, "".join(f"{row[0]}\n" for row in rows if (row[3] - 1) % 4 == 3) if test
            else "".join(f"{row[0]}\n" for row in rows if (row[3] - 1) % 4 != 3))  # fmt: skip
    put(root / "BBox_List_2017.csv", f"Image Index,Finding Label,Bbox [x,y,w,h],,,\n{rows[0][0]},Infiltrate,225.08,547.02,86.78,79.19,,,\n")
    for picture, row in zip(chosen, rows, strict=True):
        pixels = picture.grey
        if picture.number == 6:  # a few of the owner's files have four channels
            pixels = np.dstack([pixels, pixels, pixels, np.full_like(pixels, 255)])
        content = encoded(pixels)
        if picture.number != 20:
            folder = f"images_{1 + (picture.number > 30):03d}/images"
            put(root / folder / row[0], truncated(content) if picture.number == 21 else content)


PADCHEST_HEADER = (",ImageID,ImageDir,StudyDate_DICOM,StudyID,PatientID,PatientBirth,PatientSex_DICOM,ViewPosition_DICOM,Projection,"
                   "MethodProjection,Pediatric,Modality_DICOM,Manufacturer_DICOM,PhotometricInterpretation_DICOM,"
                   "PixelRepresentation_DICOM,PixelAspectRatio_DICOM,SpatialResolution_DICOM,BitsStored_DICOM,WindowCenter_DICOM,"
                   "WindowWidth_DICOM,Rows_DICOM,Columns_DICOM,XRayTubeCurrent_DICOM,Exposure_DICOM,ExposureInuAs_DICOM,ExposureTime,"
                   "RelativeXRayExposure_DICOM,ReportID,Report,MethodLabel,Labels,Localizations,LabelsLocalizationsBySentence,labelCUIS,"
                   "LocalizationsCUIS")  # fmt: skip
PADCHEST_WORDS = {"Lung Opacity": "infiltrates", "Cardiomegaly": "cardiomegaly", "Pleural thickening": "pleural thickening",
                  "Aortic enlargement": "aortic elongation", "Pulmonary fibrosis": "pulmonary fibrosis",
                  "Pleural effusion": "pleural effusion"}  # fmt: skip
PADCHEST_BROKEN = "216840111366964012819207061112010307142602253_04-014-084.png"


def padchest(root: Path, chosen: Sequence[Picture]) -> None:
    """PadChest in the owner's folders 0 and 1 and an archive 2.zip; 16-bit, some of it stored with 0 = white."""
    rows, packed = [], {}
    for picture in chosen:
        name = PADCHEST_BROKEN if picture.number == 12 else f"2168401113669640{identifier('padchest', picture.number, digits=20)}.png"
        folder = ("0", "1", "2")[picture.number % 3]
        projection = {5: "L", 9: "AP_horizontal", 13: "COSTAL", 14: "EXCLUDE"}.get(picture.number % 40, picture.view)
        words = sorted(PADCHEST_WORDS[name] for name in picture.findings) or ["normal"]
        text = (
            "["
            + ", ".join(f"'{' ' * (k % 2)}{word} '" for k, word in enumerate([*words, *["unchanged"] * (picture.number % 5 == 0)]))
            + "]"
        )
        text = {3: "", 16: "[\"normal\", 'NSG tube']"}.get(picture.number, text)
        inverted = picture.number % 7 == 1
        pixels = picture.deep << np.uint16(4)
        rows.append((picture.number, name, folder, "20140915", f"s{picture.patient}x{picture.study}", f"p{picture.patient}",
                     f"{2014 - picture.age}.0", picture.sex, "POSTEROANTERIOR", projection, "Manual review of DICOM fields",
                     "PED" if picture.number == 17 else "No", "CR", "ImagingDynamicsCompanyLtd",
                     "MONOCHROME1" if inverted else "MONOCHROME2", 0, "", "", 12, 2048.0, 4096.0, *pixels.shape, 200.0, 5, 5000, 25, "",
                     4765777, "sin hallazg patolog edad pacient", "Physician", text, "['loc basal']", "[['normal', 'loc basal']]", "[]",
                     "[]"))  # fmt: skip
        content = encoded(65535 - pixels if inverted else pixels)
        content = truncated(content) if picture.number == 21 else content
        if folder == "2":
            packed[name] = content
        elif picture.number != 19:
            put(root / folder / name, content)
    put(root / "2.zip", zipped(packed))
    put(root / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz", table(PADCHEST_HEADER, rows))


def brax(root: Path, chosen: Sequence[Picture], files: str = "png") -> None:
    """BRAX 1.1.0, as PNG or as DICOM without suffix."""
    rows = []
    for picture in chosen:
        study, series, image = (f"{k}.{int(identifier('brax', k, picture.patient, picture.study, picture.image * (k > 1), digits=10), 16)}"
                                for k in (1, 2, 3))  # fmt: skip
        path = f"id_{identifier('brax', picture.patient, digits=8)}/Study_{study}/Series_{series}/image-{image}"
        view = {5: "", 9: "LLO", 12: "L", 13: "RLD", 18: "LL"}.get(picture.number % 32, picture.view)
        view = "RL" if view == "L" else view
        age = "85 or more" if picture.number == 2 else 5 * (picture.age // 5)
        labels = [four_values(picture, name, k) for k, name in enumerate(CHEXPERT_LABELS)]
        rows.append((f"Anonymized_DICOMs/{path}.dcm", f"images/{path}.png", path.split("/")[0], picture.sex, age,
                     int(identifier("accession", picture.patient, picture.study, digits=8), 16), "20130522", *labels, view,
                     *picture.pixels.shape, 1 + picture.patient % 3))  # fmt: skip
        if files == "dicom":
            content = dicom(picture.deep, inverted=picture.number % 3 == 0, **person(picture.patient))
            put(root / "Anonymized_DICOMs" / (path + ".dcm" * (picture.number % 2)), content)
        elif picture.number != 20:
            content = encoded(picture.grey)
            put(root / f"images/{path}.png", truncated(content) if picture.number == 21 else content)
    header = ("DicomPath,PngPath,PatientID,PatientSex,PatientAge,AccessionNumber,StudyDate," + ",".join(CHEXPERT_LABELS)
              + ",ViewPosition,Rows,Columns,Manufacturer")  # fmt: skip
    put(root / "master_spreadsheet_update.csv", table(header, rows))


# ------------------------------------------------------------ VinDr-CXR, RSNA, VinDr-RibCXR

VINDR_LABELS = ("Aortic enlargement,Atelectasis,Calcification,Cardiomegaly,Clavicle fracture,Consolidation,Edema,Emphysema,Enlarged PA,ILD,"
                "Infiltration,Lung Opacity,Lung cavity,Lung cyst,Mediastinal shift,Nodule/Mass,Pleural effusion,Pleural thickening,"
                "Pneumothorax,Pulmonary fibrosis,Rib fracture,Other lesion,COPD,Lung tumor,Pneumonia,Tuberculosis,Other diseases,"
                "No finding").split(",")  # fmt: skip


def vindr_cxr(root: Path, chosen: Sequence[Picture]) -> None:
    """VinDr-CXR 1.0.0: three readers per training image; on the first image two say Lung Opacity and one does not."""
    rows: dict[str, list] = {"train": [], "test": []}
    boxes: dict[str, list] = {"train": [], "test": []}
    for picture in chosen:
        split = "test" if picture.number % 3 == 2 else "train"
        image = identifier("vindr", picture.number)
        turn = picture.number // 3
        by_turns = (2 * turn % 28, (2 * turn + 1) % 28) if picture.findings or turn % 5 < 4 else ()
        truth = {name: int(name in picture.findings or k in by_turns) for k, name in enumerate(VINDR_LABELS)}
        truth["No finding"] = int(not any(value for name, value in truth.items() if name != "No finding"))
        if picture.number == 0:
            truth |= {"Lung Opacity": 1, "Edema": 0, "No finding": 0}
        for place in range(3) if split == "train" else (None,):
            said = dict(truth)
            if picture.number == 0:  # 2:1 for Lung Opacity, 1:2 for Edema
                said |= {"Lung Opacity": int(place != 2), "Edema": int(place == 2)}
            reader = () if place is None else (f"R{8 + (picture.number + place) % 3}",)
            rows[split].append((image, *reader, *said.values()))
            boxes[split] += [(image, *reader, name, *([10.5, 12.25, 40.75, 50.0] if name != "No finding" else [""] * 4))
                             for name, value in said.items() if value]  # fmt: skip
        if picture.number != 20:
            age = f"{0 if picture.number == 4 else picture.age:03d}Y"
            content = dicom(picture.deep, inverted=picture.number % 5 == 1, window=picture.number % 2 == 0, PatientSex=picture.sex,
                            PatientAge=age, **person(picture.patient))  # fmt: skip
            put(root / split / f"{image}.dicom", truncated(content) if picture.number == 21 else content)
    for split, reader, names in (("train", "rad_id,", VINDR_LABELS),
                                 ("test", "", [name.replace("diseases", "disease") for name in VINDR_LABELS])):  # fmt: skip
        put(root / f"annotations/image_labels_{split}.csv", table(f"image_id,{reader}{','.join(names)}", rows[split]))
        put(root / f"annotations/annotations_{split}.csv", table(f"image_id,{reader}class_name,x_min,y_min,x_max,y_max", boxes[split]))


def rsna(root: Path, chosen: Sequence[Picture], mapped: bool = True) -> None:
    """Stage 2 with compressed DICOM; the first positive image has two boxes; the mapping gives each patient's images one NIH id."""
    labels, classes, mapping = [], [], []
    for picture in chosen:
        digest = identifier("rsna", picture.number)
        image = "-".join((digest[:8], digest[8:12], digest[12:16], digest[16:20], digest[20:]))
        positive = "Lung Opacity" in picture.findings
        for _ in range(2 if positive and not any(row[-1] for row in labels) else 1):
            labels.append((image, *((20.0, 30.0, 16.0, 12.0) if positive else [""] * 4), int(positive)))
            classes.append((image, "Lung Opacity" if positive else "Normal" if not picture.findings else "No Lung Opacity / Not Normal"))
        mapping.append({"img_id": f"{picture.patient + 100:08d}_{picture.study * 10 + picture.image:03d}.png", "subset_img_id": image,
                        "orig_labels": ["Pneumonia"] if positive else ["No Finding"], "bbox_data": []})  # fmt: skip
        content = dicom(picture.grey, bits=8, jpeg=True, ViewPosition=picture.view, PatientSex=picture.sex, PatientAge=str(picture.age),
                        **person(picture.patient))  # fmt: skip
        if picture.number != 20:
            put(root / "stage_2_train_images" / f"{image}.dcm", truncated(content) if picture.number == 21 else content)
    put(root / "stage_2_test_images" / "0000a175-0e68-4ca4-b1af-167204a7e0bc.dcm", dicom(255 - chosen[0].grey, bits=8, **person(9999)))
    put(root / "stage_2_train_labels.csv", table("patientId,x,y,width,height,Target", labels))
    put(root / "stage_2_detailed_class_info.csv", table("patientId,class", classes))
    if mapped:
        put(root / "pneumonia-challenge-dataset-mappings_2018.json", json.dumps(mapping))


def outline(mask: np.ndarray) -> list[dict[str, int]]:
    """A polygon around a band: its upper border from left to right, then its lower one back."""
    cols = np.flatnonzero(mask.any(axis=0))
    upper = [(int(col), int(np.flatnonzero(mask[:, col])[0])) for col in cols]
    lower = [(int(col), int(np.flatnonzero(mask[:, col])[-1])) for col in cols[::-1]]
    return [{"x": x, "y": y} for x, y in upper + lower]


def vindr_ribcxr(root: Path, chosen: Sequence[Picture]) -> None:
    """VinDr-RibCXR under a capital folder; one rib is null, one is "None", and two overlap."""
    for owners, keep in (("train", lambda n: n % 5 != 4), ("val", lambda n: n % 5 == 4)):
        columns: dict[str, dict] = {"img": {}} | {f"{side}{k}": {} for side in "RL" for k in range(1, 11)}
        for row, picture in enumerate(picture for picture in chosen if keep(picture.number)):
            name = f"VinDr_RibCXR_{owners}_{row:03d}.png"
            columns["img"][str(row)] = f"data/{owners}/img/{name}"
            for side, word in (("R", "right"), ("L", "left")):
                for k in range(1, 11):
                    columns[f"{side}{k}"][str(row)] = outline(picture.masks[f"rib_{word}_{k:02d}"]) or None
            if row == 0:
                columns["R10"]["0"], columns["L10"]["0"] = None, "None"
                columns["L2"]["0"] = [{"x": 30, "y": 10}, {"x": 50, "y": 10}, {"x": 50, "y": 30}, {"x": 30, "y": 30}]
                columns["L3"]["0"] = [{"x": 30, "y": 20}, {"x": 50, "y": 20}, {"x": 50, "y": 40}, {"x": 30, "y": 40}]
            content = encoded(picture.grey)
            if picture.number != 20:
                put(root / f"Data/{owners}/img/{name}", truncated(content) if picture.number == 21 else content)
        put(root / f"Data/{owners}/Vindr_RibCXR_{owners}_mask.json", json.dumps(columns))


# ------------------------------------------------------------ IU X-Ray, lungs of MIMIC-CXR


def iu_reports(chosen: Sequence[Picture]) -> dict[int, dict]:
    """{uid: findings, impression and images} of one report per patient; number 5 has no findings, number 6 no images."""
    reports: dict[int, dict] = {}
    for picture in chosen:
        uid = picture.patient + 1
        entry = reports.setdefault(
            uid, {"findings": picture.report if uid != 5 else "", "impression": "No acute disease. XXXX.", "images": []}
        )
        kind = "Lateral" if entry["images"] and len(entry["images"]) % 2 else "Frontal"
        if uid != 6:
            entry["images"].append((f"{uid}_IM-{1000 + uid:04d}-{1001 + len(entry['images'])}", kind, picture))
    return reports


def iu_xray(root: Path, chosen: Sequence[Picture]) -> None:
    """The Kaggle copy, which leaves out reports without images."""
    reports, projections = [], []
    for uid, entry in iu_reports(chosen).items():
        if entry["images"]:
            reports.append(
                (uid, "normal", "normal", "Xray Chest PA and Lateral", "Chest pain", "None.", entry["findings"], entry["impression"])
            )
        for name, kind, picture in entry["images"]:
            projections.append((uid, f"{name}.dcm.png", kind))
            content = encoded(picture.grey)
            if picture.number != 20:
                put(root / f"images/images_normalized/{name}.dcm.png", truncated(content) if picture.number == 21 else content)
    put(root / "indiana_reports.csv", table("uid,MeSH,Problems,image,indication,comparison,findings,impression", reports))
    put(root / "indiana_projections.csv", table("uid,filename,projection", projections))


def iu_xray_nlm(root: Path, chosen: Sequence[Picture]) -> None:
    """The two archives of the NLM."""
    documents, images = {}, {}
    for uid, entry in iu_reports(chosen).items():
        parents = "".join(
            f'<parentImage id="CXR{name}"><caption>Xray Chest PA and Lateral</caption></parentImage>' for name, *_ in entry["images"]
        )
        sections = {"COMPARISON": "None.", "INDICATION": "Chest pain", "FINDINGS": entry["findings"], "IMPRESSION": entry["impression"]}
        texts = "".join(f'<AbstractText Label="{label}">{text}</AbstractText>' for label, text in sections.items())
        documents[f"ecgen-radiology/{uid}.xml"] = (
            f'<?xml version="1.0" encoding="utf-8"?>\n<eCitation><uId id="CXR{uid}"/><MedlineCitation><Article><Abstract>{texts}</Abstract>'
            f"</Article></MedlineCitation>{parents}</eCitation>\n"
        ).encode()
        images |= {f"CXR{name}.png": encoded(picture.grey) for name, _, picture in entry["images"] if picture.number != 20}
    put(root / "NLMCXR_reports.tgz", tarred(documents))
    put(root / "NLMCXR_png.tgz", tarred(images))


ZONES = ("upper", "mid", "lower")


def mimic_segmentation(root: Path, chosen: Sequence[Picture]) -> None:
    """Lung masks in pairs with their remainders, scene graphs in their archive, and the images as in MIMIC-CXR-JPG.

    The names of the lung masks are a guess: the owner's could not be seen.
    """
    mimic_tables(root / "mimic-cxr-jpg", chosen)
    graphs = {}
    for picture in chosen:
        image, subject, study = mimic_ids(picture)
        objects = []
        for side in ("left", "right"):
            for name, mask in ((f"{side} lung", picture.masks[f"lung_{side}"]),
                               *((f"{side} {zone} lung zone", picture.masks[f"zone_{side}_{zone}"]) for zone in ZONES)):  # fmt: skip
                rows, cols = np.nonzero(mask)
                x0, y0, x1, y1 = int(cols.min()), int(rows.min()), int(cols.max()) + 1, int(rows.max()) + 1
                if picture.number == 0 and name == "right lung":
                    x0, y0 = -3, -2  # boxes leave the image
                if picture.number == 1 and name == "left mid lung zone":
                    continue  # a region that was not found
                if picture.number == 2 and name == "left mid lung zone":
                    x1 = x0  # a box without area
                objects.append({"object_id": f"{image}_{name}", "x1": 0, "y1": 0, "x2": 10, "y2": 10, "width": 10, "height": 10,
                                "bbox_name": name, "synsets": [], "name": name, "original_x1": x0, "original_y1": y0, "original_x2": x1,
                                "original_y2": y1, "original_width": x1 - x0, "original_height": y1 - y0})  # fmt: skip
        graphs[f"scene_graph/{image}_SceneGraph.json"] = json.dumps({"image_id": image, "objects": objects, "attributes": [],
                                                                     "relationships": []})  # fmt: skip
        lungs = picture.masks["lung_left"] | picture.masks["lung_right"]
        put(root / f"lung-segment-mimic-cxr/{image}_lung.png", encoded(np.where(lungs, np.maximum(picture.grey, 1), 0).astype(np.uint8)))
        put(root / f"lung-segment-mimic-cxr/{image}_remainder.png", encoded(np.where(lungs, 0, picture.grey).astype(np.uint8)))
        content = encoded(picture.grey, "JPEG")
        if picture.number != 20:
            put(root / f"mimic-cxr-jpg/files/p{subject[:2]}/p{subject}/s{study}/{image}.jpg",
                truncated(content) if picture.number == 21 else content)  # fmt: skip
    put(root / "chest-imagenome/silver_dataset/scene_graph.zip", zipped(graphs))


# ------------------------------------------------------------ beyond the paper


def square(pixels: np.ndarray, side: int) -> np.ndarray:
    """The picture or mask on a square of `side` pixels, by its nearest pixels."""
    rows, cols = (((np.arange(side) + 0.5) * count / side).astype(int) for count in pixels.shape)
    return pixels[rows[:, None], cols[None]]


def relative_runs(mask: np.ndarray) -> str:
    """SIIM-ACR's code of a mask, down the columns, each start counted from the end of the last run; "-1" when it is empty."""
    flat = np.concatenate([[0], mask.T.ravel().astype(np.int8), [0]])
    starts, ends = np.flatnonzero(np.diff(flat) == 1), np.flatnonzero(np.diff(flat) == -1)
    words, place = [], 0
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        words += [str(start - place), str(end - start)]
        place = end
    return " ".join(words) or "-1"


def pneumothorax(picture: Picture) -> np.ndarray | None:
    """A made-up outline: the right upper zone of every third picture."""
    return square(picture.masks["zone_right_upper"], 1024) if picture.number % 3 == 0 else None


def siim_acr(root: Path, chosen: Sequence[Picture]) -> None:
    """Two rows for the first positive image; a blank before the name of the second column."""
    rows = []
    for picture in chosen:
        image = f"1.2.276.0.7230010.3.1.4.8323329.{1000 + picture.number}.1517875160.{identifier(picture.number, digits=6)}"
        mask = pneumothorax(picture)
        halves = (
            [mask]
            if picture.number or mask is None
            else [mask & (np.arange(1024) < 300)[:, None], mask & (np.arange(1024) >= 300)[:, None]]
        )
        rows += [(image, "-1" if half is None else relative_runs(half)) for half in halves]
        content = dicom(square(picture.grey, 64), bits=8, ViewPosition=picture.view, PatientSex=picture.sex, PatientAge=str(picture.age),
                        **person(picture.patient))  # fmt: skip
        if picture.number != 20:
            put(root / f"dicom-images-train/{image}.1/{image}.2/{image}.dcm", truncated(content) if picture.number == 21 else content)
    put(root / "train-rle.csv", "ImageId, EncodedPixels\n" + "".join(f"{image}, {code}\n" for image, code in rows))


def candid_ptx(root: Path, chosen: Sequence[Picture]) -> None:
    """DICOM with and without suffix, and the table of reports."""
    rows, tubes = [], []
    for picture in chosen:
        image = f"1.3.6.1.4.1.99.{2000 + picture.number}"
        mask = pneumothorax(picture)
        rows.append((f"P{picture.patient:04d}_{picture.number}", image, "-1" if mask is None else relative_runs(mask), picture.report))
        if picture.number % 4 == 0:
            tubes.append((image, "10 5"))
        content = dicom(square(picture.deep, 64), inverted=picture.number % 5 == 1, ViewPosition=picture.view, **person(picture.patient))
        if picture.number != 20:
            put(root / "dataset" / (image + ".dcm" * (picture.number % 2)), truncated(content) if picture.number == 21 else content)
    put(root / "Pneumothorax_reports.csv", table("filename,SOPInstanceUID,EncodedPixels,report", rows))
    put(root / "chest_tube.csv", table("anon_SOPUID,mask_rle", tubes))


def shenzhen(root: Path, chosen: Sequence[Picture]) -> None:
    """One image per patient."""
    for picture in chosen:
        name = f"CHNCXR_{picture.number + 1:04d}_{int(bool(picture.findings))}"
        put(root / f"CXR_png/{name}.png", encoded(picture.grey))
        reading = "PTB in the right upper field" if picture.findings else "normal"
        word = {"M": "male", "F": "female"}[picture.sex]
        put(root / f"ClinicalReadings/{name}.txt", f"{word} {picture.age}yrs\n{reading}\n")


def montgomery(root: Path, chosen: Sequence[Picture]) -> None:
    """Lungs of both sides in folders of their own."""
    for picture in chosen:
        name = f"MCUCXR_{picture.number + 1:04d}_{int(bool(picture.findings))}"
        put(root / f"CXR_png/{name}.png", encoded(picture.grey))
        for side in ("left", "right"):
            put(root / f"ManualMask/{side}Mask/{name}.png", encoded(picture.masks[f"lung_{side}"].astype(np.uint8) * 255))
        put(root / f"ClinicalReadings/{name}.txt", f"Patient's Sex: {picture.sex}\nPatient's Age: {picture.age:03d}Y\nnormal\n")


def jsrt(root: Path, chosen: Sequence[Picture]) -> None:
    """Eight files without header, big-endian, 0 = white, and SCR's organs: none of the third image, no clavicles of the fourth."""
    for picture in chosen[:8]:
        name = f"JPC{'LN' if picture.findings else 'NN'}{picture.number + 1:03d}"
        put(root / "All247images" / f"{name}.IMG", (4095 - square(picture.deep, 2048)).astype(">u2").tobytes())
        for folder, mask in organs(picture).items():
            if picture.number != 2 and not (picture.number == 3 and "clavicle" in folder):
                put(root / f"scratch/fold{2 - (picture.number + 1) % 2}/masks/{folder}/{name}.gif", gif(square(mask, 1024), picture.number))


def organs(picture: Picture) -> dict[str, np.ndarray]:
    """Lungs; made-up others: the first ribs for clavicles, and for the heart what lies between the lower zones."""
    left, right = (picture.masks[f"lung_{side}"] for side in ("left", "right"))
    between = np.maximum.accumulate(right, axis=1) & np.maximum.accumulate(left[:, ::-1], axis=1)[:, ::-1] & ~left & ~right
    lower = (picture.masks["zone_left_lower"] | picture.masks["zone_right_lower"]).any(axis=1)
    return {"heart": between & lower[:, None], "left lung": left, "right lung": right,
            "left clavicle": picture.masks["rib_left_01"], "right clavicle": picture.masks["rib_right_01"]}  # fmt: skip


def gif(mask: np.ndarray, number: int) -> bytes:
    """A mask as GIF: by turns with 0 and 255 as its numbers, or with a palette whose first colour is white."""
    if number % 2:
        picture = Image.fromarray((~mask).astype(np.uint8))
        picture.putpalette([255, 255, 255, 0, 0, 0])
    else:
        picture = Image.fromarray(mask.astype(np.uint8) * 255)
    stream = io.BytesIO()
    picture.save(stream, "GIF")
    return stream.getvalue()


CHESTX_DET_FINDINGS = ("Atelectasis,Calcification,Cardiomegaly,Consolidation,Diffuse Nodule,Effusion,Emphysema,Fibrosis,Fracture,Mass,"
                       "Nodule,Pleural Thickening,Pneumothorax").split(",")  # fmt: skip


def chestx_det(root: Path, chosen: Sequence[Picture]) -> None:
    """Lists of findings with polygons in pixels of 1024 x 1024."""
    entries: dict[str, list] = {"train": [], "test": []}
    for picture in chosen:
        split = "test" if picture.patient % 4 == 3 else "train"
        name = f"{36199 + picture.number}.png"
        zone = square(picture.masks["zone_left_lower"], 1024)
        rows, cols = np.nonzero(zone)
        corners = [[int(cols.min()), int(rows.min())], [int(cols.max()), int(rows.min())], [int(cols.max()), int(rows.max())],
                   [int(cols.min()), int(rows.max())]]  # fmt: skip
        turn = len(entries[split])
        syms = [CHESTX_DET_FINDINGS[(turn + k) % 13] for k in range(turn % 5)]
        entries[split].append({"file_name": name, "syms": syms, "boxes": [[*corners[0], *corners[2]] for _ in syms],
                               "polygons": [corners for _ in syms]})  # fmt: skip
        content = encoded(square(picture.grey, 64))
        if picture.number != 20:
            put(root / split / name, truncated(content) if picture.number == 21 else content)
    for split, rows in entries.items():
        put(root / f"ChestX_Det_{split}.json", json.dumps(rows))


def coco_counts(mask: np.ndarray) -> str:
    """COCO's compressed text of a mask, from its definition."""
    flat = mask.T.ravel().astype(np.int8)
    edges = np.concatenate([[0], np.flatnonzero(np.diff(flat)) + 1, [len(flat)]])
    lengths = ([0] if flat[0] else []) + np.diff(edges).tolist()
    text = ""
    for number, length in enumerate(lengths):
        value = length - lengths[number - 2] if number > 2 else length
        more = True
        while more:
            bits = value & 31
            value >>= 5
            more = not ((value == 0 and not bits & 16) or (value == -1 and bits & 16))
            text += chr((bits | 32 * more) + 48)
    return text


def chexlocalize(root: Path, chosen: Sequence[Picture]) -> None:
    """Outlines of some test images; labels of all."""
    for split, first in (("val", 64541), ("test", 64741)):
        rows, outlines = [], {}
        for picture in [picture for picture in chosen if (picture.patient % 3 == 0) == (split == "test")]:
            patient = f"patient{first + picture.patient}"
            name = f"view{picture.image}_frontal"
            rows.append((f"CheXpert/{split}/{patient}/study{picture.study}/{name}.jpg",
                         *(int("1" in four_values(picture, label, k) and "-" not in four_values(picture, label, k))
                           for k, label in enumerate(CHEXPERT_LABELS))))  # fmt: skip
            if picture.number % 4:
                mask = picture.masks["zone_left_mid"]
                outlines[f"{patient}_study{picture.study}_{name}"] = {
                    "Airspace Opacity": {"size": list(mask.shape), "counts": coco_counts(mask)},
                    "Edema": {"size": list(mask.shape), "counts": coco_counts(np.zeros_like(mask))}}  # fmt: skip
            content = encoded(picture.grey, "JPEG")
            if picture.number != 20:
                put(
                    root / f"CheXpert/{split}/{patient}/study{picture.study}/{name}.jpg",
                    truncated(content) if picture.number == 21 else content,
                )
        header = "Path," + ",".join(CHEXPERT_LABELS)
        put(
            root / f"CheXpert/{split}_labels.csv",
            table(header.replace("Lung Opacity", "Airspace Opacity") if split == "test" else header, rows),
        )
        put(root / f"CheXlocalize/gt_segmentations_{split}.json", json.dumps(outlines))


def padchest_gr(root: Path, chosen: Sequence[Picture]) -> None:
    """Sentences with boxes, and the master table with a row per label."""
    reports, rows = [], []
    for picture in chosen:
        study, name = f"{picture.patient}s{picture.study}i{picture.image}", f"{identifier('gr', picture.number, digits=24)}_01.png"
        sentences = [text.strip() for text in picture.report.split(".") if text.strip()]
        empty = {"abnormal": False, "boxes": [], "extra_boxes": [], "labels": [], "locations": [], "progression": None}
        findings = [{"sentence_en": text, "sentence_es": f"es {text}", **empty} for text in sentences]
        reports.append({"StudyID": study, "ImageID": name, "findings": findings})
        words = sorted(PADCHEST_WORDS[finding] for finding in picture.findings) or ["Normal"]
        split = ("train", "validation", "test")[picture.patient % 3]
        rows += [(study, f"p{picture.patient}", name, word, word, split) for word in words]
        content = encoded(picture.deep << np.uint16(4))
        if picture.number != 20:
            put(root / "PadChest_GR" / name, truncated(content) if picture.number == 21 else content)
    put(root / "grounded_reports_20240819.json", json.dumps(reports))
    put(root / "master_table.csv", table("StudyID,PatientID,ImageID,label,label_group,split", rows))


def rexgradient(root: Path, chosen: Sequence[Picture]) -> None:
    """Studies with lists of paths and views."""
    studies: dict[str, dict[str, dict]] = {"train": {}, "valid": {}, "test": {}}
    for picture in chosen:
        split = ("train", "train", "valid", "test")[picture.patient % 4]
        patient, accession = f"pGRDN{picture.patient:04d}", f"aGRDN{picture.patient:04d}{picture.study}"
        path = f"deid_png/{patient}/{accession}/studies/1.2.{picture.patient}/series/1.3.{picture.study}/instances/1.4.{picture.number}.png"
        texts = {"Indication": "Cough", "Comparison": None, "Findings": picture.report, "Impression": None}
        entry = studies[split].setdefault(f"{patient}_{accession}", {"ImagePath": [], "ImageViewPosition": [], **texts})
        entry["ImagePath"].append(f"../{path}")
        entry["ImageViewPosition"].append("LATERAL" if picture.number % 8 == 7 else picture.view)
        content = encoded(picture.grey)
        if picture.number != 20:
            put(root / path, truncated(content) if picture.number == 21 else content)
    for split, entries in studies.items():
        put(root / f"metadata/{split}_metadata_view_position.json", json.dumps(entries))


def chestmnist(root: Path, chosen: Sequence[Picture]) -> None:
    """The array of 64 x 64."""
    arrays = {}
    first, second = (40, 50) if len(chosen) > 50 else (len(chosen) * 6 // 10, len(chosen) * 8 // 10)
    for split, places in (("train", range(first)), ("val", range(first, second)), ("test", range(second, len(chosen)))):
        arrays[f"{split}_images"] = np.stack([square(chosen[number].grey, 64) for number in places])
        arrays[f"{split}_labels"] = np.array([[int((number + k) % 4 == 0) for k in range(14)] for number in places], dtype=np.uint8)
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    put(root / "chestmnist_64.npz", stream.getvalue())


WRITERS: dict[str, Callable[[Path, Sequence[Picture]], None]] = {
    "mimic_cxr": mimic_cxr, "mimic_cxr_dicom": mimic_cxr_dicom, "chexpert": chexpert, "nih_cxr14": nih_cxr14,
    "nih_cxr14_2020": functools.partial(nih_cxr14, version="2020"), "padchest": padchest, "brax": brax,
    "brax_dicom": functools.partial(brax, files="dicom"), "vindr_cxr": vindr_cxr, "rsna": rsna,
    "rsna_unmapped": functools.partial(rsna, mapped=False), "iu_xray": iu_xray, "iu_xray_nlm": iu_xray_nlm,
    "mimic_segmentation": mimic_segmentation, "vindr_ribcxr": vindr_ribcxr, "candid_ptx": candid_ptx, "chestmnist": chestmnist,
    "chestx_det": chestx_det, "chexlocalize": chexlocalize, "jsrt": jsrt, "montgomery": montgomery, "padchest_gr": padchest_gr,
    "rexgradient": rexgradient, "shenzhen": shenzhen, "siim_acr": siim_acr,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="Write tiny copies of the data sets, filled with phantoms.")
    parser.add_argument("--root", type=Path, required=True, help="each copy becomes a folder below it")
    parser.add_argument("--dataset", choices=sorted(WRITERS), help="only this one")
    parser.add_argument("--patients", type=int, default=PATIENTS)
    parser.add_argument("--size", type=int, default=SIZE, help="rows of an image")
    arguments = parser.parse_args()
    names = [arguments.dataset] if arguments.dataset else list(WRITERS)
    for name in names:  # before any is written
        check(arguments.root / name, arguments.patients, arguments.size)
    for name in names:
        write(name, arguments.root / name, arguments.patients, arguments.size, own_seed(name))


if __name__ == "__main__":
    run_entry_point(main)
