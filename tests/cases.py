"""What folds, what does not, and why: one row for each operator, each route and each precondition.

A row is a model in a few words and what is expected of it. To add one, append a `Case` to `CASES`:

    Case("conv_2d", "x[2,3,8,8]; W[5,3,3,3]", "c = Conv (x, W)  y = BN5 (c)", "Conv")

The second string declares the graph's inputs and, after the semicolon, its weights, as `name[shape]` or `name:type[shape]`.
The body is ONNX text, with two words more:

    BN5 (c)                     BatchNormalization over 5 channels; `y_scale`, `y_bias`, `y_mean` and `y_var` are added
    Fill <shape = [5, 3]> ()    a Constant node with generated values; `form = "floats"` stores them as value_floats

Weights are initializers of the main graph, and Constant nodes in local functions. Their values follow from their names: a
`…var` is positive, a `…scale` has both signs and a zero; `fill` sets others. The last string has one word for each
BatchNormalization, those of the main graph first: the operators that take it (`Conv`, or `Conv+Gemm`), or the code of its
refusal; `a|b` leaves a choice. A normalization written in primitives is `Sub,Mul:Conv`; a row that has none of them leaves
them open.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
import onnx
import onnx.parser
from onnx import helper, numpy_helper

GraphLike: TypeAlias = onnx.GraphProto | onnx.FunctionProto

DTYPES: dict[str, Any] = {
    "float": np.float32,
    "double": np.float64,
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "int64": np.int64,
    "bool": np.bool_,
}
_TENSOR = re.compile(r"(\w+)(?::(\w+))?\[([^\]]*)\]")
_RESULT = re.compile(r"(\w+)(?::(\w+))?(?:\[([^\]]*)\])?")
_PARAMETERS = ("scale", "bias", "mean", "var")

NO_DOUBLE = "onnxruntime has no CPU kernel for convolutions in float64"
NO_BFLOAT16 = "onnxruntime has no CPU kernel for bfloat16"
NO_OPSET_6 = "onnxruntime has no kernel for BatchNormalization before opset 7"
NO_EMPTY_OUTPUTS = "onnxruntime crashes on trailing empty outputs before opset 14"
NO_NAMELESS_OUTPUTS = "onnxruntime counts trailing empty outputs since opset 14, and rejects them"
NO_MIXED_TYPES = "onnxruntime has no CPU kernel for these parameter types"


@dataclass(frozen=True)
class Case:
    """One row.

    Attributes:
        name: unique.
        tensors: "inputs; weights", each as `name[shape]` or `name:type[shape]`.
        body: the nodes of the main graph, as ONNX text.
        expect: one word for each BatchNormalization.
        after: the operators that are left, over all scopes; "" stands for all but the folded normalizations, "ANY" for any.
        notes: the codes of all notes.
        outputs: the graph's outputs, as `name`, or `name:type[shape]` where their type cannot be inferred.
        functions: local functions of the domain "local", as ONNX text without their header.
        opset, ir: of the model.
        dtype: type of the tensors that declare none.
        fill: name → values, for weights and inputs that need certain ones.
        overridable: weights that are inputs as well.
        options: arguments of `bnfold.fold`.
        edit: a last change to the model, for what the text form cannot say.
        no_runtime: why onnxruntime cannot run the row; "" where it can.
    """

    name: str
    tensors: str
    body: str
    expect: str
    after: str = ""
    notes: str = ""
    outputs: str = "y"
    functions: tuple[str, ...] = ()
    opset: int = 17
    ir: int = 8
    dtype: str = "float"
    fill: Mapping[str, Any] = field(default_factory=dict)
    overridable: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    edit: Callable[[onnx.ModelProto], None] | None = None
    no_runtime: str = ""

    def but(self, name: str, expect: str | None = None, **changes: Any) -> Case:
        """The same row with some changes; `after` and `notes` are not taken over."""
        fresh = {"after": "", "notes": "", "expect": self.expect if expect is None else expect}
        return replace(self, name=name, **{**fresh, **changes})

    def model(self) -> onnx.ModelProto:
        """The model of this row."""
        inputs = ", ".join(self._declaration(*each) for each in _TENSOR.findall(self._fed))
        outputs = ", ".join(self._declaration(*each) if each[2] else each[0] for each in _RESULT.findall(self.outputs))
        imports = f'opset_import: ["" : {self.opset}' + (', "local" : 1]' if self.functions else "]")
        functions = " ".join(f'<domain: "local", {imports}> {each}' for each in self.functions)
        header = f"<ir_version: {self.ir}, {imports}>"
        model = onnx.parser.parse_model(f"{header} row ({inputs}) => ({outputs}) {{ {self.body} }} {functions}")
        self._add_weights(model)
        for name in self.overridable:
            weight = next(each for each in model.graph.initializer if each.name == name)
            model.graph.input.append(helper.make_tensor_value_info(name, weight.data_type, weight.dims))
        _type_outputs(model)
        if self.edit is not None:
            self.edit(model)
        return model

    def feeds(self) -> list[dict[str, np.ndarray]]:
        """Inputs to run the model with; a bool that `fill` does not set takes both values."""
        flags = [name for name, dtype, _ in _TENSOR.findall(self._fed) if dtype == "bool" and name not in self.fill]
        fixed = {name: self._feed(name, dtype, shape) for name, dtype, shape in _TENSOR.findall(self._fed) if name not in flags}
        choices = product([np.array(True), np.array(False)], repeat=len(flags))
        return [fixed | dict(zip(flags, choice, strict=True)) for choice in choices]

    def weight(self, name: str, shape: Iterable[int], dtype: str = "") -> np.ndarray:
        """The values of a weight, in its storage type."""
        values = self.fill[name] if name in self.fill else _values(name, tuple(shape))
        return np.array(np.broadcast_to(np.asarray(values), tuple(shape))).astype(DTYPES[dtype or self.dtype])

    @property
    def _fed(self) -> str:
        return self.tensors.partition(";")[0]

    def _declaration(self, name: str, dtype: str, shape: str) -> str:
        dims = f"[{shape}]" if shape else ""  # in ONNX text, empty brackets are an unknown rank
        return f"{dtype or self.dtype}{dims} {name}"

    def _feed(self, name: str, dtype: str, shape: str) -> np.ndarray:
        if name in self.fill:
            return np.asarray(self.fill[name], DTYPES[dtype or self.dtype])
        extents = [int(each) if each.strip().isdigit() else 2 for each in shape.split(",") if each]
        return self.weight(name, extents, dtype)

    def _add_weights(self, model: onnx.ModelProto) -> None:
        declared = _TENSOR.findall(self.tensors.partition(";")[2])
        known = {name: ([int(n) for n in shape.split(",") if n], dtype) for name, dtype, shape in declared}
        for scope in (model.graph, *model.functions):
            for node in _nodes(scope):
                self._expand(node, known)
        make = {name: self._tensor(name, *given) for name, given in known.items()}
        model.graph.initializer.extend(make[name] for name in dict.fromkeys(_free(model.graph)))
        for function in model.functions:
            for name in reversed(dict.fromkeys(_free(function))):
                function.node.insert(0, helper.make_node("Constant", [], [name], value=make[name]))

    def _expand(self, node: onnx.NodeProto, known: dict[str, Any]) -> None:
        channels = re.fullmatch(r"BN(\d+)", node.op_type)
        if channels:
            node.op_type = "BatchNormalization"
            for suffix in _PARAMETERS:
                node.input.append(f"{node.output[0]}_{suffix}")
                known.setdefault(node.input[-1], ([int(channels[1])], ""))
        elif node.op_type == "Fill":
            told = {each.name: helper.get_attribute_value(each) for each in node.attribute}
            tensor = self._tensor(node.output[0], told["shape"])
            form: dict[str, Any] = {"value": tensor}
            if told.get("form") == b"floats":
                form = {"value_floats": numpy_helper.to_array(tensor).ravel().tolist()}
            node.CopyFrom(helper.make_node("Constant", [], list(node.output), **form))

    def _tensor(self, name: str, shape: Iterable[int], dtype: str = "") -> onnx.TensorProto:
        return numpy_helper.from_array(self.weight(name, shape, dtype), name)


def _values(name: str, shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith("var"):
        return rng.uniform(0.4, 2.5, shape)
    if not name.endswith("scale"):
        return rng.standard_normal(shape)
    values = rng.uniform(0.5, 1.5, shape) * rng.choice([-1.0, 1.0], shape)
    if values.size > 3:
        values.flat[values.size // 2] = 0.0
    return values


def _nodes(graph: GraphLike) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _nodes(attribute.g)


def _free(graph: GraphLike, outer: frozenset[str] = frozenset()) -> Iterator[str]:
    """The names that are read and that nothing defines, in order."""
    inputs = [each if isinstance(each, str) else each.name for each in graph.input]
    known = outer.union(inputs, *(node.output for node in graph.node))
    for node in graph.node:
        yield from (name for name in node.input if name and name not in known)
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _free(attribute.g, known)
    if isinstance(graph, onnx.GraphProto):
        yield from (each.name for each in graph.output if each.name not in known)


def _type_outputs(model: onnx.ModelProto) -> None:
    inferred = onnx.shape_inference.infer_shapes(model).graph.output
    for mine, found in zip(model.graph.output, inferred, strict=True):
        if not mine.type.ByteSize():
            mine.type.CopyFrom(found.type)


# -- edits ----------------------------------------------------------------------------------------------------------------


def store_as_numbers(model: onnx.ModelProto) -> None:
    """Stores the weights in float_data, double_data or int32_data, as old exporters do."""
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        dims, elem_type = list(tensor.dims), tensor.data_type
        if elem_type == onnx.TensorProto.FLOAT16:
            values = array.view(np.uint16).ravel().tolist()
            tensor.CopyFrom(onnx.TensorProto(name=tensor.name, data_type=elem_type, dims=dims, int32_data=values))
        else:
            tensor.CopyFrom(helper.make_tensor(tensor.name, elem_type, dims, array.ravel().tolist()))


def name_the_domain(model: onnx.ModelProto) -> None:
    """Writes the default domain as "ai.onnx"."""
    for node in model.graph.node:
        node.domain = "ai.onnx"
    model.opset_import[0].domain = "ai.onnx"


def declare_in_else(model: onnx.ModelProto) -> None:
    """Moves `k` into the then branch, and states the shape of the else branch's own `k`, which is another tensor."""
    branch = next(node for node in model.graph.node if node.op_type == "If")
    then, other = (next(each.g for each in branch.attribute if each.name == name) for name in ("then_branch", "else_branch"))
    place = next(place for place, each in enumerate(model.graph.initializer) if each.name == "k")
    then.initializer.append(model.graph.initializer.pop(place))
    other.value_info.append(helper.make_tensor_value_info("k", onnx.TensorProto.FLOAT, [3, 5]))


def keep_in_branches(model: onnx.ModelProto) -> None:
    """Moves the initializers of the main graph into the bodies that read them."""
    moved = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                read = dict.fromkeys(name for each in _nodes(attribute.g) for name in each.input)
                attribute.g.initializer.extend(moved[name] for name in read if name in moved)
    del model.graph.initializer[:]


