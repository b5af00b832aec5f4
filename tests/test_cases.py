"""Every row of `cases.py`: the verdicts, what became of the model, and what it computes."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, localcontext
from functools import cache
from math import frexp

import numpy as np
import onnx
import onnxruntime
import pytest
from ml_dtypes import finfo
from onnx import helper, numpy_helper

import bnfold
from bnfold import Fold, Plan
from tests.cases import CASES, Case
from tests.reference import assert_close, evaluate

ROWS = {case.name: case for case in CASES}
FOLDING = [case for case in CASES if set(case.expect.split()) - {word for word in case.expect.split() if word.startswith("BNF")}]

REFERENCE_ULPS = 8
"""How far apart both models may be in float64. A folded weight is off by 0.5, and a few of them meet in one output."""

RUNTIME_ULPS = 64
"""The same in onnxruntime, whose own arithmetic rounds after every operation."""


@dataclass(frozen=True)
class Outcome:
    """A row after folding."""

    case: Case
    source: onnx.ModelProto
    plan: Plan
    model: onnx.ModelProto

    @property
    def is_frozen(self) -> bool:
        return bool(self.case.options.get("freeze_initializers"))


@cache
def fold(name: str) -> Outcome:
    case = ROWS[name]
    source = case.model()
    result = bnfold.fold(source, **case.options)
    return Outcome(case, source, result.plan, result.model)


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def row(request: pytest.FixtureRequest) -> Outcome:
    return fold(request.param.name)


@pytest.fixture(params=FOLDING, ids=lambda case: case.name)
def folding(request: pytest.FixtureRequest) -> Outcome:
    return fold(request.param.name)


def test_names_of_rows_are_unique() -> None:
    assert len(ROWS) == len(CASES)


def test_verdicts(row: Outcome) -> None:
    expected, found = row.case.expect.split(), [_word(verdict) for verdict in row.plan.verdicts]
    if ":" not in row.case.expect:  # the row says nothing about normalizations that are written in primitives
        found = [word for word in found if ":" not in word]
    assert len(found) == len(expected)
    for word, allowed in zip(found, expected, strict=True):
        assert word in allowed.split("|"), [getattr(verdict, "sentence", "") for verdict in row.plan.refusals]


def test_one_verdict_for_each_normalization(row: Outcome) -> None:
    present = [node.output[0] for node in _nodes(row.source) if node.op_type == "BatchNormalization"]
    judged = [each.normalization for each in row.plan.verdicts]
    assert Counter(each.output for each in judged if each.op_type == "BatchNormalization") == Counter(present)


def test_notes(row: Outcome) -> None:
    assert {note.code for note in row.plan.all_notes} == set(row.case.notes.split())


def test_plan_is_what_fold_does(row: Outcome) -> None:
    assert bnfold.plan(row.source, **row.case.options).to_dict() == row.plan.to_dict()


def test_argument_is_left_alone(row: Outcome) -> None:
    source = row.case.model()
    before = source.SerializeToString()
    bnfold.plan(source, **row.case.options)
    assert source.SerializeToString() == before
    bnfold.fold(source, **row.case.options)
    assert source.SerializeToString() == before


def test_operators_that_are_left(row: Outcome) -> None:
    if row.case.after == "ANY":
        return
    gone = sum(":" not in _word(verdict) for verdict in row.plan.folds)
    expected = Counter(row.case.after.split()) or Counter(_operators(row.source)) - Counter(BatchNormalization=gone)
    assert _operators(row.model) == expected


def test_plan_counts_operators(row: Outcome) -> None:
    assert row.plan.operators_before == _operators(row.source)
    assert row.plan.operators_after == _operators(row.model)


def test_nothing_unread_is_left(row: Outcome) -> None:
    inputs = {value.name for value in row.source.graph.input}
    assert _unread(row.model) <= _unread(row.source) | (inputs if row.source.ir_version >= 4 else set())


def test_result_is_valid(row: Outcome) -> None:
    full = _passes_checker(row.source, full=True)
    if full or _passes_checker(row.source, full=False):
        onnx.checker.check_model(row.model, full_check=full)


def test_every_row_is_valid() -> None:
    invalid = [case.name for case in CASES if not _passes_checker(case.model(), full=False)]
    assert invalid == ["conv_domain_ai_onnx"], "the checker, unlike onnxruntime, does not know that name of the default domain"


def test_interface_is_unchanged(row: Outcome) -> None:
    source, model = row.source, row.model
    assert model.ir_version == source.ir_version
    assert list(model.opset_import) == list(source.opset_import)
    assert list(model.graph.output) == list(source.graph.output)
    if row.is_frozen or source.ir_version < 4:  # before IR 4, initializers have to be inputs
        assert _fed(model) == _fed(source)
    else:
        assert list(model.graph.input) == list(source.graph.input)


def test_refused_model_is_equal(row: Outcome) -> None:
    if not row.plan.folds and not row.is_frozen:
        assert row.model.SerializeToString() == row.source.SerializeToString()


def test_kept_normalizations_stay_as_they_are(row: Outcome) -> None:
    kept = {verdict.normalization.output for verdict in row.plan.refused_with("BNF021")}
    assert _normalizations(row.source, kept) == _normalizations(row.model, kept)


def test_folding_again_changes_nothing(row: Outcome) -> None:
    again = bnfold.fold(row.model, **row.case.options)
    assert again.model.SerializeToString() == row.model.SerializeToString()
    assert not again.plan.folds


def test_folding_is_deterministic(row: Outcome) -> None:
    again = bnfold.fold(row.case.model(), **row.case.options)
    assert again.model.SerializeToString() == row.model.SerializeToString()
    assert again.plan.to_dict() == row.plan.to_dict()


def test_same_values_in_float64(folding: Outcome) -> None:
    for feeds in folding.case.feeds():
        assert_close(evaluate(folding.source, feeds), evaluate(folding.model, feeds), folding.case.dtype, REFERENCE_ULPS)


def test_same_values_in_onnxruntime(folding: Outcome) -> None:
    if folding.case.no_runtime:
        pytest.skip(folding.case.no_runtime)
    for feeds in folding.case.feeds():
        expected, result = _run(folding.source, feeds), _run(folding.model, feeds)
        assert_close(expected, result, folding.case.dtype, RUNTIME_ULPS)
        assert_close(evaluate(folding.source, feeds), result, folding.case.dtype, RUNTIME_ULPS)


def test_invented_names_are_never_taken(folding: Outcome) -> None:
    """Every name that a fold makes up is given to something else first, in the main graph and in a body."""
    invented = sorted(_names(folding.model) - _names(folding.source))
    if not invented:
        return
    occupied = _occupy(folding.source, invented)
    result = bnfold.fold(occupied, **folding.case.options)
    assert [_word(verdict) for verdict in result.plan.verdicts] == [_word(verdict) for verdict in folding.plan.verdicts]
    if _passes_checker(occupied, full=True):
        onnx.checker.check_model(result.model, full_check=True)
    feeds = folding.case.feeds()[0]
    assert_close(evaluate(folding.source, feeds), evaluate(result.model, feeds), folding.case.dtype, REFERENCE_ULPS)


def test_nothing_is_said_of_tensors_that_are_gone(folding: Outcome) -> None:
    """With all shapes stated in value_info, the result states none that is wrong or belongs to nobody."""
    stated = onnx.shape_inference.infer_shapes(folding.source)
    result = bnfold.fold(stated, **folding.case.options)
    assert [_word(verdict) for verdict in result.plan.verdicts] == [_word(verdict) for verdict in folding.plan.verdicts]
    for graph in _graphs(result.model):
        made = {name for node in graph.node for name in node.output}
        assert {value.name for value in graph.value_info} <= made
    if _passes_checker(stated, full=True):
        onnx.checker.check_model(result.model, full_check=True)


EXACT = (
    "conv_2d",
    "conv_2d_bias",
    "conv_grouped",
    "conv_bias_near_large_mean",
    "conv_float16",
    "conv_bias_float16",
    "conv_bfloat16",
    "conv_bias_bfloat16",
    "chain_of_three",
    "chain_float16",
    "chain_bfloat16",
    "conv_transpose_2d",
    "conv_transpose_bias",
    "conv_transpose_grouped_uneven",
    "conv_transpose_depthwise_multiplier",
    "gemm",
    "gemm_c_n_alpha_beta",
    "gemm_c_mx1_trans_b",
    "gemm_float16",
    "gemm_bfloat16",
    "chain_gemm",
    "matmul",
    "matmul_chain_of_three",
    "matmul_left_3d",
    "matmul_left_3d_batched_weight",
    "matmul_bfloat16",
    "matmul_add",
    "matmul_sub",
    "matmul_left_3d_add_column",
    "matmul_add_float16",
    "bn_half_data_float_parameters",
    "bn_float_data_double_statistics",
    "half_small_epsilon",
    "variance_zero",
)


@pytest.mark.parametrize("name", EXACT)
def test_parameters_are_correctly_rounded(name: str) -> None:
    outcome = fold(name)
    with localcontext(prec=60):
        expected = _exact(outcome.source)
        found = _parameters(outcome.model)
        assert [each.shape for each in found] == [each.shape for each in expected]
        for stored, exact in zip(found, expected, strict=True):
            errors = [_ulps(value, wanted) for value, wanted in zip(stored.ravel(), exact.ravel(), strict=True)]
            assert max(errors) <= Decimal("0.5000001")


def test_bodies_keep_their_own_names() -> None:
    """A new shape of one branch's `k` is not written to what the other branch says of its own `k`."""
    outcome = fold("if_same_names_in_branches")
    branch = next(node for node in outcome.model.graph.node if node.op_type == "If")
    other = next(attribute.g for attribute in branch.attribute if attribute.name == "else_branch")
    assert [dim.dim_value for dim in other.value_info[0].type.tensor_type.shape.dim] == [3, 5]


