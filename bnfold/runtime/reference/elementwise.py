"""Arithmetic, comparison and logic, element by element, with the broadcasting of every opset."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce

import numpy as np

from bnfold.runtime.reference.call import Call, Operator
from bnfold.runtime.reference.value import BOOL, Array, Tensor, tensor_of


def _unary(function: Callable[[Array], Array]) -> Operator:
    return lambda call, X: np.asarray(function(X.array))


def _binary(function: Callable[[Array, Array], Array]) -> Operator:
    return lambda call, A, B: np.asarray(function(A.array, _aligned(call, A, B)))


def _test(function: Callable[..., Array]) -> Operator:
    """An operator that gives bools."""

    def operator(call: Call, A: Tensor, B: Tensor | None = None) -> Tensor:
        operands = [A.array] if B is None else [A.array, _aligned(call, A, B)]
        return tensor_of(np.asarray(function(*operands)), BOOL)

    return operator


def _variadic(function: Callable[[Array, Array], Array]) -> Operator:
    return lambda call, *inputs: np.asarray(reduce(function, (each.array for each in inputs)))


def _aligned(call: Call, A: Tensor, B: Tensor) -> Array:
    """B as numpy broadcasts it. Below opset 7 its first axis stands at A's `axis`, and without `broadcast` shapes are equal."""
    if call.opset >= 7 or not call.has("axis") or not B.array.ndim:
        return B.array
    behind = A.array.ndim - call.integer("axis") % A.array.ndim - B.array.ndim
    return B.array.reshape(*B.shape, *[1] * behind)


def divide(a: Array, b: Array) -> Array:
    """Quotient; that of integers is cut off towards zero."""
    if a.dtype.kind == "f":
        return np.asarray(np.divide(a, b))
    quotient = a // b
    return np.asarray(quotient + ((quotient * b != a) & ((a < 0) != (b < 0))).astype(a.dtype))


def power(call: Call, X: Tensor, Y: Tensor) -> Array:
    """`X**Y` in the type of X; an integer to a power that is a float goes through float64."""
    x, y = X.array, _aligned(call, X, Y)
    if x.dtype.kind in "iu" and y.dtype.kind in "iu" and (y >= 0).all():
        return np.asarray(np.power(x, y.astype(x.dtype)))
    return np.asarray(np.power(x.astype(np.float64), y.astype(np.float64)))


def modulo(call: Call, A: Tensor, B: Tensor) -> Array:
    """The remainder with the sign of the divisor, or of the dividend with `fmod`."""
    return np.asarray((np.fmod if call.integer("fmod") else np.mod)(A.array, B.array))


def mean(call: Call, *inputs: Tensor) -> Array:
    """The mean of all inputs."""
    return np.asarray(reduce(np.add, (each.array for each in inputs)) / len(inputs))


def clip(call: Call, X: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Array:
    """`min(max(X, low), high)`; bounds are attributes below opset 11."""
    x = X.array
    lower = low.array if low is not None else call.get("min")
    upper = high.array if high is not None else call.get("max")
    if lower is not None:
        x = np.maximum(x, np.asarray(lower, x.dtype))
    return x if upper is None else np.asarray(np.minimum(x, np.asarray(upper, x.dtype)))


def bit_shift(call: Call, X: Tensor, Y: Tensor) -> Array:
    """`X << Y` or `X >> Y`."""
    return np.asarray((np.left_shift if call.text("direction") == "LEFT" else np.right_shift)(X.array, Y.array))


def is_inf(call: Call, X: Tensor) -> Tensor:
    """Where X is infinite, of the signs that are asked for."""
    above, below = call.integer("detect_positive", 1), call.integer("detect_negative", 1)
    found = (np.isposinf(X.array) & bool(above)) | (np.isneginf(X.array) & bool(below))
    return tensor_of(found, BOOL)


def where(call: Call, condition: Tensor, X: Tensor, Y: Tensor) -> Tensor:
    """X where the condition holds, else Y."""
    return X.like(np.where(condition.array, X.array, Y.array))


def erf(x: Array) -> Array:
    """The error function, in float64."""
    return np.asarray(_ERF(x), np.float64)


_ERF = np.frompyfunc(math.erf, 1, 1)

OPERATORS: dict[str, Operator] = {
    "Abs": _unary(np.abs),
    "Acos": _unary(np.arccos),
    "Acosh": _unary(np.arccosh),
    "Add": _binary(np.add),
    "And": _test(np.logical_and),
    "Asin": _unary(np.arcsin),
    "Asinh": _unary(np.arcsinh),
    "Atan": _unary(np.arctan),
    "Atanh": _unary(np.arctanh),
    "BitShift": bit_shift,
    "BitwiseAnd": _binary(np.bitwise_and),
    "BitwiseNot": _unary(np.bitwise_not),
    "BitwiseOr": _binary(np.bitwise_or),
    "BitwiseXor": _binary(np.bitwise_xor),
    "Ceil": _unary(np.ceil),
    "Clip": clip,
    "Cos": _unary(np.cos),
    "Cosh": _unary(np.cosh),
    "Div": _binary(divide),
    "Equal": _test(np.equal),
    "Erf": _unary(erf),
    "Exp": _unary(np.exp),
    "Floor": _unary(np.floor),
    "Greater": _test(np.greater),
    "GreaterOrEqual": _test(np.greater_equal),
    "IsInf": is_inf,
    "IsNaN": _test(np.isnan),
    "Less": _test(np.less),
    "LessOrEqual": _test(np.less_equal),
    "Log": _unary(np.log),
    "Max": _variadic(np.maximum),
    "Mean": mean,
    "Min": _variadic(np.minimum),
    "Mod": modulo,
    "Mul": _binary(np.multiply),
    "Neg": _unary(np.negative),
    "Not": _test(np.logical_not),
    "Or": _test(np.logical_or),
    "Pow": power,
    "Reciprocal": _unary(np.reciprocal),
    "Round": _unary(np.rint),
    "Sign": _unary(np.sign),
    "Sin": _unary(np.sin),
    "Sinh": _unary(np.sinh),
    "Sqrt": _unary(np.sqrt),
    "Sub": _binary(np.subtract),
    "Sum": _variadic(np.add),
    "Tan": _unary(np.tan),
    "Where": where,
    "Xor": _test(np.logical_xor),
}
