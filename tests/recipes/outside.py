"""Two methods in one file outside the package, as a user would write them; nothing else knows of them.

Shapes: B items, C H W image, N patches, D channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from insonate.data.sample import Batch, Meta
from insonate.data.targets import ValueTarget
from insonate.measure import quantity
from insonate.models import Backbone, Losses
from insonate.objectives import OBJECTIVES, Objective, ObjectiveConfig
from insonate.tasks.base import TASKS, Outputs, Prediction, Task, TaskConfig


class DenoiseConfig(ObjectiveConfig):
    """Options of `denoise`."""

    name: str = "denoise"
    noise: float = Field(default=0.5, gt=0)
    """standard deviation of what is added"""


@OBJECTIVES.register("denoise", config=DenoiseConfig)
class Denoise(Objective):
    """From a noisy picture, tell each clean patch's mean."""

    def __init__(self, backbone: Backbone, config: DenoiseConfig) -> None:
        super().__init__()
        self.backbone, self.config = backbone, config
        self.decoder = nn.Linear(backbone.spec.embed_dim, 1)

    def forward(self, batch: Batch) -> Losses:
        """Mean squared error over patches."""
        image = batch["image"]
        noises = [
            torch.randn(image.shape[1:], generator=torch.Generator().manual_seed(seed & (2**63 - 1)))
            for seed in batch["item_seed"]
        ]
        noisy = image + self.config.noise * torch.stack(noises).to(image)
        found = self.decoder(self.backbone(noisy).patch).float()[..., 0]  # B N
        wanted = functional.avg_pool2d(image.mean(1, keepdim=True), self.backbone.spec.patch[1:]).flatten(1)
        loss = functional.mse_loss(found, wanted)
        return Losses(loss, {"noise": torch.tensor(self.config.noise)})

    def encoder_for_export(self) -> Backbone:
        """The one that learns."""
        return self.backbone


class LogConfig(TaskConfig):
    """Options of `logarithm`."""

    name: str = "logarithm"


@TASKS.register("logarithm", config=LogConfig)
class Logarithm(Task):
    """A positive number an item, by its logarithm."""

    kind = "logarithm"
    config: LogConfig

    def __init__(self, backbone: Backbone, config: LogConfig) -> None:
        super().__init__()
        self.backbone, self.config = backbone, config
        self.head = nn.Linear(backbone.spec.embed_dim, 1)

    def target(self) -> ValueTarget:
        """The column of the number."""
        return ValueTarget(column=self.config.column)

    def forward(self, batch: Batch) -> Losses:
        """Squared error of the logarithm."""
        loss = functional.mse_loss(self._log(batch["image"]), batch["value"].float().log())
        return Losses(loss, {"squared": loss.detach()})

    def predict(self, batch: Batch, *, tta: bool = False) -> Outputs:
        """Numbers B."""
        found = self._log(batch["image"]).exp()
        return Outputs(found, torch.ones_like(found))

    def decode(self, outputs: Outputs, batch: Batch) -> list[Prediction]:
        """Numbers as they are."""
        return [self._one(v, meta) for v, meta in zip(outputs.values.tolist(), batch["meta"], strict=True)]

    def truth(self, batch: Batch) -> list[Prediction]:
        """The labels."""
        return [self._one(v, meta) for v, meta in zip(batch["value"].tolist(), batch["meta"], strict=True)]

    def score(self, prediction: Prediction, truth: Prediction) -> dict[str, float]:
        """`ratio`: the larger by the smaller."""
        return {"ratio": math.exp(abs(math.log(float(prediction.value) / float(truth.value))))}

    def trivial(self, truths: Sequence[Prediction], meta: Meta) -> Prediction:
        """The mean."""
        return self._one(float(np.mean([float(truth.value) for truth in truths])), meta)

    def draw(
        self, image: Image.Image, prediction: Prediction, truth: Prediction | None = None
    ) -> Image.Image:
        """The picture itself."""
        return image.convert("RGB")

    def _log(self, image: Tensor) -> Tensor:
        return self.head(self.backbone(image).patch.mean(1)).float()[..., 0]  # B

    def _one(self, value: float, meta: Meta) -> Prediction:
        name = self.config.column
        return Prediction(
            task=name, kind=self.kind, meta=meta, value=np.asarray(value), confidence=np.asarray(1.0),
            measurements={name: quantity(name, value)},
        )  # fmt: skip
