from __future__ import annotations

import json
import math
import subprocess
import sys
from functools import partial
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto, helper, numpy_helper, parser

from bnfold.errors import EnvironmentUnfit, GateFailed, InputError
from bnfold.runtime import source
from bnfold.runtime import verify as verify_module
from bnfold.runtime.compare import compare, compare_values
from bnfold.runtime.draws import DISTRIBUTIONS
from bnfold.runtime.session import RunFailed
from bnfold.runtime.source import read_source
from bnfold.runtime.tolerance import DEFAULTS
from bnfold.runtime.verify import verify

MODELS = Path(__file__).resolve().parents[2] / "shared" / "data" / "models"
RNG = np.random.default_rng(7)
WEIGHTS = {
    "W": RNG.normal(0, 0.3, (4, 3, 3, 3)),
    "scale": RNG.uniform(0.5, 1.5, 4),
    "B": RNG.normal(0, 0.5, 4),
    "mean": RNG.normal(0, 0.5, 4),
    "var": RNG.uniform(0.3, 2, 4),
}


def model(graph: str, opset: int = 17, ir_version: int = 8, domains: str = "", **constants: np.ndarray) -> onnx.ModelProto:
    """A model from ONNX text, with `constants` as initializers."""
    proto = parser.parse_model(f'<ir_version: {ir_version}, opset_import: ["": {opset}{domains}]> {graph}')
    for name, values in constants.items():
        proto.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
    return proto


def conv_bn(dtype=np.float32, opset: int = 17, outputs: str = "y", **changed: np.ndarray) -> onnx.ModelProto:
    elem = {np.float32: "float", np.float16: "float16"}[dtype]
    constants = {name: np.asarray(values).astype(dtype) for name, values in (WEIGHTS | changed).items()}
    return model(
        f"g ({elem}[N, 3, H, D] x) => ({elem}[N, 4, P, Q] y) {{ c = Conv (x, W) {outputs} = "
        "BatchNormalization <epsilon = 0.001> (c, scale, B, mean, var) }",
        opset,
        **constants,
    )


def conv(dtype=np.float32, **changed: np.ndarray) -> onnx.ModelProto:
    """The same with the normalization folded in float64."""
    elem = {np.float32: "float", np.float16: "float16"}[dtype]
    stored = {name: values.astype(dtype).astype(np.float64) for name, values in WEIGHTS.items()}
    k = stored["scale"] / np.sqrt(stored["var"] + 0.001)
    constants = {"W": stored["W"] * k[:, None, None, None], "b": stored["B"] - stored["mean"] * k} | changed
    return model(
        f"g ({elem}[N, 3, H, D] x) => ({elem}[N, 4, P, Q] y) {{ y = Conv (x, W, b) }}",
        **{name: values.astype(dtype) for name, values in constants.items()},
    )


def constant_of(proto: onnx.ModelProto, name: str) -> np.ndarray:
    return next(numpy_helper.to_array(tensor) for tensor in proto.graph.initializer if tensor.name == name).astype(np.float64)


def relu(inner: str = "Relu (x)", **options) -> onnx.ModelProto:
    return model(f"g (float[N, 5] x) => (float[N, 5] y) {{ y = {inner} }}", **options)


def test_a_correct_fold_passes_and_is_measured_at_both_levels():
    found = verify(conv_bn(), conv())
    assert found.ok
    assert found.failures == found.notes == ()
    assert [(row.output, row.level) for row in found.outputs] == [("y", "disabled"), ("y", "default")]
    assert found.feeds == len(DISTRIBUTIONS)
    assert found.elapsed_s > 0
    worst = found.outputs[0].worst
    assert 0 < worst.max_abs_diff < worst.allowed
    assert 0 < worst.relative < 1e-5
    assert 100 < worst.sqnr_db < math.inf
    assert (worst.dtype, worst.shape[1], len(worst.shape)) == ("float32", 4, 4)
    assert found.argmax_total == (len(DISTRIBUTIONS) - 1) * 2 * 62 * 62 + 59 * 65
    assert found.argmax_changed <= 2


