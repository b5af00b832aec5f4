"""A list of files with their labels: CSV with a header that names `path` and `label`, or JSON Lines with these keys.

Paths are relative to the folder of the list. A file is an image or a .npy array. The list is read line by line; of its lines only
every thousandth position is kept.
"""

from __future__ import annotations

import csv
import json
import zlib
from array import array
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bnfold.data import digest
from bnfold.data.dataset import Sample
from bnfold.data.images import read_image
from bnfold.errors import InputError

_STRIDE = 1000
_Row: TypeAlias = tuple[str, int]


class ManifestReader:
    """The files that a list names, in its order.

    Args:
        path: the list.
        kind: "csv" or "jsonl".
        name: what messages call the data set.

    Raises:
        InputError: the list cannot be read, or has no header.
    """

    sequential = False

    def __init__(self, path: Path, kind: str, name: str) -> None:
        self.name = name
        self._path = path
        self._row: Callable[[str, str], _Row] = _json_row
        self._marks = array("Q")
        self.count = 0
        try:
            with path.open("rb") as file:
                if kind == "csv":
                    self._row = _csv_rows(file.readline().decode("utf-8-sig"), path)
                while True:
                    position = file.tell()
                    line = file.readline()
                    if not line:
                        break
                    if not line.strip():
                        continue
                    if self.count % _STRIDE == 0:
                        self._marks.append(position)
                    self.count += 1
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}.") from error
        except UnicodeDecodeError as error:
            raise InputError(f"{path} is no text in UTF-8: {error}.") from error
        if not self.count:
            raise InputError(f"{path} lists no files.")

    def samples(self, start: int) -> Iterator[Sample]:
        """Images as uint8 RGB `[H, W, 3]`, arrays as they are stored, with their labels."""
        for path, label in self._files(start):
            yield {"": _content(path)}, label

    def digest(self) -> str:
        """Over the list and all files in it."""
        return digest.of_files(chain([(self._path.name, self._path)], ((str(path), path) for path, _ in self._files(0))))

    identity = digest

    def _files(self, start: int) -> Iterator[tuple[Path, int]]:
        if start >= self.count:
            return
        with self._path.open("rb") as file:
            file.seek(self._marks[start // _STRIDE])
            number = start - start % _STRIDE
            for line in file:
                if not line.strip():
                    continue
                if number >= start:
                    name, label = self._row(line.decode(), f"{self._path}, entry {number + 1}")
                    yield self._path.parent / name, label
                number += 1


def _csv_rows(header: str, path: Path) -> Callable[[str, str], _Row]:
    """Reads one line of a CSV file with this header."""
    titles = [title.strip() for title in next(csv.reader([header]), [])]
    if "path" not in titles or "label" not in titles:
        raise InputError(
            f"{path}: the first line has to name the columns, `path` and `label` among them, and is {header.strip()!r}."
        )
    path_column, label_column = titles.index("path"), titles.index("label")

    def row(line: str, where: str) -> _Row:
        cells = next(csv.reader([line]))
        if len(cells) != len(titles):
            raise InputError(f"{where} has {len(cells)} columns, and the first line names {len(titles)}.")
        return cells[path_column].strip(), _label(cells[label_column], where)

    return row


def _json_row(line: str, where: str) -> _Row:
    try:
        entry = json.loads(line)
    except ValueError as error:
        raise InputError(f"{where} is no JSON: {error}.") from error
    if not isinstance(entry, dict) or not isinstance(entry.get("path"), str) or "label" not in entry:
        raise InputError(f'{where} is not of the form {{"path": "image.png", "label": 3}}.')
    return entry["path"], _label(entry["label"], where)


def _label(value: Any, where: str) -> int:
    try:
        return int(str(value))
    except ValueError:
        raise InputError(f"{where}: the label {value!r} is no number of a class.") from None


def _content(path: Path) -> NDArray[Any]:
    if path.suffix.lower() != ".npy":
        return read_image(path)
    try:
        stored: NDArray[Any] = np.load(path, allow_pickle=False)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, EOFError, zlib.error) as error:
        raise InputError(f"{path} is no .npy array: {error}.") from error
    return stored
