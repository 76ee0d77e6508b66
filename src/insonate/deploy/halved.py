"""A graph whose large tables of numbers are stored in 16 bits, for half the size; what runs is of 32 bits.

Each table is followed by a cast, which runtimes do once, when they open the graph.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from insonate.errors import ModelError
from insonate.files import atomic_write

FEWEST = 256
"""numbers of a table that is worth it"""


def halve(path: Path) -> None:
    """Store the tables of an ONNX file in 16 bits.

    Raises:
        ModelError: a number is too large for that.
    """
    import onnx
    from onnx import numpy_helper

    model = onnx.load(str(path))
    graph, casts = model.graph, []
    for table in _tables(graph):
        values = numpy_helper.to_array(table)
        if values.dtype != np.float32 or values.size < FEWEST:
            continue
        name = table.name
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if not np.isfinite(half).all():
            raise ModelError(name, "holds a number above 65504, the largest of 16 bits", "Store 32 bits")
        table.CopyFrom(numpy_helper.from_array(half, f"{name}.half"))
        casts.append(onnx.helper.make_node("Cast", [f"{name}.half"], [name], to=onnx.TensorProto.FLOAT))
    for number, cast in enumerate(casts):
        graph.node.insert(number, cast)
    atomic_write(path, model.SerializeToString())


def _tables(graph: Any) -> list[Any]:
    """Initialisers, those among them that were constants of nodes; such nodes go away."""
    for node in [node for node in graph.node if node.op_type == "Constant"]:
        value = next((one for one in node.attribute if one.name == "value"), None)
        if value is not None and np.prod(value.t.dims) >= FEWEST:
            table = graph.initializer.add()
            table.CopyFrom(value.t)
            table.name = node.output[0]
            graph.node.remove(node)
    return list(graph.initializer)