def test_identical_models_differ_nowhere():
    found = verify(conv_bn(), conv_bn())
    assert found.ok
    assert all(row.worst.max_abs_diff == 0 and row.worst.sqnr_db == math.inf for row in found.outputs)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_one_channel_with_the_wrong_sign_fails(dtype):
    assert verify(conv_bn(dtype), conv(dtype)).ok
    weight = constant_of(conv(dtype), "W")
    weight[2] *= -1
    found = verify(conv_bn(dtype), conv(dtype, W=weight))
    assert not found.ok
    assert "`y` differs more than rounding can explain" in found.failures[0]
    assert found.first_wrong is not None
    assert found.first_wrong.channel == 2
    assert found.worst is not None
    assert found.worst.worst.severity > 1
    assert found.argmax_changed > 0
    with pytest.raises(GateFailed, match="`y` differs"):
        found.raise_for_status()


def test_a_wrong_epsilon_fails():
    candidate = conv_bn()
    candidate.graph.node[1].attribute[0].f = 1e-2
    assert not verify(conv_bn(), candidate).ok


def test_a_wrong_scale_of_the_input_shows_on_wide_inputs():
    text = "g (float[N, 5] x) => (float[N, 5] y) {{ s = Mul (x, k) y = Add (s, b) }}".replace("{{", "{").replace("}}", "}")
    b = np.full(5, 100, np.float32)
    found = verify(model(text, k=np.float32(1 / 255), b=b), model(text, k=np.float32(1.02 / 255), b=b))
    assert not found.ok
    assert found.worst is not None
    assert found.worst.feed == "uniform(0, 255)"


def test_the_json_has_no_nan_or_inf():
    for candidate in (conv_bn(), conv(b=np.full(4, np.nan)), model("g (float[N, 3, H, D] x) => (int64[4] y) { y = Shape (x) }")):
        text = json.dumps(verify(conv_bn(), candidate).to_dict(), allow_nan=False)
        assert {"ok", "feeds", "failures", "notes", "outputs", "elapsed_s"} <= json.loads(text).keys()


def test_looser_tolerances_can_be_given_and_nonsense_cannot():
    shifted = conv(b=constant_of(conv(), "b") + 0.01)
    assert not verify(conv_bn(), shifted).ok
    assert verify(conv_bn(), shifted, atol=0.02).ok
    assert verify(conv_bn(), shifted, rtol=0.1).ok
    assert not verify(conv_bn(), conv(), atol=0, rtol=0).ok
    for bad in (-1.0, math.nan, math.inf):
        with pytest.raises(InputError, match="rtol"):
            verify(conv_bn(), conv(), rtol=bad)


# Signatures


@pytest.mark.parametrize(
    ("candidate", "words"),
    [
        ("g (float[N] x) => (float[N] y) { y = Relu (x) }", "lacks the input `z`"),
        ("g (float[N] x, float[N] w) => (float[N] y) { y = Add (x, w) }", "lacks the input `z`"),
        ("g (float[N] x, float[N] z, float[N] w) => (float[N] y) { y = Sum (x, z, w) }", "has the input `w`"),
        ("g (float[N] x, float[N] z) => (float[N] other) { other = Add (x, z) }", "lacks the output `y`"),
        ("g (float[N] x, float[N] z) => (float[N] y, float[N] a) { y = Add (x, z) a = Add (x, z) }", "has the output `a`"),
        ("g (float[N] x, float16[N] z) => (float[N] y) { y = Relu (x) }", "`z` has type tensor(float16)"),
        ("g (float[N] x, float[N, 1] z) => (float[N] y) { y = Relu (x) }", "`z` has shape"),
        ("g (float[N] x, float[N] z) => (int64[N] y) { y = Cast <to = 7> (x) }", "`y` has type tensor(int64)"),
    ],
)
def test_another_signature_is_a_failure_with_a_sentence(candidate, words):
    found = verify(model("g (float[N] x, float[N] z) => (float[N] y) { y = Add (x, z) }"), model(candidate))
    assert not found.ok
    assert any(words in sentence for sentence in found.failures), found.failures
    assert found.outputs == ()


