"""What the pages of several commands have in common: errors, accuracy, remarks, and the figures above them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from bnfold.report import accuracy_figures, figures
from bnfold.report.html import charts, folds
from bnfold.report.html.models import Shown
from bnfold.report.html.parts import (
    Block,
    Cell,
    Column,
    Facts,
    Group,
    Groups,
    Lines,
    Section,
    Table,
    TableRow,
    Tile,
    Tone,
    chip,
    code,
    figure,
    text_rows,
    words,
)
from bnfold.verdict import Note, Refusal

if TYPE_CHECKING:
    from bnfold.runtime.accuracy.result import Accuracy
    from bnfold.runtime.verification import OutputComparison, Verification

_OUTPUT_COLUMNS = (
    Column("output"),
    Column("optimizations", minor=True),
    Column("input", minor=True),
    Column("difference", minor=True),
    Column("original's error"),
    Column("candidate's error"),
    Column(""),
)


def tone_of(ok: bool) -> Tone:
    """Good or bad."""
    return "good" if ok else "bad"


def stays_section(refusals: Iterable[Refusal]) -> Section | None:
    """The normalizations that stay, by reason; None where there are none."""
    groups = figures.refusal_groups(refusals)
    return Section("stays", "What stays, and why", (_groups(groups),)) if groups else None


def remarks_section(notes: Iterable[Note]) -> Section | None:
    """Remarks by code; None where there are none."""
    groups = figures.note_groups(notes)
    return Section("remarks", "Remarks", (_groups(groups),)) if groups else None


def error_section(verification: Verification, before: Shown | None = None, after: Shown | None = None) -> Section:
    """What was measured at every output and every layer; with both models at hand, layers open to what makes them."""
    layers = verification.layers
    blocks: list[Block] = [Lines(verification.failures, "bad")] if verification.failures else []
    if verification.first_wrong is not None and not verification.ok:
        blocks.append(Lines((f"The first layer that went wrong: {verification.first_wrong.where.replace('`', '')}.",), "bad"))
    if any(one is not None and one.max_abs > 0 for layer in layers for one in (layer.original, layer.candidate)):
        blocks.append(charts.layers(layers))
    blocks.append(Table("Every output", _OUTPUT_COLUMNS, tuple(map(_output, verification.outputs)), "output"))
    blocks += [folds.layers_table(layers, before, after)] if layers else []
    lead = figures.count(verification.feeds, "input")
    if verification.truth_feeds:
        lead += f", {verification.truth_feeds} of them evaluated in float64; errors are the largest against that"
    beside = figures.beside_truth(verification)
    return Section("error", "Error", tuple(blocks), f"{lead}. The candidate is {beside}." if beside else f"{lead}.")


def accuracy_section(accuracy: Accuracy) -> Section:
    """Scores with intervals, answers that changed, gates, and what it was counted on."""
    blocks: list[Block] = [charts.accuracy(accuracy)] if accuracy.reference.top1 is not None else []
    titles, *scores = accuracy_figures.rows(accuracy)
    rows = text_rows([(name.strip(), *rest) for name, *rest in scores], ("text", "number", "number"))
    blocks.append(Table("Scores", tuple(Column(title or "score") for title in titles), rows, "score"))
    if accuracy.pairs is not None:
        columns, *answers = accuracy_figures.table(accuracy.pairs)
        pairs = text_rows(answers, ("text", "number", "number"))
        blocks.append(
            Table("The same samples through both models", tuple(Column(title or "samples") for title in columns), pairs)
        )
        blocks.append(Lines((*accuracy_figures.flips(accuracy.pairs), f"drop {accuracy_figures.drop(accuracy.pairs)}")))
    if metric := accuracy_figures.metric_drop(accuracy):
        blocks.append(Lines((f"drop {metric}",)))
    for gate in accuracy.gates:
        told = f"{'passed' if gate.ok else 'failed'} {gate.option}: {gate.sentence}"
        blocks += [Lines((told,), tone_of(gate.ok))]
    if accuracy.tally.flips:
        flips = tuple(
            TableRow((*map(figure, (one.sample, one.label, one.reference, one.candidate)), figure(one.margin, "{:.3g}")))
            for one in accuracy.tally.flips
        )
        names = ("sample", "label", "original", "candidate", "margin")
        blocks.append(Table("The first answers that changed", tuple(map(Column, names)), flips, "sample"))
    data, sha256 = accuracy_figures.data(accuracy)
    run = accuracy_figures.execution(accuracy)
    return Section(
        "accuracy", "Accuracy", (*blocks, Facts((("data", data), ("sha256", sha256.removeprefix("sha256 ")), ("run", run))))
    )


def difference_tiles(verification: Verification) -> list[Tile]:
    """What a verification comes down to."""
    tiles, worst = [], verification.worst
    if worst is not None:
        difference, size = worst.worst.max_abs_diff, worst.worst.reference_max
        value = "identical" if difference == 0 else f"{difference:.1e}"
        tiles.append(Tile("largest difference", value, f"on values to {size:.3g}", tone_of(verification.ok)))
    if verification.argmax_total:
        changed = verification.argmax_changed
        told = f"{changed} of {verification.argmax_total}"
        tiles.append(Tile("decisions changed", told, "argmax, on the inputs tried", tone_of(not changed)))
    truths = [row.worst.truth for row in verification.outputs if row.worst.truth is not None]
    if truths:
        furthest = figures.times(max(truth.furthest for truth in truths))
        tiles.append(Tile("error against float64", furthest, "the original's, at most"))
    return tiles


def accuracy_tiles(accuracy: Accuracy) -> list[Tile]:
    """What an accuracy comes down to."""
    change = accuracy_figures.change(accuracy)
    tiles = [Tile("accuracy", change.split(" → ")[-1], change, tone_of(accuracy.ok))]
    if accuracy.pairs is None:
        return [*tiles, Tile("samples", f"{accuracy.reference.samples:,}")]
    flips = f"{accuracy.pairs.flips:,} of {accuracy.pairs.samples:,}"
    return [*tiles, Tile("answers changed", flips, tone=tone_of(not accuracy.pairs.counted_flips))]


def _groups(groups: Sequence[figures.Group]) -> Groups:
    return Groups(tuple(_group(one) for one in groups))


def _group(one: figures.Group) -> Group:
    tone: Tone = "bad" if figures.is_warning(one.code) else "warn"
    return Group(one.code, one.count, one.headline.replace("`", ""), one.remedy.replace("`", ""), one.names, tone)


def _output(row: OutputComparison) -> TableRow:
    truth = row.worst.truth
    errors = (None, None) if truth is None else (truth.original.max_abs, truth.candidate.max_abs)
    return TableRow(
        (
            code(row.output),
            words(row.level),
            words(row.feed),
            Cell(figures.difference(row), row.worst.max_abs_diff),
            *(figure(error, "{:.2e}") for error in errors),
            chip("ok" if row.ok else "failed", tone_of(row.ok)),
        )
    )
