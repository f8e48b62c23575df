"""Sidecars (`docs/formats.md`): reading and verifying parents, writing results atomically with their own.

A folder's files are written under temporary names, moved into place one by one, and the sidecar last: a reader that
finds a sidecar whose hashes agree has a complete set.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import io
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy

from .errors import HashMismatch, SettingError, SidecarError, StatsError

FORMAT = 1


@dataclass(frozen=True)
class Sidecar:
    """A meta.json that was read: where it lies and what it says."""

    path: Path
    content: dict[str, Any]

    @property
    def folder(self) -> Path:
        return self.path.parent

    @property
    def state(self) -> str:
        return self.content.get("state", "ok")

    @property
    def reason(self) -> str:
        return self.content.get("reason") or ""

    @property
    def facts(self) -> dict[str, Any]:
        return self.content.get("facts") or {}

    def as_parent(self) -> dict[str, str]:
        """The entry a child's sidecar records."""
        return {"path": self.path.as_posix(), "fingerprint": self.content.get("fingerprint", "")}

    def verified(self, file_name: str) -> Path:
        """Path of a file of this folder after comparing its sha256 with the sidecar's.

        Raises:
            HashMismatch: the bytes are not the ones the sidecar vouches for, or it does not vouch for the file at all.
        """
        path = self.folder / file_name
        expected = (self.content.get("files") or {}).get(file_name, {}).get("sha256")
        if expected is None:
            raise HashMismatch(str(path), f"no entry for {file_name} in {self.path}", "a sha256 under 'files'",
                               "run the stage that writes this folder again")  # fmt: skip
        if not path.is_file():
            raise HashMismatch(str(path), "no such file", f"sha256 {expected}", "run the stage that writes it again")
        found = sha256(path.read_bytes())
        if found != expected:
            raise HashMismatch(str(path), f"sha256 {found}", f"{expected}, as {self.path} says",
                               "delete the folder and run the stage that writes it again: the file was changed "
                               "after it was written")  # fmt: skip
        return path


def read_sidecar(path: Path | str) -> Sidecar:
    """Read a meta.json, given its own path or its folder's, and check that its fingerprint is that of its content.

    Raises:
        SidecarError: missing, not JSON, or of another format.
        HashMismatch: the sidecar was edited after it was written.
    """
    path = Path(path)
    path = path if path.name == "meta.json" else path / "meta.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SidecarError(str(path), "no such file", "a sidecar", "run the stage that writes this folder") from None
    except json.JSONDecodeError as error:
        raise SidecarError(str(path), f"text that is not JSON ({error})", "a sidecar",
                           "delete the folder and run the stage that writes it again") from None  # fmt: skip
    if content.get("format") != FORMAT:
        raise SidecarError(str(path), f"format {content.get('format')!r}", f"format {FORMAT}",
                           "write the folder again with this version of the project")  # fmt: skip
    if content.get("fingerprint") != fingerprint(content):
        raise HashMismatch(str(path), f"fingerprint {content.get('fingerprint')}", f"{fingerprint(content)}, the hash "
                           "of its kind, name, state, key and files",
                           "run the stage that writes this folder again: the sidecar was edited")  # fmt: skip
    return Sidecar(path, content)


def fingerprint(content: Mapping[str, Any]) -> str:
    """What children record of a parent: sha256 over kind, name, state, key and files."""
    identity = {name: content.get(name) for name in ("kind", "name", "state", "key", "files")}
    return sha256(canonical_json(identity))


def ancestor(sidecar: Sidecar, kind: str) -> Sidecar | None:
    """First parent, grandparent, ... of a kind; None when there is none or its sidecar is no longer on disk."""
    for parent in sidecar.content.get("parents") or []:
        try:
            found = read_sidecar(parent["path"])
        except SidecarError:
            continue
        if found.content.get("kind") == kind:
            return found
        if (deeper := ancestor(found, kind)) is not None:
            return deeper
    return None


