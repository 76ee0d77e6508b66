"""Heads and heat maps: published sizes, geometry of the decoding, gradients."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from insonate.models.backbone import Tokens
from insonate.models.heads import AttentiveHead, LinearHead, ViTPoseHead
from insonate.models.heatmaps import jensen_shannon, mass_near, peak, probabilities, soft_argmax, variance
from insonate.models.pyramid_heads import FpnHead


def tokens(rows: int = 4, columns: int = 6, channels: int = 64) -> Tokens:
    patch = torch.randn(2, rows * columns, channels, generator=torch.Generator().manual_seed(0))
    return Tokens(patch, patch.new_zeros(2, 0, channels), (1, rows, columns))


@pytest.mark.parametrize(("points", "parameters"), [(2, 4_195_842), (4, 4_196_356), (22, 4_200_982)])
def test_vitpose_head_has_the_published_number_of_parameters(points, parameters):
    head = ViTPoseHead(768, points)
    assert sum(p.numel() for name, p in head.named_parameters() if name != "log_tau") == parameters
    assert head.log_tau.exp().item() == pytest.approx(1)
    assert head.final.weight.std().item() == pytest.approx(0.036, rel=0.2)
    assert head.deconv[0].weight.std().item() == pytest.approx(0.001, rel=0.05)


def test_vitpose_head_equals_its_functional_form():
    head = ViTPoseHead(64, 3, width=32).eval()
    given = tokens()
    x = given.patch.transpose(1, 2).reshape(2, 64, 4, 6)
    for index in (0, 3):
        x = functional.conv_transpose2d(x, head.deconv[index].weight, stride=2, padding=1)
        x = (x / math.sqrt(1 + 1e-5)).relu()  # batch norm with its first statistics
    maps = functional.conv2d(x, head.final.weight, head.final.bias)
    found = head(given)
    assert found.shape == (2, 3, 16, 24)
    assert torch.allclose(found, maps, atol=1e-6)


def test_vitpose_head_of_a_mirrored_grid_is_mirrored():
    head = ViTPoseHead(64, 3, width=32).eval()
    for layer in (head.deconv[0], head.deconv[3]):
        layer.weight.data = layer.weight.data + layer.weight.data.flip(-1)
    given = tokens()
    mirrored = given.patch.unflatten(1, (4, 6)).flip(2).flatten(1, 2)
    assert torch.allclose(head(given._replace(patch=mirrored)), head(given).flip(-1), atol=1e-5)


@pytest.mark.parametrize("head", [LinearHead, AttentiveHead])
@pytest.mark.parametrize("channels", [64, 128, 48])
def test_pooled_heads_do_not_care_about_the_order_of_tokens(head, channels):
    made, given = head(channels, 5), tokens(channels=channels)
    shuffled = given._replace(patch=given.patch[:, torch.randperm(24)])
    assert made(given).shape == (2, 5)
    assert torch.allclose(made(given), made(shuffled), atol=1e-5)


def test_fpn_gives_the_size_asked_for_and_reaches_every_level():
    pyramid = [
        torch.randn(2, c, 64 // s, 96 // s, requires_grad=True) for c, s in ((8, 4), (8, 8), (4, 16), (4, 32))
    ]
    logits = FpnHead([8, 8, 4, 4], classes=3, width=32)(pyramid, (64, 96))
    assert logits.shape == (2, 3, 64, 96)
    logits.square().sum().backward()
    assert all(level.grad is not None and level.grad.abs().sum() > 0 for level in pyramid)


def test_soft_argmax_of_one_cell_is_its_centre_and_of_a_flat_map_the_middle():
    maps = torch.full((1, 1, 64, 64), -1e4)
    maps[0, 0, 10, 20] = 0
    assert torch.allclose(soft_argmax(probabilities(maps)) + 0.5, torch.tensor([[[20.5 / 64, 10.5 / 64]]]))
    flat = probabilities(torch.zeros(1, 1, 64, 48))
    assert torch.allclose(soft_argmax(flat), torch.zeros(1, 1, 2), atol=1e-7)


def test_moving_a_map_by_cells_moves_the_point_by_as_much():
    maps = torch.full((1, 1, 64, 64), -30.0)
    maps[0, 0, 20:25, 30:34] = torch.randn(5, 4)
    moved = soft_argmax(probabilities(maps.roll((3, -7), dims=(-2, -1)))) - soft_argmax(probabilities(maps))
    assert torch.allclose(moved, torch.tensor([[[-7 / 64, 3 / 64]]]), atol=1e-5)


def test_soft_argmax_has_the_right_gradient_and_leaves_half_precision():
    maps = torch.randn(1, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda m: soft_argmax(m.flatten(-2).softmax(-1).view(m.shape)), maps)
    assert soft_argmax(probabilities(maps.detach().bfloat16())).dtype == torch.float32


def test_divergence_is_nothing_for_the_gaussian_itself_and_ln_2_for_a_far_one():
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    maps = -0.5 * ((x - 10) ** 2 + (y - 5) ** 2)[None, None]
    here, far = torch.tensor([[[10.5, 5.5]]]) / 32 - 0.5, torch.tensor([[[28.5, 28.5]]]) / 32 - 0.5
    assert jensen_shannon(maps, here).item() == pytest.approx(0, abs=1e-6)
    assert jensen_shannon(maps, far).item() == pytest.approx(math.log(2), abs=1e-4)
    outside = torch.tensor([[[9.0, -9.0]]])
    assert jensen_shannon(maps, outside).isfinite().all()
    probs = probabilities(maps)
    assert variance(probs, here).item() == pytest.approx(2 / 32**2, rel=1e-3)
    assert mass_near(probs, here).item() == pytest.approx(0.99, abs=0.01)
    assert mass_near(probs, far).item() == pytest.approx(0, abs=1e-6)


def scenes(count: int, generator: torch.Generator) -> tuple[Tokens, torch.Tensor]:
    """Tokens of 8 × 8 patches with two places that channels tell, in noise; the places from the centre."""
    places = 0.15 + 0.7 * torch.rand(count, 2, 2, generator=generator)  # B K 2, of the edges
    grid = (torch.arange(8) + 0.5) / 8
    features = 0.5 * torch.randn(count, 6, 8, 8, generator=generator)
    for k in range(2):
        across, down = (grid - places[:, k, i : i + 1] for i in range(2))  # B 8
        bump = 3 * torch.exp(-(across.square()[:, None] + down.square()[:, :, None]) / (2 * 0.08**2))
        for channel, slope in enumerate((1.0, across[:, None] / 0.08, down[:, :, None] / 0.08)):
            features[:, 3 * k + channel] += bump * slope
    patch = features.flatten(2).transpose(1, 2)
    return Tokens(patch, patch.new_zeros(count, 0, 6), (1, 8, 8)), places - 0.5


def learned_error_px(final_std: float | None) -> float:
    """Mean error in px of 256 after 80 steps; `final_std` instead of our start of the last layer."""
    torch.manual_seed(0)
    head = ViTPoseHead(6, 2, width=16)
    if final_std is not None:
        torch.nn.init.normal_(head.final.weight, std=final_std)
    generator = torch.Generator().manual_seed(0)
    optimiser = torch.optim.AdamW(head.parameters(), lr=1e-3)
    for _ in range(80):
        tokens, places = scenes(12, generator)
        maps = head(tokens)
        found = soft_argmax(probabilities(maps))
        apart = 256 * functional.smooth_l1_loss(found, places, beta=1 / 256)
        optimiser.zero_grad()
        (apart + jensen_shannon(maps, places).mean()).backward()
        optimiser.step()
    tokens, places = scenes(200, torch.Generator().manual_seed(1))
    with torch.no_grad():
        found = soft_argmax(probabilities(head.eval()(tokens)))
    return 256 * (found - places).norm(dim=-1).mean().item()


def test_vitposes_start_with_soft_argmax_learns_slowly_and_ours_does_not():
    ours, theirs = learned_error_px(None), learned_error_px(0.001)
    assert ours < 15
    assert theirs > 2 * ours
    # why: its maps are all but even at first, so that coordinates hardly depend on the last layer
    peaks, slopes = [], []
    for std in (None, 0.001):
        torch.manual_seed(0)
        head = ViTPoseHead(6, 2, width=16)
        if std is not None:
            torch.nn.init.normal_(head.final.weight, std=std)
        tokens, places = scenes(12, torch.Generator().manual_seed(0))
        probs = probabilities(head(tokens))
        (soft_argmax(probs) - places).abs().sum().backward()
        peaks.append(peak(probs).max().item())
        slopes.append(head.deconv[3].weight.grad.norm().item())
    assert peaks[1] < 1.05
    assert peaks[0] > 1.2
    assert slopes[0] > 10 * slopes[1]
