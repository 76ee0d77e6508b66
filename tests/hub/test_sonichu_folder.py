"""Nine tasks by name; the folder of SONICHU's card, written, read and used as the card says."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import insonate
from insonate.cli import app
from insonate.data.pointorders import OFFICIAL, ordered
from insonate.data.pointsets import POINT_SETS
from insonate.errors import ModelError
from insonate.hub import Model, SonichuModel, SonichuPreprocessor, write_card_folder
from insonate.hub.sonichu import main
from insonate.models import build_backbone
from insonate.tasks import build_task
from insonate.weights import read

VIT = {"name": "vit", "input_size": [64, 64], "width": 48, "depth": 1, "heads": 3}
COUNTS = {name: len(one.names) for name, one in POINT_SETS.items()} | {"extra": 3}
PICTURE = np.random.default_rng(0).integers(0, 255, (70, 90), dtype=np.uint8)


def made(vit=VIT, **options) -> Model:
    torch.manual_seed(0)
    backbone = build_backbone(vit)
    options = {
        "name": "biometry", "column": "keypoints", "head_width": 8, "extra_heads": {"extra": 3},
        "project": False, **options,
    }  # fmt: skip
    task = build_task(backbone, options).eval()
    with torch.no_grad():
        for parameter in task.head.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        for head in task.head.heads.values():
            head.final.weight.mul_(4)  # peaks in all maps
    return Model(backbone, task)


@pytest.fixture(scope="module")
def nine() -> Model:
    return made()


@pytest.fixture(scope="module")
def folder(nine, tmp_path_factory):
    return write_card_folder(nine, tmp_path_factory.mktemp("card") / "sonichu")


def by_hand(model, name) -> np.ndarray:
    """Points in pixels of the picture, without and with its mirror, by the formulas of the card alone."""
    pixels = model.preprocess(PICTURE)[0][None]

    def edges(x):
        maps = model.task.head.heads[name](model.backbone(x))[0]  # K h w
        probs = maps.flatten(1).softmax(1).view_as(maps)
        places = (torch.arange(maps.shape[-1]) + 0.5) / maps.shape[-1]
        return torch.stack([(probs.sum(1) * places).sum(1), (probs.sum(2) * places).sum(1)], 1)

    with torch.no_grad():
        order = list(POINT_SETS[name].hflip) if name in POINT_SETS else list(range(3))
        mirrored = edges(pixels.flip(-1))[order] * torch.tensor([-1.0, 1.0]) + torch.tensor([1.0, 0.0])
        return ((edges(pixels) + mirrored) / 2).numpy()


@pytest.mark.parametrize("name", COUNTS)
def test_each_task_by_its_name_gives_its_own_points(nine, name) -> None:
    found = nine.predict(PICTURE, task=name.lower())
    np.testing.assert_allclose(found.value, by_hand(nine, name) * [90, 70] - 0.5, atol=2e-3)
    assert (found.task, found.kind, len(found.names)) == (name, "keypoints", COUNTS[name])


def test_an_unknown_or_unsaid_task_names_all(nine) -> None:
    for task in ("HCC", None):
        with pytest.raises(ModelError, match=", ".join(POINT_SETS)) as caught:
            nine.predict(PICTURE, task=task)
        assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match=", ".join(POINT_SETS)):
        SonichuModel(nine).predict(torch.zeros(1, 3, 64, 64), task="umbilical")
    with pytest.raises(ModelError, match="it only embeds"):
        Model(nine.backbone).predict(PICTURE)


def test_the_folder_of_the_card_holds_its_six_files_and_comes_back(nine, folder) -> None:
    names = ["README.md", "config.json", "inference.py", "model.safetensors", "modeling_sonichu.py",
             "preprocessor_config.json"]  # fmt: skip
    assert sorted(one.name for one in folder.iterdir()) == names
    config = json.loads((folder / "config.json").read_text())
    assert (config["model_type"], config["extra_heads"]) == ("sonichu", {"extra": 3})
    assert {name: one["num_keypoints"] for name, one in config["tasks"].items()} == {
        name: len(one.names) for name, one in POINT_SETS.items()
    }
    assert config["tasks"]["HC"]["hflip_perm"] == [0, 1, 3, 2]
    stored = read(folder / "model.safetensors")
    assert {"backbone.patch_embed.proj.weight", "heads.HC.deconv.0.weight", "heads.extra.final.bias"} <= set(
        stored
    )
    again = insonate.load(folder)
    assert again.tasks == nine.tasks
    for name in COUNTS:
        found, wanted = (model.predict(PICTURE, task=name) for model in (again, nine))
        assert np.array_equal(found.value, wanted.value)


@pytest.mark.parametrize("kind", ["the card's", "ours"])
def test_the_quick_start_of_the_card_runs_for_all_tasks(nine, folder, kind, tmp_path, monkeypatch) -> None:
    if kind == "ours":
        folder = nine.save_pretrained(tmp_path / "ours")
    monkeypatch.chdir(folder)
    model, prep = SonichuModel.from_pretrained("."), SonichuPreprocessor.from_pretrained(".")
    inputs = prep(np.repeat(PICTURE[..., None], 3, axis=2))
    assert inputs["pixel_values"].shape == (1, 3, 64, 64)
    assert (inputs["orig_w"], inputs["orig_h"]) == (90, 70)
    for name, count in COUNTS.items():
        points = model.predict(inputs["pixel_values"], task=name, tta=True)
        assert points.shape == (1, count, 2)
        assert ((points >= 0) & (points <= 1)).all()
        wanted = by_hand(nine, name) * 64
        put = ordered(wanted, OFFICIAL[name] if name in {"A4C", "PSAX"} else ())
        np.testing.assert_allclose(points[0].numpy() * 64, put, atol=2e-3)
    assert model(inputs["pixel_values"], "PLAX").shape == (1, 22, 16, 16)
    assert model.forward_features(inputs["pixel_values"]).shape == (1, 16, 48)


def test_a_batch_may_have_a_task_a_picture_and_extras(folder) -> None:
    model = SonichuModel.from_pretrained(folder)
    pixels = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    mixed = model.predict(pixels, task=["HC", "A4C", "hc"])
    assert mixed.shape == (3, 16, 2)
    assert mixed[0, 4:].isnan().all()
    torch.testing.assert_close(mixed[1], model.predict(pixels[1:2], task="A4C")[0], rtol=1e-5, atol=1e-4)
    with pytest.raises(ModelError, match="2 tasks for 3 pictures"):
        model.predict(pixels, task=["HC", "A4C"])
    extras = model.predict(pixels, task="IVC", return_extras=True)
    assert (extras.confidence.shape, extras.spread.shape, extras.maps.shape) == (
        (3, 2),
        (3, 2),
        (3, 2, 16, 16),
    )


def test_pictures_of_every_kind_are_prepared_alike(folder) -> None:
    prep = SonichuPreprocessor.from_pretrained(folder)
    wanted = prep(PICTURE)["pixel_values"]
    for same in (PICTURE / 255.0, Image.fromarray(PICTURE), np.stack([PICTURE] * 3, axis=-1)):
        assert torch.equal(prep(same)["pixel_values"], wanted)
    with pytest.raises(ModelError, match="floats out of 0 … 1"):
        prep(PICTURE.astype(np.float32))
    with pytest.raises(ModelError, match=r"preprocessor_config\.json: cannot be read"):
        SonichuPreprocessor.from_pretrained(folder.parent)


def test_inference_prints_points_and_one_line_of_error(folder, tmp_path, capsys) -> None:
    Image.fromarray(PICTURE).save(tmp_path / "p.png")
    words = [str(tmp_path / "p.png"), "HC", "--out", str(tmp_path / "o.png")]
    assert main(folder, words) == 0
    assert "bpd_upper" in capsys.readouterr().out
    with Image.open(tmp_path / "o.png") as drawn:
        assert drawn.width >= 90
    assert main(folder, [*words, "--json", "--no-tta"]) == 0
    assert len(json.loads(capsys.readouterr().out)["value"]) == 4
    for wrong in ([words[0], "HCC"], [str(tmp_path / "none.png"), "HC"]):
        assert main(folder, wrong) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_the_two_scripts_of_the_folder_run_by_themselves(folder, tmp_path) -> None:
    Image.fromarray(PICTURE).save(tmp_path / "p.png")
    ran = runpy.run_path(str(folder / "modeling_sonichu.py"))
    assert ran["SonichuModel"] is SonichuModel
    words = [sys.executable, "inference.py", str(tmp_path / "p.png"), "IVC"]
    told = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True)
    assert "IVC_p1" in told.stdout


def test_convert_writes_the_folder_and_refuses_what_it_cannot_say(nine, tmp_path) -> None:
    saved = nine.save_pretrained(tmp_path / "m")
    words = ["convert", saved, "-o", tmp_path / "card", "--layout", "sonichu"]
    assert CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False).exit_code == 0
    assert (tmp_path / "card" / "modeling_sonichu.py").is_file()
    with pytest.raises(ModelError, match="whole head a task"):
        write_card_folder(made(heads="shared"), tmp_path / "x")
    with pytest.raises(ModelError, match="pictures are normalised"):
        write_card_folder(made(VIT | {"conventions": "standardised"}), tmp_path / "x")
    with pytest.raises(ModelError, match="maps of AOP differ"):
        write_card_folder(made(VIT | {"patch_padding": 2}), tmp_path / "x")
    with pytest.raises(ModelError, match="not biometry"):
        write_card_folder(Model(nine.backbone), tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_what_confidences_are_worth_comes_back_from_the_folder(tmp_path) -> None:
    model = made()
    rng = np.random.default_rng(0)
    for name in ("HC", "extra"):
        raw = rng.random(200)
        model.task.certainty[name].fit(raw, np.where(rng.random(200) < raw**2, 1.0, 50.0))
    back = insonate.load(write_card_folder(model, tmp_path / "card"))
    for name in ("HC", "extra", "AOP"):
        ours, theirs = model.task.certainty[name], back.task.certainty[name]
        assert torch.equal(ours.chances, theirs.chances)
        assert ours.fitted_on == theirs.fitted_on == (0 if name == "AOP" else 200)
    ours, theirs = model.predict(PICTURE, task="HC"), back.predict(PICTURE, task="HC")
    np.testing.assert_array_equal(ours.confidence, theirs.confidence)
    config = json.loads((tmp_path / "card" / "config.json").read_text())
    for damage in ({"chances": [0.5] * 32, "points": 9}, {"chances": [1.0, *[0.5] * 32], "points": 9}, 3):
        config["calibration"]["HC"] = damage
        (tmp_path / "card" / "config.json").write_text(json.dumps(config))
        with pytest.raises(ModelError, match="field calibration"):
            insonate.load(tmp_path / "card")
