"""A backbone of one convolution, and batches for the tests of tasks."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from insonate.data.sample import Batch, Meta
from insonate.data.spacing import Spacing
from insonate.models.backbone import Backbone, BackboneSpec, Tokens
from insonate.tasks.base import Task
from insonate.tasks.median_distill import MedianDistill
from insonate.tasks.teachers import Taught


class Tiny(Backbone):
    """Patches of 8 px, 16 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.spec = BackboneSpec(embed_dim=16, patch=(1, 8, 8), input_size=(32, 32))
        self.embed = nn.Conv2d(3, 16, kernel_size=8, stride=8)

    def forward(self, x: Tensor) -> Tokens:
        grid = self.embed(x)  # B D h w
        patch = grid.flatten(2).transpose(1, 2)
        return Tokens(patch, patch.new_zeros(len(x), 0, 16), (1, *grid.shape[-2:]))

    def pyramid(self, x: Tensor) -> list[Tensor]:
        grid = self.embed(x)
        return [
            functional.interpolate(grid, size=(x.shape[-2] // s, x.shape[-1] // s), mode="nearest")
            for s in (4, 8, 16, 32)
        ]

    def layers(self) -> list[nn.Module]:
        return [self.embed]


def meta(
    original_hw: tuple[int, int] = (64, 96),
    input_hw: tuple[int, int] = (32, 32),
    *,
    spacing_mm: float | None = 0.5,
) -> Meta:
    """Plain resize of `original_hw` to `input_hw`, pixel centres half a pixel in."""
    down, right = input_hw[0] / original_hw[0], input_hw[1] / original_hw[1]
    matrix = ((right, 0.0, (right - 1) / 2), (0.0, down, (down - 1) / 2), (0.0, 0.0, 1.0))
    spacing = None if spacing_mm is None else Spacing(row_mm=spacing_mm, col_mm=spacing_mm)
    return Meta(
        item_id="a", original_hw=original_hw, input_from_original=matrix, spacing=spacing, points_set="HC"
    )


def batch(count: int = 4, size: int = 32, *, points: int = 4, seed: int = 0) -> Batch:
    """Noise with labels of every kind that the noise holds in a simple way."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(count, 3, size, size, generator=generator)
    image[1::2] += 1.0
    mask = torch.zeros(count, size, size, dtype=torch.int64)
    mask[:, size // 4 : size // 2, size // 4 : -size // 4] = 1
    image[:, 0][mask == 1] += 2.0
    return Batch(
        image=image,
        meta=[meta(input_hw=(size, size)) for _ in range(count)],
        item_seed=list(range(count)),
        step_seed=0,
        mask=mask,
        points_xy=size * (0.2 + 0.6 * torch.rand(count, points, 2, generator=generator)),
        visible=torch.ones(count, points, dtype=torch.bool),
        label=torch.arange(count) % 2,
        value=30.0 + 10.0 * (torch.arange(count) % 2).float(),
    )


class Says:
    """A teacher that says these points (B K 2, input pixels from the centre), or else the labels."""

    def __init__(self, points: Tensor | None = None, apart_px: Tensor | None = None) -> None:
        self.points, self.apart_px = points, apart_px

    def __call__(self, given: Batch) -> Taught:
        points = self.points
        if points is None:
            points = (
                given["points_xy"] - (given["points_xy"].new_tensor(given["image"].shape[:-3:-1]) - 1) / 2
            )
        return Taught(points, torch.zeros(points.shape[:-1]) if self.apart_px is None else self.apart_px)


def ready(task: Task) -> Task:
    """The task, with a teacher where it needs one to be trained."""
    if isinstance(task, MedianDistill):
        task.teach(Says())
    return task
