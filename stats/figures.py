"""Figures of the report as inline SVG and JPEG: drawn by hand, so that they follow the page's colours and text size.

An SVG here is 360 units wide, about the width of a phone, and carries classes instead of colours (`stats/page.py`), so
it reads the same in dark mode. Equal numbers are equal bytes.
"""

from __future__ import annotations

import base64
import io
import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .page import Html, tag

if TYPE_CHECKING:  # drawing needs no picture library
    from PIL import Image

WIDTH, MARGIN = 360, 8
#: The page's classes in print, for an SVG that stands alone.
STYLE = """
text { font: 12px Helvetica, Arial, sans-serif; fill: #1b1f24; } .strong { font-weight: bold; } .soft { fill: #59636e; }
.axis { stroke: #59636e; } .grid { stroke: #d5dae0; } .zero { stroke: #1b1f24; }
.reference { stroke: #0a5c9e; fill: #0a5c9e; } .encoder { stroke: #1b1f24; fill: #1b1f24; } .control { stroke: #59636e; fill: #fff; }
.group { stroke: #a34100; stroke-linecap: round; }
"""


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
        marks.append(tag("text", _shortened(row.label), x=MARGIN, y=y + 13, class_="soft" if row.role == "control" else None))
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


def curves(
    runs: Mapping[int, tuple[np.ndarray, np.ndarray]], title: str, over: str = "epochs", ratio: bool = False, dots: bool = False
) -> Html:  # fmt: skip
    """One quantity over another, a line per run; the key is the run's number in the legend.

    Args:
        over: what runs to the right.
        ratio: equal ratios are equal distances to the right; every value has a tick.
        dots: mark every value.
    """
    height, left, bottom = 170, 46, 148
    across = np.concatenate([x for x, _ in runs.values()])
    up = np.concatenate([y for _, y in runs.values()])
    x_ticks = sorted(set(map(float, across))) if ratio else nice_ticks(0.0, float(across.max()))
    y_ticks = nice_ticks(float(up.min()), float(up.max()))
    x_end = max([*x_ticks, float(across.max())])
    low, high = min([*y_ticks, float(up.min())]), max([*y_ticks, float(up.max())])
    first = math.log(x_ticks[0]) if ratio else 0.0

    def x(value: float) -> str:
        share = (math.log(value) - first) / ((math.log(x_end) - first) or 1) if ratio else value / (x_end or 1)
        return _number(left + 4 * ratio + share * (WIDTH - left - 14 - 18 * ratio))

    def y(value: float) -> str:
        return _number(bottom - (value - low) / ((high - low) or 1) * (bottom - 12))

    marks = []
    for tick in y_ticks:
        marks.append(tag("line", x1=left, x2=WIDTH - 14, y1=y(tick), y2=y(tick), class_="grid"))
        place = {"x": left - 6, "y": _number(float(y(tick)) + 4), "text_anchor": "end"}
        marks.append(tag("text", _tick(tick, y_ticks), **place, class_="soft"))
    marks.append(tag("line", x1=left, x2=WIDTH - 14, y1=bottom, y2=bottom, class_="axis"))
    marks += [tag("text", f"{tick:g}" if ratio else _tick(tick, x_ticks), x=x(tick), y=bottom + 16, text_anchor="middle", class_="soft")
              for tick in x_ticks]  # fmt: skip
    words = []
    for number, (epochs, values) in runs.items():
        places = [(x(a), y(b)) for a, b in zip(epochs, values, strict=True)]
        marks.append(tag("polyline", points=" ".join(f"{a},{b}" for a, b in places), class_=f"run run{number % 4}"))
        marks += [tag("circle", cx=a, cy=b, r=3, class_=f"run run{number % 4}") for a, b in places if dots]
        words.append(f"line {number + 1} from {values[0]:.3g} to {values[-1]:.3g}")
    return _svg(height, f"{title} over {over}: {'; '.join(words)}", marks)


