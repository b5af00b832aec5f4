"""Which normalizations can be measured, and how their new statistics are stored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from bnfold.context import Context
from bnfold.parameters import epsilon_of, training_mode
from bnfold.population.probes import Probe
from bnfold.sites import Site, find_sites
from bnfold.verdict import Reason, Refusal
from bnfold.weights import FLOAT_TYPES, Computed, Stored, Weight, round_to

Float64: TypeAlias = NDArray[np.float64]
Pending: TypeAlias = list[tuple[onnx.TensorProto, Weight]]

_MEAN, _VAR = 3, 4
_WORDS = {_MEAN: "running_mean", _VAR: "running_var"}
_INLINE = "Export it without the loop or branch around it, or inline its functions, and measure then."


@dataclass(frozen=True, eq=False)
class Target:
    """One normalization that is to get statistics.

    Attributes:
        site: what it is in the graph.
        proto: its node in the model that will be written.
        probe: how it is measured.
        was_training: whether it is in training mode.
        mean: its stored means, float64.
        var: its stored variances, float64.
    """

    site: Site
    proto: onnx.NodeProto
    probe: Probe
    was_training: bool
    mean: Float64
    var: Float64


def find_targets(context: Context, prefix: str) -> tuple[list[Target], list[Refusal]]:
    """Every BatchNormalization: to be measured, or the reason why not. `prefix` starts no name of the model."""
    targets: list[Target] = []
    refusals: list[Refusal] = []
    for site in find_sites(context):
        if context.view.op_type(site.nodes[0]) != "BatchNormalization":
            continue
        found = _target(context, site, f"{prefix}{len(targets)}")
        if isinstance(found, Reason):
            refusals.append(Refusal(site.normalization, found.code, found.sentence, found.remedy))
        else:
            targets.append(found)
    return targets, refusals


def store(context: Context, target: Target, mean: Float64, var: Float64) -> Iterator[tuple[onnx.TensorProto, Weight]]:
    """Writes the statistics; yields those that lie outside of the proto, for `Model.write`.

    A tensor that this normalization alone reads gets the new values. Any other is left, and the normalization gets its own:
    equal statistics of different layers are often stored once, and one layer used twice has two populations.
    """
    node = target.site.nodes[0]
    for place, values in ((_MEAN, mean), (_VAR, var)):
        tensor = node.inputs[place]
        stored = context.view.stored(tensor)
        elem_type = _stored_type(context, tensor)
        alone = len(list(context.view.readers(tensor))) == 1 and id(tensor) not in context.view.escaping
        own = _initializer(context.view.proto, tensor.name) if alone and isinstance(stored, Stored) else None
        if own is None:
            own = _new_initializer(context.view.proto, target, place, elem_type, values.shape)
        weight = Computed(values, elem_type)
        if own.data_location == onnx.TensorProto.EXTERNAL:
            yield own, weight
            continue
        name = own.name
        own.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(round_to(values, elem_type)), name))


def drop_unread(context: Context, targets: list[Target]) -> None:
    """Removes the initializers and Constant nodes that only the old statistics were."""
    graph = context.view.proto.graph
    names = {tensor.name for each in targets for tensor in each.site.nodes[0].inputs[_MEAN : _VAR + 1]}
    names -= set(_names_read(graph)) | {value.name for value in graph.output}
    inputs = {value.name for value in graph.input}
    overridable = inputs if context.view.proto.ir_version >= 4 else set()
    for place in reversed(range(len(graph.initializer))):
        if graph.initializer[place].name in names - overridable:
            del graph.initializer[place]
    for place in reversed(range(len(graph.node))):
        if graph.node[place].op_type == "Constant" and graph.node[place].output[0] in names:
            del graph.node[place]
    for values in (graph.value_info, graph.input):
        for place in reversed(range(len(values))):
            if values[place].name in names - overridable:
                del values[place]


def fits(context: Context, target: Target, mean: Float64, var: Float64) -> Reason | None:
    """Why the statistics cannot be stored in the type that the old ones have (BNF008); None where they can."""
    for place, values in ((_MEAN, mean), (_VAR, var)):
        elem_type = _stored_type(context, target.site.nodes[0].inputs[place])
        if not np.isfinite(round_to(values, elem_type).astype(np.float64)).all():
            largest = float(np.abs(values).max())
            return Reason("BNF008", f"its new {_WORDS[place]} of {largest:.3g} overflows its storage type")
    return None


def _target(context: Context, site: Site, prefix: str) -> Target | Reason:
    view, node = context.view, site.nodes[0]
    scope = view.scope(node)
    if scope.name:
        return Reason("BNF025", f"it stands in {scope.name}, where nothing can be read from outside", _INLINE)
    if len(node.inputs) < 5:
        return Reason("BNF025", "it has fewer than five inputs: X, scale, B, mean and var are needed", "Export it again.")
    read = next((each.name for each in node.outputs[1:] if not each.is_empty() and view.is_read(each)), None)
    if read is not None:
        remedy = "Remove what reads it: in inference mode there is no such output."
        return Reason("BNF025", f"its training output `{read}` is read", remedy)
    statistics = []
    for place in (_MEAN, _VAR):
        weight = context.float_weight(node.inputs[place])
        if isinstance(weight, Reason):
            return Reason("BNF025", f"its {_WORDS[place]} cannot be replaced: {weight.sentence}", "Store it as an initializer.")
        statistics.append(np.asarray(weight.values(), np.float64))
    elem_type = context.shapes.elem_type(node.inputs[0]) or _stored_type(context, node.inputs[_MEAN])
    proto = view.node_proto(node)
    assert proto is not None
    per_activation = view.opset(node) < 9 and not view.attribute(node, "spatial", 1)
    probe = Probe(
        output=proto.output[0],
        mean=f"{prefix}/mean",
        var=f"{prefix}/var",
        shape=f"{prefix}/shape",
        elem_type=elem_type,
        per_activation=per_activation,
        epsilon=epsilon_of(context, node),
    )
    return Target(site, proto, probe, training_mode(context, node) is not None, statistics[0], statistics[1])


def _stored_type(context: Context, tensor: Any) -> int:
    weight = context.constants.weight(tensor)
    return weight.elem_type if weight is not None and weight.elem_type in FLOAT_TYPES else int(onnx.TensorProto.FLOAT)


def _initializer(model: onnx.ModelProto, name: str) -> onnx.TensorProto | None:
    return next((tensor for tensor in model.graph.initializer if tensor.name == name), None)


def _new_initializer(
    model: onnx.ModelProto, target: Target, place: int, elem_type: int, shape: tuple[int, ...]
) -> onnx.TensorProto:
    graph = model.graph
    base = f"{target.proto.name or target.proto.output[0]}.{_WORDS[place]}"
    known = set(_names_read(graph)) | {tensor.name for tensor in graph.initializer} | {value.name for value in graph.input}
    known |= {name for node in graph.node for name in node.output}
    name = next(each for each in (base, *(f"{base}_{number}" for number in range(1, len(known) + 2))) if each not in known)
    graph.initializer.append(onnx.TensorProto(name=name, data_type=elem_type))
    if model.ir_version < 4:  # an initializer must be an input as well (onnx/docs/IR.md)
        graph.input.append(helper.make_tensor_value_info(name, elem_type, list(shape)))
    target.proto.input[place] = name
    made: onnx.TensorProto = graph.initializer[-1]
    return made


def _names_read(graph: onnx.GraphProto) -> Iterator[str]:
    pending = [graph]
    while pending:
        graph = pending.pop()
        for node in graph.node:
            yield from node.input
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.GRAPH:
                    pending.append(attribute.g)
                pending += attribute.graphs
