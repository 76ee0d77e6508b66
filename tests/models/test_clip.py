"""Towers of CLIP models equal timm's, open_clip's and torch's own modules with the same weights."""

from __future__ import annotations

import json

import pytest
import timm
import torch
from towers import TEXT, bert_tower, causal_tower, randomised

import insonate
from insonate.hub import write_official
from insonate.models.backbone import token_map
from insonate.models.clip import similarity
from insonate.models.clip_weights import _family
from insonate.weights import read
from insonate.weights.source import Hints, Part

pytestmark = pytest.mark.usefixtures("no_grad")


def close(a, b, tolerance=1e-5) -> None:
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def returns(model, tmp_path, state) -> None:
    """The official file that `model` writes holds what it was made of, under the same names."""
    write_official(insonate.load(model.save_pretrained(tmp_path / "again")), tmp_path / "back.bin")
    again = torch.load(tmp_path / "back.bin", weights_only=True)  # noqa: TID251
    assert again.keys() == state.keys()
    for name, tensor in state.items():
        torch.testing.assert_close(again[name], tensor, rtol=0, atol=0)


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
    returns(model, tmp_path, {prefix + name: tensor for name, tensor in content["state_dict"].items()})


@pytest.mark.parametrize("prefix", ["", "model."])
def test_trunk_of_biomedclip_under_plain_names(fixture, tmp_path, prefix) -> None:
    _, content = fixture("clip_tiny_vit")
    state = {prefix + name: tensor for name, tensor in content["state_dict"].items()}
    torch.save(state, tmp_path / "biomed_clip.bin")
    model = insonate.load(tmp_path / "biomed_clip.bin", heads=3, family="biomedclip")
    assert model.report.layout == "biomedclip_trunk"
    close(model.backbone(content["x"]).prefix[:, 0], content["out"])
    returns(model, tmp_path, state)


def test_layout_of_echoclip(fixture, tmp_path) -> None:
    model, content = fixture("clip_tiny_echoclip_layout")
    found = model.parts["image"][1](model.backbone(content["x"]))
    close(found, content["visual"], 2e-3)  # the fixture's output is of weights before their rounding to half
    assert model.report.ignored["text_projection"] == "a text tower without its token embedding"
    assert model.backbone.spec.input_size == (64, 64)  # from the config in the file
    saved = insonate.load(model.save_pretrained(tmp_path / "m"))
    close(saved.parts["image"][1](saved.backbone(content["x"])), found)
    write_official(model, tmp_path / "clip.bin")
    kept = ("visual.", "logit_scale")
    visual = {name: t.float() for name, t in content["state_dict"].items() if name.startswith(kept)}
    again = read(tmp_path / "clip.bin")
    assert again.keys() == visual.keys()
    assert all(torch.equal(again[name], visual[name]) for name in visual)


@pytest.fixture
def trunk(fixture):
    _, content = fixture("clip_tiny_vit")
    return {f"visual.trunk.{name}": tensor for name, tensor in content["state_dict"].items()}


def folder(tmp_path, state, config):
    """A folder of open_clip."""
    torch.save(state, tmp_path / "open_clip_pytorch_model.bin")
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    return tmp_path


def test_causal_text_tower(trunk, tmp_path) -> None:
    state, vectors = causal_tower()
    state |= trunk
    config = {"vision_cfg": {"image_size": 64}, "text_cfg": {"heads": 2}}
    model = insonate.load(folder(tmp_path, state, config), heads=3)
    found = model.parts["text"][1](TEXT)
    close(found, vectors(TEXT))
    assert model.info["official"]["logit_scale"] == pytest.approx(4.6)
    scores = similarity(found, found, 4.6)
    close(scores.diagonal(), torch.full((2,), 4.6).exp(), 1e-4)
    returns(model, tmp_path, state)


def echoclip(vocabulary: int):
    """timm's ConvNeXt with its projection, and a text tower, in one file; and the image's vector."""
    net = randomised(timm.models.ConvNeXt(depths=(1, 1, 2, 1), dims=(8, 16, 24, 32), num_classes=0))
    project = torch.randn(16, 32)
    text, vectors = causal_tower(vocabulary)
    state = {f"visual.trunk.{name}": tensor for name, tensor in net.state_dict().items()}
    state |= text | {"visual.head.proj.weight": project}
    return state, lambda image: net(image) @ project.T, vectors


@pytest.mark.parametrize(("family", "vocabulary"), [("echoclip", 50), ("echoclip_r", 61)])
def test_both_towers_of_echoclip_in_one_file(tmp_path, family, vocabulary) -> None:
    state, image_vectors, text_vectors = echoclip(vocabulary)
    torch.save(state, tmp_path / "open_clip_pytorch_model.bin")
    given = {"family": family, "text_heads": 2, "input_size": 64}
    model, image = insonate.load(tmp_path / "open_clip_pytorch_model.bin", **given), torch.randn(2, 3, 64, 64)
    close(model.parts["image"][1](model.backbone(image)), image_vectors(image))
    close(model.parts["text"][1](TEXT), text_vectors(TEXT))
    assert model.parts["text"][0]["vocabulary"] == vocabulary
    assert (model.report.family, model.info["license"]) == (family, "Cedars-Sinai Academic Software License")
    spec = model.backbone.spec
    assert (spec.resize, spec.interpolation, spec.margin) == ("crop", "bicubic", 1.25)
    assert spec.mean == (0.48145466, 0.4578275, 0.40821073)
    assert spec.std == (0.26862954, 0.26130258, 0.27577711)
    returns(model, tmp_path, state)


def test_the_two_echoclips_are_told_apart_by_their_vocabulary() -> None:
    options = {"widths": (128, 256, 512, 1024)}
    for vocabulary, family in [(49408, "echoclip"), (771, "echoclip_r")]:
        part = Part(options={"name": "clip_text", "vocabulary": vocabulary}, state={})
        assert _family(Hints({}, {}, "x"), options, part) == family
    assert _family(Hints({}, {}, "x"), options, None) == "echoclip"


@pytest.mark.parametrize("form", ["file", "folder"])
def test_bert_text_tower_of_biomedclip(trunk, tmp_path, form, fixture) -> None:
    state, vectors = bert_tower()
    project = torch.randn(16, 48)
    state |= trunk | {"visual.head.proj.weight": project}
    given = {"heads": 3, "text_heads": 2}
    if form == "folder":  # what the hub's repository has
        config = {
            "embed_dim": 16, "vision_cfg": {"timm_model_name": "vit_base_patch16_224", "image_size": 64},
            "text_cfg": {"hf_model_name": "microsoft/BiomedNLP", "context_length": 9},
        }  # fmt: skip
        model = insonate.load(folder(tmp_path, state, config), **given)
    else:
        torch.save(state, tmp_path / "biomed_clip.bin")
        model = insonate.load(tmp_path / "biomed_clip.bin", **given)
    assert (model.report.family, model.info["license"]) == ("biomedclip", "MIT")
    close(model.parts["text"][1](TEXT), vectors(TEXT))
    _, content = fixture("clip_tiny_vit")
    close(model.parts["image"][1](model.backbone(content["x"])), content["out"] @ project.T)
    returns(model, tmp_path, state)
