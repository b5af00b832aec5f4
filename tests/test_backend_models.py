"""Every BatchNormalization among the onnx package's own backend tests folds, or is refused with the right code, and the
model still gives the recorded outputs.

Most of them are a BatchNormalization alone, with which nothing can be done. So each is also put behind a Conv that changes
nothing: it must fold there, and the recorded outputs must come out of the Conv.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
import onnx
import onnx.backend.test
import pytest
from onnx import TensorProto, helper, numpy_helper

import bnfold

DATA = Path(onnx.backend.test.__file__).parent / "data"
LIGHT_FOLDS = {"densenet121": 59, "inception_v2": 69, "resnet50": 53, "shufflenet": 49}
"""BatchNormalizations with a Conv in front that nobody else reads, counted in the files with onnx alone."""


@dataclass(frozen=True)
class Case:
    """One recorded test: a model, what goes in and what comes out."""

    name: str
    model: onnx.ModelProto
    inputs: dict[str, np.ndarray]
    outputs: list[np.ndarray]
    rtol: float = 1e-3

    def check(self, model: onnx.ModelProto) -> None:
        """Runs `model` and compares with what is recorded."""
        for found, recorded in zip(run(model, self.inputs), self.outputs, strict=True):
            assert found.shape == recorded.shape
            assert found.dtype == recorded.dtype
            np.testing.assert_allclose(found, recorded, self.rtol, 1e-7)


def run(model: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    if opset(model) < 7:  # onnxruntime has no kernel for these
        from onnx.reference import ReferenceEvaluator

        return ReferenceEvaluator(model).run(None, inputs)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"]).run(None, inputs)


def opset(model: onnx.ModelProto) -> int:
    return max(entry.version for entry in model.opset_import if not entry.domain)


def nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                yield from nodes(body)


def normalizations(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for graph in (model.graph, *model.functions) for node in nodes(graph) if node.op_type == "BatchNormalization"]


def node_cases() -> Iterator[Case]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import_module("onnx.backend.test.case.node.batch_normalization")  # makes its cases when it is imported

    for case in import_module("onnx.backend.test.case.node")._NodeTestCases:
        if not normalizations(case.model):
            continue
        ((inputs, outputs),) = case.data_sets
        names = [value.name for value in case.model.graph.input]
        yield Case(case.name, case.model, dict(zip(names, inputs, strict=True)), list(outputs))


def file_cases() -> Iterator[Case]:
    for path in sorted(DATA.glob("*/*/model.onnx")):
        model = onnx.load(path)
        if not normalizations(model):
            continue
        constant = {tensor.name for tensor in model.graph.initializer}
        names = [value.name for value in model.graph.input if value.name not in constant]
        folder = path.parent / "test_data_set_0"
        inputs = {name: read(folder / f"input_{place}.pb") for place, name in enumerate(names)}
        outputs = [read(folder / f"output_{place}.pb") for place in range(len(model.graph.output))]
        yield Case(f"{path.parents[1].name}/{path.parent.name}", model, inputs, outputs)


def read(path: Path) -> np.ndarray:
    return numpy_helper.to_array(TensorProto.FromString(path.read_bytes()))


CASES = [*node_cases(), *file_cases()]
TRAINING = [case for case in CASES if case.name.endswith("_training_mode")]
INFERENCE = [case for case in CASES if case not in TRAINING]


def by_name(case: Case) -> str:
    return case.name


def with_constants(case: Case) -> Case:
    """The same with everything but X as initializers."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    (node,) = normalizations(model)
    fed = {name: value for name, value in case.inputs.items() if name != node.input[0]}
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in fed.items())
    kept = [value for value in model.graph.input if value.name not in fed or model.ir_version < 4]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    return Case(case.name, model, {node.input[0]: case.inputs[node.input[0]]}, case.outputs, case.rtol)


