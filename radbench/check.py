"""Does an encoder keep the contract? Offline, on a CPU, with random weights unless the real ones are present.

    python -m radbench.check rad_dino          one verdict line per check, and results/cards/rad_dino.md; status 1 when one fails
    python -m radbench.check                   every encoder
    python -m radbench.check --new my_encoder  encoders/my_encoder.py from the template (make encoder NAME=my_encoder)
    python -m radbench.check --write-golden ID the features of the fixed image into encoders/golden.json, after a wanted change
    python -m radbench.check --write-readme    the table of encoders/README.md from the cards (--check-readme: is it fresh?)

The same functions are run for every encoder by tests/encoders/test_contract.py. What they cannot tell is whether the
features are those of the published model: that takes a parity test (tests/encoders/test_parity.py).
"""

import argparse
import csv
import dataclasses
import functools
import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from . import artifact, weights
from .encoder import Card, Encoder, Features, describe, find, names, parse
from .errors import ConfigError, RadbenchError, run_entry_point

HEAVY = ("torch", "torchvision", "timm", "transformers", "open_clip")
TOLERANCE = 1e-4  # of the largest feature: sums in another order
COSINES = {"bfloat16": 0.99, "float16": 0.999}  # least of features in a half precision with those in float32
README = artifact.ROOT / "encoders" / "README.md"
GOLDEN = artifact.ROOT / "encoders" / "golden.json"
GOLDEN_TOLERANCE = 2e-3  # of the largest value: convolutions and products are ordered differently on other processors
CARDS = Path("results/cards")
MARKS = "<!-- table: python -m radbench.check --write-readme -->", "<!-- end of table -->"


class ContractError(RadbenchError):
    """A wrapper does not do what radbench.encoder asks of it."""


class NotApplicableError(Exception):
    """A check has nothing to look at in this encoder."""


class Subject:
    """One encoder under test; what several checks need is made once, because a forward pass may take a minute."""

    def __init__(self, name: str, encoder_class: type[Encoder], path: Path | None = None, options: Mapping | None = None):
        self.name, self.encoder_class, self.path, self.options = name, encoder_class, path, dict(options or {})
        self.card = encoder_class.card_for(encoder_class.values(self.options))

    @property
    def where(self) -> str:
        return f"encoders/{self.name}.py"

    def loaded(self, **options) -> Encoder:
        """A new instance on the CPU, as the harness makes it, except that eval mode is left to the wrapper."""
        import torch

        missing = [name for name in self.card.needs if importlib.util.find_spec(name) is None]
        if missing:
            raise NotApplicableError(f"needs {', '.join(missing)}, which is not installed")
        torch.manual_seed(0)
        encoder = self.encoder_class(self.path, self.options | options)
        try:
            encoder.load("cpu")
        except artifact.Absent as gap:  # the architecture itself is in the files, so there is no random network either
            raise NotApplicableError(str(gap)) from None
        return encoder

    @functools.cached_property
    def encoder(self) -> Encoder:
        return self.loaded()

    @functools.cached_property
    def frames(self) -> list[np.ndarray]:
        """A portrait and a landscape radiograph of noise, off black and white so that a stretch of the range changes them."""
        random = np.random.default_rng(0)
        return [0.25 + 0.5 * random.random(shape, dtype=np.float32) for shape in ((300, 220), (220, 300))]

    def encode(self, images) -> Features:
        """As the harness does: without gradients."""
        import torch

        with torch.inference_mode():
            return self.encoder.encode(images)

    @functools.cached_property
    def image(self):
        """(1, C, h, w): noise, prepared by the wrapper."""
        import torch

        return torch.from_numpy(np.array(self.encoder.preprocess(self.frames[0])))[None]

    @functools.cached_property
    def single(self) -> Features:
        return self.encode(self.image)

    @functools.cached_property
    def cell(self) -> tuple[int, int]:
        """A cell of the patch grid that no flip and no transposition maps onto itself."""
        rows, cols = self.single.patches.shape[1:3]
        return rows // 6, cols // 3

    @functools.cached_property
    def pair(self):
        """(2, C, h, w): the image, and the image with its `cell` changed."""
        import torch

        images = torch.cat([self.image, self.image])
        rows, cols = self.single.patches.shape[1:3]
        high, wide = images.shape[2] // rows, images.shape[3] // cols
        row, col = self.cell
        patch = images[1, :, row * high : (row + 1) * high, col * wide : (col + 1) * wide]
        patch.copy_(1 - patch)
        return images

    @functools.cached_property
    def batch(self) -> Features:
        return self.encode(self.pair)

    @functools.cached_property
    def levels(self) -> list:
        """The four taps of the pair."""
        import torch

        with torch.inference_mode():
            return self.encoder.encode_levels(self.pair)


