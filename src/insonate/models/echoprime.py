"""EchoPrime: the MViT-v2-S video encoder and the ConvNeXt-B view classifier.

Source: Vukadinovic et al. 2024 (arXiv 2410.09704); modules are torchvision's. Weights: Cedars-Sinai academic
licence. Page: docs/models/echoprime.md.
Shapes: B items, T frames, C channels, H W input, N = T/2 · H/32 · W/32 tokens, D channels.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field
from torch import Tensor, nn
from torchvision.models.video.mvit import MSBlockConfig, MViT

from insonate.errors import RecipeError, WeightsError
from insonate.models.backbone import BACKBONES, Backbone, BackboneSpec, Tokens, as_clip
from insonate.models.conventions import Conventions, conventions
from insonate.models.layouts import Bundle, Exportable, exports, register
from insonate.models.parts import PARTS
from insonate.models.torchvision_names import (
    convnext_from_torchvision,
    convnext_to_torchvision,
    is_torchvision_convnext,
)
from insonate.models.vit_weights import class_names
from insonate.options import Options
from insonate.weights.source import Converted, Hints, Part, Source

LICENSE = "Cedars-Sinai Academic Software License"
STAGES = (1, 2, 11, 2)
WIDTH = 96
VIEWS = (
    "A2C", "A3C", "A4C", "A5C", "Apical_Doppler", "Doppler_Parasternal_Long", "Doppler_Parasternal_Short",
    "Parasternal_Long", "Parasternal_Short", "SSN", "Subcostal",
)  # fmt: skip
Side = Annotated[int, Field(ge=32, le=2048, multiple_of=32)]
Blocks = Annotated[int, Field(ge=1, le=32)]


class MvitOptions(Options):
    """Options of a multiscale vision transformer; the defaults are MViT-v2-S, as in EchoPrime."""

    name: str = "echoprime"
    input_size: tuple[Side, Side] = (224, 224)
    """native height and width in pixels, multiples of 32"""
    frames: int = Field(default=16, ge=2, le=256, multiple_of=2)
    """frames of a native clip"""
    patch: Literal[32] = 32
    """stride of the last stage in pixels"""
    stages: tuple[Blocks, Blocks, Blocks, Blocks] = STAGES
    """blocks of each stage"""
    stem: int = Field(default=WIDTH, ge=8, le=1024, multiple_of=8)
    """channels of the first stage, doubled by each next one"""
    drop_path: float = Field(default=0.0, ge=0.0, lt=1.0)
    """stochastic depth: rate of the last block, rising linearly from 0"""
    conventions: Conventions = "echoprime"
    """how media become their input: see docs/models/index.md"""


class Mvit(Backbone):
    """Four stages of attention whose keys and values are pooled; the class token is read."""

    def __init__(self, options: MvitOptions) -> None:
        super().__init__()
        self.options = options.model_dump(mode="json")
        self.spec = BackboneSpec(
            embed_dim=8 * options.stem, patch=(2, 32, 32), input_size=options.input_size,
            frames=options.frames, **conventions(options.conventions),
        )  # fmt: skip
        net: Any = MViT(
            spatial_size=options.input_size, temporal_size=options.frames, block_setting=_blocks(options),
            residual_pool=True, residual_with_cls_embed=False, rel_pos_embed=True, proj_after_attn=True,
            stochastic_depth_prob=options.drop_path, num_classes=1,
        )  # fmt: skip
        self.conv_proj: nn.Module = net.conv_proj
        self.pos_encoding: nn.Module = net.pos_encoding
        self.blocks: nn.ModuleList = net.blocks
        self.norm: nn.Module = net.norm
        ends = [sum(options.stages[: i + 1]) - 1 for i in range(4)]
        self.ends = frozenset(ends)

    def forward(self, x: Tensor) -> Tokens:
        """See `Backbone.forward`."""
        tokens, grid, _ = self._run(x)
        tokens = self.norm(tokens)
        return Tokens(tokens[:, 1:], tokens[:, :1], grid)

    def pyramid(self, x: Tensor) -> list[Tensor]:
        """See `Backbone.pyramid`: outputs of the stages, the last one normed; frames are averaged."""
        return self._run(x)[2]

    def layers(self) -> list[nn.Module]:
        """See `Backbone.layers`."""
        return [nn.ModuleList([self.conv_proj, self.pos_encoding]), *self.blocks, self.norm]

    def _run(self, x: Tensor) -> tuple[Tensor, tuple[int, int, int], list[Tensor]]:
        """Tokens before the norm, their grid, and the maps of the stages.

        Raises:
            RecipeError: a side of the input is no multiple of the last stage's stride.
        """
        if x.shape[-1] % 32 or x.shape[-2] % 32:
            raise RecipeError(
                "image", f"{x.shape[-2]}×{x.shape[-1]} pixels is no multiple of 32", "Resize it first"
            )
        x = self.conv_proj(as_clip(x, self.spec).transpose(1, 2))  # B D T/2 H/4 W/4
        grid = (x.shape[2], x.shape[3], x.shape[4])
        x = self.pos_encoding(x.flatten(2).transpose(1, 2))  # B 1+N D
        maps = []
        for depth, block in enumerate(self.blocks):
            x, grid = block(x, grid)
            if depth in self.ends:
                normed = self.norm(x) if depth == len(self.blocks) - 1 else x
                maps.append(
                    normed[:, 1:].transpose(1, 2).reshape(x.shape[0], -1, *grid).mean(dim=2)
                )  # B D' h w
        return x, grid, maps


def _blocks(options: MvitOptions) -> list[MSBlockConfig]:
    """The first block of stages 2 to 4 halves the picture; the last block before doubles the channels."""
    settings = []
    stage_of = [stage for stage, count in enumerate(options.stages) for _ in range(count)]
    for i, stage in enumerate(stage_of):
        first = i > 0 and stage_of[i - 1] != stage
        before = options.stem * 2 ** (stage_of[i - 1] if i else 0)
        pooled = 8 // 2**stage
        settings.append(
            MSBlockConfig(
                num_heads=2**stage, input_channels=before, output_channels=options.stem * 2**stage,
                kernel_q=[3, 3, 3], kernel_kv=[3, 3, 3], stride_q=[1, 2, 2] if first else [1, 1, 1],
                stride_kv=[1, pooled, pooled],
            )
        )  # fmt: skip
    return settings


@BACKBONES.register("echoprime", config=MvitOptions)
def echoprime(options: MvitOptions) -> Mvit:
    """EchoPrime's MViT-v2-S, 34.2 M parameters: clips of 16 frames."""
    return Mvit(options)


