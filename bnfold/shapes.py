"""Ranks, extents and element types of tensors, inferred from the graph's inputs when a rule asks for them.

What a model declares for its intermediate tensors (`value_info`) is a claim that nothing checks, so it is used only where
inference has no answer. Weights do not take part: inference runs on a skeleton that keeps small constants, which hold shapes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import onnx
import onnx_graphsurgeon as gs

from bnfold.graph import GraphLike, View, bodies_of
from bnfold.protos import is_sorted
from bnfold.weights import Stored

Extent: TypeAlias = int | str | None
_SMALL_BYTES = 1024


class Shapes:
    """Answers shape questions about one view.

    Args:
        view: the model.
    """

    def __init__(self, view: View) -> None:
        self._view = view
        self._learned: dict[int, onnx.TypeProto.Tensor] = {}

    def learn(self, tensor: gs.Tensor, extents: tuple[Extent, ...] | None, elem_type: int | None) -> None:
        """Takes note of a tensor that a fold put in."""
        if extents is not None and elem_type is not None:
            self._learned[id(tensor)] = onnx.helper.make_tensor_type_proto(elem_type, extents).tensor_type

    def rank(self, tensor: gs.Tensor) -> int | None:
        """The number of axes; None where unknown."""
        fixed = self._rank_from_producer(tensor)  # costs no inference
        if fixed is not None:
            return fixed
        extents = self.extents(tensor)
        return len(extents) if extents is not None else None

    def extents(self, tensor: gs.Tensor) -> tuple[Extent, ...] | None:
        """The extents: an int, a symbol, or None for each axis; None where even the rank is unknown."""
        weight = self._view.stored(tensor)
        if weight is not None:
            return weight.shape
        kind = self._type(tensor)
        if kind is None or not kind.HasField("shape"):
            return None
        return tuple(_extent(dim) for dim in kind.shape.dim)

    def proved_extents(self, tensor: gs.Tensor) -> tuple[Extent, ...] | None:
        """The extents as `extents` gives them, but None where the model only claims them."""
        origin = self._origin.get(id(tensor))
        if origin is None or not (self._given.get(origin) or self._inferred.get(origin)):
            return None
        return self.extents(tensor)

    def elem_type(self, tensor: gs.Tensor) -> int | None:
        """`TensorProto.DataType`; None where unknown."""
        weight = self._view.stored(tensor)
        if weight is not None:
            return weight.elem_type
        kind = self._type(tensor)
        return kind.elem_type if kind is not None and kind.elem_type else None

    def _type(self, tensor: gs.Tensor) -> onnx.TypeProto.Tensor | None:
        origin = self._origin.get(id(tensor))
        if origin is None:
            return self._learned.get(id(tensor))
        return self._given.get(origin) or self._inferred.get(origin) or self._declared.get(origin)

    def _rank_from_producer(self, tensor: gs.Tensor) -> int | None:
        # What the operator itself fixes, for graphs whose inputs have no declared shape.
        node = self._view.producer(tensor)
        if node is None:
            return None
        op_type = self._view.op_type(node)
        if op_type == "Gemm":
            return 2
        if op_type in ("Conv", "ConvTranspose") and len(node.inputs) > 1:
            weight = self._view.stored(node.inputs[1])
            return len(weight.shape) if weight is not None else None
        return None

    @cached_property
    def _origin(self) -> dict[int, tuple[int, str]]:
        scopes = enumerate(self._view.scopes)
        return {id(tensor): (place, name) for place, scope in scopes for name, tensor in scope.tensors.items()}

    @cached_property
    def _given(self) -> dict[tuple[int, str], onnx.TypeProto.Tensor]:
        main = self._view.proto.graph
        return {(0, value.name): value.type.tensor_type for value in main.input if value.type.HasField("tensor_type")}

    @cached_property
    def _declared(self) -> dict[tuple[int, str], onnx.TypeProto.Tensor]:
        found = {}
        for place, scope in enumerate(self._view.scopes):
            found.update(_types(place, scope.proto.value_info))
            if isinstance(scope.proto, onnx.GraphProto):
                found.update(_types(place, (*scope.proto.input, *scope.proto.output)))
        return found

    @cached_property
    def _inferred(self) -> dict[tuple[int, str], onnx.TypeProto.Tensor]:
        model = _skeleton(self._view.proto, self._view.folder)
        known = -1
        try:
            while known != len(model.graph.value_info):
                known = len(model.graph.value_info)
                model = onnx.shape_inference.infer_shapes(model, data_prop=True)
                if is_sorted(model.graph):
                    break  # inference goes through the nodes once, in the order of the file
        except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
            return {}
        found: dict[tuple[int, str], onnx.TypeProto.Tensor] = {}
        for place, graph in enumerate(_graphs_in_order(model)):
            found.update(_types(place, graph.value_info))
            if isinstance(graph, onnx.GraphProto):
                found.update(_types(place, graph.output))
        return found


def _types(place: int, values: Iterable[onnx.ValueInfoProto]) -> dict[tuple[int, str], onnx.TypeProto.Tensor]:
    return {(place, value.name): value.type.tensor_type for value in values if value.type.HasField("tensor_type")}


def _extent(dim: onnx.TensorShapeProto.Dimension) -> Extent:
    if dim.HasField("dim_value"):
        return dim.dim_value if dim.dim_value >= 0 else None
    return dim.dim_param or None


def _skeleton(model: onnx.ModelProto, folder: Path | None) -> onnx.ModelProto:
    bare = onnx.ModelProto(ir_version=max(model.ir_version, 4))
    bare.opset_import.extend(model.opset_import)
    bare.functions.extend(model.functions)
    graph, source = bare.graph, model.graph
    graph.name = "skeleton"
    graph.node.extend(source.node)
    graph.input.extend(source.input)
    graph.output.extend(onnx.ValueInfoProto(name=value.name) for value in source.output)
    inputs = {value.name for value in source.input}
    for tensor in source.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL and 0 < math.prod(tensor.dims) <= _SMALL_BYTES // 8:
            graph.initializer.append(onnx.numpy_helper.from_array(Stored(tensor, folder).array(), tensor.name))
        elif tensor.data_location != onnx.TensorProto.EXTERNAL and tensor.ByteSize() <= _SMALL_BYTES:
            graph.initializer.append(tensor)
        elif tensor.name not in inputs:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    return bare


def _graphs_in_order(model: onnx.ModelProto) -> list[GraphLike]:
    """The main graph, its bodies and the functions, in the order in which `View` makes its scopes."""
    return [found for graph in (model.graph, *model.functions) for found in _with_bodies(graph)]


def _with_bodies(graph: GraphLike) -> Iterator[GraphLike]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for body in bodies_of(attribute):
                yield from _with_bodies(body)
