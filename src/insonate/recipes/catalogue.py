"""Names and options of every backbone, objective and task, kept as JSON.

`insonate/catalogue.json` lets recipes be checked, and `insonate models` answer, without importing torch.
Made from the registries by `python -m insonate.recipes.catalogue` (`make catalogue`); a test holds it current.
"""

from __future__ import annotations

import inspect
import json
from functools import cache
from pathlib import Path
from typing import Any

from insonate.files import atomic_write

PATH = Path(__file__).parents[1] / "catalogue.json"
KINDS = ("backbone", "objective", "task")


@cache
def read() -> dict[str, dict[str, Any]]:
    """Kind → name → {"doc": one sentence, "options": JSON schema}; torch-free."""
    return json.loads(PATH.read_text("utf-8"))


def generate() -> dict[str, dict[str, Any]]:
    """The catalogue as the registries say it now; imports torch."""
    import insonate.models
    import insonate.objectives
    import insonate.tasks  # noqa: F401  (importing registers)
    from insonate.models.backbone import BACKBONES
    from insonate.models.registry import Registry
    from insonate.objectives.base import OBJECTIVES
    from insonate.tasks.base import TASKS

    registries: tuple[Registry[Any], ...] = (BACKBONES, OBJECTIVES, TASKS)
    return {
        kind: {
            name: {"doc": sentence(registry[name].make), "options": registry[name].config.model_json_schema()}
            for name in registry.names()
        }
        for kind, registry in zip(KINDS, registries, strict=True)
    }


def sentence(thing: Any) -> str:
    """First line of the docstring."""
    return (inspect.getdoc(thing) or "").split("\n")[0]


def as_text(catalogue: dict[str, dict[str, Any]]) -> str:
    """The file's content."""
    return json.dumps(catalogue, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    atomic_write(PATH, as_text(generate()))
