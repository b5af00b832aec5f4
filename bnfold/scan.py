"""Looks through the nodes of a model before its view is built, which takes several times as long as parsing it.

A model without a BatchNormalization, and without an Add, Div, Mul, Neg or Sub that might have a constant, holds no affine map,
and so there is nothing to decide.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import onnx

from bnfold.constants import EVALUATED
from bnfold.sites import PRIMITIVES

_TELLING = {"BatchNormalization", "Dropout", "Neg"}
"""What a plan has something to say about, whatever its inputs are."""

_MAY_MAKE_CONSTANTS = {"Constant", *EVALUATED}


def operators_without_maps(proto: onnx.ModelProto) -> dict[str, int] | None:
    """Operator type → count over all scopes of a model without any affine map; None where that takes a view to see, or where
    something is wrong with the graph, which a view can name.
    """
    if proto.functions or not any(entry.domain in ("", "ai.onnx") and entry.version for entry in proto.opset_import):
        return None
    counts: Counter[str] = Counter()
    pending: list[tuple[onnx.GraphProto, frozenset[str]]] = [(proto.graph, frozenset({""}))]
    while pending:
        graph, outside = pending.pop()
        operators = Counter(node.op_type for node in graph.node)
        if not operators.keys().isdisjoint(_TELLING):
            return None
        if not operators.keys().isdisjoint(PRIMITIVES) and _may_read_constants(graph):
            return None
        names = _names(graph, outside)
        if names is None:
            return None
        pending += [(body, names) for body in _bodies(graph)]
        counts.update(operators if not any(node.domain for node in graph.node) else map(_full_name, graph.node))
    return dict(sorted(counts.items()))


def _full_name(node: onnx.NodeProto) -> str:
    return f"{node.domain}::{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type


def _bodies(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield attribute.g
            elif attribute.type == onnx.AttributeProto.GRAPHS:
                yield from attribute.graphs


def _names(graph: onnx.GraphProto, outside: frozenset[str]) -> frozenset[str] | None:
    """All names that can be read in a graph; None where one is read that is not there, or is there twice."""
    stored = [*(tensor.name for tensor in graph.initializer), *(sparse.values.name for sparse in graph.sparse_initializer)]
    fed = [value.name for value in graph.input]
    made = [name for node in graph.node for name in node.output if name]
    own = {*stored, *fed, *made}
    if len(own) < len({*stored, *fed}) + len(made) or len({*stored}) < len(stored) or len({*fed}) < len(fed):
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
        if node.op_type not in _MAY_MAKE_CONSTANTS or not varying.isdisjoint(inputs):
            varying.update(node.output)
    return False
