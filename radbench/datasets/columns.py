"""Tables as text, and what their cells mean: labels, views, sexes and ages.

Every cell is read as text, so that a blank, a 0 and a -1 stay three things until a reader says what they are.
"""

import gzip
import io
import json
import math
import re
import zlib
from collections.abc import Iterable, Sequence

import pandas as pd

from ..errors import DataError, did_you_mean
from .files import MAX_BYTES, File

LABEL_VALUES = {"": math.nan, "1": 1.0, "0": 0.0, "-1": -1.0, "1.0": 1.0, "0.0": 0.0, "-1.0": -1.0, "nan": math.nan}
SEXES = {"M": "M", "MALE": "M", "F": "F", "FEMALE": "F", "O": "O", "OTHER": "O"}
MAX_AGE = 120  # years; owners' tables hold ages such as 411


def read(file: File, columns: Iterable[str] = (), separator: str = ",") -> pd.DataFrame:
    """A table of text, plain or .gz, stripped of outer blanks.

    Raises:
        DataError: damaged, not a table, larger than 1 GiB, without rows, or without one of `columns`.
    """
    try:
        table = pd.read_csv(io.BytesIO(content(file)), dtype=str, keep_default_na=False, encoding="utf-8-sig", sep=separator,
                            index_col=False, skipinitialspace=True)  # fmt: skip
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, ValueError) as error:
        raise DataError(file, f"not a table in UTF-8 ({error})", fix="download it again") from None
    table.columns = [str(name).strip() for name in table.columns]
    for name in columns:
        if name not in table.columns:
            raise DataError(file, f"no column {name!r}", got=list(table.columns), fix=did_you_mean(name, table.columns))
    if len(table) == 0:
        raise DataError(file, "the table has no rows", fix="download it again")
    return table.fillna("").apply(lambda column: column.str.strip())


def content(file: File) -> bytes:
    """The bytes of a file, unpacked when its name ends in .gz. Raises DataError when damaged or above 1 GiB."""
    try:
        data = file.read_bytes()
        if file.name.lower().endswith(".gz"):
            with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
                data = stream.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(file, f"cannot be read ({error})", fix="download it again") from None
    if len(data) > MAX_BYTES:
        raise DataError(file, f"more than {MAX_BYTES} bytes", fix="this is not the owner's file")
    return data


def read_json(file: File) -> object:
    """A JSON file. Raises DataError when it is not one."""
    try:
        return json.loads(content(file))
    except (ValueError, RecursionError) as error:
        raise DataError(file, f"not JSON ({error})", fix="download it again") from None


def named(table: pd.DataFrame, *names: str) -> pd.Series:
    """The first column of these names, without regard to case; blanks when there is none."""
    folded = {str(column).casefold(): column for column in table.columns}
    column = next((folded[name.casefold()] for name in names if name.casefold() in folded), None)
    return table[column] if column is not None else pd.Series([""] * len(table), index=table.index)


def labels(file: File, table: pd.DataFrame, names: Sequence[str]) -> list[dict[str, float]]:
    """Per row {name: 1 present, 0 absent, -1 uncertain, NaN blank}. Raises DataError for a missing column or another value."""
    values = {}
    for name in names:
        if name not in table.columns:
            raise DataError(file, f"no column {name!r}", got=list(table.columns), fix=did_you_mean(name, table.columns))
        values[name] = table[name].map(LABEL_VALUES.get)
        bad = ~table[name].isin(LABEL_VALUES)
        if bad.any():
            row = int(bad.to_numpy().argmax())
            raise DataError(file, f"label {name!r} has value {table[name].iat[row]!r} in line {row + 2}", expected="1, 0, -1 or empty")
    columns = [values[name].astype(float).tolist() for name in names]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)] if names else [{} for _ in range(len(table))]


def chosen(given: Sequence[str], known: Sequence[str], where: str) -> tuple[str, ...]:
    """The labels an option asks for, all known ones when it names none. Raises DataError for a label the owner does not have."""
    for name in given:
        if name not in known:
            raise DataError(
                f"{where}: options.labels", f"no label {name!r}", fix=did_you_mean(name, known) or f"the labels are {list(known)}"
            )
    return tuple(given) or tuple(known)


def choice(where: str, name: str, got: str, known: Sequence[str]) -> str:
    """An option with fixed words. Raises DataError for another word."""
    if got not in known:
        raise DataError(f"{where}: options.{name}", "unknown value", got=repr(got), expected=list(known), fix=did_you_mean(got, known))
    return got


def sex(text: str) -> str:
    """M, F, O or "" (not given)."""
    return SEXES.get(text.strip().upper(), "")


def age(text: str) -> float:
    """Years from "58", "058Y", "030M" (months), "85 or more", "45-49"; NaN when blank or above 120."""
    found = re.match(r"[^\d-]*(\d+(?:\.\d+)?)\s*([YMWD]?)", text.strip().upper())
    if found is None:
        return math.nan
    years = float(found[1]) / {"M": 12.0, "W": 52.0, "D": 365.0}.get(found[2], 1.0)
    return years if years <= MAX_AGE else math.nan
