"""The precision that a machine is fast at: its GPU's, or that of the CPU's bfloat16 unit."""

from __future__ import annotations

import pytest

from insonate.models import precision
from insonate.models.precision import Fast, bf16_unit, fast_precision


@pytest.mark.parametrize(
    ("flags", "unit"),
    [("fpu avx512_bf16 amx_bf16", "amx_bf16"), ("fpu avx512_bf16", "avx512_bf16"), ("fpu avx2 bf16", "")],
)
def test_the_bf16_unit_is_read_from_the_cpu_flags(tmp_path, flags, unit):
    (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags : {flags}\n")
    assert bf16_unit(tmp_path / "cpuinfo") == unit
    assert bf16_unit(tmp_path / "nothing") == ""


@pytest.mark.parametrize("unit", ["amx_bf16", "avx512_bf16", ""])
def test_a_cpu_is_fast_at_bf16_only_with_a_unit_for_it(monkeypatch, unit):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(precision, "bf16_unit", lambda: unit)
    assert fast_precision() == (Fast("bf16", unit) if unit else Fast("fp32"))


@pytest.mark.parametrize(("native", "asked"), [(True, "bf16"), (False, "fp16")])
def test_a_gpu_is_fast_at_bf16_where_it_needs_no_emulation(monkeypatch, native, asked):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr(
        "torch.cuda.is_bf16_supported", lambda including_emulation=True: native or including_emulation
    )
    monkeypatch.setattr(precision, "bf16_unit", lambda: "amx_bf16")
    assert fast_precision() == Fast(asked)
