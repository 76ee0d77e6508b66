"""V-JEPA 2's encoder as its first implementation is built: rotations rebuilt for each layer, axis and tensor.

Our own code, written from a description, with the structure that costs time in the original: positions as
int64 (of a masked clip repeated over the heads), sines and cosines made anew for queries and keys of each
axis in each layer, the parts concatenated, fused attention after it. Parameter names are those of
`insonate.models`.
"""

# ruff: noqa: D101, D102

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def rotate(x: Tensor, place: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    omega = torch.arange(half, dtype=x.dtype, device=x.device)
    omega = 1.0 / 10000 ** (omega / half)
    angle = torch.einsum("..., f -> ... f", place, omega)
    sin, cos = angle.sin().repeat(1, 1, 1, 2), angle.cos().repeat(1, 1, 1, 2)
    first, second = x.unflatten(-1, (-1, 2)).unbind(dim=-1)
    return x * cos + torch.stack((-second, first), dim=-1).flatten(-2) * sin


class Attention(nn.Module):
    def __init__(self, width: int, heads: int, grid: tuple[int, int, int]) -> None:
        super().__init__()
        self.heads, self.grid = heads, grid
        self.share = 2 * ((width // heads // 3) // 2)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.proj_drop = nn.Dropout(0.0)

    def turned(self, x: Tensor, keep: Tensor | None) -> Tensor:
        _, rows, columns = self.grid
        whole = torch.arange(x.shape[2], device=x.device)
        index = whole if keep is None else keep[:, None].repeat(1, self.heads, 1)
        frame, rest = index // (rows * columns), index % (rows * columns)
        places = (frame, rest // columns, rest % columns)
        parts = [
            rotate(x[..., i * self.share : (i + 1) * self.share], place.to(x.dtype))
            for i, place in enumerate(places)
        ]
        return torch.cat([*parts, x[..., 3 * self.share :]], dim=-1)

    def forward(self, x: Tensor, keep: Tensor | None) -> Tensor:
        b, n, c = x.shape
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(self.turned(q, keep), self.turned(k, keep), v)
        return self.proj_drop(self.proj(seen.transpose(1, 2).reshape(b, n, c)))


class Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        self.drop = nn.Dropout(0.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.fc2(self.drop(self.act(self.fc1(x)))))


class Block(nn.Module):
    def __init__(self, width: int, heads: int, grid: tuple[int, int, int]) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn, self.mlp = Attention(width, heads, grid), Mlp(width)

    def forward(self, x: Tensor, keep: Tensor | None) -> Tensor:
        x = x + self.attn(self.norm1(x), keep)
        return x + self.mlp(self.norm2(x))


class Encoder(nn.Module):
    def __init__(self, *, width: int, depth: int, heads: int, grid: tuple[int, int, int]) -> None:
        super().__init__()
        kernel = (2, 16, 16)
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv3d(3, width, kernel, stride=kernel)})
        self.blocks = nn.ModuleList(Block(width, heads, grid) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, clip: Tensor, keep: Tensor | None) -> Tensor:  # B C T H W, B K
        x = self.patch_embed["proj"](clip).flatten(2).transpose(1, 2)
        if keep is not None:
            x = torch.gather(x, 1, keep[..., None].repeat(1, 1, x.shape[-1]))
        for block in self.blocks:
            x = block(x, keep)
        return self.norm(x)
