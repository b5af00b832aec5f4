"""Fold, then quantize with onnxruntime: accuracy, the ranges of the weights, and tensors matched by its own debugging tools."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, qdq_loss_debug, quantize_static
from onnxruntime.quantization.calibrate import create_calibrator

import bnfold
from bnfold.cli.main import cli
from bnfold.data import open_data
from bnfold.model import Model
from bnfold.ranges import bits, range_notes, spread, starved, weight_ranges

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = f"{ROOT / 'models' / 'fashion_mnist_sample.npz'}"
SHARED = ROOT.parent / "shared" / "data" / "fashion_mnist"


class Images(CalibrationDataReader):
    def __init__(self, model: Path, data: str = SAMPLE, preprocess: str | None = None, count: int = 100) -> None:
        name = onnx.load(model).graph.input[0].name
        batches = open_data(data, preprocess).batches(50, stop=count)
        self.feeds = iter([{name: next(iter(batch.inputs.values()))} for batch in batches])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.feeds, None)


def quantized(source: Path, target: Path, images: Images, *, per_channel: bool = True) -> Path:
    quantize_static(
        source,
        target,
        images,
        quant_format=QuantFormat.QDQ,
        per_channel=per_channel,
        weight_type=QuantType.QInt8,
        activation_type=QuantType.QUInt8,
    )
    return target


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A LeNet as it is, folded, and folded and quantized on the sample."""
    folder = tmp_path_factory.mktemp("int8")
    original, folded = ROOT / "models" / "lenet.onnx", folder / "folded.onnx"
    bnfold.optimize(original, folded).raise_for_status()
    return {"original": original, "folded": folded, "int8": quantized(folded, folder / "int8.onnx", Images(original))}


def test_the_folded_model_is_quantized_as_a_whole(files: dict[str, Path]) -> None:
    model = onnx.load(files["int8"])
    types = [node.op_type for node in model.graph.node]
    assert "BatchNormalization" not in types
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert weights["conv1.weight_quantized"].dtype == np.int8
    assert weights["conv1.weight_scale"].shape == (6,)


def test_eight_bits_keep_the_accuracy_on_the_sample(files: dict[str, Path]) -> None:
    found = bnfold.accuracy(files["folded"], files["int8"], data=SAMPLE)
    assert found.candidate is not None
    assert found.reference.top1 is not None
    assert found.candidate.top1 is not None
    assert found.reference.top1 - found.candidate.top1 <= 3


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="Fashion-MNIST is not in shared/data beside the repository")
def test_eight_bits_per_channel_keep_the_accuracy_on_the_whole_test_set(tmp_path: Path) -> None:
    original = ROOT / "models" / "lenet.onnx"
    bnfold.optimize(original, tmp_path / "folded.onnx").raise_for_status()
    images = Images(original, f"{SHARED}:idx-train", "mnist", 512)
    int8 = quantized(tmp_path / "folded.onnx", tmp_path / "int8.onnx", images)
    found = bnfold.accuracy(original, int8, data=f"{SHARED}:idx-test", preprocess="mnist", max_drop=0.005)
    assert found.ok, found.failures


def activations(model: Path, folder: Path, images: Images) -> dict[str, Any]:
    augmented = folder / f"{model.stem}.outputs.onnx"
    qdq_loss_debug.modify_model_output_intermediate_tensors(model, augmented)
    collected: dict[str, Any] = qdq_loss_debug.collect_activations(str(augmented), images)
    return collected


def test_onnxruntimes_debugger_matches_the_unfolded_model(files: dict[str, Path], tmp_path: Path) -> None:
    original, fold_map = files["original"], bnfold.fold_map(bnfold.plan(files["original"]))
    floats, ints = (activations(files[name], tmp_path, Images(original)) for name in ("original", "int8"))
    matched = qdq_loss_debug.create_activation_matching(ints, fold_map.carry(floats))
    errors = qdq_loss_debug.compute_activation_error({name: one for name, one in matched.items() if "float" in one})
    assert {"image", "bn1/BatchNormalization", "bn4/BatchNormalization", "logits"} <= errors.keys()
    assert min(error["xmodel_err"] for error in errors.values()) > 20, "decibels; unrelated tensors have about 0"
    weights = qdq_loss_debug.create_weight_matching(str(files["folded"]), str(files["int8"]))
    assert {fold_map.original(name) for name in weights} >= {"conv1.weight", "fc3.weight", "conv2.bias"}
    assert min(qdq_loss_debug.compute_weight_error(weights).values()) > 30


