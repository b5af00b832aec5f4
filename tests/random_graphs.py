"""Random valid models of the operators that the fold algebra knows, and everything that must hold when one is folded.

A graph is grown node by node, and every node is evaluated as it is added, so that shapes are known and values stay tame. Extents
come from a small palette, so that sizes coincide often. `python -m tests.random_graphs --count 10000 --seed 0` is the long run.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import onnx
import onnx.printer
from onnx import TensorProto, helper, numpy_helper

import bnfold
from tests.reference import FLOATS, Machine, Value
from tests.reference_more import evaluate

ROUNDOFF = {TensorProto.FLOAT: 2.0**-24, TensorProto.DOUBLE: 2.0**-53, TensorProto.FLOAT16: 2.0**-11}
_MOST_ELEMENTS, _LARGEST = 1500, 300.0


class Unfit(Exception):
    """The chosen operator does not fit the chosen tensor."""


_MISFITS = (Unfit, ValueError, IndexError, ZeroDivisionError, KeyError)
Maker: TypeAlias = Callable[["Grower", str], "str | list[str]"]


@dataclass(frozen=True)
class Sample:
    """A random model and inputs for it."""

    seed: int
    model: onnx.ModelProto
    feeds: dict[str, np.ndarray]


@dataclass
class Grower:
    """Grows one graph."""

    rng: np.random.Generator
    opset: int
    elem_type: int
    palette: list[int]
    recency: float
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)
    scope: dict[str, Value] = field(default_factory=dict)
    inputs: dict[str, list[int | str]] = field(default_factory=dict)
    data: list[str] = field(default_factory=list)

    # -- chance -----------------------------------------------------------------------------------------------------------

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def pick(self, choices: Any) -> Any:
        return choices[int(self.rng.integers(len(choices)))]

    def extent(self) -> int:
        return int(self.pick(self.palette))

    def need(self, condition: bool) -> None:
        if not condition:
            raise Unfit

    # -- building ---------------------------------------------------------------------------------------------------------

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.scope[name].array.shape)

    def fresh(self, prefix: str) -> str:
        return f"{prefix}{sum(1 for name in self.scope if name.startswith(prefix))}"

    def feed(self, shape: tuple[int, ...], declared: list[int | str] | None = None) -> str:
        name = self.fresh("x")
        dtype = FLOATS[self.elem_type]
        self.scope[name] = Value(self.rng.normal(0, 1, shape).astype(dtype).astype(np.float64), self.elem_type)
        self.inputs[name] = declared or list(shape)
        self.data.append(name)
        return name

    def constant(self, values: Any, elem_type: int | None = None, like: str = "", plain: bool = False) -> str:
        """A weight: an initializer, a Constant node, or either behind a node of constant plumbing."""
        elem_type = elem_type or (self.scope[like].elem_type if like else self.elem_type)
        array = np.asarray(values).astype(helper.tensor_dtype_to_np_dtype(elem_type))
        name = self.fresh("w")
        tensor = numpy_helper.from_array(array, name)
        wide = array.astype(np.float64) if elem_type in FLOATS else array
        self.scope[name] = Value(wide, elem_type)
        if self.chance(0.15) and (self.opset >= 9 or elem_type in FLOATS):
            self.nodes.append(helper.make_node("Constant", [], [name], value=tensor))
        else:
            self.weights.append(tensor)
        if elem_type in FLOATS and not plain and self.chance(0.08):
            return self.run("Identity", [name])
        return name

    def ints(self, values: Any) -> str:
        return self.constant(np.asarray(values, np.int64), TensorProto.INT64)

    def run(self, op_type: str, inputs: list[str], outputs: int = 1, **attributes: Any) -> str:
        """Adds a node of plumbing or data; the name of its first result."""
        return self.run_all(op_type, inputs, outputs, **attributes)[0]

    def run_all(self, op_type: str, inputs: list[str], outputs: int, **attributes: Any) -> list[str]:
        kinds = {self.scope[name].elem_type for name in inputs if name} & set(FLOATS)
        self.need(len(kinds) < 2 or op_type in ("Resize", "Upsample"))
        names = []
        for _ in range(outputs):
            names.append(self.fresh("t"))
            self.scope[names[-1]] = Value(np.zeros(0), 0)
        told = {name: value for name, value in attributes.items() if value is not None}
        node = helper.make_node(op_type, inputs, names, name=f"{op_type.lower()}_{len(self.nodes)}", **told)
        Machine().nodes([node], self.scope, self.opset, {})
        for name in names:
            value = self.scope[name]
            self.need(value.elem_type not in FLOATS or bool(np.isfinite(value.array).all()))
            self.need(0 < value.array.size <= _MOST_ELEMENTS and np.abs(value.array).max() <= _LARGEST)
        self.nodes.append(node)
        return names

    def grow(self, source: str) -> None:
        """Adds one operator behind `source`, or raises Unfit and leaves the graph as it was."""
        state = (len(self.nodes), len(self.weights), dict(self.scope), dict(self.inputs), list(self.data))
        try:
            made = self.pick(_MAKERS)(self, source)
            made = [made] if isinstance(made, str) else made
            self.need(all(self.scope[name].elem_type in FLOATS for name in made))
        except _MISFITS as error:
            self.restore(state)
            raise Unfit from error
        self.data += made

    def one(self, makers: list[Maker], source: str) -> str:
        """One operator out of several kinds; the first of its results."""
        for _ in range(8):
            size = len(self.nodes), len(self.weights), dict(self.scope), dict(self.inputs), list(self.data)
            try:
                made = self.pick(makers)(self, source)
                return made if isinstance(made, str) else str(made[0])
            except _MISFITS:
                self.restore(size)
        raise Unfit

    def restore(self, state: Any) -> None:
        """Takes back everything since `state`."""
        del self.nodes[state[0] :], self.weights[state[1] :]
        self.scope, self.inputs, self.data = state[2:]

    def source(self) -> str:
        recent = self.data[-2:] if self.chance(self.recency) else self.data
        return str(self.pick(recent))

    def mate(self, name: str, fits: Callable[[tuple[int, ...]], bool]) -> str:
        """Another tensor of the same type that fits."""
        kind = self.scope[name].elem_type
        found = [each for each in self.data if self.scope[each].elem_type == kind and fits(self.shape(each))]
        self.need(bool(found))
        return str(self.pick(found))

    # -- values -----------------------------------------------------------------------------------------------------------

    def factors(self, shape: tuple[int, ...]) -> np.ndarray:
        values = self.rng.uniform(0.4, 1.6, shape)
        if self.chance(0.5):
            values = values * self.rng.choice([-1.0, 1.0], shape)
        if self.chance(0.1):
            values = values * (self.rng.random(shape) < 0.7)
        return values

    def spread(self, shape: tuple[int, ...], fan: int) -> np.ndarray:
        return self.rng.normal(0, 1, shape) / math.sqrt(max(1, fan))


# -- affine maps ----------------------------------------------------------------------------------------------------------


def batch_normalization(g: Grower, x: str) -> str:
    shape = g.shape(x)
    g.need(len(shape) >= 2)
    per_activation = g.opset < 9 and g.chance(0.15)
    extent = shape[1:] if per_activation else shape[1:2]
    gamma, var = g.factors(extent), g.rng.uniform(0.3, 3, extent)
    beta, mean = g.rng.normal(0, 1, (2, *extent)) * (not g.chance(0.3))
    parameters = [g.constant(each, like=x) for each in (gamma, beta, mean, var)]
    return g.run("BatchNormalization", [x, *parameters], epsilon=g.pick([None, 1e-3, 0.5]), spatial=0 if per_activation else None)


def _map_shape(g: Grower, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a constant against `shape`: along one axis, several or none; sometimes it broadcasts the data up."""
    if not shape or g.chance(0.25):
        return g.pick([(), (1,), (1,) * len(shape)])
    axes = [int(g.rng.integers(len(shape)))] if g.chance(0.75) else [a for a in range(len(shape)) if g.chance(0.5)]
    wanted = [extent if axis in axes else 1 for axis, extent in enumerate(shape)]
    if g.chance(0.06):
        ones = [axis for axis, extent in enumerate(shape) if extent == 1]
        if ones:
            wanted[g.pick(ones)] = g.extent()
    if g.chance(0.06):
        wanted = [1, *wanted]
    while len(wanted) > 1 and wanted[0] == 1 and g.chance(0.6):
        wanted = wanted[1:]
    return tuple(wanted)


