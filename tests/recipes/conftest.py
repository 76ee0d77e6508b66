"""Pictures that a run of a second can learn from."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from insonate.data import Manifest


@pytest.fixture(scope="module")
def manifest_path(tmp_path_factory):
    """24 pictures of 8 patients: bright and dark ones, 4 patients to train on."""
    folder, rows = tmp_path_factory.mktemp("data"), []
    rng = np.random.default_rng(0)
    for number in range(24):
        bright, patient = number % 2, number // 3
        picture = rng.integers(0, 80, (40, 48), dtype=np.uint8) + np.uint8(120 * bright)
        Image.fromarray(picture).save(folder / f"{number}.png")
        rows.append({
            "path": f"{number}.png", "kind": "image", "patient_id": f"p{patient}", "height": 40, "width": 48,
            "frames": 1, "split": ["train", "train", "train", "train", "val", "val", "test", "test"][patient],
            "site": "phantom", "label": ["dark", "bright"][bright], "weeks": 20.0 + number,
        })  # fmt: skip
    return Manifest.from_rows(rows, folder).write(folder / "manifest.csv")
