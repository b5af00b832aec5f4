"""Add and Sub of a constant, the bias of a MatMul above all.

Before      y = a·(x + k − c) + t
After       y = a·x + (a·(k − c) + t), with a·x taken further up
Algebra     the scale distributes over the sum, and the rest is one new constant. k may be of any shape that broadcasts.
            x − k is x + (−k). k − x is not taken here.
Conditions  k constant; the ranks of x and of the sum known, so that the map's axis is known in both.
Source      ONNX operators Add and Sub, multidirectional broadcasting (onnx/docs/Broadcasting.md).
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from bnfold.context import Context
from bnfold.edits import Map, SetConstant, Step
from bnfold.graph import describe
from bnfold.ops.linear import along
from bnfold.verdict import Reason
from bnfold.weights import Computed


def backward(context: Context, node: gs.Node, map_: Map) -> Step | Reason:
    """Takes the offset of a map of the sum into the constant and sends the scale to the other operand."""
    place = _constant_place(context, node)
    if isinstance(place, Reason):
        return place
    if context.view.opset(node) < 7:
        return Reason("BNF005", f"{describe(node)} broadcasts by the rules that ended with opset 7", "Upgrade the opset.")
    constant = context.float_weight(node.inputs[place])
    if isinstance(constant, Reason):
        return constant
    other_rank = context.shapes.rank(node.inputs[1 - place])
    if other_rank is None:
        return Reason("BNF018", f"the rank of what {describe(node)} adds to is not known", "Give the graph's inputs a shape.")
    rank = max(other_rank, len(constant.shape))
    if len(map_.axes) != 1 or map_.axes[0] >= rank or map_.axes[0] < rank - other_rank:
        return Reason("BNF012", f"the axis that it maps is not an axis of what {describe(node)} adds to")
    sign = -1.0 if context.view.op_type(node) == "Sub" else 1.0
    axis = map_.axes[0]
    scale, center, shift = (along(each, axis, rank) for each in (map_.affine.scale, map_.affine.center, map_.affine.shift))
    values = scale * (sign * constant.values() - center) + shift
    carried = Map(map_.scale_only().affine, (axis - (rank - other_rank),))
    new = Computed(_drop_leading_ones(sign * values, len(constant.shape)), constant.elem_type)
    return Step((SetConstant(node, place, new),), ((1 - place, carried),))


def _constant_place(context: Context, node: gs.Node) -> int | Reason:
    constant = [context.constants.is_constant(each) for each in node.inputs]
    if constant == [False, True]:
        return 1
    if constant == [True, False] and context.view.op_type(node) == "Add":
        return 0
    return Reason("BNF005", f"{describe(node)} stands between it and any linear operator")


def _drop_leading_ones(values: np.ndarray, at_least: int) -> np.ndarray:
    while values.ndim > max(at_least, 1) and values.shape[0] == 1:
        values = values[0]
    return values
