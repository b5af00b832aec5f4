"""The float64 reference on whole models: against PyTorch in float64, onnxruntime, and the tests' own evaluator.

PyTorch computes the same network in float64 with other code from another graph, so what both agree on to the 15th digit is the
truth. The tests' evaluator is a second, independent implementation, small and slow.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from bnfold.runtime.reference import Reference, uncovered
from models.networks import NETWORKS
from tests import reference_more
from tests.cases import CASES
from tests.cases_algebra import CASES as ALGEBRA
from tests.random_graphs import sample

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "models"
OWN = Path(__file__).resolve().parents[1] / "models"
FILES = [*sorted(OWN.glob("*.onnx")), *sorted(SHARED.rglob("*.onnx"))]

TORCH_NORMWISE = 3e-14
"""The largest that was measured is 8.4e-15."""
RUNTIME_NORMWISE = 2e-5
"""What float32 may do to the largest output of a network."""


def distance(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, relative to the largest value."""
    assert found.shape == expected.shape
    expected = expected.astype(np.float64)
    return float(np.abs(found - expected).max(initial=0.0) / max(np.abs(expected).max(initial=0.0), 1e-300))


def with_runtime(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"]).run(None, feeds)


# -- networks -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(
    find_spec("torch") is None or find_spec("onnxscript") is None,
    reason="torch and onnxscript are not installed (pip install 'bnfold[torch]')",
)
@pytest.mark.parametrize("name", NETWORKS)
def test_network_as_pytorch_in_float64(name):
    import torch

    from models.export import to_onnx

    network = NETWORKS[name]
    module = network.build(small=True)
    model = to_onnx(module, network.example(small=True), network.input, network.output)
    assert uncovered(model) == ()
    sample = np.random.default_rng(1).random((3, *network.small_shape), np.float32)
    found = Reference(model).run({network.input: sample}).outputs[network.output]
    assert found.dtype == np.float64
    with torch.no_grad():
        expected = in_float64(module)(torch.from_numpy(sample).double()).numpy()
    assert distance(found, expected) < TORCH_NORMWISE
    assert distance(found, with_runtime(model, {network.input: sample})[0]) < RUNTIME_NORMWISE


def in_float64(module):
    """The module in float64, with an eps as ONNX holds it: in float32."""
    for each in module.modules():
        if isinstance(getattr(each, "eps", None), float):
            each.eps = float(np.float32(each.eps))
    return module.double()


# -- files ----------------------------------------------------------------------------------------------------------------


def feeds_for(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    rng, initial = np.random.default_rng(2), {tensor.name for tensor in model.graph.initializer}
    feeds = {}
    for value in model.graph.input:
        tensor = value.type.tensor_type
        if value.name not in initial:
            shape = [dim.dim_value or 2 for dim in tensor.shape.dim]
            if len(shape) == 4 and not tensor.shape.dim[-1].dim_value:
                shape[2:] = [48, 192]
            feeds[value.name] = rng.standard_normal(shape).astype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    return feeds


@pytest.mark.skipif(len(FILES) < 3, reason="the real models are not in shared/data/models beside the repository")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_file_as_onnxruntime(path):
    model = onnx.load(path)
    assert uncovered(model) == ()
    feeds = feeds_for(model)
    found = Reference(model).run(feeds).outputs
    try:
        expected = with_runtime(model, feeds)
    except onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument as error:
        assert "BatchNormalization" in str(error)  # noqa: PT017  three of onnxruntime's own fixtures cannot run
        return
    coarse = 100 if model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT16 else 1
    for output, wanted in zip(model.graph.output, expected, strict=True):
        assert distance(found[output.name], wanted) < RUNTIME_NORMWISE * coarse


# -- the tests' own evaluator ---------------------------------------------------------------------------------------------


ONE_SIDED = {
    "back_resize_cubic": "the tests' evaluator takes cubic for linear",
    "constant_sparse": "it reads no sparse initializers",
    "double_overflow": "it warns of the overflow",
    "dropout_asks_the_caller": "the reference refuses to train a Dropout",
    "dropout_opset_6_training": "the same",
    "dropout_training": "the same",
    "fore_softmax": "the tests' evaluator has no Softmax",
    "quantized_activation": "it has no QuantizeLinear",
    "side_output_is_read": "a running mean that no operator makes is read",
}
"""Rows that one of the two cannot evaluate, and why."""


def precision(model: onnx.ModelProto) -> float:
    """How far the two may differ, normwise. A Cast rounds in the tests' evaluator and not in the reference.

    The slope of LeakyRelu is 0.01 by default; the reference takes it as onnxruntime does, as the nearest float32.
    """
    operators = {node.op_type for graph in (model.graph, *model.functions) for node in graph.node}
    if operators & {"Cast", "CastLike"}:
        return 2.0**-7
    return 1e-8 if "LeakyRelu" in operators else 1e-11


def assert_alike(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> None:
    assert uncovered(model) == ()
    normwise = precision(model)
    found = Reference(model).run(feeds).outputs
    for name, expected in reference_more.evaluate(model, feeds).items():
        assert found[name].dtype == expected.dtype
        where = np.isfinite(expected) if expected.dtype.kind == "f" else np.ones(expected.shape, bool)
        np.testing.assert_array_equal(found[name][~where], expected[~where])
        assert found[name].shape == expected.shape
        assert distance(found[name][where], expected[where]) <= normwise


ROWS = {case.name: case for case in (*CASES, *ALGEBRA)}


def test_every_exception_is_a_row():
    assert ONE_SIDED.keys() <= ROWS.keys()


@pytest.mark.parametrize("case", [case for name, case in ROWS.items() if name not in ONE_SIDED], ids=lambda case: case.name)
def test_row_as_the_evaluator_of_the_tests(case):
    model = case.model()
    for feeds in case.feeds():
        assert_alike(model, feeds)


@pytest.mark.parametrize("start", range(0, 200, 20))
def test_random_graphs_as_the_evaluator_of_the_tests(start):
    for seed in range(start, start + 20):
        case = sample(seed)
        assert_alike(case.model, case.feeds)
