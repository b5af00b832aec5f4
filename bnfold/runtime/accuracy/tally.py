"""What is counted, and never more: two tallies add up to the tally of both, so memory does not grow with the data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

FLIPS_KEPT = 20


@dataclass(frozen=True)
class Flip:
    """One sample on which the two models decide differently.

    Attributes:
        sample: its position in the data set.
        label: the right class.
        reference: the reference's class; -1 where its outputs hold NaN.
        candidate: the candidate's.
        margin: how far the reference's largest output is above its output for the candidate's class, in units of the output.
    """

    sample: int
    label: int
    reference: int
    candidate: int
    margin: float


@dataclass(frozen=True)
class Counts:
    """One model on the samples so far.

    Attributes:
        top1: right answers.
        top5: samples whose label is among the five largest outputs.
        label_above: answers that are the label + 1; many of them mean that the labels start one too low.
        label_below: answers that are the label - 1.
        non_finite: samples whose outputs hold NaN.
        score: sum of the metric function's values.
    """

    top1: int = 0
    top5: int = 0
    label_above: int = 0
    label_below: int = 0
    non_finite: int = 0
    score: float = 0.0

    def __add__(self, other: Counts) -> Counts:
        return Counts(**{name: value + getattr(other, name) for name, value in asdict(self).items()})


@dataclass(frozen=True)
class Tally:
    """Two models, or the reference alone, on the samples so far.

    Attributes:
        samples: how many.
        classified: whether classes were compared: outputs `[N, K]` and integer labels.
        classes: K, the extent of the output.
        reference: counts of the reference.
        candidate: counts of the candidate.
        lost: the reference is right and the candidate is wrong.
        gained: the other way round.
        wrong_to_wrong: both are wrong, and differ.
        ties: flips, counted above too, of decisions that were no clearer than the margin.
        changed: samples whose metric differs.
        score_lost: samples whose metric is lower with the candidate.
        score_gained: samples whose metric is higher.
        drops: sum over the samples of the reference's metric less the candidate's.
        squares: sum of their squares.
        lowest: the smallest value of the metric, over both models.
        highest: the largest.
        zero_one: whether all values of the metric were 0 or 1.
        flips: the first ones.
    """

    samples: int = 0
    classified: bool = True
    classes: int = 0
    reference: Counts = field(default_factory=Counts)
    candidate: Counts = field(default_factory=Counts)
    lost: int = 0
    gained: int = 0
    wrong_to_wrong: int = 0
    ties: int = 0
    changed: int = 0
    score_lost: int = 0
    score_gained: int = 0
    drops: float = 0.0
    squares: float = 0.0
    lowest: float = math.inf
    highest: float = -math.inf
    zero_one: bool = True
    flips: tuple[Flip, ...] = ()

    def __add__(self, other: Tally) -> Tally:
        mine, theirs = vars(self), vars(other)
        special: dict[str, Any] = {
            "classified": self.classified and other.classified,
            "zero_one": self.zero_one and other.zero_one,
            "classes": max(self.classes, other.classes),
            "lowest": min(self.lowest, other.lowest),
            "highest": max(self.highest, other.highest),
            "flips": (self.flips + other.flips)[:FLIPS_KEPT],
        }
        return Tally(**{name: special.get(name, mine[name] + theirs[name]) for name in mine})

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; `from_dict` reads it back, bit for bit."""
        return {**asdict(self), "lowest": repr(self.lowest), "highest": repr(self.highest)}

    @staticmethod
    def from_dict(stored: Mapping[str, Any]) -> Tally:
        """The tally that `to_dict` wrote.

        Raises:
            KeyError, TypeError, ValueError: it is none.
        """
        special = {
            "reference": Counts(**stored["reference"]),
            "candidate": Counts(**stored["candidate"]),
            "lowest": float(stored["lowest"]),
            "highest": float(stored["highest"]),
            "flips": tuple(Flip(**flip) for flip in stored["flips"]),
        }
        return Tally(**{**stored, **special})
