"""Where an encoder's weights are: a local path, a pretraining run here, or the hub cache. Nothing is downloaded by a run.

    python -m radbench.weights rad_dino        download one encoder's files into the hub cache, and say where they are
    python -m radbench.weights                 list what is present and what is not

A weight that is not there is `Absent`, with the next step in words; it becomes a named gap in the tables.
"""

import argparse
import datetime
import fcntl
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

from . import artifact
from .encoder import Card, describe, names, parse
from .errors import RadbenchError, WeightsError, run_entry_point

#: hashes of every weight file at its first use, below the results folder
LOCK = "weights.lock"


def resolve(name: str, card: Card, local: str | None = None, results: Path = Path("results")) -> Path | None:
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
    path = _snapshot(address, card) if scheme == "hf" else weights_folder() / (card.files[0] if card.files else address)
    if path is None or not path.exists():
        raise artifact.Absent(f"weights not present: {card.how_to_get or _how(name, card)}")
    return path


def run_name(card: Card) -> str:
    """The pretraining run of "run:<name>" or "run:<name>/initial" (the weights before the first step)."""
    return card.weights.removeprefix("run:").removesuffix("/initial")


def state(name: str, card: Card, local: str | None = None) -> str:
    """A short text that changes when weights appear, disappear or are replaced: a cheap rerun trigger, no hashing."""
    try:
        path = None if card.weights.startswith("run:") and not local else resolve(name, card, local)
    except (artifact.Absent, RadbenchError):
        return "absent"
    if path is None:
        return "present"
    files = [path] if path.is_file() else [path / file for file in card.files] or sorted(path.iterdir())
    stats = [file.stat() for file in files if file.is_file()]
    return f"{path}:{sum(entry.st_size for entry in stats)}:{max((int(entry.st_mtime) for entry in stats), default=0)}"


def fingerprint(path: Path | None, card: Card, lock: Path | None = None) -> dict[str, str]:
    """sha256 of each weight file, for content keys; held against the card's and against the lock.

    The lock (`results/weights.lock`) remembers the hashes of the first use, so a file that changes under an address is
    refused and not taken for the one before.

    Raises:
        WeightsError: the hashes differ from the card's, or from those of the first use.
    """
    if path is None:
        return {}
    if path.is_file():
        files = {path.name: path}
    else:
        files = {name: path / name for name in card.files if (path / name).is_file()}
        kinds = (".safetensors", ".bin", ".pt", ".pth", ".tar", ".json")
        files = files or {entry.name: entry for entry in sorted(path.iterdir()) if entry.suffix in kinds}
    hashes = {name: artifact.file_hash(file) for name, file in files.items()}
    if card.sha256 and card.sha256 not in hashes.values():
        raise WeightsError(path, "not the weights of the card", got=hashes, expected=card.sha256, fix=card.how_to_get)
    if lock is not None:
        _hold_against(lock, card, path, hashes)
    return hashes


