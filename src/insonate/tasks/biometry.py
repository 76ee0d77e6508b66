"""Biometry: several point sets in one model, chosen at inference; SONICHU's nine tasks.

Each set is a `Keypoints` task of its own (loss, decoding, scores, picture) that shares the backbone and has
its head in `head`. A batch may mix sets: the backbone runs once on it and each row goes to its set's head.
Which set a row is of stands in the manifest's column `points_set` and travels in `Meta.points_set`. Every
image counts the same in the loss, however many points its set has. Heads that SONICHU's card does not list
(`extra_heads`) have points without a meaning: `NAME_p1`, `NAME_p2`, …
Source: the model card of SONICHU-124M (weights Apache-2.0). Page: docs/methods/sonichu.md.
Shapes: B items, n rows of a set, V views, K points (of the largest set of a batch: what lies beyond a set's
own is NaN), h w cells.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Literal, cast

import numpy as np
import torch
from PIL import Image
from pydantic import Field, model_validator
from torch import Tensor, nn

from insonate.data.pointsets import POINT_SETS
from insonate.data.sample import Batch, Meta
from insonate.data.targets import PointSetsTarget
from insonate.errors import ModelError, choose
from insonate.models.backbone import Backbone
from insonate.models.point_heads import ARRANGEMENTS, PointHeads, everyones
from insonate.models.trainable import Losses
from insonate.tasks.base import TASKS, Outputs, Prediction, Task
from insonate.tasks.certainty import Certainty, certainties
from insonate.tasks.keypoints import Keypoints, KeypointsConfig, PointsOptions
from insonate.tasks.views import views_of, with_views
from insonate.tasks.weighted import item_weights

NAN = float("nan")
MEAN_SCORES = ("mre_px", "mre_mm", "mre_input_px", "mre_percent")


class BiometryConfig(PointsOptions):
    """Options of `biometry`."""

    name: Literal["biometry"] = "biometry"
    points: tuple[str, ...] = tuple(POINT_SETS)
    """names of point sets"""
    heads: Literal["per_task", "shared", "grouped"] = "per_task"
    """a whole head a set, one trunk for all sets, or a trunk for fetal, intrapartum and cardiac sets each"""
    extra_heads: dict[str, Annotated[int, Field(ge=1, le=1000)]] = Field(default_factory=dict)
    """further heads: name → number of its points, which have no meaning to us"""

    @model_validator(mode="after")
    def _known_sets(self) -> BiometryConfig:
        if len(set(self.points)) < len(self.points) or not (self.points or self.extra_heads):
            raise ValueError("points names at least one point set, and each once")
        for name in self.points:
            if name not in POINT_SETS:
                raise ValueError(f"no point set is called {name!r}; there are {', '.join(POINT_SETS)}")
        for name in self.extra_heads:
            if name in self.points or "." in name or hasattr(nn.ModuleDict, name):
                raise ValueError(f"extra head {name!r}: give another name, without points, that is no set's")
        return self


@TASKS.register("biometry", config=BiometryConfig)
class Biometry(Task):
    """Points of several sets."""

    kind = "keypoints"
    config: BiometryConfig
    head: PointHeads

    def __init__(self, backbone: Backbone, config: BiometryConfig, head: PointHeads | None = None) -> None:
        """Take the `head` of another model of these options, or make one."""
        super().__init__()
        self.backbone, self.config = backbone, config
        counts = {name: len(POINT_SETS[name].names) for name in config.points} | config.extra_heads
        fields = {name: POINT_SETS[name].group if name in config.points else "extra" for name in counts}
        make = ARRANGEMENTS[config.heads]
        self.head = head or make(backbone.spec.embed_dim, counts, fields, config.head_width)
        self.certainty = certainties(counts)
        # in no attribute that torch looks into: they own nothing
        self.sets: Mapping[str, Keypoints] = {name: self._one(name, k) for name, k in counts.items()}

    def choices(self) -> tuple[str, ...]:
        """Names of its sets."""
        return tuple(self.sets)

    def chosen(self, name: str) -> Keypoints:
        """One set as a task of its own, which shares backbone, head and certainty.

        Raises:
            ModelError: it has no such set; all are named.
        """
        if name not in self.sets:
            raise ModelError("task", f"no task is called {name!r}", choose(name, self.sets))
        one = self.sets[name]
        one.training = self.training  # to which whoever evaluates it puts the shared parts back
        return one

    def target(self) -> PointSetsTarget:
        """The points of each row's own set."""
        sets = {name: one.target() for name, one in self.sets.items()}
        return PointSetsTarget(column=self.config.column, sets=sets)

    def forward(self, batch: Batch) -> Losses:
        """Mean over the items (by weight) of each set's own loss; see `Keypoints.forward`."""
        return self.loss(self.maps(batch), batch)

    def maps(self, batch: Batch) -> dict[str, Tensor]:
        """Set → heat maps n K h w of its rows, in the order of the batch."""
        rows = self._rows(batch)
        if self.training:
            rows = everyones(rows, self.sets, self.head, batch["image"].device)
        return self.head(self.backbone(batch["image"]), rows)

    def centres(self, maps: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Where the maps see each item's points, B K 2 in picture sizes from the centre; 0 beyond its own."""
        most = max(one.shape[1] for one in maps.values())
        centres = next(iter(maps.values())).new_zeros(len(batch["meta"]), most, 2)
        for name, index in self._rows(batch).items():
            centres[index, : maps[name].shape[1]] = self.sets[name].centres(maps[name], batch)
        return centres

    def loss(self, maps: Mapping[str, Tensor], batch: Batch) -> Losses:
        """The loss of `maps`."""
        shares, losses = [], []
        rows, none = self._rows(batch), torch.zeros(0, dtype=torch.int64, device=batch["image"].device)
        for name in maps:
            index = rows.get(name, none)
            part = self._part(batch, index, name)
            labelled = part["visible"].any(dim=1) * item_weights(part)  # n
            shares.append(labelled.sum().to(maps[name]))
            losses.append(self.sets[name].loss(maps[name], part))
        share = torch.stack(shares)  # S
        share = share / torch.where(share.sum() > 0, share.sum(), torch.ones_like(share.sum()))
        parts = {
            name: sum(
                (s * loss.parts[name] for s, loss in zip(share, losses, strict=True)), share.new_zeros(())
            )
            for name in losses[0].parts
        }
        return Losses((share * torch.stack([loss.total for loss in losses])).sum(), parts)

    def predict(self, batch: Batch, *, tta: bool = False) -> Outputs:
        """Points of each item's own set, B K 2, and raw confidences B K; NaN beyond an item's own points."""
        image, config = batch["image"], self.config
        views = views_of(config.tta_scales, tta=tta, mirror=config.tta_mirror)
        rows = self._rows(batch)
        seen = {
            name: torch.cat([index + v * len(image) for v in range(len(views))])
            for name, index in rows.items()
        }
        maps = self.head(self.backbone(with_views(image, views)), seen)  # set → Vn K h w
        most = max(one.shape[1] for one in maps.values())
        values = torch.full((len(image), most, 2), NAN, device=image.device)
        confidence = torch.full((len(image), most), NAN, device=image.device)
        for name, index in rows.items():
            found = self.sets[name].located(maps[name], views, image)  # n K …
            values[index, : maps[name].shape[1]] = found.values
            confidence[index, : maps[name].shape[1]] = found.confidence
        return Outputs(values, confidence)

    def decode(self, outputs: Outputs, batch: Batch) -> list[Prediction]:
        """Predictions of each item's own set; see `Keypoints.decode`."""
        told: dict[int, Prediction] = {}
        for name, index in self._rows(batch).items():
            count = len(self.sets[name].names)
            rows = index.to(outputs.values.device)
            own = Outputs(outputs.values[rows, :count], outputs.confidence[rows, :count])
            decoded = self.sets[name].decode(own, self._part(batch, index, name))
            told |= dict(zip(index.tolist(), decoded, strict=True))
        return [told[i] for i in range(len(batch["meta"]))]

    def truth(self, batch: Batch) -> list[Prediction]:
        """The labels of each item's own set."""
        told: dict[int, Prediction] = {}
        for name, index in self._rows(batch).items():
            truths = self.sets[name].truth(self._part(batch, index, name))
            told |= dict(zip(index.tolist(), truths, strict=True))
        return [told[i] for i in range(len(batch["meta"]))]

    def score(self, prediction: Prediction, truth: Prediction) -> dict[str, float]:
        """The mean radial errors of `Keypoints.score`, and that of the item's set as `mre_px_HC` and so on.

        Measurements are scored where each set is evaluated by itself.
        """
        own = self.sets[truth.task].score(prediction, truth)
        of_sets = {f"mre_px_{name}": own["mre_px"] if name == truth.task else NAN for name in self.sets}
        return {name: own[name] for name in MEAN_SCORES} | of_sets

    def settle(self, batches: Iterable[Batch]) -> None:
        """Fit each set's certainty on held-out batches."""
        outcomes: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {name: [] for name in self.sets}
        for batch in batches:
            outputs = self.predict(batch)
            for name, index in self._rows(batch).items():
                own = Outputs(*(part[index, : len(self.sets[name].names)] for part in outputs))
                outcomes[name].append(self.sets[name].outcome(own, self._part(batch, index, name)))
        for name, found in outcomes.items():
            if found:
                confidence, error_px = (np.concatenate(part) for part in zip(*found, strict=True))
                self.sets[name].certainty.fit(confidence, error_px)

    def trivial(self, truths: Sequence[Prediction], meta: Meta) -> Prediction:
        """The mean shape of the item's own set; all points in the middle where none of it is known."""
        one = self.sets[meta.points_set]
        return one.trivial([truth for truth in truths if truth.task == one.title], meta)

    def draw(
        self, image: Image.Image, prediction: Prediction, truth: Prediction | None = None
    ) -> Image.Image:
        """As the prediction's own set draws it."""
        return self.sets[prediction.task].draw(image, prediction, truth)

    def _one(self, name: str, count: int) -> Keypoints:
        shared = self.config.model_dump(include=set(PointsOptions.model_fields) - {"name"})
        named = (
            {"points": name}
            if name in self.config.points
            else {"names": tuple(f"{name}_p{i + 1}" for i in range(count))}
        )
        config = KeypointsConfig(**shared, **named)
        one = Keypoints(self.backbone, config, self.head.of_set(name), cast(Certainty, self.certainty[name]))
        one.title = name
        return one

    def _rows(self, batch: Batch) -> dict[str, Tensor]:
        """Set → indices of its rows, on the device of the pictures.

        Raises:
            ModelError: an item says no set, or one that the model has not.
        """
        rows: dict[str, list[int]] = {}
        for number, meta in enumerate(batch["meta"]):
            if meta.points_set not in self.sets:
                raise ModelError(
                    meta.item_id, f"its points_set is {meta.points_set or '(empty)'!r}, the model has "
                    f"{', '.join(self.sets)}", "Say the set of each item, or take one with `chosen`",
                )  # fmt: skip
            rows.setdefault(meta.points_set, []).append(number)
        return {
            name: torch.tensor(rows[name], device=batch["image"].device) for name in self.sets if name in rows
        }

    def _part(self, batch: Batch, index: Tensor, name: str) -> Batch:
        """The rows of one set with its own number of points."""
        numbers, count = index.tolist(), len(self.sets[name].names)
        part = Batch(
            image=batch["image"][index.to(batch["image"].device)],
            meta=[batch["meta"][i] for i in numbers],
            item_seed=[batch["item_seed"][i] for i in numbers],
            step_seed=batch["step_seed"],
        )
        if "points_xy" in batch:
            rows = index.to(batch["points_xy"].device)
            part["points_xy"], part["visible"] = (
                batch["points_xy"][rows, :count],
                batch["visible"][rows, :count],
            )
        if "weight" in batch:
            part["weight"] = batch["weight"][index.to(batch["weight"].device)]
        return part
