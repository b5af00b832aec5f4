"""The weight of a linear operator: a constant, or integers behind a DequantizeLinear.

A quantized weight is scaled without being quantized again: `(q − zero)·s·a` is `(q − zero)·(s·a)`, so the factor goes into the
scale of the DequantizeLinear, exactly but for one rounding of that scale. A scale must stay positive, as kernels expect:
for a negative factor `q` becomes `2·zero − q`, which is exact where it is still in range, and for zero `q` becomes `zero`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from bnfold.affine import Float64
from bnfold.context import Context
from bnfold.edits import Edit, SetAttribute, SetConstant
from bnfold.graph import describe, optional_input
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
        axis: the axis of the integers that a scale per channel lies on.
        perm: how a Transpose behind it permutes the axes; in order where there is none.
        opset: the opset in force; a scale per channel needs 13.
        elem_type: the type of what it makes.
    """

    node: gs.Node
    integers: Weight
    scale: Weight
    zero: Weight | None
    axis: int
    perm: tuple[int, ...]
    opset: int
    elem_type: int

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.integers.shape[axis] for axis in self.perm)

    def values(self) -> Float64:
        """`(q − zero)·scale` in float64."""
        zero = self._spread(self._zeros().astype(np.float64))
        values = (self.integers.values().astype(np.float64) - zero) * self._spread(self.scale.values())
        return np.transpose(values, self.perm)

    def scaled(self, factor: Float64) -> list[Edit] | Reason:
        """Edits that multiply the scale by `factor`, which must vary along one axis at most, the scale's own if it has one."""
        own = np.transpose(factor, np.argsort(self.perm))
        axes = [axis for axis, extent in enumerate(own.shape) if extent > 1]
        per_tensor = self.scale.values().size == 1
        if len(axes) > 1 or (axes and not per_tensor and axes != [self.axis]):
            return Reason("BNF012", f"the scales of {describe(self.node)} lie on axis {self.axis}, and the map on another")
        if axes and per_tensor and self.opset < 13:
            return Reason(
                "BNF019", f"{describe(self.node)} can have one scale per channel only from opset 13 on", "Upgrade the opset."
            )
        integers = self._with_signs(own)
        if isinstance(integers, Reason):
            return integers
        scale = self.scale.values().ravel() * np.where(own == 0, 1.0, np.abs(own)).ravel()
        scale = scale if axes else scale.reshape(self.scale.shape)
        edits: list[Edit] = [*integers, SetConstant(self.node, 1, Computed(scale, self.scale.elem_type))]
        if axes and per_tensor:
            edits.append(SetAttribute(self.node, "axis", axes[0]))
            if self.zero is not None:
                zero = np.repeat(self.zero.values().ravel(), own.size)
                edits.append(SetConstant(self.node, 2, Computed(zero, self.zero.elem_type)))
        return edits

    def _with_signs(self, factor: Float64) -> list[Edit] | Reason:
        if (factor > 0).all():
            return []
        refused = Reason("BNF011", f"its negative scales would take integers of {describe(self.node)} out of their range")
        if self.integers.elem_type not in (onnx.TensorProto.INT8, onnx.TensorProto.UINT8):
            return refused
        stored = self.integers.values()
        zero = self._spread(self._zeros().astype(np.int64))
        signed = np.sign(factor).astype(np.int64) * (stored.astype(np.int64) - zero) + zero
        limits = np.iinfo(stored.dtype)
        if signed.min() < limits.min or signed.max() > limits.max:
            return refused
        return [SetConstant(self.node, 0, Computed(signed.astype(stored.dtype), self.integers.elem_type))]

    def _zeros(self) -> NDArray[Any]:
        return self.zero.values() if self.zero is not None else np.zeros((), np.int64)

    def _spread(self, values: NDArray[Any]) -> NDArray[Any]:
        if values.size == 1:
            return values.reshape(())
        return values.reshape([-1 if axis == self.axis else 1 for axis in range(len(self.perm))])


OperatorWeight: TypeAlias = PlainWeight | DequantizedWeight


def weight_of(context: Context, node: gs.Node, index: int) -> OperatorWeight | Reason:
    """The weight at input `index`, or why it cannot be changed (BNF004, BNF006, BNF019)."""
    view, tensor = context.view, node.inputs[index]
    producer = view.producer(tensor)
    if (
        producer is None
        or context.constants.is_constant(tensor)
        or view.op_type(producer) not in ("DequantizeLinear", "Transpose")
    ):
        weight = context.float_weight(tensor)
        return weight if isinstance(weight, Reason) else PlainWeight(node, index, weight)
    shared = context.other_readers(tensor, node)
    if shared is not None or view.op_type(producer) == "DequantizeLinear":
        return shared or dequantized(context, producer)
    source = producer.inputs[0]
    behind = view.producer(source)
    if behind is None or view.op_type(behind) != "DequantizeLinear":
        return Reason("BNF006", f"`{tensor.name}` is not a constant: {describe(producer)} computes it")
    return context.other_readers(source, producer) or dequantized(context, behind, producer)


def dequantized(context: Context, node: gs.Node, transpose: gs.Node | None = None) -> DequantizedWeight | Reason:
    """What a DequantizeLinear of constants makes, behind a Transpose where one is given, or why it is not one."""
    view, constants = context.view, context.constants
    for each in (node, transpose):
        reference = view.attribute_reference(each) if each is not None else ""
        if reference:
            return Reason("BNF006", f"attribute `{reference}` of {describe(node)} is set by the function's caller")
    if len(node.inputs) < 2:
        return Reason("BNF006", f"{describe(node)} has no scale")
    scale, zero_point = context.float_weight(node.inputs[1]), optional_input(node, 2)
    integers = constants.weight(node.inputs[0])
    zero = constants.weight(zero_point) if zero_point is not None else None
    if isinstance(scale, Reason):
        return scale
    if integers is None or (zero_point is not None and zero is None):
        return Reason("BNF013", f"{describe(node)} dequantizes a value that is computed at run time")
    if len(scale.shape) > 1 or view.attribute(node, "block_size", 0):
        return Reason("BNF019", f"{describe(node)} has one scale per block")
    rank = len(integers.shape)
    perm = tuple(range(rank))
    if transpose is not None:
        perm = tuple(view.attribute(transpose, "perm") or reversed(perm))
    if sorted(perm) != list(range(rank)):
        return Reason("BNF012", f"the permutation of a Transpose behind {describe(node)} does not fit its {rank} axes")
    axis = int(view.attribute(node, "axis", 1)) % max(1, rank)
    elem_type = int(view.attribute(node, "output_dtype", 0)) or scale.elem_type
    return DequantizedWeight(node, integers, scale, zero, axis, perm, view.opset(node), elem_type)
