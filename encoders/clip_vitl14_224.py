"""CLIP ViT-L/14 at 224 pixels (Radford et al., 2021, arXiv 2103.00020): the image tower of OpenAI's release."""

from radbench.encoder import Card, Encoder, Features, ready
from radbench.image import normalise, resize_crop
from radbench.weights import load_strict

#: the text tower and what belongs to it, under open_clip's (and OpenAI's) and under transformers' names
TEXT = ("transformer.", "token_embedding.", "positional_embedding", "ln_final.", "text_projection", "logit_scale", "text_model.",
        "vision_model.embeddings.position_ids")  # fmt: skip
#: transformers' names in open_clip's words; query, key and value become one matrix
WORDS = {"vision_model.embeddings.position_embedding.weight": "positional_embedding", "vision_model.embeddings.patch_embedding": "conv1",
         "vision_model.embeddings.": "", "vision_model.pre_layrnorm": "ln_pre", "vision_model.post_layernorm": "ln_post",
         "vision_model.encoder.layers": "transformer.resblocks", "self_attn.out_proj": "attn.out_proj", "layer_norm": "ln_",
         "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}  # fmt: skip


class Clip224(Encoder):
    card = Card(
        title="CLIP@224", paper_name="CLIP@224", architecture="ViT-L/14", image_size=224, patch=14, dim=1024, params=303_179_776,
        weights="hf:timm/vit_large_patch14_clip_224.openai", files=("open_clip_model.safetensors",),
        # the snapshot of many public projects, with the file under this name; they record this sha256 of its 1,710,517,724 bytes
        revision="18d0535469bb561bf468d76c1d73aa35156c922b",
        digest="sha256:9ce2e8a8ebfff3793d7d375ad6d3c35cb9aebf3de7ace0fc7308accab7cd207e",
        how_to_get="python -m radbench.weights clip_vitl14_224 downloads 1.7 GB from "
        "huggingface.co/timm/vit_large_patch14_clip_224.openai (open, no account)",
        pooling="CLS token after ln_post, before the projection", pretrained_on=("wit_400m",), levels=(5, 11, 17, 23),
        mean=(0.48145466, 0.4578275, 0.40821073), std=(0.26862954, 0.26130258, 0.27577711), interpolation="bicubic",
        licence="MIT", citation="arXiv 2103.00020",
        notes="image tower without the 1024 x 768 projection; patches are after ln_post, taps before it; model.safetensors of "
        "openai/clip-vit-large-patch14 loads too, as a local path to the file; OpenAI's own file is TorchScript and is not read; "
        "commit and sha256 are those that public projects record",
    )  # fmt: skip

    network = "ViT-L-14-quickgelu"  # OpenAI trained with QuickGELU; the plain "ViT-L-14" has the same keys and the wrong activation

    def load(self, device):
        import open_clip
        import torch

        shape = open_clip.get_model_config(self.network)
        with torch.device("cpu" if self.weights is None else "meta"):  # nothing is drawn at random only to be overwritten
            self.vit = open_clip.CLIP(**shape).visual
        if self.weights is not None:
            load_strict(self.vit, self.weights, self.card.files[0], select=image_tower, assign=True, fix=self.card.how_to_get)
        ready(self.vit, device)
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


def image_tower(state: dict) -> dict:
    """The image tower from a file of both: open_clip's, OpenAI's state dict, or transformers' `model.safetensors`.

    Only the text tower is dropped, so that an unknown key is an error.
    """
    state = {key.removeprefix("visual."): value for key, value in state.items() if not key.startswith(TEXT)}
    return _from_transformers(state) if "vision_model.post_layernorm.weight" in state else state


def _from_transformers(state: dict) -> dict:
    import torch

    out = {"proj": state.pop("visual_projection.weight").T}
    for key, value in state.items():
        name = key
        for theirs, ours in WORDS.items():
            name = name.replace(theirs, ours)
        if "self_attn.q_proj." in name:
            joint = [value, *(state[key.replace("q_proj", other)] for other in ("k_proj", "v_proj"))]
            out[name.replace("self_attn.q_proj.", "attn.in_proj_")] = torch.cat(joint)
        elif "self_attn.k_proj." not in name and "self_attn.v_proj." not in name:
            out[name] = value
    return out
