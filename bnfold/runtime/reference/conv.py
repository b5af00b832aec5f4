"""Conv: one matrix product per chunk of unfolded windows, or a loop over the kernel where every channel is on its own."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from bnfold.runtime.reference.call import Call, Operator
from bnfold.runtime.reference.value import Array, Tensor
from bnfold.runtime.reference.windows import Windows, windows

_CHUNK_ELEMENTS = 1 << 20
"""Elements of the unfolded windows that are held at a time: 8 MiB, which stays near the caches."""

_BLOCK_ELEMENTS = 1 << 15
"""Elements of the output that are added up at a time where every channel is on its own."""


def conv(call: Call, X: Tensor, W: Tensor, B: Tensor | None = None) -> Array:
    """`Y[n, m] = Σ W[m, c, k]·X[n, c, s·o + d·k − pad] + B[m]`, over the channels c of m's group and the taps k."""
    y = convolve(call, X.array, W.array)
    if B is not None:
        y += B.array.reshape(-1, *[1] * (y.ndim - 2))
    return y


def convolve(call: Call, x: Array, w: Array) -> Array:
    """The convolution of float64 `x` (N, C, *spatial) with `w` (M, C / group, *kernel), without bias."""
    groups = call.integer("group", 1)
    if x.shape[1] != groups * w.shape[1] or w.shape[0] % groups:
        raise ValueError(f"{x.shape[1]} channels and {groups} groups do not fit a weight of shape {list(w.shape)}")
    place = windows(call, x.shape[2:], w.shape[2:])
    padded = place.padded(x)
    y = np.empty((len(x), len(w), *place.counts))
    if not y.size:
        return y
    if groups > 1 and w.shape[1] == 1:
        _each_channel(y, padded, w, place)
    else:
        _by_products(y, padded, w.reshape(groups, len(w) // groups, -1), place)
    return y


def _each_channel(y: Array, x: Array, w: Array, place: Windows) -> None:
    """Depthwise: tap by tap, some channels at a time, so that what is added up stays in the cache."""
    channels, multiple = x.shape[1], y.shape[1] // x.shape[1]
    block = max(1, _BLOCK_ELEMENTS // (multiple * math.prod(place.counts)))
    kernels = w.reshape(channels, multiple, *place.kernel, *[1] * len(place.kernel))
    for sample, out in zip(x, y.reshape(len(y), channels, multiple, *place.counts), strict=True):
        for first in range(0, channels, block):
            some, total, kernel = sample[first : first + block, None], out[first : first + block], kernels[first : first + block]
            total[...] = 0.0
            scratch = np.empty(total.shape)
            for tap in np.ndindex(*place.kernel):
                np.multiply(place.tap(some, tap), kernel[(slice(None), slice(None), *tap)], out=scratch)
                total += scratch


def _by_products(y: Array, x: Array, w: Array, place: Windows) -> None:
    """`w` (group, M / group, C / group · taps) times the windows as columns, several samples or some rows at a time."""
    groups, out_channels, taps = w.shape
    if place.is_pointwise:
        np.matmul(w, x.reshape(len(x), groups, taps, -1), out=y.reshape(len(x), groups, out_channels, -1))
        return
    row = groups * taps * math.prod(place.counts[1:])
    samples = max(1, _CHUNK_ELEMENTS // (row * place.counts[0]))
    rows = place.counts[0] if samples > 1 else max(1, _CHUNK_ELEMENTS // row)
    view = _unfolded(x, groups, place)
    out = y.reshape(len(y), groups, out_channels, *place.counts)
    for first in range(0, len(x), samples):
        for top in range(0, place.counts[0], rows):
            window: Any = (..., slice(first, first + samples), slice(top, top + rows), *[slice(None)] * (len(place.counts) - 1))
            chunk = view[window]
            inside = chunk.shape[2 + len(place.kernel) :]
            product = w @ chunk.reshape(groups, taps, -1)
            result = np.moveaxis(product.reshape(groups, out_channels, *inside), 2, 0)
            out[first : first + samples, :, :, top : top + rows] = result


def _unfolded(x: Array, groups: int, place: Windows) -> Array:
    """A view (group, C / group, *kernel, N, *windows) of padded `x` (N, C, *spatial)."""
    channels, rank = x.shape[1] // groups, len(place.kernel)
    spatial = x.strides[-rank:]
    shape = (groups, channels, *place.kernel, len(x), *place.counts)
    taps = [stride * d for stride, d in zip(spatial, place.dilations, strict=True)]
    steps = [stride * s for stride, s in zip(spatial, place.strides, strict=True)]
    strides = (x.strides[1] * channels, x.strides[1], *taps, x.strides[0], *steps)
    return as_strided(x, shape, strides, writeable=False)


OPERATORS: dict[str, Operator] = {"Conv": conv}
