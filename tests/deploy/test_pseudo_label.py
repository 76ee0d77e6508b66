"""Pseudo-labels of a model on a manifest: what is written, and what the model never sees."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from insonate.data import Manifest
from insonate.data.pseudo_labels import EVALUATION, Candidate, Regime
from insonate.deploy.pseudo_label import _in_sector, pseudo_label
from insonate.errors import InsonateError
from insonate.hub import Model, ensemble
from insonate.models import build_backbone
from insonate.tasks import build_task

VIT = {"name": "vit", "width": 16, "depth": 1, "heads": 2, "patch": 8, "input_size": [32, 32]}
ANY = Regime(name="any", teacher="labels", weight=0.5, quantile=0.0, flip_px=1e3, repeat_to=20)
SCALES = [1e-3, 1.0] * 10
"""lines from a hundredth of a pixel to the whole width: labels that allow what an untrained model says"""


ONE_SET = {"name": "keypoints", "points": "FUGC"}
TWO_SETS = {"name": "biometry", "points": ["FUGC", "HC"]}


def model(seed=0, options=ONE_SET):
    torch.manual_seed(seed)
    backbone = build_backbone(VIT)
    task = build_task(backbone, {"column": "cl", "head_width": 8, **options})
    for weight in task.head.parameters():
        weight.data *= 300 if weight.ndim == 4 else 1  # maps with a peak
    return Model(backbone, task.eval())


@pytest.fixture
def manifest(tmp_path):
    """Ten labelled, two of them tested on; ten unlabelled: a copy of and one more of a tested patient."""
    rows = []
    for number in range(20):
        seed = 8 if number == 15 else number
        grey = np.random.default_rng(seed).integers(0, 255, (40, 48), dtype=np.uint8)
        Image.fromarray(grey).save(tmp_path / f"{number}.png")
        tested = number in {8, 9}
        rows.append({
            "path": f"{number}.png", "patient_id": "p9" if number == 16 else f"p{number}",
            "split": "test" if tested else "train" if number < 10 else "", "frames": 1,
            "cl": [2.0, 20, 2 + 40 * SCALES[number], 20] if number < 10 else None,
        })  # fmt: skip
    return Manifest.from_rows(rows, tmp_path)


def test_no_picture_of_the_evaluation_is_labelled(manifest):
    found = pseudo_label(model(), manifest, ANY)
    assert found.guarded == 1
    assert found.dropped[EVALUATION] == 1
    made = [row for row in found.manifest.rows if row["label_source"]]
    assert made
    assert not {"15.png", "16.png"} & {row["path"] for row in made}
    assert all(row["pseudo_teacher"] == model().digest() for row in made)
    assert {row["weight"] for row in made} == {0.5}
    originals = [row for row in found.manifest.rows if not row["label_source"]]
    assert sum(row["split"] == "test" for row in originals) == 2
    assert sum(row["split"] == "train" for row in originals) == 24  # 8, three times
    assert all(row["cl"] is not None for row in found.manifest.rows)
    further = Manifest.from_rows([dict(manifest.rows[12], split="test")], manifest.root)
    again = pseudo_label(model(), manifest, ANY, evaluation=[further])
    assert again.guarded == 2
    assert "12.png" not in {row["path"] for row in again.manifest.rows}


def test_a_model_of_several_sets_labels_the_rows_of_its_sets_and_counts_them_apart(manifest):
    names = ["FUGC"] * 12 + ["HC"] * 4 + ["FUGC"] * 2 + ["A4C"] * 2
    rows = [{**row, "points_set": name} for row, name in zip(manifest.rows, names, strict=True)]
    found = pseudo_label(ensemble([model(s, TWO_SETS) for s in (0, 1)]), manifest.with_rows(rows), ANY)
    made = [row["path"] for row in found.manifest.rows if row["label_source"]]
    assert set(made) <= {"10.png", "11.png", "17.png"}  # no label says what an HC may look like
    assert found.kept == {"FUGC": len(made)}
    assert made
    one = pseudo_label(model(), manifest.with_rows(rows), ANY)
    assert {row["points_set"] for row in one.manifest.rows if row["label_source"]} == {"FUGC"}


def test_an_ensemble_labels_too_and_damaged_media_are_told(manifest, tmp_path):
    for name in ("12.png", "9.png"):  # of the pool and of the evaluation
        (tmp_path / name).write_bytes(b"no picture")
    found = pseudo_label(ensemble([model(0), model(1)]), manifest, ANY)
    assert [name for name, _ in found.errors] == ["9.png", "12.png"]
    assert sum(found.kept.values()) == sum(bool(row["label_source"]) for row in found.manifest.rows)


def test_what_cannot_be_labelled_is_told_in_a_line(manifest):
    whole = manifest.with_rows([row for row in manifest.rows if row["cl"]])
    with pytest.raises(InsonateError, match="in every row"):
        pseudo_label(model(), whole, ANY)
    with pytest.raises(InsonateError, match="no row of the training"):
        pseudo_label(model(), manifest.with_rows(manifest.rows[8:]), ANY)
    backbone = build_backbone(VIT)
    with pytest.raises(InsonateError, match="no points"):
        pseudo_label(Model(backbone), manifest, ANY)


def test_a_point_may_lie_on_the_border_of_the_sector_and_no_farther(tmp_path):
    rows, columns = np.mgrid[:200, :240]
    radius, angle = np.hypot(rows - 5, columns - 120), np.arctan2(columns - 120, rows - 5)
    grey = np.random.default_rng(0).integers(60, 200, (200, 240)).astype(np.uint8)
    grey[(radius > 185) | (np.abs(angle) > 0.6)] = 0
    Image.fromarray(grey).save(tmp_path / "0.png")
    table = Manifest.from_rows([{"path": "0.png"}], tmp_path)

    def inside(*points_xy):
        one = Candidate(
            row=table.rows[0], task="FUGC", points_xy=np.array(points_xy, dtype=float), hw=(200, 240),
            confidence=1.0, flip_gap_px=0.0, likeness=None,
        )  # fmt: skip
        return _in_sector(table, one)

    assert inside((120, 20), (120, 188))
    assert not inside((120, 20), (10, 30))
