"""MRM (Zhou et al., 2023, ICLR): masked image modelling at double resolution and masked report completion on MIMIC-CXR."""

import dataclasses

from radbench.encoder import Card, Encoder, Features, Option, ready
from radbench.image import normalise, resize_crop
from radbench.weights import load_strict

from .radjepa_released import on_grid

#: tensors of pretraining only: the image decoder, its mask token, the report decoder
UNUSED = ("decoder_", "mask_token", "bert_")


class MRM(Encoder):
    card = Card(
        title="MRM", paper_name="MRM", architecture="ViT-B/16", image_size=224, patch=16, dim=768, params=85_798_656,
        weights="file:MRM.pth", pooling="mean of patch tokens after the final norm",
        how_to_get="download MRM.pth from the Google Drive link of github.com/RL4M/MRM-pytorch into $RADBENCH_WEIGHTS or weights/",
        pretrained_on=("mimic_cxr", "imagenet_1k"), levels=(2, 5, 8, 11), mean=0.4978, std=0.2449,
        licence="MIT", citation="openreview.net/forum?id=w-x7U26GM7j",
        notes="the paper states 448 pixels: that is the side of the reconstruction target, the encoder is trained at 224; it has read "
        "the reports of its images; initialised from MAE on ImageNet; the parameters include the fixed table of positions; taps are "
        "block outputs before the final norm (the release's own segmentation taps 3, 5, 7, 11); not verified here: sha256 of the "
        "released file",
    )  # fmt: skip
    options = {
        "pooling": Option("mean", ("mean", "cls"), why="the release pools patch tokens for fine-tuning and for its report decoder; the "
                          "CLS token took part in attention only"),
        "norm": Option("after", ("after", "before"), why="keeps the pretrained final norm; the release's fine-tuning code "
                       "(global_pool=avg) drops it for a new one, and before gives the tokens that this new one would see"),
        "image_size": Option(224, (224, 448), why="the side of the encoder in pretraining; 448 is what the paper states, with "
                             "interpolated positions (bicubic)"),
    }  # fmt: skip

    @classmethod
    def card_for(cls, options):
        size = options["image_size"]
        pooling = f"{'mean of patch tokens' if options['pooling'] == 'mean' else 'CLS token'} {options['norm']} the final norm"
        params = cls.card.params + 768 * ((size // 16) ** 2 - 14**2) - (2 * 768 if options["norm"] == "before" else 0)
        return dataclasses.replace(cls.card, image_size=size, pooling=pooling, params=params)

    def load(self, device):
        import timm
        import torch

        self.vit = timm.create_model("vit_base_patch16_224", img_size=self.card.image_size, num_classes=0)
        if self.weights is not None:
            load_strict(self.vit, self.weights, "MRM.pth", select=self._trunk, ignore=UNUSED, fix=self.card.how_to_get)
        if self.options["norm"] == "before":
            self.vit.norm = torch.nn.Identity()
        ready(self.vit, device)

    def preprocess(self, image):
        return normalise(resize_crop(image, self.card.image_size), self.card.mean, self.card.std)

    def encode(self, images):
        tokens = self.vit.forward_features(images)  # CLS, then the patches
        image = tokens[:, 1:].mean(dim=1) if self.options["pooling"] == "mean" else tokens[:, 0]
        return Features(image=image, patches=tokens[:, 1:].unflatten(1, self.vit.patch_embed.grid_size))

    def encode_levels(self, images):
        return self.vit.forward_intermediates(images, indices=list(self.card.levels), norm=False, intermediates_only=True)

    def _trunk(self, content: dict) -> dict:
        """The model of the training checkpoint, with the positions of this input."""
        state = dict(content["model"])
        if "pos_embed" in state and state["pos_embed"].shape[1:] == (197, 768):  # of anything else the shape is reported
            state["pos_embed"] = on_grid(state["pos_embed"], self.vit.patch_embed.grid_size, prefix=1)
        return state
