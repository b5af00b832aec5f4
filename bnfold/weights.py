"""Weights by reference: where the values lie, what happens to them, and one rounding when they are written.

A fold never computes a weight. It wraps the old one in a `Scaled`, whose float64 factors multiply when several maps meet,
and the product is rounded to the storage type once, block by block, when the model is written.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray

from bnfold.affine import Float64
from bnfold.errors import InputError
from bnfold.parallel import for_each
from bnfold.positions import Source

FLOAT_TYPES: dict[int, np.dtype[Any]] = {
    onnx.TensorProto.FLOAT: np.dtype(np.float32),
    onnx.TensorProto.DOUBLE: np.dtype(np.float64),
    onnx.TensorProto.FLOAT16: np.dtype(np.float16),
    onnx.TensorProto.BFLOAT16: np.dtype(ml_dtypes.bfloat16),
}
"""The element types that bnfold computes with, by `TensorProto.DataType`."""

_BLOCK_ELEMENTS = 1 << 18  # as float64, a few blocks fit the cache, and there are not too many of them
_MARGIN = 2.0**-20  # of a bound on magnitudes: far more than what the rounding of its few products loses
_PACKED = {"INT4": 2, "UINT4": 2, "FLOAT4E2M1": 2, "INT2": 4, "UINT2": 4}  # elements in a byte


Index: TypeAlias = tuple[int | slice, ...]
"""A contiguous part of a tensor: one position on each of the leading axes, and then a range of the next one."""

Blocks: TypeAlias = Callable[[Index], NDArray[Any]]


class Weight(Protocol):
    """A constant tensor whose values are read when they are needed."""

    @property
    def elem_type(self) -> int:
        """`TensorProto.DataType` of the stored values."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's dimensions."""

    def reader(self) -> Blocks:
        """Opens the values: a function that gives any part of them, in the stored type or as `values` would. Rank ≥ 1."""

    def values(self) -> NDArray[Any]:
        """All values, not yet rounded: float64 for float types, the stored type for others."""


@dataclass(eq=False)  # frozen, it would take four times as long to make, and every initializer is one
class Stored:
    """A tensor as it lies in the model or in its external data file. It does not change.

    Attributes:
        tensor: the proto; its name, doc string and place are kept when the weight is replaced.
        folder: where external data is resolved.
    """

    tensor: onnx.TensorProto
    folder: Path | None = None

    @property
    def elem_type(self) -> int:
        return self.tensor.data_type

    @cached_property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.dims)

    @property
    def is_external(self) -> bool:
        """Whether the values lie outside the proto."""
        return is_external(self.tensor)

    def array(self) -> NDArray[Any]:
        """The stored values in their storage type."""
        try:
            if not self.is_external:
                return array_of(self.tensor)
            region = ExternalRegion.of(self.tensor, self.folder)
            return _array_from(region.read(), self.elem_type, self.shape)
        except (ValueError, TypeError, KeyError, OSError) as error:
            raise self._unreadable(error) from error

    def reader(self) -> Blocks:
        dtype = FLOAT_TYPES.get(self.elem_type)
        if not self.is_external or dtype is None:
            array = self.array()
            return lambda index: array[index]
        region = ExternalRegion.of(self.tensor, self.folder)
        try:
            source = Source(region.path)
        except OSError as error:
            raise self._unreadable(error) from error

        def read(index: Index) -> NDArray[Any]:
            try:
                return _block(source, dtype, region.offset, self.shape, index)
            except (ValueError, OSError) as error:
                raise self._unreadable(error) from error

        return read

    def values(self) -> NDArray[Any]:
        return _widen(self.array(), self.elem_type)

    @cached_property
    def magnitudes(self) -> tuple[float, float]:
        """The smallest magnitude above zero and the largest one, of a float type; (inf, 0) without any, NaN for the largest if
        there is one."""
        read, found = self.reader(), []

        def look(index: Index) -> None:
            found.append(_magnitudes(read(index)))

        for_each(look, tiles(self.shape))
        largest = [high for _, high in found]
        return min((low for low, _ in found), default=math.inf), math.nan if any(map(math.isnan, largest)) else max(largest)

    def _unreadable(self, error: Exception) -> InputError:
        what = f"tensor `{self.tensor.name}` of type {type_name(self.elem_type)} and shape {list(self.shape)}"
        if self.is_external:
            what += f" in {ExternalRegion.of(self.tensor, self.folder).path}"
        return InputError(f"the values of {what} cannot be read: {error}. Is the file complete? Export it again.")


