"""Predictions that somebody made elsewhere, as a long CSV or Parquet file, on their way into `stats.compare`.

What the file must hold is told by ``python -m stats.tables --help``. It is checked here, with file and line, before
anything is computed; then it becomes the same folders that the tasks of this project write, so that one code derives
both.
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from . import ngrams
from .compare import Settings, compare
from .errors import EncoderMissing, PredictionsError, SampleMismatch, SettingError, TruthMismatch
from .predictions import ALIKE, GROUPS, MAY_LACK, RANGES, SAMPLE_KEY, TRUTH, texts
from .provenance import forget, write_artifact

#: Columns without which a file is not of a task.
NEEDED = {
    "linear_probe": ("label", "target", "score"),
    "segmentation": ("structure", "dice"),
    "report_generation": ("reference", "hypothesis"),
}
ALWAYS = ("encoder", "image_id")
_CHEXBERT = tuple(f"chexbert_{side}_{k}" for side in ("ref", "hyp") for k in range(14))
#: Columns with numbers: `predictions.RANGES` says what they can be, and MAY_LACK which of them may be empty.
NUMBERS = {
    "linear_probe": ("target", "score"),
    "segmentation": ("dice", "hd95", "nsd", "ref_area", "pred_area"),
    "report_generation": (*ngrams.COLUMNS, "rg_er", *_CHEXBERT),
}
#: What others call these columns.
OTHER_WORDS = {"encoder": ("model", "network", "method"), "image_id": ("image", "img", "id", "filename", "file", "path"),
               "label": ("finding", "class", "pathology"), "target": ("y_true", "truth", "gt", "ground_truth", "y"),
               "score": ("probability", "prob", "prediction", "pred", "y_pred", "logit")}  # fmt: skip
#: What others call patient_id, without dots, spaces and underscores: read as nothing, it would make every interval too narrow.
PATIENTS = ("patientid", "patient", "patients", "subjectid", "subject", "personid", "pid")
WORDS = ("patient_id", "study_id", *GROUPS)
TABLES = {"linear_probe": "table3", "segmentation": "table4", "report_generation": "table5"}
#: Longest name of a folder, in bytes (file systems end at 255).
LONGEST = 80


def write_own(
    files: Sequence[Path | str], work: Path, reference: str | None, settings: Settings, controls: Sequence[str] = (),
    replicates: str | None = None,
) -> Path:  # fmt: skip
    """Check and read the files, write predictions and statistics below ``work``; returns the path of a spec of tables beside it.

    Args:
        reference: an encoder as the files spell it; None is the first one that is no control.
        controls: encoders as the files spell them that know nothing (random weights, raw pixels), set apart in the tables.
        replicates: what the column of this name counts, ``folds`` (all of one training set, each learned from all others) or
            ``seeds``; None is not known, and then they are drawn as seeds.

    Raises:
        StatsError: a file is not as described, or encoders cannot be compared; nothing is written then.
    """
    parts = {name: _read(Path(file), name) for file, name in _names_of(files).items()}
    tasks = [task for task in NEEDED if any(task == other for other, _, _ in parts.values())]
    by_task = {task: _joined(task, [rows for other, rows, _ in parts.values() if other == task]) for task in tasks}
    counted = "report_generation" in by_task and ngrams.COLUMNS[0] not in by_task["report_generation"]
    if counted:
        reports = by_task["report_generation"]
        by_task["report_generation"] = reports.assign(**ngrams.columns(reports["reference"], reports["hypothesis"]))
    numbers = {task: sorted(set(rows["replicate"])) for task, rows in by_task.items()} if replicates else {}
    if replicates and all(len(found) < 2 for found in numbers.values()):
        raise SettingError("--replicates", f"{replicates}, but one replicate only", "a column replicate with their numbers",
                           "add it, or leave out the option")  # fmt: skip
    for found in numbers.values():  # a task with one replicate, beside others with more, has neither folds nor seeds
        if replicates == "folds" and found[-1] - found[0] >= len(found):
            raise SettingError("--replicates", f"folds, and the replicates {found}", "every fold of one split, once each",
                               "add the others: how much two folds share follows from their number")  # fmt: skip
    titles = list(dict.fromkeys(name for rows in by_task.values() for name in rows["encoder"]))
    names = _folder_names(titles)
    for option, name in [("--reference", reference), *(("--controls", name) for name in controls)]:
        if name not in (None, *titles):
            raise EncoderMissing(option, name, f"one of {titles}", "name one of them" + _near(name, titles))
    proper = [title for title in titles if title not in controls]
    reference = reference or (proper or titles)[0]
    results = work / "results"
    spec = {"title": "", "own": True, "results": str(results), "tables": str(work.parent), "reference": names[reference],
            "encoders": list(names.values()), "controls": [names[title] for title in titles if title in controls],
            "cards": {name: [] for name in names.values()},
            "unread": {name: columns for name, (_, _, columns) in parts.items() if columns}}  # fmt: skip
    for task, rows in by_task.items():
        _identified(rows, settings.unit)
        for dataset, of_dataset in rows.groupby("dataset", sort=False):
            _comparable(task, str(dataset), of_dataset)
    written = set()
    for task, rows in by_task.items():
        folder_of = _folder_names(list(dict.fromkeys(rows["dataset"])))
        for dataset, of_dataset in rows.groupby("dataset", sort=False):
            folder, folders = folder_of[dataset], []
            for title, of_encoder in of_dataset.groupby("encoder", sort=False):
                folders.append(results / task / folder / names[title])
                _write(folders[-1], task, of_encoder.assign(dataset=folder, encoder=names[title]), title,
                       replicates if len(numbers.get(task, ())) > 1 else None,
                       {"tokenizer": ngrams.TOKENIZER} if counted and task == "report_generation" else {})  # fmt: skip
                spec["cards"][names[title]].append(str(folders[-1] / "meta.json"))
            present = list(dict.fromkeys(of_dataset["encoder"]))
            own = names[reference if reference in present else present[0]]
            compare(task, folder, own, folders, results / "stats" / task / folder, settings)
            written |= {*folders, results / "stats" / task / folder}
            targets = {"linear_probe": "label", "segmentation": "structure_set"}.get(task)
            entry = {"dataset": folder, "title": dataset, "stats": str(results / "stats" / task / folder), "paper": None}
            entry |= {"columns": {name: name for name in dict.fromkeys(of_dataset[targets])}} if targets else {}
            entry |= {"metrics": ["auprc", "auroc"]} if task == "linear_probe" else {}
            if task == "segmentation":
                entry["metrics"] = [metric for metric in ("dice", "hd95", "nsd") if metric in rows and of_dataset[metric].notna().any()]
            spec.setdefault(TABLES[task], []).append(entry)
    for former in {meta.parent for meta in results.rglob("meta.json")} - written:
        forget(former, ("predictions", "stats"))
    path = work / "spec.json"
    path.write_text(json.dumps(spec, indent=1), encoding="utf-8")
    return path


def _names_of(files: Sequence[Path | str]) -> dict[Path, str]:
    """How messages name each file: by its name, or by the whole path where two share one; the same file twice is refused.

    Raises:
        PredictionsError: a file is given twice.
    """
    found: dict[Path, Path] = {}
    for path in map(Path, files):
        if path.resolve() in found:
            raise PredictionsError("--csv", f"{path} more than once", "each file once", "name it once")
        found[path.resolve()] = path
    names = [path.name for path in found.values()]
    return {path: path.name if names.count(path.name) == 1 else str(path) for path in found.values()}


# ---------------------------------------------------------------- one file


def _read(path: Path, where: str) -> tuple[str, pd.DataFrame, list[str]]:
    """Task and checked rows of a file, ``place`` is file and line of each; and the columns that are not read."""
    if not path.is_file():
        raise PredictionsError(str(path), "no such file", "a CSV or Parquet file of predictions", "check the path")
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            rows = pd.read_parquet(path)
            places = [f"{where} row {number}" for number in range(1, len(rows) + 1)]
        else:
            rows, places = _csv(path, where)
        rows.columns = [str(column).strip() for column in rows.columns]
    except UnicodeError:
        raise PredictionsError(where, "bytes that are not UTF-8", "CSV with a header in UTF-8, or Parquet",
                               "export it again as UTF-8 (in Excel: CSV UTF-8)") from None  # fmt: skip
    except (ValueError, TypeError, OSError, csv.Error) as error:
        raise PredictionsError(where, f"a file that cannot be read ({error})", "CSV with a header, or Parquet", "export it again") from None
    task = _task(where, list(rows.columns))
    there = [name for name in ngrams.COLUMNS if name in rows]
    if task == "report_generation" and 0 < len(there) < len(ngrams.COLUMNS):
        lacking = ", ".join(name for name in ngrams.COLUMNS if name not in there)
        raise PredictionsError(where, f"columns {there}, without {lacking}", f"all of them or none ({', '.join(ngrams.COLUMNS)})",
                               "leave them out: they are counted from the texts")  # fmt: skip
    if rows.empty:
        raise PredictionsError(where, "no rows", "one row per prediction", "export it again")
    wanted = [*ALWAYS, *NEEDED[task], *NUMBERS[task], *WORDS, "dataset", "replicate", "structure_set"]
    if twice := [column for column in dict.fromkeys(wanted) if list(rows.columns).count(column) > 1]:
        raise PredictionsError(where, f"more than one column {', '.join(twice)}", "each column once", "rename or remove the others")
    unread = [column for column in dict.fromkeys(rows.columns) if column and column not in wanted]
    meant = [column for column in unread if _is_patient(column)]
    if meant and "patient_id" not in rows:
        raise PredictionsError(where, f"a column {meant[0]} and no patient_id", "patient_id (did you mean this?)", "rename the column, or "
                               "remove it if it names no patients: without patient_id images count as independent")  # fmt: skip
    rows = rows[[column for column in dict.fromkeys(wanted) if column in rows]].copy()
    for column in set(rows.columns) - set(NUMBERS[task]) - {"replicate"}:
        rows[column] = pd.Series(texts(rows[column]), rows.index).str.strip()
    rows["place"] = places
    for column in ("encoder", "image_id", *({"label", "structure"} & set(rows.columns))):
        _refuse(rows, rows[column] == "", f"an empty {column}", f"{column} in every row", "fill it in")
    if task == "report_generation" and not there:
        wordless = [not ngrams.tokens(text) for text in rows["reference"]]
        _refuse(rows, wordless, "a reference without a word", "a report in every row, since everything scores 0 against none",
                "fill it in, or leave the image out for every encoder")  # fmt: skip
    _numbers(task, rows)
    rows["dataset"] = rows["dataset"].replace("", "own") if "dataset" in rows else "own"
    for column in ("patient_id", "study_id"):
        rows[column] = rows.get(column, "")
    if task == "segmentation":
        named = rows.get("structure_set", rows["structure"])
        rows["structure_set"] = named.where(named != "", rows["structure"])
    return task, rows, unread


def _is_patient(column: str) -> bool:
    """Whether a column is likely to name patients: one of PATIENTS, or spelled almost so.

    >>> [name for name in ("Patient ID", "subject_id", "patinet_id", "patient_age", "study") if _is_patient(name)]
    ['Patient ID', 'subject_id', 'patinet_id']
    """
    return bool(difflib.get_close_matches(re.sub(r"[^a-z0-9]", "", column.lower()), PATIENTS, 1, 0.85))


def _csv(path: Path, where: str) -> tuple[pd.DataFrame, list[str]]:
    """Rows as texts, and the line on which each begins: a blank line is no row, and a quoted text may have several.

    A short row lacks its last fields; a longer one than the header would move every value by a column.

    Raises:
        PredictionsError: the file is empty, or a row is longer than the header.
    """
    with path.open(encoding="utf-8-sig", newline="") as text:
        head = next(filter(str.strip, text), "")
        if "\0" in head:
            raise UnicodeError
        text.seek(0)
        reader = csv.reader(text, delimiter=max(",;\t", key=head.count))
        found, places, start = [], [], 1
        for fields in reader:
            if any(map(str.strip, fields)):
                found.append(fields)
                places.append(f"{where} line {start}")
            start = reader.line_num + 1
    if not found:
        raise PredictionsError(where, "an empty file", "a header and one row per prediction", "export it again")
    header, *rows = found
    for place, fields in zip(places[1:], rows, strict=True):
        if len(fields) > len(header):
            raise PredictionsError(place, f"{len(fields)} fields", f"{len(header)}, as the header has",
                                   "put texts with a separator in quotes")  # fmt: skip
    padded = [[*fields, *[""] * (len(header) - len(fields))] for fields in rows]
    return pd.DataFrame(padded, columns=header, dtype=object), places[1:]


def _task(where: str, columns: Sequence[str]) -> str:
    """The task whose columns the file has; else an error that names what is missing and what was perhaps meant."""
    complete = [task for task, needed in NEEDED.items() if set(needed) <= set(columns)]
    if len(complete) > 1:
        raise PredictionsError(where, f"columns of several tasks ({', '.join(complete)})", "one task per file", "split the file")

    def likely(task: str) -> float:
        return np.mean([bool(difflib.get_close_matches(name.lower(), map(str.lower, columns), 1, 0.75)) for name in NEEDED[task]])

    task = complete[0] if complete else max(NEEDED, key=likely)
    missing = [name for name in (*ALWAYS, *NEEDED[task]) if name not in columns]
    if missing:
        hints = [f"{name}{_near(name, [c for c in columns if c not in (*ALWAYS, *NEEDED[task])])}" for name in missing]
        titles = {"linear_probe": "classification", "segmentation": "segmentation", "report_generation": "reports"}
        raise PredictionsError(where, f"columns {list(columns)}, without {', '.join(hints)}",
                               f"{', '.join((*ALWAYS, *NEEDED[task]))} ({titles[task]})",
                               "rename or add the columns; python -m stats.tables --help lists them")  # fmt: skip
    return task


def _near(name: str, choices: Sequence[str]) -> str:
    """`` (did you mean X?)`` where a choice is another word for it or is spelled almost so.

    >>> _near("score", ["Scores", "id"]), _near("encoder", ["model"]), _near("target", ["image"])
    (' (did you mean Scores?)', ' (did you mean model?)', '')
    """
    by_lower = {choice.lower().strip(): choice for choice in choices}
    found = [word for word in OTHER_WORDS.get(name, ()) if word in by_lower] or difflib.get_close_matches(name.lower(), by_lower, 1, 0.6)
    return f" (did you mean {by_lower[found[0]]}?)" if found else ""


def _refuse(rows: pd.DataFrame, bad: pd.Series | np.ndarray, got: str, expected: str, next_step: str) -> None:
    """PredictionsError with the first places, if any row is bad."""
    bad = np.asarray(bad, dtype=bool)
    if bad.any():
        places = rows.loc[bad, "place"].tolist()
        more = f" and {len(places) - 3} more" if len(places) > 3 else ""
        raise PredictionsError("; ".join(places[:3]) + more, got, expected, next_step)


def _numbers(task: str, rows: pd.DataFrame) -> None:
    """Turn text into numbers, in place."""
    for column in [name for name in (*NUMBERS[task], "replicate") if name in rows]:
        text = pd.Series(texts(rows[column]), rows.index).str.strip()
        if column == "target":
            text = text.replace({"True": "1", "TRUE": "1", "true": "1", "False": "0", "FALSE": "0", "false": "0"})
        number = pd.to_numeric(text.replace("", "nan"), errors="coerce").astype(np.float64)
        blank = text.str.lower().isin(["", "nan"])
        bad = number.isna() & ~blank
        example, allowed = next(iter(text[bad]), ""), RANGES[column]
        comma = " with a point, not a comma" if re.fullmatch(r"-?\d+,\d+", example) else ""
        fix = allowed.fix if column == "replicate" else "write the numbers again"
        _refuse(rows, bad, f"{column} {example!r}", f"{allowed}{comma}", fix)
        _refuse(rows, np.isinf(number), f"{column} that is infinite", "a finite number", fix)
        if column not in MAY_LACK:
            _refuse(rows, blank, f"an empty {column}", "a number in every row", "fill it in, or leave the sample out for every encoder")
        wrong = allowed.refuses(number.to_numpy())
        _refuse(rows, wrong, f"{column} {next(iter(number[wrong]), 0):g}", str(allowed), allowed.fix)
        rows[column] = number
    rows["replicate"] = rows["replicate"].astype(np.int64) if "replicate" in rows else 0


# ---------------------------------------------------------------- all files of a task


def _joined(task: str, parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """One table of all files of a task; no sample twice."""
    rows = pd.concat(parts, ignore_index=True)
    blank = {column: "" for column in GROUPS if column in rows}
    rows = rows.fillna(blank)
    key = ["dataset", "encoder", "replicate", *SAMPLE_KEY[task]]
    repeated = rows.duplicated(key, keep=False)
    if repeated.any():
        first = rows.loc[repeated, key].iloc[0]
        same = rows[(rows[key] == first).all(axis=1)]["place"].tolist()
        raise SampleMismatch("; ".join(same[:3]), f"{', '.join(f'{k} {v}' for k, v in first.items())}, {len(same)} times "
                             f"({int(rows.duplicated(key).sum())} rows too many in all)", "each sample once per encoder and replicate",
                             "remove the repeated rows, or tell folds and seeds apart in a column replicate")  # fmt: skip
    partial = {column: int(rows[column].isna().sum()) for column in NUMBERS[task] if column in rows and column not in MAY_LACK}
    if lacking := [column for column, count in partial.items() if count]:
        raise PredictionsError("files", f"columns {lacking} in some files only", "the same columns in every file of a task",
                               "add them to the other files, or leave them out")  # fmt: skip
    return _with_areas(rows) if task == "segmentation" else rows


def _with_areas(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with areas where the files have none: 1 where something is, 0 where nothing is; empty fields are where they may be.

    An image and a structure have one reference. Where it lacks the structure, an encoder that draws nothing has an empty Dice and
    another that draws it has 0: so one empty Dice tells that all other rows of the sample lack the structure, too.
    """
    empty = rows["dice"].isna()
    nothing = empty.groupby(rows["dataset"]).transform("all")
    _refuse(rows, nothing, f"no dice at all in the data set {next(iter(rows['dataset'][nothing]), '')}",
            "a dice wherever the reference has the structure", "fill it in, or leave the data set out")  # fmt: skip
    if "ref_area" not in rows:
        sample = [rows[name] for name in ("dataset", *SAMPLE_KEY["segmentation"])]
        somewhere = (rows["dice"] > 0).groupby(sample).transform("any")
        _refuse(rows, empty & somewhere, "an empty dice, where another row of the same image and structure has one above 0",
                "an empty dice only where the reference lacks the structure", "write 0 if nothing was drawn of a structure that "
                "the reference has")  # fmt: skip
        rows["ref_area"] = (~empty.groupby(sample).transform("any")).astype(np.int64)
    absent = rows["ref_area"] == 0
    _refuse(rows, absent & (rows["dice"] > 0), "a dice above 0 beside ref_area 0", "0, or nothing where nothing was drawn",
            "correct the dice or ref_area")  # fmt: skip
    if "pred_area" not in rows:
        rows["pred_area"] = ((rows["dice"] > 0) | absent & ~empty).astype(np.int64)
    for column in [name for name in MAY_LACK if name in rows]:
        measured = rows[column].notna().groupby([rows["dataset"], rows["encoder"]]).transform("any")
        _refuse(rows, rows[column].isna() & ~absent & measured, f"an empty {column} of a structure that the reference has", "a number",
                "fill it in, or leave the column out")  # fmt: skip
    return rows


