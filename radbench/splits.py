"""Which images are for training, validation and test, and the five folds of train and val. Always by patient, always as id lists.

An owner's split is kept; where it has no val, a tenth of its training patients becomes val. Without one, patients are
divided by `SHARES` with a seed. `split_lists` of the configuration take the place of both: three files of ids, as every index
publishes them in `splits/`, so that one group can work on exactly another's images.
"""

from collections.abc import Iterable, Mapping
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
    random = np.random.default_rng([seed, 1])
    rarest = _rarest_label(table)
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
            of_patient.update(_deal(_shuffled(train, rarest, random), parts))
    else:
        of_patient = _deal(_shuffled(table["patient_id"].unique(), rarest, random), shares)
    learned = _shuffled(of_patient.index[of_patient != "test"], rarest, random)
    fold_of = dict(zip(learned, np.arange(len(learned)) % FOLDS, strict=True))
    return table["patient_id"].map(of_patient).tolist(), [fold_of.get(patient, -1) for patient in table["patient_id"]]


def _rarest_label(table: pd.DataFrame) -> pd.Series:
    """Per patient the rank of the rarest label that any of its images is positive for; the number of labels without one."""
    columns = [name for name in table.columns if name.startswith("labels.")]
    positive = (table[columns] == 1).groupby(table["patient_id"]).any()
    order = positive.sum().sort_values(kind="stable").index
    ranks = positive[order].to_numpy(dtype=bool)
    return pd.Series(np.where(ranks.any(axis=1), ranks.argmax(axis=1) if len(order) else 0, len(order)), index=positive.index)


def _shuffled(patients: Iterable[str], rarest: pd.Series, random: np.random.Generator) -> np.ndarray:
    """Patients in random order within their rarest finding, the rarest first: who is dealt from this gets a share of each."""
    mixed = random.permutation(np.array(sorted(patients)))
    return mixed[np.argsort(rarest.reindex(mixed).to_numpy(), kind="stable")]


def _deal(patients: np.ndarray, shares: Mapping[str, float]) -> pd.Series:
    """Split by patient: each in turn to the split that lags most behind its share, so any stretch of patients is divided by them."""
    given, splits = dict.fromkeys(shares, 0), []
    for count in range(1, len(patients) + 1):
        split = max(shares, key=lambda name: round(shares[name] * count - given[name], 9))  # ties: in the order of the shares
        given[split] += 1
        splits.append(split)
    return pd.Series(splits, index=patients, dtype=object)


def write(folder: Path, table: pd.DataFrame) -> None:
    """Publish `splits/{train,val,test}.txt`: one image id per line, sorted."""
    (folder / "splits").mkdir(exist_ok=True)
    for split in SHARES:
        ids = sorted(table["image_id"][table["split"] == split])
        (folder / "splits" / f"{split}.txt").write_text("".join(f"{name}\n" for name in ids))


def read(folder: Path) -> dict[str, str]:
    """{image id: split} of published lists.

    Raises:
        DataError: a list is missing (val may be), all are empty, or an id is in two of them.
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
        for number, name in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
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
