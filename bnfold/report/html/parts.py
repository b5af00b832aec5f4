"""What a page is made of: values only, which the template lays out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Tone: TypeAlias = Literal["good", "bad", "warn", "plain"]
Kind: TypeAlias = Literal["text", "number", "code", "chip"]


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Attributes:
        text: what it shows.
        order: what it is sorted by; None for its text.
        kind: how it is set; a chip is a word with a colour.
        tone: of a chip.
    """

    text: str
    order: float | None = None
    kind: Kind = "text"
    tone: Tone = "plain"


@dataclass(frozen=True)
class Column:
    """One column: its title, and whether a narrow screen leaves it out."""

    title: str
    minor: bool = False


@dataclass(frozen=True)
class TableRow:
    """One row, with a packed piece of HTML that opens below it; "" where there is none."""

    cells: tuple[Cell, ...]
    inside: str = ""
    opened: bool = False


@dataclass(frozen=True)
class Table:
    """A table that sorts and filters."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[TableRow, ...]
    noun: str = "row"

    @property
    def opens(self) -> bool:
        """Whether rows open."""
        return any(row.inside for row in self.rows)


@dataclass(frozen=True)
class Chart:
    """One picture, drawn for wide and for narrow screens.

    Attributes:
        title: what it shows.
        words: the same for who does not see it.
        wide: SVG.
        narrow: SVG; "" where the other one fits, too.
    """

    title: str
    words: str
    wide: str
    narrow: str = ""


@dataclass(frozen=True)
class Facts:
    """Names with values."""

    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Lines:
    """Sentences, as a list."""

    lines: tuple[str, ...]
    tone: Tone = "plain"


@dataclass(frozen=True)
class Group:
    """Several things with the same code: how many, what it means, what helps, and which ones."""

    code: str
    count: int
    headline: str
    remedy: str
    names: tuple[str, ...]
    tone: Tone = "plain"


@dataclass(frozen=True)
class Groups:
    """Groups, as a list."""

    groups: tuple[Group, ...]


@dataclass(frozen=True)
class Command:
    """A command line to copy."""

    text: str


Block: TypeAlias = Table | Chart | Facts | Lines | Groups | Command


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading of its own."""

    anchor: str
    heading: str
    blocks: tuple[Block, ...]
    lead: str = ""


@dataclass(frozen=True)
class Tile:
    """One figure that the page begins with."""

    label: str
    value: str
    detail: str = ""
    tone: Tone = "plain"


@dataclass(frozen=True)
class Page:
    """A whole report.

    Attributes:
        command: the command's name, as "optimize".
        subject: what it was about: a path.
        outcome: the answer in a few words.
        tone: of the answer.
        about: one line below it.
        tiles: the figures that matter.
        sections: the rest.
    """

    command: str
    subject: str
    outcome: str
    tone: Tone
    about: str
    tiles: Sequence[Tile] = ()
    sections: Sequence[Section] = field(default_factory=tuple)

    @property
    def has_graphs(self) -> bool:
        """Whether a graph is drawn anywhere."""
        return any(isinstance(block, Table) and block.opens for section in self.sections for block in section.blocks)


def figure(value: float | None, template: str = "{:,g}") -> Cell:
    """A cell with a number that sorts by its value; an empty one for None."""
    return Cell("" if value is None else template.format(value), value, "number")


def chip(text: str, tone: Tone) -> Cell:
    """A cell with one coloured word."""
    return Cell(text, kind="chip", tone=tone)


def code(name: str) -> Cell:
    """A cell with a name from a model, or a path."""
    return Cell(name.replace("`", ""), kind="code")


def words(text: str) -> Cell:
    """A cell with a sentence."""
    return Cell(text.replace("`", ""))


def text_rows(rows: Sequence[Sequence[str]], kinds: Sequence[Kind] = ()) -> tuple[TableRow, ...]:
    """Rows of texts, each column of one kind, "text" where `kinds` ends; a number is sorted by what its text begins with."""
    wanted = dict(enumerate(kinds))
    return tuple(TableRow(tuple(_cell(text, wanted.get(place, "text")) for place, text in enumerate(row))) for row in rows)


def _cell(text: str, kind: Kind) -> Cell:
    return Cell(text, _number(text) if kind == "number" else None, kind)


def _number(text: str) -> float | None:
    try:
        return float(text.replace(",", "").split()[0])
    except (ValueError, IndexError):
        return None
