"""How the pictures of this repository are drawn: SVG on a light ground, with text as text; the same bytes each time."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def style() -> Iterator[None]:
    """What figures are made and saved in."""
    import matplotlib as mpl

    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "bnfold", "font.size": 9}):
        yield


def save(figure: Any, path: Path, description: str | None = None) -> None:
    """Writes a figure of matplotlib, without the date, and with a description inside."""
    figure.savefig(path, metadata={"Date": None, "Creator": None, "Description": description})