def test_names_alone_would_match_what_differs(tmp_path: Path) -> None:
    """Behind the activation, a normalization travels forward: what it passes keeps its name and not its values."""
    original, folded = ROOT / "models" / "lenet_after.onnx", tmp_path / "folded.onnx"
    report = bnfold.optimize(original, folded)
    report.raise_for_status()
    int8 = quantized(folded, tmp_path / "int8.onnx", Images(original))
    floats, ints = (activations(model, tmp_path, Images(original)) for model in (original, int8))
    fold_map = bnfold.fold_map(report)
    by_name = qdq_loss_debug.create_activation_matching(ints, floats)
    by_map = qdq_loss_debug.create_activation_matching(ints, fold_map.carry(floats))
    errors = qdq_loss_debug.compute_activation_error({name: one for name, one in by_name.items() if "float" in one})
    wrong = {name for name, error in errors.items() if error["xmodel_err"] < 15}
    assert wrong, "some names stand for other values"
    assert wrong <= fold_map.lost
    assert not any("float" in by_map[name] for name in wrong)


@pytest.mark.parametrize("model", ["lenet", "lenet_after"])
def test_ranges_that_a_calibrator_found_hold_where_the_map_says_so(model: str, tmp_path: Path) -> None:
    original, folded = ROOT / "models" / f"{model}.onnx", tmp_path / "folded.onnx"
    report = bnfold.optimize(original, folded, verify=False)
    before, after = (calibrated(path, tmp_path) for path in (original, folded))
    carried = bnfold.fold_map(report).carry(before)
    shared = carried.keys() & after.keys()
    assert {"logits", "image"} < shared
    for name in shared:
        np.testing.assert_allclose(after[name], carried[name], rtol=1e-3, atol=1e-3)
    assert len(carried) < len(before)


def calibrated(model: Path, folder: Path) -> dict[str, tuple[float, float]]:
    """Tensor → the smallest and the largest value on the sample, as onnxruntime's calibrator finds them."""
    calibrator = create_calibrator(model, augmented_model_path=str(folder / f"{model.stem}.augmented.onnx"))
    calibrator.collect_data(Images(model))
    found = calibrator.compute_data()
    return {name: tuple(float(np.ravel(each)[0]) for each in found[name].range_value) for name in found.keys()}  # noqa: SIM118


# -- ranges ---------------------------------------------------------------------------------------------------------------


