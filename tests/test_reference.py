"""The float64 reference as a machine: exactness, scopes, functions, constants, memory, what it refuses; and its page in docs/."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import TensorProto, helper, numpy_helper

from bnfold.errors import BnfoldError, InputError
from bnfold.runtime.reference import CannotEvaluate, Evaluation, Reference, uncovered
from bnfold.runtime.reference.page import coverage
from bnfold.runtime.reference.table import OPERATORS

ROOT = Path(__file__).resolve().parents[1]
HEADER = '<ir_version: 8, opset_import: ["" : 17, "local" : 1, "com.microsoft" : 1]>\n'


def parsed(text: str, opset: int = 17) -> onnx.ModelProto:
    return onnx.parser.parse_model(HEADER.replace('"" : 17', f'"" : {opset}') + text)


def run(text: str, opset: int = 17, **feed: object) -> dict[str, np.ndarray]:
    return Reference(parsed(text, opset)).run({name: np.asarray(value) for name, value in feed.items()}).outputs


# -- exactness ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("elem_type", ["float16", "bfloat16", "float", "double"])
def test_floats_are_taken_exactly_and_computed_in_float64(elem_type):
    dtype = helper.tensor_dtype_to_np_dtype(TensorProto.DataType.Value(elem_type.upper()))
    x = np.asarray([0.1, 3.0, 1e-3]).astype(dtype)
    (y,) = run(f"g ({elem_type}[3] x) => ({elem_type}[3] y) {{ t = Mul (x, x) y = Div (t, x) }}", x=x).values()
    assert y.dtype == np.float64
    np.testing.assert_allclose(y, x.astype(np.float64), rtol=4e-16)


def test_a_cast_between_float_types_does_nothing():
    text = "g (float[1] x) => (float[1] y) { h = Cast <to = 10> (x) b = CastLike (h, x) y = Mul (b, x) }"
    x = np.float32([0.1])
    assert run(text, x=x)["y"] == x.astype(np.float64) ** 2


@pytest.mark.parametrize(
    ("elem_type", "expected"),
    [
        (TensorProto.INT32, np.asarray([2, -2, 0], np.int32)),
        (TensorProto.BOOL, np.asarray([True, True, False])),
        (TensorProto.UINT8, np.asarray([2, 254, 0], np.uint8)),
    ],
    ids=["int32", "bool", "uint8"],
)
def test_a_cast_to_other_types_is_made(elem_type, expected):
    y = run(f"g (float[3] x) => (int32[3] y) {{ y = Cast <to = {elem_type}> (x) }}", x=np.float32([2.9, -2.9, 0]))["y"]
    assert y.dtype == expected.dtype
    np.testing.assert_array_equal(y, expected)


def test_integers_stay_integers():
    y = run(
        "g (int32[3] x, int32[3] z) => (int32[3] y) { t = Mul (x, z) y = Div (t, x) }",
        x=np.int32([7, 2**30, 1]),
        z=np.int32([3, 4, 5]),
    )["y"]
    np.testing.assert_array_equal(y, np.int32([3, 0, 5]))  # 2³⁰ · 4 wraps around
    assert y.dtype == np.int32


def test_a_quantized_weight_is_dequantized_exactly():
    model = parsed("g (float[2,3] x) => (float[2,4] y) { w = DequantizeLinear <axis = 1> (W, s) y = MatMul (x, w) }")
    rng = np.random.default_rng(0)
    W, s = rng.integers(-128, 127, (3, 4), np.int8), rng.random(4, np.float32)
    model.graph.initializer.extend([numpy_helper.from_array(W, "W"), numpy_helper.from_array(s, "s")])
    x = rng.random((2, 3), np.float32)
    y = Reference(model).run({"x": x}).outputs["y"]
    np.testing.assert_allclose(y, x.astype(np.float64) @ (W * s.astype(np.float64)), rtol=1e-15)


@pytest.mark.parametrize(
    ("opset", "attributes", "outputs", "trains"),
    [
        (6, "", "y", True),
        (6, "<is_test = 1>", "y", False),
        (7, "", "y", False),
        (7, "", "y, m, v, sm, sv", True),
        (9, "", "y, m, v, sm, sv", True),
        (14, "", "y", False),
        (14, "<training_mode = 1>", "y, m, v", True),
    ],
)
def test_batch_normalization_trains_when_its_opset_says_so(opset, attributes, outputs, trains):
    text = "g (float[4,2,3] x, float[2] s, float[2] b, float[2] mean, float[2] var) => (float[4,2,3] y) "
    rng = np.random.default_rng(0)
    x, s, b, mean, var = rng.random((4, 2, 3)), *rng.random((4, 2))
    text += f"{{ {outputs} = BatchNormalization {attributes} (x, s, b, mean, var) }}"
    y = run(text, opset, x=x, s=s, b=b, mean=mean, var=var)["y"]
    if trains:
        mean, var = x.mean((0, 2)), x.var((0, 2))
    mean, var, s, b = (each[:, None] for each in (mean, var, s, b))
    np.testing.assert_allclose(y, (x - mean) / np.sqrt(var + np.float64(np.float32(1e-5))) * s + b, rtol=1e-12)


def test_running_statistics_of_training():
    text = """g (float[4,2] x, float[2] s, float[2] b, float[2] mean, float[2] var) => (float[2] m, float[2] v)
        { y, m, v = BatchNormalization <training_mode = 1, momentum = 0.75> (x, s, b, mean, var) }"""
    x, ones = np.arange(8.0).reshape(4, 2), np.ones(2)
    found = run(text, x=x, s=ones, b=ones, mean=ones, var=ones)
    np.testing.assert_allclose(found["m"], 0.75 + 0.25 * x.mean(0))
    np.testing.assert_allclose(found["v"], 0.75 + 0.25 * x.var(0))


# -- scopes, functions, order ---------------------------------------------------------------------------------------------


def test_bodies_see_what_stands_around_them():
    text = """g (bool c, float[2] x) => (float[2] y) {
        outer = Add (x, x)
        y = If (c) <
            then_branch = t () => (float[2] a) { a = Mul (outer, x) },
            else_branch = e () => (float[2] b) { inner = If (c) <
                then_branch = tt () => (float[2] p) { p = Identity (x) },
                else_branch = ee () => (float[2] q) { q = Neg (outer) }> b = Add (inner, outer) }>
    }"""
    x = np.asarray([1.0, 3.0])
    np.testing.assert_array_equal(run(text, c=True, x=x)["y"], 2 * x * x)
    np.testing.assert_array_equal(run(text, c=False, x=x)["y"], 0 * x)


def test_loop_carries_captures_and_stacks():
    text = """g (int64 n, bool c, float[2] x) => (float[2] last, float[k,2] all) {
        last, all = Loop (n, c, x) < body = b (int64 i, bool go, float[2] s) => (bool on, float[2] t, float[2] seen) {
            on = Identity (go)  t = Add (s, x)  seen = Mul (t, x) } >
    }"""
    x = np.asarray([1.0, 3.0])
    found = run(text, n=3, c=True, x=x)
    np.testing.assert_array_equal(found["last"], 4 * x)
    np.testing.assert_array_equal(found["all"], np.stack([2 * x * x, 3 * x * x, 4 * x * x]))
    assert run(text, n=0, c=True, x=x)["all"].shape == (0, 2)


def test_functions_have_their_own_names_and_attributes():
    text = """g (float[2] x) => (float[2] y) { t = Neg (x)  u = local.f <slope = 0.5> (x)  w = local.f (t)  y = Add (u, w) }
        <domain: "local", opset_import: ["" : 17]>
        f <slope: float = 0.25> (t) => (z) { x = Neg (t)  z = LeakyRelu <alpha: float = @slope> (x) }"""
    x = np.asarray([1.0, 3.0])
    np.testing.assert_array_equal(run(text, x=x)["y"], -0.5 * x + x)


def test_an_unsorted_graph_is_put_in_order():
    model = parsed("g (float[2] x) => (float[2] y) { a = Neg (x) b = Exp (a) y = Add (a, b) }")
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(reversed(nodes))
    np.testing.assert_allclose(Reference(model).run({"x": np.zeros(2)}).outputs["y"], 1.0)


def test_a_cycle_is_an_error():
    model = parsed("g (float[2] x) => (float[2] y) { a = Add (x, x) y = Add (a, x) }")
    model.graph.node[0].input[1] = "y"
    with pytest.raises(InputError, match="own result"):
        Reference(model).run({"x": np.zeros(2)})


def test_what_nobody_needs_is_not_run():
    model = parsed("g (float[2] x) => (float[2] y) { lost = RandomNormal <shape = [2]> () y = Neg (x) }")
    assert uncovered(model) == ("RandomNormal",)
    np.testing.assert_array_equal(Reference(model).run({"x": np.ones(2)}).outputs["y"], -1.0)


# -- watching -------------------------------------------------------------------------------------------------------------


def test_watched_tensors_come_with_the_outputs():
    model = parsed("g (float[2] x) => (float[2] y) <float[2] w = {2, 3}> { a = Mul (x, w) b = Exp (a) y = Neg (b) }")
    found = Reference(model).run({"x": np.ones(2)}, watch=["a", "w", "x"])
    assert isinstance(found, Evaluation)
    assert set(found.watched) == {"a", "w", "x"}
    np.testing.assert_array_equal(found.watched["a"], [2.0, 3.0])
    np.testing.assert_array_equal(found.outputs["y"], Reference(model).run({"x": np.ones(2)}).outputs["y"])


def test_watching_what_is_not_there_is_an_error():
    with pytest.raises(CannotEvaluate, match="`nowhere`"):
        Reference(parsed("g (float[2] x) => (float[2] y) { y = Neg (x) }")).run({"x": np.ones(2)}, watch=["nowhere"])


# -- inputs and constants -------------------------------------------------------------------------------------------------


def test_an_initializer_that_is_an_input_may_be_fed():
    model = parsed("g (float[2] x, float[2] w) => (float[2] y) { y = Mul (x, w) }")
    model.graph.initializer.append(numpy_helper.from_array(np.float32([2, 3]), "w"))
    assert list(Reference(model).run({"x": np.ones(2)}).outputs["y"]) == [2, 3]
    assert list(Reference(model).run({"x": np.ones(2), "w": np.ones(2)}).outputs["y"]) == [1, 1]


def test_a_missing_input_is_named():
    with pytest.raises(InputError, match="the input `z`"):
        run("g (float[2] x, float[2] z) => (float[2] y) { y = Mul (x, z) }", x=np.ones(2))


def test_sparse_initializers_are_filled_up():
    model = parsed("g (float[2,3] x) => (float[2,3] y) { y = Mul (x, w) }")
    values = numpy_helper.from_array(np.float32([5, 7]), "w")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, numpy_helper.from_array(np.int64([1, 5])), [2, 3]))
    np.testing.assert_array_equal(Reference(model).run({"x": np.ones((2, 3))}).outputs["y"], [[0, 5, 0], [0, 0, 7]])


@pytest.mark.parametrize(
    "elem_type", [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT4], ids=["float", "float16", "int4"]
)
def test_external_weights_are_read_from_their_folder(elem_type, tmp_path):
    values = np.asarray([-3, 2, 7, -8]).astype(helper.tensor_dtype_to_np_dtype(elem_type))
    model = parsed("g (float[4] x) => (float[4] y) { c = Cast <to = 1> (w) y = Add (x, c) }", 21)
    tensor = numpy_helper.from_array(values, "w")
    model.graph.initializer.append(tensor)
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    loaded = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    assert loaded.graph.initializer[0].data_location == TensorProto.EXTERNAL
    found = Reference(loaded, tmp_path).run({"x": np.zeros(4)}).outputs["y"]
    np.testing.assert_array_equal(found, [-3.0, 2.0, 7.0, -8.0])


def test_constants_of_function_bodies_are_not_mixed_up():
    """ONNX's own functions are expanded at every run; what one run read must not answer for a constant of the next."""
    losses = """a = SoftmaxCrossEntropyLoss <reduction = "sum"> (x, l) b = SoftmaxCrossEntropyLoss (x, l)
        s = LogSoftmax (x) c = NegativeLogLikelihoodLoss <reduction = "sum"> (s, l) d = Sub (a, c) y = Add (b, d)"""
    reference = Reference(parsed(f"g (float[2,3] x, int64[2] l) => (float y) {{ {losses} }}"))
    x, labels = np.asarray([[1.0, 2.0, 4.0], [0.5, 0.25, 0.0]]), np.asarray([2, 0])
    expected = -np.mean([x[row, label] - np.log(np.exp(x[row]).sum()) for row, label in enumerate(labels)])
    for _ in range(20):
        np.testing.assert_allclose(reference.run({"x": x, "l": labels}).outputs["y"], expected, rtol=1e-14)


