"""Weights by reference: where the values lie, what happens to them, and one rounding when they are written.

A fold never computes a weight. It wraps the old one in a `Scaled`, whose float64 factors multiply when several maps meet,
and the product is rounded to the storage type once, block by block, when the model is written.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray

from bnfold.affine import Float64
from bnfold.errors import InputError

FLOAT_TYPES: dict[int, np.dtype[Any]] = {
    onnx.TensorProto.FLOAT: np.dtype(np.float32),
    onnx.TensorProto.DOUBLE: np.dtype(np.float64),
    onnx.TensorProto.FLOAT16: np.dtype(np.float16),
    onnx.TensorProto.BFLOAT16: np.dtype(ml_dtypes.bfloat16),
}
"""The element types that bnfold computes with, by `TensorProto.DataType`."""

_BLOCK_ELEMENTS = 1 << 20
_PACKED = {"INT4": 2, "UINT4": 2, "FLOAT4E2M1": 2, "INT2": 4, "UINT2": 4}  # elements in a byte


Rows: TypeAlias = Callable[[int, int], NDArray[Any]]


class Weight(Protocol):
    """A constant tensor whose values are read when they are needed."""

    @property
    def elem_type(self) -> int:
        """`TensorProto.DataType` of the stored values."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's dimensions."""

    def reader(self) -> Rows:
        """Opens the values: a function that gives rows `[start, stop)` of the first axis, as `values` would. Rank ≥ 1."""

    def values(self) -> NDArray[Any]:
        """All values, not yet rounded: float64 for float types, the stored type for others."""


@dataclass(frozen=True, eq=False)
class Stored:
    """A tensor as it lies in the model or in its external data file.

    Attributes:
        tensor: the proto; its name, doc string and place are kept when the weight is replaced.
        folder: where external data is resolved.
    """

    tensor: onnx.TensorProto
    folder: Path | None = None

    @property
    def elem_type(self) -> int:
        return self.tensor.data_type

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.dims)

    def array(self) -> NDArray[Any]:
        """The stored values in their storage type; a memory map when they are external."""
        try:
            if self.tensor.data_location != onnx.TensorProto.EXTERNAL:
                return onnx.numpy_helper.to_array(self.tensor)
            dtype = onnx.helper.tensor_dtype_to_np_dtype(self.tensor.data_type)
            if not all(self.shape):
                return np.empty(self.shape, dtype)
            region = ExternalRegion.of(self.tensor, self.folder)
            return np.memmap(region.path, dtype, "r", region.offset, self.shape)
        except (ValueError, TypeError, KeyError, OSError) as error:
            what = f"tensor `{self.tensor.name}` of type {type_name(self.elem_type)} and shape {list(self.shape)}"
            if self.tensor.data_location == onnx.TensorProto.EXTERNAL:
                what += f" in {ExternalRegion.of(self.tensor, self.folder).path}"
            raise InputError(f"the values of {what} cannot be read: {error}. Is the file complete? Export it again.") from error

    def reader(self) -> Rows:
        array = self.array()
        return lambda start, stop: _widen(array[start:stop], self.elem_type)

    def values(self) -> NDArray[Any]:
        return _widen(self.array(), self.elem_type)


@dataclass(frozen=True, eq=False)
class Computed:
    """Values that bnfold computed, unrounded: float64 for float types.

    Attributes:
        array: the values.
        elem_type: the type they will be stored in.
    """

    array: NDArray[Any]
    elem_type: int

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    def reader(self) -> Rows:
        return lambda start, stop: self.array[start:stop]

    def values(self) -> NDArray[Any]:
        return self.array


