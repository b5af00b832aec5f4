"""Mistakes that people and tools make when they fold a normalization, planted into models that were folded correctly.

A *spot* is a linear operator that took a BatchNormalization. `faults` plants each kind of mistake there, one at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Array: TypeAlias = NDArray[Any]
Values: TypeAlias = tuple[Array, Array]  # weight with the output channels first, and bias; float64

LINEAR = {"Conv", "ConvTranspose", "Gemm", "MatMul"}


@dataclass(frozen=True)
class Spot:
    """One operator of the folded model, and the normalization in it.

    Attributes:
        tensor: its output, named as the normalization's was.
        node: its place among the folded model's nodes.
        op_type: of the operator.
        weight, bias: as they are stored, with the output channels first; float64, (C, …) and (C,).
        gamma, beta, mean, var: of the normalization, float64, (C,).
        eps: its epsilon.
        source: the tensor that the normalization reads in the original.
    """

    tensor: str
    node: int
    op_type: str
    weight: Array = field(repr=False)
    bias: Array = field(repr=False)
    gamma: Array = field(repr=False)
    beta: Array = field(repr=False)
    mean: Array = field(repr=False)
    var: Array = field(repr=False)
    eps: float
    source: str

    @property
    def scale(self) -> Array:
        return self.gamma / np.sqrt(self.var + self.eps)


@dataclass(frozen=True)
class Fault:
    """A folded model with one mistake in it.

    Attributes:
        kind: which one.
        tensor: the first value that is wrong.
        model: the model.
    """

    kind: str
    tensor: str
    model: onnx.ModelProto = field(repr=False)


def spots(original: onnx.ModelProto, folded: onnx.ModelProto) -> list[Spot]:
    """The operators of the main graph that took the BatchNormalization right behind them, in the order of the graph."""
    ours, theirs = constants(original), constants(folded)
    norms = {node.output[0]: node for node in original.graph.node if node.op_type == "BatchNormalization"}
    found = []
    for place, node in enumerate(folded.graph.node):
        norm = norms.get(node.output[0]) if node.op_type in LINEAR else None
        if norm is None or not all(name in ours for name in norm.input[1:]):
            continue
        weight = theirs.get(node.input[1])
        bias = theirs.get(node.input[2]) if len(node.input) > 2 else None
        gamma, beta, mean, var = (ours[name].astype(np.float64) for name in norm.input[1:])
        if weight is None or bias is None or bias.shape != gamma.shape or _is_grouped_transposed(node):
            continue
        eps = next((each.f for each in norm.attribute if each.name == "epsilon"), 1e-5)
        first = np.moveaxis(weight.astype(np.float64), _axis(node), 0)
        found.append(
            Spot(
                node.output[0],
                place,
                node.op_type,
                first,
                bias.astype(np.float64),
                gamma,
                beta,
                mean,
                var,
                eps,
                norm.input[0],
            )
        )
    return found


def constants(model: onnx.ModelProto) -> dict[str, Array]:
    """Initializers and Constant nodes of the main graph."""
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            found[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    return found


def faults(folded: onnx.ModelProto, spot: Spot, others: list[Spot], batch: Mapping[str, Array]) -> Iterator[Fault]:
    """Every mistake that can be made at a spot.

    Args:
        folded: the model without a mistake.
        spot: where.
        others: all spots, to take a wrong mean from.
        batch: the values of every spot's `source` in the original, for one input.
    """
    channel = int(np.argmax(np.abs(spot.weight).reshape(len(spot.weight), -1).max(1)))
    for kind, change in _CHANGES.items():
        changed = change(spot, channel, others, batch)
        if changed is not None and not _same(changed, (spot.weight, spot.bias), spot, folded):
            yield Fault(kind, spot.tensor, _with_values(folded, spot, *changed))
    for kind, edit in _EDITS.items():
        edited = edit(folded, spot)
        if edited is not None:
            yield Fault(kind, *edited)


def channel_faults(folded: onnx.ModelProto, spot: Spot, channels: Iterator[int] | list[int]) -> Iterator[Fault]:
    """The wrong sign in one channel, for each of several."""
    for channel in channels:
        yield Fault(f"sign of channel {channel}", spot.tensor, _with_values(folded, spot, *_sign(spot, channel)))


# Mistakes in the values


def _sign(spot: Spot, channel: int, *_: Any) -> Values:
    weight = spot.weight.copy()
    weight[channel] *= -1
    return weight, spot.bias


def _neighbour(spot: Spot, channel: int, *_: Any) -> Values | None:
    other = (channel + 1) % len(spot.gamma)
    if spot.scale[channel] == 0:
        return None
    weight = spot.weight.copy()
    weight[channel] *= spot.scale[other] / spot.scale[channel]
    return weight, spot.bias


def _rescaled(spot: Spot, ratio: Array, shift: Array | float = 0.0) -> Values:
    """The fold with `ratio` times its scale, and the mean moved so that the bias without beta changes by `shift` before that."""
    weight = spot.weight * ratio.reshape(-1, *[1] * (spot.weight.ndim - 1))
    return weight, spot.beta + (spot.bias - spot.beta + shift) * ratio


def _no_epsilon(spot: Spot, *_: Any) -> Values | None:
    return _rescaled(spot, np.sqrt((spot.var + spot.eps) / spot.var)) if np.all(spot.var > 0) else None


def _double_epsilon(spot: Spot, *_: Any) -> Values:
    return _rescaled(spot, np.sqrt((spot.var + spot.eps) / (spot.var + 2 * spot.eps)))


def _unscaled_bias(spot: Spot, *_: Any) -> Values | None:
    """`(b − mean) + beta` for `(b − mean)·scale + beta`."""
    return (spot.weight, spot.beta + (spot.bias - spot.beta) / spot.scale) if np.all(spot.scale != 0) else None


def _foreign_mean(spot: Spot, channel: int, others: list[Spot], *_: Any) -> Values:
    found = [each.mean for each in others if each.tensor != spot.tensor and each.mean.shape == spot.mean.shape]
    mean = found[0] if found else np.roll(spot.mean, 1)
    return spot.weight, spot.bias + (spot.mean - mean) * spot.scale


def _one_weight(spot: Spot, *_: Any) -> Values:
    weight = spot.weight.copy()
    weight.flat[int(np.argmax(np.abs(weight)))] *= 1 + 1e-3
    return weight, spot.bias


def _training(spot: Spot, channel: int, others: list[Spot], batch: Mapping[str, Array]) -> Values:
    values = np.moveaxis(batch[spot.source], 1, 0).reshape(len(spot.mean), -1)
    ratio = np.sqrt((spot.var + spot.eps) / (values.var(1) + spot.eps))
    return _rescaled(spot, ratio, (spot.mean - values.mean(1)) * spot.scale)


def _half(spot: Spot, *_: Any) -> Values | None:
    with np.errstate(over="ignore"):
        weight = spot.weight.astype(np.float16).astype(np.float64)
    return (weight, spot.bias) if np.isfinite(weight).all() else None


def _transposed(spot: Spot, *_: Any) -> Values | None:
    if spot.op_type not in ("Gemm", "MatMul"):
        return None
    return spot.weight.T.reshape(spot.weight.shape), spot.bias


_CHANGES: dict[str, Callable[..., Values | None]] = {
    "one channel's sign": _sign,
    "a neighbour's scale": _neighbour,
    "epsilon forgotten": _no_epsilon,
    "epsilon doubled": _double_epsilon,
    "bias not scaled": _unscaled_bias,
    "mean of another layer": _foreign_mean,
    "one weight off by 1e-3": _one_weight,
    "statistics of the batch": _training,
    "weights rounded to float16": _half,
    "Gemm transposed": _transposed,
}


# Mistakes in the graph


def _no_bias(folded: onnx.ModelProto, spot: Spot) -> tuple[str, onnx.ModelProto] | None:
    """The operator lost its third input."""
    if not np.any(spot.bias):
        return None
    model = _copy(folded)
    del model.graph.node[spot.node].input[2:]
    return spot.tensor, model


def _no_operand(folded: onnx.ModelProto, spot: Spot) -> tuple[str, onnx.ModelProto] | None:
    """The sum that reads the operator's output lost its other operand."""
    for place, node in enumerate(folded.graph.node):
        if node.op_type == "Add" and spot.tensor in node.input and len(set(node.input)) == 2:
            model = _copy(folded)
            kept = helper.make_node("Identity", [spot.tensor], list(node.output), name=node.name)
            model.graph.node[place].CopyFrom(kept)
            return node.output[0], model
    return None


