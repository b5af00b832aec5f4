"""The verdict against float64: what passes, what fails, what is named, and what is said where there is no truth."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import ml_dtypes
import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import helper, numpy_helper, parser

import bnfold
from bnfold.cli.main import cli
from bnfold.report.markdown import verify_markdown
from bnfold.report.text import verify_text
from bnfold.runtime import consult, truth
from bnfold.runtime.against_truth import ALGEBRA_FACTOR, ERROR_FACTOR, TrueValues, against_truth
from bnfold.runtime.compare import compare
from bnfold.runtime.deviation import ULP_EDGES, Deviation, certified, rows_of, ulp_histogram
from bnfold.runtime.verify import verify

CHANNELS = 8


def network(dtype: type = np.float32, layers: int = 3, seed: int = 0, mean: float = 0.5) -> onnx.ModelProto:
    """Conv, BatchNormalization and Relu, some times, then a Gemm on averages."""
    rng = np.random.default_rng(seed)
    elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    nodes, weights = [], []

    def add(name: str, values: np.ndarray) -> str:
        weights.append(numpy_helper.from_array(np.asarray(values).astype(dtype), name))
        return name

    tensor, inputs = "x", 3
    for number in range(layers):
        weight = add(f"layer{number}.W", rng.normal(0, (2 / (9 * inputs)) ** 0.5, (CHANNELS, inputs, 3, 3)))
        nodes.append(helper.make_node("Conv", [tensor, weight], [f"c{number}"], f"layer{number}.conv", pads=[1, 1, 1, 1]))
        values = [rng.uniform(0.5, 1.5, CHANNELS), *rng.normal(0, mean, (2, CHANNELS)), rng.uniform(0.3, 2, CHANNELS)]
        names = [add(f"layer{number}.{name}", value) for name, value in zip(("scale", "B", "mean", "var"), values, strict=True)]
        nodes.append(helper.make_node("BatchNormalization", [f"c{number}", *names], [f"n{number}"], f"layer{number}.bn"))
        nodes.append(helper.make_node("Relu", [f"n{number}"], [f"r{number}"], f"layer{number}.relu"))
        tensor, inputs = f"r{number}", CHANNELS
    nodes.append(helper.make_node("GlobalAveragePool", [tensor], ["pooled"], "pool"))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["flat"], "flatten"))
    nodes.append(helper.make_node("Gemm", ["flat", add("fc.W", rng.normal(0, 0.5, (CHANNELS, 5)))], ["y"], "fc"))
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", elem_type, ["N", 3, 12, 12])],
        [helper.make_tensor_value_info("y", elem_type, ["N", 5])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def changed(model: onnx.ModelProto, name: str, change) -> onnx.ModelProto:
    """A copy in which one constant is `change(values)`."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    tensor = next(each for each in copy.graph.initializer if each.name == name)
    values = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array(change(values.astype(np.float64)).astype(values.dtype), name))
    return copy


def channel(place: int, factor: float):
    def change(values: np.ndarray) -> np.ndarray:
        values = values.copy()
        values[place] *= factor
        return values

    return change


def text_model(graph: str, domains: str = "", **constants: np.ndarray) -> onnx.ModelProto:
    proto = parser.parse_model(f'<ir_version: 8, opset_import: ["": 17{domains}]> {graph}')
    for name, values in constants.items():
        proto.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
    return proto


def weight_of(folded: onnx.ModelProto, node: str) -> str:
    return next(each.input[1] for each in folded.graph.node if each.name == node)


# Verdicts


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("seed", range(3))
def test_an_honest_fold_passes_far_from_the_limit(dtype, seed):
    model = network(dtype, seed=seed)
    found = verify(model, bnfold.fold(model).model)
    assert found.ok, found.failures
    assert found.truth_feeds == consult.MOST_GENERATED
    assert {note.code for note in found.notes} == set()
    for row in found.outputs:
        measured = row.worst.truth
        assert 0 < measured.error_share < 0.5
        assert 0 < measured.algebra_share < 0.5
        assert measured.algebra.max_abs < 4 * measured.rounding
        assert sum(measured.ulps) == measured.candidate.elements
    assert [layer.tensor for layer in found.layers] == ["n0", "n1", "n2"]
    assert {layer.status for layer in found.layers} == {"ok"}
    assert found.first_wrong is None


