"""Vision transformers of timm: their own outputs, known by their keys where a name is not needed."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from timm.layers import SwiGLUPacked

import insonate
from insonate.errors import WeightsError
from insonate.hub import write_official
from insonate.models.layouts import bundle_of, recognise
from insonate.models.official import convert
from insonate.weights import read

pytestmark = pytest.mark.usefixtures("no_grad")
DINOV2 = {
    "registers": {"reg_tokens": 4, "no_embed_class": True, "init_values": 1e-5},
    "gated": {
        "mlp_layer": SwiGLUPacked,
        "act_layer": torch.nn.SiLU,
        "mlp_ratio": 5.33334,
        "init_values": 0.1,
    },
    "plain": {"init_values": 1e-5},
    "mae": {},
}


def small(**options) -> timm.models.VisionTransformer:
    net = timm.models.VisionTransformer(
        patch_size=8, embed_dim=48, depth=2, num_heads=3, num_classes=0, **{"img_size": 32} | options
    )
    for parameter in net.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    return net.eval()


def like(net: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A state of its names and shapes that takes no memory."""
    return {name: torch.zeros(1).expand(tensor.shape) for name, tensor in net.state_dict().items()}


def known(state, **given):
    bundle = bundle_of(dict(state), Path("x.pth"))
    return convert(bundle, recognise(bundle), given)


@pytest.mark.parametrize("form", DINOV2)
@pytest.mark.parametrize("size", [32, (32, 56)])
def test_dinov2_and_mae_load_without_a_name_and_go_back(form, size, tmp_path) -> None:
    net = small(**DINOV2[form], img_size=size)
    torch.save(net.state_dict(), tmp_path / "x.pth")
    height, width = (size, size) if isinstance(size, int) else size
    model, x = insonate.load(tmp_path / "x.pth", heads=3, input_size=size), torch.randn(2, 3, height, width)
    tokens = model.backbone(x)
    torch.testing.assert_close(
        torch.cat([tokens.prefix, tokens.patch], 1), net.forward_features(x), rtol=1e-5, atol=1e-5
    )
    write_official(insonate.load(model.save_pretrained(tmp_path / "m")), tmp_path / "back.pth", "timm_vit")
    again = read(tmp_path / "back.pth")
    assert again.keys() == net.state_dict().keys()
    assert all(torch.equal(again[name], tensor) for name, tensor in net.state_dict().items())


