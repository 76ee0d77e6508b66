"""I-JEPA, V-JEPA, EchoJEPA and VideoMAE files through the loader: outputs, every published size, tables."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import timm
import torch

import insonate
from insonate.errors import ModelError
from insonate.hub import write_official
from insonate.models import build_backbone, load_official
from insonate.models.layouts import Exportable, bundle_of, recognise
from insonate.models.official import convert
from insonate.models.parts import build_part
from insonate.models.positions import TABLES, sincos_2d
from insonate.models.probes import export_probe

pytestmark = pytest.mark.usefixtures("no_grad")


def close(a, b) -> None:
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_an_ijepa_encoder_through_the_loader(fixture) -> None:
    model, content = fixture("ijepa_small_encoder", heads=3)
    encoder, spec = model.backbone, model.backbone.spec
    assert (model.report.family, model.report.layout) == ("ijepa", "jepa_encoder")
    assert (encoder.position, spec.input_size, spec.patch, spec.frames) == (
        "sincos",
        (64, 64),
        (1, 16, 16),
        1,
    )
    close(encoder(content["x"]).patch, content["y"])
    close(encoder(content["x"], content["masks_single"]).patch, content["y_masked_single"])
    listed = torch.cat([encoder(content["x"], keep).patch for keep in content["masks"]])
    close(listed, content["y_masked"])


def test_an_ijepa_predictor_through_the_loader(parity) -> None:
    path = parity / "ijepa_small_predictor.pt"
    content = torch.load(path, weights_only=True)  # noqa: TID251
    loaded = load_official(path, heads=3, input_size=64)
    predictor = loaded.parts["predictor"]
    assert (loaded.report.family, predictor.position, predictor.grid) == ("ijepa", "sincos", (1, 4, 4))
    contexts, targets = torch.stack(content["masks_x"]), torch.stack(content["masks"])
    close(predictor(content["z"], contexts, targets, (4, 4)), content["y"])
    with pytest.raises(ModelError, match="holds a predictor without an encoder"):
        insonate.load(path, heads=3, input_size=64)


@pytest.mark.parametrize("which", [None, "target_encoder", "encoder"])
def test_an_ijepa_checkpoint_gives_its_target_encoder_and_goes_back(parity, tmp_path, which) -> None:
    path = parity / "ijepa_checkpoint_layout.pt"
    content = torch.load(path, weights_only=True)  # noqa: TID251
    model = insonate.load(path, heads=2, **({} if which is None else {"which": which}))
    taken = which or "target_encoder"
    state = {name.removeprefix("module."): tensor for name, tensor in content[taken].items()}
    theirs = timm.models.VisionTransformer(
        img_size=80, patch_size=8, embed_dim=24, depth=2, num_heads=2, class_token=False, global_pool="",
        num_classes=0,
    )  # fmt: skip
    theirs.load_state_dict(state)
    x = torch.randn(2, 3, 80, 80)
    close(model.backbone(x).patch, theirs.eval().forward_features(x))
    other = "encoder" if taken == "target_encoder" else "target_encoder"
    assert model.report.ignored[other] == f"the {taken} is taken"
    write_official(insonate.load(model.save_pretrained(tmp_path / "m")), tmp_path / "back.pt")
    again = torch.load(tmp_path / "back.pt", weights_only=True)  # noqa: TID251
    for part in (taken, "predictor"):
        assert again[part].keys() == content[part].keys()
        for name, tensor in content[part].items():  # moving averages let the fixed table drift a little
            drift = 1e-3 if "pos_embed" in name else 0
            torch.testing.assert_close(again[part][name], tensor, rtol=0, atol=drift)
    x = torch.randn(2, 3, 80, 80)
    reloaded = insonate.load(tmp_path / "back.pt", heads=2)
    assert torch.equal(reloaded.backbone(x).patch, model.backbone(x).patch)


IJEPA = {
    "B": (768, 12, 12, 3072),
    "L": (1024, 24, 16, 4096),
    "H": (1280, 32, 16, 5120),
    "g": (1408, 40, 16, 6144),
}
VJEPA = IJEPA | {"g": (1408, 40, 22, 6144), "G": (1664, 48, 26, 6656)}
"""width, blocks, heads, channels between the MLP's layers (echojepa.md 1.1, ijepa.md)"""


