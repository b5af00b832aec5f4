"""The tables of normalizations, of layers and of weight ranges, with the graph around each row inside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bnfold.ranges import WeightRange, bits, starved
from bnfold.report import figures
from bnfold.report.html import charts
from bnfold.report.html.models import MOST_BYTES, Shown
from bnfold.report.html.neighbourhood import Picture, apart, around
from bnfold.report.html.parts import Cell, Column, Facts, Lines, Section, Table, TableRow, chip, code, figure, words
from bnfold.report.html.render import inside
from bnfold.runtime.layers import Layer
from bnfold.verdict import Fold, Plan, Verdict

_CHARTS = 100
_COLUMNS = (
    Column("normalization"),
    Column("verdict"),
    Column("into, or why not", minor=True),
    Column("channels", minor=True),
    Column("layer error", minor=True),
    Column("weight spread", minor=True),
)
_LAYER_COLUMNS = (
    Column("layer"),
    Column("original", minor=True),
    Column("candidate"),
    Column("float64 Δ", minor=True),
    Column("of limit"),
)
_RANGE_COLUMNS = (
    Column("operator"),
    Column("channels", minor=True),
    Column("max |w| before", minor=True),
    Column("max |w| after", minor=True),
    Column("spread before"),
    Column("spread after"),
    Column("bits left"),
    Column("channels below 4 bits", minor=True),
)
_RANGE_LEAD = (
    "What a calibration for int8 will see. The spread is how many times as far as the narrowest output channel the widest one "
    "reaches: with one scale for the whole tensor, each doubling costs the narrowest channel one of its 8 bits; with one for "
    "each channel, nothing."
)


def folds_section(
    plan: Plan,
    before: Shown | None,
    after: Shown | None,
    layers: Sequence[Layer],
    ranges: Sequence[WeightRange] | None,
    written: bool,
) -> Section | None:
    """Every normalization with its verdict; None where there is none.

    Args:
        plan: the verdicts.
        before: the original; None where it is not at hand.
        after: the result, likewise.
        layers: what was measured at some of them.
        ranges: the weights that changed; None where they were not read.
        written: whether the folds were made.
    """
    if not plan.verdicts:
        return None
    of_operator = {(one.scope, one.operator): one for one in ranges or ()}
    drawn = set(list(of_operator)[:_CHARTS])
    errors = {layer.tensor: layer for layer in layers}
    rows = []
    for verdict in plan.verdicts:
        scope = verdict.normalization.scope
        pictures = around(verdict, before.graphs.get(scope) if before else None, after.graphs.get(scope) if after else None)
        keys = [(scope, label) for label in getattr(verdict, "into", ()) if (scope, label) in of_operator]
        pages = [charts.channels(of_operator[key]) for key in keys if key in drawn]
        error = None if scope else errors.get(verdict.normalization.output)
        content = inside(*pictures, ("before", "after"), _facts(verdict), pages)
        rows.append(TableRow(_cells(verdict, [of_operator[key] for key in keys], error, written), content))
    rows[0] = replace(rows[0], opened=True)
    lead = f"Each row opens to the graph around the normalization{', before and after' if after is not None else ''}."
    lead += " Dashed is what goes, green what takes it." if plan.folds else ""
    if len(of_operator) > _CHARTS:
        lead += f" The channels of the first {_CHARTS} operators are drawn."
    table = Table("Every normalization and its verdict", _COLUMNS, tuple(rows), "normalization")
    return Section("normalizations", "Normalizations", (table,), lead)


def ranges_section(ranges: Sequence[WeightRange] | None) -> Section | None:
    """What int8 calibration will see; None where no weight has changed."""
    if ranges is None:
        told = f"Not read: the weights are not at hand, or larger than {figures.size(MOST_BYTES)}."
        return Section("ranges", "Weight ranges", (Lines((told,)),))
    if not ranges:
        return None
    table = Table("Weight ranges of the folded operators", _RANGE_COLUMNS, tuple(_range(one) for one in ranges), "operator")
    return Section("ranges", "Weight ranges", (charts.spreads(ranges), table), _RANGE_LEAD)


def layers_table(layers: Sequence[Layer], before: Shown | None = None, after: Shown | None = None) -> Table:
    """Every layer against float64; with both models at hand, each opens to what makes it in them."""
    rows = []
    for layer in layers:
        pictures: tuple[Picture | None, Picture | None] = (None, None)
        if before is not None and after is not None:
            pictures = apart(layer.tensor, before.graphs[""], after.graphs[""])
        facts = Facts((("tensor", layer.tensor), ("worst", layer.where.replace("`", ""))))
        content = inside(*pictures, ("original", "candidate"), facts) if any(pictures) else ""
        errors = (None if one is None else one.max_abs for one in (layer.original, layer.candidate, layer.algebra))
        share = figure(layer.severity, "{:.0%}")
        if layer.status != "ok":
            share = chip(layer.status, "bad" if layer.status == "wrong" else "plain")
        rows.append(TableRow((code(layer.where), *(figure(error, "{:.1e}") for error in errors), share), content))
    return Table("Every layer against float64", _LAYER_COLUMNS, tuple(rows), "layer")


def _range(one: WeightRange) -> TableRow:
    left = bits(one.spread_after)
    return TableRow(
        (
            code("/".join(filter(None, (one.scope, one.operator)))),
            figure(len(one.after)),
            figure(max(one.before or (0.0,)), "{:.3g}"),
            figure(max(one.after), "{:.3g}"),
            _times(one.spread_before),
            _times(one.spread_after),
            Cell(f"{left:.1f}", left, "chip" if one.is_worse else "number", "warn"),
            figure(starved(one.after)),
        )
    )


def _cells(verdict: Verdict, taken: Sequence[WeightRange], layer: Layer | None, written: bool) -> tuple[Cell, ...]:
    one = verdict.normalization
    if isinstance(verdict, Fold):
        answer, told = chip("folded" if written else "folds", "good"), ", ".join(verdict.into)
    else:
        answer, told = chip(verdict.code, "bad" if figures.is_warning(verdict.code) else "warn"), verdict.sentence
    return (
        code("/".join(filter(None, (one.scope, one.name)))),
        answer,
        words(told),
        figure(one.channels),
        figure(None if layer is None or layer.candidate is None else layer.candidate.max_abs, "{:.1e}"),
        _times(max((each.spread_after for each in taken), default=None)),
    )


def _times(ratio: float | None) -> Cell:
    return figure(None) if ratio is None else Cell(figures.times(ratio), ratio, "number")


def _facts(verdict: Verdict) -> Facts:
    one = verdict.normalization
    rows = [("reads", one.producer or "graph input"), ("read by", ", ".join(one.readers) or "nothing")]
    rows += [("operators", one.op_type)] if one.op_type != "BatchNormalization" else []
    rows += [("epsilon", f"{one.epsilon:.3g}")] if one.epsilon is not None else []
    if isinstance(verdict, Fold):
        rows.append(("into", ", ".join(verdict.into)))
    else:
        rows.append(("why", f"{verdict.code}: {verdict.sentence}"))
        rows += [("what helps", verdict.remedy)] if verdict.remedy else []
    rows += [("remark", f"{note.code}: {note.sentence}") for note in verdict.notes]
    return Facts(tuple((name, text.replace("`", "")) for name, text in rows))
