"""Errors of points, by point; success rates; what their confidence is worth. Shapes: N items, K points.

Radial errors are told in pixels of the original, in mm where the spacing is known, in pixels of the picture
stretched to 256 × 256, and in percent of its diagonal. A point without a label is left out and counted; one
that the model did not find stands in the middle of the picture, and is counted too. Reliability: points are
sorted into ten bins of confidence (Guo et al. 2017, arXiv 1706.04599: expected calibration error).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from insonate.data.pointsets import FRAME_PX
from insonate.evaluate.statistics import Interval, bootstrap_mean
from insonate.tasks.base import Prediction
from insonate.tasks.certainty import NEAR_PX

SUCCESS_PX, SUCCESS_MM = (2.0, 4.0, 10.0, 20.0), (1.0, 2.0, 5.0)
CURVE_PX = 50.0
"""where the curve of success rates ends; the area under it is told as a part of this"""
CURVE_STEPS = 101
BINS = 10
UNITS = ("px", "mm", "input_px", "percent")
"""of the original; mm; of the picture stretched to 256 × 256; percent of the original's diagonal"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reliability:
    """Confidence against the share of points within 10 px (of 256), bin by bin of confidence."""

    confidence: np.ndarray
    """mean of each bin that has points"""
    near: np.ndarray
    """share of its points within 10 px"""
    points: np.ndarray
    """their number"""
    error: float
    """expected calibration error: mean distance of the two, by number of points"""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "near_px": NEAR_PX, "confidence": self.confidence.tolist(), "near": self.near.tolist(),
            "points": self.points.tolist(), "expected_calibration_error": self.error,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class PointErrors:
    """Radial errors of the points of a task."""

    per_point: dict[str, dict[str, Interval]]
    """one of UNITS → point → mean radial error; mm over the items whose spacing is known"""
    success: dict[str, Interval]
    """threshold (`2px`, `1mm`) → part of the labelled points found within it, mean over items"""
    curve: tuple[np.ndarray, np.ndarray]
    """thresholds in px from 0 to 50, and the part of all labelled points found within each"""
    area: float
    """under the curve, as a part of 1"""
    missing: int
    """points without a label"""
    refused: int
    """labelled points that the model did not find"""
    reliability: Reliability

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        thresholds, rates = self.curve
        return {
            **{
                f"per_point_{unit}": {name: interval.to_dict() for name, interval in points.items()}
                for unit, points in self.per_point.items()
            },
            "success": {name: interval.to_dict() for name, interval in self.success.items()},
            "curve": {"threshold_px": thresholds.tolist(), "rate": rates.tolist(), "area": self.area},
            "missing_points": self.missing, "refused_points": self.refused,
            "reliability": self.reliability.to_dict(),
        }  # fmt: skip


def point_errors(
    predictions: Sequence[Prediction], truths: Sequence[Prediction], *, seed: int = 0
) -> PointErrors | None:
    """Errors by point and success rates; None where the task has no points or no item."""
    if not truths or truths[0].kind != "keypoints":
        return None
    patients = [truth.meta.patient_id for truth in truths]
    apart = np.stack([p.placed() - t.value for p, t in zip(predictions, truths, strict=True)])  # N K 2
    labelled = np.stack([np.isfinite(truth.value).all(axis=-1) for truth in truths])  # N K
    told = np.stack([np.isfinite(found.value).all(axis=-1) for found in predictions])  # N K
    radial = _radial(apart, truths)  # unit → N K
    success = {f"{t:g}px": _success(radial["px"], labelled, t) for t in SUCCESS_PX}
    known_mm = labelled & np.isfinite(radial["mm"])
    success |= {f"{t:g}mm": _success(radial["mm"], known_mm, t) for t in SUCCESS_MM}
    thresholds = np.linspace(0, CURVE_PX, CURVE_STEPS)
    found = np.sort(radial["px"][labelled])
    rates = np.searchsorted(found, thresholds, side="right") / max(1, labelled.sum())

    def by_point(values: np.ndarray) -> dict[str, Interval]:
        known = np.where(labelled, values, np.nan)  # N K
        return {
            name: bootstrap_mean(column, patients, seed=seed)
            for name, column in zip(truths[0].names, known.T, strict=True)
        }

    confidence = np.stack([found.confidence for found in predictions])  # N K
    return PointErrors(
        per_point={unit: by_point(radial[unit]) for unit in UNITS},
        success={name: bootstrap_mean(part, patients, seed=seed) for name, part in success.items()},
        curve=(thresholds, rates),
        area=float((rates[1:] + rates[:-1]).mean() / 2),
        missing=int((~labelled).sum()),
        refused=int((labelled & ~told).sum()),
        reliability=reliability(confidence[labelled], radial["input_px"][labelled]),
    )


def reliability(confidence: np.ndarray, error_px: np.ndarray) -> Reliability:
    """Confidences and errors (px of 256) of some points, bin by bin."""
    index = np.minimum((confidence * BINS).astype(int), BINS - 1)
    counts = np.bincount(index, minlength=BINS)
    used = np.flatnonzero(counts)
    told = np.bincount(index, confidence, BINS)[used] / counts[used]
    near = np.bincount(index, error_px <= NEAR_PX, BINS)[used] / counts[used]
    gap = float(counts[used] @ np.abs(told - near) / counts.sum()) if len(used) else math.nan
    return Reliability(confidence=told, near=near, points=counts[used], error=gap)


def _radial(apart: np.ndarray, truths: Sequence[Prediction]) -> dict[str, np.ndarray]:
    """Vectors N K 2 in px of the original → lengths N K in each of UNITS."""
    sizes = np.array([truth.meta.original_hw[::-1] for truth in truths], dtype=np.float64)[:, None]  # N 1 2
    steps = [
        (math.nan, math.nan) if s is None else (s.col_mm, s.row_mm) for s in (t.meta.spacing for t in truths)
    ]
    radial_px = np.linalg.norm(apart, axis=-1)
    return {
        "px": radial_px,
        "mm": np.linalg.norm(apart * np.array(steps)[:, None], axis=-1),
        "input_px": np.linalg.norm(apart * FRAME_PX / sizes, axis=-1),
        "percent": 100 * radial_px / np.linalg.norm(sizes, axis=-1),
    }


def _success(radial: np.ndarray, labelled: np.ndarray, threshold: float) -> np.ndarray:
    """Part of each item's labelled points within the threshold, N."""
    counts = labelled.sum(axis=1)
    hits = (labelled & (radial <= threshold)).sum(axis=1)
    return np.where(counts > 0, hits / np.maximum(counts, 1), np.nan)
