"""The weight of a linear operator: a constant, or integers behind a DequantizeLinear.

A quantized weight is scaled without touching its integers: `(q − zero)·s·a` is `(q − zero)·(s·a)`, so the factor goes into the
scale of the DequantizeLinear, exactly but for one rounding of that scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import onnx_graphsurgeon as gs

from bnfold.affine import Float64
from bnfold.context import Context
from bnfold.edits import Edit, SetAttribute, SetConstant
from bnfold.graph import describe
from bnfold.verdict import Reason
from bnfold.weights import Computed, Scaled, Weight


@dataclass(frozen=True, eq=False)
class PlainWeight:
    """A constant weight at input `index` of `node`."""

    node: gs.Node
    index: int
    weight: Weight

    @property
    def shape(self) -> tuple[int, ...]:
        return self.weight.shape

    @property
    def elem_type(self) -> int:
        return self.weight.elem_type

    def values(self) -> Float64:
        """The weight in float64."""
        return self.weight.values()

    def scaled(self, factor: Float64) -> list[Edit] | Reason:
        """Edits that multiply the weight by `factor`, which broadcasts against it."""
        return [SetConstant(self.node, self.index, Scaled.of(self.weight, factor))]


@dataclass(frozen=True, eq=False)
class DequantizedWeight:
    """A weight made by DequantizeLinear from constants, per tensor or per channel of `axis`.

    Attributes:
        node: the DequantizeLinear.
        integers: its `x`.
        scale: its `x_scale`, of shape () or (1,) for one scale, (C,) for one per channel.
        zero: its `x_zero_point`; None where it is absent, which means zero.
        axis: the axis that a scale per channel lies on.
        opset: the opset in force; a scale per channel needs 13.
    """

    node: gs.Node
    integers: Weight
    scale: Weight
    zero: Weight | None
    axis: int
    opset: int

    @property
    def shape(self) -> tuple[int, ...]:
        return self.integers.shape

    @property
    def elem_type(self) -> int:
        return self.scale.elem_type

    def values(self) -> Float64:
        """`(q − zero)·scale` in float64."""
        zero = 0.0 if self.zero is None else self._spread(self.zero.values().astype(np.float64))
        return np.asarray((self.integers.values().astype(np.float64) - zero) * self._spread(self.scale.values()))

    def scaled(self, factor: Float64) -> list[Edit] | Reason:
        """Edits that multiply the scale by `factor`, which must vary along one axis at most, the scale's own if it has one."""
        axes = [axis for axis, extent in enumerate(factor.shape) if extent > 1]
        one_scale = self.scale.values().size == 1
        if len(axes) > 1 or (axes and not one_scale and axes != [self.axis]):
            return Reason("BNF012", f"the scales of {describe(self.node)} lie on axis {self.axis}, and the map on another")
        if not (factor > 0).all():
            return Reason("BNF011", f"it would turn a scale of {describe(self.node)} to zero or negative")
        if not axes:
            return [SetConstant(self.node, 1, Computed(self.scale.values() * factor.ravel()[0], self.elem_type))]
        if self.opset < 13 and one_scale:
            return Reason(
                "BNF019", f"{describe(self.node)} can have one scale per channel only from opset 13 on", "Upgrade the opset."
            )
        scale = np.broadcast_to(self.scale.values().ravel(), (factor.size,)) * factor.ravel()
        edits: list[Edit] = [SetConstant(self.node, 1, Computed(scale, self.elem_type)), SetAttribute(self.node, "axis", axes[0])]
        if self.zero is not None and one_scale:
            zero = np.broadcast_to(self.zero.values().ravel(), scale.shape).copy()
            edits.append(SetConstant(self.node, 2, Computed(zero, self.zero.elem_type)))
        return edits

    def _spread(self, values: Float64) -> Float64:
        if values.size == 1:
            return values.reshape(())
        return values.reshape([-1 if axis == self.axis else 1 for axis in range(len(self.shape))])


OperatorWeight: TypeAlias = PlainWeight | DequantizedWeight


def weight_of(context: Context, node: gs.Node, index: int) -> OperatorWeight | Reason:
    """The weight at input `index`, or why it cannot be changed (BNF004, BNF006, BNF019)."""
    tensor = node.inputs[index]
    producer = context.view.producer(tensor)
    if producer is None or context.view.op_type(producer) != "DequantizeLinear":
        weight = context.float_weight(tensor)
        return weight if isinstance(weight, Reason) else PlainWeight(node, index, weight)
    shared = context.other_readers(tensor, node)
    return shared if shared is not None else dequantized(context, producer)


def dequantized(context: Context, node: gs.Node) -> DequantizedWeight | Reason:
    """What a DequantizeLinear of constants makes, or why it is not one."""
    view, constants = context.view, context.constants
    scale = context.float_weight(node.inputs[1])
    integers = constants.weight(node.inputs[0])
    has_zero = len(node.inputs) > 2 and not node.inputs[2].is_empty()
    zero = constants.weight(node.inputs[2]) if has_zero else None
    if isinstance(scale, Reason):
        return scale
    if integers is None or (has_zero and zero is None):
        return Reason("BNF013", f"{describe(node)} dequantizes a value that is computed at run time")
    if len(scale.shape) > 1 or view.attribute(node, "block_size", 0):
        return Reason("BNF019", f"{describe(node)} has one scale per block")
    axis = int(view.attribute(node, "axis", 1))
    return DequantizedWeight(node, integers, scale, zero, axis % max(1, len(integers.shape)), view.opset(node))
