"""Is anybody named in what this project wrote? Person tags of the source files, looked for in every output.

Nothing but pixels and technical facts leaves radbench.dicom, so a name can only come from a table that the user gave.
This check does not trust that: it reads the person tags of every DICOM file below a root, also in archives, and searches the paths
and the text of all outputs for them, in the common spellings. It says what was searched and where something was found, never what.

Text is compared without regard to case, accents and what stands between words, as it is and with JSON, HTML, LaTeX and URL escapes
undone. A part of a name of four letters or more is searched on its own, a shorter one only beside another part of the same name
(`KIM^BO`, `Bo Kim`, `kim_bo`) and as whole words. Files that are not text are searched by their path alone, and counted.
"""

import dataclasses
import gzip
import html
import os
import re
import unicodedata
import urllib.parse
import warnings
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from . import dicom
from .datasets.files import File, Tree, opened
from .errors import DataError
from .progress import Progress

#: what names a person, by DICOM keyword; so does every element whose type is a person's name
PERSON = ("PatientBirthDate", "PatientAddress", "PatientTelephoneNumbers", "ReferringPhysicianAddress",
          "ReferringPhysicianTelephoneNumbers", "InstitutionName", "InstitutionAddress", "MilitaryRank", "CountryOfResidence")  # fmt: skip
#: what is an identifier; it stays in the index unless $RADBENCH_SALT is set
IDENTIFIER = ("PatientID", "OtherPatientIDs", "IssuerOfPatientID", "AdmissionID", "AccessionNumber", "StudyID",
              "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")  # fmt: skip  # UIDs lead back to the hospital's archive
#: what de-identifiers write in place of a name
NOBODY = {"anonymous", "anonymized", "anonymised", "anon", "deidentified", "removed", "unknown", "none", "patient", "name", "subject",
          "test", "xxxx"}  # fmt: skip
SHORTEST = 4  # characters; "F" or "045" would be found everywhere
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
BETWEEN = r"[\W_]{0,5}"  # words of one value, in any spelling
IN_DATE = r"[\W_]{1,3}"
NO_LETTER_BEFORE, NO_LETTER_AFTER = r"(?<![^\W_])", r"(?![^\W_])"
NO_DIGIT_BEFORE, NO_DIGIT_AFTER = r"(?<!\d)", r"(?!\d)"
HEAD = 4096  # bytes that tell whether a file is text

Term = tuple[str, ...]  # pieces of a regular expression, the same for the same beginning


class Found(dict):
    """{"person": outputs, "identifier": outputs} in which something was found, and what was searched."""

    def __init__(self, hits: dict[str, list[str]], sought: "Sought", outputs: int, by_path: int):
        super().__init__(hits)
        self.sought, self.outputs, self.by_path = sought, outputs, by_path


@dataclasses.dataclass
class Sought:
    """What the source files say of persons."""

    files: int = 0  # DICOM files that were read
    unread: int = 0  # DICOM files whose header is damaged
    short: int = 0  # values that are too short to be searched
    person: set[str] = dataclasses.field(default_factory=set)
    identifier: set[str] = dataclasses.field(default_factory=set)
    terms: dict[str, set[Term]] = dataclasses.field(default_factory=lambda: {"person": set(), "identifier": set()})

    def add(self, kind: str, value: str, terms: set[Term]) -> None:
        if terms:
            getattr(self, kind).add(value)
            self.terms[kind] |= terms
        else:
            self.short += 1


