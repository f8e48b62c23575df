"""HTML by construction: elements that escape their text, tables, and the frame of a self-contained page.

`tag` is the only way to markup: a string that is not `Html` is escaped and freed of machine paths on its way in, so a
hypothesis that contains ``<script>`` is text, and nesting cannot go wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from .typeset import Cell, Panel

_VOID = {"br", "img", "meta"}
_ABSOLUTE = re.compile(r"(?<![\w.:/~…])(?:file://)?(?:/[\w.@+~-]+){2,}/?")
_NUMERIC = re.compile(r"[–+−\-]?(\d[\d.,]*)?( ± [\d.]+)?( [✓✗]+| M| %)?|\[.*\]|[✓✗]+")


class Html(str):
    """Markup; every other string is text."""

    __slots__ = ()


def without_machine_paths(text: str) -> str:
    """Absolute paths shortened to what lies below ``results/``, or to their last part; addresses stay.

    >>> without_machine_paths("/home/anna/run/results/index/a is not /data/big/vindr; see https://a.org/b/c")
    'results/index/a is not …/vindr; see https://a.org/b/c'
    """

    def shorten(match: re.Match[str]) -> str:
        path = re.sub(r"^(?:file://)?(?:/(?:home|Users)/[^/]+)?", "", match[0]).rstrip("/")
        if "/results/" in path:
            return "results/" + path.split("/results/")[-1]
        return "…/" + path.rsplit("/", 1)[-1] if path else "~"

    return _ABSOLUTE.sub(shorten, text)


def tag(name: str, /, *children: Any, **attributes: Any) -> Html:
    """One element. Attributes: ``class_`` is class, ``_`` inside is ``-``; None and False are left out.

    >>> tag("p", "a < b", tag("br"), None, class_="note", hidden=True)
    '<p class="note" hidden>a &lt; b<br></p>'
    """
    words = [name]
    for key, value in attributes.items():
        key = key.rstrip("_").replace("_", "-")
        if value is True:
            words.append(key)
        elif value is not None and value is not False:
            value = str(value) if str(value).startswith("data:") else without_machine_paths(str(value))
            words.append(f'{key}="{escape(value)}"')
    opening = f"<{' '.join(words)}>"
    return Html(opening if name in _VOID else f"{opening}{join(*children)}</{name}>")


def join(*children: Any) -> Html:
    """Children one after the other; lists are flattened, None is nothing, what is not `Html` is escaped text."""
    parts = []
    for child in children:
        if isinstance(child, Html):
            parts.append(child)
        elif isinstance(child, (list, tuple)):
            parts.append(join(*child))
        elif child is not None:
            text = escape(without_machine_paths(str(child)), quote=False)
            parts.append(re.sub(r"(?<=\d) (?=%|±|points?\b)", "\u00a0", text))
    return Html("".join(parts))


# ---------------------------------------------------------------- pieces


def section(identity: str, title: str, *children: Any) -> Html:
    """A numbered part of the page; newlines around it keep differences between two pages readable."""
    heading = tag("h2", title, id=f"{identity}-title")
    return Html(f"\n{tag('section', heading, *children, id=identity, aria_labelledby=f'{identity}-title')}\n")


def bullets(items: Iterable[Any], class_: str | None = None) -> Html | None:
    """A list, or nothing when there is nothing to list."""
    items = list(items)
    return tag("ul", [tag("li", item) for item in items], class_=class_) if items else None


def details(summary: str, *children: Any, open_: bool = False) -> Html:
    """A part that the reader unfolds; readable and printable without a script."""
    return tag("details", tag("summary", summary), *children, open_=open_)


def table(
    caption: str, header: Sequence[str], rows: Sequence[Sequence[Any] | None], notes: Sequence[str] = (),
    ids: Sequence[str] = (), row_class: Any = None,
) -> Html:  # fmt: skip
    """A table in a box of its own that scrolls sideways, with notes below.

    Args:
        ids: anchor of each row.
        row_class: function of a row that gives its class, or None.
    """
    rows = [row for row in rows if row is not None]
    numeric = [bool(rows) and all(_is_number(row[column]) for row in rows) for column in range(len(header))]
    titles = [text or tag("span", "Mark", class_="hidden") for text in header]
    head = tag("tr", [tag("th", title, scope="col", class_="n" if right else None)
                      for title, right in zip(titles, numeric, strict=True)])  # fmt: skip
    body = []
    for number, row in enumerate(rows):
        cells = [tag("th", _content(row[0]), scope="row")]
        cells += [tag("td", _content(cell), class_="n" if right else "long" if _is_long(cell) else None)
                  for cell, right in zip(row[1:], numeric[1:], strict=True)]  # fmt: skip
        identity = ids[number] if ids else None
        body.append(tag("tr", cells, id=identity, class_=row_class(row) if row_class else None))
    whole = tag("table", tag("caption", caption), tag("thead", head), tag("tbody", body))
    box = tag("div", whole, class_="scroll", tabindex="0", role="region", aria_label=caption)
    return join(box, bullets((note.removeprefix("– ") for note in notes), "notes"))


def _content(cell: Any) -> Any:
    if not isinstance(cell, Cell):
        return cell
    text = {1: tag("strong", cell.text), 2: tag("u", cell.text)}.get(cell.rank, cell.text)
    return join(text, tag("small", cell.second_line) if cell.second_line else None)


def _is_number(cell: Any) -> bool:
    text = cell.text if isinstance(cell, Cell) else cell
    return not isinstance(text, Html) and bool(_NUMERIC.fullmatch(str(text)))  # "" counts: a column may have holes


def _is_long(cell: Any) -> bool:
    text = cell.text if isinstance(cell, Cell) else cell
    return isinstance(text, Html) or len(str(text)) > 28


def panel_table(panel: Panel) -> Html:
    """A block of one of the paper's tables; controls and published rows stand back."""

    def standing(row: Sequence[Any]) -> str | None:
        first = row[0].text if isinstance(row[0], Cell) else row[0]
        return "published" if first.endswith(", published") else "control" if first.endswith("(control)") else None

    return table(panel.title, panel.header, panel.rows, panel.notes, row_class=standing)


