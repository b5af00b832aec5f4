"""The evaluator of `reference.py` with the operators of the fold algebra: pooling, padding, resizing, quantized weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.reference import FLOATS, OPERATORS, Call, Value, evaluate

__all__ = ["evaluate"]

Reduce = Callable[[np.ndarray, int], float]


# -- pooling --------------------------------------------------------------------------------------------------------------


def _windows(call: Call, extents: tuple[int, ...]) -> tuple[list[list[list[int]]], list[tuple[int, int]]]:
    """For each axis and output position the indices that a window covers, padding included, and the padding of each axis."""
    kernel = call.get("kernel_shape")
    strides = call.get("strides", [1] * len(kernel))
    dilations = call.get("dilations", [1] * len(kernel))
    given, mode = call.get("pads", [0] * 2 * len(kernel)), call.get("auto_pad", b"NOTSET")
    axes, pads = [], []
    for axis, (n, k, s, d) in enumerate(zip(extents, kernel, strides, dilations, strict=True)):
        span = (k - 1) * d + 1
        begin, end = given[axis], given[axis + len(kernel)]
        if mode in (b"SAME_UPPER", b"SAME_LOWER"):
            total = max(0, (-(-n // s) - 1) * s + span - n)
            begin, end = (total // 2, total - total // 2) if mode == b"SAME_UPPER" else (total - total // 2, total // 2)
        steps = (n + begin + end - span) / s
        count = (math.ceil(steps) if call.get("ceil_mode", 0) else math.floor(steps)) + 1
        if call.get("ceil_mode", 0) and (count - 1) * s >= n + begin:  # no window starts in the padding at the end
            count -= 1
        axes.append([[place * s - begin + tap * d for tap in range(k)] for place in range(count)])
        pads.append((begin, end))
    return axes, pads


def _pool(call: Call, X: Value, average: bool) -> np.ndarray:
    x = X.array
    axes, pads = _windows(call, x.shape[2:])
    y = np.empty((*x.shape[:2], *(len(axis) for axis in axes)))
    for place in np.ndindex(*y.shape[2:]):
        windows = [axis[at] for axis, at in zip(axes, place, strict=True)]
        inside = [[i for i in window if 0 <= i < n] for window, n in zip(windows, x.shape[2:], strict=True)]
        values = x[(slice(None), slice(None), *np.ix_(*inside))].reshape(*x.shape[:2], -1)
        if not average:
            y[(..., *place)] = values.max(axis=2)
            continue
        size = math.prod(len(window) for window in inside)
        if call.get("count_include_pad", 0):
            counted = [
                [i for i in window if -begin <= i < n + end]
                for window, n, (begin, end) in zip(windows, x.shape[2:], pads, strict=True)
            ]
            size = math.prod(len(window) for window in counted)
        y[(..., *place)] = values.sum(axis=2) / size
    return y


def max_pool(call: Call, X: Value) -> list[np.ndarray | Value]:
    y = _pool(call, X, average=False)
    if call.outputs < 2:
        return [y]
    x, rows = X.array.reshape(-1, *X.array.shape[2:]), y.reshape(-1, *y.shape[2:])
    axes, _ = _windows(call, X.array.shape[2:])
    found = np.zeros(rows.shape, np.int64)
    for at in np.ndindex(*rows.shape):
        for taps in np.ndindex(*(len(axis[0]) for axis in axes)):
            place = [axis[o][tap] for axis, o, tap in zip(axes, at[1:], taps, strict=True)]
            if all(0 <= i < n for i, n in zip(place, x.shape[1:], strict=True)) and x[(at[0], *place)] == rows[at]:
                found[at] = np.ravel_multi_index((at[0], *place), x.shape)
                break
    return [y, Value(found.reshape(y.shape), 7)]


def reduce_mean(call: Call, X: Value, axes: Value | None = None) -> np.ndarray:
    given = axes.array.tolist() if axes is not None else call.get("axes", [])
    if not given and call.get("noop_with_empty_axes", 0):
        return X.array
    return X.array.mean(tuple(given) or None, keepdims=bool(call.get("keepdims", 1)))


# -- shapes ---------------------------------------------------------------------------------------------------------------


def reshape(call: Call, X: Value, shape: Value | None = None) -> np.ndarray:
    wanted = shape.array.tolist() if shape is not None else call.get("shape")
    keeps = not call.get("allowzero", 0)
    return X.array.reshape([X.array.shape[axis] if n == 0 and keeps else n for axis, n in enumerate(wanted)])


def flatten(call: Call, X: Value) -> np.ndarray:
    axis = call.get("axis", 1)
    front = X.array.shape[: axis % X.array.ndim if axis < 0 else axis]
    return X.array.reshape(math.prod(front), math.prod(X.array.shape[len(front) :]))


def split(call: Call, X: Value, sizes: Value | None = None) -> list[np.ndarray]:
    axis = call.get("axis", 0)
    extent = X.array.shape[axis]
    chunk = -(-extent // call.outputs)
    parts = sizes.array.tolist() if sizes is not None else call.get("split")
    parts = parts or [min(chunk, extent - chunk * place) for place in range(call.outputs)]
    return list(np.split(X.array, np.cumsum(parts)[:-1], axis))


def slice_of(call: Call, X: Value, *bounds: Value | None) -> np.ndarray:
    if bounds:
        starts, ends, axes, steps = ([None if each is None else each.array.tolist() for each in bounds] + [None] * 2)[:4]
    else:
        starts, ends, axes, steps = call.get("starts"), call.get("ends"), call.get("axes"), None
    index = [slice(None)] * X.array.ndim
    places = axes if axes is not None else range(len(starts))
    for axis, start, end, step in zip(places, starts, ends, steps or [1] * len(starts), strict=True):
        index[axis] = slice(start, end, step)
    return X.array[tuple(index)]


def pad(call: Call, X: Value, pads: Value | None = None, border: Value | None = None, axes: Value | None = None) -> np.ndarray:
    given = pads.array.tolist() if pads is not None else call.get("pads") or call.get("paddings")
    fill = float(border.array.ravel()[0]) if border is not None else call.get("value", 0.0)
    places = [int(each) % X.array.ndim for each in axes.array] if axes is not None else list(range(X.array.ndim))
    widths = [(0, 0)] * X.array.ndim
    for place, axis in enumerate(places):
        widths[axis] = (given[place], given[place + len(places)])
    cut = tuple(slice(max(0, -begin), n - max(0, -end)) for n, (begin, end) in zip(X.array.shape, widths, strict=True))
    widths = [(max(0, begin), max(0, end)) for begin, end in widths]
    mode = call.get("mode", b"constant").decode()
    return np.pad(X.array[cut], widths, mode=mode, **({"constant_values": fill} if mode == "constant" else {}))


def depth_to_space(call: Call, X: Value) -> np.ndarray:
    (n, c, h, w), b = X.array.shape, call.get("blocksize")
    if call.get("mode", b"DCR") == b"DCR":
        return X.array.reshape(n, b, b, c // b**2, h, w).transpose(0, 3, 4, 1, 5, 2).reshape(n, c // b**2, h * b, w * b)
    return X.array.reshape(n, c // b**2, b, b, h, w).transpose(0, 1, 4, 2, 5, 3).reshape(n, c // b**2, h * b, w * b)


def space_to_depth(call: Call, X: Value) -> np.ndarray:
    (n, c, h, w), b = X.array.shape, call.get("blocksize")
    return X.array.reshape(n, c, h // b, b, w // b, b).transpose(0, 3, 5, 1, 2, 4).reshape(n, c * b**2, h // b, w // b)


# -- resizing -------------------------------------------------------------------------------------------------------------


def resize(call: Call, X: Value, *rest: Value | None) -> np.ndarray:
    roi, scales, sizes = (None, rest[0], None) if len(rest) == 1 else (*rest, None, None, None)[:3]
    given = scales.array.tolist() if scales is not None else call.get("scales", [])
    axes = [each % X.array.ndim for each in call.get("axes", range(X.array.ndim))]
    coordinates = call.get("coordinate_transformation_mode", b"half_pixel" if call.opset >= 11 else b"asymmetric")
    y = X.array
    for place, axis in enumerate(axes):
        n = X.array.shape[axis]
        out = int(sizes.array[place]) if sizes is not None else math.floor(n * given[place])
        scale = given[place] if given else out / n
        region = (roi.array[place], roi.array[place + len(axes)]) if roi is not None and roi.array.size else (0.0, 1.0)
        matrix, outside = _interpolation(call, n, out, scale, coordinates, region)
        y = np.moveaxis(np.tensordot(matrix, y, (1, axis)), 0, axis)
        index: list[Any] = [slice(None)] * y.ndim
        index[axis] = outside
        y[tuple(index)] = call.get("extrapolation_value", 0.0)
    return y


def _interpolation(
    call: Call, n: int, out: int, scale: float, coordinates: bytes, region: tuple[float, float]
) -> tuple[np.ndarray, list[int]]:
    """The matrix (out × n) that resizes one axis, and the places that lie outside of it."""
    linear, matrix, outside = call.get("mode", b"nearest") != b"nearest", np.zeros((out, n)), []
    for place in range(out):
        if coordinates == b"asymmetric":
            at = place / scale
        elif coordinates == b"align_corners":
            at = place * (n - 1) / (out - 1) if out > 1 else 0.0
        elif coordinates == b"tf_crop_and_resize":
            start, end = region
            at = start * (n - 1) + place * (end - start) * (n - 1) / (out - 1) if out > 1 else 0.5 * (start + end) * (n - 1)
            if not 0 <= at <= n - 1:
                outside.append(place)
                continue
        elif coordinates == b"pytorch_half_pixel" and out == 1:
            at = 0.0
        else:
            at = (place + 0.5) / scale - 0.5
        if not linear:
            matrix[place, min(max(_nearest(call, at), 0), n - 1)] = 1.0
            continue
        low, weight = math.floor(at), at - math.floor(at)
        matrix[place, min(max(low, 0), n - 1)] += 1 - weight
        matrix[place, min(max(low + 1, 0), n - 1)] += weight
    return matrix, outside


def _nearest(call: Call, at: float) -> int:
    mode = call.get("nearest_mode", b"round_prefer_floor" if call.opset >= 11 else b"floor")
    if mode == b"floor":
        return math.floor(at)
    if mode == b"ceil":
        return math.ceil(at)
    return math.ceil(at - 0.5) if mode == b"round_prefer_floor" else math.floor(at + 0.5)


# -- quantized weights ----------------------------------------------------------------------------------------------------


def dequantize(call: Call, X: Value, scale: Value, zero: Value | None = None) -> Value:
    def spread(values: np.ndarray) -> np.ndarray:
        if values.size == 1:
            return values.reshape(())
        axis = call.get("axis", 1) % X.array.ndim
        if values.ndim > 1:
            return np.repeat(values, call.get("block_size"), axis)
        return values.reshape([-1 if place == axis else 1 for place in range(X.array.ndim)])

    offset = spread(zero.array.astype(np.float64)) if zero is not None else 0.0
    assert scale.elem_type in FLOATS
    return Value((X.array.astype(np.float64) - offset) * spread(scale.array), scale.elem_type)


def prelu(call: Call, X: Value, slope: Value) -> np.ndarray:
    return np.where(X.array < 0, slope.array * X.array, X.array)


def _sum(call: Call, *inputs: Value) -> np.ndarray:
    return np.asarray(sum(each.array for each in inputs))


OPERATORS.update(
    {
        "AveragePool": lambda call, X: _pool(call, X, average=True),
        "DepthToSpace": depth_to_space,
        "DequantizeLinear": dequantize,
        "Flatten": flatten,
        "GlobalAveragePool": lambda call, X: X.array.mean(tuple(range(2, X.array.ndim)), keepdims=True),
        "GlobalMaxPool": lambda call, X: X.array.max(tuple(range(2, X.array.ndim)), keepdims=True),
        "LeakyRelu": lambda call, X: np.where(X.array < 0, call.get("alpha", 0.01) * X.array, X.array),
        "MaxPool": max_pool,
        "PRelu": prelu,
        "Pad": pad,
        "ReduceMean": reduce_mean,
        "Reshape": reshape,
        "Resize": resize,
        "Slice": slice_of,
        "SpaceToDepth": space_to_depth,
        "Split": split,
        "Sum": _sum,
        "Tanh": lambda call, X: np.tanh(X.array),
        "Upsample": resize,
    }
)
