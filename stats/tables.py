"""Tables with intervals and tests, as CSV, LaTeX and Markdown: the paper's six from a run, or your own from a CSV.

    python -m stats.tables --spec spec.json --out results/tables
    python -m stats.tables --csv mine.csv --out tables

With ``--spec`` (the workflow): table1 ... table6, ``paper_vs_measured``, a one-page ``summary``, and five supplementary
tables: calibration, subgroups, ranks, learning_curves and overlap. With ``--csv``: classification, segmentation or reports,
significance, and the supplementary ones without overlap, from predictions made anywhere. `docs/statistics.md` explains the
numbers. Nothing is left out silently: what was not run is a row with a reason.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .compare import Settings, enough_resamples
from .errors import SettingError, SpecError, StatsError
from .facts import DATA_COLUMNS, ENCODER_COLUMNS, table1, table2
from .overlaps import overlap_table, read_overlap, with_copies
from .own import write_own
from .provenance import Sidecar, check_folder, csv_bytes, forget, read_sidecar, sha256, write_artifact
from .published import PUBLISHED, Published
from .scores import SCORE_COLUMNS, TASKS, Encoder, read_section, refuse_mixed_versions, score_cells, score_panel
from .significance import SIGNIFICANCE_COLUMNS, significance_panels, significance_rows
from .supplement import rank_figure, supplementary_tables
from .typeset import Panel, Table
from .verdicts import VERDICT_COLUMNS, VERDICTS, paper_vs_measured, summarise, summary_page, verdicts_markdown

CAPTIONS = {
    1: "Images used to pretrain: counted from the indexes",
    2: "Encoders: facts of the cards, parameters and tokens measured",
    3: "Classification with a linear probe on frozen features, points",
    4: "Segmentation on a frozen encoder, points; mean Dice unless a column says otherwise",
    5: "Report generation, points",
    6: "Significance of the reference encoder's differences",
}
#: File names of the tables of somebody's own predictions, which have no number.
OWN_NAMES = {3: "classification", 4: "segmentation", 5: "reports", 6: "significance"}
PAGE = "page"  # their folder below --out; a run's is results/report
OWN_CAPTIONS = CAPTIONS | {3: "Classification, points", 4: "Segmentation, points; mean Dice unless a column says otherwise"}


def write_tables(spec_path: Path | str, out: Path | str) -> Sidecar:
    """Read the spec and everything it names, derive all tables, write them; returns the sidecar.

    Raises:
        StatsError: see `stats.errors`; nothing is written then.
    """
    started = time.perf_counter()
    spec = read_spec(Path(spec_path))
    own = bool(spec.get("own"))
    published = Published(spec.get("published") or PUBLISHED)
    sidecars: list[Sidecar] = []
    encoders = read_encoders(spec, sidecars)
    sections = {n: [read_section(n, one, sidecars) for one in spec.get(f"table{n}") or []] for n in TASKS}
    copies, compared = read_overlap(spec.get("overlap"), sidecars)
    sections = {n: with_copies(of_table, copies, compared, spec) for n, of_table in sections.items()}
    for of_table in sections.values():
        refuse_mixed_versions(of_table)
    everything = [section for of_table in sections.values() for section in of_table]

    tables: list[Table] = []

    def add(number: int, columns: Sequence[str], rows: Sequence[Mapping[str, Any]], panels: Sequence[Panel]) -> None:
        name = OWN_NAMES[number] if own else f"table{number}"
        tables.append(Table(name, name.capitalize() if own else f"Table {number}", (OWN_CAPTIONS if own else CAPTIONS)[number],
                            columns, rows, panels))  # fmt: skip

    data_rows, data_panels = table1(spec.get("table1") or {}, published, sidecars)
    encoder_rows, encoder_panels = table2(encoders, published)
    if not own:
        add(1, DATA_COLUMNS, data_rows, data_panels)
        add(2, ENCODER_COLUMNS, encoder_rows, encoder_panels)
    for number, of_table in sections.items():
        by_section = [score_cells(section, encoders, published) for section in of_table]
        panels = [score_panel(s, encoders, one, published) for s, one in zip(of_table, by_section, strict=True)]
        if panels or not own:
            add(number, SCORE_COLUMNS, [cell.row() for one in by_section for cell in one], panels)
    tests = significance_rows(everything, encoders, spec["reference"], published)
    reference = next(encoder for encoder in encoders if encoder.name == spec["reference"])
    add(6, SIGNIFICANCE_COLUMNS, tests, significance_panels(tests, reference, everything, published) if everything else [])
    tables += supplementary_tables(everything, encoders)
    if not own:
        tables.append(overlap_table(everything, encoders, copies, compared))

    drawn = {"ranks.svg": rank_figure(everything, encoders, spec["reference"])}
    files = drawn | {name: content for table in tables for name, content in table.files(spec.get("title", "")).items()}
    facts: dict[str, Any] = {"reference": spec["reference"], "summary": f"{len(tables)} tables of {len(encoders)} encoders."}
    if not own:
        verdicts = paper_vs_measured(published, data_rows, encoder_rows, everything, encoders, tests)
        summary = summarise(verdicts)
        files["paper_vs_measured.csv"] = csv_bytes(VERDICT_COLUMNS, verdicts)
        files["paper_vs_measured.md"] = verdicts_markdown(verdicts, summary).encode()
        files |= summary_page(verdicts, everything, encoders, tests).files(spec.get("title", ""), only=("tex", "md"))
        facts |= {"verdicts": {verdict: sum(v["verdict"] == verdict for v in verdicts) for verdict in VERDICTS}, "summary": summary}
    parents = list({sidecar.path.as_posix(): sidecar for sidecar in sidecars}.values())
    forget(Path(out), ("tables",), keep=files)
    return write_artifact(
        out, "tables", files,
        key_parts={"spec": spec, "published": {file.name: sha256(file.read_bytes()) for file in published.files}},
        parents=parents, facts=facts, started=started,
    )  # fmt: skip


def read_spec(path: Path) -> dict[str, Any]:
    """The specification of radbench.plan; SpecError when it is no JSON object or lacks what it must have."""
    try:
        spec = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise SpecError(str(path), str(error), "a JSON object", "write the spec again") from None
    for key in ("reference", "encoders"):
        if not spec.get(key):
            raise SpecError(str(path), f"keys {sorted(spec)}", f"a key {key!r}", "add it")
    if spec["reference"] not in spec["encoders"]:
        raise SpecError(str(path), f"reference {spec['reference']!r}", f"one of {spec['encoders']}", "name one of them")
    return spec


def read_encoders(spec: Mapping[str, Any], sidecars: list[Sidecar]) -> list[Encoder]:
    """The encoders of a specification, in its order; the sidecars that were read are appended to `sidecars`."""
    encoders = []
    for name in spec["encoders"]:
        addresses = (spec.get("cards") or {}).get(name) or []
        addresses = [addresses] if isinstance(addresses, str) else addresses
        found = [read_sidecar(address) for address in addresses if Path(address).is_file()]
        sidecars.extend(found)
        card: Mapping[str, Any] = {}
        measured: Mapping[str, Any] = {}
        reason = f"no features of {name}"
        if found:
            sidecar = next((one for one in found if one.state == "ok"), found[0])  # a gap knows the card, not what was trained
            card, measured = sidecar.facts.get("card") or {}, sidecar.facts.get("measured") or {}
            reason = sidecar.reason
        control = name in (spec.get("controls") or []) or bool(card.get("control"))
        encoders.append(Encoder(name, card, measured, control, reason))
    return encoders


OWN_HELP = """
your own predictions (--csv):
  Long files, one row per prediction, CSV (comma or semicolon) or Parquet; several files are read as one.
  Every file needs  encoder, image_id  and one of
    classification      label, target (0 or 1), score (any number; larger = more likely positive)
    segmentation        structure, dice (0 to 1; where the reference lacks the structure: empty, or 0 if it was drawn nonetheless)
                        [structure_set: which structures form one column; hd95 (share of the image's diagonal), nsd, ref_area,
                        pred_area]
    reports             reference, hypothesis: BLEU-4 and ROUGE-L are counted from the two texts (tokenizer "words")
                        [your own counts instead, all of them: rouge_l, rouge_l_coco, bleu_match_1..4, bleu_guess_1..4,
                        hyp_len, ref_len; and rg_er, chexbert_ref_0..13, chexbert_hyp_0..13; see docs/formats.md]
  Optional everywhere   dataset, replicate (fold or seed, a whole number), patient_id (in every row or in none; without it
                        images count as independent, and every table says so), study_id (of a patient), sex, age_band, view,
                        site (subgroups)
  Other columns are not read, and named.
  Every encoder must have the same samples with the same truth. Which ones are controls is told by --controls, with the
  names of the column encoder: --controls "Random ViT" "Raw pixels". Replicates are folds of one training set (all of them, once each: each
  learned from all folds but its own and scored the same test samples) or seeds; say which by --replicates, because folds resemble
  each other.

  Example: encoder,image_id,patient_id,label,target,score
           mine,a.png,p1,Effusion,1,0.83
           theirs,a.png,p1,Effusion,1,0.61

  Written to --out: classification, segmentation or reports (as far as there are data), significance, calibration, ranks,
  subgroups, learning_curves as .csv (all digits), .tex (input it; its head says how) and .md; ranks.svg, a critical-difference
  diagram. page/index.html: the same on one page, with plots, for a browser; it fetches nothing and names no patient.
  Below --out/work: the predictions as read, with their ids, and the statistics behind the tables.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line; a named error ends with its sentence and status 1, not with a stack trace."""
    parser = argparse.ArgumentParser(prog="python -m stats.tables", description=__doc__.splitlines()[0], epilog=OWN_HELP,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--spec", type=Path, help="specification written by the workflow")
    source.add_argument("--csv", type=Path, nargs="+", metavar="FILE", help="predictions of your own, see below")
    parser.add_argument("--out", required=True, type=Path, help="folder to write into")
    options = parser.add_argument_group("with --csv")
    options.add_argument("--reference", metavar="NAME",
                         help="encoder that is tested against the others (default: the first that is no control)")  # fmt: skip
    options.add_argument("--controls", metavar="NAME", nargs="+",
                         help="encoders that know nothing (random weights, raw pixels): set apart in every table, never the best "
                         "other encoder that the reference is tested against, never bold or underlined")  # fmt: skip
    options.add_argument("--replicates", choices=("folds", "seeds"),
                         help="what the column replicate counts; of folds it is known how much of their training they share")  # fmt: skip
    options.add_argument("--resamples", type=int, metavar="B", help="bootstrap resamples, at least 50 (default 2000)")
    options.add_argument("--seed", type=int, help="of every draw (default 0)")
    options.add_argument("--unit", choices=("patient", "study", "image"), help="what is resampled (default patient)")
    options.add_argument("--margin", type=float, help="fraction below which a difference does not matter (default 0.02)")
    options.add_argument("--stratified", action="store_true", default=None, help="resample within sets of positive labels")
    given = vars(parser.parse_args(arguments))
    spec, csvs, out = (given.pop(name) for name in ("spec", "csv", "out"))
    reference, controls, replicates = (given.pop(name) for name in ("reference", "controls", "replicates"))
    given = {name: value for name, value in given.items() if value is not None}
    if spec and (given or reference or controls or replicates):
        parser.error("--reference, --controls, --replicates, --resamples, --seed, --unit, --margin and --stratified belong to --csv; "
                     "a spec has its own")  # fmt: skip
    try:
        _writable(out)
        if csvs:
            settings = Settings(**given | {"resamples": enough_resamples(given.get("resamples", 2000))})
            spec = write_own(csvs, out / "work", reference, settings, controls or (), replicates)
            for file, columns in read_spec(spec)["unread"].items():
                print(f"{file}: columns that are not read: {', '.join(columns)}")
        written = write_tables(spec, out)
        print(f"{written.folder}: {written.facts['summary']}")
        if csvs:
            from .report import write_report  # the page reads tables, so it cannot be imported above

            print(f"{write_report(spec, out / PAGE).folder / 'index.html'}: the same on one page")
    except StatsError as error:
        sys.exit(f"{type(error).__name__}: {error}")


def _writable(out: Path) -> None:
    """A place for the tables, with folders in it where folders will be.

    Raises:
        SettingError: see `stats.provenance.check_folder`, or a file stands where a folder will be.
    """
    check_folder(out)
    for inner in (out / "work", out / PAGE):
        if inner.exists() and not inner.is_dir():
            raise SettingError("--out", f"{out}, in which {inner.name} is a file", "a folder", "name another folder")


if __name__ == "__main__":
    main()
