"""`run_recipe`: build, train or resume, validate, save. A run is a folder; the same call goes on with it.

    RUN/recipe.yaml   the recipe with every default written out
    RUN/model/        the model folder, when training is done
    RUN/result.json   its validation scores, written last
and what `train.fit` leaves there (metrics, checkpoints).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from insonate.data import Manifest
from insonate.data.manifest import patient_key
from insonate.errors import RunError
from insonate.files import TEMPORARY, atomic_write, lock, sweep
from insonate.hub import Model, to_json
from insonate.objectives.base import Objective
from insonate.recipes import plain_yaml
from insonate.recipes.build import Built, build, build_method
from insonate.recipes.load import resolved
from insonate.recipes.schema import Recipe
from insonate.tasks.base import Task
from insonate.train import load_weights
from insonate.train.checkpoint import model_tensors
from insonate.train.fit import FitResult, fit
from insonate.train.launch import LOCK

RECIPE, MODEL, RESULT, CHECKPOINTS = "recipe.yaml", "model", "result.json", "checkpoints"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """What a run left."""

    run_dir: Path
    model_dir: Path
    metrics: dict[str, float]
    """mean validation scores of the saved model; the last training losses where nothing was held out"""
    interrupted: bool = False
    """stopped by a signal: there is a checkpoint to go on from, and no model folder yet"""
    earlier: bool = False
    """all was done before, and nothing now"""
    rank: int = 0
    """of this process; only the first of several saves and reports"""


def run_recipe(recipe: Recipe, run_dir: Path | str) -> RunResult:
    """Train what a recipe says, in a folder; the same call resumes, and returns at once when all is done.

    Args:
        recipe: see `load_recipe`.
        run_dir: a new folder, or that of the same recipe (only `optim.epochs` may have grown).

    Raises:
        InsonateError: the folder holds another run, something the recipe names does not fit, or training
            failed; the message says where.
    """
    run_dir, plain = Path(run_dir), resolved(recipe)
    earlier = stored(run_dir)
    refuse_another(plain, earlier, run_dir)  # at once; again in `_begin`, when nobody else can change it
    if earlier == plain and (run_dir / RESULT).is_file():
        told = json.loads((run_dir / RESULT).read_text("utf-8"))["metrics"]
        metrics = {name: math.nan if value is None else value for name, value in told.items()}
        return RunResult(run_dir=run_dir, model_dir=run_dir / MODEL, metrics=metrics, earlier=True)
    built = build(recipe)
    settings = recipe.optim.model_copy(update={"seed": recipe.seed})
    fitted = fit(
        built.method,
        built.loader,
        settings,
        run_dir,
        evaluate=_evaluate(recipe, built),
        notes=built.notes,
        data=built.digests,
        begin=lambda: _begin(plain, run_dir),
    )
    if fitted.interrupted:
        return RunResult(
            run_dir=run_dir,
            model_dir=run_dir / MODEL,
            metrics=fitted.last,
            interrupted=True,
            rank=fitted.rank,
        )
    if fitted.rank:
        return RunResult(run_dir=run_dir, model_dir=run_dir / MODEL, metrics=fitted.last, rank=fitted.rank)
    with lock(run_dir / LOCK):
        return _finish(recipe, built, fitted, run_dir)


def _begin(plain: dict[str, Any], run_dir: Path) -> None:
    """Put the recipe into the folder, which is this run's alone by now."""
    sweep(run_dir)
    earlier = stored(run_dir)
    refuse_another(plain, earlier, run_dir)
    if earlier != plain:
        (run_dir / RESULT).unlink(missing_ok=True)
        atomic_write(run_dir / RECIPE, plain_yaml.write(plain))


def stored(run_dir: Path) -> dict[str, Any] | None:
    """The recipe that a run folder was started with; None where none was.

    Raises:
        RunError: the folder holds something else than a run.
        RecipeError: the stored recipe is damaged.
    """
    path = run_dir / RECIPE
    strange = run_dir.exists() and (
        not run_dir.is_dir() or any(not _unfinished(one) for one in run_dir.iterdir())
    )
    if path.is_file():  # looked for last: another process may put it there just now
        return plain_yaml.parse(plain_yaml.read_text(path), path)
    if strange:
        raise RunError(run_dir, "is not empty and holds no run", "Choose a new folder")
    return None


