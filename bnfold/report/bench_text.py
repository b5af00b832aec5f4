"""The screen and the document of `bnfold bench`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from bnfold.report import figures
from bnfold.report.page import INDENT, TIED, Page, Role, Style, clean, plain
from bnfold.report.report import document
from bnfold.report.run_text import provider_facts

if TYPE_CHECKING:
    from bnfold.runtime.bench_result import Benchmark, Row, Subject, Timing

COLUMNS = ("latency ms", "95 % interval", "samples/s", "session ms", "nodes", "BatchNormalization")
_OPERATORS_SHOWN = 12
_WIDTHS = (12, 19, 12, 12, 7, 20)


def bench_text(
    benchmark: Benchmark, *, style: Style = plain, width: int = 100, profile: bool = False, quiet: bool = False
) -> str:
    """The screen of `bnfold bench`.

    Args:
        benchmark: what was measured.
        style: colours a piece of text by its role.
        width: columns.
        profile: whether the time of each operator is listed too.
        quiet: only the sentences about the difference, and what is wrong.
    """
    page = Page(style, width)
    lines = [] if quiet else [*_header(page, benchmark), ""]
    for row in benchmark.rows:
        if quiet:
            lines.append(_told(page, row, f"{row.setting}: "))
            continue
        lines += [*_row(page, benchmark, row), _told(page, row, " " * (INDENT + _WIDTHS[0]))]
        if profile:
            lines += _profile(page, row)
    notes = {note.sentence: note for row in benchmark.rows for note in row.original.placement.notes()}
    for note in notes.values():
        lines += page.entry("warning", note.sentence, "warn")
    return "\n".join(lines)


def bench_document(benchmark: Benchmark) -> dict[str, Any]:
    """The JSON document of `bnfold bench`."""
    notes = {note.sentence: asdict(note) for row in benchmark.rows for note in row.original.placement.notes()}
    return document("", **benchmark.to_dict(), notes=list(notes.values()))


def sentence(row: Row) -> str:
    """What may be said about the candidate, or for one model how far its own sessions differ."""
    if row.difference is None:
        return f"noise {100 * row.noise:.1f} %: two sessions of the same model differ by so much"
    return f"candidate: {row.difference.sentence}"


def subject(model: Subject) -> str:
    """A model's size and how many nodes its file has, in one line."""
    total = figures.count(sum(model.operators.values()), "node")
    return f"{figures.size(model.size_bytes)} · {total} · BatchNormalization {model.operators.get('BatchNormalization', 0)}"


def conditions(benchmark: Benchmark) -> str:
    """What was run, and where, in one line."""
    shapes = ", ".join(f"{name} {'x'.join(map(str, shape)) or 'scalar'}" for name, shape in benchmark.shapes.items())
    words = [
        shapes or "no input",
        f"batch {benchmark.batch}",
        figures.count(benchmark.threads, "thread"),
        f"{benchmark.blocks} blocks in {benchmark.duration_s:g} s",
        f"onnxruntime {benchmark.onnxruntime}",
        provider_facts(benchmark.rows[0].original.placement),
        *(["inputs and outputs on the device"] if benchmark.on_device else []),
    ]
    return " · ".join(words)


def cells(benchmark: Benchmark, timing: Timing) -> tuple[str, ...]:
    """One model at one setting, as in `COLUMNS`."""
    latency = timing.latency
    normalizations = sum(each.count for each in timing.operators if each.op_type == "BatchNormalization")
    return (
        milliseconds(latency.median),
        f"{milliseconds(latency.low)} to {milliseconds(latency.high)}",
        f"{benchmark.throughput(timing):,.0f}",
        milliseconds(timing.creation.median),
        str(timing.nodes),
        str(normalizations),
    )


def milliseconds(seconds: float) -> str:
    """Four significant digits, never in exponential form."""
    value = 1e3 * seconds
    return f"{value:.0f}" if value >= 1000 else f"{value:#.4g}"


def _header(page: Page, benchmark: Benchmark) -> list[str]:
    lines = page.entry("original" if benchmark.candidate else "model", _about(benchmark.original), "strong")
    if benchmark.candidate is not None:
        lines += page.entry("against", _about(benchmark.candidate), "strong")
    return lines + page.entry("run", conditions(benchmark))


def _about(model: Subject) -> str:
    return f"{model.path} · {subject(model)}"


def _row(page: Page, benchmark: Benchmark, row: Row) -> list[str]:
    titles = "".join(f"{title:>{width}}" for title, width in zip(COLUMNS, _WIDTHS, strict=True))
    models = [("original", row.original), ("candidate", row.candidate)]
    lines = [" " * INDENT + page.style(f"{row.setting:{_WIDTHS[0]}}", "strong") + page.style(titles, "dim")]
    for role, timing in models:
        if timing is not None:
            label = role if row.candidate is not None else ""
            figures_ = zip(cells(benchmark, timing), _WIDTHS, strict=True)
            lines.append(" " * INDENT + f"{label:{_WIDTHS[0]}}" + "".join(f"{cell:>{width}}" for cell, width in figures_))
    return lines


def _told(page: Page, row: Row, before: str) -> str:
    claim = row.difference.claim if row.difference else "none"
    roles: dict[str, Role] = {"faster": "good", "slower": "bad", "none": "strong"}
    return before + page.style(sentence(row), roles[claim])


def _profile(page: Page, row: Row) -> list[str]:
    lines = []
    for role, timing in (("original", row.original), ("candidate", row.candidate)):
        if timing is not None:
            texts = list(operator_rows(timing))
            column = max((len(name) for name, *_ in texts), default=0)
            for position, (name, count, took, share) in enumerate(texts):
                line = f"{role if position == 0 else '':11}{clean(name):{column}} {count:>6} {took:>10} ms {share:>6}"
                lines += page.entry("", line.replace(" ", TIED))
    return lines


def operator_rows(timing: Timing) -> Iterable[Sequence[str]]:
    """Operator, how many, milliseconds for all of them in one run, and their share; the slowest first."""
    total = sum(each.seconds for each in timing.operators) or 1.0
    for each in timing.operators[:_OPERATORS_SHOWN]:
        name = each.op_type if each.provider == timing.placement.provider else f"{each.op_type} ({each.provider})"
        yield name, str(each.count), milliseconds(each.seconds), f"{100 * each.seconds / total:.1f} %"
    if rest := timing.operators[_OPERATORS_SHOWN:]:
        seconds = sum(each.seconds for each in rest)
        yield "others", str(sum(each.count for each in rest)), milliseconds(seconds), f"{100 * seconds / total:.1f} %"
