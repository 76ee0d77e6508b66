"""Official checkpoints of I-JEPA, V-JEPA 2 and EchoJEPA give the original's outputs through our loader."""

from __future__ import annotations

import json

import pytest
import torch

import insonate
from insonate.errors import WeightsError
from insonate.hub import write_official
from insonate.models import build_backbone, load_official
from insonate.models.rope import rope_tables
from insonate.weights import read

pytestmark = pytest.mark.usefixtures("no_grad")

FACTORISED = ("mv_classifier_d1_fact", "mv_classifier_d4_fact", "mv_regressor_d1_fact")
PROBES = (
    *FACTORISED, "mv_classifier_d4_joint", "mv_regressor_d1_joint", "mv_regressor_d4_joint",
    "probe_LinearClassifier", "probe_LinearRegressor", "probe_MLPClassifier", "probe_MLPRegressor",
)  # fmt: skip


def close(a, b) -> None:
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.fixture
def fixture(parity):
    def open_one(name):
        path = parity / f"{name}.pt"
        content = torch.load(path, weights_only=True)  # noqa: TID251
        return load_official(path), content["inputs"], content["outputs"]

    return open_one


def clip(x: torch.Tensor) -> torch.Tensor:
    return x.transpose(1, 2)  # B T C H W


def test_rotary_video_encoder_at_any_size_and_under_masks(fixture) -> None:
    loaded, inputs, outputs = fixture("vjepa_encoder_rope")
    encoder, x = loaded.backbone, clip(inputs["x"])
    close(encoder(x).patch, outputs["full"])
    for name in ("nonsquare", "hires", "long", "short"):
        close(encoder(clip(inputs[f"x_{name}"])).patch, outputs[name])
    close(encoder(x, inputs["m1"]).patch, outputs["mask1"])
    close(encoder.patch_embed(x), outputs["patch_tokens"])
    taps = [tokens.patch for tokens in encoder.intermediate(x, [0, 2])]
    for ours, theirs in zip(taps, outputs["out_layers_0_2"], strict=True):
        close(ours, theirs)
    assert loaded.report.matched == tuple(encoder.state_dict())
    assert (loaded.report.family, encoder.spec.frames, encoder.spec.patch) == ("vjepa", 8, (2, 16, 16))


def test_gated_mlps(fixture) -> None:
    loaded, inputs, outputs = fixture("vjepa_encoder_swiglu")
    close(loaded.backbone(clip(inputs["x"])).patch, outputs["full"])
    assert len(loaded.report.converted) == 12


def test_picture_encoder_with_a_table(fixture) -> None:
    loaded, inputs, outputs = fixture("vjepa_encoder_image_sincos")
    close(loaded.backbone(inputs["x"]).patch, outputs["full"])
    close(loaded.backbone(inputs["x_hires"]).patch, outputs["hires"])
    assert loaded.backbone.position == "sincos_rows_first"


def test_predictor_and_its_mask_tokens(fixture) -> None:
    loaded, inputs, outputs = fixture("vjepa_predictor_rope")
    predictor = loaded.parts["predictor"]
    assert len(predictor.mask_token) == 4
    theirs = {number: outputs[f"mask_index{number}"] for number in (0, 1, 3, 4)}
    theirs[5] = outputs["default_mask_index"]  # their default is 1, and they count modulo the tokens
    for number, expected in theirs.items():
        ours = predictor(inputs["ctx"], inputs["masks_x"][None], inputs["masks_y"][None], (4, 4, 4), number)
        close(ours, expected)


@pytest.mark.parametrize("depth", [1, 4])
def test_attentive_probe(fixture, depth) -> None:
    loaded, inputs, outputs = fixture(f"vjepa_attentive_classifier_d{depth}")
    close(loaded.parts["probe"](inputs["x"]), outputs["logits"])
    close(loaded.parts["probe"].pool(inputs["x"]), outputs["pooled"])


@pytest.mark.parametrize("name", PROBES)
def test_probes_of_studies_see_missing_views_as_missing(fixture, name) -> None:
    loaded, inputs, outputs = fixture(f"vjepa_{name}")
    probe, ignore = loaded.parts["probe"], inputs["key_padding_mask"]
    close(probe(inputs["x"]), outputs["nomask"])
    close(probe(inputs["x"], ignore), outputs["masked"])
    hidden = torch.where(ignore[..., None], 1e3, inputs["x"])
    close(probe(hidden, ignore), outputs["masked"])
    assert probe(inputs["x"], torch.ones_like(ignore)).isfinite().all()


def test_training_checkpoint_gives_target_encoder_and_predictor(parity) -> None:
    path = parity / "vjepa_checkpoint_layout.pt"
    content = torch.load(path, weights_only=True)  # noqa: TID251
    loaded = load_official(path, heads=3, input_size=64, frames=8)
    stored = content["target_encoder"]["module.backbone.norm.bias"]
    assert torch.equal(loaded.backbone.norm.bias, stored)
    assert loaded.report.ignored["encoder"] == "the target_encoder is taken"
    assert (len(loaded.report.matched), len(loaded.report.converted)) == (40, 32)
    assert any("position rope" in sentence for sentence in loaded.report.assumed)
    context = load_official(path, heads=3, input_size=64, frames=8, which="encoder")
    assert torch.equal(context.backbone.norm.bias, content["encoder"]["module.backbone.norm.bias"])
    with pytest.raises(WeightsError, match="heads cannot be told"):
        load_official(path)


