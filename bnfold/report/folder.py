"""What `bnfold optimize FOLDER` found: one outcome for each model, and their summary as text and Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bnfold.errors import GateFailed
from bnfold.report import figures
from bnfold.report import markdown as md
from bnfold.report.page import Page, Role, Style, clean, plain
from bnfold.report.report import Report, document


@dataclass(frozen=True)
class Outcome:
    """One model of a folder.

    Attributes:
        path: the model.
        report: what was done; None where the model could not be worked on.
        error: why not, and what to do; "" otherwise.
    """

    path: str
    report: Report | None
    error: str = ""

    @property
    def ok(self) -> bool:
        """Whether the model was folded, or had nothing to fold, and the result was verified if that was asked for."""
        return self.report is not None and self.report.ok

    @property
    def failure(self) -> str:
        """Why it failed; "" where it did not."""
        if self.report is None:
            return self.error
        if self.report.accuracy is not None and not self.report.accuracy.ok:
            return " ".join(self.report.accuracy.failures)
        return "" if self.report.ok else "; ".join(self.report.verification.failures if self.report.verification else ())


@dataclass(frozen=True)
class FolderReport:
    """Every model of a folder.

    Attributes:
        source: the folder.
        destination: the mirrored folder; None when nothing was to be written.
        outcomes: one for each model, sorted by path.
        copied: other files that were copied, relative to the folder.
        elapsed_s: seconds for all of them.
    """

    source: str
    destination: str | None
    outcomes: tuple[Outcome, ...]
    copied: tuple[str, ...]
    elapsed_s: float

    @property
    def ok(self) -> bool:
        """Whether every model came through."""
        return all(outcome.ok for outcome in self.outcomes)

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """The models that did not."""
        return tuple(outcome for outcome in self.outcomes if not outcome.ok)

    def raise_for_status(self) -> None:
        """Raises `GateFailed` with every failure unless `ok`."""
        if not self.ok:
            raise GateFailed(self._failure())

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, with `schema` and the bnfold version; each model has the document of `bnfold optimize`."""
        return document(
            self._failure(),
            source=self.source,
            destination=self.destination,
            models=[
                {
                    "path": one.path,
                    "ok": one.ok,
                    "error": one.error,
                    "report": None if one.report is None else one.report.to_dict(),
                }
                for one in self.outcomes
            ],
            copied=list(self.copied),
            elapsed_s=self.elapsed_s,
        )

    def _failure(self) -> str:
        return " ".join(f"{one.path}: {one.failure}" for one in self.failed)


def folder_text(report: FolderReport, *, style: Style = plain, width: int = 100, quiet: bool = False) -> str:
    """One line for each model, then the summary; with `quiet` only the models that failed."""
    page = Page(style, width)
    shown = report.failed if quiet else report.outcomes
    if quiet and not shown:
        return ""
    column = max(len(clean(one.path)) for one in shown)
    lines = [style(clean(report.source), "strong") + f"   {_counted(report)}", ""]
    for one in shown:
        role: Role = "good" if one.ok else "bad"
        lines += page.entry("folded" if one.ok else "FAILED", f"{clean(one.path):{column}}   {_told(one)}", role)
    if quiet:
        return "\n".join(lines)
    where = "nothing (dry run)" if report.destination is None else report.destination
    copied = f" · {figures.count(len(report.copied), 'other file')} copied" if report.copied else ""
    return "\n".join([*lines, "", *page.entry("wrote", f"{where}{copied}   {report.elapsed_s:.1f} s")])


def folder_markdown(report: FolderReport) -> str:
    """A heading with the outcome and one table row for each model."""
    rows = [(md.code(one.path), "ok" if one.ok else "**failed**", md.text(_told(one))) for one in report.outcomes]
    return (
        "\n".join([f"# bnfold: {md.code(report.source)}", "", _counted(report), "", *md.table(("model", "", "what"), rows)])
        + "\n"
    )


def _counted(report: FolderReport) -> str:
    failed = len(report.failed)
    return f"{figures.count(len(report.outcomes), 'model')}{f', {failed} failed' if failed else ''}"


def _told(one: Outcome) -> str:
    return " · ".join(_facts(one)) if one.ok else one.failure


def _facts(one: Outcome) -> Iterator[str]:
    assert one.report is not None
    plan, verification = one.report.plan, one.report.verification
    yield f"{len(plan.folds)} of {figures.count(len(plan.verdicts), 'normalization')}"
    if verification is not None and verification.worst is not None:
        yield f"max |Δ| {verification.worst.worst.max_abs_diff:.1e}"
    if one.report.written:
        yield "identical" if one.report.identical else figures.resized(one.report)