def test_outputs_in_another_order_are_a_failure():
    text = "g (float[N] x) => (float[N] a, float[N] b) { a = Relu (x) b = Neg (x) }"
    swapped = text.replace("float[N] a, float[N] b", "float[N] b, float[N] a")
    assert "another order" in verify(model(text), model(swapped)).failures[0]


def test_frozen_initializers_may_disappear_from_the_inputs_but_not_become_required():
    overridable = model("g (float[N, 3] x, float[3] k) => (float[N, 3] y) { y = Mul (x, k) }", k=np.ones(3, np.float32))
    frozen = model("g (float[N, 3] x) => (float[N, 3] y) { y = Mul (x, k) }", k=np.ones(3, np.float32))
    required = model("g (float[N, 3] x, float[3] k) => (float[N, 3] y) { y = Mul (x, k) }")
    assert verify(overridable, frozen).ok
    assert verify(overridable, overridable).ok
    assert "`k`, which has an initializer in the original" in verify(overridable, required).failures[0]


# NaN, inf and chance


def test_nan_that_appears_is_a_failure():
    bias = constant_of(conv(), "b")
    bias[1] = np.nan
    found = verify(conv_bn(), conv(b=bias))
    assert "NaN or inf in other places" in found.failures[0]


def test_inf_of_the_other_sign_is_a_failure():
    one, other = (relu("Add (x, k)", k=np.array([0, 0, sign, 0, 0], np.float32)) for sign in (np.inf, -np.inf))
    assert verify(one, one).ok
    assert "NaN or inf in other places" in verify(one, other).failures[0]


def test_nan_in_the_same_places_is_noted():
    found = verify(relu("Sqrt (x)"), relu("Sqrt (x)"))
    assert found.ok
    assert [(note.code, note.node) for note in found.notes] == [("BNF032", "y")]
    assert "normal(0, 1)" in found.notes[0].sentence
    assert "uniform(0, 1)" not in found.notes[0].sentence


def test_an_output_that_is_nan_throughout_proves_nothing():
    broken = relu("Mul (x, k)", k=np.float32(np.nan))
    found = verify(broken, broken)
    assert not found.ok
    assert "throughout" in found.failures[0]
    assert found.notes[0].code == "BNF032"


@pytest.mark.parametrize(
    ("text", "opset"),
    [("{ n = RandomNormalLike (x) y = Add (x, n) }", 17), ("{ y = Dropout (x, half, yes) }", 13)],
)
def test_a_model_that_is_not_deterministic_is_undecided(text, opset):
    graph = f"g (float[N, 5] x) => (float[N, 5] y) {text}"
    noisy = model(graph, opset, half=np.float32(0.5), yes=np.array(True))
    found = verify(noisy, noisy)
    assert not found.ok
    assert "not deterministic" in found.failures[0]
    assert [note.code for note in found.notes] == ["BNF033"]
    assert found.outputs == ()


@pytest.mark.parametrize(
    "inner",
    ["Exp (x)", "Sin (big)"],
    ids=["overflows", "amplifies the rounding of its input"],
)
def test_wide_inputs_that_a_model_cannot_digest_are_dropped(inner):
    text = f"g (float[N, 5] x) => (float[N, 5] y) {{ big = Mul (x, k) y = {inner} }}"
    wide = model(text, k=np.float32(1e4))
    found = verify(wide, wide)
    assert found.ok
    assert 2 <= found.feeds < len(DISTRIBUTIONS)
    assert {note.code for note in found.notes} <= {"BNF036"}


# Inputs


def test_inputs_of_several_types():
    text = (
        "g (int64[N, T] ids, bool[N, T] mask, uint8[N, T] u, float16[N, T] h, double[N, T] d)"
        " => (float[N, T, 4] y, bool[N, T] m, uint8[N, T] v, float16[N, T] i, double[N, T] e)"
        " { y = Gather (table, ids) m = Not (mask) v = Identity (u) i = Neg (h) e = Neg (d) }"
    )
    found = verify(*[model(text, table=WEIGHTS["W"].reshape(-1, 4).astype(np.float32))] * 2)
    assert found.ok
    assert {row.worst.dtype for row in found.outputs} == {"float32", "bool", "uint8", "float16", "float64"}