def test_a_step_of_training_has_the_originals_features(parity) -> None:
    path = parity / "vjepa_train_step.pt"
    fixture = torch.load(path, weights_only=True)  # noqa: TID251
    known = {"heads": 3, "input_size": 64, "frames": 8}
    target, context = (load_official(path, which=which, **known) for which in ("target_encoder", "encoder"))
    x = clip(fixture["inputs"]["clips"][0])
    h = torch.nn.functional.layer_norm(target.backbone(x).patch, (48,))
    close(h, fixture["outputs"]["h"][0])
    predictor, inputs = context.parts["predictor"], fixture["inputs"]
    pairs = zip(inputs["masks_enc"], inputs["masks_pred"], strict=True)
    for (seen, hidden), theirs in zip(pairs, fixture["outputs"]["z"][0], strict=True):
        visible = context.backbone(x, seen).patch
        close(predictor(visible, seen[None], hidden[None], (4, 4, 4)), theirs)


def test_levels_stills_and_predictor_of_vjepa_2_1(parity, tmp_path) -> None:
    path = parity / "vjepa_v21_nod4.pt"
    fixture = torch.load(path, weights_only=True)  # noqa: TID251
    inputs, outputs = fixture["inputs"], fixture["outputs"]
    loaded = load_official(path, heads=3, input_size=64, frames=8)
    encoder, x, seen = loaded.backbone, clip(inputs["x"]), inputs["masks_x"]
    close(encoder(x).patch, outputs["full"])
    close(encoder.joined(x), outputs["train_hier"])
    close(encoder.joined(x, seen), outputs["mask_train"])
    close(encoder(clip(inputs["x_img"])).patch, outputs["image"])
    close(encoder(clip(inputs["x_img"])[:, 0]).patch, outputs["image"])
    filled = loaded.parts["predictor"](outputs["mask_train"], seen, inputs["masks_y"], (4, 4, 4))
    close(filled.targets, outputs["pred"])
    close(filled.context, outputs["context"])
    assert loaded.report.layout == "vjepa21"
    model = insonate.load(path, heads=3, input_size=64, frames=8)
    write_official(insonate.load(model.save_pretrained(tmp_path / "m")), tmp_path / "back.pt")
    again = read(tmp_path / "back.pt")
    for part in ("encoder", "predictor"):
        back = {name.removeprefix("module.backbone."): tensor for name, tensor in again[part].items()}
        assert back.keys() == fixture["state_dict"][part].keys()
        assert all(torch.equal(back[name], tensor) for name, tensor in fixture["state_dict"][part].items())


def test_scaled_rotary_positions_of_vjepa_2_1(parity) -> None:
    path, given = parity / "vjepa_v21_nod4.pt", {"heads": 3, "frames": 8}
    plain = load_official(path, input_size=64, **given)
    assert any("interpolate_rope False" in sentence for sentence in plain.report.assumed)
    scaled = load_official(path, input_size=256, interpolate_rope=True, **given)
    assert scaled.backbone.rope_reach == scaled.parts["predictor"].rope_reach == 16
    x = torch.randn(1, 8, 3, 256, 256)
    close(scaled.backbone(x).patch, plain.backbone(x).patch)  # 16 rows and columns are counted one by one
    small = x[..., :64, :48]
    assert (scaled.backbone(small).patch - plain.backbone(small).patch).abs().max() > 1e-3
    stretched, native = (
        rope_tables(grid, 24, "paired", torch.device("cpu"), reach)
        for grid, reach in [((2, 6, 4), 16), ((2, 16, 16), None)]
    )
    rows, columns = (
        stretched.cos.view(2, 6, 4, 24)[:, ::5, ::3],
        native.cos.view(2, 16, 16, 24)[:, ::15, ::15],
    )
    close(rows, columns)  # corners lie on corners
    assert rope_tables((2, 1, 1), 24, "paired", torch.device("cpu"), 16).cos.isfinite().all()
    with pytest.raises(WeightsError, match="interpolate_rope is 3"):
        load_official(path, input_size=64, interpolate_rope=3, **given)


def test_a_distilled_vjepa_2_1_hands_its_last_level_to_the_predictor(parity, tmp_path) -> None:
    content = torch.load(parity / "vjepa_v21_nod4.pt", weights_only=True)  # noqa: TID251
    state = content["state_dict"]
    first = state["predictor"]["predictor_embed.0.weight"]
    state["predictor"]["predictor_embed.0.weight"] = first[:, -48:].clone()
    torch.save({"ema_encoder": state["encoder"], "predictor": state["predictor"]}, tmp_path / "x.pt")
    loaded = load_official(tmp_path / "x.pt", heads=3, input_size=64, frames=8)
    encoder, seen = loaded.backbone, content["inputs"]["masks_x"]
    last = encoder.joined(clip(content["inputs"]["x"]), seen)
    close(last, content["outputs"]["mask_train"][..., -48:])
    filled = loaded.parts["predictor"](last, seen, content["inputs"]["masks_y"], (4, 4, 4))
    assert filled.targets.shape == (2, 30, 192)


