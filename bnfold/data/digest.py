"""SHA-256 of files, in hexadecimal."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from bnfold.errors import InputError


def of_file(path: Path) -> str:
    """What `sha256sum` prints for a file.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error


def of_files(files: Iterable[tuple[str, Path]]) -> str:
    """SHA-256 of the lines `hash  name`, as `sha256sum` prints them, in the order of `files` (name, path)."""
    total = hashlib.sha256()
    for name, path in files:
        total.update(f"{of_file(path)}  {name}\n".encode())
    return total.hexdigest()
