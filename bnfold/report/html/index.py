"""A model's graphs by what makes and what reads each tensor, from the protos alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import onnx

GraphLike: TypeAlias = onnx.GraphProto | onnx.FunctionProto


class Index:
    """One graph by what makes and what reads each tensor.

    Args:
        graph: a main graph, a body or a function.
        outside: names of constants of the graphs around it.
    """

    def __init__(self, graph: GraphLike, outside: frozenset[str] = frozenset()) -> None:
        self.nodes: Sequence[onnx.NodeProto] = graph.node
        self.maker: dict[str, int] = {}
        self.readers: dict[str, list[int]] = {}
        self.sizes: dict[str, tuple[int, ...]] = {}
        names = [value if isinstance(value, str) else value.name for value in graph.input]
        self.results = {value if isinstance(value, str) else value.name for value in graph.output}
        if isinstance(graph, onnx.GraphProto):
            self.sizes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
        self.fed = {name for name in names if name not in self.sizes}
        self.constants = set(self.sizes) | (outside - self.fed)
        for place, node in enumerate(graph.node):
            for name in node.output:
                self.maker[name] = place
            for name in dict.fromkeys(filter(None, node.input)):
                self.readers.setdefault(name, []).append(place)
            if node.op_type == "Constant" or (node.input and all(not name or name in self.constants for name in node.input)):
                self.constants.update(filter(None, node.output))
                for attribute in node.attribute if node.op_type == "Constant" else ():
                    self.sizes[node.output[0]] = tuple(attribute.t.dims)

    def find(self, label: str) -> int | None:
        """The place of the node that a verdict calls "Conv `conv1`"; None where there is none."""
        op_type, _, rest = label.partition(" `")
        name = rest.removesuffix("`")
        places = [place for place, node in enumerate(self.nodes) if node.op_type == op_type and node.name == name]
        if places or name not in self.maker:
            return places[0] if len(places) == 1 else None
        return self.maker[name]

    def flows(self, place: int) -> Iterator[str]:
        """The tensors that a node reads and that are no constants."""
        return (name for name in dict.fromkeys(self.nodes[place].input) if name and name not in self.constants)

    def before(self, place: int) -> Iterator[int]:
        """The nodes that make what a node reads."""
        return (self.maker[name] for name in self.flows(place) if name in self.maker)

    def behind(self, place: int) -> Iterator[int]:
        """The nodes that read what a node makes."""
        return (reader for name in self.nodes[place].output for reader in self.readers.get(name, ()))


def indices(proto: onnx.ModelProto) -> dict[str, Index]:
    """Every graph of a model by the name that a verdict's scope has."""
    found = {f"function {each.domain}::{each.name}": Index(each) for each in proto.functions}
    pending: list[tuple[str, GraphLike, frozenset[str]]] = [("", proto.graph, frozenset())]
    pending += [(f"function {each.domain}::{each.name}", each, frozenset()) for each in proto.functions]
    while pending:
        scope, graph, outside = pending.pop()
        index = found[scope] = Index(graph, outside)
        for node in graph.node:
            for attribute in node.attribute:
                bodies = attribute.graphs or ([attribute.g] if attribute.type == onnx.AttributeProto.GRAPH else [])
                for place, body in enumerate(bodies):
                    name = f"{node.name or node.op_type}/{attribute.name}{f'[{place}]' if attribute.graphs else ''}"
                    pending.append((f"{scope}/{name}" if scope else name, body, frozenset(index.constants)))
    return found
