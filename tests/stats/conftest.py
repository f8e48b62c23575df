"""Small synthetic predictions in the layout of docs/formats.md, written by the tests themselves."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

SIX = ["Lung Opacity", "Cardiomegaly", "Pleural Thickening", "Aortic Enlargement", "Pulmonary Fibrosis",
       "Pleural Effusion"]  # fmt: skip


def write_sidecar(folder: Path, kind: str, name: str, facts: dict, state: str = "ok", reason: str | None = None,
                  parents: tuple = (), cost: dict | None = None) -> Path:  # fmt: skip
    """A meta.json that vouches for the files already in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        path.name: {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": path.stat().st_size}
        for path in sorted(folder.iterdir())
        if path.name != "meta.json" and path.is_file()
    }
    content = {"format": 1, "kind": kind, "name": name, "state": state, "reason": reason, "key": "0" * 64,
               "key_parts": {}, "files": files, "parents": list(parents), "facts": facts, "cost": cost or {}, "software": {},
               "command": "", "created": "", "git": None}  # fmt: skip
    identity = {key: content[key] for key in ("kind", "name", "state", "key", "files")}
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    content["fingerprint"] = hashlib.sha256(canonical.encode()).hexdigest()
    (folder / "meta.json").write_text(json.dumps(content))
    return folder / "meta.json"


class Results:
    """Builds result folders below ``root`` (a pytest temporary folder that is also the working directory)."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.patients = np.array([f"toy:{i // 2:03d}" for i in range(120)])  # two images each
        self.images = np.array([f"image{i:03d}" for i in range(120)])

    def write(self, task: str, dataset: str, encoder: str, rows: pd.DataFrame, cost: dict | None = None,
              curve: pd.DataFrame | None = None, **facts) -> Path:  # fmt: skip
        """Predictions with their sidecar; ``curve`` are the rows of the smaller training sets."""
        folder = self.root / "results" / task / dataset / encoder
        folder.mkdir(parents=True, exist_ok=True)
        rows = rows.assign(dataset=dataset, task=task, encoder=encoder)
        rows.to_parquet(folder / "predictions.parquet", index=False)
        if curve is not None:
            curve.assign(dataset=dataset, task=task, encoder=encoder).to_parquet(folder / "learning_curve.parquet", index=False)
        facts = {"card": {}, "measured": {}, "protocol": {"epochs": 3}, "version": "1", "reduced": []} | facts
        write_sidecar(folder, "predictions", f"{task}/{dataset}/{encoder}", facts, cost=cost)
        return folder.relative_to(self.root)

    def absent(self, task: str, dataset: str, encoder: str, reason: str = "weights not present: get them") -> Path:
        folder = self.root / "results" / task / dataset / encoder
        folder.mkdir(parents=True, exist_ok=True)
        pd.DataFrame({"image_id": []}).to_parquet(folder / "predictions.parquet")
        write_sidecar(folder, "predictions", f"{task}/{dataset}/{encoder}", {}, "absent", reason)
        return folder.relative_to(self.root)

    def probe_rows(self, skill: float, seed: int = 0, labels: tuple = tuple(SIX), replicates: int = 3) -> pd.DataFrame:
        truth = np.random.default_rng(7).random((len(labels), self.images.size)) < 0.3
        noise = np.random.default_rng(seed)
        frames = []
        for replicate in range(replicates):
            for label, target in zip(labels, truth, strict=True):
                score = 1 / (1 + np.exp(-(skill * target + noise.normal(size=target.size))))
                frames.append(pd.DataFrame({"replicate": replicate, "image_id": self.images,
                                            "patient_id": self.patients, "label": label,
                                            "target": target.astype(np.float32),
                                            "score": score.astype(np.float32)}))  # fmt: skip
        return pd.concat(frames, ignore_index=True)

    def segmentation_rows(self, skill: float, seed: int = 0) -> pd.DataFrame:
        noise = np.random.default_rng(seed)
        frames = []
        for structure_set, structure in (("lungs", "lung_left"), ("lungs", "lung_right"), ("ribs", "rib_1")):
            area = np.full(self.images.size, 100)
            area[:5] = 0 if structure == "lung_left" else 100
            dice = np.clip(skill + 0.05 * noise.normal(size=area.size), 0, 1)
            predicted = np.where(area > 0, 100, 0)
            dice = np.where(area > 0, dice, np.nan)
            if structure == "lung_left":  # two images in which an absent lung is drawn
                dice[:2], predicted[:2] = 0.0, 30
            frames.append(pd.DataFrame({"replicate": 0, "image_id": self.images, "patient_id": self.patients,
                                        "structure_set": structure_set, "structure": structure, "dice": dice,
                                        "intersection": 0, "pred_area": predicted, "ref_area": area}))  # fmt: skip
        return pd.concat(frames, ignore_index=True)

    def report_rows(self, skill: float, seed: int = 0, chexbert: bool = False) -> pd.DataFrame:
        noise = np.random.default_rng(seed)
        n = self.images.size
        length = np.random.default_rng(3).integers(8, 20, n)
        guess = np.stack([np.maximum(length - k, 0) for k in range(4)], axis=1)
        match = (guess * np.clip(skill + 0.1 * noise.normal(size=(n, 1)), 0, 1)).astype(int)
        rows = pd.DataFrame({"replicate": 0, "image_id": self.images, "patient_id": self.patients,
                             "study_id": self.images, "reference": "the heart is normal", "hypothesis": "heart normal",
                             "rouge_l": np.clip(skill + 0.1 * noise.normal(size=n), 0, 1)})  # fmt: skip
        rows["rouge_l_coco"] = rows["rouge_l"]
        for k in range(4):
            rows[f"bleu_match_{k + 1}"], rows[f"bleu_guess_{k + 1}"] = match[:, k], guess[:, k]
        rows["hyp_len"], rows["ref_len"] = length, length + 1
        if chexbert:
            reference = np.random.default_rng(5).integers(0, 4, (n, 14))
            changed = np.where(noise.random((n, 14)) < skill, reference, noise.integers(0, 4, (n, 14)))
            for k in range(14):
                rows[f"chexbert_ref_{k}"], rows[f"chexbert_hyp_{k}"] = reference[:, k], changed[:, k]
        return rows


@pytest.fixture
def results(tmp_path, monkeypatch) -> Results:
    """An empty results tree; paths are relative to it, as they are to the repository root in a run."""
    monkeypatch.chdir(tmp_path)
    return Results(tmp_path)
