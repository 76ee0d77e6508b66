"""Means over the items of a batch, weighted, and over its views. Shapes: B items, V views."""

from __future__ import annotations

import torch
from torch import Tensor

from insonate.data.sample import Batch


def item_weights(batch: Batch) -> Tensor:
    """Weight of each item, B, fp32: `batch["weight"]`, or ones."""
    image = batch["image"]
    weight = batch.get("weight")
    if weight is None:
        return torch.ones(len(image), device=image.device)
    return weight.to(device=image.device, dtype=torch.float32)


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Mean of `values` under `weights` of the same shape; 0 (with a gradient of 0) where all weights are 0.

    A value with weight 0 may be anything finite.
    """
    total = weights.sum()
    return (values * weights).sum() / torch.where(total > 0, total, torch.ones_like(total))


def with_mirrored(image: Tensor) -> Tensor:
    """The batch and its left-right mirror as one batch, 2B C H W."""
    return torch.cat([image, image.flip(-1)])


def over_views(values: Tensor, image: Tensor) -> Tensor:
    """Values VB … of the views of `image` (B C H W) → their mean B …."""
    return values.reshape(-1, image.shape[0], *values.shape[1:]).mean(dim=0)
