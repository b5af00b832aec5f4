"""One output of two models, compared. Knows numpy and neither onnx nor onnxruntime."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnfold.runtime.against_truth import ERROR_FACTOR, AgainstTruth, TrueValues, against_truth
from bnfold.runtime.deviation import certified, rows_of
from bnfold.runtime.tolerance import FLOAT_NAMES, Precision, Tolerance, coarser, tolerance_for, with_dtype


@dataclass(frozen=True)
class Comparison:
    """What was measured between the reference's and the candidate's value of one output.

    Differences are taken where both are finite; the places of NaN and ±inf have to agree. Where shapes or types differ,
    nothing was measured: the differences are NaN.

    Attributes:
        dtype: the reference's type, as numpy names it.
        shape: the reference's shape.
        problem: why the two are not equivalent, as the rest of a sentence about the output; "" when they are.
        max_abs_diff: max|Δ|. For strings 0 or inf.
        reference_max: max|reference|.
        allowed: what `max_abs_diff` may be; 0 for types that have to be equal. Where the truth decides, the most that it leaves.
        sqnr_db: signal to quantization noise ratio, 10·log10(Σ reference² / Σ Δ²); inf when equal.
        elements: how many values there are.
        differing: how many of them are not equal.
        non_finite: how many of the reference's are NaN or inf.
        argmax_changed: rows whose largest value is in another place. Rows run along the last axis of a rank 2 output,
            along axis 1 of a rank 4 output; other outputs have none.
        argmax_total: how many rows there are.
        argmax_certified: in how many of them top1 − top2 > 2·max|Δ|, so that no difference of that size could change the place.
        truth: both models against float64; None where no truth was at hand.
        by_truth: whether that decides, and not the difference.
    """

    dtype: str
    shape: tuple[int, ...]
    problem: str = ""
    max_abs_diff: float = 0.0
    reference_max: float = 0.0
    allowed: float = 0.0
    sqnr_db: float = math.inf
    elements: int = 0
    differing: int = 0
    non_finite: int = 0
    argmax_changed: int = 0
    argmax_total: int = 0
    argmax_certified: int = 0
    truth: AgainstTruth | None = field(default=None, repr=False)
    by_truth: bool = False

    @property
    def ok(self) -> bool:
        """Whether the two are equivalent."""
        return not self.problem

    @property
    def relative(self) -> float:
        """`max_abs_diff / reference_max`; 0 when equal, inf when the reference is zero and the candidate is not."""
        return _ratio(self.max_abs_diff, self.reference_max)

    @property
    def severity(self) -> float:
        """How close it comes to its limit, for ranking: at most 1 where it passes."""
        if self.by_truth and self.truth is not None:
            return self.truth.severity
        return _ratio(self.max_abs_diff, self.allowed)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: the fields with `ok` and `relative`; NaN and inf become None."""
        fields = {"ok": self.ok, **asdict(self), "relative": self.relative, "shape": list(self.shape)}
        fields["truth"] = None if self.truth is None else self.truth.to_dict()
        return {key: _jsonable(value) for key, value in fields.items()}


