"""Vision transformers for pictures and clips, that can look at a subset of their patches.

One class serves every ViT of this package: positions (fixed tables, learned, rotary in 3-D, relative shared
or per block), class token and registers, LayerScale, gated MLPs and tubelets are options; the families'
published sizes are functions below and in the family's file.
Source: Dosovitskiy et al. 2021 (arXiv 2010.11929), Assran et al. 2023 (arXiv 2301.08243); parameter names are
timm's. Page: docs/models/index.md.
Shapes: B items, T frames, C channels, H W input, N patches in the order frame, row, column, K kept patches,
P prefix tokens (class token, registers), D channels of a token, p patch side, q frames of a tubelet.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from insonate.errors import RecipeError
from insonate.models.backbone import BACKBONES, BackboneSpec, MaskedBackbone, Tokens, as_clip, token_map
from insonate.models.conventions import Conventions, conventions
from insonate.models.positions import TABLES, ClipGrid, resize_table
from insonate.models.relative import RelativeBias
from insonate.models.rope import Layout, Rope, rope_tables
from insonate.models.transformer import LAYER_NORM_EPS, Block, init_transformer
from insonate.options import Options

STRIDES = (4, 8, 16, 32)
ROPE_LAYOUTS: dict[str, Layout] = {"rope": "tiled", "rope_paired": "paired"}
PICTURES_ONLY = frozenset({"sincos", "sincos_rows_first", "relative", "relative_per_block"})
Side = Annotated[int, Field(ge=1, le=8192)]
Position = Literal[
    "sincos", "sincos_rows_first", "sincos_3d", "sincos_3d_even", "sinusoid", "learned", "rope",
    "rope_paired", "relative", "relative_per_block",
]  # fmt: skip


class VitOptions(Options):
    """Options of every ViT."""

    name: str = "vit"
    input_size: tuple[Side, Side] = (224, 224)
    """native height and width in pixels; other multiples of the patch work too"""
    frames: int = Field(default=1, ge=1, le=1024)
    """frames of a native clip, a multiple of the tubelet; 1 = pictures"""
    patch: int = Field(default=16, ge=1, le=256)
    """side of a patch in pixels"""
    tubelet: int = Field(default=1, ge=1, le=64)
    """frames of a patch"""
    patch_padding: int = Field(default=0, ge=0, le=128)
    """pixels of black around a picture before it is cut into patches: 2 in ViTPose; less than half a patch"""
    drop_path: float = Field(default=0.0, ge=0.0, lt=1.0)
    """stochastic depth: rate of the last block, rising linearly from 0"""
    position: Position = "sincos"
    """fixed table (sincos of I-JEPA and MAE, sincos_rows_first and sincos_3d of V-JEPA, sinusoid of
    VideoMAE), learned table, rotary (rope of V-JEPA 2, rope_paired of 2.1), or relative biases (one table, or
    one a block)"""
    resize_position: Literal["recompute", "interpolate"] = "recompute"
    """on a grid other than the native one: the fixed table of that grid, or the native one resampled (learned
    tables are always resampled)"""
    class_token: bool = False
    """a learned token before the patches"""
    registers: int = Field(default=0, ge=0, le=64)
    """learned tokens after the class token that only serve as memory"""
    layer_scale: float | None = Field(default=None, gt=0.0, le=10.0)
    """start of a learned factor a channel on the output of attention and MLP; none = no such factor"""
    mlp: Literal["gelu", "swiglu"] = "gelu"
    """two layers with a GELU, or a gated one"""
    final_norm: bool = True
    """norm of the tokens after the last block; some fine-tuned models have it in their head instead"""
    norm_eps: float = Field(default=LAYER_NORM_EPS, gt=0.0, le=1e-3)
    """added to the variance in every norm"""
    raw_taps: tuple[int, int, int, int] | None = None
    """blocks, from 0, whose outputs make the pyramid, as they are; none = four evenly spaced ones, normed"""
    depth_scaled_init: bool = True
    """divide the output weights of block l by √(2 l), as I-JEPA's constructor means to; its runs did not"""
    conventions: Conventions = "imagenet"
    """how media become its input: see docs/models/index.md"""


class CustomVitOptions(VitOptions):
    """A ViT of any size, for tests and small studies."""

    width: int = Field(default=96, ge=1, le=8192)
    """channels of a token"""
    depth: int = Field(default=4, ge=1, le=256)
    """number of blocks"""
    heads: int = Field(default=3, ge=1, le=256)
    """attention heads; the width is a multiple of it"""
    mlp_ratio: float = Field(default=4.0, gt=0.0, le=16.0)
    """hidden width of the MLP in widths"""


