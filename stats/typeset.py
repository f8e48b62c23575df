"""The same panels as LaTeX (booktabs) and as Markdown.

A table is a list of panels (one per dataset) under one caption; each panel is a header, rows and notes. All text is
plain here and escaped on the way out, so a label called ``A_B & C`` cannot break a document.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .provenance import csv_bytes

#: Marks of rows; LaTeX needs them in math mode.
OVERLAP, REDUCED, UNTOLD = "†", "‡", "§"

_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$", "|": "$|$", '"': "''",
    "✓": r"$\surd$", "✗": r"$\times$", "†": r"$^{\dagger}$", "‡": r"$^{\ddagger}$", "§": r"$^{\S}$", "±": r"$\pm$",
    "×": r"$\times$", "–": "--", "—": "---", "−": "$-$",
    "Δ": r"$\Delta$", "≥": r"$\geq$", "≤": r"$\leq$", "²": "$^2$", "³": "$^3$", "µ": r"$\mu$", "√": r"$\surd$",
    "→": r"$\to$", "↓": r"$\downarrow$", "↑": r"$\uparrow$", "≈": r"$\approx$", "≠": r"$\neq$", "·": r"$\cdot$",
    "°": r"$^{\circ}$", "α": r"$\alpha$", "β": r"$\beta$", "ρ": r"$\rho$", "κ": r"$\kappa$", "ł": r"\l{}", "Ł": r"\L{}",
    "ß": r"\ss{}", "ø": r"\o{}", "Ø": r"\O{}", "æ": r"\ae{}", "Æ": r"\AE{}", "œ": r"\oe{}", "Œ": r"\OE{}",
    "…": r"\ldots{}", "’": "'", "‘": "`", "“": "``", "”": "''", "\n": " ", "\u00a0": "~",
}  # fmt: skip

#: Accented letters that pdflatex sets without another package or font encoding.
_ACCENTED = frozenset("ÀÁÂÃÄÅÇÈÉÊËÌÍÎÏÑÒÓÔÕÖÙÚÛÜÝàáâãäåçèéêëìíîïñòóôõöùúûüýÿćčďěğńňőřśşšťůűźżžĆČĎĚĞŃŇŐŘŚŞŠŤŮŰŹŻŽ")


@dataclass(frozen=True)
class Cell:
    """A value, a smaller second line, and its rank in the column (1 best, 2 second, 0 otherwise)."""

    text: str
    second_line: str = ""
    rank: int = 0


def best_two(values: Sequence[float | None], lowest: bool) -> dict[int, int]:
    """Rank 1 and 2 of a column by position, for `Cell.rank`; equal values share a rank, gaps and a single value have none.

    Args:
        values: as printed, None for a gap or for who is not to be marked.
        lowest: whether less is better.

    >>> best_two([0.3, None, 0.5, 0.5, 0.1], lowest=False), best_two([0.3, None], lowest=True)
    ({0: 2, 2: 1, 3: 1}, {})
    """
    known = sorted({v for v in values if v is not None}, reverse=not lowest)
    if sum(v is not None for v in values) < 2:
        return {}
    return {k: known.index(v) + 1 for k, v in enumerate(values) if v in known[:2]}


@dataclass(frozen=True)
class Panel:
    """One block of a table.

    Attributes:
        align: LaTeX column letters (l, r, c, p{…cm}), one per header cell.
        rows: a row is a list of cells or plain strings; None is a rule between groups of rows.
        notes: one sentence each, below the block.
        lead: columns at the left that say what a row is about; repeated where a wide block is cut between columns.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell | str] | None]
    align: str = ""
    notes: Sequence[str] = field(default_factory=list)
    lead: int = 1


@dataclass(frozen=True)
class Table:
    """One table in all its forms.

    Attributes:
        name: of its files, and of its label in LaTeX (``tab:name``).
        columns, rows: of the CSV, in full.
        panels: what a reader sees.
    """

    name: str
    heading: str
    caption: str
    columns: Sequence[str]
    rows: Sequence[Mapping[str, Any]]
    panels: Sequence[Panel]

    def files(self, title: str = "", only: Sequence[str] = ("csv", "tex", "md")) -> dict[str, bytes]:
        """Content by file name; without panels there is one that says so."""
        caption = f"{self.caption}. {title}".strip()
        panels = self.panels or [Panel("No data", ["Gap"], [], notes=["Nothing in this run belongs to this table."])]
        content = {
            "csv": lambda: csv_bytes(self.columns, self.rows),
            "tex": lambda: latex(caption, self.name, panels).encode(),
            "md": lambda: markdown(caption, panels, self.heading).encode(),
        }
        return {f"{self.name}.{kind}": content[kind]() for kind in only}


