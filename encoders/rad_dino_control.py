"""RAD-DINO control: RAD-DINO's recipe on MIMIC-CXR alone. Never released; here for whoever has trained one in the same layout."""

import dataclasses

from .rad_dino import RadDino


class RadDinoControl(RadDino):
    card = dataclasses.replace(
        RadDino.card, title="RAD-DINO control", paper_name="RAD-DINO_control", weights="file:rad_dino_control", files=(), revision="main",
        pretrained_on=("mimic_cxr",), licence="that of the pretraining data",
        how_to_get="never released: compare with radjepa_control, which snakemake pretrains on MIMIC-CXR, or with texjepa_300, which is "
        "public; weights of your own in RAD-DINO's layout (config.json, model.safetensors) go to weights/rad_dino_control or into the "
        "configuration as a path",
        notes="the published weights were never released: the row cannot be reproduced, only retrained",
    )  # fmt: skip
