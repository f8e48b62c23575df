"""What every encoder promises: one function per promise, from a `Subject` to a short remark, or a ContractError.

What they cannot tell is whether the features are those of the published model: that takes a parity test
(tests/encoders/test_parity.py).
"""

import csv
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from . import artifact, weights
from .datasets import misnamed
from .encoder import REPOSITORY, Encoder
from .errors import ConfigError, RadbenchError, WeightsError
from .image import FILTERS, center_crop, resize
from .subject import LANDSCAPE, PLACES, PORTRAIT, SQUARE, ContractError, NotApplicableError, Subject, texture

HEAVY = ("torch", "torchvision", "timm", "transformers", "open_clip")
TOLERANCE = 1e-4  # of the largest feature: sums in another order
COSINES = {"bfloat16": 0.99, "float16": 0.999}  # least of features in a half precision with those in float32
GREY_LEVEL = 1 / 255  # a resize that rounds in between may be off by so much
OFF_PLACE = 0.02  # of the input's side
GREYS = texture(PORTRAIT, full_range=False)  # what is the same for black to white may differ here: a stretch of the range
RESULTS = Path("results")
GOLDEN = artifact.ROOT / "encoders" / "golden.json"
GOLDEN_TOLERANCE = 2e-3  # of the largest value: convolutions and products are ordered differently on other processors
#: fields of encoders/_template.py that say nothing about any encoder
PLACEHOLDERS = ("title", "weights", "how_to_get", "pretrained_on", "citation", "notes")


# ---------------------------------------------------------------- card and file


def card_is_complete(subject: Subject) -> str:
    """Everything a reader of Table 2 needs is there, consistent, and no longer the template's."""
    card, wrong = subject.card, []
    wrong += [f"{name} is empty" for name in ("title", "architecture", "pooling", "licence") if not getattr(card, name).strip()]
    if not card.citation and not card.control:
        wrong.append("citation is empty")
    stand_in = subject.encoder_class.generic and not subject.named_model
    scheme, _, address = card.weights.partition(":")
    if scheme not in ("", "run", "hf", "file"):
        wrong.append(f"weights {card.weights!r} begin with none of run:, hf:, file:")
    if scheme == "hf" and not stand_in and not REPOSITORY.fullmatch(address):
        wrong.append(f"weights {card.weights!r} are not hf:<owner>/<name>")
    if card.weights and not card.how_to_get:
        wrong.append("how_to_get is empty")
    if scheme == "hf" and not card.files:
        wrong.append("files is empty: which files of the hub repository?")
    if scheme != "run" and not subject.encoder_class.generic:  # the trained run says these, or the model that is named
        wrong += [f"{name} is None" for name in ("image_size", "patch", "dim", "params") if getattr(card, name) is None]
    if card.levels and list(card.levels) != sorted(set(card.levels)):
        wrong.append(f"levels {card.levels} do not go from shallow to deep")
    wrong += [f"pretrained_on has {name!r}: {right}" for name in card.pretrained_on if (right := misnamed(name))]
    if set(card.labels_seen) - set(card.pretrained_on):
        wrong.append("labels_seen has names that pretrained_on lacks")
    if not 0 < card.field <= 1:
        wrong.append(f"field {card.field} is not a share of the image's side")
    if card.interpolation not in (*FILTERS, "own"):
        wrong.append(f"interpolation {card.interpolation!r} is none of {', '.join(FILTERS)}, own")
    if card.interpolation == "own" and not card.notes:
        wrong.append("interpolation is own, and the notes do not say what that is")
    if card.paper_name and card.paper_name not in _published_cells():
        wrong.append(f"paper_name {card.paper_name!r} is in no table of results/published")
    if left := _placeholders(subject):
        wrong.append(f"{', '.join(left)}: still what the template says")
    if wrong:
        raise ContractError(f"{subject.where}: card", "; ".join(wrong), fix="radbench/encoder.py says what each field is")
    return f"{card.title}, {card.architecture}"


def _published_cells() -> set[str]:
    tables = (artifact.ROOT / "results" / "published").glob("*.csv")
    return {cell for path in tables for row in csv.reader(path.read_text().splitlines()) for cell in row}


def _placeholders(subject: Subject) -> list[str]:
    """Fields of the card that nobody has filled in."""
    template = importlib.import_module("encoders._template").Template.card

    def here(value: Any) -> Any:  # `--new` writes the id into the texts
        return value.replace("<id>", subject.name) if isinstance(value, str) else value

    return [name for name in PLACEHOLDERS if getattr(subject.card, name) in (getattr(template, name), here(getattr(template, name)))]


