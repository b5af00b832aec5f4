"""The report of `bnfold optimize` as Markdown, for a pull request or a build's summary."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from bnfold import __version__
from bnfold.report import figures
from bnfold.report.page import clean
from bnfold.report.report import Report
from bnfold.verdict import Fold

if TYPE_CHECKING:
    from bnfold.runtime.verification import OutputComparison, Verification


def optimize_markdown(report: Report) -> str:
    """A heading with the outcome, then operators, what stays, remarks, and what was measured."""
    plan = report.plan
    lines = [
        f"# bnfold: {code(report.source.path)}",
        "",
        f"{_outcome(report)} {len(plan.folds)} of {figures.count(len(plan.verdicts), 'normalization')} folded.",
        "",
        f"* before: {text(figures.about(report.source))}",
        *([f"* after: {figures.resized(report)}"] if report.written else []),
        f"* bnfold {__version__}, {report.elapsed_s:.1f} s",
    ]
    if plan.folds:
        operators = figures.changed_operators(plan)
        lines += ["", "## Operators", "", *table(("operator", "before", "after"), operators)]
    lines += _verification(report) + _accuracy(report)
    lines += _findings("Stays", figures.refusal_groups(plan.refusals))
    lines += _findings("Remarks", figures.note_groups(plan.all_notes))
    return "\n".join(lines + _normalizations(report)) + "\n"


def verify_markdown(reference: str, candidate: str, verification: Verification) -> str:
    """A heading with the outcome, and what was measured."""
    outcome = "They compute the same." if verification.ok else "They do not compute the same."
    lines = [f"# bnfold verify: {code(candidate)} against {code(reference)}", "", f"**{outcome}**", *_measured(verification)]
    return "\n".join(lines) + "\n"


def _outcome(report: Report) -> str:
    if not report.ok:
        what = "The verification" if report.verification is not None and not report.verification.ok else "A gate on labelled data"
        return f"**{what} failed, and nothing was written.**"
    if not report.written or report.destination is None:
        return "**Nothing was written (dry run).**"
    same = ", identical to the original" if report.identical else ""
    return f"**Wrote {code(report.destination)}{same}.**"


def _verification(report: Report) -> list[str]:
    return ["", "## Verification", "", "Not done."] if report.verification is None else _measured(report.verification)


def _accuracy(report: Report) -> list[str]:
    if report.accuracy is None:
        return []
    from bnfold.report.accuracy_report import accuracy_sections

    return ["", "## Accuracy", *accuracy_sections(report.accuracy)]


def _measured(verification: Verification) -> list[str]:
    outcome = ("ok", "**failed**")
    rows = [
        (code(row.output), row.level, row.feed, figures.difference(row), *_errors(row), outcome[not row.ok])
        for row in verification.outputs
    ]
    titles = ("output", "optimizations", "input", "difference", "original's error", "candidate's error", "")
    lines = ["", "## Verification", "", *table(titles, rows)]
    if verification.truth_feeds:
        inputs = figures.count(verification.truth_feeds, "input")
        lines += ["", f"Errors are the largest against float64, on {inputs} of {verification.feeds}."]
    if beside := figures.beside_truth(verification):
        lines += ["", f"The candidate is {beside}."]
    failures = list(verification.failures)
    if failures and verification.first_wrong is not None:
        failures.append(f"The first layer that went wrong: {verification.first_wrong.where}.")
    lines += ["", *(f"* {text(failure)}" for failure in failures)] if failures else []
    return (
        lines
        + _layers(verification)
        + _findings("Remarks on the verification", figures.note_groups(figures.remarks(verification)))
    )


def _errors(row: OutputComparison) -> tuple[str, str]:
    truth = row.worst.truth
    return ("", "") if truth is None else (f"{truth.original.max_abs:.2e}", f"{truth.candidate.max_abs:.2e}")


def _layers(verification: Verification) -> list[str]:
    if not verification.layers:
        return []
    rows = [(text(layer.where), code(layer.tensor), *figures.layer_cells(layer)) for layer in verification.layers]
    summary = f"<details><summary>Every layer against float64 ({len(rows)})</summary>"
    return ["", summary, "", *table(("layer", "tensor", *figures.LAYER_COLUMNS), rows), "", "</details>"]


def _findings(heading: str, groups: Sequence[figures.Group]) -> list[str]:
    if not groups:
        return []
    rows = [(group.count, group.code, text(". ".join(filter(None, (group.headline, group.remedy))))) for group in groups]
    return ["", f"## {heading}", "", *table(("", "code", "what"), rows)]


def _normalizations(report: Report) -> list[str]:
    if not report.plan.verdicts:
        return []
    rows = []
    for verdict in report.plan.verdicts:
        told = f"into {', '.join(verdict.into)}" if isinstance(verdict, Fold) else f"{verdict.code}: {verdict.sentence}"
        one = verdict.normalization
        rows.append((code(one.name), *map(text, (one.scope, one.producer, ", ".join(one.readers), told))))
    summary = f"<details><summary>Every normalization ({len(rows)})</summary>"
    rows_table = table(("normalization", "scope", "reads", "read by", "verdict"), rows)
    return ["", summary, "", *rows_table, "", "</details>"]


def table(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """The lines of a table."""
    lines = [f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}"]
    return lines + [f"| {' | '.join(_cell(value) for value in row)} |" for row in rows]


def _cell(value: object) -> str:
    return clean(str(value)).replace("|", "\\|")


def code(name: str) -> str:
    """A name in code style."""
    return f"`{clean(name).replace('`', chr(39))}`" if name else ""


def text(words: str) -> str:
    """Words that hold no markup."""
    return clean(words).replace("<", "&lt;")