class ClipProjectionOptions(Options):
    """Options of a linear map from the class token."""

    name: Literal["class_projection"] = "class_projection"
    width: int = Field(ge=1, le=8192)
    """channels of a token"""
    outputs: int = Field(ge=1, le=8192)
    """channels of the result"""


@PARTS.register("class_projection", config=ClipProjectionOptions)
class ClassProjection(nn.Module):
    """A linear map of the class token: EchoPrime's vector of a clip."""

    def __init__(self, options: ClipProjectionOptions) -> None:
        super().__init__()
        self.proj = nn.Linear(options.width, options.outputs)

    def forward(self, tokens: Tokens) -> Tensor:
        """Tokens → B O."""
        return self.proj(tokens.prefix[:, 0])


def _is_mvit(bundle: Bundle) -> bool:
    return bundle.has(r"conv_proj\.weight", r"pos_encoding\.class_token", r"blocks\.0\.attn\.rel_pos_h")


def _is_view_classifier(bundle: Bundle) -> bool:
    return is_torchvision_convnext(bundle) and bundle.shape("classifier.2.weight")[:1] == (len(VIEWS),)


@register("echoprime", ("echoprime",), _is_mvit)
def convert_mvit(bundle: Bundle, hints: Hints, source: Source) -> Converted:
    """The video encoder and its projection."""
    names = source.names(r"(conv_proj|pos_encoding|blocks|norm)\.")
    state = {name: source.take(name) for name in names}
    widths = [state[name].shape[0] for name in sorted(
        (n for n in state if n.endswith("attn.project.0.weight")), key=lambda n: int(n.split(".")[1])
    )]  # fmt: skip
    stem = state["conv_proj.weight"].shape[0]
    stages = tuple(sum(width == stem * 2**i for width in widths) for i in range(4))
    options = {"name": "echoprime", "stem": stem, "stages": stages, **_sizes(state, widths, stem)}
    parts = {}
    head = source.take_prefix("head.1.")
    if head:
        part = {"name": "class_projection", "width": head["weight"].shape[1], "outputs": len(head["weight"])}
        parts["projection"] = Part(options=part, state={f"proj.{name}": t for name, t in head.items()})
    return Converted(
        family="echoprime", backbone=options, state=state, parts=parts, info={"license": LICENSE}
    )


@register("echoprime_views", ("echoprime",), _is_view_classifier)
def convert_views(bundle: Bundle, hints: Hints, source: Source) -> Converted:
    """The view classifier, for the first frame of a clip."""
    options, state, norm = convnext_from_torchvision(source)
    head = source.take_prefix("classifier.2.")
    return Converted(
        family="echoprime", backbone=options | {"conventions": "echoprime"}, state=state,
        task={
            "name": "classification", "column": "view", "head": "norm_linear",
            "classes": class_names(len(head["bias"]), hints, VIEWS),
        },
        head={
            **{f"final.{name}": tensor for name, tensor in head.items()},
            **{f"norm.{name}": tensor for name, tensor in norm.items()},
        },
        info={"license": LICENSE},
    )  # fmt: skip


@exports("echoprime")
def export_mvit(model: Exportable) -> dict[str, Any]:
    """Encoder and projection under torchvision's names."""
    head = {
        f"head.1.{name.removeprefix('proj.')}": t for name, t in model.parts.get("projection", {}).items()
    }
    return model.state | head


@exports("echoprime_views")
def export_views(model: Exportable) -> dict[str, Any]:
    """The view classifier under torchvision's names.

    Raises:
        WeightsError: it is no ConvNeXt with such a classifier.
    """
    if model.backbone["name"] != "convnext" or (model.task or {}).get("head") != "norm_linear":
        raise WeightsError("model", "is no view classifier of EchoPrime", "Take another layout")
    places = {"norm": "classifier.0", "final": "classifier.2"}
    head = {re.sub(r"^(norm|final)", lambda m: places[m[1]], name): t for name, t in model.head.items()}
    return convnext_to_torchvision(model.state) | head


def _sizes(state: dict[str, Tensor], widths: list[int], stem: int) -> dict[str, Any]:
    """Native sizes, of the first block's relative tables: 2·max(queries, keys) - 1 rows."""
    rows, columns, frames = (state[f"blocks.0.attn.rel_pos_{axis}"].shape[0] for axis in "hwt")
    return {"input_size": (2 * (rows + 1), 2 * (columns + 1)), "frames": frames + 1}
