"""Folds a model whose normalizations are all plain: BatchNormalizations, each of them alone behind a Conv of its own.

Many convolutional networks are such models, and they need no view: every BatchNormalization goes into the Conv before it, no two
maps meet, and no Conv changes twice. What `bnfold.planner` would do to them, and say of them, is done and said here from the
protos, in a quarter of the time. Wherever a model is not that plain, nothing is decided here.
"""

from __future__ import annotations

import math
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import onnx

from bnfold.affine import in_short
from bnfold.naming import Names
from bnfold.operators import DEFAULT_DOMAINS, default_opset
from bnfold.protos import arrange, is_sorted, keep
from bnfold.scan import count_operators, has_no_primitive_maps, names_of
from bnfold.vectorized import flushed, joined, mapped, read_maps, scaled
from bnfold.verdict import Change, Fold, NewConstant, Normalization, Plan
from bnfold.weights import FLOAT_TYPES, is_external

_BODIES = {onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS}
_NOT_PLAIN = {"CastLike", "Dropout", "Neg"}
"""Operators that a plan has more to say about, or that folding tidies."""

_OLDEST_OPSET = 9  # before it, statistics could be per activation
_LARGEST = 1 << 17  # elements; of what is larger, a plan on a view needs no more than bounds
_TOGETHER = 1 << 15  # elements, so that what is computed with small weights stays in the cache

Readers: TypeAlias = dict[str, list[onnx.NodeProto]]
"""The nodes that read each tensor, in graph order, once for each reading."""


@dataclass(frozen=True, slots=True)
class _Pair:
    """A Conv, which is node number `place`, and the BatchNormalization behind it."""

    place: int
    conv: onnx.NodeProto
    normalization: onnx.NodeProto
    weight: onnx.TensorProto
    bias: onnx.TensorProto | None
    parameters: list[bytes]
    epsilon: float
    channels: int
    elements: int


@dataclass(slots=True)
class _Folded:
    """A pair and the new values of its Conv as they are stored. A bias that was absent, and is all zeros, stays absent."""

    pair: _Pair
    weight: bytes
    bias: bytes | None
    bias_name: str = ""


def _place(folded: _Folded) -> int:
    return folded.pair.place


class PlainFolds:
    """The folds of a plain model.

    Attributes:
        plan: what is decided.
    """

    def __init__(self, graph: onnx.GraphProto, folded: list[_Folded], readers: Readers, operators: dict[str, int]) -> None:
        self._graph = graph
        self._folded = folded
        outputs = {value.name for value in graph.output}
        self._gone = _left_unread(folded, readers, outputs)
        verdicts = tuple(_verdict(each.pair, readers, outputs) for each in folded)
        after = {name: count for name, count in operators.items() if name != "BatchNormalization"}
        self.plan = Plan(verdicts, operators, after, (), tuple(_change(each, self._gone) for each in folded))

    def apply(self, flush_subnormals: bool) -> list[Any]:
        """Writes them into the proto that they were found in, with subnormal values as zero if asked to.

        Returns:
            The folds that stay in external data: none.
        """
        graph, removed = self._graph, {id(each.pair.normalization) for each in self._folded}
        for each in sorted(self._folded, key=_place):
            conv, elem_type = each.pair.conv, each.pair.weight.data_type
            if flush_subnormals:
                each.weight, each.bias = flushed(elem_type, each.weight), each.bias and flushed(elem_type, each.bias)
            each.pair.weight.raw_data = each.weight
            conv.output[0] = each.pair.normalization.output[0]
            if each.bias is not None and each.pair.bias is not None:
                each.pair.bias.raw_data = each.bias
            elif each.bias is not None:
                dims = [each.pair.channels]
                graph.initializer.add(name=each.bias_name, data_type=elem_type, dims=dims, raw_data=each.bias)
                conv.input[:] = [*conv.input[:2], each.bias_name]
        arrange(graph.node, [node for node in graph.node if id(node) not in removed])
        keep(graph.value_info, lambda value: value.name not in self._gone)
        keep(graph.initializer, lambda tensor: tensor.name not in self._gone)
        return []


