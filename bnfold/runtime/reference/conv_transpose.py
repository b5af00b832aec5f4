"""ConvTranspose: every input element times the kernel, added up where the windows of the output overlap."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from bnfold.runtime.reference.call import Call, Operator
from bnfold.runtime.reference.value import Array, Tensor
from bnfold.runtime.reference.windows import region

_CHUNK_ELEMENTS = 1 << 21


def conv_transpose(call: Call, X: Tensor, W: Tensor, B: Tensor | None = None) -> Array:
    """`Y[n, m, s·i + d·k − pad] += W[c, m, k]·X[n, c, i]`, over the channels c of m's group and the taps k."""
    x, w, groups = X.array, W.array, call.integer("group", 1)
    if x.shape[1] != w.shape[0] or x.shape[1] % groups:
        raise ValueError(f"{x.shape[1]} channels and {groups} groups do not fit a weight of shape {list(w.shape)}")
    extents, kernel = x.shape[2:], w.shape[2:]
    strides, dilations = call.integers("strides", [1] * len(kernel)), call.integers("dilations", [1] * len(kernel))
    begins, counts = _placed(call, extents, kernel, strides, dilations)
    sizes = zip(extents, strides, kernel, dilations, begins, counts, strict=True)
    full = [max(s * (n - 1) + (k - 1) * d + 1, begin + count) for n, s, k, d, begin, count in sizes]
    y = np.zeros((len(x), groups, w.shape[1], *full))
    split = x.reshape(len(x), groups, -1, *extents)
    weight = np.swapaxes(w.reshape(groups, x.shape[1] // groups, -1), 1, 2)  # (group, M / group · taps, C / group)
    row = groups * weight.shape[1] * math.prod(extents[1:])
    rows = max(1, _CHUNK_ELEMENTS // max(1, row))
    for out, sample in zip(y, split, strict=True):
        for top in range(0, extents[0], rows):
            block = sample[:, :, top : top + rows]
            inside = block.shape[2:]
            parts = (weight @ block.reshape(groups, block.shape[1], -1)).reshape(groups, w.shape[1], *kernel, *inside)
            for tap in np.ndindex(*kernel):
                starts = [p * d for p, d in zip(tap, dilations, strict=True)]
                starts[0] += top * strides[0]
                out[region(starts, inside, strides)] += parts[(slice(None), slice(None), *tap)]
    y = y.reshape(len(x), -1, *full)[region(begins, counts)]
    return np.asarray(y if B is None else y + B.array.reshape(-1, *[1] * len(kernel)))


def _placed(
    call: Call, extents: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> tuple[list[int], list[int]]:
    """How much is cut off before the output, and how large the output is, along each axis.

    Source: onnx/docs/Operators.md, ConvTranspose: of an odd number to cut, SAME_UPPER cuts more at the end, all else at the
    beginning.
    """
    rank = len(kernel)
    extra, mode = call.integers("output_padding", [0] * rank), call.text("auto_pad", "NOTSET")
    sizes = zip(extents, strides, kernel, dilations, extra, strict=True)
    full = [s * (n - 1) + (k - 1) * d + 1 + e for n, s, k, d, e in sizes]
    if call.get("output_shape") or mode in ("SAME_UPPER", "SAME_LOWER"):
        same = [n * s for n, s in zip(extents, strides, strict=True)]
        counts = call.integers("output_shape", same)[-rank:]
        totals = [max(0, size - count) for size, count in zip(full, counts, strict=True)]
        return [total // 2 if mode == "SAME_UPPER" else total - total // 2 for total in totals], counts
    pads = [0] * 2 * rank if mode == "VALID" else call.integers("pads", [0] * 2 * rank)
    return pads[:rank], [size - a - b for size, a, b in zip(full, pads[:rank], pads[rank:], strict=True)]


OPERATORS: dict[str, Operator] = {"ConvTranspose": conv_transpose}
