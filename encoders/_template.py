"""Fill this in (`make encoder NAME=<id>` has copied it: the file's stem is the encoder's id), then `python -m radbench.check <id>`.

Say in one line what the encoder is and where it is published. The file must define exactly one Encoder. Import the
deep learning library inside `load`: this file is imported whenever encoders are listed.
"""

from radbench.encoder import Card, Encoder, Features, ready
from radbench.image import normalise, resize
from radbench.weights import load_strict


class Template(Encoder):
    card = Card(
        title="Name in tables",
        architecture="ViT-Ti/16",  # as the field writes it
        image_size=224, patch=16, dim=192,  # input side, patch and width of the image features
        params=5_524_416,  # of the image tower as loaded; `check` prints what it counts
        pooling="CLS token after the final norm",  # how the image features are made
        pretrained_on=("a_dataset",),  # names as in `sources` of an index: results on these data sets get a mark
        labels_seen=(),  # those of them whose labels it was trained on
        weights="hf:owner/repository", files=("model.safetensors",),  # or "file:<name>" below weights/; see radbench/weights.py
        revision="main",  # better: the 40 hexadecimal digits of a commit
        how_to_get="python -m radbench.weights <id> downloads it from huggingface.co/owner/repository",
        levels=(2, 5, 8, 11),  # blocks tapped for segmentation
        mean=0.5, std=0.5, interpolation="bilinear",  # one number, or one per channel; None when the input is not normalised so
        licence="MIT", citation="arXiv 0000.00000",
        paper_name="",  # row of results/published/ to compare with, if any
        notes="what a reader of the table should know, and what you could not verify",
    )  # fmt: skip
    options = {}  # what a configuration may set: {"pooling": Option("cls", ("cls", "mean"), why="…")}, read as self.options["pooling"]

    def load(self, device):
        import timm

        self.vit = timm.create_model("vit_tiny_patch16_224", num_classes=0)  # random weights: that is what checks run on
        if self.weights is not None:
            load_strict(self.vit, self.weights, self.card.files[0], fix=self.card.how_to_get)
        ready(self.vit, device)

    def preprocess(self, image):
        """(H, W) in [0, 1], 1 = white, any size. See radbench/image.py for crop, pad and squash."""
        return normalise(resize(image, 224, 224, self.card.interpolation), self.card.mean, self.card.std)

    def encode(self, images):
        tokens = self.vit.forward_features(images)
        grid = self.vit.patch_embed.grid_size
        return Features(image=tokens[:, 0], patches=tokens[:, 1:].unflatten(1, grid))  # row 0 of the grid on top

    def encode_levels(self, images):
        """Four maps of one grid, shallow to deep. Delete it when there is nothing to tap, and say so in the notes."""
        return self.vit.forward_intermediates(images, indices=list(self.card.levels), norm=False, intermediates_only=True)
