"""`.npz` files: the arrays of inputs and labels, read side by side in slices and never as a whole.

An .npz file is a zip archive with one .npy file for each array (numpy.lib.format). Which array is which goes by name: the
labels are `label`, `labels` or `y`, and everything else is an input of that name. Other names are stated, as in
`data.npz:image=x_test,label=y_test`.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from bnfold.data import digest
from bnfold.data.dataset import Sample
from bnfold.errors import InputError

LABEL_NAMES = ("label", "labels", "y")
_CHUNK = 1 << 20


@dataclass(frozen=True)
class _Array:
    """One array of the archive: its name, and what its header says."""

    member: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def sample_bytes(self) -> int:
        return self.dtype.itemsize * math.prod(self.shape[1:])


class NpzReader:
    """An .npz file of inputs and labels, all with the same first extent.

    Args:
        path: the file.
        names: input name → array, with the key "label" for the labels; None to go by the names in the file.

    Raises:
        InputError: it is no such file, holds objects, or it is not clear which array is which.
    """

    sequential = True

    def __init__(self, path: Path, names: Mapping[str, str] | None, name: str) -> None:
        self.name = name
        self._path = path
        with self._archive() as archive:
            members = [member for member in archive.namelist() if member.endswith(".npy")]
            present = [member.removesuffix(".npy") for member in members]
            inputs, label = _roles(present, names, path)
            self._inputs = {key: self._array(archive, array) for key, array in inputs.items()}
            self._label = None if label is None else self._array(archive, label)
        arrays = [*self._inputs.values(), *([self._label] if self._label else [])]
        counts = {array.member: array.shape[0] for array in arrays}
        if len(set(counts.values())) > 1:
            listed = ", ".join(f"`{member}` {count:,}" for member, count in counts.items())
            raise InputError(f"{path}: the arrays differ in their first extent, the number of samples: {listed}.")
        self.count = next(iter(counts.values()))

    def samples(self, start: int) -> Iterator[Sample]:
        """One slice of every array at a time."""
        with self._archive() as archive, ExitStack() as stack:
            readers = {key: self._slices(stack, archive, array, start) for key, array in self._inputs.items()}
            labels = None if self._label is None else self._slices(stack, archive, self._label, start)
            for _ in range(start, self.count):
                yield {key: next(reader) for key, reader in readers.items()}, None if labels is None else next(labels)

    def digest(self) -> str:
        """Of the file."""
        return digest.of_file(self._path)

    identity = digest

    @contextmanager
    def _archive(self) -> Iterator[zipfile.ZipFile]:
        try:
            with zipfile.ZipFile(self._path) as archive:
                yield archive
        except OSError as error:
            raise InputError(f"{self._path} cannot be read: {error.strerror or error}.") from error
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            raise InputError(f"{self._path} is damaged or no .npz file: {error}. Write it with np.savez.") from error

    def _array(self, archive: zipfile.ZipFile, name: str) -> _Array:
        with archive.open(f"{name}.npy") as file:
            return self._header(file, name)

    def _header(self, file: IO[bytes], name: str) -> _Array:
        where = f"{self._path}: `{name}`"
        try:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = read(file)
        except ValueError as error:
            raise InputError(f"{where} is no array: {error}.") from error
        if dtype.hasobject:
            raise InputError(f"{where} holds Python objects. Save plain arrays.")
        if not shape:
            raise InputError(f"{where} is a single number. Save one entry for each sample.")
        if fortran and len(shape) > 1:
            raise InputError(f"{where} is stored in Fortran order and cannot be read in slices. Save np.ascontiguousarray of it.")
        return _Array(name, dtype, shape)

    def _slices(self, stack: ExitStack, archive: zipfile.ZipFile, array: _Array, start: int) -> Iterator[NDArray[Any]]:
        file = stack.enter_context(archive.open(f"{array.member}.npy"))
        self._header(file, array.member)
        left = start * array.sample_bytes
        while left > 0:  # a zip member has to be unpacked up to where one wants to be
            left -= len(self._read(file, min(left, _CHUNK), array))
        while True:
            yield np.frombuffer(self._read(file, array.sample_bytes, array), array.dtype).reshape(array.shape[1:])

    def _read(self, file: IO[bytes], size: int, array: _Array) -> bytes:
        data = file.read(size)
        if len(data) < size:
            raise InputError(f"{self._path}: `{array.member}` ends before its last sample. Was it written completely?")
        return data


def _roles(present: list[str], names: Mapping[str, str] | None, path: Path) -> tuple[dict[str, str], str | None]:
    """Which array each input is, and which one the labels are."""
    if names is not None:
        for array in names.values():
            if array not in present:
                raise InputError(f"{path} holds no array `{array}`. It holds {', '.join(sorted(present))}.")
        inputs = {key: array for key, array in names.items() if key != "label"}
        if not inputs:
            raise InputError(f"{path}: name the inputs, too, as in {path.name}:image=x_test,label=y_test.")
        return inputs, names.get("label")
    labels = [array for array in present if array in LABEL_NAMES]
    inputs = {array: array for array in present if array not in LABEL_NAMES}
    how = f"Name them: {path.name}:INPUT=ARRAY,label=ARRAY. It holds {', '.join(sorted(present)) or 'no arrays'}."
    if len(labels) > 1:
        raise InputError(f"{path}: several arrays could be the labels: {', '.join(labels)}. {how}")
    if not labels:
        raise InputError(f"{path}: none of its arrays is called {', '.join(LABEL_NAMES[:-1])} or {LABEL_NAMES[-1]}. {how}")
    if not inputs:
        raise InputError(f"{path} holds labels and no inputs. {how}")
    return inputs, labels[0]