def fold_plain(proto: onnx.ModelProto) -> PlainFolds | None:
    """The folds of a model that is plain, none of them made yet; None for one that is not."""
    graph, opset = proto.graph, default_opset(proto.opset_import)
    if proto.functions or proto.training_info or proto.ir_version < 4 or opset < _OLDEST_OPSET or sys.byteorder == "big":
        return None
    if graph.sparse_initializer or graph.quantization_annotation:
        return None
    operators = count_operators(graph)
    if "BatchNormalization" not in operators or not _NOT_PLAIN.isdisjoint(operators) or not _is_flat(graph):
        return None
    if not has_no_primitive_maps(graph, operators) or not is_sorted(graph):
        return None
    names = names_of(graph, frozenset({""}))
    if names is None:
        return None
    readers: Readers = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node)
    pairs = _pairs(graph, readers)
    folded = _fold(pairs) if pairs is not None else None
    if folded is None:
        return None
    free = Names(names)
    for each in sorted(folded, key=_place):
        if each.bias is not None and each.pair.bias is None:
            each.bias_name = free.fresh(f"{each.pair.conv.name or each.pair.conv.output[0]}.bias")
    return PlainFolds(graph, folded, readers, dict(sorted(operators.items())))


def _is_flat(graph: onnx.GraphProto) -> bool:
    """Whether no node has a body, or anything else that takes a view to see."""
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.ref_attr_name or attribute.type in _BODIES or not isinstance(attribute.name, str):
                return False
        if not isinstance(node.name, str) or not isinstance(node.op_type, str):
            return False
    return True


def _pairs(graph: onnx.GraphProto, readers: Readers) -> list[_Pair] | None:
    """Every BatchNormalization with its Conv, in graph order; None where one has no Conv of its own, with a weight of its own."""
    fed, outputs = {value.name for value in graph.input}, {value.name for value in graph.output}
    stored = {tensor.name: tensor for tensor in graph.initializer if tensor.name not in fed}
    nodes = enumerate(graph.node)
    convs = {node.output[0]: (place, node) for place, node in nodes if _is(node, "Conv") and len(node.output) == 1}
    own = {name for name, nodes in readers.items() if len(nodes) == 1} - outputs
    found = []
    for node in graph.node:
        if node.op_type != "BatchNormalization":
            continue
        pair = _pair(node, convs, stored, own)
        if pair is None:
            return None
        found.append(pair)
    return found


def _pair(
    node: onnx.NodeProto, convs: dict[str, tuple[int, onnx.NodeProto]], stored: dict[str, onnx.TensorProto], own: set[str]
) -> _Pair | None:
    epsilon, inputs = _epsilon(node), node.input
    place, conv = convs.get(inputs[0], (0, None)) if len(inputs) == 5 and inputs[0] and inputs[0] in own else (0, None)
    if conv is None or epsilon is None or len(node.output) != 1 or not node.output[0] or not _is(node, "BatchNormalization"):
        return None
    operands = conv.input[1:] if len(conv.input) != 3 or conv.input[2] else conv.input[1:2]  # "" is no bias
    constants = [*operands, *inputs[1:]]
    if len(operands) not in (1, 2) or not own.issuperset(operands) or not stored.keys() >= set(constants):
        return None
    if getattr(conv, "device_configurations", ()):
        return None
    weight, *others = (stored[name] for name in constants)
    elem_type, extents = weight.data_type, weight.dims
    if is_external(weight) or elem_type not in FLOAT_TYPES or len(extents) < 3 or min(extents) < 1:
        return None
    channels, raw, elements = extents[0], [each.raw_data for each in others], math.prod(extents)
    if elements > _LARGEST or len(weight.raw_data) != elements * FLOAT_TYPES[elem_type].itemsize:
        return None
    size = channels * FLOAT_TYPES[elem_type].itemsize
    for each, values in zip(others, raw, strict=True):
        if each.data_type != elem_type or each.dims != [channels] or len(values) != size or is_external(each):
            return None
    bias = others[0] if len(operands) == 2 else None
    return _Pair(place, conv, node, weight, bias, raw[-4:], epsilon, channels, elements)


def _is(node: onnx.NodeProto, op_type: str) -> bool:
    return node.op_type == op_type and node.domain in DEFAULT_DOMAINS


