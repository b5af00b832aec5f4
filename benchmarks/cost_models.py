"""The models that tool cost and scaling are measured on. Their weights are written as they are drawn, so size costs no memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

STATISTICS = ("gamma", "beta", "mean", "var")
_PAGE = 4096


def external_convs(path: Path, layers: int, channels: int = 1024) -> None:
    """`layers` of Conv (3 × 3) and BatchNormalization with all weights in one external file, 37.7 MB a layer."""
    random = np.random.default_rng(0)
    kernel = random.normal(0, 0.01, (channels, channels, 3, 3)).astype(np.float32)
    initializers = []
    with path.with_name(f"{path.name}.data").open("wb") as data:
        for name, values in _parameters(layers, channels, kernel, random):
            data.write(b"\0" * (-data.tell() % _PAGE))
            tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=values.shape, data_location=TensorProto.EXTERNAL)
            places = {"location": f"{path.name}.data", "offset": data.tell(), "length": values.nbytes}
            for key, value in places.items():
                tensor.external_data.add(key=key, value=str(value))
            initializers.append(tensor)
            data.write(values.tobytes())
    path.write_bytes(_chain(layers, channels, initializers).SerializeToString())


def inline_convs(path: Path, layers: int, channels: int = 1024) -> None:
    """The same model with its weights inside the protobuf."""
    random = np.random.default_rng(0)
    kernel = random.normal(0, 0.01, (channels, channels, 3, 3)).astype(np.float32)
    parameters = _parameters(layers, channels, kernel, random)
    tensors = [numpy_helper.from_array(values, name) for name, values in parameters]
    path.write_bytes(_chain(layers, channels, tensors).SerializeToString())


def chain(path: Path, nodes: int, channels: int = 4) -> None:
    """A chain of `nodes` nodes: small 1 × 1 Conv, each followed by its BatchNormalization."""
    random = np.random.default_rng(0)
    kernel = random.normal(size=(channels, channels, 1, 1)).astype(np.float32)
    parameters = _parameters(nodes // 2, channels, kernel, random)
    tensors = [numpy_helper.from_array(values, name) for name, values in parameters]
    onnx.save(_chain(nodes // 2, channels, tensors, pads=0), path)


def nothing_to_fold(path: Path, nodes: int) -> None:
    """A chain of Relu and MatMul: many nodes, and no normalization among them."""
    random = np.random.default_rng(0)
    made, tensors, source = [], [], "x"
    for place in range(nodes // 2):
        tensors.append(numpy_helper.from_array(random.normal(size=(4, 4)).astype(np.float32), f"W{place}"))
        made.append(helper.make_node("MatMul", [source, f"W{place}"], [f"m{place}"], name=f"matmul{place}"))
        made.append(helper.make_node("Relu", [f"m{place}"], [f"r{place}"], name=f"relu{place}"))
        source = f"r{place}"
    onnx.save(_model(made, [1, 4], [source], tensors), path)


def shared_weight(path: Path, readers: int) -> None:
    """One weight that `readers` Conv read, each with a BatchNormalization of its own."""
    random = np.random.default_rng(0)
    tensors = [numpy_helper.from_array(random.normal(size=(4, 4, 1, 1)).astype(np.float32), "W")]
    made, source = [], "x"
    for place in range(readers):
        names = [f"{each}{place}" for each in STATISTICS]
        tensors += [numpy_helper.from_array(random.uniform(0.5, 1.5, 4).astype(np.float32), name) for name in names]
        made.append(helper.make_node("Conv", [source, "W"], [f"c{place}"], name=f"conv{place}"))
        made.append(helper.make_node("BatchNormalization", [f"c{place}", *names], [f"n{place}"], name=f"bn{place}"))
        source = f"n{place}"
    onnx.save(_model(made, [1, 4, 2, 2], [source], tensors), path)


def shared_tensor(path: Path, readers: int) -> None:
    """One tensor, made by a BatchNormalization, that `readers` Conv read, each with a BatchNormalization of its own."""
    random = np.random.default_rng(0)
    names = [f"{each}_first" for each in STATISTICS]
    made = [
        helper.make_node("Conv", ["x", "W"], ["c"], name="conv"),
        helper.make_node("BatchNormalization", ["c", *names], ["n"], name="bn"),
    ]
    tensors = [numpy_helper.from_array(random.normal(size=(4, 4, 1, 1)).astype(np.float32), "W")]
    tensors += [numpy_helper.from_array(random.uniform(0.5, 1.5, 4).astype(np.float32), name) for name in names]
    for place in range(readers):
        names = [f"{each}{place}" for each in STATISTICS]
        tensors += [numpy_helper.from_array(random.uniform(0.5, 1.5, 4).astype(np.float32), name) for name in names]
        tensors.append(numpy_helper.from_array(random.normal(size=(4, 4, 1, 1)).astype(np.float32), f"W{place}"))
        made.append(helper.make_node("Conv", ["n", f"W{place}"], [f"c{place}"], name=f"conv{place}"))
        made.append(helper.make_node("BatchNormalization", [f"c{place}", *names], [f"n{place}"], name=f"bn{place}"))
    onnx.save(_model(made, [1, 4, 2, 2], [f"n{place}" for place in range(readers)], tensors), path)


def _parameters(layers: int, channels: int, kernel: np.ndarray, random: np.random.Generator) -> Iterator[tuple[str, np.ndarray]]:
    for place in range(layers):
        yield f"W{place}", kernel
        for each in STATISTICS:
            yield f"{each}{place}", random.uniform(0.5, 1.5, channels).astype(np.float32)


def _chain(layers: int, channels: int, tensors: list[onnx.TensorProto], pads: int = 1) -> onnx.ModelProto:
    made, source = [], "x"
    for place in range(layers):
        made.append(helper.make_node("Conv", [source, f"W{place}"], [f"c{place}"], name=f"conv{place}", pads=[pads] * 4))
        statistics = [f"{each}{place}" for each in STATISTICS]
        made.append(helper.make_node("BatchNormalization", [f"c{place}", *statistics], [f"n{place}"], name=f"bn{place}"))
        source = f"n{place}"
    return _model(made, [1, channels, 2, 2], [source], tensors)


def _model(nodes: list[onnx.NodeProto], shape: list[int], outputs: list[str], tensors: list[onnx.TensorProto]) -> onnx.ModelProto:
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in outputs]
    graph = helper.make_graph(nodes, "measured", given, made, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
