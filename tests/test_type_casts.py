"""Constants written as `CastLike(constant, x)`: stored once something folds, and left alone where nothing does."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

import bnfold

CLIPPED = """
<ir_version: 8, opset_import: ["" : 18]>
agraph (float[N,4,H,W] x) => (float[N,4,H,W] y) {
  six = Constant <value = double {6.0}> ()
  c = Conv (x, W)
  n = BatchNormalization (c, scale, B, mean, var)
  bound = CastLike (six, n)
  y = Clip (n, zero, bound)
}"""


def model(text: str = CLIPPED) -> onnx.ModelProto:
    proto = onnx.parser.parse_model(text)
    rng = np.random.default_rng(0)
    values = {"W": rng.standard_normal((4, 4, 1, 1)), "scale": rng.uniform(1, 2, 4), "B": rng.standard_normal(4)}
    values |= {"mean": rng.standard_normal(4), "var": rng.uniform(1, 2, 4), "zero": np.zeros(()), "wide": np.zeros(5000)}
    read = {name for node in proto.graph.node for name in node.input}
    proto.graph.initializer.extend(numpy_helper.from_array(values[key].astype(np.float32), key) for key in values if key in read)
    onnx.checker.check_model(proto)
    return proto


def operators(proto: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in proto.graph.node]


def test_a_bound_that_only_looks_computed_is_stored() -> None:
    proto = model()
    folded = bnfold.fold(proto).model
    assert operators(folded) == ["Conv", "Clip"]
    (bound,) = (each for each in folded.graph.initializer if each.name == folded.graph.node[1].input[2])
    assert (bound.data_type, numpy_helper.to_array(bound).item()) == (onnx.TensorProto.FLOAT, 6.0)
    feed = {"x": np.random.default_rng(1).normal(0, 9, (2, 4, 3, 3)).astype(np.float32)}
    (before,), (after,) = (ReferenceEvaluator(each).run(None, feed) for each in (proto, folded))
    assert before.max() == 6.0
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-5)
    assert bnfold.fold(folded).model == folded


@pytest.mark.parametrize(
    ("old", "new", "left"),
    [
        ("n = BatchNormalization (c, scale, B, mean, var)", "n = Relu (c)", ["Constant", "Conv", "Relu", "CastLike", "Clip"]),
        ("CastLike (six, n)", "CastLike (x0, n)", ["Constant", "Conv", "CastLike", "Clip"]),
        ("CastLike (six, n)", "Cast <to = 1> (six)", ["Constant", "Conv", "Cast", "Clip"]),
    ],
    ids=["nothing folds", "what is cast is fed", "a runtime folds it by itself"],
)
def test_what_is_left_alone(old: str, new: str, left: list[str]) -> None:
    text = CLIPPED.replace(old, new)
    if "x0" in new:
        text = text.replace("(float[N,4,H,W] x)", "(float[N,4,H,W] x, double x0)")
    assert operators(bnfold.fold(model(text)).model) == left


@pytest.mark.parametrize("like", ["n", "c"])  # c is gone, and its type is found under the new name
def test_what_is_large_stays_computed(like: str) -> None:
    long = f"y = Clip (n, zero, bound)\n  long = CastLike (wide, {like})\n  z = Relu (long)"
    text = CLIPPED.replace("y = Clip (n, zero, bound)", long)
    text = text.replace("=> (float[N,4,H,W] y)", "=> (float[N,4,H,W] y, float[5000] z)")
    folded = bnfold.fold(model(text)).model
    assert operators(folded) == ["Conv", "Clip", "CastLike", "Relu"]
    onnx.checker.check_model(folded)
