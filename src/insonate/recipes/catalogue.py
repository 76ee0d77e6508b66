"""Names and options of every backbone, objective and task, kept as JSON.

`insonate/catalogue.json` lets recipes be checked, and `insonate models` answer, without importing torch.
`python -m insonate.recipes.catalogue` (`make catalogue`) makes it of the registries; a test holds it current.
"""

from __future__ import annotations

import inspect
import json
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from insonate.files import atomic_write
from insonate.options import Options

if TYPE_CHECKING:
    from insonate.models import Entry, Registry

PATH = Path(__file__).parents[1] / "catalogue.json"
PUBLISHED_PATH = PATH.with_name("published.json")
REGISTRIES = {
    "backbone": ("insonate.models.backbone", "BACKBONES"),
    "objective": ("insonate.objectives.base", "OBJECTIVES"),
    "task": ("insonate.tasks.base", "TASKS"),
}
"""kind → module and name of its registry"""
KINDS = tuple(REGISTRIES)


@cache
def read() -> dict[str, dict[str, Any]]:
    """Kind → name → {"doc": one sentence, "options": JSON schema}; torch-free."""
    return json.loads(PATH.read_text("utf-8"))


def known(kind: str) -> dict[str, Any]:
    """The entries of one kind, and those that code outside the package has registered in this process.

    Whoever registered something has imported torch already; this does not.
    """
    module, name = REGISTRIES[kind]
    registry: Registry[Any] | None = getattr(sys.modules.get(module), name, None)
    kept = read()[kind]
    if registry is None:
        return kept
    return {**kept, **{name: described(registry[name]) for name in registry.names() if name not in kept}}


def generate() -> dict[str, dict[str, Any]]:
    """The catalogue as the registries say it now; imports torch."""
    from insonate.models import BACKBONES
    from insonate.objectives import OBJECTIVES
    from insonate.tasks import TASKS

    registries: tuple[Registry[Any], ...] = (BACKBONES, OBJECTIVES, TASKS)
    return {
        kind: {name: described(registry[name]) for name in registry.names()}
        for kind, registry in zip(KINDS, registries, strict=True)
    }


@cache
def read_published() -> dict[str, dict[str, Any]]:
    """Name → facts of the encoders that others published; torch-free."""
    return json.loads(PUBLISHED_PATH.read_text("utf-8"))


def generate_published() -> dict[str, dict[str, Any]]:
    """The same as the code says it now; imports torch."""
    from insonate.models.published import PUBLISHED, facts

    return {entry.name: facts(entry) for entry in PUBLISHED}


def described(registered: Entry[Any]) -> dict[str, Any]:
    """What is kept of a registered method."""
    return {"doc": sentence(registered.make), "options": schema(registered.config)}


def schema(config: type[Options]) -> dict[str, Any]:
    """JSON schema of an options class, without the class's own docstring."""
    made = config.model_json_schema()
    return {key: value for key, value in made.items() if key not in {"title", "description"}}


def sentence(thing: Any) -> str:
    """First line of the docstring."""
    return (inspect.getdoc(thing) or "").split("\n")[0]


def as_text(catalogue: dict[str, dict[str, Any]]) -> str:
    """The file's content."""
    return json.dumps(catalogue, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    atomic_write(PATH, as_text(generate()))
    atomic_write(PUBLISHED_PATH, as_text(generate_published()))
