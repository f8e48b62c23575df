"""Finding an owner's files: below a root that may be renamed, nested, flat or in parts, extracted or still in archives.

A `Tree` knows every file below a root by its path; a `Member` is a file inside an archive and is read like a `Path`
(`name`, `suffix`, `size`, `read_bytes`). Nothing is ever extracted. Archives (.zip .tar .tgz .tar.gz) are opened only when
something is not among the extracted files. A compressed tar can be read only from its start: it is opened last, not at all for
tables, and images in a large one are slow unless they are asked for in its own order, as the readers do. An archive within a .zip or
.tar is read too, one level deep and from memory; what all of them hold there is limited.

Names are compared without regard to case; hidden files and `__MACOSX` are passed over; links are followed, loops are not.
"""

import collections
import functools
import io
import itertools
import os
import re
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from ..errors import DataError
from . import Record, unlisted

ARCHIVES = (".zip", ".tar")  # their members are listed at once
COMPRESSED = (".tgz", ".tar.gz")  # these must be unpacked to their end to be listed
MAX_BYTES = 2**30  # of one unpacked file; a radiograph of 200 million pixels has 0.4 GiB
MAX_MEMBERS = 3_000_000  # of one archive
MAX_NESTED = 2**30  # bytes of all archives within archives below one root, which are held in memory
MAX_RATIO = 1000  # of unpacked to packed size, above MIN_BOMB
MIN_BOMB = 2**26
PLACES = ("extracted", "archived", "nested", "compressed")  # in the order in which they are looked into
PASSED_OVER = 64  # members of a compressed tar kept in memory after they were passed, for threads that come a little late


class Member:
    """One file inside an archive."""

    def __init__(self, archive: "Archive", path: str, size: int, handle: object):
        self.archive, self.path, self.size, self._handle = archive, path, size, handle

    @property
    def name(self) -> str:
        return PurePosixPath(self.path).name

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.path).suffix

    def read_bytes(self) -> bytes:
        """The unpacked content. Raises DataError when the archive is damaged or unpacks to more than it declares."""
        return self.archive.read(self._handle, self.size)

    def open(self) -> BinaryIO:
        """The unpacked content as a stream; of a zip only what is read from it is unpacked."""
        return self.archive.open(self._handle, self.size)

    def relative_to(self, root: Path) -> str:
        """`archive.zip/folder/name`, with the archive's path relative to `root`."""
        return f"{self.archive.path.relative_to(root)}/{self.path}"

    def __str__(self) -> str:
        return f"{self.archive.path}/{self.path}"


class Broken:
    """A file that the owner or its users know to be unusable: it is not opened, and reported with this reason."""

    def __init__(self, path: Path, reason: str):
        self.path, self.reason, self.name, self.suffix, self.size = path, reason, path.name, path.suffix, 1

    def read_bytes(self) -> bytes:
        raise DataError(self.path, self.reason)

    def relative_to(self, root: Path) -> str:
        return str(self.path.relative_to(root))

    def __str__(self) -> str:
        return str(self.path)


class Made:
    """A picture out of a file that holds many, such as an array: its bytes are made when they are asked for."""

    def __init__(self, container: Path | Member, name: str, make: Callable[[], bytes]):
        self.container, self.name, self.suffix, self.size, self.read_bytes = container, name, PurePosixPath(name).suffix, 1, make

    def relative_to(self, root: Path) -> str:
        return f"{self.container.relative_to(root)}/{self.name}"

    def __str__(self) -> str:
        return f"{self.container}/{self.name}"


File = Path | Member | Broken | Made