def check(root: Path, results: Path) -> Found:
    """Output files that hold a person's value ("person") or an identifier ("identifier") of some DICOM below `root`.

    Raises:
        DataError: no DICOM file or no person tag below the root, or no output below the results: nothing can be proved.
    """
    sought = _sought(root)
    if not sought.files:
        raise DataError(root, "no DICOM file below it", fix="give the folder of the original files")
    patterns = {kind: re.compile(_one_pattern(terms)) for kind, terms in sought.terms.items() if terms}
    hits: dict[str, list[str]] = {"person": [], "identifier": []}
    count = by_path = 0
    for path, again in outputs(results):
        count += not again
        texts = [str(path.relative_to(results))]
        if not again:
            content = _texts(path)
            by_path += content is None
            texts = _chain(texts, content or ())
        missing = dict(patterns)
        for text in texts:
            for kind in [kind for kind, pattern in missing.items() if any(pattern.search(form) for form in forms(text))]:
                hits[kind].append(str(path))
                del missing[kind]
            if not missing:
                break
    if not count:
        raise DataError(results, "no output to search in", fix="give the folder of the outputs with --results")
    if "person" not in patterns:
        there = f"{len(sought.identifier)} identifiers, in {', '.join(hits['identifier']) or 'no output'}"
        raise DataError(root, f"no tag that names a person in {sought.files} DICOM files: nothing to search for", got=there,
                        fix="give the folder of the original files, before they were de-identified")  # fmt: skip
    return Found(hits, sought, count, by_path)


def report(found: Found) -> str:
    """What was searched, where something was found, and what to do about it, as lines."""
    sought = found.sought
    lines = [f"searched: {len(sought.person)} values of persons and {len(sought.identifier)} identifiers of {sought.files} DICOM files "
             f"in {found.outputs} outputs"]  # fmt: skip
    if found.by_path:
        lines.append(f"not text, searched by their path alone: {found.by_path} of these outputs")
    if sought.unread:
        lines.append(f"not read: {sought.unread} damaged files, DICOM by their first bytes or not readable at all")
    if sought.short:
        lines.append(f"not searched: {sought.short} values that are placeholders or too short to tell")
    lines += [f"{kind}: {'in ' + ', '.join(files) if files else 'in no output'}" for kind, files in found.items()]
    if found["identifier"]:
        lines.append("Identifiers of the owner are kept as they are; RADBENCH_SALT=<a secret> replaces them by hashes.")
    return "\n".join(lines)


# ------------------------------------------------------------ what is sought


def _sought(root: Path) -> Sought:
    """Values of every DICOM file below `root`, extracted and in archives."""
    tree, sought = Tree(root), Sought()
    files: list[File] = [root / path for path in tree.extracted]
    files += [*tree.archived.values(), *tree.nested.values(), *tree.compressed.values()]
    progress = Progress("person tags", len(files), "files")
    for file in files:
        progress.add()
        _collect(file, sought)
    return sought


def _collect(file: File, sought: Sought) -> None:
    """Add the values of one file, when it is DICOM."""
    import pydicom

    if isinstance(file, Path) and not file.is_file():  # a dangling link, a pipe
        return
    certain = True
    try:
        with warnings.catch_warnings(), opened(file) as source:
            warnings.simplefilter("ignore")
            head = source.read(132)
            certain = head[128:132] == b"DICM"
            if not dicom.looks_like(head, file.suffix):
                return
            source.seek(0)
            dataset = pydicom.dcmread(source, stop_before_pixels=True, force=True)
            if not (certain or "Rows" in dataset):
                return
            elements = [(element.keyword, element.VR, _values(element.value)) for element in dataset.iterall()
                        if element.VR == "PN" or element.keyword in PERSON + IDENTIFIER]  # fmt: skip
    except Exception:  # pydicom raises many unrelated classes; what is certainly DICOM and cannot be read is counted
        sought.unread += certain
        return
    sought.files += 1
    identifiers = {text for keyword, _, texts in elements if keyword in IDENTIFIER for text in texts}
    for keyword, kind, texts in elements:
        for text in texts:
            if keyword in IDENTIFIER or text in identifiers:  # a name that is the id again is an identifier
                sought.add("identifier", text, _whole(text))
            elif kind == "PN":
                sought.add("person", text, _name(text))
            else:
                sought.add("person", text, _date(text) if keyword == "PatientBirthDate" else _whole(text))


def _values(value: object) -> list[str]:
    """The texts of an element, which may hold several."""
    several = value if not isinstance(value, str) and hasattr(value, "__iter__") and not hasattr(value, "components") else [value]
    return [text for text in (str(one or "").strip() for one in several) if text.strip("^= ")]


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", normal(text))


