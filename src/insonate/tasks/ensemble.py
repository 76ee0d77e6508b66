"""Several keypoint models as one: the median of their points, coordinate by coordinate.

The median passes over an outlier where the mean follows it. For an even number it is the mean of the two
middle ones. It depends on the axes, so it is taken in the picture as given. The geometric median does not,
and is a little better where errors are the same in all directions. A soup, the mean of the weights, is here
as the baseline that does not work for models trained apart. Sources: the SONICHU model card (median of four
and five teachers, soup); Weiszfeld 1937 (geometric median); Wortsman et al. 2022 (soups, arXiv 2203.05482).
Shapes: M models or passes, B items, K points.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from insonate.data.sample import Batch
from insonate.errors import ModelError
from insonate.tasks.base import Outputs
from insonate.tasks.keypoints import FRAME_PX, SPREAD_PX, Keypoints

WEISZFELD_STEPS = 10
NEAR = 1e-6
"""px; a point closer than this to the estimate pulls no harder"""

Fuse = Callable[[Tensor], Tensor]


def median_points(points: Tensor) -> Tensor:
    """Median over the first axis, coordinate by coordinate: M … 2 → … 2."""
    ordered, count = points.sort(dim=0).values, len(points)
    return (ordered[(count - 1) // 2] + ordered[count // 2]) / 2


def geometric_median_points(points: Tensor) -> Tensor:
    """The place with the smallest summed distance to all points: M … 2 → … 2."""
    centre = median_points(points)
    for _ in range(WEISZFELD_STEPS):
        weights = 1 / (points - centre).norm(dim=-1, keepdim=True).clamp_min(NEAR)  # M … 1
        centre = (weights * points).sum(dim=0) / weights.sum(dim=0)
    return centre


class KeypointsEnsemble(Keypoints):
    """Models of the same points, each asked in turn; decoding, scores and pictures are those of one model.

    Its memory is that of all members. It predicts and is evaluated; it is not trained.
    """

    fuse: Fuse

    def __init__(self, members: Sequence[Keypoints], fuse: Fuse = median_points) -> None:
        """Hold `members`.

        Raises:
            ModelError: there is none, or they do not locate the same points.
        """
        if not members or any(member.names != members[0].names for member in members):
            named = sorted({", ".join(member.names) for member in members})
            raise ModelError("ensemble", f"members locate {named}", "Give models of the same points")
        first = members[0]
        super().__init__(first.backbone, first.config)
        self.head, self.members, self.fuse = first.head, nn.ModuleList(members), fuse
        self.eval()

    def predict(self, batch: Batch, *, tta: bool = False) -> Outputs:
        """The fused points; with `tta`, of each member's points from both views.

        The distance of the members from the fused point counts as spread, as that between two views does.
        """
        outputs = [cast(Keypoints, member).predict(batch, tta=tta) for member in self.members]
        points = torch.stack([one.values for one in outputs])  # M B K 2
        fused = self.fuse(points)  # B K 2
        size = points.new_tensor(batch["image"].shape[:-3:-1])  # W, H
        apart_px = FRAME_PX * ((points - fused) / size).square().sum(dim=-1).mean(dim=0).sqrt()  # B K
        confidence = torch.stack([one.confidence for one in outputs]).mean(dim=0)  # B K
        return Outputs(fused, confidence * torch.exp(-apart_px / SPREAD_PX))


def soup(members: Sequence[Keypoints], batches: Iterable[Batch]) -> Keypoints:
    """One model with the mean of the members' weights.

    Args:
        members: of the same architecture.
        batches: to estimate the running statistics of normalisation layers anew, as the mean over all of
            them: those of the members do not belong to the mean weights.

    Raises:
        ModelError: there is no member, or they differ in their weights' names or shapes.
    """
    states = [member.state_dict() for member in members]
    shapes = [{name: value.shape for name, value in state.items()} for state in states]
    if not states or any(other != shapes[0] for other in shapes):
        raise ModelError("soup", "members differ in their weights", "Give models of one architecture")
    mixed = copy.deepcopy(members[0])
    mixed.load_state_dict({
        name: torch.stack([state[name] for state in states]).double().mean(dim=0).to(value.dtype)
        for name, value in states[0].items()
    })  # fmt: skip
    _estimate_statistics(mixed, batches)
    return mixed.eval()


def _estimate_statistics(model: Keypoints, batches: Iterable[Batch]) -> None:
    layers = [layer for layer in model.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    model.eval()  # dropout and the like stay off
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the mean over all batches
        layer.train()
    with torch.no_grad():
        for batch in batches:
            model.predict(batch)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