def _identified(rows: pd.DataFrame, unit: str) -> None:
    """All patients of a data set are known or none; all studies are if they are to be drawn."""
    blank = rows["patient_id"] == ""
    others = (~blank).groupby(rows["dataset"]).transform("any")
    _refuse(rows, blank & others, "an empty patient_id, where other rows of the data set have one",
            "a patient_id in every row, or in none", "fill it in, or leave it empty (or the column out) everywhere: then images count "
            "as independent")  # fmt: skip
    _refuse(rows, (rows["study_id"] == "") & (unit == "study"), "a row without a study id", "a study_id in every row, for --unit study",
            "fill it in, or resample patients (the default) or images: --unit image")  # fmt: skip


def _comparable(task: str, dataset: str, rows: pd.DataFrame) -> None:
    """Every encoder and replicate has the same samples with the same truth."""
    sample = SAMPLE_KEY[task]
    truth = [name for name in (*TRUTH[task], *ALIKE) if name in rows]
    groups = {key: of.set_index(sample)[truth].sort_index() for key, of in rows.groupby(["encoder", "replicate"], sort=False)}
    (first, expected), *others = groups.items()
    several = rows["replicate"].nunique() > 1

    def name(key: tuple[str, int]) -> str:
        return f"{key[0]} replicate {key[1]}" if several else key[0]

    for key, found in others:
        for lacking, having, absent in ((first, key, found.index.difference(expected.index)),
                                        (key, first, expected.index.difference(found.index))):  # fmt: skip
            if len(absent):
                raise SampleMismatch(dataset, f"{len(absent)} samples of {name(having)} that {name(lacking)} lacks: {_listed(absent, 5)}",
                                     "the same samples for every encoder",
                                     "predict the missing ones, or leave them out for every encoder")  # fmt: skip
        for column in truth:
            differs = (expected[column] != found[column]).to_numpy()
            if differs.any():
                one, count = expected.index[differs][0], int(differs.sum())
                values = [str(table.loc[one, column]) or "(empty)" for table in (expected, found)]
                fix = "make all predictions from one table of labels"
                if column in ALIKE:
                    fix = f"write the same {column} for every encoder, or leave the column out of every file"
                raise TruthMismatch(dataset, f"{column} {values[0]} with {name(first)} and {values[1]} with {name(key)} for "
                                    f"{_listed(expected.index[differs], 3)} ({count} such samples)", f"the same {column}", fix)  # fmt: skip


