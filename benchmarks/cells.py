"""Which cells of inference are measured, in which order, and when to stop."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

FIRST = ("resnet18", "mobilenet-v2")
LEVELS = ("default", "disabled")
RUNS = ((1, 1), (2, 1), (1, 8), (2, 8))
"""Threads and batch."""

IDEAL, CONTROL = "by hand", "original, again"
"""The contestants that are no tools."""


class Cell(NamedTuple):
    """One measurement: a network in one export, and how it is run."""

    network: str
    export: str
    level: str
    threads: int
    batch: int


def planned(networks: Iterable[str], exports: Iterable[str], runs: Iterable[Iterable[int]] = RUNS) -> list[Cell]:
    """Every combination, the most telling first: all of the networks in `FIRST`, then the others, `runs` by `runs`."""
    product = itertools.product(networks, exports, [tuple(each) for each in runs], LEVELS)
    cells = [Cell(network, export, level, *run) for network, export, run, level in product]
    return sorted(cells, key=lambda cell: (cell.network not in FIRST, cell.network not in FIRST and RUNS.index(cell[3:])))


def of(record: dict[str, Any]) -> Cell:
    """The cell that a recorded measurement is of."""
    return Cell(*(record[key] for key in Cell._fields))


def within(cells: Iterable[Cell], minutes: float | None, clock: Callable[[], float] = time.monotonic) -> Iterator[Cell]:
    """Cells until the time is up; one that has begun is finished. Without `minutes`, all."""
    started = clock()
    for cell in cells:
        if minutes is not None and clock() - started >= 60 * minutes:
            return
        yield cell
