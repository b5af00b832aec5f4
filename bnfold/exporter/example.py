"""Example inputs for a module that is named on the command line: their shapes, or the user's own arrays."""

from __future__ import annotations

import inspect
import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bnfold.errors import InputError
from bnfold.exporter.agree import Inputs, as_tensor
from bnfold.exporter.sources import Source

if TYPE_CHECKING:
    import torch

TRACED = 2
"""Samples to trace with: torch.export takes a batch of 1 for a constant."""


def with_example(source: Source, inputs: Inputs | None, shapes: Mapping[str, Sequence[int]], dynamic_batch: bool) -> Source:
    """The source with example inputs: its own, of the shapes that the user gave, or the user's own arrays."""
    import torch

    own = not isinstance(source.module, torch.nn.Module)
    if own or (source.args and not shapes):
        if shapes:
            raise InputError(f"{source.label} was traced with shapes of its own. Leave out --input-shapes.")
        return source
    given: dict[str, torch.Tensor] = {}
    if shapes:
        dtype = next((each.dtype for each in source.module.parameters() if each.is_floating_point()), torch.float32)
        given = {name: torch.zeros(*shape, dtype=dtype) for name, shape in shapes.items()}
    elif isinstance(inputs, str | os.PathLike) and str(inputs).endswith(".npz"):
        given = _read(Path(inputs), TRACED if dynamic_batch else None)
    if not given:
        raise InputError(
            f"{source.label} does not say what it takes. Give the shapes of its inputs, as --input-shapes x:1,3,224,224, or real "
            "inputs, as --inputs FILE.npz, which inputs that are no floats need."
        )
    args, names = _bound(source, given)
    return Source(source.label, source.module, args, names, source.outputs)


def _read(path: Path, rows: int | None) -> dict[str, torch.Tensor]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read as an .npz file of plain arrays: {error}.") from error
    return {name: as_tensor(array[:rows] if array.ndim else array) for name, array in found.items()}


def _bound(source: Source, given: Mapping[str, torch.Tensor]) -> tuple[tuple[torch.Tensor, ...], tuple[str, ...]]:
    """The tensors in the order of `forward`: by its parameters' names where the given names are among them, else as they come."""
    parameters = list(inspect.signature(source.module.forward).parameters)
    known = [name for name in given if name in parameters]
    if not known:
        return tuple(given.values()), tuple(given)
    if len(known) < len(given) or parameters[: len(given)] != sorted(given, key=parameters.index):
        raise InputError(
            f"{source.label} takes {', '.join(parameters)}, "
            f"and {', '.join(given)} were given. Name the first inputs by those names."
        )
    ordered = sorted(given, key=parameters.index)
    return tuple(given[name] for name in ordered), tuple(ordered)