class Archive:
    """A zip or tar file: its members by name, and their content. Threads may read at the same time."""

    def __init__(self, path: Path | Member):
        self.path, self._lock = path, threading.Lock()
        self._last, self._passed = -1, collections.OrderedDict()  # of a compressed tar

    @functools.cached_property
    def _file(self) -> zipfile.ZipFile | tarfile.TarFile:
        source = self.path if isinstance(self.path, Path) else io.BytesIO(self.path.read_bytes())
        if self.path.suffix.lower() == ".zip":
            return zipfile.ZipFile(source)
        return tarfile.open(source) if isinstance(source, Path) else tarfile.open(fileobj=source)

    def members(self) -> list[Member]:
        """Its plain files.

        Raises:
            DataError: it is damaged or encrypted, a member's path leaves it, or a member would unpack to an absurd size.
        """
        found = []
        try:
            for member in self._list():
                self._check(member)
                found.append(member)
        except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError, zlib.error, ValueError) as error:
            raise DataError(self.path, f"archive that cannot be read ({error})", fix="download it again, or extract it") from None
        return found

    def _check(self, member: Member) -> None:
        parts = PurePosixPath(member.path.replace("\\", "/")).parts
        if ".." in parts or member.path.startswith("/"):
            raise DataError(self.path, f"the member {member.path!r} leaves the archive", fix="do not use this archive")
        if member.size > MAX_BYTES:
            raise DataError(self.path, f"the member {member.path!r} unpacks to {member.size} bytes", expected=f"at most {MAX_BYTES}",
                            fix="extract it yourself if you trust it")  # fmt: skip

    def _list(self) -> Iterator[Member]:
        if isinstance(self._file, zipfile.ZipFile):
            entries = [entry for entry in self._file.infolist() if not entry.is_dir()]
            for entry in entries:
                if entry.flag_bits & 1:
                    raise ValueError(f"{entry.filename} is encrypted")
                if entry.file_size > max(MIN_BOMB, MAX_RATIO * entry.compress_size):
                    raise ValueError(f"{entry.filename} unpacks {entry.compress_size} bytes to {entry.file_size}")
                yield Member(self, entry.filename, entry.file_size, entry)
        else:
            for number, entry in enumerate(self._file):
                if number > MAX_MEMBERS:
                    raise ValueError(f"more than {MAX_MEMBERS} members")
                if entry.isfile():  # links and devices are nobody's radiograph
                    yield Member(self, entry.name.removeprefix("./"), entry.size, (number, entry))

    def read(self, handle: object, size: int) -> bytes:
        """The content of one member, never more than `size` bytes."""
        try:
            if isinstance(self._file, zipfile.ZipFile):
                with self._file.open(handle) as stream:
                    return stream.read(size + 1)[:size]
            with self._lock:
                return self._read_tar(*handle)
        # zipfile raises NotImplementedError for a compression it does not know and RuntimeError for an encrypted member
        except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError, zlib.error, RuntimeError, NotImplementedError) as error:
            raise DataError(self.path, f"damaged archive ({error})", fix="download it again") from None

    def open(self, handle: object, size: int) -> BinaryIO:
        return self._file.open(handle) if isinstance(self._file, zipfile.ZipFile) else io.BytesIO(self.read(handle, size))

    def _read_tar(self, number: int, entry: tarfile.TarInfo) -> bytes:
        if number in self._passed:
            return self._passed.pop(number)
        if self.path.suffix.lower() != ".tar" and self._last < number <= self._last + PASSED_OVER:
            members = self._file.getmembers()  # going back in a compressed tar starts at its beginning: keep what is passed
            for between in range(self._last + 1, number):
                if members[between].isfile() and members[between].size <= MAX_BYTES // PASSED_OVER:
                    self._passed[between] = self._file.extractfile(members[between]).read()
        self._last = max(self._last, number)
        while len(self._passed) > PASSED_OVER:
            self._passed.popitem(last=False)
        return self._file.extractfile(entry).read()


