"""I-JEPA training step: ours against the structure of the first implementation.

Run: python benchmarks/bench_ijepa_step.py --size toy. Equality: losses of three optimiser steps, relative.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from compare import Sides, main
from reference import ijepa as reference

from insonate.models import build_backbone
from insonate.models.masking import MaskOptions, make_sampler
from insonate.objectives import build_objective

SIZES = {
    "toy": {"input_size": 96, "patch": 8, "width": 192, "depth": 4, "heads": 3, "predictor": 2, "batch": 4},
    "real": {
        "input_size": 224,
        "patch": 16,
        "width": 384,
        "depth": 12,
        "heads": 6,
        "predictor": 6,
        "batch": 4,
    },
}
LR, MOMENTUM, PREDICTOR_WIDTH = 1e-3, 0.996, 384


def build(options: argparse.Namespace) -> Sides:
    size, device = SIZES[options.size], options.device
    backbone = build_backbone({
        "name": "vit", "input_size": [size["input_size"]] * 2,
        **{key: size[key] for key in ("patch", "width", "depth", "heads")},
    })  # fmt: skip
    method = {"name": "ijepa", "predictor_width": PREDICTOR_WIDTH, "predictor_depth": size["predictor"]}
    objective = build_objective(backbone, {**method, "ema": [MOMENTUM, 1.0]}).to(device).train()
    teacher, predictor = objective.teacher, objective.predictor

    parts = {key: size[key] for key in ("patch", "width", "depth", "heads")}
    plain = [reference.Encoder(backbone.pos_embed, **parts).to(device) for _ in range(2)]
    plain_predictor = reference.Predictor(
        predictor.pos_embed, size["width"], depth=size["predictor"], heads=size["heads"]
    ).to(device)
    for ours, theirs in ((backbone, plain[0]), (teacher, plain[1]), (predictor, plain_predictor)):
        theirs.load_state_dict(ours.state_dict())
    step = reference.Step(*plain, plain_predictor, LR)

    decayed = [p for n, p in objective.named_parameters() if p.requires_grad and not plain_group(n, p)]
    undecayed = [p for n, p in objective.named_parameters() if p.requires_grad and plain_group(n, p)]
    groups = [{"params": decayed, "weight_decay": 0.04}, {"params": undecayed, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=LR, fused=True)
    if options.compile:
        for block in (*backbone.blocks, *teacher.blocks, *predictor.blocks):
            block.compile(dynamic=False)

    image = torch.randn(size["batch"], 3, size["input_size"], size["input_size"], device=device)
    sampler = make_sampler(MaskOptions(), backbone.grid)
    contexts, targets = (
        torch.from_numpy(index).to(device) for index in sampler.sample(options.seed, range(size["batch"]))
    )
    context_list, target_list = list(contexts), list(targets)

    def ours() -> float:
        optimiser.zero_grad()
        total = objective.loss(image, contexts, targets).total
        total.backward()
        optimiser.step()
        objective.after_step(0.0)
        return total.item()

    def theirs() -> float:
        return step.run(image, context_list, target_list, MOMENTUM)

    def difference() -> float:
        losses = np.array([(ours(), theirs()) for _ in range(3)])
        return float(np.abs(losses[:, 0] / losses[:, 1] - 1).max())

    about = "our plain code with the structure of the original (benchmarks/reference/ijepa.py)"
    return Sides(
        ours=ours, reference=theirs, difference=difference, tolerance=1e-5, items=size["batch"], about=about,
        bound_by_products=True,
    )  # fmt: skip


def plain_group(name: str, parameter: torch.Tensor) -> bool:
    return parameter.ndim == 1 or "bias" in name


if __name__ == "__main__":
    main("ijepa_step", build)
