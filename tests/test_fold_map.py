"""The fold map says which tensors of the original the folded model still has; their values say whether that is true."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import bnfold
from bnfold.folded_names import FoldMap
from bnfold.runtime.reference import Reference, uncovered
from tests.cases import Case
from tests.test_cases import FOLDING

LENET = Path(__file__).resolve().parent.parent / "models" / "lenet.onnx"


def made(model: onnx.ModelProto) -> list[str]:
    """The tensors that nodes of the main graph compute."""
    return [name for node in model.graph.node if node.op_type != "Constant" for name in node.output if name]


def constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    found = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type == "Constant"]
    found |= {node.output[0]: each.t for node in nodes for each in node.attribute if each.name == "value"}
    return {name: onnx.numpy_helper.to_array(tensor) for name, tensor in found.items()}


def test_a_chain_of_convolutions() -> None:
    plan = bnfold.plan(LENET)
    fold_map = bnfold.fold_map(plan)
    assert fold_map.tensor("bn1/BatchNormalization") == "bn1/BatchNormalization"
    assert fold_map.tensor("conv1/Conv") is None
    assert fold_map.tensor("conv1.weight") is None, "the name stays, the values do not"
    assert fold_map.constants("conv1.weight") == ("conv1.weight",)
    assert fold_map.constants("fc3.weight") == ()
    assert fold_map.original("conv1.weight") == "conv1.weight"
    assert fold_map.carry({"image": 1, "conv1/Conv": 2, "bn1/BatchNormalization": 3}) == {"image": 1, "bn1/BatchNormalization": 3}
    first = plan.changes[0]
    assert (first.normalization, first.output, first.into) == (*["bn1/BatchNormalization"] * 2, ("Conv `conv1/Conv`",))
    assert "conv1/Conv" in first.gone
    assert "bn1.running_var" in first.gone
    assert plan.to_dict()["changes"][0]["constants"][0] == {
        "operator": "Conv `conv1/Conv`",
        "input": 1,
        "old": "conv1.weight",
        "new": "conv1.weight",
    }


def test_it_is_made_of_whatever_holds_a_plan(tmp_path: Path) -> None:
    report = bnfold.optimize(LENET, tmp_path / "out.onnx", verify=False)
    planned = bnfold.fold_map(bnfold.plan(LENET))
    assert isinstance(planned, FoldMap)
    assert bnfold.fold_map(report) == planned
    assert bnfold.fold_map(bnfold.fold(LENET)) == planned
    assert bnfold.fold_map(bnfold.plan(tmp_path / "out.onnx")).lost == frozenset()


def test_a_map_that_travels_moves_the_tensors_on_its_way() -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        agraph (float[1,2,4,4] x) => (float[1,2,4,4] y)
        <float[2,2,1,1] W = {1, 2, 3, 4}, float[2] s = {2, 3}, float[2] b = {0, 0}, float[2] m = {0, 0}, float[2] v = {1, 1}>
        { c = Conv (x, W)  r = Relu (c)  y = BatchNormalization (r, s, b, m, v) }"""
    )
    result = bnfold.fold(model)
    fold_map = bnfold.fold_map(result)
    assert {"c", "W"} <= set(made(result.model)) | set(constants(result.model)), "the names are there"
    assert [fold_map.tensor(name) for name in ("x", "c", "r", "W", "y")] == ["x", None, None, None, "y"]
    assert result.plan.changes[0].moved == ("c",)


def test_a_bias_that_was_absent_comes_from_nothing() -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        agraph (float[1,2,4,4] x) => (float[1,2,4,4] y)
        <float[2,2,1,1] W = {1, 2, 3, 4}, float[2] s = {2, 3}, float[2] b = {1, 0}, float[2] m = {0, 0}, float[2] v = {1, 1}>
        { c = Conv (x, W)  y = BatchNormalization (c, s, b, m, v) }"""
    )
    result = bnfold.fold(model)
    bias = result.model.graph.node[0].input[2]
    assert bnfold.fold_map(result).original(bias) is None


@pytest.mark.parametrize("case", FOLDING, ids=lambda case: case.name)
def test_a_name_that_is_kept_has_kept_its_values(case: Case) -> None:
    source = case.model()
    if uncovered(source):
        pytest.skip("the float64 reference does not cover an operator of this row")
    result = bnfold.fold(source, **case.options)
    fold_map, left = bnfold.fold_map(result), set(made(result.model))
    plumbing = {name for name in made(source) if name not in left} - fold_map.lost
    feed = case.feeds()[0]
    kept = [name for name in made(source) if name in left and name not in fold_map.lost]
    expected, found = (Reference(model).run(feed, watch=kept).watched for model in (source, result.model))
    for name in kept:
        if name in expected and expected[name].dtype.kind == "f":
            np.testing.assert_allclose(
                found[name], expected[name], rtol=0.05, atol=0.05 * np.abs(expected[name]).max(initial=0.0)
            )
    depends = varying(source)
    assert not plumbing & depends, "what is gone is said to be gone, unless it only computed constants"
    stored, before = constants(result.model), constants(source)
    for name, array in before.items():
        if name in stored and name not in fold_map.lost:
            np.testing.assert_array_equal(stored[name], array)


def varying(model: onnx.ModelProto) -> set[str]:
    """The tensors of the main graph that depend on what is fed, by way of more than a type or a shape."""
    known = {value.name for value in model.graph.input} - {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        inputs = node.input[:1] if node.op_type == "CastLike" else () if node.op_type == "Shape" else node.input
        if known.intersection(inputs):
            known.update(node.output)
    return known
