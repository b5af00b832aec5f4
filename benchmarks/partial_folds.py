"""Do partial folds pay? A normalization left alone, against its scale folded and its shift kept as an Add.

    python benchmarks/partial_folds.py

Two forms are compared with the BatchNormalization left as it is, in onnxruntime's default session:

* `border map`: Relu → BN → Conv(pad 1) becomes Relu → Conv → Add of a constant (1, M, H, W), what the Conv makes of the shift;
* `add`: Conv → Relu → BN → Sigmoid becomes Conv → Relu → Add, the scale (all positive) having left through the Relu.

Interleaved pairs, medians of ratios, and an A/A pair as the noise floor. Ratios above one mean that the partial fold is slower.
"""

from __future__ import annotations

import platform
import statistics
import time

import numpy as np
import onnx
import onnxruntime
from onnx import parser

SIZES = ((32, 56), (64, 28), (128, 14), (256, 7))
PAIRS = 31
RUNS_PER_SAMPLE = 5
CONV = "Conv<pads=[1,1,1,1]>"


def build(body: str, weights: dict[str, np.ndarray], channels: int, extent: int) -> onnx.ModelProto:
    signature = f"(float[1,{channels},{extent},{extent}] x) => (float[1,{channels},{extent},{extent}] y)"
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> agraph {signature} {{ {body} }}')
    model.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in weights.items())
    return model


def border_map_pair(channels: int, extent: int) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    weights = parameters(channels)
    border = np.random.default_rng(1).normal(size=(1, channels, extent, extent)).astype(np.float32)
    whole = build(f"r = Relu(x) n = BatchNormalization(r, s, b, m, v) y = {CONV}(n, W)", weights, channels, extent)
    partial = build(f"r = Relu(x) c = {CONV}(r, W) y = Add(c, k)", {"W": weights["W"], "k": border}, channels, extent)
    return whole, partial


def add_pair(channels: int, extent: int) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    weights = parameters(channels)
    body = f"c = {CONV}(x, W) r = Relu(c) n = BatchNormalization(r, s, b, m, v) y = Sigmoid(n)"
    whole = build(body, weights, channels, extent)
    rest = {"W": weights["W"], "k": weights["b"].reshape(-1, 1, 1)}
    partial = build(f"c = {CONV}(x, W) r = Relu(c) n = Add(r, k) y = Sigmoid(n)", rest, channels, extent)
    return whole, partial


def parameters(channels: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    weights = {name: random.uniform(0.5, 1.5, channels).astype(np.float32) for name in ("s", "b", "m", "v")}
    return {"W": random.normal(0, 0.05, (channels, channels, 3, 3)).astype(np.float32), **weights}


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def sample(runner: onnxruntime.InferenceSession, feed: dict[str, np.ndarray]) -> float:
    start = time.perf_counter()
    for _ in range(RUNS_PER_SAMPLE):
        runner.run(None, feed)
    return time.perf_counter() - start


def ratio(first: onnx.ModelProto, second: onnx.ModelProto, feed: dict[str, np.ndarray]) -> float:
    """Median over interleaved pairs of second / first."""
    pair = session(first), session(second)
    for runner in pair:
        sample(runner, feed)
    ratios = []
    for turn in range(PAIRS):
        times = {place: sample(pair[place], feed) for place in ((0, 1) if turn % 2 else (1, 0))}
        ratios.append(times[1] / times[0])
    return statistics.median(ratios)


def main() -> None:
    print(f"onnxruntime {onnxruntime.__version__}, 1 thread, {platform.machine()}, {PAIRS} interleaved pairs\n")
    print("| form | channels × extent | A/A | partial / whole |")
    print("|---|---|--:|--:|")
    for name, pair in (("border map", border_map_pair), ("add", add_pair)):
        for channels, extent in SIZES:
            whole, partial = pair(channels, extent)
            feed = {"x": np.random.default_rng(2).normal(size=(1, channels, extent, extent)).astype(np.float32)}
            print(f"| {name} | {channels} × {extent} | {ratio(whole, whole, feed):.3f} | {ratio(whole, partial, feed):.3f} |")


if __name__ == "__main__":
    main()
