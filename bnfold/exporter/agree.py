"""Whether the PyTorch module and the files made from it compute the same, on the same inputs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from bnfold.data import open_data
from bnfold.errors import InputError
from bnfold.report.exported import Agreement
from bnfold.runtime.compare import Comparison, compare
from bnfold.runtime.feeds import Feed, given_feeds
from bnfold.runtime.session import LEVELS, Session
from bnfold.runtime.source import ValueSpec, read_source

if TYPE_CHECKING:
    import torch

Inputs: TypeAlias = str | os.PathLike[str] | Sequence[Mapping[str, Any]]
Outputs: TypeAlias = list[list[NDArray[Any]]]
Row: TypeAlias = tuple[str, str, Comparison]
Program: TypeAlias = Callable[..., Any]

_SAMPLES = 64
_BATCHES = (3, 1)
"""Batch sizes to try besides that of the example: one that the module was not traced with, and the smallest."""


def real_feeds(specs: Sequence[ValueSpec], inputs: Inputs | None, data: str | None, preprocess: str | None) -> tuple[Feed, ...]:
    """The user's own inputs: arrays by name, or the first samples of a data set.

    Raises:
        InputError: they cannot be read, or do not fit the model.
    """
    if inputs is not None:
        return given_feeds(specs, inputs)
    if data is None:
        return ()
    opened = open_data(data, preprocess)
    batch = next(iter(opened.batches(_SAMPLES, stop=_SAMPLES)), None)
    if batch is None:
        raise InputError(f"{data} holds no samples.")
    if set(batch.inputs) == {""} and len(specs) == 1:
        return given_feeds(specs, [{specs[0].name: batch.inputs[""]}])
    return given_feeds(specs, [batch.inputs])


def made_up_feeds(names: Sequence[str], args: Sequence[torch.Tensor], dynamic: bool, seed: int) -> tuple[Feed, ...]:
    """Inputs like the example: floats drawn anew, everything else repeated, in other batch sizes where the batch is open."""
    rng = np.random.default_rng(seed)
    batch = args[0].shape[0] if args and args[0].dim() else 0
    feeds = []
    for size in dict.fromkeys((batch, *(_BATCHES if dynamic else ()))):
        for label, draw in (("normal(0, 1)", rng.standard_normal), ("uniform(0, 1)", rng.random)):
            arrays = [_like(as_array(arg), batch, size, draw) for arg in args]
            feeds.append(Feed(f"{label}, batch {size}", dict(zip(names, arrays, strict=True)), generated=True))
    return tuple(feeds)


def run_torch(program: Program, names: Sequence[str], feeds: Sequence[Feed]) -> Outputs:
    """What the module gives for each feed, flattened in torch's own order; None is left out, as the exporter does."""
    import torch
    from torch.utils import _pytree

    results = []
    for feed in feeds:
        with torch.no_grad():
            found = program(*(as_tensor(feed.values[name]) for name in names))
        results.append([as_array(leaf) for leaf in _pytree.tree_leaves(found) if leaf is not None])
    return results


def run_onnx(path: Path, feeds: Sequence[Feed]) -> dict[str, Outputs]:
    """What the file gives for each feed, by optimization level."""
    source = read_source(path, "candidate")
    found: dict[str, Outputs] = {}
    for level in LEVELS:
        session = Session(source, level)
        found[level] = [session.run(feed.values) for feed in feeds]
    return found


def agreement(
    left: tuple[str, Mapping[str, Outputs]],
    right: tuple[str, Mapping[str, Outputs]],
    path: Path,
    feeds: Sequence[Feed],
    atol: float | None,
    rtol: float | None,
) -> Agreement:
    """Compares two of the three, level by level; `path` is the file whose outputs and precision count."""
    source = read_source(path, "candidate")
    measure = partial(compare, precision=source.precision, atol=atol, rtol=rtol)
    worst: dict[str, Row] = {}
    for level in LEVELS:
        for feed, ours, theirs in zip(feeds, left[1][level], right[1][level], strict=True):
            if len(ours) != len(theirs):
                raise InputError(f"the module gives {len(ours)} tensors, and its export {len(theirs)}: return tensors only.")
            for spec, one, other in zip(source.outputs, ours, theirs, strict=True):
                row = (spec.name, feed.label, measure(one, other))
                worst[spec.name] = _worse(worst[spec.name], row, level == "disabled") if spec.name in worst else row
    return Agreement(left[0], right[0], tuple(worst.values()), len(feeds))


@contextmanager
def in_eval_mode(module: Any) -> Iterator[int]:
    """Puts every part of a module into eval mode, and back afterwards. Yields how many parts were not in it."""
    parts = [part for part in module.modules() if part.training] if hasattr(module, "modules") else []
    try:
        if parts:
            module.eval()
        yield len(parts)
    finally:
        for part in parts:
            part.training = True


def as_array(tensor: torch.Tensor) -> NDArray[Any]:
    """The tensor as numpy has it; bfloat16 as that of ml_dtypes."""
    import torch

    tensor = torch.as_tensor(tensor).detach().cpu().contiguous()
    if tensor.dtype == torch.bfloat16:
        return np.asarray(tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16))
    return np.asarray(tensor.numpy())


def as_tensor(array: NDArray[Any]) -> torch.Tensor:
    """The inverse of `as_array`."""
    import torch

    array = np.array(array, order="C")
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def _like(array: NDArray[Any], batch: int, size: int, draw: Callable[[tuple[int, ...]], NDArray[np.float64]]) -> NDArray[Any]:
    batched = array.ndim > 0 and array.shape[0] == batch
    shape = (size, *array.shape[1:]) if batched else array.shape
    if array.dtype.kind == "f" or array.dtype == ml_dtypes.bfloat16:
        return np.asarray(np.asarray(draw(shape)).astype(array.dtype))
    return np.resize(array, shape)


def _worse(known: Row, row: Row, counted: bool) -> Row:
    """The worse of two inputs; rows whose largest value moved are added up over the inputs, at one level."""
    one, other = known[2], row[2]
    output, feed, found = max(known, row, key=lambda each: _badness(each[2]))
    changed = one.argmax_changed + other.argmax_changed if counted else max(one.argmax_changed, other.argmax_changed)
    total = one.argmax_total + (other.argmax_total if counted else 0)
    return output, feed, replace(found, argmax_changed=changed, argmax_total=total)


def _badness(found: Comparison) -> tuple[bool, float]:
    return not found.ok, found.severity
