"""Conv.

Backward    y = a·(Conv(x, W, b) − c) + t     becomes   Conv(x, W·a, a·(b − c) + t)
Forward     y = Conv(a·x + o, W, b)           becomes   Conv(x, W·a, b + Σ W·o)
Algebra     convolution is linear in W and b for every padding, stride, dilation and group. Output channel m reads W[m] and b[m];
            input channel k of group g lies at W[m, k] for the output channels m of that group.
Conditions  W constant; the map lies on axis 1 and has as many channels as W makes (or reads). Forward, an offset must not meet
            zero padding: at the border a part of Σ W·o would be missing (BNF010).
Source      ONNX operator Conv, W (M × C/group × k1 × … × kn), B (M).
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from bnfold.affine import Affine, Float64
from bnfold.context import Context
from bnfold.edits import Map, Step
from bnfold.graph import describe
from bnfold.ops.linear import along, map_bias, on_channels, step_of
from bnfold.ops.weight import OperatorWeight, weight_of
from bnfold.verdict import Reason


def backward(context: Context, node: gs.Node, output: int, map_: Map) -> Step | Reason:
    """Takes a map of the output into W and B."""
    weight = kernel_of(context, node)
    if isinstance(weight, Reason):
        return weight
    affine = on_channels(node, map_, 1, weight.shape[0])
    if isinstance(affine, Reason):
        return affine
    scaled = weight.scaled(along(affine.scale, 0, len(weight.shape)))
    return step_of(scaled, map_bias(context, node, 2, affine, weight.elem_type))


def forward(context: Context, node: gs.Node, index: int, map_: Map) -> Step | Reason:
    """Takes a map of the input into W and B."""
    if index != 0:
        return Reason("BNF006", f"it makes a weight of {describe(node)}")
    weight = kernel_of(context, node)
    if isinstance(weight, Reason):
        return weight
    groups = int(context.view.attribute(node, "group", 1))
    affine = on_channels(node, map_, 1, weight.shape[1] * groups)
    if isinstance(affine, Reason):
        return affine
    if affine.has_offset and is_padded(context, node, weight.shape[2:]):
        return Reason("BNF010", f"its shift would have to reach into the zero padding of {describe(node)}")
    scaled = weight.scaled(_by_input(affine.scale, weight.shape, groups))
    if not affine.has_offset:
        return step_of(scaled)
    added = (weight.values() * _by_input(affine.offset, weight.shape, groups)).reshape(weight.shape[0], -1).sum(axis=1)
    return step_of(scaled, map_bias(context, node, 2, Affine.of(np.ones(added.shape), 0.0, added), weight.elem_type))


def kernel_of(context: Context, node: gs.Node) -> OperatorWeight | Reason:
    """The weight of a Conv or ConvTranspose, which has at least one spatial axis."""
    weight = weight_of(context, node, 1)
    if not isinstance(weight, Reason) and len(weight.shape) < 3:
        return Reason("BNF012", f"the weight `{node.inputs[1].name}` of {describe(node)} has no spatial axes")
    return weight


def _by_input(values: Float64, shape: tuple[int, ...], groups: int) -> Float64:
    """One value per input channel, laid out to broadcast against W."""
    per_group = values.reshape(groups, shape[1])
    rows = per_group if groups == 1 else np.repeat(per_group, shape[0] // groups, axis=0)
    return rows.reshape(*rows.shape, *(1 for _ in shape[2:]))


def is_padded(context: Context, node: gs.Node, kernel: tuple[int, ...]) -> bool:
    """Whether a Conv may read zeros around its input."""
    auto_pad = context.view.attribute(node, "auto_pad", b"NOTSET")
    if auto_pad in (b"SAME_UPPER", b"SAME_LOWER"):
        return any(extent != 1 for extent in kernel)  # a kernel of one needs none, whatever the stride
    return auto_pad != b"VALID" and any(context.view.attribute(node, "pads", ()))
