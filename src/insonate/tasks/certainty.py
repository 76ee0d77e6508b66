"""Certainty: what a point's confidence is worth, learned on held-out labels.

A heat map's spread and mass make a raw confidence of no unit. On held-out items isotonic regression turns it
into the share of points that lie within 10 px (of a picture of 256) of their label; it is stored with the
model as values at 33 even places. Sources: Ayer et al. 1955 (pool adjacent violators); Zadrozny & Elkan 2002
(calibration). Shapes: N points.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

NEAR_PX = 10.0
"""of a picture of 256: what counts as near"""
PLACES = 33
FEWEST = 30
"""labelled points below which nothing is fitted"""


class Certainty(nn.Module):
    """Raw confidence 0 … 1 → chance that the point lies within 10 px; the same number until it is fitted."""

    chances: Tensor
    points: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("chances", torch.linspace(0, 1, PLACES))
        self.register_buffer("points", torch.zeros(1, dtype=torch.int64))

    @property
    def fitted_on(self) -> int:
        """Number of labelled points it was fitted on; 0 = it was not."""
        return int(self.points)

    def chance(self, confidence: np.ndarray) -> np.ndarray:
        """The chance for raw confidences of any shape."""
        places = np.linspace(0, 1, PLACES)
        return np.interp(confidence, places, self.chances.detach().cpu().double().numpy())

    def fit(self, confidence: np.ndarray, error_px: np.ndarray) -> None:
        """Learn from held-out points: raw confidences N and errors N in px of a picture of 256.

        NaN is left out; with fewer than 30 points it stays as it is.
        """
        known = np.isfinite(confidence) & np.isfinite(error_px)
        if known.sum() < FEWEST:
            return
        order = np.argsort(confidence[known], kind="stable")
        raw, near = confidence[known][order], (error_px[known][order] <= NEAR_PX).astype(np.float64)
        chances = np.interp(np.linspace(0, 1, PLACES), raw, isotonic(near))
        self.chances.copy_(torch.from_numpy(chances).to(self.chances))
        self.points.fill_(int(known.sum()))


def isotonic(values: np.ndarray) -> np.ndarray:
    """The rising sequence with the least squared distance to `values`, N."""
    means: list[float] = []
    counts: list[int] = []
    for value in values:
        means.append(float(value))
        counts.append(1)
        while len(means) > 1 and means[-2] >= means[-1]:
            together = counts[-2] + counts[-1]
            means[-2] = (means[-2] * counts[-2] + means[-1] * counts[-1]) / together
            counts[-2] = together
            means.pop()
            counts.pop()
    return np.repeat(means, counts)


def certainties(names: Mapping[str, Any]) -> nn.ModuleDict:
    """One for each name."""
    return nn.ModuleDict({name: Certainty() for name in names})