@pytest.mark.parametrize("layer", range(3))
def test_one_channel_off_by_a_thousandth_fails_and_is_named(layer):
    model = network()
    folded = bnfold.fold(model).model
    wrong = changed(folded, weight_of(folded, f"layer{layer}.conv"), channel(5, 1.001))
    found = verify(model, wrong)
    assert not found.ok
    assert found.first_wrong is not None
    assert found.first_wrong.where == f"layer{layer}.bn → Conv `layer{layer}.conv`, channel 5 of {CHANNELS}"
    assert verify(model, wrong, rtol=1e-2).ok  # as the two-model comparison would have had it


@pytest.mark.parametrize("factor", [0.9, -1.0])
def test_one_channel_of_a_float16_model_fails_and_is_named(factor):
    model = network(np.float16)
    folded = bnfold.fold(model).model
    found = verify(model, changed(folded, weight_of(folded, "layer1.conv"), channel(2, factor)))
    assert not found.ok
    assert found.first_wrong.where == f"layer1.bn → Conv `layer1.conv`, channel 2 of {CHANNELS}"


def test_a_fault_that_a_later_layer_hides_from_the_outputs_fails_at_its_layer():
    model = network()
    model.graph.initializer.append(numpy_helper.from_array(np.float32([0.0]), "zero"))
    for node in model.graph.node:
        node.input[:] = ["hidden" if name == "flat" else name for name in node.input]
    rest = [each for each in model.graph.node if each.name == "fc"]
    model.graph.node.remove(rest[0])
    model.graph.node.extend([helper.make_node("Mul", ["flat", "zero"], ["hidden"], "hide"), rest[0]])
    folded = bnfold.fold(model, keep=["hide"]).model
    wrong = changed(
        folded, weight_of(folded, "layer2.conv"), lambda values: values * (1 + 1e-3 * (np.arange(9) - 4).reshape(3, 3))
    )
    found = verify(model, wrong)
    assert all(row.ok for row in found.outputs)
    assert "layer2.bn → Conv `layer2.conv`" in found.failures[0]


def test_a_tensor_that_carries_a_map_for_the_one_behind_it_has_moved_and_is_not_wrong():
    rng = np.random.default_rng(0)
    model = text_model(
        "g (float[N, 3, 9, 9] x) => (float[N, 4, P, Q] y) { c = Conv (x, W) r = Relu (c) y = Mul (r, k) }",
        W=rng.normal(0, 0.3, (4, 3, 3, 3)).astype(np.float32),
        k=rng.uniform(0.3, 0.8, (4, 1, 1)).astype(np.float32),
    )
    result = bnfold.fold(model)
    assert len(result.plan.folds) == 1
    found = verify(model, result.model)
    assert found.ok, found.failures
    assert {layer.tensor: layer.status for layer in found.layers} == {"c": "moved", "y": "ok"}
    wrong = changed(result.model, weight_of(result.model, result.model.graph.node[0].name), channel(1, 1.1))
    assert not verify(model, wrong).ok


def test_an_inaccurate_original_does_not_make_an_exact_candidate_fail():
    text = "g (float[N, 4] x) => (float[N, 4] y) { s = Add (x, big) d = Sub (s, big) y = Mul (d, k) }"
    original = text_model(text, big=np.float32(1e5), k=np.float32(0.7))
    exact = text_model("g (float[N, 4] x) => (float[N, 4] y) { y = Mul (x, k) }", k=np.float32(0.7))
    found = verify(original, exact)
    assert found.ok, found.failures
    assert [note.code for note in found.notes] == ["BNF036"]
    measured = found.outputs[0].worst.truth
    assert measured.original.max_abs > 500 * measured.candidate.max_abs
    assert measured.closer == measured.inputs
    assert not verify(original, exact, rtol=1e-4).ok  # two models compared with each other, as other tools do
    assert not verify(original, text_model("g (float[N, 4] x) => (float[N, 4] y) { y = Mul (x, k) }", k=np.float32(0.7001))).ok


@pytest.mark.parametrize(
    ("original", "candidate", "true", "passes"),
    [
        (math.inf, 1.0, 1.0, True),  # the original overflows on its way, and the candidate does not
        (math.inf, 1.1, 1.0, False),
        (1.0, math.inf, 1.0, False),
        (1.0, math.nan, 1.0, False),
        (math.inf, math.inf, 1.0, True),  # both overflow
        (math.inf, -math.inf, 1.0, False),
        (math.nan, math.nan, math.nan, True),
        (math.nan, 1.0, math.nan, False),
        (1.0, 1.0, math.nan, True),  # at the edge of where it is defined
    ],
)
def test_nan_and_inf_have_to_be_where_the_original_or_the_truth_has_them(original, candidate, true, passes):
    exact = TrueValues(np.array([true, 1.0]), np.array([true, 1.0]), np.zeros(2))
    found, problem = against_truth(np.float32([original, 1.0]), np.float32([candidate, 1.0]), exact, "float32")
    assert (problem == "") == passes
    assert (found.severity <= 1) == passes


