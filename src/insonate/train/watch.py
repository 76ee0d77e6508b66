"""A collapse that the loss does not show: values that stay below the floor that a method names."""

from __future__ import annotations

from collections.abc import Mapping

PATIENCE = 200
"""steps that a value must have stayed below its floor: at the start of a run it may dip"""


class Watch:
    """Tells of each value once in a call of `fit`."""

    def __init__(self, floors: Mapping[str, float]) -> None:
        self._floors = dict(floors)
        self._below: dict[str, int] = {}

    def look(self, step: int, values: Mapping[str, float]) -> list[str]:
        """Lines for people about the values of this step."""
        lines = []
        for name, floor in list(self._floors.items()):
            if name not in values or values[name] >= floor:
                self._below.pop(name, None)
                continue
            since = self._below.setdefault(name, step)
            if step - since >= PATIENCE:
                del self._floors[name]
                lines.append(
                    f"{name} has been below {floor:g} since step {since} (now {values[name]:.3g}): what is "
                    "learned has probably collapsed. Lower optim.lr, and see the page of the method"
                )
        return lines
