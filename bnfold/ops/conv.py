"""Conv.

Before      y = a·(Conv(x, W, b) − c) + t
After       y = Conv(x, W·a, a·(b − c) + t)
Algebra     convolution is linear in W and b for every padding, stride, dilation and group: out channel o reads W[o] and b[o].
Conditions  W constant; the map lies on axis 1 and has W.shape[0] channels.
Source      ONNX operator Conv, W (M × C/group × k1 × … × kn), B (M).
"""

from __future__ import annotations

import onnx_graphsurgeon as gs

from bnfold.context import Context
from bnfold.edits import Map, SetConstant, Step
from bnfold.ops.linear import along, map_bias, wrong_axis
from bnfold.verdict import Reason
from bnfold.weights import Scaled


def backward(context: Context, node: gs.Node, map_: Map) -> Step | Reason:
    """Takes a map of the output into W and B."""
    weight = context.float_weight(node.inputs[1])
    if isinstance(weight, Reason):
        return weight
    reason = wrong_axis(node, map_, 1, weight.shape[0])
    if reason is not None:
        return reason
    bias = map_bias(context, node, 2, map_.affine, weight)
    if isinstance(bias, Reason):
        return bias
    factor = along(map_.affine.scale, 0, len(weight.shape))
    return Step((SetConstant(node, 1, Scaled.of(weight, factor)), *bias))