def conv_bn(path: Path, scale: list[float]) -> Path:
    channels = len(scale)
    values = {
        "W": np.ones((channels, 2, 1, 1)),
        "s": scale,
        "b": np.zeros(channels),
        "m": np.zeros(channels),
        "v": np.ones(channels),
    }
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "W"], ["c"], name="conv"), helper.make_node("BatchNormalization", ["c", *"sbmv"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 2, 4, 4])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, channels, 4, 4])],
        [numpy_helper.from_array(np.asarray(each, np.float32), name) for name, each in values.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def ranges(*arguments: object) -> Result:
    result = CliRunner().invoke(cli, ["ranges", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def folded(path: Path) -> Path:
    target = path.with_suffix(".folded.onnx")
    bnfold.optimize(path, target, verify=False)
    return target


@pytest.mark.parametrize(
    ("scale", "spreads", "worse"),
    [
        pytest.param([1, 2, 4], 4, False, id="a little"),
        pytest.param([1, 15], 15, False, id="four bits are left"),
        pytest.param([1, 40, 1], 40, True, id="less than four bits"),
        pytest.param([1, -40, 1], 40, True, id="signs do not matter"),
        pytest.param([0, 1, 2], 2, False, id="a channel of zeros needs no bits"),
    ],
)
def test_spread_of_the_channels(tmp_path: Path, scale: list[float], spreads: float, worse: bool) -> None:
    source = conv_bn(tmp_path / "m.onnx", scale)
    (found,) = weight_ranges(Model.open(source), Model.open(folded(source)))
    assert found.before == tuple([1.0] * len(scale))
    assert found.after == pytest.approx([abs(each) for each in scale], rel=1e-4)
    assert found.spread_after == pytest.approx(spreads, rel=1e-4)
    assert found.is_worse is worse
    assert [note.code for note in range_notes([found])] == (["BNF060"] if worse else [])


@pytest.mark.parametrize(
    ("largest", "spread_", "bits_", "starved_"),
    [((1.0, 1.0), 1, 8, 0), ((1.0, 16.0), 16, 4, 0), ((1.0, 17.0, 64.0), 64, 2, 1), ((), 1, 8, 0), ((0.0, 3.0), 1, 8, 0)],
)
def test_bits_that_are_left(largest: tuple[float, ...], spread_: float, bits_: float, starved_: int) -> None:
    assert spread(largest) == spread_
    assert bits(spread(largest)) == bits_
    assert starved(largest) == starved_


@pytest.mark.parametrize(
    ("op_type", "shape", "attributes", "axis"),
    [
        ("Conv", (3, 2, 1, 1), {}, 0),
        ("ConvTranspose", (2, 3, 1, 1), {}, 1),
        ("Gemm", (2, 3), {}, 1),
        ("Gemm", (3, 2), {"transB": 1}, 0),
        ("MatMul", (2, 3), {}, 1),
    ],
)
def test_channels_lie_where_the_quantizer_looks(
    op_type: str, shape: tuple[int, ...], attributes: dict[str, int], axis: int
) -> None:
    weight = np.zeros(shape, np.float32)
    for channel in range(3):
        weight[(slice(None),) * axis + (channel,)] = -(channel + 1.0)
    graph = helper.make_graph(
        [helper.make_node(op_type, ["x", "W"], ["y"], **attributes)],
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weight, "W")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (found,) = weight_ranges(Model.copy_of(proto), Model.copy_of(proto))
    assert (found.axis, found.after) == (axis, (1.0, 2.0, 3.0))
    assert not found.is_changed


def test_large_weights_are_read_in_parts(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for axis, shape in ((0, (300, 70, 3, 3)), (1, (2, 400_000))):
        weight = rng.standard_normal(shape).astype(np.float32)
        node = helper.make_node("Conv" if len(shape) == 4 else "MatMul", ["x", "W"], ["y"])
        info = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in "xy"]
        graph = helper.make_graph([node], "g", info[:1], info[1:], [numpy_helper.from_array(weight, "W")])
        path = tmp_path / "m.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
        (found,) = weight_ranges(Model.open(path), Model.open(path))
        others = tuple(place for place in range(len(shape)) if place != axis)
        assert found.after == tuple(np.abs(weight).max(axis=others).astype(float).tolist())


def test_the_command_warns(tmp_path: Path) -> None:
    source = conv_bn(tmp_path / "m.onnx", [1, 40, 1])
    target = folded(source)
    result = ranges(source, target)
    assert result.exit_code == 0
    assert "BNF060" in result.stdout
    assert "per channel" in result.stdout
    assert "BNF060" in ranges(source, target, "-q").stdout
    document = json.loads(ranges(source, target, "--json").stdout)
    assert document["ok"] is True
    assert document["weights"][0]["before"] == [1.0, 1.0, 1.0]
    assert math.isclose(document["weights"][0]["spread_after"], 40, rel_tol=1e-4)
    assert document["weights"][0]["starved_channels"] == 2
    assert [note["code"] for note in document["notes"]] == ["BNF060"]


def test_the_command_is_quiet_when_all_is_well(tmp_path: Path) -> None:
    source = conv_bn(tmp_path / "m.onnx", [1, 2, 1])
    target = folded(source)
    assert ranges(source, target, "-q").stdout == ""
    shown = ranges(source, target).stdout
    assert "1 weight changed" in shown
    assert "Conv `conv`" in shown
    same = ranges(target, target)
    assert "no weight differs" in same.stdout
    assert "Conv `conv`" not in same.stdout
    assert "Conv `conv`" in ranges(target, target, "-v").stdout
    other = ranges(ROOT / "models" / "lenet.onnx", ROOT / "models" / "mlp.onnx")
    assert (other.exit_code, "nothing to compare" in other.stdout) == (0, True)


def test_bad_input_is_an_error_with_the_file_named(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no model")
    for path in (tmp_path / "text.onnx", tmp_path / "absent.onnx"):
        result = ranges(ROOT / "models" / "lenet.onnx", path)
        assert result.exit_code == 2
        assert path.name in result.stderr
