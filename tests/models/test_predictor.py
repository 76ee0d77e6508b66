"""The predictor agrees with the original, row by row, although its last block computes the targets only."""

from __future__ import annotations

import json

import pytest
import torch

from insonate.errors import RecipeError
from insonate.models import build_backbone
from insonate.models.predictor import Predictor
from insonate.objectives import build_objective
from insonate.objectives.ijepa import gather_targets


def close(a, b, atol=1e-5) -> None:
    torch.testing.assert_close(a, b, atol=atol, rtol=0)


@pytest.fixture(scope="module")
def fixture(parity):
    return torch.load(parity / "ijepa_small_predictor.pt", weights_only=True)  # noqa: TID251


@pytest.fixture(scope="module")
def predictor(fixture) -> Predictor:
    model = Predictor(48, (4, 4), width=24, depth=2, heads=3)
    weights = {key.removeprefix("predictor_"): value for key, value in fixture["state_dict"].items()}
    table = weights.pop("pos_embed")
    assert torch.equal(table, model.pos_embed)
    model.load_state_dict(weights, strict=True)
    return model


def test_rows_are_target_major_then_context_then_image(fixture, predictor) -> None:
    contexts, targets = torch.stack(fixture["masks_x"]), torch.stack(fixture["masks"])
    close(predictor(fixture["z"], contexts, targets, (4, 4)), fixture["y"])
    close(predictor(fixture["z"][:2], contexts[:1], targets, (4, 4)), fixture["y_one_context"])
    one = predictor(fixture["z"][:2], contexts[:1], targets[:1], (4, 4))
    close(one, fixture["y_one_context_one_target"])
    for j in range(3):
        for i in range(2):
            alone = predictor(
                fixture["z"][2 * i : 2 * i + 2], contexts[i : i + 1], targets[j : j + 1], (4, 4)
            )
            close(alone, fixture["y"][(j * 2 + i) * 2 :][:2])


def test_targets_loss_and_gradients_are_the_originals(fixture, predictor) -> None:
    contexts, targets = torch.stack(fixture["masks_x"]), torch.stack(fixture["masks"])
    normed = torch.nn.functional.layer_norm(fixture["h_target_full"], (48,))
    close(normed, fixture["h_layernorm"], atol=1e-6)
    rows = gather_targets(normed, targets, num_contexts=2)
    close(rows, fixture["h_targets"], atol=1e-6)
    z = fixture["z"].clone().requires_grad_()
    loss = torch.nn.functional.smooth_l1_loss(predictor(z, contexts, targets, (4, 4)), rows)
    close(loss, fixture["loss"], atol=1e-6)
    predictor.zero_grad()
    loss.backward()
    close(z.grad, fixture["grad_z"], atol=1e-6)
    expected = {name.removeprefix("predictor_"): norm for name, norm in fixture["grad_norms"].items()}
    for name, parameter in predictor.named_parameters():
        assert parameter.grad.norm().item() == pytest.approx(expected[name], rel=1e-5, abs=1e-7), name


@pytest.mark.parametrize(
    ("layout", "options"),
    [
        ("vit_base_p16_256", {"name": "vit_base", "input_size": (256, 256)}),
        ("vit_huge_p14_224", {"name": "vit_huge", "patch": 14}),
    ],
)
def test_names_and_shapes_are_those_of_the_official_checkpoints(parity, layout, options) -> None:
    official = json.loads((parity / "ijepa_layouts.json").read_text())["layouts"][layout]
    expected = {
        key.removeprefix("module.").removeprefix("predictor_"): tuple(shape)
        for key, shape in official["predictor"].items()
    }
    table = expected.pop("pos_embed")  # fixed: made anew from the grid, as a buffer that is not saved
    with torch.device("meta"):
        objective = build_objective(
            build_backbone(options), {"name": "ijepa", "predictor_depth": official["predictor_depth"]}
        )
    predictor = objective.predictor
    assert {key: tuple(value.shape) for key, value in predictor.state_dict().items()} == expected
    assert predictor.pos_embed.shape == table
    assert official["predictor_not_trainable"] == ["predictor_pos_embed"]
    assert all(parameter.requires_grad for parameter in predictor.parameters())


def test_the_official_layouts_are_all_tested(parity) -> None:
    layouts = json.loads((parity / "ijepa_layouts.json").read_text())["layouts"]
    assert set(layouts) == {"vit_base_p16_256", "vit_huge_p14_224"}


def test_width_must_fit_the_heads() -> None:
    with pytest.raises(RecipeError, match="50 is no multiple"):
        Predictor(48, (4, 4), width=50, heads=3)
