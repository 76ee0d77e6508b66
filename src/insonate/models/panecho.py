"""PanEcho: a ConvNeXt-T for each frame, a transformer over the frames, and its task heads.

Source: Holste et al. 2025 (doi 10.1001/jama.2025.8731), CarDS-Yale/PanEcho; weights CC BY-NC-SA 4.0.
Page: docs/models/panecho.md.
The authors' code hands a clip to the ConvNeXt as `reshape(BT, C, H, W)` of B C T H W, without moving the
axes: a picture of theirs is three planes that follow each other, all frames of the first channel before those
of the second. Their weights are trained so; it is done here too.
Shapes: B items, T frames, C channels, H W input, D channels, O outputs of a head.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field
from torch import Tensor, nn

from insonate.errors import WeightsError
from insonate.models.backbone import BACKBONES, Backbone, BackboneSpec, Tokens, as_clip
from insonate.models.conventions import Conventions, conventions
from insonate.models.convnext import CustomConvNextOptions, convnext
from insonate.models.layouts import Bundle, Exportable, exports, register
from insonate.models.panecho_tasks import PanEchoHead
from insonate.models.parts import PARTS
from insonate.models.positions import sinusoid
from insonate.models.torchvision_names import convnext_from_torchvision, convnext_to_torchvision
from insonate.models.transformer import LAYER_NORM_EPS, PostNormBlock
from insonate.options import Options
from insonate.weights.source import Converted, Hints, Part, Source

LICENSE = "CC BY-NC-SA 4.0"
TRANSFORMER_EPS = 1e-5
Size = Annotated[int, Field(ge=1, le=8192)]
TURNED = frozenset({
    "MVStenosis", "AVStructure", "RASize", "RVSystolicFunction", "LVWallThickness-increased-modsev",
    "LVWallThickness-increased-any", "pericardial-effusion",
})  # fmt: skip
"""heads whose output, a logit too, the authors give as 1 - output"""
LAYERS = {
    "self_attn.in_proj_weight": "attn.qkv.weight", "self_attn.in_proj_bias": "attn.qkv.bias",
    "self_attn.out_proj.weight": "attn.proj.weight", "self_attn.out_proj.bias": "attn.proj.bias",
    "linear1.weight": "mlp.fc1.weight", "linear1.bias": "mlp.fc1.bias", "linear2.weight": "mlp.fc2.weight",
    "linear2.bias": "mlp.fc2.bias",
}  # fmt: skip


class PanEchoOptions(CustomConvNextOptions):
    """Options of PanEcho's encoder."""

    name: str = "panecho"
    frames: int = Field(default=16, ge=1, le=1024)
    """frames of a native clip; others work too"""
    depths: tuple[Size, Size, Size, Size] = (3, 3, 9, 3)
    widths: tuple[Size, Size, Size, Size] = (96, 192, 384, 768)
    final_norm: bool = False
    layers: int = Field(default=4, ge=1, le=64)
    """blocks over the frames"""
    heads: int = Field(default=8, ge=1, le=256)
    """attention heads over the frames"""
    mlp_ratio: float = Field(default=1.0, gt=0.0, le=16.0)
    """hidden width of the MLPs over the frames, in widths"""
    conventions: Conventions = "panecho"


class FrameTransformer(Backbone):
    """A token a frame: pooled features of the picture, told its time, after attention over the clip."""

    def __init__(self, options: PanEchoOptions) -> None:
        super().__init__()
        self.options = options.model_dump(mode="json")
        width = options.widths[-1]
        self.spec = BackboneSpec(
            embed_dim=width, patch=(1, *options.input_size), input_size=options.input_size,
            frames=options.frames, **conventions(options.conventions),
        )  # fmt: skip
        self.image = convnext(options)
        self.image_norm = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.blocks = nn.ModuleList(
            PostNormBlock(width, options.heads, options.mlp_ratio, mlp="relu", eps=TRANSFORMER_EPS)
            for _ in range(options.layers)
        )

    def forward(self, x: Tensor) -> Tokens:
        """See `Backbone.forward`; the mean of the patch tokens is what the authors' encoder gives."""
        clip = as_clip(x, self.spec)
        pooled = self.image(_pictures(clip)).patch.mean(dim=1)  # BT D
        tokens = self.image_norm(pooled).unflatten(0, clip.shape[:2])  # B T D
        tokens = tokens + times(clip.shape[1], tokens.shape[-1]).to(tokens)
        for block in self.blocks:
            tokens = block(tokens)
        return Tokens(tokens, tokens.new_zeros(tokens.shape[0], 0, tokens.shape[-1]), (clip.shape[1], 1, 1))

    def pyramid(self, x: Tensor) -> list[Tensor]:
        """See `Backbone.pyramid`: of the frames, averaged."""
        clip = as_clip(x, self.spec)
        maps = self.image.pyramid(_pictures(clip))  # BT D' h w
        return [one.reshape(*clip.shape[:2], *one.shape[1:]).mean(dim=1) for one in maps]

    def layers(self) -> list[nn.Module]:
        """See `Backbone.layers`."""
        return [*self.pyramid_layers(), self.image_norm, *self.blocks]

    def pyramid_layers(self) -> list[nn.Module]:
        """See `Backbone.pyramid_layers`: nothing over the frames."""
        return self.image.layers()[:-1]


