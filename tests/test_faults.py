"""Planted mistakes are caught and their layer is named, and honest folds pass; the whole of it is benchmarks/faults.py."""

from __future__ import annotations

import re
from itertools import islice

import numpy as np
import onnx
from onnx import numpy_helper, parser

import bnfold
from benchmarks.faults import PAGE, Honest, Trial, honest_graphs, honest_rows, judge, page, plant
from benchmarks.planting import KINDS, constants, faults, spots
from benchmarks.reference_models import SHIPPED

NO_PADDING = {"border pixels only", "an input dropped (operand of a sum)"}


def residual(seed: int = 0) -> onnx.ModelProto:
    """Two padded convolutions with normalizations and a sum around the second, a pooling and a Gemm with another one."""
    body = """
        c1 = Conv <pads = [1, 1, 1, 1]> (x, W1, B1)  n1 = BatchNormalization (c1, g1, b1, m1, v1)  r1 = Relu (n1)
        c2 = Conv <pads = [1, 1, 1, 1]> (r1, W2, B2)  n2 = BatchNormalization (c2, g2, b2, m2, v2)  s = Add (n2, r1)
        r2 = Relu (s)  p = GlobalAveragePool (r2)  f = Flatten (p)
        c3 = Gemm <transB = 1> (f, W3, B3)  y = BatchNormalization (c3, g3, b3, m3, v3)"""
    model = parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> g (float[N, 3, 8, 8] x) => (float[N, 6] y) {{ {body} }}'
    )
    rng = np.random.default_rng(seed)
    for number, shape in enumerate([(6, 3, 3, 3), (6, 6, 3, 3), (6, 6)], 1):
        values = {
            "W": rng.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape),
            **{name: rng.normal(0, 0.3, 6) for name in "Bbm"},
            **{name: rng.uniform(0.5, 1.5, 6) for name in "gv"},
        }
        tensors = (numpy_helper.from_array(value.astype(np.float32), f"{name}{number}") for name, value in values.items())
        model.graph.initializer.extend(tensors)
    return model


def misses(trials):
    return [trial for trial in trials if trial.counts and not (trial.caught and trial.located)]


def test_every_mistake_in_the_lenet_is_caught_and_its_layer_named():
    trials = list(plant("lenet", onnx.load(SHIPPED["lenet"]), 2))
    assert {trial.kind for trial in trials} == set(KINDS) - NO_PADDING
    assert len({trial.tensor for trial in trials}) == 2
    assert sum(trial.counts for trial in trials) > 0.9 * len(trials)
    assert misses(trials) == []


def test_every_mistake_in_a_residual_network_is_caught_and_its_layer_named():
    trials = list(plant("residual", residual(), 3))
    assert {trial.kind for trial in trials} == set(KINDS)
    assert {trial.tensor for trial in trials} == {"n1", "n2", "s", "y"}
    assert misses(trials) == []


def test_planted_models_are_valid_and_differ_in_one_layer_only():
    original = residual()
    folded = bnfold.fold(original).model
    places = spots(original, folded)
    assert [spot.tensor for spot in places] == ["n1", "n2", "y"]
    batch = {
        spot.source: np.random.default_rng(0).normal(0, 1, (2, 6, 8, 8)[: 2 if spot.tensor == "y" else 4]) for spot in places
    }
    before = folded.SerializeToString()
    for fault in faults(folded, places[1], places, batch):
        onnx.checker.check_model(fault.model, full_check=True)
        kept = {node.output[0] for node in folded.graph.node if node in fault.model.graph.node}
        changed = {node.output[0] for node in folded.graph.node} - kept
        assert changed == {fault.tensor}, fault.kind
        assert constants(folded).items() >= {name: constants(fault.model)[name] for name in ("W3", "x") if name in kept}.items()
    assert folded.SerializeToString() == before


def test_honest_folds_of_rows_raise_no_alarm():
    rows = islice(honest_rows(), 0, None, 16)
    found = [judge(name, original, folded, inputs=inputs) for name, original, folded, inputs in rows]
    assert len(found) > 20
    assert [each for each in found if each.outcome == "alarm"] == []
    assert sum(each.outcome == "passed" for each in found) > 0.9 * len(found)


def test_honest_folds_of_random_graphs_raise_no_alarm():
    found = [judge(name, original, folded, inputs=inputs) for name, original, folded, inputs in honest_graphs(20, first=5000)]
    assert [each for each in found if each.outcome == "alarm"] == []
    assert sum(each.outcome == "passed" for each in found) > 0.8 * len(found)


def test_an_honest_fold_of_the_lenet_raises_no_alarm_on_any_seed():
    original = onnx.load(SHIPPED["lenet"])
    folded = bnfold.fold(original).model
    assert [judge("lenet", original, folded, seed=seed) for seed in range(5)] == 5 * [Honest("lenet", "passed")]


def test_the_page_counts_what_was_measured():
    trials = [
        Trial("one", KINDS[0], "t", 100.0, caught=True, named="t"),
        Trial("one", KINDS[1], "t", 100.0, caught=True, named="u"),
        Trial("two", KINDS[0], "t", 100.0, caught=False, named=""),
        Trial("two", KINDS[0], "t", 0.5, caught=True, named="t"),
    ]
    honest = [Honest("row a", "passed"), Honest("graph 1", "alarm", "It differs."), Honest("net, seed 0", "undecided")]
    text = "\n".join(page(trials, honest, 60))
    assert "**2 of 3** planted mistakes" in text
    assert "in **1** of them" in text
    assert "**1 false alarms** in 2 honest folds" in text
    assert f"| {KINDS[0]} | 2 | 1 | 1 | 1 | 1 |" in text
    assert "caught, but `u` was named" in text
    assert "false alarm: graph 1: It differs." in text


def test_the_published_rates():
    text = PAGE.read_text(encoding="utf-8")
    caught, planted = re.search(r"\*\*([\d,]+) of ([\d,]+)\*\* planted", text).groups()
    alarms, folds = re.search(r"\*\*([\d,]+) false alarms\*\* in ([\d,]+) honest folds", text).groups()
    assert caught == planted
    assert alarms == "0"
    assert int(folds.replace(",", "")) > 1000
