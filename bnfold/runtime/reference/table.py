"""Which function evaluates which operator, and which operators of a model have none."""

from __future__ import annotations

import math
from collections.abc import Iterator

import onnx

from bnfold.runtime.reference import (
    activation,
    cast,
    control,
    conv,
    conv_transpose,
    creation,
    detection,
    dropout,
    elementwise,
    indexing,
    linear,
    normalization,
    pool,
    quantization,
    recurrent,
    reduction,
    resize,
    sampling,
    sequence,
    shape,
    signal,
    standard,
)
from bnfold.runtime.reference.call import Operator
from bnfold.runtime.reference.program import domain_of, opsets_of
from bnfold.runtime.reference.value import BOOL

FAMILIES = (
    activation,
    cast,
    creation,
    control,
    conv,
    conv_transpose,
    detection,
    dropout,
    elementwise,
    indexing,
    linear,
    normalization,
    pool,
    quantization,
    recurrent,
    reduction,
    resize,
    sampling,
    sequence,
    shape,
    signal,
)
"""The modules with operators."""

OPERATORS: dict[str, Operator] = {name: operator for family in FAMILIES for name, operator in family.OPERATORS.items()}
"""ONNX operator → function."""

NEWEST_OPSET = 28
"""The newest opset that the functions were written for. What a later one does not change is covered as well."""


def operator_of(key: tuple[str, str], opset: int) -> Operator | None:
    """The function for domain and operator type, or None."""
    domain, op_type = key
    if domain or op_type not in OPERATORS or not _is_known(op_type, opset):
        return None
    return OPERATORS[op_type]


def _is_known(op_type: str, opset: int) -> bool:
    """Whether the operator means at `opset` what it meant at the newest opset known here."""
    if opset <= NEWEST_OPSET:
        return True
    if opset > onnx.defs.onnx_opset_version():
        return False
    return int(onnx.defs.get_schema(op_type, opset, "").since_version) <= NEWEST_OPSET


def is_covered(key: tuple[str, str], opset: int) -> bool:
    """Whether the reference evaluates the operator, itself or by the function that ONNX defines for it."""
    return operator_of(key, opset) is not None or (not key[0] and standard.is_defined(key[1], opset))


def uncovered(proto: onnx.ModelProto) -> tuple[str, ...]:
    """The operator types of a model that the reference cannot evaluate, sorted; with their domain unless it is ONNX's own.

    Every node counts, in bodies and in local functions too. Dropout counts where it is sure to train.
    """
    local = {(domain_of(each.domain), each.name) for each in proto.functions}
    found = set()
    for graph, opsets in [(proto.graph, opsets_of(proto)), *((each, opsets_of(each)) for each in proto.functions)]:
        nodes, true = list(_nodes(graph)), _true_constants(graph)
        for node in nodes:
            key = (domain_of(node.domain), node.op_type)
            opset = opsets.get(key[0], 1)
            if key not in local and (not is_covered(key, opset) or _is_refused(node, opset, true)):
                found.add(".".join(filter(None, key)))
    return tuple(sorted(found))


def _is_refused(node: onnx.NodeProto, opset: int, true: set[str]) -> bool:
    """Whether it is plain from the node that its operator will refuse it.

    A Dropout that is sure to drop something: always below opset 7 unless told otherwise, later where it is told to train. A
    RoiAlign of mode "max", of which onnxruntime says itself that it computes something else.
    """
    attributes = {each.name: each for each in node.attribute}
    if node.op_type == "RoiAlign":
        return "mode" in attributes and attributes["mode"].s == b"max"
    if node.op_type != "Dropout":
        return False
    if opset >= 7:
        return len(node.input) > 2 and node.input[2] in true
    return "is_test" not in attributes or not (attributes["is_test"].i or attributes["is_test"].ref_attr_name)


def _true_constants(graph: onnx.GraphProto | onnx.FunctionProto) -> set[str]:
    """Names of scalar bools that are constants and true."""
    tensors = {tensor.name: tensor for tensor in graph.initializer} if isinstance(graph, onnx.GraphProto) else {}
    for node in _nodes(graph):
        if node.op_type == "Constant":
            tensors.update((node.output[0], each.t) for each in node.attribute if each.name == "value")
    scalars = {name: each for name, each in tensors.items() if each.data_type == BOOL and math.prod(each.dims) == 1}
    return {name for name, each in scalars.items() if onnx.numpy_helper.to_array(each).all()}


def _nodes(graph: onnx.GraphProto | onnx.FunctionProto) -> Iterator[onnx.NodeProto]:
    pending = [graph]
    while pending:
        for node in pending.pop().node:
            yield node
            for attribute in node.attribute:
                pending += attribute.graphs
                if attribute.HasField("g"):
                    pending.append(attribute.g)