def _spelled(words: list[str]) -> Term:
    """The words in this order with anything short between them, letter by letter; no digit goes on into another one."""
    pieces: list[str] = [NO_DIGIT_BEFORE] if words[0][0].isdigit() else []
    for number, word in enumerate(words):
        pieces += [BETWEEN] * (number > 0) + [re.escape(letter) for letter in word]
    return (*pieces, NO_DIGIT_AFTER) if words[-1][-1].isdigit() else tuple(pieces)


def _whole(text: str) -> set[Term]:
    words = _words(text)
    return {_spelled(words)} if sum(map(len, words)) >= SHORTEST and "".join(words) not in NOBODY else set()


def _name(text: str) -> set[Term]:
    """A person's name: long parts on their own, short ones beside another; family, given and middle, in each script it is written in."""
    terms: set[Term] = set()
    for script in text.split("="):
        parts = [words for part in script.split("^")[:3] if (words := _words(part))]
        if len(parts) == 1:
            parts = [[word] for word in parts[0]]
        if not any(_cased(words) or not "".join(words).isascii() for words in parts) or all("".join(words) in NOBODY for words in parts):
            continue  # a number, or nobody
        parts = [words for words in parts if len("".join(words)) > 1 or not _cased(words)]  # initials tell nothing
        alone = [sum(map(len, words)) >= SHORTEST and "".join(words) not in NOBODY and not "".join(words).isdigit() for words in parts]
        terms |= {_spelled(words) for words, long in zip(parts, alone, strict=True) if long}
        pairs = [(one, other) for one in range(len(parts)) for other in range(len(parts)) if one != other]
        together = [parts[one] + parts[other] for one, other in pairs if not (alone[one] and alone[other])]
        together += [parts[0]] if len(parts) == 1 and not alone[0] else []
        for words in together:
            term = _spelled(words)
            terms.add((NO_LETTER_BEFORE, *term, NO_LETTER_AFTER) if _cased(words) else term)
    return terms


def _cased(words: list[str]) -> bool:
    """Whether the script parts words by blanks, as those with capitals do; Chinese does not."""
    text = "".join(words)
    return text.upper() != text.lower()


def _date(text: str) -> set[Term]:
    """A date in figures, in each order, and with the month's English name."""
    digits = re.sub(r"\D", "", text)
    if len(digits) != 8 or not 1 <= int(digits[4:6]) <= 12:
        return _whole(text) if len(digits) > SHORTEST else set()  # a year alone names nobody
    year, month, day = digits[:4], digits[4:6], digits[6:]
    loose = [tuple(year), *(("0?", number[1]) if number[0] == "0" else tuple(number) for number in (month, day))]
    named = (*MONTHS[int(month) - 1], "[a-z]*")
    ordinal = (*loose[2], "(?:st|nd|rd|th)?")
    orders = [(loose[0], loose[1], loose[2]), (loose[2], loose[1], loose[0]), (loose[1], loose[2], loose[0]),
              (ordinal, named, loose[0]), (named, ordinal, loose[0])]  # fmt: skip
    terms = {(NO_DIGIT_BEFORE, *one, IN_DATE, *two, IN_DATE, *three, NO_DIGIT_AFTER) for one, two, three in orders}
    return terms | {(NO_DIGIT_BEFORE, *run, NO_DIGIT_AFTER) for run in (digits, day + month + year, month + day + year)}


def _one_pattern(terms: Iterable[Term]) -> str:
    """One regular expression for all terms; what they begin with alike is written once, so that many take no longer than few."""
    trie: dict = {}
    for term in terms:
        node = trie
        for piece in term:
            node = node.setdefault(piece, {})
        node[""] = {}
    return _branches(trie)


def _branches(node: dict) -> str:
    text = ""
    while len(node) == 1 and "" not in node:
        ((piece, node),) = node.items()
        text += piece
    if "" in node:  # whoever looks for more has found this much
        return text
    return text + "(?:" + "|".join(piece + _branches(below) for piece, below in node.items()) + ")"


# ------------------------------------------------------------ what is searched


