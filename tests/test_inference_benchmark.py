"""The benchmarks of inference and of session creation, on a file of one node: what they measure, and keep of failures."""

from __future__ import annotations

import json
import warnings

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

pytest.importorskip("torch", reason="PyTorch is not installed (pip install 'bnfold[benchmarks]')")
pytest.importorskip("onnxscript", reason="onnxscript is not installed (pip install 'bnfold[benchmarks]')")

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # PyTorch's own
    from benchmarks import inference, recorded, session_creation
    from benchmarks.contestants import Contestant

from benchmarks.cells import Cell

CELL = Cell("mlp", "clean", "default", 1, 8)
KNOWN = {"date": "2026-01-02", "machine": "a machine", "versions": {"onnx": "1.23"}}


@pytest.fixture
def original(tmp_path):
    """Takes what the perceptron takes."""
    node = helper.make_node("Gemm", ["image", "W"], ["logits"])
    given = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 784])
    made = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])
    weights = numpy_helper.from_array(np.ones((784, 10), np.float32), "W")
    graph = helper.make_graph([node], "one", [given], [made], [weights])
    path = tmp_path / "original.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_every_contestant_has_a_row(original, tmp_path):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    same, died = Contestant("bnfold", original), Contestant("onnxslim", None, "died")
    found = inference.measure(CELL, [Contestant("original", original), same, died, Contestant("onnxsim", broken)], blocks=1)
    assert list(found["rows"]) == ["original", "bnfold", "onnxslim", "onnxsim"]
    assert found["rows"]["original"]["ratio"] == 1
    assert found["rows"]["bnfold"]["claim"] == "none", "nothing is claimed from one block"
    assert found["rows"]["onnxslim"] == {"failure": "died"}
    assert found["rows"]["onnxsim"]["failure"].startswith("does not run: ")
    assert found["noise"] >= 0
    assert found["runs"] >= 1


def test_an_original_that_does_not_run_is_a_cell_without_rows(tmp_path):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    found = inference.measure(CELL, [Contestant("original", broken), Contestant("bnfold", broken)], blocks=1)
    assert found["rows"] == {}
    assert found["failure"].startswith("does not run: ")
    assert "broken.onnx" in found["failure"]
    assert str(tmp_path) not in found["failure"], "no path of this machine in the records"


class TestSessionCreation:
    def test_every_contestant_has_a_row_and_each_its_turn_to_be_first(self, original):
        calls = []

        def create(path, level):
            calls.append(path.name)
            return "does not run: at all" if path.name == "broken.onnx" else {"original.onnx": 0.2, "folded.onnx": 0.1}[path.name]

        folded = original.with_name("folded.onnx")
        folded.write_bytes(b"12345")
        files = [Contestant("original", original), Contestant("bnfold", folded), Contestant("onnxslim", None, "died")]
        files.append(Contestant("onnxsim", original.with_name("broken.onnx")))
        paths = {"original, again": original, **{each.tool: each.path for each in files if each.path}}
        found = session_creation.measure(files, paths, "default", create, 6)
        assert list(found["rows"]) == ["original", "bnfold", "onnxslim", "onnxsim"]
        assert found["rows"]["bnfold"] == {"cpu_ms": pytest.approx(100), "ratio": 0.5, "claim": "faster", "bytes": 5}
        assert found["rows"]["onnxslim"] == {"failure": "died"}
        assert found["rows"]["onnxsim"] == {"failure": "does not run: at all"}
        assert (found["rounds"], found["noise"]) == (6, 0)
        assert calls.count("broken.onnx") == 1, "what does not run is not tried again"
        turns = [calls[4 + 3 * turn :][:3] for turn in range(6)]
        assert [each.index("folded.onnx") for each in turns] == [1, 0, 2, 1, 0, 2]

    def test_an_original_that_does_not_run_is_a_cell_without_rows(self, original):
        paths = {"original, again": original, "original": original}
        found = session_creation.measure([Contestant("original", original)], paths, "default", lambda *_: "does not run: at all")
        assert found == {"failure": "does not run: at all", "rows": {}}

    def test_all_files_are_written_alike_and_the_original_twice(self, original, tmp_path):
        folder = tmp_path / "copies"
        folder.mkdir()
        copies = session_creation.copies([Contestant("original", original), Contestant("onnxslim", None, "died")], folder)
        assert list(copies) == ["original, again", "original"]
        assert {path.parent for path in copies.values()} == {folder}
        assert all(path.read_bytes() == original.read_bytes() for path in copies.values())

    def test_each_session_has_a_process_of_its_own(self, original):
        with session_creation.processes() as create:
            seconds = [create(original, level) for level in ("default", "disabled")]
            assert create(original.with_name("none.onnx"), "default").startswith("does not run: ")
        assert all(0 < each < 60 for each in seconds)


@pytest.mark.parametrize(("first_s", "count", "block_s"), [(0.01, 8, 0.88), (0.1, 4, 2.4), (0.1, 8, 3.0), (3.0, 8, 3.0)])
def test_a_block_is_bounded(first_s, count, block_s):
    assert inference._block_s([first_s] * count) == pytest.approx(block_s)


class TestResuming:
    @pytest.fixture(autouse=True)
    def measured(self, tmp_path, monkeypatch):
        monkeypatch.setattr(recorded, "FULL", tmp_path)
        (tmp_path / inference.NAME).write_text(json.dumps({**KNOWN, "quick": False, "cells": [{**CELL._asdict(), "rows": {}}]}))

    def test_what_is_there_is_kept(self):
        assert list(inference._known({**KNOWN, "date": "2026-01-03"}, False, ())) == [CELL]

    def test_what_is_measured_again_is_not(self):
        assert inference._known(KNOWN, False, [CELL]) == {}

    def test_another_machine_stops_it(self):
        with pytest.raises(SystemExit, match="comes from another machine: use --fresh"):
            inference._known({**KNOWN, "machine": "another"}, False, ())

    def test_measuring_all_again_does_not_mind_another_machine(self):
        assert inference._known({**KNOWN, "machine": "another"}, False, [CELL]) == {}
