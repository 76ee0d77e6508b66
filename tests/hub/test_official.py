"""Official checkpoints as models: loaded, shown, converted, written back; what does not fit is one line."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from typer.testing import CliRunner

import insonate
from insonate.cli import app
from insonate.data import prepare
from insonate.errors import InsonateError, ModelError, WeightsError


def run(*words) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def encoder(parity):
    return parity / "vjepa_encoder_rope.pt"


def test_show_says_what_a_file_is_and_writes_nothing(encoder, tmp_path) -> None:
    told = run("models", "show", encoder)
    assert "vjepa, layout jepa_encoder" in told
    assert "40 matched, 0 converted, 0 missing, 0 unexpected, 0 ignored" in told
    facts = json.loads(run("models", "show", encoder, "--json"))
    assert (facts["backbone"]["heads"], facts["backbone"]["position"]) == (3, "rope")


def test_convert_writes_a_model_folder_and_the_authors_layout_again(encoder, tmp_path) -> None:
    run("convert", encoder, "-o", tmp_path / "m")
    run("convert", tmp_path / "m", "-o", tmp_path / "back.safetensors", "--layout", "same")
    first, again = insonate.load(encoder), insonate.load(tmp_path / "back.safetensors", heads=3, frames=8)
    clip = torch.randn(1, 8, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(first.backbone(clip).patch, again.backbone(clip).patch)
    checkpoint = torch.load(encoder, weights_only=True)["state_dict"]  # noqa: TID251
    assert insonate.weights.read(tmp_path / "back.safetensors").keys() == checkpoint.keys()
    with pytest.raises(ModelError, match="safetensors has not"):
        run("convert", tmp_path / "m", "-o", tmp_path / "x.safetensors", "--layout", "jepa")
    with pytest.raises(ModelError, match="no layout 'jepaa'"):
        run("convert", tmp_path / "m", "-o", tmp_path / "x.pth", "--layout", "jepaa")


def test_training_checkpoint_goes_back_with_its_predictor(parity, tmp_path) -> None:
    path = parity / "vjepa_checkpoint_layout.pt"
    given = {"heads": 3, "input_size": 64, "frames": 8}
    model = insonate.load(path, **given)
    run("convert", model.save_pretrained(tmp_path / "m"), "-o", tmp_path / "latest.pt", "--layout", "same")
    ours = torch.load(tmp_path / "latest.pt", weights_only=True)  # noqa: TID251
    theirs = torch.load(path, weights_only=True)  # noqa: TID251
    for part in ("target_encoder", "predictor"):
        assert ours[part].keys() == theirs[part].keys()
        assert all(torch.equal(ours[part][name], theirs[part][name]) for name in theirs[part])


def test_convert_tells_of_the_probe_and_of_scaled_positions(encoder, parity, tmp_path) -> None:
    words = ["convert", encoder, "-o", tmp_path / "m", f"probe={parity / 'vjepa_attentive_classifier_d1.pt'}"]
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert "layout jepa_encoder" in result.stderr
    assert "layout attentive_probe" in result.stderr
    assert "assumed: classes 0 to 4" in result.stderr
    told = run(
        "models", "show", parity / "vjepa_v21_nod4.pt", "heads=3", "input_size=64", "interpolate_rope=true"
    )
    assert "rope_reach=16" in told


def test_a_probe_alone_is_no_model(parity) -> None:
    with pytest.raises(ModelError, match="holds a probe without an encoder"):
        insonate.load(parity / "vjepa_attentive_classifier_d1.pt")


def test_what_cannot_be_an_official_checkpoint_is_told_in_a_line(encoder, tmp_path) -> None:
    (tmp_path / "cut.pt").write_bytes(encoder.read_bytes()[:5000])
    (tmp_path / "code.pkl").write_bytes(b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x02ls\x85R.")
    torch.save({"fc.weight": torch.zeros(2, 2)}, tmp_path / "other.pt")
    (tmp_path / "two").mkdir()
    for name in ("a.pt", "b.pt"):
        torch.save({"x": torch.zeros(1)}, tmp_path / "two" / name)
    for source, given, words in [
        ("cut.pt", {}, "cut.pt"),
        ("code.pkl", {}, "neither safetensors nor an archive"),
        ("other.pt", {}, r"is of no layout that is known .it has fc\.weight"),
        ("two", {}, "a folder with one weights file is needed, found a.pt, b.pt"),
        ("other.pt", {"family": "usfm"}, "is not of the family usfm"),
    ]:
        with pytest.raises(WeightsError, match=words) as caught:
            insonate.load(tmp_path / source, **given)
        assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match="is no official checkpoint: heads"):
        insonate.load(tmp_path / "nowhere", heads=3)
    with pytest.raises(InsonateError, match="is no key=value"):
        run("models", "show", encoder, "heads")


def test_a_video_model_takes_clips_and_shows_a_still_in_all_frames(encoder) -> None:
    model = insonate.load(encoder, family="echojepa")
    assert (model.input.frames, model.input.stride, model.input.resize) == (8, 2, "crop")
    loop = np.random.default_rng(0).integers(0, 255, (38, 70, 90, 1), dtype=np.uint8)
    rows = model.embed(loop)
    assert rows.shape == (2, 48)  # 19 frames: two clips of eight, and three left over
    prepared = torch.stack([model.preprocess(frame)[0] for frame in loop[16:32:2]])[None]
    with torch.no_grad():
        np.testing.assert_allclose(rows[1], model.backbone(prepared).patch.mean(1)[0], rtol=1e-4, atol=1e-5)
        still = model.preprocess(loop[0])[0][None]
        repeated = model.backbone(still[:, None].expand(-1, 8, -1, -1, -1)).patch
        assert torch.equal(model.backbone(still).patch, repeated)
    short = model.embed(loop[:3])
    assert short.shape == (1, 48)


def test_preprocessing_is_that_of_each_family(parity) -> None:
    known = torch.load(parity / "clip_preprocess.pt", weights_only=True)  # noqa: TID251
    model = insonate.load(parity / "clip_tiny_vit.pt", family="biomedclip", heads=3)
    fmt = replace(model.format, height=224, width=224)
    ours, matrix = prepare(known["rgb_300x400"].numpy(), fmt)
    level = 1 / 255 / min(fmt.std)
    assert (ours - known["open_clip_val"]).abs().max() <= 1.01 * level
    assert (ours - known["open_clip_val"]).abs().mean() < 0.01 * level
    x, y, _ = np.asarray(matrix) @ [199.5, 149.5, 1]  # the middle stays the middle
    assert (x, y) == (pytest.approx(111.5, abs=0.5), pytest.approx(111.5))
    config = model.config().input
    assert (config.resize, config.interpolation) == ("crop", "bicubic")


def test_masks_and_points_follow_a_crop() -> None:
    from insonate.data.transforms import InputFormat, plain, resample, resample_mask

    fmt = InputFormat(height=64, width=64, channels=1, mean=(0.0,), std=(1.0,), resize="crop", margin=1.25)
    picture = np.zeros((120, 200), np.uint8)
    picture[50:70, 90:130] = 255
    geometry = plain(picture.shape, fmt)
    image, mask = resample(picture, geometry, fmt), resample_mask(picture // 255, geometry, fmt)
    assert image.shape == (1, 64, 64)
    assert ((image[0] > 127) == (mask > 0)).float().mean() > 0.98
    rows, columns = torch.nonzero(mask, as_tuple=True)
    centre = geometry.points(np.array([[109.5, 59.5]]))[0]
    assert abs(columns.float().mean() - centre[0]) < 0.5
    assert abs(rows.float().mean() - centre[1]) < 0.5


@pytest.mark.parametrize("form", ["class", "mean", "scaled", "bare"])
def test_a_vit_of_timm_goes_back_as_it_came(form, tmp_path) -> None:
    options = {
        "class": {"num_classes": 5}, "mean": {"num_classes": 5, "global_pool": "avg"},
        "scaled": {"num_classes": 0, "init_values": 0.1},
        "bare": {"num_classes": 0, "class_token": False, "global_pool": "avg", "fc_norm": False},
    }[form]  # fmt: skip
    net = timm.models.VisionTransformer(img_size=64, embed_dim=48, depth=2, num_heads=3, **options)
    torch.save(net.state_dict(), tmp_path / "x.pth")
    model = insonate.load(tmp_path / "x.pth", heads=3)
    run("convert", model.save_pretrained(tmp_path / "m"), "-o", tmp_path / "back.pth", "--layout", "same")
    again = insonate.weights.read(tmp_path / "back.pth")
    assert again.keys() == net.state_dict().keys()
    assert all(torch.equal(again[name], tensor) for name, tensor in net.state_dict().items())