def escape_tex(text: str) -> str:
    """Plain text as LaTeX; a letter that a bare pdflatex lacks loses its accent, any other such character becomes ``?``.

    >>> escape_tex("A_B & 95 % ± 2 †")
    'A\\\\_B \\\\& 95 \\\\% $\\\\pm$ 2 $^{\\\\dagger}$'
    >>> escape_tex("Łódź 日")
    '\\\\L{}ódź ?'
    """
    return "".join(_TEX.get(character) or _plain_tex(character) for character in text)


def _plain_tex(character: str) -> str:
    if ord(character) < 0x7F or character in _ACCENTED:
        return character
    return "".join(one for one in unicodedata.normalize("NFKD", character) if 0x20 <= ord(one) < 0x7F and one not in _TEX) or "?"


def escape_markdown(text: str) -> str:
    """Plain text inside a Markdown table.

    >>> escape_markdown("a|b_c*")
    'a\\\\|b\\\\_c\\\\*'
    """
    text = text.replace("\n", " ").replace("<", "&lt;")
    return "".join("\\" + character if character in "|_*`[]" else character for character in text)


#: Head of every .tex file. Without siunitx, ``\\num`` prints what a reader of the file sees.
PREAMBLE = r"""% To use this file:
%   \documentclass{article}
%   \usepackage{booktabs}                         % needed
%   \usepackage{siunitx}\sisetup{separate-uncertainty, detect-all}   % optional, sets numbers with their spread
%   \begin{document} \input{NAME} \end{document}
\providecommand{\num}[1]{\mbox{\let\mathpm\pm\def\pm{$\mathpm$}#1}}"""

#: Lines of small type that a page holds; a longer table goes on in a further float under the same number.
PAGE_LINES = 56
#: Characters of small type across a page, its margins used a little; a wider block is cut between columns.
PAGE_CHARACTERS = 118


def latex(caption: str, label: str, panels: Sequence[Panel]) -> str:
    """``table`` environments, as many as fill pages, to be input into a document; needs only booktabs."""
    lines = PREAMBLE.replace("NAME", label).splitlines()
    for number, page in enumerate(_pages(panels)):
        lines += [
            "\\begin{table}[htbp]",
            *(["\\addtocounter{table}{-1}"] if number else []),
            "\\centering\\scriptsize\\setlength{\\tabcolsep}{2.5pt}",
            f"\\caption{{{escape_tex(caption)}{' (continued)' if number else ''}}}",
            *([] if number else [f"\\label{{tab:{label}}}"]),
        ]
        for panel in page:
            lines += _tex_panel(panel)
        lines.append("\\end{table}")
    return "\n".join([*lines, ""])


