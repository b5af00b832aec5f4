"""Reading and writing by index: Gather, Scatter, TopK, NonZero, OneHot, Compress, Unique."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bnfold.runtime.reference.call import Call, Operator
from bnfold.runtime.reference.value import INT64, Array, Tensor, tensor_of


def gather(call: Call, X: Tensor, indices: Tensor) -> Array:
    """`X[…, indices, …]` along `axis`."""
    return np.take(X.array, indices.array, call.integer("axis"))


def gather_elements(call: Call, X: Tensor, indices: Tensor) -> Array:
    """Every element of `indices` picks one along `axis`."""
    return np.take_along_axis(X.array[_within(X, indices, call.integer("axis"))], indices.array, call.integer("axis"))


def _within(X: Tensor, indices: Tensor, axis: int) -> tuple[slice, ...]:
    """The part of X as large as `indices` along every other axis."""
    along = axis % X.array.ndim
    return tuple(slice(None) if place == along else slice(0, n) for place, n in enumerate(indices.shape))


def gather_nd(call: Call, X: Tensor, indices: Tensor) -> Array:
    """The last axis of `indices` holds places in X, behind `batch_dims` axes that both have."""
    batch = call.integer("batch_dims")
    lead = X.shape[:batch]
    x = X.array.reshape(-1, *X.shape[batch:])
    places = indices.array.reshape(len(x), *indices.shape[batch:])
    picked = [each[tuple(np.moveaxis(place, -1, 0))] for each, place in zip(x, places, strict=True)]
    return np.stack(picked).reshape(*lead, *indices.shape[batch:-1], *X.shape[batch + indices.shape[-1] :])


_COMBINE: dict[str, Callable[..., Any]] = {
    "add": np.add.at,
    "mul": np.multiply.at,
    "max": np.maximum.at,
    "min": np.minimum.at,
}


def _write(y: Array, places: tuple[Array, ...], updates: Array, how: str) -> Array:
    if how == "none":
        y[places] = updates
    else:
        _COMBINE[how](y, places, updates)
    return y


def scatter_elements(call: Call, X: Tensor, indices: Tensor, updates: Tensor) -> Array:
    """Every element of `updates` goes where `indices` says along `axis`."""
    places = list(np.indices(indices.shape, sparse=False))
    places[call.integer("axis") % X.array.ndim] = indices.array
    return _write(X.array.copy(), tuple(places), updates.array, call.text("reduction", "none"))


def scatter_nd(call: Call, X: Tensor, indices: Tensor, updates: Tensor) -> Array:
    """The last axis of `indices` says where each part of `updates` goes."""
    return _write(X.array.copy(), tuple(np.moveaxis(indices.array, -1, 0)), updates.array, call.text("reduction", "none"))


def top_k(call: Call, X: Tensor, k: Tensor | None = None) -> tuple[Array, Tensor]:
    """The k largest (or smallest) along `axis` and their places, equal ones in the order of their places."""
    x, axis = X.array, call.integer("axis", -1)
    count = int(k.scalar()) if k is not None else call.integer("k")
    if call.integer("largest", 1):
        order = np.flip(x.shape[axis] - 1 - np.argsort(np.flip(x, axis), axis, kind="stable"), axis)
    else:
        order = np.argsort(x, axis, kind="stable")
    found = np.take(order, range(count), axis)
    return (np.take_along_axis(x, found, axis), tensor_of(found.astype(np.int64), INT64))


def non_zero(call: Call, X: Tensor) -> Tensor:
    """The places of what is not zero, one column each."""
    return tensor_of(np.asarray(np.nonzero(X.array), np.int64).reshape(X.array.ndim, -1), INT64)


def one_hot(call: Call, indices: Tensor, depth: Tensor, values: Tensor) -> Tensor:
    """`values[1]` where the new axis meets the index, else `values[0]`; what is out of range is nowhere."""
    n, places = int(depth.scalar()), indices.array.astype(np.int64)
    places = np.where(places < 0, places + n, places)
    axis = call.integer("axis", -1)
    column = np.expand_dims(np.arange(n), [each for each in range(places.ndim + 1) if each != axis % (places.ndim + 1)])
    hot = np.expand_dims(places, axis) == column
    return values.like(np.where(hot, values.array[1], values.array[0]))


def compress(call: Call, X: Tensor, condition: Tensor) -> Array:
    """What lies where the condition holds, along `axis` or in the flat tensor."""
    axis = call.get("axis")
    return np.compress(condition.array, X.array, None if axis is None else int(axis))


def unique(call: Call, X: Tensor) -> tuple[Array | Tensor, ...]:
    """Each value once, with its first place, the inverse, and counts; in the order of appearance unless `sorted`."""
    axis = call.get("axis")
    y, first, inverse, counts = np.unique(X.array, True, True, True, None if axis is None else int(axis))
    inverse = inverse.ravel()
    if not call.integer("sorted", 1):
        order = np.argsort(first)
        y = np.take(y, order, None if axis is None else int(axis))
        first, counts, inverse = first[order], counts[order], np.argsort(order)[inverse]
    return (y, *(tensor_of(each.astype(np.int64), INT64) for each in (first, inverse, counts)))


def tensor_scatter(call: Call, cache: Tensor, update: Tensor, starts: Tensor | None = None) -> Array:
    """Writes `update` into each sample's cache along `axis`, from its own start on, around the end if `mode` is circular."""
    axis = call.integer("axis", -2) % cache.array.ndim
    y = cache.array.copy()
    for sample, (rows, new) in enumerate(zip(y, update.array, strict=True)):
        first = starts.ints()[sample] if starts is not None else 0
        places = first + np.arange(new.shape[axis - 1])
        if call.text("mode", "linear") == "circular":
            places %= rows.shape[axis - 1]
        np.moveaxis(rows, axis - 1, 0)[places] = np.moveaxis(new, axis - 1, 0)
    return y


OPERATORS: dict[str, Operator] = {
    "Compress": compress,
    "Gather": gather,
    "GatherElements": gather_elements,
    "GatherND": gather_nd,
    "NonZero": non_zero,
    "OneHot": one_hot,
    "Scatter": scatter_elements,
    "ScatterElements": scatter_elements,
    "ScatterND": scatter_nd,
    "TensorScatter": tensor_scatter,
    "TopK": top_k,
    "Unique": unique,
}
