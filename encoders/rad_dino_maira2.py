"""RAD-DINO-MAIRA-2 (Bannur et al., 2024, arXiv 2406.04449): RAD-DINO's network trained on more data, the image encoder of MAIRA-2."""

import dataclasses
import json

from radbench.errors import WeightsError

from .rad_dino import RadDino

PREPROCESSOR = "preprocessor_config.json"


class RadDinoMaira2(RadDino):
    card = dataclasses.replace(
        RadDino.card, title="RAD-DINO-MAIRA-2", paper_name="", weights="hf:microsoft/rad-dino-maira-2",
        files=("config.json", PREPROCESSOR, "model.safetensors"), mean=None, std=None,
        revision="a6132efb9268859545e9f68be18a76a6473f174a",  # the hub's list of files at this commit, the head of main, has the three
        pretrained_on=(*RadDino.card.pretrained_on, "unknown"),
        how_to_get="python -m radbench.weights rad_dino_maira2 downloads 346 MB from huggingface.co/microsoft/rad-dino-maira-2; read "
        "its licence there (MSRLA, research only)", licence="MSRLA", citation="arXiv 2406.04449",
        notes="not the RAD-DINO control of the paper; mean and standard deviation are read from the release's preprocessor_config.json; "
        "taps are block outputs before the final norm; trained on RAD-DINO's sets and more, private ones among them, so that overlaps "
        "with other data are unknown; not verified here: sha256 of the released file, its list of training sets",
    )  # fmt: skip

    def __init__(self, weights=None, options=None):
        super().__init__(weights, options)
        mean, std = self._statistics()
        self.card = dataclasses.replace(self.card, mean=mean, std=std)

    def _statistics(self):
        """Mean and standard deviation from the file beside the weights; RAD-DINO's only where the weights are random, too."""
        if self.weights is None:
            return RadDino.card.mean, RadDino.card.std
        file = (self.weights if self.weights.is_dir() else self.weights.parent) / PREPROCESSOR
        try:
            said = json.loads(file.read_text())
            found = said["size"]["shortest_edge"], said["crop_size"]["height"], said["crop_size"]["width"], said["resample"]
            statistics = tuple(map(float, said["image_mean"])), tuple(map(float, said["image_std"]))
        except OSError as error:
            raise WeightsError(file, "cannot be read", got=error.strerror, expected="the file of the release, beside the weights",
                               fix=self.card.how_to_get) from None  # fmt: skip
        except (ValueError, KeyError, TypeError) as error:
            raise WeightsError(file, "does not say how images are prepared", got=f"{type(error).__name__} {error}",
                               fix=self.card.how_to_get) from None  # fmt: skip
        if found != (518, 518, 518, 3):
            raise WeightsError(file, "prepares another input (shortest side, crop height, crop width, interpolation)", got=found,
                               expected=(518, 518, 518, 3), fix=self.card.how_to_get)  # fmt: skip
        return statistics
