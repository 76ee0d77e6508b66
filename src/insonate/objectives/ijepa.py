"""I-JEPA: predict the teacher's features of hidden blocks from the visible ones.

Source: Assran et al. 2023 (arXiv 2301.08243), sec. 3. Page: docs/methods/ijepa.md.
Shapes: B images, N patches, E contexts of K tokens and T targets of M tokens an image, D channels.

The loss falls steeply in the first hundreds of steps and then rises for many epochs: at first the target is
almost a function of position alone (`position_r2` near 1), later of the image. Never choose a checkpoint by
this loss.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor

from insonate.data.sample import Batch
from insonate.errors import RecipeError
from insonate.models.backbone import Backbone
from insonate.models.ema import ema_update, teacher_of
from insonate.models.masking import MaskOptions, make_sampler
from insonate.models.predictor import Predictor
from insonate.models.trainable import Losses
from insonate.models.vit import VisionTransformer, gather_tokens
from insonate.objectives.base import OBJECTIVES, Objective, ObjectiveConfig

Momentum = Annotated[float, Field(ge=0.0, le=1.0)]


class IJepaConfig(ObjectiveConfig, MaskOptions):
    """Defaults are the published ones, for ViT-B; masks are drawn by our mended sampler."""

    name: str = "ijepa"
    ema: tuple[Momentum, Momentum] = (0.996, 1.0)
    """momentum of the teacher at the first step and at the end"""
    predictor_width: int = Field(default=384, ge=4, le=4096)
    """channels of the predictor, a multiple of 4 and of its heads"""
    predictor_depth: int = Field(default=6, ge=1, le=64)
    """blocks of the predictor"""
    predictor_heads: int | None = Field(default=None, ge=1, le=256)
    """attention heads of the predictor; none = as many as the encoder"""
    predictor_mlp_ratio: float = Field(default=4.0, gt=0.0, le=16.0)
    """hidden width of the predictor's MLPs in its widths"""

    @model_validator(mode="after")
    def _rising(self) -> IJepaConfig:
        if self.ema[0] > self.ema[1]:
            raise ValueError("ema falls; the momentum must not fall during training")
        return self


@OBJECTIVES.register("ijepa", config=IJepaConfig)
class IJepa(Objective):
    """Student and predictor learn by gradient; the teacher is the student's moving average."""

    floors = MappingProxyType({"target_std": 0.05, "effective_rank": 1.01})

    def __init__(self, backbone: Backbone, config: IJepaConfig) -> None:
        super().__init__()
        if not isinstance(backbone, VisionTransformer):
            raise RecipeError(
                "objective.name",
                "ijepa needs an encoder that can look at some of its patches, not a "
                f"{type(backbone).__name__}",
                "Choose a vit backbone",
            )
        make_sampler(config, backbone.grid)  # refuses masks that do not fit the grid, before any training
        self.config = config
        self.backbone: VisionTransformer = backbone
        self.teacher = teacher_of(backbone)
        self.predictor = Predictor(
            backbone.spec.embed_dim,
            backbone.grid,
            width=config.predictor_width,
            depth=config.predictor_depth,
            heads=config.predictor_heads or backbone.heads,
            mlp_ratio=config.predictor_mlp_ratio,
            depth_scaled_init=bool(backbone.options["depth_scaled_init"]),
        )

    def forward(self, batch: Batch) -> Losses:
        """See `Objective.forward`; masks come from the batch's seeds."""
        image = batch["image"]
        sampler = make_sampler(self.config, self.backbone.grid_of(image))
        contexts, targets = (
            torch.from_numpy(index).to(image.device, non_blocking=True)
            for index in sampler.sample(batch["step_seed"], batch["item_seed"])
        )
        return self.loss(image, contexts, targets)

    def loss(self, image: Tensor, contexts: Tensor, targets: Tensor) -> Losses:
        """The loss for given masks.

        Args:
            image: B C H W.
            contexts: E B K, indices of visible patches.
            targets: T B M, indices of patches to predict.
        """
        features = self.target_features(image)  # B N D
        hidden = gather_targets(features, targets, contexts.shape[0])  # TEB M D
        predicted = self.predict(image, contexts, targets)  # TEB M D
        total = F.smooth_l1_loss(predicted.float(), hidden)
        return Losses(total, describe(features))

    @torch.no_grad()
    def target_features(self, image: Tensor) -> Tensor:
        """The teacher's tokens, each normed to mean 0 and variance 1 over its channels: B N D, float32."""
        tokens = self.teacher(image).patch.float()
        return F.layer_norm(tokens, tokens.shape[-1:])

    def predict(self, image: Tensor, contexts: Tensor, targets: Tensor) -> Tensor:
        """The prediction of every target from every context, T·E·B M D (see `Predictor.forward`)."""
        num_contexts = contexts.shape[0]
        seen = image if num_contexts == 1 else image.repeat(num_contexts, 1, 1, 1)  # EB C H W
        visible = self.backbone(seen, contexts.flatten(0, 1)).patch  # EB K D
        return self.predictor(visible, contexts, targets, self.backbone.grid_of(image))

    def after_step(self, progress: float) -> dict[str, float]:
        """Move the teacher; its momentum rises linearly with progress."""
        start, end = self.config.ema
        momentum = start + (end - start) * min(max(progress, 0.0), 1.0)
        ema_update(self.teacher, self.backbone, momentum)
        return {"ema_momentum": momentum}

    def encoder_for_export(self) -> Backbone:
        """The teacher, which the paper evaluates."""
        return self.teacher


def gather_targets(features: Tensor, targets: Tensor, num_contexts: int) -> Tensor:
    """Features B N D at targets T B M → T·E·B M D, rows in the order of the predictor's output."""
    rows = torch.stack([gather_tokens(features, index) for index in targets])  # T B M D
    return rows[:, None].expand(-1, num_contexts, -1, -1, -1).flatten(0, 2)


@torch.no_grad()
def describe(features: Tensor) -> dict[str, Tensor]:
    """Health of the target features, B N D; a collapse shows in the last two going to 0 and 1.

    Returns:
        position_r2: share of their variance that the mean of each position explains; falls as they learn.
        target_std: standard deviation over patches and images, mean of the channels.
        effective_rank: effective rank (Σλ)² / Σλ² of the images' mean features, at most B - 1: left out where
            that is below 2.
    """
    by_channel = features.flatten(0, 1)  # BN D
    with torch.autocast(features.device.type, enabled=False):  # in half precision the trace overflows
        gram = _gram(features)  # B B
    total = by_channel.var(0, correction=0)  # D
    position = features.mean(0).var(0, correction=0)  # D
    tiny = torch.finfo(gram.dtype).tiny
    health = {
        "position_r2": position.sum() / total.sum().clamp_min(tiny),
        "target_std": total.sqrt().mean(),
    }
    if len(features) > 2:
        health["effective_rank"] = gram.trace() ** 2 / gram.square().sum().clamp_min(tiny)
    return health


def _gram(features: Tensor) -> Tensor:
    """Products of the images' mean features (B N D) about their mean, B B."""
    pooled = features.mean(1)  # B D
    pooled = pooled - pooled.mean(0)
    return pooled @ pooled.T
