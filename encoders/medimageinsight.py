"""MedImageInsight: DaViT-H of contrastive pretraining on medical images of many kinds (Codella et al., 2024, arXiv 2410.06542)."""

import dataclasses
import re

from radbench.encoder import Card, Encoder, Features, Option, one_grid, ready
from radbench.image import normalise, resize
from radbench.weights import load_strict

FILE = "medimageinsigt-v1.0.0.safetensors"  # the release's own spelling
POOLINGS = {"projection": (1024, "mean of the last stage, normalised, through the projection to the joint space"),
            "mean": (2048, "mean of the last stage, normalised")}  # fmt: skip
#: the text tower, its projection and the temperature, under both spellings that the release's loader knows
UNUSED = ("lang_encoder.", "lang_projection", "text.", "text_projection", "logit_scale")
#: the release's names of a block in timm's words, in this order
WORDS = (("image_encoder.", "davit."), ("visual.", "davit."), (r"davit\.convs\.0\.proj", "davit.stem.conv"),
         (r"davit\.convs\.0", "davit.stem"), (r"convs\.(\d+)\.proj", r"stages.\1.downsample.conv"),
         (r"convs\.(\d+)", r"stages.\1.downsample"),
         (r"davit\.blocks\.(\d+)", r"davit.stages.\1.blocks"), ("davit.norms", "davit.head.norm"),
         (r"(window|channel)_attn\.norm", "norm1"), (r"(window|channel)_attn\.fn", "attn"), (r"ffn\.norm", "norm2"),
         (r"ffn\.fn\.net", "mlp"), (r"conv1\.fn\.dw", "cpe1.proj"), (r"conv2\.fn\.dw", "cpe2.proj"))  # fmt: skip


class MedImageInsight(Encoder):
    card = Card(
        title="MedImageInsight", architecture="DaViT-H", image_size=480, patch=32, dim=1024, params=362_733_568,
        weights=f"file:{FILE}", files=(FILE,),
        how_to_get="deploy MedImageInsight from the Azure AI model catalogue and take 2024.09.27/vision_model/medimageinsigt-v1.0.0.pt "
        f"from its files; that file is safetensors by content, so put it into weights/ as {FILE}",
        pooling=POOLINGS["projection"][1], pretrained_on=("mimic_cxr", "nih_cxr14", "chexpert"),
        labels_seen=("mimic_cxr", "nih_cxr14", "chexpert"),
        mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), interpolation="bicubic", licence="MIT, use restricted by its model card",
        citation="arXiv 2410.06542",
        notes="architecture, input and names are those of the released configuration 2024.09.27 (480 x 480, squashed), read in a public "
        "copy; its training list names MIMIC-CXR, ChestX-ray14 and CheXpert among other kinds of images, whose classes serve as "
        "texts; image features are not scaled to unit length; taps are the outputs of the four stages on the third's grid of "
        "30 x 30: the first two averaged, the last repeated; not verified here: keys and sha256 of the released file, the licence",
    )  # fmt: skip
    options = {"pooling": Option("projection", tuple(POOLINGS), why="what the release's encode_image returns, before unit length")}

    @classmethod
    def card_for(cls, options):
        dim, words = POOLINGS[options["pooling"]]
        return dataclasses.replace(cls.card, dim=dim, pooling=words)

    def load(self, device):
        import timm
        import torch
        from torch import nn

        with torch.device("cpu" if self.weights is None else "meta"):  # nothing is drawn at random only to be overwritten
            davit = timm.create_model("davit_huge_fl", num_classes=0)  # Florence-2's variant: window 12, overlapping downsampling
            self.net = nn.ModuleDict({"davit": davit, "projection": nn.Linear(davit.num_features, 1024, bias=False)})
        if self.weights is not None:
            load_strict(self.net, self.weights, FILE, select=_as_timm, assign=True, fix=self.card.how_to_get)
        ready(self.net, device)

    def preprocess(self, image):
        small = resize(image, self.card.image_size, self.card.image_size, self.card.interpolation)
        return normalise(small.clip(0, 1), self.card.mean, self.card.std)  # bicubic overshoots; 8-bit pictures cannot

    def encode(self, images):
        last = self.net["davit"].forward_features(images)
        image = self.net["davit"].forward_head(last, pre_logits=True)
        return Features(self.net["projection"](image) if self.options["pooling"] == "projection" else image, last.permute(0, 2, 3, 1))

    def encode_levels(self, images):
        return one_grid(self.net["davit"].forward_intermediates(images, indices=[0, 1, 2, 3], intermediates_only=True))


def _as_timm(state: dict) -> dict:
    """The image tower and its projection under timm's names; keys outside UNUSED stay, so that an unknown one is an error."""
    out = {}
    for key, value in state.items():
        if key in ("image_projection", "vision_projection"):
            out["projection.weight"] = value.T.contiguous()
        elif not key.startswith(UNUSED):
            for theirs, ours in WORDS:
                key = re.sub(rf"^{theirs}" if theirs in ("image_encoder.", "visual.") else theirs, ours, key)
            out[key] = value
    return out
