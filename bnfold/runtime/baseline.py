"""What the original answers: inputs that it runs on, its outputs for them, and whether those can decide anything."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from bnfold.errors import InputError
from bnfold.runtime.compare import Comparison, compare_values, leaves
from bnfold.runtime.feeds import DTYPES, Feed
from bnfold.runtime.providers import Target
from bnfold.runtime.session import CannotRun, Level, RunFailed, Session, Value
from bnfold.runtime.source import Source
from bnfold.runtime.tolerance import FLOAT_NAMES
from bnfold.verdict import Note

Measure: TypeAlias = Callable[[NDArray[Any], NDArray[Any]], Comparison]

_MIN_FEEDS = 2
_STEADY = 0.2  # of the tolerance; measured, a fold's rounding moves an output up to 5 × as far as that of the input


@dataclass(frozen=True)
class Baseline:
    """The original on its inputs.

    Attributes:
        feeds: the inputs.
        outputs: for each input the outputs, in the order of the graph's.
        notes: BNF032 where the original's own output is NaN or inf, BNF033 where it is not deterministic.
        undecided: why no comparison could mean anything, one sentence each; empty normally.
    """

    feeds: tuple[Feed, ...]
    outputs: tuple[Sequence[Value], ...]
    notes: tuple[Note, ...]
    undecided: tuple[str, ...]


def settle(
    source: Source,
    proposals: Iterable[tuple[Feed, ...]],
    measure: Measure,
    level: Level,
    target: Target,
    budget_s: float,
) -> Baseline:
    """Runs the original on the first proposal that it accepts as a whole.

    Args:
        source: the original.
        proposals: lists of inputs, the likeliest to fit first.
        measure: compares two arrays under the tolerance in force.
        level: how much onnxruntime may optimize.
        target: where it runs.
        budget_s: after this time no further generated input is tried.

    Raises:
        InputError: the original is invalid, or runs on no proposal.
        CannotRun: onnxruntime cannot load it, or cannot give its outputs back.
    """
    for spec in source.outputs:
        if spec.elem_type and spec.elem_type not in DTYPES:
            raise CannotRun(
                f"output `{spec.name}` of {source.label} has type {spec.elem_type}, which onnxruntime cannot hand to "
                "numpy, so it cannot be compared."
            )
    session = Session(source, level, target)
    refusals: list[RunFailed] = []
    for feeds in proposals:
        try:
            return _record(session, source, feeds, measure, budget_s)
        except RunFailed as error:
            refusals.append(error)
    if len(refusals) > 1:
        advice = (
            "No size that was tried for its open dimensions fits: give --input-shapes, or real inputs with --inputs FILE.npz."
        )
    else:
        advice = "If these are not the inputs it is made for, give real ones with --inputs FILE.npz; otherwise it is broken."
    raise InputError(f"{refusals[0]} {advice}")


def _record(session: Session, source: Source, feeds: tuple[Feed, ...], measure: Measure, budget_s: float) -> Baseline:
    started = time.perf_counter()
    runs: list[tuple[Feed, list[Value]]] = []
    for feed in feeds:
        late = feed.generated and time.perf_counter() - started > budget_s
        if late and len(runs) >= _MIN_FEEDS:
            break
        try:
            runs.append((feed, session.run(feed.values)))
        except RunFailed:
            if not feed.wide:
                raise
    first, outputs = runs[0]
    if not _same(outputs, session.run(first.values), measure):
        sentence = "The original is not deterministic (BNF033): two runs on the same input differ, so no comparison is possible."
        return Baseline((first,), (outputs,), (Note("BNF033", sentence),), (sentence,))
    kept = [(feed, values) for feed, values in runs if not feed.wide or _digests(session, feed, values, measure)]
    notes, undecided = _non_finite(source, kept)
    return Baseline(tuple(feed for feed, _ in kept), tuple(values for _, values in kept), notes, undecided)


def _digests(session: Session, feed: Feed, outputs: Sequence[Value], measure: Measure) -> bool:
    """Whether the outputs are finite, and steady when every input value moves by its own rounding error."""
    if any(_non_finite_count(value) for value in outputs):
        return False
    rng = np.random.default_rng(0)
    moved = {name: _moved(value, rng) for name, value in feed.values.items()}
    return _same(outputs, session.run(moved), measure, _STEADY)


def _moved(value: Value, rng: np.random.Generator) -> Value:
    array = np.asarray(value)
    if array.dtype.name not in FLOAT_NAMES:
        return value
    step = float(_unit(array.dtype)) * rng.choice((-1.0, 1.0), array.shape)
    return np.asarray(array.astype(np.float64) * (1.0 + step)).astype(array.dtype)


def _unit(dtype: np.dtype[Any]) -> float:
    return float(ml_dtypes.finfo(dtype).eps)  # type: ignore[no-untyped-call]


def _same(one: Sequence[Value], other: Sequence[Value], measure: Measure, share: float = 1.0) -> bool:
    """Whether two lists of outputs differ by no more than `share` of the tolerance."""
    comparisons = (compare_values(a, b, measure) for a, b in zip(one, other, strict=True))
    return all(found.ok and found.severity <= share for row in comparisons for found in row)


def _non_finite(source: Source, runs: Sequence[tuple[Feed, Sequence[Value]]]) -> tuple[tuple[Note, ...], tuple[str, ...]]:
    """BNF032 for each output that is NaN or inf somewhere, and a sentence for each that never has a finite value."""
    notes, undecided = [], []
    for place, spec in enumerate(source.outputs):
        counts = {feed.label: _non_finite_count(outputs[place]) for feed, outputs in runs}
        if not any(counts.values()):
            continue
        total = sum(array.size for _, outputs in runs for _, array in leaves(outputs[place]))
        where = ", ".join(label for label, count in counts.items() if count)
        sentence = (
            f"Output `{spec.name}` of the original is NaN or inf at {sum(counts.values()):,} of {total:,} values "
            f"(inputs: {where}); nothing can be compared there."
        )
        notes.append(Note("BNF032", sentence, spec.name))
        if sum(counts.values()) == total:
            undecided.append(f"Output `{spec.name}` of the original is NaN or inf throughout, so it proves nothing.")
    return tuple(notes), tuple(undecided)


def _non_finite_count(value: Value) -> int:
    floats = (array for _, array in leaves(value) if array.dtype.name in FLOAT_NAMES)
    return sum(int(np.count_nonzero(~np.isfinite(array))) for array in floats)
