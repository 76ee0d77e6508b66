"""Every registered backbone keeps its promises; the ViT agrees with the original I-JEPA encoder."""

from __future__ import annotations

import json

import pytest
import torch

from insonate.errors import RecipeError, WeightsError
from insonate.models import BACKBONES, build_backbone, ema_update, freeze, official_weights, teacher_of
from insonate.models.positions import resize_table, sincos_2d
from insonate.models.vit import CustomVitOptions, VisionTransformer, vit

SMALL = [{"name": "vit", "width": 48, "depth": 4, "heads": 3}, {"name": "convnext_atto"}]
small = pytest.mark.parametrize("options", SMALL, ids=lambda options: options["name"])


def toy_vit(**changes) -> VisionTransformer:
    values = {"input_size": (64, 64), "width": 48, "depth": 3, "heads": 3} | changes
    return vit(CustomVitOptions(**values)).eval()


@pytest.fixture(scope="module")
def fixture(parity):
    return torch.load(parity / "ijepa_small_encoder.pt", weights_only=True)  # noqa: TID251


@pytest.fixture(scope="module")
def encoder(fixture) -> VisionTransformer:
    model = toy_vit()
    model.load_state_dict(official_weights(fixture["state_dict"], model, where="x"), strict=True)
    return model


def close(a, b, atol=1e-5) -> None:
    torch.testing.assert_close(a, b, atol=atol, rtol=0)


