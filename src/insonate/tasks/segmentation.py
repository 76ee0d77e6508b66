"""Segmentation: a class for each pixel, from the backbone's pyramid; cross-entropy and soft Dice.

Shapes: B items, C classes (0 = background), H W input, R Q rows and columns of the original. Output values:
probabilities B C H W. Source of the loss: Isensee et al. 2021 (nnU-Net), Nature Methods 18:203.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
import torch
from PIL import Image
from pydantic import Field, model_validator
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from insonate.data.sample import Batch, Meta
from insonate.data.spacing import Spacing
from insonate.data.targets import UNLABELLED, MaskTarget
from insonate.errors import RecipeError
from insonate.measure import Quantity, quantity
from insonate.models.backbone import Backbone
from insonate.models.heads import pyramid_channels
from insonate.models.pyramid_heads import PYRAMID_HEADS
from insonate.models.trainable import Losses
from insonate.tasks.base import TASKS, ClassNames, Outputs, Prediction, Task, TaskConfig
from insonate.tasks.drawing import CLASS_COLOURS, TRUE, draw_outline, enlarged, write_lines
from insonate.tasks.weighted import item_weights, weighted_mean, with_mirrored

VOTERS = 64
"""masks that the trivial answer is made of, evenly spread over those given"""
MM2_PER_CM2 = 100.0
PIXELS = "number of pixels times their area"
NAN = float("nan")


class SegmentationConfig(TaskConfig):
    """Options of `segmentation`."""

    name: Literal["segmentation"] = "segmentation"
    classes: ClassNames = Field(min_length=2, max_length=UNLABELLED)
    """names of the grey levels 0, 1, …; the first is the background"""
    head: Literal["fpn", "tinyusfm"] = "fpn"
    """light feature pyramid, or that of TinyUSFM"""
    width: int = Field(default=128, gt=0, le=4096)
    """channels of the head; a multiple of 32 for fpn"""
    dice_weight: float = Field(default=1.0, ge=0.0)
    """of the soft Dice term beside the cross-entropy"""
    hausdorff: bool = False
    """also score the 95th percentile of the surface distance (slow on large pictures)"""

    @model_validator(mode="after")
    def _grouped(self) -> SegmentationConfig:
        if self.head == "fpn" and self.width % 32:
            raise ValueError(f"width {self.width} is no multiple of 32, which the norm of fpn needs")
        return self


@TASKS.register("segmentation", config=SegmentationConfig)
class Segmentation(Task):
    """A mask an item."""

    kind = "segmentation"
    config: SegmentationConfig

    def __init__(self, backbone: Backbone, config: SegmentationConfig) -> None:
        super().__init__()
        _check_learns(backbone)
        self.backbone, self.config = backbone, config
        self.head = PYRAMID_HEADS[config.head](pyramid_channels(backbone), len(config.classes), config.width)

    def target(self) -> MaskTarget:
        """The mask column."""
        return MaskTarget(column=self.config.column, classes=self.config.classes)

    def forward(self, batch: Batch) -> Losses:
        """Cross-entropy plus `dice_weight` times soft Dice, both a mean over the items."""
        logits, mask = self._logits(batch["image"]), batch["mask"].long()  # B C H W, B H W
        weights = item_weights(batch)
        labelled = mask != UNLABELLED  # B H W
        wanted = torch.where(labelled, mask, 0)
        pixels = functional.cross_entropy(logits, wanted, reduction="none") * labelled  # B H W
        counts = labelled.sum(dim=(-2, -1))  # B
        entropy = weighted_mean(pixels.sum(dim=(-2, -1)) / counts.clamp(min=1), weights * (counts > 0))
        dice = weighted_mean(_dice_loss(logits.softmax(dim=1), wanted, labelled), weights * (counts > 0))
        total = entropy + self.config.dice_weight * dice
        return Losses(total, {"cross_entropy": entropy.detach(), "dice": dice.detach()})

    def predict(self, batch: Batch, *, tta: bool = False) -> Outputs:
        """Probabilities B C H W and their mean largest value B; `tta`: mean with the mirrored picture."""
        image = batch["image"]
        probs = self._logits(with_mirrored(image) if tta else image).softmax(dim=1)
        if tta:
            straight, mirrored = probs.chunk(2)  # B C H W, twice
            probs = (straight + mirrored.flip(-1)) / 2
        return Outputs(probs, probs.amax(dim=1).mean(dim=(-2, -1)))

    def decode(self, outputs: Outputs, batch: Batch) -> list[Prediction]:
        """Masks on the grid of the original: interpolated probabilities, of which the largest is taken."""
        pairs = zip(outputs.values, outputs.confidence.tolist(), batch["meta"], strict=True)
        return [
            self._prediction(_on_original(probs, meta, "bilinear").argmax(axis=0), confidence, meta)
            for probs, confidence, meta in pairs
        ]

    def truth(self, batch: Batch) -> list[Prediction]:
        """The labels as they are in the original; from the model-input mask where there is no other."""
        originals = batch.get("original_mask")
        if originals is None:
            masks = batch["mask"].float()[:, None]  # B 1 H W
            pairs = zip(masks, batch["meta"], strict=True)
            originals = [_on_original(mask, meta, "nearest")[0].round() for mask, meta in pairs]
        return [
            self._prediction(mask, 1.0, meta) for mask, meta in zip(originals, batch["meta"], strict=True)
        ]

    def score(self, prediction: Prediction, truth: Prediction) -> dict[str, float]:
        """`dice` (mean over the classes but the background) and one a class; on request `hd95_px`, `hd95_mm`.

        NaN for a class that is in neither mask; distances are NaN where it is missing from one.
        """
        found, wanted = prediction.value, truth.value
        found = np.where(wanted == UNLABELLED, UNLABELLED, found)
        pairs = {name: (found == i, wanted == i) for i, name in enumerate(self.config.classes) if i > 0}
        each = {f"dice_{name}": dice(*pair) for name, pair in pairs.items()}
        scores = {"dice": _mean(each.values()), **each}
        if self.config.hausdorff:
            scores["hd95_px"] = _mean(hd95(*pair, (1.0, 1.0)) for pair in pairs.values())
            spacing = truth.meta.spacing
            scores["hd95_mm"] = (
                NAN
                if spacing is None
                else _mean(hd95(*pair, (spacing.row_mm, spacing.col_mm)) for pair in pairs.values())
            )
        return scores

    def trivial(self, truths: Sequence[Prediction], meta: Meta) -> Prediction:
        """The likeliest class of each place, with all masks stretched to the item's size."""
        size = meta.original_hw
        votes = np.zeros((len(self.config.classes), *size))
        for truth in truths[:: math.ceil(len(truths) / VOTERS)]:
            picture = Image.fromarray(truth.value).resize(size[::-1], Image.Resampling.NEAREST)
            stretched = np.asarray(picture)
            for index in range(len(votes)):
                votes[index] += stretched == index
        share = float((votes.max(axis=0) / np.maximum(votes.sum(axis=0), 1)).mean())
        return self._prediction(votes.argmax(axis=0), share, meta)

    def draw(
        self, image: Image.Image, prediction: Prediction, truth: Prediction | None = None
    ) -> Image.Image:
        """Outlines in one colour a class; those of the truth in green."""
        drawn = image.convert("RGB")
        thickness_px = max(1, min(drawn.size) // 256)
        legend = []
        for index, name in enumerate(self.config.classes[1:], start=1):
            colour = CLASS_COLOURS[(index - 1) % len(CLASS_COLOURS)]
            if truth is not None:
                draw_outline(drawn, truth.value == index, TRUE, thickness_px)
            draw_outline(drawn, prediction.value == index, colour, thickness_px)
            legend.append((name, colour))
        drawn = enlarged(drawn)
        write_lines(drawn, legend)
        return drawn

    def _logits(self, image: Tensor) -> Tensor:
        size = int(image.shape[-2]), int(image.shape[-1])  # plain numbers also in a graph that is exported
        return self.head(self.backbone.pyramid(image), size).float()  # B C H W

    def _prediction(self, mask: np.ndarray, confidence: float, meta: Meta) -> Prediction:
        mask = mask.astype(np.uint8)
        return Prediction(
            task=self.config.column,
            kind=self.kind,
            meta=meta,
            value=mask,
            confidence=np.asarray(confidence),
            names=self.config.classes,
            measurements=_areas(mask, self.config.classes, meta.spacing),
        )


def _check_learns(backbone: Backbone) -> None:
    """Refuse a backbone of which only layers learn that no pixel's class depends on.

    Raises:
        RecipeError: it is one.
    """
    used = backbone.pyramid_layers()
    idle = len(backbone.layers()) - len(used)
    learning = any(parameter.requires_grad for parameter in backbone.parameters())
    if idle == 0 or not learning or any(p.requires_grad for layer in used for p in layer.parameters()):
        return
    raise RecipeError(
        "backbone.train",
        f"segmentation does not run the last {idle} layers of {backbone.options['name']}, no other learns",
        f"Train none, all, or at least {idle} layers",
    )


def dice(found: np.ndarray, wanted: np.ndarray) -> float:
    """Dice overlap of two regions (bool); NaN where both are empty."""
    total = int(found.sum()) + int(wanted.sum())
    return 2 * int((found & wanted).sum()) / total if total else NAN


def hd95(found: np.ndarray, wanted: np.ndarray, step: tuple[float, float]) -> float:
    """95th percentile of the distances between the borders, both ways; NaN where a region is empty.

    `step` is the size of a pixel (row, column).
    """
    if not (found.any() and wanted.any()):
        return NAN
    borders = [region & ~ndimage.binary_erosion(region) for region in (found, wanted)]
    there, back = (
        ndimage.distance_transform_edt(~other, sampling=step)[border]
        for border, other in (borders, reversed(borders))
    )
    return float(np.percentile(np.concatenate([there, back]), 95))


def _dice_loss(probs: Tensor, wanted: Tensor, labelled: Tensor) -> Tensor:
    """1 - soft Dice, B: mean over the classes but the background; a class in neither counts as right."""
    known = labelled[:, None]  # B 1 H W
    one_hot = functional.one_hot(wanted, probs.shape[1]).movedim(-1, 1) * known  # B C H W
    overlap = (probs * one_hot).sum(dim=(-2, -1))[:, 1:]  # B C-1
    total = (probs * known + one_hot).sum(dim=(-2, -1))[:, 1:]  # B C-1
    return 1 - ((2 * overlap + 1) / (total + 1)).mean(dim=1)


def _on_original(maps: Tensor, meta: Meta, mode: Literal["bilinear", "nearest"]) -> np.ndarray:
    """Maps C H W of the model input, sampled at the pixel centres of the original: C R Q."""
    rows, columns = meta.original_hw
    matrix = torch.tensor(meta.input_from_original, dtype=torch.float64, device="cpu")
    y, x = torch.meshgrid(
        torch.arange(rows, dtype=torch.float64), torch.arange(columns, dtype=torch.float64), indexing="ij"
    )
    places = torch.stack([x, y], dim=-1) @ matrix[:2, :2].T + matrix[:2, 2]  # R Q 2, input pixels
    size = torch.tensor([maps.shape[-1], maps.shape[-2]], dtype=torch.float64)
    grid = ((2 * places + 1) / size - 1).float()  # R Q 2, -1 … 1 from edge to edge
    sampled = functional.grid_sample(
        maps.detach().float().cpu()[None], grid[None], mode=mode, padding_mode="border", align_corners=False
    )
    return sampled[0].numpy()  # C R Q


def _areas(mask: np.ndarray, classes: Sequence[str], spacing: Spacing | None) -> dict[str, Quantity]:
    if spacing is None:
        return {}
    pixel_cm2 = spacing.row_mm * spacing.col_mm / MM2_PER_CM2
    areas_cm2 = {
        f"{name}_area_cm2": int((mask == i).sum()) * pixel_cm2 for i, name in enumerate(classes) if i
    }
    return {name: quantity(name, area_cm2, PIXELS) for name, area_cm2 in areas_cm2.items()}


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else NAN
