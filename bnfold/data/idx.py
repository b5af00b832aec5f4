"""IDX files, the format of MNIST and its kin: a header of big-endian numbers, then the values.

Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits", section "the IDX file format". The magic number is
two zero bytes, the type of the values and the number of dimensions; one 32-bit extent for each dimension follows.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from bnfold.data import digest
from bnfold.data.dataset import Sample
from bnfold.errors import InputError

_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_CHUNK = 1 << 20
_DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile)
SPLITS = {"test": "t10k", "train": "train"}
"""Split → how the names of its files start."""


@dataclass(frozen=True)
class _Header:
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def sample_bytes(self) -> int:
        return self.dtype.itemsize * math.prod(self.shape[1:])


class IdxReader:
    """A file of images and a file of labels, plain or gzipped, each read once from front to back.

    Raises:
        InputError: a file is missing or no IDX file, or they do not belong together.
    """

    sequential = True

    def __init__(self, images: Path, labels: Path, name: str) -> None:
        self.name = name
        self._paths = (images, labels)
        headers = []
        for path in self._paths:
            with _open(path) as file:
                headers.append(_header(file, path))
        counts = [header.shape[0] for header in headers]
        if counts[0] != counts[1]:
            raise InputError(
                f"{images} holds {counts[0]:,} samples and {labels} {counts[1]:,} labels. They do not belong together."
            )
        self.count = counts[0]

    def samples(self, start: int) -> Iterator[Sample]:
        """Images `[H, W]` as stored, with their labels."""
        with ExitStack() as stack:
            files = [stack.enter_context(_open(path)) for path in self._paths]
            headers = [_header(file, path) for file, path in zip(files, self._paths, strict=True)]
            for file, header, path in zip(files, headers, self._paths, strict=True):
                _skip(file, start * header.sample_bytes, path)
            for _ in range(start, self.count):
                image, label = (_value(*each) for each in zip(files, headers, self._paths, strict=True))
                yield {"": image}, label

    def digest(self) -> str:
        """Over both files."""
        return digest.of_files((path.name, path) for path in self._paths)

    identity = digest


def in_folder(folder: Path, split: str) -> tuple[Path, Path]:
    """The images and labels of a split, `train` or `test`, in a folder with MNIST's file names.

    Raises:
        InputError: they are not there.
    """
    found = [_existing(folder, f"{SPLITS[split]}-{part}-ubyte") for part in ("images-idx3", "labels-idx1")]
    return found[0], found[1]


def labels_beside(images: Path) -> Path:
    """The labels that belong to a file of images by its name.

    Raises:
        InputError: there are none.
    """
    name = images.name.replace("images", "labels").replace("idx3", "idx1")
    labels = images.with_name(name)
    if name == images.name or not labels.is_file():
        raise InputError(f"no labels are beside {images}. Name both files: IMAGES,LABELS:idx.")
    return labels


def _existing(folder: Path, stem: str) -> Path:
    # "t10k-images.idx3-ubyte" is how some archives unpack.
    names = [f"{variant}{suffix}" for variant in (stem, stem.replace("-idx", ".idx")) for suffix in ("", ".gz")]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise InputError(f"{folder} holds neither {names[0]} nor {names[1]}.")


def _open(path: Path) -> IO[bytes]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    packed = file.read(2) == b"\x1f\x8b"
    if not packed:
        file.seek(0)
        return file
    file.close()
    return cast("IO[bytes]", gzip.open(path, "rb"))


def _header(file: IO[bytes], path: Path) -> _Header:
    zeros, kind, rank = struct.unpack(">HBB", _read(file, 4, path))
    if zeros or kind not in _TYPES or not rank:
        raise InputError(f"{path} is no IDX file: it starts with bytes that are no IDX magic number.")
    shape = struct.unpack(f">{rank}I", _read(file, 4 * rank, path))
    return _Header(np.dtype(_TYPES[kind]), shape)


def _read(file: IO[bytes], size: int, path: Path) -> bytes:
    try:
        data = file.read(size)
    except _DAMAGED as error:
        raise InputError(f"{path} is damaged or cut off: {error}. Was the download complete?") from error
    if len(data) < size:
        raise InputError(f"{path} is cut off: it ends before its last value. Was the download complete?")
    return data


def _skip(file: IO[bytes], size: int, path: Path) -> None:
    while size > 0:
        size -= len(_read(file, min(size, _CHUNK), path))


def _value(file: IO[bytes], header: _Header, path: Path) -> Any:
    data = _read(file, header.sample_bytes, path)
    array = np.frombuffer(data, header.dtype).reshape(header.shape[1:])
    return array.astype(header.dtype.newbyteorder("="))