@dataclass(frozen=True, eq=False, slots=True)
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

    def reader(self) -> Blocks:
        return lambda index: self.array[index]

    def values(self) -> NDArray[Any]:
        return self.array


@dataclass(frozen=True, eq=False, slots=True)
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

    def reader(self) -> Blocks:
        source = self.source.reader()
        return lambda index: self._scale(source(index), index)

    def values(self) -> NDArray[Any]:
        block = self.source.array() if isinstance(self.source, Stored) else self.source.values()
        with np.errstate(all="ignore"):
            for factor in self.factors:
                block = block * factor
        return block

    def _scale(self, block: NDArray[Any], index: Index) -> NDArray[Any]:
        with np.errstate(all="ignore"):  # what overflows is found by `rounding_of`, and inf · 0 is NaN in the original as well
            for factor in self.factors:
                block = block * _part(factor, index)  # float64 times the stored type is float64
        return block

    def keeps_its_range(self) -> bool:
        """Whether it is easily seen that no value overflows or becomes subnormal: by bounds, or from the values if few."""
        source, limits = self.source, (smallest_normal(self.elem_type), largest_finite(self.elem_type))
        if not isinstance(source, Stored):
            return False
        if math.prod(source.shape) <= _BLOCK_ELEMENTS:
            sizes = np.abs(self.values())
            low, high = (np.minimum.reduce(sizes, None), np.maximum.reduce(sizes, None)) if sizes.size else limits
            return bool(limits[0] <= low and high <= limits[1])
        low, high = source.magnitudes
        with np.errstate(all="ignore"):
            for factor in self.factors:
                smallest, largest = _magnitudes(factor)
                low, high = low * smallest, high * largest
        return limits[0] * (1 + _MARGIN) <= low and high <= limits[1] * (1 - _MARGIN)


@dataclass(frozen=True, eq=False, slots=True)
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

    def reader(self) -> Blocks:
        read = self.source.reader()
        return lambda index: self._flush(read(index))

    def values(self) -> NDArray[Any]:
        return self._flush(self.source.values())

    def _flush(self, values: NDArray[Any]) -> NDArray[Any]:
        rounded = np.abs(round_to(values, self.elem_type).astype(np.float64))
        return np.where(rounded < smallest_normal(self.elem_type), 0.0, values)


@dataclass(frozen=True)
class ExternalRegion:
    """A byte range of a file: of an external data file, or of the model itself for a weight that was cut out of it.

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


@cache
def smallest_normal(elem_type: int) -> float:
    """The smallest positive value of a float type that is not subnormal."""
    return float(ml_dtypes.finfo(FLOAT_TYPES[elem_type]).smallest_normal)  # type: ignore[no-untyped-call]


@cache
def largest_finite(elem_type: int) -> float:
    """The largest finite value of a float type."""
    return float(ml_dtypes.finfo(FLOAT_TYPES[elem_type]).max)  # type: ignore[no-untyped-call]


@cache
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


def array_of(tensor: onnx.TensorProto) -> NDArray[Any]:
    """What `onnx.numpy_helper.to_array` gives, which takes longer for the usual case."""
    dtype = FLOAT_TYPES.get(tensor.data_type)
    raw = tensor.raw_data if dtype is not None else b""
    if not raw or sys.byteorder == "big":
        return onnx.numpy_helper.to_array(tensor)
    return np.frombuffer(raw, dtype).reshape(tensor.dims)


def is_external(tensor: onnx.TensorProto) -> bool:
    """Whether the values lie outside the proto."""
    return bool(tensor.data_location == onnx.TensorProto.EXTERNAL)


def _array_from(raw: bytes, elem_type: int, shape: tuple[int, ...]) -> NDArray[Any]:
    return onnx.numpy_helper.to_array(onnx.TensorProto(data_type=elem_type, dims=shape, raw_data=raw))


def _block(source: Source, dtype: np.dtype[Any], offset: int, shape: tuple[int, ...], index: Index) -> NDArray[Any]:
    """Reads one part of a tensor."""
    last = index[-1]
    assert isinstance(last, slice)
    block = np.empty((last.stop - last.start, *shape[len(index) :]), dtype)
    place, left = offset + first_element(shape, index) * dtype.itemsize, memoryview(block.reshape(-1).view(np.uint8).data)
    while len(left):
        count = source.read_at(left, place)
        if not count:
            raise ValueError("the file became shorter while it was read")
        place, left = place + count, left[count:]
    return block


def rounded_blocks(weight: Weight) -> Iterator[NDArray[Any]]:
    """The weight's values in storage order and storage type, block by block."""
    if math.prod(weight.shape) <= _BLOCK_ELEMENTS:
        yield round_to(weight.values(), weight.elem_type)
        return
    read = weight.reader()
    for index in tiles(weight.shape):
        yield round_to(read(index), weight.elem_type)