class PatchEmbed(nn.Module):
    """Linear map of patches to tokens; the weight has the shape of a convolution, as in every ViT."""

    def __init__(self, channels: int, width: int, kernel: tuple[int, ...], padding: int = 0) -> None:
        super().__init__()
        self.padding = padding
        self.kernel = kernel  # p p of pictures, q p p of clips
        convolution = nn.Conv2d if len(kernel) == 2 else nn.Conv3d
        self.proj: nn.Module = convolution(channels, width, kernel, stride=kernel, padding=padding)  # type: ignore[arg-type]

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """Clip B T C H W, or picture B C H W → tokens B N D in raster order, or B K D of `keep` (B K).

        In training only the kept patches are embedded; else all are, by the convolution that the originals
        use, so that rounding is theirs too.
        """
        x = x[:, None] if x.ndim == 4 else x
        if keep is not None and self.training and not self.padding:
            patches = gather_tokens(self._patches(x), keep)  # B K Cqpp
            return F.linear(patches, self.weight.flatten(1), self.proj.get_parameter("bias"))  # B K D
        tokens = (
            self.proj(x[:, 0] if len(self.kernel) == 2 else x.transpose(1, 2)).flatten(2).transpose(1, 2)
        )  # B N D
        return tokens if keep is None else gather_tokens(tokens, keep)

    def _patches(self, x: Tensor) -> Tensor:
        """Clip B T C H W → pixels of its patches B N Cqpp."""
        b, t, c, height, width = x.shape
        p, q = self.kernel[-1], 1 if len(self.kernel) == 2 else self.kernel[0]
        frames, rows, columns = t // q, height // p, width // p
        cut = x.reshape(b, frames, q, c, rows, p, columns, p).permute(
            0, 1, 4, 6, 3, 2, 5, 7
        )  # B t h w C q p p
        return cut.reshape(b, frames * rows * columns, c * q * p * p)

    @property
    def weight(self) -> nn.Parameter:
        """D C p p, or D C q p p."""
        return self.proj.get_parameter("weight")


