"""Sample, Batch and what travels with them.

Shapes: B items, C channels, H W model input, K points. Pixel coordinates are (x, y) with the origin at the
centre of the top-left pixel, y down.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NotRequired, TypedDict

import numpy as np
from torch import Tensor
from torchvision import tv_tensors

from insonate.data.spacing import Region, Spacing

IDENTITY = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
Matrix = tuple[tuple[float, float, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Meta:
    """Where a sample comes from and how its pixels relate to the original's."""

    item_id: str
    original_hw: tuple[int, int]
    spacing: Spacing | None = None
    """of the original"""
    regions: tuple[Region, ...] = ()
    """the pictures within the original, as far as its file names them"""
    input_from_original: Matrix = IDENTITY
    """3×3: original pixel (x, y, 1) → model-input pixel"""
    patient_id: str = ""
    study_id: str = ""
    view: str = ""
    site: str = ""
    vendor: str = ""
    frame: int = 0
    points_set: str = ""
    """which of several sets of points the item is labelled with; empty where it does not say"""
    extra: tuple[tuple[str, str], ...] = field(default=())

    def to_original(self, points_xy: np.ndarray) -> np.ndarray:
        """Points in model-input pixels (..., 2) → pixels of the original."""
        inverse = np.linalg.inv(np.asarray(self.input_from_original, dtype=np.float64))
        return np.asarray(points_xy, dtype=np.float64) @ inverse[:2, :2].T + inverse[:2, 2]

    def to_input(self, points_xy: np.ndarray) -> np.ndarray:
        """Points in pixels of the original (..., 2) → model-input pixels."""
        matrix = np.asarray(self.input_from_original, dtype=np.float64)
        return np.asarray(points_xy, dtype=np.float64) @ matrix[:2, :2].T + matrix[:2, 2]


class Sample(TypedDict):
    """What a dataset yields; which targets are there depends on what was asked for."""

    image: tv_tensors.Image  # C H W, float, normalised for the backbone
    meta: Meta
    item_seed: int
    """64-bit, a pure function of (run seed, epoch, item): what is random about this item draws from it"""
    mask: NotRequired[tv_tensors.Mask]  # H W, class index
    original_mask: NotRequired[np.ndarray]
    """uint8, on the grid of the original, where nothing is augmented: what predictions are scored against"""
    points: NotRequired[tv_tensors.KeyPoints]  # K 2, model-input pixels
    visible: NotRequired[Tensor]  # K, bool: False without a label, or where training moved it out
    label: NotRequired[int]
    value: NotRequired[float]
    weight: NotRequired[float]


class Batch(TypedDict):
    """Collated samples, and the seed of the step."""

    image: Tensor  # B C H W
    meta: list[Meta]
    item_seed: list[int]
    step_seed: int
    """64-bit, a pure function of (run seed, epoch, step), equal on all ranks"""
    mask: NotRequired[Tensor]  # B H W, int64
    original_mask: NotRequired[list[np.ndarray]]  # B masks, each of its original's size
    points_xy: NotRequired[Tensor]  # B K 2, model-input pixels; K of the largest set, the rest is 0
    visible: NotRequired[Tensor]  # B K, bool; False beyond an item's own points
    label: NotRequired[Tensor]  # B, int64
    value: NotRequired[Tensor]  # B, float
    weight: NotRequired[Tensor]  # B, float