def make_sparse(model: onnx.ModelProto) -> None:
    """Stores `W` as a sparse initializer."""
    place = next(place for place, each in enumerate(model.graph.initializer) if each.name == "W")
    dense = numpy_helper.to_array(model.graph.initializer.pop(place))
    values = numpy_helper.from_array(dense.ravel(), "W")
    indices = numpy_helper.from_array(np.arange(dense.size), "W_indices")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, dense.shape))


def name_alike(model: onnx.ModelProto) -> None:
    """Moves the weights into the branches, under the same names: bodies side by side do not see each other."""
    keep_in_branches(model)
    branch = next(node for node in model.graph.node if node.op_type == "If")
    for attribute in branch.attribute:
        if attribute.name == "else_branch":
            for field in (*attribute.g.initializer, *attribute.g.node):
                _rename(field, {"V": "W", "d": "c", "q": "p", **{f"q_{suffix}": f"p_{suffix}" for suffix in _PARAMETERS}})
            attribute.g.output[0].name = "p"


def _rename(field: Any, names: Mapping[str, str]) -> None:
    if isinstance(field, onnx.TensorProto):
        field.name = names.get(field.name, field.name)
    else:
        field.input[:] = [names.get(name, name) for name in field.input]
        field.output[:] = [names.get(name, name) for name in field.output]


# -- the rows ---------------------------------------------------------------------------------------------------------------

_ROWS: list[Case] = []


def _group(*rows: Case) -> None:
    _ROWS.extend(rows)


CONV = Case("conv_2d", "x[2,3,6,7]; W[5,3,3,3]", "c = Conv (x, W)  y = BN5 (c)", "Conv")
BIASED = CONV.but("conv_2d_bias", tensors="x[2,3,6,7]; W[5,3,3,3] b[5]", body="c = Conv (x, W, b)  y = BN5 (c)")
TRANSPOSED = Case("conv_transpose_2d", "x[2,4,5,6]; W[4,3,3,2]", "c = ConvTranspose (x, W)  y = BN3 (c)", "ConvTranspose")
GEMM = Case("gemm", "x[3,4]; W[4,5]", "c = Gemm (x, W)  y = BN5 (c)", "Gemm")
MATMUL = Case("matmul", "x[3,4]; W[4,5]", "c = MatMul (x, W)  y = BN5 (c)", "MatMul", after="MatMul Add")
DENSE = Case("matmul_add", "x[3,4]; W[4,5] k[5]", "m = MatMul (x, W)  c = Add (m, k)  y = BN5 (c)", "MatMul")


def _conv(name: str, tensors: str, attributes: str, channels: int) -> Case:
    return Case(f"conv_{name}", tensors, f"c = Conv {attributes} (x, W)  y = BN{channels} (c)", "Conv")


_group(
    CONV,
    BIASED,
    _conv("1d", "x[2,3,9]; W[4,3,3]", "", 4),
    _conv("3d", "x[1,2,4,5,3]; W[4,2,2,2,2]", "", 4),
    CONV.but("conv_1d_bias", tensors="x[2,3,9]; W[4,3,3] b[4]", body="c = Conv (x, W, b)  y = BN4 (c)"),
    _conv("1x1", "x[2,3,4,4]; W[5,3,1,1]", "", 5),
    _conv("padded", "x[2,3,6,7]; W[5,3,3,3]", "<pads = [1, 0, 2, 1]>", 5),
    _conv("same_upper", "x[2,3,6,7]; W[5,3,3,2]", '<auto_pad = "SAME_UPPER", strides = [2, 2]>', 5),
    _conv("same_lower", "x[2,3,6,7]; W[5,3,3,2]", '<auto_pad = "SAME_LOWER">', 5),
    _conv("valid", "x[2,3,6,7]; W[5,3,3,2]", '<auto_pad = "VALID">', 5),
    _conv("strided", "x[2,3,6,7]; W[5,3,3,3]", "<strides = [2, 3]>", 5),
    _conv("dilated", "x[2,3,7,7]; W[5,3,3,3]", "<dilations = [2, 1], pads = [1, 1, 1, 1]>", 5),
    _conv("kernel_shape", "x[2,3,6,7]; W[5,3,3,3]", "<kernel_shape = [3, 3]>", 5),
    _conv("grouped", "x[2,4,6,6]; W[6,2,3,3]", "<group = 2>", 6),
    _conv("grouped_square", "x[2,4,6,6]; W[4,2,3,3]", "<group = 2>", 4),
    _conv("depthwise", "x[2,4,6,6]; W[4,1,3,3]", "<group = 4>", 4),
    _conv("depthwise_multiplier", "x[2,4,6,6]; W[8,1,3,3]", "<group = 4, pads = [1, 1, 1, 1]>", 8),
    _conv("grouped_1d", "x[2,6,9]; W[9,2,3]", "<group = 3>", 9),
    _conv("grouped_3d", "x[1,4,3,4,3]; W[2,2,2,2,2]", "<group = 2>", 2),
    _conv("one_channel", "x[2,1,6,6]; W[1,1,3,3]", "", 1),
    _conv("dynamic_shape", "x[N,3,H,V]; W[5,3,1,1]", "", 5),
    CONV.but(
        "conv_unknown_rank",
        tensors="v[2,3,6,7] n:int64[K]; W[5,3,3,3]",
        body=f"x = Reshape (v, n)  {CONV.body}",
        outputs="y[A,B,C,D]",
        fill={"n": [2, 3, 6, 7]},
    ),
    CONV.but("conv_bias_empty_name", body='c = Conv (x, W, "")  y = BN5 (c)'),
    BIASED.but("conv_bias_runtime", tensors="x[2,3,6,7] b[5]; W[5,3,3,3]", after="Add Conv Mul"),
    BIASED.but(
        "conv_bias_computed",
        tensors="x[2,3,6,7] r[5]; W[5,3,3,3]",
        body="b = Relu (r)  " + BIASED.body,
        after="Add Conv Mul Relu",
    ),
    BIASED.but(
        "conv_bias_is_beta",
        body="c = Conv (x, W, b)  y = BatchNormalization (c, y_scale, b, y_mean, y_var)",
        tensors="x[2,3,6,7]; W[5,3,3,3] b[5] y_scale[5] y_mean[5] y_var[5]",
    ),
    BIASED.but(
        "conv_bias_near_large_mean",
        tensors="x[1,1,3,3]; W[256,1,1,1] b[256]",
        body="c = Conv (x, W, b)  y = BN256 (c)",
        fill={"b": 2**24 - 1 - np.arange(256), "y_mean": 2**24 - np.arange(256)},
        no_runtime="the original loses all digits in float32",
    ),
    CONV.but("conv_then_relu", body="c = Conv (x, W)  n = BN5 (c)  y = Relu (n)"),
    CONV.but("conv_result_read_twice", body="c = Conv (x, W)  y = BN5 (c)  z = Relu (y)", outputs="y z"),
    CONV.but("conv_all_sizes_equal", tensors="x[3,3,3,3]; W[3,3,3,3]", body="c = Conv <pads = [1,1,1,1]> (x, W)  y = BN3 (c)"),
    CONV.but("conv_domain_ai_onnx", edit=name_the_domain),
    CONV.but(
        "conv_twice",
        "Conv Conv",
        body="c = Conv (x, W)  r = BN5 (c)  d = Conv (r, V)  y = BN4 (d)",
        tensors="x[2,3,6,7]; W[5,3,3,3] V[4,5,2,2]",
    ),
)


def _transposed(name: str, tensors: str, attributes: str, channels: int) -> Case:
    body = f"c = ConvTranspose {attributes} (x, W)  y = BN{channels} (c)"
    return Case(f"conv_transpose_{name}", tensors, body, "ConvTranspose")


_group(
    TRANSPOSED,
    TRANSPOSED.but("conv_transpose_bias", tensors="x[2,4,5,6]; W[4,3,3,2] b[3]", body="c = ConvTranspose (x, W, b)  y = BN3 (c)"),
    TRANSPOSED.but(
        "conv_transpose_bias_runtime",
        tensors="x[2,4,5,6] b[3]; W[4,3,3,2]",
        body="c = ConvTranspose (x, W, b)  y = BN3 (c)",
        after="Add ConvTranspose Mul",
    ),
    _transposed("1d", "x[2,4,5]; W[4,3,3]", "", 3),
    _transposed("3d", "x[1,2,3,2,3]; W[2,3,2,2,2]", "", 3),
    _transposed("grouped", "x[2,4,5,5]; W[4,3,3,3]", "<group = 2>", 6),
    _transposed("grouped_square", "x[2,4,5,5]; W[4,2,3,3]", "<group = 2>", 4),
    _transposed("grouped_uneven", "x[2,6,4,4]; W[6,2,2,2]", "<group = 3>", 6),
    _transposed("depthwise", "x[2,4,5,5]; W[4,1,3,3]", "<group = 4>", 4),
    _transposed("depthwise_multiplier", "x[2,4,5,5]; W[4,2,3,3]", "<group = 4>", 8),
    _transposed("depthwise_1d", "x[2,4,5]; W[4,1,3]", "<group = 4>", 4),
    _transposed("square", "x[2,4,4,4]; W[4,4,2,2]", "", 4),
    _transposed("strided", "x[2,4,5,5]; W[4,3,3,3]", "<strides = [2, 3]>", 3),
    _transposed("padded", "x[2,4,5,5]; W[4,3,3,3]", "<strides = [2, 2], pads = [1, 0, 1, 1]>", 3),
    _transposed("output_padding", "x[2,4,5,5]; W[4,3,3,3]", "<strides = [2, 2], output_padding = [1, 1]>", 3),
    _transposed("output_padding_grouped", "x[2,4,5,5]; W[4,2,3,3]", "<group = 2, strides = [2, 2], output_padding = [1, 0]>", 4),
    _transposed("output_padding_empty_rim", "x[2,4,3,3]; W[4,3,1,1]", "<strides = [3, 3], output_padding = [2, 2]>", 3),
    _transposed("dilated", "x[2,4,5,5]; W[4,3,3,3]", "<dilations = [2, 2]>", 3),
    _transposed("same_upper", "x[2,4,5,5]; W[4,3,3,3]", '<auto_pad = "SAME_UPPER", strides = [2, 2]>', 3),
    _transposed("output_shape", "x[2,4,5,5]; W[4,3,3,3]", "<output_shape = [10, 10], strides = [2, 2]>", 3),
)


def _gemm(name: str, tensors: str, attributes: str = "", inputs: str = "x, W", **changes: Any) -> Case:
    return GEMM.but(f"gemm_{name}", tensors=tensors, body=f"c = Gemm {attributes} ({inputs})  y = BN5 (c)", **changes)


_ADDENDS = {"scalar": "", "1": "1", "n": "5", "1xn": "1,5", "mxn": "3,5", "mx1": "3,1", "1x1": "1,1"}
_BLENDS = {"": "", "_alpha_beta": "<alpha = 0.25, beta = -3.5>", "_trans_b": "<transB = 1, beta = 0.1>"}

