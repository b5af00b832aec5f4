"""MatMul.

Backward    y = a·(x·W − c) + t,  or  a·(W·x − c) + t    becomes   x·(W·a) + (t − a·c),  or  (a·W)·x + (t − a·c)
Forward     y = (a·x + o)·W,  or  W·(a·x + o)            becomes   x·(a·W) + o·W,  or  (W·a)·x + W·o
Algebra     the last axis of the result reads the columns of a right-hand W, the last but one the rows of a left-hand W; the axis
            of x that is summed over meets the other axis of W. MatMul has no bias: backward the offset is left to an Add, which
            replaces the map; forward it joins the Add that follows, or becomes one.
Conditions  one side constant and of rank ≥ 2; the ranks known; the map lies on that axis. Forward, an Add of its own must be no
            larger than the map was (BNF020).
Source      ONNX operator MatMul (numpy.matmul).
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from bnfold.context import Context
from bnfold.edits import AddOutput, Edit, Map, SetConstant, Step
from bnfold.graph import describe
from bnfold.ops.linear import along, on_channels, step_of
from bnfold.ops.weight import OperatorWeight, weight_of
from bnfold.verdict import Reason
from bnfold.weights import Computed

_UNKNOWN_RANK = "Give the graph's inputs a shape."


def backward(context: Context, node: gs.Node, output: int, map_: Map) -> Step | Reason:
    """Takes the scale of a map of the output into the constant side."""
    found = _constant_side(context, node)
    if isinstance(found, Reason):
        return found
    side, weight = found
    rank = _result_rank(context, node)
    if rank is None:
        return Reason("BNF018", f"the rank of what {describe(node)} makes is not known", _UNKNOWN_RANK)
    from_end = 1 if side == 1 else 2
    affine = on_channels(node, map_, rank - from_end, weight.shape[-from_end])
    if isinstance(affine, Reason):
        return affine
    scaled = weight.scaled(along(affine.scale, len(weight.shape) - from_end, len(weight.shape)))
    return scaled if isinstance(scaled, Reason) else Step(tuple(scaled), leaves_offset=affine.has_offset)


def forward(context: Context, node: gs.Node, index: int, map_: Map) -> Step | Reason:
    """Takes the scale of a map of the input into the constant side, and its offset into an Add behind."""
    found = _constant_side(context, node)
    if isinstance(found, Reason):
        return found
    side, weight = found
    if side == index:
        return Reason("BNF006", f"it makes a weight of {describe(node)}")
    rank = context.shapes.rank(node.inputs[index])
    if rank is None or rank < 2:
        return Reason("BNF018", f"the rank of what {describe(node)} reads is not known, or below two", _UNKNOWN_RANK)
    weight_from_end, data_from_end = (2, 1) if side == 1 else (1, 2)
    affine = on_channels(node, map_, rank - data_from_end, weight.shape[-weight_from_end])
    if isinstance(affine, Reason):
        return affine
    axis = len(weight.shape) - weight_from_end
    scaled = weight.scaled(along(affine.scale, axis, len(weight.shape)))
    if not affine.has_offset:
        return step_of(scaled)
    added = (weight.values() * along(affine.offset, axis, len(weight.shape))).sum(axis=axis, keepdims=True)
    offset = np.squeeze(added, -2) if side == 1 and added.ndim == 2 else added
    made, read = weight.shape[-data_from_end], weight.shape[-weight_from_end]
    return step_of(scaled, _add_behind(context, node, Computed(offset, weight.elem_type), made, read))


def _constant_side(context: Context, node: gs.Node) -> tuple[int, OperatorWeight] | Reason:
    right, left = weight_of(context, node, 1), weight_of(context, node, 0)
    if isinstance(right, Reason) and isinstance(left, Reason):
        return right
    side, weight = (0, left) if isinstance(right, Reason) else (1, right)
    assert not isinstance(weight, Reason)
    if len(weight.shape) < 2:
        return Reason("BNF012", f"the weight `{node.inputs[side].name}` of {describe(node)} is no matrix")
    return side, weight


def _result_rank(context: Context, node: gs.Node) -> int | None:
    ranks = [context.shapes.rank(each) for each in node.inputs]
    known = [rank for rank in ranks if rank is not None]
    if len(known) < 2:
        return context.shapes.rank(node.outputs[0])
    return max(known) if min(known) >= 2 else None


def _add_behind(context: Context, node: gs.Node, offset: Computed, made: int, read: int) -> list[Edit] | Reason:
    """The offset joins a constant that is added anyway; an Add of its own pays only if it handles no more than the map did."""
    result = node.outputs[0]
    readers = list(context.view.readers(result))
    if len(readers) == 1 and context.view.op_type(readers[0]) == "Add" and context.view.opset(readers[0]) >= 7:
        place = 1 if readers[0].inputs[0] is result else 0
        constant = context.constants.weight(readers[0].inputs[place])
        if constant is not None and context.other_readers(result, readers[0]) is None and id(readers[0]) not in context.kept:
            return [SetConstant(readers[0], place, Computed(constant.values() + offset.array, constant.elem_type))]
    if context.view.opset(node) < 7:
        return Reason("BNF005", f"{describe(node)} is followed by no bias, and adding one before opset 7 needs other rules")
    if made > read and not context.force:
        found = f"{describe(node)} makes {made} channels of {read}"
        return Reason("BNF020", f"{found}, so adding the offset behind it would cost more than the map", "Use --force.")
    return [AddOutput(node, offset)]
