"""What several test files share: where the real models are, a small network, and ways to look at files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf.message import Message
from onnx import TensorProto, helper, numpy_helper

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared_models() -> Path:
    """The folder of real models beside the repository."""
    folder = SHARED / "data" / "models"
    if not folder.is_dir():
        pytest.skip("the real models are not in shared/data/models beside the repository")
    return folder


@pytest.fixture(scope="session")
def network() -> Callable[..., onnx.ModelProto]:
    """Makes a network of two Conv, each with a normalization that folds, one If with a third, and some other tensors."""
    return _network


@pytest.fixture(scope="session")
def snapshot() -> Callable[[Path], dict[str, bytes]]:
    """Reads everything below a folder: relative path → content, with a trailing "/" for folders."""
    return _snapshot


@pytest.fixture(scope="session")
def tensors() -> Callable[[Message], Iterator[onnx.TensorProto]]:
    """Finds every tensor in a message, at any depth."""
    return _tensors


@pytest.fixture(scope="session")
def loaded() -> Callable[[Path], onnx.ModelProto]:
    """Reads a model with its external data, all of it into `raw_data`."""
    return _loaded


def _network(seed: int = 0, channels: int = 4) -> onnx.ModelProto:
    rng = np.random.default_rng(seed)
    nodes, initializers = [], []

    def add(name: str, array: np.ndarray) -> onnx.TensorProto:
        return numpy_helper.from_array(array.astype(np.float32), name)

    def layer(place: str, source: str, inputs: int) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
        names = [f"{place}.{each}" for each in ("weight", "bias", "gamma", "beta", "mean", "var")]
        weight, bias, *statistics = names
        values = [rng.normal(0, 0.3, (channels, inputs, 3, 3)), *rng.normal(0, 0.5, (4, channels)), rng.uniform(0.5, 2, channels)]
        conv = helper.make_node("Conv", [source, weight, bias], [f"{place}.c"], name=f"{place}.conv", pads=[1, 1, 1, 1])
        norm = helper.make_node("BatchNormalization", [f"{place}.c", *statistics], [f"{place}.n"], name=f"{place}.bn")
        return [conv, norm], [add(name, value) for name, value in zip(names, values, strict=True)]

    for place, source, inputs in (("first", "x", 3), ("second", "first.r", channels)):
        made, weights = layer(place, source, inputs)
        nodes += [*made, helper.make_node("Relu", [f"{place}.n"], [f"{place}.r"], name=f"{place}.relu")]
        initializers += weights
    made, weights = layer("body", "second.r", channels)
    constants = [
        helper.make_node("Constant", [], [weight.name], name=f"constant {weight.name}", value=weight) for weight in weights[2:]
    ]
    result = helper.make_tensor_value_info("body.n", TensorProto.FLOAT, None)
    then_branch = helper.make_graph([*constants, *made], "then", [], [result], weights[:2])
    identity = helper.make_node("Identity", ["second.r"], ["else.n"], name="else.identity")
    else_branch = helper.make_graph([identity], "else", [], [helper.make_tensor_value_info("else.n", TensorProto.FLOAT, None)])
    choice = helper.make_node("If", ["flag"], ["chosen"], name="if", then_branch=then_branch, else_branch=else_branch)
    extra = [
        numpy_helper.from_array(np.float32([2.0]), "factor"),
        numpy_helper.from_array(np.zeros((0, 3), np.float32), "nothing"),
    ]
    nodes += [choice, helper.make_node("Mul", ["chosen", "factor"], ["y"], name="mul")]
    graph = helper.make_graph(
        nodes,
        "network",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8]),
            helper.make_tensor_value_info("flag", TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [*initializers, *extra],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _snapshot(folder: Path) -> dict[str, bytes]:
    found = {}
    for path in sorted(folder.rglob("*")):
        place = str(path.relative_to(folder))
        found[f"{place}/" if path.is_dir() else place] = b"" if path.is_dir() else path.read_bytes()
    return found


def _tensors(message: Message) -> Iterator[onnx.TensorProto]:
    if isinstance(message, onnx.TensorProto):
        yield message
    for _, value in message.ListFields():
        for each in [value] if isinstance(value, Message) else value if not isinstance(value, str | bytes | int | float) else ():
            if isinstance(each, Message):
                yield from _tensors(each)


def _loaded(path: Path) -> onnx.ModelProto:
    model = onnx.load(path)
    for tensor in _tensors(model):
        tensor.ClearField("data_location")
    return model
