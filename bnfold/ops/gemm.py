"""Gemm.

Backward    y = a·(alpha·A'·B' + beta·C − c) + t    becomes   alpha·A'·(B'·a) + (a·(beta·C − c) + t), with beta = 1
Forward     y = alpha·(a·A' + o)·B' + beta·C        becomes   alpha·A'·(a·B') + (beta·C + alpha·o·B'), with beta = 1
Algebra     column n of the product reads column n of B' only, and column k of A' meets row k of B'. beta goes into the new C,
            since dividing by it would round twice and fails for beta = 0.
Conditions  B constant; the map lies on axis 1 of the (M, N) result, or on the columns of A'. C absent or constant in any shape
            that broadcasts to (M, N); a C computed at run time is mapped there when it has no more than N elements.
Source      ONNX operator Gemm.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_graphsurgeon as gs

from bnfold.affine import Affine
from bnfold.context import Context
from bnfold.edits import Edit, Map, SetAttribute, SetConstant, Step
from bnfold.graph import describe, optional_input
from bnfold.ops.linear import along, bias_values, map_runtime_bias, on_channels, step_of
from bnfold.ops.weight import OperatorWeight, weight_of
from bnfold.verdict import Reason
from bnfold.weights import Computed


def backward(context: Context, node: gs.Node, output: int, map_: Map) -> Step | Reason:
    """Takes a map of the output into B and C."""
    weight = _matrix(context, node)
    if isinstance(weight, Reason):
        return weight
    column_axis = 0 if context.view.attribute(node, "transB", 0) else 1
    affine = on_channels(node, map_, 1, weight.shape[column_axis])
    if isinstance(affine, Reason):
        return affine
    scaled = weight.scaled(along(affine.scale, column_axis, 2))
    return step_of(scaled, _map_addend(context, node, affine, weight.elem_type))


def forward(context: Context, node: gs.Node, index: int, map_: Map) -> Step | Reason:
    """Takes a map of A into B and C."""
    if index != 0:
        return Reason("BNF006", f"it makes a weight of {describe(node)}")
    weight = _matrix(context, node)
    if isinstance(weight, Reason):
        return weight
    row_axis = 1 if context.view.attribute(node, "transB", 0) else 0
    data_axis = 0 if context.view.attribute(node, "transA", 0) else 1
    affine = on_channels(node, map_, data_axis, weight.shape[row_axis])
    if isinstance(affine, Reason):
        return affine
    scaled = weight.scaled(along(affine.scale, row_axis, 2))
    if not affine.has_offset:
        return step_of(scaled)
    alpha = float(context.view.attribute(node, "alpha", 1.0))
    added = alpha * (weight.values() * along(affine.offset, row_axis, 2)).sum(axis=row_axis)
    return step_of(scaled, _map_addend(context, node, Affine.of(np.ones(added.shape), 0.0, added), weight.elem_type))


def _matrix(context: Context, node: gs.Node) -> OperatorWeight | Reason:
    weight = weight_of(context, node, 1)
    if isinstance(weight, Reason) and context.constants.weight(node.inputs[0]) is not None:
        left = f"the constant matrix `{node.inputs[0].name}` of {describe(node)} makes the rows"
        return Reason("BNF012", f"{left}, and the map lies on the columns")
    if not isinstance(weight, Reason) and len(weight.shape) != 2:
        return Reason("BNF012", f"the weight `{node.inputs[1].name}` of {describe(node)} is no matrix")
    return weight


def _map_addend(context: Context, node: gs.Node, affine: Affine, elem_type: int) -> list[Edit] | Reason:
    view = context.view
    beta = float(view.attribute(node, "beta", 1.0))
    # Before opset 7 C had to be of the result's shape unless `broadcast` was set.
    legacy: list[Edit] = [SetAttribute(node, "broadcast", 1)] if view.opset(node) < 7 else []
    unit_beta: list[Edit] = [SetAttribute(node, "beta", 1.0)] if beta != 1.0 else []
    tensor = optional_input(node, 2) if beta != 0.0 else None
    if tensor is None and not affine.has_offset:
        return []
    values = bias_values(context, tensor) if tensor is not None else np.zeros(affine.shape)
    if isinstance(values, Reason):
        if not _is_small(context, tensor, affine.shape[0]):
            what = f"the addend `{node.inputs[2].name}` of {describe(node)} is computed at run time"
            return Reason("BNF006", f"{what} and is not known to be a vector: mapping it would cost what the map costs now")
        mapped = map_runtime_bias(context, node, 2, affine, elem_type, gain=beta)
        return mapped if isinstance(mapped, Reason) else [*mapped, *unit_beta]
    if values.ndim > 2 or (values.ndim and values.shape[-1] not in (1, affine.shape[0])):
        return Reason("BNF012", f"the addend of {describe(node)} has shape {list(values.shape)}, which does not fit its result")
    return [SetConstant(node, 2, Computed(affine(beta * values), elem_type)), *unit_beta, *legacy]


def _is_small(context: Context, tensor: gs.Tensor | None, columns: int) -> bool:
    extents = context.shapes.extents(tensor) if tensor is not None else None
    known = [extent for extent in extents or () if isinstance(extent, int)]
    return extents is not None and len(known) == len(extents) and math.prod(known) <= columns
