"""A new method is one file: from outside the package, trained by a recipe, with the package as it is."""

from __future__ import annotations

import importlib
import sys

import pytest

import insonate
from insonate.data import Manifest
from insonate.errors import RecipeError
from insonate.evaluate import evaluate_model
from insonate.objectives import OBJECTIVES
from insonate.recipes import catalogue, load_recipe, run_recipe
from insonate.recipes.load import check, resolved
from insonate.tasks.base import TASKS
from insonate.train.log import read_rows

RECIPE = """
data: {{manifest: {manifest}, batch: 4}}
backbone: {{name: vit, width: 16, depth: 2, heads: 2, patch: 8, input_size: [32, 32]}}
optim: {{epochs: 3, lr: 3e-3, log_every: 1, precision: fp32}}
"""


@pytest.fixture
def outside(monkeypatch):
    """The user's file, imported; the registries forget it afterwards."""
    for registry in (OBJECTIVES, TASKS):
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    monkeypatch.delitem(sys.modules, "outside", raising=False)
    yield importlib.import_module("outside")
    sys.modules.pop("outside")


@pytest.fixture
def recipe_file(manifest_path, tmp_path):
    def write(method: str):
        path = tmp_path / "mine.yaml"
        path.write_text(RECIPE.format(manifest=manifest_path) + method)
        return path

    return write


def losses(folder) -> list[float]:
    return [row["loss"] for row in read_rows(folder / "metrics.jsonl") if row["event"] == "train"]


def test_an_objective_from_outside_pretrains_by_recipe_and_its_encoder_starts_a_task(
    outside, recipe_file, tmp_path
):
    recipe = load_recipe(recipe_file("objective: {name: denoise}\n"), ["objective.noise=0.25"])
    result = run_recipe(recipe, tmp_path / "pretrained")
    rows = read_rows(tmp_path / "pretrained/metrics.jsonl")
    assert [row["noise"] for row in rows if row["event"] == "train"] == [0.25] * 9
    assert losses(tmp_path / "pretrained")[-1] < losses(tmp_path / "pretrained")[0]
    assert "val_loss" in result.metrics
    task = load_recipe(
        recipe_file("task: {name: logarithm, column: weeks}\n"),
        [f"backbone.weights={result.model_dir}", "optim.monitor=ratio", "optim.mode=min"],
    )
    trained = run_recipe(task, tmp_path / "trained")
    assert set(trained.metrics) == {"ratio"}
    assert losses(tmp_path / "trained")[-1] < losses(tmp_path / "trained")[0]


def test_a_task_from_outside_is_loaded_used_and_evaluated(outside, recipe_file, manifest_path, tmp_path):
    recipe = load_recipe(recipe_file("task: {name: logarithm, column: weeks}\n"))
    model = insonate.load(run_recipe(recipe, tmp_path / "run").model_dir)
    assert isinstance(model.task, outside.Logarithm)
    assert float(model.predict(manifest_path.parent / "0.png").value) > 0
    evaluation = evaluate_model(
        model, Manifest.read(manifest_path), split="test", out=tmp_path / "evaluation"
    )
    assert set(evaluation.metrics) == {"ratio"}
    assert (tmp_path / "evaluation/report.html").is_file()


def test_its_options_and_defaults_are_those_of_its_class(outside, recipe_file):
    path = recipe_file("objective: {name: denoise}\n")
    plain = resolved(load_recipe(path))
    assert plain["objective"] == {"name": "denoise", "noise": 0.5}
    assert resolved(check(plain, "again")) == plain
    with pytest.raises(RecipeError, match=r"objective\.nois: is no known key.*Did you mean noise"):
        load_recipe(path, ["objective.nois=1"])
    with pytest.raises(RecipeError, match=r"objective\.name.*Did you mean denoise"):
        load_recipe(path, ["objective.name=denoize"])
    with pytest.raises(RecipeError, match=r"task\.column: logarithm needs this key"):
        load_recipe(recipe_file("task: {name: logarithm}\n"))


def test_what_is_not_imported_is_not_known(recipe_file):
    with pytest.raises(RecipeError, match="no objective is called 'denoise'"):
        load_recipe(recipe_file("objective: {name: denoise}\n"))


def test_the_package_s_own_catalogue_stays_as_it_is(outside):
    assert "denoise" in catalogue.known("objective")
    assert "denoise" not in catalogue.read()["objective"]
