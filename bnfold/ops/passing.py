"""Operators that hand their input on unchanged: Identity, and Dropout in inference mode.

Before      y = a·(Identity(x) − c) + t
After       y = Identity(a·(x − c) + t), with the map taken further up
Conditions  Dropout is in inference mode: `is_test` before opset 7, always from 7 to 11, `training_mode` not true since 12.
Source      ONNX operators Identity and Dropout, versions 1, 6, 7, 10, 12, 13, 22.
"""

from __future__ import annotations

import onnx_graphsurgeon as gs

from bnfold.context import Context
from bnfold.edits import Map, Step
from bnfold.graph import View, describe
from bnfold.verdict import Reason


def backward(context: Context, node: gs.Node, map_: Map) -> Step | Reason:
    """Sends the map on unchanged."""
    if context.view.op_type(node) == "Dropout" and is_training_dropout(context, node):
        return Reason("BNF002", f"{describe(node)} is in training mode", "Call eval() on the module and export it again.")
    return Step(onward=((0, map_),))


def is_training_dropout(context: Context, node: gs.Node) -> bool:
    """Whether a Dropout drops anything, or could be told to at run time."""
    view: View = context.view
    if view.opset(node) < 7:
        return not view.attribute(node, "is_test", 0)
    if view.opset(node) < 12 or len(node.inputs) < 3 or node.inputs[2].is_empty():
        return False
    mode = context.constants.weight(node.inputs[2])
    return mode is None or bool(mode.values().any())
