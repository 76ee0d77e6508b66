"""Points of a four-chamber view from a mask of left ventricle and left atrium, in the order of A4C.

Diameters of masks are rougher than a person's: the long axis runs from the middle of the border between the
chambers to the pixel furthest from it, the transverse one is the widest at right angles to it.
Shapes: H W pixels, N of a chamber, (x, y) in pixels of the original.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from insonate.data.adapters.points import Point

LEAST_PX = 30
"""of a chamber; a smaller one gives no points"""
REACH = 3
"""px that the chambers' borders may be apart at the valve"""


def four_chamber_points(ventricle: np.ndarray, atrium: np.ndarray) -> dict[str, Point]:
    """What can be told of two masks H W: up to eight points, by their names in A4C; none without a valve."""
    if min(ventricle.sum(), atrium.sum()) < LEAST_PX:
        return {}
    touching = ventricle & ndimage.binary_dilation(atrium, iterations=REACH)
    border = _pixels(touching)  # N 2
    if len(border) < 2:
        return {}
    left, right = border[border[:, 0].argmin()], border[border[:, 0].argmax()]
    valve = (left + right) / 2
    apex, ventricle_ends = _axis_and_width(_pixels(ventricle), valve)
    roof, atrium_ends = _axis_and_width(_pixels(atrium), valve)
    named = {
        "LV_long_p1": apex, "LV_long_p2": valve, "LV_trans_p1": ventricle_ends[0],
        "LV_trans_p2": ventricle_ends[1], "LA_long_p1": valve, "LA_long_p2": roof,
        "LA_trans_p1": atrium_ends[0], "LA_trans_p2": atrium_ends[1],
    }  # fmt: skip
    return {name: (float(x), float(y)) for name, (x, y) in named.items()}


def _pixels(mask: np.ndarray) -> np.ndarray:
    """x, y of the pixels within, N 2."""
    return np.argwhere(mask)[:, ::-1].astype(np.float64)


def _axis_and_width(pixels: np.ndarray, base: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pixel furthest from `base`, and the ends 2 2 of the widest line at right angles to that axis."""
    tip = pixels[np.linalg.norm(pixels - base, axis=-1).argmax()]
    along = (tip - base) / (np.linalg.norm(tip - base) or 1.0)
    across = np.array([-along[1], along[0]])
    place, side = np.round((pixels - base) @ along).astype(int), (pixels - base) @ across
    rows = place - place.min()
    least, most = np.full(rows.max() + 1, np.inf), np.full(rows.max() + 1, -np.inf)
    np.minimum.at(least, rows, side)
    np.maximum.at(most, rows, side)
    widest = int(np.argmax(most - least))
    middle = base + (widest + place.min()) * along
    return tip, np.stack([middle + side_px * across for side_px in (least[widest], most[widest])])