def test_a_lost_input_fails():
    original = text_model(
        "g (float[N, 4] a, float[N, 4] b) => (float[N, 4] y) { z = Mul (b, k) y = Add (a, z) }", k=np.float32(1e-3)
    )
    lost = text_model("g (float[N, 4] a, float[N, 4] b) => (float[N, 4] y) { y = Identity (a) }")
    found = verify(original, lost)
    assert not found.ok
    assert found.first_wrong.made_by == "y → Identity `y`"


def test_an_operator_that_the_reference_does_not_know_is_noted_and_the_models_are_compared():
    one, near, far = (
        text_model(
            "g (float[N, 5] x) => (float[N, 5] y) { s = Mul (x, k) y = com.microsoft.Gelu (s) }",
            ', "com.microsoft": 1',
            k=np.float32(k),
        )
        for k in (1.0, 1.00001, 1.01)
    )
    found = verify(one, near)
    assert found.ok
    assert found.truth_feeds == 0
    (note,) = found.notes
    assert note.code == "BNF035"
    assert "Gelu" in note.sentence
    assert all(row.worst.truth is None for row in found.outputs)
    assert "the tolerance for float32" in verify(one, far).failures[0]


def test_a_model_too_large_for_float64_is_compared_without_it(monkeypatch):
    monkeypatch.setattr(truth, "MOST_PARAMETERS", 100)
    found = verify(network(), network())
    assert found.ok
    assert [note.code for note in found.notes] == ["BNF035"]
    assert "memory" in found.notes[0].sentence


def test_a_tolerance_that_is_given_decides_alone():
    model = network()
    folded = bnfold.fold(model).model
    wrong = changed(folded, weight_of(folded, "layer1.conv"), channel(3, 1.01))
    assert not verify(model, wrong).ok
    loose = verify(model, wrong, atol=1.0)
    assert loose.ok
    assert loose.outputs[0].worst.truth.severity > 1  # measured all the same
    assert not verify(model, folded, atol=0, rtol=0).ok


def test_the_originals_known_error_widens_the_tolerance_of_inputs_without_truth():
    one, other = np.float32([[100.0]]), np.float32([[100.1]])
    assert not compare(one, other, precision="float32").ok
    assert compare(one, other, precision="float32", known_error=0.1, known_size=1000.0).ok
    assert not compare(one, other, precision="float32", known_error=0.01, known_size=1000.0).ok
    assert not compare(one, other, precision="float32", rtol=1e-4, known_error=0.1, known_size=1000.0).ok


def test_json_and_reports_hold_the_layers():
    model = network()
    folded = bnfold.fold(model).model
    found = verify(model, changed(folded, weight_of(folded, "layer1.conv"), channel(3, 1.01)))
    document = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert document["first_wrong"]["channel"] == 3
    assert [layer["status"] for layer in document["layers"]] == ["ok", "wrong", "wrong"]
    assert document["outputs"][0]["truth"]["candidate"]["max"] > document["outputs"][0]["truth"]["error_allowed"]
    screen = verify_text("a.onnx", "b.onnx", found)
    assert "  FAILED   output `y` differs more than rounding can explain" in screen
    assert "first layer that went wrong       layer1.bn → Conv `layer1.conv`, channel 3 of 8" in screen
    assert "original  error against float64" in screen
    assert "WRONG   layer1.bn" in verify_text("a.onnx", "b.onnx", found, per_layer=True)
    text = verify_markdown("a.onnx", "b.onnx", found)
    assert "The first layer that went wrong: layer1.bn → Conv `layer1.conv`, channel 3 of 8" in text
    assert "Every layer against float64 (3)" in text
    passed = verify_text("a.onnx", "b.onnx", verify(model, folded))
    assert "closer to the float64 truth than the original on" in passed


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_fold_in_the_arithmetic_of_another_tool_passes(dtype, tmp_path):
    """onnxruntime folds in the model's own type, which rounds every weight several times."""
    import onnxruntime as ort

    model = network(dtype)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found = verify(model, tmp_path / "optimized.onnx")
    assert found.ok, found.failures
    if dtype == np.float32:
        assert not any(node.op_type == "BatchNormalization" for node in onnx.load(tmp_path / "optimized.onnx").graph.node)
        assert found.outputs[0].worst.truth.algebra.max_abs > 0