@dataclass(frozen=True, eq=False)
class Scaled:
    """`source` times float64 factors, elementwise and unrounded.

    Attributes:
        source: the weight that is scaled, rank ≥ 1.
        factors: float64 arrays of the source's rank that broadcast against its shape.
    """

    source: Weight
    factors: tuple[Float64, ...]

    @classmethod
    def of(cls, weight: Weight, factor: Float64) -> Scaled:
        """Scales `weight`; factors over the same axes are multiplied in float64 before they meet the values."""
        if not isinstance(weight, Scaled):
            return cls(weight, (factor,))
        same = [known.shape == factor.shape for known in weight.factors]
        if not any(same):
            return cls(weight.source, (*weight.factors, factor))
        place = same.index(True)
        merged = (*weight.factors[:place], weight.factors[place] * factor, *weight.factors[place + 1 :])
        return cls(weight.source, merged)

    def key(self) -> tuple[bytes, ...]:
        """Equal for two weights of one source if and only if they were scaled alike."""
        return tuple(repr(factor.shape).encode() + factor.tobytes() for factor in self.factors)

    @property
    def elem_type(self) -> int:
        return self.source.elem_type

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.shape

    def reader(self) -> Rows:
        source = self.source.reader()
        return lambda start, stop: self._scale(source(start, stop), start, stop)

    def values(self) -> NDArray[Any]:
        return self.reader()(0, self.shape[0])

    def _scale(self, block: NDArray[Any], start: int, stop: int) -> NDArray[Any]:
        with np.errstate(all="ignore"):  # what overflows is found by `rounding_of`, and inf · 0 is NaN in the original as well
            for factor in self.factors:
                block = block * (factor if factor.shape[0] == 1 else factor[start:stop])
        return block


@dataclass(frozen=True, eq=False)
class Flushed:
    """A weight whose subnormal values are stored as zero.

    Attributes:
        source: the weight, of float type.
    """

    source: Weight

    @property
    def elem_type(self) -> int:
        return self.source.elem_type

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.shape

    def reader(self) -> Rows:
        rows = self.source.reader()
        return lambda start, stop: self._flush(rows(start, stop))

    def values(self) -> NDArray[Any]:
        return self._flush(self.source.values())

    def _flush(self, values: NDArray[Any]) -> NDArray[Any]:
        rounded = np.abs(round_to(values, self.elem_type).astype(np.float64))
        return np.where(rounded < smallest_normal(self.elem_type), 0.0, values)


@dataclass(frozen=True)
class ExternalRegion:
    """A byte range of an external data file.

    Attributes:
        path: the file, inside the model's folder.
        offset: its first byte.
        length: how many bytes.
    """

    path: Path
    offset: int
    length: int

    @classmethod
    def of(cls, tensor: onnx.TensorProto, folder: Path | None) -> ExternalRegion:
        """Reads the tensor's `external_data` entries. `bnfold.model` has checked them when the model was opened."""
        entries = {entry.key: entry.value for entry in tensor.external_data}
        length = int(entries["length"]) if "length" in entries else byte_count(tensor.data_type, tuple(tensor.dims))
        return cls((folder or Path()) / entries.get("location", ""), int(entries.get("offset", 0)), length)

    def read(self) -> bytes:
        """The bytes."""
        with self.path.open("rb") as stream:
            stream.seek(self.offset)
            return stream.read(self.length)


def smallest_normal(elem_type: int) -> float:
    """The smallest positive value of a float type that is not subnormal."""
    return float(ml_dtypes.finfo(FLOAT_TYPES[elem_type]).smallest_normal)  # type: ignore[no-untyped-call]


def type_name(elem_type: int) -> str:
    """The name of a `TensorProto.DataType`, or its number where it has none."""
    known = elem_type in onnx.TensorProto.DataType.values()
    return str(onnx.TensorProto.DataType.Name(elem_type)) if known else str(elem_type)


