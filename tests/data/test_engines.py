"""Engines: the same work on Ray Data, also when one of its workers is killed."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from insonate.cli import main
from insonate.data import engines, pool
from insonate.data.manifest import Manifest
from insonate.data.scan import scan
from insonate.data.shards import open_row

ITEMS = 40


@pytest.fixture
def archive(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for number in range(ITEMS):
        picture = np.zeros((48, 64), np.uint8)
        picture[8:40, 8:56] = rng.integers(40, 200, (32, 48))
        Image.fromarray(picture).save(tmp_path / "in" / f"{number:02d}.png")
    (tmp_path / "in" / "broken.png").write_bytes((tmp_path / "in" / "00.png").read_bytes()[:60])
    return tmp_path / "in"


def test_without_ray_the_engine_is_refused_in_one_line(archive, monkeypatch, capfd):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    out = str(archive / "m.parquet")
    monkeypatch.setattr(sys, "argv", ["insonate", "data", "scan", str(archive), "-o", out, "--engine", "ray"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "pip install 'insonate[ray]'" in capfd.readouterr().err
    assert not (archive / "m.parquet").exists()


def test_processes_are_the_usual_engine():
    assert engines.runner("processes") is pool.run


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs insonate[ray]")
def test_two_ray_workers_do_the_same_though_one_is_killed_amid_each_job(archive, tmp_path):
    program = Path(__file__).with_name("ray_cluster.py")
    done = subprocess.run(
        [sys.executable, program, archive, tmp_path], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert [(items, left) for items, _, left in told.values()] == [(ITEMS, 1)] * 3
    assert ["broken.png" in str(errors) for _, errors, _ in told.values()] == [True, True, False]
    with_ray = Manifest.read(archive / "m.parquet").rows
    assert scan(archive, archive / "m.parquet").kept == ITEMS
    assert scan(archive).manifest.rows == with_ray
    shards = Manifest.read(tmp_path / "shards" / "manifest.parquet")
    for row in shards.rows:
        with open_row(shards, row) as item:
            assert item.read([0]).shape == (1, 48, 64)
