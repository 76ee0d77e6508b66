"""Objective: a loss over unlabelled samples. One file a method in this folder."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from types import MappingProxyType

from torch import nn

from insonate.data.sample import Batch
from insonate.models.backbone import Backbone
from insonate.models.registry import Registry
from insonate.models.trainable import Losses
from insonate.options import Options


class ObjectiveConfig(Options):
    """Base of the objectives' options; `name` is the registry name."""

    name: str


class Objective(nn.Module):
    """A self-supervised loss with its predictor and teachers. Made as `make(backbone, config)`."""

    backbone: Backbone
    floors: Mapping[str, float] = MappingProxyType({})

    @abstractmethod
    def forward(self, batch: Batch) -> Losses:
        """The loss of a batch (`batch["image"]` B C H W); randomness only from its seeds."""

    def after_step(self, progress: float) -> dict[str, float]:
        """Nothing, unless the method keeps a moving average; see `Trainable.after_step`."""
        return {}

    @abstractmethod
    def encoder_for_export(self) -> Backbone:
        """The encoder that users want, e.g. the EMA target."""


OBJECTIVES: Registry[Objective] = Registry("objective")