_group(
    GEMM,
    _gemm("trans_a", "x[4,3]; W[4,5]", "<transA = 1>"),
    _gemm("trans_b", "x[3,4]; W[5,4]", "<transB = 1>"),
    _gemm("trans_both", "x[4,3]; W[5,4]", "<transA = 1, transB = 1>"),
    _gemm("alpha", "x[3,4]; W[4,5]", "<alpha = 0.3>"),
    _gemm("alpha_zero", "x[3,4]; W[4,5] k[5]", "<alpha = 0.0>", "x, W, k"),
    _gemm("beta_without_c", "x[3,4]; W[4,5]", "<beta = 0.5>"),
    _gemm("empty_name", "x[3,4]; W[4,5]", "<alpha = 0.5, beta = 2.0>", 'x, W, ""'),
    *(
        _gemm(
            f"c_{name}{blend}",
            f"x[3,4]; {'W[5,4]' if 'transB' in attributes else 'W[4,5]'} k[{shape}]",
            attributes,
            "x, W, k",
        )
        for (name, shape), (blend, attributes) in product(_ADDENDS.items(), _BLENDS.items())
    ),
    _gemm("beta_zero", "x[3,4]; W[4,5] k[5]", "<beta = 0.0>", "x, W, k"),
    _gemm("beta_zero_runtime", "x[3,4] k[3,5]; W[4,5]", "<beta = 0.0>", "x, W, k"),
    _gemm("square", "x[5,5]; W[5,5] k[5]", "", "x, W, k"),
    _gemm("square_trans_b", "x[5,5]; W[5,5] k[5,1]", "<transB = 1, beta = 2.0>", "x, W, k"),
    _gemm("square_row", "x[5,5]; W[5,5] k[1,5]", "<transA = 1>", "x, W, k"),
    _gemm("weight_is_addend", "x[5,5]; W[5,5]", "<beta = 0.5>", "x, W, W"),
    _gemm("weight_is_data", "x[5,5]; W[5,5]", "<transA = 1>", "W, W, x", expect="BNF006|Gemm"),
    _gemm("c_runtime", "x[3,4] k[5]; W[4,5]", "", "x, W, k", after="Add Gemm Mul"),
    _gemm("c_runtime_beta", "x[3,4] k[5]; W[4,5]", "<alpha = 0.5, beta = 3.0>", "x, W, k", after="Add Gemm Mul"),
    _gemm("c_runtime_row", "x[3,4] k[1,5]; W[4,5]", "<beta = 0.5>", "x, W, k", after="Add Gemm Mul"),
    _gemm("c_runtime_scalar", "x[3,4] k[]; W[4,5]", "<beta = 0.5>", "x, W, k", after="Add Gemm Mul"),
    _gemm("c_runtime_matrix", "x[3,4] k[3,5]; W[4,5]", "", "x, W, k", expect="BNF006"),
    _gemm("dynamic_batch", "x[N,4]; W[4,5] k[5]", "", "x, W, k"),
    GEMM.but(
        "gemm_unknown_rank", tensors="v[3,4] n:int64[K]; W[4,5]", body=f"x = Reshape (v, n)  {GEMM.body}", fill={"n": [3, 4]}
    ),
    _gemm("constant_left", "x[4,5]; W[3,4]", "", "W, x", expect="BNF012"),
    _gemm("constant_left_square", "x[5,5]; W[5,5]", "", "W, x", expect="BNF012"),
    GEMM.but(
        "gemm_several_blocks",
        tensors="x[2,1100]; W[1000,1100] k[1000]",
        body="c = Gemm <transB = 1> (x, W, k)  y = BN1000 (c)",
    ),
)

for opset in (6, 7, 9, 11, 13, 17):
    attributes = "<is_test = 1>" if opset < 7 else ""
    broadcast = "<broadcast = 1, beta = 0.5>" if opset < 7 else "<beta = 0.5>"
    runtime = NO_OPSET_6 if opset < 7 else ""
    body = f"c = Gemm {broadcast} (x, W, k)  y = BN5 {attributes} (c)"
    _group(
        GEMM.but(f"gemm_opset_{opset}", tensors="x[3,4]; W[4,5] k[5]", body=body, opset=opset, no_runtime=runtime),
        GEMM.but(f"gemm_opset_{opset}_scalar", tensors="x[3,4]; W[4,5] k[1]", body=body, opset=opset, no_runtime=runtime),
    )
_group(
    GEMM.but(
        "gemm_opset_6_matrix",
        tensors="x[3,4]; W[4,5] k[3,5]",
        opset=6,
        no_runtime=NO_OPSET_6,
        body="c = Gemm (x, W, k)  y = BN5 <is_test = 1> (c)",
    )
)


def _matmul(name: str, tensors: str, inputs: str, channels: int, expect: str = "MatMul", **changes: Any) -> Case:
    after = "MatMul Add" if expect == "MatMul" else ""
    body = f"c = MatMul ({inputs})  y = BN{channels} (c)"
    return Case(f"matmul_{name}", tensors, body, expect, **{"after": after, **changes})


def _dense(name: str, tensors: str, operands: str, channels: int = 5, expect: str = "MatMul", **changes: Any) -> Case:
    body = f"m = MatMul (x, W)  c = {operands}  y = BN{channels} (c)"
    return Case(f"matmul_{name}", tensors, body, expect, **changes)


_group(
    MATMUL,
    MATMUL.but("matmul_without_offset", fill={"y_bias": 0, "y_mean": 0}, after="MatMul"),
    MATMUL.but("matmul_dynamic_batch", tensors="x[N,4]; W[4,5]", after="MatMul Add"),
    _matmul("square", "x[5,5]; W[5,5]", "x, W", 5),
    _matmul("left_3d", "x[N,4,6]; W[5,4]", "W, x", 5),
    _matmul("left_3d_batched_weight", "x[2,4,6]; W[2,5,4]", "W, x", 5),
    _matmul("left_3d_weight_broadcast", "x[4,6]; W[2,5,4]", "W, x", 5),
    _matmul("left_3d_square", "x[5,5,5]; W[5,5]", "W, x", 5),
    _matmul("left_2d", "x[4,6]; W[5,4]", "W, x", 6, "BNF012"),
    _matmul("left_2d_square", "x[5,5]; W[5,5]", "W, x", 5, "BNF012"),
    _matmul("left_4d", "x[2,3,4,6]; W[5,4]", "W, x", 3, "BNF012"),
    _matmul("left_4d_square", "x[5,5,5,5]; W[5,5]", "W, x", 5, "BNF012"),
    _matmul("right_3d", "x[2,3,4]; W[4,5]", "x, W", 3, "BNF012"),
    _matmul("right_3d_square", "x[2,5,5]; W[5,5]", "x, W", 5, "BNF012"),
    _matmul("right_4d", "x[2,3,6,4]; W[4,5]", "x, W", 3, "BNF012"),
    _matmul("right_4d_square", "x[5,5,5,5]; W[5,5]", "x, W", 5, "BNF012"),
    _matmul("right_3d_weight", "x[3,4]; W[2,4,5]", "x, W", 3, "BNF012"),
    MATMUL.but(
        "matmul_unknown_rank",
        "BNF018",
        tensors="v[3,4] n:int64[K]; W[4,5]",
        body=f"x = Reshape (v, n)  {MATMUL.body}",
        outputs="y[A,B]",
        fill={"n": [3, 4]},
    ),
    DENSE.but(
        "matmul_add_unknown_rank",
        "BNF018",
        tensors="v[3,4] n:int64[K]; W[4,5] k[5]",
        body=f"x = Reshape (v, n)  {DENSE.body}",
        outputs="y[A,B]",
        fill={"n": [3, 4]},
    ),
    _matmul("no_constant", "x[3,4] z[4,5]; ", "x, z", 5, "BNF006"),
    _matmul("same_tensor_twice", "x[5,5]; ", "x, x", 5, "BNF006"),
    DENSE,
    _dense("add_reversed", "x[3,4]; W[4,5] k[5]", "Add (k, m)"),
    _dense("add_scalar", "x[3,4]; W[4,5] k[]", "Add (m, k)"),
    _dense("add_1", "x[3,4]; W[4,5] k[1]", "Add (m, k)"),
    _dense("add_row", "x[3,4]; W[4,5] k[1,5]", "Add (m, k)"),
    _dense("add_column", "x[3,4]; W[4,5] k[3,1]", "Add (k, m)"),
    _dense("add_matrix", "x[3,4]; W[4,5] k[3,5]", "Add (m, k)"),
    _dense("add_column_square", "x[5,5]; W[5,5] k[5,1]", "Add (m, k)"),
    _dense("sub", "x[3,4]; W[4,5] k[5]", "Sub (m, k)"),
    _dense("sub_scalar", "x[3,4]; W[4,5] k[]", "Sub (m, k)"),
    _dense("add_one_column", "x[3,4]; W[4,1] k[5]", "Add (m, k)", expect="BNF012"),
    _dense("add_raises_rank", "x[3,4]; W[4,5] k[1,1,5]", "Add (m, k)", 3, "BNF012"),
    _dense("add_raises_rank_square", "x[5,5]; W[5,5] k[1,1,5]", "Add (m, k)", expect="BNF012"),
    _dense("add_itself", "x[3,4]; W[4,5]", "Add (m, m)", expect="BNF004|BNF005"),
    _dense("add_right_3d", "x[2,3,4]; W[4,5] k[5]", "Add (m, k)", 3, "BNF012"),
    _dense("add_right_3d_square", "x[2,5,5]; W[5,5] k[5]", "Add (m, k)", 5, "BNF012"),
    *(
        DENSE.but(
            f"matmul_left_3d_add_{name}",
            tensors=f"x[N,4,6]; W[5,4] k[{shape}]",
            body="m = MatMul (W, x)  c = Add (m, k)  y = BN5 (c)",
        )
        for name, shape in {"column": "5,1", "full_column": "1,5,1", "row": "6", "matrix": "5,6", "scalar": ""}.items()
    ),
    DENSE.but("matmul_add_shared_constant", body=DENSE.body + "  z = Relu (k)", outputs="y z"),
    DENSE.but(
        "matmul_add_result_read",
        "BNF004",
        body=DENSE.body + "  z = Relu (m)",
        outputs="y z",
        after="MatMul BatchNormalization Relu",
    ),
    DENSE.but("matmul_add_chain", "MatMul MatMul", body="m = MatMul (x, W)  c = Add (m, k)  d = BN5 (c)  y = BN5 (d)"),
    MATMUL.but("matmul_chain", "MatMul MatMul", body="c = MatMul (x, W)  d = BN5 (c)  y = BN5 (d)", after="MatMul Add"),
    MATMUL.but(
        "matmul_chain_of_three",
        "MatMul MatMul MatMul",
        body="c = MatMul (x, W)  d = BN5 (c)  e = BN5 (d)  y = BN5 (e)",
        after="MatMul Add",
    ),
)

