"""Does an encoder keep the contract? Offline, on a CPU, with random weights unless the real ones are present.

    python -m radbench.check rad_dino          one verdict line per check, and results/cards/rad_dino.md; status 1 when one fails
    python -m radbench.check                   every encoder
    python -m radbench.check hf:owner/name --option pooling=cls --weights path/to/folder
                                               under other options, with weights from elsewhere
    python -m radbench.check --new my_encoder  encoders/my_encoder.py from the template (make encoder NAME=my_encoder)
    python -m radbench.check --write-golden ID the features of the fixed image into encoders/golden.json, after a wanted change
    python -m radbench.check --write-readme    the table of encoders/README.md from the cards (--check-readme: is it fresh?)

The checks are in radbench/contract.py; tests/encoders/test_contract.py runs the same for every encoder.
"""

import argparse
import dataclasses
import json
import keyword
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from . import artifact, weights
from .contract import CHECKS, GOLDEN, RESULTS, features_have_the_cards_shapes, golden, loads_ready
from .encoder import Card, Encoder, Option, describe, find, names, parse
from .errors import ConfigError, WeightsError, did_you_mean, run_entry_point
from .subject import ContractError, NotApplicableError, Subject

README = artifact.ROOT / "encoders" / "README.md"
CARDS = RESULTS / "cards"
MARKS = "<!-- table: python -m radbench.check --write-readme -->", "<!-- end of table -->"


# ---------------------------------------------------------------- verdicts


def verdicts(subject: Subject) -> Iterator[tuple[str, str, str]]:
    """(verdict, check, remark) of each check: "ok", "FAIL" or "-" (not run, and why)."""
    broken = {}  # check -> the one whose failure it goes back to
    for check, foundations in CHECKS.items():
        name = _title(check)
        if root := next((broken[one] for one in foundations if one in broken), None):
            broken[check] = root
            yield "-", name, f"after: {_title(root)}"
            continue
        try:
            yield "ok", name, check(subject)
        except NotApplicableError as reason:
            yield "-", name, str(reason)
        except Exception as error:  # a wrapper under development may raise anything; the line says what
            broken[check] = check
            yield "FAIL", name, f"{type(error).__name__}: {error}" + _way_out(subject, check, error)


def _title(check) -> str:
    return check.__name__.replace("_", " ")


def _way_out(subject: Subject, check, error: Exception) -> str:
    """For a hub model that cannot be pooled as by default: the option under which it loads and encodes."""
    pooling = subject.encoder_class.options.get("pooling")
    if not (subject.named_model and pooling and check in (loads_ready, features_have_the_cards_shapes)
            and isinstance(error, ConfigError | WeightsError)):  # fmt: skip
        return ""
    working = []
    for choice in pooling.choices:
        try:
            other = Subject(subject.name, subject.encoder_class, subject.path, subject.options | {"pooling": choice})
            features_have_the_cards_shapes(other)
            working.append(f"--option pooling={choice}")
        except Exception:  # noqa: S112  this one does not work either
            continue
    return f"; it does with {' or '.join(working)}" if working else ""


def locate(name: str, card: Card, local: str | None = None) -> tuple[Path | None, str]:
    """The real weights where they are present, and what to say of them."""
    try:
        path = weights.resolve(name, card, local)
    except artifact.Absent as gap:
        return None, f"random ({gap})"
    except artifact.ArtifactError as gap:
        sidecar = RESULTS / "pretrain" / weights.run_name(card) / "meta.json"
        if sidecar.exists():
            return None, f"random ({gap})"
        return None, f"random (not pretrained here; next: snakemake --cores all {sidecar})"
    return path, "none needed" if path is None else f"real: {path}"


def check(address: str, options: Iterable[str] = (), local: str | None = None) -> Counter:
    """Print the verdicts of one encoder and write its card page; how many there are of each."""
    # read when transformers is imported: it reports on stderr what a file holds beside the tower; what matters of it is an error
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    name, spec = parse(address)
    if spec and not spec["options"]["model"]:
        raise ConfigError(address, "names no model", expected="timm:<architecture>.<tag> or hf:<owner>/<name>")
    encoder_class = find(spec.get("wrapper") or name)
    given = dict(read_option(text, encoder_class.options) for text in options)
    spec = spec | {"options": spec.get("options", {}) | given}
    card = describe(name, spec)
    path, remark = locate(name, card, local)
    print(f"{card.title} ({address}): weights {remark}" if given else f"{address}: weights {remark}")
    lines = []
    for verdict, title, comment in verdicts(Subject(name, encoder_class, path, spec["options"])):
        print(f"  {verdict:4}  {title:35}  {comment}", flush=True)
        lines.append((verdict, title, comment))
    stem = re.sub(r"[^\w.=-]", "_", "_".join([name, *(f"{key}={value}" for key, value in given.items())]))
    page = CARDS / f"{stem}.md"
    page.parent.mkdir(parents=True, exist_ok=True)
    artifact.write_bytes(page, card_page(name, card, encoder_class, f"weights {remark}", lines).encode())
    print(f"  page  {page}")
    counts = Counter(verdict for verdict, _, _ in lines)
    print(f"  {summary(counts)}")
    return counts


