"""The report of `bnfold bench` as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnfold import __version__
from bnfold.report.bench_text import COLUMNS, cells, conditions, operator_rows, sentence, subject
from bnfold.report.markdown import code, table, text

if TYPE_CHECKING:
    from bnfold.runtime.bench_result import Benchmark


def bench_markdown(benchmark: Benchmark) -> str:
    """A heading, what was run, a table with both models at each setting, what may be said, and the time of each operator."""
    candidate = benchmark.candidate
    against = f" and {code(candidate.path)}" if candidate else ""
    lines = [f"# bnfold bench: {code(benchmark.original.path)}{against}", ""]
    lines += [f"* {'original' if candidate else 'model'}: {text(subject(benchmark.original))}"]
    lines += [f"* candidate: {text(subject(candidate))}"] if candidate else []
    lines += [f"* {text(conditions(benchmark))}", f"* bnfold {__version__}, {benchmark.elapsed_s:.1f} s", ""]
    rows = [
        (row.setting, role, *cells(benchmark, timing))
        for row in benchmark.rows
        for role, timing in (("original", row.original), ("candidate", row.candidate))
        if timing is not None
    ]
    lines += [*table(("optimizations", "model", *COLUMNS), rows), ""]
    lines += [f"* {row.setting}: {text(sentence(row))}" for row in benchmark.rows]
    for row in benchmark.rows:
        for role, timing in (("original", row.original), ("candidate", row.candidate)):
            if timing is not None:
                lines += ["", f"## Operators: {row.setting}, {role}", ""]
                lines += table(("operator", "nodes", "ms", "share"), operator_rows(timing))
    return "\n".join(lines) + "\n"
