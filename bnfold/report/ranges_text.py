"""What `bnfold ranges` shows: a table of the folded weights, and what quantization with one scale would lose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from bnfold.ranges import WeightRange, bits, range_notes
from bnfold.report import figures
from bnfold.report.page import INDENT, Page, Style, clean, plain
from bnfold.report.report import document


def ranges_text(
    original: str,
    folded: str,
    ranges: Sequence[WeightRange],
    *,
    style: Style = plain,
    width: int = 100,
    verbose: bool = False,
    quiet: bool = False,
) -> str:
    """The screen: weights that folding changed, or all with `verbose`; only warnings with `quiet`."""
    page, notes = Page(style, width), range_notes(ranges)
    lines = [f"{style(clean(folded), 'strong')}   against {clean(original)}", ""]
    shown = [one for one in ranges if verbose or one.is_changed]
    if shown and not quiet:
        column = max(len(clean(one.operator)) for one in shown)
        heads = f"{'':{INDENT + column}}{'channels':>10}{'spread':>10}{'folded':>10}{'bits':>7}{'folded':>8}"
        lines.append(style(heads, "dim"))
        lines += [_row(one, column, style) for one in shown]
        lines.append("")
    if notes:
        for note in notes:
            lines += page.entry("warning", f"{note.code}  {note.sentence}.", "warn")
        lines += page.entry("", "Quantize the weights per channel. `bnfold explain BNF060` says more.")
    elif not quiet:
        lines += page.entry("ranges", _summary(ranges), "good")
    return "\n".join(lines) if notes or not quiet else ""


def ranges_document(original: str, folded: str, ranges: Sequence[WeightRange]) -> dict[str, Any]:
    """The JSON document: every weight, channel by channel, and the warnings."""
    notes = [asdict(note) for note in range_notes(ranges)]
    return document("", original=original, folded=folded, weights=[one.to_dict() for one in ranges], notes=notes)


def _row(one: WeightRange, column: int, style: Style) -> str:
    before = one.spread_before
    cells = [f"{len(one.after):>10,}"]
    cells += [f"{'':>10}" if before is None else f"{before:>10,.3g}", f"{one.spread_after:>10,.3g}"]
    cells += [f"{'':>7}" if before is None else f"{bits(before):>7.1f}", f"{bits(one.spread_after):>8.1f}"]
    line = f"{'':{INDENT}}{clean(one.operator):{column}}{''.join(cells)}"
    return style(line, "warn") if one.is_worse else line


def _summary(ranges: Sequence[WeightRange]) -> str:
    changed = [one for one in ranges if one.is_changed]
    if ranges and all(one.before is None for one in ranges):
        return "nothing to compare: no operator of one model is in the other, by its name and its weight's shape"
    if not changed:
        return "no weight differs"
    worst = max(changed, key=lambda one: one.spread_after)
    return (
        f"{figures.count(len(changed), 'weight')} changed; with one scale for a whole tensor, 8 bits leave the smallest channel "
        f"at least {bits(worst.spread_after):.1f}"
    )
