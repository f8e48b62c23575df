"""Tidy folder: `images/`, `metadata.csv`, optional masks and reports. The format is specified in docs/formats.md.

The reader looks at names and tables only; pixels are decoded once, by radbench.index.
"""

import dataclasses
import re
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import pandas as pd

from ..dicom import PICTURES
from ..errors import DataError, did_you_mean
from ..image import SUFFIXES
from . import Mask, Record, columns, unlisted

VIEWS = {"PA": "PA", "AP": "AP", "AP_SUPINE": "AP_SUPINE", "AP SUPINE": "AP_SUPINE", "FRONTAL": "FRONTAL", "LATERAL": "LATERAL",
         "LL": "LATERAL", "L": "LATERAL", "OTHER": "OTHER", "UNKNOWN": "UNKNOWN", "": "UNKNOWN"}  # fmt: skip
SPLITS = {"train": "train", "val": "val", "valid": "val", "validate": "val", "validation": "val", "test": "test"}
LABEL_VALUES = (1.0, 0.0, -1.0)
NOT_GIVEN = ("", "U", "UNKNOWN", "NA", "N/A", "NAN", "NONE")  # of sex and age
WORDS = {"yes": "1", "true": "1", "no": "0", "false": "0"}  # in the place of 1 and 0
#: what other tables call the two columns that have to be there
OTHER_NAMES = {"image": ("filename", "file", "file name", "path", "image path", "image id", "img"),
               "subject_id": ("patient", "patientid", "patient id", "subject", "subjectid", "subject id", "pid")}  # fmt: skip
# Column names that `labels: auto` takes for findings: those of ChestX-ray14, CheXpert and VinDr-CXR.
KNOWN_FINDINGS = tuple(dict.fromkeys((
    "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Effusion", "Emphysema", "Fibrosis", "Hernia", "Infiltration",
    "Mass", "Nodule", "Pleural_Thickening", "Pneumonia", "Pneumothorax", "Enlarged Cardiomediastinum", "Lung Opacity",
    "Lung Lesion", "Pleural Effusion", "Pleural Other", "Fracture", "Aortic enlargement", "Calcification", "ILD",
    "Nodule/Mass", "Pleural effusion", "Pleural thickening", "Pulmonary fibrosis", "Tuberculosis",
)))  # fmt: skip
OWN_COLUMNS = ("image", "subject_id", "study_id", "view", "sex", "age", "site", "source", "split", "mask")  # of metadata.csv, in any case
MASK_STRUCTURE = "lungs"  # what the single `mask` column holds


@dataclasses.dataclass(frozen=True)
class Options:
    """What the configuration says of one folder."""

    labels: Sequence[str] = ()
    report_column: str = "text"
    mask_structure: str = MASK_STRUCTURE
    subject_ids: bool = True  # False: the owner releases no patient ids; each image counts as a patient of its own, and tables say so