def byte_count(elem_type: int, shape: tuple[int, ...]) -> int:
    """How many bytes a tensor takes in `raw_data` or external data; types of less than 8 bits are packed."""
    elements = math.prod(shape)
    per_byte = _PACKED.get(type_name(elem_type))
    if per_byte is not None:
        return -(-elements // per_byte)
    return elements * onnx.helper.tensor_dtype_to_np_dtype(elem_type).itemsize


def rounded_blocks(weight: Weight) -> Iterator[NDArray[Any]]:
    """The weight's values in storage order and storage type, in blocks of about a million elements."""
    if not weight.shape:
        yield round_to(weight.values(), weight.elem_type)
        return
    rows = weight.reader()
    for start, stop in _row_ranges(weight.shape):
        yield round_to(rows(start, stop), weight.elem_type)


def stored_bytes(weight: Weight) -> Iterator[bytes]:
    """The weight's values as they are stored, block by block; types of less than 8 bits are packed."""
    if type_name(weight.elem_type) in _PACKED:
        yield onnx.numpy_helper.from_array(weight.values()).raw_data
        return
    for block in rounded_blocks(weight):
        yield block.tobytes()


def _row_ranges(shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    row = max(1, math.prod(shape[1:]))
    step = max(1, _BLOCK_ELEMENTS // row)
    for start in range(0, shape[0], step):
        yield start, min(start + step, shape[0])


def round_to(values: NDArray[Any], elem_type: int) -> NDArray[Any]:
    """Rounds float64 `values` to the storage type, once, to nearest even; other types pass through.

    The conversion of ml_dtypes from float64 to bfloat16 goes through float32 and so rounds twice. Rounding to float32 *to
    odd* first keeps the second rounding exact (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums",
    IEEE Transactions on Computers 57(4), 2008).
    """
    if elem_type not in FLOAT_TYPES:
        return values
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        if elem_type == onnx.TensorProto.BFLOAT16:
            return _round_to_odd_float32(values).astype(FLOAT_TYPES[elem_type])
        return values.astype(FLOAT_TYPES[elem_type])


@dataclass(frozen=True)
class Rounding:
    """What rounding to the storage type does to a new weight.

    Attributes:
        overflow: the largest finite value that became infinite; None where none did.
        subnormal: how many values became subnormal or zero although what they came from was neither.
    """

    overflow: float | None
    subnormal: int


def rounding_of(weight: Weight) -> Rounding:
    """Rounds `weight` block by block and looks at the result; nothing is kept."""
    smallest = smallest_normal(weight.elem_type)
    if not weight.shape:
        return Rounding(_overflow(weight.values(), weight.values(), weight.elem_type), 0)
    rows = weight.reader()
    # A value computed anew, such as a bias, has no source to compare with: infinite, it has overflowed float64 itself.
    sources = (
        weight.source.reader() if isinstance(weight, Scaled) else lambda start, stop: np.nan_to_num(rows(start, stop), posinf=1.0)
    )
    overflow, subnormal = None, 0
    for start, stop in _row_ranges(weight.shape):
        exact, before = rows(start, stop), sources(start, stop)
        overflow = max(_overflow(exact, before, weight.elem_type) or 0.0, overflow or 0.0) or None
        small = (np.abs(round_to(exact, weight.elem_type).astype(np.float64)) < smallest) & (exact != 0)
        subnormal += int((small & (np.abs(before) >= smallest)).sum())
    return Rounding(overflow, subnormal)


def _overflow(exact: NDArray[Any], before: NDArray[Any], elem_type: int) -> float | None:
    lost = np.isinf(round_to(exact, elem_type).astype(np.float64)) & np.isfinite(before)
    return float(np.abs(exact[lost]).max()) if lost.any() else None


def _round_to_odd_float32(values: NDArray[Any]) -> NDArray[np.float32]:
    nearest = np.asarray(values, np.float64).astype(np.float32)
    truncated = np.where(np.abs(nearest) > np.abs(values), np.nextafter(nearest, np.float32(0)), nearest)
    inexact = (truncated != values) & np.isfinite(values)
    bits = np.asarray(truncated, np.float32).view(np.uint32) | inexact.astype(np.uint32)
    rounded: NDArray[np.float32] = bits.view(np.float32)
    return rounded


def _widen(array: NDArray[Any], elem_type: int) -> NDArray[Any]:
    if elem_type not in FLOAT_TYPES:
        return array
    with np.errstate(invalid="ignore"):  # a signalling NaN becomes a quiet one
        return array.astype(np.float64)
