"""Add, Sub and Sum: of a constant (a bias above all), or of branches.

Backward    y = a·(x + k − c) + t     becomes   a·x + (a·(k − c) + t), with a·x taken further up
            y = a·(u + v − c) + t     becomes   (a·(u − c) + t) + a·v, both taken further up
Algebra     the scale distributes over the sum, the shift goes into one summand. k may be of any shape that broadcasts.
            x − k is x + (−k), and a·(k − x − c) + t is (a·(k − c) + t) − a·x; u − v likewise.
Conditions  the ranks known, so that the map's axes are known in every summand; a summand that is broadcast along a mapped axis
            cannot take its map.
Source      ONNX operators Add, Sub, Sum, multidirectional broadcasting (onnx/docs/Broadcasting.md).
"""

from __future__ import annotations

import onnx_graphsurgeon as gs

from bnfold.affine import Float64
from bnfold.context import Context
from bnfold.edits import Map, SetConstant, Step
from bnfold.graph import describe
from bnfold.verdict import Reason
from bnfold.weights import Computed


def backward(context: Context, node: gs.Node, output: int, map_: Map) -> Step | Reason:
    """Sends the scale of a map of the sum to every summand and the rest into one of them."""
    if context.view.opset(node) < 7:
        return Reason("BNF005", f"{describe(node)} broadcasts by the rules that ended with opset 7", "Upgrade the opset.")
    ranks = [context.shapes.rank(each) for each in node.inputs]
    known = [rank for rank in ranks if rank is not None]
    if len(known) < len(ranks):
        return Reason("BNF018", f"the rank of what {describe(node)} adds is not known", "Give the graph's inputs a shape.")
    constant = [context.constants.is_constant(each) for each in node.inputs]
    if sum(constant) == 1 and len(node.inputs) == 2:
        return _into_constant(context, node, map_, known, constant.index(True))
    return _into_branches(context, node, map_, known)


def _into_constant(context: Context, node: gs.Node, map_: Map, ranks: list[int], place: int) -> Step | Reason:
    constant = context.float_weight(node.inputs[place])
    if isinstance(constant, Reason):
        return constant
    subtracts = context.view.op_type(node) == "Sub"
    carried = _on_summand(context, node, map_.scale_only(), ranks, 1 - place)
    if isinstance(carried, Reason):
        return carried
    affine, sign = map_.over(max(ranks)), -1.0 if subtracts and place == 1 else 1.0
    values = _without_leading_ones(sign * affine(sign * constant.values()), len(constant.shape))
    new = Computed(values, constant.elem_type)
    return Step((SetConstant(node, place, new),), ((1 - place, carried),))


def _into_branches(context: Context, node: gs.Node, map_: Map, ranks: list[int]) -> Step | Reason:
    onward: list[tuple[int, Map]] = []
    for place in range(len(node.inputs)):
        carried = _on_summand(context, node, map_ if place == 0 else map_.scale_only(), ranks, place)
        if isinstance(carried, Reason):
            return carried
        onward.append((place, carried))
    return Step(onward=tuple(onward))


def _on_summand(context: Context, node: gs.Node, map_: Map, ranks: list[int], place: int) -> Map | Reason:
    """The map on the axes of one summand, which may have fewer than the sum."""
    missing = max(ranks) - ranks[place]
    axes = tuple(axis - missing for axis in map_.axes)
    extents = context.shapes.extents(node.inputs[place])
    for axis, extent in zip(axes, map_.affine.shape, strict=True):
        found = extents[axis] if axis >= 0 and extents is not None else None
        if axis < 0 or (isinstance(found, int) and found != extent):
            return Reason("BNF012", f"`{node.inputs[place].name}` is broadcast by {describe(node)} along the axis that it maps")
    return map_.on(axes)


def _without_leading_ones(values: Float64, at_least: int) -> Float64:
    while values.ndim > max(at_least, 1) and values.shape[0] == 1:
        values = values[0]
    return values
