"""The page of `bnfold bench`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bnfold.report import bench_text
from bnfold.report.html import charts
from bnfold.report.html.facts import evidence
from bnfold.report.html.parts import Block, Column, Kind, Lines, Page, Section, Table, Tile, Tone, text_rows
from bnfold.report.html.sections import remarks_section

if TYPE_CHECKING:
    from bnfold.runtime.bench_result import Benchmark, Row, Timing
    from bnfold.runtime.bench_statistics import Claim


def bench_page(benchmark: Benchmark, command: str = "") -> Page:
    """Latency with intervals, and the time of each operator."""
    candidate = benchmark.candidate
    timings = [
        (row.setting, role, timing)
        for row in benchmark.rows
        for role, timing in (("original", row.original), ("candidate", row.candidate))
        if timing is not None
    ]
    rows = [(setting, role, *bench_text.cells(benchmark, timing)) for setting, role, timing in timings]
    columns = [Column("optimizations"), Column("model")]
    columns += [Column(title, minor=place > 1) for place, title in enumerate(bench_text.COLUMNS)]
    kinds: tuple[Kind, ...] = ("text", "text", "number", "text", "number", "number", "number", "number")
    blocks: list[Block] = [charts.latency(benchmark)]
    blocks += [charts.changes(benchmark)] if candidate is not None else []
    blocks.append(Lines(tuple(f"{row.setting}: {bench_text.sentence(row)}" for row in benchmark.rows)))
    blocks.append(Table("Latency", tuple(columns), text_rows(rows, kinds)))
    files = [("original" if candidate else "model", benchmark.original.path)]
    files += [("candidate", candidate.path)] if candidate else []
    notes = {note.sentence: note for row in benchmark.rows for note in row.original.placement.notes()}
    sections = [
        Section("latency", "Latency", tuple(blocks), bench_text.conditions(benchmark)),
        _operators(timings),
        remarks_section(notes.values()),
        evidence(command, files),
    ]
    outcome, tone = _outcome({row.difference.claim for row in benchmark.rows if row.difference})
    return Page(
        "bench",
        files[-1][1],
        outcome,
        tone,
        " against ".join(path for _, path in reversed(files)),
        [_tile(row) for row in benchmark.rows],
        [section for section in sections if section is not None],
    )


def _operators(timings: Sequence[tuple[str, str, Timing]]) -> Section | None:
    rows = [(setting, role, *cells) for setting, role, timing in timings for cells in bench_text.operator_rows(timing)]
    if not rows:
        return None
    titles = ("optimizations", "model", "operator", "nodes", "ms", "share")
    columns = tuple(Column(title, title in ("nodes", "share")) for title in titles)
    kinds: tuple[Kind, ...] = ("text", "text", "text", "number", "number", "number")
    table = Table("Time of each operator", columns, text_rows(rows, kinds), "operator")
    return Section("operators", "Operators", (table,))


def _outcome(claims: set[Claim]) -> tuple[str, Tone]:
    if not claims:
        return "Measured", "plain"
    told = sorted(claims - {"none"})
    if not told:
        return "No difference above the noise", "plain"
    return " and ".join(told).capitalize(), "bad" if "slower" in told else "good"


def _tile(row: Row) -> Tile:
    tones: dict[Claim, Tone] = {"faster": "good", "slower": "bad", "none": "plain"}
    if row.difference is None or row.difference.claim == "none":
        return Tile(row.setting, f"{1e3 * (row.candidate or row.original).latency.median:.3g} ms", bench_text.sentence(row))
    change = f"{100 * row.difference.change.median:+.1f} %".replace("-", "−")
    return Tile(row.setting, change, bench_text.sentence(row), tones[row.difference.claim])
