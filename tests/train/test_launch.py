"""What a run starts with: its precision, and BatchNorm over the batch of all ranks, where that can be."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from toys import ToyTask

from insonate.models import precision
from insonate.models.backbone import Tokens
from insonate.models.heads import ViTPoseHead
from insonate.train.launch import launch, sync_batch_norm
from insonate.train.settings import Settings


def synced(module: nn.Module) -> int:
    return sum(isinstance(one, nn.SyncBatchNorm) for one in module.modules())


def test_batch_norm_sees_all_ranks_on_gpus_and_stays_the_same_network():
    torch.manual_seed(0)
    head = ViTPoseHead(16, 4, width=8)
    tokens = Tokens(torch.randn(2, 12, 16), torch.zeros(2, 0, 16), (1, 3, 4))
    before = head.eval()(tokens)
    parameters, state = list(head.parameters()), {k: v.clone() for k, v in head.state_dict().items()}
    assert sync_batch_norm(head, world=2, device=torch.device("cuda")) is None
    assert synced(head) == 2
    assert all(one is other for one, other in zip(head.parameters(), parameters, strict=True))
    assert all(torch.equal(value, state[name]) for name, value in head.state_dict().items())
    assert torch.equal(head.eval()(tokens), before)


def test_without_gpus_it_is_told_that_each_process_has_its_own():
    head = ViTPoseHead(16, 4, width=8)
    note = sync_batch_norm(head, world=2, device=torch.device("cpu"))
    assert "each of the 2 processes normalises its own batch" in note
    assert synced(head) == 0


def test_nothing_is_told_of_one_process_or_without_batch_norm():
    for module, world in ((ViTPoseHead(16, 4, width=8), 1), (nn.LayerNorm(4), 2)):
        assert sync_batch_norm(module, world=world, device=torch.device("cpu")) is None


@pytest.mark.parametrize(("unit", "mixed"), [("amx_bf16", "bf16-mixed"), ("", "32-true")])
def test_auto_obeys_what_the_machine_is_fast_at_and_a_named_precision_does_not(monkeypatch, unit, mixed):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(precision, "bf16_unit", lambda: unit)
    started = {
        asked: launch(Settings(precision=asked), ToyTask()).strategy.precision.precision
        for asked in ("auto", "fp32", "bf16")
    }
    assert started == {"auto": mixed, "fp32": "32-true", "bf16": "bf16-mixed"}
