"""One state dict in every packing that goes round: prefixes, wrappers, moving averages, number types."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch

import insonate
from insonate.errors import WeightsError
from insonate.models import load_official
from insonate.models.layouts import bundle_of, recognise
from insonate.models.official import convert

pytestmark = pytest.mark.usefixtures("no_grad")

FILES = {
    "ijepa_small_encoder": {"heads": 3},
    "vjepa_encoder_rope": {"heads": 3, "input_size": 64, "frames": 8},
    "vjepa_encoder_swiglu": {"heads": 3, "input_size": 64, "frames": 8},
    "vjepa_encoder_image_sincos": {"heads": 3},
    "usfm_small_perblock": {},
    "usfm_hvit_small": {},
    "simmim_small": {},
    "tinyusfm_small_cls0": {"family": "tinyusfm"},
    "tinyusfm_seg_small_nc3": {},
    "clip_tiny_convnext": {"family": "echoclip", "input_size": 64},
    "clip_tiny_echoclip_layout": {"input_size": 64},
    "clip_tiny_vit": {"heads": 3, "family": "biomedclip"},
    "vjepa_attentive_classifier_d4": {"heads": 3},
    "vjepa_probe_MLPClassifier": {},
}
OPTIMISER = {
    "state": {0: {"exp_avg": torch.zeros(3), "step": torch.tensor(3.0)}},
    "param_groups": [{"lr": 1e-3, "params": [0]}],
}
PREFIXES = (
    "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "_forward_module.", "model.", "net.",
    "module.model.", "module.backbone.", "backbone.model.", "base_model.", "model.net.", "teacher.backbone.",
)  # fmt: skip
WRAPPERS = (
    "state_dict", "model", "model_state_dict", "module", "weights", "net", "network", "params", "teacher",
    "ema", "model_ema", "state_dict_ema", "ema_state_dict", "a_name_of_their_own",
)  # fmt: skip


def packed(state: dict[str, torch.Tensor]) -> dict[str, dict]:
    """Every packing by name."""
    others = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    parameters = {n: torch.nn.Parameter(t) if t.is_floating_point() else t for n, t in state.items()}
    found: dict[str, dict] = {f"before {p}": {p + n: t for n, t in state.items()} for p in PREFIXES}
    found |= {f"in {name}": {name: state} for name in WRAPPERS}
    return found | {
        "two deep": {"checkpoint": {"model": state, "optimizer": OPTIMISER}, "epoch": 3},
        "beside an optimiser": {"model": state, "optimizer": OPTIMISER, "scaler": {"scale": 65536.0}},
        "flat beside an optimiser": {**state, "optimizer": OPTIMISER, "epoch": 3},
        "beside its average": {"model": state, "model_ema": others},
        "of Lightning": {
            "state_dict": {f"model.{n}": t for n, t in state.items()}, "hyper_parameters": {"lr": 1e-3},
            "optimizer_states": [OPTIMISER], "global_step": 4,
        },
        "half": {"module": {f"module.{n}": as_type(t, torch.float16) for n, t in state.items()}},
        "bfloat16": {n: as_type(t, torch.bfloat16) for n, t in state.items()},
        "double": {n: as_type(t, torch.float64) for n, t in state.items()},
        "parameters": {"state_dict": parameters},
        "without counters": {n: t for n, t in state.items() if not n.endswith("num_batches_tracked")},
    }  # fmt: skip


def as_type(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def state_of(parity, name) -> dict[str, torch.Tensor]:
    return torch.load(parity / f"{name}.pt", weights_only=True)["state_dict"]  # noqa: TID251


def known(content: dict, given: dict):
    """What the loader makes of a file's content: all its tensors under our names, and the report."""
    bundle = bundle_of(content, Path("x.pt"))
    converted, report = convert(bundle, recognise(bundle, given.get("family")), given)
    found = converted.state | {f"head.{name}": tensor for name, tensor in converted.head.items()}
    for part, held in converted.parts.items():
        found |= {f"{part}.{name}": tensor for name, tensor in held.state.items()}
    return found, report, converted.backbone


@pytest.mark.parametrize("name", FILES)
def test_every_packing_of_a_file_is_the_same_model(parity, name) -> None:
    state, given = state_of(parity, name), FILES[name]
    expected, plain, options = known({"state_dict": state}, given)
    for packing, content in packed(state).items():
        found, report, made = known(content, given)
        assert (report.layout, report.family, made) == (plain.layout, plain.family, options), packing
        assert found.keys() == expected.keys(), packing
        loose = 0.01 if packing in {"half", "bfloat16"} else 0
        for key, tensor in expected.items():
            if "num_batches_tracked" not in key:
                torch.testing.assert_close(found[key].to(tensor.dtype), tensor, rtol=loose, atol=loose)


def test_what_lies_beside_the_weights_is_told_and_can_be_taken(parity, tmp_path) -> None:
    state, given = state_of(parity, "ijepa_small_encoder"), {"heads": 3}
    average = {name: 2 * t if name == "module.norm.bias" else t for name, t in state.items()}
    average["norm.bias"] = 2 * state["norm.bias"]
    content = {"model": state, "model_ema": average, "optimizer": OPTIMISER}
    torch.save(content, tmp_path / "x.pt")
    loaded = load_official(tmp_path / "x.pt", **given)
    assert torch.equal(loaded.backbone.norm.bias, state["norm.bias"])
    assert loaded.report.ignored == {
        "model_ema": "the model is taken, unless which=model_ema is said", "optimizer": "of the training",
    }  # fmt: skip
    other = load_official(tmp_path / "x.pt", which="model_ema", **given)
    assert torch.equal(other.backbone.norm.bias, average["norm.bias"])
    torch.save({"first": state, "second": average}, tmp_path / "two.pt")
    with pytest.raises(WeightsError, match=r"holds first, second: which of them\?"):
        load_official(tmp_path / "two.pt", **given)
    second = load_official(tmp_path / "two.pt", which="second", **given)
    assert torch.equal(second.backbone.norm.bias, average["norm.bias"])


@pytest.mark.parametrize("heads", ["dino_head.mlp.0.weight", "head.last_layer.weight_v"])
def test_a_teacher_of_dino_leaves_its_heads(tmp_path, heads) -> None:
    net = timm.models.VisionTransformer(
        img_size=32, patch_size=16, embed_dim=48, depth=2, num_heads=3, init_values=0.1, num_classes=0
    )
    state = {f"backbone.{name}": tensor for name, tensor in net.state_dict().items()}
    state |= {"backbone.mask_token": torch.zeros(1, 48), heads: torch.zeros(3, 3)}
    content = {"teacher": {f"module.{name}": tensor for name, tensor in state.items()}}
    torch.save(content, tmp_path / "teacher_checkpoint.pth")
    model, x = insonate.load(tmp_path / "teacher_checkpoint.pth", heads=3), torch.randn(2, 3, 32, 32)
    tokens = model.backbone(x)
    found = torch.cat([tokens.prefix, tokens.patch], 1)
    torch.testing.assert_close(found, net.eval().forward_features(x), rtol=1e-5, atol=1e-5)
    assert set(model.report.ignored) == {heads, "backbone.mask_token"}


def test_a_file_without_weights_is_told(tmp_path) -> None:
    for content in ({}, {"epoch": 3, "args": {"lr": 0.1}}, {"optimizer": OPTIMISER}):
        torch.save(content, tmp_path / "x.pt")
        with pytest.raises(WeightsError, match=r"x\.pt: holds no weights") as caught:
            insonate.load(tmp_path / "x.pt")
        assert "\n" not in str(caught.value)
