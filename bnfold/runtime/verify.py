"""Whether two models answer the same on the same inputs, and as close to the truth.

Both run without onnxruntime's optimizations and with its default ones, and like is compared with like. Without them the graphs
themselves are compared; onnxruntime folds normalizations on its own, so comparing two optimized models alone could compare its
fold with itself. With them it is what users will run. What is right is settled by neither: both models are evaluated in float64
as well (`bnfold.runtime.against_truth`). Where that is out of reach, the two are compared with each other
(`bnfold.runtime.tolerance`), and a note says so.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeAlias

from bnfold.errors import BnfoldError, InputError
from bnfold.runtime.baseline import settle
from bnfold.runtime.compare import Comparison, compare, compare_values
from bnfold.runtime.consult import Findings, consult
from bnfold.runtime.feeds import Feed, generated_feeds, given_feeds
from bnfold.runtime.layers import Layer, first_wrong, judged
from bnfold.runtime.matched import with_matched
from bnfold.runtime.providers import CPU, ProviderUnfit, Target
from bnfold.runtime.session import LEVELS, Level, ModelRejected, NoKernel, RunFailed, Session, Value
from bnfold.runtime.signature import differences
from bnfold.runtime.source import Source, read_source
from bnfold.runtime.tolerance import DEFAULTS, Precision, check_tolerance
from bnfold.runtime.truth import Truth
from bnfold.runtime.verification import OutputComparison, Verification
from bnfold.verdict import Note

if TYPE_CHECKING:
    from bnfold.runtime.source import ModelLike

__all__ = ["BUDGET_S", "Levels", "OutputComparison", "Verification", "verify"]

Levels: TypeAlias = Literal["disabled", "default", "both"]

BUDGET_S = 30.0
"""How long a verification may take by default; what it cannot do without is done all the same."""

_PASSES = (
    8  # the original's run on the inputs gets this part of the budget: there are up to three more, and half is for the truth
)


def verify(
    reference: ModelLike,
    candidate: ModelLike,
    *,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    inputs: str | os.PathLike[str] | Sequence[Mapping[str, Value]] | None = None,
    atol: float | None = None,
    rtol: float | None = None,
    seed: int = 0,
    match_statistics: bool = False,
    levels: Levels = "both",
    budget_s: float = BUDGET_S,
    target: Target = CPU,
    candidate_target: Target | None = None,
) -> Verification:
    """Runs two models on the same inputs and compares every output, and both with the truth.

    Args:
        reference: the original: a path, or a model in memory of at most 2 GB.
        candidate: the same for the model to check. It may lack inputs that are initializers in the original.
        input_shapes: input name → shape, for inputs whose sizes cannot be guessed.
        inputs: a file or folder that `bnfold.runtime.input_files` reads (.npz, .npy, test_data_set_*), or a list of
            mappings from input name to array; generated from the original's signature when None.
        atol: absolute part of a tolerance that replaces the comparison with the truth: `max|Δ| ≤ atol + rtol·max|reference|`.
        rtol: relative part, likewise. Given only one of them, the other is that of the model's precision
            (`bnfold.runtime.tolerance`).
        seed: of the generated inputs.
        match_statistics: run on inputs, too, that are matched to what the original's normalizations store.
        levels: at which of onnxruntime's optimization levels.
        budget_s: seconds after which nothing is begun that can be left out. The first input is always evaluated in float64, and
            inputs that were given are always run.
        target: where both models run.
        candidate_target: where the candidate runs, if elsewhere.

    Returns:
        What was measured. A candidate that differs or does not run is a failure in it, never an exception.

    Raises:
        InputError: a model cannot be read, the arguments do not fit the original, or the original does not run.
        EnvironmentUnfit: the installed onnxruntime cannot load or run the original.
    """
    started = time.perf_counter()
    check_tolerance("atol", atol)
    check_tolerance("rtol", rtol)
    check_tolerance("budget_s", budget_s)
    if levels not in ("both", *LEVELS):
        raise InputError(f"levels is {levels!r}: choose disabled, default or both.")
    original, other = read_source(reference, "original"), read_source(candidate, "candidate")
    if conflicts := differences(original, other):
        return Verification((), tuple(conflicts), (), 0, time.perf_counter() - started)
    targets = target, candidate_target or target
    arithmetic: Precision | None = (
        "float16" if any(each.uses_tf32() for each in targets) and original.precision == "float32" else None
    )
    measure = partial(compare, precision=original.precision, atol=atol, rtol=rtol, arithmetic=arithmetic)
    if inputs is not None and input_shapes:
        raise InputError("give either the sizes of the inputs or the inputs themselves, not both.")
    proposals: Iterable[tuple[Feed, ...]]
    if inputs is None:
        proposals = generated_feeds(original.inputs, input_shapes or {}, seed)
    else:
        proposals = [given_feeds(original.inputs, inputs)]
    if match_statistics:
        proposals = with_matched(original, proposals, seed)
    chosen = LEVELS if levels == "both" else (levels,)
    baseline = settle(original, proposals, measure, chosen[0], target, budget_s / _PASSES)
    rows: list[OutputComparison] = []
    failures, notes = list(baseline.undecided), list(baseline.notes)
    findings = Findings()
    if not failures:
        opener = _opener(targets) if "disabled" in chosen else None
        findings = consult(original, other, baseline.feeds, opener, started + budget_s)
    for level in chosen if not failures else ():
        try:
            expected = baseline.outputs if level == chosen[0] else _run_all(original, level, target, baseline.feeds)
        except ProviderUnfit:
            raise  # the provider that was asked for did not run the model: nothing can be said about it
        except BnfoldError as error:  # the candidate cannot be blamed for it
            notes.append(Note("BNF034", f"The original does not run at optimization level {level}: {error}"))
            continue
        try:
            session = Session(other, level, targets[1])
            rows += _compare_level(session, other, level, baseline.feeds, expected, findings.truths, measure)
        except (ModelRejected, NoKernel, RunFailed) as error:
            failures.append(f"The candidate does not run where the original does (optimizations {level}): {error}")
            break  # the next level would say the same again
        notes += [note for note in session.placement.notes() if note not in notes]
    failures += _sentences(rows)
    layers = judged(findings.layers, findings.places, {row.output for row in rows if not row.ok})
    wrong = first_wrong(layers, findings.places)
    if wrong is not None and not failures and atol is None and rtol is None:
        failures.append(_layer_sentence(wrong))
    notes += [*findings.notes, *_inaccurate(rows, original)]
    return Verification(
        tuple(rows),
        tuple(failures),
        tuple(notes),
        len(baseline.feeds),
        time.perf_counter() - started,
        len(findings.truths),
        tuple(layers),
        wrong,
    )


def _opener(targets: tuple[Target, Target]) -> Callable[[Source, Source], tuple[Session, Session]]:
    return lambda original, candidate: (Session(original, "disabled", targets[0]), Session(candidate, "disabled", targets[1]))


def _run_all(source: Source, level: Level, target: Target, feeds: Sequence[Feed]) -> list[list[Value]]:
    session = Session(source, level, target)
    return [session.run(feed.values) for feed in feeds]


def _compare_level(
    session: Session,
    candidate: Source,
    level: Level,
    feeds: Sequence[Feed],
    expected: Sequence[Sequence[Value]],
    truths: Sequence[Truth],
    measure: Callable[..., Comparison],
) -> list[OutputComparison]:
    """One row per output. Only the reference's outputs are held for all inputs; the candidate's come and go."""
    rows: dict[str, OutputComparison] = {}
    for place, (feed, reference) in enumerate(zip(feeds, expected, strict=True)):
        for spec, ours, theirs in zip(candidate.outputs, reference, session.run(feed.values), strict=True):
            true = truths[place].outputs[spec.name] if place < len(truths) else ()
            known = rows[spec.name].worst.truth if spec.name in rows else None
            error, size = (0.0, 0.0) if known is None else (known.original.max_abs, known.largest)
            for found in compare_values(ours, theirs, partial(measure, known_error=error, known_size=size), true):
                row = OutputComparison(spec.name, level, feed.label, found)
                rows[spec.name] = rows[spec.name].plus(row) if spec.name in rows else row
    return list(rows.values())


def _sentences(rows: Sequence[OutputComparison]) -> list[str]:
    """One sentence for each output that failed, at the first level where it did."""
    failed: dict[str, str] = {}
    for row in rows:
        if not row.ok:
            where = f"(input {row.feed}, optimizations {row.level})"
            failed.setdefault(row.output, f"Output `{row.output}` {row.worst.problem} {where}.")
    return list(failed.values())


def _layer_sentence(layer: Layer) -> str:
    return (
        f"{layer.where}: `{layer.tensor}` is {layer.algebra.max_abs:.2e} off in float64, more than rounding can explain, "
        "although the outputs hardly show it on these inputs."
    )


def _inaccurate(rows: Sequence[OutputComparison], original: Source) -> list[Note]:
    """BNF036 for each output that the original itself gets wrong by more than its precision explains."""
    notes: dict[str, Note] = {}
    for row in rows:
        truth, usual = row.worst.truth, DEFAULTS[original.precision]
        if truth is None or truth.inaccuracy <= usual.rtol or truth.original.max_abs <= usual.atol:
            continue
        sentence = (
            f"The original's own output `{row.output}` is up to {truth.original.max_abs:.2e} off the float64 truth, on values "
            f"up to {truth.largest:.3g}; the candidate's is up to {truth.candidate.max_abs:.2e} off."
        )
        notes.setdefault(row.output, Note("BNF036", sentence, row.output))
    return list(notes.values())
