"""The screens of the terminal: plain functions that return text, one screen each, the answer in the last lines."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from bnfold.codes import LEVELS, Code
from bnfold.report import figures
from bnfold.report.figures import Group
from bnfold.report.page import INDENT, LABEL, Page, Role, Style, clean, plain
from bnfold.report.report import Inspection, ModelFacts, Report
from bnfold.report.verification_text import verification_lines
from bnfold.verdict import Fold, Normalization, Note, Plan, Verdict

if TYPE_CHECKING:
    from bnfold.runtime.verify import Verification

_NAMES_SHOWN = 4
_GROUP_COLUMN = len("   4   BNF004  ")


def optimize_text(
    report: Report,
    *,
    style: Style = plain,
    width: int = 100,
    verbose: bool = False,
    quiet: bool = False,
    per_layer: bool = False,
) -> str:
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
        lines += _remarks(page, report.verification, verbose) + verification_lines(
            page, report.verification, verbose=verbose, per_layer=per_layer
        )
    elif report.written and not report.identical:
        lines += page.entry("verified", "no, as asked (--no-verify)", "warn")
    lines += _accuracy(page, report, verbose)
    return "\n".join(lines + _outcome(page, report))


def inspect_text(inspection: Inspection, *, style: Style = plain, width: int = 100, verbose: bool = False) -> str:
    """The screen of `bnfold inspect`."""
    page = Page(style, width)
    plan, facts = inspection.plan, inspection.facts
    lines = [_header(page, facts), *_origin(page, facts, verbose), ""]
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
    per_layer: bool = False,
) -> str:
    """The screen of `bnfold verify`; with `quiet` only what is wrong."""
    page = Page(style, width)
    header = f"{style(clean(candidate), 'strong')}   against {clean(reference)}"
    if quiet and verification.ok:
        problems = _notes(page, _warnings(verification.notes), verbose)
        return "\n".join([header, *problems]) if problems else ""
    return "\n".join(
        [
            header,
            "",
            *_remarks(page, verification, verbose),
            *verification_lines(page, verification, verbose=verbose, per_layer=per_layer),
        ]
    )


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


def _origin(page: Page, facts: ModelFacts, verbose: bool) -> list[str]:
    """What the model says about its own folding."""
    lines: list[str] = []
    for run in facts.folded:
        taken = figures.takers(into for _, into in run.folds)
        told = f"{figures.count(len(run.folds), 'normalization')} ({taken})" if run.folds else ""
        made = f"by bnfold {run.version}" + (f" from sha256 {run.source_sha256}" if run.source_sha256 else "")
        lines += page.entry("" if lines else "folded", ", ".join(filter(None, (told, made))))
        for name, into in run.folds if verbose else ():
            lines += page.entry("", f"{name} → {', '.join(into)}")
    return ["", *lines] if lines else []


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
    return ", ".join(names[:_NAMES_SHOWN]) + f", … {figures.more(len(names) - _NAMES_SHOWN)}"


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
    if report.accuracy is not None and not report.accuracy.ok:
        return lines + _accuracy(page, report, False) + _outcome(page, report)
    if report.verification is None:
        return lines
    if report.verification.ok:
        return lines + _notes(page, _warnings(report.verification.notes), False)
    lines += _remarks(page, report.verification, False)
    return lines + verification_lines(page, report.verification, verbose=False) + _outcome(page, report)


def _accuracy(page: Page, report: Report, verbose: bool) -> list[str]:
    if report.accuracy is None:
        return []
    from bnfold.report.accuracy_text import accuracy_summary

    return accuracy_summary(page, report.accuracy, verbose=verbose)


def _remarks(page: Page, verification: Verification, verbose: bool) -> list[str]:
    return _notes(page, figures.remarks(verification), verbose)


def _outcome(page: Page, report: Report) -> list[str]:
    if not report.ok:
        return page.entry("", "Nothing was written.")
    if not report.written or report.destination is None:
        return page.entry("wrote", "nothing (dry run)")
    if report.identical:
        return page.entry("wrote", f"{report.destination}, identical to {report.source.path}")
    written = f"{' + '.join((report.destination, *report.data_files))}   {figures.resized(report)}"
    return page.entry("wrote", f"{written}   {figures.spent(report)}")


def _hints(page: Page, plan: Plan, verbose: bool) -> list[str]:
    margin = " " * INDENT
    codes = [group.code for group in figures.refusal_groups(plan.refusals)]
    hints = [f"`bnfold explain {codes[0]}` says what can be done about it."] if codes else []
    hints += [] if verbose else ["`-v` lists each normalization with what stands around it."]
    return ["", *(line for hint in hints for line in page.wrap(hint, margin, margin))] if hints else []
