"""The precision that this machine is fast at: what `insonate doctor` tells and `optim.precision: auto` obeys.

On a CPU bf16 pays only with a unit for it. Measured on one thread, bf16 against fp32: a Linear 1728 × 384 →
1536 takes 0.48 of the time on an AMD EPYC with avx512_bf16, a whole I-JEPA step under autocast 0.68 (ViT-S/16
at 224 px) to 0.83 (ViT-Ti/8 at 96 px); without such a unit the Linear takes 4.3 times as long. To measure it:
benchmarks/bf16_on_cpu.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

import torch

BF16_UNITS = ("amx_bf16", "avx512_bf16")
"""flags of x86 CPUs that multiply bfloat16 matrices, the faster first"""


class Fast(NamedTuple):
    """A precision, and the unit of the CPU that makes it the fast one."""

    precision: Literal["fp32", "bf16", "fp16"]
    unit: str = ""
    """empty where none is needed"""


def fast_precision() -> Fast:
    """What to train in here: bf16 or fp16 on a GPU, bf16 on a CPU with a unit for it, else fp32."""
    if torch.cuda.is_available():
        return Fast("bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16")
    unit = bf16_unit()
    return Fast("bf16", unit) if unit else Fast("fp32")


def bf16_unit(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The CPU's bfloat16 matrix unit (of `BF16_UNITS`), or an empty text; only Linux tells it."""
    if not cpuinfo.is_file():
        return ""
    with cpuinfo.open(encoding="utf-8", errors="replace") as file:
        flags = next((set(line.split()) for line in file if line.startswith("flags")), set())
    return next((unit for unit in BF16_UNITS if unit in flags), "")
