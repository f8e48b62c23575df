"""CheXzero: CLIP ViT-B/32 continued on MIMIC-CXR images and reports (Tiu et al., 2022, doi 10.1038/s41551-022-00936-9)."""

from radbench.encoder import Card, Option
from radbench.image import normalise, resize

from .clip_vitl14_224 import Clip224

FILE = "best_64_0.0001_original_35000_0.864.pt"
SQUARE = 320


class CheXzero(Clip224):
    card = Card(
        title="CheXzero", paper_name="CheXzero", architecture="ViT-B/32", image_size=224, patch=32, dim=768, params=87_456_000,
        weights=f"file:{FILE}", files=(FILE,),
        how_to_get=f"download {FILE} from the Google Drive folder linked at github.com/rajpurkarlab/CheXzero (checkpoints) into "
        "weights/; another of the ten checkpoints: give its path under encoders.chexzero.weights",
        pooling="CLS token after ln_post, before the projection", pretrained_on=("wit_400m", "mimic_cxr"), levels=(2, 5, 8, 11),
        mean=101.48761 / 255, std=83.43944 / 255, interpolation="lanczos", padding=0.0,
        licence="MIT (code); none is stated for the weights", citation="doi 10.1038/s41551-022-00936-9",
        notes="one of the ten checkpoints, where the publication averages the predictions of all; image tower without the 768 x 512 "
        "projection (the paper's 151 M count the text tower); longest side to 320, padded with black, normalised, then brought to "
        "224; only 7 x 7 patches; patches are after ln_post, taps before it; not verified here: sha256 of the released file",
    )  # fmt: skip
    options = {
        "antialias": Option(False, why="training resized tensors with torchvision 0.11, which did not antialias them; later versions do")
    }
    network = "ViT-B-32-quickgelu"

    def preprocess(self, image):
        import numpy as np
        import torch
        from torch.nn.functional import interpolate

        ratio = SQUARE / max(image.shape)
        rows, cols = (int(side * ratio) for side in image.shape)  # truncated, as the release does
        top, left = (SQUARE - rows) // 2, (SQUARE - cols) // 2
        square = np.zeros((SQUARE, SQUARE), dtype=np.float32)
        square[top : top + rows, left : left + cols] = resize(image, rows, cols, self.card.interpolation).clip(0, 1)
        tensor = torch.from_numpy(normalise(square, self.card.mean, self.card.std))[None]
        size = (self.card.image_size,) * 2
        return interpolate(tensor, size, mode="bicubic", align_corners=False, antialias=self.options["antialias"])[0].numpy()
