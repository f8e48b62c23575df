"""BiomedCLIP: the ViT-B/16 of contrastive pretraining on figures of PubMed Central (Zhang et al., 2023, arXiv 2303.00915)."""

from radbench.encoder import Card, Encoder, Features, ready
from radbench.image import normalise, resize_crop
from radbench.weights import load_strict

FILE = "open_clip_pytorch_model.bin"
#: what the file holds besides the image tower: its projection to the joint space, the text tower, the temperature
UNUSED = ("visual.head.proj.", "text.", "logit_scale")


class BiomedClip(Encoder):
    card = Card(
        title="BiomedCLIP", paper_name="BiomedCLIP", architecture="ViT-B/16", image_size=224, patch=16, dim=768, params=85_798_656,
        weights="hf:microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224", files=(FILE,),
        # "Update ckpt." replaced the file under main: up to 06889418 it is that of "push_pretrained_to_hf_hub util (#5)", from 19a9890
        # on this one, whose sha256 the hub shows. The release's notebook was rerun with it, and who names no revision gets it
        revision="9f341de24bfb00180f1b847274256e9b65a3a32e",
        digest="sha256:52cc993c5c5ff962bd0c60931874bc001e7e9b41666a385530f4a036294576be",
        how_to_get="python -m radbench.weights biomedclip downloads 784 MB from "
        "huggingface.co/microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224 (open, no account)",
        pooling="CLS token after the final norm, before the projection", pretrained_on=("pmc_15m", "unknown"), levels=(2, 5, 8, 11),
        mean=(0.48145466, 0.4578275, 0.40821073), std=(0.26862954, 0.26130258, 0.27577711), interpolation="bicubic",
        licence="MIT", citation="arXiv 2303.00915",
        notes="image tower without the 768 x 512 projection, no text model is downloaded; taps are block outputs before the final "
        "norm; the paper's 256 tokens are 196 at 224 pixels; the figures of PubMed Central include chest radiographs, whose data "
        "sets are not known; the checkpoint is the later of two that have stood under main (`revision: "
        "06889418e18d0e9fd5de56a7d6c32cdd84b61264` has the earlier); not verified here: keys of the released file",
    )  # fmt: skip

    def load(self, device):
        import timm

        self.vit = timm.create_model("vit_base_patch16_224", num_classes=0)  # plain GELU, as the release's configuration names it
        if self.weights is not None:
            load_strict(self.vit, self.weights, FILE, select=_trunk, fix=self.card.how_to_get)
        ready(self.vit, device)

    def preprocess(self, image):
        small = resize_crop(image, self.card.image_size, self.card.interpolation)
        return normalise(small.clip(0, 1), self.card.mean, self.card.std)  # bicubic overshoots; 8-bit pictures cannot

    def encode(self, images):
        tokens = self.vit.forward_features(images)
        return Features(image=tokens[:, 0], patches=tokens[:, 1:].unflatten(1, self.vit.patch_embed.grid_size))

    def encode_levels(self, images):
        return self.vit.forward_intermediates(images, indices=list(self.card.levels), norm=False, intermediates_only=True)


def _trunk(state: dict) -> dict:
    """The image tower's tensors under timm's names; keys outside UNUSED stay, so that an unknown one is an error."""
    return {key.removeprefix("visual.trunk."): value for key, value in state.items() if not key.startswith(UNUSED)}
