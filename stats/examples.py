"""Examples on the page: segmented test images and written reports, chosen by one rule for all encoders."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from .figures import example_bands, picture
from .page import Html, details, join, tag
from .predictions import first_replicate, read_predictions
from .run import Run
from .scores import Section

EXAMPLE_QUANTILES = (0.05, 0.35, 0.65, 0.95)  # of the reference's ROUGE-L: a poor, two middling and a good report
ABOVE = "the reasons stand at the top of the page"
HOW_TO_READ_PICTURES = (
    "The same test images for every encoder: first the reference's structures, then what each encoder's decoder "
    "found. Share these pictures only as the data themselves may be shared."
)


def segmentations_section(run: Run) -> Iterator[Html]:
    """Test images with the reference's structures and each encoder's, and contact sheets of generated data."""
    yield tag("p", HOW_TO_READ_PICTURES)
    if not run.sections[4]:
        yield tag("p", "Segmentation is not part of this run.")
    for one in run.sections[4]:
        yield tag("h3", one.title)
        yield from _examples(run, one)
    first = True
    for name, sidecar in run.sidecars.items():
        if name.startswith("data/") and "contact_sheet.png" in (sidecar.content.get("files") or {}):
            title = run.title(name.removeprefix("data/"))
            sheet = sidecar.verified("contact_sheet.png")
            caption = tag("figcaption", "Generated radiographs with the findings that each was given.")
            shown = picture(sheet, f"First images of {title} with their positive findings", 1100)
            yield details(f"Contact sheet: {title}", tag("figure", caption, shown), open_=first)
            first = False


def _examples(run: Run, one: Section) -> Iterator[Html]:
    found: dict[str, Path] = {}
    for encoder in run.encoders:
        sidecar = run.sidecars.get(f"segmentation/{one.dataset}/{encoder.name}")
        if sidecar and sidecar.state == "ok" and "examples.png" in (sidecar.content.get("files") or {}):
            found[encoder.title] = sidecar.verified("examples.png")
    missing = [encoder.title for encoder in run.encoders if encoder.title not in found]
    bands = {title: example_bands(path, len(one.columns)) for title, path in found.items()}
    if found and all(bands.values()):
        figures = []
        for k, structures in enumerate(one.columns.values()):
            reference, *_ = next(iter(bands.values()))[k]
            strips = [tag("p", "Reference", class_="strip"), picture(reference, f"{structures}: reference", 640)]
            for title, of_encoder in bands.items():
                found_by = picture(of_encoder[k][1], f"{structures}: found by {title}", 640)
                strips += [tag("p", title, class_="strip"), found_by]
            figures.append(tag("figure", tag("figcaption", tag("strong", structures)), strips))
        yield tag("div", figures, class_="figures wide")
    elif found:
        caption = ". Per structure set: above the reference, below what was found."
        figures = [tag("figure", tag("figcaption", tag("strong", title), caption),
                       picture(path, f"Test images with structures, {title}", 640))
                   for title, path in found.items()]  # fmt: skip
        yield tag("div", figures, class_="figures wide")
    if missing:
        yield tag("p", f"No pictures of {', '.join(missing)}; {ABOVE}.", class_="soft")


def reports_section(run: Run) -> Iterator[Html]:
    """A few test studies: the reference report and every encoder's."""
    yield tag(
        "p",
        f"Chosen by the ROUGE-L of {run.reference.title} or, without it, of the first encoder that has "
        "reports: one near the worst, two in the middle, one near the best. ",
        tag("span", "Marked words", class_="off"),
        " do not stand in the reference in that order. Share these texts only as the data may be shared.",
    )
    if not run.sections[5]:
        yield tag("p", "Report generation is not part of this run.")
    for one in run.sections[5]:
        yield tag("h3", one.title)
        rows: dict[str, pd.DataFrame] = {}  # by encoder title
        for encoder in run.encoders:
            folder = run.results / "report_generation" / one.dataset / encoder.name
            if (folder / "meta.json").is_file():
                predictions = read_predictions("report_generation", one.dataset, folder)
                if not predictions.absent:
                    rows[encoder.title] = first_replicate(predictions.rows)
        missing = [encoder.title for encoder in run.encoders if encoder.title not in rows]
        yield from _report_examples(run, rows)
        if missing:
            yield tag("p", f"No reports of {', '.join(missing)}; {ABOVE}.", class_="soft")


def _report_examples(run: Run, rows: Mapping[str, pd.DataFrame]) -> Iterator[Html]:
    if not rows:
        return
    chosen = rows.get(run.reference.title, next(iter(rows.values())))
    order = np.argsort(chosen["rouge_l"].to_numpy(), kind="stable")
    places = list(dict.fromkeys(int(order[round(q * (len(order) - 1))]) for q in EXAMPLE_QUANTILES))
    for number, place in enumerate(places, start=1):
        reference, image = chosen["reference"].iloc[place], chosen["image_id"].iloc[place]
        boxes = [tag("div", tag("h5", "Reference"), tag("p", reference or "(empty)"), class_="truth")]
        for title, of_encoder in rows.items():
            row = of_encoder[of_encoder["image_id"] == image].iloc[0]
            boxes.append(tag("div", tag("h5", title, " ", tag("small", f"ROUGE-L {100 * row['rouge_l']:.0f}")),
                             tag("p", _marked(reference, row["hypothesis"]))))  # fmt: skip
        yield join(tag("h4", f"Example {number}"), tag("div", boxes, class_="texts"))


def _marked(reference: str, hypothesis: str) -> Html:
    """The hypothesis with the words marked that are not in the reference in the same order."""
    if not hypothesis.strip():
        return join("(empty)")
    wanted, words = reference.split(), hypothesis.split()
    parts = []
    for kind, _, _, start, stop in difflib.SequenceMatcher(None, wanted, words, autojunk=False).get_opcodes():
        if stop > start:
            text = " ".join(words[start:stop])
            parts += [text if kind == "equal" else tag("span", text, class_="off"), " "]
    return join(parts[:-1])
