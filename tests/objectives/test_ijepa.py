"""I-JEPA: three training steps equal the original's; the promises of an objective hold."""

from __future__ import annotations

import copy

import pytest
import torch

from insonate.errors import RecipeError
from insonate.models import build_backbone, ema_update
from insonate.objectives import OBJECTIVES, build_objective
from insonate.objectives.ijepa import describe

TOY = {"name": "vit", "input_size": (96, 96), "patch": 8, "width": 48, "depth": 2, "heads": 3}
OBJECTIVE = {"name": "ijepa", "predictor_width": 24, "predictor_depth": 2}


def toy(**changes):
    return build_objective(build_backbone(TOY), {**OBJECTIVE, **changes})


def batch_of(count: int = 2, size: int = 96, seed: int = 0) -> dict:
    image = torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))
    return {"image": image, "step_seed": seed, "item_seed": list(range(100 * seed, 100 * seed + count))}


def close(a, b, atol) -> None:
    torch.testing.assert_close(a, b, atol=atol, rtol=0)


def ours(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {
        key.removeprefix("module.").removeprefix("predictor_"): value
        for key, value in state.items()
        if not key.endswith("pos_embed")
    }


def adamw(objective):
    named = [(n, p) for n, p in objective.named_parameters() if p.requires_grad]
    plain = [p for n, p in named if p.ndim == 1 or "bias" in n]
    decayed = [p for n, p in named if not (p.ndim == 1 or "bias" in n)]
    return torch.optim.AdamW([{"params": decayed}, {"params": plain, "weight_decay": 0.0}])


def test_three_training_steps_equal_the_originals(parity) -> None:
    fixture = torch.load(parity / "ijepa_train_step.pt", weights_only=True)  # noqa: TID251
    objective = toy(ema=(0.9, 1.0)).train()
    objective.backbone.load_state_dict(ours(fixture["encoder_init"]))
    objective.predictor.load_state_dict(ours(fixture["predictor_init"]))
    objective.teacher.load_state_dict(ours(fixture["target_encoder_init"]))
    optimiser = adamw(objective)
    for i in range(3):
        optimiser.param_groups[0]["weight_decay"] = fixture["wd"][i]
        for group in optimiser.param_groups:
            group["lr"] = fixture["lr"][i]
        contexts, targets = torch.stack(fixture["masks_enc"][i]), torch.stack(fixture["masks_pred"][i])
        losses = objective.loss(fixture["batches"][i], contexts, targets)
        close(losses.total.detach(), fixture["loss"][i].float(), atol=1e-6)
        optimiser.zero_grad()
        losses.total.backward()
        for module, part in ((objective.backbone, "encoder"), (objective.predictor, "predictor")):
            norms = {
                name.removeprefix("predictor_"): v for name, v in fixture[f"grad_norms_{part}"][i].items()
            }
            for name, parameter in module.named_parameters():
                assert parameter.grad.norm().item() == pytest.approx(norms[name], rel=1e-5, abs=1e-8), name
        optimiser.step()
        objective.after_step(i / 3)
        assert fixture["momentum"][i] == pytest.approx(0.9 + 0.1 * i / 3)
    modules = objective.backbone, objective.predictor, objective.teacher
    for module, part in zip(modules, ("encoder", "predictor", "target_encoder"), strict=True):
        expected = ours(fixture[f"{part}_final"])
        for name, value in module.state_dict().items():
            close(value, expected[name], atol=1e-5)


def test_official_checkpoint_holds_a_predictor_that_loads(parity) -> None:
    checkpoint = torch.load(parity / "ijepa_checkpoint_layout.pt", weights_only=True)  # noqa: TID251
    backbone = build_backbone({**TOY, "input_size": (80, 80), "width": 24, "heads": 2})
    objective = build_objective(backbone, {**OBJECTIVE, "predictor_width": 12, "predictor_depth": 1})
    objective.predictor.load_state_dict(ours(checkpoint["predictor"]), strict=True)


def test_loss_of_a_fresh_network_is_that_of_a_normal_target() -> None:
    assert 0.35 < toy()(batch_of()).total.item() < 0.55


def test_masks_come_from_the_seeds_alone() -> None:
    objective = toy()
    first = objective(batch_of()).total
    assert torch.equal(first, objective(batch_of()).total)
    other = batch_of() | {"step_seed": 7, "item_seed": [7, 8]}
    assert not torch.equal(first, objective(other).total)


@pytest.mark.parametrize("changes", [{"contexts": 2}, {"sampler": "ijepa"}])
def test_a_few_steps_lower_the_loss(changes) -> None:
    torch.manual_seed(0)
    objective = toy(**changes).train()
    optimiser = torch.optim.AdamW([p for p in objective.parameters() if p.requires_grad], lr=2e-3)
    batch = batch_of(4)
    losses = []
    for i in range(12):
        total = objective(batch).total
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        objective.after_step(i / 12)
        losses.append(total.item())
    assert losses[-1] < 0.75 * losses[0]


def test_teacher_never_trains_and_moves_by_the_schedule() -> None:
    objective = toy(ema=(0.5, 1.0)).train()
    assert not objective.teacher.training
    assert not any(p.requires_grad for p in objective.teacher.parameters())
    reference = copy.deepcopy(objective.teacher)
    with torch.no_grad():
        for parameter in objective.backbone.parameters():
            parameter.add_(1.0)
    objective.after_step(0.5)
    ema_update(reference, objective.backbone, 0.75)
    for a, b in zip(objective.teacher.parameters(), reference.parameters(), strict=True):
        assert torch.equal(a, b)
    objective.after_step(1.0)
    assert torch.equal(objective.teacher.norm.bias, reference.norm.bias)
    assert objective.encoder_for_export() is objective.teacher


def test_images_of_another_size_train_too() -> None:
    objective = toy()
    losses = objective({**batch_of(size=96), "image": torch.randn(2, 3, 96, 128)})
    assert torch.isfinite(losses.total)
    assert all(not part.requires_grad for part in losses.parts.values())


def test_health_of_features_shows_position_and_collapse() -> None:
    torch.manual_seed(0)
    position = torch.randn(1, 50, 8).expand(16, -1, -1)
    assert describe(position)["position_r2"] == pytest.approx(1.0, abs=1e-5)
    free = describe(torch.randn(64, 50, 8))
    assert free["position_r2"] < 0.05
    assert 5 < free["effective_rank"] <= 8.01
    line = torch.randn(64, 1, 1) * torch.ones(1, 50, 8)
    assert describe(line)["effective_rank"] == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_health_of_features_is_the_same_under_autocast(dtype) -> None:
    features = torch.nn.functional.layer_norm(
        torch.randn(128, 4, 1536) + 3 * torch.randn(128, 1, 1536), (1536,)
    )
    expected = describe(features)
    with torch.autocast("cpu", dtype=dtype):
        found = describe(features)
    for name, value in expected.items():
        close(found[name], value, atol=1e-6)


def test_what_cannot_work_is_refused_before_training() -> None:
    with pytest.raises(RecipeError, match="vit backbone"):
        build_objective(build_backbone({"name": "convnext_atto"}), {"name": "ijepa"})
    with pytest.raises(RecipeError, match="min_keep"):
        build_objective(build_backbone({**TOY, "input_size": (48, 48)}), OBJECTIVE)
    with pytest.raises(RecipeError, match="ijepa"):
        build_objective(build_backbone(TOY), {"name": "ijeap"})
    with pytest.raises(RecipeError, match=r"^objective: ema falls"):
        toy(ema=(1.0, 0.9))
    assert "ijepa" in OBJECTIVES.names()


def test_bf16_autocast_gives_nearly_the_same_loss() -> None:
    objective = toy()
    expected = objective(batch_of()).total
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = objective(batch_of())
    assert losses.total.dtype == torch.float32
    assert losses.total.item() == pytest.approx(expected.item(), rel=0.02)


def ellipses(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Faint rings under speckle, B 3 96 96, and their centres, B 2 in pixels."""
    g = torch.Generator().manual_seed(seed)
    centre = 25 + 46 * torch.rand(count, 2, 1, 1, generator=g)
    axes = 8 + 14 * torch.rand(count, 2, 1, 1, generator=g)
    angle = torch.pi * torch.rand(count, 1, 1, generator=g)
    y, x = torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing="ij")
    dx, dy = x - centre[:, 0], y - centre[:, 1]
    u, v = dx * angle.cos() + dy * angle.sin(), dy * angle.cos() - dx * angle.sin()
    ring = torch.exp(-(((u / axes[:, 0]) ** 2 + (v / axes[:, 1]) ** 2).sqrt() - 1).square() / 0.02)
    speckle = torch.randn(count, 2, 96, 96, generator=g).square().sum(1).sqrt()
    image = (1.0 + ring) * speckle / 2 - 0.6
    return image[:, None].repeat(1, 3, 1, 1), centre[:, :, 0, 0]


@torch.no_grad()
def centre_r2(encoder) -> tuple[float, float]:
    """R² of a ridge regression of the centre on pooled features, and their effective rank (entropy)."""
    image, centre = ellipses(600, seed=1)
    pooled = torch.cat([encoder(part).patch.mean(1) for part in image.split(100)]).double()
    pooled, centre = pooled - pooled[:400].mean(0), centre.double() - centre[:400].mean(0)
    pooled = pooled / pooled[:400].std(0)
    train, test = pooled[:400], pooled[400:]
    gram = train.T @ train + 1.0 * torch.eye(train.shape[1])
    error = test @ torch.linalg.solve(gram, train.T @ centre[:400]) - centre[400:]
    share = torch.linalg.eigvalsh(pooled.T @ pooled).clamp_min(1e-12)
    share = share / share.sum()
    return 1 - (error.square().sum() / centre[400:].square().sum()).item(), (
        -share * share.log()
    ).sum().exp().item()


@pytest.mark.slow
def test_features_learn_where_an_ellipse_is() -> None:
    torch.manual_seed(0)
    backbone = build_backbone({**TOY, "width": 96, "depth": 4, "heads": 4})
    config = {"name": "ijepa", "predictor_width": 48, "predictor_depth": 2, "min_keep": 8, "ema": [0.99, 1.0]}
    objective = build_objective(backbone, config).train()
    optimiser = adamw(objective)
    image, _ = ellipses(1600, seed=0)
    before, _ = centre_r2(objective.encoder_for_export())
    total = torch.tensor(0.0)
    for step, part in enumerate(image.split(16)):
        for group in optimiser.param_groups:
            group["lr"] = 1e-3 * min(1.0, (step + 1) / 10)
        items = list(range(16 * step, 16 * step + 16))
        total = objective({"image": part, "step_seed": step, "item_seed": items, "meta": []}).total
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        objective.after_step(step / 100)
    after, rank = centre_r2(objective.encoder_for_export())
    assert total.item() < 0.03
    assert after >= before + 0.10
    assert rank > 20
