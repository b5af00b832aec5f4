"""Pad.

Backward    y = a·(Pad(x, v) − c) + t      becomes   Pad(a·(x − c) + t, a·(v − c) + t)
Forward     y = Pad(a·(x − c) + t, mode)   becomes   the map behind it
Algebra     reflected, edge and wrapped borders repeat values of x, mapped or not. A constant border is mapped itself, and Pad has
            one value for all channels.
Conditions  no padding along the map's axis; the pads constant. A constant border must map to the same value in every channel;
            forward it must be zero and the map without offset, since solving for v would round (BNF010).
Source      ONNX operator Pad, versions 1, 2, 11, 13, 18, 19.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from bnfold.context import Context
from bnfold.edits import Edit, Map, SetAttribute, SetConstant, Step
from bnfold.graph import describe, optional_input
from bnfold.verdict import Reason
from bnfold.weights import FLOAT_TYPES, Computed, round_to


def backward(context: Context, node: gs.Node, output: int, map_: Map) -> Step | Reason:
    """Sends the map to the input and maps the border."""
    obstacle = _obstacle(context, node, map_)
    if obstacle is not None:
        return obstacle
    if _mode(context, node) != b"constant":
        return Step(onward=((0, map_),))
    edits = _mapped_border(context, node, map_)
    return edits if isinstance(edits, Reason) else Step(tuple(edits), ((0, map_),))


def forward(context: Context, node: gs.Node, index: int, map_: Map) -> Step | Reason:
    """Sends the map to the output."""
    if index != 0:
        return Reason("BNF006", f"it makes the border of {describe(node)}")
    obstacle = _obstacle(context, node, map_)
    if obstacle is not None:
        return obstacle
    border = _border(context, node)
    if _mode(context, node) == b"constant" and (border is None or border != 0.0 or map_.affine.has_offset):
        return Reason("BNF010", f"its shift would have to reach into the border that {describe(node)} adds")
    return Step(onward=((0, map_),))


def _obstacle(context: Context, node: gs.Node, map_: Map) -> Reason | None:
    pads = _pads(context, node)
    if pads is None:
        return Reason("BNF006", f"which axes {describe(node)} pads is not known")
    if any(axis in pads for axis in map_.axes):
        return Reason("BNF012", f"{describe(node)} pads the axis that it maps")
    return None


def _pads(context: Context, node: gs.Node) -> set[int] | None:
    """The axes that are padded."""
    view, shapes = context.view, context.shapes
    if view.opset(node) < 11:
        pads = view.attribute(node, "pads") or view.attribute(node, "paddings")
    else:
        pads = _constant(context, optional_input(node, 1))
    if pads is None:
        return None
    axes, rank = list(range(len(pads) // 2)), shapes.rank(node.inputs[0])
    if optional_input(node, 3) is not None:  # since opset 18
        given = _constant(context, optional_input(node, 3))
        if given is None or rank is None:
            return None
        axes = [axis % rank for axis in given]
    return {axis for place, axis in enumerate(axes) if pads[place] or pads[place + len(axes)]}


def _constant(context: Context, tensor: gs.Tensor | None) -> list[int] | None:
    weight = context.constants.weight(tensor) if tensor is not None else None
    return weight.values().tolist() if weight is not None else None


def _mapped_border(context: Context, node: gs.Node, map_: Map) -> list[Edit] | Reason:
    border = _border(context, node)
    if border is None:
        return Reason("BNF006", f"the border value of {describe(node)} is computed at run time")
    if border == 0.0 and not map_.affine.has_offset:
        return []
    mapped = map_.affine(border).ravel()
    elem_type = context.shapes.elem_type(node.inputs[0])
    if elem_type not in FLOAT_TYPES:
        return Reason("BNF018", f"the type of what {describe(node)} pads is not known")
    stored = np.unique(round_to(mapped, elem_type).astype(np.float64))
    if stored.size != 1:
        return Reason("BNF010", f"its shift would give the border of {describe(node)} another value in each channel")
    if context.view.opset(node) < 11:
        if float(np.float32(stored[0])) != stored[0]:
            return Reason("BNF019", f"the border of {describe(node)} is a float32 attribute, which cannot hold {stored[0]}")
        return [SetAttribute(node, "value", float(stored[0]))]
    return [SetConstant(node, 2, Computed(np.asarray(mapped[0]), elem_type))]


def _border(context: Context, node: gs.Node) -> float | None:
    if context.view.opset(node) < 11:
        return float(context.view.attribute(node, "value", 0.0))
    value = optional_input(node, 2)
    weight = context.constants.weight(value) if value is not None else None
    if value is None or weight is None:
        return 0.0 if value is None else None
    return float(weight.values().ravel()[0])


def _mode(context: Context, node: gs.Node) -> bytes:
    return bytes(context.view.attribute(node, "mode", b"constant"))
