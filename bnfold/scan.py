"""Looks through the nodes of a model before its view is built, which takes several times as long as parsing it.

A model without a BatchNormalization, and without an Add, Div, Mul, Neg or Sub that might have a constant, holds no affine map,
and so there is nothing to decide.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import onnx

from bnfold.choice import Choice, pattern_notes
from bnfold.operators import DEFAULT_DOMAINS, EVALUATED, PRIMITIVES, default_opset
from bnfold.verdict import Plan

_TELLING = {"BatchNormalization", "Dropout", "Neg"}
"""What a plan has something to say about, whatever its inputs are."""

_TYPES_AND_SHAPES = {"CastLike", "Shape"}
"""What can make a constant of something that varies: of its type, or of extents that are fixed."""

_MAY_MAKE_CONSTANTS = {"Constant", *EVALUATED}


def plan_by_scan(proto: onnx.ModelProto, choice: Choice) -> Plan | None:
    """The plan of a model in which a look at its nodes shows that there is nothing to decide; None where it takes more."""
    operators = operators_without_maps(proto)
    notes = tuple(pattern_notes(choice, lambda _: False))
    return Plan((), operators, operators, notes) if operators is not None else None


def operators_without_maps(proto: onnx.ModelProto) -> dict[str, int] | None:
    """Operator type → count over all scopes of a model without any affine map; None where that takes a view to see, or where
    something is wrong with the graph, which a view can name.
    """
    if proto.functions or default_opset(proto.opset_import) <= 0:
        return None
    counts: Counter[str] = Counter()
    pending: list[tuple[onnx.GraphProto, frozenset[str]]] = [(proto.graph, frozenset({""}))]
    while pending:
        graph, outside = pending.pop()
        operators = count_operators(graph)
        if not operators.keys().isdisjoint(_TELLING) or not has_no_primitive_maps(graph, operators):
            return None
        names = names_of(graph, outside)
        if names is None:
            return None
        pending += [(body, names) for body in _bodies(graph)]
        counts.update(operators)
    return dict(sorted(counts.items()))


def count_operators(graph: onnx.GraphProto) -> Counter[str]:
    """Operator type → count; those of other domains go by "domain::name"."""
    operators = Counter(node.op_type for node in graph.node)
    return operators if not any(node.domain for node in graph.node) else Counter(map(_full_name, graph.node))


def has_no_primitive_maps(graph: onnx.GraphProto, operators: Mapping[str, int]) -> bool:
    """Whether it is easily seen that no Add, Div, Mul or Sub has a constant operand."""
    return operators.keys().isdisjoint(PRIMITIVES) or not _may_read_constants(graph)


def _full_name(node: onnx.NodeProto) -> str:
    return f"{node.domain}::{node.op_type}" if node.domain not in DEFAULT_DOMAINS else node.op_type


def _bodies(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield attribute.g
            elif attribute.type == onnx.AttributeProto.GRAPHS:
                yield from attribute.graphs


def names_of(graph: onnx.GraphProto, outside: frozenset[str]) -> frozenset[str] | None:
    """All names that can be read in a graph; None where one is read that is not there, or is there twice."""
    stored = [*(tensor.name for tensor in graph.initializer), *(sparse.values.name for sparse in graph.sparse_initializer)]
    fed = [value.name for value in graph.input]
    made = [name for node in graph.node for name in node.output if name]
    own = {*stored, *fed, *made}
    if len(own) < len({*stored, *fed}) + len(made) or len({*stored}) < len(stored) or len({*fed}) < len(fed):
        return None
    if "" in own or any(not value.name for value in graph.output):
        return None
    known = outside | own
    if not all(known.issuperset(node.input) for node in graph.node):
        return None
    text = all(isinstance(name, str) for name in known)
    return known if text and known.issuperset(value.name for value in graph.output) else None


def _may_read_constants(graph: onnx.GraphProto) -> bool:
    """Whether an Add, Div, Mul or Sub of the graph reads anything that does not surely depend on what is fed."""
    stored = {tensor.name for tensor in graph.initializer}
    varying = {value.name for value in graph.input} - stored
    for node in graph.node:
        inputs = node.input
        if node.op_type in PRIMITIVES and not varying.issuperset(inputs):
            return True
        surely = node.op_type not in _MAY_MAKE_CONSTANTS or not varying.isdisjoint(inputs)
        if surely and node.op_type not in _TYPES_AND_SHAPES:
            varying.update(node.output)
    return False
