"""SigLIP 2 So400m/14 at 384 pixels (Tschannen et al., 2025, arXiv 2502.14786): image-text pretraining on the web."""

import dataclasses

from radbench.encoder import Card, Encoder, Features, Option, ready
from radbench.image import normalise, resize
from radbench.weights import load_strict

POOLINGS = {"map": "output of the attention pooling head", "mean": "mean of patch tokens after the final norm"}


class Siglip2(Encoder):
    card = Card(
        title="SigLIP 2 So400m@384", architecture="ViT-So400m/14", image_size=384, patch=14, dim=1152, params=428_225_600,
        weights="hf:google/siglip2-so400m-patch14-384", files=("model.safetensors",),
        revision="e8e487298228002f3d8a82e0cd5c8ea9c567f57f",  # the snapshot that many public projects name
        how_to_get="python -m radbench.weights siglip2_so400m_384 downloads 4.5 GB from "
        "huggingface.co/google/siglip2-so400m-patch14-384 (open, no account)",
        pooling=POOLINGS["map"], pretrained_on=("webli",), levels=(6, 13, 20, 26), mean=0.5, std=0.5,
        licence="Apache-2.0", citation="arXiv 2502.14786",
        notes="27 x 27 patches, the last 6 pixels of each side are in none, and segmentation stretches the maps over the whole side (1.6 % "
        "at the lower right); taps are block outputs before the final norm; not "
        "verified here: keys and sha256 of the released file, and its preprocessor_config.json",
    )  # fmt: skip
    options = {
        "pooling": Option("map", tuple(POOLINGS), why="the head's output is what pretraining compares with the text"),
        "interpolation": Option("bilinear", ("bilinear", "bicubic"), why="transformers' files of SigLIP 2 are said to ask for bilinear, "
                                "those of SigLIP for bicubic; neither was verified here"),
    }  # fmt: skip

    @classmethod
    def card_for(cls, options):
        return dataclasses.replace(cls.card, pooling=POOLINGS[options["pooling"]], interpolation=options["interpolation"])

    def load(self, device):
        import torch
        from transformers import SiglipVisionConfig, SiglipVisionModel

        config = SiglipVisionConfig(hidden_size=1152, intermediate_size=4304, num_hidden_layers=27, num_attention_heads=16,
                                    image_size=self.card.image_size, patch_size=self.card.patch)  # fmt: skip
        with torch.device("cpu" if self.weights is None else "meta"):  # nothing is drawn at random only to be overwritten
            self.vit = SiglipVisionModel(config)
        if self.weights is not None:
            load_strict(self.vit, self.weights, self.card.files[0], select=_image_tower, assign=True, fix=self.card.how_to_get)
            embeddings = self.vit.embeddings
            embeddings.position_ids = torch.arange(embeddings.num_positions)[None]  # a buffer that is in no file
        ready(self.vit, device)

    def preprocess(self, image):
        small = resize(image, self.card.image_size, self.card.image_size, self.card.interpolation)
        return normalise(small.clip(0, 1), self.card.mean, self.card.std)

    def encode(self, images):
        out = self.vit(images)
        tokens = out.last_hidden_state
        image = out.pooler_output if self.options["pooling"] == "map" else tokens.mean(1)
        return Features(image=image, patches=tokens.unflatten(1, self._grid()))

    def encode_levels(self, images):
        states = self.vit(images, output_hidden_states=True).hidden_states  # states[k + 1] leaves block k
        return [states[block + 1].transpose(1, 2).unflatten(2, self._grid()) for block in self.card.levels]

    def _grid(self):
        return (self.card.image_size // self.card.patch,) * 2


def _image_tower(state: dict) -> dict:
    """Drop the text tower and the two numbers of the loss; unknown keys stay, so that they are an error."""
    unused = ("text_model.", "logit_scale", "logit_bias", "vision_model.embeddings.position_ids")
    return {key.removeprefix("vision_model."): value for key, value in state.items() if not key.startswith(unused)}