def compare(
    reference: NDArray[Any],
    candidate: NDArray[Any],
    *,
    precision: Precision,
    atol: float | None = None,
    rtol: float | None = None,
    truth: TrueValues | None = None,
    arithmetic: Precision | None = None,
    known_error: float = 0.0,
    known_size: float = 0.0,
) -> Comparison:
    """Compares two arrays: types and shapes, NaN and ±inf by place, and then both with the truth.

    Without a truth, or where `atol` or `rtol` is given, the difference decides: `max|Δ| ≤ atol + rtol·max|reference|`.
    Integers, booleans and strings have to be equal (8-bit integers of a quantized model count as its floats do).

    Args:
        reference: any dtype and shape.
        candidate: the same.
        precision: the coarsest arithmetic of the model, for the default tolerances.
        atol: in place of the default.
        rtol: in place of the default.
        truth: the same output in float64.
        arithmetic: what the runtime computes in, where that is coarser than `precision`.
        known_error: the original's own error on inputs that were evaluated in float64; widens the default tolerance.
        known_size: the largest value there.
    """
    facts: dict[str, Any] = {"dtype": reference.dtype.name, "shape": reference.shape, "elements": reference.size}
    for what, one, other in (
        ("type", reference.dtype.name, candidate.dtype.name),
        ("shape", reference.shape, candidate.shape),
    ):
        if one != other:
            problem = f"has {what} {other}, and the original's is {one}"
            return Comparison(**facts, problem=problem, max_abs_diff=math.nan, sqnr_db=math.nan)
    if reference.dtype.kind not in "biufV":
        return _compare_objects(reference, candidate, facts)
    with np.errstate(all="ignore"):  # of float64 values near its limits; the differences come out as inf
        inside = coarser(precision, arithmetic) if arithmetic is not None else precision
        tolerance = tolerance_for(reference.dtype.name, inside, atol, rtol)
        if tolerance is None or truth is None or truth.original.shape != reference.shape:
            return _compare_numbers(
                reference, candidate, facts, tolerance, _slack(known_error, known_size) if atol is None and rtol is None else None
            )
        found = _compare_numbers(reference, candidate, facts, tolerance)
        measured, problem = against_truth(reference, candidate, truth, with_dtype(precision, reference.dtype.name), arithmetic)
        if atol is not None or rtol is not None:
            return replace(found, truth=measured)
        allowed = measured.original.max_abs + measured.error_allowed
        return replace(found, truth=measured, by_truth=True, problem=problem, allowed=allowed)


def compare_values(
    reference: Any, candidate: Any, measure: Callable[..., Comparison], truths: Sequence[TrueValues | None] = ()
) -> list[Comparison]:
    """Compares two outputs of any kind: tensors, sequences, maps, absent optionals. One comparison for each array in them.

    Args:
        reference: what the original gave.
        candidate: what the candidate gave.
        measure: compares two arrays; takes a keyword `truth` where one is known.
        truths: of each array.
    """
    ours, theirs = list(leaves(reference)), list(leaves(candidate))
    if [place for place, _ in ours] == [place for place, _ in theirs]:
        if len(truths) != len(ours):
            return [measure(one, other) for (_, one), (_, other) in zip(ours, theirs, strict=True)]
        return [measure(one, other, truth=true) for (_, one), (_, other), true in zip(ours, theirs, truths, strict=True)]
    problem = f"is built of {len(theirs)} arrays, and the original's of {len(ours)}"
    if len(ours) == len(theirs):
        problem = "is another kind of sequence or map than the original's"
    return [Comparison(type(reference).__name__, (), problem, max_abs_diff=math.nan, sqnr_db=math.nan)]


def leaves(value: Any, place: str = "") -> Iterator[tuple[str, NDArray[Any]]]:
    """The arrays in an output, with their place in it: "" for a tensor, "[0]" in a sequence, "[0].keys" in a map of one.

    An absent optional is an array of no elements, so that it differs from anything present.
    """
    if isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from leaves(item, f"{place}[{number}]")
    elif isinstance(value, dict):
        keys = sorted(value)
        yield f"{place}.keys", _array(keys)
        yield f"{place}.values", _array([value[key] for key in keys])
    elif value is None:
        yield place, np.zeros(0, object)
    else:
        yield place, _array(value)


def _array(value: Any) -> NDArray[Any]:
    array = np.asarray(value)
    return array.astype(object) if array.dtype.kind in "US" else array  # else the type would hold the longest length


def _slack(error: float, size: float) -> Tolerance:
    """What two models may differ by when one is off by `error` on values up to `size`."""
    most = (1 + ERROR_FACTOR) * error
    return Tolerance(most, most / size if size else 0.0)


