"""ConvTranspose.

Backward    y = a·(ConvTranspose(x, W, b) − c) + t    becomes   ConvTranspose(x, W·a, a·(b − c) + t)
Forward     y = ConvTranspose(a·x, W, b)              becomes   ConvTranspose(x, W·a, b)
Algebra     linear in W and b. W is laid out (C × M/group × k1 × … × kn): input channel i of group g feeds the output channels
            g·M/group … (g + 1)·M/group − 1 only, so row i of W meets that slice of an output's scale.
Conditions  W constant; the map lies on axis 1 and has M (or C) channels. Forward there must be no offset, since how many of the
            kernel's taps reach an output pixel depends on where it is (BNF010).
Source      ONNX operator ConvTranspose.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from bnfold.context import Context
from bnfold.edits import Map, Step
from bnfold.graph import describe
from bnfold.ops.conv import kernel_of
from bnfold.ops.linear import along, map_bias, on_channels, step_of
from bnfold.verdict import Reason


def backward(context: Context, node: gs.Node, output: int, map_: Map) -> Step | Reason:
    """Takes a map of the output into W and B."""
    weight = kernel_of(context, node)
    if isinstance(weight, Reason):
        return weight
    groups = int(context.view.attribute(node, "group", 1))
    inputs, outputs_per_group, *kernel = weight.shape
    if groups < 1 or inputs % groups:
        return Reason("BNF012", f"{describe(node)} has {inputs} input channels, which {groups} groups do not divide")
    affine = on_channels(node, map_, 1, outputs_per_group * groups)
    if isinstance(affine, Reason):
        return affine
    factor = affine.scale.reshape(groups, outputs_per_group)
    rows = factor if groups == 1 else np.repeat(factor, inputs // groups, axis=0)
    scaled = weight.scaled(rows.reshape(*rows.shape, *(1 for _ in kernel)))
    return step_of(scaled, map_bias(context, node, 2, affine, weight.elem_type))


def forward(context: Context, node: gs.Node, index: int, map_: Map) -> Step | Reason:
    """Takes the scale of a map of the input into W."""
    if index != 0:
        return Reason("BNF006", f"it makes a weight of {describe(node)}")
    weight = kernel_of(context, node)
    if isinstance(weight, Reason):
        return weight
    affine = on_channels(node, map_, 1, weight.shape[0])
    if isinstance(affine, Reason):
        return affine
    if affine.has_offset:
        return Reason("BNF010", f"its shift would reach some pixels of {describe(node)} more often than others")
    return step_of(weight.scaled(along(affine.scale, 0, len(weight.shape))))
