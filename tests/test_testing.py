"""`bnfold.testing`, as someone who deploys a model uses it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest

from bnfold import pipeline
from bnfold.errors import InputError
from bnfold.testing import assert_folds_equivalently

LENET = Path(__file__).resolve().parent.parent / "models" / "lenet.onnx"


def test_a_model_that_folds() -> None:
    assert len(assert_folds_equivalently(LENET, all_fold=True).folds) == 4
    assert len(assert_folds_equivalently(str(LENET), feeds=[{"image": np.zeros((1, 1, 28, 28), np.float32)}]).folds) == 4
    assert len(assert_folds_equivalently(onnx.load(LENET)).folds) == 4
    assert len(assert_folds_equivalently(gs.import_onnx(onnx.load(LENET))).folds) == 4


def test_what_stays_can_be_asserted(network: Callable[..., onnx.ModelProto]) -> None:
    model = network()
    model.graph.output.append(onnx.helper.make_tensor_value_info("first.c", onnx.TensorProto.FLOAT, None))
    plan = assert_folds_equivalently(model, feeds=[{"x": np.ones((2, 3, 8, 8), np.float32), "flag": np.array(True)}])
    assert len(plan.refusals) == 1
    with pytest.raises(AssertionError, match=r"1 of 3 normalizations stay:\n  first\.bn: BNF004"):
        assert_folds_equivalently(model, all_fold=True)


def test_a_wrong_fold_fails_readably(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(model: Path, **_: object) -> pipeline.FoldResult:
        proto = onnx.load(model)
        result = right(proto)
        bias = next(each for each in result.model.graph.initializer if each.name == "fc3.bias")
        bias.raw_data = (onnx.numpy_helper.to_array(bias) + 1).astype(np.float32).tobytes()
        return result

    right = pipeline.fold
    monkeypatch.setattr(pipeline, "fold", wrong)
    with pytest.raises(AssertionError) as caught:
        assert_folds_equivalently(LENET)
    assert "FAILED" in str(caught.value)
    assert "logits" in str(caught.value)


def test_an_absent_model_is_an_input_error() -> None:
    with pytest.raises(InputError, match="does not exist"):
        assert_folds_equivalently("absent.onnx")