@pytest.mark.parametrize("rows", [2, 5])
def test_indices_into_a_small_table_are_made_small(rows):
    table = np.eye(rows, dtype=np.float32)
    gather = model(f"g (int64[T] ids) => (float[T, {rows}] y) {{ y = Gather (table, ids) }}", table=table)
    assert verify(gather, gather).ok


def test_integer_and_bool_outputs_have_to_be_equal():
    one, other = (
        model("g (int64[N] x) => (int64[N] y, bool[N] b) { y = Add (x, k) b = Less (y, ten) }", k=np.array(k), ten=np.array(10))
        for k in (1, 2)
    )
    found = verify(one, other)
    assert [sentence.split("`")[1] for sentence in found.failures] == ["y", "b"]
    assert "not equal" in found.failures[0]


def test_image_sizes_are_found_that_fit_a_fully_connected_layer():
    text = "g (float[N, C, H, D] x) => (float[N, 2] y) { f = Flatten (x) y = MatMul (f, W) }"
    fixed = model(text, W=np.ones((28 * 28, 2), np.float32))
    assert verify(fixed, fixed).outputs[0].worst.shape == (2, 2)


def test_a_batch_that_is_baked_in_is_found():
    text = "g (float[N, 6] x) => (float[1, 2, 3] y) { y = Reshape (x, shape) }"
    baked = model(text, shape=np.array([1, 2, 3]))
    assert verify(baked, baked).outputs[0].worst.shape == (1, 2, 3)


def test_sizes_that_cannot_be_guessed_ask_for_shapes_and_shapes_help():
    text = "g (float[N, T] x) => (float[N, 2] y) { y = MatMul (x, W) }"
    odd = model(text, W=np.ones((37, 2), np.float32))
    with pytest.raises(InputError, match=r"MatMul.*--input-shapes.*--inputs") as caught:
        verify(odd, odd)
    assert "onnxruntime_src" not in str(caught.value)
    assert verify(odd, odd, input_shapes={"x": (3, 37)}).outputs[0].worst.shape == (3, 2)


def test_given_inputs_are_what_is_run(tmp_path):
    np.savez(tmp_path / "in.npz", x=np.full((1, 5), -2.0, np.float32))
    one, other = relu(), relu("Abs (x)")
    assert not verify(one, other, inputs=tmp_path / "in.npz").ok
    found = verify(one, other, inputs=[{"x": np.full((1, 5), value, np.float32)} for value in (0.0, 2.0, 3.0)])
    assert found.ok
    assert found.feeds == 3
    with pytest.raises(InputError, match="not both"):
        verify(one, other, inputs=tmp_path / "in.npz", input_shapes={"x": (1, 5)})


def test_given_inputs_that_the_original_refuses_are_an_input_error():
    reshape = model("g (float[N, T] x) => (float[P, 5] y) { y = Reshape (x, s) }", s=np.array([2, 5]))
    with pytest.raises(InputError, match="Reshape"):
        verify(reshape, reshape, inputs=[{"x": np.zeros((3, 3), np.float32)}])


def test_without_time_fewer_inputs_are_tried_and_one_is_evaluated_in_float64():
    found = verify(relu(), relu(), budget_s=0.0)
    assert (found.feeds, found.truth_feeds) == (2, 1)
    given = verify(relu(), relu(), inputs=[{"x": np.zeros((1, 5), np.float32)}] * 3, budget_s=0.0)
    assert (given.feeds, given.truth_feeds) == (3, 1)
    assert verify(relu(), relu(), inputs=[{"x": np.zeros((1, 5), np.float32)}] * 7).truth_feeds == 7
    with pytest.raises(InputError, match="budget_s"):
        verify(relu(), relu(), budget_s=-1.0)