# ---------------------------------------------------------------- the checks: a short remark, or a ContractError


def card_is_complete(subject: Subject) -> str:
    """Everything a reader of Table 2 needs is there and consistent."""
    card, wrong = subject.card, []
    wrong += [f"{name} is empty" for name in ("title", "architecture", "pooling", "licence") if not getattr(card, name).strip()]
    if not card.citation and not card.control:
        wrong.append("citation is empty")
    scheme = card.weights.partition(":")[0]
    if scheme not in ("", "run", "hf", "file"):
        wrong.append(f"weights {card.weights!r} begin with none of run:, hf:, file:")
    if card.weights and not card.how_to_get:
        wrong.append("how_to_get is empty")
    if scheme == "hf" and not card.files:
        wrong.append("files is empty: which files of the hub repository?")
    if scheme != "run" and not subject.encoder_class.generic:  # the trained run says these, or the model that is named
        wrong += [f"{name} is None" for name in ("image_size", "patch", "dim", "params") if getattr(card, name) is None]
    if card.levels and list(card.levels) != sorted(set(card.levels)):
        wrong.append(f"levels {card.levels} do not go from shallow to deep")
    if set(card.labels_seen) - set(card.pretrained_on):
        wrong.append("labels_seen has names that pretrained_on lacks")
    if not 0 < card.field <= 1:
        wrong.append(f"field {card.field} is not a share of the image's side")
    if card.paper_name and card.paper_name not in _published_cells():
        wrong.append(f"paper_name {card.paper_name!r} is in no table of results/published")
    if wrong:
        raise ContractError(f"{subject.where}: card", "; ".join(wrong), fix="radbench/encoder.py says what each field is")
    return f"{card.title}, {card.architecture}"


def _published_cells() -> set[str]:
    tables = (artifact.ROOT / "results" / "published").glob("*.csv")
    return {cell for path in tables for row in csv.reader(path.read_text().splitlines()) for cell in row}


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
    found = sum({id(value): value.numel() for module in subject.encoder.modules() for value in module.parameters()}.values())
    stated = subject.card.params
    if stated is None:
        return f"{found:,} (the card leaves it to the run)"
    if abs(found - stated) > 1e-3 * stated:
        raise ContractError(subject.where, "parameter count differs from the card", got=f"{found:,}", expected=f"{stated:,}")
    return f"{found:,}"


def preprocess_keeps_its_contract(subject: Subject) -> str:
    """Any shape of frame in, float32 (C, h, w) of one shape out; a grey image is normalised as the card says."""
    card, encoder = subject.card, subject.encoder
    shapes = set()
    for frame in (*subject.frames, np.full((64, 64), 0.5, dtype=np.float32)):
        before = frame.copy()
        image = encoder.preprocess(frame)
        if not np.array_equal(before, frame):
            raise ContractError(subject.where, "preprocess changes its input in place", fix="work on a copy")
        if not isinstance(image, np.ndarray) or image.dtype != np.float32 or image.ndim != 3 or not np.isfinite(image).all():
            got = f"{type(image).__name__} {getattr(image, 'dtype', '')} {getattr(image, 'shape', '')}"
            raise ContractError(subject.where, "preprocess returns", got=got, expected="a finite float32 array (C, h, w)")
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