# ---------------------------------------------------------------- tables as they were written


def read_markdown(text: str) -> tuple[str, list[Panel]]:
    """Caption and panels of a table that `stats.typeset.markdown` wrote; its inverse but for rules between rows."""
    caption, panels, rows = "", [], []
    for line in text.splitlines():
        if line.startswith("## "):
            rows = []
            panels.append(Panel(_plain(line[3:]), [], rows, notes=[]))
        elif line.startswith("- ") and panels:
            panels[-1].notes.append(_plain(line[2:]))
        elif line.startswith("|") and panels:
            cells = [_cell(cell.strip()) for cell in re.split(r"(?<!\\)\|", line[1:-1])]
            if not panels[-1].header:
                panels[-1] = Panel(panels[-1].title, [cell.text for cell in cells], rows, notes=[])
            elif not set(line) <= set("|-: "):
                rows.append(cells)
        elif line and not line.startswith("#") and not panels:
            caption = _plain(line)
    return caption, panels


def _plain(text: str) -> str:
    return re.sub(r"\\([|_*`\[\]])", r"\1", text).replace("&lt;", "<")


def _cell(text: str) -> Cell:
    first, _, second = text.partition("<br>")
    for rank, start, end in ((1, "**", "**"), (2, "<u>", "</u>")):
        if first.startswith(start):
            return Cell(_plain(first.removeprefix(start).removesuffix(end)), _plain(second), rank)
    return Cell(_plain(first), _plain(second))


# ---------------------------------------------------------------- frame


def document(title: str, contents: Sequence[tuple[str, str]], header: Html, *sections: Html) -> str:
    """The whole page; ``contents`` are (anchor, title) of the sections."""
    links = [tag("li", tag("a", text, href=f"#{anchor}")) for anchor, text in contents]
    head = tag(
        "head", tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="robots", content="noindex"), tag("meta", name="color-scheme", content="light dark"),
        tag("title", title), tag("style", Html(STYLE)),
    )  # fmt: skip
    body = tag("body", tag("a", "To the text", href="#main", class_="skip"), Html("\n"), tag("header", header),
               tag("nav", tag("ul", links), aria_label="Contents"), Html("\n"),
               tag("main", *sections, id="main"))  # fmt: skip
    return f"<!DOCTYPE html>\n{tag('html', head, Html(chr(10)), body, lang='en')}\n"


STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1b1f24; --soft: #59636e; --line: #d5dae0; --band: #f4f6f8;
  --accent: #0a5c9e; --second: #a34100; --third: #1d6f42; --fourth: #7a3b9c; --warn: #8a2c0d; --warnband: #fdf0ea; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171b; --ink: #e6e9ed; --soft: #a3adb8; --line: #353c45;
  --band: #1d2228; --accent: #6cb6f5; --second: #f0a36b; --third: #7fcf9e; --fourth: #cf9df0; --warn: #ffb59b;
  --warnband: #35211a; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
body { margin: 0 auto; padding: 1.5rem clamp(1rem, 4vw, 3rem) 4rem; max-width: 76rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
  overflow-wrap: anywhere; }
