"""Regression: one number an item, from pooled tokens; Huber loss on the standardised number.

Shapes: B items. Output values: numbers B, in the unit of the manifest column.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from PIL import Image
from pydantic import Field, model_validator
from torch import Tensor, distributed
from torch.nn import functional
from torchmetrics import MetricCollection

from insonate.data.sample import Batch, Meta
from insonate.data.targets import ValueTarget
from insonate.measure import quantity
from insonate.models.backbone import Backbone
from insonate.models.heads import POOLED_HEADS
from insonate.models.trainable import Losses
from insonate.tasks.base import TASKS, Outputs, Prediction, Task, TaskConfig
from insonate.tasks.drawing import PREDICTED, TRUE, enlarged, write_lines
from insonate.tasks.scores import R2, MeanAbsoluteError, Pearson
from insonate.tasks.weighted import item_weights, over_views, weighted_mean, with_mirrored


class RegressionConfig(TaskConfig):
    """Options of `regression`."""

    name: Literal["regression"] = "regression"
    head: Literal["linear", "linear_probe", "attentive"] = "linear"
    """mean of the tokens (linear_probe: after a BatchNorm, for frozen backbones), or one learned query over
    them"""
    mean: float | None = None
    """of the column over the training items; None: of `Regression.fit`, else of the first batch"""
    std: float | None = Field(default=None, gt=0.0)
    """likewise"""

    @model_validator(mode="after")
    def _both_or_none(self) -> RegressionConfig:
        if (self.mean is None) != (self.std is None):
            raise ValueError("give mean and std together, or neither")
        return self


@TASKS.register("regression", config=RegressionConfig)
class Regression(Task):
    """A number an item. The network sees it standardised; users see it in its own unit."""

    kind = "regression"
    config: RegressionConfig
    mean: Tensor
    std: Tensor
    fitted: Tensor

    def __init__(self, backbone: Backbone, config: RegressionConfig) -> None:
        super().__init__()
        self.backbone, self.config = backbone, config
        self.head = POOLED_HEADS[config.head](backbone.spec.embed_dim, 1)
        self.register_buffer("mean", torch.tensor(0.0 if config.mean is None else config.mean))
        self.register_buffer("std", torch.tensor(1.0 if config.std is None else config.std))
        self.register_buffer("fitted", torch.tensor(config.mean is not None))
        self._surely_fitted = config.mean is not None

    def target(self) -> ValueTarget:
        """The value column."""
        return ValueTarget(column=self.config.column)

    def fit(self, values: Sequence[float] | Tensor) -> None:
        """Standardise by the mean and standard deviation of these labels from now on; NaN are left out."""
        known = torch.as_tensor(values, dtype=torch.float64)
        known = known[known.isfinite()]
        sums = torch.stack([known.new_tensor(float(len(known))), known.sum(), known.square().sum()])
        self._fit_sums(sums)

    def forward(self, batch: Batch) -> Losses:
        """Huber loss of the standardised number; an item without a finite value gives none."""
        value = batch["value"].float()
        self._fit_once(value)
        labelled = value.isfinite()
        wanted = torch.where(labelled, (value - self.mean) / self.std, 0.0)  # B
        losses = functional.smooth_l1_loss(self._standardised(batch["image"]), wanted, reduction="none")
        loss = weighted_mean(losses, labelled * item_weights(batch))
        return Losses(loss, {"huber": loss.detach()})

    def predict(self, batch: Batch, *, tta: bool = False) -> Outputs:
        """Numbers B; this task estimates no confidence: it is 1. `tta`: mean with the mirrored picture."""
        image = with_mirrored(batch["image"]) if tta else batch["image"]
        found = over_views(self._standardised(image), batch["image"])  # B
        return Outputs(found * self.std + self.mean, torch.ones_like(found))

    def decode(self, outputs: Outputs, batch: Batch) -> list[Prediction]:
        """Numbers as they are, also as a measurement under the column's name (its end may be a unit)."""
        values = outputs.values.tolist()
        return [self._prediction(value, meta) for value, meta in zip(values, batch["meta"], strict=True)]

    def truth(self, batch: Batch) -> list[Prediction]:
        """The labels."""
        values = batch["value"].tolist()
        return [self._prediction(value, meta) for value, meta in zip(values, batch["meta"], strict=True)]

    def score(self, prediction: Prediction, truth: Prediction) -> dict[str, float]:
        """`abs_error` in the unit of the column."""
        return {"abs_error": abs(float(prediction.value) - float(truth.value))}

    def metrics(self) -> MetricCollection:
        """Mean absolute error, R² and Pearson's correlation."""
        return MetricCollection({"mae": MeanAbsoluteError(), "r2": R2(), "pearson": Pearson()})

    def trivial(self, truths: Sequence[Prediction], meta: Meta) -> Prediction:
        """The mean."""
        return self._prediction(float(np.mean([float(truth.value) for truth in truths])), meta)

    def draw(
        self, image: Image.Image, prediction: Prediction, truth: Prediction | None = None
    ) -> Image.Image:
        """The number, and the true one in green below it."""
        drawn = enlarged(image.convert("RGB"))
        lines = [(f"{self.config.column} {prediction.measurements[self.config.column]}", PREDICTED)]
        if truth is not None:
            lines.append((f"label {float(truth.value):.4g}", TRUE))
        write_lines(drawn, lines)
        return drawn

    def _standardised(self, image: Tensor) -> Tensor:
        return self.head(self.backbone(image)).float().squeeze(-1)  # B

    def _fit_once(self, value: Tensor) -> None:
        """The first training batch (of all ranks) stands in where nobody called `fit`."""
        if self._surely_fitted or not self.training:
            return
        if not bool(self.fitted):
            known = value[value.isfinite()].double()
            sums = torch.stack([known.new_tensor(float(len(known))), known.sum(), known.square().sum()])
            if distributed.is_available() and distributed.is_initialized():
                distributed.all_reduce(sums)
            self._fit_sums(sums)
        self._surely_fitted = bool(self.fitted)

    def _fit_sums(self, sums: Tensor) -> None:
        count, total, squares = sums.tolist()
        if count == 0:
            return
        mean = total / count
        std = max(squares / count - mean**2, 0.0) ** 0.5
        self.mean.fill_(mean)
        self.std.fill_(std if std > 1e-6 * max(abs(mean), 1e-6) else 1.0)
        self.fitted.fill_(value=True)

    def _prediction(self, value: float, meta: Meta) -> Prediction:
        return Prediction(
            task=self.config.column,
            kind=self.kind,
            meta=meta,
            value=np.asarray(value, dtype=np.float64),
            confidence=np.asarray(1.0),
            measurements={self.config.column: quantity(self.config.column, value)},
        )
