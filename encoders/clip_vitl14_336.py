"""CLIP ViT-L/14 at 336 pixels (Radford et al., 2021, arXiv 2103.00020): OpenAI's release, one epoch longer at the larger side."""

import dataclasses

from .clip_vitl14_224 import Clip224


class Clip336(Clip224):
    card = dataclasses.replace(
        Clip224.card, title="CLIP@336", paper_name="CLIP@336", image_size=336, params=303_507_456,
        weights="hf:timm/vit_large_patch14_clip_336.openai",
        # public projects fetch the file at this commit and record this sha256 of its 1,711,828,444 bytes
        revision="81e38efc4637de5023b10e75a7f9bd1c6fa6b010",
        digest="sha256:fbc415c3d0d7b79faed8f5ccfb740c32b7c4f5ffe7283b851f89c6231c01a8e0",
        how_to_get="python -m radbench.weights clip_vitl14_336 downloads 1.7 GB from "
        "huggingface.co/timm/vit_large_patch14_clip_336.openai (open, no account)",
        notes=Clip224.card.notes.replace("clip-vit-large-patch14", "clip-vit-large-patch14-336") + "; the paper's 316 x 316 for "
        "576 tokens is a misprint of 336 x 336",
    )  # fmt: skip
    network = "ViT-L-14-336-quickgelu"