def test_weight_with_one_map_is_stored_once() -> None:
    outcome = fold("shared_weight_same_map")
    first, second = (node for node in outcome.model.graph.node if node.op_type == "Conv")
    assert first.input[1] == second.input[1] == "W"


def test_weight_with_one_map_is_stored_once_for_all_bodies() -> None:
    outcome = fold("if_branches_share_all")
    read = [node.input[1] for node in _nodes(outcome.model) if node.op_type == "Gemm"]
    assert read == ["W", "W"]


def test_weight_with_one_map_and_a_reader_is_copied_once() -> None:
    outcome = fold("shared_weight_same_map_and_reader")
    first, second = (node for node in outcome.model.graph.node if node.op_type == "Conv")
    assert first.input[1] == second.input[1] != "W"


# -- looking at models ----------------------------------------------------------------------------------------------------


def _word(verdict: bnfold.verdict.Verdict) -> str:
    """The verdict in the notation of a row."""
    word = "+".join(each.split()[0] for each in verdict.into) if isinstance(verdict, Fold) else verdict.code
    op_type = verdict.normalization.op_type
    return word if op_type == "BatchNormalization" else f"{op_type.replace(', ', ',')}:{word}"


def _graphs(model: onnx.ModelProto) -> Iterator[onnx.GraphProto | onnx.FunctionProto]:
    pending = [model.graph, *model.functions]
    while pending:
        graph = pending.pop()
        yield graph
        for node in graph.node:
            pending += [attribute.g for attribute in node.attribute if attribute.type == onnx.AttributeProto.GRAPH]


