"""Inputs for a verification: made from the model's own signature, or given by the caller.

Generated values come from one numpy generator, so a seed always gives the same inputs. Floats are drawn in five ways.
Two of them are *wide*: a model that scales its own input down, `(x / 255 − mean) / std`, hardly notices values of size 1,
and one that does not may be driven out of its range by values of size 255. The verification drops a wide input that the
model cannot digest, and never one of the others.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from bnfold.errors import InputError
from bnfold.runtime.session import Value
from bnfold.runtime.sizes import Shape, check_shapes, describe, guesses, listing, mismatch
from bnfold.runtime.source import ValueSpec

Draw = Callable[[np.random.Generator, Shape], NDArray[np.float64]]

DISTRIBUTIONS: dict[str, Draw] = {
    "normal(0, 1)": lambda rng, shape: rng.standard_normal(shape),
    "uniform(0, 1)": lambda rng, shape: rng.random(shape),
    "uniform(-1, 1)": lambda rng, shape: rng.uniform(-1.0, 1.0, shape),
    "normal(0, 4)": lambda rng, shape: rng.normal(0.0, 4.0, shape),
    "uniform(0, 255)": lambda rng, shape: rng.uniform(0.0, 255.0, shape),
}
"""How floats are drawn, label → function of a generator and a shape."""

WIDE = frozenset({"normal(0, 4)", "uniform(0, 255)"})

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


@dataclass(frozen=True)
class Feed:
    """One input for a model.

    Attributes:
        label: what messages call it.
        values: input name → value.
        generated: whether bnfold made it up.
        wide: whether it may lie outside what the model was made for.
    """

    label: str
    values: Mapping[str, Value]
    generated: bool = False
    wide: bool = False


def generated_feeds(
    specs: Sequence[ValueSpec], input_shapes: Mapping[str, Sequence[int]], seed: int
) -> Iterator[tuple[Feed, ...]]:
    """Yields lists of feeds, one list for each guess at the sizes that the model leaves open, the likeliest first.

    Optional inputs are left out.

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
    for sizes in guesses(needed, check_shapes(needed, input_shapes)):
        rng = np.random.default_rng(seed)
        feeds = []
        has_floats = any(spec.elem_type in FLOATS for spec in needed)
        for number, (label, draw) in enumerate(DISTRIBUTIONS.items(), 1):
            values = {spec.name: _draw(spec, sizes.shapes[spec.name], sizes.ids, rng, draw) for spec in needed}
            name = label if has_floats else f"random {number}"
            feeds.append(Feed(name, values, generated=True, wide=label in WIDE))
        yield tuple(feeds)


def given_feeds(specs: Sequence[ValueSpec], inputs: str | os.PathLike[str] | Sequence[Mapping[str, Value]]) -> tuple[Feed, ...]:
    """The caller's own inputs, checked against the model's signature.

    Args:
        specs: the inputs of the model.
        inputs: a .npz file, one array per input name and in all one feed; or one mapping per feed. numpy knows no
            bfloat16: for such an input give float32, which is rounded, or two-byte voids, as `np.savez` writes
            ml_dtypes' bfloat16.

    Raises:
        InputError: the file cannot be read, a name is missing or unknown, or a type or a shape does not fit.
    """
    if isinstance(inputs, str | os.PathLike):
        path = Path(inputs)
        return (Feed(path.name, _checked(specs, _read_npz(path), str(path))),)
    if not inputs:
        raise InputError("the list of inputs is empty: give at least one mapping of input names to arrays.")
    return tuple(Feed(f"input {number}", _checked(specs, values, f"input {number}")) for number, values in enumerate(inputs, 1))


def _draw(spec: ValueSpec, shape: Shape, ids: int, rng: np.random.Generator, draw: Draw) -> NDArray[Any]:
    dtype = DTYPES[spec.elem_type]
    if spec.elem_type in FLOATS:
        return np.asarray(draw(rng, shape)).astype(dtype)
    if spec.elem_type == "bool":
        return np.asarray(rng.integers(0, 2, shape)).astype(bool)
    if spec.elem_type == "string":
        return np.asarray(np.array(list("abcdefghij"), dtype=object)[rng.integers(0, 10, shape)], dtype=object)
    if dtype.itemsize == 1:  # an image, or quantized values: never an index in ONNX
        limits = np.iinfo(dtype)
        return np.asarray(rng.integers(limits.min, limits.max, shape, endpoint=True)).astype(dtype)
    return np.asarray(rng.integers(0, ids, shape)).astype(dtype)


def _read_npz(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise InputError(f"{path} is a single array: save the inputs by name, np.savez({path.stem!r}, x=…).")
            return {name: archive[name] for name in archive.files}
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from None
    except (ValueError, EOFError, zipfile.BadZipFile):
        raise InputError(f"{path} is no .npz file of plain arrays: write it with np.savez, without objects.") from None


def _checked(specs: Sequence[ValueSpec], values: Mapping[str, Value], where: str) -> dict[str, Value]:
    by_name = {spec.name: spec for spec in specs}
    for name in values:
        if name not in by_name:
            raise InputError(f"{where} holds `{name}`, which is no input of the model. {listing(specs)}")
    for spec in specs:
        if spec.name not in values and not spec.type.startswith("optional("):
            raise InputError(f"{where} lacks the input `{spec.name}`, {describe(spec)}.")
    return {name: _checked_value(by_name[name], value, where) for name, value in values.items()}


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
