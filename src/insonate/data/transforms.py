"""From an original picture to the model's input: one matrix, one resampling, points by the same matrix.

Shapes: C channels, H W model input, K points. Pixel coordinates are (x, y) with the origin at the centre of
the top-left pixel, so a resize by s maps x to (x + 0.5)·s - 0.5. All randomness comes from the item's seed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tvf

from insonate.data.augment import Augment
from insonate.data.sample import Matrix
from insonate.errors import MediaError

LUMINANCE = (0.299, 0.587, 0.114)
LOG_RATIO = math.log(4 / 3)
"""random crops have an aspect between 3:4 and 4:3 of the input's"""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputFormat:
    """What a backbone wants to see; `mean` and `std` are of values from 0 to 1, one a channel."""

    height: int
    width: int
    channels: int = 3
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    resize: Literal["stretch", "crop"] = "stretch"
    """the whole original stretched to the input; or scaled by its short side, and the middle taken"""
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    """of resizing, antialiased"""
    margin: float = 1.0
    """of crop: short side after scaling in sides of the input; 1.25 leaves a tenth out at each border"""
    standardise: bool = False
    """each picture to mean 0 and deviation 1 by itself, instead of `mean` and `std`"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """Where a model input's pixels come from in the original."""

    input_from_original: np.ndarray
    """3×3"""
    box: tuple[int, int, int, int]
    """top, left, height, width of the crop"""
    mirrored: bool = False
    turned: bool = False
    """rotated, zoomed or shifted: needs `grid_sample`"""
    scaled: tuple[int, int] | None = None
    """height, width that the original is scaled to; `box` is then of the scaled picture"""

    def matrix(self) -> Matrix:
        """As nested tuples, for `Meta`."""
        return tuple((float(a), float(b), float(c)) for a, b, c in self.input_from_original)

    def points(self, points_xy: np.ndarray) -> np.ndarray:
        """Original pixels (K 2) → model-input pixels (K 2)."""
        m = self.input_from_original
        return np.asarray(points_xy @ m[:2, :2].T + m[:2, 2])


def prepare(image: np.ndarray, fmt: InputFormat) -> tuple[Tensor, Matrix]:
    """Resize (no letterbox, antialiased) and normalise, without augmentation.

    Args:
        image: H W (grey) or H W 3 (RGB), uint8, of any size.
        fmt: the model's input.

    Returns:
        C H W float, and the matrix from original to input pixels.

    Raises:
        MediaError: `image` is no such array.
    """
    check_picture(image)
    geometry = plain(image.shape[:2], fmt)
    return normalise(resample(image, geometry, fmt), fmt), geometry.matrix()


def generator(seed: int) -> np.random.Generator:
    """A generator that depends on `seed` alone, on every machine."""
    return np.random.Generator(np.random.Philox(seed))


def plain(hw: tuple[int, ...], fmt: InputFormat) -> Geometry:
    """The whole original stretched to the input, or its middle, as the input's convention is."""
    height, width = hw[0], hw[1]
    if fmt.resize == "crop":
        return _middle(height, width, fmt)
    return Geometry(input_from_original=_resize_box(0, 0, height, width, fmt), box=(0, 0, height, width))


def draw(hw: tuple[int, ...], fmt: InputFormat, augment: Augment, rng: np.random.Generator) -> Geometry:
    """A random geometry; always draws the same number of values, so that options do not shift each other."""
    area, aspect, top, left, mirror, turn, zoom, dx, dy = rng.random(9)
    box = _crop_box(hw, augment, (area, aspect, top, left))
    matrix = _resize_box(*box, fmt)
    mirrored = mirror < augment.hflip
    if mirrored:
        matrix = np.array([[-1.0, 0, fmt.width - 1], [0, 1, 0], [0, 0, 1]]) @ matrix
    low, high = augment.scale or (1.0, 1.0)
    angle_rad = math.radians(augment.rotate_deg) * (2 * turn - 1)
    factor = math.exp(math.log(low) + zoom * (math.log(high) - math.log(low)))
    shift_x = augment.shift * (2 * dx - 1) * fmt.width
    shift_y = augment.shift * (2 * dy - 1) * fmt.height
    turned = (angle_rad, factor, shift_x, shift_y) != (0, 1, 0, 0)
    if turned:
        matrix = _about_centre(angle_rad, factor, (shift_x, shift_y), fmt) @ matrix
    return Geometry(input_from_original=matrix, box=box, mirrored=mirrored, turned=turned)