def _hold_against(lock: Path, card: Card, path: Path, hashes: dict[str, str]) -> None:
    """Compare with the lock, and record what it does not know yet. Several jobs may do so at once."""
    in_cache = card.weights.startswith("hf:") and path.is_dir() and path.parent.name == "snapshots"
    address = f"{card.weights}@{card.revision}" if in_cache else str(path.resolve())
    lock.parent.mkdir(parents=True, exist_ok=True)
    with open(lock.with_name(f".{lock.name}.held"), "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        known = json.loads(lock.read_text()) if lock.is_file() else {}
        first = known.get(address, {}).get("sha256", {})
        changed = [name for name, value in hashes.items() if first.get(name, value) != value]
        if changed:
            name = changed[0]
            raise WeightsError(path / name if path.is_dir() else path, "the file has changed since its first use here",
                               got=f"sha256 {hashes[name]}", expected=f"{first[name]}, from {known[address]['first_use']}",
                               fix=f"restore the file; or, if the change is wanted, remove {address!r} from {lock}")  # fmt: skip
        if first.keys() >= hashes.keys():
            return
        known[address] = {"sha256": first | hashes, "commit": path.name if in_cache else None, "title": card.title,
                          "first_use": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")}  # fmt: skip
        temporary = lock.with_name(f".{lock.name}.{os.getpid()}.tmp")
        temporary.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n")
        temporary.replace(lock)


def read_tensors(file: Path, fix: str = "") -> dict:
    """The content of a weight file: safetensors, or a pickle of nothing but tensors, numbers, texts and containers of them.

    Training checkpoints often carry `argparse.Namespace` and numpy numbers; both are plain data and are let through.

    Raises:
        WeightsError: no such file, a web page or a git-lfs pointer in place of it, truncated, or code in it.
    """
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
    if head.lstrip()[:5].lower() in (b"<!doc", b"<html"):
        raise WeightsError(file, "is a web page and not weights", expected="the file behind the page's download button", fix=fix)
    if head.startswith(b"version https://git-lfs"):
        raise WeightsError(file, "is a git-lfs pointer and not weights", expected="the file itself: git lfs pull", fix=fix)
    plain = [argparse.Namespace, np.dtype, type(np.dtype("float64")), type(np.dtype("float32")), type(np.dtype("int64")),
             np.ndarray, (np._core.multiarray.scalar, "numpy.core.multiarray.scalar"), np._core.multiarray.scalar]  # fmt: skip
    try:
        if file.suffix == ".safetensors" or head[8:9] == b"{":  # eight bytes of length, then JSON: whatever the file is called
            return load_file(file)
        # a training checkpoint is mostly optimizer state: mapped, only what is used is read
        with torch.serialization.safe_globals(plain):
            return torch.load(file, map_location="cpu", weights_only=True, mmap=head.startswith(b"PK"))
    except pickle.UnpicklingError as error:
        unsafe = re.search(r"GLOBAL (\S+)", str(error))
        what = f"holds more than tensors ({unsafe[1]})" if unsafe else "cannot be read as a state dict"
        raise WeightsError(file, what, got=_first_line(error), expected="a complete file of tensors; code is never run",
                           fix=fix) from None  # fmt: skip
    except (OSError, RuntimeError, EOFError, KeyError, AttributeError, ValueError, SafetensorError) as error:
        script = "a TorchScript archive, which is code" if "TorchScript" in str(error) else "cannot be read as a state dict"
        raise WeightsError(file, script, got=f"{type(error).__name__} {error}".splitlines()[0],
                           expected="a complete file of tensors", fix=fix) from None  # fmt: skip


def load_strict(
    module, path: Path, name: str, *, select: Callable[[dict], dict] = dict, ignore: tuple[str, ...] = (), assign=False, fix: str = ""
) -> None:  # fmt: skip
    """Fill `module` from the file `path`, or from `path / name`: safetensors, or a pickle of plain tensors.

    `select` maps the content of the file to the state dict of the module; `ignore` names the prefixes of tensors that the
    file may hold besides (a decoder, a text tower): what is left has to fit exactly. `assign` takes the tensors over
    instead of copying them, for a module built on the meta device.

    Raises:
        WeightsError: see `read_tensors`; or keys or shapes differ, with what the file looks like.
    """
    file = path / name if path.is_dir() else path
    content = read_tensors(file, fix)
    try:
        found = select(content)
    except (KeyError, AttributeError, TypeError) as error:
        keys = sorted(map(str, content))[:6] if isinstance(content, dict) else type(content).__name__
        raise WeightsError(file, f"has no part {error}", got=keys, fix=fix) from None
    found = {key: value for key, value in found.items() if not key.startswith(ignore)} if ignore else found
    wanted = module.state_dict()
    shapes = {key: getattr(value, "shape", None) for key, value in found.items()}
    other = [key for key in wanted if key in shapes and shapes[key] != wanted[key].shape]
    wrong = [f"missing {key}" for key in wanted if key not in found] + [f"unexpected {key}" for key in found if key not in wanted]
    wrong += [f"{key} is {_shape(shapes[key])} and not {tuple(wanted[key].shape)}" for key in other]
    if wrong:
        more = f" and {len(wrong) - 4} more" if len(wrong) > 4 else ""
        looks = _looks_like(found, len(wrong) == len(other))
        raise WeightsError(file, "not the weights of this network" + (f" but {looks}" if looks else ""), got="; ".join(wrong[:4]) + more,
                           expected=f"the {len(wanted)} tensors of {type(module).__name__}", fix=fix)  # fmt: skip
    module.load_state_dict(found, assign=assign)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _shape(shape) -> str:
    return "no tensor" if shape is None else str(tuple(shape))


def _looks_like(found: dict, only_shapes: bool) -> str:
    """What somebody probably has in hand instead."""
    names = list(map(str, found))
    if {"param_groups", "state"} <= set(names) or any("exp_avg" in name for name in names):
        return "the state of an optimizer"
    text = ("text_model.", "token_embedding", "bert.", "embeddings.word_embeddings", "text.", "text_projection")
    if any(text_part in name for name in names for text_part in text) and not any("visual" in name or "vision" in name for name in names):
        return "those of a text tower"
    if only_shapes:
        return "those of the same architecture in another size"
    if names and not any(hasattr(value, "shape") for value in found.values()):
        return f"a container with {names[:6]}"
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


def _snapshot(repository: str, card: Card) -> Path | None:
    """The snapshot folder in the hub cache when every file of the card is in it. Reads the layout; imports nothing."""
    base = hub_cache() / f"models--{repository.replace('/', '--')}"
    revision = card.revision
    if not re.fullmatch("[0-9a-f]{40}", revision):
        reference = base / "refs" / revision
        revision = reference.read_text().strip() if reference.is_file() else ""
    folder = base / "snapshots" / revision
    return folder if revision and all((folder / file).exists() for file in card.files) else None


def download(name: str) -> Path:
    """Download the files of an encoder (or of "hf:<owner>/<name>") at its revision into the hub cache.

    Raises:
        WeightsError: gated, not there (any more), no such revision or file, no network: each with the next step.
    """
    card = describe(*parse(name))
    if not card.weights.startswith("hf:"):
        raise WeightsError(name, "its weights are not on the hub", fix=card.how_to_get or "none are needed")
    from huggingface_hub import errors, snapshot_download

    repository = card.weights.removeprefix("hf:")
    page = f"https://huggingface.co/{repository}"
    try:
        path = Path(snapshot_download(repository, revision=card.revision, allow_patterns=list(card.files) or None))
    except errors.GatedRepoError:
        raise WeightsError(card.weights, "is gated: its owner has not let this account in yet",
                           fix=f"accept the terms on {page}, then `hf auth login`, then run this again") from None  # fmt: skip
    except errors.RepositoryNotFoundError:
        fix = f"look at {page}; `hf auth login` if it is private; or give another copy under encoders.{name}.weights"
        raise WeightsError(card.weights, "is not there (removed, renamed, or private without a login)", fix=fix) from None
    except errors.RevisionNotFoundError:
        raise WeightsError(card.weights, f"has no revision {card.revision}", fix=f"look at {page}/commits/main, mend the card") from None
    except errors.LocalEntryNotFoundError as error:
        fix = "run this on a machine with a network, or copy its hub cache here and set HF_HUB_CACHE"
        raise WeightsError(card.weights, "cannot be reached and is not in the cache", got=_first_line(error), fix=fix) from None
    except (errors.HfHubHTTPError, OSError) as error:
        raise WeightsError(card.weights, "the download failed", got=_first_line(error),
                           fix=card.how_to_get or "check the network and the free disk space") from None  # fmt: skip
    missing = [file for file in card.files if not (path / file).exists()]
    if missing:
        raise WeightsError(card.weights, f"revision {card.revision} lacks {missing}", got=sorted(entry.name for entry in path.iterdir()),
                           fix=f"look at {page}/tree/{card.revision}, mend the card's files") from None  # fmt: skip
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("encoder", nargs="?", help="download this encoder's weights")
    arguments = parser.parse_args()
    if arguments.encoder:
        print(download(arguments.encoder))
        return
    for name in names():
        card = describe(name, {})
        try:
            print(f"{name:20} present  {resolve(name, card) or 'needs none'}")
        except (artifact.Absent, RadbenchError) as gap:
            print(f"{name:20} absent   {gap}")


if __name__ == "__main__":
    run_entry_point(main)
