"""DINOv3 ViT-B/16 (Siméoni et al., 2025, arXiv 2508.10104): self-supervised on natural images, distilled from a 7 B network."""

import dataclasses

from radbench.encoder import Card, Encoder, Features, Option, ready
from radbench.image import normalise, resize
from radbench.weights import load_strict

from .dinov2_vitg14 import POOLING, pool

PREFIX = 5  # the class token and four storage tokens ("registers"), before the patches


class Dinov3Base(Encoder):
    card = Card(
        title="DINOv3 ViT-B/16", architecture="ViT-B/16", image_size=224, patch=16, dim=768, params=85_660_416,
        weights="hf:facebook/dinov3-vitb16-pretrain-lvd1689m", files=("model.safetensors",), gated=True,
        # several public projects pin this commit and record this sha256 of its 342,662,192 bytes
        revision="5931719e67bbdb9737e363e781fb0c67687896bc",
        digest="sha256:9a21ac3df0c63839d62612dda6f454d816c25611cc7a52966ed5a5a94921dc8b",
        how_to_get="accept the licence on huggingface.co/facebook/dinov3-vitb16-pretrain-lvd1689m and log in (hf auth login), then "
        "python -m radbench.weights dinov3_vitb16 downloads 343 MB",
        pooling=POOLING["cls"], pretrained_on=("lvd_1689m",), levels=(2, 5, 8, 11),
        mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), licence="DINOv3 License", citation="arXiv 2508.10104",
        notes="taps are block outputs before the final norm; the four storage tokens are dropped; commit and sha256 are those that "
        "public projects record, for the repository is gated",
    )  # fmt: skip
    options = {
        "image_size": Option(224, why="the side of the release's preprocessor; rotary positions take any multiple of 16, as the network "
                             "was trained for"),
        "pooling": Option("cls", tuple(POOLING), why="the release's pooled output"),
    }  # fmt: skip

    @classmethod
    def card_for(cls, options):
        how = options["pooling"]
        return dataclasses.replace(cls.card, image_size=options["image_size"], pooling=POOLING[how],
                                   dim=cls.card.dim * (2 if how == "cls_mean" else 1))  # fmt: skip

    def load(self, device):
        from transformers import DINOv3ViTConfig, DINOv3ViTModel

        self.vit = DINOv3ViTModel(DINOv3ViTConfig(
            hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, num_register_tokens=PREFIX - 1,
            patch_size=self.card.patch, image_size=self.card.image_size,
        ))  # fmt: skip
        if self.weights is not None:
            load_strict(self.vit, self.weights, self.card.files[0], select=_as_transformers, fix=self.card.how_to_get)
        ready(self.vit, device)

    def preprocess(self, image):
        size = self.card.image_size
        return normalise(resize(image, size, size), self.card.mean, self.card.std)

    def encode(self, images):
        tokens = self.vit(images).last_hidden_state
        return Features(image=pool(tokens, PREFIX, self.options["pooling"]), patches=tokens[:, PREFIX:].unflatten(1, self._grid()))

    def encode_levels(self, images):
        states = self.vit(images, output_hidden_states=True).hidden_states  # states[k + 1] leaves block k
        return [states[block + 1][:, PREFIX:].transpose(1, 2).unflatten(2, self._grid()) for block in self.card.levels]

    def _grid(self):
        return (self.card.image_size // self.card.patch,) * 2


def _as_transformers(state: dict) -> dict:
    """The release writes `layer.N`, the module of transformers 5 calls it `model.layer.N`."""
    return {f"model.{name}" if name.startswith("layer.") else name: value for name, value in state.items()}
