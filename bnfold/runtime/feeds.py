"""Inputs for a verification: made from the model's own signature, or given by the caller.

Generated values come from one numpy generator, so a seed always gives the same inputs. Some of them are *wide*: a model that
scales its own input down, `(x / 255 − mean) / std`, hardly notices values of size 1, and one that does not may be driven out
of its range by values of size 255; one that leaves its sizes open may still not take odd ones. The verification drops a wide
input that the model cannot digest, and never one of the others.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from bnfold.errors import InputError
from bnfold.runtime.draws import DISTRIBUTIONS, Distribution
from bnfold.runtime.input_files import read_inputs
from bnfold.runtime.session import Value
from bnfold.runtime.sizes import Shape, check_shapes, describe, guesses, listing, mismatch
from bnfold.runtime.source import ValueSpec

FLOATS: dict[str, np.dtype[Any]] = {
    "float": np.dtype(np.float32),
    "double": np.dtype(np.float64),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}
DTYPES: dict[str, np.dtype[Any]] = {
    **FLOATS,
    **{name: np.dtype(name) for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool")},
    "string": np.dtype(object),
}
"""The element types that numpy and onnxruntime exchange, by ONNX name."""

_RANDOM_FEEDS = 4
"""Of a model without floats, where the distributions make no difference."""


@dataclass(frozen=True)
class Feed:
    """One input for a model.

    Attributes:
        label: what messages call it.
        values: input name → value.
        generated: whether bnfold made it up.
        wide: whether it may lie outside what the model was made for, by its values or by its sizes.
    """

    label: str
    values: Mapping[str, Value]
    generated: bool = False
    wide: bool = False


def generated_feeds(
    specs: Sequence[ValueSpec], input_shapes: Mapping[str, Sequence[int]], seed: int
) -> Iterator[tuple[Feed, ...]]:
    """Yields lists of feeds, one list for each guess at the sizes that the model leaves open, the likeliest first.

    In each list the most telling feed stands first. Optional inputs are left out. Integers are drawn up to the size of the
    constant table that they are looked up in, and else up to a small number.

    Raises:
        InputError: an input is of a type that cannot be made, or `input_shapes` does not fit the model.
    """
    needed = [spec for spec in specs if not spec.type.startswith("optional(")]
    for spec in needed:
        if spec.elem_type not in DTYPES:
            raise InputError(
                f"no values can be made up for input `{spec.name}` of type {spec.type or 'unknown'}. "
                f"Give real inputs: --inputs FILE.npz, or from Python inputs=[{{{spec.name!r}: …}}]."
            )
    has_floats = any(spec.elem_type in FLOATS for spec in needed)
    for sizes in guesses(needed, check_shapes(needed, input_shapes)):
        rng = np.random.default_rng(seed)
        feeds: list[Feed] = []
        for distribution in DISTRIBUTIONS if has_floats else DISTRIBUTIONS[:_RANDOM_FEEDS]:
            shapes = sizes.odd if distribution.resized else sizes.shapes
            if distribution.resized and shapes == sizes.shapes:
                continue
            values = {spec.name: _draw(spec, shapes[spec.name], sizes.ids, rng, distribution) for spec in needed}
            label = distribution.label if has_floats else f"random {len(feeds) + 1}"
            feeds.append(Feed(label, values, generated=True, wide=distribution.wide and (has_floats or distribution.resized)))
        yield tuple(feeds)


def given_feeds(specs: Sequence[ValueSpec], inputs: str | os.PathLike[str] | Sequence[Mapping[str, Value]]) -> tuple[Feed, ...]:
    """The caller's own inputs, checked against the model's signature.

    Args:
        specs: the inputs of the model.
        inputs: a file or a folder that `bnfold.runtime.input_files` reads; or one mapping per feed. numpy knows no
            bfloat16: for such an input give float32, which is rounded, or two-byte voids, as `np.savez` writes
            ml_dtypes' bfloat16.

    Raises:
        InputError: a file cannot be read, a name is missing or unknown, or a type or a shape does not fit.
    """
    if isinstance(inputs, str | os.PathLike):
        path = Path(inputs)
        return tuple(
            Feed(label, _checked(specs, values, str(path) if label == path.name else f"{label} of {path}"))
            for label, values in read_inputs(specs, path)
        )
    if isinstance(inputs, Mapping):
        raise InputError("the inputs are one mapping of names to arrays: give a list of such.")
    if not inputs:
        raise InputError("the list of inputs is empty: give at least one mapping of input names to arrays.")
    return tuple(Feed(f"input {number}", _checked(specs, values, f"input {number}")) for number, values in enumerate(inputs, 1))


def _draw(spec: ValueSpec, shape: Shape, ids: int, rng: np.random.Generator, distribution: Distribution) -> NDArray[Any]:
    dtype = DTYPES[spec.elem_type]
    if spec.elem_type in FLOATS:
        return np.asarray(distribution.draw(rng, shape)).astype(dtype)
    if spec.elem_type == "bool":
        return np.asarray(rng.integers(0, 2, shape)).astype(bool)
    if spec.elem_type == "string":
        return np.asarray(np.array(list("abcdefghij"), dtype=object)[rng.integers(0, 10, shape)], dtype=object)
    if spec.limit is None and dtype.itemsize == 1:  # an image, or quantized values: never an index in ONNX
        limits = np.iinfo(dtype)
        return np.asarray(rng.integers(limits.min, limits.max, shape, endpoint=True)).astype(dtype)
    below = ids if spec.limit is None else min(spec.limit, np.iinfo(dtype).max)
    return np.asarray(rng.integers(0, max(1, below), shape)).astype(dtype)


def _checked(specs: Sequence[ValueSpec], values: Mapping[str, Value], where: str) -> dict[str, Value]:
    by_name = {spec.name: spec for spec in specs}
    for name in values:
        if name not in by_name:
            raise InputError(f"{where} holds `{name}`, which is no input of the model. {listing(specs)}")
    for spec in specs:
        if spec.name not in values and not spec.type.startswith("optional("):
            raise InputError(f"{where} lacks the input `{spec.name}`, {describe(spec)}.")
    checked = {name: _checked_value(by_name[name], value, where) for name, value in values.items()}
    if checked and all(isinstance(value, np.ndarray) and value.size == 0 for value in checked.values()):
        raise InputError(f"{where} holds empty arrays only, and nothing follows from no samples. Give at least one.")
    return checked


def _checked_value(spec: ValueSpec, value: Value, where: str) -> Value:
    if spec.elem_type not in DTYPES:
        return value  # a sequence, a map or an optional: onnxruntime checks it
    dtype = DTYPES[spec.elem_type]
    array = np.asarray(value)
    if spec.elem_type == "bfloat16":
        array = _as_bfloat16(array)
    if spec.elem_type == "string" and array.dtype.kind in "US":
        array = array.astype(str).astype(object)
    if array.dtype != dtype:
        raise InputError(f"{where}: `{spec.name}` has dtype {array.dtype}, and the model wants {describe(spec)}.")
    if complaint := mismatch(spec, array.shape):
        raise InputError(f"{where}: `{spec.name}` does not fit: {complaint}.")
    return array


def _as_bfloat16(array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype == np.dtype("V2"):
        return array.view(ml_dtypes.bfloat16)
    return array.astype(ml_dtypes.bfloat16) if array.dtype == np.float32 else array
