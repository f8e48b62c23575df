"""RadJEPA as its authors released it (Khan et al., 2026, arXiv 2601.15891): I-JEPA ViT-B/14 on unlabelled chest radiographs."""

import dataclasses

from radbench.encoder import Card, Encoder, Features, Option, ready
from radbench.image import normalise, resize
from radbench.weights import load_strict

from .ijepa_vith14_224 import STATISTICS

POOLING = {"mean": "mean of patch tokens after the final norm",
           "cls_slot": "an untrained class token (normal of SD 1e-6, no position) after the final norm"}  # fmt: skip


class RadJepaReleased(Encoder):
    card = Card(
        title="RadJEPA (released)", paper_name="RadJEPA", architecture="ViT-B/14", image_size=224, patch=14, dim=768,
        params=85_704_960, weights="hf:AIDElab-IITBombay/RadJEPA", files=("jepa_encoder.pth.tar",),
        how_to_get="python -m radbench.weights radjepa_released downloads jepa_encoder.pth.tar from "
        "huggingface.co/AIDElab-IITBombay/RadJEPA; its modeling code is not needed",
        pooling=POOLING["mean"], pretrained_on=("mimic_cxr", "chexpert", "nih_cxr14", "padchest", "brax"), levels=(2, 5, 8, 11),
        mean=STATISTICS["imagenet"][0], std=STATISTICS["imagenet"][1], licence="not stated", citation="arXiv 2601.15891",
        notes="held against the same row of the paper as the one pretrained here; the release publishes no training code, preprocessing "
        "or split list; the parameters include the fixed table of positions; taps are block outputs before the final norm; not "
        "verified here: commit and sha256 of the released file, its training data (as the paper states them)",
    )  # fmt: skip
    options = {
        "normalisation": Option("imagenet", tuple(STATISTICS), why="the release is silent; code close to the authors has imagenet for "
                                "classification and segmentation, as I-JEPA's pretraining has, and half for reports: run both"),
        "pooling": Option("mean", tuple(POOLING), why="what the released model returns; cls_slot reproduces classification code close to "
                          "the authors, whose network has a class token that the checkpoint lacks: it stays as it was initialised "
                          "(here from seed 0) and its output is read"),
        "image_size": Option(224, (224, 518), why="the side of pretraining; at 518, as some of that code, the positions are interpolated "
                             "(bicubic)"),
    }  # fmt: skip

    @classmethod
    def card_for(cls, options):
        mean, std = STATISTICS[options["normalisation"]]
        size, how = options["image_size"], options["pooling"]
        grown = 768 * ((size // 14) ** 2 - 256 + (2 if how == "cls_slot" else 0))  # positions, and the slot with its own
        return dataclasses.replace(cls.card, mean=mean, std=std, image_size=size, pooling=POOLING[how], params=cls.card.params + grown)

    def load(self, device):
        import torch
        from timm.models.vision_transformer import VisionTransformer

        from radbench.jepa.vit import sincos_positions

        slot = self.options["pooling"] == "cls_slot"
        self.vit = VisionTransformer(img_size=self.card.image_size, patch_size=14, embed_dim=768, depth=12, num_heads=12,
                                     class_token=slot, global_pool="", num_classes=0)  # fmt: skip
        if slot:
            self.vit.cls_token.data.normal_(std=1e-6, generator=torch.Generator().manual_seed(0))
        self.vit.pos_embed.data.copy_(self._positions(sincos_positions(768, 16)[None]))  # what a trained file holds, too
        if self.weights is not None:
            load_strict(self.vit, self.weights, self.card.files[0], select=self._trunk, fix=self.card.how_to_get)
        ready(self.vit, device)

    def preprocess(self, image):
        size = self.card.image_size
        return normalise(resize(image, size, size), self.card.mean, self.card.std)

    def encode(self, images):
        tokens = self.vit.forward_features(images)
        patches = tokens[:, self.vit.num_prefix_tokens :]
        image = patches.mean(dim=1) if self.options["pooling"] == "mean" else tokens[:, 0]
        return Features(image=image, patches=patches.unflatten(1, self.vit.patch_embed.grid_size))

    def encode_levels(self, images):
        return self.vit.forward_intermediates(images, indices=list(self.card.levels), norm=False, intermediates_only=True)

    def _trunk(self, content: dict) -> dict:
        """The tensors under timm's names, with the positions of this input and the class token that the file lacks."""
        state = {name.removeprefix("module.").removeprefix("encoder."): value for name, value in content["encoder"].items()}
        if "pos_embed" in state and state["pos_embed"].shape[1:] == (256, 768):  # of anything else the shape is reported
            state["pos_embed"] = self._positions(state["pos_embed"].float())
        return state | ({"cls_token": self.vit.cls_token.detach()} if self.options["pooling"] == "cls_slot" else {})

    def _positions(self, table):
        """The (1, 256, 768) table on the grid of the input; zero for the class slot."""
        from torch import cat

        slot = table.new_zeros(1, self.vit.num_prefix_tokens, table.shape[2])
        return cat([slot, on_grid(table, self.vit.patch_embed.grid_size)], dim=1)


def on_grid(table, grid: tuple[int, int], prefix: int = 0):
    """A table of positions (1, prefix + side * side, C) on another grid, by bicubic interpolation; the prefix stays."""
    import torch

    side = round((table.shape[1] - prefix) ** 0.5)
    if grid == (side, side):
        return table
    square = table[:, prefix:].unflatten(1, (side, side)).permute(0, 3, 1, 2)
    patches = torch.nn.functional.interpolate(square, size=grid, mode="bicubic").flatten(2).transpose(1, 2)
    return torch.cat([table[:, :prefix], patches], dim=1)
