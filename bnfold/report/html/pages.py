"""The pages of `bnfold optimize`, `verify` and `accuracy`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnfold.ranges import range_notes
from bnfold.report import accuracy_figures, figures
from bnfold.report.html import charts, folds
from bnfold.report.html.facts import evidence
from bnfold.report.html.models import Shown, changed_ranges, shown
from bnfold.report.html.parts import Page, Section, Tile, Tone
from bnfold.report.html.sections import (
    accuracy_section,
    accuracy_tiles,
    difference_tiles,
    error_section,
    remarks_section,
    stays_section,
    tone_of,
)

if TYPE_CHECKING:
    from bnfold.report.report import Report
    from bnfold.runtime.accuracy.result import Accuracy
    from bnfold.runtime.verification import Verification


def optimize_page(report: Report, command: str = "", original: Shown | None = None) -> Page:
    """What was folded where, what stayed and why, and everything that was measured.

    Args:
        report: of `bnfold optimize`.
        command: the command line.
        original: the model that came in, where its file has been replaced since.
    """
    plan, verification = report.plan, report.verification
    in_place = report.written and report.destination == report.source.path
    before = original or (None if in_place and not report.identical else shown(report.source.path))
    after = shown(report.destination) if report.written and not report.identical else None
    layers = verification.layers if verification is not None else ()
    ranges = changed_ranges(before, after)
    sections = [
        folds.folds_section(plan, before, after, layers, ranges, report.written),
        stays_section(report.plan.refusals),
        error_section(verification) if verification is not None else None,
        accuracy_section(report.accuracy) if report.accuracy is not None else None,
        folds.ranges_section(ranges) if after is not None else None,
        _operators(report),
        remarks_section(
            [*plan.all_notes, *range_notes(ranges or ()), *(figures.remarks(verification) if verification is not None else ())]
        ),
    ]
    files = [] if in_place else _files(("original", report.source.path, before))
    files += _files(("result", report.destination or "", after)) if report.written else []
    outcome, tone = _outcome(report)
    return Page(
        "optimize",
        report.source.path,
        outcome,
        tone,
        f"{figures.about(report.source)} · {report.elapsed_s:.1f} s",
        _tiles(report),
        [*filter(None, sections), evidence(command, files)],
    )


def verify_page(reference: str, candidate: str, verification: Verification, command: str = "") -> Page:
    """Whether two models compute the same, output by output and layer by layer."""
    before, after = shown(reference), shown(candidate)
    sections = [error_section(verification, before, after), remarks_section(figures.remarks(verification))]
    outcome = "They compute the same" if verification.ok else "They do not compute the same"
    files = _files(("original", reference, before), ("candidate", candidate, after))
    about = f"{candidate} against {reference} · {verification.elapsed_s:.1f} s"
    tiles = difference_tiles(verification)
    return Page(
        "verify", candidate, outcome, tone_of(verification.ok), about, tiles, [*filter(None, sections), evidence(command, files)]
    )


def accuracy_page(accuracy: Accuracy, command: str = "") -> Page:
    """Accuracy, flips and gates."""
    models = [accuracy.reference, *([accuracy.candidate] if accuracy.candidate is not None else [])]
    roles = ("original", "candidate") if len(models) > 1 else ("model",)
    files = [(role, score.model) for role, score in zip(roles, models, strict=True)]
    sections = [*filter(None, (accuracy_section(accuracy), remarks_section(accuracy.notes))), evidence(command, files)]
    outcome = accuracy_figures.outcome(accuracy).capitalize()
    about = " against ".join(score.model for score in reversed(models))
    return Page("accuracy", models[-1].model, outcome, tone_of(accuracy.ok), about, accuracy_tiles(accuracy), sections)


def _files(*models: tuple[str, str, Shown | None]) -> list[tuple[str, str]]:
    return [
        entry
        for role, path, model in models
        if path
        for entry in [(role, path), *((f"{role}'s data", file) for file in (model.files if model is not None else []))]
    ]


def _outcome(report: Report) -> tuple[str, Tone]:
    if not report.ok:
        return "Failed, and nothing was written", "bad"
    if not report.written:
        return "Nothing was written (dry run)", "plain"
    if report.identical:
        return "Nothing to fold: the result is identical", "plain"
    return ("Folded and verified", "good") if report.verification is not None else ("Folded, not verified", "warn")


def _tiles(report: Report) -> list[Tile]:
    plan = report.plan
    tiles = [
        Tile(
            "normalizations folded",
            f"{len(plan.folds)} of {len(plan.verdicts)}",
            figures.into(plan.folds),
            "good" if plan.folds else "plain",
        )
    ]
    tiles += difference_tiles(report.verification) if report.verification is not None else []
    if report.accuracy is not None:
        tiles += accuracy_tiles(report.accuracy)
    if report.size_after_bytes is not None:
        tiles.append(Tile("size", figures.size(report.size_after_bytes), f"was {figures.size(report.source.size_bytes)}"))
    before, after = sum(plan.operators_before.values()), sum(plan.operators_after.values())
    if after:
        tiles.append(Tile("nodes", f"{after:,}", f"were {before:,}"))
    return tiles


def _operators(report: Report) -> Section | None:
    plan = report.plan
    if not plan.folds:
        return None
    rows = [row for row in figures.changed_operators(plan) if row[0] != "other"]
    return Section("operators", "Operators", (charts.operators(rows),))