def _unfinished(path: Path) -> bool:
    """Of a run that is beginning just now, or was killed when it began."""
    return path.name == LOCK or path.name.startswith(TEMPORARY)


def refuse_another(plain: dict[str, Any], earlier: dict[str, Any] | None, run_dir: Path) -> None:
    """Refuse to mix two recipes in a folder.

    Raises:
        RunError: training has begun there with a recipe that differs in more than longer `optim.epochs`.
    """
    if earlier is None or earlier == plain or not any((run_dir / CHECKPOINTS).glob("step-*")):
        return
    changed = differences(earlier, plain)
    if changed == ["optim.epochs"] and plain["optim"]["epochs"] >= earlier["optim"]["epochs"]:
        return
    what = f"holds a run of another recipe (it differs in {', '.join(changed[:5])})"
    raise RunError(run_dir, what, "Choose another folder, or give the same recipe (optim.epochs may grow)")


def differences(one: Any, other: Any, key: str = "") -> list[str]:
    """Dotted keys at which two plain recipes differ."""
    if not isinstance(one, dict) or not isinstance(other, dict):
        return [] if one == other else [key]
    names = sorted(one.keys() | other.keys())
    return [
        place
        for name in names
        for place in differences(one.get(name), other.get(name), f"{key}.{name}" if key else name)
    ]


def _evaluate(recipe: Recipe, built: Built) -> Callable[[], dict[str, float]] | None:
    """The validation as `fit` calls it, on every rank."""
    validate = built.validate
    if validate is None:
        return None

    def evaluate() -> dict[str, float]:
        if recipe.optim.strategy != "fsdp2":
            return validate(built.method)
        tensors = model_tensors(built.method)  # sharded modules only run inside the trained `forward`
        whole = build_method(without_weights(recipe)).to(next(built.method.parameters()).device)
        whole.load_state_dict(tensors)
        return validate(whole)

    return evaluate


def _finish(recipe: Recipe, built: Built, fitted: FitResult, run_dir: Path) -> RunResult:
    """Save the best weights (the last, where no score chooses) as a model folder, with their scores."""
    model_dir = run_dir / MODEL
    in_pieces = recipe.optim.strategy == "fsdp2"
    method = build_method(without_weights(recipe)) if in_pieces else built.method
    if fitted.best is not None or in_pieces:
        load_weights(fitted.best or run_dir / CHECKPOINTS / f"step-{fitted.steps:08d}", method)
    if isinstance(method, Task) and built.settle is not None:
        built.settle(method)
    metrics = fitted.last if built.validate is None else built.validate(method)
    method.cpu().eval()
    info = {"recipe": resolved(recipe), "data": describe(built.manifest), "metrics": metrics}
    task = method.for_export() if isinstance(method, Task) else None
    encoder = method.encoder_for_export() if isinstance(method, Objective) else method.backbone
    Model(encoder, task, info).save_pretrained(model_dir)
    atomic_write(run_dir / RESULT, to_json({"steps": fitted.steps, "metrics": metrics}))
    return RunResult(run_dir=run_dir, model_dir=model_dir, metrics=metrics)


def without_weights(recipe: Recipe) -> Recipe:
    """The same architecture, without reading its initial weights again."""
    return recipe.model_copy(update={"backbone": recipe.backbone.model_copy(update={"weights": None})})


def describe(manifest: Manifest) -> dict[str, Any]:
    """What a model card says of the training data: counts, sites, vendors, and whether it is synthetic."""
    rows = manifest.rows
    return {
        "items": len(rows),
        "patients": len({patient_key(row["patient_id"]) for row in rows}),
        "sites": sorted({row["site"] for row in rows if row["site"]}),
        "vendors": sorted({row["vendor"] for row in rows if row["vendor"]}),
        "synthetic": bool(rows) and all(row["site"] == "phantom" for row in rows),
    }
