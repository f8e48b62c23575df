"""Control: the image itself, reduced to 32 x 32 grey values. An encoder should beat its own input."""

from radbench.encoder import Card, Encoder, Features
from radbench.image import resize

SIDE, CELL = 96, 8  # input side; each patch is an 8 x 8 cell of it
IMAGE_SIDE = 32


class RawPixels(Encoder):
    card = Card(
        title="Raw pixels", architecture="none", control=True, image_size=SIDE, patch=CELL, dim=IMAGE_SIDE**2, params=0,
        pooling="32 x 32 grey values", pretrained_on=(), licence="none", citation="",
        notes="segmentation and reports see each 8 x 8 cell's 64 grey values, four times the same map",
    )  # fmt: skip

    def load(self, device):
        pass  # nothing to load

    def preprocess(self, image):
        return resize(image, SIDE, SIDE)[None]

    def encode(self, images):
        from torch.nn.functional import avg_pool2d, pixel_unshuffle

        small = avg_pool2d(images, SIDE // IMAGE_SIDE)
        return Features(image=small.flatten(1), patches=pixel_unshuffle(images, CELL).permute(0, 2, 3, 1))