def sha256(content: bytes) -> str:
    """Hex digest of bytes."""
    return hashlib.sha256(content).hexdigest()


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys and no spaces: the text that keys and fingerprints are hashes of."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def source_hash() -> str:
    """Hash of every .py file of this package: another version of the statistics is another key."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return sha256(b"\0".join(file.name.encode() + b"\0" + file.read_bytes() for file in files))


def check_folder(out: Path) -> None:
    """A folder, or a place where one can be made; what is made to try it is removed again.

    Raises:
        SettingError: a file stands there or above it, or the folder cannot be made or written to.
    """
    there = next(place for place in (out.absolute(), *out.absolute().parents) if place.exists() or place.is_symlink())
    if not there.is_dir():
        raise SettingError("--out", f"{out}" + (", which is a file" if there == out.absolute() else f", but {there.name} is a file"),
                           "a folder", "name another folder")  # fmt: skip
    try:
        with tempfile.TemporaryDirectory(dir=there):
            pass
    except OSError as error:
        raise SettingError("--out", f"{out}, which cannot be written to ({error.strerror})", "a folder that you may write to",
                           "name another folder") from None  # fmt: skip


def write_artifact(
    folder: Path | str, kind: str, files: Mapping[str, bytes], *, key_parts: Mapping[str, Any],
    parents: Sequence[Sidecar], facts: Mapping[str, Any], state: str = "ok", reason: str | None = None,
    started: float | None = None,
) -> Sidecar:  # fmt: skip
    """Write files and then their sidecar into ``folder``, each by a rename.

    Args:
        files: content by file name.
        key_parts: everything that can change the numbers, besides the source of this package and the parents'
            fingerprints, which are added here.
        started: ``time.perf_counter()`` when the work began, for the cost.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    ordered_parents = sorted((parent.as_parent() for parent in parents), key=lambda parent: parent["path"])
    key_parts = {
        **key_parts,
        "source": source_hash(),
        "parents": [parent["fingerprint"] for parent in ordered_parents],
    }
    identity = {
        "kind": kind,
        "name": _name_below_results(folder),
        "state": state,
        "key": sha256(canonical_json(key_parts)),
        "files": {name: {"sha256": sha256(content), "bytes": len(content)} for name, content in sorted(files.items())},
    }
    content = {
        "format": FORMAT,
        **identity,
        "reason": reason,
        "key_parts": key_parts,
        "parents": ordered_parents,
        "fingerprint": fingerprint(identity),
        "facts": dict(facts),
        "cost": {
            "seconds": round(time.perf_counter() - started, 3) if started is not None else None,
            "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
            "device": "cpu",
        },
        "software": {"python": platform.python_version(), "numpy": np.__version__, "scipy": scipy.__version__,
                     "pandas": pd.__version__},
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "git": _git_state(),
    }  # fmt: skip
    # An old sidecar must not vouch, even for a moment, for new files.
    (folder / "meta.json").unlink(missing_ok=True)
    for name, data in sorted(files.items()):
        write_atomically(folder / name, data)
    write_atomically(folder / "meta.json", json.dumps(content, indent=2, sort_keys=True).encode() + b"\n")
    return Sidecar(folder / "meta.json", content)


def write_atomically(path: Path, data: bytes) -> None:
    """Write under a temporary name in the same folder, then rename: no reader ever sees half a file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(data)
    os.replace(temporary, path)


def csv_bytes(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Rows as CSV with fixed number formatting, so that equal numbers are equal bytes.

    Floats carry ten decimals, p values (columns that begin with ``p_``) below 1e-4 seven digits and a power of ten, since none is
    nought; integers no decimals; None and NaN are empty.

    >>> csv_bytes(["a", "b", "c", "p_holm"], [{"a": 0.1, "b": float("nan"), "c": "x, y", "p_holm": 2.5e-17}])
    b'a,b,c,p_holm\\n0.1000000000,,"x, y",2.500000e-17\\n'
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_field(row.get(column), column.startswith("p_")) for column in columns])
    return text.getvalue().encode()


def read_csv(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV as texts by column."""
    with path.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def _field(value: Any, is_p: bool = False) -> str:
    if value is None:
        return ""
    if isinstance(value, (bool, np.bool_)):
        return "1" if value else "0"
    if isinstance(value, (float, np.floating)):
        if is_p and 0 < value < 1e-4:
            return f"{value:.6e}"
        return "" if not np.isfinite(value) else f"{round(float(value), 10) + 0.0:.10f}"  # + 0.0 turns -0.0 into 0.0
    return str(value)


def _name_below_results(folder: Path) -> str:
    parts = folder.parts
    last = max((place for place, part in enumerate(parts) if part == "results"), default=None)
    return folder.name if last is None else "/".join(parts[last + 1 :])


@functools.cache
def _git_state() -> dict[str, str | None]:
    """The commit that was checked out and a hash of uncommitted changes to it; nulls outside a git checkout."""

    def git(*words: str) -> bytes:
        command = ["git", "-C", str(Path(__file__).parent), *words]
        return subprocess.run(command, capture_output=True, check=True, timeout=60).stdout

    try:
        commit, changes = git("rev-parse", "HEAD").decode().strip(), git("diff", "HEAD")
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "changes": None}
    return {"commit": commit, "changes": sha256(changes) if changes else None}


def forget(folder: Path, kinds: Container[str], keep: Container[str] = ()) -> None:
    """Remove the files that a former run's meta.json vouches for, but for those to keep; a file that was changed since stays.

    Without any to keep, meta.json goes too, and the folder if nothing else is in it. A meta.json of another kind is left alone.
    """
    try:
        former = read_sidecar(folder)
    except StatsError:
        return
    if former.content.get("kind") not in kinds:
        return
    for name in former.content.get("files") or {}:
        if name in keep or Path(name).name != name:
            continue
        try:
            former.verified(name).unlink()
        except HashMismatch:
            continue
    if not keep:
        former.path.unlink()
        if not any(folder.iterdir()):
            folder.rmdir()