@cache
def is_packed(elem_type: int) -> bool:
    """Whether several values of the type lie in one byte."""
    return type_name(elem_type) in _PACKED


def stored_bytes(weight: Weight) -> bytes:
    """The weight's values as they are stored; types of less than 8 bits are packed."""
    if is_packed(weight.elem_type):
        return bytes(onnx.numpy_helper.from_array(weight.values()).raw_data)
    return b"".join(block.tobytes() for block in rounded_blocks(weight))


def tiles(shape: tuple[int, ...]) -> Iterator[Index]:
    """Cuts a tensor of rank ≥ 1 into contiguous parts, in storage order, none of them much larger than a block."""
    if math.prod(shape) <= _BLOCK_ELEMENTS:
        yield (slice(0, shape[0]),)
        return
    axis, inner = 0, math.prod(shape[1:])
    while inner > _BLOCK_ELEMENTS and axis < len(shape) - 1:
        axis += 1
        inner //= shape[axis]
    step = max(1, _BLOCK_ELEMENTS // max(1, inner))
    for lead in np.ndindex(*shape[:axis]):
        for start in range(0, shape[axis], step):
            yield (*lead, slice(start, min(start + step, shape[axis])))


def first_element(shape: tuple[int, ...], index: Index) -> int:
    """Where a part begins, counted in elements in storage order."""
    start = 0
    for extent, place in zip(shape, index, strict=False):
        start = start * extent + (place.start if isinstance(place, slice) else place)
    return start * math.prod(shape[len(index) :])


def _part(factor: Float64, index: Index) -> Float64:
    """What of a factor meets one part of the tensor that it broadcasts against."""
    places = zip(factor.shape, index, strict=False)
    chosen = tuple((slice(None) if isinstance(place, slice) else 0) if extent == 1 else place for extent, place in places)
    return np.asarray(factor[chosen])


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
    """What rounding does to `weight`. Every value is rounded and looked at only where bounds do not show that all is well."""
    if isinstance(weight, Computed):
        return _rounding_of_computed(weight)
    if isinstance(weight, Scaled) and weight.keeps_its_range():
        return Rounding(None, 0)
    smallest = smallest_normal(weight.elem_type)
    read = weight.reader()
    # A value computed anew, such as a bias, has no source to compare with: infinite, it has overflowed float64 itself.
    before_of = weight.source.reader() if isinstance(weight, Scaled) else lambda index: np.nan_to_num(read(index), posinf=1.0)
    overflow, subnormal = None, 0
    for index in tiles(weight.shape):
        exact, before = read(index), _widen(before_of(index), weight.elem_type)
        overflow = max(_overflow(exact, before, weight.elem_type) or 0.0, overflow or 0.0) or None
        small = (np.abs(round_to(exact, weight.elem_type).astype(np.float64)) < smallest) & (exact != 0)
        subnormal += int((small & (np.abs(before) >= smallest)).sum())
    return Rounding(overflow, subnormal)


def _rounding_of_computed(weight: Computed) -> Rounding:
    # Rounding to nearest never takes a normal value below the smallest one, so there is only overflow to look for. A value has
    # no source to compare with: infinite, it has overflowed float64 itself.
    values = weight.values()
    if not values.size or np.maximum.reduce(np.abs(values), None) <= largest_finite(weight.elem_type):
        return Rounding(None, 0)
    before = np.nan_to_num(values, posinf=1.0) if weight.shape else values
    return Rounding(_overflow(values, before, weight.elem_type), 0)


def _magnitudes(values: NDArray[Any]) -> tuple[float, float]:
    """The smallest magnitude above zero and the largest one; (inf, 0) without any. Looked for in the bits, where zero less one
    is the largest number of all, infinities lie above what is finite and NaN above those."""
    bits = values.view(f"u{values.itemsize}") & ((1 << 8 * values.itemsize - 1) - 1)
    if not bits.size:
        return math.inf, 0.0
    high, low = bits.max(), bits.min()
    if not low and high:
        bits -= 1
        low = bits.min() + 1
    both = np.array([low, high], bits.dtype).view(values.dtype)
    return float(both[0]) or math.inf, float(both[1])


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
    return array.astype(np.float64)
