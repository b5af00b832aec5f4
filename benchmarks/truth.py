"""Measures how right and how fast the float64 reference is, on reference networks at the width of their papers, batch 1.

    python -m benchmarks.truth                  measure, then write the table in docs/reference.md
    python -m benchmarks.truth resnet50 unet    print the rows of some networks, and write nothing

Needs PyTorch. Its float64 forward pass is the yardstick; seconds are the best of three, on a machine that should have nothing
else to do.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from benchmarks.marks import fill
from bnfold.runtime.reference import Reference
from models.export import to_onnx
from models.networks import NETWORKS

CHOSEN = ("resnet18", "resnet50", "mobilenet-v2", "efficientnet-b0", "densenet121", "levit", "dcgan")
PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference.md"
HEADER = (
    "| network | input | reference | onnxruntime, float32 | reference, s | PyTorch float64, s |",
    "|---|---|---:|---:|---:|---:|",
)


def row(name: str) -> str:
    """A row of the table."""
    network = NETWORKS[name]
    module = network.build()
    model = to_onnx(module, network.example(), network.input, network.output)
    x = np.random.default_rng(1).random((1, *network.shape), np.float32)
    reference = Reference(model)
    found, seconds = timed(lambda: reference.run({network.input: x}).outputs[network.output])
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    (single,) = session.run(None, {network.input: x})
    exact = in_float64(module)
    with torch.no_grad():
        expected, torch_seconds = timed(lambda: exact(torch.from_numpy(x).double()).numpy())
    errors = (np.abs(each - expected).max() / np.abs(expected).max() for each in (found, single))
    cells = (network.title, " × ".join(map(str, network.shape)), *(f"{error:.1e}" for error in errors), f"{seconds:.2f}")
    return f"| {' | '.join(cells)} | {torch_seconds:.2f} |"


def in_float64(module: Any) -> Any:
    """The module in float64, with an eps as ONNX holds it: in float32."""
    for each in module.modules():
        if isinstance(getattr(each, "eps", None), float):
            each.eps = float(np.float32(each.eps))
    return module.double()


def timed(function: Any) -> tuple[Any, float]:
    """A result, and the best of three times."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        result = function()
        times.append(time.perf_counter() - start)
    return result, min(times)


def table(names: Iterable[str]) -> Iterator[str]:
    """The lines of the table, and what it was measured on."""
    yield from HEADER
    for name in names:
        yield row(name)
        print(name, file=sys.stderr)
    yield ""
    versions = f"onnxruntime {onnxruntime.__version__}, PyTorch {torch.__version__.partition('+')[0]}, numpy {np.__version__}"
    yield f"Largest error, relative to the largest output; {versions}; {os.cpu_count()} cores, {platform.machine()}."


def main() -> None:
    """Prints the table; writes it into the page when no networks are named."""
    lines = list(table(sys.argv[1:] or CHOSEN))
    print("\n".join(lines))
    if len(sys.argv) == 1:
        fill(PAGE, "measured", "\n".join(lines))


if __name__ == "__main__":
    main()
