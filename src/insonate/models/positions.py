"""Fixed position tables, one a family, for any grid; and the resampling of learned ones.

Source: Vaswani et al. 2017 (arXiv 1706.03762); I-JEPA, Assran et al. 2023 (arXiv 2301.08243); V-JEPA, Bardes
et al. 2024 (arXiv 2404.08471); VideoMAE, Tong et al. 2022 (arXiv 2203.12602).
Shapes: N = frames · rows · columns tokens in that order, D channels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from insonate.models.cached import cached

ClipGrid = tuple[int, int, int]
"""frames, rows, columns"""


@cached
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


@cached
def sincos_rows_first(grid: ClipGrid, dim: int) -> Tensor:
    """V-JEPA's table of a picture, N D: as `sincos_2d`, but the rows come first."""
    table = sincos_2d(grid[1:], dim)
    return torch.cat([table[:, dim // 2 :], table[:, : dim // 2]], 1)


@cached
def sincos_3d(grid: ClipGrid, dim: int) -> Tensor:
    """V-JEPA's table of a clip, N D: half of the channels for the frame, a quarter for row, for column."""
    return _axes(grid, (dim // 2, dim // 4, dim // 4), dim)


@cached
def sincos_3d_even(grid: ClipGrid, dim: int) -> Tensor:
    """V-JEPA's table of a clip with a third of the channels for each axis (`uniform_power`), N D."""
    return _axes(grid, (2 * -(-dim // 6),) * 3, dim)


@cached
def sinusoid(grid: ClipGrid, dim: int) -> Tensor:
    """VideoMAE's table, N D: sine and cosine of the token's number, in turn."""
    count = grid[0] * grid[1] * grid[2]
    omega = 1.0 / 10000 ** (2 * (np.arange(dim) // 2) / dim)
    angle = np.arange(count, dtype=np.float64)[:, None] * omega  # N D
    table = np.where(np.arange(dim) % 2 == 0, np.sin(angle), np.cos(angle))
    return torch.from_numpy(table.astype(np.float32))


def _sincos(grid: ClipGrid, dim: int) -> Tensor:
    return sincos_2d(grid[1:], dim)


TABLES: dict[str, Callable[[ClipGrid, int], Tensor]] = {
    "sincos": _sincos,
    "sincos_rows_first": sincos_rows_first,
    "sincos_3d": sincos_3d,
    "sincos_3d_even": sincos_3d_even,
    "sinusoid": sinusoid,
}
"""fixed tables by their name in options"""


def _axes(grid: ClipGrid, shares: tuple[int, int, int], dim: int) -> Tensor:
    """A share of the channels for each axis, sines before cosines; cut to `dim` channels."""
    places = np.mgrid[: grid[0], : grid[1], : grid[2]].astype(np.float64).reshape(3, -1, 1)  # 3 N 1
    parts = []
    for place, share in zip(places, shares, strict=True):
        angle = place / 10000 ** (np.arange(share // 2) / (share / 2.0))  # N share/2
        parts += [np.sin(angle), np.cos(angle)]
    return torch.from_numpy(np.concatenate(parts, axis=1)[:, :dim].astype(np.float32))


def resize_table(table: Tensor, grid: tuple[int, ...], new_grid: tuple[int, ...]) -> Tensor:
    """The table (N D, of `grid`) resampled to `new_grid`: corners not aligned, no antialias.

    Grids are (rows, columns): bicubic; or (frames, rows, columns): trilinear, but a clip that is only shorter
    takes the first frames of the table, as V-JEPA does. It keeps the range of coordinates that a trained
    encoder saw.
    """
    if grid == new_grid:
        return table
    if len(grid) == 3 and grid[0] == new_grid[0] == 1:
        grid, new_grid = grid[1:], new_grid[1:]
    picture = table.reshape(1, *grid, -1).movedim(-1, 1)  # 1 D h w, or 1 D t h w
    if len(grid) == 2:
        resized = F.interpolate(picture, size=new_grid, mode="bicubic", align_corners=False)
    elif grid[1:] == new_grid[1:] and new_grid[0] < grid[0]:
        resized = picture[:, :, : new_grid[0]]
    else:
        resized = F.interpolate(picture, size=new_grid, mode="trilinear", align_corners=False)
    return resized.flatten(2).transpose(1, 2)[0]  # N D
