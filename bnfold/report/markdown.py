"""The report of `bnfold optimize` as Markdown, for a pull request or a build's summary."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bnfold import __version__
from bnfold.report import figures
from bnfold.report.page import clean
from bnfold.report.report import Report
from bnfold.verdict import Fold


def optimize_markdown(report: Report) -> str:
    """A heading with the outcome, then operators, what stays, remarks, and what was measured."""
    plan = report.plan
    lines = [
        f"# bnfold: {_code(report.source.path)}",
        "",
        f"{_outcome(report)} {len(plan.folds)} of {figures.count(len(plan.verdicts), 'normalization')} folded.",
        "",
        f"* before: {_text(figures.about(report.source))}",
        *([f"* after: {figures.resized(report)}"] if report.written else []),
        f"* bnfold {__version__}, {report.elapsed_s:.1f} s",
    ]
    if plan.folds:
        operators = figures.changed_operators(plan)
        lines += ["", "## Operators", "", *_table(("operator", "before", "after"), operators)]
    lines += _verification(report)
    lines += _findings("Stays", figures.refusal_groups(plan.refusals))
    lines += _findings("Remarks", figures.note_groups(plan.all_notes))
    return "\n".join(lines + _normalizations(report)) + "\n"


def _outcome(report: Report) -> str:
    if not report.ok:
        return "**The verification failed, and nothing was written.**"
    if not report.written or report.destination is None:
        return "**Nothing was written (dry run).**"
    same = ", identical to the original" if report.identical else ""
    return f"**Wrote {_code(report.destination)}{same}.**"


def _verification(report: Report) -> list[str]:
    verification = report.verification
    if verification is None:
        return ["", "## Verification", "", "Not done."]
    rows = [
        (_code(row.output), row.level, row.feed, figures.difference(row), "ok" if row.ok else "**failed**")
        for row in verification.outputs
    ]
    lines = ["", "## Verification", "", *_table(("output", "optimizations", "input", "difference", ""), rows)]
    lines += ["", *(f"* {_text(failure)}" for failure in verification.failures)] if verification.failures else []
    return lines + _findings("Remarks on the verification", figures.note_groups(figures.remarks(verification)))


def _findings(heading: str, groups: Sequence[figures.Group]) -> list[str]:
    if not groups:
        return []
    rows = [(group.count, group.code, _text(". ".join(filter(None, (group.headline, group.remedy))))) for group in groups]
    return ["", f"## {heading}", "", *_table(("", "code", "what"), rows)]


def _normalizations(report: Report) -> list[str]:
    if not report.plan.verdicts:
        return []
    rows = []
    for verdict in report.plan.verdicts:
        told = f"into {', '.join(verdict.into)}" if isinstance(verdict, Fold) else f"{verdict.code}: {verdict.sentence}"
        one = verdict.normalization
        rows.append((_code(one.name), *map(_text, (one.scope, one.producer, ", ".join(one.readers), told))))
    summary = f"<details><summary>Every normalization ({len(rows)})</summary>"
    table = _table(("normalization", "scope", "reads", "read by", "verdict"), rows)
    return ["", summary, "", *table, "", "</details>"]


def _table(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    lines = [f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}"]
    return lines + [f"| {' | '.join(_cell(value) for value in row)} |" for row in rows]


def _cell(value: object) -> str:
    return clean(str(value)).replace("|", "\\|")


def _code(text: str) -> str:
    return f"`{clean(text).replace('`', chr(39))}`" if text else ""


def _text(text: str) -> str:
    return clean(text).replace("<", "&lt;")
