"""A folder of pictures, a recipe that learns from it in a second, and the command line in this process."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from PIL import Image

from insonate.cli import main

TRAIN = """
data: {manifest: data/manifest.csv, batch: 4, val_split: null}
backbone: {name: vit, width: 16, depth: 1, heads: 2, patch: 8, input_size: [32, 32]}
task: {name: classification, column: label, classes: [a, b]}
optim: {epochs: 1, precision: fp32}
"""
WITHOUT_TORCH = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "torchvision", "timm", "safetensors"}:
            raise ImportError(name)
sys.meta_path.insert(0, Block())
"""
"""the beginning of a program for `python -c`"""


def picture_folder(folder, patients=8):
    folder.mkdir()
    rng = np.random.default_rng(0)
    columns = "path,kind,patient_id,study_id,series_id,view,site,vendor,frames,fps,height,width"
    rows = [f"{columns},spacing_row_mm,spacing_col_mm,split,label"]
    for number in range(4 * patients):
        Image.fromarray(rng.integers(0, 255, (40, 48), dtype=np.uint8)).save(folder / f"{number}.png")
        rows.append(f"{number}.png,image,p{number // 4},,,,,,1,,40,48,,,train,{'ab'[number % 2]}")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder / "manifest.csv"


def in_process(monkeypatch, folder, *arguments):
    """The exit code of `main`, without starting Python and torch anew."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["insonate", *arguments])
    with pytest.raises(SystemExit) as left:
        main()
    return left.value.code or 0
