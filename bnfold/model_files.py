"""Model files in what a user names: files, folders and glob patterns."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from pathlib import Path

from bnfold.errors import InputError

SUFFIX = ".onnx"


def model_files(names: Iterable[str]) -> list[Path]:
    """The model files that `names` stand for, in a stable order and each once.

    A file stands for itself, whatever its suffix; a folder for every `.onnx` file in it, at any depth; anything else is a
    glob pattern, in which `**` spans folders.

    Raises:
        InputError: a name stands for no model at all, or a folder cannot be read.
    """
    found: dict[Path, None] = {}
    for name in names:
        files = _files(name)
        if not files:
            what = "holds no .onnx file" if Path(name).is_dir() else "is no file or folder, and matches none as a pattern"
            raise InputError(f"{name} {what}.")
        found.update(dict.fromkeys(files))
    return list(found)


def models_in(folder: Path) -> list[Path]:
    """Every `.onnx` file below `folder`, sorted.

    Raises:
        InputError: a folder cannot be read: what it holds would go unnoticed.
    """

    def refuse(error: OSError) -> None:
        raise InputError(f"cannot read the folder {error.filename}: {error.strerror}.") from error

    paths = (Path(place, name) for place, _, names in os.walk(folder, onerror=refuse) for name in names)
    return sorted(path for path in paths if path.name.endswith(SUFFIX) and path.is_file())


def _files(name: str) -> list[Path]:
    path = Path(name)
    if path.is_dir():
        return models_in(path)
    if path.exists():
        return [path]
    matches = (Path(match) for match in sorted(glob.glob(name, recursive=True)))
    existing = [match for match in matches if match.exists()]  # a link may lead nowhere
    return [file for match in existing for file in (models_in(match) if match.is_dir() else [match])]