def resample(image: np.ndarray, geometry: Geometry, fmt: InputFormat) -> Tensor:
    """The input picture in 0 … 255, black outside the original: 1 H W where it is grey, else C H W.

    Args:
        image: H W or H W 3, uint8; see `check_picture`.
        geometry: of this image.
        fmt: the model's input.
    """
    source = _channels(image, fmt)  # 1 or C, H0 W0
    if geometry.turned:
        return _warp(source, geometry, fmt)
    mode = InterpolationMode(fmt.interpolation)
    if geometry.scaled is not None:
        scaled = tvf.resize(source, list(geometry.scaled), interpolation=mode, antialias=True)
        return tvf.crop(scaled, *geometry.box)
    out = tvf.resized_crop(
        source, *geometry.box, size=[fmt.height, fmt.width], interpolation=mode, antialias=True
    )
    return tvf.horizontal_flip(out) if geometry.mirrored else out


def resample_mask(mask: np.ndarray, geometry: Geometry, fmt: InputFormat) -> Tensor:
    """The mask (H W, class indices) as the input sees it: H W int64, nearest, 0 outside the original."""
    source = torch.from_numpy(np.require(mask, requirements=["C", "W"]))[None]  # 1 H0 W0
    if geometry.turned:
        matrix = geometry.input_from_original
        out = _sample(source.float(), matrix, fmt, mode="nearest")
        return out[0].round().long()  # H W
    nearest = InterpolationMode.NEAREST_EXACT
    if geometry.scaled is not None:
        scaled = tvf.resize(source, list(geometry.scaled), interpolation=nearest)
        return tvf.crop(scaled, *geometry.box)[0].long()  # H W
    out = tvf.resized_crop(source, *geometry.box, size=[fmt.height, fmt.width], interpolation=nearest)
    return (tvf.horizontal_flip(out) if geometry.mirrored else out)[0].long()  # H W


def normalise(picture: Tensor, fmt: InputFormat) -> Tensor:
    """1 or C H W in 0 … 255 → C H W: (value / 255 - mean) / std, a channel each.

    Where `fmt` standardises, mean and std are the picture's own, over all channels; a flat one gives zeros.
    """
    if fmt.standardise:
        own = picture.float()
        std, mean = torch.std_mean(own, correction=0)
        return ((own - mean) / std.clamp_min(1e-3)).expand(fmt.channels, -1, -1).contiguous()  # C H W
    mean = torch.tensor(fmt.mean[: fmt.channels]).view(-1, 1, 1) * 255
    std = torch.tensor(fmt.std[: fmt.channels]).view(-1, 1, 1) * 255
    return (picture.float() - mean).div_(std)  # C H W; a grey picture is repeated here


def photometric(picture: Tensor, augment: Augment, rng: np.random.Generator) -> Tensor:
    """Gamma, contrast, brightness and noise on 1 or C H W in 0 … 255; all channels change alike."""
    gamma, contrast, brightness, noise = rng.random(4)
    out = picture.float() / 255
    if augment.gamma is not None:
        low, high = augment.gamma
        out = out.clamp(0, 1) ** math.exp(math.log(low) + gamma * (math.log(high) - math.log(low)))
    if augment.contrast:
        middle = out.mean()
        out = (out - middle) * (1 + augment.contrast * (2 * contrast - 1)) + middle
    if augment.brightness:
        out += augment.brightness * (2 * brightness - 1)
    if augment.noise:
        grain = rng.standard_normal(out.shape[1:], dtype=np.float32)  # H W
        out += torch.from_numpy(grain) * float(augment.noise * noise)
    return out.clamp_(0, 1) * 255


def check_picture(image: np.ndarray) -> None:
    """Check that an array is a grey or RGB picture of 8 bits.

    Raises:
        MediaError: it is not.
    """
    if (
        image.dtype != np.uint8
        or image.ndim not in {2, 3}
        or (image.ndim == 3 and image.shape[2] not in {1, 3})
    ):
        raise MediaError(
            "image",
            f"has shape {image.shape} and type {image.dtype}",
            "Give H W or H W 3 values from 0 to 255",
        )
    if not image.size:
        raise MediaError("image", f"has shape {image.shape}: it is empty", "Give at least one pixel")