def primitive(g: Grower, x: str) -> str:
    op_type = g.pick(["Mul", "Add", "Sub", "Div", "Mul", "Add", "Neg"])
    if op_type == "Neg":
        return g.run("Neg", [x])
    shape = _map_shape(g, g.shape(x))
    multiplies = op_type in ("Mul", "Div")
    k = g.constant(g.factors(shape) + (op_type == "Div") if multiplies else g.rng.normal(0, 1, shape), like=x)
    swapped = op_type != "Div" and g.chance(0.4)
    return g.run(op_type, [k, x] if swapped else [x, k])


def run_of_primitives(g: Grower, x: str) -> str:
    for _ in range(int(g.rng.integers(2, 5))):
        x = primitive(g, x)
    return x


def hand_written(g: Grower, x: str) -> str:
    """`gamma·(x − mean)/sqrt(var + eps) + beta`, its root computed by nodes."""
    shape = g.shape(x)
    g.need(len(shape) >= 2)
    axis = 1 if g.chance(0.7) else len(shape) - 1
    extent = tuple(n if place == axis else 1 for place, n in enumerate(shape))[1 if g.chance(0.5) else 0 :]
    gamma, mean, beta = g.factors(extent), *g.rng.normal(0, 1, (2, *extent))
    var, eps = g.constant(g.rng.uniform(0.3, 3, extent), like=x), g.constant(1e-2, like=x)
    root = g.run("Sqrt", [g.run("Add", [var, eps])])
    if g.chance(0.5):
        centered = g.run("Div", [g.run("Sub", [x, g.constant(mean, like=x)]), root])
        return g.run("Add", [g.run("Mul", [centered, g.constant(gamma, like=x)]), g.constant(beta, like=x)])
    scale = g.run("Mul", [g.run("Reciprocal", [root]), g.constant(gamma, like=x)])  # as TensorFlow writes it
    shift = g.run("Sub", [g.constant(beta, like=x), g.run("Mul", [g.constant(mean, like=x), scale])])
    return g.run("Add", [g.run("Mul", [x, scale]), shift])


# -- linear operators -----------------------------------------------------------------------------------------------------


def _weight(g: Grower, shape: tuple[int, ...], fan: int, axis: int, x: str) -> str:
    """A weight, sometimes quantized, sometimes shared with another operator."""
    kind = g.scope[x].elem_type
    shared = [
        name for name, value in g.scope.items() if name[0] == "w" and value.array.shape == shape and value.elem_type == kind
    ]
    if shared and g.chance(0.2):
        return str(g.pick(shared))
    if g.opset >= 13 and kind == TensorProto.FLOAT and g.chance(0.12):
        return _quantized(g, shape, axis)
    return g.constant(g.spread(shape, fan), like=x)


def _quantized(g: Grower, shape: tuple[int, ...], axis: int) -> str:
    signed = g.chance(0.5)
    kind = TensorProto.INT8 if signed else TensorProto.UINT8
    four = g.opset >= 21 and g.chance(0.3)
    if four:
        kind = TensorProto.INT4 if signed else TensorProto.UINT4
    low, high = (-8, 8) if four and signed else (0, 16) if four else (-60, 60) if signed else (60, 190)
    integers = g.constant(g.rng.integers(low, high, shape), kind)
    per_axis = (shape[axis],) if g.chance(0.5) else ()
    step = 0.1 if four else 0.01
    inputs = [integers, g.constant(g.rng.uniform(0.5, 1.5, per_axis) * step, TensorProto.FLOAT)]
    if g.chance(0.6):
        inputs.append(g.constant(g.rng.integers(1 if four else 100, 8 if four else 120, per_axis), kind))
    return g.run("DequantizeLinear", inputs, axis=axis if per_axis or g.chance(0.3) else None)


