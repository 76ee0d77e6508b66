"""Exponential moving average of a network's weights: the teacher of self-distillation."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


def teacher_of(student: M) -> M:
    """A copy of `student` in eval mode whose parameters take no gradient."""
    return copy.deepcopy(student).requires_grad_(requires_grad=False).eval()


@torch.no_grad()
def ema_update(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Move the teacher by (1 - momentum) of the way to the student, in all that the student trains."""
    pairs = [
        (slow, fast)
        for slow, fast in zip(teacher.parameters(), student.parameters(), strict=True)
        if fast.requires_grad
    ]
    if pairs:
        slow_list, fast_list = (list(side) for side in zip(*pairs, strict=True))
        torch._foreach_lerp_(slow_list, fast_list, 1.0 - momentum)
