"""I-JEPA-300 of TexJEPA (Zhao et al., 2026): I-JEPA ViT-H/14 from scratch on MIMIC-CXR alone, before any texture specialisation."""

import dataclasses

from radbench.encoder import Option
from radbench.image import center_crop, normalise, resize, resize_shortest

from .ijepa_vith14_224 import PARTS, IJepaH14


class TexJepa300(IJepaH14):
    card = dataclasses.replace(
        IJepaH14.card, title="I-JEPA-300 (TexJEPA)", weights="hf:YiZhaoJasper/TexJEPA", revision="main",
        files=("weights/I-JEPA-300/jepa-latest.pth.tar",), pretrained_on=("mimic_cxr",), mean=0.499, std=0.291,
        how_to_get="python -m radbench.weights texjepa_300 downloads about 10 GB (a training checkpoint, read whole into memory) from "
        "huggingface.co/YiZhaoJasper/TexJEPA (open, no account)", citation="github.com/YiZhao-Jasper/TexJEPA",
        notes="the closest public stand-in for the paper's RadJEPA control, but ViT-H/14 and pretrained on all 377 k images of "
        "MIMIC-CXR-JPG, lateral views and test split included; the parameters include the fixed table of positions; not verified here: "
        "commit and sha256 of the released file, that it was trained by the published configuration",
    )  # fmt: skip
    options = {
        "weights_of": Option("target", tuple(PARTS), why="what TexJEPA's own evaluation loads", selects_weights=True),
        "resize": Option("squash", ("squash", "crop"), why="pretraining read images squashed to 384 x 384; crop is TexJEPA's own "
                         "evaluation, shortest side 256 and the central 224"),
    }  # fmt: skip

    @classmethod
    def card_for(cls, options):
        return dataclasses.replace(cls.card, field=224 / 256 if options["resize"] == "crop" else 1.0)

    def preprocess(self, image):
        squash = self.options["resize"] == "squash"
        small = resize(image, 224, 224) if squash else center_crop(resize_shortest(image, 256), 224)
        return normalise(small, self.card.mean, self.card.std)
