"""Operators that hand their input on: Identity, Dropout in inference mode, Cast between float types.

Backward    y = a·(Identity(x) − c) + t     becomes   Identity(a·(x − c) + t), with the map taken further up
Forward     y = Identity(a·(x − c) + t)     becomes   the same map behind it
Conditions  Dropout is in inference mode: `is_test` before opset 7, always from 7 to 11, `training_mode` not true since 12. A Cast
            moves the map to a type of at least the same range, so that no value overflows on the way.
Source      ONNX operators Identity, Dropout (versions 1, 6, 7, 10, 12, 13, 22) and Cast.
"""

from __future__ import annotations

import ml_dtypes
import onnx_graphsurgeon as gs

from bnfold.context import Context
from bnfold.edits import Map, Step
from bnfold.graph import describe, optional_input
from bnfold.verdict import Reason
from bnfold.weights import FLOAT_TYPES


def backward(context: Context, node: gs.Node, output: int, map_: Map) -> Step | Reason:
    """Sends the map to the input."""
    reason = _obstacle(context, node, moves_to_input=True)
    return reason or Step(onward=((0, map_),))


def forward(context: Context, node: gs.Node, index: int, map_: Map) -> Step | Reason:
    """Sends the map to the output."""
    reason = _obstacle(context, node, moves_to_input=False)
    return reason or Step(onward=((0, map_),))


def _obstacle(context: Context, node: gs.Node, moves_to_input: bool) -> Reason | None:
    op_type = context.view.op_type(node)
    if op_type == "Dropout" and is_training_dropout(context, node):
        return Reason("BNF002", f"{describe(node)} is in training mode", "Call eval() on the module and export it again.")
    return _cast_obstacle(context, node, moves_to_input) if op_type == "Cast" else None


def _cast_obstacle(context: Context, node: gs.Node, moves_to_input: bool) -> Reason | None:
    before, after = context.shapes.elem_type(node.inputs[0]), context.view.attribute(node, "to", 0)
    if before not in FLOAT_TYPES or after not in FLOAT_TYPES:
        return Reason("BNF019", f"{describe(node)} does not cast from one float type to another")
    old, new = (after, before) if moves_to_input else (before, after)
    if _largest(new) < _largest(old):
        return Reason("BNF019", f"moving it past {describe(node)} could overflow {FLOAT_TYPES[new].name}")
    return None


def _largest(elem_type: int) -> float:
    return float(ml_dtypes.finfo(FLOAT_TYPES[elem_type]).max)  # type: ignore[no-untyped-call]


def is_training_dropout(context: Context, node: gs.Node) -> bool:
    """Whether a Dropout drops anything, or could be told to at run time."""
    view = context.view
    if view.opset(node) < 7:
        return not view.attribute(node, "is_test", 0)
    training_mode = optional_input(node, 2)
    if view.opset(node) < 12 or training_mode is None:
        return False
    mode = context.constants.weight(training_mode)
    return mode is None or bool(mode.values().any())
