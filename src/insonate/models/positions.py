"""Fixed 2-D sine-cosine position tables, for any grid.

Source: Assran et al. 2023 (arXiv 2301.08243), after Vaswani et al. 2017 (arXiv 1706.03762).
Shapes: N = rows · columns tokens in raster order, D channels.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


@lru_cache(maxsize=32)
def sincos_2d(grid: tuple[int, int], dim: int) -> Tensor:
    """Position table of a grid; do not write to it, it is cached.

    Args:
        grid: rows, columns.
        dim: channels, a multiple of 4.

    Returns:
        N D, float32: quarters sin(column·ω), cos(column·ω), sin(row·ω), cos(row·ω), where
        ω_k = 10000^(-k / (D/4)) and row, column count from 0. Computed in float64.

    Raises:
        ValueError: `dim` is no multiple of 4.
    """
    if dim % 4:
        raise ValueError(f"the width of a sine-cosine table is a multiple of 4, not {dim}")
    rows, columns = grid
    omega = 1.0 / 10000 ** (np.arange(dim // 4, dtype=np.float64) / (dim / 4.0))
    row, column = (axis.reshape(-1, 1) for axis in np.mgrid[:rows, :columns].astype(np.float64))
    x, y = column * omega, row * omega
    table = np.concatenate([np.sin(x), np.cos(x), np.sin(y), np.cos(y)], axis=1)  # N D
    return torch.from_numpy(table.astype(np.float32))


def resize_table(table: Tensor, grid: tuple[int, int], new_grid: tuple[int, int]) -> Tensor:
    """The table (N D, of `grid`) resampled to `new_grid`: bicubic, corners not aligned, no antialias.

    It keeps the range of coordinates that a trained encoder saw.
    """
    if grid == new_grid:
        return table
    picture = table.reshape(1, *grid, -1).permute(0, 3, 1, 2)  # 1 D h w
    resized = F.interpolate(picture, size=new_grid, mode="bicubic", align_corners=False)
    return resized.flatten(2).transpose(1, 2)[0]  # N D
