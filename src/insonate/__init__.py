"""insonate: pretrain, distil, adapt, evaluate and use ultrasound foundation models.

    import insonate
    model = insonate.load("path/or/hub-id")
    prediction = model.predict("study.dcm")

Importing this package loads nothing heavy: `load` brings torch in when it is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["__version__", "load"]

if TYPE_CHECKING:
    from insonate.hub import load


def __getattr__(name: str) -> Any:
    if name == "load":
        from insonate.hub import load

        return load
    raise AttributeError(f"module 'insonate' has no attribute {name!r}")
