"""Time of bf16 over that of fp32 on this CPU: a linear layer of a ViT-S, whole I-JEPA steps under autocast.

Interleaved pairs on one thread, CPU seconds, median of the ratios: is `precision: auto` right here?
"""

from __future__ import annotations

import statistics
from collections.abc import Callable

import torch
from ceiling import seconds

from insonate.models import build_backbone
from insonate.models.precision import fast_precision
from insonate.objectives import build_objective

PAIRS = 7
STEPS = {
    "I-JEPA step, ViT-Ti/8 at 96 px, 16 images": (
        {"name": "vit_tiny", "input_size": [96, 96], "patch": 8},
        {"name": "ijepa", "predictor_depth": 3, "predictor_width": 96},
        16,
    ),
    "I-JEPA step, ViT-S/16 at 224 px, 4 images": ({"name": "vit_small"}, {"name": "ijepa"}, 4),
}


def main() -> None:
    """One line for each."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"auto: {fast_precision().precision} {fast_precision().unit}")
    layer, x = torch.nn.Linear(384, 1536), torch.randn(1728, 384)
    half, half_x = torch.nn.Linear(384, 1536).bfloat16(), x.bfloat16()
    with torch.no_grad():
        print(f"Linear 1728 x 384 -> 1536: {ratio(lambda: layer(x), lambda: half(half_x)):.2f}")
    for name, (backbone, objective, images) in STEPS.items():
        step = step_of(build_objective(build_backbone(backbone), objective).train(), images)
        print(f"{name}: {ratio(lambda step=step: step(False), lambda step=step: step(True)):.2f}")  # noqa: FBT003


def ratio(full: Callable[[], object], half: Callable[[], object]) -> float:
    """Median over the pairs of the seconds of `half` over those of `full`."""
    full(), half()
    found = []
    for _ in range(PAIRS):
        before = seconds(full, "cpu")
        found.append(seconds(half, "cpu") / before)
    return statistics.median(found)


def step_of(objective: torch.nn.Module, images: int) -> Callable[[bool], None]:
    """A training step, in bf16 or not."""
    optimizer = torch.optim.AdamW([p for p in objective.parameters() if p.requires_grad], fused=True)
    height, width = objective.backbone.spec.input_size
    batch = {
        "image": torch.randn(images, 3, height, width),
        "step_seed": 0,
        "item_seed": list(range(images)),
    }

    def step(bf16: bool) -> None:  # noqa: FBT001
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            total = objective(batch).total
        total.backward()
        optimizer.step()
        optimizer.zero_grad()
        objective.after_step(0.5)

    return step


if __name__ == "__main__":
    main()
