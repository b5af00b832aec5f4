"""Intervals and tests for proportions, with the standard library alone.

All intervals are two-sided at `CONFIDENCE`; one end of such an interval is a one-sided bound at 97.5 %.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

CONFIDENCE = 0.95
"""Two-sided; the level that guidelines for non-inferiority ask for (ICH E9, section 2.2.5 and 3.3.2)."""

_BISECTIONS = 200  # more than enough to halve [0, 1] down to the last bit


def quantile(confidence: float = CONFIDENCE) -> float:
    """How many deviations a two-sided normal interval reaches: 1.96 for 95 %."""
    return NormalDist().inv_cdf(0.5 + confidence / 2)


def wilson(hits: int, total: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson's score interval for the proportion `hits / total`; (0, 1) for no trials.

    E. B. Wilson, J. Am. Stat. Assoc. 22 (1927) 209; method 3 of R. G. Newcombe, Stat. Med. 17 (1998) 857.
    """
    if total == 0:
        return 0.0, 1.0
    z2 = quantile(confidence) ** 2
    centre = hits + z2 / 2
    reach = math.sqrt(z2) * math.sqrt(hits * (total - hits) / total + z2 / 4)
    low = 0.0 if hits == 0 else (centre - reach) / (total + z2)
    high = 1.0 if hits == total else (centre + reach) / (total + z2)
    return low, high


def mcnemar(lost: int, gained: int) -> float:
    """The two-sided p-value of McNemar's exact conditional test of equal accuracy; 1 where nothing changed.

    Under equality, `lost` is binomial with probability 1/2 out of `lost + gained`: Q. McNemar, Psychometrika 12 (1947) 153,
    in its exact form.
    """
    total, few = lost + gained, min(lost, gained)
    # P(X ≤ few): its largest term, and the others by their ratios to it; all are positive, so nothing cancels.
    term = math.exp(math.lgamma(total + 1) - math.lgamma(few + 1) - math.lgamma(total - few + 1) - total * math.log(2))
    tail = 0.0
    for successes in range(few, -1, -1):
        tail += term
        term *= successes / (total - successes + 1)
        if term < tail * 1e-18:
            break
    return min(1.0, 2 * tail)


def tango(lost: int, gained: int, total: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Tango's score interval for the drop `(lost - gained) / total` between two paired proportions; (-1, 1) for no trials.

    T. Tango, Stat. Med. 17 (1998) 891. The limits are the differences that a score test does not reject; with no discordant
    pair the upper one is `z² / (total + z²)`, Wilson's bound for 0 of `total`. Newcombe's interval from two Wilson intervals
    (method 10 of Stat. Med. 17 (1998) 2635) is no use there: it shrinks to a point where both proportions are 1/2.
    """
    if total == 0:
        return -1.0, 1.0
    return -_upper(gained, lost, total, quantile(confidence)), _upper(lost, gained, total, quantile(confidence))


def _upper(lost: int, gained: int, total: int, z: float) -> float:
    """The largest drop that the score test does not reject."""

    def acceptable(drop: float) -> bool:
        # The probability of a gain that is likeliest for this drop: the positive root of a·q² + b·q + c.
        a, b, c = 2 * total, (2 * total - lost + gained) * drop - lost - gained, -gained * drop * (1 - drop)
        gain = (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
        variance = total * (2 * gain + drop * (1 - drop))
        return lost - gained - total * drop + z * math.sqrt(max(0.0, variance)) > 0

    return _bisect(acceptable, (lost - gained) / total, 1.0)


def _bisect(holds: Callable[[float], bool], low: float, high: float) -> float:
    """Where `holds` turns from true to false between `low` and `high`."""
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if holds(middle) else (low, middle)
    return high


def samples_for(margin: float, confidence: float = CONFIDENCE) -> int:
    """How many samples without a single flip it takes for Tango's bound to be below `margin`, in (0, 1)."""
    return math.floor(quantile(confidence) ** 2 * (1 - margin) / margin) + 1


def mean_bound(count: int, total: float, squares: float, confidence: float = CONFIDENCE) -> float:
    """Upper end of the normal interval for the mean of `count` values with this sum and sum of squares."""
    if count < 2:
        return math.inf
    mean = total / count
    variance = max(0.0, squares - count * mean * mean) / (count - 1)
    return mean + quantile(confidence) * math.sqrt(variance / count)