DROPOUT = CONV.but("dropout", body="c = Conv (x, W)  d = Dropout (c)  y = BN5 (d)")
_group(
    CONV.but("identity", body="c = Conv (x, W)  d = Identity (c)  y = BN5 (d)"),
    CONV.but("identity_twice", body="c = Conv (x, W)  d = Identity (c)  e = Identity (d)  y = BN5 (e)"),
    CONV.but("identity_read_twice", "BNF004", body="c = Conv (x, W)  d = Identity (c)  y = BN5 (d)  z = Relu (d)", outputs="y z"),
    CONV.but(
        "identity_in_front_read_twice",
        "BNF004",
        outputs="y z",
        body="c = Conv (x, W)  d = Identity (c)  y = BN5 (d)  z = Relu (c)",
    ),
    CONV.but("identity_is_output", "BNF004", body="c = Conv (x, W)  d = Identity (c)  y = BN5 (d)", outputs="y d"),
    GEMM.but("identity_gemm", body="c = Gemm (x, W)  d = Identity (c)  y = BN5 (d)"),
    MATMUL.but("identity_matmul", body="c = MatMul (x, W)  d = Identity (c)  y = BN5 (d)", after="Add Identity MatMul"),
    DENSE.but("identity_matmul_add", body="m = MatMul (x, W)  i = Identity (m)  c = Add (i, k)  d = Identity (c)  y = BN5 (d)"),
    *(DROPOUT.but(f"dropout_opset_{opset}", opset=opset) for opset in (7, 10, 12, 13, 17, 22)),
    DROPOUT.but(
        "dropout_opset_6",
        opset=6,
        no_runtime=NO_OPSET_6,
        body="c = Conv (x, W)  d = Dropout <is_test = 1> (c)  y = BN5 <is_test = 1> (d)",
    ),
    DROPOUT.but(
        "dropout_opset_6_training",
        "BNF002",
        opset=6,
        no_runtime=NO_OPSET_6,
        body="c = Conv (x, W)  d = Dropout (c)  y = BN5 <is_test = 1> (d)",
        notes="BNF002",
    ),
    DROPOUT.but("dropout_mask", body="c = Conv (x, W)  d, mask = Dropout (c)  y = BN5 (d)", outputs="y mask"),
    DROPOUT.but(
        "dropout_told_not_to_train",
        tensors="x[2,3,6,7]; W[5,3,3,3] ratio[] train:bool[]",
        fill={"train": False, "ratio": 0.5},
        body="c = Conv (x, W)  d = Dropout (c, ratio, train)  y = BN5 (d)",
    ),
    DROPOUT.but(
        "dropout_training",
        "BNF002",
        tensors="x[2,3,6,7]; W[5,3,3,3] ratio[] train:bool[]",
        fill={"train": True, "ratio": 0.5},
        body="c = Conv (x, W)  d = Dropout (c, ratio, train)  y = BN5 (d)",
        notes="BNF002",
    ),
    DROPOUT.but(
        "dropout_asks_the_caller",
        "BNF002",
        tensors="x[2,3,6,7] train:bool[]; W[5,3,3,3] ratio[]",
        body="c = Conv (x, W)  d = Dropout (c, ratio, train)  y = BN5 (d)",
        notes="BNF002",
    ),
)

_group(
    CONV.but("chain_of_two", "Conv Conv", body="c = Conv (x, W)  d = BN5 (c)  y = BN5 (d)"),
    CONV.but("chain_of_three", "Conv Conv Conv", body="c = Conv (x, W)  d = BN5 (c)  e = BN5 (d)  y = BN5 (e)"),
    CONV.but("chain_through_identity", "Conv Conv", body="c = Conv (x, W)  d = BN5 (c)  e = Identity (d)  y = BN5 (e)"),
    BIASED.but(
        "chain_bias_runtime",
        "Conv Conv",
        tensors="x[2,3,6,7] b[5]; W[5,3,3,3]",
        body="c = Conv (x, W, b)  d = BN5 (c)  y = BN5 (d)",
        after="Add Conv Mul",
    ),
    TRANSPOSED.but(
        "chain_conv_transpose",
        "ConvTranspose ConvTranspose",
        tensors="x[2,4,5,5]; W[4,3,2,2]",
        body="c = ConvTranspose <group = 2> (x, W)  d = BN6 (c)  y = BN6 (d)",
    ),
    GEMM.but(
        "chain_gemm",
        "Gemm Gemm",
        body="c = Gemm <alpha = 0.5, beta = 2.0> (x, W, k)  d = BN5 (c)  y = BN5 (d)",
        tensors="x[3,4]; W[4,5] k[3,1]",
    ),
    *(
        GEMM.but(
            f"chain_gemm_runtime_{name}",
            "Gemm Gemm",
            tensors=f"x[3,4] k[{shape}]; W[4,5]",
            body="c = Gemm <beta = 0.5> (x, W, k)  d = BN5 (c)  y = BN5 (d)",
            after="Add Gemm Mul",
        )
        for name, shape in {"vector": "5", "row": "1,5", "scalar": ""}.items()
    ),
    CONV.but("chain_last_is_nan", "Conv BNF007", body="c = Conv (x, W)  d = BN5 (c)  y = BN5 (d)", fill={"y_scale": np.nan}),
    CONV.but(
        "chain_first_is_training", "BNF001 BNF005", body="c = Conv (x, W)  d, m, v = BN5 <training_mode = 1> (c)  y = BN5 (d)"
    ),
    CONV.but("chain_middle_is_output", "Conv BNF004", body="c = Conv (x, W)  d = BN5 (c)  y = BN5 (d)", outputs="y d"),
    CONV.but(
        "chain_same_statistics",
        "Conv Conv",
        tensors="x[2,3,6,7]; W[5,3,3,3] s_scale[5] b[5] m[5] v_var[5]",
        body="c = Conv (x, W)  d = BatchNormalization (c, s_scale, b, m, v_var)"
        "  y = BatchNormalization (d, s_scale, b, m, v_var)",
    ),
)


def _form(name: str, attributes: str, expect: str = "Conv", results: str = "y", **changes: Any) -> Case:
    return CONV.but(f"bn_{name}", expect, body=f"c = Conv (x, W)  {results} = BN5 {attributes} (c)", **changes)


_BFLOAT16: dict[str, Any] = {"dtype": "bfloat16", "opset": 22, "ir": 10, "no_runtime": NO_BFLOAT16}
_OF_CONV = "y[2,5,4,5]"  # where shape inference gives up
_OWN = "y_scale[5] y_bias[5] y_mean[5] y_var[5]"
_PLANES = "y_scale[5,4,5] y_bias[5,4,5] y_mean[5,4,5] y_var[5,4,5]"

_group(
    _form("opset_6", "<is_test = 1>", opset=6, no_runtime=NO_OPSET_6),
    _form("opset_6_five_outputs", "<is_test = 1>", results="y, a, b, e, f", opset=6, no_runtime=NO_OPSET_6),
    _form("opset_6_empty_outputs", "<is_test = 1>", results='y, "", "", "", ""', opset=6, no_runtime=NO_OPSET_6),
    _form("opset_6_training", "", "BNF001", opset=6, no_runtime=NO_OPSET_6),
    _form("opset_6_not_test", "<is_test = 0>", "BNF001", opset=6, no_runtime=NO_OPSET_6),
    *(_form(f"opset_{opset}", "", opset=opset) for opset in (7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 20, 22, 23)),
    *(_form(f"opset_{opset}_spatial", "<spatial = 1>", opset=opset) for opset in (7, 8)),
    *(
        _form(
            f"opset_{opset}_per_activation", "<spatial = 0>", "BNF014", opset=opset, tensors=f"x[2,3,6,7]; W[5,3,3,3] {_PLANES}"
        )
        for opset in (7, 8)
    ),
    GEMM.but(
        "bn_per_activation_of_a_vector",
        opset=8,
        tensors="x[3,4]; W[4,5] k[5]",
        body="c = Gemm (x, W, k)  y = BN5 <spatial = 0> (c)",
    ),
    *(
        _form(f"opset_{opset}_empty_outputs", "", results='y, "", "", "", ""', opset=opset, no_runtime=NO_EMPTY_OUTPUTS)
        for opset in (7, 9, 13)
    ),
    _form("opset_15_empty_outputs", "", results='y, "", ""', opset=15, outputs=_OF_CONV, no_runtime=NO_NAMELESS_OUTPUTS),
    *(_form(f"opset_{opset}_five_outputs", "", "BNF001", results="y, a, b, e, f", opset=opset) for opset in (7, 9, 13)),
    _form("training_mode", "<training_mode = 1>", "BNF001", results="y, m, v"),
    _form("training_mode_without_statistics", "<training_mode = 1>", "BNF001", outputs=_OF_CONV),
    _form("training_mode_off", "<training_mode = 0>"),
    _form("momentum", "<momentum = 0.1>"),
    _form("epsilon", "<epsilon = 0.25>"),
    _form("epsilon_zero", "<epsilon = 0.0>"),
    _form("negative_variance_saved_by_epsilon", "<epsilon = 0.5>", fill={"y_var": -0.25}),
    *(
        CONV.but(
            f"bn_{name}",
            tensors="x[2,3,6,7]; W[5,3,3,3] p_var[5] q_var[5] r_scale[5]",
            body=f"c = Conv (x, W)  y = BatchNormalization (c, {names})",
        )
        for name, names in {
            "gamma_is_beta": "r_scale, r_scale, q_var, p_var",
            "mean_is_beta": "r_scale, q_var, q_var, p_var",
            "mean_is_variance": "r_scale, q_var, p_var, p_var",
            "gamma_is_variance": "p_var, q_var, r_scale, p_var",
            "all_one_tensor": "p_var, p_var, p_var, p_var",
        }.items()
    ),
    CONV.but(
        "bn_statistics_shared",
        "Conv Conv",
        tensors="x[2,3,6,7]; W[5,3,3,3] V[5,3,3,3] y_scale[5] z_scale[5] b[5] m[5] v_var[5]",
        body="c = Conv (x, W)  d = Conv (x, V)"
        "  y = BatchNormalization (c, y_scale, b, m, v_var)  z = BatchNormalization (d, z_scale, b, m, v_var)",
        outputs="y z",
    ),
    CONV.but(
        "bn_statistics_read_elsewhere",
        tensors=f"x[2,3,6,7]; W[5,3,3,3] {_OWN}",
        body=CONV.body + "  z = Sqrt (y_var)",
        outputs="y z",
    ),
    CONV.but("bn_statistics_are_outputs", tensors=f"x[2,3,6,7]; W[5,3,3,3] {_OWN}", outputs="y y_mean[5]"),
    _form(
        "half_data_float_parameters",
        "",
        dtype="float16",
        opset=15,
        tensors="x[2,3,6,7]; W[5,3,3,3] y_scale:float[5] y_bias:float[5] y_mean:float[5] y_var:float[5]",
    ),
    _form(
        "half_data_float_statistics",
        "",
        dtype="float16",
        opset=15,
        tensors="x[2,3,6,7]; W[5,3,3,3] b[5] y_mean:float[5] y_var:float[5]",
    ),
    _form("float_data_half_parameters", "", tensors="x[2,3,6,7]; W[5,3,3,3] y_scale:float16[5] y_bias:float16[5]"),
    _form(
        "float_data_double_statistics",
        "",
        no_runtime=NO_MIXED_TYPES,
        tensors="x[2,3,6,7]; W[5,3,3,3] y_mean:double[5] y_var:double[5]",
    ),
    _form(
        "bfloat16_data_float_parameters",
        "",
        **_BFLOAT16,
        tensors="x[2,3,6,7]; W[5,3,3,3] y_scale:float[5] y_bias:float[5] y_mean:float[5] y_var:float[5]",
    ),
)

