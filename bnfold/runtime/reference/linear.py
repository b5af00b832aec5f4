"""Matrix products: Gemm, MatMul, Einsum, and the integer forms."""

from __future__ import annotations

import numpy as np

from bnfold.runtime.reference.call import Call, Operator
from bnfold.runtime.reference.value import INT32, Array, Tensor, tensor_of


def gemm(call: Call, A: Tensor, B: Tensor, C: Tensor | None = None) -> Array:
    """`alpha·A'·B' + beta·C`, where ' transposes if `transA` or `transB` asks for it."""
    a = A.array.T if call.integer("transA") else A.array
    b = B.array.T if call.integer("transB") else B.array
    y: Array = a @ b
    if (alpha := call.number("alpha", 1.0)) != 1.0:
        y = alpha * y
    if C is None or not (beta := call.number("beta", 1.0)):
        return y
    return y + (C.array if beta == 1.0 else beta * C.array)


def matmul(call: Call, A: Tensor, B: Tensor) -> Array:
    """`numpy.matmul`; a stack of matrices times one matrix is a single product."""
    a, b = A.array, B.array
    if a.ndim > 2 and b.ndim == 2:
        return np.asarray(a.reshape(-1, a.shape[-1]) @ b).reshape(*a.shape[:-1], b.shape[-1])
    return np.asarray(a @ b)


def einsum(call: Call, *inputs: Tensor) -> Array:
    """`numpy.einsum`, by pairwise products."""
    return np.asarray(np.einsum(call.text("equation"), *(each.array for each in inputs), optimize=True))


def matmul_integer(
    call: Call, A: Tensor, B: Tensor, a_zero_point: Tensor | None = None, b_zero_point: Tensor | None = None
) -> Tensor:
    """`(A − a_zero)·(B − b_zero)` in int32; a zero point per row of A, or per column of B."""
    a, b = A.array.astype(np.int32), B.array.astype(np.int32)
    if a_zero_point is not None:
        zero = a_zero_point.array.astype(np.int32)
        a = a - (zero[..., None] if zero.ndim == 1 and zero.size > 1 else zero)
    if b_zero_point is not None:
        b = b - b_zero_point.array.astype(np.int32)
    return tensor_of(np.asarray(a @ b), INT32)


def det(call: Call, X: Tensor) -> Array:
    """The determinants of a stack of matrices."""
    return np.asarray(np.linalg.det(X.array))


OPERATORS: dict[str, Operator] = {"Det": det, "Einsum": einsum, "Gemm": gemm, "MatMul": matmul, "MatMulInteger": matmul_integer}
