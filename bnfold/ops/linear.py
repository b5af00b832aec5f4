"""What the linear operators share: finding the map's channels, and mapping a bias."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from bnfold.affine import Affine, Float64
from bnfold.context import Context
from bnfold.edits import Edit, Map, MapInput, SetConstant, Step
from bnfold.graph import describe, optional_input
from bnfold.ops.weight import dequantized
from bnfold.verdict import Reason
from bnfold.weights import Computed


def on_channels(node: gs.Node, map_: Map, axis: int, channels: int) -> Affine | Reason:
    """The map as one value per channel of the operator, shape (channels,), or why it lies elsewhere (BNF012, BNF014)."""
    if not map_.axes:
        return Affine.of(*(np.broadcast_to(array, (channels,)) for array in map_.affine.arrays))
    if len(map_.axes) > 1:
        return Reason("BNF014", f"it has a value for every position, and {describe(node)} has one weight per channel")
    if map_.axes != (axis,):
        return Reason("BNF012", f"it maps axis {map_.axes[0]}, and the channels of {describe(node)} lie on axis {axis}")
    if map_.channels != channels:
        return Reason("BNF012", f"it has {map_.channels} channels, and {describe(node)} has {channels}")
    return map_.affine


def bias_values(context: Context, tensor: gs.Tensor) -> Float64 | Reason:
    """A constant bias in float64, dequantized if need be."""
    producer = context.view.producer(tensor)
    if producer is not None and context.view.op_type(producer) == "DequantizeLinear":
        bias = dequantized(context, producer)
        return bias if isinstance(bias, Reason) else bias.values()
    weight = context.float_weight(tensor)
    return weight if isinstance(weight, Reason) else weight.values()


def map_bias(context: Context, node: gs.Node, index: int, affine: Affine, elem_type: int) -> list[Edit] | Reason:
    """Edits that replace a per-channel bias `b` of shape (C,) with `affine(b)`; an absent one counts as zero."""
    tensor = optional_input(node, index)
    if tensor is None:
        made = affine(np.zeros(affine.shape))
        return [SetConstant(node, index, Computed(made, elem_type))] if made.any() else []
    values = bias_values(context, tensor)
    if isinstance(values, Reason):
        return map_runtime_bias(context, node, index, affine, elem_type)
    if values.shape != affine.shape:
        return Reason("BNF012", f"the bias of {describe(node)} has shape {list(values.shape)}, not {list(affine.shape)}")
    return [SetConstant(node, index, Computed(affine(values), elem_type))]


def map_runtime_bias(
    context: Context, node: gs.Node, index: int, affine: Affine, elem_type: int, gain: float = 1.0
) -> list[Edit] | Reason:
    """The same for a bias computed at run time, `gain·scale·b + offset`, unless a caller may override it (BNF006)."""
    tensor = node.inputs[index]
    reason = context.float_weight(tensor)
    if isinstance(reason, Reason) and (reason.code != "BNF006" or id(tensor) in context.view.overridable):
        return reason
    if context.view.opset(node) < 7:
        return Reason("BNF006", f"the bias `{tensor.name}` is computed at run time, before opset 7")
    return [MapInput(node, index, Computed(affine.scale * gain, elem_type), Computed(affine.offset, elem_type))]


def step_of(*parts: list[Edit] | Reason) -> Step | Reason:
    """One step of all the edits, or the first reason among them."""
    edits: list[Edit] = []
    for part in parts:
        if isinstance(part, Reason):
            return part
        edits += part
    return Step(tuple(edits))


def along(values: Float64, axis: int, rank: int) -> Float64:
    """Shapes a vector so that it broadcasts along `axis` of a tensor of `rank`."""
    return values.reshape([-1 if place == axis else 1 for place in range(rank)])