def records(root: Path, options: Options) -> list[Record]:
    """One record per row of `metadata.csv`.

    Raises:
        DataError: no such folder or table, a column is missing, a view, split or label value is unknown, an image is
            listed twice, a path leaves the folder, or a subject lies in two splits.
    """
    table = _read_table(root / "metadata.csv")
    path = root / "metadata.csv"
    taken = {*table.columns, *options.labels}
    table = table.rename(columns={name: name.lower() for name in table.columns
                                  if name not in options.labels and name.lower() in OWN_COLUMNS and name.lower() not in taken})  # fmt: skip
    if not options.subject_ids and "image" in table.columns:
        table["subject_id"] = table["image"].map(_identifier)
    for column in ("image", "subject_id", *options.labels):
        if column not in table.columns:
            alike = [name for name in table.columns if _plain(name) in OTHER_NAMES.get(column, (_plain(column),))]
            fix = f"did you mean {alike[0]!r}? Call it {column!r}" if alike else did_you_mean(column, table.columns, 0.8)
            needs = "every table has `image` and `subject_id`" if column in OTHER_NAMES else "name the label columns under `labels:`"
            raise DataError(path, f"no column {column!r}", got=list(table.columns), fix=fix or f"{needs} (docs/formats.md)")
    if "site" not in table.columns and "source" in table.columns:
        table = table.rename(columns={"source": "site"})
    for column in ("study_id", "view", "sex", "age", "site", "split", "mask"):
        if column not in table.columns:
            table[column] = ""
    _check_rows(path, table)
    table["study_id"] = table["study_id"].where(table["study_id"] != "", table["image"].map(_identifier))
    texts = _reports(root, table, options)
    extra_masks = _structures(root, table)
    labels = {name: _label_values(path, table, name) for name in options.labels}

    sexes, ages = table["sex"].map(columns.sex), table["age"].map(columns.age)
    _say_lost(path, table["sex"], sexes == "", "M, F or O")
    _say_lost(path, table["age"], ages.isna(), f"years from 0 to {columns.MAX_AGE}, or 045Y, 006M, 012W, 010D")

    found = []
    for row, (image, subject) in enumerate(zip(table["image"], table["subject_id"], strict=True)):
        masks = list(extra_masks.get(image, ()))
        if table["mask"].iat[row]:
            masks.append(Mask(options.mask_structure, _inside(root / "masks", table["mask"].iat[row], path)))
        found.append(Record(
            image_id=_identifier(image), patient_id=subject, study_id=table["study_id"].iat[row],
            view=VIEWS[table["view"].iat[row].upper()], split=SPLITS.get(table["split"].iat[row].lower(), ""),
            site=table["site"].iat[row], sex=sexes.iat[row], age=ages.iat[row],
            path=_inside(root / "images", image, path), labels={name: values[row] for name, values in labels.items()},
            masks=tuple(masks), report=texts[row],
        ))  # fmt: skip
    named = {record.path for record in found}
    others = (path for path in sorted((root / "images").rglob("*")) if path.suffix.lower() in SUFFIXES and path not in named)
    return found + [unlisted(path.relative_to(root / "images").as_posix(), path) for path in others]


def known_labels(root: Path) -> list[str]:
    """The columns of `metadata.csv` that are findings by name; none without the table."""
    path = root / "metadata.csv"
    known = set(map(_plain, KNOWN_FINDINGS))
    return [name for name in _read_table(path).columns if _plain(name) in known] if path.is_file() else []


def _plain(name: str) -> str:
    """A column's name without case, and with a space for "_"."""
    return name.lower().replace("_", " ")


def _read_table(path: Path) -> pd.DataFrame:
    if not path.is_file():
        siblings = sorted(entry.name for entry in path.parent.iterdir())[:10] if path.parent.is_dir() else "no such folder"
        raise DataError(path, "no such table", got=siblings, expected="a tidy folder", fix="see docs/formats.md")
    content = path.read_bytes()
    if b"\0" in content:
        raise DataError(path, "not text: it holds zero bytes", fix="save it again as CSV, UTF-8")
    head = content.partition(b"\n")[0]
    separator = ";" if head.count(b";") > head.count(b",") else ","  # as spreadsheets write where the comma is the decimal sign
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig", sep=separator)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise DataError(path, f"not a comma-separated table in UTF-8 ({error})", fix="save it again as CSV, UTF-8") from None
    table.columns = table.columns.str.strip()
    if table.columns.duplicated().any():
        raise DataError(path, "a column name occurs twice", got=list(table.columns[table.columns.duplicated()]))
    if len(table) == 0:
        raise DataError(path, "the table has no rows")
    return table.apply(lambda column: column.str.strip())


