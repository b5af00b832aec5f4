"""What constant subgraphs evaluate to: the same as in onnxruntime, or nothing where bnfold does not follow its rules."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import parser

from bnfold.context import Context

EVALUATED = {
    "a Cast truncates what the float type holds": ("int64[1] k", "p = Mul (r, ten)  k = Cast <to = 7> (p)"),
    "a Cast to bool": ("bool[1] k", "k = Cast <to = 9> (r)"),
    "a Cast to float16 rounds": ("float16[1] k", "k = Cast <to = 10> (r)"),
    "integer division truncates": ("int64[2] k", "n = Neg (pair)  k = Div (n, two)"),
    "an empty Slice takes everything": ("int64[2] k", "k = Slice (pair, none, none, none)"),
    "Shape with bounds": ("int64[1] k", "k = Shape <start = -1> (table)"),
    "Shape of what is computed": ("int64[1] k", "t = MatMul (x_row, row)  k = Shape <start = 1, end = 2> (t)"),
    "Expand broadcasts both ways": ("float[2,3] k", "k = Expand (column, row_shape)"),
    "Gather": ("int64[1] k", "k = Gather (pair, index)"),
    "Unsqueeze, Concat, Squeeze": (
        "int64[4] k",
        "u = Unsqueeze (pair, index)  c = Concat <axis = 1> (u, u)  k = Squeeze (c, index)",
    ),
}
LEFT_ALONE = {
    "Shape of an open extent": ("int64[1] k", "k = Shape <start = 0, end = 1> (x_row)"),
    "Shape of an extent that is only claimed": ("int64[1] k", "z = NonZero (x)  k = Shape <start = 1, end = 2> (z)"),
    "a Cast to an 8-bit float saturates": ("float8e4m3fn[1] k", "k = Cast <to = 17> (big)"),
    "a Shape of nothing, which no runtime takes": ("int64[1] k", "k = Shape ()"),
    "a Concat of nothing": ("int64[1] k", "k = Concat <axis = 0> ()"),
    "a Slice that steps backward": ("int64[2] k", "k = Slice (pair, minus, start, index, minus)"),
}
WEIGHTS = {
    "r": np.array([0.7], np.float32),
    "ten": np.array([10], np.float32),
    "big": np.array([600], np.float32),
    "pair": np.array([7, 3], np.int64),
    "two": np.array([2], np.int64),
    "none": np.array([], np.int64),
    "index": np.array([0], np.int64),
    "minus": np.array([-1], np.int64),
    "start": np.array([-9], np.int64),
    "table": np.zeros((2, 5), np.float32),
    "column": np.array([[1], [2]], np.float32),
    "row": np.ones((1, 3), np.float32),
    "row_shape": np.array([1, 3], np.int64),
}


def model(output: str, body: str) -> onnx.ModelProto:
    built = parser.parse_model(
        f'<ir_version: 9, opset_import: ["": 19]> g (float[1] x, float[N, 1] x_row) => ({output}, float[1] y)'
        f"<int64[1, 1] z> {{ {body} y = Relu (x) }}"
    )
    read = {name for node in built.graph.node for name in node.input}
    built.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in WEIGHTS.items() if name in read)
    return built


def held(built: onnx.ModelProto) -> np.ndarray | None:
    context = Context(built)
    weight = context.constants.weight(context.view.scopes[0].tensors["k"])
    return weight.values() if weight is not None else None


@pytest.mark.parametrize(("output", "body"), EVALUATED.values(), ids=list(EVALUATED))
def test_evaluated_as_onnxruntime_does(output: str, body: str) -> None:
    built = model(output, body)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(built.SerializeToString(), options, providers=["CPUExecutionProvider"])
    expected = session.run(["k"], {"x": np.zeros(1, np.float32), "x_row": np.zeros((2, 1), np.float32)})[0]
    found = held(built)
    assert found is not None
    assert found.shape == expected.shape
    assert (found.astype(expected.dtype) == expected).all()


@pytest.mark.parametrize(("output", "body"), LEFT_ALONE.values(), ids=list(LEFT_ALONE))
def test_what_has_rules_of_its_own_is_no_constant(output: str, body: str) -> None:
    assert held(model(output, body)) is None