@pytest.mark.parametrize("form", ["gated", "plain", "registers"])
def test_metas_own_names_of_dinov2(form, tmp_path) -> None:
    net = small(**DINOV2[form])
    theirs = {
        name.replace("mlp.fc1", "mlp.w12").replace("mlp.fc2", "mlp.w3") if form == "gated" else name: tensor
        for name, tensor in net.state_dict().items()
    }
    if form == "registers":  # theirs have a row of positions for the class token, timm adds it beforehand
        theirs["register_tokens"] = theirs.pop("reg_token")
        row = torch.randn(1, 1, 48)
        theirs["pos_embed"] = torch.cat([row, theirs["pos_embed"]], 1)
        theirs["cls_token"] = theirs["cls_token"] - row
    theirs["mask_token"] = torch.zeros(1, 48)
    torch.save(theirs, tmp_path / "x.pth")
    model, x = insonate.load(tmp_path / "x.pth", heads=3), torch.randn(2, 3, 32, 32)
    tokens = model.backbone(x)
    torch.testing.assert_close(
        torch.cat([tokens.prefix, tokens.patch], 1), net.forward_features(x), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("name", ["vit_small_patch16_dinov3", "vit_small_plus_patch16_dinov3_qkvb"])
def test_dinov3_is_known_by_its_keys(name) -> None:
    with torch.device("meta"):
        net = timm.create_model(name, num_classes=0)
    converted, report = known(like(net))
    assert (report.layout, converted.backbone["model"]) == ("dinov3", name)
    assert converted.state.keys() == {f"net.{key}" for key in net.state_dict()}
    back = {"gamma_1": "ls1.gamma", "gamma_2": "ls2.gamma", "reg_token": "storage_tokens", "fc1_g": "w1",
            "fc1_x": "w2"}  # fmt: skip
    theirs = {}
    for key, tensor in like(net).items():
        for ours, own in back.items():
            key = key.replace(ours, own)
        if not key.endswith(("q_bias", "v_bias")):
            theirs[key.replace("mlp.fc2", "mlp.w3") if "plus" in name else key] = tensor
    for block in range(12):
        theirs[f"blocks.{block}.attn.qkv.bias"] = torch.full((3 * 384,), float("plus" in name))
        theirs[f"blocks.{block}.attn.qkv.bias_mask"] = torch.zeros(3 * 384)
    theirs |= {"rope_embed.periods": torch.zeros(16), "mask_token": torch.zeros(1, 384)}
    converted, report = known(theirs)
    assert converted.state.keys() == {f"net.{key}" for key in net.state_dict()}
    assert converted.backbone["model"] == name
    assert "rope_embed.periods" in report.ignored


@pytest.mark.parametrize("whole", [True, False])
def test_sam_is_known_by_its_keys_and_leaves_its_decoder(whole) -> None:
    with torch.device("meta"):
        net = timm.create_model("samvit_base_patch16", num_classes=0)
    state = like(net)
    if whole:
        state = {f"image_encoder.{key.replace('mlp.fc', 'mlp.lin')}": t for key, t in state.items()}
        state |= {"mask_decoder.iou_token.weight": torch.zeros(1), "pixel_mean": torch.zeros(3)}
    converted, report = known(state)
    assert converted.state.keys() == {f"net.{key}" for key in net.state_dict()}
    assert (converted.backbone["model"], converted.backbone["input_size"]) == (
        "samvit_base_patch16",
        (1024, 1024),
    )
    assert set(report.ignored) == ({"mask_decoder.iou_token.weight", "pixel_mean"} if whole else set())


@pytest.mark.parametrize("whole", [True, False])
def test_sam_gives_timms_outputs(whole, tmp_path, monkeypatch) -> None:
    toy = {"embed_dim": 48, "depth": 3, "num_heads": 3, "global_attn_indexes": (1,), "neck_chans": 16}
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda model, **options: create(model, **options | toy))
    monkeypatch.setitem(insonate.models.timm_known.SAM, (48, 3), "samvit_base_patch16")
    net = timm.create_model("samvit_base_patch16", num_classes=0, img_size=(64, 64)).eval()
    for parameter in net.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    state = net.state_dict()
    if whole:
        state = {f"image_encoder.{key.replace('mlp.fc', 'mlp.lin')}": t for key, t in state.items()}
        state |= {"mask_decoder.iou_token.weight": torch.zeros(1), "pixel_mean": torch.zeros(3)}
    torch.save(state, tmp_path / "sam.pth")
    model, x = insonate.load(tmp_path / "sam.pth"), torch.randn(2, 3, 64, 64)
    assert (model.report.family, model.backbone.spec.input_size) == ("sam", (64, 64))
    tokens, theirs = model.backbone(x), net.forward_features(x)
    torch.testing.assert_close(tokens.patch, theirs.flatten(2).transpose(1, 2), rtol=1e-5, atol=1e-5)


def test_strange_sizes_are_told_to_say_their_name() -> None:
    with torch.device("meta"):
        dino, sam = (
            timm.create_model(name, num_classes=0, **sizes)
            for name, sizes in [
                ("vit_small_patch16_dinov3", {"embed_dim": 192, "depth": 2, "num_heads": 3}),
                ("samvit_base_patch16", {"embed_dim": 96, "depth": 2, "num_heads": 3}),
            ]
        )
    for net, words in [(dino, "no DINOv3 is 192 wide and 2 deep"), (sam, "no SAM is 96 wide")]:
        with pytest.raises(WeightsError, match=f"{words}. Give family=timm timm_name=NAME"):
            known(like(net))


@pytest.mark.parametrize(
    ("name", "sizes"), [("vit_small_patch16_dinov3", {}), ("vit_small_patch16_dinov3_qkvb", {})]
)
def test_dinov3_gives_timms_outputs(name, sizes, tmp_path, monkeypatch) -> None:
    toy = {"embed_dim": 48, "depth": 4, "num_heads": 3}
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda model, **options: create(model, **options | toy))
    monkeypatch.setitem(insonate.models.timm_known.DINOV3, (48, 4, False), "vit_small_patch16_dinov3")
    net = timm.create_model(name, num_classes=0, **sizes).eval()
    for parameter in net.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    torch.save(net.state_dict(), tmp_path / "x.pth")
    model = insonate.load(tmp_path / "x.pth", input_size=64)
    for size in [(64, 64), (64, 96)]:
        x = torch.randn(1, 3, *size)
        tokens = model.backbone(x)
        torch.testing.assert_close(torch.cat([tokens.prefix, tokens.patch], 1), net.forward_features(x))
    assert [tuple(level.shape[-2:]) for level in model.backbone.pyramid(x)] == [
        (16, 24), (8, 12), (4, 6), (2, 3),
    ]  # fmt: skip
