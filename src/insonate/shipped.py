"""Models that come with the package: found by name, without torch and without a network.

    shipped_models/NAME/            a model folder, its weights stored in 16 bits
    shipped_models/NAME/onnx/       the same as a graph, for use without torch (`deploy/runtime.py`)

`experiments/shipped_pack.py` writes such a folder.
"""

from __future__ import annotations

from pathlib import Path

from insonate.errors import ModelError

FOLDER = Path(__file__).parent / "shipped_models"
DEFAULT = "sonichu_tiny"
"""what `insonate predict` takes when no model is said"""
CONFIG, PORTABLE = "config.json", "onnx"
NONE = "did not come with this package, which holds no model"


def shipped_names() -> tuple[str, ...]:
    """Names of the models that this installation has, in order."""
    return tuple(sorted(path.parent.name for path in FOLDER.glob(f"*/{CONFIG}")))


def shipped_folder(name: str = DEFAULT) -> Path:
    """The folder of a model that came with the package.

    Raises:
        ModelError: this installation has none of that name.
    """
    names = shipped_names()
    if name in names:
        return FOLDER / name
    what = f"is not among the models of this package: {', '.join(names)}" if names else NONE
    raise ModelError(f"model {name}", what, "Say --model FOLDER or a hub id, or train one: insonate train")
