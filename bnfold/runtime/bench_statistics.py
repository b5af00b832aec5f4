"""When a difference in speed may be claimed: order statistics over blocks, against a control of the same model twice.

Runs within one session are not independent (one allocation is lucky, one is not), so many runs of one session prove
little. The unit is the *block*: fresh sessions of the original, of the original once more (the control) and of the
candidate, run in turn. Each block gives one ratio candidate/original and one ratio control/original, of medians. The
interval is distribution-free: of n independent values of one distribution, the median lies between the k-th smallest and the
k-th largest with a probability that the binomial distribution gives (David and Nagaraja, Order Statistics, 3rd ed.,
section 7.1). A difference is claimed when the whole interval lies on one side of 1 *and* the median ratio lies further
from 1 than the interval of the control reaches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from bnfold.errors import InputError

Claim: TypeAlias = Literal["faster", "slower", "none"]

CONFIDENCE = 0.95
FEWEST_BLOCKS = 6
"""Below this no interval of order statistics reaches `CONFIDENCE`: 1 − 2·0.5⁶ = 0.969, 1 − 2·0.5⁵ = 0.9375."""


@dataclass(frozen=True)
class Interval:
    """A median with its interval.

    Attributes:
        median: of the values.
        low: lower end; the smallest value where there are too few for the confidence asked.
        high: upper end, likewise.
        confidence: the probability that the interval covers the true median, at least.
    """

    median: float
    low: float
    high: float
    confidence: float

    def to_dict(self) -> dict[str, float]:
        """JSON-ready."""
        return asdict(self)


@dataclass(frozen=True)
class Difference:
    """How much faster or slower a candidate is, as far as that can be told.

    Attributes:
        change: relative change of the latency with its interval: −0.1 is a tenth less time.
        noise: how far from 0 the interval of the same change reaches for the same model against itself, ≥ 0.
        claim: what may be said.
    """

    change: Interval
    noise: float
    claim: Claim

    @property
    def sentence(self) -> str:
        """What may be said, in words."""
        if self.claim != "none":
            low, high = sorted((abs(self.change.low), abs(self.change.high)))
            times = f"{100 * abs(self.change.median):.1f} % {self.claim} ({100 * low:.1f} to {100 * high:.1f} %)"
            return f"{times}, above the noise of {100 * self.noise:.1f} %"
        spread = f"{100 * self.change.low:+.1f} to {100 * self.change.high:+.1f} %"
        if self.change.confidence < CONFIDENCE:
            return f"nothing is claimed from fewer than {FEWEST_BLOCKS} blocks ({spread})"
        if abs(self.change.median) <= self.noise:
            return f"no difference above the noise of {100 * self.noise:.1f} %"
        return f"no difference that the blocks agree on ({spread}; noise {100 * self.noise:.1f} %)"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"change": self.change.to_dict(), "noise": self.noise, "claim": self.claim, "sentence": self.sentence}


def median_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """The narrowest symmetric interval of order statistics that covers the median with `confidence`.

    Args:
        values: at least one, finite.
        confidence: wanted; where there are too few values, the interval is the whole range and says what it reaches.

    Raises:
        InputError: there is no value, or one is not finite.
    """
    ordered = np.sort(np.asarray(values, np.float64))
    if not ordered.size or not np.isfinite(ordered).all():
        raise InputError("an interval needs at least one value, and finite ones.")
    n = int(ordered.size)
    k, reached = 0, _coverage(n, 0)
    while k + 1 <= (n - 1) // 2 and _coverage(n, k + 1) >= confidence:
        k, reached = k + 1, _coverage(n, k + 1)
    return Interval(float(np.median(ordered)), float(ordered[k]), float(ordered[n - 1 - k]), reached)


def compare(original: Sequence[float], control: Sequence[float], candidate: Sequence[float]) -> Difference:
    """Compares latencies block by block.

    Args:
        original: one latency for each block, in seconds, > 0.
        control: the same model in another session, in the same blocks.
        candidate: the other model, in the same blocks.

    Raises:
        InputError: the three differ in length, or a latency is not positive and finite.
    """
    if not len(original) == len(control) == len(candidate):
        raise InputError("the original, the control and the candidate need the same number of blocks.")
    a, c, b = (np.asarray(each, np.float64) for each in (original, control, candidate))
    if not all((each > 0).all() and np.isfinite(each).all() for each in (a, c, b)):
        raise InputError("a latency is not a positive number.")
    change = median_interval(list(b / a - 1))
    control_change = median_interval(list(c / a - 1))
    noise = max(abs(control_change.low), abs(control_change.high))
    one_sided = change.confidence >= CONFIDENCE and (change.high < 0 or change.low > 0)
    if not one_sided or abs(change.median) <= noise:
        return Difference(change, noise, "none")
    return Difference(change, noise, "faster" if change.median < 0 else "slower")


def _coverage(n: int, k: int) -> float:
    """P(the true median lies between the order statistics k and n − 1 − k), counted from 0, of n values."""
    tail = sum(math.comb(n, i) for i in range(k + 1)) / 2**n
    return max(0.0, float(1 - 2 * tail))
