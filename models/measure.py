"""Folds a shipped network and compares three of it on the whole test set: the PyTorch module, its file, and the folded file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

import bnfold
from models.trained import TRAINED, Trained, path_of

BATCH = 1000


def measure(name: str, data: Path | None = None) -> dict[str, Any]:
    """The part of a network's record that folding makes; needs PyTorch, the data, and no training.

    Both files run without onnxruntime's own optimizations, which would fold as well.

    Returns:
        normalizations: in the file, however they are written.
        left: code → count of those that stay.
        score_torch, score_original, score_folded: as in the record of `train.train`.
        flips_torch, flips_folded: answers in which the file differs from the module, and the folded file from the file;
            None for a quantity.
        difference_torch, difference_folded: the largest difference of any output value, likewise.
        largest: the largest output value of the file.
        r2: of a quantity, the share of its variance that the file explains; None for classes.
    """
    network = TRAINED[name]
    inputs, targets = network.load("test", data)
    with TemporaryDirectory() as folder:
        folded = Path(folder) / "folded.onnx"
        report = bnfold.optimize(path_of(name), folded)
        report.raise_for_status()
        ours = run_file(network, folded, inputs)
    original = run_file(network, path_of(name), inputs)
    theirs = run_torch(name, inputs)
    classes = network.output == "logits"
    outputs = {"torch": theirs, "original": original, "folded": ours}
    return {
        "normalizations": len(report.plan.verdicts),
        "left": dict(Counter(refusal.code for refusal in report.plan.refusals)),
        **{f"score_{which}": score(found, targets, classes) for which, found in outputs.items()},
        "flips_torch": flips(theirs, original) if classes else None,
        "flips_folded": flips(original, ours) if classes else None,
        "difference_torch": float(np.abs(theirs - original).max()),
        "difference_folded": float(np.abs(original - ours).max()),
        "largest": float(np.abs(original).max()),
        "r2": None if classes else 1 - float(((original - targets) ** 2).mean() / targets.var()),
    }


def run_file(network: Trained, path: Path, inputs: NDArray[Any]) -> NDArray[np.float32]:
    """The outputs of an ONNX file, with onnxruntime on the CPU and the graph as it is written."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feeds: list[Mapping[str, Any]] = [{network.input: batch} for batch in batches(inputs)]
    return np.concatenate([session.run([network.output], feed)[0] for feed in feeds])


def run_torch(name: str, inputs: NDArray[Any]) -> NDArray[np.float32]:
    """The outputs of the PyTorch module with the shipped weights."""
    import torch

    from models.trained import pretrained

    module = pretrained(name)
    with torch.no_grad():
        return np.concatenate([module(torch.from_numpy(batch)).numpy() for batch in batches(inputs)])


def batches(inputs: NDArray[Any]) -> list[NDArray[np.float32]]:
    """The inputs as float32, a thousand at a time."""
    return [inputs[start : start + BATCH].astype(np.float32) for start in range(0, len(inputs), BATCH)]


def score(found: NDArray[Any], targets: NDArray[Any], classes: bool) -> float:
    """The count of correct classes, or the root of the mean squared error."""
    return int((found.argmax(1) == targets).sum()) if classes else float(((found - targets) ** 2).mean() ** 0.5)


def flips(one: NDArray[Any], other: NDArray[Any]) -> int:
    """In how many rows another value is the largest."""
    return int((one.argmax(1) != other.argmax(1)).sum())
