"""Concat, Split and Slice: a map taken apart along its axis, or put on a part of it.

Backward    y = a·(Concat(u, v) − c) + t     becomes   Concat of the two, each with its slice of the map
            y = a·(Split(x)[i] − c) + t      becomes   Split(x') with the map on that slice of x only
Forward     y = Concat(a·(u − c) + t, v)     becomes   a map of y that leaves the slices of v as they are
            y = Split(a·(x − c) + t)         becomes   a slice of the map behind each part
Conditions  the extents along the axis known, when the map varies along it; a Slice forward steps, on constant bounds.
Source      ONNX operators Concat, Split (versions 1, 2, 11, 13, 18), Slice (versions 1, 10, 11, 13).
"""

from __future__ import annotations

from itertools import accumulate, pairwise

import numpy as np
import onnx_graphsurgeon as gs

from bnfold.affine import Affine
from bnfold.context import Context
from bnfold.edits import Map, Step
from bnfold.graph import describe
from bnfold.verdict import Reason


def concat_backward(context: Context, node: gs.Node, output: int, map_: Map) -> Step | Reason:
    """Sends each input its slice of the map."""
    axis = _axis(context, node, "axis", 1)
    if isinstance(axis, Reason):
        return axis
    if axis not in map_.axes:
        return Step(onward=tuple((place, map_) for place in range(len(node.inputs))))
    starts = _starts(context, node, list(node.inputs), axis)
    if isinstance(starts, Reason):
        return starts
    if starts[-1] != map_.affine.shape[map_.axes.index(axis)]:
        return Reason("BNF012", f"it has other channels than {describe(node)} makes")
    return Step(onward=tuple((place, map_.take(axis, *part)) for place, part in enumerate(pairwise(starts))))


def concat_forward(context: Context, node: gs.Node, index: int, map_: Map) -> Step | Reason:
    """Puts the map on the slice that the input fills."""
    axis = _axis(context, node, "axis", 1)
    if isinstance(axis, Reason):
        return axis
    if map_.axes not in ((), (axis,)):
        return Reason("BNF005", f"{describe(node)} puts unmapped values beside it")
    starts = _starts(context, node, list(node.inputs), axis)
    if isinstance(starts, Reason):
        return starts
    extent = starts[index + 1] - starts[index]
    if map_.axes and map_.channels != extent:
        return Reason("BNF012", f"it has other channels than that part of {describe(node)}")
    spread = Map(Affine.of(*(np.broadcast_to(array, (extent,)) for array in map_.affine.arrays)), (axis,))
    return Step(onward=((0, spread.placed(axis, starts[-1], starts[index])),))


def split_backward(context: Context, node: gs.Node, output: int, map_: Map) -> Step | Reason:
    """Puts the map on the slice of the input that this part was cut from."""
    axis = _axis(context, node, "axis", 0)
    if isinstance(axis, Reason):
        return axis
    if map_.axes != (axis,):
        return Reason("BNF005", f"{describe(node)} has other parts, which it does not map")
    starts = _starts(context, node, list(node.outputs), axis)
    if isinstance(starts, Reason):
        return starts
    if starts[output + 1] - starts[output] != map_.channels:
        return Reason("BNF012", f"it has other channels than that part of {describe(node)}")
    return Step(onward=((0, map_.placed(axis, starts[-1], starts[output])),))


def split_forward(context: Context, node: gs.Node, index: int, map_: Map) -> Step | Reason:
    """Sends each part its slice of the map."""
    axis = _axis(context, node, "axis", 0)
    if isinstance(axis, Reason) or index != 0:
        return axis if isinstance(axis, Reason) else Reason("BNF005", f"it makes the sizes for {describe(node)}")
    if axis not in map_.axes:
        return Step(onward=tuple((place, map_) for place in range(len(node.outputs))))
    starts = _starts(context, node, list(node.outputs), axis)
    if isinstance(starts, Reason):
        return starts
    return Step(onward=tuple((place, map_.take(axis, *part)) for place, part in enumerate(pairwise(starts))))


