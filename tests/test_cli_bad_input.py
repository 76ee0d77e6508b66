"""What a user gets wrong, at each command: exit code 2, one line that names the place and how to mend it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import typer
from commands import TRAIN, in_process, picture_folder
from PIL import Image

from insonate.cli import app
from insonate.data import Manifest
from insonate.hub import Model
from insonate.models import build_backbone
from insonate.tasks import build_task

VIT = {"name": "vit", "input_size": [32, 32], "patch": 8, "width": 16, "depth": 1, "heads": 2}
CLASSES = {"name": "classification", "column": "label", "classes": ["a", "b"]}
POINTS = {"name": "keypoints", "column": "points", "points": "HC", "head_width": 8}

CLASSIFY = "{name: classification, column: label, classes: [a, b]}"

# The command line → what its line must hold: file, field, mend. All paths are of `place`.
CASES = {
    "demo --quick --out file": ["file: ", "is no folder", "A part of the path is a file"],
    "train missing.yaml -o run": ["missing.yaml: ", "Check the path"],
    "train model -o run": ["model: ", "is a folder", "Give a file, or a shipped name"],
    "train tiny.yaml optim.lrr=1 -o run": ["tiny.yaml: ", "optim.lrr", "Did you mean lr"],
    "train tiny.yaml data.manifest=data/gone.csv -o run": [
        "data/gone.csv, row 8, column 'path'",
        "no file 'gone/7.png'",
        "Correct the path",
    ],
    "train length.yaml -o run": ["data/nan.csv", "length_mm", "nan"],
    "train tiny.yaml backbone.weights=model backbone.width=32 -o run": [
        "model: ",
        "patch_embed.proj.weight 16×3×8×8",
        "Build the model that these weights are of",
    ],
    "train tiny.yaml backbone.weights=data/0.png -o run": ["data/0.png: ", "is neither safetensors"],
    "train tiny.yaml -o file": ["file: ", "holds no run", "Choose a new folder"],
    "evaluate missing data/manifest.csv -o out": ["missing: ", "no such model folder", "Check the path"],
    "evaluate model data -o out": ["data: ", "is a folder", "Give the .parquet or .csv file in it"],
    "evaluate model data/manifest.csv --split tset -o out": ["data/manifest.csv: ", "'tset'", "Splits in it"],
    "evaluate model data/bare.csv -o out": ["data/bare.csv: ", "'label'"],
    "evaluate model data/gone.csv -o out": [
        "data/gone.csv, row 8, column 'path'",
        "no file 'gone/7.png'",
        "Correct the path",
    ],
    "evaluate embeds data/manifest.csv -o out": ["has no task", "Train a task on it"],
    "evaluate model data/manifest.csv -o file": ["file: ", "is no folder"],
    "predict broken.png --model model -o out": ["broken.png: ", "holds no image", "Give PNG"],
    "predict missing.dcm --model model -o out": ["missing.dcm: ", "No such file", "Check the path"],
    "predict data/0.png --model model --task lable -o out": ["'lable'", "Known: label"],
    "predict data/0.png --model torn -o out": ["torn/model.safetensors: ", "is missing", "Download or save"],
    "predict data/0.png --model heads -o out --spacing nought": ["--spacing: ", "'nought'", "such as 0.12"],
    "predict data/0.png --model heads -o out --ga 99w": ["--ga: ", "'99w'", "32w4d"],
    "predict data/0.png --model heads -o out --sr report.txt": ["--sr: ", "'report.txt'", ".dcm"],
    "export missing --to onnx -o out": ["missing: ", "no such model folder"],
    "export embeds --to onnx -o out": ["has no task"],
    "models show broken.png": ["broken.png: ", "is neither safetensors"],
    "models show missing.pth": ["missing.pth: ", "is no file"],
    "models view model data/manifest.csv -o out": ["data/manifest.csv: ", "points_set"],
    "convert missing.pth -o out": ["missing.pth: ", "Check the path"],
    "convert broken.png -o out": ["broken.png: ", "is neither safetensors"],
    "convert broken.png heads -o out": ["heads: ", "is no key=value", "For example heads=12"],
    "convert model -o out.pth --layout nowhere": ["'nowhere'"],
    "pseudo-label model data/manifest.csv -o out.csv --regime r9": ["--regime: ", "'r9'", "r1"],
    "pseudo-label model data/manifest.csv -o data/out.csv": ["keypoints"],
    "pseudo-label heads data/manifest.csv -o data/out.txt": ["data/out.txt: ", "'.txt'", ".parquet or .csv"],
    "claims sonichu -o file": ["file", "is no folder"],
    "recipes show keypoints_hcc": ["keypoints_hcc: ", "Did you mean keypoints_hc"],
    "recipes show keypoints_hc optim.lr": ["'optim.lr'", "key=value", "optim.lr=2e-4"],
    "data scan missing -o m.csv": ["missing: ", "is no folder", "Give the folder"],
    "data scan data -o data": ["data: ", "has no ending", ".parquet or .csv"],
    "data scan data -o data/m.csv --card card.txt": ["card.txt: ", "Let it end in .html"],
    "data deidentify data data": ["data: ", "Choose folders beside each other"],
    "data split broken.png": ["broken.png: ", "'.png'", ".parquet or .csv"],
    "data split data/columns.csv": ["data/columns.csv: ", "path"],
    "data split data/manifest.csv --val 0.6 --test 0.6": ["--val and --test: ", "Make them smaller"],
    "data split data/manifest.csv --by-image": ["--by-image: ", "--fair"],
    "data card missing.csv -o card.html": ["missing.csv: ", "Check the path"],
    "data card data/manifest.csv -o card": ["card: ", "Let it end in .html"],
    "data card data/manifest.csv -o file/card.html": ["file: ", "is no folder"],
    "data shard data/manifest.csv -o data": ["data/manifest.parquet: ", "a folder of their own"],
    "data shard data/manifest.csv -o shards --keep label": ["--keep", "--deidentify"],
    "data phantom file": ["file: ", "is no folder"],
    "data phantom out --kind haed": ["'haed'", "head"],
    "data phantom out --formats gif": ["gif", "png, mp4, dicom"],
    "data datasets hc18_landmrks data -o out": ["'hc18_landmrks'", "Did you mean hc18_landmarks"],
    "data datasets hc18_landmarks data -o out": ["data/landmarks.csv: ", "is not there"],
    "data datasets hc18_landmarks": ["--out", "Give ROOT and --out"],
}
NOTHING_TO_GET_WRONG = {"doctor", "models", "recipes list"}
"""they take nothing but --json"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Pictures, manifests with one fault each, and models, in the folder that the commands start in."""
    root = tmp_path_factory.mktemp("place")
    rows = Manifest.read(picture_folder(root / "data")).rows
    table = Manifest.read(root / "data/manifest.csv")
    lengths = [row | {"length_mm": float("nan") if i == 3 else 9.0} for i, row in enumerate(rows)]
    table.with_rows(lengths).write(root / "data/nan.csv")
    text = (root / "data/manifest.csv").read_text()
    (root / "data/gone.csv").write_text(
        text.replace("\n7.png", "\ngone/7.png").replace(",train,", ",test,", 4)
    )
    (root / "data/bare.csv").write_text("\n".join(
        line.rpartition(",")[0].replace(",train", ",test") for line in text.splitlines()
    ) + "\n")  # fmt: skip
    (root / "data/columns.csv").write_text("file,label\n0.png,a\n")
    table.write(root / "data/manifest.parquet")
    (root / "tiny.yaml").write_text(TRAIN)
    length = "{name: regression, column: length_mm}"
    (root / "length.yaml").write_text(TRAIN.replace("manifest.csv", "nan.csv").replace(CLASSIFY, length))
    (root / "file").write_text("a file")
    (root / "broken.png").write_bytes(b"no picture")
    torch.manual_seed(0)
    for name, task in (("model", CLASSES), ("heads", POINTS), ("embeds", None), ("torn", CLASSES)):
        backbone = build_backbone(VIT)
        Model(backbone, task and build_task(backbone, task)).save_pretrained(root / name)
    (root / "torn/model.safetensors").unlink()
    return root