def _pages(panels: Sequence[Panel]) -> list[list[Panel]]:
    """Panels spread over pages; one that is longer than a page is cut between rows."""
    pages: list[list[Panel]] = [[]]
    used = 0.0
    for panel in itertools.chain.from_iterable(map(_narrowed, panels)):
        weights = [_height(row, panel.align) for row in panel.rows]
        notes = sum(0.7 * (1 + len(note) // 150) for note in panel.notes)
        if used and used + 4 + sum(weights) + notes > PAGE_LINES:
            pages.append([])
            used = 0.0
        start = 0
        while True:
            stop, height = start, used + 4
            while stop < len(weights) and height + weights[stop] <= PAGE_LINES:
                height += weights[stop]
                stop += 1
            stop = max(stop, min(start + 1, len(weights)))
            last = stop >= len(weights)
            title = panel.title + (" (continued)" if start else "")
            pages[-1].append(replace(panel, title=title, rows=panel.rows[start:stop], notes=panel.notes if last else []))
            used = height + notes
            if last:
                break
            pages.append([])
            start, used = stop, 0.0
    return pages


def _narrowed(panel: Panel) -> list[Panel]:
    """The panel, or as many pieces as its width asks for, each with the leading columns; notes below the last."""
    lines = [panel.header, *(row for row in panel.rows if row is not None)]

    def width(column: int) -> float:
        """Characters of a column: its widest text, and what separates it from the next."""
        texts = [line[column] if isinstance(line[column], Cell) else Cell(line[column]) for line in lines]
        return 1.5 + max(max(len(cell.text), 0.72 * len(cell.second_line)) for cell in texts)

    widths = [width(column) for column in range(len(panel.header))]
    letters = panel.align or "l" + "c" * (len(panel.header) - 1)
    if sum(widths) <= PAGE_CHARACTERS or "{" in letters:
        return [panel]
    pieces: list[list[int]] = [[]]
    for column in range(panel.lead, len(widths)):
        if pieces[-1] and sum(widths[: panel.lead]) + sum(widths[k] for k in [*pieces[-1], column]) > PAGE_CHARACTERS:
            pieces.append([])
        pieces[-1].append(column)
    found = []
    for number, piece in enumerate(pieces):
        columns = [*range(panel.lead), *piece]
        rows = [row if row is None else [row[k] for k in columns] for row in panel.rows]
        notes = panel.notes if number == len(pieces) - 1 else []
        title = panel.title + (" (further columns)" if number else "")
        found.append(Panel(title, [panel.header[k] for k in columns], rows, "".join(letters[k] for k in columns), notes, panel.lead))
    return found


def _height(row: Sequence[Cell | str] | None, align: str) -> float:
    """Lines of small type that a row takes; a column of given width (``p{...}``) breaks its text, at 18 characters per cm."""
    if row is None:
        return 0.3
    widths = re.findall(r"p\{([\d.]+)cm\}|[lrc]", align)
    broken = [-(-len(cell) // (18 * float(width))) for cell, width in zip(row, widths, strict=False) if width and isinstance(cell, str)]
    second = any(isinstance(cell, Cell) and cell.second_line for cell in row)
    return max([1.85 if second else 1.0, *broken])


def _tex_panel(panel: Panel) -> list[str]:
    align = panel.align or "l" + "c" * (len(panel.header) - 1)
    broken = [column.startswith("p") for column in re.findall(r"p\{[^}]*\}|.", align)]
    end = "\\tabularnewline" if any(broken) else "\\\\"  # ragged text gives the usual end another meaning
    # A row too wide for the column sticks out evenly on both sides instead of running off the right edge.
    lines = [f"\\par\\medskip\\textbf{{{escape_tex(panel.title)}}}\\par\\smallskip", "\\makebox[\\linewidth][c]{%",
             f"\\begin{{tabular}}{{{align}}}", "\\toprule",
             " & ".join(_guarded(escape_tex(text)) for text in panel.header) + f" {end}", "\\midrule"]  # fmt: skip
    for row in panel.rows:
        if row is None:
            lines.append("\\midrule")
            continue
        cells = [cell if isinstance(cell, Cell) else Cell(cell) for cell in row]
        texts = ("\\raggedright " * ragged + _tex_cell(cell) for cell, ragged in zip(cells, broken, strict=True))
        lines.append(" & ".join(texts) + f" {end}")
        if any(cell.second_line for cell in cells):
            seconds = (f"{{\\tiny {escape_tex(cell.second_line)}}}" if cell.second_line else "" for cell in cells)
            lines.append(" & ".join(seconds) + f" {end}[1pt]")
    lines += ["\\bottomrule", "\\end{tabular}}"]
    if panel.notes:
        notes = "\\par ".join(escape_tex(note) for note in panel.notes)
        lines.append(f"\\par\\smallskip\\parbox{{\\linewidth}}{{\\tiny\\raggedright {notes}}}")
    return lines


def _tex_cell(cell: Cell) -> str:
    spread = re.fullmatch(r"(\d+(?:\.\d+)?) ± (\d+(?:\.\d+)?)", cell.text)
    text = f"\\num{{{spread[1]} \\pm {spread[2]}}}" if spread else _guarded(escape_tex(cell.text))
    return {1: f"\\textbf{{{text}}}", 2: f"\\underline{{{text}}}"}.get(cell.rank, text)


def _guarded(text: str) -> str:
    """A row that begins with "[" or "*" would be read as an argument of the row before."""
    return f"{{{text}}}" if text.startswith(("[", "*")) else text


def markdown(caption: str, panels: Sequence[Panel], heading: str = "") -> str:
    """The same table for a reader on a forge or in a terminal."""
    lines = [f"# {heading}" if heading else "", escape_markdown(caption), ""]
    for panel in panels:
        lines += [f"## {escape_markdown(panel.title)}", "",
                  "| " + " | ".join(escape_markdown(text) for text in panel.header) + " |",
                  "|" + "|".join([" --- "] + [" :-: "] * (len(panel.header) - 1)) + "|"]  # fmt: skip
        for row in panel.rows:
            if row is not None:
                cells = [cell if isinstance(cell, Cell) else Cell(cell) for cell in row]
                lines.append("| " + " | ".join(_markdown_cell(cell) for cell in cells) + " |")
        lines.append("")
        for note in panel.notes:
            lines.append(f"- {escape_markdown(note)}")
        lines.append("")
    return "\n".join(line for i, line in enumerate(lines) if line or (i and lines[i - 1])).rstrip() + "\n"


def _markdown_cell(cell: Cell) -> str:
    text = escape_markdown(cell.text)
    text = {1: f"**{text}**", 2: f"<u>{text}</u>"}.get(cell.rank, text)
    return f"{text}<br>{escape_markdown(cell.second_line)}" if cell.second_line else text