def slice_backward(context: Context, node: gs.Node, output: int, map_: Map) -> Step | Reason:
    """Puts the map on the slice; nobody reads the rest."""
    bounds = _slice_bounds(context, node)
    if isinstance(bounds, Reason):
        return bounds
    cut = [axis for axis in map_.axes if axis in bounds]
    if not cut:
        return Step(onward=((0, map_),))
    if len(map_.axes) > 1:
        return Reason("BNF012", f"{describe(node)} cuts one of the axes that it maps")
    (start, stop, step), extent = bounds[cut[0]], _extent(context, node.inputs[0], cut[0])
    if extent is None or len(range(*slice(start, stop, step).indices(extent))) != map_.channels:
        return Reason("BNF018", f"which channels {describe(node)} takes is not known", "Give the graph's inputs a shape.")
    first = slice(start, stop, step).indices(extent)[0]
    return Step(onward=((0, map_.placed(cut[0], extent, first, step)),))


def slice_forward(context: Context, node: gs.Node, index: int, map_: Map) -> Step | Reason:
    """Takes the slice of the map."""
    bounds = _slice_bounds(context, node)
    if isinstance(bounds, Reason) or index != 0:
        return bounds if isinstance(bounds, Reason) else Reason("BNF005", f"it makes the bounds of {describe(node)}")
    for axis in map_.axes:
        if axis in bounds:
            map_ = map_.take(axis, *bounds[axis])
    return Step(onward=((0, map_),))


def _axis(context: Context, node: gs.Node, name: str, default: int) -> int | Reason:
    axis = int(context.view.attribute(node, name, default))
    rank = context.shapes.rank(node.inputs[0])
    if axis >= 0:
        return axis
    if rank is None:
        return Reason("BNF018", f"the rank of what {describe(node)} reads is not known", "Give the graph's inputs a shape.")
    return axis + rank


def _starts(context: Context, node: gs.Node, parts: list[gs.Tensor], axis: int) -> list[int] | Reason:
    extents = [_extent(context, part, axis) for part in parts]
    known = [extent for extent in extents if extent is not None]
    if len(known) < len(extents):
        return Reason(
            "BNF018", f"how many channels the parts of {describe(node)} have is not known", "Give the graph's inputs a shape."
        )
    return [0, *accumulate(known)]


def _extent(context: Context, tensor: gs.Tensor, axis: int) -> int | None:
    extents = context.shapes.extents(tensor)
    extent = extents[axis] if extents is not None and axis < len(extents) else None
    return extent if isinstance(extent, int) else None


def _slice_bounds(context: Context, node: gs.Node) -> dict[int, tuple[int, int, int]] | Reason:
    unknown = Reason("BNF006", f"the bounds of {describe(node)} are computed at run time")
    if context.view.opset(node) < 10:
        lists = [context.view.attribute(node, name) for name in ("starts", "ends", "axes")]
    else:
        given = [each for each in node.inputs[1:] if not each.is_empty()]
        weights = [context.constants.weight(each) for each in given]
        if len(given) < max(2, len(node.inputs) - 1) or any(weight is None for weight in weights):
            return unknown
        lists = [weight.values().tolist() for weight in weights if weight is not None]
    starts, ends = lists[0], lists[1]
    if starts is None or ends is None:
        return unknown
    axes = lists[2] if len(lists) > 2 and lists[2] is not None else range(len(starts))
    steps = lists[3] if len(lists) > 3 else [1] * len(starts)
    rank = context.shapes.rank(node.inputs[0])
    if any(step < 1 for step in steps):
        return Reason("BNF012", f"{describe(node)} steps backward")
    if rank is None and any(axis < 0 for axis in axes):
        return Reason("BNF018", f"the rank of what {describe(node)} cuts is not known", "Give the graph's inputs a shape.")
    rows = zip(axes, starts, ends, steps, strict=True)
    return {axis % rank if rank else axis: (start, end, step) for axis, start, end, step in rows}
