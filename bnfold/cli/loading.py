"""Loading what a command needs: onnx, numpy and what stands on them."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loading() -> Iterator[None]:
    """While the block imports modules, nothing looks for garbage, and what they made is left out of every later look.

    Modules are many small objects that all stay: going through them again and again took a tenth of the time of a small model.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
