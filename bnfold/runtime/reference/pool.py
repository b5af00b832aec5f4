"""Pooling by a loop over the kernel: Max, Average, Lp, and their global forms."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bnfold.runtime.reference.call import Call, Operator
from bnfold.runtime.reference.value import INT64, Array, Tensor, tensor_of
from bnfold.runtime.reference.windows import Windows, windows


def max_pool(call: Call, X: Tensor) -> tuple[Array | Tensor, ...]:
    """The largest element of each window, and where it lies in the flat input."""
    x = X.array
    place = windows(call, x.shape[2:], call.integers("kernel_shape"))
    padded = place.padded(x, _lowest(x))
    y = np.full((*x.shape[:2], *place.counts), _lowest(x), x.dtype)
    if call.outputs < 2:
        for tap in np.ndindex(*place.kernel):
            np.maximum(y, place.tap(padded, tap), out=y)
        return (y,)
    found = np.full(y.shape, -1, np.int64)
    numbers = place.padded(_numbered(x.shape, bool(call.integer("storage_order"))), -1)
    for tap in np.ndindex(*place.kernel):
        values, places = place.tap(padded, tap), place.tap(numbers, tap)
        better = (places >= 0) & ((values > y) | (found < 0))
        np.copyto(y, values, where=better)
        np.copyto(found, np.broadcast_to(places, y.shape), where=better)
    return (y, tensor_of(found, INT64))


def _lowest(x: Array) -> float | int:
    return -np.inf if x.dtype.kind == "f" else int(np.iinfo(x.dtype).min)


def _numbered(shape: Sequence[int], column_major: bool) -> Array:
    """The number of every element, counted through (N, C, *spatial); the spatial axes count the first one fastest if asked to."""
    spatial = np.arange(int(np.prod(shape[2:]))).reshape(shape[2:], order="F" if column_major else "C")
    planes = np.arange(shape[0] * shape[1]).reshape(*shape[:2], *[1] * (len(shape) - 2))
    return np.asarray(planes * spatial.size + spatial)


def average_pool(call: Call, X: Tensor) -> Array:
    """The mean of each window: over what lies inside the input, or inside the padding too with `count_include_pad`."""
    x = X.array
    place = windows(call, x.shape[2:], call.integers("kernel_shape"))
    y = _summed(x, place)
    y /= _sizes(place, x.shape[2:], bool(call.integer("count_include_pad")))
    return y


def _summed(x: Array, place: Windows) -> Array:
    padded = place.padded(x)
    y = np.zeros((*x.shape[:2], *place.counts))
    for tap in np.ndindex(*place.kernel):
        y += place.tap(padded, tap)
    return y


def _sizes(place: Windows, extents: Sequence[int], with_padding: bool) -> Array:
    """How many elements each window covers. What `ceil_mode` adds beyond the padding counts for nothing."""
    sizes = np.ones([1] * len(extents))
    for axis, n in enumerate(extents):
        starts = np.arange(place.counts[axis]) * place.strides[axis] - place.begins[axis]
        taps = starts[:, None] + np.arange(place.kernel[axis]) * place.dilations[axis]
        low, high = (-place.begins[axis], n + place.ends[axis]) if with_padding else (0, n)
        inside = ((taps >= low) & (taps < high)).sum(1)
        sizes = sizes * inside.reshape([-1 if each == axis else 1 for each in range(len(extents))])
    return sizes


def lp_pool(call: Call, X: Tensor) -> Array:
    """`(Σ |x|ᵖ)^(1/p)` over each window."""
    p = call.number("p", 2)
    place = windows(call, X.shape[2:], call.integers("kernel_shape"))
    return np.asarray(_summed(np.abs(X.array) ** p, place) ** (1 / p))


def _spatial(X: Tensor) -> tuple[int, ...]:
    return tuple(range(2, X.array.ndim))


def global_average_pool(call: Call, X: Tensor) -> Array:
    """The mean of every channel."""
    return np.asarray(X.array.mean(_spatial(X), keepdims=True))


def global_max_pool(call: Call, X: Tensor) -> Array:
    """The largest element of every channel."""
    return np.asarray(X.array.max(_spatial(X), keepdims=True))


def global_lp_pool(call: Call, X: Tensor) -> Array:
    """`(Σ |x|ᵖ)^(1/p)` over every channel."""
    p = call.number("p", 2)
    return np.asarray((np.abs(X.array) ** p).sum(_spatial(X), keepdims=True) ** (1 / p))


def max_unpool(call: Call, X: Tensor, indices: Tensor, output_shape: Tensor | None = None) -> Array:
    """Puts every element where `indices` says, in zeros. The indices count through the shape that the attributes imply."""
    kernel = call.integers("kernel_shape")
    rank = len(kernel)
    strides, pads = call.integers("strides", [1] * rank), call.integers("pads", [0] * 2 * rank)
    sizes = zip(X.shape[2:], strides, kernel, pads[:rank], pads[rank:], strict=True)
    implied = (*X.shape[:2], *((n - 1) * s + k - a - b for n, s, k, a, b in sizes))
    y = np.zeros(int(np.prod(implied)))
    y[indices.array.ravel()] = X.array.ravel()
    y = y.reshape(implied)
    if output_shape is None:
        return y
    wide = np.zeros(output_shape.ints())
    wide[tuple(slice(0, n) for n in implied)] = y
    return wide


OPERATORS: dict[str, Operator] = {
    "AveragePool": average_pool,
    "GlobalAveragePool": global_average_pool,
    "GlobalLpPool": global_lp_pool,
    "GlobalMaxPool": global_max_pool,
    "LpPool": lp_pool,
    "MaxPool": max_pool,
    "MaxUnpool": max_unpool,
}
