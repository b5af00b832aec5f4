"""What is written: `no_batchnorm`, `force`, `flush_subnormals`, data files, and nothing when it is stopped."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import parser

import bnfold
from bnfold.report.text import optimize_text
from tests.reference import evaluate

CHANNELS = 3


def model(body: str, weights: dict[str, np.ndarray] | None = None, gamma: tuple[float, ...] = (0.5, 1.5, 2.0)) -> onnx.ModelProto:
    text = f'<ir_version: 8, opset_import: ["": 17]> g (float[2,{CHANNELS},5,5] x) => (float[2,N,M,K] y) {{ {body} }}'
    built = parser.parse_model(text)
    statistics = {"s": gamma, "b": (0.3, -0.2, 0.1), "m": (1.0, 2.0, -1.0), "v": (0.5, 1.0, 2.0)}
    values = {name: np.asarray(value, np.float32) for name, value in statistics.items()} | (weights or {})
    read = {name for node in built.graph.node for name in node.input}
    built.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in values.items() if name in read)
    return built


def operators(proto: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in proto.graph.node]


KERNEL = {"W": np.random.default_rng(0).normal(size=(4, CHANNELS, 3, 3)).astype(np.float32)}
BN = "BatchNormalization (r, s, b, m, v)"
PADDED = f"r = Sigmoid (x) n = {BN} y = Conv <pads = [1, 1, 1, 1]> (n, W)"

WRITTEN = {
    "between nonlinear operators": (f"r = Sigmoid (x) n = {BN} y = Sigmoid (n)", {}, "Sigmoid Mul Add Sigmoid"),
    "its scale leaves backward": (
        f"c = Conv (x, U) r = Relu (c) n = {BN} y = Sigmoid (n)",
        {"U": KERNEL["W"][:CHANNELS]},
        "Conv Relu Add Sigmoid",
    ),
    "its scale leaves forward": (PADDED, KERNEL, "Sigmoid Add Conv"),
}


@pytest.mark.parametrize(("body", "weights", "left"), WRITTEN.values(), ids=list(WRITTEN))
def test_no_batchnorm_is_left_and_the_values_stay(body: str, weights: dict[str, np.ndarray], left: str) -> None:
    original = model(body, weights)
    result = bnfold.fold(original, no_batchnorm=True)
    assert operators(result.model) == left.split()
    assert [note.code for note in result.plan.all_notes] == ["BNF022"]
    feeds = {"x": np.random.default_rng(1).normal(size=(2, CHANNELS, 5, 5)).astype(np.float32)}
    before, after = evaluate(original, feeds)["y"], evaluate(result.model, feeds)["y"]
    assert np.abs(before - after).max() <= 1e-6 * np.abs(before).max()
    assert bnfold.fold(result.model, no_batchnorm=True).model == result.model


def test_a_scale_of_zero_cannot_leave_forward() -> None:
    result = bnfold.fold(model(PADDED, KERNEL, gamma=(0.5, 0.0, 2.0)), no_batchnorm=True)
    assert operators(result.model) == ["Sigmoid", "Mul", "Add", "Conv"]


def test_what_is_kept_is_not_rewritten() -> None:
    original = model(f"r = Sigmoid (x) y = {BN}")
    assert bnfold.fold(original, no_batchnorm=True, keep=["y"]).model == original


def test_force_takes_what_does_not_pay() -> None:
    body = "{ n = BatchNormalization (r, s, b, m, v) y = MatMul (n, W) }"
    text = f'<ir_version: 8, opset_import: ["": 17]> g (float[2,3] r) => (float[2,8] y) {body}'
    original = parser.parse_model(text)
    weights = {name: np.full(3, 0.5, np.float32) for name in "sbmv"} | {"W": np.ones((3, 8), np.float32)}
    original.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in weights.items())
    assert [refusal.code for refusal in bnfold.plan(original).refusals] == ["BNF020"]
    assert operators(bnfold.fold(original, force=True).model) == ["MatMul", "Add"]


@pytest.mark.parametrize("flush", [False, True])
def test_subnormals_are_stored_as_zero_on_request_only(flush: bool, tmp_path: Path) -> None:
    kernel = np.full((CHANNELS, CHANNELS, 1, 1), 2e-38, np.float32)
    onnx.save(
        model("r = Conv (x, W) y = BatchNormalization (r, s, b, m, v)", {"W": kernel}, gamma=(0.1, 1.0, 1.0)), tmp_path / "m.onnx"
    )
    report = bnfold.optimize(tmp_path / "m.onnx", tmp_path / "o.onnx", flush_subnormals=flush)
    assert report.written
    assert "BNF009" in {note.code for note in report.plan.all_notes}
    weights = onnx.numpy_helper.to_array(
        next(each for each in onnx.load(tmp_path / "o.onnx").graph.initializer if each.name == "W")
    )
    assert (weights[0] == 0).all() == flush
    assert (weights[1:] != 0).all()


def test_external_data_that_must_travel_along_is_named(tmp_path: Path) -> None:
    built = model("r = Conv (x, W) y = BatchNormalization (r, s, b, m, v)", {"W": KERNEL["W"][:CHANNELS]})
    onnx.save(built, tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    report = bnfold.optimize(tmp_path / "m.onnx", tmp_path / "o.onnx")
    assert report.data_files == ("o.onnx.data",)
    assert "o.onnx + o.onnx.data" in " ".join(optimize_text(report).split())
    assert (tmp_path / "o.onnx.data").exists()


def test_being_stopped_leaves_nothing_behind(tmp_path: Path) -> None:
    onnx.save(model("r = Conv (x, W) y = BatchNormalization (r, s, b, m, v)", {"W": KERNEL["W"][:CHANNELS]}), tmp_path / "m.onnx")
    script = (
        "import os, signal, sys, bnfold.runtime.verify as v\n"
        "v.verify = lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM)\n"
        "sys.argv = ['bnfold', 'optimize', 'm.onnx', '-o', 'o.onnx']\n"
        "from bnfold.cli.main import main; main()"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 130
    assert done.stderr.strip() == "bnfold: interrupted."
    assert [file.name for file in tmp_path.iterdir()] == ["m.onnx"]
