"""What travels along the edges: float64 for every float type, the stored type for all others, and the type the model declares."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray

from bnfold.weights import FLOAT_TYPES

Array: TypeAlias = NDArray[Any]

FLOAT = int(onnx.TensorProto.FLOAT)
INT32 = int(onnx.TensorProto.INT32)
INT64 = int(onnx.TensorProto.INT64)
BOOL = int(onnx.TensorProto.BOOL)
STRING = int(onnx.TensorProto.STRING)
UINT8 = int(onnx.TensorProto.UINT8)


class Tensor(NamedTuple):
    """A tensor.

    Attributes:
        array: float64 where the declared type is float16, bfloat16, float32 or float64; else of the declared type.
        elem_type: the declared type, a `TensorProto.DataType`. Its rounding is never applied to floats.
    """

    array: Array
    elem_type: int

    @property
    def shape(self) -> tuple[int, ...]:
        """The extents."""
        return self.array.shape

    @property
    def is_float(self) -> bool:
        """Whether the declared type is one that is computed in float64."""
        return self.elem_type in FLOAT_TYPES

    def like(self, array: Array) -> Tensor:
        """Another array of the same declared type."""
        return typed(array, self.elem_type)

    def ints(self) -> list[int]:
        """The values, flat, as Python integers: axes, sizes, pads."""
        return [int(each) for each in self.array.ravel()]

    def scalar(self) -> Any:
        """The only value."""
        return self.array.reshape(-1)[0]


Value: TypeAlias = Tensor | list["Value"] | None
"""A tensor, a sequence, or the absent optional."""


def tensor_of(array: Array, elem_type: int | None = None) -> Tensor:
    """A tensor from a numpy array: a float array is widened to float64, and its own type is remembered unless one is declared."""
    if elem_type is None:
        elem_type = elem_type_of(array)
    return typed(array, elem_type)


def typed(array: Array, elem_type: int) -> Tensor:
    """`array` with a declared type; arithmetic that changed its numpy type on the way is taken back to it."""
    dtype = dtype_of(elem_type)
    return Tensor(array if array.dtype == dtype else array.astype(dtype), elem_type)


def dtype_of(elem_type: int) -> np.dtype[Any]:
    """The numpy type that holds values of a declared type here."""
    if elem_type in FLOAT_TYPES:
        return np.dtype(np.float64)
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(elem_type))


def elem_type_of(array: Array) -> int:
    """The declared type that an array from outside stands for."""
    if array.dtype.kind in "OUS":
        return STRING
    return int(onnx.helper.np_dtype_to_tensor_dtype(array.dtype))


def plain(value: Value) -> Any:
    """The value as callers get it: an array, a list of them for a sequence, None for an absent optional."""
    if isinstance(value, Tensor):
        return value.array
    return None if value is None else [plain(each) for each in value]
