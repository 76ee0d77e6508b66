"""EchoPrime, PanEcho and VideoMAE: our modules equal torchvision's and torch's own with the same weights."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.video.mvit import MViT

import insonate
from insonate.errors import ModelError, WeightsError
from insonate.hub import write_official
from insonate.models import BACKBONES, build_backbone
from insonate.models.echoprime import VIEWS, MvitOptions, _blocks
from insonate.models.panecho_tasks import CLASSES, COLUMNS
from insonate.models.positions import sinusoid
from insonate.weights import read

pytestmark = pytest.mark.usefixtures("no_grad")


def close(a, b) -> None:
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def randomised(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    return module.eval()


def returns(model, state, tmp_path) -> None:
    write_official(model, tmp_path / "back.pth")
    again = read(tmp_path / "back.pth")
    if "weights" in state:
        state, again = state["weights"], again["weights"]
    assert again.keys() == state.keys()
    assert all(torch.equal(again[name], tensor) for name, tensor in state.items())


def small_mvit(size=64, frames=4, outputs=12) -> MViT:
    options = MvitOptions(input_size=(size, size), frames=frames, stages=(1, 1, 2, 1), stem=8)
    net = MViT(
        (size, size), frames, _blocks(options), residual_pool=True, residual_with_cls_embed=False,
        rel_pos_embed=True, proj_after_attn=True, num_classes=outputs,
    )  # fmt: skip
    return randomised(net)


def test_echoprime_embeds_clips_as_the_original(tmp_path) -> None:
    net = small_mvit()
    torch.save(net.state_dict(), tmp_path / "echo_prime_encoder.pt")
    model = insonate.load(tmp_path / "echo_prime_encoder.pt")
    clip = torch.randn(2, 3, 4, 64, 64)
    tokens = model.backbone(clip.transpose(1, 2))
    close(model.parts["projection"][1](tokens), net(clip))
    assert (tokens.grid, model.backbone.spec.frames) == ((2, 2, 2), 4)
    assert [tuple(m.shape[1:]) for m in model.backbone.pyramid(clip.transpose(1, 2))] == [
        (8, 16, 16), (16, 8, 8), (32, 4, 4), (64, 2, 2),
    ]  # fmt: skip
    returns(model, net.state_dict(), tmp_path)


def test_default_mvit_has_torchvisions_names_and_shapes() -> None:
    with torch.device("meta"):
        theirs = torchvision.models.video.mvit_v2_s().state_dict()
        ours = build_backbone({"name": "echoprime"}).state_dict()
    expected = {name: tensor.shape for name, tensor in theirs.items() if not name.startswith("head.")}
    assert {name: tensor.shape for name, tensor in ours.items()} == expected


def small_convnext(outputs: int | None) -> ConvNeXt:
    sizes = [
        CNBlockConfig(8, 16, 1),
        CNBlockConfig(16, 24, 1),
        CNBlockConfig(24, 32, 2),
        CNBlockConfig(32, None, 1),
    ]
    net = ConvNeXt(sizes, num_classes=outputs or 1, layer_scale=0.5)
    if outputs is None:
        net.classifier[-1] = nn.Identity()
    return randomised(net)


def test_view_classifier_names_its_views(tmp_path) -> None:
    net = small_convnext(len(VIEWS))
    torch.save(net.state_dict(), tmp_path / "view_classifier.pt")
    model, image = insonate.load(tmp_path / "view_classifier.pt", input_size=64), torch.randn(2, 3, 64, 64)
    close(model.task.head(model.backbone(image)), net(image))
    assert model.task.config.classes == VIEWS
    assert model.backbone.spec.mean[0] == pytest.approx(29.110628 / 255)
    returns(model, net.state_dict(), tmp_path)


class FrameTransformer(nn.Module):
    """The structure that the authors describe, of torch's own modules."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.ModuleDict({"model": small_convnext(None)})
        layer = nn.TransformerEncoderLayer(
            32, 8, dim_feedforward=32, dropout=0.0, activation="relu", batch_first=True
        )
        self.transformer = nn.TransformerEncoder(layer, num_layers=2)
        self.time_encoder = nn.ParameterDict({"pe": sinusoid((16, 1, 1), 32)[None]})

    def forward(self, clip):  # B C T H W
        frames = clip.reshape(-1, clip.shape[1], *clip.shape[3:])  # as theirs: the axes are not moved
        pooled = self.encoder["model"](frames).reshape(len(clip), clip.shape[2], -1)
        return self.transformer(pooled + self.time_encoder["pe"][0, : clip.shape[2]]).mean(1)