def _listed(samples: pd.Index, most: int) -> str:
    """The first samples in words."""
    shown = ", ".join(" / ".join([one] if isinstance(one, str) else one) for one in samples[:most])
    return shown + ", ..." * (len(samples) > most)


def _write(folder: Path, task: str, rows: pd.DataFrame, title: str, replicates: str | None, protocol: Mapping[str, str]) -> None:
    """One encoder's predictions with their sidecar, as a task of this project would have left them."""
    present = [column for column in rows.columns if column != "place" and (column == "dice" or not rows[column].isna().all())]
    content = io.BytesIO()
    rows[present].assign(task=task).to_parquet(content, index=False)
    why = "not in the file"
    lacking = {metric: why for metric, column in (("rg_er", "rg_er"), ("f1_14", _CHEXBERT[0])) if column not in present}
    facts = {
        "card": {"title": title},
        "measured": {},
        "protocol": protocol,
        "replicates": replicates,
        "metrics_not_computed": lacking if task == "report_generation" else {},
    }
    write_artifact(folder, "predictions", {"predictions.parquet": content.getvalue()}, key_parts={"replicates": replicates},
                   parents=[], facts=facts)  # fmt: skip


def _folder_names(titles: Sequence[str]) -> dict[str, str]:
    """A folder name for every title, all different.

    >>> _folder_names(["RAD-DINO", "a/b", "a b"])
    {'RAD-DINO': 'RAD-DINO', 'a/b': 'a-b', 'a b': 'a-b-2'}
    >>> [len(name) for name in _folder_names(["x" * 300, "x" * 301]).values()]
    [80, 80]
    """
    names: dict[str, str] = {}
    for title in titles:
        plain = re.sub(r"[^\w.+-]+", "-", title).strip("-.") or "x"
        if len(plain.encode()) > LONGEST:
            hashed = hashlib.sha256(title.encode()).hexdigest()[:12]
            plain = f"{plain.encode()[: LONGEST - 13].decode(errors='ignore')}-{hashed}"
        taken, name, number = {one.lower() for one in names.values()}, plain, 2
        while name.lower() in taken:
            name, number = f"{plain}-{number}", number + 1
        names[title] = name
    return names
