"""I-JEPA ViT-H/14 at 224 pixels (Assran et al., 2023, arXiv 2301.08243): predicts representations of hidden blocks, on ImageNet."""

import dataclasses
import re

from radbench.encoder import Card, Encoder, Features, Option, ready
from radbench.errors import WeightsError
from radbench.image import normalise, resize, resize_crop
from radbench.weights import load_strict

STATISTICS = {"imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), "half": (0.5, 0.5)}
PARTS = {"context": "encoder", "target": "target_encoder"}  # option -> key in the training checkpoint


class IJepaH14(Encoder):
    card = Card(
        title="I-JEPA ViT-H/14", architecture="ViT-H/14", image_size=224, patch=14, dim=1280, params=630_762_240,
        weights="hf:facebook/ijepa_vith14_1k", files=("model.safetensors",),
        revision="973dbab2f91c91f9ca9219d92ec005bca969e744",  # the head of main ("8 commits"); the hub's list of files at this commit
        how_to_get="python -m radbench.weights ijepa_vith14_224 downloads 2.5 GB from huggingface.co/facebook/ijepa_vith14_1k (open, "
        "no account); Meta's dl.fbaipublicfiles.com/ijepa/IN1K-vit.h.14-300e.pth.tar (10 GB, read whole into memory) works too, as a "
        "path in the configuration, and alone holds the target encoder",
        pooling="mean of patch tokens after the final norm", pretrained_on=("imagenet_1k",), levels=(7, 15, 23, 31),
        mean=STATISTICS["imagenet"][0], std=STATISTICS["imagenet"][1], licence="CC BY-NC 4.0", citation="arXiv 2301.08243",
        notes="the parameters include the fixed table of positions; taps are block outputs before the final norm; not verified here: "
        "sha256 of the released files",
    )  # fmt: skip
    options = {
        "weights_of": Option("context", tuple(PARTS), why="what the hub release holds (and timm takes); the I-JEPA paper evaluates the "
                             "target encoder, which only Meta's training checkpoint has", selects_weights=True),
        "normalisation": Option("imagenet", tuple(STATISTICS), why="the statistics of the pretraining code; the hub's preprocessor, "
                                "saved with its class's defaults, says half"),
        "resize": Option("squash", ("squash", "crop"), why="as the hub's preprocessor does, and the whole radiograph is seen; crop takes "
                         "the central square, with the aspect ratio kept"),
    }  # fmt: skip
    network = "vit_huge_patch14_gap_224"

    @classmethod
    def card_for(cls, options):
        mean, std = STATISTICS[options["normalisation"]]
        return dataclasses.replace(cls.card, mean=mean, std=std)

    def load(self, device):
        import timm
        import torch

        # 0.6 billion parameters are not drawn at random only to be overwritten: with weights the network starts empty
        with torch.device("cpu" if self.weights is None else "meta"):
            self.vit = timm.create_model(self.network, img_size=self.card.image_size, num_classes=0)
        if self.weights is not None:
            load_strict(self.vit, self.weights, self.card.files[0], select=self._trunk, assign=True, fix=self.card.how_to_get)
        ready(self.vit, device)

    def preprocess(self, image):
        size = self.card.image_size
        small = resize(image, size, size) if self.options["resize"] == "squash" else resize_crop(image, size)
        return normalise(small, self.card.mean, self.card.std)

    def encode(self, images):
        tokens = self.vit.forward_features(images)  # after the final norm; no class token, so the first is a patch
        return Features(image=tokens.mean(dim=1), patches=tokens.unflatten(1, self.vit.patch_embed.grid_size))

    def encode_levels(self, images):
        return self.vit.forward_intermediates(images, indices=list(self.card.levels), norm=False, intermediates_only=True)

    def _trunk(self, content: dict) -> dict:
        """timm's tensors out of either release: the hub's model, or the training checkpoint with both encoders."""
        which = self.options["weights_of"]
        if "layernorm.weight" not in content:
            return {name.removeprefix("module."): value for name, value in content[PARTS[which]].items()}
        if which != "context":
            raise WeightsError(self.weights, "holds the context encoder only", got=f"weights_of: {which}",
                               fix="give the training checkpoint (.pth.tar) as the path, or set weights_of: context")  # fmt: skip
        return from_transformers(content)


def from_transformers(state: dict) -> dict:
    """The released names of an IJepaModel to timm's; query, key and value become one matrix."""
    import torch

    names = (("encoder.layer.", "blocks."), ("attention.output.dense", "attn.proj"), ("intermediate.dense", "mlp.fc1"),
             ("output.dense", "mlp.fc2"), ("layernorm_before", "norm1"), ("layernorm_after", "norm2"), ("layernorm", "norm"),
             ("embeddings.position_embeddings", "pos_embed"), ("embeddings.patch_embeddings.projection", "patch_embed.proj"))  # fmt: skip
    out = {}
    for name, value in state.items():
        if joint := re.fullmatch(r"(encoder\.layer\.\d+\.attention)\.attention\.(query|key|value)\.(weight|bias)", name):
            if joint[2] != "query":
                continue
            value = torch.cat([state[f"{joint[1]}.attention.{part}.{joint[3]}"] for part in ("query", "key", "value")])
            name = f"{joint[1]}.qkv.{joint[3]}".replace(".attention.", ".attn.")
        for theirs, ours in names:
            name = name.replace(theirs, ours)
        out[name] = value
    return out
