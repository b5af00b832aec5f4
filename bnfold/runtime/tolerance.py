"""How far two models that compute the same thing may drift apart, by rounding alone, where there is no truth to ask.

`bnfold.runtime.against_truth` decides where both models can be evaluated in float64. For the others, for inputs that there was no
time to evaluate, and for a tolerance that the user gives, this is the criterion; it is much looser.

The criterion is normwise, per output and input: `max|Δ| ≤ atol + rtol·max|reference|`. An elementwise relative error says
nothing where a value is close to zero, and in an output of a deep network some always are.

**The defaults** come from measurements with onnxruntime 1.31 on a CPU: networks of 5 to 151 convolutions or matrix products,
trained and random, their normalizations folded in float64, with and without onnxruntime's own optimizations, on inputs of size
1 and of size 255. Each is above the largest `max|Δ| / max|reference|` seen. A flipped or forgotten channel moved the
same networks by 1e-3 to 1 (in float32 on average 1,000 times the tolerance).

    precision    largest seen           rtol
    float64      4e-14                  1e-9
    float32      5e-6 (9e-6 at 255)     1e-4
    float16      1.1e-2                 2.5e-2   MobileNetV2 and U-Net at full size; narrow versions of others up to 2e-2
    quantized    9e-3                   3e-2     8-bit activations: a value that rounds the other way moves by a whole step
    bfloat16     as float16, 8 × as coarse    1e-1

What counts is the *coarsest* precision in the graph: a model that casts to float16 inside and back at its end answers in
float32 with the accuracy of float16. A graph that is float64 throughout is held to float64.

`atol` matters only for outputs that are zero but for rounding, such as a residual that cancels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

from bnfold.errors import InputError

if TYPE_CHECKING:
    import onnx

FLOAT_NAMES = ("float64", "float32", "float16", "bfloat16")

Precision: TypeAlias = Literal["float64", "float32", "float16", "bfloat16", "quantized"]


@dataclass(frozen=True)
class Tolerance:
    """An allowed difference of `atol + rtol·max|reference|`.

    Attributes:
        atol: in the units of the output.
        rtol: relative to the largest finite magnitude of the reference.
        words: what it is, as the rest of "differs more than …".
    """

    atol: float
    rtol: float
    words: str = ""

    def allows(self, size: float) -> float:
        """The largest difference allowed on values up to `size`."""
        return self.atol + self.rtol * size


DEFAULTS: dict[Precision, Tolerance] = {  # from the finest to the coarsest
    "float64": Tolerance(1e-12, 1e-9),
    "float32": Tolerance(1e-6, 1e-4),
    "float16": Tolerance(1e-4, 2.5e-2),
    "quantized": Tolerance(1e-6, 3e-2),
    "bfloat16": Tolerance(1e-3, 1e-1),
}
UNIT_ROUNDOFF: dict[Precision, float] = {
    "float64": 2.0**-53,
    "float32": 2.0**-24,
    "float16": 2.0**-11,
    "quantized": 2.0**-8,  # half a step of 8 bits, relative to the largest value
    "bfloat16": 2.0**-8,
}
"""The largest relative error of rounding one value."""

_RANK = {precision: place for place, precision in enumerate(DEFAULTS)}


def coarser(one: Precision, other: Precision) -> Precision:
    """The coarser of two precisions."""
    return max(one, other, key=lambda precision: _RANK[precision])


def with_dtype(inside: Precision, dtype: str) -> Precision:
    """The precision of an output of a type, named as numpy does, in a graph of a precision."""
    return coarser(inside, dtype) if dtype in FLOAT_NAMES else inside  # type: ignore[arg-type]  # `in` narrows no str


def tolerance_for(dtype: str, inside: Precision, atol: float | None, rtol: float | None) -> Tolerance | None:
    """What an output may differ by; None where it has to be equal.

    Args:
        dtype: numpy's name of the output's type.
        inside: the coarsest precision of the graph that computes it.
        atol: replaces the default for every output that may differ at all.
        rtol: the same.
    """
    precision = with_dtype(inside, dtype)
    if dtype not in FLOAT_NAMES and not (inside == "quantized" and dtype in ("int8", "uint8")):
        return None
    default = DEFAULTS[precision]
    if atol is None and rtol is None:
        share = f"{default.rtol:.1e}".replace(".0e", "e")
        return replace(default, words=f"the tolerance for {precision} ({share} of the largest value)")
    words = "--atol/--rtol (atol, rtol) allow"
    return Tolerance(default.atol if atol is None else atol, default.rtol if rtol is None else rtol, words)


def check_tolerance(name: str, value: float | None) -> None:
    """Raises `InputError` unless `value` is None or a finite number that is not negative."""
    if value is not None and not (math.isfinite(value) and value >= 0):
        raise InputError(f"{name} is {value}: it has to be a finite number, zero or more.")


def coarsest(proto: onnx.ModelProto, nodes: Iterable[onnx.NodeProto]) -> Precision:
    """The coarsest precision that a model computes in, by its inputs, initializers, constants, casts and operators."""
    import onnx

    kinds = onnx.TensorProto
    by_elem_type: dict[int, Precision] = {
        kinds.DOUBLE: "float64",
        kinds.FLOAT: "float32",
        kinds.FLOAT16: "float16",
        kinds.BFLOAT16: "bfloat16",
    }
    seen = {value.type.tensor_type.elem_type for value in (*proto.graph.input, *proto.graph.output)}
    seen |= {tensor.data_type for tensor in proto.graph.initializer}
    quantized = False
    for node in nodes:
        quantized = quantized or "QuantizeLinear" in node.op_type or node.op_type.startswith("QLinear")
        for attribute in node.attribute:
            if attribute.HasField("t"):
                seen.add(attribute.t.data_type)
            if attribute.name == "to":
                seen.add(attribute.i)
            if attribute.HasField("g"):
                seen |= {tensor.data_type for tensor in attribute.g.initializer}
    found: Precision = "quantized" if quantized else "float64"
    known = [by_elem_type[elem_type] for elem_type in seen if elem_type in by_elem_type]
    if not known and not quantized:
        return "float32"
    for precision in known:
        found = coarser(found, precision)
    return found
