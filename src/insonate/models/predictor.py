"""Predictor: a narrow transformer that fills in hidden patches from visible ones.

Source: Assran et al. 2023 (I-JEPA, arXiv 2301.08243), sec. 3; Assran et al. 2025 (V-JEPA 2, arXiv
2506.09985).
The original of V-JEPA sorts its tokens by place before the blocks and back after them; with rotary positions
their order does not matter, so this one does not. Pages: docs/methods/ijepa.md, docs/models/vjepa.md.
Shapes: B items, E contexts and T targets an item, K context and M target tokens, D encoder width, P width.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from insonate.errors import RecipeError
from insonate.models.positions import TABLES, ClipGrid
from insonate.models.rope import Rope, rope_tables
from insonate.models.transformer import LAYER_NORM_EPS, Block, init_transformer

Position = Literal["sincos", "sincos_rows_first", "sincos_3d", "sincos_3d_even", "sinusoid", "rope"]


class Predictor(nn.Module):
    """Features of target patches, from the tokens of context patches and the positions of both."""

    pos_embed: Tensor | None

    def __init__(  # noqa: PLR0913 - the sizes of one network
        self,
        embed_dim: int,
        grid: tuple[int, ...],
        *,
        width: int = 384,
        depth: int = 6,
        heads: int = 12,
        mlp_ratio: float = 4.0,
        position: Position = "sincos",
        mask_tokens: int = 1,
        outputs: int | None = None,
        depth_scaled_init: bool = True,
    ) -> None:
        super().__init__()
        if width % heads or (width % 4 and position != "rope"):
            raise RecipeError(
                "objective.predictor_width",
                f"{width} is no multiple of 4 and of {heads} heads",
                "Change predictor_width or predictor_heads",
            )
        self.grid, self.width, self.heads, self.position = _clip(grid), width, heads, position
        table = None if position == "rope" else TABLES[position](self.grid, width).clone()[None]
        self.register_buffer("pos_embed", table, persistent=False)
        self.embed = nn.Linear(embed_dim, width)
        self.mask_token = nn.Parameter(torch.zeros(mask_tokens, 1, width))
        self.blocks = nn.ModuleList(Block(width, heads, mlp_ratio) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.proj = nn.Linear(width, outputs or embed_dim)
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        init_transformer(self, self.blocks, depth_scaled=depth_scaled_init)

    def forward(
        self, visible: Tensor, contexts: Tensor, targets: Tensor, grid: tuple[int, ...], token: int = 0
    ) -> Tensor:
        """Predict every target block from every context.

        Args:
            visible: E·B K D, the encoder's tokens of the contexts, context-major.
            contexts: E B K, their cell indices.
            targets: T B M, the cell indices to predict.
            grid: (frames,) rows, columns of all patches.
            token: which of the mask tokens stands for the hidden patches; counted on from the first again
                where there are fewer, as the original does.

        Returns:
            T·E·B M D (or M `outputs`): row (j·E + i)·B + b is target j from context i of image b.
        """
        num_contexts = contexts.shape[0]
        num_targets, _, queries = targets.shape
        seen, asked = self.embed(visible), self.mask_token[token % len(self.mask_token)]  # EB K P, 1 P
        position, rope = self._positions(_clip(grid), seen.device), None
        if isinstance(position, Tensor):
            seen = seen + position[contexts.flatten(0, 1)]  # EB K P
            asked = asked + position[targets]  # T B M P
        else:
            asked = asked.expand(*targets.shape, -1)  # T B M P
            places = contexts.flatten(0, 1).repeat(num_targets, 1), _of_each(targets, num_contexts)
            rope = position.at(torch.cat(places, dim=1))
        asked = _of_each(asked, num_contexts)  # TEB M P
        tokens = torch.cat([seen.repeat(num_targets, 1, 1).to(asked.dtype), asked], dim=1)  # TEB K+M P
        for block in self.blocks[:-1]:
            tokens = block(tokens, rope=rope)
        return self.proj(self.norm(self.blocks[-1](tokens, rope=rope, queries=queries)))  # TEB M D

    def _positions(self, grid: ClipGrid, device: torch.device) -> Tensor | Rope:
        if self.pos_embed is None:
            return rope_tables(grid, self.width // self.heads, "tiled", device)
        native = self.pos_embed[0]  # N P
        return native if grid == self.grid else TABLES[self.position](grid, self.width).to(native)


def _of_each(targets: Tensor, num_contexts: int) -> Tensor:
    """Targets T B … → T·E·B …, once for each context."""
    return targets[:, None].expand(-1, num_contexts, *targets.shape[1:]).flatten(0, 2)


def _clip(grid: tuple[int, ...]) -> ClipGrid:
    return (1, grid[0], grid[1]) if len(grid) == 2 else (grid[0], grid[1], grid[2])
