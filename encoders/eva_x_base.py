"""EVA-X-B (Yao et al., 2025, arXiv 2405.05237): masked image modelling on 520 k chest radiographs, ViT-B/16 with rotary positions."""

from radbench.encoder import Card, Encoder, Features, ready
from radbench.image import center_crop, normalise, resize_shortest
from radbench.weights import load_strict

#: tensors of pretraining only
UNUSED = ("mask_token", "lm_head.")
NAMES = (("mlp.ffn_ln", "mlp.norm"), ("mlp.w1", "mlp.fc1_g"), ("mlp.w2", "mlp.fc1_x"), ("mlp.w3", "mlp.fc2"),
         ("attn.q_bias", "attn.q_proj.bias"), ("attn.v_bias", "attn.v_proj.bias"))  # fmt: skip


class EvaXBase(Encoder):
    card = Card(
        title="EVA-X-B", architecture="ViT-B/16 (SwiGLU, rotary)", image_size=224, patch=16, dim=768, params=85_850_880,
        weights="hf:MapleF/eva_x", files=("eva_x_base_patch16_merged520k_mim.pt",),
        revision="2ffd2c9d7a714e53c8c485e581a51d1fc278d6de",  # the hub's history of the file: its one upload
        how_to_get="python -m radbench.weights eva_x_base downloads eva_x_base_patch16_merged520k_mim.pt from huggingface.co/MapleF/eva_x "
        "(open, no account)",
        pooling="mean of patch tokens, then the final norm", pretrained_on=("chexpert", "mimic_cxr", "nih_cxr14"), levels=(2, 5, 8, 11),
        mean=0.49185243, std=0.28509309, interpolation="bicubic", field=224 / 256, licence="MIT (badge; no licence file)",
        citation="arXiv 2405.05237",
        notes="shortest side 256 and the central 224, as the release's evaluation on ChestX-ray14: an eighth of the side is not seen; "
        "patch features are after the final norm, taps before it; stored in half precision; not verified here: sha256 of the released "
        "file, its list of training sets",
    )  # fmt: skip

    def load(self, device):
        from timm.models.eva import Eva

        self.vit = Eva(img_size=224, patch_size=16, embed_dim=768, depth=12, num_heads=12, mlp_ratio=4 * 2 / 3, qkv_fused=False,
                       swiglu_mlp=True, scale_mlp=True, use_rot_pos_emb=True, ref_feat_shape=(14, 14), num_classes=0)  # fmt: skip
        if self.weights is not None:
            load_strict(self.vit, self.weights, self.card.files[0], select=_as_timm, ignore=UNUSED, fix=self.card.how_to_get)
        ready(self.vit, device)

    def preprocess(self, image):
        small = center_crop(resize_shortest(image, 256, self.card.interpolation), 224)
        return normalise(small.clip(0, 1), self.card.mean, self.card.std)  # bicubic overshoots; 8-bit pictures cannot

    def encode(self, images):
        patches = self.vit.forward_features(images)[:, 1:]  # before the norm, which timm keeps as that of the head
        image = self.vit.fc_norm(patches.mean(dim=1))
        return Features(image=image, patches=self.vit.fc_norm(patches).unflatten(1, self.vit.patch_embed.grid_size))

    def encode_levels(self, images):
        return self.vit.forward_intermediates(images, indices=list(self.card.levels), norm=False, intermediates_only=True)


def _as_timm(content: dict) -> dict:
    """timm's names of the tensors, out of whichever container of the release; the norm of pretraining becomes that of the head."""
    for container in ("model_ema", "model", "module", "state_dict"):
        content = content.get(container, content)
    out = {}
    for name, value in content.items():
        for theirs, ours in NAMES:
            name = name.replace(theirs, ours)
        if "rope" not in name:  # tables that are computed
            out[f"fc_{name}" if name in ("norm.weight", "norm.bias") else name] = value
    return out
