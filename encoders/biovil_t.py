"""BioViL-T: the ResNet-50 of temporal vision-language pretraining on MIMIC-CXR (Bannur et al., 2023, arXiv 2301.04558)."""

from radbench.encoder import Card, Encoder, Features, one_grid, ready
from radbench.image import center_crop, normalise, resize_shortest
from radbench.weights import load_strict

FILE = "biovil_t_image_model_proj_size_128.pt"
RESIZE, CROP = 512, 448
TRUNK = "encoder.encoder."
#: what the file holds besides the trunk, none of it used for one image without a prior: ImageNet head, 256-channel
#: reduction, pooler over two visits with its constant for a missing one, projection to the joint space
UNUSED = (f"{TRUNK}fc.", "encoder.backbone_to_vit.", "encoder.vit_pooler.", "encoder.missing_previous_emb", "projector.")


class BioVilT(Encoder):
    card = Card(
        title="BioViL-T", paper_name="BioViL-T", architecture="ResNet-50", image_size=CROP, patch=32, dim=2048, params=23_508_032,
        weights="hf:microsoft/BiomedVLP-BioViL-T", files=(FILE,), revision="v1.0",
        digest="md5:a83080e2f23aa584a4f2b24c39b1bb64",  # hi-ml checks it after its own download
        how_to_get="python -m radbench.weights biovil_t downloads 110 MB from huggingface.co/microsoft/BiomedVLP-BioViL-T "
        "at tag v1.0 (open, no account)",
        pooling="mean of layer4", pretrained_on=("mimic_cxr",), licence="MIT", citation="arXiv 2301.04558", field=CROP / RESIZE,
        notes="input is stretched to its own minimum and maximum and not normalised; the paper's 27 M count unused parts (ImageNet "
        "head, pooler over two visits, projection); taps are layer1 to layer4 on layer3's grid of 28 x 28: layer1 and layer2 "
        "averaged, layer4 repeated, so that the decoder's pyramid has the strides of the ResNet; not verified here: the keys "
        "and sha256 of the released file",
    )  # fmt: skip

    def load(self, device):
        import timm

        # torchvision's network under torchvision's names; zero_init_last would leave random weights with shortcuts only
        self.resnet = timm.create_model("resnet50", num_classes=0, zero_init_last=False)
        if self.weights is not None:
            load_strict(self.resnet, self.weights, self.card.files[0], select=_trunk, fix=self.card.how_to_get)
        ready(self.resnet, device)

    def preprocess(self, image):
        low, high = image.min(), image.max()
        stretched = (image - low) / (high - low) if high > low else image * 0
        return normalise(center_crop(resize_shortest(stretched, RESIZE), self.card.image_size), 0.0, 1.0)

    def encode(self, images):
        last = self.resnet.forward_features(images)
        return Features(image=last.mean((2, 3)), patches=last.permute(0, 2, 3, 1))

    def encode_levels(self, images):
        return one_grid(self.resnet.forward_intermediates(images, indices=[1, 2, 3, 4], intermediates_only=True))


def _trunk(state: dict) -> dict:
    """The trunk's tensors under the trunk's names; keys outside UNUSED stay, so that an unknown one is an error."""
    return {key.removeprefix(TRUNK): value for key, value in state.items() if not key.startswith(UNUSED)}
