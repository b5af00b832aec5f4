"""The user's own inputs, read from files: .npz, .npy, folders of them, and ONNX's `test_data_set_*` folders.

A .npz file holds one array per input, by name; a .npy file holds the one input of a model that has one. When every array has
one axis more than the model wants, and all of the same extent, that axis counts samples: each is an input of its own. In a
`test_data_set_*` folder, `input_0.pb` belongs to the graph's first input, and so on; the `output_*.pb` beside them are not read.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bnfold.errors import InputError
from bnfold.runtime.session import Value
from bnfold.runtime.sizes import listing
from bnfold.runtime.source import ValueSpec

Named: TypeAlias = tuple[str, dict[str, Value]]

_KINDS = "a .npz or .npy file, a folder of such files, or a folder with input_0.pb, input_1.pb, … (an ONNX test_data_set)"
_ARRAYS = (".npz", ".npy")


def read_inputs(specs: Sequence[ValueSpec], path: Path) -> Iterator[Named]:
    """Yields what each input is called and its values by name; they are not checked against the signature.

    Args:
        specs: the inputs of the model, in the order of the graph's.
        path: a file or a folder, as above.

    Raises:
        InputError: the path is none of these, or one of its files cannot be read.
    """
    if not path.is_dir():
        yield from _read_file(specs, path, path.name)
        return
    found = _entries(path)
    sets = [each for each in found if each.is_dir() and each.name.startswith("test_data_set")]
    files = [each for each in found if each.suffix in _ARRAYS and each.is_file()]
    parts = _parts(path)
    present = [name for name, group in (("input_*.pb", parts), ("test_data_set_*", sets), (".npz or .npy files", files)) if group]
    if len(present) > 1:
        raise InputError(f"the folder {path} holds {' and '.join(present)}: give the one that is meant.")
    if not present:
        raise InputError(f"the folder {path} holds no inputs. Give {_KINDS}.")
    if parts:
        yield _read_set(specs, path, parts)
    for folder in sets:
        yield _read_set(specs, folder, _parts(folder))
    for file in files:
        yield from _read_file(specs, file, file.name)


def _parts(folder: Path) -> list[Path]:
    return [each for each in _entries(folder) if re.fullmatch(r"input_\d+\.pb", each.name)]


def _entries(folder: Path) -> list[Path]:
    """What is in a folder, `input_10` behind `input_9`."""
    try:
        return sorted(folder.iterdir(), key=lambda each: _natural(each.name))
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror or error}.") from None


def _natural(name: str) -> list[tuple[bool, int, str]]:
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", name)]


def _read_file(specs: Sequence[ValueSpec], path: Path, label: str) -> Iterator[Named]:
    loaded = _load(path)
    if isinstance(loaded, dict):
        values = loaded
    elif len(specs) == 1:
        values = {specs[0].name: loaded}
    else:
        raise InputError(
            f"{path} is a single array, and the model has {len(specs)} inputs: save them by name, "
            f"np.savez({path.stem!r}, x=…). {listing(specs)}"
        )
    count = _samples(specs, values)
    if count is None:
        yield label, values
        return
    for number in range(count):
        yield f"{label}[{number}]", {name: array[number] for name, array in values.items()}


def _load(path: Path) -> dict[str, NDArray[Any]] | NDArray[Any]:
    try:
        with path.open("rb") as file:
            content = np.load(file, allow_pickle=False)
            if isinstance(content, np.lib.npyio.NpzFile):
                return {name: content[name] for name in content.files}
            array: NDArray[Any] = content
            return array
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from None
    except (ValueError, EOFError, zipfile.BadZipFile):
        raise InputError(f"{path} holds no plain numpy arrays. Give {_KINDS}.") from None


def _samples(specs: Sequence[ValueSpec], values: Mapping[str, NDArray[Any]]) -> int | None:
    """How many samples stand along a leading axis that the model does not have; None where the arrays are one input."""
    by_name = {spec.name: spec for spec in specs}
    counts = set()
    for name, array in values.items():
        shape = by_name[name].shape if name in by_name else None
        if shape is None or array.ndim != len(shape) + 1:
            return None
        counts.add(array.shape[0])
    return counts.pop() if len(counts) == 1 and counts != {0} else None


def _read_set(specs: Sequence[ValueSpec], folder: Path, files: Sequence[Path]) -> Named:
    names = [each.name for each in files]
    if not names:
        raise InputError(f"the folder {folder} holds no input_0.pb.")
    if names != [f"input_{number}.pb" for number in range(len(names))]:
        raise InputError(f"the inputs in {folder} are not numbered from 0 without a gap: {', '.join(names)}.")
    if len(files) > len(specs):
        raise InputError(f"{folder} holds {len(files)} inputs, and the model has {len(specs)}. {listing(specs)}")
    return folder.name, {spec.name: _read_pb(spec, file) for spec, file in zip(specs, files, strict=False)}


def _read_pb(spec: ValueSpec, path: Path) -> Value:
    """The value of one `input_*.pb`: a TensorProto, SequenceProto or OptionalProto, by the type of the model's input."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from onnx import numpy_helper

    kind, _, _ = spec.type.partition("(")
    messages: dict[str, Any] = {"tensor": onnx.TensorProto, "sequence": onnx.SequenceProto, "optional": onnx.OptionalProto}
    if kind not in messages:
        raise InputError(f"{path} cannot be read: no values of type {spec.type or 'unknown'} are read from files.")
    try:
        message = messages[kind].FromString(path.read_bytes())
        if kind == "tensor":
            return numpy_helper.to_array(message, str(path.parent))
        return numpy_helper.to_list(message) if kind == "sequence" else numpy_helper.to_optional(message)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from None
    except (DecodeError, ValueError, TypeError, KeyError, NotImplementedError, onnx.checker.ValidationError) as error:
        raise InputError(f"{path} is no {kind} for the input `{spec.name}`, {spec.type}: {_line(error)}.") from None


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else "it cannot be decoded"
