"""RadJEPA control: the same recipe on the data of one site only (MIMIC-CXR in the paper)."""

import dataclasses

from .radjepa import RadJepa


class RadJepaControl(RadJepa):
    card = dataclasses.replace(
        RadJepa.card, title="RadJEPA control", paper_name="RadJEPA_control", weights="run:radjepa_control",
        how_to_get="snakemake pretrains it: configure pretrain.radjepa_control.data",
        notes="the paper's weights of this row were never released: it can only be pretrained; texjepa_300 is the closest public one",
    )  # fmt: skip