def import_is_cheap(subject: Subject) -> str:
    """Listing the encoders must not import a deep learning library: imports stay inside `load`."""
    module = subject.encoder_class.__module__
    code = f"import sys, {module}; print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=artifact.ROOT)
    if done.returncode:
        raise ContractError(subject.where, "fails to import", got=done.stderr.strip().splitlines()[-1])
    if done.stdout.strip():
        raise ContractError(subject.where, f"importing it imports {done.stdout.strip()}", fix="move these imports into load")
    return "no deep learning library"


def weight_files_are_the_known_ones(subject: Subject) -> str:
    """The weight files are those of the card's digest, and of their first use here (results/weights.lock); their sha256."""
    if subject.path is None:
        raise NotApplicableError("no weight file")
    run = RESULTS / "pretrain" / weights.run_name(subject.card)
    made_here = run.resolve() in subject.path.resolve().parents
    if made_here:  # a run may be made again: its sidecar vouches for its files
        artifact.verify(artifact.read(run))
    hashes = weights.fingerprint(subject.path, subject.card, None if made_here else RESULTS / weights.LOCK)
    return ", ".join(f"{name} sha256 {value}" for name, value in hashes.items()) or "no file"


# ---------------------------------------------------------------- the input


def preprocess_keeps_its_contract(subject: Subject) -> str:
    """Any shape of frame in, float32 (C, h, w) of one shape out, the same each time; grey is normalised as the card says."""
    card, encoder, shapes = subject.card, subject.preparer, set()
    random = np.random.default_rng(0)
    noise = [0.25 + 0.5 * random.random(shape, dtype=np.float32) for shape in ((300, 220), (220, 300))]
    for frame in (*noise, np.full((64, 64), 0.5, dtype=np.float32)):
        before = frame.copy()
        image = encoder.preprocess(frame)
        if not np.array_equal(before, frame):
            raise ContractError(subject.where, "preprocess changes its input in place", fix="work on a copy")
        if not isinstance(image, np.ndarray) or image.dtype != np.float32 or image.ndim != 3 or not np.isfinite(image).all():
            got = f"{type(image).__name__} {getattr(image, 'dtype', '')} {getattr(image, 'shape', '')}"
            raise ContractError(subject.where, "preprocess returns", got=got, expected="a finite float32 array (C, h, w)")
        if not np.array_equal(image, encoder.preprocess(frame)):
            raise ContractError(subject.where, "preprocess gives another input the second time", fix="draw nothing at random")
        shapes.add(image.shape)
    if len(shapes) > 1:
        raise ContractError(subject.where, "the shape of the input depends on the image", got=sorted(shapes))
    shape = shapes.pop()
    if card.image_size is not None and shape[1:] != (card.image_size, card.image_size):
        raise ContractError(subject.where, "input side differs from the card", got=shape[1:], expected=card.image_size)
    for grey in (0.0, 128 / 255, 1.0):
        image = encoder.preprocess(np.full((300, 220), grey, dtype=np.float32))
        if card.padding is not None:  # the rim is not the image
            rows, cols = shape[1] // 4, shape[2] // 4
            image = image[:, rows:-rows, cols:-cols]
        if np.ptp(image, axis=(1, 2)).max() > 1e-5:
            raise ContractError(subject.where, f"a constant image of {grey:.3f} does not stay constant", got=np.ptp(image))
        if card.mean is None or card.std is None:
            continue
        expected = (grey - np.broadcast_to(card.mean, shape[0])) / np.broadcast_to(card.std, shape[0])
        if np.abs(image[:, 0, 0] - expected).max() > 1e-4:
            what = f"grey {grey:.3f} is not normalised as the card says"
            raise ContractError(subject.where, what, got=image[:, 0, 0], expected=expected)
    return f"float32 {shape}" + (f", mean {card.mean}, std {card.std}" if card.mean is not None else ", no fixed mean and std")


