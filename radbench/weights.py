"""Where an encoder's weights are: a local path, a pretraining run here, or the hub cache. Nothing is downloaded by a run.

    python -m radbench.weights rad_dino        download one encoder's files into the hub cache, and say where they are
    python -m radbench.weights rad_dino --revision main         another revision than the card's
    python -m radbench.weights                 list what is present and what is not

The commit is the one that `results/weights.lock` records, else the card's. A weight that is not there is `Absent`, with the
next step in words; it becomes a named gap in the tables.
"""

import argparse
import datetime
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

from . import artifact
from .encoder import REPOSITORY, Card, describe, find, names, parse
from .errors import RadbenchError, WeightsError, run_entry_point

#: hashes of every weight file at its first use, below the results folder
LOCK = "weights.lock"
RESULTS = Path("results")
#: how the hub's index of a network in several files is called: model.safetensors.index.json beside model-00001-of-00002.safetensors
INDEX = ".index.json"
CONFIG = "config.json"
DAMAGED = "truncated or damaged: it cannot be read as a state dict"
#: how a page begins that a server sends in place of a file: HTML, XML, or JSON with an error
PAGE = re.compile(rb"(\xef\xbb\xbf)?\s*(<!doctype|<html|<head|<\?xml|\{\s*\"(error|errors|message)\")", re.IGNORECASE)


def resolve(name: str, card: Card, local: str | None = None, results: Path = RESULTS) -> Path | None:
    """The file or folder that holds the weights; None for an encoder that needs none.

    `local` (a path from the configuration) wins. "run:" gives the payload folder of the pretraining run, "hf:" the
    snapshot folder in the hub cache, "file:" `weights/<file>` below $RADBENCH_WEIGHTS or the working directory.

    Raises:
        artifact.Absent: not present; the message says how to get it.
        WeightsError: a local path was given and is not there, or is empty.
    """
    if local:
        path = Path(local).expanduser()
        if not path.exists():
            raise WeightsError(f"encoders.{name}.weights", "no such file or folder", got=path, fix="mend the path or remove it")
        return path
    if not card.weights:
        return None
    scheme, _, address = card.weights.partition(":")
    if scheme == "run":
        meta = artifact.read(results / "pretrain" / run_name(card))
        if meta.absent:
            raise artifact.Absent(str(meta.fields["reason"]))
        return meta.payload
    if scheme == "hf":
        return _snapshot(name, card, results / LOCK)
    path = weights_folder() / (card.files[0] if card.files else address)
    if not path.exists():
        raise artifact.Absent(f"weights not present: {card.how_to_get}")
    return path


def run_name(card: Card) -> str:
    """The pretraining run of "run:<name>" or "run:<name>/initial" (the weights before the first step)."""
    return card.weights.removeprefix("run:").removesuffix("/initial")


def state(name: str, card: Card, local: str | None = None) -> str:
    """A short text that changes when weights appear, disappear or are replaced: a cheap rerun trigger, no hashing."""
    try:
        path = None if card.weights.startswith("run:") and not local else resolve(name, card, local)
        if path is None:
            return "present"
        files = [path] if path.is_file() else [chosen(path, file) for file in card.files] or sorted(path.iterdir())
        stats = [part.stat() for file in files if file.is_file() for part in {file, *shards(file)} if part.is_file()]
    except (artifact.Absent, RadbenchError):
        return "absent"
    return f"{path}:{sum(entry.st_size for entry in stats)}:{max((int(entry.st_mtime) for entry in stats), default=0)}"


def chosen(folder: Path, entry: str) -> Path:
    """The file in a folder of an entry of a card's `files`: of "a|b" the first that is there, else the first."""
    files = [folder / name for name in entry.split("|")]
    return next((file for file in files if file.exists()), files[0])


def shards(file: Path) -> list[Path]:
    """The files beside it that an index of shards (`….index.json` of the hub) names, sorted; of any other file itself.

    Raises:
        WeightsError: the index cannot be read, or names something that is not a file beside it.
    """
    if not file.name.endswith(INDEX):
        return [file]
    try:
        names = sorted(set(json.loads(file.read_text())["weight_map"].values()))
        if not names or any(not re.fullmatch(r"\w[\w.-]*", name) or name.endswith(INDEX) for name in names):
            raise ValueError(f"weight_map names {names[:3]}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(file, "is no index of shards", got=f"{type(error).__name__}: {_first_line(error)}",
                           expected='{"weight_map": {tensor: file beside the index}}') from None  # fmt: skip
    return [file.with_name(name) for name in names]


