"""Any model of timm as a backbone: DINOv2, DINOv3, SAM's ViT, Swin, ResNet, … by its timm name.

Weights come from a local file in timm's own layout; nothing is downloaded. Page: docs/models/timm.md.
Shapes: B items, C channels, H W input, N patch tokens, P prefix tokens, D channels.
"""

from __future__ import annotations

import inspect
from typing import Annotated, Any

import timm
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from insonate.errors import RecipeError, nearest
from insonate.models.backbone import BACKBONES, Backbone, BackboneSpec, Tokens
from insonate.models.conventions import Conventions, conventions
from insonate.models.layouts import Bundle, Exportable, exports, register
from insonate.models.vit_weights import size_of
from insonate.options import Options
from insonate.weights.source import Converted, Hints, Source

STRIDES = (4, 8, 16, 32)
Side = Annotated[int, Field(ge=16, le=8192)]


class TimmOptions(Options):
    """Options of `timm`."""

    name: str = "timm"
    model: str = "vit_small_patch14_dinov2"
    """name in timm, see timm.list_models()"""
    input_size: tuple[Side, Side] | None = None
    """native height and width in pixels; none = the model's own"""
    table_size: tuple[Side, Side] | None = None
    """height and width in pixels of stored position tables (SAM resamples them); none = as in timm"""
    drop_path: float = Field(default=0.0, ge=0.0, lt=1.0)
    """stochastic depth: rate of the last block, rising linearly from 0"""
    conventions: Conventions = "imagenet"
    """how media become their input: see docs/models/index.md"""


class TimmBackbone(Backbone):
    """timm's own module; its state has timm's names under `net.`."""

    def __init__(self, options: TimmOptions) -> None:
        super().__init__()
        net: Any = _create(options)
        height, width = options.input_size or net.default_cfg["input_size"][1:]
        self.options = options.model_dump(mode="json")
        self.net: Any = net
        self.num_prefix: int = getattr(net, "num_prefix_tokens", 0)
        reductions = [info["reduction"] for info in net.feature_info]
        patch = int(reductions[-1])
        self.spec = BackboneSpec(
            embed_dim=net.num_features,
            patch=(1, patch, patch),
            input_size=(height, width),
            **conventions(options.conventions),
        )
        self.channels_last: bool = getattr(net, "output_fmt", "NCHW") == "NHWC"

    def forward(self, x: Tensor) -> Tokens:
        """See `Backbone.forward`."""
        features = self.net.forward_features(x)
        if features.ndim == 3:  # B P+N D
            rows, columns = x.shape[-2] // self.spec.patch[1], x.shape[-1] // self.spec.patch[2]
            return Tokens(features[:, self.num_prefix :], features[:, : self.num_prefix], (1, rows, columns))
        picture = features.movedim(-1, 1) if self.channels_last else features  # B D h w
        tokens = picture.flatten(2).transpose(1, 2)  # B N D
        return Tokens(tokens, tokens.new_zeros(x.shape[0], 0, tokens.shape[-1]), (1, *picture.shape[-2:]))

    def pyramid(self, x: Tensor) -> list[Tensor]:
        """See `Backbone.pyramid`: the last four levels that timm gives, resampled to the strides."""
        levels = len(self.net.feature_info)
        indices = [levels - 4 + i for i in range(4)] if levels <= 6 else _evenly(levels)
        maps = self.net.forward_intermediates(
            x, indices=[max(i, 0) for i in indices], output_fmt="NCHW", intermediates_only=True
        )
        height, width = int(x.shape[-2]), int(x.shape[-1])  # plain numbers also in a graph that is exported
        sizes = [(max(height // s, 1), max(width // s, 1)) for s in STRIDES]
        return [_to(picture, size) for picture, size in zip(maps, sizes, strict=True)]

    def layers(self) -> list[nn.Module]:
        """See `Backbone.layers`: embedding, blocks or stages, final norm, as far as timm names them."""
        inner = _first(self.net, ("blocks", "stages", "layers"))
        stem = _first(self.net, ("patch_embed", "stem", "conv1", "conv_stem"))
        norm = _first(self.net, ("norm", "fc_norm")) or nn.Identity()
        if inner is not None and stem is not None:
            return [stem, *inner.children(), norm]
        whole = [part for part in self.net.children() if any(True for _ in part.parameters())]
        return [*(part for part in whole if part is not norm), norm]


def _first(net: nn.Module, names: tuple[str, ...]) -> nn.Module | None:
    """The first of these submodules that there is."""
    return next((getattr(net, name) for name in names if hasattr(net, name)), None)


def _create(options: TimmOptions) -> Any:
    """The module without a classifier.

    Raises:
        RecipeError: timm has no such model, or it cannot have this size.
    """
    if options.model not in timm.list_models():
        raise RecipeError(
            "backbone.model",
            f"timm has no model {options.model!r}",
            nearest(options.model, timm.list_models()),
        )
    wanted: dict[str, Any] = {"num_classes": 0, "drop_path_rate": options.drop_path}
    takes = inspect.signature(timm.models.vision_transformer.VisionTransformer).parameters
    if options.input_size is not None:
        wanted["img_size"] = options.input_size
    try:
        try:
            return timm.create_model(options.model, **wanted, dynamic_img_size="dynamic_img_size" in takes)
        except TypeError:
            wanted.pop("img_size", None)
            if options.table_size is not None:
                wanted["img_size"] = options.table_size
            return timm.create_model(options.model, **wanted)
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise RecipeError("backbone.model", f"{options.model}: {error}", "Try another input_size") from None


@BACKBONES.register("timm", config=TimmOptions)
def timm_any(options: TimmOptions) -> TimmBackbone:
    """Any model of timm, by its name there."""
    return TimmBackbone(options)


def _has_name(bundle: Bundle) -> bool:
    """A folder of timm on the hub: its config.json names the architecture."""
    return str(bundle.config.get("architecture", "")) in timm.list_models()


@register("timm_named", ("timm",), lambda bundle: bool(bundle.state), when="named")
@register("timm", ("timm",), _has_name)
def convert_named(bundle: Bundle, hints: Hints, source: Source) -> Converted:
    """A checkpoint in timm's own layout; its name in timm is said, or in the config.json beside it."""
    name = str(hints.need("timm_name", "many models of timm have the same names and shapes"))
    source.ignore(
        r"(head|fc|classifier|head_dist|head\.fc)\.(weight|bias|fc\.weight|fc\.bias)$", "classifier"
    )
    state = {f"net.{other}": source.take(other) for other in source.names()}
    options: dict[str, Any] = {"name": "timm", "model": name, "input_size": size_of(hints)}
    return Converted(family="timm", backbone=options, state=state)


@exports("timm")
def export_named(model: Exportable) -> dict[str, Any]:
    """Timm's own names."""
    return {name.removeprefix("net."): tensor for name, tensor in model.state.items()}


def _evenly(levels: int) -> list[int]:
    return [-(-levels * (i + 1) // 4) - 1 for i in range(4)]


def _to(picture: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(picture.shape[-2:]) == size:
        return picture
    if size[0] < picture.shape[-2] or size[1] < picture.shape[-1]:
        return F.adaptive_avg_pool2d(picture, size)
    return F.interpolate(picture, size=size, mode="bilinear", align_corners=False)
