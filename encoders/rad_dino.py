"""RAD-DINO: DINOv2 ViT-B/14 continued on public chest radiographs (Pérez-García et al., 2025, arXiv 2401.10815)."""

import dataclasses

from radbench.encoder import Card, Encoder, Features, Option, ready
from radbench.errors import WeightsError
from radbench.image import normalise, resize_shortest
from radbench.weights import load_strict

from .dinov2_vitg14 import POOLING, pool


class RadDino(Encoder):
    card = Card(
        title="RAD-DINO", paper_name="RAD-DINO", architecture="ViT-B/14", image_size=518, patch=14, dim=768, params=86_580_480,
        weights="hf:microsoft/rad-dino", files=("config.json", "model.safetensors"), pooling=POOLING["cls"],
        # the head of main in the hub's list of files ("26 commits"); public code that pins RAD-DINO writes the whole hash
        revision="2ec9ca0e7a73c23aded999b844acd2f07c7e46b9",
        how_to_get="python -m radbench.weights rad_dino downloads 346 MB from huggingface.co/microsoft/rad-dino (open, no account)",
        pretrained_on=("mimic_cxr", "chexpert", "nih_cxr14", "padchest", "brax", "lvd_142m"), levels=(2, 5, 8, 11),
        mean=0.5307, std=0.2583, interpolation="bicubic", licence="MIT", citation="arXiv 2401.10815",
        notes="taps are block outputs before the final norm; the public checkpoint was trained on public data only, the "
        "paper's row also on private data; not verified here: sha256 of the released file, its list of training sets",
    )  # fmt: skip
    options = {
        "image_size": Option(518, why="the side of pretraining; another multiple of 14 interpolates the positions"),
        "pooling": Option("cls", ("cls", "mean", "cls_mean"), why="the CLS token is what the release's card calls the image embedding"),
    }

    @classmethod
    def card_for(cls, options):
        how = options["pooling"]
        return dataclasses.replace(cls.card, image_size=options["image_size"], pooling=POOLING[how],
                                   dim=cls.card.dim * (2 if how == "cls_mean" else 1))  # fmt: skip

    def load(self, device):
        from transformers import Dinov2Model

        self.vit = Dinov2Model(self._config())
        if self.weights is not None:
            load_strict(self.vit, self.weights, "model.safetensors", fix=self.card.how_to_get)
        ready(self.vit, device)

    def preprocess(self, image):
        size = self.options["image_size"]
        small = resize_shortest(image, size, self.card.interpolation).clip(0, 1)  # bicubic overshoots; 8-bit pictures cannot
        top, left = ((side - size) // 2 for side in small.shape)  # transformers rounds an odd margin down, torchvision does not
        return normalise(small[top : top + size, left : left + size], self.card.mean, self.card.std)

    def encode(self, images):
        tokens = self.vit(images).last_hidden_state
        return Features(image=pool(tokens, 1, self.options["pooling"]), patches=tokens[:, 1:].unflatten(1, self._grid()))

    def encode_levels(self, images):
        states = self.vit(images, output_hidden_states=True).hidden_states  # states[k + 1] leaves block k
        return [states[block + 1][:, 1:].transpose(1, 2).unflatten(2, self._grid()) for block in self.card.levels]

    def _grid(self):
        return (self.options["image_size"] // self.card.patch,) * 2

    def _config(self):
        """The released config.json where it lies beside the weights: it says what tensor shapes do not (heads, epsilon)."""
        from transformers import Dinov2Config

        folder = self.weights if self.weights is None or self.weights.is_dir() else self.weights.parent
        file = folder / "config.json" if folder is not None else None
        if file is None or not file.is_file():  # positions of the release, whatever side they are interpolated to
            return Dinov2Config(image_size=type(self).card.image_size, patch_size=self.card.patch)
        try:
            config = Dinov2Config.from_pretrained(file.parent)
        except (OSError, ValueError) as error:
            raise WeightsError(file, "cannot be read", got=f"{error}".split("\n")[0], fix=self.card.how_to_get) from None
        found, wanted = (config.hidden_size, config.patch_size, config.image_size), (768, 14, 518)
        if found != wanted:
            what = "is of another network (width, patch, input)"
            raise WeightsError(file, what, got=found, expected=wanted, fix=self.card.how_to_get)
        return config