for dtype in ("double", "float16", "bfloat16"):
    lacking = {"double": NO_DOUBLE, "bfloat16": NO_BFLOAT16}.get(dtype, "")
    of_type = {"dtype": dtype, "opset": 22, "ir": 10}
    _group(
        CONV.but(f"conv_{dtype}", **of_type, no_runtime=lacking),
        BIASED.but(f"conv_bias_{dtype}", **of_type, no_runtime=lacking),
        TRANSPOSED.but(f"conv_transpose_{dtype}", **of_type, no_runtime=lacking),
        GEMM.but(
            f"gemm_{dtype}",
            tensors="x[3,4]; W[4,5] k[3,1]",
            body="c = Gemm <alpha = 0.7, beta = 0.3> (x, W, k)  y = BN5 (c)",
            **of_type,
            no_runtime=lacking if dtype == "bfloat16" else "",
        ),
        MATMUL.but(f"matmul_{dtype}", **of_type, after="MatMul Add", no_runtime=lacking if dtype == "bfloat16" else ""),
        DENSE.but(f"matmul_add_{dtype}", **of_type, no_runtime=lacking if dtype == "bfloat16" else ""),
        CONV.but(f"chain_{dtype}", "Conv Conv", **of_type, no_runtime=lacking, body="c = Conv (x, W)  d = BN5 (c)  y = BN5 (d)"),
    )


def _if(then: str, other: str) -> str:
    """An If whose branches make `p` and `q`."""
    return f"If (flag) <then_branch = t () => (float[3,5] p) {{ {then} }}, else_branch = e () => (float[3,5] q) {{ {other} }}>"


def _loop(carried: str, state: str, results: str, nodes: str) -> str:
    """A Loop of `n` trips."""
    body = f"b (int64 i, bool g{state}) => (bool h, {results}) {{ h = Identity (g)  {nodes} }}"
    return f'Loop (n, ""{carried}) <body = {body}>'


_THEN, _ELSE = "c = Gemm (x, W)  p = BN5 (c)", "d = Gemm (x, V)  q = BN5 (d)"
_SAME_CONV = "c = Conv <pads = [1, 1, 1, 1]> (s, W)  r = BN3 (c)"

IF = Case("if", "x[3,4] flag:bool[]; W[4,5] V[4,5]", f"y = {_if(_THEN, _ELSE)}", "Gemm Gemm")
LOOP = Case(
    "loop",
    "x[2,3,4,4] n:int64[]; W[3,3,3,3]",
    f"y = {_loop(', x', ', float[2,3,4,4] s', 'float[2,3,4,4] r', _SAME_CONV)}",
    "Conv",
    outputs="y[2,3,4,4]",
    fill={"n": 2},
)
SCAN = Case(
    "scan",
    "x[3,2,4]; W[4,5]",
    "y = Scan <num_scan_inputs = 1, body = b (float[2,4] s) => (float[2,5] r) { c = Gemm (s, W)  r = BN5 (c) }> (x)",
    "Gemm",
)
_group(
    IF,
    IF.but("if_weights_in_branches", edit=keep_in_branches),
    IF.but("if_same_weight_names_in_branches", edit=name_alike),
    IF.but(
        "if_plumbing_outside",
        tensors="x[3,4] flag:bool[]; U[5,4] V[4,5]",
        body=f"W = Transpose (U)  {IF.body}",
        after="If Gemm Gemm",
    ),
    IF.but(
        "if_plumbing_in_branch",
        tensors="x[3,4] flag:bool[]; U[5,4] V[4,5]",
        body=f"y = {_if(f'W = Transpose (U)  {_THEN}', _ELSE)}",
        after="If Gemm Gemm",
    ),
    IF.but(
        "if_plumbing_outside_shared",
        tensors="x[3,4] flag:bool[]; U[5,4]",
        body=f"W = Transpose (U)  y = {_if(_THEN, _ELSE.replace('V', 'W'))}",
        after="If Gemm Gemm",
        notes="BNF016",
    ),
    IF.but(
        "if_weights_in_constants",
        tensors="x[3,4] flag:bool[];",
        body=f"y = {_if(f'W = Fill <shape = [4, 5]> ()  {_THEN}', f'V = Fill <shape = [4, 5]> ()  {_ELSE}')}",
    ),
    IF.but("if_branches_share_weight", body=IF.body.replace("V", "W"), notes="BNF016"),
    IF.but(
        "if_branches_share_all",
        body=f"y = {_if(_THEN, 'd = Gemm (x, W)  q = BatchNormalization (d, p_scale, p_bias, p_mean, p_var)')}",
    ),
    IF.but("if_one_branch_folds", "Gemm BNF005", body=f"y = {_if(_THEN, 'g = Gemm (x, V)  d = Sigmoid (g)  q = BN5 (d)')}"),
    IF.but("if_weight_read_in_main", body=f"{IF.body}  z = Relu (W)", outputs="y z", notes="BNF016"),
    IF.but(
        "if_ir_3",
        ir=3,
        overridable=("W", "V", *(f"{n}_{s}" for n in "pq" for s in _PARAMETERS)),
        after="If Gemm Gemm Constant Constant",
    ),
    IF.but("if_matmul", "MatMul MatMul", body=IF.body.replace("Gemm", "MatMul"), after="If MatMul MatMul Add Add"),
    IF.but(
        "if_nested",
        body="y = If (flag) <then_branch = t () => (float[3,5] o) {"
        f" o = If (flag) <then_branch = u () => (float[3,5] p) {{ {_THEN} }},"
        " else_branch = v () => (float[3,5] s) { s = Gemm (x, W) }> },"
        f" else_branch = e () => (float[3,5] q) {{ {_ELSE} }}>",
        notes="BNF016",
    ),
    IF.but(
        "if_same_names_in_branches",
        "Gemm",
        tensors="x[3,4] flag:bool[]; W[4,5] k[]",
        body=f"y = {_if('c = Gemm (x, W, k)  p = BN5 (c)', 'k = Gemm (x, W)  q = Relu (k)')}",
        edit=declare_in_else,
        notes="BNF016",
    ),
    LOOP,
    LOOP.but("loop_weights_in_body", edit=keep_in_branches),
    LOOP.but(
        "loop_weight_is_carried",
        "BNF006",
        body="y, o = "
        + _loop(
            ", x, W",
            ", float[2,3,4,4] s, float[3,3,3,3] w",
            "float[2,3,4,4] r, float[3,3,3,3] v",
            "v = Identity (w)  c = Conv <pads = [1, 1, 1, 1]> (s, w)  r = BN3 (c)",
        ),
        outputs="y[2,3,4,4] o[3,3,3,3]",
    ),
    LOOP.but(
        "loop_stacks_results",
        body=f"y = {_loop('', '', 'float[2,3,2,2] r', 'c = Conv (x, W)  r = BN3 (c)')}",
        outputs="y",
    ),
    LOOP.but(
        "loop_result_of_conv_is_output",
        "BNF004",
        body=f"y, z = {_loop('', '', 'float[2,3,2,2] r, float[2,3,2,2] c', 'c = Conv (x, W)  r = BN3 (c)')}",
        outputs="y z",
    ),
    SCAN,
    SCAN.but("scan_weights_in_body", edit=keep_in_branches),
    SCAN.but(
        "scan_over_weights",
        "BNF006",
        tensors="x[2,4]; W[3,4,5]",
        body="y = Scan <num_scan_inputs = 1, body = b (float[4,5] w) => (float[2,5] r) { c = Gemm (x, w)  r = BN5 (c) }> (W)",
    ),
    IF.but(
        "loop_in_if",
        tensors="x[3,5] n:int64[] flag:bool[]; W[5,5] V[5,5]",
        fill={"n": 2},
        body="y = " + _if("p = " + _loop(", x", ", float[3,5] s", "float[3,5] r", "c = Gemm (s, W)  r = BN5 (c)"), _ELSE),
    ),
    IF.but("bn_in_branch_conv_outside", "BNF004", body=f"c = Gemm (x, W)  y = {_if('p = BN5 (c)', 'q = Gemm (x, V)')}"),
    IF.but(
        "captured_by_branch",
        "BNF004",
        body=f"c = Gemm (x, W)  y = BN5 (c)  z = {_if('p = Relu (c)', 'q = Gemm (x, V)')}",
        outputs="y z",
    ),
    IF.but(
        "beside_branch",
        "Gemm",
        body=f"c = Gemm (x, W)  y = BN5 (c)  z = {_if('p = Relu (y)', 'q = Gemm (x, V)')}",
        outputs="y z",
    ),
)

