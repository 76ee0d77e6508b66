"""What a dataset reads as the label of an item: one small class a kind of label.

Points are (x, y) in pixels of the original.
"""

from __future__ import annotations

from dataclasses import dataclass

from insonate.data.pointorders import PairRule

UNLABELLED = 255
"""mask level of pixels that give no loss and no score, where a mask has more than two classes"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassTarget:
    """A class by name; `column` holds text (or integers) out of `classes`."""

    column: str
    classes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueTarget:
    """A number; `column` holds floats."""

    column: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskTarget:
    """A mask picture; `column` holds its path relative to the manifest.

    `classes` are the names of the grey levels 0, 1, … (0 = background); a two-class mask may hold 0 and any
    other level. With more classes, pixels of level 255 are unlabelled.
    """

    column: str
    classes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PointsTarget:
    """Keypoints; `column` holds a list of 2·K floats x0, y0, x1, y1, …; NaN where a point is missing."""

    column: str
    names: tuple[str, ...]
    hflip: tuple[int, ...]
    """order of the points after the image was mirrored left-right"""
    rules: tuple[PairRule, ...] = ()
    """of pairs whose order follows from where they lie; an augmentation may change it"""
    points_set: str = ""
    """name of the set; rows whose column `points_set` names another one are left out"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PointSetsTarget:
    """Keypoints of several sets; each row's column `points_set` names its own, other sets are left out."""

    column: str
    sets: dict[str, PointsTarget]


RowTarget = ClassTarget | ValueTarget | MaskTarget | PointsTarget
Target = RowTarget | PointSetsTarget
