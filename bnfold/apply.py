"""Writes the edits of a view back into its ModelProto, and nothing else: the only code that changes a model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import onnx
import onnx_graphsurgeon as gs

from bnfold.graph import Scope, View
from bnfold.inline import is_cut_out, refer
from bnfold.placement import Placement
from bnfold.protos import arrange, keep
from bnfold.weights import Flushed, Scaled, Stored, Weight, stored_bytes

Pending: TypeAlias = list[tuple[onnx.TensorProto, Weight]]
"""Tensors that are there already, with the values that they are about to get."""

_VALUE_FIELDS = ("float_data", "int32_data", "double_data", "int64_data", "uint64_data", "string_data", "raw_data")


def apply(view: View, placements: Iterable[Placement]) -> Pending:
    """Writes the folds made on `view` into the proto it was made from.

    Returns:
        The folded weights that stay in external data; `bnfold.model.Model.write` writes them.
    """
    pending = [(_home(view, placement), placement.weight) for placement in placements]
    external = [(proto, weight) for proto, weight in pending if proto.data_location == onnx.TensorProto.EXTERNAL]
    _write_values([(proto, weight) for proto, weight in pending if proto.data_location != onnx.TensorProto.EXTERNAL])
    for scope in view.scopes:
        _write_nodes(view, scope)
    unread = [tensor for key, tensor in view.released.items() if key not in view.replaced and view.is_gone(tensor)]
    for scope in view.scopes:
        _drop_tensors(view, scope, unread)
    return external


def _home(view: View, placement: Placement) -> onnx.TensorProto:
    """The proto that a new constant is written into."""
    weight, tensor = placement.weight, placement.tensor
    if placement.replaced is not None:
        if placement.replaced.shape != weight.shape:
            _restate_shape(view, placement)
        return placement.replaced.tensor
    proto = onnx.TensorProto(name=tensor.name, data_type=weight.elem_type)
    if placement.node is not None:
        view.set_attribute(placement.node, "value", proto)
        return proto
    graph = placement.scope.proto
    assert isinstance(graph, onnx.GraphProto)
    inner = weight.source if isinstance(weight, Flushed) else weight
    source = inner.source if isinstance(inner, Scaled) else None
    if isinstance(source, Stored) and source.tensor.data_location == onnx.TensorProto.EXTERNAL:
        proto.data_location = onnx.TensorProto.EXTERNAL
        if is_cut_out(source.tensor):
            refer(proto)
    graph.initializer.append(proto)
    if view.proto.ir_version < 4:  # an initializer must be an input as well (onnx/docs/IR.md)
        graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, weight.elem_type, list(weight.shape)))
    home: onnx.TensorProto = graph.initializer[-1]
    return home


def _write_values(pending: Pending) -> None:
    # Everything is computed before anything is overwritten: one weight may be the source of several.
    values = [(proto, weight.shape, stored_bytes(weight)) for proto, weight in pending]
    for proto, shape, raw in values:
        for field in _VALUE_FIELDS if not proto.raw_data else ():  # a tensor has its values in one field (onnx.proto)
            proto.ClearField(field)
        if tuple(proto.dims) != shape:
            proto.dims[:] = shape
        proto.raw_data = raw


def _restate_shape(view: View, placement: Placement) -> None:
    name, weight = placement.tensor.name, placement.weight
    home = next(scope for scope in view.scopes if scope.tensors.get(name) is placement.origin)
    inputs = home.proto.input if isinstance(home.proto, onnx.GraphProto) else ()
    for value in (*home.proto.value_info, *inputs):
        if not isinstance(value, str) and value.name == name:
            value.type.CopyFrom(onnx.helper.make_tensor_type_proto(weight.elem_type, weight.shape))


def _write_nodes(view: View, scope: Scope) -> None:
    nodes = list(view.nodes_of(scope))
    for node in nodes:
        proto = view.node_proto(node)
        if proto is not None:
            _write_node(view, node, proto)
    arrange(scope.proto.node, [view.node_proto(node) or _new_node(view, node) for node in nodes])


def _write_node(view: View, node: gs.Node, proto: onnx.NodeProto) -> None:
    inputs, outputs = _names(node.inputs), _names(node.outputs)
    if proto.input != inputs:
        proto.input[:] = inputs
    if proto.output != outputs:
        _rename_shardings(proto, dict(zip(proto.output, outputs, strict=True)))
        proto.output[:] = outputs
    edits = view.attribute_edits.get(id(node), {})
    if edits:
        keep(proto.attribute, lambda attribute: attribute.name not in edits)
        proto.attribute.extend(onnx.helper.make_attribute(name, value) for name, value in edits.items())


def _rename_shardings(proto: onnx.NodeProto, renamed: dict[str, str]) -> None:
    # A sharding spec must name an input or output of its own node (onnx.proto, ShardingSpecProto).
    for configuration in getattr(proto, "device_configurations", ()):
        for spec in configuration.sharding_spec:
            spec.tensor_name = renamed.get(spec.tensor_name, spec.tensor_name)


def _new_node(view: View, node: gs.Node) -> onnx.NodeProto:
    outputs = _names(node.outputs)
    edits = view.attribute_edits.get(id(node), {})
    return onnx.helper.make_node(node.op, _names(node.inputs), outputs, name=f"{outputs[0]}_{node.op}", **edits)


def _names(tensors: Sequence[gs.Tensor]) -> list[str]:
    return [tensor.name for tensor in tensors]


def _drop_tensors(view: View, scope: Scope, unread: Sequence[gs.Tensor]) -> None:
    """Forgets the tensors that the folds left without a reader: initializers, and what was said of them elsewhere."""
    fed = {tensor.name for tensor in scope.graph.inputs if view.stored(tensor) is None}
    gone = {each.name for each in unread if each.name in scope.tensors and scope.tensors[each.name] is each} - fed
    if not gone:
        return
    graph = scope.proto
    keep(graph.value_info, lambda value: value.name not in gone)
    if isinstance(graph, onnx.FunctionProto):
        return
    keep(graph.initializer, lambda tensor: tensor.name not in gone)
    keep(graph.quantization_annotation, lambda note: note.tensor_name not in gone)
    if view.proto.ir_version < 4:
        keep(graph.input, lambda value: value.name not in gone)
