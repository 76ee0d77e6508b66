"""Keypoints: named points of a view by soft-argmax of heat maps, and the lengths between them.

Shapes: B items, K points, H W input. Output values: B K 2 (x, y) in input pixels from the centre of the
picture, so that a mirror is an exact change of sign; add (W - 1) / 2, (H - 1) / 2 for indices.
Loss: smooth L1 on coordinates (in pixels of a picture of 256) plus the Jensen-Shannon divergence of the map
from a Gaussian of one cell. Sources: Xu et al. 2022 (ViTPose, arXiv 2204.12484), head; Sun et al. 2018 (arXiv
1711.08229) and Nibali et al. 2018 (DSNT, arXiv 1801.07372), decoding and loss; confidence, projection: ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from PIL import Image
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional

from insonate.data.pointorders import INTERNAL, OFFICIAL, to_official
from insonate.data.pointsets import POINT_SETS
from insonate.data.sample import Batch, Meta
from insonate.data.targets import PointsTarget
from insonate.errors import nearest
from insonate.measure.overlay import Marked, draw_marked
from insonate.measure.points import MEASURED, measure
from insonate.models.backbone import Backbone
from insonate.models.heads import ViTPoseHead
from insonate.models.heatmaps import jensen_shannon, mass_near, probabilities, soft_argmax, variance
from insonate.models.trainable import Losses
from insonate.tasks.base import TASKS, Outputs, Prediction, Task, TaskConfig
from insonate.tasks.weighted import item_weights, weighted_mean, with_mirrored

FRAME_PX = 256
"""size of the picture in whose pixels losses and spreads are told, whatever the input size"""
SPREAD_PX = 12.0
"""spread at which the confidence falls to 1/e"""
NAN = float("nan")


class KeypointsConfig(TaskConfig):
    """Options of `keypoints`: a set of `insonate.data.pointsets` by name, or one's own names."""

    name: Literal["keypoints"] = "keypoints"
    points: str | None = None
    """name of a point set, e.g. HC"""
    names: tuple[str, ...] = ()
    """own points, where `points` is not given"""
    hflip: tuple[int, ...] = ()
    """own points: hflip[i] is the old index of the new point i after a mirror; empty = unchanged"""
    head_width: int = Field(default=256, ge=8, le=4096)
    """channels of the head's two transposed convolutions (ViTPose: 256)"""
    js_weight: float = Field(default=1.0, ge=0.0)
    """of the Jensen-Shannon term beside the coordinates"""
    pair_margin: float = Field(default=0.05, ge=0.0, lt=1.0)
    """a pair ordered by x or y may be met in either order if it differs less in it, relative to its length"""
    project: bool = True
    """put predicted HC and FA diameters at right angles on one centre, as the labels are; their mm stay"""

    @model_validator(mode="after")
    def _one_set(self) -> KeypointsConfig:
        if (self.points is None) == (not self.names):
            raise ValueError("give either points (a set's name) or names")
        if self.points is not None and self.points not in POINT_SETS:
            raise ValueError(f"no point set is called {self.points!r}. {nearest(self.points, POINT_SETS)}")
        if self.points is not None and self.hflip:
            raise ValueError("hflip belongs to names; a point set has its own")
        count = len(self.names)
        if self.hflip and sorted(self.hflip) != list(range(count)):
            raise ValueError(f"hflip {self.hflip} is no permutation of 0 … {count - 1}")
        if any(self.hflip[j] != i for i, j in enumerate(self.hflip)):
            raise ValueError(f"hflip {self.hflip} twice must give the order back")
        return self


class Located(NamedTuple):
    """Points and how sure the maps are of them, before any fusion."""

    centre: Tensor  # B K 2, picture sizes from the centre
    variance: Tensor  # B K, squared picture sizes
    mass: Tensor  # B K, probability within 3 cells


