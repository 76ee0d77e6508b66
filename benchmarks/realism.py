"""What tells how real an ultrasound picture is: grey levels, speckle, spectrum, outline, speckle in time.

Everything is measured on 8-bit grey, as a reader sees it. Shapes: H W pixels, T frames; masks are boolean.
Source: shared spec phantom, section 6.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage

LOCAL_PX = 4.0
"""standard deviation of the local mean that speckle is measured against"""
LOG_RANGE_DB = 60.0
"""assumed range of the logarithm: no machine tells its own"""
LAGS = (1, 2, 4, 8)
BLOCK, SEARCH = 16, 4


def sector(image: np.ndarray) -> np.ndarray:
    """H W: the field that echoes come from, its holes filled."""
    lit = ndimage.binary_opening(image > 4, iterations=2)
    parts, count = ndimage.label(lit)
    if count == 0:
        return np.ones_like(lit)
    sizes = np.bincount(parts.ravel())[1:]
    return np.asarray(ndimage.binary_fill_holes(parts == 1 + int(sizes.argmax())))


def levels(image: np.ndarray, field: np.ndarray) -> dict[str, float]:
    """Mean and percentiles of the grey levels of the field."""
    grey = image[field]
    found = {"grey mean": float(grey.mean())}
    return found | {f"grey p{p}": float(np.percentile(grey, p)) for p in (5, 25, 50, 75, 95, 99)}


def outline(field: np.ndarray) -> dict[str, float]:
    """Opening angle (degrees, half) of the field, and its share of its box."""
    rows = np.flatnonzero(field.any(1))
    box = field[rows[0] : rows[-1] + 1]
    columns = np.flatnonzero(box.any(0))
    box = box[:, columns[0] : columns[-1] + 1]
    height, part = len(box), box[len(box) // 5 : len(box) // 2]
    edges = [[np.flatnonzero(row)[end] for row in part if row.any()] for end in (0, -1)]
    slopes = [np.polyfit(np.arange(len(edge)), edge, 1)[0] if len(edge) > 2 else 0.0 for edge in edges]
    half = (math.degrees(math.atan(slopes[1])) - math.degrees(math.atan(slopes[0]))) / 2
    return {"half angle °": half, "field / box": float(box.mean()), "height / width": height / box.shape[1]}


def spectrum(image: np.ndarray, size: int = 128) -> dict[str, float]:
    """Slope of log power over log frequency (0.03 to 0.25 cycles a pixel), and percent above 0.25."""
    top, left = ((length - size) // 2 for length in image.shape)
    part = image[top : top + size, left : left + size].astype(np.float64)
    part = (part - part.mean()) * np.outer(np.hanning(size), np.hanning(size))
    power = np.abs(np.fft.fftshift(np.fft.fft2(part))) ** 2
    y, x = np.indices(power.shape) - size // 2
    frequency = np.hypot(y, x) / size
    edges = np.linspace(0.03, 0.25, 15)
    ring = np.digitize(frequency, edges)
    mean = np.array([power[ring == number].mean() for number in range(1, 15)])
    slope = np.polyfit(np.log((edges[1:] + edges[:-1]) / 2), np.log(mean), 1)[0]
    return {
        "spectrum slope": float(slope),
        "power above .25 %": 100 * float(power[frequency > 0.25].sum() / power[frequency > 0.02].sum()),
    }


def speckle(image: np.ndarray, region: np.ndarray, mm_per_px: float) -> dict[str, float]:
    """Statistics of the speckle of a region; empty where it is too small.

    Residual: grey minus its local mean. Envelope: the grey scale taken for a logarithm of 60 dB, over its
    local mean; its signal-to-noise ratio is 1.91 and its Nakagami m is 1 in fully developed speckle.
    """
    inside = ndimage.binary_erosion(region, iterations=2)
    if inside.sum() < 300:
        return {}
    grey, weight = image.astype(np.float64), _blur(inside.astype(np.float64))
    weight = np.maximum(weight, 1e-3)
    residual = (grey - _blur(grey * inside) / weight) * inside
    values = residual[inside]
    envelope = 10 ** (grey / 255 * LOG_RANGE_DB / 20)
    local = (envelope / np.maximum(_blur(envelope * inside) / weight, 1e-6))[inside]
    deviation = values.std()
    return {
        "grey": float(grey[inside].mean()),
        "residual sd": float(deviation),
        "residual skew": float(((values / deviation) ** 3).mean()),
        "envelope SNR": float(local.mean() / local.std()),
        "Nakagami m": float((local**2).mean() ** 2 / (local**2).var()),
        "axial mm": mm_per_px * correlation_width(residual, inside, 0),
        "lateral mm": mm_per_px * correlation_width(residual, inside, 1),
    }


def _blur(values: np.ndarray) -> np.ndarray:
    return np.asarray(ndimage.gaussian_filter(values, LOCAL_PX))


def correlation_width(residual: np.ndarray, inside: np.ndarray, axis: int) -> float:
    """Full width at half maximum of the autocorrelation along an axis, pixels; NaN where it stays higher."""
    variance, before = (residual[inside] ** 2).mean(), 1.0
    for lag in range(1, 25):
        here, there = (np.moveaxis(a, axis, 0) for a in (residual, inside))
        both = there[lag:] & there[:-lag]
        if both.sum() < 50:
            return math.nan
        now = float((here[lag:] * here[:-lag])[both].mean() / variance)
        if now < 0.5:
            return 2 * (lag - 1 + (before - 0.5) / (before - now))
        before = now
    return math.nan


def decorrelation(frames: np.ndarray, rng: np.random.Generator, blocks: int = 150) -> dict[str, float]:
    """Correlation of the residual of blocks with itself frames later, at the same place and at the best one.

    Args:
        frames: T H W.
        rng: of the places.
        blocks: for each lag.
    """
    field = sector(frames.max(0))
    residual = [frame - _blur(frame.astype(np.float64)) for frame in frames]
    rows, columns = np.nonzero(ndimage.binary_erosion(field, iterations=BLOCK // 2 + SEARCH, border_value=0))
    found: dict[str, float] = {}
    for lag in (lag for lag in LAGS if lag < len(frames)):
        same, best = [], []
        for _ in range(blocks):
            first, place = rng.integers(len(frames) - lag), rng.integers(len(rows))
            top, left = rows[place] - BLOCK // 2, columns[place] - BLOCK // 2
            here = residual[first][top : top + BLOCK, left : left + BLOCK]
            if here.std() < 3:
                continue
            whole = residual[first + lag][
                top - SEARCH : top + BLOCK + SEARCH, left - SEARCH : left + BLOCK + SEARCH
            ]
            matched = _correlations(here, whole)
            same.append(matched[SEARCH, SEARCH])
            best.append(matched.max())
        if same:
            found[f"lag {lag}, same place"] = float(np.mean(same))
            found[f"lag {lag}, best place"] = float(np.mean(best))
    return found


def _correlations(block: np.ndarray, around: np.ndarray) -> np.ndarray:
    """Pearson correlation of `block` with each window of `around` of its size."""
    windows = np.lib.stride_tricks.sliding_window_view(around, block.shape)
    centred = windows - windows.mean((2, 3), keepdims=True)
    own = block - block.mean()
    scale = np.sqrt((centred**2).sum((2, 3)) * (own**2).sum())
    return np.asarray((centred * own).sum((2, 3)) / np.maximum(scale, 1e-9))