def _check_rows(path: Path, table: pd.DataFrame) -> None:
    def first(bad: pd.Series) -> str:
        row = int(bad.to_numpy().argmax())
        return f"line {row + 2} ({table['image'].iat[row]})"

    for column in ("image", "subject_id"):
        if (bad := (table[column] == "") | (column == "image") & ~table["image"].map(lambda name: bool(PurePosixPath(name).name))).any():
            raise DataError(path, f"empty {column} in {first(bad)}", fix="every image needs a file name and a subject")
    stems = table["image"].map(_identifier)
    if (bad := stems.duplicated()).any():
        raise DataError(path, f"duplicate image id {stems[bad].iat[0]!r} in {first(bad)}", fix="keep one row per image")
    if (bad := ~table["view"].str.upper().isin(VIEWS)).any():
        value = table["view"][bad].iat[0]
        raise DataError(path, f"unknown view {value!r} in {first(bad)}", expected=sorted(set(VIEWS.values())))
    given = table["split"] != ""
    if (bad := given & ~table["split"].str.lower().isin(SPLITS)).any():
        raise DataError(path, f"unknown split {table['split'][bad].iat[0]!r} in {first(bad)}", expected="train, val or test")
    if given.any() and not given.all():
        raise DataError(path, f"split given for {int(given.sum())} of {len(table)} rows; empty in {first(~given)}",
                        fix="fill the column or remove it: then radbench splits by patient")  # fmt: skip
    if given.all():
        per_subject = table["split"].str.lower().map(SPLITS).groupby(table["subject_id"]).nunique()
        if (per_subject > 1).any():
            names = list(per_subject[per_subject > 1].index[:3])
            raise DataError(path, f"{int((per_subject > 1).sum())} subjects lie in two splits, such as {names}",
                            fix="put all images of a subject into one split")  # fmt: skip


def _say_lost(path: Path, given: pd.Series, blank: pd.Series, allowed: str) -> None:
    """Say on stderr which values of a column were given and are taken as not given."""
    lost = blank & ~given.str.upper().isin(NOT_GIVEN)
    if lost.any():
        print(f"WARNING: {path}: {given.name} of {int(lost.sum())} of {len(given)} rows is taken as not given, such as "
              f"{', '.join(map(repr, given[lost].unique()[:3]))}; expected {allowed}", file=sys.stderr)  # fmt: skip


def _label_values(path: Path, table: pd.DataFrame, name: str) -> list[float]:
    text = table[name].str.lower().replace(WORDS)
    values = pd.to_numeric(text.where(text != "", None), errors="coerce").astype(float)
    if (bad := (text != "") & ~values.isin(LABEL_VALUES)).any():
        row = int(bad.to_numpy().argmax())
        got = table[name].iat[row]
        raise DataError(path, f"label {name!r} has value {got!r} in line {row + 2}", expected="1, 0, -1 or empty; or yes, no, true, false")
    return values.tolist()


def _reports(root: Path, table: pd.DataFrame, options: Options) -> list[str]:
    path, column = root / "reports.csv", options.report_column
    if not path.is_file():
        return [""] * len(table)
    reports = _read_table(path)
    key = next((name for name in ("image", "study_id") if name in reports.columns), None)
    if key is None or column not in reports.columns:
        raise DataError(path, f"needs `image` or `study_id`, and {column!r}", got=list(reports.columns),
                        fix="set report_column in the configuration")  # fmt: skip
    if (reports[key] == "").any():
        line = int((reports[key] == "").to_numpy().argmax()) + 2
        raise DataError(path, f"empty {key} in line {line}", fix="every report needs the image or study that it describes")
    keys = [key]
    if key == "study_id" and options.subject_ids:  # studies may be numbered anew with each patient
        if "subject_id" in reports.columns:
            keys = ["subject_id", "study_id"]
        else:
            owners = table[table["study_id"].isin(reports["study_id"])].groupby("study_id")["subject_id"].nunique()
            if (owners > 1).any():
                raise DataError(path, f"study {owners.idxmax()!r} is of {owners.max()} subjects in metadata.csv",
                                fix="add a column subject_id: a text belongs to one of them")  # fmt: skip
    if keys == ["study_id"] and "subject_id" in reports.columns and (mixed := reports.groupby(key)["subject_id"].nunique() > 1).any():
        raise DataError(
            path, f"study {mixed.idxmax()!r} is of several subjects, and subject_ids is off", fix="name the `image` of each text"
        )
    texts = reports.groupby(keys)[column].agg(lambda part: " ".join(part.unique()))
    found = texts.reindex(table[keys[0]] if len(keys) == 1 else pd.MultiIndex.from_frame(table[keys])).fillna("").tolist()
    if not any(found):
        raise DataError(path, f"no {' and '.join(keys)} of it is in metadata.csv", got=reports[keys][:3].to_numpy().tolist(),
                        expected=f"like {table[keys][:3].to_numpy().tolist()}")  # fmt: skip
    known = table[keys].apply(tuple, axis=1)
    if (strays := reports[~reports[keys].apply(tuple, axis=1).isin(known)]).size:
        print(f"WARNING: {path}: {len(strays)} of {len(reports)} reports are of no image in metadata.csv, such as that of "
              f"{' '.join(strays[keys].iloc[0])}", file=sys.stderr)  # fmt: skip
    return found