def _borders(folded: onnx.ModelProto, spot: Spot) -> tuple[str, onnx.ModelProto] | None:
    """A shift of the input pushed through the zero padding: `conv(x − s) + Σ W·s`, which is `conv(x)` but for the borders."""
    node = folded.graph.node[spot.node]
    told = {each.name: each for each in node.attribute}
    padded = "pads" in told and any(told["pads"].ints)
    if node.op_type != "Conv" or not padded or ("group" in told and told["group"].i != 1):
        return None
    shift = 0.1
    bias = spot.bias + shift * spot.weight.reshape(len(spot.weight), -1).sum(1)
    model = _with_values(folded, spot, spot.weight, bias)
    dtype = constants(folded)[node.input[1]].dtype
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(shift, dtype), "planted.shift"))
    model.graph.node[spot.node].input[0] = "planted.x"
    model.graph.node.insert(spot.node, helper.make_node("Sub", [node.input[0], "planted.shift"], ["planted.x"], name="planted"))
    return spot.tensor, model


_EDITS: dict[str, Callable[[onnx.ModelProto, Spot], tuple[str, onnx.ModelProto] | None]] = {
    "an input dropped (bias)": _no_bias,
    "an input dropped (operand of a sum)": _no_operand,
    "border pixels only": _borders,
}

KINDS = (*_CHANGES, *_EDITS)


# Writing them down


def _with_values(folded: onnx.ModelProto, spot: Spot, weight: Array, bias: Array) -> onnx.ModelProto:
    """A copy in which this operator reads weights of its own."""
    model = _copy(folded)
    node = model.graph.node[spot.node]
    stored = constants(folded)
    for place, values in ((1, np.moveaxis(weight, 0, _axis(node))), (2, bias)):
        name = f"planted.{place}"
        array = np.ascontiguousarray(values).astype(stored[node.input[place]].dtype)
        model.graph.initializer.append(numpy_helper.from_array(array, name))
        node.input[place] = name
    return model


def _same(changed: Values, values: Values, spot: Spot, folded: onnx.ModelProto) -> bool:
    """Whether a change is lost when it is stored."""
    dtype = constants(folded)[folded.graph.node[spot.node].input[1]].dtype
    return all(np.array_equal(one.astype(dtype), other.astype(dtype)) for one, other in zip(changed, values, strict=True))


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _axis(node: onnx.NodeProto) -> int:
    """The axis of the output channels in a weight."""
    transposed = any(each.name == "transB" and each.i for each in node.attribute)
    return {"Conv": 0, "ConvTranspose": 1, "Gemm": 0 if transposed else 1, "MatMul": -1}[node.op_type]


def _is_grouped_transposed(node: onnx.NodeProto) -> bool:
    return node.op_type == "ConvTranspose" and any(each.name == "group" and each.i != 1 for each in node.attribute)
