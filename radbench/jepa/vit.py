"""The vision transformer of I-JEPA: no class token, fixed sine-cosine positions. The blocks are timm's.

Parameter names are timm's (`patch_embed.proj`, `blocks.N.attn.qkv`, ...), so released RadJEPA weights load into it and
weights trained here load into `timm.create_model("vit_base_patch16_224", patch_size=14, class_token=False, ...)`.
"""

import dataclasses

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn


@dataclasses.dataclass(frozen=True)
class ViTShape:
    """Sizes of a trunk. `image_size` and `patch` in pixels; the image is square and a whole number of patches wide."""

    image_size: int = 224
    patch: int = 14
    width: int = 768
    depth: int = 12
    heads: int = 12

    @property
    def grid(self) -> int:
        return self.image_size // self.patch


def build_vit(shape: ViTShape, seed: int | None = None) -> VisionTransformer:
    """A randomly initialised trunk: truncated normal of SD 0.02 for weights, zero biases, as I-JEPA's `init_model` leaves it."""
    vit = VisionTransformer(
        img_size=shape.image_size, patch_size=shape.patch, embed_dim=shape.width, depth=shape.depth, num_heads=shape.heads,
        mlp_ratio=4.0, qkv_bias=True, class_token=False, global_pool="", num_classes=0, norm_layer=layer_norm,
    )  # fmt: skip
    initialise(vit, seed)
    vit.pos_embed.requires_grad = False
    vit.pos_embed.data.copy_(sincos_positions(shape.width, shape.grid)[None])
    return vit


def layer_norm(width: int, **unused) -> nn.LayerNorm:
    """LayerNorm with I-JEPA's epsilon."""
    return nn.LayerNorm(width, eps=1e-6)


def initialise(module: nn.Module, seed: int | None) -> None:
    """Truncated normal (SD 0.02, cut at 2 units as torch's default) for every linear and convolution weight, from `seed`."""
    generator = torch.Generator().manual_seed(torch.seed() if seed is None else seed)
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            nn.init.trunc_normal_(part.weight, std=0.02, generator=generator)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def sincos_positions(width: int, grid: int) -> torch.Tensor:
    """(grid * grid, width) fixed positions: half of the channels code the column, half the row, as in MAE and I-JEPA.

    Channel layout of each half: sin(p w_0) … sin(p w_k), cos(p w_0) … cos(p w_k), with w_i = 10000^(-i / (width / 4)).
    """
    omega = 1.0 / 10000 ** (torch.arange(width // 4, dtype=torch.float64) / (width / 4))
    rows, cols = torch.meshgrid(torch.arange(grid, dtype=torch.float64), torch.arange(grid, dtype=torch.float64), indexing="ij")
    parts = [part for place in (cols, rows) for angle in [place.reshape(-1, 1) * omega] for part in (angle.sin(), angle.cos())]
    return torch.cat(parts, dim=1).float()


def gather_tokens(tokens: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
    """Rows `keep` (B, K) of tokens (B, N, C) -> (B, K, C)."""
    return tokens.gather(1, keep.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))


def encode_tokens(vit: VisionTransformer, images: torch.Tensor, keep: torch.Tensor | None = None) -> torch.Tensor:
    """(B, 3, h, w) -> normed tokens (B, N, C); only the patches `keep` (B, K) when given, so the rest cost nothing."""
    tokens = vit.patch_embed(images) + vit.pos_embed
    if keep is not None:
        tokens = gather_tokens(tokens, keep)
    for block in vit.blocks:
        tokens = block(tokens)
    return vit.norm(tokens)


def encode_taps(vit: VisionTransformer, images: torch.Tensor, taps: tuple[int, ...], grid: int) -> list[torch.Tensor]:
    """Outputs of the blocks `taps` (0-based), before the final norm, as maps (B, C, grid, grid), row 0 on top."""
    tokens, maps = vit.patch_embed(images) + vit.pos_embed, []
    for number, block in enumerate(vit.blocks):
        tokens = block(tokens)
        if number in taps:
            maps.append(tokens.transpose(1, 2).unflatten(2, (grid, grid)))
    return maps


def four_taps(depth: int) -> tuple[int, int, int, int]:
    """Block indices at 1/4, 2/4, 3/4 and 4/4 of the depth.

    >>> four_taps(12)
    (2, 5, 8, 11)
    """
    return tuple(max(0, round(depth * part / 4) - 1) for part in (1, 2, 3, 4))
