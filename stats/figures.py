"""Figures of the report as inline SVG and JPEG: drawn by hand, so that they follow the page's colours and text size.

An SVG here is 360 units wide, about the width of a phone, and carries classes instead of colours (`stats/page.py`), so
it reads the same in dark mode. Equal numbers are equal bytes.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from .page import Html, tag

WIDTH, MARGIN = 360, 8


@dataclass(frozen=True)
class Interval:
    """One row of a forest plot; ``role`` is ``reference``, ``encoder`` or ``control``."""

    label: str
    value: float
    low: float | None
    high: float | None
    role: str


def signed(value: float, digits: int = 1) -> str:
    """A difference with its sign, a real minus.

    >>> signed(-2.04), signed(0.31)
    ('−2.0', '+0.3')
    """
    return f"{value:+.{digits}f}".replace("-", "−")


def interval_text(row: Interval, difference: bool = False) -> str:
    """``41.2 [38.0, 44.1]``, with signs for a difference."""
    number = signed if difference else "{:.1f}".format
    return number(row.value) + (f" [{number(row.low)}, {number(row.high)}]" if row.low is not None else "")


def forest(rows: Sequence[Interval], title: str, difference: bool = False, chance: float | None = None) -> Html:
    """Point and 95 % interval per row, each under its name and numbers, on one axis in points.

    Args:
        difference: draw a line at zero and print signs.
        chance: where a guess would lie, drawn dashed.
    """
    ends = [end for row in rows for end in (row.value, row.low, row.high) if end is not None]
    ends += [0.0] if difference else []
    ends += [chance] if chance is not None else []
    ticks = nice_ticks(min(ends), max(ends))
    start, stop = min(ends + ticks), max(ends + ticks)
    step, top = 34, 6
    bottom = top + step * len(rows)

    def x(value: float) -> str:
        return _number(MARGIN + 8 + (value - start) / ((stop - start) or 1) * (WIDTH - 2 * MARGIN - 16))

    marks = [tag("line", x1=x(tick), x2=x(tick), y1=top, y2=bottom, class_="grid") for tick in ticks]
    for place, class_ in ((0.0 if difference else None, "zero"), (chance, "chance")):
        if place is not None:
            marks.append(tag("line", x1=x(place), x2=x(place), y1=top, y2=bottom, class_=class_))
    for number, row in enumerate(rows):
        y = top + step * number
        label = row.label if len(row.label) <= 34 else row.label[:33] + "…"
        marks.append(tag("text", label, x=MARGIN, y=y + 13, class_="soft" if row.role == "control" else None))
        marks.append(tag("text", interval_text(row, difference), x=WIDTH - MARGIN, y=y + 13, text_anchor="end",
                         class_="soft" if row.role == "control" else None))  # fmt: skip
        if row.low is not None:
            ends = {"x1": x(row.low), "x2": x(row.high), "y1": y + 24, "y2": y + 24}
            marks.append(tag("line", **ends, stroke_width=2, class_=row.role))
        marks.append(tag("circle", cx=x(row.value), cy=y + 24, r=4.2, stroke_width=1.6, class_=row.role))
    marks.append(tag("line", x1=MARGIN, x2=WIDTH - MARGIN, y1=bottom, y2=bottom, class_="axis"))
    marks += [tag("text", _tick(tick, ticks, difference), x=x(tick), y=bottom + 15, text_anchor="middle", class_="soft")
              for tick in ticks]  # fmt: skip
    words = "; ".join(f"{row.label} {interval_text(row, difference)}" for row in rows)
    return _svg(bottom + 20, f"{title}: {words}", marks)


def curves(runs: Mapping[int, tuple[np.ndarray, np.ndarray]], title: str) -> Html:
    """One quantity over epochs, a line per run; the key is the run's number in the legend."""
    height, left, bottom = 170, 46, 148
    across = np.concatenate([x for x, _ in runs.values()])
    up = np.concatenate([y for _, y in runs.values()])
    x_ticks, y_ticks = nice_ticks(0.0, float(across.max())), nice_ticks(float(up.min()), float(up.max()))
    x_end = max([*x_ticks, float(across.max())])
    low, high = min([*y_ticks, float(up.min())]), max([*y_ticks, float(up.max())])

    def x(value: float) -> str:
        return _number(left + value / (x_end or 1) * (WIDTH - left - 14))

    def y(value: float) -> str:
        return _number(bottom - (value - low) / ((high - low) or 1) * (bottom - 12))

    marks = []
    for tick in y_ticks:
        marks.append(tag("line", x1=left, x2=WIDTH - 14, y1=y(tick), y2=y(tick), class_="grid"))
        place = {"x": left - 6, "y": _number(float(y(tick)) + 4), "text_anchor": "end"}
        marks.append(tag("text", _tick(tick, y_ticks), **place, class_="soft"))
    marks.append(tag("line", x1=left, x2=WIDTH - 14, y1=bottom, y2=bottom, class_="axis"))
    marks += [tag("text", _tick(tick, x_ticks), x=x(tick), y=bottom + 16, text_anchor="middle", class_="soft")
              for tick in x_ticks]  # fmt: skip
    words = []
    for number, (epochs, values) in runs.items():
        points = " ".join(f"{x(a)},{y(b)}" for a, b in zip(epochs, values, strict=True))
        marks.append(tag("polyline", points=points, class_=f"run run{number % 4}"))
        words.append(f"line {number + 1} from {values[0]:.3g} to {values[-1]:.3g}")
    return _svg(height, f"{title} over epochs: {'; '.join(words)}", marks)