@pytest.mark.parametrize(
    ("levels", "measured"), [("disabled", {"disabled"}), ("default", {"default"}), ("both", {"disabled", "default"})]
)
def test_levels_can_be_chosen(levels, measured):
    found = verify(conv_bn(), conv(), levels=levels)
    assert found.ok
    assert {row.level for row in found.outputs} == measured
    with pytest.raises(InputError, match="levels is 'all'"):
        verify(relu(), relu(), levels="all")


# Kinds of output


def test_strings_sequences_and_optionals_are_compared():
    text = (
        "g (float[N] x, string[N] s) => (string[N] t, seq(float[N]) q, optional(float[N]) o)"
        " { t = Identity (s) z = Mul (x, k) q = SequenceConstruct (x, z) o = Optional (z) }"
    )
    one, other = (model(text, 18, k=np.float32(k)) for k in (1, 2))
    assert verify(one, one).ok
    assert sorted(sentence.split("`")[1] for sentence in verify(one, other).failures) == ["o", "q"]


def test_maps_of_a_classifier_are_compared():
    def classifier(labels):
        nodes = [helper.make_node("ZipMap", ["x"], ["y"], domain="ai.onnx.ml", classlabels_int64s=labels)]
        kind = helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, None))
        y = helper.make_value_info("y", helper.make_sequence_type_proto(kind))
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 1)]
        return helper.make_model(helper.make_graph(nodes, "g", [x], [y]), opset_imports=opsets, ir_version=8)

    assert verify(classifier([0, 1, 2]), classifier([0, 1, 2])).ok
    assert "not equal" in verify(classifier([0, 1, 2]), classifier([0, 1, 3])).failures[0]


def test_a_sequence_of_another_length_is_a_failure():
    text = "g (float[N] x) => (seq(float[N]) q) {{ q = SequenceConstruct ({}) }}"
    assert "arrays" in verify(model(text.format("x, x")), model(text.format("x"))).failures[0]


def test_bfloat16_goes_in_and_out():
    text = "g (bfloat16[N, 5] x) => (bfloat16[N, 5] y) {{ f = Cast <to = 1> (x) g = Mul (f, k) y = Cast <to = 16> (g) }}"
    text = text.replace("{{", "{").replace("}}", "}")
    one, near, far = (model(text, k=np.float32(k)) for k in (1.0, 1.01, 1.3))
    assert verify(one, one).outputs[0].worst.dtype == "bfloat16"
    assert verify(one, near).ok
    assert not verify(one, far).ok
    scalar = model("g (bfloat16 x) => (bfloat16 y) { y = Identity (x) }")
    assert verify(scalar, scalar).outputs[0].worst.shape == ()


def test_an_output_type_that_numpy_cannot_hold_is_unfit():
    text = "g (float[N] x) => (float8e4m3fn[N] y) { y = Cast <to = 17> (x) }"
    with pytest.raises(EnvironmentUnfit, match=r"`y`.*float8e4m3fn.*cannot be compared"):
        verify(*[model(text, 19, 9)] * 2)


# Precision


@pytest.mark.parametrize(
    ("graph", "precision"),
    [
        ("g (float[N] x) => (float[N] y) { y = Relu (x) }", "float32"),
        ("g (double[N] x) => (double[N] y) { y = Relu (x) }", "float64"),
        ("g (double[N] x) => (double[N] y) { f = Cast <to = 1> (x) y = Cast <to = 11> (f) }", "float32"),
        ("g (float[N] x) => (float[N] y) { f = Cast <to = 10> (x) y = Cast <to = 1> (f) }", "float16"),
        ("g (float[N] x) => (float[N] y) { f = Cast <to = 16> (x) y = Cast <to = 1> (f) }", "bfloat16"),
        ("g (float[N] x) => (float[N] y) { q = QuantizeLinear (x, s, z) y = DequantizeLinear (q, s, z) }", "quantized"),
        ("g (uint8[N] x) => (float[N] y) { y = DequantizeLinear (x, s, z) }", "float32"),
        ("g (int64[N] x) => (int64[N] y) { y = Neg (x) }", "float32"),
    ],
)
def test_the_coarsest_precision_of_the_graph_sets_the_tolerance(graph, precision):
    proto = model(graph, s=np.float32(0.1), z=np.uint8(0)) if "Linear" in graph else model(graph)
    assert read_source(proto, "original").precision == precision