def test_levels_of_the_deepest_vjepa_2_1_are_not_evenly_spaced() -> None:
    with torch.device("meta"):
        encoder = build_backbone({"name": "vjepa21", "width": 24, "depth": 48, "heads": 3})
    assert encoder.taps == [11, 23, 37, 47]


def test_missing_and_left_over_tensors_are_named(parity, tmp_path) -> None:
    content = torch.load(parity / "vjepa_encoder_rope.pt", weights_only=True)  # noqa: TID251
    state, config = content["state_dict"], content["config"]
    config = {"num_heads": 3, "img_size": 64, "num_frames": 8}
    for change, words in [
        (("blocks.1.attn.qkv.bias", None), r"1 missing: blocks\.1\.attn\.qkv\.bias"),
        (("blocks.1.attn.extra", torch.zeros(1)), r"no place in this model: blocks\.1\.attn\.extra"),
        (("norm.bias", torch.zeros(47)), r"norm\.bias 47 float32 for 48 float32"),
    ]:
        changed = {k: v for k, v in {**state, change[0]: change[1]}.items() if v is not None}
        torch.save({"state_dict": changed, "config": config}, tmp_path / "x.pt")
        with pytest.raises(WeightsError, match=words):
            load_official(tmp_path / "x.pt")


def test_a_lost_block_of_a_published_size_is_noticed(tmp_path) -> None:

    state = build_backbone({"name": "vit_tiny", "position": "sincos"}).state_dict()
    state["pos_embed"] = build_backbone({"name": "vit_tiny"}).pos_embed
    torch.save({k: v for k, v in state.items() if not k.startswith("blocks.11.")}, tmp_path / "x.pt")
    with pytest.raises(WeightsError, match="it has 11 blocks, the published model of width 192 has 12"):
        load_official(tmp_path / "x.pt")


def test_what_is_said_wrongly_is_refused(parity) -> None:
    path = parity / "vjepa_encoder_rope.pt"
    for given, words in [
        ({"heads": 5}, "5 heads do not divide"),
        ({"haeds": 3}, "heads"),
        ({"family": "vjeppa"}, "vjepa"),
        ({"family": "ijepa", "width": 50}, "width is said to be 50, but is 48"),
        ({"input_size": "big"}, "input_size is 'big'"),
        ({"sha256": "0" * 64}, "its SHA-256 is"),
    ]:
        with pytest.raises(WeightsError, match=words):
            load_official(path, **given)


@pytest.mark.parametrize(
    ("width", "heads", "position"), [(66, 3, "rope"), (48, 3, "sincos_3d"), (40, 4, "sincos_3d_even")]
)
def test_odd_sizes_and_tables_of_clips(width, heads, position, tmp_path) -> None:
    options = {"width": width, "depth": 2, "heads": heads, "frames": 8, "tubelet": 2, "mlp_ratio": 48 / 11}
    encoder = build_backbone({"name": "vit", "input_size": (64, 64), "position": position, **options}).eval()
    state = dict(encoder.state_dict())
    if position != "rope":
        state["pos_embed"] = encoder.pos_embed
    config = {"num_heads": heads, "img_size": (64, 64), "num_frames": 8, "use_rope": position == "rope"}
    torch.save({"state_dict": state, "config": config}, tmp_path / "x.pt")
    loaded, x = load_official(tmp_path / "x.pt"), torch.randn(1, 8, 3, 64, 64)
    close(loaded.backbone(x).patch, encoder(x).patch)
    assert loaded.backbone.position == position


def test_a_table_tells_its_rectangle(tmp_path) -> None:
    options = {"width": 48, "depth": 2, "heads": 4, "patch": 8, "mlp_ratio": 2.6, "input_size": (32, 56)}
    encoder = build_backbone({"name": "vit", **options}).eval()
    state = {f"module.{name}": tensor for name, tensor in encoder.state_dict().items()}
    state["module.pos_embed"] = encoder.pos_embed
    torch.save({"encoder": state, "target_encoder": state, "predictor": {}}, tmp_path / "x.pt")
    loaded, x = load_official(tmp_path / "x.pt", heads=4), torch.randn(1, 3, 32, 56)
    assert loaded.backbone.spec.input_size == (32, 56)
    close(loaded.backbone(x).patch, encoder(x).patch)


def test_a_config_of_clip_beside_it_does_not_hide_its_own(parity, tmp_path) -> None:
    path = tmp_path / "x.pt"
    path.write_bytes((parity / "vjepa_encoder_rope.pt").read_bytes())
    clip = {"model_cfg": {"embed_dim": 640, "vision_cfg": {"width": 768}, "text_cfg": {"heads": 8}}}
    for stray in (clip, clip["model_cfg"]):
        (tmp_path / "open_clip_config.json").write_text(json.dumps(stray))
        assert load_official(path).backbone.heads == 3
