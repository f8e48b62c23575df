"""RadJEPA: I-JEPA on unlabelled chest radiographs (Khan et al., 2026, arXiv 2601.15891), as pretrained by this workflow."""

from radbench.encoder import Card, Encoder, Features
from radbench.image import normalise, resize
from radbench.jepa.vit import encode_taps, encode_tokens, four_taps
from radbench.jepa.weights import load_run


class RadJepa(Encoder):
    card = Card(
        title="RadJEPA", paper_name="RadJEPA", architecture="ViT-B/14", weights="run:radjepa",
        image_size=None, patch=None, dim=None, params=None, pooling="mean of patch tokens", pretrained_on=(),
        licence="that of the pretraining data", citation="arXiv 2601.15891",
        how_to_get="snakemake pretrains it: configure pretrain.radjepa.data",
    )  # fmt: skip
    options = {"weights_of": "encoder"}  # the EMA target encoder; "context" takes the trained one (docs/decisions/0005)

    def load(self, device):
        self.vit, self.run = load_run(self.weights, self.options["weights_of"], device)

    def preprocess(self, image):
        size = self.run["image_size"]
        return normalise(resize(image, size, size), self.run["mean"], self.run["std"])

    def encode(self, images):
        grid = self.run["image_size"] // self.run["patch"]
        tokens = encode_tokens(self.vit, images)
        return Features(image=tokens.mean(dim=1), patches=tokens.unflatten(1, (grid, grid)))

    def encode_levels(self, images):
        grid = self.run["image_size"] // self.run["patch"]
        return encode_taps(self.vit, images, four_taps(self.run["depth"]), grid)
