"""The one transformer core: attention, MLPs and blocks, of which encoders, predictors and probes are made.

Attention is `scaled_dot_product_attention`, so fused kernels serve the plain, the biased (relative positions,
padding) and the rotated (RoPE) form alike. Parameter names are timm's. An official checkpoint with separate
query and value biases (BEiT, USFM) becomes one `qkv.bias`: a key bias adds the same number to all logits of a
query, so zero there is exact.
Source: Dosovitskiy et al. 2021 (arXiv 2010.11929); Shazeer 2020 (SwiGLU, arXiv 2002.05202).
Shapes: B items, N tokens, D channels, H heads, d = D / H, M tokens that ask (the last ones).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import torch
import torch.nn.functional as F
from timm.layers.drop import DropPath
from timm.layers.layer_scale import LayerScale
from torch import Tensor, nn

from insonate.models.dense import Dense, gelu_of, linear
from insonate.models.rope import Rope, rotate

LAYER_NORM_EPS = 1e-6


class Attention(nn.Module):
    """Self-attention with a joint projection of queries, keys and values."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.num_heads = heads
        self.qkv = Dense(width, 3 * width)
        self.proj = Dense(width, width)

    def forward(
        self, x: Tensor, bias: Tensor | None = None, rope: Rope | None = None, queries: int | None = None
    ) -> Tensor:
        """Tokens B N D → B N D, or B M D where only the last M = `queries` ask.

        Args:
            x: normed tokens.
            bias: added to the logits, or where False masks them; any shape that broadcasts to B H N N.
            rope: rotation of queries and keys.
            queries: how many of the last tokens ask; the others are keys and values only.
        """
        if queries is not None:
            return self.proj(self._asked_by(x, queries, rope))
        qkv = self.qkv(x).view(*x.shape[:2], 3, self.num_heads, -1)  # B N 3 H d
        if rope is None:
            q, k, v = (one.transpose(1, 2) for one in qkv.unbind(2))  # B H N d; gradients meet in one copy
        else:
            qkv = qkv.permute(2, 0, 3, 1, 4)  # 3 B H N d
            q, k = rotate(qkv[:2], rope).unbind(0)
            v = qkv[2]
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)  # B H N d
        return self.proj(seen.transpose(1, 2).flatten(2))  # B N D

    def _asked_by(self, x: Tensor, queries: int, rope: Rope | None) -> Tensor:
        width, (weight, shift) = x.shape[-1], (self.qkv.weight, self.qkv.bias)
        q = linear(x[:, -queries:].contiguous(), weight[:width], shift[:width])  # B M D
        kv = linear(x, weight[width:], shift[width:])  # B N 2D
        q = q.view(*q.shape[:2], self.num_heads, -1).transpose(1, 2)  # B H M d
        k, v = kv.view(*x.shape[:2], 2, self.num_heads, -1).permute(2, 0, 3, 1, 4)  # B H N d
        if rope is not None:
            q, k = rotate(q, rope.last(queries)), rotate(k, rope)
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)  # B M D


class Mlp(nn.Module):
    """Two linear layers with an exact GELU between."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = Dense(width, hidden)
        self.fc2 = Dense(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens B N D → B N D."""
        return self.fc2(gelu_of(self.fc1, x))


class ReluMlp(Mlp):
    """Two linear layers with a ReLU between."""

    def forward(self, x: Tensor) -> Tensor:
        """Tokens B N D → B N D."""
        return self.fc2(F.relu(self.fc1(x)))


class SwiGlu(nn.Module):
    """Gated MLP; `hidden` is of an ungated one with about as many parameters."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        inner = swiglu_width(hidden)
        self.fc1_g = Dense(width, inner)
        self.fc1_x = Dense(width, inner)
        self.fc2 = Dense(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens B N D → B N D."""
        return self.fc2(F.silu(self.fc1_g(x)) * self.fc1_x(x))


def swiglu_width(hidden: int) -> int:
    """Two thirds of `hidden`, rounded up to a multiple of 8, as V-JEPA 2 has it."""
    return -(-int(2 * hidden / 3) // 8) * 8


MLPS: dict[str, type[Mlp | SwiGlu]] = {"gelu": Mlp, "relu": ReluMlp, "swiglu": SwiGlu}


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(
        self,
        width: int,
        heads: int,
        mlp_ratio: float = 4.0,
        *,
        mlp: Literal["gelu", "relu", "swiglu"] = "gelu",
        layer_scale: float | None = None,
        drop_path: float = 0.0,
        eps: float = LAYER_NORM_EPS,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.attn = Attention(width, heads)
        self.ls1 = nn.Identity() if layer_scale is None else LayerScale(width, init_values=layer_scale)
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.mlp = MLPS[mlp](width, int(width * mlp_ratio + 1e-6))
        self.ls2 = nn.Identity() if layer_scale is None else LayerScale(width, init_values=layer_scale)
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(
        self, x: Tensor, bias: Tensor | None = None, rope: Rope | None = None, queries: int | None = None
    ) -> Tensor:
        """Tokens B N D → B N D; with `queries` only the last M of them, B M D, equal to those of all."""
        seen = self.attn(self.norm1(x), bias, rope, queries)
        x = (x if queries is None else x[:, -queries:]) + self.drop_path(self.ls1(seen))
        return x + self.drop_path(self.ls2(self.mlp(self.norm2(x))))


class PostNormBlock(Block):
    """Transformer block with its norms after the sums, as in BERT and in torch's own encoder."""

    def forward(
        self, x: Tensor, bias: Tensor | None = None, rope: Rope | None = None, queries: int | None = None
    ) -> Tensor:
        """Tokens B N D → B N D; `queries` is not served."""
        assert queries is None  # only predictors ask for some
        x = self.norm1(x + self.drop_path(self.attn(x, bias, rope)))
        return self.norm2(x + self.drop_path(self.mlp(x)))


def init_transformer(module: nn.Module, blocks: Iterable[nn.Module], *, depth_scaled: bool) -> None:
    """Truncated normal weights (standard deviation 0.02), zero biases, plain norms.

    Args:
        module: all its linear layers, convolutions and norms are initialised.
        blocks: the transformer blocks in it.
        depth_scaled: divide `attn.proj` and `mlp.fc2` of block l = 1, 2, … by √(2 l).
    """
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv2d | nn.Conv3d):
            nn.init.trunc_normal_(part.weight, std=0.02)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
    if not depth_scaled:
        return
    with torch.no_grad():
        for depth, block in enumerate(blocks, start=1):
            for name in ("attn.proj", "mlp.fc2"):
                block.get_parameter(f"{name}.weight").div_(math.sqrt(2 * depth))
