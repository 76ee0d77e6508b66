"""Fixtures of comparisons with tensors of the original code."""

from __future__ import annotations

import pytest
import torch

import insonate


@pytest.fixture
def no_grad():
    torch.manual_seed(0)
    with torch.no_grad():
        yield


@pytest.fixture
def fixture(parity):
    def open_one(name, **given):
        content = torch.load(parity / f"{name}.pt", weights_only=True)  # noqa: TID251
        return insonate.load(parity / f"{name}.pt", **given), content

    return open_one
