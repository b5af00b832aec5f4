"""What bnfold knows of each ONNX operator: one file per family, one row per operator type."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import onnx_graphsurgeon as gs

from bnfold.context import Context
from bnfold.edits import Map, Step
from bnfold.ops import add, conv, conv_transpose, gemm, matmul, passing
from bnfold.verdict import Reason

Backward: TypeAlias = Callable[[Context, gs.Node, Map], Step | Reason]

BACKWARD: dict[str, Backward] = {
    "Add": add.backward,
    "Conv": conv.backward,
    "ConvTranspose": conv_transpose.backward,
    "Dropout": passing.backward,
    "Gemm": gemm.backward,
    "Identity": passing.backward,
    "MatMul": matmul.backward,
    "Sub": add.backward,
}
"""operator type → how a map of its output goes into it or through it."""

LINEAR = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
"""Operators that take a map for good, rather than handing it on."""
