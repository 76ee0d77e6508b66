"""Vision transformers without class token, that can look at a subset of their patches.

Source: Dosovitskiy et al. 2021 (arXiv 2010.11929), in the form of Assran et al. 2023
(arXiv 2301.08243): sine-cosine positions, no class token. Blocks and parameter names are timm's.
Page: docs/methods/ijepa.md.
Shapes: B items, C channels, H W input, N patches, K kept patches, D channels of a token, p patch side.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from insonate.errors import RecipeError, WeightsError
from insonate.models.backbone import BACKBONES, BackboneSpec, MaskedBackbone, Tokens
from insonate.models.positions import resize_table, sincos_2d
from insonate.options import Options

STRIDES = (4, 8, 16, 32)
LAYER_NORM_EPS = 1e-6
Side = Annotated[int, Field(ge=1, le=8192)]


class VitOptions(Options):
    """Options of every ViT."""

    name: str = "vit"
    input_size: tuple[Side, Side] = (224, 224)
    """native height and width in pixels; other multiples of the patch work too"""
    patch: int = Field(default=16, ge=1, le=256)
    """side of a patch in pixels"""
    drop_path: float = Field(default=0.0, ge=0.0, lt=1.0)
    """stochastic depth: rate of the last block, rising linearly from 0"""
    position: Literal["sincos", "learned"] = "sincos"
    """fixed sine-cosine table, or a learned one"""
    resize_position: Literal["recompute", "interpolate"] = "recompute"
    """on a grid other than the native one: sine-cosine of that grid, or the native table resampled (learned
    tables are always resampled)"""
    depth_scaled_init: bool = True
    """divide the output weights of block l by √(2 l), as I-JEPA's constructor means to; its runs did not"""


class CustomVitOptions(VitOptions):
    """A ViT of any size, for tests and small studies."""

    width: int = Field(default=96, ge=4, le=8192, multiple_of=4)
    """channels of a token"""
    depth: int = Field(default=4, ge=1, le=256)
    """number of blocks"""
    heads: int = Field(default=3, ge=1, le=256)
    """attention heads; the width is a multiple of it"""
    mlp_ratio: float = Field(default=4.0, gt=0.0, le=16.0)
    """hidden width of the MLP in widths"""


