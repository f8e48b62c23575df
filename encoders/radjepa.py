"""RadJEPA: I-JEPA on unlabelled chest radiographs (Khan et al., 2026, arXiv 2601.15891), as pretrained by this workflow."""

from radbench.encoder import Card, Encoder, Features, Option
from radbench.image import normalise, resize


class RadJepa(Encoder):
    card = Card(
        title="RadJEPA", paper_name="RadJEPA", architecture="ViT-B/14", weights="run:radjepa",
        image_size=None, patch=None, dim=None, params=None, pooling="mean of patch tokens", pretrained_on=(),
        licence="that of the pretraining data", citation="arXiv 2601.15891",
        how_to_get="snakemake pretrains it: configure pretrain.radjepa.data",
    )  # fmt: skip
    options = {"weights_of": Option("encoder", ("encoder", "context"), why="the EMA target encoder, as I-JEPA evaluates; "
                                    "context is the one that gradients reach (docs/decisions/0005)", selects_weights=True)}  # fmt: skip

    def load(self, device):
        from radbench.jepa.weights import load_run

        self.trunk = load_run(self.weights, self.options["weights_of"], device)

    def preprocess(self, image):
        return normalise(resize(image, self.trunk.size, self.trunk.size), self.trunk.mean, self.trunk.std)

    def encode(self, images):
        patches = self.trunk(images)
        return Features(image=patches.mean(dim=(1, 2)), patches=patches)

    def encode_levels(self, images):
        return self.trunk.taps(images)
