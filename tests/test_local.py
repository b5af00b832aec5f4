"""Each layer by itself, from true inputs: what rounding through the whole network would cover."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

import bnfold
from benchmarks.planting import faults, spots
from benchmarks.reference_models import SHIPPED
from bnfold.runtime.local import LOCAL_FACTOR
from tests.random_graphs import sample

LAYERS = 12


def deep(seed: int = 0, width: int = 8) -> onnx.ModelProto:
    """Convolutions of 1 × 1, each with a normalization of variance 1, so that epsilon changes a layer by 5e-6."""
    body, place = "", "x"
    for number in range(LAYERS):
        statistics = ", ".join(f"{each}{number}" for each in "gbmv")
        last = number == LAYERS - 1
        after = "y" if last else f"n{number}"
        body += f"c{number} = Conv ({place}, W{number}, B{number}) {after} = BatchNormalization (c{number}, {statistics}) "
        body += "" if last else f"r{number} = Relu (n{number}) "
        place = f"r{number}"
    model = parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> g (float[N, {width}, 4, 4] x) => (float[N, {width}, 4, 4] y) {{ {body} }}'
    )
    rng = np.random.default_rng(seed)
    for number in range(LAYERS):
        values = {
            "W": rng.normal(0, np.sqrt(2 / width), (width, width, 1, 1)),
            **{name: rng.normal(0, 0.3, width) for name in "Bbm"},
            "g": rng.uniform(0.8, 1.2, width),
            "v": np.full(width, 1.0),
        }
        tensors = (numpy_helper.from_array(value.astype(np.float32), f"{name}{number}") for name, value in values.items())
        model.graph.initializer.extend(tensors)
    return model


def scaled(model: onnx.ModelProto, tensor: str, factor: float) -> onnx.ModelProto:
    """A copy in which the operator that makes a tensor has `factor` times its weight and bias."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    node = next(node for node in copy.graph.node if tensor in node.output)
    for place in (1, 2):
        stored = next(each for each in copy.graph.initializer if each.name == node.input[place])
        values = (numpy_helper.to_array(stored).astype(np.float64) * factor).astype(np.float32)
        stored.CopyFrom(numpy_helper.from_array(values, stored.name))
    return copy


@pytest.mark.parametrize("layer", ["n0", "n5", "n10", "y"])
def test_a_scale_that_is_off_by_an_epsilon_is_found_in_any_depth(layer):
    original = deep()
    broken = scaled(bnfold.fold(original).model, layer, 1 + 5e-6)
    found = bnfold.verify(original, broken)
    assert not found.ok
    assert found.first_wrong is not None
    assert found.first_wrong.tensor == layer
    assert found.first_wrong.severity > 1


@pytest.mark.parametrize("seed", range(3))
def test_an_honest_fold_is_within_its_rounding(seed):
    original = deep(seed)
    found = bnfold.verify(original, bnfold.fold(original).model)
    assert found.ok
    assert {each.status for each in found.layers} == {"ok"}


def test_a_map_of_almost_one_that_is_undone_behind_is_no_error():
    """Positive scales pass a Relu: the tensors around it may hold a little less where the next operator takes a little more."""
    original = deep()
    moved = scaled(bnfold.fold(original).model, "n4", 1 - 5e-6)
    next_one = next(node for node in moved.graph.node if "n5" in node.output)
    stored = next(each for each in moved.graph.initializer if each.name == next_one.input[1])
    values = (numpy_helper.to_array(stored).astype(np.float64) / (1 - 5e-6)).astype(np.float32)
    stored.CopyFrom(numpy_helper.from_array(values, stored.name))
    found = bnfold.verify(original, moved)
    assert found.ok, found.failures
    assert found.first_wrong is None


def test_a_scale_of_almost_one_carried_through_a_relu_is_no_error():
    """An untrained normalization: gamma 1, variance 1."""
    model = parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[N, 4, 6, 6] x) => (float[N, 4, 6, 6] y) '
        "{ c = Conv (x, W, B) r = Relu (c) n = BatchNormalization (r, g, b, m, v) y = Conv (n, U, C) }"
    )
    rng = np.random.default_rng(0)
    values = {"W": rng.normal(0, 0.5, (4, 4, 1, 1)), "U": rng.normal(0, 0.5, (4, 4, 1, 1)), "B": rng.normal(0, 1, 4)}
    values |= {"C": rng.normal(0, 1, 4), "g": np.ones(4), "b": np.zeros(4), "m": np.zeros(4), "v": np.ones(4)}
    model.graph.initializer.extend(numpy_helper.from_array(np.float32(value), name) for name, value in values.items())
    folded = bnfold.fold(model)
    assert len(folded.plan.folds) == 1
    assert bnfold.verify(model, folded.model).ok


@pytest.mark.parametrize(
    "seed",
    [
        *(688, 77, 543, 307),  # those that came closest of a thousand: 0.6 of what is allowed
        60063,  # a small shift that is put off from a MatMul of rank 4 to the Add behind it
        62188,  # an output that is zero throughout, which onnxruntime's optimizations do not keep exactly
        70237,  # float64 that is zero throughout
        83359,  # a Gemm of one weight and a bias that nearly cancel
        84644,  # a scale of 0.988 in float16, carried through a Pad
    ],
)
def test_honest_folds_of_random_graphs_that_are_hard_to_judge(seed):
    assert LOCAL_FACTOR >= 8
    drawn = sample(seed)
    read = {value.name for value in drawn.model.graph.input}
    feeds = {name: array for name, array in drawn.feeds.items() if name in read}
    found = bnfold.verify(drawn.model, bnfold.fold(drawn.model).model, inputs=[feeds])
    assert found.ok, found.failures
    assert found.first_wrong is None


def test_the_layer_is_named_where_the_rounding_of_the_next_one_would_hide_it():
    """The first network of these, whitened, turns its rounding into a millionth of its activations."""
    original = onnx.load(SHIPPED["mlp_whitened"])
    folded = bnfold.fold(original).model
    places = spots(original, folded)
    fault = next(fault for fault in faults(folded, places[0], places, {}) if fault.kind == "a neighbour's scale")
    found = bnfold.verify(original, fault.model)
    assert not found.ok
    assert found.first_wrong is not None
    assert found.first_wrong.tensor == places[0].tensor


def test_what_is_carried_through_a_relu_that_is_dead_on_the_input_is_no_error():
    model = parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[N, 2, 3, 3] x) => (float[N, 2, 3, 3] y) '
        "{ c = Conv (x, W, B) r = Relu (c) y = BatchNormalization (r, g, b, m, v) }"
    )
    values = {"W": np.full((2, 2, 1, 1), 0.01), "B": [-9, -9], "g": [2, 3], "b": [0, 0], "m": [0, 0], "v": [1, 1]}
    model.graph.initializer.extend(numpy_helper.from_array(np.float32(value), name) for name, value in values.items())
    folded = bnfold.fold(model)
    assert len(folded.plan.folds) == 1
    assert bnfold.verify(model, folded.model).ok
