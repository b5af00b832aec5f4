"""The screens of the terminal: plain functions that return text, one screen each, the answer in the last lines."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from bnfold.codes import LEVELS, Code
from bnfold.report import figures
from bnfold.report.figures import Group
from bnfold.report.page import INDENT, LABEL, TIED, Page, Role, Style, clean, plain
from bnfold.report.report import Inspection, ModelFacts, Report
from bnfold.verdict import Fold, Normalization, Note, Plan, Verdict

if TYPE_CHECKING:
    from bnfold.runtime.verify import OutputComparison, Verification

_NAMES_SHOWN = 4
_ROWS_SHOWN = 4
_WIDEST_NAME = 40
_GROUP_COLUMN = len("   4   BNF004  ")


def optimize_text(report: Report, *, style: Style = plain, width: int = 100, verbose: bool = False, quiet: bool = False) -> str:
    """The screen of `bnfold optimize`; with `quiet` only what is wrong, which may be nothing at all."""
    page = Page(style, width)
    if quiet:
        problems = _problems(page, report)
        return "\n".join([_header(page, report.source), *problems]) if problems else ""
    lines = [_header(page, report.source), ""]
    if report.plan.folds:
        lines += [*_operators(page, report.plan), ""]
    if verbose:
        lines += _verdicts(page, report.plan.verdicts)
    lines += _folded(page, report, verbose)
    lines += _notes(page, report.plan.all_notes, verbose)
    if report.verification is not None:
        lines += _remarks(page, report.verification, verbose) + _verification(page, report.verification, verbose)
    elif report.written and not report.identical:
        lines += page.entry("verified", "no, as asked (--no-verify)", "warn")
    return "\n".join(lines + _outcome(page, report))


def inspect_text(inspection: Inspection, *, style: Style = plain, width: int = 100, verbose: bool = False) -> str:
    """The screen of `bnfold inspect`."""
    page = Page(style, width)
    plan, facts = inspection.plan, inspection.facts
    lines = [_header(page, facts), ""]
    if not plan.verdicts:
        return "\n".join(lines + page.entry("folds", figures.NOTHING_TO_FOLD) + _notes(page, plan.notes, verbose))
    if verbose:
        lines += _verdicts(page, plan.verdicts)
    total = f"{figures.count(len(plan.verdicts), 'normalization')}: {len(plan.folds)} fold, {len(plan.refusals)} stay"
    lines += [" " * INDENT + style(total, "strong"), ""]
    if plan.folds:
        lines += page.entry("folds", f"{len(plan.folds):4}   into {figures.into(plan.folds)}", "good")
    if command := figures.freeze_command(plan, facts.path):
        lines += page.entry("stays", figures.overridable(facts), "warn") + _advice(page, command)
    else:
        lines += _groups(page, "stays", figures.refusal_groups(plan.refusals), verbose)
    lines += _notes(page, plan.all_notes, verbose)
    return "\n".join(lines + _hints(page, plan, verbose))


def verify_text(
    reference: str,
    candidate: str,
    verification: Verification,
    *,
    style: Style = plain,
    width: int = 100,
    verbose: bool = False,
    quiet: bool = False,
) -> str:
    """The screen of `bnfold verify`; with `quiet` only what is wrong."""
    page = Page(style, width)
    header = f"{style(clean(candidate), 'strong')}   against {clean(reference)}"
    if quiet and verification.ok:
        problems = _notes(page, _warnings(verification.notes), verbose)
        return "\n".join([header, *problems]) if problems else ""
    return "\n".join([header, "", *_remarks(page, verification, verbose), *_verification(page, verification, verbose)])


def explain_text(code: Code, *, style: Style = plain, width: int = 100) -> str:
    """The page of `bnfold explain CODE`."""
    page = Page(style, width)
    margin = " " * INDENT
    lines = [f"{style(code.code, 'strong')}  {code.title}", f"{code.level}: {LEVELS[code.level]}"]
    for heading, body in (
        ("What it means", code.meaning),
        ("What to do", code.remedy),
        ("Safe to ignore?", code.ignore),
    ):
        lines += ["", style(heading, "strong"), *page.wrap(body, margin, margin)]
        if body is code.meaning:
            for when, model in (("Before", code.before), ("After", code.after)):
                lines += ["", style(when, "strong"), *textwrap.indent(model, margin).splitlines()]
    return "\n".join(lines)


def _header(page: Page, facts: ModelFacts) -> str:
    return f"{page.style(clean(facts.path), 'strong')}   {clean(figures.about(facts))}"


def _operators(page: Page, plan: Plan) -> list[str]:
    rows = figures.changed_operators(plan)
    column = max(20, *(len(clean(name)) for name, _, _ in rows))
    lines = [page.style(f"{'':{INDENT + column}}{'before':>8}{'after':>8}", "dim")]
    return lines + [f"{'':{INDENT}}{clean(name):{column}}{before:>8}{after:>8}" for name, before, after in rows]


def _verdicts(page: Page, verdicts: Sequence[Verdict]) -> list[str]:
    lines: list[str] = []
    label: str
    role: Role
    for verdict in verdicts:
        name, around = verdict.normalization.name, _around(verdict.normalization)
        if isinstance(verdict, Fold):
            label, role = "folds", "good"
            told = [f"{name}   into {', '.join(verdict.into)}", around]
        else:
            label, role = "stays", "warn"
            told = [f"{name}   {verdict.code}  {verdict.sentence}", around, *filter(None, [verdict.remedy])]
        told += [f"{note.code}  {note.sentence}" for note in verdict.notes]
        whole = page.entry(label, "   ".join(told), role)  # on one line, if it fits, for grep
        lines += whole if len(whole) == 1 else page.entry(label, told[0], role)
        for text in told[1:] if len(whole) > 1 else ():
            lines += page.entry("", text)
    return [*lines, ""] if lines else []


def _around(normalization: Normalization) -> str:
    around = f"{normalization.producer or 'graph input'} → {', '.join(normalization.readers) or 'no reader'}"
    facts = [] if normalization.op_type == "BatchNormalization" else [normalization.op_type]
    facts += [] if normalization.channels is None else [figures.count(normalization.channels, "channel")]
    facts += [] if normalization.epsilon is None else [f"epsilon {normalization.epsilon:.3g}"]
    facts += [f"in {normalization.scope}"] if normalization.scope else []
    return around + (f"   ({', '.join(facts)})" if facts else "")


def _folded(page: Page, report: Report, verbose: bool) -> list[str]:
    plan = report.plan
    label = "folds" if report.ok and not report.written else "folded"
    if not plan.verdicts:
        return page.entry(label, figures.NOTHING_TO_FOLD)
    answer = f"{len(plan.folds)} of {figures.count(len(plan.verdicts), 'normalization')}"
    if command := figures.freeze_command(plan, report.source.path):
        return page.entry(label, f"{answer}: {figures.overridable(report.source)}", "warn") + _advice(page, command)
    if plan.folds:
        answer += f"   ({figures.into(plan.folds)})"
    lines = page.entry(label, answer, "good" if plan.folds else "warn")
    return lines + _groups(page, "stays", figures.refusal_groups(plan.refusals), verbose)


def _advice(page: Page, command: str) -> list[str]:
    # The command stands on its own line, unwrapped and unchanged, so that it can be copied.
    lines = page.entry("", "If nobody overrides them, which is the usual case:")
    return [*lines, f"{'':{INDENT + LABEL}}{page.style(clean(command), 'strong')}"]


def _groups(page: Page, label: str, groups: Sequence[Group], verbose: bool) -> list[str]:
    lines = []
    for position, group in enumerate(groups):
        headline = f"{group.count:4}   {group.code}  {group.headline}"
        lines += page.entry(label if position == 0 else "", headline, "warn", _GROUP_COLUMN)
        beside = " " * (INDENT + LABEL + _GROUP_COLUMN)
        if group.names:
            lines += [page.style(line, "dim") for line in page.wrap(_names(group.names, verbose), beside, beside)]
        if group.remedy:
            lines += page.wrap(group.remedy, beside, beside)
    return lines


def _names(names: Sequence[str], verbose: bool) -> str:
    if verbose or len(names) <= _NAMES_SHOWN:
        return ", ".join(names)
    return ", ".join(names[:_NAMES_SHOWN]) + f", … {_more(len(names) - _NAMES_SHOWN)}"


def _notes(page: Page, notes: Sequence[Note], verbose: bool) -> list[str]:
    remarks = [note for note in notes if not figures.is_warning(note.code)]
    lines = _groups(page, "warnings", figures.note_groups(_warnings(notes)), verbose)
    return lines + _groups(page, "notes", figures.note_groups(remarks), verbose)


def _warnings(notes: Iterable[Note]) -> list[Note]:
    return [note for note in notes if figures.is_warning(note.code)]


def _problems(page: Page, report: Report) -> list[str]:
    broken = [refusal for refusal in report.plan.refusals if figures.is_warning(refusal.code)]
    lines = _groups(page, "stays", figures.refusal_groups(broken), False)
    lines += _notes(page, _warnings(report.plan.all_notes), False)
    if report.verification is None:
        return lines
    if report.verification.ok:
        return lines + _notes(page, _warnings(report.verification.notes), False)
    lines += _remarks(page, report.verification, False)
    return lines + _verification(page, report.verification, False) + _outcome(page, report)


def _verification(page: Page, verification: Verification, verbose: bool) -> list[str]:
    shown = None if verbose else _ROWS_SHOWN
    lines: list[str] = []
    for text in [*_some(verification.failures, shown), *_measured(verification, shown)]:
        label = ("verified" if verification.ok else "FAILED") if not lines else ""
        lines += page.entry(label, text, "good" if verification.ok else "bad")
    return lines


def _remarks(page: Page, verification: Verification, verbose: bool) -> list[str]:
    return _notes(page, figures.remarks(verification), verbose)


def _measured(verification: Verification, shown: int | None) -> list[str]:
    """One line for one output; otherwise what they have in common and a table of the worst, or with `shown` None of all."""
    rows = figures.worst_by_output(verification)
    on_inputs = f"on {figures.count(verification.feeds, 'input')}"
    if not rows:
        return [] if verification.failures else [f"nothing to compare {on_inputs}"]
    if shown is not None and len(rows) == 1:
        return [f"{figures.difference(rows[0])} · {on_inputs}"]
    decided = figures.argmax(row for row in verification.outputs if row.level == "disabled")
    common = " · ".join([f"{figures.count(len(rows), 'output')} {on_inputs}", *decided])
    if shown is None:
        where = [f"{row.level}, {row.feed}" for row in verification.outputs]
        return [common, *_table(verification.outputs, where)]
    title, *lines = _table(rows, [""] * len(rows))
    return [common, title, *_some(lines, shown)]


def _table(rows: Sequence[OutputComparison], where: Sequence[str]) -> list[str]:
    """Aligned columns, titles first; lines may end only before `where`."""
    column = max(len("output"), *(min(len(clean(row.output)), _WIDEST_NAME) for row in rows))
    cells = [("output", *figures.COLUMNS), *((clean(row.output), *figures.measured(row)) for row in rows)]
    lines = [f"{name:{column}}{''.join(f'{cell:>10}' for cell in numbers)}" for name, *numbers in cells]
    ends = [f"   {at}" if at else "" for at in ("optimizations, input" if any(where) else "", *where)]
    return [line.replace(" ", TIED) + end for line, end in zip(lines, ends, strict=True)]


def _some(texts: Sequence[str], shown: int | None) -> list[str]:
    if shown is None or len(texts) <= shown:
        return list(texts)
    return [*texts[:shown], f"… {_more(len(texts) - shown)}"]


def _more(number: int) -> str:
    return f"({number} more, -v for all)".replace(" ", TIED)


def _outcome(page: Page, report: Report) -> list[str]:
    if not report.ok:
        return page.entry("", "Nothing was written.")
    if not report.written or report.destination is None:
        return page.entry("wrote", "nothing (dry run)")
    if report.identical:
        return page.entry("wrote", f"{report.destination}, identical to {report.source.path}")
    written = f"{' + '.join((report.destination, *report.data_files))}   {figures.resized(report)}"
    return page.entry("wrote", f"{written}   {report.elapsed_s:.1f} s")


def _hints(page: Page, plan: Plan, verbose: bool) -> list[str]:
    margin = " " * INDENT
    codes = [group.code for group in figures.refusal_groups(plan.refusals)]
    hints = [f"`bnfold explain {codes[0]}` says what can be done about it."] if codes else []
    hints += [] if verbose else ["`-v` lists each normalization with what stands around it."]
    return ["", *(line for hint in hints for line in page.wrap(hint, margin, margin))] if hints else []