def _compare_numbers(
    reference: NDArray[Any],
    candidate: NDArray[Any],
    facts: dict[str, Any],
    tolerance: Tolerance | None,
    slack: Tolerance | None = None,
) -> Comparison:
    a, b = reference.astype(np.float64), candidate.astype(np.float64)
    finite = np.isfinite(a) & np.isfinite(b)
    places_differ = int(np.count_nonzero(~finite & ~((a == b) | (np.isnan(a) & np.isnan(b)))))
    size = np.abs(a[finite])
    delta = np.abs(a[finite] - b[finite])
    max_abs_diff, reference_max = float(delta.max(initial=0.0)), float(size.max(initial=0.0))
    allowed = 0.0 if tolerance is None else max(tolerance.allows(reference_max), slack.allows(reference_max) if slack else 0.0)
    unequal = reference != candidate if tolerance is None else (a != b) & ~(np.isnan(a) & np.isnan(b))
    differing = int(np.count_nonzero(unequal))
    changed, total, sure = _argmax_changes(a, b, max_abs_diff) if reference.dtype.name in FLOAT_NAMES else (0, 0, 0)
    problem = ""
    if places_differ:
        problem = f"is NaN or inf in other places than the original's, {places_differ:,} of {reference.size:,} values"
    elif tolerance is None and differing:
        problem = f"has {differing:,} of {reference.size:,} values that are not equal to the original's"
    elif tolerance is not None and max_abs_diff > allowed:
        found, limit = _told_apart(max_abs_diff, allowed)
        problem = f"differs more than {tolerance.words}: max |Δ| {found}, allowed {limit}, on values up to {reference_max:.3g}"
    return Comparison(
        **facts,
        problem=problem,
        max_abs_diff=max_abs_diff,
        reference_max=reference_max,
        allowed=allowed,
        sqnr_db=_sqnr_db(size, delta),
        differing=differing,
        non_finite=int(np.count_nonzero(~np.isfinite(a))),
        argmax_changed=changed,
        argmax_total=total,
        argmax_certified=sure,
    )


def _compare_objects(reference: NDArray[Any], candidate: NDArray[Any], facts: dict[str, Any]) -> Comparison:
    differing = int(np.count_nonzero(reference != candidate))
    problem = f"has {differing:,} of {reference.size:,} values that are not equal to the original's" if differing else ""
    return Comparison(**facts, problem=problem, max_abs_diff=math.inf if differing else 0.0, differing=differing)


def _argmax_changes(a: NDArray[np.float64], b: NDArray[np.float64], max_abs_diff: float) -> tuple[int, int, int]:
    ours, theirs = rows_of(a), rows_of(b)
    if ours is None or theirs is None:
        return 0, 0, 0
    changed = ours.argmax(-1) != theirs.argmax(-1)
    finite = bool(np.isfinite(ours).all() and np.isfinite(theirs).all())
    return int(np.count_nonzero(changed)), changed.size, certified(ours, max_abs_diff) if finite else 0


def _sqnr_db(size: NDArray[np.float64], delta: NDArray[np.float64]) -> float:
    scale = size.max(initial=0.0)  # so that no square overflows or vanishes
    if not delta.any():
        return math.inf
    if scale == 0.0:
        return -math.inf
    noise = np.linalg.norm(delta / scale)
    return float(20 * math.log10(np.linalg.norm(size / scale) / noise)) if noise else math.inf


def _told_apart(one: float, other: float) -> tuple[str, str]:
    """Two different numbers with three digits, or as many more as it takes to see that they differ."""
    texts = ((f"{one:.{digits}e}", f"{other:.{digits}e}") for digits in range(2, 17))
    return next((pair for pair in texts if pair[0] != pair[1]), (repr(one), repr(other)))


def _ratio(amount: float, whole: float) -> float:
    if amount == 0.0:
        return 0.0
    return amount / whole if whole else math.inf


def _jsonable(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
