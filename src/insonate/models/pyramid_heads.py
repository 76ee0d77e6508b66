"""Heads on a backbone's pyramid: a map of logits at the input's size.

Shapes: B items, C classes, H W input, maps at strides s = 4, 8, 16, 32.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional

NECK = 4
"""channels of TinyUSFM's encoder a channel of its neck"""


class FpnHead(nn.Module):
    """A light feature pyramid network: 1×1 laterals, top-down sums, one map of logits at the input's size.

    Source: Kirillov et al. 2019 (Panoptic FPN, arXiv 1901.02446), with one 3×3 convolution instead of seven.
    """

    def __init__(self, channels: list[int], classes: int, width: int = 128) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(c, width, kernel_size=1) for c in channels)
        self.smooth = nn.Sequential(
            nn.Conv2d(width, width, kernel_size=3, padding=1, bias=False),
            nn.GroupNorm(min(32, width), width),
            nn.GELU(),
        )
        self.final = nn.Conv2d(width, classes, kernel_size=1)

    def forward(self, pyramid: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Four maps, fine to coarse → logits B C H W of `size`."""
        merged: Tensor | None = None
        for lateral, level in zip(reversed(self.laterals), reversed(pyramid), strict=True):
            here = lateral(level)  # B width H/s W/s
            merged = here if merged is None else here + _resize(merged, here.shape[-2:])
        return _resize(self.final(self.smooth(merged)), size)  # B C H W


class TinyUsfmHead(nn.Module):
    """TinyUSFM's segmentation head: a narrow neck, a top-down pyramid, the sum of its levels.

    The original projects before it resizes; both are linear, one over channels and one over places, so their
    order does not matter. Shapes: C classes, K channels of the neck, W channels of the pyramid.
    """

    def __init__(self, channels: list[int], classes: int, width: int = 128) -> None:
        super().__init__()
        narrow = [max(c // NECK, 1) for c in channels]
        self.neck = nn.ModuleList(nn.Conv2d(c, n, 1) for c, n in zip(channels, narrow, strict=True))
        self.laterals = nn.ModuleList(_normed(n, width, 1) for n in narrow)
        self.smooth = nn.ModuleList(_normed(width, width, 3) for _ in narrow)
        self.drop = nn.Dropout2d(0.1)
        self.final = nn.Conv2d(width, classes, 1)

    def forward(self, pyramid: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Four maps, fine to coarse → logits B C H W of `size`."""
        narrow = [project(level) for project, level in zip(self.neck, pyramid, strict=True)]  # B K H/s W/s
        levels = [lateral(level) for lateral, level in zip(self.laterals, narrow, strict=True)]  # B W H/s W/s
        for i in range(len(levels) - 1, 0, -1):
            levels[i - 1] = levels[i - 1] + _resize(levels[i], levels[i - 1].shape[-2:])
        levels = [smooth(level) for smooth, level in zip(self.smooth, levels, strict=True)]
        merged = levels[0]
        for level in levels[1:]:
            merged = merged + _resize(level, levels[0].shape[-2:])
        logits = self.final(self.drop(merged))  # B C H/4 W/4
        return _resize(logits, size)


PYRAMID_HEADS: dict[str, Callable[[list[int], int, int], nn.Module]] = {
    "fpn": FpnHead,
    "tinyusfm": TinyUsfmHead,
}
"""heads on a pyramid, by their name in recipes"""


def _normed(before: int, after: int, kernel: int) -> nn.Sequential:
    convolution = nn.Conv2d(before, after, kernel, padding=kernel // 2)
    return nn.Sequential(convolution, nn.BatchNorm2d(after), nn.ReLU())


def _resize(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    return functional.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False)