@small
@pytest.mark.parametrize("size", [(64, 64), (64, 128)])
def test_tokens_and_pyramid_have_the_promised_shapes(options, size) -> None:
    model = build_backbone(options).eval()
    image = torch.randn(2, 3, *size)
    with torch.no_grad():
        tokens, maps = model(image), model.pyramid(image)
    assert tokens.grid == (1, size[0] // model.spec.patch[1], size[1] // model.spec.patch[2])
    assert tokens.patch.shape == (2, tokens.grid[1] * tokens.grid[2], model.spec.embed_dim)
    assert tokens.prefix.shape == (2, 0, model.spec.embed_dim)
    assert [tuple(m.shape[-2:]) for m in maps] == [(size[0] // s, size[1] // s) for s in (4, 8, 16, 32)]


@small
def test_every_parameter_belongs_to_one_layer(options) -> None:
    model = build_backbone(options)
    owners = [id(p) for layer in model.layers() for p in layer.parameters()]
    assert len(owners) == len(set(owners))
    assert set(owners) == {id(p) for p in model.parameters()}


@small
def test_rebuilt_from_its_options_it_has_the_same_weights_by_name(options) -> None:
    model = build_backbone({**options, "input_size": [96, 64], "drop_path": 0.1})
    again = build_backbone(json.loads(json.dumps(model.options)))
    again.load_state_dict(model.state_dict())
    assert again.spec == model.spec


@small
def test_frozen_backbone_stays_in_eval_mode(options) -> None:
    model = build_backbone({**options, "drop_path": 0.5})
    freeze(model, "none")
    model.train()
    assert not any(module.training for module in model.modules())
    freeze(model, 1)
    model.train()
    learning = [any(p.requires_grad for p in layer.parameters()) for layer in model.layers()]
    assert (
        learning == [layer.training for layer in model.layers()] == [False] * (len(learning) - 2) + [True] * 2
    )
    freeze(model, "all")
    assert all(layer.training for layer in model.train().layers())


def test_freezing_more_layers_than_there_are_is_refused() -> None:
    with pytest.raises(RecipeError, match="9 layers of 4"):
        freeze(toy_vit(), 9)


def test_unknown_names_and_options_say_what_was_meant() -> None:
    with pytest.raises(RecipeError, match="vit_small"):
        build_backbone({"name": "vit_smal"})
    with pytest.raises(RecipeError, match=r"backbone\.drop_pth.*drop_path"):
        build_backbone({"name": "vit_tiny", "drop_pth": 0.1})
    with pytest.raises(RecipeError, match="no multiple of the patch"):
        build_backbone({"name": "vit_tiny", "input_size": [100, 96]})
    with pytest.raises(RecipeError, match="no multiple of the patch"):
        toy_vit()(torch.zeros(1, 3, 60, 64))


@pytest.mark.parametrize("name", BACKBONES.names())
def test_every_name_has_a_docstring_with_its_size(name) -> None:
    assert BACKBONES[name].make.__doc__


@pytest.mark.parametrize(
    ("name", "timm_count", "width"),
    [
        ("vit_tiny", 5_717_416, 192),
        ("vit_small", 22_050_664, 384),
        ("vit_base", 86_567_656, 768),
        ("vit_large", 304_326_632, 1024),
    ],
)
def test_vit_sizes_are_the_published_ones(name, timm_count, width) -> None:
    """Those of timm at 224 px, which have a classifier, a class token and 197 learned positions more."""
    with torch.device("meta"):
        count = sum(p.numel() for p in build_backbone({"name": name}).parameters())
    assert count == timm_count - (1000 * width + 1000) - width - 197 * width


@pytest.mark.parametrize("position", ["sincos", "learned"])
def test_kept_tokens_equal_those_of_an_encoder_that_sees_only_them(position) -> None:
    model = toy_vit(position=position)
    image, keep = torch.randn(2, 3, 64, 64), torch.tensor([[1, 5, 9], [0, 2, 15]])
    tokens, _ = model.embed(image)
    kept = torch.stack([tokens[i, keep[i]] for i in range(2)])
    for block in model.blocks:
        kept = block(kept)
    close(model(image, keep).patch, model.norm(kept))


def test_depth_scaled_init_shrinks_the_output_weights() -> None:
    scaled, plain = toy_vit(), toy_vit(depth_scaled_init=False)
    assert scaled.blocks[2].mlp.fc2.weight.std().item() == pytest.approx(0.02 / 6**0.5, rel=0.1)
    assert plain.blocks[2].mlp.fc2.weight.std().item() == pytest.approx(0.02, rel=0.1)


def test_position_table_is_the_originals_bit_for_bit(fixture) -> None:
    assert torch.equal(sincos_2d((4, 4), 48), fixture["pe_48_4x4"])
    assert torch.equal(
        sincos_2d((16, 16), 768)[fixture["pe_768_16x16_row_ids"]], fixture["pe_768_16x16_rows"]
    )
    assert torch.equal(sincos_2d((6, 6), 48), fixture["pos_embed_6x6_recomputed"][0])
    close(resize_table(sincos_2d((4, 4), 48), (4, 4), (6, 6)), fixture["pos_embed_6x6_bicubic"][0])


@torch.no_grad()
def test_encoder_agrees_with_the_original(fixture, encoder) -> None:
    close(encoder(fixture["x"]).patch, fixture["y"])
    close(encoder(fixture["x"], fixture["masks_single"]).patch, fixture["y_masked_single"])
    listed = torch.cat([encoder(fixture["x"], keep).patch for keep in fixture["masks"]])
    close(listed, fixture["y_masked"])


@torch.no_grad()
def test_every_layer_agrees_with_the_original(fixture, encoder) -> None:
    tokens, _ = encoder.embed(fixture["x"])
    close(encoder.patch_embed(fixture["x"]), fixture["patch_embed"])
    normed = encoder.blocks[0].norm1(tokens)
    q, k, _ = encoder.blocks[0].attn.qkv(normed).reshape(2, 16, 3, 3, 16).permute(2, 0, 3, 1, 4)
    close((q @ k.transpose(-2, -1) / 4).softmax(-1), fixture["attn_block0"])
    for i, block in enumerate(encoder.blocks):
        tokens = block(tokens)
        close(tokens, fixture[f"block{i}"])


@torch.no_grad()
def test_other_sizes_recompute_or_interpolate_and_never_use_the_square_table(fixture, encoder) -> None:
    close(encoder(fixture["x_96"]).patch, fixture["y_96_recomputed"])
    other = toy_vit(resize_position="interpolate")
    other.load_state_dict(encoder.state_dict())
    close(other(fixture["x_96"]).patch, fixture["y_96_bicubic_proposed"])
    assert (encoder(fixture["x_2x8"]).patch - fixture["y_2x8_original_trap"]).abs().max() > 0.1


def test_official_checkpoint_loads_its_target_encoder(parity) -> None:
    checkpoint = torch.load(parity / "ijepa_checkpoint_layout.pt", weights_only=True)  # noqa: TID251
    small = {"patch": 8, "width": 24, "depth": 2, "heads": 2}
    model = toy_vit(input_size=(80, 80), **small)
    model.load_state_dict(official_weights(checkpoint, model, where="x"), strict=True)
    stored = checkpoint["target_encoder"]["module.blocks.1.mlp.fc2.weight"]
    assert torch.equal(model.blocks[1].mlp.fc2.weight, stored)
    own = model.state_dict()
    assert official_weights(own, model, where="x") is own
    learned = toy_vit(input_size=(80, 80), position="learned", **small)
    learned.load_state_dict(official_weights(checkpoint, learned, where="x"), strict=True)
    assert torch.equal(learned.pos_embed, model.pos_embed)
    with pytest.raises(WeightsError, match=r"positions are of 100 patches, input_size says \(40, 80\)"):
        official_weights(checkpoint, toy_vit(input_size=(40, 80), **small), where="x")
    with pytest.raises(WeightsError, match="position: sincos"):
        official_weights(checkpoint, toy_vit(input_size=(80, 80), position="rope", **small), where="x")


@pytest.mark.parametrize(
    ("layout", "options"),
    [
        ("vit_base_p16_256", {"name": "vit_base", "input_size": (256, 256)}),
        ("vit_huge_p14_224", {"name": "vit_huge", "patch": 14}),
    ],
)
def test_names_and_shapes_are_those_of_the_official_checkpoints(parity, layout, options) -> None:
    official = json.loads((parity / "ijepa_layouts.json").read_text())["layouts"][layout]["encoder"]
    expected = {key.removeprefix("module."): tuple(shape) for key, shape in official.items()}
    with torch.device("meta"):
        model = build_backbone({**options, "position": "learned"})
    assert {key: tuple(value.shape) for key, value in model.state_dict().items()} == expected


def test_teacher_follows_what_the_student_trains() -> None:
    student = toy_vit(position="learned")
    teacher = teacher_of(student)
    student.pos_embed.requires_grad_(False)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1.0)
    before = teacher.state_dict()["norm.bias"].clone(), teacher.pos_embed.clone()
    ema_update(teacher, student, 0.75)
    close(teacher.norm.bias, before[0] + 0.25)
    assert torch.equal(teacher.pos_embed, before[1])
    assert not teacher.train().training