def levels_are_four_maps(subject: Subject) -> str:
    """`encode_levels` gives four maps (B, C_k, g, g) of one grid, as the segmentation decoder takes them."""
    shapes = [tuple(level.shape) for level in subject.levels]
    if len(shapes) != 4 or any(len(shape) != 4 or shape[0] != 2 for shape in shapes) or len({shape[2:] for shape in shapes}) != 1:
        what = "encode_levels is not four maps of one grid"
        raise ContractError(subject.where, what, got=shapes, expected="(B, C_k, gh, gw) four times")
    if not all(level.isfinite().all() for level in subject.levels):
        raise ContractError(subject.where, "the maps of encode_levels are not finite")
    return f"channels {[shape[1] for shape in shapes]}, grid {shapes[0][2:]}"


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
    """An image has the same features alone and in a batch."""
    worst = 0.0
    for alone, together in zip(subject.single, subject.batch, strict=True):
        worst = max(worst, float((alone[0] - together[0]).abs().max() / alone.abs().max().clamp(min=1e-12)))
    if worst > TOLERANCE:
        raise ContractError(subject.where, "features depend on the rest of the batch", got=f"{worst:.1e}", expected=TOLERANCE)
    return f"difference {worst:.0e} of the largest feature"


def grid_is_upright(subject: Subject) -> str:
    """Change one cell of the input: the patch map changes most at that cell, row 0 on top, and so does each tap."""
    import torch

    maps = {"patches": subject.batch.patches.permute(0, 3, 1, 2)}
    maps |= {f"tap {number}": level for number, level in enumerate(subject.levels)}
    rows, cols = maps["patches"].shape[2:]
    row, col = subject.cell
    # a padded convolution of stride 2 is centred on the first of its two pixels: a ResNet's cell lies half a cell off
    parts = (part for module in subject.encoder.modules() for part in module.modules())
    slack = int(any(isinstance(part, torch.nn.Conv2d) and part.padding != (0, 0) for part in parts))
    for name, part in maps.items():
        change = (part[1] - part[0]).float().norm(dim=0)
        if change.shape != (rows, cols):  # a finer grid: by the cell of the patch grid that holds it
            change = change.unflatten(1, (cols, -1)).unflatten(0, (rows, -1)).amax((1, 3))
        rivals = {(r, c) for r in range(rows) for c in range(cols)}
        if subject.path is not None:  # trained attention may react anywhere, but not more at a mirrored or shifted place
            mirrored = {(a, b) for r in (row, rows - 1 - row) for c in (col, cols - 1 - col) for a, b in ((r, c), (c, r))}
            rivals &= mirrored | {(row + down, col + right) for down in (-1, 0, 1) for right in (-1, 0, 1)}
        found = max(rivals, key=lambda place, change=change: float(change[place]))
        if max(abs(found[0] - row), abs(found[1] - col)) > slack:
            what = f"{name}: changing one cell of the input changes another cell most"
            fix = "check the order of unflatten and permute, and the prefix tokens"
            raise ContractError(subject.where, what, got=found, expected=(row, col), fix=fix)
    return f"cell {(row, col)} of {(rows, cols)}, patches and four taps" + (", to one cell" if slack else "")


