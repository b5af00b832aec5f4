"""From a batch of the data set to what the model is fed: which array goes to which input, of which type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnfold.data import Batch
from bnfold.data.preprocess import CHOICES
from bnfold.errors import InputError
from bnfold.runtime.feeds import DTYPES, FLOATS
from bnfold.runtime.sizes import describe, listing, mismatch
from bnfold.runtime.source import Source, ValueSpec


def fixed_batch(source: Source) -> int | None:
    """The number of samples that the model always takes at once; None where it is open.

    Raises:
        InputError: the inputs differ in it.
    """
    extents = {spec.shape[0] for spec in source.inputs if spec.shape}
    fixed = {extent for extent in extents if isinstance(extent, int)}
    if len(fixed) > 1:
        raise InputError(
            f"the inputs of {source.label} have different first extents, so samples cannot be batched: {listing(source.inputs)}"
        )
    return next(iter(fixed), None)


def feed(source: Source, batch: Batch, data: str, preprocess: str | None) -> dict[str, NDArray[Any]]:
    """The batch by input name, checked against the model's signature.

    Args:
        source: the model.
        batch: what the data set gives.
        data: the data set's name, for messages.
        preprocess: the preprocessing as stated, likewise.

    Raises:
        InputError: a name, a type or a shape does not fit.
    """
    arrays = _by_name(source, batch.inputs, data)
    fed = {}
    for spec in source.inputs:
        if spec.name not in arrays:
            continue
        array = _typed(spec, arrays[spec.name])
        if array is None:
            found = f"{data} gives {arrays[spec.name].dtype} for `{spec.name}`, and the model wants {describe(spec)}"
            raise InputError(f"{found}. {_how(preprocess)}")
        # The first extent is the batch's: the last batch is smaller, and a model of a fixed one gets it filled up.
        rest = ValueSpec(spec.name, spec.type, None if not spec.shape else (None, *spec.shape[1:]))
        if complaint := mismatch(rest, array.shape):
            raise InputError(f"{data}: `{spec.name}` does not fit: {complaint}. {_how(preprocess)}")
        fed[spec.name] = array
    return fed


def padded(values: Mapping[str, NDArray[Any]], samples: int, size: int | None) -> dict[str, NDArray[Any]]:
    """The last, smaller batch filled up to `size` with its last sample; unchanged where the model's batch is open."""
    if size is None or samples == size:
        return dict(values)
    return {name: np.concatenate([array, np.repeat(array[-1:], size - samples, axis=0)]) for name, array in values.items()}


def _by_name(source: Source, inputs: Mapping[str, NDArray[Any]], data: str) -> Mapping[str, NDArray[Any]]:
    names = [spec.name for spec in source.inputs]
    if len(names) == 1 and len(inputs) == 1:
        return {names[0]: next(iter(inputs.values()))}  # nothing to confuse
    for name in inputs:
        if name not in names:
            called = f"`{name}`" if name else "one unnamed array"
            raise InputError(
                f"{data} gives {called}, which is no input of {source.label}. {listing(source.inputs)} "
                "Name the arrays of an .npz file as in data.npz:INPUT=ARRAY,label=ARRAY; a loader gives a dict."
            )
    for spec in source.inputs:
        if spec.name not in inputs and not spec.type.startswith("optional("):
            raise InputError(f"{data} lacks the input `{spec.name}` of {source.label}, {describe(spec)}.")
    return inputs


def _typed(spec: ValueSpec, array: NDArray[Any]) -> NDArray[Any] | None:
    """The array in the type of the input: floats become other floats, and integers wider ones; None where it does not fit."""
    wanted = DTYPES.get(spec.elem_type)
    if wanted is None or array.dtype == wanted:
        return array
    floats = spec.elem_type in FLOATS and array.dtype in FLOATS.values()
    integers = array.dtype.kind in "iu" and wanted.kind in "iu" and np.can_cast(array.dtype, wanted, "safe")
    return array.astype(wanted) if floats or integers else None


def _how(preprocess: str | None) -> str:
    if preprocess:
        return f"--preprocess {preprocess} does not make what this model wants; there are {CHOICES}."
    return f"State the preprocessing, it is never guessed: --preprocess {CHOICES}."
