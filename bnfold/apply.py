"""Writes the edits of a view back into its ModelProto, and nothing else: the only code that changes a model.

A folded weight takes the place of the old one, under its name, when nobody else reads it: same initializer or Constant
node, same doc string, same external file. Otherwise it becomes a new initializer where its reader stands (a Constant node
inside functions, which have no initializers).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import onnx
import onnx_graphsurgeon as gs

from bnfold.graph import Scope, View
from bnfold.weights import Scaled, Stored, Weight, rounded_blocks

Pending: TypeAlias = list[tuple[onnx.TensorProto, Weight]]
"""Tensors that are there already, with the values that they are about to get."""

_VALUE_FIELDS = ("float_data", "int32_data", "double_data", "int64_data", "uint64_data", "string_data", "raw_data")


def apply(view: View) -> Pending:
    """Writes the folds made on `view` into the proto it was made from.

    Returns:
        The folded weights that stay in external data; `bnfold.model.Model.save` writes them.
    """
    pending: Pending = []
    for scope in view.scopes:
        _store_constants(view, scope, pending)
    _write_values(pending)
    for scope in view.scopes:
        _write_nodes(view, scope)
        _drop_tensors(view, scope)
    return [(proto, weight) for proto, weight in pending if proto.data_location == onnx.TensorProto.EXTERNAL]


def _write_values(pending: Pending) -> None:
    # Everything is computed before anything is overwritten: one weight may be the source of several.
    inline = [(proto, weight) for proto, weight in pending if proto.data_location != onnx.TensorProto.EXTERNAL]
    values = [b"".join(block.tobytes() for block in rounded_blocks(weight)) for _, weight in inline]
    for (proto, weight), raw in zip(inline, values, strict=True):
        for field in _VALUE_FIELDS:
            proto.ClearField(field)
        proto.dims[:] = weight.shape
        proto.raw_data = raw


def freeze(proto: onnx.ModelProto) -> None:
    """Takes the initializers out of the graph's inputs, so that no caller can override them. Before IR 4 none could."""
    if proto.ir_version >= 4:
        names = {tensor.name for tensor in proto.graph.initializer}
        _keep(proto.graph.input, lambda value: value.name not in names)


def _store_constants(view: View, scope: Scope, pending: Pending) -> None:
    made: dict[tuple[int, tuple[bytes, ...]], gs.Tensor] = {}
    for node, index, tensor in list(_new_constants(view, scope)):
        weight, origin = view.stored(tensor), view.origin(tensor)
        assert weight is not None
        if isinstance(weight, Scaled) and origin is not None:
            same = made.setdefault((id(origin), weight.key()), tensor)
            if same is not tensor:  # one weight by one map: stored once
                view.set_input(node, index, same)
                continue
        if not _replace_in_place(view, tensor, origin, weight, pending):
            tensor.name = view.fresh(tensor.name)
            _add_constant(view, scope, node, tensor, weight, pending)


def _new_constants(view: View, scope: Scope) -> Iterator[tuple[gs.Node, int, gs.Tensor]]:
    for node in view.nodes_of(scope):
        for index, tensor in enumerate(node.inputs):
            if view.is_new(tensor):
                yield node, index, tensor


def _replace_in_place(view: View, tensor: gs.Tensor, origin: gs.Tensor | None, weight: Weight, pending: Pending) -> bool:
    """Stores `weight` where `origin` was, if that is a tensor of its own that nobody reads any more."""
    if origin is None or id(origin) in view.replaced or view.is_read(origin) or _is_annotated(view, origin):
        return False
    stored, maker = view.stored(origin), view.producer(origin)
    if not isinstance(stored, Stored) or stored.elem_type != weight.elem_type:
        return False
    if maker is not None and (view.op_type(maker) != "Constant" or stored is not view.stored(maker.outputs[0])):
        return False
    if maker is not None:
        view.restore(maker)
    if stored.shape != weight.shape:
        _restate_shape(view, origin.name, weight)
    pending.append((stored.tensor, weight))
    tensor.name = origin.name
    view.replaced.add(id(origin))
    return True


def _is_annotated(view: View, tensor: gs.Tensor) -> bool:
    """Whether quantization parameters are noted for this very tensor: they would not fit the folded values."""
    graphs = (scope.proto for scope in view.scopes if isinstance(scope.proto, onnx.GraphProto))
    return any(note.tensor_name == tensor.name for graph in graphs for note in graph.quantization_annotation)


