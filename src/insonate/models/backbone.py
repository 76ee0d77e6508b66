"""Backbone: an encoder with tokens and a feature pyramid out, and the facts that travel with it.

Shapes: B items, T frames, C channels, H W input, N patch tokens, P prefix tokens, K kept tokens, D channels.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Self

from torch import Tensor, nn

from insonate.models.conventions import IMAGENET_MEAN, IMAGENET_STD
from insonate.models.registry import Registry


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneSpec:
    """Facts of a backbone that data, heads and model folders need."""

    embed_dim: int
    patch: tuple[int, int, int]
    """frames, rows, columns of one token"""
    input_size: tuple[int, int]
    """native height, width"""
    frames: int = 1
    channels: int = 3
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    resize: Literal["stretch", "crop"] = "stretch"
    """the whole picture stretched to the input; or scaled by its short side, and the middle taken"""
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    margin: float = 1.0
    """of crop: short side after scaling in sides of the input"""
    stride: int = 1
    """a clip takes every so many-th frame of a video"""
    standardise: bool = False
    """each picture to mean 0 and deviation 1 by itself, instead of `mean` and `std`"""


class Tokens(NamedTuple):
    """Output of a backbone."""

    patch: Tensor  # B N D, or B K D where `keep` was given
    prefix: Tensor  # B P D; P = 0 without class token or registers
    grid: tuple[int, int, int]  # of all N tokens: (t, h, w)


class Backbone(nn.Module):
    """An encoder. Inputs are any multiple of the patch, square or not."""

    spec: BackboneSpec
    options: dict[str, Any]
    """what `build_backbone` made it of, its name included"""

    def train(self, mode: bool = True) -> Self:  # noqa: FBT001, FBT002 - the signature of nn.Module
        """As `nn.Module.train`, but layers without a trainable parameter stay in eval mode."""
        learns = any(parameter.requires_grad for parameter in self.parameters())
        super().train(mode and learns)
        for layer in self.layers():
            if not any(parameter.requires_grad for parameter in layer.parameters()):
                layer.eval()
        return self

    @abstractmethod
    def forward(self, x: Tensor) -> Tokens:
        """Image B C H W (normalised by `spec`) → tokens after the final norm.

        Where `spec.frames` is more than one: a clip B T C H W; a picture is shown in all of its frames.
        """

    @abstractmethod
    def pyramid(self, x: Tensor) -> list[Tensor]:
        """Image B C H W → four maps B C' H/s W/s at strides s = 4, 8, 16, 32, for dense tasks."""

    @abstractmethod
    def layers(self) -> list[nn.Module]:
        """The modules from input to output: embedding, blocks, final norm; for layer-wise rates, freezing.

        Every trainable parameter belongs to exactly one of them, or directly to the backbone (then it
        counts to the first).
        """

    def pyramid_layers(self) -> list[nn.Module]:
        """Those of `layers` that `pyramid` runs."""
        return self.layers()


class MaskedBackbone(Backbone):
    """A backbone that can look at a subset of its tokens."""

    @abstractmethod
    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tokens:
        """As `Backbone.forward`; with `keep` (B K, int64 indices) only those tokens are embedded and seen."""


def as_clip(x: Tensor, spec: BackboneSpec) -> Tensor:
    """A picture B C H W as a clip B T C H W of the native length, without copying; a clip as it is."""
    return x if x.ndim == 5 else x[:, None].expand(-1, spec.frames, -1, -1, -1)


def token_map(tokens: Tokens) -> Tensor:
    """Patch tokens as a picture, B D h w; frames are averaged.

    The batch is `shape[0]` here and in all encoders: an exported graph keeps it open, unlike `len`.
    """
    grid = tokens.patch.transpose(1, 2).reshape(tokens.patch.shape[0], -1, *tokens.grid)  # B D t h w
    return grid[:, :, 0] if tokens.grid[0] == 1 else grid.mean(dim=2)  # B D h w


BACKBONES: Registry[Backbone] = Registry("backbone")
