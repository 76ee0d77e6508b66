"""Masks of a batch: our vectorised sampler against one that draws image by image.

Run: python benchmarks/bench_masks.py --size toy. The two draw from other distributions on purpose: equality
is asserted of our replay of the first implementation (`IJepaBlockSampler`), and soundness of the timed one.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from compare import Sides, main
from reference.ijepa import Collator

from insonate.models.masking import IJepaBlockSampler, MaskOptions, make_sampler

SIZES = {"toy": (128, (16, 16)), "real": (128, (32, 32))}
CALLS = 8
"""batches in one timed call"""


def build(options: argparse.Namespace) -> Sides:
    batch, grid = SIZES[options.size]
    sampler, collate = make_sampler(MaskOptions(), grid), Collator(grid)
    replay = IJepaBlockSampler(MaskOptions(sampler="ijepa"), grid)
    positions = torch.Generator().manual_seed(options.seed)
    seeds = [int(seed) for seed in np.random.default_rng(options.seed).integers(0, 2**63, batch)]
    calls = iter(range(10**9))

    def difference() -> float:
        wrong = 0
        for step in range(3):
            twins = [torch.Generator().manual_seed(step) for _ in range(2)]
            expected, masks = collate(step, twins[0], batch), replay.replay(step, twins[1], batch)
            wrong += sum(int((a != b).sum()) for a, b in zip(expected, masks, strict=True))
            contexts, targets = sampler.sample(step, seeds)
            wrong += int((np.diff(contexts) <= 0).sum() + (np.diff(targets) <= 0).sum())
            wrong += sum(np.intersect1d(contexts[:, b], targets[:, b]).size for b in range(batch))
        return float(wrong)

    return Sides(
        ours=lambda: [sampler.sample(next(calls), seeds) for _ in range(CALLS)],
        reference=lambda: [collate(next(calls), positions, batch) for _ in range(CALLS)],
        difference=difference,
        tolerance=0.0,
        items=CALLS * batch,
        about="our plain code with the structure of the original (benchmarks/reference/ijepa.py)",
    )


if __name__ == "__main__":
    main("masks", build)