def shapes_of(width: int, depth: int, hidden: int, kernel: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """Names and shapes of an encoder as its authors write them, without memory."""
    block = {
        "norm1.weight": (width,), "norm1.bias": (width,), "norm2.weight": (width,), "norm2.bias": (width,),
        "attn.qkv.weight": (3 * width, width), "attn.qkv.bias": (3 * width,),
        "attn.proj.weight": (width, width), "attn.proj.bias": (width,), "mlp.fc1.weight": (hidden, width),
        "mlp.fc1.bias": (hidden,), "mlp.fc2.weight": (width, hidden), "mlp.fc2.bias": (width,),
    }  # fmt: skip
    shapes = {f"blocks.{i}.{name}": shape for i in range(depth) for name, shape in block.items()}
    shapes |= {"norm.weight": (width,), "norm.bias": (width,), "patch_embed.proj.bias": (width,)}
    shapes["patch_embed.proj.weight"] = (width, 3, *kernel)
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def known(state: dict[str, torch.Tensor], prefix: str, **given):
    """What the loader says of a training checkpoint (`prefix` before each name), or of an encoder alone."""
    named = {prefix + name: tensor for name, tensor in state.items()}
    bundle = bundle_of({"target_encoder": named, "encoder": named} if prefix else named, Path("x.pth"))
    converted, report = convert(bundle, recognise(bundle), given)
    with torch.device("meta"):
        made = build_backbone(converted.backbone)
    expected = {name: tensor.shape for name, tensor in made.state_dict().items()}
    assert {name: tensor.shape for name, tensor in converted.state.items()} == expected
    return made, converted, report


@pytest.mark.parametrize("patch", [14, 16])
@pytest.mark.parametrize("size", IJEPA)
def test_every_size_of_ijepa_is_known_by_its_shapes(size, patch) -> None:
    width, depth, heads, hidden = IJEPA[size]
    state = shapes_of(width, depth, hidden, (patch, patch))
    side = 224 // patch
    state["pos_embed"] = sincos_2d((side, side), width)[None]
    made, converted, report = known(state, "module.")
    assert (report.family, converted.info["which"], made.position) == ("ijepa", "target_encoder", "sincos")
    assert (made.heads, len(made.blocks), made.spec.embed_dim) == (heads, depth, width)
    assert (made.spec.patch, made.spec.input_size) == ((1, patch, patch), (224, 224))


@pytest.mark.parametrize("prefix", ["", "module.backbone."])
@pytest.mark.parametrize("size", VJEPA)
def test_every_size_of_vjepa_2_is_known_by_its_shapes(size, prefix) -> None:
    width, depth, heads, hidden = VJEPA[size]
    made, _, report = known(shapes_of(width, depth, hidden, (2, 16, 16)), prefix)
    assert (report.family, made.position, made.heads) == ("vjepa", "rope", heads)
    assert (len(made.blocks), made.spec.patch, made.spec.frames) == (depth, (2, 16, 16), 16)
    assert any(f"heads {heads}" in sentence for sentence in report.assumed)


@pytest.mark.parametrize("size", ["B", "L"])
def test_every_size_of_videomae_is_known_by_its_shapes(size) -> None:
    width, depth, heads, hidden = IJEPA[size]
    state = shapes_of(width, depth, hidden, (2, 16, 16))
    for block in range(depth):
        del state[f"blocks.{block}.attn.qkv.bias"]
        for kind in "qv":
            state[f"blocks.{block}.attn.{kind}_bias"] = torch.empty(width, device="meta")
    made, _, report = known(state, "")
    assert (report.layout, made.position, made.heads) == ("videomae", "sinusoid", heads)
    assert (made.spec.patch, made.spec.frames, made.spec.input_size) == ((2, 16, 16), 16, (224, 224))


PROBES = {  # width, parameters of encoders' probes of 4 blocks and 1 in millions (echojepa.md 2.1)
    "L": (1024, 49.3, 11.6), "H": (1280, None, None), "g": (1408, 93.3, 21.8), "G": (1664, None, None),
}  # fmt: skip


@pytest.mark.parametrize("depth", [4, 1])
@pytest.mark.parametrize("size", PROBES)
def test_every_size_of_attentive_probe_is_known_by_its_shapes(size, depth) -> None:
    width, *millions = PROBES[size]
    options = {"name": "attentive_probe", "width": width, "depth": depth, "outputs": 174, "heads": 16}
    with torch.device("meta"):
        made = build_part(options)
    state = dict(made.state_dict())
    whole = Exportable(
        backbone={}, state={}, parts={"probe": state}, part_options={"probe": {"final": "linear"}}
    )
    theirs = {f"module.{name}": tensor for name, tensor in export_probe(whole).items()}
    assert "module.pooler.cross_attention_block.xattn.kv.weight" in theirs
    bundle = bundle_of({"classifiers": [theirs, theirs], "opt": [], "epoch": 20}, Path("x.pt"))
    converted, report = convert(bundle, recognise(bundle), {"which": 1})
    found = converted.parts["probe"]
    assert {name: tensor.shape for name, tensor in found.state.items()} == {
        n: t.shape for n, t in state.items()
    }
    assert [found.options[name] for name in ("heads", "depth", "outputs", "mlp_ratio")] == [16, depth, 174, 4]
    count = millions[depth == 1]
    own = sum(p.numel() for name, p in made.named_parameters() if not name.startswith("final"))
    assert count is None or own / 1e6 == pytest.approx(count, abs=0.06)
    assert report.layout == "probe_sweep"


def written_out(grid: tuple[int, int, int], width: int, *, even: bool) -> torch.Tensor:
    """V-JEPA's 3-D table entry by entry: [frame | row | column], each sines, then cosines."""
    shares = [2 * math.ceil(width / 6)] * 3 if even else [width // 2, width // 4, width // 4]
    rows = []
    for places in itertools.product(*map(range, grid)):
        entry = []
        for place, share in zip(places, shares, strict=True):
            angles = [place * 10000 ** (-i / (share / 2)) for i in range(share // 2)]
            entry += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
        rows.append(entry[:width])
    return torch.tensor(rows)


@pytest.mark.parametrize(("name", "even"), [("sincos_3d", False), ("sincos_3d_even", True)])
def test_a_vjepa_file_with_a_table_of_clips(name, even, tmp_path) -> None:
    table = written_out((4, 3, 5), 40, even=even)
    torch.testing.assert_close(TABLES[name]((4, 3, 5), 40), table, rtol=0, atol=1e-6)
    shapes = shapes_of(40, 2, 160, (2, 16, 16))
    state = {name: 0.2 * torch.randn(tensor.shape) for name, tensor in shapes.items()}
    torch.save(state | {"pos_embed": table[None]}, tmp_path / "x.pt")
    model = insonate.load(tmp_path / "x.pt", heads=4, frames=8, input_size=[48, 80])
    encoder, clip = model.backbone, torch.randn(2, 8, 3, 48, 80)
    assert encoder.position == name
    weight, bias = state["patch_embed.proj.weight"], state["patch_embed.proj.bias"]
    tokens = torch.nn.functional.conv3d(clip.transpose(1, 2), weight, bias, stride=(2, 16, 16))
    tokens = tokens.flatten(2).transpose(1, 2) + table
    for block in encoder.blocks:
        tokens = block(tokens)
    close(encoder(clip).patch, encoder.norm(tokens))


def test_the_family_echojepa_is_said(parity, tmp_path) -> None:
    path = parity / "vjepa_checkpoint_layout.pt"
    content = torch.load(path, weights_only=True)  # noqa: TID251
    known = {"heads": 3, "input_size": 64, "frames": 8}
    model = insonate.load(path, family="echojepa", **known)
    plain = {n.removeprefix("module.backbone."): t for n, t in content["target_encoder"].items()}
    torch.save({"state_dict": plain}, tmp_path / "plain.pt")
    other = insonate.load(tmp_path / "plain.pt", **known)
    clip = torch.randn(2, 8, 3, 64, 64)
    assert torch.equal(model.backbone(clip).patch, other.backbone(clip).patch)
    assert (model.report.family, other.report.family) == ("echojepa", "vjepa")
    assert (model.backbone.spec.stride, other.backbone.spec.stride) == (2, 4)
    assert "predictor" in model.parts
