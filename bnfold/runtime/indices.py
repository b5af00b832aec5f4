"""How large the integers of an input may be: as many as the constant table has rows that they are looked up in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

_SAME_SHAPE = {"Identity", "Cast", "DequantizeLinear"}
_SAME_VALUES = {"Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Expand"}


def index_limits(graph: onnx.GraphProto) -> dict[str, int]:
    """Name of each input that `Gather` looks up in a constant table → the table's extent on the axis; the least of several.

    Reads shapes only, never weights. Tables and indices are followed through operators that leave the one's shape or the
    other's values as they are, also from the bodies of If, Loop and Scan.
    """
    tables = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    origin = {value.name: value.name for value in graph.input}
    limits: dict[str, int] = {}
    for node in _nodes(graph):
        first, second = (*node.input, "", "")[:2]
        result = next(iter(node.output), "")
        if node.op_type == "Constant" and node.attribute:
            tables[result] = tuple(node.attribute[0].t.dims)
        if node.op_type in _SAME_SHAPE and first in tables:
            tables[result] = tables[first]
        if node.op_type in _SAME_VALUES and first in origin:
            origin[result] = origin[first]
        if node.op_type != "Gather" or first not in tables or second not in origin:
            continue
        table, name = tables[first], origin[second]
        axis = next((each.i for each in node.attribute if each.name == "axis"), 0)
        if -len(table) <= axis < len(table):
            limits[name] = min(table[axis], limits.get(name, table[axis]))
    return limits


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                yield from _nodes(body)
