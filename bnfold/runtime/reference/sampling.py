"""Reading an image between its elements: GridSample, RoiAlign, DeformConv; and Col2Im, which writes windows back."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np

from bnfold.runtime.reference.call import Call, Operator
from bnfold.runtime.reference.resize import cubic
from bnfold.runtime.reference.value import Array, Tensor
from bnfold.runtime.reference.windows import region

Moved = Callable[[Array, int], Array]
"""Takes places along an axis of some extent to where padding has them read."""


def grid_sample(call: Call, X: Tensor, grid: Tensor) -> Array:
    """Reads X where `grid` says, from −1 to 1 along each axis, innermost axis first."""
    x, corners = X.array, bool(call.integer("align_corners"))
    extents = x.shape[2:]
    places = [_unscaled(grid.array[..., -1 - axis], n, corners).reshape(len(x), -1) for axis, n in enumerate(extents)]
    moved = _padding(call.text("padding_mode", "zeros"), corners)
    mode = call.text("mode", "linear").removeprefix("bi")
    if mode == "cubic":
        y = _weighted(x, [_cubic_taps(place) for place in places], moved)
    else:
        within = [moved(place, n) for place, n in zip(places, extents, strict=True)]
        taps = _linear_taps if mode == "linear" else _nearest_taps
        y = _weighted(x, [taps(place) for place in within])
    return y.reshape(*x.shape[:2], *grid.shape[1:-1])


def _unscaled(at: Array, n: int, corners: bool) -> Array:
    return np.asarray((at + 1) / 2 * (n - 1) if corners else ((at + 1) * n - 1) / 2)


def _padding(mode: str, corners: bool) -> Moved:
    if mode == "border":
        return lambda at, n: np.clip(at, 0, n - 1)
    if mode == "reflection":
        return lambda at, n: np.clip(_reflected(at, *((0, n - 1) if corners else (-0.5, n - 0.5))), 0, n - 1)
    return lambda at, n: at


def _reflected(at: Array, low: float, high: float) -> Array:
    span = high - low
    if span == 0:
        return np.full_like(at, low)
    beyond = np.mod(at - low, 2 * span)
    return np.asarray(low + np.where(beyond > span, 2 * span - beyond, beyond))


Taps = list[tuple[Array, Array]]
"""Places (as floats) and the weights of what lies there."""


def _nearest_taps(at: Array) -> Taps:
    return [(np.rint(at), np.ones(()))]


def _linear_taps(at: Array) -> Taps:
    low = np.floor(at)
    return [(low, 1 - (at - low)), (low + 1, at - low)]


def _cubic_taps(at: Array) -> Taps:
    low, kernel = np.floor(at), cubic(-0.75)
    return [(low + step, kernel(at - low - step)) for step in (-1, 0, 1, 2)]


def _weighted(x: Array, taps: Sequence[Taps], moved: Moved = lambda at, n: at) -> Array:
    """The sum over all combinations of taps; x is (N, C, *spatial), places are (N, P), and outside of x is zero."""
    extents, flat = x.shape[2:], x.reshape(*x.shape[:2], -1)
    total: Array = np.zeros(())
    for corner in itertools.product(*taps):
        index, inside, weight = np.zeros((), np.int64), np.ones((), bool), np.ones(())
        for (place, part), n in zip(corner, extents, strict=True):
            at = moved(place, n)
            inside = inside & (at >= 0) & (at <= n - 1)
            index = index * n + np.clip(np.nan_to_num(at), 0, n - 1).astype(np.int64)
            weight = weight * part
        total = total + np.take_along_axis(flat, index[:, None], 2) * np.where(inside, weight, 0.0)[:, None]
    return total


def roi_align(call: Call, X: Tensor, rois: Tensor, batch_indices: Tensor) -> Array:
    """The mean of values read at a grid of points in each cell of each region."""
    if call.text("mode", "avg") != "avg":
        raise call.refuse("mode max")
    x, shift = X.array, 0.5 if call.text("coordinate_transformation_mode", _roi_default(call)) == "half_pixel" else 0.0
    rows, columns = call.integer("output_height", 1), call.integer("output_width", 1)
    y = np.empty((len(rois.array), x.shape[1], rows, columns))
    for out, roi, sample in zip(y, rois.array * call.number("spatial_scale", 1.0), batch_indices.ints(), strict=True):
        left, top, right, bottom = roi - shift
        least = 0.0 if shift else 1.0
        points = [
            _roi_points(start, max(end - start, least), count, call.integer("sampling_ratio"), n)
            for start, end, count, n in ((top, bottom, rows, x.shape[2]), (left, right, columns, x.shape[3]))
        ]
        (v, inside_v), (h, inside_h) = points
        grid_v, grid_h = np.repeat(v.ravel(), h.size)[None], np.tile(h.ravel(), v.size)[None]
        values = _weighted(x[sample : sample + 1], [_linear_taps(grid_v), _linear_taps(grid_h)])[0]
        values = values.reshape(-1, *v.shape, *h.shape) * np.multiply.outer(inside_v, inside_h)
        out[...] = values.mean((2, 4))
    return y


def _roi_default(call: Call) -> str:
    return "half_pixel" if call.opset >= 16 else "output_half_pixel"


def _roi_points(start: float, span: float, count: int, ratio: int, extent: int) -> tuple[Array, Array]:
    """Where each cell is read along one axis, (count, points), and whether that is inside."""
    points = ratio if ratio > 0 else max(1, math.ceil(span / count))
    cell = span / count
    at = start + cell * (np.arange(count)[:, None] + (np.arange(points) + 0.5) / points)
    inside = (at >= -1) & (at <= extent)
    return np.clip(at, 0, extent - 1), inside


def deform_conv(call: Call, X: Tensor, W: Tensor, offset: Tensor, B: Tensor | None = None, mask: Tensor | None = None) -> Array:
    """A convolution whose taps are moved by `offset`, each read between elements and weighted with `mask`."""
    x, w = X.array, W.array
    kernel, out = w.shape[2:], offset.shape[2:]
    rank, taps = len(kernel), math.prod(kernel)
    strides, dilations = call.integers("strides", [1] * rank), call.integers("dilations", [1] * rank)
    pads, groups, parts = call.integers("pads", [0] * 2 * rank), call.integer("group", 1), call.integer("offset_group", 1)
    samples, channels = x.shape[:2]
    moves = offset.array.reshape(samples, parts, taps, rank, *out)
    weights = np.ones((samples, parts, taps, *out)) if mask is None else mask.array.reshape(samples, parts, taps, *out)
    column = (-1, *[1] * rank)
    starts = np.indices(out) * np.reshape(strides, column) - np.reshape(pads[:rank], column)
    columns = np.empty((samples, channels, taps, math.prod(out)))
    block = channels // parts
    for part in range(parts):
        own = x[:, part * block : (part + 1) * block]
        for number, tap in enumerate(np.ndindex(*kernel)):
            base = starts + np.reshape(tap, column) * np.reshape(dilations, column)
            at = (base + moves[:, part, number]).reshape(samples, rank, -1)
            values = _weighted(own, [_linear_taps(at[:, axis]) for axis in range(rank)])
            columns[:, part * block : (part + 1) * block, number] = values * weights[:, part, number].reshape(samples, 1, -1)
    split = columns.reshape(samples, groups, channels // groups * taps, -1)
    y = (w.reshape(groups, len(w) // groups, -1) @ split).reshape(samples, -1, *out)
    return y if B is None else y + B.array.reshape(-1, *[1] * rank)


def col2im(call: Call, columns: Tensor, image_shape: Tensor, block_shape: Tensor) -> Array:
    """Windows, one per column, added up where they lie in the image."""
    image, block = image_shape.ints(), block_shape.ints()
    rank = len(image)
    strides, dilations = call.integers("strides", [1] * rank), call.integers("dilations", [1] * rank)
    pads = call.integers("pads", [0] * 2 * rank)
    wide = [n + a + b for n, a, b in zip(image, pads[:rank], pads[rank:], strict=True)]
    steps = zip(wide, block, dilations, strides, strict=True)
    counts = [(n - (k - 1) * d - 1) // s + 1 for n, k, d, s in steps]
    samples = len(columns.array)
    parts = columns.array.reshape(samples, -1, *block, *counts)
    y = np.zeros((samples, parts.shape[1], *wide))
    for tap in np.ndindex(*block):
        starts = [p * d for p, d in zip(tap, dilations, strict=True)]
        y[region(starts, counts, strides)] += parts[(slice(None), slice(None), *tap)]
    return np.asarray(y[region(pads[:rank], image)])


OPERATORS: dict[str, Operator] = {
    "Col2Im": col2im,
    "DeformConv": deform_conv,
    "GridSample": grid_sample,
    "RoiAlign": roi_align,
}
