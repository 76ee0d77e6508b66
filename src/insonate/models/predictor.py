"""Predictor: a narrow transformer that fills in hidden patches from visible ones.

Source: Assran et al. 2023 (arXiv 2301.08243), sec. 3. Page: docs/methods/ijepa.md.
Shapes: B images, E contexts and T targets an image, K context and M target tokens, D encoder width, P width.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from insonate.errors import RecipeError
from insonate.models.positions import sincos_2d
from insonate.models.vit import LAYER_NORM_EPS, init_transformer


class QueryBlock(Block):
    """A transformer block with output for the last tokens only; the others are keys and values."""

    def forward(self, x: Tensor, queries: int) -> Tensor:  # type: ignore[override]
        """Tokens B N P → the outputs of the last `queries` of them, B M P; equal to a whole block's."""
        attention: Any = self.attn
        normed, asked = self.norm1(x), x[:, -queries:]
        width, heads = x.shape[-1], attention.num_heads
        weight, bias = attention.qkv.weight, attention.qkv.bias
        q = F.linear(normed[:, -queries:], weight[:width], bias[:width])  # B M P
        kv = F.linear(normed, weight[width:], bias[width:])  # B N 2P
        q = q.reshape(*q.shape[:2], heads, -1).transpose(1, 2)  # B H M d
        k, v = kv.reshape(*kv.shape[:2], 2, heads, -1).permute(2, 0, 3, 1, 4)  # B H N d
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)  # B M P
        asked = asked + attention.proj(attended)
        return asked + self.mlp(self.norm2(asked))


class Predictor(nn.Module):
    """Features of target patches, from the tokens of context patches and the positions of both."""

    pos_embed: Tensor

    def __init__(
        self,
        embed_dim: int,
        grid: tuple[int, int],
        *,
        width: int = 384,
        depth: int = 6,
        heads: int = 12,
        mlp_ratio: float = 4.0,
        depth_scaled_init: bool = True,
    ) -> None:
        super().__init__()
        if width % heads or width % 4:
            raise RecipeError(
                "objective.predictor_width",
                f"{width} is no multiple of 4 and of {heads} heads",
                "Change predictor_width or predictor_heads",
            )
        self.grid, self.width = grid, width
        self.embed = nn.Linear(embed_dim, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.register_buffer("pos_embed", sincos_2d(grid, width).clone()[None], persistent=False)
        norm = partial(nn.LayerNorm, eps=LAYER_NORM_EPS)
        kinds = [Block] * (depth - 1) + [QueryBlock]
        self.blocks = nn.ModuleList(
            kind(width, heads, mlp_ratio, qkv_bias=True, norm_layer=norm)  # type: ignore[arg-type]
            for kind in kinds
        )
        self.norm = norm(width)
        self.proj = nn.Linear(width, embed_dim)
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        init_transformer(self, self.blocks, depth_scaled=depth_scaled_init)

    def forward(self, visible: Tensor, contexts: Tensor, targets: Tensor, grid: tuple[int, int]) -> Tensor:
        """Predict every target block from every context.

        Args:
            visible: E·B K D, the encoder's tokens of the contexts, context-major.
            contexts: E B K, their cell indices.
            targets: T B M, the cell indices to predict.
            grid: rows, columns of all patches.

        Returns:
            T·E·B M D: row (j·E + i)·B + b is target j from context i of image b.
        """
        num_contexts = contexts.shape[0]
        num_targets, _, queries = targets.shape
        position = self.positions(grid)  # N P
        seen = self.embed(visible) + position[contexts.flatten(0, 1)]  # EB K P
        asked = self.mask_token + position[targets]  # T B M P
        asked = asked[:, None].expand(-1, num_contexts, -1, -1, -1).flatten(0, 2)  # TEB M P
        tokens = torch.cat([seen.repeat(num_targets, 1, 1).to(asked.dtype), asked], dim=1)  # TEB K+M P
        for block in self.blocks[:-1]:
            tokens = block(tokens)
        return self.proj(self.norm(self.blocks[-1](tokens, queries)))  # TEB M D

    def positions(self, grid: tuple[int, int]) -> Tensor:
        """Position table N P of a grid."""
        native = self.pos_embed[0]
        return native if grid == self.grid else sincos_2d(grid, self.width).to(native.device, native.dtype)
