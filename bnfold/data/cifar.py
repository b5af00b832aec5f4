"""CIFAR-10, binary version: records of one label byte and 3,072 pixel bytes, the red plane first.

A. Krizhevsky, "Learning multiple layers of features from tiny images", 2009; https://www.cs.toronto.edu/~kriz/cifar.html.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from bnfold.data import digest
from bnfold.data.dataset import Sample
from bnfold.errors import InputError

_SHAPE = (3, 32, 32)
_RECORD = 1 + 3 * 32 * 32
SPLITS = {"test": ("test_batch.bin",), "train": tuple(f"data_batch_{number}.bin" for number in range(1, 6))}
"""Split → its files."""


class CifarReader:
    """One or several files of records.

    Raises:
        InputError: a file is missing, or its size is not a multiple of a record's.
    """

    sequential = True

    def __init__(self, files: Sequence[Path], name: str) -> None:
        self.name = name
        self._files = tuple(files)
        self._counts = [_records(path) for path in self._files]
        self.count = sum(self._counts)

    def samples(self, start: int) -> Iterator[Sample]:
        """RGB images uint8 `[32, 32, 3]`, with their labels 0 to 9."""
        for path, count in zip(self._files, self._counts, strict=True):
            if start >= count:
                start -= count
                continue
            with path.open("rb") as file:
                file.seek(start * _RECORD)
                for _ in range(start, count):
                    record = np.frombuffer(file.read(_RECORD), np.uint8)
                    yield {"": record[1:].reshape(_SHAPE).transpose(1, 2, 0)}, int(record[0])
            start = 0

    def digest(self) -> str:
        """Over all files."""
        return digest.of_files((path.name, path) for path in self._files)

    identity = digest


def _records(path: Path) -> int:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    if size == 0 or size % _RECORD:
        raise InputError(f"{path} is no CIFAR-10 file: {size:,} bytes are no multiple of {_RECORD:,}. Was the download complete?")
    return size // _RECORD
