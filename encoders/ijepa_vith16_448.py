"""I-JEPA ViT-H/16 at 448 pixels (Assran et al., 2023, arXiv 2301.08243): the only release with the side that the paper states."""

import dataclasses

from .ijepa_vith14_224 import IJepaH14


class IJepaH16(IJepaH14):
    card = dataclasses.replace(
        IJepaH14.card, title="I-JEPA ViT-H/16", paper_name="I-JEPA", architecture="ViT-H/16", image_size=448, patch=16,
        params=631_668_480, weights="hf:facebook/ijepa_vith16_1k",
        # the head of main in the hub's list of files ("8 commits"); the whole hash is that of a snapshot in a public log
        revision="43ea3b33a17addfa9a32261f6fde003fd97f38d9",
        how_to_get=IJepaH14.card.how_to_get.replace("ijepa_vith14_224", "ijepa_vith16_448")
        .replace("ijepa_vith14_1k", "ijepa_vith16_1k").replace("IN1K-vit.h.14-300e", "IN1K-vit.h.16-448px-300e"),
        notes="the paper writes ViT-H/14 at 448 pixels, and 1369 tokens in its Table 5: the release at 448 pixels is ViT-H/16, with 784 "
        "tokens; " + IJepaH14.card.notes,
    )  # fmt: skip
    network = "vit_huge_patch16_gap_448"