def _nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    for graph in _graphs(model):
        yield from graph.node


def _operators(model: onnx.ModelProto) -> dict[str, int]:
    own = {(each.domain, each.name) for each in model.functions}
    return dict(Counter(f"{n.domain}::{n.op_type}" if (n.domain, n.op_type) in own else n.op_type for n in _nodes(model)))


def _normalizations(model: onnx.ModelProto, outputs: set[str]) -> list[tuple[onnx.NodeProto, list[onnx.TensorProto]]]:
    """The normalizations that make `outputs`, with their parameters."""
    found = [node for node in model.graph.node if node.op_type == "BatchNormalization" and node.output[0] in outputs]
    return [(node, [tensor for tensor in model.graph.initializer if tensor.name in node.input[1:]]) for node in found]


def _names(model: onnx.ModelProto) -> set[str]:
    initializers = {tensor.name for graph in _graphs(model) for tensor in getattr(graph, "initializer", ())}
    return initializers | {name for node in _nodes(model) for name in (*node.input, *node.output)} - {""}


def _unread(model: onnx.ModelProto) -> set[str]:
    """Initializers, and results of constant operators, that nothing reads."""
    read = {name for node in _nodes(model) for name in node.input}
    read |= {each if isinstance(each, str) else each.name for graph in _graphs(model) for each in graph.output}
    return _names(model) - read


def _fed(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    weights = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in weights]


def _passes_checker(model: onnx.ModelProto, full: bool) -> bool:
    try:
        onnx.checker.check_model(model, full_check=full)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
        return False
    return True


