"""Resize and Upsample: along each axis, every output element is a weighted sum of a few input elements."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bnfold.runtime.reference.call import Call, Operator
from bnfold.runtime.reference.value import Array, Tensor


class Axis(NamedTuple):
    """One axis that is resized.

    Attributes:
        axis: its number.
        extent: elements before.
        size: elements after.
        scale: after/before; not quite `size/extent` where that had to be rounded.
        start: of the region, for tf_crop_and_resize.
        end: of the region.
    """

    axis: int
    extent: int
    size: int
    scale: float
    start: float = 0.0
    end: float = 1.0


@dataclass(frozen=True)
class Taps:
    """What an axis reads.

    Attributes:
        places: (count, taps) which elements.
        weights: (count, taps) times what.
        outside: (count,) which output elements lie outside and get the extrapolation value.
    """

    places: Array
    weights: Array
    outside: Array


def resize(call: Call, X: Tensor, roi: Tensor | None = None, scales: Tensor | None = None, sizes: Tensor | None = None) -> Array:
    """Source: onnx/docs/Operators.md, Resize. Opset 10 is asymmetric, rounds down, and has only scales beside X."""
    if call.opset < 11:
        roi, scales = None, roi
    axes = [axis % X.array.ndim for axis in call.integers("axes", range(X.array.ndim))]
    return _resized(call, X.array, _planned(call, X.shape, axes, roi, scales, sizes))


def upsample(call: Call, X: Tensor, scales: Tensor | None = None) -> Array:
    """Resize of opset 10; scales are an attribute below opset 9."""
    given = scales.array if scales is not None else np.asarray(call.get("scales"), np.float64)
    axes = [Axis(axis, n, _grown(n, scale), float(scale)) for axis, (n, scale) in enumerate(zip(X.shape, given, strict=True))]
    return _resized(call, X.array, axes)


def _planned(
    call: Call, shape: Sequence[int], axes: Sequence[int], roi: Tensor | None, scales: Tensor | None, sizes: Tensor | None
) -> list[Axis]:
    extents = [shape[axis] for axis in axes]
    if sizes is not None and sizes.array.size:
        counts, factors = _kept_aspect(call, extents, sizes.ints())
    elif scales is not None and scales.array.size:
        factors = [float(each) for each in scales.array]
        counts = [_grown(n, factor) for n, factor in zip(extents, factors, strict=True)]
    else:
        raise ValueError("neither scales nor sizes are given")
    region = roi.array if roi is not None and roi.array.size else np.repeat([0.0, 1.0], len(axes))
    rows = zip(axes, extents, counts, factors, region[: len(axes)], region[len(axes) :], strict=True)
    return [Axis(axis, n, count, factor, float(start), float(end)) for axis, n, count, factor, start, end in rows]


def _kept_aspect(call: Call, extents: Sequence[int], sizes: Sequence[int]) -> tuple[list[int], list[float]]:
    factors = [size / n for size, n in zip(sizes, extents, strict=True)]
    policy = call.text("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return list(sizes), factors
    factor = min(factors) if policy == "not_larger" else max(factors)
    return [math.floor(factor * n + 0.5) for n in extents], [factor] * len(extents)


def _grown(extent: int, scale: float) -> int:
    """The new extent. In float32, as scales are and as runtimes do it: 10 · 0.7 is 7 there."""
    return int(np.floor(np.float32(extent) * np.float32(scale)))


def _resized(call: Call, x: Array, axes: Sequence[Axis]) -> Array:
    crops = call.text("coordinate_transformation_mode") == "tf_crop_and_resize"
    y = x.astype(np.float64)
    outside = []
    for each in axes:
        if each.scale == 1 and each.size == each.extent and not crops:
            continue
        taps = _taps(call, each)
        y = _applied(y, each.axis, taps)
        outside.append((each.axis, taps.outside))
    for axis, places in outside:
        index: list[slice | Array] = [slice(None)] * y.ndim
        index[axis] = places
        y[tuple(index)] = call.number("extrapolation_value", 0.0)
    return y if x.dtype.kind == "f" else np.rint(y)


def _applied(x: Array, axis: int, taps: Taps) -> Array:
    """`y[o] = Σ weights[o, t]·x[places[o, t]]` along one axis."""
    shape = [-1 if each == axis else 1 for each in range(x.ndim)]
    columns = list(zip(taps.places.T, taps.weights.T, strict=True))
    if len(columns) == 1:
        return np.asarray(np.take(x, columns[0][0], axis))
    y = np.zeros([len(taps.places) if each == axis else n for each, n in enumerate(x.shape)])
    for places, weights in columns:
        y += np.take(x, places, axis) * weights.reshape(shape)
    return y


def _taps(call: Call, axis: Axis) -> Taps:
    mode = call.text("mode", "nearest")
    nearest = mode == "nearest"
    at = _coordinates(call, axis, np.dtype(np.float32 if nearest else np.float64))
    crops = call.text("coordinate_transformation_mode") == "tf_crop_and_resize"
    outside = (at < 0) | (at > axis.extent - 1) if crops else np.zeros(axis.size, bool)
    if nearest:
        places = np.clip(_rounded(call, at), 0, axis.extent - 1).astype(np.int64)
        return Taps(places[:, None], np.ones((axis.size, 1)), outside)
    radius, kernel = (2.0, cubic(call.number("cubic_coeff_a", -0.75))) if mode == "cubic" else (1.0, _triangle)
    stretch = min(1.0, axis.scale) if call.integer("antialias") else 1.0
    width = math.ceil(2 * radius / stretch)
    places = np.floor(at - radius / stretch).astype(np.int64)[:, None] + 1 + np.arange(width)
    weights = kernel((places - at[:, None]) * stretch)
    if call.integer("exclude_outside"):
        weights = np.where((places < 0) | (places >= axis.extent), 0.0, weights)
    weights = weights / weights.sum(1, keepdims=True)
    return Taps(np.clip(places, 0, axis.extent - 1), weights, outside)


def _coordinates(call: Call, axis: Axis, dtype: np.dtype[np.floating]) -> Array:
    """Where each output element lies in the input.

    For `nearest` in float32, as scales are and as runtimes do it: which neighbour is taken must not hang on the 30th bit.
    """
    default = "half_pixel" if call.opset >= 11 else "asymmetric"
    mode = call.text("coordinate_transformation_mode", default)
    number, n, count = np.arange(axis.size).astype(dtype), axis.extent, axis.size
    scale, one = dtype.type(axis.scale), dtype.type(1)
    half = one / 2
    if mode == "asymmetric":
        return np.asarray(number / scale)
    if mode == "align_corners":
        return np.asarray(number * dtype.type(n - 1) / dtype.type(max(1, count - 1)))
    if mode == "tf_crop_and_resize":
        if count == 1:
            return np.full(1, 0.5 * (axis.start + axis.end) * (n - 1), dtype)
        return np.asarray(axis.start * (n - 1) + number * ((axis.end - axis.start) * (n - 1) / (count - 1)), dtype)
    if mode == "tf_half_pixel_for_nn":
        return np.asarray((number + half) / scale)
    if mode == "pytorch_half_pixel" and count == 1:
        return np.zeros(1, dtype)
    if mode == "half_pixel_symmetric":
        shift = n / 2 * (1 - count / (axis.scale * n))
        return np.asarray(shift + (number + half) / scale - half, dtype)
    return np.asarray((number + half) / scale - half)


def _rounded(call: Call, at: Array) -> Array:
    mode = call.text("nearest_mode", "round_prefer_floor" if call.opset >= 11 else "floor")
    if mode == "floor":
        return np.floor(at)
    if mode == "ceil":
        return np.ceil(at)
    return np.asarray(np.ceil(at - 0.5) if mode == "round_prefer_floor" else np.floor(at + 0.5))


def _triangle(x: Array) -> Array:
    return np.asarray(np.maximum(0.0, 1.0 - np.abs(x)))


def cubic(a: float) -> Callable[[Array], Array]:
    """Keys' kernel ("Cubic convolution interpolation for digital image processing", IEEE ASSP 29(6), 1981)."""

    def kernel(x: Array) -> Array:
        d = np.abs(x)
        near = ((a + 2) * d - (a + 3)) * d * d + 1
        far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
        return np.where(d <= 1, near, np.where(d < 2, far, 0.0))

    return kernel


OPERATORS: dict[str, Operator] = {"Resize": resize, "Upsample": upsample}
