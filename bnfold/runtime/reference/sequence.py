"""Sequences and optionals."""

from __future__ import annotations

import numpy as np

from bnfold.runtime.reference.call import Call, Operator
from bnfold.runtime.reference.value import BOOL, INT64, Tensor, Value, tensor_of


def at(call: Call, sequence: list[Value], position: Tensor) -> tuple[Value, ...]:
    """One element."""
    return (sequence[int(position.scalar())],)


def insert(call: Call, sequence: list[Value], tensor: Value, position: Tensor | None = None) -> list[Value]:
    """With one element more, at the end by default."""
    place = len(sequence) if position is None else int(position.scalar())
    place += len(sequence) if place < 0 else 0
    return [*sequence[:place], tensor, *sequence[place:]]


def erase(call: Call, sequence: list[Value], position: Tensor | None = None) -> list[Value]:
    """Without one element, the last one by default."""
    place = -1 if position is None else int(position.scalar())
    place %= len(sequence)
    return [*sequence[:place], *sequence[place + 1 :]]


def length(call: Call, sequence: list[Value]) -> Tensor:
    """How many elements."""
    return tensor_of(np.asarray(len(sequence), np.int64), INT64)


def concat(call: Call, sequence: list[Tensor]) -> Tensor:
    """All elements joined along `axis`, or stacked on a new one."""
    arrays, axis = [each.array for each in sequence], call.integer("axis")
    return sequence[0].like(np.stack(arrays, axis) if call.integer("new_axis") else np.concatenate(arrays, axis))


def split(call: Call, X: Tensor, sizes: Tensor | None = None) -> list[Value]:
    """Cut along `axis`: into slices of one (without that axis unless `keepdims`), of one size, or of the sizes given."""
    axis = call.integer("axis")
    extent = X.shape[axis]
    if sizes is None:
        parts = np.split(X.array, extent, axis)
        return [X.like(each if call.integer("keepdims", 1) else np.squeeze(each, axis)) for each in parts]
    given = sizes.ints()
    places = range(given[0], extent, given[0]) if not sizes.array.ndim else np.cumsum(given)[:-1]
    return [X.like(each) for each in np.split(X.array, places, axis)]


def construct(call: Call, *inputs: Value) -> list[Value]:
    """The inputs as a sequence."""
    return list(inputs)


def optional(call: Call, value: Value = None) -> tuple[Value, ...]:
    """The value, or nothing."""
    return (value,)


def has_element(call: Call, value: Value = None) -> Tensor:
    """Whether there is a value."""
    return tensor_of(np.asarray(value is not None), BOOL)


def get_element(call: Call, value: Value) -> tuple[Value, ...]:
    """The value, which has to be there."""
    if value is None:
        raise ValueError("the optional is empty")
    return (value,)


OPERATORS: dict[str, Operator] = {
    "ConcatFromSequence": concat,
    "Optional": optional,
    "OptionalGetElement": get_element,
    "OptionalHasElement": has_element,
    "SequenceAt": at,
    "SequenceConstruct": construct,
    "SequenceEmpty": construct,
    "SequenceErase": erase,
    "SequenceInsert": insert,
    "SequenceLength": length,
    "SplitToSequence": split,
}