def _structures(root: Path, table: pd.DataFrame) -> dict[str, list[Mask]]:
    path = root / "structures.csv"
    if not path.is_file():
        return {}
    rows = _read_table(path)
    for column in ("structure", "mask_file"):
        if column not in rows.columns:
            raise DataError(path, f"no column {column!r}", got=list(rows.columns))
    folders = [root / name for name in ("masks", "masks_structures") if (root / name).is_dir()]
    here = {entry.relative_to(folder).as_posix(): entry for folder in folders for entry in folder.rglob("*")}
    images = {_identifier(image): image for image in table["image"]}
    found: dict[str, list[Mask]] = {}
    for row in rows.to_dict("records"):
        bit = int(float(row["bit"])) if re.fullmatch(r"\d+(\.0)?", row.get("bit", "")) else None
        if row.get("bit") and bit is None:
            raise DataError(path, f"bit {row['bit']!r} of {row['structure']}", expected="a whole number from 0 to 15, or empty")
        if row.get("image"):
            name, image = row["mask_file"], images.get(_identifier(row["image"]))
            if image is None:
                raise DataError(path, f"the image {row['image']!r} of {row['structure']!r} is not in metadata.csv",
                                expected=f"like {table['image'].iat[0]!r}")  # fmt: skip
            mask_path = here.get(name) or _inside(folders[0] if folders else root / "masks", name, path)
            found.setdefault(image, []).append(Mask(row["structure"], mask_path, bit))
            continue
        taken: dict[str, str] = {}
        for identifier, image in images.items():
            full, bare = (row["mask_file"].replace("{stem}", stem) for stem in (identifier, PurePosixPath(identifier).name))
            name = full if full in here else bare
            if name in here:
                if name in taken:
                    raise DataError(path, f"the mask {name!r} is that of {taken[name]!r} and of {image!r}", expected="a mask per image",
                                    fix=f"lay them in folders like the images ({full}), or name the image of each mask")  # fmt: skip
                taken[name] = image
                found.setdefault(image, []).append(Mask(row["structure"], here[name], bit))
        if not taken:
            raise DataError(path, f"{row['mask_file']!r} of {row['structure']!r} is the mask of no image", got=sorted(here)[:3],
                            expected=f"{full!r} and the like, in masks/")  # fmt: skip
    return found


def _identifier(image: str) -> str:
    """The image's path without the suffix of a picture: file names may repeat between folders of patients, and a UID has no suffix."""
    path = PurePosixPath(image)
    return str(path.with_suffix("")) if path.suffix.lower() in {*SUFFIXES, *PICTURES, ".img"} and path.name else str(path)


def _inside(folder: Path, name: str, table: Path) -> Path:
    path = folder / name
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise DataError(table, f"the file name {name!r} leaves {folder.name}/", fix="name files inside the folder only")
    return path