def _add_constant(view: View, scope: Scope, reader: gs.Node, tensor: gs.Tensor, weight: Weight, pending: Pending) -> None:
    proto = onnx.TensorProto(name=tensor.name, data_type=weight.elem_type)
    graph, ir_version = scope.proto, view.proto.ir_version
    if isinstance(graph, onnx.FunctionProto) or (ir_version < 4 and scope.parent is not None):
        pending.append((proto, weight))
        view.set_attribute(view.insert_before(reader, "Constant", [], tensor), "value", proto)
        return
    source = weight.source if isinstance(weight, Scaled) else None
    if isinstance(source, Stored) and source.tensor.data_location == onnx.TensorProto.EXTERNAL:
        proto.data_location = onnx.TensorProto.EXTERNAL
    graph.initializer.append(proto)
    pending.append((graph.initializer[-1], weight))
    if ir_version < 4:  # an initializer must be an input as well (onnx/docs/IR.md)
        graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, weight.elem_type, list(weight.shape)))


def _restate_shape(view: View, name: str, weight: Weight) -> None:
    for scope in view.scopes:
        inputs = scope.proto.input if isinstance(scope.proto, onnx.GraphProto) else ()
        for value in (*scope.proto.value_info, *inputs):
            if value.name == name and name in scope.tensors:
                value.type.CopyFrom(onnx.helper.make_tensor_type_proto(weight.elem_type, weight.shape))


def _write_nodes(view: View, scope: Scope) -> None:
    nodes = list(view.nodes_of(scope))
    for node in nodes:
        proto = view.node_proto(node)
        if proto is not None:
            _write_node(view, node, proto)
    _arrange(scope.proto.node, [view.node_proto(node) or _new_node(view, node) for node in nodes])


def _write_node(view: View, node: gs.Node, proto: onnx.NodeProto) -> None:
    inputs, outputs = _names(node.inputs), _names(node.outputs)
    if inputs != list(proto.input):
        proto.input[:] = inputs
    if outputs != list(proto.output):
        proto.output[:] = outputs
    edits = view.attribute_edits.get(id(node), {})
    if edits:
        _keep(proto.attribute, lambda attribute: attribute.name not in edits)
        proto.attribute.extend(onnx.helper.make_attribute(name, value) for name, value in edits.items())


def _new_node(view: View, node: gs.Node) -> onnx.NodeProto:
    outputs = _names(node.outputs)
    edits = view.attribute_edits.get(id(node), {})
    return onnx.helper.make_node(node.op, _names(node.inputs), outputs, name=f"{outputs[0]}_{node.op}", **edits)


def _names(tensors: Sequence[gs.Tensor]) -> list[str]:
    return [tensor.name for tensor in tensors]


def _drop_tensors(view: View, scope: Scope) -> None:
    """Forgets the tensors that the folds left without a reader: initializers, and what was said of them elsewhere."""
    untouched = view.replaced | {id(tensor) for tensor in scope.graph.inputs if view.stored(tensor) is None}
    released = {id(tensor): tensor for tensor in view.released if id(tensor) not in untouched}
    unread = {key for key, tensor in released.items() if not view.is_read(tensor) and not _is_made(view, tensor)}
    gone = {name for name, tensor in scope.tensors.items() if id(tensor) in unread}
    if not gone:
        return
    graph = scope.proto
    _keep(graph.value_info, lambda value: value.name not in gone)
    if isinstance(graph, onnx.FunctionProto):
        return
    _keep(graph.initializer, lambda tensor: tensor.name not in gone)
    _keep(graph.quantization_annotation, lambda note: note.tensor_name not in gone)
    if view.proto.ir_version < 4:
        _keep(graph.input, lambda value: value.name not in gone)


def _is_made(view: View, tensor: gs.Tensor) -> bool:
    producer = view.producer(tensor)
    return producer is not None and id(producer) not in view.removed


def _keep(field: Any, wanted: Callable[[Any], bool]) -> None:
    """Drops the unwanted entries of a repeated field."""
    kept = [entry for entry in field if wanted(entry)]
    if len(kept) < len(field):
        _arrange(field, kept)


def _arrange(field: Any, wanted: Sequence[Any]) -> None:
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