FUNCTION = Case(
    "function",
    "x[2,3,6,7]; W[5,3,3,3]",
    "y = local.block (x)",
    "Conv",
    after="local::block Constant Constant Conv",
    functions=("block (a) => (y) { c = Conv (a, W)  y = BN5 (c) }",),
)
_group(
    FUNCTION,
    FUNCTION.but(
        "function_bias",
        tensors="x[2,3,6,7]; W[5,3,3,3] b[5]",
        functions=("block (a) => (y) { c = Conv (a, W, b)  y = BN5 (c) }",),
        after="local::block Constant Constant Conv",
    ),
    FUNCTION.but(
        "function_called_twice",
        body="y = local.block (x)  z = local.block (y)",
        tensors="x[2,3,6,7]; W[3,3,3,3]",
        outputs="y z",
        functions=("block (a) => (y) { c = Conv <pads = [1, 1, 1, 1]> (a, W)  y = BN3 (c) }",),
        after="local::block local::block Constant Constant Conv",
    ),
    FUNCTION.but(
        "function_in_function",
        functions=("block (a) => (y) { c = Conv (a, W)  y = BN5 (c) }", "outer (a) => (y) { y = local.block (a) }"),
        body="y = local.outer (x)",
        outputs=_OF_CONV,
        after="local::block local::outer Constant Constant Conv",
    ),
    FUNCTION.but(
        "function_weight_of_the_caller",
        "BNF006",
        body="y = local.block (x, W)",
        functions=("block (a, w) => (y) { c = Conv (a, w)  y = BN5 (c) }",),
    ),
    FUNCTION.but(
        "function_gamma_of_the_caller",
        "BNF006",
        tensors=f"x[2,3,6,7]; W[5,3,3,3] {_OWN}",
        body="y = local.block (x, y_scale)",
        functions=("block (a, g) => (y) { c = Conv (a, W)  y = BatchNormalization (c, g, y_bias, y_mean, y_var) }",),
    ),
    FUNCTION.but(
        "function_epsilon_of_the_caller",
        "BNF006",
        body="y = local.block <eps = 0.5> (x)",
        functions=("block <eps> (a) => (y) { c = Conv (a, W)  y = BN5 <epsilon: float = @eps> (c) }",),
    ),
    FUNCTION.but(
        "function_training_mode_of_the_caller",
        "BNF006",
        body="y = local.block <mode = 0> (x)",
        functions=("block <mode> (a) => (y) { c = Conv (a, W)  y = BN5 <training_mode: int = @mode> (c) }",),
    ),
    FUNCTION.but(
        "function_transpose_of_the_caller",
        "BNF006",
        tensors="x[3,5]; W[5,5]",
        body="y = local.block <turn = 1> (x)",
        functions=("block <turn> (a) => (y) { c = Gemm <transB: int = @turn> (a, W)  y = BN5 (c) }",),
    ),
    FUNCTION.but(
        "function_beta_of_the_caller",
        "BNF006",
        tensors="x[3,5]; W[5,5] k[5]",
        body="y = local.block <weight = 0.5> (x)",
        functions=("block <weight> (a) => (y) { c = Gemm <beta: float = @weight> (a, W, k)  y = BN5 (c) }",),
    ),
    FUNCTION.but(
        "function_cast_of_the_caller",
        "BNF006",
        body="y = local.block <type = 1> (x)",
        functions=("block <type> (a) => (y) { w = Cast <to: int = @type> (W)  c = Conv (a, w)  y = BN5 (c) }",),
        outputs=_OF_CONV,
    ),
    FUNCTION.but(
        "function_constant_of_the_caller",
        "BNF006",
        body="y = local.block <value = [1.0, 2.0, 3.0, 4.0, 5.0]> (x)",
        functions=(
            "block <value> (a) => (y) { g = Constant <value_floats: floats = @value> ()"
            "  c = Conv (a, W)  y = BatchNormalization (c, g, y_bias, y_mean, y_var) }",
        ),
        tensors=f"x[2,3,6,7]; W[5,3,3,3] {_OWN}",
    ),
    FUNCTION.but(
        "function_between",
        "BNF005",
        body="c = Conv (x, W)  d = local.block (c)  y = BN5 (d)",
        functions=("block (a) => (y) { y = Identity (a) }",),
    ),
    FUNCTION.but(
        "function_makes_the_input",
        "BNF005",
        body="c = local.block (x)  y = BN5 (c)",
        functions=("block (a) => (c) { c = Conv (a, W) }",),
    ),
    FUNCTION.but(
        "function_normalizes_its_argument",
        "BNF005",
        body="c = Conv (x, W)  y = local.block (c)",
        functions=("block (a) => (y) { y = BN5 (a) }",),
    ),
    FUNCTION.but(
        "function_fan_out",
        "BNF004",
        body="y, z = local.block (x)",
        outputs="y z",
        functions=("block (a) => (y, c) { c = Conv (a, W)  y = BN5 (c) }",),
    ),
    FUNCTION.but(
        "function_beside_main",
        "Conv Conv",
        tensors="x[2,3,6,7]; W[5,3,3,3] V[4,5,1,1]",
        body="r = local.block (x)  d = Conv (r, V)  z = BN4 (d)",
        outputs="z",
        after="local::block Constant Constant Conv Conv",
    ),
    FUNCTION.but(
        "function_same_names_as_main",
        "Conv Conv",
        tensors="x[2,3,6,7]; W[3,3,3,3]",
        body="r = local.block (x)  c = Conv (r, W)  y = BN3 (c)",
        functions=("block (x) => (y) { c = Conv <pads = [1, 1, 1, 1]> (x, W)  y = BN3 (c) }",),
        after="local::block Constant Constant Conv Conv",
    ),
    FUNCTION.but(
        "function_matmul",
        "MatMul|BNF018",
        tensors="x[3,4]; W[4,5]",
        functions=("block (a) => (y) { c = MatMul (a, W)  y = BN5 (c) }",),
        after="ANY",
    ),
    FUNCTION.but(
        "function_with_branches",
        "Gemm",
        tensors="x[3,4] flag:bool[]; W[4,5]",
        body="y = local.block (x, flag)",
        functions=(
            "block (a, f) => (y) { y = If (f) <then_branch = t () => (float[3,5] p) { c = Gemm (a, W)  p = BN5 (c) },"
            " else_branch = e () => (float[3,5] q) { q = Gemm (a, W) }> }",
        ),
        after="local::block If Constant Gemm Gemm",
        notes="BNF016",
    ),
)


def _plumbed(name: str, tensors: str, plumbing: str, **changes: Any) -> Case:
    """A Conv whose weight `w` or bias `b` is computed from constants; nothing of that is left behind."""
    inputs = "x, w, b" if re.search(r"\bb =", plumbing) or " b[" in tensors else "x, w"
    return CONV.but(
        f"constant_{name}", tensors=tensors, body=f"{plumbing}  c = Conv ({inputs})  y = BN5 (c)", **{"after": "Conv", **changes}
    )


_TORCH_BIAS = (
    "zero = Fill <shape = [1]> ()  like = CastLike (zero, x)  start = Constant <value_ints = [0]> ()"
    "  end = Constant <value_ints = [1]> ()  whole = Shape (w)  size = Slice (whole, start, end)  b = Expand (like, size)"
)
_group(
    _plumbed("node", "x[2,3,6,7];", "w = Fill <shape = [5, 3, 3, 3]> ()", after="Constant Conv"),
    _plumbed("node_bias", "x[2,3,6,7]; w[5,3,3,3]", "b = Fill <shape = [5]> ()", after="Constant Conv"),
    _plumbed("floats_bias", "x[2,3,6,7]; w[5,3,3,3]", 'b = Fill <shape = [5], form = "floats"> ()'),
    _plumbed("identity", "x[2,3,6,7]; W[5,3,3,3]", "w = Identity (W)"),
    _plumbed("identity_of_identity", "x[2,3,6,7]; W[5,3,3,3]", "v = Identity (W)  w = Identity (v)"),
    _plumbed("cast", "x[2,3,6,7]; W:float16[5,3,3,3]", "w = Cast <to = 1> (W)"),
    _plumbed("cast_down", "x[2,3,6,7]; W:double[5,3,3,3]", "w = Cast <to = 1> (W)"),
    _plumbed("cast_to_half", "x[2,3,6,7]; W:float[5,3,3,3] b[5]", "w = Cast <to = 10> (W)", dtype="float16"),
    _plumbed("cast_to_bfloat16", "x[2,3,6,7]; W:float[5,3,3,3] b[5]", "w = Cast <to = 16> (W)", **_BFLOAT16),
    _plumbed("cast_like", "x[2,3,6,7]; W:double[5,3,3,3]", "w = CastLike (W, x)"),
    _plumbed("transpose", "x[2,3,6,7]; W[3,3,3,5]", "w = Transpose <perm = [3, 2, 0, 1]> (W)"),
    _plumbed("transpose_default", "x[2,3,6,7]; W[3,3,3,5]", "w = Transpose (W)"),
    _plumbed("reshape", "x[2,3,6,7]; W[135] s:int64[4]", "w = Reshape (W, s)", fill={"s": [5, 3, -1, 3]}),
    _plumbed("reshape_keeps", "x[2,3,6,7]; W[5,27] s:int64[4]", "w = Reshape (W, s)", fill={"s": [0, 3, 3, 3]}),
    _plumbed("unsqueeze", "x[2,3,6,7]; W[5,3] s:int64[2]", "w = Unsqueeze (W, s)", fill={"s": [2, 3]}),
    _plumbed("unsqueeze_opset_11", "x[2,3,6,7]; W[5,3]", "w = Unsqueeze <axes = [2, 3]> (W)", opset=11),
    _plumbed("squeeze", "x[2,3,6,7]; W[1,5,3,3,3] s:int64[1]", "w = Squeeze (W, s)", fill={"s": [0]}),
    _plumbed("squeeze_all", "x[2,3,6,7]; W[1,5,3,3,3]", "w = Squeeze (W)"),
    _plumbed("concat", "x[2,3,6,7]; U[2,3,3,3] V[3,3,3,3]", "w = Concat <axis = 0> (U, V)"),
    _plumbed("slice", "x[2,3,6,7]; W[7,3,3,3] s:int64[1] t:int64[1]", "w = Slice (W, s, t)", fill={"s": [1], "t": [6]}),
    _plumbed("slice_opset_9", "x[2,3,6,7]; W[7,3,3,3]", "w = Slice <starts = [1], ends = [6], axes = [0]> (W)", opset=9),
    _plumbed("expand", "x[2,3,6,7]; W[5,1,1,3] s:int64[4]", "w = Expand (W, s)", fill={"s": [5, 3, 3, 3]}),
    _plumbed(
        "arithmetic", "x[2,3,6,7]; V[5,3,3,3] g[5,1,1,1] n_var[5,1,1,1]", "r = Sqrt (n_var)  q = Div (V, r)  w = Mul (q, g)"
    ),
    _plumbed("negative", "x[2,3,6,7]; V[5,3,3,3] k[]", "n = Neg (V)  w = Sub (n, k)"),
    _plumbed("of_shape", "x[2,3,6,7]; w[5,3,3,3] s:int64[1]", "b = ConstantOfShape (s)", fill={"s": [5]}),
    _plumbed("torch_bias", "x[2,3,6,7]; w[5,3,3,3]", _TORCH_BIAS, fill={"zero": 0}),
    _plumbed("torch_bias_dynamic_input", "x[N,3,H,V]; w[5,3,2,2]", _TORCH_BIAS, fill={"zero": 0}),
    _plumbed(
        "torch_bias_half",
        "x[2,3,6,7]; w[5,3,3,3]",
        _TORCH_BIAS.replace("Fill <shape = [1]>", "Constant <value_floats = [0.0]>"),
        dtype="float16",
    ),
    _plumbed(
        "torch_bias_shape_slice",
        "x[2,3,6,7]; w[5,3,3,3] zero[1]",
        "z = CastLike (zero, x)  n = Shape <end = 1> (w)  b = Expand (z, n)",
    ),
    _plumbed("cast_there_and_back", "x[2,3,6,7]; W[5,3,3,3]", "v = Cast <to = 10> (W)  w = Cast <to = 1> (v)"),
    _plumbed("unsqueeze_negative", "x[2,3,6,7]; W[5,3] s:int64[2]", "w = Unsqueeze (W, s)", fill={"s": [-1, -2]}),
    _plumbed("squeeze_opset_11", "x[2,3,6,7]; W[1,5,3,3,3]", "w = Squeeze <axes = [0]> (W)", opset=11),
    _plumbed("concat_last", "x[2,3,6,7]; U[5,3,3,2] V[5,3,3,1]", "w = Concat <axis = -1> (U, V)"),
    _plumbed(
        "slice_negative",
        "x[2,3,6,7]; W[5,3,3,5] s:int64[1] t:int64[1] a:int64[1]",
        "w = Slice (W, s, t, a)",
        fill={"s": [-3], "t": [9223372036854775807], "a": [-1]},
    ),
    _plumbed("gather", "x[2,3,6,7]; W[7,3,3,3] i:int64[5]", "w = Gather (W, i)", fill={"i": [6, 0, 3, -1, 2]}),
    _plumbed("gather_last", "x[2,3,6,7]; W[5,3,3,5] i:int64[3]", "w = Gather <axis = 3> (W, i)", fill={"i": [4, 0, 0]}),
    _plumbed(
        "power", "x[2,3,6,7]; V[5,3,3,3] e[] n_var[]", "p = Pow (V, e)  r = Reciprocal (n_var)  w = Mul (r, p)", fill={"e": 3}
    ),
    _plumbed(
        "reshape_computed",
        "x[2,3,6,7]; V[5,3,3,3] W[135] n:int64[1]",
        "s = Shape <end = -1> (V)  t = Concat <axis = 0> (s, n)  w = Reshape (W, t)",
        outputs=_OF_CONV,
        fill={"n": [3]},
    ),
    _plumbed(
        "reshape_divided",
        "x[2,3,6,7]; W[135] m:int64[4] n:int64[1] k:int64[4]",
        "t = Div (m, n)  u = Mul (t, k)  w = Reshape (W, u)",
        outputs=_OF_CONV,
        fill={"m": [-11, 7, 7, 7], "n": [2], "k": [-1, 1, 1, 1]},
    ),
    _plumbed(
        "of_shape_filled", "x[2,3,6,7]; w[5,3,3,3] s:int64[1]", "b = ConstantOfShape <value = float[1] {0.75}> (s)", fill={"s": 5}
    ),
    _plumbed(
        "scalar_expanded",
        "x[2,3,6,7]; w[5,3,3,3] s:int64[1]",
        "v = Constant <value_float = 0.5> ()  b = Expand (v, s)",
        fill={"s": 5},
    ),
    _plumbed(
        "of_constants",
        "x[2,3,6,7]; W[5,3,1,1] s:int64[4]",
        "b = Fill <shape = [5]> ()  v = Identity (W)  w = Expand (v, s)",
        fill={"s": [5, 3, 3, 3]},
        after="Constant Conv",
    ),
    CONV.but(
        "constant_data", tensors="x[1]; K[2,3,6,7] W[5,3,3,3]", body="c = Conv (K, W)  y = BN5 (c)  z = Relu (x)", outputs="y z"
    ),
    CONV.but("constant_sparse", "BNF006", edit=make_sparse, no_runtime="it comes out as it was"),
    CONV.but(
        "constant_parameters",
        tensors="x[2,3,6,7]; W[5,3,3,3] g_scale:float16[5] b[1,5] s:int64[1] m[1] n:int64[1] v_var[5] e[]",
        body="g = Cast <to = 1> (g_scale)  h = Identity (g)  bb = Reshape (b, s)  mm = Expand (m, n)  vv = Add (v_var, e)"
        "  c = Conv (x, W)  y = BatchNormalization (c, h, bb, mm, vv)",
        fill={"s": [-1], "n": [5], "e": 0.125},
        after="Conv",
    ),
    CONV.but(
        "constant_nodes_as_parameters",
        tensors="x[2,3,6,7]; W[5,3,3,3]",
        body='y_scale = Fill <shape = [5], form = "floats"> ()  y_bias = Fill <shape = [5]> ()'
        "  y_mean = Fill <shape = [5]> ()  y_var = Fill <shape = [5]> ()  c = Conv (x, W)  y = BN5 (c)",
        after="Conv",
    ),
    GEMM.but(
        "constant_transpose_gemm", tensors="x[3,4]; W[5,4]", body="w = Transpose (W)  c = Gemm (x, w)  y = BN5 (c)", after="Gemm"
    ),
    MATMUL.but(
        "constant_transpose_matmul",
        tensors="x[3,4]; W[5,4]",
        body="w = Transpose (W)  c = MatMul (x, w)  y = BN5 (c)",
        after="Add MatMul",
    ),
    _plumbed(
        "identity_read_elsewhere",
        "x[2,3,6,7]; W[5,3,3,3]",
        "w = Identity (W)  z = Relu (w)",
        outputs="y z",
        after="Conv Identity Relu",
        notes="BNF016",
    ),
    _plumbed(
        "identity_is_output", "x[2,3,6,7]; W[5,3,3,3]", "w = Identity (W)", outputs="y w", after="Conv Identity", notes="BNF016"
    ),
    _plumbed(
        "source_read_elsewhere", "x[2,3,6,7]; W[5,3,3,3]", "w = Identity (W)  z = Relu (W)", outputs="y z", after="Conv Relu"
    ),
    CONV.but(
        "constant_plumbing_shared",
        "Conv Conv",
        tensors="x[2,3,6,7]; W[3,3,3,5]",
        body="w = Transpose (W)  c = Conv (x, w)  y = BN5 (c)  d = Conv (x, w)  z = BN5 (d)",
        outputs="y z",
        after="Conv Conv",
        notes="BNF016",
    ),
    CONV.but("constant_in_numbers", edit=store_as_numbers),
    CONV.but("constant_in_numbers_half", edit=store_as_numbers, dtype="float16"),
    CONV.but("constant_in_numbers_double", edit=store_as_numbers, dtype="double", no_runtime=NO_DOUBLE),
    CONV.but("computed_weight", "BNF006", tensors="x[2,3,6,7] v[5,3,3,3];", body="W = Relu (v)  c = Conv (x, W)  y = BN5 (c)"),
    CONV.but("runtime_weight", "BNF006", tensors="x[2,3,6,7] W[5,3,3,3];"),
    CONV.but(
        "runtime_weight_through_identity",
        "BNF006",
        tensors="x[2,3,6,7] v[5,3,3,3];",
        body="W = Identity (v)  c = Conv (x, W)  y = BN5 (c)",
    ),
    *(CONV.but(f"runtime_{name}", "BNF006", tensors=f"x[2,3,6,7] y_{name}[5]; W[5,3,3,3]") for name in _PARAMETERS),
    GEMM.but("runtime_weight_gemm", "BNF006", tensors="x[3,4] W[4,5];"),
    TRANSPOSED.but("runtime_weight_conv_transpose", "BNF006", tensors="x[2,4,5,6] W[4,3,3,2];"),
)

