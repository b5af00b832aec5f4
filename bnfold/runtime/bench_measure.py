"""Timing sessions against each other, in turns short enough that whatever else the machine does meets all of them alike."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

Clock: TypeAlias = Callable[[], float]
Runner: TypeAlias = Callable[[], object]

TURN_S = 0.1
"""How long one session runs before the next has its turn. A turn's first run is thrown away: it meets cold caches."""

PAUSE_S = 0.05
"""How long nobody runs between two turns. onnxruntime's threads go on spinning after a run, for 30 ms where that was
measured, and would take the processor from the session whose turn it is."""

_SLOW_S = 0.1  # of a run this long, cold caches do not show
_WARM_UP = 3
_WARM_UP_S = 0.1


@dataclass(frozen=True)
class Samples:
    """The runs of one session in one block.

    Attributes:
        median_s: of the runs, in seconds.
        runs: how many there were.
    """

    median_s: float
    runs: int


def time_block(runners: Sequence[Runner], seconds: float, clock: Clock, pause: Callable[[], object]) -> list[Samples]:
    """Runs each of `runners` in turns, whose order rotates, and gives their samples, in the order of `runners`.

    Args:
        runners: each runs one session once.
        seconds: to spend on all of them together, warm-up aside; each has one turn at least.
        clock: seconds that only go up.
        pause: waits until the threads of the session before have gone to sleep.
    """
    for run in runners:
        _warm_up(run, clock)
    samples: list[list[float]] = [[] for _ in runners]
    with _undisturbed():
        started, turn = clock(), 0
        while True:
            for step in range(len(runners)):
                position = (turn + step) % len(runners)
                pause()
                samples[position] += _turn(runners[position], clock)
            turn += 1
            if clock() - started >= seconds:
                break
    return [Samples(statistics.median(each), len(each)) for each in samples]


def _turn(run: Runner, clock: Clock) -> Iterator[float]:
    started = clock()
    run()
    if (first := clock() - started) >= _SLOW_S:
        yield first
        return
    while True:
        before = clock()
        run()
        after = clock()
        yield after - before
        if after - started >= TURN_S:
            return


def _warm_up(run: Runner, clock: Clock) -> None:
    started = clock()
    for _ in range(_WARM_UP):
        run()
        if clock() - started > _WARM_UP_S:
            return


@contextmanager
def _undisturbed() -> Iterator[None]:
    """No garbage collection while the block runs."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
