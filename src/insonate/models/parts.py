"""Parts: modules that come with an official encoder (predictor, decoder, text tower, probe), by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field
from torch import Tensor, nn

from insonate.models.build import resolve
from insonate.models.registry import Registry
from insonate.models.transformer import LAYER_NORM_EPS
from insonate.options import Options

PARTS: Registry[nn.Module] = Registry("part")


def build_part(options: Mapping[str, Any]) -> nn.Module:
    """The part that `options` (with its `name`) describe.

    Raises:
        RecipeError: an unknown name, an unknown option, or a value out of range.
    """
    entry, config = resolve(PARTS, options)
    return entry.make(config)


class PoolNormOptions(Options):
    """Options of the norm after the pooling of tokens."""

    name: Literal["pool_norm"] = "pool_norm"
    width: int = Field(ge=1, le=8192)
    """channels of a token"""


@PARTS.register("pool_norm", config=PoolNormOptions)
class PoolNorm(nn.Module):
    """Norm of the mean of the patch tokens."""

    def __init__(self, options: PoolNormOptions) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(options.width, eps=LAYER_NORM_EPS)

    def forward(self, tokens: Tensor) -> Tensor:
        """Patch tokens B N D → B D."""
        return self.norm(tokens.mean(dim=1))
