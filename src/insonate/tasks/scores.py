"""Torchmetrics that take the stacked `value`s of predictions and truths as they are, and never warn.

Shapes: N items, C classes.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor
from torchmetrics.classification import MulticlassAccuracy, MulticlassAUROC, MulticlassF1Score
from torchmetrics.regression import MeanAbsoluteError, PearsonCorrCoef, R2Score

FEWEST = 2
"""items below which a correlation is NaN"""


class Accuracy(MulticlassAccuracy):
    """Part of the items whose likeliest class is the true one (micro average)."""

    def __init__(self, classes: int) -> None:
        super().__init__(num_classes=classes, average="micro")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Probabilities N C; one-hot N C or indices N."""
        super().update(preds, class_index(target))


class F1(MulticlassF1Score):
    """Mean over the classes of the harmonic mean of precision and recall."""

    def __init__(self, classes: int) -> None:
        super().__init__(num_classes=classes, average="macro")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Probabilities N C; one-hot N C or indices N."""
        super().update(preds, class_index(target))


class Auroc(MulticlassAUROC):
    """Area under the ROC curve, one class against the rest: mean over classes; NaN if one alone occurs."""

    def __init__(self, classes: int) -> None:
        super().__init__(num_classes=classes, average="none")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Probabilities N C; one-hot N C or indices N."""
        super().update(preds, class_index(target))

    def compute(self) -> Tensor:  # type: ignore[override]  # its base gives curves
        """The mean over the classes that have positives and negatives."""
        each = torch.as_tensor(_quietly(super().compute))
        target = torch.cat([torch.as_tensor(part) for part in self.target])
        counts = torch.bincount(target, minlength=len(each))
        defined = (counts > 0) & (counts < len(target))
        return each[defined].mean() if defined.any() else torch.tensor(float("nan"))


class R2(R2Score):
    """Part of the variance that is explained; NaN below two items."""

    def compute(self) -> Tensor:
        """R², or NaN."""
        if int(self.total) < FEWEST:
            return torch.tensor(float("nan"))
        return _quietly(super().compute)


class Pearson(PearsonCorrCoef):
    """Pearson's correlation; NaN below two items or where one side is constant."""

    def compute(self) -> Tensor:
        """The correlation, or NaN."""
        if int(self.n_total) < FEWEST:
            return torch.tensor(float("nan"))
        return _quietly(super().compute)


def class_index(target: Tensor) -> Tensor:
    """One-hot N C → indices N; indices stay."""
    return target.argmax(dim=-1) if target.ndim > 1 else target.long()


def _quietly(compute: Any) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return compute()


__all__ = ["F1", "R2", "Accuracy", "Auroc", "MeanAbsoluteError", "Pearson", "class_index"]