def test_values_are_dropped_behind_their_last_reader():
    """A chain of fifty tensors of 8 MB each needs a few of them at a time."""
    chain = " ".join(f"t{n + 1} = Add (t{n}, t{n})" for n in range(50))
    reference = Reference(parsed(f"g (float[1024,1024] t0) => (float[1024,1024] t50) {{ {chain} }}"))
    feed = {"t0": np.zeros((1024, 1024), np.float32)}
    tracemalloc.start()
    reference.run(feed)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6 * 8 * 2**20


def test_many_weights_are_not_all_held(monkeypatch):
    from bnfold.runtime.reference import constants

    monkeypatch.setattr(constants, "_KEPT_BYTES", 1 << 20)
    model = parsed("g (float[256,256] x) => (float[256,256] y0) { y0 = Neg (x) }")
    for n in range(40):
        model.graph.initializer.append(numpy_helper.from_array(np.zeros((256, 256), np.float32), f"w{n}"))
        model.graph.node.append(helper.make_node("Add", [f"y{n}", f"w{n}"], [f"y{n + 1}"]))
    model.graph.output[0].name = "y40"
    reference = Reference(model)
    feed = {"x": np.zeros((256, 256), np.float32)}
    tracemalloc.start()
    reference.run(feed)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * (256 * 256 * 8)  # all forty would be 20 MiB


