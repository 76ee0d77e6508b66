"""Task: a labelled problem with its head, loss, decoding to physical units, scores and picture.

One file a task in this folder. The path of a result: `predict` (tensors) → `decode` (one `Prediction` an
item, in pixels and mm of the original) → `score` (numbers an item) or `metrics` (over all items).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple

import numpy as np
from PIL import Image
from pydantic import AfterValidator
from torch import Tensor, nn
from torchmetrics import MetricCollection

from insonate.data.sample import Batch, Meta
from insonate.data.targets import Target
from insonate.errors import ModelError
from insonate.measure import Quantity
from insonate.models.backbone import Backbone
from insonate.models.registry import Registry
from insonate.models.trainable import Losses
from insonate.options import Options


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError("class names must differ")
    return names


ClassNames = Annotated[tuple[str, ...], AfterValidator(_distinct)]
"""names of classes, each once"""


class TaskConfig(Options):
    """Base of the tasks' options; `name` is the registry name."""

    name: str
    column: str
    """manifest column of the label"""


class Outputs(NamedTuple):
    """Tensors of a batch: `values` is what the task predicts (see each task), `confidence` is B or B K."""

    values: Tensor
    confidence: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """One item's result in the units of the original medium."""

    task: str
    kind: str
    """classification, regression, segmentation or keypoints"""
    meta: Meta
    value: np.ndarray
    """probabilities (classes); scalar; mask H W of the original; or points K 2 in original pixels, NaN where
    there is none"""
    confidence: np.ndarray
    names: tuple[str, ...] = ()
    """of classes or points"""
    measurements: dict[str, Quantity] = field(default_factory=dict)
    """by name, with the unit in it (`hc_mm`)"""
    warnings: tuple[str, ...] = ()
    """what is doubtful about it, for people"""
    drawer: Callable[[Prediction], Image.Image] | None = field(default=None, repr=False, compare=False)
    """draws it on its frame, which is read again; none where it was not made from a medium"""

    def draw(self) -> Image.Image:
        """Its frame of the medium (RGB) with the prediction on it.

        Raises:
            ModelError: it was not made by `Model.predict`, so that it has no frame.
            MediaError: the medium cannot be read any more.
        """
        if self.drawer is None:
            raise ModelError(self.meta.item_id, "this prediction has no frame", "Use the task's own `draw`")
        return self.drawer(self)

    def placed(self) -> np.ndarray:
        """Points K 2 as scores count them: one that was not found stands in the middle of the picture."""
        height, width = self.meta.original_hw
        return np.where(np.isfinite(self.value), self.value, np.array([width - 1, height - 1]) / 2)

    def text(self) -> str:
        """What it says, in a line."""
        if self.kind == "classification":
            return f"{self.names[int(self.value.argmax())]} {float(self.value.max()):.2f}"
        unknown = ", in px: the spacing is unknown" if self.meta.spacing is None else ""
        unknown += "".join(f"; {doubt}" for doubt in self.warnings)
        if self.measurements:
            sizes = self.measurements.items()
            told = ", ".join(f"{name.rpartition('_')[0] if one.unit else name} {one}" for name, one in sizes)
            return told + (unknown if self.kind == "keypoints" else "")
        return f"{len(self.names)} {'points' if self.kind == 'keypoints' else 'classes'}{unknown}"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, but for a mask, which is a picture; what is NaN becomes null."""
        shown: Any = None if self.kind == "segmentation" else _without_nan(self.value.tolist())
        return {
            "item_id": self.meta.item_id, "frame": self.meta.frame, "task": self.task, "kind": self.kind,
            "value": shown, "names": list(self.names), "confidence": np.asarray(self.confidence).tolist(),
            "measurements": {name: one.to_dict() for name, one in self.measurements.items()},
            "warnings": list(self.warnings),
        }  # fmt: skip


def _without_nan(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value


class Task(nn.Module):
    """A labelled problem. Made as `make(backbone, config)`; `kind` is also the registry name."""

    kind: str
    backbone: Backbone
    head: nn.Module
    config: TaskConfig
    floors: Mapping[str, float] = MappingProxyType({})

    def choices(self) -> tuple[str, ...]:
        """Names by which a use of the model asks for it; several where it is several tasks in one."""
        return (self.config.column,)

    def chosen(self, name: str) -> Task:
        """The task of one of the `choices`, which shares its weights."""
        return self

    @abstractmethod
    def target(self) -> Target:
        """What the dataset must read for this task."""

    @abstractmethod
    def forward(self, batch: Batch) -> Losses:
        """Weighted mean loss of the labelled items."""

    def after_step(self, progress: float) -> dict[str, float]:
        """Nothing, unless the task keeps a moving average; see `Trainable.after_step`."""
        return {}

    def for_export(self) -> Task:
        """What is saved when it is trained: itself, unless it only helps another to learn."""
        return self

    @abstractmethod
    def predict(self, batch: Batch, *, tta: bool = False) -> Outputs:
        """Outputs of a batch, in eval mode under no_grad. `tta`: also mirrored, in one call."""

    @abstractmethod
    def decode(self, outputs: Outputs, batch: Batch) -> list[Prediction]:
        """Predictions in original pixels, and physical units where the spacing is known."""

    @abstractmethod
    def truth(self, batch: Batch) -> list[Prediction]:
        """The labels of a batch in the form of predictions (confidence 1)."""

    @abstractmethod
    def score(self, prediction: Prediction, truth: Prediction) -> dict[str, float]:
        """Scores of one item, averaged over items by the evaluation; NaN where it does not apply."""

    def settle(self, batches: Iterable[Batch]) -> None:
        """After training: fit on held-out batches what must not be fitted on the training ones.

        In eval mode under no_grad. Nothing, unless the task has such a part.
        """

    def metrics(self) -> MetricCollection:
        """Metrics that need all items at once, over stacked `value`s and truth `value`s; may be empty."""
        return MetricCollection({})

    @abstractmethod
    def trivial(self, truths: Sequence[Prediction], meta: Meta) -> Prediction:
        """What one would say of an item without looking: prior, mean, mean shape. The baseline of reports."""

    @abstractmethod
    def draw(
        self, image: Image.Image, prediction: Prediction, truth: Prediction | None = None
    ) -> Image.Image:
        """The original picture (RGB) with the prediction, and the truth where given, drawn on it."""


TASKS: Registry[Task] = Registry("task")
