"""What protobuf's repeated fields lack: dropping and ordering entries without copying what they hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import onnx


def keep(field: Any, wanted: Callable[[Any], bool]) -> None:
    """Drops the unwanted entries of a repeated field."""
    kept = [entry for entry in field if wanted(entry)]
    if len(kept) < len(field):
        arrange(field, kept)


def arrange(field: Any, wanted: Sequence[Any]) -> None:
    """Makes `field` hold `wanted`, in that order; entries that are not in it yet are appended first.

    Sorting a repeated field moves references, where assigning to it would copy every weight.
    """
    present = {id(entry): entry for entry in field}
    for entry in wanted:
        if id(entry) not in present:
            field.append(entry)
    fresh = iter(list(field)[len(present) :])
    final = [entry if id(entry) in present else next(fresh) for entry in wanted]
    rank = {id(entry): place for place, entry in enumerate(final)}
    entries = list(field)  # keeps the wrappers, and so their ids, alive
    if [id(entry) for entry in entries] != [id(entry) for entry in final]:
        field.sort(key=lambda entry: rank.get(id(entry), len(final)))
        del field[len(final) :]


def is_sorted(graph: onnx.GraphProto | onnx.FunctionProto) -> bool:
    """Whether every node stands behind those that make what it reads."""
    later = {name for node in graph.node for name in node.output if name}
    for node in graph.node:
        if not later.isdisjoint(node.input):
            return False
        later.difference_update(node.output)
    return True
