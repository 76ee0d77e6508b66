"""Encoder forward: ViT-B/16 against timm's, rotations from tables and a V-JEPA 2 encoder against plain code.

Run: python benchmarks/bench_encoders.py --size toy. Equality: largest difference of the outputs.
"""

from __future__ import annotations

import argparse
from functools import partial

import timm
import torch
from compare import Sides, main_rows
from reference import vjepa as reference
from torch import Tensor

from insonate.models import build_backbone
from insonate.models.rope import rope_tables, rotate

VITS = {"toy": {"width": 192, "depth": 4, "heads": 3}, "real": {"width": 768, "depth": 12, "heads": 12}}
VIDEOS = {"toy": {"width": 384, "depth": 2, "heads": 6}, "real": {"width": 384, "depth": 6, "heads": 6}}
GRID = (8, 7, 7)


def vit(options: argparse.Namespace, batch: int) -> Sides:
    size = VITS[options.size]
    ours = build_backbone({"name": "vit", "position": "learned", "class_token": True, **size})
    theirs = timm.models.VisionTransformer(
        embed_dim=size["width"], depth=size["depth"], num_heads=size["heads"], num_classes=0
    )
    theirs.load_state_dict(ours.state_dict())
    image = torch.randn(batch, 3, 224, 224, device=options.device)
    ours, theirs = ours.eval().to(options.device), theirs.eval().to(options.device)
    return Sides(
        ours=lambda: quiet(ours, image),
        reference=lambda: quiet(theirs.forward_features, image),
        difference=lambda: gap(joined(quiet(ours, image)), quiet(theirs.forward_features, image)),
        tolerance=1e-4,
        items=batch,
        about="timm's VisionTransformer with the same weights",
    )


def rope(options: argparse.Namespace) -> Sides:
    heads, head_dim = 6, 64
    qk = torch.randn(2, 2, heads, GRID[0] * GRID[1] * GRID[2], head_dim, device=options.device)
    tables = rope_tables(GRID, head_dim, "tiled", qk.device)
    plain = reference.Attention(heads * head_dim, heads, GRID)
    every = torch.arange(qk.shape[3], device=qk.device).expand(2, -1)  # as under masks
    return Sides(
        ours=lambda: quiet(rotate, qk, tables),
        reference=lambda: (quiet(plain.turned, qk[0], every), quiet(plain.turned, qk[1], every)),
        difference=lambda: gap(quiet(rotate, qk, tables)[1], quiet(plain.turned, qk[1], every)),
        tolerance=1e-5,
        items=2,
        about="rotations rebuilt for each tensor and axis (benchmarks/reference/vjepa.py)",
    )


def video(options: argparse.Namespace, kept: int) -> Sides:
    """A whole clip, or as in training only the kept tokens of each: ours then embeds no others."""
    size = VIDEOS[options.size]
    ours = build_backbone({
        "name": "vit", "position": "rope", "frames": 16, "tubelet": 2, "input_size": [112, 112], **size,
    })  # fmt: skip
    theirs = reference.Encoder(grid=GRID, **size).eval()
    theirs.load_state_dict(ours.state_dict())
    whole = kept == GRID[0] * GRID[1] * GRID[2]
    ours, theirs = ours.train(not whole).to(options.device), theirs.to(options.device)
    clip = torch.randn(2, 16, 3, 112, 112, device=options.device)
    turned = clip.transpose(1, 2).contiguous()
    tokens = GRID[0] * GRID[1] * GRID[2]
    some = torch.stack([torch.randperm(tokens)[:kept].sort().values for _ in range(2)]).to(options.device)
    keep = None if whole else some
    return Sides(
        ours=lambda: quiet(ours, clip, keep),
        reference=lambda: quiet(theirs, turned, keep),
        difference=lambda: gap(quiet(ours, clip, keep).patch, quiet(theirs, turned, keep)),
        tolerance=1e-4,
        items=2,
        about="our plain code with the structure of the original (benchmarks/reference/vjepa.py)",
    )


@torch.inference_mode()
def quiet(run, *given):
    return run(*given)


def joined(tokens) -> Tensor:
    return torch.cat([tokens.prefix, tokens.patch], dim=1)


def gap(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max())


if __name__ == "__main__":
    main_rows(
        "encoders",
        {
            "vit_1": partial(vit, batch=1),
            "vit_8": partial(vit, batch=8),
            "rope": rope,
            "vjepa_clip": partial(video, kept=392),
            "vjepa_context": partial(video, kept=164),
        },
    )
