"""Quantization: exactly what the operators say, on exact scales; and the operators that compute in integers."""

from __future__ import annotations

import numpy as np
import onnx

from bnfold.runtime.reference.call import Call, Operator
from bnfold.runtime.reference.cast import NARROW_FLOATS, narrowed
from bnfold.runtime.reference.conv import convolve
from bnfold.runtime.reference.linear import matmul_integer
from bnfold.runtime.reference.value import INT32, UINT8, Array, Tensor, dtype_of, tensor_of


def quantize_linear(call: Call, x: Tensor, y_scale: Tensor, y_zero_point: Tensor | None = None) -> Tensor:
    """`saturate(round(x/scale) + zero)`, halves to even; per tensor, per axis or per block."""
    elem_type = y_zero_point.elem_type if y_zero_point is not None else call.integer("output_dtype") or UINT8
    scaled = x.array.astype(np.float64) / _spread(call, y_scale, x.shape)
    if elem_type in NARROW_FLOATS:
        return Tensor(narrowed(scaled, dtype_of(elem_type), bool(call.integer("saturate", 1))), elem_type)
    zero = _spread(call, y_zero_point, x.shape) if y_zero_point is not None else np.zeros(())
    return Tensor(_saturated(np.rint(scaled) + zero, elem_type), elem_type)


def dequantize_linear(call: Call, x: Tensor, x_scale: Tensor, x_zero_point: Tensor | None = None) -> Tensor:
    """`(x − zero)·scale`; per tensor, per axis or per block."""
    values = x.array.astype(np.float64)
    if x_zero_point is not None:
        values = values - _spread(call, x_zero_point, x.shape)
    return tensor_of(values * _spread(call, x_scale, x.shape), call.integer("output_dtype") or x_scale.elem_type)


def _spread(call: Call, parameter: Tensor, shape: tuple[int, ...]) -> Array:
    """A scale or a zero point as float64 that broadcasts against `shape`."""
    values, block = parameter.array.astype(np.float64), call.integer("block_size")
    if values.ndim == 0 or (values.size == 1 and not block):
        return np.asarray(values.reshape(()))
    axis = call.integer("axis", 1) % len(shape)
    if block:
        return np.asarray(np.take(np.repeat(values, block, axis), range(shape[axis]), axis))
    return np.asarray(np.reshape(values, [-1 if each == axis else 1 for each in range(len(shape))]))


def _saturated(x: Array, elem_type: int) -> Array:
    """Integers held in float64, in a type whose range they are cut off at."""
    low, high = _range(elem_type)
    whole = np.clip(np.nan_to_num(x), low, high).astype(np.int64)
    dtype = dtype_of(elem_type)
    return np.asarray(whole.astype(dtype) if dtype.kind in "iu" else whole.astype(np.int8).astype(dtype))


def _range(elem_type: int) -> tuple[int, int]:
    name = onnx.TensorProto.DataType.Name(elem_type)
    bits = int(name.lstrip("UINT"))
    return (0, 2**bits - 1) if name.startswith("U") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def qlinear_matmul(
    call: Call,
    a: Tensor,
    a_scale: Tensor,
    a_zero: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero: Tensor,
    y_scale: Tensor,
    y_zero: Tensor,
) -> Tensor:
    """MatMulInteger, then scaled and quantized."""
    total = matmul_integer(call, a, b, a_zero, b_zero).array.astype(np.float64)
    rows = a_scale.array[..., None] if a_scale.array.ndim == 1 and a_scale.array.size > 1 else a_scale.array
    scaled = total * rows * b_scale.array / y_scale.array
    return Tensor(_saturated(np.rint(scaled) + y_zero.array.astype(np.float64), y_zero.elem_type), y_zero.elem_type)


def qlinear_conv(
    call: Call,
    x: Tensor,
    x_scale: Tensor,
    x_zero: Tensor,
    w: Tensor,
    w_scale: Tensor,
    w_zero: Tensor,
    y_scale: Tensor,
    y_zero: Tensor,
    B: Tensor | None = None,
) -> Tensor:
    """ConvInteger plus an int32 bias, then scaled and quantized; weights per tensor or per output channel."""
    total = _convolved(call, x, w, x_zero, w_zero)
    column = (-1, *[1] * (total.ndim - 2))
    if B is not None:
        total += B.array.astype(np.float64).reshape(column)
    scale = x_scale.array * w_scale.array / y_scale.array
    scaled = total * (scale.reshape(column) if scale.size > 1 else scale)
    return Tensor(_saturated(np.rint(scaled) + y_zero.array.astype(np.float64), y_zero.elem_type), y_zero.elem_type)


def conv_integer(call: Call, x: Tensor, w: Tensor, x_zero: Tensor | None = None, w_zero: Tensor | None = None) -> Tensor:
    """The convolution of `x − zero` and `w − zero`, in int32."""
    return tensor_of(_convolved(call, x, w, x_zero, w_zero).astype(np.int32), INT32)


def _convolved(call: Call, x: Tensor, w: Tensor, x_zero: Tensor | None, w_zero: Tensor | None) -> Array:
    values, weight = x.array.astype(np.float64), w.array.astype(np.float64)  # float64 holds every sum of 8-bit products
    if x_zero is not None:
        values = values - x_zero.array.astype(np.float64)
    if w_zero is not None:
        zero = w_zero.array.astype(np.float64)
        weight = weight - (zero.reshape(-1, *[1] * (weight.ndim - 1)) if zero.size > 1 else zero)
    return convolve(call, values, weight)


OPERATORS: dict[str, Operator] = {
    "ConvInteger": conv_integer,
    "DequantizeLinear": dequantize_linear,
    "QLinearConv": qlinear_conv,
    "QLinearMatMul": qlinear_matmul,
    "QuantizeLinear": quantize_linear,
}
