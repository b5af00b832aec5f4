"""The screen of `bnfold accuracy`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bnfold.report import accuracy_figures as figures
from bnfold.report.figures import note_groups
from bnfold.report.page import INDENT, TIED, Page, Style, clean, plain

if TYPE_CHECKING:
    from bnfold.runtime.accuracy.result import Accuracy

_FLIPS_SHOWN = 3
_FIRST, _OTHERS = 18, 17


def accuracy_text(
    accuracy: Accuracy, *, style: Style = plain, width: int = 100, verbose: bool = False, quiet: bool = False
) -> str:
    """The screen of `bnfold accuracy`; with `quiet` only what is wrong, which may be nothing at all."""
    page = Page(style, width)
    names = [clean(score.model) for score in (accuracy.candidate, accuracy.reference) if score is not None]
    header = style(names[0], "strong") + (f"   against {names[1]}" if len(names) > 1 else "")
    doubts = _doubts(page, accuracy)
    failed = [line for sentence in accuracy.failures for line in page.entry("FAILED", _tied(sentence), "bad")]
    if quiet:
        return "\n".join([header, *doubts, *failed]) if doubts or failed else ""
    lines = [header, "", *_columns(page, figures.rows(accuracy)), ""]
    if verbose and accuracy.pairs is not None:
        lines += [*_columns(page, figures.table(accuracy.pairs)), ""]
    data, sha256 = figures.data(accuracy)
    lines += page.entry("data", data) + page.entry("", sha256)
    lines += page.entry("", figures.execution(accuracy)) if verbose else []
    return "\n".join([*lines, *accuracy_lines(page, accuracy, verbose=verbose), *doubts])


def accuracy_summary(page: Page, accuracy: Accuracy, *, verbose: bool = False) -> list[str]:
    """What `bnfold optimize` says: both accuracies, and what `accuracy_lines` says."""
    lines = page.entry("accuracy", f"{figures.change(accuracy)} · {figures.data(accuracy)[0]}")
    return [*lines, *accuracy_lines(page, accuracy, verbose=verbose), *_doubts(page, accuracy)]


def accuracy_lines(page: Page, accuracy: Accuracy, *, verbose: bool = False) -> list[str]:
    """What two models have to do with each other, and whether that is good enough; nothing for one model."""
    lines: list[str] = []
    if accuracy.pairs is not None:
        found, bound = figures.flips(accuracy.pairs)
        lines += page.entry("flips", _tied(found), "bad" if accuracy.pairs.counted_flips else "good") + page.entry(
            "", _tied(bound)
        )
        shown = accuracy.tally.flips if verbose else accuracy.tally.flips[:_FLIPS_SHOWN]
        lines += [line for one in shown for line in page.entry("", figures.flip(one))]
        lines += page.entry("drop", _tied(figures.drop(accuracy.pairs)))
    if metric := figures.metric_drop(accuracy):
        lines += page.entry("drop" if accuracy.pairs is None else "", metric)
    for gate in accuracy.gates:
        lines += page.entry(
            "passed" if gate.ok else "FAILED", _tied(f"{gate.option}: {gate.sentence}"), "good" if gate.ok else "bad"
        )
    return lines


def _doubts(page: Page, accuracy: Accuracy) -> list[str]:
    groups = note_groups(accuracy.notes)
    return [line for group in groups for line in page.entry("warning", f"{group.code}  {group.headline}", "warn")]


def _tied(text: str) -> str:
    """The text with every number tied to its unit."""
    return text.replace(" pp", f"{TIED}pp").replace(" %", f"{TIED}%")


def _columns(page: Page, rows: Sequence[Sequence[str]]) -> list[str]:
    first = max(_FIRST, *(len(clean(row[0])) for row in rows))
    lines = [f"{'':{INDENT}}{clean(row[0]):{first}}{''.join(f'{cell:>{_OTHERS}}' for cell in row[1:])}" for row in rows]
    return [page.style(lines[0], "dim"), *lines[1:]]
