"""CLIP ViT-L/14 at 336 pixels (Radford et al., 2021, arXiv 2103.00020): OpenAI's release, one epoch longer at the larger side."""

import dataclasses

from .clip_vitl14_224 import Clip224


class Clip336(Clip224):
    card = dataclasses.replace(
        Clip224.card, title="CLIP@336", paper_name="CLIP@336", image_size=336, params=303_507_456,
        weights="hf:timm/vit_large_patch14_clip_336.openai",
        how_to_get="python -m radbench.weights clip_vitl14_336 downloads 1.7 GB from "
        "huggingface.co/timm/vit_large_patch14_clip_336.openai (open, no account)",
        notes=Clip224.card.notes.replace("clip-vit-large-patch14", "clip-vit-large-patch14-336") + "; the paper's 316 x 316 for "
        "576 tokens is a misprint of 336 x 336",
    )  # fmt: skip
    network = "ViT-L-14-336-quickgelu"
