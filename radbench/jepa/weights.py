"""Loading an encoder that `radbench.pretrain` wrote."""

import json
from pathlib import Path

from safetensors.torch import load_file

from ..errors import WeightsError
from .vit import ViTShape, build_vit

UNTRAINED = {"image_size": 224, "patch": 14, "width": 768, "depth": 12, "heads": 12, "mean": 0.5307, "std": 0.2583}


def load_run(folder: Path | None, which: str, device: str):
    """(trunk, configuration) of `{folder}/{which}.safetensors`; a random ViT-B/14 without a folder.

    which: "encoder" (EMA target encoder), "context" or "initial".
    """
    if folder is None:
        shape = {name: UNTRAINED[name] for name in ("image_size", "patch", "width", "depth", "heads")}
        return build_vit(ViTShape(**shape), seed=0).to(device), dict(UNTRAINED)
    path = folder / f"{which}.safetensors"
    if not path.is_file():
        raise WeightsError(path, "no such weights", got=sorted(entry.name for entry in folder.iterdir()),
                           expected="encoder, context or initial", fix="mend the option weights_of")  # fmt: skip
    run = json.loads((folder / "config.json").read_text())
    vit = build_vit(ViTShape(**{name: run[name] for name in ("image_size", "patch", "width", "depth", "heads")}), seed=0)
    vit.load_state_dict(load_file(path))
    return vit.to(device), run