class MultiTask(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = FrameTransformer()
        for name, outputs in {"EF": 1, "RASize": 1, "LVSize": 3, "E|EAvg": 1, "GLS": 1, "new": 2}.items():
            self.add_module(f"{name}_head", nn.Sequential(nn.Dropout(0.25), nn.Linear(32, outputs)))


@pytest.mark.parametrize("frames", [16, 5])
def test_panecho_gives_the_values_of_its_tasks(tmp_path, frames) -> None:
    net = MultiTask().eval()
    for name, parameter in net.named_parameters():
        if "time_encoder" not in name:
            parameter.add_(0.1 * torch.randn_like(parameter))
    torch.save({"weights": net.state_dict(), "epoch": 3}, tmp_path / "panecho.pt")
    model = insonate.load(tmp_path / "panecho.pt", input_size=32)
    clip = torch.randn(2, 3, frames, 32, 32)
    tokens = model.backbone(clip.transpose(1, 2))
    features = net.encoder(clip)
    close(tokens.patch.mean(1), features)
    values = model.parts["heads"][1](tokens)
    close(values["LVSize"], net.LVSize_head[1](features))
    close(values["RASize"], 1 - net.RASize_head[1](features))
    assert model.tasks == tuple(values) == ("EF", "RASize", "LVSize", "E|EAvg", "GLS", "new")
    assert model.report.ignored == {"encoder.time_encoder.pe": "computed from the time"}
    saved = insonate.load(model.save_pretrained(tmp_path / "m"))
    close(saved.parts["heads"][1](saved.backbone(clip.transpose(1, 2)))["EF"], values["EF"])
    if frames == 16:
        returns(saved, {"weights": net.state_dict()}, tmp_path)


def test_heads_of_panecho_are_tasks(tmp_path) -> None:
    torch.manual_seed(3)
    net = MultiTask().eval()
    torch.save({"weights": net.state_dict()}, tmp_path / "panecho.pt")
    model = insonate.load(tmp_path / "panecho.pt", input_size=32)
    loop = np.random.default_rng(0).integers(0, 255, (16, 40, 50, 1), dtype=np.uint8)
    clip = torch.stack([model.preprocess(frame)[0] for frame in loop])[None]
    features = net.encoder(clip.transpose(1, 2))
    found = {name: model.predict(loop, task=name, tta=False) for name in model.tasks}
    logit = net.RASize_head[1](features).item()
    assert found["RASize"].names == ("Dilated", "Normal")
    assert found["RASize"].value[1] == pytest.approx(1 / (1 + math.exp(-logit)), rel=1e-4)
    assert found["LVSize"].names == ("Mildly Increased", "Moderately|Severely Increased", "Normal")
    np.testing.assert_allclose(found["LVSize"].value, net.LVSize_head[1](features).softmax(-1)[0], rtol=1e-4)
    assert found["new"].names == ("0", "1")
    (ef,) = found["EF"].measurements.values()
    assert (ef.unit, ef.value) == ("percent", pytest.approx(net.EF_head[1](features).item(), rel=1e-4))
    assert float(found["GLS"].value) == pytest.approx(-net.GLS_head[1](features).item(), rel=1e-4)
    assert len(CLASSES) == 19
    assert len(COLUMNS) == 21
    with pytest.raises(ModelError, match="no task is called 'LVSice'"):
        model.predict(loop, task="LVSice")


def test_published_panecho_has_the_published_size() -> None:
    with torch.device("meta"):
        count = sum(p.numel() for p in build_backbone({"name": "panecho"}).parameters())
    assert 39e6 < count < 42.1e6  # 42.0 M with its heads and stored positions


def beit_block(width: int, prefix: str, count: int) -> dict[str, torch.Tensor]:
    shapes = {
        "norm1.weight": (width,), "norm1.bias": (width,), "attn.q_bias": (width,), "attn.v_bias": (width,),
        "attn.qkv.weight": (3 * width, width), "attn.proj.weight": (width, width), "attn.proj.bias": (width,),
        "norm2.weight": (width,), "norm2.bias": (width,), "mlp.fc1.weight": (4 * width, width),
        "mlp.fc1.bias": (4 * width,), "mlp.fc2.weight": (width, 4 * width), "mlp.fc2.bias": (width,),
    }  # fmt: skip
    names = [(f"{prefix}blocks.{i}.{name}", shape) for i in range(count) for name, shape in shapes.items()]
    return {name: 0.2 * torch.randn(shape) for name, shape in names}


def plain_blocks(x: torch.Tensor, state: dict[str, torch.Tensor], prefix: str, count: int, heads: int):
    """The authors' block, written out."""
    functional = nn.functional
    for i in range(count):
        own = {
            n.removeprefix(f"{prefix}blocks.{i}."): t for n, t in state.items() if f"{prefix}blocks.{i}." in n
        }
        width = x.shape[-1]
        y = functional.layer_norm(x, (width,), own["norm1.weight"], own["norm1.bias"], 1e-6)
        bias = torch.cat([own["attn.q_bias"], torch.zeros(width), own["attn.v_bias"]])
        qkv = functional.linear(y, own["attn.qkv.weight"], bias).reshape(*x.shape[:2], 3, heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        seen = ((q * (width // heads) ** -0.5) @ k.transpose(-2, -1)).softmax(-1) @ v
        x = x + functional.linear(
            seen.transpose(1, 2).flatten(2), own["attn.proj.weight"], own["attn.proj.bias"]
        )
        y = functional.layer_norm(x, (width,), own["norm2.weight"], own["norm2.bias"], 1e-6)
        y = functional.gelu(functional.linear(y, own["mlp.fc1.weight"], own["mlp.fc1.bias"]))
        x = x + functional.linear(y, own["mlp.fc2.weight"], own["mlp.fc2.bias"])
    return x


def test_videomae_encodes_and_fills_in(tmp_path) -> None:
    state = beit_block(24, "encoder.", 2) | beit_block(16, "decoder.", 1)
    state |= {
        "encoder.patch_embed.proj.weight": 0.1 * torch.randn(24, 3, 2, 16, 16),
        "encoder.patch_embed.proj.bias": torch.randn(24), "encoder.norm.weight": torch.rand(24) + 0.5,
        "encoder.norm.bias": torch.randn(24), "encoder_to_decoder.weight": torch.randn(16, 24),
        "mask_token": torch.randn(1, 1, 16), "decoder.norm.weight": torch.rand(16) + 0.5,
        "decoder.norm.bias": torch.randn(16), "decoder.head.weight": torch.randn(1536, 16) / 4,
        "decoder.head.bias": torch.randn(1536),
    }  # fmt: skip
    torch.save({"model": state, "epoch": 1}, tmp_path / "checkpoint.pth")
    model = insonate.load(tmp_path / "checkpoint.pth", heads=3, predictor_heads=2, input_size=32, frames=8)
    clip = torch.randn(2, 8, 3, 32, 32)
    conv = nn.functional.conv3d(
        clip.transpose(1, 2), state["encoder.patch_embed.proj.weight"],
        state["encoder.patch_embed.proj.bias"], stride=(2, 16, 16),
    )  # fmt: skip
    x = conv.flatten(2).transpose(1, 2) + sinusoid((4, 2, 2), 24)
    keep, hidden = torch.tensor([[0, 5, 9, 14], [1, 2, 3, 15]]), torch.tensor([[1, 7], [0, 8]])
    visible = torch.stack([x[i, keep[i]] for i in range(2)])
    visible = plain_blocks(visible, state, "encoder.", 2, 3)
    visible = nn.functional.layer_norm(
        visible, (24,), state["encoder.norm.weight"], state["encoder.norm.bias"], 1e-6
    )
    ours = model.backbone(clip, keep).patch
    close(ours, visible)
    table = sinusoid((4, 2, 2), 16)
    asked = state["mask_token"] + table[hidden]
    full = torch.cat([visible @ state["encoder_to_decoder.weight"].T + table[keep], asked], 1)
    full = plain_blocks(full, state, "decoder.", 1, 2)[:, -2:]
    full = nn.functional.layer_norm(
        full, (16,), state["decoder.norm.weight"], state["decoder.norm.bias"], 1e-6
    )
    pixels = full @ state["decoder.head.weight"].T + state["decoder.head.bias"]
    close(model.parts["decoder"][1](ours, keep[None], hidden[None], (4, 2, 2)), pixels)
    returns(model, state, tmp_path)


def test_fine_tuned_videomae_reads_the_mean(tmp_path) -> None:
    state = beit_block(24, "", 2) | {
        "patch_embed.proj.weight": torch.randn(24, 3, 2, 16, 16), "patch_embed.proj.bias": torch.randn(24),
        "fc_norm.weight": torch.rand(24), "fc_norm.bias": torch.randn(24),
        "head.weight": torch.randn(5, 24), "head.bias": torch.randn(5),
    }  # fmt: skip
    torch.save({"module": state}, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match="heads cannot be told"):
        insonate.load(tmp_path / "x.pth")
    model = insonate.load(tmp_path / "x.pth", heads=3, input_size=32, frames=4, family="echomae")
    assert model.task.config.head == "norm_linear"
    clip = torch.randn(2, 4, 3, 32, 32)
    conv = nn.functional.conv3d(
        clip.transpose(1, 2), state["patch_embed.proj.weight"], state["patch_embed.proj.bias"],
        stride=(2, 16, 16),
    )  # fmt: skip
    x = plain_blocks(conv.flatten(2).transpose(1, 2) + sinusoid((2, 2, 2), 24), state, "", 2, 3).mean(1)
    x = nn.functional.layer_norm(x, (24,), state["fc_norm.weight"], state["fc_norm.bias"], 1e-6)
    close(model.task.head(model.backbone(clip)), x @ state["head.weight"].T + state["head.bias"])
    assert (model.report.family, model.backbone.spec.stride) == ("echomae", 4)
    assert any("classes 0 to 4" in sentence for sentence in model.report.assumed)
    returns(model, state, tmp_path)
    assert "videomae_base" in BACKBONES.names()
