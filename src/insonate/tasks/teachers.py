"""Teachers of points: what several models together say of a batch, asked now or remembered.

Online, they look at the batch as the student does, augmentation and all. From a cache, what they said of the
whole picture and of its mirror is carried along by each sample's own transform: exact where that is a
resize, with or without a mirror, and as good as the teachers are equivariant where it also turns or zooms.
Their fused point is found in the pixels of the original; the median along axes depends on them.
Source: the SONICHU model card (median of five teachers); the cache is ours.
Shapes: M teachers, B items, K points.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from insonate.data.point_cache import SeenPoints
from insonate.data.pointorders import ordered
from insonate.data.pointsets import FRAME_PX
from insonate.data.sample import Batch, Meta
from insonate.data.targets import PointsTarget
from insonate.tasks.base import Task
from insonate.tasks.ensemble import Fuse

NAN = float("nan")


class Taught(NamedTuple):
    """What teachers say of a batch."""

    points: Tensor  # B K 2, input pixels from the centre of the picture; NaN where they say nothing
    apart_px: Tensor  # B K, mean distance of the teachers from that, in pixels of a picture of 256


class Teachers(Protocol):
    """Whoever can say where the points of a batch are."""

    def __call__(self, batch: Batch) -> Taught:
        """Their fused points."""


class OnlineTeachers:
    """Models that look at each batch; in eval mode, on the batch's device.

    Args:
        members: of the same points.
        fuse: of M … 2 to … 2.
    """

    def __init__(self, members: Sequence[Task], fuse: Fuse) -> None:
        self.members = [member.eval().requires_grad_(requires_grad=False) for member in members]
        self.fuse = fuse

    @torch.no_grad()
    def each(self, batch: Batch) -> Tensor:
        """What each says, M B K 2, in input pixels from the centre; NaN where it sees no peak."""
        device = batch["image"].device
        said = [member.to(device).predict(batch) for member in self.members]
        return torch.stack([torch.where(one.confidence[..., None] > 0, one.values, NAN) for one in said])

    def __call__(self, batch: Batch) -> Taught:
        """Their fused points of the pictures as they are."""
        points = self.each(batch)
        fused = self.fuse(points)  # B K 2
        size = points.new_tensor(batch["image"].shape[:-3:-1])  # W, H
        return Taught(fused, FRAME_PX * ((points - fused) / size).norm(dim=-1).nanmean(dim=0))


class CachedTeachers:
    """What models said once of each item, carried along by the transform of each sample.

    Args:
        items: item id → what they said.
        sets: name of a point set → its order under a mirror and its rules; "" for items that name none.
        fuse: of M … 2 to … 2.
    """

    def __init__(self, items: Mapping[str, SeenPoints], sets: Mapping[str, PointsTarget], fuse: Fuse) -> None:
        self.sets = sets
        self.items = {item: _Known(seen, fuse) for item, seen in items.items()}

    def __call__(self, batch: Batch) -> Taught:
        """Their fused points, moved as each sample was; a mirrored one takes those of the mirror."""
        image = batch["image"]
        most = max(self.items[meta.item_id].fused.shape[1] for meta in batch["meta"])
        points = np.full((len(image), most, 2), NAN)
        apart_px = np.full((len(image), most), NAN)
        middle = (np.array(image.shape[:-3:-1]) - 1) / 2  # x, y
        for row, meta in enumerate(batch["meta"]):
            known, target = self.items[meta.item_id], self.sets[meta_set(meta, self.sets)]
            count, mirrored = known.fused.shape[1], is_mirrored(meta)
            moved, apart = meta.to_input(known.fused[int(mirrored)]), known.apart_px[int(mirrored)]
            if mirrored:
                moved, apart = moved[list(target.hflip)], apart[list(target.hflip)]
            points[row, :count] = (ordered(moved, target.rules) if is_turned(meta) else moved) - middle
            apart_px[row, :count] = apart
        return Taught(
            torch.from_numpy(points).float().to(image.device),
            torch.from_numpy(apart_px).float().to(image.device),
        )


class _Known:
    """An item's fused points 2 K 2, in pixels of the original, and their spread 2 K in px of 256."""

    def __init__(self, seen: SeenPoints, fuse: Fuse) -> None:
        points = torch.from_numpy(np.asarray(seen.points_xy, dtype=np.float64)).transpose(0, 1)  # M 2 K 2
        fused = fuse(points)  # 2 K 2
        size = torch.tensor(seen.hw[::-1], dtype=torch.float64)  # W, H
        self.fused = fused.numpy()
        self.apart_px = (FRAME_PX * ((points - fused) / size).norm(dim=-1).nanmean(dim=0)).numpy()


def seen_points(
    teachers: OnlineTeachers, batch: Batch, sets: Mapping[str, PointsTarget]
) -> dict[str, SeenPoints]:
    """What teachers say of a batch of whole pictures, as it is and mirrored, by item, for a cache."""
    image = batch["image"]
    flipped = Batch(**{**batch, "image": image.flip(-1)})
    straight, mirrored = (teachers.each(one).double().cpu().numpy() for one in (batch, flipped))  # M B K 2
    middle = (np.array(image.shape[:-3:-1]) - 1) / 2  # x, y
    found: dict[str, SeenPoints] = {}
    for row, meta in enumerate(batch["meta"]):
        target = sets[meta_set(meta, sets)]
        count, order = len(target.names), list(target.hflip)
        back = mirrored[:, row, :count][:, order] * (-1.0, 1.0)  # M K 2
        both = np.stack([straight[:, row, :count], back]) + middle  # 2 M K 2
        found[meta.item_id] = SeenPoints(
            points_xy=meta.to_original(both).astype(np.float32), hw=meta.original_hw
        )
    return found


def meta_set(meta: Meta, sets: Mapping[str, PointsTarget]) -> str:
    """Which of several sets an item's points are of; "" where there is one."""
    return "" if "" in sets else meta.points_set


def is_mirrored(meta: Meta) -> bool:
    """Whether a sample shows its original left-right reversed."""
    return bool(np.linalg.det(np.asarray(meta.input_from_original)[:2, :2]) < 0)


def is_turned(meta: Meta) -> bool:
    """Whether a sample's axes are not its original's, so that another point of a pair may come first."""
    (_, right, _), (down, upright, _), _ = meta.input_from_original
    return right != 0 or down != 0 or upright < 0
