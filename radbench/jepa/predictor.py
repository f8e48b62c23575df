"""I-JEPA's predictor: a narrow transformer that sees the context tokens and one mask token per target patch."""

import torch
from timm.models.vision_transformer import Block
from torch import nn

from .vit import gather_tokens, initialise, layer_norm, sincos_positions


class Predictor(nn.Module):
    """Predicts the target encoder's tokens (B, M, T, C) of M target blocks from the context's tokens (B, K, C).

    Each block is predicted by itself, from the context alone: the M blocks are M copies of the batch, so no mask token
    of one block is seen by another (Assran et al., 2023, equation 1).
    """

    def __init__(self, width: int, grid: int, predictor_width: int, depth: int, heads: int, seed: int | None = None):
        super().__init__()
        self.embed = nn.Linear(width, predictor_width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, predictor_width))
        self.register_buffer("positions", sincos_positions(predictor_width, grid)[None], persistent=False)
        self.blocks = nn.ModuleList(
            Block(predictor_width, heads, mlp_ratio=4.0, qkv_bias=True, norm_layer=layer_norm) for _ in range(depth)
        )
        self.norm = layer_norm(predictor_width)
        self.project = nn.Linear(predictor_width, width)
        initialise(self, seed)
        generator = torch.Generator().manual_seed(torch.seed() if seed is None else seed + 1)
        nn.init.trunc_normal_(self.mask_token, std=0.02, generator=generator)

    def forward(self, context: torch.Tensor, keep: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """context (B, K, C) at patches keep (B, K); targets (B, M, T) patch numbers -> (B, M, T, C)."""
        batch, blocks, size = targets.shape
        positions = self.positions.expand(batch, -1, -1)
        seen = self.embed(context) + gather_tokens(positions, keep)
        asked = self.mask_token + gather_tokens(positions, targets.reshape(batch, -1)).unflatten(1, (blocks, size))
        tokens = torch.cat([seen.unsqueeze(1).expand(-1, blocks, -1, -1), asked], dim=2).flatten(0, 1)
        for block in self.blocks:
            tokens = block(tokens)
        return self.project(self.norm(tokens[:, -size:])).unflatten(0, (batch, blocks))
