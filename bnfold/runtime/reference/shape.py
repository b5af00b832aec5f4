"""Shapes: reshaping, moving and joining axes, cutting, padding, repeating."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from bnfold.runtime.reference.call import Call, Operator, axes_of
from bnfold.runtime.reference.value import INT64, Array, Tensor, tensor_of


def reshape(call: Call, X: Tensor, shape: Tensor | None = None) -> Array:
    """0 keeps an extent unless `allowzero`; −1 is what is left."""
    wanted = shape.ints() if shape is not None else call.integers("shape")
    if not call.integer("allowzero"):
        wanted = [X.shape[axis] if n == 0 else n for axis, n in enumerate(wanted)]
    return X.array.reshape(wanted)


def flatten(call: Call, X: Tensor) -> Array:
    """Two axes: those before `axis` and those from it on."""
    axis = call.integer("axis", 1)
    front = X.shape[: axis + X.array.ndim if axis < 0 else axis]
    return X.array.reshape(math.prod(front), math.prod(X.shape[len(front) :]))


def squeeze(call: Call, X: Tensor, axes: Tensor | None = None) -> Array:
    """Without the named axes, or without all of extent 1."""
    given = axes_of(call, axes)
    return np.squeeze(X.array, tuple(given) if given is not None else None)


def unsqueeze(call: Call, X: Tensor, axes: Tensor | None = None) -> Array:
    """With new axes of extent 1 at the named places."""
    return np.expand_dims(X.array, tuple(axes_of(call, axes) or ()))


def transpose(call: Call, X: Tensor) -> Array:
    """The axes in the order `perm`, reversed by default."""
    return np.transpose(X.array, call.get("perm"))


def expand(call: Call, X: Tensor, shape: Tensor) -> Array:
    """Broadcast to `shape`, in both directions."""
    return np.broadcast_to(X.array, np.broadcast_shapes(X.shape, tuple(shape.ints())))


def concat(call: Call, *inputs: Tensor) -> Array:
    """Joined along `axis`."""
    return np.concatenate([each.array for each in inputs], call.integer("axis", 1))


def split(call: Call, X: Tensor, sizes: Tensor | None = None) -> tuple[Array, ...]:
    """Cut along `axis`: into parts of the given sizes, or into as many alike as there are outputs, the last one smaller."""
    axis = call.integer("axis")
    parts = sizes.ints() if sizes is not None else call.integers("split")
    if not parts:
        count, extent = call.integer("num_outputs", call.outputs), X.shape[axis]
        chunk = -(-extent // count)
        parts = [max(0, min(chunk, extent - chunk * place)) for place in range(count)]
    return tuple(np.split(X.array, np.cumsum(parts)[:-1], axis))


def slice_of(call: Call, X: Tensor, *bounds: Tensor | None) -> Array:
    """`X[start:end:step]` along the named axes; starts, ends and axes are attributes below opset 10."""
    if bounds:
        starts, ends, axes, steps = ([None if each is None else each.ints() for each in bounds] + [None] * 2)[:4]
    else:
        starts, ends, axes, steps = call.integers("starts"), call.integers("ends"), axes_of(call, None), None
    starts, ends = starts or [], ends or []
    places = axes if axes is not None else list(range(len(starts)))
    index: list[Any] = [slice(None)] * X.array.ndim
    for axis, start, end, step in zip(places, starts, ends, steps or [1] * len(starts), strict=True):
        past_the_beginning = step < 0 and end < -X.shape[axis]
        index[axis] = slice(start, None if past_the_beginning else end, step)
    return np.asarray(X.array[tuple(index)])


def pad(call: Call, X: Tensor, pads: Tensor | None = None, value: Tensor | None = None, axes: Tensor | None = None) -> Array:
    """Pads, or cuts where a pad is negative; all attributes below opset 11."""
    x = X.array
    given = pads.ints() if pads is not None else call.integers("pads", call.integers("paddings"))
    places = [axis % x.ndim for axis in axes.ints()] if axes is not None else list(range(x.ndim))
    widths = [(0, 0)] * x.ndim
    for place, axis in enumerate(places):
        widths[axis] = (given[place], given[place + len(places)])
    cut = tuple(slice(max(0, -begin), n - max(0, -end)) for n, (begin, end) in zip(x.shape, widths, strict=True))
    grown = [(max(0, begin), max(0, end)) for begin, end in widths]
    mode = call.text("mode", "constant")
    if mode == "constant":
        fill = value.scalar() if value is not None and value.array.size else call.number("value", 0.0)
        return np.pad(x[cut], grown, constant_values=np.asarray(fill, x.dtype))
    if mode == "edge":
        return np.pad(x[cut], grown, "edge")
    return np.pad(x[cut], grown, "wrap" if mode == "wrap" else "reflect")


def tile(call: Call, X: Tensor, repeats: Tensor, axis: Tensor | None = None) -> Array:
    """Repeated along every axis; opset 1 names one axis."""
    if axis is None:
        return np.tile(X.array, repeats.ints())
    counts = [1] * X.array.ndim
    counts[int(axis.scalar())] = int(repeats.scalar())
    return np.tile(X.array, counts)


def shape_of(call: Call, X: Tensor) -> Tensor:
    """The extents, from `start` to `end`."""
    return tensor_of(np.asarray(X.shape[call.integer("start") : call.get("end")], np.int64), INT64)


def size_of(call: Call, X: Tensor) -> Tensor:
    """How many elements."""
    return tensor_of(np.asarray(X.array.size, np.int64), INT64)


def depth_to_space(call: Call, X: Tensor) -> Array:
    """Channels to blocks of the plane: depth-column-row order, or column-row-depth."""
    (n, c, h, w), b = X.shape, call.integer("blocksize")
    if call.text("mode", "DCR") == "DCR":
        moved = X.array.reshape(n, b, b, c // b**2, h, w).transpose(0, 3, 4, 1, 5, 2)
    else:
        moved = X.array.reshape(n, c // b**2, b, b, h, w).transpose(0, 1, 4, 2, 5, 3)
    return moved.reshape(n, c // b**2, h * b, w * b)


def space_to_depth(call: Call, X: Tensor) -> Array:
    """Blocks of the plane to channels: depth-column-row order, or from opset 28 on column-row-depth."""
    (n, c, h, w), b = X.shape, call.integer("blocksize")
    order = (0, 3, 5, 1, 2, 4) if call.text("mode", "DCR") == "DCR" else (0, 1, 3, 5, 2, 4)
    return X.array.reshape(n, c, h // b, b, w // b, b).transpose(order).reshape(n, c * b**2, h // b, w // b)


def center_crop_pad(call: Call, X: Tensor, shape: Tensor) -> Array:
    """Cut or padded with zeros around the middle to `shape`; of an odd difference the larger half is at the end."""
    x = X.array
    axes = [axis % x.ndim for axis in call.integers("axes", range(x.ndim))]
    for axis, wanted in zip(axes, shape.ints(), strict=True):
        n = x.shape[axis]
        if n > wanted:
            x = np.take(x, range((n - wanted) // 2, (n - wanted) // 2 + wanted), axis)
        else:
            before = (wanted - n) // 2
            x = np.pad(x, [(before, wanted - n - before) if each == axis else (0, 0) for each in range(x.ndim)])
    return x


def trilu(call: Call, X: Tensor, k: Tensor | None = None) -> Array:
    """The upper or lower triangle of the last two axes."""
    offset = int(k.scalar()) if k is not None else 0
    return np.triu(X.array, offset) if call.integer("upper", 1) else np.tril(X.array, offset)


def reverse_sequence(call: Call, X: Tensor, lengths: Tensor) -> Array:
    """Every batch's first `length` steps turned around."""
    time, batch = call.integer("time_axis"), call.integer("batch_axis", 1)
    y = X.array.copy()
    rows: Sequence[Array] = np.moveaxis(y, (batch, time), (0, 1))  # type: ignore[assignment]
    for row, length in zip(rows, lengths.ints(), strict=True):
        row[:length] = row[:length][::-1].copy()
    return y


OPERATORS: dict[str, Operator] = {
    "CenterCropPad": center_crop_pad,
    "Concat": concat,
    "DepthToSpace": depth_to_space,
    "Expand": expand,
    "Flatten": flatten,
    "Identity": lambda call, X: X,
    "Pad": pad,
    "Reshape": reshape,
    "ReverseSequence": reverse_sequence,
    "Shape": shape_of,
    "Size": size_of,
    "Slice": slice_of,
    "SpaceToDepth": space_to_depth,
    "Split": split,
    "Squeeze": squeeze,
    "Tile": tile,
    "Transpose": transpose,
    "Trilu": trilu,
    "Unsqueeze": unsqueeze,
}
