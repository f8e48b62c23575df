"""Control: RadJEPA's encoder before its first step. What it reaches is the architecture and the probe, not learning."""

from radbench.encoder import Card

from .radjepa import RadJepa


class RandomViT(RadJepa):
    card = Card(
        title="Random ViT", architecture="ViT-B/14", weights="run:radjepa/initial", control=True,
        image_size=None, patch=None, dim=None, params=None, pooling="mean of patch tokens", pretrained_on=(),
        licence="none", citation="", how_to_get="comes with the pretraining run radjepa",
    )  # fmt: skip
    options = {}

    def load(self, device):
        from radbench.jepa.weights import load_run

        self.trunk = load_run(self.weights, "initial", device)
