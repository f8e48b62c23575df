"""The same panels as LaTeX (booktabs) and as Markdown.

A table is a list of panels (one per dataset) under one caption; each panel is a header, rows and notes. All text is
plain here and escaped on the way out, so a label called ``A_B & C`` cannot break a document.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

#: Marks of rows; LaTeX needs them in math mode.
OVERLAP, REDUCED = "†", "‡"

_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$", "|": "$|$", '"': "''",
    "✓": r"$\surd$", "✗": r"$\times$", "†": r"$^{\dagger}$", "‡": r"$^{\ddagger}$", "±": r"$\pm$",
    "×": r"$\times$", "–": "--", "—": "---", "−": "$-$",
    "Δ": r"$\Delta$", "≥": r"$\geq$", "≤": r"$\leq$", "²": "$^2$", "³": "$^3$", "µ": r"$\mu$", "√": r"$\surd$",
    "→": r"$\to$", "…": r"\ldots{}", "’": "'", "‘": "`", "“": "``", "”": "''", "\n": " ", "\u00a0": "~",
}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """A value, a smaller second line, and its rank in the column (1 best, 2 second, 0 otherwise)."""

    text: str
    second_line: str = ""
    rank: int = 0


@dataclass(frozen=True)
class Panel:
    """One block of a table.

    Attributes:
        align: LaTeX column letters, one per header cell.
        rows: a row is a list of cells or plain strings; None is a rule between groups of rows.
        notes: one sentence each, below the block.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell | str] | None]
    align: str = ""
    notes: Sequence[str] = field(default_factory=list)


def escape_tex(text: str) -> str:
    """Plain text as LaTeX; a character that a bare pdflatex lacks becomes a question mark.

    >>> escape_tex("A_B & 95 % ± 2 †")
    'A\\\\_B \\\\& 95 \\\\% $\\\\pm$ 2 $^{\\\\dagger}$'
    """
    return "".join(_TEX.get(character, character if ord(character) < 0x180 else "?") for character in text)


def escape_markdown(text: str) -> str:
    """Plain text inside a Markdown table.

    >>> escape_markdown("a|b_c*")
    'a\\\\|b\\\\_c\\\\*'
    """
    text = text.replace("\n", " ").replace("<", "&lt;")
    return "".join("\\" + character if character in "|_*`[]" else character for character in text)


def latex(caption: str, label: str, panels: Sequence[Panel]) -> str:
    """A complete ``table`` environment; needs only booktabs."""
    lines = [
        "% Needs \\usepackage{booktabs}.",
        "\\begin{table}[htbp]",
        "\\centering\\scriptsize\\setlength{\\tabcolsep}{2.5pt}",
        f"\\caption{{{escape_tex(caption)}}}",
        f"\\label{{tab:{label}}}",
    ]
    for panel in panels:
        # A row too wide for the column sticks out evenly on both sides instead of running off the right edge.
        lines += [f"\\par\\medskip\\textbf{{{escape_tex(panel.title)}}}\\par\\smallskip", "\\makebox[\\linewidth][c]{%",
                  f"\\begin{{tabular}}{{{panel.align or 'l' + 'c' * (len(panel.header) - 1)}}}", "\\toprule",
                  " & ".join(escape_tex(text) for text in panel.header) + " \\\\", "\\midrule"]  # fmt: skip
        for row in panel.rows:
            if row is None:
                lines.append("\\midrule")
                continue
            cells = [cell if isinstance(cell, Cell) else Cell(cell) for cell in row]
            lines.append(" & ".join(_tex_cell(cell) for cell in cells) + " \\\\")
            if any(cell.second_line for cell in cells):
                seconds = (f"{{\\tiny {escape_tex(cell.second_line)}}}" if cell.second_line else "" for cell in cells)
                lines.append(" & ".join(seconds) + " \\\\[1pt]")
        lines += ["\\bottomrule", "\\end{tabular}}"]
        if panel.notes:
            notes = "\\par ".join(escape_tex(note) for note in panel.notes)
            lines.append(f"\\par\\smallskip\\parbox{{\\linewidth}}{{\\tiny\\raggedright {notes}}}")
    return "\n".join([*lines, "\\end{table}", ""])


def _tex_cell(cell: Cell) -> str:
    text = escape_tex(cell.text)
    # A row that begins with "[" would be read as the optional argument of the row before.
    text = f"{{{text}}}" if text.startswith(("[", "*")) else text
    return {1: f"\\textbf{{{text}}}", 2: f"\\underline{{{text}}}"}.get(cell.rank, text)


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
