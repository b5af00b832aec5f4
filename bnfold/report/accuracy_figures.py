"""What the renderings of an accuracy all say: figures in words."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from bnfold.runtime.accuracy.shares import percent, points

if TYPE_CHECKING:
    from bnfold.runtime.accuracy.result import Accuracy, Pairs, Score
    from bnfold.runtime.accuracy.tally import Flip


def rows(accuracy: Accuracy) -> list[tuple[str, ...]]:
    """The scores: titles first, then top-1, top-5 and the user's metric, where there are any; one column for each model."""
    scores = [score for score in (accuracy.reference, accuracy.candidate) if score is not None]
    lines = [("", "reference", "candidate")[: 1 + len(scores)]]
    if accuracy.reference.top1 is not None:
        lines.append(("top-1", *(percent(score.accuracy or 0.0) for score in scores)))
        lines.append(("  right", *(f"{score.top1:,}" for score in scores)))
        lines.append(("  95 % interval", *(_interval(score) for score in scores)))
    if accuracy.reference.top5 is not None:
        lines.append(("top-5", *(percent((score.top5 or 0) / max(1, score.samples)) for score in scores)))
    if accuracy.reference.metric is not None:
        lines.append((accuracy.settings.metric, *(f"{score.metric:.6g}" for score in scores)))
    return lines


def change(accuracy: Accuracy) -> str:
    """Both models' accuracy, or metric, in a line: "86.64 % → 86.64 %"."""
    scores = [score for score in (accuracy.reference, accuracy.candidate) if score is not None]
    if accuracy.reference.metric is not None:
        return " → ".join(f"{score.metric:.6g}" for score in scores) + f" in {accuracy.settings.metric}"
    return " → ".join(percent(score.accuracy or 0.0) for score in scores)


def table(pairs: Pairs) -> list[tuple[str, str, str]]:
    """The paired 2 × 2 table, titles first."""
    return [
        ("", "candidate right", "wrong"),
        ("reference right", f"{pairs.both_right:,}", f"{pairs.lost:,}"),
        ("reference wrong", f"{pairs.gained:,}", f"{pairs.both_wrong:,}"),
    ]


def flips(pairs: Pairs) -> list[str]:
    """How many answers changed, and what that bounds."""
    found = f"{pairs.flips:,} of {pairs.samples:,} answers changed"
    if pairs.flips:
        found += f": {pairs.lost:,} lost, {pairs.gained:,} gained, {pairs.wrong_to_wrong:,} from wrong to wrong"
    if pairs.margin:
        found += f" · {pairs.ties:,} of them ties within {pairs.margin:g}"
    low, high = pairs.agreement_interval
    bound = f"agreement {percent(pairs.agreement)}, with 95 % confidence {percent(low)} to {percent(high)}"
    if pairs.flips == 0:
        bound = f"none of {pairs.samples:,} only bounds the share of changed answers at {percent(1 - low)} (Wilson, 95 %)"
    return [found, bound]


def drop(pairs: Pairs) -> str:
    """The difference in accuracy with its interval, and McNemar's test."""
    low, high = pairs.drop_interval
    return f"{points(pairs.drop)}, with 95 % confidence {points(low)} to {points(high)} (Tango) · McNemar p = {pairs.mcnemar:.3g}"


def metric_drop(accuracy: Accuracy) -> str:
    """The difference of the user's metric; "" where there is none."""
    value = accuracy.metric_drop
    return (
        "" if value is None else f"{value:.3g} in {accuracy.settings.metric}, which changed on {accuracy.tally.changed:,} samples"
    )


def flip(one: Flip) -> str:
    """One flip in a line."""
    margin = f", by {one.margin:.3g}" if math.isfinite(one.margin) else ""
    return f"sample {one.sample}, label {one.label}: {one.reference} → {one.candidate}{margin}"


def data(accuracy: Accuracy) -> list[str]:
    """What the models were run on, and its hash."""
    settings = accuracy.settings
    stated = settings.preprocess or "none stated"
    return [f"{settings.data} · {accuracy.reference.samples:,} samples · preprocess {stated}", f"sha256 {settings.data_sha256}"]


def execution(accuracy: Accuracy) -> str:
    """How they were run."""
    settings = accuracy.settings
    facts = ", ".join(f"{name} {value}" for name, value in settings.execution.items())
    return f"onnxruntime {settings.onnxruntime} · {settings.level} optimizations · batches of {settings.batch} · {facts}"


def outcome(accuracy: Accuracy) -> str:
    """The answer in one word or two."""
    if not accuracy.ok:
        return "FAILED"
    return "passed" if accuracy.gates else "measured"


def _interval(score: Score) -> str:
    low, high = score.interval or (0.0, 1.0)
    return f"{100 * low:.2f} – {100 * high:.2f}"
