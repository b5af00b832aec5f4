"""The screen of `bnfold export`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnfold.report import figures
from bnfold.report.exported import Agreement, Diagnostic, ExportReport
from bnfold.report.page import INDENT, LABEL, Page, Role, Style, clean, plain

if TYPE_CHECKING:
    from bnfold.runtime.compare import Comparison

_NAMES_SHOWN = 4
_CODE_COLUMN = len("   4   BNF001  ")


def export_text(
    report: ExportReport, *, style: Style = plain, width: int = 100, verbose: bool = False, quiet: bool = False
) -> str:
    """What was found in the module, whether the files agree with it, and what was written; with `quiet` only problems."""
    page = Page(style, width)
    problems = _diagnostics(page, report, verbose)
    if quiet and report.ok:
        return "\n".join([_header(page, report), *problems]) if problems else ""
    lines = [_header(page, report), "", *_module(page, report), *problems]
    if report.kept or report.agreements:
        axis = "batch dynamic" if report.dynamic_batch else "shapes fixed"
        kept = figures.count(report.kept, "BatchNormalization")
        lines += page.entry("exported", f"opset {report.opset} · IR {report.ir_version} · {axis} · {kept} kept")
    for place, each in enumerate(report.agreements):
        lines += _agreement(page, each, "agrees" if place == 0 else "", verbose)
    if report.folded is not None:
        plan = report.folded.plan
        into = f"   ({figures.into(plan.folds)})" if plan.folds else ""
        stays = "".join(f" · {group.count} stay {group.code}" for group in figures.refusal_groups(plan.refusals))
        answer = f"{len(plan.folds)} of {figures.count(len(plan.verdicts), 'normalization')}{into}{stays}"
        lines += page.entry("folded", answer, "good" if plan.folds else "warn")
    return "\n".join(lines + _outcome(page, report))


def _header(page: Page, report: ExportReport) -> str:
    weights = f" · weights {clean(report.weights)}" if report.weights else ""
    return f"{page.style(clean(report.source), 'strong')}   torch {report.torch}{weights}"


def _module(page: Page, report: ExportReport) -> list[str]:
    total = sum(report.normalizations.values())
    kinds = ", ".join(f"{kind} {number}" for kind, number in report.normalizations.items())
    lines = page.entry("module", figures.count(total, "normalization layer") + (f"   ({kinds})" if kinds else ""))
    if report.set_to_eval:
        # Every module is made in training mode, so this is no warning.
        what = {"BNF001": "normalization", "BNF002": "Dropout"}
        among = [f"{figures.count(len(each.names), what[each.code])} ({each.code})" for each in _modes(report)]
        parts = f"{figures.count(report.set_to_eval, 'part')} of the module in training mode"
        lines += page.entry("eval()", f"called: {parts}" + (f", {' and '.join(among)} among them" if among else ""))
    return lines


def _modes(report: ExportReport) -> list[Diagnostic]:
    return [each for each in report.diagnostics if each.code in ("BNF001", "BNF002") and not each.fatal]


def _diagnostics(page: Page, report: ExportReport, verbose: bool) -> list[str]:
    lines: list[str] = []
    for fatal, label in ((True, "REFUSED"), (False, "warnings")):
        told = [] if verbose else _modes(report)
        rows = [each for each in report.diagnostics if each.fatal is fatal and each not in told]
        for place, each in enumerate(rows):
            lines += _diagnostic(page, each, label if place == 0 else "", verbose)
    return lines


def _diagnostic(page: Page, each: Diagnostic, label: str, verbose: bool) -> list[str]:
    role: Role = "bad" if each.fatal else "warn"
    lines = page.entry(label, f"{len(each.names):4}   {each.code}  {each.sentence}", role, _CODE_COLUMN)
    shown = each.names if verbose or len(each.names) <= _NAMES_SHOWN else each.names[:_NAMES_SHOWN]
    more = f", … ({len(each.names) - len(shown)} more, -v for all)" if len(shown) < len(each.names) else ""
    margin = " " * (INDENT + LABEL + _CODE_COLUMN)
    lines += [page.style(line, "dim") for line in page.wrap(", ".join(shown) + more, margin, margin)]
    return lines + page.wrap(each.remedy, margin, margin)


def _agreement(page: Page, each: Agreement, label: str, verbose: bool) -> list[str]:
    role: Role = "good" if each.ok else "bad"
    label = label if each.ok else "DIFFERS"
    pair = f"{each.left} and {each.right}"
    on = figures.count(each.inputs, "input")
    rows = sorted(each.comparisons, key=lambda row: (row[2].ok, -row[2].severity))
    lines: list[str] = []
    for place, (output, feed, found) in enumerate(rows if verbose else rows[:1]):
        words = ["identical"] if found.max_abs_diff == 0 and found.ok else []
        words = words or [f"max |Δ| {found.max_abs_diff:.1e}", f"allowed {found.allowed:.1e}"]
        where = f" · {clean(output)}, {feed}" if verbose else ""
        words += _decisions(found) or [on]
        lines += page.entry(label if place == 0 else "", f"{pair:22} {' · '.join(words)}{where}", role)
    for failure in each.failures:
        lines += page.entry("", failure)
    return lines


def _decisions(found: Comparison) -> list[str]:
    if len(found.shape) != 2 or not found.argmax_total:  # only an output [N, K] decides between K classes
        return []
    same = found.argmax_total - found.argmax_changed
    return [f"argmax same on {same} of {found.argmax_total}"]


def _outcome(page: Page, report: ExportReport) -> list[str]:
    if report.folded is not None and not report.folded.ok and report.folded.verification is not None:
        failures = report.folded.verification.failures
        return [
            *(line for text in failures for line in page.entry("FAILED", text, "bad")),
            *page.entry("", "Nothing was written."),
        ]
    if not report.written or report.size_bytes is None:
        return page.entry("", "Nothing was written.")
    return page.entry("wrote", f"{report.destination}   {figures.size(report.size_bytes)}   {report.elapsed_s:.1f} s")
