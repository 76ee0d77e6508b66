"""What answers for a model: its folder with torch, or its graph where torch is not installed."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import NamedTuple

from insonate.deploy.runtime import is_exported
from insonate.errors import ModelError
from insonate.shipped import PORTABLE, shipped_folder, shipped_names


class Server(NamedTuple):
    """Where a model is, and in which form."""

    model: str
    """folder or hub id"""
    exported: bool
    """it is a folder of `insonate export`, which runs without torch"""


def server_of(model: str | None) -> Server:
    """What answers for a model.

    Args:
        model: a model folder, a folder of `insonate export`, the name of a shipped model, or a hub id; none
            is the model that the package comes with.

    Raises:
        ModelError: none is said and none came with the package; or it needs torch, which is not installed.
    """
    if model is None or (model in shipped_names() and not Path(model).exists()):
        model = str(shipped_folder() if model is None else shipped_folder(model))
    if is_exported(model):
        return Server(model, exported=True)
    if has_torch():
        return Server(model, exported=False)
    graph = Path(model) / PORTABLE
    if is_exported(graph):
        return Server(str(graph), exported=True)
    mend = "Install torch, or give a folder of `insonate export`"
    raise ModelError(model, "needs torch, which is not installed here", mend)


def has_torch() -> bool:
    """Whether torch can be imported."""
    try:
        importlib.import_module("torch")
    except ImportError:
        return False
    return True