def outputs(results: Path) -> Iterator[tuple[Path, bool]]:
    """Every file below the results, and whether its content came by under another path: published files are links."""
    seen = set()
    for folder, names, files in os.walk(results, followlinks=True):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            names.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        names.sort()
        for name in sorted(files):
            path = Path(folder, name)
            if not path.is_file():
                continue
            status = path.stat()
            yield path, (status.st_dev, status.st_ino) in seen
            seen.add((status.st_dev, status.st_ino))


def normal(text: str) -> str:
    """Without regard to case, accents, ligatures and widths of letters."""
    if not text.isascii():
        text = re.sub(r"[\u0300-\u036f]", "", unicodedata.normalize("NFKD", text))
    return text.casefold()


def forms(text: str) -> Iterator[str]:
    """A text as it is, and as it reads when the escapes of JSON, HTML, URLs and LaTeX are undone."""
    yield normal(text)
    plain = text
    for _ in range(2):  # JSON in a page, a page in JSON
        plain = html.unescape(plain) if "&" in plain else plain
        plain = re.sub(r"(?:\\u[0-9a-fA-F]{4})+", _from_json, plain) if "\\u" in plain else plain
    plain = urllib.parse.unquote(plain) if "%" in plain else plain
    if "\\" in plain:
        plain = re.sub(r"\\(?:[\"'`^~=.]\s*\{?|[uvHtcdbkr]\s*\{)\\?([a-zA-Z])\}?", r"\1", plain)  # accents
        plain = re.sub(r"\\(?:ss|o|O|ae|AE|oe|OE|aa|AA|l|L|i|j)\b(?:\{\}|\s)?", lambda found: _LETTERS[found[0].strip("\\{} \n\t")], plain)
        plain = re.sub(r"\\([^\w\s])", r"\1", plain)
    if plain != text:
        yield normal(plain)


_LETTERS = {"ss": "ß", "o": "ø", "O": "Ø", "ae": "æ", "AE": "Æ", "oe": "œ", "OE": "Œ", "aa": "å", "AA": "Å", "l": "ł", "L": "Ł", "i": "i",
            "j": "j"}  # fmt: skip


def _from_json(found: re.Match) -> str:
    units = re.findall(r"[0-9a-fA-F]{4}", found[0])
    return bytes.fromhex("".join(units)).decode("utf-16-be", errors="replace")


def _chain(first: list[str], then: Iterable[str]) -> Iterator[str]:
    yield from first
    yield from then


def _texts(path: Path) -> Iterator[str] | None:
    """The text of an output in pieces; None when it is not text."""
    with open(path, "rb") as handle:
        head = handle.read(HEAD)
    if head[:4] == b"PAR1":
        return _of_parquet(path)
    if head[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(path.read_bytes())
        except (OSError, EOFError, zlib.error):
            return None
        return iter([content.decode(errors="replace")]) if b"\0" not in content[:HEAD] else None
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return iter([path.read_text("utf-16", errors="replace")])
    return iter([path.read_text("utf-8", errors="replace")]) if b"\0" not in head else None


def _of_parquet(path: Path) -> Iterator[str]:
    """Names of columns, what the file says of itself, and every column that can hold text or a date or a whole number."""
    file = pq.ParquetFile(path)
    schema = file.schema_arrow
    yield "\n".join(f"{field.name} {field.type}" for field in schema)
    yield "\n".join(text.decode(errors="replace") for pair in (schema.metadata or {}).items() for text in pair if b"ARROW:" not in pair[0])
    wanted = [field.name for field in schema if _can_name(field.type) or pa.types.is_integer(field.type)]
    for name in wanted:
        for batch in file.iter_batches(columns=[name]):
            for value in batch.columns:
                plain = not pa.types.is_nested(value.type)
                yield "\n".join(_written(one) for one in (value.unique() if plain else value).to_pylist() if one is not None)


def _can_name(kind: pa.DataType) -> bool:
    types = pa.types
    if types.is_dictionary(kind):
        return _can_name(kind.value_type) or types.is_integer(kind.value_type)
    if types.is_nested(kind):
        return any(_can_name(kind.field(number).type) for number in range(kind.num_fields))
    return (types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind) or types.is_binary(kind)
            or types.is_large_binary(kind) or types.is_fixed_size_binary(kind) or types.is_temporal(kind))  # fmt: skip


def _written(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
