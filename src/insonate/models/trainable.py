"""All that the training loop knows of what it trains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from insonate.data.sample import Batch
from insonate.models.backbone import Backbone


class Losses(NamedTuple):
    """The loss to minimise and its named parts (detached scalars, for the log)."""

    total: Tensor
    parts: dict[str, Tensor]


@runtime_checkable
class Trainable(Protocol):
    """An nn.Module that gives a loss for a batch."""

    backbone: Backbone
    """the encoder that training is for"""
    floors: Mapping[str, float]
    """part of the loss → value below which it only stays when what is learned has collapsed; for a warning"""

    def forward(self, batch: Batch) -> Losses:
        """The loss; every layer runs inside, since DDP and FSDP2 hook it."""

    def after_step(self, progress: float) -> dict[str, float]:
        """EMA and other schedules, after each optimiser step; progress in [0, 1].

        Returns:
            What they were set to, by name, for the log.
        """
