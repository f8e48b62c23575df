"""Tables as LaTeX: everything escaped, every file inputs into a minimal document, and no float is larger than its page."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from stats.typeset import _ACCENTED, PAGE_LINES, Cell, Panel, Table, escape_tex, latex, markdown

from .test_tables import NAMES, tables, toy_test_sets, written_once  # noqa: F401

HOSTILE = "a_b & c % $ # { } ~ ^ \\ <x> ✓ ✗ ± † ‡ – − Δ 日 é Łódź ß \N{NO-BREAK SPACE}«q» ¥ ½ ﬁ α [z]"


def missing(*packages: str) -> str | None:
    """Why this machine cannot compile with the packages, or None."""
    if shutil.which("pdflatex") is None or shutil.which("kpsewhich") is None:
        return "no pdflatex on PATH"
    lacking = [p for p in packages if not subprocess.run(["kpsewhich", f"{p}.sty"], capture_output=True, check=False).stdout]
    return f"LaTeX without {', '.join(lacking)}" if lacking else None


def compiled(folder: Path, preamble: str, body: str) -> str:
    """The log of a document that must compile."""
    text = f"\\documentclass{{article}}\n{preamble}\n\\begin{{document}}\n{body}\n\\end{{document}}\n"
    (folder / "all.tex").write_text(text, encoding="utf-8")
    done = subprocess.run(["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"], cwd=folder, env=os.environ,
                          capture_output=True, text=True, errors="replace", timeout=120, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]
    return done.stdout


def hostile() -> str:
    panel = Panel(HOSTILE, ["[A]", "B"], [[HOSTILE, Cell("[1]", "[2]", 1)], ["[a", "*b"], ["x", "3 ± 1"]], notes=[HOSTILE])
    return latex(HOSTILE, "hostile", [panel])


def test_hostile_text_is_escaped():
    """Every special character is escaped in LaTeX, and a pipe cannot break a Markdown row."""
    panel = Panel(HOSTILE, ["A", "B|"], [[HOSTILE, Cell("[1, 2]", "x_y", 1)], None, ["[a", "*b"]], notes=[HOSTILE])
    assert "B\\|" in markdown("caption", [panel])
    tex = latex(HOSTILE, "hostile", [panel])
    assert "a\\_b \\& c \\% \\$ \\# \\{ \\} \\textasciitilde{}" in tex and "日" not in tex


def test_every_latin_character_becomes_something_that_compiles():
    """Of all characters up to U+24FF none comes through raw but letters on the list, and none comes through empty."""
    for number in range(0x80, 0x2500):
        out = escape_tex(chr(number))
        assert out and (out in _ACCENTED or out.isascii()), hex(number)


def test_a_spread_is_a_number_for_siunitx_and_reads_without_it():
    """``12.3 ± 0.4`` becomes ``\\num{12.3 \\pm 0.4}``, an interval stays text, and the head of the file defines the fallback."""
    tex = latex("c", "l", [Panel("p", ["a", "b"], [["x", Cell("12.3 ± 0.4", "[11.0, 13.0]", 1)]])])
    assert "\\textbf{\\num{12.3 \\pm 0.4}}" in tex and "[11.0, 13.0]" in tex and "\\providecommand{\\num}" in tex


def test_long_tables_go_on_under_the_same_number():
    """A block of many rows fills several floats; every row is there once, in order, and the label once."""
    rows = [[f"row{k}", Cell("1", "[0, 2]")] for k in range(3 * PAGE_LINES)]
    tex = latex("c", "long", [Panel("p", ["a", "b"], rows, notes=["the note"])])
    assert re.findall(r"row\d+", tex) == [row[0] for row in rows]
    floats = tex.count("\\begin{table}")
    assert floats > 3 and tex.count("\\addtocounter{table}{-1}") == floats - 1
    assert tex.count("\\label{tab:long}") == tex.count("the note") == 1


def test_wide_tables_are_cut_between_columns():
    """Columns that do not fit beside each other stand below each other, each with the row's name, none lost."""
    names = [f"quite a long column {k}" for k in range(12)]
    tex = latex("c", "wide", [Panel("p", ["who", *names], [["somebody", *(f"cell{k}" for k in range(12))]])])
    assert re.findall(r"cell\d+", tex) == [f"cell{k}" for k in range(12)]
    assert tex.count("somebody") == tex.count("\\begin{tabular}") > 1


@pytest.mark.skipif(missing("booktabs") is not None, reason=str(missing("booktabs")))
def test_latex_compiles_with_booktabs_alone(tables, tmp_path):  # noqa: F811
    """Every file that is written, hostile text and all accented letters compile with booktabs alone, and no float is too large."""
    files = sorted(Path("results/tables").glob("*.tex"))
    assert {file.stem for file in files} == {*NAMES, "summary"}
    long = latex("c", "long", [Panel("p", ["a", "b"], [[f"r{k}", Cell("1", "[0, 2]")] for k in range(150)])])
    (tmp_path / "made").mkdir()
    body = "\n".join(f"\\input{{{file.absolute().with_suffix('').as_posix()}}}\n\\clearpage" for file in files)
    assert Path("results/tables/summary.tex").read_text().count("\\begin{table}") == 1, "the summary is one page"
    log = compiled(tmp_path / "made", "\\usepackage{booktabs}", body + hostile() + long + escape_tex("".join(sorted(_ACCENTED))))
    assert "Missing character" not in log and "Float too large" not in log and "undefined" not in log


@pytest.mark.skipif(missing("booktabs", "siunitx") is not None, reason=str(missing("booktabs", "siunitx")))
def test_latex_compiles_with_siunitx(tables, tmp_path):  # noqa: F811
    """The same files compile where siunitx sets the numbers, with the options that the head of each file names."""
    files = sorted(Path("results/tables").glob("*.tex"))
    setup = re.search(r"% +(\\usepackage\{siunitx\}\S*\{[^}]*\})", files[0].read_text())[1]
    (tmp_path / "made").mkdir()
    body = "\n".join(f"\\input{{{file.absolute().with_suffix('').as_posix()}}}\n\\clearpage" for file in files)
    compiled(tmp_path / "made", "\\usepackage{booktabs}\n" + setup, body + hostile())


def test_an_empty_table_says_so_in_all_forms():
    """A table without panels has a note instead of being an empty file."""
    files = Table("t", "T", "caption", ("a",), [], []).files()
    assert files["t.csv"] == b"a\n" and all(b"Nothing in this run" in files[name] for name in ("t.tex", "t.md"))
