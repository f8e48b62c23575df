"""DINOv2 ViT-g/14 (Oquab et al., 2024, arXiv 2304.07193): self-supervised on natural images, the largest of the family."""

import dataclasses

from radbench.encoder import Card, Encoder, Features, Option, ready
from radbench.image import normalise, resize_crop
from radbench.weights import load_strict

#: image features of a network with a class token, in words; `pool` makes them
POOLING = {
    "cls": "CLS token after the final norm",
    "mean": "mean of patch tokens after the final norm",
    "cls_mean": "CLS token and mean of patch tokens, side by side, after the final norm",
}


class Dinov2Giant(Encoder):
    card = Card(
        title="DINOv2 ViT-g/14", paper_name="DINO-v2", architecture="ViT-g/14", image_size=518, patch=14, dim=1536,
        params=1_136_479_232, weights="hf:timm/vit_giant_patch14_dinov2.lvd142m", files=("model.safetensors",),
        revision="dd22bb6485eeb29d67273f76d983061298bdc7f0",  # the hub's list of files at this commit: model.safetensors, 4.55 GB
        how_to_get="python -m radbench.weights dinov2_vitg14 downloads 4.5 GB from "
        "huggingface.co/timm/vit_giant_patch14_dinov2.lvd142m (open, no account); Meta's dinov2_vitg14_pretrain.pth works too, as "
        "a path in the configuration",
        pooling=POOLING["cls"], pretrained_on=("lvd_142m",), levels=(9, 19, 29, 39),
        mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), interpolation="bicubic",
        licence="Apache-2.0", citation="arXiv 2304.07193",
        notes="the paper writes ViT-G/14, the released network is ViT-g/14 (giant); taps are block outputs before the final "
        "norm; not verified here: sha256 of the released file",
    )  # fmt: skip
    options = {"pooling": Option("cls", ("cls", "cls_mean"), why="the release's global feature; DINOv2's own linear probe also tries "
                                 "the CLS token beside the mean of the patch tokens, twice as wide")}  # fmt: skip

    @classmethod
    def card_for(cls, options):
        how = options["pooling"]
        return dataclasses.replace(cls.card, pooling=POOLING[how], dim=cls.card.dim * (2 if how == "cls_mean" else 1))

    def load(self, device):
        import timm
        import torch

        # 1.1 billion parameters are not drawn at random only to be overwritten: with weights the network starts empty
        with torch.device("cpu" if self.weights is None else "meta"):
            self.vit = timm.create_model("vit_giant_patch14_dinov2", img_size=self.card.image_size, num_classes=0)
        if self.weights is not None:
            load_strict(self.vit, self.weights, "model.safetensors", select=_as_timm, assign=True, fix=self.card.how_to_get)
        ready(self.vit, device)

    def preprocess(self, image):
        small = resize_crop(image, self.card.image_size, self.card.interpolation)
        return normalise(small.clip(0, 1), self.card.mean, self.card.std)  # bicubic overshoots; 8-bit pictures cannot

    def encode(self, images):
        tokens = self.vit.forward_features(images)  # CLS, then 37 x 37 patches, all after the final norm
        return Features(image=pool(tokens, 1, self.options["pooling"]), patches=tokens[:, 1:].unflatten(1, self.vit.patch_embed.grid_size))

    def encode_levels(self, images):
        return self.vit.forward_intermediates(images, indices=list(self.card.levels), norm=False, intermediates_only=True)


def pool(tokens, prefix: int, how: str):
    """Image features of tokens (B, N, C): the class token is the first of `prefix` tokens before the patches."""
    from torch import cat

    mean = tokens[:, prefix:].mean(dim=1)
    return {"cls": tokens[:, 0], "mean": mean, "cls_mean": cat([tokens[:, 0], mean], dim=1)}[how]


def _as_timm(state: dict) -> dict:
    """The tensors of timm's file, or of Meta's under timm's names; the mask token serves pretraining only."""
    names = {key: key.replace("mlp.w12.", "mlp.fc1.").replace("mlp.w3.", "mlp.fc2.") for key in state if key != "mask_token"}
    return {name: state[key] for key, name in names.items()}
