"""How fast a machine could go: the rate of its matrix products, and the products that a run needs.

A run of F floating-point operations in matrix products takes at least F / ceiling, whatever the code around
them: no ratio is above the reference's time over that of our operations at the ceiling. Nearer is the bound
by kernels: the time that our products, attentions and optimiser take themselves, with nothing between them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

SHAPES = ((1728, 384, 1536), (1728, 1536, 384), (784, 384, 1152))
"""rows, inputs, outputs of linear layers of a ViT-S, whose rates the ceiling is the best of"""
TRIES = 15
KERNELS = {
    "aten::mm", "aten::addmm", "aten::bmm", "mkldnn::_linear_pointwise", "aten::mkldnn_convolution",
    "aten::_scaled_dot_product_flash_attention_for_cpu", "aten::convolution_backward",
    "aten::_scaled_dot_product_flash_attention_for_cpu_backward", "aten::_fused_adamw_",
}  # fmt: skip


def gemm_ceiling(device: str) -> float:
    """Best rate of float32 matrix products of a ViT-S here, by either library: operations a second."""
    rates = []
    for rows, inputs, outputs in SHAPES:
        x, weight = torch.randn(rows, inputs, device=device), torch.randn(outputs, inputs, device=device)
        products: list[Callable[[], object]] = [partial(torch.mm, x, weight.T)]
        if device == "cpu" and torch.backends.mkldnn.is_available():
            products.append(partial(torch.ops.mkldnn._linear_pointwise, x, weight, None, "none", [], ""))
        times = [seconds(product, device) for product in products for _ in range(TRIES)]
        rates.append(2 * rows * inputs * outputs / min(times))
    return max(rates)


def seconds(run: Callable[[], object], device: str) -> float:
    """Process seconds of a call on a CPU, wall seconds on a GPU."""
    if device == "cpu":
        start = time.process_time()
        run()
        return time.process_time() - start
    torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def kernel_seconds(run: Callable[[], object]) -> float:
    """CPU seconds inside matrix products, attentions, convolutions and the optimiser's kernel in one call."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        run()
    times = [one.self_cpu_time_total for one in profile.key_averages() if one.key in KERNELS]
    return sum(times) / 1e6


def operations(run: Callable[[], object]) -> int:
    """Floating-point operations in the matrix products, convolutions and attentions of one call."""
    aten, mkldnn = torch.ops.aten, torch.ops.mkldnn
    attention = aten._scaled_dot_product_flash_attention_for_cpu
    own = {
        mkldnn._linear_pointwise: _linear,
        attention: _attention,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    }
    with FlopCounterMode(display=False, custom_mapping=own) as counter:
        run()
    return counter.get_total_flops()


def _linear(x: Any, weight: Any, *_rest: Any, out_shape: Any = None, **_options: Any) -> int:
    rows = torch.Size(x[:-1]).numel()
    return 2 * rows * int(weight[0]) * int(weight[1])


def _attention(query: Any, key: Any, *_rest: Any, out_shape: Any = None, **_options: Any) -> int:
    batch, heads, asked, channels = query
    return 4 * batch * heads * asked * key[-2] * channels


def _attention_backward(_grad: Any, query: Any, key: Any, *_rest: Any, **_options: Any) -> int:
    return 5 * _attention(query, key) // 2  # the logits again, then four products
