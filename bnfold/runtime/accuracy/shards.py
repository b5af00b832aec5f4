"""The work, in shards of a fixed number of samples, by one process or several.

Shards, batches and the number of threads in a session do not depend on the number of processes, and tallies are added in the
order of the shards: so the result is the same for any number of processes, bit for bit.
"""

from __future__ import annotations

import functools
import multiprocessing
import signal
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

from bnfold.data import Batch, Data, open_data
from bnfold.data.function import load_function
from bnfold.errors import EnvironmentUnfit, InputError
from bnfold.runtime.accuracy import binding
from bnfold.runtime.accuracy.measure import Metric, Outputs, Ruler
from bnfold.runtime.accuracy.tally import Tally
from bnfold.runtime.placement import Placement
from bnfold.runtime.providers import Target
from bnfold.runtime.session import Level, RunFailed, Session
from bnfold.runtime.source import Source

SHARD = 64
"""Samples in one shard, at least; a shard is a whole number of batches."""

LEVEL: Level = "default"
"""onnxruntime's optimizations as users get them: what counts here is what they will see."""

_WAITING = 2  # shards in flight for each process

Piece: TypeAlias = tuple[int, int] | list[Batch]
"""A shard: from where to where, or its batches themselves where one process reads for all."""


@dataclass(frozen=True)
class Task:
    """Everything that a process needs to know; it travels to other processes.

    Attributes:
        reference: the first model.
        candidate: the second; None for one alone.
        data: the data set's name, which is the specification to open it with.
        preprocess: as stated; "" where nothing was.
        target: where both models run.
        output: the output that holds the classes.
        metric: `file.py:function`, or a function; "" for top-1 alone.
        margin: see `Ruler`.
        batch: samples in one run of a model.
        fixed: whether the models take exactly `batch` samples.
    """

    reference: Source
    candidate: Source | None
    data: str
    preprocess: str
    target: Target
    output: str
    metric: str | Metric
    margin: float
    batch: int
    fixed: bool

    @property
    def shard(self) -> int:
        """Samples in one shard."""
        return self.batch * max(1, SHARD // self.batch)


class Worker:
    """The two sessions of one process.

    Raises:
        CannotRun, ProviderUnfit, ModelRejected: onnxruntime does not take a model.
        InputError: the metric cannot be loaded.
    """

    def __init__(self, task: Task, data: Data | None = None) -> None:
        self._task = task
        self._data = data
        self._ruler = Ruler(task.output, *_metric(task.metric), task.margin)
        self._reference = Session(task.reference, LEVEL, task.target, threads=1)
        self._candidate = None if task.candidate is None else Session(task.candidate, LEVEL, task.target, threads=1)

    @property
    def placement(self) -> Placement:
        """Where the reference runs."""
        return self._reference.placement

    def tally(self, piece: Piece) -> Tally:
        """Runs both models on one shard.

        Raises:
            InputError: the data do not fit the models, or a model stops on them.
        """
        total = Tally()
        for batch in self._batches(piece):
            total += self._judged(batch)
        return total

    def _batches(self, piece: Piece) -> Iterable[Batch]:
        if isinstance(piece, list):
            return piece
        self._data = self._data or open_data(self._task.data, self._task.preprocess or None)
        return self._data.batches(self._task.batch, *piece)

    def _judged(self, batch: Batch) -> Tally:
        task, samples = self._task, len(batch)
        if batch.labels is None:
            raise InputError(f"{task.data} holds no labels, and accuracy needs them.")
        fed = binding.feed(task.reference, batch, task.data, task.preprocess)
        values = binding.padded(fed, samples, task.batch if task.fixed else None)
        try:
            ours = _named(task.reference, self._reference.run(values), samples)
            theirs = None
            if self._candidate is not None and task.candidate is not None:
                theirs = _named(task.candidate, self._candidate.run(values), samples)
        except RunFailed as error:
            hint = "" if task.fixed or task.batch == 1 else " If it takes one sample at a time: --batch 1."
            raise InputError(f"{error}{hint}") from error
        return self._ruler.tally(ours, theirs, batch.labels, batch.start)


def tallies(worker: Worker, task: Task, data: Data, start: int, stop: int | None, jobs: int) -> Iterator[Tally]:
    """One tally for each shard from the sample `start` on, in their order.

    Args:
        worker: runs the shards where there is one process.
        task: what to run.
        data: what to run on.
        start: the first sample, a multiple of `task.shard`.
        stop: where to end; None for the end of the data.
        jobs: how many processes.

    Raises:
        InputError: as for `Worker.tally`.
        EnvironmentUnfit: a process died.
    """
    pieces = _pieces(task, data, start, stop)
    if jobs == 1:
        yield from map(worker.tally, pieces)
        return
    context = multiprocessing.get_context("spawn")  # a fork would inherit onnxruntime's locks
    pool = ProcessPoolExecutor(jobs, context, initializer=_begin, initargs=(task,))
    try:
        yield from _parallel(pool, pieces, _WAITING * jobs)
    except BrokenProcessPool:
        raise EnvironmentUnfit(
            "a worker process died: out of memory, perhaps. Take fewer --jobs or a smaller --batch. From a Python script, more "
            'than one job needs the script\'s own code under `if __name__ == "__main__":`.'
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _pieces(task: Task, data: Data, start: int, stop: int | None) -> Iterator[Piece]:
    if data.sequential or data.count is None:
        batches = data.batches(task.batch, start, stop)
        while piece := list(islice(batches, task.shard // task.batch)):
            yield piece
        return
    end = data.count if stop is None else min(stop, data.count)
    for first in range(start, end, task.shard):
        yield first, min(first + task.shard, end)


def _parallel(pool: ProcessPoolExecutor, pieces: Iterable[Piece], waiting: int) -> Iterator[Tally]:
    running: deque[Future[Tally]] = deque()
    for piece in pieces:
        running.append(pool.submit(_shard, piece))
        if len(running) == waiting:
            yield running.popleft().result()
    while running:
        yield running.popleft().result()


def _named(source: Source, values: list[object], samples: int) -> Outputs:
    """The outputs by name, without what came of filling up the batch."""
    arrays = {spec.name: value for spec, value in zip(source.outputs, values, strict=True)}
    named: Outputs = {name: value[:samples] for name, value in arrays.items() if getattr(value, "ndim", 0)}  # type: ignore[index]
    return named


def _metric(stated: str | Metric) -> tuple[Metric | None, str]:
    """The function and its name."""
    if not isinstance(stated, str):
        return stated, getattr(stated, "__name__", "function")
    return (load_function(stated, "the metric"), stated) if stated else (None, "")


# -- in a worker process --------------------------------------------------------------------------------------------------

_tasks: list[Task] = []


def _begin(task: Task) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the first process, which ends the others
    _tasks.append(task)


@functools.cache
def _worker() -> Worker:
    return Worker(_tasks[0])


def _shard(piece: Piece) -> Tally:
    return _worker().tally(piece)
