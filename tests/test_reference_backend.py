"""The float64 reference against the node tests and the models that come with onnx, at the precision of those tests.

Expected values there are float32 or coarser, so beside a test's own tolerance an output may be off by a rounding of its type:
two units of its largest value's last place.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections import Counter
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx.backend.test
import pytest
from onnx import OptionalProto, SequenceProto, TensorProto, numpy_helper

from bnfold.errors import InputError
from bnfold.runtime.reference import CannotEvaluate, Reference, uncovered
from bnfold.runtime.reference.table import NEWEST_OPSET

DATA = Path(onnx.backend.test.__file__).parent / "data"

BEYOND = {
    "ai.onnx.ml.ArrayFeatureExtractor", "ai.onnx.ml.Binarizer", "ai.onnx.ml.LabelEncoder", "ai.onnx.ml.TreeEnsemble",
    "ai.onnx.preview.FlexAttention", "ai.onnx.preview.training.Adagrad", "ai.onnx.preview.training.Adam",
    "ai.onnx.preview.training.Momentum", "Bernoulli", "ImageDecoder", "RandomUniformLike", "RegexFullMatch", "RoiAlign",
    "StringConcat", "StringNormalizer", "StringSplit", "TfIdfVectorizer",
}  # fmt: skip
"""What the node tests use and the reference does not cover; RoiAlign of mode "max" only."""

OTHERWISE = {
    "test_dynamicquantizelinear": "a quotient that is a tie in float32 and not in float64 rounds the other way",
    "test_dynamicquantizelinear_expanded": "the same",
    "test_resize_downsample_scales_cubic_align_corners": "recorded with a length of 2.4 where the output has 2",
    "test_resize_downsample_scales_linear_align_corners": "the same",
}
"""Node tests whose recorded values are not what the reference computes, and why."""

RANDOM = {f"test_training_dropout{rest}" for rest in ("", "_default", "_mask", "_default_mask")}
"""Node tests that feed a Dropout with the order to train."""


@dataclass(frozen=True)
class Case:
    """One recorded test."""

    name: str
    model: onnx.ModelProto
    data: list[tuple[list[Any], list[Any]]]
    rtol: float = 1e-3
    atol: float = 1e-7


def node_cases() -> dict[str, Case]:
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        cases = import_module("onnx.backend.test.case.node").collect_testcases(None)
    return {each.name: Case(each.name, each.model, each.data_sets, each.rtol, each.atol) for each in cases}


def file_cases() -> dict[str, Case]:
    found = {}
    for path in sorted(DATA.glob("*/*/model.onnx")):
        folders = sorted(path.parent.glob("test_data_set_*"))
        data = [([*map(read, numbered(each, "input"))], [*map(read, numbered(each, "output"))]) for each in folders]
        name = f"{path.parents[1].name}/{path.parent.name}"
        found[name] = Case(name, onnx.load(path), data)
    return found


def numbered(folder: Path, what: str) -> list[Path]:
    return sorted(folder.glob(f"{what}_*.pb"), key=lambda path: int(path.stem.split("_")[1]))


def read(path: Path) -> TensorProto | SequenceProto:
    content = path.read_bytes()
    try:
        return TensorProto.FromString(content)
    except ValueError:
        return SequenceProto.FromString(content)


def value(recorded: Any) -> Any:
    """The array, list or None that a recorded value stands for."""
    if isinstance(recorded, TensorProto):
        return numpy_helper.to_array(recorded)
    if isinstance(recorded, SequenceProto):
        return numpy_helper.to_list(recorded)
    return numpy_helper.to_optional(recorded) if isinstance(recorded, OptionalProto) else recorded


def assert_as_recorded(found: Any, recorded: Any, case: Case) -> None:
    if recorded is None or isinstance(recorded, list):
        assert (found is None) == (recorded is None)
        for ours, theirs in zip(found or [], recorded or [], strict=True):
            assert_as_recorded(ours, theirs, case)
        return
    recorded = np.asarray(recorded)
    assert found.shape == recorded.shape
    if recorded.dtype.kind in "OUSiub" or recorded.dtype.name.startswith(("int", "uint")):
        assert found.dtype == recorded.dtype or recorded.dtype.kind in "OUS"
        np.testing.assert_array_equal(found, recorded)
        return
    wanted = recorded.astype(np.float64)
    size = np.abs(wanted[np.isfinite(wanted)]).max(initial=0.0)
    atol = max(case.atol, 2 * float(ml_dtypes.finfo(recorded.dtype).eps) * size)
    np.testing.assert_allclose(found.astype(np.float64), wanted, case.rtol, atol)


NODES, FILES = node_cases(), file_cases()
COVERED = [name for name, case in NODES.items() if not uncovered(case.model)]


def run(case: Case) -> None:
    initial = {tensor.name for tensor in case.model.graph.initializer}
    names = [each.name for each in case.model.graph.input if each.name not in initial]
    reference = Reference(case.model)
    for inputs, outputs in case.data:
        found = reference.run(dict(zip(names, map(value, inputs), strict=True))).outputs
        for output, recorded in zip(case.model.graph.output, outputs, strict=True):
            assert_as_recorded(found[output.name], value(recorded), case)


@pytest.mark.parametrize("name", [name for name in COVERED if name not in OTHERWISE | dict.fromkeys(RANDOM)])
def test_node(name):
    run(NODES[name])


@pytest.mark.parametrize("name", [name for name in OTHERWISE if name in NODES])
def test_known_to_differ(name):
    with pytest.raises(AssertionError):
        run(NODES[name])


@pytest.mark.parametrize("name", [name for name in sorted(RANDOM) if name in NODES])
def test_training_dropout_is_refused(name):
    with pytest.raises(CannotEvaluate, match="training mode"):
        run(NODES[name])


def test_only_what_is_known_is_beyond_it():
    """A newer onnx may bring tests of operators that nobody here has seen; those of the opsets known here are settled."""
    known = [case for case in NODES.values() if all(entry.version <= NEWEST_OPSET for entry in case.model.opset_import)]
    counted = Counter(operator for case in known for operator in uncovered(case.model))
    assert set(counted) <= BEYOND
    assert len(COVERED) > 0.95 * len(known)


@pytest.mark.parametrize("name", [name for name in FILES if not uncovered(FILES[name].model)])
def test_recorded_model(name):
    run(FILES[name])


def test_only_what_is_known_in_recorded_models_is_beyond_it():
    counted = Counter(operator for case in FILES.values() for operator in uncovered(case.model))
    assert set(counted) <= {"StringNormalizer", "ai.onnx.preview.training.Gradient"}
    assert sum(not uncovered(case.model) for case in FILES.values()) > 0.9 * len(FILES)


# -- the whole networks, whose weights are one constant each --------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted((DATA / "light").glob("light_*.onnx")), ids=lambda path: path.stem)
def test_whole_network(path):
    """They are fed a ramp from 0 to 1, as onnx's own runner does."""
    model = onnx.load(path)
    assert uncovered(model) == ()
    initial = {tensor.name for tensor in model.graph.initializer}
    (given,) = [each for each in model.graph.input if each.name not in initial]
    shape = [dim.dim_value or 1 for dim in given.type.tensor_type.shape.dim]
    ramp = (np.arange(np.prod(shape)).reshape(shape) / np.prod(shape)).astype(np.float32)
    (found,) = Reference(model).run({given.name: ramp}).outputs.values()
    expected = value(read(path.with_name(f"{path.stem}_output_0.pb")))
    np.testing.assert_allclose(found, expected, 2e-3, 1e-7)


def test_missing_input_is_named():
    case = NODES["test_add"]
    with pytest.raises(InputError, match="the input `x`"):
        Reference(case.model).run({})