def fingerprint(path: Path | None, card: Card, lock: Path | None = None) -> dict[str, str]:
    """sha256 of each weight file and of what configures its network, for content keys; held against the card's digest and against the lock.

    The digest is of the file at the card's own address: a path in the configuration may be other weights. The lock
    (`results/weights.lock`) remembers the hashes of the first use, so a file that changes under an address is refused and
    not taken for the one before.

    Raises:
        WeightsError: the file is not the one of the card's digest, or the hashes differ from those of the first use.
    """
    if path is None:
        return {}
    if path.is_file():  # what a wrapper reads beside it counts as well: the network's and the processor's configuration
        beside = [path.with_name(entry) for entry in card.files if entry.endswith(".json") and "|" not in entry]
        files = {part.name: part for part in [path, *shards(path), *beside] if part.is_file()}
    else:
        found = [file for entry in card.files if (file := chosen(path, entry)).is_file()]
        found = [part for file in found for part in (file, *shards(file))]
        files = {str(file.relative_to(path)): file for file in found if file.is_file()}
        kinds = (".safetensors", ".bin", ".pt", ".pth", ".tar", ".json")
        files = files or {entry.name: entry for entry in sorted(path.iterdir()) if entry.suffix in kinds}
    if CONFIG in card.files:  # beside which a repository may keep code that its owner's network needs
        folder = path.parent if path.is_file() else path
        files |= {code.name: code for code in sorted(folder.glob("*.py"))}
    hashes = {name: artifact.file_hash(file) for name, file in files.items()}
    if card.digest and _in_place(path, card):
        kind, _, wanted = card.digest.partition(":")
        found = {name: digest(file, kind) for name, file in files.items()} if kind != "sha256" else hashes
        if wanted not in found.values():
            fix = f"remove the file, then: {card.how_to_get}; another release needs its `revision`, or its path as `weights`"
            raise WeightsError(path, f"not the weights of the card ({kind})", got=found, expected=wanted, fix=fix)
    if lock is not None:
        _hold_against(lock, card, path, hashes)
    return hashes


def digest(file: Path, kind: str) -> str:
    """The digest of a file as hexadecimal digits; `kind` as hashlib names it."""
    with open(file, "rb") as handle:
        return hashlib.file_digest(handle, kind).hexdigest()


def _in_cache(path: Path, card: Card) -> bool:
    """Whether a path is a snapshot of the card's repository in a hub cache."""
    return card.weights.startswith("hf:") and path.is_dir() and path.parent == _base(card) / "snapshots"


def _in_place(path: Path, card: Card) -> bool:
    """Whether a path is the card's own address, and not one that a configuration names."""
    if card.weights.startswith("file:"):
        return path == weights_folder() / (card.files[0] if card.files else card.weights.removeprefix("file:"))
    return _in_cache(path, card)


def _address(card: Card) -> str:
    """The key of a hub repository in the lock."""
    return f"{card.weights}@{card.revision}"


