"""Relative positions: a learned bias for each offset between two patches, for any grid.

Tables of another grid are resampled with geometric coordinates, as BEiT proposes: near offsets keep their
meaning, far ones are stretched. The authors' code of USFM swaps rows and columns there and gives NaN at many
sizes (256, 272, 384, …); this one does neither, and takes grids that are not square.
Source: Bao et al. 2022 (BEiT, arXiv 2106.08254); Jiao et al. 2024 (USFM, doi 10.1016/j.media.2024.103202).
Shapes: h w grid, N = h w patches, P prefix tokens (0 or 1), H heads, O = (2h-1)(2w-1) offsets.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from scipy.interpolate import make_interp_spline
from torch import Tensor, nn

from insonate.models.cached import cached

Grid = tuple[int, int]
PREFIX_ROWS = 3
"""class token to patch, patch to class token, class token to itself"""
LARGEST_KEPT = 2**22
"""numbers of a bias that is kept: 12 heads at 384 px have 4.0 million"""
SMALLEST_RATIO, LARGEST_RATIO = 1.01, 1.5


class RelativeBias(nn.Module):
    """A table of biases, `table` O+3 H (O H without class token), and the bias B H N N that it stands for.

    In eval mode without gradients the bias of the last grid is kept, until the table changes in any way.
    """

    def __init__(self, grid: Grid, heads: int, *, class_token: bool) -> None:
        super().__init__()
        self.grid, self.class_token = grid, class_token
        rows = (2 * grid[0] - 1) * (2 * grid[1] - 1) + PREFIX_ROWS * class_token
        self.table = nn.Parameter(torch.empty(rows, heads))
        nn.init.trunc_normal_(self.table, std=0.02)
        self._kept: tuple[tuple[object, ...], Tensor] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Copies start without a kept bias."""
        return {**self.__dict__, "_kept": None}

    def train(self, mode: bool = True) -> Self:  # noqa: FBT001, FBT002 - the signature of nn.Module
        """As `nn.Module.train`; the kept bias is dropped."""
        self._kept = None
        return super().train(mode)

    def forward(self, grid: Grid, keep: Tensor | None = None) -> Tensor:
        """Bias of a grid: 1 H P+N P+N; of the patches in `keep` (B K) only: B H P+K P+K."""
        if keep is not None or not self._may_keep(grid):
            return self._made(grid, keep)
        table = self.table
        state = (
            grid, table.data_ptr(), table._version, table.dtype, table.device,
            torch.is_inference_mode_enabled(),
        )  # fmt: skip
        if self._kept is None or self._kept[0] != state:
            self._kept = (state, self._made(grid, None))
        return self._kept[1]

    def _may_keep(self, grid: Grid) -> bool:
        """Whether nothing is learned or traced, the table is the module's own, and the bias is small."""
        table = self.table
        learns = self.training or (torch.is_grad_enabled() and table.requires_grad)
        own = type(table) is nn.Parameter and type(table.data) is Tensor and not table.is_inference()
        small = table.shape[1] * (grid[0] * grid[1] + self.class_token) ** 2 <= LARGEST_KEPT
        traced = torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None
        return own and small and not learns and not traced

    def _made(self, grid: Grid, keep: Tensor | None) -> Tensor:
        table = resize_offsets(self.table, self.grid, grid, class_token=self.class_token)
        index = offset_index(grid, class_token=self.class_token, device=table.device)  # P+N P+N
        if keep is not None:
            seen = keep + 1 if self.class_token else keep
            if self.class_token:
                seen = torch.cat([seen.new_zeros(len(seen), 1), seen], dim=1)  # B P+K
            index = index[seen[:, :, None], seen[:, None, :]]  # B P+K P+K
        else:
            index = index[None]
        return table[index].permute(0, 3, 1, 2)  # B H P+K P+K


def resize_offsets(table: Tensor, grid: Grid, new_grid: Grid, *, class_token: bool) -> Tensor:
    """The table of `grid` resampled to `new_grid`; itself where they are equal."""
    if grid == new_grid:
        return table
    offsets = len(table) - PREFIX_ROWS * class_token
    picture = table[:offsets].reshape(2 * grid[0] - 1, 2 * grid[1] - 1, -1)  # 2h-1 2w-1 H
    for axis in (0, 1):
        matrix = resampling(2 * grid[axis] - 1, 2 * new_grid[axis] - 1).to(table.device, table.dtype)
        picture = torch.tensordot(matrix, picture, dims=([1], [axis])).movedim(0, axis)
    return torch.cat([picture.flatten(0, 1), table[offsets:]])


@cached
def resampling(before: int, after: int) -> Tensor:
    """Matrix `after` × `before`: a cubic spline through geometric distances, clamped at the ends."""
    if before == after:
        return torch.eye(before)
    if before == 1:
        return torch.ones(after, 1)
    known = _distances(before // 2, after // 2)
    wanted = np.arange(after) - after // 2
    degree = min(3, before - 1)
    matrix = make_interp_spline(known, np.eye(before), k=degree)(wanted.clip(known[0], known[-1]))
    return torch.from_numpy(matrix.astype(np.float32))


def _distances(steps: int, reach: int) -> np.ndarray:
    """Where the known offsets -steps … steps lie, so that the farthest are at about ±reach."""
    low, high = SMALLEST_RATIO, max(LARGEST_RATIO, float(reach))
    while high - low > 1e-9:
        ratio = (low + high) / 2
        low, high = (low, ratio) if _reach(ratio, steps) > reach else (ratio, high)
    far = np.cumsum(((low + high) / 2) ** np.arange(steps))
    return np.concatenate([-far[::-1], [0.0], far])


def _reach(ratio: float, steps: int) -> float:
    return float((1 - ratio**steps) / (1 - ratio))


@cached
def offset_index(grid: Grid, *, class_token: bool, device: torch.device) -> Tensor:
    """Row of the table for each pair (who asks, who is asked), P+N P+N, int64."""
    rows, columns = grid
    place = torch.stack(torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij"), -1).flatten(
        0, 1
    )
    offset = place[:, None] - place[None]  # N N 2
    index = (offset[..., 0] + rows - 1) * (2 * columns - 1) + offset[..., 1] + columns - 1  # N N
    if class_token:
        first = (2 * rows - 1) * (2 * columns - 1)
        index = torch.nn.functional.pad(index, (1, 0, 1, 0))
        index[0, :], index[:, 0], index[0, 0] = first, first + 1, first + 2
    return index.to(device)
