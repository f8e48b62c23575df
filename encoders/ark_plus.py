"""Ark+: Swin-L at 768 pixels, supervised on six public data sets of radiographs (Ma et al., 2025, doi 10.1038/s41586-025-09079-8)."""

import dataclasses
import re

from radbench.encoder import Card, Encoder, Features, Option, one_grid, ready
from radbench.image import normalise, resize
from radbench.weights import load_strict

SETS = ("mimic_cxr", "chexpert", "nih_cxr14", "rsna", "vindr_cxr", "shenzhen")
POOLINGS = {
    "projector": (1376, "mean of tokens after the final norm, through the projector"),
    "mean": (1536, "mean of tokens after the final norm"),
}


class ArkPlus(Encoder):
    card = Card(
        title="Ark+", architecture="Swin-L", image_size=768, patch=32, dim=1376, params=197_313_428,
        weights="file:Ark6_swinLarge768_ep50.pth.tar", files=("Ark6_swinLarge768_ep50.pth.tar",),
        how_to_get="request the model with the form linked at github.com/jlianglab/Ark, put the file into weights/",
        pooling=POOLINGS["projector"][1], pretrained_on=SETS, labels_seen=SETS,
        mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), interpolation="bicubic",
        licence="ASU, non-commercial, by request", citation="doi 10.1038/s41586-025-09079-8",
        notes="supervised on the labels of VinDr-CXR and RSNA-Pneumonia among others, so not a frozen encoder from outside there; "
        "input squashed to 768 x 768; taps are the outputs of the four stages before the final norm, on the third's grid of 48 x 48: "
        "the first two averaged, the last repeated; not verified here: keys and sha256 of the released file, the publication's doi",
    )  # fmt: skip
    options = {"pooling": Option("projector", tuple(POOLINGS), why="what the release's generate_embeddings returns by default")}

    @classmethod
    def card_for(cls, options):
        dim, words = POOLINGS[options["pooling"]]
        return dataclasses.replace(cls.card, dim=dim, pooling=words)

    def load(self, device):
        import timm
        from torch import nn

        swin = timm.create_model("swin_large_patch4_window12_384", img_size=self.card.image_size, num_classes=0)
        self.net = nn.ModuleDict({"swin": swin, "projector": nn.Linear(swin.num_features, 1376)})
        if self.weights is not None:
            load_strict(self.net, self.weights, self.card.files[0], select=_as_timm, fix=self.card.how_to_get)
        ready(self.net, device)

    def preprocess(self, image):
        small = resize(image, self.card.image_size, self.card.image_size, self.card.interpolation)
        return normalise(small.clip(0, 1), self.card.mean, self.card.std)  # bicubic overshoots; 8-bit pictures cannot

    def encode(self, images):
        tokens = self.net["swin"].forward_features(images)  # (B, gh, gw, C)
        pooled = tokens.mean((1, 2))
        return Features(image=self.net["projector"](pooled) if self.options["pooling"] == "projector" else pooled, patches=tokens)

    def encode_levels(self, images):
        return one_grid(self.net["swin"].forward_intermediates(images, indices=[0, 1, 2, 3], intermediates_only=True))


def _as_timm(content: dict) -> dict:
    """The teacher under timm's names. The release's timm 0.5 downsamples at the end of a stage, timm 1.0 at the start of the next.

    Dropped: the heads of the six tasks, timm's unused ImageNet head, and two buffers that follow from the sizes.
    """
    state = {key.removeprefix("module."): value for key, value in content["teacher"].items()}
    unused = ("omni_heads.", "head.")
    kept = {key: value for key, value in state.items()
            if not key.startswith(unused) and not key.endswith(("attn_mask", "relative_position_index"))}  # fmt: skip
    names = {key: re.sub(r"layers\.(\d+)\.downsample", lambda found: f"layers.{int(found[1]) + 1}.downsample", key) for key in kept}
    return {name if name.startswith("projector.") else f"swin.{name}": kept[key] for key, name in names.items()}
