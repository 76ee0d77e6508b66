"""Losses of coordinates: how far predicted points lie from their labels.

Each takes vectors … 2 in pixels of a picture of 256 and gives a loss a point, …; their gradients are finite
everywhere. Sources: Girshick 2015 (smooth L1, arXiv 1504.08083); Feng et al. 2018 (wing, arXiv 1711.06753).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

WING_PX, WING_CURVE_PX = 10.0, 2.0
"""of the wing loss: where it becomes linear, and how sharply it bends within"""
SMALL_PX2 = 1e-6
"""makes the distance smooth at 0"""


def smooth_l1(apart_px: Tensor) -> Tensor:
    """Mean over both axes of |d|, less half a pixel, and of half its square within a pixel."""
    return functional.smooth_l1_loss(apart_px, torch.zeros_like(apart_px), reduction="none").mean(dim=-1)


def l1(apart_px: Tensor) -> Tensor:
    """Mean over both axes of |d|."""
    return apart_px.abs().mean(dim=-1)


def wing(apart_px: Tensor) -> Tensor:
    """Mean over both axes of w ln(1 + |d| / ε) up to |d| = w, from there of |d| less a constant."""
    far = apart_px.abs()
    beyond = WING_PX - WING_PX * math.log1p(WING_PX / WING_CURVE_PX)
    near = WING_PX * torch.log1p(far / WING_CURVE_PX)
    return torch.where(far < WING_PX, near, far - beyond).mean(dim=-1)


def euclidean(apart_px: Tensor) -> Tensor:
    """The distance."""
    return (apart_px.square().sum(dim=-1) + SMALL_PX2).sqrt() - math.sqrt(SMALL_PX2)


LOSSES: dict[str, Callable[[Tensor], Tensor]] = {
    "smooth_l1": smooth_l1, "l1": l1, "wing": wing, "euclidean": euclidean,
}  # fmt: skip
