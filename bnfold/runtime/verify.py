"""Whether two models answer the same on the same inputs.

Both run without onnxruntime's optimizations and with its default ones, and like is compared with like. Without them the graphs
themselves are compared; onnxruntime folds normalizations on its own, so comparing two optimized models alone could compare its
fold with itself. With them it is what users will run.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from bnfold.errors import BnfoldError, GateFailed, InputError
from bnfold.runtime.baseline import Measure, settle
from bnfold.runtime.compare import Comparison, compare, compare_values
from bnfold.runtime.feeds import Feed, generated_feeds, given_feeds
from bnfold.runtime.session import LEVELS, Level, ModelRejected, NoKernel, RunFailed, Session, Value
from bnfold.runtime.signature import differences
from bnfold.runtime.source import Source, read_source
from bnfold.runtime.tolerance import check_tolerance
from bnfold.verdict import Note

if TYPE_CHECKING:
    from bnfold.runtime.source import ModelLike


@dataclass(frozen=True)
class OutputComparison:
    """One output at one optimization level, on the input where the two models differ most.

    Attributes:
        output: its name.
        level: onnxruntime's optimization: "disabled" or "default".
        feed: what the input is called, as "normal(0, 1)".
        worst: what was measured there. Its argmax rows and its `non_finite` are summed over all inputs.
    """

    output: str
    level: Level
    feed: str
    worst: Comparison

    @property
    def ok(self) -> bool:
        """Whether the output is equivalent on every input."""
        return self.worst.ok

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready and flat."""
        return {"output": self.output, "level": self.level, "feed": self.feed, **self.worst.to_dict()}


