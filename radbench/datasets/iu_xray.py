"""IU X-Ray, Indiana University / Open-i (Demner-Fushman et al. 2016, doi:10.1093/jamia/ocv080; openi.nlm.nih.gov).

Two distributions. NLM: `ecgen-radiology/<uid>.xml` and `CXR<uid>_IM-*.png`, extracted or in NLMCXR_reports.tgz and NLMCXR_png.tgz.
Kaggle ("chest-xrays-indiana-university"): `indiana_reports.csv`, `indiana_projections.csv` and `<uid>_IM-*.dcm.png`. Only the
latter tells frontal from lateral; its projections table laid beside NLM's files serves these too, without it their views are
UNKNOWN. Each report counts as one patient. Removed names stand as XXXX. No split is given: the paper tests on all.
"""

import dataclasses
import math
import re
from pathlib import Path
from xml.etree import ElementTree

from ..errors import DataError
from . import Record, columns, frontal_only, unlisted
from .files import File, Tree

LABELS = ()
RELEASES = {"NLM": {"images": 7_470, "studies": 3_955}, "Kaggle": {"images": 7_466, "studies": 3_851}}
VIEWS = {"frontal": "FRONTAL", "lateral": "LATERAL"}
SECTIONS = ("findings", "impression")
IMAGE = re.compile(r"(\d+_IM-[\d-]+?)(?:\.dcm)?(?:\.png)?$", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Options:
    """What the configuration may say of IU X-Ray."""

    section: str = "findings"  # or impression
    distribution: str = "auto"  # nlm or kaggle; auto: Kaggle's when its tables are there
    frontal_only: bool = False


def records(root: Path, options: Options) -> list[Record]:
    """One record per image that a report names; reports without images are passed over.

    Raises:
        DataError: neither distribution is there, an XML file is damaged, a projection is unknown, or the frontal images are
            asked for and no table of projections is there.
    """
    columns.choice(root, "section", options.section, SECTIONS)
    columns.choice(root, "distribution", options.distribution, ("auto", "nlm", "kaggle"))
    tree = Tree(root)
    kaggle = bool(tree.matching(r"indiana_reports\.csv(\.gz)?")) if options.distribution == "auto" else options.distribution == "kaggle"
    views = _projections(tree) if kaggle or tree.matching(r"indiana_projections\.csv(\.gz)?") else {}
    if options.frontal_only and not views:
        raise tree.missing("indiana_projections.csv", "NLM's files do not say which images are frontal: add the table of the Kaggle copy")
    listed = _kaggle(tree, options.section) if kaggle else _nlm(tree, options.section)
    files, others = {}, []
    for name, file in tree.lookup(1, (".png",)).items():
        if match := IMAGE.search(file.name):
            files.setdefault(match[1].upper(), file)
        else:
            others.append(unlisted(name, file))
    if not files:
        raise tree.missing("<uid>_IM-*.png below it", "download NLMCXR_png.tgz, or the Kaggle copy")
    found = []
    for study, image, report in listed:
        view = views.get(image, "UNKNOWN")
        found.append(Record(
            image_id=image, patient_id=study, study_id=study, view=view, split="", site="", sex="", age=math.nan,
            path=files.get(image) or root / f"{image}.png", labels={}, masks=(), report=report,
            left_out=frontal_only(options.frontal_only, view),
        ))  # fmt: skip
    named = {record.image_id for record in found}
    return found + [unlisted(image, file) for image, file in sorted(files.items()) if image not in named] + others


def _projections(tree: Tree) -> dict[str, str]:
    file = tree.one(r"indiana_projections\.csv(\.gz)?", "indiana_projections.csv")
    table = columns.read(file, ["uid", "filename", "projection"])
    unknown = set(table["projection"].str.lower()) - set(VIEWS)
    if unknown:
        raise DataError(file, f"unknown projection {sorted(unknown)[0]!r}", expected=["Frontal", "Lateral"])
    return {_key(file, name): VIEWS[view.lower()] for name, view in zip(table["filename"], table["projection"], strict=True)}


def _key(where: File, name: str) -> str:
    """`1_IM-0001-4001` of `1_IM-0001-4001.dcm.png` and of `CXR1_1_IM-0001-4001`."""
    match = IMAGE.search(name)
    if match is None:
        raise DataError(where, f"the image name {name!r}", expected="like 1_IM-0001-4001.dcm.png")
    return match[1].upper()


def _kaggle(tree: Tree, section: str) -> list[tuple[str, str, str]]:
    """(uid, image, report) of every row of indiana_projections.csv."""
    file = tree.one(r"indiana_reports\.csv(\.gz)?", "indiana_reports.csv")
    table = columns.read(file, ["uid", section])
    texts = dict(zip(table["uid"], table[section].str.split().str.join(" "), strict=True))
    images = tree.one(r"indiana_projections\.csv(\.gz)?", "indiana_projections.csv")
    rows = columns.read(images, ["uid", "filename"])
    return [(uid, _key(images, name), texts.get(uid, "")) for uid, name in zip(rows["uid"], rows["filename"], strict=True)]


def _nlm(tree: Tree, section: str) -> list[tuple[str, str, str]]:
    """(uid, image, report) of every parentImage of the XML reports."""
    reports = tree.matching(r"\d+\.xml", compressed=True)
    if not reports:
        raise tree.missing("ecgen-radiology/<uid>.xml or indiana_reports.csv", "download NLMCXR_reports.tgz")
    found = []
    for file in sorted(reports, key=lambda file: int(file.name.split(".")[0])):
        content = columns.content(file)
        try:
            if b"<!ENTITY" in content:
                raise DataError(file, "declares XML entities", fix="this is not the owner's file")
            document = ElementTree.fromstring(content)
        except ElementTree.ParseError as error:
            raise DataError(file, f"not XML ({error})", fix="download NLMCXR_reports.tgz again") from None
        texts = {part.get("Label", "").lower(): " ".join("".join(part.itertext()).split()) for part in document.iter("AbstractText")}
        uid = file.name.split(".")[0]
        found += [(uid, _key(file, image.get("id", "")), texts.get(section, "")) for image in document.iter("parentImage")]
    return found
