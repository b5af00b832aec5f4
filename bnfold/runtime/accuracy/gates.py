"""The conditions that a candidate has to meet, and what looks wrong with the data."""

from __future__ import annotations

from collections.abc import Iterator

from bnfold.runtime.accuracy.intervals import samples_for, wilson
from bnfold.runtime.accuracy.result import Gate, Pairs, Score, metric_bound
from bnfold.runtime.accuracy.shares import percent, points
from bnfold.runtime.accuracy.tally import Counts, Tally
from bnfold.verdict import Note

_MUCH_BETTER = 2.0


def drop_gate(pairs: Pairs, max_drop: float) -> Gate:
    """Non-inferiority: the upper confidence bound of the drop in top-1 accuracy is below `max_drop`, a share."""
    upper = pairs.drop_interval[1]
    moved = f"drops by {points(pairs.drop)}" if pairs.drop >= 0 else f"rises by {points(-pairs.drop)}"
    found = f"Accuracy {moved}; with 97.5 % confidence it drops by less than {points(upper)}, and {points(max_drop)} is allowed."
    if upper < max_drop:
        return Gate("--max-drop", True, found)
    if pairs.drop >= max_drop > 0:
        return Gate("--max-drop", False, f"Accuracy drops by {points(pairs.drop)}, and {points(max_drop)} is allowed.")
    if pairs.lost == 0 and 0 < max_drop < 1 and pairs.samples < samples_for(max_drop):
        return Gate(
            "--max-drop",
            False,
            f"Too few samples: none of {pairs.samples:,} answers got worse, but that bounds the drop at {points(upper)} only, "
            f"and {points(max_drop)} is allowed. It takes {samples_for(max_drop):,} samples without a flip to show that.",
        )
    return Gate("--max-drop", False, f"Not shown: {found} More samples narrow the bound.")


def metric_gate(tally: Tally, max_drop: float) -> Gate:
    """The same for the mean of the user's metric."""
    drop, upper = tally.drops / max(1, tally.samples), metric_bound(tally)
    found = f"The metric drops by {drop:.3g}; with 97.5 % confidence by less than {upper:.3g}, and {max_drop:.3g} is allowed."
    return Gate("--max-drop", upper < max_drop, found if upper < max_drop else f"Not shown to be as good. {found}")


def flips_gate(pairs: Pairs, max_flips: int) -> Gate:
    """At most `max_flips` samples are decided differently, ties apart."""
    flips = pairs.counted_flips
    found = f"{flips:,} of {pairs.samples:,} answers changed"
    found += f" ({pairs.ties:,} more were ties within {pairs.margin:g})" if pairs.ties else ""
    return Gate("--max-flips", flips <= max_flips, f"{found}; {max_flips:,} may.")


def doubts(score: Score, counts: Counts, classes: int) -> Iterator[Note]:
    """Signs that the data are not what the model was made for.

    Chance is 1 / classes. It is near when Wilson's lower bound of the accuracy does not exceed it.
    """
    if score.interval is None or not score.samples:
        return
    if score.non_finite:
        yield Note(
            "BNF032", f"{score.model} gives NaN on {score.non_finite:,} of {score.samples:,} samples. They count as wrong."
        )
    right, (shifted, word) = percent(score.accuracy or 0.0), max((counts.label_above, "above"), (counts.label_below, "below"))
    if _far_better(shifted, score):
        yield Note(
            "BNF052",
            f"The answers of {score.model} are the label for {right} of the samples, and the number {word} the label for "
            f"{percent(shifted / score.samples)}: the labels look shifted by one.",
        )
        return
    if score.interval[0] <= 1 / classes:
        yield Note(
            "BNF051",
            f"{score.model} is right on {right} of {score.samples:,} samples, which is no better than guessing among "
            f"{classes:,} classes. Wrong preprocessing is the usual cause.",
        )


def _far_better(shifted: int, score: Score) -> bool:
    assert score.interval is not None
    return wilson(shifted, score.samples)[0] > _MUCH_BETTER * score.interval[1]
