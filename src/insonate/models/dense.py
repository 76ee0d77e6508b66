"""Dense: `nn.Linear` that multiplies through oneDNN on a CPU with AVX-512.

MKL, which `nn.Linear` calls, takes a tenth longer for the same product there. Where nothing is learned, the
weight is also kept in the order that oneDNN's kernels read, and a GELU goes in the same pass: the operations
that `torch.compile` takes for frozen weights. Where others watch (autocast, hooks, transforms, compilation)
and for other types and devices it is `nn.Linear`. Measured: `benchmarks/bench_encoders.py`,
`benchmarks/bench_ijepa_step.py`.
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
PLAIN = (Tensor, nn.Parameter)
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

    def _apply(self, *given: Any, **options: Any) -> Dense:
        """Forgets the kept weight: one of another type may come to lie where this one lay."""
        self._seen = self._kept = None
        return super()._apply(*given, **options)  # type: ignore[no-untyped-call]  # torch gives it no types

    def forward(self, x: Tensor) -> Tensor:
        """… D → … O."""
        return self._frozen(x, "none") if self.fast(x) else linear(x, self.weight, self.bias)

    def product_gelu(self, x: Tensor) -> Tensor:
        """… D → … O, and the exact GELU of it; only where `fast`."""
        return self._frozen(x, "gelu")

    def fast(self, x: Tensor) -> bool:
        """Whether `product_gelu` may be called: nothing is learned or compiled, and `served`."""
        compiled = torch.compiler.is_compiling()
        return not torch.is_grad_enabled() and not compiled and served(x, self.weight)

    def _frozen(self, x: Tensor, then: str) -> Tensor:
        algorithm = "none" if then == "gelu" else ""
        return torch.ops.mkldnn._linear_pointwise(x, self._ordered(), self.bias, then, [], algorithm)

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


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`F.linear`, its products and those of the gradient by x through oneDNN where that may be called."""
    return Learned.apply(x, weight, bias) if served(x, weight) else F.linear(x, weight, bias)


class Learned(torch.autograd.Function):
    """… D times O D, plus O, with gradients of any order."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """… O."""
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Gradients of x, weight and bias, where they are needed."""
        x, weight = ctx.saved_tensors
        for_x, for_weight, for_bias = ctx.needs_input_grad
        rows = slope.reshape(-1, len(weight))
        again = torch.is_grad_enabled()  # the gradient is to be differentiated itself
        by_x = None
        if for_x:
            by_x = rows @ weight if again else _product(rows.contiguous(), weight.T, None)
        return (
            None if by_x is None else by_x.view_as(x),
            rows.T @ x.reshape(-1, x.shape[-1]) if for_weight else None,
            rows.sum(0) if for_bias else None,
        )


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if torch.compiler.is_compiling():
        return _opaque(x, weight, bias)
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


@torch.library.custom_op("insonate::product", mutates_args=(), device_types="cpu")
def _opaque(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`_product` for the compiler, which would take the operation itself for frozen weights only."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


@_opaque.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty((*x.shape[:-1], len(weight)))


def served(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN may be called: numbers in fp32 on this CPU, and nobody watches but the compiler."""
    here = HERE and x.device.type == weight.device.type == "cpu" and x.is_contiguous() and x.numel() > 0
    if not here or torch.is_autocast_enabled("cpu") or weight.dtype != torch.float32:
        return False
    if torch.compiler.is_compiling():
        return x.dtype == torch.float32 and not torch.compiler.is_exporting()
    return type(weight) in PLAIN and type(weight.data) is Tensor and _unseen(x)


def _unseen(x: Tensor) -> bool:
    traced = torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None
    plain = type(x) is Tensor and x.dtype == torch.float32
    return plain and not traced and torch._C._functorch.peek_interpreter_stack() is None
