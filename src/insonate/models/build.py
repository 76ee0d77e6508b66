"""From options to a thing of a registry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from insonate.errors import RecipeError, nearest
from insonate.models.backbone import BACKBONES, Backbone
from insonate.models.registry import Entry, Registry
from insonate.options import Options

T = TypeVar("T")


def build_backbone(options: Mapping[str, Any]) -> Backbone:
    """The backbone that `options` (with its `name`) describe; what is None takes its default.

    Raises:
        RecipeError: an unknown name, an unknown option, or a value out of range.
    """
    entry, config = resolve(BACKBONES, options)
    return entry.make(config)


def resolve(registry: Registry[T], options: Mapping[str, Any]) -> tuple[Entry[T], Options]:
    """The registry entry that `options["name"]` names, and its validated options.

    Raises:
        RecipeError: an unknown name, an unknown option, or a value out of range.
    """
    entry = registry[str(options.get("name", ""))]
    given = {key: value for key, value in options.items() if value is not None}
    try:
        return entry, entry.config.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        unknown = first["type"] == "extra_forbidden"
        raise RecipeError(
            f"{registry.kind}.{field}".rstrip("."),
            f"{options['name']} has no such option"
            if unknown
            else first["msg"].removeprefix("Value error, "),
            nearest(field, entry.config.model_fields) if unknown else "Correct the value",
        ) from None