def test_the_command_takes_budget_levels_and_providers(tmp_path):
    onnx.save(network(), tmp_path / "a.onnx")
    onnx.save(bnfold.fold(network()).model, tmp_path / "b.onnx")
    paths = [str(tmp_path / name) for name in ("a.onnx", "b.onnx")]

    def run(*arguments: str) -> tuple[int, str]:
        runner = CliRunner()
        with pytest.raises(SystemExit) as done, runner.isolation() as (out, _, _):
            cli.main(["verify", *paths, *arguments])
        return done.value.code, out.getvalue().decode()

    code, printed = run("--per-layer", "--verify-budget", "0", "--levels", "disabled")
    assert code == 0
    assert "layer1.bn → Conv `layer1.conv`" in printed
    assert "on 1 of 1 inputs" in printed or "on 0 of 1 inputs" in printed
    code, printed = run("--json", "--levels", "default")
    document = json.loads(printed)["verification"]
    assert code == 0
    assert {row["level"] for row in document["outputs"]} == {"default"}
    assert [layer["original"] for layer in document["layers"]] == [None] * 3
    assert run("--provider", "nosuch")[0] == 3
    assert run("--levels", "extended")[0] == run("--verify-budget", "-1")[0] == 2


# Figures

values = st.floats(-100, 100, width=32)


@given(hnp.arrays(np.float64, (4, 5), elements=values), hnp.arrays(np.float64, (4, 5), elements=st.floats(-3, 3)))
def test_a_certified_row_cannot_change(rows, delta):
    after = rows + delta
    moved = np.abs(after - rows).max()
    sure = certified(rows, moved)
    same = rows.argmax(-1) == after.argmax(-1)
    assert sure <= np.count_nonzero(same)
    for row, kept in zip(rows, same, strict=True):
        if certified(row[None], moved):
            assert kept
            assert certified(row[None], moved / 2)


def test_a_certificate_needs_a_lead_of_more_than_twice_the_difference():
    rows = np.array([[0.0, 1.0], [0.0, 2.1], [np.nan, 5.0]])
    assert certified(rows, 1.0) == 1
    assert certified(rows, math.inf) == 0
    found = compare(rows[:2].astype(np.float32), (rows[:2] + 0.4).astype(np.float32), precision="float32")
    assert (found.argmax_total, found.argmax_certified, found.argmax_changed) == (2, 2, 0)


def test_rows_run_over_classes():
    assert rows_of(np.zeros((4, 3))).shape == (4, 3)
    assert rows_of(np.zeros((2, 5, 3, 3))).shape == (18, 5)
    assert rows_of(np.zeros((4, 1))) is None
    assert rows_of(np.zeros((2, 3, 4))) is None


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, ml_dtypes.bfloat16])
def test_ulps_are_counted_in_units_of_the_true_value(dtype):
    eps = float(ml_dtypes.finfo(dtype).eps)
    true = np.array([1.0, 1.5, 2.0, 1024.0, 0.0])
    units = np.array([0.5, 0.6, 3.0, 5000.0, 0.0])
    scale = np.array([1.0, 1.0, 2.0, 1024.0, 0.0])
    found = ulp_histogram(units * scale * eps, true, np.dtype(dtype))
    assert sum(found) == 5
    assert found == (2, 1, 0, 1, 0, 0, 0, 0, 0, 1)
    assert len(found) == len(ULP_EDGES) + 1


@given(hnp.arrays(np.float32, 6, elements=st.floats(-(2.0**100), 2.0**100, width=32)))
def test_rounding_to_nearest_is_half_an_ulp_at_most(array):
    true = array.astype(np.float64) * (1 + 1e-9)
    error = true.astype(np.float32).astype(np.float64) - true
    assert ulp_histogram(error, true, np.dtype(np.float32))[0] == 6


@given(hnp.arrays(np.float64, 6, elements=values), hnp.arrays(np.float64, 4, elements=values))
def test_deviations_add_up(one, other):
    both = np.concatenate([one, other])
    found = Deviation.of(one, one).plus(Deviation.of(other, other))
    expected = Deviation.of(both, both)
    assert (found.max_abs, found.elements) == (expected.max_abs, 10)
    assert found.rms == pytest.approx(float(np.sqrt(np.mean(both**2))))


