"""The commands of the pages docs/models/*.md run, on toy files of the names that the pages have."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from insonate.cli import app
from insonate.hub import Model, write_card_folder
from insonate.models import build_backbone, build_part
from insonate.models.layouts import EXPORTS, Exportable
from insonate.recipes.load import load_recipe
from insonate.tasks import build_task

PAGES = Path(__file__).resolve().parents[2] / "docs" / "models"
VIT = {"name": "vit", "input_size": [64, 64], "width": 48, "depth": 1, "heads": 3}
TOY = {  # page → what toy files need: words instead of the page's, and words after them
    "clip": ({}, "heads=3 input_size=64"),
    "ijepa": ({}, "heads=2"),
    "timm": ({"timm_name=vit_small_patch16_dinov3": "timm_name=mobilenetv3_small_050"}, ""),
    "usfm": ({"sha256=published": ""}, ""),
    "videomae": ({"input_size=224": "input_size=64", "frames=16": "frames=4"}, "heads=3"),
    "vjepa": ({"input_size=256": "input_size=64", "input_size=224": "input_size=64"}, "heads=3 frames=8"),
}
NOT_HERE = {("echoprime", "predict"), ("panecho", "predict")}
"""of a model that the page does not make, and of a clip"""


def commands(page: str) -> list[list[str]]:
    """The lines of the page's blocks that start with `insonate`, as words."""
    blocks = re.findall(
        r"^```\w*\n(.*?)^```", (PAGES / f"{page}.md").read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("insonate ")]
    return [shlex.split(line, comments=True)[1:] for line in lines]


def exported(layout: str, options: dict, task: dict | None = None, **given) -> dict:
    backbone = build_backbone(options).eval()
    head = {} if task is None else dict(build_task(backbone, task).head.state_dict())
    return EXPORTS[layout](
        Exportable(
            backbone=backbone.options, state=dict(backbone.state_dict()), task=task, head=head, **given
        )
    )


def parity_state(parity, name: str, prefix: str = "") -> dict[str, torch.Tensor]:
    state = torch.load(parity / f"{name}.pt", weights_only=True)["state_dict"]  # noqa: TID251
    return {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}


def nine_tasks() -> Model:
    backbone = build_backbone(VIT)
    options = {"name": "biometry", "column": "keypoints", "head_width": 8, "project": False}
    return Model(backbone, build_task(backbone, options).eval())


def ijepa(here, parity) -> None:
    target = here / "IN1K-vit.h.14-300e.pth.tar"
    target.write_bytes((parity / "ijepa_checkpoint_layout.pt").read_bytes())


def vjepa(here, parity) -> None:
    for name in ("vitl.pt", "echojepa-l.pt"):
        (here / name).write_bytes((parity / "vjepa_checkpoint_layout.pt").read_bytes())


def usfm(here, parity) -> None:
    torch.save(parity_state(parity, "simmim_small", "encoder."), here / "USFM_latest.pth")


def tinyusfm(here, parity) -> None:
    torch.save(parity_state(parity, "tinyusfm_small_cls0"), here / "TinyUSFM.pth")
    fine_tuned, last = parity_state(parity, "tinyusfm_seg_small_nc3"), "decode_head.conv_seg"
    fine_tuned |= {f"{last}.{end}": fine_tuned[f"{last}.{end}"][:1] for end in ("weight", "bias")}
    torch.save(fine_tuned, here / "seg_finetune.pth")


def clip(here, parity) -> None:
    torch.save(parity_state(parity, "clip_tiny_vit"), here / "biomed_clip.bin")
    (here / "echo-clip").mkdir()
    both = parity_state(parity, "clip_tiny_echoclip_layout")
    torch.save(both, here / "echo-clip" / "open_clip_pytorch_model.bin")


def videomae(here, _parity) -> None:
    options = VIT | {"frames": 4, "tubelet": 2, "position": "sinusoid"}
    torch.save({"model": exported("videomae", options)}, here / "checkpoint.pth")


def echoprime(here, _parity) -> None:
    options = {"name": "echoprime", "stages": [1, 1, 2, 1], "stem": 8, "frames": 4, "input_size": [64, 64]}
    part = {"name": "class_projection", "width": 64, "outputs": 12}
    state = {"projection": dict(build_part(part).state_dict())}
    torch.save(exported("echoprime", options, parts=state), here / "echo_prime_encoder.pt")


def panecho(here, _parity) -> None:
    options = {
        "name": "panecho", "depths": [1, 1, 1, 1], "widths": [8, 16, 24, 32], "layers": 2,
        "input_size": [32, 32],
    }  # fmt: skip
    torch.save(exported("panecho", options), here / "panecho.pt")


def sonichu(here, _parity) -> None:
    model = nine_tasks()
    write_card_folder(model, here / "SONICHU-124M")
    model.save_pretrained(here / "runs" / "nine" / "model")


def sononet(here, _parity) -> None:
    task = {"name": "classification", "column": "plane", "head": "sononet", "classes": list("abcdefghijklmn")}
    state = exported("sononet", {"name": "sononet", "width": 4}, task)
    torch.save(state, here / "SonoNet16.pth")


def timm(here, _parity) -> None:
    from safetensors.torch import save_file

    state = exported("timm", {"name": "timm", "model": "mobilenetv3_small_050"})
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, here / "model.safetensors")


MAKERS = {
    "ijepa": ijepa, "vjepa": vjepa, "usfm": usfm, "index": usfm, "tinyusfm": tinyusfm, "clip": clip,
    "videomae": videomae, "echoprime": echoprime, "panecho": panecho, "sonichu": sonichu, "sononet": sononet,
    "timm": timm,
}  # fmt: skip


def test_every_page_has_two_commands_and_toy_files() -> None:
    pages = {path.stem for path in PAGES.glob("*.md")}
    assert pages == MAKERS.keys()
    assert all(len(commands(page)) >= 2 for page in pages)


@pytest.mark.parametrize("page", MAKERS)
def test_the_commands_of_a_page_run(page, parity, tmp_path, monkeypatch) -> None:
    torch.manual_seed(0)
    monkeypatch.chdir(tmp_path)
    MAKERS[page](tmp_path, parity)
    picture = np.random.default_rng(0).integers(0, 255, (70, 90), dtype=np.uint8)
    for name in ("head.png", "plane.png"):
        Image.fromarray(picture).save(tmp_path / name)
    instead, after = TOY.get(page, ({}, ""))
    for words in commands(page):
        if (page, words[0]) in NOT_HERE:
            continue
        if words[0] == "train":
            load_recipe(words[1], [word for word in words[2:] if "=" in word])
            continue
        told = [instead.get(word, word) for word in words]
        official = "--layout" not in words and words[0] != "predict"
        told = [word for word in (*told, *(after.split() if official else ())) if word]
        result = CliRunner().invoke(app, told, catch_exceptions=False)
        assert result.exit_code == 0, (words, result.output)
        made = Path(words[words.index("-o") + 1]) if "-o" in words and words[0] == "convert" else None
        assert made is None or made.exists(), words
        if made is not None and (made / "config.json").is_file() and "--layout" not in words:
            assert json.loads((made / "config.json").read_text())["backbone"]["name"], words
