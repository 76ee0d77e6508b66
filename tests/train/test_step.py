"""One optimiser step by its numbers: clipping, the fused kernels, and compiled blocks."""

from __future__ import annotations

import copy
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from toys import ToyLoader, ToyTask

from insonate.data import Meta
from insonate.models import build_backbone, ema_update
from insonate.objectives import build_objective
from insonate.train.checkpoint import read_checkpoint
from insonate.train.fit import fit
from insonate.train.log import read_rows
from insonate.train.settings import Settings

PLAIN = Settings(epochs=1, lr=0.01, log_every=1, precision="fp32")


@contextmanager
def gradients_at_each_step() -> Iterator[list[list[torch.Tensor]]]:
    """What the optimiser gets, step by step."""
    seen: list[list[torch.Tensor]] = []

    def look(optimizer, args, kwargs) -> None:
        params = [p for group in optimizer.param_groups for p in group["params"]]
        seen.append([p.grad.clone() for p in params])

    handle = register_optimizer_step_pre_hook(look)
    try:
        yield seen
    finally:
        handle.remove()


def norm(gradients: list[torch.Tensor]) -> float:
    return torch.cat([g.flatten() for g in gradients]).norm().item()


def gradients(folder: Path, **changes) -> list[list[torch.Tensor]]:
    with gradients_at_each_step() as seen:
        fit(ToyTask(dropout=0), ToyLoader(), PLAIN.model_copy(update=changes), folder)
    return seen


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_norm_of_all_gradients_together_is_clipped_and_their_direction_kept(tmp_path, accumulate):
    free = gradients(tmp_path / "free", accumulate=accumulate)
    limit = norm(free[0]) / 4
    clipped = gradients(tmp_path / "clipped", accumulate=accumulate, clip=limit)
    assert len(clipped) == 6 // accumulate
    assert all(norm(step) <= limit * (1 + 1e-5) for step in clipped)
    assert norm(clipped[0]) == pytest.approx(limit, rel=1e-4)
    for before, after in zip(free[0], clipped[0], strict=True):
        torch.testing.assert_close(after, before / 4, rtol=1e-4, atol=1e-9)


def test_gradients_below_the_limit_stay_as_they_are(tmp_path):
    free, wide = gradients(tmp_path / "free"), gradients(tmp_path / "wide", clip=1e6)
    for before, after in zip(free, wide, strict=True):
        assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


class Operations(TorchDispatchMode):
    """Counts what torch is asked to compute."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def ijepa(seed: int = 0):
    torch.manual_seed(seed)
    backbone = {"name": "vit", "input_size": [64, 64], "patch": 8, "width": 48, "depth": 2, "heads": 3}
    options = {"name": "ijepa", "predictor_width": 24, "predictor_depth": 1, "min_keep": 4, "ema": [0.9, 1.0]}
    return build_objective(build_backbone(backbone), options)


class Noise:
    """Two batches of four pictures."""

    sampler = ToyLoader().sampler

    def __len__(self) -> int:
        return 2

    def epoch(self, epoch: int, start_step: int = 0):
        for step in range(start_step, 2):
            seed = 10 * epoch + step
            image = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(seed))
            metas = [Meta(item_id=f"{seed}-{i}", original_hw=(64, 64)) for i in range(4)]
            yield {
                "image": image,
                "meta": metas,
                "step_seed": seed,
                "item_seed": [4 * seed + i for i in range(4)],
            }


def test_adamw_is_fused_and_the_teacher_moves_in_one_call(tmp_path):
    with Operations() as operations:
        fit(ijepa(), Noise(), PLAIN, tmp_path)
    groups = 2  # with and without weight decay
    assert operations.seen["_fused_adamw_"] == 2 * groups
    assert operations.seen["_foreach_lerp_"] == 2
    assert not operations.seen["lerp_"]
    assert not operations.seen["addcdiv_"]


def test_the_one_call_moves_each_tensor_of_the_teacher_by_its_share(tmp_path):
    objective, other = ijepa(), ijepa(seed=1)
    before = copy.deepcopy(objective.teacher)
    ema_update(objective.teacher, other.backbone, 0.75)
    for now, old, student in zip(
        objective.teacher.parameters(), before.parameters(), other.backbone.parameters(), strict=True
    ):
        torch.testing.assert_close(now, 0.75 * old + 0.25 * student, rtol=1e-6, atol=1e-7)


def compiles(test):
    """Marks of a test that compiles; torch keeps this warning of its own from being shown, not raised."""
    test = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")(test)
    test = pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")(test)
    return pytest.mark.slow(test)


def rows_and_end(folder: Path) -> tuple[list[float], dict[str, torch.Tensor]]:
    rows = [row["loss"] for row in read_rows(folder / "metrics.jsonl")]
    read = read_checkpoint(folder / "checkpoints" / f"step-{len(rows):08d}")
    return rows, {**read.model, **read.optimizer}


@compiles
def test_a_run_with_compiled_blocks_equals_one_without(tmp_path):
    settings = PLAIN.model_copy(update={"epochs": 3, "lr": 1e-3})
    ends = {}
    for compiled in (False, True):
        objective = ijepa()
        fit(objective, Noise(), settings.model_copy(update={"compile": compiled}), tmp_path / str(compiled))
        blocks = [*objective.backbone.blocks]
        assert all((block._compiled_call_impl is not None) == compiled for block in blocks)
        ends[compiled] = rows_and_end(tmp_path / str(compiled))
    assert len(ends[True][0]) == 6
    assert ends[True][0] == pytest.approx(ends[False][0], rel=1e-4)
    assert ends[True][1].keys() == ends[False][1].keys()
    for name, tensor in ends[False][1].items():
        torch.testing.assert_close(ends[True][1][name], tensor, rtol=1e-2, atol=1e-5, msg=name)


@compiles
def test_a_run_goes_on_with_compiled_blocks_where_it_began_without(tmp_path):
    fit(ijepa(), Noise(), PLAIN, tmp_path)
    longer = PLAIN.model_copy(update={"epochs": 2, "compile": True})
    assert fit(ijepa(), Noise(), longer, tmp_path).steps == 4
