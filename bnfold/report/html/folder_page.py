"""The page of `bnfold optimize` on a folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnfold.report.html.facts import evidence
from bnfold.report.html.parts import Cell, Column, Lines, Page, Section, Table, TableRow, Tile, chip, code, figure, words
from bnfold.report.html.sections import tone_of
from bnfold.verdict import Fold, Verdict

if TYPE_CHECKING:
    from bnfold.report.folder import FolderReport, Outcome


def folder_page(report: FolderReport, command: str = "") -> Page:
    """One row for each model of a folder, and one for each normalization."""
    columns = (Column("model"), Column(""), Column("folded"), Column("max |Δ|", True), Column("what went wrong", True))
    models = Table("Models", columns, tuple(_model(one) for one in report.outcomes), "model")
    decided = [(one.path, one.report.plan) for one in report.outcomes if one.report is not None]
    rows = tuple(_normalization(path, verdict) for path, plan in decided for verdict in plan.verdicts)
    titles = (Column("model", True), Column("normalization"), Column("verdict"), Column("into, or why not", True))
    table = Table("Every normalization and its verdict", titles, rows, "normalization")
    sections = [Section("models", "Models", (models,))]
    sections += [Section("normalizations", "Normalizations", (table,))] if rows else []
    sections += [Section("copied", "Other files", (Lines(report.copied),))] if report.copied else []
    sections.append(evidence(command, [("model", one.path) for one in report.outcomes]))
    good, tone = len(report.outcomes) - len(report.failed), tone_of(report.ok)
    tiles = [Tile("models folded", f"{good} of {len(report.outcomes)}", tone=tone), Tile("seconds", f"{report.elapsed_s:.1f}")]
    outcome = "Some models failed" if not report.ok else "Folded" if report.destination else "Nothing was written (dry run)"
    return Page("optimize", report.source, outcome, tone, report.destination or "dry run", tiles, sections)


def _model(one: Outcome) -> TableRow:
    plan, verification = (one.report.plan, one.report.verification) if one.report is not None else (None, None)
    worst = verification.worst if verification is not None else None
    folded = Cell(f"{len(plan.folds)} of {len(plan.verdicts)}", len(plan.folds), "number") if plan is not None else figure(None)
    difference = figure(None if worst is None else worst.worst.max_abs_diff, "{:.1e}")
    return TableRow((code(one.path), chip("ok" if one.ok else "failed", tone_of(one.ok)), folded, difference, words(one.failure)))


def _normalization(path: str, verdict: Verdict) -> TableRow:
    place = "/".join(filter(None, (verdict.normalization.scope, verdict.normalization.name)))
    if isinstance(verdict, Fold):
        return TableRow((code(path), code(place), chip("folds", "good"), words(", ".join(verdict.into))))
    return TableRow((code(path), code(place), chip(verdict.code, "warn"), words(verdict.sentence)))