def reliability(lines: Mapping[int, tuple[np.ndarray, np.ndarray]], title: str) -> Html:
    """Observed share of positives over the mean probability of each bin, in percent; on the dashed diagonal both are equal.

    Both axes end where the largest number of the plot asks for: findings are rare, and at full length their points would
    lie on each other in a corner.
    """
    side, left = 250, 46
    bottom = 12 + side
    largest = max((float(part.max()) for line in lines.values() for part in line), default=1.0)
    top = next(end for end in (0.2, 0.4, 0.6, 0.8, 1.0) if largest <= end or end == 1.0)

    def x(value: float) -> str:
        return _number(left + value / top * side)

    def y(value: float) -> str:
        return _number(bottom - value / top * side)

    marks = []
    for tick in np.linspace(0, top, 5):
        marks.append(tag("line", x1=x(0), x2=x(top), y1=y(tick), y2=y(tick), class_="grid"))
        marks.append(tag("text", f"{100 * tick:.0f}", x=left - 6, y=_number(float(y(tick)) + 4), text_anchor="end", class_="soft"))
        marks.append(tag("text", f"{100 * tick:.0f}", x=x(tick), y=bottom + 16, text_anchor="middle", class_="soft"))
    marks.append(tag("line", x1=x(0), x2=x(top), y1=y(0), y2=y(top), class_="chance"))
    words = []
    for number, (probability, observed) in lines.items():
        places = [(x(a), y(b)) for a, b in zip(probability, observed, strict=True)]
        marks.append(tag("polyline", points=" ".join(f"{a},{b}" for a, b in places), class_=f"run run{number % 4}"))
        marks += [tag("circle", cx=a, cy=b, r=3, class_=f"run run{number % 4}") for a, b in places]
        words.append(f"line {number + 1}: " + ", ".join(f"{100 * a:.0f} said, {100 * b:.0f} found"
                                                        for a, b in zip(probability, observed, strict=True)))  # fmt: skip
    return _svg(bottom + 22, f"{title}: {'; '.join(words)}", marks)


@dataclass(frozen=True)
class Place:
    """One encoder in a picture of all of them; ``role`` as in `Interval`."""

    label: str
    across: float
    up: float = 0.0
    role: str = "encoder"
    marked: bool = False


def rank_diagram(places: Sequence[Place], critical: float, groups: Sequence[Sequence[int]], title: str) -> Html:
    """Mean ranks, best first, with a bar at the right edge over every run of encoders that are not told apart.

    Demšar's critical-difference diagram turned by a right angle, so that names have room on a phone.

    Args:
        places: ``across`` is the mean rank; in any order.
        groups: positions in ``places``.
    """
    order = sorted(range(len(places)), key=lambda k: places[k].across)
    row_of = {k: row for row, k in enumerate(order)}
    step, top, right = 34, 30, WIDTH - MARGIN - 10 * len(groups) - 6
    bottom, last = top + step * len(places), float(len(places))

    def x(rank: float) -> str:
        return _number(MARGIN + 8 + (rank - 1) / ((last - 1) or 1) * (right - MARGIN - 16))

    ticks = [float(t) for t in nice_ticks(1.0, last) if t == int(t)]
    marks = [tag("line", x1=x(tick), x2=x(tick), y1=top, y2=bottom, class_="grid") for tick in ticks]
    stop = min(1 + critical, last)
    marks.append(tag("line", x1=x(1), x2=x(stop), y1=18, y2=18, stroke_width=2, class_="zero"))
    cut = "" if stop == 1 + critical else ", longer than the axis"
    marks.append(tag("text", f"critical difference {critical:.2f}{cut}", x=MARGIN, y=12))
    for k, place in enumerate(places):
        y = top + step * row_of[k]
        soft = "soft" if place.role == "control" else None
        marks.append(tag("text", _shortened(place.label), x=MARGIN, y=y + 13, class_=soft))
        marks.append(tag("text", f"{place.across:.2f}", x=right, y=y + 13, text_anchor="end", class_=soft))
        marks.append(tag("circle", cx=x(place.across), cy=y + 24, r=4.2, stroke_width=1.6, class_=place.role))
    for number, group in enumerate(groups):
        rows = [row_of[k] for k in group]
        at = WIDTH - MARGIN - 10 * (len(groups) - number) + 5
        marks.append(tag("line", x1=at, x2=at, y1=top + step * min(rows) + 4, y2=top + step * (max(rows) + 1) - 4, stroke_width=4,
                         class_="group"))  # fmt: skip
    marks.append(tag("line", x1=MARGIN, x2=right, y1=bottom, y2=bottom, class_="axis"))
    marks += [tag("text", f"{tick:g}", x=x(tick), y=bottom + 15, text_anchor="middle", class_="soft") for tick in ticks]
    words = "; ".join(f"{places[k].label} {places[k].across:.2f}" for k in order)
    return _svg(bottom + 20, f"{title}, mean ranks: {words}", marks)


