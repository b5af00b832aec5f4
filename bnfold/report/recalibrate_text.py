"""The screen of `bnfold recalibrate`."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bnfold.report import figures
from bnfold.report.page import INDENT, Page, Style, clean, plain
from bnfold.report.recalibrated import Layer, Recalibration

_ROWS_SHOWN = 8
_WIDEST_NAME = 40


def recalibrate_text(
    report: Recalibration, *, style: Style = plain, width: int = 100, verbose: bool = False, quiet: bool = False
) -> str:
    """How far each layer moved, what stays, and what was written; with `quiet` only problems."""
    page = Page(style, width)
    header = f"{style(clean(report.source.path), 'strong')}   {clean(figures.about(report.source))}"
    problems = _problems(page, report)
    if quiet and report.ok:
        return "\n".join([header, *problems]) if problems else ""
    lines = [header, ""]
    if report.layers:
        lines += [*_table(page, report.layers, report.batches, None if verbose else _ROWS_SHOWN), ""]
        lines += page.entry("measured", _summary(report), "good")
        lines += page.entry("", _moved(report.layers, report.batches))
    return "\n".join([*lines, *problems, *_outcome(page, report)])


def _summary(report: Recalibration) -> str:
    total = figures.count(len(report.layers) + len(report.refusals), "normalization")
    batches = (
        f"{report.batches} batches of {report.batch}"
        if report.batch and report.batches > 1
        else figures.count(report.batches, "batch")
    )
    words = [f"{len(report.layers)} of {total}", f"{batches} of {report.data}", report.preprocessing]
    return " · ".join([*filter(None, words), "biased variance" if report.biased else "unbiased variance"])


def _moved(layers: Sequence[Layer], batches: int) -> str:
    modes = sum(layer.was_training for layer in layers)
    untrained = sum(layer.before != "stored" for layer in layers)
    moved = sum(layer.has_moved for layer in layers)
    words = [f"{modes} were in training mode"] if modes else []
    words += [f"{untrained} had no trained statistics"] if untrained else []
    if batches == 1:
        return " · ".join([*words, "one batch does not show what sampling explains"])
    stale = f"{moved} of {len(layers)} had statistics beyond what sampling explains"
    return " · ".join([*words, stale if moved else "all agree with the old statistics within sampling error"])


def _table(page: Page, layers: Sequence[Layer], batches: int, shown: int | None) -> list[str]:
    rows = layers if shown is None else sorted(layers, key=_distance, reverse=True)[:shown]
    column = max(len("normalization"), *(min(len(clean(layer.name)), _WIDEST_NAME) for layer in rows))
    title = f"{'normalization':{column}}{'m':>10}{'|Δmean|/σ':>12}{'var new/old':>16}{'batches vary':>14}"
    lines = [page.style(f"{'':{INDENT}}{title}", "dim")]
    for layer in rows:
        ratio = "–" if layer.variance_ratio is None else " … ".join(f"{each:.2f}" for each in layer.variance_ratio)
        shift = "–" if layer.mean_shift is None else f"{layer.mean_shift:.3f}"
        spread = "–" if batches == 1 else f"{layer.batch_spread:.3f}"
        figures_ = f"{layer.values_per_batch:>10,}{shift:>12}{ratio:>16}{spread:>14}"
        lines.append(f"{'':{INDENT}}{clean(layer.name):{column}}{figures_}")
    hidden = len(layers) - len(rows)
    return lines if not hidden else [*lines, f"{'':{INDENT}}… ({hidden} more, which moved less, -v for all)"]


def _distance(layer: Layer) -> float:
    return math.inf if layer.mean_shift is None else layer.mean_shift


def _problems(page: Page, report: Recalibration) -> list[str]:
    lines: list[str] = []
    for place, refusal in enumerate(report.refusals):
        text = f"{refusal.normalization.name}   {refusal.code}  {refusal.sentence}"
        lines += page.entry("stays" if place == 0 else "", text, "warn")
        lines += page.entry("", refusal.remedy) if refusal.remedy else []
    for place, note in enumerate(report.notes):
        lines += page.entry("warnings" if place == 0 else "", f"{note.code}  {note.sentence}", "warn")
    return lines


def _outcome(page: Page, report: Recalibration) -> list[str]:
    if report.failures or report.size_after_bytes is None:
        lines = [line for text in report.failures for line in page.entry("FAILED", text, "bad")]
        return [*lines, *page.entry("", "Nothing was written.")]
    files = " + ".join((report.destination, *report.data_files))
    return page.entry("wrote", f"{files}   {figures.size(report.size_after_bytes)}   {report.elapsed_s:.1f} s")
