"""From the outputs on one batch to its tally."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bnfold.errors import InputError
from bnfold.runtime.accuracy.tally import FLIPS_KEPT, Counts, Flip, Tally

Outputs: TypeAlias = Mapping[str, NDArray[Any]]
Metric: TypeAlias = Callable[[Outputs, NDArray[Any]], Any]
"""A user's function of a model's outputs by name, each `[N, …]`, and the labels: one number for each sample, more is better."""

_TOP = 5


@dataclass(frozen=True)
class Ruler:
    """How outputs are judged.

    Attributes:
        output: the name of the output that holds one value for each class.
        metric: the user's function; None for top-1 alone.
        metric_name: how the user named it.
        margin: a flip of a decision no clearer than this is a tie, in units of the output.
    """

    output: str
    metric: Metric | None
    metric_name: str
    margin: float

    def tally(self, reference: Outputs, candidate: Outputs | None, labels: NDArray[Any], start: int) -> Tally:
        """Judges one batch.

        Args:
            reference: the reference's outputs by name.
            candidate: the candidate's; None without one.
            labels: `[N]` integers, or whatever the metric takes.
            start: the position of the first sample.

        Raises:
            InputError: outputs or labels are not what classes, or the metric, need.
        """
        classes = self._classes(reference, labels)
        tally = Tally(len(labels), classified=False)
        if classes is not None:
            other = None if candidate is None else _logits(candidate[self.output], len(labels))
            tally = _decisions(*classes, other, self.margin, start)
        return tally if self.metric is None else _scored(tally, self._scores(reference, labels), self._or_none(candidate, labels))

    def _classes(self, reference: Outputs, labels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]] | None:
        """The outputs `[N, K]` and the labels `[N]`; None where they are no classes, and the metric does not need them."""
        logits = _logits(reference[self.output], len(labels))
        whole = labels.reshape(len(labels)) if labels.size == len(labels) else labels
        if logits is not None and whole.ndim == 1 and whole.dtype.kind in "iu":
            return logits, whole.astype(np.int64)
        if self.metric is not None:
            return None
        if logits is None:
            shape = list(reference[self.output].shape)
            what = f"the output `{self.output}` has shape {shape}, and top-1 needs [N, classes]"
        else:
            what = f"the labels are {labels.dtype} {list(labels.shape)}, and top-1 needs one whole number for each sample"
        raise InputError(f"{what}. For anything else, state your own metric: --metric file.py:function.")

    def _or_none(self, outputs: Outputs | None, labels: NDArray[Any]) -> NDArray[np.float64] | None:
        return None if outputs is None else self._scores(outputs, labels)

    def _scores(self, outputs: Outputs, labels: NDArray[Any]) -> NDArray[np.float64]:
        assert self.metric is not None
        result = self.metric(outputs, labels)
        try:
            scores = np.asarray(result, np.float64)
        except (TypeError, ValueError):
            raise InputError(f"the metric {self.metric_name} returns a {type(result).__name__} and no numbers.") from None
        if scores.shape != (len(labels),) or not np.isfinite(scores).all():
            what = f"shape {list(scores.shape)}" if scores.shape != (len(labels),) else "NaN or inf"
            raise InputError(
                f"the metric {self.metric_name} returns {what} for {len(labels)} samples. "
                "It has to return one finite number for each sample."
            )
        return scores


def _logits(output: NDArray[Any], samples: int) -> NDArray[Any] | None:
    """An output `[N, K]` or `[N, K, 1, …]` as `[N, K]` in float64, which holds every smaller type exactly; or None."""
    if output.ndim < 2 or output.shape[0] != samples or output.shape[1] < 2 or output.size != samples * output.shape[1]:
        return None
    if output.dtype.kind in "OUSc":
        return None
    return output.reshape(output.shape[:2]).astype(np.float64)


def _decisions(logits: NDArray[Any], labels: NDArray[np.int64], other: NDArray[Any] | None, margin: float, start: int) -> Tally:
    ours = _answers(logits)
    samples, classes = logits.shape
    counts = _counts(logits, ours, labels)
    if other is None:
        return Tally(samples, classes=classes, reference=counts)
    if other.shape != logits.shape:
        raise InputError(f"the candidate's output has shape {list(other.shape)}, and the reference's {list(logits.shape)}.")
    theirs = _answers(other)
    flipped = ours != theirs
    right, still = ours == labels, theirs == labels
    rows = np.arange(samples)
    with np.errstate(invalid="ignore"):
        margins = logits[rows, ours] - logits[rows, theirs]
    tied = flipped & (margins <= margin) & (ours >= 0) & (theirs >= 0)
    first = np.flatnonzero(flipped)[:FLIPS_KEPT].tolist()
    return Tally(
        samples,
        classes=classes,
        reference=counts,
        candidate=_counts(other, theirs, labels),
        lost=int((right & ~still).sum()),
        gained=int((still & ~right).sum()),
        wrong_to_wrong=int((flipped & ~right & ~still).sum()),
        ties=int(tied.sum()) if margin > 0 else 0,
        flips=tuple(
            Flip(start + row, int(labels[row]), int(ours[row]), int(theirs[row]), float(np.nan_to_num(margins[row])))
            for row in first
        ),
    )


def _answers(logits: NDArray[Any]) -> NDArray[np.int64]:
    """The class with the largest output, the first of equals; -1 where there is NaN."""
    answers: NDArray[np.int64] = np.where(np.isnan(logits).any(axis=1), -1, logits.argmax(axis=1))
    return answers


def _counts(logits: NDArray[Any], answers: NDArray[np.int64], labels: NDArray[np.int64]) -> Counts:
    samples, classes = logits.shape
    known = (labels >= 0) & (labels < classes) & (answers >= 0)
    clipped = labels.clip(0, classes - 1)
    own = logits[np.arange(samples), clipped][:, None]
    # Equal outputs rank by their position, as in argmax.
    before = (logits > own) | ((logits == own) & (np.arange(classes) < clipped[:, None]))
    return Counts(
        top1=int((answers == labels).sum()),
        top5=int((known & (before.sum(axis=1) < _TOP)).sum()),
        label_above=int((answers == labels + 1).sum()),
        label_below=int(((answers == labels - 1) & (answers >= 0)).sum()),
        non_finite=int((answers < 0).sum()),
    )


def _scored(tally: Tally, ours: NDArray[np.float64], theirs: NDArray[np.float64] | None) -> Tally:
    """`tally` with the metric's values."""
    both = ours if theirs is None else np.concatenate([ours, theirs])
    drops = np.zeros(0) if theirs is None else ours - theirs
    theirs = np.zeros(0) if theirs is None else theirs
    return tally + Tally(
        classified=tally.classified,
        reference=Counts(score=float(ours.sum())),
        candidate=Counts(score=float(theirs.sum())),
        changed=int(np.count_nonzero(drops)),
        score_lost=int((drops > 0).sum()),
        score_gained=int((drops < 0).sum()),
        drops=float(drops.sum()),
        squares=float((drops**2).sum()),
        lowest=float(both.min()),
        highest=float(both.max()),
        zero_one=bool(np.isin(both, (0.0, 1.0)).all()),
    )
