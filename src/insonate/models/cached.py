"""Tables that are computed once: of positions, of angles, of offsets."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import ParamSpec, TypeVar, cast

import torch

P = ParamSpec("P")
T = TypeVar("T")
KEPT = 64
"""sizes of each table that are remembered"""


def cached(make: Callable[P, T]) -> Callable[P, T]:
    """`make` with a memory; whoever asks must not write to what it gets.

    A prediction may ask first and a training later, so that the tables are no tensors of inference mode.
    """
    return cast(Callable[P, T], lru_cache(maxsize=KEPT)(torch.inference_mode(mode=False)(make)))