@TASKS.register("keypoints", config=KeypointsConfig)
class Keypoints(Task):
    """K named points an item."""

    kind = "keypoints"
    config: KeypointsConfig
    mirror: Tensor

    def __init__(self, backbone: Backbone, config: KeypointsConfig) -> None:
        super().__init__()
        self.backbone, self.config = backbone, config
        named = POINT_SETS.get(config.points or "")
        self.names = named.names if named else config.names
        self.hflip = named.hflip if named else config.hflip or tuple(range(len(self.names)))
        self.measured = MEASURED.get(config.points or "")
        self.head = ViTPoseHead(backbone.spec.embed_dim, len(self.names), width=config.head_width)
        self.ordered_pairs = _ordered_pairs(self.hflip, axis=0)
        if named:
            self.ordered_pairs += _ordered_pairs(named.vflip, axis=1)
        self.register_buffer("mirror", torch.tensor(self.hflip), persistent=False)

    def target(self) -> PointsTarget:
        """The column of 2·K floats."""
        rules = INTERNAL.get(self.config.points or "", ())
        return PointsTarget(column=self.config.column, names=self.names, hflip=self.hflip, rules=rules)

    def forward(self, batch: Batch) -> Losses:
        """Coordinate loss plus `js_weight` times the divergence; a point without a label gives none."""
        maps = self._maps(batch["image"])  # B K h w
        found = soft_argmax(probabilities(maps))  # B K 2
        wanted, visible = self._wanted(batch)  # B K 2, B K
        wanted = self._met_order(found.detach(), wanted)
        weights = visible * item_weights(batch)[:, None]  # B K
        apart = functional.smooth_l1_loss(found, wanted, reduction="none", beta=1 / FRAME_PX)  # B K 2
        coordinates = FRAME_PX * weighted_mean(apart.mean(dim=-1), weights)
        divergence = weighted_mean(jensen_shannon(maps, wanted), weights)
        total = coordinates + self.config.js_weight * divergence
        return Losses(total, {"coordinates_px": coordinates.detach(), "js": divergence.detach()})

    def predict(self, batch: Batch, *, tta: bool = False) -> Outputs:
        """Points and confidences B K; `tta`: also the mirrored batch in the same call.

        With `tta`, the mirror of a picture gives exactly the mirror of its points. The confidence is
        exp(-spread / 12) times the probability near the point, the spread in pixels of a picture of 256; the
        distance between the two views counts as spread.
        """
        image = batch["image"]
        if not tta:
            return self._outputs(_locate(self._maps(image)), image)
        both = _locate(self._maps(with_mirrored(image)))
        straight, mirrored = (Located(*half) for half in zip(*(t.chunk(2) for t in both), strict=True))
        mirrored = Located(*(t[:, self.mirror] for t in mirrored))
        back = mirrored.centre * mirrored.centre.new_tensor([-1.0, 1.0])  # B K 2
        distance = (straight.centre - back).square().sum(dim=-1)  # B K
        fused = Located(
            (straight.centre + back) / 2,
            (straight.variance + mirrored.variance) / 2 + distance / 4,  # of the mixture of both
            (straight.mass + mirrored.mass) / 2,
        )
        return self._outputs(fused, image)

    def decode(self, outputs: Outputs, batch: Batch) -> list[Prediction]:
        """Points in pixels of the original, projected for HC and FA; mm where the spacing is known."""
        rows, columns = batch["image"].shape[-2:]
        middle = np.array([columns - 1, rows - 1]) / 2  # input px
        points = outputs.values.detach().double().cpu().numpy() + middle  # B K 2
        confidences = outputs.confidence.detach().double().cpu().numpy()  # B K
        return [
            self._prediction(self._projected(meta.to_original(xy), meta), confidence, meta)
            for xy, confidence, meta in zip(points, confidences, batch["meta"], strict=True)
        ]

    def truth(self, batch: Batch) -> list[Prediction]:
        """The labels; NaN and confidence 0 where a point has none."""
        points = batch["points_xy"].double().cpu().numpy()  # B K 2
        visible = batch["visible"].cpu().numpy() & np.isfinite(points).all(axis=-1)  # B K
        points = np.where(visible[..., None], points, NAN)
        return [
            self._prediction(meta.to_original(xy), seen.astype(np.float64), meta)
            for xy, seen, meta in zip(points, visible, batch["meta"], strict=True)
        ]

    def score(self, prediction: Prediction, truth: Prediction) -> dict[str, float]:
        """Mean radial error of the labelled points (`mre_px`, `mre_mm`), and one error a measurement.

        Where the challenge's order differs from ours (PSAX, A4C), `mre_official_px` is the error in that.
        `hc_mm` gives `hc_error_mm`, and so on: NaN where either side lacks it or the label is out of range.
        """
        apart = prediction.value - truth.value  # K 2, px
        spacing = truth.meta.spacing
        scale = (NAN, NAN) if spacing is None else (spacing.col_mm, spacing.row_mm)
        scores = {"mre_px": _mean_norm(apart), "mre_mm": _mean_norm(apart * scale)}
        if OFFICIAL.get(self.config.points or "") != INTERNAL.get(self.config.points or ""):
            name = str(self.config.points)
            official = to_official(prediction.value, name) - to_official(truth.value, name)  # K 2, px
            scores["mre_official_px"] = _mean_norm(official)
        for name in self.measured.names if self.measured else ():
            quantity, unit = name.rsplit("_", 1)
            scores[f"{quantity}_error_{unit}"] = _error(prediction, truth, name)
        return scores

    def trivial(self, truths: Sequence[Prediction], meta: Meta) -> Prediction:
        """The mean shape, stretched to the item's size; the centre for a point that is never labelled."""
        shapes = np.stack([(truth.value + 0.5) / truth.meta.original_hw[::-1] for truth in truths])  # n K 2
        known = np.isfinite(shapes)
        counts = np.maximum(known.sum(axis=0), 1)  # K 2
        mean = np.where(known.any(axis=0), np.where(known, shapes, 0.0).sum(axis=0) / counts, 0.5)
        return self._prediction(mean * meta.original_hw[::-1] - 0.5, np.ones(len(mean)), meta)

    def draw(
        self, image: Image.Image, prediction: Prediction, truth: Prediction | None = None
    ) -> Image.Image:
        """Crosshairs, lines and ellipses with their values below, those of the truth in green."""
        marked = Marked(
            points_set=prediction.task, points_xy=prediction.value,
            confidence=prediction.confidence, measurements=prediction.measurements,
            spacing=prediction.meta.spacing,
        )  # fmt: skip
        least = f"least sure point {float(np.min(prediction.confidence)):.2f}"
        footer = f"{prediction.task} · {least} · research use only"
        return draw_marked(image, marked, truth_xy=None if truth is None else truth.value, footer=footer)

    def _maps(self, image: Tensor) -> Tensor:
        return self.head(self.backbone(image))  # B K h w

    def _wanted(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Targets B K 2 from the centre in picture sizes (0 where missing), and which there are, B K."""
        points = batch["points_xy"].float()
        visible = batch["visible"].bool() & points.isfinite().all(dim=-1)  # B K
        size = points.new_tensor(batch["image"].shape[:-3:-1])  # W, H
        centred = (points + 0.5) / size - 0.5  # B K 2
        return torch.where(visible[..., None], centred, 0.0), visible

    def _met_order(self, found: Tensor, wanted: Tensor) -> Tensor:
        """Targets in which pairs of uncertain order stand in the order that the prediction meets better."""
        met = wanted.clone()
        for start, axis in self.ordered_pairs:
            pair, guess = wanted[:, start : start + 2], found[:, start : start + 2]  # B 2 2
            line = pair[:, 0] - pair[:, 1]  # B 2
            unsure = line[:, axis].abs() < self.config.pair_margin * line.norm(dim=-1)  # B
            swapped = pair.flip(1)
            better = (guess - swapped).abs().sum(dim=(-2, -1)) < (guess - pair).abs().sum(dim=(-2, -1))
            met[:, start : start + 2] = torch.where((unsure & better)[:, None, None], swapped, pair)
        return met

    def _outputs(self, located: Located, image: Tensor) -> Outputs:
        spread_px = FRAME_PX * located.variance.sqrt()  # B K
        confidence = torch.exp(-spread_px / SPREAD_PX) * located.mass
        return Outputs(located.centre * located.centre.new_tensor(image.shape[:-3:-1]), confidence)

    def _projected(self, points_xy: np.ndarray, meta: Meta) -> np.ndarray:
        if self.measured is None or self.measured.project is None or not self.config.project:
            return points_xy
        return self.measured.project(points_xy, meta.spacing)

    def _prediction(self, points_xy: np.ndarray, confidence: np.ndarray, meta: Meta) -> Prediction:
        return Prediction(
            task=self.config.points or self.config.column,
            kind=self.kind,
            meta=meta,
            value=points_xy,
            confidence=confidence,
            names=self.names,
            measurements=measure(self.measured, points_xy, meta.spacing),
        )


def _locate(maps: Tensor) -> Located:
    probs = probabilities(maps)  # B K h w
    centre = soft_argmax(probs)  # B K 2
    return Located(centre, variance(probs, centre), mass_near(probs, centre))


def _ordered_pairs(permutation: tuple[int, ...], *, axis: int) -> tuple[tuple[int, int], ...]:
    """Neighbours that a flip exchanges are ordered along its axis (0 = x): (first index, axis)."""
    return tuple((i, axis) for i in range(0, len(permutation) - 1, 2) if permutation[i] == i + 1)


def _error(prediction: Prediction, truth: Prediction, name: str) -> float:
    found, wanted = prediction.measurements.get(name), truth.measurements.get(name)
    if found is None or wanted is None or wanted.in_range is False:
        return NAN
    return abs(found.value - wanted.value)


def _mean_norm(vectors: np.ndarray) -> float:
    norms = np.linalg.norm(vectors, axis=-1)
    known = norms[np.isfinite(norms)]
    return float(known.mean()) if len(known) else NAN
