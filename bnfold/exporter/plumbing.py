"""Takes out the small subgraphs in which PyTorch's exporter computes constants: absent biases above all.

With `optimize=False` it writes the absent bias of a convolution as `Expand(CastLike(0, x), Shape(W)[0:1])`, for Conv3d with a
rank of 2 that no runtime takes (microsoft/onnxscript#2931), and the absent scale of a normalization likewise. What is computed
with arithmetic stays: it may be a normalization written by hand, and those are to be kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from bnfold.context import Context
from bnfold.weights import Weight, round_to

_FORMS = frozenset(
    {"Cast", "CastLike", "Concat", "Constant", "Expand", "Gather", "Identity", "Reshape", "Shape", "Slice", "Squeeze"}
    | {"Transpose", "Unsqueeze", "ConstantOfShape"}
)
"""Operators that move or copy constants, and compute nothing."""

_FILLS = ("Cast", "CastLike", "Expand", "Identity", "Reshape", "Unsqueeze")
_LARGEST = 1 << 12  # elements; more than that is rather computed than stored
_BIAS = 2
_CONVOLUTIONS = ("Conv", "ConvTranspose")


def remove_plumbing(model: onnx.ModelProto) -> None:
    """Drops zero biases, stores the other constants as they are, and removes what nothing reads any more."""
    graph = model.graph
    makers = {name: node for node in graph.node for name in node.output if name}
    values = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type in _CONVOLUTIONS and len(node.input) > _BIAS and _fill(node.input[_BIAS], makers) == 0.0:
            del node.input[_BIAS:]
        if node.op_type == "BatchNormalization":
            _store_parameters(graph, node, makers, values)
    _evaluate(model)
    drop_unread(graph)


def drop_unread(graph: onnx.GraphProto) -> None:
    """Removes nodes whose results nothing reads, those that only such nodes read, and what is said of their values."""
    read = {value.name for value in graph.output}
    gone: set[str] = set()
    for place in reversed(range(len(graph.node))):
        node = graph.node[place]
        if any(name in read for name in node.output):
            read.update(node.input)
            read.update(_captured(node))
            continue
        gone.update(node.output)
        del graph.node[place]
    for place in reversed(range(len(graph.value_info))):
        if graph.value_info[place].name in gone:
            del graph.value_info[place]


def _captured(node: onnx.NodeProto) -> Iterator[str]:
    for attribute in node.attribute:
        for body in (attribute.g, *attribute.graphs):
            for inner in body.node:
                yield from inner.input
                yield from _captured(inner)
            yield from (value.name for value in body.output)


def _fill(name: str, makers: dict[str, onnx.NodeProto]) -> float | None:
    """The one value that the tensor is filled with, whatever its shape; None where it is no such constant."""
    node = makers.get(name)
    while node is not None and node.op_type in _FILLS:
        node = makers.get(node.input[0])
    if node is None or node.op_type != "Constant":
        return None
    found = [onnx.helper.get_attribute_value(attribute) for attribute in node.attribute if attribute.name.startswith("value")]
    array = numpy_helper.to_array(found[0]) if isinstance(found[0], onnx.TensorProto) else np.asarray(found[0])
    return float(array.reshape(())) if array.size == 1 and array.dtype.kind in "fiu" else None


def _store_parameters(
    graph: onnx.GraphProto, node: onnx.NodeProto, makers: dict[str, onnx.NodeProto], values: dict[str, onnx.TensorProto]
) -> None:
    """Gives a normalization without scale and shift (`affine=False`) initializers of ones and zeros."""
    mean = values.get(node.input[3])
    for place, word in ((1, "weight"), (2, "bias")):
        fill = _fill(node.input[place], makers)
        if fill is None or mean is None:
            continue
        name = f"{mean.name.removesuffix('running_mean')}{word}"
        while name in values or name in makers:
            name += "_"
        array = np.full(tuple(mean.dims), fill, onnx.helper.tensor_dtype_to_np_dtype(mean.data_type))
        graph.initializer.append(numpy_helper.from_array(array, name))
        values[name] = graph.initializer[-1]
        node.input[place] = name


def _evaluate(model: onnx.ModelProto) -> None:
    """Turns the last node of each run that only moves constants into a Constant."""
    context = Context(model)
    for node in list(context.view.nodes()):
        proto = context.view.node_proto(node)
        if proto is None or node.op == "Constant" or not _moves_constants(context, node):
            continue
        if all(context.constants.is_plumbing(reader) for reader in context.view.readers(node.outputs[0])):
            continue
        weight = context.constants.weight(node.outputs[0])
        if weight is not None and int(np.prod(weight.shape)) <= _LARGEST:
            _make_constant(proto, weight)


def _moves_constants(context: Context, node: Any) -> bool:
    """Whether `node` and all that it is made from are constant and move values only; initializers are left to themselves."""
    pending, seen = [node], set()
    while pending:
        each = pending.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        op_type = context.view.op_type(each)
        if op_type not in _FORMS or not context.constants.is_plumbing(each):
            return False
        operands = each.inputs[:1] if op_type in ("CastLike", "Shape") else each.inputs
        for tensor in operands:
            maker = context.view.producer(tensor)
            if maker is not None:
                pending.append(maker)
            elif op_type != "Shape":
                return False
    return True


def _make_constant(proto: onnx.NodeProto, weight: Weight) -> None:
    array = np.asarray(round_to(weight.values(), weight.elem_type))
    tensor = numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape))
    del proto.input[:]
    del proto.attribute[:]
    proto.op_type = "Constant"
    proto.ClearField("overload")
    proto.attribute.append(onnx.helper.make_attribute("value", tensor))
