"""The float64 reference against onnxruntime with its optimizations disabled, and against PyTorch in float64, form by form."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from bnfold.runtime.reference import Reference, uncovered

FLOAT32_NORMWISE = 3e-6
"""What float32 may do to the largest value of an output: about 25 roundings."""
FLOAT64_NORMWISE = 3e-14


@dataclass(frozen=True)
class Form:
    """One node, its inputs by shape (or by value), and the opset it is of.

    Attributes:
        op_type: the operator.
        inputs: shapes (tuples), arrays, or None for an absent one. The first is fed, the others are initializers.
        attributes: of the node.
        opset: of the model.
        outputs: how many are compared.
    """

    op_type: str
    inputs: tuple[Any, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    opset: int = 17
    outputs: int = 1

    def __str__(self) -> str:
        shapes = " ".join(
            "-" if each is None else "x".join(map(str, each if isinstance(each, tuple) else each.shape)) for each in self.inputs
        )
        return f"{self.op_type}-{self.opset} {shapes} {' '.join(f'{k}={v}' for k, v in self.attributes.items())}".strip()

    def arrays(self) -> list[np.ndarray | None]:
        """The inputs; float32 from a standard normal distribution."""
        rng = np.random.default_rng(5)
        return [rng.standard_normal(each).astype(np.float32) if isinstance(each, tuple) else each for each in self.inputs]

    def model(self) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
        """The node as a model, and what to feed."""
        arrays = self.arrays()
        names = ["" if each is None else f"i{place}" for place, each in enumerate(arrays)]
        outputs = [f"o{place}" for place in range(self.outputs)]
        node = helper.make_node(self.op_type, names, outputs, name="node", **self.attributes)
        feed = {"i0": arrays[0]}
        info = helper.make_tensor_value_info("i0", helper.np_dtype_to_tensor_dtype(arrays[0].dtype), arrays[0].shape)
        constants = [
            numpy_helper.from_array(each, name) for name, each in zip(names[1:], arrays[1:], strict=True) if each is not None
        ]
        declared = [onnx.ValueInfoProto(name=name) for name in outputs]
        graph = helper.make_graph([node], "form", [info], declared, constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8), feed


def ints(*values: int) -> np.ndarray:
    return np.asarray(values, np.int64)


def floats(*values: float) -> np.ndarray:
    return np.asarray(values, np.float32)


def with_runtime(model: onnx.ModelProto, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return session.run(None, feed)


def assert_near(found: np.ndarray, expected: np.ndarray, normwise: float) -> None:
    assert found.shape == expected.shape
    wanted = expected.astype(np.float64)
    finite = np.isfinite(wanted)
    np.testing.assert_array_equal(np.isfinite(found), finite)
    size = np.abs(wanted[finite]).max(initial=0.0)
    np.testing.assert_allclose(found[finite], wanted[finite], rtol=0, atol=normwise * size)


X1, X2, X3 = (2, 6, 17), (2, 6, 11, 9), (1, 4, 6, 7, 5)
POOL = {"kernel_shape": [3, 2]}
ROI = floats(0.1, 0.2, 0.15, 0.25, 0.9, 0.8, 0.7, 1.2)

LINEAR = [
    Form("Conv", (X1, (4, 6, 3))),
    Form("Conv", (X2, (4, 6, 3, 2), (4,)), {"strides": [2, 1], "pads": [1, 0, 2, 1]}),
    Form("Conv", (X2, (4, 6, 1, 1))),
    Form("Conv", (X2, (4, 6, 1, 1)), {"strides": [2, 2]}),
    Form("Conv", (X2, (4, 6, 3, 3)), {"dilations": [2, 3], "pads": [2, 3, 2, 3]}),
    Form("Conv", (X2, (6, 2, 3, 3), (6,)), {"group": 3}),
    Form("Conv", (X2, (6, 1, 3, 3), (6,)), {"group": 6, "pads": [1, 1, 1, 1]}),
    Form("Conv", (X2, (12, 1, 3, 3)), {"group": 6, "strides": [1, 2]}),
    Form("Conv", (X2, (6, 1, 4, 4)), {"group": 6, "auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    Form("Conv", (X2, (4, 6, 4, 3)), {"auto_pad": "SAME_UPPER", "strides": [2, 3]}),
    Form("Conv", (X2, (4, 6, 4, 3)), {"auto_pad": "VALID", "strides": [2, 3]}),
    Form("Conv", (X3, (5, 4, 2, 3, 3), (5,)), {"strides": [1, 2, 1], "pads": [0, 1, 1, 1, 0, 1]}),
    Form("Conv", (X3, (4, 1, 2, 3, 3)), {"group": 4}),
    Form("Conv", ((40, 3, 5, 5), (4, 3, 3, 3))),
    Form("ConvTranspose", (X1, (6, 4, 3)), {"strides": [2]}),
    Form("ConvTranspose", (X2, (6, 4, 3, 2), (4,)), {"strides": [2, 3], "pads": [1, 0, 0, 1], "output_padding": [1, 2]}),
    Form("ConvTranspose", (X2, (6, 1, 3, 3), (6,)), {"group": 6, "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    Form("ConvTranspose", (X2, (6, 2, 3, 3)), {"group": 3, "dilations": [2, 1]}),
    *(
        Form("ConvTranspose", (X2, (6, 4, 3, 3)), {"strides": [2, 2], "output_shape": [22, 18], "auto_pad": mode})
        for mode in ("NOTSET", "SAME_UPPER", "SAME_LOWER")
    ),
    Form("ConvTranspose", (X2, (6, 4, 3, 3)), {"strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    Form("ConvTranspose", (X2, (6, 4, 3, 3)), {"strides": [2, 2], "auto_pad": "SAME_LOWER"}),
    Form("ConvTranspose", (X2, (6, 4, 4, 3)), {"strides": [2, 2], "auto_pad": "VALID"}),
    Form("ConvTranspose", (X3, (4, 3, 2, 3, 3), (3,)), {"strides": [2, 1, 2]}),
    Form("Gemm", ((5, 7), (7, 3), (3,))),
    Form("Gemm", ((7, 5), (3, 7), (5, 3)), {"transA": 1, "transB": 1, "alpha": 0.3, "beta": 2.5}),
    Form("Gemm", ((5, 7), (7, 3)), {"alpha": 2.0}),
    Form("MatMul", ((5, 7), (7, 3))),
    Form("MatMul", ((2, 4, 5, 7), (7, 3))),
    Form("MatMul", ((2, 4, 5, 7), (4, 7, 3))),
    Form("MatMul", ((7,), (2, 7, 3))),
    Form("MatMul", ((2, 5, 7), (7,))),
    Form("Einsum", ((2, 4, 5), (2, 5, 3)), {"equation": "bij,bjk->bik"}),
    Form("Einsum", ((4, 4),), {"equation": "ii->i"}),
]

NORMS = [
    Form("BatchNormalization", (X2, (6,), (6,), (6,), np.abs(floats(1, 2, 3, 4, 5, 6)))),
    Form("BatchNormalization", (X2, (6,), (6,), (6,), floats(1, 2, 3, 4, 5, 6)), {"epsilon": 0.1}, opset=9),
    Form("BatchNormalization", (X2, (6,), (6,), (6,), floats(1, 2, 3, 4, 5, 6)), opset=8),
    Form("BatchNormalization", (X2, (6,), (6,), (6,), floats(1, 2, 3, 4, 5, 6)), opset=7),
    Form("BatchNormalization", ((5, 6), (6,), (6,), (6,), floats(1, 2, 3, 4, 5, 6)), opset=15),
    Form(
        "BatchNormalization",
        (X2, (6,), (6,), (6,), floats(1, 2, 3, 4, 5, 6)),
        {"training_mode": 1, "momentum": 0.7},
        opset=15,
        outputs=3,
    ),
    Form("InstanceNormalization", (X2, (6,), (6,)), {"epsilon": 1e-3}),
    Form("LayerNormalization", ((2, 3, 4, 5), (4, 5), (4, 5)), {"axis": 2}, outputs=3),
    Form("LayerNormalization", ((2, 3, 5), (5,))),
    Form("GroupNormalization", (X2, (6,), (6,)), {"num_groups": 2}, opset=21),
    Form("LRN", (X2,), {"size": 3, "alpha": 0.01, "beta": 0.5, "bias": 2.0}),
    Form("LRN", (X2,), {"size": 5}),
    Form("LpNormalization", (X2,), {"axis": 1, "p": 1}),
    Form("LpNormalization", (X2,), {"axis": 2}),
    Form("MeanVarianceNormalization", (X2,), {"axes": [0, 2, 3]}),
]

POOLS = [
    Form("MaxPool", (X1,), {"kernel_shape": [3], "strides": [2]}),
    Form("MaxPool", (X2,), POOL | {"pads": [1, 0, 1, 1], "strides": [2, 2]}),
    Form("MaxPool", (X2,), POOL | {"pads": [1, 0, 1, 1], "strides": [3, 2], "ceil_mode": 1}),
    Form("MaxPool", (X2,), POOL | {"dilations": [2, 3], "strides": [2, 1]}),
    Form("MaxPool", (X2,), POOL | {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    Form("MaxPool", (X2,), POOL | {"auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    Form("MaxPool", (X2,), POOL | {"pads": [1, 0, 1, 1], "strides": [2, 2]}, outputs=2),
    Form("MaxPool", (X2,), POOL | {"storage_order": 1}, outputs=2),
    Form("MaxPool", (X3,), {"kernel_shape": [2, 3, 2], "strides": [2, 2, 2], "ceil_mode": 1}),
    Form("AveragePool", (X1,), {"kernel_shape": [3], "strides": [2]}),
    Form("AveragePool", (X2,), POOL | {"pads": [1, 0, 1, 1], "strides": [2, 2]}),
    Form("AveragePool", (X2,), POOL | {"pads": [1, 0, 1, 1], "count_include_pad": 1}),
    Form(
        "AveragePool", (X2,), POOL | {"pads": [1, 0, 1, 1], "strides": [3, 2], "ceil_mode": 1, "count_include_pad": 1}, opset=19
    ),
    Form("AveragePool", (X2,), POOL | {"pads": [1, 0, 1, 1], "strides": [3, 2], "ceil_mode": 1}, opset=19),
    Form("AveragePool", (X2,), POOL | {"dilations": [2, 2], "pads": [1, 1, 1, 0]}, opset=19),
    Form("AveragePool", (X2,), POOL | {"auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    Form("AveragePool", (X3,), {"kernel_shape": [2, 3, 2], "strides": [1, 2, 2]}),
    Form("LpPool", (X2,), POOL | {"p": 3, "strides": [2, 2]}),
    Form("GlobalAveragePool", (X3,)),
    Form("GlobalMaxPool", (X2,)),
    Form("GlobalLpPool", (X2,), {"p": 2}),
]

RESIZES = [
    *(
        Form(
            "Resize",
            (X2, None, floats(1, 1, *scales)),
            {"mode": mode, "coordinate_transformation_mode": coordinates},
            opset=opset,
        )
        for scales in ((2, 3), (0.6, 0.55), (1.7, 0.4))
        for mode in ("nearest", "linear", "cubic")
        for coordinates in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")
        for opset in (13,)
    ),
    Form("Resize", (X2, None, None, ints(2, 6, 7, 20)), {"mode": "linear"}, opset=19),
    Form("Resize", (X2, None, None, ints(2, 6, 7, 20)), {"mode": "nearest", "nearest_mode": "ceil"}, opset=13),
    Form("Resize", (X2, None, None, ints(7, 20)), {"axes": [2, 3], "keep_aspect_ratio_policy": "not_larger"}, opset=18),
    Form("Resize", (X2, None, None, ints(7, 20)), {"axes": [2, 3], "keep_aspect_ratio_policy": "not_smaller"}, opset=18),
    Form("Resize", (X2, None, floats(1, 1, 0.6, 0.4)), {"mode": "cubic", "exclude_outside": 1, "cubic_coeff_a": -0.5}),
    Form("Resize", (X2, None, floats(0.6, 0.4)), {"mode": "linear", "antialias": 1, "axes": [2, 3]}, opset=18),
    Form("Resize", (X2, None, floats(0.6, 0.4)), {"mode": "cubic", "antialias": 1, "axes": [2, 3]}, opset=18),
    Form(
        "Resize",
        (X2, None, floats(1.6, 0.9)),
        {"mode": "linear", "axes": [2, 3], "coordinate_transformation_mode": "half_pixel_symmetric"},
        opset=19,
    ),
    Form(
        "Resize",
        ((1, 1, 11, 9), ROI, None, ints(1, 1, 5, 6)),
        {"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": 3.0},
        opset=13,
    ),
    Form("Resize", (X2, floats(1, 1, 2, 3)), {"mode": "nearest"}, opset=10),
    Form("Resize", (X2, floats(1, 1, 2, 3)), {"mode": "linear"}, opset=10),
    Form("Upsample", (X2, floats(1, 1, 2, 3)), {"mode": "nearest"}, opset=9),
    Form("Upsample", (X2, floats(1, 1, 2, 3)), {"mode": "linear"}, opset=9),
    Form("Upsample", (X2,), {"mode": "nearest", "scales": [1.0, 1.0, 2.0, 3.0]}, opset=7),
]

RECURRENT = [
    *(
        Form(
            op,
            ((5, 3, 4), (d, g * 6, 4), (d, g * 6, 6), (d, 2 * g * 6), None, (d, 3, 6)),
            {"hidden_size": 6, "direction": way},
            opset=14,
            outputs=2,
        )
        for op, g in (("RNN", 1), ("GRU", 3))
        for way, d in (("forward", 1), ("reverse", 1), ("bidirectional", 2))
    ),
    Form("GRU", ((5, 3, 4), (1, 18, 4), (1, 18, 6), (1, 36)), {"hidden_size": 6, "linear_before_reset": 1}, opset=14, outputs=2),
    Form(
        "GRU", ((5, 3, 4), (1, 18, 4), (1, 18, 6), None, np.asarray([5, 2, 3], np.int32)), {"hidden_size": 6}, opset=14, outputs=2
    ),
    Form(
        "RNN",
        ((5, 3, 4), (2, 6, 4), (2, 6, 6)),
        {"hidden_size": 6, "direction": "bidirectional", "activations": ["Relu", "Sigmoid"]},
        opset=14,
        outputs=2,
    ),
    Form("LSTM", ((5, 3, 4), (1, 24, 4), (1, 24, 6), (1, 48)), {"hidden_size": 6}, opset=14, outputs=3),
    Form(
        "LSTM",
        ((5, 3, 4), (2, 24, 4), (2, 24, 6), (2, 48), np.asarray([5, 2, 3], np.int32), (2, 3, 6), (2, 3, 6), (2, 18)),
        {"hidden_size": 6, "direction": "bidirectional"},
        opset=14,
        outputs=3,
    ),
    Form(
        "LSTM", ((5, 3, 4), (1, 24, 4), (1, 24, 6)), {"hidden_size": 6, "direction": "reverse", "clip": 0.3}, opset=14, outputs=3
    ),
    Form(
        "LSTM",
        ((5, 3, 4), (1, 24, 4), (1, 24, 6)),
        {
            "hidden_size": 6,
            "activations": ["HardSigmoid", "Elu", "Softsign"],
            "activation_alpha": [0.3, 0.7],
            "activation_beta": [0.4],
        },
        opset=14,
        outputs=3,
    ),
]

OTHERS = [
    *(
        Form(op, (X2,))
        for op in (
            "Relu",
            "Sigmoid",
            "Tanh",
            "Softplus",
            "Softsign",
            "Elu",
            "Selu",
            "Celu",
            "LeakyRelu",
            "HardSigmoid",
            "HardSwish",
            "ThresholdedRelu",
            "Erf",
            "Exp",
            "Sign",
            "Round",
            "Floor",
            "Ceil",
            "Reciprocal",
            "Neg",
            "Abs",
            "Shrink",
            "Hardmax",
            "LogSoftmax",
            "Softmax",
        )
    ),
    Form("Mish", (X2,), opset=18),
    Form("Gelu", (X2,), opset=20),
    Form("Gelu", (X2,), {"approximate": "tanh"}, opset=20),
    Form("Swish", (X2,), {"alpha": 1.3}, opset=24),
    Form("PRelu", (X2, (6, 1, 1))),
    Form("Clip", (X2,), {"min": -0.5, "max": 0.25}, opset=6),
    Form("Clip", (X2, np.asarray(-0.5, np.float32), np.asarray(0.25, np.float32)), opset=13),
    Form("Softmax", (X2,), opset=11),
    Form("Softmax", (X2,), {"axis": 2}, opset=11),
    Form("LogSoftmax", (X2,), {"axis": 1}, opset=13),
    Form("Dropout", (X2,), opset=7),
    Form("Dropout", (X2, np.asarray(0.4, np.float32)), opset=13, outputs=2),
    Form("Squeeze", ((1, 3, 1, 2),), {"axes": [0, 2]}, opset=11),
    Form("Squeeze", ((1, 3, 1, 2), ints(-2)), opset=13),
    Form("Squeeze", ((1, 3, 1, 2),), opset=13),
    Form("Unsqueeze", ((3, 2),), {"axes": [0, 3]}, opset=11),
    Form("Unsqueeze", ((3, 2), ints(0, -1)), opset=13),
    *(
        Form(op, (X2,), {"axes": [-1, 1], "keepdims": keep}, opset=11)
        for op in (
            "ReduceSum",
            "ReduceMean",
            "ReduceMax",
            "ReduceMin",
            "ReduceL1",
            "ReduceL2",
            "ReduceProd",
            "ReduceSumSquare",
            "ReduceLogSumExp",
        )
        for keep in (0, 1)
    ),
    Form("ReduceMean", (X2, ints(2, 3)), {"keepdims": 0}, opset=18),
    Form("ReduceSum", (X2,), {"noop_with_empty_axes": 1}, opset=13),
    Form("Pad", (X2,), {"pads": [0, 1, 2, 0, 0, 0, 1, 3], "value": 1.5}, opset=10),
    Form("Pad", (X2, ints(0, 0, 2, 1, 0, 0, 1, 3)), {"mode": "reflect"}, opset=13),
    Form("Pad", (X2, ints(0, 0, 2, 1, 0, 0, 1, 3)), {"mode": "edge"}, opset=13),
    Form("Pad", (X2, ints(0, 0, -2, 1, 0, 0, 1, -3)), opset=13),
    Form("Pad", (X2, ints(2, 1, 1, 3), None, ints(2, 3)), {"mode": "wrap"}, opset=19),
    Form("Slice", (X2,), {"starts": [1, -3], "ends": [5, 100], "axes": [1, 3]}, opset=9),
    Form("Slice", (X2, ints(9, -1), ints(-100, 0), ints(2, 3), ints(-2, -1)), opset=13),
    Form("Split", (X2,), {"axis": 1}, opset=11, outputs=3),
    Form("Split", (X2,), {"axis": 2, "num_outputs": 3}, opset=18, outputs=3),
    Form("Flatten", (X2,), {"axis": -1}),
    Form("DepthToSpace", ((2, 12, 3, 2),), {"blocksize": 2, "mode": "CRD"}),
    Form("SpaceToDepth", ((2, 3, 4, 6),), {"blocksize": 2}),
    Form("CumSum", (X2, np.asarray(2, np.int64)), {"exclusive": 1, "reverse": 1}),
    Form("TopK", (X2, ints(4)), {"axis": 2, "largest": 0}, outputs=2),
    Form("ArgMax", (X2,), {"axis": -1, "keepdims": 0}),
    Form("GatherElements", (X2, np.zeros((1, 3, 2, 2), np.int64)), {"axis": 2}),
    Form("GridSample", (X2, (2, 5, 4, 2)), {"mode": "bilinear", "padding_mode": "reflection"}, opset=16),
    Form("GridSample", (X2, (2, 5, 4, 2)), {"mode": "bicubic", "align_corners": 1}, opset=16),
    Form("GridSample", (X2, (2, 5, 4, 2)), {"mode": "bilinear", "padding_mode": "border", "align_corners": 1}, opset=16),
    Form(
        "RoiAlign",
        (X2, floats(0, 0, 10, 12, 3, 2, 17, 15).reshape(2, 4), ints(0, 1)),
        {"output_height": 3, "output_width": 2, "spatial_scale": 0.5},
        opset=16,
    ),
    Form("Mod", (X2, (6, 1, 1)), {"fmod": 1}),
    Form("Div", (np.asarray([7, -7, 8, -8], np.int64), ints(2, 2, -3, -3))),
    Form("Mod", (np.asarray([7, -7, 8, -8], np.int64), ints(2, 2, -3, -3))),
    Form("QuantizeLinear", (X2, np.asarray(0.021, np.float32), np.asarray(3, np.int8)), opset=13),
    Form(
        "DequantizeLinear",
        (np.arange(-6, 6, dtype=np.int8).reshape(3, 4), floats(0.1, 0.2, 0.3), np.asarray([1, 2, 3], np.int8)),
        {"axis": 0},
        opset=13,
    ),
    Form("DequantizeLinear", (np.arange(-6, 6, dtype=np.int8).reshape(3, 4), np.asarray(0.1, np.float32)), opset=17),
    Form("Det", ((3, 4, 4),)),
]

FORMS = [*LINEAR, *NORMS, *POOLS, *RESIZES, *RECURRENT, *OTHERS]


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_as_onnxruntime(form):
    model, feed = form.model()
    assert uncovered(model) == ()
    found = Reference(model).run(feed).outputs
    for value, expected in zip(found.values(), with_runtime(model, feed), strict=True):
        if expected.dtype.kind in "iub":
            assert value.dtype == expected.dtype
        else:
            assert value.dtype == np.float64
        assert_near(value, expected, FLOAT32_NORMWISE)
