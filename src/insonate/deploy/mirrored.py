"""What a graph says of a picture and of its mirror, as one: the mean of both, without torch.

Shapes: 2 views (straight, mirrored), C classes, H W input, K points.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from insonate.data.pointsets import FRAME_PX, NO_PEAK, SPREAD_PX

SEEN = "seen"
"""output of a task of points, K 3: spread (squared picture sizes), probability near the point, peak"""


def merged(
    outputs: Mapping[str, np.ndarray], name: str, task: Mapping[str, Any], size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Values and raw confidence of a picture, from the outputs of both views, as the task itself has them.

    Args:
        outputs: of the graph, first axis the views.
        name: of the task.
        task: what `insonate.json` says of it.
        size: W, H.
    """
    values, confidence = outputs[f"{name}.values"], outputs[f"{name}.confidence"]
    if task["kind"] == "keypoints" and f"{name}.{SEEN}" in outputs:
        return _points(values / size, outputs[f"{name}.{SEEN}"], task["hflip"], size)
    if task["kind"] == "segmentation":
        probs = (values[0] + values[1][..., ::-1]) / 2  # C H W
        return probs, probs.max(axis=0).mean()
    if task["kind"] == "classification":
        probs = values.mean(axis=0)  # C
        return probs, probs.max()
    if task["kind"] == "regression":
        return values.mean(axis=0), confidence[0]
    return values[0], confidence[0]


def _points(
    centres: np.ndarray, seen: np.ndarray, hflip: list[int], size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Points K 2 and raw confidence K of both views: centres 2 K 2 in picture sizes, `seen` 2 K 3."""
    back = np.stack([centres[0], centres[1][hflip] * (-1, 1)])  # 2 K 2
    spread, mass, highest = np.stack([seen[0], seen[1][hflip]]).mean(axis=0).T  # K
    centre = back.mean(axis=0)  # K 2
    apart = np.square(back - centre).sum(axis=-1).mean(axis=0)  # K
    spread_px = FRAME_PX * np.sqrt(spread + apart)
    return centre * size, np.exp(-spread_px / SPREAD_PX) * mass * (highest >= NO_PEAK)
