"""The tensors that two models both have and make differently.

A fold keeps the name of the normalization's output. So a tensor of the main graph that has the same name in both models, but
comes from another operator or from other constants, is the place of a fold.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class Place:
    """A tensor that both models have and make differently.

    Attributes:
        tensor: its name.
        made_by: the operators that make it, as "layer2.0.bn1 → Conv `layer2.0.conv1`".
        op_types: those operators' types, the original's first.
        readers: the places and outputs that are made from it next.
    """

    tensor: str
    made_by: str
    op_types: tuple[str, str]
    readers: tuple[str, ...]


def find_places(
    original: onnx.ModelProto,
    candidate: onnx.ModelProto,
    known: Mapping[str, int],
    own: Mapping[str, int],
    only: Collection[str] | None = None,
) -> list[Place]:
    """The places of the main graph, in the order of the candidate's.

    Args:
        original: the original.
        candidate: the candidate.
        known: what tells the original's constants apart, by name (`bnfold.runtime.truth.digests`).
        own: the same of the candidate's.
        only: leave out tensors that are not among these.
    """
    makers = {name: node for node in original.graph.node for name in node.output if name}
    functions = {(each.domain, each.name) for each in candidate.functions}
    same_functions = [each.SerializeToString() for each in original.functions] == [
        each.SerializeToString() for each in candidate.functions
    ]
    different = {
        name: (maker, node)
        for node in candidate.graph.node
        if node.op_type != "Constant"
        for name in node.output
        if (only is None or name in only)
        and (maker := makers.get(name)) is not None
        and (_differ(maker, node, known, own) or (not same_functions and (node.domain, node.op_type) in functions))
    }
    readers = _readers(candidate.graph, different)
    return [
        Place(name, _made_by(maker, node, name), (maker.op_type, node.op_type), readers[name])
        for name, (maker, node) in different.items()
    ]


def _differ(one: onnx.NodeProto, other: onnx.NodeProto, known: Mapping[str, int], own: Mapping[str, int]) -> bool:
    if (one.op_type, one.domain, list(one.input)) != (other.op_type, other.domain, list(other.input)):
        return True
    if sorted(map(_bytes, one.attribute)) != sorted(map(_bytes, other.attribute)):
        return True
    return any(known.get(name) != own.get(name) for name in _reads(other))


def _bytes(message: Any) -> bytes:
    content: bytes = message.SerializeToString(deterministic=True)
    return content


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """What a node reads, and what the bodies in it mention."""
    yield from node.input
    for attribute in node.attribute:
        for body in (*((attribute.g,) if attribute.HasField("g") else ()), *attribute.graphs):
            for inner in body.node:
                yield from _reads(inner)
            yield from (value.name for value in body.output)


def _readers(graph: onnx.GraphProto, places: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """For each place the places and graph outputs that its value reaches without passing another."""
    stops = {*places, *(value.name for value in graph.output)}
    reached: dict[str, set[str]] = {}
    for node in reversed(graph.node):
        beyond: set[str] = set()
        for name in node.output:
            beyond |= {name} if name in stops else reached.get(name, set())
        for name in _reads(node):
            reached.setdefault(name, set()).update(beyond)
    outputs = {value.name for value in graph.output}
    return {name: tuple(sorted(reached.get(name, set()) | ({name} & outputs))) for name in places}


def _made_by(one: onnx.NodeProto, other: onnx.NodeProto, tensor: str) -> str:
    first, second = (node.name or tensor for node in (one, other))
    if (first, one.op_type) == (second, other.op_type):
        return f"{other.op_type} `{second}`"
    return f"{first} → {other.op_type} `{second}`"