def test_the_ratio_of_signal_and_noise():
    signal = np.full(100, 10.0)
    assert Deviation.of(np.full(100, 0.01), signal).sqnr_db == pytest.approx(60)
    assert Deviation.of(np.zeros(3), signal[:3]).sqnr_db == math.inf
    assert Deviation.of(np.ones(3), np.zeros(3)).sqnr_db == -math.inf
    assert Deviation.of(np.zeros(0), np.zeros(0)).rms == 0.0


def judge(original: float, candidate: float, algebra: float, rounding: float):
    """A single true value of 1, and errors in parts of a millionth; the unit is 6e-8."""
    micro = 1e-6
    true = np.ones(1)
    return against_truth(
        true + original * micro,
        true + candidate * micro,
        TrueValues(true, true + algebra * micro, np.full(1, rounding * micro)),
        "float32",
    )


def test_the_error_may_be_some_times_the_originals_or_the_rounding():
    limit = ERROR_FACTOR
    assert judge(1, limit, 0, 0)[1] == ""
    assert "largest error against float64" in judge(1, limit + 1, 0, 0)[1]
    assert judge(0, limit, 0, 1)[1] == ""
    assert "largest error against float64" in judge(0, limit + 1, 0, 1)[1]
    assert judge(1000, 900, 0, 0)[1] == ""


def test_the_difference_in_float64_may_be_some_times_the_rounding_whatever_the_original_does():
    limit = ALGEBRA_FACTOR
    assert judge(1000, 1000, limit, 1)[1] == ""
    assert "in float64 the two models are" in judge(1000, 1000, limit + 1, 1)[1]


def test_figures_of_several_inputs_are_taken_together():
    (one, _), (two, _) = judge(1, 0.5, 0, 1), judge(2, 6, 3, 1)
    both = one.plus(two)
    assert (both.inputs, both.closer) == (2, 1)
    assert both.furthest == pytest.approx(3, rel=1e-3)
    assert both.original.max_abs == two.original.max_abs
    assert both.severity == max(one.severity, two.severity)
    assert both.error_allowed == two.error_allowed
    assert replace(both, ulps=()).plus(one).ulps == ()


def test_tf32_leaves_the_algebra_as_sharp_and_gives_the_arithmetic_room():
    true = np.ones(4)
    exact = TrueValues(true, true, np.zeros(4))
    rough = true + 1e-3
    assert "largest error" in against_truth(true, rough, exact, "float32")[1]
    assert against_truth(true, rough, exact, "float32", "float16")[1] == ""
    wrong = TrueValues(true, rough, np.zeros(4))
    assert "in float64" in against_truth(true, rough, wrong, "float32", "float16")[1]


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16, np.float64])
def test_moved_weights_are_one_unit_away_and_of_the_same_type(dtype):
    array = np.array([1.0, -1.5, 3.25, 0.0, np.inf, 1e-4]).astype(dtype)
    moved = truth._moved(array, np.random.default_rng(0))
    assert moved.dtype == array.dtype
    assert moved[3] == 0
    assert np.isinf(moved[4])
    eps = float(ml_dtypes.finfo(dtype).eps)
    assert np.abs(moved[:3].astype(np.float64) - array[:3].astype(np.float64)) == pytest.approx([eps, eps, 2 * eps])


def test_quantized_activations_that_flip_pass_and_a_wrong_scale_does_not():
    rng = np.random.default_rng(0)
    text = """g (float[N, 3, 9, 9] x) => (float[N, 4, P, Q] y) {
        c = Conv (x, W) n = BatchNormalization (c, scale, B, mean, var)
        q = QuantizeLinear (n, step, zero) y = DequantizeLinear (q, step, zero) }"""
    constants = {name: rng.normal(0, 0.5, 4).astype(np.float32) for name in ("B", "mean")}
    constants |= {name: rng.uniform(0.5, 1.5, 4).astype(np.float32) for name in ("scale", "var")}
    weight = rng.normal(0, 0.3, (4, 3, 3, 3)).astype(np.float32)
    model = text_model(text, W=weight, step=np.float32(0.03), zero=np.int8(0), **constants)
    folded = bnfold.fold(model).model
    assert verify(model, folded).ok
    name = next(node.input[1] for node in folded.graph.node if node.op_type == "Conv")
    assert not verify(model, changed(folded, name, channel(1, 1.1))).ok