class Tree:
    """Every file below `root`: first the extracted ones, then, when these do not do, those in archives.

    Raises:
        DataError: `root` is not a folder.
    """

    def __init__(self, root: Path):
        if not root.is_dir():
            raise DataError(root, "no such folder", fix="set `root` of the data set in the configuration")
        self.root = root
        self.extracted = sorted(walk(root))
        self._held = 0  # bytes of archives within archives

    @functools.cached_property
    def archived(self) -> dict[str, Member]:
        """Files in zip and plain tar archives by path; the archive itself counts as a folder. Opens every one of them."""
        return self._members(ARCHIVES)

    @functools.cached_property
    def nested(self) -> dict[str, Member]:
        """The same of zip and plain tar archives within these."""
        return self._members_within(ARCHIVES)

    @functools.cached_property
    def compressed(self) -> dict[str, Member]:
        """The same of compressed tars, also within zip and plain tar archives. Unpacks every one of them once."""
        return self._members(COMPRESSED) | self._members_within(COMPRESSED)

    def everything(self) -> list[str]:
        """Paths of all files below the root, and of those in archives that were opened."""
        return [*self.extracted, *(path for place in ("archived", "nested", "compressed") for path in self.__dict__.get(place, ()))]

    def _members(self, suffixes: tuple[str, ...]) -> dict[str, Member]:
        paths = [relative for relative in self.extracted if relative.lower().endswith(suffixes)]
        return _listed({path: Archive(self.root / path) for path in paths})

    def _members_within(self, suffixes: tuple[str, ...]) -> dict[str, Member]:
        inner = {path: member for path, member in self.archived.items() if path.lower().endswith(suffixes)}
        for path, member in inner.items():
            self._held += member.size
            if self._held > MAX_NESTED:
                raise DataError(self.root / path, f"archives within archives of {self._held} bytes together, up to this one",
                                expected=f"at most {MAX_NESTED}", fix="extract the outer archive")  # fmt: skip
        return _listed({path: Archive(member) for path, member in inner.items()})

    def matching(self, pattern: str, compressed: bool = False) -> list[File]:
        """Files whose path below the root ends in the regular expression, nearest to the root first.

        Those in archives count when none is extracted, and those in compressed tars only when asked for.
        """
        wanted = re.compile(rf"(?:.*/)?(?:{pattern})", re.IGNORECASE)
        for place in ("extracted", "archived", "nested", *(["compressed"] * compressed)):
            files = getattr(self, place)
            found = [relative for relative in files if wanted.fullmatch(relative)]
            if found:
                nearest = sorted(found, key=lambda name: (name.count("/"), len(name), name))
                return [self.root / relative if place == "extracted" else files[relative] for relative in nearest]
        return []

    def one(self, pattern: str, what: str, fix: str = "") -> File:
        """The one file that matches, nearest to the root. Raises DataError without one, or with two equally near."""
        found = self.matching(pattern)
        if not found:
            raise self.missing(what, fix)
        rivals = [file for file in found if _depth(file, self.root) == _depth(found[0], self.root)]
        kinds = {_without_gz(file) for file in rivals}
        if len(kinds) > 1:
            raise DataError(self.root, f"{what} is there {len(kinds)} times", got=[str(file.relative_to(self.root)) for file in rivals[:4]],
                            fix="point `root` at one of them")  # fmt: skip
        return min(rivals, key=lambda file: file.name.lower().endswith(".gz"))

    def missing(self, what: str, fix: str = "") -> DataError:
        """The error that says what was looked for and what lies there."""
        there = sorted(entry.name + "/" * entry.is_dir() for entry in self.root.iterdir())
        return DataError(self.root, f"no {what}", got=f"{', '.join(there[:12]) or 'an empty folder'}{' …' * (len(there) > 12)}",
                         expected=what, fix=fix or "see docs/datasets.md for the layout")  # fmt: skip

    def lookup(self, depth: int, suffixes: Iterable[str] | None = None) -> "Lookup":
        """Files by the last `depth` parts of their path."""
        return Lookup(self, depth, suffixes)