def legend_line(number: int) -> Html:
    """The stroke of a run, as in `curves`."""
    return tag("svg", tag("line", x1=0, x2=36, y1=6, y2=6, stroke_width=2, class_=f"run{number % 4}"),
               viewBox="0 0 36 12", aria_hidden="true")  # fmt: skip


def nice_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """At most ``most`` round numbers between two values; one number when they are equal.

    >>> nice_ticks(0, 5), nice_ticks(12.2, 47)
    ([0.0, 1.0, 2.0, 3.0, 4.0, 5.0], [20.0, 30.0, 40.0])
    """
    if not high > low:
        return [low]
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 12) + 0.0 for number in range(first, last + 1)]


def _tick(value: float, ticks: Sequence[float], sign: bool = False) -> str:
    step = min((b - a for a, b in zip(ticks, ticks[1:], strict=False)), default=abs(value) or 1.0)
    if max(map(abs, ticks)) < 0.001:
        return f"{value:.0e}".replace("e-0", "e−") if value else "0"
    text = f"{value:.{max(0, -math.floor(math.log10(step) + 1e-9))}f}".replace("-", "−")
    return "+" + text if sign and value > 0 else text


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _svg(height: int, words: str, marks: Sequence[Html]) -> Html:
    return tag("svg", marks, viewBox=f"0 0 {WIDTH} {height}", role="img", aria_label=words)


# ---------------------------------------------------------------- pictures


def picture(image: Image.Image, alt: str, width: int) -> Html:
    """An image as a data URI, shrunk to ``width`` pixels; JPEG, since radiographs are noise to PNG."""
    image = image.convert("RGB")
    if image.width > width:
        image = image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    image.save(content, "JPEG", quality=80, optimize=True)
    source = "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode()
    return tag("img", src=source, alt=alt, width=image.width, height=image.height, loading="lazy")


def example_bands(path: Path, sets: int) -> list[tuple[Image.Image, Image.Image]] | None:
    """Reference and prediction strip of each structure set in an examples.png; None when it is laid out otherwise.

    A band is two rows of square pictures and eight pixels of padding (`tasks/segmentation.py`).
    """
    whole = Image.open(path)
    band, rest = divmod(whole.height, max(sets, 1))
    side = (band - 8) // 2
    if rest or (band - 8) % 2 or side <= 0 or whole.width % side:
        return None
    strips = [whole.crop((0, k * band + row * side, whole.width, k * band + (row + 1) * side))
              for k in range(sets) for row in (0, 1)]  # fmt: skip
    return list(zip(strips[::2], strips[1::2], strict=True))
