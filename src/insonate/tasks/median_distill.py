"""Median distillation: a student learns its labels and where the median of several teachers puts points.

loss = loss of the labels + 0.5 · loss of the teachers; the second is the coordinate term alone, each point by
exp(-d / 8 px) where the teachers lie d apart. What is trained and saved is the student, a task of points.
Source: the SONICHU model card (five teachers, weight 0.5, median); the weight by agreement, the cache: ours.
Recipe: sonichu_student. Page: docs/methods/distillation.md.
Shapes: B items, K points.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import torch
from PIL import Image
from pydantic import Field, PositiveFloat, field_validator
from torch import Tensor, nn

from insonate.data.pointsets import FRAME_PX
from insonate.data.sample import Batch, Meta
from insonate.data.targets import PointSetsTarget, PointsTarget
from insonate.errors import ModelError
from insonate.models.backbone import Backbone
from insonate.models.trainable import Losses
from insonate.tasks.base import TASKS, Outputs, Prediction, Task, TaskConfig
from insonate.tasks.biometry import Biometry
from insonate.tasks.build import build_task
from insonate.tasks.keypoints import Keypoints
from insonate.tasks.point_losses import smooth_l1
from insonate.tasks.teachers import Taught, Teachers
from insonate.tasks.weighted import item_weights, weighted_mean


class MedianDistillConfig(TaskConfig):
    """Options of `median_distill`."""

    name: Literal["median_distill"] = "median_distill"
    student: dict[str, Any]
    """the student's task, for example {name: keypoints, points: HC}, without its column"""
    teachers: tuple[str, ...] = Field(min_length=1, max_length=64)
    """model folders or hub ids; of the same points and input"""
    cache: str | None = None
    """file of what the teachers say of each item, made if absent; none = they look at every batch"""
    fuse: Literal["median", "geometric"] = "median"
    """how the teachers' points become one"""
    teacher_weight: float = Field(default=0.5, ge=0.0)
    """of the teachers' loss beside that of the labels"""
    agreement_px: float = Field(default=8.0, ge=0.0)
    """distance of the teachers, in px of a picture of 256, at which a point counts 1/e; 0 = all count 1"""
    check_items: int = Field(default=256, ge=0)
    """items on which the cache is compared with teachers that look at the augmented picture; 0 = none"""
    largest_gap_px: PositiveFloat = 2.0
    """mean difference there, in pixels of a picture of 256, above which the cache is not used"""

    @field_validator("student")
    @classmethod
    def _points(cls, value: dict[str, Any]) -> dict[str, Any]:
        if value.get("name") not in {"keypoints", "biometry"}:
            raise ValueError("the student's name is keypoints or biometry")
        if "column" in value:
            raise ValueError("the student's column is that of median_distill")
        return value


@TASKS.register("median_distill", config=MedianDistillConfig)
class MedianDistill(Task):
    """Points learned from labels and from the median of teachers."""

    kind = "keypoints"
    config: MedianDistillConfig
    student: Keypoints | Biometry

    def __init__(self, backbone: Backbone, config: MedianDistillConfig) -> None:
        super().__init__()
        self.config = config
        student = build_task(backbone, {**config.student, "column": config.column})
        assert isinstance(student, Keypoints | Biometry)  # the options want it
        self.student = student
        self.teachers: Teachers | None = None

    @property
    def backbone(self) -> Backbone:  # type: ignore[override]  # the student owns it
        """The student's."""
        return self.student.backbone

    @property
    def head(self) -> nn.Module:  # type: ignore[override]
        """The student's."""
        return self.student.head

    def teach(self, teachers: Teachers) -> None:
        """Train with these teachers from now on; they are no part of what is saved."""
        self.teachers = teachers

    def for_export(self) -> Task:
        """The student, a model like any other."""
        return self.student

    def sets(self) -> dict[str, PointsTarget]:
        """Point set → what a mirror does to its points; "" of a student of one set."""
        target = self.student.target()
        return {"": target} if isinstance(target, PointsTarget) else target.sets

    def target(self) -> PointsTarget | PointSetsTarget:
        """The student's."""
        return self.student.target()

    def forward(self, batch: Batch) -> Losses:
        """Labels and teachers; see the module.

        Raises:
            ModelError: it has no teachers yet.
        """
        if self.teachers is None:
            raise ModelError("median_distill", "has no teachers yet", "Call `teach` first, or run a recipe")
        student: Any = self.student
        maps = student.maps(batch)
        real, found = student.loss(maps, batch), student.centres(maps, batch)  # B K 2
        taught = self.teachers(batch)
        teacher = self._teacher_loss(found, taught, batch)
        total = real.total + self.config.teacher_weight * teacher
        return Losses(total, {**real.parts, "teacher_px": teacher.detach()})

    def predict(self, batch: Batch, *, tta: bool = False) -> Outputs:
        """The student's."""
        return self.student.predict(batch, tta=tta)

    def decode(self, outputs: Outputs, batch: Batch) -> list[Prediction]:
        """The student's."""
        return self.student.decode(outputs, batch)

    def truth(self, batch: Batch) -> list[Prediction]:
        """The labels."""
        return self.student.truth(batch)

    def score(self, prediction: Prediction, truth: Prediction) -> dict[str, float]:
        """The student's."""
        return self.student.score(prediction, truth)

    def trivial(self, truths: Sequence[Prediction], meta: Meta) -> Prediction:
        """The student's."""
        return self.student.trivial(truths, meta)

    def draw(
        self, image: Image.Image, prediction: Prediction, truth: Prediction | None = None
    ) -> Image.Image:
        """The student's."""
        return self.student.draw(image, prediction, truth)

    def settle(self, batches: Iterable[Batch]) -> None:
        """The student's."""
        self.student.settle(batches)

    def _teacher_loss(self, found: Tensor, taught: Taught, batch: Batch) -> Tensor:
        """Mean distance in pixels of a picture of 256, of the points that lie on the picture."""
        size = found.new_tensor(batch["image"].shape[:-3:-1])  # W, H
        wanted = taught.points / size  # B K 2, picture sizes from the centre
        seen = (wanted.abs() <= 0.5).all(dim=-1)  # B K; False for NaN
        wanted = torch.where(seen[..., None], wanted, 0.0)
        apart_px = torch.where(seen, taught.apart_px, 0.0)
        far_px = self.config.agreement_px
        agreed = torch.exp(-apart_px / far_px) if far_px else torch.ones_like(apart_px)
        off_px = smooth_l1(FRAME_PX * (found - wanted))  # B K
        return weighted_mean(agreed * off_px, seen * item_weights(batch)[:, None])