def contents(root):
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("line", CASES)
def test_bad_input_is_one_line_with_place_and_mend_and_changes_nothing(place, monkeypatch, capfd, line):
    before = contents(place)
    assert in_process(monkeypatch, place, *line.split()) == 2
    told = capfd.readouterr()
    assert told.out == ""
    assert len(told.err.strip().splitlines()) == 1, told.err
    assert "Traceback" not in told.err
    for words in CASES[line]:
        assert words in told.err, told.err
    assert contents(place) == before


def test_every_command_is_tried():
    def tree(command, path):
        inner = getattr(command, "commands", {})
        if getattr(command, "invoke_without_command", not inner):
            yield " ".join(path)
        for name, one in inner.items():
            yield from tree(one, [*path, name])

    commands = set(tree(typer.main.get_command(app), []))
    tried = {max((name for name in commands if f"{line} ".startswith(f"{name} ")), key=len) for line in CASES}
    assert commands - tried == NOTHING_TO_GET_WRONG


def test_a_picture_without_spacing_is_measured_in_pixels_and_the_option_is_told(place, monkeypatch, capsys):
    Image.fromarray(np.zeros((40, 48), np.uint8)).save(place / "bare.png")
    arguments = ["predict", "bare.png", "--model", "heads", "--out", "measured", "--json"]
    assert in_process(monkeypatch, place, *arguments) == 0
    told = capsys.readouterr()
    assert "bare.png: the file tells no spacing: lengths are in pixels; say --spacing MM" in told.err
    assert all(one["unit"] != "mm" for one in json.loads(told.out)["measurements"].values())


def test_a_split_that_leaves_a_part_empty_says_so(place, monkeypatch, capsys):
    table = Manifest.read(place / "data/manifest.csv")
    table.with_rows(table.rows[:4]).write(place / "data/one.csv")  # one patient
    assert in_process(monkeypatch, place, "data", "split", "data/one.csv") == 0
    told = capsys.readouterr()
    assert "no patient came to " in told.err
    assert "try another --seed" in told.err


def test_a_run_that_was_finished_before_says_so(place, monkeypatch, capsys):
    assert in_process(monkeypatch, place, "train", "tiny.yaml", "-o", "twice") == 0
    first = capsys.readouterr()
    assert in_process(monkeypatch, place, "train", "tiny.yaml", "-o", "twice") == 0
    again = capsys.readouterr()
    assert again.out == first.out
    assert again.err == "twice: was finished before, nothing is trained\n"
