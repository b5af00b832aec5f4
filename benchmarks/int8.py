"""What folding first is worth to 8-bit quantization with onnxruntime: accuracy on the whole test set of Fashion-MNIST.

    python -m benchmarks.int8 [--model NAME]... [--calibrate 512] [--write]

Each network is quantized as it is and folded, with one scale for a whole weight and with one for each channel: QDQ format, int8
weights, uint8 activations, ranges by minimum and maximum over the first training images, after onnxruntime's own preparation
(`quant_pre_process`: shape inference, and its graph optimizations, which fold a Conv with the BatchNormalization behind it) or
without it. `--write` writes the table into docs/quantization.md.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

import bnfold
from benchmarks.machine import facts
from benchmarks.marks import fill
from bnfold.data import open_data
from models.fashion_mnist import SHARED

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "quantization.md"
MODELS = ("lenet", "lenet_after", "lenet_by_hand", "mlp")
_CPU = ["CPUExecutionProvider"]


class Images(CalibrationDataReader):
    """The first training images, in batches and in the shape that a model takes."""

    def __init__(self, model: Path, count: int) -> None:
        self.feeds = (feed for feed, _ in feeds(ort.InferenceSession(str(model), providers=_CPU), "train", count))

    def get_next(self) -> dict[str, Any] | None:
        return next(self.feeds, None)


def feeds(session: ort.InferenceSession, split: str, count: int | None = None) -> Iterator[tuple[dict[str, Any], Any]]:
    """Batches of images for a model's only input, flat where it wants them so, with their labels."""
    (taken,) = session.get_inputs()
    for batch in open_data(f"{SHARED}:idx-{split}", "mnist").batches(64, stop=count):
        yield {taken.name: batch.inputs[""].reshape(len(batch), *taken.shape[1:])}, batch.labels


@dataclass(frozen=True)
class Row:
    """One network, one preparation: right answers of 10,000 in float32, and in 8 bits per tensor and per channel; and how many
    BatchNormalizations the quantized file still has, which run in float32.
    """

    model: str
    prepared: str
    left: int
    right: int
    per_tensor: int
    per_channel: int


def quantize(source: Path, target: Path, *, per_channel: bool, prepare: bool, count: int) -> Path:
    """Quantizes a file statically.

    Args:
        source: the float32 model.
        target: where the quantized one goes.
        per_channel: one scale for each channel of a weight.
        prepare: run onnxruntime's own preparation first.
        count: how many training images to calibrate on.
    """
    ready = source
    if prepare:
        ready = target.with_suffix(".prepared.onnx")
        quant_pre_process(source, ready, skip_symbolic_shape=True)  # it stops at a Constant of integers (onnxruntime 1.31)
    quantize_static(
        ready,
        target,
        Images(source, count),
        quant_format=QuantFormat.QDQ,
        per_channel=per_channel,
        weight_type=QuantType.QInt8,
        activation_type=QuantType.QUInt8,
    )
    return target


def right_answers(model: Path) -> int:
    """How many of the 10,000 test images a model gets right."""
    session, right = ort.InferenceSession(str(model), providers=_CPU), 0
    for feed, labels in feeds(session, "test"):
        right += int((session.run(None, feed)[0].argmax(axis=1) == labels).sum())
    return right


def measure(model: str, folder: Path, count: int) -> list[Row]:
    """The rows of one network: as it is, as onnxruntime prepares it, and folded."""
    original, folded = ROOT / "models" / f"{model}.onnx", folder / f"{model}.folded.onnx"
    bnfold.optimize(original, folded).raise_for_status()
    rows = []
    for prepared, source, prepare in (
        ("as it is", original, False),
        ("`quant_pre_process`", original, True),
        ("bnfold", folded, False),
        ("bnfold, then `quant_pre_process`", folded, True),
    ):
        found = [
            right_answers(quantize(source, folder / "int8.onnx", per_channel=each, prepare=prepare, count=count))
            for each in (False, True)
        ]
        left = sum(node.op_type == "BatchNormalization" for node in onnx.load(folder / "int8.onnx").graph.node)
        rows.append(Row(model, prepared, left, right_answers(source), *found))
        print(rows[-1], flush=True)
    return rows


def table(rows: list[Row], count: int) -> str:
    """The table as Markdown, with what it was measured on."""
    known = facts()
    lines = [
        f"Right answers of 10,000 test images, measured by `python -m benchmarks.int8 --write` on {known['date']} with",
        f"onnxruntime {known['versions']['onnxruntime']}, calibrated on the first {count:,} training images.",
        "",
        "| model | prepared by | BatchNormalizations left in float | float32 | int8, one scale a weight | int8, one a channel |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for row in rows:
        figures = " | ".join(f"{value:,}" for value in (row.left, row.right, row.per_tensor, row.per_channel))
        lines.append(f"| {row.model} | {row.prepared} | {figures} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", action="append", choices=MODELS, help="only these")
    parser.add_argument("--calibrate", type=int, default=512, metavar="N", help="training images to calibrate on")
    parser.add_argument("--write", action="store_true", help="write the table into docs/quantization.md")
    arguments = parser.parse_args()
    logging.getLogger().setLevel(logging.ERROR)
    np.seterr(all="ignore")
    with tempfile.TemporaryDirectory() as folder:
        rows = [row for model in arguments.model or MODELS for row in measure(model, Path(folder), arguments.calibrate)]
    print(table(rows, arguments.calibrate))
    if arguments.write:
        fill(PAGE, "int8", table(rows, arguments.calibrate))


if __name__ == "__main__":
    main()
