"""Towers of CLIP models equal timm's, open_clip's and torch's own modules with the same weights."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

import insonate
from insonate.hub import write_official
from insonate.models.backbone import token_map
from insonate.models.clip import similarity
from insonate.weights import read

pytestmark = pytest.mark.usefixtures("no_grad")


def close(a, b, tolerance=1e-5) -> None:
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def test_convnext_trunk(fixture, tmp_path) -> None:
    model, content = fixture("clip_tiny_convnext", family="echoclip")
    tokens = model.backbone(content["x"])
    close(token_map(tokens), content["features"])
    close(model.parts["pool_norm"][1](tokens.patch), content["out"])
    for ours, theirs in zip(model.backbone.pyramid(content["x"]), content["intermediates"][1:], strict=True):
        close(ours, theirs)
    assert model.backbone.spec.mean[0] == pytest.approx(0.48145466)
    write_official(model, tmp_path / "x.safetensors", "convnext")
    again = read(tmp_path / "x.safetensors")
    assert again.keys() == content["state_dict"].keys()


def test_vit_trunk(fixture) -> None:
    model, content = fixture("clip_tiny_vit")
    tokens = model.backbone(content["x"])
    close(torch.cat([tokens.prefix, tokens.patch], dim=1), content["features"])
    close(tokens.prefix[:, 0], content["out"])


@pytest.mark.parametrize("prefix", ["visual.trunk.", "trunk."])
def test_trunk_of_biomedclip_under_every_prefix(fixture, tmp_path, prefix) -> None:
    _, content = fixture("clip_tiny_vit")
    torch.save(
        {prefix + name: tensor for name, tensor in content["state_dict"].items()}, tmp_path / "bio.bin"
    )
    model = insonate.load(tmp_path / "bio.bin", heads=3, family="biomedclip")
    close(model.backbone(content["x"]).prefix[:, 0], content["out"])
    assert (model.backbone.spec.mean[0], model.info["license"]) == (0.48145466, "MIT")


def test_layout_of_echoclip(fixture, tmp_path) -> None:
    model, content = fixture("clip_tiny_echoclip_layout")
    found = model.parts["image"][1](model.backbone(content["x"]))
    close(found, content["visual"], 2e-3)  # the fixture's output is of weights before their rounding to half
    assert model.report.ignored["text_projection"] == "a text tower without its token embedding"
    assert model.backbone.spec.input_size == (64, 64)  # from the config in the file
    saved = insonate.load(model.save_pretrained(tmp_path / "m"))
    close(saved.parts["image"][1](saved.backbone(content["x"])), found)
    write_official(model, tmp_path / "clip.bin")
    visual = {name: t.float() for name, t in content["state_dict"].items() if name.startswith("visual.")}
    again = read(tmp_path / "clip.bin")
    assert again.keys() == visual.keys()
    assert all(torch.equal(again[name], visual[name]) for name in visual)


def randomised(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    return module.eval()


def torch_blocks(depth: int, width: int, eps: float, *, norm_first: bool) -> nn.ModuleList:
    return randomised(
        nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, 2, 4 * width, 0.0, "gelu", eps, batch_first=True, norm_first=norm_first
            )
            for _ in range(depth)
        )
    )


@pytest.fixture
def trunk(fixture):
    _, content = fixture("clip_tiny_vit")
    return {f"visual.trunk.{name}": tensor for name, tensor in content["state_dict"].items()}


def test_causal_text_tower(trunk, tmp_path) -> None:
    blocks, norm = torch_blocks(2, 32, 1e-5, norm_first=True), randomised(nn.LayerNorm(32))
    embed, places, projection = torch.randn(50, 32), torch.randn(9, 32), torch.randn(32, 16)
    state = {
        "token_embedding.weight": embed, "positional_embedding": places, "text_projection": projection,
        "logit_scale": torch.tensor(4.6), **{f"ln_final.{n}": t for n, t in norm.state_dict().items()},
    }  # fmt: skip
    names = [
        ("self_attn.", "attn."), ("norm", "ln_"), ("linear1", "mlp.c_fc"), ("linear2", "mlp.c_proj"),
    ]  # fmt: skip
    for name, tensor in blocks.state_dict().items():
        for ours, theirs in names:
            name = name.replace(ours, theirs)
        state[f"transformer.resblocks.{name}"] = tensor
    torch.save(trunk | state, tmp_path / "open_clip_pytorch_model.bin")
    config = {"model_cfg": {"vision_cfg": {"image_size": 64}, "text_cfg": {"heads": 2}}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    model = insonate.load(tmp_path, heads=3)
    text = torch.tensor([[3, 7, 49, 0, 0, 0, 0, 0, 0], [5, 4, 8, 9, 2, 1, 6, 11, 49]])
    x = embed[text] + places
    mask = nn.Transformer.generate_square_subsequent_mask(9)
    for block in blocks:
        x = block(x, src_mask=mask)
    expected = norm(x)[torch.arange(2), torch.tensor([2, 8])] @ projection
    found = model.parts["text"][1](text)
    close(found, expected)
    assert model.info["official"]["logit_scale"] == pytest.approx(4.6)
    scores = similarity(found, found, 4.6)
    close(scores.diagonal(), torch.full((2,), 4.6).exp(), 1e-4)


def test_bert_text_tower(trunk, tmp_path) -> None:
    width, blocks = 64, torch_blocks(2, 64, 1e-12, norm_first=False)
    norm = randomised(nn.LayerNorm(width, eps=1e-12))
    embed, places, types = torch.randn(50, width), torch.randn(9, width), torch.randn(2, width)
    first, second = torch.randn(40, width) / 8, torch.randn(16, 40) / 8
    tower = {
        "embeddings.word_embeddings.weight": embed, "embeddings.position_embeddings.weight": places,
        "embeddings.token_type_embeddings.weight": types,
        "embeddings.LayerNorm.weight": norm.weight, "embeddings.LayerNorm.bias": norm.bias,
    }  # fmt: skip
    names = {
        "self_attn.out_proj": "attention.output.dense", "norm1": "attention.output.LayerNorm",
        "linear1": "intermediate.dense", "linear2": "output.dense", "norm2": "output.LayerNorm",
    }  # fmt: skip
    for i, block in enumerate(blocks):
        for name, tensor in block.state_dict().items():
            if "in_proj" in name:
                end = name.rpartition("_")[2]
                three = zip(("query", "key", "value"), tensor.chunk(3), strict=True)
                tower |= {f"encoder.layer.{i}.attention.self.{n}.{end}": part for n, part in three}
                continue
            layer, end = name.rsplit(".", 1)
            tower[f"encoder.layer.{i}.{names[layer]}.{end}"] = tensor
    state = {f"text.transformer.{name}": tensor for name, tensor in tower.items()}
    state |= {"text.proj.0.weight": first, "text.proj.2.weight": second, "logit_scale": torch.tensor(4.6)}
    torch.save(trunk | state, tmp_path / "biomed_clip.bin")
    model = insonate.load(tmp_path / "biomed_clip.bin", heads=3, text_heads=2)
    assert model.info["official"]["family"] == "biomedclip"
    text = torch.tensor([[3, 7, 49, 0, 0, 0, 0, 0, 0], [5, 4, 8, 9, 2, 1, 6, 11, 49]])
    x = norm(embed[text] + places + types[0])
    for block in blocks:
        x = block(x, src_key_padding_mask=text == 0)
    expected = nn.functional.gelu(x[:, 0] @ first.T) @ second.T
    close(model.parts["text"][1](text), expected)
