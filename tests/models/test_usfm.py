"""USFM and TinyUSFM: every official form gives the original's outputs, and goes back as it came."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

import insonate
from insonate.errors import WeightsError
from insonate.hub import write_official
from insonate.models import build_backbone, load_official, usfm
from insonate.models.backbone import token_map
from insonate.models.layouts import EXPORTS, Exportable
from insonate.weights import read

pytestmark = pytest.mark.usefixtures("no_grad")


def close(a, b) -> None:
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def returns(model, content, tmp_path, layout=None) -> None:
    """The official file that `model` writes holds what it was made of."""
    write_official(model, tmp_path / "back.pth", layout)
    again = read(tmp_path / "back.pth")
    assert again.keys() == content.keys()
    for name, tensor in content.items():
        torch.testing.assert_close(again[name], tensor, rtol=1e-6, atol=1e-6)


def prefix_and_patches(tokens) -> torch.Tensor:
    return torch.cat([tokens.prefix, tokens.patch], dim=1)


def test_fine_tuned_usfm_classifies_as_the_original(fixture, tmp_path) -> None:
    model, content = fixture("usfm_small_perblock")
    x, outputs = content["inputs"]["x"], content["outputs"]
    close(model.task.head(model.backbone(x)), outputs["y"])
    first, last = model.backbone.intermediate(x, [0, 3], normed=False)
    close(prefix_and_patches(first), outputs["block_first"])
    close(prefix_and_patches(last), outputs["block_last"])
    returns(model, content["state_dict"], tmp_path)
    saved = insonate.load(model.save_pretrained(tmp_path / "m"))
    close(saved.task.head(saved.backbone(x)), outputs["y"])


def test_simmim_form_fills_in_hidden_patches_as_the_original(fixture, tmp_path) -> None:
    model, content = fixture("simmim_small")
    x, hidden = content["inputs"]["x"], content["inputs"]["mask"].flatten(1).bool()
    decoder = model.parts["decoder"][1]
    features = token_map(model.backbone.fill_in(x, hidden, decoder.mask_token))
    close(features, content["outputs"]["z"])
    close(decoder(features), content["outputs"]["rec"])
    returns(model, content["state_dict"], tmp_path)
    again = insonate.load(model.save_pretrained(tmp_path / "m"))
    close(again.parts["decoder"][1](features), content["outputs"]["rec"])


def test_pretrained_file_is_the_encoder_of_the_simmim_form(fixture, tmp_path) -> None:
    _, content = fixture("simmim_small")
    encoder = {k.removeprefix("encoder."): v for k, v in content["state_dict"].items() if k.startswith("enc")}
    torch.save(encoder, tmp_path / "USFM_latest.pth")
    model = insonate.load(tmp_path / "USFM_latest.pth")
    assert (model.report.layout, model.backbone.position, model.backbone.heads) == ("usfm", "relative", 6)
    returns(model, encoder, tmp_path)
    torch.save({"model": {f"encoder.{k}": v for k, v in encoder.items()}}, tmp_path / "wrapped.pth")
    wrapped = insonate.load(tmp_path / "wrapped.pth")
    x = content["inputs"]["x"]
    assert torch.equal(wrapped.backbone(x).patch, model.backbone(x).patch)


def test_hugging_face_form_is_the_same_encoder(fixture, tmp_path) -> None:
    model, content = fixture("simmim_small")
    names = [
        ("blocks.", "encoder.layer."), (".attn.proj.", ".attention.output.dense."), (".gamma_", ".lambda_"),
        (".norm1.", ".layernorm_before."), (".norm2.", ".layernorm_after."),
        (".mlp.fc1.", ".intermediate.dense."),
        (".mlp.fc2.", ".output.dense."), (".attn.q_bias", ".attention.attention.query.bias"),
        (".attn.v_bias", ".attention.attention.value.bias"),
        ("rel_pos_bias.", "encoder.relative_position_bias."),
        ("patch_embed.proj.", "embeddings.patch_embeddings.projection."),
    ]  # fmt: skip
    port = {}
    for name, tensor in content["state_dict"].items():
        if not name.startswith("encoder."):
            continue
        theirs = name.removeprefix("encoder.")
        for old, new in names:
            theirs = theirs.replace(old, new)
        theirs = {"cls_token": "embeddings.cls_token", "mask_token": "embeddings.mask_token"}.get(
            theirs, theirs
        )
        if theirs.endswith(".attn.qkv.weight"):
            holder = theirs.removesuffix(".attn.qkv.weight") + ".attention.attention."
            port |= {
                f"{holder}{n}.weight": t
                for n, t in zip(("query", "key", "value"), tensor.chunk(3), strict=True)
            }
        else:
            port[theirs.replace("norm.", "layernorm.") if theirs.startswith("norm.") else theirs] = tensor
    torch.save(port, tmp_path / "model.pt")
    (tmp_path / "folder").mkdir()
    save_file(
        {f"beit.{name}": t.contiguous() for name, t in port.items()},
        tmp_path / "folder" / "model.safetensors",
    )
    config = {
        "architectures": ["BeitModel"], "model_type": "beit", "hidden_size": 96, "num_hidden_layers": 4,
        "num_attention_heads": 6, "image_size": 64, "patch_size": 16, "layer_norm_eps": 1e-6,
        "use_shared_relative_position_bias": True,
    }  # fmt: skip
    (tmp_path / "folder" / "config.json").write_text(json.dumps(config))
    x, hidden = content["inputs"]["x"], content["inputs"]["mask"].flatten(1).bool()
    for source in ("model.pt", "folder"):
        again = insonate.load(tmp_path / source)
        assert (again.report.layout, again.report.family) == ("usfm_hugging_face", "usfm")
        close(again.backbone(x).patch, model.backbone(x).patch)
        token = again.parts["decoder"][1].mask_token
        close(token_map(again.backbone.fill_in(x, hidden, token)), content["outputs"]["z"])
    (tmp_path / "folder" / "config.json").write_text(json.dumps(config | {"num_attention_heads": 16}))
    with pytest.raises(WeightsError, match="heads is said to be 16, but is 6: its relative table") as caught:
        insonate.load(tmp_path / "folder")
    assert "\n" not in str(caught.value)


def test_tinyusfm_reads_its_class_token(fixture, tmp_path) -> None:
    model, content = fixture("tinyusfm_small_cls0", heads=12, family="tinyusfm")
    tokens = model.backbone(content["inputs"]["x"])
    close(tokens.prefix[:, 0], content["outputs"]["y"])
    first, last = model.backbone.intermediate(content["inputs"]["x"], [0, 3], normed=False)
    close(prefix_and_patches(first), content["outputs"]["block0"])
    close(prefix_and_patches(last), content["outputs"]["block3"])
    returns(model, {f"model.{k}": v for k, v in content["state_dict"].items()}, tmp_path, "tinyusfm")


@pytest.mark.parametrize("said", [{"family": "tinyusfm"}, {}])
@pytest.mark.parametrize("prefix", ["", "model.", "module.model."])
def test_tinyusfm_classifies_and_goes_back_under_the_names_it_came_with(
    fixture, tmp_path, said, prefix
) -> None:
    _, content = fixture("tinyusfm_small_cls0", heads=12)
    weight, bias = torch.randn(5, 48), torch.randn(5)
    state = content["state_dict"] | {"head.weight": weight, "head.bias": bias}
    state = {prefix + name: tensor for name, tensor in state.items()}
    torch.save(state, tmp_path / "cls.pth")
    model = insonate.load(tmp_path / "cls.pth", heads=12, **said)
    x = content["inputs"]["x"]
    close(model.task.head(model.backbone(x)), content["outputs"]["y"] @ weight.T + bias)
    write_official(insonate.load(model.save_pretrained(tmp_path / "m")), tmp_path / "back.pth")
    again = torch.load(tmp_path / "back.pth", weights_only=True)  # noqa: TID251
    assert again.keys() == state.keys()
    assert all(torch.equal(again[name], tensor) for name, tensor in state.items())


def test_a_head_without_a_place_in_the_layout_is_told(fixture, tmp_path) -> None:
    model, _ = fixture("tinyusfm_small_cls0", heads=12, family="tinyusfm")
    exported = Exportable(
        backbone=model.backbone.options,
        state=model.backbone.state_dict(),
        head={"pool.query": torch.zeros(1)},
    )
    with pytest.raises(WeightsError, match=r"this layout has no place for pool\.query"):
        EXPORTS["tinyusfm"](exported)


def test_tinyusfm_segments_as_the_original(fixture, tmp_path) -> None:
    model, content = fixture("tinyusfm_seg_small_nc3")
    x, outputs = content["inputs"]["x"], content["outputs"]
    close(model.task.head(model.backbone.pyramid(x), x.shape[-2:]), outputs["y"])
    taps = model.backbone.intermediate(x, model.backbone.raw_taps, normed=False)
    for ours, theirs in zip(taps, outputs["feats"], strict=True):
        close(token_map(ours), theirs)
    returns(model, content["state_dict"], tmp_path)
    saved = insonate.load(model.save_pretrained(tmp_path / "m"))
    close(saved.task.head(saved.backbone.pyramid(x), x.shape[-2:]), outputs["y"])


def test_one_logit_becomes_two_classes_of_the_same_probability(fixture, tmp_path) -> None:
    _, content = fixture("tinyusfm_seg_small_nc3")
    state, name = dict(content["state_dict"]), "decode_head.conv_seg"
    state |= {f"{name}.weight": state[f"{name}.weight"][1:2], f"{name}.bias": state[f"{name}.bias"][1:2]}
    torch.save(state, tmp_path / "seg.pth")
    model, x = insonate.load(tmp_path / "seg.pth"), content["inputs"]["x"]
    probs = model.task.head(model.backbone.pyramid(x), x.shape[-2:]).softmax(1)[:, 1]
    close(probs, content["outputs"]["y"][:, 1].sigmoid())
    returns(model, state, tmp_path)


def test_a_vit_tiny_is_not_taken_for_tinyusfm(tmp_path) -> None:
    tiny = build_backbone({"name": "tinyusfm"}).state_dict()
    classifier = {"head.weight": torch.zeros(1000, 192), "head.bias": torch.zeros(1000)}
    torch.save(tiny, tmp_path / "tiny.pth")
    torch.save(tiny | classifier, tmp_path / "imagenet.pth")
    torch.save({f"module.model.{k}": v for k, v in tiny.items()}, tmp_path / "official.pth")
    for name, given, words in [
        ("tiny", {}, "TinyUSFM .12 heads. and ViT-Tiny .3 heads. have the same names"),
        ("tiny", {"family": "tinyusfm", "heads": 3}, "it has 3 heads, TinyUSFM has 12"),
        ("imagenet", {"family": "tinyusfm"}, "a ViT-Tiny of ImageNet"),
    ]:
        with pytest.raises(WeightsError, match=words):
            insonate.load(tmp_path / f"{name}.pth", **given)
    assert insonate.load(tmp_path / "tiny.pth", heads=3).backbone.heads == 3
    assert insonate.load(tmp_path / "tiny.pth", family="tinyusfm").backbone.heads == 12
    assert insonate.load(tmp_path / "official.pth").info["official"]["family"] == "tinyusfm"


def test_pyramid_of_the_segmentation_network(fixture, tmp_path) -> None:
    model, content = fixture("usfm_hvit_small")
    x = content["inputs"]["x"]
    pyramid = model.parts["pyramid"][1]
    for ours, theirs in zip(pyramid(model.backbone, x), content["outputs"]["feats"], strict=True):
        close(ours, theirs)
    saved = insonate.load(model.save_pretrained(tmp_path / "m"))
    close(saved.parts["pyramid"][1](saved.backbone, x)[0], content["outputs"]["feats"][0])


def test_atm_head_draws_the_original_masks(parity, fixture, tmp_path) -> None:
    path = parity / "usfm_atmhead_small.pt"
    content = torch.load(path, weights_only=True)  # noqa: TID251
    head = load_official(path, predictor_heads=4).parts["head"]
    levels, outputs = content["inputs"]["feats"], content["outputs"]
    logits, masks = head.look(levels)
    close(logits, outputs["pred_logits"])
    close(torch.nn.functional.interpolate(masks, size=(64, 64), mode="bilinear"), outputs["pred_masks"])
    close(head(levels, (64, 64)), outputs["pred"])
    _, encoder = fixture("usfm_hvit_small")
    whole = {f"backbone.{name}": tensor for name, tensor in encoder["state_dict"].items()}
    whole |= {f"decode_head.{name}": tensor for name, tensor in content["state_dict"].items()}
    torch.save({"state_dict": whole}, tmp_path / "segvit.pth")
    model = insonate.load(tmp_path / "segvit.pth", predictor_heads=4, taps=[1, 2, 3])
    levels = model.parts["pyramid"][1](model.backbone, encoder["inputs"]["x"])
    assert model.parts["head"][1](levels, (64, 64)).shape == (2, 3, 64, 64)


def test_the_published_hash_is_checked_by_itself(tmp_path, monkeypatch) -> None:
    options = {"name": "vit", "width": 48, "depth": 12, "heads": 12, "position": "relative"}
    encoder = build_backbone(options | {"class_token": True, "layer_scale": 0.1})
    exported = Exportable(backbone=encoder.options, state=encoder.state_dict())
    state = EXPORTS["usfm"](exported) | {"mask_token": torch.zeros(1, 1, 48)}
    path = tmp_path / "renamed.bin"
    torch.save(state, path)
    report = load_official(path).report
    assert usfm.PUBLISHED_SHA256 in report.warnings[0]
    assert "warning: its SHA-256 is" in str(report)
    with pytest.raises(WeightsError, match=f"not {usfm.PUBLISHED_SHA256}"):
        load_official(path, sha256="published")
    monkeypatch.setattr(usfm, "PUBLISHED_SHA256", report.sha256)
    assert load_official(path, sha256="published").report.warnings == ()
    torch.save(state | {"head.weight": torch.zeros(3, 48), "head.bias": torch.zeros(3)}, path)
    assert load_official(path).report.sha256 == ""  # a fine-tune is another file
    with pytest.raises(WeightsError, match="no SHA-256 of it is published"):
        load_official(path, sha256="published")
