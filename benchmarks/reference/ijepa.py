"""I-JEPA as its first implementation is built: explicit attention, loops over masks and weights.

Our own code, written from a description of the method, with the structure that costs time in the original:
every patch is embedded, attention without fusion, position tables repeated over the batch, gathers by index
tensors repeated over the channels, a whole last predictor block, an unfused AdamW, one EMA product per
weight, gradient norms with a host synchronisation per weight, and masks drawn image by image. Parameter
names are those of `insonate.models`, so that one set of weights serves both sides.
"""

# ruff: noqa: D101, D102

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.attn_drop = nn.Dropout(0.0)
        self.proj = nn.Linear(width, width)
        self.proj_drop = nn.Dropout(0.0)

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1)) * (c // self.heads) ** -0.5  # B H N N
        weights = self.attn_drop(weights.softmax(dim=-1))
        return self.proj_drop(self.proj((weights @ v).transpose(1, 2).reshape(b, n, c)))


class Mlp(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width)
        self.drop = nn.Dropout(0.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.fc2(self.drop(self.act(self.fc1(x)))))


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn, self.mlp = Attention(width, heads), Mlp(width, 4 * width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    def __init__(self, width: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, patch)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)


def take(x: Tensor, masks: list[Tensor]) -> Tensor:
    """Tokens B N D at each mask B K, mask-major: one index tensor of B K D for each."""
    return torch.cat([x.gather(1, mask.unsqueeze(-1).repeat(1, 1, x.shape[-1])) for mask in masks])


class Encoder(nn.Module):
    def __init__(self, table: Tensor, *, patch: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.register_buffer("pos_embed", table, persistent=False)
        self.patch_embed = PatchEmbed(width, patch)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, x: Tensor, masks: list[Tensor] | None = None) -> Tensor:
        x = self.patch_embed(x) + self.pos_embed
        if masks is not None:
            x = take(x, masks)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class Predictor(nn.Module):
    def __init__(self, table: Tensor, embed_dim: int, *, depth: int, heads: int) -> None:
        super().__init__()
        width = table.shape[-1]
        self.register_buffer("pos_embed", table, persistent=False)
        self.embed, self.mask_token = nn.Linear(embed_dim, width), nn.Parameter(torch.zeros(1, 1, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm, self.proj = nn.LayerNorm(width, eps=1e-6), nn.Linear(width, embed_dim)

    def forward(self, x: Tensor, contexts: list[Tensor], targets: list[Tensor]) -> Tensor:
        batch = len(x) // len(contexts)
        x = self.embed(x) + take(self.pos_embed.repeat(batch, 1, 1), contexts)
        kept = x.shape[1]
        position = take(self.pos_embed.repeat(batch, 1, 1), targets)  # TB M P
        position = repeat_groups(position, batch, len(contexts))  # TEB M P
        asked = self.mask_token.repeat(position.shape[0], position.shape[1], 1) + position
        x = torch.cat([x.repeat(len(targets), 1, 1), asked], dim=1)
        for block in self.blocks:
            x = block(x)
        return self.proj(self.norm(x)[:, kept:])


def repeat_groups(x: Tensor, batch: int, times: int) -> Tensor:
    """Each group of `batch` rows `times` times."""
    groups = [x[i * batch : (i + 1) * batch] for i in range(len(x) // batch)]
    return torch.cat([torch.cat([group] * times) for group in groups])


class Step:
    """One training step after the other, on fixed images and masks."""

    def __init__(self, encoder: Encoder, teacher: Encoder, predictor: Predictor, lr: float) -> None:
        self.encoder, self.teacher, self.predictor = encoder, teacher, predictor
        for parameter in teacher.parameters():
            parameter.requires_grad = False
        named = [*encoder.named_parameters(), *predictor.named_parameters()]
        decayed = [p for n, p in named if "bias" not in n and p.ndim > 1]
        plain = [p for n, p in named if "bias" in n or p.ndim == 1]
        self.named = named
        self.optimiser = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": 0.04}, {"params": plain, "weight_decay": 0.0}], lr=lr
        )

    def run(self, image: Tensor, contexts: list[Tensor], targets: list[Tensor], momentum: float) -> float:
        with torch.no_grad():
            h = self.teacher(image)
            h = F.layer_norm(h, (h.shape[-1],))
            h = repeat_groups(take(h, targets), len(image), len(contexts))
        z = self.predictor(self.encoder(image, contexts), contexts, targets)
        loss = F.smooth_l1_loss(z, h)
        loss.backward()
        self.optimiser.step()
        self.norms = [
            float(torch.norm(p.grad)) for n, p in self.named if p.grad is not None and "bias" not in n
        ]
        self.optimiser.zero_grad()
        with torch.no_grad():
            for fast, slow in zip(self.encoder.parameters(), self.teacher.parameters(), strict=True):
                slow.data.mul_(momentum).add_((1.0 - momentum) * fast.detach().data)
        return loss.item()


class Collator:
    """Masks of a batch, image by image and block by block; published scales, one context, four targets."""

    def __init__(self, grid: tuple[int, int], min_keep: int = 10) -> None:
        self.height, self.width, self.min_keep = *grid, min_keep

    def size(self, generator: torch.Generator, scale: tuple, aspect: tuple) -> tuple[int, int]:
        r = torch.rand(1, generator=generator).item()
        area = int(self.height * self.width * (scale[0] + r * (scale[1] - scale[0])))
        ratio = aspect[0] + r * (aspect[1] - aspect[0])
        h, w = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        while h >= self.height:
            h -= 1
        while w >= self.width:
            w -= 1
        return h, w

    def block(self, size: tuple[int, int], allowed: list[Tensor] | None, positions: torch.Generator) -> tuple:
        h, w = size
        tries, left_over = 0, 20
        while True:
            top = torch.randint(0, self.height - h, (1,), generator=positions)
            left = torch.randint(0, self.width - w, (1,), generator=positions)
            mask = torch.zeros((self.height, self.width), dtype=torch.int32)
            mask[top : top + h, left : left + w] = 1
            for region in (allowed or [])[: max(len(allowed or []) - tries, 0)]:
                mask *= region
            cells = torch.nonzero(mask.flatten())
            if len(cells) > self.min_keep:
                break
            left_over -= 1
            if left_over == 0:
                tries, left_over = tries + 1, 20
        complement = torch.ones((self.height, self.width), dtype=torch.int32)
        complement[top : top + h, left : left + w] = 0
        return cells.squeeze(), complement

    def __call__(self, seed: int, positions: torch.Generator, batch: int) -> tuple[np.ndarray, np.ndarray]:
        generator = torch.Generator().manual_seed(seed)
        target_size = self.size(generator, (0.15, 0.2), (0.75, 1.5))
        context_size = self.size(generator, (0.85, 1.0), (1.0, 1.0))
        contexts, targets = [], []
        shortest = self.height * self.width
        for _ in range(batch):
            drawn = [self.block(target_size, None, positions) for _ in range(4)]
            targets.append([cells for cells, _ in drawn])
            context, _ = self.block(context_size, [complement for _, complement in drawn], positions)
            contexts.append([context])
            shortest = min(shortest, len(context))
        cut = torch.utils.data.default_collate([[cells[:shortest] for cells in image] for image in contexts])
        collated = torch.utils.data.default_collate(targets)
        return torch.stack(cut).numpy(), torch.stack(collated).numpy()