def _channels(image: np.ndarray, fmt: InputFormat) -> Tensor:
    source = torch.from_numpy(np.require(image, requirements=["C", "W"]))
    source = source[None] if image.ndim == 2 else source.permute(2, 0, 1)  # 1 or 3, H0 W0
    if len(source) == 3 and fmt.channels == 1:
        weights = torch.tensor(LUMINANCE).view(3, 1, 1)
        return (source * weights).sum(0, keepdim=True).round().to(torch.uint8)  # 1 H0 W0
    return source  # grey stays one channel until `normalise`


def _crop_box(hw: tuple[int, ...], augment: Augment, draws: tuple[float, ...]) -> tuple[int, int, int, int]:
    height, width = hw[0], hw[1]
    if augment.crop_scale is None:
        return 0, 0, height, width
    low, high = augment.crop_scale
    side = math.sqrt(low + draws[0] * (high - low))
    stretch = math.exp(LOG_RATIO * (2 * draws[1] - 1) / 2)
    rows = min(height, max(1, round(height * min(1.0, side / stretch))))
    columns = min(width, max(1, round(width * min(1.0, side * stretch))))
    return int(draws[2] * (height - rows + 1)), int(draws[3] * (width - columns + 1)), rows, columns


def _resize_box(top: int, left: int, height: int, width: int, fmt: InputFormat) -> np.ndarray:
    sx, sy = fmt.width / width, fmt.height / height
    return np.array(
        [[sx, 0, (0.5 - left) * sx - 0.5], [0, sy, (0.5 - top) * sy - 0.5], [0, 0, 1]], dtype=np.float64
    )


def _middle(height: int, width: int, fmt: InputFormat) -> Geometry:
    """Scaled by the side that must shrink least, with the margin; sizes are rounded as torchvision does."""
    factor = max(int(fmt.height * fmt.margin) / height, int(fmt.width * fmt.margin) / width)
    rows, columns = max(int(height * factor + 1e-6), fmt.height), max(int(width * factor + 1e-6), fmt.width)
    top, left = round((rows - fmt.height) / 2), round((columns - fmt.width) / 2)
    sx, sy = columns / width, rows / height
    matrix = np.array([[sx, 0, 0.5 * sx - 0.5 - left], [0, sy, 0.5 * sy - 0.5 - top], [0, 0, 1]])
    return Geometry(
        input_from_original=matrix, box=(top, left, fmt.height, fmt.width), scaled=(rows, columns)
    )


def _about_centre(
    angle_rad: float, factor: float, shift: tuple[float, float], fmt: InputFormat
) -> np.ndarray:
    cx, cy = (fmt.width - 1) / 2, (fmt.height - 1) / 2
    a, b = factor * math.cos(angle_rad), factor * math.sin(angle_rad)
    return np.array(
        [[a, -b, cx - a * cx + b * cy + shift[0]], [b, a, cy - b * cx - a * cy + shift[1]], [0, 0, 1]]
    )


def _warp(source: Tensor, geometry: Geometry, fmt: InputFormat) -> Tensor:
    """Shrink with antialiasing to about the scale of the input, then sample once."""
    matrix = geometry.input_from_original
    height, width = source.shape[-2:]
    small_h = max(1, round(height * min(1.0, math.hypot(matrix[0, 1], matrix[1, 1]))))
    small_w = max(1, round(width * min(1.0, math.hypot(matrix[0, 0], matrix[1, 0]))))
    if (small_h, small_w) != (height, width):
        source = tvf.resize(source, [small_h, small_w], antialias=True)
        shrink = _resize_box(0, 0, height, width, InputFormat(height=small_h, width=small_w))
        matrix = matrix @ np.linalg.inv(shrink)
    return _sample(source.float(), matrix, fmt, mode="bilinear")


def _sample(source: Tensor, matrix: np.ndarray, fmt: InputFormat, *, mode: str) -> Tensor:
    height, width = source.shape[-2:]
    back = torch.from_numpy(np.linalg.inv(matrix))  # float64: large pictures need more than 24 bits
    x = torch.arange(fmt.width, dtype=torch.float64)[None, :]
    y = torch.arange(fmt.height, dtype=torch.float64)[:, None]
    u = back[0, 0] * x + back[0, 1] * y + back[0, 2]  # H W
    v = back[1, 0] * x + back[1, 1] * y + back[1, 2]  # H W
    grid = torch.stack([(2 * u + 1) / width - 1, (2 * v + 1) / height - 1], -1).float()  # H W 2
    return grid_sample(source[None], grid[None], mode=mode, padding_mode="zeros", align_corners=False)[0]
