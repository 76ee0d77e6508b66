"""Keypoints: named points of a view by soft-argmax of heat maps, and the lengths between them.

Shapes: B items, K points, H W input. Output values: B K 2 (x, y) in input pixels from the centre of the
picture, so that a mirror is an exact change of sign; add (W - 1) / 2, (H - 1) / 2 for indices.
Loss: one of `point_losses` on coordinates (in pixels of a picture of 256) plus the Jensen-Shannon divergence
of the map from a Gaussian of one cell. Sources: Xu et al. 2022 (ViTPose, arXiv 2204.12484), head; Sun et al.
2018 (arXiv 1711.08229) and Nibali et al. 2018 (DSNT, arXiv 1801.07372), decoding and loss; confidence,
projection: ours.
A map that is nowhere three times the even one has no peak: its confidence is 0 and there is no point, which
prediction and JSON say; in scores it stands in the middle of the picture, where such a map's mean lies.
Several sets of points in one model: `tasks/biometry.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
from PIL import Image
from pydantic import Field, model_validator
from torch import Tensor, nn

from insonate.data.pointorders import INTERNAL, OFFICIAL, to_official
from insonate.data.pointsets import FRAME_PX, NO_PEAK, POINT_SETS, SPREAD_PX
from insonate.data.sample import Batch, Meta
from insonate.data.targets import PointsTarget
from insonate.errors import nearest
from insonate.measure.overlay import Marked, draw_marked
from insonate.measure.points import MEASURED, measure
from insonate.models.backbone import Backbone
from insonate.models.heads import ViTPoseHead
from insonate.models.heatmaps import jensen_shannon, mass_near, peak, probabilities, soft_argmax, variance
from insonate.models.trainable import Losses
from insonate.tasks.base import TASKS, Outputs, Prediction, Task, TaskConfig
from insonate.tasks.certainty import Certainty
from insonate.tasks.point_losses import LOSSES
from insonate.tasks.views import View, mean_of_views, points_back, views_of, with_views
from insonate.tasks.weighted import item_weights, weighted_mean

NAN = float("nan")


class PointsOptions(TaskConfig):
    """What all tasks of points may be told."""

    head_width: int = Field(default=256, ge=8, le=4096)
    """channels of the head's two transposed convolutions (ViTPose: 256)"""
    loss: Literal["smooth_l1", "l1", "wing", "euclidean"] = "smooth_l1"
    """of coordinates: of each axis (smooth within a pixel; not; steeper near and flatter far), or distance"""
    js_weight: float = Field(default=128.0, ge=0.0)
    """of the Jensen-Shannon term; 128 is Nibali's 1, whose pictures are 2 wide and not 256"""
    pair_margin: float = Field(default=0.05, ge=0.0, lt=1.0)
    """a pair ordered by x or y may be met in either order if it differs less in it, relative to its length"""
    project: bool = True
    """put predicted HC and FA diameters at right angles on one centre, as the labels are; their mm stay"""
    tta_scales: tuple[Annotated[float, Field(ge=0.5, lt=1.0)], ...] = ()
    """with TTA, sizes at which the picture and its mirror are looked at besides its own, e.g. 0.9"""
    tta_mirror: bool = True
    """whether TTA looks at the mirror; not where training mirrored none (`data.augment.hflip: 0`)"""


class KeypointsConfig(PointsOptions):
    """Options of `keypoints`: a set of `insonate.data.pointsets` by name, or one's own names."""

    name: Literal["keypoints"] = "keypoints"
    points: str | None = None
    """name of a point set, e.g. HC"""
    names: tuple[str, ...] = ()
    """own points, where `points` is not given"""
    hflip: tuple[int, ...] = ()
    """own points: hflip[i] is the old index of the new point i after a mirror; empty = unchanged"""

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
    peak: Tensor  # B K, largest probability in multiples of the even map's