def standing_alone(parts: Sequence[tuple[str, Sequence[str], Html | None]], title: str) -> bytes:
    """An SVG file of drawings one below the other, with its own colours; equal drawings are equal bytes.

    Args:
        parts: heading, sentences and drawing (if there is one) of each.
        title: what a reader who cannot see it is told first.
    """
    marks: list[Html] = []
    y = MARGIN
    for heading, sentences, drawing in parts:
        marks.append(tag("text", heading, x=MARGIN, y=y + 14, class_="strong"))
        y += 20
        for line in (line for sentence in sentences for line in textwrap.wrap(sentence, 54)):
            marks.append(tag("text", line, x=MARGIN, y=y + 11, class_="soft"))
            y += 15
        if drawing is not None:
            height = int(re.search(r'viewBox="0 0 \d+ (\d+)"', drawing)[1])
            marks.append(Html(drawing.replace("<svg ", f'<svg x="0" y="{y + 4}" width="{WIDTH}" height="{height}" ', 1)))
            y += height + 4
        y += 18
    paper = tag("rect", width=WIDTH, height=y, fill="#fff")
    whole = tag("svg", tag("title", title), tag("style", Html(STYLE)), paper, marks, xmlns="http://www.w3.org/2000/svg",
                viewBox=f"0 0 {WIDTH} {y}", width=WIDTH, height=y, role="img")  # fmt: skip
    text = re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]", "", whole)  # what XML has no way to write
    return (text + "\n").encode()


def scatter(places: Sequence[Place], title: str, up: str) -> Html:
    """Numbered dots: cost to the right in equal ratios, ``up`` upwards with the smallest value on top; marked dots are filled.

    Args:
        places: ``across`` in seconds, above zero; ``up`` smaller is better.
    """
    height, left, bottom = 250, 46, 218
    low, high = (math.log10(f(p.across for p in places)) for f in (min, max))
    low, high = (low - 0.15, high + 0.15) if high - low < 0.3 else (low - 0.05 * (high - low), high + 0.05 * (high - low))
    ticks = nice_ticks(min(p.up for p in places), max(p.up for p in places))
    top, last = min([*ticks, *(p.up for p in places)]), max([*ticks, *(p.up for p in places)])

    def x(value: float) -> str:
        return _number(left + 8 + (math.log10(value) - low) / (high - low) * (WIDTH - left - 30))

    def y(value: float) -> str:
        return _number(20 + (value - top) / ((last - top) or 1) * (bottom - 40))

    marks = []
    for tick in ticks:
        marks.append(tag("line", x1=left, x2=WIDTH - 14, y1=y(tick), y2=y(tick), class_="grid"))
        marks.append(tag("text", _tick(tick, ticks), x=left - 6, y=_number(float(y(tick)) + 4), text_anchor="end", class_="soft"))
    marks.append(tag("line", x1=left, x2=WIDTH - 14, y1=bottom, y2=bottom, class_="axis"))
    decades = [f * 10.0**e for e in range(math.floor(low), math.ceil(high) + 1) for f in (1, 2, 5)]
    seconds = [s for s in decades if low <= math.log10(s) <= high]
    seconds = seconds if len(seconds) <= 5 else [s for s in seconds if round(math.log10(s), 9) % 1 == 0]
    marks += [tag("text", f"{s:g}", x=x(s), y=bottom + 16, text_anchor="middle", class_="soft") for s in seconds]
    marks.append(tag("text", "seconds", x=WIDTH - 14, y=bottom + 30, text_anchor="end", class_="soft"))
    for number, place in enumerate(places, start=1):
        kind = f"{place.role} {'full' if place.marked else 'hollow'}"
        marks.append(tag("circle", cx=x(place.across), cy=y(place.up), r=5, stroke_width=1.8, class_=kind))
        marks.append(tag("text", str(number), x=_number(float(x(place.across)) + 8), y=_number(float(y(place.up)) - 6)))
    words = "; ".join(f"{n}: {p.label}, {p.across:.3g} s, {up} {p.up:.2f}" for n, p in enumerate(places, start=1))
    return _svg(height, f"{title}: {words}", marks)


def _shortened(label: str, most: int = 34) -> str:
    return label if len(label) <= most else label[: most - 1] + "…"


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


def picture(image: Image.Image | Path, alt: str, width: int) -> Html:
    """An image, or the file of one, as a data URI, shrunk to ``width`` pixels; JPEG, since radiographs are noise to PNG."""
    from PIL import Image

    image = (Image.open(image) if isinstance(image, Path) else image).convert("RGB")
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
    from PIL import Image

    whole = Image.open(path)
    band, rest = divmod(whole.height, max(sets, 1))
    side = (band - 8) // 2
    if rest or (band - 8) % 2 or side <= 0 or whole.width % side:
        return None
    strips = [whole.crop((0, k * band + row * side, whole.width, k * band + (row + 1) * side))
              for k in range(sets) for row in (0, 1)]  # fmt: skip
    return list(zip(strips[::2], strips[1::2], strict=True))
