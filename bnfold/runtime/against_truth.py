"""One output of two models against its true value, computed in float64. Knows numpy only.

Three numbers decide. The original's own error is what rounding does to the model as it was. The candidate's error has to be of
that size. And both models *in float64* differ by nothing but the weights that were rounded when they were stored: that
difference has to be of the size that such a rounding has. It is the sharpest of the three, since no arithmetic of the runtime
is in it, and where the original's error is large it stays small.

How large the rounding of stored weights may be is measured and not guessed: a third evaluation moves every weight that the
candidate does not share with the original by one unit in the last place, up or down; half of what that changes is the *rounding*
here. So the criterion needs no table of precisions or of depths: a float16 network gets the room that float16 takes.

    candidate's error    ≤  ERROR_FACTOR   · (max(original's error, rounding) + unit)
    float64 difference   ≤  ALGEBRA_FACTOR · (rounding + unit)

All are largest magnitudes over one output; `unit` is the unit roundoff of the coarsest precision in the model times the largest
true value. The factors are several times what honest folds were seen to need: docs/verification.md has the table, and
`benchmarks/fold_errors.py` makes it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from bnfold.runtime.deviation import ULP_EDGES, Deviation, ulp_histogram
from bnfold.runtime.tolerance import DEFAULTS, UNIT_ROUNDOFF, Precision

ERROR_FACTOR = 8.0
"""How many times the original's error, or the rounding of the stored weights, the candidate's error may be."""

ALGEBRA_FACTOR = 8.0
"""How many times the rounding of the stored weights the two models may differ by in float64."""


@dataclass(frozen=True)
class TrueValues:
    """One output in float64.

    Attributes:
        original: by the original; any shape.
        candidate: by the candidate; the same shape.
        rounding: what half a unit in the last place of the candidate's new weights changes; the same shape, not negative.
    """

    original: NDArray[np.float64]
    candidate: NDArray[np.float64]
    rounding: NDArray[np.float64]


@dataclass(frozen=True)
class AgainstTruth:
    """What was measured against float64 on one output, over one input or more.

    Attributes:
        original: the original's error, in onnxruntime.
        candidate: the candidate's.
        algebra: the difference of both models in float64.
        largest: the largest true magnitude.
        rounding: what rounding the candidate's new weights to their type explains of `algebra`, max.
        error_allowed: what the candidate's largest error may be, on the input that comes closest to it.
        algebra_allowed: likewise for `algebra`.
        error_share: the candidate's largest error in parts of what is allowed, on the input where that is largest.
        algebra_share: likewise for `algebra`.
        ulps: the candidate's errors in units in the last place, counted by `ULP_EDGES`; empty for integers.
        inputs: how many inputs this is about.
        closer: on how many of them the candidate was at least as close to the truth as the original.
        furthest: the candidate's error in parts of the original's, on the input where that is largest.
        inaccuracy: the original's error in parts of the largest true value, on the input where that is largest.
    """

    original: Deviation
    candidate: Deviation
    algebra: Deviation
    largest: float
    rounding: float
    error_allowed: float
    algebra_allowed: float
    error_share: float
    algebra_share: float
    ulps: tuple[int, ...]
    inputs: int = 1
    closer: int = 0
    furthest: float = 0.0
    inaccuracy: float = 0.0

    @property
    def severity(self) -> float:
        """The larger of both shares: above 1, one has failed."""
        return max(self.error_share, self.algebra_share)

    def plus(self, other: AgainstTruth) -> AgainstTruth:
        """Both together; what is allowed is taken from the worse."""
        worse = max(self, other, key=lambda one: one.severity)
        return replace(
            worse,
            original=self.original.plus(other.original),
            candidate=self.candidate.plus(other.candidate),
            algebra=self.algebra.plus(other.algebra),
            largest=max(self.largest, other.largest),
            rounding=max(self.rounding, other.rounding),
            error_share=max(self.error_share, other.error_share),
            algebra_share=max(self.algebra_share, other.algebra_share),
            ulps=tuple(a + b for a, b in zip(self.ulps, other.ulps, strict=True)) if self.ulps and other.ulps else (),
            inputs=self.inputs + other.inputs,
            closer=self.closer + other.closer,
            furthest=max(self.furthest, other.furthest),
            inaccuracy=max(self.inaccuracy, other.inaccuracy),
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; NaN and inf become None."""
        figures = {
            "largest": self.largest,
            "rounding": self.rounding,
            "error_allowed": self.error_allowed,
            "algebra_allowed": self.algebra_allowed,
            "error_share": self.error_share,
            "algebra_share": self.algebra_share,
            "furthest": self.furthest,
            "inaccuracy": self.inaccuracy,
        }
        return {
            "original": self.original.to_dict(),
            "candidate": self.candidate.to_dict(),
            "algebra": self.algebra.to_dict(),
            **{key: value if math.isfinite(value) else None for key, value in figures.items()},
            "ulp_edges": list(ULP_EDGES),
            "ulps": list(self.ulps),
            "inputs": self.inputs,
            "closer": self.closer,
        }


