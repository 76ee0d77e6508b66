"""The claims' arithmetic: scores by task and patient, splits, caps, tables; training is not done here."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from insonate.data import Manifest
from insonate.data.pseudo_labels import REGIMES
from insonate.experiments.biometry_arms import Arm, Scored, recipe_of
from insonate.experiments.sonichu import LABELLED, TINY, Problem, _Run
from insonate.experiments.sonichu_page import differences, page, result


def scores(errors, tasks=("HC", "HC", "FA", "FA"), patients=("a", "a", "b", "c")):
    return Scored(
        errors=np.array(errors), items=tuple(map(str, range(len(errors)))), tasks=tasks, patients=patients,
        official=np.full(len(errors), np.nan),
    )  # fmt: skip


def arm(name, errors, part="init", **changes):
    plain = scores(errors)
    return Arm(
        problem="phantom",
        synthetic=True,
        part=part,
        name=name,
        passes=1,
        plain=plain,
        mirrored=plain,
        **changes,
    )


def test_images_and_tasks_are_averaged_apart():
    found = scores([1.0, 3.0, 5.0, 9.0], tasks=("HC", "FA", "FA", "FA"))
    assert found.weighted.value == pytest.approx(4.5)
    assert found.unweighted.value == pytest.approx((1 + 17 / 3) / 2)
    assert found.of_task("FA").value == pytest.approx(17 / 3)
    assert found.weighted.patients == 3
    assert found.minus(scores([0.0, 2.0, 4.0, 8.0])).value == pytest.approx(1.0)


def test_tables_hold_every_arm_and_the_pairs_that_are_there():
    arms = [
        arm("random", [9.0, 8, 7, 6]),
        arm("r0", [5.0, 4, 3, 2], ms=3.0, items=10),
        arm("r1", [1.0] * 4, "teacher"),
    ]
    found = {one["asked"]: one["value"] for one in differences(arms)}
    assert found["I-JEPA start against random"] == pytest.approx(-4.0)
    assert found["r1 against the labels alone"] == pytest.approx(-2.5)
    assert found["mirrored view too, r0"] == 0
    assert "soup against r3" not in found
    text = page(result(arms, {"size": "tiny"}))
    for shown in (
        "phantom (synthetic",
        "| r0 | 10 | 1 | 3 | 3.50",
        "### Teachers, one a regime",
        "| HC | FA |",
    ):
        assert shown in text


@pytest.fixture
def run(tmp_path):
    rows = [
        {
            "path": f"{i}.png", "patient_id": f"p{i // 2}", "split": "test" if i >= 60 else "train",
            "points_set": ("HC", "A4C")[i // 2 % 2], "keypoints": [1.0, 2, 3, 4, 5, 6, 7, 8],
        }
        for i in range(80)
    ]  # fmt: skip
    path = Manifest.from_rows(rows, tmp_path, check_files=False).write(tmp_path / "used.parquet")
    problem = Problem(name="x", manifest=path, column="keypoints", task={}, steps=1, synthetic=True)
    return _Run(problem, TINY, tmp_path / "out", 0, 0.0)


def test_few_labels_are_of_whole_patients_and_the_test_keeps_all(run):
    few = Manifest.read(run.labelled, check_files=False)
    known = {
        row["patient_id"] for row in few.rows if row["keypoints"] is not None and row["split"] == "train"
    }
    assert len(known) == 2 * -(-15 * LABELLED // 1)
    assert all(
        row["keypoints"] is None or row["patient_id"] in known or row["split"] == "test" for row in few.rows
    )
    assert sum(row["split"] == "test" for row in few.rows) == 20
    scaled = run._scaled(REGIMES["r1"], few)
    assert 0 < scaled.most < 20
    assert run._scaled(REGIMES["selective"], few).most is None


def test_a_split_by_images_tests_as_many_and_no_patient_is_kept_together(run):
    rows = Manifest.read(run._by_image(), check_files=False).rows
    assert sum(row["split"] == "test" for row in rows) == 20
    assert len({row["patient_id"] for row in rows}) == len(rows)


def test_arms_have_the_same_number_of_steps_whatever_their_images(run):
    for items in (32, 160, 800):
        recipe = recipe_of(run.labelled, run.backbone, {"name": "biometry"}, steps=200, items=items)
        assert recipe.optim.epochs * (items // recipe.data.batch) == pytest.approx(200, rel=0.1)
    assert recipe_of(run.labelled, run.backbone, {"name": "ijepa"}, steps=9, items=5).objective is not None
    assert dataclasses.is_dataclass(TINY)
