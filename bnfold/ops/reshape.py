"""Reshape, Flatten, Squeeze, Unsqueeze and Transpose: the same elements on other axes.

Backward    y = a·(Reshape(x) − c) + t     becomes   Reshape(a'·(x − c') + t'), a' being a on the axes of x
Forward     y = Reshape(a·(x − c) + t)     becomes   the map on the axes of y
Algebra     a reshape keeps the row-major order, so each channel of the map is followed by its index (`Map.reshaped`):
            unflattening repeats a map, flattening tiles it. A transpose permutes the map's axes.
Conditions  the extents of the axes that the map's axes are merged with or split into are known.
Source      ONNX operators Reshape, Flatten, Squeeze, Unsqueeze, Transpose.
"""

from __future__ import annotations

import onnx_graphsurgeon as gs

from bnfold.context import Context
from bnfold.edits import Map, Step
from bnfold.graph import describe
from bnfold.verdict import Reason


def backward(context: Context, node: gs.Node, output: int, map_: Map) -> Step | Reason:
    """Follows the map to the input's axes."""
    return _carry(context, node, map_, node.outputs[0], node.inputs[0])


def forward(context: Context, node: gs.Node, index: int, map_: Map) -> Step | Reason:
    """Follows the map to the output's axes."""
    if index != 0:
        return Reason("BNF005", f"it makes the shape for {describe(node)}")
    return _carry(context, node, map_, node.inputs[0], node.outputs[0])


def _carry(context: Context, node: gs.Node, map_: Map, source: gs.Tensor, target: gs.Tensor) -> Step | Reason:
    if not map_.axes:
        return Step(onward=((0, map_),))
    if context.view.op_type(node) == "Transpose":
        return _transposed(context, node, map_, forward=target is node.outputs[0])
    shapes = (context.shapes.extents(source), context.shapes.extents(target))
    if shapes[0] is None or shapes[1] is None:
        return Reason("BNF018", f"the shapes around {describe(node)} are not known", "Give the graph's inputs a shape.")
    carried = map_.reshaped(shapes[0], shapes[1])
    if carried is None:
        return Reason("BNF012", f"{describe(node)} mixes the axis that it maps with axes of unknown size")
    return Step(onward=((0, carried),))


def _transposed(context: Context, node: gs.Node, map_: Map, forward: bool) -> Step | Reason:
    rank = context.shapes.rank(node.inputs[0])
    perm = context.view.attribute(node, "perm") or (tuple(reversed(range(rank))) if rank is not None else None)
    if perm is None or max(map_.axes) >= len(perm):
        return Reason("BNF018", f"the rank of what {describe(node)} reads is not known", "Give the graph's inputs a shape.")
    axes = [perm.index(axis) if forward else perm[axis] for axis in map_.axes]
    return Step(onward=((0, map_.on(tuple(axes))),))
