"""What a verification found, for the terminal: one line for one output, a table for several, the layer where two models part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bnfold.report import figures
from bnfold.report.page import TIED, Page, clean

if TYPE_CHECKING:
    from bnfold.runtime.layers import Layer
    from bnfold.runtime.verification import OutputComparison, Verification

_ROWS_SHOWN = 4
_WIDEST_NAME = 40
_LABEL = 34


def verification_lines(page: Page, verification: Verification, *, verbose: bool, per_layer: bool = False) -> list[str]:
    """The entry `verified` or `FAILED`; with `verbose` every output at every level, with `per_layer` every layer."""
    shown = None if verbose else _ROWS_SHOWN
    texts = [*figures.some(_failures(verification), shown), *_measured(verification, shown)]
    if per_layer:
        texts += _layers(verification.layers)
    lines: list[str] = []
    for text in texts:
        label = ("verified" if verification.ok else "FAILED") if not lines else ""
        lines += page.entry(label, text, "good" if verification.ok else "bad")
    return lines


def _failures(verification: Verification) -> list[str]:
    """The failures, the worst output's measured beside the truth, and the layer where it began."""
    row = verification.worst
    texts = list(verification.failures)
    if row is not None and not row.ok and row.worst.by_truth and row.worst.truth is not None:
        truth = row.worst.truth
        told = [text for text in texts if text.startswith(f"Output `{row.output}` ")]
        headline = f"output `{row.output}` differs more than rounding can explain (input {row.feed}, optimizations {row.level})"
        if "more than rounding" in row.worst.problem:
            texts = [headline, *(text for text in texts if text not in told)]
        beside = f"   {figures.times(truth.furthest)} the original's" if truth.furthest > 1 else ""
        texts.append(_fact("original  error against float64", f"{truth.original.max_abs:.1e}"))
        texts.append(_fact("candidate error against float64", f"{truth.candidate.max_abs:.1e}{beside}"))
    if verification.first_wrong is not None and not verification.ok:
        texts.append(_fact("first layer that went wrong", verification.first_wrong.where))
    return texts


def _fact(name: str, value: str) -> str:
    return f"{name:{_LABEL}}{value}".replace(" ", TIED)


def _measured(verification: Verification, shown: int | None) -> list[str]:
    """One line for one output; otherwise what they have in common and a table of the worst, or with `shown` None of all."""
    rows = figures.worst_by_output(verification)
    on_inputs = f"on {figures.count(verification.feeds, 'input')}"
    if not rows:
        return [] if verification.failures else [f"nothing to compare {on_inputs}"]
    beside = [figures.beside_truth(verification)] if verification.ok and verification.truth_feeds else []
    if shown is not None and len(rows) == 1:
        return [f"{figures.difference(rows[0])} · {on_inputs}", *filter(None, beside)]
    decided = figures.argmax(figures.deciding(verification))
    common = " · ".join([f"{figures.count(len(rows), 'output')} {on_inputs}", *decided])
    if shown is None:
        where = [f"{row.level}, {row.feed}" for row in verification.outputs]
        return [common, *filter(None, beside), *_table(verification.outputs, where)]
    title, *lines = _table(rows, [""] * len(rows))
    return [common, *filter(None, beside), title, *figures.some(lines, shown)]


def _table(rows: Sequence[OutputComparison], where: Sequence[str]) -> list[str]:
    """Aligned columns, titles first; lines may end only before `where`."""
    column = max(len("output"), *(min(len(clean(row.output)), _WIDEST_NAME) for row in rows))
    titles = figures.columns(rows)
    cells = [("output", *titles), *((clean(row.output), *figures.measured(row, titles)) for row in rows)]
    lines = [f"{name:{column}}{''.join(f'{cell:>10}' for cell in numbers)}" for name, *numbers in cells]
    ends = [f"   {at}" if at else "" for at in ("optimizations, input" if any(where) else "", *where)]
    return [line.replace(" ", TIED) + end for line, end in zip(lines, ends, strict=True)]


def _layers(layers: Sequence[Layer]) -> list[str]:
    if not layers:
        return ["No layer to compare: the two models have no tensor in common that they make differently."]
    lines = [f"{''.join(f'{cell:>10}' for cell in figures.LAYER_COLUMNS)}   layer"]
    lines += [f"{''.join(f'{cell:>10}' for cell in figures.layer_cells(layer))}   {clean(layer.where)}" for layer in layers]
    return [line.replace(" ", TIED) for line in lines]