def _epsilon(node: onnx.NodeProto) -> float | None:
    """The epsilon of a BatchNormalization with usual attributes, each once, that is not in training mode."""
    known = {attribute.name: attribute for attribute in node.attribute}
    if len(known) < len(node.attribute) or not known.keys() <= {"epsilon", "momentum", "training_mode"}:
        return None
    epsilon, training = known.get("epsilon"), known.get("training_mode")
    if training is not None and (training.type != onnx.AttributeProto.INT or training.i):
        return None
    if epsilon is None:
        return float(np.float32(1e-5))
    return float(epsilon.f) if epsilon.type == onnx.AttributeProto.FLOAT else None


def _fold(pairs: Sequence[_Pair]) -> list[_Folded] | None:
    """The new weights and biases; None where one of them is not plain: not finite, too large or small for its type."""
    folded: list[_Folded] = []
    for together in _runs(pairs):
        found = _fold_together(together)
        if found is None:
            return None
        folded += found
    return folded


def _runs(pairs: Sequence[_Pair]) -> Iterator[list[_Pair]]:
    """Cuts the pairs into runs of one type, and of so many elements that their arrays stay small."""
    run: list[_Pair] = []
    elements = 0
    for pair in pairs:
        if run and (pair.weight.data_type != run[0].weight.data_type or elements > _TOGETHER):
            yield run
            run, elements = [], 0
        run.append(pair)
        elements += pair.elements
    yield run


def _fold_together(pairs: list[_Pair]) -> list[_Folded] | None:
    elem_type = pairs[0].weight.data_type
    size = FLOAT_TYPES[elem_type].itemsize
    maps, bounds, usual = read_maps(elem_type, [pair.parameters for pair in pairs], [pair.epsilon for pair in pairs])
    if not usual.all():
        return None
    ends = np.cumsum([pair.elements for pair in pairs])
    factors = np.repeat(maps.scale, np.repeat([pair.elements // pair.channels for pair in pairs], np.diff(bounds)))
    stored = [pair.weight.raw_data for pair in pairs]
    weights = scaled(elem_type, np.frombuffer(b"".join(stored), FLOAT_TYPES[elem_type]), factors)
    biases = joined(elem_type, (pair.bias.raw_data if pair.bias is not None else bytes(size * pair.channels) for pair in pairs))
    made = mapped(elem_type, biases, maps)
    if weights is None or made is None:
        return None
    needed = np.logical_or.reduceat(made[1], bounds[:-1]).tolist()
    places, found, start = bounds.tolist(), [], 0
    for pair, end, first, last, is_needed in zip(pairs, ends.tolist(), places, places[1:], needed, strict=False):
        bias = made[0][first:last].tobytes() if is_needed or pair.bias is not None else None
        found.append(_Folded(pair, weights[start:end].tobytes(), bias))
        start = end
    return found


def _left_unread(folded: Sequence[_Folded], readers: Readers, outputs: set[str]) -> set[str]:
    removed = {id(each.pair.normalization) for each in folded}
    parameters = {name for each in folded for name in each.pair.normalization.input[1:]} - outputs
    unread = {name for name in parameters if len(readers[name]) == 1 or all(id(node) in removed for node in readers[name])}
    return unread | {each.pair.conv.output[0] for each in folded}


def _verdict(pair: _Pair, readers: Readers, outputs: set[str]) -> Fold:
    node, conv = pair.normalization, _described(pair.conv)
    output = node.output[0]
    read_by = (*map(_described, readers.get(output, ())), *(("graph output",) if output in outputs else ()))
    name, epsilon = node.name or output, in_short(pair.epsilon)
    return Fold(Normalization(name, "", "BatchNormalization", output, conv, read_by, pair.channels, epsilon), (conv,))


def _change(folded: _Folded, gone: set[str]) -> Change:
    pair, node, into = folded.pair, folded.pair.normalization, _described(folded.pair.conv)
    weight, bias = pair.weight.name, pair.bias.name if pair.bias is not None else ""
    constants = [NewConstant(into, 1, weight, weight)]
    if folded.bias is not None:
        constants.append(NewConstant(into, 2, bias, bias or folded.bias_name))
    left = tuple(dict.fromkeys(name for name in node.input if name in gone))
    return Change(node.name or node.output[0], "", node.output[0], (into,), left, (), tuple(constants))


def _described(node: onnx.NodeProto) -> str:
    return f"{node.op_type} `{node.name or next(iter(node.output), '')}`"
