"""Dense gives and learns what `nn.Linear` does, with the weight of now; it steps aside where others watch."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from insonate.models.dense import HERE, Dense, gelu_of, linear, served
from insonate.models.transformer import Block

pytestmark = pytest.mark.skipif(not HERE, reason="needs oneDNN and AVX-512")


@pytest.fixture
def layer() -> Dense:
    torch.manual_seed(0)
    return Dense(48, 80)


def plain(layer: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    return functional.linear(x, layer.weight, layer.bias)


@pytest.mark.parametrize("shape", [(48,), (1, 48), (5, 48), (2, 7, 48), (0, 48), (2, 3, 5, 48)])
def test_product_and_gelu_of_any_shape(layer, shape) -> None:
    x = torch.randn(shape)
    with torch.no_grad():
        for _ in range(3):  # new, kept, kept
            torch.testing.assert_close(layer(x), plain(layer, x))
            torch.testing.assert_close(gelu_of(layer, x), functional.gelu(plain(layer, x)))


@pytest.mark.parametrize("change", ["step", "load", "data", "scaled", "rounded"])
def test_the_weight_is_the_one_of_now(layer, change) -> None:
    x, other = torch.randn(4, 48), Dense(48, 80)
    with torch.no_grad():
        for _ in range(3):
            layer(x)
    assert layer._kept is not None
    if change == "step":
        layer(x).square().sum().backward()
        torch.optim.AdamW(layer.parameters(), lr=0.1).step()
    elif change == "load":
        layer.load_state_dict(other.state_dict())
    elif change == "data":
        layer.weight.data = other.weight.data
    elif change == "rounded":  # its new numbers may get the old ones' place in memory
        layer.half().float()
        assert layer._kept is None
    else:
        with torch.no_grad():
            layer.weight.mul_(2.0)
    with torch.inference_mode():
        for _ in range(3):
            torch.testing.assert_close(layer(x), plain(layer, x))
        torch.testing.assert_close(copy.deepcopy(layer)(x), plain(layer, x))
    assert copy.deepcopy(layer)._kept is None


def test_a_weight_that_changes_with_every_use_is_not_kept(layer) -> None:
    with torch.no_grad():
        for _ in range(3):
            layer.weight.add_(0.1)
            layer(torch.randn(4, 48))
    assert layer._kept is None


def test_it_steps_aside_for_hooks_autocast_and_transforms(layer) -> None:
    x, seen = torch.randn(4, 48), []
    with torch.no_grad():
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(x).dtype == torch.bfloat16
        torch.testing.assert_close(torch.vmap(layer)(x), plain(layer, x))
        torch.testing.assert_close(layer(x.double().float().T.contiguous().T), plain(layer, x))
        assert layer.double()(x.double()).dtype == torch.float64
        layer.float().register_forward_hook(lambda *given: seen.append(given))
        gelu_of(layer, x)
    assert len(seen) == 1


def test_a_block_is_the_same_with_and_without_gradients() -> None:
    torch.manual_seed(0)
    block, x = Block(48, 3, mlp="gelu"), torch.randn(2, 9, 48)
    learning = block(x)
    with torch.no_grad():
        for _ in range(2):
            torch.testing.assert_close(block(x), learning.detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(48,), (1, 48), (5, 48), (2, 7, 48), (0, 48)])
def test_it_learns_what_a_linear_layer_learns(layer, shape) -> None:
    x = torch.randn(shape, requires_grad=True)
    given = (x, layer.weight, layer.bias)
    assert served(x, layer.weight) == (0 not in shape)
    weights = torch.randn(*shape[:-1], 80)
    ours = torch.autograd.grad((linear(*given) * weights).sum(), given)
    theirs = torch.autograd.grad((functional.linear(*given) * weights).sum(), given)
    for found, wanted in zip(ours, theirs, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_a_slope_of_any_strides(layer) -> None:
    x = torch.randn(4, 48, requires_grad=True)
    layer(x).sum().backward()  # the slope is one number, expanded
    torch.testing.assert_close(x.grad, layer.weight.detach().sum(0).expand(4, -1), rtol=1e-5, atol=1e-5)


def test_gradients_of_gradients(layer) -> None:
    x = torch.randn(4, 48, requires_grad=True)

    def penalty(product) -> torch.Tensor:
        slope = torch.autograd.grad(product(x).square().sum(), x, create_graph=True)[0]
        return torch.autograd.grad(slope.square().sum(), layer.weight)[0]

    torch.testing.assert_close(penalty(layer), penalty(lambda x: plain(layer, x)), rtol=1e-4, atol=1e-3)


def test_frozen_parts_get_no_gradient(layer) -> None:
    layer.weight.requires_grad_(False)
    layer(torch.randn(4, 48)).sum().backward()
    assert layer.weight.grad is None
    assert layer.bias.grad is not None


def test_functional_gradients_and_export_see_a_plain_layer(layer) -> None:
    x = torch.randn(4, 48)
    slope = torch.func.grad(lambda x: layer(x).sum())(x)
    torch.testing.assert_close(slope, layer.weight.detach().sum(0).expand(4, -1), rtol=1e-5, atol=1e-5)
    graph = torch.export.export(layer, (x,)).graph
    assert any("aten.linear" in str(node.target) for node in graph.nodes)


@pytest.mark.slow
def test_a_compiled_block_learns_the_same() -> None:
    torch.manual_seed(0)
    block, x = Block(48, 3), torch.randn(2, 9, 48, requires_grad=True)
    compiled = torch.compile(block, dynamic=False)
    found, wanted = (torch.autograd.grad(one(x).square().sum(), x)[0] for one in (compiled, block))
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), block(x), rtol=1e-5, atol=1e-5)
