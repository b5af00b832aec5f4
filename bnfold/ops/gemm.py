"""Gemm.

Before      y = a·(alpha·A'·B' + beta·C − c) + t
After       y = alpha·A'·(B'·a) + (a·(beta·C − c) + t), with beta = 1
Algebra     column n of the product reads column n of B' only. beta goes into the new C, since dividing by it would round twice
            and fails for beta = 0.
Conditions  B constant; the map lies on axis 1 of the (M, N) result and has N channels. C absent or constant in any shape that
            broadcasts to (M, N); a C computed at run time is mapped there when it has no more than N elements.
Source      ONNX operator Gemm.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_graphsurgeon as gs

from bnfold.affine import Affine
from bnfold.context import Context
from bnfold.edits import Edit, Map, SetAttribute, SetConstant, Step
from bnfold.graph import describe
from bnfold.ops.linear import along, bias_of, map_runtime_bias, wrong_axis
from bnfold.verdict import Reason
from bnfold.weights import Computed, Scaled, Weight


def backward(context: Context, node: gs.Node, map_: Map) -> Step | Reason:
    """Takes a map of the output into B and C."""
    weight = context.float_weight(node.inputs[1])
    if isinstance(weight, Reason):
        return _other_side(context, node) or weight
    column_axis = 0 if context.view.attribute(node, "transB", 0) else 1
    if len(weight.shape) != 2:
        return Reason("BNF012", f"the weight `{node.inputs[1].name}` of {describe(node)} is no matrix")
    reason = wrong_axis(node, map_, 1, weight.shape[column_axis])
    if reason is not None:
        return reason
    addend = _map_addend(context, node, map_.affine, weight)
    if isinstance(addend, Reason):
        return addend
    factor = along(map_.affine.scale, column_axis, 2)
    return Step((SetConstant(node, 1, Scaled.of(weight, factor)), *addend))


def _map_addend(context: Context, node: gs.Node, affine: Affine, weight: Weight) -> list[Edit] | Reason:
    view = context.view
    beta = float(view.attribute(node, "beta", 1.0))
    legacy: list[Edit] = [SetAttribute(node, "broadcast", 1)] if view.opset(node) < 7 else []
    unit_beta: list[Edit] = [SetAttribute(node, "beta", 1.0)] if beta != 1.0 else []
    tensor = bias_of(node, 2)
    addend = context.float_weight(tensor) if tensor is not None and beta != 0.0 else None
    if isinstance(addend, Reason):
        if not _is_small(context, tensor, affine.shape[0]):
            return Reason(
                "BNF006",
                f"the addend `{node.inputs[2].name}` of {describe(node)} is computed at run time and is not known to be a "
                f"vector: mapping it there would cost as much as the normalization",
            )
        mapped = map_runtime_bias(context, node, 2, affine, weight, gain=beta)
        return mapped if isinstance(mapped, Reason) else [*mapped, *unit_beta]
    values = beta * addend.values() if addend is not None else np.zeros(affine.shape)
    return [SetConstant(node, 2, Computed(affine(values), weight.elem_type)), *unit_beta, *legacy]


def _is_small(context: Context, tensor: gs.Tensor | None, columns: int) -> bool:
    extents = context.shapes.extents(tensor) if tensor is not None else None
    if extents is None or not all(isinstance(extent, int) for extent in extents):
        return False
    return math.prod(extent for extent in extents if isinstance(extent, int)) <= columns


def _other_side(context: Context, node: gs.Node) -> Reason | None:
    if context.constants.weight(node.inputs[0]) is None:
        return None
    return Reason(
        "BNF012",
        f"the constant matrix `{node.inputs[0].name}` of {describe(node)} makes the rows, and the map lies on the columns",
    )