def _read(lock: Path) -> dict[str, dict]:
    """The content of the lock; nothing where there is none."""
    try:
        return json.loads(lock.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise WeightsError(lock, "cannot be read", got=_first_line(error), expected="JSON, as written here",
                           fix="restore it from version control, or remove it to record hashes anew") from None  # fmt: skip


def _changed(first: dict[str, str], hashes: dict[str, str]) -> list[str]:
    """The files whose hash is another than at their first use."""
    return [name for name, value in hashes.items() if first.get(name, value) != value]


def _hold_against(lock: Path, card: Card, path: Path, hashes: dict[str, str]) -> None:
    """Compare with the lock, and record what it does not know yet. Several jobs may do so at once."""
    in_cache = _in_cache(path, card)
    address = _address(card) if in_cache else str(path.resolve())
    lock.parent.mkdir(parents=True, exist_ok=True)
    with open(lock.with_name(f".{lock.name}.held"), "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        known = _read(lock)
        first = known.get(address, {}).get("sha256", {})
        if changed := _changed(first, hashes):
            name = changed[0]
            restore = f"restore it ({card.how_to_get}; it takes the recorded commit)" if in_cache else "restore the file"
            raise WeightsError(path / name if path.is_dir() else path, "the file has changed since its first use here",
                               got=f"sha256 {hashes[name]}", expected=f"{first[name]}, from {known[address]['first_use']}",
                               fix=f"{restore}; or, if the change is wanted, remove {address!r} from {lock}")  # fmt: skip
        gone = [name for name in first if name not in hashes and not name.endswith((".json", ".py"))]
        if gone and hashes.keys() - first.keys():
            raise WeightsError(path, f"{gone[0]} was used here first, and now another file is in its place", got=sorted(hashes),
                               expected=f"{gone[0]}, sha256 {first[gone[0]]}, from {known[address]['first_use']}",
                               fix=f"restore the file; or, if the change is wanted, remove {address!r} from {lock}")  # fmt: skip
        if first.keys() >= hashes.keys():
            return
        known[address] = {"sha256": first | hashes, "commit": path.name if in_cache else None, "title": card.title,
                          "first_use": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")}  # fmt: skip
        artifact.write_bytes(lock, (json.dumps(known, indent=2, sort_keys=True) + "\n").encode())


def read_tensors(file: Path, fix: str = "") -> dict:
    """The content of a weight file: safetensors, or a pickle of nothing but tensors, numbers, texts and containers of them.

    Of an index of shards, the tensors of all its shards. Training checkpoints often carry `argparse.Namespace` and numpy
    numbers; both are plain data and are let through.

    Raises:
        WeightsError: no such file, an error page or a git-lfs pointer in place of it, truncated, or code in it.
    """
    if file.name.endswith(INDEX):
        tensors = {}
        for part in shards(file):
            content = read_tensors(part, fix)
            if not isinstance(content, dict):
                raise WeightsError(part, "holds no named tensors", got=type(content).__name__, expected="a state dict", fix=fix)
            tensors |= content
        return tensors
    import pickle

    import numpy as np
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        with open(file, "rb") as handle:
            head = handle.read(64)
    except OSError as error:
        raise WeightsError(file, "cannot be read", got=error.strerror, fix=fix) from None
    if PAGE.match(head):
        raise WeightsError(file, "is a saved web page or error page of a download, and not weights", got=head[:40],
                           expected="the file behind the page's download button", fix=fix)  # fmt: skip
    if head.startswith(b"version https://git-lfs"):
        raise WeightsError(file, "is a git-lfs pointer and not weights", expected="the file itself: git lfs pull", fix=fix)
    if head.startswith(b"PK") and _is_script(file):
        raise WeightsError(file, "a TorchScript archive, which is code", expected="a state dict, which is data: the release of the "
                           "same network for transformers, open_clip or timm", fix=fix)  # fmt: skip
    plain = [argparse.Namespace, np.dtype, type(np.dtype("float64")), type(np.dtype("float32")), type(np.dtype("int64")),
             np.ndarray, (np._core.multiarray.scalar, "numpy.core.multiarray.scalar"), np._core.multiarray.scalar]  # fmt: skip
    try:
        if file.suffix == ".safetensors" or head[8:9] == b"{":  # eight bytes of length, then JSON: whatever the file is called
            return load_file(file)
        # a training checkpoint is mostly optimizer state: mapped, only what is used is read
        with torch.serialization.safe_globals(plain):
            return torch.load(file, map_location="cpu", weights_only=True, mmap=head.startswith(b"PK"))
    except pickle.UnpicklingError as error:  # torch's text advises to run the code in the file: it is not passed on
        unsafe, other = re.search(r"GLOBAL (\S+)", str(error)), re.search(r"Unsupported operand \d+", str(error))
        what = f"holds more than tensors ({unsafe[1]})" if unsafe else DAMAGED
        if other:  # the file may be whole
            what = f"is damaged, or written with pickle protocol 4 or later, which is not read as data ({other[0]})"
            fix = f"ask its owner for safetensors, or for torch.save's default protocol; or get it anew: {fix}"
        raise WeightsError(file, what, got=f"{file.stat().st_size} bytes that begin with {head[:16]}",
                           expected="a complete file of tensors; code is never run", fix=fix) from None  # fmt: skip
    except (OSError, RuntimeError, EOFError, KeyError, AttributeError, ValueError, SafetensorError) as error:
        said = "" if "weights_only" in str(error) else f" {_first_line(error)}"
        got = f"{file.stat().st_size} bytes that begin with {head[:16]} ({type(error).__name__}{said})"
        raise WeightsError(file, DAMAGED, got=got, expected="a complete file of tensors", fix=fix) from None


def _is_script(file: Path) -> bool:
    """Whether a zip archive holds code beside its tensors, as torch.jit.save writes it."""
    import zipfile

    try:
        with zipfile.ZipFile(file) as archive:
            return any("/code/" in name or name.endswith("constants.pkl") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile, NotImplementedError):  # NotImplementedError: a zip of a later version
        return False


def load_strict(
    module, path: Path, name: str, *, select: Callable[[dict], dict] = dict, ignore: tuple[str, ...] = (), assign=False, fix: str = ""
) -> None:  # fmt: skip
    """Fill `module` from the file `path`, or from `name` in the folder `path`: safetensors, or a pickle of plain tensors.

    `select` maps the content of the file to the state dict of the module; `ignore` names the prefixes of tensors that the
    file may hold besides (a decoder, a text tower): what is left has to fit exactly. `assign` takes the tensors over
    instead of copying them, for a module built on the meta device.

    Raises:
        WeightsError: see `read_tensors`; or keys or shapes differ, with what the file looks like.
    """
    file = chosen(path, name) if path.is_dir() else path
    content = read_tensors(file, fix)
    if not isinstance(content, dict):
        raise WeightsError(file, "holds no named tensors", got=type(content).__name__, expected="a state dict", fix=fix)
    looks = looks_like(content)
    try:
        found = select(content)
    except (KeyError, AttributeError, TypeError, RuntimeError, ValueError, IndexError) as error:
        part = f"has no part {error}" if isinstance(error, KeyError) else f"its parts do not fit together ({_first_line(error)})"
        raise WeightsError(file, f"not the weights of this network but {looks}: {part}" if looks else part,
                           got=sorted(map(str, content))[:6], fix=fix) from None  # fmt: skip
    found = {key: value for key, value in found.items() if not key.startswith(ignore)} if ignore else found
    wanted = module.state_dict()
    shapes = {key: getattr(value, "shape", None) for key, value in found.items()}
    other = [key for key in wanted if key in shapes and shapes[key] != wanted[key].shape]
    wrong = [f"{key} is {_shape(shapes[key])} and not {tuple(wanted[key].shape)}" for key in other]
    wrong += [f"{key} is {found[key].dtype} and not a floating-point number" for key in wanted
              if key in found and key not in other and wanted[key].is_floating_point() and not found[key].is_floating_point()]  # fmt: skip
    wrong += [f"missing {key}" for key in wanted if key not in found] + [f"unexpected {key}" for key in found if key not in wanted]
    if wrong:
        more = f" and {len(wrong) - 4} more" if len(wrong) > 4 else ""
        looks = looks or looks_like(found) or _looks_otherwise(found, len(wrong) == len(other))
        raise WeightsError(file, "not the weights of this network" + (f" but {looks}" if looks else ""), got="; ".join(wrong[:4]) + more,
                           expected=f"the {len(wanted)} tensors of {type(module).__name__}", fix=fix)  # fmt: skip
    module.load_state_dict(found, assign=assign)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _shape(shape) -> str:
    return "no tensor" if shape is None else str(tuple(shape))


#: parts of names that only a text tower has, and those that show an image tower beside it
TEXT = re.compile(r"(^|[._])(text|text_model|text_encoder|text_projection|lang_encoder|bert|token_embedding|word_embeddings)([._]|$)")
IMAGE = ("visual", "vision", "image", "patch_embed", "conv1.", "pixel")


def looks_like(content: dict) -> str:
    """What somebody has in hand instead, by the names in the file: before a wrapper drops those that it does not use."""
    names = list(map(str, content))
    if {"param_groups", "state"} <= set(names) or any("exp_avg" in name for name in names):
        return "the state of an optimizer"
    if any(map(TEXT.search, names)) and not any(part in name for name in names for part in IMAGE):
        return "those of a text tower"
    return ""


def _looks_otherwise(found: dict, only_shapes: bool) -> str:
    """What the tensors that a wrapper has selected look like."""
    if only_shapes and all(hasattr(value, "shape") for value in found.values()):
        return "those of the same architecture in another size"
    if found and not any(hasattr(value, "shape") for value in found.values()):
        return f"a container with {list(map(str, found))[:6]}"
    return ""


def _how(name: str, card: Card) -> str:
    gate = "accept the licence on its hub page, then " if card.gated else ""
    return f"{gate}python -m radbench.weights {name}"


def weights_folder() -> Path:
    """Where weights that are on no hub are looked for: $RADBENCH_WEIGHTS, or `weights/` in the working directory."""
    return Path(os.environ.get("RADBENCH_WEIGHTS", "weights"))


def hub_cache() -> Path:
    """Folder of the hub cache, as huggingface_hub finds it."""
    home = Path(os.environ.get("HF_HOME", Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "huggingface")).expanduser()
    return Path(os.environ.get("HF_HUB_CACHE", home / "hub"))


def _base(card: Card) -> Path:
    """The folder of a card's repository in the hub cache."""
    return hub_cache() / f"models--{card.weights.removeprefix('hf:').replace('/', '--')}"


def _snapshot(name: str, card: Card, lock: Path) -> Path:
    """The snapshot folder in the hub cache when every file of the card is in it. Reads the layout; imports nothing.

    The commit is the one of the first use, where the lock knows it: a branch that has moved since is not followed.

    Raises:
        artifact.Absent: not there, or not with every file.
    """
    base, how = _base(card), card.how_to_get or _how(name, card)
    recorded = _read(lock).get(_address(card), {}).get("commit")
    reference = base / "refs" / card.revision
    present = reference.read_text().strip() if reference.is_file() else ""
    commit = recorded or (card.revision if re.fullmatch("[0-9a-f]{40}", card.revision) else present)
    folder = base / "snapshots" / commit
    if commit and not _missing(folder, card):
        return folder
    if recorded and present and present != recorded:
        how += (f"; the cache has {card.revision} as it is now, {present[:12]}, and {lock} records {recorded[:12]}, which the command "
                f"fetches; if the change is wanted, remove {_address(card)!r} from {lock}")  # fmt: skip
    elif others := [other.name for other in sorted((base / "snapshots").glob("*")) if other.name != commit]:
        how += f"; the cache has {', '.join(others)} and not {commit or card.revision}: `revision` in the configuration takes another"
    raise artifact.Absent(f"weights not present: {how}")


def _missing(folder: Path, card: Card) -> list[str]:
    """What of a card's files is not in a folder; of an index of shards also the shards."""
    missing = [entry.replace("|", " or ") for entry in card.files if not chosen(folder, entry).exists()]
    files = [file for entry in card.files if (file := chosen(folder, entry)).exists()]
    return missing + [part.name for file in files for part in shards(file) if not part.exists()]


def download(name: str, revision: str | None = None, results: Path = RESULTS) -> Path:
    """Download the files of an encoder (or of "hf:<owner>/<name>") into the hub cache.

    The commit is the one that the lock in `results` records, so that a branch that has moved cannot leave a study without its
    weights; else `revision`, else the card's.

    Raises:
        WeightsError: gated, not there (any more), no such revision or file, no network: each with the next step.
    """
    row, spec = parse(name)
    card = describe(row, spec | ({"revision": revision} if revision else {}))
    find(spec.get("wrapper") or row).look_up(spec.get("options", {}))
    if not card.weights.startswith("hf:"):
        raise WeightsError(name, "its weights are not on the hub", fix=card.how_to_get or "none are needed")
    if not REPOSITORY.fullmatch(card.weights.removeprefix("hf:")):
        raise WeightsError(name, "names no hub repository", got=card.weights, expected="hf:<owner>/<name>, as after huggingface.co/")
    first = _read(results / LOCK).get(_address(card), {})
    commit = first.get("commit") or card.revision
    path = _fetch(name, card, commit)
    if missing := _missing(path, card):
        page = f"https://huggingface.co/{card.weights.removeprefix('hf:')}/tree/{commit}"
        generic = find(spec.get("wrapper") or row).generic  # has no card of its own to mend
        then = "it needs a wrapper of its own: docs/adding-an-encoder.md" if generic else "mend the card's files"
        raise WeightsError(card.weights, f"revision {commit} lacks {missing}", got=sorted(entry.name for entry in path.iterdir()),
                           fix=f"look at {page}; {then}")  # fmt: skip
    recorded = first.get("sha256", {})
    hashes = {entry: artifact.file_hash(path / entry) for entry in recorded if (path / entry).is_file()}
    return _fetch(name, card, commit, anew=True) if _changed(recorded, hashes) else path


def _fetch(name: str, card: Card, commit: str, anew: bool = False) -> Path:
    """The snapshot folder with a card's files at a commit, from the hub or its cache; `anew` also what the cache has."""
    import httpx
    from huggingface_hub import errors, snapshot_download

    repository = card.weights.removeprefix("hf:")
    page = f"https://huggingface.co/{repository}"
    try:
        files = _first_there(repository, commit, card.files)
        files += [re.sub(r"(\.\w+)\.index\.json$", r"-*-of-*\1", file) for file in files if file.endswith(INDEX)]
        files += ["*.py"] if CONFIG in files else []  # never run unless an option says so
        return Path(snapshot_download(repository, revision=commit, allow_patterns=files or None, force_download=anew))
    except errors.GatedRepoError:
        raise WeightsError(card.weights, "is gated: its owner has not let this account in yet",
                           fix=f"accept the terms on {page}, then `hf auth login`, then run this again") from None  # fmt: skip
    except errors.RepositoryNotFoundError:
        fix = f"look at {page}; `hf auth login` if it is private; or give another copy under encoders.{name}.weights"
        raise WeightsError(card.weights, "is not there (removed, renamed, or private without a login)", fix=fix) from None
    except errors.RevisionNotFoundError:
        fix = f"look at {page}/commits/main, then give another one: --revision, and `revision` in the configuration"
        raise WeightsError(card.weights, f"has no revision {commit}", fix=fix) from None
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, httpx.TransportError) as error:
        fix = "run this on a machine with a network, or copy its hub cache here and set HF_HUB_CACHE"
        raise WeightsError(card.weights, "cannot be reached and is not in the cache", got=_first_line(error), fix=fix) from None
    except (errors.HfHubHTTPError, OSError) as error:
        raise WeightsError(card.weights, "the download failed", got=_first_line(error),
                           fix=card.how_to_get or "check the network and the free disk space") from None  # fmt: skip


def _first_there(repository: str, commit: str, entries: tuple[str, ...]) -> list[str]:
    """Each entry of a card's `files`, of "a|b" the first that the repository has; all of them where the hub cannot be asked."""
    import httpx
    from huggingface_hub import errors, list_repo_files

    if not any("|" in entry for entry in entries):
        return list(entries)
    try:
        there = set(list_repo_files(repository, revision=commit))
    except (httpx.TransportError, errors.OfflineModeIsEnabled):
        there = set()
    known = [[file for file in entry.split("|") if file in there][:1] or entry.split("|") for entry in entries]
    return [file for files in known for file in files]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("encoder", nargs="?", help="download this encoder's weights")
    parser.add_argument("--revision", help="a branch, tag or commit in place of the card's, as `revision` in the configuration")
    parser.add_argument("--results", default=RESULTS, type=Path, help="the folder whose weights.lock may record a commit")
    arguments = parser.parse_args()
    if arguments.encoder:
        print(download(arguments.encoder, arguments.revision, arguments.results))
        return
    for name in names():
        card = describe(name, {})
        try:
            print(f"{name:20} present  {resolve(name, card, results=arguments.results) or 'needs none'}")
        except (artifact.Absent, RadbenchError) as gap:
            print(f"{name:20} absent   {gap}")


if __name__ == "__main__":
    run_entry_point(main)
