"""Outputs of a model as .npz files, each written under another name first and moved into place whole."""

from __future__ import annotations

import contextlib
import os
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnfold.errors import InputError
from bnfold.runtime.run import Answer, Run
from bnfold.runtime.session import Value


def write_outputs(run: Run, destination: Path) -> Iterable[tuple[Answer, Path]]:
    """Yields each answer once its file is written: `destination` itself for one input, else a numbered file in that folder.

    Raises:
        InputError: the destination does not fit the number of inputs or cannot be written, or an output is a map.
    """
    single = destination.suffix == ".npz"
    if single and run.count > 1:
        raise InputError(f"there are {run.count} inputs, and -o {destination} is one file. Name a folder instead.")
    if single and destination.is_dir():
        raise InputError(f"-o {destination} is a folder. Name a file, or a folder without the suffix .npz.")
    folder = destination.parent if single else destination
    digits = max(4, len(str(run.count)))
    for number, answer in enumerate(run.answers, 1):
        path = destination if single else folder / f"{number:0{digits}}.npz"
        try:
            if not single:
                folder.mkdir(exist_ok=True)
            write_npz(path, arrays(answer.outputs))
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}. Name another place with -o.") from error
        yield answer, path


def arrays(outputs: Mapping[str, Value]) -> dict[str, NDArray[Any]]:
    """The outputs as arrays by name: a sequence becomes `name.0`, `name.1`, …, and an absent optional is left out.

    Raises:
        InputError: an output is a map, which no .npz file holds.
    """
    found: dict[str, NDArray[Any]] = {}
    for name, value in outputs.items():
        if isinstance(value, dict):
            raise InputError(f"the output `{name}` is a map, which a .npz file cannot hold.")
        parts = {f"{name}.{number}": part for number, part in enumerate(value)} if isinstance(value, list) else {name: value}
        found |= {key: _plain(part) for key, part in parts.items() if part is not None}
    return found


def write_npz(path: Path, by_name: Mapping[str, NDArray[Any]]) -> None:
    """Writes what `numpy.load` reads, whatever the names; `numpy.savez` takes no array called "file".

    Raises:
        OSError: it cannot be written; nothing is left behind then.
    """
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file, zipfile.ZipFile(file, "w") as archive:
            for name, array in by_name.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp makes files that only their owner reads
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _plain(value: Value) -> NDArray[Any]:
    array = np.asarray(value)
    if array.dtype == object:
        return array.astype(np.str_)
    return array if array.dtype.isbuiltin == 1 else array.view(np.dtype(f"V{array.dtype.itemsize}"))
