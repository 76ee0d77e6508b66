"""Recipes: a whole training run as one typed, stored text. Importing this package loads no torch.

    load.py       file and overrides → a checked `Recipe`
    plain_yaml.py the safe part of YAML that recipes use
    schema.py     `Recipe` and its parts; the defaults live there
    catalogue.py  names and options of every method, kept in `insonate/catalogue.json`
    build.py      `Recipe` → dataset, loader, backbone, objective or task
    run.py        `run_recipe`: build, train or resume, validate, save
    *.yaml        the shipped recipes

May import everything below it: train, evaluate, deploy, hub, tasks, objectives, models, data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from insonate.recipes.load import load_recipe, shipped
    from insonate.recipes.run import RunResult, run_recipe
    from insonate.recipes.schema import Recipe

__all__ = ["Recipe", "RunResult", "load_recipe", "run_recipe", "shipped"]

_HOME = {
    "Recipe": "schema", "RunResult": "run", "load_recipe": "load", "run_recipe": "run", "shipped": "load",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(f"insonate.recipes.{_HOME[name]}"), name)
    raise AttributeError(f"module 'insonate.recipes' has no attribute {name!r}")
