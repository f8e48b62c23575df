"""CLIP ViT-L/14 at 224 pixels (Radford et al., 2021, arXiv 2103.00020): the image tower of OpenAI's release."""

from radbench.encoder import Card, Encoder, Features
from radbench.image import normalise, resize_crop
from radbench.weights import load_strict


class Clip224(Encoder):
    card = Card(
        title="CLIP@224", paper_name="CLIP@224", architecture="ViT-L/14", image_size=224, patch=14, dim=1024, params=303_179_776,
        weights="hf:timm/vit_large_patch14_clip_224.openai", files=("open_clip_model.safetensors",),
        how_to_get="python -m radbench.weights clip_vitl14_224 downloads 1.7 GB from "
        "huggingface.co/timm/vit_large_patch14_clip_224.openai (open, no account)",
        pooling="CLS token after ln_post, before the projection", pretrained_on=("wit_400m",), levels=(5, 11, 17, 23),
        mean=(0.48145466, 0.4578275, 0.40821073), std=(0.26862954, 0.26130258, 0.27577711), interpolation="bicubic",
        licence="MIT", citation="arXiv 2103.00020",
        notes="image tower without the 1024 x 768 projection; patches are after ln_post, taps before it; OpenAI's own file is "
        "TorchScript and is not read; not verified here: the file's commit and sha256, and that this repository has it under "
        "this name (open_clip 3.3 asks for it there, and its sibling for ViT-B/32 is laid out so)",
    )  # fmt: skip

    def load(self, device):
        import open_clip
        import torch

        # OpenAI trained with QuickGELU; the plain "ViT-L-14" has the same keys and the wrong activation
        shape = open_clip.get_model_config("ViT-L-14-quickgelu")
        with torch.device("cpu" if self.weights is None else "meta"):  # nothing is drawn at random only to be overwritten
            both = open_clip.CLIP(**shape)
        if self.weights is not None:  # the file holds both towers, so both are filled before the text tower is dropped
            load_strict(both, self.weights, "open_clip_model.safetensors", assign=True, fix=self.card.how_to_get)
        self.vit = both.visual.float().eval().to(device)
        self.vit.proj, self.vit.output_tokens = None, True

    def preprocess(self, image):
        small = resize_crop(image, self.card.image_size, self.card.interpolation)
        return normalise(small.clip(0, 1), self.card.mean, self.card.std)  # bicubic overshoots; 8-bit pictures cannot

    def encode(self, images):
        pooled, tokens = self.vit(images)
        return Features(image=pooled, patches=tokens.unflatten(1, self.vit.grid_size))

    def encode_levels(self, images):
        taps = self.vit.forward_intermediates(images, indices=list(self.card.levels), intermediates_only=True)
        return taps["image_intermediates"]