class PatchEmbed(nn.Module):
    """Linear map of patches to tokens; the weight has the shape of a convolution, as in every ViT."""

    def __init__(self, channels: int, width: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.proj = nn.Conv2d(channels, width, kernel_size=patch, stride=patch)

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """Image B C H W → tokens B N D in raster order, or B K D of the patches in `keep` (B K)."""
        b, c, height, width = x.shape
        p = self.patch
        rows, columns = height // p, width // p
        pixels = x.reshape(b, c, rows, p, columns, p).permute(0, 2, 4, 1, 3, 5)  # B h w C p p
        pixels = pixels.reshape(b, rows * columns, c * p * p)  # B N Cpp
        if keep is not None:
            pixels = gather_tokens(pixels, keep)  # B K Cpp
        return F.linear(pixels, self.proj.weight.flatten(1), self.proj.bias)  # B N D


class VisionTransformer(MaskedBackbone):
    """Pre-norm ViT; every block sees only the tokens in `keep`, and only those patches are embedded."""

    def __init__(self, options: VitOptions, *, width: int, depth: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        height_px, width_px = options.input_size
        patch = options.patch
        if height_px % patch or width_px % patch:
            raise RecipeError(
                "backbone.input_size",
                f"{height_px}×{width_px} pixels is no multiple of the patch, {patch}",
                "Use multiples of the patch",
            )
        if width % heads:
            raise RecipeError(
                "backbone.heads", f"width {width} is no multiple of {heads} heads", "Change one"
            )
        self.options = options.model_dump(mode="json")
        self.spec = BackboneSpec(embed_dim=width, patch=(1, patch, patch), input_size=(height_px, width_px))
        self.grid = (height_px // patch, width_px // patch)
        self.heads = heads
        self.resize_position = "interpolate" if options.position == "learned" else options.resize_position
        self.patch_embed = PatchEmbed(self.spec.channels, width, patch)
        rates = [options.drop_path * i / max(depth - 1, 1) for i in range(depth)]
        self.blocks = nn.ModuleList(
            Block(
                width, heads, mlp_ratio, qkv_bias=True, drop_path=rate,
                norm_layer=partial(nn.LayerNorm, eps=LAYER_NORM_EPS),  # type: ignore[arg-type]
            )
            for rate in rates
        )  # fmt: skip
        self.norm = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        if options.position == "learned":
            self.pos_embed = nn.Parameter(torch.empty(1, self.grid[0] * self.grid[1], width))
            nn.init.trunc_normal_(self.pos_embed, std=0.02)
        else:
            table = (
                sincos_2d(self.grid, width).clone()[None].to(self.norm.weight.device)
            )  # "meta" while counting
            self.register_buffer("pos_embed", table, persistent=False)
        init_transformer(self, self.blocks, depth_scaled=options.depth_scaled_init)

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tokens:
        """See `MaskedBackbone.forward`."""
        tokens, grid = self.embed(x, keep)  # B K D
        for block in self.blocks:
            tokens = block(tokens)
        return self._tokens(self.norm(tokens), grid)

    def embed(self, x: Tensor, keep: Tensor | None = None) -> tuple[Tensor, tuple[int, int]]:
        """Tokens with their positions (B K D, or B N D), and the grid (rows, columns).

        Raises:
            RecipeError: height or width of `x` is no multiple of the patch.
        """
        grid = self.grid_of(x)
        position = self.positions(grid)  # N D
        tokens = self.patch_embed(x, keep)
        return tokens + (position if keep is None else position[keep]), grid

    def grid_of(self, x: Tensor) -> tuple[int, int]:
        """Rows and columns of patches of an image B C H W.

        Raises:
            RecipeError: height or width is no multiple of the patch.
        """
        (height, width), patch = x.shape[-2:], self.patch_embed.patch
        if height % patch or width % patch:
            raise RecipeError(
                "image", f"{height}×{width} pixels is no multiple of the patch, {patch}", "Resize it first"
            )
        return height // patch, width // patch

    def positions(self, grid: tuple[int, int]) -> Tensor:
        """Position table N D of a grid."""
        native = self.pos_embed[0]
        if grid == self.grid:
            return native
        if self.resize_position == "interpolate":
            return resize_table(native, self.grid, grid)
        return sincos_2d(grid, self.spec.embed_dim).to(native.device, native.dtype)

    def pyramid(self, x: Tensor) -> list[Tensor]:
        """See `Backbone.pyramid`: outputs of four evenly spaced blocks, normed and resampled."""
        tokens, grid = self.embed(x)
        taps = [math.ceil(len(self.blocks) * (i + 1) / 4) - 1 for i in range(4)]
        maps = []
        for depth, block in enumerate(self.blocks):
            tokens = block(tokens)
            for stride, _ in (pair for pair in zip(STRIDES, taps, strict=True) if pair[1] == depth):
                picture = self.norm(tokens).transpose(1, 2).unflatten(2, grid)  # B D h w
                maps.append(_resample(picture, (x.shape[-2] // stride, x.shape[-1] // stride)))
        return maps

    def layers(self) -> list[nn.Module]:
        """See `Backbone.layers`."""
        return [self.patch_embed, *self.blocks, self.norm]

    def _tokens(self, patch: Tensor, grid: tuple[int, int]) -> Tokens:
        return Tokens(patch, patch.new_zeros(patch.shape[0], 0, patch.shape[-1]), (1, *grid))


def gather_tokens(tokens: Tensor, index: Tensor) -> Tensor:
    """Tokens B N D at the indices B K → B K D."""
    return torch.take_along_dim(tokens, index[..., None], dim=1)


def init_transformer(module: nn.Module, blocks: nn.ModuleList, *, depth_scaled: bool) -> None:
    """Truncated normal weights (standard deviation 0.02), zero biases, plain norms.

    Args:
        module: all its linear layers, convolutions and norms are initialised.
        blocks: the transformer blocks in it.
        depth_scaled: divide `attn.proj` and `mlp.fc2` of block l = 1, 2, … by √(2 l).
    """
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            nn.init.trunc_normal_(part.weight, std=0.02)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
    if not depth_scaled:
        return
    with torch.no_grad():
        for depth, block in enumerate(blocks, start=1):
            for linear in (block.attn.proj, block.mlp.fc2):  # type: ignore[union-attr]
                linear.weight.div_(math.sqrt(2 * depth))  # type: ignore[union-attr, operator]


def _resample(picture: Tensor, size: tuple[int, int]) -> Tensor:
    height, width = max(size[0], 1), max(size[1], 1)
    if height < picture.shape[-2] or width < picture.shape[-1]:
        return F.adaptive_avg_pool2d(picture, (height, width))
    if (height, width) == tuple(picture.shape[-2:]):
        return picture
    return F.interpolate(picture, size=(height, width), mode="bilinear", align_corners=False)


@BACKBONES.register("vit", config=CustomVitOptions)
def vit(options: CustomVitOptions) -> VisionTransformer:
    """A ViT of the size in the options."""
    return VisionTransformer(
        options, width=options.width, depth=options.depth, heads=options.heads, mlp_ratio=options.mlp_ratio
    )


@BACKBONES.register("vit_tiny", config=VitOptions)
def vit_tiny(options: VitOptions) -> VisionTransformer:
    """ViT-Ti, 5.5 M parameters. Source: Touvron et al. 2021 (arXiv 2012.12877)."""
    return VisionTransformer(options, width=192, depth=12, heads=3, mlp_ratio=4.0)


@BACKBONES.register("vit_small", config=VitOptions)
def vit_small(options: VitOptions) -> VisionTransformer:
    """ViT-S, 21.6 M parameters. Source: Touvron et al. 2021 (arXiv 2012.12877)."""
    return VisionTransformer(options, width=384, depth=12, heads=6, mlp_ratio=4.0)


@BACKBONES.register("vit_base", config=VitOptions)
def vit_base(options: VitOptions) -> VisionTransformer:
    """ViT-B, 85.6 M parameters. Source: Dosovitskiy et al. 2021 (arXiv 2010.11929)."""
    return VisionTransformer(options, width=768, depth=12, heads=12, mlp_ratio=4.0)


@BACKBONES.register("vit_large", config=VitOptions)
def vit_large(options: VitOptions) -> VisionTransformer:
    """ViT-L, 303 M parameters. Source: Dosovitskiy et al. 2021 (arXiv 2010.11929)."""
    return VisionTransformer(options, width=1024, depth=24, heads=16, mlp_ratio=4.0)


@BACKBONES.register("vit_huge", config=VitOptions)
def vit_huge(options: VitOptions) -> VisionTransformer:
    """ViT-H, 630 M parameters at patch 14. Source: Dosovitskiy et al. 2021 (arXiv 2010.11929)."""
    return VisionTransformer(options, width=1280, depth=32, heads=16, mlp_ratio=4.0)


@BACKBONES.register("vit_giant", config=VitOptions)
def vit_giant(options: VitOptions) -> VisionTransformer:
    """ViT-g, 1011 M parameters. Source: Zhai et al. 2022 (arXiv 2106.04560)."""
    return VisionTransformer(options, width=1408, depth=40, heads=16, mlp_ratio=48 / 11)


def weights_from_ijepa(
    checkpoint: Mapping[str, Any],
    backbone: VisionTransformer,
    *,
    which: Literal["target_encoder", "encoder"] = "target_encoder",
    where: object = "I-JEPA checkpoint",
) -> dict[str, Tensor]:
    """The weights of an official I-JEPA checkpoint, under our names.

    Args:
        checkpoint: the whole file, as `weights.read` gives it.
        backbone: whose native grid the checkpoint must have.
        which: the EMA target encoder, which the paper evaluates, or the context encoder.
        where: the file, for errors.

    Returns:
        A state dict for `backbone`.

    Raises:
        WeightsError: the part is missing, or its position table is not that of the backbone's grid.
    """
    part = checkpoint.get(which)
    if not isinstance(part, Mapping):
        raise WeightsError(where, f"has no {which!r}", "Give a checkpoint of the I-JEPA authors' code")
    weights = {str(key).removeprefix("module."): value for key, value in part.items()}
    if isinstance(backbone.pos_embed, nn.Parameter):
        return weights
    stored, ours = weights.pop("pos_embed", None), backbone.pos_embed
    if stored is not None and (
        stored.shape != ours.shape or float((stored.float() - ours.cpu()).abs().max()) > 1e-3
    ):
        raise WeightsError(
            where,
            f"pos_embed {tuple(stored.shape)} is not the sine-cosine table of the grid {backbone.grid}",
            "Build the backbone with the checkpoint's input_size and patch, or position: learned",
        )
    return weights


def official_weights(
    checkpoint: Mapping[str, Any], backbone: nn.Module, *, where: object
) -> Mapping[str, Any]:
    """The weights in a checkpoint of a known project's code; any other checkpoint as it is.

    Raises:
        WeightsError: it is recognised, but not of this backbone.
    """
    if isinstance(backbone, VisionTransformer) and {"target_encoder", "predictor"} <= checkpoint.keys():
        return weights_from_ijepa(checkpoint, backbone, where=where)
    return checkpoint
