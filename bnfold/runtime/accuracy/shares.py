"""How shares and their differences are written."""

from __future__ import annotations


def percent(share: float) -> str:
    """A share in percent, with two digits at least that say something: "86.64 %", "0.038 %"."""
    return f"{100 * share:.2g} %" if 0 < share < 0.001 else f"{100 * share:.2f} %"


def points(share: float) -> str:
    """A difference of shares in percentage points: "0.038 pp", "−1.00 pp"."""
    if share < 0:
        return f"−{points(-share)}"
    return f"{percent(share).removesuffix(' %')} pp"
