"""Work on many blocks of files at once, on the cores that this process may use. Neither numpy nor the kernel holds the GIL."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import islice
from typing import TypeVar

import numpy as np

from bnfold.positions import MANY_AT_ONCE

T = TypeVar("T")

_KEPT_BYTES = 1 << 24
_LEFT_AT_MOST = 8  # blocks
_MOST_THREADS = 4  # beyond it the memory's bandwidth is the limit, and every thread holds blocks of its own


def for_each(work: Callable[[T], None], items: Iterable[T]) -> None:
    """Calls `work` on every item, in any order. The first exception, an interrupt among them, stops it all and is raised."""
    _keep_memory()
    waiting, lock = iter(items), threading.Lock()
    failures: list[BaseException] = []

    def taken() -> Iterator[T]:
        while not failures:
            with lock:
                found = list(islice(waiting, 1))
            if not found:
                return
            yield found[0]

    def run() -> None:
        try:
            for item in taken():
                work(item)
        except BaseException as error:
            failures.append(error)

    helpers = [threading.Thread(target=run, daemon=True) for _ in range(_threads() - 1)]
    for helper in helpers:
        helper.start()
    run()
    for helper in helpers:
        helper.join()
    if failures:
        raise failures[0]


class InTurn:
    """Work that one thread at a time can do, as writing to a file, without a thread that waits for it.

    Whoever comes while another is at it leaves the work to that one and goes on; only when much has been left does it wait.
    """

    def __init__(self) -> None:
        self._left: deque[Callable[[], None]] = deque()
        self._busy = threading.Lock()

    def do(self, work: Callable[[], None]) -> None:
        """Does `work`, now or soon."""
        self._left.append(work)
        while self._left and self._busy.acquire(blocking=len(self._left) > _LEFT_AT_MOST):
            try:
                self._empty()
            finally:
                self._busy.release()

    def finish(self) -> None:
        """Does what is left."""
        with self._busy:
            self._empty()

    def _empty(self) -> None:
        while self._left:
            self._left.popleft()()


@cache
def _keep_memory() -> None:
    """Lets the blocks that come and go reuse their memory.

    Having seen a large allocation come and go, glibc's malloc neither maps those below it anew each time nor hands their memory
    back in between (mallopt(3), M_MMAP_THRESHOLD). Nothing is touched here, so this one takes no memory itself.
    """
    np.empty(_KEPT_BYTES, np.uint8)


def _threads() -> int:
    if not MANY_AT_ONCE:
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _MOST_THREADS)