def picture_reaches_the_input(subject: Subject) -> str:
    """Bright squares in a picture appear in the input where they should: upright, not mirrored, as much of it as the card says."""
    field = subject.card.field
    found, expected = [subject.seen_at(SQUARE, place) for place in PLACES], _seen_at(PLACES, (1 / field, 1 / field))
    if not _alike(found, expected):
        scales = [(where[axis] - 0.5) / (place[axis] - 0.5) for where, place in zip(found, PLACES, strict=True) for axis in (0, 1)]
        if subject.named_model and min(scales) > 1 and max(scales) - min(scales) < 4 * OFF_PLACE:  # upright, and cropped
            seen = f"about {1 / np.mean(scales):.2f} of the side is seen, and the card says {field:g}"
            raise NotApplicableError(f"{seen}; segmentation asks for the option field")
        what = "bright squares of a square picture appear elsewhere in the input (rows, columns)"
        fix = "rows and columns in order, nothing mirrored, and the card's field the share of the side that is seen"
        raise ContractError(subject.where, what, got=_in_words(found), expected=_in_words(expected), fix=fix)
    fits = []
    for shape in (PORTRAIT, LANDSCAPE):
        found = [subject.seen_at(shape, place) for place in PLACES]
        scales = {"squashed": (1.0, 1.0), "cropped": [side / min(shape) for side in shape], "padded": [side / max(shape) for side in shape]}
        fit = [name for name, both in scales.items() if _alike(found, _seen_at(PLACES, [scale / field for scale in both]))]
        if not fit:
            what = f"bright squares of a picture of {shape[0]} x {shape[1]} appear where no fit puts them"
            wanted = "squashed, cropped to the middle, or padded on both sides"
            raise ContractError(subject.where, what, got=_in_words(found), expected=wanted)
        fits.append(fit[0])
    return f"upright, {field:g} of the side; a portrait is {fits[0]}, a landscape {fits[1]}"


def _seen_at(places, scales) -> list[tuple[float, ...]]:
    """Where in the input the places of a picture are, under a scale of its rows and one of its columns."""
    return [tuple(0.5 + (share - 0.5) * scale for share, scale in zip(place, scales, strict=True)) for place in places]


def _alike(found, expected) -> bool:
    return bool(np.abs(np.subtract(found, expected)).max() <= OFF_PLACE)  # nan is nowhere


def _in_words(places) -> str:
    return " and ".join(f"({row:.2f}, {col:.2f})" for row, col in places)


def filter_is_the_cards(subject: Subject) -> str:
    """A square picture, resized by the card's filter and cut to the card's field, is the input up to mean and standard deviation.

    A wrapper that does more than that has to read the filter off the card: another one there changes the input. What else it does is not
    known here, so the check then says that it did not look.
    """
    card, encoder = subject.card, subject.preparer
    if card.interpolation not in FILTERS:
        raise NotApplicableError(f"{card.interpolation}: see the notes")
    image = subject.prepared(texture(SQUARE))
    fitting = [name for name in FILTERS if _is_picture(image, name, card.field)]
    if card.interpolation in fitting:
        return card.interpolation
    if subject.encoder_class.generic and fitting:
        return f"{fitting[0]}, as the model's own configuration says"
    before, others = encoder.card, [name for name in FILTERS if name != card.interpolation]
    try:
        for name in others:
            encoder.card = replace(before, interpolation=name)
            if np.array_equal(subject.prepared(texture(SQUARE)), image):
                what, fix = "the input is not made by the card's filter", "resize by self.card.interpolation, or say own on the card"
                got = " or ".join(fitting) or "another resize"
                raise ContractError(subject.where, what, got=got, expected=card.interpolation, fix=fix)
    finally:
        encoder.card = before
    raise NotApplicableError(f"{card.interpolation} is read off the card; there is another step besides, so the input is not recomputed")


def _is_picture(image: np.ndarray, interpolation: str, field: float) -> bool:
    """Is each channel a linear function of the resized picture? Where the filter overshoots, wrappers may clip."""
    side = image.shape[1]
    whole = round(side / field)
    picture = center_crop(resize(texture(SQUARE), whole, whole, interpolation), side)
    inside = (picture > GREY_LEVEL) & (picture < 1 - GREY_LEVEL)
    for channel in image:
        slope, offset = np.polyfit(picture[inside].astype(np.float64), channel[inside].astype(np.float64), 1)
        if not slope > 0 or np.abs((channel[inside] - offset) / slope - picture[inside]).max() > GREY_LEVEL:
            return False
    return True


# ---------------------------------------------------------------- the network


def loads_ready(subject: Subject) -> str:
    """`load` leaves the network in eval mode and float32."""
    import torch

    modules = subject.encoder.modules()
    training = [type(part).__name__ for module in modules for part in module.modules() if part.training]
    if training:
        what = f"{len(training)} modules are in training mode after load"
        raise ContractError(subject.where, what, got=training[0], fix="call .eval()")
    kinds = {str(value.dtype) for module in modules for value in module.parameters()} - {str(torch.float32)}
    if kinds:
        raise ContractError(subject.where, "parameters are not float32", got=sorted(kinds), fix="call .float()")
    return f"{len(modules)} modules"


def parameters_are_counted(subject: Subject) -> str:
    """The number of parameters of the loaded network is the card's, to 0.1 %."""
    if subject.card.needs and not subject.encoder.modules():
        raise NotApplicableError(f"the network runs in {subject.card.needs[0]}")
    found = subject.encoder.parameter_count()
    stated = subject.card.params
    if stated is None:
        return f"{found:,} (the card leaves it to the run)"
    if abs(found - stated) > 1e-3 * stated:
        raise ContractError(subject.where, "parameter count differs from the card", got=f"{found:,}", expected=f"{stated:,}")
    return f"{found:,}"


