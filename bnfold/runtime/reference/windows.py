"""Where the windows of a convolution or a pooling lie: strides, dilations, padding and rounding along every spatial axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bnfold.runtime.reference.call import Call
from bnfold.runtime.reference.value import Array


def region(starts: Sequence[int], counts: Sequence[int], steps: Sequence[int] | None = None) -> tuple[Any, ...]:
    """The index of `counts` elements along each of the last axes, `steps` apart."""
    rows = zip(starts, counts, steps or [1] * len(counts), strict=True)
    return (..., *(slice(start, start + step * (count - 1) + 1, step) for start, count, step in rows))


@dataclass(frozen=True)
class Windows:
    """Window geometry, one entry per spatial axis.

    Attributes:
        kernel: taps of a window.
        strides: elements from one window to the next.
        dilations: elements from one tap to the next.
        begins: padding before the first element.
        ends: padding after the last one, as the node asks for it.
        counts: how many windows.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begins: tuple[int, ...]
    ends: tuple[int, ...]
    counts: tuple[int, ...]

    @property
    def is_pointwise(self) -> bool:
        """Whether every element is its own window."""
        ones = (*self.kernel, *self.strides)
        return all(each == 1 for each in ones) and not any((*self.begins, *self.ends))

    def padded(self, x: Array, fill: float | int = 0) -> Array:
        """`x` (…, *spatial) with the padding that the windows reach into; `x` itself where they reach into none."""
        rank = len(self.kernel)
        spatial = x.shape[x.ndim - rank :]
        places = zip(spatial, self.kernel, self.strides, self.dilations, self.begins, self.counts, strict=True)
        reach = tuple(max(begin + n, (count - 1) * s + (k - 1) * d + 1) for n, k, s, d, begin, count in places)
        if reach == spatial and not any(self.begins):
            return x
        wide = np.full((*x.shape[: x.ndim - rank], *reach), fill, x.dtype)
        wide[region(self.begins, spatial)] = x
        return wide

    def tap(self, x: Array, place: Sequence[int]) -> Array:
        """A view of padded `x`: for every window its element at `place` in the kernel."""
        starts = [p * d for p, d in zip(place, self.dilations, strict=True)]
        return np.asarray(x[region(starts, self.counts, self.strides)])


def windows(call: Call, extents: Sequence[int], kernel: Sequence[int]) -> Windows:
    """The windows over `extents` (spatial) that a node's attributes describe.

    Source: onnx/docs/Operators.md, Conv and MaxPool: `floor((n + pads − ((k − 1)·d + 1)) / s) + 1`, `ceil` with `ceil_mode`,
    where a window that would start in the padding at the end is left out.
    """
    rank = len(kernel)
    strides, dilations = call.integers("strides", [1] * rank), call.integers("dilations", [1] * rank)
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    mode = call.text("auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        totals = [max(0, (-(-n // s) - 1) * s + span - n) for n, s, span in zip(extents, strides, spans, strict=True)]
        less, more = [total // 2 for total in totals], [total - total // 2 for total in totals]
        begins, ends = (less, more) if mode == "SAME_UPPER" else (more, less)
    else:
        pads = [0] * 2 * rank if mode == "VALID" else call.integers("pads", [0] * 2 * rank)
        begins, ends = pads[:rank], pads[rank:]
    counts = []
    for n, s, span, begin, end in zip(extents, strides, spans, begins, ends, strict=True):
        room = n + begin + end - span
        count = room // s + 1
        if call.integer("ceil_mode") and room % s and count * s < n + begin:
            count += 1
        counts.append(max(0, count))
    groups = (kernel, strides, dilations, begins, ends, counts)
    return Windows(*(tuple(int(each) for each in group) for group in groups))