def behind_a_conv(case: Case) -> Case:
    """Constant parameters, and a 1 × 1 Conv with the identity matrix between X and the normalization."""
    case = with_constants(case)
    (node,), (x,) = normalizations(case.model), case.inputs.values()
    channels, kernel = x.shape[1], x.ndim - 2
    weight = np.eye(channels, dtype=x.dtype).reshape(channels, channels, *[1] * kernel)
    conv = helper.make_node("Conv", [node.input[0], "eye"], ["through"], name="conv", kernel_shape=[1] * kernel)
    node.input[0] = "through"
    last = case.model.graph.node[0]
    del case.model.graph.node[:]
    case.model.graph.node.extend([conv, last])
    case.model.graph.initializer.append(numpy_helper.from_array(weight, "eye"))
    if case.model.ir_version < 4:
        case.model.graph.input.append(helper.make_tensor_value_info("eye", TensorProto.FLOAT, weight.shape))
    return case


def test_nothing_was_overlooked():
    assert len(TRAINING) >= 2
    assert len(INFERENCE) >= 7
    assert {opset(case.model) for case in CASES} >= {6, 15}
    assert {next(iter(case.inputs.values())).ndim for case in CASES} >= {3, 4, 5}


@pytest.mark.parametrize("case", CASES, ids=by_name)
def test_the_recorded_model_is_left_alone_and_gives_what_was_recorded(case):
    content = case.model.SerializeToString()
    result = bnfold.fold(case.model)
    (refusal,) = result.plan.verdicts
    parameters_are_fed = set(normalizations(case.model)[0].input[1:]) <= set(case.inputs)
    if case in TRAINING:
        assert refusal.code == "BNF001"
    elif parameters_are_fed:
        assert refusal.code == "BNF006"
    else:
        assert refusal.code in ("BNF004", "BNF005")  # nothing stands before it that could take it
    assert result.model.SerializeToString() == content
    case.check(result.model)


@pytest.mark.parametrize("case", TRAINING, ids=by_name)
def test_training_mode_never_folds(case):
    behind = behind_a_conv(case)
    behind.check(behind.model)
    for freeze_initializers in (False, True):
        result = bnfold.fold(behind.model, freeze_initializers=freeze_initializers)
        assert [verdict.code for verdict in result.plan.verdicts] == ["BNF001"]
        assert result.model == behind.model


@pytest.mark.parametrize("case", INFERENCE, ids=by_name)
def test_behind_a_conv_it_folds_and_the_conv_gives_what_was_recorded(case):
    behind = behind_a_conv(case)
    behind.check(behind.model)
    result = bnfold.fold(behind.model)
    assert [verdict.kind for verdict in result.plan.verdicts] == ["fold"]
    assert [node.op_type for node in result.model.graph.node] == ["Conv"]
    assert [entry.version for entry in result.model.opset_import] == [opset(case.model)]
    onnx.checker.check_model(result.model)
    behind.check(result.model)


# -- the whole networks, whose weights are one constant each --------------------------------------------------------------


def light_input(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """What onnx's own runner feeds them: a ramp from 0 to 1."""
    constant = {tensor.name for tensor in model.graph.initializer}
    (value,) = [value for value in model.graph.input if value.name not in constant]
    shape = [dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim]
    size = int(np.prod(shape))
    return {value.name: (np.arange(size).reshape(shape) / size).astype(np.float32)}


def light_cases() -> list[str]:
    return [path.stem.removeprefix("light_") for path in sorted((DATA / "light").glob("light_*.onnx"))]


@pytest.mark.parametrize("name", light_cases())
def test_whole_networks(name, tmp_path):
    path = DATA / "light" / f"light_{name}.onnx"
    model = onnx.load(path)
    total = len(normalizations(model))
    assert bool(total) == (name in LIGHT_FOLDS)
    if not total:
        bnfold.optimize(path, tmp_path / "out.onnx")
        assert (tmp_path / "out.onnx").read_bytes() == path.read_bytes()
        return
    recorded = Case(name, model, light_input(model), [read(DATA / "light" / f"light_{name}_output_0.pb")], rtol=2e-3)
    recorded.check(model)
    result = bnfold.fold(path)
    verdicts = [each for each in result.plan.verdicts if each.normalization.op_type == "BatchNormalization"]
    assert len(verdicts) == total
    assert sum(each.kind == "fold" for each in verdicts) >= LIGHT_FOLDS[name]
    assert len(normalizations(result.model)) == sum(each.kind == "refusal" for each in verdicts)
    assert all(refusal.code != "BNF006" for refusal in result.plan.refusals)  # IR 3: nothing can be overridden
    onnx.checker.check_model(result.model)
    recorded.check(result.model)
    assert not bnfold.plan(result.model).folds
