"""Layout of a terminal page: a label in the left margin, text wrapped beside it.

Colour comes in as a function `(text, role) → text`, so nothing here knows terminals. Text is cleaned of control
characters before it is printed, because names come out of model files.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

Role: TypeAlias = Literal["good", "bad", "warn", "dim", "strong"]
Style: TypeAlias = Callable[[str, Role], str]

INDENT = 2
LABEL = 9
TIED = "\N{NO-BREAK SPACE}"
"""A space at which no line ends."""

_NARROWEST = 24
_SEPARATOR = " · "
_TIED_PART = 40


def plain(text: str, role: Role) -> str:
    """The style without colours."""
    del role
    return text


def clean(text: str) -> str:
    """`text` with everything that is not printable, such as an escape sequence in a node's name, replaced."""
    return "".join(letter if letter.isprintable() or letter == TIED else "\N{REPLACEMENT CHARACTER}" for letter in text)


@dataclass(frozen=True)
class Page:
    """How a page is coloured and how wide it is.

    Attributes:
        style: colours a piece of text by its role.
        width: columns.
    """

    style: Style = plain
    width: int = 100

    def entry(self, label: str, text: str, role: Role | None = None, column: int = 0) -> list[str]:
        """The lines of `text` beside `label`, which `role` colours; later lines start `column` further right."""
        margin = " " * (INDENT + LABEL)
        head = f"{label:{LABEL}}" if len(label) < LABEL else f"{label} "
        first, *rest = self.wrap(text, margin, " " * (len(margin) + column))
        return [" " * INDENT + (self.style(head, role) if role and label else head) + first[len(margin) :], *rest]

    def wrap(self, text: str, first: str, later: str) -> list[str]:
        """The lines of `text`, at least one, after the indents `first` and `later`. Names are never broken.

        Parts between ` · ` stay together; a dot at which a line ends is left out.
        """
        parts = clean(text).split(_SEPARATOR)
        tied = [part.replace(" ", TIED) if len(part) <= _TIED_PART else part for part in parts]
        wrapped = textwrap.wrap(
            f"{TIED}· ".join(tied) if len(parts) > 1 else parts[0],
            max(self.width, len(later) + _NARROWEST),
            initial_indent=first,
            subsequent_indent=later,
            break_long_words=False,
            break_on_hyphens=False,
            replace_whitespace=False,
        )
        lines = [line.removesuffix(f"{TIED}·") if len(parts) > 1 else line for line in wrapped]
        return [line.replace(TIED, " ") for line in lines] or [first]