def summary(counts: Counter) -> str:
    return f"{counts['ok']} ok, {counts['FAIL']} failed, {counts['-']} not run"


def read_option(text: str, known: dict[str, Option]) -> tuple[str, Any]:
    """ "name=value" of a command line, the value in the type that the option has.

    >>> read_option("pooling=cls", {"pooling": Option("mean", ("mean", "cls"))})
    ('pooling', 'cls')
    >>> read_option("image_size=448", {"image_size": Option(224, (224, 448))})
    ('image_size', 448)
    """
    name, equals, value = text.partition("=")
    if not equals or name not in known:
        fix = did_you_mean(name, known) or (f"it takes {sorted(known)}" if known else "it takes none")
        raise ConfigError(f"--option {text}", "no such option" if equals else "not name=value", fix=fix)
    option = known[name]
    choice = next((choice for choice in option.choices if str(choice) == value), None)
    if choice is not None or isinstance(option.default, str):
        return name, value if choice is None else choice
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


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
        ContractError: the name is no Python identifier in lower case, means something else, or the file is there already.
    """
    path = artifact.ROOT / "encoders" / f"{name}.py"
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ContractError("--new", "not an id", got=repr(name), expected="lower-case letters, digits and _, a letter first")
    if keyword.iskeyword(name):
        raise ContractError("--new", "is a word of Python, so the file could not be imported", got=name, fix=f"{name}_encoder, say")
    text, class_name = (path.parent / "_template.py").read_text(), name.title().replace("_", "")
    if keyword.iskeyword(class_name) or re.search(rf"^from .*\b{class_name}\b", text, re.MULTILINE):
        raise ContractError("--new", f"its class would hide {class_name}", got=name, fix=f"{name}_encoder, say")
    if path.exists():
        raise ContractError(f"encoders/{name}.py", "exists already", fix="choose another id, or edit the file")
    start = text.index("Fill this in")
    text = text[:start] + "Name: what it is (authors, year, arXiv 0000.00000).\n\n" + text[start:]
    artifact.write_bytes(path, text.replace("class Template(", f"class {class_name}(").replace("<id>", name).encode())
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
            ", ".join(seen + " with labels" * (seen in card.labels_seen) for seen in card.pretrained_on)
            or ("as trained" if trained_here else "nothing"),
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
        except (artifact.Absent, NotApplicableError) as reason:  # its network is in its weight files, or its package is not here
            print(f"{name}: not recorded, {reason}")
            continue
        recorded = json.loads(GOLDEN.read_text()) if GOLDEN.is_file() else {}
        recorded = {key: value for key, value in (recorded | {name: entry}).items() if key in names()}
        lines = (f" {json.dumps(key)}: {json.dumps(value)}" for key, value in sorted(recorded.items()))
        artifact.write_bytes(GOLDEN, ("{\n" + ",\n".join(lines) + "\n}\n").encode())
        print(f"{name}: recorded")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("encoder", nargs="*", help="ids, timm:<name> or hf:<owner>/<name>; all files of encoders/ when none is given")
    parser.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE", help="as under options: in a configuration; repeatable"
    )
    parser.add_argument("--weights", metavar="PATH", help="a file or folder, as under weights: in a configuration")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--new", metavar="ID", help="write encoders/ID.py from the template")
    group.add_argument("--write-golden", action="store_true", help="record the features of the fixed image")
    group.add_argument("--write-readme", action="store_true", help="write the table of encoders/README.md")
    group.add_argument("--check-readme", action="store_true", help="fail when the table of encoders/README.md is not fresh")
    arguments = parser.parse_args()
    if (arguments.option or arguments.weights) and len(arguments.encoder) != 1:
        parser.error("--option and --weights are those of one encoder: name it")
    if arguments.new is not None:
        print(f"{new(arguments.new)}: fill it in, then python -m radbench.check {arguments.new}")
        return 0
    if arguments.write_golden:
        write_golden(arguments.encoder or names())
        return 0
    if arguments.write_readme or arguments.check_readme:
        readme(arguments.write_readme)
        return 0
    addresses = arguments.encoder or names()
    counts = [check(address, arguments.option, arguments.weights) for address in addresses]
    if len(counts) > 1:
        print(f"{len(counts)} encoders: {summary(sum(counts, Counter()))}")
    return 1 if any(count["FAIL"] for count in counts) else 0


if __name__ == "__main__":
    run_entry_point(main)