class VisionTransformer(MaskedBackbone):
    """Pre-norm ViT; every block sees only the tokens in `keep`, and only those patches are embedded."""

    pos_embed: Tensor | None
    rope_reach: int | None = None
    """see `rope_tables`"""

    def __init__(self, options: VitOptions, *, width: int, depth: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        _check(options, width, depth, heads)
        self.options = options.model_dump(mode="json")
        self.spec = BackboneSpec(
            embed_dim=width,
            patch=(options.tubelet, options.patch, options.patch),
            input_size=options.input_size,
            frames=options.frames,
            **conventions(options.conventions),
        )
        clips = options.frames > 1
        self.grid = (options.input_size[0] // options.patch, options.input_size[1] // options.patch)
        self.clip_grid: ClipGrid = (options.frames // options.tubelet, *self.grid)
        self.heads, self.position, self.raw_taps = heads, options.position, options.raw_taps
        self.resize_position = "interpolate" if options.position == "learned" else options.resize_position
        kernel = self.spec.patch if clips else self.spec.patch[1:]
        padding = options.patch_padding  # of pictures only
        self.patch_embed = PatchEmbed(self.spec.channels, width, kernel, 0 if clips else padding)
        self.num_prefix = options.class_token + options.registers
        self.cls_token = nn.Parameter(torch.empty(1, 1, width)) if options.class_token else None
        self.reg_token = nn.Parameter(torch.empty(1, options.registers, width)) if options.registers else None
        rates = [options.drop_path * i / max(depth - 1, 1) for i in range(depth)]
        self.blocks = nn.ModuleList(
            Block(
                width, heads, mlp_ratio, mlp=options.mlp, layer_scale=options.layer_scale,
                drop_path=rate, eps=options.norm_eps,
            )
            for rate in rates
        )  # fmt: skip
        self.norm = nn.LayerNorm(width, eps=options.norm_eps) if options.final_norm else nn.Identity()
        self._make_positions(options, width)
        init_transformer(self, self.blocks, depth_scaled=options.depth_scaled_init)
        for token in (self.cls_token, self.reg_token):
            if token is not None:
                nn.init.trunc_normal_(token, std=0.02)

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tokens:
        """See `MaskedBackbone.forward`."""
        tokens, grid = self.embed(x, keep)  # B P+K D
        return self._through(tokens, grid, keep)

    def embed(self, x: Tensor, keep: Tensor | None = None) -> tuple[Tensor, ClipGrid]:
        """Tokens with their positions (B P+K D, or B P+N D), and the grid (frames, rows, columns).

        Raises:
            RecipeError: a side of `x` is no multiple of the patch.
        """
        grid = self.clip_grid_of(x)
        tokens = self.patch_embed(as_clip(x, self.spec), keep)  # B K D
        return self.placed(tokens, grid, keep), grid

    def placed(self, tokens: Tensor, grid: ClipGrid, keep: Tensor | None = None) -> Tensor:
        """Embedded patches B K D with their absolute positions and the prefix tokens, B P+K D."""
        position = self.positions(grid)  # N D
        if position is not None:
            tokens = tokens + (position if keep is None else position[keep])
        prefix = self._prefix(tokens.shape[0])
        return torch.cat([*prefix, tokens], 1) if prefix else tokens

    def fill_in(self, x: Tensor, hidden: Tensor, token: Tensor) -> Tokens:
        """Tokens where the patches in `hidden` (B N, bool) are replaced by `token` (1 1 D) before the blocks.

        Source: Xie et al. 2022 (SimMIM, arXiv 2111.09886).
        """
        grid = self.clip_grid_of(x)
        tokens = torch.where(hidden[..., None], token, self.patch_embed(as_clip(x, self.spec)))  # B N D
        return self._through(self.placed(tokens, grid), grid)

    def looks(
        self, grid: ClipGrid, keep: Tensor | None = None
    ) -> Iterator[tuple[Tensor | None, Rope | None]]:
        """For each block what its attention is told of the positions: a bias, a rotation, or nothing."""
        rope = self._rope(grid, keep)
        shared = None if self.rel_pos is None else self.rel_pos(grid[1:], keep)
        for block in self.blocks:
            own = block.get_submodule("attn.rel_pos") if self.position == "relative_per_block" else None
            yield (shared if own is None else own(grid[1:], keep)), rope

    def intermediate(self, x: Tensor, depths: Sequence[int], *, normed: bool = True) -> list[Tokens]:
        """Tokens after the blocks `depths` (counted from 0), each with the final norm where `normed`."""
        tokens, grid = self.embed(x)
        found = {}
        looks = self.looks(grid)
        for depth, block in enumerate(self.blocks[: max(depths) + 1]):
            tokens = block(tokens, *next(looks))
            if depth in depths:
                found[depth] = self._tokens(self.norm(tokens) if normed else tokens, grid)
        return [found[depth] for depth in depths]

    def grid_of(self, x: Tensor) -> tuple[int, int]:
        """Rows and columns of patches of a picture or clip; see `clip_grid_of`."""
        return self.clip_grid_of(x)[1:]

    def clip_grid_of(self, x: Tensor) -> ClipGrid:
        """Frames, rows and columns of patches of a picture B C H W or clip B T C H W.

        Raises:
            RecipeError: height, width or frames are no multiple of the patch.
        """
        height, width = int(x.shape[-2]), int(x.shape[-1])  # plain numbers also in a graph that is exported
        tubelet, patch = self.spec.patch[:2]
        if height % patch or width % patch:
            raise RecipeError(
                "image", f"{height}×{width} pixels is no multiple of the patch, {patch}", "Resize it first"
            )
        frames = x.shape[1] if x.ndim == 5 else self.spec.frames
        if frames % tubelet:
            raise RecipeError(
                "clip", f"{frames} frames are no multiple of the tubelet, {tubelet}", "Repeat the last one"
            )
        return frames // tubelet, height // patch, width // patch

    def positions(self, grid: ClipGrid) -> Tensor | None:
        """Absolute positions N D of a grid; none where positions are rotary or relative."""
        if self.pos_embed is None:
            return None
        native = self.pos_embed[0, -math.prod(self.clip_grid) :]  # N D
        if grid == self.clip_grid:
            return native
        if self.resize_position == "interpolate":
            return resize_table(native, self.clip_grid, grid)
        return TABLES[self.position](grid, self.spec.embed_dim).to(native.device, native.dtype)

    def pyramid(self, x: Tensor) -> list[Tensor]:
        """See `Backbone.pyramid`: four evenly spaced blocks, normed, or `raw_taps`; resampled."""
        evenly = [math.ceil(len(self.blocks) * (i + 1) / 4) - 1 for i in range(4)]
        taps = self.intermediate(x, self.raw_taps or evenly, normed=self.raw_taps is None)
        maps = [token_map(tokens) for tokens in taps]  # B D h w, four times
        height, width = int(x.shape[-2]), int(x.shape[-1])
        sizes = [(height // stride, width // stride) for stride in STRIDES]
        return [_resample(picture, size) for picture, size in zip(maps, sizes, strict=True)]

    def layers(self) -> list[nn.Module]:
        """See `Backbone.layers`; positions and prefix tokens belong to the first."""
        return [self.patch_embed, *self.blocks, self.norm]

    def _make_positions(self, options: VitOptions, width: int) -> None:
        token = options.class_token
        shared = options.position == "relative"
        self.rel_pos = RelativeBias(self.grid, self.heads, class_token=token) if shared else None
        if options.position == "relative_per_block":
            for block in self.blocks:
                attention = block.get_submodule("attn")
                attention.rel_pos = RelativeBias(self.grid, self.heads, class_token=token)
        if options.position == "learned":
            count = options.class_token + math.prod(self.clip_grid)
            self.pos_embed = nn.Parameter(torch.empty(1, count, width))
            nn.init.trunc_normal_(self.pos_embed, std=0.02)
            return
        table = None
        if options.position in TABLES:
            fixed = TABLES[options.position](self.clip_grid, width).clone()[None]
            table = fixed.to(self.patch_embed.weight.device)  # "meta" while counting
        self.register_buffer("pos_embed", table, persistent=False)

    def _through(self, tokens: Tensor, grid: ClipGrid, keep: Tensor | None = None) -> Tokens:
        """All blocks and the final norm."""
        for block, (bias, rope) in zip(self.blocks, self.looks(grid, keep), strict=True):
            tokens = block(tokens, bias, rope)
        return self._tokens(self.norm(tokens), grid)

    def _prefix(self, batch: int) -> list[Tensor]:
        """Class token (with its learned position) and registers, B 1 D and B R D."""
        prefix = []
        if self.cls_token is not None:
            learned = self.pos_embed if self.position == "learned" else None
            prefix.append(self.cls_token if learned is None else self.cls_token + learned[:, :1])
        if self.reg_token is not None:
            prefix.append(self.reg_token)
        return [token.expand(batch, -1, -1) for token in prefix]

    def _rope(self, grid: ClipGrid, keep: Tensor | None) -> Rope | None:
        if self.position not in ROPE_LAYOUTS:
            return None
        device = self.patch_embed.weight.device
        head_dim = self.spec.embed_dim // self.heads
        tables = rope_tables(grid, head_dim, ROPE_LAYOUTS[self.position], device, self.rope_reach)
        rope = tables if keep is None else tables.at(keep)
        return rope.after_prefix(self.num_prefix) if self.num_prefix else rope

    def _tokens(self, tokens: Tensor, grid: ClipGrid) -> Tokens:
        return Tokens(tokens[:, self.num_prefix :], tokens[:, : self.num_prefix], grid)


def gather_tokens(tokens: Tensor, index: Tensor) -> Tensor:
    """Tokens B N D at the indices B K → B K D."""
    return torch.take_along_dim(tokens, index[..., None], dim=1)


def _check(options: VitOptions, width: int, depth: int, heads: int) -> None:
    """Refuse options that do not go together.

    Raises:
        RecipeError: the input is no multiple of the patch, the width none of the heads, or the kind of
            positions does not know clips or registers.
    """
    height_px, width_px = options.input_size
    if height_px % options.patch or width_px % options.patch:
        raise RecipeError(
            "backbone.input_size",
            f"{height_px}×{width_px} pixels is no multiple of the patch, {options.patch}",
            "Use multiples of the patch",
        )
    if width % heads:
        raise RecipeError("backbone.heads", f"width {width} is no multiple of {heads} heads", "Change one")
    if options.position in TABLES and width % 4:
        raise RecipeError("backbone.width", f"{width} is no multiple of 4, as a table needs", "Change it")
    if options.frames % options.tubelet:
        raise RecipeError(
            "backbone.frames",
            f"{options.frames} is no multiple of the tubelet, {options.tubelet}",
            "Change one",
        )
    if options.frames > options.tubelet and options.position in PICTURES_ONLY:
        raise RecipeError(
            "backbone.position",
            f"{options.position} is for pictures, not for clips",
            "Take sincos_3d or rope",
        )
    if options.raw_taps is not None and max(options.raw_taps) >= depth:
        raise RecipeError("backbone.raw_taps", f"block {max(options.raw_taps)} of {depth}", "Count from 0")
    if options.registers and options.position.startswith("relative"):
        raise RecipeError(
            "backbone.registers", "have no place among relative positions", "Take another kind of position"
        )


def _resample(picture: Tensor, size: tuple[int, int]) -> Tensor:
    height, width = max(size[0], 1), max(size[1], 1)
    rows, columns = int(picture.shape[-2]), int(picture.shape[-1])
    if (height < rows or width < columns) and rows % height == columns % width == 0:
        return F.avg_pool2d(picture, (rows // height, columns // width))
    if height < rows or width < columns:
        return F.adaptive_avg_pool2d(picture, (height, width))
    if (height, width) == (rows, columns):
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
