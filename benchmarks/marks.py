"""The blocks of pages that a script writes: what stands between `<!-- NAME:begin -->` and `<!-- NAME:end -->`."""

from __future__ import annotations

from pathlib import Path


def replaced(text: str, name: str, block: str) -> str:
    """`text` with another block between its marks.

    Raises:
        ValueError: the marks are not there, once each.
    """
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"the marks {begin} and {end} must be there once each")
    return f"{text.partition(begin)[0]}{begin}\n{block.strip()}\n{end}{text.partition(end)[2]}"


def fill(page: Path, name: str, block: str) -> None:
    """Writes a block into a page."""
    page.write_text(replaced(page.read_text("utf-8"), name, block), "utf-8")
