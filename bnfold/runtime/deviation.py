"""How far values lie from others: the figures of one difference, and how they add up over inputs. Knows numpy only."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

ULP_EDGES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 64.0, 256.0, 1024.0)
"""Upper ends of the bins of an ulp histogram; one more bin holds what is beyond."""


@dataclass(frozen=True)
class Deviation:
    """One difference, over the places where both sides are finite.

    Attributes:
        max_abs: the largest magnitude.
        squares: sum of its squares.
        signal: sum of the squares of what it is measured against.
        elements: how many values.
    """

    max_abs: float = 0.0
    squares: float = 0.0
    signal: float = 0.0
    elements: int = 0

    @staticmethod
    def of(delta: NDArray[np.float64], signal: NDArray[np.float64]) -> Deviation:
        """The figures of `delta`, measured against `signal`; both of one shape and finite."""
        return Deviation(
            float(np.abs(delta).max(initial=0.0)),
            float(np.square(delta).sum()),
            float(np.square(signal).sum()),
            int(delta.size),
        )

    @property
    def rms(self) -> float:
        """Root of the mean square."""
        return math.sqrt(self.squares / self.elements) if self.elements else 0.0

    @property
    def sqnr_db(self) -> float:
        """Signal to quantization noise ratio, 10·log10(signal / squares); inf when there is no difference."""
        if self.squares == 0.0:
            return math.inf
        return 10 * math.log10(self.signal / self.squares) if self.signal else -math.inf

    def plus(self, other: Deviation) -> Deviation:
        """Both together."""
        return Deviation(
            max(self.max_abs, other.max_abs),
            self.squares + other.squares,
            self.signal + other.signal,
            self.elements + other.elements,
        )

    def to_dict(self) -> dict[str, float | None]:
        """JSON-ready: max, rms and sqnr_db; NaN and inf become None."""
        figures = {"max": self.max_abs, "rms": self.rms, "sqnr_db": self.sqnr_db}
        return {key: value if math.isfinite(value) else None for key, value in figures.items()}


def ulp_histogram(error: NDArray[np.float64], truth: NDArray[np.float64], dtype: np.dtype[Any]) -> tuple[int, ...]:
    """How many values are off by how many units in the last place: one count for each of `ULP_EDGES`, and one beyond.

    A unit is the spacing of `dtype` at the true value, as in W. Kahan's definition; below the smallest normal number it is
    that of the subnormal ones.

    Args:
        error: finite, of any shape.
        truth: what the values should be, of the same shape.
        dtype: float64, float32, float16 or bfloat16.
    """
    facts = ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]
    size = np.maximum(np.abs(truth), float(facts.smallest_normal))
    _, exponent = np.frexp(size)
    units = np.abs(error) / np.ldexp(float(facts.eps), exponent - 1)
    places = np.searchsorted(ULP_EDGES, units.ravel(), side="left")
    return tuple(np.bincount(places, minlength=len(ULP_EDGES) + 1).tolist())


def rows_of(values: NDArray[Any]) -> NDArray[Any] | None:
    """The rows that decide between classes, `[rows, classes]`; None where there are none.

    They run along the last axis of a rank 2 output, and along axis 1 of a rank 4 output (one decision for each pixel).
    """
    axis = {2: 1, 4: 1}.get(values.ndim)
    if axis is None or values.shape[axis] < 2 or not values.size:
        return None
    return np.moveaxis(values, axis, -1).reshape(-1, values.shape[axis])


def certified(rows: NDArray[np.float64], max_abs_diff: float) -> int:
    """In how many rows no change of up to `max_abs_diff` per value can move the largest one: top1 − top2 > 2·max|Δ|."""
    if not math.isfinite(max_abs_diff):
        return 0
    top = np.partition(rows, -2, axis=-1)[:, -2:]
    return int(np.count_nonzero(top[:, 1] - top[:, 0] > 2 * max_abs_diff))  # False where one is NaN
