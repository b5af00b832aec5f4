"""Writes a file from pieces of known length: bytes at hand, ranges of other files, and weights that are computed on the way.

Ranges are copied by the kernel, which shares them where the file system can. Weights are read, scaled, rounded and written block
by block, on all cores, so memory does not grow with the file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TypeAlias

import numpy as np

from bnfold.errors import InputError
from bnfold.parallel import InTurn, for_each
from bnfold.positions import Source, write_at
from bnfold.weights import (
    Blocks,
    ExternalRegion,
    Index,
    Weight,
    byte_count,
    first_element,
    is_packed,
    round_to,
    stored_bytes,
    tiles,
)

_CHUNK_BYTES = 1 << 22

Content: TypeAlias = bytes | ExternalRegion | Weight


@dataclass(frozen=True)
class Piece:
    """A part of a file: where it begins, and what is there."""

    offset: int
    content: Content


def length_of(content: Content) -> int:
    """How many bytes a piece takes."""
    if isinstance(content, bytes):
        return len(content)
    return content.length if isinstance(content, ExternalRegion) else byte_count(content.elem_type, content.shape)


def write_pieces(path: Path, size: int, pieces: Iterable[Piece]) -> None:
    """Writes a file of `size` bytes; what no piece covers is zero.

    Raises:
        InputError: a source became shorter.
    """
    with path.open("wb", buffering=0) as target:
        target.truncate(size)
        writing = InTurn()  # the kernel lets one thread at a time write to a file, and keeps the others spinning
        for_each(lambda prepare: writing.do(prepare()), _jobs(target, pieces))
        writing.finish()


def _jobs(target: IO[bytes], pieces: Iterable[Piece]) -> Iterator[Callable[[], Callable[[], None]]]:
    """What can be done at once: each prepares a part of the file, and returns what writes it."""
    opened: Source | None = None  # the last one; a job that still needs another holds it
    for piece in pieces:
        content = piece.content
        if isinstance(content, bytes):
            yield _ready(partial(write_at, target, content, piece.offset))
        elif isinstance(content, ExternalRegion):
            if opened is None or opened.path != content.path:
                opened = Source(content.path)
            for start in range(0, content.length, _CHUNK_BYTES):
                count = min(_CHUNK_BYTES, content.length - start)
                yield _ready(partial(_copy, opened, content.offset + start, target, piece.offset + start, count))
        elif not content.shape or is_packed(content.elem_type):
            yield _ready(partial(write_at, target, stored_bytes(content), piece.offset))
        else:
            item_bytes, read = byte_count(content.elem_type, (1,)), content.reader()
            for index in tiles(content.shape):
                place = piece.offset + first_element(content.shape, index) * item_bytes
                yield partial(_block, target, content, read, index, place)


def _ready(write: Callable[[], None]) -> Callable[[], Callable[[], None]]:
    return lambda: write


def _block(target: IO[bytes], weight: Weight, read: Blocks, index: Index, place: int) -> Callable[[], None]:
    block = np.ascontiguousarray(round_to(read(index), weight.elem_type))
    return partial(write_at, target, block.reshape(-1).view(np.uint8).data, place)


def _copy(source: Source, start: int, target: IO[bytes], place: int, count: int) -> None:
    while count:
        done = _copied_by_kernel(source, start, target, place, count) or _copied(source, start, target, place, count)
        if not done:
            raise InputError(f"{source.path} became shorter while it was read.")
        start, place, count = start + done, place + done, count - done


def _copied_by_kernel(source: Source, start: int, target: IO[bytes], place: int, count: int) -> int:
    if not hasattr(os, "copy_file_range"):
        return 0
    try:
        return os.copy_file_range(source.descriptor, target.fileno(), count, start, place)
    except OSError:  # not between these file systems; a full disk says so again
        return 0


def _copied(source: Source, start: int, target: IO[bytes], place: int, count: int) -> int:
    buffer = memoryview(bytearray(count))
    found = source.read_at(buffer, start)
    write_at(target, buffer[:found], place)
    return found