_ALL = ("W", *(f"y_{suffix}" for suffix in _PARAMETERS))
_group(
    CONV.but("overridable", "BNF006", overridable=_ALL),
    CONV.but("overridable_weight", "BNF006", overridable=("W",)),
    CONV.but("overridable_ir_4", "BNF006", overridable=("W",), ir=4),
    BIASED.but("overridable_bias", "BNF006", overridable=("b",)),
    *(CONV.but(f"overridable_bn_{suffix}", "BNF006", overridable=(f"y_{suffix}",)) for suffix in _PARAMETERS),
    CONV.but("overridable_frozen", overridable=_ALL, options={"freeze_initializers": True}),
    CONV.but("overridable_frozen_ir_4", overridable=_ALL, ir=4, options={"freeze_initializers": True}),
    BIASED.but("overridable_frozen_bias", overridable=("b",), options={"freeze_initializers": True}),
    CONV.but(
        "bn_opset_1",
        body="c = Conv (x, W)  y = BN5 <is_test = 1, consumed_inputs = [0, 0, 0, 1, 1]> (c)",
        outputs=_OF_CONV,
        opset=1,
        ir=3,
        overridable=_ALL,
        no_runtime=NO_OPSET_6,
    ),
    CONV.but("overridable_ir_3", overridable=_ALL, ir=3, opset=7),
    BIASED.but("overridable_ir_3_bias", overridable=(*_ALL, "b"), ir=3, opset=7),
    MATMUL.but("overridable_ir_3_matmul", overridable=_ALL, ir=3, opset=7, after="MatMul Add"),
    CONV.but(
        "overridable_ir_3_shared_weight",
        "Conv Conv",
        body="c = Conv (x, W)  y = BN5 (c)  d = Conv (x, W)  z = BN5 (d)",
        outputs="y z",
        overridable=(*_ALL, *(f"z_{suffix}" for suffix in _PARAMETERS)),
        ir=3,
        opset=7,
        notes="BNF016",
    ),
    CONV.but(
        "overridable_frozen_and_refused", "BNF007", overridable=_ALL, options={"freeze_initializers": True}, fill={"y_var": -1}
    ),
    CONV.but("overridable_ir_3_frozen", overridable=_ALL, ir=3, opset=7, options={"freeze_initializers": True}),
    CONV.but(
        "overridable_one_of_two",
        "BNF006 Conv",
        tensors="x[2,3,6,7]; W[5,3,3,3] V[4,3,2,2]",
        body="c = Conv (x, W)  y = BN5 (c)  d = Conv (x, V)  z = BN4 (d)",
        outputs="y z",
        overridable=("W",),
    ),
    CONV.but(
        "overridable_through_identity",
        "BNF006",
        overridable=("V",),
        tensors="x[2,3,6,7]; V[5,3,3,3]",
        body="W = Identity (V)  c = Conv (x, W)  y = BN5 (c)",
    ),
    GEMM.but(
        "overridable_addend_beta_zero",
        tensors="x[3,4]; W[4,5] k[5]",
        overridable=("k",),
        body="c = Gemm <beta = 0.0> (x, W, k)  y = BN5 (c)",
    ),
    DENSE.but("overridable_constant_of_add", "BNF005|BNF006", overridable=("k",)),
    CONV.but("frozen_without_overridable", options={"freeze_initializers": True}),
)

