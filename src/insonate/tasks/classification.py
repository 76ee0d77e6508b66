"""Classification: one of several classes an item, from pooled tokens; cross-entropy.

Shapes: B items, C classes. Output values: probabilities B C.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from PIL import Image
from pydantic import Field
from torch import Tensor
from torch.nn import functional
from torchmetrics import MetricCollection

from insonate.data.sample import Batch, Meta
from insonate.data.targets import ClassTarget
from insonate.models.backbone import Backbone
from insonate.models.heads import POOLED_HEADS
from insonate.models.trainable import Losses
from insonate.tasks.base import TASKS, ClassNames, Outputs, Prediction, Task, TaskConfig
from insonate.tasks.drawing import PREDICTED, TRUE, draw_bars, enlarged, write_lines
from insonate.tasks.scores import F1, Accuracy, Auroc
from insonate.tasks.weighted import item_weights, over_views, weighted_mean, with_mirrored

SMALLEST = 1e-7
"""probabilities below it count as it in the log loss"""


class ClassificationConfig(TaskConfig):
    """Options of `classification`."""

    name: Literal["classification"] = "classification"
    classes: ClassNames = Field(min_length=2)
    """class names, as they stand in the manifest column"""
    head: Literal["linear", "linear_probe", "attentive", "norm_linear", "class_token", "sononet"] = "linear"
    """mean of the tokens (linear_probe: after a BatchNorm, for frozen backbones), or one learned query over
    them; norm_linear, class_token and sononet are those of
    the fine-tunes of USFM, timm and SonoNet"""
    label_smoothing: float = Field(default=0.0, ge=0.0, lt=1.0)
    """part of the target that is spread over all classes"""


@TASKS.register("classification", config=ClassificationConfig)
class Classification(Task):
    """One of `classes` an item."""

    kind = "classification"
    config: ClassificationConfig

    def __init__(self, backbone: Backbone, config: ClassificationConfig) -> None:
        super().__init__()
        self.backbone, self.config = backbone, config
        self.head = POOLED_HEADS[config.head](backbone.spec.embed_dim, len(config.classes))

    def target(self) -> ClassTarget:
        """The class column."""
        return ClassTarget(column=self.config.column, classes=self.config.classes)

    def forward(self, batch: Batch) -> Losses:
        """Cross-entropy; an item with a negative label gives none."""
        logits, label = self._logits(batch["image"]), batch["label"]  # B C, B
        labelled = (label >= 0).float()
        losses = functional.cross_entropy(
            logits, label.clamp(min=0), reduction="none", label_smoothing=self.config.label_smoothing
        )
        loss = weighted_mean(losses, labelled * item_weights(batch))
        return Losses(loss, {"cross_entropy": loss.detach()})

    def predict(self, batch: Batch, *, tta: bool = False) -> Outputs:
        """Probabilities B C and the largest of them B; `tta`: mean with the mirrored picture."""
        image = with_mirrored(batch["image"]) if tta else batch["image"]
        probs = over_views(self._logits(image).softmax(dim=-1), batch["image"])  # B C
        return Outputs(probs, probs.amax(dim=-1))

    def decode(self, outputs: Outputs, batch: Batch) -> list[Prediction]:
        """Probabilities as they are."""
        values = outputs.values.detach().double().cpu().numpy()
        return [self._prediction(value, meta) for value, meta in zip(values, batch["meta"], strict=True)]

    def truth(self, batch: Batch) -> list[Prediction]:
        """One-hot probabilities."""
        known = np.eye(len(self.config.classes))
        labels = batch["label"].tolist()
        return [self._prediction(known[i], meta) for i, meta in zip(labels, batch["meta"], strict=True)]

    def score(self, prediction: Prediction, truth: Prediction) -> dict[str, float]:
        """`correct` 0 or 1, and `log_loss` in nats."""
        index = int(truth.value.argmax())
        correct = float(int(prediction.value.argmax()) == index)
        return {"correct": correct, "log_loss": -math.log(max(float(prediction.value[index]), SMALLEST))}

    def metrics(self) -> MetricCollection:
        """Accuracy, AUROC (one against the rest) and macro F1."""
        count = len(self.config.classes)
        return MetricCollection({"accuracy": Accuracy(count), "auroc": Auroc(count), "f1": F1(count)})

    def trivial(self, truths: Sequence[Prediction], meta: Meta) -> Prediction:
        """How often each class occurs."""
        return self._prediction(np.mean([truth.value for truth in truths], axis=0), meta)

    def draw(
        self, image: Image.Image, prediction: Prediction, truth: Prediction | None = None
    ) -> Image.Image:
        """A bar a class; the true one in green."""
        drawn = enlarged(image.convert("RGB"))
        true_index = None if truth is None else int(truth.value.argmax())
        draw_bars(drawn, self.config.classes, prediction.value, true_index)
        index = int(prediction.value.argmax())
        colour = TRUE if index == true_index else PREDICTED
        write_lines(drawn, [(self.config.classes[index], colour)])
        return drawn

    def _logits(self, image: Tensor) -> Tensor:
        return self.head(self.backbone(image)).float()  # B C

    def _prediction(self, probs: np.ndarray, meta: Meta) -> Prediction:
        return Prediction(
            task=self.config.column,
            kind=self.kind,
            meta=meta,
            value=np.asarray(probs, dtype=np.float64),
            confidence=np.asarray(probs.max()),
            names=self.config.classes,
        )