@TASKS.register("keypoints", config=KeypointsConfig)
class Keypoints(Task):
    """K named points an item."""

    kind = "keypoints"
    config: KeypointsConfig
    mirror: Tensor

    def __init__(
        self,
        backbone: Backbone,
        config: KeypointsConfig,
        head: nn.Module | None = None,
        certainty: Certainty | None = None,
    ) -> None:
        """Take `head` (tokens → B K h w) and `certainty` of another model, or make them."""
        super().__init__()
        self.backbone, self.config = backbone, config
        named = POINT_SETS.get(config.points or "")
        self.names = named.names if named else config.names
        self.hflip = named.hflip if named else config.hflip or tuple(range(len(self.names)))
        self.title = config.points or config.column
        self.measured = MEASURED.get(config.points or "")
        width, count = config.head_width, len(self.names)
        self.head = head or ViTPoseHead(backbone.spec.embed_dim, count, width=width)
        self.certainty = certainty or Certainty()
        self.ordered_pairs = _ordered_pairs(self.hflip, axis=0)
        if named:
            self.ordered_pairs += _ordered_pairs(named.vflip, axis=1)
        self.register_buffer("mirror", torch.tensor(self.hflip), persistent=False)

    def choices(self) -> tuple[str, ...]:
        """The point set, as predictions call the task; the column where the points have no set."""
        return (self.title,)

    def target(self) -> PointsTarget:
        """The column of 2·K floats."""
        named = self.config.points or ""
        return PointsTarget(
            column=self.config.column, names=self.names, hflip=self.hflip, rules=INTERNAL.get(named, ()),
            points_set=named,
        )  # fmt: skip

    def forward(self, batch: Batch) -> Losses:
        """Coordinate loss plus `js_weight` times the divergence; a point without a label gives none."""
        return self.loss(self.maps(batch), batch)

    def maps(self, batch: Batch) -> Tensor:
        """Heat maps B K h w."""
        return self.head(self.backbone(batch["image"]))

    def centres(self, maps: Tensor, batch: Batch) -> Tensor:
        """Where the maps see the points, B K 2 in picture sizes from the centre."""
        return soft_argmax(probabilities(maps))

    def loss(self, maps: Tensor, batch: Batch) -> Losses:
        """The loss of maps B K h w; of the batch, image size, labels and weights are read."""
        found = soft_argmax(probabilities(maps))  # B K 2
        wanted, visible = self._wanted(batch)  # B K 2, B K
        wanted = self._met_order(found.detach(), wanted)
        weights = visible * item_weights(batch)[:, None]  # B K
        coordinates = weighted_mean(LOSSES[self.config.loss](FRAME_PX * (found - wanted)), weights)
        divergence = weighted_mean(jensen_shannon(maps, wanted), weights)
        total = coordinates + self.config.js_weight * divergence
        return Losses(total, {"coordinates_px": coordinates.detach(), "js": divergence.detach()})

    def predict(self, batch: Batch, *, tta: bool = False) -> Outputs:
        """Points and raw confidences B K; `tta`: of the mirrored and shrunk pictures too, in the same call.

        With `tta`, the mirror of a picture gives exactly the mirror of its points. The confidence is
        exp(-spread / 12) times the probability near the point, the spread in pixels of a picture of 256; the
        distance of the views from their mean counts as spread. It is 0 where the maps have no peak.
        """
        image, config = batch["image"], self.config
        views = views_of(config.tta_scales, tta=tta, mirror=config.tta_mirror)
        return self.located(self.head(self.backbone(with_views(image, views))), views, image)

    def located(self, maps: Tensor, views: tuple[View, ...], image: Tensor) -> Outputs:
        """Outputs of the maps VB K h w that were made of `views` of B pictures of the size of `image`."""
        return self.fused(locate(maps), views, image)

    def fused(self, found: Located, views: tuple[View, ...], image: Tensor) -> Outputs:
        """The same of what their maps locate; `deploy.mirrored` does it for two views without torch."""
        each = Located(*(part.view(len(views), -1, *part.shape[1:]) for part in found))
        mirror = self.mirror.to(each.mass.device)
        order = torch.arange(len(mirror), device=mirror.device)
        centres = points_back(each.centre, views, mirror)  # V B K 2
        centre = mean_of_views(centres)  # B K 2
        apart = mean_of_views((centres - centre).square().sum(dim=-1))  # B K
        orders = [mirror if view.mirrored else order for view in views]
        variances = [part[:, o] / v.scale**2 for part, o, v in zip(each.variance, orders, views, strict=True)]
        mass, highest = (
            mean_of_views(torch.stack([part[:, o] for part, o in zip(parts, orders, strict=True)]))
            for parts in (each.mass, each.peak)
        )
        # of the mixture of all views
        spread_px = FRAME_PX * (mean_of_views(torch.stack(variances)) + apart).sqrt()  # B K
        confidence = torch.exp(-spread_px / SPREAD_PX) * mass * (highest >= NO_PEAK)
        return Outputs(centre * centre.new_tensor(image.shape[:-3:-1]), confidence)

    def decode(self, outputs: Outputs, batch: Batch) -> list[Prediction]:
        """Points in original pixels and their chance to be near; NaN and a warning for a map without peak."""
        rows, columns = batch["image"].shape[-2:]
        middle = np.array([columns - 1, rows - 1]) / 2  # input px
        points = outputs.values.detach().double().cpu().numpy() + middle  # B K 2
        raw = outputs.confidence.detach().double().cpu().numpy()  # B K
        points = np.where(raw[..., None] > 0, points, NAN)
        return [
            self._prediction(
                self._projected(meta.to_original(xy), meta),
                np.where(seen > 0, self.certainty.chance(seen), 0.0), meta, self._doubts(seen),
            )
            for xy, seen, meta in zip(points, raw, batch["meta"], strict=True)
        ]  # fmt: skip

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
        """Mean radial error of the labelled points, and one error a measurement.

        The radial error is told in pixels of the original (`mre_px`), in mm (`mre_mm`), in pixels of the
        picture stretched to 256 × 256 (`mre_input_px`) and in percent of its diagonal (`mre_percent`).

        A point that was not found stands in the middle of the picture. Where the challenge's order differs
        from ours (PSAX, A4C), `mre_official_px` is the error in that. `hc_mm` gives `hc_error_mm`, and so on:
        NaN where either side lacks it or the label is out of range.
        """
        height, width = truth.meta.original_hw
        found = prediction.placed()  # K 2, px
        apart = found - truth.value  # K 2, px
        spacing = truth.meta.spacing
        scale = (NAN, NAN) if spacing is None else (spacing.col_mm, spacing.row_mm)
        scores = {
            "mre_px": _mean_norm(apart), "mre_mm": _mean_norm(apart * scale),
            "mre_input_px": _mean_norm(apart * FRAME_PX / (width, height)),
            "mre_percent": 100 * _mean_norm(apart) / math.hypot(width, height),
        }  # fmt: skip
        if OFFICIAL.get(self.config.points or "") != INTERNAL.get(self.config.points or ""):
            name = str(self.config.points)
            official = to_official(found, name) - to_official(truth.value, name)  # K 2, px
            scores["mre_official_px"] = _mean_norm(official)
        for name in self.measured.names if self.measured else ():
            quantity, unit = name.rsplit("_", 1)
            scores[f"{quantity}_error_{unit}"] = _error(prediction, truth, name)
        return scores

    def settle(self, batches: Iterable[Batch]) -> None:
        """Learn on held-out batches how often a point of some confidence is near its label."""
        outcomes = [self.outcome(self.predict(batch), batch) for batch in batches]
        confidence, error_px = (np.concatenate(part) for part in zip(*outcomes, strict=True))
        self.certainty.fit(confidence, error_px)

    def outcome(self, outputs: Outputs, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        """Raw confidence and error in px of a picture of 256 of each point of a batch; NaN without label."""
        wanted, visible = self._wanted(batch)  # B K 2, B K
        size = outputs.values.new_tensor(batch["image"].shape[:-3:-1])  # W, H
        error_px = FRAME_PX * (outputs.values / size - wanted.to(outputs.values)).norm(dim=-1)  # B K
        error_px = torch.where(visible.to(error_px.device), error_px, NAN)
        return outputs.confidence.flatten().cpu().numpy(), error_px.flatten().cpu().numpy()

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

    def _projected(self, points_xy: np.ndarray, meta: Meta) -> np.ndarray:
        measured = self.measured
        if measured is None or measured.project is None or not self.config.project:
            return points_xy
        if not np.isfinite(points_xy).all():
            return points_xy
        return measured.project(points_xy, meta.spacing)

    def _doubts(self, raw: np.ndarray) -> tuple[str, ...]:
        unseen = [name for name, seen in zip(self.names, raw, strict=True) if seen <= 0]
        return (f"no clear place for {', '.join(unseen)}: not told",) if unseen else ()

    def _prediction(
        self, points_xy: np.ndarray, confidence: np.ndarray, meta: Meta, warnings: tuple[str, ...] = ()
    ) -> Prediction:
        return Prediction(
            task=self.title,
            kind=self.kind,
            meta=meta,
            value=points_xy,
            confidence=confidence,
            names=self.names,
            measurements=measure(self.measured, points_xy, meta.spacing),
            warnings=warnings,
        )


def locate(maps: Tensor) -> Located:
    """Where the maps B K h w see their points, and how sure they are."""
    probs = probabilities(maps)  # B K h w
    centre = soft_argmax(probs)  # B K 2
    return Located(centre, variance(probs, centre), mass_near(probs, centre), peak(probs))


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
