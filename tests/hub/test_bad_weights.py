"""What is wrong with a file or a name is one line that says which check failed; pickled code never runs."""

from __future__ import annotations

import json
import os
import re

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

import insonate
from insonate.cli import app
from insonate.errors import InsonateError
from insonate.hub import Model
from insonate.models import build_backbone, load_official
from insonate.tasks import build_task

VIT = {"name": "vit", "input_size": [64, 64], "width": 48, "depth": 1, "heads": 3}


class Touch:
    """What a bad pickle does when it is opened."""

    def __init__(self, path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def refused(words: str, call) -> None:
    with pytest.raises(InsonateError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_pickle_with_code_is_refused_and_does_not_run(tmp_path, wrapped) -> None:
    trap = Touch(tmp_path / "ran")
    state = build_backbone(VIT).state_dict()
    content = {"state_dict": state, "args": trap} if wrapped else trap
    torch.save(content, tmp_path / "x.pt")
    refused(r"x\.pt.*(posix|os)\.?.*mkdir", lambda: insonate.load(tmp_path / "x.pt", heads=3))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("kind", ["pt", "safetensors"])
@pytest.mark.parametrize("part", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_file_is_refused(tmp_path, kind, part) -> None:
    state, path = build_backbone(VIT).state_dict(), tmp_path / f"x.{kind}"
    if kind == "pt":
        torch.save(state, path)
    else:
        save_file(state, path)
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    refused(rf"x\.{kind}", lambda: insonate.load(path, heads=3))


def test_a_vit_tiny_with_three_heads_is_no_tinyusfm(tmp_path) -> None:
    net = timm.create_model("vit_tiny_patch16_224", num_classes=0)
    torch.save(net.state_dict(), tmp_path / "tiny.pth")
    config = tmp_path / "config.json"
    refused("the same names", lambda: insonate.load(tmp_path / "tiny.pth"))
    refused("3 heads", lambda: insonate.load(tmp_path / "tiny.pth", family="tinyusfm", heads=3))
    config.write_text(json.dumps({"num_heads": 3}))
    refused("it has 3 heads, TinyUSFM has 12", lambda: insonate.load(tmp_path, family="tinyusfm"))


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("blocks.0.attn.qkv.bias", None, r"blocks\.0\.attn\.qkv\.bias"),
        ("blocks.0.ls1.gamma", (8,), "is not of the family ijepa"),
        ("blocks.0.mlp.fc1.weight", (7, 8), r"blocks\.0\.mlp\.fc(1|2)"),
        ("patch_embed.proj.weight", (8, 3, 16, 8), r"patch_embed\.proj\.weight"),
        ("blocks.0.attn.extra", (8,), r"blocks\.0\.attn\.extra"),
    ],
)
def test_a_near_miss_is_told_by_its_tensor(parity, tmp_path, name, shape, words) -> None:
    content = torch.load(parity / "ijepa_small_encoder.pt", weights_only=True)  # noqa: TID251
    state = {key.removeprefix("module."): tensor for key, tensor in content["state_dict"].items()}
    given = {"family": "ijepa", "heads": 2, "input_size": _side(state)}
    state.pop(name, None)
    torch.save(state | ({} if shape is None else {name: torch.zeros(shape)}), tmp_path / "x.pt")
    refused(words, lambda: insonate.load(tmp_path / "x.pt", **given))


def _side(state: dict[str, torch.Tensor]) -> int:
    return int(state["pos_embed"].shape[1] ** 0.5) * state["patch_embed.proj.weight"].shape[-1]


def test_wrong_names_of_tasks(tmp_path) -> None:
    backbone = build_backbone(VIT)
    options = {"name": "biometry", "column": "keypoints", "points": ["HC", "FA"], "head_width": 8}
    model = Model(backbone, build_task(backbone, options))
    picture = np.zeros((64, 64), np.uint8)
    refused("no task is called 'HD'. Known: HC, FA", lambda: model.predict(picture, task="HD"))
    refused("has the tasks HC, FA", lambda: model.predict(picture))
    refused("segmentation", lambda: build_task(backbone, {"name": "segmentatoin", "column": "mask"}))
    refused("no point set is called 'HD'", lambda: build_task(
        backbone, {"name": "keypoints", "column": "points", "points": "HD"}
    ))  # fmt: skip
    single = Model(backbone, build_task(backbone, {"name": "regression", "column": "weeks"}))
    refused("no task is called 'HC'. Known: weeks", lambda: single.predict(picture, task="HC"))
    folder = model.save_pretrained(tmp_path / "m")
    picture_path = tmp_path / "p.png"
    from PIL import Image

    Image.fromarray(picture).save(picture_path)
    words = ["predict", picture_path, "--model", folder, "--out", tmp_path / "o", "--task"]
    result = CliRunner().invoke(app, [*map(str, words), "HD"])
    assert result.exit_code != 0
    told = result.output if result.output else str(result.exception)
    assert re.search("no task is called 'HD'", told)
    assert CliRunner().invoke(app, [*map(str, words), "HC"], catch_exceptions=False).exit_code == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("kind", ["pt", "safetensors"])
def test_weights_that_are_not_finite_are_refused(tmp_path, kind, value) -> None:
    state = {name: tensor.clone() for name, tensor in build_backbone(VIT).state_dict().items()}
    state["norm.bias"][3] = value
    path = tmp_path / f"x.{kind}"
    (torch.save if kind == "pt" else save_file)(state, path)
    refused(r"norm\.bias has values that are not finite", lambda: insonate.load(path, heads=3))


def test_folders_without_weights_are_told(tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "README.md").write_text("no weights here")
    for name in ("empty", "notes"):
        refused(name, lambda name=name: insonate.load(tmp_path / name))
        refused("found none", lambda name=name: load_official(tmp_path / name))
