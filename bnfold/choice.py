"""What the user wants folded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bnfold.verdict import Note


@dataclass(frozen=True)
class Choice:
    """What the user wants folded.

    Attributes:
        keep: glob patterns; normalizations whose node name or output matches stay (BNF021).
        only: glob patterns; when there are any, all others stay.
        no_batchnorm: write the BatchNormalizations that stay as primitives, for targets without that operator (BNF022).
    """

    keep: Sequence[str] = ()
    only: Sequence[str] = ()
    no_batchnorm: bool = False

    @property
    def is_everything(self) -> bool:
        """Whether nothing was said: whatever folds is to fold."""
        return not (self.keep or self.only or self.no_batchnorm)


def pattern_notes(choice: Choice, is_met: Callable[[str], bool]) -> Iterator[Note]:
    """Remarks on the patterns that no normalization of the model matches (BNF023)."""
    for option, patterns in (("--keep", choice.keep), ("--only", choice.only)):
        for pattern in patterns:
            if not is_met(pattern):
                yield Note("BNF023", f"{option} {pattern} names no normalization of this model", pattern)
