"""What a benchmark feeds: the batch, and values that lie on the device before the clock starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from bnfold.errors import InputError
from bnfold.runtime.bench_measure import Runner
from bnfold.runtime.feeds import Feed
from bnfold.runtime.session import Value, to_ort_value
from bnfold.runtime.source import Source, ValueSpec

if TYPE_CHECKING:
    import onnxruntime as ort


Device: TypeAlias = tuple[str, int]
"""A kind of device and its number, as onnxruntime's IOBinding takes them: ("cuda", 0)."""


def leaves_batch_open(specs: Sequence[ValueSpec]) -> bool:
    """Whether an input leaves its first extent to the caller."""
    return any(spec.shape and not isinstance(spec.shape[0], int) for spec in specs)


def batched(specs: Sequence[ValueSpec], feed: Feed, batch: int) -> Feed:
    """The feed with `batch` samples: every input that leaves its first extent open is repeated, or cut, along it.

    Raises:
        InputError: no input leaves its first extent open.
    """
    if not leaves_batch_open(specs):
        listed = ", ".join(f"`{spec.name}` {spec.shape}" for spec in specs)
        raise InputError(f"--batch {batch} fits no input: the model fixes the first extent of each ({listed}).")
    free = {spec.name for spec in specs if spec.shape and not isinstance(spec.shape[0], int)}
    values = {
        name: np.resize(value, (batch, *value.shape[1:])) if name in free and np.ndim(value) else value
        for name, value in feed.values.items()
    }
    return Feed(feed.label, values, feed.generated, feed.wide)


def extent(values: Mapping[str, Value]) -> int:
    """Samples in one run: the first extent of the first input; 1 where there is none."""
    shapes = [np.shape(value) for value in values.values() if np.ndim(value)]
    return int(shapes[0][0]) if shapes and shapes[0][0] else 1


def runner(session: ort.InferenceSession, source: Source, values: Mapping[str, Value], device: Device | None) -> Runner:
    """A function that runs the session once on `values`, and returns when the outputs are there.

    Args:
        session: to run.
        source: its model.
        values: input name → value.
        device: where inputs lie and outputs stay; None to pass numpy arrays in and out, copies included.
    """
    names = [output.name for output in session.get_outputs()]
    known = {given.name for given in session.get_inputs()} | source.overridable
    fed = {name: value for name, value in values.items() if name in known}
    if device is not None:
        return _bound(session, names, fed, device)
    if any(spec.elem_type == "bfloat16" for spec in (*source.inputs, *source.outputs)):
        wrapped = {name: to_ort_value(value) for name, value in fed.items()}
        return lambda: session.run_with_ort_values(names, wrapped)
    return lambda: session.run(names, fed)


def _bound(session: ort.InferenceSession, names: Sequence[str], values: Mapping[str, Value], device: Device) -> Runner:
    import onnxruntime as ort

    binding = session.io_binding()
    for name, value in values.items():
        binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(value), *device))
    for name in names:
        binding.bind_output(name, *device)
    binding.synchronize_inputs()

    def run() -> None:
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()  # a GPU answers before it has computed

    return run