def tensors_are_the_files(subject: Subject) -> str:
    """With a weight file, two loads under two seeds give the same tensors: none of them is left as it was drawn."""
    import torch

    if subject.path is None:
        raise NotApplicableError("no weight file here")
    one, other = ([module.state_dict() for module in encoder.modules()] for encoder in (subject.encoder, subject.loaded(seed=1)))
    drawn = [name for first, second in zip(one, other, strict=True) for name in first if not torch.equal(first[name], second[name])]
    if drawn:
        raise ContractError(subject.where, f"{len(drawn)} tensors are not from the weight file but random", got=drawn[:3],
                            fix="load it with radbench.weights.load_strict, which refuses a file that lacks some")  # fmt: skip
    return f"{sum(map(len, one))} tensors"


def features_have_the_cards_shapes(subject: Subject) -> str:
    """`encode` gives (B, D) and (B, gh, gw, C) in float32, D and the grid those of the card."""
    image, patches = subject.batch
    dim, patch, wrong = subject.card.dim, subject.card.patch, []
    if image.ndim != 2 or len(image) != 2 or (dim is not None and image.shape[1] != dim):
        wrong.append(f"image features {tuple(image.shape)} and not (2, {dim or 'D'})")
    if patches.ndim != 4 or len(patches) != 2:
        wrong.append(f"patch features {tuple(patches.shape)} and not (2, gh, gw, C)")
    elif patch is not None:
        grid = tuple(side // patch for side in subject.image.shape[2:])
        wrong += [f"grid {tuple(patches.shape[1:3])} and not {grid}"] if patches.shape[1:3] != grid else []
    for name, part in (("image", image), ("patch", patches)):
        wrong += [f"{name} features are {part.dtype}"] if str(part.dtype) != "torch.float32" else []
        wrong += [f"{name} features are not finite"] if not part.isfinite().all() else []
    if wrong:
        raise ContractError(subject.where, "; ".join(wrong))
    return f"image {tuple(image.shape[1:])}, patches {tuple(patches.shape[1:])}"


def pictures_have_features_of_their_own(subject: Subject) -> str:
    """Two pictures that differ in one bright square differ in image features, patch features and taps."""
    parts = {"image features": subject.batch.image, "patch features": subject.batch.patches}
    parts |= {f"tap {number}": level for number, level in enumerate(subject.levels)}
    least = {name: float((part[0] - part[1]).abs().max() / part.abs().max().clamp(min=1e-12)) for name, part in parts.items()}
    blind = [name for name, change in least.items() if not change > 1e-6]
    if blind:
        raise ContractError(subject.where, f"{', '.join(blind)} are the same for two pictures", fix="compute them from the images given")
    return f"a change of {min(least.values()):.0e} of the largest feature or more"


def pooling_is_the_cards(subject: Subject) -> str:
    """Image features are made as the first words of the card's pooling say: the mean of the patch features, or a class token."""
    import torch

    words = subject.card.pooling
    image, mean = subject.single.image[0], subject.single.patches[0].mean((0, 1))

    def same(one: torch.Tensor, two: torch.Tensor) -> bool:
        return one.shape == two.shape and bool((one - two).abs().max() <= TOLERANCE * two.abs().max())

    if re.search("side by side|through|normalised|, then", words):
        raise NotApplicableError(f"more than one step: {words}")
    parts = (part for module in subject.encoder.modules() for part in module.named_modules())
    norms = {name for name, part in parts if "Norm" in type(part).__name__}
    seen = [ends for name, ends in subject.ends if name in norms or "after the final norm" not in words]
    if words.startswith("mean of"):
        expected, found = "the mean of the patch features", same(image, mean)
        normed = not norms or any(same(subject.single.patches[0, -1, -1], last) for _, last in seen)
    elif words.startswith(("CLS token", "first token")):
        expected, found = "the first token of a layer", any(same(image, first) for _, (first, _) in subject.ends)
        normed = any(same(image, first) for first, _ in seen)
    else:
        raise NotApplicableError(f"begins neither with mean of nor with CLS token: {words}")
    if not found or "after the final norm" in words and not normed:
        what = f"image features are not what the card's pooling says ({words})"
        got = "the mean of the patch features" if same(image, mean) else "neither a class token nor that mean"
        got, expected = (got, expected) if not found else ("tokens that no norm returns", f"{expected}, after a norm")
        fix = "mend encode or the card; card_for where an option decides"
        raise ContractError(subject.where, what, got=got, expected=expected, fix=fix)
    return expected + (", after a norm" if "after the final norm" in words else "")


def levels_are_four_maps(subject: Subject) -> str:
    """`encode_levels` gives four maps (B, C_k, g, g) of one grid, as the segmentation decoder takes them."""
    if not subject.levels:
        raise NotApplicableError(subject.untapped)
    shapes = [tuple(level.shape) for level in subject.levels]
    if len(shapes) != 4 or any(len(shape) != 4 or shape[0] != 2 for shape in shapes) or len({shape[2:] for shape in shapes}) != 1:
        what = "encode_levels is not four maps of one grid"
        raise ContractError(subject.where, what, got=shapes, expected="(B, C_k, gh, gw) four times")
    (height, width), grid = subject.image.shape[2:], shapes[0][2:]
    if height * grid[1] != width * grid[0]:
        raise ContractError(subject.where, "the maps of encode_levels have not the input's aspect", got=tuple(grid),
                            expected=f"that of {height} x {width}", fix="channels second: (B, C, gh, gw)")  # fmt: skip
    if not all(level.isfinite().all() for level in subject.levels):
        raise ContractError(subject.where, "the maps of encode_levels are not finite")
    return f"channels {[shape[1] for shape in shapes]}, grid {shapes[0][2:]}"


def taps_are_the_cards_blocks(subject: Subject) -> str:
    """The four taps leave the network one after the other, and where the card names blocks, these blocks.

    Each tap is looked for among the outputs of all parts of the network: by its last patch, or, for a map that was
    brought to another grid, by its mean, which pooling and repeating keep.
    """
    if type(subject.encoder).encode_levels is Encoder.encode_levels:
        raise NotApplicableError("nothing to tap: the last grid four times")
    if not subject.single_levels:
        raise NotApplicableError(subject.untapped)
    calls, found = subject.passed, []
    for number, level in enumerate(subject.single_levels):
        marks = [level[0, :, -1, -1], level[0].mean((1, 2))]
        near = TOLERANCE / 10 * max(mark.abs().max() for mark in marks)
        hits = [place for place, (_, seen) in enumerate(calls)
                if any(one.shape == mark.shape and (one - mark).abs().max() <= near for one in seen for mark in marks)]  # fmt: skip
        if not hits:
            raise NotApplicableError(f"tap {number} is the output of no part of the network")
        found.append(hits)
    places = [hits[0] for hits in found]
    if places != sorted(set(places)):
        names = [calls[place][0] for place in places]
        what, expected = "the taps do not go from shallow to deep", "four parts in the order of the pass"
        raise ContractError(subject.where, what, got=names, expected=expected)
    if subject.card.levels is None:
        return "in the order of the pass; the card names no blocks"
    blocks = [_block(calls, hits) for hits in found]
    if len(set(blocks)) < 4:
        raise NotApplicableError("the taps are made of block outputs after the pass, so the blocks cannot be told")
    if blocks != sorted(subject.card.levels):  # that the card has them in order is a check of the card
        what, expected = "the taps are not the blocks of the card's levels", subject.card.levels
        raise ContractError(subject.where, what, got=blocks, expected=expected, fix="tap list(self.card.levels)")
    return f"blocks {', '.join(map(str, blocks))}"


def _block(calls: list[tuple[str, Any]], hits: list[int]) -> int | None:
    """The number of the block that a tap leaves, or, of a tap that a norm follows, of the last block before it."""
    for place in (*hits, *range(hits[0] - 1, -1, -1)):
        if number := re.search(r"\d+$", calls[place][0]):
            return int(number[0])
    return None


def encoding_is_deterministic(subject: Subject) -> str:
    """The same batch twice gives the same numbers, and the network is left as it was, without gradients."""
    import torch

    def versions() -> list[int]:
        parts = (value for module in subject.encoder.modules() for value in (*module.parameters(), *module.buffers()))
        return [value._version for value in parts]

    first, before = subject.single, versions()
    again = subject.encode(subject.image)
    if not all(torch.equal(one, two) for one, two in zip(first, again, strict=True)):
        raise ContractError(subject.where, "two passes over one image differ", fix="dropout or batch statistics: call .eval()")
    if versions() != before:
        raise ContractError(subject.where, "encode changes parameters or buffers in place", fix="call .eval()")
    if any(part.requires_grad for part in again):
        raise ContractError(subject.where, "encode turns gradients on under inference_mode")
    return "equal bits"


def rows_are_independent(subject: Subject) -> str:
    """A picture has the same features and taps alone, in a batch of two and, where that is affordable, in a batch of eight."""
    alone = [*subject.single, *subject.single_levels]
    batches = {2: ([*subject.batch, *subject.levels], 0)}
    if subject.eight is not None:
        batches[8] = ([*subject.encode(subject.eight), *subject.tap(subject.eight)], 6)
    remarks = []
    for size, (together, place) in batches.items():
        if {len(many) for many in together} != {size}:
            got = sorted({len(many) for many in together})
            raise ContractError(subject.where, f"a batch of {size} comes back as another number of rows", got=got, fix="one row per image")
        changes = [(one[0] - many[place]).abs().max() / one.abs().max().clamp(min=1e-12) for one, many in zip(alone, together, strict=True)]
        worst = float(np.max(changes))  # nan stays nan
        if not worst <= TOLERANCE:
            what = f"features or taps depend on the rest of the batch of {size}"
            raise ContractError(subject.where, what, got=f"{worst:.1e}", expected=TOLERANCE)
        remarks.append(f"in a batch of {size} a difference of {worst:.0e}")
    return f"{', '.join(remarks)} of the largest value"


def grid_is_upright(subject: Subject) -> str:
    """The bright square in the radiograph changes the patch map most where it lies, row 0 on top, and so each tap.

    Trained attention may react anywhere, so with real weights it is only held against mirrored and neighbouring places, and the same
    network under weights of a formula against all of them: tokens that are not dropped shift a map by any number of cells.
    """
    rows, cols = subject.batch.patches.shape[1:3]
    row, col = subject.cell
    everywhere = {(r, c) for r in range(rows) for c in range(cols)}
    if subject.path is None:
        slack = _cell_is_found(subject, subject.batch.patches, subject.levels, everywhere)
    else:
        mirrored = {(a, b) for r in (row, rows - 1 - row) for c in (col, cols - 1 - col) for a, b in ((r, c), (c, r))}
        near = mirrored | {(row + down, col + right) for down in (-1, 0, 1) for right in (-1, 0, 1)}
        _cell_is_found(subject, subject.batch.patches, subject.levels, everywhere & near)
        slack = _cell_is_found(subject, *_under_a_formula(subject), everywhere)
    return f"cell {(row, col)} of {(rows, cols)}, patches and {len(subject.levels)} taps" + (", to one cell" if slack else "")


def _under_a_formula(subject: Subject) -> tuple[Any, list]:
    """Patch features and taps of the pair from the network of the weight file with its weights replaced."""
    import torch

    from .formula import fill

    encoder = subject.loaded()
    with torch.inference_mode():
        for module in encoder.modules():
            fill(module)
        return encoder.encode(subject.pair).patches, encoder.encode_levels(subject.pair) if subject.levels else []


def _cell_is_found(subject: Subject, patches: Any, levels: list, rivals: set[tuple[int, int]]) -> int:
    """Raise ContractError where a map changes more at another of the rivals; by how many cells it may be off."""
    import torch

    maps = {"patches": patches.permute(0, 3, 1, 2)} | {f"tap {number}": level for number, level in enumerate(levels)}
    (rows, cols), (row, col) = patches.shape[1:3], subject.cell
    # a padded convolution of stride 2 is centred on the first of its two pixels: a ResNet's cell lies half a cell off
    parts = (part for module in subject.encoder.modules() for part in module.modules())
    slack = int(any(isinstance(part, torch.nn.Conv2d) and part.padding != (0, 0) for part in parts))
    for name, part in maps.items():
        change = (part[1] - part[0]).float().norm(dim=0)
        if change.shape != (rows, cols):  # a finer grid: by the cell of the patch grid that holds it
            change = change.unflatten(1, (cols, -1)).unflatten(0, (rows, -1)).amax((1, 3))
        found = max(rivals, key=lambda place, change=change: float(change[place]))
        if max(abs(found[0] - row), abs(found[1] - col)) > slack:
            what = f"{name}: a change of one cell of the input changes another cell most"
            fix = "check the order of unflatten and permute, and the prefix tokens"
            raise ContractError(subject.where, what, got=found, expected=(row, col), fix=fix)
    return slack


def half_precisions_are_close(subject: Subject) -> str:
    """Features and taps in bfloat16 and float16 are finite and point where those in float32 do; the differences are recorded."""
    import torch

    if not subject.encoder.modules():
        raise NotApplicableError("no network")
    names = ["image features", "patch features", *(f"tap {number}" for number in range(len(subject.single_levels)))]
    exact, remarks = [*subject.single, *subject.single_levels], []
    largest = max(float(part.abs().max()) for part in exact)
    for kind, least in COSINES.items():
        if subject.path is None and largest > torch.finfo(getattr(torch, kind)).max:  # of random weights: not the release's doing
            remarks.append(f"{kind}: not tried, these weights reach {largest:.0e}")
            continue
        with torch.autocast("cpu", getattr(torch, kind)):
            rough = [*subject.encode(subject.image), *subject.tap(subject.image)]
        cosines = {}
        for name, one, two in zip(names, exact, rough, strict=True):
            if not two.isfinite().all():
                raise ContractError(subject.where, f"{name} in {kind} are not finite",
                                    fix="keep what overflows in float32: torch.autocast(..., enabled=False)")  # fmt: skip
            cosines[name] = float(torch.nn.functional.cosine_similarity(one.double().flatten(), two.double().flatten(), dim=0))
        worst = min(cosines, key=cosines.get)
        if not cosines[worst] >= least:
            raise ContractError(subject.where, f"{worst} in {kind} point elsewhere", got=f"cosine {cosines[worst]:.5f}",
                                expected=f">= {least}", fix="keep what cancels in float32: torch.autocast(..., enabled=False)")  # fmt: skip
        remarks.append(f"{kind}: cosine {cosines['image features']:.6f}, least {cosines[worst]:.6f} ({worst})")
    return "; ".join(remarks)


# ---------------------------------------------------------------- options


def options_reach_the_features(subject: Subject) -> str:
    """Each option moves the image features at one of its choices or more, and the card follows.

    Two choices may be the same for one network (its own pooling is one of the two others): such are named. What a model
    turns down it has read. Both networks hold the same weights, so nothing but the option tells them apart.
    """
    import torch

    tried, notes = alternatives(subject)
    lines: dict[str, list[str]] = {}
    for name, values in tried.items():
        current = subject.values[name]
        seen, moved, answered = {current: subject.single.image}, False, False
        for value in values:
            try:
                encoder, image = features_under(subject, name, value)
            except Exception as reason:
                if isinstance(reason, ContractError) or not _may_be_refused(subject, name, reason):
                    raise
                notes.append(f"{name} {value} ({_in_short(reason)})")
                answered = True
                continue
            same = next((other for other, part in seen.items() if part.shape == image.shape and torch.allclose(part, image)), None)
            if same == current and not torch.allclose(image_features(encoder, GREYS), image_features(subject.encoder, GREYS)):
                same = None
            lines.setdefault(name, [str(current)]).append(f"{value} (same as {same})" if same is not None else str(value))
            seen[value] = image
            moved |= same is None
        if not (moved or answered):
            got = f"the same for {', '.join(map(str, seen))}"
            raise ContractError(subject.where, f"option {name} does not reach the features", got=got, fix="read it, or remove it")
    remark = "; ".join(f"{name}: {', '.join(values)}" for name, values in lines.items())
    skipped = f"not tried: {', '.join(notes)}" if notes else ""
    if not lines:
        raise NotApplicableError(skipped or "no option")
    return "; ".join(filter(None, (remark, skipped)))


def alternatives(subject: Subject) -> tuple[dict[str, list], list[str]]:
    """(other values to try of each option, the options that are not tried with the reason)."""
    tried: dict[str, list] = {}
    skipped, free = [], []
    for name, option in subject.encoder_class.options.items():
        current = subject.values[name]
        if option.selects_weights and subject.path is None:
            skipped.append(f"{name} (selects weights, and these are random)")
        elif option.choices:
            tried[name] = [value for value in option.choices if value != current]
        elif isinstance(current, bool):
            tried[name] = [not current]
        elif name == "image_size":  # 0 is the model's own
            rows, side = subject.single.patches.shape[1], subject.image.shape[-1]
            tried[name] = [max(rows // 2, 1) * (side // rows)]
        elif isinstance(current, int | float) and current:
            tried[name] = [type(current)(current / 2)]
        else:
            free.append(name)
    return tried, skipped + ([f"{', '.join(free)} (any value: --option)"] if free else [])


def features_under(subject: Subject, option: str, value: Any):
    """(the encoder, its image features of the portrait) with one option changed; their width has to be that of the card under it."""
    encoder = subject.loaded(**{option: value})
    found = image_features(encoder, texture(PORTRAIT))
    if found.shape[1] != (encoder.card.dim or found.shape[1]):
        what = f"with {option} {value} the card says another width"
        raise ContractError(subject.where, what, got=found.shape[1], expected=encoder.card.dim, fix="override card_for")
    return encoder, found


def image_features(encoder: Encoder, picture: np.ndarray):
    import torch

    image = np.array(encoder.preprocess(picture.copy()))
    with torch.inference_mode():
        return encoder.encode(torch.from_numpy(image)[None]).image


def _may_be_refused(subject: Subject, option: str, reason: Exception) -> bool:
    """A file that is not here, or lacks the part that was asked for, and a model that has no such thing, are no faults of a wrapper."""
    if isinstance(reason, WeightsError) and subject.encoder_class.options[option].selects_weights:
        return True
    return (
        isinstance(reason, NotApplicableError) or subject.named_model or (subject.encoder_class.generic and isinstance(reason, ConfigError))
    )


def _in_short(reason: Exception) -> str:
    return reason.what if isinstance(reason, RadbenchError) else str(reason).partition(":")[0].partition("\n")[0]


# ---------------------------------------------------------------- recorded features


def fixed_image_has_its_features(subject: Subject) -> str:
    """A fixed image under fixed weights gives the input, the features and the taps recorded in encoders/golden.json."""
    if subject.options:
        raise NotApplicableError("recorded for the default options only")
    recorded = json.loads(GOLDEN.read_text()).get(subject.name) if GOLDEN.is_file() else None
    if recorded is None:
        raise NotApplicableError(f"not recorded: python -m radbench.check --write-golden {subject.name}")
    found = golden(subject)
    for name, wanted in recorded.items():
        scale = max(map(abs, wanted))
        if len(wanted) != len(found.get(name, ())) or not np.allclose(found[name], wanted, rtol=0, atol=GOLDEN_TOLERANCE * scale):
            raise ContractError(subject.where, f"the {name} of the fixed image changed", got=found[name], expected=wanted,
                                fix=f"if the change is wanted: python -m radbench.check --write-golden {subject.name}")  # fmt: skip
    return f"{', '.join(recorded)} as recorded, to {GOLDEN_TOLERANCE:g} of the largest value"


def golden(subject: Subject) -> dict[str, list[float]]:
    """Shape and samples of the prepared fixed image, and samples of its features and taps under weights that are a formula."""
    import torch

    encoder = subject.encoder if subject.path is None else Subject(subject.name, subject.encoder_class, None, subject.options).encoder
    image = np.array(encoder.preprocess(fixed_image()))
    with torch.inference_mode():
        features, levels = encoder.encode(torch.from_numpy(image)[None]), encoder.encode_levels(torch.from_numpy(image)[None])

    def samples(values: np.ndarray) -> list[float]:
        flat = values.reshape(-1).astype(np.float64)
        places = np.linspace(0, flat.size - 1, 6).astype(int)
        return [float(f"{value:.6g}") for value in (flat.mean(), flat.std(), *flat[places])]

    return {"shape": [float(side) for side in image.shape], "input": samples(image),
            "image features": samples(features.image.numpy()), "patch features": samples(features.patches.numpy()),
            **{f"tap {number}": samples(level.numpy()) for number, level in enumerate(levels, 1)}}  # fmt: skip


def fixed_image() -> np.ndarray:
    """A smooth portrait picture (311, 257) in [0, 1] that is a formula: no mirror image of itself, and no generator in it."""
    rows, cols = np.mgrid[0:311, 0:257] / 256.0
    waves = np.sin(9 * rows + 4 * cols) + 0.6 * np.cos(23 * cols * rows) + 0.4 * np.sin(61 * cols) * np.cos(47 * rows)
    return ((waves - waves.min()) / (waves.max() - waves.min())).astype(np.float32)


Check = Callable[[Subject], str]
#: each check, and those that it builds on: where one of these fails, it would only say so again
CHECKS: dict[Check, tuple[Check, ...]] = {
    card_is_complete: (),
    import_is_cheap: (),
    weight_files_are_the_known_ones: (),
    loads_ready: (),
    parameters_are_counted: (loads_ready,),
    tensors_are_the_files: (loads_ready,),
    preprocess_keeps_its_contract: (loads_ready,),
    picture_reaches_the_input: (preprocess_keeps_its_contract,),
    filter_is_the_cards: (picture_reaches_the_input,),
    features_have_the_cards_shapes: (preprocess_keeps_its_contract,),
    levels_are_four_maps: (features_have_the_cards_shapes,),
    encoding_is_deterministic: (features_have_the_cards_shapes,),
    rows_are_independent: (levels_are_four_maps, encoding_is_deterministic),
    pictures_have_features_of_their_own: (levels_are_four_maps, encoding_is_deterministic),
    pooling_is_the_cards: (rows_are_independent, pictures_have_features_of_their_own),
    taps_are_the_cards_blocks: (rows_are_independent, pictures_have_features_of_their_own),
    grid_is_upright: (picture_reaches_the_input, rows_are_independent, pictures_have_features_of_their_own),
    options_reach_the_features: (rows_are_independent, pictures_have_features_of_their_own),
    half_precisions_are_close: (rows_are_independent, pictures_have_features_of_their_own),
    fixed_image_has_its_features: (features_have_the_cards_shapes,),
}
