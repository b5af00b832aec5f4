"""Samples that Python code makes: an iterable, or a function that returns one, of pairs (inputs, label).

The inputs are an array, or a dict: input name → array. A pair is one sample when its label is a single number, and a batch when
its label is an array or a list: then the first extent of every array counts the samples, as with PyTorch's DataLoader.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnfold.data import digest
from bnfold.data.dataset import Inputs, Sample
from bnfold.data.function import failure, load_object
from bnfold.errors import InputError

_FORM = "It has to be (inputs, label) or (inputs, labels), where the inputs are an array or a dict of arrays."


class LoaderReader:
    """Reads an iterable from front to back and hashes what it gives.

    Args:
        make: makes the iterable anew.
        name: what messages call the data set.
        path: the file it is defined in; None for an object.
    """

    sequential = True
    count: int | None = None

    def __init__(self, make: Callable[[], Iterable[Any]], name: str, path: Path | None = None) -> None:
        self.name = name
        self._make = make
        self._path = path
        self._digest: str | None = None

    def samples(self, start: int) -> Iterator[Sample]:
        """What the iterable gives, batches taken apart. Reaching `start` means making everything before it."""
        seen = hashlib.sha256()
        position = 0
        try:
            for inputs, label in self._all():
                _update(seen, inputs, label)
                if position >= start:
                    yield inputs, label
                position += 1
        finally:
            self._digest = seen.hexdigest()

    def digest(self) -> str:
        """Of the samples that were read last, or of all if none were."""
        if self._digest is None:
            for _ in self.samples(0):
                pass
        assert self._digest is not None
        return self._digest

    def identity(self) -> str:
        """The hash of the file that defines it; what it reads is not known."""
        return "" if self._path is None else digest.of_file(self._path)

    def _all(self) -> Iterator[Sample]:
        try:
            for number, item in enumerate(self._make()):
                yield from _taken_apart(item, f"{self.name}, item {number}")
        except InputError:
            raise
        except Exception as error:  # it is the user's code: anything may come
            raise InputError(f"{self.name}: {failure(error, self._path or Path())}") from error


def from_file(spec: str) -> LoaderReader:
    """The loader `file.py:loader`: an iterable, or a function without arguments that returns one.

    The file is run anew for each pass, so that a generator starts anew, too.

    Raises:
        InputError: there is no such thing.
    """
    role = "the loader"
    load_object(spec, role)
    return LoaderReader(lambda: _iterable(load_object(spec, role), spec), spec, Path(spec.rpartition(":")[0]))


def from_object(data: Iterable[Any]) -> LoaderReader:
    """The pairs that a Python iterable gives."""
    return LoaderReader(lambda: _iterable(data, "the data"), "the data")


def _iterable(made: Any, name: str) -> Iterable[Any]:
    made = made() if callable(made) and not isinstance(made, Iterable) else made
    if not isinstance(made, Iterable):
        raise InputError(f"{name} is a {type(made).__name__} and not an iterable of (inputs, label).")
    return made


def _taken_apart(item: Any, where: str) -> Iterator[Sample]:
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise InputError(f"{where} is a {type(item).__name__} and not a pair. {_FORM}")
    inputs = _arrays(item[0])
    label = None if item[1] is None else np.asarray(item[1])
    if label is not None and label.ndim == 0:
        yield inputs, label
        return
    counts = {len(array) if array.ndim else -1 for array in (*inputs.values(), *(() if label is None else (label,)))}
    if len(counts) != 1:
        raise InputError(f"{where}: the inputs and the labels differ in their first extent, the number of samples. {_FORM}")
    for row in range(counts.pop()):
        yield {name: array[row] for name, array in inputs.items()}, None if label is None else label[row]


def _arrays(inputs: Any) -> Inputs:
    if isinstance(inputs, Mapping):
        return {str(name): np.asarray(value) for name, value in inputs.items()}
    return {"": np.asarray(inputs)}


def _update(seen: Any, inputs: Inputs, label: Any) -> None:
    for name, array in (*sorted(inputs.items()), ("label", None if label is None else np.asarray(label))):
        if array is None:
            continue
        contiguous: NDArray[Any] = np.ascontiguousarray(array)
        seen.update(f"{name} {contiguous.dtype} {array.shape}\n".encode())
        seen.update(contiguous.tobytes() if contiguous.dtype != object else repr(contiguous.tolist()).encode())
