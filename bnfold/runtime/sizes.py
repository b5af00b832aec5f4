"""Sizes for dimensions that a model leaves open: a short list of guesses, the likeliest first.

The same symbolic dimension gets the same size in every input. The first axis is a batch; axis 1 of an image is its channels,
unless the last axis holds 1, 3 or 4 of them (NHWC); everything else is an extent, of an image or of a sequence.

Beside each guess stand odd sizes, 61 × 67 beside 64 × 64 and a batch of 1: an operator that is right for even, square and
padded inputs only shows it there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from bnfold.errors import InputError
from bnfold.runtime.source import ValueSpec

Shape = tuple[int, ...]

_RANKS = (4, 2, 3, 1)  # for an input that does not say its rank
_EXTENTS = (64, 224, 32, 256, 28, 299, 384, 512, 640, 16, 1)
_CHANNELS = (3, 1)
_BATCHES = (2, 1)
_IDS = (10, 2)

_ODD_STEP = 3
_LEAST_ODD = 16  # smaller extents stay as they are

_MAX_GUESSES = 128
_MAX_ELEMENTS = 1 << 26
_BATCH_NAMES = {"n", "b", "bs"}
_CHANNELS_LAST = {1, 3, 4}


@dataclass(frozen=True)
class Sizes:
    """One guess.

    Attributes:
        shapes: input name → shape.
        ids: integers are drawn from `[0, ids)`, as they may be indices into a small table.
        odd: input name → shape at odd sizes, which the model need not take; the same as `shapes` where nothing is open.
    """

    shapes: dict[str, Shape]
    ids: int
    odd: dict[str, Shape]


@dataclass(frozen=True)
class _Guess:
    rank: int
    extent: int
    channels: int
    batch: int
    odd: bool = False


def guesses(specs: Sequence[ValueSpec], fixed: Mapping[str, Shape]) -> Iterator[Sizes]:
    """The guesses for the inputs `specs`, without repetition; at least one.

    Args:
        specs: tensors only.
        fixed: shapes that the caller has settled, as `check_shapes` returns them.
    """
    ids = _IDS if any("int" in spec.elem_type for spec in specs) else _IDS[:1]
    tried: list[Sizes] = []
    for rank, extent, channels, batch, high in product(_RANKS, _EXTENTS, _CHANNELS, _BATCHES, ids):
        guess = _Guess(rank, extent, channels, batch)
        odd = _resolve(specs, fixed, replace(guess, batch=1, odd=True))
        sizes = Sizes(_resolve(specs, fixed, guess), high, odd)
        too_large = any(_elements(shape) > _MAX_ELEMENTS for shape in sizes.shapes.values())
        if sizes in tried or (tried and too_large):
            continue
        tried.append(sizes)
        yield sizes
        if len(tried) == _MAX_GUESSES:
            return


def check_shapes(specs: Sequence[ValueSpec], input_shapes: Mapping[str, Sequence[int]]) -> dict[str, Shape]:
    """The caller's shapes as tuples.

    Raises:
        InputError: a name is no input, or a shape contradicts what the model says of it.
    """
    by_name = {spec.name: spec for spec in specs}
    if not isinstance(input_shapes, Mapping):
        raise InputError(f"the input shapes are a {type(input_shapes).__name__}. Give a mapping of input names to shapes.")
    for name, shape in input_shapes.items():
        if name not in by_name:
            raise InputError(f"`{name}` was given a shape but is no input of the model. {listing(specs)}")
        if any(extent < 0 for extent in shape):
            raise InputError(f"the shape {tuple(shape)} given for input `{name}` has a negative extent.")
        if complaint := mismatch(by_name[name], tuple(shape)):
            raise InputError(f"the shape given for input `{name}` does not fit: {complaint}.")
    return {name: tuple(shape) for name, shape in input_shapes.items()}


def mismatch(spec: ValueSpec, shape: Shape) -> str:
    """What is wrong with `shape` for this input, or ""."""
    if spec.shape is None:
        return ""
    if len(shape) != len(spec.shape):
        return f"{shape} has rank {len(shape)}, and the model wants rank {len(spec.shape)}, {describe(spec)}"
    if any(isinstance(want, int) and want != have for want, have in zip(spec.shape, shape, strict=True)):
        return f"{shape} is not the model's {describe(spec)}"
    return ""


def describe(spec: ValueSpec) -> str:
    """An input as "float (N, 3, ?, ?)"."""
    if spec.shape is None:
        return spec.elem_type or spec.type
    return f"{spec.elem_type} ({', '.join('?' if extent is None else str(extent) for extent in spec.shape)})"


def listing(specs: Sequence[ValueSpec]) -> str:
    """All inputs in one sentence."""
    return f"Its inputs are {', '.join(f'`{spec.name}` {describe(spec)}' for spec in specs)}." if specs else "It has none."


def _resolve(specs: Sequence[ValueSpec], fixed: Mapping[str, Shape], guess: _Guess) -> dict[str, Shape]:
    bound = {
        symbol: extent
        for spec in specs
        for symbol, extent in zip(spec.shape or (), fixed.get(spec.name, ()), strict=False)
        if isinstance(symbol, str)
    }
    shapes = {}
    for spec in specs:
        wanted = (None,) * guess.rank if spec.shape is None else spec.shape
        shapes[spec.name] = fixed.get(spec.name, tuple(_size(wanted, axis, guess, bound) for axis in range(len(wanted))))
    return shapes


def _size(wanted: tuple[int | str | None, ...], axis: int, guess: _Guess, bound: dict[str, int]) -> int:
    """The size of one axis; what is found for a symbol goes into `bound`."""
    extent = wanted[axis]
    if isinstance(extent, int):
        return extent
    if extent is None:
        return _open_size(wanted, axis, guess, "")
    return bound.setdefault(extent, _open_size(wanted, axis, guess, extent.lower()))


def _open_size(wanted: tuple[int | str | None, ...], axis: int, guess: _Guess, symbol: str) -> int:
    if axis == 0 or "batch" in symbol or symbol in _BATCH_NAMES:
        return guess.batch
    if axis == 1 and len(wanted) >= 4 and wanted[-1] not in _CHANNELS_LAST:
        return guess.channels
    if guess.odd and guess.extent >= _LEAST_ODD:
        return guess.extent + (_ODD_STEP if axis % 2 else -_ODD_STEP)
    return guess.extent


def _elements(shape: Shape) -> int:
    count = 1
    for extent in shape:
        count *= extent
    return count
