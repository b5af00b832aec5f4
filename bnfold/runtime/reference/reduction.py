"""Reductions over axes, cumulative sums, and the places of extreme values."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bnfold.runtime.reference.call import Call, Operator, axes_of
from bnfold.runtime.reference.value import INT64, Array, Tensor, tensor_of

Reduce = Callable[[Array, tuple[int, ...]], Array]


def _reduction(function: Reduce, alone: Callable[[Array], Array] = lambda x: x) -> Operator:
    """A reduction that keeps its axes; `alone` is what it does to a single element, for `noop_with_empty_axes`."""

    def operator(call: Call, X: Tensor, axes: Tensor | None = None) -> Array:
        x, given = X.array, axes_of(call, axes)
        if not given and call.integer("noop_with_empty_axes"):
            return np.asarray(alone(x))
        over = tuple(axis % x.ndim for axis in given) if given else tuple(range(x.ndim))
        y = np.asarray(function(x, over))
        return y if call.integer("keepdims", 1) else y.reshape([n for axis, n in enumerate(x.shape) if axis not in over])

    return operator


def _log_sum_exp(x: Array, axes: tuple[int, ...]) -> Array:
    top = np.max(x, axes, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, 0)
    return np.asarray(np.log(np.sum(np.exp(x - top), axes, keepdims=True)) + top)


def _maximum(x: Array, axes: tuple[int, ...]) -> Array:
    return np.asarray(np.max(x, axes, keepdims=True, initial=_limit(x, -1)))


def _minimum(x: Array, axes: tuple[int, ...]) -> Array:
    return np.asarray(np.min(x, axes, keepdims=True, initial=_limit(x, 1)))


def _limit(x: Array, sign: int) -> float | int | bool:
    if x.dtype.kind == "f":
        return sign * np.inf
    if x.dtype.kind == "b":
        return sign > 0
    limits = np.iinfo(x.dtype)
    return int(limits.max if sign > 0 else limits.min)


def _extreme(find: Callable[..., Array]) -> Operator:
    def operator(call: Call, X: Tensor) -> Tensor:
        x, axis = X.array, call.integer("axis", 0)
        last = bool(call.integer("select_last_index"))
        found = x.shape[axis] - 1 - find(np.flip(x, axis), axis) if last else find(x, axis)
        return tensor_of(np.expand_dims(found, axis) if call.integer("keepdims", 1) else np.asarray(found), INT64)

    return operator


def _cumulative(function: Callable[..., Array], neutral: int) -> Operator:
    def operator(call: Call, X: Tensor, axis: Tensor) -> Array:
        x, along = X.array, int(axis.scalar())
        if call.integer("reverse"):
            x = np.flip(x, along)
        if call.integer("exclusive"):
            start = np.full_like(np.take(x, [0], along), neutral)
            x = np.concatenate([start, np.delete(x, -1, along)], along)
        y = function(x, axis=along)
        return np.asarray(np.flip(y, along) if call.integer("reverse") else y)

    return operator


OPERATORS: dict[str, Operator] = {
    "ArgMax": _extreme(np.argmax),
    "ArgMin": _extreme(np.argmin),
    "CumProd": _cumulative(np.cumprod, 1),
    "CumSum": _cumulative(np.cumsum, 0),
    "ReduceL1": _reduction(lambda x, axes: np.sum(np.abs(x), axes, keepdims=True), np.abs),
    "ReduceL2": _reduction(lambda x, axes: np.sqrt(np.sum(x * x, axes, keepdims=True)), np.abs),
    "ReduceLogSum": _reduction(lambda x, axes: np.log(np.sum(x, axes, keepdims=True)), np.log),
    "ReduceLogSumExp": _reduction(_log_sum_exp),
    "ReduceMax": _reduction(_maximum),
    "ReduceMean": _reduction(lambda x, axes: np.mean(x, axes, keepdims=True)),
    "ReduceMin": _reduction(_minimum),
    "ReduceProd": _reduction(lambda x, axes: np.prod(x, axes, keepdims=True)),
    "ReduceSum": _reduction(lambda x, axes: np.sum(x, axes, keepdims=True)),
    "ReduceSumSquare": _reduction(lambda x, axes: np.sum(x * x, axes, keepdims=True), np.square),
}