TWO = CONV.but(
    "shared_weight", "Conv Conv", body="c = Conv (x, W)  y = BN5 (c)  d = Conv (x, W)  z = BN5 (d)", outputs="y z", notes="BNF016"
)
_SAME = "BatchNormalization (d, y_scale, y_bias, y_mean, y_var)"
_group(
    TWO,
    TWO.but(
        "shared_weight_same_map",
        body=f"c = Conv (x, W)  y = BN5 (c)  d = Conv (r, W)  z = {_SAME}",
        tensors="x[2,3,6,7] r[2,3,6,7]; W[5,3,3,3]",
    ),
    TWO.but(
        "shared_weight_same_map_and_reader",
        body=f"c = Conv (x, W)  y = BN5 (c)  d = Conv (r, W)  z = {_SAME}  q = Relu (W)",
        tensors="x[2,3,6,7] r[2,3,6,7]; W[5,3,3,3]",
        outputs="y z q",
        notes="BNF016",
    ),
    TWO.but(
        "shared_weight_of_three",
        "Conv Conv Conv",
        body=f"c = Conv (x, W)  y = BN5 (c)  d = Conv (r, W)  z = {_SAME}  e = Conv (x, W)  q = BN5 (e)",
        tensors="x[2,3,6,7] r[2,3,6,7]; W[5,3,3,3]",
        outputs="y z q",
        notes="BNF016",
    ),
    TWO.but("shared_weight_one_without_bn", "Conv", body="c = Conv (x, W)  y = BN5 (c)  z = Conv (x, W)", notes="BNF016"),
    TWO.but(
        "shared_weight_one_refused",
        "Conv BNF004",
        body="c = Conv (x, W)  y = BN5 (c)  d = Conv (x, W)  z = BN5 (d)  q = Relu (d)",
        outputs="y z q",
        notes="BNF016",
    ),
    CONV.but("weight_is_output", outputs="y W[5,3,3,3]", notes="BNF016"),
    CONV.but("weight_read_elsewhere", body=CONV.body + "  z = Relu (W)", outputs="y z", notes="BNF016"),
    CONV.but(
        "weight_shape_read_elsewhere",
        body="s = Shape (W)  z = ConstantOfShape (s)  " + CONV.body,
        outputs="y z",
        notes="BNF016",
    ),
    GEMM.but(
        "shared_weight_two_operators",
        "Gemm MatMul",
        tensors="x[3,4]; W[4,5]",
        outputs="y z",
        body="c = Gemm (x, W)  y = BN5 (c)  d = MatMul (x, W)  z = BN5 (d)",
        notes="BNF016",
        after="Add Gemm MatMul",
    ),
    GEMM.but(
        "shared_weight_two_axes",
        "Gemm Gemm",
        tensors="x[5,5]; W[5,5]",
        outputs="y z",
        body=f"c = Gemm (x, W)  y = BN5 (c)  d = Gemm <transB = 1> (x, W)  z = {_SAME}",
        notes="BNF016",
    ),
    BIASED.but(
        "shared_bias",
        "Conv Conv",
        tensors="x[2,3,6,7]; W[5,3,3,3] V[5,3,2,2] b[5]",
        body="c = Conv (x, W, b)  y = BN5 (c)  d = Conv (x, V, b)  z = BN5 (d)",
        outputs="y z",
    ),
    BIASED.but("bias_read_elsewhere", body=BIASED.body + "  z = Relu (b)", outputs="y z"),
    BIASED.but("bias_is_output", outputs="y b[5]"),
    BIASED.but(
        "bias_read_by_another_bn",
        "Conv BNF005",
        tensors="x[2,3,6,7] r[2,5]; W[5,3,3,3] b[5] s_scale[5] m[5] v_var[5]",
        body=BIASED.body + "  z = BatchNormalization (r, s_scale, b, m, v_var)",
        outputs="y z",
    ),
    CONV.but(
        "weight_is_data_of_another",
        "Conv",
        tensors="x[2,3,6,7] V[2,3,2,2]; W[5,3,3,3]",
        body=CONV.body + "  z = Conv (W, V)",
        outputs="y z",
        notes="BNF016",
    ),
)


def _with_one(channel: int, value: float) -> np.ndarray:
    values = np.ones((5, 3, 3, 3), np.float32)
    values[channel, 1, 1, 1] = value
    return values


_BETWEEN = {"Relu": "BNF005|BNF011", "Sigmoid": "BNF005", "Sqrt": "BNF005", "Reciprocal": "BNF005"}
_group(
    *(
        CONV.but(f"{op.lower()}_between", code, body=f"c = Conv (x, W)  d = {op} (c)  y = BN5 (d)")
        for op, code in _BETWEEN.items()
    ),
    CONV.but("fan_out", "BNF004", body=CONV.body + "  z = Relu (c)", outputs="y z"),
    CONV.but("fan_out_to_two_bns", "BNF004 BNF004", body="c = Conv (x, W)  y = BN5 (c)  z = BN5 (c)", outputs="y z"),
    CONV.but("fan_out_unread", "BNF004", body=CONV.body + "  z = Relu (c)"),
    CONV.but("graph_output", "BNF004", outputs="y c"),
    CONV.but("no_operator", "BNF005", tensors="x[2,5,6,7];", body="y = BN5 (x)"),
    CONV.but("normalizes_a_constant", "BNF005", tensors="x[1]; W[2,5,3,3]", body="y = BN5 (W)  z = Relu (x)", outputs="y z"),
    CONV.but("variance_negative", "BNF007", fill={"y_var": -1}),
    CONV.but("variance_negative_in_one_channel", "BNF007", fill={"y_var": [1, 1, -1, 1, 1]}),
    CONV.but("variance_zero", notes="BNF017", fill={"y_var": 0}),
    CONV.but("variance_zero_epsilon_zero", "BNF007", fill={"y_var": 0}, body="c = Conv (x, W)  y = BN5 <epsilon = 0.0> (c)"),
    CONV.but("variance_cancels_epsilon", "BNF007", fill={"y_var": -0.5}, body="c = Conv (x, W)  y = BN5 <epsilon = 0.5> (c)"),
    CONV.but("inf_var", "BNF007|Conv", fill={"y_var": [1, 1, np.inf, 1, 1]}),
    CONV.but("inf_weight", "BNF007|BNF008|Conv", fill={"W": _with_one(0, np.inf)}),
    CONV.but("inf_weight_gamma_zero", "BNF007|BNF008|Conv", fill={"W": _with_one(2, np.inf)}),
    CONV.but("nan_weight", "BNF007|BNF008|Conv", fill={"W": _with_one(1, np.nan)}),
    *(CONV.but(f"nan_{suffix}", "BNF007", fill={f"y_{suffix}": [1, 1, np.nan, 1, 1]}) for suffix in _PARAMETERS),
    *(CONV.but(f"inf_{suffix}", "BNF007", fill={f"y_{suffix}": [1, 1, np.inf, 1, 1]}) for suffix in ("scale", "bias", "mean")),
    CONV.but("nan_bias_gamma_zero", "BNF007", fill={"y_bias": [1, 1, np.nan, 1, 1], "y_scale": [1, 1, 0, 1, 1]}),
    CONV.but("untrained", notes="BNF017", fill={"y_mean": 0, "y_var": 1}),
    CONV.but("half_overflow", "BNF008", dtype="float16", fill={"W": 30000, "y_scale": 4, "y_var": 1}),
    CONV.but(
        "half_largest",
        dtype="float16",
        fill={"x": np.full((2, 3, 6, 7), 1e-3), "W": 16376, "y_scale": 4, "y_var": 1},
        body="c = Conv (x, W)  y = BN5 <epsilon = 0.0> (c)",
    ),
    CONV.but("half_bias_overflow", "BNF008", dtype="float16", fill={"y_mean": -30000, "y_scale": 4, "y_var": 1}),
    MATMUL.but("half_offset_overflow", "BNF008", dtype="float16", fill={"y_mean": -30000, "y_scale": 4, "y_var": 1}),
    DENSE.but("half_addend_overflow", "BNF008", dtype="float16", fill={"k": 30000, "y_scale": 4, "y_var": 1}),
    CONV.but("float_overflow", "BNF008", fill={"W": 1e38, "y_scale": 40, "y_var": 1}),
    CONV.but("double_overflow", "BNF008", dtype="double", fill={"W": 1e308, "y_scale": 40, "y_var": 1}, no_runtime=NO_DOUBLE),
    BIASED.but(
        "runtime_bias_overflow",
        "BNF008",
        tensors="x[2,3,6,7] b[5]; W[5,3,3,3]",
        dtype="float16",
        fill={"y_mean": -30000, "y_scale": 4, "y_var": 1},
    ),
    CONV.but("half_subnormal", notes="BNF009", dtype="float16", fill={"W": 1e-3, "y_scale": 1e-3, "y_var": 1}),
    CONV.but("float_subnormal", notes="BNF009", fill={"W": 1e-30, "y_scale": 1e-10, "y_var": 1}),
    CONV.but(
        "half_small_epsilon",
        dtype="float16",
        fill={"y_var": 0, "y_scale": 0.01},
        body="c = Conv (x, W)  y = BN5 <epsilon = 0.00001> (c)",
        notes="BNF017",
    ),
    CONV.but(
        "transposed_away",
        "BNF005|BNF012",
        tensors="x[5,3,5,5]; W[5,3,1,1]",
        body="c = Conv (x, W)  d = Transpose <perm = [0, 2, 3, 1]> (c)  y = BN5 (d)",
    ),
    GEMM.but(
        "transposed_away_gemm", "BNF005|BNF012", tensors="x[5,5]; W[5,5]", body="c = Gemm (x, W)  d = Transpose (c)  y = BN5 (d)"
    ),
    CONV.but(
        "reshaped_away",
        "BNF005|BNF012",
        tensors="x[4,3,4,4]; W[4,3,1,1] s:int64[4]",
        fill={"s": [4, 4, 4, 4]},
        body="c = Conv (x, W)  t = Transpose (c)  d = Reshape (t, s)  y = BN4 (d)",
    ),
    CONV.but(
        "added_along_another_axis",
        "Conv|BNF012|BNF020",
        tensors="x[3,3,3,3]; W[3,3,1,1] k[3]",
        body="c = Conv (x, W)  d = Add (c, k)  y = BN3 (d)",
    ),
    CONV.but(
        "added_along_channels",
        "Conv",
        tensors="x[3,3,3,3]; W[3,3,1,1] k[3,1,1]",
        body="c = Conv (x, W)  d = Add (c, k)  y = BN3 (d)",
        after="Conv",
    ),
    CONV.but(
        "added_up_to_more_channels",
        "BNF012",
        tensors="x[3,3,3,3]; W[1,3,1,1] k[4,1,1]",
        body="c = Conv (x, W)  d = Add (c, k)  y = BN4 (d)",
    ),
    CONV.but(
        "added_up_to_more_channels_unknown_shape",
        "BNF012|BNF018",
        tensors="v[3,3,3,3] n:int64[K]; W[1,3,1,1] k[4,1,1]",
        fill={"n": [3, 3, 3, 3]},
        body="x = Reshape (v, n)  c = Conv (x, W)  d = Add (c, k)  y = BN4 (d)",
        outputs="y[A,B,C,D]",
    ),
    CONV.but(
        "side_output_is_read",
        "BNF001|BNF004|BNF005",
        outputs="y mean[5]",
        opset=6,
        no_runtime=NO_OPSET_6,
        body="c = Conv (x, W)  y, mean, v, sm, sv = BN5 <is_test = 1> (c)",
    ),
    CONV.but("dead", "Conv", body=CONV.body + "  z = Relu (x)", outputs="z"),
)

_group(
    CONV.but("keep", "BNF021", options={"keep": ["y"]}),
    CONV.but("keep_glob", "BNF021", notes="BNF023", options={"keep": ["nothing", "[xyz]*"]}),
    CONV.but("keep_another", notes="BNF023", options={"keep": ["c"]}),
    CONV.but("only", options={"only": ["y"]}),
    CONV.but("only_another", "BNF021", notes="BNF023", options={"only": ["z", "c*"]}),
    CONV.but("keep_beats_only", "BNF021", options={"only": ["y"], "keep": ["y"]}),
    CONV.but("keep_second_of_chain", "Conv BNF021", options={"keep": ["y"]}, body="c = Conv (x, W)  d = BN5 (c)  y = BN5 (d)"),
    CONV.but(
        "keep_first_of_chain",
        "BNF021 BNF005|BNF021",
        options={"keep": ["d"]},
        body="c = Conv (x, W)  d = BN5 (c)  y = BN5 (d)",
    ),
    CONV.but(
        "keep_behind_a_map",
        "BNF021",
        options={"keep": ["y"]},
        tensors="x[2,5,6,7]; k[5,1,1]",
        body="d = Add (x, k)  y = BN5 (d)",
    ),
    TWO.but("only_one_of_two", "Conv BNF021", options={"only": ["y"]}, notes="BNF016"),
)

CASES = tuple(_ROWS)
