"""Is anybody named in what this project wrote? Person tags of the source files, looked for in every output.

Nothing but pixels and technical facts leaves radbench.dicom, so a name can only come from a table that the user gave.
This check does not trust that: it reads the person tags of every DICOM file below a root, and searches index, tables, logs,
sidecars and page for them. It prints where something was found, never what.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq

from . import dicom
from .errors import DataError
from .progress import Progress

#: what names a person, by DICOM keyword
PERSON = ("PatientName", "PatientBirthDate", "PatientAddress", "PatientTelephoneNumbers", "OtherPatientNames", "PatientMotherBirthName",
          "ReferringPhysicianName", "PerformingPhysicianName", "OperatorsName", "PhysiciansOfRecord", "InstitutionName",
          "InstitutionAddress", "MilitaryRank", "CountryOfResidence")  # fmt: skip
#: what is an identifier; it stays in the index unless $RADBENCH_SALT is set
IDENTIFIER = ("PatientID", "OtherPatientIDs", "AccessionNumber", "StudyID")
TEXT = (".csv", ".json", ".md", ".tex", ".html", ".txt", ".log", ".lock")
SHORTEST = 4  # characters; "F" or "045" would be found everywhere


def check(root: Path, results: Path) -> dict[str, list[str]]:
    """Output files that hold a person's value ("person") or an identifier ("identifier") of some DICOM below `root`.

    Raises:
        DataError: there is no DICOM file below the root, so nothing can be proved.
    """
    values: dict[str, set[str]] = {"person": set(), "identifier": set()}
    files = [path for path in sorted(root.rglob("*")) if path.is_file()]
    report, count = Progress("person tags", len(files), "files"), 0
    for path in files:
        report.add()
        count += _collect(path, values)
    if not count:
        raise DataError(root, "no DICOM file below it", fix="give the folder of the original files")
    found: dict[str, list[str]] = {}
    for kind, texts in values.items():
        pattern = re.compile("|".join(re.escape(text) for text in sorted(texts)), re.IGNORECASE) if texts else None
        found[kind] = [str(path) for path in outputs(results) if pattern and any(pattern.search(text) for text in _texts(path))]
    return found


def _collect(path: Path, values: dict[str, set[str]]) -> int:
    """Add the values of one file; 1 for a DICOM file, else 0."""
    import pydicom

    with open(path, "rb") as handle:
        head = handle.read(132)
    if not dicom.looks_like(head, path.suffix):
        return 0
    try:
        dataset = pydicom.dcmread(path, stop_before_pixels=True, force=True)
    except Exception:  # what cannot be read was not indexed either
        return 0
    for kind, keywords in (("person", PERSON), ("identifier", IDENTIFIER)):
        for keyword in keywords:
            for text in re.split(r"[\\^=]", str(dataset.get(keyword) or "")):
                if len(text.strip()) >= SHORTEST:
                    values[kind].add(text.strip())
    return int("Rows" in dataset)


def outputs(results: Path) -> Iterator[Path]:
    """Every file with text in it below the results, each once although published files are links."""
    seen = set()
    for folder, _, names in os.walk(results):
        for name in sorted(names):
            path = Path(folder, name)
            stat = path.stat()
            if path.suffix in (*TEXT, ".parquet") and (stat.st_dev, stat.st_ino) not in seen:
                seen.add((stat.st_dev, stat.st_ino))
                yield path


def _texts(path: Path) -> Iterator[str]:
    if path.suffix != ".parquet":
        yield path.read_text(errors="replace")
        return
    if path.stat().st_size:
        table = pq.read_table(path)
        for name in table.column_names:
            if str(table[name].type) in ("string", "large_string"):
                yield "\n".join(str(value) for value in table[name].unique().to_pylist())
