"""Python's garbage collector, while many small objects are made that all stay."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_MANY = 20_000  # objects; to go through them takes about a millisecond


@contextmanager
def paused() -> Iterator[None]:
    """While the block runs, nothing looks for garbage; what it made counts as old afterwards.

    Modules and views are many small objects: going through them again and again took a tenth of the time that a small model
    takes, and a quarter of that of a large one.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        # Many go to the permanent generation, and from there to the oldest, without a look at any of them. Few do not, since with
        # them goes whatever garbage others made meanwhile, and the oldest generation is seldom looked at.
        if gc.get_count()[0] > _MANY and not gc.get_freeze_count():
            gc.freeze()
            gc.unfreeze()
        if was_enabled:
            gc.enable()
