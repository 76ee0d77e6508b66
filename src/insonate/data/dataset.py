"""ManifestDataset: the rows of a manifest as samples of a model's input format.

Shapes: C channels, H W model input, K points.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from torchvision import tv_tensors

from insonate.data import media
from insonate.data.augment import Augment
from insonate.data.manifest import Manifest, Row
from insonate.data.pointorders import ordered
from insonate.data.pointsets import POINT_SETS
from insonate.data.sample import Meta, Sample
from insonate.data.sampler import ItemKey, seed_of
from insonate.data.shards.read import open_row
from insonate.data.spacing import spacing_or_none
from insonate.data.targets import (
    UNLABELLED,
    ClassTarget,
    MaskTarget,
    PointSetsTarget,
    PointsTarget,
    RowTarget,
    Target,
    ValueTarget,
)
from insonate.data.transforms import (
    Geometry,
    InputFormat,
    draw,
    generator,
    normalise,
    photometric,
    plain,
    resample,
    resample_mask,
)
from insonate.errors import ManifestError, nearest

SET = "points_set"
"""column that names the set of points of a row, where a manifest holds several"""
FAR_OUT = 0.5
"""of the picture's side: a point further out than this is no label of this picture"""
ONE_FRAME = (".png", ".jpg", ".jpeg", ".bmp")
"""stills by their name; whatever else does not tell its number of frames is looked at"""


