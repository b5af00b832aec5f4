"""What bnfold knows of each ONNX operator: one file per family, one row per operator type.

A rule is asked with the context, the node, which of its outputs (backward) or inputs (forward) the map lies on, and the map. It
answers with a `Step`, or with the `Reason` why the map cannot go there; it changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import onnx_graphsurgeon as gs

from bnfold.context import Context
from bnfold.edits import Map, Step
from bnfold.ops import (
    activation,
    add,
    batch_normalization,
    concat,
    conv,
    conv_transpose,
    gemm,
    matmul,
    pad,
    passing,
    pool,
    reshape,
    resize,
)
from bnfold.verdict import Reason

Rule: TypeAlias = Callable[[Context, gs.Node, int, Map], Step | Reason]

BACKWARD: dict[str, Rule] = {
    "Add": add.backward,
    "AveragePool": pool.pool_backward,
    "Cast": passing.backward,
    "Concat": concat.concat_backward,
    "Conv": conv.backward,
    "ConvTranspose": conv_transpose.backward,
    "DepthToSpace": resize.depth_to_space_backward,
    "Dropout": passing.backward,
    "Flatten": reshape.backward,
    "Gemm": gemm.backward,
    "GlobalAveragePool": pool.pool_backward,
    "GlobalMaxPool": pool.pool_backward,
    "Identity": passing.backward,
    "LeakyRelu": activation.backward,
    "MatMul": matmul.backward,
    "MaxPool": pool.pool_backward,
    "PRelu": activation.backward,
    "Pad": pad.backward,
    "ReduceMean": pool.mean_backward,
    "Relu": activation.backward,
    "Reshape": reshape.backward,
    "Resize": resize.resize_backward,
    "Slice": concat.slice_backward,
    "Split": concat.split_backward,
    "Squeeze": reshape.backward,
    "Sub": add.backward,
    "Sum": add.backward,
    "Transpose": reshape.backward,
    "Unsqueeze": reshape.backward,
    "Upsample": resize.resize_backward,
}
"""operator type → how a map of its output goes into it, or through it to its inputs."""

FORWARD: dict[str, Rule] = {
    "AveragePool": pool.pool_forward,
    "Cast": passing.forward,
    "Concat": concat.concat_forward,
    "Conv": conv.forward,
    "ConvTranspose": conv_transpose.forward,
    "Dropout": passing.forward,
    "Flatten": reshape.forward,
    "Gemm": gemm.forward,
    "GlobalAveragePool": pool.pool_forward,
    "GlobalMaxPool": pool.pool_forward,
    "Identity": passing.forward,
    "LeakyRelu": activation.forward,
    "MatMul": matmul.forward,
    "MaxPool": pool.pool_forward,
    "PRelu": activation.forward,
    "Pad": pad.forward,
    "ReduceMean": pool.mean_forward,
    "Relu": activation.forward,
    "Reshape": reshape.forward,
    "Resize": resize.resize_forward,
    "Slice": concat.slice_forward,
    "SpaceToDepth": resize.space_to_depth_forward,
    "Split": concat.split_forward,
    "Squeeze": reshape.forward,
    "Transpose": reshape.forward,
    "Unsqueeze": reshape.forward,
    "Upsample": resize.resize_forward,
}
"""operator type → how a map of its input goes into it, or through it to its output."""

LINEAR = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
"""Operators that take a map for good, rather than handing it on."""

MERGING_BACKWARD: dict[str, Rule] = {"BatchNormalization": batch_normalization.backward}
MERGING_FORWARD: dict[str, Rule] = {"BatchNormalization": batch_normalization.forward}
"""Operators that take a map where nothing better does: they stay themselves."""
