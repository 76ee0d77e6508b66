"""A whole run from a recipe: what it leaves, that it resumes, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
import math
import multiprocessing
import os

import numpy as np
import pytest
import torch

from insonate import files
from insonate.data import Manifest, ManifestDataset
from insonate.errors import InsonateError, RecipeError, RunError
from insonate.hub import load
from insonate.objectives.ijepa import describe
from insonate.recipes import plain_yaml, run_recipe
from insonate.recipes.build import build, build_method, some_patients
from insonate.recipes.load import check, resolved
from insonate.train.checkpoint import read_checkpoint
from insonate.train.log import read_rows


def recipe(manifest_path, **changes):
    plain = {
        "data": {"manifest": str(manifest_path), "batch": 4},
        "backbone": {
            "name": "vit", "width": 16, "depth": 2, "heads": 2, "patch": 8, "input_size": [32, 32]
        },
        "task": {"name": "classification", "column": "label", "classes": ["dark", "bright"]},
        "optim": {"epochs": 1, "lr": 1e-2, "precision": "fp32"},
    }  # fmt: skip
    for dotted, value in changes.items():
        part, _, key = dotted.partition("__")
        plain[part] = {**(plain.get(part) or {}), key: value} if key else value
    return check(plain, "test")


PRETRAIN = {
    "name": "ijepa",
    "predictor_width": 16,
    "predictor_depth": 1,
    "min_keep": 1,
    "targets": 2,
    "target_scale": [0.3, 0.4],
}


def test_a_score_that_is_no_number_is_null_in_the_result_and_comes_back(manifest_path, tmp_path, monkeypatch):
    asked = recipe(manifest_path)
    monkeypatch.setattr("insonate.recipes.run.build", lambda recipe: without_scores(build(recipe)))
    run_recipe(asked, tmp_path / "run")
    text = (tmp_path / "run" / "result.json").read_text()
    assert json.loads(text, parse_constant=lambda name: pytest.fail(name))["metrics"] == {"odd": None}
    assert math.isnan(run_recipe(asked, tmp_path / "run").metrics["odd"])


def without_scores(built):
    """Its validation gives a score that is not finite."""
    return dataclasses.replace(built, validate=lambda method: {"odd": math.nan})


def test_a_run_leaves_a_resolved_recipe_and_a_model_that_loads(manifest_path, tmp_path):
    wanted = recipe(manifest_path, optim__epochs=6)
    result = run_recipe(wanted, tmp_path / "run")
    stored = plain_yaml.parse((tmp_path / "run/recipe.yaml").read_text(), "stored")
    assert stored == resolved(wanted)
    assert all(math.isfinite(value) for value in result.metrics.values())
    model = load(result.model_dir)
    assert model.info["data"] == {
        "items": 12, "patients": 4, "sites": ["phantom"], "vendors": [], "synthetic": True
    }  # fmt: skip
    card = (result.model_dir / "README.md").read_text()
    for line in ("- items: 12", "- patients: 4", "- sites: phantom", "knows no patients"):
        assert line in card
    for name, value in result.metrics.items():
        assert f"| {name} | {value:.4g} | – |" in card
    told = card.split("```yaml\n")[-1].split("```")[0]
    assert plain_yaml.parse(told, "card") == stored
    prediction = model.predict(manifest_path.parent / "23.png")
    assert prediction.names[int(prediction.value.argmax())] == "bright"


def test_the_same_call_returns_what_is_done_and_more_epochs_go_on(manifest_path, tmp_path):
    first = run_recipe(recipe(manifest_path), tmp_path)
    assert run_recipe(recipe(manifest_path), tmp_path) == dataclasses.replace(first, earlier=True)
    run_recipe(recipe(manifest_path, optim__epochs=2), tmp_path)
    steps = [path.name for path in (tmp_path / "checkpoints").iterdir() if path.name.startswith("step-")]
    assert "step-00000006" in steps
    whole = run_recipe(recipe(manifest_path, optim__epochs=2), tmp_path)
    assert whole.model_dir == first.model_dir


def test_another_recipe_in_the_same_folder_is_refused_and_named(manifest_path, tmp_path):
    run_recipe(recipe(manifest_path), tmp_path)
    with pytest.raises(RunError, match=r"optim\.lr"):
        run_recipe(recipe(manifest_path, optim__lr=1e-3), tmp_path)


def test_a_second_run_is_refused_before_it_changes_anything(manifest_path, tmp_path):
    run_recipe(recipe(manifest_path), tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with files.lock(tmp_path / "run.lock"), pytest.raises(RunError, match="another process"):
        run_recipe(recipe(manifest_path, optim__epochs=2), tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_run_that_was_killed_as_it_began_can_begin_again(manifest_path, tmp_path):
    (tmp_path / "run.lock").touch()
    (tmp_path / ".tmp-recipe.yaml").touch()
    assert run_recipe(recipe(manifest_path), tmp_path).model_dir.is_dir()


@pytest.mark.parametrize(
    ("split", "said"), [("train", "data.split 'train'"), ("val", "data.val_split 'val'")]
)
def test_a_run_does_not_go_on_with_a_changed_manifest(manifest_path, tmp_path, split, said):
    manifest = Manifest.read(manifest_path)
    path = manifest.write(manifest_path.parent / f"changing_{split}.csv")
    run_recipe(recipe(path), tmp_path)
    rows = [dict(row) for row in manifest.rows]
    last = [row for row in rows if row["split"] == split][-1]
    last["label"] = "dark" if last["label"] == "bright" else "bright"
    manifest.with_rows(rows).write(path)
    with pytest.raises(RunError, match=f"the rows of {said} in .* changed since the run began"):
        run_recipe(recipe(path, optim__epochs=2), tmp_path)
    manifest.with_rows([row | {"vendor": "Acme"} for row in manifest.rows]).write(path)  # is not trained on
    run_recipe(recipe(path, optim__epochs=2), tmp_path)


def test_a_folder_with_other_things_is_refused(manifest_path, tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(RunError, match="not empty"):
        run_recipe(recipe(manifest_path), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_items_without_a_label_are_told_and_not_counted_as_training_data(manifest_path, tmp_path, capsys):
    manifest = Manifest.read(manifest_path)
    rows = [
        row | {"label": None if row["patient_id"] in {"p0", "p4"} else row["label"]} for row in manifest.rows
    ]
    path = manifest.with_rows(rows).write(manifest_path.parent / "part.csv")
    result = run_recipe(recipe(path), tmp_path / "run")
    assert load(result.model_dir).info["data"]["patients"] == 3
    assert "3 of 12 items have no label and are left out" in capsys.readouterr().err


def test_a_share_of_the_patients_is_not_rounded_up_by_floating_point(manifest_path):
    rows = [{"path": "0.png", "patient_id": str(number)} for number in range(100)]
    manifest = Manifest.from_rows(rows, manifest_path.parent)
    assert len(some_patients(manifest, fraction=0.07, seed=0)) == 7


def test_pretrained_weights_start_a_task(manifest_path, tmp_path):
    pretrained = run_recipe(recipe(manifest_path, task=None, objective=PRETRAIN), tmp_path / "pretrain")
    assert "val_loss" in pretrained.metrics
    encoder = load(pretrained.model_dir).backbone
    task = build_method(
        recipe(manifest_path, backbone__weights=str(pretrained.model_dir), backbone__train="none")
    )
    for name, tensor in task.backbone.state_dict().items():
        assert torch.equal(tensor, encoder.state_dict()[name])
    assert not any(parameter.requires_grad for parameter in task.backbone.parameters())


def test_an_ijepa_run_saves_the_target_encoder_and_tells_how_its_features_do(manifest_path, tmp_path):
    wanted = recipe(manifest_path, task=None, objective=PRETRAIN, optim__log_every=1)
    built = build(wanted)
    first = describe(built.method.target_features(next(built.loader.epoch(0))["image"]))
    result = run_recipe(wanted, tmp_path)
    saved = read_checkpoint(tmp_path / "checkpoints/step-00000003").model
    encoder = load(result.model_dir).backbone.state_dict()
    for name, tensor in encoder.items():
        assert torch.equal(tensor, saved[f"teacher.{name}"]), name
    assert any(not torch.equal(tensor, saved[f"backbone.{name}"]) for name, tensor in encoder.items())
    rows = [row for row in read_rows(tmp_path / "metrics.jsonl") if row["event"] == "train"]
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert set(first) == {"position_r2", "effective_rank", "target_std"}
    for name, value in first.items():
        assert rows[0][name] == pytest.approx(value.item(), rel=1e-5)
        assert len({row[name] for row in rows}) == 3


def test_the_seed_alone_decides_the_initial_weights(manifest_path):
    def first(seed):
        torch.rand(3)  # other use of the generator changes nothing
        return next(build_method(recipe(manifest_path, seed=seed)).backbone.parameters()).detach()

    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))


def test_a_regression_is_standardised_by_the_training_labels(manifest_path, tmp_path):
    built = build(recipe(manifest_path, task={"name": "regression", "column": "weeks"}))
    weeks = [row["weeks"] for row in Manifest.read(manifest_path).select(split="train").rows]
    assert float(built.method.mean) == pytest.approx(np.mean(weeks))


@pytest.mark.parametrize("method", [{}, {"task": None, "objective": PRETRAIN}])
def test_validation_reads_in_the_recipe_s_workers(manifest_path, monkeypatch, method):
    read, trainer = ManifestDataset.__getitem__, os.getpid()

    def in_a_worker(self, key):
        assert os.getpid() != trainer
        return read(self, key)

    built = build(recipe(manifest_path, data__workers=2, **method))
    alone = build(recipe(manifest_path, **method))
    expected = alone.validate(alone.method)
    monkeypatch.setattr(ManifestDataset, "__getitem__", in_a_worker)
    assert built.validate(built.method) == expected
    assert not multiprocessing.active_children()


def test_smaller_shares_of_the_patients_lie_inside_larger_ones(manifest_path):
    manifest = Manifest.read(manifest_path)
    shares = [
        {row["patient_id"] for row in some_patients(manifest, fraction=fraction, seed=3).rows}
        for fraction in (0.25, 0.5, 1.0)
    ]
    assert [len(share) for share in shares] == [2, 4, 8]
    assert shares[0] < shares[1] < shares[2]


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"data__manifest": "nowhere.csv"}, "nowhere.csv"),
        ({"data__manifest": "/dev/zero"}, "/dev/zero"),
        ({"data__manifest": "https://127.0.0.1:9/m.csv"}, "m.csv"),
        ({"task__column": "nolabel"}, "nolabel"),
        ({"task__classes": ["dark", "grey"]}, "bright"),
        ({"data__batch": 64}, "12 usable items"),
        ({"data__split": "trian"}, "trian"),
        ({"data__val_split": "dev"}, "val_split=null"),
        ({"optim__monitor": "acuracy", "optim__mode": "max"}, "Did you mean accuracy"),
        (
            {"task": None, "objective": PRETRAIN, "optim__monitor": "accuracy", "optim__mode": "max"},
            "Known: val_loss",
        ),
        ({"backbone__input_size": [10**6, 10**6]}, "input_size"),
        ({"backbone__input_size": [-32, 32]}, "input_size"),
        ({"backbone__weights": "nowhere"}, "nowhere"),
        ({"backbone__train": 9}, "train"),
    ],
)
def test_what_the_recipe_names_must_fit_and_nothing_is_left_behind(manifest_path, tmp_path, changes, word):
    with pytest.raises(InsonateError, match=word):
        run_recipe(recipe(manifest_path, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_objective_that_needs_another_backbone_is_refused(manifest_path):
    plain = resolved(recipe(manifest_path, task=None, objective={"name": "ijepa"}))
    plain["backbone"] = {"name": "convnext_atto", "input_size": [64, 64]}
    with pytest.raises(RecipeError, match="vit"):
        build(check(plain, "test"))
