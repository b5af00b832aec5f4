"""Control flow: If, Loop, Scan, SequenceMap. Their bodies see what stands around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bnfold.runtime.reference.call import Call, Operator
from bnfold.runtime.reference.value import BOOL, FLOAT, INT64, Array, Tensor, Value, dtype_of, tensor_of

Outputs = tuple[Value, ...]


def if_(call: Call, condition: Tensor) -> Outputs:
    """One branch or the other."""
    return tuple(call.body("then_branch" if condition.scalar() else "else_branch", []))


def loop(call: Call, trips: Tensor | None = None, condition: Tensor | None = None, *carried: Value) -> Outputs:
    """Runs the body up to `trips` times while the condition it gives holds; stacks what it gives beyond the carried values."""
    state, rows = list(carried), []
    limit = None if trips is None else int(trips.scalar())
    trip, going = 0, condition is None or bool(condition.scalar())
    while going and (limit is None or trip < limit):
        count, flag = tensor_of(np.asarray(trip, np.int64), INT64), tensor_of(np.asarray(True), BOOL)
        keep_on, *results = call.body("body", [count, flag, *state])
        state, row = results[: len(state)], results[len(state) :]
        rows.append(row)
        trip, going = trip + 1, isinstance(keep_on, Tensor) and bool(keep_on.scalar())
    return (*state, *_stacked(call, rows, 1 + len(state), []))


def scan(call: Call, *inputs: Any) -> Outputs:
    """Runs the body for every slice of the last `num_scan_inputs` inputs; in opset 8 for every sample of a batch."""
    if call.opset >= 9:
        return _scan(call, list(inputs))
    given = list(inputs[1:])
    if inputs[0] is not None:
        raise call.refuse("sequence_lens")
    if any(call.integers("directions")):
        raise call.refuse("directions in opset 8")
    samples = [_scan(call, [each.like(each.array[place]) for each in given]) for place in range(given[0].shape[0])]
    return tuple(_stack(column, 0) for column in zip(*samples, strict=True))


def _scan(call: Call, inputs: list[Tensor]) -> Outputs:
    count = call.integer("num_scan_inputs")
    split = len(inputs) - count
    state: list[Value] = list(inputs[:split])
    sequences = inputs[split:]
    axes = call.integers("scan_input_axes", [0] * count)
    backward = call.integers("scan_input_directions", [0] * count)
    moved = [_oriented(each.array, axis, turn) for each, axis, turn in zip(sequences, axes, backward, strict=True)]
    rows = []
    for place in range(len(moved[0])):
        now = [each.like(array[place]) for each, array in zip(sequences, moved, strict=True)]
        results = call.body("body", [*state, *now])
        state, row = results[:split], results[split:]
        rows.append(row)
    out_axes = call.integers("scan_output_axes")
    stacked = _stacked(call, rows, split, out_axes)
    turned = call.integers("scan_output_directions", [0] * len(stacked))
    axes = out_axes or [0] * len(stacked)
    return (*state, *(_flipped(each, axis) if turn else each for each, axis, turn in zip(stacked, axes, turned, strict=True)))


def _oriented(array: Array, axis: int, backward: int) -> Array:
    moved = np.moveaxis(array, axis, 0)
    return moved[::-1] if backward else moved


def _flipped(value: Value, axis: int) -> Value:
    assert isinstance(value, Tensor)
    return value.like(np.flip(value.array, axis))


def _stacked(call: Call, rows: Sequence[Sequence[Value]], first: int, axes: Sequence[int]) -> list[Value]:
    """The columns of `rows` as tensors; where there is no row, empty tensors as the body declares its outputs from `first` on."""
    if rows:
        columns = list(zip(*rows, strict=True))
        return [_stack(column, axis) for column, axis in zip(columns, axes or [0] * len(columns), strict=True)]
    declared = call.declared_outputs("body")[first:]
    return [Tensor(np.empty((0, *shape), dtype_of(elem_type or FLOAT)), elem_type or FLOAT) for elem_type, shape in declared]


def _stack(column: Sequence[Value], axis: int) -> Tensor:
    tensors = [each for each in column if isinstance(each, Tensor)]
    return tensors[0].like(np.stack([each.array for each in tensors], axis))


def sequence_map(call: Call, first: list[Value], *others: Value) -> Outputs:
    """Runs the body for every element of the first sequence, with the same place of other sequences; tensors stay."""
    rows = []
    for place, element in enumerate(first):
        rest = [each[place] if isinstance(each, list) else each for each in others]
        rows.append(call.body("body", [element, *rest]))
    if not rows:
        return tuple([] for _ in range(call.outputs))
    return tuple(list(column) for column in zip(*rows, strict=True))


OPERATORS: dict[str, Operator] = {"If": if_, "Loop": loop, "Scan": scan, "SequenceMap": sequence_map}
