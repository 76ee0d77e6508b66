"""Heat maps: soft-argmax, spread and the Jensen-Shannon term, all in fp32.

Coordinates are normalised and measured from the centre of the picture: the left edge is -0.5, the right edge
+0.5, the centre of column j of W is (j + 0.5) / W - 0.5. So a mirror is an exact change of sign.
Shapes: B items, K points, H W cells.

Source: Sun et al. 2018 (integral regression, arXiv 1711.08229); Nibali et al. 2018 (DSNT, arXiv 1801.07372).
"""

from __future__ import annotations

import torch
from torch import Tensor

REACH_CELLS = 3.0
"""`mass_near` counts the probability this close to the point"""


def probabilities(heatmaps: Tensor) -> Tensor:
    """Softmax over all cells, B K H W, fp32."""
    return heatmaps.float().flatten(-2).softmax(dim=-1).view(heatmaps.shape)


def soft_argmax(probs: Tensor) -> Tensor:
    """Expected position of each point, B K 2 (x, y), from the centre of the picture."""
    x, y = _axes(probs)
    return torch.stack([(probs.sum(dim=-2) * x).sum(dim=-1), (probs.sum(dim=-1) * y).sum(dim=-1)], dim=-1)


def variance(probs: Tensor, centre: Tensor) -> Tensor:
    """Mean squared distance of the probability from `centre` (B K 2), B K, in squared picture sizes."""
    x, y = _axes(probs)
    across = (probs.sum(dim=-2) * (x - centre[..., :1]).square()).sum(dim=-1)  # B K
    down = (probs.sum(dim=-1) * (y - centre[..., 1:]).square()).sum(dim=-1)  # B K
    return across + down


def mass_near(probs: Tensor, centre: Tensor) -> Tensor:
    """Probability within 3 cells of `centre` (B K 2), B K."""
    near = _squared_cells(probs, centre) <= REACH_CELLS**2  # B K H W
    return (probs * near).sum(dim=(-2, -1))


def peak(probs: Tensor) -> Tensor:
    """The largest probability of each map in multiples of the even map's, B K: 1 for the even one."""
    return probs.amax(dim=(-2, -1)) * probs.shape[-1] * probs.shape[-2]


def jensen_shannon(heatmaps: Tensor, centre: Tensor) -> Tensor:
    """Divergence of each map from a Gaussian of 1 cell at `centre`, B K, in nats (at most ln 2).

    The Gaussian is cut at the border and normalised again.
    """
    found = heatmaps.float().flatten(-2).log_softmax(dim=-1)  # B K HW
    wanted = (-0.5 * _squared_cells(heatmaps, centre)).flatten(-2).log_softmax(dim=-1)  # B K HW
    middle = torch.logaddexp(found, wanted) - torch.log(torch.tensor(2.0, device=found.device))
    apart = found.exp() * (found - middle) + wanted.exp() * (wanted - middle)  # B K HW
    return 0.5 * apart.sum(dim=-1)


def _axes(maps: Tensor) -> tuple[Tensor, Tensor]:
    rows, columns = maps.shape[-2:]
    return _axis(columns, maps), _axis(rows, maps)


def _axis(count: int, like: Tensor) -> Tensor:
    return (torch.arange(count, device=like.device, dtype=_dtype(like)) - (count - 1) / 2) / count


def _squared_cells(maps: Tensor, centre: Tensor) -> Tensor:
    x, y = _axes(maps)
    rows, columns = maps.shape[-2:]
    across = ((x - centre[..., :1]) * columns).square()  # B K W
    down = ((y - centre[..., 1:]) * rows).square()  # B K H
    return across[..., None, :] + down[..., :, None]  # B K H W


def _dtype(like: Tensor) -> torch.dtype:
    return torch.float64 if like.dtype == torch.float64 else torch.float32
