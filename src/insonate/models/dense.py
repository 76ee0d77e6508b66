"""Dense: `nn.Linear` that multiplies through oneDNN on a CPU where nothing is learned.

oneDNN keeps the weights in the order that its kernels read and applies a GELU in the same pass; MKL, which
`nn.Linear` calls, does neither. With AVX-512 that saves a tenth (`benchmarks/bench_encoders.py`). The
operations are those that `torch.compile` takes for frozen weights. Everywhere else (gradients, autocast,
other types and devices, tracing, hooks) it is `nn.Linear`.
Shapes: … D channels in, … O channels out.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LARGEST_KEPT = 2**22
"""numbers of a weight that is kept twice: those of ViT-L's MLP; larger ones are brought in order each time"""
HERE = torch._C._has_mkldnn and torch.backends.cpu.get_cpu_capability().startswith("AVX512")
Key = tuple[int, int]


class Dense(nn.Linear):
    """A linear layer; its weight in oneDNN's order is kept from the second use on, until it changes.

    A weight that changes with every use (an EMA teacher's) is never kept.
    """

    def __init__(self, before: int, after: int) -> None:
        super().__init__(before, after)
        self._seen: Key | None = None
        self._kept: Tensor | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Copies start without a kept weight."""
        return {**self.__dict__, "_seen": None, "_kept": None}

    def forward(self, x: Tensor) -> Tensor:
        """… D → … O."""
        return self._product(x, "none") if self.fast(x) else super().forward(x)

    def product_gelu(self, x: Tensor) -> Tensor:
        """… D → … O, and the exact GELU of it; only where `fast`."""
        return self._product(x, "gelu")

    def fast(self, x: Tensor) -> bool:
        """Whether oneDNN may be called: numbers in fp32 on this CPU, and nobody watches."""
        weight = self.weight
        own = type(weight) is nn.Parameter and type(weight.data) is Tensor and weight.dtype == torch.float32
        here = HERE and x.device.type == weight.device.type == "cpu" and x.is_contiguous() and x.numel() > 0
        return here and own and unwatched(x) and not torch.is_autocast_enabled("cpu")

    def _product(self, x: Tensor, then: str) -> Tensor:
        algorithm = "none" if then == "gelu" else ""
        linear = torch.ops.mkldnn._linear_pointwise
        return linear(x, self._ordered(), self.bias, then, [], algorithm)

    def _ordered(self) -> Tensor:
        """The weight, in oneDNN's order where it was used before as it is now."""
        weight = self.weight
        if weight.numel() > LARGEST_KEPT or weight.is_inference():
            return weight
        key = (weight.data_ptr(), weight._version)
        if self._seen != key:
            self._seen, self._kept = key, None
            return weight
        if self._kept is None:
            self._kept = torch.ops.mkldnn._reorder_linear_weight(weight.detach())
        return self._kept


def gelu_of(layer: nn.Module, x: Tensor) -> Tensor:
    """The exact GELU of what a linear layer gives, in one pass where that is possible."""
    if (
        isinstance(layer, Dense)
        and not layer._forward_hooks
        and not layer._forward_pre_hooks
        and layer.fast(x)
    ):
        return layer.product_gelu(x)
    return F.gelu(layer(x))


def unwatched(x: Tensor) -> bool:
    """Whether these are fp32 numbers of which no gradient, graph or transform of `torch.func` is wanted."""
    traced = torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None
    plain = type(x) is Tensor and x.dtype == torch.float32 and not torch.is_grad_enabled()
    return plain and not traced and torch._C._functorch.peek_interpreter_stack() is None