def against_truth(
    original: NDArray[Any], candidate: NDArray[Any], truth: TrueValues, precision: Precision, arithmetic: Precision | None = None
) -> tuple[AgainstTruth, str]:
    """Compares what onnxruntime gave with the truth.

    Args:
        original: the original's output, of a numeric type.
        candidate: the candidate's, of the same type and shape.
        truth: the same output in float64.
        precision: the coarsest precision in the model.
        arithmetic: what the runtime computes in, where that is coarser, such as TF32 for a float32 model.

    Returns:
        The figures, and why the candidate is not equivalent, as the rest of a sentence about the output; "" where it is.
    """
    a, b = original.astype(np.float64), candidate.astype(np.float64)
    with np.errstate(all="ignore"):
        places = _places(a, b, truth.original)
        finite = np.isfinite(truth.original) & np.isfinite(truth.candidate)
        both = finite & np.isfinite(b)
        true = truth.original[both]
        e_original = _deviation(a, truth.original, finite & np.isfinite(a))
        e_candidate = _deviation(b, truth.original, both)
        algebra = _deviation(truth.candidate, truth.original, finite)
        rounding = float(truth.rounding[finite & np.isfinite(truth.rounding)].max(initial=0.0))
        largest = float(np.abs(truth.original[finite]).max(initial=0.0))
        unit = UNIT_ROUNDOFF[precision] * largest + _smallest(original.dtype)
        rough = UNIT_ROUNDOFF[arithmetic or precision] * largest + _smallest(original.dtype)
        error_allowed = ERROR_FACTOR * (max(e_original.max_abs, rounding) + rough)
        if largest == 0:  # an output that is zero throughout has no size of its own, and optimizations may not keep it exact
            error_allowed = max(error_allowed, DEFAULTS[precision].atol)
        # The truth of a float64 model is no finer than the model itself.
        noise = max(rounding, e_original.max_abs) if precision == "float64" else rounding
        algebra_allowed = ALGEBRA_FACTOR * (noise + unit)
        ulps = ulp_histogram(b[both] - true, true, original.dtype) if original.dtype.kind in "fV" else ()
    found = AgainstTruth(
        original=e_original,
        candidate=e_candidate,
        algebra=algebra,
        largest=largest,
        rounding=rounding,
        error_allowed=error_allowed,
        algebra_allowed=algebra_allowed,
        error_share=math.inf if places else _ratio(e_candidate.max_abs, error_allowed),
        algebra_share=_ratio(algebra.max_abs, algebra_allowed),
        ulps=ulps,
        closer=int(e_candidate.max_abs <= e_original.max_abs),
        furthest=_ratio(e_candidate.max_abs, e_original.max_abs),
        inaccuracy=_ratio(e_original.max_abs, largest),
    )
    return found, _problem(found, places, original.size)


def _deviation(found: NDArray[np.float64], true: NDArray[np.float64], where: NDArray[np.bool_]) -> Deviation:
    return Deviation.of(found[where] - true[where], true[where])


def _places(a: NDArray[np.float64], b: NDArray[np.float64], true: NDArray[np.float64]) -> int:
    """How many of the candidate's values are NaN or inf, or not, where neither the original's nor the true ones are."""
    kinds = [np.where(np.isnan(x), 2.0, np.where(np.isinf(x), np.sign(x), 0.0)) for x in (a, b, true)]
    return int(np.count_nonzero((kinds[1] != kinds[0]) & (kinds[1] != kinds[2])))


def _problem(found: AgainstTruth, places: int, size: int) -> str:
    if places:
        return f"is NaN or inf in other places than the original's, {places:,} of {size:,} values"
    if found.severity <= 1:
        return ""
    if found.candidate.max_abs > found.error_allowed:
        return (
            f"differs more than rounding can explain: its largest error against float64 is {found.candidate.max_abs:.2e}, the "
            f"original's is {found.original.max_abs:.2e}, and {found.error_allowed:.2e} is allowed"
        )
    return (
        f"differs more than rounding can explain: in float64 the two models are {found.algebra.max_abs:.2e} apart, rounding the "
        f"stored weights explains {found.rounding:.2e}, and {found.algebra_allowed:.2e} is allowed"
    )


def _smallest(dtype: np.dtype[Any]) -> float:
    return float(ml_dtypes.finfo(dtype).smallest_subnormal) if dtype.kind in "fV" else 0.0  # type: ignore[no-untyped-call]


def _ratio(amount: float, whole: float) -> float:
    if amount == 0.0:
        return 0.0
    return amount / whole if whole else math.inf
