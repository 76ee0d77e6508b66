"""File and overrides → a checked `Recipe`, before torch is imported.

Order: read the safe part of YAML, put `key=value` overrides into the plain dict, check names and options of
methods against the catalogue, then the schema. Each error is one line with the file, the key and the mend.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from insonate.errors import RecipeError, nearest
from insonate.recipes import catalogue, plain_yaml
from insonate.recipes.schema import BackboneRecipe, Named, Recipe

SHIPPED = Path(__file__).parent
KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")


def shipped() -> dict[str, Path]:
    """Name → file of the recipes that come with the package."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.yaml"))}


def find(name: str | Path) -> Path:
    """The file of a recipe given by path or by shipped name.

    Raises:
        RecipeError: a folder, or a plain word that names neither a file nor a shipped recipe.
    """
    text, path = str(name), Path(name)
    if text in shipped():
        return shipped()[text]
    if path.is_dir():
        inner = path / "recipe.yaml"
        mend = f"Give the recipe in it: {inner}" if inner.is_file() else "Give a file, or a shipped name"
        raise RecipeError(text, "is a folder", mend)
    if path.suffix in {".yaml", ".yml"} or "/" in text or path.is_file():
        return path
    raise RecipeError(text, "no shipped recipe has this name", nearest(text, shipped()))


def load_recipe(name: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe of a file or shipped name, with `key=value` overrides such as `optim.lr=2e-4`.

    Raises:
        RecipeError: with the file, the key and what to do.
    """
    path = find(name)
    plain = plain_yaml.parse(plain_yaml.read_text(path), path)
    if not isinstance(plain, dict):
        raise RecipeError(path, "holds no keys", "Start from `insonate recipes show ijepa_tiny_demo`")
    for override in overrides:
        put(plain, override)
    return check(plain, path)


def put(plain: dict[str, Any], override: str) -> None:
    """Set one `dotted.key=value` in the plain dict; the value is read as YAML.

    Raises:
        RecipeError: no `=`, an odd key, or a key under something that is no map.
    """
    dotted, equals, text = override.partition("=")
    where = f"override {override!r}"
    keys = dotted.split(".")
    if not equals or not all(KEY.fullmatch(key) for key in keys):
        raise RecipeError(where, "is not of the form key=value", "Write for example optim.lr=2e-4")
    value = plain_yaml.parse(text, where)
    for key in keys[:-1]:
        if plain.get(key) is None:
            plain[key] = {}
        plain = plain[key]
        if not isinstance(plain, dict):
            raise RecipeError(where, f"{key!r} holds no keys", "Check the key with `insonate recipes show`")
    plain[keys[-1]] = value


def check(plain: Mapping[str, Any], where: object) -> Recipe:
    """The recipe that a plain dict says.

    Raises:
        RecipeError: an unknown name or key, a missing one, or a value of the wrong type or range.
    """
    optim = plain.get("optim")
    if isinstance(optim, dict) and "seed" in optim:
        raise RecipeError(
            f"{where}: optim.seed", "the seed stands at the top of a recipe", "Write seed: 0 there"
        )
    for kind in catalogue.KINDS:
        if isinstance(plain.get(kind), dict):
            _check_method(kind, plain[kind], where)
    try:
        recipe = Recipe.model_validate(dict(plain))
    except ValidationError as error:
        raise RecipeError(*told(error, where)) from None
    _check_no_conversion(plain, recipe.model_dump(mode="json"), str(where), "")
    return recipe


def _check_method(kind: str, given: Mapping[str, Any], where: object) -> None:
    entries = catalogue.known(kind)
    name = given.get("name")
    if not isinstance(name, str):
        return  # the schema says it
    if name not in entries:
        raise RecipeError(f"{where}: {kind}.name", f"no {kind} is called {name!r}", nearest(name, entries))
    options = entries[name]["options"]
    own = (BackboneRecipe if kind == "backbone" else Named).model_fields
    _check_keys(given, {**options.get("properties", {}), **dict.fromkeys(own)}, f"{where}: {kind}")
    missing = [key for key in options.get("required", ()) if given.get(key) is None]
    if missing:
        raise RecipeError(f"{where}: {kind}.{missing[0]}", f"{name} needs this key", "Add it")


def _check_keys(given: Iterable[str], known: Iterable[str], where: str) -> None:
    for key in given:
        if key not in set(known):
            raise RecipeError(f"{where}.{key}", "is no known key", nearest(key, known))


def _check_no_conversion(given: Any, kept: Any, where: str, key: str) -> None:
    """Refuse what pydantic would turn into another type: text or bool into a number, text into bool.

    Raises:
        RecipeError: with the key.
    """
    if isinstance(given, Mapping) and isinstance(kept, Mapping):
        for name in given:
            _check_no_conversion(given[name], kept.get(name), where, f"{key}.{name}" if key else str(name))
    elif isinstance(given, list) and isinstance(kept, list):
        for place, (one, other) in enumerate(zip(given, kept, strict=False)):
            _check_no_conversion(one, other, where, f"{key}.{place}")
    elif isinstance(given, (str, bool)) and kept is not None and type(given) is not type(kept):
        word = {"bool": "true or false", "str": "text", "int": "a whole number", "float": "a number"}
        wanted = word.get(type(kept).__name__, type(kept).__name__)
        raise RecipeError(f"{where}: {key}", f"{given!r} is not {wanted}", f"Write {wanted} without quotes")


def told(
    error: ValidationError, where: object, model: type[BaseModel] = Recipe, key: str = ""
) -> tuple[str, str, str]:
    """Where, what and mend of a pydantic error that names the key; what was put in is not printed.

    Args:
        error: what pydantic raised.
        where: the file.
        model: the class that was validated, for the nearest valid key.
        key: the dotted place of `model` in the recipe.
    """
    details = error.errors(include_url=False, include_context=False, include_input=False)
    first = details[0]
    loc = [str(part) for part in first["loc"]]
    place = f"{where}: {'.'.join(([key] if key else []) + loc)}".rstrip(": ")
    more = f" ({len(details) - 1} more such errors)" if len(details) > 1 else ""
    if first["type"] == "extra_forbidden":
        return (place, f"is no known key{more}", nearest(loc[-1], _fields(model, loc[:-1])))
    if first["type"] == "missing":
        return (place, f"this key is missing{more}", "Add it")
    message = first["msg"].removeprefix("Value error, ")
    return (place, f"{message[:1].lower()}{message[1:]}{more}", "Change the value")


def _fields(model: type[BaseModel], loc: Sequence[str]) -> list[str]:
    """Names of the fields of the model that lies at `loc` inside `model`."""
    for part in loc:
        field = model.model_fields.get(part)
        kinds = [] if field is None else [field.annotation, *get_args(field.annotation)]
        inner = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if not inner:
            return []
        model = inner[0]
    return list(model.model_fields)


def resolved(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain values with every default written out; `check` gives the same run."""
    plain = recipe.model_dump(mode="json")
    del plain["optim"]["seed"]  # the recipe's own seed stands for it
    for kind in catalogue.KINDS:
        if plain[kind] is not None:
            options = catalogue.known(kind)[plain[kind]["name"]]["options"].get("properties", {})
            defaults = {key: about["default"] for key, about in options.items() if "default" in about}
            plain[kind] = {**defaults, **plain[kind]}
    return {key: value for key, value in plain.items() if value is not None}
