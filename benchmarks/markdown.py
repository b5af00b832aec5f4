"""What the sections of the page of results are made of: tables, targets and footnotes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from bnfold.report.markdown import code

BNFOLD = "bnfold"
_SHORT = 16


@dataclass(frozen=True)
class Target:
    """A goal, and what came of it.

    Attributes:
        work: what is measured.
        allowed: the goal.
        measured: the figure.
        met: whether it is reached; None where that cannot be told.
    """

    work: str
    allowed: str
    measured: str
    met: bool | None

    @property
    def cells(self) -> tuple[str, str, str, str]:
        """Its row in a table."""
        return self.work, self.allowed, self.measured, {True: "yes", False: "**no**", None: "?"}[self.met]


def grid(titles: list[str], words: int = 1) -> Iterator[str]:
    """The head of a table: columns of words to the left, those of figures behind them to the right."""
    yield row(titles)
    yield row(["---" if place < words else "--:" for place in range(len(titles))])


def row(cells: Iterable[str]) -> str:
    """One line of a table."""
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def bold(tool: str) -> str:
    """The name of a tool at the head of a row or column."""
    return f"**{tool}**" if tool == BNFOLD else tool


def failed(why: str, notes: list[str]) -> str:
    """A failure in a cell: in full where it is short, else with the number of its footnote, which is added to `notes`."""
    if len(why) <= _SHORT:
        return why
    if why not in notes:
        notes.append(why)
    return f"failed <sup>{notes.index(why) + 1}</sup>"


def footnotes(notes: list[str]) -> Iterator[str]:
    """What `failed` has collected."""
    if notes:
        yield ""
    for number, why in enumerate(notes, 1):
        yield f"{number}. {code(why)}"
