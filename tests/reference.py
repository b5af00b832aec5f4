"""A float64 evaluator for the operators of `cases.py`; it shares no code with bnfold or with onnx.reference.

Every float tensor is computed in float64. Only Cast and CastLike round, because there the model itself asks for it.
(onnx.reference 1.23 is wrong on depthwise ConvTranspose, and raises on grouped ConvTranspose and on BatchNormalization before
opset 9.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import onnx
from onnx import helper, numpy_helper

FLOATS = {
    onnx.TensorProto.FLOAT: np.dtype(np.float32),
    onnx.TensorProto.DOUBLE: np.dtype(np.float64),
    onnx.TensorProto.FLOAT16: np.dtype(np.float16),
    onnx.TensorProto.BFLOAT16: np.dtype(ml_dtypes.bfloat16),
}


class Value(NamedTuple):
    """A tensor, float64 if its type is a float type, and the type that the model gives it."""

    array: np.ndarray
    elem_type: int


@dataclass(frozen=True)
class Call:
    """What an operator is told beside its inputs."""

    attributes: dict[str, Any]
    opset: int
    outputs: int
    scope: dict[str, Value]
    machine: Machine

    def get(self, name: str, default: Any = None) -> Any:
        return self.attributes.get(name, default)


def evaluate(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Output name → value. Initializers that are also inputs may be fed."""
    machine = Machine({(each.domain, each.name): each for each in model.functions})
    scope = {name: _value(np.asarray(array)) for name, array in feeds.items()}
    results = machine.graph(model.graph, scope, _opset(model))
    return {each.name: value.array for each, value in zip(model.graph.output, results, strict=True)}


def assert_close(expected: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray], dtype: str, ulps: float) -> None:
    """Compares the outputs of two models normwise: each to `ulps` times the epsilon of `dtype` times its largest value.

    Values below one count as one: a single small output may be what is left of larger ones that cancelled.
    """
    elem_type = onnx.TensorProto.DataType.Value(dtype.upper())
    epsilon = float(ml_dtypes.finfo(FLOATS[elem_type]).eps)
    assert found.keys() == expected.keys()
    for name in expected:
        wanted, result = expected[name].astype(np.float64), found[name].astype(np.float64)
        assert result.shape == wanted.shape
        size = np.abs(wanted[np.isfinite(wanted)]).max(initial=1.0)
        np.testing.assert_allclose(result, wanted, rtol=0, atol=ulps * epsilon * size, err_msg=name)


def _opset(proto: onnx.ModelProto | onnx.FunctionProto) -> int:
    return next((each.version for each in proto.opset_import if each.domain in ("", "ai.onnx")), 1)


def _value(array: np.ndarray) -> Value:
    elem_type = helper.np_dtype_to_tensor_dtype(array.dtype)
    return Value(array.astype(np.float64) if elem_type in FLOATS else array, elem_type)


def _cast(value: Value, elem_type: int) -> Value:
    if elem_type in FLOATS:
        return Value(value.array.astype(FLOATS[elem_type]).astype(np.float64), elem_type)
    return Value(value.array.astype(helper.tensor_dtype_to_np_dtype(elem_type)), elem_type)


@dataclass(frozen=True)
class Machine:
    functions: dict[tuple[str, str], onnx.FunctionProto] = field(default_factory=dict)

    def graph(self, graph: onnx.GraphProto, scope: dict[str, Value], opset: int) -> list[Value]:
        for tensor in graph.initializer:
            scope.setdefault(tensor.name, _value(numpy_helper.to_array(tensor)))
        self.nodes(graph.node, scope, opset, {})
        return [scope[each.name] for each in graph.output]

    def nodes(self, nodes: Sequence[onnx.NodeProto], scope: dict[str, Value], opset: int, given: dict[str, Any]) -> None:
        for node in nodes:
            inputs = [scope[name] if name else None for name in node.input]
            attributes = dict(_attributes(node, given))
            function = self.functions.get((node.domain, node.op_type))
            if function is not None:
                results = self.call(function, inputs, attributes)
            else:
                call = Call(attributes, opset, sum(map(bool, node.output)), scope, self)
                results = _typed(OPERATORS[node.op_type](call, *inputs), inputs)
            scope.update({name: value for name, value in zip(node.output, results, strict=False) if name})

    def call(self, function: onnx.FunctionProto, inputs: Sequence[Value | None], given: dict[str, Any]) -> list[Value]:
        defaults = {each.name: helper.get_attribute_value(each) for each in function.attribute_proto}
        scope = {name: value for name, value in zip(function.input, inputs, strict=False) if value is not None}
        self.nodes(function.node, scope, _opset(function), {**defaults, **given})
        return [scope[name] for name in function.output]


