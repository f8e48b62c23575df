"""View, sex and age from DICOM headers, for releases whose tables do not hold them."""

import math
import warnings
from pathlib import Path

from . import columns
from .files import File, opened

VIEWS = {"PA": "PA", "AP": "AP", "LL": "LATERAL", "RL": "LATERAL", "LATERAL": "LATERAL"}


def read(file: File, otherwise: str = "UNKNOWN") -> tuple[str, str, float]:
    """View, sex and age (years). A picture, or a header that says nothing or cannot be read, has the view `otherwise`."""
    import pydicom

    if isinstance(file, Path) and not file.is_file():  # not there, or a pipe, which would be waited for
        return otherwise, "", math.nan
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # ages are written "58", which the standard would write "058Y"
            with opened(file) as source:
                tags = pydicom.dcmread(source, stop_before_pixels=True, specific_tags=["ViewPosition", "PatientSex", "PatientAge"])
            view, sex, age = (str(tags.get(name, "") or "") for name in ("ViewPosition", "PatientSex", "PatientAge"))
    except Exception:  # radbench.index says what is wrong with the file; here only its header is of interest
        return otherwise, "", math.nan
    return VIEWS.get(view.strip().upper(), otherwise), columns.sex(sex), columns.age(age)
