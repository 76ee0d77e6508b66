"""Rotary positions in three dimensions (frame, row, column), from tables that are computed once.

V-JEPA 2 pairs neighbouring channels but lays its frequencies out as two equal halves, so that the two
channels of a pair turn by different angles. All its released weights are trained so: `tiled` repeats it.
V-JEPA 2.1 mends it: `paired`. Angles are always computed in float32.
Source: Su et al. 2021 (arXiv 2104.09864); Assran et al. 2025 (V-JEPA 2, arXiv 2506.09985).
Shapes: N tokens in the order frame, row, column; d channels of a head; B items, K kept tokens.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from insonate.models.cached import cached

Layout = Literal["tiled", "paired"]


class Rope(NamedTuple):
    """Tables that turn the channels of a head; `sin` carries the sign of its place in the pair."""

    cos: Tensor  # N d, or B 1 K d
    sin: Tensor  # as cos

    def at(self, index: Tensor) -> Rope:
        """Rows of the tables (N d) at B K → B 1 K d."""
        return Rope(self.cos[index][:, None], self.sin[index][:, None])

    def last(self, count: int) -> Rope:
        """Those of the last tokens."""
        return Rope(self.cos[..., -count:, :], self.sin[..., -count:, :])

    def after_prefix(self, count: int) -> Rope:
        """With `count` tokens before that are not turned."""
        shape = (*self.cos.shape[:-2], count, self.cos.shape[-1])
        ones, zeros = self.cos.new_ones(shape), self.cos.new_zeros(shape)
        return Rope(torch.cat([ones, self.cos], -2), torch.cat([zeros, self.sin], -2))


def rotate(x: Tensor, rope: Rope) -> Tensor:
    """Turn the channels of queries or keys, … N d; the type of `x` is kept."""
    swapped = torch.stack((x[..., 1::2], x[..., ::2]), -1).flatten(
        -2
    )  # faster than a flip or complex numbers
    return (x * rope.cos.to(x.dtype)).addcmul_(swapped, rope.sin.to(x.dtype))


@cached
def rope_tables(
    grid: tuple[int, int, int], head_dim: int, layout: Layout, device: torch.device, reach: int | None = None
) -> Rope:
    """Tables N d of a grid (frames, rows, columns); do not write to them, they are cached.

    Each axis turns 2 ⌊⌊d/3⌋/2⌋ channels by its index times 10000^(-j / half); the rest is not turned. With
    `reach` rows and columns run from 0 to `reach` - 1 in equal steps, however many they are.
    """
    frames, rows, columns = grid
    share = 2 * ((head_dim // 3) // 2)
    omega = 1.0 / 10000 ** (torch.arange(share // 2, dtype=torch.float32) / (share / 2.0))
    steps = [1.0 if reach is None or n == 1 else (reach - 1) / (n - 1) for n in (rows, columns)]
    places = [torch.arange(n, dtype=torch.float32) for n in grid]
    axes = torch.meshgrid(places[0], places[1] * steps[0], places[2] * steps[1], indexing="ij")
    angles = [axis.reshape(-1, 1) * omega for axis in axes]  # N share/2, three times
    if layout == "tiled":
        spread = [torch.cat([angle, angle], 1) for angle in angles]  # N share
    else:
        spread = [angle.repeat_interleave(2, 1) for angle in angles]  # N share
    rest = torch.zeros(frames * rows * columns, head_dim - 3 * share)
    angle = torch.cat([*spread, rest], 1)  # N d
    sign = torch.tensor([-1.0, 1.0]).repeat(head_dim // 2)
    return Rope(angle.cos().to(device), (angle.sin() * sign).to(device))