h1 { font-size: clamp(1.5rem, 4vw, 2.1rem); line-height: 1.2; margin: .3rem 0 .8rem; text-wrap: balance; }
h2 { font-size: 1.4rem; margin: 3.2rem 0 .8rem; padding-top: .8rem; border-top: 2px solid var(--line); }
h2.minor { margin: 1.6rem 0 .3rem; padding: 0; border: 0; } h2.minor, h3 { font-size: 1.1rem; }
h3 { margin: 2.2rem 0 .4rem; }
h4 { font-size: 1rem; margin: 1.4rem 0 .3rem; }
p, ul, dl { max-width: 46rem; margin: .5rem 0; }
li { margin: .25rem 0; }
a { color: var(--accent); }
.skip { position: absolute; left: -99rem; } .skip:focus { left: 1rem; background: var(--paper); }
.hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
.eyebrow, .notes, figcaption, .soft, small { color: var(--soft); }
.eyebrow { margin: 0; letter-spacing: .02em; }
.lead { font-size: 1.1rem; }
.badges { display: flex; flex-wrap: wrap; gap: .5rem; padding: 0; list-style: none; max-width: none; }
.badges li { margin: 0; padding: .15rem .7rem; border: 1px solid var(--line); border-radius: 1rem;
  background: var(--band); }
.badges .warn { color: var(--warn); border-color: currentColor; background: var(--warnband); }
.below { padding: .7rem 1rem; margin: 1rem 0; border-left: 4px solid var(--warn); background: var(--warnband);
  max-width: 46rem; }
.below h2.minor { margin-top: 0; } .below p, .below ul { margin: .2rem 0; } .below ul { padding-left: 1.1rem; }
nav ul { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; padding: .7rem 0; margin: 1.2rem 0 0; list-style: none;
  max-width: none; border-block: 1px solid var(--line); }
.scroll { position: relative; overflow-x: auto; margin: 1rem 0 .4rem; max-width: 100%; }
.scroll:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
caption { text-align: left; font-weight: 600; padding-bottom: .35rem; }
th, td { padding: .35rem .65rem; text-align: left; vertical-align: top; }
thead th { border-block: 1.5px solid var(--ink); border-bottom-width: 1px; vertical-align: bottom; }
tbody tr { border-bottom: 1px solid var(--line); }
tbody tr:last-child { border-bottom: 1.5px solid var(--ink); }
tbody th { font-weight: 500; min-width: clamp(7rem, 20vw, 10rem); }
.n { white-space: nowrap; text-align: right; } td small { display: block; white-space: nowrap; }
td { white-space: nowrap; } td.long { white-space: normal; min-width: 14rem; max-width: 36rem; }
tr.control > * { color: var(--soft); } tr.published > * { background: var(--band); }
tr:target > * { background: var(--warnband); }
.notes { font-size: .85rem; padding-left: 1.1rem; max-width: 60rem; }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr)); gap: 1.6rem 2rem;
  margin: 1rem 0; }
.wide { grid-template-columns: repeat(auto-fill, minmax(min(100%, 30rem), 1fr)); }
figure { margin: 0; min-width: 0; } figcaption { font-size: .9rem; margin-bottom: .4rem; }
figcaption strong { color: var(--ink); }
figure svg, figure img { display: block; width: 100%; height: auto; } figure svg { max-width: 27rem; }
figure img { border-radius: 3px; background: #000; }
.strip { margin: .5rem 0 0; font-size: .9rem; }
svg text { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; fill: var(--ink);
  paint-order: stroke; stroke: var(--paper); stroke-width: 4px; stroke-linejoin: round; }
svg .soft { fill: var(--soft); } svg .axis { stroke: var(--soft); } svg .grid { stroke: var(--line); }
svg .zero { stroke: var(--ink); stroke-width: 1.2; } svg .chance { stroke: var(--second); stroke-dasharray: 3 3; }
svg .reference { stroke: var(--accent); fill: var(--accent); } svg .encoder { stroke: var(--ink); fill: var(--ink); }
svg .group { stroke: var(--second); stroke-linecap: round; } svg .hollow { fill: var(--paper); }
svg .control { stroke: var(--soft); fill: var(--paper); } svg .control.full { fill: var(--soft); }
svg .run { fill: none; stroke-width: 1.8; stroke-linejoin: round; } svg circle.run { stroke-dasharray: none; }
.run0 { stroke: var(--accent); } .run1 { stroke: var(--second); stroke-dasharray: 6 3; }
.run2 { stroke: var(--third); stroke-dasharray: 2 2; } .run3 { stroke: var(--fourth); stroke-dasharray: 8 2 2 2; }
.key svg { width: 2.2rem; height: .7rem; vertical-align: baseline; } .key { list-style: none; padding: 0; display: flex;
  flex-wrap: wrap; gap: 0 1.5rem; }
.texts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 17rem), 1fr)); gap: .8rem; }
.texts > div { padding: .6rem .9rem; border: 1px solid var(--line); border-radius: 6px; }
.texts > .truth { background: var(--band); } .texts h5 { margin: 0 0 .2rem; font-size: 1rem; }
  .texts p { margin: 0; font-size: .93rem; }
.off { text-decoration: underline dotted var(--second) 2px; text-underline-offset: 3px; }
details { margin: .8rem 0; } summary { cursor: pointer; font-weight: 600; padding: .2rem 0; }
code { font: .88em ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
@media print { nav, .skip { display: none; } .scroll { overflow: visible; } figure { break-inside: avoid; } }
"""