def test_tolerances_grow_with_coarseness_except_that_quantization_is_its_own_kind():
    ordered = [DEFAULTS[name].rtol for name in ("float64", "float32", "float16", "quantized", "bfloat16")]
    assert ordered == sorted(ordered)


def test_bytes_of_a_quantized_model_may_move_by_a_step_and_other_integers_may_not():
    one, other = np.array([[200, 10]], np.uint8), np.array([[201, 10]], np.uint8)
    assert compare(one, other, precision="quantized").ok
    assert not compare(one, other, precision="float32").ok
    assert not compare(one.astype(np.int32), other.astype(np.int32), precision="quantized").ok


# Environment and broken files


@pytest.mark.parametrize(("opset", "ir_version", "found"), [(17, 99, "IR version 99"), (200, 8, "opset 200")])
def test_a_model_newer_than_the_runtime_is_unfit(opset, ir_version, found):
    new = relu(opset=opset, ir_version=ir_version)
    for pair in ((new, relu()), (relu(), new)):
        with pytest.raises(EnvironmentUnfit, match=rf"{found}.*onnxruntime [\d.]+ loads up to \d+ \(BNF030\)\. Upgrade"):
            verify(*pair)


def test_an_operator_without_a_kernel_is_unfit_and_named():
    bfloat16 = model("g (bfloat16[N] x) => (bfloat16[N] y) { y = Relu (x) }")
    with pytest.raises(EnvironmentUnfit, match=r"no CPU kernel for Relu"):
        verify(bfloat16, bfloat16)
    custom = relu("my.domain.Snap (x)", domains=', "my.domain": 1')
    with pytest.raises(EnvironmentUnfit, match=r"my\.domain:Snap"):
        verify(custom, custom)


def test_an_invalid_original_is_an_input_error():
    with pytest.raises(InputError, match="does not accept the original"):
        verify(relu("Relu (nobody)"), relu())


def test_files_that_are_no_models_are_input_errors(tmp_path):
    (tmp_path / "text.onnx").write_bytes(b"hello, this is no protobuf")
    (tmp_path / "empty.onnx").write_bytes(b"")
    (tmp_path / "cut.onnx").write_bytes(conv_bn().SerializeToString()[:-40])
    for name in ("text.onnx", "empty.onnx", "cut.onnx", "missing.onnx"):
        for pair in ((tmp_path / name, relu()), (relu(), tmp_path / name)):
            with pytest.raises(InputError, match=name):
                verify(*pair)
    with pytest.raises(InputError, match="candidate is a int"):
        verify(relu(), 3)


@pytest.mark.parametrize(
    "candidate",
    [relu("Relu (nobody)"), relu("Reshape (x, s)", s=np.array([7, 5])), relu("my.domain.Snap (x)", domains=', "my.domain": 1')],
    ids=["invalid", "stops", "no kernel"],
)
def test_a_candidate_that_does_not_run_is_a_failure(candidate):
    found = verify(relu(), candidate)
    assert not found.ok
    (failure,) = found.failures  # and not the same again at the next level
    assert "candidate does not run where the original does" in failure
    assert "--no-verify" not in failure


def test_a_level_that_the_original_cannot_run_at_is_noted_and_skipped(monkeypatch):
    def stops(*_):
        raise RunFailed("the optimizer broke it.")

    monkeypatch.setattr(verify_module, "_run_all", stops)
    found = verify(relu(), relu())
    assert found.ok
    assert [note.code for note in found.notes] == ["BNF034"]
    assert [row.level for row in found.outputs] == ["disabled"]


