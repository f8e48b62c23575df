"""Where an encoder's weights are: a local path, a pretraining run here, or the hub cache. Nothing is downloaded by a run.

    python -m radbench.weights rad_dino        download one encoder's files into the hub cache, and say where they are
    python -m radbench.weights                 list what is present and what is not

A weight that is not there is `Absent`, with the next step in words; it becomes a named gap in the tables.
"""

import argparse
import os
import re
from collections.abc import Callable
from pathlib import Path

from . import artifact
from .encoder import Card, find, names
from .errors import RadbenchError, WeightsError, run_entry_point


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


def fingerprint(path: Path | None, card: Card) -> dict[str, str]:
    """sha256 of each weight file, for content keys. Raises WeightsError when the card's sha256 differs."""
    if path is None:
        return {}
    files = [path] if path.is_file() else [path / name for name in card.files if (path / name).is_file()]
    files = files or sorted(entry for entry in path.iterdir() if entry.suffix in (".safetensors", ".bin", ".pt", ".pth", ".json"))
    hashes = {file.name: artifact.file_hash(file) for file in files}
    if card.sha256 and card.sha256 not in hashes.values():
        raise WeightsError(path, "not the weights of the card", got=hashes, expected=card.sha256, fix=card.how_to_get)
    return hashes


def load_strict(module, path: Path, name: str, *, select: Callable[[dict], dict] = dict, assign=False, fix: str = "") -> None:
    """Fill `module` from the file `path`, or from `path / name`: safetensors, or a pickle of plain tensors.

    `select` maps the state dict of the file to that of the module; what it returns has to fit exactly. `assign` takes
    the tensors over instead of copying them, for a module built on the meta device.

    Raises:
        WeightsError: no such file, unreadable (truncated, or more than tensors in it), or keys or shapes differ.
    """
    import pickle

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file = path / name if path.is_dir() else path
    try:
        found = load_file(file) if file.suffix == ".safetensors" else torch.load(file, map_location="cpu", weights_only=True)
        found = select(found)
    except (OSError, RuntimeError, EOFError, KeyError, AttributeError, SafetensorError, pickle.UnpicklingError) as error:
        got = f"{type(error).__name__} {error}".splitlines()[0]
        what, expected = "cannot be read as a state dict", "a complete file of tensors"
        raise WeightsError(file, what, got=got, expected=expected, fix=fix) from None
    wanted = module.state_dict()
    wrong = [f"missing {key}" for key in wanted if key not in found] + [f"unexpected {key}" for key in found if key not in wanted]
    wrong += [f"{key} is {tuple(found[key].shape)} and not {tuple(wanted[key].shape)}" for key in wanted
              if key in found and found[key].shape != wanted[key].shape]  # fmt: skip
    if wrong:
        more = f" and {len(wrong) - 4} more" if len(wrong) > 4 else ""
        raise WeightsError(file, "not the weights of this network", got="; ".join(wrong[:4]) + more,
                           expected=f"the {len(wanted)} tensors of {type(module).__name__}", fix=fix)  # fmt: skip
    module.load_state_dict(found, assign=assign)


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
    """Download the card's files at the card's revision into the hub cache. Raises WeightsError with the hub's answer."""
    card = find(name).card
    if not card.weights.startswith("hf:"):
        raise WeightsError(f"encoders/{name}.py", "its weights are not on the hub", fix=card.how_to_get or "none are needed")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(card.weights.removeprefix("hf:"), revision=card.revision, allow_patterns=list(card.files)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise WeightsError(card.weights, f"the hub does not give it: {str(error).splitlines()[0]}",
                           fix=card.how_to_get or "check the network, and the licence page when it is gated") from None  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("encoder", nargs="?", help="download this encoder's weights")
    arguments = parser.parse_args()
    if arguments.encoder:
        print(download(arguments.encoder))
        return
    for name in names():
        card = find(name).card
        try:
            print(f"{name:20} present  {resolve(name, card) or 'needs none'}")
        except (artifact.Absent, RadbenchError) as gap:
            print(f"{name:20} absent   {gap}")


if __name__ == "__main__":
    run_entry_point(main)