def _occupy(source: onnx.ModelProto, names: list[str]) -> onnx.ModelProto:
    """Gives `names` away: every other one to a node of the main graph, the rest to nodes of a body."""
    model = onnx.ModelProto()
    model.CopyFrom(source)
    graph = model.graph
    graph.initializer.append(numpy_helper.from_array(np.float32(1), "occupant"))
    graph.initializer.append(numpy_helper.from_array(np.array(True), "occupied"))
    if model.ir_version < 4:
        graph.input.append(helper.make_tensor_value_info("occupant", onnx.TensorProto.FLOAT, []))
        graph.input.append(helper.make_tensor_value_info("occupied", onnx.TensorProto.BOOL, []))
    taken = [helper.make_node("Sqrt", ["occupant"], [name]) for name in names]
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, []) for name in ("occupied_then", "occupied_else")]
    bodies = [
        helper.make_graph([*nodes, helper.make_node("Sqrt", ["occupant"], [end.name])], end.name, [], [end])
        for nodes, end in zip((taken[1::2], []), ends, strict=True)
    ]
    graph.node.extend(taken[::2])
    graph.node.append(helper.make_node("If", ["occupied"], ["occupied_if"], then_branch=bodies[0], else_branch=bodies[1]))
    for function in model.functions:
        function.node.extend(helper.make_node("Sqrt", [function.input[0]], [name]) for name in names)
    return model


# -- looking at values ----------------------------------------------------------------------------------------------------


def _run(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def _exact(model: onnx.ModelProto) -> list[np.ndarray]:
    """What the linear operator of a straight chain should hold, in 60 digits: its weight and what is added to its product."""
    values = {tensor.name: _decimals(numpy_helper.to_array(tensor)) for tensor in model.graph.initializer}
    nodes = list(model.graph.node)
    linear = nodes[0]
    told = {each.name: helper.get_attribute_value(each) for each in linear.attribute}
    constant = 1 if linear.input[1] in values else 0
    weight = values[linear.input[constant]]
    added = values[linear.input[2]] if len(linear.input) > 2 else np.array(Decimal(0))
    added = added * Decimal(told.get("beta", 1.0))
    for node in nodes[1:]:
        if node.op_type in ("Add", "Sub"):
            addend = next(values[name] for name in node.input if name in values)
            added = added + addend if node.op_type == "Add" else added - addend
    scale, offset = np.array(Decimal(1)), added
    # What is added is a row of channels, except to a MatMul with the constant on the left, where it is a column.
    turn = (lambda vector: vector.reshape(-1, 1)) if constant == 0 else (lambda vector: vector)
    for node in nodes:
        if node.op_type == "BatchNormalization":
            gamma, beta, mean, var = (values[name] for name in node.input[1:])
            epsilon = next((each.f for each in node.attribute if each.name == "epsilon"), float(np.float32(1e-5)))
            factor = gamma / np.vectorize(Decimal.sqrt, otypes=[object])(var + Decimal(epsilon))
            scale, offset = scale * factor, (offset - turn(mean)) * turn(factor) + turn(beta)
    if linear.op_type != "Gemm" and any(node.op_type == "Sub" for node in nodes):
        offset = -offset
    return [weight * _on_channels(linear.op_type, told, scale, weight.shape, constant), offset]


def _on_channels(op_type: str, told: dict[str, int], scale: np.ndarray, shape: tuple[int, ...], constant: int) -> np.ndarray:
    """`scale` in the shape of the weight: for each of its elements, that of the channel it makes."""
    place = np.indices(shape)
    if op_type == "Conv" or (op_type == "Gemm" and told.get("transB", 0)):
        return scale[place[0]]
    if op_type == "ConvTranspose":
        groups = told.get("group", 1)
        return scale[place[0] // (shape[0] // groups) * shape[1] + place[1]]
    return scale[place[-1 if constant else -2]]


def _parameters(model: onnx.ModelProto) -> list[np.ndarray]:
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    read = [name for node in model.graph.node for name in node.input if name in values]
    return [values[name] for name in read]


def _decimals(array: np.ndarray) -> np.ndarray:
    return np.vectorize(Decimal, otypes=[object])(array.astype(np.float64))


def _ulps(stored: np.generic, exact: Decimal) -> Decimal:
    """The distance of `stored` from `exact` in units of the last place that its type has there."""
    info = finfo(stored.dtype)
    _, exponent = frexp(exact)
    unit = Decimal(2) ** (max(exponent - 1, info.minexp) - info.nmant)
    return abs(Decimal(float(stored)) - exact) / unit
