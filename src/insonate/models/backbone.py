"""Backbone: an encoder with tokens and a feature pyramid out, and the facts that travel with it.

Shapes: B items, C channels, H W input, N patch tokens, P prefix tokens, K kept tokens, D channels.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from torch import Tensor, nn

from insonate.models.registry import Registry

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


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
        """Image B C H W (normalised by `spec`) → tokens after the final norm."""

    @abstractmethod
    def pyramid(self, x: Tensor) -> list[Tensor]:
        """Image B C H W → four maps B C' H/s W/s at strides s = 4, 8, 16, 32, for dense tasks."""

    @abstractmethod
    def layers(self) -> list[nn.Module]:
        """The modules from input to output: embedding, blocks, final norm; for layer-wise rates, freezing.

        Every trainable parameter belongs to exactly one of them, or directly to the backbone (then it
        counts to the first).
        """


class MaskedBackbone(Backbone):
    """A backbone that can look at a subset of its tokens."""

    @abstractmethod
    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tokens:
        """As `Backbone.forward`; with `keep` (B K, int64 indices) only those tokens are embedded and seen."""


BACKBONES: Registry[Backbone] = Registry("backbone")
