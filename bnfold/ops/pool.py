"""Pooling and means: AveragePool, GlobalAveragePool, ReduceMean, MaxPool, GlobalMaxPool.

Backward    y = a·(AveragePool(x) − c) + t     becomes   AveragePool(a·(x − c) + t), and back again forward
            y = a·(MaxPool(x) − c) + t         becomes   MaxPool(a·(x − c) + t) for a ≥ 0
Algebra     an average whose weights sum to one commutes with an affine map; a maximum commutes with an increasing one.
Conditions  the map does not vary along a pooled axis. Averages that count padding do not sum to one at the border, and let a
            scale through only. A maximum needs a positive scale (BNF011), or zero where nobody reads its indices.
Source      ONNX operators AveragePool (`count_include_pad`, `ceil_mode`), GlobalAveragePool, ReduceMean, MaxPool, GlobalMaxPool.
"""

from __future__ import annotations

import onnx_graphsurgeon as gs

from bnfold.context import Context
from bnfold.edits import Map, Step
from bnfold.graph import describe, optional_input
from bnfold.verdict import Reason


def pool_backward(context: Context, node: gs.Node, output: int, map_: Map) -> Step | Reason:
    """Sends the map to the input."""
    return _obstacle(context, node, map_) or Step(onward=((0, map_),))


def pool_forward(context: Context, node: gs.Node, index: int, map_: Map) -> Step | Reason:
    """Sends the map to the output."""
    return _obstacle(context, node, map_) or Step(onward=((0, map_),))


def mean_backward(context: Context, node: gs.Node, output: int, map_: Map) -> Step | Reason:
    """Sends the map to the input, on the axes that were there before the mean."""
    kept = _kept_axes(context, node)
    if isinstance(kept, Reason):
        return kept
    if any(axis >= len(kept) or kept[axis] is None for axis in map_.axes):
        return Reason("BNF012", f"the axis that it maps is one that {describe(node)} averages")
    return Step(onward=((0, map_.on(tuple(axis for axis in (kept[each] for each in map_.axes) if axis is not None))),))


def mean_forward(context: Context, node: gs.Node, index: int, map_: Map) -> Step | Reason:
    """Sends the map to the output, on the axes that are left after the mean."""
    kept = _kept_axes(context, node)
    if isinstance(kept, Reason) or index != 0:
        return kept if isinstance(kept, Reason) else Reason("BNF005", f"it makes the axes of {describe(node)}")
    if any(axis not in kept for axis in map_.axes):
        return Reason("BNF012", f"the axis that it maps is one that {describe(node)} averages")
    return Step(onward=((0, map_.on(tuple(kept.index(axis) for axis in map_.axes))),))


def _obstacle(context: Context, node: gs.Node, map_: Map) -> Reason | None:
    if any(axis > 1 for axis in map_.axes):
        return Reason("BNF014", f"{describe(node)} pools over the axes that it maps")
    op_type = context.view.op_type(node)
    if op_type in ("MaxPool", "GlobalMaxPool"):
        indices_read = len(node.outputs) > 1 and not node.outputs[1].is_empty()
        enough = (map_.affine.scale > 0).all() if indices_read else (map_.affine.scale >= 0).all()
        return (
            None if enough else Reason("BNF011", f"{describe(node)} takes the maximum, and some of its scales are not positive")
        )
    if op_type == "AveragePool" and map_.affine.has_offset and _counts_padding(context, node):
        return Reason("BNF010", f"{describe(node)} counts its zero padding, which its shift would have to reach into")
    return None


def _counts_padding(context: Context, node: gs.Node) -> bool:
    view = context.view
    if not view.attribute(node, "count_include_pad", 0):
        return False
    same = view.attribute(node, "auto_pad", b"NOTSET") in (b"SAME_UPPER", b"SAME_LOWER")
    return same or any(view.attribute(node, "pads", ())) or bool(view.attribute(node, "ceil_mode", 0))


def _kept_axes(context: Context, node: gs.Node) -> list[int | None] | Reason:
    """For each axis of the result the axis of the input that it is; None for one that was averaged."""
    rank = context.shapes.rank(node.inputs[0])
    if rank is None:
        return Reason("BNF018", f"the rank of what {describe(node)} averages is not known", "Give the graph's inputs a shape.")
    axes = context.view.attribute(node, "axes")
    given = optional_input(node, 1)
    if given is not None:
        weight = context.constants.weight(given)
        if weight is None:
            return Reason("BNF006", f"the axes of {describe(node)} are computed at run time")
        axes = weight.values().tolist()
    if not axes:
        axes = () if context.view.attribute(node, "noop_with_empty_axes", 0) else range(rank)
    averaged = {axis % rank for axis in axes}
    if context.view.attribute(node, "keepdims", 1):
        return [None if axis in averaged else axis for axis in range(rank)]
    return [axis for axis in range(rank) if axis not in averaged]
