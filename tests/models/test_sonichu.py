"""SONICHU and ViTPose: heads under every spelling give the same maps; mirrored pictures, mirrored points."""

from __future__ import annotations

import json

import pytest
import timm
import torch
from torch import nn

import insonate
from insonate.errors import ModelError, WeightsError
from insonate.hub import write_official
from insonate.weights import read

pytestmark = pytest.mark.usefixtures("no_grad")

TASKS = {"HC": 4, "fetal_femur": 2, "extra": 3}


def close(a, b) -> None:
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def head(points: int) -> nn.Module:
    layers = [
        nn.ConvTranspose2d(48, 16, 4, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.ConvTranspose2d(16, 16, 4, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
    ]  # fmt: skip
    module = nn.ModuleDict({"deconv_layers": nn.Sequential(*layers), "final_layer": nn.Conv2d(16, points, 1)})
    for parameter in module.parameters():
        parameter.add_(0.2 * torch.randn_like(parameter))
    return module.eval()


@pytest.fixture
def trunk() -> nn.Module:
    net = timm.models.VisionTransformer(
        img_size=64, embed_dim=48, depth=2, num_heads=3, num_classes=0, class_token=False, global_pool=""
    )
    return net.eval()


@pytest.fixture
def heads() -> dict[str, nn.Module]:
    return {task: head(points) for task, points in TASKS.items()}


def maps_of(features, own) -> torch.Tensor:
    picture = features.transpose(1, 2).unflatten(2, (4, 4))
    return own["final_layer"](own["deconv_layers"](picture))


SPELLED = {
    "heads": {"deconv_layers.": "deconv.", "final_layer.": "final."},
    "keypoint_heads": {},
    "task_heads": {
        "deconv_layers.0.": "deconv1.", "deconv_layers.1.": "batchnorm1.", "deconv_layers.3.": "deconv2.",
        "deconv_layers.4.": "batchnorm2.", "final_layer.": "conv.",
    },
}  # fmt: skip


@pytest.mark.parametrize("container", SPELLED)
def test_every_spelling_and_extra_heads(trunk, heads, container, tmp_path) -> None:
    state = {f"model.backbone.{name}": tensor for name, tensor in trunk.state_dict().items()}
    for task, own in heads.items():
        for name, tensor in own.state_dict().items():
            for theirs, ours in SPELLED[container].items():
                name = name.replace(theirs, ours)
            state[f"model.{container}.{task}.{name}"] = tensor
    torch.save(state, tmp_path / "model.pt")
    model = insonate.load(tmp_path, heads=3)
    pixels = torch.randn(2, 3, 64, 64)
    tokens = model.backbone(pixels)
    for task, own in heads.items():
        close(model.task.sets[task].head(tokens), maps_of(trunk.forward_features(pixels), own))
    with pytest.raises(ModelError, match=r"no task is called 'AOP'\. Known: HC, fetal_femur, extra"):
        model.task.chosen("AOP")
    saved = insonate.load(model.save_pretrained(tmp_path / "m"))
    extra = saved.task.sets["extra"].head(saved.backbone(pixels))
    close(extra, model.task.sets["extra"].head(tokens))
    write_official(model, tmp_path / "back.safetensors")
    assert "model.heads.extra.final.bias" in read(tmp_path / "back.safetensors")
    write_official(model, tmp_path / "card.safetensors", "sonichu")
    assert "heads.extra.final.bias" in read(tmp_path / "card.safetensors")


def test_a_known_name_with_another_number_of_points_keeps_its_name_alone(trunk, tmp_path) -> None:
    state = {f"backbone.{name}": tensor for name, tensor in trunk.state_dict().items()}
    state |= {f"keypoint_heads.HC.{name}": tensor for name, tensor in head(3).state_dict().items()}
    torch.save(state, tmp_path / "model.pt")
    task = insonate.load(tmp_path, heads=3).task
    assert (task.choices(), task.config.extra_heads) == (("HC",), {"HC": 3})
    assert task.chosen("HC").names == ("HC_p1", "HC_p2", "HC_p3")


def test_vitpose_pads_its_pictures_and_shifts_its_positions(trunk, heads, tmp_path) -> None:
    state = {f"backbone.{name}": tensor for name, tensor in trunk.state_dict().items()}
    for end in ("weight", "bias"):
        state[f"backbone.last_norm.{end}"] = state.pop(f"backbone.norm.{end}")
    state["backbone.pos_embed"] = torch.randn(1, 17, 48)
    state |= {f"keypoint_head.{name}": tensor for name, tensor in heads["HC"].state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "vitpose.pth")
    model, pixels = insonate.load(tmp_path / "vitpose.pth", heads=3), torch.randn(2, 3, 64, 64)
    weight, bias = state["backbone.patch_embed.proj.weight"], state["backbone.patch_embed.proj.bias"]
    x = nn.functional.conv2d(pixels, weight, bias, stride=16, padding=2).flatten(2).transpose(1, 2)
    x = x + state["backbone.pos_embed"][:, 1:] + state["backbone.pos_embed"][:, :1]
    for block in trunk.blocks:
        x = block(x)
    maps = maps_of(trunk.norm(x), heads["HC"])
    close(model.task.head(model.backbone(pixels)), maps)
    assert model.task.names == ("pose_p1", "pose_p2", "pose_p3", "pose_p4")
    (tmp_path / "folder").mkdir()
    torch.save(in_transformers(state), tmp_path / "folder" / "pytorch_model.bin")
    config = {"model_type": "vitpose", "backbone_config": {"num_attention_heads": 3}}
    (tmp_path / "folder" / "config.json").write_text(json.dumps(config))
    port = insonate.load(tmp_path / "folder", heads=3)
    assert (port.report.layout, port.report.family) == ("vitpose_hugging_face", "vitpose")
    close(port.task.head(port.backbone(pixels)), maps)


def in_transformers(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """ViTPose's names in transformers (VitPoseForPoseEstimation), encoder and head."""
    names = [
        ("backbone.pos_embed", "backbone.embeddings.position_embeddings"),
        ("backbone.patch_embed.proj.", "backbone.embeddings.patch_embeddings.projection."),
        ("backbone.last_norm.", "backbone.layernorm."), ("backbone.blocks.", "backbone.encoder.layer."),
        (".attn.proj.", ".attention.output.dense."), (".norm1.", ".layernorm_before."),
        (".norm2.", ".layernorm_after."), ("keypoint_head.deconv_layers.0.", "head.deconv1."),
        ("keypoint_head.deconv_layers.1.", "head.batchnorm1."),
        ("keypoint_head.deconv_layers.3.", "head.deconv2."),
        ("keypoint_head.deconv_layers.4.", "head.batchnorm2."), ("keypoint_head.final_layer.", "head.conv."),
    ]  # fmt: skip
    port = {}
    for name, tensor in state.items():
        for theirs, ours in names:
            name = name.replace(theirs, ours)
        holder, qkv, end = name.partition(".attn.qkv.")
        if not qkv:
            port[name] = tensor
            continue
        three = zip(("query", "key", "value"), tensor.chunk(3), strict=True)
        port |= {f"{holder}.attention.attention.{kind}.{end}": part.clone() for kind, part in three}
    return port


def test_a_strange_head_is_refused(trunk, heads, tmp_path) -> None:
    state = {f"backbone.{name}": tensor for name, tensor in trunk.state_dict().items()}
    state |= {f"heads.HC.{name}": tensor for name, tensor in heads["HC"].state_dict().items()}
    torch.save(state | {"heads.HC.gate.weight": torch.zeros(1)}, tmp_path / "model.pt")
    with pytest.raises(WeightsError, match=r"a head has a tensor gate\.weight"):
        insonate.load(tmp_path / "model.pt", heads=3)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "resnet18"])
def test_any_model_of_timm_by_its_name(name, tmp_path) -> None:
    net = timm.create_model(name).eval()
    torch.save(net.state_dict(), tmp_path / "x.pth")
    model, image = (
        insonate.load(tmp_path / "x.pth", family="timm", timm_name=name),
        torch.randn(1, 3, 224, 224),
    )
    features = net.forward_features(image)
    ours = model.backbone(image)
    if features.ndim == 3:
        close(torch.cat([ours.prefix, ours.patch], 1), features)
    else:
        close(ours.patch.transpose(1, 2).reshape(features.shape), features)
    with pytest.raises(WeightsError, match="timm has no model 'vit_tinny'"):
        insonate.load(tmp_path / "x.pth", family="timm", timm_name="vit_tinny")
