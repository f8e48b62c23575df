"""CheXFound (Yang et al., 2025, arXiv 2502.05142): DINOv2 with registers from scratch on a million chest radiographs, at 512 pixels."""

import dataclasses
import re

import numpy as np

from radbench.encoder import Card, Encoder, Features, Option, ready
from radbench.image import normalise, resize_crop
from radbench.weights import load_strict

#: heads and token of pretraining only
UNUSED = ("dino_head.", "ibot_head.", "mask_token")
POOLING = {"cls": "CLS token after the final norm", "cls_4": "CLS tokens of the last four blocks, side by side, each after the final norm"}


class CheXFound(Encoder):
    card = Card(
        title="CheXFound", architecture="ViT-L/16 (SwiGLU, 4 registers)", image_size=512, patch=16, dim=1024, params=304_627_968,
        weights="file:chexfound/teacher_checkpoint.pth", pooling=POOLING["cls"],
        how_to_get="download teacher_checkpoint.pth from the Google Drive folder of github.com/RPIDIAL/CheXFound into "
        "$RADBENCH_WEIGHTS/chexfound or weights/chexfound",
        pretrained_on=("mimic_cxr", "chexpert", "padchest", "brax", "unknown"), levels=(5, 11, 17, 23), mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225), interpolation="bicubic", licence="not stated", citation="arXiv 2502.05142",
        notes="taps are block outputs before the final norm; the four registers are dropped; the paper counts 12 public "
        "sources, the README names the folders of four, so that overlaps with other public data are unknown; not verified here: sha256 of "
        "the released file",
    )  # fmt: skip
    options = {
        "pooling": Option("cls", tuple(POOLING), why="the last CLS token; the release's linear probe also joins those of four blocks"),
        "intensity": Option("as_is", ("as_is", "stretched"), why="as in pretraining, where the stretch is commented out; its evaluation "
                            "code and example stretch each cropped image from its minimum to its maximum"),
    }  # fmt: skip

    @classmethod
    def card_for(cls, options):
        how = options["pooling"]
        return dataclasses.replace(cls.card, pooling=POOLING[how], dim=cls.card.dim * (4 if how == "cls_4" else 1))

    def load(self, device):
        import torch
        from timm.layers import SwiGLUPacked
        from timm.models.vision_transformer import VisionTransformer

        with torch.device("cpu" if self.weights is None else "meta"):
            self.vit = VisionTransformer(
                img_size=self.card.image_size, patch_size=16, embed_dim=1024, depth=24, num_heads=16, init_values=1e-5, reg_tokens=4,
                no_embed_class=True, mlp_layer=SwiGLUPacked, act_layer=torch.nn.SiLU, mlp_ratio=2 * 2736 / 1024, num_classes=0,
            )  # fmt: skip
        if self.weights is not None:
            load_strict(self.vit, self.weights, "teacher_checkpoint.pth", select=_as_timm, ignore=UNUSED, assign=True,
                        fix=self.card.how_to_get)  # fmt: skip
        ready(self.vit, device)

    def preprocess(self, image):
        small = resize_crop(image, self.card.image_size, self.card.interpolation).clip(0, 1)  # bicubic overshoots; 8-bit cannot
        if self.options["intensity"] == "stretched" and np.ptp(small) > 0:
            small = (small - small.min()) / np.ptp(small)
        return normalise(small, self.card.mean, self.card.std)

    def encode(self, images):
        tokens = self.vit.forward_features(images)  # CLS, four registers, then 32 x 32 patches, all after the final norm
        image = tokens[:, 0] if self.options["pooling"] == "cls" else self._last_class_tokens(images)
        return Features(image=image, patches=tokens[:, 5:].unflatten(1, self.vit.patch_embed.grid_size))

    def encode_levels(self, images):
        return self.vit.forward_intermediates(images, indices=list(self.card.levels), norm=False, intermediates_only=True)

    def _last_class_tokens(self, images):
        from torch import cat

        last = self.vit.forward_intermediates(images, indices=4, norm=True, return_prefix_tokens=True, intermediates_only=True)
        return cat([prefix[:, 0] for _, prefix in last], dim=1)


def _as_timm(content: dict) -> dict:
    """timm's tensors of the teacher: without the chunk of a block in its name, the position of the class token added to it."""
    out = {}
    for name, value in content["teacher"].items():
        name = re.sub(r"^blocks\.\d+\.(\d+)\.", r"blocks.\1.", name.removeprefix("module.").removeprefix("backbone."))
        name = name.replace("mlp.w12.", "mlp.fc1.").replace("mlp.w3.", "mlp.fc2.").replace("register_tokens", "reg_token")
        out[name] = value
    out["cls_token"] = out["cls_token"] + out["pos_embed"][:, :1]
    out["pos_embed"] = out["pos_embed"][:, 1:]
    return out
