"""MatMul.

Before      y = a·(x·W − c) + t,  or  y = a·(W·x − c) + t
After       y = x·(W·a) + (t − a·c),  or  y = (a·W)·x + (t − a·c)
Algebra     the last axis of the result reads the columns of a right-hand W, the last but one the rows of a left-hand W. MatMul
            has no bias: the offset is left to an Add, which replaces the map, or joins an Add that is there already.
Conditions  one side constant and of rank ≥ 2; the rank of the result known; the map lies on that axis of it.
Source      ONNX operator MatMul (numpy.matmul).
"""

from __future__ import annotations

import onnx_graphsurgeon as gs

from bnfold.context import Context
from bnfold.edits import Map, SetConstant, Step
from bnfold.graph import describe
from bnfold.ops.linear import along, wrong_axis
from bnfold.verdict import Reason
from bnfold.weights import Scaled


def backward(context: Context, node: gs.Node, map_: Map) -> Step | Reason:
    """Takes the scale of a map of the output into the constant side."""
    left, right = (context.float_weight(each) for each in node.inputs)
    if isinstance(left, Reason) and isinstance(right, Reason):
        return right
    side = 0 if isinstance(right, Reason) else 1
    weight = left if side == 0 else right
    assert not isinstance(weight, Reason)
    if len(weight.shape) < 2:
        return Reason("BNF012", f"the weight `{node.inputs[side].name}` of {describe(node)} is no matrix")
    rank = _result_rank(context, node)
    if rank is None:
        return Reason("BNF018", f"the rank of what {describe(node)} makes is not known", "Give the graph's inputs a shape.")
    from_end = 1 if side == 1 else 2
    reason = wrong_axis(node, map_, rank - from_end, weight.shape[-from_end])
    if reason is not None:
        return reason
    factor = along(map_.affine.scale, len(weight.shape) - from_end, len(weight.shape))
    return Step((SetConstant(node, side, Scaled.of(weight, factor)),), leaves_offset=map_.affine.has_offset)


def _result_rank(context: Context, node: gs.Node) -> int | None:
    ranks = [context.shapes.rank(each) for each in node.inputs]
    known = [rank for rank in ranks if rank is not None]
    if len(known) < 2:
        return context.shapes.rank(node.outputs[0])
    return max(known) if min(known) >= 2 else None
