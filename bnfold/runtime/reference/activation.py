"""Activations and the softmax family."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from bnfold.runtime.reference.call import Call, Operator
from bnfold.runtime.reference.elementwise import erf
from bnfold.runtime.reference.value import Array, Tensor


def sigmoid(x: Array) -> Array:
    """`1/(1 + e^−x)`."""
    return np.asarray(1.0 / (1.0 + np.exp(-x)))


def softplus(x: Array) -> Array:
    """`ln(1 + e^x)`, without overflow."""
    return np.asarray(np.logaddexp(0.0, x))


def relu(x: Array) -> Array:
    """`max(x, 0)`."""
    return np.asarray(np.maximum(x, x.dtype.type(0)))


def leaky_relu(call: Call, X: Tensor) -> Array:
    """`alpha·x` below zero."""
    return np.asarray(np.where(X.array < 0, call.number("alpha", 0.01) * X.array, X.array))


def prelu(call: Call, X: Tensor, slope: Tensor) -> Array:
    """`slope·x` below zero; below opset 7 a vector of slopes belongs to the channels."""
    factors = slope.array
    if call.opset < 7 and factors.size > 1:
        factors = factors.reshape(-1, *[1] * (X.array.ndim - 2))
    return np.asarray(np.where(X.array < 0, factors * X.array, X.array))


def elu(call: Call, X: Tensor) -> Array:
    """`alpha·(e^x − 1)` below zero."""
    return _below_zero(X.array, call.number("alpha", 1.0) * np.expm1(X.array))


def celu(call: Call, X: Tensor) -> Array:
    """`max(0, x) + min(0, alpha·(e^(x/alpha) − 1))`."""
    alpha = call.number("alpha", 1.0)
    return np.asarray(np.maximum(X.array, 0) + np.minimum(0, alpha * np.expm1(X.array / alpha)))


def selu(call: Call, X: Tensor) -> Array:
    """`gamma·x`, and `gamma·alpha·(e^x − 1)` below zero."""
    alpha, gamma = call.number("alpha", 1.67326319217681884765625), call.number("gamma", 1.05070102214813232421875)
    return np.asarray(gamma * _below_zero(X.array, alpha * np.expm1(X.array), inclusive=True))


def _below_zero(x: Array, below: Array, inclusive: bool = False) -> Array:
    return np.asarray(np.where(x <= 0 if inclusive else x < 0, below, x))


def thresholded_relu(call: Call, X: Tensor) -> Array:
    """X above `alpha`, else 0."""
    return np.asarray(np.where(X.array > call.number("alpha", 1.0), X.array, 0.0))


def shrink(call: Call, X: Tensor) -> Array:
    """`x + bias` below `−lambd`, `x − bias` above `lambd`, else 0."""
    bias, limit = call.number("bias", 0.0), call.number("lambd", 0.5)
    return np.asarray(np.where(X.array < -limit, X.array + bias, np.where(X.array > limit, X.array - bias, 0)))


def hard_sigmoid(call: Call, X: Tensor) -> Array:
    """`max(0, min(1, alpha·x + beta))`."""
    return np.asarray(np.clip(call.number("alpha", 0.2) * X.array + call.number("beta", 0.5), 0.0, 1.0))


def hard_swish(call: Call, X: Tensor) -> Array:
    """`x·max(0, min(1, x/6 + 1/2))`."""
    return np.asarray(X.array * np.clip(X.array / 6 + 0.5, 0.0, 1.0))


def gelu(call: Call, X: Tensor) -> Array:
    """`x·Φ(x)`, or its approximation by tanh."""
    x = X.array
    if call.text("approximate", "none") == "tanh":
        return np.asarray(0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))
    return np.asarray(0.5 * x * (1 + erf(x / math.sqrt(2))))


def swish(call: Call, X: Tensor) -> Array:
    """`x·sigmoid(alpha·x)`."""
    return np.asarray(X.array * sigmoid(call.number("alpha", 1.0) * X.array))


def mish(x: Array) -> Array:
    """`x·tanh(softplus(x))`."""
    return np.asarray(x * np.tanh(softplus(x)))


def softsign(x: Array) -> Array:
    """`x/(1 + |x|)`."""
    return np.asarray(x / (1 + np.abs(x)))


def _along_axis(function: Callable[[Array, int], Array]) -> Operator:
    """Softmax and its kin: along `axis` from opset 13 on; before, over everything from `axis` on, as one."""

    def operator(call: Call, X: Tensor) -> Array:
        x = X.array
        if call.opset >= 13:
            return function(x, call.integer("axis", -1))
        lead = math.prod(x.shape[: call.integer("axis", 1) % max(1, x.ndim)])
        return function(x.reshape(lead, -1), 1).reshape(x.shape)

    return operator


def softmax(x: Array, axis: int) -> Array:
    """`e^x/Σ e^x`."""
    powers = np.exp(x - x.max(axis, keepdims=True, initial=-np.inf))
    return np.asarray(powers / powers.sum(axis, keepdims=True))


def log_softmax(x: Array, axis: int) -> Array:
    """`x − ln Σ e^x`."""
    shifted = x - x.max(axis, keepdims=True, initial=-np.inf)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis, keepdims=True)))


def hardmax(x: Array, axis: int) -> Array:
    """1 at the first largest element, else 0."""
    y = np.zeros_like(x)
    np.put_along_axis(y, np.expand_dims(x.argmax(axis), axis), 1, axis)
    return y


def _plain(function: Callable[[Array], Array]) -> Operator:
    return lambda call, X: function(X.array)


OPERATORS: dict[str, Operator] = {
    "Celu": celu,
    "Elu": elu,
    "Gelu": gelu,
    "HardSigmoid": hard_sigmoid,
    "HardSwish": hard_swish,
    "Hardmax": _along_axis(hardmax),
    "LeakyRelu": leaky_relu,
    "LogSoftmax": _along_axis(log_softmax),
    "Mish": _plain(mish),
    "PRelu": prelu,
    "Relu": _plain(relu),
    "Selu": selu,
    "Shrink": shrink,
    "Sigmoid": _plain(sigmoid),
    "Softmax": _along_axis(softmax),
    "Softplus": _plain(softplus),
    "Softsign": _plain(softsign),
    "Swish": swish,
    "Tanh": _plain(lambda x: np.asarray(np.tanh(x))),
    "ThresholdedRelu": thresholded_relu,
}
