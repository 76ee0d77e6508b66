"""Templates: what was found once is taken again where it fits the picture, and nowhere else."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from insonate.cli import main
from insonate.data import outlines
from insonate.data.deidentify import deidentify
from insonate.data.manifest import Manifest
from insonate.data.media.info import MediaInfo
from insonate.data.sector import find_sector
from insonate.data.shards import PackOptions, shard
from insonate.data.templates import Templates
from insonate.errors import InsonateError


def fan(half_deg=40, seed=0, depth=150):
    """1 180 240: speckle in a sector, and where it is."""
    outline = Image.new("1", (240, 180))
    box = (120 - depth, 10 - depth, 120 + depth, 10 + depth)
    ImageDraw.Draw(outline).pieslice(box, 90 - half_deg, 90 + half_deg, fill=1)
    inside = np.asarray(outline)
    speckle = np.random.default_rng(seed).integers(40, 125, inside.shape, np.uint8)
    return np.where(inside, speckle, np.uint8(0))[None], inside


def overlap(one, other):
    return (one & other).sum() / (one | other).sum()


def of(path, model="A"):
    info = MediaInfo(
        path=Path("a"), kind="dicom", frames=1, height=180, width=240, vendor="V\x00ANNA", model=model
    )
    return Templates.of(path, info)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "templates.jsonl"


def test_a_sector_is_sought_once_for_a_scanner(file, monkeypatch):
    find_sector(fan()[0], templates=of(file))
    monkeypatch.setattr(outlines, "_best_fan", lambda _: pytest.fail("sought again"))
    frames, inside = fan(seed=1)
    assert overlap(find_sector(frames, templates=of(file)).mask, inside) >= 0.97
    assert len(file.read_text().splitlines()) == 1
    assert "ANNA" not in file.read_text()


@pytest.mark.parametrize("changed", [{"half_deg": 34}, {"depth": 135}])
def test_a_template_that_does_not_fit_the_picture_is_not_taken(file, changed):
    find_sector(fan()[0], templates=of(file))
    frames, inside = fan(seed=1, **changed)
    assert overlap(find_sector(frames, templates=of(file)).mask, inside) >= 0.97
    assert len(file.read_text().splitlines()) == 2


def test_templates_are_of_one_scanner_and_size(file):
    find_sector(fan()[0], templates=of(file))
    assert len(of(file).known((180, 240))) == 1
    assert not of(file, model="B").known((180, 240))
    assert not of(file).known((180, 241))


@pytest.mark.parametrize(
    "line",
    ["{", "[]", '{"fan": [1]}', json.dumps({"scanner": "", "height": 1, "width": 1, "fan": [1e9] * 10})],
)
def test_a_file_of_something_else_is_refused(file, line):
    file.write_text(line + "\n")
    with pytest.raises(InsonateError, match="does not begin with"):
        of(file)


def test_a_line_cut_by_a_kill_is_passed_over(file):
    find_sector(fan()[0], templates=of(file))
    with file.open("a") as lines:
        lines.write('{"scanner": "ab')
    assert len(of(file).known((180, 240))) == 1
    find_sector(fan(half_deg=34)[0], templates=of(file))
    assert len(of(file).known((180, 240))) == 2


def test_deidentification_and_shards_learn_and_use_them(tmp_path, file):
    (tmp_path / "in").mkdir()
    for seed in range(3):
        Image.fromarray(fan(seed=seed)[0][0]).save(tmp_path / "in" / f"{seed}.png")
    clean = deidentify(tmp_path / "in", tmp_path / "out", templates=file, workers=1)
    assert len(file.read_text().splitlines()) == 1
    manifest = Manifest.read(tmp_path / "out" / "manifest.parquet")
    packed = shard(manifest, tmp_path / "shards", PackOptions(crop="sector"), templates=file, workers=1)
    assert len(packed.manifest) == len(clean.manifest) == 3
    assert len(file.read_text().splitlines()) == 1


def test_templates_without_a_crop_are_refused(tmp_path, monkeypatch, capfd):
    command = f"insonate data shard m.parquet -o {tmp_path} --templates t"
    monkeypatch.setattr(sys, "argv", command.split())
    with pytest.raises(SystemExit):
        main()
    assert "--crop sector or --deidentify only" in capfd.readouterr().err