def alternatives(subject: Subject) -> list[tuple[str, object]]:
    """(option, value): every choice that is not the default; for a free number or switch, one other value."""
    found: list[tuple[str, object]] = []
    for name, option in subject.encoder_class.options.items():
        default = option.default
        if option.selects_weights and subject.path is None:
            continue
        if option.choices:
            found += [(name, value) for value in option.choices if value != default]
        elif isinstance(default, bool):
            found.append((name, not default))
        elif name == "image_size" and subject.card.patch:
            found.append((name, default // 2 // subject.card.patch * subject.card.patch))
        elif isinstance(default, int | float) and default:  # 0: the model's own
            found.append((name, default / 2))
    return found


def options_reach_the_features(subject: Subject) -> str:
    """Each option, at each of its choices, changes what comes out, and the card follows."""
    import torch

    tried = []
    for option, value in alternatives(subject):
        default = subject.encoder.options[option]
        encoder = subject.loaded(**{option: value})
        image = np.array(encoder.preprocess(subject.frames[0]))
        try:
            with torch.inference_mode():
                other = encoder.encode(torch.from_numpy(image)[None])
        except ConfigError:
            if not encoder.generic:
                raise
            continue  # the model that was named has no such thing, and says so
        if other.image.shape[1] != (encoder.card.dim or other.image.shape[1]):
            what = f"with {option} {value} the card says another width"
            raise ContractError(subject.where, what, got=other.image.shape[1], expected=encoder.card.dim, fix="override card_for")
        if other.image.shape == subject.single.image.shape and torch.allclose(other.image, subject.single.image):
            what = f"option {option} does not reach the features"
            raise ContractError(subject.where, what, got=f"the same for {default} and {value}")
        tried.append(f"{option}: {default} and {value}")
    if not tried:
        raise NotApplicableError("no option")
    return ", ".join(tried)


def half_precisions_are_close(subject: Subject) -> str:
    """Features in bfloat16 and float16 point where those in float32 do; the differences are recorded."""
    import torch

    exact, remarks = subject.single.image.double(), []
    if not subject.encoder.modules():
        raise NotApplicableError("no network")
    for name, least in COSINES.items():
        with torch.inference_mode(), torch.autocast("cpu", getattr(torch, name)):
            rough = subject.encoder.encode(subject.image).image.double()
        cosine = float(torch.nn.functional.cosine_similarity(exact, rough))
        worst = float((exact - rough).abs().max() / exact.abs().max())
        if not cosine >= least:
            what = f"features in {name} point elsewhere"
            raise ContractError(subject.where, what, got=f"cosine {cosine:.5f}", expected=f">= {least}",
                                fix="keep what overflows or cancels in float32: torch.autocast(..., enabled=False)")  # fmt: skip
        remarks.append(f"{name}: cosine {cosine:.6f}, largest difference {worst:.0e} of the largest feature")
    return "; ".join(remarks)


def fixed_image_has_its_features(subject: Subject) -> str:
    """A fixed image under fixed weights gives the input and the features recorded in encoders/golden.json."""
    recorded = json.loads(GOLDEN.read_text()).get(subject.name) if GOLDEN.is_file() else None
    if recorded is None:
        raise NotApplicableError(f"not recorded: python -m radbench.check --write-golden {subject.name}")
    found = golden(subject)
    for name, wanted in recorded.items():
        scale = max(map(abs, wanted))
        if len(wanted) != len(found[name]) or not np.allclose(found[name], wanted, rtol=0, atol=GOLDEN_TOLERANCE * scale):
            raise ContractError(subject.where, f"the {name} of the fixed image changed", got=found[name], expected=wanted,
                                fix=f"if the change is wanted: python -m radbench.check --write-golden {subject.name}")  # fmt: skip
    return f"{', '.join(recorded)} as recorded, to {GOLDEN_TOLERANCE:g} of the largest value"


def golden(subject: Subject) -> dict[str, list[float]]:
    """Shape and samples of the prepared fixed image, and samples of its features under weights that are a formula."""
    import torch

    encoder = subject.encoder_class(None, subject.options)
    torch.manual_seed(0)
    encoder.load("cpu")
    for module in encoder.modules():
        fill(module)
    image = np.array(encoder.preprocess(fixed_image()))
    with torch.inference_mode():
        features = encoder.encode(torch.from_numpy(image)[None])

    def samples(values: np.ndarray) -> list[float]:
        flat = values.reshape(-1).astype(np.float64)
        places = np.linspace(0, flat.size - 1, 6).astype(int)
        return [float(f"{value:.6g}") for value in (flat.mean(), flat.std(), *flat[places])]

    return {"shape": [float(side) for side in image.shape], "input": samples(image),
            "image features": samples(features.image.numpy()), "patch features": samples(features.patches.numpy())}  # fmt: skip


def fixed_image() -> np.ndarray:
    """A smooth portrait picture (311, 257) in [0, 1] that is a formula: no mirror image of itself, and no generator in it."""
    rows, cols = np.mgrid[0:311, 0:257] / 256.0
    waves = np.sin(9 * rows + 4 * cols) + 0.6 * np.cos(23 * cols * rows) + 0.4 * np.sin(61 * cols) * np.cos(47 * rows)
    return ((waves - waves.min()) / (waves.max() - waves.min())).astype(np.float32)


def fill(module) -> None:
    """Overwrite every floating tensor of a network by numbers that depend on its name and shape only.

    Matrices keep the size of activations (variance 1 / fan-in), scales are near 1, the rest is small.
    """
    import hashlib

    import torch

    for name, value in module.state_dict().items():
        if not value.is_floating_point() or not value.numel():
            continue
        random = np.random.Generator(np.random.PCG64(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")))
        noise = torch.from_numpy(random.standard_normal(tuple(value.shape), dtype=np.float32))
        last = name.rpartition(".")[2]
        if value.ndim >= 2 and value.shape[0] > 1:
            noise *= (value.shape[0] / value.numel()) ** 0.5
        elif last in ("weight", "gamma", "running_var"):
            noise = 1 + 0.1 * noise.tanh()
        else:
            noise *= 0.02
        value.copy_(noise)


CHECKS: tuple[Callable[[Subject], str], ...] = (
    card_is_complete, import_is_cheap, loads_ready, parameters_are_counted, preprocess_keeps_its_contract,
    features_have_the_cards_shapes, levels_are_four_maps, encoding_is_deterministic, rows_are_independent, grid_is_upright,
    options_reach_the_features, half_precisions_are_close, fixed_image_has_its_features,
)  # fmt: skip


# ---------------------------------------------------------------- verdicts


def verdicts(subject: Subject) -> Iterator[tuple[str, str, str]]:
    """(verdict, check, remark) of each check: "ok", "FAIL" or "-" (not applicable). A network that does not load ends it."""
    for check in CHECKS:
        name = check.__name__.replace("_", " ")
        try:
            yield "ok", name, check(subject)
        except NotApplicableError as reason:
            yield "-", name, str(reason)
        except Exception as error:  # a wrapper under development may raise anything; the line says what
            yield "FAIL", name, f"{type(error).__name__}: {error}"
            if check is loads_ready and "encoder" not in vars(subject):
                return


def locate(name: str, card: Card) -> tuple[Path | None, str]:
    """The real weights where they are present, and what to say of them."""
    try:
        path = weights.resolve(name, card)
    except artifact.Absent as gap:
        return None, f"random ({gap})"
    except artifact.ArtifactError as gap:  # the pretraining run has not been made yet
        return None, f"random ({gap.what})"
    return path, "none needed" if path is None else f"real: {path}"


def check(name: str) -> bool:
    """Print the verdicts of one encoder and write its card page; True when none failed."""
    name, spec = parse(name)
    encoder_class = find(spec.get("wrapper") or name)
    path, remark = locate(name, describe(name, spec))
    print(f"{name}: weights {remark}")
    lines = []
    for verdict, title, comment in verdicts(Subject(name, encoder_class, path, spec.get("options"))):
        print(f"  {verdict:4}  {title:32}  {comment}", flush=True)
        lines.append((verdict, title, comment))
    page = CARDS / f"{name}.md"
    page.parent.mkdir(parents=True, exist_ok=True)
    artifact.write_bytes(page, card_page(name, describe(name, spec), encoder_class, f"weights {remark}", lines).encode())
    print(f"  page  {page}")
    return all(verdict != "FAIL" for verdict, _, _ in lines)


def card_page(name: str, card: Card, encoder_class: type[Encoder], remark: str, lines: list[tuple[str, str, str]]) -> str:
    """Markdown: the card's facts, the options with the reason of each default, and the verdicts."""

    def table(head: tuple[str, ...], rows: Iterable[tuple]) -> str:
        escaped = ([str(cell).replace("|", r"\|") for cell in row] for row in (head, ("---",) * len(head), *rows))
        return "\n".join("| " + " | ".join(row) + " |" for row in escaped)

    facts = [(field.name.replace("_", " "), getattr(card, field.name)) for field in dataclasses.fields(card)]
    shown = [
        (key, ", ".join(map(str, value)) if isinstance(value, tuple) else value) for key, value in facts if value not in ("", (), None)
    ]
    options = [(f"`{key}`", option.default, ", ".join(map(str, option.choices)) or "free", option.why)
               for key, option in encoder_class.options.items()]  # fmt: skip
    parts = [f"# {card.title} (`{name}`)", table(("fact", "value"), shown)]
    if options:
        parts += ["## Options", table(("option", "default", "choices", "why the default"), options)]
    return "\n\n".join([*parts, "## Checks", f"With {remark}.", table(("verdict", "check", "remark"), lines)]) + "\n"


def new(name: str) -> Path:
    """Write encoders/{name}.py from the template.

    Raises:
        ContractError: the name is no Python identifier in lower case, or the file is there already.
    """
    path = artifact.ROOT / "encoders" / f"{name}.py"
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ContractError("--new", "not an id", got=name, expected="lower-case letters, digits and _, a letter first")
    if path.exists():
        raise ContractError(f"encoders/{name}.py", "exists already", fix="choose another id, or edit the file")
    text = (path.parent / "_template.py").read_text()
    start = text.index("Fill this in")
    text = text[:start] + "Name: what it is (authors, year, arXiv 0000.00000).\n\n" + text[start:]
    artifact.write_bytes(path, text.replace("class Template(", f"class {name.title().replace('_', '')}(").replace("<id>", name).encode())
    return path


# ---------------------------------------------------------------- the table of encoders/README.md


def table(cards: dict[str, Card]) -> str:
    """A Markdown table of the cards."""
    head = ("id", "encoder", "architecture", "input", "image features", "parameters", "weights", "licence", "has seen")
    rows = [head, ("---",) * len(head)]
    for name, card in cards.items():
        trained_here = card.weights.startswith("run:") and not card.control
        rows.append((
            f"`{name}`",
            card.title + (" (control)" if card.control else ""),
            card.architecture,
            f"{card.image_size}, patch {card.patch}" if card.image_size else "as trained",
            f"{card.dim}: {card.pooling}" if card.dim else card.pooling,
            "as trained" if card.params is None else f"{card.params / 1e6:.1f} M" if card.params else "none",
            f"`{card.weights}`" if card.weights else "none",
            card.licence,
            ", ".join(card.pretrained_on) or ("as trained" if trained_here else "nothing"),
        ))  # fmt: skip
    notes = [f"- `{name}`: {card.notes}." for name, card in cards.items() if card.notes]
    return "\n".join([*("| " + " | ".join(row) + " |" for row in rows), "", "Notes:", "", *notes])


def readme(write: bool) -> None:
    """Write the table between its two marks, or raise when it is not the one of the cards."""
    text = README.read_text()
    before, _, rest = text.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    fresh = f"{before}{MARKS[0]}\n{table({name: describe(name, {}) for name in names()})}\n{MARKS[1]}{after}"
    if write:
        README.write_text(fresh)
    elif fresh != text:
        raise ContractError("encoders/README.md", "is not the table of the cards", fix="python -m radbench.check --write-readme")


def write_golden(ids: list[str]) -> None:
    """Record the fixed image's features of some encoders; entries of encoders that are gone are dropped."""
    for name in ids:
        try:
            entry = golden(Subject(name, find(name)))
        except artifact.Absent as reason:  # a network that is in its weight files has nothing to record without them
            print(f"{name}: not recorded, {reason}")
            continue
        recorded = json.loads(GOLDEN.read_text()) if GOLDEN.is_file() else {}
        recorded = {key: value for key, value in (recorded | {name: entry}).items() if key in names()}
        lines = (f" {json.dumps(key)}: {json.dumps(value)}" for key, value in sorted(recorded.items()))
        artifact.write_bytes(GOLDEN, ("{\n" + ",\n".join(lines) + "\n}\n").encode())
        print(f"{name}: recorded")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("encoder", nargs="*", help="ids; all when none is given")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--new", metavar="ID", help="write encoders/ID.py from the template")
    group.add_argument("--write-golden", action="store_true", help="record the features of the fixed image")
    group.add_argument("--write-readme", action="store_true", help="write the table of encoders/README.md")
    group.add_argument("--check-readme", action="store_true", help="fail when the table of encoders/README.md is not fresh")
    arguments = parser.parse_args()
    if arguments.new:
        print(f"{new(arguments.new)}: fill it in, then python -m radbench.check {arguments.new}")
        return 0
    if arguments.write_golden:
        write_golden(arguments.encoder or names())
        return 0
    if arguments.write_readme or arguments.check_readme:
        readme(arguments.write_readme)
        return 0
    return 0 if all([check(name) for name in arguments.encoder or names()]) else 1


if __name__ == "__main__":
    run_entry_point(main)
