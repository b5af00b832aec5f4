"""Casts: nothing between float types, the operator's own rule to everything else."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx

from bnfold.runtime.reference.call import Call, Operator
from bnfold.runtime.reference.value import BOOL, STRING, Array, Tensor, dtype_of, typed
from bnfold.weights import FLOAT_TYPES, round_to

NARROW_FLOATS = {
    int(elem_type): name for name, elem_type in onnx.TensorProto.DataType.items() if name.startswith(("FLOAT8", "FLOAT4"))
}
"""Float types of 8 bits and less: a cast to one of them quantizes, and is made exactly."""


_POWERS_OF_TWO = dict(onnx.TensorProto.DataType.items()).get("FLOAT8E8M0")  # none in onnx before 1.19


def cast(value: Tensor, elem_type: int, saturate: bool = True, round_mode: str = "up") -> Tensor:
    """`value` in another type. Between float16, bfloat16, float32 and float64 nothing happens: rounding is what is judged."""
    x = value.array
    if value.elem_type == STRING:
        return Tensor(_parsed(x, elem_type), elem_type)
    if elem_type == STRING:
        written = round_to(x, value.elem_type) if value.is_float else x
        return Tensor(np.asarray([str(each) for each in written.ravel()], object).reshape(x.shape), STRING)
    if elem_type in FLOAT_TYPES:
        return Tensor(x.astype(np.float64), elem_type)
    if elem_type == BOOL:
        return Tensor(np.asarray(x != 0) if x.dtype.kind in "fiub" else x.astype(np.float64) != 0, BOOL)
    if elem_type == _POWERS_OF_TWO:
        return Tensor(_power_of_two(x.astype(np.float64), round_mode).astype(dtype_of(elem_type)), elem_type)
    if elem_type in NARROW_FLOATS:
        return Tensor(narrowed(x.astype(np.float64), dtype_of(elem_type), saturate), elem_type)
    return Tensor(_to_integers(x, dtype_of(elem_type)), elem_type)


def _to_integers(x: Array, dtype: np.dtype[Any]) -> Array:
    """Cut off towards zero, and wrapped around where the type is too narrow."""
    if x.dtype.kind not in "iub":
        x = np.trunc(x.astype(np.float64))
        inside = np.abs(x) < 2.0**63
        big = np.where(inside, x, 0).astype(np.int64)
        if dtype.name == "uint64":
            high = (x >= 2.0**63) & (x < 2.0**64)
            return np.where(high, np.where(high, x, 0).astype(np.uint64), big.astype(np.uint64))
        x = np.where(inside, big, np.iinfo(np.int64).min)
    if dtype.name in ("int4", "uint4", "int2", "uint2"):
        bits = int(dtype.name[-1])
        x = x & ((1 << bits) - 1)
        if dtype.name.startswith("int"):
            x = np.where(x >= 1 << (bits - 1), x - (1 << bits), x)
        return x.astype(np.int8).astype(dtype)
    return x.astype(dtype)


def narrowed(x: Array, dtype: np.dtype[Any], saturate: bool) -> Array:
    """Rounded to a float type of at most 8 bits; what is too large becomes the largest value, or NaN or infinite."""
    limits = ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]
    if saturate or dtype.name == "float4_e2m1fn":
        x = np.clip(x, float(limits.min), float(limits.max))
    return x.astype(dtype)


def _power_of_two(x: Array, round_mode: str) -> Array:
    """The power of two at or above |x|, at or below it, or nearest to it; FLOAT8E8M0 holds no other values."""
    mantissa, exponent = np.frexp(np.abs(x))  # mantissa in [0.5, 1)
    limit = {"up": 0.5, "down": 1.0, "nearest": np.nextafter(0.75, 0)}[round_mode]
    exponent = np.clip(np.where(mantissa > limit, exponent, exponent - 1), -127, 127)
    return np.where(np.isfinite(x), np.ldexp(1.0, exponent), np.where(np.isnan(x), np.nan, 2.0**127))


def _parsed(x: Array, elem_type: int) -> Array:
    if elem_type == STRING:
        return x
    texts = [each.decode() if isinstance(each, bytes) else str(each) for each in x.ravel()]
    if elem_type in FLOAT_TYPES:
        return np.asarray([float(each) for each in texts], np.float64).reshape(x.shape)
    return np.asarray([int(each) for each in texts], np.int64).reshape(x.shape).astype(dtype_of(elem_type))


def _cast(call: Call, X: Tensor, elem_type: int) -> Tensor:
    return cast(X, elem_type, bool(call.integer("saturate", 1)), call.text("round_mode", "up"))


def bit_cast(call: Call, X: Tensor) -> Tensor:
    """The same bits read as another type: floats in the precision that they are declared with."""
    elem_type = call.integer("to")
    bits = round_to(X.array, X.elem_type)
    dtype = FLOAT_TYPES.get(elem_type, dtype_of(elem_type))
    return typed(np.ascontiguousarray(bits).reshape(bits.shape).view(dtype), elem_type)


OPERATORS: dict[str, Operator] = {
    "BitCast": bit_cast,
    "Cast": lambda call, X: _cast(call, X, call.integer("to")),
    "CastLike": lambda call, X, like: _cast(call, X, like.elem_type),
}