def _bias(g: Grower, channels: int, x: str) -> list[str]:
    roll = g.rng.random()
    if roll < 0.4:
        return []
    if roll < 0.5 and g.scope[x].elem_type == g.elem_type:
        name = g.feed((channels,))
        g.data.remove(name)
        return [name]
    if roll < 0.55 and g.opset >= 13 and g.scope[x].elem_type == TensorProto.FLOAT:
        step = g.constant(g.rng.uniform(0.005, 0.01, (channels,) if g.chance(0.5) else ()), TensorProto.FLOAT)
        integers = g.constant(g.rng.integers(-200, 200, channels), TensorProto.INT32)
        return [g.run("DequantizeLinear", [integers, step], axis=0)]
    return [g.constant(g.rng.normal(0, 1, channels), like=x)]


def conv(g: Grower, x: str) -> str:
    _, c, *spatial = g.shape(x)
    g.need(1 <= len(spatial) <= 2)
    group = g.pick([1, 1, 1, c, *(each for each in range(1, c + 1) if c % each == 0)])
    outputs = group * g.pick([1, 1, 2]) if g.chance(0.4) else group * max(1, g.extent() // group)
    kernel = [int(g.pick([1, 1, 2, 3])) for _ in spatial]
    padded = g.chance(0.4)
    pads = [int(g.pick([0, 1, 1])) if padded else 0 for _ in range(2 * len(spatial))]
    auto = g.pick(["SAME_UPPER", "SAME_LOWER", "VALID"]) if g.chance(0.15) else None
    room = zip(spatial, kernel, pads[: len(kernel)], pads[len(kernel) :], strict=True)
    g.need(all(extent + begin + end >= k for extent, k, begin, end in room))
    g.need(auto is None or all(extent >= k for extent, k in zip(spatial, kernel, strict=True)))
    strides = [int(g.pick([1, 1, 1, 2])) for _ in spatial]
    weight = _weight(g, (outputs, c // group, *kernel), c // group * math.prod(kernel), 0, x)
    told = {"auto_pad": auto} if auto else {"pads": pads}
    return g.run("Conv", [x, weight, *_bias(g, outputs, x)], group=group, strides=strides, **told)


def conv_transpose(g: Grower, x: str) -> str:
    _, c, *spatial = g.shape(x)
    g.need(1 <= len(spatial) <= 2)
    group = g.pick([1, 1, c, *(each for each in range(1, c + 1) if c % each == 0)])
    per_group = g.extent()
    kernel, strides = ([int(g.pick([1, 2, 3])) for _ in spatial] for _ in range(2))
    strides = [min(2, s) for s in strides]
    pads = [int(g.pick([0, 0, 1])) for _ in range(2 * len(spatial))]
    weight = _weight(g, (c, per_group, *kernel), c // group, 1, x)
    return g.run("ConvTranspose", [x, weight, *_bias(g, per_group * group, x)], group=group, strides=strides, pads=pads)


def gemm(g: Grower, x: str) -> str:
    shape = g.shape(x)
    g.need(len(shape) == 2)
    transposed, flipped, outputs = g.chance(0.25), g.chance(0.4), g.extent()
    rows, inner = shape[::-1] if transposed else shape
    weight = _weight(g, (outputs, inner) if flipped else (inner, outputs), inner, 0 if flipped else 1, x)
    addend = g.pick([(outputs,), (outputs,), (), (1,), (1, outputs), (rows, outputs), (rows, 1)])
    third = [] if g.opset >= 11 and g.chance(0.3) else [g.constant(g.rng.normal(0, 1, addend), like=x)]
    told = {"alpha": g.pick([None, None, 0.5, -1.5]), "beta": g.pick([None, None, 2.0, -0.5, 0.0])}
    return g.run("Gemm", [x, weight, *third], transA=int(transposed) or None, transB=int(flipped) or None, **told)


def matmul(g: Grower, x: str) -> str:
    shape = g.shape(x)
    g.need(len(shape) >= 1)
    outputs = g.extent()
    batch = tuple(shape[:-2]) if len(shape) > 2 and g.chance(0.2) else (2,) if g.chance(0.05) else ()
    if len(shape) >= 2 and g.chance(0.3):
        result = g.run("MatMul", [_weight(g, (*batch, outputs, shape[-2]), shape[-2], len(batch), x), x])
        bias = g.pick([(outputs, 1), (shape[-1],), ()])
    else:
        result = g.run("MatMul", [x, _weight(g, (*batch, shape[-1], outputs), shape[-1], len(batch) + 1, x)])
        bias = g.pick([(outputs,), (outputs,), (1, outputs), ()])
    if g.chance(0.4):
        operands = [result, g.constant(g.rng.normal(0, 1, bias), like=x)]
        result = g.run("Add", operands[::-1] if g.chance(0.3) else operands)
    return result


# -- carriers -------------------------------------------------------------------------------------------------------------


def activation(g: Grower, x: str) -> str:
    op_type = g.pick(["Relu", "Relu", "LeakyRelu", "PRelu", "Sigmoid", "Tanh"])
    if op_type != "PRelu":
        return g.run(op_type, [x], alpha=g.pick([None, 0.3]) if op_type == "LeakyRelu" else None)
    shape = g.shape(x)
    slope = [1 if g.chance(0.5) else extent for extent in shape]
    while slope and slope[0] == 1 and g.chance(0.5):
        slope = slope[1:]
    return g.run("PRelu", [x, g.constant(g.rng.uniform(-0.5, 0.8, slope), like=x)])


def _factorization(g: Grower, size: int) -> list[int]:
    found = []
    while size > 1:
        part = g.pick([each for each in range(2, size + 1) if size % each == 0])
        found.append(part)
        size //= part
    for _ in range(int(g.pick([0, 0, 0, 1, 2]))):
        found.insert(int(g.rng.integers(len(found) + 1)), 1)
    return found or [1]


def reshape(g: Grower, x: str) -> str:
    shape = list(g.shape(x))
    g.need(len(shape) >= 1)
    if g.chance(0.6):  # merge some neighbours, or split one axis
        axis = int(g.rng.integers(len(shape)))
        if g.chance(0.5) and axis + 1 < len(shape):
            target = [*shape[:axis], shape[axis] * shape[axis + 1], *shape[axis + 2 :]]
        else:
            target = [*shape[:axis], *_factorization(g, shape[axis]), *shape[axis + 1 :]]
    else:
        target = _factorization(g, math.prod(shape))
    g.need(len(target) <= 5)
    wanted = list(target)
    for axis in range(min(len(wanted), len(shape))):
        if wanted[axis] == shape[axis] and g.chance(0.2):
            wanted[axis] = 0
    if g.chance(0.4):
        wanted[int(g.rng.integers(len(wanted)))] = -1
    return g.run("Reshape", [x, g.ints(wanted)])


def flatten(g: Grower, x: str) -> str:
    rank = len(g.shape(x))
    g.need(rank >= 1)
    return g.run("Flatten", [x], axis=g.pick([None, None, int(g.rng.integers(rank + 1)), -1 if g.opset >= 11 else 1]))


def squeeze(g: Grower, x: str) -> str:
    shape = g.shape(x)
    ones = [axis for axis, extent in enumerate(shape) if extent == 1 and g.chance(0.8)]
    g.need(bool(ones))
    if g.opset >= 11 and g.chance(0.3):
        ones = [axis - len(shape) for axis in ones]
    return g.run("Squeeze", [x, g.ints(ones)]) if g.opset >= 13 else g.run("Squeeze", [x], axes=ones)


def unsqueeze(g: Grower, x: str) -> str:
    rank = len(g.shape(x))
    g.need(rank <= 4)
    axes = sorted({int(g.rng.integers(rank + 1))})
    if g.opset >= 11 and g.chance(0.3):
        axes = [axis - rank - 1 for axis in axes]
    return g.run("Unsqueeze", [x, g.ints(axes)]) if g.opset >= 13 else g.run("Unsqueeze", [x], axes=axes)


def transpose(g: Grower, x: str) -> str:
    rank = len(g.shape(x))
    return g.run("Transpose", [x], perm=g.rng.permutation(rank).tolist() if rank and g.chance(0.85) else None)


def concat(g: Grower, x: str) -> str:
    shape = g.shape(x)
    g.need(len(shape) >= 1)
    axis = 1 if len(shape) > 1 and g.chance(0.6) else int(g.rng.integers(len(shape)))

    def rest(other: tuple[int, ...]) -> bool:
        return len(other) == len(shape) and all(a == b for i, (a, b) in enumerate(zip(other, shape, strict=True)) if i != axis)

    parts = [x]
    for _ in range(int(g.pick([1, 1, 2]))):
        if g.chance(0.15):
            wide = [g.extent() if place == axis else extent for place, extent in enumerate(shape)]
            parts.append(g.constant(g.rng.normal(0, 1, wide), like=x))
        else:
            parts.append(g.mate(x, rest))
    g.rng.shuffle(parts)
    return g.run("Concat", parts, axis=axis - len(shape) if g.opset >= 11 and g.chance(0.2) else axis)


def split(g: Grower, x: str) -> list[str]:
    shape = g.shape(x)
    axes = [axis for axis, extent in enumerate(shape) if extent >= 2]
    g.need(bool(axes))
    axis = 1 if 1 in axes and g.chance(0.6) else g.pick(axes)
    parts = 2 if shape[axis] < 3 or g.chance(0.7) else 3
    told: dict[str, Any] = {"axis": axis - len(shape) if g.opset >= 11 and g.chance(0.2) else axis}
    if shape[axis] % parts == 0 and g.chance(0.4):
        return g.run_all("Split", [x], parts, **told, num_outputs=parts if g.opset >= 18 else None)
    cuts = sorted(g.rng.choice(range(1, shape[axis]), parts - 1, replace=False).tolist())
    sizes = np.diff([0, *cuts, shape[axis]]).tolist()
    if g.opset >= 13:
        return g.run_all("Split", [x, g.ints(sizes)], parts, **told)
    return g.run_all("Split", [x], parts, **told, split=sizes)


def slice_of(g: Grower, x: str) -> str:
    shape = g.shape(x)
    g.need(len(shape) >= 1)
    axes = [1] if len(shape) > 1 and g.chance(0.6) else [axis for axis in range(len(shape)) if g.chance(0.5)]
    g.need(bool(axes))
    starts, ends, steps = [], [], []
    for axis in axes:
        start = int(g.rng.integers(shape[axis]))
        end = int(g.rng.integers(start + 1, shape[axis] + 1))
        starts.append(start - shape[axis] if g.chance(0.2) else start)
        ends.append(
            2**40 if end == shape[axis] and g.chance(0.5) else end - shape[axis] if end < shape[axis] and g.chance(0.2) else end
        )
        steps.append(int(g.pick([1, 1, 2])))
    if g.opset < 10:
        return g.run("Slice", [x], starts=starts, ends=ends, axes=axes)
    named = [axis - len(shape) if g.chance(0.2) else axis for axis in axes]
    return g.run("Slice", [x, *(g.ints(each) for each in (starts, ends, named, steps)[: g.pick([3, 4])])])


def join(g: Grower, x: str) -> str:
    shape = g.shape(x)

    def fits(other: tuple[int, ...]) -> bool:
        try:
            wide = np.broadcast_shapes(shape, other)
        except ValueError:
            return False
        return other == shape or (g.chance(0.5) and math.prod(wide) <= _MOST_ELEMENTS)

    op_type = g.pick(["Add", "Add", "Sub", "Sum"])
    operands = [x, g.mate(x, fits)]
    g.need(op_type != "Sum" or g.opset >= 8 or g.shape(operands[1]) == shape)  # Sum broadcasts since opset 8
    if op_type == "Sum" and g.chance(0.5):
        operands.append(
            g.constant(g.rng.normal(0, 1, shape), like=x) if g.chance(0.4) else g.mate(x, lambda other: other == shape)
        )
    g.rng.shuffle(operands)
    return g.run(op_type, operands)


def pad(g: Grower, x: str) -> str:
    shape = g.shape(x)
    g.need(len(shape) >= 1)
    padded = [axis for axis in range(len(shape)) if g.chance(0.7 if axis > 1 else 0.15)]
    g.need(bool(padded))
    mode = g.pick(["constant", "constant", "reflect", "edge"])
    widths = [int(g.rng.integers(0, min(2, extent - 1) + 1)) if axis in padded else 0 for axis, extent in enumerate(shape)]
    pads = [*widths, *(int(g.pick([0, width])) for width in widths)]
    border = float(g.pick([0.0, 0.0, 1.5])) if mode == "constant" else 0.0
    if g.opset < 11:
        return g.run("Pad", [x], pads=pads, mode=mode, value=border or None)
    rest = [g.constant(border, like=x)] if border or (mode == "constant" and g.chance(0.3)) else []
    return g.run("Pad", [x, g.ints(pads), *rest], mode=mode)


def pool(g: Grower, x: str) -> str:
    _, _, *spatial = g.shape(x)
    g.need(1 <= len(spatial) <= 2)
    kernel = [min(extent, int(g.pick([1, 2, 2, 3]))) for extent in spatial]
    pads = [int(g.pick([0, 0, 1])) if k > 1 else 0 for k in kernel] * 2
    told: dict[str, Any] = {"kernel_shape": kernel, "strides": [int(g.pick([1, 2])) for _ in kernel]}
    if g.chance(0.15):
        told["auto_pad"] = g.pick(["SAME_UPPER", "SAME_LOWER", "VALID"])
    else:
        told["pads"] = pads
    average = g.chance(0.5)
    if average and g.chance(0.4):
        told["count_include_pad"] = 1
    elif g.opset >= 10 and "pads" in told and not any(pads) and g.chance(0.2):
        g.need(all(stride <= k for stride, k in zip(told["strides"], kernel, strict=True)))  # beyond, shape inference differs
        told["ceil_mode"] = 1
    if average:
        return g.run("AveragePool", [x], **told)
    return g.run_all("MaxPool", [x], 2 if g.opset >= 8 and g.chance(0.15) else 1, **told)[0]


def global_pool(g: Grower, x: str) -> str:
    shape = g.shape(x)
    op_type = g.pick(["GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceMean"])
    if op_type != "ReduceMean":
        g.need(len(shape) >= 3)
        return g.run(op_type, [x])
    axes = [axis for axis in range(len(shape)) if g.chance(0.5 if axis > 1 else 0.15)]
    g.need(bool(axes) or g.chance(0.2))
    named = [axis - len(shape) if g.opset >= 11 and g.chance(0.3) else axis for axis in axes]
    keepdims = g.pick([None, 0, 0, 1])
    if g.opset < 18 or not named:
        return g.run("ReduceMean", [x], axes=named or None, keepdims=keepdims)
    return g.run("ReduceMean", [x, g.ints(named)], keepdims=keepdims)


def resize(g: Grower, x: str) -> str:
    shape = g.shape(x)
    g.need(len(shape) in (3, 4))
    mode = g.pick(["nearest", "nearest", "linear"])
    scales = [1.0, float(g.pick([1, 1, 1, 1, 2])), *(float(g.pick([1, 2, 2, 1.5, 0.5])) for _ in shape[2:])]
    if g.opset < 10:
        scales = [max(1.0, each) for each in scales]
    if mode == "linear" and (g.opset < 11 or len(shape) == 4):
        scales[1] = 1.0
    if g.opset < 9:
        return g.run("Upsample", [x], mode=mode, scales=scales)
    given = g.constant(np.float32(scales), TensorProto.FLOAT, plain=True)
    if g.opset < 11:
        return g.run("Upsample" if g.opset == 9 else "Resize", [x, given], mode=mode)
    told: dict[str, Any] = {
        "mode": mode,
        "coordinate_transformation_mode": g.pick([None, "asymmetric", "align_corners", "pytorch_half_pixel"]),
    }
    told["nearest_mode"] = g.pick([None, "floor"]) if mode == "nearest" else None
    roi = g.constant(np.zeros(0), TensorProto.FLOAT, plain=True) if g.opset < 13 or g.chance(0.3) else ""
    if g.opset >= 18 and g.chance(0.4):
        axes = [axis for axis in range(len(shape)) if scales[axis] != 1 or g.chance(0.3)]
        g.need(bool(axes))
        negative = g.chance(0.4)
        told["axes"] = [axis - len(shape) if negative else axis for axis in axes]
        scales, shape = [scales[axis] for axis in axes], tuple(shape[axis] for axis in axes)
        given = g.constant(np.float32(scales), TensorProto.FLOAT, plain=True)
    if g.chance(0.3):
        sizes = [max(1, math.floor(extent * scale)) for extent, scale in zip(shape, scales, strict=True)]
        nothing = g.constant(np.zeros(0), TensorProto.FLOAT, plain=True) if g.opset < 13 else ""
        return g.run("Resize", [x, roi, nothing, g.ints(sizes)], **told)
    return g.run("Resize", [x, roi, given], **told)


def rearrange(g: Grower, x: str) -> str:
    _, c, h, w = g.shape(x)
    if g.chance(0.5):
        g.need(h % 2 == 0 and w % 2 == 0)
        return g.run("SpaceToDepth", [x], blocksize=2)
    g.need(c % 4 == 0)
    return g.run("DepthToSpace", [x], blocksize=2, mode=g.pick(["DCR", "CRD"]) if g.opset >= 11 else None)


def cast(g: Grower, x: str) -> str:
    kinds = [TensorProto.FLOAT, TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16]
    return g.run("Cast", [x], to=g.pick(kinds))


def passing(g: Grower, x: str) -> str:
    return g.run(g.pick(["Identity", "Dropout"]), [x])


def there_and_back(g: Grower, x: str) -> str:
    """Two transposes or reshapes around a normalization, as tokens are normalized."""
    rank = len(g.shape(x))
    g.need(rank >= 3)
    perm = g.rng.permutation(rank).tolist()
    middle = g.pick([batch_normalization, primitive])(g, g.run("Transpose", [x], perm=perm))
    g.need(len(g.shape(middle)) == rank)
    return g.run("Transpose", [middle], perm=np.argsort(perm).tolist())


def sandwich(g: Grower, x: str) -> str:
    """A linear operator, some carriers, a map, some carriers, a linear operator."""
    if g.chance(0.7):
        x = g.one(_LINEAR, x)
    for _ in range(int(g.pick([0, 1, 1, 2, 3]))):
        x = g.one(_CARRIERS, x)
    x = g.one(_MAPS, x)
    if g.chance(0.3):
        return x
    for _ in range(int(g.pick([0, 0, 1, 2]))):
        x = g.one(_CARRIERS, x)
    return g.one(_LINEAR, x)


def branches(g: Grower, x: str) -> str:
    """Two or three ways out of one tensor that meet again, and a map behind them."""
    parts = []
    for _ in range(int(g.pick([2, 2, 3]))):
        part = g.one(_LINEAR, x)
        for _ in range(int(g.pick([0, 0, 1]))):
            part = g.one(_CARRIERS, part)
        parts.append(part)
    shapes = [g.shape(part) for part in parts]
    if len(set(shapes)) == 1 and g.chance(0.6):
        joined = g.run("Sum" if len(parts) > 2 else g.pick(["Add", "Sub", "Sum"]), parts)
    else:
        joined = g.run("Concat", parts, axis=g.pick([1, 1, len(shapes[0]) - 1]))
    for _ in range(int(g.pick([0, 0, 1]))):
        joined = g.one(_CARRIERS, joined)
    return g.one(_MAPS, joined)


def fan(g: Grower, x: str) -> list[str]:
    """A map that several operators read."""
    x = g.one(_MAPS, x)
    found = []
    for _ in range(2):
        part = g.one(_CARRIERS, x) if g.chance(0.4) else x
        found.append(g.one(_LINEAR, part))
    return found


_LINEAR: list[Maker] = [conv, conv, conv_transpose, gemm, gemm, matmul, matmul]
_MAPS: list[Maker] = [batch_normalization, batch_normalization, primitive, run_of_primitives, hand_written]
_CARRIERS: list[Maker] = [
    activation,
    reshape,
    flatten,
    squeeze,
    unsqueeze,
    transpose,
    concat,
    split,
    slice_of,
    join,
    pad,
    pool,
    global_pool,
    resize,
    rearrange,
    cast,
    passing,
]
_MAKERS: list[Maker] = [
    *[sandwich] * 14,
    *[branches] * 8,
    *[fan] * 5,
    *[batch_normalization] * 7,
    *[primitive] * 5,
    *[run_of_primitives] * 2,
    *[hand_written] * 2,
    *[conv] * 6,
    *[conv_transpose] * 3,
    *[gemm] * 4,
    *[matmul] * 4,
    *[activation] * 3,
    *[reshape] * 3,
    *[flatten] * 2,
    squeeze,
    unsqueeze,
    *[transpose] * 2,
    *[concat] * 4,
    *[split] * 2,
    *[slice_of] * 2,
    *[join] * 4,
    *[pad] * 2,
    *[pool] * 2,
    *[global_pool] * 2,
    *[resize] * 2,
    rearrange,
    cast,
    passing,
    there_and_back,
]


def sample(seed: int) -> Sample:
    """A random model of 3 to 14 operators (and the constant plumbing in front of them)."""
    rng = np.random.default_rng(seed)
    base = int(rng.choice([2, 3, 4]))
    palette = [base] * 4 + [1, 2, 3, 4, 6]
    elem_type = int(rng.choice([TensorProto.FLOAT] * 8 + [TensorProto.DOUBLE, TensorProto.FLOAT16]))
    grower = Grower(
        rng, int(rng.choice([*range(7, 22), 13, 17, 18, 21])), elem_type, palette, float(rng.choice([0.5, 0.8, 0.97]))
    )
    for _ in range(int(rng.choice([1, 1, 2]))):
        shape = tuple(grower.extent() for _ in range(int(rng.choice([2, 2, 3, 4, 4, 4]))))
        symbolic = rng.random(len(shape)) < rng.choice([0.0, 0.0, 0.0, 0.3])
        declared = ["N" if axis == 0 and symbolic[0] else f"d{axis}" if symbolic[axis] else n for axis, n in enumerate(shape)]
        grower.feed(shape, [f"{each}_{len(grower.inputs)}" if isinstance(each, str) else each for each in declared])
    wanted = int(rng.integers(3, 15))
    tries = 0
    while len(grower.nodes) < wanted and tries < 400:
        tries += 1
        try:
            grower.grow(grower.source())
        except Unfit:
            continue
    return Sample(seed, _model(grower), {name: grower.scope[name].array.astype(FLOATS[elem_type]) for name in grower.inputs})


def _model(grower: Grower) -> onnx.ModelProto:
    rng, made = grower.rng, [name for node in grower.nodes if node.op_type != "Constant" for name in node.output]
    read = {name for node in grower.nodes for name in node.input}
    data = [name for name in made if name in grower.data or name not in read]
    outputs = [name for name in data if name not in read or rng.random() < 0.03] or [grower.data[0]]
    used = read | set(outputs)
    declared = {name: dims for name, dims in grower.inputs.items() if name in used}
    initializers = [tensor for tensor in grower.weights if tensor.name in used]
    inputs = [helper.make_tensor_value_info(name, grower.elem_type, dims) for name, dims in declared.items()]
    if rng.random() < 0.06 and initializers:  # some weights that a caller may override
        some = initializers[:: int(rng.integers(1, 4))]
        inputs += [helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims) for tensor in some]
    results = [helper.make_tensor_value_info(name, grower.scope[name].elem_type, None) for name in outputs]
    graph = helper.make_graph(grower.nodes, "random", inputs, results, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", grower.opset)])
    model.ir_version = 8 if grower.opset < 19 else 9 if grower.opset < 21 else 10
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    for mine, found in zip(model.graph.output, inferred.graph.output, strict=True):
        if found.type.tensor_type.HasField("shape"):
            mine.CopyFrom(found)
        else:
            value = grower.scope[mine.name]
            mine.CopyFrom(helper.make_tensor_value_info(mine.name, value.elem_type, [None] * value.array.ndim))
    onnx.checker.check_model(model, full_check=True)
    return model


# -- what must hold -------------------------------------------------------------------------------------------------------


class Broken(AssertionError):
    """Something that must hold for every fold does not."""

    def __init__(self, what: str, found: str) -> None:
        super().__init__(f"{what}: {found}")
        self.what = what


def check(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray], runtime: bool = False) -> Counter[str]:
    """Folds a model and checks the result; counts what happened to its normalizations.

    Raises:
        Broken: what does not hold.
    """
    before = model.SerializeToString(deterministic=True)
    result = bnfold.fold(model)
    folded = result.model
    _require(model.SerializeToString(deterministic=True) == before, "the argument is left alone", "it was changed")
    try:
        onnx.checker.check_model(folded, full_check=True)
    except onnx.checker.ValidationError as error:
        raise Broken("the result is valid", str(error)) from error
    except onnx.shape_inference.InferenceError as error:
        raise Broken("the result is valid", str(error)) from error
    _require(list(folded.graph.output) == list(model.graph.output), "the outputs stay", "they changed")
    _require(list(folded.graph.input) == list(model.graph.input), "the inputs stay", "they changed")
    _check_verdicts(model, result)
    # An initializer that a caller may override stays, read or not: it is an input.
    dead = set(_dead(folded)) - set(_dead(model)) - {value.name for value in folded.graph.input}
    _require(not dead, "nothing dead is left behind", f"{dead}")
    _compare(model, folded, feeds)
    stored = folded.SerializeToString()
    _require(bnfold.fold(model).model.SerializeToString() == stored, "a fold is deterministic", "a second run differs")
    again = bnfold.fold(folded).model.SerializeToString()
    _require(again == stored, "a fold is idempotent", "folding the result again changes it")
    _require(bnfold.plan(model) == result.plan, "plan and fold agree", "they do not")
    if runtime:
        _compare_runtime(model, folded, feeds)
    return Counter(v.kind if v.kind == "fold" else v.code for v in result.plan.verdicts)


def _require(condition: bool, what: str, found: str) -> None:
    if not condition:
        raise Broken(what, found)


def _check_verdicts(model: onnx.ModelProto, result: bnfold.FoldResult) -> None:
    said = [verdict.normalization.output for verdict in result.plan.verdicts]
    _require(len(said) == len(set(said)), "one verdict each", f"{said}")
    kept = {verdict.normalization.output for verdict in result.plan.refusals}
    there = [node.output[0] for node in model.graph.node if node.op_type == "BatchNormalization"]
    _require(set(there) <= set(said), "a verdict for every normalization", f"none for {set(there) - set(said)}")
    left = sum(node.op_type == "BatchNormalization" for node in result.model.graph.node)
    _require(
        left == len(kept & set(there)), "verdicts are true", f"{left} are left, and {sorted(kept & set(there))} are said to stay"
    )


def _dead(model: onnx.ModelProto) -> Iterator[str]:
    read = {name for node in model.graph.node for name in node.input} | {each.name for each in model.graph.output}
    for node in model.graph.node:
        if not read & set(node.output):
            yield node.output[0]
    yield from (tensor.name for tensor in model.graph.initializer if tensor.name not in read)


def _compare(model: onnx.ModelProto, folded: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> None:
    """Both in float64. Folded weights are rounded once, as if the original's had been changed by a unit roundoff or so."""
    roundoff = _roundoff(model)
    expected, found = evaluate(model, feeds), evaluate(folded, feeds)
    shaken = [evaluate(_shaken(model, roundoff, draw), feeds) for draw in range(3)]
    for name, values in expected.items():
        _require(
            found[name].shape == values.shape, "the values agree", f"`{name}` has shape {found[name].shape}, not {values.shape}"
        )
        if not np.issubdtype(values.dtype, np.floating):
            stable = all(np.array_equal(values, each[name]) for each in shaken)
            _require(not stable or np.array_equal(found[name], values), "the values agree", f"`{name}` differs")
            continue
        size = np.abs(values).max()
        allowed = 30 * max(np.abs(each[name] - values).max() for each in shaken) + 8 * roundoff * (size + 1)
        worst = np.abs(found[name] - values).max()
        _require(
            bool(worst <= allowed),
            "the values agree",
            f"`{name}` differs by {worst:.3g}, of {size:.3g}; {allowed:.2g} is allowed",
        )


def _roundoff(model: onnx.ModelProto) -> float:
    kinds = {tensor.data_type for tensor in model.graph.initializer} | {
        each.type.tensor_type.elem_type for each in model.graph.input
    }
    for node in model.graph.node:
        kinds |= {attribute.i for attribute in node.attribute if attribute.name == "to"}
        kinds |= {attribute.t.data_type for attribute in node.attribute if attribute.name == "value"}
    return max((ROUNDOFF[kind] for kind in kinds if kind in ROUNDOFF), default=2.0**-24)


def _shaken(model: onnx.ModelProto, roundoff: float, draw: int) -> onnx.ModelProto:
    """The model in float64, every weight changed by up to one unit roundoff of its type, and so is every value that is fed."""
    rng, shaken = np.random.default_rng(draw), onnx.ModelProto()
    shaken.CopyFrom(model)
    tensors = [*shaken.graph.initializer]
    tensors += [attribute.t for node in shaken.graph.node for attribute in node.attribute if node.op_type == "Constant"]
    feeds_shapes = {name for node in model.graph.node if node.op_type in ("Resize", "Upsample") for name in node.input[1:]}
    for tensor in tensors:
        if tensor.data_type not in FLOATS or tensor.name in feeds_shapes:
            continue
        values = numpy_helper.to_array(tensor).astype(np.float64)
        values = values * (1 + roundoff * rng.choice([-1.0, 1.0], values.shape))
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return shaken


def _compare_runtime(model: onnx.ModelProto, folded: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> None:
    """With onnxruntime, all its optimizations off. It has no kernel for some models, which then are passed over."""
    expected = run(model, feeds)
    if expected is None:
        return
    found = run(folded, feeds)
    _require(found is not None, "onnxruntime runs the result", "it runs the original only")
    assert found is not None
    exact = evaluate(model, feeds)
    for (name, wanted), values in zip(exact.items(), found, strict=True):
        if not np.issubdtype(wanted.dtype, np.floating):
            continue
        original = expected[list(exact).index(name)].astype(np.float64)
        noise = np.abs(original - wanted).max()
        worst = np.abs(values.astype(np.float64) - wanted).max()
        allowed = 30 * noise + 2000 * _roundoff(model) * (1 + np.abs(wanted).max())
        _require(bool(worst <= allowed), "onnxruntime agrees", f"`{name}` is off by {worst:.3g}, and the original by {noise:.3g}")
        _require(bool(noise <= 0.02 * (1 + np.abs(wanted).max())), "the reference is right", f"`{name}` is off by {noise:.3g}")


def run(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray] | None:
    """The outputs by onnxruntime on the CPU; None where it cannot run the model."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return list(session.run(None, dict(feeds)))
    except Exception:  # onnxruntime has no common base class for its errors
        return None


# -- making a failure small -----------------------------------------------------------------------------------------------


def minimized(case: Sample, what: str) -> Sample:
    """The smallest model found that breaks the same: nodes are cut off, and inputs put in their place, while it still does."""

    def breaks(candidate: Sample) -> bool:
        try:
            check(candidate.model, candidate.feeds)
        except Broken as error:
            return error.what == what
        except Exception as error:
            return what == type(error).__name__
        return False

    best, progress = case, True
    while progress:
        progress = False
        for candidate in _smaller(best):
            if breaks(candidate):
                best, progress = candidate, True
                break
    return best


def _smaller(case: Sample) -> Iterator[Sample]:
    graph = case.model.graph
    for output in graph.output:
        if len(graph.output) > 1:
            yield from _cut(case, [each for each in graph.output if each is not output], {})
    values = _all_values(case)
    for node in reversed(graph.node):
        if node.op_type == "Constant" or any(name not in values for name in node.output):
            continue
        yield from _cut(case, list(graph.output), {name: values[name] for name in node.output})  # an input instead
        first = values.get(node.input[0]) if node.input else None
        if first is not None and first.array.shape == values[node.output[0]].array.shape and len(node.output) == 1:
            yield from _cut(case, list(graph.output), {}, (node.output[0], node.input[0]))  # the node passed by
        if node.output[0] not in {each.name for each in graph.output}:
            yield from _cut(case, [_value_info(node.output[0], values[node.output[0]])], {})  # its result the only output


def _all_values(case: Sample) -> dict[str, Value]:
    scope = {name: Value(a.astype(np.float64), helper.np_dtype_to_tensor_dtype(a.dtype)) for name, a in case.feeds.items()}
    Machine().graph(case.model.graph, scope, case.model.opset_import[0].version)
    return scope


def _value_info(name: str, value: Value) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, value.elem_type, value.array.shape)


def _cut(
    case: Sample, outputs: list[onnx.ValueInfoProto], fed: dict[str, Value], passed: tuple[str, str] | None = None
) -> Iterator[Sample]:
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    graph, kept, wanted = model.graph, [], {each.name for each in outputs}
    del graph.output[:]
    graph.output.extend(each for each in outputs if each.name not in fed)
    for node in reversed(case.model.graph.node):
        if not wanted & set(node.output) or set(fed) & set(node.output) or (passed and passed[0] in node.output):
            continue
        mine = onnx.NodeProto()
        mine.CopyFrom(node)
        if passed:
            mine.input[:] = [passed[1] if name == passed[0] else name for name in mine.input]
        kept.append(mine)
        wanted |= set(mine.input)
    if not graph.output or (passed and passed[0] in {each.name for each in outputs}) or len(kept) == 0:
        return
    del graph.node[:]
    graph.node.extend(reversed(kept))
    _keep_named(graph.initializer, wanted)
    _keep_named(graph.input, wanted)
    graph.input.extend(_value_info(name, value) for name, value in fed.items() if name in wanted)
    feeds = {name: array for name, array in case.feeds.items() if name in wanted}
    feeds |= {
        name: value.array.astype(helper.tensor_dtype_to_np_dtype(value.elem_type))
        for name, value in fed.items()
        if name in wanted
    }
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception:
        return
    yield Sample(case.seed, model, feeds)


def _keep_named(entries: Any, names: set[str]) -> None:
    kept = [entry for entry in entries if entry.name in names]
    del entries[:]
    entries.extend(kept)


def main() -> int:
    """The long run."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--runtime-every", type=int, default=5, help="compare with onnxruntime every so many graphs; 0 never")
    parser.add_argument("--stop-after", type=int, default=5, help="failures to show before giving up")
    told = parser.parse_args()
    said: Counter[str] = Counter()
    operators: Counter[str] = Counter()
    failures: Counter[str] = Counter()
    start = time.monotonic()
    for seed in range(told.seed, told.seed + told.count):
        case = sample(seed)
        operators.update(node.op_type for node in case.model.graph.node)
        try:
            said += check(case.model, case.feeds, bool(told.runtime_every) and seed % told.runtime_every == 0)
        except Exception as error:
            what = error.what if isinstance(error, Broken) else type(error).__name__
            failures[what] += 1
            if failures[what] <= told.stop_after:
                small = minimized(case, what)
                print(f"\nseed {seed}: {error!r}"[:800], onnx.printer.to_text(small.model), sep="\n", flush=True)
    nodes = f"{sum(operators.values()):,} nodes of {len(operators)} operators"
    print(f"\n{told.count:,} graphs in {time.monotonic() - start:.0f} s, {nodes}")
    print("normalizations:", ", ".join(f"{count:,} {what}" for what, count in said.most_common()))
    print("failures:", ", ".join(f"{count} × {what}" for what, count in failures.most_common()) or "none")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