class ManifestDataset(Dataset[Sample]):
    """Items of a manifest; rows whose label is missing are left out and counted in `left_out`.

    A row that does not tell its number of frames (column `frames`) is asked for it in the header of its
    medium, once, here: all frames of a clip are used.

    Args:
        manifest: the rows, of one split as a rule.
        fmt: the model's input.
        target: the label to read; none for self-supervision.
        augment: what to change at random; none for validation and use.

    Raises:
        ManifestError: the label column is not there, holds what is no such label, or is empty in every row;
            or the column `weight` holds what cannot weigh an item's loss.
        MediaError: a medium whose number of frames is asked for cannot be read.
    """

    def __init__(
        self,
        manifest: Manifest,
        fmt: InputFormat,
        target: Target | None = None,
        augment: Augment | None = None,
    ) -> None:
        self.manifest, self.fmt, self.target, self.augment = manifest, fmt, target, augment
        self.rows, self.labels = _labelled(manifest, target)
        self.left_out = len(manifest) - len(self.rows)
        _check_weights(self.rows, manifest.source)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: ItemKey | int) -> Sample:
        if not isinstance(key, ItemKey):
            key = ItemKey(int(key), seed_of("item", 0, 0, int(key)))
        row, label = self.rows[key.index], self.labels[key.index]
        frame = self._frame(row, key.item_seed)
        image, info = self._read(row, frame)
        augment = self.augment
        if augment is None:
            geometry = plain(image.shape[:2], self.fmt)
            picture = resample(image, geometry, self.fmt)
        else:
            rng = generator(key.item_seed)
            geometry = draw(image.shape[:2], self.fmt, augment, rng)
            picture = photometric(resample(image, geometry, self.fmt), augment, rng)
        sample = Sample(
            image=tv_tensors.Image(normalise(picture, self.fmt)),
            meta=_meta(row, info, geometry, frame),
            item_seed=key.item_seed,
        )
        if row.get("weight") is not None:
            sample["weight"] = float(row["weight"])
        self._add_label(sample, row, label, geometry)
        return sample

    def item_id(self, index: int) -> str:
        """What errors call an item; also its `Meta.item_id`."""
        return _item_id(self.rows[index])

    def digest(self) -> str:
        """SHA-256 of what samples are made of, item by item; the media themselves are not read."""
        columns = ["path", "member", "kind", "frame", "frames", "weight"]
        if self.target is not None:
            columns.append(self.target.column)
        if isinstance(self.target, PointSetsTarget):
            columns.append(SET)
        hashed = hashlib.sha256()
        for row in self.rows:
            hashed.update(json.dumps([row.get(column) for column in columns], default=str).encode() + b"\n")
        return hashed.hexdigest()

    def sets(self) -> list[str] | None:
        """The point set of each item, where the target has several: what the sampler balances."""
        return [row[SET] for row in self.rows] if isinstance(self.target, PointSetsTarget) else None

    def original(self, index: int) -> np.ndarray:
        """The picture as it is in the medium: H W or H W 3, uint8."""
        row = self.rows[index]
        return self._read(row, self._frame(row, None))[0]

    def _frame(self, row: Row, item_seed: int | None) -> int:
        """The labelled frame; else a random one in training, the middle one otherwise."""
        if row.get("frame") is not None:
            return int(row["frame"])
        frames = row["frames"] or 1
        if self.augment is None or item_seed is None:
            return int(frames // 2)
        return seed_of("frame", item_seed) % int(frames)

    def _read(self, row: Row, frame: int) -> tuple[np.ndarray, media.MediaInfo]:
        with open_row(self.manifest, row) as file:
            return np.asarray(file.read([frame])[0]), file.info

    def _add_label(self, sample: Sample, row: Row, label: Any, geometry: Geometry) -> None:
        target = self.target
        if isinstance(target, PointSetsTarget):
            target = target.sets[row[SET]]
        if isinstance(target, ClassTarget):
            sample["label"] = label
        elif isinstance(target, ValueTarget):
            sample["value"] = label
        elif isinstance(target, MaskTarget):
            mask = self._mask(row, target, sample["meta"].original_hw)
            sample["mask"] = tv_tensors.Mask(resample_mask(mask, geometry, self.fmt))
            if self.augment is None:
                sample["original_mask"] = mask
        elif isinstance(target, PointsTarget):
            self._check_inside(label, row, sample["meta"])
            points = geometry.points(label)  # K 2
            if geometry.mirrored:
                points = points[list(target.hflip)]
            points = ordered(points, target.rules)  # sources differ; a rotation may turn a pair
            seen = np.isfinite(points).all(1)
            if self.augment is not None:  # a point that was moved out of the input cannot be learned
                size = np.array([self.fmt.width, self.fmt.height])
                seen &= ((points >= -0.5) & (points <= size - 0.5)).all(1)
            there = torch.from_numpy(seen)
            values = torch.from_numpy(np.nan_to_num(points, nan=0.0)).float()
            values[~there] = 0  # a NaN would spoil masked losses
            sample["points"] = tv_tensors.KeyPoints(values, canvas_size=(self.fmt.height, self.fmt.width))
            sample["visible"] = there

    def _check_inside(self, points_xy: np.ndarray, row: Row, meta: Meta) -> None:
        size = np.array(meta.original_hw[::-1])
        far = (points_xy < -FAR_OUT * size) | (points_xy > (1 + FAR_OUT) * size)  # K 2; False for NaN
        if far.any():
            x, y = points_xy[int(far.any(axis=1).argmax())]
            raise ManifestError(
                f"{self.manifest.source}, {row['path']}",
                f"a point at ({x:g}, {y:g}) lies far outside of the picture of {size[0]} × {size[1]} pixels",
                "Give points in pixels of the original, x first, or leave them empty",
            )

    def _mask(self, row: Row, target: MaskTarget, hw: tuple[int, int]) -> np.ndarray:
        where = f"{self.manifest.source}, {row[target.column]}"
        with open_row(self.manifest, row, target.column) as file:
            mask = np.asarray(file.read([0])[0])
        if mask.ndim == 3:
            if (mask != mask[..., :1]).any():
                raise ManifestError(where, "is a coloured mask", "Save masks as grey PNG of class numbers")
            mask = mask[..., 0]
        if mask.shape != hw:
            raise ManifestError(where, f"is {mask.shape} pixels, its image {hw}", "Make them the same size")
        if len(target.classes) == 2:
            return (mask > 0).astype(np.uint8)
        highest = mask.max(initial=0, where=mask != UNLABELLED)
        if highest >= len(target.classes):
            raise ManifestError(
                where,
                f"holds grey level {highest}, with {len(target.classes)} classes",
                "Name every class",
            )
        return mask


def _meta(row: Row, info: media.MediaInfo, geometry: Geometry, frame: int) -> Meta:
    """The row's spacing counts, or that of the frame where the file's changes on the way."""
    spacing = spacing_or_none(row["spacing_row_mm"], row["spacing_col_mm"])
    return Meta(
        item_id=_item_id(row),
        original_hw=(info.height, info.width),
        spacing=info.spacing_at(frame) if info.frame_spacings else spacing,
        regions=info.regions,
        input_from_original=geometry.matrix(),
        patient_id=row["patient_id"],
        study_id=row["study_id"],
        view=row["view"],
        site=row["site"],
        vendor=row["vendor"],
        frame=frame,
        points_set=str(row.get(SET) or ""),
    )


def _item_id(row: Row) -> str:
    member, labelled = row.get("member"), row.get("frame")
    name = f"{row['path']}/{member}" if member else row["path"]
    return name if labelled is None else f"{name}#{labelled}"


def has_label(row: Row, target: Target) -> bool:
    """Whether a row says something for this target; that it can be used is not checked."""
    value = row.get(target.column)
    if value is None or value == "":
        return False
    if isinstance(target, PointSetsTarget):
        return row.get(SET) in target.sets
    return not isinstance(target, PointsTarget) or _is_of(row, target)


def _labelled(manifest: Manifest, target: Target | None) -> tuple[list[Row], list[Any]]:
    if target is None:
        return [_counted(row, manifest) for row in manifest.rows], [None] * len(manifest)
    manifest.column(target.column)  # raises where there is none
    rows, labels = [], []
    for number, row in enumerate(manifest.rows, 1):
        value = row[target.column]
        if value is None or value == "":
            continue
        where = f"{manifest.source}, item {number} ({row['path']})"
        own = _own_target(row, target, where)
        if own is None:
            continue
        label = _label(value, own, f"{where}, column {target.column!r}")
        if label is None:
            continue
        row = _counted(row, manifest)
        if (
            isinstance(own, MaskTarget | PointsTarget)
            and row.get("frame") is None
            and (row["frames"] or 1) > 1
        ):
            raise ManifestError(
                where,
                f"has a label in {target.column!r} but does not say for which of {row['frames']} frames",
                "Add a column 'frame' (counted from 0)",
            )
        rows.append(row)
        labels.append(label)
    if not rows:
        told = f"column {target.column!r} is empty in all {len(manifest)} rows"
        if isinstance(target, PointSetsTarget | PointsTarget) and SET in manifest.rows[0]:
            told = f"no row has a label in {target.column!r} for the points {_names(target)}"
        raise ManifestError(manifest.source, told, "Add labels")
    return rows, labels


def _names(target: PointSetsTarget | PointsTarget) -> str:
    return ", ".join(target.sets if isinstance(target, PointSetsTarget) else [target.points_set])


def _is_of(row: Row, target: PointsTarget) -> bool:
    """Whether the row's points, where it says so, are of the target's set."""
    return not target.points_set or row.get(SET) in {None, "", target.points_set}


def _own_target(row: Row, target: Target, where: str) -> RowTarget | None:
    """What to read of this row; None where its points are of a set that nobody asked for.

    Raises:
        ManifestError: it names no set, or none that is known.
    """
    if isinstance(target, PointsTarget):
        return target if _is_of(row, target) else None
    if not isinstance(target, PointSetsTarget):
        return target
    name = row.get(SET)
    if name in target.sets:
        return target.sets[name]
    if name in POINT_SETS:
        return None
    known = {**POINT_SETS, **target.sets}
    raise ManifestError(
        f"{where}, column {SET!r}",
        f"{str(name or '(empty)')[:40]!r} is no set of points; there are {', '.join(known)}",
        nearest(str(name), known),
    )


def _counted(row: Row, manifest: Manifest) -> Row:
    """The row with its number of frames; one whose labelled frame is told needs none."""
    if row["frames"] is not None or row.get("frame") is not None:
        return row
    if row["kind"] == "image" and row["path"].lower().endswith(ONE_FRAME):
        return row
    return {**row, "frames": media.probe(manifest.file(row)).frames}


def _check_weights(rows: list[Row], source: str) -> None:
    for row in rows:
        weight = row.get("weight")
        if weight is None:
            continue
        if isinstance(weight, bool) or not isinstance(weight, int | float) or weight < 0:
            raise ManifestError(
                f"{source}, item {row['path']}, column 'weight'",
                f"{str(weight)[:40]!r} cannot weigh the item's loss",
                "Give a number from 0, or rename the column if it means something else",
            )


def _label(value: Any, target: RowTarget, where: str) -> Any:
    if isinstance(target, ClassTarget):
        return _class_index(value, target, where)
    if isinstance(target, MaskTarget):
        return str(value)
    if isinstance(target, ValueTarget):
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ManifestError(
                where, f"{str(value)[:40]!r} is no number", "Leave it empty where it is unknown"
            )
        return float(value)
    if not isinstance(value, list | tuple) or len(value) != 2 * len(target.names):
        found = f"{len(value)} entries" if isinstance(value, list | tuple) else f"{str(value)[:40]!r}"
        of_set = f" of {target.points_set}" if target.points_set else ""
        raise ManifestError(
            where,
            f"is no list of {2 * len(target.names)} numbers{of_set}, but {found}",
            f"Order: x, y of {', '.join(target.names)}",
        )
    points = np.array(value, dtype=np.float64).reshape(-1, 2)  # K 2
    return points if np.isfinite(points).all(1).any() else None


def _class_index(value: Any, target: ClassTarget, where: str) -> int:
    name = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    if isinstance(value, bool) and name not in target.classes:
        name = name.lower()  # CSV and YAML write true and false
    if name not in target.classes:
        raise ManifestError(where, f"{name[:40]!r} is none of the classes", nearest(name, target.classes))
    return target.classes.index(name)
