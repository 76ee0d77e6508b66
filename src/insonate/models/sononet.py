"""SonoNet: a small VGG that tells the standard planes of the fetal anomaly scan.

Source: Baumgartner et al. 2017 (arXiv 1612.05601), weights of rdroste/SonoNet_PyTorch, Apache-2.0.
Page: docs/models/sononet.md. Shapes: B items, H W input, N = H/16 · W/16 tokens, D channels, O outputs.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from insonate.models.backbone import BACKBONES, Backbone, BackboneSpec, Tokens
from insonate.models.conventions import conventions
from insonate.models.layouts import Bundle, Exportable, exports, register
from insonate.models.vit_weights import class_names
from insonate.options import Options
from insonate.weights.source import Converted, Hints, Source

STRIDE = 16
CONVOLUTIONS = (2, 2, 3, 3, 3)
"""of each block; a pooling of 2 follows the first four"""
EPS, DEVIATION = 1e-4, 255.0
PLANES = (
    "3VV", "4CH", "ABDOMINAL", "BACKGROUND", "BRAIN-CB", "BRAIN-TV", "FEMUR", "KIDNEYS", "LIPS", "LVOT",
    "PROFILE", "RVOT", "SPINE-CORONAL", "SPINE-SAGITTAL",
)  # fmt: skip
Side = Annotated[int, Field(ge=16, le=8192, multiple_of=STRIDE)]


class SonoNetOptions(Options):
    """Options of SonoNet-16, -32 and -64."""

    name: str = "sononet"
    input_size: tuple[Side, Side] = (288, 224)
    """native height and width in pixels, multiples of 16"""
    patch: Literal[16] = 16
    """stride of the last block in pixels"""
    width: int = Field(default=16, ge=1, le=512)
    """channels of the first block: 16, 32 or 64"""


class SonoNet(Backbone):
    """Five blocks of convolutions on the mean of the colours; each picture is normed by itself."""

    def __init__(self, options: SonoNetOptions) -> None:
        super().__init__()
        self.options = options.model_dump(mode="json")
        widths = [options.width * factor for factor in (1, 2, 4, 8, 8)]
        self.spec = BackboneSpec(
            embed_dim=widths[-1],
            patch=(1, STRIDE, STRIDE),
            input_size=options.input_size,
            **conventions("sononet"),
        )
        self.features = nn.ModuleList()
        before = 1
        for width, count in zip(widths, CONVOLUTIONS, strict=True):
            self.features.append(
                nn.Sequential(*(_layer(before if i == 0 else width, width) for i in range(count)))
            )
            before = width
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tokens:
        """See `Backbone.forward`; each picture is first brought to mean 0 and deviation 255."""
        last = self._maps(x)[-1]  # B D h w
        tokens = last.flatten(2).transpose(1, 2)  # B N D
        return Tokens(tokens, tokens.new_zeros(x.shape[0], 0, tokens.shape[-1]), (1, *last.shape[-2:]))

    def pyramid(self, x: Tensor) -> list[Tensor]:
        """See `Backbone.pyramid`: strides 4, 8, 16, and the last one pooled once more."""
        maps = self._maps(x)
        return [*maps[2:], self.pool(maps[-1])]

    def layers(self) -> list[nn.Module]:
        """See `Backbone.layers`: every convolution with its norm; the last is that before the head."""
        return [layer for block in self.features for layer in block.children()]

    def _maps(self, x: Tensor) -> list[Tensor]:
        """Outputs of the five blocks, strides 1, 2, 4, 8, 16."""
        x = x.mean(dim=1, keepdim=True)  # B 1 H W
        deviation, mean = torch.std_mean(x, dim=(1, 2, 3), correction=0, keepdim=True)  # B 1 1 1
        x = (x - mean) * (DEVIATION / deviation.clamp(min=1e-6))
        maps = []
        for i, block in enumerate(self.features):
            x = block(self.pool(x) if i else x)
            maps.append(x)
        return maps


class SonoNetHead(nn.Module):
    """Two 1×1 convolutions with norms, as linear layers on the tokens, and the mean over places."""

    def __init__(self, embed_dim: int, outputs: int) -> None:
        super().__init__()
        self.hidden = nn.Conv1d(embed_dim, embed_dim // 2, 1, bias=False)
        self.hidden_norm = nn.BatchNorm1d(embed_dim // 2, eps=EPS)
        self.final = nn.Conv1d(embed_dim // 2, outputs, 1, bias=False)
        self.final_norm = nn.BatchNorm1d(outputs, eps=EPS)

    def forward(self, tokens: Tokens) -> Tensor:
        """Tokens → B O."""
        x = tokens.patch.transpose(1, 2)  # B D N
        x = self.hidden_norm(self.hidden(x)).relu()  # B D/2 N
        return self.final_norm(self.final(x)).mean(dim=2)  # B O


def _layer(before: int, after: int) -> nn.Sequential:
    convolution = nn.Conv2d(before, after, 3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(after, eps=EPS), nn.ReLU())


@BACKBONES.register("sononet", config=SonoNetOptions)
def sononet(options: SonoNetOptions) -> SonoNet:
    """SonoNet-16, 0.9 M parameters (width 32: 3.5 M, 64: 13.7 M), on grey levels."""
    return SonoNet(options)


def _is_sononet(bundle: Bundle) -> bool:
    return bundle.has(r"features\.0\.0\.0\.weight", r"adaption\.0\.weight", r"adaption\.3\.weight")


@register("sononet", ("sononet",), _is_sononet)
def convert_sononet(bundle: Bundle, hints: Hints, source: Source) -> Converted:
    """Encoder and classifier."""
    state = {f"features.{name}": tensor for name, tensor in source.take_prefix("features.").items()}
    places = {"0": "hidden", "1": "hidden_norm", "3": "final", "4": "final_norm"}
    head = {}
    for name, tensor in source.take_prefix("adaption.").items():
        number, end = name.split(".")
        head[f"{places.get(number, number)}.{end}"] = tensor[..., 0] if tensor.ndim == 4 else tensor
    width = state["features.0.0.0.weight"].shape[0]
    size = tuple(hints.get("input_size") or (288, 224))
    return Converted(
        family="sononet", backbone={"name": "sononet", "width": width, "input_size": size}, state=state,
        task={
            "name": "classification", "column": "plane", "head": "sononet",
            "classes": class_names(len(head["final_norm.bias"]), hints, PLANES),
        },
        head=head, info={"license": "Apache-2.0"},
    )  # fmt: skip


@exports("sononet")
def export_sononet(model: Exportable) -> dict[str, Any]:
    """Encoder and classifier under the authors' names."""
    places = {"hidden": "0", "hidden_norm": "1", "final": "3", "final_norm": "4"}
    official = dict(model.state)
    for name, tensor in model.head.items():
        place, end = name.split(".")
        official[f"adaption.{places[place]}.{end}"] = tensor[..., None] if tensor.ndim == 3 else tensor
    return official
