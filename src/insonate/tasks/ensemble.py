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
import math
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from insonate.data.pointsets import FRAME_PX, SPREAD_PX
from insonate.data.sample import Batch
from insonate.errors import ModelError
from insonate.tasks.base import Outputs
from insonate.tasks.biometry import Biometry
from insonate.tasks.certainty import Certainty
from insonate.tasks.keypoints import Keypoints

WEISZFELD_STEPS = 10
NEAR = 1e-6
"""px; a point closer than this to the estimate pulls no harder"""

Fuse = Callable[[Tensor], Tensor]
Points = TypeVar("Points", Keypoints, Biometry)


def median_points(points: Tensor) -> Tensor:
    """Median over the first axis, coordinate by coordinate: M … 2 → … 2; NaN is left out."""
    ordered = points.nan_to_num(nan=math.inf).sort(dim=0).values
    count = points.isfinite().sum(dim=0, keepdim=True)  # 1 … 2
    low, high = ((count - 1).clamp_min(0) // 2, (count // 2).clamp_max(len(points) - 1))
    median = (ordered.gather(0, low) + ordered.gather(0, high))[0] / 2
    return torch.where(count[0] > 0, median, torch.nan)


def geometric_median_points(points: Tensor) -> Tensor:
    """The place with the smallest summed distance to all points: M … 2 → … 2; NaN is left out."""
    centre, there = median_points(points), points.isfinite()
    for _ in range(WEISZFELD_STEPS):
        weights = 1 / (points - centre).norm(dim=-1, keepdim=True).clamp_min(NEAR)  # M … 1
        weights = torch.where(there, weights, 0.0)  # M … 2
        centre = (weights * points.nan_to_num()).sum(dim=0) / weights.sum(dim=0)
    return centre


def fused(outputs: Sequence[Outputs], fuse: Fuse, image: Tensor) -> Outputs:
    """The outputs of M members (values B K 2) as one.

    A member whose map has no peak has no say about that point, unless none has one. The distance of the
    members from the fused point counts as spread, as that between two views does.

    Args:
        outputs: M, of the same pictures.
        fuse: M B K 2 → B K 2.
        image: the pictures B C H W; their size is read.
    """
    points = torch.stack([one.values for one in outputs])  # M B K 2
    raw = torch.stack([one.confidence for one in outputs])  # M B K
    counted = torch.where((raw > 0).any(dim=0), raw > 0, raw == raw)  # M B K
    points = torch.where(counted[..., None], points, torch.nan)
    middle = fuse(points)  # B K 2
    size = points.new_tensor(image.shape[:-3:-1])  # W, H
    squares = ((points - middle) / size).square().sum(dim=-1)  # M B K
    apart_px = FRAME_PX * squares.nanmean(dim=0).sqrt()  # B K
    return Outputs(middle, raw.mean(dim=0) * torch.exp(-apart_px / SPREAD_PX))


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
        first = _first_of_like(members, [member.names for member in members])
        super().__init__(first.backbone, first.config, first.head)
        self.title, self.members, self.fuse = first.title, nn.ModuleList(members), fuse
        self.eval()

    def predict(self, batch: Batch, *, tta: bool = False) -> Outputs:
        """The fused points; with `tta`, of each member's points from all views."""
        outputs = [cast(Keypoints, member).predict(batch, tta=tta) for member in self.members]
        return fused(outputs, self.fuse, batch["image"])


class BiometryEnsemble(Biometry):
    """Models of the same point sets, each asked in turn; a set of it is a `KeypointsEnsemble`."""

    fuse: Fuse

    def __init__(self, members: Sequence[Biometry], fuse: Fuse = median_points) -> None:
        """Hold `members`.

        Raises:
            ModelError: there is none, or they do not locate the same points.
        """
        names = [[f"{one.title}.{name}" for one in m.sets.values() for name in one.names] for m in members]
        first = _first_of_like(members, names)
        super().__init__(first.backbone, first.config, first.head)
        self.members, self.fuse = nn.ModuleList(members), fuse
        self.sets = {name: KeypointsEnsemble([m.sets[name] for m in members], fuse) for name in first.sets}
        for name, one in self.sets.items():
            one.certainty = cast(Certainty, self.certainty[name])
        self.eval()

    def predict(self, batch: Batch, *, tta: bool = False) -> Outputs:
        """The fused points of each item's own set; one call of each member's backbone."""
        outputs = [cast(Biometry, member).predict(batch, tta=tta) for member in self.members]
        return fused(outputs, self.fuse, batch["image"])


def _first_of_like(members: Sequence[Points], names: Sequence[Sequence[str]]) -> Points:
    """The first of members that locate the same points.

    Raises:
        ModelError: there is none, or they do not.
    """
    if not members or any(list(one) != list(names[0]) for one in names):
        named = sorted({", ".join(one) for one in names})
        raise ModelError("ensemble", f"members locate {named}", "Give models of the same points")
    return members[0]


def soup(members: Sequence[Points], batches: Iterable[Batch]) -> Points:
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


def _estimate_statistics(model: Keypoints | Biometry, batches: Iterable[Batch]) -> None:
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
