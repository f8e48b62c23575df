"""View, sex and age from DICOM headers, for releases whose tables do not hold them."""

import math
import warnings
from pathlib import Path

from .. import dicom
from . import columns
from .files import File, opened

WANTED = ("ViewPosition", "PatientSex", "PatientAge")
VIEWS = {"PA": "PA", "AP": "AP", "LL": "LATERAL", "RL": "LATERAL", "LATERAL": "LATERAL"}


def read(file: File, otherwise: str = "UNKNOWN", unread: str | None = None) -> tuple[str, str, float]:
    """View, sex and age (years). A picture, or a header that says nothing, has the view `otherwise`.

    A file that is not there, or whose header cannot be read, has the view `unread` where that is given.
    """
    import pydicom

    if isinstance(file, Path) and not file.is_file():  # not there, or a pipe, which would be waited for
        return otherwise if unread is None else unread, "", math.nan
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # ages are written "58", which the standard would write "058Y"
            with opened(file) as source:
                if not dicom.looks_like(source.read(132), file.suffix):
                    return otherwise, "", math.nan
                source.seek(0)
                # force: de-identifiers cut the preamble off, and radbench.dicom reads such files
                tags = pydicom.dcmread(source, stop_before_pixels=True, specific_tags=[*WANTED, "Rows"], force=True)
            if "Rows" not in tags:
                raise ValueError("no header of an image")
            view, sex, age = (str(tags.get(name, "") or "") for name in WANTED)
    except Exception:  # radbench.index says what is wrong with the file; here only its header is of interest
        return otherwise if unread is None else unread, "", math.nan
    return VIEWS.get(view.strip().upper(), otherwise), columns.sex(sex), columns.age(age)
