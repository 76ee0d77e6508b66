"""Heads: small modules that turn a backbone's tokens or pyramid into what a task needs.

Shapes: B items, N patch tokens, D channels, O outputs, K points, h w token grid, H W maps, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from insonate.models.backbone import Backbone, Tokens, token_map
from insonate.models.sononet import SonoNetHead
from insonate.models.transformer import LAYER_NORM_EPS

FINAL_STD, FIRST_TAU = 0.036, 1.0
"""start of the last convolution and of the sharpness: ViTPose's 0.001 with 1 starts from a flat map; 0.01
with 10 starts as well but learns less steadily at rates of 5e-4 and above"""


class LinearHead(nn.Module):
    """A linear layer on the mean of the patch tokens."""

    def __init__(self, embed_dim: int, outputs: int) -> None:
        super().__init__()
        self.final = _small_linear(embed_dim, outputs)

    def forward(self, tokens: Tokens) -> Tensor:
        """Tokens → B O."""
        return self.final(tokens.patch.mean(dim=1))  # B O


class LinearProbeHead(nn.Module):
    """`LinearHead` after a BatchNorm without weights: features of any scale are read equally well.

    Source: He et al. 2022 (MAE, arXiv 2111.06377), app. A.1, linear probing.
    """

    def __init__(self, embed_dim: int, outputs: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(embed_dim, affine=False, eps=1e-6)
        self.final = _small_linear(embed_dim, outputs)

    def forward(self, tokens: Tokens) -> Tensor:
        """Tokens → B O."""
        return self.final(self.norm(tokens.patch.mean(dim=1).float()))  # B O


class NormLinearHead(nn.Module):
    """Norm and a linear layer on the mean of the patch tokens, as in BEiT's and USFM's fine-tunes."""

    def __init__(self, embed_dim: int, outputs: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(embed_dim, eps=LAYER_NORM_EPS)
        self.final = _small_linear(embed_dim, outputs)

    def forward(self, tokens: Tokens) -> Tensor:
        """Tokens → B O."""
        return self.final(self.norm(tokens.patch.mean(dim=1)))  # B O


class ClassTokenHead(nn.Module):
    """A linear layer on the class token, or on the mean of the patch tokens where there is none."""

    def __init__(self, embed_dim: int, outputs: int) -> None:
        super().__init__()
        self.final = _small_linear(embed_dim, outputs)

    def forward(self, tokens: Tokens) -> Tensor:
        """Tokens → B O."""
        read = tokens.prefix[:, 0] if tokens.prefix.shape[1] else tokens.patch.mean(dim=1)  # B D
        return self.final(read)  # B O


class AttentiveHead(nn.Module):
    """One learned query looks at all patch tokens; a linear layer on what it saw.

    Source: Bardes et al. 2024 (V-JEPA, arXiv 2404.08471), sec. 4: attentive probe, here without its MLP.
    """

    def __init__(self, embed_dim: int, outputs: int) -> None:
        super().__init__()
        self.num_heads = embed_dim // 64 if embed_dim % 64 == 0 else 1
        self.query = nn.Parameter(torch.empty(1, 1, embed_dim))
        nn.init.trunc_normal_(self.query, std=0.02)
        self.norm = nn.LayerNorm(embed_dim)
        self.key_value = nn.Linear(embed_dim, 2 * embed_dim)
        self.project = nn.Linear(embed_dim, embed_dim)
        self.final = _small_linear(embed_dim, outputs)

    def forward(self, tokens: Tokens) -> Tensor:
        """Tokens → B O."""
        batch = tokens.patch.shape[0]
        keys, values = self.key_value(self.norm(tokens.patch)).chunk(2, dim=-1)  # B N D, twice
        query = self.query.expand(batch, -1, -1).to(keys.dtype)  # B 1 D
        seen = functional.scaled_dot_product_attention(
            self._split(query), self._split(keys), self._split(values)
        )  # B heads 1 d
        pooled = seen.transpose(1, 2).reshape(batch, -1)  # B D
        return self.final(pooled + self.project(pooled))  # B O

    def _split(self, tokens: Tensor) -> Tensor:
        return tokens.view(*tokens.shape[:2], self.num_heads, -1).transpose(1, 2)  # B heads N d


class PointMaps(nn.Module):
    """A 1×1 convolution: one unnormalised map a point, times a learned sharpness."""

    def __init__(self, width: int, num_points: int) -> None:
        super().__init__()
        self.final = nn.Conv2d(width, num_points, kernel_size=1)
        self.log_tau = nn.Parameter(torch.tensor([math.log(FIRST_TAU)]))  # 1-D: FSDP2 shards no scalars
        nn.init.normal_(self.final.weight, std=FINAL_STD)
        nn.init.zeros_(self.final.bias)  # type: ignore[arg-type]  # bias=True

    def forward(self, features: Tensor) -> Tensor:
        """Features B width h w → heat maps B K h w, fp32: logits times tau."""
        return self.final(features).float() * self.log_tau.float().exp()


class ViTPoseHead(PointMaps):
    """Two deconvolutions and a 1×1 convolution: one unnormalised map a point, at 4 times the token grid.

    K = 4 on 768 channels has 4,196,356 parameters, and `log_tau`. Source: Xu et al. 2022 (ViTPose, arXiv
    2204.12484), classic decoder; `log_tau` and the start of `final` are ours.
    """

    def __init__(self, embed_dim: int, num_points: int, width: int = 256) -> None:
        super().__init__(width, num_points)
        self.deconv = doubled_twice(embed_dim, width, nn.BatchNorm2d)

    def forward(self, tokens: Tokens) -> Tensor:  # type: ignore[override]  # a head reads tokens
        """Tokens → heat maps B K 4h 4w, fp32."""
        return super().forward(self.deconv(token_map(tokens)))


def doubled_twice(embed_dim: int, width: int, norm: Callable[[int], nn.Module]) -> nn.Sequential:
    """ViTPose's trunk: B D h w → B width 4h 4w by two transposed convolutions with norm and ReLU."""
    layers = [*_doubling(embed_dim, width, norm), *_doubling(width, width, norm)]
    for layer in layers:
        if isinstance(layer, nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, std=0.001)
    return nn.Sequential(*layers)


def pyramid_channels(backbone: Backbone) -> list[int]:
    """Channels of the four maps of `backbone.pyramid`, by one look at an empty picture."""
    was_training = backbone.training
    backbone.eval()
    device = next(backbone.parameters()).device
    with torch.no_grad():
        empty = torch.zeros(1, backbone.spec.channels, *backbone.spec.input_size, device=device)
        channels = [level.shape[1] for level in backbone.pyramid(empty)]
    backbone.train(was_training)
    return channels


POOLED_HEADS: dict[str, Callable[[int, int], nn.Module]] = {
    "linear": LinearHead,
    "linear_probe": LinearProbeHead,
    "attentive": AttentiveHead,
    "norm_linear": NormLinearHead,
    "class_token": ClassTokenHead,
    "sononet": SonoNetHead,
}
"""heads that give one vector an item, by their name in recipes"""


def _doubling(before: int, after: int, norm: Callable[[int], nn.Module]) -> tuple[nn.Module, ...]:
    up = nn.ConvTranspose2d(before, after, kernel_size=4, stride=2, padding=1, bias=False)
    return up, norm(after), nn.ReLU(inplace=True)


def _small_linear(before: int, after: int) -> nn.Linear:
    layer = nn.Linear(before, after)
    nn.init.trunc_normal_(layer.weight, std=0.02)
    nn.init.zeros_(layer.bias)
    return layer
