"""CXR Foundation, ELIXR v2 (Xu et al., 2023, arXiv 2308.01317): Google's EfficientNet-L2 and Q-Former as TensorFlow SavedModels."""

import dataclasses
import io

from radbench.artifact import Absent
from radbench.encoder import Card, Encoder, Features, Option
from radbench.errors import WeightsError
from radbench.image import normalise, resize, resize_pad

IMAGE, TEXT = "elixr-c-v2-pooled", "pax-elixr-b-text"
PARTS = ("saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001")
POOLINGS = {"contrastive": (4096, "32 x 128 contrastive image tokens of the Q-Former (ELIXR-B), flattened"),
            "mean": (1376, "mean of the 8 x 8 feature map (ELIXR-C)")}  # fmt: skip


class CxrFoundation(Encoder):
    card = Card(
        title="CXR Foundation", architecture="EfficientNet-L2 and Q-Former", image_size=1280, patch=160, dim=4096, params=474_801_860,
        weights="hf:google/cxr-foundation", files=tuple(f"{model}/{part}" for model in (IMAGE, TEXT) for part in PARTS), gated=True,
        how_to_get="accept the HAI-DEF terms at huggingface.co/google/cxr-foundation, `hf auth login`, then "
        "python -m radbench.weights cxr_foundation; pip install tensorflow tensorflow-text",
        pooling=POOLINGS["contrastive"][1], pretrained_on=("google_private_us_india", "mimic_cxr"), mean=0.0, std=1.0,
        needs=("tensorflow", "tensorflow_text"), licence="HAI-DEF terms of use", citation="arXiv 2308.01317",
        notes="runs in TensorFlow, which is not in requirements.txt; the network comes with the file, so nothing can be checked without "
        "it; the model resizes to its own side itself; 8 x 8 patches, nothing to tap: segmentation gets the last map four times; the "
        "parameters are those of EfficientNet-L2 with one grey channel, the Q-Former comes on top; never run here on real weights: "
        "names of the files, of signatures and outputs are those of Google's serving code and of public notebooks",
    )  # fmt: skip
    options = {
        "pooling": Option("contrastive", tuple(POOLINGS), why="the embedding that Google's notebooks train classifiers on"),
        "fit": Option("squash", ("squash", "pad"), why="the shape of input must be fixed here; what the model does with other aspects is "
                      "inside its graph and was not verified"),
    }  # fmt: skip

    @classmethod
    def card_for(cls, options):
        dim, words = POOLINGS[options["pooling"]]
        return dataclasses.replace(cls.card, dim=dim, pooling=words, padding=0.0 if options["fit"] == "pad" else None)

    def load(self, device):
        if self.weights is None:
            raise Absent(f"its network is in the weight files: {self.card.how_to_get}")
        try:
            import tensorflow
            import tensorflow_text  # noqa: F401  registers operators that the graph uses
        except ImportError as error:
            raise WeightsError("encoders/cxr_foundation.py", f"needs TensorFlow: {error}",
                               fix="pip install tensorflow tensorflow-text, into this environment") from None  # fmt: skip
        self._tensorflow, self._run = tensorflow, {}
        for name in (IMAGE, TEXT):
            try:
                self._run[name] = tensorflow.saved_model.load(str(self.weights / name)).signatures["serving_default"]
            except (OSError, KeyError, ValueError) as error:
                raise WeightsError(self.weights / name, "cannot be read as a SavedModel with a serving_default",
                                   got=f"{error}".split("\n")[0], fix=self.card.how_to_get) from None  # fmt: skip

    def preprocess(self, image):
        side = self.card.image_size
        return normalise(resize_pad(image, side) if self.options["fit"] == "pad" else resize(image, side, side), 0.0, 1.0, channels=1)

    def encode(self, images):
        import numpy as np
        import torch

        tf = self._tensorflow
        examples = tf.constant([self._example(image) for image in images[:, 0].float().cpu().numpy()])
        maps = [self._run[IMAGE](input_example=examples[row : row + 1])["feature_maps_0"] for row in range(len(images))]  # batches of one
        patches = np.concatenate([part.numpy() for part in maps])
        if self.options["pooling"] == "mean":
            pooled = patches.mean((1, 2))
        else:
            nothing = {"ids": tf.zeros((1, 1, 128), tf.int32), "paddings": tf.zeros((1, 1, 128))}  # no prompt
            found = [self._run[TEXT](image_feature=part, **nothing)["all_contrastive_img_emb"].numpy() for part in maps]
            pooled = np.concatenate(found).reshape(len(images), -1)
        return Features(torch.from_numpy(pooled).to(images.device), torch.from_numpy(patches).to(images.device))

    def _example(self, image):
        """A serialised tf.train.Example with the image as a 16-bit PNG: what decoding an 8-bit one to 16 bits gives, too."""
        import numpy as np
        from PIL import Image

        grey = np.round(image.clip(0, 1) * 65535).astype(np.uint16)
        buffer = io.BytesIO()
        Image.fromarray(grey).save(buffer, "PNG")
        train = self._tensorflow.train
        content = {"image/encoded": buffer.getvalue(), "image/format": b"png"}
        feature = {name: train.Feature(bytes_list=train.BytesList(value=[value])) for name, value in content.items()}
        return train.Example(features=train.Features(feature=feature)).SerializeToString()
