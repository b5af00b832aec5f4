"""A model as onnxruntime will open it: what it is called, its signature, and the bytes or the path to load.

Only the graph is looked at here, never the weights. The one thing that is changed, in a copy in memory, is a
BatchNormalization that spells out its absent outputs, `["y", "", "", "", ""]`: onnxruntime 1.31 crashes the process on
that in opsets 7 to 13 and refuses it later, while the ONNX specification lets trailing optional outputs be left out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from bnfold.errors import InputError
from bnfold.runtime.indices import index_limits
from bnfold.runtime.tolerance import Precision, coarsest

if TYPE_CHECKING:
    import onnx

    ModelLike: TypeAlias = str | os.PathLike[str] | onnx.ModelProto

MAX_PROTO_BYTES = 2**31 - 1
"""What one protobuf message can hold."""


@dataclass(frozen=True)
class ValueSpec:
    """One graph input or output.

    Attributes:
        name: its name.
        type: as onnxruntime spells it: "tensor(float)", "sequence(tensor(int64))"; "" where the model does not say.
        shape: extents, names of symbolic dimensions, and None for unknown ones; None when the rank is unknown.
        limit: of an input that is looked up in a constant table: its values are below that.
    """

    name: str
    type: str
    shape: tuple[int | str | None, ...] | None = None
    limit: int | None = None

    @property
    def elem_type(self) -> str:
        """The element type of a dense tensor, as "float"; "" for anything else."""
        return self.type[len("tensor(") : -1] if self.type.startswith("tensor(") else ""


@dataclass(frozen=True)
class Source:
    """One model, ready to be opened.

    Attributes:
        label: what messages call it.
        payload: the file, or the serialized model.
        folder: where a serialized model finds its external data.
        inputs: what every caller has to feed: the graph inputs without an initializer.
        overridable: names of graph inputs that have an initializer.
        outputs: the graph outputs.
        precision: the coarsest arithmetic found in the graph.
    """

    label: str
    payload: Path | bytes = field(repr=False)
    folder: Path | None
    inputs: tuple[ValueSpec, ...]
    overridable: frozenset[str]
    outputs: tuple[ValueSpec, ...]
    precision: Precision


def read_source(model: ModelLike, role: str) -> Source:
    """Reads a model's signature and settles how onnxruntime will open it.

    Args:
        model: a path, or a model in memory with its weights in it.
        role: "original" or "candidate", for messages about a model in memory.

    Raises:
        InputError: a file is missing, is no ONNX model or lacks its external data, or a model in memory is larger than
            2 GB or lacks its weights.
    """
    import onnx

    from bnfold.model import Model

    if isinstance(model, str | os.PathLike):
        path = Path(model)
        proto = Model.open(path).proto
        plain = _without_absent_outputs(proto)
        payload: Path | bytes = path if plain is proto else plain.SerializeToString()
        return _describe(proto, str(path), payload, path.absolute().parent)
    label = f"the {role} (a model in memory)"
    if not isinstance(model, onnx.ModelProto):
        raise InputError(f"the {role} is a {type(model).__name__}: give a path or an onnx.ModelProto.")
    if model.ByteSize() > MAX_PROTO_BYTES:
        raise InputError(f"{label} is larger than the 2 GB of one protobuf message: save it and pass the path.")
    Model(model).check()
    return _describe(model, label, _without_absent_outputs(model).SerializeToString(), None)


def all_nodes(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Every node of the main graph, of the bodies in it, and of the local functions."""
    graphs: list[onnx.GraphProto | onnx.FunctionProto] = [proto.graph, *proto.functions]
    while graphs:
        for node in graphs.pop().node:
            yield node
            for attribute in node.attribute:
                graphs.extend(attribute.graphs)
                if attribute.HasField("g"):
                    graphs.append(attribute.g)


def _describe(proto: onnx.ModelProto, label: str, payload: Path | bytes, folder: Path | None) -> Source:
    graph = proto.graph
    constant = {tensor.name for tensor in graph.initializer}
    constant |= {tensor.values.name for tensor in graph.sparse_initializer}
    limits = index_limits(graph)
    return Source(
        label=label,
        payload=payload,
        folder=folder,
        inputs=tuple(_value_spec(value, limits.get(value.name)) for value in graph.input if value.name not in constant),
        overridable=frozenset(value.name for value in graph.input if value.name in constant),
        outputs=tuple(_value_spec(value) for value in graph.output),
        precision=coarsest(proto, all_nodes(proto)),
    )


def _value_spec(value: onnx.ValueInfoProto, limit: int | None = None) -> ValueSpec:
    tensor = value.type.tensor_type
    known = value.type.HasField("tensor_type") and tensor.HasField("shape")
    shape = tuple(_extent(dim) for dim in tensor.shape.dim) if known else None
    return ValueSpec(value.name, _type_text(value.type), shape, limit)


def _extent(dim: onnx.TensorShapeProto.Dimension) -> int | str | None:
    if dim.HasField("dim_value"):
        return dim.dim_value if dim.dim_value >= 0 else None
    return dim.dim_param or None


def _type_text(proto: onnx.TypeProto) -> str:
    kind = proto.WhichOneof("value")
    if kind is None:
        return ""
    inner: Any = getattr(proto, kind)
    word = kind.removesuffix("_type")
    if word in ("tensor", "sparse_tensor"):
        return f"{word}({_elem_text(inner.elem_type)})"
    if word == "map":
        return f"map({_elem_text(inner.key_type)}, {_type_text(inner.value_type)})"
    return f"{word}({_type_text(inner.elem_type)})" if word in ("sequence", "optional") else word


def _elem_text(elem_type: int) -> str:
    import onnx

    return str(onnx.TensorProto.DataType.Name(elem_type)).lower()


def _without_absent_outputs(proto: onnx.ModelProto) -> onnx.ModelProto:
    """`proto` itself where no BatchNormalization names absent outputs; else a copy in which none does."""
    if not any(_spells_absent_outputs(node) for node in all_nodes(proto)):
        return proto
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for node in all_nodes(copy):
        while _spells_absent_outputs(node):
            del node.output[-1]
    return copy


def _spells_absent_outputs(node: onnx.NodeProto) -> bool:
    return node.op_type == "BatchNormalization" and len(node.output) > 1 and not node.output[-1]
