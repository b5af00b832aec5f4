"""The measuring copy of a model: every normalization spelled out in training mode, its batch statistics as outputs.

Each BatchNormalization becomes ReduceMean, Sub, Mul, Add, Sqrt and Div over the batch that it is given, in float32 (float64
for float64), so that it runs on onnxruntime whatever its opset, type and mode. Means are taken over the positions first and
then over the samples, which keeps the sums short and so their rounding small.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bnfold.operators import default_opset

_FIRST_KERNELS = 7
_CONVERTED = 13
_AXES_AS_INPUT = 18


@dataclass(frozen=True)
class Probe:
    """What stands in the measuring copy for one normalization.

    Attributes:
        output: the name of the normalization's output, by which it is found.
        mean: the graph output with its batch means.
        var: the graph output with its batch variances, biased.
        shape: the graph output with the shape of what it normalizes.
        elem_type: of what it normalizes.
        per_activation: whether it has statistics for each position (opset < 9, `spatial=0`).
        epsilon: what is added to the variance.
    """

    output: str
    mean: str
    var: str
    shape: str
    elem_type: int
    per_activation: bool
    epsilon: float


def runnable(model: onnx.ModelProto, shapes: dict[str, Sequence[int]]) -> onnx.ModelProto:
    """The model in an opset that onnxruntime has kernels for.

    Args:
        model: with normalizations in inference mode, or the converter does not take them.
        shapes: of the inputs that will be fed: the converter wants numbers.

    Raises:
        RuntimeError: onnx cannot convert it.
    """
    if default_opset(model.opset_import) >= _FIRST_KERNELS:
        return model
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for value in fixed.graph.input:
        for axis, extent in enumerate(shapes.get(value.name, ())):
            value.type.tensor_type.shape.dim[axis].dim_value = int(extent)
    del fixed.graph.value_info[:]
    fixed.ir_version = max(fixed.ir_version, 4)
    inferred = onnx.shape_inference.infer_shapes(fixed)
    for value in inferred.graph.output:
        value.type.tensor_type.ClearField("shape")
    converted: onnx.ModelProto = onnx.version_converter.convert_version(inferred, _CONVERTED)
    return converted


def with_probes(model: onnx.ModelProto, probes: Sequence[Probe]) -> None:
    """Turns `model` into its measuring copy, in place: the probes' outputs are the only ones."""
    graph = model.graph
    opset = default_opset(model.opset_import)
    wanted = {probe.output: probe for probe in probes}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        probe = wanted.get(node.output[0]) if node.op_type == "BatchNormalization" and node.output else None
        nodes += [node] if probe is None else _training_form(graph, node, probe, opset)
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.output[:]
    for probe in probes:
        kind = _computed_in(probe.elem_type)
        graph.output.append(helper.make_tensor_value_info(probe.mean, kind, None))
        graph.output.append(helper.make_tensor_value_info(probe.var, kind, None))
        graph.output.append(helper.make_tensor_value_info(probe.shape, TensorProto.INT64, None))
    model.ir_version = max(model.ir_version, 4)  # since then, initializers need not be inputs as well


def dropout_off(node: onnx.NodeProto, opset: int) -> None:
    """Puts a Dropout into inference mode."""
    if opset < _FIRST_KERNELS:
        _set_int(node, "is_test", 1)
    elif len(node.input) > 2:
        del node.input[2:]


def normalization_off(node: onnx.NodeProto, opset: int) -> None:
    """Puts a BatchNormalization into inference mode: the stored statistics, and one output."""
    if opset < _FIRST_KERNELS:
        _set_int(node, "is_test", 1)
    for attribute in node.attribute:
        if attribute.name == "training_mode":
            attribute.i = 0
    del node.output[1:]


def _set_int(node: onnx.NodeProto, name: str, value: int) -> None:
    for attribute in node.attribute:
        if attribute.name == name:
            attribute.i = value
            return
    node.attribute.append(helper.make_attribute(name, value))


def _computed_in(elem_type: int) -> int:
    return int(TensorProto.DOUBLE if elem_type == TensorProto.DOUBLE else TensorProto.FLOAT)


def _training_form(graph: onnx.GraphProto, node: onnx.NodeProto, probe: Probe, opset: int) -> list[onnx.NodeProto]:
    """The paper's Algorithm 1 on one batch, in primitives."""
    kind = _computed_in(probe.elem_type)
    dtype = np.float64 if kind == TensorProto.DOUBLE else np.float32
    made: list[onnx.NodeProto] = []

    def add(op_type: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        output = name or f"{probe.mean}/{len(made)}"
        made.append(helper.make_node(op_type, list(inputs), [output], **attributes))
        return output

    def constant(label: str, values: object, as_type: type) -> str:
        graph.initializer.append(numpy_helper.from_array(np.asarray(values, as_type), f"{probe.mean}/{label}"))
        return f"{probe.mean}/{label}"

    def mean_over(x: str, axes: list[int], name: str | None = None) -> str:
        for axis in axes:
            last = name if axis == axes[-1] else None
            if opset >= _AXES_AS_INPUT:
                x = add("ReduceMean", x, constant(f"axis{len(made)}", [axis], np.int64), name=last, keepdims=1)
            else:
                x = add("ReduceMean", x, name=last, axes=[axis], keepdims=1)
        return x

    def parameter(name: str) -> str:
        wide = add("Cast", name, to=kind)
        return wide if probe.per_activation else add("Reshape", wide, constant(f"per_channel{len(made)}", [1, -1, 1], np.int64))

    x, scale, shift = node.input[:3]
    shape = add("Shape", x, name=probe.shape)
    wide = add("Cast", x, to=kind)
    # [N, C, D1 × D2 × …] is the same for every rank, and the rank need not be known.
    flat = wide if probe.per_activation else add("Reshape", wide, constant("flat", [0, 0, -1], np.int64))
    axes = [0] if probe.per_activation else [2, 0]
    mean = mean_over(flat, axes, probe.mean)
    centered = add("Sub", flat, mean)
    var = mean_over(add("Mul", centered, centered), axes, probe.var)
    deviation = add("Sqrt", add("Add", var, constant("epsilon", probe.epsilon, dtype)))
    scaled = add("Mul", add("Div", centered, deviation), parameter(scale))
    shifted = add("Add", scaled, parameter(shift))
    add("Cast", add("Reshape", shifted, shape), name=node.output[0], to=probe.elem_type)
    return made
