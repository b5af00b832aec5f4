"""Running one model on inputs, and keeping what it says."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bnfold.errors import InputError
from bnfold.runtime.feeds import Feed, generated_feeds, given_feeds
from bnfold.runtime.placement import Placement
from bnfold.runtime.providers import CPU, Target
from bnfold.runtime.session import Level, RunFailed, Session, Value
from bnfold.runtime.source import Source, read_source

if TYPE_CHECKING:
    from bnfold.runtime.source import ModelLike


@dataclass(frozen=True)
class Answer:
    """What a model says to one input.

    Attributes:
        label: what the input is called.
        outputs: output name → value, in the order of the graph's outputs.
    """

    label: str
    outputs: Mapping[str, Value]


@dataclass(frozen=True)
class Run:
    """A model that is ready to answer.

    Attributes:
        placement: where it runs, and how.
        count: how many inputs there are.
        answers: one for each input, computed when it is asked for.
    """

    placement: Placement
    count: int
    answers: Iterator[Answer]


def run_model(
    model: ModelLike,
    *,
    inputs: str | os.PathLike[str] | Sequence[Mapping[str, Value]] | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    seed: int = 0,
    level: Level = "default",
    target: Target = CPU,
) -> Run:
    """Opens a model on an execution provider and runs it on inputs.

    Args:
        model: a path, or a model in memory of at most 2 GB.
        inputs: as for `bnfold.verify`; one generated input when None.
        input_shapes: input name → shape, for a generated input whose sizes cannot be guessed.
        seed: of the generated input.
        level: how much onnxruntime may optimize.
        target: where to run. Products of float32 are not rounded to TF32 unless its options ask for that.

    Raises:
        InputError: the model or the inputs cannot be read or do not fit each other, or the model stops on one of them.
        EnvironmentUnfit: the installed onnxruntime cannot run the model, or not on this provider.
    """
    source = read_source(model, "model")
    if inputs is not None:
        if input_shapes:
            raise InputError("give either the sizes of the inputs or the inputs themselves, not both.")
        feeds = given_feeds(source.inputs, inputs)
        session = Session(source, level, target)
        answers = (Answer(feed.label, _answer(source, session, feed)) for feed in feeds)
        return Run(session.placement, len(feeds), answers)
    guesses = generated_feeds(source.inputs, input_shapes or {}, seed)
    session = Session(source, level, target)
    feed, outputs = first_that_runs(source, session, guesses)
    return Run(session.placement, 1, iter([Answer(feed.label, outputs)]))


def first_that_runs(source: Source, session: Session, guesses: Iterator[tuple[Feed, ...]]) -> tuple[Feed, dict[str, Value]]:
    """The first input of the first guess at sizes that the model digests, and what the model says to it.

    Raises:
        RunFailed: it digests none; the first guess's reason.
    """
    reason: RunFailed | None = None
    for feeds in guesses:
        try:
            return feeds[0], _answer(source, session, feeds[0])
        except RunFailed as error:
            reason = reason or error
    raise RunFailed(f"{reason} Give its sizes with --input-shapes NAME:DIMS, or real inputs with --inputs FILE.npz.")


def _answer(source: Source, session: Session, feed: Feed) -> dict[str, Value]:
    return {spec.name: value for spec, value in zip(source.outputs, session.run(feed.values), strict=True)}