def test_models_too_large_for_memory_or_without_their_weights_ask_for_a_path(monkeypatch, tmp_path):
    onnx.save(conv_bn(), tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    with pytest.raises(InputError, match=r"`W` in the external file.*path"):
        verify(onnx.load(tmp_path / "m.onnx", load_external_data=False), conv())
    monkeypatch.setattr(source, "MAX_PROTO_BYTES", 10)
    with pytest.raises(InputError, match=r"2 GB.*path"):
        verify(conv_bn(), conv())


def test_external_data_is_found_beside_the_model_and_named_when_missing(tmp_path):
    onnx.save(conv_bn(), tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    assert verify(tmp_path / "m.onnx", conv()).ok
    assert verify(str(tmp_path / "m.onnx"), tmp_path / "m.onnx").ok
    (tmp_path / "w.bin").unlink()
    with pytest.raises(InputError, match=r"w\.bin \(tensor `\w+`\).*beside the model"):
        verify(tmp_path / "m.onnx", conv())


@pytest.mark.parametrize("opset", [9, 13, 17])
def test_absent_outputs_that_are_spelled_out_do_not_crash_the_process(tmp_path, opset):
    spelled = conv_bn(opset=opset)
    spelled.graph.node[1].output.extend(["", "", "", ""])
    before = spelled.SerializeToString()
    payload = read_source(spelled, "original").payload
    assert isinstance(payload, bytes)
    assert list(onnx.ModelProto.FromString(payload).graph.node[1].output) == ["y"]
    assert verify(spelled, conv()).ok
    assert spelled.SerializeToString() == before
    onnx.save(spelled, tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    assert verify(tmp_path / "m.onnx", conv()).ok


def test_a_model_that_needs_no_change_is_opened_by_its_path(tmp_path):
    onnx.save(conv_bn(), tmp_path / "m.onnx")
    assert read_source(tmp_path / "m.onnx", "original").payload == tmp_path / "m.onnx"


def test_nothing_is_printed(capfd):
    broken = relu("Reshape (x, s)", s=np.array([7, 5]))
    verify(relu(), broken)
    verify(conv_bn(), conv(b=np.full(4, np.nan)))
    assert capfd.readouterr() == ("", "")


def test_onnxruntime_is_not_imported_before_it_is_needed():
    code = "import sys, bnfold.runtime.verify; sys.exit('onnxruntime' in sys.modules or 'onnx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# The comparison itself

exact = partial(compare, precision="float32", atol=0.0, rtol=1e-3)
arrays = hnp.arrays(
    st.sampled_from([np.float16, np.float32, np.float64]),
    hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
    elements=st.floats(-100, 100, width=16),
)
special = hnp.arrays(np.float32, (2, 3), elements=st.sampled_from([0.0, 1.0, -2.0, np.nan, np.inf, -np.inf]))


@given(arrays)
def test_an_array_equals_itself(array):
    found = exact(array, array.copy())
    assert found.ok
    assert (found.max_abs_diff, found.relative, found.severity, found.differing, found.argmax_changed) == (0, 0, 0, 0, 0)
    assert found.sqnr_db == math.inf


@given(arrays.filter(lambda array: array.size and np.abs(array).max() > 1e-3), st.floats(0, 1), st.floats(0, 2), st.integers(0))
def test_one_moved_value_fails_exactly_when_it_moves_beyond_the_norm(array, direction, factor, index):
    wide = array.astype(np.float64)
    other = wide.copy()
    other.flat[index % wide.size] += (1 if direction < 0.5 else -1) * factor * 1e-3 * np.abs(wide).max()
    moved = float(np.abs(other - wide).max())
    found = exact(wide, other)
    assert found.max_abs_diff == moved
    assert found.ok == (moved <= 1e-3 * np.abs(wide).max()) == (found.severity <= 1)
    assert exact(wide * 64, other * 64).ok == found.ok


@given(special, special)
def test_nan_and_inf_have_to_be_in_the_same_places(one, other):
    same = all(
        (a == b) or (math.isnan(a) and math.isnan(b)) or (math.isfinite(a) and math.isfinite(b))
        for a, b in zip(one.flat, other.flat, strict=True)
    )
    found = compare(one, other, precision="float32", atol=1e9)
    assert found.ok == same
    assert found.non_finite == np.count_nonzero(~np.isfinite(one))
    assert math.isfinite(found.max_abs_diff)


@given(
    st.lists(st.integers(0, 3), max_size=6),
    st.lists(st.integers(0, 3), max_size=6),
    st.sampled_from([np.int64, np.bool_, object]),
)
def test_discrete_values_have_to_be_equal(one, other, dtype):
    a, b = np.array(one, dtype), np.array(other, dtype)
    assert exact(a, b).ok == (a.tolist() == b.tolist())


def test_values_near_zero_are_judged_by_the_size_of_the_output_and_not_by_their_own():
    reference = np.array([[1e-9, 50.0]], np.float32)
    assert compare(reference, np.array([[-1e-6, 50.0]], np.float32), precision="float32").ok
    assert not compare(reference, np.array([[0.1, 50.0]], np.float32), precision="float32").ok


def test_types_and_shapes_have_to_be_the_same():
    one = np.ones((2, 3), np.float32)
    assert "type float64" in exact(one, one.astype(np.float64)).problem
    assert "shape (3, 2)" in exact(one, one.T).problem
    assert exact(one, one.T).severity == math.inf


def test_the_quotient_of_signal_and_noise_in_decibels():
    reference = np.full(100, 10.0)
    assert exact(reference, reference + 0.01).sqnr_db == pytest.approx(60)
    assert exact(np.zeros(3), np.ones(3)).sqnr_db == -math.inf


@pytest.mark.parametrize(
    ("shape", "changed", "total"),
    [((4, 3), 1, 4), ((2, 3, 2, 2), 1, 8), ((4, 1), 0, 0), ((12,), 0, 0), ((2, 2, 3), 0, 0)],
)
def test_rows_whose_largest_value_moved_are_counted(shape, changed, total):
    reference = np.zeros(shape)
    candidate = reference.copy()
    candidate[(0, -1) + (0,) * (len(shape) - 2) if len(shape) > 1 else 0] = 1.0
    found = exact(reference, candidate)
    assert (found.argmax_changed, found.argmax_total) == (changed, total)


def test_what_differs_is_told_from_what_is_allowed():
    one, other = np.array([1.0, 2.0], np.float32), np.array([1.0, 2.5], np.float32)
    default = compare(one, other, precision="float32").problem
    assert default.startswith("differs more than the tolerance for float32 (1e-04 of the largest value): max |Δ| 5.00e-01, ")
    assert "allowed 2.01e-04, on values up to 2" in default
    chosen = compare(one, other, precision="float32", atol=0.4999999, rtol=0.0).problem
    assert "more than --atol/--rtol (atol, rtol) allow: max |Δ| 5.000000e-01, allowed 4.999999e-01" in chosen


def test_an_absent_optional_equals_only_another():
    assert all(found.ok for found in compare_values(None, None, exact))
    assert not all(found.ok for found in compare_values(np.zeros(0, np.float32), None, exact))


def test_bfloat16_arrays_are_numbers():
    one = np.array([1.0, np.nan, 3.0], ml_dtypes.bfloat16)
    assert compare(one, one.copy(), precision="bfloat16").ok
    assert not compare(one, np.array([1.0, np.nan, 4.0], ml_dtypes.bfloat16), precision="bfloat16").ok


# Models made by others


@pytest.mark.skipif(not MODELS.is_dir(), reason="the collection of real models lies beside the repository, and is not there")
@pytest.mark.parametrize(
    "name",
    ["cifar_resnet20", "gtcrn_simple", "light_densenet121", "mesonet", "mnist_burn", "ppocr_cls", "ultraface_slim_320"]
    + [f"ort_fusion/{name}" for name in ("fuse-conv-bn-add-mul-float16", "fuse-matmul-bn-with-reshape")],
)
def test_generated_inputs_run_on_real_models(name):
    path = MODELS / f"{name}.onnx"
    found = verify(path, path)
    assert found.ok
    assert found.feeds >= 3
    assert {row.level for row in found.outputs} == {"disabled", "default"}
