"""What `--report` writes for each command: one table from suffix to renderer."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from bnfold.report.bench_markdown import bench_markdown
from bnfold.report.bench_text import bench_document
from bnfold.report.bench_text import sentence as claim
from bnfold.report.findings import Check, Finding, plan_findings
from bnfold.report.folder import FolderReport, folder_markdown
from bnfold.report.junit import Case, junit_xml
from bnfold.report.lint import check_markdown, line_of
from bnfold.report.markdown import optimize_markdown, verify_markdown
from bnfold.report.report import Report, verification_document
from bnfold.report.sarif import sarif_document
from bnfold.report.write import Renderings, as_json
from bnfold.verdict import Note

if TYPE_CHECKING:
    from bnfold.report.html.models import Shown
    from bnfold.runtime.bench_result import Benchmark
    from bnfold.runtime.verify import Verification


def optimize_renderings(report: Report, command: str = "", original: Shown | None = None) -> Renderings:
    """The report of `bnfold optimize`. What has been folded is no finding; what stays and what failed is.

    Args:
        report: what was done.
        command: the command line, for a page.
        original: the model that came in, for a page, where its file has been replaced since.
    """
    path = report.source.path

    def page() -> str:
        from bnfold.report.html.pages import optimize_page
        from bnfold.report.html.render import render

        return render(optimize_page(report, command, original))

    return {
        ".json": lambda: as_json(report.to_dict()),
        ".md": partial(optimize_markdown, report),
        ".xml": lambda: junit_xml("bnfold optimize", [_folding(report), *_cases(path, report.verification), *_gates(report)]),
        ".sarif": lambda: as_json(sarif_document(_after(report))),
        ".html": page,
    }


def folder_renderings(report: FolderReport, command: str = "") -> Renderings:
    """The report of `bnfold optimize` on a folder; `command` is the command line."""

    def page() -> str:
        from bnfold.report.html.folder_page import folder_page
        from bnfold.report.html.render import render

        return render(folder_page(report, command))

    return {
        ".json": lambda: as_json(report.to_dict()),
        ".md": partial(folder_markdown, report),
        ".xml": lambda: junit_xml("bnfold optimize", [Case("optimize", one.path, one.failure) for one in report.outcomes]),
        ".sarif": lambda: as_json(_folder_sarif(report)),
        ".html": page,
    }


def verify_renderings(reference: str, candidate: str, verification: Verification, command: str = "") -> Renderings:
    """The report of `bnfold verify`; `command` is the command line."""

    def page() -> str:
        from bnfold.report.html.pages import verify_page
        from bnfold.report.html.render import render

        return render(verify_page(reference, candidate, verification, command))

    return {
        ".json": lambda: as_json(verification_document(reference, candidate, verification)),
        ".md": partial(verify_markdown, reference, candidate, verification),
        ".xml": lambda: junit_xml("bnfold verify", list(_cases(candidate, verification))),
        ".sarif": lambda: as_json(sarif_document(list(_failures(candidate, verification)))),
        ".html": page,
    }


def bench_renderings(benchmark: Benchmark, command: str = "") -> Renderings:
    """The report of `bnfold bench`; `command` is the command line. A measurement is a test case that passes."""
    path = (benchmark.candidate or benchmark.original).path
    notes = {note.sentence: note for row in benchmark.rows for note in row.original.placement.notes()}

    def page() -> str:
        from bnfold.report.html.bench_page import bench_page
        from bnfold.report.html.render import render

        return render(bench_page(benchmark, command))

    return {
        ".json": lambda: as_json(bench_document(benchmark)),
        ".md": partial(bench_markdown, benchmark),
        ".xml": lambda: junit_xml("bnfold bench", [Case(row.setting, path, output=claim(row)) for row in benchmark.rows]),
        ".sarif": lambda: as_json(sarif_document([_note(path, note) for note in notes.values()])),
        ".html": page,
    }


def check_renderings(check: Check, command: str = "") -> Renderings:
    """The report of `bnfold check`; `command` is the command line."""

    def page() -> str:
        from bnfold.report.html.check_page import check_page
        from bnfold.report.html.render import render

        return render(check_page(check, command))

    return {
        ".json": lambda: as_json(check.to_dict()),
        ".md": partial(check_markdown, check),
        ".xml": lambda: junit_xml("bnfold check", list(_files(check))),
        ".sarif": lambda: as_json(sarif_document(check.findings, {one.path: one.message for one in check.unreadable})),
        ".html": page,
    }


def _after(report: Report) -> list[Finding]:
    path = report.source.path
    left = [one for one in plan_findings(path, report.plan) if one.code != "BNF003" or not report.written]
    return [*left, *_failures(path, report.verification), *_doubts(report)]


def _folder_sarif(report: FolderReport) -> dict[str, Any]:
    findings = [one for outcome in report.outcomes if outcome.report is not None for one in _after(outcome.report)]
    return sarif_document(findings, {one.path: one.error for one in report.outcomes if one.report is None})


def _files(check: Check) -> Iterator[Case]:
    broken = {one.path: one.message for one in check.unreadable}
    for path in check.files:
        failed = [line_of(one) for one in check.errors if one.path == path]
        others = [line_of(one) for one in check.findings if one.path == path and one.level != "error"]
        yield Case("check", path, broken.get(path, "") or "\n".join(failed), "\n".join(others))


def _folding(report: Report) -> Case:
    told = f"{len(report.plan.folds)} of {len(report.plan.verdicts)} normalizations folded"
    return Case("fold", report.source.path, output=told, elapsed_s=report.elapsed_s)


def _cases(path: str, verification: Verification | None) -> Iterator[Case]:
    """One case for each output and optimization level, and one for what concerns no single output."""
    if verification is None:
        return
    told: set[str] = set()
    for row in verification.outputs:
        failed = [sentence for sentence in verification.failures if f"`{row.output}`" in sentence] if not row.ok else []
        told.update(failed)
        yield Case(f"output {row.output}, optimizations {row.level}", path, "\n".join(failed))
    rest = [sentence for sentence in verification.failures if sentence not in told]
    yield Case("verification", path, "\n".join(rest), elapsed_s=verification.elapsed_s)


def _gates(report: Report) -> list[Case]:
    if report.accuracy is None:
        return []
    from bnfold.report.accuracy_report import accuracy_cases

    return accuracy_cases(report.accuracy)


def _doubts(report: Report) -> list[Finding]:
    if report.accuracy is None:
        return []
    from bnfold.report.accuracy_report import accuracy_findings

    return accuracy_findings(report.accuracy)


def _failures(path: str, verification: Verification | None) -> Iterator[Finding]:
    if verification is None:
        return
    for sentence in verification.failures:
        yield Finding(path, "BNF040", "", "", sentence)
    for note in verification.notes:
        if note.sentence not in verification.failures:
            yield _note(path, note)


def _note(path: str, note: Note) -> Finding:
    return Finding(path, note.code, note.node, note.scope, note.sentence)
