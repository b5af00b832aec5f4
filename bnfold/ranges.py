"""How far the weights of each channel reach, before and after folding: what 8-bit quantization of the weights will see.

A fold multiplies each channel of a weight by a factor of its own. One scale for the whole tensor (per-tensor quantization) then
has to cover the largest channel and leaves few steps for the smallest: a channel that reaches 1/16 as far gets 4 bits of the 8.
One scale for each channel (per-channel quantization) does not care.

Channels lie where onnxruntime's quantizer puts them (onnxruntime/python/tools/quantization/operators): axis 0 of a Conv, axis 1
of a ConvTranspose, the columns of a Gemm's and a MatMul's second input.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bnfold.context import Context
from bnfold.graph import describe
from bnfold.model import Model
from bnfold.verdict import Note
from bnfold.weights import FLOAT_TYPES, Weight, tiles

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

FEW_BITS = 4.0
"""A channel with fewer bits than this is worth a warning (BNF060)."""

_BITS = 8.0
_AXES = {"Conv": 0, "ConvTranspose": 1, "Gemm": 1, "MatMul": -1}


@dataclass(frozen=True)
class WeightRange:
    """The weight of one operator, channel by channel.

    Attributes:
        operator: as "Conv `conv1`", in the folded model.
        scope: the graph it is in; "" is the main graph.
        tensor: the weight's name in the folded model.
        axis: where its channels lie.
        before: the largest magnitude in each channel of the original's weight; None where the original has no such operator.
        after: the same of the folded model's.
    """

    operator: str
    scope: str
    tensor: str
    axis: int
    before: tuple[float, ...] | None
    after: tuple[float, ...]

    @property
    def is_changed(self) -> bool:
        """Whether a fold has changed the weight."""
        return self.before is not None and self.before != self.after

    @property
    def spread_before(self) -> float | None:
        """`spread` of the original's weight."""
        return None if self.before is None else spread(self.before)

    @property
    def spread_after(self) -> float:
        """`spread` of the folded weight."""
        return spread(self.after)

    @property
    def is_worse(self) -> bool:
        """Whether folding left a channel with fewer than `FEW_BITS` bits, and at least one bit less than it had."""
        before = self.spread_before
        return before is not None and self.spread_after > 2 * before and bits(self.spread_after) < FEW_BITS

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "operator": self.operator,
            "scope": self.scope,
            "tensor": self.tensor,
            "axis": self.axis,
            "before": None if self.before is None else list(self.before),
            "after": list(self.after),
            "spread_before": self.spread_before,
            "spread_after": self.spread_after,
            "starved_channels": starved(self.after),
            "is_worse": self.is_worse,
        }


def spread(largest: tuple[float, ...]) -> float:
    """How many times the range of the smallest channel the largest one has; channels of zeros do not count. 1 for equal ones."""
    live = [value for value in largest if value > 0]
    return max(live) / min(live) if live else 1.0


def starved(largest: tuple[float, ...]) -> int:
    """How many channels one scale for the whole tensor leaves fewer than `FEW_BITS` bits; channels of zeros need none."""
    return sum(value > 0 and bits(max(largest) / value) < FEW_BITS for value in largest)


def bits(spread_: float) -> float:
    """How many of 8 bits one scale for the whole tensor leaves to the smallest channel: each halving of its range costs one."""
    return max(0.0, _BITS - math.log2(spread_))


def weight_ranges(original: Model, folded: Model) -> tuple[WeightRange, ...]:
    """The float weights of every Conv, ConvTranspose, Gemm and MatMul of `folded`, beside the original's.

    Operators are told apart by scope, type and name, and by their order where names repeat or are missing: folding keeps both.
    Weights are read block by block.

    Raises:
        InputError: a model is invalid, or its weights cannot be read.
    """
    before = {key: (shape, largest) for key, _, _, _, shape, largest in _weights(original)}
    found = []
    for key, node, tensor, axis, shape, largest in _weights(folded):
        former = before.get(key)
        known = former[1] if former is not None and former[0] == shape else None
        found.append(WeightRange(describe(node), key[0], tensor, axis, known, largest))
    return tuple(found)


def range_notes(ranges: Iterable[WeightRange]) -> tuple[Note, ...]:
    """A remark (BNF060) on each weight that folding left with too few bits for one scale."""
    return tuple(
        Note(
            "BNF060",
            f"`{one.tensor}` of {one.operator}: one scale for the whole tensor leaves {starved(one.after)} of its "
            f"{len(one.after)} channels less than {FEW_BITS:.0f} of 8 bits, {starved(one.before or ())} before folding; the "
            f"largest reaches {one.spread_after:,.3g} × as far as the smallest, {one.spread_before or 1.0:,.3g} × before",
            one.operator,
            one.scope,
        )
        for one in ranges
        if one.is_worse
    )


_Key = tuple[str, str, str, int]


def _weights(model: Model) -> Iterator[tuple[_Key, gs.Node, str, int, tuple[int, ...], tuple[float, ...]]]:
    context, met = Context(model.proto, model.folder), Counter[tuple[str, str, str]]()
    for node in context.view.nodes():
        op_type = context.view.op_type(node)
        if op_type not in _AXES or len(node.inputs) < 2:
            continue
        name = (context.view.scope(node).name, op_type, node.name)
        met[name] += 1
        weight = context.constants.weight(node.inputs[1])
        if weight is None or weight.elem_type not in FLOAT_TYPES or len(weight.shape) < 2:
            continue
        axis = _AXES[op_type] % len(weight.shape)
        if op_type == "Gemm" and context.view.attribute(node, "transB", 0):
            axis = 0
        yield (*name, met[name]), node, node.inputs[1].name, axis, weight.shape, _largest(weight, axis)


def _largest(weight: Weight, axis: int) -> tuple[float, ...]:
    largest, read = np.zeros(weight.shape[axis]), weight.reader()
    for index in tiles(weight.shape):
        block = np.abs(read(index).astype(np.float64))
        lead = len(index) - 1
        others = tuple(place for place in range(block.ndim) if place != axis - lead)
        part = index[axis] if axis <= lead else slice(None)
        largest[part] = np.fmax(largest[part], block.max(axis=others, initial=0.0))
    return tuple(largest.tolist())