# -- what it refuses ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ("y = Neg (x)", ()),
        ("y = com.microsoft.Gelu (x)", ("com.microsoft.Gelu",)),
        (
            "r = RandomNormalLike (x) m = com.microsoft.Gelu (r) y = Multinomial (m)",
            ("Multinomial", "RandomNormalLike", "com.microsoft.Gelu"),
        ),
        ("t = Constant <value = bool {1}> () r = Constant <value = float {0.5}> () y = Dropout (x, r, t)", ("Dropout",)),
        ("t = Constant <value = bool {0}> () r = Constant <value = float {0.5}> () y = Dropout (x, r, t)", ()),
        ('b = Constant <value = int64[1] {0}> () y = RoiAlign <mode = "max"> (x, x, b)', ("RoiAlign",)),
        ("y = NoSuchOperator (x)", ("NoSuchOperator",)),
    ],
)
def test_uncovered_names_what_it_cannot_do(nodes, expected):
    assert uncovered(parsed(f"g (float[2,2] x) => (float[2,2] y) {{ {nodes} }}")) == expected


def test_uncovered_looks_into_bodies_and_functions():
    text = """g (bool c, float[2] x) => (float[2] y) { z = local.f (x) y = If (c) <
        then_branch = t () => (float[2] a) { a = Bernoulli (z) }, else_branch = e () => (float[2] b) { b = Identity (z) }> }
        <domain: "local", opset_import: ["" : 17]> f (t) => (u) { u = RandomUniformLike (t) }"""
    assert uncovered(parsed(text)) == ("Bernoulli", "RandomUniformLike")


