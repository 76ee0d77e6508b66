"""The nine keypoint tasks of FU_Biometry (IUGC/FUGC/FM_UIA): names, and what flips do to the order.

Order is the internal one of `pointorders.py`: in pairs without an anatomical direction the point with the
smaller x (or y) comes first; HC and FA have their horizontal pair right first. Source: the
challenge's label files; the permutations are involutions that keep this order. `names` of PLAX, PSAX, A4C and
IVC follow the challenge's columns, with 上下 and 左右 written as long and trans.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from insonate.data.pointorders import INTERNAL
from insonate.data.targets import PointsTarget

FRAME_PX = 256
"""side of the picture in whose pixels losses, spreads and errors are told, whatever the picture's own size"""
SPREAD_PX = 12.0
"""spread of a heat map at which the confidence of its point falls to 1/e"""
NO_PEAK = 3.0
"""a heat map is without a peak where it is nowhere so many times the even map"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PointSet:
    """Named points of a view; `hflip[i]` is the old index of the new point i after a left-right mirror."""

    name: str
    names: tuple[str, ...]
    hflip: tuple[int, ...]
    vflip: tuple[int, ...]
    group: Literal["fetal", "intrapartum", "cardiac"]
    """field of the view; models may share parts within it"""

    def target(self, column: str) -> PointsTarget:
        """What a dataset reads for these points."""
        return PointsTarget(
            column=column, names=self.names, hflip=self.hflip, rules=INTERNAL[self.name],
            points_set=self.name,
        )  # fmt: skip


def _pairs(*names: str) -> tuple[str, ...]:
    return tuple(f"{name}_p{i}" for name in names for i in (1, 2))


_PLAX = _pairs("LV", "RV", "IVS", "LVPW", "VAO", "STJ", "AAO", "AV", "LVOT", "LA", "RVOT")
_A4C = _pairs(*(f"{chamber}_{axis}" for chamber in ("LV", "RV", "LA", "RA") for axis in ("long", "trans")))

POINT_SETS: dict[str, PointSet] = {
    s.name: s
    for s in (
        PointSet(
            name="AOP",
            names=("symphysis_inferior", "symphysis_superior", "head_nearest", "head_tangent"),
            hflip=(0, 1, 2, 3),
            vflip=(0, 1, 2, 3),
            group="intrapartum",
        ),
        PointSet(
            name="FUGC", names=("canal_left", "canal_right"), hflip=(1, 0), vflip=(0, 1), group="intrapartum"
        ),
        PointSet(
            name="FA",
            names=("vertical_upper", "vertical_lower", "horizontal_right", "horizontal_left"),
            hflip=(0, 1, 3, 2),
            vflip=(1, 0, 2, 3),
            group="fetal",
        ),
        PointSet(
            name="HC",
            names=("bpd_upper", "bpd_lower", "ofd_right", "ofd_left"),
            hflip=(0, 1, 3, 2),
            vflip=(1, 0, 2, 3),
            group="fetal",
        ),
        PointSet(name="IVC", names=("IVC_p1", "IVC_p2"), hflip=(0, 1), vflip=(1, 0), group="cardiac"),
        PointSet(name="PLAX", names=_PLAX, hflip=tuple(range(22)), vflip=tuple(range(22)), group="cardiac"),
        PointSet(
            name="PSAX", names=_pairs("RVOT", "PA"), hflip=(0, 1, 3, 2), vflip=(1, 0, 2, 3), group="cardiac"
        ),
        PointSet(
            name="A4C",
            names=_A4C,
            hflip=(0, 1, 3, 2, 4, 5, 7, 6, 8, 9, 11, 10, 12, 13, 15, 14),
            vflip=tuple(range(16)),
            group="cardiac",
        ),
        PointSet(
            name="fetal_femur", names=("femur_left", "femur_right"), hflip=(1, 0), vflip=(0, 1), group="fetal"
        ),
    )
}
