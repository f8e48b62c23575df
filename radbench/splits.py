"""Which images are for training, validation and test, and the five folds of train and val. Always by patient, always as id lists.

An owner's split is kept; where it has no val, a tenth of its training patients becomes val. Without one, patients are
divided by `SHARES` with a seed. Whether a file can be opened has no part in it, and a patient more or less, or other findings,
move few of the others: two copies of a data set of which one lacks a file have the same splits.
`split_lists` of the configuration take the place of both: three files of ids, as every index publishes them in `splits/`, so that one
group can work on exactly another's images.
"""

import hashlib
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from . import artifact
from .errors import DataError
from .protocol import SHARES

FOLDS = 5
VAL_SHARE_OF_TRAIN = 0.1  # carved out when the owner gives train and test only


def assign(
    table: pd.DataFrame, seed: int, shares: Mapping[str, float] = SHARES, where: object = "the split"
) -> tuple[list[str], list[int]]:
    """Split and fold (-1 in test) of each image, by patient.

    Args:
        table: columns `patient_id`, `split` (the owner's; empty anywhere means that there is none) and `labels.*`.
        where: the data set's root or its lists, for the error.

    Raises:
        DataError: a given split puts images of one patient into two parts.
    """
    if table["split"].ne("").all():
        grouped = table.groupby("patient_id")["split"]
        if (apart := grouped.nunique() > 1).any():
            patient = apart.index[apart.to_numpy()][0]
            parts = " and ".join(sorted(set(table["split"][table["patient_id"] == patient])))
            raise DataError(where, f"{int(apart.sum())} patients lie in two splits, such as {patient} in {parts}",
                            expected="one split per patient", fix="mend the lists, or give split_lists of your own")  # fmt: skip
        of_patient = grouped.first()
        if "val" not in set(of_patient):
            train = of_patient.index[of_patient == "train"]
            parts = {"val": VAL_SHARE_OF_TRAIN, "train": 1 - VAL_SHARE_OF_TRAIN}
            of_patient.update(_deal(train, table, parts, f"{seed} val"))
    else:
        of_patient = _deal(table["patient_id"].unique(), table, shares, f"{seed} split")
    fold_of = _deal(of_patient.index[of_patient != "test"], table, dict.fromkeys(range(FOLDS), 1 / FOLDS), f"{seed} fold").to_dict()
    return table["patient_id"].map(of_patient).tolist(), [fold_of.get(patient, -1) for patient in table["patient_id"]]


def _rarest_label(table: pd.DataFrame) -> pd.Series:
    """Per patient the rank of the rarest label that any of its images is positive for; the number of labels without one."""
    columns = [name for name in table.columns if name.startswith("labels.")]
    positive = (table[columns] == 1).groupby(table["patient_id"]).any()
    order = positive.sum().sort_values(kind="stable").index
    ranks = positive[order].to_numpy(dtype=bool)
    return pd.Series(np.where(ranks.any(axis=1), ranks.argmax(axis=1) if len(order) else 0, len(order)), index=positive.index)


def _deal(patients: Iterable[str], table: pd.DataFrame, shares: Mapping[Hashable, float], draw: str) -> pd.Series:
    """Part by patient: each part has its share of the patients of each rarest finding among them, the rarest dealt first.

    How many of a finding go to a part is dealt in turn, to the part that lags most behind its share. Who they are is said by a hash of
    (draw, patient), which is that patient's own: others that come or go, or that have other findings, move only who lies at a border.
    """
    patients = np.array(sorted(patients))
    keys = np.array([hashlib.sha256(f"{draw} {patient}".encode()).hexdigest() for patient in patients], dtype=str)
    ranks = _rarest_label(table[table["patient_id"].isin(patients)]).reindex(patients).to_numpy()
    patients, ranks = patients[order := np.lexsort((keys, ranks))], ranks[order]
    names, given = list(shares), np.zeros(len(shares))
    wanted, turns = np.array(list(shares.values())), np.empty(len(patients), dtype=int)
    for count in range(len(patients)):
        turns[count] = np.argmax(np.round(wanted * (count + 1) - given, 9))  # ties: in the order of the shares
        given[turns[count]] += 1
    stretches = np.split(turns, np.flatnonzero(np.diff(ranks)) + 1)
    dealt = np.concatenate([np.sort(stretch) for stretch in stretches]) if len(turns) else turns
    return pd.Series([names[number] for number in dealt], index=patients, dtype=object)


def write(folder: Path, table: pd.DataFrame) -> None:
    """Publish `splits/{train,val,test}.txt`: one image id per line, sorted."""
    (folder / "splits").mkdir(exist_ok=True)
    for split in SHARES:
        ids = sorted(table["image_id"][table["split"] == split])
        (folder / "splits" / f"{split}.txt").write_text("".join(f"{name}\n" for name in ids))


def read(folder: Path) -> dict[str, str]:
    """{image id: split} of published lists.

    Raises:
        DataError: a list is missing (val may be) or no UTF-8, all are empty, or an id is in two of them.
    """
    found: dict[str, str] = {}
    for split in SHARES:
        file = folder / f"{split}.txt"
        if not file.is_file():
            if split == "val":
                continue
            raise DataError(
                file, "missing", expected="train.txt and test.txt (and val.txt), one image id per line, as in splits/ of an index"
            )
        try:
            names = file.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise DataError(file, f"not text in UTF-8 ({error})", fix="save it again as UTF-8, one image id per line") from None
        for number, name in enumerate(names, start=1):
            if name.strip() in found:
                raise DataError(f"{file}:{number}", f"{name.strip()} is also in {found[name.strip()]}.txt, or listed twice")
            if name.strip():
                found[name.strip()] = split
    if not found:
        raise DataError(folder, "empty lists")
    return found


def content(folder: Path | None) -> str:
    """Hash of published lists, for content keys; empty without any."""
    files = [folder / f"{split}.txt" for split in SHARES] if folder else []
    return artifact.hash_json({file.name: artifact.file_hash(file) for file in files if file.is_file()}) if files else ""