class Lookup:
    """Finds listed files by the end of their path: where the owner's folders were renamed, flattened or split does not matter.

    `suffixes`: only files that end so count, and another of them than the listed one will do; None: any name, exactly as listed.
    """

    def __init__(self, tree: Tree, depth: int, suffixes: Iterable[str] | None):
        self.tree, self.depth = tree, depth
        self.suffixes = tuple(suffix.lower() for suffix in suffixes) if suffixes is not None else None
        self._rivals: dict[str, dict[str, list[str]]] = {}  # by place and key
        self.extracted = self._keys("extracted")
        self._asked: set[str] = set()

    @functools.cached_property
    def archived(self) -> dict[str, str]:
        return self._keys("archived")

    @functools.cached_property
    def nested(self) -> dict[str, str]:
        return self._keys("nested")

    @functools.cached_property
    def compressed(self) -> dict[str, str]:
        return self._keys("compressed")

    def _keys(self, place: str) -> dict[str, str]:
        """{key: path below the root}; of two files with one key that with the earlier suffix, then path; of one suffix: `_rivals`."""
        found: dict[str, str] = {}
        rivals = self._rivals[place] = {}
        for suffix in self.suffixes or ("",):
            for relative in getattr(self.tree, place):
                folded = relative.casefold()
                if folded.endswith(suffix):
                    first = found.setdefault(key := self._key(folded), relative)
                    if first is not relative and first.casefold().endswith(suffix):
                        rivals.setdefault(key, [first]).append(relative)
        return found

    def _key(self, name: str) -> str:
        parts = name.casefold().split("/")
        return _without_suffix("/".join(parts[-self.depth :]), self.suffixes)

    def find(self, listed: str) -> File | None:
        """The file that a table calls `listed`, or None. Raises DataError when the name leaves the root."""
        guard(self.tree.root, listed)
        key = self._key(listed.replace("\\", "/"))
        self._asked.add(key)
        for place in PLACES:
            if key in getattr(self, place):
                return self._file(place, self._chosen(place, key, listed) if key in self._rivals[place] else getattr(self, place)[key])
        return None

    def _file(self, place: str, relative: str) -> File:
        return self.tree.root / relative if place == "extracted" else getattr(self.tree, place)[relative]

    def _chosen(self, place: str, key: str, listed: str) -> str:
        """Of several files with one key that whose path ends as listed; of equal ones the first.

        Raises:
            DataError: they are of other sizes, so that one is a reduced or another copy, and the listed path does not say which is meant.
        """
        folders = listed.casefold().replace("\\", "/").split("/")[-2::-1]  # of the listed path, from the last one on

        def agreement(name: str) -> int:
            pairs = zip(name.casefold().split("/")[-2::-1], folders, strict=False)
            return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))

        best = max(map(agreement, self._rivals[place][key]))
        alike = [name for name in self._rivals[place][key] if agreement(name) == best]
        files = [self._file(place, name) for name in alike]
        sizes = {_size(file) for file in files}
        if len(sizes) > 1:
            raise DataError(self.tree.root, f"{listed} is there {len(alike)} times, in different sizes", got=alike[:4], expected="one",
                            fix="point `root` at the one that is meant, or move the others away")  # fmt: skip
        return alike[0]

    def held(self, listed: Iterable[str]) -> int:
        """How many of the listed files there are, in the first place that has any."""
        keys = {self._key(name) for name in listed}
        return next((count for place in PLACES if (count := len(keys & getattr(self, place).keys()))), 0)

    def found_or_listed(self, listed: str) -> File:
        """The file, or the path at which it would be: radbench.index then reports it as missing."""
        return self.find(listed) or self.tree.root / listed

    def unlisted(self, but: str = "") -> list[Record]:
        """Records of the extracted images, and of those in archives that had to be opened, that nobody asked for.

        `but`: not those whose path below the root contains this regular expression.
        """
        left: dict[str, File] = {}
        for place in PLACES[:3]:
            for key, relative in self.__dict__.get(place, {}).items():
                if key not in self._asked and not (but and re.search(but, relative, re.IGNORECASE)):
                    left.setdefault(key, self._file(place, relative))
        return [unlisted(key, left[key]) for key in sorted(left)]

    def __len__(self) -> int:
        return len(self.extracted) or len(self.archived) or len(self.nested) or len(self.compressed)

    def items(self) -> list[tuple[str, File]]:
        """(key, file) of every file, in order of path. Of an archive only what does not lie extracted too, in a folder of one name."""
        found: dict[str, File] = {}
        known: set[str] = set()
        for place in PLACES:
            here = {
                key: relative for key, relative in getattr(self, place).items() if self._end(relative) not in known and key not in found
            }
            found |= {key: self._file(place, relative) for key, relative in here.items()}
            known |= {self._end(relative) for relative in here.values()}
        return sorted(found.items(), key=lambda pair: pair[0])

    @staticmethod
    def _end(relative: str) -> str:
        """The name and the folder that it lies in, not counting an archive as one."""
        parts = relative.casefold().split("/")[-2:]
        return parts[-1] if parts[0].endswith((*ARCHIVES, *COMPRESSED)) else "/".join(parts)


def opened(file: File) -> BinaryIO:
    """The content as a stream, of which no more than needed is read where that can be."""
    if isinstance(file, Path):
        return open(file, "rb")
    return file.open() if isinstance(file, Member) else io.BytesIO(file.read_bytes())


def _size(file: File) -> int:
    try:
        return file.stat().st_size if isinstance(file, Path) else file.size
    except OSError:  # a link to nothing: radbench.index says so
        return -1


def guard(where: object, name: str) -> None:
    """Raise DataError when a name from a table is absolute or climbs out of its folder."""
    parts = name.replace("\\", "/").split("/")
    if (len(parts) > 1 and not parts[0]) or ".." in parts or re.match(r"[A-Za-z]:", name) or "\0" in name:
        raise DataError(where, f"the file name {name!r} leaves the folder", fix="name files inside the folder only")


def walk(root: Path) -> Iterator[str]:
    """Paths of files below the root, relative to it: links are followed, hidden files passed over."""
    seen = set()
    for folder, names, files in os.walk(root, followlinks=True):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:  # a link back to a folder above, or a second way to one
            names.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        names[:] = sorted(name for name in names if _wanted(name))
        below = Path(folder).relative_to(root).as_posix()
        yield from (name if below == "." else f"{below}/{name}" for name in files if _wanted(name))


def _wanted(relative: str) -> bool:
    return not relative.startswith(".") and "/." not in relative and "__MACOSX" not in relative.split("/")


def _listed(archives: dict[str, Archive]) -> dict[str, Member]:
    """The members of archives by path; each archive counts as a folder."""
    return {f"{path}/{member.path}": member for path, archive in archives.items() for member in archive.members() if _wanted(member.path)}


def _depth(file: File, root: Path) -> int:
    return str(file.relative_to(root)).count("/")


def _without_gz(file: File) -> str:
    return str(file).lower().removesuffix(".gz")


def _without_suffix(key: str, suffixes: tuple[str, ...] | None) -> str:
    for suffix in sorted(suffixes or (), key=len, reverse=True):
        if suffix and key.endswith(suffix):
            return key[: -len(suffix)]
    return key
