"""Sessions of onnxruntime as the benchmarks create them, and what creating one takes."""

from __future__ import annotations

import time
from pathlib import Path

import onnxruntime as ort
from onnx import TensorProto, helper

from benchmarks import cells

LEVELS = dict(
    zip(cells.LEVELS, (ort.GraphOptimizationLevel.ORT_ENABLE_ALL, ort.GraphOptimizationLevel.ORT_DISABLE_ALL), strict=True)
)


def session(model: Path | bytes, level: str, threads: int) -> ort.InferenceSession:
    """On the CPU, at one of `cells.LEVELS`."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = LEVELS[level]
    options.log_severity_level = 4
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def creation_s(path: Path, level: str) -> float | str:
    """Processor seconds to create a session with one thread, or why that fails.

    The first session of a process registers operators and kernels as well, whatever its model; so one comes before that is not
    counted.
    """
    session(_smallest(), level, 1)
    before = time.process_time()
    try:
        session(path, level, 1)
    except Exception as error:  # onnxruntime's exceptions have no common base of their own
        return does_not_run(path, error)
    return time.process_time() - before


def does_not_run(path: Path, error: Exception) -> str:
    """What stands in the records where onnxruntime does not run a file: its first words, without the folder of this machine."""
    said = str(error).splitlines()[0]
    return f"does not run: {said.replace(str(path), path.name)[:150]}"


def _smallest() -> bytes:
    source, end = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "identity", [source], [end])
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 13)])
    return bytes(model.SerializeToString())
