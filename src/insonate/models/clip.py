"""CLIP models: EchoCLIP, EchoCLIP-R and BiomedCLIP, image and text towers, from files of open_clip.

The image tower is the backbone; the projections and the text tower are parts: `image` takes the backbone's
tokens, `text` takes token numbers, and both give vectors of the same space (not yet of length 1).
Source: Christensen et al. 2024 (EchoCLIP, doi 10.1038/s41591-024-02959-y), Cedars-Sinai academic licence;
Zhang et al. 2023 (BiomedCLIP, arXiv 2303.00915), MIT; open_clip. Page: docs/models/clip.md.
Shapes: B items, L token numbers of a text, N patches, D channels, O channels of the common space.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from insonate.models.backbone import Tokens
from insonate.models.parts import PARTS
from insonate.models.transformer import LAYER_NORM_EPS, Block, PostNormBlock, init_transformer
from insonate.options import Options

CLIP_EPS, BERT_EPS = 1e-5, 1e-12
PADDING = 0


class ImageProjectionOptions(Options):
    """Options of the map from an image tower's tokens to the common space."""

    name: Literal["clip_image"] = "clip_image"
    width: int = Field(ge=1, le=8192)
    """channels of a token"""
    outputs: int = Field(ge=1, le=8192)
    """channels of the common space"""
    pool: Literal["mean", "class"] = "mean"
    """norm of the mean of the patch tokens (ConvNeXt), or the class token (ViT)"""


@PARTS.register("clip_image", config=ImageProjectionOptions)
class ImageProjection(nn.Module):
    """Tokens of the image tower → the common space."""

    def __init__(self, options: ImageProjectionOptions) -> None:
        super().__init__()
        self.pool = options.pool
        self.norm = (
            nn.LayerNorm(options.width, eps=LAYER_NORM_EPS) if options.pool == "mean" else nn.Identity()
        )
        self.proj = nn.Linear(options.width, options.outputs, bias=False)

    def forward(self, tokens: Tokens) -> Tensor:
        """Tokens → B O."""
        pooled = tokens.prefix[:, 0] if self.pool == "class" else tokens.patch.mean(dim=1)  # B D
        return self.proj(self.norm(pooled))


class TextOptions(Options):
    """Options of a text tower."""

    name: Literal["clip_text", "bert_text"] = "clip_text"
    width: int = Field(ge=1, le=8192)
    """channels of a token"""
    depth: int = Field(ge=1, le=256)
    """number of blocks"""
    heads: int = Field(ge=1, le=256)
    """attention heads"""
    mlp_ratio: float = Field(default=4.0, gt=0.0, le=16.0)
    """hidden width of the MLPs in widths"""
    context: int = Field(ge=1, le=65536)
    """longest text in tokens"""
    vocabulary: int = Field(ge=1, le=10_000_000)
    """number of different tokens"""
    hidden: int = Field(default=1, ge=1, le=65536)
    """channels between the two layers of BERT's projection"""
    outputs: int = Field(ge=1, le=8192)
    """channels of the common space"""


@PARTS.register("clip_text", config=TextOptions)
class ClipText(nn.Module):
    """CLIP's causal text tower; it is read at the token with the largest number, which ends the text."""

    causal: Tensor

    def __init__(self, options: TextOptions) -> None:
        super().__init__()
        width = options.width
        self.token_embed = nn.Embedding(options.vocabulary, width)
        self.pos_embed = nn.Parameter(torch.zeros(options.context, width))
        self.blocks = nn.ModuleList(
            Block(width, options.heads, options.mlp_ratio, eps=CLIP_EPS) for _ in range(options.depth)
        )
        self.norm = nn.LayerNorm(width, eps=CLIP_EPS)
        self.proj = nn.Linear(width, options.outputs, bias=False)
        seen = torch.ones(options.context, options.context, dtype=torch.bool).tril()
        self.register_buffer("causal", seen, persistent=False)
        init_transformer(self, self.blocks, depth_scaled=False)

    def forward(self, text: Tensor) -> Tensor:
        """Token numbers B L (int64, padded with 0) → B O."""
        length = text.shape[1]
        x = self.token_embed(text) + self.pos_embed[:length]  # B L D
        for block in self.blocks:
            x = block(x, self.causal[:length, :length])
        last = text.argmax(dim=1)  # B
        return self.proj(self.norm(x[torch.arange(len(x), device=x.device), last]))


@PARTS.register("bert_text", config=TextOptions)
class BertText(nn.Module):
    """BERT with a projection of two layers, read at its first token.

    Source: Devlin et al. 2019 (arXiv 1810.04805).
    """

    def __init__(self, options: TextOptions) -> None:
        super().__init__()
        width = options.width
        self.token_embed = nn.Embedding(options.vocabulary, width)
        self.pos_embed = nn.Embedding(options.context, width)
        self.type_embed = nn.Embedding(2, width)
        self.norm = nn.LayerNorm(width, eps=BERT_EPS)
        self.blocks = nn.ModuleList(
            PostNormBlock(width, options.heads, options.mlp_ratio, eps=BERT_EPS) for _ in range(options.depth)
        )
        self.proj = nn.Sequential(
            nn.Linear(width, options.hidden, bias=False), nn.GELU(),
            nn.Linear(options.hidden, options.outputs, bias=False),
        )  # fmt: skip
        init_transformer(self, self.blocks, depth_scaled=False)

    def forward(self, text: Tensor) -> Tensor:
        """Token numbers B L (int64, padded with 0) → B O."""
        places = torch.arange(text.shape[1], device=text.device)
        x = self.token_embed(text) + self.pos_embed(places) + self.type_embed.weight[0]  # B L D
        x = self.norm(x)
        seen = (text != PADDING)[:, None, None, :]  # B 1 1 L
        for block in self.blocks:
            x = block(x, seen)
        return self.proj(x[:, 0])


def similarity(image: Tensor, text: Tensor, logit_scale: Tensor | float) -> Tensor:
    """Cosine similarity times exp(logit_scale), B images × B texts."""
    scale: Any = logit_scale.exp() if isinstance(logit_scale, Tensor) else torch.tensor(logit_scale).exp()
    normed = [side / side.norm(dim=-1, keepdim=True) for side in (image, text)]
    return scale * normed[0] @ normed[1].T
