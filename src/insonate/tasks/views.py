"""Views of a batch for test-time augmentation: mirrored, and shrunk about the middle; all in one call.

Points are told from the centre of the picture, so that a mirror is a change of sign and a shrunk view a
factor. The mirror of a picture has exactly the mirrored views, bit by bit: resampling adds two products,
whose order does not matter. Shapes: B items, C channels, H W pixels, V views, K points.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class View(NamedTuple):
    """How a view shows the picture."""

    scale: float
    """1 = as it is; below 1 smaller, with its border continued outwards"""
    mirrored: bool


STRAIGHT = View(1.0, mirrored=False)


def views_of(scales: tuple[float, ...], *, tta: bool, mirror: bool = True) -> tuple[View, ...]:
    """The picture alone; with `tta` as it is and in the other `scales`, each straight and then mirrored.

    Without `mirror` none is mirrored.
    """
    if not tta:
        return (STRAIGHT,)
    sides = (False, True) if mirror else (False,)
    return tuple(View(scale, mirrored) for scale in (1.0, *scales) for mirrored in sides)


def with_views(image: Tensor, views: tuple[View, ...]) -> Tensor:
    """B C H W → VB C H W, view by view."""
    shown: dict[float, Tensor] = {}
    for scale, _ in views:
        shown.setdefault(scale, shrunk(image, scale))
    return torch.cat([shown[v.scale].flip(-1) if v.mirrored else shown[v.scale] for v in views])


def shrunk(image: Tensor, scale: float) -> Tensor:
    """The picture at `scale` about its middle, B C H W of the same size; its border goes on outwards."""
    if scale == 1:
        return image
    return _shrunk_along(_shrunk_along(image, scale, -1), scale, -2)


def points_back(points: Tensor, views: tuple[View, ...], mirror: Tensor) -> Tensor:
    """Points V B K 2 found in views, from the centre → where they are in the picture itself, V B K 2.

    Args:
        points: x, y in any unit, 0 in the middle.
        views: V.
        mirror: K, old index of each point after a mirror.
    """
    told = []
    for view, found in zip(views, points, strict=True):
        own = found[:, mirror] * found.new_tensor([-1.0, 1.0]) if view.mirrored else found
        told.append(own if view.scale == 1 else own / view.scale)
    return torch.stack(told)


def mean_of_views(values: Tensor) -> Tensor:
    """Mean over V views that come in pairs, V … → …; the order within a pair does not change a bit of it."""
    if len(values) == 1:
        return values[0]
    return values.view(-1, 2, *values.shape[1:]).mean(dim=1).mean(dim=0)


def _shrunk_along(image: Tensor, scale: float, dim: int) -> Tensor:
    """Linear resampling along one axis by two gathers."""
    size = image.shape[dim]
    centre = (size - 1) / 2
    half = torch.arange((size + 1) // 2, device=image.device, dtype=torch.float64)
    place = (half - centre) / scale + centre  # of the first half; the second is its mirror
    low = place.floor()
    weight = (place - low).to(image.dtype)  # of the upper neighbour
    first, second = (index.clamp(0, size - 1).long() for index in (low, low + 1))
    rest = size - len(half)
    ahead = torch.cat([first, (size - 1 - first[:rest]).flip(0)])  # nearer neighbour seen from outside
    behind = torch.cat([second, (size - 1 - second[:rest]).flip(0)])
    weights = torch.cat([weight, weight[:rest].flip(0)])
    shape = [1] * image.ndim
    shape[dim] = size
    weights = weights.view(shape)
    return image.index_select(dim, ahead) * (1 - weights) + image.index_select(dim, behind) * weights
