"""The patterns that `benchmarks/patterns.py` measures: one small model each, in groups.

To add one, append a `Pattern` to its group in `GROUPS`:

    Pattern("Conv", "x[N,3,6,7]; W[5,3,3,3] s,t,m,v[5]", f"c = Conv (x, W)  y = {bn('c')}")

The second string declares the graph's inputs and, after the semicolon, its weights, as `names[shape]` or `names:type[shape]`.
An extent that is a letter is dynamic. Values are seeded by the name, whose first letter says what they are: `v` positive (a
variance), `s` of both signs (a scale), `p` positive (a scale without negatives), `d` small and positive (a quantization step),
`z` zeros, `o` ones, anything else normally distributed. `bn("c")` writes `BatchNormalization (c, s, t, m, v)`.

A tool *folds* a pattern when no BatchNormalization is left, at most `maps` operators of element-wise arithmetic and at most
`linear` linear operators: what the best result known holds. A pattern with `trap=True` cannot be folded without changing what
the model computes, what its caller can set, or how often it computes it: leaving it is the right outcome.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx.parser
from onnx import helper, numpy_helper

_DTYPES: dict[str, Any] = {
    "float": np.float32,
    "double": np.float64,
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "int4": ml_dtypes.int4,
    "int8": np.int8,
    "uint8": np.uint8,
    "int32": np.int32,
    "int64": np.int64,
    "bool": np.bool_,
}
_DRAWS: dict[str, Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]] = {
    "v": lambda rng, shape: rng.uniform(0.4, 2.5, shape),
    "p": lambda rng, shape: rng.uniform(0.5, 1.5, shape),
    "s": lambda rng, shape: rng.uniform(0.5, 1.5, shape) * np.where(np.arange(np.prod(shape)) % 3 == 1, -1.0, 1.0).reshape(shape),
    "d": lambda rng, shape: rng.uniform(0.01, 0.05, shape),
    "z": lambda rng, shape: np.zeros(shape),
    "o": lambda rng, shape: np.ones(shape),
}
_RANGES = {"int4": (-7, 8), "int8": (-100, 100), "uint8": (0, 200), "int32": (-3000, 3000), "int64": (-3, 3)}


@dataclass(frozen=True)
class _Tensor:
    name: str
    dtype: str
    extents: tuple[str, ...]

    def values(self, salt: str = "", dynamic: int = 2) -> np.ndarray:
        """Seeded values; `salt` draws others, and `dynamic` is the size of every dynamic extent."""
        shape = tuple(int(each) if each.isdigit() else dynamic for each in self.extents)
        rng = np.random.default_rng(zlib.crc32((self.name + salt).encode()))
        if self.dtype in _RANGES:
            return np.asarray(rng.integers(*_RANGES[self.dtype], shape)).astype(_DTYPES[self.dtype])
        draw = _DRAWS.get(self.name[0], lambda rng, shape: rng.standard_normal(shape))
        return np.asarray(draw(rng, shape)).astype(_DTYPES[self.dtype])

    @property
    def declaration(self) -> str:
        shape = f"[{', '.join(self.extents)}]" if self.extents else ""
        return f"{self.dtype}{shape} {self.name}"


@dataclass(frozen=True)
class Pattern:
    """One pattern.

    Attributes:
        name: unique; the row's label.
        tensors: "inputs; weights".
        body: the nodes of the main graph, as ONNX text.
        maps: element-wise operators that the best result holds.
        linear: linear operators that the best result holds; None for as many as the pattern has.
        trap: whether leaving the pattern alone is the right outcome.
        outputs: the graph's outputs, as `name` or `name:type[shape]`, whose type onnx infers where it is not given.
        functions: local functions of the domain "local", as ONNX text without their header.
        opset, ir: of the model.
        dtype: type of the tensors that declare none.
        fill: name → values, for weights and inputs that need certain ones.
        overridable: weights that are inputs as well; the second feed overrides them.
        edit: a last change to the model, for what the text form cannot say.
        kernel: whether onnxruntime can run the pattern on a CPU; where it cannot, a float64 evaluator is the judge.
    """

    name: str
    tensors: str
    body: str
    maps: int = 0
    linear: int | None = None
    trap: bool = False
    outputs: str = "y"
    functions: str = ""
    opset: int = 17
    ir: int = 8
    dtype: str = "float"
    fill: dict[str, Any] = field(default_factory=dict)
    overridable: tuple[str, ...] = ()
    edit: Callable[[onnx.ModelProto], None] | None = None
    kernel: bool = True

    def model(self) -> onnx.ModelProto:
        """The model, checked by onnx."""
        inputs = ", ".join(each.declaration for each in self.inputs)
        outputs = ", ".join(" ".join(reversed(each.split(":"))) for each in self.outputs.split())
        imports = f'"" : {self.opset}' + (', "local" : 1' if self.functions else "")
        head = f"<ir_version: {self.ir}, opset_import: [{imports}]>"
        function = f'<domain: "local", opset_import: ["" : {self.opset}]> {self.functions}' if self.functions else ""
        model = onnx.parser.parse_model(f"{head} pattern ({inputs}) => ({outputs}) {{ {self.body} }} {function}")
        for each in self.weights:
            model.graph.initializer.append(numpy_helper.from_array(self._values(each), each.name))
            if each.name in self.overridable or self.ir < 4:
                kind = model.graph.initializer[-1]
                model.graph.input.append(helper.make_tensor_value_info(each.name, kind.data_type, kind.dims))
        inferred = onnx.shape_inference.infer_shapes(model).graph.output
        for mine, found in zip(model.graph.output, inferred, strict=True):
            if not mine.type.tensor_type.HasField("shape"):
                mine.type.CopyFrom(found.type)
        if self.edit is not None:
            self.edit(model)
        onnx.checker.check_model(model)
        return model

    def feeds(self) -> list[dict[str, np.ndarray]]:
        """Two feeds that differ in values, in dynamic extents, in every bool, and in what they override."""
        feeds = []
        for turn in range(2):
            feed = {each.name: self._values(each, f"/{turn}", 2 + turn) for each in self.inputs if each.dtype != "bool"}
            feed |= {each.name: np.array(turn == 0) for each in self.inputs if each.dtype == "bool"}
            feeds.append(feed)
        feeds[1] |= {each.name: each.values("/override") for each in self.weights if each.name in self.overridable}
        return feeds

    def _values(self, tensor: _Tensor, salt: str = "", dynamic: int = 2) -> np.ndarray:
        values = tensor.values(salt, dynamic)
        if tensor.name not in self.fill:
            return values
        return np.broadcast_to(np.asarray(self.fill[tensor.name]), values.shape).astype(values.dtype)

    @property
    def inputs(self) -> list[_Tensor]:
        """What the caller feeds."""
        return list(_parse(self.tensors.partition(";")[0], self.dtype))

    @property
    def weights(self) -> list[_Tensor]:
        """What the model stores."""
        return list(_parse(self.tensors.partition(";")[2], self.dtype))


def _parse(text: str, dtype: str) -> Iterator[_Tensor]:
    for declaration in text.split():
        names, _, extents = declaration.removesuffix("]").partition("[")
        names, _, given = names.partition(":")
        for name in names.split(","):
            yield _Tensor(name, given or dtype, tuple(each for each in extents.split(",") if each))


def bn(tensor: str, scale: str = "s", shift: str = "t", mean: str = "m", var: str = "v", told: str = "") -> str:
    """BatchNormalization as ONNX text; `told` holds its attributes."""
    return f"BatchNormalization {told} ({tensor}, {scale}, {shift}, {mean}, {var})"


def bn2(tensor: str, told: str = "") -> str:
    """A second BatchNormalization, with the parameters s2, t2, m2, v2."""
    return bn(tensor, "s2", "t2", "m2", "v2", told)


# -- edits ------------------------------------------------------------------------------------------------------------


def _empty_outputs(model: onnx.ModelProto) -> None:
    node = next(each for each in model.graph.node if each.op_type == "BatchNormalization")
    node.output.extend([""] * ((3 if model.opset_import[0].version >= 14 else 5) - len(node.output)))


def _weights_as_nodes(model: onnx.ModelProto) -> None:
    for tensor in reversed(model.graph.initializer):
        model.graph.node.insert(0, helper.make_node("Constant", [], [tensor.name], value=tensor))
    del model.graph.initializer[:]


def _weights_as_numbers(model: onnx.ModelProto) -> None:
    for tensor in reversed(model.graph.initializer):
        if len(tensor.dims) == 1:
            values = numpy_helper.to_array(tensor).tolist()
            model.graph.node.insert(0, helper.make_node("Constant", [], [tensor.name], value_floats=values))
    kept = [each for each in model.graph.initializer if len(each.dims) != 1]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def _weights_in_fields(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        tensor.CopyFrom(helper.make_tensor(tensor.name, tensor.data_type, tensor.dims, array.ravel().tolist()))


def _weights_into_function(model: onnx.ModelProto) -> None:
    for tensor in reversed(model.graph.initializer):
        model.functions[0].node.insert(0, helper.make_node("Constant", [], [tensor.name], value=tensor))
    del model.graph.initializer[:]


def _weights_into_body(model: onnx.ModelProto) -> None:
    bodies = [each.g for node in model.graph.node for each in node.attribute if each.type == onnx.AttributeProto.GRAPH]
    for body in bodies:
        read = {name for node in body.node for name in node.input}
        body.initializer.extend(each for each in model.graph.initializer if each.name in read)
    del model.graph.initializer[:]


# -- the rows ---------------------------------------------------------------------------------------------------------

P = Pattern
_CONV = "x[N,3,6,7]; W[5,3,3,3] s,t,m,v[5]"
_CONV_BN = f"c = Conv (x, W)  y = {bn('c')}"
_FIXED = "x[2,3,6,7]; W[5,3,3,3] s,t,m,v[5]"
_GEMM = "x[N,4]; W[4,5] s,t,m,v[5]"
_OPEN = "<pads = [1, 1, 1, 1]>"
_BRANCHED = "y:float[2,5,4,5]"
_IF = (
    "y = If (flag) <then_branch = yes () => (float[2,5,4,5] a) {{ {then} }},"
    " else_branch = no () => (float[2,5,4,5] e) {{ {other} }}>"
)

_LINEAR = (
    P("Conv", _CONV, _CONV_BN),
    P("Conv with a bias", f"{_CONV} b[5]", f"c = Conv (x, W, b)  y = {bn('c')}"),
    P("Conv 1-d", "x[N,3,9]; W[4,3,3] s,t,m,v[4]", _CONV_BN),
    P("Conv 3-d", "x[N,2,4,5,3]; W[4,2,2,2,2] s,t,m,v[4]", _CONV_BN),
    P(
        "Conv, padded, strided, dilated",
        "x[N,3,9,9]; W[5,3,3,3] s,t,m,v[5]",
        f"c = Conv <pads = [1, 0, 2, 1], strides = [2, 1], dilations = [2, 2]> (x, W)  y = {bn('c')}",
    ),
    P("Conv, auto_pad", _CONV, f'c = Conv <auto_pad = "SAME_UPPER"> (x, W)  y = {bn("c")}'),
    P("Conv, 2 groups", "x[N,4,6,6]; W[6,2,3,3] s,t,m,v[6]", f"c = Conv <group = 2> (x, W)  y = {bn('c')}"),
    P("Conv, depthwise", "x[N,4,6,6]; W[4,1,3,3] s,t,m,v[4]", f"c = Conv <group = 4> (x, W)  y = {bn('c')}"),
    P(
        "Conv, depthwise, two outputs a channel",
        "x[N,4,6,6]; W[8,1,3,3] s,t,m,v[8]",
        f"c = Conv <group = 4> (x, W)  y = {bn('c')}",
    ),
    P(
        "Conv with a bias from the caller",
        f"x[N,3,6,7] b[5]; {_CONV.partition(';')[2]}",
        f"c = Conv (x, W, b)  y = {bn('c')}",
        maps=2,
    ),
    P("Conv, then two BatchNormalizations", f"{_CONV} s2,t2,m2,v2[5]", f"c = Conv (x, W)  d = {bn('c')}  y = {bn2('d')}"),
    P("Conv, then Relu behind", _CONV, f"c = Conv (x, W)  d = {bn('c')}  y = Relu (d)"),
    P("Conv, Add of a [1, C, 1, 1] bias", f"{_CONV} k[1,5,1,1]", f"c = Conv (x, W)  d = Add (c, k)  y = {bn('d')}"),
    P("ConvTranspose", "x[N,4,5,6]; W[4,3,3,2] s,t,m,v[3]", f"c = ConvTranspose (x, W)  y = {bn('c')}"),
    P("ConvTranspose with a bias", "x[N,4,5,6]; W[4,3,3,2] b,s,t,m,v[3]", f"c = ConvTranspose (x, W, b)  y = {bn('c')}"),
    P(
        "ConvTranspose, as many channels in as out",
        "x[N,4,5,6]; W[4,4,3,2] s,t,m,v[4]",
        f"c = ConvTranspose <strides = [2, 2]> (x, W)  y = {bn('c')}",
    ),
    P("ConvTranspose, 2 groups", "x[N,4,5,6]; W[4,3,3,2] s,t,m,v[6]", f"c = ConvTranspose <group = 2> (x, W)  y = {bn('c')}"),
    P(
        "ConvTranspose, 2 groups, as many channels in as out",
        "x[N,4,5,6]; W[4,2,3,2] s,t,m,v[4]",
        f"c = ConvTranspose <group = 2> (x, W)  y = {bn('c')}",
    ),
    P("ConvTranspose, depthwise", "x[N,4,5,6]; W[4,1,3,2] s,t,m,v[4]", f"c = ConvTranspose <group = 4> (x, W)  y = {bn('c')}"),
    P("ConvTranspose 1-d", "x[N,4,6]; W[4,3,3] s,t,m,v[3]", f"c = ConvTranspose (x, W)  y = {bn('c')}"),
    P("Gemm", _GEMM, f"c = Gemm (x, W)  y = {bn('c')}"),
    P("Gemm with a bias", f"{_GEMM} b[5]", f"c = Gemm (x, W, b)  y = {bn('c')}"),
    P("Gemm, transB (PyTorch's Linear)", "x[N,4]; W[5,4] b,s,t,m,v[5]", f"c = Gemm <transB = 1> (x, W, b)  y = {bn('c')}"),
    P("Gemm, transB, square", "x[N,5]; W[5,5] b,s,t,m,v[5]", f"c = Gemm <transB = 1> (x, W, b)  y = {bn('c')}"),
    P("Gemm, transA", "x[4,N]; W[4,5] b,s,t,m,v[5]", f"c = Gemm <transA = 1> (x, W, b)  y = {bn('c')}"),
    P("Gemm, alpha and beta", f"{_GEMM} b[5]", f"c = Gemm <alpha = 0.5, beta = 2.0> (x, W, b)  y = {bn('c')}"),
    P("Gemm, a scalar bias", f"{_GEMM} b[]", f"c = Gemm (x, W, b)  y = {bn('c')}"),
    P("Gemm, a bias [M, N]", "x[3,4]; W[4,5] b[3,5] s,t,m,v[5]", f"c = Gemm (x, W, b)  y = {bn('c')}"),
    P("Gemm, a bias [M, 1], M = N", "x[5,4]; W[4,5] b[5,1] s,t,m,v[5]", f"c = Gemm (x, W, b)  y = {bn('c')}"),
    P("MatMul", _GEMM, f"c = MatMul (x, W)  y = {bn('c')}", maps=1),
    P("MatMul, Add", f"{_GEMM} b[5]", f"d = MatMul (x, W)  c = Add (d, b)  y = {bn('c')}", maps=1),
    P("MatMul, Add with the bias on the left", f"{_GEMM} b[5]", f"d = MatMul (x, W)  c = Add (b, d)  y = {bn('c')}", maps=1),
    P("MatMul with the weight on the left", "x[N,4,6]; W[5,4] s,t,m,v[5]", f"c = MatMul (W, x)  y = {bn('c')}", maps=1),
    P(
        "MatMul of tokens, Transpose, back",
        "x[N,6,4]; W[4,5] s,t,m,v[5]",
        f"c = MatMul (x, W)  d = Transpose <perm = [0, 2, 1]> (c)  e = {bn('d')}  y = Transpose <perm = [0, 2, 1]> (e)",
        maps=1,
    ),
    P(
        "MatMul of tokens, flattened and back (LeViT)",
        "x[2,6,4]; W[4,5] s,t,m,v[5]",
        "f = Constant <value_ints = [12, 5]> ()  g = Constant <value_ints = [2, 6, 5]> ()"
        f"  c = MatMul (x, W)  d = Reshape (c, f)  e = {bn('d')}  y = Reshape (e, g)",
        maps=1,
    ),
    P("Conv, Identity, Dropout", _CONV, f"c = Conv (x, W)  d = Identity (c)  e = Dropout (d)  y = {bn('e')}"),
    P("Conv in float16", _CONV, _CONV_BN, dtype="float16"),
    P("Gemm in float64", _GEMM, f"c = Gemm (x, W)  y = {bn('c')}", dtype="double"),
    P("Conv in bfloat16", _CONV, _CONV_BN, dtype="bfloat16", kernel=False),
    P(
        "Conv in float16, statistics in float32",
        "x[N,3,6,7]; W[5,3,3,3] s,t,m,v:float[5]",
        _CONV_BN,
        dtype="float16",
        kernel=False,
    ),
)

_CONSTANTS = (
    P("parameters in Constant nodes", _CONV, _CONV_BN, edit=_weights_as_nodes),
    P("parameters in Constant nodes, value_floats", _CONV, _CONV_BN, edit=_weights_as_numbers),
    P("parameters in float_data", _CONV, _CONV_BN, edit=_weights_in_fields),
    P(
        "parameters behind Identity",
        "x[N,3,6,7]; W[5,3,3,3] s_,t_,m_,v_[5]",
        "s = Identity (s_)  t = Identity (t_)  m = Identity (m_)  v = Identity (v_)  " + _CONV_BN,
    ),
    P("weight behind Identity", "x[N,3,6,7]; U[5,3,3,3] s,t,m,v[5]", "W = Identity (U)  " + _CONV_BN),
    P(
        "zero bias as Expand(CastLike(0, x), Shape(W)) (PyTorch, optimize=False)",
        f"{_CONV} zero:int64[]",
        f"n = Shape <start = 0, end = 1> (W)  o = CastLike (zero, x)  b = Expand (o, n)  c = Conv (x, W, b)  y = {bn('c')}",
        opset=18,
        fill={"zero": 0},
    ),
    P(
        "zero bias as Expand(Cast(0), Slice(Shape(W)))",
        f"{_CONV} zero:int64[]",
        "f = Constant <value_ints = [0]> ()  g = Constant <value_ints = [1]> ()  h = Shape (W)  n = Slice (h, f, g)"
        f"  o = Cast <to = 1> (zero)  b = Expand (o, n)  c = Conv (x, W, b)  y = {bn('c')}",
        fill={"zero": 0},
    ),
    P("Gemm, weight behind Transpose", "x[N,4]; U[5,4] s,t,m,v[5]", f"W = Transpose (U)  c = Gemm (x, W)  y = {bn('c')}"),
    P(
        "MatMul, weight behind Transpose, Add",
        "x[N,4]; U[5,4] b,s,t,m,v[5]",
        f"W = Transpose <perm = [1, 0]> (U)  d = MatMul (x, W)  c = Add (d, b)  y = {bn('c')}",
        maps=1,
    ),
    P(
        "Conv, weight behind Reshape",
        "x[N,3,6,7]; U[5,27] f:int64[4] s,t,m,v[5]",
        "W = Reshape (U, f)  " + _CONV_BN,
        fill={"f": [5, 3, 3, 3]},
    ),
    P(
        "weight made of two by Concat",
        "x[N,3,6,7]; U[2,3,3,3] V[3,3,3,3] s,t,m,v[5]",
        "W = Concat <axis = 0> (U, V)  " + _CONV_BN,
    ),
    P(
        "weight stored in float16, Cast to float32",
        "x[N,3,6,7]; U:float16[5,3,3,3] s,t,m,v[5]",
        "W = Cast <to = 1> (U)  " + _CONV_BN,
    ),
    P(
        "weight scaled by a constant (weight normalization)",
        f"{_CONV.replace('W', 'U')} g[5,1,1,1]",
        "W = Mul (U, g)  " + _CONV_BN,
    ),
    P(
        "parameters behind Squeeze",
        "x[N,3,6,7]; W[5,3,3,3] s_,t_,m_,v_[1,5] f:int64[1]",
        "s = Squeeze (s_, f)  t = Squeeze (t_, f)  m = Squeeze (m_, f)  v = Squeeze (v_, f)  " + _CONV_BN,
        fill={"f": 0},
    ),
    P(
        "mean from ConstantOfShape",
        "x[N,3,6,7]; W[5,3,3,3] s,t,v[5]",
        "f = Constant <value_ints = [5]> ()  m = ConstantOfShape (f)  " + _CONV_BN,
    ),
    P("IR 3, where every initializer is an input", _CONV, _CONV_BN, ir=3, opset=9),
    P("dynamic batch, height and width", "x[N,3,H,V]; W[5,3,2,2] s,t,m,v[5]", _CONV_BN),
)

_SHARED = (
    P(
        "one weight, two Conv, a BatchNormalization each",
        f"{_CONV} s2,t2,m2,v2[5]",
        f"c = Conv (x, W)  y = {bn('c')}  d = Conv <strides = [2, 2]> (x, W)  z = {bn2('d')}",
        outputs="y z",
    ),
    P(
        "one weight, two Conv, the same parameters",
        f"x,r[N,3,6,7]; {_CONV.partition(';')[2]}",
        f"c = Conv (x, W)  y = {bn('c')}  d = Conv (r, W)  z = {bn('d')}",
        outputs="y z",
    ),
    P(
        "one weight, a second Conv without BatchNormalization",
        f"x,r[N,3,6,7]; {_CONV.partition(';')[2]}",
        f"c = Conv (x, W)  y = {bn('c')}  z = Conv (r, W)",
        outputs="y z",
    ),
    P("weight is also a graph output", _CONV, _CONV_BN, outputs="y W:float[5,3,3,3]"),
    P("weight is also read by another operator", _CONV, f"{_CONV_BN}  z = Relu (W)", outputs="y z"),
    P(
        "bias shared by two Conv",
        "x[N,3,6,7]; W,U[5,3,3,3] b,s,t,m,v,s2,t2,m2,v2[5]",
        f"c = Conv (x, W, b)  y = {bn('c')}  d = Conv (x, U, b)  z = {bn2('d')}",
        outputs="y z",
    ),
    P("bias of the Conv is the shift of the BatchNormalization", _CONV, f"c = Conv (x, W, t)  y = {bn('c')}"),
    P("scale and shift are one tensor", "x[N,3,6,7]; W[5,3,3,3] s,m,v[5]", f"c = Conv (x, W)  y = {bn('c', 's', 's')}"),
    P(
        "two BatchNormalizations share their parameters",
        "x[N,3,6,7]; W,U[5,3,3,3] s,t,m,v[5]",
        f"c = Conv (x, W)  y = {bn('c')}  d = Conv (x, U)  z = {bn('d')}",
        outputs="y z",
    ),
    P(
        "square weight read by Gemm and by Gemm with transB",
        "x[N,5]; W[5,5] s,t,m,v,s2,t2,m2,v2[5]",
        f"c = Gemm (x, W)  y = {bn('c')}  d = Gemm <transB = 1> (x, W)  z = {bn2('d')}",
        outputs="y z",
    ),
    P(
        "weight behind one Identity, two Conv",
        "x[N,3,6,7]; U[5,3,3,3] s,t,m,v,s2,t2,m2,v2[5]",
        f"W = Identity (U)  c = Conv (x, W)  y = {bn('c')}  d = Conv (x, W)  z = {bn2('d')}",
        outputs="y z",
    ),
    P("result read by two operators", _CONV, f"c = Conv (x, W)  d = {bn('c')}  y = Relu (d)  z = Sigmoid (d)", outputs="y z"),
    P("result is a graph output and read on", _CONV, f"{_CONV_BN}  z = Relu (y)", outputs="y z"),
    P(
        "BatchNormalization, then two Conv",
        "x[N,3,6,7]; W[5,3,3,3] U[4,3,2,2] s,t,m,v[3]",
        f"d = {bn('x')}  y = Conv (d, W)  z = Conv (d, U)",
        outputs="y z",
    ),
)

_FORMS = (
    P("opset 6, is_test", _FIXED, f"c = Conv (x, W)  y = {bn('c', told='<is_test = 1>')}", opset=6, ir=3, kernel=False),
    P("opset 7", _FIXED, _CONV_BN, opset=7, ir=4),
    P("opset 7, Gemm", "x[2,4]; W[4,5] b,s,t,m,v[5]", f"c = Gemm (x, W, b)  y = {bn('c')}", opset=7, ir=4),
    P("opset 8, spatial = 1", _FIXED, f"c = Conv (x, W)  y = {bn('c', told='<spatial = 1>')}", opset=8, ir=4),
    P(
        "opset 8, spatial = 0 behind Gemm and Reshape",
        "x[2,4]; W[4,12] b[12] s,t,m,v[3,2,2] f:int64[4]",
        f"c = Gemm (x, W, b)  d = Reshape (c, f)  y = {bn('d', told='<spatial = 0>')}",
        opset=8,
        ir=4,
        fill={"f": [2, 3, 2, 2]},
        kernel=False,
    ),
    P("opset 9", _CONV, _CONV_BN, opset=9, ir=4),
    P("opset 9, empty outputs named", _CONV, _CONV_BN, opset=9, ir=4, edit=_empty_outputs, kernel=False),
    P("opset 13", _CONV, _CONV_BN, opset=13),
    P("opset 14, training_mode = 0", _CONV, f"c = Conv (x, W)  y = {bn('c', told='<training_mode = 0>')}", opset=14),
    P("opset 15, empty outputs named", _CONV, _CONV_BN, opset=15, edit=_empty_outputs, kernel=False),
    P(
        "opset 15, epsilon = 0.1, momentum",
        _CONV,
        f"c = Conv (x, W)  y = {bn('c', told='<epsilon = 0.1, momentum = 0.5>')}",
        opset=15,
    ),
    P("opset 21", _CONV, _CONV_BN, opset=21, ir=10),
    P("opset 26", _CONV, _CONV_BN, opset=26, ir=13),
    P("variance 0 in one channel, small epsilon", _CONV, _CONV_BN, fill={"v": [1.0, 0.0, 0.5, 2.0, 1.0]}),
    P("scale 0 in one channel", _CONV, _CONV_BN, fill={"s": [1.0, 0.0, -0.5, 2.0, 1.0]}),
    P(
        "in the branches of an If, weights outside",
        "x[2,3,6,7] flag:bool[]; W,U[5,3,3,3] s,t,m,v,s2,t2,m2,v2[5]",
        _IF.format(then=f"c = Conv (x, W)  a = {bn('c')}", other=f"d = Conv (x, U)  e = {bn2('d')}"),
        outputs=_BRANCHED,
    ),
    P(
        "in the branches of an If, weights inside",
        "x[2,3,6,7] flag:bool[]; W,U[5,3,3,3] s,t,m,v,s2,t2,m2,v2[5]",
        _IF.format(then=f"c = Conv (x, W)  a = {bn('c')}", other=f"d = Conv (x, U)  e = {bn2('d')}"),
        outputs=_BRANCHED,
        edit=_weights_into_body,
    ),
    P(
        "in the body of a Loop",
        "x[2,3,6,6]; W[3,3,3,3] s,t,m,v[3] n:int64[] keep:bool[]",
        "y = Loop (n, keep, x) <body = step (int64 i, bool go, float[2,3,6,6] a) => (bool on, float[2,3,6,6] e)"
        f" {{ on = Identity (go)  c = Conv {_OPEN} (a, W)  e = {bn('c')} }}>",
        outputs="y:float[2,3,6,6]",
        fill={"n": 2, "keep": True},
    ),
    P(
        "in a local function, parameters inside",
        _FIXED,
        "y = local.Block (x)",
        outputs=_BRANCHED,
        functions=f"Block (x) => (y) {{ {_CONV_BN} }}",
        edit=_weights_into_function,
    ),
    P(
        "in a local function, parameters passed in",
        _FIXED,
        "y = local.Block (x, W, s, t, m, v)",
        functions=f"Block (x, W, s, t, m, v) => (y) {{ {_CONV_BN} }}",
    ),
)

_SPREAD = "x[N,3,6,7]; W[5,3,3,3] s,t,m,v[5,1,1] eps[]"
_PRIMITIVES = (
    P("Mul, Add of [C, 1, 1]", "x[N,3,6,7]; W[5,3,3,3] s,t[5,1,1]", "c = Conv (x, W)  d = Mul (c, s)  y = Add (d, t)"),
    P("Mul, Add of [1, C, 1, 1]", "x[N,3,6,7]; W[5,3,3,3] s,t[1,5,1,1]", "c = Conv (x, W)  d = Mul (c, s)  y = Add (d, t)"),
    P(
        "Mul, Add with the constant on the left",
        "x[N,3,6,7]; W[5,3,3,3] s,t[1,5,1,1]",
        "c = Conv (x, W)  d = Mul (s, c)  y = Add (t, d)",
    ),
    P("Mul (LayerScale)", "x[N,3,6,7]; W[5,3,3,3] b[5] s[5,1,1]", "c = Conv (x, W, b)  y = Mul (c, s)"),
    P("Mul by a scalar", "x[N,3,6,7]; W[5,3,3,3] b[5] k[]", "c = Conv (x, W, b)  y = Mul (c, k)"),
    P("Div by [1, C, 1, 1]", "x[N,3,6,7]; W[5,3,3,3] b[5] s[1,5,1,1]", "c = Conv (x, W, b)  y = Div (c, s)"),
    P("Add of [1, C, 1, 1]", "x[N,3,6,7]; W[5,3,3,3] t[1,5,1,1]", "c = Conv (x, W)  y = Add (c, t)"),
    P("Sub of [1, C, 1, 1]", "x[N,3,6,7]; W[5,3,3,3] t[1,5,1,1]", "c = Conv (x, W)  y = Sub (c, t)"),
    P("constant − x", "x[N,3,6,7]; W[5,3,3,3] b[5] t[1,5,1,1]", "c = Conv (x, W, b)  y = Sub (t, c)"),
    P("Neg", "x[N,3,6,7]; W[5,3,3,3] b[5]", "c = Conv (x, W, b)  y = Neg (c)"),
    P(
        "Sub, Div, Mul, Add with a stored deviation",
        _SPREAD.replace(" eps[]", ""),
        "c = Conv (x, W)  d = Sub (c, m)  e = Div (d, v)  f = Mul (s, e)  y = Add (f, t)",
    ),
    P(
        "Sub, Div by Sqrt(var + eps), Mul, Add (written by hand)",
        _SPREAD,
        "q = Add (v, eps)  r = Sqrt (q)  c = Conv (x, W)  d = Sub (c, m)  e = Div (d, r)  f = Mul (s, e)  y = Add (f, t)",
        fill={"eps": 1e-5},
    ),
    P(
        "by hand, behind Gemm",
        "x[N,4]; W[4,5] b,s,t,m,v[5] eps[]",
        "q = Add (v, eps)  r = Sqrt (q)  c = Gemm (x, W, b)  d = Sub (c, m)  e = Div (d, r)  f = Mul (s, e)  y = Add (f, t)",
        fill={"eps": 1e-5},
    ),
    P(
        "with Reciprocal(Sqrt(var + eps))",
        _SPREAD,
        "q = Add (v, eps)  r = Sqrt (q)  u = Reciprocal (r)  c = Conv (x, W)  d = Sub (c, m)  e = Mul (d, u)"
        "  f = Mul (e, s)  y = Add (f, t)",
        fill={"eps": 1e-5},
    ),
    P(
        "with Pow(var + eps, −0.5)",
        f"{_SPREAD} k[]",
        "q = Add (v, eps)  r = Pow (q, k)  c = Conv (x, W)  d = Sub (c, m)  e = Mul (d, r)  f = Mul (e, s)  y = Add (f, t)",
        fill={"eps": 1e-5, "k": -0.5},
    ),
    P(
        "x · scale + (shift − mean · scale) (FrozenBatchNorm, TensorFlow)",
        _SPREAD,
        "q = Add (v, eps)  r = Sqrt (q)  a = Div (s, r)  h = Mul (m, a)  k = Sub (t, h)"
        "  c = Conv (x, W)  d = Mul (c, a)  y = Add (d, k)",
        fill={"eps": 1e-5},
    ),
    P(
        "parameters [C], Unsqueeze to [C, 1, 1]",
        "x[N,3,6,7]; W[5,3,3,3] s_,t_[5] f:int64[2]",
        "s = Unsqueeze (s_, f)  t = Unsqueeze (t_, f)  c = Conv (x, W)  d = Mul (c, s)  y = Add (d, t)",
        fill={"f": [1, 2]},
    ),
    P("Conv, Mul, BatchNormalization", f"{_CONV} k[5,1,1]", f"c = Conv (x, W)  d = Mul (c, k)  y = {bn('d')}"),
    P(
        "Conv, BatchNormalization, Mul, Add",
        f"{_CONV} k,q[5,1,1]",
        f"c = Conv (x, W)  d = {bn('c')}  e = Mul (d, k)  y = Add (e, q)",
    ),
    P("ConvTranspose, Mul, Add", "x[N,4,5,6]; W[4,3,3,2] s,t[3,1,1]", "c = ConvTranspose (x, W)  d = Mul (c, s)  y = Add (d, t)"),
    P("Gemm, Mul, Add of [C]", "x[N,4]; W[4,5] b,s,t[5]", "c = Gemm (x, W, b)  d = Mul (c, s)  y = Add (d, t)"),
    P("MatMul, Mul, Add of [C]", "x[N,4]; W[4,5] s,t[5]", "c = MatMul (x, W)  d = Mul (c, s)  y = Add (d, t)", maps=1),
    P(
        "MatMul of tokens, Add, Mul by [C] (LayerScale)",
        "x[N,6,4]; W[4,5] b,s[5]",
        "c = MatMul (x, W)  d = Add (c, b)  y = Mul (d, s)",
        maps=1,
    ),
    P("MatMul, Div by a scalar", "x[N,6,4]; W[4,5] k[]", "c = MatMul (x, W)  y = Div (c, k)"),
    P(
        "Conv, Transpose to NHWC, Mul, Add of [C]",
        "x[N,3,6,7]; W[5,3,3,3] s,t[5]",
        "c = Conv (x, W)  d = Transpose <perm = [0, 2, 3, 1]> (c)  e = Mul (d, s)  y = Add (e, t)",
    ),
    P(
        "(x − mean) / std, then Conv (input normalization)",
        "x[N,3,6,7]; W[5,3,3,3] b[5] m,v[1,3,1,1]",
        "d = Sub (x, m)  e = Div (d, v)  y = Conv (e, W, b)",
    ),
    P(
        "x / 255, then padded Conv",
        "x[N,3,6,7]; W[5,3,3,3] b[5] k[]",
        f"d = Div (x, k)  y = Conv {_OPEN} (d, W, b)",
        fill={"k": 255},
    ),
    P("Mul by [C], then Gemm", "x[N,4]; W[4,5] b[5] s[4]", "d = Mul (x, s)  y = Gemm (d, W, b)"),
)

_TWO = "x[N,3,6,7]; W[2,3,3,3] U[3,3,3,3] s,t,m,v[5]"
_BACKWARD = (
    P(
        "Gemm, Reshape to [N, C, 1, 1]",
        f"{_GEMM} f:int64[4]",
        f"c = Gemm (x, W)  d = Reshape (c, f)  y = {bn('d')}",
        fill={"f": [0, 5, 1, 1]},
    ),
    P(
        "Gemm, Reshape to [N, C, H, W] (DCGAN)",
        "x[N,4]; W[4,24] b[24] s,t,m,v[6] f:int64[4]",
        f"c = Gemm (x, W, b)  d = Reshape (c, f)  y = {bn('d')}",
        fill={"f": [0, 6, 2, 2]},
    ),
    P(
        "Gemm, Unsqueeze, Squeeze behind",
        f"{_GEMM} f:int64[1]",
        f"c = Gemm (x, W)  d = Unsqueeze (c, f)  e = {bn('d')}  y = Squeeze (e, f)",
        fill={"f": 2},
    ),
    P("Conv, Flatten of [N, C, 1, 1]", "x[N,3,3,3]; W[5,3,3,3] s,t,m,v[5]", f"c = Conv (x, W)  d = Flatten (c)  y = {bn('d')}"),
    P(
        "Conv, Transpose to NHWC and back",
        _CONV,
        "c = Conv (x, W)  d = Transpose <perm = [0, 2, 3, 1]> (c)  e = Transpose <perm = [0, 3, 1, 2]> (d)  " + f"y = {bn('e')}",
    ),
    P(
        "MatMul in NHWC, Transpose to NCHW",
        "x[N,4,4,3]; W[3,5] s,t,m,v[5]",
        f"c = MatMul (x, W)  d = Transpose <perm = [0, 3, 1, 2]> (c)  y = {bn('d')}",
        maps=1,
    ),
    P("Concat of two Conv", _TWO, f"c = Conv (x, W)  d = Conv (x, U)  e = Concat <axis = 1> (c, d)  y = {bn('e')}"),
    P(
        "Concat of Conv and ConvTranspose",
        "x[N,3,6,7]; W[2,3,1,1] U[3,3,1,1] s,t,m,v[5]",
        f"c = Conv (x, W)  d = ConvTranspose (x, U)  e = Concat <axis = 1> (c, d)  y = {bn('e')}",
    ),
    P(
        "Concat of a Conv and a constant",
        "x[1,3,4,4]; W[2,3,1,1] k[1,3,4,4] s,t,m,v[5]",
        f"c = Conv (x, W)  e = Concat <axis = 1> (c, k)  y = {bn('e')}",
    ),
    P(
        "Add of two Conv",
        "x[N,3,6,7]; W,U[5,3,3,3] s,t,m,v[5]",
        f"c = Conv (x, W)  d = Conv (x, U)  e = Add (c, d)  y = {bn('e')}",
        maps=1,
    ),
    P(
        "Sum of three Conv",
        "x[N,3,6,7]; W,U,V[5,3,3,3] s,t,m,v[5]",
        f"c = Conv (x, W)  d = Conv (x, U)  e = Conv (x, V)  f = Sum (c, d, e)  y = {bn('f')}",
        maps=1,
    ),
    P(
        "Split of a Conv, one on each part",
        "x[N,3,6,7]; W[6,3,3,3] s,t,m,v,s2,t2,m2,v2[3]",
        f"c = Conv (x, W)  d, e = Split <axis = 1> (c)  y = {bn('d')}  z = {bn2('e')}",
        outputs="y z",
        opset=13,
    ),
    P("Conv, AveragePool", _CONV, f"c = Conv (x, W)  d = AveragePool <kernel_shape = [2, 2]> (c)  y = {bn('d')}"),
    P(
        "Conv, padded AveragePool that does not count the padding",
        _CONV,
        f"c = Conv (x, W)  d = AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (c)  y = {bn('d')}",
    ),
    P("Conv, GlobalAveragePool", _CONV, f"c = Conv (x, W)  d = GlobalAveragePool (c)  y = {bn('d')}"),
    P(
        "Conv, ReduceMean, Gemm behind",
        f"{_CONV} U[5,4]",
        f"c = Conv (x, W)  d = ReduceMean <axes = [2, 3], keepdims = 0> (c)  e = {bn('d')}  y = Gemm (e, U)",
    ),
    P(
        "Conv, MaxPool, positive scales",
        _CONV.replace("s,", "p,"),
        f"c = Conv (x, W)  d = MaxPool <kernel_shape = [2, 2]> (c)  y = {bn('d', 'p')}",
    ),
    P(
        "Conv, Relu, positive scales, no shift",
        "x[N,3,6,7]; W[5,3,3,3] p,z,v[5]",
        f"c = Conv (x, W)  d = Relu (c)  y = {bn('d', 'p', 'z', 'z')}",
    ),
    P(
        "Conv, LeakyRelu, Mul by positive [C, 1, 1]",
        "x[N,3,6,7]; W[5,3,3,3] b[5] p[5,1,1]",
        "c = Conv (x, W, b)  d = LeakyRelu (c)  y = Mul (d, p)",
    ),
    P(
        "Conv, Resize nearest",
        f"{_CONV} p2[4]",
        f'c = Conv (x, W)  d = Resize <mode = "nearest"> (c, "", p2)  y = {bn("d")}',
        fill={"p2": [1, 1, 2, 2]},
    ),
    P(
        "Conv, Resize linear",
        f"{_CONV} p2[4]",
        f'c = Conv (x, W)  d = Resize <mode = "linear"> (c, "", p2)  y = {bn("d")}',
        fill={"p2": [1, 1, 2, 2]},
    ),
    P(
        "Conv, DepthToSpace (pixel shuffle)",
        "x[N,3,6,7]; W[8,3,3,3] s,t,m,v[2]",
        f'c = Conv (x, W)  d = DepthToSpace <blocksize = 2, mode = "CRD"> (c)  y = {bn("d")}',
    ),
    P(
        "Conv, zero Pad, no shift",
        "x[N,3,6,7]; W[5,3,3,3] s,z,v[5] f:int64[8]",
        f"c = Conv (x, W)  d = Pad (c, f)  y = {bn('d', 's', 'z', 'z')}",
        fill={"f": [0, 0, 1, 1, 0, 0, 1, 1]},
    ),
    P(
        "Conv, reflected Pad",
        f"{_CONV} f:int64[8]",
        f'c = Conv (x, W)  d = Pad <mode = "reflect"> (c, f)  y = {bn("d")}',
        fill={"f": [0, 0, 1, 1, 0, 0, 1, 1]},
    ),
    P(
        "Conv in float16, Cast to float32",
        "x:float16[N,3,6,7]; W:float16[5,3,3,3] s,t,m,v[5]",
        f"c = Conv (x, W)  d = Cast <to = 1> (c)  y = {bn('d')}",
    ),
)

_PRE = "x[N,3,6,7]; W[5,3,3,3] b[5] s,t,m,v[3]"
_FORWARD = (
    P("Conv without padding", _PRE, f"d = {bn('x')}  y = Conv (d, W, b)"),
    P("Conv without a bias", _PRE.replace(" b[5]", ""), f"d = {bn('x')}  y = Conv (d, W)"),
    P(
        "Conv with a bias from the caller",
        "x[N,3,6,7] b[5]; W[5,3,3,3] s,t,m,v[3]",
        f"d = {bn('x')}  y = Conv (d, W, b)",
        maps=1,
    ),
    P("Conv, 2 groups", "x[N,4,6,7]; W[6,2,3,3] b[6] s,t,m,v[4]", f"d = {bn('x')}  y = Conv <group = 2> (d, W, b)"),
    P("Conv, depthwise", "x[N,4,6,7]; W[4,1,3,3] b[4] s,t,m,v[4]", f"d = {bn('x')}  y = Conv <group = 4> (d, W, b)"),
    P(
        "padded Conv, no shift",
        "x[N,3,6,7]; W[5,3,3,3] b[5] s,z,v[3]",
        f"d = {bn('x', 's', 'z', 'z')}  y = Conv {_OPEN} (d, W, b)",
    ),
    P(
        "ConvTranspose, no shift",
        "x[N,4,5,6]; W[4,3,3,2] b[3] s,z,v[4]",
        f"d = {bn('x', 's', 'z', 'z')}  y = ConvTranspose (d, W, b)",
    ),
    P("Gemm", "x[N,4]; W[4,5] b[5] s,t,m,v[4]", f"d = {bn('x')}  y = Gemm (d, W, b)"),
    P(
        "Gemm, transB, square, alpha",
        "x[N,5]; W[5,5] b[5] s,t,m,v[5]",
        f"d = {bn('x')}  y = Gemm <transB = 1, alpha = 0.5> (d, W, b)",
    ),
    P("MatMul, Add", "x[N,4]; W[4,5] b[5] s,t,m,v[4]", f"d = {bn('x')}  c = MatMul (d, W)  y = Add (c, b)", maps=1),
    P("MatMul", "x[N,8]; W[8,5] s,t,m,v[8]", f"d = {bn('x')}  y = MatMul (d, W)", maps=1),
    P("Flatten, Gemm", "x[N,3,2,2]; W[12,5] b[5] s,t,m,v[3]", f"d = {bn('x')}  e = Flatten (d)  y = Gemm (e, W, b)"),
    P(
        "GlobalAveragePool, Flatten, Gemm",
        "x[N,3,6,7]; W[3,5] b[5] s,t,m,v[3]",
        f"d = {bn('x')}  e = GlobalAveragePool (d)  f = Flatten (e)  y = Gemm (f, W, b)",
    ),
    P(
        "Transpose to NHWC, MatMul, Add",
        "x[N,3,6,7]; W[3,5] b[5] s,t,m,v[3]",
        f"d = {bn('x')}  e = Transpose <perm = [0, 2, 3, 1]> (d)  c = MatMul (e, W)  y = Add (c, b)",
        maps=1,
    ),
    P(
        "Conv, Relu before, Conv behind",
        "x[N,3,8,8]; W[5,3,3,3] U[4,5,3,3] b[4] s,t,m,v[5]",
        f"c = Conv (x, W)  e = Relu (c)  d = {bn('e')}  y = Conv (d, U, b)",
    ),
    P(
        "Gemm, Sigmoid before, Gemm behind",
        "x[N,4]; W[4,5] U[5,3] b[3] s,t,m,v[5]",
        f"c = Gemm (x, W)  e = Sigmoid (c)  d = {bn('e')}  y = Gemm (d, U, b)",
    ),
    P(
        "Concat of activations before, Conv behind",
        "x[N,2,6,7] r[N,3,6,7]; W[4,5,3,3] b[4] s,t,m,v[5]",
        f"e = Concat <axis = 1> (x, r)  d = {bn('e')}  y = Conv (d, W, b)",
    ),
    P("AveragePool, Conv", _PRE, f"d = {bn('x')}  e = AveragePool <kernel_shape = [2, 2]> (d)  y = Conv (e, W, b)"),
    P(
        "MaxPool, Conv, positive scales",
        _PRE.replace("s,", "p,"),
        f"d = {bn('x', 'p')}  e = MaxPool <kernel_shape = [2, 2]> (d)  y = Conv (e, W, b)",
    ),
    P(
        "Relu, Conv, positive scales, no shift",
        "x[N,3,6,7]; W[5,3,3,3] b[5] p,z,v[3]",
        f"d = {bn('x', 'p', 'z', 'z')}  e = Relu (d)  y = Conv {_OPEN} (e, W, b)",
    ),
)

_CONV_UP = f"c = Conv (x, W)  y = {bn('c', 'p')}"
_Q = "x[N,3,6,7]; w:int8[5,3,3,3] p,t,m,v[5]"
_QUANTIZED = (
    P("Conv, int8, one step for all", f"{_Q} d[] n:int8[]", "W = DequantizeLinear (w, d, n)  " + _CONV_UP, fill={"n": 0}),
    P(
        "Conv, int8, a step for each channel",
        f"{_Q} d[5] n:int8[5]",
        "W = DequantizeLinear <axis = 0> (w, d, n)  " + _CONV_UP,
        fill={"n": 0},
    ),
    P(
        "Conv, int8, one step for all, scales of both signs",
        f"{_Q.replace('p,', 's,')} d[] n:int8[]",
        "W = DequantizeLinear (w, d, n)  " + _CONV_BN,
        fill={"n": 0},
    ),
    P(
        "Conv, int8, a step for each channel, scales of both signs",
        f"{_Q.replace('p,', 's,')} d[5] n:int8[5]",
        "W = DequantizeLinear <axis = 0> (w, d, n)  " + _CONV_BN,
        fill={"n": 0},
    ),
    P(
        "Conv, uint8 with zero points",
        "x[N,3,6,7]; w:uint8[5,3,3,3] p,t,m,v[5] d[5] n:uint8[5]",
        "W = DequantizeLinear <axis = 0> (w, d, n)  " + _CONV_UP,
    ),
    P(
        "Conv, int8, int32 bias",
        f"{_Q} d,db[5] n:int8[5] nb,b_:int32[5]",
        "W = DequantizeLinear <axis = 0> (w, d, n)  b = DequantizeLinear <axis = 0> (b_, db, nb)"
        f"  c = Conv (x, W, b)  y = {bn('c', 'p')}",
        fill={"n": 0, "nb": 0, "db": 1e-3},
    ),
    P(
        "Gemm, int8, transB",
        "x[N,4]; w:int8[5,4] b,p,t,m,v,d[5] n:int8[5]",
        f"W = DequantizeLinear <axis = 0> (w, d, n)  c = Gemm <transB = 1> (x, W, b)  y = {bn('c', 'p')}",
        fill={"n": 0},
    ),
    P(
        "MatMul, int8, Add",
        "x[N,4]; w:int8[4,5] b,p,t,m,v,d[5] n:int8[5]",
        f"W = DequantizeLinear <axis = 1> (w, d, n)  e = MatMul (x, W)  c = Add (e, b)  y = {bn('c', 'p')}",
        fill={"n": 0},
        maps=1,
    ),
    P(
        "MatMul, int8, weight behind DequantizeLinear and Transpose, Add",
        "x[N,4]; w:int8[5,4] b,p,t,m,v,d[5] n:int8[5]",
        f"U = DequantizeLinear <axis = 0> (w, d, n)  W = Transpose (U)  e = MatMul (x, W)  c = Add (e, b)  y = {bn('c', 'p')}",
        fill={"n": 0},
        maps=1,
    ),
    P(
        "MatMul, int4 in blocks, Add",
        "x[N,32]; w:int4[32,6] d[2,6] b,p,t,m,v[6]",
        f"W = DequantizeLinear <axis = 0, block_size = 16> (w, d)  e = MatMul (x, W)  c = Add (e, b)  y = {bn('c', 'p')}",
        maps=1,
        opset=21,
        ir=10,
    ),
    P(
        "Conv with quantized input, weight and bias",
        f"{_Q} dx[] nx:int8[] d,db[5] n:int8[5] nb,b_:int32[5]",
        "xq = QuantizeLinear (x, dx, nx)  xd = DequantizeLinear (xq, dx, nx)  W = DequantizeLinear <axis = 0> (w, d, n)"
        f"  b = DequantizeLinear <axis = 0> (b_, db, nb)  c = Conv (xd, W, b)  y = {bn('c', 'p')}",
        fill={"n": 0, "nx": 0, "nb": 0},
    ),
    P(
        "BatchNormalization, then Conv, int8",
        "x[N,3,6,7]; w:int8[5,3,3,3] b[5] p,t,m,v[3] d[] n:int8[]",
        f"e = {bn('x', 'p')}  W = DequantizeLinear (w, d, n)  y = Conv (e, W, b)",
        fill={"n": 0},
    ),
    P(
        "Conv, int8, weight also read by a second Conv",
        f"{_Q} d[5] n:int8[5]",
        f"W = DequantizeLinear <axis = 0> (w, d, n)  c = Conv (x, W)  y = {bn('c', 'p')}  z = Conv (x, W)",
        outputs="y z",
        fill={"n": 0},
    ),
)


def _trap(name: str, tensors: str, body: str, **told: Any) -> Pattern:
    return Pattern(name, tensors, body, trap=True, **told)


_SQUARE = "x[4,4,4,4]; W[4,4,1,1] s,t,m,v[4]"
_TRAPS = (
    _trap("training_mode = 1", _FIXED, f"c = Conv (x, W)  y, m1, v1 = {bn('c', told='<training_mode = 1>')}"),
    _trap("opset 9, five outputs named: training mode", _FIXED, f"c = Conv (x, W)  y, m1, v1, m3, v3 = {bn('c')}", opset=9, ir=4),
    _trap(
        "opset 6 without is_test: training mode",
        _FIXED,
        f"c = Conv (x, W)  y, m1, v1, m3, v3 = {bn('c')}",
        opset=6,
        ir=3,
        kernel=False,
    ),
    _trap("Conv also read by another operator", _CONV, f"{_CONV_BN}  z = Relu (c)", outputs="y z"),
    _trap("Conv is also a graph output", _CONV, _CONV_BN, outputs="y c"),
    _trap(
        "two BatchNormalizations read one Conv",
        f"{_CONV} s2,t2,m2,v2[5]",
        f"c = Conv (x, W)  y = {bn('c')}  z = {bn2('c')}",
        outputs="y z",
    ),
    _trap(
        "Conv also read inside an If",
        "x[2,3,6,7] flag:bool[]; W[5,3,3,3] s,t,m,v[5]",
        f"c = Conv (x, W)  z = {bn('c')}  " + _IF.format(then="a = Relu (c)", other="e = Sigmoid (c)"),
        outputs=f"{_BRANCHED} z",
    ),
    _trap(
        "BatchNormalization inside an If, Conv outside",
        "x[2,3,6,7] flag:bool[]; W[5,3,3,3] s,t,m,v[5]",
        "c = Conv (x, W)  " + _IF.format(then=f"a = {bn('c')}", other="e = Sigmoid (c)"),
        outputs=_BRANCHED,
    ),
    _trap(
        "Mul also read by another operator",
        "x[N,3,6,7]; W[5,3,3,3] s,t[5,1,1]",
        "c = Conv (x, W)  d = Mul (c, s)  y = Add (d, t)  z = Relu (c)",
        outputs="y z",
    ),
    _trap("weight can be overridden (IR 8)", _FIXED, _CONV_BN, overridable=("W",)),
    _trap("scale can be overridden (IR 8)", _FIXED, _CONV_BN, overridable=("s",)),
    _trap(
        "Gemm bias can be overridden (IR 8)",
        "x[2,4]; W[4,5] b,s,t,m,v[5]",
        f"c = Gemm (x, W, b)  y = {bn('c')}",
        overridable=("b",),
    ),
    _trap("weight from the caller", "x[N,3,6,7] W[5,3,3,3]; s,t,m,v[5]", _CONV_BN),
    _trap("scale from the caller", "x[N,3,6,7] s[5]; W[5,3,3,3] t,m,v[5]", _CONV_BN),
    _trap(
        "Mul by a computed gate",
        "x[N,3,6,7]; W[5,3,3,3]",
        "c = Conv (x, W)  g = GlobalAveragePool (c)  h = Sigmoid (g)  y = Mul (c, h)",
    ),
    _trap("Sigmoid between", _CONV, f"c = Conv (x, W)  d = Sigmoid (c)  y = {bn('d')}"),
    _trap("Relu between, scales of both signs", _CONV, f"c = Conv (x, W)  d = Relu (c)  y = {bn('d')}"),
    _trap(
        "Relu between, positive scales, with a shift",
        _CONV.replace("s,", "p,"),
        f"c = Conv (x, W)  d = Relu (c)  y = {bn('d', 'p')}",
    ),
    _trap(
        "MaxPool between, scales of both signs", _CONV, f"c = Conv (x, W)  d = MaxPool <kernel_shape = [2, 2]> (c)  y = {bn('d')}"
    ),
    _trap(
        "AveragePool that counts its padding, with a shift",
        _CONV,
        "c = Conv (x, W)  d = AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1], count_include_pad = 1> (c)"
        f"  y = {bn('d')}",
    ),
    _trap(
        "zero Pad between, with a shift",
        f"{_CONV} f:int64[8]",
        f"c = Conv (x, W)  d = Pad (c, f)  y = {bn('d')}",
        fill={"f": [0, 0, 1, 1, 0, 0, 1, 1]},
    ),
    _trap(
        "padded Conv behind, with a shift", "x[N,3,H,V]; W[5,3,3,3] b[5] s,t,m,v[3]", f"d = {bn('x')}  y = Conv {_OPEN} (d, W, b)"
    ),
    _trap(
        "(x − mean) / std, then padded Conv",
        "x[N,3,H,V]; W[5,3,3,3] b[5] m,v[1,3,1,1]",
        f"d = Sub (x, m)  e = Div (d, v)  y = Conv {_OPEN} (e, W, b)",
    ),
    _trap(
        "zero Pad, then Conv behind, with a shift",
        "x[N,3,H,V]; W[5,3,3,3] b[5] s,t,m,v[3] f:int64[8]",
        f"d = {bn('x')}  e = Pad (d, f)  y = Conv (e, W, b)",
        fill={"f": [0, 0, 1, 1, 0, 0, 1, 1]},
    ),
    _trap(
        "ConvTranspose behind, with a shift",
        "x[N,4,H,V]; W[4,3,3,2] b[3] s,t,m,v[4]",
        f"d = {bn('x')}  y = ConvTranspose <strides = [2, 2]> (d, W, b)",
    ),
    _trap("residual Add between", "x[N,5,6,7]; W[5,5,1,1] s,t,m,v[5]", f"c = Conv (x, W)  d = Add (c, x)  y = {bn('d')}"),
    _trap(
        "Transpose between, all axes of one size",
        _SQUARE,
        f"c = Conv (x, W)  d = Transpose <perm = [0, 2, 3, 1]> (c)  y = {bn('d')}",
    ),
    _trap("Gemm, Transpose, square", "x[5,5]; W[5,5] b,s,t,m,v[5]", f"c = Gemm (x, W, b)  d = Transpose (c)  y = {bn('d')}"),
    _trap(
        "Reshape mixes channels, sizes agree",
        f"{_SQUARE} f:int64[4]",
        f"c = Conv (x, W)  e = Transpose <perm = [1, 0, 2, 3]> (c)  d = Reshape (e, f)  y = {bn('d')}",
        fill={"f": [4, 4, 4, 4]},
    ),
    _trap(
        "Flatten between, one scale for each element",
        "x[N,3,4,4]; W[2,3,3,3] s,t,m,v[8]",
        f"c = Conv (x, W)  d = Flatten (c)  y = {bn('d')}",
    ),
    _trap(
        "MatMul of tokens, BatchNormalization over the tokens", "x[N,5,4]; W[4,5] s,t,m,v[5]", f"c = MatMul (x, W)  y = {bn('c')}"
    ),
    _trap(
        "MatMul of tokens, Add, BatchNormalization over the tokens",
        "x[N,5,4]; W[4,5] b,s,t,m,v[5]",
        f"c = MatMul (x, W)  d = Add (c, b)  y = {bn('d')}",
    ),
    _trap("Mul by [W], as wide as there are channels", "x[4,4,4,4]; W[4,4,1,1] b[4] s[4]", "c = Conv (x, W, b)  y = Mul (c, s)"),
    _trap(
        "Mul by [N, 1, 1, 1], as many images as channels",
        "x[4,4,4,4]; W[4,4,1,1] b[4] s[4,1,1,1]",
        "c = Conv (x, W, b)  y = Mul (c, s)",
    ),
    _trap(
        "Add of [H, 1], as high as there are channels", "x[4,4,4,4]; W[4,4,1,1] b[4] t[4,1]", "c = Conv (x, W, b)  y = Add (c, t)"
    ),
    _trap(
        "Mul by [W] before a Conv, as wide as there are channels",
        "x[4,4,4,4]; W[4,4,1,1] b[4] s[4]",
        "d = Mul (x, s)  y = Conv (d, W, b)",
    ),
    _trap("Mul by [M, 1] after Gemm, M = N", "x[5,4]; W[4,5] b[5] s[5,1]", "c = Gemm (x, W, b)  y = Mul (c, s)"),
    _trap("Mul by [M, 1] after MatMul, M = N", "x[5,4]; W[4,5] s[5,1]", "c = MatMul (x, W)  y = Mul (c, s)"),
    _trap("Mul broadcasts one channel to many", "x[N,3,6,7]; W[1,3,3,3] b[1] s[5,1,1]", "c = Conv (x, W, b)  y = Mul (c, s)"),
    _trap("Add broadcasts one channel to many", "x[N,3,6,7]; W[1,3,3,3] b[1] t[5,1,1]", "c = Conv (x, W, b)  y = Add (c, t)"),
    _trap("Mul adds an axis", "x[2,3,6,7]; W[5,3,3,3] b[5] s[5,1,1,1,1]", "c = Conv (x, W, b)  y = Mul (c, s)"),
    _trap(
        "Concat along the height, one scale a row",
        "x[N,4,2,4]; W,U[4,4,1,1] s[4,1]",
        "c = Conv (x, W)  d = Conv (x, U)  e = Concat <axis = 2> (c, d)  y = Mul (e, s)",
    ),
    _trap("constant / x", "x[N,3,6,7]; W[5,3,3,3] b[5] s[5,1,1]", "c = Conv (x, W, b)  y = Div (s, c)", fill={"b": 40.0}),
    _trap("x²", "x[N,3,6,7]; W[5,3,3,3] b[5] k[]", "c = Conv (x, W, b)  y = Pow (c, k)", fill={"k": 2.0}),
    _trap(
        "folded weight would overflow float16",
        "x[N,3,4,4]; W[5,3,1,1] s,t,m,v[5]",
        _CONV_BN,
        dtype="float16",
        fill={"W": 6e4, "x": 1e-4, "s": 4.0, "v": 1.0},
    ),
    _trap(
        "spatial = 0 behind a Conv",
        "x[2,3,4,4]; W[2,3,3,3] s,t,m,v[2,2,2]",
        f"c = Conv (x, W)  y = {bn('c', told='<spatial = 0>')}",
        opset=8,
        ir=4,
        kernel=False,
    ),
    _trap(
        "quantize and dequantize between",
        f"{_CONV} d[] n:int8[]",
        f"c = Conv (x, W)  e = QuantizeLinear (c, d, n)  f = DequantizeLinear (e, d, n)  y = {bn('f')}",
        fill={"d": 0.05, "n": 0},
    ),
)

GROUPS: dict[str, tuple[Pattern, ...]] = {
    "A linear operator, then BatchNormalization": _LINEAR,
    "Constants the way exporters write them": _CONSTANTS,
    "Shared weights and several readers": _SHARED,
    "BatchNormalization across opsets and scopes": _FORMS,
    "Normalization written in primitives": _PRIMITIVES,
    "Backward, through other operators": _BACKWARD,
    "Forward: BatchNormalization, then …": _FORWARD,
    "Quantized weights": _QUANTIZED,
    "Traps: leaving it is right": _TRAPS,
}
