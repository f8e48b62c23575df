"""Encoders under test: each is built once, with random weights, and shared by the tests of this folder."""

import functools
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from radbench.encoder import find, names
from radbench.subject import Subject
from radbench.weights import resolve


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """The suite shares its machine; results do not depend on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(int(os.environ.get("RADBENCH_THREADS", "1")))
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def subject_of() -> Callable[[str], Subject]:
    """The subject of an id, with random weights whatever lies in the cache."""
    return functools.lru_cache(1)(lambda name: Subject(name, find(name)))  # a ViT-L alone takes 1.2 GiB, a ViT-g 4.5


@pytest.fixture(scope="session")
def radiographs() -> list[np.ndarray]:
    """Three frames in [0, 1]: real ones from the folder $RADBENCH_REAL_IMAGES, else phantoms of three shapes."""
    folder = os.environ.get("RADBENCH_REAL_IMAGES")
    if folder:
        from radbench.image import SUFFIXES, decode, to_unit

        paths = sorted(path for path in Path(folder).iterdir() if path.suffix.lower() in SUFFIXES)
        return [to_unit(decode(paths[place]).pixels) for place in (0, len(paths) // 2, len(paths) - 1)]
    from radbench.datasets.phantom import draw_patient, image_facts, render

    frames = []
    for number, size in enumerate((700, 900, 620)):
        _, facts = next(image_facts(draw_patient(number, 0, {"A": 1.0})))
        frames.append(np.asarray(render(facts, size, masks=False)[0], dtype=np.float32))
    frames[2] = frames[2][:, 40:-40].copy()  # narrower than the others
    return [np.round(frame * 255).astype(np.float32) / np.float32(255) for frame in frames]  # as an 8-bit file holds it


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Callable[[str, Callable[[Path], object]], Path]:
    """Put a repository into an empty hub cache in the layout of huggingface_hub, and resolve it as a run would.

    `write(folder)` makes the files; they become blobs, with links to them in the snapshot of the card's revision.
    """
    cache = tmp_path / "hub"
    monkeypatch.setenv("HF_HUB_CACHE", str(cache))

    def put(repository: str, write: Callable[[Path], object]) -> Path:
        name = next(name for name in names() if find(name).card.weights == f"hf:{repository}")
        revision = find(name).card.revision
        pinned = re.fullmatch("[0-9a-f]{40}", revision)
        base, commit = cache / f"models--{repository.replace('/', '--')}", revision if pinned else "0123456789abcdef" * 2 + "01234567"
        for folder in (base / "blobs", base / "refs", base / "snapshots" / commit, tmp_path / "files"):
            folder.mkdir(parents=True)
        write(tmp_path / "files")
        for number, file in enumerate(sorted((tmp_path / "files").iterdir())):
            file.rename(base / "blobs" / f"{number:064x}")
            (base / "snapshots" / commit / file.name).symlink_to(Path("../../blobs") / f"{number:064x}")
        (base / "refs" / ("main" if pinned else revision)).write_text(commit)
        return resolve(name, find(name).card)

    return put


def loaded(name: str, path: Path | None = None, **options):
    """A wrapper with its network, from a file or with random weights."""
    encoder = find(name)(path, options)
    encoder.load("cpu")
    return encoder


def pixels(encoder) -> torch.Tensor:
    """Two noise images of the encoder's own input shape."""
    shape = encoder.preprocess(np.full((256, 256), 0.5, np.float32)).shape
    return torch.randn(2, *shape, generator=torch.Generator().manual_seed(1))


def left_by(net, parts: tuple[str, ...], run) -> list[torch.Tensor]:
    """What some parts of a network return while it runs."""
    found = {}
    hooks = [net.get_submodule(part).register_forward_hook(lambda _, __, out, part=part: found.update({part: out})) for part in parts]
    run()
    for hook in hooks:
        hook.remove()
    return [found[part][0] if isinstance(found[part], tuple) else found[part] for part in parts]


def same_levels(levels, taps) -> None:
    """Four taps as parts of the network returned them, tokens or maps, are the levels: prefixes dropped, on the grid of the third."""
    rows, cols = levels[2].shape[2:]
    for ours, tap in zip(levels, taps, strict=True):
        if tap.ndim == 3:
            side = int(tap.shape[1] ** 0.5)
            tap = tap[:, -side * side :].transpose(1, 2).unflatten(2, (side, side))
        finer, coarser = max(tap.shape[2] // rows, 1), max(rows // tap.shape[2], 1)
        tap = torch.nn.functional.avg_pool2d(tap, finer).repeat_interleave(coarser, 2).repeat_interleave(coarser, 3)
        torch.testing.assert_close(ours, tap, rtol=0, atol=1e-4 * max(1.0, float(tap.abs().max())))  # a residual stream grows
    assert taps[2].ndim == 3 or taps[2].shape[2:] == (rows, cols)
