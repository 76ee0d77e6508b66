"""ConvNeXt: a convolutional pyramid, for tasks and for small devices.

Source: Liu et al. 2022 (arXiv 2201.03545), layers and parameter names of timm.
Shapes: B items, C channels, H W input, N = H/32 · W/32 tokens, D channels.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import timm
from pydantic import Field
from torch import Tensor, nn

from insonate.errors import RecipeError
from insonate.models.backbone import BACKBONES, Backbone, BackboneSpec, Tokens
from insonate.models.conventions import Conventions, conventions
from insonate.options import Options

STRIDE = 32
Size = Annotated[int, Field(ge=1, le=8192)]
Four = tuple[Size, Size, Size, Size]


class ConvNextOptions(Options):
    """Options of every ConvNeXt."""

    name: str = "convnext_tiny"
    input_size: tuple[Annotated[int, Field(ge=32, le=8192)], Annotated[int, Field(ge=32, le=8192)]] = (
        224,
        224,
    )
    """native height and width in pixels, multiples of 32"""
    patch: Literal[32] = 32
    """stride of the last stage in pixels"""
    drop_path: float = Field(default=0.0, ge=0.0, lt=1.0)
    """stochastic depth: rate of the last block, rising linearly from 0"""
    final_norm: bool = True
    """norm of the last map; in CLIP and in timm's classifiers it comes after the pooling, in the head"""
    conventions: Conventions = "imagenet"
    """how media become its input: see docs/models/index.md"""


class CustomConvNextOptions(ConvNextOptions):
    """A ConvNeXt of any size."""

    depths: Four = (2, 2, 6, 2)
    """blocks of each stage"""
    widths: Four = (40, 80, 160, 320)
    """channels of each stage"""
    conv_mlp: bool = False
    """the MLPs are convolutions of 1×1 pixel: the same numbers, other shapes, in timm's small models"""


class ConvNext(Backbone):
    """The four stages, and the norm after them."""

    def __init__(self, options: ConvNextOptions, net: Any) -> None:
        super().__init__()
        if any(side % STRIDE for side in options.input_size):
            raise RecipeError(
                "backbone.input_size",
                f"{options.input_size} is no multiple of {STRIDE}",
                "Use multiples of 32",
            )
        self.options = options.model_dump(mode="json")
        self.spec = BackboneSpec(
            embed_dim=net.num_features,
            patch=(1, STRIDE, STRIDE),
            input_size=options.input_size,
            **conventions(options.conventions),
        )
        self.stem: nn.Module = net.stem
        self.stages = nn.ModuleList(net.stages)
        self.norm: nn.Module = net.head.norm if options.final_norm else nn.Identity()

    def forward(self, x: Tensor) -> Tokens:
        """See `Backbone.forward`."""
        last = self.pyramid(x)[-1]  # B D h w
        tokens = last.flatten(2).transpose(1, 2)  # B N D
        return Tokens(tokens, tokens.new_zeros(x.shape[0], 0, tokens.shape[-1]), (1, *last.shape[-2:]))

    def pyramid(self, x: Tensor) -> list[Tensor]:
        """See `Backbone.pyramid`; the last map has the final norm."""
        x = self.stem(x)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return [*maps[:-1], self.norm(maps[-1])]

    def layers(self) -> list[nn.Module]:
        """See `Backbone.layers`: the stem, every down-sampling and block, the norm."""
        parts: list[nn.Module] = [self.stem]
        for stage in self.stages:
            downsample = stage.get_submodule("downsample")
            parts += [downsample] if any(True for _ in downsample.parameters()) else []
            parts += stage.get_submodule("blocks").children()
        return [*parts, self.norm]


def _named(options: ConvNextOptions) -> ConvNext:
    return ConvNext(options, timm.create_model(options.name, num_classes=0, drop_path_rate=options.drop_path))


@BACKBONES.register("convnext", config=CustomConvNextOptions)
def convnext(options: CustomConvNextOptions) -> ConvNext:
    """A ConvNeXt of the size in the options."""
    net = timm.models.convnext.ConvNeXt(
        depths=options.depths, dims=options.widths, conv_mlp=options.conv_mlp, num_classes=0,
        drop_path_rate=options.drop_path,
    )  # fmt: skip
    return ConvNext(options, net)


@BACKBONES.register("convnext_atto", config=ConvNextOptions)
def convnext_atto(options: ConvNextOptions) -> ConvNext:
    """ConvNeXt-Atto, 3.4 M parameters, of timm."""
    return _named(options)


@BACKBONES.register("convnext_tiny", config=ConvNextOptions)
def convnext_tiny(options: ConvNextOptions) -> ConvNext:
    """ConvNeXt-T, 27.8 M parameters."""
    return _named(options)


@BACKBONES.register("convnext_small", config=ConvNextOptions)
def convnext_small(options: ConvNextOptions) -> ConvNext:
    """ConvNeXt-S, 49.5 M parameters."""
    return _named(options)


@BACKBONES.register("convnext_base", config=ConvNextOptions)
def convnext_base(options: ConvNextOptions) -> ConvNext:
    """ConvNeXt-B, 87.6 M parameters."""
    return _named(options)