def _pictures(clip: Tensor) -> Tensor:
    """B T C H W → BT C H W, as the authors cut it: see the module."""
    return clip.transpose(1, 2).reshape(-1, *clip.shape[2:])


def times(count: int, dim: int) -> Tensor:
    """Sines and cosines of the frame's number, in turn, T D: as in the first transformer."""
    return sinusoid((count, 1, 1), dim)


@BACKBONES.register("panecho", config=PanEchoOptions)
def panecho(options: PanEchoOptions) -> FrameTransformer:
    """PanEcho's ConvNeXt-T with a transformer over the frames, 42.0 M parameters: clips of 16 frames."""
    return FrameTransformer(options)


class HeadsOptions(Options):
    """Options of PanEcho's heads."""

    name: Literal["panecho_heads"] = "panecho_heads"
    width: int = Field(ge=1, le=8192)
    """channels of a token"""
    outputs: dict[str, int]
    """name of a head → its outputs"""


@PARTS.register("panecho_heads", config=HeadsOptions)
class PanEchoHeads(nn.Module):
    """A linear layer a task on the mean of the tokens."""

    def __init__(self, options: HeadsOptions) -> None:
        super().__init__()
        self.heads = nn.ModuleDict(
            {name: nn.Linear(options.width, count) for name, count in options.outputs.items()}
        )

    def task_head(self, name: str) -> PanEchoHead:
        """The head of a name as the head of a task, sharing its weights."""
        return PanEchoHead(name, self.heads[name])

    def forward(self, tokens: Tokens) -> dict[str, Tensor]:
        """Tokens → name of a task → B O, as the authors' model gives it: see `TURNED`."""
        pooled = tokens.patch.mean(dim=1)  # B D
        found = {name: head(pooled) for name, head in self.heads.items()}
        return {name: 1 - value if name in TURNED else value for name, value in found.items()}


def _is_panecho(bundle: Bundle) -> bool:
    return bundle.has(
        r"(encoder\.)?encoder\.model\.features\.0\.0\.weight",
        r"(encoder\.)?transformer\.layers\.0\.linear1\.weight",
    )


@register("panecho", ("panecho",), _is_panecho)
def convert_panecho(bundle: Bundle, hints: Hints, source: Source) -> Converted:
    """Encoder and task heads, or the encoder alone."""
    prefix = "encoder." if source.names(r"encoder\.encoder\.") else ""
    source.ignore(r".*time_encoder\.pe$", "computed from the time")
    image = source.below(f"{prefix}encoder.model.")
    options, picture, norm = convnext_from_torchvision(image)
    state = {f"image.{name}": tensor for name, tensor in picture.items()}
    state |= {f"image_norm.{name}": tensor for name, tensor in norm.items()}
    for name, tensor in source.take_prefix(f"{prefix}transformer.layers.").items():
        number, inside = name.split(".", 1)
        state[f"blocks.{number}.{LAYERS.get(inside, inside)}"] = tensor
    width = options["widths"][-1]
    options |= {
        "name": "panecho", "layers": 1 + max(int(n.split(".")[1]) for n in state if n.startswith("blocks.")),
        "heads": hints.assume("heads", 8, "as published"),
        "mlp_ratio": state["blocks.0.mlp.fc1.weight"].shape[0] / width,
    }  # fmt: skip
    heads = {
        name.removesuffix("_head.1.weight"): source.take(name)
        for name in source.names(r".*_head\.1\.weight$")
    }
    parts = {}
    if heads:
        weights = {f"heads.{name}.weight": tensor for name, tensor in heads.items()}
        weights |= {f"heads.{name}.bias": source.take(f"{name}_head.1.bias") for name in heads}
        outputs = {name: len(tensor) for name, tensor in heads.items()}
        part = {"name": "panecho_heads", "width": width, "outputs": outputs}
        parts["heads"] = Part(options=part, state=weights)
    return Converted(family="panecho", backbone=options, state=state, parts=parts, info={"license": LICENSE})


@exports("panecho")
def export_panecho(model: Exportable) -> dict[str, Any]:
    """Encoder and heads as the authors' release has them, times of the frames too.

    Raises:
        WeightsError: it is no PanEcho.
    """
    if model.backbone["name"] != "panecho":
        raise WeightsError("model", "is no PanEcho", "Take another layout")
    image = {n.removeprefix("image."): t for n, t in model.state.items() if n.startswith("image.")}
    official = {f"encoder.encoder.model.{n}": t for n, t in convnext_to_torchvision(image).items()}
    for end in ("weight", "bias"):
        official[f"encoder.encoder.model.classifier.0.{end}"] = model.state[f"image_norm.{end}"]
    theirs = {ours: name for name, ours in LAYERS.items()}
    for name, tensor in model.state.items():
        kind, _, rest = name.partition(".")
        number, _, inside = rest.partition(".")
        if kind == "blocks":
            official[f"encoder.transformer.layers.{number}.{theirs.get(inside, inside)}"] = tensor
    width = len(model.state["image_norm.bias"])
    official["encoder.time_encoder.pe"] = times(model.backbone["frames"], width)[None].clone()
    for name, tensor in model.parts.get("heads", {}).items():
        head, _, end = name.removeprefix("heads.").rpartition(".")
        official[f"{head}_head.1.{end}"] = tensor
    return {"weights": official}
