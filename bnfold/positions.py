"""Files read and written at any position, by many threads at once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO

MANY_AT_ONCE = hasattr(os, "preadv") and hasattr(os, "pwrite")
"""Whether the system can: on Windows a file has one position, so one thread at a time may use it."""


class Source:
    """A file that is read; closed when nobody needs it any more.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)

    def read_at(self, buffer: memoryview, place: int) -> int:
        """Reads into `buffer` from byte `place` on; returns how many bytes there were, 0 at the end of the file."""
        if MANY_AT_ONCE:
            return os.preadv(self.descriptor, [buffer], place)
        os.lseek(self.descriptor, place, os.SEEK_SET)
        found = os.read(self.descriptor, len(buffer))
        buffer[: len(found)] = found
        return len(found)


def write_at(stream: IO[bytes], content: bytes | memoryview, place: int) -> None:
    """Writes all of `content` to an unbuffered stream, from byte `place` on."""
    left = memoryview(content)
    while len(left):
        if MANY_AT_ONCE:
            count = os.pwrite(stream.fileno(), left, place)
        else:
            stream.seek(place)
            count = stream.write(left)
        place, left = place + count, left[count:]