@dataclass(frozen=True)
class Verification:
    """Measured differences between two models.

    Attributes:
        outputs: one comparison for each output and level.
        failures: why the candidate is not equivalent, or why nothing can be said; one sentence each.
        notes: remarks that stop nothing by themselves (BNF032, BNF033, BNF034).
        feeds: how many inputs both models were run on.
        elapsed_s: seconds it took.
    """

    outputs: tuple[OutputComparison, ...]
    failures: tuple[str, ...]
    notes: tuple[Note, ...]
    feeds: int
    elapsed_s: float

    @property
    def ok(self) -> bool:
        """Whether the two models are equivalent on everything that was tried."""
        return not self.failures

    @property
    def worst(self) -> OutputComparison | None:
        """The output that comes closest to its tolerance or is furthest beyond it; None when nothing was measured."""
        return max(self.outputs, key=_badness, default=None)

    @property
    def argmax_changed(self) -> int:
        """Rows whose largest value moved, over all outputs and inputs, without optimizations."""
        return sum(row.worst.argmax_changed for row in self.outputs if row.level == "disabled")

    @property
    def argmax_total(self) -> int:
        """All rows that have a largest value, counted the same way."""
        return sum(row.worst.argmax_total for row in self.outputs if row.level == "disabled")

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; NaN and inf become None."""
        return {
            "ok": self.ok,
            "feeds": self.feeds,
            "argmax_changed": self.argmax_changed,
            "argmax_total": self.argmax_total,
            "failures": list(self.failures),
            "notes": [asdict(note) for note in self.notes],
            "outputs": [row.to_dict() for row in self.outputs],
            "elapsed_s": self.elapsed_s,
        }

    def raise_for_status(self) -> None:
        """Raises `GateFailed` with the failures unless `ok`."""
        if self.failures:
            raise GateFailed(f"the candidate is not shown to be equivalent to the original: {' '.join(self.failures)}")


def verify(
    reference: ModelLike,
    candidate: ModelLike,
    *,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    inputs: str | os.PathLike[str] | Sequence[Mapping[str, Value]] | None = None,
    atol: float | None = None,
    rtol: float | None = None,
    seed: int = 0,
) -> Verification:
    """Runs two models on the same inputs and compares every output.

    Args:
        reference: the original: a path, or a model in memory of at most 2 GB.
        candidate: the same for the model to check. It may lack inputs that are initializers in the original.
        input_shapes: input name → shape, for inputs whose sizes cannot be guessed.
        inputs: a .npz file with one array per input, or a list of mappings from input name to array; generated from
            the original's signature when None.
        atol: absolute part of the tolerance, in place of the default for the model's precision.
        rtol: relative part, likewise; `bnfold.runtime.tolerance` gives the defaults and where they come from.
        seed: of the generated inputs.

    Returns:
        What was measured. A candidate that differs or does not run is a failure in it, never an exception.

    Raises:
        InputError: a model cannot be read, the arguments do not fit the original, or the original does not run.
        EnvironmentUnfit: the installed onnxruntime cannot load or run the original.
    """
    started = time.perf_counter()
    check_tolerance("atol", atol)
    check_tolerance("rtol", rtol)
    original, other = read_source(reference, "original"), read_source(candidate, "candidate")
    if conflicts := differences(original, other):
        return Verification((), tuple(conflicts), (), 0, time.perf_counter() - started)
    measure = partial(compare, precision=original.precision, atol=atol, rtol=rtol)
    if inputs is None:
        baseline = settle(original, generated_feeds(original.inputs, input_shapes or {}, seed), measure)
    elif input_shapes:
        raise InputError("give either the sizes of the inputs or the inputs themselves, not both.")
    else:
        baseline = settle(original, [given_feeds(original.inputs, inputs)], measure)
    rows: list[OutputComparison] = []
    failures, notes = list(baseline.undecided), list(baseline.notes)
    for level in LEVELS if not failures else ():
        try:
            expected = baseline.outputs if level == "disabled" else _run_all(original, level, baseline.feeds)
        except BnfoldError as error:  # the candidate cannot be blamed for it
            notes.append(Note("BNF034", f"The original does not run at optimization level {level}: {error}"))
            continue
        try:
            rows += _compare_level(other, level, baseline.feeds, expected, measure)
        except (ModelRejected, NoKernel, RunFailed) as error:
            failures.append(f"The candidate does not run where the original does (optimizations {level}): {error}")
            break  # the next level would say the same again
    failures += _sentences(rows)
    return Verification(tuple(rows), tuple(failures), tuple(notes), len(baseline.feeds), time.perf_counter() - started)


def _run_all(source: Source, level: Level, feeds: Sequence[Feed]) -> list[list[Value]]:
    session = Session(source, level)
    return [session.run(feed.values) for feed in feeds]


def _compare_level(
    candidate: Source, level: Level, feeds: Sequence[Feed], expected: Sequence[Sequence[Value]], measure: Measure
) -> list[OutputComparison]:
    """One row per output. Only the reference's outputs are held for all inputs; the candidate's come and go."""
    session = Session(candidate, level)
    rows: dict[str, OutputComparison] = {}
    for feed, reference in zip(feeds, expected, strict=True):
        for spec, ours, theirs in zip(candidate.outputs, reference, session.run(feed.values), strict=True):
            for found in compare_values(ours, theirs, measure):
                row = OutputComparison(spec.name, level, feed.label, found)
                rows[spec.name] = _worse(rows[spec.name], row) if spec.name in rows else row
    return list(rows.values())


def _worse(one: OutputComparison, other: OutputComparison) -> OutputComparison:
    worse = max(one, other, key=_badness)
    counts = {
        name: getattr(one.worst, name) + getattr(other.worst, name) for name in ("argmax_changed", "argmax_total", "non_finite")
    }
    return replace(worse, worst=replace(worse.worst, **counts))


def _badness(row: OutputComparison) -> tuple[bool, float]:
    return not row.ok, row.worst.severity


def _sentences(rows: Sequence[OutputComparison]) -> list[str]:
    """One sentence for each output that failed, at the first level where it did."""
    failed: dict[str, str] = {}
    for row in rows:
        if not row.ok:
            where = f"(input {row.feed}, optimizations {row.level})"
            failed.setdefault(row.output, f"Output `{row.output}` {row.worst.problem} {where}.")
    return list(failed.values())