def _attributes(node: onnx.NodeProto, given: dict[str, Any]) -> Any:
    for each in node.attribute:
        if not each.ref_attr_name:
            yield each.name, helper.get_attribute_value(each)
        elif each.ref_attr_name in given:
            yield each.name, given[each.ref_attr_name]


def _typed(result: Any, inputs: Sequence[Value | None]) -> list[Value]:
    """Gives a plain array the type of the first input."""
    results = result if isinstance(result, list) else [result]
    known = next((each.elem_type for each in inputs if each is not None), 0)
    return [each if isinstance(each, Value) else Value(np.asarray(each), known) for each in results]


# -- linear operators -----------------------------------------------------------------------------------------------------


def conv(call: Call, X: Value, W: Value, B: Value | None = None) -> np.ndarray:
    x, w, groups = X.array, W.array, call.get("group", 1)
    kernel, extents = w.shape[2:], x.shape[2:]
    strides, dilations = _steps(call, len(kernel))
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    totals = [max(0, (-(-n // s) - 1) * s + span - n) for n, s, span in zip(extents, strides, spans, strict=True)]
    padded = np.pad(x, [(0, 0), (0, 0), *_pads(call, totals)])
    out = [(n - span) // s + 1 for n, span, s in zip(padded.shape[2:], spans, strides, strict=True)]
    split = padded.reshape(len(x), groups, -1, *padded.shape[2:])
    w = w.reshape(groups, -1, *w.shape[1:])
    y = np.zeros((len(x), groups, w.shape[1], *out))
    for place in np.ndindex(*kernel):
        steps = zip(place, dilations, strides, out, strict=True)
        window = split[(..., *(slice(p * d, p * d + s * (n - 1) + 1, s) for p, d, s, n in steps))]
        y += np.einsum("ngc...,gmc->ngm...", window, w[(slice(None), slice(None), slice(None), *place)])
    return _with_bias(y.reshape(len(x), -1, *out), B)


def conv_transpose(call: Call, X: Value, W: Value, B: Value | None = None) -> np.ndarray:
    x, w, groups = X.array, W.array, call.get("group", 1)
    kernel, extents = w.shape[2:], x.shape[2:]
    strides, dilations = _steps(call, len(kernel))
    extra = call.get("output_padding", [0] * len(kernel))
    sizes = zip(extents, strides, kernel, dilations, extra, strict=True)
    full = [s * (n - 1) + (k - 1) * d + 1 + e for n, s, k, d, e in sizes]
    wanted = call.get("output_shape", [n * s for n, s in zip(extents, strides, strict=True)])
    totals = [size - n for size, n in zip(full, wanted[-len(kernel) :], strict=True)]
    split = x.reshape(len(x), groups, -1, *extents)
    w = w.reshape(groups, -1, *w.shape[1:])
    y = np.zeros((len(x), groups, w.shape[2], *full))
    for place in np.ndindex(*kernel):
        steps = zip(place, dilations, strides, extents, strict=True)
        window = (..., *(slice(p * d, p * d + s * (n - 1) + 1, s) for p, d, s, n in steps))
        y[window] += np.einsum("ngc...,gcm->ngm...", split, w[(slice(None), slice(None), slice(None), *place)])
    pads = _pads(call, totals, given="output_shape" in call.attributes)
    y = y[(..., *(slice(begin, n - end) for n, (begin, end) in zip(full, pads, strict=True)))]
    return _with_bias(y.reshape(len(x), -1, *y.shape[3:]), B)


def _steps(call: Call, rank: int) -> tuple[list[int], list[int]]:
    return call.get("strides", [1] * rank), call.get("dilations", [1] * rank)


def _pads(call: Call, totals: list[int], given: bool = False) -> list[tuple[int, int]]:
    mode = call.get("auto_pad", b"NOTSET")
    if mode in (b"SAME_UPPER", b"SAME_LOWER") or given:
        less, more = [total // 2 for total in totals], [total - total // 2 for total in totals]
        return list(zip(less, more, strict=True) if mode == b"SAME_UPPER" else zip(more, less, strict=True))
    pads = call.get("pads", [0] * 2 * len(totals))
    return list(zip(pads[: len(totals)], pads[len(totals) :], strict=True))


def _with_bias(y: np.ndarray, B: Value | None) -> np.ndarray:
    return y if B is None else y + B.array.reshape(-1, *[1] * (y.ndim - 2))


def gemm(call: Call, A: Value, B: Value, C: Value | None = None) -> np.ndarray:
    a = A.array.T if call.get("transA", 0) else A.array
    b = B.array.T if call.get("transB", 0) else B.array
    y = call.get("alpha", 1.0) * (a @ b)
    return y if C is None else y + call.get("beta", 1.0) * C.array


def batch_normalization(call: Call, X: Value, scale: Value, B: Value, mean: Value, var: Value) -> Any:
    x = X.array
    if call.opset < 7:
        training = not call.get("is_test", 0)
    elif call.opset < 14:
        training = call.outputs > 1
    else:
        training = bool(call.get("training_mode", 0))
    m, v = mean.array, var.array
    if training:
        axes = tuple(axis for axis in range(x.ndim) if axis != 1)
        m, v = x.mean(axes), x.var(axes)
    per_channel = call.opset >= 9 or call.get("spatial", 1)
    shape = (-1, *[1] * (x.ndim - 2)) if per_channel else scale.array.shape
    gamma, beta, m, v = (each.reshape(shape) for each in (scale.array, B.array, m, v))
    with np.errstate(all="ignore"):
        return (x - m) / np.sqrt(v + call.get("epsilon", float(np.float32(1e-5)))) * gamma + beta


def dropout(call: Call, X: Value, *_: Value | None) -> list[Any]:
    return [X.array, Value(np.ones(X.array.shape, bool), onnx.TensorProto.BOOL)]


# -- shapes and constants -------------------------------------------------------------------------------------------------


def constant(call: Call) -> Value:
    ((name, value),) = call.attributes.items()
    if name == "value":
        return _value(numpy_helper.to_array(value))
    return _value(np.asarray(value, np.float32 if name.startswith("value_float") else np.int64))


def constant_of_shape(call: Call, shape: Value) -> Value:
    fill = call.get("value")
    array = numpy_helper.to_array(fill) if fill is not None else np.zeros(1, np.float32)
    return _value(np.broadcast_to(array.reshape(()), shape.array))


def shape_of(call: Call, X: Value) -> Value:
    return _value(np.asarray(X.array.shape[call.get("start", 0) : call.get("end")], np.int64))


def expand(call: Call, X: Value, shape: Value) -> np.ndarray:
    return np.broadcast_to(X.array, np.broadcast_shapes(X.array.shape, tuple(shape.array)))


def reshape(call: Call, X: Value, shape: Value) -> np.ndarray:
    return X.array.reshape([X.array.shape[axis] if n == 0 else n for axis, n in enumerate(shape.array)])


def flatten(call: Call, X: Value) -> np.ndarray:
    return X.array.reshape(math.prod(X.array.shape[: call.get("axis", 1)]), -1)


def squeeze(call: Call, X: Value, axes: Value | None = None) -> np.ndarray:
    return np.squeeze(X.array, _axes(call, axes))


def unsqueeze(call: Call, X: Value, axes: Value | None = None) -> np.ndarray:
    return np.expand_dims(X.array, _axes(call, axes) or ())


def _axes(call: Call, axes: Value | None) -> tuple[int, ...] | None:
    found = axes.array if axes is not None else call.get("axes")
    return tuple(int(each) for each in found) if found is not None else None


def divide(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.divide(x, y) if np.issubdtype(x.dtype, np.floating) else np.trunc(x / y).astype(x.dtype)


def slice_of(call: Call, X: Value, *places: Value) -> np.ndarray:
    starts, ends, *axes = [each.array for each in places] or [call.get("starts"), call.get("ends"), call.get("axes")]
    index = [slice(None)] * X.array.ndim
    for axis, start, end in zip(axes[0] if axes else range(len(starts)), starts, ends, strict=True):
        index[axis] = slice(start, end)
    return X.array[tuple(index)]


def concat(call: Call, *inputs: Value) -> np.ndarray:
    return np.concatenate([each.array for each in inputs], call.get("axis", 1))


# -- control flow ---------------------------------------------------------------------------------------------------------


def if_(call: Call, condition: Value) -> list[Value]:
    body = call.get("then_branch" if condition.array.item() else "else_branch")
    return call.machine.graph(body, dict(call.scope), call.opset)


def loop(call: Call, trips: Value | None, condition: Value | None, *carried: Value) -> list[Value]:
    body, state, stacked = call.get("body"), list(carried), []
    names = [each.name for each in body.input]
    trip, going = 0, condition is None or bool(condition.array)
    while going and (trips is None or trip < trips.array):
        flags = [_value(np.asarray(trip, np.int64)), _value(np.asarray(True))]
        scope = call.scope | dict(zip(names, [*flags, *state], strict=True))
        keep_on, *results = call.machine.graph(body, scope, call.opset)
        state, rest = results[: len(state)], results[len(state) :]
        stacked.append(rest)
        trip, going = trip + 1, bool(keep_on.array)
    return state + [_stack(column) for column in zip(*stacked, strict=True)]


def scan(call: Call, *inputs: Value) -> list[Value]:
    body, sequences = call.get("body"), call.get("num_scan_inputs")
    state, rows = list(inputs[:-sequences]), inputs[-sequences:]
    names, stacked = [each.name for each in body.input], []
    for place in range(len(rows[0].array)):
        now = [Value(row.array[place], row.elem_type) for row in rows]
        scope = call.scope | dict(zip(names, [*state, *now], strict=True))
        results = call.machine.graph(body, scope, call.opset)
        state, rest = results[: len(state)], results[len(state) :]
        stacked.append(rest)
    return state + [_stack(column) for column in zip(*stacked, strict=True)]


def _stack(values: Sequence[Value]) -> Value:
    return Value(np.stack([each.array for each in values]), values[0].elem_type)


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    def operator(call: Call, *inputs: Value) -> Any:
        with np.errstate(all="ignore"):
            return function(*(each.array for each in inputs))

    return operator


OPERATORS: dict[str, Callable[..., Any]] = {
    "Add": _plain(np.add),
    "BatchNormalization": batch_normalization,
    "Cast": lambda call, X: _cast(X, call.get("to")),
    "CastLike": lambda call, X, like: _cast(X, like.elem_type),
    "Concat": concat,
    "Constant": constant,
    "ConstantOfShape": constant_of_shape,
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "Div": _plain(divide),
    "Dropout": dropout,
    "Expand": expand,
    "Flatten": flatten,
    "Gather": lambda call, X, indices: np.take(X.array, indices.array, call.get("axis", 0)),
    "Gemm": gemm,
    "Identity": _plain(lambda x: x),
    "If": if_,
    "Loop": loop,
    "MatMul": _plain(np.matmul),
    "Mul": _plain(np.multiply),
    "Neg": _plain(np.negative),
    "Pow": _plain(np.power),
    "Reciprocal": _plain(np.reciprocal),
    "ReduceMax": lambda call, X: X.array.max(
        tuple(call.get("axes", range(X.array.ndim))), keepdims=bool(call.get("keepdims", 1))
    ),
    "Relu": _plain(lambda x: np.maximum(x, 0)),
    "Reshape": reshape,
    "Scan": scan,
    "Shape": shape_of,
    "Sigmoid": _plain(lambda x: 1 / (1 + np.exp(-x))),
    "Slice": slice_of,
    "Sqrt": _plain(np.sqrt),
    "Squeeze": squeeze,
    "Sub": _plain(np.subtract),
    "Transpose": lambda call, X: np.transpose(X.array, call.get("perm")),
    "Unsqueeze": unsqueeze,
}
