"""Sections of a MIMIC-CXR report, by the rules of the data set's own scripts.

The rules and tables are those of https://github.com/MIT-LCP/mimic-cxr (txt/section_parser.py and create_section_files.py,
MIT licence, (c) 2019 MIT Laboratory for Computational Physiology): a header is a line that starts with one blank, then
capitals and a colon; when a name repeats, the last section that is not empty counts. 54 studies have sections under wrong
names or without any; the scripts write no sections for them, and neither does this.
"""

import re

HEADER = re.compile(r"\n ([A-Z ()/,-]+):\s")
NAMES = {
    "preamble": "preamble", "impression": "impression", "comparison": "comparison", "indication": "indication",
    "findings": "findings", "examination": "examination", "technique": "technique", "history": "history",
    "comparisons": "comparison", "clinical history": "history", "reason for examination": "indication",
    "notification": "notification", "reason for exam": "indication", "clinical information": "history", "exam": "examination",
    "clinical indication": "indication", "conclusion": "impression", "chest, two views": "findings",
    "recommendation(s)": "recommendations", "type of examination": "examination", "reference exam": "comparison",
    "patient history": "history", "addendum": "addendum", "comparison exam": "comparison", "date": "date", "comment": "comment",
    "findings and impression": "impression", "wet read": "wet read", "comparison film": "comparison",
    "recommendations": "recommendations", "findings/impression": "impression", "pfi": "history",
    "recommendation": "recommendations", "wetread": "wet read", "ndication": "impression", "impresson": "impression",
    "imprression": "impression", "imoression": "impression", "impressoin": "impression", "imprssion": "impression",
    "impresion": "impression", "imperssion": "impression", "mpression": "impression", "impession": "impression",
    "findings/ impression": "impression", "finding": "findings", "findins": "findings", "findindgs": "findings",
    "findgings": "findings", "findngs": "findings", "findnings": "findings", "finidngs": "findings", "idication": "indication",
    "reference findings": "findings", "comparision": "comparison", "comparsion": "comparison", "comparrison": "comparison",
    "comparisions": "comparison",
}  # fmt: skip
PARTS_OF_NAMES = ("impression", "findings", "history", "comparison", "addendum")
VIEW_TITLES = re.compile(
    "chest|portable|pa and lateral|lateral and pa|ap and lateral|lateral and ap|frontal and|two views|frontal view|pa view|ap view"
    "|one view|lateral view|bone window|frontal upright|frontal semi-upright|ribs|pa and lat"
)
WRITTEN = ("impression", "findings", "last_paragraph", "comparison")  # columns of mimic_cxr_sectioned.csv after `study`
WITHOUT_SECTIONS = frozenset((
    "s50913680", "s59363654", "s59279892", "s59768032", "s57936451", "s50058765", "s53356173", "s53202765", "s50808053", "s51966317",
    "s50743547", "s56451190", "s59067458", "s59215320", "s55124749", "s54365831", "s59087630", "s58157373", "s56482935", "s58375018",
    "s54654948", "s55157853", "s51491012",  # misnamed
    "s50525523", "s57564132", "s59982525", "s53488209", "s54875119", "s50196495", "s56579911", "s52648681", "s59889364", "s53514462",
    "s59505494", "s53182247", "s51410602", "s56412866", "s54986978", "s59003148", "s57150433", "s56760320", "s59562049", "s52674888",
    "s55258338", "s59330497", "s52119491",  # cut by position
    "s58235663", "s50798377", "s54168089", "s53071062", "s56724958", "s54231141", "s53607029", "s52035334",  # no findings at all
))  # fmt: skip


def sections(study: str, text: str) -> dict[str, str]:
    """{section: text} of a report for the sections in WRITTEN; `study` is the file's stem (`s50414267`)."""
    if study in WITHOUT_SECTIONS:
        return {}
    return {name: part.strip() for name, part in _split(text) if name in WRITTEN}  # a later section of the same name wins


def _split(text: str) -> list[tuple[str, str]]:
    found = []
    header = HEADER.search(text)
    if header is None:
        found.append(("full report", text))
    else:
        found.append(("preamble", text[: header.start(1)]))
    while header is not None:
        name, start = header[1].lower().strip(), header.end()
        line = max(text.find("\n", start), start)  # a header directly below a header is part of the first one's text
        header = HEADER.search(text, line)
        found.append((_normalised(name), text[start : header.start() if header else len(text)]))
    found = [(name, part) for name, part in found if part.strip() or name not in ("impression", "findings")]
    if not {"impression", "findings"} & {name for name, _ in found} and "\n \n" in found[-1][1]:
        name, (first, rest) = found[-1][0], found[-1][1].split("\n \n", 1)
        found[-1:] = [(name, first), ("last_paragraph", rest)]
    return found


def _normalised(name: str) -> str:
    if name in NAMES:
        return NAMES[name]
    part = next((part for part in PARTS_OF_NAMES if part in name), None)
    return part or ("findings" if VIEW_TITLES.search(name) else name)
