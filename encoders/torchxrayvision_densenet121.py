"""DenseNet-121 classifiers of torchxrayvision (Cohen et al., 2022, arXiv 2111.00595): supervised on radiographs, one grey channel."""

import dataclasses

from radbench.encoder import Card, Encoder, Features, Option, one_grid, ready
from radbench.weights import load_strict

#: what each release was trained on, images and labels alike
TRAINED_ON = {"mimic_ch": ("mimic_cxr",), "chex": ("chexpert",), "nih": ("nih_cxr14",), "pc": ("padchest",),
              "all": ("nih_cxr14", "padchest", "chexpert", "mimic_cxr", "iu_xray", "rsna")}  # fmt: skip


class XrvDenseNet(Encoder):
    card = Card(
        title="XRV DenseNet-121", architecture="DenseNet-121", image_size=224, patch=32, dim=1024, params=6_947_584,
        pooling="mean of the last feature map", pretrained_on=(), mean=0.5, std=1 / 2048, padding=0.5,
        interpolation="own", licence="Apache-2.0", citation="arXiv 2111.00595",
        notes="supervised classifier; centre square, values stretched to -1024 to 1024 and resized as scikit-image 0.26 does, which "
        "blends grey in at the rim; taps are the outputs of the four dense blocks on the third's grid of 14 x 14: the first two "
        "averaged, the last repeated; the release is a pickled module, which is code and is not read: its state dict is; not "
        "verified here: keys and sha256 of the released files",
    )  # fmt: skip
    options = {"trained_on": Option("mimic_ch", tuple(TRAINED_ON), selects_weights=True,
                                    why="'all' was trained on RSNA-Pneumonia's images and labels and 'nih' on its images, so neither is "
                                    "a frozen encoder from outside there")}  # fmt: skip

    @classmethod
    def card_for(cls, options):
        name = f"densenet121-res224-{options['trained_on']}"
        sets = TRAINED_ON[options["trained_on"]]
        code = f"import torch, torchxrayvision as xrv; torch.save(xrv.models.DenseNet(weights='{name}').state_dict(), 'weights/{name}.pt')"
        convert = f'pip install torchxrayvision, then python -c "{code}": at your own risk, this runs the code in the pickle'
        return dataclasses.replace(cls.card, weights=f"file:{name}.pt", files=(f"{name}.pt",), how_to_get=convert, pretrained_on=sets,
                                   labels_seen=sets)  # fmt: skip

    def load(self, device):
        import timm

        self.net = timm.create_model("densenet121", in_chans=1, num_classes=0)  # under the names of torchvision and torchxrayvision
        if self.weights is not None:
            unused = ("classifier.", "op_threshs")
            load_strict(self.net, self.weights, self.card.files[0], ignore=unused, fix=self.card.how_to_get)
        ready(self.net, device)

    def preprocess(self, image):
        import numpy as np
        from scipy.ndimage import gaussian_filter, zoom

        side = min(image.shape)
        top, left = (length // 2 - side // 2 for length in image.shape)
        square = (2 * image[top : top + side, left : left + side].astype(np.float64) - 1) * 1024
        factor = side / self.card.image_size
        smooth = gaussian_filter(square, (factor - 1) / 2, mode="constant") if factor > 1 else square
        small = zoom(smooth, 1 / factor, order=1, mode="grid-constant", grid_mode=True)
        return small.astype(np.float32)[None]

    def encode(self, images):
        last = self.net.forward_features(images)  # after the final norm and ReLU
        return Features(image=last.mean((2, 3)), patches=last.permute(0, 2, 3, 1))

    def encode_levels(self, images):
        taps = []
        for name, part in self.net.features.named_children():  # timm's forward_intermediates has the final norm after the last block
            images = part(images)
            taps += [images] if name.startswith("denseblock") else []
        return one_grid(taps)
