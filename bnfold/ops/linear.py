"""What Conv, ConvTranspose and Gemm share: one channel axis to check and a bias to map."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from bnfold.affine import Affine, Float64
from bnfold.context import Context
from bnfold.edits import Edit, Map, MapInput, SetConstant
from bnfold.graph import describe
from bnfold.verdict import Reason
from bnfold.weights import Computed, Weight


def wrong_axis(node: gs.Node, map_: Map, axis: int, channels: int) -> Reason | None:
    """Why `map_` does not lie on the operator's channel axis (BNF012, BNF014); None where it does."""
    if len(map_.axes) > 1:
        return Reason("BNF014", f"it has statistics for every position, and {describe(node)} has one weight per channel")
    if map_.axes != (axis,):
        return Reason("BNF012", f"it maps axis {map_.axes[0]}, and the channels of {describe(node)} lie on axis {axis}")
    if map_.channels != channels:
        return Reason("BNF012", f"it has {map_.channels} channels, and {describe(node)} makes {channels}")
    return None


def bias_of(node: gs.Node, index: int) -> gs.Tensor | None:
    """The tensor at input `index`; None where it is absent or an empty name."""
    if len(node.inputs) <= index or node.inputs[index].is_empty():
        return None
    return node.inputs[index]


def map_bias(context: Context, node: gs.Node, index: int, affine: Affine, like: Weight) -> list[Edit] | Reason:
    """Edits that replace a per-channel bias `b` of shape (C,) with `affine(b)`; an absent one counts as zero."""
    tensor = bias_of(node, index)
    if tensor is None:
        return [SetConstant(node, index, Computed(affine(np.zeros(affine.shape)), like.elem_type))]
    bias = context.float_weight(tensor)
    if isinstance(bias, Reason):
        return map_runtime_bias(context, node, index, affine, like)
    return [SetConstant(node, index, Computed(affine(bias.values()), like.elem_type))]


def map_runtime_bias(
    context: Context, node: gs.Node, index: int, affine: Affine, like: Weight, gain: float = 1.0
) -> list[Edit] | Reason:
    """The same for a bias computed at run time, `gain·scale·b + offset`, unless a caller may override it (BNF006)."""
    reason = context.float_weight(node.inputs[index])
    if isinstance(reason, Reason) and (reason.code != "BNF006" or id(node.inputs[index]) in context.view.overridable):
        return reason
    if context.view.opset(node) < 7:
        return Reason("BNF006", f"the bias `{node.inputs[index].name}` is computed at run time, before opset 7")
    scale, offset = Computed(affine.scale * gain, like.elem_type), Computed(affine.offset, like.elem_type)
    return [MapInput(node, index, scale, offset)]


def along(values: Float64, axis: int, rank: int) -> Float64:
    """Shapes a vector so that it broadcasts along `axis` of a tensor of `rank`."""
    return values.reshape([-1 if place == axis else 1 for place in range(rank)])