def test_an_opset_that_nobody_knows_is_not_covered():
    model = parsed("g (float[2] x) => (float[2] y) { y = Neg (x) }", 200)
    assert uncovered(model) == ("Neg",)
    with pytest.raises(CannotEvaluate, match="Neg"):
        Reference(model).run({"x": np.ones(2)})


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ("y = Concat <axis = 5> (x, x)", "Concat `y`"),
        ("t = Constant <value = int64[1] {7}> () y = Reshape (x, t)", "Reshape `y`"),
        ("y = RandomNormalLike (x)", "RandomNormalLike `y`: the operator is beyond"),
    ],
)
def test_a_node_that_fails_is_named(nodes, message):
    with pytest.raises(CannotEvaluate, match=message) as error:
        run(f"g (float[2,2] x) => (float[2,2] y) {{ {nodes} }}", x=np.ones((2, 2)))
    assert isinstance(error.value, BnfoldError)


# -- the page -------------------------------------------------------------------------------------------------------------


def test_the_list_in_the_docs_is_up_to_date():
    page = (ROOT / "docs" / "reference.md").read_text("utf-8")
    assert coverage() in page, "run: python -m bnfold.runtime.reference, and replace the list in docs/reference.md"


def test_the_command_prints_the_list():
    done = subprocess.run(
        [sys.executable, "-m", "bnfold.runtime.reference"], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout == coverage()


def test_every_operator_is_one_of_onnx():
    known = {schema.name for schema in onnx.defs.get_all_schemas_with_history() if not schema.domain}
    newer = {"BitCast", "CumProd", "RMSNormalization", "Swish", "TensorScatter"}  # than the oldest onnx that bnfold supports
    assert set(OPERATORS) - newer <= known
