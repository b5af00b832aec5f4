"""Activations that let a positive scale through: Relu, LeakyRelu, PRelu.

Backward    y = a·Relu(x)     becomes   Relu(a·x) for a ≥ 0, with the scale taken further up
Forward     y = Relu(a·x)     becomes   the scale behind it
Algebra     these functions are linear on each side of zero, and a positive scale does not change the side.
Conditions  no offset (BNF005) and no negative scale (BNF011).
Source      ONNX operators Relu, LeakyRelu, PRelu.
"""

from __future__ import annotations

import onnx_graphsurgeon as gs

from bnfold.context import Context
from bnfold.edits import Map, Step
from bnfold.graph import describe
from bnfold.verdict import Reason


def backward(context: Context, node: gs.Node, output: int, map_: Map) -> Step | Reason:
    """Sends a scale to the input."""
    return _carry(node, 0, map_)


def forward(context: Context, node: gs.Node, index: int, map_: Map) -> Step | Reason:
    """Sends a scale to the output."""
    return _carry(node, index, map_)


def _carry(node: gs.Node, index: int, map_: Map) -> Step | Reason:
    if index != 0:
        return Reason("BNF006", f"it makes the slope of {describe(node)}")
    if map_.affine.has_offset:
        return Reason("BNF005", f"{describe(node)} stands between it and any linear operator")
    if not (map_.affine.scale >= 0).all():
        return Reason("BNF011", f"{describe(node)} stands between, and some of its scales are negative")
    return Step(onward=((0, map_),))
