"""Encoders that others published: size, cost, licence, and where their weights are.

Costs are of one native input, on two conventions: GFLOPs counts two for a multiplication with its addition,
in all matrix products (attention too); GMACs counts one, in linear layers and convolutions alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from insonate.models.backbone import Backbone
from insonate.models.build import build_backbone

VIDEO = {"frames": 16, "tubelet": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One published encoder."""

    name: str
    family: str
    options: dict[str, Any] = field(hash=False)
    """of the backbone, with its registry name"""
    license: str
    weights: str
    """where they are"""


PUBLISHED = (
    Published(
        name="I-JEPA ViT-H/14", family="ijepa", options={"name": "vit_huge", "patch": 14},
        license="CC BY-NC 4.0", weights="github.com/facebookresearch/ijepa",
    ),
    Published(
        name="V-JEPA 2 ViT-L", family="vjepa", options={"name": "vjepa_large"},
        license="MIT", weights="dl.fbaipublicfiles.com/vjepa2/vitl.pt",
    ),
    Published(
        name="V-JEPA 2 ViT-H", family="vjepa", options={"name": "vjepa_huge"},
        license="MIT", weights="dl.fbaipublicfiles.com/vjepa2/vith.pt",
    ),
    Published(
        name="V-JEPA 2 ViT-g/384", family="vjepa", options={"name": "vjepa_giant", "input_size": [384, 384]},
        license="MIT", weights="dl.fbaipublicfiles.com/vjepa2/vitg-384.pt",
    ),
    Published(
        name="V-JEPA 2.1 ViT-L/384", family="vjepa",
        options={"name": "vjepa21", "width": 1024, "depth": 24, "heads": 16, "rope_reach": 16},
        license="MIT", weights="dl.fbaipublicfiles.com/vjepa2/vjepa2_1_vitl_dist_vitG_384.pt",
    ),
    Published(
        name="EchoJEPA-L", family="echojepa",
        options={"name": "vjepa_large", "input_size": [224, 224], "conventions": "echojepa"},
        license="see its repository", weights="github.com/bowang-lab/EchoJEPA",
    ),
    Published(
        name="VideoMAE ViT-B", family="videomae", options={"name": "videomae_base"},
        license="CC BY-NC 4.0", weights="github.com/MCG-NJU/VideoMAE",
    ),
    Published(
        name="VideoMAE ViT-L", family="videomae", options={"name": "videomae_large"},
        license="CC BY-NC 4.0", weights="github.com/MCG-NJU/VideoMAE",
    ),
    Published(
        name="USFM", family="usfm", options={"name": "usfm"},
        license="CC BY-NC 4.0", weights="github.com/openmedlab/USFM",
    ),
    Published(
        name="TinyUSFM", family="tinyusfm", options={"name": "tinyusfm"},
        license="CC BY-NC 4.0 (distilled)", weights="github.com/MacDunno/TinyUSFM",
    ),
    Published(
        name="EchoCLIP image tower", family="echoclip",
        options={"name": "convnext_base", "conventions": "echoclip", "final_norm": False},
        license="Cedars-Sinai academic", weights="huggingface.co/mkaichristensen/echo-clip",
    ),
    Published(
        name="BiomedCLIP image tower", family="biomedclip",
        options={"name": "vit_base", "position": "learned", "class_token": True, "conventions": "clip"},
        license="MIT", weights="huggingface.co/microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
    ),
    Published(
        name="EchoPrime", family="echoprime", options={"name": "echoprime"},
        license="Cedars-Sinai academic", weights="github.com/echonet/EchoPrime",
    ),
    Published(
        name="PanEcho", family="panecho", options={"name": "panecho"},
        license="CC BY-NC-SA 4.0", weights="github.com/CarDS-Yale/PanEcho",
    ),
    Published(
        name="SONICHU encoder", family="sonichu", options={"name": "vit_base", "input_size": [256, 256]},
        license="Apache-2.0 (data non-commercial)", weights="SONICHU-124M, by its model card",
    ),
    Published(
        name="SonoNet-16", family="sononet", options={"name": "sononet"},
        license="Apache-2.0", weights="github.com/rdroste/SonoNet_PyTorch",
    ),
    Published(
        name="MAE ViT-B/16", family="mae",
        options={"name": "vit_base", "position": "learned", "class_token": True},
        license="CC BY-NC 4.0", weights="github.com/facebookresearch/mae",
    ),
    Published(
        name="DINOv2 ViT-S/14", family="dinov2",
        options={"name": "vit_small", "patch": 14, "position": "learned", "class_token": True,
                 "layer_scale": 0.1, "input_size": [518, 518]},
        license="Apache-2.0", weights="github.com/facebookresearch/dinov2",
    ),
    Published(
        name="DINOv3 ViT-S/16", family="dinov3",
        options={"name": "timm", "model": "vit_small_patch16_dinov3"},
        license="DINOv3 License", weights="github.com/facebookresearch/dinov3",
    ),
    Published(
        name="SAM ViT-B", family="sam", options={"name": "timm", "model": "samvit_base_patch16"},
        license="Apache-2.0", weights="github.com/facebookresearch/segment-anything",
    ),
)  # fmt: skip


def facts(entry: Published) -> dict[str, Any]:
    """What a listing shows of an encoder; it is built without memory."""
    with torch.device("meta"):
        backbone = build_backbone(entry.options).eval()
    flops, macs = cost(backbone)
    spec = backbone.spec
    return {
        "family": entry.family, "license": entry.license, "weights": entry.weights, "options": entry.options,
        "input": [spec.frames, *spec.input_size], "params": sum(p.numel() for p in backbone.parameters()),
        "gflops": round(flops / 1e9, 2), "gmacs": round(macs / 1e9, 2),
    }  # fmt: skip


def cost(backbone: Backbone) -> tuple[int, int]:
    """FLOPs of all matrix products, and MACs of linear layers and convolutions, of one native input."""
    spec = backbone.spec
    device = next(backbone.parameters()).device
    shape = (1, *([spec.frames] if spec.frames > 1 else []), spec.channels, *spec.input_size)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        backbone(torch.empty(shape, device=device))
    total = counter.get_total_flops()
    layers = counter.get_flop_counts()["Global"]
    linear = ("addmm", "aten.mm", "convolution")
    plain = sum(count for kind, count in layers.items() if any(word in str(kind) for word in linear))
    return total, plain // 2
