"""RNN, GRU and LSTM: any direction, layout, activation, initial state and length of sequence."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from bnfold.runtime.reference.activation import sigmoid, softplus, softsign
from bnfold.runtime.reference.call import Call, Operator
from bnfold.runtime.reference.value import Array, Tensor

Activation = Callable[[Array], Array]
Cell = Callable[[Array, tuple[Array, ...]], tuple[Array, ...]]
"""From the input of a step (batch, input) and the state, to the new state; its first part is the output."""

_FORMS: dict[str, tuple[Callable[[Array, float, float], Array], float, float]] = {
    "affine": (lambda x, a, b: a * x + b, 1.0, 0.0),
    "elu": (lambda x, a, b: np.where(x < 0, a * np.expm1(x), x), 1.0, 0.0),
    "hardsigmoid": (lambda x, a, b: np.clip(a * x + b, 0.0, 1.0), 0.2, 0.5),
    "leakyrelu": (lambda x, a, b: np.where(x < 0, a * x, x), 0.01, 0.0),
    "relu": (lambda x, a, b: np.maximum(x, 0.0), 0.0, 0.0),
    "scaledtanh": (lambda x, a, b: a * np.tanh(b * x), 1.0, 1.0),
    "sigmoid": (lambda x, a, b: sigmoid(x), 0.0, 0.0),
    "softplus": (lambda x, a, b: softplus(x), 0.0, 0.0),
    "softsign": (lambda x, a, b: softsign(x), 0.0, 0.0),
    "tanh": (lambda x, a, b: np.tanh(x), 0.0, 0.0),
    "thresholdedrelu": (lambda x, a, b: np.where(x > a, x, 0.0), 1.0, 0.0),
}
"""Activation → function of x, alpha and beta, and the defaults of those two."""

_WITH_ALPHA = ("affine", "elu", "hardsigmoid", "leakyrelu", "scaledtanh", "thresholdedrelu")
_WITH_BETA = ("affine", "hardsigmoid", "scaledtanh")


class Weights(NamedTuple):
    """Of one direction: input weights, recurrent weights, biases of both, peepholes."""

    W: Array
    R: Array
    Wb: Array
    Rb: Array
    P: Array


def rnn(call: Call, X: Tensor, W: Tensor, R: Tensor, *rest: Tensor | None) -> tuple[Array, ...]:
    """`h = f(x·Wᵀ + h·Rᵀ + b)`."""

    def cell(weights: Weights, functions: list[Activation]) -> Cell:
        def step(x: Array, state: tuple[Array, ...]) -> tuple[Array, ...]:
            (h,) = state
            return (functions[0](x @ weights.W.T + h @ weights.R.T + weights.Wb + weights.Rb),)

        return step

    return _run(call, X, W, R, rest, ["Tanh"], cell)


def gru(call: Call, X: Tensor, W: Tensor, R: Tensor, *rest: Tensor | None) -> tuple[Array, ...]:
    """Gates z and r; `h = (1 − z)·g(candidate) + z·h`. With `linear_before_reset`, r scales the product instead of h."""

    def cell(weights: Weights, functions: list[Activation]) -> Cell:
        f, g = functions
        (Wz, Wr, Wh), (Rz, Rr, Rh) = np.split(weights.W, 3), np.split(weights.R, 3)
        (wz, wr, wh), (rz, rr, rh) = np.split(weights.Wb, 3), np.split(weights.Rb, 3)

        def step(x: Array, state: tuple[Array, ...]) -> tuple[Array, ...]:
            (h,) = state
            z = f(x @ Wz.T + h @ Rz.T + wz + rz)
            r = f(x @ Wr.T + h @ Rr.T + wr + rr)
            recurrent = r * (h @ Rh.T + rh) if call.integer("linear_before_reset") else (r * h) @ Rh.T + rh
            return ((1 - z) * g(x @ Wh.T + recurrent + wh) + z * h,)

        return step

    return _run(call, X, W, R, rest, ["Sigmoid", "Tanh"], cell)


def lstm(call: Call, X: Tensor, W: Tensor, R: Tensor, *rest: Tensor | None) -> tuple[Array, ...]:
    """Gates i, o, f and candidate c; `C = f·C + i·c`, `H = o·h(C)`; peepholes P look at C."""

    def cell(weights: Weights, functions: list[Activation]) -> Cell:
        f, g, h = functions
        pi, po, pf = np.split(weights.P, 3)
        bias = weights.Wb + weights.Rb

        def step(x: Array, state: tuple[Array, ...]) -> tuple[Array, ...]:
            hidden, memory = state
            i, o, forget, c = np.split(x @ weights.W.T + hidden @ weights.R.T + bias, 4, axis=-1)
            entry = f(i + pi * memory)
            kept = 1 - entry if call.integer("input_forget") else f(forget + pf * memory)
            memory = kept * memory + entry * g(c)
            return f(o + po * memory) * h(memory), memory

        return step

    return _run(call, X, W, R, rest, ["Sigmoid", "Tanh", "Tanh"], cell, with_memory=True)


def _run(
    call: Call,
    X: Tensor,
    W: Tensor,
    R: Tensor,
    rest: tuple[Tensor | None, ...],
    default: list[str],
    cell: Callable[[Weights, list[Activation]], Cell],
    with_memory: bool = False,
) -> tuple[Array, ...]:
    B, lengths, *states = [None if each is None else each.array for each in (*rest, *[None] * 5)][:5]
    batch_first = bool(call.integer("layout"))
    x = np.swapaxes(X.array, 0, 1) if batch_first else X.array
    steps, batch, _ = x.shape
    directions, hidden = R.shape[0], R.shape[2]
    gates = R.shape[1]
    peepholes = states.pop() if with_memory else None
    initial = [_initial(each, batch_first, (directions, batch, hidden)) for each in states[: 2 if with_memory else 1]]
    last = np.full(batch, steps) if lengths is None else lengths
    functions = _activations(call, default * directions)
    y = np.zeros((steps, directions, batch, hidden))
    finals = np.zeros((len(initial), directions, batch, hidden))
    for place in range(directions):
        bias = np.zeros(2 * gates) if B is None else B[place]
        peep = np.zeros(3 * hidden) if peepholes is None else peepholes[place]
        weights = Weights(W.array[place], R.array[place], bias[:gates], bias[gates:], peep)
        step = cell(weights, functions[place * len(default) : (place + 1) * len(default)])
        backward = call.text("direction", "forward") == "reverse" or place == 1
        state = tuple(each[place] for each in initial)
        for time in reversed(range(steps)) if backward else range(steps):
            live = (time < last)[:, None]
            state = tuple(np.where(live, new, old) for new, old in zip(step(x[time], state), state, strict=True))
            y[time, place] = np.where(live, state[0], 0.0)
        finals[:, place] = np.stack(state)
    if batch_first:
        return (y.transpose(2, 0, 1, 3), *(each.transpose(1, 0, 2) for each in finals))
    return (y, *finals)


def _initial(given: Array | None, batch_first: bool, shape: tuple[int, ...]) -> Array:
    if given is None:
        return np.zeros(shape)
    return np.swapaxes(given, 0, 1) if batch_first else given


def _activations(call: Call, default: list[str]) -> list[Activation]:
    """The activations of all directions; alphas and betas go to those that have them, in order."""
    names = [name.lower() for name in call.get("activations") or default]
    alphas, betas = list(call.get("activation_alpha", ())), list(call.get("activation_beta", ()))
    limit = call.number("clip", np.inf)
    found = []
    for name in names:
        if name not in _FORMS:
            raise call.refuse(f"activation {name}")
        form, alpha, beta = _FORMS[name]
        alpha = alphas.pop(0) if name in _WITH_ALPHA and alphas else alpha
        beta = betas.pop(0) if name in _WITH_BETA and betas else beta
        found.append(_activation(form, float(alpha), float(beta), limit))
    return found


def _activation(form: Callable[[Array, float, float], Array], alpha: float, beta: float, limit: float) -> Activation:
    return lambda x: np.asarray(form(np.clip(x, -limit, limit), alpha, beta))


OPERATORS: dict[str, Operator] = {"GRU": gru, "LSTM": lstm, "RNN": rnn}
