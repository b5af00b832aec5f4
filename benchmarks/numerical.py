"""How exact the folds are: parameters in units in the last place, and outputs against a float64 reference.

    python -m benchmarks.numerical [--quick] [--network NAME]... [--python PEERS/bin/python]

The exact parameters are those of the network folded in float64 by torch.fx. The truth of the outputs is the unfolded file,
evaluated in float64; every file is run by onnxruntime with its optimizations disabled.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import numpy_helper
from torch.fx.experimental.optimization import fuse

from benchmarks import recorded
from benchmarks.cells import FIRST
from benchmarks.contestants import IDEAL, Contestant, contestants, does_not_run
from benchmarks.machine import PEERS_PYTHON, facts
from bnfold.runtime.reference import Reference, uncovered
from models.networks import NETWORKS

ROOT = Path(__file__).parents[1]
EXPORTS = ("clean", "float16")
_FEEDS = 3


def measure(network: str, export: str, files: list[Contestant], small: bool) -> dict[str, Any]:
    """One row for each contestant: ulp of its weights, and the error of its outputs relative to the largest true value."""
    original = files[0].path
    assert original is not None
    proto = onnx.load(original)
    if missing := uncovered(proto):
        return {"network": network, "export": export, "failure": f"beyond the reference: {', '.join(missing)}", "rows": {}}
    known = NETWORKS[network]
    shape = (2, *(known.small_shape if small else known.shape))
    rng = np.random.default_rng(0)
    feeds = [rng.standard_normal(shape).astype(np.float16 if export == "float16" else np.float32) for _ in range(_FEEDS)]
    reference = Reference(proto)
    truth = [reference.run({known.input: feed}).outputs[known.output] for feed in feeds]
    module = known.build(small=small)
    if export == "float16":
        module = module.half()
    _check_origin(module, proto, original)
    exact = _exact_weights(module)
    rows = {}
    for each in files:
        try:
            rows[each.tool] = _row(each, known.input, feeds, truth, exact)
        except Exception as error:  # onnxruntime's exceptions have no common base of their own
            rows[each.tool] = {"failure": does_not_run(each.path, error)}
    return {"network": network, "export": export, "rows": rows}


def _row(
    each: Contestant, name: str, feeds: list[np.ndarray], truth: list[np.ndarray], exact: list[np.ndarray]
) -> dict[str, Any]:
    if each.path is None:
        return {"failure": each.failure}
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = ort.InferenceSession(str(each.path), options, providers=["CPUExecutionProvider"])
    errors = [
        np.abs(session.run(None, {name: feed})[0].astype(np.float64) - true) for feed, true in zip(feeds, truth, strict=True)
    ]
    model = onnx.load(each.path)
    worst, folded = _ulps(model, exact)
    return {
        "error_max": max(float(error.max() / np.abs(true).max()) for error, true in zip(errors, truth, strict=True)),
        "error_rms": float(
            np.sqrt(np.mean([np.mean(np.square(error / np.abs(true).max())) for error, true in zip(errors, truth, strict=True)]))
        ),
        "ulp_max": worst,
        "folded_weights": folded,
        "batch_normalizations": sum(node.op_type == "BatchNormalization" for node in model.graph.node),
    }


def _check_origin(module: torch.nn.Module, proto: onnx.ModelProto, path: Path) -> None:
    """Stops at a file of another build: statistics are measured when a network is built, so all its errors would be wrong."""
    stored = {numpy_helper.to_array(tensor).tobytes() for tensor in proto.graph.initializer}
    parts = [part for part in module.modules() if isinstance(part, torch.nn.modules.batchnorm._BatchNorm)]
    if any(part.running_var is not None and part.running_var.numpy().tobytes() not in stored for part in parts):
        sys.exit(f"{path} was made from another build of the network: remove {path.parent}, or use run.py --fresh.")


def _exact_weights(module: torch.nn.Module) -> list[np.ndarray]:
    """The weights of the folded convolutions, in float64, of the network as it was exported."""
    try:
        folded = fuse(module.double())
    except Exception:  # whatever torch.fx cannot trace
        return []
    kinds = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)
    return [part.weight.detach().numpy() for part in folded.modules() if isinstance(part, kinds)]


def _ulps(model: onnx.ModelProto, exact: list[np.ndarray]) -> tuple[float | None, int]:
    """The largest distance of a folded weight, in units in the last place of its type, and how many weights are folded."""
    worst, count = 0.0, 0
    for tensor in model.graph.initializer:
        if len(tensor.dims) < 3 or tensor.data_type not in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16):
            continue
        values = numpy_helper.to_array(tensor)
        found = values.astype(np.float64)
        near = [
            each
            for each in exact
            if each.shape == found.shape and np.allclose(each, found, rtol=0.02, atol=0.01 * np.abs(each).max())
        ]
        if not near:
            continue  # not folded, or not by a convolution alone
        best = min(near, key=lambda each: float(np.abs(each - found).max()))
        rounded = best.astype(values.dtype)
        normal = np.abs(best) >= np.finfo(values.dtype).tiny
        spacing = np.spacing(np.abs(rounded)).astype(np.float64)
        worst, count = max(worst, float((np.abs(found - best) / spacing)[normal].max(initial=0.0))), count + 1
    return (worst if count else None), count


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two networks")
    parser.add_argument("--network", action="append", choices=list(NETWORKS), help="measure only this one (repeatable)")
    parser.add_argument("--small", action="store_true", help="the networks at the size for tests")
    parser.add_argument("--python", type=Path, default=PEERS_PYTHON, help="interpreter of the peers")
    parser.add_argument("--work", type=Path, default=ROOT / "benchmarks" / ".work", help="folder for the models")
    told = parser.parse_args()
    torch.set_num_threads(1)  # so that networks come out the same whatever this process may use
    known = facts(told.python)
    rows = []
    for network in told.network or (FIRST if told.quick else NETWORKS):
        for export in EXPORTS:
            files = contestants(network, export, told.work, told.python.absolute(), told.small)
            rows.append(measure(network, export, files, told.small))
            shown = {
                tool: f"{row['error_max']:.1e}/{row['ulp_max']}" if "error_max" in row else "–"
                for tool, row in rows[-1]["rows"].items()
            }
            print(network, export, shown, flush=True)
    part = told.quick or told.small or told.network is not None
    recorded.save("numerical.json", {**known, "quick": part, "ideal": IDEAL, "rows": rows})


if __name__ == "__main__":
    main()
