"""A model and a loader small enough to train in milliseconds, with the interfaces of the real ones."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from insonate.data.sample import Batch, Meta
from insonate.models.backbone import Backbone, BackboneSpec, Tokens
from insonate.models.trainable import Losses


def mix(*numbers: int) -> int:
    return int.from_bytes(hashlib.blake2b(repr(numbers).encode(), digest_size=8).digest(), "little")


class ToyBackbone(Backbone):
    spec = BackboneSpec(embed_dim=8, patch=(1, 4, 4), input_size=(4, 4), channels=1)

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(16, 8)
        self.blocks = nn.ModuleList(
            [nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Dropout(0.1)) for _ in range(2)]
        )
        self.norm = nn.LayerNorm(8)
        self.position = nn.Parameter(torch.zeros(1, 8))

    def forward(self, x: Tensor) -> Tokens:
        tokens = self.embed(x.flatten(1)) + self.position  # B D
        for block in self.blocks:
            tokens = block(tokens)
        tokens = self.norm(tokens)[:, None]  # B 1 D
        return Tokens(tokens, tokens[:, :0], (1, 1, 1))

    def pyramid(self, x: Tensor) -> list[Tensor]:
        return [self(x).patch[..., None]] * 4

    def layers(self) -> list[nn.Module]:
        return [self.embed, *self.blocks, self.norm]


class ToyTask(nn.Module):
    """Regression of the brightness, with an EMA of the head and dropout."""

    def __init__(self, seed: int = 0, dropout: float = 0.1) -> None:
        super().__init__()
        self.floors = {"bias": -100.0}
        torch.manual_seed(seed)
        self.backbone = ToyBackbone()
        self.head = nn.Linear(8, 1)
        self.teacher = nn.Linear(8, 1).requires_grad_(False)
        for module in self.modules():
            if isinstance(module, nn.Dropout):
                module.p = dropout

    def forward(self, batch: Batch) -> Losses:
        value = self.head(self.backbone(batch["image"]).patch[:, 0])[:, 0]
        loss = nn.functional.mse_loss(value, batch["value"])
        return Losses(loss, {"bias": value.mean().detach()})

    @torch.no_grad()
    def after_step(self, progress: float) -> dict[str, float]:
        weight = 0.1 * (1 - progress)
        for mean, new in zip(self.teacher.parameters(), self.head.parameters(), strict=True):
            mean.lerp_(new, weight)
        return {"weight": weight}


class ToyLoader:
    """Batches as a pure function of (seed, epoch, step); ranks take slices of the same global batch."""

    def __init__(self, items: int = 24, batch: int = 4, seed: int = 0, poison: str | None = None) -> None:
        self.items, self.batch, self.seed, self.poison = items, batch, seed, poison
        self.sampler = SimpleNamespace(rank=0, world=1)
        self.started: list[tuple[int, int]] = []
        self.before_batch = lambda epoch, step: None

    def __len__(self) -> int:
        return self.items // (self.batch * self.sampler.world)

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        self.started.append((epoch, start_step))
        order = torch.randperm(
            self.items, generator=torch.Generator().manual_seed(mix(self.seed, epoch))
        ).tolist()
        width = self.batch * self.sampler.world
        for step in range(start_step, len(self)):
            self.before_batch(epoch, step)
            chosen = order[step * width : (step + 1) * width][self.sampler.rank * self.batch :][: self.batch]
            yield self._batch(chosen, epoch, step)

    def _batch(self, chosen: list[int], epoch: int, step: int) -> Batch:
        seeds = [mix(self.seed, epoch, 7, item) for item in chosen]
        images = torch.stack(
            [torch.randn(1, 4, 4, generator=torch.Generator().manual_seed(s)) for s in seeds]
        )
        value = torch.tensor([1.0 - 2 * (item % 2) for item in chosen])  # B
        images = 0.3 * images + value[:, None, None, None]
        metas = [Meta(item_id=f"item-{item}", original_hw=(4, 4)) for item in chosen]
        for row, meta in enumerate(metas):
            if meta.item_id == self.poison:
                value[row] = torch.nan
        return Batch(
            image=images, meta=metas, item_seed=seeds, step_seed=mix(self.seed, epoch, step), value=value
        )
