"""Write an example folder: `python -m radbench.datasets.phantom --root DIR`."""

from __future__ import annotations

import argparse
from pathlib import Path

from ...errors import run_entry_point
from .sheet import contact_sheet
from .writing import generate


def _site_shares(text: str) -> dict[str, float]:
    try:
        return {name: float(share) for name, share in (part.split("=") for part in text.split(","))}
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} gives no share of each scanner; write A=0.7,B=0.3") from None


def main() -> None:
    parser = argparse.ArgumentParser(description="Write an example folder of phantom chest radiographs.")
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--patients", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=192, help="rows of an image")
    parser.add_argument("--sites", type=_site_shares, default={"A": 1.0}, help="share of each scanner: A=0.7,B=0.3")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--sheet", type=Path, help="also draw a contact sheet here")
    arguments = parser.parse_args()
    generate(
        arguments.root,
        patients=arguments.patients,
        seed=arguments.seed,
        size=arguments.size,
        sites=arguments.sites,
        workers=arguments.workers,
    )
    if arguments.sheet is not None:
        contact_sheet(arguments.root, arguments.sheet)


if __name__ == "__main__":
    run_entry_point(main)
