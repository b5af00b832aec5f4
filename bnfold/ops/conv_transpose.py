"""ConvTranspose.

Before      y = a·(ConvTranspose(x, W, b) − c) + t
After       y = ConvTranspose(x, W·a, a·(b − c) + t)
Algebra     linear in W and b. W is laid out (C × M/group × k1 × … × kn): input channel i of group g feeds the output channels
            g·M/group … (g + 1)·M/group − 1 only, so row i of W meets that slice of the scale.
Conditions  W constant; the map lies on axis 1 and has W.shape[1]·group channels.
Source      ONNX operator ConvTranspose.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from bnfold.context import Context
from bnfold.edits import Map, SetConstant, Step
from bnfold.graph import describe
from bnfold.ops.linear import map_bias, wrong_axis
from bnfold.verdict import Reason
from bnfold.weights import Scaled


def backward(context: Context, node: gs.Node, map_: Map) -> Step | Reason:
    """Takes a map of the output into W and B."""
    weight = context.float_weight(node.inputs[1])
    if isinstance(weight, Reason):
        return weight
    groups = int(context.view.attribute(node, "group", 1))
    inputs, outputs_per_group, *kernel = weight.shape
    if groups < 1 or inputs % groups:
        return Reason("BNF012", f"{describe(node)} has {inputs} input channels, which {groups} groups do not divide")
    reason = wrong_axis(node, map_, 1, outputs_per_group * groups)
    if reason is not None:
        return reason
    bias = map_bias(context, node, 2, map_.affine, weight)
    if isinstance(bias, Reason):
        return bias
    factor = map_.affine.scale.reshape(groups, outputs_per_group)
    if groups > 1:
        factor = np.repeat(factor, inputs // groups, axis=0)
    factor = factor.reshape(*factor.shape, *(1 for _ in kernel))
    return Step((SetConstant(node, 1, Scaled.of(weight, factor)), *bias))
